"""Samples of densities whose moments are known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import truncnorm

from spectrolabe.catalogue import LabelFlag, ResultFlag
from spectrolabe.inference.fit import fit
from spectrolabe.inference.mcmc import sample
from tests.inference.made_up import EMULATOR, draw_labels, spectra
from tests.inference.test_search import correlated, fitted

WIDE = 1e6


def normal(truth, covariance):
    """Return minus ln of a normal density."""
    precision = np.linalg.inv(covariance)
    return lambda theta: 0.5 * (((theta - truth) @ precision) * (theta - truth)).sum(axis=1)


def test_moments_and_quantiles_of_a_correlated_normal():
    covariance, truth = correlated(8, 1), np.linspace(-3, 3, 8)
    sd = np.sqrt(np.diagonal(covariance))
    box = np.full(8, -WIDE), np.full(8, WIDE)
    chain = sample(normal(truth, covariance), truth + sd, covariance, sd, *box, seed=1)
    assert chain.converged
    error = chain.effective**-0.5
    assert (np.abs(chain.mean - truth) < 4 * error * sd).all()
    found = np.sqrt(np.diagonal(chain.covariance))
    np.testing.assert_allclose(found / sd, 1.0, atol=4 * (0.5 / chain.effective.min()) ** 0.5)
    correlation = chain.covariance / np.outer(found, found)
    np.testing.assert_allclose(correlation, covariance / np.outer(sd, sd), atol=0.1)
    low, high = chain.quantiles([0.15866, 0.84134])
    np.testing.assert_allclose((high - low) / sd, 2.0, atol=0.25)
    assert chain.value.min() < 2.0
    assert chain.quantiles(0.5).shape == (1, 8)


def test_a_wrong_start_and_covariance_are_recovered_from():
    covariance = np.array([[1.0, 0.9], [0.9, 1.0]])
    function = normal(np.zeros(2), covariance)
    chain = sample(
        function, [5.0, -2.0], np.diag([0.05, 9.0]), np.ones(2), [-WIDE] * 2, [WIDE] * 2, seed=2
    )
    assert chain.converged
    np.testing.assert_allclose(chain.mean, 0.0, atol=0.15)
    np.testing.assert_allclose(chain.covariance, covariance, atol=0.2)


def test_a_curved_valley():
    def banana(theta):
        x, y = theta.T
        return 0.5 * (x**2 + ((y - 0.5 * x**2) / 0.5) ** 2)

    chain = sample(banana, [0.0, 0.0], np.eye(2), np.ones(2), [-30.0] * 2, [90.0] * 2, seed=3)
    # x is normal, y = x^2 / 2 + noise: mean 0.5, variance 0.5 + 0.25
    np.testing.assert_allclose(chain.mean, [0.0, 0.5], atol=0.15)
    np.testing.assert_allclose(np.diagonal(chain.covariance), [1.0, 0.75], rtol=0.2)
    # far from normal: the third moment of y is 1, its skewness 1 / 0.75**1.5
    low, middle, high = chain.quantiles([0.05, 0.5, 0.95])[:, 1]
    assert high - middle > 1.3 * (middle - low)


def test_limits_are_honoured():
    asked = []

    def half(theta):
        asked.append(theta)
        return 0.5 * (theta**2).sum(axis=1)

    chain = sample(half, [0.0, 0.0], np.eye(2), np.ones(2), [0.0, -WIDE], [WIDE, 0.5], seed=4)
    asked = np.concatenate(asked)
    assert asked[:, 0].min() >= 0
    assert asked[:, 1].max() <= 0.5
    assert len(asked) == chain.evaluations
    expected = truncnorm([0.0, -np.inf], [np.inf, 0.5])
    np.testing.assert_allclose(chain.mean, expected.mean(), atol=0.1)
    np.testing.assert_allclose(np.sqrt(np.diagonal(chain.covariance)), expected.std(), rtol=0.1)


def test_a_parameter_unknown_to_the_covariance_has_its_spread():
    covariance = np.array([[1.0, np.nan], [np.nan, np.nan]])
    chain = sample(
        lambda theta: 0.5 * theta[:, 0] ** 2,
        [0.0, 0.0],
        covariance,
        [1.0, 0.5],
        [-WIDE, -1.0],
        [WIDE, 1.0],
        seed=5,
    )
    # nothing is known of the second but its limits
    assert chain.mean[1] == pytest.approx(0.0, abs=0.1)
    assert chain.covariance[1, 1] == pytest.approx(1 / 3, abs=0.05)


def test_too_short_a_chain_says_so():
    covariance = correlated(8, 6)
    sd = np.sqrt(np.diagonal(covariance))
    box = np.full(8, -WIDE), np.full(8, WIDE)
    wrong = np.diag(100 * sd**2)
    chain = sample(
        normal(np.zeros(8), covariance), sd, wrong, sd, *box, seed=6, burn_in=20, steps=40
    )
    assert chain.steps == 40
    assert not chain.converged


def test_values_that_are_not_finite_are_never_moved_to():
    def holed(theta):
        value = 0.5 * (theta**2).sum(axis=1)
        return np.where(theta[:, 0] > 1, np.nan, np.where(theta[:, 0] < -1, -np.inf, value))

    chain = sample(holed, [0.0], [[1.0]], [1.0], [-9.0], [9.0], seed=7)
    assert np.abs(chain.samples[:, 0]).max() <= 1
    assert np.isfinite(chain.value).all()


def test_a_seed_gives_the_same_chain():
    arguments = (normal(np.zeros(2), np.eye(2)), [0.0, 0.0], np.eye(2), np.ones(2))
    box = [-WIDE] * 2, [WIDE] * 2
    one, again, other = (sample(*arguments, *box, seed=s, steps=50) for s in (8, 8, 9))
    np.testing.assert_array_equal(one.samples, again.samples)
    assert (one.samples[:10] != other.samples[:10]).any()


def test_samples_of_a_fit_are_as_wide_as_its_covariance():
    _, alone = fitted("lm", count=1, overstated=4.0)
    _, sampled = fitted("mcmc", {"steps": 150}, count=1, overstated=4.0)
    assert alone.chi2_reduced[0] > 3.0
    # the posterior is normal within the noise of some 400 samples
    np.testing.assert_allclose((sampled.values - alone.values) / alone.sigma, 0.0, atol=0.25)
    np.testing.assert_allclose(sampled.sigma / alone.sigma, 1.0, atol=0.2)
    formal = np.sqrt(np.diagonal(sampled.formal_covariance[0]))
    np.testing.assert_allclose(sampled.sigma[0] / formal, 2.0, atol=0.25)
    assert not (sampled.result_flags & ResultFlag.NOT_CONVERGED).any()
    posterior = sampled.posterior
    assert posterior.quantiles([0.16, 0.84]).shape == (2, *sampled.values.shape)


def test_what_only_follows_the_prior_is_no_result():
    star = [spectra(draw_labels(1, seed=5), snr=30.0, seed=6)]
    how = {"labels": ["fe_h", "eu_fe"], "v_broad": False, "options": {"steps": 100}}
    narrow = 0.03  # a third of what the spectrum says by itself
    result = fit(star, [EMULATOR], method="mcmc", priors={"eu_fe": (0.1, narrow)}, **how)
    assert np.isfinite(result.values[0, 0])
    assert np.isnan(result.values[0, 1])
    assert result.label_flags[0, 1] & LabelFlag.NO_INFORMATION
    assert result.fitted[0, 1] == pytest.approx(0.1, abs=2 * narrow)
    assert result.priors["eu_fe"] == [0.1, narrow]


def test_too_short_a_chain_of_a_fit_is_flagged():
    _, sampled = fitted("mcmc", {"steps": 5, "burn_in": 5}, count=1)
    assert (sampled.result_flags & ResultFlag.NOT_CONVERGED).all()
    assert all(any("not converged" in text for text in star) for star in sampled.messages)
