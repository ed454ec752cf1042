"""Catalogues in HATS: Parquet partitioned by position, with margins, for LSDB and its like.

Wants the package `lsdb` (``pip install "spectrolabe[hats]"``), and the whole table in memory once.
"""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from spectrolabe.errors import InputError

__all__ = ["MARGIN", "check_hats", "write_hats"]

MARGIN = 10.0  # arcsec around each partition, so that matches are found beyond its edge
PROPERTY = "spectrolabe_provenance"


def check_hats(path: Path) -> None:
    """See that HATS can be written.

    Raises
    ------
    InputError
        If what writes it is not installed, or there is something of that name.
    """
    if importlib.util.find_spec("lsdb") is None:
        raise InputError(
            path,
            expected="lsdb, which writes HATS",
            found="no such package",
            fix='Install it: pip install "spectrolabe[hats]".',
        )
    if path.exists():
        raise InputError(
            path, expected="no folder of that name", found="one", fix="Remove it, or name another."
        )


def write_hats(source: Path, path: Path, provenance: str, ra: str = "ra", dec: str = "dec") -> None:
    """Partition a Parquet file by position; the folder appears whole or not at all.

    Parameters
    ----------
    source : Path
        Units and descriptions of its fields stay with the columns.
    path : Path
    provenance : str
        JSON, among the properties of the catalogue.
    ra, dec : str
        Columns of positions in degrees, finite in every row.

    Raises
    ------
    InputError
        If there are no such columns, or a position is not known.
    """
    import lsdb

    table = pq.read_table(source)
    lacking = [column for column in (ra, dec) if column not in table.column_names]
    if lacking:
        raise InputError(
            path,
            expected=f"columns {ra} and {dec}, by which HATS partitions",
            found=", ".join(table.column_names[:12]),
            fix="Write .parquet, or say what they are called: --columns ra=RA,dec=DEC.",
        )
    frame = table.to_pandas()
    unknown = int(frame[[ra, dec]].isna().any(axis=1).sum())
    if unknown:
        raise InputError(
            path,
            expected="a position of every row, by which HATS partitions",
            found=f"{unknown} rows without",
            fix="Write .parquet, or leave them out.",
        )
    catalog = lsdb.from_dataframe(
        frame, ra_column=ra, dec_column=dec, schema=table.schema, catalog_name=path.stem,
        margin_threshold=MARGIN,
    )  # fmt: skip
    if catalog.margin is not None and not catalog.margin.hc_structure.catalog_info.total_rows:
        catalog.margin = None  # lsdb cannot open a catalogue with an empty one
    partial = path.with_name(f".{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    catalog.write_catalog(
        partial, catalog_name=path.stem, addl_hats_properties={PROPERTY: provenance}
    )
    for common in partial.glob("*/dataset/_common_metadata"):
        _describe(common, table.schema)
    partial.rename(path)


def _describe(common: Path, schema: pa.Schema) -> None:
    """Write units, descriptions and UCDs, which lsdb leaves out, where readers look for columns."""
    found = pq.read_schema(common)
    for i, field in enumerate(found):
        if field.name in schema.names:
            found = found.set(i, field.with_metadata(schema.field(field.name).metadata))
    pq.write_metadata(found, common)
