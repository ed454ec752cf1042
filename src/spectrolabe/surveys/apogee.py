"""APOGEE: combined spectra and visits (apStar, apVisit, aspcapStar) and the catalogue allStar.

Sources: Majewski et al. 2017, AJ 154, 94; Nidever et al. 2015, AJ 150, 173 (reduction); Holtzman et
al. 2018, AJ 156, 125 (DR13-14); Abdurro'uf et al. 2022, ApJS 259, 35 (DR17); bits from
https://www.sdss4.org/dr17/irspec/apogee-bitmasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntFlag, StrEnum
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.table import Table
from numpy.typing import ArrayLike, NDArray

from spectrolabe.errors import InputError
from spectrolabe.labels import LABELS
from spectrolabe.spectra import Frame, Spectrum
from spectrolabe.surveys.base import LabelTable, Survey, column, good_ivar
from spectrolabe.surveys.files import SurveyFile
from spectrolabe.surveys.products import NO_ERROR, copied, errors_of

__all__ = ["APOGEE_BAD_PIXEL", "Apogee", "ApogeePixel", "ApogeeStar", "AspcapFlag", "has_bits"]

APOGEE_RESOLUTION = 22500.0
PIXELS = 8575  # of the common log-linear grid, 15101-17000 Å
NO_WEIGHT = 100.0  # an error this many times the median carries < 1e-4 of the usual weight
SKYLINE_SHARE = 0.1  # of a co-add's weight that may come from visits with a sky line there
UNSURE_VELOCITY = 10.0  # km/s of VSCATTER
VISIT_CARDS = ("PLATE", "MJD5", "FIBERID", "VHELIO", "BC", "VSCATTER", "STARFLAG")


class ApogeePixel(IntFlag):
    """Bits of APOGEE_PIXMASK; 16 and 24 are set by the SDSS-V reductions only."""

    BADPIX = 1 << 0
    CRPIX = 1 << 1
    SATPIX = 1 << 2
    UNFIXABLE = 1 << 3
    BADDARK = 1 << 4
    BADFLAT = 1 << 5
    BADERR = 1 << 6
    NOSKY = 1 << 7
    LITTROW_GHOST = 1 << 8
    PERSIST_HIGH = 1 << 9
    PERSIST_MED = 1 << 10
    PERSIST_LOW = 1 << 11
    SIG_SKYLINE = 1 << 12
    SIG_TELLURIC = 1 << 13
    NOT_ENOUGH_PSF = 1 << 14
    INACTIVE_PIXEL = 1 << 16
    BAD_EXTRACTION = 1 << 24


REJECTED = (
    ApogeePixel.BADPIX
    | ApogeePixel.CRPIX
    | ApogeePixel.SATPIX
    | ApogeePixel.UNFIXABLE
    | ApogeePixel.BADDARK
    | ApogeePixel.BADFLAT
    | ApogeePixel.BADERR
    | ApogeePixel.NOSKY
    | ApogeePixel.NOT_ENOUGH_PSF
    | ApogeePixel.INACTIVE_PIXEL
    | ApogeePixel.BAD_EXTRACTION
)
"""What the pipeline itself rejects. The other bits say "may be affected"."""

APOGEE_BAD_PIXEL = REJECTED | ApogeePixel.SIG_SKYLINE
"""Pixels that must not be used.

Of the informational bits only SIG_SKYLINE is rejected. Between visits of seven DR13 stars the
differences over their errors have a robust standard deviation of 1.1 where no bit is set, 1.25 for
persistence and telluric lines, 2.0 for the Littrow ghost and 3.2 for sky lines.
"""


class ApogeeStar(IntFlag):
    """Bits of APOGEE_STARFLAG."""

    BAD_PIXELS = 1 << 0
    COMMISSIONING = 1 << 1
    BRIGHT_NEIGHBOR = 1 << 2
    VERY_BRIGHT_NEIGHBOR = 1 << 3
    LOW_SNR = 1 << 4
    PERSIST_HIGH = 1 << 9
    PERSIST_MED = 1 << 10
    PERSIST_LOW = 1 << 11
    PERSIST_JUMP_POS = 1 << 12
    PERSIST_JUMP_NEG = 1 << 13
    SUSPECT_RV_COMBINATION = 1 << 16
    SUSPECT_BROAD_LINES = 1 << 17
    BAD_RV_COMBINATION = 1 << 18
    RV_REJECT = 1 << 19
    RV_SUSPECT = 1 << 20
    MULTIPLE_SUSPECT = 1 << 21
    RV_FAIL = 1 << 22
    SUSPECT_ROTATION = 1 << 23
    MTPFLUX_LT_75 = 1 << 24
    MTPFLUX_LT_50 = 1 << 25


BAD_STAR = (
    ApogeeStar.BAD_PIXELS
    | ApogeeStar.VERY_BRIGHT_NEIGHBOR
    | ApogeeStar.LOW_SNR
    | ApogeeStar.PERSIST_HIGH
    | ApogeeStar.SUSPECT_BROAD_LINES
    | ApogeeStar.BAD_RV_COMBINATION
    | ApogeeStar.RV_REJECT
    | ApogeeStar.RV_FAIL
)


class AspcapFlag(IntFlag):
    """Bits of APOGEE_ASPCAPFLAG; those above 31 need 64-bit integers."""

    TEFF_WARN = 1 << 0
    LOGG_WARN = 1 << 1
    VMICRO_WARN = 1 << 2
    M_H_WARN = 1 << 3
    ALPHA_M_WARN = 1 << 4
    C_M_WARN = 1 << 5
    N_M_WARN = 1 << 6
    STAR_WARN = 1 << 7
    CHI2_WARN = 1 << 8
    COLORTE_WARN = 1 << 9
    ROTATION_WARN = 1 << 10
    SN_WARN = 1 << 11
    SPEC_HOLE_WARN = 1 << 12
    ATMOS_HOLE_WARN = 1 << 13
    VSINI_WARN = 1 << 14
    TEFF_BAD = 1 << 16
    LOGG_BAD = 1 << 17
    VMICRO_BAD = 1 << 18
    M_H_BAD = 1 << 19
    ALPHA_M_BAD = 1 << 20
    C_M_BAD = 1 << 21
    N_M_BAD = 1 << 22
    STAR_BAD = 1 << 23
    CHI2_BAD = 1 << 24
    COLORTE_BAD = 1 << 25
    ROTATION_BAD = 1 << 26
    SN_BAD = 1 << 27
    SPEC_HOLE_BAD = 1 << 28
    ATMOS_HOLE_BAD = 1 << 29
    VSINI_BAD = 1 << 30
    NO_ASPCAP_RESULT = 1 << 31
    MISSING_APSTAR = 1 << 32
    NO_GRID = 1 << 33
    BAD_FRAC_LOWSNR = 1 << 34
    BAD_FRAC_BADPIX = 1 << 35
    FERRE_FAIL = 1 << 36
    PROBLEM_TARGET = 1 << 40
    MULTIPLE_SUSPECT = 1 << 41


UNUSABLE_LABELS = AspcapFlag.STAR_BAD | AspcapFlag.NO_ASPCAP_RESULT
DUPLICATE = 1 << 4  # of EXTRATARG: the star has another entry with higher S/N

ELEMENTS = (
    *("c", "n", "o", "na", "mg", "al", "si", "p", "s", "k"),
    *("ca", "ti", "v", "cr", "mn", "co", "ni", "cu", "ce"),
)


class _Kind(StrEnum):
    STAR = "apStar"
    VISIT = "apVisit"
    ASPCAP = "aspcapStar"


class Apogee(Survey):
    """APOGEE spectra in vacuum, 15100-17000 Å, and the catalogue allStar (DR16, DR17)."""

    name = "apogee"
    title = "APOGEE"
    pixel_bits = ApogeePixel
    label_columns = {
        "teff": ("teff", "teff_err"),
        "logg": ("logg", "logg_err"),
        "fe_h": ("fe_h", "fe_h_err"),
        "m_h": ("m_h", "m_h_err"),
        "alpha_m": ("alpha_m", "alpha_m_err"),
        "v_micro": ("vmicro", ""),
        "v_broad": ("vsini", ""),
        **{f"{x}_fe": (f"{x}_fe", f"{x}_fe_err") for x in ELEMENTS},
    }
    key_columns = {"star_id": "apogee_id", "file": "file", "apstar_id": "apstar_id"}
    required_columns = ("teff", "logg", "fe_h", "snr", "starflag", "aspcapflag")
    rv_column = ("vhelio_avg",)
    snr_column = ("snr",)

    def recognises(self, file: SurveyFile) -> bool:
        """Flux, error and mask (or model) as images on APOGEE's grid or of its three chips."""
        return _kind(file) is not None

    def spectra(self, file: SurveyFile) -> list[Spectrum]:
        """Return every spectrum of the file.

        apStar: the co-add weighted pixel by pixel, the one with global weights, then the visits; a
        visit is part of its co-adds, so use either those with ``meta["coadd"]`` or those without.
        All are at rest, and ``rv`` is the barycentric velocity that was taken out.

        apVisit: one spectrum, observed frame; ``rv`` is VHELIO - BC, the star's velocity in that
        frame. It is the first guess of the visit pipeline, NaN where the three chips disagree on it
        by more than 10 km/s (cool stars: wrong by hundreds of km/s).

        aspcapStar: one spectrum at rest, divided by a pseudo-continuum.
        """
        kind = _kind(file)
        if kind is _Kind.VISIT:
            return [self._visit(file)]
        if kind is _Kind.ASPCAP:
            return [self._normalised(file)]
        return self._star(file)

    def _star(self, file: SurveyFile) -> list[Spectrum]:
        flux, error, mask = (np.atleast_2d(image) for image in _images(file, 3))
        visits = int(file.header["NVISITS"])
        if visits > 1 and len(flux) != visits + 2:
            raise InputError(
                file.path,
                expected=f"two co-adds and {visits} visits (NVISITS)",
                found=f"{len(flux)} rows",
            )
        if visits < 2:  # a second row, if there is one, is empty
            return [self._row(file, "combined", flux[0], error[0], is_bad(mask[0]), coadd=True)]
        masks = mask[2:].astype(np.int64)
        shared = _coadd_bad(flux[2:], error[2:], masks)
        bad: tuple[NDArray, ...] = (shared, np.any(is_bad(masks), axis=0))
        rows = [
            self._row(file, name, flux[i], error[i], bad[i], coadd=True)
            for i, name in enumerate(("combined", "combined_global"))
        ]
        for i in range(visits):
            row = flux[i + 2], error[i + 2], is_bad(masks[i])
            rows.append(self._row(file, f"visit{i + 1}", *row, coadd=False, number=i + 1))
        return rows

    def _row(
        self, file: SurveyFile, row: str, flux: NDArray, error: NDArray, bad: NDArray,
        *, coadd: bool, number: int | str = "",
    ) -> Spectrum:  # fmt: skip
        cards = {key: f"{key}{number}" for key in ("SFILE", "JD", "BC", "VRAD", "SNRVIS", "FLAG")}
        visit = {} if coadd else {k.lower(): file.header.get(card) for k, card in cards.items()}
        return self._spectrum(
            file,
            _log_grid(file),
            flux,
            _ivar(flux, error, bad),
            frame=Frame.REST,
            rv=_velocity(file.header, f"VHELIO{number}", f"VHBARY{number}"),
            row=row,
            coadd=coadd,
            alternative=row == "combined_global",
            **visit,
        )

    def _normalised(self, file: SurveyFile) -> Spectrum:
        flux, error = (np.ravel(image) for image in _images(file, 2))
        # no mask in these files: ASPCAP gives what it does not use an error of 1 or more
        ivar = _ivar(flux, error, ~(error < 1.0))
        rv = _velocity(file.header, "VHELIO", "VHBARY")
        return self._spectrum(
            file, _log_grid(file), flux, ivar, frame=Frame.REST, rv=rv, row="normalised", coadd=True
        )

    def _visit(self, file: SurveyFile) -> Spectrum:
        """Join the chips, stored red to blue with wavelengths that decrease."""
        flux, error, mask, wavelength = (np.ravel(image) for image in _images(file, 4))
        order = np.argsort(wavelength, kind="stable")
        ivar = _ivar(flux, error, is_bad(mask))
        known = _number(file.header, "VSCATTER")
        rv = _velocity(file.header, "VHELIO") - _number(file.header, "BC")
        return self._spectrum(
            file,
            wavelength[order],
            flux[order],
            ivar[order],
            frame=Frame.OBSERVED,
            rv=np.nan if known > UNSURE_VELOCITY else rv,
            row="visit",
            coadd=False,
            **{key.lower(): file.header.get(key) for key in VISIT_CARDS},
        )

    def _spectrum(
        self, file: SurveyFile, wavelength: NDArray, flux: NDArray, ivar: NDArray,
        *, frame: Frame, rv: float, row: str, **meta: Any,
    ) -> Spectrum:  # fmt: skip
        identity = file.path.name.removesuffix(".gz").removesuffix(".fits")
        star = file.header.get("OBJID") or file.header.get("OBJ") or identity
        cards = file.meta("RA", "DEC", "TELESCOP", "FIELD", "NVISITS", "APRED")
        return Spectrum(
            wavelength=wavelength,
            flux=flux,
            ivar=ivar,
            resolution=APOGEE_RESOLUTION,
            frame=frame,
            rv=rv,
            survey=self.name,
            spectrum_id=f"{identity}:{row}",
            star_id=str(star).strip(),
            meta={**cards, "row": row, **meta},
        )

    def rewritten(self, file: SurveyFile, spectra: Sequence[Spectrum], model: str) -> fits.HDUList:
        """Images of flux and error; pixels of which nothing is known have flux 0."""
        hdus = copied(file, model)
        flux, error = (np.atleast_2d(hdus[k].data.astype(np.float32)) for k in (1, 2))
        if _kind(file) is _Kind.VISIT:
            order = np.argsort(np.ravel(_images(file, 4)[3]), kind="stable")
            rows = [(np.ravel(flux), np.ravel(error), order, spectra[0])]
        else:
            every = np.arange(flux.shape[1])
            rows = [(flux[i], error[i], every, one) for i, one in enumerate(spectra)]
            # a lone visit is its own combination; what is not read of a file is not kept
            flux[len(spectra) :], error[len(spectra) :] = 0.0, NO_ERROR
        for values, errors, where, one in rows:
            values[where] = np.where(one.ivar > 0, one.flux, 0.0)
            errors[where] = errors_of(one)
        for k, image in ((1, flux), (2, error)):
            hdus[k].data = image.reshape(hdus[k].data.shape)
        return hdus

    def labels(self, table: Table) -> LabelTable:
        """As `Survey.labels`; [Fe/H] and [X/Fe] become NaN where their own flag is set."""
        table = Table(table, names=[name.lower() for name in table.colnames], copy=False)
        for name in ("fe_h", *(f"{x}_fe" for x in ELEMENTS)):
            flag, error = f"{name}_flag", f"{name}_err"
            for value in {name, error} & set(table.colnames) if flag in table.colnames else ():
                table[value] = np.where(column(table, flag) == 0, column(table, value), np.nan)
        return super().labels(table)

    def quality(self, table: Table) -> NDArray:
        """S/N > 100, no STAR_BAD, clean STARFLAG, visits within 1 km/s, the best entry of a star.

        The STARFLAG bits are those of few good pixels, a very bright neighbour, low S/N, high
        persistence, broad lines, and a bad, rejected or failed velocity.
        """
        good = (column(table, "snr") > 100) & (column(table, "teff") > 0)
        good &= ~has_bits(table, "aspcapflag", UNUSABLE_LABELS)
        good &= ~has_bits(table, "starflag", BAD_STAR)
        if "vscatter" in table.colnames:
            good &= column(table, "vscatter") < 1
        if "extratarg" in table.colnames:
            good &= ~has_bits(table, "extratarg", DUPLICATE)
        return good


def is_bad(mask: ArrayLike) -> NDArray[np.bool_]:
    """Return where an APOGEE_PIXMASK of any shape (integers, or whole floats) forbids a pixel."""
    whole = np.nan_to_num(np.asarray(mask)).astype(np.int64)
    return np.asarray((whole & int(APOGEE_BAD_PIXEL)) != 0)


def has_bits(table: Table, name: str, bits: int) -> NDArray:
    """Return where a column of flags has any of these bits, or no value, shape (N,)."""
    values = column(table, name)
    return ~np.isfinite(values) | ((np.nan_to_num(values).astype(np.int64) & int(bits)) != 0)


def _kind(file: SurveyFile) -> _Kind | None:
    """Which of APOGEE's three layouts this is, from shapes and types of its images."""
    if file.hdus is None or len(file.hdus) < 5 or file.hdus[0].header.get("NAXIS") != 0:
        return None
    flux, error, third, fourth = (hdu.header for hdu in file.hdus[1:5])
    if not all(isinstance(hdu, fits.ImageHDU) for hdu in file.hdus[1:4]):
        return None
    if flux.get("NAXIS1") != error.get("NAXIS1") or flux.get("NAXIS1") != third.get("NAXIS1"):
        return None
    integers = third["BITPIX"] > 0
    if flux.get("NAXIS1") == PIXELS and flux.get("CTYPE1") == "LOG-LINEAR":
        if integers:
            return _Kind.STAR if "NVISITS" in file.header else None
        return _Kind.ASPCAP if "ASPCAPFLAG" in file.columns(4) else None
    chips = flux.get("NAXIS2") == 3 and flux.get("NAXIS1") in (2048, 4096)
    is_visit = chips and integers and str(fourth.get("BUNIT", "")).startswith("Wavelength")
    return _Kind.VISIT if is_visit else None


def _images(file: SurveyFile, count: int) -> list[NDArray]:
    """The first images after the primary header."""
    return [np.asarray(hdu.data) for hdu in (file.hdus or [])[1 : count + 1]]


def _log_grid(file: SurveyFile) -> NDArray:
    header = (file.hdus or [])[1].header
    pixel = np.arange(PIXELS) + 1 - header.get("CRPIX1", 1)
    return 10.0 ** (header["CRVAL1"] + header["CDELT1"] * pixel)


def _ivar(flux: NDArray, error: NDArray, bad: NDArray) -> NDArray:
    """Inverse variances; 0 also where flux is missing (exactly 0) or the error is enormous."""
    with np.errstate(divide="ignore", invalid="ignore"):
        there = (flux != 0) & np.isfinite(flux) & (error > 0)
        usual = np.median(error[there]) if there.any() else 0.0
        ivar = 1.0 / np.asarray(error, dtype=float) ** 2
        return good_ivar(flux, ivar, bad | ~there | ~(error <= NO_WEIGHT * usual))


def _coadd_bad(flux: NDArray, error: NDArray, mask: NDArray) -> NDArray:
    """Where the pixel-weighted co-add of V visits, shape (V, M), must not be used, shape (M,).

    The mask of the co-add itself is no guide: up to DR16 it is the OR of the visits' masks, later
    the AND, which misses a pixel that is bad in every visit for different reasons. Visits rejected
    at a pixel have no weight in the co-add; those with a sky line have their usual weight up to
    DR16 and a hundredth of it (in their errors here too) later.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        level = np.nanmedian(np.where(flux == 0, np.nan, flux), axis=1, keepdims=True)
        weight = (level / error) ** 2
    rejected = (mask & int(REJECTED)) != 0
    skyline = (mask & int(ApogeePixel.SIG_SKYLINE)) != 0
    weight = np.where(rejected | ~np.isfinite(weight) | ~np.isfinite(flux), 0.0, weight)
    total = weight.sum(axis=0)
    return (total == 0) | ((weight * skyline).sum(axis=0) > SKYLINE_SHARE * total)


def _number(header: fits.Header, key: str) -> float:
    try:
        return float(header.get(key, np.nan))
    except (TypeError, ValueError):
        return np.nan


def _velocity(header: fits.Header, *keys: str) -> float:
    """The first of these velocities that is a velocity; failures are written as 999999."""
    found = (_number(header, key) for key in keys)
    return next((v for v in found if LABELS["rv"].low < v < LABELS["rv"].high), np.nan)
