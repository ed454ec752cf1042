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
from scipy.sparse import csr_array
from scipy.special import ndtr

__all__ = ["Fit", "LeftOut", "Rows", "cross_validate", "solve"]

ITERATIONS, HUBER_STEPS = 25, 6
HUBER, CUT = 2.0, 5.0  # sigma: bound while converging; beyond the second a value has no weight
NEGLIGIBLE = 1e-3  # weight of a prior
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
        members = csr_array((share, (rows.group, np.arange(share.size))))
        value = rows.value - (members @ rows.value)[rows.group]
        return cls(value, rows.design - (members @ rows.design)[rows.group], weight, share)

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
        spread = np.sum(centred.design @ covariance * centred.design, axis=1)
        follows = np.clip(centred.share + centred.weight * spread, 0.0, 0.999)
        scatter = _scatter(rows, residual, follows)
        variance = rows.variance + scatter**2 * rows.measured
        ratio = np.abs(residual) / np.sqrt(variance * (1.0 - follows))
        previous = robust
        if step < HUBER_STEPS:
            robust = np.minimum(1.0, HUBER / np.maximum(ratio, 1e-12))
        else:
            robust = np.maximum(1.0 - np.minimum(ratio / CUT, 1.0) ** 2, 0.0) ** 2
        robust = np.maximum(robust, LEAST)
        if step > HUBER_STEPS and np.abs(robust - previous).max() < 1e-4:
            break
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


@dataclass(frozen=True, eq=False)
class LeftOut:
    """Deviations of rows from their groups by trends that have not seen the group.

    Parameters
    ----------
    before, sigma : ndarray, shape (M,)
        Deviations without any trend, and the standard deviation that errors give them.
    freedom : ndarray, shape (M,)
        What each row adds to the degrees of freedom of its group: those of a pair are 1.
    """

    before: NDArray
    sigma: NDArray
    freedom: NDArray
    _design: NDArray
    _gram: NDArray  # (F, K, K): of all folds but one
    _right: NDArray
    _fold: NDArray  # of each row

    @classmethod
    def of(cls, rows: Rows, fit: Fit, fold: NDArray) -> LeftOut:
        """Prepare for one set of weights.

        Parameters
        ----------
        rows : Rows
        fit : Fit
            Whose weights and scatter are used.
        fold : ndarray of int, shape (G,)
            Of each group, from 0.
        """
        variance = rows.variance + fit.scatter**2 * rows.measured
        centred = _Centred.of(rows, fit.weight / variance)
        parts = [centred.normal(fold[rows.group] == part) for part in range(fold.max() + 1)]
        gram, right = (np.stack(part) for part in zip(*parts, strict=True))
        return cls(
            centred.value,
            np.sqrt(variance * np.maximum(1.0 - centred.share, 1e-3)),
            np.maximum(1.0 - centred.share, 1e-3),
            centred.design,
            gram.sum(axis=0) - gram,
            right.sum(axis=0) - right,
            fold[rows.group],
        )

    def after(self, precision: NDArray) -> NDArray:
        """Return the deviations from trends with a prior of this precision, shape (M,)."""
        free = np.isfinite(precision)
        matrix = self._gram[:, free][:, :, free] + np.diag(precision[free])
        coefficients = np.linalg.solve(matrix, self._right[:, free, None])[:, :, 0]
        trends = self._design[:, free] @ coefficients.T
        return self.before - trends[np.arange(self._fold.size), self._fold]

    def loss(self, precision: NDArray) -> float:
        """Return Huber's loss of all deviations: half of chi squared where none is large."""
        ratio = np.abs(self.after(precision) / self.sigma)
        bounded = np.where(ratio < HUBER, 0.5 * ratio**2, HUBER * (ratio - 0.5 * HUBER))
        return float(self.freedom @ bounded)


def cross_validate(rows: Rows, precisions: Sequence[NDArray], fold: NDArray) -> tuple[Fit, NDArray]:
    """Return the trend of all priors together, each as it predicts groups that were left out.

    Returns
    -------
    fit : Fit
        Mean of the fits with each prior, weighted by ``exp(-loss)``; the covariance counts that
        they differ.
    share : ndarray, shape (number of priors,)
        Those weights, with sum 1.

    Notes
    -----
    Where several priors predict equally well, to take the best one alone would be to take chance
    (Yao et al. 2018, Bayesian Analysis 13, 917, on such averages). Robust weights and scatter are
    those of the widest prior, the last one, at first, and then of the best one.
    """
    best = len(precisions) - 1
    for _ in range(2):
        fit = solve(rows, precisions[best])
        held = LeftOut.of(rows, fit, fold)
        losses = np.array([held.loss(one) for one in precisions])
        best = int(np.argmin(losses))
    fit = solve(rows, precisions[best])
    share = np.exp(losses.min() - losses)
    share = np.where(share > NEGLIGIBLE, share, 0.0)
    share /= share.sum()
    variance = rows.variance + fit.scatter**2 * rows.measured
    normal = _Centred.of(rows, fit.weight / variance).normal()
    fits = [_posterior(*normal, one) for one, w in zip(precisions, share, strict=True) if w > 0]
    coefficients, covariance = (np.stack(part) for part in zip(*fits, strict=True))
    weight = share[share > 0]
    mean = weight @ coefficients
    apart = coefficients - mean
    spread = np.einsum("i,ij,ik->jk", weight, apart, apart)
    return Fit(mean, np.tensordot(weight, covariance, 1) + spread, fit.scatter, fit.weight), share
