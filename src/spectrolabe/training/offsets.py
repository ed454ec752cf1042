"""Offsets of label catalogues against a reference, learnt while one model explains them all.

A catalogue says ``label + offset``. The model is taught ``value - offset``, and after every epoch
an offset moves by the median residual of its catalogue less that of the reference. That separates
the offset from the model only if the model cannot tell the catalogues apart: stars in common, or
spectra of one survey.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from spectrolabe.config import DataConfig
from spectrolabe.training.data import Sample

__all__ = [
    "MeasuredOffsets",
    "difference",
    "identified",
    "in_common",
    "measure",
    "number_of_reference",
]

BOOTSTRAP = 200


class MeasuredOffsets(NamedTuple):
    """What stars that were not trained on say, in scaled units; NaN where they cannot.

    Parameters
    ----------
    value, sigma : ndarray, shape (C, L)
    """

    value: NDArray
    sigma: NDArray


def number_of_reference(config: DataConfig) -> int:
    """Return which of the stores has the label scale that is kept."""
    return [Path(store).name for store in config.stores].index(config.reference)


def difference(residual: NDArray, catalogue: NDArray, reference: int, count: int) -> NDArray:
    """Return the median residual of each catalogue less that of the reference, shape (C, L).

    Parameters
    ----------
    residual : ndarray, shape (N, L)
        Label less estimate, NaN where not known.
    catalogue : ndarray of int, shape (N,)
    reference, count : int
        Number of the reference, and number C of catalogues.
    """
    median = np.full((count, residual.shape[1]), np.nan)
    for c in range(count):
        for j, column in enumerate(residual[catalogue == c].T):
            known = column[np.isfinite(column)]
            if len(known):
                median[c, j] = np.median(known)
    return median - median[reference]


def measure(
    residual: NDArray,
    catalogue: NDArray,
    star: NDArray,
    reference: int,
    count: int,
    rng: np.random.Generator,
) -> MeasuredOffsets:
    """Return `difference` with its standard deviation under resampling of stars.

    Parameters
    ----------
    residual, catalogue, reference, count
        As in `difference`.
    star : ndarray of str, shape (N,)
        A star is drawn with all of its rows.
    rng : Generator
    """
    order = np.argsort(star, kind="stable")
    _, first = np.unique(star[order], return_index=True)
    rows = np.split(order, first[1:])
    drawn = []
    for _ in range(BOOTSTRAP):
        index = np.concatenate([rows[i] for i in rng.integers(len(rows), size=len(rows))])
        drawn.append(difference(residual[index], catalogue[index], reference, count))
    return MeasuredOffsets(difference(residual, catalogue, reference, count), np.std(drawn, axis=0))


def in_common(sample: Sample, reference: int) -> NDArray:
    """Return how many stars have a label in a catalogue and in the reference, shape (C, L)."""
    known = np.isfinite(sample.labels.values)
    star, catalogue = sample.labels.star_id, sample.catalogue
    count = np.zeros((len(sample.stores), known.shape[1]), dtype=int)
    for j in range(known.shape[1]):
        of = [set(star[known[:, j] & (catalogue == c)]) for c in range(len(count))]
        count[:, j] = [len(one & of[reference]) for one in of]
    return count


def identified(sample: Sample, reference: int) -> NDArray:
    """Tell which offsets can be learnt, shape (C, L): those linked to the reference.

    Two catalogues are linked in a label if they have it for one star, or for spectra of one survey;
    links go on from catalogue to catalogue.
    """
    known = np.isfinite(sample.labels.values)
    star, survey = sample.labels.star_id, sample.column("survey")
    count = len(sample.stores)
    found = np.zeros((count, known.shape[1]), dtype=bool)
    for j in range(known.shape[1]):
        use = [known[:, j] & (sample.catalogue == c) for c in range(count)]
        of = [{("star", s) for s in star[u]} | {("survey", s) for s in survey[u]} for u in use]
        links = csr_array([[bool(one & other) for other in of] for one in of])
        group = connected_components(links, directed=False)[1]
        found[:, j] = [bool(of[c]) and group[c] == group[reference] for c in range(count)]
    return found
