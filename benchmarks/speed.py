"""How fast is one core: training, prediction with uncertainties, loading, ingest, the command?

    python benchmarks/speed.py [--files FOLDER] [--profile] [--config configs/lamost-dr10.toml]

Synthetic spectra of APOGEE (7,514 pixels) and LAMOST (3,909 pixels), with the encoder, the
augmentation and the batch size of the configuration. Prints Markdown; wall time counts what else
the machine does, processor time hardly.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pages import table
from spectrolabe import surveys
from spectrolabe.config import DataConfig, TrainConfig, load_config
from spectrolabe.labels import LabelScale
from spectrolabe.models.encoder import Encoder
from spectrolabe.models.estimator import Estimator, encode
from spectrolabe.models.pixels import collate
from spectrolabe.models.uncertainty import Coverage, Recalibration
from spectrolabe.spectra import Frame, Spectrum
from spectrolabe.spectra.store import StoreWriter, open_store
from spectrolabe.training.augmentation import batches
from spectrolabe.training.data import Sample, Splits, load_sample
from spectrolabe.training.loop import Run, epoch
from spectrolabe.training.trainer import EncoderTask

LABELS = ("teff", "logg", "fe_h")
REFERENCES = 1000  # stars of the coverage
BATCH = 32  # of prediction


@dataclass(frozen=True)
class Kind:
    """Spectra like those of a survey."""

    name: str
    survey: str
    pixels: int
    span: tuple[float, float]
    resolution: float


KINDS = (
    Kind("APOGEE-like", "apogee", 7514, (15100.0, 17000.0), 22500.0),
    Kind("LAMOST-like", "lamost_lrs", 3909, (3700.0, 9100.0), 1800.0),
)


def spectra(kind: Kind, count: int, rng: np.random.Generator) -> list[Spectrum]:
    """Return continua with a hundred lines, noise of S/N = 100, and two per cent bad pixels."""
    wavelength = np.geomspace(*kind.span, kind.pixels)
    lines = np.exp(rng.uniform(*np.log(kind.span), 100))
    width = lines / (2.355 * kind.resolution)
    profiles = np.exp(-0.5 * ((wavelength - lines[:, None]) / width[:, None]) ** 2)
    found = []
    for i in range(count):
        flux = 1.0 - rng.uniform(0.0, 0.5, 100) @ profiles
        flux = flux + rng.normal(0.0, 0.01, kind.pixels)
        ivar = np.where(rng.random(kind.pixels) < 0.02, 0.0, 1e4)
        found.append(
            Spectrum(
                wavelength,
                flux,
                ivar,
                kind.resolution,
                Frame.BARYCENTRIC,
                rv=float(rng.normal(0.0, 30.0)),
                survey=kind.survey,
                spectrum_id=f"s{i}",
                star_id=f"star{i}",
            )
        )
    return found


def sample_of(found: list[Spectrum], folder: Path, rng: np.random.Generator) -> Sample:
    """Write a store and open it."""
    with StoreWriter(folder, LABELS) as writer:
        for spectrum in found:
            values = rng.normal((5000.0, 3.0, -0.2), (500.0, 0.8, 0.3))
            writer.append(spectrum, values=values, file=f"{spectrum.spectrum_id}.fits")
    return load_sample(open_store(folder), DataConfig(store=str(folder), labels=LABELS))


def timed(work: Callable[[], object], count: int, repeats: int) -> tuple[float, float]:
    """Return items a second of wall and of processor time: the best of several."""
    wall, processor = np.inf, np.inf
    for _ in range(repeats):
        begin, begin_processor = time.perf_counter(), time.process_time()
        work()
        wall = min(wall, time.perf_counter() - begin)
        processor = min(processor, time.process_time() - begin_processor)
    return count / wall, count / processor


def training_epoch(config: TrainConfig, sample: Sample, folder: Path) -> Callable[[], float]:
    """Return one epoch of the training loop itself, as work to be timed."""
    none = sample.take(np.zeros(len(sample), dtype=bool))
    task = EncoderTask(config, Splits(sample, none, none), LabelScale.fit(sample.labels))
    run = Run(task, config.training, folder)
    return lambda: epoch(run)


def untrained(config: TrainConfig, sample: Sample) -> Estimator:
    """Return an estimator of the size of a real one; speed does not depend on its weights."""
    torch.manual_seed(0)
    encoder = Encoder(config.encoder, len(LABELS)).eval()
    embedding = encode(encoder, next(batches(sample, 2))[0])[2]
    reference = np.random.default_rng(0).normal(size=(REFERENCES, embedding.shape[1]))
    ones = np.ones(len(LABELS))
    return Estimator(
        encoder,
        LabelScale.fit(sample.labels),
        Recalibration(0.0 * ones, ones, 0.1 * ones, ones),
        Coverage(reference.astype(np.float32), np.ones(embedding.shape[1], np.float32), 1.0),
        {},
    )


def predict_store(model: Estimator, sample: Sample) -> None:
    """From the store to labels with uncertainties, without making `Spectrum` objects."""
    parts = [encode(model.encoder, pixels) for pixels, _ in batches(sample, BATCH)]
    mean, covariance, embedding = (np.concatenate(part) for part in zip(*parts, strict=True))
    snr = sample.store.column("snr")[sample.rows]
    model.physical(mean, covariance, embedding, snr, sample.labels.star_id)


def load_all(sample: Sample) -> None:
    """From the store to padded batches."""
    for start in range(0, len(sample), BATCH):
        index = np.arange(start, min(start + BATCH, len(sample)))
        collate([[row] for row in sample.pixels(index)])


def rates(kind: Kind, config: TrainConfig, options: argparse.Namespace) -> list[list[str]]:
    """Rows of the table for one kind of spectra; prints profiles where asked for."""
    rng = np.random.default_rng(1)
    found = spectra(kind, options.spectra, rng)
    with tempfile.TemporaryDirectory() as name:
        sample = sample_of(found, Path(name) / "store", rng)
        model, stars = untrained(config, sample), [[s] for s in found]
        training = training_epoch(config, sample, Path(name))
        works: dict[str, Callable[[], Any]] = {
            "train (load, augment, tokenise, forward, backward, step)": training,
            "predict, spectra in memory": lambda: model.estimate(stars, batch_size=BATCH),
            "predict, from a store": lambda: predict_store(model, sample),
            "load from a store into batches": lambda: load_all(sample),
        }
        rows = []
        for title, work in works.items():
            work()
            wall, processor = timed(work, len(sample), options.repeats)
            rows.append([title, kind.name, str(kind.pixels), f"{wall:.0f}", f"{processor:.0f}"])
        if options.profile:
            for title in list(works)[:2]:
                print(f"\n{kind.name}, {title}:\n\n{profile(works[title], len(sample))}\n")
    return rows


def profile(work: Callable[[], Any], count: int, rows: int = 15) -> str:
    """Return the operations that take the most time by themselves, as Markdown."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as found:
        work()
    events = sorted(found.key_averages(), key=lambda e: -e.self_cpu_time_total)
    total = sum(event.self_cpu_time_total for event in events)
    lines = [
        [
            f"`{event.key}`",
            f"{100 * event.self_cpu_time_total / total:.1f} %",
            f"{event.self_cpu_time_total / count:.0f}",
            f"{event.count / count:.2f}",
        ]
        for event in events[:rows]
    ]
    return table(["operation", "of all operations", "µs a spectrum", "calls a spectrum"], lines)


def ingest(folder: Path, limit: int) -> list[str]:
    """Native files to a store, one process."""
    files = sorted(path for path in folder.iterdir() if path.is_file())[:limit]
    for path in files[:10]:
        surveys.read(path)

    def work() -> None:
        with tempfile.TemporaryDirectory() as name, StoreWriter(Path(name) / "store") as writer:
            for path in files:
                for spectrum in surveys.read(path):
                    writer.append(spectrum, file=path.name)

    wall, processor = timed(work, len(files), 1)
    kind = f"{len(files)} files of {surveys.read(files[0])[0].survey}"
    return ["ingest native files (files/s)", kind, "", f"{wall:.0f}", f"{processor:.0f}"]


def help_seconds() -> str:
    """Seconds that ``spectrolabe --help`` takes: the best of five."""
    command = [str(Path(sys.executable).parent / "spectrolabe"), "--help"]
    wall, processor = [], []
    for _ in range(5):
        begin, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        wall.append(time.perf_counter() - begin)
        processor.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return f"{min(wall):.2f} s wall, {min(processor):.2f} s processor"


def conditions(config: TrainConfig) -> str:
    """What the numbers depend on."""
    tuning = {k: v for k, v in os.environ.items() if k.startswith(("MALLOC_", "OMP_"))}
    weights = sum(p.numel() for p in Encoder(config.encoder, len(LABELS)).parameters())
    size = ", ".join(f"{k} {v}" for k, v in config.encoder.model_dump().items())
    return (
        f"Encoder of {weights:,} weights ({size}), batches of {config.training.batch_size} in "
        f"training and {BATCH} in prediction, torch {torch.__version__} with one thread, load "
        f"average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
        + (f", {', '.join(f'{k}={v}' for k, v in sorted(tuning.items()))}." if tuning else ".")
    )


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, default=Path("configs/lamost-dr10.toml"))
    parser.add_argument("--files", type=Path, help="folder of native files to ingest")
    parser.add_argument("--limit", type=int, default=200, help="of the files")
    parser.add_argument("--spectra", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    config = load_config(options.config)
    rows = [row for kind in KINDS for row in rates(kind, config, options)]
    if options.files:
        rows.append(ingest(options.files, options.limit))
    print(conditions(config) + "\n")
    head = ["what", "spectra", "pixels", "a second of wall time", "of processor time"]
    print(table(head, rows))
    print(f"\n`spectrolabe --help`: {help_seconds()}")


if __name__ == "__main__":
    main()
