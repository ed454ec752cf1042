"""Files and stores in, a catalogue out: rows, flags, bad files, interruption."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from astropy.table import Table
from numpy.testing import assert_allclose

from spectrolabe.catalogue import LabelFlag, ResultFlag, read_catalogue
from spectrolabe.errors import InputError
from spectrolabe.inference import predict as module
from spectrolabe.inference.predict import find_model, predict
from spectrolabe.inference.rows import catalogue_of
from spectrolabe.models.checkpoint import load
from spectrolabe.spectra.store import StoreWriter
from tests.models.stars import made_up


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model trained for two epochs: what it says is poor, what is done with it is not."""
    from spectrolabe.config import TrainConfig
    from spectrolabe.training.trainer import train

    folder = tmp_path_factory.mktemp("predict")
    stars, labels = made_up(np.random.default_rng(7), 160, step=6e-4, survey="generic")
    with StoreWriter(folder / "store", labels.names) as writer:
        for star, values in zip(stars, labels.values, strict=True):
            writer.append(star[0], values=values, file=f"{star[0].star_id}.fits")
    config = TrainConfig.model_validate(
        {
            "name": "small",
            "data": {"store": str(folder / "store"), "calibration": 0.4},
            "encoder": {"width": 16, "latents": 8, "blocks": 1, "heads": 2},
            "training": {"epochs": 2, "batch_size": 8, "learning_rate": 2e-3, "ema": 0.9},
        }
    )
    return train(config, folder / "model", progress=False)


def write_table(path, spectrum, **changes):
    table = Table(
        {
            "wavelength": spectrum.wavelength,
            "flux": spectrum.flux.astype(float),
            "ivar": spectrum.ivar.astype(float),
            **changes,
        }
    )
    table["wavelength"].unit = "Angstrom"
    table.meta = {
        "MEDIUM": "vacuum",
        "FRAME": "rest",
        "RV": 0.0,
        "R": 1800.0,
        "STAR_ID": spectrum.star_id,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    table.write(path, overwrite=True)
    return path


@pytest.fixture
def folder(tmp_path):
    stars, _ = made_up(np.random.default_rng(9), 5, step=6e-4)
    for i, star in enumerate(stars):
        write_table(tmp_path / "spectra" / f"night{i % 2}" / f"s{i}.ecsv", star[0])
    return tmp_path / "spectra"


def test_one_row_a_file_with_its_path_in_the_folder(model, folder, tmp_path):
    report = predict(model, [folder], tmp_path / "cat.parquet")
    table = read_catalogue(report.catalogue)
    assert sorted(table["file"]) == sorted(
        ["night0/s0.ecsv", "night1/s1.ecsv", "night0/s2.ecsv", "night1/s3.ecsv", "night0/s4.ecsv"]
    )
    assert (report.stars, report.bad) == (5, ())
    assert str(table["teff"].unit) == "K"
    assert table.meta["provenance"]["model_sha256"] == load(model).card["weights_sha256"]


def test_fits_and_parquet_hold_the_same(model, folder, tmp_path):
    one = read_catalogue(predict(model, [folder], tmp_path / "cat.parquet").catalogue)
    other = read_catalogue(predict(model, [folder], tmp_path / "cat.fits").catalogue)
    assert one.colnames == other.colnames
    assert_allclose(one["raw_teff"], other["raw_teff"])


def test_bad_files_are_listed_and_the_good_rows_written(model, folder, tmp_path):
    stars, _ = made_up(np.random.default_rng(1), 2, step=6e-4)
    dead = stars[0][0].replace(ivar=np.zeros(len(stars[0][0])))
    write_table(folder / "dead.ecsv", dead)
    (folder / "broken.fits").write_bytes(b"SIMPLE  =                    T" + b" " * 3000)
    (folder / "labels.csv").write_text("file,teff\ns0.ecsv,5000\n")  # no spectrum: passed over
    report = predict(model, [folder], tmp_path / "cat.parquet")
    assert report.stars == 5
    assert sorted(name for name, _ in report.bad) == ["broken.fits", "dead.ecsv"]
    reasons = dict(report.bad)
    assert "no usable pixel" in reasons["dead.ecsv"]
    with (tmp_path / "cat.parquet.bad.csv").open() as stream:
        assert len(list(csv.reader(stream))) == 3


def test_an_interrupted_prediction_continues(model, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BATCH", 2)
    (folder / "a-broken.fits").write_bytes(b"SIMPLE  =                    T" + b" " * 3000)
    calls = []

    def counted(estimator, stars, estimate):
        calls.append(len(stars))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return catalogue_of(estimator, stars, estimate)

    monkeypatch.setattr(module, "catalogue_of", counted)
    with pytest.raises(KeyboardInterrupt):
        predict(model, [folder], tmp_path / "cat.parquet")
    monkeypatch.setattr(module, "catalogue_of", catalogue_of)
    report = predict(model, [folder], tmp_path / "cat.parquet")
    assert (report.skipped, report.stars) == (2, 4)
    assert [name for name, _ in report.bad] == ["a-broken.fits"]  # of the first run
    assert "a-broken.fits" in (tmp_path / "cat.parquet.bad.csv").read_text()
    again = predict(model, [folder], tmp_path / "whole.parquet")
    one, other = read_catalogue(report.catalogue), read_catalogue(again.catalogue)
    assert list(one["file"]) == list(other["file"])
    assert_allclose(one["raw_teff"], other["raw_teff"])


def test_one_star_does_not_stop_the_others(model, folder, tmp_path, monkeypatch):
    def fragile(estimator, stars, estimate):
        if any(star[0].where == "night0/s2.ecsv" for star in stars):
            raise ZeroDivisionError("of this star")
        return catalogue_of(estimator, stars, estimate)

    whole = read_catalogue(predict(model, [folder], tmp_path / "whole.parquet").catalogue)
    monkeypatch.setattr(module, "catalogue_of", fragile)
    report = predict(model, [folder], tmp_path / "cat.parquet")
    assert [name for name, _ in report.bad] == ["night0/s2.ecsv"]
    assert "cannot be predicted (ZeroDivisionError: of this star)" in report.bad[0][1]
    table = read_catalogue(report.catalogue)
    kept = whole["file"] != "night0/s2.ecsv"
    assert list(table["file"]) == list(whole["file"][kept])
    assert_allclose(table["raw_teff"], whole["raw_teff"][kept], rtol=1e-5)

    def broken(*_):
        raise ZeroDivisionError("of the program")

    monkeypatch.setattr(module, "catalogue_of", broken)
    with pytest.raises(ZeroDivisionError, match="of the program"):
        predict(model, [folder], tmp_path / "none.parquet")


def test_the_spectra_of_a_star_in_several_files_are_joined_when_asked(model, folder, tmp_path):
    star = made_up(np.random.default_rng(3), 1, step=6e-4)[0][0][0]
    blue, red = star.wavelength < 5800.0, star.wavelength >= 5800.0
    for name, part in (("blue", blue), ("red", red)):
        arm = star.replace(
            wavelength=star.wavelength[part], flux=star.flux[part], ivar=star.ivar[part]
        )
        write_table(tmp_path / "arms" / f"{name}.ecsv", arm)
    apart = predict(model, [tmp_path / "arms"], tmp_path / "a.parquet")
    joined = predict(model, [tmp_path / "arms"], tmp_path / "b.parquet", together="star")
    assert (apart.stars, joined.stars) == (2, 1)
    assert read_catalogue(joined.catalogue)["n_spectra"][0] == 2


def test_results_among_the_inputs_are_no_inputs(model, folder, monkeypatch):
    """Neither parts nor lists of an interrupted run, nor the catalogue of an earlier one."""
    (folder / "broken.fits").write_bytes(b"SIMPLE  =                    T" + b" " * 3000)
    first = predict(model, [folder], folder / "cat.parquet", neighbours=0)
    monkeypatch.setattr(module, "BATCH", 2)
    monkeypatch.setattr(module, "catalogue_of", _interrupted_at(2))
    with pytest.raises(KeyboardInterrupt):
        predict(model, [folder], folder / "cat.parquet")
    monkeypatch.setattr(module, "catalogue_of", catalogue_of)
    again = predict(model, [folder], folder / "cat.parquet")
    assert (first.stars, again.skipped + again.stars + len(again.bad)) == (5, 6 + 1)
    assert first.bad == again.bad


def _interrupted_at(call):
    calls = []

    def stopped(*arguments):
        calls.append(arguments)
        if len(calls) == call:
            raise KeyboardInterrupt
        return catalogue_of(*arguments)

    return stopped


def test_a_store_gives_what_its_files_give(model, folder, tmp_path, monkeypatch):
    from spectrolabe.surveys.ingest import ingest

    monkeypatch.setattr(module, "BATCH", 2)
    ingest("generic", folder, tmp_path / "store")
    files = read_catalogue(predict(model, [folder], tmp_path / "a.parquet").catalogue)
    store = read_catalogue(predict(model, [tmp_path / "store"], tmp_path / "b.parquet").catalogue)
    files.sort("star_id")
    store.sort("star_id")
    assert list(files["star_id"]) == list(store["star_id"])
    assert_allclose(files["raw_teff"], store["raw_teff"], rtol=1e-5)


def flags_of(model, spectrum):
    row = catalogue_of(load(model), [[spectrum]])[0]
    return ResultFlag(int(row["result_flags"])), row


def test_flags(model):
    star = made_up(np.random.default_rng(2), 1, step=6e-4)[0][0][0]
    # so little trained a model may know nothing yet
    assert flags_of(model, star)[0] & ~ResultFlag.NO_RESULT == ResultFlag(0)
    assert ResultFlag.UNKNOWN_SURVEY in flags_of(model, star.replace(survey="apogee"))[0]
    moving = star.replace(frame="barycentric", rv=np.nan)
    assert ResultFlag.NO_VELOCITY in flags_of(model, moving)[0]
    noisy = star.replace(ivar=star.ivar * 1e-4)
    assert ResultFlag.LOW_SNR in flags_of(model, noisy)[0]
    few = star.replace(ivar=np.where(np.arange(len(star)) < 60, star.ivar, 0.0))
    assert ResultFlag.FEW_PIXELS in flags_of(model, few)[0]
    infrared, row = flags_of(model, star.replace(wavelength=3.0 * star.wavelength))
    assert ResultFlag.OUT_OF_COVERAGE in infrared
    assert row["flag_bad"]
    sharp = flags_of(model, star.replace(resolution=20000.0))[0]
    assert ResultFlag.OUT_OF_COVERAGE in sharp


def test_a_posterior_as_wide_as_the_prior_is_no_measurement(model):
    star = made_up(np.random.default_rng(2), 1, step=6e-4)[0][0][0]
    estimator = load(model)
    estimator.card["training_data"]["label_spread"]["teff"] = 1.0  # K
    row = catalogue_of(estimator, [[star]])[0]
    assert np.isnan(row["teff"])
    assert np.isnan(row["raw_teff"])
    assert row["teff_flags"] & LabelFlag.NO_INFORMATION


def test_the_combined_spectrum_stands_for_its_visits(model):
    star = made_up(np.random.default_rng(2), 1, step=6e-4)[0][0][0]
    parts = [
        star.replace(spectrum_id=name, meta={"file": "a", "coadd": coadd, "alternative": other})
        for name, coadd, other in (
            ("sum", True, False),
            ("other", True, True),
            ("v1", False, False),
            ("v2", False, False),
        )
    ]
    groups, _ = module._groups(parts, "file", visits=False)
    assert [[s.spectrum_id for s in g] for g in groups] == [["sum"]]
    groups, _ = module._groups(parts, "file", visits=True)
    assert [[s.spectrum_id for s in g] for g in groups] == [["v1"], ["v2"]]
    groups, _ = module._groups(parts[2:], "file", visits=False)
    assert [[s.spectrum_id for s in g] for g in groups] == [["v1", "v2"]]


def test_what_cannot_be_found_is_named(model, folder, tmp_path):
    with pytest.raises(InputError, match=r"nothing: expected a run, a folder of a model"):
        find_model("nothing")
    with pytest.raises(InputError, match=r"expected a model folder with card\.json"):
        predict(tmp_path, [folder], tmp_path / "c.parquet")
    with pytest.raises(InputError, match=r"cat\.txt: expected"):
        predict(model, [folder], tmp_path / "cat.txt")
    with pytest.raises(InputError, match=r"expected 'file' or 'star', found 'night'"):
        predict(model, [folder], tmp_path / "c.parquet", together="night")


def test_a_full_disk_leaves_nothing_half_written(model, folder, tmp_path, monkeypatch):
    import pyarrow.parquet as pq

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(InputError, match=r"no space left on the disk .*what was written is kept"):
        predict(model, [folder], tmp_path / "cat.parquet")
    assert not (tmp_path / "cat.parquet").exists()
    assert not list(tmp_path.glob("cat.parquet.parts/*part-*"))
