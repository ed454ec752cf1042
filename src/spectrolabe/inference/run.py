"""A run: inputs in, a catalogue out; it can be interrupted, and lists what is bad."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import spectrolabe
from spectrolabe.catalogue import CatalogueWriter
from spectrolabe.catalogue.files import check_suffix
from spectrolabe.errors import InputError
from spectrolabe.guard import check_output
from spectrolabe.inference.distributed import on_cluster
from spectrolabe.inference.inputs import Selection, Sources
from spectrolabe.inference.job import Bad, Job, Work, in_turn
from spectrolabe.models.files import write_file
from spectrolabe.progress import shown_progress

__all__ = ["BAD", "RunReport", "listed_bad", "run", "write_bad"]

BAD = ".bad.csv"  # after the name of the catalogue


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
    passed : tuple of str
        Tables without spectra that this run passed over in folders.
    """

    catalogue: Path
    stars: int
    skipped: int
    bad: tuple[tuple[str, str], ...]
    seconds: float
    passed: tuple[str, ...] = ()


def run(
    work: Work,
    selection: Selection,
    output: str | Path,
    *,
    title: str,
    batch: int,
    command: str,
    slow: bool = False,
    begin: float | None = None,
    beside: str | None = None,
    scheduler: str | None = None,
) -> RunReport:
    """Write one catalogue of all stars of the inputs.

    Parameters
    ----------
    work : Work
        Makes rows of stars. Its provenance decides the result: an interrupted run goes on only
        with the same, and the same inputs.
    selection : Selection
    output : str or Path
        ``.parquet`` or ``.fits``.
    title : str
        Of the progress bar.
    batch : int
        Files, or spectra of a store, of a shard, which becomes a part of the catalogue.
    command : str
        For the provenance.
    slow : bool
        A star takes seconds.
    begin : float, optional
        `time.monotonic` when the job began.
    beside : str, optional
        Suffix of the table beside the catalogue, if the work makes one.
    scheduler : str, optional
        See `spectrolabe.inference.distributed.on_cluster`; all in this process if not given.

    Raises
    ------
    InputError
        If an input cannot be found, nothing gives a result, or the disk is full. Bad files among
        good ones are listed in the report instead.
    """
    begin = time.monotonic() if begin is None else begin
    output = check_suffix(output)
    check_output(output, "--output", folder=output.suffix == ".hats")
    rows = work.open()
    listed = output.with_name(output.name + BAD)
    sources = Sources(selection, batch, _results(output, beside))
    job = _job(work, selection, output, beside, rows.provenance, sources.describe())
    for writer in job.writers:
        writer.begin()
    done = set.intersection(*(writer.done() for writer in job.writers))
    todo = [shard for shard in sources if shard.number not in done]
    left = sum(shard.size for shard in todo)
    made = in_turn(job, todo, rows) if scheduler is None else on_cluster(job, todo, scheduler)
    stars = 0
    passed: list[str] = []
    for one in shown_progress(made, left, title, lambda made: made.size, slow=slow):
        stars += one.stars
        passed += one.passed
    bad = job.writer.bad()
    write_bad(listed, bad)
    created = datetime.now(UTC).isoformat("T", "seconds")
    try:
        for writer in job.writers:
            about = {} if writer is job.writer else {"catalogue": output.name}
            writer.merge({"created": created, "command": command, **about})
    except InputError as error:
        if not bad or error.found != "none":
            raise
        first = "Why" if len(bad) == 1 else f"The first of {len(bad)} reasons, all in {listed}"
        fix = f"{first}: {bad[0][1]}"
        raise InputError(
            error.where, expected=error.expected, found=error.found, fix=fix
        ) from error
    for writer in job.writers:
        writer.remove_parts()
    seconds = time.monotonic() - begin
    return RunReport(output, stars, sources.total - left, tuple(bad), seconds, tuple(passed))


def _job(
    work: Work,
    selection: Selection,
    output: Path,
    beside: str | None,
    provenance: Mapping[str, Any],
    inputs: Mapping[str, Any],
) -> Job:
    """The job with absolute paths: processes may work elsewhere."""
    common = {
        **provenance,
        "spectrolabe": spectrolabe.__version__,
        "together": selection.together,
        "visits": selection.visits,
    }
    path = output.absolute()
    other = None if beside is None else CatalogueWriter(path.with_suffix(beside), common, inputs)
    return Job(work, selection, CatalogueWriter(path, common, inputs), other)


def _results(output: Path, beside: str | None) -> list[Path]:
    """What a run leaves, whole or in parts: no inputs, though it may lie among them."""
    tables = [output] if beside is None else [output, output.with_suffix(beside)]
    return [
        *(table.with_name(table.name + suffix) for table in tables for suffix in ("", ".parts")),
        output.with_name(output.name + BAD),
    ]


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
