"""Magnitudes and reddening: from temperature and luminosity to what surveys select by."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["BANDS", "EXTINCTION", "absolute_magnitudes", "extinction_curve"]

BANDS = ("G", "BP", "RP", "J", "H", "K", "g", "r", "i")
SOLAR_BOLOMETRIC = 4.74  # IAU 2015 resolution B2
EXTINCTION: Mapping[str, float] = {
    **{"G": 0.789, "BP": 1.002, "RP": 0.589, "J": 0.282, "H": 0.19, "K": 0.114},
    **{"g": 1.065, "r": 0.737, "i": 0.548},
}
"""A_band / A_V for R_V = 3.1: Gaia at 6000 K (Wang & Chen 2019, ApJ 877, 116), J, H, K (Cardelli,
Clayton & Mathis 1989, ApJ 345, 245), g, r, i (Schlafly & Finkbeiner 2011, ApJ 737, 103)."""


def _of_colour(colour: NDArray, b: tuple[float, ...], fe_h: NDArray) -> NDArray:
    """5040 K / Teff of a colour, in the form that all such relations share."""
    metals = b[3] + b[5] * fe_h
    return b[0] + b[1] * colour + b[2] * colour**2 + metals * fe_h + b[4] * fe_h * colour


def _colour(teff: NDArray, fe_h: NDArray, b: tuple[float, ...]) -> NDArray:
    """The colour that such a relation gives a temperature."""
    metals = np.clip(fe_h, -2.5, 0.5)
    constant = b[0] + (b[3] + b[5] * metals) * metals - 5040.0 / teff
    linear = b[1] + b[4] * metals
    return (-linear + np.sqrt(np.maximum(linear**2 - 4 * b[2] * constant, 0.0))) / (2 * b[2])


# b0 to b5 for dwarfs and giants. BP-RP: Mucciarelli, Bellazzini & Massari (2021, A&A 653, A90);
# V-K, J-K: Casagrande et al. (2010, A&A 512, A54), Gonzalez Hernandez & Bonifacio (2009, A&A 497,
# 497)
BP_RP = (
    (0.4929, 0.5092, -0.0353, 0.0192, -0.0020, -0.0395),
    (0.5323, 0.4775, -0.0344, -0.0110, -0.0020, -0.0009),
)
V_K = (
    (0.5057, 0.2600, -0.0146, -0.0131, 0.0288, 0.0016),
    (0.5293, 0.2489, -0.0119, -0.0042, 0.0135, 0.0010),
)
J_K = (
    (0.6393, 0.6104, 0.0920, -0.0330, 0.0291, 0.0020),
    (0.6517, 0.6312, 0.0168, -0.0381, 0.0256, 0.0013),
)


def absolute_magnitudes(
    teff: NDArray, logg: NDArray, fe_h: NDArray, luminosity: NDArray
) -> dict[str, NDArray]:
    """Return absolute magnitudes of `BANDS`, each of shape (N,).

    Parameters
    ----------
    teff, logg, fe_h : ndarray, shape (N,)
        4000 to 8000 K.
    luminosity : ndarray, shape (N,)
        Solar units.

    Notes
    -----
    Bolometric correction of G: Andrae et al. (2018, A&A 616, A8, table 4). V, g, r, i from G and
    BP - RP: Gaia EDR3 documentation 5.5.1. Gaia, 2MASS and the SDSS; Vega magnitudes, but AB for
    g, r and i.
    """
    # dwarfs above log g 4, giants below 3, and a mixture in between
    dwarf = np.clip(logg - 3.0, 0.0, 1.0)

    def colour(pair: tuple[tuple[float, ...], tuple[float, ...]]) -> NDArray:
        of_dwarf, of_giant = (_colour(teff, fe_h, b) for b in pair)
        return dwarf * of_dwarf + (1 - dwarf) * of_giant

    x = teff - 5772.0
    correction = 6.000e-2 + 6.731e-5 * x - 6.647e-8 * x**2 + 2.859e-11 * x**3 - 7.197e-15 * x**4
    g_mag = SOLAR_BOLOMETRIC - 2.5 * np.log10(luminosity) - correction
    c = colour(BP_RP)
    v_mag = g_mag + 0.02704 - 0.01424 * c + 0.2156 * c**2 - 0.01426 * c**3
    red = 0.66 * c - 0.07 * c**2  # G - RP along the main sequence of Gaia
    k_mag = v_mag - colour(V_K)
    j_k = colour(J_K)
    return {
        "G": g_mag,
        "BP": g_mag - red + c,
        "RP": g_mag - red,
        "J": k_mag + j_k,
        "H": k_mag + 0.14 * j_k,
        "K": k_mag,
        "g": g_mag - (0.2199 - 0.6365 * c - 0.1548 * c**2 + 0.0064 * c**3),
        "r": g_mag - (-0.09837 + 0.08592 * c + 0.1907 * c**2 - 0.1701 * c**3 + 0.02263 * c**4),
        "i": g_mag - (-0.293 + 0.6404 * c - 0.09609 * c**2 - 0.002104 * c**3),
    }


def extinction_curve(wavelength: ArrayLike) -> NDArray:
    """Return A(wavelength) / A_V for R_V = 3.1 (Cardelli, Clayton & Mathis 1989).

    Parameters
    ----------
    wavelength : array_like, shape (M,)
        Angstrom, 3030 to 33 000; the ends are held beyond.
    """
    x = 1e4 / np.clip(np.asarray(wavelength, dtype=float), 3030.3, 33333.0)
    y = x - 1.82
    a = [1.0, 0.17699, -0.50447, -0.02427, 0.72085, 0.01979, -0.77530, 0.32999]
    b = [0.0, 1.41338, 2.28305, 1.07233, -5.38434, -0.62251, 5.30260, -2.09002]
    optical = np.polynomial.polynomial.polyval(y, a) + np.polynomial.polynomial.polyval(y, b) / 3.1
    return np.where(x > 1.1, optical, (0.574 - 0.527 / 3.1) * x**1.61)
