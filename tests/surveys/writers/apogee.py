"""APOGEE files by the data model of DR13 to DR19 (data.sdss.org/datamodel) and the bitmask page.

Each pixel in ``SPECIAL`` of a row has something the matter, or a bit that means no harm.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import Table
from numpy.typing import NDArray

from tests.surveys.writers import Case, Expected, LabelCase

GRID = 10 ** (4.179 + 6e-6 * np.arange(8575))
STAR = "2M00452143+1634446"
GAP = slice(3300, 3500)
FORBIDDEN = (0, 1, 2, 3, 4, 5, 6, 7, 12, 14)
HARMLESS = (8, 9, 10, 11, 13)


def _flux(rng: np.random.Generator, wavelength: NDArray, level: float) -> NDArray:
    line = 1 - 0.5 * np.exp(-(((wavelength - 16200) / 0.6) ** 2))
    return (level * (line + rng.normal(0, 0.01, wavelength.shape))).astype("f4")


def _log_linear(unit: str = "") -> fits.Header:
    header = fits.Header()
    header["CRVAL1"], header["CDELT1"], header["CRPIX1"] = 4.179, 6e-6, 1
    header["CTYPE1"], header["DC-FLAG"] = "LOG-LINEAR", 1
    if unit:
        header["BUNIT"] = unit
    return header


def _images(primary: fits.Header, *images: tuple[NDArray, str]) -> fits.HDUList:
    hdus = [fits.ImageHDU(values, _log_linear(unit)) for values, unit in images]
    return fits.HDUList([fits.PrimaryHDU(header=primary), *hdus])


def _star_header(visits: int, velocity: str) -> fits.Header:
    header = fits.Header()
    header["OBJID"] = STAR
    header["NVISITS"] = visits
    header["STARFLAG"], header["ANDFLAG"] = 131076, 4
    header["VRAD"] = 0.0  # of this spectrum: it is at rest
    header[velocity] = 6.73
    for i, (bc, v) in enumerate([(-6.47, 7.16), (-15.84, 6.61), (-19.61, 6.44)][:visits], start=1):
        header[f"SFILE{i}"] = f"apVisit-r6-6561-5658{i}-131.fits"
        header[f"BC{i}"], header[f"VRAD{i}"], header[f"{velocity}{i}"] = bc, v - bc, v
    header["HISTORY"] = "APSTAR:  APOGEE Reduction Pipeline"
    return header


def _three_visits(rng: np.random.Generator) -> tuple[NDArray, NDArray, NDArray, list[set[int]]]:
    """Flux, error and mask of three visits, and the pixels that each must lose."""
    flux = np.stack([_flux(rng, GRID, level) for level in (90.0, 100.0, 110.0)])
    error = np.repeat([[0.9], [1.0], [1.1]], 8575, axis=1).astype("f4")
    mask = np.zeros((3, 8575), dtype="i4")
    lost: list[set[int]] = [set(), set(), set()]
    flux[:, GAP], error[:, GAP], mask[:, GAP] = 0, 1e10, 1
    for k, bit in enumerate(FORBIDDEN):  # pixels 100, 101, ...: only the first visit is bad
        mask[0, 100 + k] = 2**bit
        lost[0].add(100 + k)
    mask[:, 130] = (2**2, 2**4, 2**14)  # each visit bad for its own reason, so the AND is 0
    mask[:, 131] = 2**12
    for visit in lost:
        visit.update({130, 131})
    for k, bit in enumerate(HARMLESS):
        mask[:, 150 + k] = 2**bit
    flux[2, 170], error[1, 171], error[1, 172], error[0, 173] = np.nan, np.nan, 0.0, 5e6
    lost[2].add(170)
    lost[1].update({171, 172})
    lost[0].add(173)
    mask[1, 180], error[1, 180] = 2**12, 10.0  # since DR17 the error at a sky line is ten times up
    lost[1].add(180)
    return flux, error, mask, lost


def _expected(flux: NDArray, error: NDArray, lost: set[int], rv: float) -> Expected:
    ivar = np.where(error > 0, error, np.inf).astype(float) ** -2.0
    ivar[GAP] = 0
    ivar[list(lost)] = 0
    return Expected(GRID, flux, ivar, 22500, "rest", rv=rv, star_id=STAR)


def _write_star(path: Path, rng: np.random.Generator, *, velocity: str, release: str) -> Case:
    flux, error, mask, lost = _three_visits(rng)
    combined = np.full((2, 8575), 100.0, dtype="f4") + rng.normal(0, 1, (2, 8575)).astype("f4")
    combined[:, GAP] = 0
    combined_error = np.full((2, 8575), 0.577, dtype="f4")
    combined_error[:, GAP] = 1e10
    masks = np.zeros((2, 8575), dtype="i4")
    if release == "dr13":
        masks[:] = np.bitwise_or.reduce(mask, axis=0), np.bitwise_and.reduce(mask, axis=0)
    else:
        masks[0] = np.bitwise_and.reduce(mask, axis=0)
    unit = "Flux (10^-17 erg/s/cm^2/Ang)"
    hdus = _images(
        _star_header(3, velocity),
        (np.vstack([combined, flux]).astype("f4"), unit),
        (np.vstack([combined_error, error]).astype("f4"), unit.replace("Flux", "Err")),
        (np.vstack([masks, mask]).astype("i2"), "Flag Mask (bitwise)"),
        (np.zeros((5, 8575), "f4"), "Sky (10^-17 erg/s/cm^2/Ang)"),
        (np.zeros((5, 8575), "f4"), "Sky Error (10^-17 erg/s/cm^2/Ang)"),
    )
    hdus.writeto(path)
    # rejected pixels of one visit have no weight in the co-add, but a sky line has: pixel 108
    every = {108, 130, 131}
    any_bad = {*range(100, 110), 130, 131, 180}
    return Case(
        path,
        "apogee",
        [
            _expected(combined[0], combined_error[0], every, 6.73),
            _expected(combined[1], combined_error[1], any_bad, 6.73),
            *(_expected(flux[i], error[i], lost[i], v) for i, v in enumerate((7.16, 6.61, 6.44))),
        ],
    )


def apstar_dr13(folder: Path, rng: np.random.Generator) -> Case:
    """Up to DR16 the mask of the first co-add is the OR of the visits' masks."""
    path = folder / f"apStar-r6-{STAR}.fits"
    return _write_star(path, rng, velocity="VHELIO", release="dr13")


def apstar_dr19(folder: Path, rng: np.random.Generator) -> Case:
    """Later it is the AND, the second co-add has none, and velocities are called barycentric."""
    path = folder / f"apStar-1.3-apo25m-{STAR}.fits"
    return _write_star(path, rng, velocity="VHBARY", release="dr19")


def _single(path: Path, rng: np.random.Generator, *, rows: int) -> Case:
    flux, error, mask, lost = (values[0] for values in _three_visits(rng))
    images = []
    for values in (flux, error, mask.astype("i8")):
        stack = np.zeros((rows, 8575), dtype=values.dtype)
        stack[0] = values
        images.append((stack if rows > 1 else values, ""))
    hdus = _images(_star_header(1, "VHELIO"), *images, (np.zeros(8575, "f4"), ""))
    hdus.writeto(path)
    return Case(path, "apogee", [_expected(flux, error, lost, 6.73)])


def apstar_one_visit(folder: Path, rng: np.random.Generator) -> Case:
    """A single visit is the co-add: arrays of one dimension."""
    return _single(folder / f"apStar-r5-{STAR}.fits", rng, rows=1)


def apstar_one_visit_dr17(folder: Path, rng: np.random.Generator) -> Case:
    """In DR17 a second row of zeros follows."""
    return _single(folder / f"asStar-dr17-{STAR}.fits", rng, rows=2)


def aspcapstar(folder: Path, rng: np.random.Generator) -> Case:
    """Normalised, no mask: what ASPCAP leaves out has flux 0, or an error of 1 or more."""
    flux = _flux(rng, GRID, 1.0)
    error = np.full(8575, 0.01, dtype="f4")
    flux[GAP], error[GAP] = 0, 0
    flux[50:60], error[50:60] = 0, 10
    error[70], error[71], flux[72] = 1.1, 1e10, np.nan
    error[73] = 0.12  # high but used
    header = fits.Header()
    header["OBJ"], header["VHELIO"], header["NVISITS"] = STAR, 6.73, 3
    hdus = _images(header, (flux, ""), (error, ""), (_flux(rng, GRID, 1.0), ""))
    table = Table({"APOGEE_ID": [STAR], "TEFF": [4800.0], "ASPCAPFLAG": [0]})
    hdus.append(fits.BinTableHDU(table))
    path = folder / f"aspcapStar-r6-l30e.2-{STAR}.fits"
    hdus.writeto(path)
    expected = _expected(flux, error, {*range(50, 60), 70, 71, 72}, 6.73)
    return Case(path, "apogee", [expected])


def _visit(folder: Path, rng: np.random.Generator, *, pixels: int, scatter: float) -> Case:
    ends = [(16954.6, 16472.6), (16435.2, 15857.0), (15810.0, 15142.3)]
    wavelength = np.stack([np.linspace(red, blue, pixels) for red, blue in ends])
    flux, error = _flux(rng, wavelength, 100.0), np.full((3, pixels), 1.0, dtype="f4")
    mask = np.zeros((3, pixels), dtype="i2")
    lost = np.zeros((3, pixels), dtype=bool)
    for k, bit in enumerate(FORBIDDEN):
        mask[0, 300 + k] = 2**bit
    for k, bit in enumerate(HARMLESS):
        mask[1, 400 + k] = 2**bit
    flux[2, 500], error[2, 501] = np.nan, 8e6
    lost[0, 300 : 300 + len(FORBIDDEN)] = True
    lost[2, 500:502] = True
    header = fits.Header()
    header["OBJID"], header["SURVEY"] = STAR, "apogee"
    header["PLATE"], header["MJD5"], header["FIBERID"] = "6561", 56587, 131
    header["BC"], header["VHELIO"], header["VSCATTER"] = -12.45, -5.39, scatter
    header["HISTORY"] = "AP1DVISIT:  APOGEE Reduction Pipeline Version: v3_15"
    units = ("Flux", "Flux Error", "Flag Mask", "Wavelength")
    hdus = [fits.PrimaryHDU(header=header)]
    for values, unit in zip((flux, error, mask, wavelength), units, strict=True):
        image = fits.ImageHDU(values)
        image.header["CTYPE1"], image.header["BUNIT"] = "Pixel", f"{unit} (...)"
        hdus.append(image)
    hdus.append(fits.ImageHDU(np.zeros((3, pixels), "f4")))
    path = folder / f"apVisit-r6-6561-56587-{pixels}.fits"
    fits.HDUList(hdus).writeto(path)
    ivar = np.where(lost, 0, 1 / error.astype(float) ** 2)
    blue_first = [np.concatenate([row[::-1] for row in x[::-1]]) for x in (wavelength, flux, ivar)]
    rv = -5.39 + 12.45 if scatter < 10 else np.nan
    return Case(path, "apogee", [Expected(*blue_first, 22500, "observed", rv=rv, star_id=STAR)])


def apvisit(folder: Path, rng: np.random.Generator) -> Case:
    """Three chips, red first and wavelengths falling; rv is what is left in the observed frame."""
    return _visit(folder, rng, pixels=4096, scatter=1.5)


def apvisit_undithered(folder: Path, rng: np.random.Generator) -> Case:
    """Half the pixels, and a velocity on which the chips do not agree."""
    return _visit(folder, rng, pixels=2048, scatter=15.8)


SPECTRA = {
    "apstar_dr13": apstar_dr13,
    "apstar_dr19": apstar_dr19,
    "apstar_one_visit": apstar_one_visit,
    "apstar_one_visit_dr17": apstar_one_visit_dr17,
    "aspcapstar": aspcapstar,
    "apvisit": apvisit,
    "apvisit_undithered": apvisit_undithered,
}


def allstar(folder: Path, rng: np.random.Generator) -> LabelCase:
    """allStar of DR17: every row from the third on fails one condition of the cut."""
    nan, n = np.nan, 9
    table = Table(
        {
            "FILE": [f"apStar-dr17-{i}.fits" for i in range(n)],
            "APOGEE_ID": [f"2M{i:016d}" for i in range(n)],
            "SNR": [150.0, 300.0, 90.0, 150, 150, 150, 150, 150, 150],
            "VHELIO_AVG": np.full(n, -20.5),
            "VSCATTER": [0.1, 0.2, 0.1, 0.1, 0.1, 0.1, 3.0, 0.1, 0.1],
            "EXTRATARG": [0, 1, 0, 0, 0, 0, 0, 16, 0],
            # a bright neighbour and medium persistence do no harm, nor a problem of the target
            "STARFLAG": [2**2, 2**10, 0, 2**3, 2**22, 0, 0, 0, 0],
            "ASPCAPFLAG": np.array([0, 2**40, 0, 0, 0, 2**23, 0, 0, 0], dtype="i8"),
            "TEFF": np.array([4800, 5770, 5000, 5000, 5000, 5000, 5000, 5000, nan], dtype="f4"),
            "TEFF_ERR": np.full(n, 90.0),
            "LOGG": [2.5, 4.4, 3, 3, 3, 3, 3, 3, -9999.0],
            "LOGG_ERR": np.full(n, 0.05),
            "M_H": np.full(n, -0.25),
            "M_H_ERR": np.full(n, 0.01),
            "ALPHA_M": np.full(n, 0.1),
            "ALPHA_M_ERR": np.full(n, -9999.99),
            "VMICRO": np.full(n, 1.5),
            "VSINI": [nan, 12.0, *[nan] * 7],
            "FE_H": [-0.3, -0.2, *[0.0] * 7],
            "FE_H_ERR": np.full(n, 0.01),
            "FE_H_FLAG": [0, 0, 2**8, *[0] * 6],
            "MG_FE": [0.25, 0.15, *[0.1] * 6, 0.3],
            "MG_FE_ERR": np.full(n, 0.02),
            "MG_FE_FLAG": [0, 2**0, 2**6, *[0] * 6],
            "CU_FE": np.full(n, nan),
            "CU_FE_ERR": np.full(n, nan),
            "CU_FE_FLAG": np.full(n, 2),
            "X_H": np.zeros((n, 27)),
        }
    )
    path = folder / "allStar-dr17-synspec_rev1.fits"
    table.write(path)
    return LabelCase(
        path,
        "apogee",
        labels={
            "teff": [4800, 5770, *[5000] * 6, nan],
            "logg": [2.5, 4.4, *[3] * 6, nan],
            "fe_h": [-0.3, -0.2, nan, *[0.0] * 6],
            "m_h": [-0.25] * n,
            "v_broad": [nan, 12.0, *[nan] * 7],
            "mg_fe": [0.25, nan, nan, *[0.1] * 5, 0.3],
            "cu_fe": [nan] * n,
        },
        sigma={
            "teff": [90.0] * n,
            "alpha_m": [nan] * n,
            "fe_h": [0.01, 0.01, nan, *[0.01] * 6],
            "mg_fe": [0.02, nan, nan, *[0.02] * 6],
            "v_micro": [nan] * n,
        },
        good=[True, True, False, False, False, False, False, False, False],
        keys={
            "star_id": [f"2M{i:016d}" for i in range(n)],
            "file": [f"apStar-dr17-{i}.fits" for i in range(n)],
        },
    )


LABELS = {"allstar": allstar}
