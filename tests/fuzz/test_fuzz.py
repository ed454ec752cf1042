"""Damaged files of every kind: read rightly, or refused by an error that names the file.

``FUZZ_SECONDS`` is the time for all readers together; `scripts/fuzz.py` goes on for longer.
"""

from __future__ import annotations

import contextlib
import os
import random
import time

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.fuzz.mutations import fitting
from tests.fuzz.readers import READERS
from tests.fuzz.trial import FuzzError, Recipe, attempt, files_of

SECONDS = float(os.environ.get("FUZZ_SECONDS", "8"))
LEAST = 3  # inputs, however slow the machine
SEEDS = st.integers(0, 2**32 - 1)


class _EnoughError(BaseException):
    """The time is over."""


@st.composite
def recipes(draw: st.DrawFn, reader: str) -> Recipe:
    """One to three mutations of a whole file of the reader."""
    cases = READERS[reader].originals()
    case = draw(st.sampled_from(sorted(cases)))
    names = sorted(cases[case])
    steps = []
    for _ in range(draw(st.integers(1, 3))):
        file = draw(st.integers(0, len(names) - 1))
        kind = draw(st.sampled_from(fitting(names[file], cases[case][names[file]])))
        steps.append((file, kind, draw(SEEDS)))
    return Recipe(reader, case, tuple(steps))


@pytest.mark.parametrize("reader", sorted(READERS))
def test_whole_files_are_read(reader: str) -> None:
    """Else the reader would be tried on nothing but refusals."""
    for case, files in READERS[reader].originals().items():
        assert attempt(reader, files) == "", case


@pytest.mark.parametrize("reader", sorted(READERS))
def test_damaged_files_are_read_or_refused(reader: str) -> None:
    tried, found = 0, []
    READERS[reader].originals()  # to make them is no part of the time
    end = time.monotonic() + SECONDS / len(READERS)

    @settings(
        max_examples=100_000,
        deadline=None,
        phases=[Phase.generate],
        database=None,
        derandomize="FUZZ_SECONDS" not in os.environ,
        suppress_health_check=list(HealthCheck),
    )
    @given(recipe=recipes(reader))
    def holds(recipe: Recipe) -> None:
        nonlocal tried
        if time.monotonic() > end and tried >= LEAST and not found:
            raise _EnoughError
        tried += 1
        try:
            attempt(reader, files_of(recipe))
        except FuzzError:
            found.append(recipe)  # shown once more, whatever the time
            raise

    with contextlib.suppress(_EnoughError):
        holds()
    assert tried >= LEAST


def test_a_recipe_makes_the_same_files_again() -> None:
    recipe = Recipe("lamost_lrs", "lamost-dr10", ((0, "flip", 1), (0, "card_size", 2)))
    assert files_of(recipe) == files_of(recipe)
    assert files_of(recipe) != READERS["lamost_lrs"].originals()["lamost-dr10"]


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        (lambda folder: {}["no such key"], "KeyError"),
        (lambda folder: random.Random(0).choice([]), "IndexError"),
        (lambda folder: time.sleep(20), "more than"),
        (lambda folder: len(b"x" * (200 << 20)) and None, "MiB of memory"),
    ],
)
def test_what_a_reader_must_not_do_is_seen(monkeypatch, wrong, match) -> None:
    from tests.fuzz import trial
    from tests.fuzz.readers import Reader

    monkeypatch.setattr(trial, "LIMIT", 1)
    monkeypatch.setattr(trial, "MEMORY", 100 << 20)
    monkeypatch.setitem(READERS, "wrong", Reader(dict, wrong))
    with pytest.raises(FuzzError, match=match):
        attempt("wrong", {"a.fits": b"x"})
