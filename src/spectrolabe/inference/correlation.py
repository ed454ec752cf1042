"""Cross-correlation of spectra with templates on a grid even in ln(wavelength), by FFT.

Data and templates are features: flux over its running continuum, minus 1. Pixels are shared out
between the two nearest points of the grid in proportion, so that sums over pixels are sums over
the grid: no noise is correlated and no pixel counts twice, whatever the sampling of the data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import fft

from spectrolabe.spectra import Spectrum, running_continuum
from spectrolabe.spectra.wavelength import SPEED_OF_LIGHT

__all__ = [
    "Correlation",
    "Features",
    "VelocityGrid",
    "features",
    "gain_of",
    "heights",
    "near",
    "peak",
    "shared",
]

POINTS_PER_FWHM = 4.0
MOST_POINTS = 16384  # of a grid; higher resolution than this allows is averaged down
WIDTH = 0.01  # of the running continuum, in ln(wavelength)
MODEL_ERROR = 0.02  # of the continuum: templates fit no better, whatever the S/N
LEVEL = 0.02  # of the usual continuum, below which a spectrum is not normalised
SPIKE, SPIKE_SIGMA = 0.2, 5.0  # above the continuum: emission or a cosmic ray


@dataclass(frozen=True)
class VelocityGrid:
    """Points even in ln(wavelength), and how far templates may be shifted along them.

    Parameters
    ----------
    start, step : float
        ln(wavelength / Å) of the first point, and from point to point.
    size : int
        Number of points n.
    lags : int
        The most points by which a template is shifted to either side.
    """

    start: float
    step: float
    size: int
    lags: int

    @classmethod
    def over(cls, low: float, high: float, resolution: float, most: float) -> VelocityGrid:
        """Return the grid from ``low`` to ``high`` in ln(wavelength) for an R and ``most`` km/s."""
        step = max(1.0 / (POINTS_PER_FWHM * resolution), (high - low) / MOST_POINTS)
        size = int(np.ceil((high - low) / step)) + 1
        return cls(low, step, size, int(np.ceil(np.log1p(most / SPEED_OF_LIGHT) / step)) + 1)

    @cached_property
    def transform(self) -> int:
        """Length of the Fourier transforms: long enough for no shift to wrap around."""
        return int(fft.next_fast_len(self.size + 2 * self.lags, real=True))

    def wavelength(self, *, wide: bool = False) -> NDArray:
        """Vacuum Angstrom of the points; ``wide`` with those that shifts reach, (n + 2 lags,)."""
        extra = self.lags if wide else 0
        return np.exp(self.start + self.step * np.arange(-extra, self.size + extra))

    def velocity(self, lag: ArrayLike) -> NDArray:
        """Velocity c z in km/s of a shift by any number of points, + = receding."""
        return SPEED_OF_LIGHT * np.expm1(np.asarray(lag, dtype=np.float64) * self.step)

    def lag(self, velocity: ArrayLike) -> NDArray:
        """Shift in points of a velocity."""
        return np.log1p(np.asarray(velocity, dtype=np.float64) / SPEED_OF_LIGHT) / self.step


@dataclass(frozen=True, eq=False)
class Features:
    """Features of N spectra and their weights on a `VelocityGrid`, shape (N, n) float32 each."""

    values: NDArray
    weight: NDArray
    pixels: NDArray  # (N,), how many have weight

    def rows(self, which: slice | NDArray) -> Features:
        """Return some of the spectra."""
        return Features(self.values[which], self.weight[which], self.pixels[which])


def features(
    grid: VelocityGrid,
    spectra: Sequence[Spectrum],
    ivar: Sequence[NDArray],
) -> Features:
    """Return the features of spectra.

    Parameters
    ----------
    grid : VelocityGrid
    spectra : sequence of Spectrum
    ivar : sequence of ndarray, shape (M,)
        Weights instead of those of each spectrum, for example without telluric bands.
    """
    weight, level = np.zeros((2, len(spectra), grid.size))
    pixels = np.zeros(len(spectra))
    for i, (spectrum, w) in enumerate(zip(spectra, ivar, strict=True)):
        flux = np.where(w > 0, spectrum.flux, 0.0)
        weight[i], level[i] = shared(grid, spectrum.wavelength, w, flux)
        pixels[i] = np.count_nonzero(w)
    return _normalised(grid, weight, level, pixels)


def shared(
    grid: VelocityGrid, wavelength: NDArray, weight: NDArray, *values: NDArray
) -> tuple[NDArray, ...]:
    """Return the sum of weights at each point of the grid, and the weighted mean of each value.

    Parameters
    ----------
    grid : VelocityGrid
    wavelength, weight, *values : ndarray, shape (M,)
        Pixels; values must be finite.
    """
    position = (np.log(wavelength) - grid.start) / grid.step
    keep = (weight > 0) & (position >= 0) & (position < grid.size - 1)
    position = position[keep]
    below = position.astype(np.int64)
    w = np.asarray(weight, dtype=np.float64)[keep]
    upper = w * (position - below)
    lower = w - upper
    total = _summed(below, lower, upper, grid.size)
    if w.size:
        total[total < 1e-3 * np.median(w)] = 0.0  # next to nothing of a pixel
    safe = np.where(total > 0, total, np.inf)
    means = [_summed(below, lower * v[keep], upper * v[keep], grid.size) / safe for v in values]
    return total, *means


def _summed(below: NDArray, lower: NDArray, upper: NDArray, size: int) -> NDArray:
    return np.asarray(
        np.bincount(below, lower, size)[:size] + np.bincount(below + 1, upper, size)[:size]
    )


def _normalised(grid: VelocityGrid, weight: NDArray, level: NDArray, pixels: NDArray) -> Features:
    wavelength = grid.wavelength()
    values, inverse, spike = _once_normalised(wavelength, weight, level)
    again = spike.any(axis=1)
    if again.any():
        rest = np.where(spike[again], 0.0, weight[again])
        values[again], inverse[again], more = _once_normalised(wavelength, rest, level[again])
        inverse[again] = np.where(more, 0.0, inverse[again])
    inverse = inverse / (1.0 + inverse * MODEL_ERROR**2)
    return Features(values.astype(np.float32), inverse.astype(np.float32), pixels)


def _once_normalised(
    wavelength: NDArray, weight: NDArray, level: NDArray
) -> tuple[NDArray, NDArray, NDArray]:
    """Features, their weights, and which of them are spikes."""
    continuum = np.nan_to_num(running_continuum(wavelength, level, weight, WIDTH))
    usual = np.median(np.abs(continuum), axis=1, keepdims=True)
    usable = (weight > 0) & (continuum > LEVEL * usual)
    safe = np.where(usable, continuum, 1.0)
    values = np.where(usable, level / safe - 1.0, 0.0)
    inverse = np.where(usable, weight * safe**2, 0.0)
    high = np.maximum(values, 0.0)
    return values, inverse, (high > SPIKE) & (high**2 * inverse > SPIKE_SIGMA**2)


class Correlation:
    """Sums over pixels of spectra with templates shifted by any velocity.

    Parameters
    ----------
    grid : VelocityGrid
    templates : ndarray, shape (T, n + 2 lags)
        Features of the templates at rest, on ``grid.wavelength(wide=True)``.
    """

    def __init__(self, grid: VelocityGrid, templates: NDArray) -> None:
        self.grid = grid
        self.templates = np.asarray(templates, dtype=np.float32)
        self._one = fft.rfft(self.templates, grid.transform, axis=1)
        self._two = fft.rfft(self.templates**2, grid.transform, axis=1)

    def __len__(self) -> int:
        return len(self.templates)

    def moments(self, data: Features) -> Moments:
        """Return what of the data enters all sums."""
        size = self.grid.transform
        total = data.weight.sum(axis=1, dtype=np.float64)
        mean = (data.weight * data.values).sum(axis=1, dtype=np.float64) / np.maximum(total, 1e-30)
        centred = data.weight * (data.values - mean[:, None].astype(np.float32))
        return Moments(
            fft.rfft(centred, size, axis=1).conj(),
            fft.rfft(data.weight, size, axis=1).conj(),
            total,
            (centred * data.values).sum(axis=1, dtype=np.float64),
        )

    def all_lags(
        self, moments: Moments, templates: Sequence[int] | NDArray
    ) -> tuple[NDArray, NDArray]:
        """Return covariance and variance at every whole lag, shape (N, T', 2 lags + 1) each.

        ``templates``: T' of them for every spectrum, or an array of one for each spectrum, (N, 1).
        """
        chosen = np.asarray(templates)
        one, two = self._one[chosen], self._two[chosen]
        if chosen.ndim == 1:
            one, two = one[None], two[None]
        covariance = self._back(moments.data[:, None] * one)
        first = self._back(moments.weight[:, None] * one)
        second = self._back(moments.weight[:, None] * two)
        return covariance, _variance(first, second, moments.total[:, None, None])

    def _back(self, product: NDArray) -> NDArray:
        lags = self.grid.lags
        return fft.irfft(product, self.grid.transform, axis=-1)[..., : 2 * lags + 1][..., ::-1]

    def at(self, moments: Moments, lag: NDArray) -> tuple[NDArray, NDArray]:
        """Return covariance and variance of all templates at one lag a spectrum, (N, T) each."""
        phase = self._phase(lag)
        covariance = _real_product(moments.data * phase, self._one)
        first = _real_product(moments.weight * phase, self._one)
        second = _real_product(moments.weight * phase, self._two)
        return covariance, _variance(first, second, moments.total[:, None])

    def _phase(self, lag: NDArray) -> NDArray:
        """What shifts a template by a lag and sums over frequencies, shape (N, nf/2 + 1)."""
        size = self.grid.transform
        k = np.arange(size // 2 + 1)
        turns = (self.grid.lags - np.asarray(lag))[:, None] / size * k
        angle = (2.0 * np.pi * (turns - np.rint(turns))).astype(np.float32)
        count = (np.where((k == 0) | (2 * k == size), 1.0, 2.0) / size).astype(np.float32)
        phase = np.empty(angle.shape, dtype=np.complex64)
        phase.real, phase.imag = np.cos(angle) * count, np.sin(angle) * count
        return phase


@dataclass(frozen=True, eq=False)
class Moments:
    """What `Correlation` needs of N spectra."""

    data: NDArray  # transform of weight * (feature - its mean), conjugate
    weight: NDArray  # of the weights
    total: NDArray  # (N,) sum of weights
    power: NDArray  # (N,) weighted sum of squares of the features about their mean


def _variance(first: NDArray, second: NDArray, total: NDArray) -> NDArray:
    variance = second - first.astype(np.float64) ** 2 / np.maximum(total, 1e-30)
    return np.asarray(np.maximum(variance, 1e-12 + 1e-4 * np.abs(second)))


def _real_product(one: NDArray, other: NDArray) -> NDArray:
    """Real part of one @ other.T, in two products of real numbers."""
    return np.asarray(one.real @ other.real.T - one.imag @ other.imag.T, dtype=np.float64)


def gain_of(covariance: NDArray, variance: NDArray) -> NDArray:
    """How much chi2 falls when a template of free strength, but no emission, is subtracted."""
    return np.maximum(covariance, 0.0) ** 2 / variance


def peak(gain: NDArray, lags: int) -> tuple[NDArray, NDArray]:
    """Lag of the highest point, by a parabola, and minus the curvature there; (N,) each."""
    top = gain[:, 1:-1].argmax(axis=1) + 1
    rows = np.arange(len(gain))
    before, at, after = (gain[rows, top + d].astype(np.float64) for d in (-1, 0, 1))
    curvature = 2.0 * at - before - after
    offset = np.divide(
        0.5 * (after - before), curvature, out=np.zeros(len(gain)), where=curvature > 0
    )
    return top - lags + np.clip(offset, -0.5, 0.5), curvature


def heights(gain: NDArray, lag: NDArray, lags: int) -> tuple[NDArray, NDArray]:
    """The peak at a lag, and the highest other one that is a peak by itself."""
    inner = gain[:, 1:-1]
    peak = (inner >= gain[:, :-2]) & (inner > gain[:, 2:])
    apart = np.abs(np.arange(1 - lags, lags) - lag[:, None]) > 2.0
    return near(gain, lag, lags), np.where(peak & apart, inner, 0.0).max(axis=1)


def near(gain: NDArray, lag: NDArray, lags: int) -> NDArray:
    """The highest of the three points about a lag."""
    middle = np.clip(np.rint(lag).astype(int) + lags, 1, gain.shape[1] - 2)
    return np.asarray(gain[np.arange(len(gain))[:, None], middle[:, None] + [-1, 0, 1]].max(axis=1))
