"""`make demo` from simulation to page, with a few stars and a model that has hardly learnt."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from spectrolabe.catalogue import read_catalogue
from spectrolabe.errors import InputError
from spectrolabe.sky.intrinsic import LIBRARY, find_library

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow


def _demo(run: Path) -> subprocess.CompletedProcess[str]:
    words = ["--run", run, "--stars", "90", "--test-stars", "30", "--workers", "1"]
    words += ["training.epochs=2", "data.calibration=0.4", "encoder.width=16", "encoder.latents=4"]
    return subprocess.run(
        [sys.executable, ROOT / "scripts" / "demo.py", *map(str, words)],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    try:
        find_library(LIBRARY)
    except InputError:
        pytest.skip("no library of spectra")
    folder = tmp_path_factory.mktemp("demo") / "run"
    done = _demo(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done.stdout


def test_it_ends_with_a_catalogue_and_a_page(run):
    folder, output = run
    assert str(folder / "catalogue.parquet") in output
    assert str(folder / "page.html") in output
    assert re.search(r"[\d.]+ minutes", output)
    page = (folder / "page.html").read_text()
    catalogue = read_catalogue(folder / "catalogue.parquet")
    for survey in ("apogee", "galah", "gaia_rvs", "lamost_lrs", "sdss_boss"):
        assert survey in output
        assert survey in page
        assert (catalogue["survey"] == survey).any()
    assert page.count("data:image/png;base64,") == 5


def test_a_second_call_does_nothing_twice(run):
    folder, _ = run
    before = (folder / "catalogue.parquet").stat().st_mtime_ns
    done = _demo(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 of them new" in done.stdout
    assert (folder / "catalogue.parquet").stat().st_mtime_ns == before
