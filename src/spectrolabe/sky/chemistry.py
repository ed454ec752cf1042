"""What stars are born of, and what they do to it: abundances along the history of the Galaxy.

Trends are straight lines or ramps in [Fe/H], age and the alpha enhancement, read off the published
figures: Bensby, Feltzing & Oey (2014, A&A 562, A71; alpha elements, Na, Ni, Zn, Ba, Y), Battistini
& Bensby (2015, A&A 577, A9; Sc, V, Mn, Co; 2016, A&A 586, A49; Sr, Zr, La, Ce, Nd, Sm, Eu), Hayden
et al. (2015, ApJ 808, 132; the two sequences), Nissen (2015, A&A 579, A52; age trends), Spina et
al. (2018, MNRAS 474, 2580; s-process elements and age), Nissen & Schuster (2010, A&A 511, L10;
halo).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["COMPONENTS", "TRENDS", "birth", "dredge_up", "lithium", "magnesium", "metals"]

COMPONENTS = ("thin", "thick", "halo")
SUN_LITHIUM = 1.05  # A(Li) of the solar photosphere (Grevesse, Asplund & Sauval 2007)
# solar numbers of C and N per 10^12 H of the same compilation
SUN_CARBON, SUN_NITROGEN = 10**8.39, 10**7.78
# [C/N] after the first dredge-up at solar composition, by mass
# (Salaris et al. 2015, A&A 583, A87; Martig et al. 2016, MNRAS 456, 3655)
DREDGED_MASS = np.array([0.7, 0.9, 1.0, 1.2, 1.5, 2.0, 3.0, 6.0])
DREDGED = np.array([0.02, -0.07, -0.14, -0.30, -0.47, -0.62, -0.72, -0.75])


@dataclass(frozen=True)
class _Trend:
    """[X/Fe] = alpha * [Mg/Fe] + slope * [Fe/H] + below * min([Fe/H] + 1, 0) + youth * (4.5 - age).

    ``scatter`` is the intrinsic standard deviation in dex.
    """

    alpha: float = 0.0
    slope: float = 0.0
    below: float = 0.0
    youth: float = 0.0
    scatter: float = 0.03


TRENDS: dict[str, _Trend] = {
    "C": _Trend(0.45, -0.05, 0.0, 0.0, 0.04),
    "N": _Trend(0.10, 0.12, -0.10, 0.005, 0.06),
    "O": _Trend(1.25, -0.10, 0.0, 0.0, 0.03),
    "Na": _Trend(0.15, 0.12, 0.10, 0.0, 0.04),
    "Mg": _Trend(1.0, 0.0, 0.0, 0.0, 0.0),
    "Al": _Trend(0.85, 0.02, 0.30, 0.0, 0.04),
    "Si": _Trend(0.65, -0.01, 0.0, 0.0, 0.02),
    "P": _Trend(0.8, -0.10, 0.0, 0.0, 0.06),
    "S": _Trend(0.75, -0.05, 0.0, 0.0, 0.04),
    "K": _Trend(0.6, -0.03, 0.0, 0.0, 0.04),
    "Ca": _Trend(0.55, -0.03, 0.0, 0.003, 0.02),
    "Sc": _Trend(0.40, 0.02, 0.05, 0.0, 0.04),
    "Ti": _Trend(0.75, -0.01, 0.0, 0.0, 0.02),
    "V": _Trend(0.30, 0.02, 0.0, 0.0, 0.04),
    "Cr": _Trend(0.0, 0.0, 0.05, 0.0, 0.02),
    "Mn": _Trend(-0.10, 0.23, -0.15, 0.0, 0.03),
    "Co": _Trend(0.35, 0.06, -0.10, 0.0, 0.03),
    "Ni": _Trend(0.10, 0.06, 0.0, -0.003, 0.02),
    "Cu": _Trend(0.25, 0.20, 0.25, 0.0, 0.05),
    "Zn": _Trend(0.45, 0.02, -0.05, -0.008, 0.04),
    "Sr": _Trend(-0.05, 0.02, 0.10, 0.025, 0.06),
    "Y": _Trend(-0.10, 0.05, 0.10, 0.028, 0.06),
    "Zr": _Trend(0.25, -0.05, 0.0, 0.020, 0.06),
    "Ba": _Trend(-0.10, 0.0, 0.20, 0.032, 0.07),
    "La": _Trend(0.15, -0.08, 0.10, 0.020, 0.07),
    "Ce": _Trend(0.05, -0.05, 0.10, 0.022, 0.07),
    "Pr": _Trend(0.35, -0.15, 0.0, 0.012, 0.08),
    "Nd": _Trend(0.40, -0.15, 0.05, 0.014, 0.07),
    "Sm": _Trend(0.60, -0.20, 0.0, 0.006, 0.08),
    "Eu": _Trend(0.90, -0.22, -0.20, 0.0, 0.08),
}
"""One trend for each element of the registry but lithium."""


def magnesium(
    rng: np.random.Generator, component: NDArray, fe_h: NDArray, age: NDArray, scatter: float = 1.0
) -> NDArray:
    """Return [Mg/Fe] at birth, shape (N,): a low sequence with age, a high one, and the halo's.

    Parameters
    ----------
    rng : Generator
    component : ndarray of str, shape (N,)
        One of `COMPONENTS`.
    fe_h : ndarray, shape (N,)
    age : ndarray, shape (N,)
        Gyr.
    scatter : float
        Times the intrinsic scatter of 0.025 dex.
    """
    low = -0.13 * np.clip(fe_h, -0.9, 0.2) + 0.012 * (age - 4.5)
    high = np.interp(fe_h, [-2.5, -0.65, 0.0, 0.3], [0.36, 0.32, 0.14, 0.06])
    # half of the halo came with accreted galaxies, whose iron came earlier
    accreted = (component == "halo") & (rng.random(fe_h.size) < 0.5)
    late = np.interp(fe_h, [-2.5, -1.5, -0.8, 0.3], [0.36, 0.30, 0.12, 0.0])
    mean = np.where(component == "thin", low, np.where(accreted, late, high))
    return mean + scatter * 0.025 * rng.normal(size=fe_h.size)


def birth(
    rng: np.random.Generator, mg_fe: NDArray, fe_h: NDArray, age: NDArray, scatter: float = 1.0
) -> dict[str, NDArray]:
    """Return [X/Fe] of the gas that stars were born of, by label name, each of shape (N,).

    Parameters
    ----------
    rng : Generator
    mg_fe, fe_h : ndarray, shape (N,)
    age : ndarray, shape (N,)
        Gyr.
    scatter : float
        Times the intrinsic scatter of `TRENDS`.

    Notes
    -----
    Lithium is not among them: see `lithium`.
    """
    young = 4.5 - np.clip(age, 0.0, 13.0)
    return {
        f"{symbol.lower()}_fe": trend.alpha * mg_fe
        + trend.slope * np.clip(fe_h, -1.5, 0.5)
        + trend.below * np.minimum(fe_h + 1.0, 0.0)
        + trend.youth * young
        + scatter * trend.scatter * rng.normal(size=fe_h.size)
        for symbol, trend in TRENDS.items()
    }


def metals(fe_h: NDArray, alpha_fe: NDArray) -> NDArray:
    """Return [M/H] of iron and alpha elements (Salaris, Chieffi & Straniero 1993, ApJ 414, 580)."""
    return fe_h + np.log10(0.638 * 10**alpha_fe + 0.362)


def dredge_up(
    c_fe: NDArray, n_fe: NDArray, mass: NDArray, fe_h: NDArray, logg: NDArray, giant: NDArray
) -> tuple[NDArray, NDArray]:
    """Return [C/Fe] and [N/Fe] of stars after what they mixed up from inside.

    Parameters
    ----------
    c_fe, n_fe : ndarray, shape (N,)
        At birth.
    mass : ndarray, shape (N,)
        Solar masses.
    fe_h, logg : ndarray, shape (N,)
    giant : ndarray of bool, shape (N,)
        On the giant branch or in the clump; others keep what they were born with.

    Notes
    -----
    The CN cycle turns C into N: their number together is kept. The first dredge-up takes place
    between log g 3.8 and 3.3; beyond the bump (log g 2.3) metal-poor giants mix further (Shetrone
    et al. 2019, ApJ 872, 137).
    """
    depth = np.where(giant, np.clip((3.8 - logg) / 0.5, 0.0, 1.0), 0.0)
    change = np.interp(np.log(mass), np.log(DREDGED_MASS), DREDGED) * depth
    extra = np.clip((2.3 - logg) / 1.3, 0.0, 1.0) * np.clip(-(fe_h + 0.4), 0.0, 1.2)
    change = change - np.where(giant, 0.5 * extra, 0.0)
    carbon, nitrogen = SUN_CARBON * 10**c_fe, SUN_NITROGEN * 10**n_fe
    ratio = carbon / nitrogen * 10**change
    total = carbon + nitrogen
    carbon, nitrogen = total * ratio / (1 + ratio), total / (1 + ratio)
    return np.log10(carbon / SUN_CARBON), np.log10(nitrogen / SUN_NITROGEN)


def lithium(
    rng: np.random.Generator,
    teff: NDArray,
    logg: NDArray,
    fe_h: NDArray,
    age: NDArray,
    giant: NDArray,
    scatter: float = 1.0,
) -> NDArray:
    """Return [Li/Fe], shape (N,).

    Notes
    -----
    Hot dwarfs keep 3.2 (less iron: 2.2, the plateau of Spite & Spite 1982, A&A 115, 357), but for
    the dip at 6650 K (Boesgaard & Tripicco 1986, ApJ 302, L49); cooler ones burn it with age, to
    the Sun's 1.05 at its age (Carlos et al. 2019, MNRAS 485, 4052). Giants dilute it by 1.5 dex and
    burn the rest above the bump; one in a hundred is rich in it (Deepak & Reddy 2019, MNRAS 484,
    2000). The rank of a star in the scatter is kept in its life, so that twins agree.
    """
    luck = rng.normal(size=teff.size)
    rich = rng.random(teff.size) < 0.01
    start = np.interp(fe_h, [-1.2, -0.6, 0.0, 0.5], [2.2, 2.4, 3.2, 3.3])
    burnt = np.interp(teff, [4600.0, 5200.0, 5772.0, 6100.0, 6350.0], [4.5, 3.2, 2.15, 0.7, 0.2])
    burnt = burnt * np.clip(age / 4.57, 0.02, 2.2) ** 0.45
    burnt = np.where(fe_h < -1.0, np.interp(teff, [5000.0, 5700.0], [1.5, 0.0]), burnt)
    dip = 1.6 * np.exp(-0.5 * ((teff - 6650.0) / 90.0) ** 2) * np.clip(age - 0.2, 0.0, 1.0)
    dwarf = start - burnt - np.where(fe_h > -1.0, dip, 0.0)
    evolved = start - 1.5 - 1.3 * np.clip((2.6 - logg) / 0.8, 0.0, 1.0)
    evolved = evolved - 0.8 * np.clip((5000.0 - teff) / 500.0, 0.0, 1.0)
    evolved = np.where(rich, 2.0 + 0.5 * luck, evolved + 0.15 * scatter * luck)
    absolute = np.where(giant, evolved, dwarf + 0.15 * scatter * luck)
    return np.clip(absolute, -0.8, 3.6) - SUN_LITHIUM - fe_h
