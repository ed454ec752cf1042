"""Local straight lines: what a continuum takes of anything on the nodes of tokens."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from spectrolabe.models.tokens import CONTINUUM_WIDTH, NODES, RIDGE, ladder_level, token_width

__all__ = ["Local", "continuum_width", "token_places"]

SHARP, NARROW = 5000.0, 0.004  # R above which the continuum is free on this scale


def continuum_width(resolution: float) -> float:
    """Return the scale on which the continuum of a spectrum is free, in ln(wavelength)."""
    return NARROW if resolution > SHARP else CONTINUUM_WIDTH


def token_places(device: torch.device) -> Tensor:
    """Return where nodes are in their token, about its middle and in units of its width."""
    return (torch.arange(NODES, device=device) + 0.5) / NODES - 0.5


class Local:
    """Straight lines through values about each token, as `spectrolabe.models.tokens` fits them.

    Parameters
    ----------
    places : Tensor, shape (P, 2)
        Of one level.
    wide : float
        Sigma of the weights in ln(wavelength).
    cover : Tensor, shape (P, E, NODES)
        Weights.
    """

    def __init__(self, places: Tensor, wide: float, cover: Tensor) -> None:
        width = token_width(ladder_level(places[:, 1].double().exp()))
        number = places[:, 0].double() / width
        sigma = (wide / width)[:, None]
        distance = number[None, :] - number[:, None]
        near = torch.exp(-0.5 * (distance / sigma) ** 2)
        self.kernels = [(near * distance**k).float() for k in range(3)]
        place = token_places(cover.device)
        self.powers = torch.stack([place**k for k in range(3)], dim=1)
        self.cover, self.sigma = cover, sigma.float()

    @cached_property
    def sums(self) -> tuple[Tensor, Tensor, Tensor]:
        """Moments of the weights, each (P, E)."""
        return self._moments(self.cover)

    def fitted(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return value and tilt of the lines through values, (P, E, NODES), each (P, E)."""
        return self._solved(values * self.cover, self.sums)

    def line(self, values: Tensor) -> Tensor:
        """Return the lines through values, (P, E, NODES), at the nodes."""
        return self._line(values * self.cover, self.sums)

    def ratio(self, above: Tensor, below: Tensor) -> Tensor:
        """Return the lines through the ratio of two sums, between a half and two."""
        return self._line(above, self._moments(below)).clamp(0.5, 2.0)

    def _moments(self, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        k0, k1, k2 = self.kernels
        w0, w1, w2 = (weight @ self.powers).unbind(dim=2)
        s0 = k0 @ w0
        s2 = k2 @ w0 + 2.0 * (k1 @ w1) + k0 @ w2
        return s0, k1 @ w0 + k0 @ w1, s2 + RIDGE * s0 * self.sigma**2

    def _solved(
        self, weighted: Tensor, sums: tuple[Tensor, Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        k0, k1, _ = self.kernels
        v0, v1 = (weighted @ self.powers[:, :2]).unbind(dim=2)
        t0, t1 = k0 @ v0, k1 @ v0 + k0 @ v1
        s0, s1, s2 = sums
        determinant = (s0 * s2 - s1**2).clamp(min=1e-12)
        return (t0 * s2 - t1 * s1) / determinant, (t1 * s0 - t0 * s1) / determinant

    def _line(self, weighted: Tensor, sums: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        level, tilt = self._solved(weighted, sums)
        return level[..., None] + tilt[..., None] * self.powers[:, 1]
