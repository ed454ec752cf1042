"""A run: inputs in, rows out, part after part; it can be interrupted, and lists what is bad."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from astropy.table import Table

import spectrolabe
from spectrolabe.catalogue import CatalogueWriter
from spectrolabe.errors import InputError
from spectrolabe.inference.inputs import Selection, Sources, groups_of
from spectrolabe.models.files import write_file
from spectrolabe.progress import shown_progress
from spectrolabe.spectra import Spectrum

__all__ = ["BAD", "Bad", "RunReport", "listed_bad", "run", "write_bad"]

BAD = ".bad.csv"  # after the name of the catalogue

Bad = list[tuple[str, str]]


@dataclass(frozen=True)
class RunReport:
    """What a run did.

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


def run(
    selection: Selection,
    output: str | Path,
    provenance: Mapping[str, Any],
    rows: Callable[[list[list[Spectrum]]], tuple[Table, Bad]],
    *,
    title: str,
    batch: int,
    command: str,
    slow: bool = False,
    begin: float | None = None,
) -> RunReport:
    """Write one catalogue of all stars of the inputs.

    Parameters
    ----------
    selection : Selection
    output : str or Path
        ``.parquet`` or ``.fits``.
    provenance : Mapping
        What decides the result: an interrupted run goes on only with the same.
    rows : callable
        The spectra of some stars to their rows, and the inputs that gave none with the reason.
    title : str
        Of the progress bar.
    batch : int
        Files, or spectra of a store, between two parts of the catalogue.
    command : str
        For the provenance.
    slow : bool
        A star takes seconds.
    begin : float, optional
        `time.monotonic` when the job began.

    Raises
    ------
    InputError
        If an input cannot be found, nothing gives a result, or the disk is full. Bad files among
        good ones are listed in the report instead.
    """
    begin = time.monotonic() if begin is None else begin
    common = {
        "spectrolabe": spectrolabe.__version__,
        "together": selection.together,
        "visits": selection.visits,
    }
    writer = CatalogueWriter(output, {**provenance, **common})
    sources = Sources(selection, batch, writer.done)
    listed = Path(output).with_name(Path(output).name + BAD)
    bad = listed_bad(listed) if writer.done else []
    stars = 0
    parts = shown_progress(sources.parts(), sources.total, title, lambda p: p.size, slow=slow)
    for part in parts:
        groups, unusable = groups_of(part.spectra, selection.together, selection.visits)
        table, failed = rows(groups) if groups else (Table(), [])
        bad = list(dict.fromkeys([*bad, *part.unread, *unusable, *failed]))
        write_bad(listed, bad)  # before the part: what is done with is listed
        writer.append(table, part.inputs)
        stars += len(table)
    created = datetime.now(UTC).isoformat("T", "seconds")
    try:
        done = writer.finish({"created": created, "command": command})
    except InputError as error:
        if not bad:
            raise
        fix = f"The first of {len(bad)} reasons, all in {listed}: {bad[0][1]}"
        raise InputError(
            error.where, expected=error.expected, found=error.found, fix=fix
        ) from error
    seconds = time.monotonic() - begin
    return RunReport(done, stars, sources.skipped, tuple(bad), seconds)


def write_bad(path: Path, bad: Sequence[tuple[str, str]]) -> None:
    """Write a list of inputs and reasons, or remove it where there are none."""
    text = io.StringIO()
    csv.writer(text).writerows([("input", "reason"), *bad])
    if bad:
        write_file(path, text.getvalue().encode())
    else:
        path.unlink(missing_ok=True)


def listed_bad(path: Path) -> Bad:
    """Return what an earlier run listed; nothing if there is no list."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as stream:
        return [(name, reason) for name, reason in list(csv.reader(stream))[1:]]
