"""Ages of giants learnt from stars of known age, with their labels made worse and left out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.special import ndtri
from torch import Tensor

import spectrolabe
from spectrolabe.errors import InputError
from spectrolabe.labels import Labels, LabelScale
from spectrolabe.models.ages import LOG_AGE, NEEDED, AgeModel, AgeNetwork, AgeShape, features, lost

__all__ = ["AgeTraining", "train_ages"]

WARM_UP = 100  # steps
LEAST_STARS = 100
VERSIONS = 2  # of each star with worse labels, in recalibration
TAILS = (0.1, 99.9)  # percentiles that are the range trained on


@dataclass(frozen=True)
class AgeTraining:
    """How ages are learnt.

    Parameters
    ----------
    seed : int
    folds : int
        Parts of the stars; each is left out by some members, on which these are calibrated.
    members : int
        Networks that leave out each part.
    width, components : int
        See `AgeShape`.
    steps, batch : int
        Of the optimiser, and stars of a member in each.
    learning_rate, weight_decay : float
        Of AdamW.
    worse : float
        Share of stars whose labels get errors, of up to `worst` times the spread of the stars.
    worst : float
    missing : float
        Share of stars of which labels are left out, any number of those that may be missing.
    """

    seed: int = 0
    folds: int = 5
    members: int = 4
    width: int = 48
    components: int = 3
    steps: int = 3000
    batch: int = 256
    learning_rate: float = 5e-3
    weight_decay: float = 1e-2
    worse: float = 0.9
    worst: float = 2.0
    missing: float = 0.5


def train_ages(
    labels: Labels,
    ages: Mapping[str, ArrayLike],
    *,
    settings: AgeTraining | None = None,
    scale: str | None = None,
    card: Mapping[str, Any] | None = None,
) -> AgeModel:
    """Learn ages from labels.

    The members see labels with more errors than they have, which they are told, and without some
    labels; so the model is of use where labels are worse or fewer. What it answers is the density
    of ages of such stars among those trained on.

    Parameters
    ----------
    labels : Labels
        Of N stars, with uncertainties; values may be NaN.
    ages : Mapping of str to array_like, shape (N,)
        In Gyr, by age scale; NaN where not known.
    settings : AgeTraining, optional
    scale : str, optional
        Default of the model; else the first.
    card : Mapping, optional
        What else the card shall say.

    Raises
    ------
    InputError
        If there are too few stars of a scale, or an age is not positive.
    """
    settings = settings or AgeTraining()
    log_age = _log_ages(labels, ages)
    inputs = LabelScale.fit(labels)
    centre = float(np.nanmedian(log_age))
    spread = float(np.nanstd(log_age))
    scaled, sigma = inputs.scale(labels.values), labels.sigma / inputs.width
    fold = _folds(labels.star_id, settings)
    members = settings.folds * settings.members
    torch.manual_seed(settings.seed)
    shape = AgeShape(len(labels.names), len(ages), members, settings.width, settings.components)
    network = AgeNetwork(shape)
    left_out = np.arange(members) % settings.folds
    rows = [np.flatnonzero(fold != part) for part in left_out]
    optional = ~np.isin(labels.names, NEEDED)
    _learn(network, scaled, sigma, (log_age - centre) / spread, rows, optional, settings)
    with np.errstate(invalid="ignore"):
        low, high = np.nanpercentile(labels.values, TAILS, axis=0)
    nothing = np.zeros((len(ages), 4))
    first = next(iter(ages))
    draft = AgeModel(network, inputs, low, high, tuple(ages), centre, spread, nothing, first, {})
    recalibration = _calibrate(draft, scaled, sigma, log_age, fold, left_out, optional, settings)
    known = np.isfinite(log_age).sum(axis=0)
    own = {
        "spectrolabe_version": spectrolabe.__version__,
        "training": asdict(settings),
        "training_stars": dict(zip(ages, map(int, known), strict=True)),
    }
    model = replace(draft, recalibration=recalibration, card={**own, **(card or {})})
    return model if scale is None else model.on(scale)


def _log_ages(labels: Labels, ages: Mapping[str, ArrayLike]) -> NDArray:
    """log10(age / Gyr), shape (N, A)."""
    values = np.stack([np.asarray(value, dtype=float) for value in ages.values()], axis=1)
    if len(values) != len(labels):
        raise InputError("ages", expected=f"{len(labels)} stars", found=f"{len(values)}")
    for name, column in zip(ages, values.T, strict=True):
        if (column <= 0).any() or np.isfinite(column).sum() < LEAST_STARS:
            raise InputError(
                f"ages {name}",
                expected=f"{LEAST_STARS} or more positive ages in Gyr",
                found=f"{np.isfinite(column).sum()}, the least {np.nanmin(column):g}",
            )
    return np.log10(values)


def _folds(star_id: NDArray, settings: AgeTraining) -> NDArray:
    """Part of each row; all rows of a star are in one."""
    stars, row = np.unique(star_id, return_inverse=True)
    rng = np.random.default_rng([settings.seed, 1])
    return (rng.permutation(len(stars)) % settings.folds)[row]


def _learn(
    network: AgeNetwork,
    scaled: NDArray,
    sigma: NDArray,
    target: NDArray,
    rows: list[NDArray],
    optional: NDArray,
    settings: AgeTraining,
) -> None:
    """Fit all members at once, each to its own stars."""
    rng = np.random.default_rng([settings.seed, 2])
    values, errors, ages = (
        torch.from_numpy(np.array(a, dtype=np.float32)) for a in (scaled, sigma, target)
    )
    groups = [
        {"params": list(network.weight), "weight_decay": settings.weight_decay},
        {"params": list(network.bias), "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups, lr=settings.learning_rate)
    for step in range(settings.steps):
        drawn = np.stack([r[rng.integers(len(r), size=settings.batch)] for r in rows])
        index = torch.from_numpy(drawn)
        x = features(*_made_worse(values[index], errors[index], optional, settings))
        loss = _loss(network(x), ages[index])
        warm = min(1.0, (step + 1) / WARM_UP)
        for group in optimiser.param_groups:
            cosine = 0.5 * (1.0 + math.cos(math.pi * step / settings.steps))
            group["lr"] = settings.learning_rate * warm * cosine
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0 * len(rows))
        optimiser.step()


def _made_worse(
    values: Tensor, errors: Tensor, optional: NDArray, settings: AgeTraining
) -> tuple[Tensor, Tensor]:
    """Labels with larger errors, and without some: values and what is known of their errors."""
    stars = values.shape[:-1]
    size = torch.exp(torch.empty(*stars, 1).uniform_(math.log(0.03), math.log(settings.worst)))
    size = size * torch.exp(0.7 * torch.randn_like(values))
    added = torch.where(torch.rand(*stars, 1) < settings.worse, size, 0.0)
    values = values + added * torch.randn_like(values)
    # how many are left out differs from star to star, so that few labels are met as well as all
    rate = torch.rand(*stars, 1) * (torch.rand(*stars, 1) < settings.missing)
    gone = (torch.rand_like(values) < rate) & torch.from_numpy(optional)
    return torch.where(gone, torch.nan, values), torch.hypot(errors, added)


def _loss(found: tuple[Tensor, Tensor, Tensor], ages: Tensor) -> Tensor:
    """Minus the log density of the ages, of each member the mean; summed over members."""
    log_weight, mean, sigma = found
    known = torch.isfinite(ages)
    pull = (torch.nan_to_num(ages)[..., None] - mean) / sigma
    log = torch.logsumexp(log_weight - 0.5 * pull**2 - torch.log(sigma), dim=-1)
    return -(log * known).sum() / known.sum() * len(ages)


def _calibrate(
    model: AgeModel,
    scaled: NDArray,
    sigma: NDArray,
    log_age: NDArray,
    fold: NDArray,
    left_out: NDArray,
    optional: NDArray,
    settings: AgeTraining,
) -> NDArray:
    """Recalibration by members that have not seen the stars, as they are and made worse."""
    torch.manual_seed(settings.seed + 1)
    versions = [(scaled, sigma)]
    for _ in range(VERSIONS):
        worse = _made_worse(torch.from_numpy(scaled), torch.from_numpy(sigma), optional, settings)
        versions.append((worse[0].numpy(), worse[1].numpy()))
    scores, about = [], []
    for values, errors in versions:
        found = np.full(log_age.shape, np.nan)
        for part in np.unique(fold):
            rows = np.flatnonzero(fold == part)
            below = model.distribution(values[rows], errors[rows], left_out == part)
            found[rows] = _scores(below, log_age[rows])
        scores.append(found)
        about.append(lost(values, errors))
    every, on = np.concatenate(scores), np.concatenate(about)
    return np.stack([_widths(column, on) for column in every.T])


def _scores(below: NDArray, log_age: NDArray) -> NDArray:
    """Normal scores of ages in distributions of shape (N, G, A), shape (N, A)."""
    found = np.full(log_age.shape, np.nan)
    for row, a in np.argwhere(np.isfinite(log_age)):
        share = np.interp(log_age[row, a], LOG_AGE, below[row, :, a])
        found[row, a] = ndtri(np.clip(share, 1e-5, 1 - 1e-5))
    return found


def _widths(scores: NDArray, on: NDArray) -> NDArray:
    """Mean, and coefficients of the log standard deviation, by maximum likelihood."""
    known = np.isfinite(scores)
    scores, on = scores[known], on[known]

    def minus_log_likelihood(p: NDArray) -> float:
        log_width = on @ p[1:]
        return float(np.mean(0.5 * ((scores - p[0]) / np.exp(log_width)) ** 2 + log_width))

    start = np.array([scores.mean(), np.log(scores.std()), 0.0, 0.0])
    return minimize(minus_log_likelihood, start).x
