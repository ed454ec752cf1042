"""Gaia RVS files in the structures of DataLink, and astrophysical_parameters.

2401 pixels from 846 to 870 nm. INDIVIDUAL: a row for each pixel, the rest as parameters or cards;
RAW: a row for each source, no wavelengths, arrays as text in CSV.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from astropy.io.votable import from_table
from astropy.io.votable.tree import Param, Resource, VOTableFile
from astropy.table import Table
from numpy.typing import NDArray

from tests.surveys.writers import Case, Expected, LabelCase

SOURCES = (3174658066485297152, 2052747119115620352)
NANOMETRES = np.linspace(846, 870, 2401)


def _source(rng: np.random.Generator, source: int) -> tuple[NDArray, NDArray, Expected]:
    """Flux and error of a source, NaN where nothing was measured, and what a reader must find."""
    flux = rng.normal(0.95, 0.01, 2401).round(6)
    error = np.full(2401, 0.01)
    flux[:3] = error[:3] = np.nan
    flux[-7:] = error[-7:] = np.nan
    error[500], error[501], error[502] = 0.0, -0.01, np.nan
    flux[503] = np.nan
    good = np.ones(2401, bool)
    # ten pixels from either end of what was measured
    good[: 3 + 10] = good[-7 - 10 :] = good[500:504] = False
    ivar = np.where(good, 1e4, 0.0)
    expected = Expected(10 * NANOMETRES, flux, ivar, 11500, "rest", star_id=str(source))
    return flux, error, expected


def _individual(rng: np.random.Generator) -> tuple[Table, Expected]:
    flux, error, expected = _source(rng, SOURCES[0])
    table = Table({"wavelength": NANOMETRES, "flux": flux, "flux_error": error})
    table["wavelength"].unit = "nm"
    return table, expected


def votable(folder: Path, rng: np.random.Generator) -> Case:
    """INDIVIDUAL as VOTable: the source is a PARAM."""
    table, expected = _individual(rng)
    document = from_table(table)
    element = document.get_first_table()
    element.params.append(Param(document, name="source_id", datatype="long", value=SOURCES[0]))
    path = folder / "spectrum.xml"
    document.to_xml(str(path))
    return Case(path, "gaia_rvs", [expected])


def fits_table(folder: Path, rng: np.random.Generator) -> Case:
    """INDIVIDUAL as FITS; the source is in the name of the file alone."""
    table, expected = _individual(rng)
    path = folder / f"RVS-Gaia DR3 {SOURCES[0]}.fits"
    table.write(path)
    return Case(path, "gaia_rvs", [expected])


def csv(folder: Path, rng: np.random.Generator) -> Case:
    """A row for each pixel, the source on every one; two sources in the file."""
    parts, expected = [], []
    for source in SOURCES:
        flux, error, one = _source(rng, source)
        rows = zip(NANOMETRES, flux, error, strict=True)
        parts += [f"{source},5950420259779346465,71.4,{w:.2f},{f},{e},8" for w, f, e in rows]
        expected.append(one)
    head = "source_id,solution_id,ra,wavelength,flux,flux_error,combined_transits"
    path = folder / "combined.csv"
    path.write_text("\n".join([head, *parts]).replace("nan", "") + "\n")
    return Case(path, "gaia_rvs", expected)


def _raw_text(brackets: str, nothing: str) -> Callable[[Path, np.random.Generator], Case]:
    def write(folder: Path, rng: np.random.Generator) -> Case:
        lines, expected = ["source_id,ra,flux,flux_error"], []
        for source in SOURCES:
            flux, error, one = _source(rng, source)
            texts = [
                brackets[0] + ", ".join(str(v) for v in values) + brackets[1]
                for values in (flux, error)
            ]
            lines.append(f'{source},71.4,"{texts[0]}","{texts[1]}"'.replace("nan", nothing))
            expected.append(one)
        path = folder / "RVS_RAW.csv"
        path.write_text("\n".join(lines) + "\n")
        return Case(path, "gaia_rvs", expected)

    return write


def _raw(rng: np.random.Generator) -> tuple[Table, list[Expected]]:
    sources = [_source(rng, source) for source in SOURCES]
    table = Table(
        {
            "source_id": np.array(SOURCES, "i8"),
            "flux": np.array([flux for flux, _, _ in sources], "f4"),
            "flux_error": np.array([error for _, error, _ in sources], "f4"),
        }
    )
    return table, [expected for _, _, expected in sources]


def raw_fits(folder: Path, rng: np.random.Generator) -> Case:
    table, expected = _raw(rng)
    path = folder / "RVS_RAW.fits"
    table.write(path)
    return Case(path, "gaia_rvs", expected)


def raw_votable(folder: Path, rng: np.random.Generator) -> Case:
    table, expected = _raw(rng)
    path = folder / "RVS_RAW.xml"
    table.write(path, format="votable")
    return Case(path, "gaia_rvs", expected)


def combined_votable(folder: Path, rng: np.random.Generator) -> Case:
    """COMBINED as VOTable: a TABLE for each source, which is a PARAM of it."""
    document, expected = VOTableFile(), []
    resource = Resource()
    document.resources.append(resource)
    for source in SOURCES:
        flux, error, one = _source(rng, source)
        table = Table({"wavelength": NANOMETRES, "flux": flux, "flux_error": error})
        element = from_table(table).get_first_table()
        element.params.append(Param(document, name="source_id", datatype="long", value=source))
        resource.tables.append(element)
        expected.append(one)
    path = folder / "combined.vot"
    document.to_xml(str(path))
    return Case(path, "gaia_rvs", expected)


def _parameters() -> Table:
    """astrophysical_parameters; the flags of the last abundances are 9, "leave out"."""
    nan = np.nan
    clean, nitrogen = "0" * 13, "99"
    flags = [
        clean + nitrogen + "00" + "9" * 24,  # magnesium good
        "0000001000000" + nitrogen + "00" + "9" * 24,  # flux noise
        clean + nitrogen + "10" + "9" * 24,  # magnesium an upper limit
        clean + nitrogen + "02" + "9" * 10 + "00" + "9" * 12,  # iron good
        "9" * 41,
    ]
    table = Table({"source_id": np.arange(5) + 3174658066485297152, "flags_gspspec": flags})
    for name, values, half in (
        ("teff", [4500.0, 4600, 4700, 4800, nan], 25.0),
        ("logg", [1.5, 1.6, 1.7, 1.8, nan], 0.05),
        ("mh", [-0.5, -0.4, -0.3, -0.2, nan], 0.04),
        ("alphafe", [0.1, 0.2, 0.3, 0.4, nan], 0.02),
        ("mgfe", [0.11, 0.12, 0.13, 0.14, 0.15], 0.03),
        ("fem", [0.01, 0.02, 0.03, 0.04, 0.05], 0.03),
    ):
        table[f"{name}_gspspec"] = values
        # the percentiles need not lie symmetrically
        table[f"{name}_gspspec_lower"] = np.array(values) - 0.5 * half
        table[f"{name}_gspspec_upper"] = np.array(values) + 1.5 * half
    table["teff_gspspec_upper"][1] = table["teff_gspspec_lower"][1]
    table["rvs_spec_sig_to_noise"] = [50.0, 60, 70, 80, 90]
    return table


def _catalogue(name: str, **options: str) -> Callable[[Path, np.random.Generator], LabelCase]:
    def write(folder: Path, rng: np.random.Generator) -> LabelCase:
        nan, table = np.nan, _parameters()
        path = folder / name
        table.write(path, **options)
        return LabelCase(
            path,
            "gaia_rvs",
            labels={
                "teff": [4500, 4600, 4700, 4800, nan],
                "m_h": [-0.5, -0.4, -0.3, -0.2, nan],
                "mg_fe": [0.11, 0.12, nan, nan, nan],
                "fe_h": [nan, nan, nan, -0.16, nan],
            },
            sigma={
                "teff": [25, nan, 25, 25, nan],
                "mg_fe": [0.03, 0.03, nan, nan, nan],
                "fe_h": [nan, nan, nan, 0.05, nan],
            },
            good=[True, False, True, True, False],
            keys={"star_id": [str(one) for one in table["source_id"]]},
        )

    return write


SPECTRA = {
    "votable": votable,
    "fits": fits_table,
    "csv": csv,
    "raw_csv": _raw_text("()", "NaN"),
    "raw_fits": raw_fits,
}
# read once each, for they are slow to write and differ in how their bytes are wrapped only
MORE_SPECTRA = {
    "raw_csv_brackets": _raw_text("[]", "null"),
    "raw_votable": raw_votable,
    "combined_votable": combined_votable,
}
LABELS = {
    "csv": _catalogue("parameters.csv"),
    "fits": _catalogue("parameters.fits"),
    "votable": _catalogue("parameters.vot", format="votable"),
}
