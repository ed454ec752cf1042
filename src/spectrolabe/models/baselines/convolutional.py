"""A small convolutional network, of the kind of StarNet and ApogeeCNN."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from spectrolabe.models.baselines.base import Baseline, Member, Pixels

if TYPE_CHECKING:
    import torch

__all__ = ["ConvolutionalBaseline"]

DEGREES = 4  # of the continuum jitter: constant to cubic


class ConvolutionalBaseline(Baseline):
    """Two convolutions and two dense layers (Fabbro et al. 2018; Leung & Bovy 2019), made small.

    Every batch is disturbed by noise, by a cubic continuum and by a shift of one pixel. The loss is
    that of a Student t distribution with a learned width, so that wrong training labels count
    little. The network kept is the running average of the weights at the epoch that was best on the
    fold held out.

    Parameters
    ----------
    seed, folds : int
        As in `Baseline`.
    epochs : int
    """

    batch = 64  # at most; a tenth of the training set where that is less
    learning_rate = 2e-3
    weight_decay = 0.01
    dropout = 0.2
    continuum_jitter = 0.02

    def __init__(self, *, seed: int = 0, folds: int = 5, epochs: int = 150) -> None:
        super().__init__(seed=seed, folds=folds)
        self.epochs = epochs

    def _fit(self, training: Pixels, held_out: Pixels, rng: np.random.Generator) -> Member:
        import torch

        centre = np.median(training.flux, axis=0)
        spread = float(np.std(training.flux - centre))

        def tensor(flux: NDArray) -> torch.Tensor:
            return torch.as_tensor((flux - centre) / spread, dtype=torch.float32)[:, None]

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(rng.integers(2**31)))
            disturb = _Disturbance(centre / spread, training.noise / spread, self.continuum_jitter)
            network = self._network(training.flux.shape[1], training.labels.shape[1])
            network = self._train(network, disturb, training, held_out, tensor)

        def predict(flux: NDArray) -> NDArray:
            with torch.no_grad():
                return network(tensor(flux)).double().numpy()

        return predict

    def _network(self, pixels: int, labels: int) -> torch.nn.Sequential:
        from torch import nn

        return nn.Sequential(  # (B, 1, P)
            nn.Conv1d(1, 16, 8, stride=4, padding=4),
            nn.GELU(),
            nn.Conv1d(16, 32, 4, stride=2, padding=2),
            nn.GELU(),  # (B, 32, P / 8)
            nn.Flatten(),
            nn.Dropout(self.dropout),
            nn.Linear(32 * ((pixels // 4 + 1) // 2 + 1), 128),
            nn.GELU(),
            nn.Dropout(self.dropout),
            nn.Linear(128, labels),
        )

    def _train(
        self,
        network: torch.nn.Sequential,
        disturb: _Disturbance,
        training: Pixels,
        held_out: Pixels,
        tensor: Callable[[NDArray], torch.Tensor],
    ) -> torch.nn.Sequential:
        import torch

        flux, labels = tensor(training.flux), _known(training.labels)
        own_flux, own_labels = tensor(held_out.flux), _known(held_out.labels)
        width = torch.nn.Parameter(torch.full((training.labels.shape[1],), -1.5))  # logarithm
        groups = [
            {"params": network.parameters(), "weight_decay": self.weight_decay},
            {"params": [width], "weight_decay": 0.0},
        ]
        batch = min(self.batch, max(len(flux) // 10, 1))
        batches = math.ceil(len(flux) / batch)
        optimiser = torch.optim.AdamW(groups, lr=self.learning_rate)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, self.learning_rate, total_steps=batches * self.epochs, pct_start=0.1
        )
        average = copy.deepcopy(network).eval()
        best, lowest = copy.deepcopy(average), math.inf
        for epoch in range(self.epochs):
            for rows in torch.randperm(len(flux)).split(batch):
                residual = network(disturb(flux[rows])) - labels[rows]
                loss = _student(residual, width)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                schedule.step()
                _follow(average, network, step=schedule.last_epoch)
            with torch.no_grad():
                error = _student(average(own_flux) - own_labels, width).item()
            if error < lowest or epoch == 0:
                best, lowest = copy.deepcopy(average), error
        return best


class _Disturbance:
    """What two spectra of one star differ by: noise, continuum, a fraction of a pixel."""

    def __init__(self, centre: NDArray, noise: NDArray, jitter: float) -> None:
        import torch

        self.centre = torch.as_tensor(centre, dtype=torch.float32)
        self.noise = torch.as_tensor(noise, dtype=torch.float32)
        x = torch.linspace(-1.0, 1.0, len(centre))
        self.curves = jitter * torch.stack([x**degree for degree in range(DEGREES)])

    def __call__(self, flux: torch.Tensor) -> torch.Tensor:
        import torch

        whole = flux + self.centre  # (B, 1, P)
        whole = whole * (1.0 + torch.randn(len(flux), 1, DEGREES) @ self.curves)
        whole = whole + torch.rand(len(flux), 1, 1) * self.noise * torch.randn_like(flux)
        pixel = int(torch.randint(-1, 2, (1,)))
        return torch.roll(whole, pixel, dims=-1) - self.centre


def _known(labels: NDArray) -> torch.Tensor:
    import torch

    return torch.as_tensor(labels, dtype=torch.float32)


def _student(residual: torch.Tensor, width: torch.Tensor) -> torch.Tensor:
    """Minus the log likelihood under Student's t with 3 degrees of freedom; NaN is left out."""
    import torch

    known = ~torch.isnan(residual)
    square = torch.where(known, residual, 0.0) / width.exp()
    terms = width + 2.0 * torch.log1p(square**2 / 3.0)
    return (terms * known).sum() / known.sum()


def _follow(average: torch.nn.Module, network: torch.nn.Module, step: int) -> None:
    """Move the running average of the weights; it forgets the start quickly."""
    import torch

    keep = min(0.998, step / (step + 20.0))
    with torch.no_grad():
        for mean, now in zip(average.parameters(), network.parameters(), strict=True):
            mean.lerp_(now, 1.0 - keep)
