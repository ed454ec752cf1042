"""Spectra of the rows that are farthest off, with models, where their files are at hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter1d

from spectrolabe.inference.fit_products import Products, models_of_row
from spectrolabe.inference.row_models import NOTE, Drawn, Modelled, Models
from spectrolabe.spectra import Spectrum
from spectrolabe.surveys.finding import Files, spectra_of_row
from spectrolabe.validation.beside import Truth
from spectrolabe.validation.catalogue_rows import Rows
from spectrolabe.validation.figures import colour_of, short_name
from spectrolabe.validation.recovered import Worst

__all__ = ["CAPTION", "worst_spectra"]

MOST = 6
NEAR = 40  # pixels on either side of a line
RESIDUAL = 8.0  # sigma, end of the axis
STRETCH = 15  # pixels over which the largest residuals are looked for
CAPTION = (
    "Spectra of the first of them over their median flux, at rest in vacuum. Black: emulated "
    "spectra at the labels of the catalogue, with fitted velocity, broadening and continuum, or "
    "what a fit has left. Below: residuals over the errors of spectrum and model. Right: the line "
    "that says most of the label, or where the residuals are largest."
)


class _Case(NamedTuple):
    """What is drawn of a row: its spectra, which of them is drawn from near, where, and why."""

    one: Worst
    spectra: list[Drawn]
    near: int
    wavelength: float
    what: str

    @property
    def title(self) -> str:
        one = self.one
        return (
            f"{one.star_id}, {one.survey}, S/N {one.snr:.0f}: {short_name(one.label)} "
            f"{one.value:.4g} ± {one.error:.2g}, truth {one.truth:.4g}"
        )


def worst_spectra(
    worst: Sequence[Worst], rows: Rows, truth: Truth, folders: Sequence[Path] = ()
) -> tuple[Figure | None, list[str]]:
    """Draw the spectra of the worst rows, the first six, with models.

    Parameters
    ----------
    worst : sequence of Worst
    rows : Rows
        The labels of models.
    truth : Truth
        Its column ``path``, if it has one, says where spectra are.
    folders : sequence of Path
        Where files of the catalogue's names, and those of fits, are looked for, in all folders
        below.

    Returns
    -------
    figure : Figure or None
        None where no file is at hand.
    notes : list of str
        What is not drawn, and why.
    """
    files, models = Files(folders), Models()
    products = Products(files)
    cases, notes = [], []
    for one in worst[:MOST]:
        told = str(truth.file[one.row])
        paths = [truth.path.parent / told] if told else []
        paths += files.paths(one.file)
        here = [path for path in dict.fromkeys(paths) if path.is_file()]
        spectra, reason = spectra_of_row(here, one.spectrum_id)
        names = (one.star_id, one.spectrum_id, one.survey, one.file)
        values = dict(zip(rows.names, rows.labels.values[one.row].tolist(), strict=True))
        modelled = models_of_row(products, models, names, spectra, values)
        if not (spectra or modelled.spectra):
            notes.append(f"Not drawn: {one.spectrum_id} of {one.survey}, {reason}.")
            continue
        cases.append(_case(one, spectra, modelled))
        if said := modelled.note.removeprefix(NOTE).strip():
            notes.append(f"{one.star_id}: {said}")
    if worst and not cases:
        notes = [
            "No spectrum is drawn: the files that the catalogue names are not at hand. --spectra "
            "FOLDER looks for them there."
        ]
    return (_figure(cases) if cases else None), notes


def _case(one: Worst, spectra: Sequence[Spectrum], modelled: Modelled) -> _Case:
    drawn = modelled.spectra or [Drawn.observed(spectrum) for spectrum in spectra]
    lines = modelled.lines.get(one.label)
    if lines:
        near, wavelength, share = lines[0]
        what = f"{wavelength:.1f} Å, {100 * share:.0f} % of {short_name(one.label)}"
        return _Case(one, drawn, near, wavelength, what)
    off = [uniform_filter1d(np.nan_to_num(np.abs(_residual(d))), STRETCH) for d in drawn]
    near = int(np.argmax([part.max() for part in off]))
    wavelength = float(drawn[near].wavelength[off[near].argmax()])
    return _Case(one, drawn, near, wavelength, f"{wavelength:.1f} Å, residuals are largest")


def _residual(one: Drawn) -> NDArray:
    with np.errstate(invalid="ignore"):
        return np.where(one.used, (one.flux - one.model) / one.error, np.nan)


def _figure(cases: Sequence[_Case]) -> Figure:
    figure = Figure(figsize=(10.5, 2.7 * len(cases)), layout="constrained")
    parts = figure.subfigures(len(cases), 1, squeeze=False)[:, 0]
    for part, case in zip(parts, cases, strict=True):
        part.suptitle(case.title, fontsize=9, x=0.01, ha="left")
        if all(np.isnan(one.model).all() for one in case.spectra):
            _flux(part.subplots(), case, case.spectra)
            continue
        axes = part.subplots(2, 2, sharex="col", width_ratios=(3, 1), height_ratios=(5, 2))
        line = case.spectra[case.near]
        for (above, below), spectra in zip(axes.T, (case.spectra, [line]), strict=True):
            _flux(above, case, spectra)
            for one in spectra:
                below.plot(one.wavelength, _residual(one), color=_colour(case), lw=0.4)
            below.axhline(0.0, color="black", lw=0.6)
            below.set_ylim(-RESIDUAL, RESIDUAL)
        axes[1, 0].set_ylabel("residual [σ]", fontsize=7)
        _draw_near(axes[0, 1], case, line)
    figure.supxlabel("vacuum wavelength at rest [Å]", fontsize=9)
    return figure


def _flux(ax: Axes, case: _Case, spectra: Sequence[Drawn]) -> None:
    """Flux and model over the median flux of all spectra of the row."""
    scale = _scale(case)
    flux = [np.where(np.isfinite(one.sigma), one.flux, np.nan) / scale for one in spectra]
    for one, values in zip(spectra, flux, strict=True):
        ax.plot(one.wavelength, values, color=_colour(case), lw=0.5)
        ax.plot(one.wavelength, np.where(one.used, one.model, np.nan) / scale, color="k", lw=0.4)
    low, high = np.nanquantile(np.concatenate(flux), [0.002, 0.998])
    edge = 0.1 * (high - low)
    ax.set_ylim(min(0.0, low - edge), high + edge)
    ax.margins(x=0.01)
    ax.set_ylabel("flux" if spectra is case.spectra else "", fontsize=8)


def _draw_near(ax: Axes, case: _Case, line: Drawn) -> None:
    """Set the limits of a panel to a line, and say which it is."""
    middle = int(np.argmin(np.abs(line.wavelength - case.wavelength)))
    here = slice(max(0, middle - NEAR), middle + NEAR + 1)
    ax.set_xlim(line.wavelength[here][0], line.wavelength[here][-1])
    values = np.concatenate([line.flux[here][line.used[here]], line.model[here][line.used[here]]])
    if values.size and np.ptp(values) > 0:
        low, high = np.nanmin(values) / _scale(case), np.nanmax(values) / _scale(case)
        ax.set_ylim(low - 0.08 * (high - low), high + 0.08 * (high - low))
    ax.axvline(case.wavelength, color="0.8", lw=0.8, zorder=0)
    ax.set_title(case.what, fontsize=8)


def _scale(case: _Case) -> float:
    good = [one.flux[np.isfinite(one.sigma)] for one in case.spectra]
    return float(np.nanmedian(np.concatenate(good)))


def _colour(case: _Case) -> str:
    return colour_of(case.one.survey.split(";")[0])
