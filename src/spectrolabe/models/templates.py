"""Differential spectra as eyes: what each label does to the spectra of a few reference stars.

Near a reference star a label is a sum over pixels: of what the flux differs from that star, times
what the label changes there, over the noise. A token therefore comes with that sum for each label
and reference star, as the estimate that it alone allows, and with its information. Attention
weighs tokens by exponentials of what it reads, so that weights in proportion to the information,
which make the best estimate of all tokens together, are within its reach at once; and they hold
for any wavelength, resolution and noise, seen before or not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d
from torch import Tensor, nn

from spectrolabe.models.tokens import NODE_STEP, NODES, Tokens, ladder_level, ladder_resolution
from spectrolabe.spectra.broadening import FWHM

__all__ = ["FINEST", "Compared", "Step", "Templates"]

FINEST = 10  # level of the ladder on which templates are kept: R = 32 000
STRAIGHT = 0.01  # of the continuum: error of a spectrum that is a straight line in its labels
BLOCK = 512  # nodes that share a scale


class Compared(NamedTuple):
    """What templates say of B spectra.

    Parameters
    ----------
    estimate : Tensor, shape (B, T, K, L)
        Of every token, for each reference star and label: the change of the label that it alone
        asks for, drawn to 0 where there is little information.
    information : Tensor, shape (B, T, K, L)
        ln(1 + information).
    score : Tensor, shape (B, K, L)
        Sums over the pixels of a spectrum: residual times slope over variance.
    fisher : Tensor, shape (B, K, L, L)
        Slope times slope over variance.
    """

    estimate: Tensor
    information: Tensor
    score: Tensor
    fisher: Tensor


class Step(NamedTuple):
    """One Gauss-Newton step of S stars from each reference star, in units of the labels' scales.

    Parameters
    ----------
    change, log_sigma : Tensor, shape (S, K, L)
    labels : Tensor, shape (S, K, L)
        Where it leads to.
    """

    change: Tensor
    log_sigma: Tensor
    labels: Tensor

    @property
    def flat(self) -> Tensor:
        """All numbers, shape (S, 2 K L)."""
        return torch.cat([self.labels.flatten(1), self.log_sigma.flatten(1)], dim=1)


class Templates(nn.Module):
    """Spectra and differential spectra of K reference stars on the nodes of the finest level.

    Parameters
    ----------
    rows : Tensor, shape (N, K, 1 + L)
        The content of tokens of each star, and its change with each label, in units of the label's
        scale.
    origin : Tensor, shape (K, L)
        Scaled labels of the stars.
    told : Tensor, shape (L,), int64
        Where they are among the labels of a model.
    first : Tensor, shape (S,), int64
        Numbers of the first node of S stretches of wavelength.
    size : Tensor, shape (S,), int64
        Nodes of each.
    resolution : float
        R of the rows.
    """

    packed: Tensor
    scale: Tensor
    origin: Tensor
    told: Tensor
    first: Tensor
    size: Tensor
    resolution: Tensor

    def __init__(
        self,
        rows: Tensor,
        origin: Tensor,
        told: Tensor,
        first: Tensor,
        size: Tensor,
        resolution: float = 28000.0,
    ) -> None:
        super().__init__()
        scale = [b.abs().amax(dim=0).clamp(min=1e-12) / 127.0 for b in rows.split(BLOCK)]
        packed = [
            torch.round(b / s).to(torch.int8) for b, s in zip(rows.split(BLOCK), scale, strict=True)
        ]
        self.register_buffer("packed", torch.cat(packed))
        self.register_buffer("scale", torch.stack(scale))
        self.register_buffer("origin", origin)
        self.register_buffer("told", told)
        self.register_buffer("first", first)
        self.register_buffer("size", size)
        self.register_buffer("resolution", torch.tensor(float(resolution)))
        self._levels: dict[float, tuple[Tensor, Tensor, Tensor]] = {}

    @classmethod
    def empty(cls, stars: int, labels: int) -> Templates:
        """Return templates that wait for the weights of a model."""
        number = torch.zeros(1, dtype=torch.long)
        return cls(
            torch.zeros(1, stars, 1 + labels),
            torch.zeros(stars, labels),
            torch.zeros(labels, dtype=torch.long),
            number,
            number + 1,
        )

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Take buffers of any size."""
        for name in ("packed", "scale", "origin", "told", "first", "size"):
            if prefix + name in state:
                setattr(self, name, torch.empty_like(state[prefix + name]))
        self._levels = {}
        super()._load_from_state_dict(state, prefix, *rest)

    def forward(self, tokens: Tokens) -> Compared:
        """Compare the tokens of B spectra with the reference stars."""
        mean, slopes = self._at(tokens.places)
        flat = slopes.flatten(2)  # (P, NODES, K L)
        spectra = torch.arange(len(tokens.place), device=flat.device)[:, None]
        where = (tokens.place, spectra.expand_as(tokens.place))
        cover = flat.new_zeros(len(flat), len(tokens.place), NODES)
        content = torch.zeros_like(cover)
        cover[where] = tokens.coverage * tokens.valid[..., None]
        content[where] = tokens.content * tokens.coverage
        expected = (slopes * mean[..., None]).flatten(2)
        score = (torch.bmm(content, flat) - torch.bmm(cover, expected))[where]  # (B, T, K L)
        power = torch.bmm(cover, flat**2)[where]
        snr = torch.expm1(tokens.log_snr)
        precision = (snr**2 * NODE_STEP)[..., None]  # of a node
        information = precision * power
        estimate = (precision * score / (information + 1.0)).clamp(-5.0, 5.0)
        # beyond some S/N it is the straight lines that are wrong
        trusted = NODE_STEP / (snr.clamp(min=1e-3) ** -2 + STRAIGHT**2)
        total = (trusted[..., None] * score).sum(dim=1).unflatten(1, slopes.shape[2:])
        weight = flat.new_zeros(len(tokens.place), len(flat))
        weight[where[1], where[0]] = trusted * tokens.coverage.mean(dim=2) * tokens.valid
        product = torch.einsum("pnkl,pnkm->pklm", slopes, slopes).flatten(1)
        fisher = (weight @ product).unflatten(1, (*slopes.shape[2:], -1))
        shape = slopes.shape[2:]
        return Compared(
            estimate.unflatten(2, shape),
            torch.log1p(information).unflatten(2, shape),
            total,
            fisher,
        )

    def step(
        self,
        parts: Sequence[Compared],
        star: Tensor | None = None,
        spectrum: Tensor | None = None,
    ) -> Step:
        """Return the step of each star from all of its spectra, with a prior as wide as the scales.

        Parameters
        ----------
        parts : sequence of Compared
        star, spectrum : Tensor, shape (E,), optional
            See `Encoder.forward`; every spectrum for itself when not given.
        """
        score = torch.cat([part.score for part in parts])
        fisher = torch.cat([part.fisher for part in parts])
        if spectrum is not None:
            score, fisher = score[spectrum], fisher[spectrum]
        if star is not None:
            stars = int(star[-1]) + 1
            score = score.new_zeros(stars, *score.shape[1:]).index_add_(0, star, score)
            fisher = fisher.new_zeros(stars, *fisher.shape[1:]).index_add_(0, star, fisher)
        precision = fisher + torch.eye(fisher.shape[-1], device=fisher.device)
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(precision.double()))
        # the prior is about the middle of all stars, and so is -origin from a reference star
        pull = score.double() - self.origin
        change = (inverse @ pull[..., None])[..., 0].clamp(-6.0, 6.0).float()
        sigma = torch.diagonal(inverse, dim1=-2, dim2=-1).log().float()
        return Step(change, 0.5 * sigma, change + self.origin)

    def _at(self, places: Tensor) -> tuple[Tensor, Tensor]:
        """Reference spectra, (P, NODES, K), and slopes, (P, NODES, K, L), of P places."""
        found = self.scale.new_zeros(len(places), NODES, *self.packed.shape[1:])
        levels = ladder_level(places[:, 1].double().exp())
        for level in torch.unique(levels):
            here = levels == level
            step = NODE_STEP / ladder_resolution(level)
            number = torch.round(places[here, 0].double() / step / NODES - 0.5).long() * NODES
            node = number[:, None] + torch.arange(NODES, device=places.device)
            table, first, size = self._level(float(level))
            found[here] = table[_rows(node, first, size)]
        return found[..., 0], found[..., 1:]

    def _level(self, level: float) -> tuple[Tensor, Tensor, Tensor]:
        """Rows on the nodes of a level, the last of them 0, first nodes and sizes."""
        if level not in self._levels:
            self._levels[level] = self._made(level)
        return self._levels[level]

    def _made(self, level: float) -> tuple[Tensor, Tensor, Tensor]:
        device = self.packed.device
        scale = self.scale.repeat_interleave(BLOCK, dim=0)[: len(self.packed)]
        rows = (self.packed * scale).cpu().double().numpy()
        finest = NODE_STEP / float(ladder_resolution(torch.tensor(FINEST)))
        power = float(ladder_resolution(torch.tensor(level)))
        step = NODE_STEP / power
        variance = max(0.0, power**-2 - float(self.resolution) ** -2) / FWHM**2
        tables, firsts = [], []
        begin = 0
        for first, size in zip(self.first.tolist(), self.size.tolist(), strict=True):
            stretch = rows[begin : begin + size]
            begin += size
            if variance > 0:
                stretch = gaussian_filter1d(stretch, np.sqrt(variance) / finest, axis=0)
            x = (first + 0.5 + np.arange(size)) * finest
            low, high = int(np.ceil(x[0] / step)), int(x[-1] / step)
            node = (np.arange(low, high) + 0.5) * step
            at = (node - x[0]) / finest
            left = np.clip(at.astype(int), 0, size - 2)
            share = np.clip(at - left, 0.0, 1.0)[:, None, None]
            tables.append((1 - share) * stretch[left] + share * stretch[left + 1])
            firsts.append(low)
        sizes = [len(table) for table in tables]
        nothing = np.zeros((1, *rows.shape[1:]))
        table = torch.from_numpy(np.concatenate([*tables, nothing]).astype(np.float32))
        return table.to(device), torch.tensor(firsts).to(device), torch.tensor(sizes).to(device)


def _rows(node: Tensor, first: Tensor, size: Tensor) -> Tensor:
    """Rows of nodes by their number; the last row for those that there are not."""
    last = int(size.sum())
    row = torch.full_like(node, last)
    begin = 0
    for start, count in zip(first.tolist(), size.tolist(), strict=True):
        inside = (node >= start) & (node < start + count)
        row = torch.where(inside, node - start + begin, row)
        begin += count
    return row
