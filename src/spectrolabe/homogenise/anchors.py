"""Anchors: stars by which trends of labels show themselves.

A wide binary or an open cluster says that several stars have one composition; a reference star says
what the label is. The table has a row a star:

- ``star_id``: as in the labels that are to be calibrated;
- ``group``: name of the binary or cluster; of a reference star any name of its own, or empty;
- ``kind``: ``binary``, ``cluster`` or ``reference``;
- labels of the registry with ``e_<label>``, their 1-sigma errors: what the reference star has been
  found to be, on the scale that is wanted. Members of binaries and clusters may have them too;
  empty or NaN where not known.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from spectrolabe.errors import InputError, unknown_name
from spectrolabe.guard import blaming
from spectrolabe.labels import LABELS, Labels, read_only
from spectrolabe.surveys.files import column_numbers, column_text, read_table

__all__ = ["KINDS", "Anchors", "read_anchors"]

KINDS = ("binary", "cluster", "reference")
COLUMNS = ("star_id", "group", "kind")


@dataclass(frozen=True, eq=False)
class Anchors:
    """Stars of common composition, and stars with labels known from elsewhere.

    Parameters
    ----------
    group, kind : ndarray of str, shape (N,)
        As the columns of the table, see `spectrolabe.homogenise.anchors`.
    reference : Labels
        N rows, with the ``star_id``: labels known from elsewhere, NaN where there are none. No
        label at all, shape (N, 0), is right for binaries and clusters alone.

    Raises
    ------
    InputError
        If there is no anchor, a kind is unknown, a star is there twice, a binary has not two stars
        or a cluster only one, a group is of two kinds, a reference star has no label, or a label
        has no error.
    """

    group: NDArray
    kind: NDArray
    reference: Labels

    def __post_init__(self) -> None:
        kind = np.char.strip(np.asarray(self.kind, dtype=str))
        group = np.char.strip(np.asarray(self.group, dtype=str))
        stars = len(self.reference)
        for what, values in (("group", group), ("kind", kind)):
            if values.shape != (stars,):
                raise InputError(
                    f"anchors.{what}", expected=f"shape ({stars},)", found=f"shape {values.shape}"
                )
        if not stars:
            raise InputError("anchors", expected="at least one star", found="none")
        for name in np.unique(kind):
            if name not in KINDS:
                raise unknown_name("anchors", str(name), KINDS, kind="kind of anchor")
        alone = kind == "reference"
        if (group[~alone] == "").any():
            raise InputError(
                f"anchor {self.star_id[~alone][group[~alone] == ''][0]}",
                expected="the name of its binary or cluster as its group",
                found="an empty group",
            )
        # each reference star is a group of its own: what it is says nothing of another
        group = np.where(alone, np.char.add("reference ", self.star_id), group)
        object.__setattr__(self, "kind", read_only(kind))
        object.__setattr__(self, "group", read_only(group))
        self._check_stars()
        self._check_groups()
        self._check_errors()

    def __len__(self) -> int:
        return len(self.reference)

    @property
    def star_id(self) -> NDArray:
        """Stars, shape (N,)."""
        return self.reference.star_id

    @property
    def counts(self) -> dict[str, int]:
        """Number of binaries, clusters and reference stars."""
        return {k: int(np.unique(self.group[self.kind == k]).size) for k in KINDS}

    def take(self, rows: NDArray) -> Anchors:
        """Return these rows (indices or a boolean array)."""
        return Anchors(self.group[rows], self.kind[rows], self.reference.take(rows))

    def _check_stars(self) -> None:
        stars, count = np.unique(self.star_id, return_counts=True)
        if (count > 1).any():
            raise InputError(
                "anchors",
                expected="each star once",
                found=f"{stars[count > 1][0]} {count[count > 1][0]} times",
                fix="A member of a binary or cluster may have reference labels in its own row.",
            )

    def _check_groups(self) -> None:
        for kind, needed in (("binary", "two stars"), ("cluster", "two stars or more")):
            groups, count = np.unique(self.group[self.kind == kind], return_counts=True)
            wrong = count != 2 if kind == "binary" else count < 2
            if wrong.any():
                raise InputError(
                    f"{kind} {groups[wrong][0]}",
                    expected=needed,
                    found=f"{count[wrong][0]}",
                    fix="Is there a star without a row, or a name used twice?",
                )
        both = set(self.group[self.kind == "binary"]) & set(self.group[self.kind == "cluster"])
        if both:
            raise InputError(
                f"group {sorted(both)[0]}", expected="one kind", found="binary and cluster"
            )

    def _check_errors(self) -> None:
        known = np.isfinite(self.reference.values)
        without = (self.kind == "reference") & ~known.any(axis=1)
        if without.any():
            raise InputError(
                f"reference star {self.star_id[without][0]}",
                expected="at least one label of the registry, with its error",
                found="none",
                fix="Columns are named as in the registry, errors e_<label>.",
            )
        with np.errstate(invalid="ignore"):
            wrong = known & ~((self.reference.sigma > 0) & np.isfinite(self.reference.sigma))
        if wrong.any():
            row, column = np.argwhere(wrong)[0]
            name = self.reference.names[column]
            raise InputError(
                f"anchor {self.star_id[row]}",
                expected=f"an error e_{name} > 0 of its {name}",
                found=f"{self.reference.sigma[row, column]}",
            )


def read_anchors(path: str | Path) -> Anchors:
    """Read a table of anchors: CSV, ECSV, FITS, VOTable or Parquet.

    Raises
    ------
    InputError
        If a column is missing or is an error without its label, a value is out of the label's
        range, or as `Anchors`.
    """
    with blaming(path, "a table of anchors"):
        return _anchors(path, read_table(path))


def _anchors(path: str | Path, table: Table) -> Anchors:
    lower = [name.lower() for name in table.colnames]
    table = Table(table, names=lower, copy=False)
    lacking = [name for name in COLUMNS if name not in lower]
    if lacking:
        raise InputError(
            path,
            expected=f"columns {', '.join(COLUMNS)}",
            found=", ".join(lower[:20]),
            fix=f"Missing: {', '.join(lacking)}.",
        )
    names = [name for name in lower if name in LABELS and f"e_{name}" in lower]
    bare = [name for name in lower if name in LABELS and f"e_{name}" not in lower]
    if bare:
        raise InputError(
            path,
            expected=f"a column e_{bare[0]} with the errors of {bare[0]}",
            found="no such column",
            fix="Without errors a reference star cannot be weighed against a binary.",
        )
    try:
        values = [column_numbers(table, name) for name in names]
        sigma = [column_numbers(table, f"e_{name}") for name in names]
        shape = (len(names), len(table))
        star_id = column_text(table, "star_id")
        stacked = np.reshape(values, shape).T, np.reshape(sigma, shape).T
        _check_range(tuple(names), stacked[0], star_id)
        return Anchors(
            column_text(table, "group"),
            column_text(table, "kind"),
            Labels(tuple(names), *stacked, star_id),
        )
    except InputError as error:
        raise InputError(
            f"{path}: {error.where}", expected=error.expected, found=error.found, fix=error.fix
        ) from error


def _check_range(names: tuple[str, ...], values: NDArray, stars: NDArray) -> None:
    for name, column in zip(names, values.T, strict=True):
        low, high = LABELS[name].low, LABELS[name].high
        wrong = np.isfinite(column) & ((column < low) | (column > high))
        if wrong.any():
            raise InputError(
                f"anchor {stars[wrong][0]}",
                expected=f"{name} from {low:g} to {high:g} {LABELS[name].unit}".strip(),
                found=f"{column[wrong][0]:g}",
                fix="Leave the field empty where there is no value.",
            )
