"""One try: files made by a recipe are given to a reader, in bounded time and memory."""

from __future__ import annotations

import gc
import os
import random
import resource
import signal
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from spectrolabe.errors import InputError
from tests.fuzz.mutations import MUTATIONS, fitting, vouched
from tests.fuzz.originals import Files
from tests.fuzz.readers import READERS

__all__ = ["LIMIT", "FuzzError", "Recipe", "attempt", "files_of", "random_recipe"]

LIMIT = 10  # seconds
MEMORY = 1 << 30  # bytes beyond what there was


@dataclass(frozen=True)
class Recipe:
    """How an input is made.

    Parameters
    ----------
    reader, case : str
        Which whole files.
    steps : tuple of (file, mutation, seed)
        ``file`` counts the files of the case.
    """

    reader: str
    case: str
    steps: tuple[tuple[int, str, int], ...]


class FuzzError(AssertionError):
    """A reader did something other than to return what is right or to say what is wrong."""


class _TooSlowError(BaseException):
    """No `Exception`: nobody may swallow it."""


def random_recipe(reader: str, rng: random.Random) -> Recipe:
    """Return one to three mutations of one of the reader's files."""
    cases = READERS[reader].originals()
    case = rng.choice(sorted(cases))
    names = sorted(cases[case])
    steps = []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        file = rng.randrange(len(names))
        kinds = fitting(names[file], cases[case][names[file]])
        steps.append((file, rng.choice(kinds), rng.randrange(2**32)))
    return Recipe(reader, case, tuple(steps))


def files_of(recipe: Recipe) -> Files:
    """Return the files of a recipe."""
    files = dict(READERS[recipe.reader].originals()[recipe.case])
    names = sorted(files)
    for file, kind, seed in recipe.steps:
        name = names[file]
        files[name] = MUTATIONS[kind](files[name], random.Random(seed))
    # most forged weights would otherwise stop at their checksum
    return vouched(files) if sum(seed for *_, seed in recipe.steps) % 4 else files


def attempt(reader: str, files: Files) -> str:
    """Read the files; return what was said against them, '' if nothing.

    Raises
    ------
    FuzzError
        If there was another exception, the error does not name the file, or it took too much.
    """
    with tempfile.TemporaryDirectory(dir=_memory_disk()) as name:
        folder = Path(name)
        for path, data in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)
        before = _memory(fresh=True)
        try:
            with _in_time(), warnings.catch_warnings(action="ignore"):
                READERS[reader].read(folder)
            said = ""
        except InputError as error:
            said = str(error)
            if not any(Path(path).name in said or _part_of(path, said) for path in files):
                raise FuzzError(f"no file is named: {said}") from error
        except _TooSlowError:
            raise FuzzError(f"more than {LIMIT} s") from None
        except Exception as error:
            raise FuzzError(f"{type(error).__name__}: {error}") from error
        grown = _memory() - before
        if grown > MEMORY:
            raise FuzzError(f"{grown >> 20} MiB of memory")
        return said


def _part_of(path: str, said: str) -> bool:
    """A folder of a model or a store is named instead of a file in it."""
    return any(f"/{part}" in said for part in Path(path).parts[:-1])


def _memory(*, fresh: bool = False) -> int:
    """The most memory that the process has had, in bytes; since now, if fresh and on Linux."""
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not os.access(reset, os.W_OK):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if fresh:
        reset.write_text("5")
    return int(status.read_text().partition("VmHWM:")[2].split()[0]) << 10


def _memory_disk() -> str | None:
    return "/dev/shm" if sys.platform == "linux" and os.access("/dev/shm", os.W_OK) else None


@contextmanager
def _in_time() -> Iterator[None]:
    """Stop what takes too long, where the system can."""
    if not hasattr(signal, "SIGALRM"):
        yield
        return

    def stop(*_: object) -> None:
        raise _TooSlowError

    old = signal.signal(signal.SIGALRM, stop)
    signal.alarm(LIMIT)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, old)


def collect() -> None:
    """Give back what readers left."""
    gc.collect()
