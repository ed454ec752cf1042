"""Figures of estimated against true labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter
from numpy.typing import NDArray

from spectrolabe.labels import LABELS, Labels
from spectrolabe.validation.metrics import mad

__all__ = ["one_to_one", "pulls", "residuals"]

DOT, EDGE, LINE = "#1f6fa8", "#b0b0b0", "#c8402f"
STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.constrained_layout.use": True,
    "legend.frameon": False,
    "legend.fontsize": 8,
}
PANEL = 3.1  # inches
FEWEST = 8  # stars in a bin of the running median


def _name(label: str) -> str:
    entry = LABELS[label]
    return f"{entry.latex} [{entry.unit}]"


def _save(figure: plt.Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def _limits(*arrays: NDArray) -> tuple[float, float]:
    """All values with a margin: nothing is cut off."""
    values = np.concatenate([array[np.isfinite(array)] for array in arrays])
    low, high = values.min(), values.max()
    return low - 0.04 * (high - low), high + 0.04 * (high - low)


def one_to_one(
    path: Path,
    truth: Labels,
    estimate: Labels,
    main: NDArray,
    *,
    truth_name: str,
    names: tuple[str, str],
) -> None:
    """Estimate against truth with error bars, a panel a label, every star shown.

    Parameters
    ----------
    path : Path
    truth, estimate : Labels
        N stars.
    main : ndarray, shape (N,), bool
        Stars drawn filled; the others are drawn open.
    truth_name : str
        For the axis.
    names : (str, str)
        What the filled and the open points are.
    """
    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(1, len(truth.names), figsize=(3 * PANEL, PANEL + 0.2))
        for axes, name in zip(panels, truth.names, strict=True):
            x, y = truth[name], estimate[name]
            error = estimate.sigma[:, estimate.index([name])[0]]
            true_error = truth.sigma[:, truth.index([name])[0]]
            for rows, face, words in ((~main, "white", names[1]), (main, DOT, names[0])):
                if not rows.any():
                    continue
                has_error = np.isfinite(true_error).any()
                axes.errorbar(
                    x[rows],
                    y[rows],
                    error[rows],
                    true_error[rows] if has_error else None,
                    fmt="o",
                    ms=3.2,
                    mfc=face,
                    mec=DOT if face == DOT else "#808080",
                    mew=0.6,
                    ecolor=EDGE,
                    elinewidth=0.5,
                    label=f"{words} ({rows.sum()})",
                )
            ends = _limits(x, y)
            axes.plot(ends, ends, color=LINE, lw=1, zorder=3)
            axes.set(xlim=ends, ylim=ends, aspect="equal")
            axes.set(xlabel=f"{truth_name} {_name(name)}", ylabel=f"Spectrolabe {_name(name)}")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
        _save(figure, path)


def _running(axes: Axes, x: NDArray, y: NDArray) -> None:
    """Median and 1.4826 MAD in bins of equal numbers of stars, at the median of each."""
    order = np.argsort(x)
    bins = np.array_split(order, max(1, min(8, len(x) // FEWEST)))
    centre = np.array([np.median(x[b]) for b in bins])
    middle = np.array([np.median(y[b]) for b in bins])
    spread = np.array([mad(y[b]) for b in bins])
    axes.fill_between(centre, middle - spread, middle + spread, color=LINE, alpha=0.18, lw=0)
    axes.plot(centre, middle, "-o", color=LINE, lw=1.4, ms=3, label="running median ± 1.4826 MAD")


def _logarithmic(axes: Axes, x: NDArray) -> None:
    """A logarithmic axis with a few plain numbers."""
    axes.set_xscale("log")
    ticks = [t for t in (1, 3, 10, 30, 100, 300, 1000, 3000) if 0.9 * x.min() <= t <= 1.1 * x.max()]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def residuals(
    path: Path,
    truth: Labels,
    estimate: Labels,
    against: Mapping[str, NDArray],
    *,
    truth_name: str,
    logarithmic: Sequence[str] = (),
) -> None:
    """Residuals against quantities; those beyond a panel are arrows at its edge.

    Parameters
    ----------
    path : Path
    truth, estimate : Labels
        N stars.
    against : Mapping of str to ndarray, shape (N,)
        Quantities by the text of their axis, one column each.
    truth_name : str
    logarithmic : sequence of str
        Quantities shown on a logarithmic axis.
    """
    with plt.rc_context(STYLE):
        shape = (len(truth.names), len(against))
        size = (PANEL * shape[1], 0.68 * PANEL * shape[0])
        figure, panels = plt.subplots(*shape, figsize=size, sharex="col", sharey="row")
        for i, name in enumerate(truth.names):
            residual = estimate[name] - truth[name]
            known = residual[np.isfinite(residual)]
            edge = 1.1 * max(5 * mad(known), np.quantile(np.abs(known), 0.95))
            for axes, (title, quantity) in zip(panels[i], against.items(), strict=True):
                use = np.isfinite(residual) & np.isfinite(quantity)
                x, y = quantity[use], residual[use]
                far = np.abs(y) > edge
                axes.plot(x[~far], y[~far], "o", ms=2.6, color=DOT, alpha=0.6, mew=0)
                for marker, rows in (("^", y > edge), ("v", y < -edge)):
                    axes.plot(
                        x[rows], np.sign(y[rows]) * 0.97 * edge, marker, ms=4, mfc="none", mec=DOT
                    )
                axes.axhline(0.0, color="0.4", lw=0.8)
                _running(axes, x, y)
                axes.set_ylim(-edge, edge)
                if title in logarithmic:
                    _logarithmic(axes, x)
                if i == len(truth.names) - 1:
                    axes.set_xlabel(title)
            panels[i][0].set_ylabel(f"Δ {_name(name)}")
        figure.suptitle(f"Spectrolabe − {truth_name}; arrows: beyond the panel", fontsize=9)
        panels[0][0].legend(loc="upper right")
        _save(figure, path)


def pulls(path: Path, pull: NDArray, names: Sequence[str]) -> None:
    """Histograms of residual / sigma with the unit normal.

    Parameters
    ----------
    path : Path
    pull : ndarray, shape (N, L)
    names : sequence of str
    """
    edges = np.arange(-5.0, 5.01, 0.5)
    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(
            1, len(names), figsize=(3 * PANEL, 0.9 * PANEL), sharex=True, sharey=True
        )
        x = np.linspace(-5, 5, 300)
        normal = np.exp(-0.5 * x**2) / np.sqrt(2 * np.pi)
        for j, (axes, name) in enumerate(zip(panels, names, strict=True)):
            values = pull[np.isfinite(pull[:, j]), j]
            inside = values[np.abs(values) < 5]
            density = np.histogram(inside, edges)[0] / (0.5 * len(values))
            axes.stairs(density, edges, fill=True, color=DOT, alpha=0.55)
            axes.plot(x, normal, color=LINE, lw=1.4, label="unit normal")
            axes.set(xlabel=f"Δ / σ of {LABELS[name].latex}", xlim=(-5, 5))
            axes.set_title(
                f"median {np.median(values):+.2f}, width {mad(values):.2f}, "
                f"{len(values) - len(inside)} of {len(values)} beyond 5",
                fontsize=8,
            )
        panels[0].set_ylabel("stars per unit Δ / σ, normalised")
        panels[0].legend(loc="upper left", handlelength=1.2)
        _save(figure, path)
