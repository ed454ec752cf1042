"""What must never change a result: order, batch, padding, splitting, hidden values."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from spectrolabe.config import EncoderConfig
from spectrolabe.labels import LabelScale
from spectrolabe.models.encoder import Encoder
from spectrolabe.models.estimator import Estimator
from spectrolabe.models.uncertainty import Coverage, Recalibration
from tests.models.stars import made_up


@pytest.fixture(scope="module")
def estimator() -> Estimator:
    torch.manual_seed(3)
    encoder = Encoder(EncoderConfig(width=16, latents=4, blocks=2, heads=2), 3)
    rng = np.random.default_rng(0)
    names = ("teff", "logg", "fe_h")
    return Estimator(
        encoder,
        LabelScale(names, np.array([5800.0, 4.0, -0.3]), np.array([500.0, 0.4, 0.4])),
        Recalibration(np.zeros(3), np.ones(3), np.zeros(3), np.zeros(3)),
        Coverage(rng.normal(size=(20, 32)), np.ones(32), 1.0),
        {},
    )


@pytest.fixture(scope="module")
def stars():
    rng = np.random.default_rng(5)
    wide, _ = made_up(rng, 4)
    narrow, _ = made_up(rng, 3, span=(5000.0, 5400.0), step=2e-4)
    pair, _ = made_up(rng, 2)
    return [*wide, *narrow, [pair[0][0], narrow[0][0]], [pair[1][0]]]


def assert_close(one, other):
    assert_allclose(one.mean, other.mean, rtol=2e-5, atol=1e-4)
    assert_allclose(one.covariance, other.covariance, rtol=2e-4, atol=1e-6)


def test_batch_size_changes_nothing(estimator, stars):
    assert_close(
        estimator.estimate(stars, batch_size=1).raw, estimator.estimate(stars, batch_size=64).raw
    )


def test_order_changes_nothing(estimator, stars):
    order = np.random.default_rng(1).permutation(len(stars))
    shuffled = estimator.estimate([stars[i] for i in order]).raw
    assert_close(estimator.estimate(stars).raw.take(order), shuffled)


def test_the_order_of_the_spectra_of_a_star_changes_nothing(estimator, stars):
    pair = stars[7]
    assert len(pair) == 2
    assert_close(estimator.estimate([pair]).raw, estimator.estimate([pair[::-1]]).raw)


def test_a_second_spectrum_does_change_the_result(estimator, stars):
    pair = stars[7]
    both, one = estimator.estimate([pair]).raw, estimator.estimate([pair[:1]]).raw
    assert np.abs(both.mean - one.mean).max() > 1e-3


def test_what_lies_under_a_bad_pixel_changes_nothing(estimator, stars):
    spectrum = stars[0][0]
    ivar = spectrum.ivar.copy()
    ivar[50:60] = 0.0
    flux = spectrum.flux.copy()
    flux[50:60] = np.nan
    hidden = spectrum.replace(flux=flux, ivar=ivar)
    shown = spectrum.replace(ivar=ivar)
    assert_close(estimator.estimate([[hidden]]).raw, estimator.estimate([[shown]]).raw)


def test_a_constant_resolution_may_be_given_per_pixel(estimator, stars):
    spectrum = stars[0][0]
    per_pixel = spectrum.replace(resolution=np.full(len(spectrum), spectrum.resolution))
    assert_close(estimator.estimate([[spectrum]]).raw, estimator.estimate([[per_pixel]]).raw)


def test_the_recalibration_shifts_scales_sigma_and_keeps_correlations(estimator, stars):
    raw = estimator.estimate(stars).raw
    wider = Estimator(
        estimator.encoder,
        estimator.scale,
        Recalibration(np.array([0.0, 0.5, 0.0]), np.array([2.0, 1.0, 3.0]), *np.zeros((2, 3))),
        estimator.coverage,
        {},
    ).estimate(stars)
    assert_allclose(wider.calibrated.sigma, raw.sigma * [2.0, 1.0, 3.0], rtol=1e-6)
    assert_allclose(wider.calibrated.correlation, raw.correlation, atol=1e-6)
    assert_allclose(wider.raw.mean, raw.mean)
    assert_allclose(wider.calibrated.mean - raw.mean, [[0.0, 0.2, 0.0]] * len(stars), atol=1e-9)
