"""SDSS-V Milky Way Mapper: mwmStar and mwmVisit (BOSS and APOGEE), and astra's ASPCAP catalogue.

Sources: data model of mwmStar and mwmVisit of DR19 and DR20, and astra 0.6-0.8, which writes them
(https://github.com/sdss/astra); SDSS Collaboration 2025, arXiv:2507.07093 (DR19).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.table import Table
from numpy.typing import NDArray

from spectrolabe.labels import LABELS
from spectrolabe.spectra import Frame, Spectrum
from spectrolabe.surveys.apogee import APOGEE_RESOLUTION, ApogeePixel, is_bad
from spectrolabe.surveys.base import LabelTable, Survey, column, good_ivar, number
from spectrolabe.surveys.files import SurveyFile
from spectrolabe.surveys.sdss_boss import BossPixel, boss_resolution

__all__ = ["SdssV"]

EXTENSIONS = ("BOSS/APO", "BOSS/LCO", "APOGEE/APO", "APOGEE/LCO")
SECURE_CORRELATION = 6.0  # XCSAO R value; astra stacks and averages velocities above it only

ELEMENTS = (
    *("al", "ca", "ce", "c", "co", "cr", "cu", "k", "mg", "mn", "na"),
    *("nd", "ni", "n", "o", "p", "si", "s", "ti", "v"),
)
KEPT = (
    "instrument",
    "telescope",
    "release",
    "mjd",
    "snr",
    "in_stack",
    "spectrum_flags",
    "n_visits",
)


class SdssV(Survey):
    """Spectra of SDSS-V stars on astra's common grids, and astraAllStarASPCAP."""

    name = "sdss_v"
    title = "SDSS-V"
    pixel_bits = ApogeePixel  # of the APOGEE rows; the BOSS rows have those of `BossPixel`
    label_columns = {
        "teff": ("teff", "e_teff"),
        "logg": ("logg", "e_logg"),
        "fe_h": ("fe_h", "e_fe_h"),
        "m_h": ("m_h_atm", "e_m_h_atm"),
        "alpha_m": ("alpha_m_atm", "e_alpha_m_atm"),
        "v_micro": ("v_micro", "e_v_micro"),
        "v_broad": ("v_sini", "e_v_sini"),
        **{f"{x}_fe": (f"{x}_fe", f"e_{x}_fe") for x in ELEMENTS},
    }
    key_columns = {"star_id": "sdss_id", "spectrum_id": "spectrum_pk"}
    required_columns = ("sdss_id", "teff", "logg", "fe_h", "snr", "flag_bad")
    rv_column = ("v_rad",)
    snr_column = ("snr",)
    table_extension = 2  # HDU 1 is for BOSS spectra, which ASPCAP has none of

    def recognises(self, file: SurveyFile) -> bool:
        """Whether astra wrote it, with a table of spectra for an instrument and observatory."""
        named = [name for name in EXTENSIONS if name in file.extensions]
        return "V_ASTRA" in file.header and any(
            {"flux", "ivar", "pixel_flags"} <= {c.lower() for c in file.columns(name)}
            for name in named
        )

    def spectra(self, file: SurveyFile) -> list[Spectrum]:
        """Return one spectrum a row: BOSS before APOGEE, APO before LCO.

        mwmStar holds stacks, at rest. In mwmVisit only the visits that went into the stack are at
        rest; astra resamples the others without a velocity: BOSS visits stay barycentric, APOGEE
        visits as observed.
        """
        return [
            self._row(file, name, number_, row)
            for name in EXTENSIONS
            if name in file.extensions
            for number_, row in enumerate(_rows(file, name))
        ]

    def _row(self, file: SurveyFile, name: str, index: int, row: Mapping[str, Any]) -> Spectrum:
        is_apogee = name.startswith("APOGEE")
        wavelength = _wavelength(file, name, row)
        frame, rv = _motion(row, is_apogee=is_apogee)
        star = str(row.get("sdss_id", file.header.get("SDSS_ID", ""))).strip()
        return Spectrum(
            wavelength=wavelength,
            flux=row["flux"],
            ivar=good_ivar(row["flux"], row["ivar"], _bad(row["pixel_flags"], is_apogee=is_apogee)),
            resolution=APOGEE_RESOLUTION if is_apogee else boss_resolution(wavelength),
            frame=frame,
            rv=rv,
            survey=self.name,
            spectrum_id=str(row.get("spectrum_pk_id", f"{star}:{name}:{index}")),
            star_id=star,
            meta={
                **file.meta("V_ASTRA", "GAIA3_ID", "APOGEEID", "RA", "DEC"),
                "extension": name,
                "coadd": "in_stack" not in row,
                **{key: row[key] for key in KEPT if key in row},
            },
        )

    def labels(self, table: Table) -> LabelTable:
        """As `Survey.labels`, with [X/Fe] = [X/H] - [Fe/H] and the errors added in quadrature.

        An abundance whose own flag is set, or that of [Fe/H], becomes NaN.
        """
        table = Table(table, names=[name.lower() for name in table.colnames], copy=False)
        if "fe_h" in table.colnames:
            iron, iron_error = _abundance(table, "fe")
            for x in ELEMENTS:
                if f"{x}_h" in table.colnames:
                    value, error = _abundance(table, x)
                    table[f"{x}_fe"] = value - iron
                    table[f"e_{x}_fe"] = np.hypot(error, iron_error)
            table["fe_h"], table["e_fe_h"] = iron, iron_error
        return super().labels(table)

    def quality(self, table: Table) -> NDArray:
        """Not flag_bad, S/N > 50, and of several rows of one star the one with the highest S/N."""
        snr = number(column(table, "snr"))
        good = (column(table, "flag_bad") == 0) & (snr > 50) & (column(table, "teff") > 0)
        order = np.argsort(-np.where(good, snr, -np.inf), kind="stable")
        first = np.unique(np.asarray(table["sdss_id"])[order], return_index=True)[1]
        best = np.zeros(len(table), dtype=bool)
        best[order[first]] = True
        return good & best


def _rows(file: SurveyFile, name: str) -> list[dict[str, Any]]:
    table: fits.BinTableHDU = (file.hdus or {})[name]
    if table.header["NAXIS2"] == 0:
        return []
    columns = {name.lower(): table.data[name] for name in file.columns(name)}
    return [{key: values[i] for key, values in columns.items()} for i in range(len(table.data))]


def _wavelength(file: SurveyFile, name: str, row: Mapping[str, Any]) -> NDArray:
    """From the cards, which have more digits than the float32 column of mwmStar."""
    header = (file.hdus or {})[name].header
    pixel = np.arange(len(row["flux"])) + 1 - header.get("CRPIX", 1)
    return 10.0 ** (header["CRVAL"] + header["CDELT"] * pixel)


def _bad(flags: NDArray, *, is_apogee: bool) -> NDArray:
    """Pixels to reject by flags that are stored as floats.

    Flags of BOSS pixels are the OR over exposures and visits, so that a bit which speaks of missing
    data in one exposure says nothing of the sum; residuals of a bright sky do add up.
    """
    if is_apogee:
        return is_bad(flags)
    return (np.nan_to_num(flags).astype(np.int64) & int(BossPixel.BRIGHTSKY)) != 0


def _motion(row: Mapping[str, Any], *, is_apogee: bool) -> tuple[Frame, float]:
    """Frame of a row, and the velocity that was taken out or that is still in it."""
    if row.get("in_stack", True):
        return Frame.REST, _velocity(row, "v_rad", "xcsao_v_rad")
    if is_apogee:
        return Frame.OBSERVED, _velocity(row, "v_rel")
    secure = float(row.get("xcsao_rxc", np.inf)) > SECURE_CORRELATION
    return Frame.BARYCENTRIC, _velocity(row, "xcsao_v_rad") if secure else np.nan


def _velocity(row: Mapping[str, Any], *names: str) -> float:
    value = float(next((row[name] for name in names if name in row), np.nan))
    return value if LABELS["rv"].low < value < LABELS["rv"].high else np.nan


def _abundance(table: Table, element: str) -> tuple[NDArray, NDArray]:
    """[X/H] and its error, NaN where flagged."""
    value, error = number(column(table, f"{element}_h")), number(column(table, f"e_{element}_h"))
    flag = f"{element}_h_flags"
    flagged = column(table, flag) != 0 if flag in table.colnames else np.zeros(len(table), bool)
    return np.where(flagged, np.nan, value), np.where(flagged | ~(error > 0), np.nan, error)
