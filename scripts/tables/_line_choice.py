"""Which lines ever matter: line over continuum opacity where spectra of FGK stars form."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from spectrolabe.synthesis.constants import (
    ATOMIC_MASS,
    BOLTZMANN,
    BOLTZMANN_EV,
    ELECTRON_CHARGE,
    ELECTRON_MASS,
    LIGHT,
)
from spectrolabe.synthesis.continuum import continuum_opacity
from spectrolabe.synthesis.elements import MASS, atomic_number, mixture
from spectrolabe.synthesis.equilibrium import equilibrium
from spectrolabe.synthesis.gas import Gas

WEAKEST = 1e-3
"""Of the continuum opacity at line centre: what is always weaker is left out."""

WEAKEST_RARE = 1e-4
RARE = frozenset((
    "Li", "S", "K", "Sc", "V", "Co", "Cu", "Zn", "Sr", "Y", "Zr",
    "Ba", "La", "Ce", "Pr", "Nd", "Sm", "Eu",
))  # fmt: skip
"""Elements of few lines, of which weaker ones are kept."""

ENHANCED = 0.5
"""dex by which every element may exceed the mixture of the reference layers; no molecule."""

FE_H = 0.4
DEPTHS = (-2.0, -1.0, -0.5, 0.0)
LAYERS = {
    (4250, 1.0): ((3322, 97.4), (3715, 385.0), (4104, 698.0), (4767, 1300.0)),
    (4250, 4.6): ((3497, 19900.0), (3764, 71600.0), (4078, 127000.0), (4693, 205000.0)),
    (5000, 2.5): ((4071, 657.0), (4484, 2410.0), (4897, 4640.0), (5681, 8860.0)),
    (5777, 4.44): ((4733, 8130.0), (5165, 29400.0), (5650, 55700.0), (6590, 94100.0)),
    (7500, 4.0): ((6169, 2620.0), (6734, 7890.0), (7437, 11900.0), (9094, 14600.0)),
}
"""By Teff and log g: T (K) and gas pressure (dyn/cm2) at log10 tau5000 of `DEPTHS`, from MARCS
models (Gustafsson et al. 2008, A&A 486, 951) of [Fe/H] 0.3 to 0.4."""

V_MICRO = 1e5  # cm/s
FORMED = 0.1  # tau5000 above which less and less of a weak line is formed
GRID = np.concatenate([np.linspace(3600, 9900, 127), np.linspace(15000, 17100, 22)])


def matter(
    wavelength: NDArray, energy: NDArray, log_gf: NDArray, species: NDArray, names: list[str]
) -> NDArray:
    """Return which of N lines reach their threshold in some reference layer; (N,) bool."""
    rare = np.array([name.split()[0] in RARE for name in names])
    atom = np.array([" " in name for name in names])
    least = np.where(rare, WEAKEST_RARE, WEAKEST) / np.where(atom, 10.0**ENHANCED, 1.0)
    kept = np.zeros(wavelength.size, bool)
    for layers in LAYERS.values():
        temperature, pressure = np.array(layers).T
        gas = equilibrium(temperature, pressure, mixture(FE_H))
        continuum = sum(continuum_opacity(GRID, gas))
        for k, depth in enumerate(DEPTHS):
            share = min(1.0, 10.0**depth / FORMED)
            level, width = _species(names, gas, k)
            centre = level[species] * 10.0**log_gf * wavelength * 1e-8 / width[species]
            centre *= np.exp(-energy / (BOLTZMANN_EV * temperature[k]))
            centre *= math.sqrt(math.pi) * ELECTRON_CHARGE**2 / (ELECTRON_MASS * LIGHT)
            kept |= share * centre > least[species] * np.interp(wavelength, GRID, continuum[:, k])
    return kept


def _species(names: list[str], gas: Gas, k: int) -> tuple[NDArray, NDArray]:
    """Density over partition function (1/cm3), and Doppler velocity (cm/s), of each species."""
    level, mass = np.empty(len(names)), np.empty(len(names))
    for i, name in enumerate(names):
        symbol, _, stage = name.partition(" ")
        if stage:
            row = int(stage) - 1
            level[i] = gas.atoms[symbol][row][k] / gas.partition[symbol][row][k]
            mass[i] = MASS[atomic_number(symbol) - 1]
        else:
            level[i], mass[i] = gas.molecules[name][k] / gas.partition[name][k], 20.0
    thermal = 2.0 * BOLTZMANN * gas.temperature[k] / (mass * ATOMIC_MASS)
    return level, np.sqrt(thermal + V_MICRO**2)
