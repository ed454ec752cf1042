"""How much of the spectra of a star a model does not know from any star."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spectrolabe.config import EncoderConfig
from spectrolabe.models.encoder import Encoder
from spectrolabe.models.estimator import numbers
from spectrolabe.models.uncertainty import Coverage

from .compact import LABELS, compact_lines, spectrum_tokens

RESOLUTION, SNR, TURNED = 7000.0, 60.0, 5


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(2)
    compact = compact_lines()
    config = EncoderConfig(width=16, latents=2, blocks=1, heads=2, compact=compact.size_of())
    return Encoder(config, LABELS, compact).eval()


def place(encoder, parts, star):
    """Where stars are among others, by which coverage measures."""
    with torch.no_grad():
        return numbers(encoder, encoder(parts, torch.tensor(star)))[2]


@pytest.fixture(scope="module")
def stars():
    rng = np.random.default_rng(4)
    labels = rng.normal(size=(45, LABELS)) * 0.6
    return [spectrum_tokens(x, RESOLUTION, snr=SNR, seed=i) for i, x in enumerate(labels)]


def turned(tokens):
    """The tokens of a spectrum from its red end to its blue one, with the lines of no star."""
    flipped = type(tokens)(**vars(tokens))
    flipped.content = tokens.content.flip(1, 2)
    return flipped


def test_spectra_of_no_star_are_beyond_the_coverage(encoder, stars):
    all_of = [place(encoder, [tokens], [0]) for tokens in stars]
    known, unseen = np.concatenate(all_of[:-TURNED]), np.concatenate(all_of[-TURNED:])
    coverage = Coverage.fit(known)
    wrong = np.concatenate([place(encoder, [turned(t)], [0]) for t in stars[-TURNED:]])
    assert (wrong[:, -1] > 3.0 * unseen[:, -1].max()).all()
    assert coverage.outside(wrong).all()
    assert not coverage.outside(unseen).any()


def test_doubts_of_a_star_are_the_mean_of_all_its_tokens(encoder, stars):
    right, wrong = stars[0], turned(stars[1])
    one, two, both = (
        place(encoder, parts, star)[0, -1]
        for parts, star in (([right], [0]), ([wrong], [0]), ([right, wrong], [0, 0]))
    )
    assert one < both < two
    three = place(encoder, [right, wrong, right], [0, 0, 1])[:, -1]
    np.testing.assert_allclose(three, [both, one], atol=1e-5)


def test_a_star_without_a_token_is_not_doubted(encoder, stars):
    empty = type(stars[0])(**vars(stars[0]))
    empty.coverage, empty.valid = torch.zeros_like(empty.coverage), torch.zeros_like(empty.valid)
    assert place(encoder, [empty], [0])[0, -1] == 0.0
