"""Opening a file once, by what it holds and not by how it is called."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.table import Table
from astropy.utils.exceptions import AstropyUserWarning
from numpy.typing import NDArray

from spectrolabe.errors import InputError
from spectrolabe.guard import MOST_COLUMNS, blaming, check_unpacked, unpacked
from spectrolabe.guard.fits import check_fits
from spectrolabe.guard.text import check_table
from spectrolabe.guard.votable import check_votable

__all__ = ["SurveyFile", "column_numbers", "column_of", "column_text", "opened", "read_table"]

GZIP_MAGIC = b"\x1f\x8b"
OTHER_PACKINGS = {b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"PK\x03\x04": "zip", b"\x1f\x9d": "compress"}
NO_TABLES = {
    b"\x89PNG": "a picture (PNG)",
    b"\xff\xd8\xff": "a picture (JPEG)",
    b"%PDF": "a PDF",
    b"\x89HDF": "an HDF5 file",
    b"<!DOCTYPE": "a web page (is it an error message of the archive?)",
    b"<html": "a web page (is it an error message of the archive?)",
}
PARQUET_ROWS = 16_384  # read at a time, so that what grows too much is seen before it is whole
PLAIN_FORMATS = {"B": "u1", "I": ">i2", "J": ">i4", "K": ">i8", "E": ">f4", "D": ">f8"}


@dataclass(frozen=True)
class SurveyFile:
    """An open file: either FITS (``hdus``) or a table in another format (``table``).

    Parameters
    ----------
    path : Path
    hdus : HDUList or None
        The HDUs of a FITS file.
    table : Table or None
        The content of a VOTable, ECSV, CSV or Parquet file.
    content : bytes or None
        The decompressed bytes of a gzipped FITS file.
    """

    path: Path
    hdus: fits.HDUList | None = None
    table: Table | None = None
    content: bytes | None = field(default=None, repr=False)

    @cached_property
    def header(self) -> fits.Header:
        """The primary header; an empty one when this is no FITS file."""
        return self.hdus[0].header if self.hdus is not None else fits.Header()

    @cached_property
    def extensions(self) -> list[str]:
        """Names of the HDUs in upper case, in the order of the file."""
        return [hdu.name.upper() for hdu in self.hdus] if self.hdus is not None else []

    def columns(self, extension: int | str = 1) -> list[str]:
        """Column names of a table HDU, or of the table; empty where there is none."""
        if self.table is not None:
            return list(self.table.colnames)
        if extension not in self._columns:  # every survey asks when a file is recognised
            hdu = self._table_hdu(extension)
            self._columns[extension] = [] if hdu is None else _field_names(hdu.header)
        return list(self._columns[extension])

    def image(self, extension: int | str = 0) -> NDArray:
        """Return the pixels of an image HDU in native byte order.

        Raises
        ------
        KeyError
            If there is no such HDU, or it holds no image.
        """
        data = self.hdus[extension].data if self.hdus is not None else None
        if data is None:
            raise KeyError(f"no image in extension {extension!r}")
        return np.asarray(data, dtype=data.dtype.newbyteorder("="))

    def arrays(self, extension: int | str = 1) -> dict[str, NDArray]:
        """Return the columns of a table HDU by upper-case name.

        Plain numeric columns are read straight from the bytes, several times faster than through
        `astropy.io.fits.FITS_rec`, which counts where a survey has a file for every spectrum.

        Returns
        -------
        dict of str to ndarray, shape (rows,) or (rows, elements)
        """
        hdu = self._table_hdu(extension)
        if hdu is None:
            raise KeyError(f"no table in extension {extension!r}")
        names = [name.upper() for name in self.columns(extension)]
        rows = self._plain_rows(hdu)
        if rows is None:
            return {name: np.asarray(hdu.data.field(i)) for i, name in enumerate(names)}
        return {name: rows[f"f{i}"] for i, name in enumerate(names)}

    @cached_property
    def _columns(self) -> dict[int | str, list[str]]:
        return {}

    def _table_hdu(self, extension: int | str) -> fits.BinTableHDU | None:
        if self.hdus is None:
            return None
        names = self.extensions
        if isinstance(extension, str):
            extension = names.index(extension.upper()) if extension.upper() in names else len(names)
        hdu = self.hdus[extension] if extension < len(names) else None
        return hdu if isinstance(hdu, fits.BinTableHDU) else None

    def _plain_rows(self, hdu: fits.BinTableHDU) -> NDArray | None:
        dtype = _plain_dtype(hdu.header)
        if dtype is None or dtype.itemsize != hdu.header["NAXIS1"]:
            return None
        start, count = hdu.fileinfo()["datLoc"], hdu.header["NAXIS2"]
        if self.content is not None:
            return np.frombuffer(self.content, dtype, count=count, offset=start)
        return np.fromfile(self.path, dtype, count=count, offset=start)

    def meta(self, *keys: str) -> dict[str, Any]:
        """The file name and these cards of the primary header, keys in lower case."""
        cards = {key.lower(): self.header[key] for key in keys if key in self.header}
        return {"file": self.path.name, **cards}


def _field_names(header: fits.Header) -> list[str]:
    count = header["TFIELDS"]
    return [str(header.get(f"TTYPE{i}", f"col{i}")).strip() for i in range(1, count + 1)]


def _plain_dtype(header: fits.Header) -> np.dtype | None:
    """Row layout of a table of unscaled numbers; None where astropy has to interpret it."""
    fields: list[tuple[str, str] | tuple[str, str, tuple[int]]] = []
    for i in range(1, header["TFIELDS"] + 1):
        form = re.fullmatch(r"(\d*)([A-Z])", str(header[f"TFORM{i}"]).strip())
        scaled = any(f"{key}{i}" in header for key in ("TSCAL", "TZERO", "TDIM", "TNULL"))
        if form is None or form[2] not in PLAIN_FORMATS or form[1] == "0" or scaled:
            return None
        kind, count = PLAIN_FORMATS[form[2]], int(form[1] or 1)
        fields.append((f"f{i - 1}", kind) if count == 1 else (f"f{i - 1}", kind, (count,)))
    return np.dtype(fields)


@contextmanager
def opened(path: str | Path) -> Iterator[SurveyFile]:
    """Open a file of any supported kind, recognised by its first bytes.

    Raises
    ------
    InputError
        If the file is missing, empty, truncated or of no kind that can be read.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(path, expected="a file", found="none", fix="Check the path.")
    with blaming(path, "a file that can be read"):
        with path.open("rb") as stream:
            magic = stream.read(16)
        content = unpacked(path) if magic.startswith(GZIP_MAGIC) else None
    if content is not None:
        magic = content[:16]
    if not magic:
        raise InputError(
            path,
            expected="a spectrum or a table",
            found="an empty file (0 bytes)",
            fix="Download it again.",
        )
    for begin, packing in OTHER_PACKINGS.items():
        if magic.startswith(begin):
            raise InputError(
                path,
                expected="FITS, VOTable, ECSV, CSV or Parquet, plain or packed by gzip",
                found=f"a file packed by {packing}",
                fix="Unpack it.",
            )
    for begin, kind in NO_TABLES.items():
        if magic.startswith(begin):
            raise InputError(
                path,
                expected="FITS, VOTable, ECSV, CSV or Parquet",
                found=f"{kind}, whatever its name says",
                fix="Check the path.",
            )
    if magic.startswith(b"SIMPLE"):
        with _open_fits(path, content) as hdus:
            yield SurveyFile(path, hdus=hdus, content=content)
    else:
        yield SurveyFile(path, table=_open_table(path, content, magic))


@contextmanager
def _open_fits(path: Path, content: bytes | None) -> Iterator[fits.HDUList]:
    fix = "Download it again."
    with path.open("rb") if content is None else io.BytesIO(content) as stream:
        check_fits(path, stream, path.stat().st_size if content is None else len(content))
    try:
        with warnings.catch_warnings():
            # the second is what astropy says of a file that ends inside a header
            for complaint in (".*truncated.*", "Error validating header.*"):
                warnings.filterwarnings("error", complaint, AstropyUserWarning)
            if content is None:
                hdus = fits.open(str(path), lazy_load_hdus=False)
            else:
                hdus = fits.open(io.BytesIO(content), lazy_load_hdus=False)
    except Exception as error:  # astropy has many for damaged headers
        reason = " ".join(str(error).split())
        raise InputError(
            path,
            expected="a whole FITS file",
            found=f"a truncated or damaged one ({reason})",
            fix=fix,
        ) from error
    with hdus:
        with blaming(path, "a whole FITS file"):
            last = hdus[-1].fileinfo()
            end = last["datLoc"] + last["datSpan"]
        size = path.stat().st_size if content is None else len(content)
        if size < end:
            raise InputError(
                path, expected=f"{end} bytes of FITS", found=f"a truncated file of {size}", fix=fix
            )
        yield hdus


def _open_table(path: Path, content: bytes | None, magic: bytes) -> Table:
    if content is None:
        content = path.read_bytes()
    if magic.startswith(b"PAR1"):
        kind = "parquet"
    elif magic.lstrip().startswith((b"<?xml", b"<VOTABLE")):
        kind = "votable"
    else:
        kind = "ascii.ecsv" if magic.startswith(b"# %ECSV") else "ascii.csv"
    try:
        if kind == "parquet":
            return _parquet(path, content)
        if kind == "votable":
            check_votable(path, content)
            return _votable(content)
        check_table(path, content, b"," if kind == "ascii.csv" else b" ")
        if kind == "ascii.csv":
            return _csv(content)
        return Table.read(io.BytesIO(content), format=kind)
    except InputError:
        raise
    except Exception as error:  # each format raises errors of its own
        raise InputError(
            path,
            expected="FITS, VOTable, ECSV, CSV or Parquet",
            found=f"something that does not read as {kind} ({type(error).__name__}: {error})",
        ) from error


def _parquet(path: Path, content: bytes) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = pq.ParquetFile(pa.BufferReader(content))
    columns, rows = file.metadata.num_columns, file.metadata.num_rows
    if columns > MOST_COLUMNS:
        raise InputError(path, expected=f"at most {MOST_COLUMNS} columns", found=f"{columns}")
    check_unpacked(path, 8 * columns * rows, len(content))
    batches, size = [], 0
    for batch in file.iter_batches(PARQUET_ROWS):
        batches.append(batch)
        size += batch.nbytes
        check_unpacked(path, size, len(content))
    arrow = pa.Table.from_batches(batches, file.schema_arrow)
    table = Table({name: arrow[name].to_numpy() for name in arrow.column_names})
    table.meta = {k.decode(): v.decode() for k, v in (arrow.schema.metadata or {}).items()}
    return table


def _votable(content: bytes) -> Table:
    """Read VOTable; PARAMs become the table's meta, or columns where there are several tables."""
    from astropy.io.votable import parse
    from astropy.table import vstack

    tables = []
    for element in parse(io.BytesIO(content)).iter_tables():
        table = element.to_table(use_names_over_ids=True)
        table.meta = {param.name: param.value for param in element.params}
        tables.append(table)
    if len(tables) == 1:
        return tables[0]
    for table in tables:
        for name, value in table.meta.items():
            table[name] = [value] * len(table)
    return vstack(tables, metadata_conflicts="silent")


def _csv(content: bytes) -> Table:
    """Read CSV; leading lines ``# KEY = value`` become the table's meta."""
    text = content.decode("utf-8-sig")
    comments = re.match(r"(?:[ \t]*(?:#.*)?\r?\n)*", text)
    head = comments[0] if comments else ""
    with warnings.catch_warnings():  # a flag of 41 digits is text, and read as such
        warnings.filterwarnings("ignore", "OverflowError converting to IntType")
        table = Table.read(io.BytesIO(text[len(head) :].encode()), format="ascii.csv")
    table.meta.update(
        {
            key: value
            for key, value in re.findall(r"^[ \t]*#\s*([\w-]+)\s*=\s*(.*?)\s*$", head, re.M)
        }
    )
    return table


def read_table(path: str | Path, extension: int | str = 1) -> Table:
    """Read a table of labels in any of the formats; the first table HDU of a FITS file.

    Parameters
    ----------
    path : str or Path
    extension : int or str
        HDU of a FITS file.

    Raises
    ------
    InputError
        As `opened`; also if a FITS file has no such table.
    """
    with opened(path) as file:
        if file.table is not None:
            return file.table
        with blaming(path, f"a table in HDU {extension}"):
            names = file.columns(extension)
        if not names:
            raise InputError(
                path, expected=f"a table in HDU {extension}", found=f"HDUs {file.extensions}"
            )
        with blaming(path, f"a table in HDU {extension}"):
            return Table.read(file.hdus, hdu=extension, unit_parse_strict="silent")


def column_of(table: Table, name: str) -> np.ma.MaskedArray:
    """Return a column, shape (N,).

    Raises
    ------
    InputError
        If it has several values in a row.
    """
    found = np.ma.asarray(table[name])
    if found.size == len(table):  # FITS may say that a number is an array of one
        found = found.reshape(len(table))
    if found.ndim != 1:
        raise InputError(
            f"column {name}", expected="one value a row", found=f"an array of shape {found.shape}"
        )
    return found


def column_numbers(table: Table, name: str) -> NDArray:
    """Return a column as float64, NaN where it is masked or empty.

    Raises
    ------
    InputError
        If it holds something else.
    """
    column = column_of(table, name)
    missing = np.ma.getmaskarray(column)
    values = np.full(column.shape, np.nan)
    try:
        values[~missing] = np.asarray(column.data[~missing]).astype(float)
    except (ValueError, TypeError) as error:
        raise InputError(f"column {name}", expected="numbers", found=str(error)) from error
    return values


def column_text(table: Table, name: str) -> NDArray:
    """Return a column as text without blanks at the ends, empty where it is masked or null."""
    column = column_of(table, name)
    values = np.asarray(np.ma.filled(column.astype(object), ""))
    text = [v.decode() if isinstance(v, bytes) else "" if v is None else str(v) for v in values]
    return np.char.strip(np.array(text, dtype=str))
