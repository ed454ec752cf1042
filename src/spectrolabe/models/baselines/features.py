"""What every baseline sees: rest-frame, normalised flux on one grid of wavelengths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spectrolabe.errors import InputError
from spectrolabe.labels import read_only
from spectrolabe.spectra import Spectrum, normalise, resample, to_rest_frame

__all__ = ["PixelFeatures"]

HIGHEST = 2.0  # normalised flux above it is a cosmic ray, not a star


@dataclass(frozen=True, eq=False)
class PixelFeatures:
    """The grid of a training set, and how a star becomes one row of pixels on it.

    Parameters
    ----------
    wavelength : ndarray, shape (P,)
        Rest wavelengths in Angstrom, equal steps in the logarithm but for pixels left out.
    noise : ndarray, shape (P,)
        Median 1-sigma error of the normalised flux over the training stars.
    width : float
        Sigma of the running continuum in ln(wavelength).
    """

    wavelength: NDArray
    noise: NDArray
    width: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "wavelength", read_only(self.wavelength, np.float64))
        object.__setattr__(self, "noise", read_only(self.noise, np.float64))

    @classmethod
    def fit(
        cls,
        stars: Sequence[Sequence[Spectrum]],
        *,
        width: float = 0.02,
        pixels_per_fwhm: float = 1.2,
    ) -> PixelFeatures:
        """Return the features of a training set.

        The grid runs over the median range of the stars, with pixels tied to the median resolution;
        pixels that less than half of the stars have are left out.

        Parameters
        ----------
        stars : sequence of sequence of Spectrum
            N stars, one or more spectra each.
        width : float
            Sigma of the running continuum in ln(wavelength).
        pixels_per_fwhm : float
            Pixels of the grid within one FWHM of the line-spread function.

        Raises
        ------
        InputError
            If there is no star, or no pixel that half of them have.
        """
        if not len(stars):
            raise InputError("training stars", expected="at least one", found="none")
        flat = [to_rest_frame(spectrum) for star in stars for spectrum in star]
        resolution = np.median([np.median(spectrum.resolution) for spectrum in flat])
        ends = np.array([_range(star) for star in stars])
        low, high = np.log(np.nanmedian(ends, axis=0))
        step = 1.0 / (pixels_per_fwhm * resolution)
        wavelength = np.exp(np.arange(low, high, step))
        whole = cls(wavelength, np.ones(len(wavelength)), width)
        _, ivar = whole.transform(stars)
        covered = np.mean(ivar > 0, axis=0) >= 0.5
        if covered.sum() < 2:
            raise InputError(
                "training stars",
                expected="wavelengths that at least half of the stars have",
                found="no such pixel",
                fix="Train one model for each kind of spectrum.",
            )
        error = np.where(ivar > 0, 1.0 / np.sqrt(np.where(ivar > 0, ivar, 1.0)), np.nan)
        return cls(wavelength[covered], np.nanmedian(error[:, covered], axis=0), width)

    def transform(self, stars: Sequence[Sequence[Spectrum]]) -> tuple[NDArray, NDArray]:
        """Return normalised flux and ivar of each star, each of shape (N, P), float32.

        Spectra of one star are averaged by ivar. Unusable pixels have flux 1 and ivar 0.
        """
        flux = np.ones((len(stars), len(self.wavelength)), dtype=np.float32)
        ivar = np.zeros_like(flux)
        for row, star in enumerate(stars):
            total, weight = np.zeros(len(self.wavelength)), np.zeros(len(self.wavelength))
            for spectrum in star:
                values, weights = self._one(spectrum)
                total, weight = total + values * weights, weight + weights
            good = weight > 0
            flux[row, good] = np.clip(total[good] / weight[good], 0.0, HIGHEST)
            ivar[row] = weight
        return flux, ivar

    def _one(self, spectrum: Spectrum) -> tuple[NDArray, NDArray]:
        flat = normalise(to_rest_frame(spectrum), width=self.width)
        return resample(flat.wavelength, flat.flux, flat.ivar, self.wavelength)


def _range(star: Sequence[Spectrum]) -> tuple[float, float]:
    """First and last usable rest wavelength of a star; NaN when there is none."""
    rest = [to_rest_frame(spectrum) for spectrum in star]
    good = [spectrum.wavelength[spectrum.good] for spectrum in rest if spectrum.good.any()]
    if not good:
        return (np.nan, np.nan)
    return (min(w[0] for w in good), max(w[-1] for w in good))
