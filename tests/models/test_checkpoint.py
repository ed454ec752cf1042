"""What is written is what is loaded, for every head; old checkpoints load as they were."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from spectrolabe.config import EncoderConfig, HeadConfig
from spectrolabe.errors import InputError
from spectrolabe.labels import Labels, LabelScale
from spectrolabe.models.checkpoint import load, save_estimator
from spectrolabe.models.encoder import Encoder
from spectrolabe.models.estimator import Estimator
from spectrolabe.models.uncertainty import Coverage, Recalibration
from tests.models.stars import made_up

NAMES = ("teff", "logg", "fe_h")
HEADS = {
    "gaussian": HeadConfig(),
    "binned": HeadConfig(kind="binned", bins=16, embedding=1.0, embedding_width=6),
}


@pytest.fixture(scope="module")
def stars():
    return made_up(np.random.default_rng(5), 4, step=6e-4, survey="apogee")[0]


def estimator_of(kind: str) -> Estimator:
    torch.manual_seed(3)
    config = EncoderConfig(width=16, latents=4, blocks=1, heads=2, head=HEADS[kind])
    encoder = Encoder(config, 3)
    rng = np.random.default_rng(0)
    encoder.head.set_range(torch.tensor(rng.normal(size=(100, 3))))
    width = 32 if kind == "gaussian" else 6
    labels = Labels(
        NAMES,
        rng.normal([5800, 4, -0.3], [500, 0.4, 0.4], (20, 3)),
        np.full((20, 3), 0.1),
        [f"training star {i}" for i in range(20)],
    )
    own = Recalibration([0.5, 0.0, 0.0], [2.0, 1.0, 1.0], np.zeros(3), np.zeros(3))
    return Estimator(
        encoder,
        LabelScale(NAMES, np.array([5800.0, 4.0, -0.3]), np.array([500.0, 0.4, 0.4])),
        Recalibration(
            np.zeros(3), np.ones(3), np.zeros(3), np.zeros(3), {"apogee": own, "desi": own}
        ),
        Coverage(rng.normal(size=(20, width)).astype(np.float32), np.ones(width), 2.0, labels),
        {"name": "tiny", "encoder": config.model_dump()},
    )


@pytest.fixture(params=HEADS)
def estimator(request):
    return estimator_of(request.param)


def test_saved_and_loaded_it_says_the_same(estimator, stars, tmp_path):
    again = load(save_estimator(estimator, tmp_path / "model"))
    one, other = estimator.estimate(stars), again.estimate(stars)
    for name in ("raw", "calibrated"):
        before, after = getattr(one, name), getattr(other, name)
        assert_array_equal(after.mean, before.mean)
        assert_array_equal(after.covariance, before.covariance)
        assert (after.levels is None) == (before.levels is None)
        if before.levels is not None:
            assert_array_equal(after.levels, before.levels)
    found, expected = again.neighbours(other, 3), estimator.neighbours(one, 3)
    assert_array_equal(found.star_id, expected.star_id)
    assert_allclose(found.distance, expected.distance, rtol=1e-2)
    assert_allclose(found.labels.values, expected.labels.values, rtol=1e-6)
    assert_allclose(found.labels.sigma, expected.labels.sigma, rtol=1e-3)


def test_the_card_tells_the_recalibration_of_each_survey(tmp_path):
    folder = save_estimator(estimator_of("gaussian"), tmp_path / "model")
    card = json.loads((folder / "card.json").read_text())
    assert card["recalibration_of_surveys"]["apogee"]["teff"] == {
        "shift": 0.5,
        "sigma_scale": 2.0,
        "sigma_floor": 0.0,
        "sigma_noise": 0.0,
    }
    again = save_estimator(load(folder), tmp_path / "again")
    assert json.loads((again / "card.json").read_text()) == card


def test_checkpoints_of_before_load(stars, tmp_path):
    """They say nothing of heads, of surveys, nor of which stars the reference is."""
    from safetensors.torch import load_file, save_file

    estimator = estimator_of("gaussian")
    folder = save_estimator(estimator, tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    new = ("coverage.star_id", "coverage.labels", "coverage.sigma")
    save_file({k: v for k, v in tensors.items() if k not in new}, folder / "model.safetensors")
    import hashlib

    card = json.loads((folder / "card.json").read_text())
    del card["recalibration_of_surveys"], card["encoder"]["head"]
    content = (folder / "model.safetensors").read_bytes()
    card["weights_sha256"] = hashlib.sha256(content).hexdigest()
    (folder / "card.json").write_text(json.dumps(card))
    old = load(folder)
    one, other = estimator.estimate(stars), old.estimate(stars)
    assert_array_equal(other.calibrated.mean, other.raw.mean)  # one recalibration for all
    assert_array_equal(other.raw.mean, one.raw.mean)
    with pytest.raises(InputError, match="says which training stars it keeps"):
        old.neighbours(stars)


# the estimator


def test_each_star_has_the_recalibration_of_its_survey(estimator, stars):
    star = stars[0][0]
    apogee, other, both = (
        estimator.estimate([spectra])
        for spectra in ([star], [star.replace(survey="galah")], [star, star.replace(survey="desi")])
    )
    assert_allclose(apogee.calibrated["teff"] - apogee.raw["teff"], 250.0)
    assert_allclose(apogee.calibrated.sigma[:, 0], 2.0 * apogee.raw.sigma[:, 0])
    for estimate in (other, both):
        assert_allclose(estimate.calibrated.mean, estimate.raw.mean)
        assert_allclose(estimate.calibrated.sigma, estimate.raw.sigma)


def test_levels_follow_the_recalibration(stars):
    estimate = estimator_of("binned").estimate(stars)
    raw, calibrated = estimate.raw, estimate.calibrated
    score = (raw.levels - raw.mean[..., None]) / raw.sigma[..., None]
    after = (calibrated.levels - calibrated.mean[..., None]) / calibrated.sigma[..., None]
    assert_allclose(after, score, atol=1e-9)
    draws = raw.samples(np.random.default_rng(0), 20_000)
    spread = np.abs(draws.mean(axis=0) - raw.mean) / raw.sigma
    assert spread.max() < 0.05  # mean, sigma and levels are of one distribution
    assert_allclose(draws.std(axis=0), raw.sigma, rtol=0.05)


def test_the_batch_changes_nothing(estimator, stars):
    one, other = (estimator.estimate(stars, batch_size=n).calibrated for n in (1, 9))
    assert_allclose(one.mean, other.mean, rtol=2e-5, atol=1e-4)
    assert_allclose(one.quantiles([0.1, 0.5]), other.quantiles([0.1, 0.5]), rtol=1e-4, atol=1e-4)


def test_neighbours_are_training_stars_in_order(estimator, stars):
    estimate = estimator.estimate(stars)
    found = estimator.neighbours(stars, 3)
    assert found.star_id.shape == found.distance.shape == (4, 3)
    assert (np.diff(found.distance, axis=1) >= 0).all()
    reference = estimator.coverage.reference
    distance = np.linalg.norm(reference - estimate.embedding[2], axis=1)
    nearest = np.argsort(distance)[:3]
    assert_array_equal(found.star_id[2], estimator.coverage.stars.star_id[nearest])
    assert_allclose(found.distance[2], distance[nearest] / 2.0, rtol=1e-5)
    assert_array_equal(found.labels.values[6:9], estimator.coverage.stars.values[nearest])
    assert estimator.neighbours(estimate, 99).star_id.shape == (4, 20)
