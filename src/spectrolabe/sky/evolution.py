"""From mass, age and metallicity to temperature, gravity and luminosity: compact relations.

The zero-age main sequence is that of Tout et al. (1996, MNRAS 281, 257), lifetimes are those of
Hurley, Pols & Tout (2000, MNRAS 315, 543, HPT). In between and beyond, simple laws are scaled so
that the Sun is the Sun at its age, dwarfs leave the main sequence as evolutionary tracks do, and
giants lie where APOGEE sees them (Holtzman et al. 2018, AJ 156, 125). Good to a few per cent in
temperature and 0.1 dex in luminosity: enough for a sky in which ages and masses mean something.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "SOLAR_AGE",
    "SOLAR_LOGG",
    "SOLAR_TEFF",
    "STAGES",
    "Stars",
    "evolve",
    "giant_mass",
    "giant_time",
    "kroupa_mass",
    "lifetime",
]

SOLAR_TEFF = 5772.0  # K (IAU 2015 resolution B3)
SOLAR_LOGG = 4.438
SOLAR_AGE = 4.57  # Gyr
STAGES = ("main sequence", "subgiant", "red giant branch", "red clump", "dead")
"""Names of the numbers in `Stars.stage`."""

# Tout et al. (1996), tables 1 and 2: coefficients of powers of log10(Z / 0.02)
LUMINOSITY = np.array([
    [0.39704170, -0.32913574, 0.34776688, 0.37470851, 0.09011915],
    [8.52762600, -24.41225973, 56.43597107, 37.06152575, 5.45624060],
    [0.00025546, -0.00123461, -0.00023246, 0.00045519, 0.00016176],
    [5.43288900, -8.62157806, 13.44202049, 14.51584135, 3.39793084],
    [5.56357900, -10.32345224, 19.44322980, 18.97361347, 4.16903097],
    [0.78866060, -2.90870942, 6.54713531, 4.05606657, 0.53287322],
    [0.00586685, -0.01704237, 0.03872348, 0.02570041, 0.00383376],
])  # fmt: skip
RADIUS = np.array([
    [1.71535900, 0.62246212, -0.92557761, -1.16996966, -0.30631491],
    [6.59778800, -0.42450044, -12.13339427, -10.73509484, -2.51487077],
    [10.08855000, -7.11727086, -31.67119479, -24.24848322, -5.33608972],
    [1.01249500, 0.32699690, -0.00923418, -0.03876858, -0.00412750],
    [0.07490166, 0.02410413, 0.07233664, 0.03040467, 0.00197741],
    [0.01077422, 0.0, 0.0, 0.0, 0.0],
    [3.08223400, 0.94472050, -2.15200882, -2.49219496, -0.63848738],
    [17.84778000, -7.45345690, -48.96066856, -40.05386135, -9.09331816],
    [0.00022582, -0.00186899, 0.00388783, 0.00142402, -0.00007671],
])  # fmt: skip
# HPT eq. 4 and appendix: time to the base of the giant branch
TIME = np.array([
    [1593.890, 2053.038, 1231.226, 232.7785],
    [2706.708, 1483.131, 577.2723, 74.11230],
    [146.6143, -104.8442, -67.95374, -13.91127],
    [0.04141960, 0.04564888, 0.02958542, 0.005571483],
    [0.3426349, 0.0, 0.0, 0.0],
])  # fmt: skip
METALS = (-2.3, 0.18)  # log10(Z / 0.02) that the fits hold for
# growth of log L and log R over the main sequence, by mass
MASSES = np.array([0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 4.0])
BRIGHTER = np.array([0.38, 0.45, 0.48, 0.27, 0.24, 0.23, 0.25])
LARGER = np.array([0.15, 0.20, 0.241, 0.20, 0.22, 0.25, 0.28])
# the giant branch of 1.1 solar masses and solar metallicity, and the clump beside it
GIANT_LOGG = np.array([-0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0])
GIANT_TEFF = np.array([
    3200.0, 3450.0, 3690.0, 3920.0, 4160.0, 4400.0, 4630.0, 4820.0, 4960.0, 5060.0
])  # fmt: skip


@dataclass(frozen=True, eq=False)
class Stars:
    """What N stars are; arrays of shape (N,).

    ``teff`` in K, ``logg`` in dex, ``luminosity`` and ``radius`` in solar units, ``stage`` an index
    of `STAGES`; all NaN and the last stage where a star is no more.
    """

    teff: NDArray
    logg: NDArray
    luminosity: NDArray
    radius: NDArray
    stage: NDArray


def kroupa_mass(
    rng: np.random.Generator, count: int, low: float = 0.08, high: float = 8.0
) -> NDArray:
    """Draw masses of the initial mass function of Kroupa (2001, MNRAS 322, 231), solar masses.

    dN/dM goes as M^-1.3 below 0.5 solar masses and as M^-2.3 above; shape (count,).
    """
    edges = np.array([min(max(low, 0.08), 0.5), 0.5, max(high, 0.5)])
    pieces = []
    for slope, scale, first, last in (
        (-1.3, 1.0, edges[0], min(0.5, high)),
        (-2.3, 0.5, max(0.5, low), edges[2]),
    ):
        a, b = first ** (slope + 1), max(last, first) ** (slope + 1)
        pieces.append((slope, a, b, scale * (b - a) / (slope + 1)))
    weight = np.array([piece[3] for piece in pieces])
    which = rng.random(count) < weight[0] / weight.sum()
    u = rng.random(count)
    below, above = ((a + u * (b - a)) ** (1 / (slope + 1)) for slope, a, b, _ in pieces)
    return np.where(which, below, above)


def _zams(mass: NDArray, metals: NDArray) -> tuple[NDArray, NDArray]:
    """Luminosity and radius on the zero-age main sequence, solar units."""
    powers = metals ** np.arange(5)[:, None]
    a, m = LUMINOSITY @ powers, mass
    above = a[0] * m**5.5 + a[1] * m**11
    below = a[2] + m**3 + a[3] * m**5 + a[4] * m**7 + a[5] * m**8 + a[6] * m**9.5
    r = RADIUS @ powers
    over = r[0] * m**2.5 + r[1] * m**6.5 + r[2] * m**11 + r[3] * m**19 + r[4] * m**19.5
    under = r[5] + r[6] * m**2 + r[7] * m**8.5 + m**18.5 + r[8] * m**19.5
    return above / below, over / under


def lifetime(mass: ArrayLike, m_h: ArrayLike) -> NDArray:
    """Return the time to the base of the giant branch in Gyr (HPT, eq. 4).

    Parameters
    ----------
    mass : array_like, shape (N,)
        Solar masses.
    m_h : array_like, shape (N,)
        [M/H], solar = Z of 0.02 in these fits; held at the ends of -2.3 to 0.18.
    """
    m, metals = np.broadcast_arrays(np.asarray(mass, float), np.asarray(m_h, float))
    return _to_giant(m, _time_terms(metals))


def _time_terms(m_h: NDArray) -> NDArray:
    powers = np.clip(m_h, *METALS)[None] ** np.arange(4).reshape(-1, *[1] * np.ndim(m_h))
    return np.asarray(np.tensordot(TIME, powers, axes=1))


def _to_giant(m: NDArray, a: NDArray) -> NDArray:
    time = (a[0] + a[1] * m**4 + a[2] * m**5.5 + m**7) / (a[3] * m**2 + a[4] * m**7)
    return np.asarray(time / 1000.0)


def _shares(mass: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """Main sequence, giant branch and clump as shares of the time to the giant branch."""
    main = np.interp(mass, [1.1, 1.6], [0.93, 0.985])
    branch = np.interp(mass, [1.6, 2.0, 2.5], [0.055, 0.02, 0.008])
    clump = np.interp(mass, [0.8, 1.0, 1.5, 1.9, 2.1, 3.0], [0.005, 0.009, 0.035, 0.09, 0.25, 0.4])
    return main, branch, clump


def giant_mass(age: NDArray, m_h: NDArray, share: NDArray) -> NDArray:
    """Return the mass of a star that is a given share of the way through its life as a giant.

    Parameters
    ----------
    age : ndarray, shape (N,)
        Gyr.
    m_h : ndarray, shape (N,)
    share : ndarray, shape (N,)
        0 at the base of the giant branch, 1 at the end of the clump.

    Returns
    -------
    ndarray, shape (N,)
        Solar masses, 0.5 to 6.
    """
    low, high = np.full(age.shape, 0.5), np.full(age.shape, 6.0)
    terms = _time_terms(m_h)
    for _ in range(28):  # to 2e-8 of a solar mass
        middle = (low + high) / 2
        _, branch, clump = _shares(middle)
        early = _to_giant(middle, terms) * (1 + share * (branch + clump)) > age
        low, high = np.where(early, middle, low), np.where(early, high, middle)
    return (low + high) / 2


def giant_time(mass: NDArray, m_h: NDArray) -> NDArray:
    """Return how long a star is a giant, in Gyr, shape (N,)."""
    _, branch, clump = _shares(mass)
    return lifetime(mass, m_h) * (branch + clump)


def _giant_teff(logg: NDArray, mass: NDArray, m_h: NDArray) -> NDArray:
    """Temperature on the giant branch: hotter with mass, and with fewer metals."""
    solar = np.interp(logg, GIANT_LOGG, GIANT_TEFF)
    return solar * 10 ** (0.06 * np.log10(mass / 1.1) - 0.038 * m_h - 0.006 * m_h**2)


def _settled(
    luminosity: NDArray, mass: NDArray, m_h: NDArray, hotter: NDArray | float = 0.0
) -> tuple[NDArray, NDArray]:
    """Temperature and gravity of giants of a luminosity."""
    logg = np.full(mass.shape, 2.5)
    for _ in range(12):
        teff = _giant_teff(logg, mass, m_h) + hotter
        logg = SOLAR_LOGG + np.log10(mass / luminosity) + 4 * np.log10(teff / SOLAR_TEFF)
    return _giant_teff(logg, mass, m_h) + hotter, logg


def evolve(mass: ArrayLike, age: ArrayLike, m_h: ArrayLike) -> Stars:
    """Return what stars of a mass, age and metallicity are.

    Parameters
    ----------
    mass : array_like, shape (N,)
        Solar masses, 0.4 to 6.
    age : array_like, shape (N,)
        Gyr.
    m_h : array_like, shape (N,)
        [M/H].

    Notes
    -----
    On the giant branch the number of stars in an interval of log L goes as L^(-5/6): the core
    grows by what the shell burns, and L as the sixth power of its mass.
    """
    m, t, metals = (
        np.array(x, dtype=float) for x in np.broadcast_arrays(mass, age, np.asarray(m_h, float))
    )
    metals = np.clip(metals, -2.6, 0.6)
    base = lifetime(m, metals)
    main, branch, clump = _shares(m)
    phase = t / base
    first_light, first_radius = _zams(m, np.clip(metals, *METALS))

    # the main sequence: a linear and a quadratic term, with the linear one that the Sun needs
    tau = np.clip(phase / main, 0.0, 1.0)
    log_light = np.log10(first_light) + _rise(tau, np.interp(m, MASSES, BRIGHTER), 0.63)
    log_radius = np.log10(first_radius) + _rise(tau, np.interp(m, MASSES, LARGER), 0.16)
    log_teff = np.log10(SOLAR_TEFF) + log_light / 4 - log_radius / 2

    # subgiants: a straight way to the base of the giant branch
    base_light = 2.6 * m**3 * 10 ** (-0.15 * np.clip(metals, -1.5, 0.4))
    base_teff, _ = _settled(base_light, m, metals)
    way = np.clip((phase - main) / (1 - main), 0.0, 1.0)
    log_light = log_light + way * (np.log10(base_light) - log_light)
    log_teff = log_teff + way**1.5 * (np.log10(base_teff) - log_teff)

    # giants
    tip = 10 ** np.interp(m, [1.9, 2.2, 3.0], [3.35, 2.5, 2.4])
    ratio = np.minimum(base_light / tip, 0.9) ** (5 / 6)
    climb = np.clip((phase - 1) / branch, 0.0, 1.0)
    climbing = base_light * (1 - climb * (1 - ratio)) ** (-6 / 5)
    burnt = np.clip((phase - 1 - branch) / clump, 0.0, 1.0)
    core = 10 ** (np.interp(m, [1.8, 2.1, 3.0], [1.69, 1.58, 1.95]) + 0.12 * (burnt - 0.4) ** 2)
    giant, helium = phase > 1, phase > 1 + branch
    branch_teff, _ = _settled(climbing, m, metals)
    core_teff, _ = _settled(core, m, metals, np.interp(m, [1.5, 2.0], [120.0, 40.0]))
    light = np.where(helium, core, np.where(giant, climbing, 10**log_light))
    teff = np.where(helium, core_teff, np.where(giant, branch_teff, 10**log_teff))

    stage = (phase > main).astype(int) + giant + helium + (phase > 1 + branch + clump)
    gone = stage == len(STAGES) - 1
    light, teff = np.where(gone, np.nan, light), np.where(gone, np.nan, teff)
    logg = SOLAR_LOGG + np.log10(m / light) + 4 * np.log10(teff / SOLAR_TEFF)
    radius = np.sqrt(light) * (SOLAR_TEFF / teff) ** 2
    return Stars(teff, logg, light, radius, stage)


def _rise(tau: NDArray, total: NDArray, linear: float) -> NDArray:
    return total * (linear * tau + (1 - linear) * tau**2)
