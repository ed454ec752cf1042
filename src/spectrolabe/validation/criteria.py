"""What a catalogue must reach to be believed, and why: the only place where this is decided.

Numbers of few stars are uncertain themselves. A number passes within one of its standard errors of
what passes, and fails beyond two of them from what warns, so that chance alone rarely fails a good
catalogue. Numbers of fewer than twenty stars are not judged.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["CRITERIA", "FEW", "Criterion", "Judged", "judge"]

FEW = 20  # stars or pairs; a width of fewer is known to a quarter at best
TO_PASS, TO_WARN = 1.0, 2.0  # standard errors beyond the range


@dataclass(frozen=True)
class Criterion:
    """A range that passes, and a wider one that only warns.

    Parameters
    ----------
    title : str
        Head of its column.
    passes, warns : (low, high)
        Both ends belong to the range; beyond ``warns`` it fails.
    reason : str
        Why these numbers.
    """

    title: str
    passes: tuple[float, float]
    warns: tuple[float, float]
    reason: str


INF = float("inf")
CRITERIA: dict[str, Criterion] = {
    "bias": Criterion(
        "bias / error",
        (-1 / 3, 1 / 3),
        (-1.0, 1.0),
        "Median difference from the truth over the median stated error. A third makes the whole "
        "error 5 per cent larger than stated; as much as the error makes it 41 per cent larger.",
    ),
    "pull_width": Criterion(
        "pull width",
        (0.9, 1.1),
        (0.8, 1.25),
        "1.4826 MAD of (catalogue − truth) / error, 1 if errors are right. Errors that are off by "
        "a tenth change few conclusions, by a quarter those of any weighted mean.",
    ),
    "coverage_68": Criterion(
        "in 68 %",
        (0.63, 0.73),
        (0.57, 0.79),
        "Share of true values within one stated error: of a normal with the pull widths beside.",
    ),
    "coverage_95": Criterion(
        "in 95 %",
        (0.92, 0.98),
        (0.88, 0.99),
        "The same of the central 95 per cent: tails that the width does not see.",
    ),
    "beyond_5": Criterion(
        "beyond 5σ",
        (0.0, 0.01),
        (0.0, 0.03),
        "Share off by more than five stated errors. A normal has one in two million; one in "
        "a hundred is what catalogues of good surveys have, three spoil samples chosen by a label.",
    ),
    "repeats": Criterion(
        "repeats",
        (0.9, 1.1),
        (0.0, 1.25),
        "1.4826 times the median |difference| / error of two rows of a star from one survey. Below "
        "0.9 is no failure: what all rows of a star have in common does not show in them.",
    ),
    "survey_offset": Criterion(
        "survey offset",
        (-1 / 3, 1 / 3),
        (-1.0, 1.0),
        "Median difference of stars that two surveys have over its median error, of the pair of "
        "surveys where it is worst: as for the bias.",
    ),
    "survey_width": Criterion(
        "survey width",
        (0.9, 1.1),
        (0.0, 1.25),
        "1.4826 MAD of the difference over its error, of the pair where it is widest: as for "
        "repeats.",
    ),
    "dispersion": Criterion(
        "in clusters [dex]",
        (0.0, 0.03),
        (0.0, 0.06),
        "Scatter of members of open clusters beyond their errors. Clusters are homogeneous to 0.03 "
        "dex or better (Bovy 2016, ApJ 817, 49).",
    ),
    "trend": Criterion(
        "per 1000 K [dex]",
        (-0.03, 0.03),
        (-0.06, 0.06),
        "Slope with Teff of members of one cluster: no more than clusters may scatter.",
    ),
    "binaries": Criterion(
        "binaries",
        (0.9, 1.1),
        (0.0, 1.25),
        "As repeats, of the two stars of wide binaries, which have one composition.",
    ),
}


@dataclass(frozen=True)
class Judged:
    """A number of one label and what it is worth.

    Parameters
    ----------
    label, criterion : str
    value, error : float
        With its standard error.
    count : int
        Stars or pairs that it is of.
    verdict : str
        ``pass``, ``warn``, ``fail``, or ``few`` where it is of too few to say.
    where : str
        The survey, or the pair of surveys that is the worst of several; empty for all together.
    """

    label: str
    criterion: str
    value: float
    error: float
    count: int
    verdict: str
    where: str = ""


def judge(
    criterion: str, label: str, value: float, error: float, count: int, where: str = ""
) -> Judged:
    """Return a number with its verdict, see `CRITERIA`.

    Parameters
    ----------
    criterion : str
        A key of `CRITERIA`.
    label : str
    value, error : float
    count : int
    where : str
        See `Judged`.
    """
    rule = CRITERIA[criterion]
    verdict = "fail"
    if count < FEW or not np.isfinite(value):
        verdict = "few"
    elif _reaches(rule.passes, value, TO_PASS * error):
        verdict = "pass"
    elif _reaches(rule.warns, value, TO_WARN * error):
        verdict = "warn"
    return Judged(label, criterion, float(value), float(error), int(count), verdict, where)


def _reaches(inside: tuple[float, float], value: float, slack: float) -> bool:
    slack = float(np.nan_to_num(slack))
    return bool(inside[0] - slack <= value <= inside[1] + slack)
