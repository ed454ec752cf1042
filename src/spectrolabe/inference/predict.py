"""Prediction: files, folders, globs or stores in, one catalogue out, a batch at a time."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from astropy.table import Table

import spectrolabe
from spectrolabe.catalogue import CatalogueWriter
from spectrolabe.errors import InputError
from spectrolabe.inference.rows import catalogue_of
from spectrolabe.models.checkpoint import load, write_file
from spectrolabe.progress import shown_progress
from spectrolabe.spectra import Spectrum
from spectrolabe.spectra.store import Store, is_store, open_store
from spectrolabe.surveys.reading import Unread, expand, read_all

__all__ = ["PredictReport", "find_model", "predict"]

BATCH = 128  # files or spectra between two parts of the catalogue
DEFAULT_MODEL = "lamost-dr10"


@dataclass(frozen=True)
class PredictReport:
    """What a prediction did.

    Parameters
    ----------
    catalogue : Path
    stars : int
        Rows that this run added.
    skipped : int
        Inputs that an earlier, interrupted run had finished.
    bad : tuple of (str, str)
        Input and reason of whatever gave no result; also in ``<catalogue>.bad.csv``.
    seconds : float
    """

    catalogue: Path
    stars: int
    skipped: int
    bad: tuple[tuple[str, str], ...]
    seconds: float


def find_model(name: str | Path) -> Path:
    """Return the folder of a model: a path, a name under ``weights/``, or ``default``.

    Raises
    ------
    InputError
        If there is none; the message lists the released ones.
    """
    path = Path(name)
    if path.is_dir():
        return path
    released = {card.parent.name: card.parent for card in _released()}
    wanted = DEFAULT_MODEL if str(name) == "default" else path.name
    if wanted in released:
        return released[wanted]
    raise InputError(
        name,
        expected="a run, a folder of a model, or 'default'",
        found="none of them",
        fix=f"Released models: {', '.join(sorted(released)) or 'none'}.",
    )


def _released() -> list[Path]:
    """Cards of the released models: inside an installed package, or beside ``src/`` of a clone."""
    package = Path(spectrolabe.__file__).parent
    return [
        file.with_name("card.json")
        for weights in (package.parents[1] / "weights", package / "weights")
        for file in sorted(weights.glob("*/model.safetensors"))
    ]


def predict(
    model: str | Path,
    inputs: Iterable[str | Path],
    output: str | Path,
    *,
    survey: str | None = None,
    together: str = "file",
    visits: bool = False,
    workers: int = 1,
    device: str = "cpu",
    command: str = "",
) -> PredictReport:
    """Predict labels for every star of the inputs and write one catalogue.

    Parameters
    ----------
    model : str or Path
        See `find_model`.
    inputs : iterable of str or Path
        Files, folders, globs and stores.
    output : str or Path
        ``.parquet`` or ``.fits``.
    survey : str, optional
        Read files as this survey instead of recognising them.
    together : {"file", "star"}
        Which spectra make one row: those of a star in one file, or in all inputs. ``star`` holds
        all spectra of the files in memory.
    visits : bool
        One row per visit or exposure instead of the combined spectra.
    workers : int
        Processes that read files.
    device : str
        Where the model runs.
    command : str
        For the provenance.

    Raises
    ------
    InputError
        If the model or an input cannot be found, nothing gives a result, or the disk is full. Bad
        files among good ones are listed in the report instead.
    """
    begin = time.monotonic()
    folder = find_model(model)
    estimator = load(folder).to(device)
    provenance = {
        "model": folder.name,
        "model_sha256": estimator.card["weights_sha256"],
        "spectrolabe": spectrolabe.__version__,
        "together": together,
        "visits": visits,
    }
    if together not in ("file", "star"):
        raise InputError("together", expected="'file' or 'star'", found=repr(together))
    writer = CatalogueWriter(output, provenance)
    sources = _Sources([str(i) for i in inputs], survey, workers, together == "star", writer.done)
    listed = Path(output).with_name(Path(output).name + ".bad.csv")
    bad = _listed_bad(listed) if writer.done else []
    stars = 0
    for part in shown_progress(sources.parts(), sources.total, "predict", lambda p: p.size):
        groups, unusable = _groups(part.spectra, together, visits)
        bad = list(dict.fromkeys([*bad, *part.unread, *unusable]))
        _list_bad(listed, bad)  # before the part: what is done with is listed
        table = catalogue_of(estimator, groups) if groups else Table()
        writer.append(table, part.inputs)
        stars += len(table)
    done = writer.finish(
        {"created": datetime.now(UTC).isoformat("T", "seconds"), "command": command}
    )
    seconds = time.monotonic() - begin
    return PredictReport(done, stars, sources.skipped, tuple(bad), seconds)


def _list_bad(path: Path, bad: Sequence[tuple[str, str]]) -> None:
    text = io.StringIO()
    csv.writer(text).writerows([("input", "reason"), *bad])
    if bad:
        write_file(path, text.getvalue().encode())
    else:
        path.unlink(missing_ok=True)


def _listed_bad(path: Path) -> list[tuple[str, str]]:
    """What an interrupted run listed, of the inputs that will not be read again."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as stream:
        return [(name, reason) for name, reason in list(csv.reader(stream))[1:]]


class _Part(NamedTuple):
    """Some of the inputs, read: what is done with them."""

    inputs: list[str]
    spectra: list[Spectrum]
    unread: list[tuple[str, str]]
    of_store: bool = False

    @property
    def size(self) -> int:
        """How many files, or rows of a store."""
        return len(self.spectra) if self.of_store else len(self.inputs)


class _Sources:
    """The inputs, part after part; what an interrupted run has finished is left out."""

    def __init__(
        self,
        inputs: Sequence[str],
        survey: str | None,
        workers: int,
        whole: bool,
        done: frozenset[str],
    ) -> None:
        self.survey, self.workers, self.whole, self.done = survey, workers, whole, done
        self.stores = [open_store(name) for name in inputs if is_store(name)]
        named = [name for name in inputs if not is_store(name)]
        files = expand(named) if named else []
        self.files = [file for file in files if file.path.as_posix() not in done]
        self.skipped = len(files) - len(self.files)
        self.total = len(self.files) + sum(len(store) for store in self.stores)

    def parts(self) -> Iterator[_Part]:
        """Files first, then stores."""
        step = len(self.files) if self.whole else BATCH
        part = _Part([], [], [])
        for file, found in read_all(self.files, self.survey, self.workers):
            part.inputs.append(file.path.as_posix())
            if isinstance(found, Unread):
                part.unread.append((file.name, found.reason))
            else:
                # files of one name in two folders stay apart
                part.spectra.extend(s.replace(meta={**s.meta, "file": file.name}) for s in found)
            if len(part.inputs) == step:
                yield part
                part = _Part([], [], [])
        if part.inputs:
            yield part
        for store in self.stores:
            yield from self._of_store(store)

    def _of_store(self, store: Store) -> Iterator[_Part]:
        """Rows in the order of their stars, so that a star is never in two parts."""
        star = store.column("star_id")
        order = np.argsort(star, kind="stable")
        begins = np.flatnonzero(np.r_[True, star[order][1:] != star[order][:-1]])
        starts = begins[np.unique(begins // BATCH, return_index=True)[1]]
        for first, last in pairwise([*starts, len(order)]):
            name = f"{store.path.resolve()}:{first}-{last}"
            if name in self.done:
                self.skipped += 1
                continue
            rows = [store[int(i)] for i in order[first:last]]
            yield _Part([name], rows, [], of_store=True)


def _groups(
    spectra: Sequence[Spectrum], together: str, visits: bool
) -> tuple[list[list[Spectrum]], list[tuple[str, str]]]:
    """Spectra that make one row each, and those that cannot be used."""
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
