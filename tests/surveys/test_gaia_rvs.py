"""Gaia RVS on its own files: the calcium triplet in vacuum, every structure of a download."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from astropy.table import Table

from spectrolabe import surveys
from spectrolabe.errors import InputError
from spectrolabe.surveys.files import opened
from spectrolabe.surveys.gaia_rvs import GSPSPEC_FLAGS
from tests.surveys.writers import gaia_rvs as writers
from tests.surveys.writers.galah import vacuum

# Ca II, vacuum Å; in air 8498.02, 8542.09, 8662.14
TRIPLET = (8500.35, 8544.44, 8664.52)
C = 299792.458


def centre(spectrum, line):
    """Centroid of the core of an absorption line."""
    near = np.abs(spectrum.wavelength - line) < 2
    depth = 1 - spectrum.flux[near]
    depth = np.where(depth > 0.7 * depth.max(), depth, 0)
    return np.sum(depth * spectrum.wavelength[near]) / np.sum(depth)


@pytest.mark.data
@pytest.mark.parametrize("name", ["Kepler-93", "GaiaDR3-3174658066485297152"])
def test_the_calcium_triplet_is_in_vacuum_and_at_rest(shared_data, name):
    (spectrum,) = surveys.read(shared_data / "gaia_rvs" / f"{name}.csv")
    shifts = [C * (centre(spectrum, line) / line - 1) for line in TRIPLET]
    # air instead of vacuum would be 82 km/s, one pixel is 3.5; emission distorts single cores
    assert np.median(np.abs(shifts)) < 2.0
    assert np.abs(shifts).max() < 6.0
    assert spectrum.frame == "rest"
    assert np.isnan(spectrum.rv)


def test_the_triplet_of_the_other_tests_is_that_of_air():
    np.testing.assert_allclose(vacuum(np.array([8498.02, 8542.09, 8662.14])), TRIPLET, atol=0.015)


@pytest.mark.data
def test_real_values_and_edges(shared_data):
    path = shared_data / "gaia_rvs" / "Kepler-93.csv"
    (spectrum,) = surveys.read(path)
    with path.open() as stream:
        rows = list(csv.DictReader(stream))
    assert spectrum.star_id == rows[0]["source_id"] == "2052747119115620352"
    assert len(spectrum) == len(rows) == 2401
    measured = np.array([bool(row["flux"]) for row in rows])
    first, last = np.flatnonzero(measured)[[0, -1]]
    # the outer ten pixels of what was measured are not used
    assert np.flatnonzero(spectrum.good)[[0, -1]].tolist() == [first + 10, last - 10]
    for i in (500, 1200, 1900):
        assert spectrum.flux[i] == pytest.approx(float(rows[i]["flux"]))
        assert spectrum.ivar[i] == pytest.approx(float(rows[i]["flux_error"]) ** -2, rel=1e-5)
        assert spectrum.wavelength[i] == pytest.approx(10 * float(rows[i]["wavelength"]))


@pytest.mark.parametrize("name", writers.MORE_SPECTRA)
def test_other_wrappings_of_the_same_numbers(tmp_path, name):
    case = writers.MORE_SPECTRA[name](tmp_path, np.random.default_rng(1))
    spectra = surveys.read(case.path)
    assert {s.survey for s in spectra} == {"gaia_rvs"}
    assert [s.star_id for s in spectra] == [want.star_id for want in case.expected]
    for got, want in zip(spectra, case.expected, strict=True):
        np.testing.assert_allclose(got.wavelength, want.wavelength, atol=2e-3)
        np.testing.assert_array_equal(got.good, want.ivar > 0)
        np.testing.assert_allclose(got.flux[got.good], want.flux[got.good], rtol=1e-6)


def test_a_card_of_a_fits_file_names_the_source(tmp_path):
    table, _ = writers._individual(np.random.default_rng(2))
    table.meta["HIERARCH source_id"] = 42
    table.write(tmp_path / "RVS-Gaia DR3 3174658066485297152.fits")
    (spectrum,) = surveys.read(tmp_path / "RVS-Gaia DR3 3174658066485297152.fits")
    assert spectrum.star_id == "42"


def test_angstrom_is_not_taken_for_nanometres(tmp_path):
    table, expected = writers._individual(np.random.default_rng(3))
    table["wavelength"] = 10 * table["wavelength"].value
    table["wavelength"].unit = "Angstrom"
    table.write(tmp_path / "rvs.fits")
    (spectrum,) = surveys.read(tmp_path / "rvs.fits")
    np.testing.assert_allclose(spectrum.wavelength, expected.wavelength, atol=2e-3)


def test_other_spectra_of_gaia_are_not_rvs(tmp_path):
    # sampled BP/RP: the same columns, 343 pixels from 336 to 1020 nm
    flux = np.ones(343)
    wide = Table({"wavelength": np.linspace(336, 1020, 343), "flux": flux, "flux_error": flux})
    raw = Table({"source_id": [1], "flux": flux[None], "flux_error": flux[None]})
    for name, table in (("wide.csv", wide), ("raw.fits", raw)):
        table.write(tmp_path / name)
        with opened(tmp_path / name) as file:
            assert not surveys.get("gaia_rvs").recognises(file)


def test_arrays_of_different_length_are_an_error(tmp_path):
    path = tmp_path / "raw.csv"
    flux, error = ", ".join(["1"] * 2401), ", ".join(["0.1"] * 2400)
    path.write_text(f'source_id,flux,flux_error\n7,"({flux})","({error})"\n')
    with pytest.raises(InputError, match=r"raw\.csv: expected 2401 pixels.* source 7.*2400"):
        surveys.read(path)


def test_flags_have_a_name_for_every_character():
    assert len(GSPSPEC_FLAGS) == len(set(GSPSPEC_FLAGS)) == 41
    # places counted from 1 in table 2 of Recio-Blanco et al. (2023)
    for place, name in ((1, "vbroadT"), (7, "fluxNoise"), (13, "KMgiantPar"), (16, "MgUpLim")):
        assert GSPSPEC_FLAGS[place - 1] == name
    assert GSPSPEC_FLAGS[26] == "CrUncer"


@pytest.mark.parametrize("last", ["9", "0"])
def test_flags_that_a_csv_reader_takes_for_a_number(tmp_path, last):
    table = writers._parameters()[:1]
    table["flags_gspspec"] = ["0" * 40 + last]
    table.write(tmp_path / "parameters.csv")
    assert Table.read(tmp_path / "parameters.csv")["flags_gspspec"].dtype.kind == "i"
    got = surveys.read_labels(tmp_path / "parameters.csv", "gaia_rvs")
    assert got.good.tolist() == [True]
    assert got.labels["mg_fe"][0] == pytest.approx(0.11)


def test_labels_without_flags_are_an_error(tmp_path):
    table = writers._parameters()
    table.remove_column("flags_gspspec")
    table.write(tmp_path / "parameters.csv")
    with pytest.raises(InputError, match=r"Missing: flags_gspspec"):
        surveys.read_labels(tmp_path / "parameters.csv", "gaia_rvs")
