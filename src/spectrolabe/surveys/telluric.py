"""Bands of the Earth's atmosphere in spectra from the ground."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spectrolabe.spectra import Frame, Spectrum
from spectrolabe.spectra.wavelength import SPEED_OF_LIGHT
from spectrolabe.surveys import SURVEYS

__all__ = ["TELLURIC", "between", "resolution_at", "telluric_mask"]

TELLURIC: tuple[tuple[float, float], ...] = (
    (6277.0, 6322.0),  # O2, the gamma band
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
    moved = 1.0
    if spectrum.frame == Frame.REST and np.isfinite(spectrum.rv):
        moved += spectrum.rv / SPEED_OF_LIGHT
    masked = np.zeros(len(spectrum), dtype=bool)
    for low, high in TELLURIC:
        low, high = low / moved, high / moved
        earth = EARTH / SPEED_OF_LIGHT
        below = low * (1.0 - SPREAD / resolution_at(spectrum, low) - earth)
        above = high * (1.0 + SPREAD / resolution_at(spectrum, high) + earth)
        masked[between(spectrum, below, above)] = True
    return masked


def between(spectrum: Spectrum, low: float, high: float) -> slice:
    """Return the pixels between two wavelengths."""
    return slice(*(int(spectrum.wavelength.searchsorted(end)) for end in (low, high)))


def resolution_at(spectrum: Spectrum, wavelength: float) -> float:
    """Return R at a wavelength, or at the end of the spectrum that is nearer."""
    if isinstance(spectrum.resolution, float):
        return spectrum.resolution
    pixel = np.searchsorted(spectrum.wavelength, wavelength)
    return float(spectrum.resolution[min(int(pixel), len(spectrum) - 1)])
