"""SDSS/BOSS: spec-PLATE-MJD-FIBER files of the SDSS-III/IV pipeline, and the SSPP catalogue.

Layout: SDSS data model, ``BOSS_SPECTRO_REDUX/RUN2D/spectra`` (lite files: header, coadd, source
table, line fits) and ``SSPP_REDUX``; bits of SPPIXMASK.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from spectrolabe.sky.observing import Reason
from spectrolabe.sky.places import barycentric_correction, galactic
from spectrolabe.sky.writers import Observed, Target
from spectrolabe.sky.writers.blocks import Card, primary, table, write_bytes
from spectrolabe.sky.writers.reduction import (
    SIMULATED,
    band_snr,
    error_of,
    exposures_of,
    finite,
    flag_bits,
    index_of,
    mask_bits,
    pseudo_continuum,
    value,
)

if TYPE_CHECKING:
    from spectrolabe.sky.observing import Exposure

__all__ = ["write", "write_labels"]

C = 299792.458  # km/s
CATALOGUE = "ssppOut-dr12.fits"
RUN2D = "v5_10_0"
PLATE, FIBRES = 3500, 1000
LETTERS = "DdHgC"  # of FLAG: cool or hot, noisy, colours, G band, continuum
FIRST_THING = 80_000_001
NEARBADPIXEL, FULLREJECT = 1 << 16, 1 << 18
BRIGHTSKY, NODATA, COMBINEREJ = 1 << 23, 1 << 24, 1 << 25
HARD = {
    Reason.COSMIC: COMBINEREJ | FULLREJECT,
    Reason.BAD_COLUMN: FULLREJECT | NEARBADPIXEL,
    Reason.SATURATED: FULLREJECT,
}
SOFT = {Reason.SKY_LINE: BRIGHTSKY}
PIXEL = 1e-4 * np.log(10.0) * 2.3548200450309493  # FWHM of one pixel of sigma, in ln(wavelength)
LINES = {  # vacuum Å, for the table of line fits
    "[O_II] 3727": 3728.30,
    "H_delta": 4102.89,
    "H_gamma": 4341.68,
    "H_beta": 4862.68,
    "[O_III] 5007": 5008.24,
    "H_alpha": 6564.61,
    "[S_II] 6716": 6718.29,
}


def write(folder: Path, observed: Sequence[Observed], batch: int) -> Table:
    """Write a file for every exposure: ``<plate>/spec-<plate>-<mjd>-<fibre>.fits``."""
    return index_of([_write(folder, *one) for one in exposures_of(observed)])


def _write(folder: Path, star: Observed, exposure: Exposure, visit: int) -> dict[str, object]:
    plate, fibre = divmod(star.running[visit - 1], FIBRES)
    plate, fibre, mjd = plate + PLATE, fibre + 1, int(exposure.mjd)
    identity = f"{plate:04d}-{mjd:05d}-{fibre:04d}"
    arm = exposure.arms[0]
    row = {
        "number": star.number,
        "path": f"{plate:04d}/spec-{identity}.fits",
        "spectrum_id": identity,
        "entry": identity,
        "visit": visit,
        "snr": exposure.snr,
        "rv_pipeline": exposure.rv_measured,
        "rv_err": exposure.rv_error,
        "plate": plate,
        "mjd": mjd,
        "fiber": fibre,
        "ra": star.target.ra,
        "dec": star.target.dec,
        "ebv": star.target.ebv,
        **{f"mag_{band}": star.target.magnitudes[band] for band in "gri"},
    }
    pixels = _pixels(exposure)
    snr = band_snr(arm.wavelength, arm.flux, arm.ivar)
    content = b"".join(
        (
            primary(_header(row, star.target, exposure)),
            table(pixels, "COADD"),
            table(_source(row, pixels, snr), "SPALL"),
            table(_line_fits(row), "SPZLINE"),
        )
    )
    path = folder / str(row["path"])
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, content)
    return row


def _pixels(exposure: Exposure) -> dict[str, NDArray]:
    """The columns of COADD, a row for each pixel."""
    arm = exposure.arms[0]
    good = arm.ivar > 0
    mask = mask_bits(arm.mask, arm.ivar, HARD, SOFT, NODATA)
    resolution = np.broadcast_to(arm.resolution, arm.flux.shape)
    flux = np.where(np.isfinite(arm.flux), arm.flux, 0.0)
    return {
        "flux": flux.astype("f4"),
        "loglam": np.log10(arm.wavelength).astype("f4"),
        "ivar": np.where(good, arm.ivar, 0.0).astype("f4"),
        "and_mask": mask.astype("i4"),
        "or_mask": mask.astype("i4"),
        "wdisp": (1.0 / (resolution * PIXEL)).astype("f4"),
        "sky": np.nan_to_num(arm.sky).astype("f4"),
        "model": pseudo_continuum(flux, good).astype("f4"),
    }


def _header(row: Mapping[str, object], target: Target, exposure: Exposure) -> list[Card]:
    arm = exposure.arms[0]
    correction = barycentric_correction(target.ra, target.dec, exposure.mjd)
    return [
        ("COMMENT", SIMULATED),
        ("TELESCOP", "SDSS 2.5-M", "Sloan Digital Sky Survey"),
        ("FLAVOR", "science", "exposure type, SDSS spectro style"),
        ("MJD", row["mjd"], "APO MJD day at start of exposure"),
        ("MJDLIST", str(row["mjd"])),
        ("EQUINOX", 2000.0),
        ("RADECSYS", "FK5"),
        ("NAME", f"{row['plate']}-{row['mjd']}-01", "The name of the currently loaded plate"),
        ("PLATEID", row["plate"], "The currently loaded plate"),
        ("NEXP_B1", 3, "b1 camera number of exposures"),
        ("NEXP_R1", 3, "r1 camera number of exposures"),
        ("EXPTIME", exposure.exposure_time, "Minimum of exposure times for all cameras"),
        ("VERSREAD", RUN2D, "Version of idlspec2d for pre-processing raw dat"),
        ("VERS2D", RUN2D, "Version of idlspec2d for 2D reduction"),
        ("VERSCOMB", RUN2D, "Version of idlspec2d for combining multiple spe"),
        ("RUN2D", RUN2D, "Spectro-2D reduction name"),
        ("HELIO_RV", round(correction, 10), "Heliocentric correction (added to velocities)"),
        ("VACUUM", True, "Wavelengths are in vacuum"),
        ("SFLATTEN", True, "Superflat has been applied"),
        ("PSFSKY", 3, "Order of PSF skysubtraction"),
        ("NSTD", 20, "Number of (good) std stars"),
        ("LOWREJ", 4, "Extraction: low rejection"),
        ("HIGHREJ", 4, "Extraction: high rejection"),
        ("PROFTYPE", 1, "Extraction profile: 1=Gaussian"),
        ("NWORDER", 2, "Linear-log10 coefficients"),
        ("WFITTYPE", "LOG-LINEAR", "Linear-log10 dispersion"),
        ("COEFF0", round(float(np.log10(arm.wavelength[0])), 4), "Center wavelength (log10)"),
        ("COEFF1", 0.0001, "Log10 dispersion per pixel"),
        ("DC-FLAG", 1, "Log-linear flag"),
        ("BUNIT", "1E-17 erg/cm^2/s/Ang"),
        ("PLUG_RA", target.ra, "RA of object [deg]"),
        ("PLUG_DEC", target.dec, "dec of object [deg]"),
        ("THING_ID", FIRST_THING + int(str(row["number"])), "Unique object identifier"),
        ("FIBERID", row["fiber"], "Fiber number (1-1000)"),
        ("NEXP", 6, "Number of individual exposures"),
    ]


def _source(
    row: Mapping[str, object], pixels: Mapping[str, NDArray], snr: Mapping[str, float]
) -> dict[str, NDArray]:
    """The source table: what is known of the target and what the pipeline measured."""
    good = pixels["ivar"] > 0
    loglam = pixels["loglam"]
    z, z_err = finite(float(str(row["rv_pipeline"])) / C), finite(float(str(row["rv_err"])) / C)
    median = [snr[band] for band in "ugriz"]
    everything = pixels["flux"][good] * np.sqrt(pixels["ivar"][good])
    nanomaggies = [10 ** (0.4 * (22.5 - float(str(row[f"mag_{band}"])))) for band in "gri"]
    of_bands = [0.0, *nanomaggies, 0.0]
    failed = not np.isfinite(float(str(row["rv_pipeline"])))
    dtype: dict[str, tuple[object, str]] = {
        "PROGRAMNAME": ("boss", "S27"),
        "CHUNK": ("boss1", "S14"),
        "PLATEQUALITY": ("good", "S4"),
        "OBJTYPE": ("STAR", "S16"),
        "SPECPRIMARY": (1, "u1"),
        "SPECBOSS": (1, "u1"),
        "NSPECOBS": (1, "i2"),
        "PLATE": (row["plate"], "i4"),
        "MJD": (row["mjd"], "i4"),
        "FIBERID": (row["fiber"], "i4"),
        "RUN2D": (RUN2D, "S7"),
        "RUN1D": (RUN2D, "S7"),
        "PLUG_RA": (row["ra"], "f8"),
        "PLUG_DEC": (row["dec"], "f8"),
        "CLASS": ("STAR", "S6"),
        "Z": (z, "f4"),
        "Z_ERR": (z_err, "f4"),
        "RCHI2": (1.0, "f4"),
        "DOF": (int(good.sum()), "i4"),
        "WAVEMIN": (10.0 ** loglam[0], "f4"),
        "WAVEMAX": (10.0 ** loglam[-1], "f4"),
        "WCOVERAGE": (1e-4 * good.sum(), "f4"),
        "ZWARNING": (4 if failed else 0, "i4"),
        "SN_MEDIAN": (median, "f4"),
        "SN_MEDIAN_ALL": (np.median(everything) if good.any() else 0.0, "f4"),
        "ANYANDMASK": (np.bitwise_or.reduce(pixels["and_mask"]), "i4"),
        "ANYORMASK": (np.bitwise_or.reduce(pixels["or_mask"]), "i4"),
        "RA": (row["ra"], "f8"),
        "DEC": (row["dec"], "f8"),
        "PSFFLUX": (of_bands, "f4"),
        "EXTINCTION": ([float(str(row["ebv"])) * a for a in (4.24, 3.3, 2.29, 1.7, 1.26)], "f4"),
    }
    return {name: np.array([entry], dtype=kind) for name, (entry, kind) in dtype.items()}


def _line_fits(row: Mapping[str, object]) -> dict[str, NDArray]:
    """Emission lines that were looked for, none of them found."""
    count = len(LINES)
    zeros = np.zeros(count, "f4")
    return {
        **{key.upper(): np.full(count, row[key], "i4") for key in ("plate", "mjd")},
        "FIBERID": np.full(count, row["fiber"], "i4"),
        "LINENAME": np.array(list(LINES), "S13"),
        "LINEWAVE": np.array(list(LINES.values())),
        **{f"LINE{what}": zeros for what in ("Z", "Z_ERR", "SIGMA", "SIGMA_ERR", "AREA")},
        "LINEAREA_ERR": np.full(count, -1.0, "f4"),
        "LINECHI2": zeros,
    }


def write_labels(folder: Path, index: Table, labels: Table) -> Path:
    """Write the adopted parameters of the SSPP, -9999 where there is none."""
    columns: dict[str, NDArray] = {
        "SPECOBJID": np.array([f"{p:04d}{m:05d}{f:04d}" for p, m, f in _numbers(index)], "S19"),
        **{name.upper(): np.asarray(index[name], "i4") for name in ("plate", "mjd", "fiber")},
        "RA": np.asarray(index["ra"]),
        "DEC": np.asarray(index["dec"]),
        "EBV": np.asarray(index["ebv"], "f4"),
        "FLAG": _flags(labels),
        "SNR": np.asarray(index["snr"], "f4"),
        "RV_ADOP": np.nan_to_num(np.asarray(index["rv_pipeline"]), nan=-9999.0).astype("f4"),
        "RV_ADOP_UNC": np.nan_to_num(np.asarray(index["rv_err"]), nan=-9999.0).astype("f4"),
    }
    place = np.array([galactic(r, d) for r, d in zip(index["ra"], index["dec"], strict=True)])
    columns["L"], columns["B"] = place.reshape(-1, 2).T
    for column, name in {"TEFF_ADOP": "teff", "LOGG_ADOP": "logg", "FEH_ADOP": "fe_h"}.items():
        columns[column] = value(labels, name, -9999.0).astype("f4")
        columns[f"{column}_UNC"] = error_of(labels, name, -9999.0).astype("f4")
        columns[f"{column}_N"] = np.where(columns[column] > -9000, 6, 0).astype("i4")
    columns["AFE"] = value(labels, "alpha_fe", -9999.0).astype("f4")
    columns["AFE_UNC"] = error_of(labels, "alpha_fe", -9999.0).astype("f4")
    path = folder / CATALOGUE
    write_bytes(path, primary() + table(columns, "SSPP"))
    return path


def _flags(labels: Table) -> NDArray:
    """The five letters of the SSPP: n, or what is wrong at that place."""
    words = flag_bits(labels, {letter: 1 << i for i, letter in enumerate(LETTERS)})
    texts = ["".join(letter if (word >> i) & 1 else "n" for i, letter in enumerate(LETTERS))
             for word in words]  # fmt: skip
    return np.array(texts, dtype="S5")


def _numbers(index: Table) -> list[tuple[int, int, int]]:
    columns = (index[name] for name in ("plate", "mjd", "fiber"))
    return [(int(p), int(m), int(f)) for p, m, f in zip(*columns, strict=True)]
