"""DESI files as the data model describes them, and the Milky Way Survey catalogue.

Written by EXTNAME, with the grids cut short. Of FIBERSTATUS bits 1, 3, 13 and 14 inform only, and
the amplifier bits 22 to 24 concern one camera each; every bit of the masks is bad.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import Table
from numpy.typing import NDArray

from tests.surveys.writers import Case, Expected, LabelCase

STEP = 0.8  # Å
FIRST = {"B": 3600.0, "R": 5760.0, "Z": 7520.0}
PIXELS = {"B": 301, "R": 251, "Z": 281}
SIGMA = {"B": 0.90, "R": 0.72, "Z": 0.80}  # of the line-spread function, pixels
DIAGONALS = 11

# target, type, status, cameras that must be read
TARGETS = (
    (39627866878511337, "TGT", 0, "BRZ"),
    (616088619186127404, "SKY", 0, ""),
    (39627866878511339, "TGT", 1 << 3 | 1 << 13, "BRZ"),
    (-2713437, "", 1, ""),
    (39627866878511341, "TGT", 1 << 9, ""),  # 100 microns off
    (39627866878511342, "TGT", 1 << 23, "BZ"),  # amplifier of R
    (39627866878511343, "TGT", 1 << 14 | 1 << 1, "BRZ"),
    (39627866878511344, "TGT", 0, "RZ"),  # nothing usable in B
)


def band(sigma: NDArray, size: int) -> NDArray:
    """Diagonals of a matrix whose columns are Gaussians: row j - offset, column j."""
    offsets = DIAGONALS // 2 - np.arange(DIAGONALS)
    weights = np.exp(-0.5 * (offsets[:, None] / np.broadcast_to(sigma, size)) ** 2)
    return (weights / weights.sum(axis=0)).astype("f4")


def _camera(rng: np.random.Generator, name: str) -> tuple[dict[str, NDArray], NDArray]:
    """Flux, ivar and mask of all targets, and the ivar that a reader must return."""
    shape = (len(TARGETS), PIXELS[name])
    flux = rng.normal(20, 1, shape).astype("f4")
    ivar = np.ones(shape, "f4")
    mask = np.zeros(shape, "u4")
    mask[:, 40:51] = 1 << np.arange(11)
    ivar[:, :4] = 0.0
    ivar[:, 60] = np.nan
    flux[:, 61] = np.nan
    usable = np.where((mask > 0) | ~(ivar > 0) | np.isnan(flux), 0.0, ivar)
    # the pixels of sky and of bad fibres look as good as any
    dead = [kind == "TGT" and status == 0 and name not in read for _, kind, status, read in TARGETS]
    ivar[np.array(dead)] = 0.0
    return {"flux": flux, "ivar": ivar, "mask": mask}, usable


def _write(
    path: Path, rng: np.random.Generator, fibres: Table, header: dict, *, compressed: bool
) -> Case:
    primary = fits.PrimaryHDU()
    primary.header.update(header)
    hdus = [primary, fits.BinTableHDU(fibres, name="FIBERMAP")]
    expected: dict[tuple[int, str], Expected] = {}
    mask_hdu = fits.CompImageHDU if compressed else fits.ImageHDU
    for name, first in FIRST.items():
        wavelength = first + STEP * np.arange(PIXELS[name])
        content, usable = _camera(rng, name)
        resolution = np.tile(band(SIGMA[name], PIXELS[name]), (len(TARGETS), 1, 1))
        hdus += [
            fits.ImageHDU(wavelength, name=f"{name}_WAVELENGTH"),
            fits.ImageHDU(content["flux"], name=f"{name}_FLUX"),
            fits.ImageHDU(content["ivar"], name=f"{name}_IVAR"),
            mask_hdu(content["mask"], name=f"{name}_MASK"),
            fits.ImageHDU(resolution, name=f"{name}_RESOLUTION"),
        ]
        middle = float(np.median(wavelength))
        for row, (target, _, _, read) in enumerate(TARGETS):
            if name in read:
                expected[row, name] = Expected(
                    wavelength,
                    content["flux"][row],
                    usable[row],
                    middle / (2.354820045 * SIGMA[name] * STEP),
                    "barycentric",
                    star_id=str(target),
                )
    scores = Table({"TARGETID": fibres["TARGETID"]})
    fits.HDUList([*hdus, fits.BinTableHDU(scores, name="SCORES")]).writeto(path)
    order = sorted(expected)  # by target, then B, R, Z
    return Case(path, "desi", [expected[key] for key in order], wavelength_tolerance=1e-6)


def _fibres(status: str) -> Table:
    count = len(TARGETS)
    return Table(
        {
            "TARGETID": np.array([t[0] for t in TARGETS], "i8"),
            status: np.array([t[2] for t in TARGETS], "i4"),
            "TARGET_RA": np.linspace(210, 211, count),
            "TARGET_DEC": np.linspace(3, 4, count),
            "OBJTYPE": np.array([t[1] for t in TARGETS], "S3"),
            "REF_ID": np.full(count, 3661511337984, "i8"),
            "REF_CAT": np.full(count, b"G2", "S2"),
        }
    )


def coadd(folder: Path, rng: np.random.Generator) -> Case:
    """All exposures of each target in a healpix; masks compressed."""
    fibres = _fibres("COADD_FIBERSTATUS")
    fibres["COADD_EXPTIME"] = np.float32(1009.25)
    fibres["COADD_NUMEXP"] = np.int16(2)
    header = {"SURVEY": "main", "PROGRAM": "bright", "HPXPIXEL": 26065, "HPXNSIDE": 64}
    header["INFIL000"] = "spectra-main-bright-26065.fits"
    path = folder / "coadd-main-bright-26065.fits"
    return _write(path, rng, fibres, header, compressed=True)


def spectra(folder: Path, rng: np.random.Generator) -> Case:
    """Single exposures on a tile; masks as images."""
    fibres = _fibres("FIBERSTATUS")
    fibres["EXPTIME"] = np.float32(602.5)
    fibres["EXPID"] = np.int32(85502)
    fibres["NIGHT"] = np.int32(20210419)
    fibres["MJD"] = 59324.2475
    fibres["TILEID"] = np.int32(169)
    path = folder / "spectra-5-169-thru20210419.fits"
    return _write(path, rng, fibres, {"TILEID": 169, "NIGHT": 20210419}, compressed=False)


def mwsall(folder: Path, rng: np.random.Generator) -> LabelCase:
    """RVTAB and SPTAB of mwsall, row by row the same targets."""
    nan, count = np.nan, 8
    ids = np.arange(count) + 39627866878511337
    rv = Table(
        {
            "VRAD": [10.0, -20, 30, 40, 50, 60, 70, nan],
            "TEFF": [5000.0, 5100, 5200, 5300, 5400, 5500, 5600, nan],
            "TEFF_ERR": [10.0, 0.0, 12, 13, 14, 15, 16, nan],
            "LOGG": [4.0, 4.1, 4.2, 4.3, 4.4, 4.5, 4.6, nan],
            "LOGG_ERR": [0.1] * count,
            "FEH": [-1.0, -0.5, 0.0, 0.1, 0.2, 0.3, -9999.0, nan],
            "FEH_ERR": [0.05] * count,
            "ALPHAFE": [0.3] * count,
            "ALPHAFE_ERR": [0.04] * count,
            "VSINI": [1.0] * count,
            "RVS_WARN": [0, 4, 0, 0, 0, 0, 0, 0],
            "RR_SPECTYPE": np.array(["STAR", "STAR", "GALAXY", *["STAR"] * 5], "S6"),
            "SUCCESS": [True, True, True, False, True, True, True, True],
            "PRIMARY": [True, True, True, True, False, True, True, True],
            "SN_R": np.array([40, 40, 40, 40, 40, 5, 40, nan], "f4"),
            "TARGETID": ids,
        }
    )
    covariance = np.zeros((count, 5, 5))
    # [Fe/H], [a/Fe], log10(micro), Teff, log g
    covariance[:] = np.diag([0.04**2, 0.03**2, 0.02**2, 25.0**2, 0.07**2])
    sp = Table(
        {
            "SUCCESS": np.array([1, 1, 1, 1, 1, 1, 0, 1]),
            "TARGETID": ids,
            "BESTGRID": np.array([*["m_rdesi1"] * 7, "s_rdesi1"], "S8"),
            "TEFF": np.linspace(4900, 5600, count),
            "LOGG": np.full(count, 4.4),
            "FEH": np.linspace(-1, 0.4, count),
            "ALPHAFE": np.full(count, 0.2),
            "LOG10MICRO": np.full(count, 0.30103),
            "COVAR": covariance.reshape(count, 25),
            # [Fe/H], [Ca/H], [C/H], [Mg/H]
            "ELEM": np.tile([-0.5, -0.3, -0.6, -0.1], (count, 1)),
            "ELEM_ERR": np.tile([0.03, 0.04, 0.0, 0.05], (count, 1)),
            "SNR_MED": np.full(count, 30.0),
            "RV_ADOP": np.full(count, 11.0),
        }
    )
    path = folder / "mwsall-pix-iron.fits"
    tables = [fits.BinTableHDU(table, name=name) for name, table in (("RVTAB", rv), ("SPTAB", sp))]
    fits.HDUList([fits.PrimaryHDU(), *tables]).writeto(path)
    return LabelCase(
        path,
        "desi",
        labels={
            "teff": [5000, 5100, 5200, 5300, 5400, 5500, 5600, nan],
            "fe_h": [-1, -0.5, 0, 0.1, 0.2, 0.3, nan, nan],
            "alpha_fe": [0.3] * count,
            "v_broad": [1.0] * count,
        },
        sigma={"teff": [10, nan, 12, 13, 14, 15, 16, nan], "v_broad": [nan] * count},
        good=[True, False, False, False, False, False, True, False],
        keys={"star_id": [str(one) for one in ids]},
    )


SPECTRA = {"coadd": coadd, "spectra": spectra}
LABELS = {"mwsall": mwsall}
