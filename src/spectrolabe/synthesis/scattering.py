"""Continuous scattering: Thomson on electrons; Rayleigh on H I, He I and H2."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spectrolabe.synthesis.constants import THOMSON
from spectrolabe.synthesis.gas import Gas

__all__ = ["rayleigh_helium", "rayleigh_hydrogen", "rayleigh_molecular_hydrogen", "scattering"]

_RYDBERG_WAVELENGTH = 911.26705  # Å
_LEE = (1.265625, 3.73828125, 8.93139648, 19.1537018, 39.9229584, 81.1018105, 161.896871)


def rayleigh_hydrogen(wavelength: NDArray) -> NDArray:
    """Return the cross-section of H I in its ground state, cm2 (Lee & Kim 2004, MNRAS 347, 802).

    The expansion holds far redward of Lyman alpha; wavelength in Å.
    """
    x2 = (_RYDBERG_WAVELENGTH / np.asarray(wavelength, float)) ** 2
    return THOMSON * x2**2 * np.polynomial.polynomial.polyval(x2, np.array(_LEE))


def rayleigh_helium(wavelength: NDArray) -> NDArray:
    """Return the cross-section of He I, cm2 (Dalgarno 1962); wavelength in Å."""
    inverse = 1.0 / np.asarray(wavelength, float) ** 2
    return 5.484e-14 * inverse**2 * (1.0 + 2.44e5 * inverse) ** 2


def rayleigh_molecular_hydrogen(wavelength: NDArray) -> NDArray:
    """Return the cross-section of H2, cm2 (Dalgarno & Williams 1962, ApJ 136, 690); Å."""
    inverse = 1.0 / np.asarray(wavelength, float) ** 2
    return inverse**2 * (8.14e-13 + inverse * (1.28e-6 + inverse * 1.61))


def scattering(wavelength: NDArray, gas: Gas) -> NDArray:
    """Return the scattering coefficient, shape (K, L), 1/cm, at wavelengths (K,) in Å."""
    total = np.multiply.outer(rayleigh_hydrogen(wavelength), gas.atoms["H"][0])
    total += np.multiply.outer(rayleigh_helium(wavelength), gas.atoms["He"][0])
    total += np.multiply.outer(rayleigh_molecular_hydrogen(wavelength), gas.molecules["H2"])
    return total + THOMSON * gas.electrons
