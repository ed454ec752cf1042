"""Recalibration and coverage on samples whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from spectrolabe.errors import InputError
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


def test_coverage_flags_one_per_cent_of_its_own_kind_and_all_of_another():
    rng = np.random.default_rng(4)
    reference, same, far = rng.normal(size=(3, 3000, 4))
    coverage = Coverage.fit(reference)
    assert coverage.outside(same).mean() == pytest.approx(0.01, abs=0.007)
    assert coverage.outside(far + 6.0).all()
