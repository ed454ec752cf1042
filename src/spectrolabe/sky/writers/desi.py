"""DESI: co-added spectra of the fibres of a petal on a tile, and the Milky Way Survey catalogue.

Layout: desidatamodel.readthedocs.io, ``tiles/cumulative/TILEID/NIGHT/coadd-PETAL-TILEID-thruNIGHT``
and ``mwsall-pix-iron.fits`` (Koposov et al. 2025, arXiv:2505.14787). Each exposure of a star is on
a tile of its own, so repeats stay apart; the catalogue has one row a target, as the DESI one has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from spectrolabe.sky.observing import Reason
from spectrolabe.sky.places import calendar
from spectrolabe.sky.writers import Observed
from spectrolabe.sky.writers.blocks import Card, image, primary, table, write_bytes
from spectrolabe.sky.writers.reduction import (
    SIMULATED,
    combined,
    error_of,
    flag_bits,
    index_of,
    mask_bits,
    mean_velocity,
    value,
)

if TYPE_CHECKING:
    from spectrolabe.sky.observing import Exposure

__all__ = ["write", "write_labels"]

CATALOGUE = "mwsall-pix-iron.fits"
FLUX_UNIT, IVAR_UNIT = "10**-17 erg/(s cm2 Angstrom)", "10**+34 (s2 cm4 Angstrom2) / erg2"
SURVEY, PROGRAM = "main", "bright"
PETAL_FIBRES = 500
FIRST_TILE, FIRST_TARGET, FIRST_SKY = 20001, 39627500000000000, 616088000000000000
SKY_FIBRES = 3  # of a petal
MOST_VISITS = 16  # of one star: tiles of a batch are numbered apart
DIAGONALS = 11
SIGMA_OF_FWHM = 1.0 / 2.3548200450309493
SOMEBADPIX, COSMIC, NODATA, BADCOLUMN = 1, 4, 256, 1024  # none of them only informs
HARD = {
    Reason.COSMIC: COSMIC,
    Reason.BAD_COLUMN: BADCOLUMN,
    Reason.SATURATED: SOMEBADPIX,
}
MWS_ANY = 1 << 60  # of DESI_TARGET
MWS_MAIN_BLUE = 1 << 8  # of MWS_TARGET
SPTAB_ELEMENTS = ("ca", "c", "mg")  # after iron
WARNINGS = {"CHI2": 1, "RV": 2, "RVERR": 4, "PARAM": 8}


def write(folder: Path, observed: Sequence[Observed], batch: int) -> Table:
    """Write a file for the first exposures of the stars, one for the second ones, and so on.

    A file holds one petal, 500 fibres.
    """
    rows: list[dict[str, object]] = []
    for visit in range(1, 1 + max((len(star.exposures) for star in observed), default=0)):
        seen = [star for star in observed if len(star.exposures) >= visit]
        tile = FIRST_TILE + batch * MOST_VISITS + visit - 1
        for petal, start in enumerate(range(0, len(seen), PETAL_FIBRES)):
            rows += _write(folder, seen[start : start + PETAL_FIBRES], visit, tile, petal)
    return index_of(rows)


def _write(
    folder: Path, seen: Sequence[Observed], visit: int, tile: int, petal: int
) -> list[dict[str, object]]:
    recorded = [star.exposures[visit - 1] for star in seen]
    blank = recorded[:: max(len(recorded) // SKY_FIBRES, 1)][:SKY_FIBRES]
    rng = np.random.default_rng([tile, petal])
    exposures = [*recorded, *(_of_the_sky(exposure, rng) for exposure in blank)]
    targets = np.array(
        [
            *(FIRST_TARGET + 7 * star.number for star in seen),
            *(FIRST_SKY + 1000 * tile + 10 * petal + i for i in range(len(blank))),
        ],
        dtype="i8",
    )
    night = calendar(max(one.mjd for one in exposures))[:10].replace("-", "")
    name = f"coadd-{petal}-{tile}-thru{night}.fits"
    head: list[Card] = [
        ("COMMENT", SIMULATED),
        *(("SPGRP", "cumulative"), ("SPGRPVAL", int(night)), ("TILEID", tile), ("PETAL", petal)),
        *(("SPECTRO", petal), ("NIGHT", int(night)), ("SURVEY", SURVEY), ("PROGRAM", PROGRAM)),
        *(("SPECPROD", "iron"), ("INFIL000", name.replace("coadd", "spectra"))),
    ]
    fibres = np.argsort(np.argsort(targets)) + petal * PETAL_FIBRES
    parts = [
        primary(head),
        table(
            _fibermap([*seen, *seen[: len(blank)]], exposures, targets, fibres, tile), "FIBERMAP"
        ),
        table(_exposures(exposures, targets, fibres, tile, int(night)), "EXP_FIBERMAP"),
    ]
    scores: dict[str, NDArray] = {"TARGETID": targets}
    for i, arm in enumerate(exposures[0].arms):
        arms = [exposure.arms[i] for exposure in exposures]
        parts += _camera(arm.name.upper(), arms)
        scores.update(_scores(arm.name.upper(), arms))
    parts.append(table(scores, "SCORES"))
    place = f"{tile}/{night}"
    (folder / place).mkdir(parents=True, exist_ok=True)
    write_bytes(folder / place / name, b"".join(parts))
    total = [combined([one.snr for one in star.exposures]) for star in seen]
    return [
        {
            "number": star.number,
            "path": f"{place}/{name}",
            "spectrum_id": f"{SURVEY}-{PROGRAM}-{target}-{tile}-{arm.name.upper()}",
            "entry": str(target),
            "visit": visit,
            "snr": exposure.snr,
            "rv_pipeline": exposure.rv_measured,
            "rv_err": exposure.rv_error,
            "targetid": int(target),
            "ra": star.target.ra,
            "dec": star.target.dec,
            "gaia": star.target.gaia_dr3_source_id,
            "g_mag": star.target.magnitudes["G"],
            "entry_snr": snr,
            **{f"entry_snr_{camera}": found for camera, found in _by_camera(star).items()},
            "entry_rv": mean_velocity(star.exposures),
        }
        for star, exposure, target, snr in zip(
            seen, recorded, targets[: len(seen)], total, strict=True
        )
        for arm in exposure.arms
        if (arm.ivar > 0).any()
    ]


def _by_camera(star: Observed) -> dict[str, float]:
    """S/N of the exposures together in each camera."""
    return {
        arm.name: combined([exposure.arms[i].snr for exposure in star.exposures])
        for i, arm in enumerate(star.exposures[0].arms)
    }


def _of_the_sky(exposure: Exposure, rng: np.random.Generator) -> Exposure:
    """What is left of the sky in a fibre on none but it, with the noise of another fibre."""
    arms = []
    for arm in exposure.arms:
        with np.errstate(divide="ignore"):
            sigma = np.where(arm.ivar > 0, np.asarray(arm.ivar, dtype=float) ** -0.5, 0.0)
        arms.append(replace(arm, flux=rng.normal(size=sigma.size) * sigma, snr=0.0))
    return replace(exposure, arms=tuple(arms), snr=0.0)


def _camera(name: str, arms: Sequence) -> list[bytes]:
    """The five HDUs of a camera."""
    ivar = np.stack([np.where(arm.ivar > 0, arm.ivar, 0.0) for arm in arms])
    flux = np.stack([np.where(np.isfinite(arm.flux), arm.flux, 0.0) for arm in arms])
    mask = np.stack([mask_bits(arm.mask, arm.ivar, HARD, {}, NODATA) for arm in arms])
    wavelength = np.asarray(arms[0].wavelength, dtype=float)
    known: dict[bytes, NDArray] = {}  # spectra of a camera mostly share one resolution
    bands = []
    for arm in arms:
        resolution = np.ascontiguousarray(np.broadcast_to(arm.resolution, wavelength.shape))
        key = resolution.tobytes()
        if key not in known:
            known[key] = resolution_band(wavelength, resolution)
        bands.append(known[key])
    return [
        image(wavelength, [("BUNIT", "Angstrom")], f"{name}_WAVELENGTH"),
        image(flux.astype("f4"), [("BUNIT", FLUX_UNIT)], f"{name}_FLUX"),
        image(ivar.astype("f4"), [("BUNIT", IVAR_UNIT)], f"{name}_IVAR"),
        image(mask.astype("u4"), name=f"{name}_MASK"),
        image(np.stack(bands), name=f"{name}_RESOLUTION"),
    ]


def resolution_band(wavelength: NDArray, resolution: NDArray) -> NDArray:
    """Return the diagonals of a resolution matrix whose rows are Gaussians, shape (11, M).

    ``band[k, j]`` is the weight of pixel j of the true spectrum in pixel ``j - (5 - k)``.
    """
    size = wavelength.size
    sigma = wavelength / resolution * SIGMA_OF_FWHM / np.gradient(wavelength)
    offsets = DIAGONALS // 2 - np.arange(DIAGONALS)
    rows = np.exp(-0.5 * (offsets[:, None] / sigma) ** 2)
    rows /= rows.sum(axis=0)
    band = np.zeros((DIAGONALS, size), dtype="f4")
    for k, offset in enumerate(offsets):
        row = np.arange(size)[max(0, -offset) : min(size, size - offset)]
        band[k, row + offset] = rows[k, row]
    return band


def _fibermap(
    seen: Sequence[Observed],
    exposures: Sequence[Exposure],
    targets: NDArray,
    fibres: NDArray,
    tile: int,
) -> dict[str, NDArray]:
    count = len(seen)
    place = np.array([(star.target.ra, star.target.dec) for star in seen])
    blank = targets >= FIRST_SKY
    place[blank, 1] = np.clip(
        place[blank, 1] + 0.01, -90.0, 90.0
    )  # half an arcminute beside a star
    magnitudes = {
        band: np.array([star.target.magnitudes[band] for star in seen], "f4")
        for band in ("G", "BP", "RP", "g", "r", "i")
    }
    zeros = np.zeros(count, "f4")
    flux = {
        band: 10 ** (0.4 * (22.5 - magnitudes[m])) for band, m in zip("GRZ", "gri", strict=True)
    }
    return {
        "TARGETID": targets,
        "COADD_FIBERSTATUS": np.zeros(count, "i4"),
        "TARGET_RA": place[:, 0],
        "TARGET_DEC": place[:, 1],
        "PMRA": zeros,
        "PMDEC": zeros,
        "REF_EPOCH": np.full(count, 2016.0, "f4"),
        "FA_TARGET": np.full(count, MWS_ANY, "i8"),
        "FA_TYPE": np.ones(count, "u1"),
        "OBJTYPE": np.where(blank, "SKY", "TGT"),
        "OBSCONDITIONS": np.full(count, 2, "i4"),
        "RELEASE": np.full(count, 9010, "i2"),
        "MORPHTYPE": np.full(count, "PSF "),
        "EBV": np.array([star.target.ebv for star in seen], "f4"),
        **{f"FLUX_{band}": values.astype("f4") * ~blank for band, values in flux.items()},
        **{
            f"FIBERFLUX_{band}": (0.78 * values).astype("f4") * ~blank
            for band, values in flux.items()
        },
        "REF_ID": np.array([star.target.gaia_dr3_source_id for star in seen], "i8") * ~blank,
        "REF_CAT": np.where(blank, "  ", "G3"),
        **{f"GAIA_PHOT_{band}_MEAN_MAG": magnitudes[band] * ~blank for band in ("G", "BP", "RP")},
        "PARALLAX": np.array([star.target.parallax for star in seen], "f4") * ~blank,
        "PHOTSYS": np.where(place[:, 1] > 32.375, "N", "S"),
        "DESI_TARGET": np.full(count, MWS_ANY, "i8"),
        "BGS_TARGET": np.zeros(count, "i8"),
        "MWS_TARGET": np.full(count, MWS_MAIN_BLUE, "i8"),
        "TILEID": np.full(count, tile, "i4"),
        "FIBER": fibres.astype("i4"),
        "COADD_NUMEXP": np.ones(count, "i2"),
        "COADD_EXPTIME": np.array([one.exposure_time for one in exposures], "f4"),
        "COADD_NUMNIGHT": np.ones(count, "i2"),
        "COADD_NUMTILE": np.ones(count, "i2"),
        "MEAN_FIBER_RA": place[:, 0],
        "MEAN_FIBER_DEC": place[:, 1],
    }


def _exposures(
    exposures: Sequence[Exposure], targets: NDArray, fibres: NDArray, tile: int, night: int
) -> dict[str, NDArray]:
    count = len(targets)
    return {
        "TARGETID": targets,
        "NIGHT": np.full(count, night, "i4"),
        "EXPID": np.full(count, 100000 + tile, "i4"),
        "MJD": np.array([one.mjd for one in exposures]),
        "TILEID": np.full(count, tile, "i4"),
        "EXPTIME": np.array([one.exposure_time for one in exposures]),
        "PETAL_LOC": (fibres // PETAL_FIBRES).astype("i2"),
        "FIBER": fibres.astype("i4"),
        "FIBERSTATUS": np.zeros(count, "i4"),
    }


def _scores(name: str, arms: Sequence) -> dict[str, NDArray]:
    found = []
    for arm in arms:
        good = arm.ivar > 0
        flux = arm.flux[good]
        level = (flux.sum() * 0.8, np.median(flux), arm.snr) if good.any() else (0.0, 0.0, 0.0)
        found.append(level)
    names = (f"INTEG_COADD_FLUX_{name}", f"MEDIAN_COADD_FLUX_{name}", f"MEDIAN_COADD_SNR_{name}")
    return dict(zip(names, np.transpose(found).astype("f4"), strict=True))


def write_labels(folder: Path, index: Table, labels: Table) -> Path:
    """Write RVTAB, and SPTAB, FIBERMAP and GAIA row by row the same, as mwsall has them."""
    count = len(index)
    targets = np.asarray(index["targetid"], "i8")
    place = {"TARGET_RA": np.asarray(index["ra"]), "TARGET_DEC": np.asarray(index["dec"])}
    snr = np.asarray(index["entry_snr"], "f4")
    parameters = {"TEFF": "teff", "LOGG": "logg", "FEH": "fe_h", "ALPHAFE": "alpha_fe"}
    rv = np.asarray(index["entry_rv"], "f8")
    rvtab: dict[str, NDArray] = {
        "VRAD": rv,
        "VRAD_ERR": np.asarray(index["rv_err"], "f8"),
        **{column: value(labels, name) for column, name in parameters.items()},
        **{f"{column}_ERR": error_of(labels, name) for column, name in parameters.items()},
        "VSINI": value(labels, "v_broad"),
        "RVS_WARN": flag_bits(labels, WARNINGS),
        "REF_ID": np.asarray(index["gaia"], "i8"),
        **place,
        "TARGETID": targets,
        **{f"SN_{c}": np.asarray(index[f"entry_snr_{c.lower()}"], "f4") for c in "BRZ"},
        "SUCCESS": np.isfinite(value(labels, "teff")),
        "RR_Z": np.nan_to_num(rv) / 299792.458,
        "RR_SPECTYPE": np.full(count, "STAR  "),
        "SURVEY": np.full(count, SURVEY),
        "PROGRAM": np.full(count, PROGRAM),
        "PRIMARY": np.ones(count, bool),
    }
    sptab = _sptab(index, labels, snr)
    fibermap = {"TARGETID": targets, **place, "OBJTYPE": np.full(count, "TGT")}
    gaia = {"SOURCE_ID": rvtab["REF_ID"], "PHOT_G_MEAN_MAG": np.asarray(index["g_mag"], "f4")}
    path = folder / CATALOGUE
    names = {"RVTAB": rvtab, "SPTAB": sptab, "FIBERMAP": fibermap, "GAIA": gaia}
    tables = b"".join(table(columns, name) for name, columns in names.items())
    write_bytes(path, primary([("COMMENT", SIMULATED)]) + tables)
    return path


def _sptab(index: Table, labels: Table, snr: NDArray) -> dict[str, NDArray]:
    """What FERRE gives: covariances, and [X/H] of iron and a few more."""
    order = ("fe_h", "alpha_fe", "", "teff", "logg")
    sigma = np.stack([error_of(labels, name) if name else np.full(len(index), 0.05)
                      for name in order], axis=1)  # fmt: skip
    covariance = np.nan_to_num(sigma)[:, :, None] ** 2 * np.eye(5)
    micro = np.log10(np.clip(value(labels, "v_micro", 1.5), 0.1, 10.0))
    iron, iron_error = value(labels, "fe_h"), error_of(labels, "fe_h")
    elements = [iron, *(iron + value(labels, f"{x}_fe") for x in SPTAB_ELEMENTS)]
    errors = [iron_error, *(error_of(labels, f"{x}_fe") for x in SPTAB_ELEMENTS)]
    return {
        "SUCCESS": np.isfinite(iron).astype("i8"),
        "TARGETID": np.asarray(index["targetid"], "i8"),
        "BESTGRID": np.full(len(index), "m_rdesi1"),
        "TEFF": value(labels, "teff"),
        "LOGG": value(labels, "logg"),
        "FEH": iron,
        "ALPHAFE": value(labels, "alpha_fe"),
        "LOG10MICRO": micro,
        "PARAM": np.stack([value(labels, name) if name else micro for name in order], axis=1),
        "COVAR": covariance.reshape(-1, 25),
        "ELEM": np.stack(elements, axis=1),
        "ELEM_ERR": np.stack(errors, axis=1),
        "SNR_MED": snr,
        "RV_ADOP": np.asarray(index["entry_rv"], "f8"),
        "RV_ERR": np.asarray(index["rv_err"], "f8"),
    }
