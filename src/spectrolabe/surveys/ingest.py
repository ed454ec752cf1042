"""Ingest: a survey's files and its label catalogue become one store."""

from __future__ import annotations

import csv
import glob
import os
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from spectrolabe.errors import InputError
from spectrolabe.spectra import Spectrum
from spectrolabe.spectra.store import StoreWriter
from spectrolabe.surveys import get, read, read_labels
from spectrolabe.surveys.join import LabelJoin, UnusableError

__all__ = ["IngestReport", "expand", "ingest"]

BAD = "bad.csv"
SUFFIXES = (".fits", ".fit", ".fts", ".csv", ".ecsv", ".vot", ".xml", ".parquet")
CHUNK = 8  # files that a worker process reads at a time


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
    """

    store: Path
    rows: int
    added: int
    files: int
    skipped: int
    bad: tuple[tuple[str, str], ...]
    seconds: float


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
    files = expand(paths, leave=[output, *([Path(labels)] if labels is not None else [])])
    names = join.names if join else ()
    with StoreWriter(output, names, shard_size=shard_size) as writer, _BadList(writer) as bad:
        before = writer.rows
        todo = [file for file in files if file.as_posix() not in writer.done]
        for file, found in _progress(_read_all(todo, survey, workers), len(todo)):
            if isinstance(found, str):
                bad.add(file, found)
                continue
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
        skipped=len(files) - len(todo),
        bad=tuple(bad.rows),
        seconds=time.monotonic() - begin,
    )


def expand(paths: str | Path | Iterable[str | Path], *, leave: Sequence[Path] = ()) -> list[Path]:
    """Return the files that paths, folders and globs stand for, each once, in order of name.

    Parameters
    ----------
    paths : path or iterable of paths
        A folder stands for every file below it whose suffix may be that of a spectrum.
    leave : sequence of Path, optional
        Files and folders to leave out.

    Raises
    ------
    InputError
        If one of the paths stands for no file.
    """
    out = [path.resolve() for path in leave]
    files: dict[Path, None] = {}
    for path in [paths] if isinstance(paths, str | Path) else paths:
        found = [file.resolve() for file in _matches(Path(path))]
        found = [file for file in found if not any(file.is_relative_to(p) for p in out)]
        if not found:
            raise InputError(
                path,
                expected="a file, a folder with spectra, or a glob that matches some",
                found="nothing" if not Path(path).is_dir() else f"no file of {' '.join(SUFFIXES)}",
                fix="Check the path.",
            )
        files.update(dict.fromkeys(sorted(found)))
    return list(files)


def _matches(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
    elif path.is_dir():
        for folder, _, names in os.walk(path, followlinks=True):
            yield from (Path(folder, name) for name in names if _plausible(name))
    else:
        for name in glob.glob(str(path), recursive=True):
            if Path(name).is_dir():
                yield from _matches(Path(name))
            else:
                yield Path(name)


def _plausible(name: str) -> bool:
    return not name.startswith(".") and name.lower().removesuffix(".gz").endswith(SUFFIXES)


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


Found = list[Spectrum] | str


def _read_one(file: Path, survey: str) -> Found:
    """Return the spectra of a file, or why it cannot be read."""
    try:
        return read(file, survey)
    except InputError as error:
        return str(error)
    except Exception as error:  # one file must never stop the others
        return f"unreadable ({type(error).__name__}: {error})"


def _read_all(files: Sequence[Path], survey: str, workers: int) -> Iterator[tuple[Path, Found]]:
    """Yield every file with what was found, in order whatever the number of workers."""
    if workers <= 1 or len(files) <= CHUNK:
        yield from ((file, _read_one(file, survey)) for file in files)
        return
    chunks = (files[i : i + CHUNK] for i in range(0, len(files), CHUNK))
    waiting: deque[tuple[Sequence[Path], Future[list[list[dict[str, Any]] | str]]]] = deque()
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        try:
            for chunk in chunks:
                waiting.append((chunk, pool.submit(_read_chunk, chunk, survey)))
                if len(waiting) > 2 * workers:
                    yield from _unpacked(*waiting.popleft())
            while waiting:
                yield from _unpacked(*waiting.popleft())
        except BrokenProcessPool as error:
            raise InputError(
                "workers",
                expected="reading processes that live to the end",
                found="one that was killed, often for want of memory",
                fix="Run again with fewer to continue.",
            ) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _read_chunk(files: Sequence[Path], survey: str) -> list[list[dict[str, Any]] | str]:
    found = (_read_one(file, survey) for file in files)
    return [one if isinstance(one, str) else [_fields(s) for s in one] for one in found]


def _fields(spectrum: Spectrum) -> dict[str, Any]:
    """The fields of a spectrum in a form that travels between processes."""
    return {**vars(spectrum), "meta": dict(spectrum.meta)}


def _unpacked(
    files: Sequence[Path], future: Future[list[list[dict[str, Any]] | str]]
) -> Iterator[tuple[Path, Found]]:
    for file, found in zip(files, future.result(), strict=True):
        yield file, found if isinstance(found, str) else [Spectrum(**one) for one in found]


def _progress(items: Iterator[tuple[Path, Found]], total: int) -> Iterator[tuple[Path, Found]]:
    """Pass the items on, under a bar with the rate once it takes more than two seconds."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.completed / max(time.monotonic() - begin, 1e-3):.0f} files/s")

    begin, shown = time.monotonic(), False
    bar = Progress(
        TextColumn("ingest"),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeRemainingColumn(),
        transient=True,
        console=Console(stderr=True),
    )
    task = bar.add_task("ingest", total=total)
    try:
        for item in items:
            if not shown and time.monotonic() - begin > 2.0:
                bar.start()
                shown = True
            yield item
            bar.advance(task)
    finally:
        if shown:
            bar.stop()


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
