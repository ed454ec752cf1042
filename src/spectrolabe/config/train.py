"""What ``spectrolabe train`` needs."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from spectrolabe.config.loading import Count, Fraction, Positive, Strict

__all__ = [
    "AugmentationConfig",
    "DataConfig",
    "EncoderConfig",
    "TrainConfig",
    "TrainingConfig",
]


class DataConfig(Strict):
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


class EncoderConfig(Strict):
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


class AugmentationConfig(Strict):
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


class TrainingConfig(Strict):
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


class TrainConfig(Strict):
    """Everything that ``spectrolabe train`` needs."""

    name: str
    data: DataConfig
    encoder: EncoderConfig = EncoderConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    training: TrainingConfig = TrainingConfig()
