"""What a fit says of stars: labels with covariances, velocities, the model spectra, and flags."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spectrolabe.models.posterior import LabelPosterior

__all__ = ["FitResult", "ModelSpectrum"]


@dataclass(frozen=True, eq=False)
class ModelSpectrum:
    """The best model of one spectrum, M pixels.

    Parameters
    ----------
    flux : ndarray, shape (M,)
        In the units of the spectrum, continuum included; NaN where there is no model.
    continuum : ndarray, shape (M,)
    used : ndarray of bool, shape (M,)
        Pixels that counted in the end.
    variance_floor : ndarray, shape (M,)
        What was added to the variance of the flux for the errors of the model; NaN where a pixel
        was masked from the beginning, but not where it was left out as an outlier.
    """

    flux: NDArray
    continuum: NDArray
    used: NDArray
    variance_floor: NDArray


@dataclass(frozen=True, eq=False)
class FitResult:
    """The fits of N stars: J labels, up to S spectra each.

    Parameters
    ----------
    names : tuple of str
        The labels that were fitted.
    star_id : ndarray of str, shape (N,)
    values : ndarray, shape (N, J)
        NaN where the spectra hold no information on a label, or there is no result.
    covariance : ndarray, shape (N, J, J)
        Where a spectrum fits worse than its errors say, these were enlarged before it was weighed
        against priors and other spectra; NaN as the values.
    formal_covariance : ndarray, shape (N, J, J)
        As the errors have it, those of the model included.
    fitted : ndarray, shape (N, J)
        The labels of the model spectra: as ``values``, but also where they mean little.
    all_names : tuple of str
        The L labels of the emulators.
    all_labels : ndarray, shape (N, L)
        ``fitted``, and what the other labels were held at.
    chi2 : ndarray, shape (N,)
        Of the pixels used, with the model error in their variance, without the priors.
    n_pixels, n_parameters, n_clipped : ndarray of int, shape (N,)
        Pixels that counted; parameters, continua included; pixels left out as outliers.
    shift, e_shift : ndarray, shape (N, S)
        Velocity of each wavelength scale, km/s: wavelength / (1 + shift / c) is at rest.
    rv : ndarray, shape (N, S)
        Radial velocity: the shift, and for spectra at rest also what was taken out before.
    v_broad, e_v_broad : ndarray, shape (N,)
        FWHM in km/s; NaN if it was not fitted.
    result_flags : ndarray of int, shape (N,)
        Bits of `ResultFlag`.
    label_flags : ndarray of int, shape (N, J)
        Bits of `LabelFlag`.
    messages : tuple of N tuples of str
        What the flags mean for this star.
    evaluations : ndarray of int, shape (N,)
        Model spectra, with derivatives, that the fit took.
    models : tuple of N tuples
        A `ModelSpectrum` for each spectrum; empty if there is no result.
    priors : Mapping
        Every prior that was used: label to mean and standard deviation.
    """

    names: tuple[str, ...]
    star_id: NDArray
    values: NDArray
    covariance: NDArray
    formal_covariance: NDArray
    fitted: NDArray
    all_names: tuple[str, ...]
    all_labels: NDArray
    chi2: NDArray
    n_pixels: NDArray
    n_parameters: NDArray
    n_clipped: NDArray
    shift: NDArray
    e_shift: NDArray
    rv: NDArray
    v_broad: NDArray
    e_v_broad: NDArray
    result_flags: NDArray
    label_flags: NDArray
    messages: tuple[tuple[str, ...], ...]
    evaluations: NDArray
    models: tuple[tuple[ModelSpectrum, ...], ...]
    priors: Mapping[str, Any]

    def __len__(self) -> int:
        return len(self.star_id)

    @property
    def e_rv(self) -> NDArray:
        """Uncertainty of each velocity, shape (N, S), km/s."""
        return self.e_shift

    @property
    def sigma(self) -> NDArray:
        """Standard deviations of the labels, shape (N, J)."""
        return np.sqrt(np.diagonal(self.covariance, axis1=1, axis2=2))

    @property
    def chi2_reduced(self) -> NDArray:
        """chi2 per degree of freedom, shape (N,)."""
        return self.chi2 / np.maximum(self.n_pixels - self.n_parameters, 1)

    @property
    def posterior(self) -> LabelPosterior:
        """Labels and covariances."""
        return LabelPosterior(self.names, self.values, self.covariance, self.star_id)
