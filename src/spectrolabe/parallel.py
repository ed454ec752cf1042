"""Worker processes: given work, ended with the run that started them, and missed when killed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any, TypeVar

from spectrolabe.errors import InputError

__all__ = ["in_order", "worker_pool"]

Result = TypeVar("Result")


@contextmanager
def worker_pool(
    workers: int, initializer: Callable[..., None] | None = None, initargs: tuple[Any, ...] = ()
) -> Iterator[ProcessPoolExecutor]:
    """Start worker processes; on leaving, drop what none of them has begun.

    Parameters
    ----------
    workers : int
    initializer, initargs : callable and tuple, optional
        What each process calls first.

    Raises
    ------
    InputError
        If a process was killed.
    """
    with ProcessPoolExecutor(workers, get_context("spawn"), initializer, initargs) as pool:
        try:
            yield pool
        except BrokenProcessPool as error:
            raise InputError(
                "workers",
                expected="processes that live to the end",
                found="one that was killed, often for want of memory",
                fix="Run again with fewer to continue.",
            ) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def in_order(
    function: Callable[..., Result],
    calls: Iterable[tuple[Any, ...]],
    workers: int,
    initializer: Callable[..., None] | None = None,
    initargs: tuple[Any, ...] = (),
) -> Iterator[Result]:
    """Call a function in worker processes; yield what it returns in the order of the calls.

    Few calls are ahead of what was yielded, so that neither they nor their results pile up.

    Parameters
    ----------
    function : callable
        Of a module: it is found by its name in the processes.
    calls : iterable of tuple
        The arguments of each call.
    workers : int
    initializer, initargs : callable and tuple, optional
        What each process calls first.

    Raises
    ------
    InputError
        If a process was killed.
    """
    waiting: deque[Future[Result]] = deque()
    with worker_pool(workers, initializer, initargs) as pool:
        for arguments in calls:
            waiting.append(pool.submit(function, *arguments))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
