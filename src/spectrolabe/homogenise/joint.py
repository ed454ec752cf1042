"""Trends of one label from all anchors together: one linear model, robust, cross-validated.

A measured value is ``mean of its group + trend(star) + error``; a value known from elsewhere is
``mean of its group + error``. A reference star is a group of two such rows of one star, a binary
one of two stars, a cluster one of many. The means are free and eliminated exactly; the trend's
coefficients have normal priors, whose widths are chosen by leaving out whole groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import ndtr

__all__ = ["Fit", "Rows", "cross_validate", "left_out", "solve"]

ITERATIONS = 25
HUBER, CUT = 2.0, 5.0  # sigma: bound while converging; beyond the second a value has no weight
LEAST = 1e-6  # weight that is left to an outlier, so that no group is empty


@dataclass(frozen=True, eq=False)
class Rows:
    """Values of one label in groups of one true value.

    Parameters
    ----------
    value, variance : ndarray, shape (M,)
    measured : ndarray of bool, shape (M,)
        Has the trend and the intrinsic scatter; others are known from elsewhere.
    group : ndarray of int, shape (M,)
        From 0, each with two rows or more.
    design : ndarray, shape (M, K)
        Columns of the trend, 0 in rows that are not measured.
    """

    value: NDArray
    variance: NDArray
    measured: NDArray
    group: NDArray
    design: NDArray

    def take(self, rows: NDArray) -> Rows:
        """Return the rows of whole groups (a boolean array)."""
        kept = {name: getattr(self, name)[rows] for name in ("value", "variance", "measured")}
        group = np.unique(self.group[rows], return_inverse=True)[1]
        return Rows(**kept, group=group, design=self.design[rows])


@dataclass(frozen=True, eq=False)
class Fit:
    """A trend of one label.

    Parameters
    ----------
    coefficients : ndarray, shape (K,)
    covariance : ndarray, shape (K, K)
    scatter : float
        Intrinsic standard deviation of measured values about trend and mean.
    weight : ndarray, shape (M,)
        Of each row, between 0 (an outlier) and 1.
    """

    coefficients: NDArray
    covariance: NDArray
    scatter: float
    weight: NDArray


@dataclass(frozen=True, eq=False)
class _Centred:
    """Rows less the weighted mean of their group."""

    value: NDArray
    design: NDArray
    weight: NDArray  # inverse variance times robust weight
    share: NDArray  # of each row in the mean of its group

    @classmethod
    def of(cls, rows: Rows, weight: NDArray) -> _Centred:
        total = np.bincount(rows.group, weight)
        share = weight / total[rows.group]
        mean = np.bincount(rows.group, share * rows.value)
        average = np.zeros((total.size, rows.design.shape[1]))
        np.add.at(average, rows.group, share[:, None] * rows.design)
        return cls(rows.value - mean[rows.group], rows.design - average[rows.group], weight, share)

    def normal(self, rows: NDArray | slice = slice(None)) -> tuple[NDArray, NDArray]:
        """Return the matrix and the right-hand side of the normal equations of some rows."""
        weighted = self.design[rows] * self.weight[rows, None]
        return weighted.T @ self.design[rows], weighted.T @ self.value[rows]


def solve(rows: Rows, precision: NDArray) -> Fit:
    """Return the trend with the largest posterior, its intrinsic scatter and robust weights.

    Parameters
    ----------
    rows : Rows
    precision : ndarray, shape (K,)
        Of the coefficients' normal priors with mean zero; infinity fixes one to 0.

    Notes
    -----
    Weights are Huber's and then Tukey's of the residuals over their standard deviation, which
    counts that the group's mean and the trend follow the value itself; the scatter is that of
    Huber's proposal 2 (Huber 1981, Robust Statistics, 6.4).
    """
    robust, scatter = np.ones(rows.value.size), 0.0
    for step in range(ITERATIONS):
        variance = rows.variance + scatter**2 * rows.measured
        centred = _Centred.of(rows, robust / variance)
        coefficients, covariance = _posterior(*centred.normal(), precision)
        residual = centred.value - centred.design @ coefficients
        spread = np.einsum("ij,jk,ik->i", centred.design, covariance, centred.design)
        follows = np.clip(centred.share + centred.weight * spread, 0.0, 0.999)
        scatter = _scatter(rows, residual, follows)
        variance = rows.variance + scatter**2 * rows.measured
        ratio = np.abs(residual) / np.sqrt(variance * (1.0 - follows))
        if step < 8:
            robust = np.minimum(1.0, HUBER / np.maximum(ratio, 1e-12))
        else:
            robust = np.maximum(1.0 - np.minimum(ratio / CUT, 1.0) ** 2, 0.0) ** 2
        robust = np.maximum(robust, LEAST)
    return Fit(coefficients, covariance, scatter, robust)


def _posterior(gram: NDArray, right: NDArray, precision: NDArray) -> tuple[NDArray, NDArray]:
    free = np.isfinite(precision)
    coefficients = np.zeros(precision.size)
    covariance = np.zeros((precision.size, precision.size))
    inverse = np.linalg.inv(gram[np.ix_(free, free)] + np.diag(precision[free]))
    covariance[np.ix_(free, free)] = inverse
    coefficients[free] = inverse @ right[free]
    return coefficients, covariance


def _scatter(rows: Rows, residual: NDArray, follows: NDArray) -> float:
    """Return the scatter that makes bounded squared residuals as large as those of a normal."""
    k = 1.5
    normal = np.exp(-0.5 * k**2) / np.sqrt(2 * np.pi)
    expected = (2 * ndtr(k) - 1) - 2 * k * normal + 2 * k**2 * (1 - ndtr(k))
    squared = (residual**2 / (1.0 - follows))[rows.measured]
    variance = rows.variance[rows.measured]

    def excess(scatter: float) -> float:
        return float(np.mean(np.minimum(squared / (variance + scatter**2), k**2)) - expected)

    top = 10.0 * np.sqrt(squared.max()) + 1e-12
    if excess(0.0) <= 0 or excess(top) >= 0:
        return 0.0
    return float(brentq(excess, 0.0, top, rtol=1e-6))


def left_out(
    rows: Rows, fit: Fit, precision: NDArray, fold: NDArray
) -> tuple[NDArray, NDArray, NDArray]:
    """Return each row's deviation from its group by a trend that has not seen the group.

    Parameters
    ----------
    rows : Rows
    fit : Fit
        Whose weights and scatter are used.
    precision : ndarray, shape (K,)
    fold : ndarray of int, shape (G,)
        Of each group.

    Returns
    -------
    before, after, sigma : ndarray, shape (M,)
        Deviations without and with the correction, and their expected standard deviation.
    """
    centred = _Centred.of(rows, fit.weight / (rows.variance + fit.scatter**2 * rows.measured))
    gram, right = centred.normal()
    after = centred.value.copy()
    for part in np.unique(fold):
        inside = fold[rows.group] == part
        gram_out, right_out = centred.normal(inside)
        coefficients, _ = _posterior(gram - gram_out, right - right_out, precision)
        after[inside] -= centred.design[inside] @ coefficients
    variance = rows.variance + fit.scatter**2 * rows.measured
    return centred.value, after, np.sqrt(variance * np.clip(1.0 - centred.share, 1e-3, 1.0))


def cross_validate(rows: Rows, precisions: Sequence[NDArray], fold: NDArray) -> tuple[int, NDArray]:
    """Return which prior predicts groups that were left out best, and the mean loss of each.

    The loss is Huber's of the deviations within the groups. Weights and scatter are those of the
    widest prior, the last one, at first, and then of the best one.
    """
    best = len(precisions) - 1
    for _ in range(2):
        fit = solve(rows, precisions[best])
        losses = np.empty(len(precisions))
        for i, precision in enumerate(precisions):
            _, after, sigma = left_out(rows, fit, precision, fold)
            ratio = np.abs(after) / sigma
            loss = np.where(ratio < HUBER, 0.5 * ratio**2, HUBER * (ratio - 0.5 * HUBER))
            losses[i] = loss[rows.measured].mean()
        best = int(np.argmin(losses))
    return best, losses
