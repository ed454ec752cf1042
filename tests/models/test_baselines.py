"""The baselines: their features, what they learn, and that they keep the laws."""

from __future__ import annotations

import numpy as np
import pytest

from spectrolabe.errors import InputError
from spectrolabe.labels import Labels
from spectrolabe.models.baselines import BASELINES, PixelFeatures, baseline
from spectrolabe.models.posterior import LabelModel
from spectrolabe.spectra import Frame, Spectrum
from spectrolabe.validation.metrics import evaluate

NAMES = ("teff", "fe_h")
WAVELENGTH = np.arange(4000.0, 4300.0, 0.9)
LINES = np.array([4030.0, 4101.7, 4180.0, 4226.7, 4271.0])
QUICK = {"ridge": {}, "trees": {}, "neighbours": {}, "cnn": {"epochs": 15}}


def star(teff, fe_h, rng, *, rv=0.0, snr=100.0, star_id="", slope=0.0):
    """One spectrum: lines whose depths are smooth functions of the two labels."""
    hot = (teff - 5500.0) / 1000.0
    depth = 0.3 + np.array([-0.1, 0.15, 0.0, -0.12, 0.05]) * hot
    depth = depth + np.array([0.1, 0.0, 0.12, 0.05, 0.1]) * fe_h
    rest = WAVELENGTH / (1.0 + rv / 299792.458)
    profile = np.exp(-0.5 * ((rest[:, None] - LINES) / 2.0) ** 2)
    flux = (1.0 - profile @ depth) * (1.0 + slope * (rest - 4150.0) / 300.0)
    error = np.full(len(flux), 1.0 / snr)
    return Spectrum(
        WAVELENGTH,
        7.0 * (flux + error * rng.standard_normal(len(flux))),
        1.0 / (7.0 * error) ** 2,
        800.0,
        Frame.BARYCENTRIC,
        rv=rv,
        star_id=star_id,
    )


def population(size, seed):
    rng = np.random.default_rng(seed)
    values = np.stack([rng.uniform(4800, 6200, size), rng.uniform(-1, 0.3, size)], axis=1)
    ids = [f"star{seed}-{i}" for i in range(size)]
    stars = [
        [star(*v, rng, rv=rng.normal(0, 40), star_id=name, slope=rng.normal(0, 0.3))]
        for v, name in zip(values, ids, strict=True)
    ]
    return stars, Labels(NAMES, values, np.full(values.shape, np.nan), ids)


@pytest.fixture(scope="module")
def training():
    return population(110, 1)


@pytest.fixture(scope="module")
def held_out():
    return population(40, 2)


@pytest.fixture(scope="module", params=BASELINES)
def fitted(request, training):
    return baseline(request.param)(folds=2, **QUICK[request.param]).fit(*training)


# features


def test_features_are_the_star_and_neither_its_velocity_nor_its_flux_scale():
    rng = np.random.default_rng(0)
    still, moving = (star(5500, 0, rng, rv=rv, snr=1e5) for rv in (0.0, 120.0))
    features = PixelFeatures.fit([[still]], pixels_per_fwhm=1.0)
    flux, _ = features.transform([[still], [moving], [moving.replace(flux=3 * moving.flux)]])
    inside = slice(2, -2)
    np.testing.assert_allclose(flux[0, inside], flux[1, inside], atol=0.004)
    np.testing.assert_allclose(flux[1], flux[2], atol=1e-5)
    step = np.diff(np.log(features.wavelength))
    np.testing.assert_allclose(step, 1.0 / 800.0)
    assert flux[0].min() < 0.9


def test_unusable_pixels_are_continuum_and_change_nothing():
    rng = np.random.default_rng(0)
    spectrum = star(5500, 0, rng)
    features = PixelFeatures.fit([[spectrum]])
    ivar = spectrum.ivar.copy()
    ivar[100:140] = 0.0
    other = spectrum.flux.copy()
    other[100:140] = np.nan
    one, two = (spectrum.replace(flux=f, ivar=ivar) for f in (spectrum.flux, other))
    (flux, again), weight = features.transform([[one], [two]])
    np.testing.assert_array_equal(flux, again)
    inside = (features.wavelength > WAVELENGTH[103]) & (features.wavelength < WAVELENGTH[136])
    assert inside.any()
    assert (flux[inside] == 1.0).all()
    assert (weight[0][inside] == 0.0).all()


def test_two_spectra_of_a_star_are_averaged_by_ivar():
    rng = np.random.default_rng(0)
    good, poor = star(5500, 0, rng, snr=300), star(5500, 0, rng, snr=30)
    features = PixelFeatures.fit([[good]])
    flux, ivar = (a.astype(float) for a in features.transform([[good], [poor], [good, poor]]))
    np.testing.assert_allclose(ivar[2], ivar[0] + ivar[1], rtol=1e-5)
    mean = (flux[0] * ivar[0] + flux[1] * ivar[1]) / (ivar[0] + ivar[1])
    np.testing.assert_allclose(flux[2], mean, atol=1e-5)


def test_the_noise_is_that_of_the_training_spectra():
    rng = np.random.default_rng(3)
    stars = [[star(5500, 0, rng, snr=snr)] for snr in (50, 100, 200)]
    features = PixelFeatures.fit(stars, pixels_per_fwhm=1.0)
    # 4150 / 800 Å a pixel of the grid hold 5.76 of 0.9 Å
    middle = np.argmin(np.abs(features.wavelength - 4150.0))
    assert features.noise[middle] == pytest.approx(0.01 / np.sqrt(4150 / 800 / 0.9), rel=0.1)


def test_a_spectrum_without_velocity_is_an_error():
    spectrum = star(5500, 0, np.random.default_rng(0))
    spectrum = spectrum.replace(rv=np.nan, meta={"file": "unknown.fits"})
    with pytest.raises(InputError, match=r"unknown\.fits: expected a spectrum with a radial"):
        PixelFeatures.fit([[spectrum]])


# models


def test_the_registry_lists_what_it_knows():
    with pytest.raises(InputError, match=r"cnn, neighbours, ridge, trees.*Did you mean 'ridge'"):
        baseline("rigde")


def test_labels_of_new_stars(fitted, held_out):
    """The spread of the labels themselves is 520 K and 0.48 dex (1.4826 MAD of a uniform)."""
    stars, truth = held_out
    posterior = fitted.predict(stars)
    assert isinstance(fitted, LabelModel)
    assert posterior.names == fitted.names == NAMES
    assert list(posterior.star_id) == list(truth.star_id)
    teff, fe_h = evaluate(truth, posterior)
    assert teff.mad < 170
    assert fe_h.mad < 0.25
    assert abs(teff.bias) < 60


def test_the_uncertainty_is_that_of_new_stars(fitted, held_out):
    stars, truth = held_out
    posterior = fitted.predict(stars)
    assert (np.ptp(posterior.sigma, axis=0) == 0).all()
    for row in evaluate(truth, posterior):
        assert 0.5 < row.pull_std < 1.6
        assert row.coverage_95 > 0.75


def test_order_and_splitting_change_nothing(fitted, held_out):
    stars, _ = held_out
    whole = fitted.predict(stars)
    parts = [fitted.predict(stars[i : i + 20]).mean for i in (20, 0)]
    np.testing.assert_allclose(np.concatenate(parts[::-1]), whole.mean, rtol=1e-5)
    np.testing.assert_allclose(fitted.predict(stars[::-1]).mean[::-1], whole.mean, rtol=1e-5)


def test_a_star_without_a_usable_pixel_has_no_labels(fitted, held_out):
    stars, _ = held_out
    dark = stars[0][0].replace(ivar=np.zeros(len(WAVELENGTH)))
    posterior = fitted.predict([[dark], stars[1]])
    assert np.isnan(posterior.mean[0]).all()
    assert np.isnan(posterior.sigma[0]).all()
    assert np.isfinite(posterior.mean[1]).all()


def test_no_stars_no_rows(fitted):
    assert fitted.predict([]).mean.shape == (0, 2)


@pytest.mark.parametrize("name", ["ridge", "cnn"])
def test_same_seed_same_model(name, training, held_out):
    stars, labels, new = training[0][:40], training[1].take(range(40)), held_out[0][:10]
    settings = {"cnn": {"epochs": 2}}.get(name, {})
    first, second, other = (
        baseline(name)(folds=2, seed=seed, **settings).fit(stars, labels).predict(new)
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first.mean, second.mean)
    assert not np.array_equal(first.mean, other.mean)


@pytest.mark.parametrize("name", BASELINES)
def test_unknown_training_labels_are_left_out(name, training, held_out):
    stars, labels = training
    values = labels.values.copy()
    values[::3, 1] = np.nan
    holes = Labels(NAMES, values, labels.sigma, labels.star_id)
    settings = {"cnn": {"epochs": 4}}.get(name, {})
    model = baseline(name)(folds=2, **settings).fit(stars[:60], holes.take(range(60)))
    posterior = model.predict(held_out[0][:10])
    assert np.isfinite(posterior.mean).all()
    assert np.isfinite(posterior.sigma).all()


def test_wrong_training_labels_hardly_move_the_ridge(training, held_out):
    stars, labels = training
    values = labels.values.copy()
    values[::15] += [1500.0, -1.0]
    wrong = Labels(NAMES, values, labels.sigma, labels.star_id)
    clean, robust = (
        baseline("ridge")(folds=2).fit(stars, which).predict(held_out[0])
        for which in (labels, wrong)
    )
    without, with_wrong = (evaluate(held_out[1], which)[0] for which in (clean, robust))
    assert with_wrong.mad < 1.6 * without.mad
    assert abs(with_wrong.bias) < 20


def test_rows_of_one_star_share_a_fold(training):
    """Else the same star on both sides would make the uncertainty too small."""
    from spectrolabe.models.baselines.base import _folds

    ids = np.array(["a", "b", "c", "d", "e", "f"] * 4)
    fold = _folds(ids, 3, np.random.default_rng(0))
    assert all(len(set(fold[ids == name])) == 1 for name in "abcdef")
    assert sorted(np.bincount(fold)) == [8, 8, 8]


def test_what_cannot_be_fitted_is_an_error(training):
    stars, labels = training
    model = baseline("ridge")()
    with pytest.raises(InputError, match="expected a fitted model"):
        model.predict(stars[:1])
    with pytest.raises(InputError, match="expected 110 rows, found 109"):
        model.fit(stars, labels.take(range(109)))
    values = labels.values.copy()
    values[5:, 1] = np.nan
    with pytest.raises(InputError, match=r"at least 20 stars with each label.*'fe_h': 5"):
        model.fit(stars, Labels(NAMES, values, labels.sigma, labels.star_id))
