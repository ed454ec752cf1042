"""Compact spectra of an emulator."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spectrolabe.config import CompactMaking, SkyTrainConfig, StreamConfig
from spectrolabe.errors import InputError
from spectrolabe.models.checkpoint import load
from spectrolabe.models.node_spectra import BROADENING, FINEST, NodeSpectra
from spectrolabe.models.projection import emulated_flux
from spectrolabe.models.released import find_model
from spectrolabe.models.tokens import node_width
from spectrolabe.training import compact
from spectrolabe.training.compact import compact_spectra
from spectrolabe.training.node_scale import NodeScale, node_labels
from spectrolabe.training.sky import SkyStream

from .tiny import TINY


@pytest.fixture(scope="module")
def stream():
    return SkyStream(StreamConfig(surveys={"lamost_lrs": 1.0}, emulators=("emulator-h",)))


@pytest.fixture(scope="module")
def maker(stream):
    return NodeSpectra(stream.emulators)


@pytest.fixture(scope="module")
def scale(stream):
    return NodeScale.of(stream, stream.stars(200, np.random.default_rng(0)))


def test_spectra_are_those_of_the_emulator(stream, maker):
    stars = stream.stars(3, np.random.default_rng(1))
    _, flux = maker.spectra(node_labels(stars))
    np.testing.assert_allclose(maker.flux(0, node_labels(stars)).T, flux[:, 0], atol=2e-5)
    emulator, low = stream.emulators[0], maker.parts[0].low
    x = (low + 0.5 + np.arange(maker.nodes)) * node_width(FINEST)
    inner = slice(300, -300)
    for i in range(len(stars)):
        exact = emulated_flux(
            emulator,
            stars.atmosphere[i : i + 1],
            np.exp(x[inner]),
            emulator.resolution,
            v_broad=float(np.clip(stars.v_broad[i], *BROADENING)),
        )[0]
        # nodes are read off straight lines between pixels
        np.testing.assert_allclose(1.0 + flux[i, 0, inner], exact, atol=4e-3)


def test_slopes_are_those_of_the_spectra(stream, maker, scale):
    stars = stream.stars(1, np.random.default_rng(2))
    names, width = scale.names, scale.width
    content, flux = maker.spectra(node_labels(stars), width)
    for name in ("teff", "fe_h", "v_broad"):
        j, step = names.index(name), 0.01
        moved = []
        for sign in (-1.0, 1.0):
            one = stars.take(np.array([0]))
            if name == "v_broad":
                one.v_broad[0] *= np.exp(sign * step * width[j])
            else:
                one.atmosphere[0, j] += sign * step * width[j]
            moved.append(maker.spectra(node_labels(one)))
        for slopes, k in ((content, 0), (flux, 1)):
            expected = (moved[1][k][0, 0] - moved[0][k][0, 0]) / (2 * step)
            error = (slopes[0, 1 + j] - expected).square().mean().sqrt()
            assert error < 0.03 * expected.square().mean().sqrt(), name


def test_functions_hold_what_they_were_found_in(stream, maker, scale):
    stars = stream.stars(2, np.random.default_rng(3))
    found = compact._functions(maker, stars, scale.width, 60, progress=False)
    torch.testing.assert_close(
        found.directions.T @ found.directions, torch.eye(60), atol=1e-3, rtol=0.0
    )
    content, flux = maker.spectra(node_labels(stars), scale.width)
    content[:, 0] -= found.mean
    amounts = content @ found.directions
    left = content - amounts @ found.directions.T
    share = left.square().sum(dim=2).sqrt() / content.square().sum(dim=2).sqrt()
    assert share[:, 1:].median() < 0.05
    rebuilt = amounts[:, 1:] @ found.flux[:, 1:].T
    missing = (flux[:, 1:] - rebuilt).square().mean(dim=2).sqrt()
    assert (missing / flux[:, 1:].square().mean(dim=2).sqrt()).median() < 0.1


def test_they_are_made_once(stream, tmp_path, monkeypatch):
    config = SkyTrainConfig(name="small", making=CompactMaking(**TINY))
    made = compact_spectra(config, stream, tmp_path, progress=False)
    monkeypatch.setattr(compact, "make_compact", lambda *_, **__: pytest.fail("made again"))
    again = compact_spectra(config, stream, tmp_path, progress=False)
    for a, b in zip(made.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert compact_spectra(config.model_copy(update={"compact": "none"}), stream, tmp_path) is None


def test_a_model_without_them_cannot_lend_them(stream, tmp_path):
    config = SkyTrainConfig(name="small", compact="lamost-dr10")
    with pytest.raises(InputError, match="compact spectra"):
        compact_spectra(config, stream, tmp_path)


def test_a_sky_takes_those_of_a_model_without_what_real_stars_taught_it(stream):
    lent = load(find_model("unified-v1")).encoder.guesser.compact
    assert lent.observed.count
    taken = compact_spectra(SkyTrainConfig(name="small", compact="unified-v1"), stream, None)
    assert taken.observed.count == 0
    assert torch.equal(taken.packed, lent.packed)
