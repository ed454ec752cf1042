"""Continua against direct sums and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spectrolabe.errors import InputError
from spectrolabe.spectra import Frame, Spectrum
from spectrolabe.spectra.continuum import (
    continuum_error,
    normalise,
    polynomial_continuum,
    running_continuum,
)

LAMOST = np.geomspace(3700, 9100, 3909)
APOGEE = np.geomspace(15100, 17000, 7514)
GALAH = np.concatenate(
    [np.linspace(*ccd, 600) for ccd in ((4713, 4903), (5648, 5873), (6478, 6737))]
)
GRIDS = pytest.mark.parametrize("grid", [LAMOST, APOGEE, GALAH], ids=["lamost", "apogee", "galah"])


def example(grid, seed=0):
    """Flux that wanders by 0.3 over a few widths, narrow lines, uneven ivar with holes."""
    rng = np.random.default_rng(seed)
    flux = 1 + 0.3 * np.sin(np.log(grid) / 0.02) - 0.8 * (rng.random(grid.size) < 0.02)
    ivar = rng.uniform(0.5, 2, grid.size) * (rng.random(grid.size) > 0.05)
    ivar[grid.size // 3 : grid.size // 3 + 60] = 0
    return flux, ivar


@pytest.mark.parametrize("together", [0.0, 0.5], ids=["alone", "together"])
def test_the_error_of_a_continuum_is_the_scatter_of_many(together):
    """Also at ends and beside a gap, and where noise goes together in neighbours, untold."""
    rng = np.random.default_rng(1)
    sigma = 0.05 * (1.0 + 0.5 * np.sin(np.arange(APOGEE.size) / 300.0))
    weight = np.ones(APOGEE.size)
    weight[2500:2900] = 0.0
    levels, errors = [], []
    for _ in range(200):
        noise = rng.normal(size=APOGEE.size + 1)
        noise = (noise[1:] + together * noise[:-1]) / np.hypot(1.0, together)
        flux = 1.0 + sigma * noise
        levels.append(running_continuum(APOGEE, flux, weight, 0.003))
        errors.append(continuum_error(APOGEE, flux - levels[-1], sigma**2, weight, 0.003))
    ratio = np.std(levels, axis=0) / np.mean(errors, axis=0)
    assert ratio.min() > 0.85
    assert ratio.max() < 1.2
    assert np.median(ratio) == pytest.approx(1.0, abs=0.06)


@GRIDS
def test_the_running_continuum_is_the_direct_sum(grid):
    flux, ivar = example(grid)
    got = running_continuum(grid, flux, ivar, 0.01)
    x = np.log(grid) / 0.01
    for i in np.flatnonzero(ivar)[::97]:
        weight = ivar * np.exp(-0.5 * (x - x[i]) ** 2)
        line = np.polynomial.Polynomial.fit(x - x[i], flux, 1, w=np.sqrt(weight), domain=[-1, 1])
        assert got[i] == pytest.approx(line(0.0), abs=6e-3)
    middle = grid.size // 2
    weight = ivar * np.exp(-0.5 * (x - x[middle]) ** 2)
    assert got[middle] == pytest.approx(np.average(flux, weights=weight), abs=0.05)


@GRIDS
@settings(max_examples=15, deadline=None)
@given(level=st.floats(-1e4, 1e4), width=st.floats(1e-3, 0.3), seed=st.integers(0, 9))
def test_a_flat_spectrum_is_its_own_continuum(grid, level, width, seed):
    _, ivar = example(grid, seed)
    got = running_continuum(grid, np.full(grid.size, level), ivar, width)
    np.testing.assert_allclose(got, level, rtol=1e-7, atol=1e-9)


@GRIDS
def test_a_slope_is_followed_to_the_ends(grid):
    _, ivar = example(grid)
    line = 1 + 2 * np.log(grid / grid[0])
    got = running_continuum(grid, line, ivar, 0.01)
    # a running mean alone would be off by 2 * 0.8 * 0.01 at the ends
    np.testing.assert_allclose(got[ivar > 0], line[ivar > 0], atol=1.6e-3)


def test_what_is_narrow_stays_in_and_what_is_broad_goes_out():
    x = np.log(APOGEE)
    inner = slice(2500, -2500)
    for period, kept in ((0.002, 0.0), (0.2, 0.95)):
        wave = np.sin(2 * np.pi * x / period)
        got = running_continuum(APOGEE, 1 + 0.1 * wave, np.ones(x.size), 0.01) - 1
        # a Gaussian passes exp(-2 (pi sigma / period)^2) of a wave
        assert np.exp(-2 * (np.pi * 0.01 / period) ** 2) == pytest.approx(kept, abs=0.01)
        np.testing.assert_allclose(got[inner], 0.1 * kept * wave[inner], atol=1e-3)


@GRIDS
def test_nothing_under_ivar_zero_matters(grid):
    flux, ivar = example(grid)
    clean = running_continuum(grid, flux, ivar)
    polynomial = polynomial_continuum(grid, flux, ivar)
    for dirt in (np.nan, -np.inf, 1e30):
        dirty = np.where(ivar > 0, flux, dirt)
        np.testing.assert_array_equal(running_continuum(grid, dirty, ivar), clean)
        np.testing.assert_array_equal(polynomial_continuum(grid, dirty, ivar), polynomial)
    assert np.isfinite(clean).all()
    assert np.isfinite(polynomial).all()


def test_wide_gaps_are_bridged_and_an_empty_spectrum_is_nan():
    flux, ivar = np.ones((3, LAMOST.size)), np.ones((3, LAMOST.size))
    ivar[1, 100:3800] = 0
    flux[1, 3800:] = 3
    ivar[2] = 0
    got = running_continuum(LAMOST, flux, ivar, 0.01)
    np.testing.assert_allclose(got[0], 1, rtol=1e-9)
    assert ((got[1] > 0.9) & (got[1] < 3.1)).all()
    assert got[1, 50] == pytest.approx(1, abs=1e-6)
    assert got[1, 3850] == pytest.approx(3, abs=1e-6)
    assert np.isnan(got[2]).all()


@pytest.mark.parametrize("only", [0, 1000, -1])
def test_one_usable_pixel_is_its_own_continuum(only):
    ivar = np.zeros(APOGEE.size)
    ivar[only] = 2
    flux = np.where(ivar > 0, 5.0, np.nan)
    assert running_continuum(APOGEE, flux, ivar)[only] == pytest.approx(5, rel=1e-9)


def test_many_spectra_at_once_and_the_scale_of_ivar():
    rng = np.random.default_rng(1)
    flux, ivar = rng.normal(1, 0.1, (2, 3, 2401)), rng.uniform(0, 2, (2, 3, 2401))
    grid = np.linspace(8460, 8700, 2401)
    many = running_continuum(grid, flux, ivar)
    assert many.shape == (2, 3, 2401)
    np.testing.assert_allclose(
        many[1, 2], running_continuum(grid, flux[1, 2], ivar[1, 2]), rtol=1e-12
    )
    np.testing.assert_allclose(running_continuum(grid, flux, 1e30 * ivar), many, rtol=1e-9)
    shared = running_continuum(grid, flux, ivar[0, 0])
    np.testing.assert_allclose(shared[0, 0], many[0, 0], rtol=1e-12)


def test_the_polynomial_follows_the_envelope_and_not_the_lines():
    rng = np.random.default_rng(3)
    x = np.linspace(-1, 1, LAMOST.size)
    truth = 100 * (1 + 0.3 * x - 0.2 * x**2 + 0.1 * x**3)
    lines = 1 - 0.6 * (rng.random(x.size) < 0.15)
    flux = truth * lines * (1 + 0.01 * rng.normal(size=x.size))
    flux[[50, 900]] *= 10  # cosmic rays
    ivar = np.full(x.size, 1.0)
    got = polynomial_continuum(LAMOST, flux, ivar, 3)
    np.testing.assert_allclose(got, truth, rtol=0.01)
    plain = np.polynomial.Chebyshev.fit(x, flux, 3)(x)
    assert np.abs(plain / truth - 1).max() > 0.05


def test_the_polynomial_is_clipped_from_below():
    rng = np.random.default_rng(4)
    flux = 1 + 0.01 * rng.normal(size=LAMOST.size) - 0.03 * (rng.random(LAMOST.size) < 0.3)
    ivar = np.full(LAMOST.size, 1e4)
    above, even = (
        np.median(polynomial_continuum(LAMOST, flux, ivar, 2, clip_below=clip) - 1)
        for clip in (1.5, 4.0)
    )
    assert even < -0.004
    assert abs(above) < 0.002


def test_the_polynomial_is_exact_without_noise():
    u = 2 * np.log(LAMOST / LAMOST[0]) / np.log(LAMOST[-1] / LAMOST[0]) - 1
    flux = 3 + u - 0.5 * u**2
    np.testing.assert_allclose(
        polynomial_continuum(LAMOST, flux, np.ones(u.size), 2), flux, rtol=1e-9
    )


def spectrum(flux, ivar, grid=LAMOST):
    return Spectrum(grid, flux, ivar, 1800.0, Frame.BARYCENTRIC, rv=12.0, spectrum_id="spec-1")


def test_normalise_keeps_the_signal_to_noise_of_each_pixel():
    flux, ivar = example(LAMOST)
    original = spectrum(1e3 * (LAMOST / 5000) ** -2 * flux, 1e-2 * ivar)
    got = normalise(original)
    np.testing.assert_allclose(
        got.flux * np.sqrt(got.ivar), original.flux * np.sqrt(original.ivar), rtol=1e-5
    )
    assert np.median(got.flux[got.good]) == pytest.approx(1, abs=0.05)
    np.testing.assert_array_equal(got.good, original.good)
    assert (got.rv, got.frame, got.resolution) == (12.0, Frame.BARYCENTRIC, 1800.0)
    np.testing.assert_allclose(
        got.flux, normalise(spectrum(7 * original.flux, original.ivar)).flux, rtol=1e-5
    )


def test_normalise_by_a_given_continuum():
    flux, ivar = example(LAMOST)
    level = np.full(LAMOST.size, 4.0)
    level[:5], level[5] = [-1, 0, np.nan, np.inf, 2], 8
    got = normalise(spectrum(flux, np.maximum(ivar, 0.1)), level)
    assert got.good[:6].tolist() == [False] * 4 + [True] * 2
    np.testing.assert_allclose(got.flux[6:], flux[6:] / 4, rtol=1e-6)
    assert got.flux[5] == pytest.approx(flux[5] / 8)
    assert np.isfinite(got.flux).all()


def test_errors():
    flux = np.ones(LAMOST.size)
    with pytest.raises(InputError, match=r"width: expected a positive width in ln"):
        running_continuum(LAMOST, flux, flux, 0.0)
    with pytest.raises(InputError, match=r"ivar: expected shape"):
        running_continuum(LAMOST, flux, flux[:-1])
    with pytest.raises(InputError, match="number of usable pixels, 2, found 4"):
        polynomial_continuum(LAMOST, flux, np.r_[1, 1, np.zeros(LAMOST.size - 2)])
    with pytest.raises(InputError, match="flux: expected one spectrum"):
        polynomial_continuum(LAMOST, np.ones((2, LAMOST.size)), flux)
    with pytest.raises(InputError, match="continuum: expected the shape of the flux"):
        normalise(spectrum(flux, flux), 2.0)
