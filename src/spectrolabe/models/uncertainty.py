"""Making uncertainties true on stars not trained on, and telling when a star is unlike them all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.spatial import cKDTree

from spectrolabe.errors import InputError
from spectrolabe.labels import read_only

__all__ = ["Coverage", "Recalibration"]

FEWEST = 30  # stars with a label, below which its recalibration would be noise
DEGREES = 4.0  # of the Student t by which a few per cent of wrong labels do not widen the rest
NEIGHBOURS = 5
INSIDE = 0.99  # of stars like the training stars count as covered


@dataclass(frozen=True, eq=False)
class Recalibration:
    """``sigma -> sqrt((scale * sigma)**2 + floor**2)`` for each label; correlations stay.

    Parameters
    ----------
    scale, floor : ndarray, shape (L,)
        The floor is in scaled label units.
    """

    scale: NDArray
    floor: NDArray

    def __post_init__(self) -> None:
        object.__setattr__(self, "scale", read_only(self.scale, np.float64))
        object.__setattr__(self, "floor", read_only(self.floor, np.float64))

    @classmethod
    def fit(cls, residual: NDArray, sigma: NDArray) -> Recalibration:
        """Fit scale and floor on stars that the model has not seen.

        The shape (how much is scale, how much floor) maximises a Student-t likelihood; the size is
        then set so that 68.3 per cent of the residuals are within one sigma.

        Parameters
        ----------
        residual, sigma : ndarray, shape (N, L)
            Scaled residuals (NaN where the truth is unknown) and the model's scaled sigma.

        Raises
        ------
        InputError
            If a label has fewer than 30 known residuals.
        """
        pairs = []
        for j in range(residual.shape[1]):
            known = np.isfinite(residual[:, j])
            if known.sum() < FEWEST:
                raise InputError(
                    f"recalibration of label {j}",
                    expected=f"at least {FEWEST} calibration stars that have it",
                    found=str(int(known.sum())),
                    fix="Raise data.calibration or data.folds, or leave the label out.",
                )
            r = residual[known, j] - np.median(residual[known, j])
            pairs.append(_scale_and_floor(r, sigma[known, j]))
        scale, floor = np.transpose(pairs)
        return cls(scale, floor)

    def sigma(self, sigma: NDArray) -> NDArray:
        """Return recalibrated standard deviations, shape (..., L)."""
        return np.sqrt((self.scale * sigma) ** 2 + self.floor**2)

    def covariance(self, covariance: NDArray) -> NDArray:
        """Return the recalibrated covariance, shape (..., L, L), with the same correlations."""
        sigma = np.sqrt(np.diagonal(covariance, axis1=-2, axis2=-1))
        ratio = self.sigma(sigma) / sigma
        return covariance * ratio[..., :, None] * ratio[..., None, :]


def _scale_and_floor(residual: NDArray, sigma: NDArray) -> tuple[float, float]:
    def loss(logs: NDArray) -> float:
        width = np.sqrt((np.exp(logs[0]) * sigma) ** 2 + np.exp(2 * logs[1]))
        z2 = (residual / width) ** 2
        return float(np.mean(np.log(width) + (DEGREES + 1) / 2 * np.log1p(z2 / DEGREES)))

    start = [0.0, np.log(0.1 * np.median(sigma))]
    bounds = [(-3.0, 3.0), (np.log(1e-4), np.log(10.0))]
    scale, floor = np.exp(minimize(loss, start, bounds=bounds, method="L-BFGS-B").x)
    pull = np.abs(residual) / np.sqrt((scale * sigma) ** 2 + floor**2)
    size = float(np.quantile(pull, 0.683))
    return scale * size, floor * size


@dataclass(frozen=True, eq=False)
class Coverage:
    """Distance of a star to the training stars in the embedding of the model.

    Parameters
    ----------
    reference : ndarray, shape (K, D), float32
        Embeddings of training stars.
    width : ndarray, shape (D,)
        Spread of each dimension, by which distances are measured.
    limit : float
        Mean distance to the five nearest reference stars beyond which a star is not covered.
    """

    reference: NDArray
    width: NDArray
    limit: float

    @classmethod
    def fit(cls, reference: NDArray, unseen: NDArray | None = None) -> Coverage:
        """Set the limit so that 99 per cent of stars like the training stars are inside.

        Parameters
        ----------
        reference : ndarray, shape (K, D)
            Embeddings of training stars.
        unseen : ndarray, shape (N, D), optional
            Embeddings of stars of the same kind not trained on; when not given, every reference
            star is measured against the others.
        """
        width = reference.std(axis=0) + 1e-6
        coverage = cls(read_only(reference, np.float32), read_only(width, np.float32), np.inf)
        if unseen is None:
            distance = coverage.distance(reference, skip_self=True)
        else:
            distance = coverage.distance(unseen)
        return cls(coverage.reference, coverage.width, float(np.quantile(distance, INSIDE)))

    def distance(self, embedding: NDArray, *, skip_self: bool = False) -> NDArray:
        """Return the mean distance to the nearest reference stars, shape (N,)."""
        neighbours = min(NEIGHBOURS, len(self.reference) - 1)
        tree = cKDTree(self.reference / self.width)
        found, _ = tree.query(embedding / self.width, k=neighbours + int(skip_self))
        return np.atleast_2d(found)[:, int(skip_self) :].mean(axis=1)

    def outside(self, embedding: NDArray) -> NDArray:
        """Tell which stars are not covered, shape (N,), bool."""
        return self.distance(embedding) > self.limit
