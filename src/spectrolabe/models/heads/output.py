"""What every head gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

__all__ = ["HeadOutput", "Prior"]


class Prior(NamedTuple):
    """What is known of S stars before a head speaks, which then says what it thinks otherwise.

    Parameters
    ----------
    mean, log_sigma : Tensor, shape (S, L)
        0 where nothing is known.
    known : Tensor, shape (L,), bool
        Labels of which something is.
    correlation : Tensor, shape (S, L (L - 1) / 2)
        Numbers as `spectrolabe.models.heads.correlation.correlation_of` takes them.
    """

    mean: Tensor
    log_sigma: Tensor
    known: Tensor
    correlation: Tensor


@dataclass
class HeadOutput:
    """A correlated distribution of L scaled labels for each of S stars.

    Parameters
    ----------
    mean, log_sigma : Tensor, shape (S, L)
    correlation : Tensor, shape (S, L, L)
        Positive definite, with a diagonal of ones.
    embedding : Tensor, shape (S, D)
        What the head saw last, or what an embedding loss ordered; distances in it measure coverage.
    logits : Tensor, shape (S, L, K), optional
        Logarithms of the probabilities of K bins, less a constant; of heads that have bins.
    doubt : Tensor, shape (S, 1), optional
        Minus the logarithm of the mean trust that a first fit has in the tokens of a star: how much
        of its spectra is that of no star known. Of encoders that start from a fit.
    """

    mean: Tensor
    log_sigma: Tensor
    correlation: Tensor
    embedding: Tensor
    logits: Tensor | None = None
    doubt: Tensor | None = None
