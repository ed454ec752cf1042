"""Errors of the line list: the table, and what it does to weights."""

from __future__ import annotations

import numpy as np
import pytest

from spectrolabe.inference import line_errors as module
from spectrolabe.inference.line_errors import LineErrors, line_error, line_errors


@pytest.fixture
def made_up(monkeypatch):
    table = LineErrors(
        np.array([1000.0, 10000.0]),
        np.array([8.5, 8.5]),
        np.array([0.01, 0.005]),
        (np.array([0.0, 0.1, 0.2], np.float32), np.linspace(0.4, 0.0, 5, dtype=np.float32)),
    )
    monkeypatch.setattr(module, "line_errors", lambda: table)


@pytest.mark.parametrize(
    ("resolution", "expected"),
    [
        (500.0, [0.05, 0.15]),
        (1000.0, [0.05, 0.15]),
        (10000.0, [0.3, 0.1]),
        (10**3.5, [0.175, 0.125]),  # half way in the logarithm
        (28000.0, [0.3, 0.1]),
    ],
)
def test_errors_between_the_numbers_of_the_table(made_up, resolution, expected):
    found = line_error(np.array([8.505, 8.515]), resolution)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_nothing_is_known_beyond_the_table(made_up):
    found = line_error(np.array([8.49, 8.521]), 3000.0)
    np.testing.assert_array_equal(found, 0.0)


def test_the_table_of_the_package_is_sane():
    table = line_errors()
    assert (np.diff(table.resolution) > 0).all()
    for start, step, error in zip(table.start, table.step, table.error, strict=True):
        low, high = np.exp([start, start + step * (len(error) - 1)])
        assert 3900 < low < 4200
        assert 6800 < high < 7000
        assert np.isfinite(error).all()
        assert error.min() >= 0
        assert error.max() < 0.301
        assert 0.002 < np.median(error) < 0.02


def test_high_resolution_sees_larger_errors():
    x = np.log(np.linspace(4200.0, 6800.0, 20000))
    low, high = (np.percentile(line_error(x, r), 95) for r in (1800.0, 28000.0))
    assert high > 1.5 * low
