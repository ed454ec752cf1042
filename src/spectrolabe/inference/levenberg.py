"""Levenberg-Marquardt in a box, for many independent small problems at once.

Each problem has its own damping and leaves the batch when it has converged. The function behind it
may be anything that gives a value, its gradient and a curvature that is nowhere negative; of a sum
of squares that is the Gauss-Newton matrix (Levenberg 1944, QAM 2, 164; Marquardt 1963, SIAM J. 11,
431).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Local", "Minimum", "box_step", "minimise"]

FIRST_DAMPING = 1e-3  # of the diagonal
LEAST_DAMPING = 1e-7  # keeps a degenerate direction from a step of any length
MOST_DAMPING = 1e7
ROUNDS = 12  # of looking for the parameters that end at a limit


class Local(NamedTuple):
    """A function about a point: the value (n,), gradient (n, P) and curvature (n, P, P)."""

    value: NDArray
    gradient: NDArray
    curvature: NDArray


@dataclass(frozen=True, eq=False)
class Minimum:
    """Where N problems ended.

    Parameters
    ----------
    parameters : ndarray, shape (N, P)
    local : Local
        The function there.
    converged : ndarray, shape (N,), bool
    evaluations : ndarray, shape (N,), int
    at_low, at_high : ndarray, shape (N, P), bool
        Parameters at a limit, which would go further if they could.
    """

    parameters: NDArray
    local: Local
    converged: NDArray
    evaluations: NDArray
    at_low: NDArray
    at_high: NDArray


def minimise(
    evaluate: Callable[[NDArray, NDArray], Local],
    start: ArrayLike,
    low: ArrayLike,
    high: ArrayLike,
    largest: ArrayLike = np.inf,
    *,
    tolerance: float = 0.005,
    most: int = 15,
) -> Minimum:
    """Minimise N functions of P parameters, each inside its box.

    Parameters
    ----------
    evaluate : callable
        Rows of the problems that are asked for, shape (n,), and their parameters, shape (n, P),
        to a `Local`. Called once for each step that is tried.
    start, low, high : array_like, shape (N, P) or (P,)
        A start outside the box is moved to its edge.
    largest : array_like, shape (N, P), (P,) or ()
        By how much a parameter may change in one step.
    tolerance : float
        A problem is finished when a full step promises a smaller gain than this, or when a step
        that promised little brought less. With a function that is half of chi2, 0.005 is a tenth
        of a standard deviation away from the minimum.
    most : int
        Evaluations of a problem.

    Notes
    -----
    A step that promises less than the tolerance is still taken if the curvature is trusted, but
    not evaluated, so that the end is much closer to the minimum than the tolerance says.
    """
    x = np.atleast_2d(np.array(start, dtype=np.float64))
    low = np.broadcast_to(np.asarray(low, dtype=np.float64), x.shape)
    high = np.broadcast_to(np.asarray(high, dtype=np.float64), x.shape)
    x = np.clip(x, low, high)
    largest = np.broadcast_to(np.asarray(largest, dtype=np.float64), x.shape)

    def best_step(rows: NDArray, damping: ArrayLike) -> tuple[Local, NDArray, NDArray]:
        here, at = Local(*(part[rows] for part in now)), x[rows]
        below, above = at - largest[rows], at + largest[rows]
        box = np.maximum(low[rows], below), np.minimum(high[rows], above)
        return here, *box_step(here, at, *box, damping)

    active = np.arange(len(x))
    now = Local(*(np.array(part, dtype=np.float64) for part in evaluate(active, x)))
    damping = np.full(len(x), FIRST_DAMPING)
    evaluations, converged = np.ones(len(x), dtype=int), np.zeros(len(x), dtype=bool)
    while len(active):
        _, step, gain = best_step(active, 0.0)
        ends = gain < tolerance
        x[active[ends]] += step[ends]
        converged[active[ends]] = True
        active = active[~ends & (evaluations[active] < most) & (damping[active] < MOST_DAMPING)]
        if not len(active):
            break
        here, step, gain = best_step(active, damping[active])
        there = Local(*map(np.asarray, evaluate(active, x[active] + step)))
        evaluations[active] += 1
        ratio = (here.value - there.value) / np.maximum(gain, 1e-300)
        better = ratio > 1e-3
        accepted = active[better]
        x[accepted] += step[better]
        for old, new in zip(now, there, strict=True):
            old[accepted] = new[better]
        little = (np.abs(here.value - there.value) < tolerance) & (gain < 10 * tolerance)
        still = active[little & (damping[active] <= FIRST_DAMPING) | (gain < tolerance)]
        converged[still] = True
        damping[active] = _next_damping(damping[active], ratio)
        active = np.setdiff1d(active, still, assume_unique=True)
    return _finished(x, now, low, high, converged, evaluations)


def _next_damping(damping: NDArray, ratio: NDArray) -> NDArray:
    """Less after a step that kept its promise, more after one that did not."""
    less = np.where(ratio > 0.7, 0.05 * damping, damping)
    more = np.where(ratio < 0.25, 4.0 * np.maximum(damping, FIRST_DAMPING), less)
    bad = ~(ratio > 1e-3)  # a value that is not finite is bad as well
    return np.where(bad, 10.0 * np.maximum(damping, FIRST_DAMPING), more)


def _finished(
    x: NDArray, now: Local, low: NDArray, high: NDArray, converged: NDArray, evaluations: NDArray
) -> Minimum:
    near = 1e-9 * (high - low)
    return Minimum(
        np.clip(x, low, high),
        now,
        converged,
        evaluations,
        x <= low + near,
        x >= high - near,
    )


def box_step(
    local: Local, x: NDArray, low: NDArray, high: NDArray, damping: ArrayLike
) -> tuple[NDArray, NDArray]:
    """Return the step to the minimum of each damped parabola in its box, and the gain promised.

    Parameters that would leave the box are held at its edge while the others are solved again; one
    held there is freed when the parabola pulls it back inside.

    Parameters
    ----------
    local : Local
        Of n problems.
    x, low, high : ndarray, shape (n, P)
    damping : array_like, shape (n,) or ()
        Added to the diagonal, in units of the diagonal.

    Returns
    -------
    step : ndarray, shape (n, P)
    gain : ndarray, shape (n,)
        By how much the parabola without damping falls.
    """
    scale = np.sqrt(np.maximum(np.diagonal(local.curvature, axis1=1, axis2=2), 0.0))
    known = scale > 0
    scale = np.where(known, scale, 1.0)
    curvature = local.curvature / (scale[:, :, None] * scale[:, None, :])
    slope = local.gradient / scale
    below, above = (low - x) * scale, (high - x) * scale
    extra = np.broadcast_to(np.asarray(damping) + LEAST_DAMPING, len(x))[:, None]
    damped = curvature + extra[:, :, None] * np.eye(x.shape[1])
    at_edge = np.where(known, 0, 2)  # -1 at the lower, 1 at the upper edge, 2 never moves
    step = np.zeros_like(x)
    for _ in range(ROUNDS):
        step = _solve(
            damped, slope, np.select([at_edge == -1, at_edge == 1], [below, above]), at_edge
        )
        push = slope + np.einsum("npq,nq->np", damped, step)
        edge = np.where((at_edge == 0) & (step < below), -1, at_edge)
        edge = np.where((at_edge == 0) & (step > above), 1, edge)
        freed = ((at_edge == -1) & (push < 0)) | ((at_edge == 1) & (push > 0))
        edge = np.where(freed, 0, edge)
        if np.array_equal(edge, at_edge):
            break
        at_edge = edge
    step = np.clip(step, below, above)
    fall = np.einsum("np,np->n", slope, step)
    gain = -fall - 0.5 * np.einsum("np,npq,nq->n", step, curvature, step)
    return step / scale, gain


def _solve(matrix: NDArray, slope: NDArray, held: NDArray, at_edge: NDArray) -> NDArray:
    """Solve for the free parameters, with the step of the others given."""
    free = at_edge == 0
    both = free[:, :, None] & free[:, None, :]
    system = np.where(both, matrix, np.eye(slope.shape[1]))
    right = np.where(free, -slope - np.einsum("npq,nq->np", matrix, held), held)
    return np.linalg.solve(system, right[:, :, None])[:, :, 0]
