"""What a store is on disk: its card, the columns of its shards, and atomic writes."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from spectrolabe.errors import InputError
from spectrolabe.guard import read_json
from spectrolabe.guard.limits import LONGEST_NAME
from spectrolabe.labels import label

__all__ = [
    "CARD",
    "FORMAT",
    "FORMAT_VERSION",
    "LISTS",
    "SCALARS",
    "flat_view",
    "is_store",
    "read_card",
    "read_shard",
    "schema_of",
    "shard_number",
    "shards_of",
    "table_of",
    "write_atomically",
    "write_card",
]

FORMAT = "spectrolabe-store"
FORMAT_VERSION = 1
CARD = "store.json"
HEADER, COMPRESSION = 2, 3  # fields of the tables Message and RecordBatch of Arrow's format

LISTS = {
    "wavelength": pa.float64(),
    "flux": pa.float32(),
    "ivar": pa.float32(),
    "resolution": pa.float32(),
}
SCALARS = {
    **dict.fromkeys(("frame", "survey", "spectrum_id", "star_id", "file", "split"), pa.string()),
    **dict.fromkeys(("rv", "snr", "ra", "dec"), pa.float64()),
    "good": pa.bool_(),
    "meta": pa.string(),
}


def is_store(path: str | Path) -> bool:
    """Tell whether a path is the folder of a store."""
    return (Path(path) / CARD).is_file()


def schema_of(names: Sequence[str]) -> pa.Schema:
    """Return the columns of a store of these labels: lists, scalars, then ``L`` and ``e_L``.

    Raises
    ------
    InputError
        If a label is unknown, given twice, or has the name of another column.
    """
    columns: dict[str, pa.DataType] = {name: pa.list_(kind) for name, kind in LISTS.items()}
    columns |= SCALARS
    for name in names:
        label(name)
        if name in columns:
            raise InputError(
                "label names",
                expected=f"labels other than the columns {', '.join(SCALARS)}, each once",
                found=repr(name),
                fix="The velocity of a spectrum is its own field, not a label."
                if name == "rv"
                else "",
            )
        columns |= {name: pa.float64(), f"e_{name}": pa.float64()}
    return pa.schema(columns)


def shards_of(path: Path) -> list[Path]:
    """Return the shards of a store in their order."""
    return sorted(path.glob("shard-*.arrow"), key=shard_number)


def shard_number(shard: Path) -> int:
    """Return 3 for ``shard-00003.arrow``."""
    return int(shard.stem.removeprefix("shard-"))


def write_card(path: Path, names: Sequence[str], rows: int) -> None:
    """Write ``store.json``."""
    card = {"format": FORMAT, "version": FORMAT_VERSION, "labels": list(names), "rows": rows}
    write_atomically(path / CARD, json.dumps(card, indent=2).encode())


def read_card(path: Path) -> dict[str, Any]:
    """Return ``store.json``: its ``labels`` and ``rows``.

    Raises
    ------
    InputError
        If the folder is no store, or one of another version.
    """
    if not is_store(path):
        raise InputError(
            path,
            expected=f"a store (a folder with {CARD})",
            found="a folder without it" if path.is_dir() else "no such folder",
            fix="Make one with `spectrolabe ingest`.",
        )
    try:
        card = read_json(path / CARD, "the card of a store")
        kind, version, labels, rows = (card[key] for key in ("format", "version", "labels", "rows"))
    except KeyError as error:
        raise InputError(path / CARD, expected="the card of a store", found=repr(error)) from error
    if (kind, version) != (FORMAT, FORMAT_VERSION):
        raise InputError(
            path / CARD,
            expected=f"{FORMAT} version {FORMAT_VERSION}",
            found=f"{kind} version {version}",
            fix="Ingest the spectra again with this version of Spectrolabe.",
        )
    plain = isinstance(labels, list) and all(isinstance(name, str) for name in labels)
    if not plain or not isinstance(rows, int):
        raise InputError(
            path / CARD, expected="names of labels and a number of rows", found=str(card)[:100]
        )
    return card


def read_shard(shard: Path, schema: pa.Schema) -> pa.Table:
    """Map a shard into memory.

    Raises
    ------
    InputError
        If it is damaged or has other columns.
    """
    try:
        source = pa.memory_map(str(shard))
        _check_messages(shard, source)
        source.seek(0)
        table = pa.ipc.open_stream(source).read_all()
        table.validate(full=True)  # offsets and text: what is damaged would be read out of bounds
    except InputError:
        raise
    except Exception as error:  # those of Arrow are of many types
        raise InputError(
            shard,
            expected="a whole shard",
            found=f"a damaged one ({error})",
            fix="Delete it and run the same ingest again.",
        ) from error
    if table.schema.names != schema.names or table.schema.types != schema.types:
        raise InputError(shard, expected=f"columns {schema.names}", found=f"{table.schema.names}")
    for name in SCALARS:
        if table[name].null_count:
            raise InputError(shard, expected=f"a value of {name} in every row", found="none in one")
    for name in ("survey", "spectrum_id", "star_id", "split"):
        longest = pc.max(pc.utf8_length(table[name])).as_py() or 0
        if longest > LONGEST_NAME:
            raise InputError(
                shard, expected=f"a {name} of at most {LONGEST_NAME} characters", found=f"{longest}"
            )
    return table


def _check_messages(shard: Path, source: pa.NativeFile) -> None:
    """Shards are never packed: a packed buffer states itself how much memory it wants."""
    for message in pa.ipc.MessageReader.open_stream(source):
        if message.type == "record batch" and _is_packed(message.metadata.to_pybytes()):
            raise InputError(shard, expected="a plain shard", found="a compressed one")


def _is_packed(message: bytes) -> bool:
    """Whether the header of a batch (a flatbuffer, RecordBatch of Message) has a compression."""

    def field(table: int, number: int) -> int:
        entries = table - struct.unpack_from("<i", message, table)[0]
        if 4 + 2 * number >= struct.unpack_from("<H", message, entries)[0]:
            return 0
        offset = struct.unpack_from("<H", message, entries + 4 + 2 * number)[0]
        return table + int(offset) if offset else 0

    root = struct.unpack_from("<I", message, 0)[0]
    header = field(root, HEADER)
    batch = header + struct.unpack_from("<I", message, header)[0]
    return field(batch, COMPRESSION) != 0


def flat_view(lists: pa.ListArray) -> tuple[NDArray, NDArray]:
    """Return offsets (N + 1,) and the values of all lists end to end, both without a copy."""
    return lists.offsets.to_numpy(), lists.values.to_numpy()


def table_of(rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """Return rows as one Arrow table of one chunk."""
    columns: list[pa.Array] = []
    for field in schema:
        items = [row[field.name] for row in rows]
        if field.name in LISTS:
            offsets = np.concatenate([[0], np.cumsum([len(item) for item in items])])
            flat = pa.array(np.concatenate(items), type=LISTS[field.name])
            columns.append(pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), flat))
        else:
            columns.append(pa.array(items, type=field.type))
    return pa.Table.from_arrays(columns, schema=schema)


def write_atomically(path: Path, content: pa.Table | bytes) -> None:
    """Write beside, sync, rename: at any time the file is whole, or as it was before.

    Raises
    ------
    OSError
        If it cannot be written; nothing half-written is left.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as stream:
            if isinstance(content, bytes):
                stream.write(content)
            else:
                with pa.ipc.new_stream(stream, content.schema) as writer:
                    writer.write_table(content)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(path: Path) -> None:
    if os.name != "posix":  # a folder cannot be opened elsewhere, and the rename is enough
        return
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
