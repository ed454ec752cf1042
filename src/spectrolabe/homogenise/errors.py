"""How large the errors of catalogues are: from repeats, and from three catalogues of some stars.

Errors that surveys state are of many kinds; before catalogues are combined they are measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from spectrolabe.errors import InputError
from spectrolabe.homogenise.functions import spread_of
from spectrolabe.homogenise.linear import Linear
from spectrolabe.homogenise.noise import Noise
from spectrolabe.labels import Labels

__all__ = ["Hat", "hats", "merged", "noise_of_repeats", "three_cornered_hat"]

FEWEST = 30  # pairs of rows
ORDER = 3  # of trends of differences
DRAWS = 200  # of the stars, for errors of errors
PASSES = 4  # over the weights of catalogues
LEAST = 0.05  # of the largest error, that one counts as at least
WIDE = 5.0  # errors, beyond which rows of a star are not of one star, or one is wrong


def noise_of_repeats(labels: Labels) -> dict[str, Noise]:
    """Return what errors must be for the rows of a star to agree, for labels with enough repeats.

    Parameters
    ----------
    labels : Labels
        With several rows of some stars.

    Notes
    -----
    Neighbouring rows of a star are compared. What all its rows have in common does not show.
    """
    order = np.argsort(labels.star_id, kind="stable")
    star = labels.star_id[order]
    first = np.flatnonzero((star[1:] == star[:-1]) & (star[1:] != ""))
    first = first[np.r_[True, np.diff(first) > 1]] if len(first) else first  # no row in two pairs
    # a row that is there twice is no repeat
    rows = labels.values[order]
    same = ((rows[first + 1] == rows[first]) | np.isnan(rows[first])).all(axis=1)
    found = {}
    for j, name in enumerate(labels.names):
        value, sigma = labels.values[order, j], np.nan_to_num(labels.sigma[order, j])
        difference = value[first + 1] - value[first]
        use = np.isfinite(difference) & ~same
        if use.sum() >= FEWEST and np.median(np.abs(difference[use])) > 0:
            both = np.hypot(sigma[first + 1], sigma[first])[use]
            of_both = Noise.of(difference[use], both)
            found[name] = Noise(of_both.factor, of_both.floor / np.sqrt(2.0))
    return found


@dataclass(frozen=True)
class Hat:
    """Errors of one label in several catalogues.

    Parameters
    ----------
    sigma, error : mapping of str to float
        Standard deviation of the errors of each catalogue, and how well it is known.
    stars : int
        That all have.
    """

    sigma: Mapping[str, float]
    error: Mapping[str, float]
    stars: int


def three_cornered_hat(
    values: Mapping[str, NDArray],
    points: NDArray | None = None,
    seed: int = 0,
    draws: int = DRAWS,
) -> Hat:
    """Return the errors of three or more catalogues from their differences alone.

    Variances of differences are sums of two variances each, where errors are independent
    (Grubbs 1948; Gray & Allan 1974); with more than three, by least squares. Robust: spreads are
    1.4826 MAD. Errors that two catalogues share are taken for those of the others.

    Parameters
    ----------
    values : mapping of str to ndarray, shape (N,)
        Values of one label of the same stars, NaN where not known.
    points : ndarray, shape (N, D), optional
        Where the stars are in labels: smooth trends of the differences with these are no errors,
        and taken off; `hats` finds them. Without it scales must be equal.
    seed : int
        Of the bootstrap.
    draws : int
        Of the bootstrap.

    Raises
    ------
    InputError
        If there are less than three catalogues, or too few common stars.
    """
    names = list(values)
    table = np.stack([values[name] for name in names])
    known = np.isfinite(table).all(axis=0)
    if points is not None:
        known &= np.isfinite(points).all(axis=1)
    table = table[:, known]
    if len(names) < 3 or table.shape[1] < FEWEST:
        raise InputError(
            "three-cornered hat",
            expected=f"three catalogues with {FEWEST} stars that all have",
            found=f"{len(names)} with {table.shape[1]}",
        )
    pairs = list(combinations(range(len(names)), 2))
    sums = np.array([[float(i in pair) for i in range(len(names))] for pair in pairs])

    differences = [table[i] - table[j] for i, j in pairs]
    if points is not None:
        differences = [_without_trend(points[known], one) for one in differences]

    def solved(rows: NDArray) -> NDArray:
        spread = [spread_of(one[rows] - np.median(one[rows])) ** 2 for one in differences]
        return np.sqrt(nnls(sums, np.array(spread))[0])

    rng, count = np.random.default_rng(seed), table.shape[1]
    best = solved(np.arange(count))
    again = (rng.choice(count, size=count) for _ in range(draws))  # all at once need too much room
    drawn = np.std([solved(np.asarray(rows)) for rows in again], axis=0)
    return Hat(
        dict(zip(names, best.tolist(), strict=True)),
        dict(zip(names, drawn.tolist(), strict=True)),
        count,
    )


def hats(catalogues: Mapping[str, Labels], names: Sequence[str], seed: int = 0) -> dict[str, Hat]:
    """Return the errors of labels in three or more catalogues, whatever their scales.

    Trends are taken off with what all catalogues together say of a star, weighted by the errors
    that are found: of the weighted mean, and of no other, the errors have nothing to do with those
    of a difference, so that no noise is taken off with the trends.

    Parameters
    ----------
    catalogues : mapping of str to Labels
        Row by row the same stars.
    names : sequence of str
        Labels that all have. Those of which fewer than 30 stars are known in all are left out.
    seed : int
        Of the bootstrap.

    Raises
    ------
    InputError
        If there are less than three catalogues, or all labels are left out.
    """
    values = {n: {key: one[n] for key, one in catalogues.items()} for n in names}
    together = [np.isfinite(list(values[n].values())).all(axis=0).sum() for n in names]
    enough = [n for n, count in zip(names, together, strict=True) if count >= FEWEST]
    if len(catalogues) < 3 or not enough:
        raise InputError(
            "three-cornered hat",
            expected=f"three catalogues with {FEWEST} stars that all have",
            found=f"{len(catalogues)} with {max(together, default=0)}",
        )
    weights = {n: np.ones(len(catalogues)) for n in enough}
    for turn in range(PASSES):
        points = np.column_stack(
            [np.average(list(values[n].values()), axis=0, weights=weights[n]) for n in enough]
        )
        found = {
            n: three_cornered_hat(values[n], points, seed, DRAWS if turn == PASSES - 1 else 1)
            for n in enough
        }
        for n, hat in found.items():
            sigma = np.array(list(hat.sigma.values()))
            weights[n] = np.maximum(sigma, LEAST * sigma.max()) ** -2.0
    return found


def _without_trend(points: NDArray, difference: NDArray) -> NDArray:
    x = (points - points.mean(axis=0)) / points.std(axis=0)
    spread = spread_of(difference - np.median(difference))
    fit = Linear.fit("polynomial", ORDER, x, difference / spread, np.ones(len(x)))
    return difference - spread * fit(x)


def merged(labels: Labels) -> tuple[Labels, NDArray]:
    """Return one row for each star: means of its rows, weighted by their errors.

    Values farther than `WIDE` errors from the median of three or more rows have no weight; of two
    rows that disagree so much none can be believed, and the label is NaN.

    Parameters
    ----------
    labels : Labels
        N rows of M stars; values without an error count as the worst of their label, and if none
        has one, all alike.

    Returns
    -------
    Labels
        M stars, in the order of their first rows.
    first : ndarray of int, shape (M,)
        These rows.
    """
    _, first, star, rows = np.unique(
        labels.star_id, return_index=True, return_inverse=True, return_counts=True
    )
    order = np.argsort(first)
    if (rows == 1).all():
        return labels, np.arange(len(labels))
    shape = (len(first), len(labels.names))
    value, sigma = np.full(shape, np.nan), np.full(shape, np.nan)
    for j in range(len(labels.names)):
        value[:, j], sigma[:, j] = _mean(labels.values[:, j], labels.sigma[:, j], star, len(first))
    first = first[order]
    return Labels(labels.names, value[order], sigma[order], labels.star_id[first]), first


def _mean(value: NDArray, sigma: NDArray, star: NDArray, count: int) -> tuple[NDArray, NDArray]:
    known = np.isfinite(value)
    stated = known & (np.nan_to_num(sigma) > 0)
    worst = float(np.max(sigma[stated])) if stated.any() else 1.0
    error = np.where(stated, sigma, worst)
    middle, number = _medians(value, star, known, count)
    off = np.abs(value - middle[star]) / error
    # two rows are each half of their difference from their median
    wrong = np.where(number[star] > 2, off > WIDE, off > WIDE / np.sqrt(2.0)) & stated.any()
    weight = np.where(known & ~wrong, error**-2.0, 0.0)
    total = np.bincount(star, weight, count)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.bincount(star, weight * np.nan_to_num(value), count) / total
        spread = total**-0.5 if stated.any() else np.full(count, np.nan)
    return np.where(total > 0, mean, np.nan), np.where(total > 0, spread, np.nan)


def _medians(value: NDArray, star: NDArray, known: NDArray, count: int) -> tuple[NDArray, NDArray]:
    """Median of the known values of each star, and how many these are."""
    rows = np.flatnonzero(known)
    rows = rows[np.lexsort((value[rows], star[rows]))]
    number = np.bincount(star[rows], minlength=count)
    begin = np.cumsum(number) - number
    has = number > 0
    median = np.full(count, np.nan)
    low, high = begin[has] + (number[has] - 1) // 2, begin[has] + number[has] // 2
    median[has] = 0.5 * (value[rows[low]] + value[rows[high]])
    return median, number
