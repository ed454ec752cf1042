"""A small emulator with the real network, random weights and lines of its own: for files."""

from __future__ import annotations

import numpy as np
import torch

from spectrolabe.config import EmulatorConfig
from spectrolabe.models.emulator import Emulator, EmulatorNetwork
from tests.models.emulators import made_up_emulator

STRENGTH = 4.0  # of the dependence on labels, so that a few lines tell them


@torch.no_grad()
def tiny_emulator(low: float = 5000.0, high: float = 5400.0, seed: int = 0) -> Emulator:
    """Return `made_up_emulator` with an `EmulatorNetwork`, which can be saved and loaded."""
    made_up = made_up_emulator(low, high, seed)
    patches, components, _ = made_up.basis.components.shape
    config = EmulatorConfig(
        width=4, token_width=8, state_width=16, patch_width=8, components=components
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = EmulatorNetwork(config, made_up.scale, patches)
    return Emulator(
        network,
        made_up.basis,
        made_up.scale,
        low=made_up.low,
        high=made_up.high,
        mean=made_up.mean,
        spread=made_up.spread,
        card={"name": "tiny", "network": config.model_dump()},
    )
