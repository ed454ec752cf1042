"""The lines: where they are, how strong, and what damps them."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from spectrolabe.errors import InputError, unknown_name
from spectrolabe.labels import read_only
from spectrolabe.synthesis.elements import MASS, atomic_number
from spectrolabe.synthesis.tables import load_table

__all__ = ["COVERED", "LISTS", "LineList", "constituents", "elements_with_lines", "load_lines"]

FULL, REFERENCE, SHARP, WIDE = 1, 2, 4, 8  # bits of each line: its lists, and see `ASSUMED`
LISTS: dict[str, int] = {"full": FULL, "reference": REFERENCE}
"""``reference`` is the list of the Turbospectrum spectra that the engine is checked against, flaws
included: no lines whose log gf less lower energy in eV is small (so no O I triplet at 7774, no weak
CN), lines of CH that do not exist, 3980-4018 Angstrom twice, and one radiative damping for lines
of which the Gaia-ESO list knows none, and for those below 4200. ``full`` has all lines that matter,
each with its damping, and neither of the others: use it for real stars."""

COVERED: tuple[tuple[float, float], ...] = ((3700.0, 9800.0), (15100.0, 17000.0))
"""Vacuum Angstrom that the list covers."""

STEPS = {
    "wavelength": 1e-4,
    "energy": 1e-4,
    "log_gf": 1e-3,
    "radiative": 1e-2,
    "stark": 1e-2,
    "waals": 2e-3,
    "waals_power": 1e-3,
}
"""Units of the packed integers: Angstrom, eV, dex; damping constants are packed as log10."""

NONE = -32768
"""Packed logarithm of a damping constant that is zero."""

ASSUMED = {SHARP: 1e5, WIDE: 1e8}  # rad/s: radiative damping in the reference list
MARGIN = 50.0  # Å beyond a window from which lines still reach into it


@dataclass(frozen=True, eq=False)
class LineList:
    """N lines in order of wavelength; arrays cannot be written.

    Damping constants are full widths at half maximum in angular frequency: a line of damping
    gamma has the Voigt parameter gamma / (4 pi doppler width in Hz).

    Parameters
    ----------
    wavelength : ndarray, shape (N,)
        Vacuum Angstrom.
    log_gf : ndarray, shape (N,)
        Oscillator strength times weight of the lower level; the share of the isotope in the
        element is included.
    energy : ndarray, shape (N,)
        Lower level, eV.
    species : ndarray of int, shape (N,)
        Index into ``species_names``.
    radiative : ndarray, shape (N,)
        rad/s.
    stark : ndarray, shape (N,)
        Per electron, rad/s cm3; 0 where there is none.
    waals, waals_power : ndarray, shape (N,)
        Per neutral hydrogen atom at 10,000 K, rad/s cm3, and its power of temperature.
    species_names : tuple of str
        S names: ``"Fe 1"`` is neutral, ``"Fe 2"`` singly ionised iron, ``"CH"`` a molecule.
    mass : ndarray, shape (S,)
        u.
    """

    wavelength: NDArray
    log_gf: NDArray
    energy: NDArray
    species: NDArray
    radiative: NDArray
    stark: NDArray
    waals: NDArray
    waals_power: NDArray
    species_names: tuple[str, ...]
    mass: NDArray

    PER_LINE = (
        "wavelength", "log_gf", "energy", "species", "radiative", "stark", "waals", "waals_power",
    )  # fmt: skip

    def __post_init__(self) -> None:
        for name in (*self.PER_LINE, "mass"):
            object.__setattr__(self, name, read_only(getattr(self, name)))

    @functools.cached_property
    def elements(self) -> tuple[tuple[str, ...], ...]:
        """The elements of each species: one of an atom, all of a molecule."""
        return tuple(constituents(name) for name in self.species_names)

    def select(self, chosen: NDArray | slice) -> LineList:
        """Return some of the lines."""
        lines = {name: getattr(self, name)[chosen] for name in self.PER_LINE}
        return LineList(**lines, species_names=self.species_names, mass=self.mass)

    def of_element(self, symbol: str) -> NDArray:
        """Return the indices of the lines of an element, its molecules included.

        Raises
        ------
        InputError
            If there is no such element.
        """
        atomic_number(symbol)
        own = np.array([symbol in elements for elements in self.elements], dtype=bool)
        return np.flatnonzero(own[self.species])


def constituents(species: str) -> tuple[str, ...]:
    """Return the elements in the name of an atom, an ion or a molecule, each once."""
    symbols = re.findall("[A-Z][a-z]?", species)
    return tuple(dict.fromkeys(symbols))


@functools.lru_cache(maxsize=8)
def load_lines(low: float, high: float, lines: str = "reference") -> LineList:
    """Return the lines that may matter from ``low`` to ``high`` vacuum Angstrom.

    Lines up to 50 Angstrom outside are among them, for their wings.

    Parameters
    ----------
    low, high : float
    lines : {"reference", "full"}
        Which list, see `LISTS`.

    Raises
    ------
    InputError
        If part of the window is not covered, or there is no such list.
    """
    _check_covered(low, high)
    if lines not in LISTS:
        raise unknown_name("lines", lines, LISTS, kind="line list")
    known = _all_lines()
    reach = slice(*np.searchsorted(known.wavelength, (low - MARGIN, high + MARGIN)))
    bits = load_table("lines")["lists"][reach]
    chosen = np.flatnonzero(bits & LISTS[lines])
    part = known.select(chosen + reach.start)
    if lines == "full":
        return part
    radiative = part.radiative.copy()
    for bit, width in ASSUMED.items():
        radiative[(bits[chosen] & bit) > 0] = width
    return replace(part, radiative=radiative)


def elements_with_lines(low: float, high: float) -> frozenset[str]:
    """Return the symbols of the elements with lines of atoms or molecules in a window.

    Raises
    ------
    InputError
        If part of the window is not covered.
    """
    _check_covered(low, high)
    lines = _all_lines()
    inside = slice(*np.searchsorted(lines.wavelength, (low, high)))
    found = np.unique(lines.species[inside])
    return frozenset(symbol for k in found for symbol in lines.elements[k])


def _check_covered(low: float, high: float) -> None:
    if any(start <= low <= high <= end for start, end in COVERED):
        return
    covered = " or ".join(f"{start:g} to {end:g}" for start, end in COVERED)
    raise InputError(
        "wavelength",
        expected=f"vacuum Angstrom within {covered}, which the line list covers",
        found=f"{low:.2f} to {high:.2f}",
        fix="Choose a window inside; windows on both sides of the gap are computed one by one.",
    )


@functools.cache
def _all_lines() -> LineList:
    """The packed list; ``tables/README.md`` says what it is made of."""
    table = load_table("lines")
    names = tuple(str(name) for name in table["species_names"])

    def decades(name: str) -> NDArray:
        packed = table[name]
        return np.where(packed == NONE, 0.0, 10.0 ** (packed * STEPS[name]))

    return LineList(
        wavelength=np.cumsum(table["wavelength"], dtype=np.int64) * STEPS["wavelength"],
        log_gf=table["log_gf"] * STEPS["log_gf"],
        energy=table["energy"] * STEPS["energy"],
        species=table["species"].astype(np.intp),
        radiative=decades("radiative"),
        stark=decades("stark"),
        waals=decades("waals"),
        waals_power=table["waals_power"] * STEPS["waals_power"],
        species_names=names,
        mass=np.array([_mass(name) for name in names]),
    )


def _mass(species: str) -> float:
    symbols = re.findall("([A-Z][a-z]?)([2-9]?)", species.split(" ")[0])
    return float(sum(MASS[atomic_number(x) - 1] * int(count or 1) for x, count in symbols))
