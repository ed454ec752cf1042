"""From a synthetic sky to a model that can be released."""

from __future__ import annotations

import numpy as np
import pytest

from spectrolabe.config import SkyTrainConfig, load_training
from spectrolabe.errors import InputError
from spectrolabe.inference.rows import catalogue_of
from spectrolabe.models.checkpoint import load
from spectrolabe.sky.instruments import SURVEYS
from spectrolabe.spectra import Frame, Spectrum
from spectrolabe.training import unified
from spectrolabe.training.sky import SkyStream
from spectrolabe.training.unified import train_on_sky
from tests.test_project import ROOT
from tests.training.tiny import TINY

SMALL = {
    "name": "small",
    "labels": ("teff", "logg", "fe_h", "mg_fe", "rv_residual", "age"),
    "sky": {"surveys": {"gaia_rvs": 1.0, "lamost_lrs": 1.0}, "steps": 4, "both": 0.5},
    "encoder": {"width": 16, "latents": 2, "blocks": 1, "heads": 2},
    "training": {"epochs": 2, "batch_size": 8},
    "calibration": 64,
    "making": TINY,
}


@pytest.fixture(scope="module")
def small():
    """Fewer stars afterwards."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unified, "REFERENCES", 128)
        patch.setattr(unified, "UNSEEN", 128)
        yield


@pytest.fixture(scope="module")
def run(small, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return train_on_sky(SkyTrainConfig(**SMALL), folder / "a", progress=False)


def spectrum(survey, low, high, resolution, **given):
    wavelength = np.exp(np.arange(np.log(low), np.log(high), 1 / resolution / 3))
    rng = np.random.default_rng(5)
    flux = 1.0 + 0.02 * rng.normal(size=len(wavelength))
    options = {"frame": Frame.REST, "survey": survey, "star_id": "s", **given}
    return Spectrum(wavelength, flux, np.full(len(flux), 2500.0), resolution, **options)


def test_a_small_model_predicts_its_labels(run):
    model = load(run)
    assert model.names == SMALL["labels"]
    stars = [
        [spectrum("lamost_lrs", 3800, 9000, 1800.0)],
        [spectrum("gaia_rvs", 8460, 8700, 11500.0)],
    ]
    estimate = model.estimate(stars)
    assert np.isfinite(estimate.calibrated.mean).all()
    assert (estimate.calibrated.sigma > 0).all()
    table = catalogue_of(model, stars)
    assert len(table) == 2
    assert {*SMALL["labels"]} <= set(table.colnames)


def test_training_is_repeatable_and_continues(run, tmp_path):
    config = SkyTrainConfig(**SMALL)
    again = train_on_sky(config, tmp_path / "b", progress=False)
    assert (again / "model.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()


def test_what_was_never_seen_is_not_read(run):
    model = load(run)
    inside = spectrum("own", 5000, 9000, 2000.0)
    wavelength = np.concatenate([inside.wavelength, np.arange(9801.0, 10300.0, 2.0)])
    strange = np.full(len(wavelength) - len(inside), 7.0, np.float32)
    longer = Spectrum(
        wavelength,
        np.concatenate([inside.flux, strange]),
        np.concatenate([inside.ivar, strange]),
        2000.0,
        frame=Frame.REST,
        survey="own",
        star_id="s",
    )
    a, b = (model.estimate([[one]]).calibrated.mean for one in (inside, longer))
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_a_sharper_spectrum_is_brought_down(run):
    model = load(run)
    sharp = spectrum("own", 6000, 6100, 60000.0)
    assert np.isfinite(model.estimate([[sharp]]).calibrated.mean).all()
    read = model._readable(sharp)
    assert np.max(read.resolution) <= model.card["training_data"]["resolution_range"][1]


def test_configuration_of_the_released_model_is_read():
    config = load_training(ROOT / "configs" / "unified-sky.toml")
    assert isinstance(config, SkyTrainConfig)
    assert set(config.sky.surveys) == {*SURVEYS, "random"}


def test_labels_that_the_sky_does_not_have():
    config = SkyTrainConfig(**{**SMALL, "labels": ("teff", "mg_fe", "distance")})
    with pytest.raises(InputError, match="distance"):
        SkyStream(config.sky, config.labels)
