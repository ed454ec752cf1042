"""The trend of one label: what it adds to the truth at given labels, and how well that is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spectrolabe.homogenise.support import Support
from spectrolabe.labels import read_only

__all__ = ["LabelTrend"]


@dataclass(frozen=True, eq=False)
class LabelTrend:
    """Measured less true value of a label as a function of true Teff, log g and [Fe/H].

    Parameters
    ----------
    mean : ndarray, shape (K,)
        What is subtracted of the columns of the `TrendBasis`: their mean over the anchors, so that
        the first coefficient is the mean of the trend over them.
    coefficients : ndarray, shape (K,)
        The first is the zero point, to which the trend fades.
    covariance : ndarray, shape (K, K)
    support : Support
    amplitude : float
        Root mean square of the trend about its zero point over the anchors: what it may be where
        nothing is known of it.
    scatter : float
        Standard deviation of measured values beyond their stated errors.
    card : mapping
        What it was fitted on.
    """

    mean: NDArray
    coefficients: NDArray
    covariance: NDArray
    support: Support
    amplitude: float
    scatter: float
    card: Mapping[str, Any]

    def __post_init__(self) -> None:
        for key in ("mean", "coefficients", "covariance"):
            object.__setattr__(self, key, read_only(getattr(self, key), np.float64))

    def value(self, design: NDArray, share: NDArray) -> NDArray:
        """Return the trend, shape (N,).

        Parameters
        ----------
        design : ndarray, shape (N, K)
            `TrendBasis.design` at Teff, log g and [Fe/H] on the true scale.
        share : ndarray, shape (N,)
            Of `Support.share`.
        """
        bend = design[:, 1:] @ self.coefficients[1:] - self.mean[1:] @ self.coefficients[1:]
        return self.coefficients[0] + share * bend

    def variance(self, design: NDArray, distance: NDArray) -> NDArray:
        """Return the variance of the trend, shape (N,).

        Where it has faded, the trend there may be: its amplitude over the anchors, growing with
        the distance to them.

        Parameters
        ----------
        design : ndarray, shape (N, K)
        distance : ndarray, shape (N,)
            Of `Support.distance`.
        """
        share = self.support.share(distance)
        faded = design - self.mean
        faded[:, 1:] *= share[:, None]
        known = np.einsum("ij,ij->i", faded @ self.covariance, faded)
        beyond = np.where(
            np.isfinite(distance), np.maximum(distance - self.support.limit, 0.0), 0.0
        )
        return known + ((1.0 - share) * self.amplitude * (1.0 + beyond)) ** 2
