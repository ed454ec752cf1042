"""Checkpoints: weights in safetensors beside a JSON card that says what they are. No pickle."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor, from_numpy

from spectrolabe.config import EncoderConfig
from spectrolabe.guard import blaming
from spectrolabe.labels import LABELS, Labels, LabelScale
from spectrolabe.models.encoder import Encoder
from spectrolabe.models.estimator import Estimator
from spectrolabe.models.files import (
    CARD,
    FORMAT,
    FORMAT_VERSION,
    WEIGHTS,
    built,
    read_card,
    read_weights,
    write_file,
)
from spectrolabe.models.uncertainty import Coverage, Recalibration

__all__ = ["load", "save_estimator"]


def save_estimator(estimator: Estimator, folder: str | Path) -> Path:
    """Write ``model.safetensors`` and ``card.json``; the card last, so that it vouches for both.

    Parameters
    ----------
    estimator : Estimator
        Its card must have ``encoder`` (an `EncoderConfig` as a dict).
    folder : str or Path

    Returns
    -------
    Path
        The folder.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, Tensor] = {
        f"encoder.{name}": value.contiguous().cpu()
        for name, value in estimator.encoder.state_dict().items()
    }
    arrays = _coverage_arrays(estimator.coverage, estimator.scale)
    tensors |= {name: from_numpy(np.array(array)) for name, array in arrays.items()}
    content = save(tensors)
    names = estimator.names
    card = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "labels": [
            {
                "name": name,
                "unit": LABELS[name].unit,
                "centre": float(estimator.scale.centre[i]),
                "width": float(estimator.scale.width[i]),
                **_terms(estimator.recalibration, i),
            }
            for i, name in enumerate(names)
        ],
        "recalibration_of_surveys": {
            survey: {name: _terms(own, i) for i, name in enumerate(names)}
            for survey, own in estimator.recalibration.surveys.items()
        },
        "coverage_limit": estimator.coverage.limit,
        "weights_sha256": hashlib.sha256(content).hexdigest(),
        **{k: v for k, v in estimator.card.items() if k not in _OWN_KEYS},
    }
    write_file(folder / WEIGHTS, content)
    write_file(folder / CARD, (json.dumps(card, indent=1) + "\n").encode())
    return folder


_OWN_KEYS = {
    "format",
    "format_version",
    "labels",
    "recalibration_of_surveys",
    "coverage_limit",
    "weights_sha256",
}
TERMS = {"shift": "shift", "sigma_scale": "scale", "sigma_floor": "floor", "sigma_noise": "noise"}


def _terms(recalibration: Recalibration, i: int) -> dict[str, float]:
    """What the card says of the recalibration of one label."""
    return {key: float(getattr(recalibration, term)[i]) for key, term in TERMS.items()}


def _coverage_arrays(coverage: Coverage, scale: LabelScale) -> dict[str, NDArray]:
    """The reference stars; their identifiers as the bytes of lines of text."""
    arrays = {
        "coverage.reference": coverage.reference.astype(np.float16),
        "coverage.width": coverage.width,
    }
    if coverage.stars is not None:
        stars = coverage.stars.select(scale.names)
        identifiers = "\n".join(stars.star_id.tolist()).encode()
        arrays["coverage.star_id"] = np.frombuffer(identifiers, dtype=np.uint8)
        arrays["coverage.labels"] = scale.scale(stars.values).astype(np.float32)
        arrays["coverage.sigma"] = (stars.sigma / scale.width).astype(np.float16)
    return arrays


def load(folder: str | Path) -> Estimator:
    """Load a trained model.

    Raises
    ------
    InputError
        As `read_card`; also if the weights are missing, damaged or not those of the card.
    """
    with blaming(folder, "a model that `spectrolabe train` wrote"):
        card = read_card(folder)
        return _estimator(card, read_weights(folder, card), Path(folder) / WEIGHTS)


def _estimator(card: Mapping[str, Any], tensors: dict[str, Tensor], path: Path) -> Estimator:
    labels = card["labels"]
    config = EncoderConfig(**card["encoder"])
    prefix = "encoder."
    state = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    encoder = built(
        lambda: Encoder(config, len(labels)), config.model_dump(), state, path, "encoder"
    )
    column = lambda key: np.array([entry[key] for entry in labels], dtype=float)  # noqa: E731
    names = tuple(entry["name"] for entry in labels)
    scale = LabelScale(names, column("centre"), column("width"))
    return Estimator(
        encoder,
        scale,
        _recalibration(card, names),
        _coverage(tensors, card["coverage_limit"], scale),
        card,
    )


def _recalibration(card: Mapping[str, Any], names: Sequence[str]) -> Recalibration:
    """That of all surveys together, and of each that has its own; old cards have none."""

    def of(entries: Sequence[Mapping[str, float]], **surveys: Any) -> Recalibration:
        shift, scale, floor, noise = (np.array([e[key] for e in entries], float) for key in TERMS)
        return Recalibration(shift, scale, floor, noise, **surveys)

    own = card.get("recalibration_of_surveys", {})
    return of(
        card["labels"],
        surveys={survey: of([by[name] for name in names]) for survey, by in own.items()},
    )


def _coverage(tensors: Mapping[str, Tensor], limit: float, scale: LabelScale) -> Coverage:
    reference, width = tensors["coverage.reference"], tensors["coverage.width"]
    stars = None
    if "coverage.star_id" in tensors:
        identifiers = bytes(tensors["coverage.star_id"].numpy()).decode().split("\n")
        values = scale.unscale(tensors["coverage.labels"].double().numpy())
        sigma = tensors["coverage.sigma"].double().numpy() * scale.width
        stars = Labels(scale.names, values, sigma, np.array(identifiers))
    return Coverage(reference.float().numpy(), width.numpy(), limit, stars)
