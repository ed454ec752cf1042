"""Rows of catalogues that are validated, and which of them are of one star."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from spectrolabe.catalogue import read_catalogue
from spectrolabe.errors import InputError
from spectrolabe.homogenise.crossmatch import Positions
from spectrolabe.labels import LABELS, Labels

__all__ = ["SAME_PLACE", "Rows", "read_rows"]

SAME_PLACE = 1.0  # arcsec within which two rows are of one star
IDENTITY = ("star_id", "spectrum_id", "survey", "file")
KEPT = (*IDENTITY, "snr", "result_flags", "flag_bad")
UNUSED = ("rho_", "raw_")  # most of a catalogue's columns


@dataclass(frozen=True, eq=False)
class Rows:
    """N rows of one or several catalogues.

    Parameters
    ----------
    labels : Labels
        N rows with the catalogue's ``star_id``; NaN where there is no value.
    label_flags : ndarray of int, shape (N, L)
    result_flags : ndarray of int, shape (N,)
    bad : ndarray of bool, shape (N,)
        ``flag_bad``: left out of all numbers but counts.
    survey, spectrum_id, file : ndarray of str, shape (N,)
    snr : ndarray, shape (N,)
    star : ndarray of int, shape (N,)
        The same number for all rows of a star.
    source : ndarray of int, shape (N,)
        Which catalogue a row is of.
    paths : tuple of Path
    provenance : tuple of dict
        Of each catalogue.
    """

    labels: Labels
    label_flags: NDArray
    result_flags: NDArray
    bad: NDArray
    survey: NDArray
    spectrum_id: NDArray
    file: NDArray
    snr: NDArray
    star: NDArray
    source: NDArray
    paths: tuple[Path, ...]
    provenance: tuple[dict[str, Any], ...]

    def __len__(self) -> int:
        return len(self.star)

    @property
    def names(self) -> tuple[str, ...]:
        """The labels."""
        return self.labels.names

    @cached_property
    def surveys(self) -> list[str]:
        """In the order of the catalogues."""
        return list(dict.fromkeys(self.survey.tolist()))

    @property
    def stars(self) -> int:
        """How many different ones."""
        return int(np.unique(self.star).size)

    def sigma(self, name: str) -> NDArray:
        """Stated errors, shape (N,); NaN where there is none."""
        sigma = self.labels.sigma[:, self.labels.index([name])[0]]
        return np.where(sigma > 0, sigma, np.nan)

    def united(self, names: NDArray) -> Rows:
        """Return the rows with those of one name as one star; an empty name says nothing."""
        nothing = np.empty((0, 2), dtype=int)
        return replace(self, star=_connected(len(self), [self.star.astype(str), names], nothing))

    def best_of_star(self, use: NDArray) -> NDArray:
        """Return a row for each star that has one in use, that of the highest S/N.

        Parameters
        ----------
        use : ndarray of bool, shape (N,)
        """
        rows = np.flatnonzero(use)
        rows = rows[np.lexsort((-self.snr[rows], self.star[rows]))]
        return rows[np.diff(self.star[rows], prepend=-1) != 0]


def read_rows(paths: Sequence[str | Path]) -> Rows:
    """Read catalogues of `predict` or `fit`.

    Rows are of one star if they have the same ``star_id`` or Gaia source, or are within
    `SAME_PLACE` of each other.

    Raises
    ------
    InputError
        If a file is no Spectrolabe catalogue, has no row or no label, or a spectrum is in two of
        them.
    """
    files = [Path(path) for path in paths]
    tables = [_read(path) for path in files]
    provenance = tuple(dict(table.meta["provenance"]) for table in tables)
    source = np.repeat(np.arange(len(tables)), [len(table) for table in tables])
    star_id, spectrum_id, survey, file = (_text(tables, name) for name in IDENTITY)
    if len(files) > 1:
        _check_once(files, source, (survey, spectrum_id, file))
    places = Positions(_numbers(tables, "ra"), _numbers(tables, "dec"))
    gaia = _numbers(tables, "gaia_dr3_source_id", dtype=np.int64)
    keys = [star_id, np.where(gaia > 0, gaia.astype(str), "")] if gaia.any() else [star_id]
    names = tuple(n for n in LABELS if any(_has_label(table, n) for table in tables))
    snr = _numbers(tables, "snr")
    result_flags, bad = (_numbers(tables, n, dtype=np.int64) for n in ("result_flags", "flag_bad"))
    values, sigma, flags = _labels(tables, names)
    del tables  # as large as what is kept of them
    star = _connected(len(source), keys, _near(places))
    return Rows(
        Labels(names, values, sigma, star_id),
        flags,
        result_flags,
        bad.astype(bool),
        survey,
        spectrum_id,
        file,
        snr,
        star,
        source,
        tuple(files),
        provenance,
    )


def _has_label(table: Table, name: str) -> bool:
    return name in table.colnames and f"e_{name}" in table.colnames


def _read(path: Path) -> Table:
    table = read_catalogue(path, without=UNUSED)
    lacking = [name for name in KEPT if name not in table.colnames]
    if lacking:
        raise InputError(
            path,
            expected=f"columns {', '.join(KEPT)}",
            found=f"no {', '.join(lacking)}",
            fix="Give what `spectrolabe predict` or `spectrolabe fit` wrote.",
        )
    if not any(_has_label(table, name) for name in LABELS):
        raise InputError(
            path,
            expected="at least one label with its error, such as teff and e_teff",
            found=f"columns {', '.join(table.colnames[:12])}",
        )
    if not len(table):
        raise InputError(path, expected="at least one row", found="none")
    return table


def _text(tables: Sequence[Table], name: str) -> NDArray:
    """A column of text of all catalogues, taken out of them: these are the widest."""
    parts = [np.asarray(table.columns.pop(name)) for table in tables]
    return np.concatenate([np.char.strip(part.astype(str, copy=False)) for part in parts])


def _numbers(tables: Sequence[Table], name: str, dtype: type = np.float64) -> NDArray:
    """A column of all catalogues; NaN, or 0, where one does not have it."""
    nothing = np.nan if dtype is np.float64 else 0
    parts = [
        np.asarray(t[name]) if name in t.colnames else np.full(len(t), nothing) for t in tables
    ]
    return np.concatenate(parts).astype(dtype, copy=False)


def _labels(tables: Sequence[Table], names: Sequence[str]) -> tuple[NDArray, NDArray, NDArray]:
    """Values, errors and flags of labels, each of shape (N, L)."""
    shape = (sum(len(table) for table in tables), len(names))
    values, sigma = np.full((2, *shape), np.nan)
    flags = np.zeros(shape, dtype=np.int32)
    begin = 0
    for table in tables:
        rows = slice(begin, begin + len(table))
        begin = rows.stop
        for j, name in enumerate(names):
            if _has_label(table, name):
                values[rows, j] = np.ma.filled(table[name].astype(float), np.nan)
                sigma[rows, j] = np.ma.filled(table[f"e_{name}"].astype(float), np.nan)
            if f"{name}_flags" in table.colnames:
                flags[rows, j] = np.asarray(table[f"{name}_flags"])
    return values, sigma, flags


def _check_once(paths: Sequence[Path], source: NDArray, columns: Sequence[NDArray]) -> None:
    """See that no spectrum, by its survey, name and file, is in two catalogues."""
    seen: dict[tuple[str, str, str], int] = {}
    for key, where in zip(
        zip(*(c.tolist() for c in columns), strict=True), source.tolist(), strict=True
    ):
        if seen.setdefault(key, where) != where:
            raise InputError(
                paths[where],
                expected=f"other spectra than those of {paths[seen[key]]}",
                found=f"{key[1]} of {key[0]} in both",
                fix="Validate them one by one.",
            )


def _near(places: Positions) -> NDArray:
    """Pairs of rows within `SAME_PLACE`, shape (P, 2)."""
    vectors = places.vectors(places.epoch)
    known = np.flatnonzero(np.isfinite(vectors).all(axis=1))
    if not len(known):
        return np.empty((0, 2), dtype=int)
    # rows at exactly one place are joined in a chain: all pairs of many would be too many
    unique, first, which = np.unique(vectors[known], axis=0, return_index=True, return_inverse=True)
    chord = 2.0 * np.sin(0.5 * np.deg2rad(SAME_PLACE / 3600.0))
    pairs = cKDTree(unique).query_pairs(chord, output_type="ndarray")
    chain = np.c_[known, known[first[which.ravel()]]]
    return np.concatenate([chain, known[first[pairs]].reshape(-1, 2)])


def _connected(count: int, keys: Sequence[NDArray], pairs: NDArray) -> NDArray:
    """Number rows so that those of one key, or of a pair, have the same, shape (N,)."""
    edges = [pairs]
    for key in keys:
        order = np.argsort(key, kind="stable")
        one, other = order[:-1], order[1:]
        same = (key[one] == key[other]) & (key[one] != "")
        edges.append(np.c_[one[same], other[same]])
    rows, columns = np.concatenate(edges).T
    graph = coo_matrix((np.ones(len(rows)), (rows, columns)), shape=(count, count))
    return np.asarray(connected_components(graph, directed=False)[1])
