"""Model spectra on an even grid of ln(wavelength) as splines: any pixel, any width, with slopes.

A cubic spline is a sum of B-splines, and a Gaussian of any width acts on each of them in closed
form. So the flux at any wavelength, of a star of any velocity and broadening, is a short sum over
coefficients, and its derivatives are sums over the same ones.
"""

from __future__ import annotations

import math

import numba as nb
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import spline_filter1d

from spectrolabe.errors import InputError
from spectrolabe.spectra.broadening import FWHM
from spectrolabe.spectra.wavelength import SPEED_OF_LIGHT

__all__ = ["MARGIN", "REACH", "sample", "smoothed", "spline_coefficients"]

MARGIN = 12  # steps after which a B-spline coefficient has forgotten a value (0.27**12 = 1e-7)
REACH = 5.0  # sigma at which a Gaussian ends: 6e-7 of its area lies beyond
POLE = math.sqrt(3.0) - 2.0  # of the recursion from values to B-spline coefficients
TAIL = 1e-5  # of a kernel that may be left off
BLOCK = 512  # pixels at a time, so that their weights stay in the nearest cache


def spline_coefficients(values: ArrayLike, axis: int = -1) -> NDArray:
    """Return the coefficients of the cubic B-splines that pass through values at even steps.

    Parameters
    ----------
    values : array_like
        Any shape. At both ends the spline is mirrored.
    axis : int
        Along which the steps are.

    Returns
    -------
    ndarray, float64, of the same shape
        ``sum(coefficients[j] * beta(u - j))`` is the value at position ``u`` in steps.
    """
    return np.asarray(
        spline_filter1d(np.asarray(values, dtype=np.float64), order=3, axis=axis, mode="mirror")
    )


def smoothed(coefficients: NDArray, position: ArrayLike, sigma: ArrayLike) -> NDArray:
    """Return splines after a Gaussian, at given positions, each with its own width.

    Parameters
    ----------
    coefficients : ndarray, shape (T, J)
        Of T splines, as `spline_coefficients` gives them; 0 outside.
    position : array_like, shape (M,)
        In steps from the first coefficient.
    sigma : array_like, shape (M,) or ()
        Of the Gaussian, in steps; 0 for none.

    Returns
    -------
    ndarray, shape (T, M), float64
    """
    where = np.ascontiguousarray(position, dtype=np.float64)
    width = np.ascontiguousarray(np.broadcast_to(np.asarray(sigma, dtype=np.float64), where.shape))
    splines = np.ascontiguousarray(coefficients, dtype=np.float64)
    result = np.empty((len(splines), len(where)))
    _smoothed(splines, where, width, result)
    return result


def sample(
    coefficients: NDArray,
    start: float,
    step: float,
    log_wavelength: ArrayLike,
    *,
    rv: ArrayLike = 0.0,
    v_broad: ArrayLike = 0.0,
) -> tuple[NDArray, NDArray, NDArray]:
    """Return spectra of moving, broadened stars at the pixels of an instrument, and two slopes.

    Parameters
    ----------
    coefficients : ndarray, shape (N, T, J), float32
        Splines of N stars, T each, that share velocity and broadening: flux first, then for
        example its slopes with labels.
    start, step : float
        ln(wavelength / Å) of the first coefficient, and from one to the next.
    log_wavelength : array_like, shape (M,) or (N, M)
        ln(wavelength / Å) of the pixels, as observed.
    rv : array_like, shape (N,) or ()
        Radial velocity in km/s, + = receding, as in `doppler_shift`.
    v_broad : array_like, shape (N,) or ()
        Gaussian broadening of the star, FWHM in km/s.

    Returns
    -------
    flux : ndarray, shape (N, T, M), float32
        All T splines. The first and last coefficient only serve their neighbours: beyond the second
        and the last but one a spline keeps its value there, with slopes of 0.
    rv_slope, broad_slope : ndarray, shape (N, M), float32
        Exact derivatives of ``flux[:, 0]`` per km/s. That with ``v_broad`` is 0 at ``v_broad`` = 0.

    Raises
    ------
    InputError
        If shapes disagree, a wavelength or velocity is not finite, or a broadening negative.

    Notes
    -----
    A star's broadening acts on the coefficients: splines after an exact Gaussian, interpolated at
    the grid's own points. With four points or more per FWHM that equals the Gaussian to 1e-4 of the
    depth of a line.
    """
    splines = np.ascontiguousarray(coefficients, dtype=np.float32)
    pixels = np.atleast_2d(np.ascontiguousarray(log_wavelength, dtype=np.float64))
    if splines.ndim != 3 or len(pixels) not in (1, len(splines)) or splines.shape[2] < 4:
        raise InputError(
            "coefficients",
            expected="shape (stars, splines, 4 or more), and pixels of one or of all stars",
            found=f"shapes {splines.shape} and {pixels.shape}",
        )
    if not np.isfinite(pixels).all():
        raise InputError("log_wavelength", expected="finite values", found="NaN or infinity")
    stars, rows, _ = splines.shape
    velocity = _of_each_star("rv", rv, stars, -SPEED_OF_LIGHT)
    width = _of_each_star("v_broad", v_broad, stars, 0.0)
    flux = np.empty((stars, rows, pixels.shape[1]), dtype=np.float32)
    rv_slope = np.empty((stars, pixels.shape[1]), dtype=np.float32)
    broad_slope = np.zeros_like(rv_slope)
    _sample(
        splines,
        (pixels - start) / step,
        np.log1p(velocity / SPEED_OF_LIGHT) / step,
        width / SPEED_OF_LIGHT / FWHM / step,
        flux,
        rv_slope,
        broad_slope,
    )
    rv_slope *= (-1.0 / step / (SPEED_OF_LIGHT + velocity))[:, None]
    # the kernel has d/d(sigma^2) in steps
    broad_slope *= (2.0 * width / (SPEED_OF_LIGHT * FWHM * step) ** 2)[:, None]
    return flux, rv_slope, broad_slope


def _of_each_star(name: str, value: ArrayLike, stars: int, low: float) -> NDArray:
    values = np.asarray(value, dtype=np.float64)
    if values.shape not in ((), (stars,)):
        raise InputError(name, expected=f"one, or {stars}", found=f"shape {values.shape}")
    good = (values >= low) & (np.abs(values) < SPEED_OF_LIGHT)
    if not good.all():
        raise InputError(
            name,
            expected="finite km/s, slower than light" + (", not negative" if low == 0 else ""),
            found=f"{values[~good].flat[0]}",
        )
    return np.ascontiguousarray(np.broadcast_to(values, (stars,)))


@nb.njit(fastmath=True, error_model="numpy", inline="always")
def _ramp(t: float, sigma: float) -> float:
    # mean of max(t + sigma z, 0)**3 over a normal z; its fourth difference / 6 is the kernel
    x = t / sigma
    if x < -6.0:
        return 0.0
    if x > 6.0:
        return t * t * t + 3.0 * t * sigma * sigma
    below = 0.5 * math.erfc(-x * 0.7071067811865476)
    density = 0.3989422804014327 * math.exp(-0.5 * x * x)
    return sigma**3 * ((x * x * x + 3.0 * x) * below + (x * x + 2.0) * density)


@nb.njit(fastmath=True, error_model="numpy", cache=True)
def _weights(distance: float, sigma: float, weight: NDArray) -> None:
    """Fill in B-spline (x) Gaussian at distance, distance - 1, ... from the centre."""
    count = weight.size
    if sigma > 6.0:  # the B-spline is a Gaussian of variance 1/3 then, to 3e-6 of the peak
        total = sigma * sigma + 1.0 / 3.0
        scale = 0.3989422804014327 / math.sqrt(total)
        for k in range(count):
            weight[k] = scale * math.exp(-0.5 * (distance - k) ** 2 / total)
        return
    width = max(sigma, 1e-7)
    e = _ramp(distance + 2.0, width)
    d = _ramp(distance + 1.0, width)
    c = _ramp(distance, width)
    b = _ramp(distance - 1.0, width)
    for k in range(count):
        a = _ramp(distance - k - 2.0, width)
        weight[k] = (e - 4.0 * d + 6.0 * c - 4.0 * b + a) / 6.0
        e, d, c, b = d, c, b, a


@nb.njit(fastmath=True, error_model="numpy", cache=True, nogil=True)
def _smoothed(splines: NDArray, position: NDArray, sigma: NDArray, result: NDArray) -> None:
    rows, size = splines.shape
    for m in range(position.size):
        reach = 2.0 + REACH * sigma[m]
        first = max(math.ceil(position[m] - reach), 0)
        last = min(math.floor(position[m] + reach) + 1, size)
        weight = np.zeros(max(last - first, 0))
        if weight.size:
            _weights(position[m] - first, sigma[m], weight)
        for t in range(rows):
            total = 0.0
            for k in range(weight.size):
                total += weight[k] * splines[t, first + k]
            result[t, m] = total


@nb.njit(fastmath=True, error_model="numpy", cache=True)
def _to_coefficients(values: NDArray) -> None:
    """Values at even steps, 0 at both ends, to coefficients of B-splines, in place."""
    for k in range(1, values.size):
        values[k] += POLE * values[k - 1]
    values[-1] *= -POLE / (1.0 - POLE * POLE)
    for k in range(values.size - 2, -1, -1):
        values[k] = POLE * (values[k + 1] - values[k])
    values *= 6.0


@nb.njit(fastmath=True, error_model="numpy", cache=True)
def _kernels(sigma: float) -> tuple[NDArray, NDArray]:
    """Taps that smooth coefficients, and their derivatives with sigma^2."""
    half = math.ceil(REACH * sigma) + MARGIN
    taps = 2 * half + 1
    value = np.zeros(taps)
    _weights(float(half), sigma, value)
    # d/d(sigma^2) is half the second derivative: a second difference of hat (x) Gaussian, which is
    # itself a second difference of ramps
    slope = np.zeros(taps)
    width = max(sigma, 1e-7)
    for k in range(taps):
        total = 0.0
        for i in range(5):
            x = (half - k + 2.0 - i) / width
            below = 0.5 * math.erfc(-x * 0.7071067811865476)
            ramp = x * below + 0.3989422804014327 * math.exp(-0.5 * x * x)
            total += (1.0, -4.0, 6.0, -4.0, 1.0)[i] * ramp
        slope[k] = 0.5 * width * total
    _to_coefficients(value)
    _to_coefficients(slope)
    return _trimmed(value, TAIL, 1.0), _trimmed(slope, TAIL * abs(slope[half]), 0.0)


@nb.njit(error_model="numpy", cache=True)
def _trimmed(kernel: NDArray, tail: float, total: float) -> NDArray:
    """Without the ends that hold less than a tail; a multiple of 4 long, its centre at half."""
    cut, lost = 0, 2.0 * abs(kernel[0])
    while lost < tail and 2 * cut < kernel.size - 3:
        cut += 1
        lost += 2.0 * abs(kernel[cut])
    reach = kernel.size // 2 - cut
    half = (reach + 2) // 2 * 2
    short = np.zeros(2 * half, np.float32)
    short[half - reach : half + reach + 1] = kernel[cut : kernel.size - cut]
    short[half] += total - short.sum()
    return short


@nb.njit(error_model="numpy", cache=True)
def _convolve(row: NDArray, kernel: NDArray, result: NDArray) -> None:
    """Convolve with a symmetric kernel; beyond the ends the row keeps its last value."""
    half = kernel.size // 2
    size = row.size
    padded = np.empty(size + kernel.size, np.float32)
    padded[:half] = row[0]
    padded[half : half + size] = row
    padded[half + size :] = row[-1]
    for begin in range(0, size, BLOCK):
        out = result[begin : min(begin + BLOCK, size)]
        out[:] = 0.0
        for k in range(0, kernel.size, 4):
            g0, g1, g2, g3 = kernel[k], kernel[k + 1], kernel[k + 2], kernel[k + 3]
            # views that start at 0 compile to vector instructions
            p0 = padded[begin + k :]
            p1 = padded[begin + k + 1 :]
            p2 = padded[begin + k + 2 :]
            p3 = padded[begin + k + 3 :]
            for i in range(out.size):
                out[i] += g0 * p0[i] + g1 * p1[i] + g2 * p2[i] + g3 * p3[i]


# without fastmath, which rounds by where a vector of pixels begins: no cost in speed
@nb.njit(error_model="numpy", cache=True, nogil=True)
def _sample(
    splines: NDArray,  # (N, T, J)
    position: NDArray,  # (1 or N, M): of the pixels, in steps
    shift: NDArray,  # (N,): of the star, in steps
    sigma: NDArray,  # (N,): in steps
    flux: NDArray,  # (N, T, M)
    rv_slope: NDArray,  # (N, M): d flux / d position
    broad_slope: NDArray,  # (N, M): d flux / d sigma^2, if sigma > 0
) -> None:
    stars, rows, size = splines.shape
    pixels = position.shape[1]
    weight = np.empty((4, BLOCK), np.float32)
    slope = np.empty((4, BLOCK), np.float32)
    left = np.empty(BLOCK, np.int64)
    smooth = np.empty((rows + 1, size), np.float32)
    for n in range(stars):
        broad = sigma[n] > 0.0
        if broad:
            value, derivative = _kernels(sigma[n])
            for t in range(rows):
                _convolve(splines[n, t], value, smooth[t])
            _convolve(splines[n, 0], derivative, smooth[rows])
        work = smooth if broad else splines[n]
        at = position[n if position.shape[0] > 1 else 0]
        for begin in range(0, pixels, BLOCK):
            count = min(BLOCK, pixels - begin)
            for m in range(count):
                u = at[begin + m] - shift[n]
                held = np.float32(0.0 if u < 1.0 or u > size - 2.0 else 1.0)
                u = min(max(u, 1.0), size - 2.0)
                j = min(int(u), size - 3)
                f = np.float32(u - j)
                e = np.float32(1.0) - f
                left[m] = j - 1
                w0 = e * e * e / np.float32(6.0)
                w3 = f * f * f / np.float32(6.0)
                w1 = np.float32(2.0 / 3.0) - f * f * (np.float32(1.0) - np.float32(0.5) * f)
                weight[0, m] = w0
                weight[1, m] = w1
                weight[2, m] = np.float32(1.0) - w0 - w1 - w3
                weight[3, m] = w3
                s0 = np.float32(-0.5) * e * e * held
                s3 = np.float32(0.5) * f * f * held
                s1 = f * (np.float32(1.5) * f - np.float32(2.0)) * held
                slope[0, m] = s0
                slope[1, m] = s1
                slope[2, m] = -s0 - s1 - s3
                slope[3, m] = s3
            for t in range(rows):
                for m in range(count):
                    j = left[m]
                    flux[n, t, begin + m] = (
                        weight[0, m] * work[t, j]
                        + weight[1, m] * work[t, j + 1]
                        + weight[2, m] * work[t, j + 2]
                        + weight[3, m] * work[t, j + 3]
                    )
            for m in range(count):
                j = left[m]
                rv_slope[n, begin + m] = (
                    slope[0, m] * work[0, j]
                    + slope[1, m] * work[0, j + 1]
                    + slope[2, m] * work[0, j + 2]
                    + slope[3, m] * work[0, j + 3]
                )
            if broad:
                for m in range(count):
                    j = left[m]
                    broad_slope[n, begin + m] = (
                        weight[0, m] * work[rows, j]
                        + weight[1, m] * work[rows, j + 1]
                        + weight[2, m] * work[rows, j + 2]
                        + weight[3, m] * work[rows, j + 3]
                    )
