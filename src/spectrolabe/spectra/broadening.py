"""Broadening on a spectrum's own grid: line-spread function, rotation, and a Gaussian velocity.

Every kernel lives in the logarithm of wavelength, where a constant R or a velocity is a constant
width. Every Gaussian width that a user gives is a FWHM.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import convolve1d
from scipy.special import erf, erfc

from spectrolabe.errors import InputError
from spectrolabe.spectra.grid import (
    apply,
    bands,
    checked_flux,
    checked_grid,
    pixel_edges,
    uniform_step,
)
from spectrolabe.spectra.wavelength import SPEED_OF_LIGHT

__all__ = [
    "broaden",
    "convolve_lsf",
    "lsf_variance",
    "macroturbulence",
    "rotate",
    "velocity_variance",
]

FWHM = 2.0 * np.sqrt(2.0 * np.log(2.0))  # of a Gaussian of sigma 1
REACH = 5.5  # sigma at which a Gaussian kernel ends: 4e-8 of its area lies beyond
MACRO_REACH = 3.5  # v_macro at which the profile ends: 2e-7 of its area lies beyond
NARROW = 0.5  # variance in squared steps below which a sampled Gaussian loses its variance
BLOCK = 500_000  # weights held at a time
DIRECT = 50  # half-width in pixels below which a direct sum is quicker than an FFT


def convolve_lsf(
    wavelength: ArrayLike,
    flux: ArrayLike,
    resolution: ArrayLike,
    input_resolution: ArrayLike = np.inf,
) -> NDArray:
    """Convolve a spectrum with a Gaussian line-spread function, on its own grid.

    Parameters
    ----------
    wavelength : array_like, shape (M,)
        Vacuum Angstrom, strictly ascending, any spacing.
    flux : array_like, shape (..., M)
        Samples of the spectrum, finite everywhere.
    resolution : float or array_like, shape (M,)
        R = wavelength / FWHM to arrive at; per pixel, R is that of the pixel that receives.
    input_resolution : float or array_like, shape (M,)
        R that the input already has; the kernel is the difference in quadrature.

    Returns
    -------
    ndarray, shape (..., M), float64
        An unresolved line has the FWHM wavelength / R; an isolated line keeps its integral. Near
        the ends of the grid the kernel is cut off and renormalised.

    Raises
    ------
    InputError
        If R is not positive, exceeds ``input_resolution``, or flux is not finite.

    Notes
    -----
    On a grid of equal steps in the logarithm of wavelength a constant R is one convolution (by FFT
    where the kernel is long); otherwise each pixel has its own row of weights. Where the kernel is
    narrower than 0.7 of a step it becomes three weights of the same variance.
    """
    grid = checked_grid("wavelength", wavelength)
    variance = lsf_variance(resolution, input_resolution)
    return _gaussian(grid, checked_flux(grid, flux), variance)


def broaden(wavelength: ArrayLike, flux: ArrayLike, vbroad: float) -> NDArray:
    """Convolve a spectrum with a Gaussian velocity distribution, on its own grid.

    Parameters
    ----------
    wavelength : array_like, shape (M,)
        Vacuum Angstrom, strictly ascending.
    flux : array_like, shape (..., M)
    vbroad : float
        FWHM in km/s: a line gains ``wavelength * vbroad / c`` in quadrature. A rotation of
        v sin i = v has about the variance of ``vbroad`` = 1.1 v.

    Returns
    -------
    ndarray, shape (..., M), float64

    Raises
    ------
    InputError
        If ``vbroad`` is negative or not finite, or flux is not finite.
    """
    grid = checked_grid("wavelength", wavelength)
    return _gaussian(grid, checked_flux(grid, flux), np.asarray(velocity_variance(vbroad)))


def rotate(
    wavelength: ArrayLike, flux: ArrayLike, vsini: float, limb_darkening: float = 0.6
) -> NDArray:
    """Convolve a spectrum with the rotation profile of a limb-darkened sphere, on its own grid.

    Parameters
    ----------
    wavelength : array_like, shape (M,)
        Vacuum Angstrom, strictly ascending; steps well below ``wavelength * vsini / c``.
    flux : array_like, shape (..., M)
    vsini : float
        Projected equatorial velocity in km/s.
    limb_darkening : float
        Coefficient of the linear law, 0 to 1.

    Returns
    -------
    ndarray, shape (..., M), float64

    Raises
    ------
    InputError
        If ``vsini`` is negative, the coefficient outside 0 to 1, or flux not finite.

    Notes
    -----
    Gray (2008, The Observation and Analysis of Stellar Photospheres, eq. 18.14), integrated over
    each pixel.
    """
    grid = checked_grid("wavelength", wavelength)
    values = checked_flux(grid, flux)
    if not 0 <= vsini < SPEED_OF_LIGHT:
        raise InputError("vsini", expected="a velocity of 0 or more, in km/s", found=f"{vsini}")
    if not 0 <= limb_darkening <= 1:
        raise InputError("limb_darkening", expected="0 to 1", found=f"{limb_darkening}")
    width = vsini / SPEED_OF_LIGHT
    return _profile(grid, values, width, 1.0, lambda u: _rotated(u, limb_darkening))


def macroturbulence(wavelength: ArrayLike, flux: ArrayLike, v_macro: float) -> NDArray:
    """Convolve a spectrum with radial-tangential macroturbulence, on its own grid.

    Parameters
    ----------
    wavelength : array_like, shape (M,)
        Vacuum Angstrom, strictly ascending; steps well below ``wavelength * v_macro / c``.
    flux : array_like, shape (..., M)
    v_macro : float
        Most probable velocity of the radial and of the tangential streams, which cover half of
        the disc each, in km/s.

    Returns
    -------
    ndarray, shape (..., M), float64

    Raises
    ------
    InputError
        If ``v_macro`` is negative, or flux not finite.

    Notes
    -----
    Gray (2008, The Observation and Analysis of Stellar Photospheres, eq. 17.14): the profile is
    2 (exp(-u^2) - sqrt(pi) |u| erfc |u|) / sqrt(pi), u in units of ``v_macro``, and is integrated
    over each pixel.
    """
    grid = checked_grid("wavelength", wavelength)
    values = checked_flux(grid, flux)
    if not 0 <= v_macro < SPEED_OF_LIGHT:
        raise InputError("v_macro", expected="a velocity of 0 or more, in km/s", found=f"{v_macro}")
    return _profile(grid, values, v_macro / SPEED_OF_LIGHT, MACRO_REACH, _streamed)


def _profile(
    grid: NDArray,
    values: NDArray,
    width: float,
    reach: float,
    integral: Callable[[NDArray], NDArray],
) -> NDArray:
    """Convolve with a profile given by its integral up to u, u in units of ``width``."""
    if width == 0:
        return values

    def weights(low: NDArray, high: NDArray) -> NDArray:
        return integral(high / width) - integral(low / width)

    x = np.log(grid)
    step = uniform_step(x)
    if step is not None:
        half = int(np.ceil(reach * width / step + 0.5))
        offset = step * np.arange(-half, half + 1)
        return _convolve(values, weights(offset - step / 2, offset + step / 2))
    low, high = pixel_edges(x)
    first = np.searchsorted(high, x - reach * width, side="right")
    last = np.searchsorted(low, x + reach * width, side="left")
    return _weighted(
        values,
        first,
        last,
        lambda row, column: weights(low[column] - x[row], high[column] - x[row]),
    )


def _streamed(u: NDArray) -> NDArray:
    """Integral of the radial-tangential profile from 0 to u."""
    x = np.abs(u)
    half = erf(x) / 2 - x**2 * erfc(x) + x * np.exp(-(x**2)) / np.sqrt(np.pi)
    return np.sign(u) * half


def _rotated(u: NDArray, limb_darkening: float) -> NDArray:
    """Integral of Gray's profile from -1 to u, where u is velocity over v sin i."""
    u = np.clip(u, -1.0, 1.0)
    disc = (u * np.sqrt(1 - u**2) + np.arcsin(u) + np.pi / 2) / np.pi
    dark = (3 * u - u**3 + 2) / 4
    return ((1 - limb_darkening) * disc + 2 / 3 * limb_darkening * dark) / (1 - limb_darkening / 3)


def lsf_variance(resolution: ArrayLike, input_resolution: ArrayLike = np.inf) -> NDArray:
    """Return the variance in ln(wavelength) of the Gaussian that takes one R to a lower one.

    Raises
    ------
    InputError
        If R is not positive or exceeds ``input_resolution``.
    """
    target, start = (np.asarray(r, dtype=np.float64) for r in (resolution, input_resolution))
    for name, value in (("resolution", target), ("input_resolution", start)):
        if not (value > 0).all():
            raise InputError(
                name,
                expected="a positive R = wavelength / FWHM",
                found=f"{value[~(value > 0)].flat[0]}",
            )
    if not np.all(target <= start * (1 + 1e-9)):
        raise InputError(
            "resolution",
            expected=f"R of at most that of the input, {np.min(start):g}",
            found=f"up to {np.max(target):g}",
            fix="Convolution cannot sharpen: compute the input at a higher resolution.",
        )
    return np.maximum((1 / target) ** 2 - (1 / start) ** 2, 0.0) / FWHM**2


def velocity_variance(vbroad: float) -> float:
    """Return the variance in ln(wavelength) of a Gaussian of this FWHM in km/s."""
    if not 0 <= vbroad < SPEED_OF_LIGHT:
        raise InputError("vbroad", expected="a FWHM of 0 or more, in km/s", found=f"{vbroad}")
    return float((vbroad / SPEED_OF_LIGHT / FWHM) ** 2)


def _gaussian(grid: NDArray, values: NDArray, variance: NDArray) -> NDArray:
    if variance.ndim and variance.shape != grid.shape:
        raise InputError(
            "resolution", expected=f"one R, or shape {grid.shape}", found=f"shape {variance.shape}"
        )
    if not variance.any():
        return values
    x = np.log(grid)
    step = uniform_step(x)
    if step is not None and np.ptp(variance) == 0:
        return _convolve(values, _gaussian_kernel(float(variance.flat[0]) / step**2))
    return _gaussian_rows(values, x, np.broadcast_to(variance, x.shape))


def _gaussian_kernel(variance: float) -> NDArray:
    """A Gaussian of this variance in squared steps, sampled at whole steps."""
    if variance < NARROW:
        return np.array([variance / 2, 1 - variance, variance / 2])
    half = int(np.ceil(REACH * np.sqrt(variance)))
    kernel = np.exp(-(np.arange(-half, half + 1) ** 2) / (2 * variance))
    return kernel / kernel.sum()


def _convolve(values: NDArray, kernel: NDArray) -> NDArray:
    """Convolve the last axis; at the ends, divide by the part of the kernel that is inside."""
    half, size = len(kernel) // 2, values.shape[-1]
    if half < DIRECT:
        smooth = convolve1d(values, kernel, mode="constant")
    else:
        from scipy.signal import oaconvolve  # slow to import, and few spectra need it

        shaped = kernel.reshape((1,) * (values.ndim - 1) + (-1,))
        smooth = oaconvolve(values, shaped, mode="full", axes=-1)[..., half : half + size]
    # part of the kernel that reaches back to the first pixel and forward to the last
    area = np.r_[0.0, np.cumsum(kernel)]
    pixel = np.arange(size)
    inside = area[np.minimum(pixel + half + 1, 2 * half + 1)]
    inside = inside - area[np.maximum(pixel + half + 1 - size, 0)]
    return smooth / inside


def _gaussian_rows(values: NDArray, x: NDArray, variance: NDArray) -> NDArray:
    """Sampled Gaussians of each pixel's own width; three weights where they are narrow."""
    low, high = pixel_edges(x)
    left, right, width = 2 * (x - low), 2 * (high - x), high - low
    narrow = variance < NARROW * left * right
    before, centre, after = _three_weights(x, variance, left, right)
    exponent = -0.5 / np.where(narrow, np.inf, variance)

    def weigh(row: NDArray, column: NDArray) -> NDArray:
        weight = width[column] * np.exp(exponent[row] * (x[column] - x[row]) ** 2)
        if narrow.any():
            offset = column - row
            three = [before[row], centre[row], after[row]]
            three = np.select([offset == -1, offset == 0, offset == 1], three, 0.0)
            weight = np.where(narrow[row], three, weight)
        return weight

    index, reach = np.arange(len(x)), REACH * np.sqrt(variance)
    first = np.minimum(np.searchsorted(x, x - reach), np.maximum(index - 1, 0))
    last = np.searchsorted(x, x + reach, side="right")
    return _weighted(values, first, np.maximum(last, np.minimum(index + 2, len(x))), weigh)


def _three_weights(
    x: NDArray, variance: NDArray, left: NDArray, right: NDArray
) -> tuple[NDArray, NDArray, NDArray]:
    """Weights of a pixel and its neighbours with no shift and this variance; none over a gap."""
    joined = np.diff(x) < 1.5 * np.maximum(right[:-1], left[1:])
    before = np.where(np.r_[False, joined], variance / (left * (left + right)), 0.0)
    after = np.where(np.r_[joined, False], variance / (right * (left + right)), 0.0)
    return before, 1 - variance / (left * right), after


def _weighted(
    values: NDArray,
    first: NDArray,
    last: NDArray,
    weigh: Callable[[NDArray, NDArray], NDArray],
) -> NDArray:
    """Weighted means of pixels first..last-1 for each pixel, in blocks that bound the memory."""
    size = len(first)
    block = np.cumsum(last - first) // BLOCK
    starts = np.r_[0, np.flatnonzero(np.diff(block)) + 1, size]
    result = np.empty_like(values)
    for start, stop in pairwise(starts):
        pointer, row, column = bands(first[start:stop], last[start:stop])
        weight = weigh(row + start, column)
        weight /= np.add.reduceat(weight, pointer[:-1])[row]
        operator = sp.csr_array((weight, column, pointer), shape=(stop - start, size))
        result[..., start:stop] = apply(operator, values)
    return result
