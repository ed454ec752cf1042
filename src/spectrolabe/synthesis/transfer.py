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


@nb.njit(fastmath=True, inline="always")
def _mean_intensity(depth, thermal, source, mean, below, above):
    """Solve 1/3 d2J/dtau2 = e (J - B), Eddington's approximation, for the mean intensity.

    Differences on an uneven grid; no radiation falls in from above (dJ/dtau = sqrt(3) J), and
    J = B at the bottom. `below` and `above` are room for the elimination.
    """
    n = depth.size
    # upper boundary to second order: J1 (1 + sqrt(3) d + 3/2 e d^2) - J2 = 3/2 e d^2 B
    d = depth[1] - depth[0]
    e = 1.5 * thermal[0] * d * d
    pivot = 1.0 + math.sqrt(3.0) * d + e
    above[0] = 1.0 / pivot
    below[0] = e * source[0] / pivot
    for i in range(1, n - 1):
        up = depth[i] - depth[i - 1]
        down = depth[i + 1] - depth[i]
        a = 2.0 / (3.0 * up * (up + down))
        c = 2.0 / (3.0 * down * (up + down))
        pivot = a + c + thermal[i] - a * above[i - 1]
        above[i] = c / pivot
        below[i] = (thermal[i] * source[i] + a * below[i - 1]) / pivot
    mean[n - 1] = source[n - 1]
    for i in range(n - 2, -1, -1):
        mean[i] = below[i] + above[i] * mean[i + 1]


@nb.njit(fastmath=True, cache=True)
def _flux(
    opacity,  # (M, L), all absorption
    wavelength,
    chosen,  # (m,) pixels
    scattering,  # (K, L)
    start,
    step,
    tau,  # (L,), at the reference wavelength
    inverse,  # (L,), 1 / opacity at the reference wavelength
    temperature,
    angles,
    weights,
    out,
):
    n = tau.size
    source = np.empty(n)
    ratio = np.empty(n)
    depth = np.empty(n)
    thermal = np.empty(n)
    mean = np.empty(n)
    below = np.empty(n)
    above = np.empty(n)
    last = scattering.shape[0] - 1
    for j in chosen:
        x = (wavelength[j] - start) / step
        k = min(max(int(x), 0), last - 1)
        f = min(max(x - k, 0.0), 1.0)
        cm = wavelength[j] * 1e-8
        scale = 2 * PLANCK * LIGHT * LIGHT / cm**5 * 1e-8
        quantum = PLANCK * LIGHT / (cm * BOLTZMANN)
        largest = 0.0
        for i in range(n):
            source[i] = scale / (math.exp(quantum / temperature[i]) - 1.0)
            scattered = scattering[k, i] * (1.0 - f) + scattering[k + 1, i] * f
            total = opacity[j, i] + scattered
            ratio[i] = total * inverse[i]
            thermal[i] = opacity[j, i] / total
            largest = max(largest, 1.0 - thermal[i])
        depth[0] = ratio[0] * tau[0]
        for i in range(1, n):
            depth[i] = depth[i - 1] + 0.5 * (ratio[i] + ratio[i - 1]) * (tau[i] - tau[i - 1])
        if largest > 1e-4:
            _mean_intensity(depth, thermal, source, mean, below, above)
            for i in range(n):
                source[i] = thermal[i] * source[i] + (1.0 - thermal[i]) * mean[i]
        flux = 0.0
        for q in range(angles.size):
            mu = angles[q]
            escape = math.exp(-depth[0] / mu)
            intensity = source[0] * (1.0 - escape)
            for i in range(1, n):
                d = (depth[i] - depth[i - 1]) / mu
                if d < 1e-3:
                    intensity += escape * d * 0.5 * (source[i] + source[i - 1])
                    escape *= 1.0 - d + 0.5 * d * d
                else:
                    e = math.exp(-d)
                    g = (1.0 - e) / d
                    intensity += escape * (source[i - 1] * (1.0 - g) + source[i] * (g - e))
                    escape *= e
                if escape < 1e-7:
                    break
            intensity += escape * source[n - 1]
            flux += weights[q] * mu * intensity
        out[j] = 2.0 * math.pi * flux


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
    _flux(
        opacity,
        wavelength,
        np.arange(wavelength.size) if chosen is None else chosen,
        np.ascontiguousarray(values),
        grid[0],
        grid[1] - grid[0],
        tau,
        1.0 / reference,
        temperature,
        ANGLES,
        WEIGHTS,
        flux,
    )
    return flux
