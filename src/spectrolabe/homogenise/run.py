"""Catalogues in, one catalogue out: what the command does."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spectrolabe.errors import InputError
from spectrolabe.homogenise.correction import Correction
from spectrolabe.homogenise.crossmatch import Positions, identifiers, match_ids, match_positions
from spectrolabe.homogenise.errors import hats, merged, noise_of_repeats
from spectrolabe.homogenise.learning import fit_correction
from spectrolabe.homogenise.network import fit_network, mean_of
from spectrolabe.homogenise.noise import Noise
from spectrolabe.homogenise.output import new_columns, write_pieces
from spectrolabe.homogenise.tables import StarTable
from spectrolabe.labels import Labels
from spectrolabe.progress import shown_progress

__all__ = [
    "TARGET",
    "Matching",
    "Scale",
    "Shared",
    "apply_correction",
    "errors_by_hat",
    "learn_correction",
    "scale_of",
    "shared_stars",
    "united",
]


MOST_REPEATS = 200_000  # rows
FEWEST_OF_HAT = 200  # stars that all catalogues have
TARGET = "the target"  # among catalogues of a hat


@dataclass(frozen=True)
class Matching:
    """How rows of two catalogues are found to be the same star.

    Parameters
    ----------
    target_id, reference_id : str
        Columns of identifiers.
    radius : float
        Arcseconds; 0: by identifiers.
    target_epoch, reference_epoch : float
        Julian years of the positions.
    """

    target_id: str = "star_id"
    reference_id: str = "star_id"
    radius: float = 0.0
    target_epoch: float = 2000.0
    reference_epoch: float = 2000.0


@dataclass(frozen=True, eq=False)
class Scale:
    """The stars whose labels are on the scale that is wanted, each once.

    Parameters
    ----------
    ids : pyarrow Array
        M identifiers.
    labels : Labels
    positions : Positions, optional
    notes : dict
        Rows, and what repeats say of errors.
    """

    ids: pa.Array
    labels: Labels
    positions: Positions | None
    notes: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Shared:
    """The stars that both catalogues have, row by row.

    Parameters
    ----------
    target, reference : Labels
    extra : dict of str to ndarray, shape (N,)
        Other inputs.
    notes : dict
        What was found out on the way: rows, matches, repeats.
    """

    target: Labels
    reference: Labels
    extra: dict[str, NDArray]
    notes: dict[str, Any] = field(default_factory=dict)


def scale_of(table: StarTable, names: Sequence[str], matching: Matching) -> Scale:
    """Return the stars of a reference catalogue, several rows of a star merged.

    Raises
    ------
    InputError
        If it has not what is asked for.
    """
    ids, star = _stars(table, matching.reference_id, matching.radius)
    usable = np.flatnonzero(table.used())
    labels = table.read(names, (), usable, star[usable].astype(str)).labels
    repeats = _repeats(labels)
    one, first = merged(_righted(labels, repeats))
    rows = usable[first]
    where = None
    if matching.radius:
        where = table.positions(matching.reference_epoch).take(rows)
    notes = {"reference_rows": len(table), "reference_repeats": repeats}
    return Scale(ids.take(pa.array(rows)), one, where, notes)


def errors_by_hat(
    target: StarTable, scales: Mapping[str, Scale], names: Sequence[str], matching: Matching
) -> dict[str, dict[str, list[float]]]:
    """Return what errors of a target and two or more references must be for all to agree.

    Parameters
    ----------
    target : StarTable
    scales : mapping of str to Scale
        The references.
    names : sequence of str
        Labels of all.
    matching : Matching

    Returns
    -------
    dict
        By reference, and `TARGET`, and label: factor and floor as of `Noise`; nothing where too few
        stars are in all.
    """
    ids, _ = _stars(target, matching.target_id, 0.0)
    found = [match_ids(ids, one.ids) for one in scales.values()]
    rows = np.flatnonzero(target.used() & (np.min(found, axis=0) >= 0))[:MOST_REPEATS]
    known = tuple(name for name in names if target.has(name))
    if len(rows) < FEWEST_OF_HAT or not known:
        return {}
    own = target.read(known, (), rows, rows.astype(str)).labels
    every = {TARGET: own} | {
        name: one.labels.select(known).take(place[rows])
        for (name, one), place in zip(scales.items(), found, strict=True)
    }
    together = {n: np.isfinite([one[n] for one in every.values()]).all(axis=0) for n in known}
    enough = [name for name in known if together[name].sum() >= FEWEST_OF_HAT]
    errors: dict[str, dict[str, list[float]]] = {name: {} for name in every}
    for label, hat in (hats(every, enough) if enough else {}).items():
        for name, one in every.items():
            sigma = max(hat.sigma[name], hat.error[name])
            stated = one.sigma[together[label], one.names.index(label)]
            typical = float(np.sqrt(np.mean(np.nan_to_num(stated) ** 2)))
            errors[name][label] = [sigma / typical, 0.0] if (stated > 0).all() else [1.0, sigma]
    return errors


def united(
    scales: Mapping[str, Scale], errors: Mapping[str, Mapping[str, Sequence[float]]], **how: Any
) -> Scale:
    """Return the stars of several references on the scale of the first, merged.

    Parameters
    ----------
    scales : mapping of str to Scale
        Identifiers are the same in all.
    errors : mapping
        Of `errors_by_hat`, for labels whose repeats tell nothing.
    **how
        As `fit_network`.
    """
    named = {}
    for name, one in scales.items():
        labels = _righted(one.labels, _unless(errors.get(name, {}), one.notes["reference_repeats"]))
        named[name] = Labels(labels.names, labels.values, labels.sigma, _names(one.ids, name))
    first = next(iter(named))
    fits = fit_network(named, first, **how)
    mean = mean_of(fits[n].apply(x).labels if n in fits else x for n, x in named.items())
    notes = {name: {**one.notes, "hat": dict(errors.get(name, {}))} for name, one in scales.items()}
    return Scale(pa.array(mean.star_id), mean, None, notes)


def _names(ids: pa.Array, catalogue: str) -> NDArray:
    """Identifiers as text, shape (N,); rows without one have a name that no other has."""
    names = identifiers(ids).to_pylist()
    return np.array([name or f"row {i} of {catalogue}" for i, name in enumerate(names)])


def shared_stars(
    target: StarTable,
    reference: Scale,
    names: Sequence[str],
    inputs: Sequence[str],
    matching: Matching,
    errors: Mapping[str, Sequence[float]],
) -> Shared:
    """Match a catalogue with a reference, and put stated errors right.

    Repeats of the target tell how large they are, and for labels of which there are too few,
    ``errors`` (of `errors_by_hat`).

    Raises
    ------
    InputError
        If they share no star, or have not what is asked for.
    """
    needed = tuple(dict.fromkeys([*names, *(n for n in inputs if n in target.labels)]))
    extra = [name for name in inputs if name not in needed]
    ids, star = _stars(target, matching.target_id, matching.radius)
    if reference.positions is not None:
        here = target.positions(matching.target_epoch)
        found = match_positions(here, reference.positions, matching.radius, star)
    else:
        found = match_ids(ids, reference.ids)
    found = np.where(target.used(), found, -1)
    both = np.flatnonzero(found >= 0)
    if not len(both):
        raise InputError(
            target.path,
            expected="stars that the reference has, too",
            found="none",
            fix="Identifiers must be written the same way (--id); --sky matches by position.",
        )
    used = target.used()
    again = _repeated(np.where(used, star, -1))
    repeats = _repeats(target.read(needed, (), again, star[again].astype(str)).labels)
    own = target.read(needed, extra, both, found[both].astype(str))
    right = {**_unless(errors, repeats), **repeats}
    mine, theirs = _righted(own.labels, right), reference.labels.take(found[both])
    _check_units(target, mine, theirs, names)
    notes = {
        "target_rows": len(target),
        "target_repeats": repeats,
        "target_errors": right,
        "shared_rows": len(both),
        "shared_stars": len(np.unique(found[both])),
        **reference.notes,
    }
    return Shared(mine, theirs, own.extra, notes)


def _stars(table: StarTable, key: str, radius: float) -> tuple[pa.Array, NDArray]:
    """Identifiers, and numbers of stars; rows without one are stars of their own."""
    if radius and not table.has(key):
        ids = pa.array(np.arange(len(table)))
    else:
        ids = identifiers(table.ids(key))
    codes = np.asarray(ids.dictionary_encode().indices.fill_null(-1))
    return ids, np.where(codes < 0, -1 - np.arange(len(codes)), codes)


def _repeated(star: NDArray) -> NDArray:
    """Rows of stars that have several, as many as are needed to know errors by."""
    known = np.flatnonzero(star >= 0)
    times = np.bincount(star[known])
    return known[times[star[known]] > 1][:MOST_REPEATS]


def _repeats(labels: Labels) -> dict[str, list[float]]:
    return {name: [n.factor, n.floor] for name, n in noise_of_repeats(labels).items()}


def _unless(
    errors: Mapping[str, Sequence[float]], repeats: Mapping[str, Sequence[float]]
) -> dict[str, Sequence[float]]:
    """Errors of labels of which repeats tell nothing."""
    return {name: one for name, one in errors.items() if name not in repeats}


def _righted(labels: Labels, repeats: Mapping[str, Sequence[float]]) -> Labels:
    """Errors as repeats tell them, or a hat."""
    sigma = np.array(labels.sigma)
    for name, (factor, floor) in repeats.items():
        if name not in labels.names:
            continue
        j = labels.names.index(name)
        sigma[:, j] = np.hypot(factor * np.nan_to_num(sigma[:, j]), floor)
    return Labels(labels.names, labels.values, sigma, labels.star_id)


def _check_units(target: StarTable, one: Labels, other: Labels, names: Sequence[str]) -> None:
    """See that no abundance is linear in one catalogue and a logarithm in the other."""
    for name in names:
        x, y = one[name], other[name]
        use = np.isfinite(x) & np.isfinite(y)
        if name == "teff" or use.sum() < 10:
            continue
        x, y = x[use], y[use]
        for first, second, what in ((x, y, target.path), (y, x, "the reference")):
            if (first > 0).all() and (second <= 0).mean() > 0.1:
                logs = np.log10(first)
                if np.median(np.abs(logs - second)) < 0.5 * np.median(np.abs(first - second)):
                    raise InputError(
                        f"{what}, {name}",
                        expected="a logarithm (dex)",
                        found="what looks like linear values: all above 0, and their logarithms "
                        "are much nearer to the other catalogue",
                        fix="Take the logarithm first.",
                    )


def learn_correction(
    shared: Shared, names: Sequence[str], card: Mapping[str, Any], **how: Any
) -> Correction:
    """Learn a correction, and note where from; see `fit_correction`."""
    fitted = fit_correction(shared.target, shared.reference, names, extra=shared.extra, **how)
    labels = dict(fitted.labels)
    for name, errors in shared.notes["target_errors"].items():
        if name in labels:  # it was learnt with these errors, and is used with the stated ones
            noise = labels[name].noise.after(Noise(*errors))
            labels[name] = replace(labels[name], noise=noise)
    return Correction(labels, {**fitted.card, **card, **shared.notes})


def apply_correction(
    correction: Correction, target: StarTable, output: Path, provenance: Mapping[str, Any]
) -> dict[str, Any]:
    """Write all rows of a table, with corrected labels beside what they were.

    Returns
    -------
    dict
        Rows, seconds, and of each label how many are corrected in full, in part and not.
    """
    begin = time.monotonic()
    names = tuple(
        dict.fromkeys([*correction.names, *(n for n in correction.inputs if n in target.labels)])
    )
    extra = [name for name in correction.inputs if name not in names]
    counts = {name: np.zeros(3, dtype=int) for name in correction.names}

    def corrected() -> Iterator[pa.Table]:
        for piece in target.pieces():
            star = np.full(len(piece), "")
            values = target.values_of_piece(piece, names, extra, star)
            found = correction.apply(values.labels, values.extra)
            for name in correction.names:
                share = found.support[:, found.labels.names.index(name)]
                counts[name] += [
                    (share >= 1).sum(),
                    ((share > 0) & (share < 1)).sum(),
                    (share <= 0).sum(),
                ]
            yield new_columns(piece, found, correction.names)

    pieces = shown_progress(corrected(), len(target), "homogenise", size=len)
    write_pieces(output, pieces, provenance, (target.called("ra"), target.called("dec")))
    return {
        "rows": len(target),
        "seconds": time.monotonic() - begin,
        "labels": {
            name: dict(zip(("covered", "edge", "outside"), map(int, n), strict=True))
            for name, n in counts.items()
        },
    }
