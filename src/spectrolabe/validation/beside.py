"""Tables beside a catalogue: what is true of its stars, clusters and binaries they are in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from spectrolabe.errors import InputError
from spectrolabe.labels import LABELS, Labels
from spectrolabe.surveys.files import column_numbers, column_text, read_table
from spectrolabe.validation.catalogue_rows import Rows

__all__ = ["Truth", "read_binaries", "read_clusters", "read_truth_of"]

CLUSTER = ("cluster", "cluster_id", "group")
BINARY = ("binary", "binary_id", "group")
PAIRS = (("star_id_1", "star_id_2"), ("star_id1", "star_id2"), ("primary", "secondary"))


@dataclass(frozen=True, eq=False)
class Truth:
    """What is known from elsewhere of N rows of catalogues.

    Parameters
    ----------
    labels : Labels
        N rows; NaN where nothing is known. Errors are NaN where the table states none.
    star : ndarray of str, shape (N,)
        The star as the truth calls it; empty where the row is not in it.
    file : ndarray of str, shape (N,)
        Path of a spectrum of the row, relative to the truth; empty where it is not told.
    by : str
        ``spectrum_id`` or ``star_id``: what rows were joined by.
    path : Path
    """

    labels: Labels
    star: NDArray
    file: NDArray
    by: str
    path: Path

    @property
    def matched(self) -> NDArray:
        """Rows that are in the truth, shape (N,)."""
        return self.star != ""


def read_truth_of(rows: Rows, path: str | Path) -> Truth:
    """Join a table of true labels to the rows of catalogues.

    The table is Parquet, FITS, VOTable, ECSV or CSV with ``spectrum_id`` or ``star_id``, whichever
    more rows share, and labels of the registry, with or without ``e_<label>``. Values out of the
    range of a label count as not known.

    Raises
    ------
    InputError
        If it has no label of the catalogue, no row of it, or two different values for a star.
    """
    path = Path(path)
    table = _lower(read_table(path))
    keys = [name for name in ("spectrum_id", "star_id") if name in table.colnames]
    if not keys:
        raise InputError(path, expected="a column star_id or spectrum_id", found=_columns(table))
    names = [name for name in rows.names if name in table.colnames]
    if not names:
        raise InputError(
            path,
            expected=f"at least one label of the catalogue ({', '.join(rows.names)})",
            found=_columns(table),
            fix="Columns are called as in the catalogue.",
        )
    joined = {key: _joined(rows, table, key, path) for key in keys}
    by = max(joined, key=lambda key: int((joined[key] >= 0).sum()))
    place = joined[by]
    if not (place >= 0).any():
        raise InputError(
            path,
            expected=f"{' or '.join(keys)} of the catalogue, such as "
            + " or ".join(_example(rows, key) for key in keys),
            found="no shared id; " + ", ".join(f"{k} such as {table[k][0]}" for k in keys),
        )
    try:
        values = np.stack([_in_range(table, name) for name in names], axis=1)
        sigma = np.stack([_errors(table, name) for name in names], axis=1)
    except InputError as error:
        raise InputError(
            f"{path}: {error.where}", expected=error.expected, found=error.found
        ) from error
    known = place >= 0
    taken = (
        np.where(known[:, None], values[place], np.nan),
        np.where(known[:, None], sigma[place], np.nan),
    )
    star = column_text(table, "star_id" if "star_id" in table.colnames else by)
    file = column_text(table, "path") if "path" in table.colnames else np.full(len(table), "")
    return Truth(
        Labels(tuple(names), *taken, rows.labels.star_id),
        np.where(known, star[place], ""),
        np.where(known, file[place], ""),
        by,
        path,
    )


def _joined(rows: Rows, table: Table, key: str, path: Path) -> NDArray:
    """The row of the table for each row of the catalogues, -1 where there is none, shape (N,)."""
    by_survey = key == "spectrum_id" and "survey" in table.colnames
    ids = column_text(table, key)
    surveys = column_text(table, "survey") if by_survey else np.full(len(ids), "")
    place: dict[tuple[str, str], int] = {}
    again = np.arange(len(ids))
    for i, pair in enumerate(zip(surveys.tolist(), ids.tolist(), strict=True)):
        again[i] = place.setdefault(pair, i)
    _check_same(rows, table, ids, again, path)
    place.pop(("", ""), None)
    found = np.full(len(rows), -1)
    own = rows.spectrum_id if key == "spectrum_id" else rows.labels.star_id
    stars = column_text(table, "star_id") if "star_id" in table.colnames else ids
    for i, text in enumerate(own.tolist()):
        within = rows.survey[i].split(";") if by_survey else [""]
        parts = text.split(";") if key == "spectrum_id" else [text]
        known = [j for s in within for one in parts if (j := place.get((s, one), -1)) >= 0]
        if (
            len({stars[j] for j in known}) > 1
            and key == "spectrum_id"
            and "star_id" in table.colnames
        ):
            raise InputError(
                f"{rows.paths[rows.source[i]]}, row of {rows.labels.star_id[i]}",
                expected="spectra of one star",
                found=f"spectra of {' and '.join(sorted({stars[j] for j in known}))} in {path}",
            )
        if known:
            found[i] = known[0]
    return found


def _check_same(rows: Rows, table: Table, ids: NDArray, first: NDArray, path: Path) -> None:
    """See that a table does not say two things of one star."""
    for name in rows.names:
        if name in table.colnames:
            values = column_numbers(table, name)
            other = ~np.isclose(values, values[first], rtol=1e-6, equal_nan=True) & (ids != "")
            if other.any():
                i = int(np.argmax(other))
                raise InputError(
                    path,
                    expected=f"one {name} for each id",
                    found=f"{values[first[i]]:g} and {values[i]:g} of {ids[i]}",
                )


def _in_range(table: Table, name: str) -> NDArray:
    values = column_numbers(table, name)
    with np.errstate(invalid="ignore"):
        inside = (values >= LABELS[name].low) & (values <= LABELS[name].high)
    return np.where(inside, values, np.nan)


def _errors(table: Table, name: str) -> NDArray:
    if f"e_{name}" not in table.colnames:
        return np.full(len(table), np.nan)
    values = column_numbers(table, f"e_{name}")
    with np.errstate(invalid="ignore"):
        return np.where(values > 0, values, np.nan)


def read_clusters(rows: Rows, path: str | Path, truth: Truth | None = None) -> dict[str, NDArray]:
    """Read which stars are in which cluster: a row a star, ``star_id`` and ``cluster``.

    Parameters
    ----------
    rows : Rows
    path : str or Path
        ``cluster_id`` or ``group`` may stand for ``cluster``; a table of anchors (with ``kind``,
        see `spectrolabe.homogenise.anchors`) gives its clusters.
    truth : Truth, optional
        Its names of stars are understood, too.

    Returns
    -------
    dict of str to ndarray of int
        Stars (see `Rows.star`) of each cluster.

    Raises
    ------
    InputError
        If a column is missing, or no star is in the catalogue.
    """
    return _groups(rows, Path(path), CLUSTER, "cluster", truth)


def read_binaries(rows: Rows, path: str | Path, truth: Truth | None = None) -> NDArray:
    """Read pairs of stars: columns ``star_id_1`` and ``star_id_2``.

    Parameters
    ----------
    rows, truth
        As for `read_clusters`.
    path : str or Path
        Two columns of any name do, or ``star_id`` with ``binary_id`` or a table of anchors.

    Returns
    -------
    ndarray of int, shape (P, 2)
        Stars (see `Rows.star`) of the pairs of which both are in the catalogue.

    Raises
    ------
    InputError
        If a column is missing, or no pair is in the catalogue.
    """
    path = Path(path)
    table = _lower(read_table(path))
    named = next((two for two in PAIRS if set(two) <= set(table.colnames)), None)
    if named is None and len(table.colnames) == 2 and "star_id" not in table.colnames:
        named = (table.colnames[0], table.colnames[1])
    if named is None:
        groups = _groups(rows, path, BINARY, "binary", truth, needed="star_id_1 and star_id_2, or ")
        found = np.array([stars for stars in groups.values() if len(stars) == 2], dtype=int)
    else:
        place = _places(rows, truth)
        one, other = (column_text(table, name) for name in named)
        both = [(place.get(a, -1), place.get(b, -1)) for a, b in zip(one, other, strict=True)]
        found = np.array([pair for pair in both if min(pair) >= 0 and pair[0] != pair[1]], int)
        if not len(found):
            raise _unknown(
                rows, path, "pairs of which both stars are", column_text(table, named[0])
            )
    return found.reshape(-1, 2)


def _groups(
    rows: Rows,
    path: Path,
    columns: Sequence[str],
    kind: str,
    truth: Truth | None,
    needed: str = "",
) -> dict[str, NDArray]:
    table = _lower(read_table(path))
    column = next((name for name in columns if name in table.colnames), None)
    if column is None or "star_id" not in table.colnames:
        raise InputError(
            path,
            expected=f"columns {needed}star_id and {' or '.join(columns)}",
            found=_columns(table),
        )
    place = _places(rows, truth)
    group, ids = column_text(table, column), column_text(table, "star_id")
    use = group != ""
    if "kind" in table.colnames:
        use &= column_text(table, "kind") == kind
    found: dict[str, set[int]] = {}
    for name, one in zip(group[use].tolist(), ids[use].tolist(), strict=True):
        if one in place:
            found.setdefault(name, set()).add(place[one])
    several = {name: np.array(sorted(stars)) for name, stars in found.items() if len(stars) > 1}
    if not several:
        raise _unknown(rows, path, f"a {kind} with two stars", ids[use])
    return several


def _places(rows: Rows, truth: Truth | None) -> dict[str, int]:
    """The star of every id that a row is known by."""
    place: dict[str, int] = {}
    known = [rows.labels.star_id, *([truth.star] if truth is not None else []), rows.spectrum_id]
    for ids in known:
        for text, star in zip(ids.tolist(), rows.star.tolist(), strict=True):
            for one in text.split(";"):
                place.setdefault(one, star)
    place.pop("", None)
    return place


def _unknown(rows: Rows, path: Path, what: str, ids: NDArray) -> InputError:
    found = f"none of {len(ids)} ids, such as {ids[0]}" if len(ids) else "no row"
    return InputError(
        path,
        expected=f"{what} in the catalogue, ids such as {_example(rows, 'star_id')}",
        found=found,
    )


def _example(rows: Rows, key: str) -> str:
    ids = rows.spectrum_id if key == "spectrum_id" else rows.labels.star_id
    return str(ids[0]).split(";")[0]


def _lower(table: Table) -> Table:
    """The table with names in lower case, but for those that would be there twice (g and G)."""
    lower = [name.lower() for name in table.colnames]
    names = [
        own if lower.count(low) > 1 else low for own, low in zip(table.colnames, lower, strict=True)
    ]
    return Table(table, names=names, copy=False)


def _columns(table: Table) -> str:
    return "columns " + ", ".join(table.colnames[:12])
