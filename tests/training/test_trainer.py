"""The loop: it learns, resumes exactly, and what it writes is what is loaded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from spectrolabe.errors import InputError
from spectrolabe.models.checkpoint import load, save_estimator
from spectrolabe.spectra.store import open_store
from spectrolabe.training.trainer import train
from tests.training.interruption import assert_same_weights, stopped_in


@pytest.fixture(scope="module")
def val(store):
    opened = open_store(store)
    rows = np.flatnonzero(opened.column("split") == "val")
    return [[opened[int(i)]] for i in rows], opened.labels.take(rows)


@pytest.fixture(scope="module")
def run(store, tmp_path_factory):
    from spectrolabe.config import TrainConfig

    config = TrainConfig.model_validate(
        {
            "name": "small",
            "data": {
                "store": str(store),
                "labels": ["teff", "logg"],
                "split": "train",
                "selection": 0.0,
                "calibration": 0.25,
            },
            "encoder": {"width": 32, "latents": 8, "blocks": 2, "heads": 4, "dropout": 0.0},
            "augmentation": {"drop_tokens": 0.0, "noise": 0.2, "tilt": 0.05},
            "training": {"epochs": 40, "batch_size": 8, "learning_rate": 2e-3, "ema": 0.98},
        }
    )
    return train(config, tmp_path_factory.mktemp("runs") / "run", progress=False)


def test_it_learns_labels_of_stars_it_has_not_seen(run, val):
    stars, truth = val[0], val[1].select(("teff", "logg"))
    posterior = load(run).predict(stars)
    spread = np.nanstd(truth.values, axis=0)
    error = np.nanmedian(np.abs(posterior.mean - truth.values), axis=0)
    assert (error < 0.3 * spread).all(), error / spread


def test_two_processes_train_one_model(store, val, tmp_path):
    script, config = tmp_path / "main.py", tmp_path / "two.toml"
    script.write_text("from spectrolabe.cli import main; main()")
    config.write_text(
        f"""
        name = "two"
        data = {{ store = "{store}", labels = ["teff", "logg"], split = "train", selection = 0.0 }}
        encoder = {{ width = 32, latents = 8, blocks = 2, heads = 4, dropout = 0.0 }}
        augmentation = {{ drop_tokens = 0.0, noise = 0.2, tilt = 0.05 }}
        training = {{ epochs = 60, batch_size = 8, learning_rate = 2e-3, ema = 0.98 }}
        """
    )
    command = [Path(sys.executable).with_name("accelerate"), "launch", "--num_processes", "2"]
    command += ["--multi_gpu", "--num_machines", "1", "--mixed_precision", "no", script, "train"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(
        [*command, config, "--output", tmp_path / "run"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("trained on 159") == 1  # one of them speaks
    lines = (tmp_path / "run" / "all" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == list(range(1, 61))
    stars, truth = val[0], val[1].select(("teff", "logg"))
    error = np.nanmedian(np.abs(load(tmp_path / "run").predict(stars).mean - truth.values), axis=0)
    assert (error < 0.3 * np.nanstd(truth.values, axis=0)).all()


def test_its_uncertainties_are_about_right_on_them(run, val):
    stars, truth = val[0], val[1].select(("teff", "logg"))
    posterior = load(run).predict(stars)
    pulls = (posterior.mean - truth.values) / posterior.sigma
    inside = np.nanmean(np.abs(pulls) < 1.0)
    assert 0.5 < inside < 0.85  # 40 stars, 2 labels


def test_the_card_says_what_it_is(run, store):
    card = json.loads((run / "card.json").read_text())
    assert [entry["name"] for entry in card["labels"]] == ["teff", "logg"]
    assert 130 < card["training_data"]["spectra"] < 170
    assert "a split of its own" in card["recalibrated_on"]
    assert str(store.parent) not in json.dumps(card)  # no path of the machine it was made on


def test_metrics_are_written_for_every_epoch(run):
    lines = (run / "all" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == list(range(1, 41))


def test_an_interrupted_run_continues_to_the_same_weights(config, tmp_path):
    settings = config(training={"checkpoint_minutes": 1e-9})
    whole = train(settings, tmp_path / "whole", progress=False)
    stopped_in(2, lambda: train(settings, tmp_path / "cut", progress=False))
    assert_same_weights(whole, train(settings, tmp_path / "cut", progress=False))


def test_cross_fitting_recalibrates_on_every_star(config, tmp_path):
    settings = config(data={"folds": 2}, training={"epochs": 1})
    folder = train(settings, tmp_path / "run", progress=False)
    card = load(folder).card
    assert card["training_data"]["spectra"] == 200
    assert card["recalibrated_on"].startswith("200 spectra")
    assert sorted(p.name for p in folder.iterdir() if p.is_dir()) == ["all", "fold-0", "fold-1"]


def test_early_stopping_waits_as_long_as_it_was_told(config, tmp_path, monkeypatch):
    settings = config(training={"epochs": 30, "patience": 3, "learning_rate": 1e-9})
    train(settings, tmp_path / "run", progress=False)
    lines = (tmp_path / "run" / "all" / "metrics.jsonl").read_text().splitlines()
    assert len(lines) < 15
    assert "mad" in json.loads(lines[0])


def test_a_run_of_another_configuration_is_not_continued(config, tmp_path):
    train(config(training={"epochs": 1}), tmp_path / "run", progress=False)
    with pytest.raises(InputError, match=r"a run with another configuration"):
        train(config(training={"epochs": 2}), tmp_path / "run", progress=False)


def test_saved_and_loaded_predicts_the_same(run, val, tmp_path):
    stars, _ = val
    estimator = load(run)
    again = load(save_estimator(estimator, tmp_path / "copy"))
    one, other = estimator.estimate(stars), again.estimate(stars)
    assert_allclose(one.calibrated.mean, other.calibrated.mean)
    assert_allclose(one.calibrated.covariance, other.calibrated.covariance)
    assert_allclose(one.distance, other.distance, rtol=1e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda card: {**card, "format_version": 99}, r"version 1, found .* version 99.*Train it"),
        (lambda card: {**card, "format": "other"}, r"found other version 1"),
        (lambda card: {**card, "weights_sha256": "0" * 64}, r"expected sha256 000000000000"),
        (
            lambda card: {**card, "encoder": {**card["encoder"], "width": 16}},
            r"expected weights of this encoder",
        ),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_an_error(run, tmp_path, change, message):
    folder = save_estimator(load(run), tmp_path / "model")
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps(change(card)))
    with pytest.raises(InputError, match=message):
        load(folder)


def test_damaged_weights_are_an_error(run, tmp_path):
    folder = save_estimator(load(run), tmp_path / "model")
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"model\.safetensors: expected"):
        load(folder)


def test_a_full_disk_leaves_the_old_model(run, tmp_path, monkeypatch):
    folder = save_estimator(load(run), tmp_path / "model")
    before = (folder / "card.json").read_text()
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(InputError, match=r"expected room to write.*No space left"):
        save_estimator(load(run), folder)
    assert (folder / "card.json").read_text() == before
    assert sorted(p.name for p in folder.iterdir()) == ["card.json", "model.safetensors"]


def test_a_first_fit_comes_with_a_model(config, tmp_path):
    settings = config(encoder={"width": 16, "compact": {"functions": 8}})
    with pytest.raises(InputError, match=r"transfer\.start"):
        train(settings, tmp_path / "run", progress=False)
