"""Twins from a synthetic sky: what an instrument recorded, and what it would have without noise.

Most stars are made strange (`spectrolabe.training.strange`), in both.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from spectrolabe.config import DenoiserTrainConfig
from spectrolabe.models.encoder import Encoder, Reading
from spectrolabe.models.first_fit import FirstFit
from spectrolabe.models.flux_decoder import FluxDecoder, NodeFlux, flux_loss
from spectrolabe.models.tokens import Tokens, tokenise
from spectrolabe.training.instruments import StreamInstrument
from spectrolabe.training.loop import Run
from spectrolabe.training.observing import Conditions, observe_twice
from spectrolabe.training.sky import SkyStream
from spectrolabe.training.stars import Stars
from spectrolabe.training.strange import strange_factor

__all__ = ["SkyTwinTask", "SkyTwins", "seen_twice"]

ODD, EMISSION = 0.75, 0.15  # shares of stars that are strange, or have emission lines
LEAST_ERROR = 5e-4  # of the continuum: what a local continuum is not known to
AHEAD, MAKERS = 4, 2  # batches that are made while the decoder learns, and threads that do it


class SkyTwins(NamedTuple):
    """N stars seen by one instrument, in parts of one or more arms.

    Parameters
    ----------
    instrument : str
    tokens, exact : list of Tokens
        With and without noise and air, at the same places.
    star : Tensor, shape (E,)
        Of each spectrum, ascending.
    spectrum : Tensor, shape (E,)
    snr : ndarray, shape (N,)
    fit : FirstFit
    """

    instrument: str
    tokens: list[Tokens]
    exact: list[Tokens]
    star: Tensor
    spectrum: Tensor
    snr: np.ndarray
    fit: FirstFit


@torch.no_grad()
def seen_twice(
    stream: SkyStream,
    encoder: Encoder,
    instrument: StreamInstrument,
    stars: Stars,
    rng: np.random.Generator,
) -> SkyTwins:
    """Let an instrument see stars, and make the first fits of an encoder."""
    generator = torch.Generator(stream.device)
    generator.manual_seed(int(rng.integers(2**62)))
    conditions = Conditions.draw(stream.config, instrument, len(stars), rng)
    both = observe_twice(instrument, stars, conditions, stream.config, rng, generator)
    made = []
    for noisy, clean in zip(*both, strict=True):
        factor = strange_factor(noisy, ODD, EMISSION, rng, generator)
        made.append([replace(one, flux=one.flux * factor) for one in (noisy, clean)])
    guesser = encoder.guesser
    assert guesser is not None  # the decoder needs one
    target = torch.from_numpy(stream.scale.scale(stars.values)).float()
    tokens, exact = (
        [guesser.as_observed(tokenise(pair[k]), target) for pair in made] for k in (0, 1)
    )
    count, each = len(tokens), torch.arange(len(stars))
    star = each.repeat_interleave(count)
    spectrum = (each[:, None] + len(stars) * torch.arange(count)).flatten()
    fit = cast(FirstFit, encoder.first_fit(tokens, star, spectrum))
    return SkyTwins(instrument.name, tokens, exact, star, spectrum, conditions.snr, fit)


class SkyTwinTask:
    """The flux of stars of an endless sky without noise, for `spectrolabe.training.loop.learn`.

    The encoder stays as it is.

    Parameters
    ----------
    config : DenoiserTrainConfig
    stream : SkyStream
        On the label scale of the encoder.
    encoder : Encoder
    """

    selects = False

    def __init__(self, config: DenoiserTrainConfig, stream: SkyStream, encoder: Encoder) -> None:
        torch.manual_seed(config.training.seed)
        self.config, self.stream, self.encoder = config, stream, encoder.eval()
        width = encoder.latents.shape[1]
        self.model: nn.Module = FluxDecoder(width, encoder.heads, config.denoiser.channels)
        self.steps = stream.config.steps
        self.spectra = self.steps * config.training.batch_size

    def losses(self, run: Run, rng: np.random.Generator) -> Iterator[Tensor]:
        """Yield the loss of each batch of new stars."""
        size = self.config.training.batch_size
        drawn = self.stream.stars(size * self.steps, rng)
        rngs = rng.spawn(self.steps)

        def make(i: int) -> SkyTwins:
            own, stars = rngs[i], drawn.take(np.arange(i * size, (i + 1) * size))
            name = own.choice(self.stream.surveys, p=self.stream.shares)
            return self.made(str(name), stars, own)

        with ThreadPoolExecutor(MAKERS) as maker:
            waiting = [maker.submit(make, i) for i in range(min(AHEAD, self.steps))]
            for i in range(self.steps):
                if i + AHEAD < self.steps:
                    waiting.append(maker.submit(make, i + AHEAD))
                yield self.loss(run.model, waiting.pop(0).result())

    def made(self, name: str, stars: Stars, rng: np.random.Generator) -> SkyTwins:
        """Return stars as one instrument sees them."""
        instrument = self.stream.draw_instrument(name, rng)
        return seen_twice(self.stream, self.encoder, instrument, stars, rng)

    def read(self, batch: SkyTwins) -> Reading:
        """Return what the encoder reads of a batch."""
        with torch.no_grad():
            return self.encoder.read(
                batch.tokens, batch.star, spectrum=batch.spectrum, fit=batch.fit
            )

    def told(
        self, model: nn.Module, batch: SkyTwins
    ) -> Iterator[tuple[NodeFlux, Tensor, Tensor, Tensor]]:
        """Yield what a decoder says of each part, and content, variance and weight of the truth."""
        for view, found in zip(
            batch.fit.tokens, model(self.read(batch), batch.tokens), strict=True
        ):
            exact = batch.exact[view.part]
            content = exact.content[view.spectrum]
            weight = (exact.coverage * exact.valid[..., None])[view.spectrum]
            yield found, content, torch.full_like(content, LEAST_ERROR**2), weight

    def loss(self, model: nn.Module, batch: SkyTwins) -> Tensor:
        """Return the loss of a batch: the mean over its parts."""
        return torch.stack([flux_loss(*one) for one in self.told(model, batch)]).mean()

    def score(self, model: nn.Module) -> tuple[float, dict[str, Any]]:
        """There are no stars to select by, for none is seen twice: no epoch is better."""
        return math.inf, {}
