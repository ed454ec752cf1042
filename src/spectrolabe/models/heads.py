"""Heads: the last layer, from an embedding to a distribution over scaled labels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["CorrelatedHead", "HeadOutput", "correlated_t_loss"]

BALANCE = 0.5  # power of sigma that weights the terms, see `correlated_t_loss`
DEGREES = 4.0  # of freedom of the Student t: a few per cent of the labels are grossly wrong
LOG_SIGMA_RANGE = (-6.0, 3.0)


@dataclass
class HeadOutput:
    """A correlated distribution of L scaled labels for each of S stars.

    Parameters
    ----------
    mean, log_sigma : Tensor, shape (S, L)
    correlation : Tensor, shape (S, L, L)
        Positive definite, with a diagonal of ones.
    embedding : Tensor, shape (S, D)
        What the head saw last; distances in it measure coverage.
    """

    mean: Tensor
    log_sigma: Tensor
    correlation: Tensor
    embedding: Tensor


class CorrelatedHead(nn.Module):
    """Mean, standard deviation and correlation of all labels.

    The correlation is B Bᵀ with B lower triangular and rows of unit length, which is positive
    definite with a unit diagonal whatever the network says.
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, width: int, hidden: int, labels: int, dropout: float) -> None:
        super().__init__()
        self.labels = labels
        self.hidden = nn.Linear(width, hidden)
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(hidden, 2 * labels + labels * (labels - 1) // 2)
        rows, columns = torch.tril_indices(labels, labels, -1)
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("columns", columns, persistent=False)

    def forward(self, x: Tensor) -> HeadOutput:
        """Map (S, width) to the distribution of each star."""
        embedding = F.gelu(self.hidden(x))
        out = self.out(self.dropout(embedding))
        mean, log_sigma = out[:, : self.labels], out[:, self.labels : 2 * self.labels]
        factor = torch.eye(self.labels, device=x.device, dtype=x.dtype).repeat(len(x), 1, 1)
        factor[:, self.rows, self.columns] = out[:, 2 * self.labels :]
        factor = F.normalize(factor, dim=2)
        return HeadOutput(
            mean, log_sigma.clamp(*LOG_SIGMA_RANGE), factor @ factor.transpose(1, 2), embedding
        )


def correlated_t_loss(output: HeadOutput, target: Tensor) -> Tensor:
    """Return the mean negative log-likelihood per label; NaN targets do not count.

    Means and standard deviations are fitted by the Student-t marginals, so that one wrong label
    does not weaken the other labels of its star; the correlation by the joint Student t of the
    standardised residuals, which leaves the marginals alone. Each marginal is weighted by
    sigma**0.5 without gradient, as in the beta-NLL of Seitzer et al. 2022 (ICLR): gradients of a
    plain likelihood grow as 1 / sigma, so that the label learned first starves the others.

    Parameters
    ----------
    output : HeadOutput
    target : Tensor, shape (S, L)
        Scaled labels, NaN where not known.
    """
    known = torch.isfinite(target)
    residual = torch.where(known, target - output.mean, 0.0)
    z = residual * torch.exp(-output.log_sigma)
    half = (DEGREES + 1.0) / 2.0
    marginal = output.log_sigma + half * torch.log1p(z**2 / DEGREES)
    marginal = marginal * output.log_sigma.detach().exp() ** BALANCE
    count = known.sum().clamp(min=1)
    loss = torch.where(known, marginal, 0.0).sum() / count
    if target.shape[1] > 1:
        loss = loss + _joint(z.detach(), output.correlation, known) / count
    return loss


def _joint(z: Tensor, correlation: Tensor, known: Tensor) -> Tensor:
    """Sum of the joint Student-t terms; unknown labels are replaced by independent ones."""
    both = known[:, :, None] & known[:, None, :]
    identity = torch.eye(z.shape[1], device=z.device, dtype=z.dtype)
    factor = torch.linalg.cholesky(torch.where(both, correlation, identity) + 1e-5 * identity)
    white = torch.linalg.solve_triangular(factor, z[..., None], upper=False)[..., 0]
    log_det = torch.diagonal(factor, dim1=1, dim2=2).log().sum(dim=1)
    power = (DEGREES + known.sum(dim=1)) / 2.0
    return (log_det + power * torch.log1p((white**2).sum(dim=1) / DEGREES)).sum()
