"""A catalogue in parts that any process may write in any order, so that nothing done is lost."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
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
from spectrolabe.guard import unwritten
from spectrolabe.spectra.shards import write_atomically

__all__ = ["CatalogueWriter"]

BAD = b"spectrolabe.bad"
MANIFEST = "manifest.json"
GROUP = 20_000  # rows that are merged at a time: more would need memory, fewer slow down readers

Bad = Sequence[tuple[str, str]]


class CatalogueWriter:
    """A catalogue that grows in parts, each written whole or not at all.

    The parts lie in ``<path>.parts/part-0000000.parquet`` and so on, beside ``manifest.json``,
    which says what run they are of, until `finish` merges them in the order of their numbers. Once
    one process has called `begin`, any number of them may write parts: a part that is written
    again replaces the same part.

    Parameters
    ----------
    path : str or Path
        The final catalogue, ``.parquet``, ``.fits`` or ``.hats``.
    provenance : Mapping
        What determines the result: model, configuration, version. Nothing that changes from one
        run to the next, such as the time, which `finish` takes.
    inputs : Mapping, optional
        What the parts are made of: another run on the same path must have the same.

    Raises
    ------
    InputError
        If the suffix is unknown or the provenance is not JSON.
    """

    def __init__(
        self, path: str | Path, provenance: Mapping[str, Any], inputs: Mapping[str, Any] = {}
    ) -> None:
        self.path = check_suffix(path)
        self.folder = self.path.with_name(self.path.name + ".parts")
        self.provenance = dict(provenance)
        self._manifest = to_json({**provenance, "inputs": dict(inputs)})

    @property
    def run(self) -> str:
        """What tells this run from others."""
        return hashlib.sha256(self._manifest.encode()).hexdigest()

    def begin(self) -> None:
        """Make the folder of the parts, or find that it is the one of the same run.

        Raises
        ------
        InputError
            If parts of another run lie there, or nothing can be written there.
        """
        _check_writable(self.path)
        if not (self.folder / MANIFEST).is_file() and not self.done():
            with self._writing():
                self.folder.mkdir(exist_ok=True)
                write_atomically(self.folder / MANIFEST, self._manifest.encode())
        self.check()

    def check(self) -> None:
        """See that the folder is that of this run.

        Raises
        ------
        InputError
            If it is that of another run, or is not there.
        """
        expected, found = json.loads(self._manifest), self._found()
        for key in {**expected, **found}:
            if expected.get(key) != found.get(key):
                raise InputError(
                    self.folder,
                    expected=f"parts of this run: {key} = {expected.get(key)!r}",
                    found=f"{found.get(key)!r}",
                    fix=f"Finish that run as it was begun, or remove {self.folder}.",
                )

    def _found(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads((self.folder / MANIFEST).read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(
                self.folder,
                expected=f"the folder of a run, with {MANIFEST}",
                found=str(error),
                fix="Workers must see the same disk as the command. "
                f"If parts of an older version are in it, remove {self.folder}.",
            ) from error
        return found

    def done(self) -> set[int]:
        """Return the numbers of the parts that are written."""
        return {int(part.stem.split("-")[1]) for part in self.folder.glob("part-*.parquet")}

    def has(self, number: int) -> bool:
        """Tell whether a part is written."""
        return self._part(number).is_file()

    def rows(self, number: int) -> int:
        """Return how many rows a part has that is written."""
        return int(pq.read_metadata(self._part(number)).num_rows)

    def write(self, number: int, table: Table, bad: Bad = ()) -> None:
        """Write the results of one batch, with the checksum of each page.

        Parameters
        ----------
        number : int
            Of the part.
        table : Table
            As `build_catalogue` makes it, with the same columns in every part. May have no rows,
            or no columns when no input of the batch gave a result.
        bad : sequence of (str, str)
            Inputs that gave no result, and why.

        Raises
        ------
        InputError
            If it cannot be written; the other parts are untouched.
        """
        metadata = {PROVENANCE: to_json(self.provenance).encode(), BAD: json.dumps(bad).encode()}
        arrow = arrow_table(table, metadata)
        with self._writing(), atomic(self._part(number)) as temporary:
            pq.write_table(arrow, temporary, write_page_checksum=True)

    def bad(self) -> list[tuple[str, str]]:
        """Return what gave no result and why, each once, in the order of the parts."""
        listed = [json.loads(schema.metadata[BAD]) for _, schema in self._schemas()]
        return list(dict.fromkeys((name, reason) for part in listed for name, reason in part))

    def finish(self, extra: Mapping[str, Any] | None = None) -> Path:
        """Merge the parts into the final catalogue, remove them, and return its path.

        Parameters and errors are those of `merge`.
        """
        self.merge(extra)
        self.remove_parts()
        return self.path

    def merge(self, extra: Mapping[str, Any] | None = None) -> None:
        """Merge the parts into the final catalogue, in the order of their numbers.

        Parameters
        ----------
        extra : Mapping, optional
            Provenance that is known only now, such as the time.

        Raises
        ------
        InputError
            If there is no part with a result, a part is damaged or has other columns, or the disk
            is full.
        """
        parts, widths = self._with_rows()
        if not parts:
            raise InputError(self.path, expected="at least one result", found="none")
        provenance = {**self.provenance, **(extra or {})}
        text = to_json(provenance)
        with self._writing():
            if self.path.suffix == ".hats":
                with as_hats(self.path, text) as temporary:
                    _merge(parts, widths, temporary, text.encode())
            elif self.path.suffix == ".parquet":
                with atomic(self.path) as temporary:
                    _merge(parts, widths, temporary, text.encode())
            else:
                for part in parts:
                    _verified(part)
                tables = [read_catalogue(part) for part in parts]
                write_catalogue(vstack(tables, metadata_conflicts="silent"), self.path, provenance)

    def _with_rows(self) -> tuple[list[Path], dict[str, int]]:
        """The parts that have columns, which must agree, and the widths of texts in all of them."""
        parts: list[Path] = []
        widths: dict[str, int] = {}
        first: list[tuple[str, str]] = []
        for part, schema in self._schemas():
            columns = _columns(schema)
            if not columns:
                continue
            first = first or columns
            if columns != first:
                changed = sorted(set(columns) ^ set(first))
                raise InputError(
                    part,
                    expected="the columns of the parts before",
                    found=f"a difference in {', '.join(name for name, _ in changed[:6])}",
                )
            parts.append(part)
            for key, value in schema.metadata.items():
                if key.startswith(WIDTH):
                    name = key.removeprefix(WIDTH).decode()
                    widths[name] = max(widths.get(name, 1), int(value))
        return parts, widths

    def remove_parts(self) -> None:
        """Remove the folder of the parts: at once, so that no half of it is ever gone on with."""
        old = self.folder.with_name(f".{self.folder.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        self.folder.rename(old)
        shutil.rmtree(old)

    def _part(self, number: int) -> Path:
        return self.folder / f"part-{number:07d}.parquet"

    def _schemas(self) -> Iterator[tuple[Path, pa.Schema]]:
        for number in sorted(self.done()):
            part = self._part(number)
            try:
                yield part, pq.read_schema(part)
            except (pa.ArrowException, OSError) as error:
                raise _damaged(part, error) from error

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise unwritten(self.path, error, "what was written is kept") from error


def _columns(schema: pa.Schema) -> list[tuple[str, str]]:
    return [(field.name, str(field.type)) for field in schema]


def _merge(
    parts: Sequence[Path], widths: Mapping[str, int], target: Path, provenance: bytes
) -> None:
    """Copy the parts one after the other: hardly more than `GROUP` rows are in memory."""
    empty = read_catalogue(parts[0])[:0]
    for name, width in widths.items():
        described = empty[name]
        empty[name] = np.empty(0, dtype=f"U{width}")
        empty[name].description = described.description
    schema = arrow_table(empty, {PROVENANCE: provenance}).schema
    with pq.ParquetWriter(target, schema) as writer:
        waiting: list[pa.Table] = []
        for part in parts:
            waiting.append(_verified(part).cast(schema))
            if sum(len(table) for table in waiting) >= GROUP:
                writer.write_table(pa.concat_tables(waiting))
                waiting.clear()
        if waiting:
            writer.write_table(pa.concat_tables(waiting))


def _verified(part: Path) -> pa.Table:
    """A part whose checksums are right; another one is removed, and made again by the next run."""
    try:
        return pq.read_table(part, page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(part, error) from error


def _damaged(part: Path, error: Exception) -> InputError:
    part.unlink(missing_ok=True)
    return InputError(
        part,
        expected="a whole part",
        found=f"a damaged one ({error})",
        fix="It is removed; run the same command again to make it again.",
    )


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
