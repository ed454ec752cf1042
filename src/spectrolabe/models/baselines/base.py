"""What all baselines share: features, folds, scaling, and uncertainties from held-out stars."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from spectrolabe.errors import InputError
from spectrolabe.labels import Labels, LabelScale
from spectrolabe.models.baselines.features import PixelFeatures
from spectrolabe.models.posterior import LabelPosterior
from spectrolabe.spectra import Spectrum

__all__ = ["Baseline", "Member", "Pixels"]

Member = Callable[[NDArray], NDArray]
"""One trained regression: normalised flux (N, P) to scaled labels (N, L)."""


@dataclass(frozen=True, eq=False)
class Pixels:
    """Stars as a regression sees them.

    Parameters
    ----------
    flux : ndarray, shape (N, P), float32
        Normalised flux, 1 where unusable.
    labels : ndarray, shape (N, L)
        Scaled labels, NaN where not known.
    noise : ndarray, shape (P,)
        Typical 1-sigma error of the flux.
    """

    flux: NDArray
    labels: NDArray
    noise: NDArray

    def take(self, rows: NDArray) -> Pixels:
        """Return these stars."""
        return Pixels(self.flux[rows], self.labels[rows], self.noise)


class Baseline(ABC):
    """A standard regression from pixels to labels, behind the interface of `LabelModel`.

    The stars are cut into folds. One member is trained for each fold, on the stars of the others;
    it may use its own fold to know when to stop. The prediction is the mean of the members. The
    uncertainty of a label is one number for all stars: 1.4826 MAD of what each member gets wrong
    on its own fold.

    Parameters
    ----------
    seed : int
        Same seed, same model.
    folds : int
        Number of members.
    """

    pixels_per_fwhm: ClassVar[float] = 1.0
    width: ClassVar[float] = 0.01

    def __init__(self, *, seed: int = 0, folds: int = 5) -> None:
        self.seed, self.folds = seed, folds
        self._members: list[Member] = []
        self._features: PixelFeatures | None = None
        self._scale: LabelScale | None = None
        self._sigma: NDArray = np.empty(0)

    @abstractmethod
    def _fit(self, training: Pixels, held_out: Pixels, rng: np.random.Generator) -> Member:
        """Train one member; ``held_out`` is only for early stopping."""

    @property
    def names(self) -> tuple[str, ...]:
        """The labels it predicts."""
        return self._fitted()[1].names

    def fit(self, stars: Sequence[Sequence[Spectrum]], labels: Labels) -> Self:
        """Train on N stars.

        Parameters
        ----------
        stars : sequence of sequence of Spectrum
            N stars, one or more spectra each.
        labels : Labels
            Of the same N stars in the same order; NaN where not known. Rows of one ``star_id``
            are kept in one fold.

        Raises
        ------
        InputError
            If the numbers of stars differ, or a label is known for too few of them.
        """
        self._check(stars, labels)
        rng = np.random.default_rng(self.seed)
        features = PixelFeatures.fit(stars, width=self.width, pixels_per_fwhm=self.pixels_per_fwhm)
        scale = LabelScale.fit(labels)
        flux, _ = features.transform(stars)
        pixels = Pixels(flux, scale.scale(labels.values), features.noise)
        fold = _folds(labels.star_id, self.folds, rng)
        members, residual = [], np.full(pixels.labels.shape, np.nan)
        for i, own in enumerate(np.random.SeedSequence(self.seed).spawn(self.folds)):
            inside = fold == i
            held_out = pixels.take(inside)
            member = self._fit(pixels.take(~inside), held_out, np.random.default_rng(own))
            residual[inside] = member(held_out.flux) - held_out.labels
            members.append(member)
        spread = np.nanmedian(np.abs(residual - np.nanmedian(residual, axis=0)), axis=0)
        self._members, self._features, self._scale = members, features, scale
        self._sigma = 1.4826 * spread * scale.width
        return self

    def predict(self, stars: Sequence[Sequence[Spectrum]]) -> LabelPosterior:
        """Return the labels of N stars; NaN for a star without a usable pixel on the grid.

        Raises
        ------
        InputError
            If it is not fitted, or a spectrum has no radial velocity.
        """
        features, scale = self._fitted()
        flux, ivar = features.transform(stars)
        shape = (len(stars), len(scale.names))
        scaled = [member(flux) for member in self._members] if len(stars) else [np.empty(shape)]
        mean = scale.unscale(np.mean(scaled, axis=0))
        sigma = np.broadcast_to(self._sigma, shape).copy()
        empty = ~(ivar > 0).any(axis=1)
        mean[empty], sigma[empty] = np.nan, np.nan
        star_id = np.array([star[0].star_id for star in stars], dtype=str)
        return LabelPosterior.independent(scale.names, mean, sigma, star_id)

    def _fitted(self) -> tuple[PixelFeatures, LabelScale]:
        if self._features is None or self._scale is None:
            raise InputError(
                type(self).__name__, expected="a fitted model", found="none", fix="fit"
            )
        return self._features, self._scale

    def _check(self, stars: Sequence[Sequence[Spectrum]], labels: Labels) -> None:
        if len(stars) != len(labels):
            raise InputError(
                "training labels", expected=f"{len(stars)} rows", found=f"{len(labels)}"
            )
        known = np.isfinite(labels.values).sum(axis=0)
        few = [name for name, n in zip(labels.names, known, strict=True) if n < 4 * self.folds]
        if few or len(np.unique(labels.star_id)) < self.folds:
            raise InputError(
                "training labels",
                expected=f"at least {4 * self.folds} stars with each label",
                found=f"{dict(zip(labels.names, known.tolist(), strict=True))} of {len(labels)}",
                fix="Leave the label out or give more stars.",
            )


def _folds(star_id: NDArray, folds: int, rng: np.random.Generator) -> NDArray:
    """The fold of each row, shape (N,); rows of one star share theirs."""
    _, star = np.unique(star_id, return_inverse=True)
    return rng.permutation(star.max() + 1)[star] % folds
