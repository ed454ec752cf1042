"""mwmStar and mwmVisit by the data model of DR19 (V_ASTRA 0.6.0), and astraAllStarASPCAP."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from tests.surveys.writers import Case, Expected, LabelCase

SDSS_ID = 103020000
GRIDS = {"BOSS": (3.5523, 1e-4, 4648), "APOGEE": (4.179, 6e-6, 8575)}
# bits of one pixel each: which a reader must reject, and which mean no harm there
FORBIDDEN = {"BOSS": (23,), "APOGEE": (0, 1, 2, 3, 4, 5, 6, 7, 12, 14, 16)}
HARMLESS = {"BOSS": (16, 17, 18, 19, 20, 22, 24, 25, 27), "APOGEE": (8, 9, 10, 11, 13)}
TYPICAL_R = {"BOSS": 2000, "APOGEE": 22500}


def _row(
    rng: np.random.Generator, instrument: str, frame: str, rv: float
) -> tuple[dict[str, NDArray], Expected]:
    start, step, pixels = GRIDS[instrument]
    wavelength = 10 ** (start + step * np.arange(pixels))
    flux = rng.normal(100, 1, pixels).astype("f4")
    ivar = np.full(pixels, 0.7, dtype="f4")
    flags = np.zeros(pixels, dtype="f4")  # integers kept as floats
    usable = ivar.copy()
    flux[:20], ivar[:20] = np.nan, 0
    flux[30] = np.nan
    for k, bit in enumerate(FORBIDDEN[instrument]):
        flags[100 + k] = 2**bit
        usable[100 + k] = 0
    for k, bit in enumerate(HARMLESS[instrument]):
        flags[200 + k] = 2**bit
    flags[300] = 2 ** FORBIDDEN[instrument][0] + 2 ** HARMLESS[instrument][0]
    flags[301] = np.nan
    usable[[*range(20), 30, 300]] = 0
    row = {"flux": flux, "ivar": ivar, "pixel_flags": flags, "wavelength": wavelength.astype("f4")}
    resolution = TYPICAL_R[instrument]
    return row, Expected(wavelength, flux, usable, resolution, frame, rv, str(SDSS_ID))


def _hdu(name: str, rows: list[dict], *, column: bool) -> fits.BinTableHDU:
    """A table of an instrument and observatory; without rows its vectors have no elements."""
    instrument, observatory = name.split("/")
    start, step, pixels = GRIDS[instrument]
    columns = [
        fits.Column("spectrum_pk_id", "K", array=[row["pk"] for row in rows]),
        fits.Column("sdss_id", "K", array=[SDSS_ID] * len(rows)),
        fits.Column("telescope", "6A", array=[f"{observatory.lower()}25m"] * len(rows)),
        fits.Column("snr", "E", array=[90.0] * len(rows)),
    ]
    for key in rows[0].keys() - {"pk", "flux", "ivar", "pixel_flags", "wavelength"} if rows else ():
        kind = {"in_stack": "L", "mjd": "J", "min_mjd": "J", "max_mjd": "J"}.get(key, "E")
        columns.append(fits.Column(key, kind, array=[row[key] for row in rows]))
    for key in ("wavelength", "flux", "ivar", "pixel_flags") if column else (
        "flux", "ivar", "pixel_flags"
    ):  # fmt: skip
        form, dim = (f"{pixels}E", f"({pixels})") if rows else ("0E", "(0)")
        array = np.stack([row[key] for row in rows]) if rows else np.zeros((0, 0), "f4")
        columns.append(fits.Column(key, form, dim=dim, array=array))
    hdu = fits.BinTableHDU.from_columns(columns, name=name)
    hdu.header["OBSRVTRY"], hdu.header["INSTRMNT"] = observatory, instrument
    hdu.header["CRVAL"], hdu.header["CDELT"], hdu.header["CRPIX"] = start, step, 1
    hdu.header["CTYPE"], hdu.header["NPIXELS"] = "LOG-LINEAR", pixels
    hdu.add_checksum()
    return hdu


def _write(path: Path, tables: dict[str, list[dict]], *, column: bool) -> None:
    primary = fits.PrimaryHDU()
    primary.header["V_ASTRA"] = "0.6.0"
    primary.header["SDSS_ID"] = SDSS_ID
    primary.header["APOGEEID"] = "2M12283021-6635525"
    primary.header["GAIA3_ID"] = "5860080419780127104"
    primary.add_checksum()
    names = ("BOSS/APO", "BOSS/LCO", "APOGEE/APO", "APOGEE/LCO")
    hdus = [_hdu(name, tables.get(name, []), column=column) for name in names]
    fits.HDUList([primary, *hdus]).writeto(path)


def mwmstar(folder: Path, rng: np.random.Generator) -> Case:
    """Stacks from two instruments; two of the four tables are empty."""
    boss, boss_expected = _row(rng, "BOSS", "rest", -12.0)
    apogee, apogee_expected = _row(rng, "APOGEE", "rest", -12.3)
    common = {"min_mjd": 59600, "max_mjd": 59900}
    path = folder / f"mwmStar-0.6.0-{SDSS_ID}.fits"
    _write(
        path,
        {
            "BOSS/APO": [{**boss, "pk": 11, "v_rad": -12.0, **common}],
            "APOGEE/LCO": [{**apogee, "pk": 12, "v_rad": -12.3, **common}],
        },
        column=True,
    )
    return Case(path, "sdss_v", [boss_expected, apogee_expected])


def mwmvisit(folder: Path, rng: np.random.Generator) -> Case:
    """Visits that are not in the stack were not shifted: BOSS barycentric, APOGEE observed."""
    nan = np.nan
    boss = [
        ({"in_stack": True, "xcsao_v_rad": -11.0, "xcsao_rxc": 9.0}, "rest", -11.0),
        ({"in_stack": False, "xcsao_v_rad": 30.0, "xcsao_rxc": 7.0}, "barycentric", 30.0),
        ({"in_stack": False, "xcsao_v_rad": 400.0, "xcsao_rxc": 3.0}, "barycentric", nan),
    ]
    apogee = [
        ({"in_stack": True, "v_rad": -12.0, "v_rel": -20.0, "bc": 8.0}, "rest", -12.0),
        ({"in_stack": False, "v_rad": -13.0, "v_rel": -20.5, "bc": 7.5}, "observed", -20.5),
        ({"in_stack": False, "v_rad": nan, "v_rel": nan, "bc": 7.5}, "observed", nan),
    ]
    tables: dict[str, list[dict]] = {}
    expected = []
    for name, visits in {"BOSS/LCO": boss, "APOGEE/APO": apogee}.items():
        tables[name] = []
        for i, (cards, frame, rv) in enumerate(visits):
            row, want = _row(rng, name.split("/")[0], frame, rv)
            tables[name].append({**row, **cards, "pk": 100 * len(tables) + i, "mjd": 59600 + i})
            expected.append(want)
    path = folder / f"mwmVisit-0.6.0-{SDSS_ID}.fits"
    _write(path, tables, column=False)
    return Case(path, "sdss_v", expected)


SPECTRA = {"mwmstar": mwmstar, "mwmvisit": mwmvisit}


def astra_aspcap(folder: Path, rng: np.random.Generator) -> LabelCase:
    """astraAllStarASPCAP: [X/H], flags for each, two rows of one star, and HDU 1 without rows."""
    nan = np.nan
    data = {
        "sdss_id": ("K", [1, 1, 2, 3, 4]),
        "spectrum_pk": ("K", [10, 11, 12, 13, 14]),
        "snr": ("E", [80.0, 120.0, 40.0, 100.0, 100.0]),
        "flag_bad": ("L", [False, False, False, True, False]),
        "v_rad": ("E", [5.0, 5.5, nan, 1.0, 2.0]),
        "teff": ("E", [4800.0, 4810.0, 5000.0, 6000.0, 5500.0]),
        "e_teff": ("E", [20.0] * 5),
        "logg": ("E", [2.5, 2.5, 4.4, 4.0, 4.2]),
        "m_h_atm": ("E", [-0.3, -0.3, 0.0, 0.1, 0.2]),
        "e_m_h_atm": ("E", [0.01] * 5),
        "fe_h": ("E", [-0.3, -0.31, 0.0, 0.1, 0.2]),
        "e_fe_h": ("E", [0.03] * 5),
        "fe_h_flags": ("K", [0, 0, 0, 0, 2**9]),
        "mg_h": ("E", [-0.1, -0.12, nan, 0.15, 0.25]),
        "e_mg_h": ("E", [0.04, 0.04, nan, 0.04, 0.04]),
        "mg_h_flags": ("K", [0, 0, 0, 2**0, 0]),
        "n_h": ("E", [0.0, 0.1, 0.2, 0.3, 0.4]),
        "e_n_h": ("E", [0.4, -999.0, 0.4, 0.4, 0.4]),
        "n_h_flags": ("K", [0] * 5),
    }
    empty = [fits.Column(key, form, array=[]) for key, (form, _) in data.items()]
    full = [fits.Column(key, form, array=values) for key, (form, values) in data.items()]
    primary = fits.PrimaryHDU()
    primary.header["PIPELINE"] = "ASPCAP"
    path = folder / "astraAllStarASPCAP-0.6.0.fits"
    tables = [fits.BinTableHDU.from_columns(columns) for columns in (empty, full)]
    fits.HDUList([primary, *tables]).writeto(path)
    quadrature = 0.05  # of 0.03 and 0.04
    return LabelCase(
        path,
        "sdss_v",
        labels={
            "teff": [4800.0, 4810.0, 5000.0, 6000.0, 5500.0],
            "m_h": [-0.3, -0.3, 0.0, 0.1, 0.2],
            "fe_h": [-0.3, -0.31, 0.0, 0.1, nan],
            "mg_fe": [0.2, 0.19, nan, nan, nan],
            "n_fe": [0.3, 0.41, 0.2, 0.2, nan],
        },
        sigma={
            "fe_h": [0.03, 0.03, 0.03, 0.03, nan],
            "mg_fe": [quadrature, quadrature, nan, nan, nan],
            "n_fe": [np.sqrt(0.1609), nan, np.sqrt(0.1609), np.sqrt(0.1609), nan],
        },
        good=[False, True, False, False, True],
        keys={"star_id": ["1", "1", "2", "3", "4"], "spectrum_id": ["10", "11", "12", "13", "14"]},
    )


LABELS = {"aspcap": astra_aspcap}
