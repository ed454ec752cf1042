"""Ingest: joining labels, what is left out and why, and carrying on where a run stopped."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from spectrolabe.errors import InputError
from spectrolabe.spectra import Frame, Spectrum
from spectrolabe.spectra.store import Store, open_store
from spectrolabe.surveys import read_labels
from spectrolabe.surveys.ingest import IngestReport, ingest
from spectrolabe.surveys.join import LabelJoin
from spectrolabe.surveys.reading import expand

HEADER = ["obsid", "file", "star", "split", "teff", "logg", "feh", "snrg", "rv"]


def write_spectrum(path: Path, obsid: int, *, usable: bool = True) -> Path:
    """A LAMOST file in the layout of DR8 and later, with a redshift of 1e-4."""
    rng = np.random.default_rng(obsid)
    wavelength = 10.0 ** (3.57 + 1e-4 * np.arange(300))
    ivar = rng.uniform(0.5, 2.0, 300) if usable else np.zeros(300)
    columns = {
        "FLUX": ("E", rng.normal(100.0, 5.0, 300)),
        "IVAR": ("E", ivar),
        "WAVELENGTH": ("E", wavelength),
        "ANDMASK": ("E", np.zeros(300)),
        "ORMASK": ("E", np.zeros(300)),
    }
    table = fits.BinTableHDU.from_columns(
        [fits.Column(n, f"300{f}", array=[x]) for n, (f, x) in columns.items()], name="COADD"
    )
    primary = fits.PrimaryHDU()
    primary.header.update({"TELESCOP": "LAMOST", "OBSID": obsid, "Z": 1e-4, "HELIO": True})
    primary.header["DESIG"] = f"LAMOST J{obsid}"
    path.parent.mkdir(parents=True, exist_ok=True)
    fits.HDUList([primary, table]).writeto(path)
    return path


def write_labels(path: Path, rows: list[dict[str, object]]) -> Path:
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, HEADER)
        writer.writeheader()
        writer.writerows({"snrg": 50.0, "rv": "", "split": "train", **row} for row in rows)
    return path


def label_row(i: int, **more: object) -> dict[str, object]:
    return {
        "obsid": i,
        "file": f"raw/spec-{i}.fits.gz",
        "star": f"star{i // 2}",
        "teff": 5000.0 + i,
        "logg": 4.0,
        "feh": -0.01 * i,
        **more,
    }


@pytest.fixture
def files(tmp_path) -> Path:
    """Twelve spectra in two folders."""
    for i in range(1, 13):
        write_spectrum(tmp_path / "spectra" / f"night{i % 2}" / f"spec-{i}.fits", i)
    return tmp_path / "spectra"


@pytest.fixture
def table(tmp_path) -> Path:
    return write_labels(tmp_path / "labels.csv", [label_row(i) for i in range(1, 13)])


def by_id(store: Store) -> dict[str, int]:
    return {str(name): i for i, name in enumerate(store.column("spectrum_id"))}


def run(files: object, path: Path, table: Path | None = None, **more: object) -> IngestReport:
    return ingest("lamost_lrs", files, path / "store", table, **more)


def reasons(report: IngestReport) -> dict[str, str]:
    """Name of the file -> reason, as bad.csv has them."""
    with (report.store / "bad.csv").open(newline="") as stream:
        rows = list(csv.reader(stream))
    assert rows[0] == ["file", "reason"]
    assert tuple((file, reason) for file, reason in rows[1:]) == report.bad
    return {Path(file).name: reason for file, reason in rows[1:]}


def test_every_spectrum_gets_its_own_row(files, table, tmp_path):
    report = run(files, tmp_path, table)
    assert (report.rows, report.added, report.files, report.bad) == (12, 12, 12, ())
    store = open_store(report.store)
    assert store.labels.names == ("teff", "logg", "fe_h")
    for name, row in by_id(store).items():
        i = int(name.removeprefix("spec-"))
        np.testing.assert_allclose(store.labels.values[row], [5000.0 + i, 4.0, -0.01 * i])
        assert store[row].star_id == f"star{i // 2}"
        assert store.column("split")[row] == "train"
        assert store.column("snr")[row] == 50.0
        assert store.column("file")[row] == str(files / f"night{i % 2}" / f"spec-{i}.fits")
        with fits.open(store.column("file")[row]) as hdus:
            np.testing.assert_array_equal(store[row].flux, hdus[1].data["FLUX"][0])
    assert not (report.store / "bad.csv").exists()


def test_velocity_and_quality_are_those_of_the_catalogue(files, tmp_path):
    rows = [
        label_row(i, rv=17.5 if i == 3 else "", snrg=9.0 if i == 4 else 60.0) for i in range(1, 13)
    ]
    report = run(files, tmp_path, write_labels(tmp_path / "labels.csv", rows))
    store = open_store(report.store)
    row = by_id(store)
    rv = store.column("rv")
    assert rv[row["spec-3"]] == 17.5
    assert rv[row["spec-2"]] == pytest.approx(299792.458 * 1e-4)
    good = store.column("good")
    assert not good[row["spec-4"]]
    assert good.sum() == 11


@pytest.mark.parametrize(
    ("frame", "own", "want"),
    [
        (Frame.BARYCENTRIC, 5.0, 17.5),
        (Frame.BARYCENTRIC, np.nan, 17.5),
        (Frame.REST, 5.0, 5.0),
        (Frame.REST, np.nan, 17.5),
        (Frame.OBSERVED, 5.0, 5.0),
        (Frame.OBSERVED, np.nan, np.nan),
    ],
)
def test_a_catalogue_velocity_counts_where_it_is_that_of_the_frame(tmp_path, frame, own, want):
    path = write_labels(tmp_path / "labels.csv", [label_row(1, rv=17.5)])
    join = LabelJoin(read_labels(path, "lamost_lrs"), path)
    spectrum = Spectrum(
        [4000.0, 4001.0], [1, 1], [1, 1], 1800.0, frame, own, "lamost_lrs", "a", "b", {"obsid": 1}
    )
    got, _ = join.apply(spectrum, join.row(spectrum))
    np.testing.assert_equal(got.rv, want)


def test_without_a_star_column_the_spectrums_star_stays(files, tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text(
        "file,teff,logg,feh\n" + "".join(f"old/spec-{i}.fits.gz,5000,4,0\n" for i in range(1, 13))
    )
    store = open_store(run(files, tmp_path, path).store)
    row = by_id(store)["spec-7"]
    assert store[row].star_id == "LAMOST J7"


def test_without_labels(files, tmp_path):
    store = open_store(run(files, tmp_path).store)
    assert len(store) == 12
    assert store.labels.names == ()
    assert not store.column("good").any()


def test_what_is_left_out_and_why(files, tmp_path):
    rows = [label_row(i, obsid=66 if i == 6 else i) for i in range(1, 12)]
    rows += [label_row(20), label_row(21, obsid=6)]  # file and obsid of spec-6 disagree
    table = write_labels(tmp_path / "labels.csv", rows)
    whole = (files / "night0" / "spec-2.fits").read_bytes()
    (files / "night0" / "spec-2.fits").write_bytes(whole[: len(whole) // 2])
    write_spectrum(files / "spec-20.fits", 20, usable=False)
    shutil.copy(files / "night1" / "spec-3.fits", files / "spec-3.fits")
    (files / "notes.csv").write_text("a,b\n1,2\n")  # a table of something else: passed over
    (files / "readme.txt").write_text("not looked at")
    report = run(files, tmp_path, table)
    why = reasons(report)
    assert sorted(why) == [f"spec-{i}.fits" for i in (12, 2, 20, 3, 6)]
    assert "truncated" in why["spec-2.fits"]
    assert "no usable pixel in 300" in why["spec-20.fits"]
    assert "no row in the label table" in why["spec-12.fits"]
    assert "spec-3: this spectrum_id is in the store already" in why["spec-3.fits"]
    assert "spec-6: ambiguous labels, its keys name different rows" in why["spec-6.fits"]
    assert report.rows == len(open_store(report.store)) == 9


def test_spectra_without_labels_can_be_kept(files, tmp_path):
    table = write_labels(tmp_path / "labels.csv", [label_row(i) for i in range(1, 10)])
    report = run(files, tmp_path, table, keep_unlabelled=True)
    store = open_store(report.store)
    assert report.bad == ()
    assert np.isfinite(store.labels["teff"]).sum() == store.column("good").sum() == 9
    assert len(store) == 12


def test_two_good_rows_for_one_key_are_an_error_that_names_them(files, tmp_path):
    rows = [label_row(i) for i in range(1, 13)] + [label_row(4, teff=6000.0)]
    table = write_labels(tmp_path / "labels.csv", rows)
    with pytest.raises(InputError, match=r"labels\.csv: .*spec-4\.fits 4 in rows 4, 13"):
        run(files, tmp_path, table)
    assert not (tmp_path / "store").exists()


def test_of_two_rows_the_one_that_passes_the_cut_is_taken(files, tmp_path):
    rows = [label_row(i) for i in range(1, 13)] + [label_row(4, teff=6000.0, snrg=10.0)]
    store = open_store(run(files, tmp_path, write_labels(tmp_path / "labels.csv", rows)).store)
    assert store.labels["teff"][by_id(store)["spec-4"]] == 5004.0
    rows[3]["snrg"] = 11.0
    shutil.rmtree(tmp_path / "store")
    report = run(files, tmp_path, write_labels(tmp_path / "labels.csv", rows))
    assert "ambiguous labels, rows 4, 13 of" in reasons(report)["spec-4.fits"]
    assert report.rows == 11


def test_a_second_run_adds_only_what_is_new_and_mended(files, table, tmp_path):
    broken = files / "night0" / "spec-2.fits"
    whole = broken.read_bytes()
    broken.write_bytes(b"SIMPLE")
    first = run(files, tmp_path, table)
    assert (first.rows, len(first.bad)) == (11, 1)
    second = run(files, tmp_path, table)
    assert (second.added, second.files, second.skipped, len(second.bad)) == (0, 1, 11, 1)
    broken.write_bytes(whole)
    third = run(files, tmp_path, table)
    assert (third.rows, third.added, third.skipped, third.bad) == (12, 1, 11, ())
    assert not (third.store / "bad.csv").exists()
    assert sorted(by_id(open_store(third.store))) == sorted(f"spec-{i}" for i in range(1, 13))


KILLED = """
import os, sys
from spectrolabe.surveys import reading
from spectrolabe.surveys.ingest import ingest
usual, count = reading._read_one, 0
def counted(file, survey):
    global count
    count += 1
    if count == 9:
        os._exit(9)
    return usual(file, survey)
reading._read_one = counted
ingest("lamost_lrs", sys.argv[1], sys.argv[2], sys.argv[3], shard_size=3)
"""


def test_a_killed_run_continues(files, table, tmp_path):
    command = [sys.executable, "-c", KILLED, str(files), str(tmp_path / "store"), str(table)]
    assert subprocess.run(command).returncode == 9
    assert len(open_store(tmp_path / "store")) == 6
    report = run(files, tmp_path, table, shard_size=3)
    assert (report.rows, report.added, report.skipped) == (12, 6, 6)
    run(files, tmp_path / "again", table, shard_size=3)
    once, twice = open_store(tmp_path / "again" / "store"), open_store(report.store)
    np.testing.assert_array_equal(once.column("spectrum_id"), twice.column("spectrum_id"))
    np.testing.assert_array_equal(once.labels.values, twice.labels.values)


def test_reasons_of_finished_files_survive_a_second_run(files, table, tmp_path):
    shutil.copy(files / "night1" / "spec-3.fits", files / "spec-3.fits")
    first = run(files, tmp_path, table)
    assert len(first.bad) == 1
    assert run(files, tmp_path, table).bad == first.bad


def test_workers_change_nothing(files, table, tmp_path):
    (files / "night0" / "spec-2.fits").write_bytes(b"SIMPLE")
    one = run(files, tmp_path / "one", table)
    two = run(files, tmp_path / "two", table, workers=2)
    assert one.bad == two.bad != ()
    name = "shard-00000.arrow"
    assert (one.store / name).read_bytes() == (two.store / name).read_bytes()


def test_files_folders_and_globs(files, tmp_path, monkeypatch):
    names = lambda paths: [source.path.name for source in expand(paths)]  # noqa: E731
    assert len(names(files)) == 12
    assert names(str(files / "*1" / "spec-1*.fits")) == ["spec-1.fits", "spec-11.fits"]
    assert names([files / "night1" / "spec-5.fits", files / "**" / "spec-[56].fits"]) == [
        "spec-5.fits",
        "spec-6.fits",
    ]
    (files / ".hidden.fits").write_bytes(b"")
    (files / "a.txt").write_bytes(b"")
    (files / "night1" / "b.FITS.gz").write_bytes(b"")
    assert set(names(files)) - {f"spec-{i}.fits" for i in range(1, 13)} == {"b.FITS.gz"}
    assert names([files / "a.txt"]) == ["a.txt"]
    monkeypatch.chdir(files)
    assert [s.path for s in expand("night1/spec-5.fits")] == [files / "night1" / "spec-5.fits"]
    assert "night1/spec-5.fits" in [s.name for s in expand(files)]
    os.mkdir(tmp_path / "empty")
    for path in (tmp_path / "absent", tmp_path / "*.nothing", tmp_path / "empty"):
        with pytest.raises(InputError, match="a glob that matches some, found no"):
            expand([files, path])


def test_the_store_and_the_table_are_no_spectra(files, tmp_path):
    table = write_labels(files / "labels.csv", [label_row(i) for i in range(1, 13)])
    for _ in range(2):
        report = ingest("lamost_lrs", files, files / "store", table)
        assert report.bad == ()


def test_an_unknown_survey_and_a_wrong_table(files, tmp_path):
    with pytest.raises(InputError, match=r"a known survey .* found 'lamost'"):
        ingest("lamost", files, tmp_path / "store")
    (tmp_path / "labels.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="columns teff, logg, feh"):
        run(files, tmp_path, tmp_path / "labels.csv")
    assert not (tmp_path / "store").exists()


@pytest.mark.data
def test_real_spectra_get_the_labels_of_their_file(shared_data, tmp_path):
    folder = shared_data / "lamost_dr10"
    spectra = sorted((folder / "spectra").iterdir())[:20]
    report = run(spectra, tmp_path, folder / "labels.csv")
    assert report.bad == ()
    with (folder / "labels.csv").open() as stream:
        rows = {Path(row["file"]).name: row for row in csv.DictReader(stream)}
    store = open_store(report.store)
    assert len(store) == 20
    for i, file in enumerate(store.column("file")):
        row = rows[Path(file).name]
        want = [float(row[name]) for name in ("teff", "logg", "feh")]
        np.testing.assert_allclose(store.labels.values[i], want)
        assert (store[i].star_id, store.column("split")[i]) == (row["star"], row["split"])
        assert store[i].meta["obsid"] == int(row["obsid"])
