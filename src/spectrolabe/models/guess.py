"""What a first fit means for a network: a guess of its labels, and how tokens bear on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from spectrolabe.labels import LabelScale
from spectrolabe.models.compact import CompactSpectra
from spectrolabe.models.deduced import Deduced
from spectrolabe.models.first_fit import FirstFit, TokenView, first_fit
from spectrolabe.models.heads import Prior
from spectrolabe.models.tokens import Tokens

__all__ = ["MOTION", "Guess", "Guesser", "token_pull", "token_residual"]

MOTION = ("v_broad", "rv_residual")  # labels of the motion of a star, beside those of emulators
VELOCITY = 10.0  # km/s: unit of velocities that a network reads
SOFT = 5.0  # residuals and pulls are read as they are up to here, and hardly grow beyond


class Guess(NamedTuple):
    """What is known of V views before a network has its say.

    Parameters
    ----------
    prior : Prior
        About which the network says what it thinks otherwise.
    numbers : Tensor, shape (V, G)
        Labels of the fit, their uncertainties, and how well it does.
    tokens : list of TokenView
    """

    prior: Prior
    numbers: Tensor
    tokens: list[TokenView]


class Guesser(nn.Module):
    """First fits in terms of the labels of a model.

    Parameters
    ----------
    compact : CompactSpectra
    labels : int
        L labels of the model.
    """

    told: Tensor
    centre: Tensor
    width: Tensor

    def __init__(self, compact: CompactSpectra, labels: int) -> None:
        super().__init__()
        self.compact, self.labels = compact, labels
        self.deduced = Deduced()
        count = len(compact.centre) + 1
        self.register_buffer("told", torch.full((count,), -1))
        self.register_buffer("centre", torch.zeros(count))
        self.register_buffer("width", torch.ones(count))

    @property
    def size(self) -> int:
        """G."""
        return 2 * len(self.told) + 1

    @property
    def pulls(self) -> int:
        """Numbers of each token."""
        return len(self.compact.centre) + 1

    def aim(self, names: Sequence[str], scale: LabelScale) -> None:
        """Take note of which labels of the model are told.

        Parameters
        ----------
        names : sequence of str
            Of the labels of the compact spectra and of the velocity that is left.
        scale : LabelScale
            Of the model.
        """
        for i, name in enumerate(names):
            if name in scale.names:
                j = scale.names.index(name)
                self.told[i] = j
                self.centre[i], self.width[i] = float(scale.centre[j]), float(scale.width[j])

    def as_observed(self, tokens: Tokens, target: Tensor) -> Tokens:
        """Return tokens of computed spectra with what was learnt from observed ones.

        Parameters
        ----------
        tokens : Tokens
        target : Tensor, shape (B, L)
            Scaled labels.
        """
        main = self.compact.main
        labels = target[:, self.told[main]] * self.width[main] + self.centre[main]
        return self.compact.seen(tokens, labels)

    def fit(self, parts: Sequence[Tokens], view: Tensor, spectrum: Tensor) -> FirstFit:
        """Return the first fit of V views, see `spectrolabe.models.first_fit.first_fit`."""
        with torch.autocast(view.device.type, enabled=False):
            return first_fit(self.compact, parts, view, spectrum)

    def forward(self, fit: FirstFit) -> Guess:
        """Return what a fit means."""
        compact = self.compact
        sigma = torch.diagonal(fit.covariance, dim1=1, dim2=2).sqrt()
        motion = fit.velocity[:, None], fit.velocity_sigma[:, None]
        value = torch.cat([fit.labels * compact.width + compact.centre, motion[0]], dim=1)
        error = torch.cat([sigma * compact.width, motion[1]], dim=1)
        broad = value[:, -2].exp()  # it is fitted in its logarithm
        value[:, -2], error[:, -2] = broad, broad * error[:, -2]
        here = self.told >= 0
        where, size = self.told[here], (len(value), self.labels)
        scaled, scaled_error = (value - self.centre) / self.width, error / self.width
        with torch.autocast(fit.labels.device.type, enabled=False):
            further, further_error = self.deduced(fit.labels, fit.covariance)
        where = torch.cat([where, self.deduced.where])
        scaled = torch.cat([scaled[:, here], further], dim=1)
        scaled_error = torch.cat([scaled_error[:, here], further_error], dim=1)
        zero = value.new_zeros(size)
        prior = Prior(
            zero.index_copy(1, where, scaled),
            zero.index_copy(1, where, scaled_error.clamp(1e-3, 10.0).log()),
            torch.zeros(self.labels, dtype=torch.bool, device=where.device).index_fill(0, where, 1),
            self._correlation(fit.covariance, sigma),
        )
        numbers = torch.cat(
            [
                fit.labels,
                motion[0] / VELOCITY,
                sigma.clamp(min=1e-4).log(),
                motion[1].clamp(min=1e-4).log(),
                fit.misfit.clamp(1e-2, 1e4).log()[:, None],
            ],
            dim=1,
        )
        return Guess(prior, numbers, fit.tokens)

    def _correlation(self, covariance: Tensor, sigma: Tensor) -> Tensor:
        """Numbers that make the correlation of the fit, (V, L (L - 1) / 2)."""
        told = self.told[:-1]
        kept = (told >= 0).nonzero()[:, 0]
        kept = kept[told[kept].argsort()]  # a triangle stays one
        where = told[kept]
        joint = (covariance / (sigma[:, :, None] * sigma[:, None]))[:, kept][:, :, kept]
        factor = torch.linalg.cholesky(joint.double() + 1e-6 * torch.eye(len(kept)).to(joint))
        factor = (factor / torch.diagonal(factor, dim1=1, dim2=2)[:, :, None]).float()
        full = factor.new_zeros(len(factor), self.labels, self.labels)
        full[:, where[:, None], where[None, :]] = factor
        rows, columns = torch.tril_indices(self.labels, self.labels, -1, device=full.device)
        return full[:, rows, columns]


def token_pull(tokens: TokenView) -> Tensor:
    """Return what a network reads of the influence of tokens, (E', T, A + 1)."""
    return torch.cat([_soft(tokens.influence), tokens.trust[..., None].log()], dim=2)


def token_residual(tokens: TokenView) -> Tensor:
    """Return what it reads of their residuals, (E', T, NODES)."""
    return _soft(tokens.residual)


def _soft(values: Tensor) -> Tensor:
    return values / (1.0 + (values / SOFT) ** 2).sqrt()
