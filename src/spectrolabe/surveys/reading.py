"""Reading many files: what paths stand for, one after the other or in several processes."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from spectrolabe.errors import InputError
from spectrolabe.parallel import in_order
from spectrolabe.spectra import Spectrum
from spectrolabe.surveys import UnrecognisedError, read

__all__ = ["Source", "Unread", "expand", "read_all", "walked"]

SUFFIXES = (".fits", ".fit", ".fts", ".csv", ".ecsv", ".vot", ".xml", ".parquet")
CHUNK = 8  # files that a worker process reads at a time


class Source(NamedTuple):
    """One file to read.

    Parameters
    ----------
    path : Path
        Absolute.
    name : str
        Relative to the folder that was given; the bare name of a file that was given itself.
    walked : bool
        Found in a folder, not asked for by name.
    """

    path: Path
    name: str
    walked: bool


class Unread(NamedTuple):
    """Why a file gave no spectra; ``spectral`` is False for a table of something else."""

    reason: str
    spectral: bool


def expand(paths: str | Path | Iterable[str | Path], *, leave: Sequence[Path] = ()) -> list[Source]:
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
    sources: dict[Path, Source] = {}
    for path in [paths] if isinstance(paths, str | Path) else paths:
        found = [s for s in _matches(Path(path)) if not any(s.path.is_relative_to(p) for p in out)]
        if not found:
            raise InputError(
                path,
                expected="a file, a folder with spectra, or a glob that matches some",
                found="nothing" if not Path(path).is_dir() else f"no file of {' '.join(SUFFIXES)}",
                fix="Check the path.",
            )
        for source in sorted(found):
            sources.setdefault(source.path, source)
    return list(sources.values())


def _matches(path: Path) -> Iterator[Source]:
    if path.is_file():
        yield Source(path.resolve(), path.name, walked=False)
    elif path.is_dir():
        for folder, names in walked(path):
            for file in (Path(folder, name) for name in names if _plausible(name)):
                yield Source(file.resolve(), file.relative_to(path).as_posix(), walked=True)
    else:
        for name in glob.glob(str(path), recursive=True):
            yield from _matches(Path(name))


def walked(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield all folders below one with the names of their files, each folder once.

    Links to folders are followed, but not a second time: they may go round.
    """
    seen = {os.path.realpath(path)}
    for folder, folders, names in os.walk(path, followlinks=True):
        yield folder, names
        real = {one: os.path.realpath(os.path.join(folder, one)) for one in folders}
        folders[:] = [one for one in folders if real[one] not in seen]
        seen.update(real.values())


def _plausible(name: str) -> bool:
    return not name.startswith(".") and name.lower().removesuffix(".gz").endswith(SUFFIXES)


Found = list[Spectrum] | Unread


def _read_one(file: Path, survey: str | None) -> Found:
    try:
        return read(file, survey)
    except UnrecognisedError as error:
        return Unread(str(error), spectral=not error.is_table)
    except InputError as error:
        return Unread(str(error), spectral=True)
    except Exception as error:  # one file must never stop the others
        return Unread(f"unreadable ({type(error).__name__}: {error})", spectral=True)


def read_all(
    sources: Sequence[Source], survey: str | None, workers: int = 1
) -> Iterator[tuple[Source, Found]]:
    """Yield every file with what was found, in order whatever the number of workers.

    A table that turns up in a folder and holds no spectrum, such as the label catalogue, is
    passed over: it gives an empty list.
    """
    for source, found in _read_each(sources, survey, workers):
        other = isinstance(found, Unread) and source.walked and not found.spectral
        yield source, [] if other else found


def _read_each(
    sources: Sequence[Source], survey: str | None, workers: int
) -> Iterator[tuple[Source, Found]]:
    if workers <= 1 or len(sources) <= CHUNK:
        yield from ((source, _read_one(source.path, survey)) for source in sources)
        return
    chunks = [sources[i : i + CHUNK] for i in range(0, len(sources), CHUNK)]
    calls = (([source.path for source in chunk], survey) for chunk in chunks)
    for chunk, found in zip(chunks, in_order(_read_chunk, calls, workers), strict=True):
        yield from _unpacked(chunk, found)


def _read_chunk(files: Sequence[Path], survey: str | None) -> list[list[dict[str, Any]] | Unread]:
    found = (_read_one(file, survey) for file in files)
    return [one if isinstance(one, Unread) else [_fields(s) for s in one] for one in found]


def _fields(spectrum: Spectrum) -> dict[str, Any]:
    """The fields of a spectrum in a form that travels between processes."""
    return {**vars(spectrum), "meta": dict(spectrum.meta)}


def _unpacked(
    sources: Sequence[Source], results: Sequence[list[dict[str, Any]] | Unread]
) -> Iterator[tuple[Source, Found]]:
    for source, found in zip(sources, results, strict=True):
        yield source, found if isinstance(found, Unread) else [Spectrum(**one) for one in found]
