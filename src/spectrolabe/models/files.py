"""The files of a model: weights in safetensors beside a JSON card that vouches for them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from spectrolabe.errors import InputError
from spectrolabe.guard import read_json, unwritten

__all__ = [
    "CARD",
    "FORMAT",
    "FORMAT_VERSION",
    "WEIGHTS",
    "built",
    "read_card",
    "read_weights",
    "write_file",
]

FORMAT, FORMAT_VERSION = "spectrolabe-encoder", 1  # of most models; others have their own
LARGEST = 100_000  # of a number among the sizes of a network
CARD, WEIGHTS = "card.json", "model.safetensors"


def write_file(path: Path, content: bytes) -> None:
    """Write a whole file or nothing: a full disk or an interruption leaves the old one.

    Raises
    ------
    InputError
        If the disk does not take it.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")  # others may write the same
    try:
        with partial.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise unwritten(path, error) from error


def read_card(
    folder: str | Path, kind: str = FORMAT, version: int = FORMAT_VERSION
) -> dict[str, Any]:
    """Read the card of a model.

    Parameters
    ----------
    folder : str or Path
    kind, version : str, int
        Format that it must have.

    Raises
    ------
    InputError
        If there is no model, or it is of another kind or format version.
    """
    path = Path(folder) / CARD
    if not path.is_file():
        raise InputError(
            folder,
            expected=f"a model folder with {CARD}",
            found="none",
            fix="Give a run of `spectrolabe train`, or a folder under weights/.",
        )
    card = read_json(path, "a JSON card")
    found = (card.get("format"), card.get("format_version"))
    if found != (kind, version):
        raise InputError(
            path,
            expected=f"{kind} version {version}",
            found=f"{found[0]} version {found[1]}",
            fix="Train it again with this version, or install the version that wrote it.",
        )
    return card


def read_weights(folder: str | Path, card: Mapping[str, Any]) -> dict[str, Tensor]:
    """Read the weights that a card vouches for.

    Raises
    ------
    InputError
        If they are missing, damaged or not those of the card.
    """
    path = Path(folder) / WEIGHTS
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(path, expected="the weights of the card", found=str(error)) from error
    if digest != card.get("weights_sha256"):
        raise InputError(
            path,
            expected=f"sha256 {str(card.get('weights_sha256'))[:12]}",
            found=digest[:12],
            fix="The file is damaged or belongs to another card; copy the folder again.",
        )
    return tensors


Network = TypeVar("Network", bound=nn.Module)


def built(
    make: Callable[[], Network],
    sizes: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    path: Path,
    kind: str = "network",
) -> Network:
    """Return a network with its weights; none is made that is larger than its weights are.

    Parameters
    ----------
    make : callable
        Makes the network.
    sizes : Mapping
        What a card says of its sizes, of any depth.
    tensors : Mapping of str to Tensor
        Its weights, and no others.
    path : Path
        Of the weights, for messages.
    kind : str
        What the network is called there.

    Raises
    ------
    InputError
        If a size makes no sense, or the weights are not those of the network.
    """
    _check_sizes(sizes, len(tensors), path)
    with torch.device("meta"):
        wanted = sum(value.numel() for value in make().state_dict().values())
    there = sum(value.numel() for value in tensors.values())
    if wanted > there:
        raise InputError(
            path, expected=f"weights of this {kind}, {wanted} numbers", found=f"{there}"
        )
    network = make()
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise InputError(path, expected=f"weights of this {kind}", found=str(error)) from error
    return network


def _check_sizes(sizes: Mapping[str, Any], tensors: int, path: Path) -> None:
    """See that sizes are some, and that each layer can have weights: even sketches take time."""
    for name, value in sizes.items():
        if isinstance(value, Mapping):
            _check_sizes(value, tensors, path)
            continue
        most = tensors if name.endswith(("layers", "blocks")) else LARGEST
        if isinstance(value, int) and not 0 <= value <= most:
            raise InputError(
                path, expected=f"a {name} of 0 to {most}", found=f"{value} in the card"
            )
