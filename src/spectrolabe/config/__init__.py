"""Configurations: strict TOML files with ``key=value`` overrides; an unknown key is an error."""

from __future__ import annotations

from spectrolabe.config.emulator import EmulatorConfig, EmulatorTrainConfig
from spectrolabe.config.grid import GridConfig, SpectraConfig, StarsConfig
from spectrolabe.config.loading import load_config
from spectrolabe.config.train import (
    AugmentationConfig,
    DataConfig,
    EncoderConfig,
    TrainConfig,
    TrainingConfig,
)

__all__ = [
    "AugmentationConfig",
    "DataConfig",
    "EmulatorConfig",
    "EmulatorTrainConfig",
    "EncoderConfig",
    "GridConfig",
    "SpectraConfig",
    "StarsConfig",
    "TrainConfig",
    "TrainingConfig",
    "load_config",
]
