"""Layers of values and their slopes: axis 1 of rows holds the value of a star, then its slopes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["PerItem", "linear", "per_item", "silu", "with_bias"]


def silu(rows: Tensor) -> Tensor:
    """Return x sigmoid(x), and slopes of it."""
    value, slopes = rows[:, :1], rows[:, 1:]
    gate = torch.sigmoid(value)
    out = value * gate
    return torch.cat([out, slopes * (gate + out * (1.0 - gate))], dim=1)


def with_bias(rows: Tensor, bias: Tensor) -> Tensor:
    """Add a bias to the values, in place: of a product that nobody else holds."""
    rows[:, 0] += bias
    return rows


def linear(rows: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return rows through a linear layer; only values have its bias."""
    return with_bias(rows @ weight.T, bias)


def per_item(rows: Tensor, weight: Tensor) -> Tensor:
    """Return rows (N, T, I, A) by a matrix for each of I items, (I, A, B)."""
    product = torch.matmul(rows.flatten(0, 1).transpose(0, 1), weight).transpose(0, 1)
    return product.unflatten(0, rows.shape[:2])


class PerItem(nn.Module):
    """A linear layer of its own for each of I items: rows (N, T, I, A) to (N, T, I, B)."""

    def __init__(self, items: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(items, inputs, outputs) / inputs**0.5)
        self.bias = nn.Parameter(torch.zeros(items, outputs))

    def forward(self, rows: Tensor) -> Tensor:
        """Apply to each item, its value and slopes, its layer."""
        return with_bias(per_item(rows, self.weight), self.bias)
