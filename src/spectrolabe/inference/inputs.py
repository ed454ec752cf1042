"""Inputs of a run: files, folders, globs and stores, part after part, as the spectra of stars."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from spectrolabe.errors import InputError
from spectrolabe.spectra import Spectrum
from spectrolabe.spectra.store import Store, is_store, open_store
from spectrolabe.surveys.reading import Unread, expand, read_all

__all__ = ["Part", "Selection", "Sources", "groups_of"]


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
        Processes that read files.
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
            If ``together`` is another word.
        """
        if together not in ("file", "star"):
            raise InputError("together", expected="'file' or 'star'", found=repr(together))
        names = [inputs] if isinstance(inputs, str | Path) else inputs
        return cls(tuple(str(name) for name in names), survey, together, visits, workers)


class Part(NamedTuple):
    """Some of the inputs, read: what is done with them."""

    inputs: list[str]
    spectra: list[Spectrum]
    unread: list[tuple[str, str]]
    of_store: bool = False

    @property
    def size(self) -> int:
        """How many files, or rows of a store."""
        return len(self.spectra) if self.of_store else len(self.inputs)


class Sources:
    """The inputs, part after part; what an interrupted run has finished is left out.

    Parameters
    ----------
    selection : Selection
    batch : int
        Files, or spectra of a store, of one part.
    done : frozenset of str
        Inputs that are finished.
    """

    def __init__(self, selection: Selection, batch: int, done: frozenset[str]) -> None:
        self.selection, self.batch, self.done = selection, batch, done
        self.stores = [open_store(name) for name in selection.inputs if is_store(name)]
        named = [name for name in selection.inputs if not is_store(name)]
        files = expand(named) if named else []
        self.files = [file for file in files if file.path.as_posix() not in done]
        self.skipped = len(files) - len(self.files)
        self.total = len(self.files) + sum(len(store) for store in self.stores)

    def parts(self) -> Iterator[Part]:
        """Files first, then stores."""
        step = len(self.files) if self.selection.together == "star" else self.batch
        part = Part([], [], [])
        for file, found in read_all(self.files, self.selection.survey, self.selection.workers):
            part.inputs.append(file.path.as_posix())
            if isinstance(found, Unread):
                part.unread.append((file.name, found.reason))
            else:
                # files of one name in two folders stay apart
                part.spectra.extend(s.replace(meta={**s.meta, "file": file.name}) for s in found)
            if len(part.inputs) == step:
                yield part
                part = Part([], [], [])
        if part.inputs:
            yield part
        for store in self.stores:
            yield from self._of_store(store)

    def _of_store(self, store: Store) -> Iterator[Part]:
        """Rows in the order of their stars, so that a star is never in two parts."""
        star = store.column("star_id")
        order = np.argsort(star, kind="stable")
        begins = np.flatnonzero(np.r_[True, star[order][1:] != star[order][:-1]])
        starts = begins[np.unique(begins // self.batch, return_index=True)[1]]
        for first, last in pairwise([*starts, len(order)]):
            name = f"{store.path.resolve()}:{first}-{last}"
            if name in self.done:
                self.skipped += 1
                continue
            rows = [store[int(i)] for i in order[first:last]]
            yield Part([name], rows, [], of_store=True)


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
