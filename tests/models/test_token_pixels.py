"""Tokens back to pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spectrolabe.models import token_pixels
from spectrolabe.models.pixels import PixelRow, collate
from spectrolabe.models.token_pixels import NodeLine
from spectrolabe.models.tokens import tokenise
from spectrolabe.spectra.continuum import running_continuum

from .compact import HIGH, LABELS, LOW, flux_of

AMOUNTS = np.linspace(-1.0, 1.0, LABELS)


def row_of(resolution, sampling=3.3, rv=0.0, bad=0.0, low=LOW, high=HIGH):
    """Lines of a closed form in the pixels of an instrument."""
    x = np.arange(np.log(low * 1.001), np.log(high / 1.001), 1.0 / resolution / sampling)
    flux = flux_of(AMOUNTS, x, resolution, rv)
    lost = np.random.default_rng(1).random(len(x)) < bad
    ivar = np.where(lost, 0.0, 1e6).astype(np.float32)
    return PixelRow(np.exp(x), np.where(lost, np.nan, flux), ivar, resolution, rv)


def unexplained(row, line):
    """Relative difference of flux and the line, but for a smooth continuum; at good pixels."""
    good = row.ivar > 0
    flux = np.where(good, row.flux, 0.0) / (1.0 + line)
    smooth = running_continuum(row.wavelength, flux, good.astype(float), 0.002)
    inside = slice(30, -30)
    return (flux / smooth - 1.0)[inside][good[inside]]


@pytest.mark.parametrize("resolution", [1800.0, 7500.0, 22_500.0])
@pytest.mark.parametrize(("sampling", "rv", "bad"), [(3.3, 0.0, 0.0), (2.2, 87.0, 0.1)])
def test_a_spectrum_comes_back_in_its_own_pixels(resolution, sampling, rv, bad, monkeypatch):
    row = row_of(resolution, sampling, rv, bad)
    pixels = collate([[row]])
    tokens = tokenise(pixels)
    line = NodeLine(tokens, pixels).content_at_pixels(tokens.content)[0].numpy()
    error = unexplained(row, line)
    assert np.sqrt(np.mean(error**2)) < 0.002
    monkeypatch.setattr(token_pixels, "PASSES", 0)  # what kernels blur would stay blurred
    blurred = NodeLine(tokens, pixels).content_at_pixels(tokens.content)[0].numpy()
    assert np.std(unexplained(row, blurred)) > 4.0 * np.std(error)


def test_spectra_of_other_lengths_beside_it_change_nothing():
    rows = [row_of(7500.0), row_of(7500.0, low=5200.0, high=5350.0)]
    both = collate([[row] for row in rows])
    tokens = tokenise(both)
    together = NodeLine(tokens, both).content_at_pixels(tokens.content)
    for i, row in enumerate(rows):
        own = collate([[row]])
        content = tokenise(own)
        alone = NodeLine(content, own).content_at_pixels(content.content)[0]
        torch.testing.assert_close(together[i, : len(row.flux)], alone, atol=2e-4, rtol=1e-3)


def test_a_gap_between_two_arms_is_no_trouble():
    """Columns of tokens that no spectrum has are left out of a batch."""
    row = row_of(22_500.0)
    gap = (row.wavelength > 5200.0) & (row.wavelength < 5350.0)
    cut = PixelRow(*(a[~gap] for a in row[:3]), row.resolution, 0.0)
    pixels = collate([[cut]])
    tokens = tokenise(pixels)
    line = NodeLine(tokens, pixels).content_at_pixels(tokens.content)[0].numpy()
    whole = collate([[row]])
    content = tokenise(whole)
    expected = NodeLine(content, whole).content_at_pixels(content.content)[0].numpy()[~gap]
    far = (np.abs(cut.wavelength - 5200.0) > 60.0) & (np.abs(cut.wavelength - 5350.0) > 60.0)
    assert np.abs(line - expected)[far].max() < 0.03


def test_values_of_nodes_are_on_smooth_lines():
    pixels = collate([[row_of(7500.0)]])
    tokens = tokenise(pixels)
    line = NodeLine(tokens, pixels)
    assert torch.allclose(line.at_pixels(torch.full_like(tokens.content, 0.7)), torch.tensor(0.7))
