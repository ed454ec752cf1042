"""GALAH files as the DR3 and DR4 pages describe them, and their catalogues.

Relative errors, wavelengths of air on a linear scale, four CCDs; the catalogues name columns in
mixed case (DR3) and lower case (DR4) and give flag_sp different bits.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import MaskedColumn, Table
from numpy.typing import NDArray

from tests.surveys.writers import Case, Expected, LabelCase

SOBJECT_ID = "170418003701205"
# first wavelength in air and step of each CCD
CCD = {1: (4713.6, 0.046), 2: (5649.1, 0.0547), 3: (6477.4, 0.0631), 4: (7585.2, 0.0737)}
C = 299792.458


def vacuum(air: NDArray) -> NDArray:
    """The inverse that N. Piskunov fitted for VALD, Å."""
    s2 = (1e4 / air) ** 2
    n = 1 + 8.336624212083e-5 + 0.02408926869968 / (130.1065924522 - s2)
    return air * (n + 1.599740894897e-4 / (38.92568793293 - s2))


def _pixels(rng: np.random.Generator, size: int) -> tuple[NDArray, NDArray, NDArray]:
    """Counts, relative errors, and which pixels a reader may call good."""
    counts = rng.normal(1000, 20, size).astype("f4")
    relative = np.full(size, 0.02, "f4")
    good = np.ones(size, bool)
    for pixel, error in ((20, 0.0), (21, np.nan), (22, -0.02), (23, np.inf)):
        relative[pixel], good[pixel] = error, False
    for pixel, flux in ((30, np.nan), (31, -5.0), (32, 0.0)):
        counts[pixel], good[pixel] = flux, False
    return counts, relative, good


def _header(ccd: int, crpix: float = 1.0, **cards: object) -> fits.Header:
    start, step = CCD[ccd]
    header = fits.Header()
    header["ORIGIN"] = "GALAH"
    header["TELESCOP"] = "Anglo-Australian Telescope"
    header["INSTRUME"] = "HERMES-2dF"
    header["SLITMASK"] = "OUT     "
    header["CTYPE1"] = "LINEAR"
    header["CUNIT1"] = "Angstroms"
    # the pixel called crpix, counted from 1, is at crval
    header["CRPIX1"], header["CRVAL1"] = crpix, start + (crpix - 1) * step
    header["CDELT1"] = step
    for key, value in cards.items():
        header[key] = value
    return header


def _expected(
    ccd: int, content: tuple[NDArray, ...], resolution: float = 28000, rv: float = np.nan
) -> Expected:
    counts, relative, good = content
    start, step = CCD[ccd]
    air = start + step * np.arange(len(counts))
    with np.errstate(all="ignore"):
        ivar = 1 / (counts.astype(float) * relative) ** 2
    if ccd == 4:  # the oxygen of the atmosphere
        good = good & (air > 7680)
    return Expected(
        vacuum(air),
        counts,
        np.where(good, ivar, 0.0),
        resolution,
        "barycentric",
        rv=rv,
        star_id=SOBJECT_ID,
    )


def _dr3(
    folder: Path, rng: np.random.Generator, ccd: int, size: int, *, normalised: bool, crpix: float
) -> Case:
    content = counts, relative, _ = _pixels(rng, size)
    header, rv = _header(ccd, crpix), 37.5
    images = [
        fits.PrimaryHDU(counts, header),
        fits.ImageHDU(relative, header, name="input_sigma"),
        fits.ImageHDU(counts + 50, header, name="no_sky_subspectrum"),
        fits.ImageHDU(relative, header, name="no_sky_sigma"),
    ]
    if normalised:  # of CCD 4 the last pixels only, on a scale of its own
        first = 60 if ccd == 4 else 0
        own = fits.Header()
        own["CRPIX1"], own["CUNIT1"] = 1.0, "Angstroms"
        own["CRVAL1"] = (CCD[ccd][0] + first * CCD[ccd][1]) * (1 - rv / C)
        own["CDELT1"] = CCD[ccd][1] * (1 - rv / C)
        images.append(fits.ImageHDU((counts / 1000)[first:], own))
    path = folder / f"{SOBJECT_ID}{ccd}.fits"
    fits.HDUList(images).writeto(path)
    return Case(path, "galah", [_expected(ccd, content, rv=rv if normalised else np.nan)])


def dr3(folder: Path, rng: np.random.Generator) -> Case:
    """Five HDUs; the normalised spectrum is shifted to rest."""
    return _dr3(folder, rng, 1, 300, normalised=True, crpix=1.0)


def dr3_infrared(folder: Path, rng: np.random.Generator) -> Case:
    """CCD 4, whose blue third is the A band."""
    return _dr3(folder, rng, 4, 4096, normalised=True, crpix=1.0)


def dr3_not_normalised(folder: Path, rng: np.random.Generator) -> Case:
    """Four HDUs, and a reference pixel that is not the first."""
    return _dr3(folder, rng, 2, 300, normalised=False, crpix=3.0)


def _dr4(folder: Path, rng: np.random.Generator, *, profile: bool, mask: str) -> Case:
    content = counts, relative, _ = _pixels(rng, 300)
    header = _header(3, SLITMASK=mask, PIPE_VER="6.0", RVCOM=-12.25, RVCOM_OK=1, TEFF="None")
    header["ORIGIN"] = "IRAF reduction pipeline"
    start, step = CCD[3]
    fwhm = (start + step * np.arange(300)) / np.linspace(21000, 25000, 300)
    layers = {
        "normalized": counts / 1000,
        "relative_error": relative,
        "sky": np.ones(300, "f4"),
        "teluric": np.ones(300, "f4"),
        "scattered": np.ones(300, "f4"),
        "cross_talk": np.zeros(300, "f4"),
        "resolution_profile": fwhm.astype("f4") if profile else np.zeros(1, "f4"),
    }
    images = [fits.PrimaryHDU(counts, header)]
    images += [fits.ImageHDU(values, header, name=name) for name, values in layers.items()]
    path = folder / f"{SOBJECT_ID}3.fits"
    fits.HDUList(images).writeto(path)
    resolution = 23000 if profile else 42500
    return Case(path, "galah", [_expected(3, content, resolution, rv=-12.25)])


def dr4(folder: Path, rng: np.random.Generator) -> Case:
    """Eight HDUs with other names, and the measured FWHM in Å of each pixel."""
    return _dr4(folder, rng, profile=True, mask="OUT")


def dr4_slit_mask(folder: Path, rng: np.random.Generator) -> Case:
    """The high-resolution mode, with one number where no profile was measured."""
    return _dr4(folder, rng, profile=False, mask="IN")


def dr4_fit(folder: Path, rng: np.random.Generator) -> Case:
    """A row for each pixel of all four windows, normalised and at rest."""
    parts, expected = [], []
    for ccd in (1, 2, 3, 4):
        start, step = CCD[ccd]
        air = (7681.0 if ccd == 4 else start) + step * np.arange(200)
        flux, sigma = rng.normal(0.9, 0.02, 200), np.full(200, 0.02)
        used = np.ones(200, bool)  # True is "used in the fit"
        used[40:50] = False
        sigma[60], sigma[61], sigma[62] = 0.0, np.nan, -1.0
        flux[63] = np.nan
        good = used & (sigma > 0) & np.isfinite(flux)
        with np.errstate(all="ignore"):
            ivar = np.where(good, 1 / sigma**2, 0.0)
        expected.append(Expected(vacuum(air), flux, ivar, 28000, "rest", star_id=SOBJECT_ID))
        parts.append((air, flux, sigma, np.ones(200), used))
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    path = folder / f"{SOBJECT_ID}_single_fit_spectrum.fits"
    Table(columns, names=("wave", "sob", "uob", "smod", "mob")).write(path)
    return Case(path, "galah", expected)


def dr3_catalogue(folder: Path, rng: np.random.Generator) -> LabelCase:
    """GALAH_DR3_main_allstar_v2: element names with a capital, -9999 for no value."""
    nan = np.nan
    path = folder / "allstar.fits"
    Table(
        {
            "star_id": ["2M1", "2M2", "2M3", "2M4", "2M5"],
            "sobject_id": np.arange(5) + 170418003701205,
            "dr3_source_id": [11, 12, 13, 14, -9999],
            "teff": [5000.0, 5100, 5200, 5300, 5400],
            "e_teff": [80.0, 81, 82, 0.0, -9999.0],
            "logg": [2.5, 2.6, 2.7, 2.8, -9999.0],
            "e_logg": [0.1] * 5,
            "fe_h": [0.1, -0.1, -0.2, -0.3, nan],
            "e_fe_h": [0.05] * 5,
            # bit 1 is Gaia's RUWE, 512 a fit that did not converge
            "flag_sp": [0, 1, 0, 0, 512],
            "flag_fe_h": [0, 0, 1, 0, 0],
            "vmic": [1.1, 1.2, 1.3, 1.4, 1.5],
            "vbroad": [5.0, 6.0, 7.0, 8.0, 9.0],
            "e_vbroad": [0.5] * 5,
            "Mg_fe": [0.1, 0.2, 0.3, 0.4, 0.5],
            "e_Mg_fe": [0.05] * 5,
            "flag_Mg_fe": [0, 0, 0, 1, 0],
            "Eu_fe": [0.6, 0.7, 0.8, 0.9, 1.0],
            "flag_Eu_fe": [0, 32, 0, 0, 0],
            "rv_galah": [10.0, 20, 30, 40, -9999.0],
            # 30 or less is too little for an abundance, not for a temperature
            "snr_c3_iraf": [50.0, 50, 50, 50, 50],
            "snr_c2_iraf": [5.0] * 5,
        }
    ).write(path)
    return LabelCase(
        path,
        "galah",
        labels={
            "teff": [5000, 5100, 5200, 5300, 5400],
            "logg": [2.5, 2.6, 2.7, 2.8, nan],
            "fe_h": [0.1, -0.1, -0.2, -0.3, nan],
            "v_micro": [1.1, 1.2, 1.3, 1.4, 1.5],
            "v_broad": [5, 6, 7, 8, 9],
            "mg_fe": [0.1, 0.2, 0.3, nan, 0.5],
            "eu_fe": [0.6, nan, 0.8, 0.9, 1.0],
        },
        sigma={"teff": [80, 81, 82, nan, nan], "mg_fe": [0.05, 0.05, 0.05, nan, 0.05]},
        good=[True, False, False, True, False],
        keys={"sobject_id": [str(170418003701205 + i) for i in range(5)]},
    )


def dr4_catalogue(folder: Path, rng: np.random.Generator) -> LabelCase:
    """galah_dr4_allstar: lower case, other names, other bits; flag_fe_h is to be neglected."""
    nan = np.nan
    path = folder / "galah_dr4_allstar.csv"
    Table(
        {
            "sobject_id": np.arange(5) + 210115002201239,
            "gaiadr3_source_id": [21, 22, 23, 24, 25],
            "flag_sp": [0, 0, 4, 1024, 0],  # 4 is SB1, 1024 [Fe/H]
            "snr_px_ccd3": [80.0, 30.0, 80, 80, 80],
            "teff": MaskedColumn([5000.0, 5100, 5200, 5300, 5400], mask=[0, 0, 1, 0, 0]),
            "e_teff": [70.0] * 5,
            "logg": [4.5, 4.6, 4.7, 4.8, 4.9],
            "e_logg": [0.1] * 5,
            "fe_h": [0.1, 0.0, 0.2, 0.3, 0.4],
            "e_fe_h": [0.05] * 5,
            "flag_fe_h": [0, 0, 0, 0, 1],
            "vmic": [1.0] * 5,
            "e_vmic": [0.1] * 5,
            "vsini": [4.0, 5, 6, 7, 8],
            "e_vsini": [0.4] * 5,
            "li_fe": [1.0, 1.1, 1.2, 1.3, 1.4],
            "e_li_fe": [0.1] * 5,
            "flag_li_fe": [0, 0, 0, 0, 1],  # an upper limit
            "rv_comp_1": [1.0, 2.0, 3.0, 4.0, 5.0],
            "age": [2.5, 3.5, 4.5, 5.5, 6.5],
        }
    ).write(path)
    return LabelCase(
        path,
        "galah",
        labels={
            "teff": [5000, 5100, nan, 5300, 5400],
            "v_broad": [4, 5, 6, 7, 8],
            "li_fe": [1.0, nan, 1.2, 1.3, nan],
            "age": [2.5, 3.5, 4.5, 5.5, 6.5],
        },
        sigma={"v_broad": [0.4] * 5, "v_micro": [0.1] * 5, "li_fe": [0.1, nan, 0.1, 0.1, nan]},
        good=[True, False, False, False, True],
        keys={"sobject_id": [str(210115002201239 + i) for i in range(5)]},
    )


SPECTRA = {
    "dr3": dr3,
    "dr3_infrared": dr3_infrared,
    "dr3_not_normalised": dr3_not_normalised,
    "dr4": dr4,
    "dr4_slit_mask": dr4_slit_mask,
    "dr4_fit": dr4_fit,
}
LABELS = {"dr3": dr3_catalogue, "dr4": dr4_catalogue}
