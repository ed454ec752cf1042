"""A histogram of each label: regression as classification, for posteriors of any shape."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spectrolabe.config import HeadConfig
from spectrolabe.models.heads.correlation import correlation_loss, correlation_of, factor_size
from spectrolabe.models.heads.embedding import embedding_stress
from spectrolabe.models.heads.output import HeadOutput, Prior
from spectrolabe.models.posterior import SCORES

__all__ = ["BinnedHead", "asymmetric_loss", "bin_targets", "cross_entropy"]

SMOOTHING = 0.75  # bins, by which the target is spread; see `bin_targets`
WRONG = 0.02  # of the labels may be grossly wrong; see `cross_entropy`
FINEST = 0.1  # bins, the least standard deviation that a histogram can tell
INSIDE = (0.001, 0.999)  # quantiles of the training labels that the bins hold
MARGIN = 0.05  # of the range between them, on either side
UNTRAINED = 5.0  # scaled units on either side of 0, until the range is set
EMPTIEST = 1e-9  # probability of a bin, so that every quantile is somewhere
LEAST_LIKELY = 12.0  # of the logarithm of a probability by a prior
FARTHEST = 4.0  # normal score of a label, for the correlation


class BinnedHead(nn.Module):
    """The probability of K bins for each label, and the correlation of all labels.

    Regression as classification: the network learns the histogram by cross-entropy, and so may
    tell of two solutions, of a long tail, or of a limit. The edges of the bins are part of the
    weights; `set_range` sets them before the first step. Labels are joined by a Gaussian copula:
    its correlation is that of the normal scores of the labels in their own histograms.

    Mean and standard deviation are those of the histogram, less what the smoothing of the targets
    added to it; quantiles are drawn together accordingly.

    Parameters
    ----------
    width, hidden : int
        Of the input and of the layer that is read from.
    labels : int
    dropout : float
    config : HeadConfig
    """

    edges: Tensor

    def __init__(
        self,
        width: int,
        hidden: int,
        labels: int,
        dropout: float,
        config: HeadConfig = HeadConfig(kind="binned"),  # noqa: B008 - frozen
    ) -> None:
        super().__init__()
        self.labels, self.config = labels, config
        self.hidden = nn.Linear(width, hidden)
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(hidden, labels * config.bins + factor_size(labels))
        self.project = (
            nn.Linear(hidden, config.embedding_width) if config.embedding else nn.Identity()
        )
        edges = torch.linspace(-UNTRAINED, UNTRAINED, config.bins + 1)
        self.register_buffer("edges", edges.repeat(labels, 1))

    def set_range(self, targets: Tensor) -> None:
        """Set the edges of the bins from the scaled labels of all training stars.

        The bins are equally wide and hold all but the outermost 0.1 per cent on either side, and
        a margin. A label of which nothing is known keeps its bins.

        Parameters
        ----------
        targets : Tensor, shape (N, L)
            NaN where not known.
        """
        for j, values in enumerate(targets.detach().double().cpu().numpy().T):
            known = values[np.isfinite(values)]
            if known.size == 0:
                continue
            low, high = np.quantile(known, INSIDE)
            margin = MARGIN * max(high - low, 1e-3)
            edges = np.linspace(low - margin, high + margin, self.edges.shape[1])
            self.edges[j] = torch.as_tensor(edges)

    def forward(self, x: Tensor, prior: Prior | None = None) -> HeadOutput:
        """Map (S, width) to the distribution of each star, about a prior if there is one."""
        bins = self.config.bins
        # in half precision probabilities would be rounded, and correlations indefinite
        with torch.autocast(x.device.type, enabled=False):
            hidden = F.gelu(self.hidden(x.to(self.hidden.weight.dtype)))
            out = self.out(self.dropout(hidden))
            logits = out[:, : self.labels * bins].unflatten(1, (self.labels, bins))
            numbers = out[:, self.labels * bins :]
            if prior is not None:
                logits = logits + self._of_normal(prior)
                numbers = numbers + prior.correlation
            mean, variance, _ = self._moments(logits)
            return HeadOutput(
                mean,
                0.5 * variance.log(),
                correlation_of(numbers, self.labels),
                self.project(hidden),
                logits,
            )

    def _of_normal(self, prior: Prior) -> Tensor:
        """Logits of normal distributions, no narrower than a bin; 0 of labels that have none."""
        width = self.edges[:, 1] - self.edges[:, 0]
        centre = 0.5 * (self.edges[:, 1:] + self.edges[:, :-1])
        sigma = torch.maximum(prior.log_sigma.exp(), SMOOTHING * width)[..., None]
        logits = -0.5 * ((centre - prior.mean[..., None]) / sigma) ** 2
        return torch.where(prior.known[:, None], logits.clamp(min=-LEAST_LIKELY), 0.0)

    def loss(self, output: HeadOutput, target: Tensor) -> Tensor:
        """Return the loss of the histograms, of the correlation, and of the embedding if weighted.

        Parameters
        ----------
        output : HeadOutput
        target : Tensor, shape (S, L)
            Scaled labels, NaN where not known.
        """
        config, known = self.config, torch.isfinite(target)
        assert output.logits is not None  # it is of this head
        logits, value = output.logits.float(), torch.where(known, target, 0.0).float()
        truth = bin_targets(value, self.edges)
        if config.asymmetric:
            per_label = asymmetric_loss(logits, truth, config.gamma_positive, config.gamma_negative)
        else:
            per_label = cross_entropy(logits, truth)
        count = known.sum().clamp(min=1)
        loss = torch.where(known, per_label, 0.0).sum() / count
        if self.labels > 1:
            z = torch.where(known, self.scores(logits, value), 0.0)
            loss = loss + correlation_loss(z, output.correlation, known) / count
        if config.embedding:
            loss = loss + config.embedding * embedding_stress(output.embedding, target)
        return loss

    @torch.no_grad()
    def scores(self, logits: Tensor, value: Tensor) -> Tensor:
        """Return the normal scores of scaled labels in their histograms, within 4, shape (S, L)."""
        mean, _, ratio = self._moments(logits)
        width = self.edges[:, 1] - self.edges[:, 0]
        place = (mean + (value - mean) / ratio - self.edges[:, 0]) / width
        i = place.floor().clamp(0, self.config.bins - 1).long()
        at_edges = _edge_scores(logits)
        low, high = (at_edges.gather(2, (i + k)[..., None])[..., 0] for k in (0, 1))
        return (low + (place - i) * (high - low)).clamp(-FARTHEST, FARTHEST)

    @torch.no_grad()
    def levels(self, output: HeadOutput) -> Tensor:
        """Return quantiles at the probabilities of `SCORES`, scaled, shape (S, L, Q).

        Between the edges of bins, quantiles are taken as linear in the normal score, so that those
        of a normal histogram are exact.
        """
        assert output.logits is not None  # it is of this head
        logits, edges = output.logits.double(), self.edges.double()
        at_edges = _edge_scores(logits)
        scores = torch.as_tensor(np.array(SCORES), device=logits.device)
        scores = scores.expand(*logits.shape[:2], -1).contiguous()
        i = torch.searchsorted(at_edges, scores).clamp(1, logits.shape[2]) - 1
        low, high = (at_edges.gather(2, i + k) for k in (0, 1))
        width = edges[:, 1:2] - edges[:, :1]
        value = edges[:, :1] + width * (i + (scores - low) / (high - low))
        mean, _, ratio = self._moments(logits, edges)
        return mean[..., None] + (value - mean[..., None]) * ratio[..., None]

    def _moments(
        self, logits: Tensor, edges: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Mean and variance of the labels, and the ratio of their sigma to the histogram's."""
        edges = self.edges if edges is None else edges
        width = edges[:, 1] - edges[:, 0]
        probability = logits.softmax(dim=2)
        bins = torch.arange(logits.shape[2], device=logits.device, dtype=logits.dtype) + 0.5
        mean = probability @ bins
        variance = (probability * (bins - mean[..., None]) ** 2).sum(dim=2)
        # centres of bins have a twelfth (Sheppard) more than what was counted in them
        counted = (variance - 1.0 / 12.0).clamp(min=FINEST**2 + SMOOTHING**2)
        own = counted - SMOOTHING**2
        return edges[:, 0] + width * mean, width**2 * own, (own / counted).sqrt()


def bin_targets(value: Tensor, edges: Tensor) -> Tensor:
    """Return the probability of each bin for labels that are known, shape (S, L, K).

    A normal distribution about the label with a standard deviation of 0.75 bins, as differences of
    its distribution function (HL-Gauss; Imani & White 2018, ICML; Farebrother et al. 2024, ICML):
    neighbouring bins are told to be neighbours, and the place of a label within its bin is kept.
    The outermost bins take all that is beyond them.

    Parameters
    ----------
    value : Tensor, shape (S, L)
    edges : Tensor, shape (L, K + 1)
        Of equally wide bins.
    """
    width = edges[:, 1] - edges[:, 0]
    z = (edges[:, 1:-1] - value[..., None]) / (SMOOTHING * width[:, None])
    inner = torch.special.ndtr(z)
    inner = F.pad(F.pad(inner, (1, 0), value=0.0), (0, 1), value=1.0)
    return inner.diff(dim=2)


def cross_entropy(logits: Tensor, truth: Tensor) -> Tensor:
    """Return the cross-entropy of each label, shape (S, L): proper, and robust to wrong labels.

    Any label may be wrong with a probability of 2 per cent, and then is anywhere: the histogram is
    that of the others. So a wrong label has no pull on a star whose histogram excludes it, as with
    the Student t of the other head, and histograms have no far tails for the sake of such labels.

    Parameters
    ----------
    logits, truth : Tensor, shape (S, L, K)
    """
    return -(truth * _probability(logits).log()).sum(dim=2)


def asymmetric_loss(
    logits: Tensor, truth: Tensor, gamma_positive: float, gamma_negative: float
) -> Tensor:
    """Return the asymmetric loss of each label, shape (S, L), for labels that few stars have.

    With p the probability of a bin and y that of `bin_targets`, the sum over bins of
    ``-(y (1 - p)**g+ log p + (1 - y) p**g- log(1 - p))`` (Ridnik et al. 2021, ICCV,
    arXiv 2009.14119; as in deep-REMAP, here of a softmax). Stars that are already right weigh
    less, so that the many common ones do not outvote the few at the edges.

    It is not proper: for exponents other than 0 its minimum is not at the true probabilities, and
    histograms come out too wide or too narrow. Their sigma means nothing before recalibration.

    Parameters
    ----------
    logits, truth : Tensor, shape (S, L, K)
    gamma_positive, gamma_negative : float
    """
    p = _probability(logits)
    positive = truth * (1.0 - p) ** gamma_positive * p.log()
    negative = (1.0 - truth) * p**gamma_negative * torch.log1p(-p)
    return -(positive + negative).sum(dim=2)


def _probability(logits: Tensor) -> Tensor:
    """Of the bins, for a label that may be wrong: neither 0 nor 1."""
    return (1.0 - WRONG) * logits.softmax(dim=2) + WRONG / logits.shape[2]


def _edge_scores(logits: Tensor) -> Tensor:
    """Normal scores of the edges in their histograms, ascending, shape (S, L, K + 1)."""
    bins = logits.shape[2]
    probability = (logits.softmax(dim=2) + EMPTIEST) / (1.0 + bins * EMPTIEST)
    below = probability.cumsum(dim=2)[..., :-1]
    above = probability.flip(2).cumsum(dim=2).flip(2)[..., 1:]
    # from the side where less is: the difference to 1 would be lost in rounding
    inner = torch.where(below < above, torch.special.ndtri(below), -torch.special.ndtri(above))
    outer = -torch.special.ndtri(torch.tensor(EMPTIEST / math.e)).item()
    return F.pad(F.pad(inner, (1, 0), value=-outer), (0, 1), value=outer)
