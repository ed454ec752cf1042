"""Differential spectra that tokens are compared with."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spectrolabe.config import EncoderConfig, StreamConfig
from spectrolabe.models.encoder import Encoder
from spectrolabe.models.pixels import PixelRow, collate
from spectrolabe.models.projection import emulated_flux
from spectrolabe.models.templates import Templates
from spectrolabe.models.tokens import tokenise
from spectrolabe.training.sky import SkyStream
from spectrolabe.training.stars import Stars
from spectrolabe.training.templates import REFERENCES, TYPICAL_BROADENING, make_templates

SNR = 100.0
STAR = 1  # the solar dwarf


@pytest.fixture(scope="module")
def sky():
    stream = SkyStream(StreamConfig(surveys={"lamost_lrs": 1.0}))
    return stream, make_templates(stream.emulators, stream.scale)


def labels_of(stream, **changed):
    emulator = stream.emulators[0]
    values = np.where([n.endswith("_fe") for n in emulator.names], 0.0, emulator.mean)
    for name, value in zip(("teff", "logg", "fe_h", "v_micro"), REFERENCES[STAR], strict=True):
        values[emulator.names.index(name)] = value
    for name, change in changed.items():
        values[emulator.names.index(name)] += change
    return values


def tokens_of(stream, *, resolution=2000.0, low=4200.0, high=6800.0, rv=0.0, **changed):
    wavelength = np.exp(np.arange(np.log(low), np.log(high), 1 / resolution / 3))
    flux = emulated_flux(
        stream.emulators[0],
        labels_of(stream, **changed)[None],
        wavelength,
        resolution,
        rv=rv,
        v_broad=TYPICAL_BROADENING,
    )[0]
    ivar = np.full(len(flux), SNR**2, np.float32)
    return tokenise(collate([[PixelRow(wavelength, flux, ivar, resolution, 0.0)]]))


def scaled_change(stream, templates, name, change):
    j = stream.names.index(name)
    return templates.told.tolist().index(j), change / stream.scale.width[j]


def test_the_reference_star_asks_for_no_change(sky):
    stream, templates = sky
    compared = templates(tokens_of(stream))
    # each label alone; the ends of a spectrum have another local continuum than its middle
    information = torch.diagonal(compared.fisher[0, STAR])
    assert float((compared.score[0, STAR] / (information + 1.0))[:3].abs().max()) < 0.15
    assert float(compared.estimate[0, :, STAR].abs().median()) < 0.1


@pytest.mark.parametrize(
    ("name", "change"), [("teff", 40.0), ("fe_h", 0.04), ("mg_fe", 0.06), ("ca_fe", -0.06)]
)
@pytest.mark.parametrize("resolution", [2000.0, 9000.0])
def test_a_small_change_is_found(sky, name, change, resolution):
    stream, templates = sky
    at = templates(tokens_of(stream, resolution=resolution))
    moved = templates(tokens_of(stream, resolution=resolution, **{name: change}))
    column, expected = scaled_change(stream, templates, name, change)
    before, after = (templates.step([c]).change[0, STAR] for c in (at, moved))
    found = (after - before)[column]
    # the prior draws it in by what it knows already
    assert float(found) == pytest.approx(expected, rel=0.25)
    others = (after - before).abs()
    others[column] = 0.0
    assert float(others.median()) < 0.3 * abs(expected)


def test_a_velocity_is_found(sky):
    stream, templates = sky
    column, expected = scaled_change(stream, templates, "rv_residual", 4.0)
    before, after = (
        templates.step([templates(tokens_of(stream, rv=rv))]).change[0, STAR] for rv in (0.0, 4.0)
    )
    assert float((after - before)[column]) == pytest.approx(expected, rel=0.2)


def test_spectra_of_a_star_add_up(sky):
    stream, templates = sky
    blue = templates(tokens_of(stream, high=5500.0))
    red = templates(tokens_of(stream, low=5500.0))
    star, spectrum = torch.tensor([0, 1, 2, 2]), torch.tensor([0, 1, 0, 1])
    step = templates.step([blue, red], star, spectrum)
    both = templates.step([templates(tokens_of(stream))])
    torch.testing.assert_close(step.log_sigma[2], both.log_sigma[0], atol=0.05, rtol=0.0)
    assert bool((step.log_sigma[2] <= step.log_sigma[:2].min(dim=0).values + 1e-4).all())


def test_nothing_is_known_beyond_the_emulators(sky):
    stream, templates = sky
    tokens = tokens_of(stream)
    tokens.places = tokens.places.clone()
    tokens.places[:, 0] -= np.log(2.0)  # to 2100 to 3400 Å, where there is none
    compared = templates(tokens)
    assert float(compared.information.abs().max()) == 0.0
    step = templates.step([compared])
    torch.testing.assert_close(step.labels, torch.zeros_like(step.labels), atol=1e-5, rtol=0.0)


def test_they_travel_with_the_weights(sky):
    stream, templates = sky
    config = EncoderConfig(width=16, latents=2, heads=2, templates=tuple(templates.origin.shape))
    torch.manual_seed(0)
    one = Encoder(config, len(stream.names), templates).eval()
    other = Encoder(config, len(stream.names)).eval()
    other.load_state_dict(one.state_dict())
    assert isinstance(other.templates, Templates)
    tokens, star = tokens_of(stream), torch.zeros(1, dtype=torch.long)
    with torch.no_grad():
        a, b = (encoder(tokens, star).mean for encoder in (one, other))
    torch.testing.assert_close(a, b)


def test_views_agree_with_spectra_alone(sky):
    """A spectrum says the same alone, beside others in a batch, and as one of several views."""
    stream, templates = sky
    config = EncoderConfig(width=16, latents=2, heads=2, templates=tuple(templates.origin.shape))
    torch.manual_seed(1)
    encoder = Encoder(config, len(stream.names), templates).eval()
    short, long = tokens_of(stream, high=4600.0), tokens_of(stream, teff=100.0)
    star, spectrum = torch.tensor([0, 1, 2, 2]), torch.tensor([0, 1, 0, 1])
    with torch.no_grad():
        together = encoder([short, long], star, spectrum=spectrum).mean
        alone = [encoder(t, torch.zeros(1, dtype=torch.long)).mean[0] for t in (short, long)]
        joined = encoder([short, long], torch.zeros(2, dtype=torch.long)).mean[0]
    for found, expected in zip(together, [*alone, joined], strict=True):
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_the_guess_is_better_than_the_prior(sky):
    stream, templates = sky
    config = EncoderConfig(width=16, latents=2, heads=2, templates=tuple(templates.origin.shape))
    encoder = Encoder(config, len(stream.names), templates).eval()
    rng = np.random.default_rng(3)
    drawn = stream.stars(96, rng)
    slow = Stars(drawn.atmosphere, np.minimum(drawn.v_broad, 20.0), drawn.values)
    batch = stream.observed(slow, [(stream.instruments["lamost_lrs"], np.arange(96))], rng, snr=SNR)
    with torch.no_grad():
        guess = encoder._guess(batch.tokens, batch.view, batch.spectrum)
    assert guess is not None
    for name in ("teff", "logg", "fe_h"):
        j = stream.names.index(name)
        column = templates.told.tolist().index(j)
        error = (guess.labels[:, column] - batch.target[:96, j]).abs().median()
        assert float(error) < 0.35 * float(batch.target[:96, j].abs().median()), name
