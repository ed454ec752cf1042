"""Emission lines, as what a spectrum has above its model where stars and nebulae shine."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spectrolabe.inference.correlation import MODEL_ERROR
from spectrolabe.spectra import Spectrum
from spectrolabe.spectra.wavelength import SPEED_OF_LIGHT

__all__ = ["EMISSION_LINES", "emission", "emission_strengths"]

EMISSION_LINES: dict[str, dict[str, float]] = {
    "Hα": {"Hα": 6564.61},
    "Ca II H and K": {"Ca II K": 3934.77, "Ca II H": 3969.59},
    "Ca II triplet": {"Ca II 8500": 8500.35, "Ca II 8544": 8544.44, "Ca II 8665": 8664.52},
    "nebular lines": {
        "Hβ": 4862.68,
        "[O III] 4960": 4960.30,
        "[O III] 5008": 5008.24,
        "[N II] 6550": 6549.85,
        "[N II] 6585": 6585.27,
        "[S II] 6718": 6718.29,
        "[S II] 6733": 6732.67,
    },
}
"""Vacuum Angstrom (NIST Atomic Spectra Database) of lines of chromospheres, discs and nebulae, in
groups that are seen together."""
LEAST_HEIGHT = {"Ca II H and K": 0.35}  # their cores are not in LTE: models are too deep
LEAST_LINES = {"Hα": 1}  # of a group, two if not given: one alone may be a residual of the sky
EMISSION_WIDTHS = (40.0, 250.0)  # km/s FWHM: a chromosphere or nebula, a disc
EMISSION_SIGMA, EMISSION_LEAST = 6.0, 0.12  # errors, and of the continuum
OFFSETS = (-0.4, 0.0, 0.4)  # of the line's width: emission need not have the star's velocity
REACH = 0.005  # of the wavelength: 1500 km/s to either side of a line


def emission_strengths(
    spectrum: Spectrum, ivar: NDArray, model: NDArray, shift: float
) -> dict[str, tuple[float, float]]:
    """Return the strongest emission at each line: height over the continuum, and its significance.

    A Gaussian of the instrument's width and that of `EMISSION_WIDTHS`, fitted to the residuals.
    """
    wavelength = spectrum.wavelength / (1.0 + shift / SPEED_OF_LIGHT)
    resolution = np.broadcast_to(spectrum.resolution, wavelength.shape)
    lines = {name: line for group in EMISSION_LINES.values() for name, line in group.items()}
    at = np.array(list(lines.values()))
    ends = np.searchsorted(wavelength, (at * (1 - REACH), at * (1 + REACH)))
    found = {}
    for name, line, first, last in zip(lines, at, *ends, strict=True):
        near_line = first + np.flatnonzero(ivar[first:last] > 0)
        if near_line.size < 5:
            continue
        velocity = SPEED_OF_LIGHT * (wavelength[near_line] / line - 1.0)
        instrument = SPEED_OF_LIGHT / resolution[first]
        if np.abs(velocity).min() > 0.5 * instrument:
            continue
        own = model[near_line]
        level = _quantile(own, 0.9)
        if not level > 0:
            continue
        residual = (spectrum.flux[near_line] - own) / level
        variance = 1.0 / (ivar[near_line] * level**2) + MODEL_ERROR**2
        if np.count_nonzero(residual > np.maximum(0.3 * EMISSION_LEAST, np.sqrt(variance))) < 2:
            found[name] = 0.0, 0.0
            continue
        fwhm = np.hypot(instrument, EMISSION_WIDTHS)
        best = max(
            _height(velocity - part * width, residual, variance, width)
            for width in fwhm
            for part in OFFSETS
        )
        found[name] = best[1], best[0]
    return found


def _quantile(values: NDArray, share: float) -> float:
    """As `numpy.quantile`, which takes ten times as long for so few values."""
    place = share * (len(values) - 1)
    below = int(place)
    ordered = np.partition(values, (below, min(below + 1, len(values) - 1)))
    low, high = ordered[below], ordered[min(below + 1, len(values) - 1)]
    return float(low + (place - below) * (high - low))


def _height(
    velocity: NDArray, residual: NDArray, variance: NDArray, width: float
) -> tuple[float, float]:
    """Significance and height of a Gaussian in residuals; 0 unless two pixels agree on it."""
    profile = np.exp(-4.0 * np.log(2.0) * (velocity / width) ** 2)
    information = (profile**2 / variance).sum()
    height = (profile * residual / variance).sum() / max(information, 1e-30)
    inside = profile > 0.3
    high = inside & (residual > 0.5 * height * profile) & (residual > np.sqrt(variance))
    agreed = high.sum() >= max(2, 0.6 * inside.sum())
    return (float(height * np.sqrt(information)), float(height)) if agreed else (0.0, 0.0)


def emission(spectrum: Spectrum, ivar: NDArray, model: NDArray, shift: float) -> str:
    """Return a sentence that names the emission lines of a spectrum; empty if there are none.

    Parameters
    ----------
    spectrum : Spectrum
    ivar : ndarray, shape (M,)
        0 where the model must not be compared.
    model : ndarray, shape (M,)
        Continuum included.
    shift : float
        Velocity of the wavelength scale, km/s.
    """
    strengths = emission_strengths(spectrum, ivar, model, shift)
    seen: list[str] = []
    for group, lines in EMISSION_LINES.items():
        least = LEAST_HEIGHT.get(group, EMISSION_LEAST)
        high = [
            f"{name} ({100 * strengths[name][0]:.0f} per cent)"
            for name in lines
            if name in strengths
            and strengths[name][0] > least
            and strengths[name][1] > EMISSION_SIGMA
        ]
        seen += high if len(high) >= LEAST_LINES.get(group, 2) else []
    return f"emission above the model, of the continuum: {', '.join(seen)}" if seen else ""
