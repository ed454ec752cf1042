"""The files of a model: weights in safetensors beside a JSON card that vouches for them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from spectrolabe.errors import InputError

__all__ = [
    "CARD",
    "FORMAT",
    "FORMAT_VERSION",
    "WEIGHTS",
    "read_card",
    "read_weights",
    "write_file",
]

FORMAT, FORMAT_VERSION = "spectrolabe-encoder", 1  # of most models; others have their own
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
        raise InputError(
            path, expected="room to write", found=f"{error}", fix="Free some disk and run again."
        ) from error


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
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise InputError(path, expected="a JSON card", found=str(error)) from error
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
    if digest != card["weights_sha256"]:
        raise InputError(
            path,
            expected=f"sha256 {card['weights_sha256'][:12]}",
            found=digest[:12],
            fix="The file is damaged or belongs to another card; copy the folder again.",
        )
    return tensors
