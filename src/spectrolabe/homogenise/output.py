"""The homogenised catalogue: every row and column of the table, and what is new of each label."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from astropy.table import Table

from spectrolabe.catalogue.files import PROVENANCE, atomic, to_hdu, to_json
from spectrolabe.catalogue.schema import LABEL_FLAGS
from spectrolabe.errors import InputError
from spectrolabe.homogenise.corrector import Corrected
from spectrolabe.labels import LABELS, Labels

__all__ = ["SUFFIXES", "TableWriter", "new_columns"]

SUFFIXES = (".parquet", ".fits", ".csv")
PREFIX = "homogenised_"


def new_columns(piece: pa.Table, found: Corrected[Labels], names: tuple[str, ...]) -> pa.Table:
    """Return a piece of a table with four columns more for each label.

    ``homogenised_<label>``, ``homogenised_e_<label>``, ``homogenised_<label>_coverage``: 1 where
    shared stars support the correction, less at their edge, 0 outside; and
    ``homogenised_<label>_flags`` of `spectrolabe.catalogue.schema.LabelFlag`.

    Raises
    ------
    InputError
        If the table has such a column.
    """
    meaning = "; ".join(f"{int(flag)}: {text}" for flag, text in LABEL_FLAGS.items())
    for name in names:
        j, one = found.labels.names.index(name), LABELS[name]
        on = f"{one.description}, on the scale of the reference"
        columns = {
            f"{PREFIX}{name}": (found.labels.values[:, j].astype("f4"), one.unit, on),
            f"{PREFIX}e_{name}": (
                found.labels.sigma[:, j].astype("f4"),
                one.unit,
                f"1-sigma of {on}",
            ),
            f"{PREFIX}{name}_coverage": (
                found.support[:, j].astype("f4"),
                "",
                "Share of the correction that shared stars support",
            ),
            f"{PREFIX}{name}_flags": (found.flags[:, j].astype("i4"), "", meaning),
        }
        for key, (values, unit, text) in columns.items():
            if key in piece.column_names:
                raise InputError(
                    key,
                    expected="a table that is not homogenised yet",
                    found="one that has this column",
                    fix="Give the original table, or rename its column.",
                )
            array = pa.array(values)
            metadata = {"unit": unit, "description": text}
            piece = piece.append_column(pa.field(key, array.type, metadata=metadata), array)
    return piece


class TableWriter:
    """A table that grows by pieces; the file appears whole or not at all.

    Parameters
    ----------
    path : str or Path
        ``.parquet``, ``.fits`` or ``.csv``; FITS is kept in memory until the end.
    provenance : Mapping
        What made it, of JSON types; CSV has no place for it.

    Raises
    ------
    InputError
        If the suffix is unknown.
    """

    def __init__(self, path: str | Path, provenance: Mapping[str, Any]) -> None:
        self.path = Path(path)
        if self.path.suffix not in SUFFIXES:
            raise InputError(
                path,
                expected=f"a name that ends in {', '.join(SUFFIXES)}",
                found=repr(self.path.suffix),
            )
        self._provenance = to_json(provenance)
        self._writer: Any = None
        self._pieces: list[pa.Table] = []

    def __enter__(self) -> Self:
        self._place = atomic(self.path)
        self._temporary = self._place.__enter__()
        return self

    def append(self, piece: pa.Table) -> None:
        """Write some rows; all pieces have the same columns."""
        if self.path.suffix == ".fits":
            self._pieces.append(piece)
            return
        if self._writer is None:
            self._metadata = {**(piece.schema.metadata or {}), PROVENANCE: self._provenance}
            schema = piece.schema.with_metadata(self._metadata)
            if self.path.suffix == ".parquet":
                self._writer = pq.ParquetWriter(self._temporary, schema, compression="zstd")
            else:
                self._writer = pacsv.CSVWriter(self._temporary, schema)
        self._writer.write_table(piece.replace_schema_metadata(self._metadata))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._writer is not None:
            self._writer.close()
        if kind is None and self._pieces:
            table = _as_table(pa.concat_tables(self._pieces))
            to_hdu(table, self._provenance).writeto(self._temporary, checksum=True)
        self._place.__exit__(kind, error, trace)


def _as_table(arrow: pa.Table) -> Table:
    table = Table()
    for field in arrow.schema:
        values = arrow[field.name].to_numpy()
        table[field.name] = values.astype(str) if values.dtype == object else np.asarray(values)
        described = field.metadata or {}
        table[field.name].unit = described.get(b"unit", b"").decode() or None
        table[field.name].description = described.get(b"description", b"").decode() or None
    return table
