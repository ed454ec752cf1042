"""The released denoiser: taught by a synthetic sky, errors set by stars that it has not seen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from spectrolabe import __version__
from spectrolabe.config import DenoiserTrainConfig
from spectrolabe.errors import InputError
from spectrolabe.models.checkpoint import load
from spectrolabe.models.denoiser import AS_STATED, Denoiser, save_denoiser
from spectrolabe.models.flux_decoder import FluxDecoder, node_noise
from spectrolabe.models.released import find_model
from spectrolabe.training.instruments import RANDOM
from spectrolabe.training.loop import begin, learn
from spectrolabe.training.sky import SkyStream
from spectrolabe.training.sky_twins import SkyTwinTask

__all__ = ["scale_of", "train_denoiser"]

STARS = 16  # at a time
ENOUGH = 0.5  # of the kernel of a node is covered, so that it counts
INSIDE = 0.683  # of the errors shall be within one standard deviation


def train_denoiser(
    config: DenoiserTrainConfig, output: str | Path, *, progress: bool = True
) -> Path:
    """Train a denoiser for an encoder, set its errors and write it; continues where it was.

    Parameters
    ----------
    config : DenoiserTrainConfig
    output : str or Path
        The run.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Path
        The run, which `spectrolabe.models.denoiser.load_denoiser` reads.

    Raises
    ------
    InputError
        If the encoder does not start from a fit, or the run was begun with another configuration.
    """
    output = begin(output, config)
    estimator = load(find_model(config.denoiser.encoder))
    if estimator.encoder.guesser is None:
        raise InputError(
            "denoiser.encoder",
            expected="a model that starts from a fit of the full spectrum",
            found=config.denoiser.encoder,
            fix="Take unified-v1, or one that was made from it.",
        )
    stream = SkyStream(config.sky, scale=estimator.scale)
    task = SkyTwinTask(config, stream, estimator.encoder)
    learnt = learn(task, config.training, output, title=config.name, progress=progress)
    decoder = cast(FluxDecoder, learnt).eval()
    scales, unseen = _tried(task, decoder)
    errors = {name: [scale**2 * x for x in AS_STATED] for name, scale in scales.items()}
    card = {
        "name": config.name,
        "spectrolabe_version": __version__,
        "encoder": Path(config.denoiser.encoder).name,
        "encoder_sha256": estimator.card["weights_sha256"],
        "channels": config.denoiser.channels,
        "configuration": config.model_dump(mode="json"),
        "training_data": {
            "store": "a synthetic sky, made while the model learnt",
            "spectra": config.training.epochs * task.spectra,
            "surveys": [name for name in stream.surveys if name != RANDOM],
            "snr_range": list(config.sky.snr),
        },
        "unseen": unseen,
    }
    return save_denoiser(Denoiser(estimator, decoder, errors, card), output)


@torch.inference_mode()
def _tried(
    task: SkyTwinTask, decoder: FluxDecoder
) -> tuple[dict[str, float], dict[str, dict[str, Any]]]:
    """Factors of the errors by survey, and how large these are, on stars not trained on."""
    config = task.config
    rng = np.random.default_rng([config.training.seed, 2**31, 1])
    pulls, unseen = {}, {}
    for survey in task.stream.surveys:
        z, over = [], []
        for _ in range(-(-config.denoiser.calibration // STARS)):
            batch = task.made(survey, task.stream.stars(STARS, rng), rng)
            for view, (found, content, _, weight) in zip(
                batch.fit.tokens, task.told(decoder, batch), strict=True
            ):
                use = weight > ENOUGH
                error = (found.content - content)[use]
                noise = node_noise(batch.tokens[view.part])[view.spectrum].expand_as(content)
                z.append((error / found.sigma[use]).numpy())
                over.append((error.abs() / noise[use]).numpy())
        pulls[survey] = np.concatenate(z)
        unseen[survey] = {
            "stars": config.denoiser.calibration,
            "error_over_noise": float(1.4826 * np.median(np.concatenate(over))),
        }
    scales = {survey: scale_of(pulls[survey]) for survey in pulls if survey != RANDOM}
    return {**scales, "": scale_of(np.concatenate(list(pulls.values())))}, unseen


def scale_of(pulls: NDArray | Sequence[float]) -> float:
    """Return the factor of the errors that puts 68.3 per cent of the truth within one of them."""
    return float(np.quantile(np.abs(pulls), INSIDE))
