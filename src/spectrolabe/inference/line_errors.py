"""By how much models of the Sun miss the Sun, wavelength by wavelength.

Line lists have lines that stars do not have, and miss some that they have. Where a model of the
Sun with the known labels of the Sun is wrong, a fit of another star should not believe it either.
``scripts/line_errors.py`` makes the table, from a spectrum of the Sun of very high resolution.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["LineErrors", "line_error", "line_errors"]

TABLE = "line_errors.npz"


class LineErrors(NamedTuple):
    """Errors on grids of ln(wavelength), one for each of some resolutions.

    Parameters
    ----------
    resolution : ndarray, shape (Q,)
        R, ascending.
    start, step : ndarray, shape (Q,)
        ln(wavelength / vacuum Å) at rest of the first number, and from one to the next.
    error : tuple of Q ndarrays
        Root mean square over one FWHM, relative to the continuum.
    """

    resolution: NDArray
    start: NDArray
    step: NDArray
    error: tuple[NDArray, ...]


@cache
def line_errors() -> LineErrors:
    """Read the table that comes with the package."""
    path = resources.files("spectrolabe.inference") / "tables" / TABLE
    with resources.as_file(path) as file, np.load(file, allow_pickle=False) as table:
        r = table["resolution"]
        error = tuple(table[f"error_{q}"].astype(np.float32) for q in range(len(r)))
        return LineErrors(r, table["start"], table["step"], error)


def line_error(log_wavelength: ArrayLike, resolution: float) -> NDArray:
    """Return the error of models of the Sun, relative to the continuum, shape (M,), float32.

    Parameters
    ----------
    log_wavelength : array_like, shape (M,)
        ln(wavelength / vacuum Å), at rest.
    resolution : float
        R; between those of the table the error is interpolated in ln(R), beyond them it is that of
        the nearest.

    Returns
    -------
    ndarray
        0 beyond the wavelengths of the table.
    """
    table, x = line_errors(), np.asarray(log_wavelength, dtype=np.float64)
    log_r = np.log(table.resolution)
    place = float(np.interp(np.log(resolution), log_r, np.arange(len(log_r))))
    total = np.zeros(x.shape)
    for q in {int(place), min(int(place) + 1, len(log_r) - 1)}:
        share = max(0.0, 1.0 - abs(place - q))
        grid = table.start[q] + table.step[q] * np.arange(len(table.error[q]))
        total += share * np.interp(x, grid, table.error[q], left=0.0, right=0.0)
    return total.astype(np.float32)
