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
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from figures import STYLE
from pages import remarks, table, write_page
from spectrolabe.config.sky import BinariesConfig, ClustersConfig, PopulationConfig, SkyConfig
from spectrolabe.homogenise.anchors import Anchors
from spectrolabe.homogenise.calibration import Calibration
from spectrolabe.homogenise.fitting import fit_calibration
from spectrolabe.homogenise.joint import Rows, solve
from spectrolabe.labels import LABELS, Labels
from spectrolabe.sky.population import draw_population

FIELD, CLUSTERS, MEMBERS, BINARIES = 6000, 40, 30, 900
SCATTER = 0.02  # dex, of abundances within a group
GROSS = 0.01  # share of labels that are grossly wrong
NUMBERS = ((15, 1, 15), (50, 3, 40), (150, 8, 120), (400, 20, 400))
USUAL = NUMBERS[2]  # where only one is used
SPLITS = 3  # different groups are fitted and held out
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


@dataclass(frozen=True, eq=False)
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

    @cached_property
    def true(self) -> NDArray:
        """True values of the labels, shape (N, L)."""
        return np.column_stack([np.asarray(self.truth[n], float) for n in TRENDS])

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
    measured = Labels(tuple(TRENDS), columns + trend + error, sigma, np.asarray(truth["star_id"]))
    return Sky(truth, points, measured, trend)


@dataclass(frozen=True, eq=False)
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
    true = sky.true[rows]
    sigma = np.broadcast_to([REFERENCE.get(n, REFERENCE_DEX) for n in TRENDS], true.shape)
    values = true + sigma * rng.normal(size=true.shape)
    other = kind != "reference"
    values[other] = np.nan
    return Anchors(group, kind, Labels(tuple(TRENDS), values, sigma, sky.measured.star_id[rows]))


@dataclass(frozen=True, eq=False)
class Quadratic:
    """The baseline: a quadratic polynomial of measured Teff and log g for each label.

    Fitted to the same anchors with the same weights, free means of groups and robust fit, without
    priors or limits.
    """

    coefficients: Mapping[str, NDArray]

    @staticmethod
    def design(points: NDArray) -> NDArray:
        t, g = (points[:, 0] - 5500.0) / 1000.0, points[:, 1] - 4.0
        return np.column_stack([np.ones_like(t), t, g, t**2, t * g, g**2])

    @classmethod
    def fit(cls, sky: Sky, anchors: Anchors) -> Quadratic:
        row = {star: i for i, star in enumerate(sky.measured.star_id)}
        measured = sky.measured.take([row[star] for star in anchors.star_id])
        design = cls.design(measured.values[:, :3])
        alone = anchors.kind == "reference"
        found = {}
        for i, name in enumerate(TRENDS):
            used = alone | (i > 1)
            values = np.r_[measured.values[used, i], anchors.reference.values[alone, i]]
            sigma = np.r_[measured.sigma[used, i], anchors.reference.sigma[alone, i]]
            groups = np.r_[anchors.group[used], anchors.group[alone]]
            columns = np.vstack([design[used], np.zeros((alone.sum(), 6))])
            _, index = np.unique(groups, return_inverse=True)
            rows = Rows(values, sigma**2, np.arange(values.size) < used.sum(), index, columns)
            found[name] = solve(rows, np.full(6, 1e-12)).coefficients
        return cls(found)

    def shift(self, labels: Labels) -> NDArray:
        """Return what is to be subtracted, shape (N, L)."""
        design = self.design(labels.values[:, :3])
        return np.column_stack([design @ self.coefficients[name] for name in TRENDS])


def rms(values: NDArray) -> float:
    """Root mean square; NaN of fewer than ten values."""
    return float(np.sqrt(np.mean(np.square(values)))) if np.size(values) >= 10 else np.nan


def pooled(values: list[NDArray]) -> NDArray:
    """Root mean square over splits, of those that have a value."""
    squares = np.square(values)
    known = np.isfinite(squares)
    total = np.where(known, squares, 0.0).sum(axis=0)
    return np.sqrt(np.divide(total, known.sum(axis=0), out=total * np.nan, where=known.any(axis=0)))


def within(values: NDArray, group: NDArray) -> NDArray:
    """Return values less the mean of their group."""
    _, index = np.unique(group, return_inverse=True)
    return values - (np.bincount(index, values) / np.bincount(index))[index]


def left(sky: Sky, shift: NDArray, held: Mapping[str, NDArray], support: NDArray) -> NDArray:
    """Return the rms trend left, shape (4, L).

    In held-out binaries and clusters, within each; in the field, where the calibration has full
    support and where it has not.
    """
    rest = sky.trend - shift
    found = np.empty((4, len(TRENDS)))
    for j in range(len(TRENDS)):
        for i, (kind, column) in enumerate((("binary", "binary_id"), ("cluster", "cluster_id"))):
            rows = held[kind]
            found[i, j] = rms(within(rest[rows, j], np.asarray(sky.truth[column])[rows]))
        field = held["field"]
        inside = support[field, j] == 1
        found[2, j] = rms(rest[field, j][inside])
        found[3, j] = rms(rest[field, j][~inside])
    return found


@dataclass(frozen=True, eq=False)
class Result:
    """One split with one number of anchors: rms trend of nothing, the baseline, the calibration."""

    calibration: Calibration
    quadratic: Quadratic
    rms: NDArray  # (3, 4, L)
    pulls: NDArray  # (2, L): of corrected labels and of trends, of the field inside
    outside: NDArray  # (2, L): the same outside
    flagged: NDArray  # (L,): share of the field
    stated: NDArray  # (L,): rms standard deviation of the correction, of the field inside
    seconds: tuple[float, float]  # CPU: of the fit, and a star


def measure(sky: Sky, split: Split, anchors: Anchors) -> Result:
    """Fit both and compare with the truth."""
    held = split.held_out(sky)
    start = time.process_time()
    calibration = fit_calibration(sky.measured, anchors)
    fitted = time.process_time()
    result = calibration.apply(sky.measured)
    applied = time.process_time()
    quadratic = Quadratic.fit(sky, anchors)
    shifts = (np.zeros_like(sky.trend), quadratic.shift(sky.measured), -result.correction)
    field = held["field"]
    pulls, outside = np.empty((2, len(TRENDS))), np.empty((2, len(TRENDS)))
    flagged, stated = np.empty((2, len(TRENDS)))
    for j, name in enumerate(TRENDS):
        inside = result.support[field, j] == 1
        flagged[j] = 1 - inside.mean()
        stated[j] = rms(result.sigma[field, j][inside])
        error = (result.labels.values[field, j] - sky.true[field, j]) / result.labels.sigma[
            field, j
        ]
        value, sigma = calibration.trend(name, sky.points[field])
        off = (value - sky.trend[field, j]) / sigma
        for where, into in ((inside, pulls), (~inside, outside)):
            low, high = (
                np.quantile(error[where], [0.1587, 0.8413]) if where.any() else (0.0, np.nan)
            )
            into[:, j] = (high - low) / 2, rms(off[where])
    return Result(
        calibration,
        quadratic,
        np.stack([left(sky, shift, held, result.support) for shift in shifts]),
        pulls,
        outside,
        flagged,
        stated,
        (fitted - start, (applied - fitted) / len(sky.measured)),
    )


def number(name: str, value: float) -> str:
    if not np.isfinite(value):
        return "–"
    return f"{value:.0f}" if name == "teff" else f"{value:.3f}"


def by_label(results: list[Result]) -> str:
    """The trend of each label in four places: raw, baseline, calibrated."""
    mean = pooled([r.rms for r in results])
    rows = []
    for j, name in enumerate(TRENDS):
        cells = [" / ".join(number(name, x) for x in mean[:, i, j]) for i in range(4)]
        rows.append([f"{name} [{LABELS[name].unit}]", *cells])
    head = ["label", "held-out binaries", "held-out clusters", "field, supported", "field, not"]
    return table(head, rows)


def by_number(results: Mapping[tuple[int, int, int], list[Result]]) -> str:
    """What is left relative to what was injected, for the numbers of anchors."""
    rows = []
    trended = [j for j, name in enumerate(TRENDS) if name != "ni_fe"]
    for numbers, some in results.items():
        mean = pooled([r.rms for r in some])[:, :, trended]
        share = np.nanmean(mean[1:] / mean[0], axis=2)
        cells = [f"{share[0, i]:.2f} / {share[1, i]:.2f}" for i in range(4)]
        flagged = np.mean([r.flagged for r in some], axis=0)
        null = pooled([r.rms[:, 2, -1] for r in some])
        rows.append(
            [
                ", ".join(str(n) for n in numbers),
                *cells,
                f"{null[1]:.3f} / {null[2]:.3f}",
                f"{100 * flagged[2]:.0f} %",
                f"{np.mean([r.seconds[0] for r in some]):.1f}",
            ]
        )
    head = ["binaries, clusters, references", "held-out binaries", "held-out clusters"]
    head += ["field, supported", "field, not", "[Ni/Fe], no trend", "field flagged", "CPU s"]
    return table(head, rows)


def uncertainties(results: Mapping[tuple[int, int, int], list[Result]]) -> str:
    rows = []
    for numbers, some in results.items():
        pulls = pooled([r.pulls for r in some])
        outside = pooled([r.outside for r in some])
        rows.append(
            [
                ", ".join(str(n) for n in numbers),
                *(
                    f"{np.nanmean(x):.2f} ({np.nanmin(x):.2f} to {np.nanmax(x):.2f})"
                    for x in (pulls[0], outside[0], pulls[1], outside[1])
                ),
            ]
        )
    head = ["binaries, clusters, references", "label, supported", "label, not"]
    return table([*head, "trend, supported", "trend, not"], rows)


BIN = {"teff": np.arange(4250, 7501, 250), "logg": np.arange(0.5, 5.01, 0.25)}
FEWEST = 12


def binned(x: NDArray, y: NDArray, edges: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """Return the middles, medians and their errors of bins with enough stars."""
    bins = [(y[(x >= low) & (x < high)], (low + high) / 2) for low, high in pairwise(edges)]
    good = [(part, middle) for part, middle in bins if part.size >= FEWEST]
    middle = np.array([m for _, m in good])
    median = np.array([np.median(part) for part, _ in good])
    error = [
        1.253 * 1.4826 * np.median(np.abs(p - np.median(p))) / np.sqrt(p.size) for p, _ in good
    ]
    return middle, median, np.array(error)


def observed(sky: Sky, split: Split, result: Result) -> str:
    """What an observer sees: binned medians of deviations within held-out groups."""
    corrected = result.calibration.apply(sky.measured).labels.values
    quadratic = sky.measured.values - result.quadratic.shift(sky.measured)
    held, rows = split.held_out(sky), []
    for j, name in enumerate(TRENDS):
        if j < 2:
            continue
        cells = []
        for against in ("teff", "logg"):
            numbers = []
            for values in (sky.measured.values, quadratic, corrected):
                x, y = deviations(sky, held, values[:, j], against)
                _, median, error = binned(x, y, BIN[against])
                numbers.append(rms(median))
            cells.append(" / ".join(f"{x:.3f}" for x in numbers) + f" ({rms(error):.3f})")
        rows.append([name, *cells])
    return table(["label", "against Teff", "against log g"], rows)


def deviations(
    sky: Sky, held: Mapping[str, NDArray], values: NDArray, against: str
) -> tuple[NDArray, NDArray]:
    """Return measured Teff or log g of held-out members and their deviation from their group."""
    parts = []
    for kind, column in (("binary", "binary_id"), ("cluster", "cluster_id")):
        group = np.asarray(sky.truth[column])[held[kind]]
        parts.append(within(values[held[kind]], group))
    rows = np.concatenate([held["binary"], held["cluster"]])
    return sky.measured[against][rows], np.concatenate(parts)


def dwarfs_only(points: NDArray) -> NDArray:
    """A small region for anchors, far from giants, hot stars and metal-poor ones."""
    teff, logg, fe_h = points.T
    return (teff > 4900) & (teff < 6200) & (logg > 3.8) & (fe_h > -0.4)


def artefacts(sky: Sky, split: Split) -> tuple[str, str, Result]:
    """Anchors in a small region, and a sky without trends."""
    result = measure(sky, split, anchors_of(sky, split, NUMBERS[3], 1, dwarfs_only))
    field = split.held_out(sky)["field"]
    applied = result.calibration.apply(sky.measured)
    quadratic = result.quadratic.shift(sky.measured)
    outside = ~dwarfs_only(sky.points[field])
    rows = []
    for j, name in enumerate(TRENDS):
        zero = result.calibration.trends[name].coefficients[0]
        some = field[outside]
        injected, shift = sky.trend[some, j], -applied.correction[some, j]
        cells = [
            number(name, rms(injected)),
            number(name, rms(injected - quadratic[some, j])),
            number(name, rms(injected - shift)),
            number(name, np.abs(quadratic[some, j] - zero).max()),
            number(name, np.abs(shift - zero).max()),
            f"{100 * np.mean(applied.flags[some, j] == 8):.0f} %",
            f"{rms((injected - shift) / applied.sigma[some, j]):.2f}",
        ]
        rows.append([f"{name} [{LABELS[name].unit}]", *cells])
    head = ["label", "injected", "left by quadratic", "left by calibration"]
    head += ["largest quadratic", "largest calibration", "flagged", "left / stated"]
    narrow = table(head, rows)

    nothing = draw(11, injected=False)
    own = Split.of(nothing, 11)
    rows = []
    for numbers in NUMBERS:
        one = measure(nothing, own, anchors_of(nothing, own, numbers, 1))
        cells = [", ".join(str(n) for n in numbers)]
        for j, name in enumerate(list(TRENDS)[:3]):
            shown = [*one.rms[1:, 2, j], one.stated[j]]
            cells.append("{} / {} ({})".format(*(number(name, x) for x in shown)))
        others = [*one.rms[1:, 2, 3:].mean(axis=1), one.stated[3:].mean()]
        rows.append([*cells[:4], "{:.3f} / {:.3f} ({:.3f})".format(*others)])
    head = ["binaries, clusters, references", "teff [K]", "logg", "fe_h", "mean of [X/Fe]"]
    return narrow, table(head, rows), result


def tracks() -> dict[str, NDArray]:
    """Dwarfs and giants along which trends are drawn, solar metallicity."""
    hot = np.linspace(3600, 8400, 200)
    dwarf = np.interp(hot, [3600, 5000, 6000, 8400], [4.75, 4.6, 4.4, 4.1])
    cool = np.linspace(3600, 6200, 150)
    giants = np.interp(cool, [3600, 4000, 4800, 5200, 6200], [0.5, 1.4, 2.5, 3.2, 3.8])
    return {
        "dwarfs": np.column_stack([hot, dwarf, np.zeros_like(hot)]),
        "giants": np.column_stack([cool, giants, np.zeros_like(cool)]),
    }


BLACK, BLUE, ORANGE = "#303030", "#1f6fa8", "#d9822b"


def draw_trends(path: Path, sky: Sky, result: Result, narrow: Result) -> None:
    """Injected and found trends along dwarfs and giants; at the right with few anchors."""
    names = ("fe_h", "mg_fe", "o_fe", "na_fe")
    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(len(names), 4, figsize=(12, 9), sharex="col", sharey="row")
        for row, name in zip(panels, names, strict=True):
            columns = [(r, kind) for r in (result, narrow) for kind in ("dwarfs", "giants")]
            for axes, (one, kind) in zip(row, columns, strict=True):
                _draw_trend(axes, one, name, tracks()[kind])
            row[0].set_ylabel(f"trend of {LABELS[name].latex} [dex]")
            row[0].set_ylim(-0.32, 0.32)
        for axes, title in zip(
            panels[0],
            ("dwarfs", "giants", "dwarfs, anchors 4900-6200 K", "giants, no anchors there"),
            strict=True,
        ):
            axes.set_title(title, fontsize=9)
        for axes in panels[-1]:
            axes.set_xlabel(r"$T_\mathrm{eff}$ [K]")
        panels[0, 0].legend(loc="lower right")
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=100)
        plt.close(figure)


def _draw_trend(axes: plt.Axes, one: Result, name: str, points: NDArray) -> None:
    value, sigma = one.calibration.trend(name, points)
    teff = points[:, 0]
    flat = Quadratic.design(points) @ one.quadratic.coefficients[name]
    support = one.calibration.trends[name].support
    outside = support.share(support.distance(points)) < 1
    axes.fill_between(teff, value - sigma, value + sigma, color=BLUE, alpha=0.25, lw=0)
    axes.plot(teff, TRENDS[name](*points.T), color=BLACK, lw=1.5, label="injected")
    axes.plot(teff, flat, color=ORANGE, lw=1, ls="--", label="quadratic")
    axes.plot(teff, value, color=BLUE, lw=1.2, label="calibration")
    axes.plot(teff[outside], np.full(outside.sum(), -0.31), ".", color="#b0b0b0", ms=2)


def draw_held_out(path: Path, sky: Sky, split: Split, result: Result) -> None:
    """Binned deviations of held-out groups before and after."""
    names = ("fe_h", "mg_fe", "ti_fe", "na_fe")
    held = split.held_out(sky)
    corrected = result.calibration.apply(sky.measured).labels.values
    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(2, len(names), figsize=(12, 5.2), sharey=True)
        for row, against in zip(panels, ("teff", "logg"), strict=True):
            for axes, name in zip(row, names, strict=True):
                j = list(TRENDS).index(name)
                axes.axhline(0, color="#d0d0d0", lw=0.8)
                for values, colour, what in (
                    (sky.measured.values, ORANGE, "measured"),
                    (corrected, BLUE, "calibrated"),
                ):
                    x, y = deviations(sky, held, values[:, j], against)
                    middle, median, error = binned(x, y, BIN[against])
                    axes.errorbar(
                        middle, median, error, fmt="o-", ms=3, lw=1, color=colour, label=what
                    )
                unit = f" [{LABELS[against].unit}]"
                axes.set_xlabel(LABELS[against].latex + unit)
                axes.set_title(LABELS[name].latex, fontsize=9)
            row[0].set_ylabel("member less group mean [dex]")
        panels[0, 1].legend(loc="upper left")
        figure.savefig(path, dpi=100)
        plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, default=Path("docs/results"))
    parser.add_argument("--seed", type=int, default=5)
    options = parser.parse_args()
    sky = draw(options.seed)
    results: dict[tuple[int, int, int], list[Result]] = {}
    for numbers in NUMBERS:
        for seed in range(SPLITS):
            split = Split.of(sky, seed)
            one = measure(sky, split, anchors_of(sky, split, numbers, seed))
            results.setdefault(numbers, []).append(one)
            print(numbers, seed, f"{one.seconds[0]:.1f} s, {1e6 * one.seconds[1]:.0f} us a star")
    split, usual = Split.of(sky, 0), results[USUAL][0]
    narrow, null, confined = artefacts(sky, split)
    figures = options.output / "figures"
    draw_trends(figures / "calibration_trends.png", sky, usual, confined)
    draw_held_out(figures / "calibration_held_out.png", sky, split, usual)
    held = split.held_out(sky)
    write_page(
        options.output / "calibration.md",
        page(
            results, narrow, null, observed(sky, split, usual), {k: v.size for k, v in held.items()}
        ),
    )


def page(
    results: Mapping[tuple[int, int, int], list[Result]],
    narrow: str,
    null: str,
    seen: str,
    held: Mapping[str, int],
) -> list[str]:
    apply = np.median([r.seconds[1] for some in results.values() for r in some])
    usual = ", ".join(str(n) for n in USUAL)
    return [
        "# Calibration by binaries, clusters and reference stars",
        f"""
Made by `python benchmarks/calibration.py`. The stars are those of the [synthetic
sky](../sky.md): a field of {FIELD}, {CLUSTERS} open clusters of {MEMBERS} members and
{BINARIES} wide binaries, whose members agree to {SCATTER} dex. Their labels are the truth plus
trends that are known here and to no fit (steps at giants, waves, parabolas; see `TRENDS` in the
benchmark), plus normal errors of 60 K, 0.10 dex in log g, 0.05 in [Fe/H] and 0.07 in [X/Fe]
(median; stated errors are right), plus {100 * GROSS:.0f} % gross mistakes. Reference labels
have errors of {REFERENCE["teff"]:.0f} K, {REFERENCE["logg"]} and {REFERENCE_DEX} dex. Groups
that are held out are never fitted: {held["binary"]} stars in binaries, {held["cluster"]} in
clusters, {held["field"]} in the field. The baseline is a quadratic polynomial in Teff and log
g, fitted to the same anchors in the same way. The tables of what is left and of
uncertainties pool {SPLITS} choices of the anchors, the others are of one.
""",
        "## The trend that is left",
        f"""
Root mean square of injected trend less correction, for {usual} binaries, clusters and reference
stars: **as measured / quadratic / calibration**. In binaries and clusters it is that within the
group, which is what an observer can see; in the field also the zero point counts. The noise of
the labels enters where they are used to look up the correction. Supported stars are those
without the flag `EXTRAPOLATED`.
""",
        by_label(results[USUAL]),
        f"""
And for other numbers of anchors, the trend left as a fraction of the injected one, mean of the
seven labels that have a trend: **quadratic / calibration**. The column [Ni/Fe] is the rms
correction, in dex, of a label that has none. CPU seconds are those of the calibration of all 8
labels; applying it takes {1e6 * apply:.0f} microseconds a star.
""",
        by_number(results),
        remarks("left"),
        "![Injected and found trends](figures/calibration_trends.png)",
        """
Trends along the dwarfs and the giants of solar metallicity: injected, and as found with the
anchors of the first table (left half) or with anchors only at dwarfs from 4900 to 6200 K (right
half). The band is the stated standard deviation; grey dots at the bottom mark where corrections
are flagged and fade.
""",
        "## As an observer sees it",
        """
Members of held-out binaries and clusters less the mean of their group, medians in bins of 250 K
and 0.25 dex, rms over the bins: **as measured / quadratic / calibration**, in parentheses what
errors of the medians alone would give.
""",
        seen,
        "![Held-out groups before and after](figures/calibration_held_out.png)",
        "## No artefacts where there is no data",
        """
Anchors only in a small region: dwarfs from 4900 to 6200 K with [Fe/H] above -0.4. Of the field
stars outside of it: rms trend injected and left; the largest correction relative to the zero
point; how many are flagged; and the rms of what is left over its stated standard deviation.
""",
        narrow,
        """
A sky without any trend, fitted in the same way: rms correction of supported field stars, which
should be zero: **quadratic / calibration**, in parentheses the stated standard deviation of the
calibration's.
""",
        null,
        remarks("artefacts"),
        "## Uncertainties",
        """
Corrected label less truth over its stated error (half the central 68 %), and trend found less
trend injected over its stated error (rms), for stars of the field with and without support:
mean of the labels, and range. Both are 1 when uncertainties are right.
""",
        uncertainties(results),
        remarks("uncertainties"),
    ]


if __name__ == "__main__":
    main()
