"""Where a fit starts: the labels of an encoder, of a catalogue, or of any table of stars."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from spectrolabe.errors import InputError
from spectrolabe.guard import blaming
from spectrolabe.labels import LABELS, Labels
from spectrolabe.models.checkpoint import load
from spectrolabe.models.released import find_model
from spectrolabe.spectra import Spectrum
from spectrolabe.surveys.files import read_table

__all__ = ["EncoderStart", "Start", "TableStart", "start_from"]


class EncoderStart:
    """Starts that an encoder predicts.

    Parameters
    ----------
    name : str or Path
        See `spectrolabe.models.released.find_model`.
    """

    def __init__(self, name: str | Path) -> None:
        folder = find_model(name)
        self.estimator = load(folder)
        sha256 = self.estimator.card["weights_sha256"]
        self.provenance: dict[str, Any] = {"model": folder.name, "model_sha256": sha256}

    def __call__(self, stars: Sequence[Sequence[Spectrum]], first: bool = True) -> Labels:
        """Return the labels of stars."""
        return self.estimator.predict(stars).to_labels()


class TableStart:
    """Starts that a table holds: ``star_id`` and labels by their names in the registry.

    Parameters
    ----------
    path : str or Path
        FITS, VOTable, ECSV, CSV or Parquet; a catalogue too. Where a star has several rows, a
        column ``spectrum_id`` tells which is for which spectra.

    Raises
    ------
    InputError
        If it is no such table, has no ``star_id``, no label, or a star twice.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        with blaming(path, "a table of labels"):
            self._take(read_table(path))

    def _take(self, table: Table) -> None:
        path = self.path
        table = Table(table, names=[name.lower() for name in table.colnames], copy=False)
        self.names = tuple(name for name in table.colnames if name in LABELS)
        if "star_id" not in table.colnames or not self.names or not len(table):
            raise InputError(
                path,
                expected="a column star_id and at least one label of the registry, in rows",
                found=f"{len(table)} rows of {', '.join(table.colnames[:12])}",
                fix="Or give an encoder: a run, a name under weights/, or `default`.",
            )
        self.values = np.stack([_numbers(path, name, table[name]) for name in self.names], axis=1)
        self.star_id = _text(table["star_id"])
        self.row = self._rows(table)
        digest = hashlib.sha256(self.path.read_bytes()).hexdigest()
        self.provenance: dict[str, Any] = {"table": self.path.name, "table_sha256": digest}

    def _rows(self, table: Table) -> dict[tuple[str, ...], int]:
        """Rows by star, and by star and spectra."""
        stars, first, count = np.unique(self.star_id, return_index=True, return_counts=True)
        rows: dict[tuple[str, ...], int] = {
            (str(star),): int(i)
            for star, i in zip(stars[count == 1], first[count == 1], strict=True)
        }
        if "spectrum_id" in table.colnames:
            pairs = zip(self.star_id, _text(table["spectrum_id"]), strict=True)
            rows |= {(str(star), str(name)): i for i, (star, name) in enumerate(pairs)}
        elif (count > 1).any():
            raise InputError(
                self.path,
                expected="each star once",
                found=f"{stars[count > 1][0]} {count[count > 1][0]} times",
                fix="Keep one row a star, or add a column spectrum_id.",
            )
        return rows

    def __call__(self, stars: Sequence[Sequence[Spectrum]], first: bool = True) -> Labels:
        """Return the labels of stars, NaN of those without a row.

        Parameters
        ----------
        stars : sequence of sequence of Spectrum
        first : bool
            They are the first ones: if none has a row, the table is of others.

        Raises
        ------
        InputError
            If none of the first stars has a row.
        """
        ids = [star[0].star_id for star in stars]
        values, found = np.full((len(ids), len(self.names)), np.nan), 0
        for i, star in enumerate(stars):
            spectra = ";".join(dict.fromkeys(s.spectrum_id for s in star))
            row = self.row.get((ids[i], spectra), self.row.get((ids[i],)))
            if row is not None:
                values[i] = self.values[row]
                found += 1
        if first and stars and not found:
            raise InputError(
                self.path,
                expected=f"a row with the star_id of the spectra, for example {str(ids[0])!r}",
                found=f"{str(self.star_id[0])!r} and others, none of these stars",
            )
        return Labels(self.names, values, np.full(values.shape, np.nan), np.array(ids, dtype=str))


Start = EncoderStart | TableStart


def start_from(name: str | Path) -> Start:
    """Return the starts of a file, if it is one, or else of an encoder."""
    return TableStart(name) if Path(name).is_file() else EncoderStart(name)


def _numbers(path: str | Path, name: str, column: Any) -> NDArray:
    try:
        values = np.ma.filled(np.ma.asarray(column).astype(float), np.nan)
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}, column {name}", expected="numbers", found=str(error)) from error
    known = LABELS[name]
    with np.errstate(invalid="ignore"):
        wrong = (values < known.low) | (values > known.high)
    if wrong.any():
        raise InputError(
            f"{path}, column {name}",
            expected=f"{known.low:g} to {known.high:g} {known.unit}".strip(),
            found=f"{values[wrong][0]:g} in row {int(np.flatnonzero(wrong)[0]) + 1}",
            fix="Leave the field empty where there is no value.",
        )
    return np.asarray(values)


def _text(column: Any) -> NDArray:
    values = np.ma.filled(np.ma.asarray(column).astype(object), "")
    return np.array([v.decode() if isinstance(v, bytes) else str(v) for v in values], dtype=str)
