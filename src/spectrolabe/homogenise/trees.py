"""Corrections by boosted trees (XGBoost), stopped early."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

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
    monotone : tuple of int
        1 where the correction may only grow along an input, -1 where it may only fall.
    """

    booster: bytes
    rounds: int
    monotone: tuple[int, ...]

    @classmethod
    def fit(
        cls,
        x: NDArray,
        y: NDArray,
        weight: NDArray,
        unseen: NDArray,
        monotone: tuple[int, ...] = (),
    ) -> Trees:
        """Return trees; ``unseen`` stars, shape (N,) of bool, say when to stop."""
        import xgboost as xgb

        empty = cls(b"", ROUNDS, monotone)
        seen, others = (xgb.DMatrix(x[u], np.clip(y[u], -BEYOND, BEYOND), weight=weight[u])
                        for u in (~unseen, unseen))  # fmt: skip
        grown = xgb.train(
            empty._settings, seen, ROUNDS, evals=[(others, "unseen")],
            early_stopping_rounds=PATIENCE, verbose_eval=False,
        )  # fmt: skip
        return cls(b"", grown.best_iteration + 1, monotone).again(x, y, weight)

    def again(self, x: NDArray, y: NDArray, weight: NDArray) -> Self:
        """Return as many trees of other stars."""
        import xgboost as xgb

        stars = xgb.DMatrix(x, np.clip(y, -BEYOND, BEYOND), weight=weight)
        grown = xgb.train(self._settings, stars, self.rounds)
        return type(self)(bytes(grown.save_raw("ubj")), self.rounds, self.monotone)

    @property
    def _settings(self) -> dict[str, Any]:
        extra = {"monotone_constraints": self.monotone} if any(self.monotone) else {}
        return SETTINGS | extra

    @cached_property
    def _booster(self) -> Any:
        import xgboost as xgb

        return xgb.Booster(model_file=bytearray(self.booster))

    def __call__(self, x: NDArray) -> NDArray:
        return np.asarray(self._booster.inplace_predict(x), dtype=float)

    @classmethod
    def together(cls, fits: Sequence[Self], x: NDArray) -> NDArray:
        """Return the values of several, shape (K, N)."""
        return np.stack([one(x) for one in fits])

    @property
    def text(self) -> str:
        """Size."""
        return f"{self.rounds} trees of depth {SETTINGS['max_depth']}"

    def state(self) -> tuple[dict[str, Any], dict[str, NDArray]]:
        """As `spectrolabe.homogenise.functions.Function`."""
        plain = {"rounds": self.rounds, "monotone": list(self.monotone)}
        return plain, {"booster": np.frombuffer(self.booster, np.uint8)}

    @classmethod
    def from_state(cls, plain: Mapping[str, Any], arrays: Mapping[str, NDArray]) -> Self:
        """As `spectrolabe.homogenise.functions.Function`."""
        return cls(arrays["booster"].tobytes(), int(plain["rounds"]), tuple(plain["monotone"]))
