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
from spectrolabe.inference.data import Data

__all__ = ["HUBER", "Solved", "normal_equations", "smooth_level", "solve_continuum"]

HUBER = 3.0  # standard deviations beyond which a residual counts with its size, not its square
ROUNDS = 2  # of new weights for each solution of the continuum
FIRST_ROUNDS = 12  # of the first one, which begins without weights
LEVEL_ROUNDS, ENOUGH = 6, 500  # so many pixels say how large residuals usually are
NO_LIMIT = 1e30
BLOCK = 512


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
    ones, count = np.ones(len(flux), dtype=np.float32), basis.size
    ridge = 1e-4 * good.sum() / count * np.eye(count)
    weight = good.astype(np.float32)
    some = np.flatnonzero(good)[:: max(int(good.sum()) // ENOUGH, 1)]
    for _ in range(LEVEL_ROUNDS):
        arrays = basis.values, basis.runs, basis.first
        _, _, level, *_ = _solve(flux, weight, ones, ones.copy(), *arrays, ridge, 0, NO_LIMIT)
        distance = np.abs(flux - level)
        typical = max(float(np.median(distance[some])), 1e-6)
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
    continuum, residual = np.empty(pixels, np.float32), np.empty(pixels, np.float32)
    inner, target = np.empty(pixels, np.float32), np.empty(pixels, np.float32)
    lower, coefficients = np.empty((count, count)), np.empty(count)
    most = np.float32(limit)
    for turn in range(rounds + 1):
        for m in range(pixels):
            scale = root[m] * weight[m]
            inner[m] = flux[m] * scale
            target[m] = observed[m] * scale
        matrix, right = np.zeros((count + 3, count + 3)), np.zeros(count + 3)
        for q in range(first.size):
            part = slice(runs[q], runs[q + 1])
            _add(target[part], inner[part], values[:, part], first[q], matrix, right)
        _factor(matrix, ridge, lower)
        coefficients = _upwards(lower, _downwards(lower, right[:count]))
        for q in range(first.size):
            part = slice(runs[q], runs[q + 1])
            _curve(coefficients, first[q], values[:, part], continuum[part])
        for m in range(pixels):
            residual[m] = root[m] * (observed[m] - continuum[m] * flux[m])
        if turn < rounds:
            for m in range(pixels):
                weight[m] = np.sqrt(most / max(abs(residual[m]), most))
    value = np.float32(0.0)
    total = 0.0
    for m in range(pixels):
        size = abs(residual[m])
        inside = min(size, most)
        value += inside * (size - np.float32(0.5) * inside)
        if m % BLOCK == BLOCK - 1:  # sums of single precision stay short
            total += value
            value = np.float32(0.0)
    return total + value, coefficients, continuum, residual, weight, inner, lower


@jit
def _add(target, inner, values, c, matrix, right):  # type: ignore[no-untyped-def]
    """Add a run of pixels to the normal equations of coefficients c to c + 3."""
    v0, v1, v2, v3 = values[0], values[1], values[2], values[3]
    r0 = r1 = r2 = r3 = np.float32(0.0)
    a00 = a10 = a11 = a20 = a21 = a22 = a30 = a31 = a32 = a33 = np.float32(0.0)
    for m in range(target.size):
        x, t = inner[m], target[m]
        w0, w1, w2, w3 = v0[m] * x, v1[m] * x, v2[m] * x, v3[m] * x
        r0 += w0 * t
        r1 += w1 * t
        r2 += w2 * t
        r3 += w3 * t
        a00 += w0 * w0
        a10 += w1 * w0
        a11 += w1 * w1
        a20 += w2 * w0
        a21 += w2 * w1
        a22 += w2 * w2
        a30 += w3 * w0
        a31 += w3 * w1
        a32 += w3 * w2
        a33 += w3 * w3
    for k, total in enumerate((r0, r1, r2, r3)):
        right[c + k] += total
    for k, total in enumerate((a00, a10, a20, a30)):
        matrix[c + k, c] += total
    for k, total in enumerate((a11, a21, a31)):
        matrix[c + 1 + k, c + 1] += total
    matrix[c + 2, c + 2] += a22
    matrix[c + 3, c + 2] += a32
    matrix[c + 3, c + 3] += a33


@jit
def _curve(coefficients, first, values, continuum):  # type: ignore[no-untyped-def]
    """Fill in the sum of the basis functions in a run of pixels."""
    four = np.zeros(4, np.float32)
    for k in range(min(4, coefficients.size - first)):
        four[k] = coefficients[first + k]
    a, b, c, d = four[0], four[1], four[2], four[3]
    v0, v1, v2, v3 = values[0], values[1], values[2], values[3]
    for m in range(continuum.size):
        continuum[m] = a * v0[m] + b * v1[m] + c * v2[m] + d * v3[m]


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
    mixed, rest, gradient = np.zeros((fitted, count + 3)), np.zeros(count + 3), np.zeros(fitted)
    for q in range(first.size):
        part = slice(runs[q], runs[q + 1])
        c, r, work = first[q], residual[part], values[:, part] * inner[part]
        v0, v1, v2, v3 = work[0], work[1], work[2], work[3]
        gone = np.zeros(1)
        _five(r, r, v0, v1, v2, v3, gone, rest[c : c + 4])
        for p in range(fitted):
            _five(columns[p, part], r, v0, v1, v2, v3, gradient[p : p + 1], mixed[p, c : c + 4])
    half = np.empty((fitted, count))
    for p in range(fitted):
        half[p] = _downwards(lower, mixed[p, :count])
    return -gradient, half, _downwards(lower, rest[:count] - pull)


@jit
def _five(x, r, v0, v1, v2, v3, one, four):  # type: ignore[no-untyped-def]
    """Add the products of x with r, and with each v."""
    s = a = b = c = d = np.float32(0.0)
    for m in range(x.size):
        s += x[m] * r[m]
        a += x[m] * v0[m]
        b += x[m] * v1[m]
        c += x[m] * v2[m]
        d += x[m] * v3[m]
    one[0] += s
    four[0] += a
    four[1] += b
    four[2] += c
    four[3] += d
