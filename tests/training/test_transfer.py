"""Starting from a model: what may change does, what may not does not, and the card says so."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from spectrolabe.config import TransferConfig
from spectrolabe.errors import InputError
from spectrolabe.labels import Labels
from spectrolabe.models.checkpoint import load
from spectrolabe.spectra.store import StoreWriter, open_store
from spectrolabe.training import trainer
from spectrolabe.training.pretrain import Seen
from spectrolabe.training.trainer import train
from spectrolabe.training.transfer import LowRank, Start, encoder_from, merge, prepare
from tests.models.stars import made_up
from tests.training.interruption import assert_same_weights, stopped_in

DATA = {"labels": ["teff", "logg"], "split": "", "selection": 0.0, "calibration": 0.4}
LITTLE = {"epochs": 2, "learning_rate": 1e-3}
SPAN = (4950.0, 5450.0)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """100 stars with few pixels."""
    path = tmp_path_factory.mktemp("store") / "made-up"
    stars, labels = made_up(np.random.default_rng(7), 100, step=6e-4, span=SPAN)
    with StoreWriter(path, labels.names) as writer:
        for i, (star, values) in enumerate(zip(stars, labels.values, strict=True)):
            writer.append(star[0], values=values, file=f"s{i}.fits")
    return path


@pytest.fixture(scope="module")
def start(store, tmp_path_factory):
    """A model of three labels, trained for a moment."""
    from spectrolabe.config import TrainConfig

    config = TrainConfig.model_validate(
        {
            "name": "begun",
            "data": {"store": str(store), "selection": 0.0, "calibration": 0.4},
            "encoder": {"width": 16, "latents": 4, "blocks": 1, "heads": 2, "dropout": 0.0},
            "training": {"epochs": 2, "batch_size": 16, "learning_rate": 3e-3, "ema": 0.5},
        }
    )
    return train(config, tmp_path_factory.mktemp("start") / "begun", progress=False)


@pytest.fixture
def tuned(config, start, tmp_path):
    """Train from the start by a recipe; the changed configuration, and the run."""

    def make(recipe, name="run", transfer=None, **changes):
        settings = config(
            transfer={"start": str(start), "recipe": recipe, **(transfer or {})},
            **{"data": DATA, "training": LITTLE, **changes},
        ).model_copy(update={"encoder": trainer.TrainConfig.model_fields["encoder"].default})
        return train(settings, tmp_path / name, progress=False)

    return make


def changed(one, other):
    """Names of weights of two models that differ in any bit."""
    state = load(other).encoder.state_dict()
    return {k for k, v in load(one).encoder.state_dict().items() if not torch.equal(v, state[k])}


def test_only_what_the_recipe_says_changes(start, tuned):
    of_head = {k for k in load(start).encoder.state_dict() if k.startswith("head.")}
    assert changed(start, tuned("head", "a")) == of_head
    full = changed(start, tuned("full", "b"))
    assert {"latents", "content.weight", "norm.bias"} | of_head <= full
    low = changed(start, tuned("lowrank", "c"))
    assert {"content.weight", "own.0.out.weight", "feed.0.up.weight"} | of_head <= low
    assert not {k for k in low - of_head if not k.endswith("weight")}
    assert not low & {"latents", "norm.weight", "token_norm.weight"}


def test_the_change_of_a_matrix_has_the_rank_asked_for(start, tuned):
    run = tuned("lowrank", transfer={"rank": 2})
    old, new = (load(folder).encoder.feed[0].up.weight for folder in (start, run))
    size = torch.linalg.svdvals((new - old).detach().double())
    assert size[1] > 1e-5
    assert size[2] < 1e-4 * size[1]


def test_a_model_has_no_trace_of_low_rank(start, tuned, store):
    torch.manual_seed(0)
    encoder = encoder_from(Start(load(start)), Start(load(start)).encoder).eval()
    prepare(encoder, TransferConfig(start="x", recipe="lowrank", rank=3))
    for module in encoder.modules():
        if isinstance(module, LowRank):
            torch.nn.init.normal_(module.up, std=0.1)
    sample = open_store(store)
    estimator = load(start)
    estimator.encoder = encoder
    stars = [[sample[i]] for i in range(4)]
    before = estimator.predict(stars).mean
    assert np.abs(before - load(start).predict(stars).mean).max() > 0.01  # there is a change
    merge(encoder)
    assert set(encoder.state_dict()) == set(load(start).encoder.state_dict())
    assert all(parameter.requires_grad for parameter in encoder.parameters())
    assert_allclose(estimator.predict(stars).mean, before, rtol=1e-5)


def test_labels_that_are_not_taught_are_still_predicted(start, tuned, store):
    model = load(tuned("full"))
    assert model.names == ("teff", "logg", "fe_h")
    opened = open_store(store)
    posterior = model.predict([[opened[i]] for i in range(8)])
    assert np.isfinite(posterior.mean).all()
    assert np.isfinite(posterior.sigma).all()
    assert model.card["transfer"]["labels_not_taught"] == ["fe_h"]
    assert model.card["transfer"]["recalibration_of_the_start"] == ["fe_h"]
    old = load(start)
    assert_array_equal(model.scale.centre, old.scale.centre)
    assert_array_equal(model.recalibration.scale[2], old.recalibration.scale[2])
    assert model.recalibration.scale[0] != old.recalibration.scale[0]


def test_the_card_says_what_it_started_from(start, tuned):
    card = load(tuned("head")).card
    assert card["transfer"]["start"] == "begun"
    assert card["transfer"]["start_sha256"] == load(start).card["weights_sha256"]
    assert card["transfer"]["recipe"] == "head"
    assert str(start.parent) not in json.dumps(card)
    assert "transfer" not in load(start).card


def test_another_head_is_new_on_the_old_trunk(config, start, tmp_path):
    settings = config(
        data=DATA,
        training=LITTLE,
        transfer={"start": str(start), "recipe": "head"},
        encoder={"head": {"kind": "binned", "bins": 16}},
    )
    run = train(settings, tmp_path / "run", progress=False)
    one, other = load(run).encoder.state_dict(), load(start).encoder.state_dict()
    trunk = [name for name in one if not name.startswith("head.")]
    assert trunk
    assert all(torch.equal(one[name], other[name]) for name in trunk)
    assert load(run).card["encoder"]["head"]["kind"] == "binned"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"data": {**DATA, "labels": ["teff", "mg_fe"]}},
            r"a known label of begun .*found 'mg_fe'",
        ),
        ({"encoder": {"width": 32}}, r"encoder\.width: expected 16, as begun has it, found 32"),
        ({"transfer": {"start": "nowhere"}}, r"nowhere: expected a run, a folder of a model"),
    ],
)
def test_a_start_that_does_not_fit_is_an_error(config, start, tmp_path, changes, message):
    changes = {"data": DATA, "transfer": {"start": str(start)}, **changes}
    with pytest.raises(InputError, match=message):
        train(config(**changes), tmp_path / "run", progress=False)


def test_damaged_start(config, start, tmp_path):
    folder = tmp_path / "damaged"
    folder.mkdir()
    (folder / "card.json").write_text((start / "card.json").read_text())
    (folder / "model.safetensors").write_bytes((start / "model.safetensors").read_bytes()[:-9])
    with pytest.raises(InputError, match=r"model\.safetensors: expected"):
        train(config(data=DATA, transfer={"start": str(folder)}), tmp_path / "run", progress=False)


@pytest.mark.parametrize("recipe", ["full", "lowrank"])
def test_an_interrupted_run_continues_to_the_same_weights(tuned, recipe):
    often = {"training": {"epochs": 3, "checkpoint_minutes": 1e-9}}
    whole = tuned(recipe, "whole", **often)
    stopped_in(2, lambda: tuned(recipe, "cut", **often))
    assert_same_weights(whole, tuned(recipe, "cut", **often))


@pytest.fixture
def ten(tmp_path):
    """Ten stars."""
    stars, labels = made_up(np.random.default_rng(3), 10, step=6e-4, span=SPAN)
    with StoreWriter(tmp_path / "ten", labels.names) as writer:
        for i, (star, values) in enumerate(zip(stars, labels.values, strict=True)):
            writer.append(star[0], values=values + np.array([300.0, 0.0, 0.0]), file=f"{i}.fits")
    return tmp_path / "ten"


def test_ten_stars_are_enough_with_a_start(start, tuned, ten):
    alone = {**DATA, "store": str(ten), "calibration": 0.0}
    old, run = load(start), tuned("head", data=alone)
    model = load(run)
    assert model.card["training_data"]["stars"] == 10
    assert model.card["recalibrated_on"].startswith("0 spectra")
    assert model.card["transfer"]["recalibration_of_the_start"] == ["teff", "logg", "fe_h"]
    assert_array_equal(model.recalibration.scale, old.recalibration.scale)
    folded = load(tuned("head", "folded", data={**alone, "calibration": 0.15, "folds": 3}))
    assert folded.card["recalibrated_on"].startswith("10 spectra")
    wider = folded.recalibration.scale / old.recalibration.scale
    assert (wider >= 1.0).all()
    assert wider[0] > 1.1  # labels 300 K off are not explained by the uncertainties of the start


def test_few_stars_without_a_start_are_an_error(config, ten, tmp_path):
    with pytest.raises(InputError, match=r"at least 20 stars with labels, found 10"):
        train(config(data={"store": str(ten), "split": ""}), tmp_path / "run", progress=False)


def test_the_sky_keeps_what_the_stars_do_not_show(config, start, tmp_path):
    """A made-up sky whose loss pulls one weight of the trunk to 3: it shares every step."""

    class Pull:
        def __init__(self):
            self.asked = 0

        def losses(self, run, rng):
            for _ in range(2):
                self.asked += 1
                yield (run.model.norm.bias[0] - 3.0) ** 2

        def references(self, encoder, count, rng):
            names = ("teff", "logg", "fe_h")
            labels = Labels(names, np.ones((7, 3)), np.ones((7, 3)), [f"sky{i}" for i in range(7)])
            return np.full((7, encoder.head.out.in_features), 50.0, np.float32), labels

        def seen(self, encoder, count, rng):
            residual = 9.0 * rng.normal(size=(count, 3))
            other = np.full(count, "simulated")
            return Seen(residual, np.ones((count, 3)), np.full(count, 50.0), other, residual)

    sky = Pull()
    settings = config(
        data=DATA,
        training={"epochs": 4, "learning_rate": 3e-2, "ema": 0.5},
        transfer={"start": str(start), "sky_weight": 100.0},
    ).model_copy(update={"encoder": trainer.TrainConfig.model_fields["encoder"].default})
    model = load(train(settings, tmp_path / "run", progress=False, sky=sky))
    steps = 4 * int(np.ceil(model.card["training_data"]["spectra"] / 16))
    assert sky.asked == steps
    old = load(start).encoder.norm.bias[0].item()
    assert model.encoder.norm.bias[0].item() > old + 0.1
    assert (model.coverage.reference == 50.0).all(axis=1).sum() == 7
    # real stars say how wrong the survey of real stars is, simulated ones all others
    survey = model.card["training_data"]["surveys"][0]
    wrong = model.recalibration.of([survey, "other"])
    sigma = wrong.sigma(np.ones((2, 3)), np.full(2, 50.0))
    assert (sigma[1] > 6.0).all()
    assert (sigma[0, :2] < 6.0).all()  # the third is not taught
