"""The spectrum of a star without the noise of its exposure, from what an encoder has read.

The first fit says what the star should look like. What is left is a line between nodes: noise, and
whatever this star has that the fit does not know. A small network decides node by node how much of
it to keep, from what is around it, from where it is, and from what the whole spectrum says.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spectrolabe.errors import InputError
from spectrolabe.models.encoder import Attention, FeedForward, Reading, rows_of
from spectrolabe.models.tokens import NODE_STEP, NODES, Tokens

__all__ = ["FluxDecoder", "NodeFlux", "flux_loss", "node_noise"]

TAPS = 7  # nodes that a kept residual is a weighted sum of
OWN = 4  # numbers of each node that depend on its wavelength
OF_TOKEN = 8  # of its token
SOFT = 5.0  # residuals over noise are read as they are up to here
LINE_GAIN = 5.0
FIRST_SIGMA = -1.5  # logarithm of the error over the noise, before anything is learnt
DEGREES = 4.0  # of the Student t: a few pixels are wrong whatever their ivar says
NARROWER = 0.69  # its squared scale, where errors are normal and their variance is 1


class NodeFlux(NamedTuple):
    """Content of the nodes of the spectra of one part of a batch.

    Parameters
    ----------
    content, sigma : Tensor, shape (E', T, NODES)
        Without noise, and its standard deviation.
    """

    content: Tensor
    sigma: Tensor


def node_noise(tokens: Tokens) -> Tensor:
    """Return the standard deviation of the noise of nodes, (B, T, 1), the same in a token."""
    cover = tokens.coverage.mean(dim=2)
    snr = torch.expm1(tokens.log_snr)
    variance = cover.clamp(min=1e-3) / (NODE_STEP * snr**2).clamp(min=1e-6)
    return variance.sqrt()[..., None].clamp(max=1.0)


class FluxDecoder(nn.Module):
    """Tokens and latents of stars to the content that their spectra would have without noise.

    Parameters
    ----------
    width, heads : int
        Of the encoder.
    channels : int
        Of the network along the nodes.
    """

    def __init__(self, width: int, heads: int, channels: int = 24) -> None:
        super().__init__()
        self.ask = Attention(width, heads)
        self.norm = nn.LayerNorm(width)
        self.feed = FeedForward(width, 2, 0.0)
        self.own = nn.Linear(width, NODES * OWN + OF_TOKEN)
        inputs = 5 + OWN + OF_TOKEN
        self.first = nn.Conv1d(inputs, channels, 7, padding=3)
        self.second = nn.Conv1d(channels, channels, 7, padding=6, dilation=2)
        self.third = nn.Conv1d(channels, channels, 1)
        self.out = nn.Linear(channels, TAPS + 2)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        nn.init.constant_(self.out.bias[-1:], FIRST_SIGMA)

    def forward(self, reading: Reading, parts: Sequence[Tokens]) -> list[NodeFlux]:
        """Return the content of the spectra, of each entry of ``reading.guess.tokens``.

        Raises
        ------
        InputError
            If the encoder does not start from a fit.
        """
        if reading.guess is None:
            raise InputError(
                "denoiser",
                expected="a model that starts from a fit of the full spectrum",
                found="one without",
                fix="Take unified-v1, or one that was made from it.",
            )
        found = []
        for view, embedded in zip(reading.guess.tokens, reading.embedded, strict=True):
            tokens = rows_of(parts[view.part], view.spectrum)
            latents = reading.latents[reading.star[view.entry]]
            x = embedded + self._asked(embedded, latents)
            x = self.own(x + self.feed(x))
            found.append(self._along(tokens, view.model, view.trust, x))
        return found

    def _asked(self, tokens: Tensor, latents: Tensor) -> Tensor:
        """What each token learns from the latents of its star, (E', T, D)."""
        ask = self.ask
        q = ask.split(ask.query(ask.norm(tokens)))
        latents = self.norm(latents)
        k, v = ask.split(ask.key(latents)), ask.split(ask.value(latents))
        mixed = F.scaled_dot_product_attention(q, k, v)
        return ask.out(mixed.transpose(1, 2).flatten(2))

    def _along(self, tokens: Tokens, model: Tensor, trust: Tensor, own: Tensor) -> NodeFlux:
        """Decide along the nodes."""
        noise = node_noise(tokens)
        cover = tokens.coverage * tokens.valid[..., None]
        left = (tokens.content - model) * (cover > 0)
        z = left / noise
        soft = z / (1.0 + (z / SOFT) ** 2).sqrt()
        each = [
            soft,
            LINE_GAIN * model,
            cover - 1.0,
            (noise.log() + 4.0).expand_as(cover),
            trust[..., None].log().expand_as(cover),
        ]
        nodes = own[..., : NODES * OWN].unflatten(2, (NODES, OWN))
        whole = own[..., None, NODES * OWN :].expand(-1, -1, NODES, -1)
        x = torch.cat([torch.stack(each, dim=3), nodes, whole], dim=3).flatten(1, 2).transpose(1, 2)
        x = F.gelu(self.first(x))
        x = x + F.gelu(self.second(x))
        x = x + F.gelu(self.third(x))
        said = self.out(x.transpose(1, 2))
        weight, more, log_sigma = said[..., :TAPS], said[..., TAPS], said[..., TAPS + 1]
        beside = F.pad(left.flatten(1), (TAPS // 2, TAPS // 2)).unfold(1, TAPS, 1)
        kept = (weight * beside).sum(dim=2).unflatten(1, model.shape[1:])
        more = noise * more.unflatten(1, model.shape[1:])
        sigma = noise * log_sigma.unflatten(1, model.shape[1:]).clamp(-6.0, 3.0).exp()
        return NodeFlux(model + kept + more, sigma)


def flux_loss(found: NodeFlux, target: Tensor, variance: Tensor, weight: Tensor) -> Tensor:
    """Return the mean negative log-likelihood of a deeper spectrum, in units of nodes.

    A Student t about the content, whose width is what the model states and the noise of the target
    together: noisy targets teach what they can, and no more. Where errors are normal, the loss is
    least at their true variance.

    Parameters
    ----------
    found : NodeFlux
    target, variance, weight : Tensor, shape (E', T, NODES)
        Content of the deeper spectrum, variance of its noise, and what each node counts.
    """
    total = found.sigma**2 + variance
    z2 = (target - found.content) ** 2 / (NARROWER * total)
    loss = 0.5 * total.log() + 0.5 * (DEGREES + 1.0) * torch.log1p(z2 / DEGREES)
    return (loss * weight).sum() / weight.sum().clamp(min=1.0)
