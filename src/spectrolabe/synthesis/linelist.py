"""The lines: where they are, how strong, and what damps them."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spectrolabe.errors import InputError
from spectrolabe.labels import read_only
from spectrolabe.synthesis.elements import MASS, atomic_number
from spectrolabe.synthesis.tables import load_table

__all__ = ["COVERED", "LineList", "elements_with_lines", "load_lines"]

COVERED: tuple[tuple[float, float], ...] = ((3700.0, 9800.0), (15100.0, 17000.0))
"""Vacuum Angstrom that the list covers."""

MARGIN = 50.0  # Å beyond a window from which lines still reach into it
MOLECULES = {
    "CH": ("C", "H"),
    "CN": ("C", "N"),
    "C2": ("C", "C"),
    "CO": ("C", "O"),
    "MgH": ("Mg", "H"),
    "OH": ("O", "H"),
}


@dataclass(frozen=True, eq=False)
class LineList:
    """N lines in order of wavelength; arrays cannot be written.

    Parameters
    ----------
    wavelength : ndarray, shape (N,)
        Vacuum Angstrom.
    log_gf : ndarray, shape (N,)
        Oscillator strength times weight of the lower level, the share of the isotope included.
    energy : ndarray, shape (N,)
        Lower level, eV.
    species : ndarray of int, shape (N,)
        Index into ``species_names``.
    radiative : ndarray, shape (N,)
        Damping constant: full width at half maximum in angular frequency, rad/s.
    stark : ndarray, shape (N,)
        The same per electron, rad/s cm3.
    waals, waals_power : ndarray, shape (N,)
        The same per neutral hydrogen atom at 10,000 K, and its power of temperature.
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

    def select(self, chosen: NDArray | slice) -> LineList:
        """Return some of the lines."""
        lines = {name: getattr(self, name)[chosen] for name in self.PER_LINE}
        return LineList(**lines, species_names=self.species_names, mass=self.mass)

    def of_element(self, symbol: str) -> NDArray:
        """Return the indices of the atomic lines of an element."""
        own = [name.split(" ")[0] == symbol and " " in name for name in self.species_names]
        return np.flatnonzero(np.array(own)[self.species])


def load_lines(low: float, high: float) -> LineList:
    """Return the lines that may matter from ``low`` to ``high`` vacuum Angstrom.

    Raises
    ------
    InputError
        If part of the window is not covered.
    """
    if not any(a <= low and high <= b for a, b in COVERED):
        covered = " or ".join(f"{a:g} to {b:g}" for a, b in COVERED)
        raise InputError(
            "wavelength",
            expected=f"vacuum Angstrom within {covered}, which the line list covers",
            found=f"{low:.2f} to {high:.2f}",
            fix="Choose a window inside; two windows can be in one grid.",
        )
    lines = _all_lines()
    first, last = np.searchsorted(lines.wavelength, (low - MARGIN, high + MARGIN))
    return lines.select(slice(first, last))


def elements_with_lines(low: float, high: float) -> frozenset[str]:
    """Return the symbols of the elements with lines of atoms or molecules in a window."""
    lines = _all_lines()
    inside = (lines.wavelength >= low) & (lines.wavelength <= high)
    names = [lines.species_names[k] for k in np.unique(lines.species[inside])]
    return frozenset(symbol for name in names for symbol in _elements(name))


def _elements(species: str) -> tuple[str, ...]:
    symbol, _, stage = species.partition(" ")
    return (symbol,) if stage else MOLECULES[species]


@functools.cache
def _all_lines() -> LineList:
    """The packed list; ``scripts/tables/lines.py`` says how it is packed, and from what."""
    table = load_table("lines")
    names = tuple(str(name) for name in table["species_names"])

    def decades(name: str) -> NDArray:
        return np.where(table[name] == -30000, 0.0, 10.0 ** (table[name] / 1e3))

    return LineList(
        wavelength=np.cumsum(table["steps"], dtype=np.int64) / 1e4,
        log_gf=table["log_gf"] / 1e3,
        energy=table["energy"] / 1e4,
        species=table["species"].astype(np.intp),
        radiative=decades("radiative"),
        stark=decades("stark"),
        waals=decades("waals"),
        waals_power=table["waals_power"] / 1e4,
        species_names=names,
        mass=np.array([sum(MASS[atomic_number(x) - 1] for x in _elements(n)) for n in names]),
    )
