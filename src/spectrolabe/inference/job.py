"""A job over shards: what any process needs to make one part of a catalogue, and does for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from astropy.table import Table

from spectrolabe.catalogue import CatalogueWriter
from spectrolabe.inference.inputs import Part, Reader, Selection, Shard, groups_of
from spectrolabe.spectra import Spectrum

__all__ = ["Bad", "Job", "Made", "RowMaker", "Rows", "Work", "in_turn"]

Bad = list[tuple[str, str]]


class Rows(NamedTuple):
    """Rows of some stars, the inputs that gave none with the reason, rows of the table beside."""

    table: Table
    bad: Bad
    beside: Table | None = None


class RowMaker(Protocol):
    """Makes rows of stars; it stays in a process, with its model."""

    @property
    def provenance(self) -> Mapping[str, Any]:
        """What decides the result, of JSON types."""

    def __call__(self, stars: list[list[Spectrum]], first: bool) -> Rows:
        """Return the rows of stars; ``first``: the first ones of the run."""


class Work(Protocol):
    """What is to be done, small enough to be sent to any process."""

    def open(self) -> RowMaker:
        """Load the model and check the options."""


class Made(NamedTuple):
    """What became of a shard.

    Parameters
    ----------
    size : int
        Files, or rows of a store.
    stars : int
        Rows of the catalogue.
    killed : bool
        It was given up, as it killed the processes that read it.
    passed : tuple of str
        Tables without spectra that were passed over.
    """

    size: int
    stars: int
    killed: bool = False
    passed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Job:
    """A run, as any process must know it.

    Parameters
    ----------
    work : Work
    selection : Selection
    writer : CatalogueWriter
    beside : CatalogueWriter, optional
        Of the table beside the catalogue.
    """

    work: Work
    selection: Selection
    writer: CatalogueWriter
    beside: CatalogueWriter | None = None

    @property
    def writers(self) -> list[CatalogueWriter]:
        """Of all tables; the catalogue, which says what is done, is the last."""
        return [*([] if self.beside is None else [self.beside]), self.writer]

    def make(self, shard: Shard, part: Part, rows: RowMaker) -> Made:
        """Write the parts of a shard that has been read."""
        groups, unusable = groups_of(part.spectra, self.selection.together, self.selection.visits)
        made = rows(groups, shard.number == 0) if groups else Rows(Table(), [])
        if self.beside is not None:
            self.beside.write(shard.number, Table() if made.beside is None else made.beside)
        self.writer.write(shard.number, made.table, [*part.unread, *unusable, *made.bad])
        return Made(shard.size, len(made.table), passed=part.passed)


def in_turn(job: Job, shards: Sequence[Shard], rows: RowMaker) -> Iterator[Made]:
    """Make shards in this process, one after the other."""
    reader = Reader(job.selection.survey, job.selection.workers)
    for shard, part in reader.read(shards):
        yield job.make(shard, part, rows)
