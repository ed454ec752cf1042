"""Spectra and differential spectra of stars at the nodes of the finest tokens, from emulators."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import next_fast_len
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
    low: int
    left: Tensor
    share: Tensor


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
            left = np.clip(at.astype(int), 1, len(x) - 3)
            share = torch.from_numpy(at - left).float()
            self.parts.append(_Band(emulator, low, torch.from_numpy(left), share))
        self.nodes = sum(len(part.left) for part in self.parts)

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
        """Return normalised flux less 1 of N stars as one emulator has it, (N, nodes).

        Parameters
        ----------
        number : int
            Of the emulator.
        labels : ndarray, shape (N, A)
        """
        band = self.parts[number]
        rows, blur = self._rows(band, labels, None)
        room = ROOM * int(BROADENING[1] / SPEED_OF_LIGHT / FWHM / band.emulator.basis.step)
        padded = torch.nn.functional.pad(rows[:, 0], (room, room), mode="reflect")
        size = next_fast_len(padded.shape[1], real=True)
        square = (2.0 * torch.pi * torch.fft.rfftfreq(size)) ** 2
        waves = torch.fft.rfft(padded, n=size) * torch.exp(-0.5 * blur[:, 0] * square)
        flux = torch.fft.irfft(waves, n=size)[:, room : room + rows.shape[2]]
        return _at(flux, band).numpy()

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
        padded = torch.nn.functional.pad(rows, (room, room), mode="reflect")
        size = next_fast_len(padded.shape[2], real=True)
        square = (2.0 * torch.pi * torch.fft.rfftfreq(size)) ** 2
        waves = torch.fft.rfft(padded, n=size) * torch.exp(-0.5 * blur * square)
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


def _at(rows: Tensor, band: _Band) -> Tensor:
    """Values at the nodes, by the cubic through the four pixels around each."""
    f = band.share
    weights = (
        f * (1.0 - f) * (f - 2.0) / 6.0,
        (1.0 + f) * (1.0 - f) * (2.0 - f) / 2.0,
        f * (1.0 + f) * (2.0 - f) / 2.0,
        f * (f * f - 1.0) / 6.0,
    )
    found = [rows[..., band.left + k - 1] * weight for k, weight in enumerate(weights)]
    return torch.stack(found).sum(dim=0)


@lru_cache(maxsize=4)
def emulated_nodes(names: tuple[str, ...]) -> NodeSpectra:
    """Return the spectra of emulators by name.

    Raises
    ------
    InputError
        If there is no such emulator.
    """
    folders = [folder for name in names for folder in find_emulators(name)]
    return NodeSpectra([load_emulator(folder) for folder in folders])
