"""Ages of red giants from their labels: densities of log age, calibrated, with any label missing.

Carbon and nitrogen at the surface of a giant tell how deep its convection once reached, hence its
mass, hence its age (Masseron & Gilmore 2015, MNRAS 453, 1855; Martig et al. 2016, MNRAS 456, 3655).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri
from torch import Tensor, nn

from spectrolabe.errors import InputError, unknown_name
from spectrolabe.labels import LABELS, Labels, LabelScale
from spectrolabe.models.posterior import SCORES, LabelPosterior

__all__ = ["LOG_AGE", "NEEDED", "AgeModel", "AgeNetwork", "AgeShape", "features", "lost"]

NEEDED = ("teff", "logg", "fe_h")  # of every star; any other label may be missing
LOG_AGE = np.linspace(-1.3, np.log10(LABELS["age"].high), 271)  # of densities; age in Gyr
FARTHEST = 6.0  # widths from the centre, beyond which inputs are held
MARGIN = 0.5  # widths beyond the range trained on that are still inside
CERTAIN = 2.0  # sigma by which a star is outside
NARROWEST = 0.05  # standard deviation of a component, in units of the spread of log age
CHUNK = 1024  # stars at a time


@dataclass(frozen=True)
class AgeShape:
    """Sizes of the networks.

    Parameters
    ----------
    inputs : int
        Labels.
    scales : int
        Age scales.
    members : int
        Networks whose densities are averaged.
    width : int
        Of the two hidden layers.
    components : int
        Normal distributions that make a density of log age.
    """

    inputs: int
    scales: int
    members: int = 10
    width: int = 48
    components: int = 3


class AgeNetwork(nn.Module):
    """Features of labels to mixtures of normal distributions, by independent members.

    Parameters
    ----------
    shape : AgeShape
    """

    def __init__(self, shape: AgeShape) -> None:
        super().__init__()
        self.shape = shape
        sizes = [2 * shape.inputs, shape.width, shape.width, shape.scales * shape.components * 3]
        self.weight, self.bias = nn.ParameterList(), nn.ParameterList()
        for i, (fan_in, fan_out) in enumerate(pairwise(sizes)):
            size = 0.1 if i == 2 else 1.0  # begins with a density that knows no star
            weight = size * torch.randn(shape.members, fan_in, fan_out) / fan_in**0.5
            self.weight.append(nn.Parameter(weight))
            self.bias.append(nn.Parameter(torch.zeros(shape.members, 1, fan_out)))
        with torch.no_grad():  # components begin apart from each other
            last = self.bias[-1].view(shape.members, shape.scales, shape.components, 3)
            last[..., 1] += torch.linspace(-1.0, 1.0, shape.components)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return log weight, mean, sigma, each of shape (members, stars, scales, components).

        Parameters
        ----------
        x : Tensor, shape (members, stars, 2 * inputs)
            From `features`.
        """
        for i, (weight, bias) in enumerate(zip(self.weight, self.bias, strict=True)):
            x = torch.baddbmm(bias, x, weight)
            if i < 2:
                x = nn.functional.silu(x)
        shape = self.shape
        x = x.view(shape.members, -1, shape.scales, shape.components, 3)
        sigma = 0.5 * nn.functional.softplus(x[..., 2] + 0.5) + NARROWEST
        return torch.log_softmax(x[..., 0], dim=-1), x[..., 1], sigma


def features(scaled: Tensor, sigma: Tensor) -> Tensor:
    """Return what the network sees, shape (..., 2 L): each label times its weight, and the weights.

    A weight is 1 for a label without error, 0 for one that is missing: the share that the spread of
    stars has in the variance of the label. A label that says nothing is at the centre.

    Parameters
    ----------
    scaled, sigma : Tensor, shape (..., L)
        In units of the spread of the stars; NaN where missing.
    """
    weight = torch.nan_to_num(1.0 / (1.0 + sigma**2))
    weight = torch.where(torch.isnan(scaled), 0.0, weight)
    held = torch.nan_to_num(scaled).clamp(-FARTHEST, FARTHEST)
    return torch.cat([weight * held, weight], dim=-1)


def lost(scaled: NDArray, sigma: NDArray) -> NDArray:
    """Return what recalibration depends on, shape (N, 3).

    One, the share of labels that are missing, and the share of the others' weights that errors
    take away.

    Parameters
    ----------
    scaled, sigma : ndarray, shape (N, L)
        As for `features`.
    """
    missing = np.isnan(scaled)
    error = np.where(missing, 0.0, 1.0 - 1.0 / (1.0 + np.nan_to_num(sigma) ** 2))
    ones = np.ones(len(scaled))
    return np.stack([ones, missing.mean(axis=1), error.mean(axis=1)], axis=1)


@dataclass(frozen=True, eq=False)
class AgeModel:
    """Ages of giants from labels.

    Parameters
    ----------
    network : AgeNetwork
    inputs : LabelScale
        Labels it takes, and how they are scaled.
    low, high : ndarray, shape (L,)
        Range of the stars trained on.
    scales : tuple of str
        Age scales it knows.
    centre, spread : float
        Of log10(age / Gyr): the unit of the network.
    recalibration : ndarray, shape (A, 4)
        Of the normal scores of stars not trained on, for each scale: their mean, and the logarithm
        of their standard deviation as a constant and slopes with the shares of `lost`.
    scale : str
        That of `predict`.
    card : Mapping
    """

    network: AgeNetwork
    inputs: LabelScale
    low: NDArray
    high: NDArray
    scales: tuple[str, ...]
    centre: float
    spread: float
    recalibration: NDArray
    scale: str
    card: Mapping[str, Any]

    def __post_init__(self) -> None:
        # in double precision, so that a star's age does not depend on the stars beside it
        self.network.double().eval()

    @property
    def names(self) -> tuple[str, ...]:
        """The labels that it takes."""
        return self.inputs.names

    def on(self, scale: str) -> AgeModel:
        """Return the same model with another of its age scales."""
        if scale not in self.scales:
            raise unknown_name("age model", scale, self.scales, kind="age scale")
        return replace(self, scale=scale)

    def predict(self, labels: Labels) -> LabelPosterior:
        """Return the posterior of ``age`` in Gyr, with its quantiles.

        Parameters
        ----------
        labels : Labels
            On the scale that the card names, with uncertainties: those beyond the ones of the stars
            trained on widen the posterior. Abundances may be NaN or left out.

        Returns
        -------
        LabelPosterior
            What the source of the age scale would say, its own errors included. NaN for stars that
            are not `inside`.

        Raises
        ------
        InputError
            If a label of `NEEDED` is not there, or a value has no uncertainty.
        """
        scaled, sigma = self._scaled(labels)
        inside = self.inside(labels)
        parts = [
            self._density(scaled[rows], sigma[rows])
            for rows in np.split(np.arange(len(labels)), range(CHUNK, len(labels), CHUNK))
        ]
        mean, variance, levels = map(np.concatenate, zip(*parts, strict=True))
        for values in (mean, variance, levels):
            values[~inside] = np.nan
        return LabelPosterior(
            ("age",), mean[:, None], variance[:, None, None], labels.star_id, levels[:, None]
        )

    def inside(self, labels: Labels) -> NDArray:
        """Return which stars are like those trained on, shape (N,): all needed labels, in range."""
        scaled, sigma = self._scaled(labels)
        low, high = self.inputs.scale(self.low), self.inputs.scale(self.high)
        with np.errstate(invalid="ignore"):
            room = np.maximum(MARGIN, CERTAIN * sigma)
            far = (scaled < low - room) | (scaled > high + room)
        needed = [self.names.index(name) for name in NEEDED]
        return ~far.any(axis=1) & np.isfinite(scaled[:, needed]).all(axis=1)

    def _scaled(self, labels: Labels) -> tuple[NDArray, NDArray]:
        """Values and uncertainties in units of the spread, shape (N, L); NaN where missing."""
        labels.index(NEEDED)
        values = np.full((len(labels), len(self.names)), np.nan)
        sigma = values.copy()
        for i, name in enumerate(self.names):
            if name in labels.names:
                values[:, i] = labels[name]
                sigma[:, i] = labels.sigma[:, labels.index([name])[0]]
        lost = np.isfinite(values) & ~(sigma >= 0)
        if lost.any():
            row, column = np.argwhere(lost)[0]
            raise InputError(
                f"labels of {labels.star_id[row]}",
                expected=f"an uncertainty of {self.names[column]}",
                found=f"{sigma[row, column]:g}",
                fix="Leave the value NaN, too, if nothing is known of it.",
            )
        return self.inputs.scale(values), sigma / self.inputs.width

    def _density(self, scaled: NDArray, sigma: NDArray) -> tuple[NDArray, NDArray, NDArray]:
        """Mean and variance, shape (N,), and levels, shape (N, Q), of the age in Gyr."""
        a = self.scales.index(self.scale)
        below = self.distribution(scaled, sigma, scales=slice(a, a + 1))[:, :, 0]
        shift, *slopes = self.recalibration[a]
        width = np.exp(lost(scaled, sigma) @ slopes)
        scores = (ndtri(np.clip(below, 1e-12, 1 - 1e-12)) - shift) / width[:, None]
        share = np.diff(ndtr(scores), axis=1)
        share /= share.sum(axis=1, keepdims=True)
        age = 10 ** (0.5 * (LOG_AGE[1:] + LOG_AGE[:-1]))
        mean = share @ age
        variance = np.einsum("ng,ng->n", share, (age - mean[:, None]) ** 2)
        levels = np.stack([np.interp(SCORES, z, LOG_AGE) for z in scores])
        return mean, variance, 10**levels

    @torch.no_grad()
    def distribution(
        self,
        scaled: NDArray,
        sigma: NDArray,
        members: ArrayLike | None = None,
        scales: slice = slice(None),
    ) -> NDArray:
        """Return the probability of ages below those of `LOG_AGE`, shape (N, G, A), uncalibrated.

        Parameters
        ----------
        scaled, sigma : ndarray, shape (N, L)
            In units of the spread; NaN where missing.
        members : array_like of int or bool, optional
            Default: all.
        scales : slice
            Of the A age scales.
        """
        x = features(torch.from_numpy(np.array(scaled)), torch.from_numpy(np.array(sigma)))
        every = self.network.shape.members
        found = self.network(x.expand(every, -1, -1))
        keep = np.arange(every)[slice(None) if members is None else np.asarray(members)]
        log_weight, mean, width = (part.numpy()[keep][:, :, scales] for part in found)
        points = (LOG_AGE - self.centre) / self.spread
        below = np.zeros((len(scaled), len(points), mean.shape[2]))
        for m, k in np.ndindex(len(keep), log_weight.shape[-1]):
            at = (m, slice(None), None, slice(None), k)
            share = np.exp(log_weight[at]) / len(keep)
            below += share * ndtr((points[:, None] - mean[at]) / width[at])
        first, last = below[:, :1], below[:, -1:]
        return (below - first) / (last - first)
