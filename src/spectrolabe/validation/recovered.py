"""Labels against the truth: how far off they are, whether errors say so, and the worst rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from spectrolabe.catalogue import ResultFlag
from spectrolabe.validation.agreement import WIDE, error_of_median, error_of_width
from spectrolabe.validation.beside import Truth
from spectrolabe.validation.catalogue_rows import Rows
from spectrolabe.validation.metrics import evaluate

__all__ = ["BINS", "Recovered", "Worst", "pulls", "recover", "worst_rows"]

BINS = 10  # of the PIT
WORST, OF_LABEL = 20, 3  # rows that are listed, and of them of one label


@dataclass(frozen=True)
class Recovered:
    """One label against the truth, in good rows.

    Parameters
    ----------
    label, unit : str
    rows, stars : int
        That have both; `stars` are different ones, and errors of numbers are those of so many.
    missing : int
        Good rows with a truth and no value.
    bias, e_bias, mad, rmse : float
        Of catalogue - truth: median with its standard error, 1.4826 MAD, root mean square.
    error : float
        Median stated error, with that of the truth where it has one.
    pull_median, pull_width, e_pull_width : float
        Median and 1.4826 MAD of difference / error.
    beyond_5 : float
        Fraction with a difference beyond five errors.
    coverage_50, coverage_68, coverage_95 : float
        Fraction within central intervals of a normal.
    pit : tuple of int
        Rows by the stated probability below the truth, in ten equal bins; alike if errors are
        right.
    """

    label: str
    unit: str
    rows: int
    stars: int
    missing: int
    bias: float
    e_bias: float
    mad: float
    rmse: float
    error: float
    pull_median: float
    pull_width: float
    e_pull_width: float
    beyond_5: float
    coverage_50: float
    coverage_68: float
    coverage_95: float
    pit: tuple[int, ...]


@dataclass(frozen=True)
class Worst:
    """A row that is far off the truth, by its worst label."""

    row: int
    star_id: str
    spectrum_id: str
    survey: str
    file: str
    snr: float
    label: str
    value: float
    truth: float
    error: float
    pull: float
    flags: str


def pulls(rows: Rows, truth: Truth, name: str) -> tuple[NDArray, NDArray]:
    """Return catalogue - truth over the errors of both, and these errors, shapes (N,)."""
    of_truth = truth.labels.sigma[:, truth.labels.index([name])[0]]
    error = np.hypot(rows.sigma(name), np.nan_to_num(of_truth))
    return (rows.labels[name] - truth.labels[name]) / error, error


def recover(rows: Rows, truth: Truth, name: str, use: NDArray) -> Recovered:
    """Compare a label with the truth.

    Parameters
    ----------
    rows : Rows
    truth : Truth
    name : str
    use : ndarray of bool, shape (N,)
        Rows that count.
    """
    true, own = (labels.select([name]).take(use) for labels in (truth.labels, rows.labels))
    (row,) = evaluate(true, own, truth_sigma=True)
    pull, error = (one[use] for one in pulls(rows, truth, name))
    both = np.isfinite(true[name]) & np.isfinite(own[name])
    stars = int(np.unique(rows.star[use][both]).size)
    pull = pull[np.isfinite(pull)]
    measured = bool(pull.size)

    def share(inside: NDArray) -> float:
        return float(np.mean(inside)) if measured else np.nan

    counts = np.histogram(ndtr(-pull), BINS, (0.0, 1.0))[0]
    return Recovered(
        name,
        row.unit,
        row.stars,
        stars,
        row.missing,
        row.bias,
        error_of_median(row.mad, stars),
        row.mad,
        row.rmse,
        float(np.nanmedian(error[both])) if measured else np.nan,
        row.pull_median,
        row.pull_std,
        error_of_width(row.pull_std, stars),
        share(np.abs(pull) > WIDE),
        share(np.abs(pull) <= ndtri(0.75)),
        share(np.abs(pull) <= ndtri(0.84)),
        share(np.abs(pull) <= ndtri(0.975)),
        tuple(counts.tolist()),
    )


def worst_rows(rows: Rows, truth: Truth, most: int = WORST) -> list[Worst]:
    """Return the good rows with the largest pulls, each with the label that is farthest off.

    At most three are of one label, or the list would often be of the worst label alone.
    """
    names = truth.labels.names
    pull = np.stack([pulls(rows, truth, name)[0] for name in names], axis=1)
    size = np.where(rows.bad[:, None] | ~np.isfinite(pull), -1.0, np.abs(pull))
    label = size.argmax(axis=1)
    largest = size[np.arange(len(rows)), label]
    found: list[Worst] = []
    counts = np.zeros(len(names), dtype=int)
    for i in np.argsort(-largest, kind="stable").tolist():
        if len(found) == most or largest[i] < 0:
            break
        counts[label[i]] += 1
        if counts[label[i]] <= OF_LABEL:
            found.append(_worst(rows, truth, i, names[label[i]], float(pull[i, label[i]])))
    return found


def _worst(rows: Rows, truth: Truth, i: int, name: str, pull: float) -> Worst:
    bits = ResultFlag(int(rows.result_flags[i]))
    return Worst(
        i,
        str(rows.labels.star_id[i]),
        str(rows.spectrum_id[i]),
        str(rows.survey[i]),
        str(rows.file[i]),
        float(rows.snr[i]),
        name,
        float(rows.labels[name][i]),
        float(truth.labels[name][i]),
        float(pulls(rows, truth, name)[1][i]),
        pull,
        " ".join(str(bit.name) for bit in bits),
    )
