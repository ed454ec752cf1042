"""Principal components and a robust ridge regression."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import RidgeCV

from spectrolabe.models.baselines.base import Baseline, Member, Pixels
from spectrolabe.models.baselines.projection import PrincipalComponents

__all__ = ["RidgeBaseline"]

PENALTIES = np.logspace(-2, 6, 17)
ROUNDS = 8  # of reweighting; the weights change by less than a per cent after that
CAUCHY = 2.0  # residual, in robust standard deviations, at which a label counts half


class RidgeBaseline(Baseline):
    """Linear in the principal components, with the penalty by leave-one-out.

    Stars far from the fit are given less weight and the fit is repeated: a few wrong training
    labels do not count.
    """

    components = 250

    def _fit(self, training: Pixels, held_out: Pixels, rng: np.random.Generator) -> Member:
        project = PrincipalComponents(training, self.components, int(rng.integers(2**31)))
        scores = project(training.flux)
        models = [_robust_ridge(scores, values) for values in training.labels.T]
        return lambda flux: np.transpose([model.predict(project(flux)) for model in models])


def _robust_ridge(scores: NDArray, values: NDArray) -> RidgeCV:
    known = np.isfinite(values)
    scores, values = scores[known], values[known]
    weight = np.ones(len(values))
    for _ in range(ROUNDS):
        model = RidgeCV(PENALTIES).fit(scores, values, sample_weight=weight)
        residual = np.abs(values - model.predict(scores))
        spread = max(1.4826 * np.median(residual), np.finfo(float).tiny)
        weight = 1.0 / (1.0 + (residual / (CAUCHY * spread)) ** 2)
    return model
