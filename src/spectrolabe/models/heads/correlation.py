"""The correlation of labels: made of free numbers, and fitted to scores of the labels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["correlation_loss", "correlation_of", "factor_size"]

RIDGE = 1e-5  # that rounding may not make a correlation indefinite


def factor_size(labels: int) -> int:
    """Return how many numbers make a correlation of this many labels."""
    return labels * (labels - 1) // 2


def correlation_of(numbers: Tensor, labels: int) -> Tensor:
    """Return a correlation for each star, shape (S, L, L), made of any numbers, (S, L (L - 1) / 2).

    It is B Bᵀ with B lower triangular and rows of unit length, which is positive definite with a
    unit diagonal whatever the network says.
    """
    rows, columns = torch.tril_indices(labels, labels, -1, device=numbers.device)
    factor = torch.eye(labels, device=numbers.device, dtype=numbers.dtype)
    factor = factor.repeat(len(numbers), 1, 1)
    factor[:, rows, columns] = numbers
    factor = F.normalize(factor, dim=2)
    return factor @ factor.transpose(1, 2)


def correlation_loss(
    z: Tensor, correlation: Tensor, known: Tensor, degrees: float | None = None
) -> Tensor:
    """Return the sum of the joint negative log-likelihoods of standardised residuals.

    Constants, and the marginals of the Gaussian form, are left out.

    Parameters
    ----------
    z : Tensor, shape (S, L)
        0 where not known.
    correlation : Tensor, shape (S, L, L)
    known : Tensor, shape (S, L), bool
        Unknown labels are replaced by independent ones.
    degrees : float, optional
        Of freedom of a Student t; a Gaussian if not given.
    """
    with torch.autocast(z.device.type, enabled=False):
        both = known[:, :, None] & known[:, None, :]
        identity = torch.eye(z.shape[1], device=z.device, dtype=z.dtype)
        joint = torch.where(both, correlation.to(z.dtype), identity) + RIDGE * identity
        factor = torch.linalg.cholesky(joint)
        white = torch.linalg.solve_triangular(factor, z[..., None], upper=False)[..., 0]
        log_det = torch.diagonal(factor, dim1=1, dim2=2).log().sum(dim=1)
        square = (white**2).sum(dim=1)
        if degrees is None:
            return (log_det + 0.5 * (square - (z**2).sum(dim=1))).sum()
        power = (degrees + known.sum(dim=1)) / 2.0
        return (log_det + power * torch.log1p(square / degrees)).sum()
