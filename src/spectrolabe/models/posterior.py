"""What a model says about stars: labels with a covariance, and what a model is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from spectrolabe.errors import InputError, unknown_name
from spectrolabe.labels import Labels, label, read_only
from spectrolabe.spectra import Spectrum

__all__ = ["SCORES", "LabelModel", "LabelPosterior"]

SCORES = read_only(np.linspace(-3.5, 3.5, 57))
"""Normal scores of the probabilities at which a marginal that is not normal has its `levels`."""

SYMMETRY = 1e-6  # largest difference of two mirrored correlations that rounding may leave


@dataclass(frozen=True, eq=False)
class LabelPosterior:
    """Posteriors of L labels for N stars; the arrays cannot be written.

    The marginals are normal unless they have ``levels``, their quantiles; correlated as a normal
    distribution is in either case, that is, by a Gaussian copula. A label on which the spectrum
    holds no information has NaN mean, covariance and levels.

    Parameters
    ----------
    names : tuple of str
        L label names of the registry.
    mean : ndarray, shape (N, L), float64
        In the units of the registry.
    covariance : ndarray, shape (N, L, L), float64
        Symmetric, with positive variances.
    star_id : ndarray of str, shape (N,)
        What the rows belong to.
    levels : ndarray, shape (N, L, Q), float64, optional
        Quantiles of each marginal at the probabilities whose normal scores are `SCORES`; what is
        between two of them is linear in the normal score, so that those of a normal are exact.

    Raises
    ------
    InputError
        If a name is unknown or repeated, shapes disagree, a variance is not positive, a covariance
        is not symmetric, or levels do not ascend.
    """

    names: tuple[str, ...]
    mean: NDArray
    covariance: NDArray
    star_id: NDArray
    levels: NDArray | None = None

    def __post_init__(self) -> None:
        put = lambda key, value: object.__setattr__(self, key, value)  # noqa: E731
        put("names", tuple(self.names))
        put("mean", read_only(self.mean, np.float64))
        put("covariance", read_only(self.covariance, np.float64))
        put("star_id", read_only(np.asarray(self.star_id, dtype=str)))
        if self.levels is not None:
            put("levels", read_only(self.levels, np.float64))
        self._check()

    def _check(self) -> None:
        for name in self.names:
            label(name)
        if len(set(self.names)) != len(self.names):
            raise InputError("posterior", expected="each name once", found=f"{self.names}")
        stars, labels = len(self.star_id), len(self.names)
        shapes = {"mean": (stars, labels), "covariance": (stars, labels, labels)}
        if self.levels is not None:
            shapes["levels"] = (stars, labels, len(SCORES))
        for what, shape in shapes.items():
            found = getattr(self, what).shape
            if found != shape:
                raise InputError(
                    f"posterior.{what}", expected=f"shape {shape}", found=f"shape {found}"
                )
        variance = np.diagonal(self.covariance, axis1=1, axis2=2)
        wrong = (variance <= 0) | np.isinf(variance)
        if wrong.any():
            row, column = np.argwhere(wrong)[0]
            raise InputError(
                f"posterior of {self.star_id[row]}",
                expected=f"a positive, finite variance of {self.names[column]}, or NaN",
                found=f"{variance[row, column]}",
            )
        skew = np.abs(self.correlation - np.swapaxes(self.correlation, 1, 2))
        if (skew > SYMMETRY).any():
            row = int(np.argwhere(skew > SYMMETRY)[0][0])
            raise InputError(
                f"posterior of {self.star_id[row]}",
                expected="a symmetric covariance",
                found=f"mirrored correlations that differ by {np.nanmax(skew[row]):.3g}",
            )
        if self.levels is not None:
            self._check_levels(self.levels)

    def _check_levels(self, levels: NDArray) -> None:
        falls: NDArray = np.any(np.diff(levels, axis=2) < 0, axis=2)
        lost = np.isfinite(self.mean) & ~np.isfinite(levels).all(axis=2)
        if (falls | lost).any():
            row, column = np.argwhere(falls | lost)[0]
            raise InputError(
                f"posterior of {self.star_id[row]}",
                expected=f"finite levels of {self.names[column]} that ascend",
                found="levels that fall" if falls[row, column] else "NaN or infinite levels",
            )

    @classmethod
    def independent(
        cls, names: Sequence[str], mean: ArrayLike, sigma: ArrayLike, star_id: ArrayLike
    ) -> LabelPosterior:
        """Return a posterior without correlations.

        Parameters
        ----------
        names : sequence of str
        mean, sigma : array_like, shape (N, L)
            ``sigma`` may also be of shape (L,), the same for every star.
        star_id : array_like of str, shape (N,)
        """
        mean = np.asarray(mean, dtype=np.float64)
        sigma = np.broadcast_to(np.asarray(sigma, dtype=np.float64), mean.shape)
        diagonal = np.eye(mean.shape[-1], dtype=bool)
        with np.errstate(invalid="ignore"):
            covariance = np.where(diagonal, sigma[..., None] ** 2, 0.0)
        unknown = np.isnan(sigma)
        covariance[unknown[:, :, None] | unknown[:, None, :]] = np.nan
        return cls(tuple(names), mean, covariance, np.asarray(star_id))

    def __len__(self) -> int:
        return len(self.star_id)

    def __getitem__(self, name: str) -> NDArray:
        return self.mean[:, self.index([name])[0]]

    def index(self, names: Iterable[str]) -> list[int]:
        """Return the columns of the given labels, in the order asked for."""
        names, where = list(names), {name: i for i, name in enumerate(self.names)}
        for name in names:
            if name not in where:
                raise unknown_name("posterior", name, where, kind="label of this posterior")
        return [where[name] for name in names]

    @property
    def sigma(self) -> NDArray:
        """Standard deviations, shape (N, L)."""
        return np.sqrt(np.diagonal(self.covariance, axis1=1, axis2=2))

    @property
    def correlation(self) -> NDArray:
        """Correlations, shape (N, L, L); NaN where a variance is NaN."""
        sigma = self.sigma
        return self.covariance / (sigma[:, :, None] * sigma[:, None, :])

    def to_labels(self) -> Labels:
        """Return the means and standard deviations without the correlations."""
        return Labels(self.names, self.mean, self.sigma, self.star_id)

    def quantiles(self, probabilities: ArrayLike) -> NDArray:
        """Return the quantiles of each label's marginal, shape (Q, N, L).

        Parameters
        ----------
        probabilities : array_like, shape (Q,)
            Between 0 and 1, both excluded.
        """
        probabilities = np.atleast_1d(np.asarray(probabilities, dtype=np.float64))
        if not ((probabilities > 0) & (probabilities < 1)).all():
            raise InputError(
                "quantiles", expected="probabilities between 0 and 1", found=f"{probabilities}"
            )
        scores = np.broadcast_to(
            ndtri(probabilities)[:, None, None], (len(probabilities), *self.mean.shape)
        )
        return self._at(scores)

    def scores(self, values: ArrayLike) -> NDArray:
        """Return the normal scores of values, shape (N, L): of a normal marginal, the pulls.

        The cumulative probability at a value is the normal distribution function of its score.

        Parameters
        ----------
        values : array_like, shape (N, L)
            NaN where not known.
        """
        values = np.asarray(values, dtype=np.float64)
        if self.levels is None:
            return (values - self.mean) / self.sigma
        below = (self.levels <= values[..., None]).sum(axis=-1) - 1
        i = np.clip(below, 0, len(SCORES) - 2)
        low, high = _pair(self.levels, i)
        with np.errstate(divide="ignore", invalid="ignore"):
            # where the outermost levels are one value, what is beyond it is infinitely far
            part = np.where(values == high, 1.0, (values - low) / (high - low))
        return SCORES[i] + (SCORES[1] - SCORES[0]) * part

    def _at(self, scores: NDArray) -> NDArray:
        """Values at normal scores of shape (n, N, L)."""
        if self.levels is None:
            return self.mean + scores * self.sigma
        step = SCORES[1] - SCORES[0]
        place = (scores - SCORES[0]) / step
        i = np.clip(np.floor(place), 0, len(SCORES) - 2).astype(np.intp)
        low, high = _pair(self.levels, i)
        return low + (place - i) * (high - low)

    def samples(self, rng: np.random.Generator, n: int) -> NDArray:
        """Draw from the posterior, shape (n, N, L); NaN labels stay NaN.

        Marginals with levels are joined by a Gaussian copula of the stated correlation.

        Raises
        ------
        InputError
            If a covariance is not positive semi-definite.
        """
        correlation = np.where(np.isnan(self.correlation), 0.0, self.correlation)
        # correlations and not covariances: variances of teff and fe_h differ by 1e6
        values, vectors = np.linalg.eigh(correlation)
        if (values < -SYMMETRY * len(self.names)).any():
            row = int(np.argmin(values.min(axis=1)))
            raise InputError(
                f"posterior of {self.star_id[row]}",
                expected="a positive semi-definite covariance",
                found=f"a correlation matrix with eigenvalue {values[row].min():.3g}",
            )
        root = vectors * np.sqrt(np.clip(values, 0.0, None))[:, None, :]
        normal = rng.standard_normal((n, *self.mean.shape))
        return self._at(np.einsum("nij,snj->sni", root, normal))

    def select(self, names: Sequence[str]) -> LabelPosterior:
        """Return the same stars with only these labels, in this order."""
        columns = self.index(names)
        covariance = self.covariance[:, columns][:, :, columns]
        levels = None if self.levels is None else self.levels[:, columns]
        return LabelPosterior(tuple(names), self.mean[:, columns], covariance, self.star_id, levels)

    def take(self, rows: ArrayLike) -> LabelPosterior:
        """Return these rows (indices or a boolean array)."""
        rows = np.asarray(rows)
        levels = None if self.levels is None else self.levels[rows]
        return LabelPosterior(
            self.names, self.mean[rows], self.covariance[rows], self.star_id[rows], levels
        )

    def without(self, unknown: ArrayLike) -> LabelPosterior:
        """Return the same posteriors, without the labels of stars that are told to be unknown.

        Parameters
        ----------
        unknown : array_like of bool, shape (N, L)
        """
        unknown = np.asarray(unknown, dtype=bool)
        covariance = self.covariance.copy()
        covariance[unknown[:, :, None] | unknown[:, None, :]] = np.nan
        mean = np.where(unknown, np.nan, self.mean)
        levels = None if self.levels is None else np.where(unknown[..., None], np.nan, self.levels)
        return LabelPosterior(self.names, mean, covariance, self.star_id, levels)


def _pair(levels: NDArray, i: NDArray) -> tuple[NDArray, NDArray]:
    """Levels i and i + 1 of every marginal; i of shape (N, L) or (n, N, L)."""
    stars, labels = np.ogrid[: levels.shape[0], : levels.shape[1]]
    return levels[stars, labels, i], levels[stars, labels, i + 1]


@runtime_checkable
class LabelModel(Protocol):
    """Anything that maps spectra to labels: an encoder, a fit, a baseline."""

    @property
    def names(self) -> tuple[str, ...]:
        """The L labels it predicts."""

    def predict(self, stars: Sequence[Sequence[Spectrum]]) -> LabelPosterior:
        """Return the posterior of each star.

        Parameters
        ----------
        stars : sequence of sequence of Spectrum
            Outer: N stars; inner: one or more spectra of that star.
        """
