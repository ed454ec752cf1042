"""What a correction is a function of: labels and other columns, on comparable scales."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spectrolabe.errors import InputError
from spectrolabe.labels import read_only

__all__ = ["Inputs"]

SOLAR = 5040.0  # K: temperatures enter as 5040 K / Teff
LEAST = 1e-6  # a spread below this share of the value is none


@dataclass(frozen=True, eq=False)
class Inputs:
    """Columns of a catalogue, each less its median over the overlap, over its spread there.

    Parameters
    ----------
    names : tuple of str
        D labels or other columns; ``teff`` enters as 5040 K / Teff.
    centre, width : ndarray, shape (D,)
    low, high : ndarray, shape (D,)
        Range of the overlap, in units of the width: functions stay at their edge value beyond.
    theirs : ndarray, shape (D,)
        How far between the target's value, 0, and the corrected one, 1, an input is.
    """

    names: tuple[str, ...]
    centre: NDArray
    width: NDArray
    low: NDArray
    high: NDArray
    theirs: NDArray

    def __post_init__(self) -> None:
        for key in ("centre", "width", "low", "high", "theirs"):
            object.__setattr__(self, key, read_only(getattr(self, key), np.float64))

    @classmethod
    def of(cls, names: tuple[str, ...], values: NDArray, theirs: NDArray) -> Inputs:
        """Return the scales of the overlap.

        Parameters
        ----------
        names : tuple of str
        values : ndarray, shape (N, D)
            Finite.
        theirs : ndarray, shape (D,)

        Raises
        ------
        InputError
            If a column is constant.
        """
        x = _natural(names, values)
        centre, width = np.median(x, axis=0), np.std(x, axis=0)
        for name, middle, spread in zip(names, centre, width, strict=True):
            if not spread > LEAST * max(abs(middle), LEAST):
                raise InputError(
                    name,
                    expected="a column that is not the same for all shared stars",
                    found=f"{middle:g} throughout",
                    fix="Leave it out of the inputs (--inputs).",
                )
        scaled = (x - centre) / width
        return cls(names, centre, width, scaled.min(axis=0), scaled.max(axis=0), theirs)

    def scaled(self, values: NDArray) -> NDArray:
        """Return values, shape (N, D), in units of the spread of the overlap."""
        return (_natural(self.names, values) - self.centre) / self.width

    def inside(self, scaled: NDArray) -> NDArray:
        """Return scaled values moved to the edge of the overlap where they are beyond it."""
        return np.clip(scaled, self.low, self.high)


def _natural(names: tuple[str, ...], values: NDArray) -> NDArray:
    found = np.array(values, dtype=float)
    for i, name in enumerate(names):
        if name == "teff":
            found[:, i] = SOLAR / found[:, i]
    return found
