"""The search for the lowest minimum, on functions whose minima are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from spectrolabe.inference import solve
from spectrolabe.inference.fit import fit
from spectrolabe.inference.metric import Metric
from spectrolabe.inference.search import search
from tests.inference.made_up import EMULATOR, draw_labels, grid, spectra

FITTED = ("teff", "logg", "fe_h", "mg_fe", "ca_fe")

LOW, HIGH = np.full(6, -10.0), np.full(6, 10.0)
LOWEST = np.array([1.0, -2.0, 3.0, 0.0, 2.0, -1.0])


def correlated(size: int, seed: int) -> np.ndarray:
    """Return a covariance with strong correlations and scales from 0.01 to 100."""
    rng = np.random.default_rng(seed)
    root = rng.standard_normal((size, size))
    scale = 10.0 ** rng.uniform(-2, 2, size)
    return (root @ root.T / size + 0.02 * np.eye(size)) * np.outer(scale, scale)


def rastrigin(theta: np.ndarray) -> np.ndarray:
    """Many minima about one unit apart; the lowest, 0, is at LOWEST."""
    x = theta - LOWEST
    return (x**2 + 10.0 * (1.0 - np.cos(2.0 * np.pi * x))).sum(axis=1)


def two_valleys(theta: np.ndarray) -> np.ndarray:
    """A valley of depth 0 at -3, and one of depth -4 and a tenth of the volume at +3."""
    shallow = 0.5 * ((theta + 3.0) ** 2 / 0.3**2).sum(axis=1)
    deep = 0.5 * ((theta - 3.0) ** 2 / 0.2**2).sum(axis=1) - 4.0
    return np.minimum(np.minimum(shallow, deep), 300.0 + 0.1 * (theta**2).sum(axis=1))


def test_a_metric_whitens_the_covariance_and_returns():
    covariance = correlated(5, 1)
    metric = Metric.of(np.arange(5.0), covariance, np.ones(5))
    np.testing.assert_allclose(metric.root @ metric.root.T, covariance, rtol=1e-9, atol=1e-12)
    z = np.random.default_rng(2).standard_normal((7, 5))
    np.testing.assert_allclose(metric.inwards(metric.outwards(z)), z, atol=1e-8)


def test_a_metric_is_limited_and_fills_in_what_is_unknown():
    covariance = np.diag([1e-4, 25.0, np.nan])
    covariance[0, 2] = covariance[2, 0] = np.nan
    metric = Metric.of(np.zeros(3), covariance, [1.0, 1.0, 0.5], limit=3.0)
    sd = np.sqrt((metric.root**2).sum(axis=1))
    # precisions add: that of the covariance, and (limit / spread)^2
    expected = [(1e4 + 9.0) ** -0.5, (1 / 25.0 + 9.0) ** -0.5, (4.0 + 36.0) ** -0.5]
    np.testing.assert_allclose(sd, expected, rtol=1e-9)


def test_the_bottom_of_a_tilted_valley():
    covariance, truth = correlated(12, 3), np.linspace(-1, 1, 12)
    precision, sd = np.linalg.inv(covariance), np.sqrt(np.diagonal(covariance))

    def valley(theta):
        away = theta - truth
        return 0.5 * np.einsum("kj,ji,ki->k", away, precision, away) + 7.0

    found = search(
        valley, truth + 4 * sd, covariance, 20 * sd, truth - 50 * sd, truth + 50 * sd, seed=1
    )
    assert found.value == pytest.approx(7.0, abs=0.1)
    assert np.abs((found.theta - truth) / sd).max() < 0.5
    assert found.improved
    assert found.first == valley((truth + 4 * sd)[None])[0]


def test_a_start_at_the_lowest_minimum_is_confirmed():
    found = search(
        rastrigin, LOWEST, 0.05 * np.eye(6), np.full(6, 2.0), LOW, HIGH, seed=2, runs=2, rounds=1
    )
    assert not found.improved
    assert found.value == found.first == 0.0
    assert found.rounds == 1


def test_ripples_are_stepped_over():
    start = LOWEST + np.array([2.0, -1.0, 1.0, 2.0, -2.0, 1.0])  # a minimum, 15 above the lowest
    found = search(
        rastrigin,
        start,
        0.2 * np.eye(6),
        np.full(6, 2.0),
        LOW,
        HIGH,
        seed=3,
        runs=2,
        population=60,
    )
    assert found.improved
    assert found.first > 14
    np.testing.assert_allclose(found.theta, LOWEST, atol=0.1)


def test_another_start_finds_the_deeper_valley():
    shallow, deep = np.full((1, 3), -3.0), np.full((1, 3), 2.0)
    arguments = (0.09 * np.eye(3), np.full(3, 0.3), np.full(3, -8.0), np.full(3, 8.0))
    alone = search(two_valleys, shallow, *arguments, seed=4)
    both = search(two_valleys, np.concatenate([shallow, deep]), *arguments, seed=4)
    assert not alone.improved
    assert both.improved
    assert both.value == pytest.approx(-4.0, abs=0.1)


def test_a_minimum_on_the_edge_and_never_a_step_beyond():
    asked = []

    def slope(theta):
        asked.append(theta)
        return 0.5 * ((theta - [3.0, 0.5]) ** 2 / [0.04, 0.01]).sum(axis=1)

    low, high = np.array([0.0, 0.0]), np.array([1.0, 1.0])
    found = search(slope, [0.5, 0.5], np.diag([0.04, 0.01]), [1.0, 1.0], low, high, seed=5)
    np.testing.assert_allclose(found.theta, [1.0, 0.5], atol=0.05)
    asked = np.concatenate(asked)
    assert ((asked >= low) & (asked <= high)).all()
    assert len(asked) == found.evaluations


def test_values_that_are_not_finite_are_avoided():
    def holed(theta):
        value = 0.5 * (theta**2).sum(axis=1)
        return np.where(theta[:, 0] > 0.5, np.nan, np.where(theta[:, 1] > 1.0, np.inf, value))

    found = search(holed, [0.4, 0.9], np.eye(2), [2.0, 2.0], [-9.0, -9.0], [9.0, 9.0], seed=6)
    assert found.value < 0.05


def test_a_seed_gives_the_same_search_and_evaluations_are_limited():
    arguments = (LOWEST + 0.4, 0.2 * np.eye(6), np.full(6, 2.0), LOW, HIGH)
    one, again, other = (search(rastrigin, *arguments, seed=s, evaluations=2000) for s in (7, 7, 8))
    np.testing.assert_array_equal(one.theta, again.theta)
    assert (one.theta != other.theta).any()
    assert 2000 <= one.evaluations < 2200


def fitted(method, options=None, count=2, overstated=1.0):
    """Fit made-up stars in a few labels; inverse variances may be stated too large."""
    labels = draw_labels(count, seed=3)
    fixed = {name: 0.0 for name in EMULATOR.names if name not in FITTED} | {"v_micro": 1.0}
    for name, value in fixed.items():
        labels[:, EMULATOR.names.index(name)] = value
    observed = spectra(labels, snr=120.0, seed=4, wavelength=grid(5050.0, 5200.0))
    stars = [[replace(one, ivar=overstated * one.ivar)] for one in observed]
    how = {"priors": "none", "v_broad": False, "model_error": 0.0}
    return labels, fit(stars, [EMULATOR], fixed=fixed, method=method, options=options, **how)


def test_a_good_fit_is_left_as_it_is():
    _, alone = fitted("lm")
    _, both = fitted("cma", {"rounds": 1, "runs": 2})
    np.testing.assert_array_equal(both.values, alone.values)
    np.testing.assert_array_equal(both.covariance, alone.covariance)
    assert (both.evaluations > alone.evaluations + 200).all()
    assert both.messages == alone.messages


def test_a_fit_that_stopped_in_the_wrong_place_is_rescued(monkeypatch):
    _, truth = fitted("lm")
    descend, calls = solve.descend, []

    def stuck(forward, start=None):
        end, evaluations = descend(forward, start)
        calls.append(start)
        if start is None:
            end.parameters[0, :3] += [400.0, 0.6, -0.5]  # the first star only
        return end, evaluations

    monkeypatch.setattr(solve, "descend", stuck)
    labels, found = fitted("cma", {"rounds": 1, "runs": 2})
    assert len(calls) == 2
    assert any("lower" in text for text in found.messages[0])
    assert not any("lower" in text for text in found.messages[1])
    np.testing.assert_allclose((found.values - truth.values) / truth.sigma, 0.0, atol=0.1)
    where = [EMULATOR.names.index(name) for name in FITTED]
    assert (np.abs(found.values - labels[:, where]) / found.sigma).max() < 4
