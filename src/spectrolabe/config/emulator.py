"""What the training of an emulator needs: its size, the grids, and the weight of the physics."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from spectrolabe.config.fields import Count, Fraction, Positive, Strict
from spectrolabe.config.train import TrainingConfig

__all__ = ["EmulatorConfig", "EmulatorTrainConfig", "GridsConfig", "PriorConfig"]


class EmulatorConfig(Strict):
    """Size of an emulator; see `spectrolabe.models.emulator`.

    Parameters
    ----------
    width, heads, expansion : int
        Numbers of a token, and of the attention of tokens to each other.
    token_width : int
        Of the layer that makes the token of each label.
    token_blocks : int
        How often tokens attend to each other.
    state_width, state_layers : int
        Of the state that all patches share.
    patch_width : int
        Numbers that each group of patches makes of the tokens.
    group : int
        Neighbouring patches that read the tokens together.
    components : int
        Of the basis of each patch.
    """

    width: Count = 12
    heads: Count = 2
    expansion: Count = 2
    token_width: Count = 32
    token_blocks: Annotated[int, Field(ge=0)] = 1
    state_width: Count = 256
    state_layers: Annotated[int, Field(ge=0)] = 2
    patch_width: Count = 64
    group: Count = 2
    components: Count = 80

    @model_validator(mode="after")
    def _heads_divide(self) -> EmulatorConfig:
        if self.width % self.heads:
            raise ValueError(f"heads ({self.heads}) must divide width ({self.width})")
        return self


class GridsConfig(Strict):
    """What to learn from.

    Parameters
    ----------
    grids : tuple of str
        Files of ``spectrolabe synthesise``.
    low, high : float
        Vacuum Angstrom.
    resolution : float
        R of the spectra that are learnt: the highest that the emulator can make.
    patch_pixels : int
        Pixels of a patch; there are three to a FWHM.
    stars : int
        Only so many of the stars, 0 = all; those with differential spectra come first.
    selection : float
        Fraction of the stars kept aside to choose the best epoch.
    """

    grids: tuple[str, ...]
    low: Positive = 3700.0
    high: Positive = 9800.0
    resolution: Positive = 28000.0
    patch_pixels: Count = 640
    stars: Annotated[int, Field(ge=0)] = 0
    selection: Fraction = 0.03


class PriorConfig(Strict):
    """How much the differential spectra count.

    Parameters
    ----------
    weight : float
        Of their error, relative to that of the flux; 0 = without the prior.
    last : float
        The weight falls along a cosine to this fraction of itself.
    labels : int
        Differential spectra of one star that enter a step.
    stars : int
        Stars with differential spectra that enter a step.
    """

    weight: Annotated[float, Field(ge=0.0)] = 6.0
    last: Fraction = 0.3
    labels: Count = 4
    stars: Count = 8


class EmulatorTrainConfig(Strict):
    """Everything that ``spectrolabe train`` needs for an emulator."""

    name: str
    grids: GridsConfig
    emulator: EmulatorConfig = EmulatorConfig()
    prior: PriorConfig = PriorConfig()
    training: TrainingConfig = TrainingConfig(batch_size=32)
