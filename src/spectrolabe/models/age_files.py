"""Models of ages on disk: weights in safetensors beside a JSON card. No pickle."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import save

from spectrolabe.guard import blaming
from spectrolabe.labels import LABELS, LabelScale
from spectrolabe.models.ages import AgeModel, AgeNetwork, AgeShape
from spectrolabe.models.files import CARD, WEIGHTS, built, read_card, read_weights, write_file
from spectrolabe.models.released import AGES, find_model

__all__ = ["FORMAT_VERSION", "load_ages", "save_ages"]

FORMAT_VERSION = 1


def save_ages(model: AgeModel, folder: str | Path) -> Path:
    """Write ``model.safetensors`` and ``card.json``; the card last, so that it vouches for both."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    state = model.network.state_dict()
    content = save({name: value.float().contiguous() for name, value in state.items()})
    shape = model.network.shape
    own = {
        "format": AGES,
        "format_version": FORMAT_VERSION,
        "inputs": [
            {
                "name": name,
                "unit": LABELS[name].unit,
                "centre": float(model.inputs.centre[i]),
                "width": float(model.inputs.width[i]),
                "low": float(model.low[i]),
                "high": float(model.high[i]),
            }
            for i, name in enumerate(model.names)
        ],
        "scales": [
            {"name": name, "recalibration": model.recalibration[i].tolist()}
            for i, name in enumerate(model.scales)
        ],
        "scale": model.scale,
        "log_age": {"centre": model.centre, "spread": model.spread},
        "network": {
            "members": shape.members,
            "width": shape.width,
            "components": shape.components,
        },
        "weights_sha256": hashlib.sha256(content).hexdigest(),
    }
    card = {**own, **{key: value for key, value in model.card.items() if key not in own}}
    write_file(folder / WEIGHTS, content)
    write_file(folder / CARD, (json.dumps(card, indent=1) + "\n").encode())
    return folder


def load_ages(name: str | Path = "default", scale: str | None = None) -> AgeModel:
    """Load a model of ages.

    Parameters
    ----------
    name : str or Path
        A folder, a name under ``weights/``, or ``default``.
    scale : str, optional
        Age scale of its predictions; the card names those that it has, and the default.

    Raises
    ------
    InputError
        If there is no such model or scale, or the weights are not those of the card.
    """
    folder = find_model(name, AGES)
    with blaming(folder, "a model of ages"):
        model = _loaded(folder, read_card(folder, AGES, FORMAT_VERSION))
    return model if scale is None else model.on(scale)


def _loaded(folder: Path, card: Mapping[str, Any]) -> AgeModel:
    inputs, scales = card["inputs"], card["scales"]
    shape = AgeShape(len(inputs), len(scales), **card["network"])
    weights = read_weights(folder, card)
    network = built(lambda: AgeNetwork(shape), vars(shape), weights, folder / WEIGHTS)
    return AgeModel(
        network,
        LabelScale(
            tuple(one["name"] for one in inputs),
            _column(inputs, "centre"),
            _column(inputs, "width"),
        ),
        _column(inputs, "low"),
        _column(inputs, "high"),
        tuple(one["name"] for one in scales),
        card["log_age"]["centre"],
        card["log_age"]["spread"],
        np.array([one["recalibration"] for one in scales]),
        card["scale"],
        card,
    )


def _column(entries: Sequence[Mapping[str, Any]], key: str) -> NDArray:
    return np.array([entry[key] for entry in entries], dtype=float)
