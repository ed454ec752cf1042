"""Splines of model spectra against closed forms, quadrature, finite differences and `observe`."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.interpolate import BSpline, CubicSpline

from spectrolabe.errors import InputError
from spectrolabe.spectra import Instrument, observe
from spectrolabe.spectra.sampling import sample, smoothed, spline_coefficients
from spectrolabe.spectra.wavelength import SPEED_OF_LIGHT

FWHM = 2 * np.sqrt(2 * np.log(2))
START, RESOLUTION = np.log(5000.0), 20000.0
STEP = 1 / RESOLUTION / 4  # four points per FWHM
SIGMA = 1 / RESOLUTION / FWHM
GRID = START + STEP * np.arange(800)
CENTRE = START + 401.3 * STEP
PIXELS = START + STEP * np.arange(60, 740, 1.37)


def line(x, centre=CENTRE, sigma=SIGMA, depth=0.8):
    """An unresolved line of that depth at SIGMA; broader ones keep their strength."""
    return 1 - depth * SIGMA / sigma * np.exp(-0.5 * ((x - centre) / sigma) ** 2)


def splines(*rows):
    return spline_coefficients(np.array(rows))[None].astype(np.float32)


def random_splines(stars=3, rows=5, seed=0):
    rng = np.random.default_rng(seed)
    depth = rng.uniform(0.05, 0.5, (stars, rows, 40))
    centre = START + STEP * rng.uniform(0, 800, (stars, rows, 40))
    shape = np.exp(-0.5 * ((GRID - centre[..., None]) / SIGMA) ** 2)
    return spline_coefficients(1 - (depth[..., None] * shape).sum(axis=2)).astype(np.float32)


def kernel(u, sigma):
    """Cubic B-spline (x) Gaussian by Gauss-Legendre between the knots."""
    beta = BSpline.basis_element(np.arange(-2.0, 3))
    node, weight = np.polynomial.legendre.leggauss(60)
    t = (np.arange(-2, 2)[:, None] + 0.5 * (node + 1)).ravel()
    density = np.exp(-0.5 * ((u - t) / sigma) ** 2) / sigma / np.sqrt(2 * np.pi)
    return np.sum(np.tile(0.5 * weight, 4) * beta(t) * density)


# --- splines --------------------------------------------------------------------------------------


def test_coefficients_are_those_of_the_interpolating_spline():
    values = np.random.default_rng(1).normal(size=(2, 60))
    at = np.array([25.0, 28.27, 30.5, 33.9])
    got = smoothed(spline_coefficients(values), at, 0.0)
    want = CubicSpline(np.arange(60), values, axis=1)(at)  # its ends differ, and do not matter here
    np.testing.assert_allclose(got, want, atol=1e-7)
    across = spline_coefficients(values.T, axis=0)
    np.testing.assert_array_equal(across, spline_coefficients(values).T)


@pytest.mark.parametrize("sigma", [0.3, 1.0, 3.0, 5.9, 6.1, 20.0])
def test_a_smoothed_b_spline_is_the_integral(sigma):
    one = np.zeros((1, 401))
    one[0, 200] = 1.0
    at = 200 + np.array([0.0, 0.4, -1.3, 2.6, 2.2 * sigma])
    got = smoothed(one, at, sigma)[0]
    want = [kernel(u - 200, sigma) for u in at]
    np.testing.assert_allclose(got, want, atol=1e-5 * want[0])


def test_each_position_has_its_own_width():
    values = spline_coefficients(np.random.default_rng(2).normal(size=(3, 200)))
    at, sigma = np.array([80.2, 100.0, 117.7]), np.array([0.0, 2.0, 7.5])
    got = smoothed(values, at, sigma)
    for m in range(3):
        np.testing.assert_array_equal(got[:, m], smoothed(values, at[[m]], sigma[m])[:, 0])
    assert np.abs(got[:, 2]).max() < 0.5 * np.abs(got[:, 0]).max()


# --- sampling -------------------------------------------------------------------------------------


def test_a_line_is_found_at_any_pixel():
    flux, _, _ = sample(splines(line(GRID)), START, STEP, PIXELS)
    np.testing.assert_allclose(flux[0, 0], line(PIXELS), atol=8e-4)
    assert flux.dtype == np.float32


@pytest.mark.parametrize("v_broad", [0.5, 3.0, 8.0, 25.0, 70.0])
def test_a_broadened_line_is_a_gaussian_of_the_sum_of_variances(v_broad):
    flux, _, _ = sample(splines(line(GRID)), START, STEP, PIXELS, v_broad=v_broad)
    sigma = np.hypot(SIGMA, v_broad / SPEED_OF_LIGHT / FWHM)
    np.testing.assert_allclose(flux[0, 0], line(PIXELS, sigma=sigma), atol=8e-4 * SIGMA / sigma)
    depth = 1 - flux[0, 0]
    assert depth.sum() * 1.37 * STEP == pytest.approx(0.8 * SIGMA * np.sqrt(2 * np.pi), rel=4e-4)


def test_the_width_of_a_broadened_line_is_a_fwhm():
    fine = np.linspace(CENTRE - 1e-3, CENTRE + 1e-3, 20001)
    v_broad = 60.0
    flux, _, _ = sample(splines(line(GRID)), START, STEP, fine, v_broad=v_broad)
    depth = 1 - flux[0, 0]
    width = np.ptp(fine[depth > 0.5 * depth.max()]) * SPEED_OF_LIGHT
    assert width == pytest.approx(np.hypot(v_broad, SPEED_OF_LIGHT / RESOLUTION), rel=1e-3)


@pytest.mark.parametrize("rv", [250.0, -90.0])
def test_lines_of_a_receding_star_are_redder(rv):
    fine = np.linspace(CENTRE - 2e-3, CENTRE + 2e-3, 40001)
    flux, _, _ = sample(splines(line(GRID)), START, STEP, fine, rv=rv)
    depth = 1 - flux[0, 0]
    at = np.sum(depth * np.exp(fine)) / np.sum(depth)
    assert at / np.exp(CENTRE) - 1 == pytest.approx(rv / SPEED_OF_LIGHT, abs=1e-7)


def test_agrees_with_observe_at_any_velocity():
    coefficients = random_splines()
    fine = START + STEP * np.arange(0, 799, 0.125)
    flux = smoothed(coefficients[:, 0].astype(float), (fine - START) / STEP, 0.0)
    pixels = np.exp(START + STEP * np.arange(100, 700, 0.9))
    for rv, v_broad in ((0.0, 0.0), (150.0, 12.0), (-80.0, 100.0)):
        instrument = Instrument(pixels, 30000.0)  # another broadening: 10 km/s
        want = observe(np.exp(fine), flux, instrument, rv=rv, vbroad=v_broad)
        total = np.hypot(v_broad, SPEED_OF_LIGHT / 30000)
        got, _, _ = sample(coefficients, START, STEP, np.log(pixels), rv=rv, v_broad=total)
        np.testing.assert_allclose(got[:, 0], want, atol=4e-4)  # lines of 0.7, three pixels each
        assert np.ptp(want) > 0.1


@pytest.mark.parametrize("v_broad", [0.0, 1.0, 10.0, 60.0])
def test_slopes_are_derivatives(v_broad):
    coefficients = random_splines(stars=2)
    rv = np.array([20.0, -130.0])

    def at(dv, db):
        return sample(coefficients, START, STEP, PIXELS, rv=rv + dv, v_broad=v_broad + db)

    _, rv_slope, broad_slope = at(0, 0)
    numerical = (at(0.2, 0)[0] - at(-0.2, 0)[0])[:, 0] / 0.4
    np.testing.assert_allclose(rv_slope, numerical, atol=2e-3 * np.abs(numerical).max())
    if v_broad == 0:
        assert (broad_slope == 0).all()
    else:
        h = 0.1 * v_broad**0.5
        numerical = (at(0, h)[0] - at(0, -h)[0])[:, 0] / (2 * h)
        np.testing.assert_allclose(broad_slope, numerical, atol=6e-3 * np.abs(numerical).max())
        assert np.abs(numerical).max() > 1e-3


def test_order_company_and_a_common_grid_change_nothing():
    coefficients = random_splines(stars=4)
    rv, v_broad = np.array([0.0, 10.0, -50.0, 200.0]), np.array([0.0, 5.0, 0.0, 90.0])
    together = sample(coefficients, START, STEP, PIXELS, rv=rv, v_broad=v_broad)
    turn = [2, 0, 3, 1]
    grids = np.stack([PIXELS] * 4)
    turned = sample(coefficients[turn], START, STEP, grids, rv=rv[turn], v_broad=v_broad[turn])
    for a, b in zip(together, turned, strict=True):
        np.testing.assert_array_equal(a[turn], b)
    for n in range(4):
        alone = sample(coefficients[n : n + 1], START, STEP, PIXELS, rv=rv[n], v_broad=v_broad[n])
        for a, b in zip(together, alone, strict=True):
            np.testing.assert_array_equal(a[n], b[0])


def test_each_star_may_have_its_own_pixels():
    coefficients = random_splines(stars=2)
    grids = np.stack([PIXELS, PIXELS + 3.3 * STEP])
    flux, _, _ = sample(coefficients, START, STEP, grids)
    for n in range(2):
        alone, _, _ = sample(coefficients[n : n + 1], START, STEP, grids[n])
        np.testing.assert_array_equal(flux[n], alone[0])


def test_beyond_its_ends_a_spline_keeps_its_value():
    coefficients = random_splines(stars=1)
    ends = START + STEP * np.array([-40.0, 0.5, 1.0, 798.0, 798.9, 2000.0])
    flux, rv_slope, _ = sample(coefficients, START, STEP, ends)
    np.testing.assert_array_equal(flux[0, :, 1:3], flux[0, :, [0, 0]].T)
    np.testing.assert_array_equal(flux[0, :, 4:], flux[0, :, [3, 3]].T)
    assert (rv_slope[0, [0, 1, 4, 5]] == 0).all()
    assert np.abs(flux[0, :, 0] - flux[0, :, -1]).max() > 0.01


def test_bad_input():
    good = random_splines(stars=2)
    for bad in (
        lambda: sample(good[0], START, STEP, PIXELS),
        lambda: sample(good, START, STEP, np.stack([PIXELS] * 3)),
        lambda: sample(good, START, STEP, PIXELS, rv=np.zeros(3)),
        lambda: sample(good, START, STEP, PIXELS, rv=np.nan),
        lambda: sample(good, START, STEP, PIXELS, rv=-3e5),
        lambda: sample(good, START, STEP, PIXELS, v_broad=-1.0),
        lambda: sample(good, START, STEP, np.append(PIXELS, np.nan)),
    ):
        with pytest.raises(InputError, match="expected"):
            bad()
