"""Twins from a synthetic sky: what an instrument recorded, and what it would have without noise.

Stars of a sky are such as the emulators know. Real ones have lines that no list has, spots,
companions, emission, or are of a kind that no emulator knows; a denoiser that had never seen any of
this would paint over it. So most stars of a batch are made strange: their flux is multiplied by
random structure as sharp as the instrument allows, in the noisy spectrum and in the exact one.
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
from spectrolabe.models.pixels import PixelBatch
from spectrolabe.models.tokens import Tokens, tokenise
from spectrolabe.training.instruments import StreamInstrument
from spectrolabe.training.loop import Run
from spectrolabe.training.observing import Conditions, correlated, observe_twice
from spectrolabe.training.sky import SkyStream
from spectrolabe.training.stars import Stars

__all__ = ["SkyTwinTask", "SkyTwins", "seen_twice"]

USUAL = 0.25  # share of stars that are as the emulators have them
ODD = (0.003, 0.3)  # standard deviation of what is strange in others, of the continuum
SHARPNESS = (1.0, 6.0)  # its width in units of the line-spread function
EVERYWHERE = 0.4  # share of strange stars that are so at all wavelengths; others in a few stretches
EMISSION = 0.15  # share of stars that have emission lines, besides
BRIGHTEST, LINES = 3.0, 5  # of the continuum; at most so many
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
    made = [made_strange(a, b, rng, generator) for a, b in zip(*both, strict=True)]
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


def made_strange(
    noisy: PixelBatch, exact: PixelBatch, rng: np.random.Generator, generator: torch.Generator
) -> tuple[PixelBatch, PixelBatch]:
    """Return both with the same random structure in the flux of most stars.

    Parameters
    ----------
    noisy, exact : PixelBatch
        N stars in the same pixels.
    rng : Generator
    generator : torch.Generator
        On their device.
    """
    count, size = noisy.flux.shape
    device = noisy.flux.device
    low, high = np.log(ODD)
    amplitude = np.exp(rng.uniform(low, high, count)) * (rng.random(count) >= USUAL)
    step = float(noisy.spacing[noisy.spacing > 0].median())
    sharp = float(noisy.variance.sqrt().median()) / step  # line-spread function, in pixels
    field = torch.randn(count, size, generator=generator, device=device)
    field = correlated(field, max(1.0, sharp * np.exp(rng.uniform(*np.log(SHARPNESS)))))
    place = np.arange(size) / size
    for i in range(count):
        if rng.random() > EVERYWHERE:
            centres, widths = rng.random(3), rng.uniform(0.01, 0.1, 3)
            window = np.exp(-0.5 * ((place[:, None] - centres) / widths) ** 2).max(axis=1)
            field[i] *= torch.from_numpy(window).float().to(device)
    factor = 1.0 + torch.from_numpy(amplitude).float().to(device)[:, None] * field
    factor = factor.clamp(min=0.05)
    pixels = np.arange(size)
    for i in np.flatnonzero(rng.random(count) < EMISSION).tolist():
        for _ in range(int(rng.integers(1, LINES + 1))):
            bright, width = BRIGHTEST * rng.random() ** 3, sharp * rng.uniform(*SHARPNESS)
            line = bright * np.exp(-0.5 * ((pixels - size * rng.random()) / width) ** 2)
            factor[i] += torch.from_numpy(line).float().to(device)
    return replace(noisy, flux=noisy.flux * factor), replace(exact, flux=exact.flux * factor)


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
