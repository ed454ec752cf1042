"""Offsets of label catalogues against a reference, learnt while one model explains them all.

A catalogue says ``label + offset``. The model is taught ``value - offset``, and after every epoch
an offset moves by what its catalogue is above the reference in residuals. That separates the offset
from the model only if the model cannot tell the catalogues apart: stars in common, or spectra of
one survey.
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
FEWEST = 5  # spectra whose scatter tells a variance
SMALLEST = 1e-3  # scatter, scaled


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


def difference(
    residual: NDArray, catalogue: NDArray, spectrum: NDArray, reference: int, count: int
) -> NDArray:
    """Return by how much each catalogue is above the reference in residuals, shape (C, L).

    Two medians with weights of their inverse variances: that of the differences on spectra that
    both have, where the estimate cancels, and the difference of those on all other spectra.

    Parameters
    ----------
    residual : ndarray, shape (N, L)
        Label less estimate, NaN where not known.
    catalogue, spectrum : ndarray of int, shape (N,)
        Which catalogue says it, of which spectrum.
    reference, count : int
        Number of the reference, and number C of catalogues.
    """
    place = np.unique(spectrum, return_inverse=True)[1]
    table = np.full((count, place.max(initial=-1) + 1, residual.shape[1]), np.nan)
    table[catalogue, place] = residual
    found = np.zeros((count, residual.shape[1]))
    for c in range(count):
        for j in range(residual.shape[1]):
            if c != reference:
                found[c, j] = _difference(table[c, :, j], table[reference, :, j])
    return found


def _difference(one: NDArray, other: NDArray) -> float:
    """One label of one catalogue; NaN if there is nothing to tell it by."""
    known, known_other = np.isfinite(one), np.isfinite(other)
    both = known & known_other
    a, b = one[known & ~both], other[known_other & ~both]
    parts = []
    if both.any():
        parts.append((*_median(one[both] - other[both]), both.sum()))
    if len(a) and len(b):
        (here, variance), (there, more) = _median(a), _median(b)
        parts.append((here - there, variance + more, min(len(a), len(b))))
    if not parts:
        return np.nan
    if max(n for *_, n in parts) >= FEWEST:
        parts = [part for part in parts if part[2] >= FEWEST]
    value, variance, _ = np.transpose(parts)
    return float(np.average(value, weights=1.0 / variance))


def _median(values: NDArray) -> tuple[float, float]:
    """Median, and its variance if the values are normal."""
    median = np.median(values)
    spread = max(1.4826 * np.median(np.abs(values - median)), SMALLEST)
    return float(median), float(0.5 * np.pi * spread**2 / len(values))


def measure(
    residual: NDArray,
    catalogue: NDArray,
    spectrum: NDArray,
    star: NDArray,
    reference: int,
    count: int,
    rng: np.random.Generator,
) -> MeasuredOffsets:
    """Return `difference` with its standard deviation under resampling of stars.

    Parameters
    ----------
    residual, catalogue, spectrum, reference, count
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
        chosen = [rows[i] for i in rng.integers(len(rows), size=len(rows))]
        index = np.concatenate(chosen)
        copy = np.repeat(np.arange(len(chosen)), [len(one) for one in chosen])
        own = copy * (spectrum.max() + 1) + spectrum[index]  # of each copy of a star
        drawn.append(difference(residual[index], catalogue[index], own, reference, count))
    return MeasuredOffsets(
        difference(residual, catalogue, spectrum, reference, count), np.std(drawn, axis=0)
    )


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
