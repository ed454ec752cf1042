"""Spectra of the worst rows are drawn where files are at hand; else the page says so."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.table import Table

from spectrolabe.models.emulator import load_emulator
from spectrolabe.surveys import read
from spectrolabe.validation.beside import read_truth_of
from spectrolabe.validation.catalogue_rows import read_rows
from spectrolabe.validation.recovered import worst_rows
from spectrolabe.validation.worst_spectra import worst_spectra
from tests.inference.fitted import saved_emulator, write_star
from tests.inference.fitted import true_labels as true_labels_of
from tests.validation.made_up import SIGMA, catalogue, true_labels, truth_table, write

HEAD = """# MEDIUM = vacuum
# FRAME = rest
# RV = 0
# R = 2000
# WAVEUNIT = Angstrom
wavelength,flux,error
"""


@pytest.fixture
def worst(tmp_path):
    """Three rows, the second and then the third the worst; the file of the second is there."""
    path = tmp_path / "spectra" / "deep" / "b.csv"
    path.parent.mkdir(parents=True)
    flux = 1.0 + 0.5 * np.sin(np.arange(50))
    lines = [f"{4000 + i},{one:.4f},0.01" for i, one in enumerate(flux)]
    path.write_text(HEAD + "\n".join(lines))
    (spectrum,) = read(path)
    truth = true_labels(3)
    values = truth + SIGMA * np.array([[1.0], [20.0], [-10.0]])
    table = catalogue(
        values, "generic", ["a", "b", "c"], spectrum_id=["a", spectrum.spectrum_id, "c"],
        file=["a.csv", "b.csv", "c.csv"],
    )  # fmt: skip
    rows = read_rows([write(table, tmp_path / "catalogue.parquet")])
    known = truth_table(truth, ["a", "b", "c"])
    known["path"] = ["", "spectra/deep/b.csv", ""]
    return rows, known, flux, tmp_path


def _found(rows, table, folder):
    Table(table).write(folder / "truth.csv", overwrite=True)
    truth = read_truth_of(rows, folder / "truth.csv")
    return worst_rows(rows, truth), truth


def test_pulls_order_the_rows(worst):
    rows, known, _, folder = worst
    found, _ = _found(rows, known, folder)
    assert [one.star_id for one in found] == ["b", "c", "a"]
    np.testing.assert_allclose([one.pull for one in found], [20.0, -10.0, 1.0], rtol=1e-3)


@pytest.mark.parametrize("told", ["by the truth", "by a folder"])
def test_a_spectrum_is_drawn_where_its_file_is(worst, told):
    rows, known, flux, folder = worst
    if told == "by a folder":
        known.remove_column("path")
    found, truth = _found(rows, known, folder)
    folders = [folder / "spectra"] if told == "by a folder" else []
    figure, notes = worst_spectra(found, rows, truth, folders)
    assert len(figure.axes) == 1  # fifty pixels have no model
    drawn = figure.axes[0].lines[0].get_ydata()
    np.testing.assert_allclose(drawn, flux / np.median(flux), atol=1e-3)
    assert "b, generic" in figure.subfigs[0].get_suptitle()
    assert len(notes) == 3
    assert "b: No model" in notes[0]
    assert "its file is not at hand" in notes[1]


@pytest.fixture
def modelled(tmp_path, monkeypatch):
    """A star of a small emulator, and the truth of another one."""
    path = saved_emulator(tmp_path / "tiny")
    monkeypatch.setattr("spectrolabe.inference.row_models.find_emulators", lambda _: [path])
    model = load_emulator(path)
    labels = true_labels_of(model, 1)
    file = write_star(tmp_path / "spectra" / "s0.ecsv", model, labels[0], snr=200.0)
    (spectrum,) = read(file)

    def found(teff):
        values = np.array([[teff, *labels[0, 1:3], 0.0]])
        table = catalogue(
            values, "generic", ["star s0"], spectrum_id=[spectrum.spectrum_id], file=["s0.ecsv"]
        )
        rows = read_rows([write(table, tmp_path / "catalogue.parquet")])
        wrong, truth = _found(rows, truth_table(values + 10.0 * SIGMA, ["star s0"]), tmp_path)
        return worst_spectra(wrong, rows, truth, [tmp_path / "spectra"])

    return found, labels[0, 0]


def test_models_are_at_the_labels_of_the_catalogue(modelled):
    found, teff = modelled
    models = []
    for asked in (teff, teff - 800.0):
        figure, notes = found(asked)
        assert notes == []
        flux, near, *_ = figure.axes
        assert "% of" in near.get_title()
        line = near.lines[-1].get_xdata()[0]
        low, high = near.get_xlim()
        assert 5020.0 < low < line < high < 5150.0
        data, model = (drawn.get_ydata() for drawn in flux.lines)
        seen = np.isfinite(model)
        assert seen.mean() > 0.5
        assert np.std(data[seen] / model[seen]) == pytest.approx(1 / 200, rel=0.15)  # the noise
        models.append(model)
    assert 2e-4 < np.nanstd(models[1] / models[0]) < 2e-3  # as the emulator by itself, 8e-4


def test_without_files_the_page_says_so(worst):
    rows, known, _, folder = worst
    known.remove_column("path")
    found, truth = _found(rows, known, folder)
    figure, notes = worst_spectra(found, rows, truth)
    assert figure is None
    assert len(notes) == 1
    assert "--spectra" in notes[0]
