"""Joining spectra to the rows of a label table."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from spectrolabe.errors import InputError
from spectrolabe.spectra import Frame, Spectrum
from spectrolabe.surveys.base import LabelTable

__all__ = ["LabelJoin", "UnusableError"]


class UnusableError(Exception):
    """Why one spectrum is left out; becomes a line of ``bad.csv``."""


class LabelJoin:
    """A label table, searched by its keys.

    Parameters
    ----------
    table : LabelTable
    path : str or Path
        What to call it in messages.

    Attributes
    ----------
    names : tuple of str
        Labels that the store keeps; the velocity of a spectrum is its own field, not a label.
    star_id : ndarray of str or None
        None where the table does not say which star its rows belong to.

    Raises
    ------
    InputError
        If two rows that pass the survey's quality cut have the same keys.
    """

    def __init__(self, table: LabelTable, path: str | Path) -> None:
        self.table, self.path = table, path
        self.names = tuple(name for name in table.labels.names if name != "rv")
        self.labels = table.labels.select(self.names)
        self.rows: dict[str, dict[str, list[int]]] = {}
        for key, values in table.keys.items():
            index = self.rows.setdefault(key, {})
            for i, value in enumerate(values):
                if normal := _normal(key, value):
                    index.setdefault(normal, []).append(i)
        first = next(iter(table.keys.values()))
        # a table without a star column repeats its first key, which may say nothing of the star
        own = np.array_equal(table.labels.star_id, first) and "star_id" not in table.keys
        self.star_id = None if own else table.labels.star_id
        self._check_unique()

    @property
    def tried(self) -> str:
        """What was looked through, for messages."""
        return f"{self.path}, by {' and '.join(self.rows)}"

    def _check_unique(self) -> None:
        seen: dict[tuple[str, ...], list[int]] = {}
        for i in np.flatnonzero(self.table.good):
            keys = tuple(_normal(key, values[i]) for key, values in self.table.keys.items())
            seen.setdefault(keys, []).append(int(i))
        twice = [(keys, rows) for keys, rows in seen.items() if any(keys) and len(rows) > 1]
        if twice:
            listed = "; ".join(f"{' '.join(k)} in rows {_listed(r)}" for k, r in twice[:5])
            raise InputError(
                self.path,
                expected=f"one row for each {' and '.join(self.table.keys)}",
                found=f"{len(twice)} with more ({listed})",
                fix="Remove the rows that do not count; rows are numbered from 1.",
            )

    def row(self, spectrum: Spectrum) -> int | None:
        """Return the row that agrees in every key known to both; None when there is none.

        Of several such rows the one that passes the survey's quality cut is taken.

        Raises
        ------
        UnusableError
            If there are still several, or the keys point to different rows.
        """
        rows: set[int] | None = None
        for key, index in self.rows.items():
            found = index.get(_normal(key, _identity(spectrum, key)))
            if found:
                rows = set(found) if rows is None else rows & set(found)
        if rows is None:
            return None
        best = [i for i in rows if self.table.good[i]] or sorted(rows)
        if len(best) != 1:
            what = f"rows {_listed(best)} of" if best else "its keys name different rows of"
            raise UnusableError(f"{spectrum.spectrum_id}: ambiguous labels, {what} {self.path}")
        return best[0]

    def apply(self, spectrum: Spectrum, row: int) -> tuple[Spectrum, dict[str, Any]]:
        """Return the spectrum with star id and velocity of the row, and what the store adds."""
        table, changes = self.table, {}
        if self.star_id is not None and self.star_id[row]:
            changes["star_id"] = str(self.star_id[row])
        if np.isfinite(table.rv[row]) and _takes_velocity(spectrum):
            changes["rv"] = table.rv[row]
        return spectrum.replace(**changes), {
            "values": self.labels.values[row],
            "sigma": self.labels.sigma[row],
            "split": str(table.split[row]),
            "snr": float(table.snr[row]),
            "good": bool(table.good[row]),
        }


def _takes_velocity(spectrum: Spectrum) -> bool:
    """Whether the catalogue's barycentric velocity is that of the spectrum's wavelengths."""
    if spectrum.frame == Frame.REST:  # its own says what was taken out
        return not np.isfinite(spectrum.rv)
    return spectrum.frame == Frame.BARYCENTRIC


def _identity(spectrum: Spectrum, key: str) -> object:
    if key in ("survey", "spectrum_id", "star_id"):
        return getattr(spectrum, key)
    return spectrum.meta.get(key, "")


def _normal(key: str, value: object) -> str:
    """One form of an identifier: a file by its base name, 12.0 as 12, nothing for a missing one."""
    text = str(value).strip()
    if key == "file":
        return text.replace("\\", "/").rsplit("/", 1)[-1].removesuffix(".gz")
    if text.lower() in ("nan", "--", "none", "n/a"):
        return ""
    head, dot, tail = text.partition(".")
    return head if dot and head.isdigit() and not tail.strip("0") else text


def _listed(rows: Iterable[int]) -> str:
    return ", ".join(str(i + 1) for i in sorted(rows))
