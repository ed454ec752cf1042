"""What observed stars show and computed spectra do not, wavelength by wavelength.

Lines that lists lack or have too strong, departures from LTE, what is left of the Earth's air:
stars with labels on a good scale tell them all, as straight functions of temperature, gravity and
metallicity. They are added to the content of tokens.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from spectrolabe.models.tokens import COVERAGE_FLOOR, NODES, Tokens, ladder_level, node_width

__all__ = ["TERMS", "Observed"]

LEVEL = 2  # of the ladder: R = 2000, that of surveys with many stars
TERMS = 4  # 1, temperature, gravity and metallicity
RANGE = (3000.0, 20_000.0)  # Å
EVEN = 0.005  # of the continuum: errors below this are not told from each other


class Observed(nn.Module):
    """Observed less computed content, rows @ (1, Teff, log g, [Fe/H]); nothing until learnt.

    Labels are scaled as those of compact spectra, and held within the range of the stars that it
    was learnt from. Rows are at nodes of one level, and between them on straight lines.
    """

    rows: Tensor
    error: Tensor
    low: Tensor
    high: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("rows", torch.zeros(0, TERMS))
        self.register_buffer("error", torch.zeros(0))
        self.register_buffer("low", torch.zeros(TERMS - 1))
        self.register_buffer("high", torch.zeros(TERMS - 1))
        self.step = node_width(LEVEL)
        begin, end = (int(math.log(limit) / self.step) for limit in RANGE)
        self.first, self.size = begin, end - begin

    @property
    def count(self) -> int:
        """How many functions this adds to those of compact spectra."""
        return TERMS if len(self.rows) else 0

    def terms(self, labels: Tensor) -> Tensor:
        """Return what the rows are multiplied with, (S, TERMS); labels (S, 3)."""
        held = labels.clamp(self.low, self.high)
        return torch.cat([torch.ones_like(held[:, :1]), held], dim=1)

    def slopes(self, labels: Tensor) -> Tensor:
        """Return the slopes of the terms with the labels, (S, 3, TERMS)."""
        inside = ((labels > self.low) & (labels < self.high)).to(labels.dtype)
        return torch.nn.functional.pad(torch.diag_embed(inside), (1, 0))

    def at(self, places: Tensor, reach: int = 0) -> Tensor:
        """Return the rows on the nodes of places, and ``reach`` nodes on either side.

        Parameters
        ----------
        places : Tensor, shape (P, 2)
            See `spectrolabe.models.tokens.Tokens`.
        reach : int

        Returns
        -------
        Tensor, shape (P, NODES + 2 reach, TERMS)
        """
        return self._between(self.rows, self.node(places, reach))

    def errors(self, places: Tensor) -> tuple[Tensor, Tensor]:
        """Return how wrong spectra are that have these rows, beyond their noise.

        Parameters
        ----------
        places : Tensor, shape (P, 2)

        Returns
        -------
        tuple of Tensor, shapes (P,) and (P, NODES)
            Variance of tokens; and by how much more each node counts than others of its token.
        """
        if not self.count:
            return torch.zeros_like(places[:, 0]), places.new_ones(len(places), NODES)
        variance = self._between(self.error[:, None], self.node(places))[..., 0] ** 2 + EVEN**2
        mean = 1.0 / (1.0 / variance).mean(dim=1)
        return mean - EVEN**2, mean[:, None] / variance

    def _between(self, rows: Tensor, where: Tensor) -> Tensor:
        """Rows at places among them; 0 beyond."""
        rows = torch.nn.functional.pad(rows, (0, 0, 0, 1))
        left = where.floor()
        share = (where - left).float()[..., None]
        return rows[self._inside(left)] * (1.0 - share) + rows[self._inside(left + 1)] * share

    def node(self, places: Tensor, reach: int = 0) -> Tensor:
        """Return where the nodes of places are among the rows, (P, NODES + 2 reach), float64."""
        levels = ladder_level(places[:, 1].double().exp())
        width = torch.zeros_like(places[:, 0], dtype=torch.float64)
        for level in torch.unique(levels).tolist():
            width[levels == level] = node_width(level)
        token = torch.round(places[:, 0].double() / width / NODES - 0.5)
        node = token[:, None] * NODES + torch.arange(-reach, NODES + reach, device=places.device)
        return (node + 0.5) * width[:, None] / self.step - 0.5 - self.first

    def _inside(self, node: Tensor) -> Tensor:
        """Rows of whole nodes; the last where there are none."""
        return torch.where((node >= 0) & (node < self.size), node, self.size).long()

    def added(self, tokens: Tokens, labels: Tensor) -> Tokens:
        """Return tokens of computed spectra as those of observed ones would be.

        Parameters
        ----------
        tokens : Tokens
        labels : Tensor, shape (B, 3)
            Scaled temperature, gravity and metallicity; nothing is added where they are NaN.
        """
        if not self.count:
            return tokens
        more = self.at(tokens.places) @ self.terms(labels).nan_to_num(0.0).T  # (P, NODES, B)
        spectrum = torch.arange(len(tokens.place), device=labels.device)[:, None]
        more = more.transpose(1, 2)[tokens.place, spectrum.expand_as(tokens.place)]
        cover = tokens.coverage * tokens.valid[..., None]
        return replace(tokens, content=tokens.content + more * cover / (cover + COVERAGE_FLOOR))

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Take rows of any number; models that have learnt none need not say so."""
        own = {name: getattr(self, name) for name in ("rows", "error", "low", "high")}
        for name, value in own.items():
            state.setdefault(prefix + name, value)
        for name in ("rows", "error"):
            setattr(self, name, torch.empty_like(state[prefix + name]))
        super()._load_from_state_dict(state, prefix, *rest)
