"""Spectra of the rows that are farthest off, where their files are at hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from spectrolabe.spectra import Spectrum
from spectrolabe.surveys.finding import Files, spectra_of_row
from spectrolabe.validation.beside import Truth
from spectrolabe.validation.figures import short_name, spectra_of_surveys
from spectrolabe.validation.recovered import Worst

__all__ = ["worst_spectra"]

MOST = 6


def worst_spectra(
    worst: Sequence[Worst], truth: Truth, folders: Sequence[Path] = ()
) -> tuple[Figure | None, list[str]]:
    """Draw the spectra of the worst rows, the first six.

    Parameters
    ----------
    worst : sequence of Worst
    truth : Truth
        Its column ``path``, if it has one, says where spectra are.
    folders : sequence of Path
        Where files of the catalogue's names are looked for, in all folders below.

    Returns
    -------
    figure : Figure or None
        None where no file is at hand.
    notes : list of str
        What is not drawn, and why.
    """
    drawn: dict[str, list[Spectrum]] = {}
    titles, notes = {}, []
    files = Files(folders)
    for k, one in enumerate(worst[:MOST]):
        told = str(truth.file[one.row])
        paths = [truth.path.parent / told] if told else []
        paths += files.paths(one.file)
        here = [path for path in dict.fromkeys(paths) if path.is_file()]
        spectra, reason = spectra_of_row(here, one.spectrum_id)
        if spectra:
            drawn[str(k)] = spectra
            titles[str(k)] = (
                f"{one.star_id}, {one.survey}, S/N {one.snr:.0f}: {short_name(one.label)} "
                f"{one.value:.4g} ± {one.error:.2g}, truth {one.truth:.4g}"
            )
        else:
            notes.append(f"Not drawn: {one.spectrum_id} of {one.survey}, {reason}.")
    if worst and not drawn:
        notes = [
            "No spectrum is drawn: the files that the catalogue names are not at hand. --spectra "
            "FOLDER looks for them there."
        ]
    return (spectra_of_surveys(drawn, titles) if drawn else None), notes
