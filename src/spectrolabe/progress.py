"""The bar that long runs show."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

__all__ = ["shown_progress"]

PATIENCE = 2.0  # seconds before a bar is worth showing
HOUR = 3600.0  # seconds that the time left is estimated from

Item = TypeVar("Item")


def shown_progress(
    items: Iterator[Item],
    total: int,
    title: str,
    size: Callable[[Item], int] = lambda _: 1,
    *,
    slow: bool = False,
) -> Iterator[Item]:
    """Pass the items on, under a bar with rate and time left once it takes more than two seconds.

    Parameters
    ----------
    items : iterator
    total : int
        What the sizes add up to.
    title : str
    size : callable, optional
        How many files, spectra or stars an item stands for.
    slow : bool, optional
        An item takes seconds: the bar is there from the beginning, and the rate is per minute.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            rate = task.completed / max(task.elapsed or 0.0, 1e-3)
            return Text(f"{60.0 * rate:.1f}/min" if slow else f"{rate:.0f}/s")

    columns = (BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn(), TextColumn("left"))
    bar = Progress(
        TextColumn(title),
        *columns,
        transient=True,
        console=Console(stderr=True),
        speed_estimate_period=HOUR,
    )
    task = bar.add_task(title, total=total)
    shown = slow
    try:
        if slow:
            bar.start()
        for item in items:
            if not shown and (bar.tasks[task].elapsed or 0.0) > PATIENCE:
                bar.start()
                shown = True
            yield item
            bar.advance(task, size(item))
    finally:
        if shown:
            bar.stop()
