"""Made-up catalogues whose trends, errors and selection are known."""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray

from pages import table
from spectrolabe.homogenise.errors import hats
from spectrolabe.homogenise.learning import METHODS, fit_correction
from spectrolabe.homogenise.network import fit_network
from spectrolabe.labels import Labels
from spectrolabe.validation.metrics import mad

__all__ = ["simulated"]

NAMES = ("teff", "logg", "fe_h")
STARS = 12_000
ERRORS = {"a": (40.0, 0.06, 0.04), "b": (90.0, 0.12, 0.07), "c": (60.0, 0.2, 0.1)}
SHARED = 0.5  # correlation of the errors of Teff and log g


def truth(rng: np.random.Generator, count: int) -> NDArray:
    """Labels of dwarfs and giants."""
    teff = rng.uniform(4000.0, 6800.0, count)
    giant = (rng.random(count) < 0.5) & (teff < 5400.0)
    logg = np.where(giant, (teff - 4000.0) / 560.0 + 0.9, 4.75 - (teff - 4000.0) / 4000.0)
    logg += rng.normal(0.0, 0.12, count)
    return np.column_stack([teff, logg, np.clip(rng.normal(-0.3, 0.35, count), -2.3, 0.5)])


def bias(values: NDArray, catalogue: str) -> NDArray:
    """What pipelines add to the truth."""
    x, y, z = ((values - [5400.0, 3.3, -0.3]) / [800.0, 1.2, 0.35]).T
    if catalogue == "a":
        return np.zeros_like(values)
    if catalogue == "b":
        return np.column_stack(
            [90.0 + 50.0 * x * z, 0.15 * np.tanh(1.5 * (y - 0.3)), 0.06 * x**2 - 0.08 * z]
        )
    return np.column_stack([-60.0 + 40.0 * y**2, -0.1 + 0.05 * x * y, 0.05 - 0.05 * y])


def catalogues(seed: int, *, biased: bool = True) -> tuple[NDArray, dict[str, Labels]]:
    """Three catalogues of one sky, each with its own selection; errors go together."""
    rng = np.random.default_rng(seed)
    true = truth(rng, STARS)
    found = {}
    for name, sizes in ERRORS.items():
        sigma = np.array(sizes) * np.exp(rng.normal(0.0, 0.3, (STARS, 1)))
        noise = rng.normal(size=true.shape)
        noise[:, 1] = SHARED * noise[:, 0] + np.sqrt(1.0 - SHARED**2) * noise[:, 1]
        seen = true + biased * bias(true, name) + sigma * noise
        chance = {
            "a": 0.7,
            "b": 0.3 + 0.6 * (true[:, 1] < 3.6),
            "c": 0.3 + 0.6 * (true[:, 2] < -0.2),
        }
        rows = np.flatnonzero(rng.random(STARS) < chance[name])
        found[name] = Labels(NAMES, seen[rows], 0.6 * sigma[rows] * np.ones(3), rows.astype(str))
    return true, found


def simulated() -> str:
    """Return the section of made-up catalogues."""
    _, found = catalogues(1)
    true_new, others = catalogues(2)
    rows = []
    aims = ((False, "predicted"), (True, "true scale"))
    for method, (true_scale, aim) in product(METHODS, aims):
        for name in ("b", "c"):
            both = np.intersect1d(found["a"].star_id, found[name].star_id, return_indices=True)
            one, other = found[name].take(both[2]), found["a"].take(both[1])
            fit = fit_correction(one, other, method=method, true_scale=true_scale)
            new = fit.apply(others[name]).labels
            rows.append(
                [f"{method}, {aim}", f"{name} to a", *_recovered(new, others[name], true_new)]
            )
    _, plain = catalogues(1, biased=False)
    _, plain_others = catalogues(2, biased=False)
    for (true_scale, aim), name in product(aims, ("b", "c")):
        both = np.intersect1d(plain["a"].star_id, plain[name].star_id, return_indices=True)
        one, other = plain[name].take(both[2]), plain["a"].take(both[1])
        new = fit_correction(one, other, true_scale=true_scale).apply(plain_others[name]).labels
        cells = _recovered(new, plain_others[name], true_new)
        rows.append([f"polynomial, {aim}", f"{name} without trends to a", *cells])
    for true_scale, aim in aims:
        fits = fit_network(found, "a", true_scale=true_scale)
        for name in ("b", "c"):
            new = fits[name].apply(others[name]).labels
            cells = _recovered(new, others[name], true_new)
            rows.append([f"all at once, {aim}", f"{name} to a", *cells])
    hat = _hat(found)
    head = ["method", "catalogue", *(f"{n}: median, trend, pulls" for n in NAMES)]
    return f"""## Made-up catalogues

Three catalogues of {STARS:,} stars: *a* is right, *b* and *c* have smooth trends; each has its own
errors (stated at 0.6 of what they are, those of Teff and log g correlated by {SHARED}) and selects
stars by log g or [Fe/H]. Judged by another sky of the same kind: median of corrected less true
labels, rms of the medians of 10 bins of the *true* values of each label (in brackets that of
the catalogue as it is), and pulls with the truth. *Predicted*: what the reference would say (the
default); noise of the target draws that to the middle of the stars, and that is a trend with the
truth. *True scale*: trends alone are taken off (`--true-scale`). *Without trends*: the same noise,
and nothing to correct.

{table(head, rows)}

Errors by the three-cornered hat (trends with the weighted mean of the catalogues taken off), and in
brackets those that were put in:

{table(["catalogue", *NAMES], hat)}"""


def _recovered(new: Labels, raw: Labels, true: NDArray) -> list[str]:
    cells = []
    for j, name in enumerate(NAMES):
        exact = true[np.array(new.star_id, dtype=int), j]
        left, before = new[name] - exact, raw[name] - exact
        digits = 0 if name == "teff" else 3
        cells.append(
            f"{np.median(left):+.{digits}f}, {_trend(exact, left):.{digits}f} "
            f"({_trend(exact, before):.{digits}f}), {mad(left / new.sigma[:, j]):.2f}"
        )
    return cells


def _trend(x: NDArray, y: NDArray) -> float:
    parts = np.array_split(np.argsort(x), 10)
    return float(np.sqrt(np.mean([np.median(y[part]) ** 2 for part in parts])))


def _hat(found: dict[str, Labels]) -> list[list[str]]:
    stars = set.intersection(*(set(one.star_id) for one in found.values()))
    order = np.array(sorted(stars))
    rows = {}
    for name, one in found.items():
        place = {star: i for i, star in enumerate(one.star_id)}
        rows[name] = one.take([place[star] for star in order])
    found_errors = hats(rows, NAMES)
    return [
        [
            name,
            *(
                f"{found_errors[label].sigma[name]:.3g} ± {found_errors[label].error[name]:.1g} "
                f"({ERRORS[name][j]:.3g})"
                for j, label in enumerate(NAMES)
            ),
        ]
        for name in found
    ]
