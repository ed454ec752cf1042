"""Files of the catalogue: Parquet, FITS and HATS, with units, descriptions, UCDs and provenance.

A Parquet catalogue carries its units three times, so that no reader needs to know ours: in the
metadata of each field, as astropy's ``Table.read`` expects them, and as the VOTable header of the
IVOA note VOParquet 1.0, which TOPCAT reads.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
from astropy import units as u
from astropy.io import fits
from astropy.table import Table
from astropy.table.meta import get_yaml_from_table

from spectrolabe.catalogue.hats import PROPERTY, check_hats, write_hats
from spectrolabe.catalogue.schema import LABEL_FLAGS, RESULT_FLAGS
from spectrolabe.catalogue.ucds import ucd_of
from spectrolabe.errors import InputError
from spectrolabe.guard import blaming, check_unpacked
from spectrolabe.surveys.files import opened

__all__ = [
    "SUFFIXES",
    "atomic",
    "check_suffix",
    "read_catalogue",
    "read_row",
    "write_catalogue",
]

SUFFIXES = (".parquet", ".fits", ".hats")
PROVENANCE = b"spectrolabe.provenance"
WIDTH = b"table::len::"  # how astropy notes the width of a text column
PROVENANCE_CARD = "PROVJSON"
EXTENSION = "CATALOGUE"
AT_ONCE = 64  # columns of a group of rows that are in memory for one row
VOTABLE_NAMESPACE = "http://www.ivoa.net/xml/VOTable/v1.3"
VOTABLE_TYPES = {"f4": "float", "f8": "double", "i4": "int", "i8": "long", "b1": "boolean"}


def write_catalogue(table: Table, path: str | Path, provenance: Mapping[str, Any]) -> None:
    """Write a catalogue; the file appears whole or not at all.

    Parameters
    ----------
    table : Table
        As `build_catalogue` makes it.
    path : str or Path
        ``.parquet``, ``.fits`` or ``.hats``, a folder; an existing file is replaced, a folder is
        not. FITS knows only ASCII: other characters become ``\\xNN``.
    provenance : Mapping
        What made it (model, configuration, version, command), of JSON types.

    Raises
    ------
    InputError
        If the suffix is unknown or the provenance is not JSON.
    OSError
        If the file cannot be written; what was there before is untouched.
    """
    path = check_suffix(path)
    text = to_json(provenance)
    if path.suffix == ".hats":
        with as_hats(path, text) as temporary:
            pq.write_table(arrow_table(table, {PROVENANCE: text.encode()}), temporary)
        return
    with atomic(path) as temporary:
        if path.suffix == ".parquet":
            pq.write_table(arrow_table(table, {PROVENANCE: text.encode()}), temporary)
        else:
            to_hdu(table, text).writeto(temporary, checksum=True)


@contextmanager
def as_hats(path: Path, provenance: str, ra: str = "ra", dec: str = "dec") -> Iterator[Path]:
    """Give the name of a Parquet file to write; what is in it is partitioned by position then."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.parquet")
    try:
        yield temporary
        write_hats(temporary, path, provenance, ra, dec)
    finally:
        temporary.unlink(missing_ok=True)


def read_catalogue(path: str | Path, *, without: tuple[str, ...] = ()) -> Table:
    """Read a catalogue written by `write_catalogue`, whatever it is called.

    Parameters
    ----------
    path : str or Path
    without : tuple of str
        Columns that begin so are left out; ``rho_`` are most of a catalogue of many labels.

    Returns
    -------
    Table
        With units and descriptions; ``meta["provenance"]`` is the provenance.

    Raises
    ------
    InputError
        If the file is missing, damaged, or no Spectrolabe catalogue.
    """
    path = Path(path)
    if path.is_dir():
        with blaming(path, "a Spectrolabe catalogue"):
            return _from_hats(path, without)
    if path.is_file() and _magic(path) == b"PAR1":
        with blaming(path, "a Spectrolabe catalogue"):
            return _from_parquet(path, without)
    with opened(path) as file, blaming(path, "a Spectrolabe catalogue"):
        if file.hdus is None or EXTENSION not in file.extensions:
            raise _no_catalogue(path, f"HDUs {file.extensions}, columns {file.columns()[:12]}")
        return _from_hdu(path, file.hdus[EXTENSION], without)


def read_row(path: str | Path, row: int, start: str) -> dict[str, Any]:
    """Read one row of some columns, without the others in memory.

    Parameters
    ----------
    path : str or Path
        A catalogue that `read_catalogue` reads.
    row : int
        In its order, from 0.
    start : str
        How the names of the columns begin, for example ``rho_``.

    Returns
    -------
    dict
        Values by column.

    Raises
    ------
    InputError
        If the file is missing or damaged, or has no such row.
    """
    path = Path(path)
    with blaming(path, "a Spectrolabe catalogue"):
        if path.is_dir():
            source = pads.dataset(path / path.stem / "dataset", format="parquet")
        elif path.is_file() and _magic(path) == b"PAR1":
            source = pads.dataset(path, format="parquet")
        else:
            return _row_of_fits(path, row, start)
        names = [name for name in source.schema.names if name.startswith(start)]
        left = row
        for fragment in source.get_fragments():
            for group in fragment.split_by_row_group():
                count = group.row_groups[0].num_rows
                if 0 <= left < count:
                    check_unpacked(path, 8 * count * AT_ONCE, Path(group.path).stat().st_size)
                    return _row_of_group(group, names, left)
                left -= count
    raise InputError(path, expected=f"more than {row} rows", found=f"{row - left}")


def _row_of_group(group: pads.ParquetFileFragment, names: list[str], row: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for k in range(0, len(names), AT_ONCE):
        some = names[k : k + AT_ONCE]
        found |= group.to_table(columns=some).slice(row, 1).to_pylist()[0]
    return found


def _row_of_fits(path: Path, row: int, start: str) -> dict[str, Any]:
    with opened(path) as file:
        if file.hdus is None or EXTENSION not in file.extensions:
            raise _no_catalogue(path, f"HDUs {file.extensions}")
        data = file.hdus[EXTENSION].data
        if not 0 <= row < len(data):
            raise InputError(path, expected=f"more than {row} rows", found=f"{len(data)}")
        one = data[row]
        return {name: one[name].item() for name in data.names if name.startswith(start)}


def _magic(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(4)


def check_suffix(path: str | Path) -> Path:
    """Return the path; an unknown suffix is an error that lists the known ones."""
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise InputError(
            path,
            expected=f"a catalogue name that ends in {' or '.join(SUFFIXES)}",
            found=repr(path.suffix),
        )
    if path.suffix == ".hats":
        check_hats(path)
    return path


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Give a temporary name beside ``path``; rename it when all went well, else remove it."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")  # one of each writer
    try:
        yield temporary
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise OSError(error.errno, f"the catalogue is not written: {error}", str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def to_json(provenance: Mapping[str, Any]) -> str:
    """Return the provenance as JSON text."""
    try:
        return json.dumps(dict(provenance), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(
            "provenance", expected="text, numbers, lists and mappings", found=str(error)
        ) from error


def _no_catalogue(path: Path, found: str) -> InputError:
    return InputError(
        path,
        expected="a Spectrolabe catalogue",
        found=found,
        fix="Catalogues of surveys are read by surveys.read_labels.",
    )


# Parquet


def arrow_table(table: Table, metadata: Mapping[bytes, bytes]) -> pa.Table:
    """Return a Table as an Arrow table with all that describes its columns."""
    fields, arrays, lengths = [], [], {}
    for column in table.columns.values():
        values = np.asarray(column)
        array = pa.array(values.astype(values.dtype.newbyteorder("=")))
        description = {"unit": str(column.unit or ""), "description": column.description or ""}
        description["ucd"] = ucd_of(column.name)
        fields.append(pa.field(column.name, array.type, metadata=description))
        arrays.append(array)
        if values.dtype.kind == "U":  # astropy cannot know the width otherwise
            lengths[WIDTH + column.name.encode()] = str(values.dtype.itemsize // 4).encode()
    bare = Table(table[:0], meta={}, copy=False)
    described = {
        b"table_meta_yaml": "\n".join(get_yaml_from_table(bare)).encode(),
        b"IVOA.VOTable-Parquet.version": b"1.0",
        b"IVOA.VOTable-Parquet.content": _votable_header(table),
    }
    schema = pa.schema(fields, metadata={**lengths, **described, **metadata})
    return pa.Table.from_arrays(arrays, schema=schema)


def _votable_header(table: Table) -> bytes:
    """A VOTable without data, as the VOParquet note asks for."""
    root = ElementTree.Element("VOTABLE", version="1.4", xmlns=VOTABLE_NAMESPACE)
    inner = ElementTree.SubElement(ElementTree.SubElement(root, "RESOURCE"), "TABLE")
    for column in table.columns.values():
        kind = column.dtype.str[1:]
        attributes = {"name": column.name, "datatype": VOTABLE_TYPES.get(kind, "unicodeChar")}
        if kind not in VOTABLE_TYPES:
            attributes["arraysize"] = str(max(column.dtype.itemsize // 4, 1))
        if column.unit:
            attributes["unit"] = str(column.unit)
        if ucd_of(column.name):
            attributes["ucd"] = ucd_of(column.name)
        field = ElementTree.SubElement(inner, "FIELD", attributes)
        ElementTree.SubElement(field, "DESCRIPTION").text = column.description or ""
    return ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)


def _wanted(names: Iterable[str], without: tuple[str, ...]) -> list[str]:
    return [name for name in names if not name.startswith(without)]


def _from_parquet(path: Path, without: tuple[str, ...]) -> Table:
    try:
        found = pq.ParquetFile(path)
        names = _wanted(found.schema_arrow.names, without)
        check_unpacked(path, 8 * found.metadata.num_rows * len(names), path.stat().st_size)
        arrow = pq.read_table(path, columns=names)
    except (pa.ArrowException, OSError) as error:
        raise InputError(path, expected="a whole Parquet file", found=str(error)) from error
    metadata = arrow.schema.metadata or {}
    if PROVENANCE not in metadata:
        raise _no_catalogue(path, f"columns {arrow.column_names[:12]}")
    return _from_arrow(arrow, metadata[PROVENANCE])


def _from_hats(path: Path, without: tuple[str, ...]) -> Table:
    """Rows in the order of their partitions."""
    properties = path / path.stem / "hats.properties"
    text = properties.read_text(encoding="utf-8") if properties.is_file() else ""
    found = [line.partition("=")[2] for line in text.splitlines() if line.startswith(PROPERTY)]
    if not found:
        raise _no_catalogue(path, f"a folder without {PROPERTY} in {properties.name}")
    try:
        schema = pq.read_schema(properties.parent / "dataset" / "_common_metadata")
        kept = [n for n in _wanted(schema.names, (*without, "_healpix"))]
        arrow = pads.dataset(properties.parent / "dataset", schema=schema).to_table(columns=kept)
    except (pa.ArrowException, OSError) as error:
        raise InputError(path, expected="a whole HATS catalogue", found=str(error)) from error
    return _from_arrow(arrow, found[0].strip())


def _from_arrow(arrow: pa.Table, provenance: str | bytes) -> Table:
    table = Table(meta={"provenance": json.loads(provenance)})
    for field in arrow.schema:
        values = arrow[field.name].to_numpy()
        text = pa.types.is_string(field.type) or pa.types.is_large_string(field.type)
        table[field.name] = values.astype(str) if text else values
        described = field.metadata or {}
        table[field.name].unit = described.get(b"unit", b"").decode() or None
        table[field.name].description = described.get(b"description", b"").decode() or None
    return table


# FITS


def to_hdu(table: Table, provenance: str) -> fits.HDUList:
    """Return a Table as a FITS file with all that describes its columns."""
    plain = Table(meta={})
    for name in table.colnames:
        values = np.asarray(table[name])
        if values.dtype.kind == "U":
            values = np.char.encode(values, "ascii", "backslashreplace")
        plain[name] = values
    hdu = fits.table_to_hdu(plain)
    hdu.name = EXTENSION
    header = hdu.header
    for i, column in enumerate(table.columns.values(), start=1):
        # not by astropy, which drops dex because the FITS standard lacks it
        if column.unit:
            header.set(f"TUNIT{i}", _fits_unit(column.unit), after=f"TFORM{i}")
        if ucd_of(column.name):
            header.set(f"TUCD{i}", ucd_of(column.name), after=f"TFORM{i}")  # as TOPCAT has it
        if column.description:
            header.set(f"TCOMM{i}", column.description, after=f"TFORM{i}")
    # JSON may write quotes as escapes; astropy loses a long string that has "/ '" in it
    header[PROVENANCE_CARD] = provenance.replace("'", "\\u0027")
    for what, flags in (("result_flags", RESULT_FLAGS), ("<label>_flags", LABEL_FLAGS)):
        for flag, description in flags.items():
            header.add_comment(f"{what} {int(flag)} {flag.name}: {description}")
    return fits.HDUList([fits.PrimaryHDU(), hdu])


def _fits_unit(unit: u.UnitBase) -> str:
    try:
        return unit.to_string("fits")
    except ValueError:
        return str(unit)


def _from_hdu(path: Path, hdu: fits.BinTableHDU, without: tuple[str, ...]) -> Table:
    if PROVENANCE_CARD not in hdu.header:
        raise _no_catalogue(path, f"a table without {PROVENANCE_CARD}")
    table = Table(meta={"provenance": json.loads(hdu.header[PROVENANCE_CARD])})
    wanted = set(_wanted(hdu.columns.names, without))
    for i, name in enumerate(hdu.columns.names, start=1):
        if name not in wanted:
            continue
        values = np.asarray(hdu.data[name])
        native = values.astype(values.dtype.newbyteorder("="))
        table[name] = native.astype(str) if native.dtype.kind == "S" else native
        table[name].unit = hdu.header.get(f"TUNIT{i}")
        table[name].description = hdu.header.get(f"TCOMM{i}")
    return table
