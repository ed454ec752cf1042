"""Spectra and differential spectra of stars at the nodes of the finest tokens, from emulators."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from scipy.fft import next_fast_len
from torch import Tensor

from spectrolabe.models.compact import FINEST
from spectrolabe.models.emulator import Emulator
from spectrolabe.models.tokens import CONTINUUM_WIDTH, node_width
from spectrolabe.spectra.broadening import FWHM
from spectrolabe.spectra.wavelength import SPEED_OF_LIGHT
from spectrolabe.training.sky import SkyStream
from spectrolabe.training.stars import Stars

__all__ = ["BROADENING", "NodeScale", "NodeSpectra", "each_spectrum"]

BROADENING = (1.5, 150.0)  # km/s
TOGETHER = 8  # stars at a time


class NodeScale(NamedTuple):
    """Centre and width, shape (A,), of the labels of emulators and of ln(v_broad).

    Parameters
    ----------
    names : tuple of str, length A
    centre, width : ndarray, shape (A,)
    """

    names: tuple[str, ...]
    centre: NDArray
    width: NDArray

    @classmethod
    def of(cls, stream: SkyStream, stars: Stars) -> NodeScale:
        """Mean and standard deviation of stars."""
        values = _labels(stars)
        names = (*stream.emulators[0].names, "v_broad")
        return cls(names, values.mean(axis=0), values.std(axis=0))

    def scaled(self, stars: Stars) -> Tensor:
        """Scaled labels of stars, (N, A)."""
        return torch.from_numpy((_labels(stars) - self.centre) / self.width).float()

    def range(self, emulator: Emulator) -> tuple[Tensor, Tensor]:
        """Lowest and highest scaled labels."""
        ends = zip((emulator.low, emulator.high), np.log(BROADENING), strict=True)
        low, high = ((np.append(a, b) - self.centre) / self.width for a, b in ends)
        return torch.from_numpy(low), torch.from_numpy(high)


def _labels(stars: Stars) -> NDArray:
    return np.concatenate([stars.atmosphere, np.log(_broadening(stars))[:, None]], axis=1)


def _broadening(stars: Stars) -> NDArray:
    return np.clip(stars.v_broad, *BROADENING)


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
    scale : NodeScale
    """

    def __init__(self, emulators: Sequence[Emulator], scale: NodeScale) -> None:
        self.scale, self.parts = scale, []
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
    def spectra(self, stars: Stars, *, slopes: bool) -> tuple[Tensor, Tensor]:
        """Content of N stars, and normalised flux less 1, each (N, 1 + A, nodes) with slopes.

        Without slopes, (N, 1, nodes).
        """
        found = [self._band(part, stars, slopes=slopes) for part in self.parts]
        content, flux = (torch.cat(part, dim=2) for part in zip(*found, strict=True))
        return content, flux

    def _band(self, band: _Band, stars: Stars, *, slopes: bool) -> tuple[Tensor, Tensor]:
        basis, names = band.emulator.basis, band.emulator.names
        columns = list(range(len(names))) if slopes else []
        latents = band.emulator.latents_and_slopes(stars.atmosphere, columns).cpu()
        rows = torch.einsum("njpk,pkw->njpw", latents, basis.components)
        rows[:, 0] += basis.offset
        rows = rows.flatten(2)
        rows[:, 0] -= 1.0
        if slopes:
            rows[:, 1:] *= torch.from_numpy(self.scale.width[:-1]).float()[:, None]
        width = _broadening(stars) / SPEED_OF_LIGHT / FWHM / basis.step
        flux, smooth = self._blurred(rows, width, CONTINUUM_WIDTH / basis.step, slopes=slopes)
        ratio = (1.0 + flux[:, :1]) / (1.0 + smooth[:, :1])
        content = torch.cat(
            [ratio - 1.0, (flux[:, 1:] - ratio * smooth[:, 1:]) / (1.0 + smooth[:, :1])], dim=1
        )
        return _at(content, band), _at(flux, band)

    def _blurred(
        self, rows: Tensor, width: NDArray, wide: float, *, slopes: bool
    ) -> tuple[Tensor, Tensor]:
        """Rows broadened by Gaussians of some pixels, and what a wide one leaves of them."""
        pixels, room = rows.shape[2], int(4 * wide)
        size = next_fast_len(pixels + 2 * room, real=True)
        padded = torch.nn.functional.pad(rows, (room, room), mode="reflect")
        square = (2.0 * torch.pi * torch.fft.rfftfreq(size)) ** 2
        variance = torch.from_numpy(width**2).float()[:, None, None]
        waves = torch.fft.rfft(padded, n=size) * torch.exp(-0.5 * variance * square)
        if slopes:
            turn = -variance * square * waves[:, :1] * float(self.scale.width[-1])
            waves = torch.cat([waves, turn], dim=1)
        both = torch.cat([waves, waves * torch.exp(-0.5 * square * wide**2)], dim=1)
        flux, smooth = torch.fft.irfft(both, n=size)[..., room : room + pixels].chunk(2, dim=1)
        return flux, smooth


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


def each_spectrum(
    maker: NodeSpectra, stars: Stars, slopes: bool, title: str, progress: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield what `NodeSpectra.spectra` returns of a few stars at a time, the next ones ahead.

    Parameters
    ----------
    maker : NodeSpectra
    stars : Stars
    slopes : bool
    title : str
        Of a progress bar.
    progress : bool
    """
    size = 1 if slopes else TOGETHER
    groups = np.array_split(np.arange(len(stars)), -(-len(stars) // size))
    with ThreadPoolExecutor(2) as pool:
        make = lambda rows: maker.spectra(stars.take(rows), slopes=slopes)  # noqa: E731
        ahead = [pool.submit(make, rows) for rows in groups[:4]]
        for i in track(range(len(groups)), title, disable=not progress):
            if i + 4 < len(groups):
                ahead.append(pool.submit(make, groups[i + 4]))
            yield ahead.pop(0).result()
