"""Inputs of a run: files, folders, globs and stores, cut into shards; the spectra of stars."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spectrolabe.errors import InputError
from spectrolabe.spectra import Spectrum
from spectrolabe.spectra.store import Store, is_store, open_store
from spectrolabe.surveys import get
from spectrolabe.surveys.reading import Source, Unread, expand, read_all

__all__ = ["Part", "Reader", "Selection", "Shard", "Sources", "groups_of"]


NO_ROWS = np.zeros(0, np.int64)
MANY, LARGEST = 10_000, 8  # shards; batches in one
BYTES = 128 << 20  # of the files of a shard: some hold the spectra of hundreds of stars


class Selection(NamedTuple):
    """Which inputs, and which of their spectra make one row.

    Parameters
    ----------
    inputs : tuple of str
        Files, folders, globs and stores.
    survey : str, optional
        Read files as this survey instead of recognising them.
    together : {"file", "star"}
        Which spectra make one row: those of a star in one file, or in all inputs. ``star`` holds
        all spectra of the files in memory.
    visits : bool
        One row per visit or exposure instead of the combined spectra.
    workers : int
        Processes that read files; with a local cluster, that do all of the work.
    """

    inputs: tuple[str, ...]
    survey: str | None = None
    together: str = "file"
    visits: bool = False
    workers: int = 1

    @classmethod
    def of(
        cls,
        inputs: str | Path | Iterable[str | Path],
        survey: str | None,
        together: str,
        visits: bool,
        workers: int,
    ) -> Selection:
        """Return a selection that has been checked.

        Raises
        ------
        InputError
            If ``together`` is another word, or the survey is unknown.
        """
        if together not in ("file", "star"):
            raise InputError("together", expected="'file' or 'star'", found=repr(together))
        if survey is not None:
            get(survey)
        names = [inputs] if isinstance(inputs, str | Path) else inputs
        return cls(tuple(str(name) for name in names), survey, together, visits, workers)


class Shard(NamedTuple):
    """Some of the inputs: what one part of the catalogue is made of.

    Parameters
    ----------
    number : int
        In the order of the inputs.
    files : tuple of Source
    store : str
        Instead of files: the folder of a store.
    rows : ndarray, shape (n,), int64
        Of the store.
    """

    number: int
    files: tuple[Source, ...] = ()
    store: str = ""
    rows: NDArray = NO_ROWS

    @property
    def size(self) -> int:
        """How many files, or rows of a store."""
        return len(self.files) or len(self.rows)

    @property
    def names(self) -> list[str]:
        """What a list of bad inputs calls them."""
        return [file.name for file in self.files] or [f"{self.store}:{row}" for row in self.rows]


class Sources:
    """The inputs cut into shards, which depend on nothing but the inputs and the batch.

    Files come first, then stores, whose rows are taken in the order of their stars, so that a star
    is never in two shards. Where there would be more than 10,000 shards they are larger, up to
    eight times: merging costs a tenth of a second for each, whatever is in it. A shard of several
    files has no more than 128 MiB of them, so that memory does not depend on what a file holds.

    Parameters
    ----------
    selection : Selection
    batch : int
        Files, or spectra of a store, of one shard of not too many.
    leave : sequence of Path, optional
        Files and folders that are no inputs: the results, which may lie in a folder of inputs.

    Raises
    ------
    InputError
        If an input cannot be found.
    """

    def __init__(self, selection: Selection, batch: int, leave: Sequence[Path] = ()) -> None:
        self.stores = [open_store(name) for name in selection.inputs if is_store(name)]
        named = [name for name in selection.inputs if not is_store(name)]
        self.files = expand(named, leave=leave) if named else []
        self.total = len(self.files) + sum(len(store) for store in self.stores)
        batch = min(max(batch, -(-self.total // MANY)), LARGEST * batch)
        whole = selection.together == "star"
        self._ends = [0, len(self.files)] if whole else _file_ends(self.files, batch)
        self._cuts = [_cut(store, batch) for store in self.stores]

    def __iter__(self) -> Iterator[Shard]:
        number = itertools.count()
        for first, last in pairwise(self._ends if self.files else []):
            yield Shard(next(number), tuple(self.files[first:last]))
        for store, (order, ends) in zip(self.stores, self._cuts, strict=True):
            path = str(store.path.resolve())
            for first, last in pairwise(ends):
                yield Shard(next(number), (), path, order[first:last])

    def describe(self) -> dict[str, Any]:
        """Return what the shards are, in a form that can be compared: JSON types."""
        digest = hashlib.sha256(np.array(self._ends, "<i8").tobytes())
        for file in self.files:
            digest.update(f"{file.path.as_posix()}\n".encode())
        for store, (order, ends) in zip(self.stores, self._cuts, strict=True):
            digest.update(f"{store.path.resolve().as_posix()}\n".encode())
            digest.update(order.astype("<i8").tobytes() + np.array(ends, "<i8").tobytes())
        spectra = self.total - len(self.files)
        return {"files": len(self.files), "in stores": spectra, "sha256": digest.hexdigest()}


def _file_ends(files: Sequence[Source], batch: int) -> list[int]:
    """Where shards of files begin and the last ends: at a number of files, or of bytes."""
    ends, held = [0], 0
    for i, file in enumerate(files):
        size = file.path.stat().st_size if file.path.is_file() else 0  # else reading will tell
        if i > ends[-1] and (i - ends[-1] == batch or held + size > BYTES):
            ends.append(i)
            held = 0
        held += size
    return [*ends, len(files)]


def _cut(store: Store, batch: int) -> tuple[NDArray, list[int]]:
    """Rows in the order of their stars, (N,), and where shards begin and the last ends."""
    order, begins = store.by_star()
    starts = begins[np.unique(begins // batch, return_index=True)[1]]
    return order, [*starts.tolist(), len(order)]


class Part(NamedTuple):
    """What was read of a shard: spectra, files that gave none with the reason, other tables."""

    spectra: list[Spectrum]
    unread: list[tuple[str, str]]
    passed: tuple[str, ...] = ()


class Reader:
    """Reads shards; stores stay open.

    Parameters
    ----------
    survey : str, optional
        See `Selection`.
    workers : int
        Processes that read files ahead.
    """

    def __init__(self, survey: str | None, workers: int = 1) -> None:
        self.survey, self.workers = survey, workers
        self._stores: dict[str, Store] = {}

    def read(self, shards: Sequence[Shard]) -> Iterator[tuple[Shard, Part]]:
        """Yield shards with what was read of them, in their order."""
        files = [file for shard in shards for file in shard.files]
        found = read_all(files, self.survey, self.workers)
        for shard in shards:
            if shard.files:
                yield shard, _part(itertools.islice(found, len(shard.files)))
            else:
                if shard.store not in self._stores:
                    self._stores[shard.store] = open_store(shard.store)
                store = self._stores[shard.store]
                yield shard, Part([store[row] for row in shard.rows], [])


def _part(read: Iterable[tuple[Source, list[Spectrum] | Unread]]) -> Part:
    part = Part([], [])
    passed = []
    for file, found in read:
        if isinstance(found, Unread):
            part.unread.append((file.name, found.reason))
        elif not found:
            passed.append(file.name)
        else:
            # files of one name in two folders stay apart
            part.spectra.extend(s.replace(meta={**s.meta, "file": file.name}) for s in found)
    return part._replace(passed=tuple(passed))


def groups_of(
    spectra: Sequence[Spectrum], together: str, visits: bool
) -> tuple[list[list[Spectrum]], list[tuple[str, str]]]:
    """Return the spectra that make one row each, and those that cannot be used with the reason."""
    groups: dict[tuple[str, ...], list[Spectrum]] = {}
    bad = []
    for spectrum in spectra:
        if not spectrum.good.any():
            bad.append((spectrum.where, f"{spectrum.spectrum_id}: no usable pixel (all ivar = 0)"))
            continue
        key = (spectrum.star_id,) if together == "star" else (spectrum.where, spectrum.star_id)
        combined = bool(spectrum.meta.get("coadd", True))
        if visits and combined and "coadd" in spectrum.meta:
            continue
        if visits:
            key = (*key, spectrum.spectrum_id)
        groups.setdefault(key, []).append(spectrum)
    return [group if visits else _best(group) for group in groups.values()], bad


def _best(group: list[Spectrum]) -> list[Spectrum]:
    """The combined spectra where there are any: a visit is part of its combination."""
    combined = [s for s in group if s.meta.get("coadd", True) and not s.meta.get("alternative")]
    return combined or group
