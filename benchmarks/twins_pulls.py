"""Widths of pulls of labels, and how well so few stars can tell and set them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pages import table
from spectrolabe.models.estimator import Estimator
from spectrolabe.models.uncertainty import Recalibration
from spectrolabe.training.twin_run import Visits
from spectrolabe.validation.metrics import mad
from twins import NAMES
from twins_visits import BINS, MAIN, Said, Test

__all__ = ["pulls"]

DRAWS = 60  # of the bootstraps


def pulls(test: Test, model: Estimator, calibration: Visits, groups: NDArray) -> str:
    """Widths of pulls with their errors: by the test stars, and by the stars that set them.

    ``groups`` are numbers of stars, those of a cluster the same: shape (P,).
    """
    calibration = calibration.take(calibration.labelled)
    scale = model.scale
    columns = [scale.names.index(name) for name in MAIN]
    width = scale.width[columns]
    none = _none(len(scale.names))
    bare = Estimator(model.encoder, scale, none, model.coverage, model.card)
    seen = [[calibration.store[int(i)]] for i in calibration.rows]
    said, known = Said.of(bare, [[one] for one in test.visits]), bare.predict(seen).select(MAIN)
    truth = calibration.labels.values[:, [calibration.labels.names.index(n) for n in MAIN]]
    residual, sigma = (truth - known.mean) / width, known.sigma / width
    snr = calibration.store.column("snr")[calibration.rows]
    place = [NAMES.index(name) for name in MAIN]
    error = (test.truth - said.mean)[:, place] / width
    own = said.sigma[:, place] / width
    stars = np.unique(calibration.labels.star_id, return_inverse=True)[1]
    rng = np.random.default_rng(11)

    def widths(kept: NDArray, looked_at: NDArray) -> NDArray:
        found = Recalibration.fit(residual[kept], sigma[kept], snr[kept])
        z = (error - found.shift) / found.sigma(own, test.snr)
        inside = [looked_at[test.inside(b)[looked_at]] for b in range(len(BINS))]
        return np.array([[mad(z[here, j]) for j in range(len(MAIN))] for here in inside])

    every, looked_at = np.arange(len(residual)), np.arange(len(error))
    found = widths(every, looked_at)
    by_test = np.std([widths(every, _again(groups, rng)) for _ in range(DRAWS)], axis=0)
    by_calibration = np.std([widths(_again(stars, rng), looked_at) for _ in range(DRAWS)], axis=0)
    rows = []
    for b, (low, high) in enumerate(BINS):
        here = (snr >= low) & (snr < high)
        counts = [len(np.unique(groups[test.inside(b)])), len(np.unique(stars[here]))]
        cells = [
            f"{found[b, j]:.2f} ± {by_test[b, j]:.2f} ± {by_calibration[b, j]:.2f}"
            for j in range(len(MAIN))
        ]
        rows.append([f"{low:.0f}–{high:.0f}", *map(str, counts), *cells])
    return table(["S/N", "stars looked at", "stars that set them", *MAIN], rows)


def _none(labels: int) -> Recalibration:
    zero, one = np.zeros(labels), np.ones(labels)
    return Recalibration(zero, one, zero, zero)


def _again(groups: NDArray, rng: np.random.Generator) -> NDArray:
    """Rows of groups that are drawn again."""
    count = groups.max() + 1
    times = np.bincount(rng.integers(0, count, count), minlength=count)
    return np.repeat(np.arange(len(groups)), times[groups])
