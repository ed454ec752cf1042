"""Corrections by boosted trees (XGBoost), stopped early; smoothed if that is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, qmc

__all__ = ["Trees"]

SETTINGS: dict[str, Any] = {
    "objective": "reg:pseudohubererror",
    "max_depth": 4,
    "eta": 0.05,
    "subsample": 0.7,
    "min_child_weight": 20,
    "base_score": 0.0,
    "tree_method": "hist",
    "seed": 0,
}
ROUNDS, PATIENCE = 1000, 50
POINTS = 16  # of the kernel
BEYOND = 4.0  # spreads to which differences are cut: the gradient of outliers, and no more


@dataclass(frozen=True, eq=False)
class Trees:
    """A forest that grew until other stars gained nothing from it.

    Parameters
    ----------
    booster : bytes
        As XGBoost saves it.
    rounds : int
        Trees in it.
    smooth : float
        Width of the normal kernel over which it is averaged, in spreads of the inputs; 0: none.
    """

    booster: bytes
    rounds: int
    smooth: float

    @classmethod
    def fit(
        cls,
        x: NDArray,
        y: NDArray,
        weight: NDArray,
        unseen: NDArray,
        smooth: float = 0.0,
    ) -> Trees:
        """Return trees; ``unseen`` stars, shape (N,) of bool, say when to stop."""
        import xgboost as xgb

        seen, others = (xgb.DMatrix(x[u], np.clip(y[u], -BEYOND, BEYOND), weight=weight[u])
                        for u in (~unseen, unseen))  # fmt: skip
        grown = xgb.train(
            SETTINGS, seen, ROUNDS, evals=[(others, "unseen")],
            early_stopping_rounds=PATIENCE, verbose_eval=False,
        )  # fmt: skip
        return cls(b"", grown.best_iteration + 1, smooth).again(x, y, weight)

    def again(self, x: NDArray, y: NDArray, weight: NDArray) -> Self:
        """Return as many trees of other stars."""
        import xgboost as xgb

        stars = xgb.DMatrix(x, np.clip(y, -BEYOND, BEYOND), weight=weight)
        grown = xgb.train(SETTINGS, stars, self.rounds)
        return type(self)(bytes(grown.save_raw("ubj")), self.rounds, self.smooth)

    @cached_property
    def _booster(self) -> Any:
        import xgboost as xgb

        return xgb.Booster(model_file=bytearray(self.booster))

    def __call__(self, x: NDArray) -> NDArray:
        steps = self._steps(x.shape[1])
        found = [self._booster.inplace_predict(x + step) for step in steps]
        return np.mean(found, axis=0, dtype=float)

    def _steps(self, size: int) -> NDArray:
        """Where the kernel is looked at, shape (S, D): spread evenly, and none without a kernel."""
        if not self.smooth:
            return np.zeros((1, size))
        points = qmc.Sobol(size, seed=0).random(POINTS)
        return self.smooth * norm.ppf(np.clip(points, 0.01, 0.99))

    @classmethod
    def together(cls, fits: Sequence[Self], x: NDArray) -> NDArray:
        """Return the values of several, shape (K, N)."""
        return np.stack([one(x) for one in fits])

    @property
    def text(self) -> str:
        """Size."""
        smooth = f", smoothed over {self.smooth:g}" if self.smooth else ""
        return f"{self.rounds} trees of depth {SETTINGS['max_depth']}{smooth}"

    def state(self) -> tuple[dict[str, Any], dict[str, NDArray]]:
        """As `spectrolabe.homogenise.functions.Function`."""
        plain = {"rounds": self.rounds, "smooth": self.smooth}
        return plain, {"booster": np.frombuffer(self.booster, np.uint8)}

    @classmethod
    def from_state(cls, plain: Mapping[str, Any], arrays: Mapping[str, NDArray]) -> Self:
        """As `spectrolabe.homogenise.functions.Function`."""
        return cls(arrays["booster"].tobytes(), int(plain["rounds"]), float(plain["smooth"]))
