"""Gaia RVS: mean spectra of DR3, and the GSP-Spec labels of the astrophysical parameters.

Sources: Gaia DR3 documentation, sections 20.2.1 and 20.12.1; Seabroke et al. (2022; spectra);
Recio-Blanco et al. (2023, A&A 674, A29; GSP-Spec and its flags, table 2).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
from astropy import units
from astropy.table import Table
from numpy.typing import ArrayLike, NDArray

from spectrolabe.errors import InputError
from spectrolabe.spectra import Frame, Spectrum
from spectrolabe.surveys.base import LabelTable, Survey, column, good_ivar
from spectrolabe.surveys.files import SurveyFile

__all__ = ["GSPSPEC_FLAGS", "GaiaRVS"]

FIRST, STEP, PIXELS = 8460.0, 0.1, 2401  # Å; the one grid of DR3
EDGE = 10  # pixels at either end of the measured range, where spikes occur
RESOLUTION = 11500.0
PARAMETER_FLAGS = 13

GSPSPEC_FLAGS = (
    *("vbroadT", "vbroadG", "vbroadM", "vradT", "vradG", "vradM", "fluxNoise", "extrapol"),
    *("negFlux", "nanFlux", "emission", "nullFluxErr", "KMgiantPar"),
    *(
        f"{element}{what}"
        for element in (
            "N",
            "Mg",
            "Si",
            "S",
            "Ca",
            "Ti",
            "Cr",
            "FeI",
            "FeII",
            "Ni",
            "Zr",
            "Ce",
            "Nd",
        )
        for what in ("UpLim", "Uncer")
    ),
    *("DeltaCNq", "DIBq"),
)
"""What the characters of ``flags_gspspec`` stand for, in order; 0 is best, 9 is "leave out"."""

ABUNDANCES = ("N", "Mg", "Si", "S", "Ca", "Ti", "Cr", "Ni", "Zr", "Ce", "Nd")


class GaiaRVS(Survey):
    """Gaia RVS mean spectra, 8460 to 8700 Å, and the GSP-Spec labels.

    Wavelengths are those of vacuum in the star's own frame; flux is normalised. There is no mask:
    pixels without an error and the ten at either end have ``ivar`` 0. The pixels sample the
    line-spread function seven times, so the errors of neighbours are correlated.

    The labels are as GSP-Spec gives them: the polynomial corrections that Recio-Blanco et al.
    propose for log g and the abundances are not applied. ``m_h`` is its [M/H]; ``fe_h`` is
    [M/H] + [Fe/M], known for fewer stars.
    """

    name = "gaia_rvs"
    title = "Gaia RVS"
    telluric = False
    label_columns: ClassVar[Mapping[str, tuple[str, str]]] = {
        "teff": ("teff_gspspec", "teff_gspspec_sigma"),
        "logg": ("logg_gspspec", "logg_gspspec_sigma"),
        "m_h": ("mh_gspspec", "mh_gspspec_sigma"),
        "alpha_fe": ("alphafe_gspspec", "alphafe_gspspec_sigma"),
        "fe_h": ("feh_gspspec", "feh_gspspec_sigma"),
        **{
            f"{x.lower()}_fe": (f"{x.lower()}fe_gspspec", f"{x.lower()}fe_gspspec_sigma")
            for x in ABUNDANCES
        },
    }
    key_columns: ClassVar[Mapping[str, str]] = {"star_id": "source_id"}
    required_columns = ("teff_gspspec", "logg_gspspec", "mh_gspspec", "flags_gspspec")
    rv_column = ("radial_velocity",)
    snr_column = ("rvs_spec_sig_to_noise",)

    def recognises(self, file: SurveyFile) -> bool:
        """Flux and its error on the RVS wavelengths, or as arrays of 2401 pixels for a source."""
        names = {name.lower() for name in file.columns()}
        if not {"flux", "flux_error"} <= names:
            return False
        data = _columns(file)
        if "wavelength" in names:
            wavelength = _angstrom(data["wavelength"])
            return bool(np.all((wavelength > FIRST - 1.0) & (wavelength < FIRST + 241.0)))
        rows = len(data["flux"])
        return "source_id" in names and rows > 0 and _array(data["flux"][0]).size == PIXELS

    def spectra(self, file: SurveyFile) -> list[Spectrum]:
        """Return the spectrum of every source in the file, whichever structure it has."""
        data = _columns(file)
        sources = _by_source if "wavelength" in data else _raw
        return [self._spectrum(file, *source) for source in sources(file, data)]

    def _spectrum(
        self, file: SurveyFile, source: str, wavelength: NDArray, flux: NDArray, error: NDArray
    ) -> Spectrum:
        if not flux.shape == error.shape == wavelength.shape:
            raise InputError(
                file.path,
                expected=f"{wavelength.size} pixels of flux and flux_error for source {source}",
                found=f"{flux.size} and {error.size}",
            )
        order = np.argsort(wavelength)
        flux, error = flux[order], error[order]
        measured = np.isfinite(flux) & np.isfinite(error) & (error > 0)
        inside = np.flatnonzero(measured)[[0, -1]] if measured.any() else (0, 0)
        pixel = np.arange(flux.size)
        bad = ~measured | (pixel < inside[0] + EDGE) | (pixel > inside[1] - EDGE)
        return Spectrum(
            wavelength=wavelength[order],
            flux=flux,
            ivar=good_ivar(flux, np.where(bad, np.inf, error) ** -2.0, bad),
            resolution=RESOLUTION,
            frame=Frame.REST,
            survey=self.name,
            spectrum_id=source,
            star_id=source,
            meta={**file.meta(), "source_id": source},
        )

    def labels(self, table: Table) -> LabelTable:
        """Map ``astrophysical_parameters`` to registry names and units.

        Uncertainties are half the distance from ``_lower`` to ``_upper``, the 16th and 84th
        percentiles. Abundances with a flag other than 0 are NaN.
        """
        table = Table(table, names=[name.lower() for name in table.colnames], copy=False)
        names = {name.removesuffix("_sigma") for _, name in self.label_columns.values()}
        for name in sorted({*names, "fem_gspspec"}):
            upper, lower = column(table, f"{name}_upper"), column(table, f"{name}_lower")
            table[f"{name}_sigma"] = (upper - lower) / 2.0
        if "fem_gspspec" in table.colnames:
            mean, iron = column(table, "mh_gspspec"), column(table, "fem_gspspec")
            table["feh_gspspec"] = mean + iron
            table["feh_gspspec_sigma"] = np.hypot(
                table["mh_gspspec_sigma"], table["fem_gspspec_sigma"]
            )
        if "flags_gspspec" in table.colnames:
            _drop_flagged(table)
        return super().labels(table)

    def quality(self, table: Table) -> NDArray:
        """The first 13 characters of ``flags_gspspec``, those of the parameters, are all 0."""
        clean = "0" * PARAMETER_FLAGS
        return np.array([flags.startswith(clean) for flags in _flags(table)], dtype=bool)


def _drop_flagged(table: Table) -> None:
    flags = _flags(table)
    for element in (*ABUNDANCES, "FeI"):
        places = [GSPSPEC_FLAGS.index(f"{element}{what}") for what in ("UpLim", "Uncer")]
        good = np.array([all(one[i : i + 1] == "0" for i in places) for one in flags], dtype=bool)
        name = "feh_gspspec" if element == "FeI" else f"{element.lower()}fe_gspspec"
        for what in (name, f"{name}_sigma"):
            if what in table.colnames:
                table[what] = np.where(good, column(table, what), np.nan)


def _flags(table: Table) -> list[str]:
    """The 41 characters of each row; text of a CSV table may have been read as a number."""
    size = len(GSPSPEC_FLAGS)
    values = np.ma.filled(np.ma.asarray(table["flags_gspspec"]).astype(str), "")
    return [value.strip().zfill(size) if value.strip() else "" for value in values]


Columns = Mapping[str, Any]
Source = tuple[str, NDArray, NDArray, NDArray]


def _columns(file: SurveyFile) -> Columns:
    """Columns by lower-case name."""
    if file.table is not None:
        return {name.lower(): file.table[name] for name in file.table.colnames}
    columns: dict[str, Any] = {name.lower(): values for name, values in file.arrays(1).items()}
    fields = file.hdus[1].columns if file.hdus is not None else []
    unit = next((field.unit for field in fields if field.name.lower() == "wavelength"), None)
    if unit and "wavelength" in columns:
        columns["wavelength"] = columns["wavelength"] * units.Unit(unit)
    return columns


def _by_source(file: SurveyFile, data: Columns) -> Iterator[Source]:
    """Tables with a row for each pixel, of one source or of several."""
    wavelength = _angstrom(data["wavelength"])
    flux, error = _array(data["flux"]), _array(data["flux_error"])
    if "source_id" not in data:
        yield _source_id(file), wavelength, flux, error
        return
    identity = np.asarray(data["source_id"]).astype(str)
    for source in dict.fromkeys(identity):
        rows = identity == source
        yield source.strip(), wavelength[rows], flux[rows], error[rows]


def _raw(file: SurveyFile, data: Columns) -> Iterator[Source]:
    """Tables with a row for each source, without wavelengths."""
    wavelength = FIRST + STEP * np.arange(PIXELS)
    rows = zip(data["source_id"], data["flux"], data["flux_error"], strict=True)
    for source, flux, error in rows:
        yield str(source).strip(), wavelength, _array(flux), _array(error)


def _source_id(file: SurveyFile) -> str:
    """The id of the one source: in VOTable a parameter, in FITS a card; else the file name's."""
    known = dict(file.table.meta) if file.table is not None else {}
    for hdu in reversed(file.hdus or []):
        known.update(hdu.header)
    for name, value in known.items():
        if name.lower() in ("source_id", "source_i"):
            return str(value).strip()
    found = re.search(r"(?<!\d)\d{9,19}(?!\d)", file.path.name)
    return found[0] if found else file.path.name.removesuffix(".gz").rsplit(".", 1)[0]


def _angstrom(wavelength: Any) -> NDArray:
    """Wavelengths in Å; a column without a unit is in nm."""
    unit = getattr(wavelength, "unit", None) or units.nm
    return _array(wavelength) * units.Unit(unit).to(units.AA)


def _array(values: ArrayLike) -> NDArray:
    """Numbers, with NaN for whatever is masked; CSV holds arrays as ``(a, b)`` or ``[a, b]``."""
    if isinstance(values, str | bytes):
        text = values.decode() if isinstance(values, bytes) else values
        words = text.strip().strip("()[]{}").split(",")
        return np.array([_number(word) for word in words])
    numbers: np.ma.MaskedArray = np.ma.asarray(getattr(values, "value", values))
    return np.ma.filled(numbers.astype(float), np.nan)


def _number(word: str) -> float:
    try:
        return float(word)
    except ValueError:  # null, --, or nothing at all
        return np.nan
