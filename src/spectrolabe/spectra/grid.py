"""Wavelength grids: their check, the edges of their pixels, and banded operators between them."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray

from spectrolabe.errors import InputError

__all__ = ["apply", "bands", "checked_flux", "checked_grid", "pixel_edges", "uniform_step"]

GAP = 5.0  # a step this many times both of its neighbours lies between two pieces of spectrum


def checked_grid(name: str, wavelength: ArrayLike) -> NDArray:
    """Return wavelengths as float64, or the error that says why they are no grid."""
    grid = np.asarray(wavelength, dtype=np.float64)
    if grid.ndim != 1 or len(grid) < 2:
        raise InputError(name, expected="two wavelengths or more", found=f"shape {grid.shape}")
    back = ~(np.diff(grid) > 0)
    if back.any() or not (grid[0] > 0 and np.isfinite(grid[-1])):
        where = int(np.argmax(back)) if back.any() else 0
        raise InputError(
            name,
            expected="finite, positive, strictly ascending wavelengths",
            found=f"{grid[where]} then {grid[where + 1]} at pixel {where}",
            fix="Sort the pixels by wavelength.",
        )
    return grid


def checked_flux(grid: NDArray, flux: ArrayLike, ivar: ArrayLike | None = None) -> NDArray:
    """Return flux, shape (..., M), as float64 with 0 under ``ivar == 0``.

    Raises
    ------
    InputError
        If shapes disagree, ivar is negative or not finite, or flux is not finite where it counts.
    """
    values = np.asarray(flux, dtype=np.float64)
    weight = np.ones(len(grid)) if ivar is None else np.asarray(ivar)
    if values.shape[-1:] != grid.shape:
        raise InputError(
            "flux", expected=f"shape (..., {len(grid)})", found=f"shape {values.shape}"
        )
    if weight.shape not in (grid.shape, values.shape):
        raise InputError(
            "ivar",
            expected=f"shape {grid.shape} or that of flux, {values.shape}",
            found=f"shape {weight.shape}",
        )
    if not (np.isfinite(weight).all() and (weight >= 0).all()):
        raise InputError(
            "ivar",
            expected="finite, non-negative inverse variances",
            found=f"{int(np.sum(~((weight >= 0) & np.isfinite(weight))))} others",
            fix="Set ivar to 0 where a pixel must not be used.",
        )
    lost = int(np.sum(~np.isfinite(values) & (weight > 0)))
    if lost:
        raise InputError(
            "flux",
            expected="finite values" + (" wherever ivar > 0" if ivar is not None else ""),
            found=f"{lost} that are not",
            fix="Set ivar to 0 there." if ivar is not None else "Fill the gaps first.",
        )
    return np.where(weight > 0, values, 0.0)


def uniform_step(grid: NDArray) -> float | None:
    """Return the step of a grid whose steps are equal to one part in 10^6, else None."""
    steps = np.diff(grid)
    mean = float(grid[-1] - grid[0]) / len(steps)
    return mean if np.abs(steps - mean).max() < 1e-6 * mean else None


def pixel_edges(grid: NDArray) -> tuple[NDArray, NDArray]:
    """Return lower and upper edges of pixels: the midpoints, except beside a gap.

    A gap is a step of more than five times the steps on both of its sides; a pixel beside it
    reaches as far into the gap as it does on its other side.
    """
    step = np.diff(grid)
    left, right = np.r_[step[0], step], np.r_[step, step[-1]]
    if len(grid) > 3:
        beside = np.maximum(np.r_[0.0, step[:-1]], np.r_[step[1:], 0.0])
        before = np.flatnonzero(step > GAP * beside)
        after = before + 1
        # a lone pixel at either end of the grid is as wide as its neighbour across the gap
        right[before] = np.where(before > 0, step[before - 1], step[1])
        left[0] = right[0]
        left[after] = np.where(after < len(step), step[np.minimum(after, len(step) - 1)], step[-2])
        right[-1] = left[-1]
    return grid - left / 2, grid + right / 2


def bands(first: NDArray, last: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """Return row pointers, rows and columns of a matrix with columns first..last-1 in each row."""
    count = np.maximum(last - first, 0)
    pointer = np.r_[0, np.cumsum(count)]
    row = np.repeat(np.arange(len(count)), count)
    return pointer, row, np.arange(pointer[-1]) - np.repeat(pointer[:-1] - first, count)


def apply(operator: sp.csr_array, values: NDArray) -> NDArray:
    """Apply an operator, shape (P, M), to the last axis of values, shape (..., M)."""
    if values.ndim == 1:
        return operator @ values
    flat = values.reshape(-1, values.shape[-1])
    return np.ascontiguousarray((operator @ flat.T).T).reshape(*values.shape[:-1], -1)
