"""The emulator through an instrument against `observe`, closed forms and finite differences."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from spectrolabe.errors import InputError
from spectrolabe.models import projection
from spectrolabe.models.projection import Projection
from spectrolabe.spectra import SPEED_OF_LIGHT, Instrument, observe
from tests.models.emulators import MEAN, NAMES, PIXELS, SPREAD, made_up_emulator

FWHM = 2 * np.sqrt(2 * np.log(2))


@pytest.fixture(scope="module")
def emulator():
    return made_up_emulator()


@pytest.fixture(scope="module")
def labels():
    return MEAN + 0.5 * SPREAD * np.random.default_rng(0).standard_normal((3, len(NAMES)))


def native(emulator, labels):
    return emulator.basis.flux(emulator.latents(labels)).double().numpy()


def pixels(low, high, resolution):
    """Three and a bit to a FWHM."""
    return np.exp(np.arange(np.log(low), np.log(high), 1 / (3.1 * resolution)))


def one_line(centre, sigma):
    """An emulator of one star with one line of depth 0.5 and width sigma in ln(wavelength)."""
    emulator = made_up_emulator()
    x = emulator.basis.log_wavelength
    flux = 1 - 0.5 * np.exp(-0.5 * ((x - np.log(centre)) / sigma) ** 2)
    components = torch.zeros_like(emulator.basis.components)
    offset = torch.tensor(flux.reshape(-1, PIXELS), dtype=torch.float32)
    emulator.basis = replace(emulator.basis, offset=offset, components=components)
    return emulator


# --- against the native grid ----------------------------------------------------------------------


def test_at_its_own_resolution_and_pixels_it_is_the_basis(emulator, labels):
    flux = emulator.flux(labels, emulator.wavelength, emulator.resolution)
    np.testing.assert_allclose(flux, native(emulator, labels), atol=1e-6)


@pytest.mark.parametrize("resolution", [22500, 11500, 1800, 300])
def test_agrees_with_observe(emulator, labels, resolution):
    grid = pixels(5060, 5330, resolution)
    for rv, v_broad in ((0, 0), (150, 0), (-300, 20), (20, 150)):
        want = observe(
            emulator.wavelength,
            native(emulator, labels),
            Instrument(grid, resolution),
            rv=rv,
            vbroad=v_broad,
            input_resolution=emulator.resolution,
        )
        got = emulator.flux(labels, grid, resolution, rv=rv, v_broad=v_broad)
        np.testing.assert_allclose(got, want, atol=8e-5)
        assert np.ptp(want) > 0.004


def test_agrees_with_observe_where_r_changes_with_wavelength(emulator, labels):
    grid = np.linspace(5060, 5330, 900)
    resolution = np.interp(grid, [5060, 5330], [3000, 7000])
    want = observe(
        emulator.wavelength,
        native(emulator, labels),
        Instrument(grid, resolution),
        input_resolution=emulator.resolution,
    )
    np.testing.assert_allclose(emulator.flux(labels, grid, resolution), want, atol=4e-5)
    one = emulator.flux(labels, grid, 5000.0)
    assert np.abs(one - want).max() > 1e-3


# --- closed forms ---------------------------------------------------------------------------------


@pytest.mark.parametrize("resolution", [28000, 27000, 20000, 5000, 1800])
def test_an_unresolved_line_has_the_width_of_the_instrument(resolution):
    emulator = one_line(5200.0, 1 / 28000 / FWHM)
    grid = np.linspace(5185, 5215, 30001)
    depth = 1 - emulator.flux(MEAN, grid, resolution)[0].astype(float)
    peak = int(np.argmax(depth))
    half = 0.5 * depth.max()
    blue = np.interp(half, depth[:peak], grid[:peak])
    width = np.interp(-half, -depth[peak:], grid[peak:]) - blue
    # a cubic spline through three pixels per FWHM changes depth and width by 0.6 per cent
    limit = 8e-3 if resolution > 25000 else 2e-3
    assert width == pytest.approx(5200 / resolution, rel=limit)
    assert depth.max() == pytest.approx(0.5 * resolution / 28000, rel=limit)


def test_lines_of_a_receding_star_are_redder():
    emulator = one_line(5200.0, 1 / 20000 / FWHM)
    grid = np.linspace(5180, 5220, 8001)
    for rv in (200.0, -35.0):
        depth = 1 - emulator.flux(MEAN, grid, 5000.0, rv=rv)[0].astype(float)
        centre = np.sum(depth * grid) / np.sum(depth)
        assert centre == pytest.approx(5200 * (1 + rv / SPEED_OF_LIGHT), abs=1e-3)


@pytest.mark.parametrize("resolution", [28000, 4000])
def test_a_line_across_two_patches_is_whole(resolution):
    emulator = made_up_emulator()
    x, sigma = emulator.basis.log_wavelength, 1 / 20000 / FWHM
    edge = 0.5 * (x[5 * PIXELS - 1] + x[5 * PIXELS])
    shape = np.exp(-0.5 * ((x - edge) / sigma) ** 2).reshape(-1, PIXELS)
    components = torch.zeros_like(emulator.basis.components)
    components[:, 0] = torch.tensor(shape)
    offset = torch.ones_like(emulator.basis.offset)
    emulator.basis = replace(emulator.basis, offset=offset, components=components)
    view = Projection.of(emulator, 5050.0, 5350.0, float(resolution))
    latents = torch.zeros(1, view.patches.stop - view.patches.start, components.shape[1])
    latents[:, :, 0] = -0.5
    grid = np.linspace(edge - 8e-4, edge + 8e-4, 301)
    mixed = torch.einsum("npk,pkr->npr", latents, view.readout[1])[:, None]
    flux, _, _ = projection.sample(view.splines(mixed), view.start, view.step, grid)
    total = np.sqrt(sigma**2 + (1 / resolution**2 - 1 / 28000**2) / FWHM**2)
    want = 1 - 0.5 * sigma / total * np.exp(-0.5 * ((grid - edge) / total) ** 2)
    np.testing.assert_allclose(flux[0, 0], want, atol=6e-4)


# --- slopes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("resolution", [22500.0, 1800.0])
def test_jacobian_is_that_of_finite_differences(emulator, labels, resolution):
    grid = pixels(5100, 5300, resolution)
    chosen = ("mg_fe", "teff", "fe_h")  # in an order of their own
    flux, slopes = emulator.jacobian(labels, grid, resolution, names=chosen, rv=40.0, v_broad=6.0)
    np.testing.assert_allclose(
        flux, emulator.flux(labels, grid, resolution, rv=40.0, v_broad=6.0), atol=1e-6
    )
    assert slopes.shape == (3, 3, len(grid))
    for j, name in enumerate(chosen):
        column = emulator.names.index(name)
        step = np.zeros(len(NAMES))
        step[column] = 0.05 * SPREAD[column]
        up, down = (
            emulator.flux(labels + sign * step, grid, resolution, rv=40.0, v_broad=6.0)
            for sign in (1, -1)
        )
        numerical = (up.astype(float) - down) / (2 * step[column])
        np.testing.assert_allclose(slopes[:, j], numerical, atol=5e-3 * np.abs(numerical).max())


def test_all_labels_have_slopes_in_their_order(emulator, labels):
    grid = pixels(5150, 5250, 5000)
    _, every = emulator.jacobian(labels, grid, 5000.0)
    assert every.shape == (3, len(NAMES), len(grid))
    _, some = emulator.jacobian(labels, grid, 5000.0, names=("si_fe", "logg"))
    columns = [NAMES.index("si_fe"), NAMES.index("logg")]
    np.testing.assert_allclose(some, every[:, columns], atol=1e-6)


# --- what must not matter -------------------------------------------------------------------------


@pytest.mark.parametrize("resolution", [28000.0, 1800.0])
def test_the_range_asked_for_changes_nothing(emulator, labels, resolution):
    grid = np.linspace(5170, 5230, 400)
    every = np.linspace(5001, 5399, 4000)
    wide = Projection.of(emulator, every[0], every[-1], resolution)
    narrow = Projection.of(emulator, grid[0], grid[-1], resolution, room=0.0)
    assert narrow.size < 0.7 * wide.size
    flux = [
        projection.sample(
            view.coefficients(labels, []),
            view.start,
            view.step,
            np.log(grid),
        )[0]
        for view in (wide, narrow)
    ]
    np.testing.assert_allclose(*flux, atol=3e-6)


def test_room_is_what_velocities_need(emulator, labels):
    grid = np.linspace(5170, 5230, 400)
    for room, enough in ((0.0, False), (2500.0, True)):
        view = Projection.of(emulator, grid[0], grid[-1], 20000.0, room=room)
        splines = view.coefficients(labels, [])
        flux, _, _ = projection.sample(splines, view.start, view.step, np.log(grid), rv=2500.0)
        want = emulator.flux(labels, grid, 20000.0, rv=2500.0)
        assert np.allclose(flux[:, 0], want, atol=1e-5) == enough


def test_order_and_batch_change_nothing(emulator):
    labels = MEAN + 0.5 * SPREAD * np.random.default_rng(1).standard_normal((140, len(NAMES)))
    grid = pixels(5100, 5200, 3000)
    together = emulator.flux(labels, grid, 3000.0)
    order = np.random.default_rng(2).permutation(140)
    np.testing.assert_allclose(
        emulator.flux(labels[order], grid, 3000.0), together[order], atol=1e-6
    )
    for n in (0, 127, 128, 139):
        alone = emulator.flux(labels[n], grid, 3000.0)
        np.testing.assert_allclose(alone[0], together[n], atol=1e-6)


def test_inputs_are_not_edited(emulator, labels):
    view = Projection.of(emulator, 5100.0, 5200.0, 3000.0)
    rows = emulator.latents_and_slopes(labels, [0, 1], view.readout)
    before = rows.clone()
    offset = view.offset.clone()
    view.splines(rows)
    assert torch.equal(rows, before)
    assert torch.equal(view.offset, offset)


@pytest.mark.parametrize("resolution", [15000.0, 3000.0])
def test_beyond_the_emulator_its_last_pixels_are_repeated(labels, resolution):
    emulator = made_up_emulator()  # with a level at its ends that is not that of the mean
    emulator.basis = replace(emulator.basis, components=emulator.basis.components + 0.01)
    x, more = emulator.basis.log_wavelength, 600
    beyond = emulator.basis.step * np.arange(1, more + 1)
    longer = np.exp(np.concatenate([x[0] - beyond[::-1], x, x[-1] + beyond]))
    flux = np.pad(native(emulator, labels), ((0, 0), (more, more)), mode="edge")
    grid = pixels(emulator.wavelength[0], emulator.wavelength[-1], resolution)
    want = observe(longer, flux, Instrument(grid, resolution), input_resolution=28000.0)
    got = emulator.flux(labels, grid, resolution)
    np.testing.assert_allclose(got, want, atol=8e-5)


def test_broadening_sees_what_lies_beside_the_pixels(emulator, labels):
    every = np.linspace(5050, 5350, 6001)
    grid = every[3000:3100]
    got = emulator.flux(labels, grid, 20000.0, v_broad=900.0)
    want = emulator.flux(labels, every, 20000.0, v_broad=900.0)[:, 3000:3100]
    np.testing.assert_allclose(got, want, atol=5e-6)


# --- errors ---------------------------------------------------------------------------------------


def test_errors_name_what_is_wrong(emulator, labels):
    grid = np.linspace(5100, 5200, 300)
    with pytest.raises(InputError, match=r"R up to 28000.*found 30000"):
        emulator.flux(labels, grid, 30000.0)
    with pytest.raises(InputError, match=r"R up to 28000.*found 29000"):
        emulator.flux(labels, grid, np.linspace(20000, 29000, 300))
    with pytest.raises(InputError, match=r"5000\.0 to 54.*found 4900\.0 to 5200\.0"):
        emulator.flux(labels, np.linspace(4900, 5200, 300), 3000.0)
    with pytest.raises(InputError, match=r"at rest.*found 4996\.0 to"):
        emulator.flux(labels, np.linspace(5001, 5200, 300), 3000.0, rv=300.0)
    with pytest.raises(InputError, match="positive, finite R"):
        emulator.flux(labels, grid, 0.0)
    with pytest.raises(InputError, match="shape"):
        emulator.flux(labels, grid, np.full(7, 3000.0))
    with pytest.raises(InputError, match="ascending"):
        emulator.flux(labels, grid[::-1], 3000.0)
    with pytest.raises(InputError, match="Did you mean 'mg_fe'"):
        emulator.jacobian(labels, grid, 3000.0, names=("mgfe",))
    with pytest.raises(InputError, match="rv"):
        emulator.flux(labels, grid, 3000.0, rv=np.nan)
    for v_broad in (-2.0, np.nan):
        with pytest.raises(InputError, match="vbroad"):
            emulator.flux(labels, grid, 3000.0, v_broad=v_broad)


def test_r_counts_only_where_there_are_pixels(emulator):
    table = (np.array([3000.0, 5000.0, 5390.0, 9000.0]), np.array([4e4, 4000.0, 5000.0, 4e4]))
    view = Projection.of(emulator, 5050.0, 5300.0, table)
    assert view.step == pytest.approx(1 / 4 / 5000, rel=0.15)
