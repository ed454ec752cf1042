"""The store against Arrow and Hugging Face read directly, and against interruptions and damage."""

from __future__ import annotations

import errno
import io
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from spectrolabe.errors import InputError
from spectrolabe.spectra import Frame, Spectrum
from spectrolabe.spectra.store import StoreWriter, is_store, open_store

NAMES = ("teff", "logg", "mg_fe")


def spectrum(i: int, file: str = "", pixels: int | None = None) -> Spectrum:
    """A spectrum that its number determines; every third has R per pixel, some bad pixels NaN."""
    rng = np.random.default_rng(1000 + i)
    size = pixels or int(rng.integers(5, 60))
    ivar = rng.uniform(0.0, 4.0, size).astype(np.float32)
    flux = rng.normal(1.0, 0.1, size).astype(np.float32)
    bad = rng.random(size) < 0.2
    ivar[bad], flux[bad] = 0.0, np.nan
    return Spectrum(
        wavelength=4000.0 + np.cumsum(rng.uniform(0.5, 1.5, size)),
        flux=flux,
        ivar=ivar,
        resolution=rng.uniform(1500, 2500, size) if i % 3 == 0 else 1800.0,
        frame=list(Frame)[i % 3],
        rv=np.nan if i % 5 == 0 else 10.0 * i,
        survey="lamost_lrs",
        spectrum_id=f"s{i}",
        star_id=f"star{i // 2}",
        meta={"file": file, "ra": 10.0 + i, "fibre": np.int32(i)} if file else {},
    )


def write(path: Path, count: int, shard_size: int = 4, per_file: int = 1) -> list[Spectrum]:
    spectra = [spectrum(i, file=f"f{i // per_file}.fits") for i in range(count)]
    with StoreWriter(path, NAMES, shard_size=shard_size) as writer:
        for i, one in enumerate(spectra):
            values = {"teff": 5000.0 + i, "mg_fe": 0.01 * i}
            writer.append(
                one, values=values, sigma={"teff": 50.0}, split="train" if i % 4 else "val"
            )
    return spectra


def assert_same(got: Spectrum, want: Spectrum) -> None:
    for name in ("wavelength", "flux", "ivar", "resolution"):
        np.testing.assert_array_equal(getattr(got, name), getattr(want, name), err_msg=name)
    for name in ("frame", "survey", "spectrum_id", "star_id"):
        assert getattr(got, name) == getattr(want, name)
    np.testing.assert_equal(got.rv, want.rv)
    assert dict(got.meta) == dict(want.meta)


def test_what_is_written_is_read(tmp_path):
    spectra = write(tmp_path / "store", 11)
    store = open_store(tmp_path / "store")
    assert len(store) == 11
    assert len(list((tmp_path / "store").glob("shard-*.arrow"))) == 3
    for i, want in enumerate(spectra):
        assert_same(store[i], want)
    assert_same(store[-1], spectra[-1])
    assert isinstance(store[1].resolution, float)
    with pytest.raises(IndexError, match="row 11 of 11"):
        store[11]


def test_hugging_face_and_arrow_read_the_same(tmp_path):
    spectra = write(tmp_path / "store", 9)
    dataset = open_store(tmp_path / "store").dataset
    assert type(dataset).__module__.startswith("datasets")
    assert len(dataset) == 9
    shards = sorted((tmp_path / "store").glob("shard-*.arrow"))
    rows = [row for shard in shards for row in pa.ipc.open_stream(shard).read_all().to_pylist()]
    for i, want in enumerate(spectra):
        for row in (dataset[i], rows[i]):
            assert row["wavelength"] == want.wavelength.tolist()
            np.testing.assert_array_equal(np.float32(row["flux"]), want.flux)
            assert len(row["resolution"]) == np.size(want.resolution)
            assert row["teff"] == 5000.0 + i
            assert np.isnan(row["logg"])
            assert row["e_teff"] == 50.0
            assert row["file"] == f"f{i}.fits"


def test_columns_and_labels(tmp_path):
    write(tmp_path / "store", 10)
    store = open_store(tmp_path / "store")
    labels = store.labels
    assert labels.names == NAMES
    np.testing.assert_array_equal(labels["teff"], 5000.0 + np.arange(10))
    assert np.isnan(labels["logg"]).all()
    np.testing.assert_array_equal(labels.sigma[:, 0], 50.0)
    assert list(labels.star_id) == [f"star{i // 2}" for i in range(10)]
    assert list(store.column("split")) == ["train" if i % 4 else "val" for i in range(10)]
    np.testing.assert_array_equal(store.column("ra"), 10.0 + np.arange(10))
    assert np.isnan(store.column("dec")).all()
    assert store.column("good").all()
    with pytest.raises(InputError, match=r"found 'tef'\. Did you mean 'teff'"):
        store.column("tef")
    with pytest.raises(InputError, match="a known column of one value per spectrum"):
        store.column("flux")


def test_the_catalogues_snr_is_kept_and_else_the_spectrums(tmp_path):
    first, second = spectrum(1), spectrum(2)
    with StoreWriter(tmp_path / "store") as writer:
        writer.append(first, snr=77.0, good=False)
        writer.append(second, snr=np.nan)
    store = open_store(tmp_path / "store")
    np.testing.assert_allclose(store.column("snr"), [77.0, second.snr])
    assert not store.column("good").any()


def test_arrays_are_read_only_views_of_the_mapped_file(tmp_path):
    write(tmp_path / "store", 9)
    store = open_store(tmp_path / "store")
    maps = Path("/proc/self/maps")
    before = pa.total_allocated_bytes()
    for i in range(9):
        for array in store.arrays(i):
            assert not array.flags.writeable
            assert np.shares_memory(array, store.arrays(i)[0]) == (array.dtype == np.float64)
    assert pa.total_allocated_bytes() == before
    assert np.shares_memory(store[4].flux, store.arrays(4)[1])
    if maps.exists():
        shard = (tmp_path / "store" / "shard-00001.arrow").resolve()
        address = store.arrays(5)[1].ctypes.data
        lines = [line for line in maps.read_text().splitlines() if line.endswith(str(shard))]
        spans = [[int(x, 16) for x in line.split()[0].split("-")] for line in lines]
        assert any(low <= address < high for low, high in spans)


def test_shuffled_reads_visit_every_row_once_and_follow_the_seed(tmp_path):
    write(tmp_path / "store", 20)
    store = open_store(tmp_path / "store")
    order = [i for i, _ in store.iter_shuffled(np.random.default_rng(1))]
    assert sorted(order) == list(range(20))
    assert order != list(range(20))
    again = list(store.iter_shuffled(np.random.default_rng(1)))
    assert [i for i, _ in again] == order
    assert all(s.spectrum_id == f"s{i}" for i, s in again)
    assert [i for i, _ in store.iter_shuffled(np.random.default_rng(2))] != order


def test_rows_by_star_are_those_of_a_stable_sort(tmp_path):
    names = ["b", "a", "é", "b", "a10", "a", "Z", "a9", "b"]
    with StoreWriter(tmp_path / "s", NAMES, shard_size=2) as writer:
        for i, name in enumerate(names):
            writer.append(spectrum(i).replace(star_id=name), values={}, file=f"{i}.fits")
    order, begins = open_store(tmp_path / "s").by_star()
    assert order.tolist() == sorted(range(len(names)), key=lambda i: names[i])
    assert [names[order[i]] for i in begins] == sorted(set(names))


def test_a_store_travels_to_another_process_as_its_path(tmp_path):
    write(tmp_path / "store", 5)
    packed = pickle.dumps(open_store(tmp_path / "store"))
    assert len(packed) < 1000
    assert_same(pickle.loads(packed)[3], spectrum(3, "f3.fits"))


def test_an_empty_store(tmp_path):
    with StoreWriter(tmp_path / "store", NAMES):
        pass
    store = open_store(tmp_path / "store")
    assert len(store) == 0
    assert store.labels.values.shape == (0, 3)
    assert list(store.column("star_id")) == []
    assert len(store.dataset) == 0


@pytest.mark.parametrize("per_file", [1, 3, 7])
def test_a_file_is_never_split_over_shards(tmp_path, per_file):
    write(tmp_path / "store", 21, shard_size=2, per_file=per_file)
    held = [
        set(pa.ipc.open_stream(shard).read_all()["file"].to_pylist())
        for shard in sorted((tmp_path / "store").glob("*.arrow"))
    ]
    assert len(held) > 1
    assert sum(len(files) for files in held) == len(set.union(*held)) == -(-21 // per_file)


KILLED = """
import os, sys
from pathlib import Path
from tests.spectra.test_store import NAMES, spectrum
from spectrolabe.spectra.store import StoreWriter
writer = StoreWriter(Path(sys.argv[1]), NAMES, shard_size=4).__enter__()
for i in range(14):
    writer.append(spectrum(i, file=f"f{i // 3}.fits"), values={"teff": 5000.0 + i})
os._exit(9)
"""


def test_a_killed_writer_continues_where_the_last_shard_ended(tmp_path):
    path = tmp_path / "store"
    run = subprocess.run([sys.executable, "-c", KILLED, str(path)], cwd=Path(__file__).parents[2])
    assert run.returncode == 9
    (path / ".shard-00009.arrow.part").write_bytes(b"half a shard")
    assert len(open_store(path)) == 12  # f0 and f1, then f2 and f3; f4 was held in memory
    with StoreWriter(path, NAMES, shard_size=4) as writer:
        assert writer.done == {"f0.fits", "f1.fits", "f2.fits", "f3.fits"}
        assert writer.rows == 12
        for i in range(15):
            if f"f{i // 3}.fits" not in writer.done:
                writer.append(spectrum(i, f"f{i // 3}.fits"), values={"teff": 5000.0 + i})
    store = open_store(path)
    assert list(store.column("spectrum_id")) == [f"s{i}" for i in range(15)]
    np.testing.assert_array_equal(store.labels["teff"], 5000.0 + np.arange(15))
    assert not list(path.glob(".*"))


def test_an_error_leaves_out_the_unfinished_file_only(tmp_path):
    path = tmp_path / "store"
    with pytest.raises(KeyboardInterrupt), StoreWriter(path, NAMES) as writer:  # noqa: PT012
        for i in range(5):
            writer.append(spectrum(i, file=f"f{i // 3}.fits"))
        raise KeyboardInterrupt
    assert list(open_store(path).column("spectrum_id")) == ["s0", "s1", "s2"]
    with StoreWriter(path, NAMES) as writer:
        assert writer.done == {"f0.fits"}


def test_a_card_behind_the_shards_is_an_interruption_and_mended(tmp_path):
    write(tmp_path / "store", 8)
    card = tmp_path / "store" / "store.json"
    written = json.loads(card.read_text())
    card.write_text(json.dumps({**written, "rows": 4}))  # killed between shard and card
    assert len(open_store(tmp_path / "store")) == 8
    with StoreWriter(tmp_path / "store", NAMES):
        pass
    assert json.loads(card.read_text()) == written


class FullDisk(io.FileIO):
    """A file on a disk with room for 3,000 bytes."""

    def write(self, data):
        if self.tell() + memoryview(data).nbytes > 3000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(data)


def test_a_full_disk_is_said_and_leaves_a_valid_store(tmp_path, monkeypatch):
    path = tmp_path / "store"
    usual = Path.open
    message = r"no space left.* 4 spectra written before are valid"

    def fill() -> None:
        with StoreWriter(path, NAMES, shard_size=4) as writer:
            for i in range(20):
                if i == 5:
                    monkeypatch.setattr(Path, "open", lambda p, *a, **k: FullDisk(p, "w"))
                writer.append(spectrum(i, file=f"f{i}.fits"))

    with pytest.raises(InputError, match=message) as error:
        fill()
    assert isinstance(error.value.__cause__, OSError)
    monkeypatch.setattr(Path, "open", usual)
    assert sorted(file.name for file in path.iterdir()) == ["shard-00000.arrow", "store.json"]
    assert len(open_store(path)) == 4
    with StoreWriter(path, NAMES, shard_size=4) as writer:
        for i in range(20):
            if f"f{i}.fits" not in writer.done:
                writer.append(spectrum(i, file=f"f{i}.fits"))
    assert list(open_store(path).column("spectrum_id")) == [f"s{i}" for i in range(20)]


def test_a_rename_that_fails_leaves_nothing_behind(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    path = tmp_path / "store"
    with pytest.raises(InputError, match="Permission denied"), StoreWriter(path, NAMES) as writer:  # noqa: PT012
        writer.append(spectrum(0))
        monkeypatch.setattr(Path, "replace", refuse)
    assert [file.name for file in path.iterdir()] == ["store.json"]


def test_damage_is_an_error_that_names_the_shard(tmp_path):
    path = tmp_path / "store"
    write(path, 8)
    shard = path / "shard-00001.arrow"
    content = shard.read_bytes()
    shard.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"shard-00001.arrow: expected a whole shard, found"):
        open_store(path)
    shard.unlink()
    with pytest.raises(InputError, match=r"expected 8 spectra, found 4 in 1 shards"):
        open_store(path)
    with StoreWriter(path, NAMES) as writer:  # ingest reads the lost files again
        assert writer.done == {f"f{i}.fits" for i in range(4)}


def test_another_version_is_an_error(tmp_path):
    path = tmp_path / "store"
    write(path, 3)
    card = json.loads((path / "store.json").read_text())
    assert card == {"format": "spectrolabe-store", "version": 1, "labels": list(NAMES), "rows": 3}
    (path / "store.json").write_text(json.dumps({**card, "version": 2}))
    for use in (open_store, lambda p: StoreWriter(p, NAMES)):
        with pytest.raises(InputError, match=r"expected .* version 1, found .* version 2"):
            use(path)
    (path / "store.json").write_text("{}")
    with pytest.raises(InputError, match="the card of a store"):
        open_store(path)


def test_other_folders_and_other_labels_are_errors(tmp_path):
    assert not is_store(tmp_path)
    with pytest.raises(InputError, match=r"expected a store .* found no such folder"):
        open_store(tmp_path / "absent")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="a store or an empty folder"):
        StoreWriter(tmp_path, NAMES)
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]
    write(tmp_path / "store", 3)
    with pytest.raises(InputError, match=r"a store of the labels teff, found one of teff, logg"):
        StoreWriter(tmp_path / "store", ["teff"])


def test_labels_are_known_and_not_columns(tmp_path):
    with pytest.raises(InputError, match="'tef'"):
        StoreWriter(tmp_path / "a", ["tef"])
    with pytest.raises(InputError, match="velocity of a spectrum is its own field"):
        StoreWriter(tmp_path / "b", ["teff", "rv"])
    with pytest.raises(InputError, match="each once"):
        StoreWriter(tmp_path / "c", ["teff", "teff"])
    with StoreWriter(tmp_path / "d", NAMES) as writer:
        with pytest.raises(InputError, match=r"'fe_h'"):
            writer.append(spectrum(0), values={"fe_h": 0.1})
        with pytest.raises(InputError, match=r"one number for each of teff, logg, mg_fe"):
            writer.append(spectrum(0), values=[5000.0, 4.4])
        writer.append(spectrum(0), values=[5000.0, 4.4, 0.1])
    store = open_store(tmp_path / "d")
    np.testing.assert_array_equal(store.labels.values, [[5000.0, 4.4, 0.1]])


def test_a_spectrum_comes_once_and_a_file_in_one_piece(tmp_path):
    path = tmp_path / "store"
    with StoreWriter(path, NAMES, shard_size=1) as writer:
        writer.append(spectrum(0, file="a.fits"))
        with pytest.raises(InputError, match="'s0' for the second time"):
            writer.append(spectrum(0, file="a.fits"))
        writer.append(spectrum(1, file="b.fits"))
        with pytest.raises(InputError, match=r"more of a\.fits after it was finished"):
            writer.append(spectrum(2, file="a.fits"))
        with pytest.raises(InputError, match="an empty one"):
            writer.append(spectrum(3).replace(spectrum_id=""))
    with StoreWriter(path, NAMES) as writer, pytest.raises(InputError, match="second time"):
        writer.append(spectrum(1, file="c.fits"))
    assert len(open_store(path)) == 2


def test_two_writers_do_not_overwrite_each_other(tmp_path):
    first = StoreWriter(tmp_path / "store", NAMES)
    second = StoreWriter(tmp_path / "store", NAMES)
    first.append(spectrum(0))
    second.append(spectrum(1))
    first.close()
    with pytest.raises(InputError, match="one process write"):
        second.close()
    assert list(open_store(tmp_path / "store").column("spectrum_id")) == ["s0"]
