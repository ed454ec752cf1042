"""What is left of injected trends when anchors calibrate a simulated sky?

    python benchmarks/calibration.py [--output docs/results] [--seed 5]

Draws a population with open clusters and wide binaries, gives its stars labels bent by known
trends and with errors, fits calibrations to some of the groups and reference stars, and compares
with the truth on others and on the field. Writes the page ``calibration.md`` and its figures;
remarks between the markers of an older page are kept.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from pages import remarks, table, write_page
from spectrolabe.config.sky import BinariesConfig, ClustersConfig, PopulationConfig, SkyConfig
from spectrolabe.homogenise.anchors import Anchors
from spectrolabe.homogenise.basis import COVARIATES
from spectrolabe.homogenise.calibration import Calibration
from spectrolabe.homogenise.fitting import _Chosen, _matched, _true_points, fit_calibration
from spectrolabe.homogenise.joint import solve
from spectrolabe.labels import LABELS, Labels
from spectrolabe.sky.population import draw_population

FIELD, CLUSTERS, MEMBERS, BINARIES = 6000, 40, 30, 900
SCATTER = 0.02  # dex, of abundances within a group
GROSS = 0.01  # share of labels that are grossly wrong
NUMBERS = ((15, 1, 15), (50, 3, 40), (150, 8, 120), (400, 20, 400))
USUAL = 2  # of NUMBERS, where only one is used
REFERENCE = {"teff": 40.0, "logg": 0.05}  # errors of the reference labels
REFERENCE_DEX = 0.04


def giant(logg: NDArray) -> NDArray:
    """1 for giants, 0 for dwarfs."""
    return 1.0 / (1.0 + np.exp((logg - 2.7) / 0.25))


def _trends() -> dict[str, Callable[[NDArray, NDArray, NDArray], NDArray]]:
    return {
        "teff": lambda t, g, m: 30 - 60 * np.tanh((t - 5500) / 600) + 40 * giant(g),
        "logg": lambda t, g, m: 0.05 + 0.10 * np.tanh((t - 5600) / 800) - 0.15 * giant(g),
        "fe_h": lambda t, g, m: (
            -0.04 + 0.10 * np.tanh((t - 5400) / 500) - 0.10 * giant(g) + 0.04 * (m + 0.2)
        ),
        "mg_fe": lambda t, g, m: 0.05 + 0.08 * (t - 5500) / 1000 + 0.10 * giant(g),
        "ti_fe": lambda t, g, m: -0.05 + 0.12 * np.tanh((t - 5100) / 300),
        "o_fe": lambda t, g, m: -0.05 + 0.10 * ((t - 5300) / 1000) ** 2 - 0.08 * giant(g),
        "na_fe": lambda t, g, m: 0.06 * np.sin((t - 4500) / 300) + 0.08 * giant(g),
        "ni_fe": lambda t, g, m: np.zeros_like(t),
    }


TRENDS = _trends()
ERROR = {"teff": 60.0, "logg": 0.10, "fe_h": 0.05}  # median; 0.07 dex of the other labels
WRONG = {"teff": 600.0, "logg": 0.8}  # size of gross mistakes; 0.5 dex of the others


@dataclass(frozen=True)
class Sky:
    """Stars with their truth and what was measured.

    Parameters
    ----------
    truth : Table
    points : ndarray, shape (N, 3)
        True Teff, log g and [Fe/H].
    measured : Labels
    trend : ndarray, shape (N, L)
        What was injected.
    """

    truth: Table
    points: NDArray
    measured: Labels
    trend: NDArray

    def rows(self, column: str, groups: NDArray) -> NDArray:
        """Return the rows of stars in some clusters or binaries."""
        return np.flatnonzero(np.isin(np.asarray(self.truth[column]), groups))


def draw(seed: int, injected: bool = True) -> Sky:
    """Draw a sky; with ``injected=False`` its labels have errors and no trend."""
    rng = np.random.default_rng(seed)
    config = SkyConfig(
        population=PopulationConfig(stars=FIELD),
        clusters=ClustersConfig(count=CLUSTERS, members=MEMBERS, scatter=SCATTER),
        binaries=BinariesConfig(count=BINARIES, scatter=np.sqrt(2.0) * SCATTER),
    )
    truth = draw_population(config, rng)
    columns = np.column_stack([np.asarray(truth[n], float) for n in TRENDS])
    whole = np.isfinite(columns).all(axis=1)
    truth, columns = truth[whole], columns[whole]
    points = columns[:, :3]
    trend = np.column_stack([f(*points.T) for f in TRENDS.values()]) * injected
    sigma = np.array([ERROR.get(n, 0.07) for n in TRENDS]) * rng.lognormal(0, 0.3, columns.shape)
    error = sigma * rng.normal(size=columns.shape)
    wrong = rng.random(columns.shape) < GROSS
    gross = np.array([WRONG.get(n, 0.5) for n in TRENDS])
    error += wrong * gross * rng.normal(size=columns.shape)
    measured = Labels(
        tuple(TRENDS), columns + trend + error, sigma, np.asarray(truth["star_id"])
    )
    return Sky(truth, points, measured, trend)


@dataclass(frozen=True)
class Split:
    """Groups in random order: the first are fitted, the last are held out."""

    binaries: NDArray
    clusters: NDArray
    field: NDArray

    @classmethod
    def of(cls, sky: Sky, seed: int) -> Split:
        rng = np.random.default_rng(seed)
        names, size = np.unique(np.asarray(sky.truth["binary_id"]), return_counts=True)
        binaries = rng.permutation(names[(size == 2) & (names != "")])
        names = np.unique(np.asarray(sky.truth["cluster_id"]))
        clusters = rng.permutation(names[names != ""])
        single = np.asarray(sky.truth["binary_id"]) == ""
        single &= np.asarray(sky.truth["cluster_id"]) == ""
        return cls(binaries, clusters, rng.permutation(np.flatnonzero(single)))

    def held_out(self, sky: Sky) -> dict[str, NDArray]:
        """Rows of binaries, clusters and field stars that no calibration has seen."""
        return {
            "binary": sky.rows("binary_id", self.binaries[NUMBERS[-1][0] :]),
            "cluster": sky.rows("cluster_id", self.clusters[NUMBERS[-1][1] :]),
            "field": self.field[NUMBERS[-1][2] :],
        }


def anchors_of(
    sky: Sky,
    split: Split,
    numbers: tuple[int, int, int],
    seed: int,
    inside: Callable[[NDArray], NDArray] | None = None,
) -> Anchors:
    """Return so many binaries, clusters and reference stars, of those inside some region."""
    rng = np.random.default_rng(seed)
    parts = [
        (sky.rows("binary_id", split.binaries[: numbers[0]]), "binary"),
        (sky.rows("cluster_id", split.clusters[: numbers[1]]), "cluster"),
        (split.field[: numbers[2]], "reference"),
    ]
    rows = np.concatenate([part for part, _ in parts])
    kind = np.concatenate([np.full(part.size, name) for part, name in parts])
    group = np.where(kind == "binary", sky.truth["binary_id"][rows], "")
    group = np.where(kind == "cluster", sky.truth["cluster_id"][rows], group)
    if inside is not None:
        good = inside(sky.points[rows])
        name, count = np.unique(group[good], return_counts=True)
        good &= (kind == "reference") | np.isin(group, name[count >= 2])
        rows, kind, group = rows[good], kind[good], group[good]
    true = np.column_stack([np.asarray(sky.truth[n], float)[rows] for n in TRENDS])
    sigma = np.broadcast_to([REFERENCE.get(n, REFERENCE_DEX) for n in TRENDS], true.shape)
    values = true + sigma * rng.normal(size=true.shape)
    other = kind != "reference"
    values[other] = np.nan
    return Anchors(group, kind, Labels(tuple(TRENDS), values, sigma, sky.measured.star_id[rows]))
