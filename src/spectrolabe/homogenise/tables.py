"""Tables of users: Parquet, HATS, FITS, CSV and others, of any length, by pieces.

Columns are called as in the registry (``teff``, ``e_teff``), or the user says what they are called.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from astropy.table import Table
from numpy.typing import NDArray

from spectrolabe.catalogue.files import arrow_table
from spectrolabe.errors import InputError
from spectrolabe.guard import blaming, inside
from spectrolabe.homogenise.crossmatch import Positions
from spectrolabe.labels import LABELS, Labels
from spectrolabe.surveys.files import read_table

__all__ = ["StarTable"]

WHOLE = "a whole table with a row for each star"
ROWS = 50_000  # of a piece
POSITION = ("ra", "dec", "pm_ra", "pm_dec")
ALSO = {"pm_ra": "pmra", "pm_dec": "pmdec"}  # what Gaia calls them
MOST_WRONG = 0.5  # share of values out of range above which a column is of another unit
LEAST_WRONG = 20
BAD = "flag_bad"
MISSING = (-9999.0, -999.0, -99.0)
HINTS = {
    "teff": "Give Teff in K, not its logarithm nor 5040 K / Teff.",
    "logg": "Give the logarithm of the gravity in cm s-2.",
}


class StarTable:
    """A table with a row for each star or spectrum.

    Parameters
    ----------
    path : str or Path
        ``.parquet``; a folder of them, as HATS has it; FITS, VOTable, ECSV or CSV.
    columns : mapping of str to str
        What columns are called in the file, by the names that they have here: ``star_id``, labels
        of the registry, ``e_<label>``, ``ra``, ``dec``, ``pm_ra``, ``pm_dec``, inputs.
    bad : str
        Column that is not 0 for rows that nothing is to be learnt from; ``flag_bad`` if there is.

    Raises
    ------
    InputError
        If it cannot be read, has no rows, or has not what ``columns`` names.
    """

    def __init__(
        self, path: str | Path, columns: Mapping[str, str] | None = None, bad: str = ""
    ) -> None:
        self.path, self._called = Path(path), dict(columns or {})
        self._data = _opened(self.path)
        self.names: list[str] = self._data.schema.names
        lacking = [
            name for name in (*self._called.values(), bad) if name and name not in self.names
        ]
        if lacking:
            raise InputError(
                path,
                expected=f"columns {', '.join(lacking)}",
                found=", ".join(self.names[:20]),
            )
        self.bad = bad or (BAD if BAD in self.names else "")
        if not len(self):
            expected = "Parquet files with a row" if self.path.is_dir() else "at least one row"
            raise InputError(path, expected=expected, found="none")

    @property
    def schema(self) -> pa.Schema:
        """What its columns are."""
        return self._data.schema

    @cached_property
    def _rows(self) -> int:
        with blaming(self.path, WHOLE):
            return int(self._data.count_rows())

    def __len__(self) -> int:
        return self._rows

    def called(self, name: str) -> str:
        """Return what a column is called in the file."""
        usual = name if name in self.names else ALSO.get(name, name)
        return self._called.get(name, usual)

    def has(self, name: str) -> bool:
        """Tell whether there is a column."""
        return self.called(name) in self.names

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels of the registry that it has."""
        return tuple(name for name in LABELS if self.has(name))

    def pieces(self) -> Iterator[pa.Table]:
        """Yield all columns, some rows at a time, in their order."""
        batches = self._data.to_batches(batch_size=ROWS)
        count = 0
        while True:
            with blaming(self.path, WHOLE):
                batch = next(batches, None)
            if batch is None:
                return self._check_count(count)
            count += len(batch)
            if len(batch):
                yield pa.Table.from_batches([batch])

    def _check_count(self, found: int) -> None:
        if found != len(self):
            raise InputError(self.path, expected=f"{len(self)} rows", found=f"{found} (damaged)")

    def ids(self, name: str) -> pa.ChunkedArray:
        """Return a column of identifiers.

        Raises
        ------
        InputError
            If it is not there.
        """
        if not self.has(name):
            raise InputError(
                self.path,
                expected=f"a column {self.called(name)} that says which star a row is",
                found=", ".join(self.names[:20]),
                fix="Say what it is called (--id), or match by position (--sky).",
            )
        return self._columns([name])[self.called(name)]

    def positions(self, epoch: float) -> Positions:
        """Return where the stars are.

        Raises
        ------
        InputError
            If ``ra`` or ``dec`` is not there, or they are no degrees.
        """
        if not (self.has("ra") and self.has("dec")):
            raise InputError(
                self.path, expected="columns ra and dec", found=", ".join(self.names[:20])
            )
        table = self._columns([name for name in POSITION if self.has(name)])
        found = {n: _numbers(table[self.called(n)], self.path) for n in POSITION if self.has(n)}
        wrong = (np.abs(found["dec"]) > 90.0) | (np.abs(found["ra"]) > 360.0)
        if wrong.mean() > MOST_WRONG:
            raise InputError(self.path, expected="ra and dec in degrees", found="larger values")
        found["ra"] = np.where(wrong, np.nan, found["ra"])
        return Positions(**found, epoch=epoch)

    def used(self) -> NDArray:
        """Return the rows that may be learnt from, shape (N,), bool."""
        if not self.bad:
            return np.ones(len(self), dtype=bool)
        with blaming(self.path, WHOLE):
            column = self._data.to_table(columns=[self.bad])[self.bad]
        self._check_count(len(column))
        return _numbers(column, self.path) == 0

    def read(
        self, names: Sequence[str], extra: Sequence[str], rows: NDArray, star_id: NDArray
    ) -> TableValues:
        """Return labels and other columns of some rows, of which ``star_id`` says the stars.

        Raises
        ------
        InputError
            As `values_of_piece`; also if most values of a label are out of its range.
        """
        errors = [f"e_{name}" for name in names if self.has(f"e_{name}")]
        table = self._columns([*names, *errors, *extra]).take(pa.array(rows))
        found = self.values_of_piece(table, names, extra, star_id)
        for name, wrong in found.wrong.items():
            if wrong > max(
                LEAST_WRONG, MOST_WRONG * (np.isfinite(found.labels[name]).sum() + wrong)
            ):
                one = LABELS[name]
                raise InputError(
                    f"{self.path}, {self.called(name)}",
                    expected=f"{one.description}, {one.low:g} to {one.high:g} {one.unit}".rstrip(),
                    found=f"{wrong:,} values outside",
                    fix=HINTS.get(name, ""),
                )
        return found

    def values_of_piece(
        self, table: pa.Table, names: Sequence[str], extra: Sequence[str], star_id: NDArray
    ) -> TableValues:
        """Return labels and other columns of a piece; values out of a label's range are NaN.

        Raises
        ------
        InputError
            If a column is not there, or no number.
        """
        values, sigma, wrong = [], [], {}
        for name in names:
            value = _numbers(self._of(table, name), self.path)
            outside = np.isfinite(value) & ~(
                (value >= LABELS[name].low) & (value <= LABELS[name].high)
            )
            wrong[name] = _but_one_value(value[outside])
            values.append(np.where(outside, np.nan, value))
            error = np.full(len(table), np.nan)
            if self.has(f"e_{name}"):
                error = _numbers(self._of(table, f"e_{name}"), self.path)
            sigma.append(np.where(np.isfinite(error) & (error > 0), error, np.nan))
        labels = Labels(tuple(names), np.stack(values, 1), np.stack(sigma, 1), star_id)
        others = {name: _numbers(self._of(table, name), self.path) for name in extra}
        for name, value in others.items():  # what surveys write where there is none
            others[name] = np.where(np.isin(value, MISSING), np.nan, value)
        return TableValues(labels, others, wrong)

    def _of(self, table: pa.Table, name: str) -> pa.ChunkedArray:
        if not self.has(name):
            raise InputError(
                self.path,
                expected=f"a column {self.called(name)}",
                found=", ".join(self.names[:20]),
                fix=f"Say what it is called: --columns {name}=...",
            )
        return table[self.called(name)]

    def _columns(self, names: Sequence[str]) -> pa.Table:
        wanted = dict.fromkeys(self.called(name) for name in names if self.has(name))
        with blaming(self.path, WHOLE):
            table = self._data.to_table(columns=list(wanted))
        self._check_count(len(table))
        return table


class TableValues:
    """Labels and other columns of some rows.

    Parameters
    ----------
    labels : Labels
    extra : dict of str to ndarray, shape (N,)
    wrong : dict of str to int
        Values that were out of the range of their label, a survey's mark of a missing one apart.
    """

    def __init__(self, labels: Labels, extra: dict[str, NDArray], wrong: dict[str, int]) -> None:
        self.labels, self.extra, self.wrong = labels, extra, wrong


def _but_one_value(values: NDArray) -> int:
    """How many values there are without the most common one."""
    _, counts = np.unique(values, return_counts=True)
    return int(counts.sum() - counts.max()) if len(counts) else 0


def _opened(path: Path) -> Any:
    """A dataset of any kind of file; what is no Parquet is read whole."""
    try:
        if path.is_dir():
            inner = _primary(path) / "dataset"
            return ds.dataset(inner if inner.is_dir() else path, format="parquet")
        if path.is_file() and _starts_with(path, b"PAR1"):
            return ds.dataset(path, format="parquet")
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(
            path, expected="a whole Parquet table", found=" ".join(str(error).split())
        ) from error
    table = read_table(path)
    with blaming(path, "a table with a row for each star"):
        return ds.dataset(_arrow(table))


def _arrow(table: Table) -> pa.Table:
    wide = [name for name in table.colnames if table[name].ndim > 1]
    table.remove_columns(wide)
    masks = {n: np.asarray(table[n].mask) for n in table.colnames if hasattr(table[n], "mask")}
    table = table.filled()
    table.convert_bytestring_to_unicode()
    arrow = arrow_table(table, {})
    for name, mask in masks.items():  # integers stay integers: identifiers have many digits
        at = arrow.schema.get_field_index(name)
        values = pc.if_else(pa.array(mask), pa.scalar(None, arrow[name].type), arrow[name])
        arrow = arrow.set_column(at, arrow.schema.field(at), values)
    return arrow


def _primary(path: Path) -> Path:
    """The catalogue itself, where HATS has put it beside its margins."""
    collection = path / "collection.properties"
    if collection.is_file():
        for line in collection.read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition("=")
            if key.strip() == "hats_primary_table_url":
                primary = inside(path, value.strip(), collection)
                if primary.is_dir():
                    return primary
    return path


def _starts_with(path: Path, magic: bytes) -> bool:
    with path.open("rb") as stream:
        return stream.read(len(magic)) == magic


def _numbers(column: pa.ChunkedArray, path: Path) -> NDArray:
    """Numbers, NaN where there is none."""
    try:
        numbers = pc.cast(column, pa.float64())
    except (pa.ArrowException, ValueError) as error:
        raise InputError(path, expected="numbers", found=f"{error}") from error
    return np.asarray(pc.fill_null(numbers, np.nan).to_numpy(), dtype=float)
