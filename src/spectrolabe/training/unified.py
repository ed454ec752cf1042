"""The model of all surveys: trained on the synthetic sky, recalibrated on stars of it not seen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from spectrolabe import __version__
from spectrolabe.config import SkyTrainConfig
from spectrolabe.labels import Labels
from spectrolabe.models.checkpoint import save_estimator
from spectrolabe.models.encoder import Encoder
from spectrolabe.models.estimator import Estimator
from spectrolabe.models.left_out import LEFT_OUT
from spectrolabe.models.uncertainty import Coverage, Recalibration
from spectrolabe.training.instruments import RANDOM
from spectrolabe.training.loop import begin, learn
from spectrolabe.training.pretrain import Seen, SkyTask
from spectrolabe.training.sky import SkyStream

__all__ = ["finish_on_sky", "train_on_sky"]

REFERENCES = 4000  # views kept for the coverage
UNSEEN = 2000  # views by which its limit is set
RANGE = (0.001, 0.999)  # quantiles of the training labels


def train_on_sky(config: SkyTrainConfig, output: str | Path, *, progress: bool = True) -> Path:
    """Train on the synthetic sky, recalibrate and write a model; continues where it was.

    Parameters
    ----------
    config : SkyTrainConfig
    output : str or Path
        The run: ``model.safetensors`` and ``card.json`` at the end, ``metrics.jsonl`` all along.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Path
        The run, which `spectrolabe.models.checkpoint.load` reads.

    Raises
    ------
    InputError
        If there is no such emulator or instrument, or the run was begun with another configuration.
    """
    output = begin(output, config)
    stream = SkyStream(config.sky, config.labels)
    task = SkyTask(config, stream, output)
    encoder = cast(
        Encoder, learn(task, config.training, output, title=config.name, progress=progress)
    )
    return save_estimator(finish_on_sky(task, encoder), output)


def finish_on_sky(task: SkyTask, encoder: Encoder) -> Estimator:
    """Return the estimator of fitted weights.

    Parameters
    ----------
    task : SkyTask
        That they were fitted by.
    encoder : Encoder
    """
    config, stream = task.config, task.stream
    # other stars than any of an epoch: those have a seed of two numbers
    rng = np.random.default_rng([config.training.seed, 2**31, 1])
    seen = task.seen(encoder, config.calibration, rng)
    reference, stars = task.references(encoder, REFERENCES, rng)
    unseen, _ = task.references(encoder, UNSEEN, rng)
    inside = Coverage.fit(reference, unseen)
    coverage = Coverage(inside.reference, inside.width, inside.limit, stars)
    recalibration = Recalibration.fit(seen.residual, seen.sigma, seen.snr, seen.survey.tolist())
    card = _card(task, seen, stars)
    return Estimator(encoder.cpu(), stream.scale, recalibration, coverage, card)


def _card(task: SkyTask, seen: Seen, stars: Labels) -> dict[str, Any]:
    config, stream = task.config, task.stream
    names = stream.names
    steps = config.training.epochs * config.sky.steps
    low, high = np.nanquantile(stars.values, RANGE, axis=0)
    spread = np.nanstd(np.clip(stars.values, low, high), axis=0)
    error = 1.4826 * np.nanmedian(np.abs(seen.residual), axis=0) * stream.scale.width
    number: dict[str, Any] = {name: float(x) for name, x in zip(names, error, strict=True)}
    return {
        "name": config.name,
        "spectrolabe_version": __version__,
        "encoder": config.encoder.model_dump(),
        "configuration": config.model_dump(mode="json"),
        "training_data": {
            "store": "a synthetic sky, made while the model learnt",
            "emulators": {e.card["name"]: e.card["weights_sha256"] for e in stream.emulators},
            "spectra": steps * int(1.4 * config.training.batch_size),
            "stars": steps * config.training.batch_size,
            "surveys": [name for name in stream.surveys if name != RANDOM],
            "wavelength_range": _wavelengths(stream)[0],
            "wavelength_ranges": _wavelengths(stream),
            "resolution_range": _resolutions(stream),
            "left_out": list(LEFT_OUT),  # of real spectra
            "snr_range": list(config.sky.snr),
            "label_range": {
                n: [float(a), float(b)] for n, a, b in zip(names, low, high, strict=True)
            },
            "label_spread": {n: float(s) for n, s in zip(names, spread, strict=True)},
        },
        "input": "native pixels (vacuum Angstrom, at rest by the survey's own velocity), ivar, R",
        "recalibrated_on": f"{len(seen.snr)} views of simulated stars that were not trained on",
        "unseen_mad": number,
    }


def _wavelengths(stream: SkyStream) -> list[list[float]]:
    return sorted([float(e.wavelength[0]), float(e.wavelength[-1])] for e in stream.emulators)


def _resolutions(stream: SkyStream) -> list[float]:
    known: Sequence[float] = [
        arm.resolution for one in stream.instruments.values() for arm in one.arms
    ]
    if stream.workshop is not None:
        known = [*known, *(power for pair in stream.workshop.powers for power in pair)]
    return [float(min(known)), float(max(known))]
