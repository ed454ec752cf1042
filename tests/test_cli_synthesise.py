"""`spectrolabe synthesise` as a user meets it."""

from __future__ import annotations

import subprocess
import sys
from functools import partial

import numpy as np
import pytest

from spectrolabe.synthesis import differential
from spectrolabe.synthesis.grid import read_grid

TABLE = """star_id,teff,logg,fe_h,v_micro,mg_fe
sun,5777,4.44,0,1.0,0
arcturus,4286,1.66,-0.52,1.7,0.3
"""
CONFIG = """name = "small"
[stars]
count = 2
teff = [5000.0, 6000.0]
[spectra]
ranges = [[5170.0, 5176.0]]
"""


@pytest.fixture
def invoke(invoke):
    """Exit code, output and errors of the verb."""
    return partial(invoke, "synthesise")


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "stars.csv"
    path.write_text(TABLE)
    return path


def test_given_stars(invoke, table, tmp_path):
    output = tmp_path / "GRID"
    code, out, err = invoke("--labels", table, "--range", 5170, 5176, "-o", output)
    assert code == 0, err
    assert f"{output}: 2 spectra, 2 of them new" in out
    assert "note: taken as 0, for there is no such column: li_fe" in out
    grid = read_grid(output, verify=True)
    assert grid.wavelength[[0, -1]].tolist() == pytest.approx([5170.0, 5176.0])
    assert np.diff(grid.wavelength) == pytest.approx(0.05)
    flux = np.asarray(grid.flux)
    assert flux.min(axis=1) == pytest.approx([0.1, 0.1], abs=0.1)  # Mg b
    assert flux.max() <= 1.0
    again = invoke("--labels", table, "--range", 5170, 5176, "-o", output)
    assert again[0] == 0
    assert "2 spectra, 0 of them new" in again[1]


def test_options_reach_the_grid(invoke, table, tmp_path, monkeypatch):
    monkeypatch.setattr(differential, "DIFFERENTIAL", ("v_micro", "mg_fe", "eu_fe"))
    output = tmp_path / "GRID"
    options = ["--range", 5170, 5172, "--step", 0.1, "--atmospheres", "atlas9", "--differential"]
    code, _, err = invoke("--labels", table, *options, "-o", output)
    assert code == 0, err
    grid = read_grid(output)
    assert len(grid.wavelength) == 21
    assert grid.differential_names == ("v_micro", "mg_fe", "eu_fe")
    assert grid.provenance["atmospheres"] == "atlas9"
    assert grid.provenance["flags"] == ["NO_LINES_eu"]
    assert grid.differential[:, 1].min() < -0.05  # more magnesium, deeper lines


def test_a_configuration_with_overrides(invoke, tmp_path):
    path, output = tmp_path / "c.toml", tmp_path / "GRID"
    path.write_text(CONFIG)
    code, _, err = invoke(path, "stars.count=3", "spectra.step=0.1", "-o", output)
    assert code == 0, err
    grid = read_grid(output)
    assert len(grid) == 3
    assert len(grid.wavelength) == 61


def test_bad_rows_are_listed_and_the_good_ones_finished(invoke, tmp_path):
    table, output = tmp_path / "stars.csv", tmp_path / "GRID"
    table.write_text(TABLE + "cold,2000,4.5,0,1,0\nempty,5000,,0,1,0\nk,4100,4.6,0,0.8,0\n")
    code, out, err = invoke("--labels", table, "--range", 5170, 5172, "-o", output)
    assert code == 1
    assert "3 spectra" in out
    assert "row 2 (cold): teff: expected a number from" in err
    assert "row 3 (empty): label logg: expected a number, found none (NaN)" in err
    assert "2 stars without a spectrum, listed in" in err
    assert (tmp_path / "GRID.bad.csv").read_text().count("\n") == 3
    grid = read_grid(output)
    assert grid.labels.star_id.tolist() == ["sun", "arcturus", "k"]
    assert grid.flags == ((), (), ("COOL_NO_TIO",))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected CONFIG or --labels TABLE, found neither"),
        (["--range", "1000", "1100"], "1000"),
        (["--range", "5200", "5100"], r"ranges must be"),
        (["--step", "-1"], r"spectra\.step"),
        (["--atmospheres", "phoenix"], "known grid of model atmospheres"),
    ],
)
def test_mistakes(invoke, table, tmp_path, arguments, message):
    given = ["--labels", table] if arguments else []
    code, _, err = invoke(*given, *arguments, "-o", tmp_path / "GRID")
    assert code == 1
    assert err.startswith("error: ")
    assert message.replace("\\", "") in err
    assert not (tmp_path / "GRID").exists()
    assert not (tmp_path / "GRID.parts").exists()


def test_the_package_of_spectra_loads_nothing_compiled():
    code = (
        "import sys, spectrolabe, spectrolabe.synthesis as s; dir(s);"
        "print([m for m in ('numpy', 'numba', 'scipy', 'astropy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_of_the_package_of_spectra_is_there():
    import spectrolabe.synthesis as synthesis

    for name in synthesis.__all__:
        assert getattr(synthesis, name).__module__.startswith("spectrolabe.synthesis.")
