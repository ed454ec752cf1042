"""The homogenised catalogue: every row and column of the table, and what is new of each label."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from astropy.table import Table

from spectrolabe.catalogue.files import PROVENANCE, as_hats, atomic, to_hdu, to_json
from spectrolabe.catalogue.hats import check_hats
from spectrolabe.catalogue.schema import LABEL_FLAGS
from spectrolabe.errors import InputError
from spectrolabe.homogenise.corrector import Corrected
from spectrolabe.labels import LABELS, Labels

__all__ = ["SUFFIXES", "check_columns", "check_suffix", "new_columns", "write_pieces"]

SUFFIXES = (".parquet", ".fits", ".csv", ".hats")
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


def check_suffix(path: str | Path) -> Path:
    """Return the path, if it is of a known format.

    Raises
    ------
    InputError
        If the suffix is unknown, or HATS is asked for without what writes it or over an old one.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise InputError(
            path, expected=f"a name that ends in {', '.join(SUFFIXES)}", found=repr(path.suffix)
        )
    if path.suffix == ".hats":
        check_hats(path)
    return path


def check_columns(path: str | Path, schema: pa.Schema) -> None:
    """See that a format has room for all columns, before anything is computed.

    Raises
    ------
    InputError
        If CSV cannot hold one (lists), or FITS (lists, times, decimals, bytes).
    """
    suffix = Path(path).suffix
    kinds: list[Any] = []
    if suffix in (".csv", ".fits"):
        kinds += [pa.types.is_nested, pa.types.is_binary]
    if suffix == ".fits":
        kinds += [pa.types.is_temporal, pa.types.is_decimal]
    unfit = [
        f"{field.name} ({field.type})"
        for field in schema
        if any(is_kind(field.type) for is_kind in kinds)
    ]
    if unfit:
        raise InputError(
            path,
            expected=f"columns that {suffix} can hold",
            found=", ".join(unfit[:8]),
            fix="Write .parquet, or leave these columns out of the table.",
        )


def write_pieces(
    path: str | Path,
    pieces: Iterable[pa.Table],
    provenance: Mapping[str, Any],
    position: tuple[str, str] = ("ra", "dec"),
) -> None:
    """Write a table that comes by pieces; it appears whole or not at all.

    Parameters
    ----------
    path : str or Path
        ``.parquet``, ``.fits``, ``.csv``, or ``.hats``, a folder of that partition; FITS and HATS
        need the whole table in memory at the end.
    pieces : iterable of pyarrow Table
        With the same columns.
    provenance : Mapping
        What made it, of JSON types; CSV has no place for it.
    position : tuple of str
        Columns by which HATS partitions.

    Raises
    ------
    InputError
        As `check_suffix`; if HATS has no positions.
    OSError
        If it cannot be written; what was there before is untouched.
    """
    path = check_suffix(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".hats":
        with as_hats(path, to_json(provenance), *position) as whole:
            _write_rows(whole, pieces, to_json(provenance))
        return
    with atomic(path) as temporary:
        if path.suffix == ".fits":
            table, nulls = _as_table(pa.concat_tables(pieces))
            hdus = to_hdu(table, to_json(provenance))
            for name, value in nulls.items():
                hdus[1].header[f"TNULL{table.colnames.index(name) + 1}"] = value
            hdus.writeto(temporary, checksum=True)
        else:
            _write_rows(temporary, pieces, to_json(provenance), csv=path.suffix == ".csv")


def _write_rows(
    path: Path, pieces: Iterable[pa.Table], provenance: str, *, csv: bool = False
) -> None:
    writer: Any = None
    try:
        for piece in pieces:
            # what the input said of its columns as a whole is not true of these
            piece = piece.replace_schema_metadata({PROVENANCE: provenance})
            if writer is None:
                kind = pacsv.CSVWriter if csv else pq.ParquetWriter
                writer = kind(path, piece.schema)
            writer.write_table(piece)
    finally:
        if writer is not None:
            writer.close()


def _as_table(arrow: pa.Table) -> tuple[Table, dict[str, int]]:
    """A table, and what stands for missing integers in it."""
    table, nulls = Table(), {}
    for field in arrow.schema:
        column = arrow[field.name]
        if pa.types.is_integer(field.type) and column.null_count:
            nulls[field.name] = int(np.iinfo(field.type.to_pandas_dtype()).min)
            column = column.fill_null(nulls[field.name])
        elif pa.types.is_string(field.type) or pa.types.is_large_string(field.type):
            column = column.fill_null("")
        values = column.to_numpy()
        table[field.name] = values.astype(str) if values.dtype == object else np.asarray(values)
        described = field.metadata or {}
        table[field.name].unit = described.get(b"unit", b"").decode() or None
        table[field.name].description = described.get(b"description", b"").decode() or None
    return table, nulls
