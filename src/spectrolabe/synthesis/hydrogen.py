"""Lines of hydrogen: Balmer, Paschen and Brackett, broadened by charges, by itself and by motion.

The profile of a line in a layer is the tabulated Stark profile of Stehlé & Hutcheon (1999), in
which the Doppler effect of the temperature is included, plus the difference between a Voigt
function, with the micro-turbulence and the damping by collisions and radiation, and a Gaussian of
the half width of the tabulated profile. The area remains one, the far wings add up, and where the
core is thermal it is exact. Profiles are symmetric in frequency.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numba as nb
import numpy as np
from numpy.typing import NDArray
from scipy.special import gamma

from spectrolabe.errors import InputError
from spectrolabe.synthesis.constants import (
    ATOMIC_MASS,
    BOHR_RADIUS,
    BOLTZMANN,
    ELECTRON_CHARGE,
    ELECTRON_MASS,
    LIGHT,
    PLANCK,
    RYDBERG_HYDROGEN,
)
from spectrolabe.synthesis.elements import MASS
from spectrolabe.synthesis.gas import Gas
from spectrolabe.synthesis.occupation import occupation_probability
from spectrolabe.synthesis.opacity import _voigt
from spectrolabe.synthesis.tables import load_table

__all__ = ["HydrogenLines", "add_hydrogen_lines", "hydrogen_lines", "level_energy", "line_profile"]

REACH = 0.3  # of the wavelength of the line: no wing goes further
# Detunings at which profiles are computed, relative to the wavelength: CORE * sinh(KNOT * k).
CORE, KNOT = 5.3e-5, 0.05
KNOTS: NDArray = CORE * np.sinh(KNOT * np.arange(math.ceil(math.asinh(REACH / CORE) / KNOT) + 1))
KNOTS.flags.writeable = False

_FINE_STRUCTURE = 7.2973525693e-3
_IONISATION = 109678.77174  # 1/cm (NIST)
_LAMB = 0.2824  # 1/cm: mean shift of a level by its s states, times n^5
_SECOND = PLANCK * LIGHT / BOLTZMANN  # cm K
_LN10 = math.log(10.0)
_ROOT_PI = math.sqrt(math.pi)
_STRENGTH = math.pi * ELECTRON_CHARGE**2 / (ELECTRON_MASS * LIGHT)  # cm2 Hz

# Collisions with H and He of 2-n, n = 3, 4, 5, 6: cross-section at 10 km/s in atomic units, and
# alpha where it goes with speed^-alpha. H: Barklem, Piskunov & O'Mara (2000, A&A 363, 1091). He:
# the p-d cross-sections of Barklem & O'Mara (1997, MNRAS 290, 102) with the polarisability of He.
_SELF = {3: (1180.0, 0.677), 4: (2320.0, 0.455), 5: (4208.0, 0.380)}
_HELIUM = {3: (834.0, 0.28), 4: (1998.0, 0.33), 5: (3837.0, 0.26), 6: (5700.0, 0.25)}
_POLARISABILITY = 0.625  # (that of He / that of H)^0.4


@dataclass(frozen=True, eq=False)
class HydrogenLines:
    """N lines of hydrogen by series and upper level, with their profiles.

    Parameters
    ----------
    lower, upper : ndarray of int, shape (N,)
        Principal quantum numbers.
    wavelength : ndarray, shape (N,)
        Mean of the fine structure, vacuum Å.
    strength : ndarray, shape (N,)
        Oscillator strength of absorption.
    damping : ndarray, shape (N,)
        Half width by radiation, rad/s.
    resonance : ndarray, shape (5,)
        Oscillator strength from level 1 to level n.
    log_temperature, log_electrons : ndarray, shapes (T,) and (E,)
        Nodes of the profiles.
    log_width : ndarray, shape (N, T, E)
        log10 of the half width at half maximum, Å.
    profile : ndarray, shape (N, T, E, U)
        log10 of profile times half width at ``scale * sinh(step * k)`` half widths.
    scale, step : float
    """

    lower: NDArray
    upper: NDArray
    wavelength: NDArray
    strength: NDArray
    damping: NDArray
    resonance: NDArray
    log_temperature: NDArray
    log_electrons: NDArray
    log_width: NDArray
    profile: NDArray
    scale: float
    step: float


def level_energy(level: int) -> float:
    """Return the energy of a level above the ground state, mean over its substates, 1/cm.

    Dirac's fine structure averaged over j and l, with the shift of the s states: within 0.001 1/cm
    of the means of the levels of NIST.
    """
    square = float(level * level)
    fine = _FINE_STRUCTURE**2 / level**3 * ((2.0 * level - 1.0) / square - 0.75 / level)
    return _IONISATION - RYDBERG_HYDROGEN * (1.0 / square + fine) + _LAMB / level**5


@functools.cache
def hydrogen_lines() -> HydrogenLines:
    """Return all lines (arrays are read-only)."""
    table = load_table("hydrogen")
    energy = np.array([0.0] + [level_energy(n) for n in range(1, int(table["upper"].max()) + 1)])
    profile = table["profile"] * np.float32(table["quantum"])
    wavelength = 1e8 / (energy[table["upper"]] - energy[table["lower"]])
    for array in (profile, wavelength):
        array.flags.writeable = False
    names = ("lower", "upper", "strength", "damping", "resonance")
    nodes = ("log_temperature", "log_electrons", "log_width")
    return HydrogenLines(
        **{name: table[name] for name in names + nodes},
        wavelength=wavelength,
        profile=profile,
        scale=float(table["scale"]),
        step=float(table["step"]),
    )


def add_hydrogen_lines(opacity: NDArray, wavelength: NDArray, gas: Gas, v_micro: float) -> None:
    """Add the opacity of the lines of hydrogen, with stimulated emission.

    The upper levels are populated as `occupation.occupation_probability` tells; what is missing
    from the lines near the limit of a series is in the bound-free absorption. Blueward of its
    series limit a line is cut.

    Parameters
    ----------
    opacity : ndarray, shape (M, L), float32 or float64
        1/cm; changed in place.
    wavelength : ndarray, shape (M,)
        Vacuum Å, ascending, of any spacing: the opacity at one wavelength does not depend on the
        others.
    gas : Gas
        Densities in L layers.
    v_micro : float
        Micro-turbulence, km/s.

    Raises
    ------
    InputError
        If the shapes do not belong together.
    """
    shape = (len(wavelength), len(gas.temperature))
    if opacity.shape != shape:
        raise InputError(
            "opacity",
            expected=f"shape {shape}: wavelengths, layers",
            found=f"shape {opacity.shape}",
            fix="Pass an array of the shape of the spectrum and the atmosphere.",
        )
    if shape[0] == 0:
        return
    lines = hydrogen_lines()
    low, high, knots = _reach()
    use = np.flatnonzero((low < wavelength[-1]) & (high > wavelength[0]))
    first = max(int(np.searchsorted(knots, wavelength[0], "right")) - 1, 0)
    knots = knots[first : np.searchsorted(knots, wavelength[-1]) + 1]
    total = np.zeros((len(knots), shape[1]), dtype=np.float32)
    for line in use.tolist():
        values = (line_profile(lines, line, gas, v_micro) * _strength(lines, line, gas)).astype(
            "f4"
        )
        a, b = np.searchsorted(knots, low[line], "right"), np.searchsorted(knots, high[line])
        _add_line(total[a:b], knots[a:b], lines.wavelength[line], values)
    _add_interpolated(opacity, np.asarray(wavelength, dtype=float), knots, total)


@functools.cache
def _reach() -> tuple[NDArray, NDArray, NDArray]:
    """Blue and red ends of the lines (N,), and the knots of all lines, ascending vacuum Å.

    Between two knots the opacity of every line is linear, so that of all lines is too.
    """
    lines = hydrogen_lines()
    limit = np.array([1e8 / (_IONISATION - level_energy(int(n))) for n in lines.lower])
    low = np.maximum(limit, lines.wavelength / (1.0 + REACH))
    high = lines.wavelength / (1.0 - REACH)
    offset = np.concatenate([KNOTS, -KNOTS])[:, None]
    knots = lines.wavelength / (1.0 + offset)
    edges = np.unique(limit)
    knots = np.concatenate([knots[knots > limit], edges, edges + 1e-6])
    return low, high, np.unique(knots)


def line_profile(
    lines: HydrogenLines, line: int, gas: Gas, v_micro: float, knots: NDArray = KNOTS
) -> NDArray:
    """Return the profile of one line, of unit area over wavelength.

    Parameters
    ----------
    lines : HydrogenLines
    line : int
        Its index.
    gas : Gas
        Densities in L layers.
    v_micro : float
        Micro-turbulence, km/s.
    knots : ndarray, shape (K,), optional
        Detunings |frequency - that of the line| / frequency of the line.

    Returns
    -------
    ndarray, shape (K, L)
        1/Å.
    """
    centre = lines.wavelength[line]
    width, shape = _stark(lines, line, gas)
    # of the Gaussian with the half width of the tabulated profile, and with the turbulence too
    thermal = width / math.sqrt(math.log(2.0))
    doppler = np.hypot(thermal, v_micro * 1e5 / LIGHT * centre)
    damping = _half_width(lines, line, gas) * centre**2 * 1e-8 / (2.0 * math.pi * LIGHT)
    detuning = np.asarray(knots, dtype=float) * centre
    scales = np.stack([width, thermal, doppler, damping / doppler])
    return _profile(detuning, shape, lines.scale, lines.step, scales)


def _stark(lines: HydrogenLines, line: int, gas: Gas) -> tuple[NDArray, NDArray]:
    """Half width (L,) in Å and log profile (U, L) at the temperatures and electron densities."""
    weights = []
    for nodes, value in (
        (lines.log_temperature, np.log10(gas.temperature)),
        (lines.log_electrons, np.log10(gas.electrons)),
    ):
        i = np.clip(np.searchsorted(nodes, value) - 1, 0, len(nodes) - 2)
        weights.append((i, (value - nodes[i]) / (nodes[i + 1] - nodes[i])))
    (t, part_t), (e, part_e) = weights
    # Thinner gas has no more than cores. Elsewhere the ends of the table are followed a little.
    part_t = np.clip(part_t, -0.5, 1.5)
    part_e = np.clip(part_e, 0.0, 2.0)
    width = np.zeros(len(t))
    profile = np.zeros((len(t), lines.profile.shape[-1]))
    for dt, wt in ((0, 1.0 - part_t), (1, part_t)):
        for de, we in ((0, 1.0 - part_e), (1, part_e)):
            width = width + wt * we * lines.log_width[line, t + dt, e + de]
            profile = profile + (wt * we)[:, None] * lines.profile[line, t + dt, e + de]
    return 10.0**width, np.asfortranarray(profile.T)


@nb.njit(cache=True, error_model="numpy", fastmath=True)
def _profile(
    detuning: NDArray, shape: NDArray, scale: float, step: float, scales: NDArray
) -> NDArray:
    """Stark profile + Voigt function - Gaussian, at detunings (K,) in layers (L,)."""
    result = np.empty((detuning.size, shape.shape[1]))
    for i in range(shape.shape[1]):
        width, thermal, doppler, a = scales[:, i]
        for k in range(detuning.size):
            value = _stark_profile(shape[:, i], detuning[k] / width, scale, step) / width
            value += _voigt(detuning[k] / doppler, a) / (doppler * _ROOT_PI)
            v = detuning[k] / thermal
            if v < 6.0:
                value -= math.exp(-v * v) / (thermal * _ROOT_PI)
            result[k, i] = max(value, 0.0)
    return result


@nb.njit(error_model="numpy", fastmath=True, inline="always")
def _stark_profile(shape: NDArray, x: float, scale: float, step: float) -> float:
    """10**shape (U,), cubic in u where x = scale sinh(step u); a power -5/2 beyond its end."""
    last = shape.size - 1
    y = x / scale
    u = math.log(y + math.sqrt(y * y + 1.0)) / step
    if u >= last:
        return math.exp(_LN10 * shape[last]) * (scale * math.sinh(step * last) / x) ** 2.5
    j = min(int(u), last - 1)
    f = u - j
    y1, y2 = shape[j], shape[j + 1]
    y0 = shape[abs(j - 1)]
    y3 = shape[j + 2] if j + 2 <= last else 2.0 * y2 - y1
    a = 3.0 * (y1 - y2) + y3 - y0
    b = 2.0 * y0 - 5.0 * y1 + 4.0 * y2 - y3
    return math.exp(_LN10 * (y1 + 0.5 * f * (y2 - y0 + f * (b + f * a))))


def _strength(lines: HydrogenLines, line: int, gas: Gas) -> NDArray:
    """Opacity times wavelength, cm^-1 Å, in L layers: times a profile in 1/Å it is an opacity."""
    lower, upper = int(lines.lower[line]), int(lines.upper[line])
    neutral, partition = gas.atoms["H"][0], gas.partition["H"][0]
    boltzmann = np.exp(-_SECOND * level_energy(lower) / gas.temperature)
    emission = -np.expm1(-_SECOND * 1e8 / (lines.wavelength[line] * gas.temperature))
    # w of the lower level in its number, and w of the upper given the lower in the cross-section
    occupied = _occupied(float(upper), neutral, gas.atoms["He"][0], gas.electrons, gas.temperature)
    number = 2.0 * lower**2 * neutral / partition * boltzmann * occupied
    area = _STRENGTH * lines.strength[line] * lines.wavelength[line] ** 2 * 1e-8 / LIGHT
    return number * emission * area


@nb.vectorize(["float64(float64, float64, float64, float64, float64)"], cache=True)
def _occupied(level, neutral, helium, electrons, temperature):  # type: ignore[no-untyped-def]
    return occupation_probability(level, neutral, helium, electrons, temperature)


def _half_width(lines: HydrogenLines, line: int, gas: Gas) -> NDArray:
    """Half width of the Lorentzian by H, He and radiation, rad/s, in L layers."""
    lower, upper = int(lines.lower[line]), int(lines.upper[line])
    width = lines.damping[line] + np.zeros(len(gas.temperature))
    hydrogen, helium = gas.atoms["H"][0], gas.atoms["He"][0]
    if lower == 2 and upper in _SELF:
        width += hydrogen * _collisions(*_SELF[upper], gas.temperature, MASS[0])
    else:
        width += hydrogen * _resonance(lines, lower)
    if lower == 2 and upper in _HELIUM:
        rate = _collisions(*_HELIUM[upper], gas.temperature, MASS[1])
        width += helium * rate * _POLARISABILITY
    else:
        # Unsöld (1955) with the mean square radius of the upper level
        square = float(upper * upper)
        rate = 9.2e-10 * (square * (7.0 * square + 5.0)) ** 0.4
        width += helium * rate * (gas.temperature / 1e4) ** 0.3
    return width


def _resonance(lines: HydrogenLines, level: int) -> float:
    """Half width per neutral atom by resonance of a level with the ground state, rad/s cm3.

    Ali & Griem (1966, Phys. Rev. 144, 366).
    """
    strength = lines.resonance[level] if level < len(lines.resonance) else 0.0
    frequency = 2.0 * math.pi * LIGHT * RYDBERG_HYDROGEN * (1.0 - 1.0 / level**2)
    charge = ELECTRON_CHARGE**2 / (ELECTRON_MASS * frequency)
    return 1.92 * math.pi * math.sqrt(1.0 / 3.0) * charge * strength


def _collisions(section: float, alpha: float, temperature: NDArray, mass: float) -> NDArray:
    """Half width per perturber, rad/s cm3, of a cross-section that falls with speed^alpha.

    Anstee & O'Mara (1995, MNRAS 276, 859).
    """
    reduced = ATOMIC_MASS / (1.0 / MASS[0] + 1.0 / mass)
    speed = np.sqrt(8.0 * BOLTZMANN * temperature / (math.pi * reduced))
    factor = (4.0 / math.pi) ** (alpha / 2.0) * gamma(2.0 - alpha / 2.0)
    return factor * section * BOHR_RADIUS**2 * 1e6 * (speed / 1e6) ** (1.0 - alpha)


@nb.njit(cache=True, error_model="numpy", fastmath=True)
def _add_line(total: NDArray, knots: NDArray, centre: float, values: NDArray) -> None:
    """Add a line, given by its `values` (K, L) at `KNOTS`, to the sum at the knots of all lines."""
    for m in range(knots.size):
        x = abs(centre / knots[m] - 1.0)
        k = int(math.asinh(x / CORE) / KNOT + 1e-9)
        if k >= values.shape[0] - 1:
            continue
        part = np.float32((x - KNOTS[k]) / (KNOTS[k + 1] - KNOTS[k]))
        for i in range(total.shape[1]):
            total[m, i] += values[k, i] + part * (values[k + 1, i] - values[k, i])


@nb.njit(cache=True, error_model="numpy", fastmath=True)
def _add_interpolated(
    opacity: NDArray, wavelength: NDArray, knots: NDArray, total: NDArray
) -> None:
    """Add `total` (K, L) at the knots to the opacity, linear in wavelength between them."""
    k = 0
    for m in range(wavelength.size):
        if wavelength[m] < knots[0] or wavelength[m] > knots[-1]:
            continue
        while k < knots.size - 2 and knots[k + 1] < wavelength[m]:
            k += 1
        part = np.float32((wavelength[m] - knots[k]) / (knots[k + 1] - knots[k]))
        for i in range(total.shape[1]):
            opacity[m, i] += total[k, i] + part * (total[k + 1, i] - total[k, i])
