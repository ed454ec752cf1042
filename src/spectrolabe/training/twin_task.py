"""Learning from twins: the labels and the flux of a deeper spectrum, from a noisier one."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from spectrolabe.config import TrainConfig
from spectrolabe.errors import InputError
from spectrolabe.labels import LabelScale
from spectrolabe.models.encoder import Encoder, rows_of
from spectrolabe.models.estimator import encode
from spectrolabe.models.first_fit import FirstFit
from spectrolabe.models.flux_decoder import FluxDecoder, NodeFlux, flux_loss, node_noise
from spectrolabe.models.heads import HeadOutput
from spectrolabe.models.pixels import PixelRow, collate, row_of
from spectrolabe.models.tokens import Tokens, ladder_level, tokenise
from spectrolabe.spectra.store import Store
from spectrolabe.training.loop import Run
from spectrolabe.training.strange import strange_factor
from spectrolabe.training.transfer import Start, encoder_from
from spectrolabe.training.twins import Pair, deeper, noisier, split_noise

__all__ = ["TwinTask", "Twinned", "Twins", "twinned"]

LEAST_SPLIT, MOST_SPLIT = 0.5, 4.0  # of the noise, that is added where it is split
ODD, EMISSION = 0.8, 0.4  # of strange copies: shares that have structure, and emission lines
MOST_KEPT = 40_000  # spectra with their fits: 0.2 to 0.5 MB each


class Twins(nn.Module):
    """An encoder, and a decoder of flux that reads what it has read.

    Parameters
    ----------
    encoder : Encoder
        That starts from a fit.
    channels : int
        See `FluxDecoder`.
    """

    def __init__(self, encoder: Encoder, channels: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = FluxDecoder(encoder.latents.shape[1], encoder.heads, channels)

    def forward(
        self, tokens: Tokens, star: Tensor, fit: FirstFit | None = None
    ) -> tuple[HeadOutput, list[NodeFlux]]:
        """Return labels and flux without noise."""
        reading = self.encoder.read(tokens, star, fit=fit)
        return self.encoder.told(reading), self.decoder(reading, [tokens])


class Twinned(NamedTuple):
    """A batch of B visits and what is known of them from deeper spectra.

    Parameters
    ----------
    tokens : Tokens
        Of the visits.
    fit : FirstFit
    entry : ndarray of int, shape (B,)
        Numbers of the pairs.
    content, variance, weight : Tensor, shape (B, T, NODES)
        Of the deeper spectrum: content of its tokens, variance of its noise, what a node counts.
    """

    tokens: Tokens
    fit: FirstFit
    entry: NDArray
    content: Tensor
    variance: Tensor
    weight: Tensor


@torch.no_grad()
def twinned(
    encoder: Encoder,
    visits: Sequence[PixelRow],
    deep: Sequence[PixelRow],
    entry: NDArray,
    rng: np.random.Generator,
    *,
    strange: bool = False,
) -> Twinned:
    """Return a batch of pairs; the deeper spectra are in the pixels of the visits.

    Those of a strange batch have the same random structure in both; see
    `spectrolabe.training.strange`.
    """
    count = len(visits)
    pixels = collate([[row] for row in (*visits, *deep)])
    if strange:
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        seen = collate([[row] for row in visits])
        factor = strange_factor(seen, ODD, EMISSION, rng, generator)
        pixels = replace(pixels, flux=pixels.flux * factor.repeat(2, 1))
    both = tokenise(pixels)  # tokens at the same places
    tokens, target = (rows_of(both, torch.arange(k * count, (k + 1) * count)) for k in (0, 1))
    each = torch.arange(count)
    fit = encoder.first_fit([tokens], each, each)
    if fit is None:
        raise InputError(
            "twins",
            expected="a model that starts from a fit of the full spectrum",
            found="one without",
            fix="Name unified-v1, or what was made from it, in transfer.start.",
        )
    covers = (one.coverage * one.valid[..., None] for one in (tokens, target))
    variance = node_noise(target) ** 2
    weight = torch.minimum(*covers)
    variance = variance.expand_as(weight)
    return Twinned(tokens, fit, entry, target.content, variance, weight)


class TwinTask:
    """Labels and flux of deeper spectra, for `spectrolabe.training.loop.learn`.

    Parameters
    ----------
    config : TrainConfig
        With ``twins``.
    store : Store
    pairs : sequence of Pair
        P of them.
    labels : ndarray, shape (P, L)
        Scaled, of the star of each visit; NaN where not known.
    start : Start
    teacher : Encoder, optional
        What it says of the deeper spectrum is the label of stars that have none.
    """

    selects = False

    def __init__(
        self,
        config: TrainConfig,
        store: Store,
        pairs: Sequence[Pair],
        labels: NDArray,
        start: Start,
        teacher: Encoder | None = None,
    ) -> None:
        torch.manual_seed(config.training.seed)
        assert config.twins is not None
        self.config, self.twins = config, config.twins
        self.store, self.pairs = store, list(pairs)
        encoder = encoder_from(start, config.encoder)
        self.model: nn.Module = Twins(encoder, self.twins.channels)
        self.scale: LabelScale = start.estimator.scale
        if encoder.guesser is not None:
            encoder.guesser.requires_grad_(False)
        self.known = torch.from_numpy(labels).float()
        self.teacher = None if teacher is None else teacher.eval()
        self.kept: dict[int, list[tuple[Twinned, Tensor]]] = {}
        versions = config.augmentation.versions
        self.strange = round(self.twins.strange * len(self.pairs)) if self.twins.flux else 0
        self.spectra = len(self.pairs) + self.strange
        if not 1 <= versions <= MOST_KEPT // max(1, self.spectra):
            raise InputError(
                "augmentation.versions",
                expected=f"1 to {MOST_KEPT // max(1, self.spectra)} for {self.spectra:,}"
                " visits, strange copies among them: all are kept",
                found=str(versions),
            )
        self.steps = math.ceil(self.spectra / config.training.batch_size)

    def losses(self, run: Run, rng: np.random.Generator) -> Iterator[Tensor]:
        """Yield the loss of each batch of pairs."""
        twins = self.twins
        for batch, target in self.version(run.epoch, rng):
            star = torch.arange(len(batch.entry))
            output, flux = run.model(batch.tokens, star, batch.fit)
            loss = output.mean.sum() * 0.0
            if twins.labels and torch.isfinite(target).any():
                head = cast(Twins, self.model).encoder.head
                loss = loss + twins.labels * head.loss(output, target)
            if twins.flux:
                (found,) = flux  # visits of a batch are of one resolution
                loss = loss + twins.flux * flux_loss(
                    found, batch.content, batch.variance, batch.weight
                )
            yield loss

    def score(self, model: nn.Module) -> tuple[float, dict[str, Any]]:
        """There are no stars to select by."""
        return math.inf, {}

    def version(self, epoch: int, rng: np.random.Generator) -> Iterator[tuple[Twinned, Tensor]]:
        """Yield the batches of an epoch, and the labels to learn from them; made once and kept."""
        version = epoch % self.config.augmentation.versions
        if version not in self.kept:
            own = np.random.default_rng([self.config.training.seed, version, 2**31])
            every = np.arange(len(self.pairs))
            copied = own.permutation(len(self.pairs))[: self.strange]
            self.kept[version] = [
                self.made(entry, own, strange=strange)
                for numbers, strange in ((every, False), (copied, True))
                for entry in _of_one_length(self.store, self.pairs, numbers, self.size, own)
            ]
        for i in rng.permutation(len(self.kept[version])):
            yield self.kept[version][i]

    @property
    def size(self) -> int:
        """Visits of a batch."""
        return self.config.training.batch_size

    def made(
        self, entry: NDArray, rng: np.random.Generator, *, strange: bool = False
    ) -> tuple[Twinned, Tensor]:
        """Return a batch of pairs and the scaled labels to learn from it: of strange ones, none."""
        rows = [self._rows(self.pairs[i], rng) for i in entry]
        visits, deep = zip(*rows, strict=True)
        encoder = cast(Twins, self.model).encoder
        batch = twinned(encoder, visits, deep, entry, rng, strange=strange)
        target = self.known[torch.from_numpy(entry)]
        if strange:
            return batch, torch.full_like(target, torch.nan)
        if self.teacher is not None:
            said = encode(self.teacher, collate([[row] for row in deep]))[0]
            target = torch.where(torch.isfinite(target), target, torch.from_numpy(said).float())
        return batch, target

    def _rows(self, pair: Pair, rng: np.random.Generator) -> tuple[PixelRow, PixelRow]:
        """A visit and its twin, varied."""
        twins = self.twins
        if not pair.others or rng.random() < twins.injected:
            factor = math.exp(rng.uniform(math.log(LEAST_SPLIT), math.log(MOST_SPLIT)))
            return split_noise(row_of(self.store[pair.visit]), factor, rng)
        others = (pair.visit, *pair.others) if twins.left_in else pair.others
        visit, deep = deeper(self.store, Pair(pair.visit, others))
        row = row_of(visit)
        if not twins.left_in:
            row = noisier(row, rng.uniform(0.0, twins.noise) if rng.random() < 0.5 else 0.0, rng)
        return row, row_of(deep)


def _of_one_length(
    store: Store, pairs: Sequence[Pair], numbers: NDArray, size: int, rng: np.random.Generator
) -> Iterator[NDArray]:
    """Some pairs in batches: spectra of one number of pixels and one resolution in each."""
    kinds: dict[tuple[int, int], list[int]] = {}
    for number in numbers.tolist():
        wavelength, _, _, resolution = store.arrays(pairs[number].visit)
        level = int(ladder_level(torch.tensor(np.median(resolution))))
        kinds.setdefault((round(math.log2(len(wavelength))), level), []).append(number)
    for alike in kinds.values():
        order = rng.permutation(alike)
        for begin in range(0, len(order), size):
            yield np.sort(order[begin : begin + size])
