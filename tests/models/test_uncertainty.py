"""Recalibration and coverage on samples whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from spectrolabe.errors import InputError
from spectrolabe.labels import Labels
from spectrolabe.models.uncertainty import Coverage, Recalibration


def test_a_wrong_scale_is_found():
    rng = np.random.default_rng(1)
    sigma = rng.uniform(0.5, 2.0, size=(4000, 2))
    residual = rng.normal(size=sigma.shape) * sigma * [2.0, 0.5] + [0.0, 0.3]
    snr = rng.uniform(20.0, 200.0, len(sigma))
    fixed = Recalibration.fit(residual, sigma, snr)
    assert fixed.shift == pytest.approx([0.0, 0.3], abs=0.1)
    pulls = (residual - fixed.shift) / fixed.sigma(sigma, snr)
    assert pulls.std(axis=0) == pytest.approx([1.0, 1.0], abs=0.04)


def test_a_floor_is_found():
    rng = np.random.default_rng(2)
    sigma = 10.0 ** rng.uniform(-3.0, 0.5, size=(6000, 1))
    residual = rng.normal(size=sigma.shape) * np.hypot(sigma, 0.2)
    snr = 10.0 ** rng.uniform(1.0, 3.0, len(sigma))
    fixed = Recalibration.fit(residual, sigma, snr)
    assert fixed.floor[0] == pytest.approx(0.2, rel=0.15)
    small = sigma[:, 0] < 0.02
    pulls = residual[small] / fixed.sigma(sigma[small], snr[small])
    assert pulls.std() == pytest.approx(1.0, abs=0.08)


def test_noise_that_the_model_does_not_know_of_is_found():
    rng = np.random.default_rng(5)
    snr = 10.0 ** rng.uniform(1.0, 3.0, 6000)
    sigma = np.full((6000, 1), 0.1)
    residual = rng.normal(size=sigma.shape) * np.hypot(0.1, 10.0 / snr)[:, None]
    fixed = Recalibration.fit(residual, sigma, snr)
    assert fixed.noise[0] == pytest.approx(10.0, rel=0.1)
    for low, high in ((10.0, 30.0), (300.0, 1000.0)):
        here = (snr > low) & (snr < high)
        pulls = residual[here] / fixed.sigma(sigma[here], snr[here])
        assert pulls.std() == pytest.approx(1.0, abs=0.08)


def test_grossly_wrong_labels_do_not_widen_the_rest():
    rng = np.random.default_rng(3)
    sigma = np.ones((3000, 1))
    residual = rng.normal(size=sigma.shape)
    residual[:90] = 50.0  # three per cent
    snr = np.full(3000, 100.0)
    fixed = Recalibration.fit(residual, sigma, snr)
    assert fixed.sigma(sigma, snr)[0, 0] == pytest.approx(1.0, abs=0.12)


def test_the_covariance_follows():
    covariance = np.array([[[4.0, 1.0], [1.0, 9.0]]])
    fixed = Recalibration(
        np.zeros(2), np.array([2.0, 1.0]), np.array([0.0, 4.0]), np.array([30.0, 0.0])
    )
    got = fixed.covariance(covariance, np.array([10.0]))[0]
    assert np.sqrt(np.diag(got)) == pytest.approx([5.0, 5.0])
    assert got[0, 1] / 25.0 == pytest.approx(1.0 / 6.0)


def test_too_few_stars_is_an_error():
    with pytest.raises(InputError, match=r"at least 30 calibration stars.*found 12"):
        Recalibration.fit(np.zeros((12, 1)), np.ones((12, 1)), np.ones(12))


def test_how_much_farther_few_stars_are_does_not_hang_on_the_farthest():
    rng = np.random.default_rng(8)
    reference, same = rng.standard_t(2.0, (700, 3)), rng.standard_t(2.0, (60, 20, 3))
    coverage = Coverage.fit(reference)
    ratios = [coverage.farther(few) for few in same]
    assert np.mean(ratios) == pytest.approx(1.0, abs=0.05)
    assert np.quantile(ratios, [0.05, 0.95]) == pytest.approx([1.0, 1.0], abs=0.35)
    assert coverage.farther(3.0 * same[0]) > 2.0


def test_coverage_flags_one_per_cent_of_its_own_kind_and_all_of_another():
    rng = np.random.default_rng(4)
    reference, same, far = rng.normal(size=(3, 3000, 4))
    coverage = Coverage.fit(reference)
    assert coverage.outside(same).mean() == pytest.approx(0.01, abs=0.007)
    assert coverage.outside(far + 6.0).all()


def test_rounding_of_a_dead_dimension_tells_nothing():
    rng = np.random.default_rng(4)
    reference, same = rng.normal(size=(2, 500, 3)) * [1.0, 1.0, 0.0] + [0.0, 0.0, 1e-7]
    before = Coverage.fit(reference).distance(same)
    same[:, 2] += 3e-4  # that of half precision, of a value of order one
    np.testing.assert_allclose(Coverage.fit(reference).distance(same), before, rtol=0.02, atol=0.02)
    same[:, 2] += 1.0
    assert Coverage.fit(reference).outside(same).all()


# per survey


def two_surveys(rng, count=1500):
    """Survey a is off by 0.5 and has sigma right; b is not off and has sigma half of the truth."""
    surveys = rng.choice(["a", "b", "rare"], count, p=[0.48, 0.48, 0.04])
    sigma = rng.uniform(0.5, 2.0, size=(count, 2))
    residual = rng.normal(size=sigma.shape) * sigma * np.where(surveys == "b", 2.0, 1.0)[:, None]
    residual[surveys == "a"] += 0.5
    return surveys, residual, sigma, np.full(count, 100.0)


def test_each_survey_gets_its_own_terms():
    rng = np.random.default_rng(6)
    surveys, residual, sigma, snr = two_surveys(rng)
    fixed = Recalibration.fit(residual, sigma, snr, surveys)
    assert set(fixed.surveys) == {"a", "b"}
    surveys, residual, sigma, snr = two_surveys(rng, 6000)
    here = fixed.of(surveys)
    pulls = (residual - here.shift) / here.sigma(sigma, snr)
    for name in ("a", "b"):
        own = pulls[surveys == name]
        assert np.median(own, axis=0) == pytest.approx([0.0, 0.0], abs=0.1)
        assert own.std(axis=0) == pytest.approx([1.0, 1.0], abs=0.1)
    together = (residual - fixed.shift) / fixed.sigma(sigma, snr)
    assert abs(np.median(together[surveys == "b"][:, 0])) > 0.1


def test_stars_of_several_surveys_of_rare_ones_and_of_unknown_ones_get_the_terms_of_all():
    surveys, residual, sigma, snr = two_surveys(np.random.default_rng(6))
    fixed = Recalibration.fit(residual, sigma, snr, surveys)
    together = Recalibration.fit(residual, sigma, snr)
    for name in ("", "rare", "never seen"):
        np.testing.assert_array_equal(fixed.of([name]).shift[0], together.shift)
        np.testing.assert_array_equal(
            fixed.of([name]).sigma(sigma[:1], snr[:1]), together.sigma(sigma[:1], snr[:1])
        )


def test_a_label_that_a_survey_has_too_seldom_gets_the_terms_of_all():
    surveys, residual, sigma, snr = two_surveys(np.random.default_rng(6))
    residual[np.flatnonzero(surveys == "a")[99:], 1] = np.nan
    fixed = Recalibration.fit(residual, sigma, snr, surveys)
    assert fixed.surveys["a"].shift[1] == fixed.shift[1]
    assert fixed.surveys["a"].scale[1] == fixed.scale[1]
    assert fixed.surveys["a"].shift[0] != fixed.shift[0]


def test_one_survey_alone_needs_no_terms_of_its_own():
    _, residual, sigma, snr = two_surveys(np.random.default_rng(6))
    assert not Recalibration.fit(residual, sigma, snr, ["a"] * len(snr)).surveys


def test_labels_with_too_few_stars_keep_what_there_was():
    before = Recalibration(*np.array([[0.1, 0.2], [3.0, 4.0], [0.0, 0.5], [0.0, 6.0]]))
    _, residual, sigma, snr = two_surveys(np.random.default_rng(6), 300)
    residual[29:, 1] = np.nan
    fixed = Recalibration.fit(residual, sigma, snr, otherwise=before)
    terms = [fixed.shift[1], fixed.scale[1], fixed.floor[1], fixed.noise[1]]
    assert terms == [0.2, 4.0, 0.5, 6.0]
    assert fixed.scale[0] != 3.0
    none = Recalibration.fit(np.empty((0, 2)), np.empty((0, 2)), np.empty(0), otherwise=before)
    np.testing.assert_array_equal(none.scale, before.scale)


# neighbours


def test_the_nearest_are_found_in_units_of_the_spread():
    reference = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 10.0], [9.0, 9.0]])
    coverage = Coverage(reference, np.array([1.0, 100.0]), 1.0)
    which, distance = coverage.nearest(np.array([[0.1, 0.0], [9.0, 8.0]]), 2)
    np.testing.assert_array_equal(which, [[0, 2], [3, 1]])
    np.testing.assert_allclose(distance[0], [0.1, np.hypot(0.1, 0.1)])
    assert coverage.nearest(np.zeros((3, 2)), 1)[0].shape == (3, 1)


def test_labels_of_other_stars_than_the_reference_are_an_error():
    stars = Labels(("teff",), [[5000.0]], [[np.nan]], ["a"])
    with pytest.raises(InputError, match="labels of the 4 reference stars, found 1 stars"):
        Coverage(np.zeros((4, 2)), np.ones(2), 1.0, stars)
