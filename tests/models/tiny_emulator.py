"""A small emulator with the real network, random weights and lines of its own: for files."""

from __future__ import annotations

from dataclasses import replace

import torch

from spectrolabe.config import EmulatorConfig
from spectrolabe.models.emulator import Emulator, EmulatorNetwork
from tests.models.emulators import made_up_emulator


def tiny_emulator(low: float = 5000.0, high: float = 5400.0, seed: int = 0) -> Emulator:
    """Return `made_up_emulator` with an `EmulatorNetwork`, which can be saved and loaded."""
    made_up = made_up_emulator(low, high, seed)
    patches, components, _ = made_up.basis.components.shape
    config = EmulatorConfig(components=components)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = EmulatorNetwork(config, made_up.scale, patches)

    def emulator(strength: float) -> Emulator:
        basis = replace(made_up.basis, components=strength * made_up.basis.components)
        spread = {key: getattr(made_up, key) for key in ("low", "high", "mean", "spread")}
        card = {"name": "tiny", "network": config.model_dump()}
        return Emulator(network, basis, made_up.scale, **spread, card=card)

    # random weights may say next to nothing of temperature; here it changes the flux by per cents
    slopes = emulator(1.0).latents_and_slopes(made_up.mean, [0])[:, 1]
    return emulator(1.0 / (float(slopes.square().mean().sqrt()) * made_up.spread[0]))
