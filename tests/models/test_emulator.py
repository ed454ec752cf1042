"""The emulator: slopes, patches, files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from spectrolabe.config import EmulatorConfig
from spectrolabe.errors import InputError
from spectrolabe.models.emulator import (
    Emulator,
    EmulatorNetwork,
    load_emulator,
    save_emulator,
)
from tests.models.emulators import MEAN, SPREAD, forward_mode
from tests.models.tiny_emulator import tiny_emulator


@pytest.fixture(scope="module")
def emulator() -> Emulator:
    return tiny_emulator()


def stars(count: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return MEAN + 0.5 * SPREAD * rng.standard_normal((count, len(MEAN)))


@pytest.mark.parametrize("patches", [slice(None), slice(3, 8), slice(4, 5), slice(1, 21)])
@pytest.mark.parametrize("blocks", [0, 1])
def test_slopes_are_those_of_generic_forward_mode(
    emulator: Emulator, patches: slice, blocks: int
) -> None:
    torch.manual_seed(1)
    config = EmulatorConfig(
        width=4, token_width=8, state_width=16, patch_width=8, components=5, token_blocks=blocks
    )
    network = EmulatorNetwork(config, emulator.scale, 21)
    labels = torch.randn(3, len(emulator.names))
    directions = torch.randn(4, len(emulator.names))
    expected = forward_mode(network, labels, directions)
    found = network.with_slopes(labels, directions)
    assert found.shape == (3, 5, 21, 6)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found[:, 0], network(labels))
    wanted = expected[:, :, patches, :-1]
    mixing = torch.randn(wanted.shape[2], 5, 3)
    found = network.with_slopes(labels, directions, network.readout(patches, mixing))
    mixed = torch.einsum("ntpk,pkr->ntpr", wanted, mixing)
    torch.testing.assert_close(found, mixed, atol=1e-5, rtol=1e-4)


def test_slopes_are_limits_of_differences(emulator: Emulator) -> None:
    labels, column = stars(4), emulator.names.index("mg_fe")
    step = 0.02
    before, after = labels.copy(), labels.copy()
    before[:, column] -= step
    after[:, column] += step
    difference = (emulator.latents(after) - emulator.latents(before)) / (2 * step)
    slopes = emulator.latents_and_slopes(labels, [column])[:, 1:]
    scale = difference.abs().max().item()
    torch.testing.assert_close(slopes[:, 0], difference, atol=3e-3 * scale, rtol=0)
    assert scale > 0.01


def test_a_star_does_not_depend_on_its_company(emulator: Emulator) -> None:
    labels = stars(5)
    whole = emulator.latents(labels)
    torch.testing.assert_close(emulator.latents(labels[3]), whole[3:4], atol=1e-6, rtol=1e-5)


def test_an_element_counts_by_its_abundance_over_hydrogen(emulator: Emulator) -> None:
    """Its own token sees [X/H]: [Fe/H] up and [X/Fe] down leaves what the token reads of it."""
    network = emulator.network
    scale, labels = emulator.scale, stars(1)
    iron, element = emulator.names.index("fe_h"), emulator.names.index("mg_fe")
    moved = labels.copy()
    moved[:, iron] += 0.3
    moved[:, element] -= 0.3

    def own(values: np.ndarray) -> torch.Tensor:
        scaled = torch.tensor(scale.scale(values)).float()
        return scaled / network.spread + network.metallicity * scaled[:, iron, None]

    torch.testing.assert_close(own(moved)[:, element], own(labels)[:, element])
    assert abs(float((own(moved) - own(labels))[0, emulator.names.index("ca_fe")])) > 0.1


def test_a_file_gives_the_emulator_back(emulator: Emulator, tmp_path: Path) -> None:
    found = load_emulator(save_emulator(emulator, tmp_path / "e"))
    assert found.names == emulator.names
    for name in ("low", "high", "mean", "spread", "wavelength"):
        np.testing.assert_allclose(getattr(found, name), getattr(emulator, name), rtol=1e-12)
    labels = stars(4)
    was, now = (e.basis.flux(e.latents(labels)) for e in (emulator, found))
    assert (was - now).abs().max() < 3e-3  # half precision
    grid = emulator.wavelength[100:200]
    np.testing.assert_allclose(
        found.continuum(labels, grid), emulator.continuum(labels, grid), rtol=2e-2
    )


def test_damage_and_other_files_are_seen(emulator: Emulator, tmp_path: Path) -> None:
    folder = save_emulator(emulator, tmp_path / "e")
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    with pytest.raises(InputError, match="sha256"):
        load_emulator(folder)
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps(card | {"format": "spectrolabe-encoder"}))
    with pytest.raises(InputError, match="spectrolabe-emulator"):
        load_emulator(folder)
    with pytest.raises(InputError, match=r"card\.json"):
        load_emulator(tmp_path / "nothing")


def test_labels_of_another_number_are_an_error(emulator: Emulator) -> None:
    with pytest.raises(InputError, match=r"\(1, 3\)"):
        emulator.latents([[5000.0, 4.0, 0.0]])
