"""A store of made-up stars whose labels can be read from their spectra."""

from __future__ import annotations

import numpy as np
import pytest

from spectrolabe.config import TrainConfig
from spectrolabe.spectra.store import StoreWriter
from tests.models.stars import made_up


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    """240 stars; every tenth lacks its metallicity; one star in four has two spectra."""
    path = tmp_path_factory.mktemp("store") / "made-up"
    rng = np.random.default_rng(7)
    stars, labels = made_up(rng, 240, step=6e-4)
    with StoreWriter(path, labels.names) as writer:
        for i, (star, values) in enumerate(zip(stars, labels.values, strict=True)):
            known = values.copy()
            if i % 10 == 0:
                known[2] = np.nan
            identity = f"star{i - 1}" if i % 4 == 1 else f"star{i}"
            spectrum = star[0].replace(star_id=identity)
            writer.append(
                spectrum,
                values=dict(zip(labels.names, known, strict=True)),
                split="val" if i >= 200 else "train",
                file=f"s{i}.fits",
            )
    return path


@pytest.fixture
def config(store):
    """A small, quick configuration."""

    def make(**changes) -> TrainConfig:
        tree = {
            "name": "small",
            "data": {"store": str(store), "split": "train", "calibration": 0.25},
            "encoder": {"width": 16, "latents": 4, "blocks": 1, "heads": 2, "dropout": 0.0},
            "training": {"epochs": 4, "batch_size": 16, "learning_rate": 3e-3},
        }
        for key, value in changes.items():
            tree[key] = {**tree.get(key, {}), **value}
        return TrainConfig.model_validate(tree)

    return make
