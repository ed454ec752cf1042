"""All numbers of a validation, as the page shows them and a program may read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spectrolabe.catalogue import LabelFlag, ResultFlag
from spectrolabe.labels import LABELS
from spectrolabe.validation import agreement
from spectrolabe.validation.agreement import (
    COMPOSITION,
    Agreement,
    agreements,
    error_of_fraction,
    error_of_median,
)
from spectrolabe.validation.beside import Truth
from spectrolabe.validation.catalogue_rows import Rows
from spectrolabe.validation.cluster_spread import ClusterSpread, cluster_members, cluster_spread
from spectrolabe.validation.criteria import Judged, judge
from spectrolabe.validation.recovered import Recovered, Worst, recover, worst_rows

__all__ = ["EVERY", "Counts", "Described", "Findings", "Validated", "describe", "find", "plain"]

EVERY = "all"
OF_EXPOSURE = "rv_residual"  # the error of a stated velocity: stars have none


@dataclass(frozen=True)
class Described:
    """How one label is distributed among good rows.

    Parameters
    ----------
    label, unit : str
    known : int
        Good rows that have it.
    quantiles : tuple of float
        At 0, 16, 50, 84 and 100 per cent.
    error : float
        Median stated error.
    flags : mapping of str to int
        All rows with each flag of the label, bad ones too.
    """

    label: str
    unit: str
    known: int
    quantiles: tuple[float, ...]
    error: float
    flags: Mapping[str, int]


@dataclass(frozen=True)
class Counts:
    """Rows of one survey, or of all.

    Parameters
    ----------
    rows, stars, bad, clean : int
        ``bad`` rows have ``flag_bad``, ``clean`` ones no flag.
    snr : float
        Median.
    flags : mapping of str to int
        Rows with each flag of `ResultFlag`.
    """

    rows: int
    stars: int
    bad: int
    clean: int
    snr: float
    flags: Mapping[str, int]


@dataclass(frozen=True)
class Findings:
    """Everything that was measured.

    Parameters
    ----------
    counts : dict of str to Counts
        ``all`` and by survey.
    labels : list of Described
    recovered : dict of str to list of Recovered
        ``all`` and by survey; empty without a truth.
    repeats : dict of str to list of Agreement
        ``all`` and by survey.
    surveys : dict of (str, str) to list of Agreement
    clusters : list of ClusterSpread
        All together, a label each; ``each_cluster`` are they one by one.
    binaries : list of Agreement
    worst : list of Worst
    summary : list of Judged
        Of all surveys together, and of each.
    """

    counts: dict[str, Counts]
    labels: list[Described]
    recovered: dict[str, list[Recovered]] = field(default_factory=dict)
    repeats: dict[str, list[Agreement]] = field(default_factory=dict)
    surveys: dict[tuple[str, str], list[Agreement]] = field(default_factory=dict)
    clusters: list[ClusterSpread] = field(default_factory=list)
    each_cluster: list[ClusterSpread] = field(default_factory=list)
    binaries: list[Agreement] = field(default_factory=list)
    worst: list[Worst] = field(default_factory=list)
    summary: list[Judged] = field(default_factory=list)

    def judged(self, survey: str = "") -> list[Judged]:
        """Return the summary of a survey, or of all together and their pairs."""
        if survey:
            return [one for one in self.summary if one.where == survey]
        of_pairs = ("survey_offset", "survey_width")
        return [one for one in self.summary if not one.where or one.criterion in of_pairs]

    def as_json(self) -> dict[str, Any]:
        """Return all numbers as JSON has them, null where there is none."""
        found = asdict(self)
        found["surveys"] = {f"{a} - {b}": rows for (a, b), rows in found["surveys"].items()}
        return dict(plain(found))


@dataclass(frozen=True, eq=False)
class Validated:
    """What a page is made of.

    Parameters
    ----------
    rows : Rows
    found : Findings
    truth : Truth or None
    clusters : mapping of str to ndarray of int, or None
    binaries : Path or None
        Their table.
    spectra : tuple of Path
        Folders in which files of spectra are looked for.
    """

    rows: Rows
    found: Findings
    truth: Truth | None
    clusters: Mapping[str, NDArray] | None
    binaries: Path | None
    spectra: tuple[Path, ...] = ()


def plain(value: Any) -> Any:
    """Return numbers and lists as JSON has them: null for NaN, no numpy type."""
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(one) for one in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def find(
    rows: Rows,
    truth: Truth | None = None,
    clusters: Mapping[str, NDArray] | None = None,
    binaries: NDArray | None = None,
) -> Findings:
    """Measure what can be measured.

    Parameters
    ----------
    rows : Rows
    truth : Truth, optional
    clusters : mapping of str to ndarray of int, optional
        Stars of each cluster.
    binaries : ndarray of int, shape (P, 2), optional
        Stars.
    """
    every = np.ones(len(rows), dtype=bool)
    counts = {EVERY: _count(rows, every)}
    counts |= {one: _count(rows, rows.survey == one) for one in rows.surveys}
    found = Findings(counts, [describe(rows, name) for name in rows.names])
    if truth is not None:
        names = truth.labels.names
        for key, use in _by_survey(rows, ~rows.bad & truth.matched):
            found.recovered[key] = [recover(rows, truth, name, use) for name in names]
        found.worst.extend(worst_rows(rows, truth))
    of_stars = [name for name in rows.names if name != OF_EXPOSURE]
    pairs = agreement.repeats(rows)
    if len(pairs):
        first = np.isin(np.arange(len(rows)), pairs[:, 0])
        for key, use in _by_survey(rows, first):
            found.repeats[key] = agreements(rows, pairs[use[pairs[:, 0]]], of_stars, ordered=False)
    for two, both in agreement.survey_pairs(rows).items():
        found.surveys[two] = agreements(rows, both, of_stars, ordered=True)
    composition = [name for name in rows.names if name in COMPOSITION]
    for name in composition if clusters else ():
        members = cluster_members(rows, clusters or {}, name)
        found.clusters.append(cluster_spread(members, name))
        found.each_cluster.extend(cluster_spread(members, name, one) for one in members.names)
    if binaries is not None:
        both = agreement.binaries(rows, binaries)
        found.binaries.extend(agreements(rows, both, composition, ordered=False))
    found.summary.extend(_judged(found))
    return found


def _count(rows: Rows, here: NDArray) -> Counts:
    flags = rows.result_flags[here]
    snr = rows.snr[here]
    return Counts(
        int(here.sum()),
        int(np.unique(rows.star[here]).size),
        int(rows.bad[here].sum()),
        int((flags == 0).sum()),
        float(np.nanmedian(snr)) if np.isfinite(snr).any() else np.nan,
        {str(bit.name): int(((flags & bit) != 0).sum()) for bit in ResultFlag},
    )


def _by_survey(rows: Rows, use: NDArray) -> list[tuple[str, NDArray]]:
    """All rows in use, and those of each survey if there are several."""
    each = [(one, use & (rows.survey == one)) for one in rows.surveys]
    each = [(one, here) for one, here in each if here.any()]
    return [(EVERY, use), *(each if len(each) > 1 else [])]


def describe(rows: Rows, name: str) -> Described:
    """Return how a label is distributed."""
    use = ~rows.bad & np.isfinite(rows.labels[name])
    values, sigma = rows.labels[name][use], rows.sigma(name)[use]
    known = bool(use.any())
    quantiles = np.quantile(values, [0.0, 0.16, 0.5, 0.84, 1.0]) if known else np.full(5, np.nan)
    flags = rows.label_flags[:, rows.labels.index([name])[0]]
    return Described(
        name,
        LABELS[name].unit,
        int(use.sum()),
        tuple(quantiles.tolist()),
        float(np.nanmedian(sigma)) if np.isfinite(sigma).any() else np.nan,
        {str(bit.name): int(((flags & bit) != 0).sum()) for bit in LabelFlag},
    )


def _judged(found: Findings) -> list[Judged]:
    judged: list[Judged] = []
    for key, several in found.recovered.items():
        for one in several:
            judged += _judged_recovered(one, "" if key == EVERY else key)
    for key, pairs in found.repeats.items():
        judged += [_width("repeats", one, "" if key == EVERY else key) for one in pairs]
    judged += _judged_surveys(found.surveys)
    for c in found.clusters:
        judged += [
            judge("dispersion", c.label, c.dispersion, c.e_dispersion, c.members),
            judge("trend", c.label, c.trend, c.e_trend, c.members),
        ]
    judged += [_width("binaries", one) for one in found.binaries]
    return judged


def _judged_recovered(one: Recovered, where: str) -> list[Judged]:
    values = {
        "bias": (one.bias / one.error, one.e_bias / one.error),
        "pull_width": (one.pull_width, one.e_pull_width),
    }
    for key in ("coverage_68", "coverage_95", "beyond_5"):
        share = getattr(one, key)
        values[key] = share, error_of_fraction(share, one.stars)
    return [judge(key, one.label, *pair, one.stars, where) for key, pair in values.items()]


def _width(criterion: str, one: Agreement, where: str = "") -> Judged:
    return judge(criterion, one.label, one.width, one.e_width, one.pairs, where)


def _judged_surveys(surveys: Mapping[tuple[str, str], Sequence[Agreement]]) -> list[Judged]:
    """Of each label the pair of surveys that is worst."""
    order = ("few", "pass", "warn", "fail")
    judged: dict[tuple[str, str], list[Judged]] = {}
    for (a, b), rows in surveys.items():
        for one in rows:
            error = error_of_median(one.spread, one.pairs) / one.error
            pair = f"{a} - {b}"
            judged.setdefault((one.label, "offset"), []).append(
                judge("survey_offset", one.label, one.offset, error, one.pairs, pair)
            )
            judged.setdefault((one.label, "width"), []).append(_width("survey_width", one, pair))
    # of the same verdict, the farthest from right
    return [
        max(several, key=lambda j: (order.index(j.verdict), abs(np.nan_to_num(j.value))))
        for several in judged.values()
    ]
