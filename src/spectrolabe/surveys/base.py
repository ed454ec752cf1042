"""What a survey is to the rest of the code: how to know its files, read them, and cut them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntFlag
from pathlib import Path
from typing import ClassVar

import numpy as np
from astropy.io import fits
from astropy.table import Table
from numpy.typing import ArrayLike, NDArray

from spectrolabe.errors import InputError
from spectrolabe.labels import LABELS, Labels, read_only
from spectrolabe.spectra import SPEED_OF_LIGHT, Spectrum
from spectrolabe.surveys.files import SurveyFile, column_of, read_table

__all__ = ["LabelTable", "Survey", "column", "good_ivar", "number"]

MISSING_BELOW = -9000.0  # surveys write -9999, -9999.99 or -9998 where there is no value


@dataclass(frozen=True, eq=False)
class LabelTable:
    """A survey's label catalogue, in the names and units of the registry.

    Parameters
    ----------
    labels : Labels
        N rows.
    keys : Mapping of str to ndarray of str, shape (N,)
        Identifiers by which rows are joined to spectra: each key is a field of `Spectrum` or a key
        of its ``meta``, for example ``spectrum_id``, ``star_id``, ``file``, ``obsid``.
    good : ndarray, shape (N,), bool
        The survey's recommended quality cut.
    rv : ndarray, shape (N,)
        Radial velocity in km/s; NaN where not known.
    snr : ndarray, shape (N,)
        The catalogue's signal-to-noise; NaN where not known.
    split : ndarray of str, shape (N,)
        A recommended split (for example ``train``, ``val``); empty where there is none.

    Raises
    ------
    InputError
        If one of them has not one value for each row.
    """

    labels: Labels
    keys: Mapping[str, NDArray]
    good: NDArray
    rv: NDArray
    snr: NDArray
    split: NDArray

    def __post_init__(self) -> None:
        object.__setattr__(self, "good", read_only(self.good, bool))
        object.__setattr__(self, "rv", read_only(self.rv, np.float64))
        object.__setattr__(self, "snr", read_only(self.snr, np.float64))
        object.__setattr__(self, "split", read_only(np.asarray(self.split, dtype=str)))
        for name in ("good", "rv", "snr", "split"):
            if getattr(self, name).shape != (len(self),):
                raise InputError(
                    name,
                    expected=f"one value for each of {len(self)} rows",
                    found=f"an array of shape {getattr(self, name).shape}",
                )

    def __len__(self) -> int:
        return len(self.labels)


class Survey(ABC):
    """One survey: a file in ``surveys/`` with one subclass for each kind of spectrum.

    Subclasses set the class attributes and override `recognises`, `spectra` and `quality`.

    Attributes
    ----------
    name : str
        Key, for example ``lamost_lrs``; becomes `Spectrum.survey`.
    title : str
        For messages and tables.
    pixel_bits : type of IntFlag or None
        The named bits of the survey's pixel mask.
    label_columns : Mapping of str to tuple of str
        Label -> (value column, error column or ''), names in lower case.
    key_columns : Mapping of str to str
        Join key (see `LabelTable`) -> column; at least one must be in the table.
    required_columns : tuple of str
        Columns without which a table is not this survey's catalogue.
    rv_column, snr_column : tuple of str
        Candidates for the velocity in km/s and the S/N; the first that is there is taken.
    telluric : bool
        Whether absorption by the Earth's atmosphere is left in its optical spectra.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    pixel_bits: ClassVar[type[IntFlag] | None] = None
    label_columns: ClassVar[Mapping[str, tuple[str, str]]] = {}
    key_columns: ClassVar[Mapping[str, str]] = {}
    required_columns: ClassVar[tuple[str, ...]] = ()
    rv_column: ClassVar[tuple[str, ...]] = ()
    snr_column: ClassVar[tuple[str, ...]] = ()
    table_extension: ClassVar[int | str] = 1
    telluric: ClassVar[bool] = True

    @abstractmethod
    def recognises(self, file: SurveyFile) -> bool:
        """Tell from its content whether a file holds spectra of this survey."""

    @abstractmethod
    def spectra(self, file: SurveyFile) -> list[Spectrum]:
        """Return every spectrum of a file that `recognises` accepts."""

    def rewritten(
        self, file: SurveyFile, spectra: Sequence[Spectrum], model: str
    ) -> fits.HDUList | None:
        """Return a file with flux and errors of other spectra in place of its own.

        Parameters
        ----------
        file : SurveyFile
        spectra : sequence of Spectrum
            Those of `spectra`, in their order, changed in flux and ivar alone.
        model : str
            Whose product they are, for the header.

        Returns
        -------
        HDUList or None
            None where the survey has no way to do that.
        """
        return None

    def table(self, path: str | Path, extension: int | str | None = None) -> Table:
        """Read the label catalogue as it is; ``extension`` is an HDU other than the usual one."""
        return read_table(path, self.table_extension if extension is None else extension)

    def quality(self, table: Table) -> NDArray:
        """Return the recommended cut of a label catalogue (columns in lower case), shape (N,)."""
        return np.ones(len(table), dtype=bool)

    def labels(self, table: Table) -> LabelTable:
        """Map the survey's label catalogue to registry names and units.

        Column names are matched without regard to case. Sentinels such as -9999, values outside
        the registry's range and masked entries become NaN.

        Raises
        ------
        InputError
            If the table lacks the columns of this catalogue, or an id is empty or twice.
        """
        table = Table(table, names=[name.lower() for name in table.colnames], copy=False)
        self._check_columns(table)
        names = [name for name, (value, _) in self.label_columns.items() if value in table.colnames]
        values = [_in_range(name, column(table, self.label_columns[name][0])) for name in names]
        sigma = [number(column(table, self.label_columns[name][1])) for name in names]
        sigma = [np.where(s > 0, s, np.nan) for s in sigma]
        keys = {
            key: _text(table[name])
            for key, name in self.key_columns.items()
            if name in table.colnames
        }
        star_id = _text(table["star"]) if "star" in table.colnames else next(iter(keys.values()))
        return LabelTable(
            labels=Labels(tuple(names), np.transpose(values), np.transpose(sigma), star_id),
            keys=keys,
            good=self.quality(table),
            rv=_velocity(column(table, _first(self.rv_column, table))),
            snr=number(column(table, _first(self.snr_column, table))),
            split=_text(table["split"]) if "split" in table.colnames else np.full(len(table), ""),
        )

    def _check_columns(self, table: Table) -> None:
        where = table.meta.get("file", f"label table of {self.title}")
        lacking = [name for name in self.required_columns if name not in table.colnames]
        has_key = any(name in table.colnames for name in self.key_columns.values())
        if lacking or not has_key:
            keys = " or ".join(self.key_columns.values())
            raise InputError(
                where,
                expected=f"columns {', '.join(self.required_columns)} and {keys}",
                found=f"{', '.join(table.colnames[:40])}",
                fix=f"Missing: {', '.join(lacking) or keys}.",
            )


def column(table: Table, name: str) -> NDArray:
    """Return a column as an array; all NaN, shape (N,), when the table lacks it."""
    if name not in table.colnames:
        return np.full(len(table), np.nan)
    return np.ma.filled(column_of(table, name).astype(float), np.nan)


def number(values: ArrayLike) -> NDArray:
    """Return float64 values with the surveys' sentinels (-9999 and the like) as NaN."""
    array = np.array(values, dtype=np.float64)
    array[~(array > MISSING_BELOW)] = np.nan
    return array


def good_ivar(flux: ArrayLike, ivar: ArrayLike, bad: ArrayLike = False) -> NDArray:
    """Return inverse variances with 0 wherever a pixel must not be used.

    Parameters
    ----------
    flux, ivar : array_like, shape (M,)
    bad : array_like, shape (M,) or scalar
        Pixels that the survey's mask rejects.
    """
    flux, ivar = np.asarray(flux), np.array(ivar, dtype=np.float32)
    ivar[~(np.isfinite(ivar) & (ivar > 0)) | ~np.isfinite(flux) | np.asarray(bad, bool)] = 0.0
    return ivar


def _in_range(name: str, values: NDArray) -> NDArray:
    low, high = LABELS[name].low, LABELS[name].high
    return np.where((values >= low) & (values <= high), values, np.nan)


def _velocity(values: NDArray) -> NDArray:
    """Velocities in km/s; NaN where they are none."""
    found = number(values)
    return np.where(np.abs(found) < SPEED_OF_LIGHT, found, np.nan)


def _first(names: Sequence[str], table: Table) -> str:
    return next((name for name in names if name in table.colnames), "")


def _text(values: ArrayLike) -> NDArray:
    array = np.asarray(values)
    if array.dtype.kind == "S":
        array = np.char.decode(array, "utf-8")
    return np.char.strip(array.astype(str))
