"""Smooth functions of temperature, gravity and metallicity as columns of a linear model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import BSpline

from spectrolabe.labels import read_only

__all__ = ["COVARIATES", "TERMS", "TrendBasis"]

COVARIATES = ("teff", "logg", "fe_h")
TERMS = ("constant", "slope", "bend", "cross")
"""Kinds of columns; the columns of one kind share the amplitude that cross-validation chooses."""

SMALLEST = np.array([100.0, 0.1, 0.05])  # a spread of the anchors below this says nothing
INTERVALS = 6  # of the cubic splines along each axis
CROSSED = {(0, 1): (3, 3), (0, 2): (2, 1), (1, 2): (2, 1)}  # how many functions of each axis


@dataclass(frozen=True, eq=False)
class TrendBasis:
    """Functions whose sum with free coefficients is a trend.

    Along each axis a slope and bends: cubic splines turned so that the prior of independent
    coefficients of one amplitude is a penalty on the squared second derivative. Of pairs of axes,
    the products of the smoothest. Beyond the range of the anchors each function stays at its value
    at the edge.

    Parameters
    ----------
    low, high : ndarray, shape (3,)
        Range of the anchors in Teff, log g and [Fe/H].
    centre, width : ndarray, shape (3,)
        Their mean and standard deviation.
    """

    low: NDArray
    high: NDArray
    centre: NDArray
    width: NDArray

    def __post_init__(self) -> None:
        for key in ("low", "high", "centre", "width"):
            object.__setattr__(self, key, read_only(getattr(self, key), np.float64))

    @classmethod
    def of(cls, points: NDArray) -> TrendBasis:
        """Return the basis for anchors with these labels, shape (N, 3)."""
        centre, width = points.mean(axis=0), np.maximum(points.std(axis=0), SMALLEST)
        low = np.minimum(points.min(axis=0), centre - SMALLEST)
        high = np.maximum(points.max(axis=0), centre + SMALLEST)
        return cls(low, high, centre, width)

    def design(self, points: NDArray) -> NDArray:
        """Return the columns at some stars, shape (N, K); the first is the constant.

        Parameters
        ----------
        points : ndarray, shape (N, 3)
            Finite Teff in K, log g and [Fe/H].
        """
        inside = np.clip(points, self.low, self.high)
        slope = (inside - self.centre) / self.width
        share = (inside - self.low) / (self.high - self.low)
        bend = [_bends(share[:, axis]) for axis in range(3)]
        single = [np.column_stack([slope[:, axis], bend[axis]]) for axis in range(3)]
        parts = [np.ones((len(points), 1)), slope, *bend]
        for (one, other), (m, n) in CROSSED.items():
            product = single[one][:, :m, None] * single[other][:, None, :n]
            parts.append(product.reshape(len(points), -1))
        return np.hstack(parts)

    def precision(self, amplitude: Mapping[str, float], without: tuple[int, ...] = ()) -> NDArray:
        """Return the prior precision of the coefficients, shape (K,); infinity leaves one out.

        Parameters
        ----------
        amplitude : mapping of str to float
            Prior standard deviation of the columns of each kind of `TERMS`, in the label's unit.
        without : tuple of int
            Axes that get no trend of their own.
        """
        kinds = columns()
        prior = np.array([amplitude[kind] for kind, _ in kinds])
        out = [len(axes) == 1 and axes[0] in without for _, axes in kinds]
        with np.errstate(divide="ignore"):
            return np.where(out, np.inf, prior**-2.0)


def columns() -> list[tuple[str, tuple[int, ...]]]:
    """Return the kind and the axes of each column of `TrendBasis.design`."""
    found: list[tuple[str, tuple[int, ...]]] = [("constant", ())]
    found += [("slope", (axis,)) for axis in range(3)]
    found += [("bend", (axis,)) for axis in range(3) for _ in range(WIGGLES.shape[1])]
    for axes, (m, n) in CROSSED.items():
        found += [("cross", axes)] * (m * n)
    return found


def _bends(share: NDArray) -> NDArray:
    """Values on [0, 1] of the functions that `WIGGLES` makes of cubic B-splines."""
    first = np.minimum((share * INTERVALS).astype(int), INTERVALS - 1)
    t = share * INTERVALS - first
    weights = (1 - t) ** 3, 4 - 6 * t**2 + 3 * t**3, 1 + 3 * t + 3 * t**2 - 3 * t**3, t**3
    found = np.zeros((share.size, WIGGLES.shape[1]))
    for k, weight in enumerate(weights):
        found += WIGGLES[first + k] * (weight / 6.0)[:, None]
    return found


def _wiggles() -> NDArray:
    """Return the splines' combinations with independent penalties, the smoothest first.

    Eigenvectors of the integral of the product of second derivatives, over the root of their
    eigenvalues (Wood 2017, Generalized Additive Models, 5.4.2); the first has an rms of 1.
    """
    knots = np.arange(-3, INTERVALS + 4) / INTERVALS
    fine = (np.arange(2000) + 0.5) / 2000
    second = BSpline(knots, np.eye(INTERVALS + 3), 3).derivative(2)(fine)
    values, vectors = np.linalg.eigh(second.T @ second / fine.size)
    turned = vectors[:, 2:] / np.sqrt(values[2:])  # the first two are the straight lines
    # eigenvectors are free up to a sign; one is chosen, so that a file means the same everywhere
    turned = turned * np.where(turned[0] < 0, -1.0, 1.0)
    # straight parts belong to the slopes
    line = np.column_stack([np.ones_like(fine), fine])
    splines = BSpline.design_matrix(fine, knots, 3).toarray()
    straight = np.linalg.lstsq(line, splines @ turned, rcond=None)[0]
    knots_mean = np.arange(-1, INTERVALS + 2) / INTERVALS  # Greville: coefficients of a line
    turned = turned - np.column_stack([np.ones_like(knots_mean), knots_mean]) @ straight
    return turned / np.sqrt(np.mean((splines @ turned[:, 0]) ** 2))


WIGGLES = _wiggles()
