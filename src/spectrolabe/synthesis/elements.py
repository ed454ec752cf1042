"""Elements: symbols, masses and the solar mixture; abundances of a star from its labels."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from spectrolabe.errors import unknown_name

__all__ = ["MASS", "SOLAR", "SYMBOLS", "atomic_number", "mixture"]

SYMBOLS: tuple[str, ...] = (
    "H", "He", "Li", "Be", "B", "C", "N", "O", "F", "Ne", "Na", "Mg", "Al", "Si", "P", "S", "Cl",
    "Ar", "K", "Ca", "Sc", "Ti", "V", "Cr", "Mn", "Fe", "Co", "Ni", "Cu", "Zn", "Ga", "Ge", "As",
    "Se", "Br", "Kr", "Rb", "Sr", "Y", "Zr", "Nb", "Mo", "Tc", "Ru", "Rh", "Pd", "Ag", "Cd", "In",
    "Sn", "Sb", "Te", "I", "Xe", "Cs", "Ba", "La", "Ce", "Pr", "Nd", "Pm", "Sm", "Eu", "Gd", "Tb",
    "Dy", "Ho", "Er", "Tm", "Yb", "Lu", "Hf", "Ta", "W", "Re", "Os", "Ir", "Pt", "Au", "Hg", "Tl",
    "Pb", "Bi", "Po", "At", "Rn", "Fr", "Ra", "Ac", "Th", "Pa", "U",
)  # fmt: skip

MASS: NDArray = np.array([
    1.008, 4.0026, 6.94, 9.0122, 10.81, 12.011, 14.007, 15.999, 18.998, 20.180, 22.990, 24.305,
    26.982, 28.085, 30.974, 32.06, 35.45, 39.948, 39.098, 40.078, 44.956, 47.867, 50.942, 51.996,
    54.938, 55.845, 58.933, 58.693, 63.546, 65.38, 69.723, 72.630, 74.922, 78.971, 79.904, 83.798,
    85.468, 87.62, 88.906, 91.224, 92.906, 95.95, 97.0, 101.07, 102.91, 106.42, 107.87, 112.41,
    114.82, 118.71, 121.76, 127.60, 126.90, 131.29, 132.91, 137.33, 138.91, 140.12, 140.91, 144.24,
    145.0, 150.36, 151.96, 157.25, 158.93, 162.50, 164.93, 167.26, 168.93, 173.05, 174.97, 178.49,
    180.95, 183.84, 186.21, 190.23, 192.22, 195.08, 196.97, 200.59, 204.38, 207.2, 208.98, 209.0,
    210.0, 222.0, 223.0, 226.0, 227.0, 232.04, 231.04, 238.03,
])  # fmt: skip
"""Mean atomic masses in u (IUPAC 2021), H to U."""

_NONE = -np.inf
SOLAR: NDArray = np.array([
    12.00, 10.93, 1.05, 1.38, 2.70, 8.39, 7.78, 8.66, 4.56, 7.84, 6.17, 7.53, 6.37, 7.51, 5.36,
    7.14, 5.50, 6.18, 5.08, 6.31, 3.17, 4.90, 4.00, 5.64, 5.39, 7.45, 4.92, 6.23, 4.21, 4.60,
    2.88, 3.58, 2.29, 3.33, 2.56, 3.25, 2.60, 2.92, 2.21, 2.58, 1.42, 1.92, _NONE, 1.84, 1.12,
    1.66, 0.94, 1.77, 1.60, 2.00, 1.00, 2.19, 1.51, 2.24, 1.07, 2.17, 1.13, 1.70, 0.58, 1.45,
    _NONE, 1.00, 0.52, 1.11, 0.28, 1.14, 0.51, 0.93, 0.00, 1.08, 0.06, 0.88, -0.17, 1.11, 0.23,
    1.25, 1.38, 1.64, 1.01, 1.13, 0.90, 2.00, 0.65, _NONE, _NONE, _NONE, _NONE, _NONE, _NONE,
    0.06, _NONE, -0.52,
])  # fmt: skip
"""Solar log10(n_X / n_H) + 12 (Grevesse, Asplund & Sauval 2007, the mixture of MARCS)."""

for _array in (MASS, SOLAR):
    _array.flags.writeable = False


def atomic_number(symbol: str) -> int:
    """Return Z of an element symbol.

    Raises
    ------
    InputError
        If there is no such element.
    """
    if symbol not in SYMBOLS:
        raise unknown_name("element", symbol, SYMBOLS, kind="element")
    return SYMBOLS.index(symbol) + 1


def mixture(fe_h: float, x_fe: Mapping[str, float] | None = None) -> NDArray:
    """Return n_X / n_H of all elements.

    Parameters
    ----------
    fe_h : float
        [Fe/H]; scales all elements beyond helium.
    x_fe : mapping of str to float, optional
        [X/Fe] by element symbol; elements not named follow iron.

    Returns
    -------
    ndarray, shape (92,)
    """
    abundance = 10.0 ** (SOLAR - 12.0)
    abundance[2:] *= 10.0**fe_h
    for symbol, value in (x_fe or {}).items():
        abundance[atomic_number(symbol) - 1] *= 10.0**value
    return abundance
