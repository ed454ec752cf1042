"""A network of how much of each function a star has, for `spectrolabe.training.compact`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from spectrolabe.config import CompactMaking
from spectrolabe.models.compact import Amounts
from spectrolabe.models.emulator import STRUCTURAL
from spectrolabe.training.loop import Run, learn
from spectrolabe.training.node_scale import NodeScale

__all__ = ["COMMON", "AmountsTask", "Shown", "learnt_amounts"]

AMOUNT_UNIT, SLOPE_UNIT = 0.002, 0.1  # of the continuum, and of a slope: errors that count alike
COMMON = (*STRUCTURAL, "v_broad")  # labels that decide how a star looks whatever its abundances


class Shown(NamedTuple):
    """What stars have of the functions.

    Parameters
    ----------
    labels : Tensor, shape (N, A)
        Scaled.
    amounts : Tensor, shape (N, 1 + A, M)
        Of the spectrum and of its slopes; (N, 1, M) without them.
    """

    labels: Tensor
    amounts: Tensor


class AmountsTask:
    """Amounts of functions from labels, for `spectrolabe.training.loop.learn`.

    Parameters
    ----------
    making : CompactMaking
    scale : NodeScale
    plain, steep : Shown
        Without slopes, and with.
    nodes : int
        Of a spectrum: a sum of squares of amounts is one over so many.
    """

    def __init__(
        self, making: CompactMaking, scale: NodeScale, plain: Shown, steep: Shown, nodes: int
    ) -> None:
        torch.manual_seed(making.training.seed)
        self.plain, self.steep, self.nodes = plain, steep, nodes
        self.settings, self.size = making.training, making.training.batch_size
        self.power = steep.amounts[:, 1:].square().sum(dim=2).median(dim=0).values.clamp(min=1e-12)
        self.model: nn.Module = _network(making, scale, plain.amounts[:, 0])
        self.spectra, self.selects = len(plain.labels), False
        self.steps = -(-len(plain.labels) // (3 * self.size))

    def losses(self, run: Run, rng: np.random.Generator) -> Iterator[Tensor]:
        """Yield the loss of each batch of stars."""
        order = torch.from_numpy(rng.permutation(len(self.plain.labels)))
        for rows in order.split(3 * self.size):
            few = torch.from_numpy(rng.integers(len(self.steep.labels), size=self.size))
            yield self.loss(cast(Amounts, run.task.model), rows, few)

    def loss(self, model: Amounts, rows: Tensor, few: Tensor) -> Tensor:
        """Errors of spectra and slopes; logarithms keep a few odd stars from ruling."""
        amounts = model(self.plain.labels[rows]) - self.plain.amounts[rows, 0]
        steep = model.with_slopes(self.steep.labels[few]) - self.steep.amounts[few]
        flux = torch.cat([amounts, steep[:, 0]]).square().sum(dim=1) / self.nodes
        slopes = steep[:, 1:].square().sum(dim=2) / self.power
        flux, slopes = flux / AMOUNT_UNIT**2, slopes / SLOPE_UNIT**2
        return 3.0 * torch.log1p(flux).mean() + torch.log1p(slopes).mean()

    def score(self, model: nn.Module) -> tuple[float, dict[str, Any]]:
        """There are no stars to select by."""
        return float("inf"), {}


def _network(making: CompactMaking, scale: NodeScale, amounts: Tensor) -> Amounts:
    """A network of random weights of the size of the amounts."""
    names = scale.names
    elements = [i for i, name in enumerate(names) if name not in COMMON]
    fe_h = scale.width[names.index("fe_h")]
    per_fe_h = [fe_h / scale.width[i] if names[i].endswith("_fe") else 0.0 for i in elements]
    network = Amounts(
        torch.tensor([names.index(name) for name in COMMON]),
        torch.tensor(elements),
        torch.tensor(per_fe_h),
        making.functions,
        making.width,
        making.own,
    )
    size = amounts.std(dim=0)
    with torch.no_grad():
        network.out.bias.copy_(amounts.mean(dim=0))
        network.out.weight.mul_(0.5 * size[:, None])
        network.item_out.mul_(0.5 * size)
    return network


def learnt_amounts(task: AmountsTask, folder: Path | None, progress: bool) -> Amounts:
    """Return a network that has learnt the amounts.

    Parameters
    ----------
    task : AmountsTask
    folder : Path, optional
        Of the run, which continues where it was.
    progress : bool
    """
    settings = task.settings
    if folder is None:
        with TemporaryDirectory() as name:
            return cast(Amounts, learn(task, settings, Path(name), progress=progress))
    return cast(Amounts, learn(task, settings, folder, title="amounts", progress=progress))
