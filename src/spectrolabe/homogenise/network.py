"""Several catalogues at once: each on the scale of what all others say of the stars that it shares.

Catalogues are the nodes of a graph, shared stars its edges. One is the reference, and keeps its
scale; or none is, and the scale is that of their mean. Each other one is corrected to the weighted
mean of the rest, as it is corrected so far, in turn, until nothing moves (Gauss-Seidel iteration of
the least squares of all differences). A catalogue that shares no star with the reference is tied to
it through others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spectrolabe.errors import InputError
from spectrolabe.homogenise.correction import Correction
from spectrolabe.homogenise.errors import merged
from spectrolabe.homogenise.learning import FEWEST, fit_correction
from spectrolabe.labels import Labels

__all__ = ["fit_network", "mean_of"]

SWEEPS = 20
MOVED = 0.02  # of the scatter between catalogues: what is no movement any more


def fit_network(
    catalogues: Mapping[str, Labels], reference: str | None, **how: Any
) -> dict[str, Correction]:
    """Return a correction for each catalogue but the reference.

    Parameters
    ----------
    catalogues : mapping of str to Labels
        With the same labels and the same identifiers for the same stars.
    reference : str, optional
        The catalogue whose scale it is to be. Without one it is that of the mean.
    **how
        As `fit_correction`: ``method``, ``order``, ``smooth``, ``inputs``, ``seed``.

    Raises
    ------
    InputError
        If labels differ, or a catalogue is not tied to the others.
    """
    stars = {name: merged(labels)[0] for name, labels in catalogues.items()}
    names = next(iter(stars.values())).names
    for name, labels in stars.items():
        if labels.names != names:
            raise InputError(
                name, expected=f"labels {', '.join(names)}", found=", ".join(labels.names)
            )
    order = _order(stars, reference)
    placed = {order[0]: stars[order[0]]}
    fits: dict[str, Correction] = {}
    for name in order[1:]:
        fits[name] = _fitted(stars[name], mean_of(placed.values()), how)
        placed[name] = fits[name].apply(stars[name]).labels
    for _ in range(SWEEPS if len(order) > 2 else 0):
        moved = []
        for name in order[1:]:
            others = [labels for other, labels in placed.items() if other != name]
            fits[name] = _fitted(stars[name], mean_of(others), how)
            new = fits[name].apply(stars[name]).labels
            moved.append(_moved(new, placed[name], fits[name]))
            placed[name] = new
        if max(moved) < MOVED:
            break
    if reference is None:
        middle = _middle(mean_of(placed.values()), fits)
        fits = {name: _fitted(labels, middle, how) for name, labels in stars.items()}
    return fits


def _middle(mean: Labels, fits: Mapping[str, Correction]) -> Labels:
    """Stars on the scale of one catalogue, moved to where corrections have a mean of 0."""
    moves = [fit.apply(mean).correction for fit in fits.values()]
    values = mean.values - np.sum(moves, axis=0) / (len(moves) + 1)
    return Labels(mean.names, values, mean.sigma, mean.star_id)


def _fitted(labels: Labels, mean: Labels, how: Mapping[str, Any]) -> Correction:
    one, other = shared_rows(labels.star_id, mean.star_id)
    return fit_correction(labels.take(one), mean.take(other), **how)


def shared_rows(one: NDArray, other: NDArray) -> tuple[NDArray, NDArray]:
    """Return the rows of the stars that both have, in the same order; each star once in each."""
    _, first, second = np.intersect1d(one, other, assume_unique=True, return_indices=True)
    return first, second


def mean_of(catalogues: Any) -> Labels:
    """Return the weighted mean of catalogues of one scale, a row for each star of any."""
    every = list(catalogues)
    values, sigma, star = (
        np.concatenate([getattr(one, key) for one in every])
        for key in ("values", "sigma", "star_id")
    )
    return merged(Labels(every[0].names, values, sigma, star))[0]


def _moved(new: Labels, old: Labels, fit: Correction) -> float:
    """Largest rms movement of a label, over the scatter of its differences."""
    return max(
        float(np.sqrt(np.nanmean((new[name] - old[name]) ** 2))) / fit.labels[name].spread
        for name in fit.names
    )


def _order(stars: Mapping[str, Labels], reference: str | None) -> list[str]:
    """The catalogues, each after those that it shares most stars with."""
    names = list(stars)
    if reference is not None and reference not in names:
        raise InputError("reference", expected=f"one of {', '.join(names)}", found=reference)
    order = [reference or max(names, key=lambda name: len(stars[name]))]
    seen = stars[order[0]].star_id
    while len(order) < len(names):
        left = {n: np.intersect1d(stars[n].star_id, seen).size for n in names if n not in order}
        best = max(left, key=lambda name: left[name])
        if left[best] < FEWEST:
            raise InputError(
                best,
                expected=f"{FEWEST} stars shared with {', '.join(order)}",
                found=str(left[best]),
                fix="Add a catalogue that has stars of both.",
            )
        order.append(best)
        seen = np.union1d(seen, stars[best].star_id)
    return order
