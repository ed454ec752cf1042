"""Which rows of two catalogues are the same star: by identifiers, or by position."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from spectrolabe.errors import InputError

__all__ = ["Positions", "identifiers", "match_ids", "match_positions"]

EXACT = 2.0**53  # above, not every whole number is a float
SAME_PLACE = 0.2  # arcseconds between rows that are of one star whatever they are called
CHUNK = 500_000  # rows looked for at a time
MILLIARCSECOND = np.deg2rad(1.0 / 3.6e6)
ARCSECOND = np.deg2rad(1.0 / 3600.0)


def match_ids(target: pa.ChunkedArray | pa.Array, reference: pa.Array) -> NDArray:
    """Return the row of the reference for each row of the target, shape (N,); -1 where none is.

    Identifiers are compared as text, without blanks at the ends. Empty ones match nothing.

    Parameters
    ----------
    target, reference : pyarrow Array of str or int
        Each identifier once in the reference.

    Raises
    ------
    InputError
        If the reference has an identifier twice.
    """
    one, other = (identifiers(values) for values in (target, reference))
    counts = pc.value_counts(other.drop_null())
    twice = pc.greater(counts.field("counts"), 1)
    if pc.any(twice).as_py():
        name = counts.filter(twice)[0].as_py()
        raise InputError(
            "reference",
            expected="each star once",
            found=f"{name['values']} {name['counts']} times",
            fix="Merge its rows first.",
        )
    found = pc.index_in(one, value_set=other, skip_nulls=True)
    return np.asarray(pc.fill_null(found, -1).to_numpy(zero_copy_only=False)).astype(np.int64)


def identifiers(values: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Return identifiers as text without blanks at the ends; empty ones are null.

    Raises
    ------
    InputError
        If they are numbers that have lost digits.
    """
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if pa.types.is_floating(values.type):
        values = _whole(values)
    if not (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)):
        values = pc.cast(values, pa.large_string())
    text = pc.utf8_trim_whitespace(pc.cast(values, pa.large_string()))
    return pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.large_string()), text)


def _whole(values: pa.Array) -> pa.Array:
    numbers = pc.if_else(pc.is_finite(values), values, None)
    largest = pc.max(pc.abs(numbers)).as_py() or 0.0
    if largest > EXACT or not pc.all(pc.equal(numbers, pc.floor(numbers))).as_py():
        raise InputError(
            "identifiers",
            expected="text or whole numbers",
            found=f"floating-point numbers up to {largest:.6g}, which cannot hold all digits",
            fix="Write the table again with the identifier as text or as a 64-bit integer.",
        )
    return pc.cast(numbers, pa.int64())


@dataclass(frozen=True, eq=False)
class Positions:
    """Where stars are, and how they move.

    Parameters
    ----------
    ra, dec : ndarray, shape (N,)
        Degrees, ICRS, at ``epoch``; NaN where not known.
    pm_ra, pm_dec : ndarray, shape (N,), or float
        Proper motion in mas/yr, that in right ascension with cos(dec); NaN counts as 0.
    epoch : float
        Julian year.
    """

    ra: NDArray
    dec: NDArray
    pm_ra: NDArray | float = 0.0
    pm_dec: NDArray | float = 0.0
    epoch: float = 2000.0

    def take(self, rows: slice | NDArray) -> Positions:
        """Return these rows."""
        pm_ra, pm_dec = (np.broadcast_to(x, len(self.ra)) for x in (self.pm_ra, self.pm_dec))
        return Positions(self.ra[rows], self.dec[rows], pm_ra[rows], pm_dec[rows], self.epoch)

    def vectors(self, epoch: float) -> NDArray:
        """Return unit vectors at an epoch, shape (N, 3), along straight lines (Hipparcos 1.5.5)."""
        ra, dec = np.deg2rad(self.ra), np.deg2rad(self.dec)
        along = (epoch - self.epoch) * MILLIARCSECOND
        east, north = (
            np.broadcast_to(np.nan_to_num(np.asarray(motion)) * along, len(ra))[:, None]
            for motion in (self.pm_ra, self.pm_dec)
        )
        here = np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)
        to_east = np.stack([-np.sin(ra), np.cos(ra), np.zeros_like(ra)], axis=-1)
        to_north = np.stack(
            [-np.sin(dec) * np.cos(ra), -np.sin(dec) * np.sin(ra), np.cos(dec)], axis=-1
        )
        moved = here + east * to_east + north * to_north
        return np.asarray(moved / np.linalg.norm(moved, axis=-1, keepdims=True))


def match_positions(
    target: Positions, reference: Positions, radius: float, star: NDArray | None = None
) -> NDArray:
    """Return the nearest row of the reference for each row of the target, shape (N,).

    Both are moved to the epoch of the catalogue without proper motions, or to that of the
    reference. -1 where none is within the radius, or where another star of the target is nearer to
    it: rows of one star are as near as the nearest of them.

    Parameters
    ----------
    target, reference : Positions
    radius : float
        Arcseconds.
    star : ndarray of int, shape (N,), optional
        Rows of the target with the same number are of one star; rows at one place are, too.
    """
    moves = bool(np.any(np.nan_to_num(np.asarray(reference.pm_ra))))
    epoch = target.epoch if moves else reference.epoch
    there = reference.vectors(epoch)
    known = np.flatnonzero(np.isfinite(there).all(axis=1))
    found = np.full(len(target.ra), -1, dtype=np.int64)
    if not len(known):
        return found
    tree = cKDTree(there[known])
    apart = np.full(len(found), np.inf)
    for begin in range(0, len(found), CHUNK):
        part = slice(begin, begin + CHUNK)
        here = target.take(part).vectors(epoch)
        use = np.flatnonzero(np.isfinite(here).all(axis=1))
        distance, index = tree.query(here[use], distance_upper_bound=_chord(radius), workers=-1)
        near = np.isfinite(distance)
        found[begin + use[near]] = known[index[near]]
        apart[begin + use[near]] = distance[near]
    rows = np.flatnonzero(found >= 0)
    rows = rows[np.lexsort((apart[rows], found[rows]))]
    nearest = rows[np.maximum.accumulate(np.where(_firsts(found[rows]), np.arange(len(rows)), 0))]
    other = rows != nearest
    rows, nearest = rows[other], nearest[other]
    here, best = (target.take(one).vectors(epoch) for one in (rows, nearest))
    same = np.linalg.norm(here - best, axis=1) <= _chord(SAME_PLACE)
    if star is not None:
        same |= star[rows] == star[nearest]
    found[rows[~same]] = -1
    return found


def _chord(arcseconds: float) -> float:
    return float(2.0 * np.sin(0.5 * arcseconds * ARCSECOND))


def _firsts(sorted_: NDArray) -> NDArray:
    """Whether each is the first of its value."""
    return np.diff(sorted_, prepend=-1) != 0
