"""Radiative transfer: the flux that leaves a plane-parallel atmosphere in LTE.

Lines absorb; the continuum also scatters, coherently and isotropically.
"""

from __future__ import annotations

import math

import numba as nb
import numpy as np
from numpy.typing import NDArray

from spectrolabe.synthesis.constants import BOLTZMANN, LIGHT, PLANCK

__all__ = ["emergent_flux", "planck"]

BLOCK = 32  # pixels solved side by side
SCATTERS = 1e-4  # share of scattering in the opacity below which it is not worth solving for
ANGLES, WEIGHTS = np.polynomial.legendre.leggauss(3)
ANGLES, WEIGHTS = (ANGLES + 1) / 2, WEIGHTS / 2  # mu from 0 to 1


def planck(wavelength: NDArray, temperature: NDArray) -> NDArray:
    """Return the Planck function.

    Parameters
    ----------
    wavelength : array_like
        Vacuum Angstrom.
    temperature : array_like
        K; broadcast against the wavelengths.

    Returns
    -------
    ndarray
        erg/s/cm2/Angstrom/sr.
    """
    cm = np.asarray(wavelength) * 1e-8
    scale = 2 * PLANCK * LIGHT**2 / cm**5 * 1e-8
    return scale / np.expm1(PLANCK * LIGHT / (cm * BOLTZMANN * np.asarray(temperature)))


@nb.njit(fastmath=True, error_model="numpy", inline="always")
def _decay(depth: np.float32) -> np.float32:
    """exp(-depth) for depth >= 0 in single precision, in a form that vectorises; 3e-7."""
    y = min(depth * np.float32(1.4426950408889634), np.float32(120.0))
    n = np.int32(y)
    f = y - np.float32(n)
    power = np.float32(0.9999999404) + f * (
        np.float32(-0.6931421757)
        + f
        * (
            np.float32(0.2401715815)
            + f
            * (
                np.float32(-0.0552781336)
                + f * (np.float32(0.00918687414) + f * np.float32(-0.000938116456))
            )
        )
    )  # 2^-f, a Chebyshev fit
    return power * np.int32((np.int32(127) - n) << 23).view(np.float32)


@nb.njit(fastmath=True, error_model="numpy", cache=True)
def _flux(
    opacity: NDArray,  # (M, L), all absorption
    wavelength: NDArray,
    chosen: NDArray,  # (m,) pixels
    thermal_source: NDArray,  # (K, L), Planck function
    scattering: NDArray,  # (K, L)
    start: float,
    step: float,
    steps: NDArray,  # (L,), half the steps in optical depth at the reference wavelength
    inverse: NDArray,  # (L,), of the opacity there
    angles: NDArray,
    weights: NDArray,
    out: NDArray,
) -> None:
    layers = inverse.size
    shape = (layers, BLOCK)
    ratio = np.zeros(shape, np.float32)
    thermal = np.ones(shape, np.float32)
    source = np.zeros(shape, np.float32)
    depth = np.zeros(shape, np.float32)
    mean = np.zeros(shape, np.float32)
    above = np.zeros(shape, np.float32)
    below = np.zeros(shape, np.float32)
    for begin in range(0, chosen.size, BLOCK):
        count = min(BLOCK, chosen.size - begin)
        most = np.float32(0.0)
        for p in range(count):
            j = chosen[begin + p]
            x = (wavelength[j] - start) / step
            k = min(max(int(x), 0), scattering.shape[0] - 2)
            f = np.float32(min(max(x - k, 0.0), 1.0))
            g = np.float32(1.0) - f
            for i in range(layers):
                scattered = scattering[k, i] * g + scattering[k + 1, i] * f
                total = opacity[j, i] + scattered
                ratio[i, p] = total * inverse[i]
                albedo = scattered / total
                thermal[i, p] = np.float32(1.0) - albedo
                most = max(most, albedo)
                source[i, p] = thermal_source[k, i] * g + thermal_source[k + 1, i] * f
        _depths(ratio, steps, depth)
        if most > SCATTERS:
            _mean_intensity(depth, thermal, source, mean, below, above)
            for i in range(layers):
                for p in range(BLOCK):
                    source[i, p] = thermal[i, p] * source[i, p] + (1 - thermal[i, p]) * mean[i, p]
        flux = _emergent(depth, source, angles, weights)
        for p in range(count):
            out[chosen[begin + p]] = 2.0 * math.pi * flux[p]


@nb.njit(fastmath=True, error_model="numpy", inline="always")
def _depths(ratio: NDArray, steps: NDArray, depth: NDArray) -> None:
    for p in range(BLOCK):
        depth[0, p] = ratio[0, p] * steps[0]
    for i in range(1, ratio.shape[0]):
        for p in range(BLOCK):
            depth[i, p] = depth[i - 1, p] + (ratio[i, p] + ratio[i - 1, p]) * steps[i]


@nb.njit(fastmath=True, error_model="numpy", inline="always")
def _mean_intensity(
    depth: NDArray,
    thermal: NDArray,
    source: NDArray,
    mean: NDArray,
    below: NDArray,
    above: NDArray,
) -> None:
    """Solve 1/3 d2J/dtau2 = e (J - B), Eddington's approximation, for the mean intensity.

    Differences on an uneven grid; no radiation falls in from above (dJ/dtau = sqrt(3) J), and
    J = B at the bottom. Eliminated in the form of Rybicki & Hummer (1991, A&A 245, 171, appendix
    A), which loses no digits where the depths are small; `below` and `above` are room for it.
    """
    n = depth.shape[0]
    root = np.float32(math.sqrt(3.0))
    one = np.float32(1.0)
    for p in range(BLOCK):
        # to second order: J1 (1 + sqrt(3) d + 3/2 e d^2) - J2 = 3/2 e d^2 B
        d = depth[1, p] - depth[0, p]
        e = np.float32(1.5) * thermal[0, p] * d * d
        mean[0, p] = root * d + e
        above[0, p] = one / (one + mean[0, p])
        below[0, p] = e * source[0, p] * above[0, p]
    for i in range(1, n - 1):
        for p in range(BLOCK):
            # the equation times 3/2 (up + down) up down, so that nothing overflows
            up = depth[i, p] - depth[i - 1, p]
            down = depth[i + 1, p] - depth[i, p]
            e = np.float32(1.5) * (up + down) * up * down * thermal[i, p]
            mean[i, p] = (e + down * mean[i - 1, p] * above[i - 1, p]) / up
            above[i, p] = one / (one + mean[i, p])
            below[i, p] = (e * source[i, p] + down * below[i - 1, p]) / up * above[i, p]
    for p in range(BLOCK):
        mean[n - 1, p] = source[n - 1, p]
    for back in range(1, n):
        i = n - 1 - back
        for p in range(BLOCK):
            mean[i, p] = below[i, p] + above[i, p] * mean[i + 1, p]


@nb.njit(fastmath=True, error_model="numpy", inline="always")
def _emergent(depth: NDArray, source: NDArray, angles: NDArray, weights: NDArray) -> NDArray:
    """The integral of I mu over mu from 0 to 1: a source function linear in depth."""
    n = depth.shape[0]
    flux = np.zeros(BLOCK, np.float32)
    escape = np.empty(BLOCK, np.float32)
    intensity = np.empty(BLOCK, np.float32)
    for q in range(angles.size):
        per_mu = np.float32(1.0 / angles[q])
        for p in range(BLOCK):
            escape[p] = _decay(depth[0, p] * per_mu)
            intensity[p] = source[0, p] * (np.float32(1.0) - escape[p])
        for i in range(1, n):
            for p in range(BLOCK):
                d = (depth[i, p] - depth[i - 1, p]) * per_mu
                e = _decay(d)
                thin = np.float32(1.0) - d * (
                    np.float32(0.5) - d * (np.float32(1 / 6) - d * np.float32(1 / 24))
                )
                g = thin if d < np.float32(0.1) else (np.float32(1.0) - e) / d
                intensity[p] += escape[p] * (
                    source[i - 1, p] * (np.float32(1.0) - g) + source[i, p] * (g - e)
                )
                escape[p] *= e
        weight = np.float32(weights[q] * angles[q])
        for p in range(BLOCK):
            flux[p] += weight * (intensity[p] + escape[p] * source[n - 1, p])
    return flux


def emergent_flux(
    opacity: NDArray,
    wavelength: NDArray,
    *,
    scattering: tuple[NDArray, NDArray],
    tau: NDArray,
    reference: NDArray,
    temperature: NDArray,
    chosen: NDArray | None = None,
    out: NDArray | None = None,
) -> NDArray:
    """Return the flux at the surface.

    Parameters
    ----------
    opacity : ndarray, shape (M, L)
        True absorption, 1/cm, layers from the top.
    wavelength : ndarray, shape (M,)
        Vacuum Angstrom.
    scattering : tuple of ndarray, shapes (K,) and (K, L)
        Evenly spaced wavelengths, and the scattering opacity there, 1/cm.
    tau : ndarray, shape (L,)
        Optical depth of the layers at a reference wavelength.
    reference : ndarray, shape (L,)
        Opacity at that wavelength, scattering included, 1/cm.
    temperature : ndarray, shape (L,)
        K.
    chosen : ndarray of int, optional
        Pixels to do; the others of ``out`` stay.
    out : ndarray, shape (M,), optional
        Where to put it.

    Returns
    -------
    ndarray, shape (M,), float64
        erg/s/cm2/Angstrom.
    """
    grid, values = scattering
    flux = np.empty(wavelength.size) if out is None else out
    half_steps = np.r_[tau[0], 0.5 * np.diff(tau)]
    _flux(
        np.asarray(opacity, np.float32),
        wavelength,
        np.arange(wavelength.size) if chosen is None else chosen,
        planck(grid[:, None], temperature).astype(np.float32),
        values.astype(np.float32),
        grid[0],
        grid[1] - grid[0],
        half_steps.astype(np.float32),
        (1.0 / reference).astype(np.float32),
        ANGLES,
        WEIGHTS,
        flux,
    )
    return flux
