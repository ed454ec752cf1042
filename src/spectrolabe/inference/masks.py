"""Pixels that a model of stars cannot explain, so that no fit may use them."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from spectrolabe.models.emulator import Emulator
from spectrolabe.spectra import Spectrum
from spectrolabe.spectra.wavelength import SPEED_OF_LIGHT
from spectrolabe.surveys.telluric import TELLURIC, between, resolution_at, telluric_mask
from spectrolabe.synthesis.limits import BLUE, BLUE_LOW, LOW_RESOLUTION, UNMODELLED

__all__ = ["TELLURIC", "telluric_mask", "unmodelled", "usable_ivar"]


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
    blue = BLUE if resolution_at(spectrum, moved * BLUE_LOW) >= LOW_RESOLUTION else BLUE_LOW
    masked[between(spectrum, 0.0, moved * blue)] = True
    for core in UNMODELLED:
        centre = core.centre * moved
        reach = math.hypot(core.half * moved, centre / resolution_at(spectrum, centre))
        masked[between(spectrum, centre - reach, centre + reach)] = True
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
    below = low * (1.0 + 3.0 / resolution_at(spectrum, low) + room)
    above = high * (1.0 - 3.0 / resolution_at(spectrum, high) - room)
    usable = np.zeros(len(spectrum), dtype=bool)
    usable[between(spectrum, below, above)] = True
    usable &= ~telluric_mask(spectrum)
    if shift is not None:
        usable &= ~unmodelled(spectrum, shift)
    return np.where(usable, spectrum.ivar, np.float32(0.0))
