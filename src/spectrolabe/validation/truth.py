"""A catalogue against the truth of a synthetic sky, survey by survey, beside simpler answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from astropy.table import Table
from numpy.typing import NDArray

from spectrolabe.errors import InputError
from spectrolabe.guard import blaming
from spectrolabe.labels import LABELS, Labels
from spectrolabe.surveys import read_labels
from spectrolabe.validation.metrics import LabelMetrics, evaluate

__all__ = [
    "OUTLIERS",
    "Compared",
    "compare_with_truth",
    "constant",
    "pipeline_labels",
    "read_truth",
    "survey_metrics",
]

OUTLIERS = {"teff": 400.0, "logg": 0.5, "fe_h": 0.4}
OUTLIER = 0.3  # dex, of other labels
IDENTITY = ("star_id", "survey", "spectrum_id", "entry")


@dataclass(frozen=True)
class Compared:
    """Stars of one survey with what is true of them and what was estimated.

    Parameters
    ----------
    survey : str
    truth, estimate : Labels
        N rows in the same order; star ids are those of the truth.
    snr : ndarray, shape (N,)
        Of the catalogue.
    bad : ndarray of bool, shape (N,)
        ``flag_bad`` of the catalogue.
    entry : ndarray of str, shape (N,)
        Keys of the rows in the survey's own catalogue.
    """

    survey: str
    truth: Labels
    estimate: Labels
    snr: NDArray
    bad: NDArray
    entry: NDArray

    def __len__(self) -> int:
        return len(self.snr)


def read_truth(path: str | Path) -> Table:
    """Read the truth of a synthetic sky, a row for each spectrum.

    Raises
    ------
    InputError
        If it is not such a table.
    """
    with blaming(path, "the truth of a synthetic sky"):
        table = pq.read_table(path)
    lacking = [name for name in IDENTITY if name not in table.column_names]
    if lacking:
        raise InputError(
            path,
            expected=f"columns {', '.join(IDENTITY)}",
            found=", ".join(table.column_names[:8]) + " ...",
            fix="Give truth.parquet of a folder that `spectrolabe simulate` wrote.",
        )
    columns = {name: table[name].to_numpy() for name in table.column_names}
    return Table({n: v.astype(str) if v.dtype.kind == "O" else v for n, v in columns.items()})


def compare_with_truth(catalogue: Table, truth: Table, names: Sequence[str]) -> dict[str, Compared]:
    """Join the rows of a catalogue to the truth by their spectra.

    Parameters
    ----------
    catalogue : Table
        As `spectrolabe.catalogue.read_catalogue` gives it; each row of one star and one survey.
    truth : Table
        See `read_truth`.
    names : sequence of str
        Labels.

    Returns
    -------
    dict of str to Compared
        By survey, in the order of the catalogue.

    Raises
    ------
    InputError
        If a spectrum of the catalogue is not in the truth, or the spectra of a row are of several
        stars.
    """
    rows = _rows_of_truth(catalogue, truth)
    surveys = np.asarray(catalogue["survey"]).astype(str)
    found = {}
    for survey in dict.fromkeys(surveys.tolist()):
        here = np.flatnonzero(surveys == survey)
        true = truth[rows[here]]
        part = catalogue[here]
        star_id = np.asarray(true["star_id"]).astype(str)
        found[survey] = Compared(
            survey,
            _exact(tuple(names), _matrix(true, names), star_id),
            Labels(
                tuple(names),
                _matrix(part, names),
                _matrix(part, [f"e_{name}" for name in names]),
                star_id,
            ),
            np.asarray(part["snr"], dtype=float),
            np.asarray(part["flag_bad"], dtype=bool),
            np.asarray(true["entry"]).astype(str),
        )
    return found


def _rows_of_truth(catalogue: Table, truth: Table) -> NDArray:
    keys = zip(truth["survey"], truth["spectrum_id"], strict=True)
    row = {(str(survey), str(spectrum)): i for i, (survey, spectrum) in enumerate(keys)}
    stars = np.asarray(truth["star_id"])
    rows: list[int] = []
    for survey, spectra in zip(catalogue["survey"], catalogue["spectrum_id"], strict=True):
        found = [row.get((str(survey), one)) for one in str(spectra).split(";")]
        known = [i for i in found if i is not None]
        if len(known) < len(found) or len({stars[i] for i in known}) != 1:
            raise InputError(
                f"catalogue row {len(rows) + 1}",
                expected="spectra of one star of the truth",
                found=f"{spectra} of {survey}, {len(known)} of {len(found)} of them known",
                fix="Take the truth of the sky that the catalogue was made from.",
            )
        rows.append(known[0])
    return np.array(rows, dtype=int)


def _matrix(table: Table, names: Sequence[str]) -> NDArray:
    lacking = [name for name in names if name not in table.colnames]
    if lacking:
        raise InputError(
            "table", expected=f"columns {', '.join(names)}", found=f"no {', '.join(lacking)}"
        )
    columns: list[NDArray] = [
        np.ma.filled(np.ma.asarray(table[name], dtype=float), np.nan) for name in names
    ]
    return np.stack(columns, axis=1)


def pipeline_labels(stars: Compared, catalogue: str | Path) -> Labels:
    """Return what the survey's own catalogue says of the same stars, NaN where nothing.

    Raises
    ------
    InputError
        If the catalogue has none of the stars.
    """
    table = read_labels(catalogue, stars.survey)
    places = [{str(key): i for i, key in enumerate(keys)} for keys in table.keys.values()]
    place = max(places, key=lambda p: sum(entry in p for entry in stars.entry))
    rows = np.array([place.get(str(entry), -1) for entry in stars.entry])
    if len(rows) and not (rows >= 0).any():
        raise InputError(
            catalogue, expected="the stars of the truth", found="none of them", fix="Is it theirs?"
        )
    names = stars.truth.names
    values, sigma = np.full((2, len(rows), len(names)), np.nan)
    for i, name in enumerate(names):
        if name in table.labels.names:
            known = (rows >= 0) & (table.good[rows])
            column = table.labels.index([name])[0]
            values[known, i] = table.labels.values[rows[known], column]
            sigma[known, i] = table.labels.sigma[rows[known], column]
    return Labels(names, values, sigma, stars.truth.star_id)


def constant(stars: Compared, values: Mapping[str, float]) -> Labels:
    """Return one answer for all stars: what can be said without a spectrum."""
    row = [values[name] for name in stars.truth.names]
    return _exact(stars.truth.names, np.tile(row, (len(stars), 1)), stars.truth.star_id)


def _exact(names: tuple[str, ...], values: NDArray, star_id: NDArray) -> Labels:
    return Labels(names, values, np.full(values.shape, np.nan), star_id)


def survey_metrics(
    stars: Compared, answers: Mapping[str, Labels], *, good_only: bool = True
) -> dict[str, list[LabelMetrics]]:
    """Evaluate several answers on the same stars.

    Parameters
    ----------
    stars : Compared
    answers : mapping of str to Labels
        Besides the catalogue's own, which is called ``catalogue``.
    good_only : bool
        Leave out what the catalogue flags as bad.

    Returns
    -------
    dict of str to list of LabelMetrics
        By answer; an outlier is beyond the same limit for all of them, see `OUTLIERS`.
    """
    use = ~stars.bad if good_only else np.ones(len(stars), dtype=bool)
    limits = {name: OUTLIERS.get(name, OUTLIER) for name in stars.truth.names if name in LABELS}
    every = {"catalogue": stars.estimate, **answers}
    return {
        name: evaluate(stars.truth.take(use), answer.take(use), outlier_limits=limits)
        for name, answer in every.items()
    }
