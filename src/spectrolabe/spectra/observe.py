"""What an instrument does to a spectrum: where flux changes grid.

`resample` moves a measured spectrum to other pixels; `observe` turns a model spectrum into what an
instrument would record of it. Where a model must be moved often `sampling` does the same by
splines; nothing else changes grid. Wavelengths are vacuum Angstrom, R = wavelength / FWHM.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import CubicSpline
from scipy.special import ndtr

from spectrolabe.errors import InputError
from spectrolabe.labels import read_only
from spectrolabe.spectra.broadening import (
    REACH,
    broaden,
    convolve_lsf,
    lsf_variance,
    rotate,
    velocity_variance,
)
from spectrolabe.spectra.grid import apply, bands, checked_flux, checked_grid, pixel_edges
from spectrolabe.spectra.spectrum import Spectrum
from spectrolabe.spectra.wavelength import (
    air_to_vacuum,
    doppler_shift,
    to_rest_frame,
    vacuum_to_air,
)

__all__ = [
    "Instrument",
    "air_to_vacuum",
    "broaden",
    "convolve_lsf",
    "doppler_shift",
    "observation_operator",
    "observe",
    "resample",
    "rotate",
    "shift_flux",
    "to_rest_frame",
    "vacuum_to_air",
]

SAMPLING = 2.0  # fewest model pixels per FWHM; the error is then 5e-4 of the flux for a deep line


@dataclass(frozen=True, eq=False)
class Instrument:
    """The pixels and the resolution of an instrument; its arrays cannot be written.

    Parameters
    ----------
    wavelength : ndarray, shape (P,), float64
        Vacuum wavelength of the pixels in Angstrom, strictly ascending.
    resolution : float or ndarray, shape (P,)
        R = wavelength / FWHM as measured on extracted spectra, so that it counts the pixel.
    name : str
        For messages.

    Raises
    ------
    InputError
        If wavelengths do not ascend, or R is not positive and finite or of another shape.
    """

    wavelength: NDArray
    resolution: NDArray | float
    name: str = ""

    def __post_init__(self) -> None:
        where = self.name or "instrument"
        grid = read_only(checked_grid(where, self.wavelength), np.float64)
        resolution = read_only(self.resolution, np.float64)
        if resolution.shape not in ((), grid.shape):
            raise InputError(
                where, expected=f"one R, or shape {grid.shape}", found=f"shape {resolution.shape}"
            )
        if not (np.isfinite(resolution).all() and (resolution > 0).all()):
            raise InputError(
                where,
                expected="a positive, finite R = wavelength / FWHM",
                found=f"R from {np.min(resolution)} to {np.max(resolution)}",
            )
        object.__setattr__(self, "wavelength", grid)
        object.__setattr__(self, "resolution", resolution if resolution.ndim else float(resolution))

    def __len__(self) -> int:
        return len(self.wavelength)


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
    (a step of more than five times both steps beside it) only as far as on its other side.

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
    old = checked_grid("wavelength", wavelength)
    new = checked_grid("new_wavelength", new_wavelength)
    values = checked_flux(old, flux, ivar)
    weight = np.asarray(ivar, dtype=np.float64)
    overlap, width = _overlap(old, new)
    squared = overlap.copy()
    squared.data = overlap.data**2
    variance = np.divide(1.0, weight, out=np.zeros(weight.shape), where=weight > 0)

    covered = apply(overlap, (weight > 0).astype(np.float64))
    spread = apply(squared, variance)
    total = apply(overlap, values)
    # a pixel covered by exactly the least fraction is usable whatever the rounding
    usable = (covered >= (min_coverage - 1e-9) * width) & (covered > 1e-9 * width) & (spread > 0)
    safe = np.where(usable, covered, 1.0)
    new_flux = np.where(usable, total / safe, 0.0)
    new_ivar = np.where(usable, safe**2 / np.where(usable, spread, 1.0), 0.0)
    return new_flux, np.broadcast_to(new_ivar, new_flux.shape).copy()


def _overlap(old: NDArray, new: NDArray) -> tuple[sp.csr_array, NDArray]:
    """Length in Angstrom of each new pixel's overlap with each old one (P, M); new widths (P,)."""
    low, high = pixel_edges(old)
    new_low, new_high = pixel_edges(new)
    first = np.searchsorted(high, new_low, side="right")
    last = np.searchsorted(low, new_high, side="left")
    pointer, row, column = bands(first, last)
    length = np.minimum(high[column], new_high[row]) - np.maximum(low[column], new_low[row])
    return sp.csr_array((length, column, pointer), shape=(len(new), len(old))), new_high - new_low


def observe(
    wavelength: ArrayLike,
    flux: ArrayLike,
    like: Spectrum | Instrument,
    *,
    rv: float = 0.0,
    vbroad: float = 0.0,
    input_resolution: ArrayLike = np.inf,
) -> NDArray:
    """Return what an instrument records of a model spectrum, without noise.

    Parameters
    ----------
    wavelength : array_like, shape (M,)
        Rest wavelengths of the model in vacuum Angstrom, strictly ascending, any spacing.
    flux : array_like, shape (..., M)
        Flux density per Angstrom, or normalised flux; finite everywhere.
    like : Spectrum or Instrument
        Whose pixels and resolution to take. The velocity of a `Spectrum` is not used: give it.
    rv : float
        Radial velocity of the star in km/s, + = receding, as in `doppler_shift`.
    vbroad : float
        Gaussian broadening of the star, FWHM in km/s. For a rotation profile `rotate` the model.
    input_resolution : float or array_like, shape (M,)
        R that the model already has.

    Returns
    -------
    ndarray, shape (..., P), float64
        Flux at ``like.wavelength``; NaN where the model covers less than half of what a pixel sees.

    Raises
    ------
    InputError
        As `observation_operator`; also if flux is not finite or of another shape.
    """
    operator = observation_operator(
        wavelength, like, rv=rv, vbroad=vbroad, input_resolution=input_resolution
    )
    observed = apply(operator, checked_flux(np.asarray(wavelength), flux))
    return np.where(np.diff(operator.indptr) > 0, observed, np.nan)


def observation_operator(
    wavelength: ArrayLike,
    like: Spectrum | Instrument,
    *,
    rv: float = 0.0,
    vbroad: float = 0.0,
    input_resolution: ArrayLike = np.inf,
) -> sp.csr_array:
    """Return the matrix of `observe`, to apply to many spectra on one grid: ``operator @ flux``.

    Doppler shift, stellar broadening, line-spread function and the average over the pixel are one
    row of weights for each pixel, all in ln(wavelength).

    Parameters
    ----------
    wavelength, like, rv, vbroad, input_resolution
        As in `observe`.

    Returns
    -------
    csr_array, shape (P, M)
        Rows sum to 1, or are empty where the model covers less than half of what the pixel sees.

    Raises
    ------
    InputError
        If R exceeds ``input_resolution``, or the model has fewer than 2 pixels per FWHM.

    Notes
    -----
    R counts the pixel, as it does where it is measured on arc lines: the Gaussian is narrowed by
    the variance of the pixel (width^2 / 12), and a pixel wider than its R just averages. So an
    unresolved line has the FWHM wavelength / R, and its integral is kept at any sampling.
    """
    grid = checked_grid("wavelength", wavelength)
    x = np.log(grid) + np.log(doppler_shift(1.0, rv))
    edges, owner, width = _cells(x)
    pixel = np.log(like.wavelength)
    low, high = pixel_edges(pixel)
    step = np.interp(pixel, x, width)
    _check_sampling(like, x, step, high - low)

    start = np.asarray(input_resolution, dtype=np.float64)
    lsf = lsf_variance(like.resolution, np.interp(pixel, x, start) if start.ndim else start)
    variance = np.maximum(lsf - (high - low) ** 2 / 12, 0.0) + velocity_variance(vbroad)
    sigma = np.sqrt(np.maximum(variance - step**2 / 12, 1e-24))  # cells are boxes as well

    first = np.maximum(np.searchsorted(edges, low - REACH * sigma, side="right") - 1, 0)
    last = np.minimum(np.searchsorted(edges, high + REACH * sigma), len(edges) - 1)
    pointer, row, column = bands(first, last + 1)
    spread = sigma[row]
    reached = _ramp(edges[column] - low[row], spread) - _ramp(edges[column] - high[row], spread)
    weight = np.append(np.diff(reached), 0.0) / (high - low)[row]
    weight[pointer[1:] - 1] = 0.0  # no cell follows the last edge of a row
    cell = owner[np.minimum(column, len(owner) - 1)]
    keep = (cell >= 0) & (weight > 0)
    weight, row, cell = weight[keep], row[keep], cell[keep]
    # flux is per Angstrom: a cell brings its width in wavelength, not in ln(wavelength)
    weight *= np.exp(x[cell] - pixel[row])
    return _covered_rows(weight, row, cell, (len(like), len(grid)))


def shift_flux(wavelength: ArrayLike, flux: ArrayLike, rv: float) -> NDArray:
    """Return a model spectrum as a moving star shows it, on the same wavelengths.

    With it one `observation_operator` at rest serves stars of any velocity:
    ``operator @ shift_flux(wavelength, broaden(wavelength, flux, vbroad), rv)``.

    Parameters
    ----------
    wavelength : array_like, shape (M,)
        Vacuum Angstrom, strictly ascending.
    flux : array_like, shape (..., M)
        Finite everywhere; five samples or more across the narrowest line.
    rv : float
        Radial velocity in km/s, + = receding, as in `doppler_shift`.

    Returns
    -------
    ndarray, shape (..., M), float64
        By cubic splines in ln(wavelength); NaN where the shifted model does not reach.

    Raises
    ------
    InputError
        If the velocity or flux is not finite, or shapes disagree.
    """
    grid = checked_grid("wavelength", wavelength)
    values = checked_flux(grid, flux)
    x = np.log(grid)
    source = x - np.log(doppler_shift(1.0, rv))
    low, high = pixel_edges(x)
    pixel = np.clip(np.searchsorted(low, source, side="right") - 1, 0, len(x) - 1)
    known = (source >= x[0]) & (source <= x[-1]) & (source <= high[pixel])
    return np.where(known, CubicSpline(x, values, axis=-1)(source), np.nan)


def _cells(x: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """Edges of cells (C + 1,), the pixel that fills each (C,; -1 in a gap), pixel widths (M,)."""
    low, high = pixel_edges(x)
    gap = np.flatnonzero(low[1:] - high[:-1] > 0.5 * (high - low)[:-1]) + 1
    edges = np.append(np.insert(low, gap, high[gap - 1]), high[-1])
    return edges, np.insert(np.arange(len(x)), gap, -1), high - low


def _ramp(distance: NDArray, sigma: NDArray) -> NDArray:
    """Integral of the Gaussian distribution function up to a distance."""
    t = distance / sigma
    return distance * ndtr(t) + sigma * np.exp(-0.5 * t**2) / np.sqrt(2 * np.pi)


def _covered_rows(
    weight: NDArray, row: NDArray, column: NDArray, shape: tuple[int, int]
) -> sp.csr_array:
    """Rows normalised to 1; those with less than half of their weight are left empty."""
    total = np.bincount(row, weights=weight, minlength=shape[0])
    keep = total[row] >= 0.5 - 1e-9
    weight, row, column = weight[keep] / total[row[keep]], row[keep], column[keep]
    pointer = np.r_[0, np.cumsum(np.bincount(row, minlength=shape[0]))]
    return sp.csr_array((weight, column, pointer), shape=shape)


def _check_sampling(
    like: Spectrum | Instrument, x: NDArray, step: NDArray, pixel_width: NDArray
) -> None:
    fwhm = np.maximum(1 / np.asarray(like.resolution, dtype=np.float64), pixel_width)
    pixel = np.log(like.wavelength)
    coarse = (SAMPLING * step > 1.001 * fwhm) & (pixel >= x[0]) & (pixel <= x[-1])
    if coarse.any():
        worst = int(np.argmax(np.where(coarse, step / fwhm, 0.0)))
        at = like.wavelength[worst]
        raise InputError(
            "wavelength of the model",
            expected=f"{SAMPLING} pixels or more per FWHM of the instrument "
            f"({at * fwhm[worst]:.3g} Å at {at:.0f} Å)",
            found=f"steps of {at * step[worst]:.3g} Å there",
            fix="Compute the model on a finer grid.",
        )
