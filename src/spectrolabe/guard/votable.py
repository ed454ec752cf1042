"""VOTables that name other files, or claim more than they hold, are not read.

The library follows ``<STREAM href="...">`` to any address of the network or path of the machine,
and makes arrays of as many rows and elements as attributes say.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from xml.parsers import expat

from spectrolabe.errors import InputError
from spectrolabe.guard.limits import MOST_COLUMNS, check_unpacked

__all__ = ["check_votable"]

CHUNK_ROWS = 256  # rows that the library makes room for in any case
CELL = 16  # bytes of the largest number
LARGEST = 1 << 62


def check_votable(path: object, content: bytes) -> None:
    """See that a VOTable is complete in itself and as large as it says.

    Raises
    ------
    InputError
        If it has entities, data elsewhere, or claims too much; if it is no XML.
    """
    walk = _Walk(path, len(content))
    parser = expat.ParserCreate()
    parser.EntityDeclHandler = walk.entity
    parser.StartElementHandler = walk.start
    try:
        parser.Parse(content, True)
    except expat.ExpatError as error:
        raise InputError(
            path,
            expected="FITS, VOTable, ECSV, CSV or Parquet",
            found=f"something that does not read as votable ({error})",
        ) from error


class _Walk:
    """Adds up what the elements claim."""

    def __init__(self, path: object, size: int) -> None:
        self.path, self.size = path, size
        self.rows, self.columns, self.cells, self.depth = CHUNK_ROWS, 0, 0, 0

    def entity(self, *_: object) -> None:
        raise InputError(self.path, expected="a VOTable without entities", found="<!ENTITY")

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        kind = name.rpartition(":")[2].upper()
        if kind == "STREAM" and any(key.lower() == "href" for key in attributes):
            raise InputError(
                self.path,
                expected="a VOTable that holds its own data",
                found=f"a link to {attributes.get('href', '')[:100]!r}",
                fix="Save it again with its data in it.",
            )
        if kind == "TABLE":
            self.cells, self.columns = 0, 0
            self.rows = max(_number(attributes.get("nrows", "0")), CHUNK_ROWS)
        elif kind in ("FIELD", "PARAM"):
            self.columns += 1
            sizes = re.split(r"x", attributes.get("arraysize", "1"))
            self.cells += math.prod(
                max(_number(one.strip().rstrip("*s") or "1"), 1) for one in sizes
            )
            if self.columns > MOST_COLUMNS:
                raise InputError(
                    self.path, expected=f"at most {MOST_COLUMNS} columns", found="more"
                )
            check_unpacked(self.path, min(self.rows * self.cells * CELL, LARGEST), self.size)


def _number(text: str) -> int:
    return int(text) if text.isdecimal() and len(text) < 19 else LARGEST if text.isdecimal() else 0
