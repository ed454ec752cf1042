"""What lies between a star and its pixels: the only place where flux changes grid.

Wavelength scales (air, vacuum, Doppler), line-spread functions, and resampling. All wavelengths are
vacuum Angstrom, a resolution is R = wavelength / FWHM, velocities are km/s with + = receding.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray

from spectrolabe.errors import InputError

__all__ = [
    "air_to_vacuum",
    "resample",
    "vacuum_to_air",
]

# both scales hold 2000 Å to 2.5 µm with room for the difference between them
AIR_VACUUM_RANGE = (1999.0, 25010.0)
GAP = 5.0  # a step this many times both of its neighbours lies between two pieces of spectrum


def air_to_vacuum(wavelength_air: ArrayLike) -> NDArray:
    """Return vacuum wavelengths of wavelengths in standard air.

    The numerical inverse of `vacuum_to_air`, so that there is one formula.

    Parameters
    ----------
    wavelength_air : array_like, any shape
        Angstrom, 2000 Å to 2.5 µm.

    Returns
    -------
    ndarray, float64, of the same shape
        Angstrom; ``vacuum_to_air`` of it returns the input to better than 1e-9 Å.

    Raises
    ------
    InputError
        If a wavelength lies outside the range of the formula.
    """
    air = _in_air_vacuum_range("wavelength_air", wavelength_air)
    vacuum = air
    for _ in range(4):  # each round gains five digits: the index changes little with wavelength
        vacuum = air * _index_of_air(vacuum)
    return vacuum


def vacuum_to_air(wavelength_vacuum: ArrayLike) -> NDArray:
    """Return wavelengths in standard air (15 C, 101325 Pa, dry) of vacuum wavelengths.

    Parameters
    ----------
    wavelength_vacuum : array_like, any shape
        Angstrom, 2000 Å to 2.5 µm.

    Returns
    -------
    ndarray, float64, of the same shape
        Angstrom.

    Raises
    ------
    InputError
        If a wavelength lies outside the range of the formula.

    Notes
    -----
    Birch & Downs (1994, Metrologia 31, 315) as given by Morton (2000, ApJS 130, 403, eq. 8), the
    formula of VALD. The one of Ciddor (1996) differs by less than 1e-3 Å over the whole range.
    """
    vacuum = _in_air_vacuum_range("wavelength_vacuum", wavelength_vacuum)
    return vacuum / _index_of_air(vacuum)


def _index_of_air(wavelength_vacuum: NDArray) -> NDArray:
    wavenumber2 = (1e4 / wavelength_vacuum) ** 2
    return 1.0 + 8.34254e-5 + 2.406147e-2 / (130.0 - wavenumber2) + 1.5998e-4 / (38.9 - wavenumber2)


def _in_air_vacuum_range(name: str, wavelength: ArrayLike) -> NDArray:
    array = np.asarray(wavelength, dtype=np.float64)
    low, high = AIR_VACUUM_RANGE
    inside = (array >= low) & (array <= high)
    if not inside.all():
        raise InputError(
            name,
            expected=f"wavelengths from 2000 to 25000 Å (accepted: {low:.0f} to {high:.0f})",
            found=f"{array[~inside].flat[0]} among {int(np.sum(~inside))} outside",
            fix="Are the wavelengths in Angstrom? Below 2000 Å they are vacuum by convention.",
        )
    return array


def resample(
    wavelength: ArrayLike,
    flux: ArrayLike,
    ivar: ArrayLike,
    new_wavelength: ArrayLike,
    *,
    min_coverage: float = 0.5,
) -> tuple[NDArray, NDArray]:
    """Average flux onto another grid by the overlap of pixels, so that its integral is kept.

    A pixel reaches to the midpoints between it and its neighbours; over a gap in the wavelengths
    (a step five times both steps beside it) it does not reach further than on its other side.

    Parameters
    ----------
    wavelength : array_like, shape (M,)
        Angstrom, strictly ascending, any spacing.
    flux : array_like, shape (..., M)
        Flux density per Angstrom; ignored where ``ivar == 0``.
    ivar : array_like, shape (M,) or (..., M)
        Inverse variance; pixels of ivar 0 never contribute.
    new_wavelength : array_like, shape (P,)
        Angstrom, strictly ascending.
    min_coverage : float
        An output pixel is usable if at least this fraction of its width is covered by usable
        input. Its flux is the mean over the covered part.

    Returns
    -------
    flux, ivar : ndarray, shape (..., P), float64
        Both 0 in pixels that are not usable.

    Raises
    ------
    InputError
        If grids do not ascend, shapes disagree, ivar is negative or not finite, or flux is not
        finite where ivar is positive.

    Notes
    -----
    The variance is that of each output pixel alone: sum(w^2 / ivar) over its input, with overlap
    weights w of sum 1. Two neighbours that share an input pixel are correlated; that covariance is
    not returned. For output pixels much wider than the input ones it is negligible. When the new
    grid is finer than the old one each input pixel is repeated, not interpolated: the flux is a
    staircase, each step keeps the whole ivar of its pixel, and a chi-square summed over the output
    counts every input pixel several times.
    """
    old = _grid("wavelength", wavelength)
    new = _grid("new_wavelength", new_wavelength)
    values, weight = _checked_flux(old, flux, ivar)
    overlap, width = _overlap(old, new)
    good = weight > 0
    values = np.where(good, values, 0.0)
    variance = np.divide(1.0, weight, out=np.zeros_like(weight), where=good)

    covered = _apply(overlap, good.astype(np.float64))
    total = _apply(overlap, values)
    spread = _apply(overlap.multiply(overlap).tocsr(), variance)
    usable = (
        covered >= (min_coverage - 1e-9) * width
    )  # a half-covered pixel is no matter of rounding
    usable &= covered > 1e-9 * width
    usable, covered, spread = np.broadcast_arrays(usable, covered, spread)
    usable, covered, spread = (np.broadcast_to(a, total.shape) for a in (usable, covered, spread))
    new_flux = np.divide(total, covered, out=np.zeros_like(total), where=usable)
    new_ivar = np.divide(covered**2, spread, out=np.zeros_like(total), where=usable & (spread > 0))
    return new_flux, new_ivar


def _checked_flux(wavelength: NDArray, flux: ArrayLike, ivar: ArrayLike) -> tuple[NDArray, NDArray]:
    values = np.asarray(flux, dtype=np.float64)
    weight = np.asarray(ivar, dtype=np.float64)
    for name, array in (("flux", values), ("ivar", weight)):
        if array.shape[-1:] != wavelength.shape:
            raise InputError(
                name, expected=f"shape (..., {len(wavelength)})", found=f"shape {array.shape}"
            )
    if weight.ndim > 1 and weight.shape != values.shape:
        raise InputError(
            "ivar",
            expected=f"shape {wavelength.shape} or that of flux, {values.shape}",
            found=f"shape {weight.shape}",
        )
    if not (np.isfinite(weight).all() and (weight >= 0).all()):
        raise InputError(
            "ivar",
            expected="finite, non-negative inverse variances",
            found=f"{int(np.sum(~(weight >= 0) | ~np.isfinite(weight)))} others",
            fix="Set ivar to 0 where a pixel must not be used.",
        )
    lost = int(np.sum(~np.isfinite(values) & (weight > 0)))
    if lost:
        raise InputError(
            "flux",
            expected="finite values wherever ivar > 0",
            found=f"{lost} that are not",
            fix="Set ivar to 0 there.",
        )
    return values, weight


def _grid(name: str, wavelength: ArrayLike) -> NDArray:
    grid = np.asarray(wavelength, dtype=np.float64)
    if grid.ndim != 1 or len(grid) < 2:
        raise InputError(name, expected="two wavelengths or more", found=f"shape {grid.shape}")
    if not (grid[0] > 0 and np.isfinite(grid[-1]) and (np.diff(grid) > 0).all()):
        raise InputError(
            name,
            expected="positive, strictly ascending wavelengths",
            found=f"{grid[0]} ... {grid[-1]} with {int(np.sum(~(np.diff(grid) > 0)))} steps back",
            fix="Sort the pixels by wavelength.",
        )
    return grid


def _pixel_edges(grid: NDArray) -> tuple[NDArray, NDArray]:
    """Lower and upper edges: midpoints, except across a gap in the grid."""
    step = np.diff(grid)
    left, right = np.r_[step[0], step], np.r_[step, step[-1]]  # of each pixel
    if len(grid) > 3:
        beside = np.maximum(np.r_[0.0, step[:-1]], np.r_[step[1:], 0.0])
        gap = step > GAP * beside
        before = np.flatnonzero(gap)
        after = before + 1
        # a lone pixel at an end has the width of the other side of its gap
        right[before] = np.where(before > 0, left[before], right[1])
        left[after] = np.where(after < len(grid) - 1, right[after], left[-2])
    return grid - left / 2, grid + right / 2


def _bands(first: NDArray, last: NDArray, size: int) -> tuple[NDArray, NDArray, NDArray]:
    """Row pointers, rows and columns of a sparse matrix with columns first..last-1 in each row."""
    count = np.maximum(last - first, 0)
    pointer = np.r_[0, np.cumsum(count)]
    row = np.repeat(np.arange(size), count)
    return pointer, row, np.arange(pointer[-1]) - np.repeat(pointer[:-1] - first, count)


def _overlap(old: NDArray, new: NDArray) -> tuple[sp.csr_array, NDArray]:
    """Length in Angstrom of each new pixel's overlap with each old one (P, M); new widths (P,)."""
    low, high = _pixel_edges(old)
    new_low, new_high = _pixel_edges(new)
    first = np.searchsorted(high, new_low, side="right")
    last = np.searchsorted(low, new_high, side="left")
    pointer, row, column = _bands(first, last, len(new))
    length = np.minimum(high[column], new_high[row]) - np.maximum(low[column], new_low[row])
    return sp.csr_array((length, column, pointer), shape=(len(new), len(old))), new_high - new_low


def _apply(operator: sp.csr_array, values: NDArray) -> NDArray:
    """Apply a (P, M) operator to the last axis."""
    flat = values.reshape(-1, values.shape[-1])
    return np.ascontiguousarray((operator @ flat.T).T).reshape(*values.shape[:-1], -1)
