"""Spectra of stars: what goes in, what comes out, and what must not matter."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spectrolabe.errors import InputError
from spectrolabe.synthesis import spectrum
from spectrolabe.synthesis.continuum import continuum_opacity
from spectrolabe.synthesis.spectrum import Layers, Star, Synthesis, synthesise, wavelength_grid
from spectrolabe.synthesis.transfer import _flux

SUN = Star(5777.0, 4.44, 0.0, 1.0)
GIANT = Star(4500.0, 1.8, -0.6, 1.6, {"Mg": 0.3})
OPTICAL = wavelength_grid(5180.0, 5200.0)
INFRARED = wavelength_grid(15230.0, 15250.0)


@pytest.fixture(scope="module")
def sun() -> Synthesis:
    return synthesise(SUN, OPTICAL)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"teff": np.nan}, "label teff: expected a number, found nan"),
        ({"logg": np.inf}, "label logg: expected a number, found inf"),
        ({"fe_h": -np.inf}, "label fe_h: expected a number"),
        ({"v_micro": -0.1}, "label v_micro: expected >= 0 km/s, found -0.1"),
        ({"x_fe": {"Mg": np.nan}}, "label mg_fe: expected a number, found nan"),
    ],
)
def test_labels_that_are_no_labels_are_named(change, what):
    labels = {"teff": 5777.0, "logg": 4.4, "fe_h": 0.0, "v_micro": 1.0, **change}
    with pytest.raises(InputError, match=what):
        Star(**labels)


@given(st.floats(1000, 20000), st.floats(1, 500), st.floats(0.01, 1.0))
@settings(max_examples=60, deadline=None)
def test_a_wavelength_grid_is_even_and_ends_inside(low, width, step):
    grid = wavelength_grid(low, low + width + step, step)
    assert grid[0] == low
    np.testing.assert_allclose(np.diff(grid), step, rtol=1e-6)
    end = low + width + step
    assert end - 1.001 * step < grid[-1] <= end + 1e-5 * step


def test_both_ends_of_a_wavelength_grid_are_in_it():
    grid = wavelength_grid(3900.0, 9000.0)
    assert (grid.size, grid[-1]) == (102001, pytest.approx(9000.0, abs=1e-9))


@pytest.mark.parametrize("given_range", [(5100, 5000), (5000, 5000), (5000, 5100, 0), (5, 6, -1)])
def test_an_empty_wavelength_grid_is_an_error(given_range):
    with pytest.raises(InputError, match="low < high and a step above 0"):
        wavelength_grid(*given_range)


def test_flux_is_over_the_continuum_and_the_continuum_is_that_of_the_star(sun):
    assert sun.flux.dtype == sun.continuum.dtype == np.float32
    assert 0.02 < sun.flux.min() < 0.2  # Mg b
    assert 0.98 < sun.flux.max() < 1.001
    # disc centre at 5000 Å, Neckel & Labs 1984 (Sol. Phys. 90, 205), times the mean over the disc
    blue = synthesise(SUN, np.array([4999.0, 5000.0, 5001.0]))
    assert blue.continuum[1] == pytest.approx(np.pi * 4.08e6 * 0.775, rel=0.05)
    assert sun.flags == ()
    assert sun.differential.shape == (0, OPTICAL.size)


def test_known_lines_of_the_sun_are_where_they_are(sun):
    """Mg I 5183.604, Ti II 5188.687 and Fe I 5191.454 Å in air (Moore et al. 1966)."""
    for air in (5183.604, 5188.687, 5191.454):
        vacuum = air * 1.000278  # at 5190 Å
        near = np.abs(OPTICAL - vacuum) < 0.25
        assert OPTICAL[near][np.argmin(sun.flux[near])] == pytest.approx(vacuum, abs=0.05)


def test_arrays_cannot_be_written_and_those_of_the_caller_still_can():
    grid, x_fe = np.linspace(5185.0, 5187.0, 21), {"Mg": 0.2}
    before = grid.copy()
    star = Star(5777.0, 4.44, 0.0, 1.0, x_fe)
    found = synthesise(star, grid, differential=("mg_fe", "ti_fe"))
    for array in (found.wavelength, found.flux, found.continuum, found.differential):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
    np.testing.assert_array_equal(grid, before)
    grid[0] = 5184.9
    assert found.wavelength[0] == 5185.0
    assert star.x_fe == x_fe == {"Mg": 0.2}


def test_two_pieces_in_one_call_are_two_calls():
    labels = ("mg_fe", "ti_fe", "logg")
    both = synthesise(GIANT, np.concatenate([OPTICAL, INFRARED]), differential=labels)
    split = OPTICAL.size
    for part, grid in ((slice(None, split), OPTICAL), (slice(split, None), INFRARED)):
        alone = synthesise(GIANT, grid, differential=labels)
        np.testing.assert_array_equal(both.flux[part], alone.flux)
        np.testing.assert_array_equal(both.continuum[part], alone.continuum)
        np.testing.assert_array_equal(both.differential[:, part], alone.differential)
    assert both.continuum[0] > 2 * both.continuum[-1]
    assert np.abs(both.differential[:, split:]).max(axis=1).min() > 0.01


@pytest.mark.parametrize("star", [SUN, GIANT])
def test_neighbours_of_a_window_do_not_matter(star):
    """Each pixel knows of lines outside the window; only the knots of the continuum move."""
    wide = synthesise(star, wavelength_grid(5165.0, 5200.0))
    narrow = synthesise(star, OPTICAL)
    inside = slice(300, None)
    np.testing.assert_allclose(wide.wavelength[inside], OPTICAL, atol=1e-9)
    np.testing.assert_allclose(wide.flux[inside], narrow.flux, atol=3e-4)
    np.testing.assert_allclose(wide.continuum[inside], narrow.continuum, rtol=1e-3)


def test_the_step_does_not_matter(sun):
    compiled = len(_flux.signatures)
    coarse = synthesise(SUN, OPTICAL[::5])
    assert len(_flux.signatures) == compiled  # whatever the layout of the wavelengths
    np.testing.assert_allclose(coarse.flux, sun.flux[::5], atol=2e-5)


def test_the_continuum_does_not_depend_on_the_width_of_a_window():
    wide = synthesise(SUN, np.arange(3750.0, 5200.0, 50.0))
    for k in (1, 9, 20):
        narrow = synthesise(SUN, wide.wavelength[k] + np.array([-1.0, 0.0, 1.0]))
        assert wide.continuum[k] == pytest.approx(narrow.continuum[1], rel=1e-3)
        assert wide.flux[k] == pytest.approx(narrow.flux[1], abs=2e-3)


def test_hydrogen_has_lines():
    """Wings of H alpha reach 10 Å; in LTE its centre is less dark than the observed 0.17."""
    window = wavelength_grid(6530.0, 6600.0, 0.2)
    flux, distance = synthesise(SUN, window).flux, window - 6564.6
    assert 0.17 < flux[np.argmin(np.abs(distance))] < 0.4
    for side in (-1, 1):
        near, far = (side * distance > 6) & (side * distance < 9), side * distance > 25
        assert flux[near].max() < flux[far].max() - 0.02
    brackett = synthesise(Star(7000.0, 4.2, 0.0, 1.5), np.array([16810.0, 16811.1, 16812.0]))
    assert brackett.flux.max() < 0.95  # 4-11


def test_the_depth_scale_counts_scattering():
    layers = Layers.of(Star(4500.0, 1.0, -2.4, 1.8), "marcs")
    absorption, scattering = continuum_opacity(np.array([5000.0]), layers.gas)
    assert (scattering / absorption)[0, 20] > 0.1
    np.testing.assert_allclose(layers.opacity5000, (absorption + scattering)[0], rtol=1e-12)


def test_the_two_grids_of_atmospheres_agree_about_the_sun(sun):
    other = synthesise(SUN, OPTICAL, atmospheres="atlas9")
    difference = other.flux - sun.flux
    assert 1e-4 < np.abs(difference).max() < 0.06
    assert abs(difference.mean()) < 0.01
    np.testing.assert_allclose(other.continuum, sun.continuum, rtol=0.03)


def test_the_full_list_has_lines_that_the_reference_lacks(sun):
    window = wavelength_grid(4190.0, 4210.0)  # weak lines of CN
    reference = synthesise(GIANT, window)
    full = synthesise(GIANT, window, lines="full")
    assert np.abs(full.flux - reference.flux).max() > 2e-3
    np.testing.assert_array_equal(full.continuum, reference.continuum)


def test_more_of_everything_makes_deeper_lines():
    fluxes = [synthesise(Star(5777.0, 4.44, m, 1.0), OPTICAL).flux.mean() for m in (-2, -1, 0, 0.4)]
    assert np.all(np.diff(fluxes) < -0.01)


def test_an_element_named_follows_its_name_and_others_follow_iron(sun):
    named = synthesise(Star(5777.0, 4.44, 0.0, 1.0, {"Mg": 0.0, "Ti": 0.0}), OPTICAL)
    np.testing.assert_array_equal(named.flux, sun.flux)
    more = synthesise(Star(5777.0, 4.44, 0.0, 1.0, {"Mg": 0.3}), OPTICAL)
    core = np.abs(OPTICAL - 5185.05) < 1
    assert (more.flux - sun.flux)[core].mean() < -0.05
    away = np.abs(OPTICAL - 5198.0) < 1.5
    assert np.abs(more.flux - sun.flux)[away].max() < 0.02


@pytest.mark.parametrize(
    ("star", "flags"),
    [
        (Star(4200.0, 4.6, 0.0, 0.8), ("COOL_NO_TIO",)),
        (Star(4250.0, 4.6, 0.0, 0.8), ()),
        (Star(7500.0, 4.2, 0.0, 2.0), ()),
        (Star(7600.0, 4.2, 0.0, 2.0), ("HOT",)),
        (Star(7900.0, 2.0, 0.0, 2.0), ("HOT", "ATMOSPHERE_EXTRAPOLATED")),
    ],
)
def test_flags(star, flags):
    layers = Layers.of(star, "marcs")
    assert spectrum._flags(star, layers) == flags


def test_flags_reach_the_spectrum():
    assert synthesise(Star(4100.0, 4.6, 0.0, 0.8), OPTICAL[:3]).flags == ("COOL_NO_TIO",)


@pytest.mark.parametrize(
    ("star", "grid", "options", "what"),
    [
        (Star(2000.0, 4.4, 0.0, 1.0), OPTICAL, {}, "teff: expected a number from 2800"),
        (Star(5777.0, 4.4, 2.0, 1.0), OPTICAL, {}, "fe_h: expected"),
        (SUN, OPTICAL, {"atmospheres": "phoenix"}, "known grid of model atmospheres"),
        (SUN, OPTICAL, {"lines": "vald"}, "known line list .*full, reference"),
        (SUN, OPTICAL + 5000.0, {}, r"3700 to 9800 or 15100 to 17000.*found 10180\.00"),
        (SUN, np.array([5000.0, 5000.0]), {}, "wavelength"),
        (SUN, OPTICAL[::-1], {}, "wavelength"),
        (Star(5777.0, 4.4, 0.0, 1.0, {"Xx": 0.1}), OPTICAL, {}, "Xx"),
    ],
)
def test_mistakes_are_named(star, grid, options, what):
    with pytest.raises(InputError, match=what):
        synthesise(star, grid, **options)
