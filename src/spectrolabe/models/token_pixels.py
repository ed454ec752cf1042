"""Tokens back to pixels: what the content of tokens is at the pixels that they were made of."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from spectrolabe.models.pixels import PixelBatch
from spectrolabe.models.projection import cubic_weights
from spectrolabe.models.tokens import (
    COVERAGE_FLOOR,
    NODES,
    Tokens,
    kernel_places,
    kernel_sums,
    ladder_level,
    token_width,
)

__all__ = ["NodeLine"]

PASSES = 6  # that bring the kernels of a spline to the content asked for
COVERED = 0.05  # coverage of a node that is asked
BLUR = (0.25, 0.5, 0.25)  # by which nodes without pixels follow their neighbours


class _Spline(NamedTuple):
    """Where each pixel is among the nodes of its spectrum, and cubic B-splines there."""

    nodes: Tensor
    weight: Tensor

    @classmethod
    def at(cls, node: Tensor, size: int) -> _Spline:
        left = node.floor()
        weight = torch.stack(cubic_weights((node - left).clamp(0.0, 1.0)), dim=2)
        nodes = left.long()[..., None] + torch.arange(-1, 3, device=node.device)
        return cls(nodes.clamp(0, size - 1), weight)

    def of(self, coefficients: Tensor) -> Tensor:
        """Values at the pixels, (B, M), of splines (B, N)."""
        rows = coefficients[:, None].expand(-1, self.nodes.shape[1], -1)
        return (rows.gather(2, self.nodes) * self.weight).sum(dim=2)


class NodeLine:
    """The nodes of B spectra on a line, and the pixels that their tokens were made of.

    Parameters
    ----------
    tokens : Tokens
        Of ``pixels``, by `spectrolabe.models.tokens.tokenise`.
    pixels : PixelBatch
    """

    def __init__(self, tokens: Tokens, pixels: PixelBatch) -> None:
        self.tokens, self.pixels = tokens, pixels
        width = token_width(ladder_level(pixels.resolution))
        first, self.local = kernel_places(pixels, width)
        self.width, self.count = width, int(self.local.max().item()) + 1
        # columns in which no spectrum has a token are not among the tokens
        number = torch.round(tokens.places[:, 0].double()[tokens.place] / width[:, None] - 0.5)
        column = (number - first[:, None]).long()
        inside = (column >= 0) & (column < self.count)
        self.column = torch.where(inside, column, self.count)  # one more, for what is not there
        self.spline = _Spline.at(self.local * NODES - 0.5, self.count * NODES)
        self.cover = kernel_sums(self.local, pixels, width, self.count)[1].flatten(1)

    def laid(self, values: Tensor) -> Tensor:
        """Put values of the nodes of tokens, (B, T, NODES), on the line, (B, N)."""
        out = values.new_zeros(len(values), self.count + 1, NODES)
        where = self.column[..., None].expand_as(values)
        return out.scatter(1, where, values)[:, :-1].flatten(1)

    def at_pixels(self, values: Tensor) -> Tensor:
        """Return values of nodes, (B, T, NODES), on smooth lines through them, (B, M)."""
        return self.spline.of(self._filled(self.laid(values)))

    def content_at_pixels(self, content: Tensor) -> Tensor:
        """Return the line whose means by the kernels of tokens are this content, (B, M).

        Tokens say what kernels see of pixels, which is blurred by them. A spline is mended until
        its kernels see what is asked for; after that, what a line has in its pixels is as sharp as
        the spectrum was.

        Parameters
        ----------
        content : Tensor, shape (B, T, NODES)
            As that of tokens.
        """
        asked = self.laid(content) * (self.cover + COVERAGE_FLOOR) / self.cover.clamp(min=COVERED)
        asked = self._filled(asked)
        line = asked
        for _ in range(PASSES):
            seen = replace(self.pixels, flux=self.spline.of(line))
            mean = kernel_sums(self.local, seen, self.width, self.count)[0].flatten(1)
            line = line + self._filled(asked - mean)
        return self.spline.of(line)

    def _filled(self, values: Tensor) -> Tensor:
        """The same where there are pixels; beside them, what is next to it."""
        known = (self.cover > COVERED).to(values)
        kernel = values.new_tensor(BLUR)[None, None]
        near = F.conv1d((values * known)[:, None], kernel, padding=1)[:, 0]
        share = F.conv1d(known[:, None], kernel, padding=1)[:, 0]
        return torch.where(known > 0, values, near / share.clamp(min=BLUR[0]))
