"""What each method achieves on shared stars that it has not learnt from."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spectrolabe.homogenise.correction import Correction, input_values
from spectrolabe.homogenise.functions import spread_of
from spectrolabe.homogenise.learning import METHODS, fit_correction
from spectrolabe.homogenise.run import Shared
from spectrolabe.homogenise.support import Support
from spectrolabe.labels import Labels

__all__ = [
    "BASELINES",
    "Judged",
    "Trend",
    "compare_methods",
    "judged",
    "kept_aside",
    "sparsest",
    "trends",
]

BASELINES = ("as it is", "median")
BINS, LEAST = 10, 15  # of a trend, and stars in one
TEST, SPARSE = 0.25, 0.05  # shares of the shared stars that methods are tried on


@dataclass(frozen=True, eq=False)
class Trend:
    """Medians of differences in bins of one input.

    Parameters
    ----------
    name : str
        Of the input.
    at, low, middle, high : ndarray, shape (B,)
        Median of the input; 16, 50 and 84 per cent quantiles of the differences.
    stars : ndarray of int, shape (B,)
    """

    name: str
    at: NDArray
    low: NDArray
    middle: NDArray
    high: NDArray
    stars: NDArray


def trends(names: Sequence[str], points: NDArray, difference: NDArray) -> list[Trend]:
    """Return the trends of differences, shape (N,), with inputs, shape (N, D).

    Bins have the same number of stars.
    """
    found = []
    use = np.isfinite(points).all(axis=1) & np.isfinite(difference)
    points, difference = points[use], difference[use]
    count = min(BINS, len(points) // LEAST)
    for j, name in enumerate(names):
        parts = np.array_split(np.argsort(points[:, j], kind="stable"), count) if count else []
        quantiles = [np.quantile(difference[part], (0.16, 0.5, 0.84)) for part in parts]
        low, middle, high = np.array(quantiles).reshape(-1, 3).T
        at = np.array([np.median(points[part, j]) for part in parts])
        stars = np.array([len(part) for part in parts], dtype=int)
        found.append(Trend(name, at, low, middle, high, stars))
    return found


@dataclass(frozen=True)
class Judged:
    """A method on stars that it has not learnt from; differences are reference less corrected.

    Parameters
    ----------
    method, text : str
        Name, and what the function is.
    stars : int
    bias, scatter, rmse : float
        Median, 1.4826 MAD and root mean square of the differences.
    trend_max, trend_rms, noise : float
        Of the binned medians over all inputs; and what these would be of no trend, rms.
    pulls : float
        1.4826 MAD of differences over stated uncertainties.
    flagged, worse : float
        Share of stars that are flagged; their rms over that of others.
    seconds : float
        Of learning.
    """

    method: str
    text: str
    stars: int
    bias: float
    scatter: float
    rmse: float
    trend_max: float
    trend_rms: float
    noise: float
    pulls: float
    flagged: float
    worse: float
    seconds: float


def sparsest(points: NDArray, share: float = SPARSE) -> NDArray:
    """Return the share of stars that have the fewest others near them, shape (N,), bool.

    By the mean distance to the nearest stars in units of the spread of each input.
    """
    scaled = (points - np.median(points, axis=0)) / np.std(points, axis=0)
    distance = Support.of(scaled, np.ones(points.shape[1])).distance(scaled)
    return np.asarray(distance > np.quantile(distance, 1.0 - share))


def judged(
    correction: Correction | str,
    name: str,
    target: Labels,
    reference: Labels,
    extra: dict[str, NDArray],
    columns: tuple[str, ...],
    seconds: float = 0.0,
) -> Judged:
    """Return what a correction, or one of `BASELINES`, does for one label of some stars."""
    j = target.names.index(name)
    known = reference.sigma[:, reference.names.index(name)]
    if isinstance(correction, str):
        # the median difference of these very stars: no constant does better
        shift = np.nanmedian(reference[name] - target[name]) if correction == "median" else 0.0
        new, sigma, text = target[name] + shift, target.sigma[:, j], ""
        flags = np.zeros(len(target), dtype=int)
        method = correction
    else:
        found = correction.apply(target, extra)
        new, sigma, flags = found.labels[name], found.labels.sigma[:, j], found.flags[:, j]
        method, text = str(correction.card["method"]), str(correction.labels[name].card["bend"])
    left = reference[name] - new
    points = input_values(columns, target, extra)
    use = np.isfinite(left) & np.isfinite(points).all(axis=1)
    left, odd = left[use], flags[use] != 0
    lines = trends(columns, points[use], left)
    middles = np.concatenate([line.middle for line in lines])
    stars = np.concatenate([line.stars for line in lines])
    scatter = spread_of(left - np.median(left))
    with np.errstate(invalid="ignore", divide="ignore"):
        pull = left / np.hypot(sigma[use], np.nan_to_num(known[use]))
    rms = [
        float(np.sqrt(np.mean(left[part] ** 2))) if part.any() else np.nan for part in (odd, ~odd)
    ]
    return Judged(
        method,
        text,
        len(left),
        float(np.median(left)),
        scatter,
        float(np.sqrt(np.mean(left**2))),
        float(np.abs(middles).max()),
        float(np.sqrt(np.mean(middles**2))),
        # the standard error of a median of normal values
        float(np.sqrt(np.pi / 2.0 * scatter**2 * np.mean(1.0 / stars))),
        spread_of(pull - np.median(pull)),
        float(odd.mean()),
        rms[0] / rms[1],
        seconds,
    )


def kept_aside(shared: Shared, seed: int) -> NDArray:
    """Return which rows are of a quarter of the stars, chosen by chance, shape (N,), bool."""
    stars, which = np.unique(shared.target.star_id, return_inverse=True)
    chosen = np.random.default_rng(seed).random(len(stars)) < TEST
    return np.asarray(chosen[which])


def compare_methods(
    shared: Shared,
    name: str,
    *,
    methods: Sequence[str] = tuple(METHODS),
    inputs: Sequence[str] = ("teff", "logg", "fe_h"),
    sparse: bool = False,
    seed: int = 0,
    **how: Any,
) -> list[Judged]:
    """Learn one label by several methods, and judge them by stars kept aside.

    Parameters
    ----------
    shared : Shared
    name : str
    methods : sequence of str
    inputs : sequence of str
    sparse : bool
        Keep aside the 5 per cent of the stars that have the fewest others near them, instead of a
        quarter by chance: does it hold where it was not learnt?
    seed : int
    **how
        As `fit_correction`.

    Returns
    -------
    list of Judged
        `BASELINES` first.
    """
    columns = tuple(dict.fromkeys([*(n for n in inputs if n in shared.target.names), name]))
    columns += tuple(n for n in inputs if n in shared.extra)
    points = input_values(columns, shared.target, shared.extra)
    use = np.flatnonzero(
        np.isfinite(points).all(axis=1)
        & np.isfinite(shared.target[name])
        & np.isfinite(shared.reference[name])
    )
    if sparse:
        aside = np.zeros(len(points), dtype=bool)
        aside[use] = sparsest(points[use])
    else:
        aside = kept_aside(shared, seed)
    learnt, tried = (np.intersect1d(use, np.flatnonzero(part)) for part in (~aside, aside))

    def some(rows: NDArray) -> tuple[Labels, Labels, dict[str, NDArray]]:
        extra = {key: values[rows] for key, values in shared.extra.items()}
        return shared.target.take(rows), shared.reference.take(rows), extra

    names = [n for n in shared.target.names if n in shared.reference.names and n in columns]
    names = names if how.get("true_scale") else [name]  # inputs are corrected there, too
    one, other, extra = some(learnt)
    test = some(tried)
    found = [judged(base, name, *test, columns) for base in BASELINES]
    for method in methods:
        begin = time.monotonic()
        fit = fit_correction(
            one, other, names, method=method, inputs=inputs, extra=extra, seed=seed, **how
        )
        found.append(judged(fit, name, *test, columns, time.monotonic() - begin))
    return found
