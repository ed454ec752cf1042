"""Native pixels of a batch of spectra, padded for the model: the only way in.

Of a spectrum only its wavelength, flux, ivar, resolution and velocity enter. What else a file
says (class, labels, signal-to-noise, names) stays outside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spectrolabe.spectra import Frame, Spectrum
from spectrolabe.spectra.broadening import FWHM
from spectrolabe.spectra.store import Store
from spectrolabe.spectra.wavelength import SPEED_OF_LIGHT

__all__ = ["PixelBatch", "PixelRow", "collate", "rest_wavelength", "row_of", "velocities"]


@dataclass
class PixelBatch:
    """Padded native pixels of B spectra of S stars.

    Parameters
    ----------
    log_wavelength : Tensor, shape (B, M), float64
        ln(rest wavelength / Å), ascending; padding repeats the last value.
    flux, ivar : Tensor, shape (B, M), float32
        Zero where a pixel is bad or padding.
    spacing : Tensor, shape (B, M), float32
        Distance to the nearer neighbouring pixel in ln(wavelength); zero for padding.
    resolution : Tensor, shape (B,), float32
        Median R = wavelength / FWHM.
    variance : Tensor, shape (B, M), float32
        Of the line-spread function at each pixel, in ln(wavelength).
    star : Tensor, shape (B,), int64
        Index of the star that each spectrum belongs to: ascending from 0 without gaps.
    """

    log_wavelength: Tensor
    flux: Tensor
    ivar: Tensor
    spacing: Tensor
    resolution: Tensor
    variance: Tensor
    star: Tensor

    def to(self, device: torch.device | str) -> PixelBatch:
        """Return the batch on another device."""
        return PixelBatch(*(getattr(self, name).to(device) for name in self.__dataclass_fields__))


class PixelRow(NamedTuple):
    """One spectrum on its way into a batch; ``rv`` is what remains to be taken out, km/s."""

    wavelength: NDArray
    flux: NDArray
    ivar: NDArray
    resolution: NDArray | float
    rv: float


def row_of(spectrum: Spectrum) -> PixelRow:
    """Return the row of a spectrum; an unknown velocity counts as zero (and must be flagged)."""
    moving = spectrum.frame is not Frame.REST and np.isfinite(spectrum.rv)
    return PixelRow(
        spectrum.wavelength,
        spectrum.flux,
        spectrum.ivar,
        spectrum.resolution,
        spectrum.rv if moving else 0.0,
    )


def rest_wavelength(spectrum: Spectrum) -> NDArray:
    """Return the wavelengths that a model sees, shape (M,): at rest by the velocity of the file."""
    row = row_of(spectrum)
    return np.asarray(row.wavelength / (1.0 + row.rv / SPEED_OF_LIGHT))


def velocities(store: Store) -> NDArray:
    """Return the velocity that remains to be taken out of every spectrum of a store, km/s."""
    at_rest = store.column("frame") == Frame.REST.value
    return np.where(at_rest, 0.0, np.nan_to_num(store.column("rv")))


def collate(stars: Sequence[Sequence[PixelRow]]) -> PixelBatch:
    """Pad the spectra of S stars into one batch.

    Parameters
    ----------
    stars : sequence of sequence of PixelRow
        Outer: stars; inner: one or more spectra of that star.
    """
    rows = [row for star in stars for row in star]
    shape = (len(rows), max(len(row.flux) for row in rows))
    log_wavelength = np.empty(shape, np.float64)
    flux, ivar, spacing, variance = (np.zeros(shape, np.float32) for _ in range(4))
    for i, row in enumerate(rows):
        size = len(row.flux)
        np.log(row.wavelength, out=log_wavelength[i, :size])
        step = np.diff(log_wavelength[i, :size])
        spacing[i, : size - 1] = step
        spacing[i, size - 1] = step[-1]
        np.minimum(spacing[i, 1 : size - 1], step[:-1], out=spacing[i, 1 : size - 1])
        log_wavelength[i, :size] -= np.log1p(row.rv / SPEED_OF_LIGHT)
        log_wavelength[i, size:] = log_wavelength[i, size - 1]
        ivar[i, :size] = row.ivar
        np.copyto(flux[i, :size], row.flux, where=row.ivar > 0)
        variance[i, :size] = (np.asarray(row.resolution, dtype=np.float64) * FWHM) ** -2
    resolution = [
        float(np.median(row.resolution)) if np.ndim(row.resolution) else float(row.resolution)
        for row in rows
    ]
    star = np.repeat(np.arange(len(stars)), [len(star) for star in stars])
    return PixelBatch(
        torch.from_numpy(log_wavelength),
        torch.from_numpy(flux),
        torch.from_numpy(ivar),
        torch.from_numpy(spacing),
        torch.tensor(resolution, dtype=torch.float32),
        torch.from_numpy(variance),
        torch.from_numpy(star),
    )
