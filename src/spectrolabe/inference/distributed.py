"""Shards on the processes of a Dask cluster, which may die at any time.

A shard leaves its part of the catalogue, or nothing, so it may be made twice, anywhere. What must
be known of processes that were killed is on the disk as well: a shard that is begun leaves a mark,
and takes it away when it ends.
"""

from __future__ import annotations

import ctypes
import itertools
import logging
import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from astropy.table import Table

import spectrolabe
from spectrolabe.errors import InputError
from spectrolabe.guard import unwritten
from spectrolabe.inference.inputs import Reader, Shard
from spectrolabe.inference.job import Job, Made, RowMaker

if TYPE_CHECKING:
    from distributed import Client, Future

__all__ = ["LOCAL", "check_scheduler", "on_cluster"]

LOCAL = "local"
AHEAD = 2  # shards of each process that are submitted: one is made, one waits
TRIES = 3  # of a shard: processes that it may kill, or failures that nobody foresaw
PATIENCE = 10.0  # seconds between two looks at how many processes there are
BEGUN = "begun"  # folder of the marks
TRIM, MAP = (-1, 1 << 30), (-3, 1 << 25)  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD, bytes


# in the process of the command


def check_scheduler(scheduler: str | None, workers: int) -> None:
    """See that shards can go there.

    Parameters
    ----------
    scheduler : str, optional
        See `on_cluster`.
    workers : int
        Processes asked for.

    Raises
    ------
    InputError
        If it is neither an address nor a file, Dask is not installed, or a number of processes is
        given for a cluster that has its own.
    """
    if scheduler is None:
        return
    if scheduler != LOCAL and "://" not in scheduler and not Path(scheduler).is_file():
        raise InputError(
            "--scheduler",
            expected="'local', an address like tcp://host:8786, or the file of a scheduler",
            found=repr(scheduler),
        )
    if scheduler != LOCAL and workers > 1:
        raise InputError(
            "--workers",
            expected="no number of processes: the scheduler has its own",
            found=str(workers),
            fix="Leave it out, or say --scheduler local.",
        )
    try:
        import distributed  # noqa: F401
    except ImportError as error:
        raise InputError(
            "--scheduler",
            expected="the package distributed (Dask)",
            found="none",
            fix="Install it: pip install 'spectrolabe[dask]'.",
        ) from error


def on_cluster(job: Job, shards: Sequence[Shard], scheduler: str) -> Iterator[Made]:
    """Make shards on a cluster; yield what became of each, as they end.

    Few are submitted at a time, so that memory does not grow with their number.

    Parameters
    ----------
    job : Job
        The folder of its parts, the inputs and the model must be at the same path on all machines.
    shards : sequence of Shard
    scheduler : str
        ``local`` for a cluster of as many processes as the selection says, which ends with the
        command; else the address of a scheduler, or its file.

    Raises
    ------
    InputError
        If there is no scheduler or it is lost, the disk is full, or processes are killed whatever
        they do. The parts that are written stay.
    """
    if not shards:
        return
    shutil.rmtree(job.writer.folder / BEGUN, ignore_errors=True)
    good = killed = 0
    with _connected(scheduler, job.selection.workers) as client:
        for made in _Submission(client, job, scheduler).all(shards):
            good, killed = good + (not made.killed), killed + made.killed
            if killed >= TRIES and not good:
                raise _killed()
            yield made


@contextmanager
def _connected(scheduler: str, workers: int) -> Iterator[Client]:
    from distributed import Client, LocalCluster

    if scheduler == LOCAL:
        # no limit of memory: maps of a store count, though the system may take them back
        with (
            LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                memory_limit=None,
                dashboard_address=None,
                silence_logs=logging.CRITICAL,
            ) as cluster,
            Client(cluster) as client,
        ):
            yield client
        return
    at = {"address": scheduler} if "://" in scheduler else {"scheduler_file": scheduler}
    try:
        client = Client(**at, set_as_default=False)
    except (OSError, ValueError) as error:
        raise InputError(
            scheduler, expected="a Dask scheduler that answers", found=str(error)
        ) from error
    with client:
        yield client


class _Submission:
    """Shards that are on their way through a scheduler."""

    def __init__(self, client: Client, job: Job, scheduler: str) -> None:
        self.client, self.job, self.scheduler = client, job, scheduler
        self.running: dict[Future, Shard] = {}
        self.failed: Counter[int] = Counter()
        self._most, self._looked = AHEAD, -PATIENCE

    def all(self, shards: Sequence[Shard]) -> Iterator[Made]:
        from distributed import as_completed
        from distributed.comm import CommClosedError

        waiting, completed = iter(shards), as_completed(loop=self.client.loop)
        try:
            while True:
                for shard in itertools.islice(waiting, self._room()):
                    completed.add(self._submit(shard))
                if not self.running:
                    return
                future = next(completed)
                shard = self.running.pop(future)
                made = self._result(future, shard)
                if made is None:
                    completed.add(self._submit(shard))
                else:
                    yield made
        except (CommClosedError, CancelledError) as error:
            raise self._lost() from error
        finally:
            with suppress(OSError):
                if self.client.status == "running":
                    self.client.cancel(list(self.running))

    def _room(self) -> int:
        """How many shards may be submitted."""
        if time.monotonic() - self._looked > PATIENCE:
            try:
                self._most = AHEAD * max(1, len(self.client.nthreads()))
            except OSError as error:
                raise self._lost() from error
            self._looked = time.monotonic()
        return max(0, self._most - len(self.running))

    def _submit(self, shard: Shard) -> Future:
        if self.client.status != "running":
            raise self._lost()
        key = f"spectrolabe-{self.job.writer.run[:12]}-{shard.number}-{self.failed[shard.number]}"
        future = self.client.submit(_make, self.job, shard, key=key)
        self.running[future] = shard
        return future

    def _result(self, future: Future, shard: Shard) -> Made | None:
        """What became of a shard; nothing if it shall be tried again."""
        from distributed.scheduler import KilledWorker

        if future.status == "cancelled":
            raise self._lost()
        error = future.exception()
        if error is None:
            made: Made = future.result()
            return made
        self.failed[shard.number] += 1
        if isinstance(error, InputError):
            raise error
        if self.failed[shard.number] < TRIES:
            return None
        raise _killed() if isinstance(error, KilledWorker) else error

    def _lost(self) -> InputError:
        return InputError(
            self.scheduler,
            expected="a Dask scheduler that lives to the end",
            found="one that was lost",
            fix="Run the same command again, with any scheduler, to continue.",
        )


def _killed() -> InputError:
    return InputError(
        "workers",
        expected="processes that live",
        found="each one killed, often for want of memory",
        fix="Run again with fewer, or larger ones, to continue.",
    )


# in the processes of the cluster

_opened: dict[str, tuple[RowMaker, Reader]] = {}  # of the last run: a model is loaded once
_one_at_a_time = threading.Lock()


def _make(job: Job, shard: Shard) -> Made:
    """Make the part of a shard, unless another process has."""
    with _one_at_a_time:
        job.writer.check()
        if all(writer.has(shard.number) for writer in job.writers):
            return Made(shard.size, job.writer.rows(shard.number))
        mark = _mark(job.writer.folder / BEGUN, shard.number)
        if mark is None:
            reason = f"given up: {TRIES} processes were killed while they worked on it"
            if shard.size > 1:
                reason += f" and {shard.size - 1} others"
            for writer in job.writers[:-1]:
                writer.write(shard.number, Table())
            job.writer.write(shard.number, Table(), [(name, reason) for name in shard.names])
            return Made(shard.size, 0, killed=True)
        try:
            rows, reader = _open(job)
            ((_, part),) = reader.read([shard])
            return job.make(shard, part, rows)
        finally:
            mark.unlink(missing_ok=True)


def _mark(folder: Path, number: int) -> Path | None:
    """Leave a mark that a shard is begun; none if as many are there as it may leave."""
    for attempt in range(TRIES):
        path = folder / f"{number:07d}.{attempt}"
        try:
            folder.mkdir(exist_ok=True)
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            continue
        except OSError as error:
            raise unwritten(path, error) from error
        return path
    return None


def _open(job: Job) -> tuple[RowMaker, Reader]:
    if job.writer.run not in _opened:
        import torch

        torch.set_num_threads(1)
        _keep_memory()
        rows = job.work.open()
        _check_same(job, {**rows.provenance, "spectrolabe": spectrolabe.__version__})
        _opened.clear()
        _opened[job.writer.run] = rows, Reader(job.selection.survey)
    return _opened[job.writer.run]


def _keep_memory() -> None:
    """Let the C library keep what arrays gave back, as it does outside of Dask.

    Dask makes its workers return it to the system at once, after which each large array costs
    page faults: half of the processor time of a prediction.
    """
    with suppress(AttributeError, OSError, TypeError):  # where there is no glibc
        library = ctypes.CDLL(None)
        library.mallopt(*TRIM)
        library.mallopt(*MAP)


def _check_same(job: Job, here: dict[str, Any]) -> None:
    """What decides the result is the same on this machine as where the command was given."""
    for key, value in here.items():
        if job.writer.provenance[key] != value:
            raise InputError(
                "workers",
                expected=f"the same as in the command: {key} = {job.writer.provenance[key]!r}",
                found=repr(value),
                fix="Install the same version and the same models on all machines.",
            )
