"""Opening a file once, by what it holds and not by how it is called."""

from __future__ import annotations

import gzip
import io
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from astropy.io import fits
from astropy.table import Table
from astropy.utils.exceptions import AstropyUserWarning

from spectrolabe.errors import InputError

__all__ = ["SurveyFile", "opened", "read_table"]

GZIP_MAGIC = b"\x1f\x8b"


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
    """

    path: Path
    hdus: fits.HDUList | None = None
    table: Table | None = None

    @property
    def header(self) -> fits.Header:
        """The primary header; an empty one when this is no FITS file."""
        return self.hdus[0].header if self.hdus is not None else fits.Header()

    @property
    def extensions(self) -> list[str]:
        """Names of the HDUs in upper case, in the order of the file."""
        return [hdu.name.upper() for hdu in self.hdus] if self.hdus is not None else []

    def columns(self, extension: int | str = 1) -> list[str]:
        """Column names of a table HDU, or of the table; empty where there is none."""
        if self.table is not None:
            return list(self.table.colnames)
        try:
            hdu = self.hdus[extension] if self.hdus is not None else None
        except (IndexError, KeyError):
            return []
        return list(hdu.columns.names) if isinstance(hdu, fits.BinTableHDU) else []

    def meta(self, *keys: str) -> dict[str, Any]:
        """The file name and these cards of the primary header, keys in lower case."""
        cards = {key.lower(): self.header[key] for key in keys if key in self.header}
        return {"file": self.path.name, **cards}


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
    with path.open("rb") as stream:
        magic = stream.read(16)
    if not magic:
        raise InputError(path, expected="a spectrum or a table", found="an empty file (0 bytes)")
    source: Any = str(path)
    if magic.startswith(GZIP_MAGIC):
        content = _decompressed(path)
        magic, source = content[:16], io.BytesIO(content)
    if magic.startswith(b"SIMPLE"):
        with _open_fits(path, source) as hdus:
            yield SurveyFile(path, hdus=hdus)
    else:
        yield SurveyFile(path, table=_open_table(path, source, magic))


def _decompressed(path: Path) -> bytes:
    try:
        return gzip.decompress(path.read_bytes())
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(
            path,
            expected="a whole gzip file",
            found=f"a truncated or damaged one ({error})",
            fix="Download it again.",
        ) from error


@contextmanager
def _open_fits(path: Path, source: str | io.BytesIO) -> Iterator[fits.HDUList]:
    fix = "Download it again."
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", ".*truncated.*", AstropyUserWarning)
            hdus = fits.open(source, memmap=isinstance(source, str), lazy_load_hdus=False)
    except (AstropyUserWarning, OSError, ValueError, KeyError) as error:
        raise InputError(
            path, expected="a whole FITS file", found=f"a truncated or damaged one ({error})", fix=fix
        ) from error
    with hdus:
        end = max(hdu.fileinfo()["datLoc"] + hdu.fileinfo()["datSpan"] for hdu in hdus)
        size = source.getbuffer().nbytes if isinstance(source, io.BytesIO) else path.stat().st_size
        if size < end:
            raise InputError(
                path, expected=f"{end} bytes of FITS", found=f"a truncated file of {size}", fix=fix
            )
        yield hdus


def _open_table(path: Path, source: str | io.BytesIO, magic: bytes) -> Table:
    if magic.startswith(b"PAR1"):
        kind = "parquet"
    elif magic.lstrip().startswith((b"<?xml", b"<VOTABLE")):
        kind = "votable"
    elif magic.startswith(b"# %ECSV"):
        kind = "ascii.ecsv"
    else:
        kind = "ascii.csv"
    try:
        if kind == "parquet":
            import pyarrow.parquet as pq

            arrow = pq.read_table(source)
            table = Table({name: arrow[name].to_numpy() for name in arrow.column_names})
            table.meta = {k.decode(): v.decode() for k, v in (arrow.schema.metadata or {}).items()}
            return table
        return Table.read(source, format=kind)
    except Exception as error:  # each format raises errors of its own
        raise InputError(
            path,
            expected="FITS, VOTable, ECSV, CSV or Parquet",
            found=f"something that does not read as {kind} ({type(error).__name__}: {error})",
        ) from error


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
        if not file.columns(extension):
            raise InputError(
                path, expected=f"a table in HDU {extension}", found=f"HDUs {file.extensions}"
            )
        return Table.read(file.hdus, hdu=extension, unit_parse_strict="silent")
