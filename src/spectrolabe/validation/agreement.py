"""Do rows that should agree do so, in units of their stated errors: repeats, surveys, binaries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from spectrolabe.labels import LABELS
from spectrolabe.validation.catalogue_rows import Rows
from spectrolabe.validation.metrics import MAD_TO_SIGMA, mad

__all__ = [
    "COMPOSITION",
    "WIDE",
    "Agreement",
    "agreements",
    "binaries",
    "error_of_fraction",
    "error_of_median",
    "error_of_width",
    "repeats",
    "survey_pairs",
]

COMPOSITION = tuple(n for n, one in LABELS.items() if one.unit == "dex" and n != "logg")
"""Labels that stars of one cloud have in common."""
WIDE = 5.0  # stated errors
OF_WIDTH, OF_MEDIAN = (
    1.16,
    1.2533,
)  # standard errors of the MAD and the median of a normal, one star


def error_of_width(width: float, count: int) -> float:
    """Return the standard error of a 1.4826 MAD of so many normal values."""
    return float(OF_WIDTH * width / np.sqrt(count)) if count else np.nan


def error_of_median(width: float, count: int) -> float:
    """Return the standard error of a median of so many normal values of that spread."""
    return float(OF_MEDIAN * width / np.sqrt(count)) if count else np.nan


def error_of_fraction(fraction: float, count: int) -> float:
    """Return the standard error of a fraction; not 0 where none or all were counted."""
    if not count:
        return np.nan
    likely = (fraction * count + 1.0) / (count + 2.0)
    return float(np.sqrt(likely * (1.0 - likely) / count))


@dataclass(frozen=True)
class Agreement:
    """Differences of one label between pairs of rows.

    Parameters
    ----------
    label, unit : str
    pairs : int
    median, spread : float
        Median of the differences and 1.4826 MAD about it.
    error : float
        Median stated error of a difference.
    offset : float
        ``median / error``.
    width, e_width : float
        1.4826 MAD of difference / error with its standard error: about 0 where a pair has no
        order, else about the median.
    beyond_5 : float
        Fraction with a difference, from the same middle, beyond five errors.
    """

    label: str
    unit: str
    pairs: int
    median: float
    spread: float
    error: float
    offset: float
    width: float
    e_width: float
    beyond_5: float


def agreements(
    rows: Rows, pairs: NDArray, names: Sequence[str], *, ordered: bool
) -> list[Agreement]:
    """Return how well the two rows of each pair agree.

    Parameters
    ----------
    rows : Rows
    pairs : ndarray of int, shape (P, 2)
        Rows; differences are the first less the second.
    names : sequence of str
        Labels.
    ordered : bool
        Whether it means something which of the two is the first.
    """
    return [_agreement(rows, pairs, name, ordered) for name in names]


def differences(rows: Rows, pairs: NDArray, name: str) -> tuple[NDArray, NDArray]:
    """Return the differences of a label and their stated errors, shapes (P,); NaN where unknown."""
    one, other = pairs.T
    sigma = rows.sigma(name)
    return rows.labels[name][one] - rows.labels[name][other], np.hypot(sigma[one], sigma[other])


def _agreement(rows: Rows, pairs: NDArray, name: str, ordered: bool) -> Agreement:
    difference, error = differences(rows, pairs, name)
    use = np.isfinite(difference) & np.isfinite(error)
    difference, error = difference[use], error[use]
    unit, count = LABELS[name].unit, int(use.sum())
    if not count:
        return Agreement(name, unit, 0, *[np.nan] * 7)
    pull = difference / error
    pull = pull - np.median(pull) if ordered else pull
    width = float(MAD_TO_SIGMA * np.median(np.abs(pull)))
    middle, typical = float(np.median(difference)), float(np.median(error))
    return Agreement(
        name,
        unit,
        count,
        middle,
        mad(difference),
        typical,
        middle / typical,
        width,
        error_of_width(width, count),
        float(np.mean(np.abs(pull) > WIDE)),
    )


def repeats(rows: Rows) -> NDArray:
    """Return pairs of good rows of one star, survey and catalogue, no row in two, shape (P, 2).

    Rows with a spectrum in common are no repeats.
    """
    good = np.flatnonzero(~rows.bad)
    survey = np.unique(rows.survey, return_inverse=True)[1]
    kind = np.stack([rows.star, survey.ravel(), rows.source], axis=1)[good]
    order = np.lexsort((good, *kind.T))
    good, kind = good[order], kind[order]
    found, i = [], 0
    same = (kind[1:] == kind[:-1]).all(axis=1)
    spectra = rows.spectrum_id
    while i < len(same):
        one, other = good[i], good[i + 1]
        if same[i] and not set(spectra[one].split(";")) & set(spectra[other].split(";")):
            found.append((one, other))
            i += 1
        i += 1
    return np.array(found, dtype=int).reshape(-1, 2)


def survey_pairs(rows: Rows) -> dict[tuple[str, str], NDArray]:
    """Return pairs of rows of the stars that two surveys have, by pair of surveys.

    Of several good rows of a star in one survey the one with the highest S/N counts. Rows of
    several surveys together belong to none of them.
    """
    best = {}
    for survey in rows.surveys:
        if ";" not in survey:
            chosen = rows.best_of_star(~rows.bad & (rows.survey == survey))
            best[survey] = chosen
    found = {}
    for one, other in combinations(best, 2):
        _, i, j = np.intersect1d(rows.star[best[one]], rows.star[best[other]], return_indices=True)
        if len(i):
            found[one, other] = np.stack([best[one][i], best[other][j]], axis=1)
    return found


def binaries(rows: Rows, stars: NDArray) -> NDArray:
    """Return the rows of highest S/N of both stars of each binary, shape (P, 2).

    Parameters
    ----------
    rows : Rows
    stars : ndarray of int, shape (P, 2)
        See `spectrolabe.validation.beside.read_binaries`. Pairs without a good row of both are
        left out.
    """
    best = rows.best_of_star(~rows.bad)
    row = np.full(rows.star.max() + 1, -1)
    row[rows.star[best]] = best
    pairs = row[stars].reshape(-1, 2)
    return pairs[(pairs >= 0).all(axis=1)]
