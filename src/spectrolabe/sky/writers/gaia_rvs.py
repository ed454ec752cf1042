"""Gaia RVS: mean spectra as DataLink delivers them for many sources, and their parameters.

Layout: Gaia DR3 documentation 20.12.1 (``rvs_mean_spectrum``, data structure RAW) and 20.2.1
(``astrophysical_parameters``, joined with three columns of ``gaia_source``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from spectrolabe.sky.writers import Observed
from spectrolabe.sky.writers.blocks import primary, table, write_bytes
from spectrolabe.sky.writers.reduction import (
    SIMULATED,
    error_of,
    flag_bits,
    index_of,
    value,
)

__all__ = ["write", "write_labels"]

CATALOGUE = "astrophysical_parameters.fits"
SOLUTION = 1636148068921376768  # that of Gaia DR3
ABUNDANCES = ("N", "Mg", "Si", "S", "Ca", "Ti", "Cr", "Ni", "Zr", "Ce", "Nd")
UNITS = {"ra": "deg", "dec": "deg"}
FLAGS = 41
PARAMETER_FLAGS = (
    *("vbroadT", "vbroadG", "vbroadM", "vradT", "vradG", "vradM", "fluxNoise", "extrapol"),
    *("negFlux", "nanFlux", "emission", "nullFluxErr", "KMgiantPar"),
)
# of flags_gspspec, after the 13 of the parameters: two for each of these, in this order
ELEMENT_ORDER = ("N", "Mg", "Si", "S", "Ca", "Ti", "Cr", "FeM", "FeIIM", "Ni", "Zr", "Ce", "Nd")


def write(folder: Path, observed: Sequence[Observed], batch: int) -> Table:
    """Write one table with a row for each source; the wavelengths go without saying.

    Raises
    ------
    ValueError
        If a star has more than one exposure: a mean spectrum is one.
    """
    if not observed:
        return index_of([])
    if any(len(star.exposures) != 1 for star in observed):
        raise ValueError("a star has one mean RVS spectrum, not one for each transit")
    arms = [star.exposures[0].arms[0] for star in observed]
    good = np.stack([arm.ivar > 0 for arm in arms])
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.stack([np.asarray(arm.ivar, dtype=float) ** -0.5 for arm in arms])
    flux = np.stack([arm.flux for arm in arms])
    sources = np.array([star.target.gaia_dr3_source_id for star in observed], dtype="i8")
    # the number of transits goes with the place on the sky, here with the source id alone
    transits = 8 + (sources // 34359738368) % 23
    columns = {
        "source_id": sources,
        "solution_id": np.full(len(observed), SOLUTION, "i8"),
        "ra": np.array([star.target.ra for star in observed]),
        "dec": np.array([star.target.dec for star in observed]),
        "flux": np.where(good, flux, np.nan).astype("f4"),
        "flux_error": np.where(good, error, np.nan).astype("f4"),
        "combined_transits": transits.astype("i2"),
        "combined_ccds": (3 * transits - transits // 6).astype("i2"),
        "deblended_ccds": (transits // 4).astype("i2"),
    }
    name = f"RVS_RAW_{batch:05d}.fits"
    folder.mkdir(parents=True, exist_ok=True)
    head = primary([("COMMENT", SIMULATED)])
    write_bytes(folder / name, head + table(columns, "RVS", units=UNITS))
    return index_of(
        [
            {
                "number": star.number,
                "path": name,
                "spectrum_id": str(star.target.gaia_dr3_source_id),
                "entry": str(star.target.gaia_dr3_source_id),
                "visit": 0,
                "snr": star.exposures[0].snr,
                "rv_pipeline": star.exposures[0].rv_measured,
                "rv_err": star.exposures[0].rv_error,
                "source_id": star.target.gaia_dr3_source_id,
                "ra": star.target.ra,
                "dec": star.target.dec,
                "g_mag": star.target.magnitudes["G"],
            }
            for star in observed
        ]
    )


def _flags(columns: Mapping[str, NDArray], labels: Table) -> NDArray:
    """41 characters: 0 where all is well, 9 where there is no value."""
    letters = np.full((len(labels), FLAGS), "0", dtype="U1")
    words = flag_bits(labels, {name: 1 << i for i, name in enumerate(PARAMETER_FLAGS)})
    for i in range(len(PARAMETER_FLAGS)):
        letters[(words >> i) & 1 == 1, i] = "2"
    letters[~np.isfinite(columns["teff_gspspec"]), : len(PARAMETER_FLAGS)] = "9"
    for i, name in enumerate(ELEMENT_ORDER):
        known = columns.get(f"{name.lower()}_gspspec", columns.get(f"{name.lower()}fe_gspspec"))
        place = len(PARAMETER_FLAGS) + 2 * i
        missing = np.ones(len(labels), bool) if known is None else ~np.isfinite(known)
        letters[missing, place : place + 2] = "9"
    return np.array(["".join(row) for row in letters], dtype=f"S{FLAGS}")


def write_labels(folder: Path, index: Table, labels: Table) -> Path:
    """Write GSP-Spec parameters with their 16th and 84th percentiles, NaN where there is none."""
    columns: dict[str, NDArray] = {
        "source_id": np.asarray(index["source_id"], "i8"),
        "solution_id": np.full(len(index), SOLUTION, "i8"),
        "ra": np.asarray(index["ra"]),
        "dec": np.asarray(index["dec"]),
        "phot_g_mean_mag": np.asarray(index["g_mag"], "f4"),
        "radial_velocity": np.asarray(index["rv_pipeline"], "f4"),
        "radial_velocity_error": np.asarray(index["rv_err"], "f4"),
        "rvs_spec_sig_to_noise": np.asarray(index["snr"], "f4"),
    }
    metallicity, iron = value(labels, "m_h"), value(labels, "fe_h")
    metallicity = np.where(np.isfinite(metallicity), metallicity, iron)
    error = error_of(labels, "m_h")
    error = np.where(np.isfinite(error), error, error_of(labels, "fe_h"))
    parameters = {
        "teff": (value(labels, "teff"), error_of(labels, "teff")),
        "logg": (value(labels, "logg"), error_of(labels, "logg")),
        "mh": (metallicity, error),
        "alphafe": (value(labels, "alpha_fe"), error_of(labels, "alpha_fe")),
        "fem": (iron - metallicity, error_of(labels, "fe_h")),
    }
    for x in ABUNDANCES:
        name = f"{x.lower()}_fe"
        parameters[f"{x.lower()}fe"] = (value(labels, name), error_of(labels, name))
    for name, (middle, sigma) in parameters.items():
        sigma = np.nan_to_num(sigma)
        columns[f"{name}_gspspec"] = middle.astype("f4")
        columns[f"{name}_gspspec_lower"] = (middle - sigma).astype("f4")
        columns[f"{name}_gspspec_upper"] = (middle + sigma).astype("f4")
    columns["flags_gspspec"] = _flags(columns, labels)
    path = folder / CATALOGUE
    head = primary([("COMMENT", SIMULATED)])
    write_bytes(path, head + table(columns, "gaiadr3", units=UNITS))
    return path
