"""The posterior: what it refuses, and its moments against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kstest, lognorm, norm, spearmanr

from spectrolabe.errors import InputError
from spectrolabe.labels import LabelScale
from spectrolabe.models.posterior import SCORES, LabelModel, LabelPosterior

NAMES = ("teff", "logg", "fe_h")


def covariance(sigma, rho):
    """Covariance of three labels whose only correlation is of the first and the last."""
    correlation = np.eye(3)
    correlation[0, 2] = correlation[2, 0] = rho
    return correlation * np.outer(sigma, sigma)


@pytest.fixture
def posterior():
    mean = np.array([[5772.0, 4.44, 0.0], [4500.0, 1.5, -1.0]])
    two = np.stack([covariance([50, 0.1, 0.05], 0.6), covariance([80, 0.2, 0.1], -0.9)])
    return LabelPosterior(NAMES, mean, two, np.array(["sun", "giant"]))


def test_sigma_and_correlation_are_those_put_in(posterior):
    np.testing.assert_allclose(posterior.sigma, [[50, 0.1, 0.05], [80, 0.2, 0.1]])
    np.testing.assert_allclose(posterior.correlation[:, 0, 2], [0.6, -0.9])
    np.testing.assert_allclose(np.diagonal(posterior.correlation, axis1=1, axis2=2), 1.0)


def test_arrays_are_read_only_and_float64(posterior):
    for array in (posterior.mean, posterior.covariance):
        assert array.dtype == np.float64
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0.0


def test_the_callers_arrays_stay_his_own():
    mean, cov = np.zeros((1, 3)), np.eye(3)[None].copy()
    posterior = LabelPosterior(NAMES, mean, cov, ["a"])
    mean[0, 0], cov[0, 0, 0] = 7.0, 9.0
    assert posterior.mean[0, 0] == 0.0
    assert posterior.covariance[0, 0, 0] == 1.0


def test_samples_have_the_moments_of_the_posterior(posterior):
    draws = posterior.samples(np.random.default_rng(1), 40_000)
    assert draws.shape == (40_000, 2, 3)
    for star in range(2):
        standard = (draws[:, star] - posterior.mean[star]) / posterior.sigma[star]
        np.testing.assert_allclose(standard.mean(axis=0), 0.0, atol=0.03)
        np.testing.assert_allclose(np.corrcoef(standard.T), posterior.correlation[star], atol=0.03)
        np.testing.assert_allclose(standard.std(axis=0), 1.0, atol=0.03)


def test_same_seed_same_samples(posterior):
    first = posterior.samples(np.random.default_rng(3), 5)
    np.testing.assert_array_equal(first, posterior.samples(np.random.default_rng(3), 5))


def test_a_label_without_information_stays_nan_and_hurts_no_other(posterior):
    mean, cov = posterior.mean.copy(), posterior.covariance.copy()
    mean[0, 1] = cov[0, 1, :] = cov[0, :, 1] = np.nan
    partial = LabelPosterior(NAMES, mean, cov, posterior.star_id)
    draws = partial.samples(np.random.default_rng(0), 2000)
    assert np.isnan(draws[:, 0, 1]).all()
    assert np.isfinite(np.delete(draws, 1, axis=2)).all()
    assert np.corrcoef(draws[:, 0, 0], draws[:, 0, 2])[0, 1] == pytest.approx(0.6, abs=0.06)


def test_quantiles_of_a_normal(posterior):
    low, median, high = posterior.quantiles([0.15865525393145707, 0.5, 0.9772498680518208])
    np.testing.assert_allclose(low, posterior.mean - posterior.sigma)
    np.testing.assert_allclose(median, posterior.mean)
    np.testing.assert_allclose(high, posterior.mean + 2 * posterior.sigma)
    with pytest.raises(InputError, match="between 0 and 1"):
        posterior.quantiles([0.0])


def test_select_and_take_move_values_with_their_names(posterior):
    part = posterior.select(["fe_h", "teff"]).take([1])
    assert part.names == ("fe_h", "teff")
    assert list(part.star_id) == ["giant"]
    np.testing.assert_allclose(part.mean, [[-1.0, 4500.0]])
    np.testing.assert_allclose(part.sigma, [[0.1, 80.0]])
    np.testing.assert_allclose(part.correlation[0, 0, 1], -0.9)
    np.testing.assert_array_equal(posterior["logg"], [4.44, 1.5])
    np.testing.assert_array_equal(posterior.take(np.array([True, False])).star_id, ["sun"])


def test_an_unknown_label_names_the_known_ones(posterior):
    with pytest.raises(InputError, match=r"fe_h, logg, teff.*Did you mean 'fe_h'"):
        posterior.select(["feh"])
    with pytest.raises(InputError, match="each name once"):
        LabelPosterior(("teff", "teff"), np.ones((1, 2)), np.eye(2)[None], ["a"])


def test_to_labels_keeps_means_and_sigmas(posterior):
    labels = posterior.to_labels()
    np.testing.assert_array_equal(labels.values, posterior.mean)
    np.testing.assert_allclose(labels.sigma, posterior.sigma)
    assert list(labels.star_id) == ["sun", "giant"]


def test_independent_has_no_correlation():
    posterior = LabelPosterior.independent(
        ("teff", "logg"), [[5000.0, 3.0], [6000.0, 4.0]], [100.0, np.nan], ["a", "b"]
    )
    np.testing.assert_array_equal(posterior.sigma, [[100.0, np.nan], [100.0, np.nan]])
    np.testing.assert_array_equal(posterior.covariance[:, 0, 0], 1e4)
    assert np.isnan(posterior.covariance[:, 0, 1]).all()
    whole = LabelPosterior.independent(("teff", "logg"), [[5000.0, 3.0]], [9.0, 0.5], ["a"])
    np.testing.assert_array_equal(whole.covariance[0], [[81.0, 0.0], [0.0, 0.25]])


def test_a_scaled_covariance_unscales_to_the_spread_of_unscaled_samples(posterior):
    scale = LabelScale(NAMES, np.array([5000.0, 3.0, -0.5]), np.array([500.0, 0.7, 0.3]))
    scaled = LabelPosterior(NAMES, np.zeros((1, 3)), np.eye(3)[None] * 0.04, ["a"])
    draws = scale.unscale(scaled.samples(np.random.default_rng(5), 40_000)[:, 0])
    np.testing.assert_allclose(
        draws.std(axis=0),
        np.sqrt(np.diagonal(scale.unscale_covariance(scaled.covariance)[0])),
        rtol=0.02,
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mean": np.zeros((2, 2))}, r"posterior\.mean: expected shape \(2, 3\)"),
        ({"covariance": np.zeros((2, 3))}, r"posterior\.covariance: expected shape \(2, 3, 3\)"),
        ({"covariance": np.stack([np.diag([1, 1, 0.0])] * 2)}, "positive, finite variance of fe_h"),
        ({"covariance": np.stack([np.eye(3) + np.triu(np.ones((3, 3)), 1)] * 2)}, "symmetric"),
    ],
)
def test_what_is_no_posterior_is_an_error(posterior, change, message):
    fields = {"mean": posterior.mean, "covariance": posterior.covariance, **change}
    with pytest.raises(InputError, match=message):
        LabelPosterior(NAMES, star_id=posterior.star_id, **fields)


def test_an_impossible_covariance_cannot_be_sampled():
    impossible = np.array([[[1.0, 0.9, 0.9], [0.9, 1.0, -0.9], [0.9, -0.9, 1.0]]])
    posterior = LabelPosterior(NAMES, np.zeros((1, 3)), impossible, ["odd"])
    with pytest.raises(InputError, match="posterior of odd: expected a positive semi-definite"):
        posterior.samples(np.random.default_rng(0), 1)


def test_the_protocol_tells_models_from_other_things(posterior):
    class Constant:
        names = NAMES

        def predict(self, stars):
            return posterior

    assert isinstance(Constant(), LabelModel)
    assert not isinstance(posterior, LabelModel)


# marginals with levels


def levels_of(quantile):
    """Levels of a distribution with this quantile function of probabilities."""
    return quantile(norm.cdf(SCORES))


@pytest.fixture
def skewed(posterior):
    """The second star's logg is log-normal; all else is normal."""
    levels = posterior.mean[..., None] + posterior.sigma[..., None] * SCORES
    levels[1, 1] = levels_of(lambda p: lognorm.ppf(p, 0.5))
    mean, covariance = posterior.mean.copy(), posterior.covariance.copy()
    mean[1, 1], covariance[1, 1, 1] = lognorm.mean(0.5), lognorm.var(0.5)
    return LabelPosterior(NAMES, mean, covariance, posterior.star_id, levels)


def test_levels_of_a_normal_change_nothing(posterior):
    levels = posterior.mean[..., None] + posterior.sigma[..., None] * SCORES
    same = LabelPosterior(NAMES, posterior.mean, posterior.covariance, posterior.star_id, levels)
    probabilities = [1e-6, 0.01, 0.3, 0.999, 0.99999]
    np.testing.assert_allclose(same.quantiles(probabilities), posterior.quantiles(probabilities))
    values = posterior.mean + posterior.sigma * [[-5.0, 0.3, 1.0], [0.0, 2.0, 7.0]]
    np.testing.assert_allclose(same.scores(values), [[-5.0, 0.3, 1.0], [0.0, 2.0, 7.0]], atol=1e-9)
    np.testing.assert_allclose(same.scores(values), posterior.scores(values), atol=1e-9)
    draws = [p.samples(np.random.default_rng(3), 50) for p in (same, posterior)]
    np.testing.assert_allclose(*draws)


def test_quantiles_and_scores_of_a_skewed_marginal(skewed):
    probabilities = np.array([0.01, 0.16, 0.5, 0.8, 0.99])
    expected = lognorm.ppf(probabilities, 0.5)
    np.testing.assert_allclose(skewed.quantiles(probabilities)[:, 1, 1], expected, rtol=1e-3)
    for probability, value in zip(probabilities, expected, strict=True):
        found = skewed.scores(np.full((2, 3), value))[1, 1]
        assert norm.cdf(found) == pytest.approx(probability, abs=1e-3)
    assert np.isnan(skewed.scores(np.full((2, 3), np.nan))).all()


def test_samples_are_joined_by_a_gaussian_copula(skewed):
    draws = skewed.samples(np.random.default_rng(1), 40_000)
    assert kstest(draws[:, 1, 1], lognorm(0.5).cdf).statistic < 0.01
    rank = spearmanr(draws[:, 0, 0], draws[:, 0, 2]).statistic
    assert rank == pytest.approx(6 / np.pi * np.arcsin(0.6 / 2), abs=0.01)


def test_a_marginal_of_two_values_has_steps():
    levels = np.where(SCORES < 0, -1.0, 1.0)[None, None]
    two = LabelPosterior(("fe_h",), [[0.0]], [[[1.0]]], ["a"], levels)
    np.testing.assert_array_equal(two.quantiles([0.1, 0.4, 0.6, 0.9])[:, 0, 0], [-1, -1, 1, 1])
    assert two.scores([[0.0]])[0, 0] == pytest.approx(0.0, abs=0.1)
    assert two.scores([[-1.1]])[0, 0] == -np.inf
    assert two.scores([[1.1]])[0, 0] == np.inf
    assert set(np.round(two.samples(np.random.default_rng(0), 9).ravel(), 6)) == {-1.0, 1.0}


def test_levels_move_with_their_labels_and_stars(skewed):
    part = skewed.select(["logg", "fe_h"]).take([1])
    np.testing.assert_array_equal(part.levels[0], skewed.levels[1, [1, 2]])
    unknown = np.array([[False, False, False], [False, True, False]])
    partial = skewed.without(unknown)
    assert np.isnan(partial.mean[1, 1])
    assert np.isnan(partial.levels[1, 1]).all()
    assert np.isnan(partial.quantiles([0.5])[0, 1, 1])
    assert np.isfinite(np.delete(partial.mean.ravel(), 4)).all()
    assert np.isfinite(partial.levels[0]).all()
    assert np.isnan(partial.samples(np.random.default_rng(0), 3)[:, 1, 1]).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda levels: levels[..., :-1], r"posterior\.levels: expected shape \(2, 3, 57\)"),
        (lambda levels: levels[..., ::-1], "levels of teff that ascend, found levels that fall"),
        (lambda levels: np.where(levels == levels[1, 2, 9], np.nan, levels), "giant.*fe_h.*NaN"),
    ],
)
def test_what_are_no_levels_is_an_error(skewed, change, message):
    with pytest.raises(InputError, match=message):
        LabelPosterior(NAMES, skewed.mean, skewed.covariance, skewed.star_id, change(skewed.levels))
