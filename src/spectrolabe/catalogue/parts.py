"""Writing a catalogue batch by batch, so that an interrupted job goes on where it stopped."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from astropy.table import Table, vstack

from spectrolabe.catalogue.files import (
    PROVENANCE,
    WIDTH,
    arrow_table,
    as_hats,
    atomic,
    check_suffix,
    read_catalogue,
    to_json,
    write_catalogue,
)
from spectrolabe.errors import InputError

__all__ = ["CatalogueWriter"]

INPUTS = b"spectrolabe.inputs"


class CatalogueWriter:
    """A catalogue that grows in parts, each written whole or not at all.

    The parts lie in ``<path>.parts/part-00000.parquet`` and so on until `finish` merges them. A
    new writer for the same path goes on with the parts that it finds. One writer at a time.

    Parameters
    ----------
    path : str or Path
        The final catalogue, ``.parquet``, ``.fits`` or ``.hats``.
    provenance : Mapping
        What determines the result: model, configuration, version. Nothing that changes from one
        run to the next, such as the time, which `finish` takes.

    Raises
    ------
    InputError
        If the suffix is unknown, parts of another provenance lie there, or nothing can be written
        there.
    """

    def __init__(self, path: str | Path, provenance: Mapping[str, Any]) -> None:
        self.path = check_suffix(path)
        self.folder = self.path.with_name(self.path.name + ".parts")
        _check_writable(self.path)
        self._provenance = dict(provenance)
        self._done: set[str] = set()
        self._columns: list[tuple[str, str]] = []
        expected = json.loads(to_json(provenance))
        for part in self._parts():
            schema = pq.read_schema(part)
            self._check_provenance(part, expected, json.loads(schema.metadata[PROVENANCE]))
            self._done.update(json.loads(schema.metadata[INPUTS]))
            self._columns = self._columns or _columns(schema)

    @property
    def done(self) -> frozenset[str]:
        """Inputs whose results are written."""
        return frozenset(self._done)

    def append(self, table: Table, inputs: Iterable[str]) -> None:
        """Write the results of one batch.

        Parameters
        ----------
        table : Table
            As `build_catalogue` makes it, with the same columns in every batch. May have no rows,
            or no columns when no input of the batch gave a result.
        inputs : iterable of str
            What is done with this batch, for example its files.

        Raises
        ------
        InputError
            If an input is done already or the columns are not those of the parts before.
        """
        inputs = list(inputs)
        again = sorted(self._done.intersection(inputs))
        if again:
            raise InputError(self.path, expected="each input once", found=f"{again[0]} done before")
        metadata = {PROVENANCE: to_json(self._provenance).encode()}
        arrow = arrow_table(table, {**metadata, INPUTS: json.dumps(inputs).encode()})
        columns = _columns(arrow.schema)
        if columns and self._columns and columns != self._columns:
            changed = sorted(set(columns) ^ set(self._columns))
            raise InputError(
                self.path,
                expected="the columns of the parts before",
                found=f"a difference in {', '.join(name for name, _ in changed[:6])}",
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        number = max((int(part.stem.split("-")[1]) for part in self._parts()), default=-1) + 1
        with atomic(self.folder / f"part-{number:05d}.parquet") as temporary:
            pq.write_table(arrow, temporary)
        self._columns = self._columns or columns
        self._done.update(inputs)

    def finish(self, extra: Mapping[str, Any] | None = None) -> Path:
        """Merge the parts into the final catalogue, remove them, and return its path.

        Parameters
        ----------
        extra : Mapping, optional
            Provenance that is known only now, such as the time.

        Raises
        ------
        InputError
            If there is no part with a result.
        """
        parts = [part for part in self._parts() if pq.read_schema(part).names]
        if not parts:
            raise InputError(self.path, expected="at least one result", found="none")
        provenance = {**self._provenance, **(extra or {})}
        text = to_json(provenance)
        if self.path.suffix == ".hats":
            with as_hats(self.path, text) as temporary:
                _merge(parts, temporary, text.encode())
        elif self.path.suffix == ".parquet":
            with atomic(self.path) as temporary:
                _merge(parts, temporary, text.encode())
        else:
            tables = [read_catalogue(part) for part in parts]
            write_catalogue(vstack(tables, metadata_conflicts="silent"), self.path, provenance)
        shutil.rmtree(self.folder)
        self._done.clear()
        return self.path

    def _parts(self) -> list[Path]:
        return sorted(self.folder.glob("part-*.parquet"))

    def _check_provenance(self, part: Path, expected: dict, found: dict) -> None:
        changed = [k for k in {**expected, **found} if expected.get(k) != found.get(k)]
        if changed:
            raise InputError(
                part,
                expected=f"a part of this run: {changed[0]} = {expected.get(changed[0])!r}",
                found=f"{found.get(changed[0])!r}",
                fix=f"Finish that run as it was begun, or remove {self.folder}.",
            )


def _columns(schema: pa.Schema) -> list[tuple[str, str]]:
    return [(field.name, str(field.type)) for field in schema]


def _merge(parts: list[Path], target: Path, provenance: bytes) -> None:
    """Copy the parts one after the other: never more than one in memory."""
    empty = read_catalogue(parts[0])[:0]
    for name in empty.colnames:
        if empty[name].dtype.kind == "U":
            width = max(int(pq.read_schema(part).metadata[WIDTH + name.encode()]) for part in parts)
            described = empty[name]
            empty[name] = np.empty(0, dtype=f"U{width}")
            empty[name].description = described.description
    schema = arrow_table(empty, {PROVENANCE: provenance}).schema
    with pq.ParquetWriter(target, schema) as writer:
        for part in parts:
            writer.write_table(pq.read_table(part).cast(schema))


def _check_writable(path: Path) -> None:
    """Refuse before hours of work what could not be written after them."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise InputError(
            path,
            expected="a place where files can be written",
            found=f"{error.strerror or error}",
            fix="Give another --output.",
        ) from error
