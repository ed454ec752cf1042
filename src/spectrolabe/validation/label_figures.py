"""Figures of many labels at once: a small panel for each, or a line for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from spectrolabe.labels import LABELS, Labels
from spectrolabe.validation.beside import Truth
from spectrolabe.validation.catalogue_rows import Rows
from spectrolabe.validation.cluster_spread import Members
from spectrolabe.validation.criteria import CRITERIA
from spectrolabe.validation.figures import OTHER, POINT, axis_name, colour_of, short_name
from spectrolabe.validation.recovered import BINS, Recovered, pulls

__all__ = [
    "AT_MOST",
    "cluster_trends",
    "distributions",
    "intervals",
    "kiel",
    "lines",
    "pit_histograms",
    "planes",
    "pull_histograms",
    "true_against_found",
]

SHOWN = 2500  # rows drawn in a scatter, of one panel
AT_MOST = f"Of more than {SHOWN:,} rows a sample is drawn."
COLUMNS = 5
DOT: dict[str, Any] = {**POINT, "s": 3.5}
WIDTH = 11.0  # inches
PULLS = np.linspace(-5.0, 5.0, 41).tolist()
SERIES = ("#1f618d", "#c0392b", "#117a65", "#d68910", "#6c3483", "#7b5141", "#444444", "#2e86c1")
Draw = Callable[[Axes, str], bool]


def _panels(names: Sequence[str], draw: Draw, height: float = 1.85) -> Figure:
    """Draw a panel for each label; one that `draw` has nothing for says so."""
    rows = -(-len(names) // COLUMNS)
    figure = Figure(figsize=(WIDTH, height * rows + 0.35), layout="constrained")
    axes = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
    for ax, name in zip(axes, names, strict=False):
        if not draw(ax, name):
            ax.text(0.5, 0.5, "none", transform=ax.transAxes, ha="center", color="0.5")
            ax.set(xticks=[], yticks=[])
        ax.set_title(axis_name(name), fontsize=10, pad=3)
        ax.tick_params(labelsize=8)
    for ax in axes[len(names) :]:
        ax.set_visible(False)
    return figure


def _legend(figure: Figure, surveys: Sequence[str]) -> None:
    """Name the surveys above all panels."""
    handles = [Line2D([], [], color=_colour(one, surveys), lw=3) for one in surveys]
    figure.legend(
        handles, surveys, loc="outside upper center", ncols=min(6, len(surveys)), fontsize=9
    )


def _colour(survey: str, surveys: Sequence[str]) -> str:
    """The colour of a survey, another for each that has none of its own."""
    known = colour_of(survey)
    others = [one for one in surveys if colour_of(one) == OTHER]
    return (
        known
        if known != OTHER
        else ("#444444", "#e67e99", "#5d8a2b", "#8e9aaf")[others.index(survey) % 4]
    )


def _some(use: NDArray) -> NDArray:
    """Rows to draw, all or a sample of many, mixed so that no survey hides the others."""
    return np.random.default_rng(0).permutation(np.flatnonzero(use))[:SHOWN]


def _limits(values: NDArray, edge: float = 0.06) -> tuple[float, float]:
    """Range of all but the farthest of many values, with a margin."""
    few = 0.5 / max(len(values), 1)
    low, high = np.quantile(values, [max(0.001 - few, 0.0), min(0.999 + few, 1.0)])
    margin = edge * (high - low) or 0.5
    return float(low - margin), float(high + margin)


def distributions(rows: Rows) -> Figure:
    """Draw a histogram of each label, a line for each survey."""

    def draw(ax: Axes, name: str) -> bool:
        use = ~rows.bad & np.isfinite(rows.labels[name])
        if not use.any():
            return False
        edges = np.linspace(*_limits(rows.labels[name][use], 0.02), 26).tolist()
        for survey in rows.surveys:
            here = rows.labels[name][use & (rows.survey == survey)]
            ax.hist(here, edges, color=_colour(survey, rows.surveys), histtype="step", lw=1.1)
        ax.set_yticks([])
        return True

    figure = _panels(rows.names, draw)
    _legend(figure, rows.surveys)
    return figure


def kiel(rows: Rows, truth: Truth | None) -> Figure:
    """Draw log g against Teff for each survey, what is true below what was found."""
    what: dict[str, Labels] = {"catalogue": rows.labels}
    if truth is not None and {"teff", "logg"} <= set(truth.labels.names):
        what["truth"] = truth.labels
    columns = max(2, min(4, len(rows.surveys)))
    blocks = -(-len(rows.surveys) // columns)
    figure = Figure(figsize=(WIDTH, 2.9 * blocks * len(what) + 0.4), layout="constrained")
    axes = figure.subplots(blocks * len(what), columns, sharex=True, sharey=True, squeeze=False)
    metal = next((n for n in ("fe_h", "m_h") if n in rows.names), None)
    known = ~rows.bad & np.isfinite(rows.labels["teff"]) & np.isfinite(rows.labels["logg"])
    drawn = None
    for ax in axes.ravel():
        ax.set_visible(False)
    for k, survey in enumerate(rows.surveys):
        here = _some(known & (rows.survey == survey))
        for j, (title, labels) in enumerate(what.items()):
            ax = axes[(k // columns) * len(what) + j, k % columns]
            ax.set_visible(True)
            colour = rows.labels[metal][here] if metal else np.zeros(len(here))
            drawn = ax.scatter(
                labels["teff"][here], labels["logg"][here], c=colour, vmin=-1.2, vmax=0.4,
                cmap="viridis", **POINT,
            )  # fmt: skip
            ax.set_title(f"{survey}: {title}", fontsize=10)
            ax.grid(alpha=0.25)
            ax.tick_params(labelbottom=True, labelleft=True, labelsize=8)
    if known.any():
        axes[0, 0].set_xlim(_limits(rows.labels["teff"][known])[::-1])
        axes[0, 0].set_ylim(_limits(rows.labels["logg"][known])[::-1])
    figure.supxlabel(axis_name("teff"), fontsize=10)
    figure.supylabel(axis_name("logg"), fontsize=10)
    if metal and drawn is not None:
        figure.colorbar(drawn, ax=axes, label=axis_name(metal), shrink=0.7)
    return figure


def planes(rows: Rows, names: Sequence[str], metal: str) -> Figure:
    """Draw abundance ratios against metallicity, a panel each."""

    def draw(ax: Axes, name: str) -> bool:
        use = ~rows.bad & np.isfinite(rows.labels[name]) & np.isfinite(rows.labels[metal])
        if not use.any():
            return False
        here = _some(use)
        ax.scatter(
            rows.labels[metal][here], rows.labels[name][here],
            c=[_colour(s, rows.surveys) for s in rows.survey[here]], **DOT,
        )  # fmt: skip
        ax.axhline(0.0, color="0.6", lw=0.6)
        ax.set_ylim(_limits(rows.labels[name][use]))
        ax.set_xlim(_limits(rows.labels[metal][~rows.bad & np.isfinite(rows.labels[metal])]))
        ax.grid(alpha=0.25)
        return True

    figure = _panels(names, draw)
    figure.supxlabel(axis_name(metal), fontsize=10)
    _legend(figure, rows.surveys)
    return figure


def true_against_found(rows: Rows, truth: Truth, numbers: Sequence[Recovered]) -> Figure:
    """Draw each label against the truth; rows flagged as bad are grey crosses."""
    by_label = {one.label: one for one in numbers}

    def draw(ax: Axes, name: str) -> bool:
        true, found = truth.labels[name], rows.labels[name]
        both = np.isfinite(true) & np.isfinite(found)
        if not (both & ~rows.bad).any():
            return False
        drawn = _some(both)  # in one sample, so that bad rows are no larger a share than they are
        bad, good = drawn[rows.bad[drawn]], drawn[~rows.bad[drawn]]
        ax.scatter(true[bad], found[bad], s=8, marker="x", lw=0.6, color="0.6")
        colours = [_colour(s, rows.surveys) for s in rows.survey[good]]
        ax.scatter(true[good], found[good], c=colours, **DOT)
        low, high = _limits(np.r_[true[both], found[both & ~rows.bad]])
        ax.plot([low, high], [low, high], color="black", lw=0.8)
        ax.set(xlim=(low, high), ylim=(low, high))
        digits = 0 if by_label[name].unit == "K" else 2
        text = f"{by_label[name].bias:+.{digits}f} ± {by_label[name].mad:.{digits}f}"
        ax.text(
            0.04, 0.96, text, transform=ax.transAxes, va="top", fontsize=8,
            bbox={"facecolor": "white", "alpha": 0.7, "lw": 0, "pad": 1},
        )  # fmt: skip
        ax.grid(alpha=0.25)
        return True

    figure = _panels(truth.labels.names, draw, 2.1)
    figure.supxlabel("truth", fontsize=10)
    figure.supylabel("catalogue", fontsize=10)
    _legend(figure, rows.surveys)
    return figure


def pull_histograms(rows: Rows, truth: Truth, numbers: Sequence[Recovered]) -> Figure:
    """Draw how pulls are distributed, with the normal that they should follow."""
    by_label = {one.label: one for one in numbers}
    middle = 0.5 * np.add(PULLS[1:], PULLS[:-1])
    normal = np.exp(-0.5 * middle**2) / np.sqrt(2.0 * np.pi)

    def draw(ax: Axes, name: str) -> bool:
        pull = pulls(rows, truth, name)[0][~rows.bad]
        pull = pull[np.isfinite(pull)]
        if not len(pull):
            return False
        ax.hist(
            np.clip(pull, PULLS[0], PULLS[-1]), PULLS, density=True, color="#1f618d", alpha=0.55
        )
        ax.plot(middle, normal, color="black", lw=0.9)
        ax.set(xlim=(PULLS[0], PULLS[-1]), yticks=[])
        text = f"width\n{by_label[name].pull_width:.2f}"
        ax.text(0.04, 0.95, text, transform=ax.transAxes, va="top", fontsize=8)
        return True

    figure = _panels(truth.labels.names, draw)
    figure.supxlabel("(catalogue − truth) / error", fontsize=10)
    return figure


def pit_histograms(numbers: Sequence[Recovered]) -> Figure:
    """Draw the probability integral transform of each label, and what chance does to a flat one."""
    by_label = {one.label: one for one in numbers}
    edges = np.linspace(0.0, 1.0, BINS + 1)

    def draw(ax: Axes, name: str) -> bool:
        one = by_label[name]
        if not sum(one.pit):
            return False
        share = np.array(one.pit) / sum(one.pit) * BINS
        # rows of a star are not independent: chance is that of so many stars
        chance = np.sqrt(BINS / one.stars)
        ax.stairs(share, edges, fill=True, color="#1f618d", alpha=0.55)
        ax.axhspan(max(0.0, 1 - 2 * chance), 1 + 2 * chance, color="0.3", alpha=0.15, lw=0)
        ax.axhline(1.0, color="black", lw=0.9)
        ax.set(xlim=(0, 1), yticks=[], xticks=[0, 0.5, 1], ylim=(0, max(2.2, 1.1 * share.max())))
        return True

    figure = _panels([one.label for one in numbers], draw)
    figure.supxlabel("stated probability of a value below the truth", fontsize=10)
    return figure


def intervals(numbers: Sequence[Recovered]) -> Figure:
    """Draw which share of true values is in the central 50, 68 and 95 per cent."""
    series = {
        f"{part} %": {one.label: (getattr(one, f"coverage_{part}"), 0.0) for one in numbers}
        for part in (50, 68, 95)
    }
    figure = _line_figure([one.label for one in numbers], series, "share of true values inside")
    ax = figure.axes[0]
    for part, colour in zip((0.5, 0.68, 0.95), SERIES, strict=False):
        ax.axvline(part, color=colour, lw=1.0, alpha=0.7)
    ax.set_xlim(0.0, 1.02)
    return figure


def lines(
    series: Mapping[str, Mapping[str, tuple[float, float]]],
    criterion: str,
    title: str,
    limit: float,
) -> Figure:
    """Draw a number of each label with its error on a line of its own, over what passes and warns.

    Parameters
    ----------
    series : mapping of str to mapping of str to (value, error)
        By series, then label.
    criterion : str
        Key of `CRITERIA`.
    title : str
        Of the axis.
    limit : float
        Where the axis ends at most; values beyond are drawn at its end.
    """
    series = {key: one for key, one in series.items() if one}
    names = [name for name in LABELS if any(name in one for one in series.values())]
    figure = _line_figure(names, series, title, limit)
    ax, rule = figure.axes[0], CRITERIA[criterion]
    low, high = ax.get_xlim()
    for inside, alpha in ((rule.warns, 0.10), (rule.passes, 0.22)):
        ax.axvspan(max(low, inside[0]), min(high, inside[1]), color="#2e8b57", alpha=alpha, lw=0)
    ax.set_xlim(low, high)
    return figure


def _line_figure(
    names: Sequence[str],
    series: Mapping[str, Mapping[str, tuple[float, float]]],
    title: str,
    limit: float = np.inf,
) -> Figure:
    figure = Figure(figsize=(WIDTH, 1.5 + 0.26 * len(names)), layout="constrained")
    ax = figure.subplots()
    apart = np.linspace(-0.28, 0.28, len(series)) if len(series) > 1 else [0.0]
    for (key, values), shift, i in zip(series.items(), apart, range(len(series)), strict=True):
        colour = colour_of(key) if colour_of(key) != OTHER else SERIES[i % len(SERIES)]
        colour = OTHER if key == "all" else colour
        known = [
            (k, *values[n]) for k, n in enumerate(names) if np.isfinite(values.get(n, (np.nan,))[0])
        ]
        place, value, error = np.array(known, dtype=float).reshape(-1, 3).T
        at = np.clip(value, -limit, limit)
        ax.errorbar(
            at,
            place + shift,
            xerr=np.nan_to_num(error),
            fmt="o",
            ms=4.5,
            lw=1.0,
            color=colour,
            label=key,
        )
        beyond = np.abs(value) > limit
        ax.plot(at[beyond], (place + shift)[beyond], "x", color=colour, ms=9)
    ax.set_yticks(range(len(names)), [short_name(n) for n in names])
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.set_xlabel(title)
    ax.grid(alpha=0.25)
    if np.isfinite(limit):
        low, high = ax.get_xlim()
        ax.set_xlim(max(low, -1.05 * limit), min(high, 1.05 * limit))
    if len(series) > 1:
        figure.legend(loc="outside upper center", ncols=4, fontsize=9)
    return figure


def cluster_trends(members: Mapping[str, Members], slopes: Mapping[str, float]) -> Figure:
    """Draw members of clusters less the mean of their cluster against Teff."""

    def draw(ax: Axes, name: str) -> bool:
        one = members[name]
        if not np.isfinite(one.teff).any():
            return False
        away, _ = one.centred()
        for k in range(len(one.names)):
            here = one.group == k
            ax.errorbar(
                one.teff[here], away[here], yerr=one.sigma[here], fmt="o", ms=2.5, lw=0.5,
                color=SERIES[k % len(SERIES)], alpha=0.7,
            )  # fmt: skip
        ax.axhline(0.0, color="0.6", lw=0.6)
        ends = np.array([np.nanmin(one.teff), np.nanmax(one.teff)])
        ax.plot(
            ends, slopes[name] * (ends - np.nanmedian(one.teff)) / 1000.0, color="black", lw=1.2
        )
        ax.set_ylim(_limits(away, 0.2))
        ax.invert_xaxis()
        ax.grid(alpha=0.25)
        return True

    figure = _panels(list(members), draw, 2.0)
    figure.supxlabel(axis_name("teff"), fontsize=10)
    figure.supylabel("less the mean of the cluster [dex]", fontsize=10)
    return figure
