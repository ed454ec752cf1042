"""Spectra as a user may write them: tables of every format and 1-D images, with their keywords."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from astropy import units
from astropy.io import fits
from astropy.table import Table
from numpy.typing import NDArray

from tests.surveys.writers import Case, Expected, LabelCase
from tests.surveys.writers.air import to_vacuum

N = 300


def _values(rng: np.random.Generator) -> tuple[NDArray, NDArray]:
    return rng.uniform(0.5, 1.5, N), rng.uniform(0.01, 0.02, N)


def fits_table(folder: Path, rng: np.random.Generator) -> Case:
    """Air, nm, errors of which one is infinite; the width of the line spread function in Å."""
    nm = 500 + 0.02 * np.arange(N)
    flux, error = _values(rng)
    error[9] = np.inf
    table = Table({"wavelength": nm * units.nm, "flux": flux, "error": error})
    table.meta = {"MEDIUM": "air", "FRAME": "observed", "RV": "unknown", "FWHM": 0.5}
    table.meta["STAR_ID"] = "my star"
    path = folder / "own.fits"
    table.write(path)
    ivar = np.where(np.isfinite(error), 1 / error**2, 0)
    star = Expected(to_vacuum(nm * 10), flux, ivar, 10060, "observed", star_id="my star")
    return Case(path, "generic", [star])


def ecsv(folder: Path, rng: np.random.Generator) -> Case:
    """Vacuum, micrometres, inverse variances of which some are 0, where the flux is not known."""
    um = 1.51 + 1e-5 * np.arange(N)
    flux, error = _values(rng)
    ivar = 1 / error**2
    ivar[3:6] = 0
    flux[4] = np.nan
    table = Table({"wavelength": um * units.um, "flux": flux, "ivar": ivar})
    table.meta = {"medium": "vacuum", "frame": "rest", "rv": 31.5, "r": 22500}
    path = folder / "own.ecsv"
    table.write(path, format="ascii.ecsv")
    star = Expected(um * 1e4, flux, ivar, 22500, "rest", rv=31.5, star_id="own")
    return Case(path, "generic", [star])


def csv(folder: Path, rng: np.random.Generator) -> Case:
    """Comment lines for the keywords, the unit among them, and a column with R."""
    wavelength = 4000 + 0.8 * np.arange(N)
    flux, error = _values(rng)
    resolution = wavelength / 2.0
    lines = ["# MEDIUM = vacuum", "# FRAME = barycentric", "# RV = -12.5", "# WAVEUNIT = Angstrom"]
    lines.append("Wavelength,FLUX,error,resolution")
    rows = zip(wavelength, flux, error, resolution, strict=True)
    lines += [",".join(f"{value:.8g}" for value in row) for row in rows]
    path = folder / "own.csv"
    path.write_text("\n".join(lines) + "\n")
    star = Expected(wavelength, flux, 1 / error**2, 2060, "barycentric", rv=-12.5)
    return Case(path, "generic", [star])


def parquet(folder: Path, rng: np.random.Generator) -> Case:
    """Keywords in the metadata of the schema."""
    wavelength = 8450 + 0.1 * np.arange(N)
    flux, error = _values(rng)
    table = pa.table({"wavelength": wavelength, "flux": flux, "ivar": 1 / error**2})
    keywords = {"MEDIUM": "air", "FRAME": "rest", "RV": "nan", "R": "11500"}
    keywords["WAVEUNIT"] = "Angstrom"
    path = folder / "own.parquet"
    pq.write_table(table.replace_schema_metadata(keywords), path)
    star = Expected(to_vacuum(wavelength), flux, 1 / error**2, 11500, "rest")
    return Case(path, "generic", [star])


def log_image(folder: Path, rng: np.random.Generator) -> Case:
    """An IRAF image linear in log10 wavelength, with its errors in an extension."""
    flux, error = _values(rng)
    primary = fits.PrimaryHDU(flux)
    primary.header.update({"CRVAL1": 3.7, "CDELT1": 1e-4, "CRPIX1": 3.0, "DC-FLAG": 1})
    primary.header.update({"CUNIT1": "Angstrom", "MEDIUM": "vacuum", "FRAME": "barycentric"})
    primary.header.update({"RV": 5.0, "R": 2000})
    path = folder / "iraf.fits"
    fits.HDUList([primary, fits.ImageHDU(error, name="ERROR")]).writeto(path)
    wavelength = 10 ** (3.7 + 1e-4 * (np.arange(N) - 2))
    star = Expected(wavelength, flux, 1 / error**2, 2000, "barycentric", rv=5.0)
    return Case(path, "generic", [star])


def library(folder: Path, rng: np.random.Generator) -> Case:
    """A linear image as stellar libraries give it: no errors, and what it lacks in a sidecar."""
    flux, _ = _values(rng)
    flux[0] = 0.0
    primary = fits.PrimaryHDU(flux)
    primary.header.update({"CRVAL1": 3540.5, "CDELT1": 0.9, "CRPIX1": 1, "FWHM": 2.5})
    path = folder / "star_m0004V.fits"
    primary.writeto(path)
    (folder / "spectra.toml").write_text(
        'MEDIUM = "air"\nFRAME = "rest"\nRV = "unknown"\nWAVEUNIT = "Angstrom"\nSNR = 50\n'
    )
    wavelength = to_vacuum(3540.5 + 0.9 * np.arange(N))
    ivar = np.where(flux > 0, (50 / np.where(flux > 0, flux, 1)) ** 2, 0)
    star = Expected(wavelength, flux, ivar, 1470, "rest", star_id="star_m0004V")
    return Case(path, "generic", [star])


SPECTRA = {
    "fits": fits_table,
    "ecsv": ecsv,
    "csv": csv,
    "parquet": parquet,
    "log_image": log_image,
    "library": library,
}


def label_table(folder: Path, rng: np.random.Generator) -> LabelCase:
    """CSV with registry names; a blank, a sentinel and a value that no star has."""
    nan = np.nan
    path = folder / "labels.csv"
    path.write_text(
        "file,star_id,teff,e_teff,logg,mg_fe,rv,split\n"
        "a.fits,star 1,5777,50,4.44,0.0,-3.5,train\n"
        "b.fits,star 2,-9999,-9999,4.0,0.3,,val\n"
        "c.fits,star 3,4500,0,99.0,,12.0,train\n"
    )
    return LabelCase(
        path,
        "generic",
        labels={
            "teff": [5777.0, nan, 4500.0],
            "logg": [4.44, 4.0, nan],
            "mg_fe": [0.0, 0.3, nan],
        },
        sigma={"teff": [50.0, nan, nan], "logg": [nan] * 3},
        good=[True] * 3,
        keys={
            "file": ["a.fits", "b.fits", "c.fits"],
            "star_id": ["star 1", "star 2", "star 3"],
        },
    )


LABELS = {"csv": label_table}
