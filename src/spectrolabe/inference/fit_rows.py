"""Rows of the catalogue of a fit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from spectrolabe.catalogue import LabelFlag, ResultFlag, build_catalogue
from spectrolabe.homogenise.calibration import Calibration
from spectrolabe.inference.result import FitResult
from spectrolabe.inference.rows import identity_of
from spectrolabe.spectra import Spectrum

__all__ = ["catalogue_of_fit", "star_velocity"]


def catalogue_of_fit(
    result: FitResult, stars: Sequence[Sequence[Spectrum]], calibration: Calibration | None = None
) -> Table:
    """Return the catalogue rows of the fits of N stars.

    Parameters
    ----------
    result : FitResult
    stars : sequence of sequence of Spectrum
        Those that were fitted.
    calibration : Calibration, optional
        Makes ``<label>`` of ``raw_<label>``; without it the two are the same, and flagged
        ``UNCALIBRATED``.
    """
    raw = result.posterior
    if calibration is None:
        calibrated = raw
        scale = np.full(result.values.shape, int(LabelFlag.UNCALIBRATED))
    else:
        corrected = calibration.apply(raw)
        calibrated, scale = corrected.labels, corrected.flags
    rv, e_rv = star_velocity(result)
    flags = result.result_flags | np.where(
        np.isnan(result.values).all(axis=1), int(ResultFlag.NO_RESULT), 0
    )
    return build_catalogue(
        raw=raw,
        calibrated=calibrated,
        identity={**identity_of(stars), "rv": rv},
        result_flags=flags,
        label_flags=result.label_flags | scale,
        fit={
            "e_rv": e_rv,
            "v_broad": result.v_broad,
            "e_v_broad": result.e_v_broad,
            "chi2": result.chi2,
            "n_pixels": result.n_pixels,
            "n_clipped": result.n_clipped,
            "messages": ["; ".join(said) for said in result.messages],
        },
    )


def star_velocity(result: FitResult) -> tuple[NDArray, NDArray]:
    """Return the mean radial velocity of each star and its uncertainty, shapes (N,), km/s.

    The spectra are weighted by their own uncertainties; NaN where no spectrum was fitted.
    """
    known = np.isfinite(result.rv) & (result.e_rv > 0)
    weight = np.where(known, 1.0, 0.0)
    weight[known] = result.e_rv[known] ** -2
    total = weight.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.sum(np.where(known, result.rv, 0.0) * weight, axis=1) / total
        return np.where(total > 0, mean, np.nan), np.where(total > 0, total**-0.5, np.nan)
