"""What the page is told is what catalogue, files and fits say."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest
from astropy.io import fits as fits_files
from astropy.table import Table
from numpy.testing import assert_allclose, assert_array_equal

from spectrolabe.catalogue import ResultFlag, read_catalogue, read_row, write_catalogue
from spectrolabe.errors import InputError
from spectrolabe.explorer import Explored
from spectrolabe.inference.fit_products import read_product
from spectrolabe.models.emulator import load_emulator
from tests.inference.fitted import RESOLUTION
from tests.validation.made_up import PROVENANCE, catalogue, true_labels, write


def unpacked(text):
    return np.frombuffer(base64.b64decode(text), dtype="<f4")


def test_columns_are_those_of_the_catalogue(fits, explored):
    table = read_catalogue(fits.path)
    assert len(explored) == len(table) == 3
    assert explored.ids() == [f"star s{i}" for i in range(3)]
    described = [one["name"] for one in explored.describe()["columns"]]
    numeric = [n for n in table.colnames if table[n].dtype.kind in "fib" and n[:4] != "rho_"]
    assert described == explored.columns == numeric
    assert {"teff", "e_teff", "result_flags", "snr"} <= set(described)
    for name in described:
        found = np.frombuffer(explored.column(name), dtype="<f4")
        assert_array_equal(found, np.asarray(table[name]).astype("f4"))
    json.dumps(explored.describe(), allow_nan=False)


def test_a_star_is_its_row_and_its_file(fits, explored):
    table = read_catalogue(fits.path)
    for row in range(3):
        star = json.loads(json.dumps(explored.star(row), allow_nan=False))
        assert star["star_id"] == f"star s{row}"
        values = {one["name"]: one for one in star["labels"]}
        for name in ("teff", "logg", "fe_h"):
            assert values[name]["value"] == pytest.approx(float(table[name][row]), nan_ok=True)
            assert values[name]["sigma"] == pytest.approx(float(table[f"e_{name}"][row]))
        assert star["numbers"]["snr"] == pytest.approx(float(table["snr"][row]))
        rho = unpacked(star["rho"]).reshape(len(values), -1)
        names = list(values)
        for one, other in (("teff", "logg"), ("logg", "fe_h"), ("teff", "fe_h")):
            stated = table[f"rho_{one}_{other}"][row]
            assert abs(stated) > 0.01
            both = (
                rho[names.index(one), names.index(other)],
                rho[names.index(other), names.index(one)],
            )
            assert_allclose(both, stated, rtol=1e-6)
        (spectrum,) = star["spectra"]
        own = Table.read(fits.spectra / "deep" / f"s{row}.ecsv")
        assert_allclose(unpacked(spectrum["flux"]), own["flux"], rtol=1e-6)
        assert_allclose(unpacked(spectrum["sigma"]), np.asarray(own["ivar"]) ** -0.5, rtol=1e-6)
        assert_allclose(unpacked(spectrum["wavelength"]), own["wavelength"], rtol=1e-7)
        assert spectrum["shift"] == 20.0
        assert star["note"] == ""


def test_the_model_is_that_of_the_labels(fits, explored, tmp_path):
    done = explored.model(0)
    assert done["chi2"] < 1.0  # errors of models count beside the noise
    (one,) = done["spectra"]
    used = unpacked(one["used"]) > 0
    flux, model = (unpacked(one[name])[used] for name in ("flux", "model"))
    assert used.sum() > 1000
    assert np.std(flux / model - 1.0) == pytest.approx(1 / 300, rel=0.1)  # the noise
    sigma, error = (unpacked(one[name])[used] for name in ("sigma", "error"))
    assert_allclose(sigma, flux / 300, rtol=0.05)
    assert (error > sigma).all()
    assert set(done["lines"]) >= {"teff", "logg", "fe_h"}
    at = np.array([line[1] for line in done["lines"]["fe_h"]])
    assert ((at > 5019) & (at < 5151)).all()
    # it is the emulator at the labels of the row, times a smooth continuum, whatever they are
    table = read_catalogue(fits.path)
    provenance = table.meta.pop("provenance")
    table["raw_teff"] += 1600.0
    write_catalogue(table, tmp_path / "hot.parquet", provenance)
    hot = Explored(tmp_path / "hot.parquet", [fits.spectra], emulators=fits.model).model(0)
    labels, emulator = Table.read(fits.folder / "truth.csv"), load_emulator(fits.model)
    values = np.array([labels[name][0] for name in emulator.names], dtype=float)
    values[:3] = [table[f"raw_{name}"][0] for name in emulator.names[:3]]
    left: dict[float, dict[float, float]] = {}
    for found, change in ((done, 0.0), (hot, 1600.0)):
        (one,) = found["spectra"]
        wavelength = unpacked(one["wavelength"]).astype(float)
        here = np.isfinite(unpacked(one["model"]))
        left[change] = {}
        for given in (0.0, 1600.0):
            values[0] = table["raw_teff"][0] - 1600.0 + given
            expected = emulator.flux(values, wavelength, RESOLUTION)[0]
            curve = (unpacked(one["model"]) / expected)[here]
            smooth = np.polynomial.Chebyshev.fit(wavelength[here], curve, 8)(wavelength[here])
            left[change][given] = float(np.std(curve / smooth))
    assert left[0.0][0.0] < 0.5 * left[0.0][1600.0]
    assert left[1600.0][1600.0] < 0.8 * left[1600.0][0.0]  # broadening makes up for some of it


def test_what_a_fit_has_left_is_shown_as_it_is(fits):
    explored = Explored(fits.path, [fits.folder / "models"], emulators="none such")
    for row in range(3):
        done = explored.model(row)
        (path,) = (fits.folder / "models").glob(f"star_s{row}_*.fits")
        assert path.name in done["note"]
        hdu = fits_files.getdata(path, 1)
        (one,) = done["spectra"]
        for name in ("flux", "model"):
            assert_allclose(unpacked(one[name]), hdu[name], rtol=1e-6)
        assert_array_equal(unpacked(one["used"]) > 0, ~hdu["mask"])
        header = fits_files.getheader(path, 1)
        ratio = hdu["wavelength"] / unpacked(one["wavelength"]) - 1.0
        assert_allclose(ratio * 299792.458, header["SHIFT"], atol=0.05)
        assert done["lines"] == {}
    both = [fits.folder / "models", fits.spectra]
    found = Explored(fits.path, both, emulators=fits.model).model(0)
    assert "left in" in found["note"]
    assert len(found["lines"]["teff"]) > 1
    assert {line[0] for line in found["lines"]["teff"]} == {0}
    with pytest.raises(InputError, match="found none"):
        read_product(fits.folder / "truth.csv")


def test_a_missing_file_is_named(fits, strange):
    star = Explored(strange, [fits.spectra]).star(1)
    assert star["spectra"] == []
    assert "gone.fits" in star["note"]
    assert "not in the folders of --spectra" in star["note"]
    assert "start with --spectra FOLDER" in Explored(strange).star(0)["note"]
    assert "No model" in Explored(strange).model(0)["note"]
    assert star["flags"] == ["LOW_SNR: S/N below that of the training spectra"]


def test_a_file_with_another_spectrum_is_not_shown(fits, tmp_path):
    table = read_catalogue(fits.path)
    provenance = table.meta.pop("provenance")
    table["spectrum_id"] = np.array(["another", "s1", "s2"])
    write_catalogue(table, tmp_path / "a.parquet", provenance)
    explored = Explored(tmp_path / "a.parquet", [fits.spectra], emulators=fits.model)
    assert explored.star(0)["spectra"] == []
    assert "s0.ecsv: its file holds another" in explored.star(0)["note"]
    assert explored.model(0)["spectra"] == []
    assert len(explored.star(1)["spectra"]) == 1


@pytest.mark.parametrize("name", ["a.parquet", "a.fits", "a.hats"])
def test_one_row_of_any_format(name, tmp_path):
    if name.endswith("hats"):
        pytest.importorskip("lsdb")
    count = 40
    place = {"ra": np.linspace(0, 300, count), "dec": np.linspace(-80, 80, count)}
    table = catalogue(true_labels(count), "apogee", [f"s{i}" for i in range(count)], **place)
    table["rho_teff_logg"] = np.linspace(-0.5, 0.5, count).astype("f4")
    path = write(table, tmp_path / name)
    whole = read_catalogue(path)
    for row in (0, 17, count - 1):
        found = read_row(path, row, "rho_")
        assert set(found) == {n for n in whole.colnames if n.startswith("rho_")}
        assert found["rho_teff_logg"] == pytest.approx(whole["rho_teff_logg"][row])
        explored = Explored(path)
        assert explored.correlations(row)[0, 1] == pytest.approx(whole["rho_teff_logg"][row])
    with pytest.raises(InputError, match="more than 40 rows"):
        read_row(path, count, "rho_")


def test_values_that_are_missing(tmp_path):
    values = true_labels(3)
    values[1, 0] = np.nan
    flags = np.array([0, int(ResultFlag.NO_RESULT), 0])
    path = write(catalogue(values, "x", ["a", "b", "c"], flags=flags), tmp_path / "a.parquet")
    explored = Explored(path)
    assert np.isnan(np.frombuffer(explored.column("teff"), "<f4")).tolist() == [False, True, False]
    star = explored.star(1)
    assert star["labels"][0]["value"] is None
    assert "nothing of this label" in star["labels"][0]["flags"][0]
    assert star["bad"]
    json.dumps(star, allow_nan=False)


def test_what_is_no_catalogue_is_an_error(tmp_path, fits):
    Table({"a": [1]}).write(tmp_path / "a.fits")
    with pytest.raises(InputError, match="a Spectrolabe catalogue"):
        Explored(tmp_path / "a.fits")
    with pytest.raises(InputError, match=r"b\.parquet"):
        Explored(tmp_path / "b.parquet")
    table = catalogue(true_labels(2), "x", ["a", "b"])
    table.remove_column("file")
    with pytest.raises(InputError, match="no file"):
        Explored(write(table, tmp_path / "c.parquet"))
    write_catalogue(catalogue(true_labels(2), "x", ["a", "b"])[:0], tmp_path / "d.fits", PROVENANCE)
    with pytest.raises(InputError, match="at least one row"):
        Explored(tmp_path / "d.fits")
    with pytest.raises(InputError, match="a folder with spectra"):
        Explored(fits.path, [tmp_path / "none"])
