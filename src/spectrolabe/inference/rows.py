"""Rows of the catalogue: labels of each star with flags, and what says which star it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from spectrolabe.catalogue import LabelFlag, ResultFlag, build_catalogue
from spectrolabe.models.estimator import Estimate, Estimator
from spectrolabe.spectra import Frame, Spectrum

__all__ = ["catalogue_of", "identity_of"]

FEWEST_PIXELS = 100
RESOLUTION_MARGIN = 1.5  # beyond the resolutions trained on
OF_EXPOSURE = "rv_residual"  # the error of a stated velocity; a star has none
PRIOR_FRACTION = 0.9  # of the spread of the training labels: a wider posterior says nothing new


def catalogue_of(
    estimator: Estimator,
    stars: Sequence[Sequence[Spectrum]],
    estimate: Estimate | None = None,
) -> Table:
    """Return the catalogue rows of N stars: labels, uncertainties, flags, identity.

    Parameters
    ----------
    estimator : Estimator
    stars : sequence of sequence of Spectrum
        Outer: stars; inner: the spectra of each, with at least one usable pixel.
    estimate : Estimate, optional
        What the estimator says of them, where it has been asked before.
    """
    estimate = estimator.estimate(stars) if estimate is None else estimate
    no_information = _no_information(estimator, estimate) | _of_no_exposure(estimator, stars)
    flags = _result_flags(estimator, estimate, stars)
    flags[no_information.all(axis=1)] |= ResultFlag.NO_RESULT
    return build_catalogue(
        raw=estimate.raw.without(no_information),
        calibrated=estimate.calibrated.without(no_information),
        identity=identity_of(stars),
        result_flags=flags,
        label_flags=_label_flags(estimator, estimate),
    )


def _no_information(estimator: Estimator, estimate: Estimate) -> NDArray:
    spread = estimator.card["training_data"]["label_spread"]
    prior = np.array([spread[name] for name in estimator.names])
    return estimate.calibrated.sigma > PRIOR_FRACTION * prior


def _of_no_exposure(estimator: Estimator, stars: Sequence[Sequence[Spectrum]]) -> NDArray:
    """Labels of an exposure, for stars whose spectra are of several: surveys or velocities."""
    several = [len({(s.survey, f"{s.rv:.3f}") for s in star}) > 1 for star in stars]
    of_exposure = [name == OF_EXPOSURE for name in estimator.names]
    return np.outer(several, of_exposure)


def identity_of(stars: Sequence[Sequence[Spectrum]]) -> dict[str, Any]:
    """Return what says which stars these are, by the names of the catalogue's columns."""

    def joined(values: Iterable[str]) -> str:
        return ";".join(dict.fromkeys(values))

    def number(star: Sequence[Spectrum], key: str) -> float:
        return float(next((s.meta[key] for s in star if s.meta.get(key) is not None), np.nan))

    return {
        "spectrum_id": [joined(s.spectrum_id for s in star) for star in stars],
        "survey": [joined(s.survey for s in star) for star in stars],
        "file": [joined(s.where for s in star) for star in stars],
        "ra": [number(star, "ra") for star in stars],
        "dec": [number(star, "dec") for star in stars],
        "n_spectra": [len(star) for star in stars],
        "snr": [float(np.sqrt(sum(s.snr**2 for s in star))) for star in stars],
        "rv": [float(star[0].rv) for star in stars],
    }


def _result_flags(
    estimator: Estimator, estimate: Estimate, stars: Sequence[Sequence[Spectrum]]
) -> NDArray:
    trained = estimator.card["training_data"]
    flags = np.zeros(len(stars), dtype=np.int64)
    flags[estimate.distance > 1.0] |= ResultFlag.OUT_OF_COVERAGE
    for i, star in enumerate(stars):
        if not any(_like_training(s, trained) for s in star):
            flags[i] |= ResultFlag.OUT_OF_COVERAGE
        if any(s.frame is not Frame.REST and not np.isfinite(s.rv) for s in star):
            flags[i] |= ResultFlag.NO_VELOCITY
        if max(s.snr for s in star) < trained["snr_range"][0]:
            flags[i] |= ResultFlag.LOW_SNR
        if sum(int(s.good.sum()) for s in star) < FEWEST_PIXELS:
            flags[i] |= ResultFlag.FEW_PIXELS
        if not {s.survey for s in star} <= set(trained["surveys"]):
            flags[i] |= ResultFlag.UNKNOWN_SURVEY
    return flags


def _like_training(spectrum: Spectrum, trained: Mapping[str, Any]) -> bool:
    """Half the good pixels within the wavelengths trained on, at a resolution trained on."""
    ranges = trained.get("wavelength_ranges", [trained["wavelength_range"]])
    good = spectrum.wavelength[spectrum.good]
    inside = sum(np.mean((good >= low) & (good <= high)) for low, high in ranges)
    resolution = float(np.median(spectrum.resolution))
    coarse, fine = trained["resolution_range"]
    fine = np.inf if "wavelength_ranges" in trained else fine  # brought down to it
    within = coarse / RESOLUTION_MARGIN <= resolution <= fine * RESOLUTION_MARGIN
    return bool(inside >= 0.5 and within)


def _label_flags(estimator: Estimator, estimate: Estimate) -> NDArray:
    ranges = estimator.card["training_data"]["label_range"]
    low, high = np.transpose([ranges[name] for name in estimator.names])
    mean = estimate.calibrated.mean
    below = np.where(mean < low, LabelFlag.BELOW_TRAINING, 0)
    return below | np.where(mean > high, LabelFlag.ABOVE_TRAINING, 0)
