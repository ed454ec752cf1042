"""Fit the library of intrinsic spectra to grids, and say how well it does on stars left out.

    python scripts/library.py OUTPUT GRID [GRID ...]

Every eighth star of the last grid is left out of a first fit, and tested; the library written is
fitted to all.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from astropy.table import Table

from spectrolabe.labels import ELEMENTS
from spectrolabe.sky.library import Library, fit_library
from spectrolabe.spectra import Instrument, convolve_lsf, observe
from spectrolabe.synthesis import read_grid
from spectrolabe.synthesis.grid import Grid

RESOLUTION = 30000.0
STEP = 1.6e-5  # in ln(wavelength): 2.1 pixels a resolution element
RANGES = ((3701.0, 9799.0), (15101.0, 16999.0))
COMPONENTS = 80
LENGTHS = {"teff": 1100.0, "logg": 2.2, "fe_h": 1.1, "v_micro": 3.0} | {
    f"{symbol.lower()}_fe": 6.0 for symbol in ELEMENTS
}


def wavelengths() -> np.ndarray:
    """Return the pixels of the library."""
    return np.concatenate([np.exp(np.arange(np.log(a), np.log(b), STEP)) for a, b in RANGES])


def errors(library: Library, grid: Grid, rows: np.ndarray) -> None:
    """Print the mean absolute error of the flux of some stars, as it is and at R = 1800."""
    stars = Table(np.asarray(grid.labels.values)[rows], names=grid.labels.names)
    like = Instrument(library.wavelength, library.resolution, "library")
    found, _ = library(stars)
    for name, part in (("optical", library.wavelength < 1e4), ("H", library.wavelength > 1e4)):
        pixels = library.wavelength[part]
        fine = np.stack([observe(grid.wavelength, grid.flux[i], like)[part] for i in rows])
        off = found[:, part] - fine
        coarse = convolve_lsf(pixels, off, 1800.0, library.resolution)
        per_star = 100 * np.abs(off).mean(axis=1)
        print(
            f"{name}: mean absolute error {per_star.mean():.3f} per cent (median star "
            f"{np.median(per_star):.3f}, worst {per_star.max():.3f}), at R = 1800 "
            f"{100 * np.abs(coarse).mean():.3f} per cent; {len(rows)} stars left out"
        )


def main(output: str, *paths: str) -> None:
    """Fit twice: for the test, and for good."""
    grids = [read_grid(Path(path)) for path in paths]
    held_out = np.arange(0, len(grids[-1].labels.values), 8)
    fine = wavelengths()
    common = {"components": COMPONENTS}
    test = fit_library(grids, fine, RESOLUTION, LENGTHS, left_out=held_out, **common)
    errors(test, grids[-1], held_out)
    fit_library(grids, fine, RESOLUTION, LENGTHS, **common).save(output)


if __name__ == "__main__":
    main(*sys.argv[1:])
