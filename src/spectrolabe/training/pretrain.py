"""Training on the synthetic sky: one model for all surveys, before it has seen a real spectrum."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from spectrolabe.config import SkyTrainConfig
from spectrolabe.labels import Labels
from spectrolabe.models.encoder import Encoder
from spectrolabe.models.estimator import numbers
from spectrolabe.models.guess import MOTION
from spectrolabe.models.heads import HeadOutput
from spectrolabe.training.compact import compact_spectra
from spectrolabe.training.deduced import learn_deduced
from spectrolabe.training.instruments import RANDOM
from spectrolabe.training.loop import Run
from spectrolabe.training.sky import SkyBatch, SkyStream
from spectrolabe.training.stars import EXPOSURE, typical_values

__all__ = [
    "Seen",
    "SkyBeside",
    "SkyTask",
    "disagreement",
    "encode_views",
    "fitted",
    "sky_batches",
    "sky_loss",
]

STARS = 64  # at a time, of those that a model is tried on
FASTEST = 4.0  # times the unit of velocities that are left: the range of histograms
AHEAD, MAKERS = 4, 2  # batches that are made while the model learns, and threads that do it
VIEWS = 1.4  # spectra that a star has in a batch, about


def sky_batches(
    stream: SkyStream,
    stars: int,
    steps: int,
    rng: np.random.Generator,
    encoder: Encoder,
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
    encoder : Encoder
        What it starts from does not change while it learns.
    """
    drawn = stream.stars(stars * steps, rng)
    rngs = rng.spawn(steps)

    def make(i: int) -> SkyBatch:
        batch = stream.batch(drawn.take(np.arange(i * stars, (i + 1) * stars)), rngs[i])
        return fitted(encoder, batch)

    with ThreadPoolExecutor(MAKERS) as maker:
        waiting = [maker.submit(make, i) for i in range(min(AHEAD, steps))]
        for i in range(steps):
            if i + AHEAD < steps:
                waiting.append(maker.submit(make, i + AHEAD))
            yield waiting.pop(0).result()


def fitted(encoder: Encoder, batch: SkyBatch) -> SkyBatch:
    """Return a batch with the first fit of an encoder, and with what that says of real spectra."""
    if encoder.guesser is None:
        return batch
    target = batch.target.new_zeros(int(batch.spectrum.max()) + 1, batch.target.shape[1])
    target[batch.spectrum] = batch.target[batch.view]
    sizes = [len(part.place) for part in batch.tokens]
    tokens = [
        encoder.guesser.as_observed(part, own)
        for part, own in zip(batch.tokens, target.split(sizes), strict=True)
    ]
    fit = encoder.first_fit(tokens, batch.view, batch.spectrum)
    return replace(batch, tokens=tokens, fit=fit)


@torch.inference_mode()
def encode_views(encoder: Encoder, batch: SkyBatch) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """Return of each view what `spectrolabe.models.estimator.encode_with_levels` does."""
    encoder.eval()
    batch = fitted(encoder, batch) if batch.fit is None else batch
    return numbers(
        encoder, encoder(batch.tokens, batch.view, spectrum=batch.spectrum, fit=batch.fit)
    )


class Seen(NamedTuple):
    """What a model says of N views of stars it has not seen.

    Parameters
    ----------
    residual, sigma : ndarray, shape (N, L)
        Scaled label less estimate, and the standard deviation that the model states.
    snr : ndarray, shape (N,)
    survey : ndarray of str, shape (N,)
        Empty for several together.
    embedding : ndarray, shape (N, D)
    """

    residual: NDArray
    sigma: NDArray
    snr: NDArray
    survey: NDArray
    embedding: NDArray

    @classmethod
    def of(cls, encoder: Encoder, batch: SkyBatch) -> Seen:
        """Try a model on the views of a batch."""
        mean, covariance, embedding, _ = encode_views(encoder, batch)
        return cls(
            batch.target.cpu().double().numpy() - mean,
            np.sqrt(np.diagonal(covariance, axis1=1, axis2=2)),
            batch.snr,
            np.array(["" if "+" in n or n == RANDOM else n for n in batch.instrument]),
            embedding,
        )

    @classmethod
    def joined(cls, parts: Iterable[Seen]) -> Seen:
        """All views of several."""
        return cls(*(np.concatenate(part) for part in zip(*parts, strict=True)))


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


def sky_loss(run: Run, batch: SkyBatch, consistency: float) -> Tensor:
    """Return the loss of all views of a batch by the model of a run, and of their disagreement."""
    output = run.model(batch.tokens, batch.view, spectrum=batch.spectrum, fit=batch.fit)
    loss = cast(Encoder, run.task.model).head.loss(output, batch.target)
    return loss + consistency * disagreement(output, batch) if consistency else loss


class SkyBeside:
    """A synthetic sky from which a model learns beside real stars.

    Parameters
    ----------
    stream : SkyStream
        On the label scale of the model.
    stars : int
        Of a batch.
    """

    def __init__(self, stream: SkyStream, stars: int) -> None:
        self.stream, self.stars = stream, stars

    def losses(self, run: Run, rng: np.random.Generator) -> Iterator[Tensor]:
        """Yield the loss of each batch of new stars."""
        config = self.stream.config
        encoder = cast(Encoder, run.task.model)
        for batch in sky_batches(self.stream, self.stars, config.steps, rng, encoder):
            with run.accelerator.autocast():
                loss = sky_loss(run, batch, config.consistency)
            yield loss

    def references(
        self, encoder: Encoder, count: int, rng: np.random.Generator
    ) -> tuple[NDArray, Labels]:
        """Return embeddings (K, D) of about ``count`` views of new stars, and their labels."""
        steps = -(-count // STARS)
        parts = [
            (encode_views(encoder, batch)[2], batch.target.cpu().numpy())
            for batch in sky_batches(self.stream, STARS, steps, rng, encoder)
        ]
        embedding, target = (np.concatenate(x)[:count] for x in zip(*parts, strict=True))
        values = self.stream.scale.unscale(target)
        ids = np.array([f"sky-{i:05d}" for i in range(len(values))])
        return embedding, Labels(self.stream.names, values, np.full(values.shape, np.nan), ids)

    def seen(self, encoder: Encoder, count: int, rng: np.random.Generator) -> Seen:
        """Let every instrument see new stars, a quarter of them also by another, and try a model.

        Parameters
        ----------
        encoder : Encoder
        count : int
            Stars of each instrument.
        rng : Generator
        """
        return Seen.joined(
            Seen.of(encoder, self.looked_at(survey, rng))
            for survey in range(len(self.stream.surveys))
            for _ in range(-(-count // STARS))
        )

    def looked_at(self, survey: int, rng: np.random.Generator) -> SkyBatch:
        """Return new stars as one instrument sees them, a quarter of them also as the next does.

        Parameters
        ----------
        survey : int
            Number of the instrument.
        rng : Generator
        """
        names, rows = self.stream.surveys, np.arange(STARS)
        pair = [names[(survey + k) % len(names)] for k in (0, 1)]
        one, other = (self.stream.draw_instrument(name, rng) for name in pair)
        views = [(one, rows), (other, rows[: STARS // 4])]
        return self.stream.observed(self.stream.stars(STARS, rng), views, rng)


def _range_of(stream: SkyStream) -> NDArray:
    """Scaled labels of many stars, (N, L); velocities left by far more than is usual."""
    values = typical_values(stream.config, stream.emulators[0], stream.names)
    scaled = stream.scale.scale(values)
    if EXPOSURE in stream.names:
        scaled[:, stream.names.index(EXPOSURE)] *= FASTEST
    return np.asarray(scaled)


class SkyTask(SkyBeside):
    """Labels of the stars of an endless sky, for `spectrolabe.training.loop.learn`.

    Parameters
    ----------
    config : SkyTrainConfig
    stream : SkyStream
    folder : Path, optional
        Of the run: keeps the compact spectra that are made.
    """

    def __init__(
        self, config: SkyTrainConfig, stream: SkyStream, folder: Path | None = None
    ) -> None:
        torch.manual_seed(config.training.seed)
        compact = compact_spectra(config, stream, folder)
        if compact is not None:
            size = {"compact": compact.size_of()}
            config = config.model_copy(update={"encoder": config.encoder.model_copy(update=size)})
        encoder = Encoder(config.encoder, len(stream.names), compact)
        if encoder.guesser is not None:
            encoder.guesser.aim((*stream.emulators[0].names, *MOTION), stream.scale)
            rng = np.random.default_rng([config.training.seed, 2**31, 4])
            learn_deduced(encoder.guesser, stream, rng)
        encoder.head.set_range(torch.from_numpy(_range_of(stream)).float())
        self.model: nn.Module = encoder
        super().__init__(stream, config.training.batch_size)
        self.config = config
        self.steps, self.selects = config.sky.steps, False
        self.spectra = int(VIEWS * self.steps * config.training.batch_size)

    def score(self, model: nn.Module) -> tuple[float, dict[str, Any]]:
        """There are no stars to select by, for none is seen twice: no epoch is better."""
        return math.inf, {}
