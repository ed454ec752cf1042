"""Ways to damage a file, each a function of its bytes and of a seeded generator."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import random
import re
import struct
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from astropy.io import fits

from spectrolabe.guard.fits import check_fits

Mutation = Callable[[bytes, random.Random], bytes]

BLOCK, CARD = 2880, 80
INTEGERS = (-1, 0, 1, 2, 7, 255, 999, 1000, 65536, 2**31 - 1, 2**31, 10**9, 10**12, 2**63, 10**30)
WORDS = (
    *map(str, INTEGERS),
    *("nan", "inf", "-inf", "1e308", "1e-320", "1e999", "-9999", "T", "F", "''", "None", ""),
    *("../../x", "/etc/passwd", "\x1b[31m", "\x00", "é", "𝒳" * 20, "a" * 3000, "%s%n", "{}"),
    *("'Angstrom'", "'furlong'", "'BINTABLE'", "'IMAGE'", "1D", "0D", "-1D", "999999999D"),
    *(
        "PD(9999999999)",
        "QB(1)",
        "5A",
        "1X",
        "1L",
        "1M",
        "(3,-1)",
        "(0)",
        "air",
        "rest",
        "observed",
    ),
)
VALUES: tuple[Any, ...] = (
    *INTEGERS,
    *(None, True, "", "x", "a" * 3000, [], {}, [[]], [None], {"": 0}, 1e308, -1e308),
    *(float("nan"), float("inf"), "../../..", "/etc/passwd", "teff", [1, 2, 3], {"name": 3}),
)
KEYS = ("NAXIS", "NAXIS1", "NAXIS2", "BITPIX", "PCOUNT", "GCOUNT", "TFIELDS", "XTENSION", "EXTNAME")


# bytes


def flip(data: bytes, rng: random.Random) -> bytes:
    """Some bits."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        if changed:
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def flip_head(data: bytes, rng: random.Random) -> bytes:
    """Some bits near the beginning, where files say what they are."""
    head = min(len(data), rng.choice((16, 200, 3000, 20000)))
    return flip(data[:head], rng) + data[head:]


def flip_tail(data: bytes, rng: random.Random) -> bytes:
    """Some bits near the end, where Parquet says what it is."""
    tail = max(0, len(data) - rng.choice((8, 300, 5000)))
    return data[:tail] + flip(data[tail:], rng)


def overwrite(data: bytes, rng: random.Random) -> bytes:
    """A number of 2 to 8 bytes of an extreme kind, of either order."""
    kind = rng.choice(("e", "f", "d", "h", "i", "q"))
    number: Any = (
        rng.choice((float("nan"), float("inf"), -1.0, 0.0, 1e4))
        if kind in "efd"
        else rng.choice((-1, 0, 1, 2 ** {"h": 15, "i": 31, "q": 63}[kind] - 1))
    )
    piece = struct.pack(rng.choice("<>") + kind, number) * rng.choice((1, 1, 4, 300))
    at = rng.randrange(len(data) + 1)
    return data[:at] + piece + data[at + len(piece) :]


def truncate(data: bytes, rng: random.Random) -> bytes:
    """The end is missing, by blocks or anywhere."""
    size = rng.randrange(len(data) + 1)
    return data[: size - size % BLOCK if rng.random() < 0.5 else size]


def _piece(data: bytes, rng: random.Random) -> tuple[int, int]:
    step = rng.choice((1, CARD, BLOCK))
    begin = rng.randrange(max(len(data) // step, 1)) * step
    return begin, min(begin + step * rng.choice((1, 1, 2, 5)), len(data))


def remove(data: bytes, rng: random.Random) -> bytes:
    """A piece is missing."""
    begin, end = _piece(data, rng)
    return data[:begin] + data[end:]


def repeat(data: bytes, rng: random.Random) -> bytes:
    """A piece is there several times."""
    begin, end = _piece(data, rng)
    return data[:end] + data[begin:end] * rng.choice((1, 2, 20)) + data[end:]


def insert(data: bytes, rng: random.Random) -> bytes:
    """A piece of something else is there."""
    begin, end = _piece(data, rng)
    size = max(end - begin, 1)
    piece = rng.choice((bytes(size), b" " * size, b"\xff" * size, rng.randbytes(min(size, 4096))))
    return data[:begin] + piece + data[begin:]


def pack(data: bytes, rng: random.Random) -> bytes:
    """As gzip."""
    return gzip.compress(data, compresslevel=1, mtime=0)


def pack_damaged(data: bytes, rng: random.Random) -> bytes:
    """As gzip, damaged afterwards."""
    return rng.choice((flip, truncate, flip_tail, repeat))(pack(data, rng), rng)


# cards of FITS


def _cards(data: bytes) -> list[int]:
    """Where cards with a value begin."""
    starts = range(0, len(data) - CARD + 1, CARD)
    return [i for i in starts if re.match(rb"[A-Z0-9_-]{1,8} *= ", data[i : i + 10])]


def _card(key: str, value: str) -> bytes:
    return f"{key:<8}= {value:>20}".encode("latin-1", "replace").ljust(CARD)[:CARD]


def card_value(data: bytes, rng: random.Random) -> bytes:
    """A card has another value."""
    starts = _cards(data)
    if not starts:
        return data
    at = rng.choice(starts)
    key = data[at : at + 8].decode("latin-1").strip()
    return data[:at] + _card(key, rng.choice(WORDS)) + data[at + CARD :]


def card_size(data: bytes, rng: random.Random) -> bytes:
    """A card that states a size has another value."""
    keys = "|".join((*KEYS, r"TFORM\d+", r"TDIM\d+", r"TNULL\d+", "Z[A-Z]+"))
    starts = [i for i in _cards(data) if re.match(rf"({keys}) *=".encode(), data[i : i + 10])]
    if not starts:
        return data
    at = rng.choice(starts)
    key = data[at : at + 8].decode("latin-1").strip()
    return data[:at] + _card(key, rng.choice(WORDS)) + data[at + CARD :]


def card_name(data: bytes, rng: random.Random) -> bytes:
    """A card has another name, or becomes one that states a size."""
    starts = _cards(data)
    if not starts:
        return data
    at = rng.choice(starts)
    more = ("TDIM1", "TSCAL1", "TZERO2", "TNULL1", "BSCALE", "BZERO", "BLANK", "END", "CONTINUE")
    key = rng.choice((*KEYS, *more, "ZIMAGE", "GROUPS", "xxx"))
    return data[:at] + f"{key:<8}".encode() + data[at + 8 :]


# HDUs and columns


def _edited(data: bytes, edit: Callable[[fits.HDUList], fits.HDUList]) -> bytes:
    try:
        check_fits("", io.BytesIO(data), len(data))  # or astropy makes what the header claims
        with warnings.catch_warnings(action="ignore"), fits.open(io.BytesIO(data)) as hdus:
            stream = io.BytesIO()
            edit(fits.HDUList([hdu.copy() for hdu in hdus])).writeto(
                stream, output_verify="silentfix"
            )
            return stream.getvalue()
    except Exception:  # damaged already: astropy cannot write it
        return data


def hdus_changed(data: bytes, rng: random.Random) -> bytes:
    """HDUs are dropped, exchanged, there twice or called something else."""

    def edit(hdus: fits.HDUList) -> fits.HDUList:
        first, rest = hdus[0], list(hdus[1:])
        what = rng.randrange(4)
        if rest and what == 0:
            rest.pop(rng.randrange(len(rest)))
        elif rest and what == 1:
            rng.shuffle(rest)
        elif rest and what == 2:
            rest.append(rng.choice(rest).copy())
        elif rest:
            rng.choice(rest).name = rng.choice([one.name for one in rest] + ["X", ""])
        return fits.HDUList([first, *rest])

    return _edited(data, edit)


def values_changed(data: bytes, rng: random.Random) -> bytes:
    """A column or an image is NaN, infinite, negative, reversed, or of other sizes or types."""

    def edit(hdus: fits.HDUList) -> fits.HDUList:
        number = rng.choice([i for i, hdu in enumerate(hdus) if hdu.data is not None])
        hdu = hdus[number]
        if not isinstance(hdu, fits.BinTableHDU):
            hdu.data = _values(np.asarray(hdu.data), rng)
            return hdus
        names, what = list(hdu.columns.names), rng.randrange(5)
        name = rng.choice(names)
        if what == 0:
            names.remove(name)
        if what == 1:
            hdu.data = hdu.data[: rng.choice((0, 1))]
        arrays = {one: np.asarray(hdu.data[one]) for one in names}
        if what >= 2:
            arrays[name] = _values(arrays[name], rng)
        from astropy.table import Table

        made = fits.table_to_hdu(Table(arrays))
        made.name = hdu.name
        hdus[number] = made
        return hdus

    return _edited(data, edit)


def _values(values: np.ndarray, rng: random.Random) -> np.ndarray:
    what = rng.randrange(8)
    if what < 5 and values.dtype.kind in "fiu":
        number = (np.nan, np.inf, 0.0, -1.0, 1e300)[what]
        some = np.array(values, dtype=float)
        share = rng.choice((1.0, 0.1))
        some[np.random.default_rng(rng.randrange(99)).random(some.shape) < share] = number
        return some
    if what == 5:
        return values[::-1]
    if what == 6:
        return values.astype("S12")
    return values.astype("i2") if values.dtype.kind in "fiu" else values[..., None]


# text and JSON


def token(data: bytes, rng: random.Random) -> bytes:
    """A word or number of a text is another."""
    found = list(re.finditer(rb"[\w.+-]+", data[:200_000]))
    if not found:
        return data
    one = rng.choice(found[:80] if rng.random() < 0.5 else found)
    word = rng.choice(WORDS).encode("utf-8", "replace")
    return data[: one.start()] + word + data[one.end() :]


def line(data: bytes, rng: random.Random) -> bytes:
    """Lines are missing, there twice, or in another order."""
    lines = data.split(b"\n")
    at = rng.randrange(len(lines))
    what = rng.randrange(3)
    if what == 0:
        del lines[at]
    elif what == 1:
        lines.insert(at, lines[rng.randrange(len(lines))])
    else:
        rng.shuffle(lines)
    return b"\n".join(lines)


def json_value(data: bytes, rng: random.Random) -> bytes:
    """An entry of JSON is missing or another, at any depth."""
    try:
        tree = json.loads(data)
    except ValueError:
        return data
    places: list[tuple[Any, Any]] = []
    _walk(tree, places)
    if places:
        owner, key = rng.choice(places)
        if rng.random() < 0.25:
            del owner[key]
        else:
            owner[key] = rng.choice(VALUES)
    return json.dumps(tree).encode()


def _walk(tree: Any, places: list[tuple[Any, Any]]) -> None:
    if isinstance(tree, dict | list):
        for key in list(tree) if isinstance(tree, dict) else range(len(tree)):
            places.append((tree, key))
            _walk(tree[key], places)


def tensor_header(data: bytes, rng: random.Random) -> bytes:
    """The header of safetensors has another entry, or claims another length."""
    length = int.from_bytes(data[:8], "little")
    if rng.random() < 0.1 or not 2 <= length < len(data):
        return (rng.choice(INTEGERS) % 2**64).to_bytes(8, "little") + data[8:]
    head = data[8 : 8 + length]
    tree = json.loads(head) if _is_json(head) else None
    about = tree.get("__metadata__") if isinstance(tree, dict) else None
    if isinstance(about, dict) and rng.random() < 0.7 and about:
        key = rng.choice(list(about))
        about[key] = json_value(str(about[key]).encode(), rng).decode("utf-8", "replace")
        head = json.dumps(tree).encode()
    else:
        head = json_value(head, rng)
    head += b" " * (-len(head) % 8)
    return len(head).to_bytes(8, "little") + head + data[8 + length :]


def _is_json(text: bytes) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def vouched(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """A card that vouches for whatever weights there are: a forged model, not a damaged one."""
    changed = dict(files)
    for name in files:
        weights = name.removesuffix("card.json") + "model.safetensors"
        if name.endswith("card.json") and weights in files and _is_json(files[name]):
            card = json.loads(files[name])
            if isinstance(card, dict) and "weights_sha256" in card:
                card["weights_sha256"] = hashlib.sha256(files[weights]).hexdigest()
                changed[name] = json.dumps(card).encode()
    return changed


BYTES: tuple[Mutation, ...] = (
    *(flip, flip_head, flip_tail, overwrite, truncate, remove, repeat, insert, pack, pack_damaged),
)
OF_FITS: tuple[Mutation, ...] = (*(card_value, card_size, card_name, hdus_changed, values_changed),)
OF_TEXT: tuple[Mutation, ...] = (token, token, line)
MUTATIONS: dict[str, Mutation] = {
    one.__name__: one for one in (*BYTES, *OF_FITS, *OF_TEXT, json_value, tensor_header)
}


def fitting(name: str, data: bytes) -> tuple[str, ...]:
    """Names of the mutations that make sense for a file."""
    more: tuple[Mutation, ...] = ()
    if data.startswith(b"SIMPLE"):
        more = OF_FITS * 2
    elif name.endswith((".csv", ".toml", ".ecsv", ".vot", ".properties")):
        more = OF_TEXT * 3
    elif name.endswith(".json"):
        more = (json_value,) * 20
    elif name.endswith((".safetensors", ".grid", ".correction", ".calibration")):
        more = (tensor_header,) * 10
    return tuple(one.__name__ for one in (*BYTES, *more))
