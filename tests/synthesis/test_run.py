"""Grids in parallel, interrupted, asked for again, and with stars that fail."""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

from spectrolabe import parallel
from spectrolabe.config import GridConfig, SpectraConfig
from spectrolabe.errors import InputError
from spectrolabe.labels import Labels
from spectrolabe.synthesis import run
from spectrolabe.synthesis.grid import read_grid
from spectrolabe.synthesis.run import synthesise_grid
from tests.synthesis.grids import NAMES, fake_engine, label_values, spectrum

SPECTRA = SpectraConfig(ranges=((5000.0, 5050.0),), differential=("mg_fe", "la_fe"))


def stars(count: int = 6, **changes: float) -> Labels:
    """Labels of stars; ``row_3=nan`` replaces the temperature of row 3."""
    values = label_values(count)
    for name, value in changes.items():
        values[int(name.removeprefix("row_")), 0] = value
    ids = np.array([f"s{i}" for i in range(count)])
    return Labels(NAMES, values, np.full(values.shape, np.nan), ids)


def make(output, labels=None, **options):
    options = {"spectra": SPECTRA, "engine": fake_engine, **options}
    return synthesise_grid(labels or stars(), output, **options)


class Counted:
    """An engine that counts, and dies at a given star."""

    def __init__(self, dies_at: int = 999) -> None:
        self.count, self.dies_at = 0, dies_at
        self.__module__, self.__qualname__ = fake_engine.__module__, fake_engine.__qualname__

    def __call__(self, *arguments, **options):
        if self.count == self.dies_at:
            raise KeyboardInterrupt
        self.count += 1
        return fake_engine(*arguments, **options)


def test_a_grid_holds_what_the_engine_gives(tmp_path):
    report = make(tmp_path / "GRID")
    grid = read_grid(tmp_path / "GRID", verify=True)
    assert (report.stars, report.added, report.skipped, report.bad) == (6, 6, 0, [])
    assert grid.wavelength[0] == 5000.0
    assert len(grid.wavelength) == 1001
    for row in range(6):
        labels = dict(zip(NAMES, grid.labels.values[row], strict=True))
        flux, continuum = spectrum(labels, grid.wavelength)
        assert np.abs(grid.flux[row] - flux).max() < 1.1e-5
        assert np.abs(grid.continuum[row] / continuum - 1).max() < 1.1e-4
    assert grid.labels.star_id.tolist() == [f"s{i}" for i in range(6)]
    assert grid.differential_names == ("mg_fe", "la_fe")
    assert sorted(os.listdir(tmp_path)) == ["GRID"]


def test_provenance_says_how_it_was_made_and_not_when(tmp_path):
    make(tmp_path / "GRID")
    provenance = read_grid(tmp_path / "GRID").provenance
    assert provenance["engine"] == "tests.synthesis.grids.fake_engine"
    assert provenance["atmospheres"] == "marcs"
    assert provenance["wavelength_medium"] == "vacuum"
    assert provenance["solar_mixture"] == "Grevesse, Asplund & Sauval 2007"
    assert len(provenance["tables"]["atoms"]) == 64
    assert provenance["config"]["spectra"]["step"] == 0.05
    text = json.dumps(dict(provenance))
    assert str(tmp_path) not in text
    assert "date" not in text


def test_an_element_without_lines_is_told(tmp_path):
    report = make(tmp_path / "GRID")
    grid = read_grid(tmp_path / "GRID")
    assert report.notes == ["no lines in this window, differential spectra 0: la_fe"]
    assert grid.provenance["flags"] == ["NO_LINES_la"]
    assert np.array_equal(grid.differential[:, 1], np.zeros((6, 1001)))
    assert np.abs(grid.differential[:, 0]).max() > 0.01


def test_workers_change_nothing(tmp_path):
    labels = stars(5, row_3=7450.0)
    first = make(tmp_path / "one", labels)
    second = make(tmp_path / "two", labels, workers=2)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert first.bad == second.bad
    assert len(first.bad) == 1


def test_an_interrupted_grid_continues_to_the_same_file(tmp_path):
    make(tmp_path / "whole")
    dying, second = Counted(4), Counted()
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "GRID", engine=dying)
    assert not (tmp_path / "GRID").exists()
    with pytest.raises(InputError, match="an unfinished one"):
        read_grid(tmp_path / "GRID")
    report = make(tmp_path / "GRID", engine=second)
    assert second.count == 2
    assert (report.added, report.skipped) == (2, 4)
    assert (tmp_path / "GRID").read_bytes() == (tmp_path / "whole").read_bytes()
    assert not (tmp_path / "GRID.parts").exists()


def test_a_star_cut_short_on_disk_is_computed_again(tmp_path):
    make(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "GRID", engine=Counted(4))
    part = tmp_path / "GRID.parts" / "0000002.safetensors"
    part.write_bytes(part.read_bytes()[:500])
    again = Counted()
    make(tmp_path / "GRID", engine=again)
    assert again.count == 3
    assert (tmp_path / "GRID").read_bytes() == (tmp_path / "whole").read_bytes()


def test_a_finished_grid_is_not_computed_again(tmp_path):
    make(tmp_path / "GRID", stars(4, row_1=7450.0))
    again = Counted()
    report = make(tmp_path / "GRID", stars(4, row_1=7450.0), engine=again)
    assert again.count == 0
    assert (report.stars, report.added, report.skipped) == (3, 0, 3)
    assert [one.row for one in report.bad] == [1]
    assert report.notes == ["no lines in this window, differential spectra 0: la_fe"]


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"labels": stars(row_2=5000.0)}, "another labels"),
        (
            {"spectra": SpectraConfig(ranges=((5000.0, 5051.0),))},
            "differential, wavelength, config",
        ),
        ({"spectra": SPECTRA.model_copy(update={"atmospheres": "atlas9"})}, "another atmospheres"),
    ],
)
def test_another_configuration_on_the_same_output(tmp_path, finished, options, what):
    if finished:
        make(tmp_path / "GRID")
    else:
        with pytest.raises(KeyboardInterrupt):
            make(tmp_path / "GRID", engine=Counted(2))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match=rf"found one with .*{what}.*Give another --output"):
        make(tmp_path / "GRID", **options)
    assert sorted(tmp_path.rglob("*")) == before


def test_stars_that_fail_are_listed_and_the_others_kept(tmp_path):
    report = make(tmp_path / "GRID", stars(5, row_1=np.nan, row_3=7450.0))
    assert report.stars == 3
    assert [(one.row, one.star_id, one.label) for one in report.bad] == [
        (1, "s1", "teff"),
        (3, "s3", "teff"),
    ]
    assert "expected a number, found none (NaN)" in report.bad[0].reason
    assert "expected a number from 2800 to 7400, found 7450" in report.bad[1].reason
    with (tmp_path / "GRID.bad.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(one["row"], one["label"]) for one in rows] == [("1", "teff"), ("3", "teff")]
    grid = read_grid(tmp_path / "GRID")
    assert grid.labels.star_id.tolist() == ["s0", "s2", "s4"]
    assert [one["row"] for one in grid.provenance["failed"]] == [1, 3]


def test_when_every_star_fails_nothing_is_left_but_the_list(tmp_path):
    labels = stars(2, row_0=7450.0, row_1=7460.0)
    with pytest.raises(InputError, match=r"found none of 2; the first: teff: .* found 7450"):
        make(tmp_path / "GRID", labels)
    assert os.listdir(tmp_path) == ["GRID.bad.csv"]


def nan_engine(star, wavelength, *, value=np.nan, **options):
    found = fake_engine(star, wavelength, **options)
    flux = found.flux.copy()
    flux[5] = value
    object.__setattr__(found, "flux", flux)
    return found


def broken_engine(*_, **__):
    raise ZeroDivisionError("an accident")


def test_flux_that_is_no_flux_is_a_failure(tmp_path):
    labels = stars(2)
    with pytest.raises(InputError, match="expected numbers of 0 or more, found others"):
        make(tmp_path / "GRID", labels, engine=nan_engine)
    with pytest.raises(InputError, match="ZeroDivisionError: an accident"):
        make(tmp_path / "GRID", labels, engine=broken_engine)


def test_other_files_in_the_way(tmp_path):
    (tmp_path / "GRID.parts").mkdir()
    (tmp_path / "GRID.parts" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="expected the finished stars of a grid, found other"):
        make(tmp_path / "GRID")
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(InputError, match="expected a grid written by Spectrolabe"):
        make(tmp_path / "mine")
    assert (tmp_path / "mine").read_text() == "mine"


def test_stars_of_a_configuration(tmp_path):
    config = GridConfig.model_validate(
        {
            "name": "c",
            "stars": {"count": 4, "teff": (4300.0, 7000.0)},
            "spectra": {"ranges": [(5000.0, 5010.0), (15200.0, 15210.0)], "step": 0.1},
        }
    )
    synthesise_grid(config, tmp_path / "GRID", engine=fake_engine)
    grid = read_grid(tmp_path / "GRID")
    assert len(grid) == 4
    assert len(grid.labels.names) == 34
    assert np.diff(grid.wavelength).max() > 10_000
    assert len(grid.wavelength) == 202
    assert grid.provenance["config"]["stars"]["seed"] == 0


def test_environment_of_the_workers_is_taken_back(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    with run._one_thread():
        assert os.environ["OMP_NUM_THREADS"] == os.environ["MKL_NUM_THREADS"] == "1"
    assert os.environ["OMP_NUM_THREADS"] == "3"
    assert "MKL_NUM_THREADS" not in os.environ


def die(*_, **__):
    os._exit(1)


def test_a_worker_that_is_killed(monkeypatch):
    # copies of this process, which start at once
    monkeypatch.setattr(parallel, "get_context", lambda _: multiprocessing.get_context("fork"))
    with pytest.raises(InputError, match=r"found one that was killed.*fewer"):
        list(run._each(FakeJob(), [0, 1], 2))


class FakeJob:
    run = staticmethod(die)
    plan = SimpleNamespace(differential=())


@pytest.mark.parametrize(
    ("spectra", "message"),
    [
        ({"differential": ("mg",)}, "known label .* found 'mg'"),
        ({"atmospheres": "marx"}, "known grid of model atmospheres .*found 'marx'. Did you mean"),
        ({"ranges": ((1000.0, 1100.0),)}, "1000"),
    ],
)
def test_what_would_fail_for_every_star_is_found_first(tmp_path, spectra, message):
    with pytest.raises(InputError, match=message):
        synthesise_grid(stars(2), tmp_path / "GRID", spectra=SpectraConfig(**spectra))
    assert os.listdir(tmp_path) == []


def test_a_damaged_table_is_found_first(tmp_path, monkeypatch):
    from spectrolabe.synthesis import tables

    folder = tmp_path / "tables"
    folder.mkdir()
    (folder / "checksums.json").write_text((tables.FOLDER / "checksums.json").read_text())
    for name in json.loads((folder / "checksums.json").read_text()):
        content = (tables.FOLDER / f"{name}.npz").read_bytes()
        (folder / f"{name}.npz").write_bytes(content[:-1] if name == "atoms" else content)
    monkeypatch.setattr(tables, "FOLDER", folder)
    monkeypatch.setattr(tables, "load_table", partial(tables.load_table, folder=folder))
    with pytest.raises(InputError, match=r"atoms\.npz.*the file is damaged.*Install spectrolabe"):
        synthesise_grid(stars(2), tmp_path / "GRID", spectra=SPECTRA)
    assert not (tmp_path / "GRID.parts").exists()
