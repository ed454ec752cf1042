"""A figure of spectra as they are: flux, uncertainty, and the pixels that must not be used."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from spectrolabe.errors import InputError
from spectrolabe.spectra.spectrum import Spectrum

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_spectra"]

MOST = 8  # panels of one figure
GAP = 5.0  # a step this many times the median one is drawn as a gap
FLUX, BAD = "#1f4e79", "#d9534f"


def plot_spectra(spectra: Sequence[Spectrum], path: str | Path | None = None) -> Figure:
    """Draw spectra in panels, one below the other.

    Parameters
    ----------
    spectra : sequence of Spectrum
        The first eight are drawn.
    path : str or Path, optional
        Where to save the figure; the suffix tells the format. The folder is made when absent.

    Returns
    -------
    Figure
        Flux in blue with one standard deviation shaded; pixels with ``ivar == 0`` shaded in red,
        whatever flux they have.

    Raises
    ------
    InputError
        If the suffix is that of no figure.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    suffixes = FigureCanvasAgg.filetypes
    if path is not None and Path(path).suffix.lower().removeprefix(".") not in suffixes:
        raise InputError(
            path,
            expected=f"the name of a figure, which ends in .{', .'.join(sorted(suffixes))}",
            found=repr(Path(path).suffix),
            fix="Take .png or .pdf.",
        )
    shown = list(spectra)[:MOST]
    figure = Figure(figsize=(11.0, 0.7 + 2.3 * len(shown)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(shown), 1, squeeze=False)[:, 0]
    for ax, spectrum in zip(axes, shown, strict=True):
        _panel(ax, spectrum)
    axes[-1].set_xlabel("vacuum wavelength [Å]")
    _legend(figure, axes[0], len(spectra) - len(shown))
    if path is not None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=130)
    return figure


def _panel(ax: Axes, spectrum: Spectrum) -> None:
    wavelength, good = spectrum.wavelength, spectrum.good
    flux = np.where(good, spectrum.flux, np.nan)
    sigma = np.full(len(spectrum), np.nan)
    sigma[good] = 1.0 / np.sqrt(spectrum.ivar[good])
    x, y, s = _broken(wavelength, flux, sigma)
    ax.fill_between(x, y - s, y + s, color=FLUX, alpha=0.25, linewidth=0)
    ax.plot(x, y, color=FLUX, linewidth=0.6)
    for low, high in _runs(wavelength, ~good):
        ax.axvspan(low, high, color=BAD, alpha=0.3, linewidth=0)
    if good.any():
        ax.set_ylim(*_limits(spectrum.flux[good]))
    ax.set_xlim(wavelength[0], wavelength[-1])
    ax.set_ylabel("flux, as in the file", fontsize=9)
    ax.margins(x=0.01)
    ax.set_title(_title(spectrum), fontsize=9, loc="left")
    ax.tick_params(labelsize=8)


def _title(spectrum: Spectrum) -> str:
    rv = f", rv {spectrum.rv:+.1f} km/s" if np.isfinite(spectrum.rv) else ""
    return (
        f"{spectrum.spectrum_id}   {spectrum.survey}, {spectrum.frame}{rv}, "
        f"R = {np.median(spectrum.resolution):,.0f}, S/N = {round(spectrum.snr, 1) + 0.0:.1f}, "
        f"{100 * np.mean(spectrum.good):.1f} % good"
    )


def _legend(figure: Figure, ax: Axes, hidden: int) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles = [
        Line2D([], [], color=FLUX, linewidth=1, label="flux"),
        Patch(color=FLUX, alpha=0.25, label="±1σ"),
        Patch(color=BAD, alpha=0.3, label="not to be used (ivar = 0)"),
    ]
    note = f"{hidden} more not shown" if hidden > 0 else None
    figure.legend(
        handles=handles,
        loc="outside upper right",
        ncols=3,
        fontsize=8,
        title=note,
        title_fontsize=8,
        frameon=False,
    )


def _broken(wavelength: NDArray, *columns: NDArray) -> tuple[NDArray, ...]:
    """Put a NaN into every gap, so that no line crosses it."""
    step = np.diff(wavelength)
    at = np.flatnonzero(step > GAP * np.median(step)) + 1
    middle = (wavelength[at - 1] + wavelength[at]) / 2 if at.size else []
    return (np.insert(wavelength, at, middle), *(np.insert(c, at, np.nan) for c in columns))


def _runs(wavelength: NDArray, bad: NDArray) -> list[tuple[float, float]]:
    """First and last wavelength of every run of bad pixels, half a pixel wider on both sides."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], bad, [False]]).astype(int)))
    step = np.diff(wavelength)
    left = wavelength - np.concatenate([step[:1], step]).clip(max=GAP * np.median(step)) / 2
    right = wavelength + np.concatenate([step, step[-1:]]).clip(max=GAP * np.median(step)) / 2
    pairs = edges.reshape(-1, 2)
    return [(float(left[i]), float(right[j - 1])) for i, j in pairs]


def _limits(flux: NDArray) -> tuple[float, float]:
    """Limits that lines set and single pixels do not: the range of running medians of five."""
    runs = np.lib.stride_tricks.sliding_window_view(flux, min(5, len(flux)))
    middle = np.median(runs, axis=1)
    low, high = float(middle.min()), float(middle.max())
    margin = 0.1 * (high - low) or 1.0
    return low - margin, high + margin
