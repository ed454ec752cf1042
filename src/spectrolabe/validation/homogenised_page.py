"""The page of a homogenised catalogue: trends before and after, coverage, formulae, methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from spectrolabe.errors import InputError
from spectrolabe.homogenise.command import Homogenised
from spectrolabe.homogenise.comparison import Judged, Trend, compare_methods, kept_aside, trends
from spectrolabe.homogenise.correction import Correction, input_values
from spectrolabe.homogenise.learning import METHODS, fit_correction
from spectrolabe.homogenise.run import Shared
from spectrolabe.labels import LABELS, Labels
from spectrolabe.progress import shown_progress
from spectrolabe.validation.figures import axis_name
from spectrolabe.validation.page import figure_block, heading, paragraph, table_block, write_page

__all__ = ["write_homogenised_page"]

MAPPED = 4000  # rows of the target in the map
SEED = 0
ENOUGH = 160  # shared stars, that a quarter of them tells something
BEFORE, AFTER = "#8a8f98", "#1f618d"
HEAD = (
    "method", "stars", "bias", "1.4826 MAD", "RMSE", "trend, largest", "trend, rms", "rms of none",
    "pulls", "flagged", "their rms / rest", "time [s]",
)  # fmt: skip


def write_homogenised_page(done: Homogenised, path: str | Path) -> Path:
    """Write what was learnt and how well it holds; every number is of stars not learnt from.

    Parameters
    ----------
    done : Homogenised
        With the shared stars that the correction was learnt from.
    path : str or Path
        ``.html``.
    """
    shared, correction = done.shared, done.correction
    if shared is None:
        raise InputError(
            "--report",
            expected="a correction that is learnt in the same run",
            found="one that is applied",
            fix="Its own run had the page.",
        )
    card = correction.card
    blocks = [
        paragraph(
            f"{card['target']} on the scale of {', '.join(card['references'])}: "
            f"{card['target_rows']:,} rows, of which {card['shared_rows']:,} are of "
            f"{card['shared_stars']:,} stars that the reference has, too."
        ),
        paragraph(
            "Differences are reference less target. Scatter is 1.4826 MAD. For this page each "
            "method learnt three quarters of the shared stars; numbers and trends are of the "
            "others. The catalogue itself was made with all of them."
        ),
    ]
    names = correction.names
    enough = card["shared_stars"] >= ENOUGH
    if enough:
        unseen = _unseen(shared, correction)
        blocks += [heading("Trends before and after")]
        if card["true_scale"]:
            blocks.append(paragraph(TRUE_SCALE))
        for name in names:
            drawn = _trends(name, card["inputs"], unseen)
            blocks.append(figure_block(drawn, f"{axis_name(name)}: {TRENDS}"))
    else:
        blocks.append(paragraph(f"Trends and methods need {ENOUGH} shared stars."))
    blocks += [heading("Where shared stars support it"), *_coverage(done)]
    blocks += [heading("What was learnt")]
    blocks += [_functions(correction), *_errors(card)]
    if enough:
        blocks += [heading("Other methods on the same stars"), paragraph(METHOD_TEXT)]
        how = {key: card[key] for key in ("inputs", "order", "smooth", "seed", "true_scale")}
        how["methods"] = [m for m in METHODS if m != "symbolic" or find_spec("pyoperon")]
        for name in shown_progress(iter(names), len(names), "methods", slow=True):
            found = compare_methods(shared, name, **how)
            blocks.append(_methods(name, found, str(card["method"])))
    return write_page(path, "A homogenised catalogue", blocks)


TRENDS = (
    "reference less target before (grey) and after (blue), for stars that were not learnt from; "
    "medians of bins with the same number of stars, and where 68 per cent of them are"
)
TRUE_SCALE = (
    "The true scale was asked for, not what the reference would say: with labels of the target, "
    "which have noise, differences keep the slopes that noise gives them."
)
HAT = "three catalogues"
METHOD_TEXT = (
    "Trends are medians of ten bins along each input: the largest, and their root mean square, "
    "which would be that of none if there were nothing but noise. Pulls are differences over "
    "stated uncertainties of both. Flagged stars are at the edge of the shared ones or beyond."
)


def _unseen(shared: Shared, correction: Correction) -> tuple[Labels, Labels, Labels, NDArray]:
    """A quarter of the shared stars: before, after and reference, and their inputs."""
    aside = kept_aside(shared, correction.card["seed"])

    def extra(rows: NDArray) -> Mapping[str, NDArray]:
        return {key: values[rows] for key, values in shared.extra.items()}

    card = correction.card
    keys = ("method", "order", "smooth", "inputs", "seed", "true_scale")
    how = {key: card[key] for key in keys}
    fit = fit_correction(
        shared.target.take(~aside), shared.reference.take(~aside), correction.names,
        extra=extra(~aside), **how,
    )  # fmt: skip
    target, reference = shared.target.take(aside), shared.reference.take(aside)
    points = input_values(tuple(card["inputs"]), target, extra(aside))
    return target, fit.apply(target, extra(aside)).labels, reference, points


def _trends(
    name: str, columns: Sequence[str], unseen: tuple[Labels, Labels, Labels, NDArray]
) -> Figure:
    before, after, reference, points = unseen
    figure = Figure(figsize=(3.4 * len(columns), 3.0), layout="constrained")
    axes = figure.subplots(1, len(columns), sharey=True, squeeze=False)[0]
    for labels, colour in ((before, BEFORE), (after, AFTER)):
        lines = trends(columns, points, reference[name] - labels[name])
        for axis, line in zip(axes, lines, strict=True):
            _band(axis, line, colour)
    for axis, column in zip(axes, columns, strict=True):
        axis.axhline(0.0, color="k", lw=0.8)
        axis.set_xlabel(axis_name(column) if column in LABELS else column)
        axis.grid(alpha=0.25)
    axes[0].set_ylabel(f"difference of {axis_name(name)}")
    return figure


def _band(axis: Axes, line: Trend, colour: str) -> None:
    axis.fill_between(line.at, line.low, line.high, color=colour, alpha=0.25, lw=0)
    axis.plot(line.at, line.middle, "o-", color=colour, ms=3.5, lw=1.2)


def _coverage(done: Homogenised) -> list[str]:
    """A table of how many rows are covered, and a map of the inputs."""
    rows = []
    total = max(1, done.counts["rows"])
    for name, counts in done.counts["labels"].items():
        cells = [f"{counts[k]:,} ({100 * counts[k] / total:.1f} %)" for k in ("covered", "edge")]
        rows.append([axis_name(name), *cells, f"{counts['outside']:,} "
                     f"({100 * counts['outside'] / total:.1f} %)"])  # fmt: skip
    blocks = [table_block(("label", "covered", "at the edge", "outside"), rows)]
    figure = _map(done)
    if figure is not None:
        blocks.append(
            figure_block(
                figure,
                "Rows of the target in a plane that keeps neighbours together (UMAP of the "
                "inputs): shared stars, and the coverage of the others",
            )
        )
    return blocks


def _map(done: Homogenised) -> Figure | None:
    import umap

    correction, table = done.correction, done.table
    one = correction.labels[correction.names[0]]
    names = tuple(n for n in one.inputs.names if n in LABELS)
    others = [n for n in one.inputs.names if n not in names]
    rng = np.random.default_rng(SEED)
    rows = np.sort(rng.permutation(len(table))[:MAPPED])
    found = table.read(names, others, rows, rows.astype(str))
    points = input_values(one.inputs.names, found.labels, found.extra)
    use = np.isfinite(points).all(axis=1)
    scaled = one.inputs.scaled(points[use])
    if len(scaled) < 100:
        return None
    shared = one.support.points[rng.permutation(len(one.support.points))[:MAPPED]]
    place = umap.UMAP(random_state=SEED, n_jobs=1).fit_transform(np.vstack([scaled, shared]))
    coverage = one.at(points[use])[2]
    figure = Figure(figsize=(9.6, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2, sharex=True, sharey=True)
    here = place[: len(scaled)]
    left.scatter(*place[len(scaled) :].T, s=4, color=AFTER, linewidths=0)
    left.set_title(f"{len(shared):,} shared stars", fontsize=11)
    drawn = right.scatter(*here.T, s=4, c=coverage, vmin=0, vmax=1, cmap="viridis", linewidths=0)
    right.set_title(f"{len(scaled):,} rows of the target", fontsize=11)
    figure.colorbar(drawn, ax=right, label=f"coverage of {axis_name(correction.names[0])}")
    for axis in (left, right):
        axis.set(xticks=[], yticks=[])
    return figure


def _functions(correction: Correction) -> str:
    rows = []
    moved = any(one.inputs.theirs.any() for one in correction.labels.values())
    for name, one in correction.labels.items():
        scaled = [
            f"x{i} = ({'5040 K / Teff' if n == 'teff' else n} − {c:.4g}) / {w:.3g}"
            + (f" ({100 * t:.0f} %)" if t else "")
            for i, (n, c, w, t) in enumerate(
                zip(
                    one.inputs.names, one.inputs.centre, one.inputs.width, one.inputs.theirs,
                    strict=True,
                )
            )
        ]  # fmt: skip
        plane = " + ".join(
            [f"{one.curve.plane.coefficients[0]:.3g}"]
            + [f"{c:.3g} x{i}" for i, c in enumerate(one.curve.plane.coefficients[1:])]
        )
        rows.append(
            [axis_name(name), f"{one.zero:+.4g}", f"{one.spread:.4g}", plane, one.curve.bend.text,
             "; ".join(scaled)]
        )  # fmt: skip
    return table_block(
        ("label", "median difference", "unit", "plane", "bend", "inputs"),
        rows,
        "Correction = median difference + unit × (plane + coverage × bend)"
        + ("; inputs are moved by so much of their own corrections" if moved else ""),
    )


def _errors(card: Mapping[str, Any]) -> list[str]:
    repeats, others = card["target_repeats"], card["target_errors"]
    of_hat = {name: one for name, one in others.items() if name not in repeats}
    found = [("target", "repeats", repeats), ("target", HAT, of_hat)]
    for name in card["references"]:
        notes = card.get(name, card)
        found.append((name, "repeats", notes["reference_repeats"]))
        found.append((name, HAT, notes.get("hat", {})))
    rows = [
        [which, axis_name(name), source, f"{factor:.2f}", f"{floor:.3g}"]
        for which, source, errors in found
        for name, (factor, floor) in errors.items()
    ]
    if not rows:
        return [paragraph("Neither repeats nor a third catalogue say what errors are.")]
    head = ("catalogue", "label", "from", "factor of stated errors", "added in quadrature")
    return [table_block(head, rows, "Errors as repeated rows of stars tell them, or a hat")]


def _methods(name: str, found: Sequence[Judged], chosen: str) -> str:
    digits = 1 if LABELS[name].unit == "K" else 4
    rows = []
    for one in found:
        rows.append(
            [one.method, str(one.stars), f"{one.bias:+.{digits}f}"]
            + [f"{x:.{digits}f}" for x in (one.scatter, one.rmse, one.trend_max, one.trend_rms)]
            + [f"{one.noise:.{digits}f}", _number(one.pulls), f"{100 * one.flagged:.1f} %"]
            + [_number(one.worse), f"{one.seconds:.1f}"]
        )
    classes = ["own" if one.method == chosen else "" for one in found]
    return table_block(HEAD, rows, axis_name(name), classes=classes)


def _number(value: float) -> str:
    return f"{value:.2f}" if np.isfinite(value) else "–"
