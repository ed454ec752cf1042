"""How much a file may ask for, and where names that come from files may lead."""

from __future__ import annotations

import os
import re
import zlib
from pathlib import Path

from spectrolabe.errors import InputError

__all__ = [
    "LIMIT_VARIABLE",
    "MOST_COLUMNS",
    "check_name",
    "check_unpacked",
    "inside",
    "unpacked",
    "unpacked_limit",
]

LIMIT_VARIABLE = "SPECTROLABE_UNPACKED_LIMIT"
ALWAYS = 256 << 20  # bytes that any file may unpack to
RATIO = 100  # beyond that: times its own size; spectra and catalogues reach 2 to 20
MOST = 8 << 30  # and never more than this
MOST_COLUMNS = 10_000
LONGEST_NAME = 1000  # characters of the name of a star or spectrum
UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
CHUNK = 1 << 20


def unpacked_limit(packed: int) -> int:
    """Return how many bytes a file of so many may need in memory when it is unpacked.

    256 MiB, or 100 times its own size up to 8 GiB. The environment variable
    ``SPECTROLABE_UNPACKED_LIMIT`` (``20G``) replaces all of it.

    Raises
    ------
    InputError
        If the variable is no size.
    """
    own = os.environ.get(LIMIT_VARIABLE, "").strip()
    if not own:
        return min(MOST, max(ALWAYS, RATIO * packed))
    size = re.fullmatch(r"(\d{1,15})([KMGT]?)", own.upper())
    if size is None:
        raise InputError(LIMIT_VARIABLE, expected="a size such as 20G", found=repr(own))
    return int(size[1]) * UNITS[size[2]]


def check_unpacked(path: object, needed: int, packed: int) -> None:
    """See that a file does not ask for more memory than one of its size may.

    Parameters
    ----------
    path : object
    needed : int
        Bytes that it says it unpacks to.
    packed : int
        Its own size in bytes.

    Raises
    ------
    InputError
    """
    limit = unpacked_limit(packed)
    if needed > limit:
        raise InputError(
            path,
            expected=f"a file of {packed} bytes to need no more than {limit} bytes in memory",
            found=f"one that asks for {needed}" if needed < 1 << 63 else "one that asks for more",
            fix=f"If you trust it, raise the limit: {LIMIT_VARIABLE}=20G.",
        )


def unpacked(path: Path) -> bytes:
    """Return the content of a gzip file, of one member or several.

    Raises
    ------
    InputError
        If it is truncated, damaged, or unpacks to more than `unpacked_limit`.
    """
    packed = path.stat().st_size
    limit, size = unpacked_limit(packed), 0
    found: list[bytes] = []
    try:
        with path.open("rb") as stream:
            left = stream.read(CHUNK)
            while left.strip(b"\0") or not found:  # zeros may fill up the last block
                member = zlib.decompressobj(wbits=31)
                while not member.eof:
                    if not left:
                        raise EOFError("it ends too early")
                    part = member.decompress(left, limit + 1 - size)
                    found.append(part)
                    size += len(part)
                    if size > limit:
                        check_unpacked(path, size, packed)
                    left = member.unconsumed_tail or stream.read(CHUNK if not member.eof else 0)
                left = member.unused_data or stream.read(CHUNK)
    except (EOFError, zlib.error) as error:
        raise InputError(
            path,
            expected="a whole gzip file",
            found=f"a truncated or damaged one ({error})",
            fix="Download it again.",
        ) from error
    return b"".join(found)


def check_name(path: object, kind: str, name: str) -> None:
    """See that a name is no book: columns of names are as wide as the longest.

    Raises
    ------
    InputError
    """
    if len(name) > LONGEST_NAME:
        raise InputError(
            path,
            expected=f"a {kind} of at most {LONGEST_NAME} characters",
            found=f"{len(name)}, beginning with {name[:40]!r}",
        )


def inside(folder: Path, name: str, where: object) -> Path:
    """Return a path below a folder, of a name that a file gave.

    Raises
    ------
    InputError
        If the name leads out of the folder, as ``../x``, ``/x`` or by a link.
    """
    path = folder / name
    if "\0" in name or not path.resolve().is_relative_to(folder.resolve()):
        raise InputError(where, expected=f"a name inside {folder}", found=repr(name[:100]))
    return path
