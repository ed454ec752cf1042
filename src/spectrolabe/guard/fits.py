"""The sizes that a FITS file claims, compared with what it has, before anything believes them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import BinaryIO

from spectrolabe.errors import InputError
from spectrolabe.guard.limits import check_unpacked

__all__ = ["check_fits"]

BLOCK, CARD = 2880, 80
LONGEST_HEADER = 4 << 20  # bytes, 50,000 cards
MOST_HDUS = 2000
MOST_AXES = MOST_FIELDS = 999  # of the standard
SIZES = re.compile(
    rb"(?:BITPIX|NAXIS\d{0,3}|PCOUNT|GCOUNT|GROUPS|TFIELDS|THEAP|ZIMAGE|ZBITPIX|Z(?:NAXIS|TILE)"
    rb"\d{0,3}) *=",
    re.IGNORECASE,
)
END = re.compile(rb"END(?![A-Z0-9_-])")


def check_fits(path: object, stream: BinaryIO, size: int) -> None:
    """See that no header claims more than the file has.

    Libraries make lists of ``NAXIS`` and ``TFIELDS`` entries and arrays of the sizes that a header
    states. What is no FITS at all is left for them to say.

    Parameters
    ----------
    path : object
        For messages.
    stream : binary file
        From its beginning.
    size : int
        Of the file in bytes.

    Raises
    ------
    InputError
        If a count is impossible or stated twice, the data end behind the file, or a packed image
        is too large.
    """
    at, number = 0, 0
    while at < size:
        stream.seek(at)
        header = _header(path, stream)
        if header is None:
            return
        where = f"{path}, HDU {number}"
        claims = _claims(where, header)
        data = _data(where, claims)
        at += len(header)
        if data > size - at:
            raise InputError(
                path,
                expected=f"{data} bytes of data in HDU {number}, as its header says",
                found=f"{size - at} (a truncated or damaged file)",
                fix="Download it again.",
            )
        _check_packed_image(where, claims, data)
        at += -(-data // BLOCK) * BLOCK
        number += 1
        if number > MOST_HDUS:
            raise InputError(path, expected=f"at most {MOST_HDUS} HDUs", found="more")


def _header(path: object, stream: BinaryIO) -> bytes | None:
    """The blocks of a header; None where the file ends before it."""
    blocks: list[bytes] = []
    while len(block := stream.read(BLOCK)) == BLOCK:
        blocks.append(block)
        if any(one.start() % CARD == 0 for one in END.finditer(block)):
            return b"".join(blocks)
        if len(blocks) * BLOCK > LONGEST_HEADER:
            raise InputError(
                path, expected=f"headers of at most {LONGEST_HEADER} bytes", found="a longer one"
            )
    return None


def _claims(where: str, header: bytes) -> dict[str, int]:
    """The numbers of the cards that state sizes; libraries differ in which of two cards counts."""
    found: dict[str, int] = {}
    for match in SIZES.finditer(header):
        if match.start() % CARD:
            continue
        card = header[match.start() : match.start() + CARD].decode("latin-1")
        key, _, rest = card.partition("=")
        value = rest.partition("/")[0].strip()
        try:
            number = int(value) if value not in ("T", "F") else int(value == "T")
        except ValueError:
            number = _whole(value)
        key = key.strip().upper()
        if found.setdefault(key, number) != number:
            raise InputError(
                where,
                expected=f"one size in {key}",
                found=f"{found[key]} and {number}",
                fix="Download it again.",
            )
    return found


def _whole(value: str) -> int:
    try:
        return int(float(value.strip("' ").replace("D", "E")))
    except (ValueError, OverflowError):
        return 0


def _data(where: str, claims: Mapping[str, int]) -> int:
    """Bytes of the data of an HDU."""
    axes, fields = claims.get("NAXIS", 0), claims.get("TFIELDS", 0)
    if not 0 <= axes <= MOST_AXES or not 0 <= fields <= MOST_FIELDS:
        raise InputError(
            where,
            expected=f"at most {MOST_AXES} axes and {MOST_FIELDS} columns",
            found=f"NAXIS = {axes}, TFIELDS = {fields}",
        )
    lengths = [claims.get(f"NAXIS{i}", 0) for i in range(1, axes + 1)]
    extra = [claims.get("PCOUNT", 0), claims.get("GCOUNT", 1)]
    if min([*lengths, *extra]) < 0:
        raise InputError(where, expected="sizes of 0 or more", found=f"{lengths}, {extra}")
    if claims.get("GROUPS") and lengths[:1] == [0]:
        lengths = lengths[1:]
    elif fields and lengths[:1] == [0] and max(lengths) > 0:
        raise InputError(where, expected="rows of 1 byte or more", found=f"{lengths[1]} rows of 0")
    pixels = math.prod(lengths) if axes else 0
    return abs(claims.get("BITPIX", 8)) // 8 * extra[1] * (extra[0] + pixels)


def _check_packed_image(where: str, claims: Mapping[str, int], data: int) -> None:
    """A tile-compressed image, which may be far larger than its table."""
    if "ZBITPIX" not in claims and "ZIMAGE" not in claims:
        return
    axes = claims.get("ZNAXIS", 0)
    if not 0 <= axes <= MOST_AXES:
        raise InputError(where, expected=f"at most {MOST_AXES} axes", found=f"ZNAXIS = {axes}")
    for kind in ("ZNAXIS", "ZTILE"):
        lengths = [claims.get(f"{kind}{i}", 1) for i in range(1, axes + 1)]
        if min(lengths, default=0) < 0:
            raise InputError(where, expected="sizes of 0 or more", found=f"{kind} {lengths}")
        # unpacked, and once more as the numbers of its tiles
        check_unpacked(where, 16 * math.prod(lengths), data)
