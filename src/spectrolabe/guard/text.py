"""Text, JSON and tables of text, none of them larger than makes sense."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from spectrolabe.errors import InputError
from spectrolabe.guard.limits import MOST_COLUMNS, check_unpacked

__all__ = ["check_table", "read_json", "read_text"]

LARGEST = 64 << 20  # bytes of a card or a configuration
LARGEST_HEADER = 1 << 20  # of ECSV, whose YAML is slow to read
QUOTED = re.compile(rb'(?:^|[,;\t\n])[ ]*"((?:[^"]|"")*)"')
PER_CHARACTER = 4  # bytes in a column of text


def read_text(path: Path, what: str) -> str:
    """Return a text file in UTF-8.

    Raises
    ------
    InputError
        If it is too large, cannot be read, or is no text.
    """
    try:
        size = path.stat().st_size
        if size > LARGEST:
            raise InputError(path, expected=f"{what} of at most {LARGEST} bytes", found=f"{size}")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(path, expected=what, found=str(error)) from error
    except UnicodeDecodeError as error:
        raise InputError(path, expected=what, found="a file that is no text in UTF-8") from error


def read_json(path: Path, what: str) -> dict[str, Any]:
    """Return the object that a JSON file holds.

    Raises
    ------
    InputError
        As `read_text`; also if it is no JSON object.
    """
    try:
        found = json.loads(read_text(path, what))
    except (json.JSONDecodeError, RecursionError) as error:
        raise InputError(path, expected=what, found=str(error)) from error
    if not isinstance(found, dict):
        raise InputError(path, expected=what, found=f"JSON of type {type(found).__name__}")
    return found


def check_table(path: object, content: bytes, separator: bytes) -> None:
    """See that a table of text does not grow when it is read.

    A column of text has the width of its longest value in every row, so that one long value among
    many short rows asks for far more memory than the file has bytes.

    Raises
    ------
    InputError
        If it has too many columns, a long header of ECSV, or would grow too much.
    """
    head = re.match(rb"(?:[ \t]*#[^\n]*\n|[ \t\r]*\n)*", content)
    begin = head.end() if head else 0
    if begin > LARGEST_HEADER:
        raise InputError(
            path, expected=f"a header of at most {LARGEST_HEADER} bytes", found=f"{begin}"
        )
    columns = content[begin:].split(b"\n", 1)[0].count(separator) + 1
    if columns > MOST_COLUMNS:
        raise InputError(path, expected=f"at most {MOST_COLUMNS} columns", found=f"{columns}")
    rows, widest, at = 1, 0, begin
    while (end := content.find(b"\n", at)) >= 0:
        rows, widest, at = rows + 1, max(widest, end - at), end + 1
    widest = max(widest, len(content) - at)
    if b'"' in content:
        widest = max([widest, *(len(one[1]) for one in QUOTED.finditer(content))])
    check_unpacked(path, rows * widest * PER_CHARACTER, len(content))
