"""Labels for a grid: stars that may exist, evenly spread over what they may be.

Points that fill the unit cube (scrambled Sobol or Latin hypercube) are mapped through the priors
below, so that every label has its prior and no part of it is left empty. The priors are wide on
purpose: a grid must hold the stars of every survey, not resemble one of them.
"""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm, qmc

from spectrolabe.config import StarsConfig
from spectrolabe.errors import InputError, unknown_name
from spectrolabe.labels import ELEMENTS, Labels

__all__ = ["ABUNDANCES", "WIDTHS", "sample_labels", "v_micro_relation"]

ABUNDANCES: tuple[str, ...] = tuple(f"{x.lower()}_fe" for x in ELEMENTS if x != "P")
"""The thirty [X/Fe] of a grid."""

WIDTHS: dict[str, float] = {
    **dict.fromkeys(ABUNDANCES, 0.2),
    **dict.fromkeys(("c_fe", "na_fe", "al_fe", "mn_fe"), 0.25),
    **dict.fromkeys(("sr_fe", "y_fe", "zr_fe", "ba_fe", "la_fe", "ce_fe"), 0.35),
    **dict.fromkeys(("pr_fe", "nd_fe", "sm_fe", "eu_fe"), 0.3),
    "n_fe": 0.35,
    "li_fe": 0.75,
}
"""Standard deviation of each [X/Fe] about its mean, dex: about twice what is seen in the disc."""

MOST_SIGMA = 2.5  # the wings of every normal distribution are cut here
ALPHA = ("o_fe", "mg_fe", "si_fe", "s_fe", "ca_fe", "ti_fe")
# mean [alpha/Fe] of both discs and the halo (Bensby et al. 2014, A&A 562, A71; Hayden et al. 2015,
# ApJ 808, 132): a plateau below [Fe/H] = -1, then a fall to the solar value
ALPHA_TREND = ((-2.5, -1.0, 0.0, 0.5), (0.40, 0.35, 0.05, 0.0))
# the first dredge-up brings N to the surface at the cost of C (Iben 1965, ApJ 142, 1447)
DREDGED = {"c_fe": -0.15, "n_fe": 0.25}
# no carbon stars: where C/O exceeds 1 all oxygen is in CO and other molecules take over (Russell
# 1934, ApJ 79, 317), another kind of spectrum; [C/O] of 0.15 is C/O = 0.76
MOST_CARBON = 0.15
# A(Li) = 0 to 3.3: from depleted giants to young stars; 2.2 on the plateau of old dwarfs
MEAN_LITHIUM, SOLAR_LITHIUM = 1.65, 1.05
# relative number of stars wanted at each [Fe/H]: the discs dense, the halo thin
METALLICITY = ((-2.5, -1.0, -0.6, 0.3, 0.5), (0.3, 0.6, 1.0, 1.0, 0.6))

# the main sequence: log g between a star that has just arrived and one that leaves
ARRIVING = ((4250.0, 5000.0, 5800.0, 6500.0, 7500.0), (4.85, 4.75, 4.65, 4.55, 4.45))
LEAVING = (
    (4250.0, 4700.0, 5000.0, 5200.0, 5600.0, 6500.0, 7500.0),
    (4.40, 4.30, 4.05, 3.60, 3.50, 3.50, 3.40),
)
# the giant branch at solar metallicity, about that of PARSEC (Bressan et al. 2012, MNRAS 427, 127)
BRANCH = (
    (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 3.9),
    (3800.0, 4000.0, 4200.0, 4450.0, 4700.0, 4870.0, 5000.0, 5200.0),
)
BRANCH_SLOPE = -230.0  # K per dex of [Fe/H]: metal-poor giants are hotter
BRANCH_WIDTH = 250.0  # K: ages, masses, the clump and asymptotic branch beside it
HIGHEST_GIANT = 3.9  # log g above which a star is taken from the main sequence


def sample_labels(config: StarsConfig) -> Labels:
    """Return the labels of the stars of a grid.

    Parameters
    ----------
    config : StarsConfig
        Number, seed, ranges and widths.

    Returns
    -------
    Labels
        ``teff``, ``logg``, ``fe_h``, ``v_micro`` and `ABUNDANCES`; the same for the same
        configuration. [C/O] is below 0.15: what is drawn above is mirrored there.

    Raises
    ------
    InputError
        If a width is given for what is no [X/Fe], or the ranges leave no room for a star.
    """
    widths = {**WIDTHS, **config.widths}
    for name in widths:
        if name not in WIDTHS:
            raise unknown_name("stars.widths", name, WIDTHS, kind="abundance")
    unit = _points(config, 5 + len(ABUNDANCES))
    fe_h = _metallicity(unit[:, 0], *config.fe_h)
    giant = unit[:, 1] < config.giants
    teff, logg = _main_sequence(unit[:, 2], unit[:, 3], config)
    teff_giant, logg_giant = _giant_branch(unit[:, 2], unit[:, 3], fe_h, config)
    teff, logg = np.where(giant, teff_giant, teff), np.where(giant, logg_giant, logg)
    relation = v_micro_relation(teff, logg, fe_h)
    v_micro = _normal(unit[:, 4], relation, config.v_micro_scatter)
    columns = [teff, logg, fe_h, np.maximum(v_micro, 0.2)]
    for u, name in zip(unit[:, 5:].T, ABUNDANCES, strict=True):
        columns.append(_normal(u, _mean(name, fe_h, giant, config.alpha), widths[name]))
    values = np.stack(columns, axis=1)
    carbon, oxygen = (4 + ABUNDANCES.index(name) for name in ("c_fe", "o_fe"))
    values[:, carbon] -= 2 * np.maximum(values[:, carbon] - values[:, oxygen] - MOST_CARBON, 0.0)
    return Labels(
        ("teff", "logg", "fe_h", "v_micro", *ABUNDANCES),
        values,
        np.full(values.shape, np.nan),
        np.array([f"{star:06d}" for star in range(config.count)]),
    )


def v_micro_relation(teff: ArrayLike, logg: ArrayLike, fe_h: ArrayLike) -> NDArray:
    """Return the usual microturbulence of a star in km/s.

    The relation of the Gaia-ESO survey (M. Bergemann; given in full by Blanco-Cuaresma et al. 2014,
    A&A 569, A111), its jump between dwarfs and giants at log g = 3.5 made a slope 0.5 wide.

    Parameters
    ----------
    teff, logg, fe_h : array_like
        K, dex, dex; they broadcast.
    """
    teff, logg, fe_h = (np.asarray(a, float) for a in (teff, logg, fe_h))
    t_dwarf, t, g = np.maximum(teff, 5000.0) - 5500.0, teff - 5500.0, logg - 4.0
    common = -0.14 * g - 0.005 * g**2 + 0.05 * fe_h + 0.01 * fe_h**2
    dwarf = 1.05 + 2.51e-4 * t_dwarf + 1.5e-7 * t_dwarf**2
    giant = 1.25 + 4.01e-4 * t + 3.1e-7 * t**2
    part = np.clip((logg - 3.25) / 0.5, 0.0, 1.0)
    return common + part * dwarf + (1 - part) * giant


def _points(config: StarsConfig, dimensions: int) -> NDArray:
    """Points that fill the unit cube, shape (count, dimensions)."""
    if config.method == "sobol":
        engine: qmc.QMCEngine = qmc.Sobol(dimensions, seed=config.seed)
    else:
        engine = qmc.LatinHypercube(dimensions, seed=config.seed)
    with warnings.catch_warnings():  # any number of points fills space; powers of two best
        warnings.filterwarnings("ignore", message="The balance properties of Sobol")
        return np.asarray(engine.random(config.count))


def _normal(unit: NDArray, mean: ArrayLike, sigma: float) -> NDArray:
    low = norm.cdf(-MOST_SIGMA)
    return mean + sigma * norm.ppf(low + unit * (1 - 2 * low))


def _metallicity(unit: NDArray, low: float, high: float) -> NDArray:
    grid = np.linspace(low, high, 501)
    density = np.interp(grid, *METALLICITY)
    below = np.concatenate([[0.0], np.cumsum(0.5 * (density[1:] + density[:-1]))])
    return np.interp(unit, below / below[-1], grid)


def _main_sequence(along: NDArray, across: NDArray, config: StarsConfig) -> tuple[NDArray, NDArray]:
    teff = config.teff[0] + along * (config.teff[1] - config.teff[0])
    low = np.clip(np.interp(teff, *LEAVING), *config.logg)
    high = np.clip(np.interp(teff, *ARRIVING), *config.logg)
    if config.giants < 1 and not (high > low).all():
        raise InputError(
            "stars",
            expected="ranges of teff and logg with stars of the main sequence (log g 3.4 to 4.85)",
            found=f"logg {config.logg[0]:g} to {config.logg[1]:g}",
            fix="Widen the range, or set stars.giants = 1.",
        )
    return teff, low + across * (high - low)


def _giant_branch(
    along: NDArray, across: NDArray, fe_h: NDArray, config: StarsConfig
) -> tuple[NDArray, NDArray]:
    low, high = config.logg[0], min(config.logg[1], HIGHEST_GIANT)
    if config.giants > 0 and not low < high:
        raise InputError(
            "stars",
            expected=f"a range of logg with giants (below {HIGHEST_GIANT})",
            found=f"logg {config.logg[0]:g} to {config.logg[1]:g}",
            fix="Widen the range, or set stars.giants = 0.",
        )
    logg = low + along * (high - low)
    mean = np.interp(logg, *BRANCH) + BRANCH_SLOPE * fe_h
    edges = [norm.cdf((edge - mean) / BRANCH_WIDTH) for edge in config.teff]
    unit = edges[0] + across * (edges[1] - edges[0])
    teff = mean + BRANCH_WIDTH * norm.ppf(np.clip(unit, 1e-12, 1 - 1e-12))
    return np.clip(teff, *config.teff), logg


def _mean(name: str, fe_h: NDArray, giant: NDArray, alpha: bool) -> NDArray:
    if name == "li_fe":
        return np.where(giant, 0.5, 1.0) * MEAN_LITHIUM - SOLAR_LITHIUM - fe_h
    mean = np.where(giant, DREDGED.get(name, 0.0), 0.0)
    return mean + np.interp(fe_h, *ALPHA_TREND) if alpha and name in ALPHA else mean
