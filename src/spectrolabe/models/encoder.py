"""The encoder: one Transformer from the tokens of any spectra to the labels of a star.

Token embeddings are modulated by their wavelength, so that the same flux pattern means different
things at Hα and at Mg b. A few learned latent queries then attend to the tokens (cost linear in
pixels) and to each other (cheap), and a head reads labels from them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spectrolabe.config import EncoderConfig
from spectrolabe.models.heads import CorrelatedHead, HeadOutput
from spectrolabe.models.tokens import NODES, Tokens

__all__ = ["Encoder"]

FREQUENCIES = 32
SHORTEST, LONGEST = 0.012, 2.0  # periods of the wavelength encoding in ln(wavelength)
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

    def forward(
        self, x: Tensor, tokens: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """Return the update to be added to x, shape (S, Q, D).

        Parameters
        ----------
        x : Tensor, shape (S, Q, D)
        tokens : Tensor, shape (S, T, D), optional
            What is attended to, normalised; x itself when not given.
        mask : Tensor, shape (S, T), bool, optional
            Tokens that may be attended to.
        """
        x = self.norm(x)
        source = x if tokens is None else tokens
        q, k, v = (
            self._split(self.query(x)),
            self._split(self.key(source)),
            self._split(self.value(source)),
        )
        mixed = F.scaled_dot_product_attention(
            q, k, v, attn_mask=None if mask is None else mask[:, None, None, :]
        )
        return self.out(mixed.transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        """(S, Q, D) -> (S, heads, Q, D / heads)."""
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)


class Encoder(nn.Module):
    """Tokens of one or more spectra of each star to a distribution over its labels.

    Parameters
    ----------
    config : EncoderConfig
    labels : int
        Number of labels L.
    """

    frequency: Tensor

    def __init__(self, config: EncoderConfig, labels: int) -> None:
        super().__init__()
        width = config.width
        frequency = torch.logspace(-math.log10(LONGEST), -math.log10(SHORTEST), FREQUENCIES)
        self.register_buffer("frequency", 2.0 * math.pi * frequency, persistent=False)
        self.content = nn.Linear(NODES, width)
        self.quality = nn.Linear(4, width)
        self.place = nn.Sequential(
            nn.Linear(2 * FREQUENCIES + 1, 2 * width), nn.GELU(), nn.Linear(2 * width, 2 * width)
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
        self.head = CorrelatedHead(config.latents * width, 2 * width, labels, config.dropout)

    def forward(self, tokens: Tokens, star: Tensor, keep: Tensor | None = None) -> HeadOutput:
        """Return the distribution of the labels of each star.

        Parameters
        ----------
        tokens : Tokens
            Of B spectra.
        star : Tensor, shape (B,), int64
            Index of the star of each spectrum: ascending, from 0, without gaps.
        keep : Tensor, shape (B, T), bool, optional
            Tokens that may be used; for hiding some in training.
        """
        valid = tokens.valid if keep is None else tokens.valid & keep
        embedded, valid = _by_star(self._embed(tokens), valid, star)
        # a star without a single good pixel still needs something to attend to
        valid = valid.clone()
        valid[:, 0] |= ~valid.any(dim=1)
        embedded = self.token_norm(embedded)
        x = self.latents.expand(len(embedded), -1, -1)
        for cross, own, feed in zip(self.cross, self.own, self.feed, strict=True):
            x = x + cross(x, embedded, valid)
            x = x + own(x)
            x = x + feed(x)
        return self.head(self.norm(x).flatten(1))

    def _embed(self, tokens: Tokens) -> Tensor:
        """Embeddings of the tokens, (B, T, D)."""
        gain, offset = self._wavelength_table(tokens)
        parts = (
            tokens.log_snr - 4.0,
            tokens.coverage.mean(dim=-1) - 1.0,
            tokens.level,
            tokens.log_resolution,
        )
        quality = torch.stack(parts, dim=-1)
        content = self.content(CONTENT_GAIN * tokens.content)
        x = torch.addcmul(offset + self.quality(quality), content, gain)
        for layer in self.token_layers:
            x = x + layer(x)
        return x

    def _wavelength_table(self, tokens: Tokens) -> tuple[Tensor, Tensor]:
        """Gain and offset of every token, (B, T, D); computed once per distinct wavelength."""
        wavelength, resolution = tokens.places[:, :1], tokens.places[:, 1:]
        phase = wavelength * self.frequency
        table = self.place(torch.cat([phase.sin(), phase.cos(), resolution - 8.0], dim=1))
        gain, offset = table.chunk(2, dim=1)
        return F.embedding(tokens.place, 1.0 + gain), F.embedding(tokens.place, offset)


def _by_star(x: Tensor, valid: Tensor, star: Tensor) -> tuple[Tensor, Tensor]:
    """Join the tokens of the spectra of each star: (B, T, D) -> (S, n T, D), and the mask."""
    counts = torch.bincount(star)
    most = int(counts.max())
    if most == 1:
        return x, valid
    first = torch.cumsum(counts, 0) - counts
    slot = torch.arange(len(star), device=star.device) - first[star]
    joined = x.new_zeros(len(counts), most, *x.shape[1:])
    mask = valid.new_zeros(len(counts), most, valid.shape[1])
    joined[star, slot], mask[star, slot] = x, valid
    return joined.flatten(1, 2), mask.flatten(1, 2)
