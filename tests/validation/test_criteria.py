"""Verdicts: what passes, warns and fails, and what is of too few stars to say."""

from __future__ import annotations

import numpy as np
import pytest

from spectrolabe.validation.agreement import error_of_fraction, error_of_median, error_of_width
from spectrolabe.validation.criteria import CRITERIA, FEW, judge
from spectrolabe.validation.metrics import mad


@pytest.mark.parametrize(
    ("value", "error", "verdict"),
    [
        (1.10, 0.0, "pass"),
        (1.11, 0.0, "warn"),
        (1.25, 0.0, "warn"),
        (1.26, 0.0, "fail"),
        (0.79, 0.0, "fail"),
        (1.19, 0.1, "pass"),  # within one error of what passes
        (1.21, 0.1, "warn"),
        (1.44, 0.1, "warn"),  # within two of what warns
        (1.46, 0.1, "fail"),
        (np.nan, 0.1, "few"),
    ],
)
def test_a_width_of_pulls(value, error, verdict):
    assert judge("pull_width", "teff", value, error, 100).verdict == verdict


def test_few_stars_are_not_judged():
    assert judge("pull_width", "teff", 9.0, 0.1, FEW - 1).verdict == "few"
    assert judge("pull_width", "teff", 9.0, 0.1, FEW).verdict == "fail"


def test_repeats_that_agree_too_well_only_warn():
    assert judge("repeats", "teff", 0.2, 0.01, 100).verdict == "warn"
    assert judge("pull_width", "teff", 0.2, 0.01, 100).verdict == "fail"


def test_what_passes_is_within_what_warns():
    for rule in CRITERIA.values():
        assert rule.warns[0] <= rule.passes[0] < rule.passes[1] <= rule.warns[1]
        assert len(rule.reason) > 20


def test_standard_errors_are_those_of_many_samples():
    rng = np.random.default_rng(0)
    samples = 3.0 * rng.normal(size=(4000, 200))
    assert error_of_width(3.0, 200) == pytest.approx(np.std([mad(x) for x in samples]), rel=0.06)
    assert error_of_median(3.0, 200) == pytest.approx(np.std(np.median(samples, axis=1)), rel=0.06)
    inside = np.mean(np.abs(samples) < 3.0, axis=1)
    assert error_of_fraction(0.683, 200) == pytest.approx(np.std(inside), rel=0.06)
    assert error_of_fraction(0.0, 200) > 0
