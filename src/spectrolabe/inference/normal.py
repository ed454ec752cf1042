"""Normal equations of one spectrum, with its continuum solved for and taken out.

The model is flux times a continuum that is linear in C coefficients. At given flux the best
coefficients are exact; what is left of the normal equations of all other parameters after they are
eliminated (the Schur complement) says how well those are known with the continuum unknown
(Golub & Pereyra 1973, SIAM J. Numer. Anal. 10, 413, in Kaufman's form).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.linalg.blas import ssyrk

__all__ = ["HUBER", "Data", "Solved", "normal_equations", "solve_continuum"]

HUBER = 3.0  # standard deviations beyond which a residual counts with its size, not its square
ROUNDS = 2  # of new weights for each solution of the continuum
FIRST_ROUNDS = 12  # of the first one, which begins without weights


class Data(NamedTuple):
    """One spectrum of one star, as the fit sees it.

    Parameters
    ----------
    flux : ndarray, shape (M,), float32
        Of order 1.
    root : ndarray, shape (M,), float32
        1 / sigma; 0 where a pixel must not be used.
    basis : ndarray, shape (C, M), float32
        Functions whose sums are continua.
    ridge : ndarray, shape (C, C)
        Prior precision of their coefficients.
    """

    flux: NDArray
    root: NDArray
    basis: NDArray
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
    weight : ndarray, shape (M,), float32, or None
        Square roots of the robust weights; None if all are 1.
    columns : ndarray, shape (C, M), float32
        Slopes of the model with the coefficients, weighted.
    factor : tuple
        Of their normal equations, as ``cho_factor`` gives it.
    """

    value: float
    coefficients: NDArray
    continuum: NDArray
    residual: NDArray
    weight: NDArray | None
    columns: NDArray
    factor: tuple[NDArray, bool]


def _gram(columns: NDArray) -> NDArray:
    """columns @ columns.T of float32, shape (C, M), in half of the work."""
    upper = ssyrk(1.0, columns.T, trans=1).astype(np.float64)
    return np.triu(upper) + np.triu(upper, 1).T


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
    plain = data.basis * (flux * data.root)
    observed = data.flux * data.root
    weight = weight if robust else None
    for turn in range(rounds + 1 if robust else 1):
        columns = plain if weight is None else plain * weight
        target = observed if weight is None else observed * weight
        factor = cho_factor(_gram(columns) + data.ridge, lower=False, check_finite=False)
        coefficients = cho_solve(factor, (columns @ target).astype(np.float64))
        continuum = coefficients.astype(np.float32) @ data.basis
        residual = observed - continuum * (flux * data.root)
        if not robust:
            break
        if turn < rounds:
            weight = np.sqrt(HUBER / np.maximum(np.abs(residual), HUBER))
    size = np.abs(residual)
    if robust:
        loss = np.where(size > HUBER, HUBER * (size - 0.5 * HUBER), 0.5 * size**2)
    else:
        loss = 0.5 * size**2
    value = float(loss.sum(dtype=np.float64)) + 0.5 * coefficients @ data.ridge @ coefficients
    return Solved(value, coefficients, continuum, residual, weight, columns, factor)


def normal_equations(
    data: Data, solved: Solved, slopes: Sequence[NDArray]
) -> tuple[NDArray, NDArray]:
    """Return gradient, shape (P,), and curvature, shape (P, P), with the continuum taken out.

    Parameters
    ----------
    data : Data
    solved : Solved
    slopes : sequence of ndarray, shape (A, M) or (M,), float32
        Of the model flux without continuum with all P parameters, in blocks.
    """
    scale = solved.continuum * data.root
    residual = solved.residual
    if solved.weight is not None:
        scale = scale * solved.weight
        residual = residual * solved.weight
    blocks = [np.atleast_2d(block) for block in slopes]
    columns = np.empty((sum(map(len, blocks)), len(scale)), dtype=np.float32)
    row = 0
    for block in blocks:
        np.multiply(block, scale, out=columns[row : row + len(block)])
        row += len(block)
    mixed = (columns @ solved.columns.T).astype(np.float64)
    eliminated = cho_solve(solved.factor, mixed.T, check_finite=False)
    rest = (solved.columns @ residual).astype(np.float64) - data.ridge @ solved.coefficients
    gradient = -(columns @ residual).astype(np.float64) + rest @ eliminated
    return gradient, _gram(columns) - mixed @ eliminated
