"""The lowest of several minima, by evolution strategies that start in several places.

CMA-ES (Hansen & Ostermeier 2001, Evol. Comput. 9, 159) of the package ``cmaes``, restarted with
twice the population (IPOP; Auger & Hansen 2005, CEC, 1769). It needs no derivatives and steps over
ripples, but costs thousands of evaluations: a check of Levenberg-Marquardt, and for hard cases.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from cmaes import CMA
from numpy.typing import ArrayLike, NDArray

from spectrolabe.inference.metric import Metric

__all__ = ["Search", "search"]

WIDTH = 3.0  # of the first population, in standard deviations
PATIENCE = 10  # generations without gain, after which a run ends
NEAR = 1.5  # standard deviations: a population so close to a lower one is in its valley
LOST = 1e30  # value of a point that has none


@dataclass(frozen=True, eq=False)
class Search:
    """What a search found.

    Parameters
    ----------
    theta : ndarray, shape (J,)
        The lowest point.
    value : float
        The function there.
    first : float
        The function at the first start.
    improved : bool
        Whether ``value`` is below ``first`` by more than the tolerance: the first start was not
        the lowest minimum.
    evaluations : int
    rounds : int
        One, and one more for each time the population was doubled.
    """

    theta: NDArray
    value: float
    first: float
    improved: bool
    evaluations: int
    rounds: int


def search(
    function: Callable[[NDArray], NDArray],
    starts: ArrayLike,
    covariance: ArrayLike,
    spread: ArrayLike,
    low: ArrayLike,
    high: ArrayLike,
    *,
    seed: int,
    runs: int = 4,
    rounds: int = 2,
    population: int | None = None,
    evaluations: int = 20_000,
    tolerance: float = 0.2,
) -> Search:
    """Look for the lowest value of a function inside a box.

    All runs of a round are evaluated together. A run ends when its values no longer differ by
    more than the tolerance, or when it has come into the valley of the lowest point of all.

    Parameters
    ----------
    function : callable
        Parameters, shape (K, J), to values, shape (K,); only asked inside the box. Values that
        are not finite count as very high.
    starts : array_like, shape (S, J)
        The first is the minimum to be checked. If S < ``runs``, more are drawn about it.
    covariance : array_like, shape (J, J)
        About that of the parameters at the minimum; the shape of the populations.
    spread : array_like, shape (J,)
        How much each parameter varies at all: width of the drawn starts, and limit of the
        populations.
    low, high : array_like, shape (J,)
    seed : int
    runs : int
        In the first round; half as many in the second.
    rounds : int
        At most; a second round without gain ends the search.
    population : int, optional
        Of the first round; by default 4 + 3 ln(J).
    evaluations : int
        No new generation once this many have been done.
    tolerance : float
        Of the function. What it leaves, a descent from there finds in a step or two.
    """
    low, high = np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)
    starts = np.clip(np.atleast_2d(np.asarray(starts, dtype=np.float64)), low, high)
    spread = np.asarray(spread, dtype=np.float64)
    rng = np.random.default_rng(seed)
    metric = Metric.of(starts[0], covariance, spread, limit=WIDTH)
    box = _Box(function, metric, low, high)
    box.values(metric.inwards(starts[:1]))
    first, size = box.value, population or 4 + int(3 * np.log(len(low)))
    for done in range(1, rounds + 1):
        before = box.value
        here = starts if done == 1 else box.theta[None]
        more = max(runs // done - len(here), 0)
        drawn = here[0] + spread * rng.standard_normal((more, len(low)))
        at = metric.inwards(np.clip(np.concatenate([here, drawn]), low, high))
        seeds = rng.integers(2**31, size=len(at))
        started = [_Run(z, size, int(one)) for z, one in zip(at, seeds, strict=True)]
        _descend(box, started, evaluations, tolerance)
        size *= 2
        if box.evaluations >= evaluations or (done > 1 and box.value > before - tolerance):
            break
    improved = box.value < first - tolerance
    return Search(box.theta, box.value, first, improved, box.evaluations, done)


def _descend(box: _Box, runs: list[_Run], evaluations: int, tolerance: float) -> None:
    """Generation after generation of all runs until each has ended."""
    left = runs
    while left and box.evaluations < evaluations:
        asked = [run.ask() for run in left]
        values = box.values(np.concatenate(asked))
        ends = np.cumsum([len(z) for z in asked])[:-1]
        for run, z, value in zip(left, asked, np.split(values, ends), strict=True):
            run.tell(z, value)
        lowest = min(runs, key=lambda run: run.value)
        left = [run for run in left if not (run.settled(tolerance) or run.joins(lowest))]


@dataclass(eq=False)
class _Box:
    """The function in the metric, also beyond its bounds, with the lowest point seen so far."""

    function: Callable[[NDArray], NDArray]
    metric: Metric
    low: NDArray
    high: NDArray
    theta: NDArray = field(init=False)
    value: float = np.inf
    evaluations: int = 0

    def __post_init__(self) -> None:
        self.theta = np.clip(self.metric.centre, self.low, self.high)

    def values(self, z: NDArray) -> NDArray:
        """Return the function at the nearest point of the box, plus the distance squared."""
        theta = self.metric.outwards(z)
        inside = np.clip(theta, self.low, self.high)
        value = np.asarray(self.function(inside), dtype=np.float64)
        value = np.where(np.isfinite(value), value, LOST)
        self.evaluations += len(value)
        best = int(np.argmin(value))
        if value[best] < self.value:
            self.theta, self.value = inside[best], float(value[best])
        sd = np.sqrt((self.metric.root**2).sum(axis=1))
        return value + (((theta - inside) / sd) ** 2).sum(axis=1)


class _Run:
    """One evolution strategy, with its last population and the lowest point of its own."""

    def __init__(self, start: NDArray, size: int, seed: int) -> None:
        self.strategy = CMA(start, WIDTH, population_size=size, seed=seed)
        self.lowest: list[float] = []
        self.value, self.z = np.inf, start
        self.points = self.values = np.empty(0)

    def ask(self) -> NDArray:
        """Return the next population, shape (K, J)."""
        return np.array([self.strategy.ask() for _ in range(self.strategy.population_size)])

    def tell(self, points: NDArray, values: NDArray) -> None:
        """Learn from the values of a population."""
        self.strategy.tell(list(zip(points, values, strict=True)))
        self.points, self.values, best = points, values, int(np.argmin(values))
        self.lowest.append(float(values[best]))
        if values[best] < self.value:
            self.value, self.z = float(values[best]), points[best]

    def settled(self, tolerance: float) -> bool:
        """Return whether there is nothing left to gain."""
        still = np.ptp([*self.lowest[-PATIENCE:], *self.values]) < tolerance
        return bool((len(self.lowest) >= PATIENCE and still) or self.strategy.should_stop())

    def joins(self, lowest: _Run) -> bool:
        """Return whether the population has come into the valley of a run that is lower."""
        distance = np.sqrt(np.mean((self.points - lowest.z) ** 2))
        return bool(lowest is not self and distance < NEAR)
