"""Corrections that are linear in their coefficients: polynomials and splines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import BSpline

from spectrolabe.homogenise.functions import robust_weights

__all__ = ["Linear"]

ROUNDS = 5  # of weights
RIDGE = 0.03  # stars: what the prior counts
KNOTS = 5  # intervals of a spline along each input
CUBIC = 3


@dataclass(frozen=True, eq=False)
class Linear:
    """A sum of columns, with coefficients that are drawn to 0 by less than one star does.

    Shrinking them as much as the evidence of the data asks for (MacKay 1992) left more of the
    trends of real catalogues; that functions do not run away is a matter of where they are used.

    Parameters
    ----------
    kind : str
        ``polynomial``: all products up to ``order``. ``spline``: cubic splines of each input and
        the products of any two.
    order : int
        Of the polynomial.
    low, high : ndarray, shape (D,)
        Range of the splines.
    coefficients : ndarray, shape (K,)
        The first is the constant.
    """

    kind: str
    order: int
    low: NDArray
    high: NDArray
    coefficients: NDArray

    @classmethod
    def fit(cls, kind: str, order: int, x: NDArray, y: NDArray, weight: NDArray) -> Linear:
        """Return the function of stars at x, shape (N, D), with differences y, shape (N,)."""
        empty = cls(kind, order, x.min(axis=0), x.max(axis=0), np.zeros(0))
        return empty.again(x, y, weight)

    def again(self, x: NDArray, y: NDArray, weight: NDArray) -> Self:
        """Return the same with coefficients of other stars."""
        from sklearn.linear_model import Ridge

        columns, robust = self._columns(x), np.ones(len(y))
        for _ in range(ROUNDS):
            model = Ridge(RIDGE).fit(columns, y, sample_weight=weight * robust)
            robust = robust_weights((y - model.predict(columns)) * np.sqrt(weight))
        coefficients = np.concatenate([[model.intercept_], model.coef_])
        return type(self)(self.kind, self.order, self.low, self.high, coefficients)

    def __call__(self, x: NDArray) -> NDArray:
        return self.coefficients[0] + self._columns(x) @ self.coefficients[1:]

    @classmethod
    def together(cls, fits: Sequence[Self], x: NDArray) -> NDArray:
        """Return the values of several, shape (K, N); columns are computed once."""
        coefficients = np.stack([one.coefficients for one in fits])
        return coefficients[:, :1] + coefficients[:, 1:] @ fits[0]._columns(x).T

    @property
    def text(self) -> str:
        """Kind and size."""
        of = f" of order {self.order}" if self.kind == "polynomial" else ""
        return f"{self.kind}{of}, {len(self.coefficients)} coefficients"

    def _columns(self, x: NDArray) -> NDArray:
        """Columns without the constant, shape (N, K - 1)."""
        if self.kind == "polynomial":
            return _products(list(x.T), self.order)
        knots = np.arange(-CUBIC, KNOTS + CUBIC + 1) / KNOTS
        share = np.clip((x - self.low) / (self.high - self.low), 0.0, 1.0)
        single = [BSpline.design_matrix(one, knots, CUBIC).toarray() for one in share.T]
        pairs = [
            (a[:, :, None] * b[:, None, :]).reshape(len(x), -1)
            for i, a in enumerate(single)
            for b in single[i + 1 :]
        ]
        return np.hstack([*single, *pairs])

    def state(self) -> tuple[dict[str, Any], dict[str, NDArray]]:
        """As `spectrolabe.homogenise.functions.Function`."""
        arrays = {"low": self.low, "high": self.high, "coefficients": self.coefficients}
        return {"kind": self.kind, "order": self.order}, arrays

    @classmethod
    def from_state(cls, plain: Mapping[str, Any], arrays: Mapping[str, NDArray]) -> Self:
        """As `spectrolabe.homogenise.functions.Function`."""
        return cls(
            str(plain["kind"]),
            int(plain["order"]),
            *(arrays[k] for k in ("low", "high", "coefficients")),
        )


def _products(axes: list[NDArray], order: int) -> NDArray:
    found = [
        np.prod([axes[i] for i in chosen], axis=0)
        for degree in range(1, order + 1)
        for chosen in combinations_with_replacement(range(len(axes)), degree)
    ]
    return np.column_stack(found)
