"""The synthetic sky that is made while a model learns."""

from __future__ import annotations

import copy
import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter1d

from spectrolabe.config import SkyTrainConfig, StreamConfig
from spectrolabe.models.emulator import load_emulator
from spectrolabe.models.projection import emulated_flux
from spectrolabe.models.released import find_emulators
from spectrolabe.spectra.sampling import sample
from spectrolabe.spectra.wavelength import SPEED_OF_LIGHT
from spectrolabe.training.instruments import coarser, survey_instrument
from spectrolabe.training.observing import Conditions, drawn, observe
from spectrolabe.training.pretrain import SkyTask, sky_batches
from spectrolabe.training.sky import SkyStream
from tests.training.tiny import TINY

CLEAN = StreamConfig(
    surveys={"gaia_rvs": 1.0, "lamost_lrs": 1.0},
    tilt=0.0,
    drop_arms=0.0,
    drop_pixels=0.0,
    masked=0.0,
    line_error=0.0,
    scattered=0.0,
    resolution_error=0.0,
    arm_velocity=0.0,
    coarser=0.0,
    apart=0.0,
)


@pytest.fixture(scope="module")
def stream():
    return SkyStream(CLEAN)


def conditions(count, **given):
    values = {
        "snr": np.full(count, 1e7),
        "velocity": np.zeros(count),
        "residual": np.zeros(count),
        "masked": np.zeros((count, 3), bool),
        "apart": False,
        "kept": (0,),
        **given,
    }
    return Conditions(**values)


def seen(stream, instrument, stars, config=CLEAN, **given):
    rng, generator = np.random.default_rng(1), torch.Generator().manual_seed(1)
    return observe(instrument, stars, conditions(len(stars), **given), config, rng, generator)[0]


def test_splines_are_drawn_as_the_sampler_of_fits_draws_them():
    rng = np.random.default_rng(0)
    lines = gaussian_filter1d(rng.normal(size=(3, 600)), 1.7)  # four steps per FWHM
    coefficients = 1.0 + 0.2 * lines
    coefficients[:, :100] = coefficients[:, -100:] = 1.0
    x = np.linspace(8.0 + 100 * 1e-4, 8.0 + 500 * 1e-4, 777)
    rv, broad = np.array([0.0, 35.0, -80.0]), np.array([0.0, 25.0, 90.0])
    expected, _, _ = sample(coefficients[:, None], 8.0, 1e-4, x, rv=rv, v_broad=broad)
    width = broad / SPEED_OF_LIGHT / (2 * np.sqrt(2 * np.log(2))) / 1e-4
    found = drawn(
        torch.from_numpy(coefficients).float(),
        torch.from_numpy((x - 8.0) / 1e-4),
        torch.from_numpy(np.log1p(rv / SPEED_OF_LIGHT) / 1e-4),
        torch.from_numpy(width**2).float(),
    )
    np.testing.assert_allclose(found, expected[:, 0], atol=5e-4)  # of lines 0.1 deep


def test_spectra_are_those_of_the_emulator(stream):
    instrument = stream.instruments["gaia_rvs"]  # normalised, without an atmosphere
    stars = stream.stars(6, np.random.default_rng(2))
    residual = np.array([0.0, 0.0, 3.0, -3.0, 8.0, 20.0])
    pixels = seen(stream, instrument, stars, residual=residual)
    emulator = load_emulator(find_emulators("emulator-optical")[0])
    wavelength = np.exp(instrument.arms[0].log_wavelength.numpy())
    for i in range(6):
        expected = emulated_flux(
            emulator,
            stars.atmosphere[i : i + 1],
            wavelength,
            11500.0,
            rv=residual[i],
            v_broad=stars.v_broad[i],
        )[0]
        np.testing.assert_allclose(pixels.flux[i], expected, atol=2e-3)


def test_velocities_move_pixels_and_not_lines(stream):
    instrument = stream.instruments["lamost_lrs"]
    stars = stream.stars(1, np.random.default_rng(3)).take(np.zeros(2, int))
    pixels = seen(stream, instrument, stars, velocity=np.array([0.0, 150.0]))
    moved = pixels.log_wavelength[0] - pixels.log_wavelength[1]
    np.testing.assert_allclose(moved, np.log1p(150.0 / SPEED_OF_LIGHT), atol=1e-9)
    x = pixels.log_wavelength.numpy()
    # dust and air differ: the depth of a line does not
    for centre in (5185.0, 5270.0):
        near = [np.abs(np.exp(row) - centre) < 30 for row in x]
        depth = [
            1 - f[m].min() / f[m].max() for f, m in zip(pixels.flux.numpy(), near, strict=True)
        ]
        assert depth[0] == pytest.approx(depth[1], abs=0.03)
        assert depth[0] > 0.02


def test_noise_is_that_of_the_stated_snr(stream):
    instrument = stream.instruments["lamost_lrs"]
    stars = stream.stars(40, np.random.default_rng(4))
    clean = seen(stream, instrument, stars)
    noisy = seen(stream, instrument, stars, snr=np.full(40, 30.0))
    # the same draws but for the noise: the same seed
    z = (noisy.flux - clean.flux) * noisy.ivar.sqrt()
    assert float(z.std()) == pytest.approx(1.0, abs=0.03)
    snr = (noisy.flux * noisy.ivar.sqrt()).median(dim=1).values
    np.testing.assert_allclose(snr, 30.0, rtol=0.3)


def test_calibrated_arms_meet(stream):
    instrument = survey_instrument(stream.emulators, "desi")
    stars = stream.stars(8, np.random.default_rng(4))
    arms = []
    for kept in range(len(instrument.arms)):
        pixels = seen(stream, instrument, stars, kept=(kept,))
        arms.append((pixels.log_wavelength[0].numpy(), pixels.flux.numpy()))
    for (x, blue), (other, red) in itertools.pairwise(arms):
        both = x[(x > other[0]) & (x < other[-1])]
        assert len(both) > 10
        for a, b in zip(blue, red, strict=True):
            ratio = np.interp(both, x, a) / np.interp(both, other, b)
            assert abs(np.median(ratio) - 1.0) < 0.01


def test_a_coarser_instrument_has_broader_lines(stream):
    fine = stream.instruments["gaia_rvs"]
    coarse = coarser(fine, 0.7)
    assert coarse.arms[0].resolution == pytest.approx(0.7 * 11500.0)
    stars = stream.stars(4, np.random.default_rng(5))
    emulator = fine.arms[0].projection.emulator
    wavelength = np.exp(fine.arms[0].log_wavelength.numpy())
    pixels = seen(stream, coarse, stars)
    for i in range(4):
        expected = emulated_flux(
            emulator, stars.atmosphere[i : i + 1], wavelength, 8050.0, v_broad=stars.v_broad[i]
        )[0]
        np.testing.assert_allclose(pixels.flux[i], expected, atol=3e-3)


def test_views_are_of_single_instruments_and_of_both(stream):
    stars = stream.stars(12, np.random.default_rng(6))
    rows = np.arange(12)
    batch = stream.observed(
        stars,
        [(stream.instruments["gaia_rvs"], rows), (stream.instruments["lamost_lrs"], rows[:5])],
        np.random.default_rng(7),
    )
    assert batch.instrument == ["gaia_rvs"] * 12 + ["lamost_lrs"] * 5 + ["gaia_rvs+lamost_lrs"] * 5
    np.testing.assert_array_equal(batch.star, [*range(12), *range(5), *range(5)])
    np.testing.assert_array_equal(np.diff(batch.view) >= 0, True)
    column = stream.names.index("rv_residual")
    assert torch.isfinite(batch.target[:17, column]).all()
    assert torch.isnan(batch.target[17:, column]).all()
    teff = stream.names.index("teff")
    expected = stream.scale.scale(stars.values)[batch.star, teff]
    np.testing.assert_allclose(batch.target[:, teff], expected, atol=1e-6)
    np.testing.assert_allclose(batch.snr[17:] ** 2, batch.snr[:5] ** 2 + batch.snr[12:17] ** 2)


def test_the_same_seed_gives_the_same_sky(stream):
    def first(seed):
        rng, encoder = np.random.default_rng(seed), SimpleNamespace(guesser=None)
        return next(iter(sky_batches(stream, 8, 3, rng, encoder)))

    a, b, c = first(1), first(1), first(2)
    assert a.instrument == b.instrument
    for one, other in zip(a.tokens, b.tokens, strict=True):
        assert torch.equal(one.content, other.content)
    assert torch.equal(torch.nan_to_num(a.target), torch.nan_to_num(b.target))
    assert not torch.equal(torch.nan_to_num(a.target), torch.nan_to_num(c.target)[: len(a.target)])


def test_half_of_the_stars_have_independent_abundances(stream):
    values = stream.stars(6000, np.random.default_rng(8)).values
    column = {name: values[:, i] for i, name in enumerate(stream.names)}
    galaxy = np.isfinite(column["abs_mag_k"])
    assert galaxy.mean() == pytest.approx(0.5, abs=0.01)
    tied = np.corrcoef(column["mg_fe"][galaxy], column["eu_fe"][galaxy])[0, 1]
    free = np.corrcoef(column["cr_fe"][~galaxy], column["eu_fe"][~galaxy])[0, 1]
    assert tied > 0.5
    assert abs(free) < 0.05
    assert np.isnan(column["age"][~galaxy]).all()
    assert np.isfinite(column["age"][galaxy]).mean() < 0.6


def test_unknown_instruments_are_named():
    emulator = load_emulator(find_emulators("emulator-h")[0])
    with pytest.raises(Exception, match="apogee"):
        survey_instrument([emulator], "apoge")


def test_a_task_learns(stream):
    config = SkyTrainConfig(
        name="small",
        sky=CLEAN.model_copy(update={"steps": 3}),
        encoder={"width": 16, "latents": 2, "blocks": 1, "heads": 2},
        training={"epochs": 1, "batch_size": 8},
        making=TINY,
    )
    short = copy.copy(stream)
    short.config = config.sky
    made = SkyTask(config, short)

    class Here:
        model = made.model

        class task:  # noqa: N801
            model = made.model

        class accelerator:  # noqa: N801
            @staticmethod
            def autocast():
                return torch.autocast("cpu", enabled=False)

    losses = list(made.losses(Here, np.random.default_rng(0)))
    assert len(losses) == 3
    assert all(torch.isfinite(loss) for loss in losses)
    losses[0].backward()
    assert all(p.grad is not None for p in made.model.parameters() if p.requires_grad)
