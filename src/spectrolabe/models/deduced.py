"""Labels that follow from others: what a fit of the spectrum says of absolute magnitude and age.

They leave no trace in a spectrum but by temperature, gravity and abundances. For stars of the
Galaxy they are smooth functions of these, known before any spectrum is read.
"""

from __future__ import annotations

import itertools
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

__all__ = ["Deduced"]

DEGREE = 3
RIDGE = 1e-4  # relative to the mean square of a term
RANGE = (0.001, 0.999)  # quantiles of the stars that it was learnt from


class Deduced(nn.Module):
    """D labels as polynomials of C labels of a fit; none until learnt."""

    columns: Tensor
    where: Tensor
    weights: Tensor
    spread: Tensor
    low: Tensor
    high: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("columns", "where"):
            self.register_buffer(name, torch.zeros(0, dtype=torch.long))
        self.register_buffer("weights", torch.zeros(1, 0))
        for name in ("spread", "low", "high"):
            self.register_buffer(name, torch.zeros(0))

    def learn(self, columns: list[int], known: NDArray, where: list[int], wanted: NDArray) -> None:
        """Fit the polynomials.

        Parameters
        ----------
        columns : list of int
            C of the labels of a fit.
        known : ndarray, shape (N, A)
            Scaled labels of stars, as a fit gives them.
        where : list of int
            Numbers of the D labels of a model.
        wanted : ndarray, shape (N, D)
            These, scaled; NaN where a star has none.
        """
        self.columns, self.where = torch.tensor(columns), torch.tensor(where)
        terms = self._terms(torch.from_numpy(known[:, columns]))[0].numpy()
        weights, spread = [], []
        for column in wanted.T:
            use = np.isfinite(column)
            square = terms[use].T @ terms[use] / use.sum()
            right = terms[use].T @ column[use] / use.sum()
            weights.append(np.linalg.solve(square + RIDGE * np.diag(np.diag(square)), right))
            spread.append(np.std(column[use] - terms[use] @ weights[-1]))
        self.weights = torch.from_numpy(np.stack(weights, axis=1)).float()
        self.spread = torch.tensor(spread).float()
        low, high = np.nanquantile(wanted, RANGE, axis=0)
        self.low, self.high = torch.from_numpy(low).float(), torch.from_numpy(high).float()

    def forward(self, labels: Tensor, covariance: Tensor) -> tuple[Tensor, Tensor]:
        """Return means and standard deviations, each (V, D).

        Parameters
        ----------
        labels : Tensor, shape (V, A)
            Scaled, of a fit.
        covariance : Tensor, shape (V, A, A)
        """
        if not len(self.where):
            return labels[:, :0], labels[:, :0]
        columns = self.columns
        terms, slopes = self._terms(labels[:, columns])
        mean = (terms @ self.weights).clamp(self.low, self.high)
        turn = torch.einsum("vcf,fd->vdc", slopes, self.weights)
        joint = covariance[:, columns][:, :, columns]
        variance = torch.einsum("vdc,vce,vde->vd", turn, joint, turn) + self.spread**2
        # no worse than not to know the star
        return mean, variance.sqrt().clamp(max=0.25 * (self.high - self.low))

    def _terms(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Products of powers, (V, F), and their slopes, (V, C, F)."""
        count = x.shape[1]
        powers = torch.tensor(_powers(count), device=x.device)
        table = torch.stack([x**k for k in range(DEGREE + 1)], dim=2)  # (V, C, 1 + DEGREE)
        rises = torch.stack([k * x ** max(k - 1, 0) for k in range(DEGREE + 1)], dim=2)
        own = torch.arange(count, device=x.device)
        factors = table[:, own[:, None], powers.T]  # (V, C, F)
        slopes = []
        for c in range(count):
            turned = factors.clone()
            turned[:, c] = rises[:, c][:, powers[:, c]]
            slopes.append(turned.prod(dim=1))
        return factors.prod(dim=1), torch.stack(slopes, dim=1)

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Take polynomials of any number; models that have none need not say so."""
        for name, value in Deduced().named_buffers():
            state.setdefault(prefix + name, value)
            setattr(self, name, torch.empty_like(state[prefix + name]))
        super()._load_from_state_dict(state, prefix, *rest)


@cache
def _powers(count: int) -> list[tuple[int, ...]]:
    """Powers of ``count`` numbers in each of F terms."""
    every = itertools.product(range(DEGREE + 1), repeat=count)
    return [p for p in every if sum(p) <= DEGREE]
