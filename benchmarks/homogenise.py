"""Do corrections remove trends? Real catalogues of the same stars, and made-up ones.

    python benchmarks/homogenise.py DATA [--output docs/results]

Each task is a label of one catalogue to be put on the scale of another. Methods learn 70 per cent
of the shared stars and are judged by the others, chosen by a hash of their names.
"""

from __future__ import annotations

import argparse
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from homogenise_simulated import simulated
from pages import remarks, table, write_page
from spectrolabe.homogenise.comparison import BASELINES, Judged, compare_methods, judged
from spectrolabe.homogenise.correction import Correction
from spectrolabe.homogenise.learning import METHODS, fit_correction
from spectrolabe.homogenise.run import Shared
from spectrolabe.labels import LABELS, Labels

__all__ = ["main"]

CORE = ("teff", "logg", "fe_h")
LEARNT = 70  # per cent
SMOOTH = 0.2
VARIANTS: dict[str, dict[str, Any]] = {name: {"method": name} for name in METHODS}
VARIANTS[f"xgboost, --smooth {SMOOTH}"] = {"method": "xgboost", "smooth": SMOOTH}
NULLS = 6  # realisations of the null test
NOISE = (80.0, 0.1, 0.08)
EDGES = {"coolest": ("teff", -1), "hottest": ("teff", 1), "lowest log g": ("logg", -1),
         "highest log g": ("logg", 1), "poorest": ("fe_h", -1), "richest": ("fe_h", 1)}  # fmt: skip
EDGE = 0.04  # of the stars not learnt from
BEYOND = {"logg": (-9.0, 1.0), "teff": (7000.0, 1e9), "fe_h": (-9.0, -2.0)}


@dataclass(frozen=True)
class Task:
    """A label of a catalogue, and the scale it is to be on."""

    name: str
    label: str
    file: str
    inputs: tuple[str, str, str]
    reference: str
    other: str = ""  # file that has the reference


KIC = ("teff_kic", "logg_kic", "fe_h_kic")
FIT = ("teff_aspcapfit", "logg_aspcapfit", "fe_h_aspcapfit")
DR12 = ("teff_dr12", "logg_dr12", "fe_h_dr12")
TASKS = (
    Task("KIC to ASPCAP", "teff", "apokasc_v7p1", KIC, "teff_aspcapcor_apokasc"),
    Task("KIC to infrared flux", "teff", "apokasc_v7p1", KIC, "teff_irfm_apokasc"),
    Task("KIC to seismology", "logg", "apokasc_v7p1", KIC, "logg_seis_apokasc"),
    Task("KIC to ASPCAP", "logg", "apokasc_v7p1", KIC, "logg_aspcapcor_apokasc"),
    Task("KIC to ASPCAP", "fe_h", "apokasc_v7p1", KIC, "m_h_aspcapcor_apokasc"),
    Task("raw ASPCAP to seismology", "logg", "apokasc_logg_cal", FIT, "logg_seis"),
    Task("raw ASPCAP to Berger", "teff", "apokasc_logg_cal", FIT, "teff_berger",
         "teff_irfm_berger"),
    Task("raw ASPCAP to SAGA", "teff", "apokasc_logg_cal", FIT, "teff_irfm_saga",
         "teff_irfm_berger"),
    *(Task("DR12 to DR17", name, "aspcap_dr12_dr17", DR12, f"{name}_dr17") for name in CORE),
)  # fmt: skip


def read(data: Path, task: Task) -> Shared:
    """Return the stars of a task."""
    frame = pq.read_table(data / "catalogues" / f"{task.file}.parquet").to_pandas()
    if task.other:
        other = pq.read_table(data / "catalogues" / f"{task.other}.parquet").to_pandas()
        frame = frame.merge(other, on="tmass", how="left", suffixes=("", "_other"))
    frame = frame[frame[task.reference].notna()]
    star = frame["tmass"].to_numpy(str)
    values = frame[list(task.inputs)].to_numpy(float)
    target = Labels(CORE, values, np.full(values.shape, np.nan), star)
    error = f"e_{task.reference}"
    sigma = frame[error].to_numpy(float) if error in frame else np.full(len(frame), np.nan)
    reference = Labels((task.label,), frame[[task.reference]].to_numpy(float), sigma[:, None], star)
    return Shared(target, reference, {})


def covered(data: Path, task: Task, correction: Correction) -> list[str]:
    """Shares of all rows of the target's catalogue by coverage, and how many there are."""
    frame = pq.read_table(data / "catalogues" / f"{task.file}.parquet").to_pandas()
    values = frame[list(task.inputs)].to_numpy(float)
    values = values[np.isfinite(values).all(axis=1)]
    labels = Labels(CORE, values, np.full(values.shape, np.nan), np.arange(len(values)).astype(str))
    share = correction.apply(labels).support[:, CORE.index(task.label)]
    parts = ((share >= 1).mean(), ((share > 0) & (share < 1)).mean(), (share <= 0).mean())
    return [f"{len(values):,}", *(f"{100 * part:.1f} %" for part in parts)]


def parts(shared: Shared) -> tuple[NDArray, NDArray]:
    """Rows that are learnt from, and those that are not."""
    share = np.array([zlib.crc32(star.encode()) % 100 for star in shared.target.star_id])
    return np.flatnonzero(share < LEARNT), np.flatnonzero(share >= LEARNT)


def fitted(shared: Shared, label: str) -> Iterator[tuple[str, Correction | str, float]]:
    """Yield each method as it has learnt the first part."""
    rows, _ = parts(shared)
    yield from ((base, base, 0.0) for base in BASELINES)
    for name, how in VARIANTS.items():
        begin = time.monotonic()
        fit = fit_correction(shared.target.take(rows), shared.reference.take(rows), [label], **how)
        yield name, fit, time.monotonic() - begin


def cells(one: Judged, digits: int) -> list[str]:
    """What is shown of a method."""
    numbers = (one.bias, one.scatter, one.rmse, one.trend_max, one.trend_rms, one.noise)
    return [
        *(f"{x:.{digits}f}" for x in numbers),
        f"{one.pulls:.2f}" if np.isfinite(one.pulls) else "–",
        f"{one.seconds:.1f}",
    ]


def edges(name: str, shared: Shared, correction: Correction | str, label: str) -> list[str]:
    """Median and rms of differences of the outermost stars that were not learnt from."""
    _, rows = parts(shared)
    target, reference = shared.target.take(rows), shared.reference.take(rows)
    new = target[label]
    if isinstance(correction, Correction):
        new = correction.apply(target).labels[label]
    elif correction == "median":
        new = new + np.nanmedian(reference[label] - target[label])
    found = [name]
    left = reference[label] - new
    known = np.flatnonzero(np.isfinite(left) & np.isfinite(target.values).all(axis=1))
    count = max(5, round(EDGE * len(known)))
    digits = 0 if LABELS[label].unit == "K" else 3
    for column, side in EDGES.values():
        rows = known[np.argsort(-side * target[column][known], kind="stable")][:count]
        median, rms = np.median(left[rows]), np.sqrt(np.mean(left[rows] ** 2))
        found.append(f"{median:+.{digits}f}, {rms:.{digits}f}")
    return found


def beyond(shared: Shared) -> str:
    """How many of all shared stars are where surveys are known to be hard."""
    counts = [
        int(((shared.target[name] > low) & (shared.target[name] < high)).sum())
        for name, (low, high) in BEYOND.items()
    ]
    return "{} / {} / {}".format(*counts)


def curvature(correction: Correction, label: str, shared: Shared) -> tuple[float, float]:
    """Change of the correction between neighbours, where stars are many and where they are few.

    Along lines through stars of the target, a tenth of the spread of an input apart: the second
    difference, over that of the median of stars; in units of the scatter.
    """
    one = correction.labels[label]
    points = shared.target.values[:, [CORE.index(n) for n in one.inputs.names]]
    points = points[np.isfinite(points).all(axis=1)]
    few = one.support.distance(one.inputs.scaled(points)) > np.quantile(
        one.support.distance(one.inputs.scaled(points)), 0.95
    )
    bends = np.zeros(len(points))
    for j in range(points.shape[1]):
        step = np.zeros(points.shape[1])
        step[j] = 0.1 * np.std(points[:, j])
        middle, up, down = (one.at(points + k * step)[0] for k in (0, 1, -1))
        bends = np.maximum(bends, np.abs(up + down - 2.0 * middle))
    return (
        float(np.quantile(bends[~few], 0.9) / one.spread),
        float(np.quantile(bends[few], 0.9) / one.spread),
    )


def null_test(data: Path) -> list[list[str]]:
    """What corrections do where there is nothing to correct: raw ASPCAP against itself."""
    raw = read(data, TASKS[5]).target
    target = Labels(CORE, raw.values, np.zeros(raw.values.shape), raw.star_id)
    sigma = np.broadcast_to(NOISE, raw.values.shape)
    rows = []
    for name, how in VARIANTS.items():
        each = []
        for seed in range(NULLS):
            noise = sigma * np.random.default_rng(seed).normal(size=sigma.shape)
            reference = Labels(CORE, raw.values + noise, sigma, raw.star_id)
            found = fit_correction(target, reference, **how).apply(target)
            use = np.where(found.flags == 0, 1.0, np.nan)
            size, pull = np.abs(found.correction) * use, found.correction / found.sigma * use
            largest, most = np.nanmax(size, axis=0), np.nanquantile(size, 0.95, axis=0)
            each.append([largest, most, np.nanmean(pull**2, axis=0)])
        largest, most, square = np.mean(each, axis=0)
        rows.append([name])
        for j, label in enumerate(CORE):
            digits = 1 if LABELS[label].unit == "K" else 4
            rows[-1].append(
                f"{largest[j]:.{digits}f}, {most[j]:.{digits}f}, {np.sqrt(square[j]):.2f}"
            )
    return rows


def main() -> None:
    """Judge all methods in all tasks, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("data", type=Path)
    parser.add_argument("--output", type=Path, default=Path("docs/results"))
    arguments = parser.parse_args()
    main_rows, edge_rows, bend_rows, sparse_rows, formulae = [], [], [], [], []
    cover_rows: list[list[str]] = []
    for task in TASKS:
        shared = read(arguments.data, task)
        unit = LABELS[task.label].unit
        digits = 1 if unit == "K" else 4
        title = f"{task.name}, {task.label}"
        learnt, tried = parts(shared)
        here, there = shared.target.take(tried), shared.reference.take(tried)
        for name, fit, seconds in fitted(shared, task.label):
            one = judged(fit, task.label, here, there, {}, CORE, seconds)
            first = f"{title} ({len(learnt):,})" if name == BASELINES[0] else ""
            main_rows.append([first, str(one.stars), name, *cells(one, digits)])
            edge_rows.append([first and title, *edges(name, shared, fit, task.label)])
            if isinstance(fit, Correction):
                ratio = f"{100 * one.flagged:.1f} % ({one.worse:.1f})"
                many, few = curvature(fit, task.label, shared)
                bend_rows.append([title, name, f"{many:.3f}", f"{few:.3f}", ratio])
                if name == "polynomial":
                    cover_rows.append([title, *covered(arguments.data, task, fit)])
                if name == "symbolic":
                    formulae.append([title, fit.labels[task.label].curve.bend.text])
        for one in compare_methods(shared, task.label, sparse=True):
            first = title if one.method == BASELINES[0] else ""
            numbers = [f"{x:.{digits}f}" for x in (one.bias, one.scatter, one.rmse)]
            sparse_rows.append(
                [first, str(one.stars), one.method, *numbers, f"{100 * one.flagged:.0f} %"]
            )
        edge_rows[-len(VARIANTS) - len(BASELINES)][0] += f" ({beyond(shared)})"
        print(title, flush=True)
    write(
        arguments.output,
        main_rows,
        edge_rows,
        bend_rows,
        sparse_rows,
        formulae,
        cover_rows,
        arguments.data,
    )


def write(
    output: Path,
    main_rows: list[list[str]],
    edge_rows: list[list[str]],
    bend_rows: list[list[str]],
    sparse_rows: list[list[str]],
    formulae: list[list[str]],
    cover_rows: list[list[str]],
    data: Path,
) -> None:
    """Write the page."""
    head = ["task (stars learnt)", "stars", "method", "bias", "1.4826 MAD", "RMSE"]
    head += ["trend, largest", "trend, rms", "of none", "pulls", "time [s]"]
    sparse = ["task", "stars", "method", "bias", "1.4826 MAD", "RMSE", "flagged"]
    bends = ["task", "method", "many stars", "few stars", "flagged (rms over that of the others)"]
    write_page(
        output / "homogenise.md",
        [
            f"""# Catalogues on one scale

```
python benchmarks/homogenise.py DATA
```

Labels of one catalogue on the scale of another, by the stars that both have. Methods learn
{LEARNT} per cent of them; all numbers are of the others (differences: reference less corrected; K,
or dex). Trends are medians of ten bins along Teff, log g and [Fe/H]: the largest, their rms, and
the rms that noise alone would give. "median" takes the median difference of the judged stars
themselves.

{remarks("summary")}

## Trends that are left

{table(head, main_rows)}

{remarks("trends")}

## At the edges

Median and rms of the differences of the outermost {100 * EDGE:.0f} per cent of the stars not learnt
from, by what the catalogue says. In brackets how many shared stars have log g < 1, Teff > 7000 K
and [Fe/H] < -2.

{table(["task", "method", *EDGES], edge_rows)}

{remarks("edges")}

## Where stars are few

The densest 95 per cent of the shared stars are learnt; judged are the others.

{table(sparse, sparse_rows)}

All rows of the catalogues, by what the stars learnt from cover (the rule is the same for all
methods):

{table(["task", "rows", "covered", "at the edge", "outside"], cover_rows)}

{remarks("sparse")}

## Artefacts

Bending of the correction over a tenth of the spread of an input (second difference, 90 per cent
quantile over stars, in units of the scatter before), among the densest 95 per cent and in the rest
of the target; and how many stars are flagged, and how much larger their rms is.

{table(bends, bend_rows)}

{remarks("artefacts")}

A catalogue against itself plus noise of {NOISE[0]:.0f} K, {NOISE[1]} and {NOISE[2]} dex: largest
correction of the stars that are not flagged, 95 per cent quantile, and the rms of corrections over
their stated uncertainties.

{table(["method", *(f"{n}: largest, 95 %, pulls" for n in CORE)], null_test(data))}

## Formulae

{table(["task", "bend, of x0, x1, x2: Teff, log g and [Fe/H] as scaled in the file"], formulae)}

{simulated()}

{remarks("simulated")}"""
        ],
    )


if __name__ == "__main__":
    main()
