"""Surveys: read any supported file, whatever it is called. One file per survey."""

from __future__ import annotations

from pathlib import Path

from astropy.table import Table

from spectrolabe.errors import InputError, unknown_name
from spectrolabe.guard import blaming, check_name
from spectrolabe.spectra import Spectrum
from spectrolabe.spectra.spectrum import PRODUCT
from spectrolabe.surveys.apogee import Apogee
from spectrolabe.surveys.base import LabelTable, Survey
from spectrolabe.surveys.desi import Desi
from spectrolabe.surveys.eso import EsoSdp, FourMost
from spectrolabe.surveys.files import SurveyFile, opened
from spectrolabe.surveys.gaia_rvs import GaiaRVS
from spectrolabe.surveys.galah import Galah
from spectrolabe.surveys.generic import Generic
from spectrolabe.surveys.lamost import LamostLRS, LamostMRS
from spectrolabe.surveys.products import product_of
from spectrolabe.surveys.sdss_boss import SdssBoss
from spectrolabe.surveys.sdss_v import SdssV
from spectrolabe.surveys.weave import Weave

__all__ = [
    "SURVEYS",
    "LabelTable",
    "Survey",
    "UnrecognisedError",
    "catalogue_of",
    "get",
    "read",
    "read_labels",
    "recognise",
]

MOST, LONGEST = 12, 40  # names of columns or HDUs that a message has, and characters of each

SURVEYS: dict[str, Survey] = {
    survey.name: survey
    for survey in (
        LamostLRS(),
        LamostMRS(),
        Apogee(),
        SdssV(),
        SdssBoss(),
        Desi(),
        Galah(),
        GaiaRVS(),
        Weave(),
        FourMost(),
        EsoSdp(),
        Generic(),
    )
}
"""Every survey by name, the most specific first: the generic table reader comes last."""


def get(name: str) -> Survey:
    """Return a survey by name; an unknown one is an error that lists them all."""
    if name not in SURVEYS:
        raise unknown_name("survey", name, SURVEYS, kind="survey")
    return SURVEYS[name]


class UnrecognisedError(InputError):
    """A file that is not of the survey wanted, or of none; says whether it is a bare table."""

    def __init__(
        self, where: object, *, expected: str, found: str, fix: str = "", is_table: bool
    ) -> None:
        super().__init__(where, expected=expected, found=found, fix=fix)
        self.is_table = is_table


def recognise(file: SurveyFile) -> Survey:
    """Return the survey whose spectra an open file holds."""
    for survey in SURVEYS.values():
        if survey.recognises(file):
            return survey
    raise UnrecognisedError(
        file.path,
        expected=f"spectra of {', '.join(s.title for s in SURVEYS.values())}",
        found=_content(file),
        fix=_other_use(file),
        is_table=_is_table(file),
    )


def catalogue_of(file: SurveyFile) -> Survey | None:
    """Return the survey whose label catalogue an open file is, told by its columns, or None.

    A FITS file with an image is none: labels may stand beside a spectrum of an unknown layout.
    """
    if file.hdus is not None and any(hdu.is_image and hdu.shape for hdu in file.hdus):
        return None
    for survey in SURVEYS.values():
        names = {name.lower() for name in file.columns(survey.table_extension)}
        if survey.required_columns and names >= {*survey.required_columns}:
            return survey
    return None


def _is_table(file: SurveyFile) -> bool:
    return file.table is not None or catalogue_of(file) is not None


def _other_use(file: SurveyFile) -> str:
    """What to do about a file without spectra of a known layout."""
    survey = catalogue_of(file)
    if survey is None:
        return "For a file of your own see the generic table layout (docs/generic.md)."
    return (
        f"It looks like the label catalogue of {survey.title}: give it to "
        f"`spectrolabe ingest {survey.name}` with --labels."
    )


def _content(file: SurveyFile) -> str:
    """What an open file of no known layout has, for a message."""
    kind, names = ("FITS", file.extensions) if file.hdus else ("a table", file.columns())
    shown = ", ".join(repr(name[:LONGEST]) for name in names[:MOST]) or "nothing"
    more = f" and {len(names) - MOST} more" if len(names) > MOST else ""
    return f"{kind} with {'HDUs' if file.hdus else 'columns'} {shown}{more}"


def _other_survey(file: SurveyFile) -> str:
    """What to do about a file that is not of the survey that was named."""
    for survey in SURVEYS.values():
        if survey.recognises(file):
            return f"It looks like one of {survey.title}, which is called {survey.name} here."
    return "Check the file, or name another survey."


def read(path: str | Path, survey: str | None = None) -> list[Spectrum]:
    """Read every spectrum of a file.

    Parameters
    ----------
    path : str or Path
        A survey's native file; gzip is fine.
    survey : str, optional
        Name of the survey; recognised from the file's content when not given.

    Returns
    -------
    list of Spectrum
        One or more; spectra of one star share ``star_id``.

    Raises
    ------
    InputError
        If the file is missing, empty, truncated, of another survey, or breaks a rule of `Spectrum`.
    """
    with opened(path) as file, blaming(path, "a spectrum or a table"):
        chosen = recognise(file) if survey is None else get(survey)
        if survey is not None and not chosen.recognises(file):
            raise UnrecognisedError(
                path,
                expected=f"a file of {chosen.title}",
                found=_content(file),
                fix=_other_survey(file),
                is_table=_is_table(file),
            )
        model = product_of(file)
        with blaming(path, f"the layout of {chosen.title}"):
            found = chosen.spectra(file)
        for one in found:
            check_name(path, "name of a spectrum", one.spectrum_id)
            check_name(path, "name of a star", one.star_id)
        if model:
            found = [one.replace(meta={**one.meta, PRODUCT: model}) for one in found]
        return found


def read_labels(path: str | Path, survey: str, extension: int | str | None = None) -> LabelTable:
    """Read a survey's label catalogue (FITS, VOTable, ECSV, CSV or Parquet).

    Parameters
    ----------
    path : str or Path
    survey : str
        Name of the survey.
    extension : int or str, optional
        HDU of a FITS file, where a survey publishes more than one catalogue in it.
    """
    chosen = get(survey)
    with blaming(path, f"a label catalogue of {chosen.title}"):
        table: Table = chosen.table(path, extension)
        table.meta["file"] = str(path)
        return chosen.labels(table)
