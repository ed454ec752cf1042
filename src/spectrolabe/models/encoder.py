"""The encoder: one Transformer from the tokens of any spectra to the labels of a star.

Token embeddings are modulated by their wavelength, so that the same flux pattern means different
things at Hα and at Mg b. A few learned latent queries then attend to the tokens (cost linear in
pixels) and to each other (cheap), and a head reads labels from them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spectrolabe.config import EncoderConfig
from spectrolabe.models.heads import CorrelatedHead, HeadOutput, make_head
from spectrolabe.models.templates import Step, Templates
from spectrolabe.models.tokens import NODES, Tokens

__all__ = ["Encoder"]

FREQUENCIES = 32
LONGEST = 2.0  # period of the wavelength encoding in ln(wavelength); the shortest is configured
CONTENT_GAIN = 5.0  # lines are a few tens of per cent deep: brings the content to order one


class FeedForward(nn.Module):
    """Pre-normalised two-layer perceptron."""

    def __init__(self, width: int, factor: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, factor * width)
        self.down = nn.Linear(factor * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return the update to be added to x, same shape."""
        return self.down(self.dropout(F.gelu(self.up(self.norm(x)))))


class Attention(nn.Module):
    """Multi-head attention of Q queries to tokens, or to themselves."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, tokens: Tensor | None = None, seen: Seen | None = None) -> Tensor:
        """Return the update to be added to x, shape (S, Q, D).

        Parameters
        ----------
        x : Tensor, shape (S, Q, D)
        tokens : Tensor, shape (K, D), optional
            What is attended to, normalised; x itself when not given.
        seen : Seen, optional
            Which of the tokens each of S stars has; with ``tokens``.
        """
        x = self.norm(x)
        if tokens is None or seen is None:
            key, value, mask = self.key(x), self.value(x), None
        else:
            key = F.embedding(seen.index, self.key(tokens))
            value = F.embedding(seen.index, self.value(tokens))
            mask = seen.mask[:, None, None, :]
        q, k, v = (self._split(part) for part in (self.query(x), key, value))
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.out(mixed.transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        """(S, Q, D) -> (S, heads, Q, D / heads)."""
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)


@dataclass
class Seen:
    """Which tokens each of S stars has.

    Parameters
    ----------
    index : Tensor, shape (S, L), int64
        Rows of the tokens of all spectra; anything where there are no more.
    mask : Tensor, shape (S, L), bool
        Where there are some, and they may be used.
    """

    index: Tensor
    mask: Tensor

    @classmethod
    def of(cls, valid: Sequence[Tensor], star: Tensor, spectrum: Tensor | None) -> Seen:
        """Return the tokens of the spectra of each star, one spectrum after the other.

        Parameters
        ----------
        valid : sequence of Tensor, each of shape (B', T')
            Tokens that may be used, of the parts that make B spectra.
        star, spectrum : Tensor, shape (E,)
            See `Encoder.forward`.
        """
        device = star.device
        size = torch.cat([torch.full((len(v),), v.shape[1], device=device) for v in valid])
        begin = size.cumsum(0) - size
        if spectrum is not None:
            size, begin = size[spectrum], begin[spectrum]
        before = size.cumsum(0) - size  # tokens of the spectra before
        total = torch.zeros(int(star[-1]) + 1, dtype=torch.long, device=device)
        total.index_add_(0, star, size)
        place = torch.arange(int(size.sum()), device=device) - before.repeat_interleave(size)
        row = begin.repeat_interleave(size) + place
        of_star = star.repeat_interleave(size)
        slot = torch.arange(len(row), device=device) - (total.cumsum(0) - total)[of_star]
        index = torch.zeros(len(total), int(total.max()), dtype=torch.long, device=device)
        mask = torch.zeros_like(index, dtype=torch.bool)
        index[of_star, slot] = row
        mask[of_star, slot] = torch.cat([v.flatten() for v in valid])[row]
        # a star without a single good pixel still needs something to attend to
        mask[:, 0] |= ~mask.any(dim=1)
        return cls(index, mask)


class Guess(NamedTuple):
    """What templates alone say.

    Parameters
    ----------
    tokens : list of Tensor, each of shape (B', T', 2 L)
        Estimate and information of every token.
    numbers : Tensor, shape (S, G)
        All steps of each star, and their mean.
    labels : Tensor, shape (S, L)
        That mean, scaled.
    """

    tokens: list[Tensor]
    numbers: Tensor
    labels: Tensor


class Encoder(nn.Module):
    """Tokens of one or more spectra of each star to a distribution over its labels.

    Parameters
    ----------
    config : EncoderConfig
    labels : int
        Number of labels L.
    templates : Templates, optional
        As many as ``config.templates`` says; empty, for weights to fill, when not given.
    """

    frequency: Tensor

    def __init__(
        self, config: EncoderConfig, labels: int, templates: Templates | None = None
    ) -> None:
        super().__init__()
        width = config.width
        shortest, filters = config.shortest_period, config.filters
        frequency = torch.logspace(-math.log10(LONGEST), -math.log10(shortest), FREQUENCIES)
        self.register_buffer("frequency", 2.0 * math.pi * frequency, persistent=False)
        self.content = nn.Linear(NODES, filters * width)
        self.quality = nn.Linear(4, width)
        self.place = nn.Sequential(
            nn.Linear(2 * FREQUENCIES + 1, 2 * width),
            nn.GELU(),
            nn.Linear(2 * width, (filters + 1) * width),
        )
        stars, told = config.templates
        if stars and templates is None:
            templates = Templates.empty(stars, told)
        self.templates, numbers = templates, 0
        if templates is not None:
            self.physics = nn.Linear(2 * told, width)
            numbers = 2 * told * (stars + 1) + stars
            self.aim = nn.Sequential(
                nn.Linear(numbers, 2 * width),
                nn.GELU(),
                nn.Linear(2 * width, config.latents * width),
            )
            # at first, what decides an atmosphere decides what is near
            importance = torch.full((told,), -4.0)
            importance[:3] = 0.5
            self.importance = nn.Parameter(importance)
            self.preference = nn.Parameter(torch.zeros(stars))
        self.token_layers = nn.ModuleList(
            FeedForward(width, 2, config.dropout) for _ in range(config.token_layers)
        )
        self.token_norm = nn.LayerNorm(width)
        self.latents = nn.Parameter(0.02 * torch.randn(config.latents, width))
        self.cross = nn.ModuleList(Attention(width, config.heads) for _ in range(config.blocks))
        self.own = nn.ModuleList(Attention(width, config.heads) for _ in range(config.blocks))
        self.feed = nn.ModuleList(
            FeedForward(width, 4, config.dropout) for _ in range(config.blocks)
        )
        self.norm = nn.LayerNorm(width)
        self.head = make_head(
            config.head,
            config.latents * width + numbers,
            2 * width,
            labels,
            config.dropout,
        )

    def forward(
        self,
        tokens: Tokens | Sequence[Tokens],
        star: Tensor,
        keep: Tensor | None = None,
        *,
        spectrum: Tensor | None = None,
    ) -> HeadOutput:
        """Return the distribution of the labels of each star.

        Parameters
        ----------
        tokens : Tokens or sequence of Tokens
            Of B spectra altogether; parts of similar length are embedded apart, to pad little.
        star : Tensor, shape (E,), int64
            Index of the star of each spectrum: ascending, from 0, without gaps.
        keep : Tensor, shape (B, T), bool, optional
            Tokens that may be used; for hiding some in training. Only for one part.
        spectrum : Tensor, shape (E,), int64, optional
            Which of the B spectra each entry of ``star`` is, so that one spectrum may be seen
            alone and together with others; each once, in order, when not given.
        """
        parts = [tokens] if isinstance(tokens, Tokens) else list(tokens)
        valid = [part.valid for part in parts] if keep is None else [parts[0].valid & keep]
        seen = Seen.of(valid, star, spectrum)
        guess = self._guess(parts, star, spectrum)
        embedded = [
            self._embed(part, None if guess is None else guess.tokens[i]).flatten(0, 1)
            for i, part in enumerate(parts)
        ]
        tokens_of_all = self.token_norm(torch.cat(embedded))
        x = self.latents.expand(len(seen.index), -1, -1)
        if guess is not None:
            x = x + self.aim(guess.numbers).unflatten(1, x.shape[1:])
        for cross, own, feed in zip(self.cross, self.own, self.feed, strict=True):
            x = x + cross(x, tokens_of_all, seen)
            x = x + own(x)
            x = x + feed(x)
        x = self.norm(x).flatten(1)
        if guess is None:
            return self.head(x)
        output = self.head(torch.cat([x, guess.numbers], dim=1))
        if isinstance(self.head, CorrelatedHead) and self.templates is not None:
            output.mean = output.mean.index_add(1, self.templates.told, guess.labels)
        return output

    def _guess(
        self, parts: Sequence[Tokens], star: Tensor, spectrum: Tensor | None
    ) -> Guess | None:
        """What the templates alone say: steps from the reference stars, nearer ones weighing more.

        A step is a straight line, and good for a star near to where it starts.
        """
        if self.templates is None:
            return None
        compared = [self.templates(part) for part in parts]
        own = self._nearness(self.templates.step(compared))
        features, begin = [], 0
        for part in compared:
            weight = own[begin : begin + len(part.score), None, :, None]
            begin += len(part.score)
            mixed = [(weight * x).sum(dim=2) for x in (part.estimate, part.information)]
            features.append(torch.cat(mixed, dim=2))
        step = self.templates.step(compared, star, spectrum)
        weight = self._nearness(step)[..., None]
        labels, log_sigma = (weight * step.labels).sum(dim=1), (weight * step.log_sigma).sum(dim=1)
        numbers = torch.cat([step.flat, labels, log_sigma, weight[..., 0]], dim=1)
        return Guess(features, numbers, labels)

    def _nearness(self, step: Step) -> Tensor:
        """Weights of K reference stars, shape (S, K): those that need smaller steps."""
        far = (step.change**2 * self.importance.exp()).sum(dim=2)
        return torch.softmax(self.preference - far, dim=1)

    def _embed(self, tokens: Tokens, physics: Tensor | None) -> Tensor:
        """Embeddings of the tokens, (B, T, D)."""
        filters, offset = self._wavelength_table(tokens.places)
        parts = (
            tokens.log_snr - 4.0,
            tokens.coverage.mean(dim=-1) - 1.0,
            tokens.level,
            tokens.log_resolution,
        )
        x = self.quality(torch.stack(parts, dim=-1)) + F.embedding(tokens.place, offset)
        x = x + _filtered(CONTENT_GAIN * tokens.content, tokens.place, filters)
        if physics is not None:
            x = x + self.physics(physics)
        for layer in self.token_layers:
            x = x + layer(x)
        return x

    def _wavelength_table(self, places: Tensor) -> tuple[Tensor, Tensor]:
        """What reads the pixels of a token at each of P wavelengths: (P, NODES, D) and (P, D)."""
        wavelength, resolution = places[:, :1], places[:, 1:]
        phase = wavelength * self.frequency
        table = self.place(torch.cat([phase.sin(), phase.cos(), resolution - 8.0], dim=1))
        width = self.latents.shape[1]
        gain = 1.0 + table[:, :-width].unflatten(1, (-1, width))  # (P, filters, D)
        weight = self.content.weight.unflatten(0, (-1, width))  # (filters, D, NODES)
        filters = torch.einsum("pfd,fdn->pnd", gain, weight)
        bias = self.content.bias.unflatten(0, (-1, width))
        return filters, table[:, -width:] + (gain * bias).sum(dim=1)


def _filtered(content: Tensor, place: Tensor, filters: Tensor) -> Tensor:
    """Content of tokens, (B, T, NODES), read by the filters of their places: (B, T, D)."""
    spectra = torch.arange(len(place), device=place.device)[:, None].expand_as(place)
    of_place = content.new_zeros(len(filters), len(place), content.shape[2])
    of_place[place, spectra] = content  # a spectrum has each place once
    return torch.bmm(of_place, filters)[place, spectra]
