"""LAMOST low resolution: the gzipped files of DR8 to DR10, and the catalogue of A, F, G, K stars.

Layout: data release documents of DR8 and DR10 (www.lamost.org); Luo et al. (2015, RAA 15, 1095).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from spectrolabe.sky.observing import Reason
from spectrolabe.sky.places import barycentric_correction, calendar, sexagesimal
from spectrolabe.sky.writers import Observed, Target
from spectrolabe.sky.writers.blocks import Card, primary, table, write_bytes
from spectrolabe.sky.writers.reduction import (
    SIMULATED,
    band_snr,
    error_of,
    exposures_of,
    finite,
    index_of,
    mask_bits,
    pseudo_continuum,
    value,
)

if TYPE_CHECKING:
    from spectrolabe.sky.observing import Exposure

__all__ = ["write", "write_labels"]

C = 299792.458  # km/s
CATALOGUE = "dr10_v2.0_LRS_stellar.fits"
BADCCD, NODATA = 1, 32
# in the files of DR10 every pixel with a bit has no inverse variance: nothing only informs
HARD = {Reason.COSMIC: BADCCD, Reason.BAD_COLUMN: BADCCD, Reason.SATURATED: BADCCD}
FIBRES, SPECTROGRAPHS = 250, 16
FIRST_OBSID = 1_100_000_001
# colours BP - RP at which the types begin (E. Mamajek's table of dwarfs, version 2022.04.16)
TYPES = (
    *((-1.0, "A0"), (0.20, "A7"), (0.38, "F0"), (0.55, "F4"), (0.67, "F7"), (0.77, "G0")),
    *((0.83, "G3"), (0.87, "G7"), (0.98, "K0"), (1.10, "K3"), (1.40, "K5"), (1.75, "M0")),
)


def write(folder: Path, observed: Sequence[Observed], batch: int) -> Table:
    """Write a file for every exposure: ``<plan>/spec-<lmjd>-<plan>_sp<nn>-<nnn>.fits.gz``."""
    return index_of([_write(folder, *one) for one in exposures_of(observed)])


def _write(folder: Path, star: Observed, exposure: Exposure, visit: int) -> dict[str, object]:
    running = star.running[visit - 1]
    plan, place = divmod(running, FIBRES * SPECTROGRAPHS)
    # neighbours in the running number get fibres far from one another
    spectrograph, fibre = (place % SPECTROGRAPHS) + 1, (place // SPECTROGRAPHS) + 1
    planid = f"HD{1000 + plan:04d}N{(plan * 37) % 90:02d}V01"
    lmjd = int(exposure.mjd + 8.0 / 24.0) + 1  # local days are numbered one higher
    name = f"spec-{lmjd:05d}-{planid}_sp{spectrograph:02d}-{fibre:03d}"
    pixels = _pixels(exposure)
    wavelength, flux, ivar = (pixels[key][0] for key in ("WAVELENGTH", "FLUX", "IVAR"))
    snr = band_snr(wavelength, flux, ivar)
    row = {
        "number": star.number,
        "path": f"{planid}/{name}.fits.gz",
        "spectrum_id": name,
        "entry": str(FIRST_OBSID + running),
        "visit": visit,
        "snr": exposure.snr,
        "rv_pipeline": exposure.rv_measured,
        "rv_err": exposure.rv_error,
        "obsid": FIRST_OBSID + running,
        "lmjd": lmjd,
        "mjd": lmjd - 1,
        "planid": planid,
        "spid": spectrograph,
        "fiberid": fibre,
        "designation": f"J{sexagesimal(star.target.ra, star.target.dec)}",
        "ra": star.target.ra,
        "dec": star.target.dec,
        "gaia_source_id": str(star.target.gaia_dr3_source_id),
        "gaia_g_mean_mag": star.target.magnitudes["G"],
        "subclass": _type(star.target),
        **{f"snr{band}": round(found, 2) for band, found in snr.items()},
    }
    content = primary(_header(row, star.target, exposure, wavelength)) + table(pixels, "COADD")
    path = folder / str(row["path"])
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, content)
    return row


def _pixels(exposure: Exposure) -> dict[str, NDArray]:
    """The six vectors of COADD, each of one row."""
    arm = exposure.arms[0]
    good = arm.ivar > 0
    mask = mask_bits(arm.mask, arm.ivar, HARD, {}, NODATA)
    vectors = {
        "FLUX": np.where(np.isfinite(arm.flux), arm.flux, 0.0),
        "IVAR": np.where(good, arm.ivar, 0.0),
        "WAVELENGTH": arm.wavelength,
        "ANDMASK": mask,
        "ORMASK": mask,
        "NORMALIZATION": arm.flux / pseudo_continuum(arm.flux, good),
    }
    return {key: np.nan_to_num(values).astype("f4")[None] for key, values in vectors.items()}


def _header(
    row: Mapping[str, object], target: Target, exposure: Exposure, wavelength: NDArray
) -> list[Card]:
    middle = calendar(exposure.mjd)
    start = calendar(exposure.mjd - exposure.exposure_time / 172800.0)
    snr: list[Card] = [(f"SNR{b.upper()}", row[f"snr{b}"], f"SNR of {b} filter") for b in "ugriz"]
    size, first = wavelength.size, round(float(np.log10(wavelength[0])), 4)
    magnitudes: list[Card] = [
        (f"MAG_PS_{b.upper()}", round(target.magnitudes[b], 2), "[mag] Magnitude of object")
        for b in "gri"
    ]
    z = {
        "Z": round(finite(exposure.rv_measured / C, -9999.0), 8),
        "Z_ERR": round(finite(exposure.rv_error / C, -9999.0), 8),
    }
    return [
        ("COMMENT", "--------FILE INFORMATION"),
        ("COMMENT", SIMULATED),
        ("FILENAME", f"{row['spectrum_id']}.fits"),
        ("OBSID", row["obsid"], "Unique number ID of this spectrum"),
        ("AUTHOR", "LAMOST Pipeline", "Who compiled the information"),
        ("DATA_V", "LAMOST DR10", "Data release version"),
        ("N_EXTEN", 2, "The amount of extension"),
        ("NORM", 1, "1 if there exists a normalized spectrum"),
        ("ORIGIN", "NAOC-LAMOST", "Organization responsible for creating this file"),
        ("COMMENT", "--------TELESCOPE PARAMETERS"),
        ("TELESCOP", "LAMOST", "GuoShouJing Telescope"),
        ("LONGITUD", 117.58, "[deg] Longitude of site"),
        ("LATITUDE", 40.39, "[deg] Latitude of site"),
        ("COMMENT", "--------OBSERVATION PARAMETERS"),
        ("DATE-OBS", middle, "The observation median UTC"),
        ("DATE-BEG", start, "The observation start local time"),
        ("LMJD", row["lmjd"], "Local Modified Julian Day"),
        ("MJD", row["mjd"], "Modified Julian Day"),
        ("PLANID", row["planid"], "Plan ID in use"),
        ("RA", target.ra, "[deg] Right ascension of object"),
        ("DEC", target.dec, "[deg] Declination of object"),
        ("RA_OBS", target.ra, "[deg] Right ascension during observing"),
        ("DEC_OBS", target.dec, "[deg] Declination during observing"),
        ("OFFSET", False, "Whether there's a offset during observing"),
        ("OFFSET_V", 0.0, "Offset value in arcsecond"),
        ("DESIG", f"LAMOST {row['designation']}", "Designation of LAMOST target"),
        ("FIBERID", row["fiberid"], "Fiber ID of Object"),
        ("OBJNAME", row["gaia_source_id"], "Name of object"),
        ("OBJTYPE", "Star", "Object type from input catalog"),
        ("TSOURCE", "Gaia_DR3", "Name of input catalog"),
        ("FIB_TYPE", "Obj", "Fiber type of object"),
        ("FIB_MASK", 0, "Bitmask of warning values, 0 means good"),
        *magnitudes,
        ("OBS_TYPE", "OBJ", "The type of target (OBJ, FLAT, ARC or BIAS)"),
        ("OBSCOMM", "Science", "Science or Test"),
        ("RADECSYS", "FK5", "Equatorial coordinate system"),
        ("EQUINOX", 2000.0, "Equinox in years"),
        ("LAMPLIST", "lamphgcdne.dat", "Arc lamp emission line list"),
        ("SKYLIST", "skylines.dat", "Sky emission line list"),
        ("NEXP", 3, "Number of valid exposures"),
        ("NEXP_B", 3, "Number of valid blue exposures"),
        ("NEXP_R", 3, "Number of valid red exposures"),
        ("EXPTIME", exposure.exposure_time, "[s] Minimum of exposure time for all cameras"),
        ("COMMENT", "--------SPECTROGRAPH PARAMETERS"),
        ("SPID", row["spid"], "Spectrograph ID"),
        ("SLIT_MOD", "x2/3", "Slit mode, x1, x2/3 or x1/2"),
        ("COMMENT", "--------DATA REDUCTION PARAMETERS"),
        ("EXTRACT", "aperture", "Extraction method"),
        ("SFLATTEN", True, "Super flat has been applied"),
        ("PCASKYSB", True, "PCA sky-subtraction has been applied"),
        ("HELIO", True, "Heliocentric correction"),
        (
            "HELIO_RV",
            round(barycentric_correction(target.ra, target.dec, exposure.mjd), 5),
            "[km/s] Heliocentric correction",
        ),
        ("VACUUM", True, "Wavelengths are in vacuum"),
        ("NWORDER", 2, "Number of linear-log10 coefficients"),
        ("WFITTYPE", "LOG-LINEAR", "Linear-log10 dispersion"),
        ("COEFF0", first, "Central wavelength (log10) of first pixel"),
        ("COEFF1", 0.0001, "Log10 dispersion per pixel"),
        ("CRVAL1", first, "Central wavelength (log10) of first pixel"),
        ("CD1_1", 0.0001, "Log10 dispersion per pixel"),
        ("CRPIX1", 1, "Starting pixel (1-indexed)"),
        ("CTYPE1", "LINEAR"),
        ("DC-FLAG", 1, "Log-linear flag"),
        ("NPIX", size, "Pixels of a vector"),
        ("COMMENT", "--------SPECTRA ANALYSIS RESULTS"),
        ("VERSPIPE", "v2.9.8", "Version of Pipeline"),
        ("CLASS", "STAR", "Class of object"),
        ("SUBCLASS", row["subclass"], "Subclass of object"),
        ("Z", z["Z"], "Redshift of object"),
        ("Z_ERR", z["Z_ERR"], "Redshift error of object"),
        ("ZFLAG", "LASP", "Which method computes the redshift"),
        *snr,
    ]


def _type(target: Target) -> str:
    """A spectral type from the colour alone, as if the star were an unreddened dwarf."""
    colour = target.magnitudes["BP"] - target.magnitudes["RP"]
    return [name for start, name in TYPES if colour >= start or start < 0][-1]


def write_labels(folder: Path, index: Table, labels: Table) -> Path:
    """Write LRS_stellar: labels of LASP, -9999 where there is none."""
    names = {"teff": "teff", "logg": "logg", "feh": "fe_h", "alpha_m": "alpha_m"}
    columns: dict[str, NDArray] = {
        **{name: np.asarray(index[name]) for name in ("obsid", "designation", "lmjd", "mjd")},
        **{name: np.asarray(index[name]) for name in ("planid", "spid", "fiberid")},
        "ra_obs": np.asarray(index["ra"]),
        "dec_obs": np.asarray(index["dec"]),
        **{f"snr{band}": np.asarray(index[f"snr{band}"], dtype="f4") for band in "ugriz"},
        "fibermask": np.zeros(len(index), dtype="i4"),
        "class": np.full(len(index), "STAR"),
        "subclass": np.asarray(index["subclass"]),
        "z": np.nan_to_num(np.asarray(index["rv_pipeline"]) / C, nan=-9999.0),
        "z_err": np.nan_to_num(np.asarray(index["rv_err"]) / C, nan=-9999.0),
        "gaia_source_id": np.asarray(index["gaia_source_id"]),
        "gaia_g_mean_mag": np.asarray(index["gaia_g_mean_mag"], dtype="f4"),
        "ra": np.asarray(index["ra"]),
        "dec": np.asarray(index["dec"]),
    }
    for column, name in names.items():
        columns[column] = value(labels, name, -9999.0).astype("f4")
        columns[f"{column}_err"] = error_of(labels, name, -9999.0).astype("f4")
    columns["rv"] = np.nan_to_num(np.asarray(index["rv_pipeline"]), nan=-9999.0).astype("f4")
    columns["rv_err"] = np.nan_to_num(np.asarray(index["rv_err"]), nan=-9999.0).astype("f4")
    path = folder / CATALOGUE
    write_bytes(path, primary() + table(columns, "LRS_stellar"))
    return path
