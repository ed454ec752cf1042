"""The figure of a fit: model over data, residuals, and the lines that drive each label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter1d

from spectrolabe.inference.fit_spectra import FittedSpectrum
from spectrolabe.labels import LABELS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.gridspec import SubplotSpec

__all__ = ["Head", "Line", "driving_lines", "plot_fit"]

AXIS = "wavelength in vacuum, in the frame of the star [Å]; panels: flux / continuum"
WIDTH, DPI = 12.0, 100  # inches, pixels per inch: 1200 pixels
DATA, MODEL, RESIDUAL, CHANGE, UNUSED = "#444444", "#d1495b", "#1f4e79", "#e9a820", "#b0b7bf"
PIECE = 700  # resolution elements of one row of the overview
ROWS = 8  # rows of the overview
COLUMNS, PANELS, EACH = 4, 28, 3  # of the panels of lines, and the most of one abundance
LEAST = 1e-3  # share of a line; what says less is none
NAMED, WEAK = 6, 0.02  # lines of a label that are named; the least share of one that is shown
REACH = 7.0  # half width of a panel, in FWHM
GAP = 5.0  # a step this many times the median one is a gap
LETTER = 0.0045  # half the width of a letter above a line, of the row's width
SIGMAS = 6.0  # limit of the residuals
STEPS = {"teff": 200.0, "logg": 0.3, "fe_h": 0.2, "v_micro": 0.5, "v_broad": 5.0}
STRUCTURAL = ("teff", "logg", "fe_h", "v_micro")
STEP = 0.2  # dex, of all other labels


class Head(NamedTuple):
    """The head of the page.

    Parameters
    ----------
    star, about : str
        Its name, and what else is to be said of it.
    flags : sequence of str
        Names of the flags that are set.
    """

    star: str
    about: str = ""
    flags: Sequence[str] = ()


@dataclass(frozen=True)
class Line:
    """A stretch of a spectrum that says what a label is.

    Parameters
    ----------
    label : str
    spectrum : int
        Which of the star's spectra.
    wavelength : float
        Of its centre, vacuum Angstrom at rest.
    fwhm : float
        Angstrom, of the spectrograph.
    share : float
        Part of all that the star's spectra say of the label.
    """

    label: str
    spectrum: int
    wavelength: float
    fwhm: float
    share: float


def driving_lines(
    fitted: Sequence[FittedSpectrum], slopes: Sequence[NDArray], names: Sequence[str], most: int
) -> list[Line]:
    """Return the stretches of the spectra that say most of each label.

    Parameters
    ----------
    fitted : sequence of FittedSpectrum
    slopes : sequence of ndarray, shape (J, M)
        Change of each model with each label, in the units of its flux.
    names : sequence of str
        J labels.
    most : int
        Lines of one label.

    Returns
    -------
    list of Line
        By label, and of each the strongest first. What a stretch says is the sum of
        slope^2 / variance over one resolution element on either side of its centre: the inverse
        variance of the label if all others were known.
    """
    lines = []
    fwhm = [_fwhm(one) for one in fitted]
    for j, name in enumerate(names):
        told = [_told(one, s[j]) for one, s in zip(fitted, slopes, strict=True)]
        total = sum(float(t.sum()) for t in told)
        if total <= 0:
            continue
        found = []
        for i, (one, says) in enumerate(zip(fitted, told, strict=True)):
            found += [
                Line(name, i, float(one.rest_wavelength[k]), float(fwhm[i][k]), part / total)
                for k, part in _peaks(one.rest_wavelength, says, fwhm[i], most)
                if part > LEAST * total
            ]
        found.sort(key=lambda line: -line.share)
        lines += found[:most]
    return lines


def _told(one: FittedSpectrum, slope: NDArray) -> NDArray:
    """What every pixel says of a label: its inverse variance if all others were known."""
    sigma = np.where(one.used, one.sigma, np.inf)
    return np.nan_to_num((slope / sigma) ** 2)


def _fwhm(one: FittedSpectrum) -> NDArray:
    return np.broadcast_to(one.rest_wavelength / one.spectrum.resolution, one.used.shape)


def _peaks(wavelength: NDArray, says: NDArray, fwhm: NDArray, most: int) -> list[tuple[int, float]]:
    """Centres and sums of the strongest stretches, one FWHM to either side."""
    pixels = max(3, 2 * round(float(np.median(fwhm / np.gradient(wavelength)))) + 1)
    level = uniform_filter1d(says, min(pixels, says.size), mode="constant")
    left, peaks = says.copy(), []
    for _ in range(most):
        k = int(np.argmax(level))
        inside = np.abs(wavelength - wavelength[k]) <= fwhm[k]
        part = float(left[inside].sum())
        if part <= 0:
            break
        # the centre of what is said, not of the window
        centre = float(np.average(wavelength[inside], weights=left[inside]))
        peaks.append((int(np.argmin(np.abs(wavelength - centre))), part))
        near = np.abs(wavelength - wavelength[k]) <= 3.0 * fwhm[k]
        left[inside] = 0.0
        level[near] = 0.0
    return peaks


def plot_fit(
    path: str | Path | None,
    fitted: Sequence[FittedSpectrum],
    slopes: Sequence[NDArray],
    names: Sequence[str],
    values: NDArray,
    sigma: NDArray,
    head: Head,
) -> Figure:
    """Draw a fit, 1200 pixels wide.

    Parameters
    ----------
    path : str or Path, optional
        PNG to write.
    fitted : sequence of FittedSpectrum
        All spectra of one star.
    slopes : sequence of ndarray, shape (J, M)
        Change of each model with each label, in the units of its flux.
    names : sequence of str
        J labels.
    values, sigma : ndarray, shape (J,)
        NaN where the spectra say nothing; such labels have no panel.
    head : Head
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = [j for j in range(len(names)) if np.isfinite(values[j])]
    lines = driving_lines(fitted, [s[shown] for s in slopes], [names[j] for j in shown], NAMED)
    panels = _chosen(lines)
    pieces = [piece for i, one in enumerate(fitted) for piece in _pieces(i, one)]
    rows, below = min(len(pieces), ROWS), -(-len(panels) // COLUMNS)
    heights = [0.85, (2.2 if rows > 2 else 3.0) * rows, 0.55, 1.65 * below]
    figure = Figure(figsize=(WIDTH, sum(heights) + 0.45), dpi=DPI)
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(
        4, 1, height_ratios=[max(h, 1e-3) for h in heights], hspace=0.0,
        left=0.05, right=0.985, top=1.0, bottom=0.45 / (sum(heights) + 0.45),
    )  # fmt: skip
    _text(figure.add_subplot(grid[0]), head, names, values, sigma, len(pieces) - rows)
    stack = grid[1].subgridspec(max(rows, 1), 1, hspace=0.24)
    for row, (i, piece) in enumerate(pieces[:rows]):
        here = [line for line in lines if line.spectrum == i]
        _overview(figure, stack[row], fitted[i], piece, here)
    if panels:
        cells = grid[3].subgridspec(below, COLUMNS, hspace=0.48, wspace=0.16)
        for k, line in enumerate(panels):
            j = list(names).index(line.label)
            ax = figure.add_subplot(cells[k // COLUMNS, k % COLUMNS])
            _panel(ax, fitted[line.spectrum], slopes[line.spectrum][j], line)
            ax.set_title(_caption(line, values[j], sigma[j]), fontsize=8, pad=3)
    figure.text(0.985, 0.008, AXIS, fontsize=8, ha="right")
    if path is not None:
        figure.savefig(path, dpi=DPI)
    return figure


def _chosen(lines: Sequence[Line]) -> list[Line]:
    """The lines that have a panel: more of each abundance the fewer there are."""
    count = Counter[str]()
    elements = {line.label for line in lines} - set(STRUCTURAL)
    room = PANELS - len({line.label for line in lines} - elements)
    each = int(np.clip(room // max(len(elements), 1), 1, EACH))
    chosen = []
    for line in lines:
        count[line.label] += 1
        first = count[line.label] == 1
        if first or (line.label in elements and count[line.label] <= each and line.share > WEAK):
            chosen.append(line)
    return chosen


def _pieces(which: int, one: FittedSpectrum) -> list[tuple[int, slice]]:
    """Rows of the overview: without gaps, and with few enough resolution elements to be seen."""
    wave = one.rest_wavelength
    step = np.diff(wave)
    breaks = np.flatnonzero(step > np.maximum(GAP * np.median(step), 3.0 * _fwhm(one)[:-1])) + 1
    pieces = []
    for first, last in zip([0, *breaks], [*breaks, wave.size], strict=True):
        if not one.used[first:last].any():
            continue
        seen = first + np.flatnonzero(one.used[first:last])
        first, last = int(seen[0]), int(seen[-1]) + 1
        elements = (
            np.sum(np.gradient(wave[first:last]) / _fwhm(one)[first:last])
            if last - first > 1
            else 1
        )
        count = max(1, int(np.ceil(elements / PIECE)))
        log = np.log(wave[first:last])
        edges = first + np.searchsorted(log, np.linspace(log[0], log[-1], count + 1)[1:-1])
        pieces += [
            (which, slice(int(a), int(b)))
            for a, b in zip([first, *edges], [*edges, last], strict=True)
            if b - a > 1
        ]
    return pieces


def _text(
    ax: Axes,
    head: Head,
    names: Sequence[str],
    values: NDArray,
    sigma: NDArray,
    hidden: int,
) -> None:
    """The head of the page: which star, its labels, the key of the colours."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    ax.axis("off")
    put = partial(ax.text, va="center", transform=ax.transAxes)
    title = put(0.0, 0.86, head.star, fontsize=11, fontweight="bold")
    right: dict[str, Any] = {"xycoords": title, "va": "bottom", "fontsize": 9}
    about = ax.annotate(f"    {head.about}", (1.0, 0.0), **right)
    if head.flags:
        right["xycoords"] = about
        ax.annotate(f"    {', '.join(head.flags)}", (1.0, 0.0), color=MODEL, **right)
    found = {n: (v, s) for n, v, s in zip(names, values, sigma, strict=True) if np.isfinite(v)}
    parts = [_value(n, *found[n]) for n in STRUCTURAL if n in found]
    parts += [f"{hidden} pieces of spectrum not shown"] if hidden > 0 else []
    put(0.0, 0.62, "     ".join(parts), fontsize=9)
    lost = [_element(name) for name in names if name not in found]
    if lost:
        put(0.0, 0.39, f"No information on {', '.join(lost)}", fontsize=9, color="#666666")
    handles = [
        Line2D([], [], color=DATA, linewidth=1, label="data"),
        Line2D([], [], color=MODEL, linewidth=1.4, label="model"),
        Line2D([], [], color=RESIDUAL, linewidth=1, label="Δ = data − model, in σ"),
        Patch(
            color=CHANGE, alpha=0.45, label="model with the label ± 0.2 dex (200 K, 0.3 in log g)"
        ),
        Patch(color=UNUSED, alpha=0.5, label="not used"),
        Line2D([], [], color=MODEL, marker=".", linewidth=0, label="left out as an outlier"),
    ]
    ax.legend(
        handles=handles, loc="center left", bbox_to_anchor=(-0.006, 0.12), ncols=6, fontsize=8,
        frameon=False, borderpad=0.0,
    )  # fmt: skip


def _overview(
    figure: Figure, spec: SubplotSpec, one: FittedSpectrum, piece: slice, lines: Sequence[Line]
) -> None:
    """One stretch of spectrum: data and model, with the residuals below."""
    halves = spec.subgridspec(2, 1, height_ratios=[3, 1], hspace=0.0)
    top = figure.add_subplot(halves[0])
    wave, used = one.rest_wavelength[piece], one.used[piece]
    unit = _unit(one)
    flux = np.where(one.spectrum.good[piece], one.spectrum.flux[piece], np.nan) / unit
    model = one.model.flux[piece] / unit
    top.plot(wave, flux, color=DATA, linewidth=0.7, drawstyle="steps-mid")
    top.plot(wave, model, color=MODEL, linewidth=0.9)
    low, high = _limits(flux[used], model[used])
    top.set_ylim(low, high + 0.16 * (high - low))
    _name_lines(top, wave, lines)
    residual = one.residual[piece]
    bottom = figure.add_subplot(halves[1], sharex=top)
    bottom.plot(wave, np.where(used, residual, np.nan), color=RESIDUAL, linewidth=0.6)
    clipped = one.clipped[piece]
    bottom.plot(
        wave[clipped],
        np.clip(residual[clipped], -0.93 * SIGMAS, 0.93 * SIGMAS),
        ".",
        ms=2,
        color=MODEL,
    )
    bottom.axhline(0.0, color=DATA, linewidth=0.5)
    bottom.set_ylim(-SIGMAS, SIGMAS)
    bottom.set_yticks([-3, 0, 3])
    for ax in (top, bottom):
        _shade(ax, wave, used)
        ax.set_xlim(wave[0], wave[-1])
        ax.tick_params(labelsize=8, direction="in", top=ax is top, right=True)
    top.tick_params(labelbottom=False)
    top.set_ylabel("flux / median", fontsize=8)
    bottom.set_ylabel("Δ / σ", fontsize=8)


def _name_lines(ax: Axes, wave: NDArray, lines: Sequence[Line]) -> None:
    """Elements above their lines, the strongest first, none on top of another."""
    span = wave[-1] - wave[0]
    taken: list[tuple[float, int]] = []
    inside = [line for line in lines if wave[0] < line.wavelength < wave[-1] and line.share > WEAK]
    for line in sorted(inside, key=lambda line: -line.share):
        x = line.wavelength
        ax.plot([x, x], [0.845, 0.875], color=RESIDUAL, lw=0.8, transform=ax.get_xaxis_transform())
        size = len(_element(line.label))
        if any(abs(x - other) < LETTER * (size + long) * span for other, long in taken):
            continue
        taken.append((x, size))
        x = float(np.clip(x, wave[0] + 0.008 * span, wave[-1] - 0.008 * span))
        ax.text(
            x, 0.89, _element(line.label), fontsize=7.5, color=RESIDUAL, ha="center", va="bottom",
            transform=ax.get_xaxis_transform(),
        )  # fmt: skip


def _panel(ax: Axes, one: FittedSpectrum, slope: NDArray, line: Line) -> None:
    """One line: data and model divided by the continuum, and what the label would change."""
    reach = REACH * line.fwhm
    near = np.abs(one.rest_wavelength - line.wavelength) <= reach
    wave, used, good = one.rest_wavelength[near], one.used[near], one.spectrum.good[near]
    unit = one.model.continuum[near]
    flux = np.where(good, one.spectrum.flux[near], np.nan) / unit
    model, change = one.model.flux[near] / unit, _step(line.label) * slope[near] / unit
    ax.fill_between(wave, model - change, model + change, color=CHANGE, alpha=0.45, linewidth=0)
    error = np.where(used, one.sigma[near], np.nan) / unit
    ax.errorbar(
        wave, flux, error, fmt="o", ms=2.2, color=DATA, ecolor=DATA, elinewidth=0.6, linewidth=0
    )
    ax.plot(wave, model, color=MODEL, linewidth=1.3)
    ax.axvline(line.wavelength, color=RESIDUAL, linewidth=0.6, linestyle=":")
    _shade(ax, wave, used)
    ax.set_xlim(line.wavelength - reach, line.wavelength + reach)
    parts = (flux[used], (model - change)[used], (model + change)[used])
    if used.any():
        ax.set_ylim(*_limits(*parts, keep=100.0))
    ax.tick_params(labelsize=7, direction="in", pad=2)
    ax.locator_params(axis="x", nbins=4)
    ax.locator_params(axis="y", nbins=4)
    ax.ticklabel_format(useOffset=False)


def _shade(ax: Axes, wave: NDArray, used: NDArray) -> None:
    """Shade the pixels that were not used."""
    if wave.size < 2:
        return
    half = np.gradient(wave) / 2
    edges = np.flatnonzero(np.diff(np.concatenate([[False], ~used, [False]]).astype(int)))
    for first, last in edges.reshape(-1, 2):
        ax.axvspan(
            wave[first] - half[first],
            wave[last - 1] + half[last - 1],
            color=UNUSED,
            alpha=0.35,
            lw=0,
        )


def _unit(one: FittedSpectrum) -> float:
    """What the flux is drawn in: a round number of the survey's unit, or the median flux."""
    return float(np.median(np.abs(one.spectrum.flux[one.used]))) or 1.0


def _limits(*parts: NDArray, keep: float = 99.8) -> tuple[float, float]:
    flat = np.concatenate(parts)
    flat = flat[np.isfinite(flat)]
    if not flat.size:
        return 0.0, 1.0
    low, high = np.percentile(flat, [100.0 - keep, keep])
    margin = 0.06 * (high - low) or 0.1
    return float(low - margin), float(high + margin)


def _step(name: str) -> float:
    return STEPS.get(name, STEP)


def _element(name: str) -> str:
    """How a label is written above a line: the element for an abundance."""
    if name.endswith("_fe"):
        return name.removesuffix("_fe").capitalize()
    return {"fe_h": "Fe", "v_micro": "vmic", "teff": "Teff", "logg": "log g"}.get(name, name)


def _value(name: str, value: float, sigma: float) -> str:
    known = LABELS[name]
    digits = 0 if known.unit == "K" else 2
    unit = f" {known.unit}" if known.unit in ("K", "km/s") else ""
    value = round(value, digits) + 0.0  # no "-0.00"
    return f"{known.latex} = {value:.{digits}f} ± {sigma:.{digits}f}{unit}"


def _caption(line: Line, value: float, sigma: float) -> str:
    share = f"{100 * line.share:.{0 if line.share >= 0.01 else 1}f} %"
    return f"{_value(line.label, value, sigma)}   {line.wavelength:.1f} Å, {share}"
