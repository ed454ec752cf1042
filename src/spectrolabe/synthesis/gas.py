"""The gas of each layer: what the equation of state gives, and all that opacity needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from numpy.typing import NDArray

__all__ = ["Gas"]


@dataclass(frozen=True, eq=False)
class Gas:
    """Number densities in L layers, cgs.

    Parameters
    ----------
    temperature : ndarray, shape (L,)
        K.
    pressure : ndarray, shape (L,)
        Total gas pressure including electrons, dyn/cm2.
    electrons : ndarray, shape (L,)
        Electron density, 1/cm3.
    hydrogen : ndarray, shape (L,)
        Hydrogen nuclei in any form, 1/cm3.
    density : ndarray, shape (L,)
        g/cm3.
    atoms : mapping of str to ndarray, shape (3, L)
        By symbol: number density of the neutral atom, the singly and the doubly charged ion.
        All the level populations of a stage divide by `partition` of that stage.
    molecules : mapping of str to ndarray, shape (L,)
        By name (``CH``, ``CN``, ``C2``, ``MgH``, ``H2``, ...): number density.
    partition : mapping of str to ndarray
        By symbol shape (3, L), by molecule shape (L,): partition functions.
    """

    temperature: NDArray
    pressure: NDArray
    electrons: NDArray
    hydrogen: NDArray
    density: NDArray
    atoms: Mapping[str, NDArray]
    molecules: Mapping[str, NDArray]
    partition: Mapping[str, NDArray]
