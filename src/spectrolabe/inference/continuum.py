"""The smooth curve between model flux and observed flux: a spline for each arm of a spectrum."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import BSpline

__all__ = ["Basis", "arms", "continuum_basis", "curvature_penalty"]

GAP = 0.0015  # in ln(wavelength): a wider hole between pixels parts two arms
# one coefficient for so much of ln(wavelength): 150 Å at 5000 Å below R = 5000, where wide errors
# of the flux calibration are usual, 60 Å above it, where arms are short
SPACING_LOW, SPACING_HIGH, HIGH_RESOLUTION = 0.03, 0.012, 5000.0
SHORTEST = 0.004  # arms as short as this get a straight line


class Basis(NamedTuple):
    """B-splines whose sums are continua: at each pixel at most four of the C are not 0.

    Parameters
    ----------
    values : ndarray, shape (4, M), float32
        Those of coefficients ``first`` to ``first + 3``; positive, and their sum is 1.
    runs : ndarray, shape (Q + 1,), int64
        Pixels that end the Q runs in which ``first`` is the same.
    first : ndarray, shape (Q,), int64
    arm : ndarray, shape (C,), int64
        Which arm a coefficient belongs to.
    """

    values: NDArray
    runs: NDArray
    first: NDArray
    arm: NDArray

    @property
    def size(self) -> int:
        """C coefficients."""
        return len(self.arm)

    def dense(self) -> NDArray:
        """Return all functions on all pixels, shape (C, M)."""
        full = np.zeros((self.size + 3, self.values.shape[1]), dtype=np.float32)
        for (low, high), first in zip(pairwise(self.runs), self.first, strict=True):
            full[first : first + 4, low:high] = self.values[:, low:high]
        return full[: self.size]


def arms(log_wavelength: NDArray) -> list[slice]:
    """Return the runs of pixels without a wide hole."""
    cut = np.flatnonzero(np.diff(log_wavelength) > GAP) + 1
    edges = [0, *cut.tolist(), len(log_wavelength)]
    return [slice(a, b) for a, b in pairwise(edges)]


def continuum_basis(log_wavelength: NDArray, resolution: float, order: int | None) -> Basis:
    """Return smooth functions whose sums are continua.

    Parameters
    ----------
    log_wavelength : ndarray, shape (M,)
    resolution : float
        Decides how fine the default is.
    order : int, optional
        Of each arm: 0 a constant, 1 a line, up to 3 a polynomial, beyond it a cubic spline with
        ``order + 1`` coefficients. By default by the width of the arm.
    """
    values = np.zeros((4, len(log_wavelength)), dtype=np.float32)
    index = np.zeros(len(log_wavelength), dtype=np.int64)
    arm: list[int] = []
    for number, part in enumerate(arms(log_wavelength)):
        x = log_wavelength[part]
        wanted = _count(x, resolution) if order is None else order + 1
        count = min(wanted, max(len(x) // 4, 1))
        own, first = _splines(x, count)
        values[: len(own), part] = own
        index[part] = len(arm) + first
        arm += [number] * count
    runs = np.flatnonzero(np.diff(index, prepend=-1))
    return Basis(values, np.append(runs, len(index)), index[runs], np.array(arm))


def _count(x: NDArray, resolution: float) -> int:
    width = x[-1] - x[0]
    if width < SHORTEST:
        return 2
    spacing = SPACING_HIGH if resolution >= HIGH_RESOLUTION else SPACING_LOW
    return 3 + max(round(width / spacing), 1)


def _splines(x: NDArray, count: int) -> tuple[NDArray, NDArray]:
    """B-splines of degree 3, or less if they are fewer than four: values (D, M), first (M,)."""
    degree = min(count - 1, 3)
    if degree == 0 or x[-1] == x[0]:
        return np.ones((1, len(x))), np.zeros(len(x), dtype=np.int64)
    inner = np.linspace(x[0], x[-1], count - degree + 1)
    knots = np.r_[[x[0]] * degree, inner, [x[-1]] * degree]
    matrix = BSpline.design_matrix(x, knots, degree)
    first = matrix.indices.reshape(len(x), degree + 1)[:, 0].astype(np.int64)
    return matrix.data.reshape(len(x), degree + 1).T, first


def curvature_penalty(arm: NDArray) -> NDArray:
    """Return the matrix that is the sum of squared second differences inside each arm, (C, C).

    A small multiple of it carries a continuum smoothly across pixels that cannot be used.
    """
    count = len(arm)
    matrix = 1e-3 * np.eye(count)
    for i in range(count - 2):
        if arm[i] == arm[i + 2]:
            row = np.zeros(count)
            row[i : i + 3] = 1.0, -2.0, 1.0
            matrix += np.outer(row, row)
    return matrix
