"""Small models that differ in one thing, taught by the stars of one kept sky.

    python benchmarks/kept_sky.py WORK
    python benchmarks/learners.py WORK             # trains all; again to continue
    python benchmarks/learners.py WORK base only-desi

The pages `unified_losses.py`, `unified_left_out.py` and `unified_scaling.py` try them.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kept_sky import BASE, BATCHES, STARS, base_task, batches, kept, read, without_labels
from spectrolabe.config import EncoderConfig
from spectrolabe.models.checkpoint import load, save_estimator
from spectrolabe.models.encoder import Encoder
from spectrolabe.models.estimator import Estimator
from spectrolabe.models.posterior import LabelPosterior
from spectrolabe.models.uncertainty import Coverage, Recalibration
from spectrolabe.training.loop import Run, begin, learn
from spectrolabe.training.pretrain import Seen, SkyTask, sky_loss
from unified_sky import SURVEYS, told_by

__all__ = ["BASELINE", "LEARNERS", "LOSSES", "Learner", "Tried", "finished", "try_out"]

BASELINE = "base"
LOSSES: dict[str, dict[str, Any]] = {
    "gaussian": {},
    "gaussian, embedding": {"embedding": 0.1},
    "binned": {"kind": "binned", "bins": 128},
    "binned, asymmetric": {"kind": "binned", "bins": 128, "asymmetric": True},
    "binned, embedding": {"kind": "binned", "bins": 128, "embedding": 0.1},
    "binned, asymmetric, embedding": {
        **{"kind": "binned", "bins": 128, "asymmetric": True, "embedding": 0.1}
    },
}


@dataclass(frozen=True)
class Learner:
    """What is special about a model.

    Parameters
    ----------
    encoder : dict
        What its configuration has of its own.
    surveys : tuple of str
        Instruments whose views it learns from; all if empty.
    share : float
        Of the batches of the sky.
    passes : int
        Over these batches.
    """

    encoder: dict[str, Any] = field(default_factory=dict)
    surveys: tuple[str, ...] = ()
    share: float = 1.0
    passes: int = BASE.training.epochs


def _learners() -> dict[str, Learner]:
    found = {BASELINE: Learner()}
    for name, head in LOSSES.items():
        if head:
            found[name.replace(", ", "-")] = Learner({"head": head})
    for survey in SURVEYS:
        rest = tuple(name for name in BASE.sky.surveys if name != survey)
        found[f"without-{survey}"] = Learner(surveys=rest)
        found[f"only-{survey}"] = Learner(surveys=(survey,))
    for width, blocks, latents in ((32, 2, 8), (128, 3, 12)):
        found[f"width-{width}"] = Learner({"width": width, "blocks": blocks, "latents": latents})
    found["stars-1/16"] = Learner(share=1 / 16, passes=16 * BASE.training.epochs)
    found["stars-1/4"] = Learner(share=1 / 4, passes=4 * BASE.training.epochs)
    for passes in (1, 4):
        found[f"passes-{passes}"] = Learner(passes=passes)
    return found


LEARNERS = _learners()


class KeptTask(SkyTask):
    """A learner and the part of the kept sky that it learns from."""

    def __init__(self, learner: Learner, name: str, work: Path) -> None:
        encoder = EncoderConfig.model_validate(BASE.encoder.model_dump() | learner.encoder)
        training = BASE.training.model_copy(update={"epochs": learner.passes})
        update = {"name": name, "encoder": encoder, "training": training}
        super().__init__(BASE.model_copy(update=update), base_task().stream)
        self.surveys = learner.surveys
        self.files = kept(work, "train", self.surveys)
        self.files = self.files[: round(learner.share * len(self.files))]
        self.steps, self.spectra = len(self.files), int(1.4 * STARS * len(self.files))

    def losses(self, run: Run, rng: np.random.Generator) -> Iterator[Tensor]:
        """Yield the loss of each batch that is kept."""
        for i in rng.permutation(len(self.files)):
            batch = without_labels(read(self.files[i]), self.surveys)
            yield sky_loss(run, batch, self.config.sky.consistency)


def folder_of(work: Path, name: str) -> Path:
    """Folder of a model."""
    return work / name.replace("/", "_of_")


def finished(work: Path, name: str) -> bool:
    """Tell whether a model is trained."""
    return (folder_of(work, name) / "card.json").exists()


def train(work: Path, name: str) -> None:
    """Train a model, recalibrate it and write it."""
    torch.set_num_threads(1)
    task = KeptTask(LEARNERS[name], name, work)
    output = begin(folder_of(work, name), task.config)
    encoder = cast(Encoder, learn(task, task.config.training, output, title=name))
    calibration = batches(kept(work, "calibration", task.surveys), task.surveys)
    seen = Seen.joined([Seen.of(encoder, batch) for batch in calibration])
    known = np.isfinite(seen.residual).any(axis=1)
    seen = Seen(*(column[known] for column in seen))
    recalibration = Recalibration.fit(seen.residual, seen.sigma, seen.snr, seen.survey.tolist())
    card = {
        "name": name,
        "encoder": task.config.encoder.model_dump(),
        "configuration": task.config.model_dump(mode="json"),
        "training_data": {"stars": len(task.files) * STARS, "surveys": list(task.surveys)},
        "steps": task.steps * task.config.training.epochs,
    }
    coverage = Coverage.fit(seen.embedding)
    save_estimator(Estimator(encoder, task.stream.scale, recalibration, coverage, card), output)


class Tried(NamedTuple):
    """What a model says of the N test stars as one survey sees them.

    Parameters
    ----------
    posterior : LabelPosterior
        Calibrated.
    truth : ndarray, shape (N, L)
    embedding : ndarray, shape (N, D)
    """

    posterior: LabelPosterior
    truth: NDArray
    embedding: NDArray


def try_out(work: Path, name: str, surveys: tuple[str, ...] = SURVEYS) -> dict[str, Tried]:
    """Return what a model says of the test stars, by survey."""
    torch.set_num_threads(1)
    model = load(folder_of(work, name))
    found = {}
    for survey in surveys:
        views = [read(path) for path in kept(work, "test", (survey,))]
        estimate, truth = told_by(model, views, survey)
        found[survey] = Tried(estimate.calibrated, truth, estimate.embedding)
    return found


def main() -> None:
    """Train what is not trained yet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("work", type=Path)
    parser.add_argument("names", nargs="*", choices=[*LEARNERS, []], default=[])
    given = parser.parse_args()
    for name in given.names or LEARNERS:
        if not finished(given.work, name):
            print(f"{name}: {BATCHES * STARS * LEARNERS[name].share:g} stars", flush=True)
            train(given.work, name)


if __name__ == "__main__":
    main()
