"""Normal equations of one spectrum, with its continuum solved for and taken out.

The model is flux times a continuum that is linear in C coefficients. At given flux the best
coefficients are exact; what is left of the normal equations of all other parameters after they are
eliminated (the Schur complement) says how well those are known with the continuum unknown
(Golub & Pereyra 1973, SIAM J. Numer. Anal. 10, 413, in Kaufman's form).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numba as nb
import numpy as np
from numpy.typing import NDArray
from scipy.linalg.blas import ssyrk

from spectrolabe.inference.continuum import Basis

__all__ = ["HUBER", "Data", "Solved", "normal_equations", "smooth_level", "solve_continuum"]

HUBER = 3.0  # standard deviations beyond which a residual counts with its size, not its square
ROUNDS = 2  # of new weights for each solution of the continuum
FIRST_ROUNDS = 12  # of the first one, which begins without weights
LEVEL_ROUNDS = 6
NO_LIMIT = 1e30


class Data(NamedTuple):
    """One spectrum of one star, as the fit sees it.

    Parameters
    ----------
    flux : ndarray, shape (M,), float32
        Of order 1.
    root : ndarray, shape (M,), float32
        1 / sigma; 0 where a pixel must not be used.
    basis : Basis
        Functions whose sums are continua.
    ridge : ndarray, shape (C, C)
        Prior precision of their coefficients.
    """

    flux: NDArray
    root: NDArray
    basis: Basis
    ridge: NDArray


class Solved(NamedTuple):
    """The continuum at given model flux.

    Parameters
    ----------
    value : float
        Half of chi2, with residuals beyond `HUBER` counting less if the fit is robust.
    coefficients : ndarray, shape (C,)
    continuum : ndarray, shape (M,), float32
    residual : ndarray, shape (M,), float32
        (observed - model) / sigma.
    weight : ndarray, shape (M,), float32
        Square roots of the robust weights; 1 if the fit is not robust.
    inner : ndarray, shape (M,), float32
        Flux / sigma * weight: what a function of the basis is multiplied by.
    lower : ndarray, shape (C, C)
        Cholesky factor of the normal equations of the coefficients.
    """

    value: float
    coefficients: NDArray
    continuum: NDArray
    residual: NDArray
    weight: NDArray
    inner: NDArray
    lower: NDArray


def solve_continuum(
    data: Data, flux: NDArray, weight: NDArray | None, *, robust: bool, rounds: int = ROUNDS
) -> Solved:
    """Return the best continuum for a model flux.

    Parameters
    ----------
    data : Data
    flux : ndarray, shape (M,), float32
        Of the model, without continuum.
    weight : ndarray, shape (M,), optional
        Robust weights to begin with, as square roots.
    robust : bool
        Whether large residuals count less.
    rounds : int
        How often the robust weights are renewed.
    """
    if weight is None or not robust:
        weight = np.ones(len(flux), dtype=np.float32)
    basis = data.basis
    arrays = basis.values, basis.runs, basis.first
    turns = rounds if robust else 0
    limit = HUBER if robust else NO_LIMIT
    value, coefficients, *rest = _solve(
        data.flux, data.root, flux, weight.copy(), *arrays, data.ridge, turns, limit
    )
    value += 0.5 * float(coefficients @ data.ridge @ coefficients)
    return Solved(value, coefficients, *rest)


def normal_equations(
    data: Data, solved: Solved, slopes: tuple[NDArray, ...]
) -> tuple[NDArray, NDArray]:
    """Return gradient, shape (P,), and curvature, shape (P, P), with the continuum taken out.

    Parameters
    ----------
    data : Data
    solved : Solved
    slopes : tuple of ndarray, shape (A, M), float32
        Of the model flux without continuum with all P parameters, in blocks.
    """
    scale = solved.continuum * data.root * solved.weight
    columns = np.empty((sum(map(len, slopes)), len(scale)), dtype=np.float32)
    row = 0
    for block in slopes:
        np.multiply(block, scale, out=columns[row : row + len(block)])
        row += len(block)
    basis = data.basis
    gradient, half, rest = _eliminate(
        columns,
        solved.residual * solved.weight,
        solved.inner,
        basis.values,
        basis.runs,
        basis.first,
        data.ridge @ solved.coefficients,
        solved.lower,
    )
    upper = ssyrk(1.0, columns.T, trans=1).astype(np.float64)
    return gradient + half @ rest, np.triu(upper) + np.triu(upper, 1).T - half @ half.T


def smooth_level(flux: NDArray, good: NDArray, basis: Basis) -> NDArray:
    """Return a smooth curve through most of the good pixels, whatever a few of them say, (M,)."""
    ones, count = np.ones(len(flux), dtype=np.float32), len(basis.arm)
    ridge = 1e-4 * good.sum() / count * np.eye(count)
    weight = good.astype(np.float32)
    for _ in range(LEVEL_ROUNDS):
        arrays = basis.values, basis.runs, basis.first
        _, _, level, *_ = _solve(flux, weight, ones, ones.copy(), *arrays, ridge, 0, NO_LIMIT)
        distance = np.abs(flux - level)
        typical = max(float(np.median(distance[good])), 1e-6)
        weight = np.where(good, 1 / np.sqrt(np.maximum(distance / typical, 1.0)), 0.0)
        weight = weight.astype(np.float32)
    return np.asarray(level)


jit = nb.njit(cache=True, fastmath=True, error_model="numpy", nogil=True)


@jit
def _solve(  # type: ignore[no-untyped-def]
    observed, root, flux, weight, values, runs, first, ridge, rounds, limit
):
    """All of `Solved`; ``weight`` is renewed ``rounds`` times."""
    pixels, count = flux.size, ridge.shape[0]
    continuum, residual, inner = np.empty_like(flux), np.empty_like(flux), np.empty_like(flux)
    lower, coefficients = np.empty((count, count)), np.empty(count)
    most = np.float32(limit)
    for turn in range(rounds + 1):
        for m in range(pixels):
            inner[m] = flux[m] * root[m] * weight[m]
        matrix, right = _normal(observed, root, weight, inner, values, runs, first, count)
        _factor(matrix, ridge, lower)
        coefficients = _upwards(lower, _downwards(lower, right))
        _curve(coefficients.astype(np.float32), values, runs, first, continuum)
        for m in range(pixels):
            residual[m] = root[m] * (observed[m] - continuum[m] * flux[m])
        if turn < rounds:
            for m in range(pixels):
                weight[m] = np.sqrt(most / max(abs(residual[m]), most))
    value = 0.0
    for m in range(pixels):
        size = abs(residual[m])
        inside = min(size, most)
        value += inside * (size - np.float32(0.5) * inside)
    return value, coefficients, continuum, residual, weight, inner, lower


@jit
def _normal(  # type: ignore[no-untyped-def]
    observed, root, weight, inner, values, runs, first, count
):
    """Normal equations of the coefficients: matrix (C, C) and right side (C,)."""
    matrix, right = np.zeros((count + 3, count + 3)), np.zeros(count + 3)
    for q in range(first.size):
        low, high, c = runs[q], runs[q + 1], first[q]
        for k in range(4):
            total = np.float32(0.0)
            for m in range(low, high):
                total += values[k, m] * inner[m] * root[m] * weight[m] * observed[m]
            right[c + k] += total
            for i in range(k + 1):
                total = np.float32(0.0)
                for m in range(low, high):
                    total += values[k, m] * values[i, m] * inner[m] * inner[m]
                matrix[c + k, c + i] += total
    return matrix[:count, :count], right[:count]


@jit
def _curve(coefficients, values, runs, first, continuum):  # type: ignore[no-untyped-def]
    """Fill in the sum of the basis functions."""
    four = np.zeros(4, np.float32)
    for q in range(first.size):
        for k in range(4):
            c = first[q] + k
            four[k] = coefficients[c] if c < coefficients.size else np.float32(0.0)
        a, b, c, d = four[0], four[1], four[2], four[3]
        for m in range(runs[q], runs[q + 1]):
            continuum[m] = a * values[0, m] + b * values[1, m] + c * values[2, m] + d * values[3, m]


@jit
def _factor(matrix, ridge, lower):  # type: ignore[no-untyped-def]
    """Fill in the Cholesky factor of matrix + ridge."""
    for i in range(lower.shape[0]):
        for k in range(i + 1):
            total = matrix[i, k] + ridge[i, k]
            for j in range(k):
                total -= lower[i, j] * lower[k, j]
            lower[i, k] = math.sqrt(total) if i == k else total / lower[k, k]


@jit
def _downwards(lower, right):  # type: ignore[no-untyped-def]
    """Solve lower @ x = right."""
    x = right.copy()
    for i in range(x.size):
        for k in range(i):
            x[i] -= lower[i, k] * x[k]
        x[i] /= lower[i, i]
    return x


@jit
def _upwards(lower, right):  # type: ignore[no-untyped-def]
    """Solve lower.T @ x = right."""
    x = right.copy()
    for i in range(x.size - 1, -1, -1):
        x[i] /= lower[i, i]
        for k in range(i):
            x[k] -= lower[i, k] * x[i]
    return x


@jit
def _eliminate(  # type: ignore[no-untyped-def]
    columns, residual, inner, values, runs, first, pull, lower
):
    """Gradient (P,) at fixed continuum, and what eliminates the continuum: (P, C) and (C,)."""
    fitted, count = columns.shape[0], lower.shape[0]
    mixed, rest = np.zeros((count + 3, fitted)), np.zeros(count + 3)
    work = np.empty_like(values)
    gradient = np.zeros(fitted)
    for k in range(4):
        for m in range(inner.size):
            work[k, m] = values[k, m] * inner[m]
    for q in range(first.size):
        low, high, c = runs[q], runs[q + 1], first[q]
        for k in range(4):
            total = np.float32(0.0)
            for m in range(low, high):
                total += work[k, m] * residual[m]
            rest[c + k] += total
        for p in range(fitted):
            s = a = b = d = e = np.float32(0.0)
            for m in range(low, high):
                x = columns[p, m]
                s += x * residual[m]
                a += x * work[0, m]
                b += x * work[1, m]
                d += x * work[2, m]
                e += x * work[3, m]
            gradient[p] -= s
            mixed[c, p] += a
            mixed[c + 1, p] += b
            mixed[c + 2, p] += d
            mixed[c + 3, p] += e
    half = np.empty((fitted, count))
    for p in range(fitted):
        half[p] = _downwards(lower, mixed[:count, p])
    return gradient, half, _downwards(lower, rest[:count] - pull)
