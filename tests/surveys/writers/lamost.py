"""LAMOST files as the data releases describe them, and catalogues with their missing values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import MaskedColumn, Table
from numpy.typing import NDArray

from tests.surveys.writers import Case, Expected, LabelCase

STAR = "LAMOST J224525.87+070521.6"
Z = -1.9507e-04


def _header(**cards: object) -> fits.Header:
    header = fits.Header()
    header["TELESCOP"] = "LAMOST  "
    header["ORIGIN"] = "NAOC-LAMOST"
    header["OBSID"] = 938505172
    header["DESIG"] = STAR
    header["HELIO"] = True
    header["HELIO_RV"] = 24.4  # the correction, not the velocity of the star
    header["VACUUM"] = True
    for key, value in cards.items():
        header[key] = value
    return header


def _pixels(rng: np.random.Generator, wavelength: NDArray) -> tuple[NDArray, ...]:
    """Flux, ivar and and-mask, and the ivar that a reader must return."""
    n = len(wavelength)
    flux = (1000 * (1 - 0.4 * np.exp(-(((wavelength - wavelength.mean()) / 8) ** 2)))).astype("f4")
    flux += rng.normal(0, 10, n).astype("f4")
    ivar = np.full(n, 0.01, dtype="f4")
    mask = np.zeros(n)
    mask[n // 3 : n // 3 + 4] = (1, 2, 4, 32)
    ivar[:7] = 0.0
    ivar[n // 2] = -1.0
    flux[n // 2 + 3] = np.nan
    usable = ivar.copy()
    usable[(mask != 0) | (ivar < 0) | np.isnan(flux)] = 0.0
    return flux, ivar, mask, usable


def _lrs(rng: np.random.Generator, pixels: int) -> tuple[NDArray, tuple[NDArray, ...], Expected]:
    wavelength = 10 ** (3.5682 + 1e-4 * np.arange(pixels))
    content = _pixels(rng, wavelength)
    power = float(np.median(wavelength / np.where(wavelength < 5800.0, 2.9, 4.1)))
    expected = Expected(
        wavelength, content[0], content[3], power, "barycentric", rv=-58.48, star_id=STAR
    )
    return wavelength, content, expected


def _image(folder: Path, rng: np.random.Generator, pixels: int, *, dr1: bool) -> Case:
    wavelength, (flux, ivar, mask, _), expected = _lrs(rng, pixels)
    third = flux / np.nanmedian(flux) if dr1 else wavelength
    rows = np.stack([flux, ivar, third, mask, np.ones(pixels)]).astype("f4")
    header = _header(COEFF0=3.5682, COEFF1=1e-4, CLASS="STAR", SUBCLASS="F5", Z=Z)
    if not dr1:
        header["DATA_V"] = "LAMOST DR6"
    path = folder / "spec-55862-B6212_sp06-009.fits"
    fits.PrimaryHDU(rows, header).writeto(path)
    return Case(path, "lamost_lrs", [expected])


def dr1(folder: Path, rng: np.random.Generator) -> Case:
    """An image whose third row is the normalised flux; the wavelength is in the header only."""
    return _image(folder, rng, 3904, dr1=True)


def dr6(folder: Path, rng: np.random.Generator) -> Case:
    """An image whose third row is the wavelength."""
    return _image(folder, rng, 3909, dr1=False)


def dr10(folder: Path, rng: np.random.Generator) -> Case:
    """One row of vectors in the table COADD; the or-mask is set where nothing is wrong."""
    wavelength, (flux, ivar, mask, _), expected = _lrs(rng, 3909)
    vectors = {
        "FLUX": flux,
        "IVAR": ivar,
        "WAVELENGTH": wavelength,
        "ANDMASK": mask,
        "ORMASK": np.ones_like(mask),
        "NORMALIZATION": flux / 1000,
    }
    columns = [
        fits.Column(key, f"{len(wavelength)}E", array=values[None].astype("f4"))
        for key, values in vectors.items()
    ]
    primary = fits.PrimaryHDU(header=_header(DATA_V="LAMOST DR10", Z=Z, SNRG=87.6))
    table = fits.BinTableHDU.from_columns(columns, name="COADD")
    path = folder / "spec-59522-EG224840N075042B03_sp05-172.fits"
    fits.HDUList([primary, table]).writeto(path)
    return Case(path, "lamost_lrs", [expected])


def _arm(
    rng: np.random.Generator, name: str, start: float, *, vectors: bool
) -> tuple[fits.BinTableHDU, Expected]:
    single = name[1] == "-"
    loglam = np.log10(start) + 1e-5 * np.arange(300)
    wavelength = 10**loglam
    flux, ivar, mask, usable = _pixels(rng, wavelength)
    expected = Expected(wavelength, flux, usable, 7500, "barycentric", star_id=STAR)
    data = {"FLUX": flux, "IVAR": ivar, "LOGLAM": loglam}
    if vectors:
        data["WAVELENGTH"] = 10 ** data.pop("LOGLAM")
    data["PIXMASK" if single else "ANDMASK"] = mask
    if not single:
        data["ORMASK"] = np.ones_like(mask)
    if single and name[0] == "R":  # red exposures are stored from red to blue
        data = {key: values[::-1] for key, values in data.items()}
    columns = []
    for key, values in data.items():
        kind = "I" if "MASK" in key else "E"
        form, array = (f"{len(values)}{kind}", values[None]) if vectors else (kind, values)
        columns.append(fits.Column(key, form, array=array))
    return fits.BinTableHDU.from_columns(columns, name=name), expected


def _mrs(folder: Path, rng: np.random.Generator, *, vectors: bool) -> Case:
    arms = {"COADD_B": 4950.0, "COADD_R": 6300.0, "B-83906016": 4950.0, "R-83906016": 6300.0}
    made = [_arm(rng, name, start, vectors=vectors) for name, start in arms.items()]
    primary = fits.PrimaryHDU(header=_header(DATA_V="LAMOST DR7"))
    primary.name = "Information"
    path = folder / "med-58268-HIP95119KP01_sp12-076.fits"
    fits.HDUList([primary, *(hdu for hdu, _ in made)]).writeto(path)
    # LOGLAM has only the seven digits of float32
    return Case(path, "lamost_mrs", [spectrum for _, spectrum in made], wavelength_tolerance=4e-3)


def mrs_dr7(folder: Path, rng: np.random.Generator) -> Case:
    """One row for each pixel, with LOGLAM."""
    return _mrs(folder, rng, vectors=False)


def mrs_dr9(folder: Path, rng: np.random.Generator) -> Case:
    """One row of vectors, with WAVELENGTH."""
    return _mrs(folder, rng, vectors=True)


SPECTRA = {"dr1": dr1, "dr6": dr6, "dr10": dr10, "mrs_dr7": mrs_dr7, "mrs_dr9": mrs_dr9}


def lrs_catalogue(folder: Path, rng: np.random.Generator) -> LabelCase:
    """The AFGK catalogue with -9999; rows two to five fail one condition of the cut each."""
    nan = np.nan
    table = Table(
        {
            "obsid": np.array([101, 102, 103, 104, 105], dtype="i8"),
            "snrg": [55.0, 12.0, 80.0, 70.0, 45.0],
            "fibermask": [0, 0, 0, 128, 0],
            "teff": [5777.0, 6000.0, -9999.0, 4800.0, 5000.0],
            "teff_err": [45.0, 50.0, -9999.0, 60.0, -9999.0],
            "logg": [4.44, 4.0, -9999.0, 2.5, 3.0],
            "logg_err": [0.05, 0.1, -9999.0, 0.08, 0.1],
            "feh": [0.0, -0.5, -9999.0, -1.2, 0.1],
            "feh_err": [0.03, 0.04, -9999.0, 0.05, 0.05],
            "rv": [-20.0, 11.0, 3.0, -9999.0, 0.0],
        }
    )
    path = folder / "dr10_lrs_stellar.fits"
    table.write(path)
    return LabelCase(
        path,
        "lamost_lrs",
        labels={
            "teff": [5777.0, 6000.0, nan, 4800.0, 5000.0],
            "logg": [4.44, 4.0, nan, 2.5, 3.0],
            "fe_h": [0.0, -0.5, nan, -1.2, 0.1],
        },
        sigma={"teff": [45.0, 50.0, nan, 60.0, nan], "fe_h": [0.03, 0.04, nan, 0.05, 0.05]},
        good=[True, False, False, False, False],
        keys={"obsid": ["101", "102", "103", "104", "105"]},
    )


def mrs_catalogue(folder: Path, rng: np.random.Generator) -> LabelCase:
    """The MRS catalogue with masked entries, written as VOTable."""
    nan = np.nan

    def masked(*values: float) -> MaskedColumn:
        return MaskedColumn(np.nan_to_num(values), mask=np.isnan(values))

    table = Table(
        {
            "mobsid": ["M1", "M2", "M3", "M4"],
            "snr": masked(120.0, 90.0, nan, 60.0),
            "coadd": [1, 1, 1, 0],
            "bad_b": [0, 1, 0, 0],
            "bad_r": [0, 0, 0, 0],
            "teff_lasp": masked(4700.0, 5100.0, nan, 6100.0),
            "teff_lasp_err": masked(20.0, nan, nan, 30.0),
            "logg_lasp": masked(2.6, 4.4, nan, 4.1),
            "feh_lasp": masked(-0.1, 0.2, nan, -0.3),
            "mg_fe": [0.1, -9999.0, 0.3, 0.2],
        },
        masked=True,
    )
    path = folder / "dr8_mrs_stellar.xml"
    table.write(path, format="votable")
    return LabelCase(
        path,
        "lamost_mrs",
        labels={
            "teff": [4700.0, 5100.0, nan, 6100.0],
            "logg": [2.6, 4.4, nan, 4.1],
            "fe_h": [-0.1, 0.2, nan, -0.3],
            "mg_fe": [0.1, nan, 0.3, 0.2],
        },
        sigma={"teff": [20.0, nan, nan, 30.0], "mg_fe": [nan] * 4},
        good=[True, False, False, False],
        keys={"mobsid": ["M1", "M2", "M3", "M4"]},
    )


LABELS = {"lrs": lrs_catalogue, "mrs": mrs_catalogue}
