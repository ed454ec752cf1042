"""From a synthetic sky to a model that can be released."""

from __future__ import annotations

import numpy as np
import pytest

from spectrolabe.config import SkyTrainConfig, TrainConfig, load_training
from spectrolabe.errors import InputError
from spectrolabe.inference.rows import catalogue_of
from spectrolabe.models.checkpoint import load
from spectrolabe.sky.instruments import SURVEYS
from spectrolabe.spectra import Frame, Spectrum
from spectrolabe.spectra.store import StoreWriter
from spectrolabe.training import release, trainer, unified
from spectrolabe.training.sky import SkyStream
from spectrolabe.training.trainer import train
from spectrolabe.training.unified import train_on_sky
from tests.test_project import ROOT
from tests.training.interruption import assert_same_weights, stopped_in
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
    read = model.readable(sharp)
    assert np.max(read.resolution) <= model.card["training_data"]["resolution_range"][1]


def test_configuration_of_the_released_model_is_read():
    config = load_training(ROOT / "configs" / "unified-sky.toml")
    assert isinstance(config, SkyTrainConfig)
    assert set(config.sky.surveys) == {*SURVEYS, "random"}


def test_labels_that_the_sky_does_not_have():
    config = SkyTrainConfig(**{**SMALL, "labels": ("teff", "mg_fe", "distance")})
    with pytest.raises(InputError, match="distance"):
        SkyStream(config.sky, config.labels)


@pytest.fixture
def taught(run, tmp_path, monkeypatch):
    """Teach the model with 24 stars of a store; the folder of the new one."""
    monkeypatch.setattr(release, "REFERENCES", 32)
    monkeypatch.setattr(release, "SIMULATED", 8)
    store = tmp_path / "store"
    with StoreWriter(store, ("teff", "logg", "fe_h")) as writer:
        rng = np.random.default_rng(3)
        for i in range(24):
            which = {"star_id": f"s{i}", "spectrum_id": f"s{i}"}
            star = spectrum("lamost_lrs", 4500, 6800, 1800.0, **which)
            values = rng.uniform((4500, 2.0, -1.0), (6500, 4.5, 0.3))
            star = star.replace(flux=star.flux + 0.05 * rng.normal(size=len(star)))
            writer.append(star, values=values, file=f"s{i}.fits")

    def make(name, epochs=2, **transfer):
        config = TrainConfig.model_validate(
            {
                "name": "taught",
                "data": {
                    **{"store": str(store), "split": "", "selection": 0.0},
                    **{"labels": ["teff", "logg", "fe_h"], "calibration": 0.3},
                },
                "transfer": {"start": str(run), "sky_weight": 1.0, "sky_every": 2, **transfer},
                "sky": SMALL["sky"],
                "augmentation": {"versions": 1},
                "training": {"epochs": epochs, "batch_size": 8, "checkpoint_minutes": 1e-9},
            }
        )
        return train(config, tmp_path / name, progress=False)

    return make


def test_real_stars_teach_the_first_fit_what_computed_spectra_lack(taught):
    compact = load(taught("with", epochs=1)).encoder.guesser.compact
    assert compact.observed.rows.abs().max() > 1e-3
    compact = load(taught("without", epochs=1, observed=False)).encoder.guesser.compact
    assert compact.observed.count == 0


def test_more_versions_than_memory_holds_are_an_error(taught, monkeypatch):
    monkeypatch.setattr(trainer, "MOST_KEPT", 10)
    with pytest.raises(InputError, match=r"augmentation\.versions: expected at most 0"):
        taught("many")


def test_spectra_are_varied_once_and_an_interrupted_run_varies_them_alike(taught, monkeypatch):
    calls, original = [], trainer._varied

    def counted(*arguments, **options):
        calls.append(1)
        return original(*arguments, **options)

    monkeypatch.setattr(trainer, "_varied", counted)
    whole = taught("whole")
    assert len(calls) == 1
    stopped_in(1, lambda: taught("cut"))
    assert_same_weights(whole, taught("cut"), atol=1e-5)
