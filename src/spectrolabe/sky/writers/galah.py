"""GALAH: the reduced spectra of DR4, a file for each CCD, and the catalogue of DR4.

Layout: reduction 6.0 as released with DR4 (Kos et al. 2017, MNRAS 464, 1259; Buder et al. 2025,
PASA 42, e051): counts on a linear scale of wavelengths in air, relative errors, and the measured
width of the line-spread function.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from spectrolabe.sky.observing import Reason
from spectrolabe.sky.places import barycentric_correction, calendar, sexagesimal
from spectrolabe.sky.writers import Observed
from spectrolabe.sky.writers.blocks import Card, cards, image, primary, table, write_bytes
from spectrolabe.sky.writers.reduction import (
    SIMULATED,
    error_of,
    exposures_of,
    finite,
    flag_bits,
    index_of,
    pseudo_continuum,
    value,
)
from spectrolabe.spectra.wavelength import vacuum_to_air

if TYPE_CHECKING:
    from spectrolabe.sky.observing import Exposure

__all__ = ["write", "write_labels"]

CATALOGUE = "galah_dr4_allstar_240705.fits"
COLOURS = {1: "BL", 2: "GN", 3: "RD", 4: "IR"}
FIBRES = 392
SP_BITS = {  # of flag_sp
    name: 1 << i
    for i, name in enumerate(
        (
            *("EMISSION", "CCD_MISSING", "BINARY_SB1", "BINARY_SB2", "HIGH_CHI2", "VSINI", "VMIC"),
            *("TRIPLE", "TEFF", "LOGG", "IRON", "LOW_SNR", "NOT_CONVERGED", "EXTRAPOLATED"),
            "NO_RESULT",
        )
    )
}
ELEMENTS = (
    *("li", "c", "n", "o", "na", "mg", "al", "si", "k", "ca", "sc", "ti", "v", "cr", "mn", "co"),
    *("ni", "cu", "zn", "rb", "sr", "y", "zr", "mo", "ru", "ba", "la", "ce", "nd", "sm", "eu"),
)


def write(folder: Path, observed: Sequence[Observed], batch: int) -> Table:
    """Write four files for every exposure: ``<night>/<sobject_id><ccd>.fits``."""
    return index_of([row for one in exposures_of(observed) for row in _write(folder, *one)])


def _write(folder: Path, star: Observed, exposure: Exposure, visit: int) -> list[dict[str, object]]:
    night = calendar(exposure.mjd)[2:10].replace("-", "")
    run, fibre = divmod(star.running[visit - 1], FIBRES)
    sobject = f"{night}{run + 1:04d}01{fibre + 1:03d}"
    (folder / night).mkdir(parents=True, exist_ok=True)
    snr = {i: arm.snr for i, arm in enumerate(exposure.arms, start=1)}
    shared = {
        "number": star.number,
        "entry": sobject,
        "visit": visit,
        "snr": exposure.snr,
        "rv_pipeline": exposure.rv_measured,
        "rv_err": exposure.rv_error,
        "sobject_id": int(sobject),
        "mjd": exposure.mjd,
        "tmass_id": _tmass(star),
        "gaia": star.target.gaia_dr3_source_id,
        "ra": star.target.ra,
        "dec": star.target.dec,
        "g_mag": star.target.magnitudes["G"],
        "ebv": star.target.ebv,
        **{f"snr{i}": snr.get(i, np.nan) for i in COLOURS},
    }
    rows = []
    for ccd in range(1, len(exposure.arms) + 1):
        name = f"{sobject}{ccd}"
        write_bytes(
            folder / night / f"{name}.fits", _file(star, exposure, ccd, fibre + 1, snr[ccd])
        )
        rows.append({**shared, "path": f"{night}/{name}.fits", "spectrum_id": name})
    return rows


def _file(star: Observed, exposure: Exposure, ccd: int, fibre: int, snr: float) -> bytes:
    arm = exposure.arms[ccd - 1]
    scale, air = _linear_scale(arm.wavelength)
    good = (arm.ivar > 0) & (arm.flux > 0)
    flux = np.where(np.isfinite(arm.flux), arm.flux, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.where(good, 1.0 / (np.sqrt(arm.ivar) * arm.flux), 0.0)
    telluric = np.where((arm.mask & int(Reason.TELLURIC)) != 0, 0.9, 1.0)
    fwhm = air / np.broadcast_to(arm.resolution, air.shape)
    layers = {
        "normalized": flux / pseudo_continuum(flux, good),
        "relative_error": relative,
        "sky": np.nan_to_num(arm.sky),
        "teluric": telluric,
        "scattered": np.zeros(air.size),
        "cross_talk": np.zeros(air.size),
        "resolution_profile": fwhm,
    }
    extension = cards(scale)
    head = cards(_header(star, exposure, ccd, fibre, snr, float(np.median(fwhm))))
    return primary(head + extension, flux.astype("f4")) + b"".join(
        image(values.astype("f4"), extension, name) for name, values in layers.items()
    )


def _linear_scale(wavelength: NDArray) -> tuple[list[Card], NDArray]:
    """The cards of a linear scale in air, and the wavelengths in air.

    Raises
    ------
    ValueError
        If the pixels are not equidistant in air to a thousandth of a pixel.
    """
    air = vacuum_to_air(wavelength)
    step = float((air[-1] - air[0]) / (air.size - 1))
    linear = air[0] + step * np.arange(air.size)
    if np.max(np.abs(linear - air)) > 1e-3 * step:
        raise ValueError("the pixels of a CCD of GALAH are equidistant in air")
    return [
        ("WCSDIM", 1),
        ("CTYPE1", "LINEAR"),
        ("CUNIT1", "angstroms"),
        ("CRVAL1", float(air[0])),
        ("CDELT1", step),
        ("CD1_1", step),
        ("CRPIX1", 1.0),
        ("BUNIT", "counts"),
    ], air


def _header(
    star: Observed, exposure: Exposure, ccd: int, fibre: int, snr: float, fwhm: float
) -> list[Card]:
    known = np.isfinite(exposure.rv_measured)
    target = star.target
    correction = barycentric_correction(target.ra, target.dec, exposure.mjd)
    return [
        ("ORIGIN", "IRAF reduction pipeline", "FITS file originator"),
        ("COMMENT", SIMULATED),
        ("EXPOSED", exposure.exposure_time, "Total exposure time of all combined spectra"),
        ("SPECTID", COLOURS[ccd], "Spectrograph ID"),
        ("TELESCOP", "Anglo-Australian Telescope", "Telescope Name"),
        ("ALT_OBS", 1164, "Altitude of observatory in metres"),
        ("LAT_OBS", -31.27704, "Observatory latitude in degrees"),
        ("LONG_OBS", 149.0661, "Observatory longitude in degrees"),
        ("RADECSYS", "FK5", "FK5 reference system"),
        ("EQUINOX", 2000.0, "J2000 equinox"),
        ("INSTRUME", "HERMES-2dF", "Instrument in use"),
        ("SLITMASK", "OUT", "Slit mask"),
        ("OBJECT", _tmass(star), "Name of the object"),
        ("UTDATE", calendar(exposure.mjd)[:10].replace("-", ":"), "UT date"),
        ("UTMJD", exposure.mjd, "Modified Julian Date (UTC)"),
        ("BARYEFF", correction, "Barycentric velocity correction in km/s"),
        ("SNR", round(finite(snr, 0.0), 3), "Average SNR of the final spectrum"),
        ("RES", round(fwhm, 6), "Average resolution (FWHM in Angstroms)"),
        ("RA_OBJ", target.ra, "RA of object in degrees"),
        ("DEC_OBJ", target.dec, "DEC of object in degrees"),
        ("APERTURE", fibre, "aperture number (1-392, in image)"),
        ("PIVOT", fibre, "pivot number (1-400, in 2dF)"),
        ("MAG", round(target.magnitudes["G"], 2), "magnitude from the .fld file"),
        ("PIPE_VER", "6.0", "IRAF reduction pipeline version"),
        ("RV", finite(exposure.rv_measured, 0.0), "radial velocity (one arm) in km/s"),
        ("E_RV", finite(exposure.rv_error, 0.0), "radial velocity uncertainty in km/s"),
        ("RV_OK", int(known), "Did RV pipeline converge? 1=yes, 0=no"),
        ("RVCOM", finite(exposure.rv_measured, 0.0), "Combined radial velocity in km/s"),
        ("E_RVCOM", finite(exposure.rv_error, 0.0), "radial velocity uncertainty in km/s"),
        ("RVCOM_OK", int(known), "Did RV pipeline converge? 1=yes, 0=no"),
        ("TEFF", "None", "T_eff in K"),
        ("LOGG", "None", "log g in log cm/s^2"),
        ("MET", "None", "Metallicity in dex"),
        ("PAR_OK", "None", "Are parameters trustworthy? 1=yes, 0=no"),
        ("WAV_OK", 1, "Is wav. solution OK? 1=yes, 0=no"),
        ("TRACE_OK", 1, "Is aperture trace OK? 1=yes, 0=no"),
        ("LSF", "exp(-0.693147|2x/fwhm|^B)", "Line spread function"),
        ("B", 2.0, "Boxiness parameter for LSF"),
        ("NCOMBINE", 3),
    ]


def _tmass(star: Observed) -> str:
    return sexagesimal(star.target.ra, star.target.dec).replace(".", "")


def _flags(labels: Table) -> NDArray:
    return flag_bits(labels, SP_BITS).astype("i4")


def _element_flag(labels: Table, element: str) -> NDArray:
    """2, not detectable, where there is no abundance."""
    return np.where(np.isfinite(value(labels, f"{element}_fe")), 0, 2).astype("i4")


def write_labels(folder: Path, index: Table, labels: Table) -> Path:
    """Write the columns of galah_dr4_allstar, NaN where there is no value."""
    columns: dict[str, NDArray] = {
        "sobject_id": np.asarray(index["sobject_id"], "i8"),
        "tmass_id": np.asarray(index["tmass_id"]),
        "gaiadr3_source_id": np.asarray(index["gaia"], "i8"),
        "survey_name": np.full(len(index), "galah_main"),
        "field_id": np.asarray(index["sobject_id"], "i8") // 100000 % 10000,
        "setup": np.full(len(index), "allstar"),
        "mjd": np.asarray(index["mjd"]),
        "ra": np.asarray(index["ra"]),
        "dec": np.asarray(index["dec"]),
        "flag_sp": _flags(labels),
        "flag_red": np.zeros(len(index), "i4"),
        **{f"snr_px_ccd{i}": np.asarray(index[f"snr{i}"], "f4") for i in COLOURS},
        "rv_comp_1": np.asarray(index["rv_pipeline"], "f8"),
        "e_rv_comp_1": np.asarray(index["rv_err"], "f8"),
        "rv_comp_nr": np.ones(len(index), "i4"),
        "ebv": np.asarray(index["ebv"], "f4"),
        "phot_g_mean_mag": np.asarray(index["g_mag"], "f4"),
    }
    for column, name in {"teff": "teff", "logg": "logg", "vmic": "v_micro"}.items():
        columns[column] = value(labels, name).astype("f4")
        columns[f"e_{column}"] = error_of(labels, name).astype("f4")
    for column, name in {"vsini": "v_broad", "age": "age", "fe_h": "fe_h"}.items():
        columns[column] = value(labels, name).astype("f4")
        columns[f"e_{column}"] = error_of(labels, name).astype("f4")
    columns["flag_fe_h"] = np.zeros(len(index), "i4")
    for x in ELEMENTS:
        columns[f"{x}_fe"] = value(labels, f"{x}_fe").astype("f4")
        columns[f"e_{x}_fe"] = error_of(labels, f"{x}_fe").astype("f4")
        columns[f"flag_{x}_fe"] = _element_flag(labels, x)
    path = folder / CATALOGUE
    write_bytes(path, primary() + table(columns, "galah_dr4"))
    return path
