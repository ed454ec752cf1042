"""How close estimated labels are to the truth, and whether their uncertainties are right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from rich.table import Table
from scipy.special import ndtri

from spectrolabe.errors import InputError
from spectrolabe.labels import LABELS, Labels
from spectrolabe.models.posterior import LabelPosterior

__all__ = ["LabelMetrics", "evaluate", "evaluate_bins", "mad", "to_markdown", "to_rich"]

MAD_TO_SIGMA = 1.4826  # standard deviation over median absolute deviation of a normal


@dataclass(frozen=True)
class LabelMetrics:
    """How well one label of a set of stars is known.

    Parameters
    ----------
    label, unit : str
    stars : int
        Stars with both a true and an estimated value; all numbers are of these.
    missing : int
        Stars with a true value and no estimate.
    bias : float
        Median of the residuals, estimate - truth.
    mad : float
        1.4826 times the median absolute deviation of the residuals from their median.
    rmse : float
        Root mean square of the residuals, outliers included.
    outlier_fraction : float
        Fraction with ``abs(residual) > outlier_limit``.
    outlier_limit : float
        4 times ``mad`` unless stated by the caller.
    pull_median, pull_std : float
        Median and 1.4826 MAD of residual / sigma; 0 and 1 when the uncertainties are right. NaN
        where no estimate has an uncertainty.
    coverage_68, coverage_95 : float
        Fraction of stars whose central 68 and 95 per cent intervals hold the truth.
    errors : Mapping of str to float
        Bootstrap standard errors of the numbers above by name; empty without bootstrap.
    quantity, low, high
        The bin ``low <= quantity < high`` that the stars are from; empty and infinite for all.
    """

    label: str
    unit: str
    stars: int
    missing: int
    bias: float
    mad: float
    rmse: float
    outlier_fraction: float
    outlier_limit: float
    pull_median: float
    pull_std: float
    coverage_68: float
    coverage_95: float
    errors: Mapping[str, float] = field(default_factory=dict)
    quantity: str = ""
    low: float = -np.inf
    high: float = np.inf

    def as_dict(self) -> dict[str, object]:
        """Return a flat mapping, the bootstrap errors as ``e_<name>``."""
        fields = asdict(self)
        errors = fields.pop("errors")
        return {**fields, **{f"e_{name}": value for name, value in errors.items()}}


def mad(values: ArrayLike) -> float:
    """Return 1.4826 times the median absolute deviation from the median; NaN when empty."""
    values = np.asarray(values, dtype=np.float64)
    if values.size == 0:
        return np.nan
    return float(MAD_TO_SIGMA * np.median(np.abs(values - np.median(values))))


def evaluate(
    truth: Labels,
    estimate: LabelPosterior | Labels,
    *,
    outlier_limits: Mapping[str, float] | None = None,
    truth_sigma: bool = False,
    bootstrap: int = 0,
    rng: np.random.Generator | None = None,
) -> list[LabelMetrics]:
    """Compare estimated labels with true ones, star by star.

    Parameters
    ----------
    truth : Labels
        N stars; NaN where not known, which leaves the star out for that label.
    estimate : LabelPosterior or Labels
        The same N stars in the same order.
    outlier_limits : Mapping of str to float, optional
        Residual beyond which a star is an outlier, by label in its unit; 4 x 1.4826 MAD for the
        labels not named.
    truth_sigma : bool
        Add the truth's own uncertainty, where known, in quadrature before taking pulls: right for
        the comparison of two catalogues, wrong when the estimate's uncertainty has it already.
    bootstrap : int
        Resamplings of the stars for the standard errors; 0 for none.
    rng : numpy Generator
        Needed with ``bootstrap``.

    Returns
    -------
    list of LabelMetrics
        One for each label that both have, in the order of the estimate.

    Raises
    ------
    InputError
        If the stars differ, no label is common, or ``bootstrap`` comes without ``rng``.
    """
    labels = estimate.to_labels() if isinstance(estimate, LabelPosterior) else estimate
    names = _common(truth, labels)
    limits = dict(outlier_limits or {})
    truth.index(limits)
    if bootstrap and rng is None:
        raise InputError("bootstrap", expected="a random generator", found="none", fix="Give rng.")
    rows = []
    for name in names:
        sigma = labels.sigma[:, labels.index([name])[0]]
        if truth_sigma:
            true_sigma = truth.sigma[:, truth.index([name])[0]]
            sigma = np.hypot(sigma, np.nan_to_num(true_sigma))
        known = np.isfinite(truth[name])
        both = known & np.isfinite(labels[name])
        residual, limit = (labels[name] - truth[name])[both], limits.get(name)
        errors = {}
        if rng is not None and bootstrap:
            errors = _errors(residual, sigma[both], limit, bootstrap, rng)
        counts = (int(both.sum()), int((known & ~both).sum()))
        numbers = _numbers(residual, sigma[both], limit)
        rows.append(LabelMetrics(name, LABELS[name].unit, *counts, **numbers, errors=errors))
    return rows


def evaluate_bins(
    truth: Labels,
    estimate: LabelPosterior | Labels,
    quantity: ArrayLike,
    edges: Sequence[float],
    *,
    name: str,
    outlier_limits: Mapping[str, float] | None = None,
    truth_sigma: bool = False,
    bootstrap: int = 0,
    rng: np.random.Generator | None = None,
) -> list[LabelMetrics]:
    """Compare estimated labels with true ones in bins of a quantity, such as S/N or Teff.

    Parameters
    ----------
    truth, estimate, outlier_limits, truth_sigma, bootstrap, rng
        As for `evaluate`.
    quantity : array_like, shape (N,)
        What to bin by; stars where it is NaN are in no bin.
    edges : sequence of float, length B + 1
        Ascending; bin b holds ``edges[b] <= quantity < edges[b + 1]``. May be infinite.
    name : str
        What the quantity is called.

    Returns
    -------
    list of LabelMetrics
        Bin by bin, the labels of a bin together; an empty bin has 0 stars and NaN numbers.
    """
    quantity = np.asarray(quantity, dtype=np.float64)
    if quantity.shape != (len(truth),):
        raise InputError(name, expected=f"shape ({len(truth)},)", found=f"shape {quantity.shape}")
    if len(edges) < 2 or not (np.diff(edges) > 0).all():
        raise InputError(name, expected="two or more ascending edges", found=f"{list(edges)}")
    _common(truth, estimate)
    rows = []
    for low, high in pairwise(edges):
        inside = (quantity >= low) & (quantity < high)
        found = evaluate(
            truth.take(inside),
            estimate.take(inside),
            outlier_limits=outlier_limits,
            truth_sigma=truth_sigma,
            bootstrap=bootstrap,
            rng=rng,
        )
        rows += [replace(row, quantity=name, low=float(low), high=float(high)) for row in found]
    return rows


def _common(truth: Labels, estimate: LabelPosterior | Labels) -> list[str]:
    if not np.array_equal(truth.star_id, estimate.star_id):
        raise InputError(
            "estimated labels",
            expected=f"the {len(truth)} stars of the truth in their order",
            found=f"{len(estimate)} stars, not the same or in another order",
            fix="Join the two tables by star first.",
        )
    names = [name for name in estimate.names if name in truth.names]
    if not names:
        raise InputError(
            "estimated labels",
            expected=f"at least one of {', '.join(truth.names)}",
            found=", ".join(estimate.names),
        )
    return names


def _numbers(residual: NDArray, sigma: NDArray, limit: float | None) -> dict[str, Any]:
    names = ("bias", "mad", "rmse", "outlier_fraction", "outlier_limit")
    pulls = ("pull_median", "pull_std", "coverage_68", "coverage_95")
    if residual.size == 0:
        return dict.fromkeys(names + pulls, np.nan)
    spread = mad(residual)
    limit = 4.0 * spread if limit is None else float(limit)
    scatter = (
        float(np.median(residual)),
        spread,
        float(np.sqrt(np.mean(residual**2))),
        float(np.mean(np.abs(residual) > limit)),
        limit,
    )
    return dict(zip(names + pulls, scatter + _calibration(residual, sigma), strict=True))


def _calibration(residual: NDArray, sigma: NDArray) -> tuple[float, float, float, float]:
    """Median and width of the pulls, and the coverage of the 68 and 95 per cent intervals."""
    measured = sigma > 0
    if not measured.any():
        return (np.nan, np.nan, np.nan, np.nan)
    pull = residual[measured] / sigma[measured]
    inside = [float(np.mean(np.abs(pull) <= ndtri(0.5 + level / 2))) for level in (0.68, 0.95)]
    return (float(np.median(pull)), mad(pull), inside[0], inside[1])


def _errors(
    residual: NDArray, sigma: NDArray, limit: float | None, draws: int, rng: np.random.Generator
) -> dict[str, float]:
    """Standard deviation of every number over resamplings of the stars."""
    if residual.size == 0:
        return dict.fromkeys(_numbers(residual, sigma, limit), np.nan)
    found = []
    for _ in range(draws):
        rows = rng.integers(residual.size, size=residual.size)
        found.append(_numbers(residual[rows], sigma[rows], limit))
    return {name: float(np.std([numbers[name] for numbers in found])) for name in found[0]}


COLUMNS = {
    "stars": "stars",
    "missing": "missing",
    "bias": "bias",
    "mad": "1.4826 MAD",
    "rmse": "RMSE",
    "outlier_fraction": "outliers",
    "pull_median": "pull median",
    "pull_std": "pull width",
    "coverage_68": "in 68 %",
    "coverage_95": "in 95 %",
}


def _cells(row: LabelMetrics) -> list[str]:
    """The label, the bin if there is one, and the numbers, as text."""
    name = f"{row.label} [{row.unit}]" if row.unit else row.label
    cells = [name] if not row.quantity else [name, f"{row.low:g} to {row.high:g}"]
    return cells + [_text(row, column) for column in COLUMNS]


def _text(row: LabelMetrics, column: str) -> str:
    value, error = getattr(row, column), row.errors.get(column)
    if column in ("stars", "missing"):
        return str(value)
    if not np.isfinite(value):
        return "–"
    if column in ("outlier_fraction", "coverage_68", "coverage_95"):
        return f"{100 * value:.1f} %" + ("" if error is None else f" ± {100 * error:.1f}")
    in_units = column in ("bias", "mad", "rmse")
    digits = 1 if in_units and row.unit not in ("dex", "mag") else 3
    digits = 2 if column.startswith("pull") else digits
    return f"{value:.{digits}f}" + ("" if error is None else f" ± {error:.{digits}f}")


def _head(rows: Sequence[LabelMetrics]) -> list[str]:
    binned = {row.quantity for row in rows}
    if len(binned) > 1:
        raise InputError("rows", expected="rows of one binning", found=f"{sorted(binned)}")
    return ["label", *(name for name in binned if name), *COLUMNS.values()]


def to_markdown(rows: Sequence[LabelMetrics]) -> str:
    """Return the rows of `evaluate` or `evaluate_bins` as a Markdown table."""
    head = _head(rows)
    rule = ["---"] + ["---:"] * (len(head) - 1)
    return "\n".join("| " + " | ".join(c) + " |" for c in [head, rule, *map(_cells, rows)])


def to_rich(rows: Sequence[LabelMetrics], title: str = "") -> Table:
    """Return the rows of `evaluate` or `evaluate_bins` as a table for the terminal."""
    table = Table(title=title or None)
    for name in _head(rows):
        table.add_column(name, justify="left" if name == "label" else "right")
    for row in rows:
        # rich takes square brackets for markup
        table.add_row(*(cell.replace("[", "\\[") for cell in _cells(row)))
    return table
