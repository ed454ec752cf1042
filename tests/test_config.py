"""Configurations: strict keys, overrides, messages that help."""

from __future__ import annotations

from pathlib import Path

import pytest

from spectrolabe.config import (
    DenoiserTrainConfig,
    EmulatorTrainConfig,
    GridConfig,
    TrainConfig,
    load_config,
    load_training,
)
from spectrolabe.config.sky import SkyConfig
from spectrolabe.errors import InputError

MINIMAL = 'name = "test"\n[data]\nstore = "somewhere"\n'


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "c.toml"
    path.write_text(text)
    return path


KINDS = {
    "grid": GridConfig,
    "emulator-grid": GridConfig,
    "library": GridConfig,
    "sky": SkyConfig,
    "demo-sky": SkyConfig,
    "twins-sky": SkyConfig,
}
"""What the files under configs/ configure, where it is not a training."""


def test_the_released_configurations_are_valid():
    for path in (Path(__file__).parents[1] / "configs").glob("*.toml"):
        kind = KINDS.get(path.stem)
        config = load_config(path, (), kind) if kind else load_training(path)
        assert path.stem.startswith(getattr(config, "name", path.stem))


def test_a_training_with_grids_is_that_of_an_emulator(tmp_path):
    assert isinstance(load_training(written(tmp_path, MINIMAL)), TrainConfig)
    path = written(tmp_path, 'name = "test"\n[grids]\ngrids = ["a.grid"]\n')
    config = load_training(path, ["training.epochs=7"])
    assert isinstance(config, EmulatorTrainConfig)
    assert config.training.epochs == 7
    with pytest.raises(InputError, match=r"\[grids\].*found 'lwo'"):
        load_training(path, ["grids.lwo=4000"])


def test_a_training_with_a_denoiser_is_that_of_one(tmp_path):
    path = written(tmp_path, 'name = "d"\n[denoiser]\nencoder = "unified-v1"\n[sky]\nsteps = 3\n')
    config = load_training(path, ["denoiser.channels=8"])
    assert isinstance(config, DenoiserTrainConfig)
    assert (config.denoiser.channels, config.sky.steps) == (8, 3)


def test_overrides(tmp_path):
    config = load_config(
        written(tmp_path, MINIMAL),
        ["training.epochs=7", "data.store=/a/b", "data.labels=['teff']", "encoder.dropout=0.3"],
    )
    assert config.training.epochs == 7
    assert config.data.store == "/a/b"
    assert config.data.labels == ("teff",)
    assert config.encoder.dropout == 0.3


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        (MINIMAL + "epoch = 3\n", [], r"c\.toml, \[data\]: expected a known key .* found 'epoch'"),
        (
            MINIMAL + "[training]\nepoch = 3\n",
            [],
            r"\[training\].*found 'epoch'\. Did you mean 'epochs'\?",
        ),
        (MINIMAL, ["training.epochs=-1"], r"training\.epochs: .*greater than or equal to 1.*-1"),
        (MINIMAL, ["encoder.heads=3"], r"encoder: .*heads \(3\) must divide width"),
        (MINIMAL, ["data.folds=1"], r"data: .*folds must be 0"),
        (MINIMAL, ["epochs"], r"expected section\.key=value"),
        ('name = "x"\n', [], r"data: expected a value: this key has no default, found nothing"),
        ("name = \n", [], r"c\.toml: expected a TOML file"),
    ],
)
def test_mistakes_are_named(tmp_path, text, overrides, message):
    with pytest.raises(InputError, match=message):
        load_config(written(tmp_path, text), overrides)


def test_a_missing_file(tmp_path):
    with pytest.raises(InputError, match=r"no\.toml: expected a configuration file, found no such"):
        load_config(tmp_path / "no.toml")
