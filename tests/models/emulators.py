"""An emulator of made-up stars: smooth, cheap, and every label changes lines of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spectrolabe.labels import LabelScale
from spectrolabe.models.emulator import Basis, Emulator
from spectrolabe.synthesis.sampling import ABUNDANCES

NAMES = ("teff", "logg", "fe_h", "v_micro", *ABUNDANCES)
LOW = np.array([4250.0, 0.5, -2.5, 0.5] + [-0.8] * 30)
HIGH = np.array([7500.0, 5.0, 0.5, 3.0] + [1.0] * 30)
MEAN = np.array([5500.0, 3.2, -0.6, 1.4] + [0.05] * 30)
SPREAD = np.array([800.0, 1.2, 0.7, 0.4] + [0.25] * 30)
RESOLUTION, PIXELS = 28000.0, 320


def forward_mode(
    function: Callable[[Tensor], Tensor], labels: Tensor, directions: Tensor
) -> Tensor:
    """Return a function of labels and its slopes, shape (N, 1 + J, ...), for any function.

    Parameters
    ----------
    function : callable
        Of labels, shape (N, L), a star at a time.
    labels : Tensor, shape (N, L)
    directions : Tensor, shape (J, L)
    """

    def along(direction: Tensor) -> Any:
        return torch.func.jvp(function, (labels,), (direction.expand_as(labels),))[1]

    slopes = torch.func.vmap(along, out_dims=1)(directions)
    return torch.cat([function(labels)[:, None], slopes], dim=1)


class Smooth(nn.Module):
    """Latents that are second-order polynomials of the scaled labels, bounded by a tanh."""

    def __init__(self, linear: Tensor, quadratic: Tensor) -> None:
        super().__init__()
        self.linear, self.quadratic = nn.Parameter(linear), nn.Parameter(quadratic)

    def forward(self, labels: Tensor) -> Tensor:
        """Return the latents of all patches, and the continuum there."""
        value = torch.einsum("nl,plk->npk", labels, self.linear)
        value = value + torch.einsum("nl,plk->npk", labels**2, self.quadratic)
        return 3.0 * torch.tanh(value / 3.0)

    def with_slopes(
        self, labels: Tensor, directions: Tensor, readout: tuple[slice, Tensor] | None = None
    ) -> Tensor:
        """Return latents and their slopes along some changes of the labels."""
        every = forward_mode(self, labels, directions)
        if readout is None:
            return every
        patches, mixing = readout
        return torch.einsum("ntpk,pkr->ntpr", every[:, :, patches, :-1], mixing)

    def readout(self, patches: slice, mixing: Tensor) -> tuple[slice, Tensor]:
        """Return what reads mixtures of the latents of some patches."""
        return patches, mixing


def made_up_emulator(low: float = 5000.0, high: float = 5400.0, seed: int = 0) -> Emulator:
    """Return an emulator from ``low`` to ``high`` vacuum Angstrom with lines of all labels."""
    rng = np.random.default_rng(seed)
    step = 1.0 / (3.0 * RESOLUTION)
    patches = int(np.ceil(np.log(high / low) / step / PIXELS))
    components = len(NAMES)
    pixel = np.arange(PIXELS)
    # each component: a few unresolved lines inside the patch, deeper for the first labels
    centre = rng.uniform(8, PIXELS - 8, (patches, components, 3))
    depth = rng.uniform(0.005, 0.02, (patches, components, 3))
    depth[:, :4] *= 3
    shape = np.exp(-0.5 * ((pixel - centre[..., None]) / 1.5) ** 2)
    basis = -(depth[..., None] * shape).sum(axis=2)
    offset = 1.0 + 4.0 * basis.mean(axis=1)
    linear = np.zeros((patches, components, components + 1))
    linear[:, np.arange(components), np.arange(components)] = 1.0
    linear += 0.1 * rng.standard_normal(linear.shape) / components**0.5
    quadratic = 0.1 * rng.standard_normal(linear.shape) / components**0.5
    to_tensor = lambda a: torch.tensor(a, dtype=torch.float32)  # noqa: E731
    return Emulator(
        Smooth(to_tensor(linear), to_tensor(quadratic)),
        Basis(
            float(np.log(low)),
            step,
            to_tensor(offset),
            to_tensor(basis),
            np.stack([np.full(patches, 6.5), np.full(patches, 0.3)]),
            RESOLUTION,
        ),
        LabelScale(NAMES, MEAN, SPREAD),
        low=LOW,
        high=HIGH,
        mean=MEAN,
        spread=SPREAD,
        card={"name": "made-up"},
    )
