"""A spectrum beside its best model: does a second copy of the model help, do all parts agree?

Both are features about one smooth level, that of the model, on a grid even in ln(wavelength). A few
hundred km/s are a few points at low resolution, where sums are taken directly, and hundreds at
high resolution, where Fourier transforms are faster.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from spectrolabe.inference.correlation import (
    MODEL_ERROR,
    SPIKE,
    SPIKE_SIGMA,
    WIDTH,
    VelocityGrid,
    gain_of,
    heights,
    peak,
    shared,
)
from spectrolabe.spectra import Spectrum
from spectrolabe.spectra.wavelength import SPEED_OF_LIGHT

__all__ = ["Beside", "Segment"]

MOST = 400.0  # km/s from the star at which a second one is sought
OVERLAP = 0.6  # correlation of the two copies, above which they cannot be told apart
SEGMENTS = 4
LEAST_SHARE = 0.15  # of the stronger copy in a part, for both to be there
BLUE = 4000.0  # Å: Balmer lines and Ca II H and K are too broad for velocities of parts
CLEAR, UNRIVALLED = 30.0, 12.0  # chi2, as in `starts`
FEW = 40  # lags, up to which sums are taken directly


class Segment(NamedTuple):
    """Velocity of a part of a spectrum relative to the model, km/s; its ends, Å."""

    velocity: float
    error: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Beside:
    """Features of a spectrum and its model on a grid, shape (n,) each.

    Parameters
    ----------
    grid : VelocityGrid
    data, model, weight : ndarray, shape (n,)
    pixels : int
        How many have weight.
    fwhm : float
        Of the instrument, km/s.
    """

    grid: VelocityGrid
    data: NDArray
    model: NDArray
    weight: NDArray
    pixels: int
    fwhm: float

    @classmethod
    def of(cls, spectrum: Spectrum, ivar: NDArray, model: NDArray) -> Beside:
        """Put a spectrum beside a model.

        Parameters
        ----------
        spectrum : Spectrum
        ivar : ndarray, shape (M,)
            0 where the model must not be compared; more than two others.
        model : ndarray, shape (M,)
            Positive, continuum included.
        """
        good = np.flatnonzero(ivar > 0)
        wavelength = spectrum.wavelength[good]
        log = np.log(wavelength)
        resolution = float(np.median(spectrum.resolution))
        grid = VelocityGrid.over(log[0], log[-1] + 1e-9, resolution, MOST)
        level = _level(log, np.asarray(model, dtype=np.float64)[good])
        data, best = spectrum.flux[good] / level - 1.0, model[good] / level - 1.0
        inverse = np.asarray(ivar, dtype=np.float64)[good] * level**2
        inverse /= 1.0 + inverse * MODEL_ERROR**2
        inverse[data - best > np.maximum(SPIKE, SPIKE_SIGMA / np.sqrt(inverse))] = 0.0
        weight, data, best = shared(grid, wavelength, inverse, data, best)
        return cls(grid, data, best, weight, good.size, SPEED_OF_LIGHT / resolution)

    @cached_property
    def _wide(self) -> NDArray:
        return np.pad(self.model, self.grid.lags)

    def second_star(self) -> tuple[float, float, float]:
        """Return strength, significance and velocity (km/s) of a second copy of the model.

        The strength is relative to the first copy, both fitted together with a constant; the
        significance is the strength over its formal error. The velocity is that of the most
        significant copy that is told from the first, to a quarter of the FWHM.
        """
        total = max(self.weight.sum(), 1e-30)
        own = self.weight * (self.model - (self.weight @ self.model) / total)
        covariance, variance, cross = _sums(self._wide, self.data, self.weight, own)
        power = max(float(own @ self.model), 1e-12)
        direct = float(own @ self.data)
        apart = np.abs(cross) < OVERLAP * np.sqrt(variance * power)
        if not apart.any():
            return 0.0, 0.0, 0.0
        left = np.where(apart, variance - cross**2 / power, np.inf)
        second = (covariance - direct * cross / power) / left
        significance = np.where(apart, second * np.sqrt(np.where(apart, left, 0.0)), -np.inf)
        best = int(np.argmax(significance))
        primary = (direct - second[best] * cross[best]) / power
        ratio = float(second[best] / primary) if primary > 0 else 0.0
        velocity = float(self.grid.velocity(best - self.grid.lags))
        return ratio, float(significance[best]), velocity

    def has_both(self, velocity: float) -> bool:
        """Return whether most parts hold both copies; with wrong wavelengths each part has one.

        ``velocity`` is that of the second copy, as `second_star` returns it.
        """
        best = int(np.rint(self.grid.lag(velocity))) + self.grid.lags
        other = self._wide[2 * self.grid.lags - best :][: self.grid.size]
        count = []
        for first, last in self._parts(self.weight):
            root = np.sqrt(self.weight[first:last])
            columns = np.stack([np.ones(last - first), self.model[first:last], other[first:last]])
            fit = np.linalg.lstsq((root * columns).T, root * self.data[first:last], rcond=None)[0]
            count.append(min(fit[1], fit[2]) > LEAST_SHARE * max(fit[1], fit[2]))
        return sum(count) > SEGMENTS / 2

    def _parts(self, weight: NDArray) -> list[tuple[int, int]]:
        """Ends of parts that say equally much about the velocity."""
        information = np.cumsum(weight * np.gradient(self.model) ** 2)
        shares = information[-1] * np.arange(SEGMENTS + 1) / SEGMENTS
        ends = np.minimum(np.searchsorted(information, shares), self.grid.size - 1)
        return list(itertools.pairwise(ends.tolist())) if information[-1] > 0 else []

    def segments(self) -> list[Segment]:
        """Return the velocities of parts of equal information, where they are beyond doubt."""
        wavelength, lags = self.grid.wavelength(), self.grid.lags
        weight = np.where(wavelength > BLUE, self.weight, 0.0)
        parts = [slice(*ends) for ends in self._parts(weight) if ends[1] - ends[0] > 3]
        if not parts:
            return []
        sums = [
            _sums(self._wide[p.start : p.stop + 2 * lags], self.data[p], weight[p]) for p in parts
        ]
        gain = np.array([gain_of(covariance, variance) for covariance, variance in sums])
        lag, curvature = peak(gain, lags)
        height, rival = heights(gain, lag, lags)
        velocity = self.grid.velocity(lag)
        found = []
        for k, p in enumerate(parts):
            w, d = weight[p], self.data[p]
            pixels = self.pixels * (p.stop - p.start) / self.grid.size
            rest = float(w @ (d - (w @ d) / w.sum()) ** 2) - height[k]
            scale = max(1.0, rest / max(pixels, 1.0))
            clear = height[k] >= CLEAR * scale and height[k] - rival[k] >= UNRIVALLED * scale
            if clear and curvature[k] > 0:
                error = SPEED_OF_LIGHT * self.grid.step * np.sqrt(2.0 * scale / curvature[k])
                low, high = wavelength[p.start + np.flatnonzero(w)[[0, -1]]]
                found.append(Segment(float(velocity[k]), float(error), low, high))
        return found


def _sums(
    template: NDArray, data: NDArray, weight: NDArray, *others: NDArray
) -> tuple[NDArray, ...]:
    """Covariance with the data, and variance, of a wide template at every lag, (2 lags + 1,).

    Then its sums with others, shape (n,), that are given.
    """
    total = max(float(weight.sum()), 1e-30)
    centred = weight * (data - (weight @ data) / total)
    covariance, first, *rest, second = _correlated(template, centred, weight, *others)
    return covariance, np.maximum(second - first**2 / total, 1e-12 + 1e-4 * second), *rest


def _correlated(template: NDArray, data: NDArray, weight: NDArray, *others: NDArray) -> NDArray:
    """Sums of a template with each array at every lag; in the last row of its square, weighted."""
    lags = len(template) - len(data)
    if lags <= 2 * FEW:
        pairs = [(template, by) for by in (data, weight, *others)] + [(template**2, weight)]
        return np.array([np.correlate(values, by, "valid")[::-1] for values, by in pairs])
    size = fft.next_fast_len(len(template), real=True)
    by = fft.rfft(np.stack([data, weight, *others]), size).conj()
    one, two = fft.rfft(np.stack([template, template**2]), size)
    back = fft.irfft(np.concatenate([by * one, by[1:2] * two]), size)
    return np.asarray(back[:, : lags + 1][:, ::-1])


def _level(log: NDArray, model: NDArray) -> NDArray:
    """Mean of the model in bins of the running continuum's width, straight lines between them."""
    number = ((log - log[0]) / (2.0 * WIDTH)).astype(int)
    count = np.bincount(number)
    known = count > 0
    centre, mean = (np.bincount(number, values)[known] / count[known] for values in (log, model))
    return np.asarray(np.interp(log, centre, mean))
