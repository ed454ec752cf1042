"""Learning what observed stars show and computed spectra do not; see `models.observed`."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor

from spectrolabe.labels import Labels
from spectrolabe.models.compact import CompactSpectra
from spectrolabe.models.explained import Explained
from spectrolabe.models.first_fit import FirstFit, first_fit
from spectrolabe.models.pixels import collate
from spectrolabe.models.tokens import Tokens, ladder_level, tokenise
from spectrolabe.training.data import Sample

__all__ = ["MAIN", "learn_observed"]

MAIN = ("teff", "logg", "fe_h")
TOGETHER = 32  # spectra
MOST = 3000  # spectra: more say nothing new
PRIOR_STARS = (3.0, 30.0, 30.0, 30.0)  # that show no difference, and none of its slopes
MODEL_ERROR = 0.01  # of the continuum: no spectrum counts as better than this
ROUNDS = 4
NOISE = 0.7  # mean square of the noise of nodes, which overlap, in units of their variance
WIDE = 3.0  # standard deviations from where on a residual counts less
RANGE = (0.01, 0.99)  # quantiles of the labels of the stars


def learn_observed(
    compact: CompactSpectra, sample: Sample, seed: int, *, progress: bool = True
) -> None:
    """Let compact spectra learn from stars whose Teff, log g and [Fe/H] are known.

    Residuals of all stars at a wavelength are a straight function of the three, drawn towards 0 by
    `PRIOR_STARS`, by robust least squares; the other labels are as stars of
    these three have them on average. The error is what is left when each star has others of its
    own. What was learnt before stays: this is added to it.

    Parameters
    ----------
    compact : CompactSpectra
        Is changed.
    sample : Sample
    seed : int
        Of the choice of spectra, where there are more than `MOST`.
    progress : bool
    """
    scaled = _scaled(compact, torch.from_numpy(_main(sample.labels)).float())
    columns = compact.main
    inside = (scaled >= compact.low[columns]) & (scaled <= compact.high[columns])
    known = np.flatnonzero(inside.all(dim=1).numpy())  # not so where one is NaN
    chosen = np.random.default_rng(seed).permutation(known)[:MOST]
    if not len(chosen):
        return

    def residuals(labels_of: LabelsOf) -> _Left:
        groups, parts = np.array_split(chosen, -(-len(chosen) // TOGETHER)), []
        for some in track(groups, "observed stars", disable=not progress):
            pixels = collate([[row] for row in sample.pixels(some)])
            parts.append(_left(compact, tokenise(pixels), scaled[some], labels_of))
        return _Left(*(torch.cat(part) for part in zip(*parts, strict=True)))

    observed = compact.observed
    first = not observed.count
    left = residuals(_usual)
    rows = _straight(left)
    observed.rows = rows if first else observed.rows + rows
    observed.error = torch.zeros(len(rows))
    # beyond these stars nothing is known
    low, high = torch.quantile(left.main, torch.tensor(RANGE), dim=0)
    observed.low = low if first else torch.minimum(low, observed.low)
    observed.high = high if first else torch.maximum(high, observed.high)
    observed.error = _beyond_noise(residuals(_own))


def _main(labels: Labels) -> NDArray:
    return np.stack([labels[name] for name in MAIN], axis=1)


def _scaled(compact: CompactSpectra, main: Tensor) -> Tensor:
    columns = compact.main
    return (main - compact.centre[columns]) / compact.width[columns]


class _Left(NamedTuple):
    """What computed spectra leave of N spectra.

    Scaled labels (N, 3); residuals and weights on the nodes of `Observed`, (N, nodes).
    """

    main: Tensor
    residual: Tensor
    weight: Tensor


def _usual(compact: CompactSpectra, fit: FirstFit, main: Tensor) -> Tensor:
    """Labels as stars have them on average that have these three, and this v_broad."""
    columns = torch.cat([compact.main, compact.amounts.structural[4:]])
    known = torch.cat([main, fit.labels[:, columns[3:]]], dim=1)
    return _given(known, columns, torch.zeros_like(fit.labels), compact.prior[None])


def _own(compact: CompactSpectra, fit: FirstFit, main: Tensor) -> Tensor:
    """Labels as a spectrum has them if these three are known."""
    return _given(main, compact.main, fit.labels, fit.covariance)


def _given(known: Tensor, columns: Tensor, mean: Tensor, covariance: Tensor) -> Tensor:
    """Mean of labels of a normal distribution, (N, A), where some of them are known."""
    joint = covariance[:, columns][:, :, columns].double()
    off = (known - mean[:, columns]).double()[..., None].expand(-1, -1, 1)
    turned = torch.linalg.solve(joint.expand(len(off), -1, -1), off).float()
    labels = mean + (covariance[:, :, columns] @ turned)[..., 0]
    labels[:, columns] = known
    return labels


LabelsOf = Callable[[CompactSpectra, FirstFit, Tensor], Tensor]


@torch.no_grad()
def _left(compact: CompactSpectra, tokens: Tokens, main: Tensor, labels_of: LabelsOf) -> _Left:
    """Residuals of spectra whose Teff, log g and [Fe/H] are known."""
    each = torch.arange(len(tokens.place))
    fit = first_fit(compact, [tokens], each, each)
    labels = labels_of(compact, fit, main).clamp(compact.low, compact.high)
    shares = compact.shares(labels)
    size = (len(each), compact.observed.size)
    residual, weight = torch.zeros(size), torch.zeros(size)
    levels = ladder_level(tokens.places[tokens.place[:, 0], 1].double().exp())
    for level in torch.unique(levels):
        rows = (levels == level).nonzero()[:, 0]
        seen = Explained(tokens, rows, compact)
        seen.correct(labels[rows], shares[rows])
        content, _ = seen.predict(shares[rows], fit.velocity[rows])
        own = seen.cover / (seen.variance + MODEL_ERROR**2)[..., None]
        node = compact.observed.node(seen.places).round().long()
        inside = ((node >= 0) & (node < size[1]))[:, None]
        own = (own * inside).transpose(0, 1).flatten(1)
        where = node.clamp(0, size[1] - 1).flatten().expand_as(own)
        left = (seen.content - content).transpose(0, 1).flatten(1)
        weight[rows] = torch.zeros(len(rows), size[1]).scatter_add_(1, where, own)
        residual[rows] = torch.zeros(len(rows), size[1]).scatter_add_(1, where, own * left)
    return _Left(main, residual / weight.clamp(min=1e-9), weight)


def _straight(left: _Left) -> Tensor:
    """Rows, (nodes, TERMS), by robust least squares at each node."""
    middle = left.main.median(dim=0).values
    terms = torch.nn.functional.pad(left.main - middle, (1, 0), value=1.0)
    mean = left.weight.sum(dim=0) / (left.weight > 0).sum(dim=0).clamp(min=1)
    ridge = mean.clamp(min=1e-6)[:, None, None] * torch.diag(torch.tensor(PRIOR_STARS))
    weight = left.weight
    for _ in range(ROUNDS):
        square = torch.einsum("nk,nx,nl->xkl", terms, weight, terms)
        right = torch.einsum("nk,nx->xk", terms, weight * left.residual)
        rows = torch.linalg.solve(square + ridge, right[..., None])[..., 0]
        weight = _held(left.residual - terms @ rows.T, left.weight)
    rows[:, 0] -= rows[:, 1:] @ middle
    return rows


def _held(off: Tensor, weight: Tensor) -> Tensor:
    """Weights, smaller where a star is far off for its wavelength."""
    seen = torch.where(weight > 0, off.abs(), torch.nan)
    spread = (1.4826 * seen.nanmedian(dim=0).values).nan_to_num(1.0).clamp(min=1e-4)
    return weight / (1.0 + (off / (WIDE * spread)) ** 2)


def _beyond_noise(left: _Left) -> Tensor:
    """Standard deviation of residuals at each node beyond their noise, (nodes,)."""
    weight = _held(left.residual, left.weight)
    noise = (1.0 / left.weight - MODEL_ERROR**2).where(left.weight > 0, 0.0)
    square = (weight * (left.residual**2 - NOISE * noise)).sum(dim=0)
    return (square / weight.sum(dim=0).clamp(min=1e-6)).clamp(min=0.0).sqrt()
