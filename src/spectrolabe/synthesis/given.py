"""Stars of a table: which of its columns are labels, and what is missing."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spectrolabe.errors import InputError
from spectrolabe.guard import blaming, unpacked
from spectrolabe.guard.fits import check_fits
from spectrolabe.guard.text import check_table
from spectrolabe.labels import ELEMENTS, Labels

__all__ = ["read_stars"]

NEEDED = ("teff", "logg", "fe_h", "v_micro")
ABUNDANCES = tuple(f"{x.lower()}_fe" for x in ELEMENTS)
IDS = ("star_id", "spectrum_id", "source_id", "gaia_dr3_source_id", "sdss_id", "id", "name")
MOST_LISTED = 12
RELATION = (
    "Add the column in km/s; a common relation is "
    "`spectrolabe.synthesis.v_micro_relation(teff, logg, fe_h)`."
)


def read_stars(path: str | Path) -> tuple[Labels, tuple[str, ...]]:
    """Return the labels of a table of stars, and what the user should know about them.

    Parameters
    ----------
    path : str or Path
        Parquet, FITS or CSV with columns ``teff``, ``logg``, ``fe_h``, ``v_micro`` and any
        ``<x>_fe``; the rows are named by one of ``star_id``, ``spectrum_id``, ``source_id``,
        ``gaia_dr3_source_id``, ``sdss_id``, ``id`` or ``name``, else by their number.

    Returns
    -------
    labels : Labels
        All [X/Fe] but phosphorus, and phosphorus if it is there; 0 where there is no column, NaN
        where there is no value.
    notes : tuple of str
        Columns that were taken as 0 or ignored.

    Raises
    ------
    InputError
        If it is no table, has no rows, or lacks one of the four columns.
    """
    columns = _columns(Path(path))
    for name in NEEDED:
        if name not in columns:
            raise InputError(
                path,
                expected=f"columns {', '.join(NEEDED)}",
                found=f"no {name} among {_listed(list(columns))}",
                fix=RELATION if name == "v_micro" else "",
            )
    stars = len(columns["teff"])
    if not stars:
        raise InputError(path, expected="a row a star", found="a table without rows")
    wanted = [name for name in ABUNDANCES if name in columns or name != "p_fe"]
    values = [_numbers(path, name, columns[name]) for name in NEEDED]
    values += [
        _numbers(path, name, columns[name]) if name in columns else np.zeros(stars)
        for name in wanted
    ]
    ids = [name for name in IDS if name in columns]
    star_id = [_text(one) for one in columns[ids[0]]] if ids else map(str, range(stars))
    table = np.stack(values, axis=1)
    labels = Labels(
        (*NEEDED, *wanted), table, np.full(table.shape, np.nan), np.array(list(star_id))
    )
    return labels, _notes(list(columns), wanted)


def _notes(columns: list[str], wanted: list[str]) -> tuple[str, ...]:
    absent = [name for name in wanted if name not in columns]
    ignored = [name for name in columns if name not in (*NEEDED, *wanted, *IDS)]
    notes = []
    if absent:
        notes.append(f"taken as 0, for there is no such column: {_listed(absent)}")
    if ignored:
        notes.append(f"columns ignored: {_listed(ignored)}")
    return tuple(notes)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - MOST_LISTED} more" if len(names) > MOST_LISTED else ""
    return ", ".join(names[:MOST_LISTED]) + more


def _columns(path: Path) -> dict[str, NDArray]:
    """Return the columns of a table by their names in lower case."""
    from astropy.table import Table

    if not path.is_file():
        raise InputError(path, expected="a table of labels", found="no such file")
    suffixes = path.name.lower().removesuffix(".gz").rpartition(".")[2]
    with blaming(path, "a Parquet, FITS or CSV table"):
        if suffixes == "parquet":
            import pyarrow.parquet as pq

            found = pq.read_table(path)
            pairs = [(name, found[name].to_numpy()) for name in found.column_names]
        else:
            kind = {"fits": "fits", "fit": "fits", "ecsv": "ascii.ecsv"}.get(suffixes, "ascii.csv")
            table = Table.read(_content(path, kind), format=kind)
            pairs = [(name, table[name]) for name in table.colnames]
    return {str(name).lower(): column for name, column in pairs}


def _content(path: Path, kind: str) -> io.BytesIO:
    """What a table has, unpacked, after a look at what it claims."""
    content = path.read_bytes()
    if content.startswith(b"\x1f\x8b"):
        content = unpacked(path)
    if kind == "fits":
        check_fits(path, io.BytesIO(content), len(content))
    else:
        check_table(path, content, b"," if kind == "ascii.csv" else b" ")
    return io.BytesIO(content)


def _numbers(path: str | Path, name: str, column: NDArray) -> NDArray:
    try:
        return np.ma.asarray(column, np.float64).filled(np.nan)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{path}, column {name}", expected="numbers", found=f"{column.dtype}: {error}"
        ) from error


def _text(value: object) -> str:
    return value.decode().strip() if isinstance(value, bytes) else str(value).strip()
