"""A synthetic sky that is kept, so that many small models learn from the same stars.

    python benchmarks/kept_sky.py WORK        # makes it; again to continue

To make spectra and their first fits takes twenty times as long as a step of a small model: here it
is done once. ``WORK/sky`` gets batches to learn from (``train``), stars of each instrument to
recalibrate by (``calibration``), and other stars, the same for each survey, on a clean sky
(``test``). First fits are those of ``unified-v1``'s compact spectra, before they saw real stars.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from rich.progress import track

from spectrolabe.config import EncoderConfig, SkyTrainConfig, StreamConfig, TrainingConfig
from spectrolabe.training.pretrain import SkyTask, fitted
from spectrolabe.training.sky import SkyBatch, SkyStream
from unified_sky import CLEAN, SURVEYS

__all__ = ["BASE", "SNR", "STARS", "base_task", "kept", "read", "without_labels"]

BATCHES, STARS = 1250, 16  # to learn from
CALIBRATION = 3  # batches of each instrument
TEST, TEST_BATCH = 768, 64  # stars
SNR = 50.0  # of test spectra, a pixel
SEED = 77
WORKERS = 2
BASE = SkyTrainConfig(
    name="kept-sky",
    sky=StreamConfig(
        surveys={**dict.fromkeys(SURVEYS, 1.0), "random": 1.5}, steps=BATCHES, both=0.25
    ),
    encoder=EncoderConfig(
        width=64, latents=8, blocks=2, dropout=0.0, filters=2, shortest_period=0.0015
    ),
    training=TrainingConfig(epochs=2, batch_size=STARS, weight_decay=0.01, seed=1),
    compact="unified-v1",
)


@dataclass(frozen=True)
class Part:
    """One file of the sky: ``train`` number i, ``calibration`` or ``test`` of an instrument."""

    kind: str
    number: int
    instrument: str = ""

    @property
    def pattern(self) -> str:
        """Its name, but for the instruments."""
        return f"{self.kind}/{self.number:05d}.{self.instrument or '*'}.pt"


def parts() -> list[Part]:
    """All files of a sky."""
    tests = [Part("test", i, s) for i in range(TEST // TEST_BATCH) for s in SURVEYS]
    names = list(BASE.sky.surveys)
    calibration = [Part("calibration", i, s) for i in range(CALIBRATION) for s in names]
    return [*(Part("train", i) for i in range(BATCHES)), *calibration, *tests]


@cache
def base_task() -> SkyTask:
    """What makes the sky, and the model whose first fits it has."""
    torch.set_num_threads(1)
    return SkyTask(BASE, SkyStream(BASE.sky))


@cache
def _clean() -> SkyStream:
    task = base_task()
    return SkyStream(BASE.sky.model_copy(update=CLEAN), scale=task.stream.scale)


def _batch(part: Part) -> SkyBatch:
    stream = base_task().stream
    kinds = ("train", "calibration", "test")
    rng = np.random.default_rng([SEED, kinds.index(part.kind), part.number])
    if part.kind == "train":
        return stream.batch(stream.stars(STARS, rng), rng)
    if part.kind == "test":  # the same stars for each survey
        clean = _clean()
        stars, rows = clean.stars(TEST_BATCH, rng), np.arange(TEST_BATCH)
        rng = np.random.default_rng([SEED, 3, part.number, SURVEYS.index(part.instrument)])
        return clean.observed(stars, [(clean.instruments[part.instrument], rows)], rng, snr=SNR)
    survey = stream.surveys.index(part.instrument)
    return base_task().looked_at(survey, np.random.default_rng([SEED, 1, part.number, survey]))


def _make(job: tuple[Path, Part]) -> None:
    folder, part = job
    batch = fitted(base_task().model, _batch(part))  # type: ignore[arg-type]
    seen = part.instrument or "+".join(
        dict.fromkeys(name for one in batch.instrument for name in one.split("+"))
    )
    path = folder / part.kind / f"{part.number:05d}.{seen}.pt"
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{os.getpid()}")
    torch.save(batch, unfinished)
    unfinished.rename(path)


def make(work: Path) -> None:
    """Make what is not made yet."""
    folder = work / "sky"
    jobs = [(folder, part) for part in parts() if not list(folder.glob(part.pattern))]
    with ProcessPoolExecutor(WORKERS) as pool:
        for _ in track(pool.map(_make, jobs), "sky", total=len(jobs)):
            pass


def kept(work: Path, kind: str, surveys: Sequence[str] = ()) -> list[Path]:
    """Return the files of a kind in which any of some instruments looks; of all if not given."""
    found = sorted((work / "sky" / kind).glob("*.pt"))
    wanted = [one.pattern for one in parts() if one.kind == kind]
    if len(found) < len(wanted):
        raise SystemExit(f"{len(found)} of {len(wanted)} batches: run benchmarks/kept_sky.py first")
    return [p for p in found if not surveys or set(p.name.split(".")[1].split("+")) & set(surveys)]


def read(path: Path) -> SkyBatch:
    """Read a batch with its first fit."""
    return torch.load(path, weights_only=False)  # type: ignore[no-any-return]


def without_labels(batch: SkyBatch, surveys: Sequence[str]) -> SkyBatch:
    """Return a batch whose views by other instruments than these have no labels to learn from."""
    if not surveys:
        return batch
    ours = [set(name.split("+")) <= set(surveys) for name in batch.instrument]
    target = torch.where(torch.tensor(ours)[:, None], batch.target, torch.nan)
    return replace(batch, target=target)


def batches(files: Sequence[Path], surveys: Sequence[str]) -> Iterator[SkyBatch]:
    """Yield those batches of files that teach something about some instruments."""
    for path in files:
        batch = without_labels(read(path), surveys)
        if torch.isfinite(batch.target).any():
            yield batch


def main() -> None:
    """Make the sky."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("work", type=Path)
    make(parser.parse_args().work)


if __name__ == "__main__":
    main()
