"""A grid of spectra from a configuration or a table: in parallel, and again from where it stopped.

Every star that is finished is a file of its own beside the grid to be; when all are there, they are
put together. A grid depends on what was asked for and on nothing else: not on the number of
workers, not on interruptions, not on the date.
"""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import as_completed
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spectrolabe.config import GridConfig, SpectraConfig
from spectrolabe.errors import InputError
from spectrolabe.labels import Labels
from spectrolabe.parallel import worker_pool
from spectrolabe.progress import shown_progress
from spectrolabe.spectra.shards import write_atomically
from spectrolabe.synthesis.grid import GridHead, read_grid, write_rows
from spectrolabe.synthesis.parts import Part, begin_parts
from spectrolabe.synthesis.plan import SYMBOLS, Engine, GridPlan, check_same, identity_of, plan_grid

__all__ = ["BAD", "Failure", "GridReport", "synthesise_grid"]

BAD = ".bad.csv"
"""What the list of stars without a spectrum adds to the name of the grid."""

PARTS = ".parts"
SOLAR_MIXTURE = "Grevesse, Asplund & Sauval 2007"
THREADS = ("OMP", "OPENBLAS", "MKL", "NUMBA")
FEW = 64  # pixels of the spectrum that compiles everything before the workers start


@dataclass(frozen=True)
class Failure:
    """A star without a spectrum.

    Parameters
    ----------
    row : int
        Its row in the table or sample, from 0.
    star_id : str
    label : str
        The label at fault, where there is one.
    reason : str
    """

    row: int
    star_id: str
    label: str
    reason: str


@dataclass(frozen=True)
class GridReport:
    """What became of a grid.

    Parameters
    ----------
    grid : Path
    stars : int
        Spectra in it.
    added, skipped : int
        Computed now, and found finished.
    seconds : float
    bad : list of Failure
        Also in ``<grid>.bad.csv``.
    notes : list of str
        Columns taken as 0 or ignored, elements without lines.
    """

    grid: Path
    stars: int
    added: int
    skipped: int
    seconds: float
    bad: list[Failure]
    notes: list[str]


def synthesise_grid(
    source: GridConfig | str | Path | Labels,
    output: str | Path,
    *,
    spectra: SpectraConfig | None = None,
    workers: int = 1,
    engine: Engine | None = None,
) -> GridReport:
    """Compute the spectra of many stars and write them as one grid.

    Run again, it continues: stars that are finished are kept, and the grid is the same as that of
    a run without interruption.

    Parameters
    ----------
    source : GridConfig, path or Labels
        Stars to draw, a table of stars, or stars.
    output : str or Path
        The grid; ``<output>.parts`` holds the finished stars until it is complete, and
        ``<output>.bad.csv`` lists stars without a spectrum.
    spectra : SpectraConfig, optional
        Which spectra; that of the configuration if not given.
    workers : int
        Processes that compute.
    engine : callable, optional
        Another function with the parameters and the result of `spectrolabe.synthesis.synthesise`.
        It must be importable by the workers.

    Raises
    ------
    InputError
        If nothing can be computed at all (unknown names, a window outside the lines, a damaged
        table), if no star has a spectrum, or if the output belongs to another configuration.
    """
    begin, output = time.monotonic(), Path(output)
    plan = plan_grid(source, spectra)
    identity = identity_of(plan, engine)
    if output.exists():
        return _finished(output, identity)
    if engine is None:
        _check_engine(plan)
    folder = output.with_name(output.name + PARTS)
    begin_parts(folder, identity)
    parts = {row: Part(folder, row) for row in range(len(plan.labels))}
    todo = [row for row, part in parts.items() if not part.whole(len(plan.wavelength))]
    bad = _compute(_Job(plan, folder, engine), todo, workers)
    good = [row for row in parts if row not in {one.row for one in bad}]
    _write_bad(output, bad)
    if not good:
        shutil.rmtree(folder)
        raise InputError(
            output,
            expected="at least one star with a spectrum",
            found=f"none of {len(parts)}; the first: {bad[0].reason}",
        )
    notes = _assemble(output, plan, identity, [parts[row] for row in good], bad)
    shutil.rmtree(folder)
    added = len(set(todo) & set(good))
    seconds = time.monotonic() - begin
    return GridReport(output, len(good), added, len(good) - added, seconds, bad, notes)


def _finished(output: Path, identity: Mapping[str, Any]) -> GridReport:
    grid = read_grid(output)
    check_same(output, grid.provenance, identity)
    bad = [Failure(**one) for one in grid.provenance["failed"]]
    notes = list(grid.provenance["notes"])
    return GridReport(output, len(grid), 0, len(grid), 0.0, bad, notes)


def _check_engine(plan: GridPlan) -> None:
    """Find out what would fail for every star before the first is computed."""
    from spectrolabe.synthesis.atmosphere import coverage
    from spectrolabe.synthesis.linelist import load_lines
    from spectrolabe.synthesis.spectrum import PIECE_GAP
    from spectrolabe.synthesis.tables import CHECKSUMS, FOLDER, load_table

    for name in json.loads((FOLDER / CHECKSUMS).read_text(encoding="utf-8")):
        load_table(name)
    coverage(plan.atmospheres)
    wavelength = plan.wavelength
    for piece in np.split(wavelength, np.flatnonzero(np.diff(wavelength) > PIECE_GAP) + 1):
        load_lines(piece[0], piece[-1])


# ---------------------------------------------------------------- one star


@dataclass(frozen=True, eq=False)
class _Job:
    plan: GridPlan
    folder: Path
    engine: Engine | None

    def run(self, row: int) -> Failure | None:
        """Compute one star and keep it, or say why not."""
        plan = self.plan
        try:
            found = self.spectrum(plan.star(row), plan.wavelength, plan.differential)
            if not (np.isfinite(found.flux).all() and (found.flux >= 0).all()):
                raise InputError("flux", expected="numbers of 0 or more", found="others")
            if not np.isfinite(found.differential).all():
                raise InputError("differential", expected="finite numbers", found="others")
        except InputError as error:
            return Failure(row, str(plan.labels.star_id[row]), self._label(error), str(error))
        except Exception as error:  # one star must never stop the others
            reason = f"{type(error).__name__}: {error}"
            return Failure(row, str(plan.labels.star_id[row]), "", reason)
        Part(self.folder, row).write(found)
        return None

    def spectrum(self, star: Any, wavelength: NDArray, differential: Sequence[str]) -> Any:
        from spectrolabe.synthesis.spectrum import synthesise

        engine = self.engine or synthesise
        return engine(
            star,
            wavelength,
            atmospheres=self.plan.atmospheres,
            lines=self.plan.lines,
            differential=differential,
        )

    def _label(self, error: InputError) -> str:
        words = set(error.where.replace(",", " ").split())
        return next((name for name in self.plan.labels.names if name in words), "")


# ---------------------------------------------------------------- all stars


def _compute(job: _Job, todo: Sequence[int], workers: int) -> list[Failure]:
    """Compute stars, under a bar with rate and time left; return the failures by row."""
    done = _each(job, todo, workers)
    shown = shown_progress(done, len(todo), "synthesising", slow=True)
    return sorted((failure for failure in shown if failure), key=lambda one: one.row)


def _each(job: _Job, todo: Sequence[int], workers: int) -> Iterator[Failure | None]:
    if workers <= 1 or len(todo) <= 1:
        yield from map(job.run, todo)
        return
    _compile(job, todo)
    with _one_thread(), worker_pool(min(workers, len(todo)), _enter, (job,)) as pool:
        for done in as_completed([pool.submit(_run, row) for row in todo]):
            yield done.result()


_entered: list[_Job] = []


def _enter(job: _Job) -> None:
    _entered.append(job)


def _run(row: int) -> Failure | None:
    return _entered[-1].run(row)


def _compile(job: _Job, todo: Sequence[int]) -> None:
    """Compute a few pixels here, so that the workers find everything compiled."""
    names = [name for name in ("teff", "ti_fe") if name in job.plan.differential]
    for row in todo[:3]:
        with suppress(Exception):  # if this fails, so does the star, which will say why
            job.spectrum(job.plan.star(row), job.plan.wavelength[:FEW], names)
            return


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let processes started in here use one thread each."""
    names = [f"{name}_NUM_THREADS" for name in THREADS]
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


# ---------------------------------------------------------------- the grid


def _write_bad(output: Path, bad: Sequence[Failure]) -> None:
    path = output.with_name(output.name + BAD)
    if not bad:
        path.unlink(missing_ok=True)
        return
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("row", "star_id", "label", "reason"))
    table.writerows((one.row, one.star_id, one.label, one.reason) for one in bad)
    write_atomically(path, text.getvalue().encode())


def _assemble(
    output: Path,
    plan: GridPlan,
    identity: Mapping[str, Any],
    parts: Sequence[Part],
    bad: Sequence[Failure],
) -> list[str]:
    """Write the grid and return what the user should know about it."""
    scales = np.array([part.get("differential_scale")[0] for part in parts])
    empty = [name for name, one in zip(plan.differential, scales.T, strict=True) if not one.any()]
    no_lines = [name for name in empty if name in SYMBOLS]
    notes = [*plan.notes]
    if no_lines:
        notes.append(f"no lines in this window, differential spectra 0: {', '.join(no_lines)}")
    provenance = {
        **identity,
        "atmosphere_geometry": "plane-parallel",
        "equilibrium": "LTE",
        "solar_mixture": SOLAR_MIXTURE,
        "wavelength_medium": "vacuum",
        "flags": [f"NO_LINES_{name.removesuffix('_fe')}" for name in no_lines],
        "notes": notes,
        "failed": [vars(one) for one in bad],
    }
    head = GridHead(
        plan.wavelength,
        plan.labels.take([part.row for part in parts]),
        plan.differential,
        np.array([part.get("differential_steps")[0] for part in parts]),
        [part.flags for part in parts],
        provenance,
    )
    write_rows(output, head, parts)
    return notes
