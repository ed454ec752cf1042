"""Configurations: strict TOML files with ``key=value`` overrides; an unknown key is an error."""

from __future__ import annotations

from spectrolabe.config.emulator import EmulatorConfig, EmulatorTrainConfig, GridsConfig
from spectrolabe.config.grid import GridConfig, SpectraConfig, StarsConfig
from spectrolabe.config.loading import load_config, load_training
from spectrolabe.config.stream import StreamConfig
from spectrolabe.config.train import (
    AugmentationConfig,
    CompactConfig,
    CompactMaking,
    DataConfig,
    DenoiserConfig,
    DenoiserTrainConfig,
    EncoderConfig,
    HeadConfig,
    SkyTrainConfig,
    TrainConfig,
    TrainingConfig,
    TransferConfig,
    TwinsConfig,
)

__all__ = [
    "AugmentationConfig",
    "CompactConfig",
    "CompactMaking",
    "DataConfig",
    "DenoiserConfig",
    "DenoiserTrainConfig",
    "EmulatorConfig",
    "EmulatorTrainConfig",
    "EncoderConfig",
    "GridConfig",
    "GridsConfig",
    "HeadConfig",
    "SkyTrainConfig",
    "SpectraConfig",
    "StarsConfig",
    "StreamConfig",
    "TrainConfig",
    "TrainingConfig",
    "TransferConfig",
    "TwinsConfig",
    "load_config",
    "load_training",
]
