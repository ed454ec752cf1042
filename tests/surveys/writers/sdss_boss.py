"""spec files of SDSS-III/IV and SDSS-V by their data models, and ssppOut of the SSPP."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import Table
from numpy.typing import NDArray

from tests.surveys.writers import Case, Expected, LabelCase

FORBIDDEN = (18, 22, 23, 24)
HARMLESS = (0, 7, 16, 17, 19, 20, 21, 25, 26, 27, 28)
C = 299792.458


def _pixels(
    rng: np.random.Generator, loglam: NDArray, resolution: float
) -> tuple[dict[str, NDArray], NDArray]:
    n = len(loglam)
    mask = np.zeros(n, dtype="i4")
    flux, ivar = rng.normal(50, 1, n).astype("f4"), np.full(n, 1.0, dtype="f4")
    for k, bit in enumerate(FORBIDDEN):
        mask[100 + k] = 2**bit
    for k, bit in enumerate(HARMLESS):
        mask[200 + k] = 2**bit
    mask[300] = 2**23 + 2**16
    ivar[:10], ivar[310], flux[311] = 0, np.nan, np.nan
    usable = ivar.copy()
    usable[[*range(100, 100 + len(FORBIDDEN)), 300, 310, 311]] = 0
    sigma = 1 / (2.354820045 * resolution) / (np.log(10) * 1e-4)  # in pixels of 1e-4 dex
    columns = {
        "flux": flux,
        "loglam": loglam.astype("f4"),
        "ivar": ivar,
        "and_mask": mask,
        "or_mask": np.full(n, 2**25 + 2**28, dtype="i4"),  # of one exposure; must not count
        "wdisp": np.full(n, sigma, dtype="f4"),
        "sky": np.ones(n, dtype="f4"),
        "model": np.full(n, 50, dtype="f4"),
    }
    return columns, usable


def _hdu(columns: dict[str, NDArray], name: str) -> fits.BinTableHDU:
    hdu = fits.BinTableHDU(Table(columns))
    hdu.name = name
    return hdu


def sdss4(folder: Path, rng: np.random.Generator) -> Case:
    """Names in lower case, R by WDISP (missing in some pixels), single exposures after the sum."""
    loglam = 3.5516 + 1e-4 * np.arange(4000)
    columns, usable = _pixels(rng, loglam, 1900.0)
    columns["wdisp"][50:60] = 0
    header = fits.Header()
    header["TELESCOP"], header["VERS2D"], header["RUN2D"] = "SDSS 2.5-M", "v5_13_2", "v5_13_2"
    header["PLATEID"], header["MJD"], header["FIBERID"] = 3586, 55181, 220
    header["THING_ID"], header["PLUG_RA"], header["PLUG_DEC"] = 80010542, 8.2, -0.7
    header["BUNIT"], header["HELIO_RV"] = "1E-17 erg/cm^2/s/Ang", 29.5
    source = {"SURVEY": ["boss  "], "SN_MEDIAN": np.ones((1, 5), "f4"), "Z": np.float32([2e-4])}
    source |= {"CLASS": ["STAR  "], "ZWARNING": np.int32([0]), "SPECOBJID": np.uint64([2**63 + 5])}
    exposure = {key: columns[key][:500] for key in ("flux", "loglam", "ivar", "wdisp")}
    path = folder / "spec-3586-55181-0220.fits"
    hdus = [_hdu(columns, "COADD"), _hdu(source, "SPALL"), _hdu(exposure, "B1-00104927")]
    fits.HDUList([fits.PrimaryHDU(header=header), *hdus]).writeto(path)
    expected = Expected(
        10**loglam, columns["flux"], usable, 1900, "barycentric", 2e-4 * C, "THING_ID 80010542"
    )
    return Case(path, "sdss_boss", [expected], wavelength_tolerance=6e-3)


def sdss5(folder: Path, rng: np.random.Generator) -> Case:
    """Names in upper case, WRESL the FWHM in Å, a star known by SDSS_ID, a doubtful redshift."""
    loglam = 3.5523 + 1e-4 * np.arange(4648)
    columns, usable = _pixels(rng, loglam, 5000.0)  # WDISP is not to be used where WRESL is
    columns["wresl"] = (10**loglam / 2100).astype("f4")
    header = fits.Header()
    header["TELESCOP"], header["OBSERVAT"], header["VERS2D"] = "SDSS 2.5-M", "APO", "v6_1_3"
    header["RUN2D"], header["FIELDID"], header["MJD"] = "v6_1_3", "112360", 60000
    source = {
        "FIELD": np.int64([112360]),
        "CLASS": ["STAR"],
        "Z": np.float32([3e-4]),
        "ZWARNING": np.int64([4]),
        "CATALOGID": np.int64([27021598150202075]),
        "SDSS_ID": np.int64([56750000]),
    }
    path = folder / "spec-112360-60000-27021598150202075.fits"
    upper = {key.upper(): values for key, values in columns.items()}
    hdus = [_hdu(upper, "COADD"), _hdu(source, "SPALL")]
    fits.HDUList([fits.PrimaryHDU(header=header), *hdus]).writeto(path)
    expected = Expected(
        10**loglam, columns["flux"], usable, 2100, "barycentric", star_id="56750000"
    )
    return Case(path, "sdss_boss", [expected], wavelength_tolerance=6e-3)


SPECTRA = {"sdss4": sdss4, "sdss5": sdss5}


def sspp(folder: Path, rng: np.random.Generator) -> LabelCase:
    """ssppOut: every row from the second on fails one condition of the cut."""
    nan = np.nan
    table = Table(
        {
            "PLATE": np.array([266, 1960, 1960, 1960], dtype="i2"),
            "MJD": [51602, 53289, 53289, 53289],
            "FIBER": np.array([5, 101, 102, 640], dtype="i2"),
            "FLAG": ["nnnnn", "nnBnn", "nnnnn", "nnnnn"],
            "TEFF_ADOP": [5800.0, 9000.0, 6100.0, -9999.0],
            "TEFF_ADOP_UNC": [60.0, 200.0, 70.0, -9999.0],
            "LOGG_ADOP": [4.3, 3.9, 3.5, -9999.0],
            "LOGG_ADOP_UNC": [0.2, 0.3, 0.2, -9999.0],
            "FEH_ADOP": [-0.4, -1.0, -2.1, -9999.0],
            "FEH_ADOP_UNC": [0.05, 0.1, 0.1, -9999.0],
            "AFE": [0.2, 0.3, -9999.0, -9999.0],
            "AFE_UNC": [0.06, 0.1, -9999.0, -9999.0],
            "RV_ADOP": [-120.0, 4.0, 210.0, -9999.0],
            "SNR": [45.0, 50.0, 12.0, 30.0],
        }
    )
    path = folder / "ssppOut-dr12.fits"
    table.write(path)
    return LabelCase(
        path,
        "sdss_boss",
        labels={
            "teff": [5800.0, 9000.0, 6100.0, nan],
            "logg": [4.3, 3.9, 3.5, nan],
            "fe_h": [-0.4, -1.0, -2.1, nan],
            "alpha_fe": [0.2, 0.3, nan, nan],
        },
        sigma={"teff": [60.0, 200.0, 70.0, nan], "alpha_fe": [0.06, 0.1, nan, nan]},
        good=[True, False, False, False],
        keys={
            "spectrum_id": [
                "0266-51602-0005", "1960-53289-0101", "1960-53289-0102", "1960-53289-0640"
            ]
        },
    )  # fmt: skip


LABELS = {"sspp": sspp}
