"""Samples of a posterior of any shape, by an ensemble of walkers.

``emcee`` (Foreman-Mackey et al. 2013, PASP 125, 306) moves them, three ways in turn: to a point
drawn from a Student distribution about the minimum, which forgets at once where the walker was
if the posterior is nearly normal; along the difference of two other walkers (Nelson et al. 2014,
ApJS 210, 11), whatever its shape; and by the whole of such a difference, from mode to mode.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import emcee
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, log_expit, logit

from spectrolabe.inference.metric import Metric

__all__ = ["Chain", "sample"]

LENGTH = 25.0  # autocorrelation times, averaged over the walkers, that a chain must last
LEAST = 400.0  # independent samples: sigma within 4 per cent
FREEDOM = 8.0  # degrees of freedom of the Student distribution: tails wider than the posterior's
STILL = 0.15  # drift of ln(posterior), in its standard deviations, below which burn-in ends
INSIDE = 0.25  # of the range: farthest that a start at the edge of the box is moved inside
NEARER = 10  # times that a first position without density is moved half-way to the start
THIN = 10  # steps between the positions that a Student distribution is fitted to
CHUNK = 50  # steps before the first look at the autocorrelation


@dataclass(frozen=True, eq=False)
class Chain:
    """Samples of a posterior, and how far they can be trusted.

    Parameters
    ----------
    samples : ndarray, shape (S, J)
        After burn-in, steps of all walkers one after the other.
    value : ndarray, shape (S,)
        The function (minus ln of the posterior) there.
    acceptance : float
        Fraction of moves that were made.
    burn_in, steps : int
        Steps left out, and kept; each of all walkers.
    autocorrelation : ndarray, shape (J,)
        Steps after which a walker has forgotten where it was.
    effective : ndarray, shape (J,)
        Independent samples that these are worth.
    evaluations : int
    """

    samples: NDArray
    value: NDArray
    acceptance: float
    burn_in: int
    steps: int
    autocorrelation: NDArray
    effective: NDArray
    evaluations: int

    @property
    def converged(self) -> bool:
        """Whether the chain is long against its autocorrelation, and worth enough samples."""
        long = self.steps > LENGTH * self.autocorrelation
        return bool((long & (self.effective > LEAST)).all())

    @property
    def mean(self) -> NDArray:
        """Mean of each parameter, shape (J,)."""
        return self.samples.mean(axis=0)

    @property
    def covariance(self) -> NDArray:
        """Covariance, shape (J, J)."""
        return np.atleast_2d(np.cov(self.samples, rowvar=False))

    @property
    def lowest(self) -> NDArray:
        """The sample of the highest posterior, shape (J,)."""
        return self.samples[int(np.argmin(self.value))]

    def quantiles(self, probabilities: ArrayLike) -> NDArray:
        """Return quantiles of each parameter's marginal, shape (Q, J)."""
        return np.quantile(self.samples, np.atleast_1d(probabilities), axis=0)


def sample(
    function: Callable[[NDArray], NDArray],
    start: ArrayLike,
    covariance: ArrayLike,
    spread: ArrayLike,
    low: ArrayLike,
    high: ArrayLike,
    *,
    seed: int,
    walkers: int | None = None,
    burn_in: int = 400,
    steps: int = 1000,
) -> Chain:
    """Draw from the density exp(-function) inside a box.

    The chain ends as soon as it is long enough (`Chain.converged`).

    Parameters
    ----------
    function : callable
        Parameters, shape (K, J), to minus ln of the posterior, shape (K,); only asked inside the
        box. Values that are not finite are never moved to.
    start : array_like, shape (J,)
        The minimum.
    covariance : array_like, shape (J, J)
        About that of the posterior; walkers begin within it, and the Student distribution has it
        at first. That of the walkers replaces it during the burn-in.
    spread : array_like, shape (J,)
        Standard deviations for the parameters that ``covariance`` does not know.
    low, high : array_like, shape (J,)
    seed : int
    walkers : int, optional
        By default 2 J + 2, and at least 32.
    burn_in : int
        At most this many steps are left out: until the walkers no longer drift.
    steps : int
        At most this many are kept.
    """
    low, high = np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)
    count = max(2 * len(low) + 2, 32) if walkers is None else walkers
    density = _Density.about(function, start, covariance, spread, low, high)
    first, second = np.random.SeedSequence(seed).generate_state(2)
    z = _scattered(density, count, np.random.default_rng(first))
    state = emcee.State(z, random_state=np.random.RandomState(second).get_state())
    state, seen, burnt = _burnt_in(density, state, burn_in)
    sampler = _sampler(density, count, seen)
    while sampler.iteration < steps:
        length = min(max(CHUNK, sampler.iteration // 2), steps - sampler.iteration)
        state = sampler.run_mcmc(state, length, skip_initial_state_check=True)
        chain = _chain(sampler, density, burnt)
        if chain.converged:
            break
    return chain


def _burnt_in(
    density: _Density, state: emcee.State, most: int
) -> tuple[emcee.State, NDArray | None, int]:
    """Move the walkers until they no longer drift: where they are, were lately, and the steps.

    Each time, the Student distribution becomes that of the walkers.
    """
    seen, done = None, 0
    while done < most:
        sampler = _sampler(density, len(state.coords), seen)
        length = min(CHUNK, most - done)
        state = sampler.run_mcmc(state, length, skip_initial_state_check=True)
        done += length
        seen = sampler.get_chain(thin=min(THIN, length), flat=True)
        value = np.array_split(sampler.get_log_prob().mean(axis=1), 4)
        drift = abs(value[3].mean() - value[1].mean())
        if done > length and drift < STILL * (0.5 * seen.shape[1]) ** 0.5:
            break
    return state, seen, done


def _sampler(density: _Density, walkers: int, seen: NDArray | None) -> emcee.EnsembleSampler:
    """Return an ensemble whose Student distribution is fitted to positions, if there are any.

    Few positions give a noisy covariance; shrinking it (Ledoit & Wolf 2004) towards a sphere,
    here the covariance at the start, keeps the proposals acceptable.
    """
    from sklearn.covariance import ledoit_wolf

    size = len(density.low)
    mean, covariance = np.zeros(size), np.eye(size)
    if seen is not None:
        mean, covariance = seen.mean(axis=0), ledoit_wolf(seen)[0]
    moves = [
        (emcee.moves.MHMove(_Student(mean, covariance)), 0.6),
        (emcee.moves.DEMove(), 0.3),
        (emcee.moves.DEMove(gamma0=1.0), 0.1),
    ]
    return emcee.EnsembleSampler(walkers, size, density, moves=moves, vectorize=True)


def _scattered(density: _Density, count: int, rng: np.random.Generator) -> NDArray:
    """Return first positions of walkers, shape (K, J), drawn back to where the density is."""
    z = rng.standard_normal((count, len(density.low)))
    for _ in range(NEARER):
        nowhere = np.isneginf(density(z))
        if not nowhere.any():
            break
        z[nowhere] *= 0.5
    return z


def _chain(sampler: Any, density: _Density, burn_in: int) -> Chain:
    theta, stretch = density.outwards(sampler.get_chain(flat=True))
    steps, walkers = sampler.iteration, sampler.nwalkers
    by_step = theta.reshape(steps, walkers, -1)
    with np.errstate(invalid="ignore"):  # a walker that never moved
        tau = emcee.autocorr.integrated_time(by_step, tol=0, quiet=True)
    tau = np.where(np.isfinite(tau), np.maximum(tau, 1.0), np.inf)  # all stuck: never forgets
    return Chain(
        theta,
        stretch - sampler.get_log_prob(flat=True),
        float(np.mean(sampler.acceptance_fraction)),
        burn_in,
        steps,
        tau,
        steps * walkers / tau,
        density.evaluations,
    )


@dataclass(eq=False)
class _Density:
    """ln of the density of z, in which the box has no edges.

    theta = low + (high - low) / (1 + exp(-u)), and u = centre + root @ z by the metric. Walkers
    that fill the box in some parameters would otherwise mostly be sent out of it.
    """

    function: Callable[[NDArray], NDArray]
    metric: Metric
    low: NDArray
    high: NDArray
    evaluations: int = 0

    @classmethod
    def about(
        cls,
        function: Callable[[NDArray], NDArray],
        start: ArrayLike,
        covariance: ArrayLike,
        spread: ArrayLike,
        low: NDArray,
        high: NDArray,
    ) -> _Density:
        """Return it with the metric that has a covariance of theta about a point."""
        given = Metric.of(np.zeros(len(low)), covariance, spread)
        inside = np.minimum(np.sqrt((given.root**2).sum(axis=1)), INSIDE * (high - low))
        part = (np.clip(start, low + inside, high - inside) - low) / (high - low)
        slope = 1.0 / (part * (1.0 - part) * (high - low))  # du / dtheta
        own = (given.root @ given.root.T) * (slope[:, None] * slope)
        return cls(function, Metric.of(logit(part), own, slope), low, high)

    def outwards(self, z: NDArray) -> tuple[NDArray, NDArray]:
        """Return theta, shape (K, J), and ln of the volume of theta per volume of u, (K,)."""
        u = self.metric.outwards(z)
        theta = self.low + (self.high - self.low) * expit(u)
        stretch = np.log(self.high - self.low) + log_expit(u) + log_expit(-u)
        return np.clip(theta, self.low, self.high), stretch.sum(axis=1)

    def __call__(self, z: NDArray) -> NDArray:
        theta, stretch = self.outwards(z)
        value = np.asarray(self.function(theta), dtype=np.float64)
        self.evaluations += len(value)
        return np.where(np.isfinite(value), stretch - value, -np.inf)


class _Student:
    """Proposals that do not depend on where the walkers are, for ``emcee.moves.MHMove``."""

    def __init__(self, mean: NDArray, covariance: NDArray) -> None:
        shape = covariance * (FREEDOM - 2.0) / FREEDOM
        self.metric = Metric.of(mean, shape, np.ones(len(mean)))

    def __call__(self, z: NDArray, random: np.random.RandomState) -> tuple[NDArray, NDArray]:
        normal = random.standard_normal(z.shape)
        scale = np.sqrt(FREEDOM / random.chisquare(FREEDOM, size=len(z)))
        proposed = self.metric.outwards(normal * scale[:, None])
        return proposed, self.log_density(z) - self.log_density(proposed)

    def log_density(self, z: NDArray) -> NDArray:
        """ln of the density but for a constant, shape (K,)."""
        distance = (self.metric.inwards(z) ** 2).sum(axis=1)
        return -0.5 * (FREEDOM + z.shape[1]) * np.log1p(distance / FREEDOM)
