"""Occupation probabilities of the levels of hydrogen in a plasma.

Neighbours dissolve the high levels: a level survives with probability w, so a line to it has w
times its strength, and the missing 1 - w belongs to the continuum. Where both are counted, a series
of lines merges into its continuum without a step.
"""

from __future__ import annotations

import math

import numba

__all__ = ["occupation_probability"]

_BOHR_RADIUS = 5.29177211e-9  # cm
_SIZE_HYDROGEN = math.sqrt(3.0) * _BOHR_RADIUS  # root mean square radius of the ground state
_SIZE_HELIUM = 1.02 * _BOHR_RADIUS


@numba.njit(cache=True)
def occupation_probability(
    level: float, neutral_hydrogen: float, helium: float, electrons: float, temperature: float
) -> float:
    """Return the probability that a level of hydrogen exists (compiled; scalars only).

    Neutral neighbours act as hard spheres (Hummer & Mihalas 1988, ApJ 331, 794); ions through the
    distribution of their field with correlations (Hubeny, Hummer & Lanz 1994, A&A 282, 151).

    Parameters
    ----------
    level : float
        Principal quantum number, not necessarily whole.
    neutral_hydrogen, helium, electrons : float
        Densities, 1/cm3; the ions are taken as singly charged and as many as the electrons.
    temperature : float
        K.

    Returns
    -------
    float
        Between 0 and 1.
    """
    square = level * level
    radius = _BOHR_RADIUS * math.sqrt(2.5 * square * square + 0.5 * square)
    spheres = neutral_hydrogen * (radius + _SIZE_HYDROGEN) ** 3
    spheres += helium * (radius + _SIZE_HELIUM) ** 3
    neutral = math.exp(-4.0 / 3.0 * math.pi * spheres)
    shape = 1.0 if level <= 3.0 else 16.0 / 3.0 * level / (level + 1.0) ** 2
    correlation = (1.0 + 0.09 * electrons ** (1.0 / 6.0) / math.sqrt(temperature)) ** 3.15
    field = 8.3e14 * electrons ** (-2.0 / 3.0) * shape / (square * square)
    below = 0.1402 * correlation * field**3 / (1.0 + 0.1285 * correlation * field**1.5)
    return neutral * below / (1.0 + below)
