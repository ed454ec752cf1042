"""Ingest: a survey's files and its label catalogue become one store."""

from __future__ import annotations

import csv
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spectrolabe.errors import InputError
from spectrolabe.progress import shown_progress
from spectrolabe.spectra import Spectrum
from spectrolabe.spectra.store import StoreWriter
from spectrolabe.surveys import get, read_labels
from spectrolabe.surveys.join import LabelJoin, UnusableError
from spectrolabe.surveys.reading import Unread, expand, read_all

__all__ = ["BAD", "IngestReport", "ingest"]

BAD = "bad.csv"


@dataclass(frozen=True)
class IngestReport:
    """What an ingest did.

    Parameters
    ----------
    store : Path
    rows : int
        Spectra in the store now.
    added : int
        Spectra that this run added.
    files : int
        Files read by this run.
    skipped : int
        Files that an earlier run had finished.
    bad : tuple of (str, str)
        File and reason of whatever was left out, also in ``bad.csv`` of the store.
    seconds : float
        Wall time.
    passed : tuple of str
        Tables without spectra that this run passed over in folders.
    """

    store: Path
    rows: int
    added: int
    files: int
    skipped: int
    bad: tuple[tuple[str, str], ...]
    seconds: float
    passed: tuple[str, ...] = ()


def ingest(
    survey: str,
    paths: str | Path | Iterable[str | Path],
    output: str | Path,
    labels: str | Path | None = None,
    *,
    keep_unlabelled: bool = False,
    workers: int = 1,
    shard_size: int = 512,
) -> IngestReport:
    """Read a survey's files, join its label catalogue, and write one store.

    What cannot be used is left out and listed with its reason in ``bad.csv`` of the store: files
    that do not read, spectra without a usable pixel or with an id that the store has already, and,
    when labels are given, spectra without a row in the table or with an ambiguous one. The rest is
    written. Run again, it continues where it stopped and tries the bad files once more.

    A spectrum and a label row are joined by every key of `LabelTable.keys` that both have. Star id
    and split are those of the table where it has them. So is the velocity of a barycentric
    spectrum; one at rest keeps the velocity that was taken out of it, and one in the observed
    frame its own.

    Parameters
    ----------
    survey : str
        Name of the survey, see `surveys.SURVEYS`.
    paths : path or iterable of paths
        Files, folders (searched with all below them) and globs.
    output : str or Path
        Folder of the store.
    labels : str or Path, optional
        The survey's label catalogue.
    keep_unlabelled : bool, optional
        Keep spectra without a label row, with NaN for every label.
    workers : int, optional
        Processes that read; with more than one the caller's script needs a
        ``if __name__ == "__main__":``.
    shard_size : int, optional
        Spectra in a shard, see `StoreWriter`.

    Raises
    ------
    InputError
        If the survey is unknown, a path matches nothing, the label table is not the survey's or
        has two good rows for one key, or the store cannot be written.
    """
    begin = time.monotonic()
    get(survey)
    output = Path(output)
    join = LabelJoin(read_labels(labels, survey), labels) if labels is not None else None
    sources = expand(paths, leave=[output, *([Path(labels)] if labels is not None else [])])
    names = join.names if join else ()
    with StoreWriter(output, names, shard_size=shard_size) as writer, _BadList(writer) as bad:
        before = writer.rows
        passed: list[str] = []
        todo = [source for source in sources if source.path.as_posix() not in writer.done]
        for source, found in shown_progress(read_all(todo, survey, workers), len(todo), "ingest"):
            file = source.path
            if isinstance(found, Unread):
                bad.add(file, found.reason)
                continue
            passed += [] if found else [source.name]
            for spectrum in found:
                try:
                    _store(writer, spectrum, file, join, keep_unlabelled)
                except UnusableError as reason:
                    bad.add(file, str(reason))
        writer.close()
    return IngestReport(
        store=output,
        rows=writer.rows,
        added=writer.rows - before,
        files=len(todo),
        skipped=len(sources) - len(todo),
        bad=tuple(bad.rows),
        seconds=time.monotonic() - begin,
        passed=tuple(passed),
    )


def _store(
    writer: StoreWriter,
    spectrum: Spectrum,
    file: Path,
    join: LabelJoin | None,
    keep_unlabelled: bool,
) -> None:
    if not spectrum.good.any():
        raise UnusableError(f"{spectrum.spectrum_id}: no usable pixel in {len(spectrum)}")
    more: dict[str, Any] = {}
    if join is not None:
        row = join.row(spectrum)
        if row is not None:
            spectrum, more = join.apply(spectrum, row)
        elif not keep_unlabelled:
            raise UnusableError(f"{spectrum.spectrum_id}: no row in the label table ({join.tried})")
    if spectrum.spectrum_id in writer.ids:
        raise UnusableError(f"{spectrum.spectrum_id}: this spectrum_id is in the store already")
    writer.append(spectrum, file=file.as_posix(), **more)


class _BadList:
    """``bad.csv``, written line by line so that an interruption loses none of it."""

    def __init__(self, writer: StoreWriter) -> None:
        self.path = writer.path / BAD
        self.rows = self._kept(writer.done)

    def _kept(self, done: set[str]) -> list[tuple[str, str]]:
        """What earlier runs found in files that will not be read again."""
        if not self.path.is_file():
            return []
        with self.path.open(newline="") as stream:
            rows = [tuple(row) for row in csv.reader(stream) if len(row) == 2]
        return [(file, reason) for file, reason in rows if file in done]

    def __enter__(self) -> _BadList:
        rows, self.rows = self.rows, []
        self._stream = self.path.open("w", newline="", buffering=1)
        self._write(("file", "reason"))
        for file, reason in rows:
            self.add(Path(file), reason)
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()
        if not self.rows:
            self.path.unlink()

    def add(self, file: Path, reason: str) -> None:
        self.rows.append((file.as_posix(), " ".join(reason.split())))
        self._write(self.rows[-1])

    def _write(self, row: tuple[str, str]) -> None:
        try:
            csv.writer(self._stream).writerow(row)
        except OSError as error:
            raise InputError(
                self.path,
                expected="to write a line",
                found=str(error.strerror or error),
                fix="The spectra written before are valid; run again to continue.",
            ) from error
