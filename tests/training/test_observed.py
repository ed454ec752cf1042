"""Learning what observed stars show and computed spectra do not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spectrolabe.labels import Labels
from spectrolabe.models.first_fit import first_fit
from spectrolabe.models.pixels import PixelRow, collate
from spectrolabe.models.tokens import tokenise
from spectrolabe.training.observed import learn_observed
from tests.models.compact import HIGH, LABELS, LOW, compact_lines, flux_of

RESOLUTION, SNR = 1800.0, 100.0
NAMES = ("teff", "logg", "fe_h")


def unknown(x, main):
    """What no computed spectrum has: a line of a depth of its own for each label."""
    depths = 0.09 + 0.02 * main[0] - 0.02 * main[1] + 0.01 * main[2]
    out = np.zeros(len(x))
    for place in np.linspace(np.log(LOW) + 0.02, np.log(HIGH) - 0.02, 6):
        out -= depths * np.exp(-0.5 * ((x - place) / 4e-4) ** 2)
    return out


class Stars:
    """Stars of straight labels, observed with lines that no computed spectrum has."""

    def __init__(self, count: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.values = rng.normal(size=(count, LABELS)) * 0.6
        self.x = np.arange(np.log(LOW * 1.001), np.log(HIGH / 1.001), 1 / RESOLUTION / 3.3)
        noise = rng.normal(size=(count, len(self.x))) / SNR
        self.flux = [
            flux_of(one, self.x, RESOLUTION) + unknown(self.x, one[:3]) + n
            for one, n in zip(self.values, noise, strict=True)
        ]
        ids = np.array([f"s{i}" for i in range(count)])
        self.labels = Labels(NAMES, self.values[:, :3], np.full((count, 3), np.nan), ids)

    def pixels(self, rows):
        ivar = np.full(len(self.x), SNR**2, np.float32)
        return [PixelRow(np.exp(self.x), self.flux[i], ivar, RESOLUTION, 0.0) for i in rows]

    def fitted(self, compact):
        tokens = tokenise(collate([[row] for row in self.pixels(range(len(self.flux)))]))
        each = torch.arange(len(self.flux))
        return first_fit(compact, [tokens], each, each)

    def error(self, fit):
        return np.abs(fit.labels.numpy() - self.values)[:, :3].mean()


@pytest.fixture(scope="module")
def many():
    return Stars(150, 1)


def test_unknown_lines_are_learnt_and_new_stars_fitted_better(many):
    compact, others = compact_lines(prior=0.6), Stars(30, 2)
    before = others.fitted(compact)
    learn_observed(compact, many, 0, progress=False)
    after = others.fitted(compact)
    assert after.misfit.median() < 1.2 < before.misfit.median()
    assert others.error(after) < 0.9 * others.error(before)


def test_few_stars_teach_hardly_any_slopes(many):
    sizes = []
    for count in (3, 150):
        compact = compact_lines(prior=0.6)
        learn_observed(compact, Stars(count, 3), 0, progress=False)
        sizes.append(float(compact.observed.rows[:, 1:].abs().mean()))
    assert sizes[0] < 0.5 * sizes[1]


def test_stars_beyond_the_computed_ones_or_without_labels_teach_nothing(many):
    compact = compact_lines()
    stars = Stars(4, 4)
    values = stars.values[:, :3].copy()
    values[:2, 0], values[2:, 1] = np.nan, 7.0
    stars.labels = Labels(NAMES, values, np.full(values.shape, np.nan), stars.labels.star_id)
    learn_observed(compact, stars, 0, progress=False)
    assert compact.observed.count == 0


def test_it_is_added_to_what_was_learnt_before(many):
    once, twice = compact_lines(prior=0.6), compact_lines(prior=0.6)
    learn_observed(once, many, 0, progress=False)
    for _ in range(2):
        learn_observed(twice, many, 0, progress=False)
    change = (twice.observed.rows - once.observed.rows)[:, 0].abs().max()
    assert change < 0.4 * once.observed.rows[:, 0].abs().max()
    assert (twice.observed.low < twice.observed.high).all()
