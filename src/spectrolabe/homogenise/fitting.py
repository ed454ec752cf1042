"""A calibration from labels and anchors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spectrolabe.errors import InputError
from spectrolabe.homogenise.anchors import KINDS, Anchors
from spectrolabe.homogenise.basis import COVARIATES, TrendBasis
from spectrolabe.homogenise.calibration import FORMAT_VERSION, Calibration, core_columns, values_of
from spectrolabe.homogenise.joint import LeftOut, Rows, cross_validate, solve
from spectrolabe.homogenise.support import Support
from spectrolabe.homogenise.trend import LabelTrend
from spectrolabe.labels import Labels
from spectrolabe.models.posterior import LabelPosterior

__all__ = ["fit_calibration"]

FEWEST_GROUPS, FEWEST_STARS = 5, 8
FEWEST_REFERENCES = 10  # for a trend with [Fe/H], which groups of one [Fe/H] cannot show
UNEVOLVED = 3.5  # log g above which no star has been through the first dredge-up
SLOPES = (0.03, 0.1, 0.3, 1.0, 3.0)  # prior amplitudes over the scatter within groups
BENDS = (0.01, 0.04, 0.15, 0.6)
CROSSES = (0.01, 0.1, 0.5)
FREE = 1e3


def fit_calibration(
    labels: Labels | LabelPosterior,
    anchors: Anchors,
    names: Sequence[str] | None = None,
    *,
    folds: int = 10,
    seed: int = 0,
) -> Calibration:
    """Find the trends of labels by anchors of all kinds together.

    Parameters
    ----------
    labels : Labels or LabelPosterior
        What is to be calibrated, as measured; the anchors' stars among them, and Teff, log g and
        [Fe/H] among the labels.
    anchors : Anchors
        Those that are not in ``labels`` are left out and counted.
    names : sequence of str, optional
        Labels to calibrate. Default: all that have enough anchors.
    folds : int
        Parts into which groups are divided for cross-validation.
    seed : int
        Of that division.

    Notes
    -----
    Binaries and clusters tell of [Fe/H], [M/H] and [X/Fe], but not of [Li/Fe], and of [C/Fe] and
    [N/Fe] only above log g 3.5: the rest changes as stars evolve. Other labels, temperature and
    gravity among them, need reference stars. Without any reference star a label's zero point
    cannot be found, and its mean correction over the anchors is zero; with less than ten, its
    trend with [Fe/H] cannot, and is zero.

    Raises
    ------
    InputError
        If a label is unknown to the table, no anchor is in it or one is there twice, or a label
        that was asked for has too few anchors.
    """
    table = labels if isinstance(labels, Labels) else labels.to_labels()
    core_columns(table.names)
    if names is not None:
        table.index(names)
    measured, kept = _matched(table, anchors)
    wanted = [n for n in COVARIATES if names is None or n in names]
    wanted += [n for n in (table.names if names is None else names) if n not in COVARIATES]
    raw = values_of(measured)[:, core_columns(table.names)]
    calibration: Calibration | None = None
    for last in (False, True):
        points = _true_points(measured, kept, raw, calibration)
        if not np.isfinite(points).all(axis=1).any():
            raise InputError(
                "anchors", expected="stars with Teff, log g and [Fe/H]", found="none that has all"
            )
        basis = TrendBasis.of(points[np.isfinite(points).all(axis=1)])
        trends: dict[str, LabelTrend] = {}
        # abundances are functions of corrected temperatures and gravities: those come first
        for name in wanted if last else [n for n in wanted if n in COVARIATES]:
            chosen = _Chosen.of(measured, kept, name, points)
            if chosen.enough:
                trends[name] = _fit(name, chosen, basis, points, raw, folds, seed)
            elif last and names is not None:
                raise InputError(
                    f"anchors of {name}",
                    expected=f"{FEWEST_GROUPS} binaries, clusters or reference stars with "
                    f"{FEWEST_STARS} measured stars",
                    found=f"{chosen.groups} with {int(chosen.rows.sum())}",
                    fix=f"Measured values of {name} need their errors."
                    if _shared(name)
                    else f"Only references that have {name} count.",
                )
        calibration = Calibration(basis, trends, _card(anchors, kept, measured))
    if calibration is None or not calibration.trends:
        raise InputError(
            "anchors",
            expected=f"{FEWEST_GROUPS} binaries, clusters or reference stars for some label",
            found=", ".join(f"{n} of kind {kind}" for kind, n in kept.counts.items()),
        )
    return calibration


def _matched(table: Labels, anchors: Anchors) -> tuple[Labels, Anchors]:
    """Return rows of the table and anchors of the same stars; groups that are left with one go."""
    row = {str(star): i for i, star in enumerate(table.star_id)}
    present = np.array([str(star) in row for star in anchors.star_id])
    if not present.any():
        raise InputError(
            "anchors",
            expected="stars of the labels",
            found=f"none of {len(anchors)}: {anchors.star_id[0]} and others; labels are of "
            f"{table.star_id[0] if len(table) else 'no star'} and others",
            fix="Identifiers must be written the same way in both tables.",
        )
    twice, count = np.unique(
        table.star_id[np.isin(table.star_id, anchors.star_id)], return_counts=True
    )
    if (count > 1).any():
        raise InputError(
            "labels",
            expected="one row for each anchor",
            found=f"{count[count > 1][0]} of {twice[count > 1][0]}",
            fix="Combine the rows of a star first.",
        )
    names, members = np.unique(anchors.group[present], return_counts=True)
    alone = np.isin(anchors.group, names[members < 2]) & (anchors.kind != "reference")
    kept = anchors.take(np.flatnonzero(present & ~alone))
    return table.take([row[str(star)] for star in kept.star_id]), kept


def _true_points(
    measured: Labels, anchors: Anchors, raw: NDArray, calibration: Calibration | None
) -> NDArray:
    """Return the best guess of Teff, log g and [Fe/H] of each anchor, shape (N, 3).

    References' own labels where they have them; one [Fe/H] for a group: with the measured one, each
    error of [Fe/H] would be mistaken for a trend with [Fe/H].
    """
    points = raw.copy()
    if calibration is not None:
        points = values_of(calibration.apply(measured).labels)[:, core_columns(measured.names)]
        points = points.copy()
    for group in np.unique(anchors.group[anchors.kind != "reference"]):
        rows = anchors.group == group
        points[rows, 2] = (
            np.nanmedian(points[rows, 2]) if np.isfinite(points[rows, 2]).any() else np.nan
        )
    for column, name in enumerate(COVARIATES):
        if name in anchors.reference.names:
            known = anchors.reference[name]
            points[:, column] = np.where(np.isfinite(known), known, points[:, column])
    return points


def _shared(name: str) -> bool:
    """Tell whether stars born together have one value of it for life."""
    return name in ("fe_h", "m_h", "alpha_m", "alpha_fe") or (
        name.endswith("_fe") and name != "li_fe"
    )


@dataclass(frozen=True, eq=False)
class _Chosen:
    """Anchors that tell of one label.

    Parameters
    ----------
    rows : ndarray of bool, shape (N,)
        Measured values that are used.
    known : ndarray of bool, shape (N,)
        Those of them with a reference value.
    key : ndarray of str, shape (N,)
        Which have one true value.
    """

    measured: Labels
    anchors: Anchors
    name: str
    rows: NDArray
    known: NDArray
    key: NDArray

    @classmethod
    def of(cls, measured: Labels, anchors: Anchors, name: str, points: NDArray) -> _Chosen:
        column = measured.index([name])[0]
        with np.errstate(invalid="ignore"):
            rows = np.isfinite(measured.values[:, column]) & (measured.sigma[:, column] > 0)
        rows &= np.isfinite(measured.sigma[:, column]) & np.isfinite(points).all(axis=1)
        known = np.zeros(len(anchors), dtype=bool)
        if name in anchors.reference.names:
            known = rows & np.isfinite(anchors.reference[name])
        together = np.full(len(anchors), _shared(name)) & (anchors.kind != "reference")
        if name in ("c_fe", "n_fe"):
            together &= points[:, 1] > UNEVOLVED
        key = np.where(together, anchors.group, np.char.add("star ", anchors.star_id))
        groups, index, count = np.unique(key[rows], return_inverse=True, return_counts=True)
        count = count + np.bincount(index, known[rows], minlength=groups.size)
        rows = rows & np.isin(key, groups[count >= 2])
        return cls(measured, anchors, name, rows, known & rows, key)

    @property
    def groups(self) -> int:
        return int(np.unique(self.key[self.rows]).size)

    @property
    def enough(self) -> bool:
        return self.groups >= FEWEST_GROUPS and int(self.rows.sum()) >= FEWEST_STARS

    def joint(self, design: NDArray) -> tuple[Rows, NDArray]:
        """Return the rows of the linear model and the kind of each group.

        Parameters
        ----------
        design : ndarray, shape (number of measured values, K)
        """
        column = self.measured.index([self.name])[0]
        value, sigma = (x[self.rows, column] for x in (self.measured.values, self.measured.sigma))
        keys = self.key[self.rows]
        kinds = self.anchors.kind[self.rows]
        if self.known.any():
            own = self.anchors.reference.index([self.name])[0]
            reference = self.anchors.reference
            value = np.concatenate([value, reference.values[self.known, own]])
            sigma = np.concatenate([sigma, reference.sigma[self.known, own]])
            keys = np.concatenate([keys, self.key[self.known]])
        groups, first, index = np.unique(keys, return_index=True, return_inverse=True)
        measured = np.arange(value.size) < len(design)
        padded = np.vstack([design, np.zeros((value.size - len(design), design.shape[1]))])
        alone = np.char.startswith(groups, "star ")
        kind = np.where(alone, "reference", kinds[np.minimum(first, kinds.size - 1)])
        return Rows(value, sigma**2, measured, index, padded), kind


def _fit(
    name: str,
    chosen: _Chosen,
    basis: TrendBasis,
    points: NDArray,
    raw: NDArray,
    folds: int,
    seed: int,
) -> LabelTrend:
    used = chosen.rows
    design = basis.design(points[used])
    mean = design.mean(axis=0)
    mean[0] = 0.0
    design = design - mean
    rows, kind = chosen.joint(design)
    references = int(np.unique(chosen.key[chosen.known]).size)
    without = (2,) if _shared(name) and references < FEWEST_REFERENCES else ()

    def precision(unit: float, slope: float, bend: float, cross: float) -> NDArray:
        constant = FREE * unit if references else 0.0
        amplitude = {"constant": constant, "slope": slope * unit}
        return basis.precision({**amplitude, "bend": bend * unit, "cross": cross * unit}, without)

    usual = np.median(rows.variance[rows.measured])
    flat = solve(rows, precision(np.sqrt(usual), 1e-6, 1e-6, 1e-6))
    unit = float(np.sqrt(usual + flat.scatter**2))
    # the stiffest first: of two that predict equally well it is the one to take
    grid = [(s, b, c) for s, b, c in product(SLOPES, BENDS, CROSSES) if max(b, c) <= s]
    grid.sort(key=lambda widths: (sum(widths), widths))
    fold = _folds(kind, folds, seed)
    precisions = [precision(unit, *widths) for widths in grid]
    fit, share = cross_validate(rows, precisions, fold)
    held = LeftOut.of(rows, fit, fold)
    before, after = held.before, np.zeros(rows.value.size)
    for weight, one in zip(share, precisions, strict=True):
        if weight:
            after += weight * held.after(one)
    widths = share @ np.array(grid)
    trend = design[:, 1:] @ fit.coefficients[1:]
    unsure = np.sum(design[:, 1:] @ fit.covariance[1:, 1:] * design[:, 1:], axis=1)
    group_kind = kind[rows.group]
    card: dict[str, Any] = {
        "stars": int(used.sum()),
        "groups": {k: int((kind == k).sum()) for k in KINDS},
        "reference_values": references,
        "zero_point": "reference stars" if references else "none: mean over the anchors",
        "trend_with_fe_h": not without,
        "range": {
            n: [float(points[used, i].min()), float(points[used, i].max())]
            for i, n in enumerate(COVARIATES)
        },
        "folds": int(np.unique(fold).size),
        "prior": dict(zip(("slope", "bend", "cross"), (unit * widths).tolist(), strict=True)),
        "scatter": fit.scatter,
        "outliers": int((fit.weight[rows.measured] < 0.1).sum()),
        "cross_validated": {
            k: {
                "before": _size(before[rows.measured & (group_kind == k)]),
                "after": _size(after[rows.measured & (group_kind == k)]),
            }
            for k in KINDS
            if (group_kind == k).any()
        },
    }
    return LabelTrend(
        mean,
        fit.coefficients,
        fit.covariance,
        Support.of(raw[used]),
        float(np.sqrt(np.mean(trend**2 + unsure))),
        fit.scatter,
        card,
    )


def _folds(kind: NDArray, folds: int, seed: int) -> NDArray:
    """Divide groups so that each part has its share of every kind."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(kind.size)
    order = order[np.argsort(kind[order], kind="stable")]
    fold = np.empty(kind.size, dtype=int)
    fold[order] = np.arange(kind.size) % min(folds, kind.size)
    return fold


def _size(deviations: NDArray) -> float:
    """What 68.3 per cent of the deviations are below."""
    return float(np.quantile(np.abs(deviations), 0.6827))


def _card(anchors: Anchors, kept: Anchors, measured: Labels) -> dict[str, Any]:
    return {
        "format": FORMAT_VERSION,
        "spectrolabe": version("spectrolabe"),
        "anchors": kept.counts,
        "stars": len(kept),
        "not_in_labels": len(anchors) - len(kept),
    }
