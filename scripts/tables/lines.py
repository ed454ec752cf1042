"""Lines: the Gaia-ESO list and linemake, those that matter, with all that damps them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from _line_choice import matter
from _line_damping import damping_constants, read_broadening
from _line_sources import read
from numpy.typing import NDArray

from spectrolabe.spectra.wavelength import air_to_vacuum
from spectrolabe.synthesis.linelist import NONE, STEPS


def pack(packages: Path) -> dict[str, NDArray]:
    """Return integers in units of `STEPS`, in order of wavelength; damping as log10."""
    lines = read(packages)
    names = sorted({line.species for line in lines})
    number = {name: k for k, name in enumerate(names)}
    species = np.array([number[line.species] for line in lines])
    wavelength = air_to_vacuum([line.air for line in lines])
    energy = np.array([line.energy for line in lines])
    log_gf = np.array([line.log_gf for line in lines])
    member = np.array([line.lists > 0 for line in lines])
    kept = np.flatnonzero(member & matter(wavelength, energy, log_gf, species, names))
    kept = kept[np.argsort(wavelength[kept], kind="stable")]
    print(f"{kept.size} of {len(lines)} lines matter")
    constants = damping_constants([lines[k] for k in kept], read_broadening(packages))
    used, renumbered = np.unique(species[kept], return_inverse=True)
    ticks = _scaled("wavelength", wavelength[kept], np.int64)
    return {
        "species_names": np.array(names)[used],
        "species": renumbered.astype(np.uint8),
        "lists": np.array([lines[k].lists for k in kept], dtype=np.uint8),
        "wavelength": np.diff(ticks, prepend=0).astype(np.uint32),
        "energy": _scaled("energy", energy[kept], np.uint32),
        "log_gf": _scaled("log_gf", log_gf[kept], np.int16),
        "radiative": _decades("radiative", constants[0]),
        "stark": _decades("stark", constants[1]),
        "waals": _decades("waals", constants[2]),
        "waals_power": _scaled("waals_power", constants[3], np.int16),
    }


def _scaled(name: str, values: NDArray, kind: type) -> NDArray:
    return np.round(values / STEPS[name]).astype(kind)


def _decades(name: str, values: NDArray) -> NDArray:
    logarithm = np.log10(np.where(values > 0.0, values, 1.0))
    return np.where(values > 0.0, _scaled(name, logarithm, np.int16), NONE).astype(np.int16)
