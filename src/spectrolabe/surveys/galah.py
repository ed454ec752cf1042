"""GALAH: reduced spectra, one file for each CCD, and the fitted spectra of DR4.

Sources: Kos et al. (2017, MNRAS 464, 1259; reduction); Buder et al. (2021, MNRAS 506, 150; DR3) and
Buder et al. (2025, PASA 42, e051; DR4); Sheinis et al. (2015, JATIS 1, 035002; HERMES).

Measured on spectra of the reductions 5.0 to 6.0: wavelengths are those of air; sky-subtracted
counts are on a barycentric scale (night-sky lines lie shifted by the barycentric correction); the
normalised extension of the reductions before 6.0 is on the star's own scale, which is how the
pipeline's radial velocity is found in files that do not state it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import IntFlag
from typing import Any, ClassVar

import numpy as np
from astropy.io import fits
from astropy.table import Table
from numpy.typing import NDArray

from spectrolabe.errors import InputError
from spectrolabe.labels import ELEMENTS
from spectrolabe.spectra import Frame, Spectrum
from spectrolabe.spectra.observe import air_to_vacuum
from spectrolabe.spectra.wavelength import SPEED_OF_LIGHT
from spectrolabe.surveys.base import LabelTable, Survey, column, good_ivar
from spectrolabe.surveys.files import SurveyFile

__all__ = ["Galah", "GalahFlagDR3", "GalahFlagDR4"]

CCD_CENTRES = (4808.0, 5761.0, 6607.0, 7736.0)  # Å
# oxygen of the atmosphere up to here, air Å: the DR4 analysis leaves it out of every spectrum
A_BAND = (7580.0, 7680.0)
RESOLUTION = 28000.0
RESOLUTION_WITH_SLIT_MASK = 42500.0  # 40,000 to 45,000
RELATIVE_ERRORS = ("RELATIVE_ERROR", "INPUT_SIGMA")
FIT_COLUMNS = frozenset(("wave", "sob", "uob", "smod"))
SNR_OF_ABUNDANCES = 30.0


class GalahFlagDR3(IntFlag):
    """Bits of ``flag_sp`` in the DR3 catalogues."""

    GAIA_RUWE = 1
    BROADENING = 2
    LOW_SNR = 4
    REDUCTION = 8
    EMISSION = 16
    BINARY_TSNE = 32
    BINARY_SEQUENCE = 64
    HIGH_CHI2 = 128
    IRON_LINES = 256
    NOT_CONVERGED = 512
    GRID_LIMIT = 1024


class GalahFlagDR4(IntFlag):
    """Bits of ``flag_sp`` in the DR4 catalogues: none means what it means in DR3."""

    EMISSION = 1
    CCD_MISSING = 2
    BINARY_SB1 = 4
    BINARY_SB2 = 8
    HIGH_CHI2 = 16
    VSINI = 32
    VMIC = 64
    TRIPLE = 128
    TEFF = 256
    LOGG = 512
    IRON = 1024
    LOW_SNR = 2048
    NOT_CONVERGED = 4096
    EXTRAPOLATED = 8192
    NO_RESULT = 16384


class Galah(Survey):
    """GALAH spectra, four windows from 4713 to 7890 Å, and the DR3 and DR4 catalogues.

    A spectrum is what one CCD saw: the gaps between the windows are wider than the windows. The
    four of one observation share ``star_id``, the ``sobject_id`` in their file names.
    """

    name = "galah"
    title = "GALAH"
    label_columns: ClassVar[Mapping[str, tuple[str, str]]] = {
        "teff": ("teff", "e_teff"),
        "logg": ("logg", "e_logg"),
        "fe_h": ("fe_h", "e_fe_h"),
        "alpha_fe": ("alpha_fe", "e_alpha_fe"),
        "v_micro": ("vmic", "e_vmic"),
        "v_broad": ("vbroad", "e_vbroad"),
        "age": ("age", "e_age"),
        **{f"{x.lower()}_fe": (f"{x.lower()}_fe", f"e_{x.lower()}_fe") for x in ELEMENTS},
    }
    key_columns: ClassVar[Mapping[str, str]] = {"sobject_id": "sobject_id"}
    required_columns = ("teff", "logg", "fe_h", "flag_sp")
    rv_column = ("rv_galah", "rv_comp_1")
    snr_column = ("snr_c3_iraf", "snr_px_ccd3")

    def recognises(self, file: SurveyFile) -> bool:
        """A reduced HERMES image with relative errors, or the table of a fit."""
        if file.hdus is None:
            return False
        if {name.lower() for name in file.columns()} >= FIT_COLUMNS:
            return True
        header = file.header
        ours = "GALAH" in str(header.get("ORIGIN", "")).upper() or (
            str(header.get("INSTRUME", "")).strip().upper() == "HERMES-2DF"
        )
        return ours and header.get("NAXIS") == 1 and len(file.hdus) >= 4

    def spectra(self, file: SurveyFile) -> list[Spectrum]:
        """Return the one spectrum of a CCD, or those of all CCDs of a fitted spectrum."""
        return [_reduced(file)] if file.header.get("NAXIS") == 1 else _fitted(file)

    def quality(self, table: Table) -> NDArray:
        """No bit of ``flag_sp``; also ``flag_fe_h`` of 0 in DR3 and S/N > 30 in DR4."""
        good = column(table, "flag_sp") == 0
        if "snr_px_ccd3" in table.colnames:
            return good & (column(table, "snr_px_ccd3") > SNR_OF_ABUNDANCES)
        return good & (column(table, "flag_fe_h") == 0)

    def labels(self, table: Table) -> LabelTable:
        """Map a DR3 or DR4 main catalogue to registry names and units.

        Abundances whose flag is not 0, or of a CCD 3 spectrum with S/N of 30 or less, are NaN.
        Rows of one star share the Gaia source id as ``star_id``.
        """
        table = Table(table, names=[name.lower() for name in table.colnames], copy=False)
        for old, new in (("vsini", "vbroad"), ("e_vsini", "e_vbroad")):
            if old in table.colnames and new not in table.colnames:
                table.rename_column(old, new)
        snr = [column(table, name) for name in self.snr_column if name in table.colnames]
        for name in [f"{x.lower()}_fe" for x in ELEMENTS] + ["alpha_fe"]:
            if name not in table.colnames or f"flag_{name}" not in table.colnames:
                continue
            bad = column(table, f"flag_{name}") != 0
            if snr:
                bad |= ~(snr[0] > SNR_OF_ABUNDANCES)
            for what in (name, f"e_{name}"):
                table[what] = np.where(bad, np.nan, column(table, what))
        if "sobject_id" in table.colnames:
            table["star"] = _stars(table)
        return super().labels(table)


def _stars(table: Table) -> list[str]:
    """The Gaia source id of each row; the id of the observation where there is none."""
    names = ("gaiadr3_source_id", "dr3_source_id", "dr2_source_id")
    gaia = next((name for name in names if name in table.colnames), "")
    observed = [str(one) for one in table["sobject_id"]]
    if not gaia:
        return observed
    sources = np.ma.filled(np.ma.asarray(table[gaia]), -1)
    pairs = zip(sources, observed, strict=True)
    return [f"Gaia {source}" if int(source) > 0 else one for source, one in pairs]


def _reduced(file: SurveyFile) -> Spectrum:
    flux = file.image(0).astype(float)
    air = _linear_scale(file.header, flux.size)
    sigma = flux * _relative_error(file, flux)
    bad = ~(sigma > 0) | ~(flux > 0) | ((air > A_BAND[0]) & (air < A_BAND[1]))
    sigma[bad] = np.inf
    vacuum = air_to_vacuum(air)
    ccd = _ccd(air)
    return Spectrum(
        wavelength=vacuum,
        flux=flux,
        ivar=good_ivar(flux, sigma**-2.0, bad),
        resolution=_resolution(file, vacuum),
        frame=Frame.BARYCENTRIC,
        rv=_velocity(file),
        survey=Galah.name,
        spectrum_id=_stem(file),
        star_id=_sobject_id(file),
        meta={
            **file.meta("OBJECT", "UTMJD", "BARYEFF", "SLITMASK", "PIPE_VER", "RA_OBJ", "DEC_OBJ"),
            **_ids(file, ccd),
        },
    )


def _relative_error(file: SurveyFile, flux: NDArray) -> NDArray:
    """The error of a reduced spectrum divided by its flux."""
    name = next((name for name in RELATIVE_ERRORS if name in file.extensions), "")
    # early public files do not name their extensions; the second always holds the error
    relative = file.image(name or 1).astype(float)
    if relative.shape != flux.shape:
        raise InputError(
            file.path,
            expected=f"relative errors for {flux.size} pixels in HDU {name or 1}",
            found=f"shape {relative.shape}",
        )
    usable = np.mean(relative > 0)
    if usable < 0.5:
        version = file.header.get("PIPE_VER", "of unknown version")
        raise InputError(
            file.path,
            expected="positive relative errors",
            found=f"{100 * usable:.0f} per cent of them in a file of reduction {version}",
            fix="Reduction 5.0 wrote no usable errors; take the same spectrum of a later one.",
        )
    return relative


def _linear_scale(header: fits.Header, size: int) -> NDArray:
    """Wavelengths by the FITS standard, in which the first pixel is 1."""
    step = header["CDELT1"] if "CDELT1" in header else header["CD1_1"]
    return header["CRVAL1"] + (np.arange(size) + 1.0 - header["CRPIX1"]) * step


def _velocity(file: SurveyFile) -> float:
    """The reduction pipeline's radial velocity, km/s; NaN where it found none."""
    if file.hdus is not None and len(file.hdus) == 5:
        # the normalised spectrum is at rest, the counts are not: one linear scale is (1 - v/c)
        # times the other. CRVAL1 does not tell, for CCD 4 is normalised from a later pixel on.
        shift = file.hdus[4].header["CDELT1"] / file.header["CDELT1"] - 1.0
        return -shift * SPEED_OF_LIGHT if abs(shift) > 1e-10 else np.nan
    known = file.header.get("RVCOM_OK", 1) == 1
    return _number(file.header, "RVCOM") if known else np.nan


def _resolution(file: SurveyFile, wavelength: NDArray) -> NDArray | float:
    """R for each pixel from the measured profile (FWHM in Å), else that of the instrument."""
    if "RESOLUTION_PROFILE" in file.extensions:
        fwhm = file.image("RESOLUTION_PROFILE").astype(float)
        # one number instead of a profile says that none was measured
        if fwhm.shape == wavelength.shape and np.all(fwhm > 0):
            return wavelength / fwhm
    masked = str(file.header.get("SLITMASK", "")).strip().upper() == "IN"
    return RESOLUTION_WITH_SLIT_MASK if masked else RESOLUTION


def _fitted(file: SurveyFile) -> list[Spectrum]:
    """One spectrum for each window of a DR4 fit: normalised flux at rest."""
    data = {name.lower(): values for name, values in file.arrays(1).items()}
    wave = np.asarray(data["wave"], dtype=float)
    windows = np.split(np.arange(wave.size), np.flatnonzero(np.diff(wave) > 10.0) + 1)
    return [_window(file, {name: array[i] for name, array in data.items()}) for i in windows]


def _window(file: SurveyFile, data: Mapping[str, NDArray]) -> Spectrum:
    air = np.asarray(data["wave"], dtype=float)
    sigma = np.array(data["uob"], dtype=float)
    # True is "used in the fit": pixels that are False lie several sigma off the model
    bad = ~(sigma > 0) | ~np.asarray(data.get("mob", np.ones(air.size)), dtype=bool)
    sigma[bad] = np.inf
    ccd = _ccd(air)
    return Spectrum(
        wavelength=air_to_vacuum(air),
        flux=data["sob"],
        ivar=good_ivar(data["sob"], sigma**-2.0, bad),
        resolution=RESOLUTION,
        frame=Frame.REST,
        survey=Galah.name,
        spectrum_id=f"{_stem(file)}:{ccd}",
        star_id=_sobject_id(file),
        meta={**file.meta(), **_ids(file, ccd)},
    )


def _ccd(wavelength: NDArray) -> int:
    return int(np.argmin(np.abs(np.asarray(CCD_CENTRES) - np.mean(wavelength)))) + 1


def _ids(file: SurveyFile, ccd: int) -> dict[str, Any]:
    return {"sobject_id": _sobject_id(file), "ccd": ccd}


def _stem(file: SurveyFile) -> str:
    return file.path.name.removesuffix(".gz").removesuffix(".fits")


def _sobject_id(file: SurveyFile) -> str:
    """The 15 digits of date, run, repeat and fibre, which no header holds; else the file name."""
    found = re.search(r"(?<!\d)(\d{15})[1-4]?(?!\d)", file.path.name)
    return found[1] if found else _stem(file)


def _number(header: fits.Header, key: str) -> float:
    """A number; NaN where it is missing or the text None."""
    try:
        return float(header.get(key, np.nan))
    except (TypeError, ValueError):
        return np.nan
