"""Local polynomials: what a continuum takes of anything on the nodes of tokens."""

from __future__ import annotations

from functools import cached_property
from math import comb
from typing import NamedTuple

import torch
from torch import Tensor

from spectrolabe.models.tokens import CONTINUUM_WIDTH, NODES, RIDGE, ladder_level, token_width

__all__ = ["AS_TOKENS", "Freedom", "Local", "freedom", "token_places"]

SHARP = 5000.0  # R above which a continuum is free on a smaller scale
GAP = 0.002  # in ln(wavelength): wider ones, without pixels, are those where light jumps
LEAST = 1e-12  # sum of weights


class Freedom(NamedTuple):
    """How a continuum may bend.

    Parameters
    ----------
    width : float
        Sigma of the weights in ln(wavelength).
    degree : int
        Of the polynomials.
    jumps : bool
        Whether it may jump at wide gaps.
    """

    width: float
    degree: int
    jumps: bool = False


AS_TOKENS = Freedom(CONTINUUM_WIDTH, 1)  # as `spectrolabe.models.tokens` takes it off
NARROW = Freedom(0.006, 2, jumps=True)


def freedom(resolution: float) -> Freedom:
    """Return how free the continuum of a spectrum is."""
    return NARROW if resolution > SHARP else AS_TOKENS


def token_places(device: torch.device) -> Tensor:
    """Return where nodes are in their token, about its middle and in units of its width."""
    return (torch.arange(NODES, device=device) + 0.5) / NODES - 0.5


class _Group(NamedTuple):
    """Entries with the same gaps, and weights of tokens (P, P) times powers of their distance."""

    entries: Tensor
    kernels: list[Tensor]


class Local:
    """Polynomials through values about each token.

    Parameters
    ----------
    places : Tensor, shape (P, 2)
        Of one level.
    free : Freedom
    cover : Tensor, shape (P, E, NODES)
        Weights.
    """

    def __init__(self, places: Tensor, free: Freedom, cover: Tensor) -> None:
        width = token_width(ladder_level(places[:, 1].double().exp()))
        number = places[:, 0].double() / width
        self.cover, self.top = cover, 2 * free.degree
        self.scale = free.width / float(width[0])  # tokens
        distance = (number[None, :] - number[:, None]) / self.scale
        near = torch.exp(-0.5 * distance**2)
        whole = [(near * distance**k).float() for k in range(self.top + 1)]
        gap = GAP / float(width[0]) if free.jumps else torch.inf
        stretches, which = torch.unique(_stretches(number, cover, gap), dim=0, return_inverse=True)
        self.groups = []
        for i, stretch in enumerate(stretches):
            same = stretch[None, :] == stretch[:, None]
            kernels = whole if same.all() else [kernel * same for kernel in whole]
            self.groups.append(_Group((which == i).nonzero()[:, 0], kernels))
        place = token_places(cover.device) / self.scale
        self.powers = torch.stack([place**k for k in range(self.top + 1)], dim=1)

    @cached_property
    def sums(self) -> Tensor:
        """Moments of the weights."""
        return self._moments(self.cover, self.top)

    def fitted(self, values: Tensor) -> Tensor:
        """Return coefficients of the polynomials through values, (P, E', NODES).

        Of powers of the place in the token, (P, E', 1 + degree); E' may be any number if E is 1.
        """
        found = self._solved(values * self.cover, self.sums)
        return found / self.scale ** torch.arange(found.shape[-1], device=found.device)

    def line(self, values: Tensor) -> Tensor:
        """Return the polynomials through values, (P, E, NODES), at the nodes."""
        return self._drawn(self._solved(values * self.cover, self.sums))

    def ratio(self, above: Tensor, below: Tensor) -> Tensor:
        """Return the polynomials through the ratio of two sums, between a half and two."""
        found = self._solved(above, self._moments(below, self.top))
        return self._drawn(found).clamp(0.5, 2.0)

    def _drawn(self, coefficients: Tensor) -> Tensor:
        return coefficients @ self.powers[:, : coefficients.shape[-1]].T

    def _moments(self, weighted: Tensor, top: int) -> Tensor:
        """Sums of values times powers of their distance from each token, (P, E', 1 + top)."""
        own = weighted @ self.powers[:, : top + 1]
        out = torch.zeros_like(own)
        for entries, kernels in self.groups:
            rows = entries if len(self.groups) > 1 else slice(None)
            mine = own[:, rows]
            sums = torch.zeros_like(mine)
            for k, kernel in enumerate(kernels[: top + 1]):
                moved = torch.tensordot(kernel, mine[..., : top + 1 - k], dims=1)
                for j in range(top + 1 - k):
                    sums[..., k + j] += comb(k + j, k) * moved[..., j]
            out[:, rows] = sums
        return out

    def _solved(self, weighted: Tensor, sums: Tensor) -> Tensor:
        """Coefficients by least squares, a little drawn to constants."""
        size = self.top // 2 + 1
        right = list(self._moments(weighted, size - 1).unbind(dim=-1))
        rows = [[sums[..., i + j] for j in range(size)] for i in range(size)]
        for i in range(1, size):
            rows[i][i] = rows[i][i] + RIDGE * sums[..., 0]
        for i in range(size):  # by elimination: there are many, and each is small
            rows[i][i] = rows[i][i].clamp(min=LEAST)
            for j in range(i + 1, size):
                share = rows[j][i] / rows[i][i]
                rows[j] = [a - share * b for a, b in zip(rows[j], rows[i], strict=True)]
                right[j] = right[j] - share * right[i]
        found: list[Tensor] = []
        for i in reversed(range(size)):
            after = sum((rows[i][i + 1 + k] * x for k, x in enumerate(found)), start=0.0)
            found.insert(0, (right[i] - after) / rows[i][i])
        return torch.stack(found, dim=-1)


def _stretches(number: Tensor, cover: Tensor, gap: float) -> Tensor:
    """Number of the stretch without wide gaps that each token of an entry is in, (E, P).

    Gaps are from the last node that is covered to the next, wherever tokens begin.
    """
    order = number.argsort()
    there = (cover > 0).transpose(0, 1)[:, order]  # (E, P, NODES)
    place, some = number[order] - 0.5, there.any(dim=2)
    first = place + there.byte().argmax(dim=2) / NODES
    last = place + 1.0 - there.flip(2).byte().argmax(dim=2) / NODES
    end = torch.where(some, last, -torch.inf).cummax(dim=1).values
    before = torch.cat([torch.full_like(end[:, :1], -torch.inf), end[:, :-1]], dim=1)
    begins = some & torch.isfinite(before) & (first - before > gap)
    out = torch.empty_like(begins, dtype=torch.long)
    out[:, order] = begins.cumsum(dim=1)
    return out
