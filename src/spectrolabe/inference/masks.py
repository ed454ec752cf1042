"""Pixels that a model of stars cannot explain, so that no fit may use them."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from spectrolabe.models.emulator import Emulator
from spectrolabe.spectra import Frame, Spectrum
from spectrolabe.spectra.wavelength import SPEED_OF_LIGHT
from spectrolabe.surveys import SURVEYS
from spectrolabe.synthesis.limits import BLUE, BLUE_LOW, LOW_RESOLUTION, UNMODELLED

__all__ = ["TELLURIC", "telluric_mask", "unmodelled", "usable_ivar"]

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
        below = low * (1.0 - SPREAD / _resolution(spectrum, low) - earth)
        above = high * (1.0 + SPREAD / _resolution(spectrum, high) + earth)
        masked[_between(spectrum, below, above)] = True
    return masked


def _between(spectrum: Spectrum, low: float, high: float) -> slice:
    """Pixels between two wavelengths."""
    return slice(*(int(spectrum.wavelength.searchsorted(end)) for end in (low, high)))


def _resolution(spectrum: Spectrum, wavelength: float) -> float:
    """R at a wavelength, or at the end of the spectrum that is nearer."""
    if isinstance(spectrum.resolution, float):
        return spectrum.resolution
    pixel = np.searchsorted(spectrum.wavelength, wavelength)
    return float(spectrum.resolution[min(int(pixel), len(spectrum) - 1)])


def unmodelled(spectrum: Spectrum, shift: float) -> NDArray:
    """Return where models of stars are known to be wrong, shape (M,), bool.

    Parameters
    ----------
    spectrum : Spectrum
    shift : float
        Velocity of the wavelength scale, km/s.
    """
    moved = 1.0 + shift / SPEED_OF_LIGHT
    masked = np.zeros(len(spectrum), dtype=bool)
    blue = BLUE if _resolution(spectrum, moved * BLUE_LOW) >= LOW_RESOLUTION else BLUE_LOW
    masked[_between(spectrum, 0.0, moved * blue)] = True
    for core in UNMODELLED:
        centre = core.centre * moved
        reach = math.hypot(core.half * moved, centre / _resolution(spectrum, centre))
        masked[_between(spectrum, centre - reach, centre + reach)] = True
    return masked


def usable_ivar(spectrum: Spectrum, emulator: Emulator, shift: float | None = None) -> NDArray:
    """Return the inverse variance of the pixels that a fit may use, shape (M,), float32.

    Parameters
    ----------
    spectrum : Spectrum
    emulator : Emulator
    shift : float, optional
        Velocity of the wavelength scale, km/s. Without it, what is `unmodelled` stays: its lines
        are what velocities are measured from.

    Returns
    -------
    ndarray
        0 where the Earth absorbs, where models are known to be wrong, and where the emulator does
        not reach: its ends and the wings of the instrument (three FWHM) and 30 km/s of room for
        the velocity to change.
    """
    moved = 1.0 + (shift or 0.0) / SPEED_OF_LIGHT
    low, high = emulator.wavelength[[0, -1]] * moved
    room = 30.0 / SPEED_OF_LIGHT
    below = low * (1.0 + 3.0 / _resolution(spectrum, low) + room)
    above = high * (1.0 - 3.0 / _resolution(spectrum, high) - room)
    usable = np.zeros(len(spectrum), dtype=bool)
    usable[_between(spectrum, below, above)] = True
    usable &= ~telluric_mask(spectrum)
    if shift is not None:
        usable &= ~unmodelled(spectrum, shift)
    return np.where(usable, spectrum.ivar, np.float32(0.0))
