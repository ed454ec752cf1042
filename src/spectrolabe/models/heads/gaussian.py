"""A normal distribution: mean, standard deviation and correlation of all labels."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spectrolabe.config import HeadConfig
from spectrolabe.models.heads.correlation import correlation_loss, correlation_of, factor_size
from spectrolabe.models.heads.embedding import embedding_stress
from spectrolabe.models.heads.output import HeadOutput, Prior

__all__ = ["CorrelatedHead", "correlated_t_loss"]

BALANCE = 0.5  # power of sigma that weights the terms, see `correlated_t_loss`
DEGREES = 4.0  # of freedom of the Student t: a few per cent of the labels are grossly wrong
LOG_SIGMA_RANGE = (-6.0, 3.0)


class CorrelatedHead(nn.Module):
    """Mean, standard deviation and correlation of all labels.

    Parameters
    ----------
    width, hidden : int
        Of the input and of the layer that is read from.
    labels : int
    dropout : float
    config : HeadConfig
    """

    def __init__(
        self,
        width: int,
        hidden: int,
        labels: int,
        dropout: float,
        config: HeadConfig = HeadConfig(),  # noqa: B008 - frozen
    ) -> None:
        super().__init__()
        self.labels, self.weight = labels, config.embedding
        self.hidden = nn.Linear(width, hidden)
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(hidden, 2 * labels + factor_size(labels))
        self.project = nn.Linear(hidden, config.embedding_width) if self.weight else nn.Identity()

    def forward(self, x: Tensor, prior: Prior | None = None) -> HeadOutput:
        """Map (S, width) to the distribution of each star, about a prior if there is one."""
        # in half precision means would be rounded, and correlations indefinite
        with torch.autocast(x.device.type, enabled=False):
            hidden = F.gelu(self.hidden(x.to(self.hidden.weight.dtype)))
            mean, log_sigma, numbers = self.out(self.dropout(hidden)).split(
                [self.labels, self.labels, factor_size(self.labels)], dim=1
            )
            if prior is not None:
                mean, log_sigma = mean + prior.mean, log_sigma + prior.log_sigma
                numbers = numbers + prior.correlation
            return HeadOutput(
                mean,
                log_sigma.clamp(*LOG_SIGMA_RANGE),
                correlation_of(numbers, self.labels),
                self.project(hidden),
            )

    def loss(self, output: HeadOutput, target: Tensor) -> Tensor:
        """Return `correlated_t_loss`, and the stress of the embedding where it has a weight.

        Parameters
        ----------
        output : HeadOutput
        target : Tensor, shape (S, L)
            Scaled labels, NaN where not known.
        """
        loss = correlated_t_loss(output, target)
        if self.weight:
            loss = loss + self.weight * embedding_stress(output.embedding, target)
        return loss

    def set_range(self, targets: Tensor) -> None:
        """Take note of the scaled labels of all training stars: of no use here."""

    def levels(self, output: HeadOutput) -> Tensor:
        """Return quantiles of the marginals, here none as they are normal: shape (S, L, 0)."""
        return output.mean.new_zeros((*output.mean.shape, 0))


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
        loss = loss + correlation_loss(z.detach(), output.correlation, known, DEGREES) / count
    return loss
