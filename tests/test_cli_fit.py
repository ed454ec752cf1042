"""`spectrolabe fit` as a user meets it: what it prints, and its exit codes."""

from __future__ import annotations

import re

import numpy as np
import pytest

from spectrolabe.catalogue import read_catalogue
from spectrolabe.models.emulator import load_emulator
from tests.inference.fitted import saved_emulator, write_star, write_stars


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return saved_emulator(tmp_path_factory.mktemp("emulator") / "tiny")


@pytest.fixture
def spectra(model, tmp_path):
    write_stars(tmp_path / "spectra", model, 2)
    return tmp_path / "spectra"


def test_help_explains_every_option(invoke):
    code, out, _ = invoke("fit", "--help")
    assert code == 0
    options = """--output --labels --method --start --prior --fix --continuum --v-broad
        --model-error --calibration --spectra --plot --survey --together --visits --workers"""
    for option in options.split():
        assert option in out, option
    assert "Example: spectrolabe fit default spectra/" in out


def test_fit_writes_a_catalogue_and_figures(invoke, model, spectra, tmp_path):
    catalogue = tmp_path / "cat.fits"
    code, out, err = invoke(
        "fit", model, spectra, "-o", catalogue, "--labels", "teff,fe_h", "--fix", "logg=3.2",
        "--prior", "none", "--prior", "teff=5500:2000", "--continuum", 8, "--no-v-broad",
        "--plot", tmp_path / "figures",
    )  # fmt: skip
    assert (code, err.strip()) == (0, "")
    assert re.search(r"cat\.fits: 2 stars in \d+\.\d s \(\d+\.\d stars/s\)", out)
    table = read_catalogue(catalogue)
    said = table.meta["provenance"]
    assert said["priors"] == {"teff": [5500.0, 2000.0]}
    assert (said["continuum"], said["v_broad"], said["fixed"]) == (8, False, {"logg": 3.2})
    assert said["command"].startswith("spectrolabe fit")
    assert np.isfinite(table["fe_h"]).all()
    assert len(list((tmp_path / "figures").glob("*.png"))) == 2


def test_a_bad_star_is_named_and_the_exit_code_is_1(invoke, model, spectra, tmp_path):
    emulator = load_emulator(model)
    write_star(spectra / "red.ecsv", emulator, emulator.mean, wavelength=np.arange(7020, 7150, 0.1))
    catalogue = tmp_path / "cat.parquet"
    code, out, err = invoke("fit", model, spectra, "-o", catalogue, "--labels", "teff,fe_h")
    assert code == 1
    assert "3 stars" in out
    assert "red.ecsv" in err
    assert "1 without a result, listed in" in err
    assert len(read_catalogue(catalogue)) == 3
    assert "red.ecsv" in (tmp_path / "cat.parquet.bad.csv").read_text()


def test_mistakes_are_one_message(invoke, model, spectra, tmp_path):
    out = tmp_path / "c.parquet"
    for arguments, expected in (
        (("fit", "lamost-dr10", spectra, "-o", out), "Use it with `spectrolabe predict`"),
        (("predict", model, spectra, "-o", out), "Use it with `spectrolabe fit`"),
        (("fit", model, spectra, "-o", out, "--labels", "tef"), "Did you mean 'teff'?"),
        (("fit", model, spectra, "-o", out, "--prior", "tight"), "LABEL=MEAN:SIGMA"),
        (("fit", model, spectra, "-o", tmp_path / "c.txt"), "c.txt: expected"),
        (("fit", model, tmp_path / "none", "-o", out), "Check the path."),
    ):
        code, _, err = invoke(*arguments)
        assert code == 1
        assert expected in err
        assert err.count("\n") == 1
    assert not out.exists()
