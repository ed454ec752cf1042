"""Parameters in units of their uncertainties: a narrow, tilted valley becomes a round bowl."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Metric"]

SMALLEST = 1e-8  # eigenvalue of a correlation matrix, below which it is rounding


@dataclass(frozen=True, eq=False)
class Metric:
    """theta = centre + root @ z, such that unit normal z have a given covariance.

    Parameters
    ----------
    centre : ndarray, shape (J,)
    root, inverse : ndarray, shape (J, J)
        ``root @ root.T`` is the covariance; ``inverse @ root`` is 1.
    """

    centre: NDArray
    root: NDArray
    inverse: NDArray

    @classmethod
    def of(
        cls, centre: ArrayLike, covariance: ArrayLike, spread: ArrayLike, *, limit: float = np.inf
    ) -> Metric:
        """Return the metric of a covariance about a point.

        Parameters
        ----------
        centre : array_like, shape (J,)
        covariance : array_like, shape (J, J)
            Parameters without a positive, finite variance get that of ``spread``.
        spread : array_like, shape (J,)
            How much each parameter varies at all, as a standard deviation.
        limit : float
            The standard deviation of a parameter stays below its spread / ``limit``; no limit
            if not given.
        """
        covariance = np.array(covariance, dtype=np.float64)
        spread = np.asarray(spread, dtype=np.float64)
        variance = np.diagonal(covariance)
        unknown = ~(np.isfinite(variance) & (variance > 0))
        covariance[unknown[:, None] | unknown] = 0.0
        covariance[unknown, unknown] = spread[unknown] ** 2
        sd = np.sqrt(np.diagonal(covariance))
        values, vectors = np.linalg.eigh(np.nan_to_num(covariance / (sd[:, None] * sd)))
        if np.isfinite(limit):
            values = np.maximum(values, SMALLEST)
            precision = (vectors / values) @ vectors.T + np.diag((sd * limit / spread) ** 2)
            values, vectors = np.linalg.eigh(np.linalg.inv(precision))
        root = np.sqrt(np.maximum(values, SMALLEST))
        return cls(
            np.array(centre, dtype=np.float64),
            sd[:, None] * vectors * root,
            (vectors / root).T / sd,
        )

    def inwards(self, theta: NDArray) -> NDArray:
        """Return z, shape (K, J), of parameters, shape (K, J)."""
        return (theta - self.centre) @ self.inverse.T

    def outwards(self, z: NDArray) -> NDArray:
        """Return parameters, shape (K, J), of z, shape (K, J)."""
        return self.centre + z @ self.root.T
