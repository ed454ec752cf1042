"""Training on the synthetic sky: one model for all surveys, before it has seen a real spectrum."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spectrolabe.config import SkyTrainConfig
from spectrolabe.models.encoder import Encoder
from spectrolabe.models.heads import Head, HeadOutput
from spectrolabe.training.loop import Run
from spectrolabe.training.sky import SkyBatch, SkyStream
from spectrolabe.training.templates import make_templates

__all__ = ["SkyTask", "disagreement", "sky_batches", "sky_loss"]

AHEAD = 2  # batches that are made while the model learns
VIEWS = 1.4  # spectra that a star has in a batch, about


def sky_batches(
    stream: SkyStream, stars: int, steps: int, rng: np.random.Generator
) -> Iterator[SkyBatch]:
    """Yield batches of new stars; the next ones are made meanwhile.

    Parameters
    ----------
    stream : SkyStream
    stars : int
        Of a batch.
    steps : int
        Batches.
    rng : Generator
        What a batch is depends on this alone, not on when it is made.
    """
    drawn = stream.stars(stars * steps, rng)
    rngs = rng.spawn(steps)

    def make(i: int) -> SkyBatch:
        return stream.batch(drawn.take(np.arange(i * stars, (i + 1) * stars)), rngs[i])

    with ThreadPoolExecutor(1) as maker:
        waiting = [maker.submit(make, i) for i in range(min(AHEAD, steps))]
        for i in range(steps):
            if i + AHEAD < steps:
                waiting.append(maker.submit(make, i + AHEAD))
            yield waiting.pop(0).result()


def disagreement(output: HeadOutput, batch: SkyBatch) -> Tensor:
    """Return what two surveys disagree about each star that both see, in their sigmas, squared.

    Differences are measured in the uncertainties that the views themselves state, without
    gradient: wider ones are no way to agree. Student's t keeps a few stars from ruling.
    """
    single = np.array(["+" not in name for name in batch.instrument])
    order = np.flatnonzero(single)
    order = order[np.argsort(batch.star[order], kind="stable")]
    same = batch.star[order[1:]] == batch.star[order[:-1]]
    if not same.any():
        return output.mean.sum() * 0.0
    a, b = (torch.from_numpy(x).to(output.mean.device) for x in (order[:-1][same], order[1:][same]))
    known = torch.isfinite(batch.target[a]) & torch.isfinite(batch.target[b])
    agreed = (batch.target[a] == batch.target[b]) & known  # not what each exposure has of its own
    variance = (2.0 * output.log_sigma).exp().detach()
    z2 = (output.mean[a] - output.mean[b]) ** 2 / (variance[a] + variance[b])
    return torch.where(agreed, torch.log1p(z2 / 4.0), 0.0).sum() / agreed.sum().clamp(min=1)


def sky_loss(model: nn.Module, head: Head, batch: SkyBatch, consistency: float) -> Tensor:
    """Return the loss of all views of a batch, and of their disagreement."""
    output = model(batch.tokens, batch.view, spectrum=batch.spectrum)
    loss = head.loss(output, batch.target)
    return loss + consistency * disagreement(output, batch) if consistency else loss


class SkyTask:
    """Labels of the stars of an endless sky, for `spectrolabe.training.loop.learn`.

    Parameters
    ----------
    config : SkyTrainConfig
    stream : SkyStream
    """

    def __init__(self, config: SkyTrainConfig, stream: SkyStream) -> None:
        torch.manual_seed(config.training.seed)
        templates = make_templates(stream.emulators, stream.scale) if config.templates else None
        if templates is not None:
            shape = {"templates": tuple(templates.origin.shape)}
            config = config.model_copy(update={"encoder": config.encoder.model_copy(update=shape)})
        self.encoder = Encoder(config.encoder, len(stream.names), templates)
        self.model: nn.Module = self.encoder
        self.config, self.stream = config, stream
        self.steps, self.selects = config.sky.steps, False
        self.spectra = int(VIEWS * self.steps * config.training.batch_size)

    def losses(self, run: Run, rng: np.random.Generator) -> Iterator[Tensor]:
        """Yield the loss of each batch of new stars."""
        stars = self.config.training.batch_size
        for batch in sky_batches(self.stream, stars, self.steps, rng):
            with run.accelerator.autocast():
                loss = sky_loss(run.model, self.encoder.head, batch, self.config.sky.consistency)
            yield loss

    def score(self, model: nn.Module) -> tuple[float, dict[str, Any]]:
        """There are no stars to select by: none is seen twice."""
        raise NotImplementedError
