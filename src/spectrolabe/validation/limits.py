"""How well labels can be known from a spectrum at best, when it is known what stars there are.

A Cramér-Rao bound holds for estimators without bias. One that has learnt from stars knows which
there are and is drawn to them, so that its errors may be smaller; what binds it is the posterior of
the same stars, the same noise and the same unknowns, star by star. Here everything is a straight
line about the truth and every distribution is normal.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["difference_covariance", "information", "marginal", "posterior_covariance", "projected"]

RIDGE = 1e-10  # of the information on nuisance: for functions that no pixel sees


def projected(rows: NDArray, nuisance: NDArray) -> NDArray:
    """Return rows without what functions of free size can explain.

    Parameters
    ----------
    rows : ndarray, shape (P, M)
        Slopes of M pixels with P labels, in units of the noise.
    nuisance : ndarray, shape (C, M)
        Slopes with what else is unknown, of which nothing is known beforehand.
    """
    rows = np.asarray(rows, dtype=np.float64)
    size = np.linalg.norm(nuisance, axis=1)
    unit = np.asarray(nuisance, dtype=np.float64)[size > 0] / size[size > 0, None]
    if not len(unit):
        return rows
    gram = unit @ unit.T + RIDGE * np.eye(len(unit))
    return np.asarray(rows - np.linalg.solve(gram, unit @ rows.T).T @ unit)


def information(rows: NDArray, nuisance: NDArray) -> NDArray:
    """Return the Fisher matrix of P labels, shape (P, P).

    Parameters
    ----------
    rows, nuisance : ndarray, shapes (P, M) and (C, M)
        As for `projected`.
    """
    left = projected(rows, nuisance)
    return left @ left.T


def posterior_covariance(fisher: NDArray, prior: NDArray) -> NDArray:
    """Return the covariance of labels that remains, shape (..., P, P).

    Parameters
    ----------
    fisher : ndarray, shape (..., P, P)
    prior : ndarray, shape (P, P)
        Covariance of the labels of all stars.
    """
    # the form that takes a prior in which a combination of labels does not vary
    return np.asarray(
        np.linalg.solve(np.eye(len(prior)) + prior @ fisher, np.broadcast_to(prior, fisher.shape))
    )


def marginal(fisher: NDArray, keep: NDArray, precision: NDArray) -> NDArray:
    """Return the Fisher matrix of some labels, the others being unknown.

    Parameters
    ----------
    fisher : ndarray, shape (..., P, P)
    keep : ndarray of bool, shape (P,)
        The Q labels that stay.
    precision : ndarray, shape (P - Q,)
        What is known of the others beforehand: 1 / variance of each.
    """
    inside = fisher[..., keep, :][..., keep]
    cross = fisher[..., keep, :][..., ~keep]
    rest = fisher[..., ~keep, :][..., ~keep] + np.diag(precision)
    return np.asarray(inside - cross @ np.linalg.solve(rest, np.swapaxes(cross, -1, -2)))


def difference_covariance(first: NDArray, second: NDArray, prior: NDArray) -> NDArray:
    """Return the covariance of the difference of two posterior means of one star, (..., P, P).

    Both are drawn to the same prior, so that they differ by less than the sum of their covariances
    says: with ``A`` and ``B`` the posteriors and ``S`` the prior, ``A + B - A S^-1 B - B S^-1 A``.

    Parameters
    ----------
    first, second : ndarray, shape (..., P, P)
        Covariances of the posteriors from two spectra whose noise is independent.
    prior : ndarray, shape (P, P)
    """
    both = first @ np.linalg.solve(prior, second)
    return np.asarray(first + second - both - np.swapaxes(both, -1, -2))
