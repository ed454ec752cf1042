"""Line-spread function, rotation and Gaussian velocities against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import CubicSpline

from spectrolabe.errors import InputError
from spectrolabe.spectra.broadening import broaden, convolve_lsf, macroturbulence, rotate
from spectrolabe.spectra.wavelength import SPEED_OF_LIGHT

LINE = 5500.0
LOG_GRID = np.geomspace(5450, 5550, 3001)
LINEAR_GRID = np.linspace(5450, 5550, 3001)
# steps that grow smoothly by a factor of three from blue to red
UNEVEN_GRID = 5450 + 50 * (np.linspace(0, 1, 3001) + np.linspace(0, 1, 3001) ** 2)
GRIDS = pytest.mark.parametrize(
    "grid", [LOG_GRID, LINEAR_GRID, UNEVEN_GRID], ids=["log", "linear", "uneven"]
)


def fwhm(wavelength, depth):
    """Full width at half maximum of a single line, by a spline through it."""
    line = depth > 0.01 * depth.max()
    wavelength, depth = wavelength[line], depth[line]
    spline = CubicSpline(wavelength, depth)
    summit = spline.derivative().roots(extrapolate=False)
    peak = spline(summit).max()
    half = CubicSpline(wavelength, depth - peak / 2).roots(extrapolate=False)
    return half[-1] - half[0]


def gaussian_line(wavelength, width, centre=LINE):
    """An absorption line of depth 0.7 and this FWHM."""
    return 0.7 * np.exp(-4 * np.log(2) * ((wavelength - centre) / width) ** 2)


@GRIDS
@pytest.mark.parametrize("resolution", [1800.0, 7500.0, 28000.0])
def test_an_unresolved_line_has_the_fwhm_of_the_instrument(grid, resolution):
    flux = np.ones(grid.size)
    flux[np.searchsorted(grid, LINE)] = 0.0
    depth = 1 - convolve_lsf(grid, flux, resolution)
    assert fwhm(grid, depth) == pytest.approx(LINE / resolution, rel=5e-4)


@GRIDS
def test_widths_add_in_quadrature(grid):
    flux = 1 - gaussian_line(grid, 0.5)
    got = fwhm(grid, 1 - convolve_lsf(grid, flux, 6000.0))
    assert got == pytest.approx(np.hypot(0.5, LINE / 6000), rel=1e-3)
    # the same line, already seen at R = 20000
    seen = 1 - gaussian_line(grid, np.hypot(0.5, LINE / 20000))
    got = fwhm(grid, 1 - convolve_lsf(grid, seen, 6000.0, 20000.0))
    assert got == pytest.approx(np.hypot(0.5, LINE / 6000), rel=1e-3)
    got = fwhm(grid, 1 - broaden(grid, flux, 60.0))
    assert got == pytest.approx(np.hypot(0.5, LINE * 60 / SPEED_OF_LIGHT), rel=1e-3)


@GRIDS
@pytest.mark.parametrize(
    "smooth",
    [
        lambda w, f: convolve_lsf(w, f, 2000.0),
        lambda w, f: convolve_lsf(w, f, 2000.0 * w / LINE),
        lambda w, f: rotate(w, f, 150.0),
        lambda w, f: broaden(w, f, 100.0),
    ],
    ids=["constant R", "constant FWHM", "rotation", "velocity"],
)
def test_an_isolated_line_keeps_its_integral_and_a_flat_spectrum_stays_flat(grid, smooth):
    depth = gaussian_line(grid, 1.0)
    got = np.trapezoid(1 - smooth(grid, 1 - depth), grid)
    assert got == pytest.approx(
        np.trapezoid(depth, grid), rel=1e-6 if grid is not UNEVEN_GRID else 1e-4
    )
    np.testing.assert_allclose(smooth(grid, np.full(grid.size, 3.0)), 3.0, rtol=1e-12)


def test_a_gaussian_line_at_every_pixel():
    width = np.hypot(0.8, LINE / 5000)
    want = gaussian_line(LINEAR_GRID, width) * 0.8 / width
    got = 1 - convolve_lsf(LINEAR_GRID, 1 - gaussian_line(LINEAR_GRID, 0.8), 5000.0)
    # the kernel is symmetric in ln(wavelength), the closed form in wavelength
    np.testing.assert_allclose(got, want, atol=2e-4)


def test_fft_and_rows_of_weights_agree():
    rng = np.random.default_rng(3)
    flux = 1 + 0.1 * rng.normal(size=(2, LOG_GRID.size))
    for resolution in (1500.0, 60000.0, 150000.0):
        fast = convolve_lsf(LOG_GRID, flux, resolution)
        varied = resolution * (1 + 1e-12 * np.arange(LOG_GRID.size))
        np.testing.assert_allclose(fast, convolve_lsf(LOG_GRID, flux, varied), rtol=1e-7)
    uneven = np.exp(np.log(LOG_GRID) * (1 + 1e-14) + 1e-9 * np.sin(np.arange(LOG_GRID.size)))
    np.testing.assert_allclose(rotate(LOG_GRID, flux, 30.0), rotate(uneven, flux, 30.0), rtol=2e-4)


def test_each_pixel_has_its_own_resolution():
    resolution = np.where(LINEAR_GRID < LINE, 2000.0, 8000.0)
    flux = 1 - gaussian_line(LINEAR_GRID, 0.2, 5475) - gaussian_line(LINEAR_GRID, 0.2, 5525)
    depth = 1 - convolve_lsf(LINEAR_GRID, flux, resolution)
    for centre, want in ((5475, 2000), (5525, 8000)):
        near = np.abs(LINEAR_GRID - centre) < 20
        got = fwhm(LINEAR_GRID[near], depth[near])
        assert got == pytest.approx(np.hypot(0.2, centre / want), rel=2e-3)


@pytest.mark.parametrize("grid", [LOG_GRID, LINEAR_GRID], ids=["log", "linear"])
@pytest.mark.parametrize("steps", [0.1, 0.3, 0.6, 0.75, 1.0, 2.0])
def test_the_variance_of_a_narrow_kernel_is_exact(grid, steps):
    middle = grid.size // 2
    step = np.log(grid[middle + 1] / grid[middle])
    flux = np.zeros(grid.size)
    flux[middle] = 1.0
    got = convolve_lsf(grid, flux, 1 / (steps * step * 2 * np.sqrt(2 * np.log(2))))
    x = (np.log(grid) - np.log(grid[middle])) / step
    assert np.sum(got * x**2) / np.sum(got) == pytest.approx(steps**2, rel=3e-3)


@pytest.mark.parametrize("resolution", [5000.0, 100000.0])  # wide and narrow in steps
def test_a_gap_in_the_grid_does_not_pull(resolution):
    grid = np.r_[np.linspace(4713, 4903, 2000), np.linspace(5648, 5873, 2000)]
    flux = np.where(grid < 5000, 1 + (grid - 4900) / 100, 5.0)
    smooth = convolve_lsf(grid, flux, resolution)
    # within its own piece the end of a line of slope 1/100 moves by less than one sigma of it
    assert abs(smooth[1999] - flux[1999]) < 0.01
    np.testing.assert_allclose(smooth[2000:], 5.0, rtol=1e-12)


@pytest.mark.parametrize("limb_darkening", [0.0, 0.6, 1.0])
@GRIDS
def test_rotation_profile_is_that_of_gray(grid, limb_darkening):
    vsini, e = 200.0, limb_darkening
    pixel = np.searchsorted(grid, LINE)
    flux = np.zeros(grid.size)
    flux[pixel] = 1.0
    area = (grid[pixel + 1] - grid[pixel - 1]) / 2
    got = rotate(grid, flux, vsini, e) / area * grid[pixel] * vsini / SPEED_OF_LIGHT
    u = np.log(grid / grid[pixel]) * SPEED_OF_LIGHT / vsini
    disc = np.clip(1 - u**2, 0, None)
    want = (2 * (1 - e) * np.sqrt(disc) + np.pi / 2 * e * disc) / (np.pi * (1 - e / 3))
    clear = np.abs(np.abs(u) - 1) > 0.03  # the pixel average rounds the edges off
    np.testing.assert_allclose(got[clear], want[clear], atol=5e-3)


def test_rotation_variance_equals_the_stated_gaussian():
    flux = 1 - gaussian_line(LOG_GRID, 0.1)

    def variance(depth):
        centre = np.average(LOG_GRID, weights=depth)
        return np.average((LOG_GRID - centre) ** 2, weights=depth)

    rotated = variance(1 - rotate(LOG_GRID, flux, 100.0))
    assert variance(1 - broaden(LOG_GRID, flux, 110.0)) == pytest.approx(rotated, rel=0.04)


@pytest.mark.parametrize("grid", [LOG_GRID, np.linspace(6540.0, 6590.0, 5001)], ids=["log", "even"])
def test_macroturbulence_profile_is_that_of_gray(grid):
    v_macro = 60.0
    pixel = grid.size // 2
    flux = np.zeros(grid.size)
    flux[pixel] = 1.0
    area = (grid[pixel + 1] - grid[pixel - 1]) / 2
    got = macroturbulence(grid, flux, v_macro) / area * grid[pixel] * v_macro / SPEED_OF_LIGHT
    u = np.abs(np.log(grid / grid[pixel])) * SPEED_OF_LIGHT / v_macro
    # two half discs of Gaussian streams, seen under all angles (Gray 2008, eq. 17.13)
    t = (np.arange(4000) + 0.5) / 4000 * np.pi / 2
    s, c = np.sin(t)[:, None], np.cos(t)[:, None]
    streams = np.exp(-((u / c) ** 2)) / c + np.exp(-((u / s) ** 2)) / s
    want = (streams * 2 * s * c).mean(axis=0) * np.pi / 2 / 2 / np.sqrt(np.pi)
    clear = u > 0.05  # the pixel average rounds the cusp off
    np.testing.assert_allclose(got[clear], want[clear], atol=2e-3)


def test_no_broadening_is_the_identity_and_no_alias():
    flux = np.random.default_rng(0).normal(size=LOG_GRID.size)
    for same in (
        convolve_lsf(LOG_GRID, flux, np.inf),
        convolve_lsf(LOG_GRID, flux, 5000.0, 5000.0),
        broaden(LOG_GRID, flux, 0.0),
        rotate(LOG_GRID, flux, 0.0),
        macroturbulence(LOG_GRID, flux, 0.0),
    ):
        np.testing.assert_array_equal(same, flux)
        assert not np.shares_memory(same, flux)


@settings(max_examples=40, deadline=None)
@given(
    steps=st.lists(st.floats(0.01, 3.0), min_size=5, max_size=60),
    resolution=st.floats(50, 5e5),
    shape=st.sampled_from([(), (2,), (2, 3)]),
)
def test_a_mean_never_leaves_the_range_of_the_flux(steps, resolution, shape):
    grid = 5000 + np.cumsum(steps)
    flux = np.random.default_rng(1).uniform(-1, 1, (*shape, grid.size))
    got = convolve_lsf(grid, flux, resolution)
    assert got.shape == flux.shape
    assert got.max() <= flux.max() + 1e-9
    assert got.min() >= flux.min() - 1e-9


def test_errors():
    flux = np.ones(LOG_GRID.size)
    with pytest.raises(InputError, match=r"resolution: expected R of at most .* 2000"):
        convolve_lsf(LOG_GRID, flux, 3000.0, 2000.0)
    with pytest.raises(InputError, match="a positive R"):
        convolve_lsf(LOG_GRID, flux, 0.0)
    with pytest.raises(InputError, match=r"one R, or shape \(3001,\)"):
        convolve_lsf(LOG_GRID, flux, np.full(10, 2000.0))
    with pytest.raises(InputError, match=r"finite values, found 1"):
        convolve_lsf(LOG_GRID, np.where(flux.cumsum() == 3, np.nan, flux), 2000.0)
    with pytest.raises(InputError, match="strictly ascending"):
        convolve_lsf(LOG_GRID[::-1], flux, 2000.0)
    with pytest.raises(InputError, match="vsini"):
        rotate(LOG_GRID, flux, -1.0)
    with pytest.raises(InputError, match="limb_darkening: expected 0 to 1"):
        rotate(LOG_GRID, flux, 10.0, 1.5)
    with pytest.raises(InputError, match="vbroad"):
        broaden(LOG_GRID, flux, np.nan)
