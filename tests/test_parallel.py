"""Worker processes, and the bar of long runs."""

from __future__ import annotations

import multiprocessing
import os
import time

import pytest

from spectrolabe import parallel
from spectrolabe.errors import InputError
from spectrolabe.parallel import in_order
from spectrolabe.progress import shown_progress


@pytest.fixture(autouse=True)
def _copies(monkeypatch):
    """Workers that are copies of this process, which start at once."""
    monkeypatch.setattr(parallel, "get_context", lambda _: multiprocessing.get_context("fork"))


def late(number: int, seconds: float) -> int:
    time.sleep(seconds)
    return number


def test_results_are_in_the_order_of_the_calls():
    calls = [(i, 0.05 if i % 2 == 0 else 0.0) for i in range(8)]
    assert list(in_order(late, calls, 2)) == list(range(8))


def test_calls_are_not_made_up_far_ahead():
    made = []

    def calls():
        for i in range(100):
            made.append(i)
            yield i, 0.0

    results = in_order(late, calls(), 2)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    assert len(made) == 7  # those three, and twice the workers
    results.close()
    assert len(made) == 7


def begin(word: str) -> None:
    os.environ["BEGUN"] = word


def test_processes_begin_with_the_initializer():
    assert list(in_order(os.getenv, [("BEGUN",)] * 2, 1, begin, ("yes",))) == ["yes", "yes"]
    assert "BEGUN" not in os.environ


def test_a_killed_process_is_an_error_of_the_input():
    with pytest.raises(InputError, match=r"workers: .*found one that was killed.*fewer"):
        list(in_order(os._exit, [(1,), (1,)], 2))


def test_an_error_of_the_work_is_passed_on():
    with pytest.raises(ZeroDivisionError):
        list(in_order(divmod, [(1, 1), (1, 0)], 2))


@pytest.mark.parametrize(("slow", "shown"), [(False, []), (True, ["title", "6/7", "/min"])])
def test_the_bar_passes_everything_on_and_is_shown_where_it_helps(slow, shown, monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")  # as in a terminal
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    sizes = {"a": 2, "b": 2, "c": 2, "d": 1}
    items = shown_progress(iter(sizes), 7, "title", sizes.__getitem__, slow=slow)
    assert [next(items) for _ in range(4)] == ["a", "b", "c", "d"]
    items.close()
    captured = capsys.readouterr()
    assert captured.out == ""
    assert [one for one in ("title", "6/7", "/min") if one in captured.err] == shown
