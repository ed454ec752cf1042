"""Functions of scaled inputs that a correction may be, each with one way to be fitted.

All are fitted to differences in units of their spread, with weights, robustly: a few per cent of
the rows of any catalogue are wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

__all__ = ["Function", "robust_weights", "spread_of"]

SOFT, GONE = 1.5, 5.0  # spreads beyond which a star counts less, and nothing


class Function(Protocol):
    """A fitted function, shape (N, D) to (N,)."""

    @property
    def text(self) -> str:
        """What it is, to be read."""

    def __call__(self, x: NDArray) -> NDArray:
        """Return its values."""

    @classmethod
    def together(cls, fits: Sequence[Self], x: NDArray) -> NDArray:
        """Return the values of several functions of the same structure, shape (K, N)."""

    def again(self, x: NDArray, y: NDArray, weight: NDArray) -> Self:
        """Return a function of the same structure, fitted to other stars."""

    def state(self) -> tuple[dict[str, Any], dict[str, NDArray]]:
        """Return all that `from_state` needs: JSON types, and arrays."""

    @classmethod
    def from_state(cls, plain: Mapping[str, Any], arrays: Mapping[str, NDArray]) -> Self:
        """Return the function that a state is of."""


def spread_of(values: NDArray) -> float:
    """Return 1.4826 times the median distance from 0; where that is 0, the standard deviation."""
    spread = 1.4826 * float(np.median(np.abs(values)))
    return spread or max(float(np.std(values)), 1e-12)


def robust_weights(residual: NDArray) -> NDArray:
    """Return 1 for stars near the median of the residuals, less farther off, 0 for outliers."""
    middle = np.median(residual)
    off = np.abs(residual - middle) / spread_of(residual - middle)
    return np.where(off > GONE, 0.0, np.minimum(1.0, SOFT / np.maximum(off, 1e-12)))
