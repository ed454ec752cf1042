"""WEAVE level-1 files and the level-2 stellar table, as version 8 of the data model has them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from astropy.io import fits

from tests.surveys.writers import Case, Expected, LabelCase
from tests.surveys.writers.air import to_vacuum

PIXELS = 400
# status, use, cname: two stars and a standard among sky, a parked fibre and a broken one
FIBRES = [
    ("A", "T", "WVE_10205678+4512345"),
    ("A", "S", "WVE_10210000+4513000"),
    ("P", "T", ""),
    ("A", "C", "WVE_10220000+4514000"),
    ("N", "T", "WVE_10230000+4515000"),
    ("A", "T", "WVE_10240000+4516000"),
]
FWHM = np.array([1.0, 1.1, 0.0, 1.2, 1.0, 0.9])  # Å


def _fibtable(fibres: list[tuple[str, str, str]], fwhm: np.ndarray) -> fits.BinTableHDU:
    n = len(fibres)
    columns = [
        fits.Column("FIBREID", "J", array=np.arange(1, n + 1)),
        fits.Column("CNAME", "20A", array=[cname for *_, cname in fibres]),
        fits.Column("STATUS", "1A", array=[status for status, *_ in fibres]),
        fits.Column("TARGID", "30A", array=[f"target {i}" for i in range(n)]),
        fits.Column("TARGUSE", "1A", array=[use for _, use, _ in fibres]),
        fits.Column("Resol", "E", array=fwhm, unit="Angstrom"),
        fits.Column("Helio_cor", "E", array=np.linspace(11.0, 11.2, n), unit="km/s"),
    ]
    return fits.BinTableHDU.from_columns(columns, name="FIBTABLE")


def _arm(
    rng: np.random.Generator, arm: str, start: float, step: float, fibres: int
) -> tuple[list[fits.ImageHDU], np.ndarray, np.ndarray, np.ndarray]:
    """HDUs of one arm, and wavelength, flux and ivar in 1e-17 erg/s/cm2/Å."""
    wavelength_air = start + step * np.arange(PIXELS)
    counts = rng.uniform(500, 2000, (fibres, PIXELS)).astype("f4")
    ivar = rng.uniform(0.002, 0.004, (fibres, PIXELS)).astype("f4")  # ADU-2
    ivar[:, 50:60] = 0.0
    counts[:, 70] = np.nan
    sensitivity = np.tile(np.linspace(2e-19, 3e-19, PIXELS), (fibres, 1)).astype("f4")
    sensitivity[:, -3:] = 0.0
    hdus = []
    for kind, image in (
        ("DATA", counts),
        ("IVAR", ivar),
        ("DATA_NOSS", counts + 300),
        ("IVAR_NOSS", ivar / 2),
        ("SENSFUNC", sensitivity),
    ):
        hdu = fits.ImageHDU(image, name=f"{arm}_{kind}")
        hdu.header["CRVAL1"], hdu.header["CD1_1"], hdu.header["CRPIX1"] = start, step, 1.0
        hdus.append(hdu)
    scale = sensitivity.astype(float) * 1e17
    with np.errstate(divide="ignore", invalid="ignore"):
        calibrated = np.where((scale > 0) & np.isfinite(counts), ivar / scale**2, 0.0)
    return hdus, to_vacuum(wavelength_air), counts * scale, calibrated


def _mos(folder: Path, rng: np.random.Generator, name: str, arms: dict[str, tuple]) -> Case:
    primary = fits.PrimaryHDU()
    primary.header["OBSMODE"] = "MOS"
    primary.header["DATAMVER"] = "8.00"
    hdus, expected = [primary], []
    for arm, (start, step) in arms.items():
        images, wavelength, flux, ivar = _arm(rng, arm, start, step, len(FIBRES))
        hdus += images
        expected += [
            Expected(
                wavelength,
                flux[i],
                ivar[i],
                resolution=float(np.median(wavelength) / FWHM[i]),
                frame="barycentric",
                star_id=FIBRES[i][2],
            )
            for i in (0, 3, 5)
        ]
    path = folder / name
    fits.HDUList([*hdus, _fibtable(FIBRES, FWHM)]).writeto(path)
    return Case(path, "weave", expected)


def single(folder: Path, rng: np.random.Generator) -> Case:
    """One exposure of the red low-resolution arm."""
    return _mos(folder, rng, "single_1003453.fit", {"RED": (5790.0, 0.5)})


def superstack(folder: Path, rng: np.random.Generator) -> Case:
    """Both high-resolution arms in one file."""
    arms = {"GREEN": (4730.0, 0.1), "RED": (5950.0, 0.1)}
    return _mos(folder, rng, "superstack_1004122.fit", arms)


def supertarget(folder: Path, rng: np.random.Generator) -> Case:
    """A 1-D file of one target: vectors, and one row of the fibre table."""
    images, wavelength, flux, ivar = _arm(rng, "BLUE", 3660.0, 0.25, 1)
    for hdu in images:
        hdu.data = hdu.data[0]
    table = _fibtable(FIBRES[:1], FWHM[:1])
    path = folder / "WVE_10205678+4512345_BL1.fit"
    fits.HDUList([fits.PrimaryHDU(), *images, table]).writeto(path)
    star = Expected(wavelength, flux[0], ivar[0], 3730.0, frame="barycentric", star_id=FIBRES[0][2])
    return Case(path, "weave", [star])


SPECTRA = {"single": single, "superstack": superstack, "supertarget": supertarget}


def star_table(folder: Path, rng: np.random.Generator) -> LabelCase:
    """The stellar table of level 2, in its own extension after the class table."""
    nan = np.nan
    columns = [
        fits.Column("TARGID", "12A", array=["a", "b", "c"]),
        fits.Column("CNAME", "20A", array=["WVE_1", "WVE_2", "WVE_3"]),
        fits.Column("VRAD", "D", array=[-20.5, 30.0, 0.0]),
        fits.Column("TEFF_RVS", "D", array=[5100.0, 6100.0, 4000.0]),
        fits.Column("TEFF", "D", array=[5000.0, 6000.0, nan]),
        fits.Column("TEFF_ERR", "D", array=[30.0, 40.0, nan]),
        fits.Column("LOGG", "D", array=[4.5, 4.0, nan]),
        fits.Column("LOGG_ERR", "D", array=[0.05, 0.06, nan]),
        fits.Column("FEH", "D", array=[-0.1, -1.5, nan]),
        fits.Column("FEH_ERR", "D", array=[0.02, 0.04, nan]),
        fits.Column("ALPHA", "D", array=[0.05, 0.4, nan]),
        fits.Column("ALPHA_ERR", "D", array=[0.02, 0.03, nan]),
        fits.Column("SNR_FR", "D", array=[50.0, 30.0, 2.0]),
        fits.Column("FLAG_FR", "J", array=[1, 0, 0]),
    ]
    classes = fits.BinTableHDU.from_columns(
        [fits.Column("CLASS", "6A", array=["STAR"] * 3)], name="CLASS_TABLE"
    )
    stars = fits.BinTableHDU.from_columns(columns, name="STAR_TABLE")
    path = folder / "stack_1004122__stack_1004121_APS.fits"
    fits.HDUList([fits.PrimaryHDU(), classes, stars]).writeto(path)
    return LabelCase(
        path,
        "weave",
        labels={
            "teff": [5000.0, 6000.0, nan],
            "logg": [4.5, 4.0, nan],
            "fe_h": [-0.1, -1.5, nan],
            "alpha_fe": [0.05, 0.4, nan],
        },
        sigma={"teff": [30.0, 40.0, nan], "alpha_fe": [0.02, 0.03, nan]},
        good=[True, False, False],
        keys={"star_id": ["WVE_1", "WVE_2", "WVE_3"], "targid": ["a", "b", "c"]},
    )


LABELS = {"star_table": star_table}
