"""Few numbers instead of many pixels: components of normalised flux in units of its noise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.cross_decomposition import PLSRegression
from sklearn.decomposition import PCA

from spectrolabe.models.baselines.base import Pixels

__all__ = ["PartialLeastSquares", "PrincipalComponents"]


class PrincipalComponents:
    """Principal components of a training set, each pixel weighted by its S/N.

    Parameters
    ----------
    training : Pixels
    components : int
        At most; fewer when there are fewer stars or pixels.
    seed : int
    """

    def __init__(self, training: Pixels, components: int, seed: int) -> None:
        self.centre, self.noise = np.median(training.flux, axis=0), training.noise
        components = min(components, len(training.flux) - 1, training.flux.shape[1])
        self.pca = PCA(components, svd_solver="randomized", random_state=seed)
        self.pca.fit((training.flux - self.centre) / self.noise)

    def __call__(self, flux: NDArray) -> NDArray:
        """Return the scores of normalised flux (N, P), shape (N, components)."""
        return self.pca.transform((flux - self.centre) / self.noise)


class PartialLeastSquares:
    """Directions in which spectra change with one label, scaled to a spread of 1.

    Parameters
    ----------
    training : Pixels
    label : int
        Column of the labels; stars without it are not used.
    components : int
    """

    LIMIT = 4.0  # scaled labels beyond it are outliers and must not choose the directions

    def __init__(self, training: Pixels, label: int, components: int) -> None:
        self.centre, self.noise = np.median(training.flux, axis=0), training.noise
        values = training.labels[:, label]
        known = np.isfinite(values)
        flux = (training.flux[known] - self.centre) / self.noise
        self.values = values[known]
        components = min(components, len(flux) - 1, flux.shape[1])
        clipped = np.clip(self.values, -self.LIMIT, self.LIMIT)
        self.pls = PLSRegression(components, scale=False).fit(flux, clipped)
        scores = self.pls.transform(flux)
        self.spread = np.std(scores, axis=0)
        self.scores = scores / self.spread

    def __call__(self, flux: NDArray) -> NDArray:
        """Return the scores of normalised flux (N, P), shape (N, components)."""
        return self.pls.transform((flux - self.centre) / self.noise) / self.spread
