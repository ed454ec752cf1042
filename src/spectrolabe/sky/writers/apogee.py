"""APOGEE: apStar files, with both co-adds and every visit, and the catalogue allStar of DR17.

Layout: SDSS data model, ``APOGEE_REDUX/APRED_VERS/stars/TELESCOPE/FIELD/apStar`` and
``allStar-dr17-synspec_rev1``; bits of APOGEE_PIXMASK, APOGEE_STARFLAG and APOGEE_ASPCAPFLAG
(www.sdss4.org/dr17/irspec/apogee-bitmasks).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from spectrolabe.sky.observing import Reason
from spectrolabe.sky.places import barycentric_correction, calendar, galactic, sexagesimal
from spectrolabe.sky.writers import Observed
from spectrolabe.sky.writers.blocks import Card, image, primary, table, write_bytes
from spectrolabe.sky.writers.reduction import (
    SIMULATED,
    combined,
    error_of,
    finite,
    flag_bits,
    index_of,
    mask_bits,
    mean_velocity,
    value,
)

if TYPE_CHECKING:
    from spectrolabe.sky.observing import Exposure

__all__ = ["write", "write_labels"]

CATALOGUE = "allStar-dr17-synspec_rev1.fits"
FIRST, STEP, PIXELS = 4.179, 6e-6, 8575
NO_DATA = 1e10  # the error of a pixel without any
BADPIX, CRPIX, SATPIX = 1 << 0, 1 << 1, 1 << 2
SIG_SKYLINE, SIG_TELLURIC = 1 << 12, 1 << 13
HARD = {
    Reason.COSMIC: CRPIX,
    Reason.BAD_COLUMN: BADPIX,
    Reason.SATURATED: SATPIX,
}
SOFT = {Reason.TELLURIC: SIG_TELLURIC, Reason.SKY_LINE: SIG_SKYLINE}
SKYLINE_ERROR = 10.0  # times up: DR17 gives pixels at sky lines a hundredth of their weight
LOW_SNR = 1 << 4  # of STARFLAG, below 5
ASPCAP_BITS = {  # of ASPCAPFLAG
    **{f"{name}_WARN": 1 << i for i, name in enumerate(("TEFF", "LOGG", "VMICRO", "M_H"))},
    **{"STAR_WARN": 1 << 7, "CHI2_WARN": 1 << 8, "ROTATION_WARN": 1 << 10, "SN_WARN": 1 << 11},
    **{f"{name}_BAD": 1 << i for i, name in enumerate(("TEFF", "LOGG", "VMICRO", "M_H"), start=16)},
    **{"STAR_BAD": 1 << 23, "CHI2_BAD": 1 << 24, "ROTATION_BAD": 1 << 26, "SN_BAD": 1 << 27},
    "NO_ASPCAP_RESULT": 1 << 31,
}
GRID: list[Card] = [
    ("CRVAL1", FIRST, "Start log10(wavelength) in subsequent HDUs"),
    ("CDELT1", STEP, "Dispersion in log10(wavelength) in subsequent HD"),
    ("CRPIX1", 1, "Pixel of starting wavelength in subsequent HDUs"),
    ("CTYPE1", "LOG-LINEAR", "Logarithmic wavelength scale in subsequent HDUs"),
    ("DC-FLAG", 1, "Logarithmic wavelength scale in subsequent HDUs"),
]
UNIT = "(10^-17 erg/s/cm^2/Ang)"
ELEMENTS = (
    *("c", "n", "o", "na", "mg", "al", "si", "p", "s", "k", "ca", "ti", "v", "cr", "mn"),
    *("co", "ni", "cu", "ce"),
)


@dataclass(frozen=True)
class _Visit:
    """One exposure on the common grid, arrays of shape (8575,)."""

    flux: NDArray
    error: NDArray
    mask: NDArray
    sky: NDArray


def write(folder: Path, observed: Sequence[Observed], batch: int) -> Table:
    """Write a file for every star: ``stars/apo25m/<field>/apStar-dr17-<2MASS>.fits``."""
    return index_of([row for star in observed for row in _write(folder, star)])


def _write(folder: Path, star: Observed) -> list[dict[str, object]]:
    target, exposures = star.target, star.exposures
    name = "2M" + sexagesimal(target.ra, target.dec).replace(".", "")
    longitude, latitude = galactic(target.ra, target.dec)
    field = f"{round(longitude / 4) * 4 % 360:03d}{round(latitude / 4) * 4:+03d}"
    stem = f"apStar-dr17-{name}"
    visits = [_on_grid(exposure.arms) for exposure in exposures]
    header = _header(star, name, field)
    path = folder / "stars" / "apo25m" / field / f"{stem}.fits"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, _content(header, visits, _velocities(star)))
    snr = [one.snr for one in exposures]
    shared = {
        "number": star.number,
        "path": path.relative_to(folder).as_posix(),
        "entry": name,
        "field": field,
        "ra": target.ra,
        "dec": target.dec,
        "glon": longitude,
        "glat": latitude,
        **{band: target.magnitudes[band] for band in ("J", "H", "K", "G", "BP", "RP")},
        "gaia": target.gaia_dr3_source_id,
        "parallax": target.parallax,
        "parallax_error": target.parallax_error,
        "nvisits": len(exposures),
        "entry_snr": combined(snr),
        "entry_rv": mean_velocity(exposures),
        "vscatter": _scatter(exposures),
        "starflag": LOW_SNR if min(snr) < 5.0 else 0,
    }
    found = [("combined", 0, combined(snr), mean_velocity(exposures))]
    if len(exposures) > 1:
        found.append(("combined_global", 0, combined(snr), mean_velocity(exposures)))
        found += [
            (f"visit{i}", i, one.snr, one.rv_measured) for i, one in enumerate(exposures, start=1)
        ]
    return [
        {**shared, "spectrum_id": f"{stem}:{row}", "visit": visit, "snr": s, "rv_pipeline": rv}
        for row, visit, s, rv in found
    ]


def _on_grid(arms: Sequence) -> _Visit:
    """Place the pixels of all arms on the grid that apStar files share."""
    flux, sky = np.zeros(PIXELS), np.zeros(PIXELS)
    error, mask = np.full(PIXELS, NO_DATA), np.full(PIXELS, BADPIX, dtype=np.int64)
    for arm in arms:
        place = (np.log10(arm.wavelength) - FIRST) / STEP
        pixel = np.rint(place).astype(int)
        if np.max(np.abs(place - pixel)) > 0.01 or pixel[0] < 0 or pixel[-1] >= PIXELS:
            raise ValueError("the pixels of APOGEE are those of the grid of apStar files")
        good = arm.ivar > 0
        flux[pixel] = np.where(np.isfinite(arm.flux), arm.flux, 0.0)
        with np.errstate(divide="ignore"):
            error[pixel] = np.where(good, np.asarray(arm.ivar, dtype=float) ** -0.5, NO_DATA)
        mask[pixel] = mask_bits(arm.mask, arm.ivar, HARD, SOFT, BADPIX)
        sky[pixel] = np.nan_to_num(arm.sky)
    error[((mask & SIG_SKYLINE) != 0) & (error < NO_DATA)] *= SKYLINE_ERROR
    return _Visit(flux, error, mask, sky)


def _content(header: list[Card], visits: Sequence[_Visit], velocities: dict[str, NDArray]) -> bytes:
    flux, error, mask, sky = (
        np.stack([getattr(one, name) for one in visits])
        for name in ("flux", "error", "mask", "sky")
    )
    if len(visits) > 1:
        pixelwise, whole = _coadd(flux, error, mask)
        flux = np.vstack([pixelwise[0], whole[0], flux])
        error = np.vstack([pixelwise[1], whole[1], error])
        every, none = np.bitwise_and.reduce(mask, axis=0), np.zeros(PIXELS, dtype=np.int64)
        mask = np.vstack([every, none, mask])
        sky = np.vstack([sky.mean(axis=0), sky.mean(axis=0), sky])
    telluric = np.where((mask & SIG_TELLURIC) != 0, 0.8, 1.0)
    layers = (
        (flux.astype("f4"), f"Flux {UNIT}"),
        (error.astype("f4"), f"Error {UNIT}"),
        (mask.astype("i2"), "Flag Mask (bitwise)"),
        (sky.astype("f4"), f"Sky {UNIT}"),
        (np.sqrt(np.maximum(sky, 0.0)).astype("f4"), f"Sky error {UNIT}"),
        (telluric.astype("f4"), "Telluric"),
        (np.full(flux.shape, 0.01, "f4"), "Telluric error"),
    )
    images = [
        image(values if len(visits) > 1 else values[0], [*GRID, ("BUNIT", unit)])
        for values, unit in layers
    ]
    lsf = np.zeros(26)
    lsf[:4] = 1.0, 4096.0, 0.0, 1.0 / (22500.0 * 2.35482 * STEP * np.log(10.0))
    width = [("CTYPE1", "Parameters"), ("BUNIT", "LSF Coefficients")]
    return b"".join((primary(header), *images, image(lsf, width), table(velocities)))


def _coadd(
    flux: NDArray, error: NDArray, mask: NDArray
) -> tuple[tuple[NDArray, NDArray], tuple[NDArray, NDArray]]:
    """Flux and error of the two combinations of visits, shape (V, 8575): by pixel and by visit."""
    there = error < NO_DATA
    level = np.array(
        [np.median(f[t]) if t.any() else 1.0 for f, t in zip(flux, there, strict=True)]
    )
    level = np.where(level > 0, level, 1.0)[:, None]
    weight = np.where(there, (level / error) ** 2, 0.0)
    mean = float(level.mean())
    total = weight.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        pixelwise = np.where(total > 0, mean * (weight * flux / level).sum(axis=0) / total, 0.0)
        sigma = np.where(total > 0, mean / np.sqrt(total), NO_DATA)
        share = np.array([np.median(w[w > 0]) if (w > 0).any() else 0.0 for w in weight])[:, None]
        share = share / share.sum() if share.sum() > 0 else np.full_like(share, 1.0 / len(flux))
        whole = mean * (share * flux / level).sum(axis=0)
        spread = mean * np.sqrt(((share * error / level) ** 2).sum(axis=0))
    every = there.all(axis=0)
    return (pixelwise, sigma), (np.where(every, whole, 0.0), np.where(every, spread, NO_DATA))


def _velocities(star: Observed) -> dict[str, NDArray]:
    """The table of velocities, one row of a value for each visit."""
    target, exposures = star.target, star.exposures
    columns = {
        "JD": [one.mjd + 2400000.5 for one in exposures],
        "SNR": [one.snr for one in exposures],
        "VHELIO": [one.rv_measured for one in exposures],
        "VRELERR": [one.rv_error for one in exposures],
        "BC": [barycentric_correction(target.ra, target.dec, one.mjd) for one in exposures],
    }
    columns["VREL"] = [v - c for v, c in zip(columns["VHELIO"], columns["BC"], strict=True)]
    return {name: np.array([values]) for name, values in columns.items()}


def _scatter(exposures: Sequence) -> float:
    known = [one.rv_measured for one in exposures if np.isfinite(one.rv_measured)]
    return float(np.std(known, ddof=1)) if len(known) > 1 else 0.0


def _header(star: Observed, name: str, field: str) -> list[Card]:
    target, exposures = star.target, star.exposures
    longitude, latitude = galactic(target.ra, target.dec)
    velocity = finite(mean_velocity(exposures), 999999.0)
    errors = [one.rv_error for one in exposures if np.isfinite(one.rv_error)]
    verr = float(np.sum(np.array(errors) ** -2.0) ** -0.5) if errors else 999999.0
    snr = [one.snr for one in exposures]
    flags = [LOW_SNR if one < 5.0 else 0 for one in snr]
    head: list[Card] = [
        ("COMMENT", SIMULATED),
        ("OBJID", name, "Object ID"),
        *((band, round(target.magnitudes[band], 3), f"2MASS {band} magnitude") for band in "JHK"),
        ("SURVEY", "apogee2", "Survey name (for targeting flags)"),
        ("TELESCOP", "apo25m", "Telescope"),
        ("LOCID", 5000 + star.number // 250, "LocationID"),
        ("FIELD", field, "Field name"),
        ("RA", target.ra, "right ascension, deg, J2000"),
        ("DEC", target.dec, "declination, deg, J2000"),
        ("GLON", longitude, "galactic longitude, deg, J2000"),
        ("GLAT", latitude, "galactic latitude, deg, J2000"),
        ("NVISITS", len(exposures), "number of visit spectra combined"),
        ("VRAD", 0.0, "Doppler shift (km/s) of this spectrum"),
        ("VHELIO", velocity, "mean heliocentric velocity (km/s)"),
        ("VSCATTER", _scatter(exposures), "STDEV of VHELIO (km/s)"),
        ("VERR", verr, "weighted error in VHELIO (km/s)"),
        ("SNR", round(combined(snr), 4), "final median Signal/Noise ratio"),
        ("STARFLAG", int(np.bitwise_or.reduce(flags)), "bitwise OR of individual visit starflags"),
        ("ANDFLAG", int(np.bitwise_and.reduce(flags)), "bitwise AND of individual visit starflags"),
        ("MEANFIB", float(1 + star.number % 300), "S/N weighted mean fiber number"),
    ]
    for i, (exposure, flag) in enumerate(zip(exposures, flags, strict=True), start=1):
        head += _visit_cards(star, exposure, i, flag)
    head.append(("NWAVE", PIXELS, "Number of wavelengths in subsequent HDUs"))
    head += GRID
    head += [("HISTORY", f"APSTAR: {line}") for line in HISTORY]
    return head


HISTORY = (
    *(
        "APOGEE Reduction Pipeline Version: dr17",
        "HDU0 = Header only",
        "HDU1 - Flux",
        "HDU2 - Error",
    ),
    *("HDU3 - Flag mask", "HDU4 - Sky", "HDU5 - Sky Error", "HDU6 - Telluric"),
    *("HDU7 - Telluric Error", "HDU8 - LSF coefficients", "HDU9 - RV structure"),
    *("row 1: combined spectrum with individual pixel weighting",),
    *("row 2: combined spectrum with global weighting",),
    *("row 3-nvisits+2: individual resampled visit spectra",),
    *("All spectra shifted to rest (vacuum) wavelength scale",),
)


def _visit_cards(star: Observed, exposure: Exposure, i: int, flag: int) -> list[Card]:
    target, mjd = star.target, exposure.mjd
    rv, error, snr = exposure.rv_measured, exposure.rv_error, exposure.snr
    correction = barycentric_correction(target.ra, target.dec, mjd)
    plate, fibre = 5000 + star.running[i - 1] // 300, 1 + star.running[i - 1] % 300
    failed = 999999.0
    return [
        ("COMMENT", f"VISIT {i} INFORMATION:"),
        (f"SFILE{i}", f"apVisit-dr17-{plate}-{int(mjd)}-{fibre:03d}.fits", f"Visit #{i} file"),
        (f"DATE{i}", calendar(mjd), f"DATE-OBS of visit {i}"),
        (f"JD{i}", mjd + 2400000.5, f"Julian date of visit {i}"),
        (f"FIBER{i}", fibre, f"Fiber, visit {i}"),
        (f"BC{i}", correction, f"Barycentric correction (km/s),visit {i}"),
        (f"VRAD{i}", finite(rv - correction, failed), f"Doppler shift (km/s) of visit {i}"),
        (f"VERR{i}", finite(error, failed), "error in VRAD (km/s)"),
        (f"VHELIO{i}", finite(rv, failed), f"Heliocentric velocity (km/s), visit {i}"),
        (f"SNRVIS{i}", round(snr, 4), f"Signal/Noise ratio, visit {i}"),
        (f"FLAG{i}", flag, f"STARFLAG for visit {i}"),
    ]


def write_labels(folder: Path, index: Table, labels: Table) -> Path:
    """Write the columns of allStar, NaN where there is no value, and its index of elements."""
    count = len(index)
    files = [str(path).rsplit("/", 1)[-1] for path in index["path"]]
    names = np.asarray(index["entry"]).astype(str)
    ids = zip(index["field"], names, strict=True)
    columns: dict[str, NDArray] = {
        "FILE": np.array(files, dtype=str),
        "APOGEE_ID": names,
        "APSTAR_ID": np.array([f"apogee.apo25m.stars.{f}.{n}" for f, n in ids], dtype=str),
        "TELESCOPE": np.full(count, "apo25m"),
        "FIELD": np.asarray(index["field"]).astype(str),
        **{name: np.asarray(index[name.lower()]) for name in ("RA", "DEC", "GLON", "GLAT")},
        **{band: np.asarray(index[band], "f4") for band in "JHK"},
        "GAIAEDR3_SOURCE_ID": np.asarray(index["gaia"], "i8"),
        "GAIAEDR3_PARALLAX": np.asarray(index["parallax"]),
        "GAIAEDR3_PARALLAX_ERROR": np.asarray(index["parallax_error"], "f4"),
        **{
            f"GAIAEDR3_PHOT_{band}_MEAN_MAG": np.asarray(index[band], "f4")
            for band in ("G", "BP", "RP")
        },
        "NVISITS": np.asarray(index["nvisits"], "i4"),
        "SNR": np.asarray(index["entry_snr"], "f4"),
        "VHELIO_AVG": np.asarray(index["entry_rv"], "f4"),
        "VSCATTER": np.asarray(index["vscatter"], "f4"),
        "EXTRATARG": np.zeros(count, "i4"),
        "STARFLAG": np.asarray(index["starflag"], "i8"),
        "ANDFLAG": np.zeros(count, "i8"),
        "ASPCAPFLAG": flag_bits(labels, ASPCAP_BITS),
    }
    for column, name in {
        "TEFF": "teff",
        "LOGG": "logg",
        "M_H": "m_h",
        "ALPHA_M": "alpha_m",
    }.items():
        columns[column] = value(labels, name).astype("f4")
        columns[f"{column}_ERR"] = error_of(labels, name).astype("f4")
    columns["VMICRO"] = value(labels, "v_micro").astype("f4")
    columns["VSINI"] = value(labels, "v_broad").astype("f4")
    for name in ("fe_h", *(f"{x}_fe" for x in ELEMENTS)):
        columns[name.upper()] = value(labels, name).astype("f4")
        columns[f"{name.upper()}_ERR"] = error_of(labels, name).astype("f4")
        columns[f"{name.upper()}_FLAG"] = np.zeros(count, "i4")
    symbols = {
        "PARAM_SYMBOL": np.array(
            [["TEFF", "LOGG", "LOG10VDOP", "METALS", "C", "N", "ALPHA"]], "S16"
        ),
        "ELEM_SYMBOL": np.array([[x.capitalize() for x in ("fe", *ELEMENTS)]], "S4"),
    }
    path = folder / CATALOGUE
    head = primary([("COMMENT", SIMULATED)])
    empty = table({"NOTES": np.zeros(1, "i2")}, "NOTES")
    write_bytes(path, head + table(columns, "ALLSTAR") + empty + table(symbols, "INDEX"))
    return path
