"""What the surveys' pipelines say of stars: labels on each survey's own scale.

A pipeline's label is the truth, bent by trends with temperature, gravity and metallicity that are
its own, plus an error that grows as the S/N falls, plus now and then a gross mistake; its stated
error is not quite the true one, and it leaves some labels out. The sizes are those that comparisons
of surveys with each other and with standards have found; each pipeline's sources are with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from astropy.table import Table
from numpy.typing import ArrayLike, NDArray

from spectrolabe.errors import InputError, unknown_name

__all__ = ["PIPELINES", "Pipeline", "Scale", "survey_labels"]

PIVOT = {"teff": 5500.0, "logg": 3.5, "fe_h": -0.2}


@dataclass(frozen=True)
class Scale:
    """How a pipeline's label differs from the truth.

    The bias is ``zero + hot * (teff - 5500) / 1000 + high * (logg - 3.5) + rich * (fe_h + 0.2) +
    bend * ((teff - 5500) / 1000)^2 + giant * (logg < 3.5)``, in the label's unit.

    Parameters
    ----------
    zero, hot, high, rich, bend, giant : float
    floor : float
        Standard deviation of the error at infinite S/N.
    noise : float
        Standard deviation of the error that S/N 50 a pixel adds to that; it goes as 1 / SNR.
    """

    zero: float = 0.0
    hot: float = 0.0
    high: float = 0.0
    rich: float = 0.0
    bend: float = 0.0
    giant: float = 0.0
    floor: float = 0.0
    noise: float = 0.0


@dataclass(frozen=True)
class Pipeline:
    """One survey's pipeline.

    Parameters
    ----------
    survey : str
        Name as in `spectrolabe.surveys`.
    scales : mapping of str to Scale
        By label name; other labels are not measured.
    stated : float
        Median ratio of the stated error to the true one.
    gross : float
        Fraction of stars with a gross mistake.
    faintest : float
        S/N at which half of the stars get no parameters at all.
    weak : mapping of str to float
        How weak the lines of an element are: the label is missing for half of the stars when
        ``snr * 10^(fe_h + x_fe) * exp((5500 - teff) / 800)`` falls to this number. Labels not
        named are never missing alone.
    noisy, hot, cool, rotating, metal_poor, mistaken : str
        Names of the survey's own flags for S/N below twice ``faintest``, Teff above 7000 K, below
        4400 K, v sin i above 20 km/s, [Fe/H] below -1.8, and for half of the gross mistakes; empty
        where there is none.
    """

    survey: str
    scales: Mapping[str, Scale]
    stated: float = 1.0
    gross: float = 0.005
    faintest: float = 5.0
    weak: Mapping[str, float] = field(default_factory=dict)
    noisy: str = ""
    hot: str = ""
    cool: str = ""
    rotating: str = ""
    metal_poor: str = ""
    mistaken: str = ""


def _elements(
    names: str, floor: float, noise: float, **offsets: tuple[float, float, float]
) -> dict[str, Scale]:
    """Scales of several elements: the same scatter, and (zero, hot, rich) of some."""
    found = {}
    for i, name in enumerate(names.split()):
        # every element has a small zero point and a small trend with temperature of its own
        zero, hot, rich = offsets.get(
            name, (0.03 * np.sin(2.3 * i + 1), 0.03 * np.sin(1.7 * i), 0.02 * np.sin(3.1 * i + 2))
        )
        found[f"{name}_fe"] = Scale(zero=zero, hot=hot, rich=rich, floor=floor, noise=noise)
    return found


def _weak(names: str, limit: float) -> dict[str, float]:
    return {f"{name}_fe": limit for name in names.split()}


APOGEE = Pipeline(
    # Jonsson et al. (2020, AJ 160, 120), Holtzman et al. (2018, AJ 156, 125), Nidever et al. (2020,
    # ApJ 895, 88): calibrated temperatures and gravities, 2 per cent; stated errors too small
    "apogee",
    {
        "teff": Scale(zero=-5.0, hot=15.0, rich=-20.0, floor=12.0, noise=20.0),
        "logg": Scale(zero=0.01, high=-0.015, rich=0.02, giant=0.01, floor=0.025, noise=0.04),
        "fe_h": Scale(zero=0.0, hot=-0.02, high=0.01, floor=0.01, noise=0.02),
        "m_h": Scale(zero=0.0, hot=-0.02, high=0.01, floor=0.008, noise=0.015),
        "alpha_m": Scale(zero=0.005, hot=0.02, floor=0.008, noise=0.012),
        "v_micro": Scale(zero=-0.1, high=-0.15, floor=0.08, noise=0.08),
        "v_broad": Scale(zero=0.3, floor=0.4, noise=0.5),
        **_elements("o mg si ca ni mn c n al k", 0.015, 0.03, n=(0.04, -0.05, 0.03)),
        **_elements("na p s ti v cr co cu ce", 0.04, 0.08, ti=(-0.05, -0.10, 0.05)),
    },
    stated=0.6,
    gross=0.005,
    faintest=8.0,
    weak=_weak("n o na al k", 3.0) | _weak("p v co cu ce na", 12.0),
    noisy="SN_WARN",
    rotating="ROTATION_WARN",
    mistaken="STAR_BAD",
)
GALAH = Pipeline(
    # Buder et al. (2021, MNRAS 506, 150; 2025, PASA 42, e051): 49 K, 0.07 and 0.06 dex at S/N 40
    "galah",
    {
        "teff": Scale(zero=-20.0, hot=-25.0, rich=30.0, floor=35.0, noise=30.0),
        "logg": Scale(zero=0.0, high=0.02, giant=-0.05, floor=0.06, noise=0.05),
        "fe_h": Scale(zero=0.02, hot=0.03, rich=-0.03, floor=0.035, noise=0.03),
        "v_micro": Scale(zero=0.05, floor=0.10, noise=0.05),
        "v_broad": Scale(zero=0.5, floor=0.6, noise=0.7),
        **_elements("o na mg si ca ti cr mn ni sc zn", 0.04, 0.05, o=(0.05, 0.12, 0.0)),
        **_elements("li al k v co cu y ba c n", 0.06, 0.08, ba=(0.08, 0.10, 0.0)),
        **_elements("sr zr la ce nd sm eu", 0.08, 0.12),
    },
    stated=1.3,
    gross=0.01,
    faintest=8.0,
    weak=_weak("al k v co cu y", 5.0) | _weak("zr la ce nd c n", 15.0) | _weak("sr sm eu", 30.0),
    noisy="LOW_SNR",
    hot="TEFF",
    rotating="VSINI",
    metal_poor="IRON",
    mistaken="HIGH_CHI2",
)
DESI = Pipeline(
    # Cooper et al. (2023, ApJ 947, 37), Koposov et al. (2024, MNRAS 533, 1012): RVSpecFit and FERRE
    "desi",
    {
        "teff": Scale(zero=40.0, hot=40.0, bend=-15.0, floor=55.0, noise=40.0),
        "logg": Scale(zero=0.05, high=-0.06, hot=0.08, floor=0.10, noise=0.10),
        "fe_h": Scale(zero=-0.06, hot=0.04, rich=0.06, floor=0.06, noise=0.06),
        "alpha_fe": Scale(zero=0.04, rich=-0.03, floor=0.05, noise=0.05),
        "v_broad": Scale(zero=4.0, floor=6.0, noise=6.0),
        **_elements("ca c mg si na cr ni al ti", 0.08, 0.12),
    },
    stated=0.4,
    gross=0.02,
    faintest=3.0,
    weak=_weak("c si na cr ni al ti", 2.0),
    noisy="RVERR",
    mistaken="CHI2",
)
GAIA_RVS = Pipeline(
    # Recio-Blanco et al. (2023, A&A 674, A29): log g of giants too low by 0.3, polynomials needed
    "gaia_rvs",
    {
        "teff": Scale(zero=-12.0, hot=20.0, floor=30.0, noise=60.0),
        "logg": Scale(zero=-0.15, high=0.08, giant=-0.12, floor=0.06, noise=0.14),
        "m_h": Scale(zero=-0.02, high=0.05, rich=-0.03, floor=0.03, noise=0.06),
        "fe_h": Scale(zero=-0.01, high=0.05, rich=-0.03, floor=0.04, noise=0.07),
        "alpha_fe": Scale(zero=0.02, high=-0.03, floor=0.03, noise=0.05),
        **_elements("mg si ca ti s ni cr", 0.05, 0.10),
        **_elements("n zr ce nd", 0.10, 0.15),
    },
    stated=0.8,
    gross=0.01,
    faintest=12.0,
    weak=_weak("mg si ti s ni cr", 20.0) | _weak("n zr ce nd", 60.0),
    noisy="fluxNoise",
    hot="extrapol",
    cool="KMgiantPar",
    rotating="vbroadT",
    mistaken="vradM",
)
LAMOST = Pipeline(
    # Luo et al. (2015, RAA 15, 1095), Anguiano et al. (2018, A&A 620, A76), Wang et al. (2022, ApJS
    # 259, 51): LASP against APOGEE; formal errors a fraction of the scatter; wrong for A stars
    "lamost_lrs",
    {
        "teff": Scale(zero=-30.0, hot=-45.0, rich=40.0, bend=20.0, floor=45.0, noise=35.0),
        "logg": Scale(zero=0.03, high=0.05, hot=-0.04, giant=0.08, floor=0.06, noise=0.08),
        "fe_h": Scale(zero=-0.03, hot=0.05, rich=-0.06, floor=0.04, noise=0.05),
        "alpha_m": Scale(zero=0.02, hot=0.04, floor=0.04, noise=0.05),
    },
    stated=0.55,
    gross=0.03,
    faintest=8.0,
    weak={"alpha_m": 6.0},
)
SDSS_BOSS = Pipeline(
    # Lee et al. (2008, AJ 136, 2022; 2011, AJ 141, 90), Allende Prieto et al. (2008, AJ 136, 2070):
    # the SEGUE pipeline, 130 to 180 K, 0.21 to 0.29 and 0.11 to 0.24 dex
    "sdss_boss",
    {
        "teff": Scale(zero=60.0, hot=35.0, rich=30.0, floor=90.0, noise=50.0),
        "logg": Scale(zero=0.05, high=-0.12, floor=0.16, noise=0.10),
        "fe_h": Scale(zero=-0.04, rich=-0.08, hot=0.05, floor=0.09, noise=0.06),
        "alpha_fe": Scale(zero=0.03, rich=-0.05, floor=0.06, noise=0.06),
    },
    stated=0.5,
    gross=0.02,
    faintest=8.0,
    weak={"alpha_fe": 6.0},
    noisy="H",
    hot="D",
    cool="d",
    mistaken="C",
)
PIPELINES: dict[str, Pipeline] = {
    one.survey: one for one in (APOGEE, GALAH, DESI, GAIA_RVS, LAMOST, SDSS_BOSS)
}
"""The pipelines of the synthetic sky by the name of their survey."""

GROSS = {"teff": 600.0, "logg": 0.8, "fe_h": 0.5, "m_h": 0.5}
GROSS_OTHER = 0.3


def survey_labels(survey: str, truth: Table, snr: ArrayLike, rng: np.random.Generator) -> Table:
    """Return what the pipeline of a survey says of stars.

    Parameters
    ----------
    survey : str
    truth : Table
        N rows of the population.
    snr : array_like, shape (N,)
        S/N a pixel of each star's spectra together.
    rng : Generator

    Returns
    -------
    Table
        N rows in the same order. Registry labels of `Pipeline.scales`, ``<label>_err`` with the
        stated error of each, NaN both where there is no value; ``flags``, names of the survey's
        own flags with spaces between.

    Raises
    ------
    InputError
        If there is no such pipeline, the S/N is of another length, or the truth lacks a label.
    """
    if survey not in PIPELINES:
        raise unknown_name("survey", survey, PIPELINES, kind="survey of the synthetic sky")
    pipeline, count = PIPELINES[survey], len(truth)
    ratio = np.asarray(snr, dtype=float)
    if ratio.shape != (count,):
        raise InputError("snr", expected=f"shape ({count},)", found=f"shape {ratio.shape}")
    for name in (*PIVOT, *pipeline.scales):
        if name not in truth.colnames:
            raise InputError("truth", expected=f"a column {name}", found=f"{truth.colnames[:8]}...")
    ratio = np.maximum(np.nan_to_num(ratio), 0.1)
    gross = rng.random(count) < pipeline.gross * (1 + 10.0 / ratio)
    size = rng.normal(size=count)  # a star whose temperature is wrong has wrong abundances as well
    failed = _logistic(pipeline.faintest / ratio, rng)
    # errors of labels go together: hotter, higher gravity, more metals
    shared = rng.normal(size=count)
    columns: dict[str, NDArray] = {}
    for name, scale in pipeline.scales.items():
        true = np.asarray(truth[name], dtype=float)
        sigma = _sigma(scale, truth, ratio)
        mixed = 0.6 if name in ("teff", "logg", "fe_h", "m_h") else 0.3
        error = sigma * (mixed * shared + np.sqrt(1 - mixed**2) * rng.normal(size=count))
        measured = true + _bias(scale, truth) + error
        measured = measured + np.where(gross, size * GROSS.get(name, GROSS_OTHER), 0.0)
        if name in ("v_broad", "v_micro"):
            measured = np.maximum(measured, 0.05)
        stated = pipeline.stated * sigma * rng.lognormal(0.0, 0.2, count)
        missing = failed | ~np.isfinite(true)
        if name in pipeline.weak:
            missing = missing | _undetected(truth, name, ratio, pipeline.weak[name], rng)
        columns[name] = np.where(missing, np.nan, measured)
        columns[f"{name}_err"] = np.where(missing, np.nan, stated)
    columns["flags"] = _flags(pipeline, truth, ratio, gross, rng)
    return Table(columns)


def _bias(scale: Scale, truth: Table) -> NDArray:
    hot, high, rich = (np.asarray(truth[n], dtype=float) - PIVOT[n] for n in PIVOT)
    hot = hot / 1000.0
    giant = np.asarray(truth["logg"], dtype=float) < PIVOT["logg"]
    return (
        scale.zero
        + scale.hot * hot
        + scale.high * high
        + scale.rich * rich
        + scale.bend * hot**2
        + scale.giant * giant
    )


def _sigma(scale: Scale, truth: Table, snr: NDArray) -> NDArray:
    """True standard deviation: larger for stars with few and broad lines."""
    metals = 10 ** (-0.25 * np.clip(np.asarray(truth["fe_h"], dtype=float), -2.5, 0.5))
    heat = np.exp(np.clip((np.asarray(truth["teff"], dtype=float) - 6000.0) / 1500.0, 0.0, 1.5))
    broad = np.sqrt(1 + (np.asarray(truth["v_broad"], dtype=float) / 40.0) ** 2)
    return np.hypot(scale.floor, scale.noise * 50.0 / snr * metals * heat * broad)


def _logistic(x: NDArray, rng: np.random.Generator) -> NDArray:
    """True with a probability that is one half at x = 1 and rises as its fourth power."""
    return rng.random(x.size) < x**4 / (1 + x**4)


def _undetected(
    truth: Table, label: str, snr: NDArray, limit: float, rng: np.random.Generator
) -> NDArray:
    teff, fe_h, x_fe = (np.asarray(truth[n], dtype=float) for n in ("teff", "fe_h", label))
    strength = snr * 10 ** (fe_h + np.nan_to_num(x_fe)) * np.exp((5500.0 - teff) / 800.0)
    return _logistic(limit / np.maximum(strength, 1e-3), rng)


def _flags(
    pipeline: Pipeline, truth: Table, snr: NDArray, gross: NDArray, rng: np.random.Generator
) -> NDArray:
    teff, fe_h = (np.asarray(truth[n], dtype=float) for n in ("teff", "fe_h"))
    vsini = np.asarray(truth["vsini" if "vsini" in truth.colnames else "v_broad"], dtype=float)
    raised = {
        pipeline.noisy: snr < 2 * pipeline.faintest,
        pipeline.hot: teff > 7000.0,
        pipeline.cool: teff < 4400.0,
        pipeline.rotating: vsini > 20.0,
        pipeline.metal_poor: fe_h < -1.8,
        pipeline.mistaken: gross & (rng.random(len(truth)) < 0.5),
    }
    names = [[name for name, on in raised.items() if name and on[i]] for i in range(len(truth))]
    return np.array([" ".join(found) for found in names], dtype=str)
