"""Pixels that a model of stars cannot explain: absorbed by the Earth, or out of its range."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spectrolabe.models.emulator import Emulator
from spectrolabe.spectra import Frame, Spectrum
from spectrolabe.spectra.wavelength import SPEED_OF_LIGHT
from spectrolabe.surveys import SURVEYS

__all__ = ["TELLURIC", "telluric_mask", "usable_ivar"]

TELLURIC: tuple[tuple[float, float], ...] = (
    (6864.0, 6965.0),  # O2, the B band
    (7165.0, 7345.0),  # H2O
    (7590.0, 7720.0),  # O2, the A band
    (8125.0, 8350.0),  # H2O, weaker
    (8920.0, 9900.0),  # H2O
)
"""Vacuum Angstrom, observatory frame: bands deeper than about 5 per cent at R = 2000 from a good
site at low airmass (Catanzaro 1997, Ap&SS 257, 161; Smette et al. 2015, A&A 576, A77, fig. 1)."""

EARTH = 32.0  # km/s: the most by which the Earth's motion shifts a barycentric scale
SPREAD = 1.0  # FWHM of the instrument by which a band reaches beyond its edges


def telluric_mask(spectrum: Spectrum) -> NDArray:
    """Return where the Earth's atmosphere absorbs strongly, shape (M,), bool.

    Parameters
    ----------
    spectrum : Spectrum
        Those of surveys without such absorption (`Survey.telluric`) have none of it. In one at
        rest the bands lie at minus the velocity that was taken out.
    """
    survey = SURVEYS.get(spectrum.survey)
    if survey is not None and not survey.telluric:
        return np.zeros(len(spectrum), dtype=bool)
    log = np.log(spectrum.wavelength)
    reach = SPREAD / np.asarray(spectrum.resolution, dtype=np.float64) + EARTH / SPEED_OF_LIGHT
    if spectrum.frame == Frame.REST and np.isfinite(spectrum.rv):
        log = log + np.log1p(spectrum.rv / SPEED_OF_LIGHT)
    masked = np.zeros(len(spectrum), dtype=bool)
    for low, high in TELLURIC:
        masked |= (log > np.log(low) - reach) & (log < np.log(high) + reach)
    return masked


def usable_ivar(spectrum: Spectrum, emulator: Emulator, shift: float = 0.0) -> NDArray:
    """Return the inverse variance of the pixels that a fit may use, shape (M,), float32.

    Parameters
    ----------
    spectrum : Spectrum
    emulator : Emulator
    shift : float
        Velocity of the wavelength scale, km/s.

    Returns
    -------
    ndarray
        0 where the Earth absorbs, and where the emulator does not reach: its ends and the wings of
        the instrument (three FWHM) and 30 km/s of room for the velocity to change.
    """
    at_rest = np.log(spectrum.wavelength) - np.log1p(shift / SPEED_OF_LIGHT)
    margin = 3.0 / np.asarray(spectrum.resolution, dtype=np.float64) + 30.0 / SPEED_OF_LIGHT
    low, high = np.log(emulator.wavelength[[0, -1]])
    inside = (at_rest >= low + margin) & (at_rest <= high - margin)
    return np.where(inside & ~telluric_mask(spectrum), spectrum.ivar, np.float32(0.0))
