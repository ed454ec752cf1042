"""SDSS and BOSS optical spectra: spec files of SDSS-III/IV and SDSS-V, and the SEGUE catalogue.

Sources: Smee et al. 2013, AJ 146, 32 (spectrographs); Bolton et al. 2012, AJ 144, 144 and Dawson et
al. 2013, AJ 145, 10 (reduction); Lee et al. 2008, AJ 136, 2022 (SSPP); bits from
https://www.sdss4.org/dr17/algorithms/bitmasks/#SPPIXMASK.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntFlag

import numpy as np
from astropy.table import Table
from numpy.typing import ArrayLike, NDArray

from spectrolabe.spectra import Frame, Spectrum
from spectrolabe.surveys.base import LabelTable, Survey, column, good_ivar
from spectrolabe.surveys.files import SurveyFile

__all__ = ["BOSS_BAD_PIXEL", "BossPixel", "SdssBoss", "boss_resolution"]

SPEED_OF_LIGHT = 299792.458  # km/s
FWHM_PER_SIGMA = 2.0 * np.sqrt(2.0 * np.log(2.0))
DEX_PER_PIXEL = 1e-4
CARDS = ("PLATEID", "FIELDID", "MJD", "FIBERID", "PLUG_RA", "PLUG_DEC", "TELESCOP", "RUN2D")
SOURCE_COLUMNS = ("CLASS", "Z", "ZWARNING", "CATALOGID", "SDSS_ID", "FIELD")
FITS_TYPES = {"L": "i1", "B": "u1", "I": "i2", "J": "i4", "K": "i8", "E": "f4", "D": "f8"}


class BossPixel(IntFlag):
    """Bits of SPPIXMASK, used by AND_MASK and OR_MASK; the first 13 speak of the whole fibre."""

    NOPLUG = 1 << 0
    BADTRACE = 1 << 1
    BADFLAT = 1 << 2
    BADARC = 1 << 3
    MANYBADCOLUMNS = 1 << 4
    MANYREJECTED = 1 << 5
    LARGESHIFT = 1 << 6
    BADSKYFIBER = 1 << 7
    NEARWHOPPER = 1 << 8
    WHOPPER = 1 << 9
    SMEARIMAGE = 1 << 10
    SMEARHIGHSN = 1 << 11
    SMEARMEDSN = 1 << 12
    NEARBADPIXEL = 1 << 16
    LOWFLAT = 1 << 17
    FULLREJECT = 1 << 18
    PARTIALREJECT = 1 << 19
    SCATTEREDLIGHT = 1 << 20
    CROSSTALK = 1 << 21
    NOSKY = 1 << 22
    BRIGHTSKY = 1 << 23
    NODATA = 1 << 24
    COMBINEREJ = 1 << 25
    BADFLUXFACTOR = 1 << 26
    BADSKYCHI = 1 << 27
    REDMONSTER = 1 << 28


BOSS_BAD_PIXEL = BossPixel.FULLREJECT | BossPixel.NOSKY | BossPixel.BRIGHTSKY | BossPixel.NODATA
"""AND_MASK bits of pixels that must not be used: no data or no sky in any exposure, where the
inverse variance is 0 already, and BRIGHTSKY, where it is not."""


def boss_resolution(wavelength: ArrayLike) -> NDArray:
    """Return the typical resolving power of the BOSS spectrographs (Smee et al. 2013, table 1).

    Parameters
    ----------
    wavelength : array_like, shape (M,)
        Vacuum Å. The blue channel is taken up to 6000 Å, the red one beyond.

    Returns
    -------
    ndarray, shape (M,)
        R = wavelength / FWHM: 1560 at 3700 Å to 2270 at 6000 Å, and 1850 there to 2650 at 9000 Å.
    """
    wavelength = np.asarray(wavelength, dtype=float)
    blue = np.interp(wavelength, (3700.0, 6000.0), (1560.0, 2270.0))
    red = np.interp(wavelength, (6000.0, 9000.0), (1850.0, 2650.0))
    return np.where(wavelength < 6000.0, blue, red)


class SdssBoss(Survey):
    """Spectra of the SDSS and BOSS spectrographs, 3600-10400 Å, and the catalogue of the SSPP."""

    name = "sdss_boss"
    title = "SDSS/BOSS"
    pixel_bits = BossPixel
    label_columns = {
        "teff": ("teff_adop", "teff_adop_unc"),
        "logg": ("logg_adop", "logg_adop_unc"),
        "fe_h": ("feh_adop", "feh_adop_unc"),
        "alpha_fe": ("afe", "afe_unc"),
    }
    key_columns = {"spectrum_id": "spectrum_id"}
    required_columns = ("plate", "mjd", "fiber", "teff_adop", "logg_adop", "feh_adop", "flag")
    rv_column = ("rv_adop",)
    snr_column = ("snr",)

    def recognises(self, file: SurveyFile) -> bool:
        """A table of one pixel a row in HDU 1, with the names of the coadd of the BOSS pipeline."""
        columns = {name.upper() for name in file.columns(1)}
        return file.hdus is not None and {"FLUX", "LOGLAM", "IVAR", "AND_MASK"} <= columns

    def spectra(self, file: SurveyFile) -> list[Spectrum]:
        """Return the co-added spectrum; the single exposures that may follow are left out."""
        pixels = file.arrays(1)
        source = _source(file)
        wavelength = 10.0 ** pixels["LOGLAM"].astype(float)
        bad = (pixels["AND_MASK"].astype(np.int64) & int(BOSS_BAD_PIXEL)) != 0
        identity = _identity(file, source)
        return [
            Spectrum(
                wavelength=wavelength,
                flux=pixels["FLUX"],
                ivar=good_ivar(pixels["FLUX"], pixels["IVAR"], bad),
                resolution=_resolution(wavelength, pixels),
                frame=Frame.BARYCENTRIC,
                rv=_velocity(source),
                survey=self.name,
                spectrum_id=identity,
                star_id=_star(file, source) or identity,
                meta=file.meta(*CARDS),
            )
        ]

    def labels(self, table: Table) -> LabelTable:
        """As `Survey.labels`; ``spectrum_id`` is made of PLATE, MJD and FIBER."""
        table = Table(table, names=[name.lower() for name in table.colnames], copy=False)
        if {"plate", "mjd", "fiber"} <= set(table.colnames):
            numbers = zip(table["plate"], table["mjd"], table["fiber"], strict=True)
            table["spectrum_id"] = np.array([_plate_id(*row) for row in numbers], dtype=str)
        return super().labels(table)

    def quality(self, table: Table) -> NDArray:
        """A normal star (FLAG nnnnn) with S/N > 20 and all three parameters."""
        flag = np.asarray(table["flag"]).astype(str)
        good = np.char.strip(flag) == "nnnnn"
        good &= (column(table, "teff_adop") > 0) & (column(table, "logg_adop") > -9)
        good &= column(table, "feh_adop") > -9
        if "snr" in table.colnames:
            good &= column(table, "snr") > 20
        return good


def _plate_id(plate: int, mjd: int, fiber: int) -> str:
    return f"{int(plate):04d}-{int(mjd):05d}-{int(fiber):04d}"


def _source(file: SurveyFile) -> Mapping[str, object]:
    """What we need of the row in HDU 2 (SPALL or SPECOBJ); empty where there is none.

    Read from its bytes: astropy takes half a second to interpret the more than 200 columns.
    """
    names = [name.upper() for name in file.columns(2)]
    if not names:
        return {}
    header, start = (file.hdus or [])[2].header, (file.hdus or [])[2].fileinfo()["datLoc"]
    source: dict[str, object] = {}
    for i, name in enumerate(names, start=1):
        form = str(header[f"TFORM{i}"]).strip()
        count, kind = int(form[:-1] or 1), form[-1]
        dtype = np.dtype(f"S{count}" if kind == "A" else f">{FITS_TYPES[kind]}")
        if name in SOURCE_COLUMNS:
            source[name] = _value(file, start, dtype)
        start += dtype.itemsize * (1 if kind == "A" else count)
    return source


def _value(file: SurveyFile, start: int, dtype: np.dtype) -> object:
    if file.content is not None:
        value = np.frombuffer(file.content, dtype, count=1, offset=start)[0]
    else:
        value = np.fromfile(file.path, dtype, count=1, offset=start)[0]
    return value.decode().strip() if isinstance(value, bytes) else value


def _identity(file: SurveyFile, source: Mapping[str, object]) -> str:
    """PLATE-MJD-FIBER up to SDSS-IV, FIELD-MJD-CATALOGID since."""
    header = file.header
    if "FIBERID" in header and "PLATEID" in header:
        return _plate_id(header["PLATEID"], header["MJD"], header["FIBERID"])
    field = source.get("FIELD", header.get("FIELDID", ""))
    return f"{field}-{header.get('MJD', '')}-{source.get('CATALOGID', '')}"


def _star(file: SurveyFile, source: Mapping[str, object]) -> str:
    """SDSS_ID (SDSS-V), or the catalogue's own number with its name; empty where there is none."""
    sdss_id, thing_id = source.get("SDSS_ID", 0), file.header.get("THING_ID", 0)
    if int(str(sdss_id)) > 0:
        return str(sdss_id)
    if int(thing_id) > 0:
        return f"THING_ID {thing_id}"
    return f"CATALOGID {source['CATALOGID']}" if "CATALOGID" in source else ""


def _velocity(source: Mapping[str, object]) -> float:
    """Radial velocity of a star from the pipeline's redshift, km/s; NaN where it is in doubt."""
    if str(source.get("CLASS", "")).strip() != "STAR" or source.get("ZWARNING", 0):
        return np.nan
    z = float(str(source.get("Z", np.nan)))
    return z * SPEED_OF_LIGHT if abs(z) < 0.01 else np.nan


def _resolution(wavelength: NDArray, pixels: Mapping[str, NDArray]) -> NDArray:
    """R of every pixel; the typical one where the pipeline has none.

    WRESL (SDSS-V) is the FWHM in Å, from Gaussians fitted to arc lines; WDISP is the Gaussian sigma
    in pixels of 1e-4 dex.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        if "WRESL" in pixels:
            measured = wavelength / pixels["WRESL"]
        else:
            dex = FWHM_PER_SIGMA * DEX_PER_PIXEL * pixels["WDISP"].astype(float)
            measured = 1.0 / (dex * np.log(10.0))
    known = np.isfinite(measured) & (measured > 0)
    return np.where(known, measured, boss_resolution(wavelength))
