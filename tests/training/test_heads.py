"""Every head through the whole of it: training, recalibration, checkpoint, prediction."""

from __future__ import annotations

import numpy as np
import pytest

from spectrolabe.models.checkpoint import load
from spectrolabe.spectra.store import open_store
from spectrolabe.training.trainer import train
from spectrolabe.validation.distributions import coverage

HEADS = {
    "binned": {"kind": "binned", "bins": 32, "asymmetric": True, "embedding": 0.3},
    "gaussian": {"embedding": 0.3, "embedding_width": 4},
}


@pytest.mark.parametrize("kind", HEADS)
def test_a_model_of_any_head_is_trained_recalibrated_saved_and_asked(kind, config, store, tmp_path):
    settings = config(
        data={"labels": ["teff", "logg"], "selection": 0.0, "calibration": 0.35},
        encoder={"head": HEADS[kind]},
        training={"epochs": 3},
    )
    model = load(train(settings, tmp_path / "run", progress=False))
    opened = open_store(store)
    rows = np.flatnonzero(opened.column("split") == "val")
    truth = opened.labels.take(rows).select(("teff", "logg"))
    estimate = model.estimate([[opened[int(i)]] for i in rows])
    posterior = estimate.calibrated
    assert (posterior.levels is not None) == (kind == "binned")
    inside = coverage(posterior, truth.values)  # 40 stars
    assert (inside > 0.45).all(), inside
    assert (inside < 0.92).all(), inside
    found = model.neighbours(estimate, 5)
    assert set(found.star_id.ravel()) <= set(opened.labels.star_id)
    assert found.labels.names == ("teff", "logg")
