"""Spectra and differential spectra of stars at the nodes of the finest tokens, from emulators."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import next_fast_len
from scipy.sparse import csr_array
from torch import Tensor

from spectrolabe.models.emulator import Emulator, load_emulator
from spectrolabe.models.released import find_emulators
from spectrolabe.models.tokens import CONTINUUM_WIDTH, node_width
from spectrolabe.spectra.broadening import FWHM
from spectrolabe.spectra.wavelength import SPEED_OF_LIGHT

__all__ = ["BROADENING", "FINEST", "NodeSpectra", "emulated_nodes"]

FINEST = 10  # level of the ladder on which spectra are kept: R = 32 000
BROADENING = (1.5, 150.0)  # km/s
ROOM = 3  # standard deviations of the broadest beyond the ends


class _Band(NamedTuple):
    """The nodes that an emulator covers."""

    emulator: Emulator
    low: int  # number of the first
    at_nodes: csr_array  # (nodes, pixels of the emulator)

    @property
    def size(self) -> int:
        return int(self.at_nodes.shape[0])


class NodeSpectra:
    """Spectra of stars at the nodes of the finest level.

    Parameters
    ----------
    emulators : sequence of Emulator
        Of ranges of wavelength that do not overlap.
    """

    def __init__(self, emulators: Sequence[Emulator]) -> None:
        self.parts = []
        step = node_width(FINEST)
        for emulator in emulators:
            x = emulator.basis.log_wavelength
            low, high = int(np.ceil(x[0] / step)), int(x[-1] / step)
            at = ((np.arange(low, high) + 0.5) * step - x[0]) / emulator.basis.step
            self.parts.append(_Band(emulator, low, _cubic(at, len(x))))
        self.stretches = [(part.low, part.size) for part in self.parts]
        self.nodes = sum(part.size for part in self.parts)

    @torch.no_grad()
    def spectra(self, labels: NDArray, width: NDArray | None = None) -> tuple[Tensor, Tensor]:
        """Return content of N stars, and normalised flux less 1, each (N, 1 + A, nodes).

        Parameters
        ----------
        labels : ndarray, shape (N, A)
            Those of the emulators, in their order, and ln(v_broad / km/s).
        width : ndarray, shape (A,), optional
            What slopes are in units of; without them, and (N, 1, nodes), if not given.
        """
        found = [self._content(part, labels, width) for part in self.parts]
        content, flux = (torch.cat(part, dim=2) for part in zip(*found, strict=True))
        return content, flux

    @torch.no_grad()
    def flux(self, number: int, labels: NDArray) -> NDArray:
        """Return normalised flux less 1 of N stars as one emulator has it, (nodes, N).

        Parameters
        ----------
        number : int
            Of the emulator.
        labels : ndarray, shape (N, A)
        """
        band = self.parts[number]
        rows, blur = self._rows(band, labels, None)
        room = ROOM * int(BROADENING[1] / SPEED_OF_LIGHT / FWHM / band.emulator.basis.step)
        waves, _, size = _broadened(rows, blur, room)
        flux = torch.fft.irfft(waves[:, 0], n=size)[:, room : room + rows.shape[2]]
        return np.asarray(band.at_nodes @ np.ascontiguousarray(flux.numpy().T))

    def _rows(self, band: _Band, labels: NDArray, width: NDArray | None) -> tuple[Tensor, Tensor]:
        """Spectra less 1 and slopes on the pixels of an emulator, and the variance that blurs."""
        emulator, basis = band.emulator, band.emulator.basis
        columns = [] if width is None else list(range(len(emulator.names)))
        latents = emulator.latents_and_slopes(labels[:, :-1], columns).cpu()
        rows = torch.einsum("njpk,pkw->njpw", latents, basis.components)
        rows[:, 0] += basis.offset
        rows = rows.flatten(2)
        rows[:, 0] -= 1.0
        if width is not None:
            rows[:, 1:] *= torch.from_numpy(width[:-1]).float()[:, None]
        broad = np.exp(labels[:, -1]).clip(*BROADENING) / SPEED_OF_LIGHT / FWHM / basis.step
        return rows, torch.from_numpy(broad**2).float()[:, None, None]

    def _content(
        self, band: _Band, labels: NDArray, width: NDArray | None
    ) -> tuple[Tensor, Tensor]:
        rows, blur = self._rows(band, labels, width)
        wide = CONTINUUM_WIDTH / band.emulator.basis.step
        pixels, room = rows.shape[2], int(4 * wide)
        waves, square, size = _broadened(rows, blur, room)
        if width is not None:
            turn = -blur * square * waves[:, :1] * float(width[-1])
            waves = torch.cat([waves, turn], dim=1)
        both = torch.cat([waves, waves * torch.exp(-0.5 * square * wide**2)], dim=1)
        flux, smooth = torch.fft.irfft(both, n=size)[..., room : room + pixels].chunk(2, dim=1)
        ratio = (1.0 + flux[:, :1]) / (1.0 + smooth[:, :1])
        content = torch.cat(
            [ratio - 1.0, (flux[:, 1:] - ratio * smooth[:, 1:]) / (1.0 + smooth[:, :1])], dim=1
        )
        return _at(content, band), _at(flux, band)


def _broadened(rows: Tensor, blur: Tensor, room: int) -> tuple[Tensor, Tensor, int]:
    """Transform of rows, (N, J, pixels), times Gaussians; squared frequencies; its length.

    ``blur``, (N, 1, 1), are variances in squared pixels; ``room`` mirrors pixels at either end.
    """
    padded = torch.nn.functional.pad(rows, (room, room), mode="reflect")
    size = next_fast_len(padded.shape[2], real=True)
    square = (2.0 * torch.pi * torch.fft.rfftfreq(size)) ** 2
    return torch.fft.rfft(padded, n=size) * torch.exp(-0.5 * blur * square), square, size


def _at(rows: Tensor, band: _Band) -> Tensor:
    """Values at the nodes of those on the pixels of an emulator, (N, J, pixels)."""
    found = band.at_nodes @ np.ascontiguousarray(rows.flatten(0, 1).numpy().T)
    return torch.from_numpy(np.ascontiguousarray(found.T)).unflatten(0, rows.shape[:2])


def _cubic(at: NDArray, pixels: int) -> csr_array:
    """Weights of the four pixels around each place, by the cubic through them."""
    left = np.clip(at.astype(int), 1, pixels - 3)
    f = at - left
    weights = (
        f * (1.0 - f) * (f - 2.0) / 6.0,
        (1.0 + f) * (1.0 - f) * (2.0 - f) / 2.0,
        f * (1.0 + f) * (2.0 - f) / 2.0,
        f * (f * f - 1.0) / 6.0,
    )
    columns = left[:, None] + np.arange(-1, 3)
    data = np.stack(weights, axis=1).astype(np.float32)
    pointer = np.arange(len(at) + 1) * len(weights)
    return csr_array((data.ravel(), columns.ravel(), pointer), shape=(len(at), pixels))


@lru_cache(maxsize=4)
def emulated_nodes(names: tuple[str, ...]) -> NodeSpectra:
    """Return the spectra of emulators by name.

    Raises
    ------
    InputError
        If there is no such emulator.
    """
    folders = [folder for name in names for folder in find_emulators(name)]
    with torch.device("cpu"):  # kept, though what is made around it may be a sketch without numbers
        return NodeSpectra([load_emulator(folder) for folder in folders])
