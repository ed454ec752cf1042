"""Shards on a Dask cluster: the serial catalogue, whatever dies on the way."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from spectrolabe.catalogue import read_catalogue
from spectrolabe.errors import InputError
from spectrolabe.inference import distributed as module
from spectrolabe.inference.distributed import check_scheduler
from spectrolabe.inference.fit_run import Fitting, fit_files
from spectrolabe.inference.inputs import Selection, Sources
from spectrolabe.inference.neighbours import SUFFIX
from spectrolabe.inference.predict import predict
from spectrolabe.inference.priors import Priors
from spectrolabe.models.checkpoint import save_estimator
from spectrolabe.spectra.store import StoreWriter
from tests.inference import fitted
from tests.inference.measuring import Measuring, measure, write_store
from tests.inference.test_predict import write_table
from tests.inference.test_rows import estimator_of
from tests.models.stars import made_up

ROOT = Path(__file__).parents[2]
STARS = 12


def assert_same(one: Path, other: Path) -> None:
    """Every row and column, to the bit."""
    a, b = read_catalogue(one), read_catalogue(other)
    assert a.colnames == b.colnames
    assert len(a) == len(b) > 0
    for name in a.colnames:
        assert a[name].dtype == b[name].dtype, name
        assert (a[name].unit, a[name].description) == (b[name].unit, b[name].description)
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)
    ours = ("created", "command", "catalogue")
    a, b = ({k: v for k, v in t.meta["provenance"].items() if k not in ours} for t in (a, b))
    assert a == b


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("measured") / "store", STARS)


@pytest.fixture(scope="module")
def serial(store, tmp_path_factory):
    """The catalogue that every other run must give."""
    folder = tmp_path_factory.mktemp("serial")
    return measure(Measuring(folder / "log"), store, folder / "cat.parquet").catalogue


def test_shards_hold_whole_stars_and_every_input_once(store, tmp_path, monkeypatch):
    stars, _ = made_up(np.random.default_rng(9), 7, step=2e-3)
    with StoreWriter(tmp_path / "visits", ()) as writer:
        for visit, i in enumerate((3, 1, 0, 3, 2, 3, 1, 3, 3)):
            spectrum = stars[i][0].replace(spectrum_id=f"v{visit}")
            writer.append(spectrum, values={}, file=f"{visit}.fits")
    for i in range(5):
        write_table(tmp_path / "spectra" / f"s{i}.ecsv", stars[i][0])
    given = [str(tmp_path / name) for name in ("spectra", "visits")]
    names = []

    def sizes(batch, together="file"):
        sources = Sources(Selection.of(given, None, together, False, 1), batch)
        shards = list(sources)
        assert [shard.number for shard in shards] == list(range(len(shards)))
        assert sum(shard.size for shard in shards) == sources.total == 14
        names.append(sorted(name for shard in shards for name in shard.names))
        return [shard.size for shard in shards]

    # the store by star: 0, 1 1, 2, 3 3 3 3 3
    assert sizes(2) == [2, 2, 1, 3, 1, 5]
    assert sizes(2, "star") == [5, 3, 1, 5]
    assert sizes(100) == [5, 9]
    monkeypatch.setattr("spectrolabe.inference.inputs.MANY", 2)
    assert sizes(1) == [5, 9]  # batches of seven
    monkeypatch.setattr("spectrolabe.inference.inputs.LARGEST", 3)
    assert sizes(1) == [3, 2, 3, 6]
    assert names[0] == names[-1]
    assert len(set(names[0])) == 14


def test_shards_of_files_are_no_larger_than_memory_allows(tmp_path, monkeypatch):
    monkeypatch.setattr("spectrolabe.inference.inputs.BYTES", 1000)
    for name, size in (("a", 400), ("b", 600), ("c", 1), ("d", 5000), ("e", 10), ("f", 10)):
        (tmp_path / name).write_bytes(b"x" * size)
    files = [str(tmp_path / name) for name in "abcdef"]

    def parts():
        sources = Sources(Selection.of(files, None, "file", False, 1), 2)
        said.append(sources.describe())
        return ["".join(Path(name).name for name in shard.names) for shard in sources]

    said = []
    assert parts() == ["ab", "c", "d", "ef"]
    (tmp_path / "c").write_bytes(b"x" * 1000)
    assert parts() == ["ab", "c", "d", "ef"]
    (tmp_path / "b").write_bytes(b"x" * 601)
    assert parts() == ["a", "b", "c", "d", "ef"]
    assert said[0] == said[1] != said[2]


@contextmanager
def threads(count=1):
    """The address of a cluster whose workers are threads of this process, which can be patched."""
    from distributed import LocalCluster

    options = {"processes": False, "threads_per_worker": 1, "dashboard_address": None}
    with LocalCluster(n_workers=count, **options) as cluster:
        yield cluster.scheduler_address


@pytest.fixture
def own_marks(monkeypatch):
    """Workers that are threads must not keep what those of another test have opened."""
    monkeypatch.setattr(module, "_opened", {})


def died(pid: int, patience: float = 20.0) -> bool:
    """Tell whether a process ends soon."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


def until(condition, patience: float = 120.0) -> None:
    """Wait for something to happen."""
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def test_a_local_cluster_predicts_what_one_process_does(tmp_path):
    """Files and a store, good and bad ones, with a table beside: all rows, columns and reasons."""
    model = save_estimator(estimator_of("gaussian"), tmp_path / "tiny")
    stars, _ = made_up(np.random.default_rng(9), 5, step=6e-4)
    for i, star in enumerate(stars):
        write_table(tmp_path / "spectra" / f"night{i % 2}" / f"s{i}.ecsv", star[0])
    (tmp_path / "spectra" / "corrupt.fits").write_bytes(b"SIMPLE  =                    T")
    inputs = [tmp_path / "spectra", write_store(tmp_path / "store", 6)]
    reports = []
    for name, options in (("one", {}), ("two", {"scheduler": "local", "workers": 2})):
        (tmp_path / name).mkdir()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("spectrolabe.inference.predict.BATCH", 3)
            output = tmp_path / name / "cat.parquet"
            reports.append(predict(model, inputs, output, neighbours=2, **options))
    assert [report.stars for report in reports] == [11, 11]
    assert [name for name, _ in reports[0].bad] == ["corrupt.fits"]
    assert reports[0].bad == reports[1].bad
    assert_same(reports[0].catalogue, reports[1].catalogue)
    one, two = (r.catalogue.with_suffix(SUFFIX) for r in reports)
    assert len(read_catalogue(one)) == 22
    assert_same(one, two)
    for folder in ("one", "two"):
        left = {path.name for path in (tmp_path / folder).iterdir()}
        assert left == {"cat.parquet", "cat.parquet.bad.csv", f"cat{SUFFIX}"}


def test_a_bad_file_is_listed_and_the_exit_code_is_1(tmp_path, invoke, own_marks):
    model = save_estimator(estimator_of("gaussian"), tmp_path / "tiny")
    stars, _ = made_up(np.random.default_rng(9), 2, step=6e-4)
    for i, star in enumerate(stars):
        write_table(tmp_path / "spectra" / f"s{i}.ecsv", star[0])
    (tmp_path / "spectra" / "corrupt.fits").write_bytes(b"SIMPLE  =                    T")
    out = tmp_path / "cat.parquet"
    with threads() as address:
        code, said, errors = invoke(
            "predict", model, tmp_path / "spectra", "-o", out, "--scheduler", address
        )
    assert code == 1
    assert "2 stars" in said
    assert "corrupt.fits" in errors
    assert "1 without a result" in errors
    assert "corrupt.fits" in (tmp_path / "cat.parquet.bad.csv").read_text()
    assert list(read_catalogue(out)["file"]) == ["s0.ecsv", "s1.ecsv"]


def test_a_killed_worker_is_replaced(store, serial, tmp_path):
    work = Measuring(tmp_path / "log", deadly="star5")
    report = measure(work, store, tmp_path / "cat.parquet", "local", 2)
    assert len(work.noted("died-of")) == 1
    assert (report.stars, report.bad) == (STARS, ())
    assert_same(report.catalogue, serial)
    opened = work.noted("open")
    assert len(opened) == len(set(opened)) <= 4  # the model once in each process


@pytest.mark.slow
def test_a_shard_that_kills_three_times_is_given_up(store, serial, tmp_path):
    work = Measuring(tmp_path / "log", deadly="star5", times=99)
    report = measure(work, store, tmp_path / "cat.parquet", "local", 2)
    assert len(work.noted("died-of")) == 3
    assert [name for name, _ in report.bad] == [f"{store}:4", f"{store}:5"]
    assert "given up: 3 processes were killed while they worked on it" in report.bad[0][1]
    expected = read_catalogue(serial)
    kept = [i for i, name in enumerate(expected["star_id"]) if name not in ("star4", "star5")]
    found = read_catalogue(report.catalogue)
    assert list(found["star_id"]) == list(expected["star_id"][kept])
    np.testing.assert_array_equal(found["mean"], expected["mean"][kept])


KILLED = """
import sys
from pathlib import Path
from tests.inference.measuring import Measuring, measure

if __name__ == "__main__":
    folder, store = Path(sys.argv[1]), Path(sys.argv[2])
    measure(Measuring(folder / "log", seconds=1.0), store, folder / "cat.parquet", "local", 2)
"""


@pytest.mark.slow
def test_a_killed_command_continues(store, serial, tmp_path):
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-c", KILLED, str(tmp_path), str(store)]
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path})
    parts = tmp_path / "cat.parquet.parts"
    until(lambda: len(list(parts.glob("part-*"))) >= 2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    work = Measuring(tmp_path / "log")
    assert all(died(pid) for pid in set(work.noted()))  # no worker outlives the command
    done = len(list(parts.glob("part-*")))
    assert 2 <= done < STARS / 2
    assert not (tmp_path / "cat.parquet").exists()
    before = len(work.noted("measured"))
    report = measure(work, store, tmp_path / "cat.parquet", "local", 2)
    assert (report.skipped, report.stars) == (2 * done, STARS - 2 * done)
    assert len(work.noted("measured")) - before == STARS - 2 * done
    assert_same(report.catalogue, serial)


@contextmanager
def processes(folder: Path):
    """A scheduler and a worker as people start them: the file of the scheduler, its process."""
    file = folder / "scheduler.json"
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    started = []

    def start(name, *options):
        command = [sys.executable, "-m", f"distributed.cli.dask_{name}", *options]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        env = {**os.environ, "PYTHONPATH": path}
        started.append(subprocess.Popen(command, cwd=folder, env=env, **quiet))

    common = ("--scheduler-file", str(file), "--no-dashboard")
    try:
        start("scheduler", "--port", "0", "--host", "127.0.0.1", *common)
        until(file.exists)
        start("worker", "--nthreads", "1", "--no-nanny", *common)
        yield file, started[0]
    finally:
        for process in started:
            process.kill()
            process.wait()


@pytest.mark.slow
def test_a_lost_scheduler_is_said_and_the_run_continues(store, serial, tmp_path):
    work = Measuring(tmp_path / "log", seconds=0.5)
    output = tmp_path / "cat.parquet"
    with processes(tmp_path) as (file, scheduler):
        from threading import Thread

        def kill():
            until(lambda: len(work.noted("measured")) >= 4)
            scheduler.kill()

        thread = Thread(target=kill)
        thread.start()
        with pytest.raises(InputError, match=r"lives to the end, found one that was lost"):
            measure(work, store, output, str(file))
        thread.join()
    done = len(list((tmp_path / "cat.parquet.parts").glob("part-*")))
    assert 1 <= done < STARS / 2
    report = measure(work, store, output)  # goes on in one process
    assert report.skipped == 2 * done
    assert_same(output, serial)


def test_a_scheduler_that_is_closed_in_the_middle(store, serial, tmp_path, own_marks):
    from threading import Thread

    from distributed import LocalCluster

    work = Measuring(tmp_path / "log", seconds=0.2)
    output = tmp_path / "cat.parquet"
    cluster = LocalCluster(n_workers=1, processes=False, dashboard_address=None)

    def close():
        until(lambda: len(work.noted("measured")) >= 4)
        cluster.close()

    thread = Thread(target=close)
    thread.start()
    with pytest.raises(InputError, match=r"found one that was lost.*same command again"):
        measure(work, store, output, cluster.scheduler_address)
    thread.join()
    report = measure(Measuring(tmp_path / "log"), store, output)
    assert 4 <= report.skipped < STARS
    assert_same(output, serial)


def test_a_full_disk_stops_the_run_and_nothing_written_is_lost(
    store, serial, tmp_path, monkeypatch, own_marks
):
    from spectrolabe.catalogue import parts

    true_write, written = parts.pq.write_table, []

    def full(table, target, **options):
        if len(written) == 2:
            target.write_bytes(b"half")
            raise OSError(28, "No space left on device")
        written.append(target)
        true_write(table, target, **options)

    output = tmp_path / "cat.parquet"
    with threads() as address:
        monkeypatch.setattr(parts.pq, "write_table", full)
        with pytest.raises(InputError, match=r"no space left on the disk.*run the same command"):
            measure(Measuring(tmp_path / "log"), store, output, address)
    monkeypatch.setattr(parts.pq, "write_table", true_write)
    left = sorted(path.name for path in (tmp_path / "cat.parquet.parts").glob("*part-*"))
    assert len(left) == 2
    assert all(name.startswith("part-") for name in left)
    work = Measuring(tmp_path / "again")
    report = measure(work, store, output)
    assert (report.skipped, len(work.noted("measured"))) == (4, STARS - 4)
    assert_same(output, serial)


def test_few_shards_are_on_their_way_at_a_time(store, serial, tmp_path, monkeypatch, own_marks):
    most, true_submit = [], module._Submission._submit

    def counted(self, shard):
        future = true_submit(self, shard)
        most.append(len(self.running))
        return future

    monkeypatch.setattr(module._Submission, "_submit", counted)
    with threads(1) as address:
        measure(Measuring(tmp_path / "log"), store, tmp_path / "cat.parquet", address)
    assert len(most) == STARS / 2
    assert max(most) == module.AHEAD
    assert_same(tmp_path / "cat.parquet", serial)


def test_a_failure_that_nobody_foresaw_is_tried_again(store, serial, tmp_path, own_marks):
    class Faulty(Measuring):
        def open(self):
            measurer, self_ = super().open(), self

            class Sometimes(type(measurer)):
                def __call__(self, stars, first):
                    if stars[0][0].star_id == "star4" and len(self_.noted("failed")) < 2:
                        self_.note("failed")
                        raise OSError(5, "a disk that hiccups")
                    return super().__call__(stars, first)

            return Sometimes(self)

    work = Faulty(tmp_path / "log")
    with threads(1) as address:
        measure(work, store, tmp_path / "cat.parquet", address)
    assert len(work.noted("failed")) == 2
    assert_same(tmp_path / "cat.parquet", serial)


def test_another_run_on_the_same_output_is_refused(store, tmp_path, own_marks):
    output = tmp_path / "cat.parquet"

    class Other(Measuring):
        def open(self):
            measurer = super().open()
            return type("Named", (type(measurer),), {"provenance": {"model": "other"}})(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.inference.measuring.time.sleep", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            measure(Measuring(tmp_path / "log"), store, output)
    with pytest.raises(InputError, match="model = 'other', found 'mean'"):
        measure(Other(tmp_path / "log"), store, output)
    larger = write_store(tmp_path / "larger", STARS + 1)
    with pytest.raises(InputError, match=r"inputs = .*'in stores': 13.*found .*'in stores': 12"):
        measure(Measuring(tmp_path / "log"), larger, output)


def _interrupt(seconds):
    raise KeyboardInterrupt


def test_workers_with_another_model_are_refused(store, tmp_path, own_marks):
    class Different(Measuring):
        def open(self):
            measurer = super().open()
            name = "mean" if len(self.noted("open")) == 1 else "of another machine"
            return type("Named", (type(measurer),), {"provenance": {"model": name}})(self)

    with threads() as address, pytest.raises(InputError, match="found 'of another machine'"):
        measure(Different(tmp_path / "log"), store, tmp_path / "cat.parquet", address)


def test_what_is_wrong_with_a_scheduler_is_said_at_once(tmp_path, monkeypatch):
    def wrong(match, scheduler, workers=1):
        with pytest.raises(InputError, match=match):
            check_scheduler(scheduler, workers)

    check_scheduler(None, 4)
    check_scheduler("local", 4)
    check_scheduler("tcp://127.0.0.1:8786", 1)
    (tmp_path / "scheduler.json").write_text("{}")
    check_scheduler(str(tmp_path / "scheduler.json"), 1)
    wrong("'local', an address like .*found 'nowhere.json'", "nowhere.json")
    wrong("--workers: .*the scheduler has its own, found 4", "tcp://127.0.0.1:8786", 4)
    monkeypatch.setitem(sys.modules, "distributed", None)
    wrong(r"pip install 'spectrolabe\[dask\]'", "local")
    check_scheduler(None, 1)


def test_a_scheduler_that_does_not_answer(store, tmp_path):
    import dask

    with (
        dask.config.set({"distributed.comm.timeouts.connect": "1s"}),
        pytest.raises(InputError, match=r"tcp://127.0.0.1:9: expected a Dask scheduler that ans"),
    ):
        measure(Measuring(tmp_path / "log"), store, tmp_path / "cat.parquet", "tcp://127.0.0.1:9")


def test_a_fit_travels_to_other_processes():
    options = {"labels": ("teff",), "fixed": {"logg": 4.0}, "method": "lm"}
    files = (None, None, False, False)
    for priors in ("weak", {"teff": (5000.0, 10.0)}, Priors({"teff": (5000.0, 10.0)}, 0.3)):
        work = Fitting((Path("a"),), options, priors, None, None, files)
        assert pickle.loads(pickle.dumps(work)) == work


def test_figures_of_a_fit_are_made_in_one_process(tmp_path):
    with pytest.raises(InputError, match="--scheduler: expected no --spectra or --plot"):
        fit_files("x", ["y"], tmp_path / "c.parquet", scheduler="local", plot=tmp_path / "p")


@pytest.mark.slow
def test_a_local_cluster_fits_what_one_process_does(tmp_path, monkeypatch):
    model = fitted.saved_emulator(tmp_path / "tiny")
    fitted.write_stars(tmp_path / "spectra", model, 5)
    monkeypatch.setitem(sys.modules["spectrolabe.inference.fit_run"].BATCH, "lm", 2)
    common = {"labels": fitted.LABELS, "priors": {"logg": (4.4, 0.2)}}
    one = fit_files(model, [tmp_path / "spectra"], tmp_path / "a.parquet", **common)
    two = fit_files(
        model, [tmp_path / "spectra"], tmp_path / "b.parquet", scheduler="local", workers=2,
        **common,
    )  # fmt: skip
    assert (one.stars, one.bad) == (5, ())
    assert (two.stars, two.bad) == (5, ())
    assert_same(one.catalogue, two.catalogue)
