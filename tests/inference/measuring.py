"""Work without a model, for tests of what becomes of shards: it may be slow, and may kill."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.table import Table

from spectrolabe.inference.inputs import Selection
from spectrolabe.inference.job import Rows
from spectrolabe.inference.run import RunReport, run
from spectrolabe.spectra import Spectrum
from spectrolabe.spectra.store import StoreWriter
from tests.models.stars import made_up


@dataclass(frozen=True)
class Measuring:
    """The mean flux of stars; notes in a file which process was told to do what.

    Parameters
    ----------
    log : Path
    seconds : float
        For each star.
    deadly : str
        The star that kills the process that measures it.
    times : int
        How often it does.
    """

    log: Path
    seconds: float = 0.0
    deadly: str = ""
    times: int = 1

    def open(self) -> Measurer:
        """Note it."""
        self.note("open")
        return Measurer(self)

    def note(self, what: str) -> None:
        """Add a line, whole whoever else writes."""
        with self.log.open("ab", buffering=0) as stream:
            stream.write(f"{os.getpid()} {what}\n".encode())

    def noted(self, what: str = "") -> list[int]:
        """Return the processes that noted this, in order of time."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [int(line.split()[0]) for line in lines if what in line.split()[1]]


@dataclass(frozen=True)
class Measurer:
    """What `Measuring` opens."""

    work: Measuring

    @property
    def provenance(self) -> dict[str, str]:
        """Nothing but a name."""
        return {"model": "mean"}

    def __call__(self, stars: list[list[Spectrum]], first: bool) -> Rows:
        """Return a row for each star."""
        for star in stars:
            name = star[0].star_id
            deaths = len(self.work.noted(f"died-of-{name}."))
            if name == self.work.deadly and deaths < self.work.times:
                self.work.note(f"died-of-{name}.")
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(self.work.seconds)
            self.work.note(f"measured-{name}.")
        names = np.array([star[0].star_id for star in stars])
        return Rows(Table({"star_id": names, "mean": [star[0].flux.mean() for star in stars]}), [])


def write_store(path: Path, count: int) -> Path:
    """Write a store of stars star0, star1, ..."""
    stars, _ = made_up(np.random.default_rng(5), count, step=2e-3)
    with StoreWriter(path, ()) as writer:
        for star in stars:
            writer.append(star[0], values={}, file=f"{star[0].star_id}.fits")
    return path


def measure(
    work: Measuring, inputs: Path, output: Path, scheduler: str | None = None, workers: int = 1
) -> RunReport:
    """Run it, two stars a shard."""
    selection = Selection.of([inputs], None, "file", False, workers)
    return run(work, selection, output, title="test", batch=2, command="test", scheduler=scheduler)
