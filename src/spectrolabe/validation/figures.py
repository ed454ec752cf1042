"""Figures of stars whose truth is known: where they are, how far off, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator
from numpy.typing import NDArray

from spectrolabe.labels import ELEMENTS, LABELS
from spectrolabe.spectra import Spectrum
from spectrolabe.validation.metrics import mad
from spectrolabe.validation.truth import Compared

__all__ = [
    "by_signal",
    "colour_of",
    "kiel_diagrams",
    "one_to_one",
    "paired",
    "short_name",
    "spectra_of_surveys",
]

COLOURS = {
    "apogee": "#c0392b",
    "galah": "#d68910",
    "desi": "#6c3483",
    "gaia_rvs": "#117a65",
    "lamost_lrs": "#1f618d",
    "sdss_boss": "#7b5141",
}
OTHER = "#444444"
NAMES = {
    "teff": "Teff",
    "logg": "log g",
    "fe_h": "[Fe/H]",
    "m_h": "[M/H]",
    "alpha_m": "[α/M]",
    "alpha_fe": "[α/Fe]",
    **{f"{x.lower()}_fe": f"[{x}/Fe]" for x in ELEMENTS},
}
POINT = {"s": 7, "linewidths": 0, "alpha": 0.7}
BINS = 5


def colour_of(survey: str) -> str:
    """Return the colour of a survey in all figures."""
    return COLOURS.get(survey, OTHER)


def axis_name(label: str) -> str:
    """Return a label as astronomers write it, with its unit."""
    unit = LABELS[label].unit
    return f"{short_name(label)}{f' [{unit}]' if unit else ''}"


def short_name(label: str) -> str:
    """Return a label as astronomers write it, without its unit."""
    return NAMES.get(label, label)


def kiel_diagrams(stars: Mapping[str, Compared]) -> Figure:
    """Draw log g against Teff, true in the first row and estimated in the second."""
    count = len(stars)
    figure = Figure(figsize=(2.6 * count, 5.6), layout="constrained")
    axes = figure.subplots(2, count, sharex=True, sharey=True, squeeze=False)
    for column, (survey, one) in zip(axes.T, stars.items(), strict=True):
        for ax, labels, what in zip(
            column, (one.truth, one.estimate), ("truth", "estimate"), strict=True
        ):
            drawn = ax.scatter(
                labels["teff"], labels["logg"], c=one.truth["fe_h"], vmin=-1.2, vmax=0.4,
                cmap="viridis", **POINT,
            )  # fmt: skip
            ax.text(0.04, 0.94, what, transform=ax.transAxes, va="top")
            ax.grid(alpha=0.25)
        column[0].set_title(f"{survey} ({len(one)})", color=colour_of(survey), fontsize=11)
        column[1].set_xlabel("Teff [K]")
    axes[0, 0].set_xlim(7700, 4000)
    axes[0, 0].set_ylim(5.3, 0.2)
    for ax in axes[:, 0]:
        ax.set_ylabel("log g [dex]")
    figure.colorbar(drawn, ax=axes, label="true [Fe/H]", shrink=0.7)
    return figure


def one_to_one(stars: Mapping[str, Compared]) -> Figure:
    """Draw estimate against truth, a row for each survey and a column for each label."""
    names = next(iter(stars.values())).truth.names
    figure = Figure(figsize=(2.75 * len(names), 2.5 * len(stars)), layout="constrained")
    axes = figure.subplots(len(stars), len(names), sharex="col", sharey="col", squeeze=False)
    for j, name in enumerate(names):
        everything = np.concatenate([one.truth[name] for one in stars.values()])
        low, high = np.nanquantile(everything, [0.0, 1.0])
        edge = 0.06 * (high - low)
        for ax, (survey, one) in zip(axes[:, j], stars.items(), strict=True):
            ax.plot([low, high], [low, high], color="black", lw=0.8)
            good = ~one.bad
            ax.scatter(
                one.truth[name][good], one.estimate[name][good], color=colour_of(survey), **POINT
            )
            ax.scatter(
                one.truth[name][one.bad], one.estimate[name][one.bad], s=12, marker="x", lw=0.7,
                color="0.5",
            )  # fmt: skip
            spread = mad((one.estimate[name] - one.truth[name])[good & _known(one, name)])
            digits = 0 if LABELS[name].unit == "K" else 3
            ax.text(
                0.04, 0.96, f"{survey}\n1.4826 MAD {spread:.{digits}f}",
                transform=ax.transAxes, va="top", fontsize=8.5,
            )  # fmt: skip
            ax.set_xlim(low - edge, high + edge)
            ax.set_ylim(low - edge, high + 3 * edge)
            ax.grid(alpha=0.25)
            if j == 0:
                ax.set_ylabel("estimate")
        axes[0, j].set_title(axis_name(name), fontsize=11)
        axes[-1, j].set_xlabel("truth")
    return figure


def by_signal(stars: Mapping[str, Compared]) -> Figure:
    """Draw the spread of the residuals against S/N, a panel for each label."""
    names = next(iter(stars.values())).truth.names
    columns = 2
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(9.5, 3.3 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for ax in axes.ravel()[len(names) :]:
        ax.set_visible(False)
    for ax, name in zip(axes.ravel(), names, strict=False):
        empty = True
        for survey, one in stars.items():
            use = ~one.bad & _known(one, name) & (one.snr > 0)
            residual = (one.estimate[name] - one.truth[name])[use]
            if not use.any():
                continue
            empty = False
            ax.scatter(
                one.snr[use], np.abs(residual), color=colour_of(survey), s=4, alpha=0.25, lw=0
            )
            middle, spread = _in_bins(one.snr[use], residual)
            ax.plot(middle, spread, "o-", color=colour_of(survey), label=survey, ms=4)
        if not empty:  # a logarithm of nothing cannot be drawn
            _logarithmic(ax)
        ax.set_ylabel(f"|residual|, {axis_name(name)}")
        ax.set_xlabel("S/N a pixel, all spectra together")
    if axes[0, 0].lines:
        axes[0, 0].legend(fontsize=8)
    return figure


def _logarithmic(ax: Axes) -> None:
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(FixedLocator([3, 10, 30, 100, 300, 1000, 3000]))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter("{x:g}")
    ax.set_yscale("log")
    low, high = ax.get_ylim()
    ax.set_ylim(max(low, high / 2000), high)
    ax.grid(alpha=0.25)


def _in_bins(snr: NDArray, residual: NDArray) -> tuple[list[float], list[float]]:
    """Root mean square about zero, robust, in bins of equal numbers of stars."""
    order = np.argsort(snr)
    parts = [part for part in np.array_split(order, BINS) if len(part) >= 5]
    return (
        [float(np.median(snr[part])) for part in parts],
        [float(1.4826 * np.median(np.abs(residual[part]))) for part in parts],
    )


def paired(stars: Mapping[str, Compared]) -> tuple[Figure, list[tuple[str, str, int, list[float]]]]:
    """Draw differences of the labels of a star in two surveys.

    Returns
    -------
    figure : Figure
    numbers : list of (survey, survey, stars, spreads)
        Median and 1.4826 MAD of the difference of each label in turn, of pairs with 10 stars.
    """
    names = next(iter(stars.values())).truth.names
    pairs = []
    surveys = list(stars)
    for i, one in enumerate(surveys):
        for other in surveys[i + 1 :]:
            left, right = _common(stars[one], stars[other])
            if len(left) >= 10:
                pairs.append((one, other, left, right))
    figure = Figure(figsize=(2.75 * len(names), 0.9 + 0.33 * max(1, len(pairs))))
    figure.set_layout_engine("constrained")
    axes = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    numbers = []
    for k, (one, other, left, right) in enumerate(pairs):
        row: list[float] = []
        for ax, name in zip(axes, names, strict=True):
            difference = (stars[one].estimate[name][left]) - (stars[other].estimate[name][right])
            difference = difference[np.isfinite(difference)]
            if difference.size == 0:
                row += [np.nan, np.nan]
                continue
            low, middle, high = np.quantile(difference, [0.16, 0.5, 0.84])
            ax.plot([low, high], [k, k], color=colour_of(one), lw=2)
            ax.plot(middle, k, "o", color=colour_of(other), ms=6)
            row += [float(middle), mad(difference)]
        numbers.append((one, other, len(left), row))
    for ax, name in zip(axes, names, strict=True):
        ax.axvline(0.0, color="black", lw=0.8)
        ax.set_xlabel(f"difference, {axis_name(name)}")
        ax.grid(alpha=0.25)
    axes[0].set_yticks(range(len(pairs)), [f"{one} − {other}" for one, other, *_ in pairs])
    axes[0].set_ylim(len(pairs) - 0.4, -0.6)
    return figure, numbers


def _common(one: Compared, other: Compared) -> tuple[NDArray, NDArray]:
    """Rows of the good stars that both have."""
    place = {str(star): i for i, star in enumerate(other.truth.star_id) if not other.bad[i]}
    left = [i for i, star in enumerate(one.truth.star_id) if str(star) in place and not one.bad[i]]
    return np.array(left, int), np.array([place[str(one.truth.star_id[i])] for i in left], int)


def spectra_of_surveys(
    spectra: Mapping[str, Sequence[Spectrum]], titles: Mapping[str, str]
) -> Figure:
    """Draw one star in each panel as its files have it.

    Parameters
    ----------
    spectra : mapping of str to sequence of Spectrum
        By survey or any other key; several for several arms.
    titles : mapping of str to str
        What to write into the panels.
    """
    figure = Figure(figsize=(10, 1.75 * len(spectra) + 0.4), layout="constrained")
    axes = figure.subplots(len(spectra), 1, squeeze=False)[:, 0]
    for ax, (key, arms) in zip(axes, spectra.items(), strict=True):
        scale = np.median(np.concatenate([arm.flux[arm.good] for arm in arms]))
        values = []
        for arm in arms:
            flux = np.where(arm.good, arm.flux, np.nan) / scale
            ax.plot(arm.wavelength, flux, color=colour_of(arm.survey), lw=0.5)
            values.append(flux)
        low, high = np.nanquantile(np.concatenate(values), [0.002, 0.998])
        edge = 0.1 * (high - low)
        ax.set_ylim(min(0.0, low - edge), high + 4 * edge)
        ax.text(0.01, 0.95, titles[key], transform=ax.transAxes, va="top", fontsize=9)
        ax.set_ylabel("flux")
        ax.margins(x=0.01)
    axes[-1].set_xlabel("vacuum wavelength [Å]")
    return figure


def _known(one: Compared, name: str) -> NDArray:
    return np.isfinite(one.truth[name]) & np.isfinite(one.estimate[name])
