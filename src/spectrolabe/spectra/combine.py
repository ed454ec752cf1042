"""Several spectra of one star to one, in the pixels of another."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from spectrolabe.errors import InputError
from spectrolabe.spectra.continuum import continuum_error, running_continuum
from spectrolabe.spectra.observe import resample
from spectrolabe.spectra.spectrum import Spectrum
from spectrolabe.spectra.wavelength import to_rest_frame

__all__ = ["combine", "level_error", "level_of", "level_width", "pieces"]

WIDTH = 0.003  # of the running mean by which levels are compared, in ln(wavelength)
ELEMENTS = 10.0  # that it has at least, of the resolution
REACH = 0.5  # of that width, as far as which a level is known from the nearest pixel
LEAST_LEVEL = 0.02  # of the median: below, what is left of a continuum says nothing of its level
SAME = 1e-6  # of a pixel, within which grids are one


def level_width(spectrum: Spectrum) -> float:
    """Return the width in ln(wavelength) of the running mean that is the level of a spectrum.

    Wide enough that lines have no say in it, and narrow enough to follow a blaze.
    """
    return max(WIDTH, ELEMENTS / float(np.median(spectrum.resolution)))


def pieces(wavelength: NDArray, use: NDArray, width: float) -> list[slice]:
    """Return the parts of a spectrum that gaps wider than ``width`` separate.

    The light of a detector has nothing to do with that of the next: levels may jump in between.

    Parameters
    ----------
    wavelength : ndarray, shape (M,)
        Angstrom, ascending.
    use : ndarray of bool, shape (M,)
    width : float
        In ln(wavelength). What is narrower itself is a part of its neighbour.

    Returns
    -------
    list of slice
        One or more that cover all pixels; they meet in the middle of gaps.
    """
    at = np.flatnonzero(use)
    if not len(at):
        return [slice(0, len(wavelength))]
    x = np.log(wavelength)[at]
    gaps = np.flatnonzero(np.diff(x) > width)
    first, last = np.append(0, gaps + 1), np.append(gaps, len(at) - 1)
    wide = np.flatnonzero(x[last] - x[first] > width)
    middles = [0.5 * (x[last[k - 1]] + x[first[k]]) for k in wide[1:]]
    edges = np.searchsorted(np.log(wavelength), middles).tolist()
    return [slice(*edge) for edge in itertools.pairwise([0, *edges, len(wavelength)])]


def level_of(wavelength: NDArray, flux: NDArray, weight: NDArray, width: float) -> NDArray:
    """Return the running mean of a spectrum, `running_continuum` of each of its `pieces`.

    Parameters
    ----------
    wavelength, flux, weight : ndarray, shape (M,)
    width : float

    Returns
    -------
    ndarray, shape (M,)
        NaN where a piece has no pixel with weight.
    """
    parts = pieces(wavelength, weight > 0, width)
    return np.concatenate(
        [running_continuum(wavelength[p], flux[p], weight[p], width) for p in parts]
    )


def level_error(
    wavelength: NDArray, residual: NDArray, variance: NDArray, weight: NDArray, width: float
) -> NDArray:
    """Return the standard deviation of `level_of`, `continuum_error` of each of the `pieces`.

    Parameters
    ----------
    wavelength, residual, variance, weight : ndarray, shape (M,)
    width : float

    Returns
    -------
    ndarray, shape (M,)
    """
    parts = pieces(wavelength, weight > 0, width)
    errors = [
        continuum_error(wavelength[p], residual[p], variance[p], weight[p], width) for p in parts
    ]
    return np.concatenate(errors)


def combine(spectra: Sequence[Spectrum], onto: Spectrum) -> Spectrum:
    """Return the weighted mean of spectra of one star in the pixels, and at the level, of another.

    Each is moved to rest, brought to the pixels of ``onto``, and scaled by the smooth ratio of its
    level to that of ``onto``, so that light lost by a fibre, or another response, leaves no trace.
    ``onto`` itself is not in the mean unless it is among ``spectra``.

    Parameters
    ----------
    spectra : sequence of Spectrum
        One or more; of like resolution.
    onto : Spectrum

    Returns
    -------
    Spectrum
        With wavelength, frame, velocity and names of ``onto``. Pixels that none covers, or
        that are far from any good pixel of ``onto``, have ivar 0.

    Raises
    ------
    InputError
        If there is none, or one is not at rest and states no velocity.
    """
    if not spectra:
        raise InputError(onto.where, expected="a spectrum to combine", found="none")
    grid = to_rest_frame(onto).wavelength
    width = level_width(onto)
    level = _level(grid, onto.flux, onto.ivar, width)
    total, weight = np.zeros(len(grid)), np.zeros(len(grid))
    for spectrum in spectra:
        flux, ivar = _on(grid, spectrum)
        own = _level(grid, flux, ivar, width)
        use = (ivar > 0) & (own > 0) & (level > 0)
        ratio = np.divide(level, own, out=np.ones(len(grid)), where=use)
        ivar = np.where(use, ivar / ratio**2, 0.0)
        total += ivar * ratio * np.where(use, flux, 0.0)
        weight += ivar
    mean = np.divide(total, weight, out=np.zeros(len(grid)), where=weight > 0)
    return onto.replace(flux=mean, ivar=weight)


def _on(grid: NDArray, spectrum: Spectrum) -> tuple[NDArray, NDArray]:
    """Flux and ivar in the pixels of a grid at rest."""
    own = to_rest_frame(spectrum).wavelength
    if len(own) == len(grid) and np.abs(own - grid).max() < SAME * np.diff(grid).min():
        return spectrum.flux.astype(float), spectrum.ivar.astype(float)
    return resample(own, spectrum.flux, spectrum.ivar, grid)


def _level(grid: NDArray, flux: NDArray, ivar: NDArray, width: float) -> NDArray:
    """Smooth level of the flux; 0 where it is too low to be compared, or not known."""
    if not (ivar > 0).any():
        return np.zeros(len(grid))
    # one weight for all pixels: noisy ones shall not decide which lines are in the mean
    level = level_of(grid, flux, (ivar > 0).astype(float), width)
    x = np.log(grid)
    near = _distance(x, x[ivar > 0]) <= REACH * width
    typical = np.median(level[ivar > 0])
    known = near & (level > LEAST_LEVEL * typical) & (typical > 0)
    return np.where(known, level, 0.0)


def _distance(x: NDArray, to: NDArray) -> NDArray:
    """From each x to the nearest of some; both ascend."""
    after = np.searchsorted(to, x).clip(max=len(to) - 1)
    return np.minimum(np.abs(x - to[after]), np.abs(x - to[np.maximum(after - 1, 0)]))
