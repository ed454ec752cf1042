"""Scores of posteriors against closed forms, scipy and direct integrals."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import kstest, lognorm, norm

from spectrolabe.errors import InputError
from spectrolabe.models.posterior import SCORES, LabelPosterior
from spectrolabe.validation.distributions import coverage, crps, pit

NAMES = ("logg", "fe_h")


def normal(mean, sigma, levels=False):
    mean = np.asarray(mean, dtype=float)
    made = LabelPosterior.independent(NAMES, mean, sigma, np.arange(len(mean)))
    if not levels:
        return made
    return with_levels(made, made.mean[..., None] + made.sigma[..., None] * SCORES)


def with_levels(made, levels):
    return LabelPosterior(made.names, made.mean, made.covariance, made.star_id, levels)


@pytest.mark.parametrize("levels", [False, True])
def test_crps_of_a_normal_is_that_of_the_closed_form(levels):
    """Gneiting & Raftery 2007, equation 21."""
    truth = np.array([[1.0, -0.3], [4.0, 9.0], [np.nan, -2.0]])
    mean, sigma = np.array([[1.0, 0.2], [3.0, 0.0], [2.0, -2.5]]), np.array([0.4, 0.7])
    z = (truth - mean) / sigma
    closed = sigma * (z * (2 * norm.cdf(z) - 1) + 2 * norm.pdf(z) - 1 / np.sqrt(np.pi))
    np.testing.assert_allclose(crps(normal(mean, sigma, levels), truth), closed, rtol=1e-9)


def test_crps_of_a_skewed_marginal_is_the_integral():
    made = normal([[1.2, 0.0]], [1.0, 1.0])
    levels = np.stack([lognorm.ppf(norm.cdf(SCORES), 0.5), np.linspace(-3, 3, len(SCORES)) ** 3])
    made = with_levels(made, levels[None])
    for truth in (0.4, 1.0, 3.0):
        below = quad(lambda x: lognorm.cdf(x, 0.5) ** 2, 0, truth)[0]
        above = quad(lambda x: lognorm.sf(x, 0.5) ** 2, truth, 60)[0]
        found = crps(made, [[truth, 0.0]])[0, 0]
        assert found == pytest.approx(below + above, rel=2e-3)


def test_crps_of_one_value_is_the_absolute_error():
    made = with_levels(normal([[1.0, 0.0]], [1.0, 1.0]), np.ones((1, 2, len(SCORES))))
    np.testing.assert_allclose(crps(made, [[3.5, -1.0]]), [[2.5, 2.0]])
    np.testing.assert_allclose(crps(made, [[1.0, np.nan]]), [[0.0, np.nan]])


def test_pit_is_uniform_and_intervals_hold_what_they_say_of_right_posteriors():
    rng = np.random.default_rng(1)
    mean, sigma = rng.normal(size=(4000, 2)), np.array([0.5, 2.0])
    made = normal(mean, sigma)
    truth = mean + sigma * rng.normal(size=mean.shape)
    assert kstest(pit(made, truth)[:, 1], "uniform").pvalue > 0.01
    np.testing.assert_allclose(coverage(made, truth), 0.683, atol=0.025)
    np.testing.assert_allclose(coverage(made, truth, 0.95), 0.95, atol=0.015)
    too_narrow = coverage(made, mean + 2.0 * (truth - mean))
    np.testing.assert_allclose(too_narrow, 2 * norm.cdf(0.5) - 1, atol=0.025)


def test_pit_of_a_skewed_marginal():
    rng = np.random.default_rng(2)
    levels = lognorm.ppf(norm.cdf(SCORES), 0.5) * np.ones((3000, 2, 1))
    made = with_levels(normal(np.ones((3000, 2)), [1.0, 1.0]), levels)
    truth = lognorm.rvs(0.5, size=(3000, 2), random_state=rng)
    assert kstest(pit(made, truth)[:, 0], "uniform").pvalue > 0.01
    np.testing.assert_allclose(coverage(made, truth), 0.683, atol=0.025)
    # as a normal of mean 1 and sigma 1 it would not be
    assert kstest(pit(normal(made.mean, [1.0, 1.0]), truth)[:, 0], "uniform").pvalue < 1e-6


def test_unknown_truths_are_left_out():
    made = normal([[0.0, 0.0], [0.0, 0.0]], [1.0, 1.0])
    truth = [[0.1, np.nan], [5.0, np.nan]]
    np.testing.assert_array_equal(coverage(made, truth), [0.5, np.nan])
    assert np.isnan(pit(made, truth)[:, 1]).all()


def test_truth_of_other_labels_is_an_error():
    with pytest.raises(InputError, match=r"expected shape .*\(1, 2\), found shape \(1, 3\)"):
        pit(normal([[0.0, 0.0]], [1.0, 1.0]), [[1.0, 2.0, 3.0]])
