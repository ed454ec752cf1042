"""Configurations: strict TOML files with ``key=value`` overrides; an unknown key is an error."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from spectrolabe.errors import InputError, unknown_name

__all__ = [
    "AugmentationConfig",
    "DataConfig",
    "EncoderConfig",
    "TrainConfig",
    "TrainingConfig",
    "load_config",
]

Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
Count = Annotated[int, Field(ge=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataConfig(_Strict):
    """What to learn from.

    Parameters
    ----------
    store : str
        A folder written by ``spectrolabe ingest``.
    labels : tuple of str
        Registry names to predict; a star that lacks some still teaches the others.
    split : str
        Rows whose split has this name are used; empty = all rows.
    selection, calibration : float
        Fractions of the stars kept aside to stop training early, and to recalibrate the
        uncertainties. They never overlap with each other or with the stars trained on.
    folds : int
        0: one model with the two fractions above. K >= 2: cross-fitting; K models, each trained
        without one fold of the stars and recalibrated on it, answer together.
    quality_cut : bool
        Only spectra whose labels pass the survey's recommended cut.
    min_snr : float
        Spectra with a lower S/N are left out.
    """

    store: str
    labels: tuple[str, ...] = ("teff", "logg", "fe_h")
    split: str = ""
    selection: Fraction = 0.1
    calibration: Fraction = 0.15
    folds: Annotated[int, Field(ge=0)] = 0
    quality_cut: bool = True
    min_snr: float = 0.0

    @model_validator(mode="after")
    def _room_to_train(self) -> DataConfig:
        if self.selection + self.calibration >= 0.9:
            raise ValueError("selection + calibration must leave stars to train on (< 0.9)")
        if self.folds == 1:
            raise ValueError("folds must be 0 (one model) or at least 2")
        return self


class EncoderConfig(_Strict):
    """Size of the encoder; see `spectrolabe.models.encoder`."""

    width: Count = 64
    latents: Count = 12
    blocks: Count = 2
    heads: Count = 4
    token_layers: Annotated[int, Field(ge=0)] = 1
    dropout: Fraction = 0.1

    @model_validator(mode="after")
    def _heads_divide(self) -> EncoderConfig:
        if self.width % self.heads:
            raise ValueError(f"heads ({self.heads}) must divide width ({self.width})")
        return self


class AugmentationConfig(_Strict):
    """How a training spectrum is varied each time it is seen.

    Parameters
    ----------
    velocity : float
        Standard deviation of the velocity error, km/s.
    noise : float
        Largest added noise in units of the spectrum's own.
    tilt : float
        Standard deviation of a smooth multiplicative distortion of the continuum.
    drop_pixels, drop_tokens : float
        Mean fraction of pixels, and fraction of tokens, that are hidden.
    halve : float
        Fraction of spectra shown with pairs of pixels merged.
    cut : float
        Fraction of spectra of which only a random contiguous part is shown.
    """

    velocity: Annotated[float, Field(ge=0.0)] = 7.0
    noise: Annotated[float, Field(ge=0.0)] = 1.0
    tilt: Annotated[float, Field(ge=0.0)] = 0.15
    drop_pixels: Fraction = 0.05
    drop_tokens: Fraction = 0.1
    halve: Fraction = 0.0
    cut: Fraction = 0.0


class TrainingConfig(_Strict):
    """The one training loop."""

    seed: int = 0
    epochs: Count = 300
    batch_size: Count = 16
    learning_rate: Positive = 1e-3
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.05
    ema: Fraction = 0.998
    patience: Annotated[int, Field(ge=0)] = 0
    """Epochs without improvement on the selection stars before stopping; 0 = never stop early."""
    checkpoint_minutes: Positive = 2.0
    mixed_precision: str = "no"


class TrainConfig(_Strict):
    """Everything that ``spectrolabe train`` needs."""

    name: str
    data: DataConfig
    encoder: EncoderConfig = EncoderConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    training: TrainingConfig = TrainingConfig()


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """Read a TOML file and apply overrides such as ``training.epochs=10``.

    Parameters
    ----------
    path : str or Path
    overrides : sequence of str
        ``section.key=value``; the value is TOML (a bare word is taken as text).

    Raises
    ------
    InputError
        If the file is missing or no TOML, a key is unknown (the message lists the known ones and
        the nearest) or a value is out of range.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(path, expected="a configuration file", found="none")
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(path, expected="a TOML file", found=str(error)) from error
    for override in overrides:
        _apply(tree, override)
    return _validated(tree, path)


def _apply(tree: dict[str, Any], override: str) -> None:
    key, sign, text = override.partition("=")
    if not sign or not key:
        raise InputError(override, expected="section.key=value", found=repr(override))
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *sections, last = key.split(".")
    for section in sections:
        tree = tree.setdefault(section, {})
        if not isinstance(tree, dict):
            raise InputError(override, expected=f"{section} to be a section", found="a value")
    tree[last] = value


def _validated(tree: Mapping[str, Any], path: Path) -> TrainConfig:
    try:
        return TrainConfig.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        place = [str(part) for part in first["loc"]]
        if first["type"] == "extra_forbidden":
            raise unknown_name(
                f"{path}, [{'.'.join(place[:-1])}]", place[-1], _known(place[:-1]), kind="key"
            ) from error
        found = "nothing" if first["type"] == "missing" else repr(first.get("input"))
        raise InputError(
            f"{path}, {'.'.join(place)}", expected=first["msg"], found=found[:200]
        ) from error


def _known(place: Sequence[str]) -> list[str]:
    model: Any = TrainConfig
    for part in place:
        model = model.model_fields[part].annotation
    return list(model.model_fields)
