"""Formulae are found, read and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from spectrolabe.errors import InputError
from spectrolabe.homogenise.formula import Formula, _from_search


def test_a_formula_is_found_again():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1500, 3))
    y = 0.8 * x[:, 0] * x[:, 1] + 0.5 * x[:, 2] + 0.1 * rng.normal(size=1500)
    found = Formula.fit(x, y, np.ones(1500), rng.random(1500) < 0.2)
    other = rng.normal(size=(500, 3))
    exact = 0.8 * other[:, 0] * other[:, 1] + 0.5 * other[:, 2]
    assert np.std(found(other) - exact) < 0.05
    assert len(found.text) < 200


def test_what_the_search_prints_is_what_is_computed():
    text = "((-0.5) + (2.0 * (X1 / (sqrt(1 + (0.3 * X2) ^ 2)) - exp((-1.5) * X2))))"
    found = _from_search(text, 2)
    x = np.random.default_rng(1).normal(size=(50, 2))
    a, b = x.T
    exact = -0.5 + 2.0 * (a / np.sqrt(1 + (0.3 * b) ** 2) - np.exp(-1.5 * b))
    assert np.allclose(found(x), exact)
    assert sorted(found.constants) == [-1.5, -0.5, 0.3, 1.0, 2.0]
    assert "x1" in found.text
    assert "-1.5" in found.text


def test_constants_follow_other_stars():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(400, 1))
    found = Formula("c0 + c1*tanh(x0)", np.array([0.0, 1.0]), 1)
    y = 0.3 + 2.0 * np.tanh(x[:, 0]) + 0.01 * rng.normal(size=400)
    assert np.allclose(found.again(x, y, np.ones(400)).constants, [0.3, 2.0], atol=0.01)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "x0.__class__",
        "exp(x0, x1)",
        "exp(x0, out=x0)",
        "x9",
        "c4",
        "[x0]",
        "x0 if x0 else x0",
        "lambda: x0",
        "open('a')",
        "'a' * 9",
        "x0 +",
        "x0" + " + x0" * 5000,
    ],
)
def test_anything_else_is_refused(text):
    with pytest.raises(InputError, match="formula"):
        Formula(text, np.zeros(2), 2)
