"""Bound-free absorption by hydrogen, with levels dissolved by their neighbours."""

from __future__ import annotations

import math

import numba
import numpy as np
from numpy.typing import NDArray

from spectrolabe.synthesis.constants import BOLTZMANN, LIGHT, PLANCK, RYDBERG_HYDROGEN
from spectrolabe.synthesis.gas import Gas
from spectrolabe.synthesis.occupation import occupation_probability

__all__ = ["bound_free_gaunt", "hydrogen_bound_free"]

HIGHEST_LEVEL = 30
LOWEST_LEVEL = 2  # the Lyman continuum is far away
# Kramers' cross-section is this times n^-5 lambda^3 (lambda in Å), from
# 64 pi^4 m e^10 / (3 sqrt(3) c^4 h^6), cm2.
KRAMERS = 1.04466e-26
NEGLIGIBLE = 1e-6  # occupation
_TAPER = 100.0  # Å
_SECOND = PLANCK * LIGHT / BOLTZMANN  # cm K


@numba.njit(cache=True)
def bound_free_gaunt(level: int, wavelength: float) -> float:
    """Return the bound-free Gaunt factor of a level of hydrogen (compiled; scalars only).

    The asymptotic series of Menzel & Pekeris (1935, MNRAS 96, 77), within 0.6 per cent of Karzas &
    Latter (1961) for n >= 2; a little redward of the threshold it continues smoothly.

    Parameters
    ----------
    level : int
        Principal quantum number.
    wavelength : float
        Vacuum Å.
    """
    energy = level * level * 1e8 / (wavelength * 109677.58341)  # over that of the threshold
    u = energy - 1.0
    scale = (level * energy) ** (-2.0 / 3.0)
    first = 0.1728 * (u - 1.0) * scale
    second = 0.0496 * (u * u + 4.0 / 3.0 * u + 1.0) * scale * scale
    return 1.0 + first - second


@numba.njit(cache=True)
def _dissolved(
    level: int, wavelength: float, w_level: float, state: tuple[float, float, float, float]
) -> float:
    """Return the part of the cross-section that is continuum at a wavelength."""
    inverse = 1.0 / level**2 - 1e8 / (wavelength * 109677.58341)
    if inverse <= 0.0:
        return 1.0
    part = 1.0 - occupation_probability(1.0 / math.sqrt(inverse), *state) / w_level
    alpha = 1e8 / (109677.58341 * (1.0 / level**2 - 1.0 / (level + 1) ** 2))
    return part * math.exp(-max(wavelength - alpha, 0.0) / _TAPER)


@numba.njit(cache=True)
def _add_bound_free(
    opacity: NDArray,
    wavelength: NDArray,
    temperature: NDArray,
    hydrogen: NDArray,
    partition: NDArray,
    helium: NDArray,
    electrons: NDArray,
) -> None:
    sigma = np.empty(wavelength.size)
    for level in range(LOWEST_LEVEL, HIGHEST_LEVEL + 1):
        for k in range(wavelength.size):
            sigma[k] = KRAMERS * wavelength[k] ** 3 / float(level) ** 5
            sigma[k] *= bound_free_gaunt(level, wavelength[k])
        for i in range(temperature.size):
            state = (hydrogen[i], helium[i], electrons[i], temperature[i])
            w = occupation_probability(float(level), *state)
            if w < NEGLIGIBLE:
                continue
            energy = _SECOND * RYDBERG_HYDROGEN * (1.0 - 1.0 / level**2)
            number = 2.0 * level**2 * w * hydrogen[i] / partition[i]
            number *= math.exp(-energy / temperature[i])
            for k in range(wavelength.size):
                opacity[k, i] += number * sigma[k] * _dissolved(level, wavelength[k], w, state)


def hydrogen_bound_free(wavelength: NDArray, gas: Gas) -> NDArray:
    """Return the absorption by photoionisation of H I without stimulated emission.

    Redward of a threshold the absorption falls as the levels become whole (Däppen, Anderson &
    Mihalas 1987, ApJ 319, 195): it is the complement of lines weakened by
    `occupation.occupation_probability` of their upper level.

    Parameters
    ----------
    wavelength : ndarray, shape (K,)
        Vacuum Å.
    gas : Gas
        Densities in L layers.

    Returns
    -------
    ndarray, shape (K, L)
        1/cm.
    """
    opacity = np.zeros((len(wavelength), len(gas.temperature)))
    _add_bound_free(
        opacity,
        np.asarray(wavelength, float),
        np.asarray(gas.temperature, float),
        np.asarray(gas.atoms["H"][0], float),
        np.asarray(gas.partition["H"][0], float),
        np.asarray(gas.atoms["He"][0], float),
        np.asarray(gas.electrons, float),
    )
    return opacity
