"""Catalogues whose errors are known, because they were put in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from astropy.table import Table

from spectrolabe.catalogue import build_catalogue, write_catalogue
from spectrolabe.models.posterior import LabelPosterior

NAMES = ("teff", "logg", "fe_h", "mg_fe")
SIGMA = np.array([50.0, 0.1, 0.05, 0.03])
PROVENANCE = {"model": "made-up", "model_sha256": "0123456789abcdef", "command": "predict x"}


def true_labels(count: int, seed: int = 0) -> np.ndarray:
    """Stars from 4500 to 7000 K, shape (N, 4)."""
    rng = np.random.default_rng(seed)
    return rng.uniform((4500, 1.0, -1.0, -0.1), (7000, 5.0, 0.3, 0.4), (count, 4))


def catalogue(values: np.ndarray, survey: str, star_id: list[str], **columns: object) -> Table:
    """Rows of one survey as `predict` writes them, with stated errors `SIGMA`."""
    flags = np.asarray(columns.pop("flags", np.zeros(len(values), dtype=int)))
    posterior = LabelPosterior.independent(NAMES, values, SIGMA, star_id)
    posterior = posterior.without(np.isnan(values))
    identity = {
        "spectrum_id": [f"{survey}-{i}" for i in range(len(values))],
        "survey": [survey] * len(values),
        "file": [f"{survey}-{i}.fits" for i in range(len(values))],
        "n_spectra": np.ones(len(values), dtype=int),
        "snr": np.full(len(values), 80.0),
        **columns,
    }
    return build_catalogue(posterior, posterior, identity, flags, np.zeros(values.shape, int))


def write(table: Table, path: Path) -> Path:
    """Write a catalogue with a provenance."""
    write_catalogue(table, path, PROVENANCE)
    return path


def truth_table(values: np.ndarray, star_id: list[str]) -> Table:
    """A row a star."""
    return Table({"star_id": star_id, **dict(zip(NAMES, values.T, strict=True))})
