"""Starting from a trained model: what is taken over from it, and what of it may change.

Three recipes. ``full``: all weights learn. ``head``: the head alone. ``lowrank``: the head, and
for every matrix W of the trunk a change B A of low rank (Hu et al. 2022, ICLR), which is added to W
when the fit is done: a finished model has no trace of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from spectrolabe.config import EncoderConfig, TrainConfig, TransferConfig
from spectrolabe.errors import InputError, unknown_name
from spectrolabe.models.checkpoint import load
from spectrolabe.models.encoder import Encoder
from spectrolabe.models.estimator import Estimator
from spectrolabe.models.released import find_model

__all__ = ["Start", "continued", "encoder_from", "merge", "prepare", "read_start"]

HEAD = "head"  # of the encoder: the module, and its key in the configuration
FREE = (HEAD, "dropout")  # keys of [encoder] that may differ from those of the start


@dataclass(frozen=True, eq=False)
class Start:
    """A trained model to start from."""

    estimator: Estimator

    @property
    def name(self) -> str:
        """As its card has it."""
        return str(self.estimator.card["name"])

    @property
    def sha256(self) -> str:
        """Of its weights."""
        return str(self.estimator.card["weights_sha256"])

    @property
    def encoder(self) -> EncoderConfig:
        """Sizes of its encoder."""
        return EncoderConfig(**self.estimator.card["encoder"])


def read_start(transfer: TransferConfig) -> Start | None:
    """Load the model that a configuration starts from, if any.

    Raises
    ------
    InputError
        If there is no such model, or it is damaged.
    """
    return Start(load(find_model(transfer.start))) if transfer.start else None


def continued(config: TrainConfig, start: Start) -> TrainConfig:
    """Return a configuration with the encoder of its start.

    Dropout and head are those of the configuration where it has them.

    Raises
    ------
    InputError
        If it asks for another trunk, or for labels that the start does not predict.
    """
    known = start.estimator.names
    for name in config.data.labels:
        if name not in known:
            raise unknown_name(
                f"data.labels of {config.name}", name, known, kind=f"label of {start.name}"
            )
    own = start.encoder
    for key in config.encoder.model_fields_set - set(FREE):
        wanted, found = getattr(config.encoder, key), getattr(own, key)
        if wanted != found:
            raise InputError(
                f"encoder.{key}",
                expected=f"{found!r}, as {start.name} has it",
                found=repr(wanted),
                fix="Leave [encoder] out, or start from another model.",
            )
    changes = {
        key: getattr(config.encoder, key) for key in FREE if key in config.encoder.model_fields_set
    }
    return config.model_copy(update={"encoder": own.model_copy(update=changes)})


def encoder_from(start: Start, config: EncoderConfig) -> Encoder:
    """Return an encoder with the weights of a start; a head of another kind is new.

    Parameters
    ----------
    start : Start
    config : EncoderConfig
        As `continued` makes it.
    """
    estimator = start.estimator
    encoder = Encoder(config, len(estimator.names))
    state = estimator.encoder.state_dict()
    if same_head(start, config):
        encoder.load_state_dict(state)
        return encoder
    trunk = {name: value for name, value in state.items() if not _of_head(name)}
    encoder.load_state_dict(encoder.state_dict() | trunk)
    ranges = estimator.card["training_data"]["label_range"]
    edges = torch.tensor([ranges[name] for name in estimator.names], dtype=torch.float64).T
    scaled = torch.from_numpy(estimator.scale.scale(edges.numpy())).float()
    encoder.head.set_range(scaled)
    return encoder


def same_head(start: Start, config: EncoderConfig) -> bool:
    """Tell whether a configuration has the head of a start."""
    return getattr(start.encoder, HEAD, None) == getattr(config, HEAD, None)


def _held(name: str) -> bool:
    """Tell whether a module is of the first fit, which never learns."""
    return name.startswith("guesser.")


def _of_head(name: str) -> bool:
    return name.startswith(f"{HEAD}.")


class LowRank(nn.Module):
    """W -> W + B A, with B zero at first.

    Parameters
    ----------
    weight : Tensor, shape (O, I)
    rank : int
    """

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        out, into = weight.shape
        rank = min(rank, out, into)
        self.down = nn.Parameter(torch.randn(rank, into) / math.sqrt(into))
        self.up = nn.Parameter(torch.zeros(out, rank))

    def forward(self, weight: Tensor) -> Tensor:
        """Return the changed matrix."""
        return weight + self.up @ self.down


def prepare(encoder: Encoder, transfer: TransferConfig) -> None:
    """Let of an encoder learn what the recipe allows; the other weights are held.

    The random numbers are torch's: seed them before.
    """
    if transfer.recipe == "full":
        return
    for name, parameter in encoder.named_parameters():
        parameter.requires_grad_(_of_head(name))
    if transfer.recipe == "lowrank":
        linear = [
            module
            for name, module in encoder.named_modules()
            if isinstance(module, nn.Linear) and not _of_head(name) and not _held(name)
        ]
        for module in linear:
            change = LowRank(module.weight, transfer.rank)
            parametrize.register_parametrization(module, "weight", change)


def merge(encoder: Encoder) -> Encoder:
    """Add the changes of low rank to the matrices, and let all weights learn again."""
    for module in encoder.modules():
        if isinstance(module, nn.Linear) and parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
    encoder.requires_grad_(True)
    if encoder.guesser is not None:
        encoder.guesser.requires_grad_(False)
    return encoder
