"""Continuous opacity of the gas of a cool star, 3500-17500 Å, 2500-12000 K.

Absorbers: H- (bound-free and free-free), H (bound-free and free-free), H2+, H + H, H2- and He-
free-free, photoionisation of He, C, N, O, Mg, Al, Si, Ca and Fe, free-free of C, Mg, Si and the
other ions, and the continua of CH, OH and NH. Scattering: electrons, H, He, H2. The sources of all
numbers are in tables/README.md.

At the limits of the Balmer (3647 Å) and Paschen (8206 Å) series there is no step as long as the
lines are added too: the continuum reaches redward of a limit as far as the upper levels are
dissolved (see `photoionisation`), and lines to those levels have to be weakened by the same
`occupation.occupation_probability`.
"""

from __future__ import annotations

import functools
import math

import numba
import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from spectrolabe.errors import InputError
from spectrolabe.synthesis.constants import (
    BOLTZMANN,
    BOLTZMANN_EV,
    ELECTRON_MASS,
    ELECTRON_VOLT,
    LIGHT,
    PLANCK,
)
from spectrolabe.synthesis.gas import Gas
from spectrolabe.synthesis.photoionisation import hydrogen_bound_free
from spectrolabe.synthesis.scattering import scattering
from spectrolabe.synthesis.tables import load_table

__all__ = ["absorbers", "continuum_opacity", "h_minus_cross_section", "h_minus_density"]

LOW, HIGH = 3300.0, 18000.0  # Å, of the packed tables
AFFINITY = 0.754195  # eV, of hydrogen (Lykke, Murray & Lineberger 1991)
H_MINUS_THRESHOLD = PLANCK * LIGHT / (AFFINITY * ELECTRON_VOLT) * 1e8  # Å
_OWN_FREE_FREE = ("H", "He", "C", "Mg", "Si")
# Coefficients that already count stimulated emission.
_NET = frozenset({"H- ff", "He- ff", "CH", "OH"})


def h_minus_density(gas: Gas) -> NDArray:
    """Return the density of H- in each layer, 1/cm3 (Saha; the ion has one state)."""
    wave = PLANCK**2 / (2.0 * math.pi * ELECTRON_MASS * BOLTZMANN * gas.temperature)
    attach = 0.5 * wave**1.5 * np.exp(AFFINITY / (BOLTZMANN_EV * gas.temperature))
    return attach * gas.electrons * gas.atoms["H"][0] / gas.partition["H"][0]


@functools.cache
def _h_minus_curve() -> PchipInterpolator:
    """Interpolate the cross-section over the law it follows at the threshold, which is smooth."""
    table = load_table("continuum")
    wavelength = table["h_minus_wavelength"]
    return PchipInterpolator(wavelength, table["h_minus"] / _threshold_law(wavelength))


def _threshold_law(wavelength: NDArray) -> NDArray:
    """Return the shape of Wigner's law, lambda^3 (1/lambda - 1/threshold)^1.5, in Å."""
    return wavelength**3 * np.maximum(1.0 / wavelength - 1.0 / H_MINUS_THRESHOLD, 0.0) ** 1.5


def h_minus_cross_section(wavelength: NDArray) -> NDArray:
    """Return the photodetachment cross-section of H-, cm2 (McLaughlin et al. 2017).

    Zero beyond the threshold at 16439 Å.
    """
    wavelength = np.asarray(wavelength, float)
    return _h_minus_curve()(wavelength) * _threshold_law(wavelength)


def _density_factor(absorber: str, gas: Gas) -> NDArray:
    """Return what multiplies the packed coefficient of an absorber, shape (L,)."""
    electrons, atoms = gas.electrons, gas.atoms
    pressure = electrons * BOLTZMANN * gas.temperature
    match absorber:
        case "H- ff":
            return pressure * atoms["H"][0]
        case "He- ff":
            return pressure * atoms["He"][0]
        case "H2- ff":
            return pressure * gas.molecules["H2"]
        case "H2+":
            return atoms["H"][0] * atoms["H"][1]
        case "H+H":
            return atoms["H"][0] ** 2
        case "metals ff":
            others = [n[1] for symbol, n in atoms.items() if symbol not in _OWN_FREE_FREE]
            return electrons * np.sum(others, axis=0)
    if absorber.endswith(" ff"):
        return electrons * atoms[absorber.removesuffix(" ff")][1]
    if absorber in ("CH", "OH", "NH"):
        return gas.molecules[absorber]
    return atoms[absorber][0] / gas.partition[absorber][0]


@numba.njit(cache=True)
def _add_table(
    opacity: NDArray,
    wavelength: NDArray,
    factor: NDArray,
    place: NDArray,
    nodes: NDArray,
    log_coefficient: NDArray,
) -> None:
    """Add one absorber: exponential between temperatures, linear between wavelengths."""
    rows = np.full((nodes.size, factor.size), -1.0)
    for k in range(wavelength.size):
        j = np.searchsorted(nodes, wavelength[k], side="right") - 1
        if j < 0 or j >= nodes.size - 1:
            continue
        for row in (j, j + 1):
            if rows[row, 0] < 0.0:
                for i in range(factor.size):
                    t = int(place[i])
                    low, high = log_coefficient[row, t], log_coefficient[row, t + 1]
                    rows[row, i] = factor[i] * math.exp(low + (high - low) * (place[i] - t))
        x = (wavelength[k] - nodes[j]) / (nodes[j + 1] - nodes[j])
        for i in range(factor.size):
            opacity[k, i] += rows[j, i] + x * (rows[j + 1, i] - rows[j, i])


def absorbers(wavelength: NDArray, gas: Gas) -> dict[str, NDArray]:
    """Return the absorption by each absorber, for looking at the opacity's make-up.

    Parameters and shapes as in `continuum_opacity`, of whose absorption these are the terms.
    """
    wavelength = _checked(wavelength)
    emission = _stimulated(wavelength, gas)
    found = {"H- bf": _h_minus(wavelength, gas) * emission}
    found["H bf"] = hydrogen_bound_free(wavelength, gas) * emission
    for absorber in map(str, load_table("continuum")["absorber"]):
        found[absorber] = np.zeros_like(emission)
        _add_absorber(found[absorber], absorber, wavelength, gas)
        if absorber not in _NET:
            found[absorber] *= emission
    return found


def _checked(wavelength: NDArray) -> NDArray:
    wavelength = np.asarray(wavelength, float)
    if wavelength.size and not (wavelength.min() >= LOW and wavelength.max() <= HIGH):
        raise InputError(
            "wavelengths of the continuum",
            expected=f"{LOW:g} to {HIGH:g} Å",
            found=f"{wavelength.min():g} to {wavelength.max():g} Å",
        )
    return wavelength


def _add_absorber(opacity: NDArray, absorber: str, wavelength: NDArray, gas: Gas) -> None:
    table = load_table("continuum")
    number = list(table["absorber"]).index(absorber)
    rows = slice(*table["first"][number : number + 2])
    theta = table["theta"]
    place = (5040.0 / gas.temperature - theta[0]) / (theta[1] - theta[0])
    place = np.clip(place, 0.0, len(theta) - 1.001)
    factor = np.ascontiguousarray(_density_factor(absorber, gas), float)
    nodes, coefficient = table["wavelength"][rows], table["log_coefficient"][rows]
    _add_table(opacity, wavelength, factor, place, nodes, coefficient)


def _h_minus(wavelength: NDArray, gas: Gas) -> NDArray:
    return np.multiply.outer(h_minus_cross_section(wavelength), h_minus_density(gas))


def _stimulated(wavelength: NDArray, gas: Gas) -> NDArray:
    """Return 1 - exp(-h nu / k T), shape (K, L)."""
    second = PLANCK * LIGHT / BOLTZMANN * 1e8
    return -np.expm1(-second / np.multiply.outer(wavelength, gas.temperature))


def continuum_opacity(wavelength: NDArray, gas: Gas) -> tuple[NDArray, NDArray]:
    """Return the opacity of the continuum.

    Parameters
    ----------
    wavelength : ndarray, shape (K,)
        Vacuum Å; the tables hold from 3300 to 18000 Å.
    gas : Gas
        Densities in L layers; needs H2, CH, OH and NH among the molecules.

    Returns
    -------
    absorption : ndarray, shape (K, L)
        1/cm, less stimulated emission.
    scattering : ndarray, shape (K, L)
        1/cm.

    Raises
    ------
    InputError
        If a wavelength is outside the tables.
    """
    wavelength = _checked(wavelength)
    absorption = _h_minus(wavelength, gas) + hydrogen_bound_free(wavelength, gas)
    net = np.zeros_like(absorption)
    for absorber in map(str, load_table("continuum")["absorber"]):
        _add_absorber(net if absorber in _NET else absorption, absorber, wavelength, gas)
    absorption *= _stimulated(wavelength, gas)
    return absorption + net, scattering(wavelength, gas)
