"""Batches of spectra, varied each time they are seen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from spectrolabe.config import AugmentationConfig
from spectrolabe.models.pixels import PixelBatch, PixelRow, collate
from spectrolabe.spectra.wavelength import SPEED_OF_LIGHT
from spectrolabe.training.data import Sample

__all__ = ["augment", "batches", "halved"]

TILT_CENTRE, TILT_WIDTH = 8.9, 0.5  # of the smooth continuum distortion in ln(wavelength / Å)
ARM_LOST = 0.3  # chance that one of the two arms of a cut spectrum is not seen


def batches(
    sample: Sample,
    batch_size: int,
    *,
    rng: np.random.Generator | None = None,
    augmentation: AugmentationConfig | None = None,
) -> Iterator[tuple[PixelBatch, NDArray]]:
    """Yield (pixels, entries of the sample) over it once; in order when no ``rng`` is given.

    Parameters
    ----------
    sample : Sample
    batch_size : int
        Stars a batch.
    rng : Generator, optional
        Shuffles, and drives the augmentation.
    augmentation : AugmentationConfig, optional
        Needs ``rng``.
    """
    for index in _indices(sample, batch_size, rng):
        rows = sample.pixels(index)
        if augmentation is None or rng is None:
            yield collate([[row] for row in rows]), index
        else:
            yield _augmented(rows, augmentation, rng), index


def _indices(sample: Sample, batch_size: int, rng: np.random.Generator | None) -> Iterator[NDArray]:
    """Entries of each batch; those of a shuffled one are of similar length, to pad little."""
    order = np.arange(len(sample)) if rng is None else rng.permutation(len(sample))
    groups = [order]
    if rng is not None:
        pixels = np.array([len(sample.arrays(int(i))[0]) for i in order])
        kind = np.floor(np.log2(np.maximum(pixels, 1)))
        groups = [order[kind == one] for one in np.unique(kind)]
    found = [
        group[start : start + batch_size]
        for group in groups
        for start in range(0, len(group), batch_size)
    ]
    if rng is not None and len(groups) > 1:
        found = [found[i] for i in rng.permutation(len(found))]
    yield from found


def _augmented(
    rows: Sequence[PixelRow], config: AugmentationConfig, rng: np.random.Generator
) -> PixelBatch:
    """Return a batch in which every spectrum is varied as the configuration says."""
    rows = [halved(row) if rng.random() < config.halve else row for row in rows]
    stars = [_cut(row, rng) if rng.random() < config.cut else [row] for row in rows]
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    return augment(collate(stars), config, generator)


def augment(
    pixels: PixelBatch, config: AugmentationConfig, generator: torch.Generator
) -> PixelBatch:
    """Return the batch with velocity errors, noise, continuum distortions and lost pixels.

    Works on the device of the batch; the generator must be of that device.
    """
    count, device = len(pixels.flux), pixels.flux.device
    normal = lambda *shape: torch.randn(*shape, generator=generator, device=device)  # noqa: E731
    uniform = lambda *shape: torch.rand(*shape, generator=generator, device=device)  # noqa: E731
    velocity = (config.velocity / SPEED_OF_LIGHT) * normal(count, 1).double()
    log_wavelength = pixels.log_wavelength + velocity
    added = config.noise * uniform(count, 1) * (uniform(count, 1) < 0.7)
    sigma = torch.where(pixels.ivar > 0, pixels.ivar.clamp(min=1e-30).rsqrt(), 0.0)
    flux = pixels.flux + added * sigma * normal(*pixels.flux.shape)
    x = ((log_wavelength - TILT_CENTRE) / TILT_WIDTH).float()
    wave = torch.sin(3.0 * x + 2.0 * torch.pi * uniform(count, 1))
    bend = (
        normal(count, 1) * x
        + 0.5 * normal(count, 1) * (2 * x**2 - 1)
        + 0.3 * normal(count, 1) * wave
    )
    shape = torch.exp(config.tilt * bend)
    lost = uniform(*flux.shape) < 2.0 * config.drop_pixels * uniform(count, 1)
    ivar = torch.where(lost, 0.0, pixels.ivar / ((1.0 + added**2) * shape**2))
    return replace(pixels, log_wavelength=log_wavelength, flux=flux * shape, ivar=ivar)


def halved(row: PixelRow) -> PixelRow:
    """Return a spectrum with neighbouring pixels merged in pairs, weighted by ivar."""
    even = len(row.flux) // 2 * 2
    wavelength, flux, ivar = (
        np.asarray(array[:even], dtype=np.float64).reshape(-1, 2)
        for array in (row.wavelength, row.flux, row.ivar)
    )
    total = ivar.sum(axis=1)
    with np.errstate(invalid="ignore"):
        mean = (np.where(ivar > 0, flux, 0.0) * ivar).sum(axis=1) / np.where(total > 0, total, 1.0)
    resolution = row.resolution
    if np.size(resolution) > 1:
        resolution = np.asarray(resolution)[:even].reshape(-1, 2).mean(axis=1)
    return PixelRow(
        wavelength.mean(axis=1),
        mean.astype(np.float32),
        total.astype(np.float32),
        resolution,
        row.rv,
    )


def _cut(row: PixelRow, rng: np.random.Generator) -> list[PixelRow]:
    """Return a spectrum as two arms cut at a random pixel, sometimes only one of them."""
    at = int(rng.uniform(0.2, 0.8) * len(row.flux))
    arms = [_part(row, slice(None, at)), _part(row, slice(at, None))]
    arms = [arm for arm in arms if (arm.ivar > 0).sum() >= 50]
    if len(arms) == 2 and rng.random() < ARM_LOST:
        return [arms[int(rng.integers(2))]]
    return arms or [row]


def _part(row: PixelRow, part: slice) -> PixelRow:
    resolution = (
        row.resolution if np.size(row.resolution) == 1 else np.asarray(row.resolution)[part]
    )
    return PixelRow(row.wavelength[part], row.flux[part], row.ivar[part], resolution, row.rv)
