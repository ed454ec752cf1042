"""Tokens against closed forms, and what must never change them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from spectrolabe.models.pixels import PixelRow, collate, row_of
from spectrolabe.models.tokens import NODES, Tokens, ladder_level, token_width, tokenise
from spectrolabe.spectra import Frame, Spectrum
from tests.models.stars import made_up

R = 2000.0


def row(flux=None, *, step=2e-4, span=(4000.0, 6000.0), rv=0.0, ivar=1e4):
    wavelength = np.exp(np.arange(np.log(span[0]), np.log(span[1]), step))
    values = np.ones_like(wavelength) if flux is None else flux(wavelength)
    return PixelRow(
        wavelength, values.astype(np.float32), np.full(wavelength.size, ivar, np.float32), R, rv
    )


def tokens_of(*rows: PixelRow) -> Tokens:
    return tokenise(collate([[r] for r in rows]))


def line(centre: float, depth: float = 0.5):
    sigma = centre / R / 2.3548
    return lambda w: 1.0 - depth * np.exp(-0.5 * ((w - centre) / sigma) ** 2)


def test_a_token_is_a_fixed_number_of_resolution_elements():
    assert token_width(ladder_level(torch.tensor([R])))[0].item() == pytest.approx(
        NODES * 0.45 / R, rel=0.01
    )


@pytest.mark.parametrize("power", [0.0, 1.0, -3.0])
def test_a_smooth_continuum_has_no_content(power):
    tokens = tokens_of(row(lambda w: (w / 5000.0) ** power))
    # what is left of a local linear fit: curvature power**2 sigma**2, four times that at an edge
    assert tokens.content[tokens.valid].abs().max() < 2e-3 + 4 * power**2 * 0.012**2


def test_a_line_is_at_its_wavelength_and_as_deep_as_it_is():
    centre = 5000.0
    tokens = tokens_of(row(line(centre)))
    kernel = int(tokens.content[0].flatten().argmin())
    width = float(token_width(ladder_level(torch.tensor([R])))[0])
    where = tokens.places[tokens.place[0, 0], 0].item() + ((kernel + 0.5) / NODES - 0.5) * width
    assert where == pytest.approx(np.log(centre), abs=0.51 * width / NODES)
    # kernel and continuum soften it by little: half a resolution element of smoothing
    assert tokens.content.min().item() == pytest.approx(-0.5, abs=0.08)


def test_velocity_moves_the_line_back_to_rest():
    shifted = row(line(5000.0 * (1 + 150.0 / 299792.458)), rv=150.0)
    rest = row(line(5000.0))
    assert_allclose(
        int(tokens_of(shifted).content.flatten().argmin()),
        int(tokens_of(rest).content.flatten().argmin()),
    )


def test_flux_units_do_not_matter():
    plain, scaled = row(line(5000.0)), row(lambda w: 1e-17 * line(5000.0)(w), ivar=1e38 / 1.0)
    one, other = tokens_of(plain), tokens_of(scaled)
    assert_allclose(one.content, other.content, atol=2e-4)
    assert_allclose(one.level, other.level, atol=2e-4)


def test_signal_to_noise_per_resolution_element():
    # S/N 100 a pixel of 2e-4; a resolution element of 5e-4 has 2.5 pixels
    tokens = tokens_of(row(ivar=1e4))
    middle = tokens.log_snr[0, tokens.log_snr.shape[1] // 2].item()
    level_r = 1000.0 * 2.0 ** (ladder_level(torch.tensor([R])).item() / 2.0)
    assert np.expm1(middle) == pytest.approx(100.0 * np.sqrt(1 / level_r / 2e-4), rel=0.03)


def test_bad_pixels_are_not_seen():
    clean = row(line(5000.0))
    ivar = clean.ivar.copy()
    ivar[100:110] = 0.0
    wild = clean.flux.copy()
    wild[100:110] = np.nan
    quiet = clean.flux.copy()
    quiet[100:110] = 7e7
    one = tokens_of(clean._replace(flux=wild, ivar=ivar))
    other = tokens_of(clean._replace(flux=quiet, ivar=ivar))
    for field in dataclasses.fields(Tokens):
        assert_allclose(getattr(one, field.name), getattr(other, field.name))
    assert torch.isfinite(one.content).all()


def test_padding_and_company_change_nothing():
    short, long = row(line(4500.0), span=(4200.0, 4800.0)), row(span=(3800.0, 9000.0))
    alone, together = tokens_of(short), tokens_of(short, long)
    count = alone.content.shape[1]
    for name in (f.name for f in dataclasses.fields(Tokens) if not f.name.startswith("place")):
        assert_allclose(
            getattr(alone, name)[0],
            getattr(together, name)[0, :count],
            rtol=1e-4,
            atol=1e-5,
            err_msg=name,
        )
    assert_allclose(alone.places[alone.place[0]], together.places[together.place[0, :count]])
    assert not together.valid[0, count:].any()


def test_half_the_pixels_give_nearly_the_same_tokens():
    fine = row(line(5000.0), step=1e-4)
    coarse = row(line(5000.0), step=2e-4)
    difference = (tokens_of(fine).content - tokens_of(coarse).content).abs()
    assert difference.max() < 0.06
    assert difference.mean() < 1e-3


def test_two_arms_hold_what_the_whole_holds():
    whole = row(line(5000.0))
    at = len(whole.flux) // 2
    blue = PixelRow(*(a[:at] for a in whole[:3]), R, 0.0)
    tokens, arm = tokens_of(whole), tokens_of(blue)
    inner = arm.content.shape[1] - 2
    assert_allclose(tokens.content[0, :inner], arm.content[0, :inner], atol=0.03)


def test_nothing_but_pixels_resolution_and_velocity_enters():
    star = made_up(np.random.default_rng(0), 1)[0][0][0]
    spoiled = star.replace(
        meta={"teff": 1.0, "subclass": "M9", "snrg": 3.0, "file": "other"}, spectrum_id="x"
    )
    for one, other in zip(row_of(star), row_of(spoiled), strict=True):
        assert_allclose(one, other)


def test_an_unknown_velocity_counts_as_zero_and_rest_is_rest():
    star = made_up(np.random.default_rng(0), 1)[0][0][0]
    assert row_of(star.replace(rv=33.0)).rv == 0.0  # REST: the velocity is already out
    assert row_of(star.replace(frame=Frame.BARYCENTRIC, rv=33.0)).rv == 33.0
    assert row_of(star.replace(frame=Frame.BARYCENTRIC, rv=np.nan)).rv == 0.0


def test_a_spectrum_without_a_good_pixel_has_no_valid_token():
    star = made_up(np.random.default_rng(0), 1)[0][0][0]
    dead: Spectrum = star.replace(ivar=np.zeros(len(star)))
    tokens = tokens_of(row_of(dead))
    assert not tokens.valid.any()
    assert all(
        torch.isfinite(getattr(tokens, f.name).double()).all() for f in dataclasses.fields(Tokens)
    )
