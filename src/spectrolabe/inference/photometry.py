"""A user's table of photometry and parallaxes, and the distances it adds to a catalogue."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Column, Table
from numpy.typing import NDArray

from spectrolabe.errors import InputError
from spectrolabe.guard import blaming
from spectrolabe.inference.distance import Distances, Photometry, distances
from spectrolabe.models.posterior import LabelPosterior
from spectrolabe.sky.photometry import EXTINCTION
from spectrolabe.spectra import Spectrum
from spectrolabe.surveys.files import read_table

__all__ = ["DISTANCE_COLUMNS", "PhotometryTable", "check_model"]

IDS = ("star_id", "spectrum_id", "gaia_dr3_source_id")
GAIA = ("gaia_dr3_source_id", "source_id")  # in what a file says of a spectrum
R_V = 3.1
A_K = R_V * EXTINCTION["K"]  # of E(B-V) 1
MAGNITUDE, PARALLAX = ("k_mag", "e_k_mag"), ("parallax", "e_parallax")
QUANTILES = {"distance_16": 0.16, "distance_50": 0.5, "distance_84": 0.84}
EXPECTED = (
    f"one of {', '.join(IDS)}; k_mag and e_k_mag with a_k or ebv (and e_a_k or e_ebv, otherwise "
    "exact), or parallax and e_parallax in mas (and parallax_zero_point, to be subtracted), or both"
)

DISTANCE_COLUMNS: dict[str, tuple[str, str, str]] = {
    "distance": ("f4", "kpc", "Distance, mean of its posterior"),
    "e_distance": ("f4", "kpc", "1-sigma uncertainty of distance"),
    "distance_16": ("f4", "kpc", "16 % quantile of the distance"),
    "distance_50": ("f4", "kpc", "Median of the distance"),
    "distance_84": ("f4", "kpc", "84 % quantile of the distance"),
    "parallax_tension": ("f4", "", "Parallax against spectroscopic distance, in sigma"),
    "distance_flags": ("i4", "", "Bits of the distance"),
}
"""Type, unit and description of the columns that photometry adds to a catalogue."""


class PhotometryTable:
    """Photometry and parallaxes of stars by their identifiers.

    Parameters
    ----------
    path : str or Path
        FITS, VOTable, ECSV, CSV or Parquet. Columns: one of `IDS`; ``k_mag``, ``e_k_mag`` (2MASS
        Ks) with ``a_k`` or ``ebv`` (and ``e_a_k`` or ``e_ebv``; exact without); ``parallax``,
        ``e_parallax`` in mas, negative ones too, and ``parallax_zero_point``, which is subtracted.
        Values may be missing.

    Raises
    ------
    InputError
        If it is no such table, or has an identifier twice.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        with blaming(path, "a table of photometry"):
            self._take(read_table(path))

    def _take(self, table: Table) -> None:
        path = self.path
        table = Table(table, names=[name.lower() for name in table.colnames], copy=False)
        self._ids = [name for name in IDS if name in table.colnames]
        have = set(table.colnames)
        magnitude = have.issuperset(MAGNITUDE) and bool(have & {"a_k", "ebv"})
        if not self._ids or not len(table) or not (magnitude or have.issuperset(PARALLAX)):
            raise InputError(
                path,
                expected=f"columns {EXPECTED}",
                found=f"{len(table)} rows of {', '.join(table.colnames[:12])}",
            )
        self._rows = dict(self._by_id(table))
        self._photometry = self._values(table)
        digest = hashlib.sha256(self.path.read_bytes()).hexdigest()
        self.provenance: dict[str, Any] = {
            "photometry": self.path.name,
            "photometry_sha256": digest,
        }

    def _by_id(self, table: Table) -> Iterator[tuple[tuple[str, str], int]]:
        for name in self._ids:
            values = [_text(value) for value in table[name]]
            first: dict[str, int] = {}
            for row, value in enumerate(values):
                if value in first and value:
                    raise InputError(
                        self.path,
                        expected=f"each {name} once",
                        found=f"{value} in rows {first[value]} and {row}",
                    )
                first[value] = row
                yield (name, value), row

    def _values(self, table: Table) -> Photometry:
        def column(name: str, default: float = np.nan) -> NDArray:
            if name not in table.colnames:
                return np.full(len(table), default)
            try:
                return np.asarray(np.ma.filled(np.ma.asarray(table[name]).astype(float), np.nan))
            except (TypeError, ValueError) as error:
                raise InputError(
                    f"{self.path}, column {name}", expected="numbers", found=str(error)
                ) from error

        if "a_k" in table.colnames:
            a_k, e_a_k = column("a_k"), column("e_a_k", 0.0)
        else:
            a_k, e_a_k = A_K * column("ebv"), A_K * column("e_ebv", 0.0)
        zero_point = np.nan_to_num(column("parallax_zero_point", 0.0))
        return Photometry(
            column("k_mag"),
            column("e_k_mag"),
            a_k,
            e_a_k,
            column("parallax") - zero_point,
            column("e_parallax"),
        )

    def of(self, stars: Sequence[Sequence[Spectrum]], first: bool = True) -> Photometry:
        """Return the photometry of stars, NaN of those without a row.

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
        rows = np.array([self._row(star) for star in stars], dtype=int)
        if first and len(stars) and (rows < 0).all():
            first_ids = {name: value for name, value in reversed(self._rows)}
            have = " or ".join(f"{name} {value!r}" for name, value in first_ids.items())
            one = stars[0][0]
            raise InputError(
                self.path,
                expected=f"a row of these stars, for example star_id {str(one.star_id)!r} or "
                f"spectrum_id {str(one.spectrum_id)!r}",
                found=f"{have} and others, none of these stars",
            )
        known = self._photometry.take(np.maximum(rows, 0))
        values = (np.where(rows >= 0, getattr(known, name), np.nan) for name in vars(known))
        return Photometry(*values)

    def _row(self, star: Sequence[Spectrum]) -> int:
        names = [s.spectrum_id for s in star]
        gaia = [s.meta[key] for s in star for key in GAIA if key in s.meta]
        keys = [("star_id", star[0].star_id)]
        keys += [("spectrum_id", name) for name in [";".join(dict.fromkeys(names)), *names]]
        keys += [("gaia_dr3_source_id", str(value)) for value in [*gaia, star[0].star_id]]
        return next((self._rows[key] for key in keys if key in self._rows), -1)

    def with_distances(
        self,
        catalogue: Table,
        stars: Sequence[Sequence[Spectrum]],
        calibrated: LabelPosterior,
        first: bool = True,
    ) -> Table:
        """Return the catalogue with the columns of `DISTANCE_COLUMNS` at its end.

        Parameters
        ----------
        catalogue : Table
            Of these stars.
        stars : sequence of sequence of Spectrum
        calibrated : LabelPosterior
            With ``abs_mag_k``; not used where the catalogue has no value.
        first : bool
            See `of`.
        """
        absolute = calibrated.select(["abs_mag_k"])
        absolute = absolute.without(np.isnan(np.asarray(catalogue["abs_mag_k"], float))[:, None])
        return _joined(catalogue, distances(absolute, self.of(stars, first)))


def check_model(names: Sequence[str], path: object) -> None:
    """Raise unless a model's labels give distances."""
    if "abs_mag_k" not in names or "distance" in names:
        raise InputError(
            f"--photometry {path}",
            expected="a model that predicts abs_mag_k, and not itself a distance",
            found=f"one of {', '.join(names)}",
        )


def _joined(catalogue: Table, found: Distances) -> Table:
    values = {
        "distance": found.posterior.mean[:, 0],
        "e_distance": found.posterior.sigma[:, 0],
        "parallax_tension": found.tension,
        "distance_flags": found.flags,
    }
    quantiles = found.posterior.quantiles(list(QUANTILES.values()))[:, :, 0]
    values |= dict(zip(QUANTILES, quantiles, strict=True))
    table = catalogue.copy(copy_data=False)
    for name, (dtype, unit, description) in DISTANCE_COLUMNS.items():
        table[name] = Column(values[name].astype(dtype), unit=unit or None, description=description)
    return table


def _text(value: object) -> str:
    return value.decode().strip() if isinstance(value, bytes) else str(value).strip()
