"""Several spectra of one star to one, in the pixels of another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from spectrolabe.errors import InputError
from spectrolabe.spectra.continuum import running_continuum
from spectrolabe.spectra.observe import resample
from spectrolabe.spectra.spectrum import Spectrum
from spectrolabe.spectra.wavelength import to_rest_frame

__all__ = ["combine", "level_width"]

WIDTH = 0.003  # of the running mean by which levels are compared, in ln(wavelength)
ELEMENTS = 10.0  # that it has at least, of the resolution
LEAST_LEVEL = 0.02  # of the median: below, what is left of a continuum says nothing of its level
SAME = 1e-6  # of a pixel, within which grids are one


def level_width(spectrum: Spectrum) -> float:
    """Return the width in ln(wavelength) of the running mean that is the level of a spectrum.

    Wide enough that lines have no say in it, and narrow enough to follow a blaze.
    """
    return max(WIDTH, ELEMENTS / float(np.median(spectrum.resolution)))


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
        With wavelength, frame, velocity and names of ``onto``. Pixels that none covers have ivar 0.

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
    level = running_continuum(grid, flux, (ivar > 0).astype(float), width)
    typical = np.median(level[ivar > 0])
    return np.where(level > LEAST_LEVEL * typical, level, 0.0) if typical > 0 else 0.0 * level
