"""Stars of the same kinds of spectra: the best parameters, and how well they are known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spectrolabe.inference.forward import Best, Forward, Problem, Robust
from spectrolabe.inference.levenberg import Minimum, minimise
from spectrolabe.inference.mcmc import sample
from spectrolabe.inference.search import search

__all__ = ["METHODS", "Solution", "solve"]

METHODS = ("lm", "cma", "mcmc")
NEAR = 0.5  # promised gain of ln(posterior) at which outliers are told from a wrong model
LOWER = 0.5  # of ln(posterior), by which a minimum is lower than another
SETTLED = 0.03  # at which the fit ends: a quarter of a standard deviation, all labels together
SMALLEST = 1e-8  # eigenvalue of a scaled curvature, below which it is rounding


@dataclass(frozen=True, eq=False)
class Solution:
    """The fit of one star.

    Parameters
    ----------
    parameters : ndarray, shape (P,)
        J labels, the square of ``v_broad`` if fitted, the velocity of each spectrum.
    covariance, formal : ndarray, shape (P, P)
        With and without regard to chi2.
    at_low, at_high : ndarray of bool, shape (P,)
        At the edge of the allowed range.
    converged : bool
    evaluations : int
    chi2 : float
    pixels, clipped, coefficients : int
        Pixels used and left out; coefficients of the continua.
    best : list
        Model flux and continuum of each piece.
    notes : tuple of str
    """

    parameters: NDArray
    covariance: NDArray
    formal: NDArray
    at_low: NDArray
    at_high: NDArray
    converged: bool
    evaluations: int
    chi2: float
    pixels: int
    clipped: int
    coefficients: int
    best: list[Best]
    notes: tuple[str, ...] = ()


def solve(
    forward: Forward, *, method: str = "lm", seed: int = 0, options: Mapping[str, Any] | None = None
) -> list[Solution]:
    """Fit all stars of a `Forward`.

    Parameters
    ----------
    forward : Forward
    method : {"lm", "cma", "mcmc"}
        Levenberg-Marquardt; the same and then a search for a lower minimum; or the same and then
        samples of the posterior, whose mean and covariance are returned.
    seed : int
    options : Mapping, optional
        Of the search or the sampler.
    """
    end, evaluations = descend(forward)
    if method == "cma":
        end, more, notes = _searched(forward, end, seed, options or {})
        evaluations = evaluations + more
    else:
        notes = [()] * len(forward.pieces)
    solutions = _solutions(forward, end, evaluations, notes)
    if method == "mcmc":
        return [_sampled(forward, n, one, seed, options or {}) for n, one in enumerate(solutions)]
    return solutions


def descend(forward: Forward, start: NDArray | None = None) -> tuple[Minimum, NDArray]:
    """Levenberg-Marquardt: first with little weight on outliers, then without them.

    Returns
    -------
    Minimum
    evaluations : ndarray of int, shape (N,)
        Of both.
    """
    box = forward.low, forward.high, forward.largest
    forward.restart()
    start = forward.start if start is None else start
    first = minimise(forward.evaluate, start, *box, tolerance=NEAR)
    forward.robust[:] = Robust.CLIP
    last = minimise(forward.evaluate, first.parameters, *box, tolerance=SETTLED)
    return last, first.evaluations + last.evaluations


def _solutions(
    forward: Forward, end: Minimum, evaluations: NDArray, notes: list[tuple[str, ...]]
) -> list[Solution]:
    rows = np.arange(len(forward.pieces))
    best = forward.best(rows, end.parameters)
    prior = forward.prior_precision(end.parameters)
    solutions = []
    for n in rows.tolist():
        each = [float((s.residual.astype(np.float64) ** 2).sum()) for _, s, _ in best[n]]
        chi2 = sum(c * d.temper**2 for c, (_, _, d) in zip(each, best[n], strict=True))
        coefficients = sum(len(s.coefficients) for _, s, _ in best[n])
        pixels = forward.used(n)
        data = end.local.curvature[n] - prior[n]
        solutions.append(
            Solution(
                end.parameters[n],
                inverse(data + prior[n]),
                inverse(data * chi2 / max(sum(each), 1e-300) + prior[n]),
                end.at_low[n],
                end.at_high[n],
                bool(end.converged[n]),
                int(evaluations[n]),
                chi2,
                pixels,
                forward.clipped(n),
                coefficients,
                best[n],
                notes[n],
            )
        )
    return solutions


def inverse(curvature: NDArray) -> NDArray:
    """Return the inverse of a curvature, shape (P, P), which may be degenerate.

    What is not known at all gets a large variance, and none gets a negative one.
    """
    diagonal = np.diagonal(curvature)
    known = diagonal > 0
    scale = np.where(known, np.sqrt(np.where(known, diagonal, 1.0)), 1.0)
    scaled = curvature / (scale[:, None] * scale)
    scaled[~known] = scaled[:, ~known] = 0.0
    values, vectors = np.linalg.eigh(0.5 * (scaled + scaled.T))
    result = (vectors / np.maximum(values, SMALLEST)) @ vectors.T / (scale[:, None] * scale)
    return np.asarray(0.5 * (result + result.T))


def _searched(
    forward: Forward, end: Minimum, seed: int, options: Mapping[str, Any]
) -> tuple[Minimum, NDArray, list[tuple[str, ...]]]:
    """Search from each minimum; where a lower one is found, descend again from there.

    The search has the pixels that the first minimum left. Which of two minima is lower is decided
    on all pixels, those that do not fit counting less.
    """
    start = end.parameters.copy()
    evaluations = np.zeros(len(start), dtype=int)
    for n, parameters in enumerate(end.parameters):
        problem = Problem(forward, n, parameters)
        found = search(
            problem.minus_log_posterior,
            np.stack([problem.start, problem.outwards(forward.start[n])]),
            problem.outwards_covariance(inverse(end.local.curvature[n])),
            problem.spread,
            problem.low,
            problem.high,
            seed=seed,
            **options,
        )
        evaluations[n] = found.evaluations
        if found.improved:
            start[n] = problem.inwards(found.theta)
    moved = (start != end.parameters).any(axis=1)
    if not moved.any():
        return end, evaluations, [()] * len(start)
    again, more = descend(forward, start)
    before, after = _robust_values(forward, end.parameters, again.parameters)
    gain = before - after
    lower = moved & (gain > LOWER)
    if (moved & ~lower).any():
        again, more = descend(forward, np.where(lower[:, None], start, end.parameters))
    notes: list[tuple[str, ...]] = [
        (f"a search found a minimum of chi2 lower by {2 * gain[n]:.1f}",) if lower[n] else ()
        for n in range(len(start))
    ]
    return again, evaluations + more, notes


def _robust_values(forward: Forward, *points: NDArray) -> list[NDArray]:
    """Minus ln of the posterior with all pixels, whatever was found about them before.

    The errors of the model are those of the first point for all: otherwise a point of deeper lines,
    with larger errors, would seem to fit better.
    """
    kept = forward.data, forward.weight, forward.robust
    forward.restart()
    values = [forward.evaluate(np.arange(len(point)), point).value for point in points]
    forward.data, forward.weight, forward.robust = kept
    return values


def _sampled(
    forward: Forward, n: int, solution: Solution, seed: int, options: Mapping[str, Any]
) -> Solution:
    """Replace mean and covariance of labels and broadening by those of samples."""
    problem = Problem(forward, n, solution.parameters)
    chain = sample(
        problem.minus_log_posterior,
        problem.start,
        problem.outwards_covariance(solution.covariance),
        problem.spread,
        problem.low,
        problem.high,
        seed=seed,
        **options,
    )
    count = len(problem.names)
    parameters = problem.inwards(chain.mean)
    covariance = solution.covariance.copy()
    covariance[:count, count:] = covariance[count:, :count] = 0.0
    covariance[:count, :count] = problem.inwards_covariance(chain.covariance)
    better = np.sqrt(solution.formal.diagonal() / solution.covariance.diagonal())
    worth = f"worth {chain.effective.min():.0f} independent ones"
    text = f"the samples of the posterior have not converged: they are {worth}"
    notes = () if chain.converged else (text,)
    return replace(
        solution,
        parameters=parameters,
        covariance=covariance,
        formal=covariance * better[:, None] * better,
        evaluations=solution.evaluations + chain.evaluations,
        converged=solution.converged and chain.converged,
        best=forward.best(np.array([n]), parameters[None])[0],
        notes=notes,
    )
