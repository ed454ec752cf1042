"""Continuum: a running one for any range and resolution, a clipped polynomial, and normalisation.

Neither looks for the true continuum of a star: they take out what varies slowly (the shape of the
spectrum, extinction, the response of the instrument) in a way that can be repeated.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import scipy.sparse as sp
from numpy.polynomial import chebyshev
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import CubicSpline

from spectrolabe.errors import InputError
from spectrolabe.spectra.grid import apply, bands, checked_flux, checked_grid
from spectrolabe.spectra.spectrum import Spectrum

__all__ = ["continuum_error", "normalise", "polynomial_continuum", "running_continuum"]

BINS_PER_WIDTH = 8
SLOPE_PRIOR = 0.02  # in squared widths: what spread of pixels it takes to trust a slope
LEFT = (
    1 - 2 / (BINS_PER_WIDTH * np.sqrt(2 * np.pi)) + 0.5 / (BINS_PER_WIDTH * np.sqrt(np.pi))
) ** 0.5
"""Of the noise of a bin, where the continuum, in which it is, has been taken off."""
FARTHEST = 12.0  # widths at which the kernel ends: far out, so that it reaches across gaps


def running_continuum(
    wavelength: ArrayLike, flux: ArrayLike, ivar: ArrayLike, width: float = 0.01
) -> NDArray:
    """Return a running mean of the flux, weighted by ivar and a Gaussian in ln(wavelength).

    The mean is that of a straight line fitted under the weights, so that a slope is followed to
    the ends of the spectrum and beside gaps, where the pixels lie on one side.

    Parameters
    ----------
    wavelength : array_like, shape (M,)
        Angstrom, strictly ascending.
    flux : array_like, shape (..., M)
        Ignored where ``ivar == 0``.
    ivar : array_like, shape (M,) or (..., M)
        Inverse variance.
    width : float
        Sigma of the Gaussian in ln(wavelength): 0.01 is 50 Å at 5000 Å. It should be well above
        ``1 / R``, or lines are taken out as well.

    Returns
    -------
    ndarray, shape (..., M), float64
        Finite at every pixel, also in gaps; NaN throughout only where a spectrum has no usable
        pixel at all.

    Raises
    ------
    InputError
        If ``width`` is not positive, shapes disagree, or flux is not finite where ivar is positive.

    Notes
    -----
    Running mean as in Ness et al. (2015, ApJ 808, 16, and the continuum of Ho et al. 2017, ApJ 836,
    5), made locally linear (Cleveland 1979, JASA 74, 829). Pixels are gathered in bins of an eighth
    of the width, and the result is interpolated between their edges: differences to the direct sum
    are below 1e-3 of the features that survive the smoothing. The slope is shrunk where the pixels
    that carry weight are too close together to tell it. A gap wider than 24 widths is bridged by a
    straight line.
    """
    grid = checked_grid("wavelength", wavelength)
    values = checked_flux(grid, flux, ivar)
    weight = np.broadcast_to(np.asarray(ivar, dtype=np.float64), values.shape)
    if not (np.isfinite(width) and width > 0):
        raise InputError("width", expected="a positive width in ln(wavelength)", found=f"{width}")
    x = np.log(grid / grid[0]) / width
    nodes, sums = _bins(x)
    moments = [apply(sums, m) for m in (weight, weight * x, weight * x**2)]
    moments += [apply(sums, weight * values), apply(sums, weight * values * x)]
    at_nodes = _local_line(nodes, moments)
    continuum = CubicSpline(nodes, at_nodes, axis=-1)(x)
    return np.where(weight.any(axis=-1, keepdims=True), continuum, np.nan)


def continuum_error(
    wavelength: ArrayLike, residual: ArrayLike, variance: ArrayLike, weight: ArrayLike, width: float
) -> NDArray:
    """Return the standard deviation of a running continuum at each pixel.

    Noise that goes together in neighbouring pixels, or that is larger than stated, is measured: by
    how much means of the residuals over an eighth of the width scatter more than they should.

    Parameters
    ----------
    wavelength : array_like, shape (M,)
        Angstrom, strictly ascending.
    residual : array_like, shape (M,)
        Flux less its running continuum.
    variance : array_like, shape (M,)
        Of the flux; ignored where ``weight == 0``.
    weight : array_like, shape (M,)
        The ``ivar`` that `running_continuum` was given.
    width : float
        As there.

    Returns
    -------
    ndarray, shape (M,), float64
        Infinite where no pixel with weight is in reach.
    """
    grid = checked_grid("wavelength", wavelength)
    weight = np.asarray(weight, dtype=np.float64)
    use = weight > 0
    squared = np.where(use, weight**2 * np.where(use, variance, 0.0), 0.0)
    x = np.log(grid / grid[0]) / width
    nodes, sums = _bins(x)
    moments = [apply(sums, m) for m in (weight, weight * x, weight * x**2)]
    noise = [apply(sums, m) for m in (squared, squared * x, squared * x**2)]
    z = apply(sums, weight * np.where(use, residual, 0.0))[noise[0] > 0]
    z = z / np.sqrt(noise[0][noise[0] > 0])
    larger = max(1.0, 1.4826 * float(np.median(np.abs(z))) / LEFT) if z.size else 1.0
    at_nodes = np.sqrt(_line_variance(nodes, moments, noise))
    return larger * np.asarray(np.interp(x, nodes, at_nodes))


def _line_variance(nodes: NDArray, moments: list[NDArray], noise: list[NDArray]) -> NDArray:
    """Variance at each node of the line of `_local_line`; ``noise`` are moments of its terms."""
    kernel = _kernel(float(nodes[-1]))
    known, total, mean_x, spread = _spread(kernel, moments)
    v, vx, vxx = (apply(kernel.power(2), m) for m in noise)
    tilt = (nodes - mean_x) / spread  # a pixel counts 1 + tilt (x - mean_x)
    level = 1.0 - tilt * mean_x
    variance = (level**2 * v + 2.0 * level * tilt * vx + tilt**2 * vxx) / total**2
    return np.where(known, variance, np.inf)


def _bins(x: NDArray) -> tuple[NDArray, sp.csr_array]:
    """Edges of equal bins over x, and the operator (bins, M) that sums the pixels in each."""
    nodes = _nodes(float(x[-1]))
    pointer = np.searchsorted(x, nodes)
    pointer[-1] = len(x)  # the last pixel lies on the last edge
    summed = (np.ones(len(x)), np.arange(len(x)), pointer)
    return nodes, sp.csr_array(summed, shape=(len(nodes) - 1, len(x)))


def _nodes(end: float) -> NDArray:
    return np.linspace(0.0, end, max(int(np.ceil(end * BINS_PER_WIDTH)), 3) + 1)


@lru_cache(maxsize=8)
def _kernel(end: float) -> sp.csr_array:
    """Weight at each node of each bin, shape (nodes, bins); a function of the range alone."""
    nodes = _nodes(end)
    centre = 0.5 * (nodes[1:] + nodes[:-1])
    first = np.searchsorted(centre, nodes - FARTHEST)
    last = np.searchsorted(centre, nodes + FARTHEST)
    pointer, row, column = bands(first, last)
    weight = np.exp(-0.5 * (centre[column] - nodes[row]) ** 2)
    return sp.csr_array((weight, column, pointer), shape=(len(nodes), len(centre)))


def _local_line(nodes: NDArray, moments: list[NDArray]) -> NDArray:
    """Value at each node of the straight line fitted under a Gaussian around it."""
    kernel = _kernel(float(nodes[-1]))
    known, total, mean_x, spread = _spread(kernel, moments[:3])
    mean_f, mean_xf = (apply(kernel, m) / total for m in moments[3:])
    slope = (mean_xf - mean_x * mean_f) / spread
    return _bridged(nodes, mean_f + slope * (nodes - mean_x), known)


def _spread(
    kernel: sp.csr_array, moments: list[NDArray]
) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """Where weight is in reach of each node; its sum (1 if none), centre, and squared spread."""
    total, x1, x2 = (apply(kernel, m) for m in moments)
    known = total > 0
    total = np.where(known, total, 1.0)
    mean_x = x1 / total
    return known, total, mean_x, np.maximum(x2 / total - mean_x**2, 0.0) + SLOPE_PRIOR


def _bridged(nodes: NDArray, values: NDArray, known: NDArray) -> NDArray:
    """Fill nodes out of reach of any pixel by straight lines between those that are not."""
    if known.all():
        return values
    rows, masks = (a.reshape(-1, a.shape[-1]) for a in (values.copy(), known))
    for row, mask in zip(rows, masks, strict=True):
        if mask.any():
            row[~mask] = np.interp(nodes[~mask], nodes[mask], row[mask])
    return rows.reshape(values.shape)


def polynomial_continuum(
    wavelength: ArrayLike,
    flux: ArrayLike,
    ivar: ArrayLike,
    order: int = 4,
    *,
    clip_below: float = 1.5,
    clip_above: float = 4.0,
    rounds: int = 20,
) -> NDArray:
    """Fit a polynomial to the upper envelope of a spectrum by asymmetric clipping.

    Parameters
    ----------
    wavelength, flux, ivar : array_like, shape (M,)
        As in `running_continuum`.
    order : int
        Order of the Chebyshev series in ln(wavelength).
    clip_below, clip_above : float
        A pixel further than this below or above the fit is left out of the next one, in units of
        the scatter of the pixels above the fit (of noise and continuum, not of lines).
    rounds : int
        The most fits; it ends when no pixel changes.

    Returns
    -------
    ndarray, shape (M,), float64
        At every pixel; outside the usable ones it is an extrapolation.

    Raises
    ------
    InputError
        If fewer usable pixels than coefficients are there, or as in `running_continuum`.
    """
    grid = checked_grid("wavelength", wavelength)
    values = checked_flux(grid, flux, ivar)
    weight = np.sqrt(np.asarray(ivar, dtype=np.float64))
    good = weight > 0
    if values.ndim != 1:
        raise InputError("flux", expected="one spectrum", found=f"shape {values.shape}")
    if not 0 <= order < good.sum():
        raise InputError(
            "order",
            expected=f"an order from 0 to below the number of usable pixels, {int(good.sum())}",
            found=f"{order}",
        )
    x = np.log(grid)
    basis = chebyshev.chebvander(2 * (x - x[0]) / (x[-1] - x[0]) - 1, order)
    kept = good
    for _ in range(rounds):
        rows = weight[kept, None] * basis[kept]
        fit = basis @ np.linalg.lstsq(rows, weight[kept] * values[kept], rcond=None)[0]
        residual = values - fit
        above = residual[kept & (residual > 0)]
        scatter = 1.4826 * np.median(above) if above.size else 0.0
        inside = (residual >= -clip_below * scatter) & (residual <= clip_above * scatter)
        inside &= good
        if scatter == 0 or inside.sum() <= order or np.array_equal(inside, kept):
            break
        kept = inside
    return fit


def normalise(
    spectrum: Spectrum, continuum: ArrayLike | None = None, *, width: float = 0.01
) -> Spectrum:
    """Divide a spectrum by a continuum; the S/N of each pixel stays what it was.

    Parameters
    ----------
    spectrum : Spectrum
    continuum : array_like, shape (M,), optional
        By default `running_continuum` of this width.
    width : float
        Sigma of the running continuum in ln(wavelength).

    Returns
    -------
    Spectrum
        ``flux / continuum`` and ``ivar * continuum**2``; ivar 0 where the continuum is not
        positive, where a ratio means nothing.

    Raises
    ------
    InputError
        If ``continuum`` is of another shape.
    """
    if continuum is None:
        continuum = running_continuum(spectrum.wavelength, spectrum.flux, spectrum.ivar, width)
    level = np.asarray(continuum, dtype=np.float64)
    if level.shape != spectrum.flux.shape:
        raise InputError(
            "continuum",
            expected=f"the shape of the flux, {spectrum.flux.shape}",
            found=f"shape {level.shape}",
        )
    usable = spectrum.good & np.isfinite(level) & (level > 0)
    safe = np.where(usable, level, 1.0)
    return spectrum.replace(
        flux=np.where(usable, spectrum.flux / safe, 0.0),
        ivar=np.where(usable, spectrum.ivar * safe**2, 0.0),
    )
