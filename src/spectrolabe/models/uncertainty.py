"""Making uncertainties true on stars not trained on, and telling when a star is unlike them all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.spatial import cKDTree

from spectrolabe.errors import InputError
from spectrolabe.labels import Labels, read_only

__all__ = ["Coverage", "Recalibration"]

FEWEST = 30  # stars with a label, below which its recalibration would be noise
FEWEST_OF_SURVEY = 100  # below which that of all surveys is nearer to the truth than its own
DEGREES = 4.0  # of the Student t by which a few per cent of wrong labels do not widen the rest
LOWEST_SNR = 1.0  # below which the noise term grows no more
NEIGHBOURS = 5
FAINTEST = 0.01  # of the typical spread of the dimensions of an embedding
INSIDE = 0.99  # of stars like the training stars count as covered


TERMS = ("shift", "scale", "floor", "noise")


@dataclass(frozen=True, eq=False)
class Recalibration:
    """What turns the model's own mean and sigma into calibrated ones; correlations stay.

    ``mean -> mean + shift`` and ``sigma**2 -> (scale sigma)**2 + floor**2 + (noise / snr)**2``.

    The last term is there because a network learns from noise added to good spectra, whose labels
    stay good, while the labels of truly noisy spectra are noisy themselves.

    Parameters
    ----------
    shift, scale, floor, noise : ndarray, shape (L,) or (N, L)
        All but scale are in scaled label units; noise is the term at S/N = 1 a pixel.
    surveys : Mapping of str to Recalibration
        Of stars that one survey alone has seen, where that survey has terms of its own. All other
        stars, seen by several surveys or by one that is not here, have the terms above.
    """

    shift: NDArray
    scale: NDArray
    floor: NDArray
    noise: NDArray
    surveys: Mapping[str, Recalibration] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in TERMS:
            object.__setattr__(self, name, read_only(getattr(self, name), np.float64))
        object.__setattr__(self, "surveys", MappingProxyType(dict(self.surveys)))

    @classmethod
    def fit(
        cls,
        residual: NDArray,
        sigma: NDArray,
        snr: NDArray,
        surveys: ArrayLike | None = None,
        otherwise: Recalibration | None = None,
    ) -> Recalibration:
        """Fit shift and terms on stars that the model has not seen.

        The shift is the median residual. The ratios of the terms maximise a Student-t likelihood;
        their size is then set so that 68.3 per cent of the residuals are within one sigma.

        Parameters
        ----------
        residual, sigma : ndarray, shape (N, L)
            Scaled residuals (NaN where the truth is unknown) and the model's scaled sigma.
        snr : ndarray, shape (N,)
            S/N a pixel.
        surveys : array_like of str, shape (N,), optional
            Which survey has seen each star; empty for several. One that has at least 100 stars
            with a label gets terms of its own for it. Those of all stars together are for the rest.
        otherwise : Recalibration, optional
            What labels have of which there are fewer than 30 residuals.

        Raises
        ------
        InputError
            If a label has fewer than 30 known residuals, and there is no ``otherwise``.
        """
        together = cls(*_fitted(residual, sigma, snr, FEWEST, otherwise))
        names = np.asarray([] if surveys is None else surveys, dtype=str)
        own = {}
        for name in sorted(set(names.tolist()) - {""}):
            here = names == name
            enough = np.isfinite(residual[here]).sum(axis=0) >= FEWEST_OF_SURVEY
            if enough.any() and not here.all():
                parts = residual[here], sigma[here], snr[here]
                own[name] = cls(*_fitted(*parts, FEWEST_OF_SURVEY, together))
        return cls(together.shift, together.scale, together.floor, together.noise, own)

    def of(self, surveys: Sequence[str]) -> Recalibration:
        """Return the terms of each star, shape (N, L), for stars seen by these surveys.

        Parameters
        ----------
        surveys : sequence of str, length N
            Empty for stars that several surveys have seen.
        """
        each = [self.surveys.get(name, self) for name in surveys]
        labels = self.shift.shape[-1]
        shift, scale, floor, noise = (
            np.array([getattr(one, term) for one in each]).reshape(-1, labels) for term in TERMS
        )
        return Recalibration(shift, scale, floor, noise)

    def sigma(self, sigma: NDArray, snr: NDArray) -> NDArray:
        """Return recalibrated standard deviations, shape (N, L), for stars of S/N (N,)."""
        per_snr = self.noise / np.maximum(np.asarray(snr), LOWEST_SNR)[:, None]
        return np.sqrt((self.scale * sigma) ** 2 + self.floor**2 + per_snr**2)

    def covariance(self, covariance: NDArray, snr: NDArray) -> NDArray:
        """Return the recalibrated covariance, shape (N, L, L), with the same correlations."""
        sigma = np.sqrt(np.diagonal(covariance, axis1=-2, axis2=-1))
        ratio = self.sigma(sigma, snr) / sigma
        return covariance * ratio[..., :, None] * ratio[..., None, :]


def _fitted(
    residual: NDArray, sigma: NDArray, snr: NDArray, fewest: int, otherwise: Recalibration | None
) -> NDArray:
    """Shift, scale, floor and noise of all labels, shape (4, L)."""
    terms = np.empty((len(TERMS), residual.shape[1]))
    for j in range(residual.shape[1]):
        known = np.isfinite(residual[:, j])
        if known.sum() < fewest and otherwise is not None:
            terms[:, j] = [getattr(otherwise, term)[j] for term in TERMS]
            continue
        if known.sum() < fewest:
            raise InputError(
                f"recalibration of label {j}",
                expected=f"at least {fewest} calibration stars that have it",
                found=str(int(known.sum())),
                fix="Raise data.calibration or data.folds, or leave the label out.",
            )
        shift = np.median(residual[known, j])
        spread = _terms(
            residual[known, j] - shift, sigma[known, j], np.maximum(snr[known], LOWEST_SNR)
        )
        terms[:, j] = [shift, *spread]
    return terms


def _terms(residual: NDArray, sigma: NDArray, snr: NDArray) -> NDArray:
    """Scale, floor and noise of one label."""

    def width(logs: NDArray) -> NDArray:
        scale, floor, noise = np.exp(logs)
        return np.sqrt((scale * sigma) ** 2 + floor**2 + (noise / snr) ** 2)

    def loss(logs: NDArray) -> float:
        z2 = (residual / width(logs)) ** 2
        return float(np.mean(np.log(width(logs)) + (DEGREES + 1) / 2 * np.log1p(z2 / DEGREES)))

    typical = np.median(sigma)
    bounds = [(-3.0, 3.0), (np.log(1e-4), np.log(10.0)), (np.log(1e-3), np.log(100.0))]
    starts = [
        [0.0, np.log(0.1 * typical), np.log(fraction * typical * np.median(snr))]
        for fraction in (0.1, 0.5, 1.0)
    ]
    fits = [
        minimize(loss, np.clip(start, *np.transpose(bounds)), bounds=bounds, method="L-BFGS-B")
        for start in starts
    ]
    logs = min(fits, key=lambda fit: fit.fun).x
    return np.exp(logs) * np.quantile(np.abs(residual) / width(logs), 0.683)


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
    stars : Labels, optional
        Which stars the reference is, and their labels: K rows.

    Raises
    ------
    InputError
        If the stars are not as many as the embeddings.
    """

    reference: NDArray
    width: NDArray
    limit: float
    stars: Labels | None = None

    def __post_init__(self) -> None:
        if self.stars is not None and len(self.stars) != len(self.reference):
            raise InputError(
                "coverage",
                expected=f"labels of the {len(self.reference)} reference stars",
                found=f"{len(self.stars)} stars",
            )

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
        spread = reference.std(axis=0)
        # of a dimension in which training stars do not differ, rounding would be all that counts
        width = np.maximum(spread, FAINTEST * np.sqrt(np.mean(spread**2))) + 1e-6
        coverage = cls(read_only(reference, np.float32), read_only(width, np.float32), np.inf)
        distance = coverage._to_each_other() if unseen is None else coverage.distance(unseen)
        return cls(coverage.reference, coverage.width, float(np.quantile(distance, INSIDE)))

    def distance(self, embedding: NDArray) -> NDArray:
        """Return the mean distance to the nearest reference stars, shape (N,)."""
        return self._distance(embedding)

    def farther(self, embedding: NDArray) -> float:
        """Return how much farther from the reference stars others are than these from each other.

        In the median, as the farthest of a hundred stars are a matter of chance.

        Parameters
        ----------
        embedding : ndarray, shape (N, D)
        """
        return float(np.median(self.distance(embedding)) / np.median(self._to_each_other()))

    def _to_each_other(self) -> NDArray:
        return self._distance(self.reference, skip=1)

    def _distance(self, embedding: NDArray, skip: int = 0) -> NDArray:
        neighbours = min(NEIGHBOURS, len(self.reference) - 1)
        found, _ = self._tree.query(embedding / self.width, k=neighbours + skip)
        return np.atleast_2d(found)[:, skip:].mean(axis=1)

    def nearest(self, embedding: NDArray, count: int) -> tuple[NDArray, NDArray]:
        """Return which reference stars are nearest and how far, both of shape (N, count).

        Parameters
        ----------
        embedding : ndarray, shape (N, D)
        count : int
            At most as many as there are reference stars.
        """
        distance, which = self._tree.query(embedding / self.width, k=range(1, count + 1))
        return which, distance

    @cached_property
    def _tree(self) -> cKDTree:
        return cKDTree(self.reference / self.width)

    def outside(self, embedding: NDArray) -> NDArray:
        """Tell which stars are not covered, shape (N,), bool."""
        return self.distance(embedding) > self.limit
