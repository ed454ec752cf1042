"""A correction from two catalogues of the same stars."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spectrolabe.errors import InputError, unknown_name
from spectrolabe.homogenise.correction import Bent, Correction, LabelCorrection, input_values
from spectrolabe.homogenise.formula import Formula
from spectrolabe.homogenise.functions import Function, robust_weights, spread_of
from spectrolabe.homogenise.inputs import Inputs
from spectrolabe.homogenise.linear import Linear
from spectrolabe.homogenise.noise import Noise
from spectrolabe.homogenise.support import Support
from spectrolabe.homogenise.trees import Trees
from spectrolabe.labels import Labels

__all__ = ["METHODS", "fit_correction"]

CORE = ("teff", "logg", "fe_h")
FEWEST = 30  # shared stars
PARTS = 8  # of the shared stars, each left out once
UNSEEN = 0.2  # of the shared stars say when to stop, or which formula
MOST = 100_000  # shared stars that a function is fitted to
NEAR = 20_000  # of them say where it holds
MOST_THEIRS = 0.5  # of the variance of residuals
STATED = 0.5  # of the shared rows, that have errors if scales are to be recovered
PER_COEFFICIENT = 8  # stars, that a polynomial has for each

Fit = Callable[[NDArray, NDArray, NDArray, NDArray], Function]
METHODS: dict[str, Callable[[int, float], Fit]] = {
    "polynomial": lambda order, _: (
        lambda x, y, w, _: Linear.fit("polynomial", _affordable(order, x), x, y, w)
    ),
    "spline": lambda order, _: lambda x, y, w, _: Linear.fit("spline", order, x, y, w),
    "symbolic": lambda *_: Formula.fit,
    "xgboost": lambda _, smooth: lambda x, y, w, unseen: Trees.fit(x, y, w, unseen, smooth),
}
"""By name: what makes a function of stars, of the order of a polynomial and a width to smooth."""


def _affordable(order: int, x: NDArray) -> int:
    """The order, or the largest that so many stars can tell."""
    count, size = x.shape
    while order > 1 and PER_COEFFICIENT * math.comb(order + size, size) > count:
        order -= 1
    return order


def fit_correction(
    target: Labels,
    reference: Labels,
    names: Sequence[str] | None = None,
    *,
    method: str = "polynomial",
    order: int = 4,
    smooth: float = 0.0,
    inputs: Sequence[str] = CORE,
    extra: Mapping[str, NDArray] | None = None,
    seed: int = 0,
    true_scale: bool = False,
) -> Correction:
    """Learn what is to be added to the labels of one catalogue to be on the scale of another.

    Parameters
    ----------
    target, reference : Labels
        Row by row the same N stars; NaN where not known.
    names : sequence of str, optional
        Default: all labels that both have.
    method : str
        Of `METHODS`.
    order : int
        Of a polynomial.
    smooth : float
        Width over which trees are averaged, in spreads of the inputs.
    inputs : sequence of str
        Labels of the target and columns of ``extra`` that corrections are functions of; each
        label is one of its own. Those of `CORE` that the target has not are left out.
    extra : mapping of str to ndarray, shape (N,)
    seed : int
        Of the parts of the shared stars.
    true_scale : bool
        Recover the scale, and not what the reference would say. The best guess of the latter is
        drawn to the middle of the stars by the noise of the target: where a catalogue says that a
        star is extreme, it is mostly a little wrong. As a function of labels between both
        catalogues, weighted by their errors, differences do not know of noise (errors of the
        difference and of the weighted mean are uncorrelated), and what is left are trends.

    Raises
    ------
    InputError
        If no label is in both, there are too few shared stars, an input is constant, or the true
        scale is asked for of catalogues that state no errors.
    """
    if method not in METHODS:
        raise unknown_name("method", method, METHODS, kind="method")
    if names is None:
        names = [n for n in target.names if n in reference.names]
    lacking = [n for n in names if n not in target.names or n not in reference.names]
    if lacking or not names:
        raise InputError(
            "labels",
            expected="labels that both catalogues have",
            found=f"{', '.join(target.names)} and {', '.join(reference.names)}",
            fix=f"Missing: {', '.join(lacking)}." if lacking else "",
        )
    inputs = [n for n in inputs if n not in CORE or n in target.names]
    fit = METHODS[method](order, smooth)
    found = {
        name: _of_label(
            name, target, reference, tuple(inputs), extra, fit, seed, names if true_scale else ()
        )
        for name in names
    }
    card = {
        "method": method,
        "order": order,
        "smooth": smooth,
        "inputs": list(inputs),
        "seed": seed,
        "true_scale": true_scale,
        "spectrolabe": version("spectrolabe"),
    }
    return Correction(found, card)


def _of_label(
    name: str,
    target: Labels,
    reference: Labels,
    inputs: tuple[str, ...],
    extra: Mapping[str, NDArray] | None,
    fit: Fit,
    seed: int,
    between: Sequence[str],
) -> LabelCorrection:
    columns = tuple(dict.fromkeys([*inputs, name]))
    points, theirs = _between(columns, target, reference, extra, between)
    difference = reference[name] - target[name]
    use = np.isfinite(points).all(axis=1) & np.isfinite(difference)
    stars = len(np.unique(target.star_id[use]))
    if stars < FEWEST:
        raise InputError(
            name,
            expected=f"at least {FEWEST} stars in both catalogues, with {', '.join(columns)}",
            found=str(stars),
            fix="See that identifiers are written the same way, or match by position (--sky).",
        )
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.permutation(np.flatnonzero(use))[:MOST])
    points, difference = points[rows], difference[rows]
    zero = float(np.median(difference))
    spread = spread_of(difference - zero)
    y = (difference - zero) / spread
    stated = [np.nan_to_num(_sigma(one, name)[rows]) for one in (target, reference)]
    weight = 1.0 / (1.0 + (stated[0] ** 2 + stated[1] ** 2) / spread**2)
    scales = Inputs.of(columns, points[robust_weights(y) > 0], theirs)
    scaled = scales.scaled(points)
    x = scales.inside(scaled)
    part = _parts(target.star_id[rows], rng)
    plane = Linear.fit("polynomial", 1, x, y, weight)
    curve = Bent(plane, fit(x, y - plane(x), weight, part < UNSEEN * PARTS))
    refits = [curve.again(x[part != k], y[part != k], weight[part != k]) for k in range(PARTS)]
    left = y - np.select([part == k for k in range(PARTS)], [one.at(x) for one in refits])
    near = scaled[rng.permutation(len(scaled))[:NEAR]]
    support = Support.of(near, np.ones(len(columns)))
    of_reference = _believed(stated[1] ** 2, spread * left)
    noise = Noise.of(spread * left, stated[0], of_reference)
    card = {
        "stars": len(np.unique(target.star_id[rows])),
        "reference_errors_times": float(np.sqrt(np.max(of_reference) / np.max(stated[1] ** 2)))
        if (stated[1] > 0).any()
        else 1.0,
        "plane": plane.text,
        "bend": curve.bend.text,
        "inputs": list(columns),
        "scatter_before": spread,
        "scatter_after": spread * spread_of(left - np.median(left)),
    }
    bent, all_ = (spread * float(np.sqrt(np.mean(v**2))) for v in (curve.bend(x), curve.at(x)))
    return LabelCorrection(
        scales, curve, tuple(refits), support, zero, spread, bent, all_, noise, card
    )


def _between(
    columns: tuple[str, ...],
    target: Labels,
    reference: Labels,
    extra: Mapping[str, NDArray] | None,
    names: Sequence[str],
) -> tuple[NDArray, NDArray]:
    """Inputs, (N, D), some of them between the catalogues, and how far, (D,)."""
    points, far = input_values(columns, target, extra), np.zeros(len(columns))
    for i, name in enumerate(columns):
        if name in names:
            own, other = (_sigma(one, name) ** 2 for one in (target, reference))
            both = np.isfinite(reference[name]) & np.isfinite(points[:, i])
            known = both & (own + other > 0)
            if known.sum() < STATED * both.sum() or not known.any():
                raise InputError(
                    f"true scale, {name}",
                    expected="errors of both catalogues: their ratio says whose noise it is",
                    found=f"errors of {known.sum()} of {both.sum()} shared rows",
                    fix="Say what their columns are called (e_teff=...), or give more references:"
                    " three catalogues tell their errors.",
                )
            share = np.divide(own, own + other, out=np.full(len(own), np.nan), where=known)
            far[i] = np.median(share[known])
            share = np.where(known, share, far[i])
            points[:, i] += share * (reference[name] - target[name])
    return points, far


def _believed(variance: NDArray, residual: NDArray) -> NDArray:
    """Variances of the reference, less where they alone would be more than all scatter.

    At most half of the scatter is theirs: of two catalogues nobody knows whose it is.
    """
    typical = float(np.median(variance))
    most = MOST_THEIRS * spread_of(residual) ** 2
    return variance * min(1.0, most / typical) if typical > 0 else variance


def _sigma(labels: Labels, name: str) -> NDArray:
    return np.asarray(labels.sigma[:, labels.names.index(name)])


def _parts(star_id: NDArray, rng: np.random.Generator) -> NDArray:
    """Number of the part of each row; all rows of a star are in one."""
    stars, which = np.unique(star_id, return_inverse=True)
    part: Any = rng.permutation(len(stars)) % PARTS
    return np.asarray(part[which])
