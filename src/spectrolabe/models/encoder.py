"""The encoder: one Transformer from the tokens of any spectra to the labels of a star.

Token embeddings are modulated by their wavelength, so that the same flux pattern means different
things at Hα and at Mg b. A few learned latent queries then attend to the tokens (cost linear in
pixels) and to each other (cheap), and a head reads labels from them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spectrolabe.config import EncoderConfig
from spectrolabe.models.compact import CompactSpectra
from spectrolabe.models.first_fit import FirstFit, TokenView
from spectrolabe.models.guess import Guess, Guesser, token_pull, token_residual
from spectrolabe.models.heads import HeadOutput, make_head
from spectrolabe.models.tokens import NODES, Tokens

__all__ = ["Attention", "Encoder", "FeedForward", "Reading", "rows_of"]

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
        q, k, v = (self.split(part) for part in (self.query(x), key, value))
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.out(mixed.transpose(1, 2).flatten(2))

    def split(self, x: Tensor) -> Tensor:
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


class Reading(NamedTuple):
    """What an encoder has read of S stars.

    Parameters
    ----------
    latents : Tensor, shape (S, Q, D)
        Of each star.
    embedded : list of Tensor, each of shape (E', T, D)
        Of tokens: of each part, or of each entry of ``guess.tokens``.
    valid : list of Tensor, each of shape (B', T')
        Tokens of the parts that may be used.
    star : Tensor, shape (E,)
    guess : Guess, optional
        By a first fit.
    """

    latents: Tensor
    embedded: list[Tensor]
    valid: list[Tensor]
    star: Tensor
    guess: Guess | None = None


class Encoder(nn.Module):
    """Tokens of one or more spectra of each star to a distribution over its labels.

    Parameters
    ----------
    config : EncoderConfig
    labels : int
        Number of labels L.
    compact : CompactSpectra, optional
        Of the size that ``config.compact`` says; empty, for weights to fill, when not given.
    """

    frequency: Tensor

    def __init__(
        self, config: EncoderConfig, labels: int, compact: CompactSpectra | None = None
    ) -> None:
        super().__init__()
        width, self.heads = config.width, config.heads
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
        if config.compact is not None and compact is None:
            compact = CompactSpectra.empty(config.compact)
        self.guesser = None if compact is None else Guesser(compact, labels)
        numbers = 0
        if self.guesser is not None:
            numbers = self.guesser.size
            self.physics = nn.Linear(self.guesser.pulls, width)
            self.aim = nn.Sequential(
                nn.Linear(numbers, 2 * width),
                nn.GELU(),
                nn.Linear(2 * width, config.latents * width),
            )
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
        if self.guesser is not None:  # a new head agrees with the fit
            nn.init.zeros_(self.head.out.weight)
            nn.init.zeros_(self.head.out.bias)

    def forward(
        self,
        tokens: Tokens | Sequence[Tokens],
        star: Tensor,
        keep: Tensor | None = None,
        *,
        spectrum: Tensor | None = None,
        fit: FirstFit | None = None,
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
        fit : FirstFit, optional
            Of these spectra, by `first_fit`, if it was made before.
        """
        return self.told(self.read(tokens, star, keep, spectrum=spectrum, fit=fit))

    def read(
        self,
        tokens: Tokens | Sequence[Tokens],
        star: Tensor,
        keep: Tensor | None = None,
        *,
        spectrum: Tensor | None = None,
        fit: FirstFit | None = None,
    ) -> Reading:
        """Return what is known of each star before the head speaks; parameters as of `forward`."""
        parts = [tokens] if isinstance(tokens, Tokens) else list(tokens)
        valid = [part.valid for part in parts] if keep is None else [parts[0].valid & keep]
        if spectrum is None:
            spectrum = torch.arange(len(star), device=star.device)
        if self.guesser is None:
            seen = Seen.of(valid, star, spectrum)
            embedded = [self._embed(part, CONTENT_GAIN * part.content) for part in parts]
            latents = self.latents.expand(len(seen.index), -1, -1)
            return Reading(self._latents(embedded, seen, latents), embedded, valid, star)
        guess = self.guesser(self.guesser.fit(parts, star, spectrum) if fit is None else fit)
        views = guess.tokens
        seen = Seen.of([valid[v.part][v.spectrum] for v in views], star, _order(views))
        embedded = [
            self._embed(rows_of(parts[v.part], v.spectrum), token_residual(v), token_pull(v))
            for v in views
        ]
        latents = self.latents + self.aim(guess.numbers).unflatten(1, self.latents.shape)
        return Reading(self._latents(embedded, seen, latents), embedded, valid, star, guess)

    def told(self, reading: Reading) -> HeadOutput:
        """Return what the head says of what was read."""
        x, guess = reading.latents.flatten(1), reading.guess
        if guess is None:
            return self.head(x)
        output = self.head(torch.cat([x, guess.numbers], dim=1), guess.prior)
        return replace(output, doubt=_doubt(guess.tokens, reading.valid, reading.star))

    def first_fit(self, parts: Sequence[Tokens], star: Tensor, spectrum: Tensor) -> FirstFit | None:
        """Return the fit from which the encoder starts, if it makes one; see `forward`."""
        return None if self.guesser is None else self.guesser.fit(parts, star, spectrum)

    def _latents(self, embedded: Sequence[Tensor], seen: Seen, x: Tensor) -> Tensor:
        """What latents, (S, Q, D), become by the tokens of each star."""
        tokens = self.token_norm(torch.cat([part.flatten(0, 1) for part in embedded]))
        for cross, own, feed in zip(self.cross, self.own, self.feed, strict=True):
            x = x + cross(x, tokens, seen)
            x = x + own(x)
            x = x + feed(x)
        return self.norm(x)

    def _embed(self, tokens: Tokens, content: Tensor, physics: Tensor | None = None) -> Tensor:
        """Embeddings of the tokens, (B, T, D)."""
        gain, offset = self._wavelength_table(tokens.places)
        parts = (
            tokens.log_snr - 4.0,
            tokens.coverage.mean(dim=-1) - 1.0,
            tokens.level,
            tokens.log_resolution,
        )
        x = self.quality(torch.stack(parts, dim=-1)) + F.embedding(tokens.place, offset)
        read = self.content(content) * F.embedding(tokens.place, gain)
        x = x + read.unflatten(2, (-1, x.shape[2])).sum(dim=2)
        if physics is not None:
            x = x + self.physics(physics)
        for layer in self.token_layers:
            x = x + layer(x)
        return x

    def _wavelength_table(self, places: Tensor) -> tuple[Tensor, Tensor]:
        """Gains of the filters, (P, filters D), and what is added, (P, D), at P wavelengths."""
        wavelength, resolution = places[:, :1], places[:, 1:]
        phase = wavelength * self.frequency
        table = self.place(torch.cat([phase.sin(), phase.cos(), resolution - 8.0], dim=1))
        width = self.latents.shape[1]
        return 1.0 + table[:, :-width], table[:, -width:]


def rows_of(tokens: Tokens, spectrum: Tensor) -> Tokens:
    """The tokens of some of the spectra of a part."""
    rows = {
        field.name: getattr(tokens, field.name)[spectrum]
        for field in fields(tokens)
        if field.name != "places"
    }
    return Tokens(places=tokens.places, **rows)


def _order(views: Sequence[TokenView]) -> Tensor:
    """Where each entry is among the rows of all parts, one part after the other."""
    entry = torch.cat([view.entry for view in views])
    order = torch.empty_like(entry)
    order[entry] = torch.arange(len(entry), device=entry.device)
    return order


@torch.no_grad()
def _doubt(views: Sequence[TokenView], valid: Sequence[Tensor], star: Tensor) -> Tensor:
    """Minus the logarithm of the mean trust in the tokens of each star, (S, 1)."""
    trust, count = torch.zeros(2, int(star[-1]) + 1, device=star.device).unbind()
    for view in views:
        used, of = valid[view.part][view.spectrum], star[view.entry]
        trust.index_add_(0, of, (view.trust * used).sum(dim=1))
        count.index_add_(0, of, used.sum(dim=1).to(count))
    return -((trust + 1.0) / (count + 1.0)).log()[:, None]  # 0 where there is no token
