"""Whether posteriors of any shape are right: of each star against its true labels."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri

from spectrolabe.errors import InputError
from spectrolabe.models.posterior import SCORES, LabelPosterior

__all__ = ["coverage", "crps", "pit"]


def pit(posterior: LabelPosterior, truth: ArrayLike) -> NDArray:
    """Return the posterior probability below the true values, shape (N, L).

    Of calibrated posteriors it is uniform between 0 and 1 (the probability integral transform).

    Parameters
    ----------
    posterior : LabelPosterior
    truth : array_like, shape (N, L)
        In the order of the posterior's labels; NaN where not known.
    """
    return ndtr(posterior.scores(_checked(posterior, truth)))


def coverage(posterior: LabelPosterior, truth: ArrayLike, probability: float = 0.683) -> NDArray:
    """Return which fraction of true values is in the central interval of a probability, shape (L,).

    Parameters
    ----------
    posterior : LabelPosterior
    truth : array_like, shape (N, L)
        As for `pit`.
    probability : float
        Of the interval between two quantiles, the same outside on either side.
    """
    score = np.abs(posterior.scores(_checked(posterior, truth)))
    inside = np.where(np.isnan(score), np.nan, score <= ndtri(0.5 + probability / 2.0))
    with np.errstate(invalid="ignore"):
        return np.nansum(inside, axis=0) / np.isfinite(inside).sum(axis=0)


def crps(posterior: LabelPosterior, truth: ArrayLike) -> NDArray:
    """Return the continuous ranked probability score of each marginal, shape (N, L).

    The integral of ``(F(x) - [x > truth])**2``, F being the distribution function: a proper score
    in the unit of the label, that of a value without uncertainty being its absolute error. Exact
    for normal marginals and for those with levels (Gneiting & Raftery 2007, JASA 102, 359).

    Parameters
    ----------
    posterior : LabelPosterior
    truth : array_like, shape (N, L)
        As for `pit`.
    """
    score = posterior.scores(_checked(posterior, truth))
    if posterior.levels is None:
        return posterior.sigma * (_square(score) + _square(-score))
    slope = np.diff(posterior.levels, axis=2) / np.diff(SCORES)
    low = np.r_[-np.inf, SCORES[1:-1]]
    high = np.r_[SCORES[1:-1], np.inf]
    at = np.clip(score[..., None], low, high)
    below, above = _square(at) - _square(low), _square(-at) - _square(-high)
    with np.errstate(invalid="ignore"):  # a step is at one value, whatever its scores
        inner = np.where(slope == 0, 0.0, slope * (below + above)).sum(axis=2)
    beyond = _beyond(posterior.levels, np.asarray(truth, dtype=np.float64), score)
    return np.where(np.isnan(score), np.nan, inner + beyond)


def _square(z: NDArray) -> NDArray:
    """The integral of the squared normal distribution function from minus infinity to z."""
    with np.errstate(invalid="ignore"):
        density = np.exp(-0.5 * z**2) / np.sqrt(2.0 * np.pi)
        found = z * ndtr(z) ** 2 + 2.0 * ndtr(z) * density - ndtr(np.sqrt(2.0) * z) / np.sqrt(np.pi)
    return np.where(z == -np.inf, 0.0, found)


def _beyond(levels: NDArray, truth: NDArray, score: NDArray) -> NDArray:
    """The distance to all of a marginal, for values beyond an end where it has a step."""
    left, right = levels[..., 0] - truth, truth - levels[..., -1]
    return np.select([score == -np.inf, score == np.inf], [left, right], 0.0)


def _checked(posterior: LabelPosterior, truth: ArrayLike) -> NDArray:
    values = np.asarray(truth, dtype=np.float64)
    if values.shape != posterior.mean.shape:
        raise InputError(
            "true labels",
            expected=f"shape (stars, labels) = {posterior.mean.shape}",
            found=f"shape {values.shape}",
            fix=f"Select {', '.join(posterior.names)} in this order.",
        )
    return values
