"""Line opacity: Voigt profiles of every line in every layer."""

from __future__ import annotations

import math

import numba as nb
import numpy as np
from numpy.typing import NDArray
from scipy.special import wofz

from spectrolabe.synthesis.constants import (
    ATOMIC_MASS,
    BOLTZMANN,
    BOLTZMANN_EV,
    ELECTRON_CHARGE,
    ELECTRON_MASS,
    LIGHT,
)
from spectrolabe.synthesis.gas import Gas
from spectrolabe.synthesis.linelist import LineList

__all__ = ["add_lines", "populations", "voigt"]

THRESHOLD = 1e-4  # of the continuum opacity: below it a wing is left off
WIDEST = 200.0  # Å: no wing goes further
FORMING = (3e-3, 3.0)  # tau5000 between which the continuum opacity decides what a wing matters
CORE = 6.0  # Doppler widths: beyond, the profile is the asymptotic series of the Voigt function
WEAKLY_DAMPED = 0.2  # below this damping the series in it serves (3e-3 at the most)
STRENGTH = math.pi * ELECTRON_CHARGE**2 / (ELECTRON_MASS * LIGHT)  # cm2 Hz


@nb.njit(fastmath=True, error_model="numpy", inline="always")
def _voigt(v: float, a: float) -> float:
    # Humlicek (1982, JQSRT 27, 437), algorithm W4: relative error < 1e-4 of the real part
    s = v + a
    t = complex(a, -v)
    if s >= 15.0:
        return (t * 0.5641896 / (0.5 + t * t)).real
    u = t * t
    if s >= 5.5:
        return (t * (1.410474 + u * 0.5641896) / (0.75 + u * (3.0 + u))).real
    if a >= 0.195 * v - 0.176:
        top = 16.4955 + t * (20.20933 + t * (11.96482 + t * (3.778987 + t * 0.5642236)))
        low = 16.4955 + t * (38.82363 + t * (39.27121 + t * (21.69274 + t * (6.699398 + t))))
        return (top / low).real
    top = 36183.31 - u * (
        3321.9905 - u * (1540.787 - u * (219.0313 - u * (35.76683 - u * (1.320522 - u * 0.56419))))
    )
    low = 32066.6 - u * (
        24322.84
        - u * (9022.228 - u * (2186.181 - u * (364.2191 - u * (61.57037 - u * (1.841439 - u)))))
    )
    return math.exp(u.real) * math.cos(u.imag) - (t * top / low).real


def _series() -> NDArray:
    """H(a, v) = H0 + a H1 + a^2 H2 + a^3 H3 (Harris 1948), and dH0/dv, at steps of 1/200 in v.

    From the derivatives of the Faddeeva function, w' = -2zw + 2i/sqrt(pi). The table ends beyond
    twice `CORE`: the coolest layer has at least half the Doppler width of the hottest.
    """
    v = np.arange(0, int(2.5 * CORE * 200)) / 200
    w0 = wofz(v)
    w1 = -2 * v * w0 + 2j / np.sqrt(np.pi)
    w2 = -2 * w0 - 2 * v * w1
    w3 = -4 * w1 - 2 * v * w2
    terms = [w0.real, (1j * w1).real, -w2.real / 2, (-1j * w3).real / 6, w1.real]
    return np.ascontiguousarray(np.stack(terms, axis=1), dtype=np.float32)


SERIES = _series()


@nb.vectorize(["float64(float64, float64)"], cache=True)
def voigt(v: float, a: float) -> float:
    """Return the Voigt function H(a, v), with the integral over v equal to sqrt(pi).

    Parameters
    ----------
    v : float
        Distance from the line centre in Doppler widths.
    a : float
        Damping parameter.
    """
    return _voigt(abs(v), a)


@nb.njit(fastmath=True, error_model="numpy", cache=True)
def _add(
    opacity: NDArray,  # (M, L)
    wavelength: NDArray,  # (M,)
    chosen: NDArray,  # indices of lines
    line_wavelength: NDArray,
    gf: NDArray,
    energy: NDArray,
    species: NDArray,
    radiative: NDArray,
    stark: NDArray,
    waals: NDArray,
    waals_power: NDArray,
    level: NDArray,  # (S, L): density / partition function
    doppler: NDArray,  # (S, L): Doppler width / wavelength
    beta: NDArray,  # (L,): 1 / kT, 1/eV
    log_t4: NDArray,  # (L,): ln(T / 10^4 K)
    electrons: NDArray,
    perturbers: NDArray,
    reference: NDArray,  # (K, L): continuum opacity
    reference_start: float,
    reference_step: float,
    first: int,
    last: int,  # layers that decide
    scale: float,
    threshold: float,
    touched: NDArray,  # (M,) bool
    series: NDArray,
) -> int:
    layers = beta.size
    strength = np.empty(layers, np.float32)
    damping = np.empty(layers, np.float32)
    inverse = np.empty(layers, np.float32)
    wing2 = np.empty(layers, np.float32)
    wing4 = np.empty(layers, np.float32)
    used = 0
    root_pi = math.sqrt(math.pi)
    for i in chosen:
        centre = line_wavelength[i]
        s = species[i]
        photon = 12398.419843 / centre
        k = int((centre - reference_start) / reference_step + 0.5)
        k = min(max(k, 0), reference.shape[0] - 1)
        factor = STRENGTH * gf[i] * scale * centre * 1e-8 / LIGHT / root_pi
        reach = 0.0
        widest = 0.0
        most_damped = 0.0
        for layer in range(first, last):
            width = doppler[s, layer]
            peak = factor * level[s, layer] * math.exp(-energy[i] * beta[layer]) / width
            ratio = peak / (threshold * reference[k, layer])
            if ratio > 1.0:
                gamma = (
                    radiative[i]
                    + waals[i] * perturbers[layer] * math.exp(waals_power[i] * log_t4[layer])
                    + stark[i] * electrons[layer]
                )
                a = gamma * centre * 1e-8 / (4 * math.pi * LIGHT * width)
                wing = math.sqrt(a * ratio / root_pi)
                core = math.sqrt(math.log(ratio))
                reach = max(reach, width * max(wing, core))
        if reach == 0.0:
            continue
        reach = min(reach * centre, WIDEST)
        low = np.searchsorted(wavelength, centre - reach)
        high = np.searchsorted(wavelength, centre + reach)
        if low == high:
            continue
        used += 1
        for layer in range(layers):
            width = doppler[s, layer]
            emission = 1.0 - math.exp(-photon * beta[layer])
            peak = factor * level[s, layer] * math.exp(-energy[i] * beta[layer]) * emission / width
            gamma = (
                radiative[i]
                + waals[i] * perturbers[layer] * math.exp(waals_power[i] * log_t4[layer])
                + stark[i] * electrons[layer]
            )
            a = gamma * centre * 1e-8 / (4 * math.pi * LIGHT * width)
            width *= centre  # Å
            strength[layer] = peak
            damping[layer] = a
            inverse[layer] = 1.0 / width
            w2 = peak * a / root_pi * width * width
            wing2[layer] = w2
            # the series needs v > a, which the core sees to where it is seen, and not deeper
            wing4[layer] = w2 * (1.5 - a * a if layer < last else 0.0) * width * width
            widest = max(widest, width)
            if layer < last:  # what is deeper is not seen
                most_damped = max(most_damped, a)
        widest *= CORE * max(1.0, most_damped)
        core_low = np.searchsorted(wavelength, centre - widest)
        core_high = np.searchsorted(wavelength, centre + widest)
        core_low, core_high = max(core_low, low), min(core_high, high)
        weakly_damped = most_damped < WEAKLY_DAMPED
        if weakly_damped:
            for layer in range(last, layers):
                damping[layer] = min(damping[layer], np.float32(WEAKLY_DAMPED))
        for j in range(low, high):
            touched[j] = True
            distance = abs(wavelength[j] - centre)
            if core_low <= j < core_high and weakly_damped:
                for layer in range(layers):
                    x = np.float32(200.0 * distance) * inverse[layer]
                    k = min(int(x + np.float32(0.5)), series.shape[0] - 1)
                    f = (x - np.float32(k)) * np.float32(0.005)
                    a = damping[layer]
                    opacity[j, layer] += strength[layer] * (
                        series[k, 0]
                        + f * series[k, 4]
                        + a * (series[k, 1] + a * (series[k, 2] + a * series[k, 3]))
                    )
            elif core_low <= j < core_high:
                for layer in range(layers):
                    opacity[j, layer] += strength[layer] * _voigt(
                        distance * inverse[layer], damping[layer]
                    )
            else:
                d2 = np.float32(1.0 / (distance * distance))
                d4 = d2 * d2
                for layer in range(layers):
                    opacity[j, layer] += wing2[layer] * d2 + wing4[layer] * d4
    return used


def populations(lines: LineList, gas: Gas) -> NDArray:
    """Return the density over the partition function of each species of a line list.

    Returns
    -------
    ndarray, shape (S, L)
        1/cm3; a species that the gas does not hold is zero.
    """
    level = np.zeros((len(lines.species_names), gas.temperature.size))
    for row, name in zip(level, lines.species_names, strict=True):
        symbol, _, stage = name.partition(" ")
        if not stage:
            row[:] = gas.molecules[symbol] / gas.partition[symbol]
        elif symbol in gas.atoms:
            row[:] = gas.atoms[symbol][int(stage) - 1] / gas.partition[symbol][int(stage) - 1]
    return level


def add_lines(
    opacity: NDArray,
    wavelength: NDArray,
    lines: LineList,
    gas: Gas,
    v_micro: float,
    *,
    continuum: tuple[NDArray, NDArray],
    tau5000: NDArray,
    chosen: NDArray | None = None,
    scale: float = 1.0,
    threshold: float = THRESHOLD,
) -> NDArray:
    """Add the absorption of lines to an opacity, in place.

    Parameters
    ----------
    opacity : ndarray, shape (M, L), float32
        1/cm; changed.
    wavelength : ndarray, shape (M,)
        Vacuum Angstrom, ascending.
    lines : LineList
    gas : Gas
    v_micro : float
        km/s.
    continuum : tuple of ndarray, shapes (K,) and (K, L)
        Evenly spaced wavelengths, and the continuum opacity there: lines and wings weaker than
        ``threshold`` of it are left out.
    tau5000 : ndarray, shape (L,)
        Optical depth at 5000 Angstrom: which layers decide that.
    chosen : ndarray of int, optional
        Which lines; all when not given.
    scale : float
        Factor on the strength of all of them.
    threshold : float

    Returns
    -------
    ndarray, shape (M,), bool
        Which pixels were touched.
    """
    temperature = gas.temperature
    mass = lines.mass * ATOMIC_MASS
    doppler = np.sqrt(2 * BOLTZMANN * temperature / mass[:, None] + (v_micro * 1e5) ** 2) / LIGHT
    perturbers = gas.atoms["H"][0] + 0.42 * gas.atoms["He"][0] + 0.85 * gas.molecules["H2"]
    grid, reference = continuum
    inside = np.flatnonzero((tau5000 > FORMING[0]) & (tau5000 < FORMING[1]))
    touched = np.zeros(wavelength.size, bool)
    _add(
        opacity,
        wavelength,
        np.arange(lines.wavelength.size) if chosen is None else chosen,
        lines.wavelength,
        10.0**lines.log_gf,
        lines.energy,
        lines.species,
        lines.radiative,
        lines.stark,
        lines.waals,
        lines.waals_power,
        populations(lines, gas),
        doppler,
        1.0 / (BOLTZMANN_EV * temperature),
        np.log(temperature / 1e4),
        gas.electrons,
        perturbers,
        reference,
        grid[0],
        grid[1] - grid[0],
        inside[0],
        inside[-1] + 1,
        scale,
        threshold,
        touched,
        SERIES,
    )
    return touched
