"""ESO Science Data Products and 4MOST level-1 files as their standards describe them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import Table
from numpy.typing import NDArray

from tests.surveys.writers import Case, Expected, LabelCase
from tests.surveys.writers.air import to_vacuum

CGS = "erg/(s*cm^2*Angstrom)"
N = 500


def _flux(rng: np.random.Generator) -> tuple[NDArray, NDArray]:
    return rng.uniform(50, 150, N), rng.uniform(1, 3, N)


def write_product(
    path: Path, cards: dict, columns: list[dict], extension: str = "SPECTRUM"
) -> fits.Header:
    """One row of vectors; each column is name, data, format and the cards T* of its own."""
    primary = fits.PrimaryHDU()
    primary.header.update(cards)
    made = [
        fits.Column(c["name"], f"{len(c['data'])}{c['kind']}", array=np.asarray(c["data"])[None])
        for c in columns
    ]
    table = fits.BinTableHDU.from_columns(made, name=extension)
    for i, c in enumerate(columns, start=1):
        for key in ("TUNIT", "TUTYP", "TUCD"):
            if key in c:
                table.header[f"{key}{i}"] = c[key]
    fits.HDUList([primary, table]).writeto(path)
    return table.header


def harps(folder: Path, rng: np.random.Generator) -> Case:
    """Air, Å, counts; a collection that misspells a utype. One error is not a number."""
    wavelength = 5000 + 0.01 * np.arange(N)
    flux, error = _flux(rng)
    error[5] = np.nan
    error[6] = 0.0
    path = folder / "ADP.2014-09-16T11_04_45.123.fits"
    write_product(
        path,
        {
            "ORIGIN": "ESO-PARANAL",
            "INSTRUME": "HARPS",
            "OBJECT": "HD 4614",
            "PRODCATG": "SCIENCE.SPECTRUM",
            "SPECSYS": "BARYCENT",
            "SPEC_RES": 115000.0,
        },
        [
            {
                "name": "WAVE",
                "kind": "D",
                "data": wavelength,
                "TUNIT": "angstrom",
                "TUTYP": "Spectrum.Data.SpectralAxis.Value",
                "TUCD": "em.wl;obs.atmos",
            },
            {
                "name": "FLUX",
                "kind": "E",
                "data": flux,
                "TUNIT": "adu",
                "TUTYP": "Spectrum.Data.FluxAxis.Value",
                "TUCD": "phot.flux.density;em.wl;stat.uncalib",
            },
            {
                "name": "ERR",
                "kind": "E",
                "data": error,
                "TUNIT": "adu",
                "TUTYP": "Spectrum.Data.FluxAxis.Accurancy.StatError",
                "TUCD": "stat.error;phot.flux.density;em.wl",
            },
        ],
    )
    ivar = np.where(error > 0, 1 / np.where(error > 0, error, 1) ** 2, 0)
    star = Expected(to_vacuum(wavelength), flux, ivar, 115000, "barycentric", star_id="HD 4614")
    return Case(path, "eso_sdp", [star])


def xshooter(folder: Path, rng: np.random.Generator) -> Case:
    """Vacuum, nm, topocentric; raw and calibrated flux, sky background, and QUAL."""
    nm = 560 + 0.02 * np.arange(N)
    flux, error = _flux(rng)
    raw, raw_error = _flux(rng)
    quality = np.zeros(N, int)
    quality[[3, 100]] = (1, 64)
    column = {"kind": "E", "TUNIT": "adu"}
    path = folder / "ADP.2021-02-03T04_05_06.789.fits"
    write_product(
        path,
        {
            "ORIGIN": "ESO",
            "INSTRUME": "XSHOOTER",
            "OBJECT": "HD 49933",
            "SPECSYS": "TOPOCENT",
            "SPEC_RES": 8900.0,
        },
        [
            {
                "name": "WAVE",
                "kind": "D",
                "data": nm,
                "TUNIT": "nm",
                "TUTYP": "spec:Data.SpectralAxis.Value",
                "TUCD": "em.wl",
            },
            {
                **column,
                "name": "BGFLUX_REDUCED",
                "data": raw * 9,
                "TUTYP": "eso:Data.BackgroundModel.Value",
                "TUCD": "phot.flux.density;em.wl;stat.uncalib",
            },
            {
                **column,
                "name": "FLUX_REDUCED",
                "data": raw * 7,
                "TUTYP": "eso:Data.FluxAxis.Value",
                "TUCD": "phot.flux.density;em.wl;src.net;stat.uncalib",
            },
            {
                **column,
                "name": "ERR_REDUCED",
                "data": raw_error * 7,
                "TUTYP": "eso:Data.FluxAxis.Accuracy.StatError",
                "TUCD": "stat.error;phot.flux.density;em.wl",
            },
            {
                "name": "FLUX",
                "kind": "E",
                "data": flux * 1e-17,
                "TUNIT": "erg.cm**(-2).s**(-1).angstrom**(-1)",
                "TUTYP": "spec:Data.FluxAxis.Value",
                "TUCD": "phot.flux.density;em.wl;src.net;meta.main",
            },
            {
                "name": "ERR",
                "kind": "E",
                "data": error * 1e-17,
                "TUNIT": "erg.cm**(-2).s**(-1).angstrom**(-1)",
                "TUTYP": "spec:Data.FluxAxis.Accuracy.StatError",
                "TUCD": "stat.error;phot.flux.density;em.wl;meta.main",
            },
            {
                "name": "QUAL",
                "kind": "J",
                "data": quality,
                "TUTYP": "spec:Data.FluxAxis.Accuracy.QualityStatus",
                "TUCD": "meta.code.qual",
            },
        ],
    )
    ivar = np.where(quality == 0, error**-2.0, 0)
    star = Expected(nm * 10, flux, ivar, 8900, "observed", star_id="HD 49933")
    return Case(path, "eso_sdp", [star])


def _fourmost(
    folder: Path, rng: np.random.Generator, name: str, wavelength: NDArray, *, units: bool
) -> tuple[Path, NDArray, NDArray]:
    flux, error = _flux(rng)
    quality = np.zeros(N, int)
    quality[7], quality[8] = 1, -1
    flux[20:25] = np.nan
    scale, unit = (1e-17, {"TUNIT": CGS}) if units else (1.0, {})
    columns = [
        {"name": "WAVE", "kind": "E", "data": wavelength, "TUCD": "em.wl;obs.atmos"},
        {"name": "FLUX", "kind": "E", "data": flux * scale, **unit},
        {"name": "ERR_FLUX", "kind": "E", "data": error * scale, **unit},
        {"name": "QUAL", "kind": "J", "data": quality},
        {"name": "FLUX_NOSS", "kind": "E", "data": flux * 5 * scale, **unit},
        {"name": "ERR_FLUX_NOSS", "kind": "E", "data": error * 5 * scale, **unit},
    ]
    if units:
        columns[0]["TUNIT"] = "Angstrom"
    cards = {
        "INSTRUME": "QMOST",
        "CNAME": "21020304-4512345",
        "TRG_UID": 123456,
        "SPECSYS": "BARYCENT",
        "SPEC_RES": 6500.0,
    }
    path = folder / name
    write_product(path, cards, columns, "PHASE3SPECTRUM")
    usable = (quality == 0) & np.isfinite(flux)
    return path, flux, np.where(usable, error**-2.0, 0)


def lrs(folder: Path, rng: np.random.Generator) -> Case:
    """A joined low-resolution spectrum with units."""
    wavelength = 3700 + 0.25 * np.arange(N)
    name = "21020304-4512345_20251010_100101_LJ1.fits"
    path, flux, ivar = _fourmost(folder, rng, name, wavelength, units=True)
    vacuum = to_vacuum(wavelength)
    star = Expected(vacuum, flux, ivar, 6500, "barycentric", star_id="21020304-4512345")
    return Case(path, "fourmost", [star])


def unitless(folder: Path, rng: np.random.Generator) -> Case:
    """An early file, without units: Å and 1e-17 erg/s/cm2/Å."""
    wavelength = 5160 + 0.05 * np.arange(N)
    path, flux, ivar = _fourmost(folder, rng, "20251010_100102_LG1.fits", wavelength, units=False)
    star = Expected(to_vacuum(wavelength), flux, ivar, 6500, "barycentric")
    return Case(path, "fourmost", [star])


SPECTRA = {"harps": harps, "xshooter": xshooter, "lrs": lrs, "unitless": unitless}


def _labels(folder: Path, survey: str) -> LabelCase:
    nan = np.nan
    path = folder / f"{survey}.ecsv"
    Table(
        {
            "star_id": ["HD 4614", "HD 49933"],
            "teff": [5900.0, -9999.0],
            "e_teff": [30.0, -9999.0],
            "fe_h": [-0.25, -0.44],
            "note": ["a", "b"],
        }
    ).write(path, format="ascii.ecsv")
    return LabelCase(
        path,
        survey,
        labels={"teff": [5900.0, nan], "fe_h": [-0.25, -0.44]},
        sigma={"teff": [30.0, nan], "fe_h": [nan, nan]},
        good=[True, True],
        keys={"star_id": ["HD 4614", "HD 49933"]},
    )


LABELS = {
    "eso_sdp": lambda folder, rng: _labels(folder, "eso_sdp"),
    "fourmost": lambda folder, rng: _labels(folder, "fourmost"),
}
