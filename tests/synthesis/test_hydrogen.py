"""Lines of hydrogen against closed forms and published numbers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import constants as si
from scipy.special import gamma

from spectrolabe.errors import InputError
from spectrolabe.synthesis.gas import Gas
from spectrolabe.synthesis.hydrogen import (
    KNOTS,
    add_hydrogen_lines,
    hydrogen_lines,
    level_energy,
    line_profile,
)
from spectrolabe.synthesis.photoionisation import hydrogen_bound_free


def gas(temperature=5500.0, electrons=1e12, hydrogen=1e16, helium=0.0) -> Gas:
    """Layers of hydrogen and a little else; the arguments are scalars or sequences."""
    t, e, h, he = np.broadcast_arrays(*np.atleast_1d(temperature, electrons, hydrogen, helium))
    stages = {"H": np.stack([h, e, 0 * e]), "He": np.stack([he, 0 * he, 0 * he])}
    partition = {"H": np.stack([2.0 + 0 * t, 1.0 + 0 * t, 1.0 + 0 * t])}
    pressure = (h + 2 * e + he) * si.k * 1e7 * t
    return Gas(t, pressure, e, h + e, h * 1.67e-24, stages, {}, partition)


def index(lower: int, upper: int) -> int:
    lines = hydrogen_lines()
    return int(np.flatnonzero((lines.lower == lower) & (lines.upper == upper))[0])


def profile(lower: int, upper: int, layers: Gas, detuning, v_micro: float = 0.0) -> np.ndarray:
    """Profile in 1/Å at detunings in Å."""
    lines, line = hydrogen_lines(), index(lower, upper)
    return line_profile(lines, line, layers, v_micro, np.asarray(detuning) / lines.wavelength[line])


@pytest.mark.parametrize(
    ("lower", "upper"),
    [(2, 3), (2, 4), (2, 5), (2, 9), (2, 20), (2, 30), (3, 4), (3, 9), (3, 16), (3, 30), (4, 10),
     (4, 17), (4, 30)],
)  # fmt: skip
def test_profiles_have_unit_area(lower, upper):
    layers = gas([3600.0, 4500, 5500, 6500, 9000], [1e9, 2e11, 3e12, 7e13, 2e15], 1e16, 1e15)
    detuning = np.concatenate([[0.0], np.geomspace(1e-3, 1e6, 3000)])
    area = 2.0 * np.trapezoid(profile(lower, upper, layers, detuning, 2.0), detuning, axis=0)
    np.testing.assert_allclose(area, 1.0, atol=0.01)


def test_knots_are_close_enough_to_interpolate_between():
    layers = gas([3600.0, 5500, 9000], [1e9, 3e12, 2e15], 1e16, 1e15)
    wavelength = hydrogen_lines().wavelength[index(2, 3)]
    between = 0.5 * (KNOTS[1:] + KNOTS[:-1]) * wavelength
    at_knots = profile(2, 3, layers, KNOTS * wavelength)
    expected = profile(2, 3, layers, between)
    np.testing.assert_allclose(
        0.5 * (at_knots[1:] + at_knots[:-1]), expected, rtol=0.01, atol=2e-3 * at_knots[0].max()
    )


@pytest.mark.parametrize(
    ("lower", "upper", "strength"),
    [(2, 3, 0.6407), (2, 4, 0.1193), (2, 5, 0.04467), (2, 6, 0.02209), (3, 4, 0.8421),
     (3, 5, 0.1506), (3, 6, 0.05584)],
)  # fmt: skip
def test_oscillator_strengths_of_wiese_smith_and_glennon_1966(lower, upper, strength):
    assert hydrogen_lines().strength[index(lower, upper)] == pytest.approx(strength, rel=1e-3)


def test_damping_is_the_sum_of_decays():
    # mean lifetimes of n = 2 and 3: 2.127 ns and 10.02 ns
    half = 0.5 * (1 / 2.127e-9 + 1 / 10.02e-9)
    assert hydrogen_lines().damping[0] == pytest.approx(half, rel=2e-3)


def test_levels_are_the_means_of_those_of_nist():
    two = (2 * 82258.9191 + 2 * 82258.9544 + 4 * 82259.2850) / 8
    three = (97492.2112 + 97492.2217 + 2 * 97492.3194 + 2 * 97492.3196 + 3 * 97492.3556) / 9
    assert level_energy(2) == pytest.approx(two, abs=2e-3)
    assert level_energy(3) == pytest.approx(three, abs=2e-3)


@pytest.mark.parametrize(
    ("lower", "upper", "wavelength"),
    [(2, 3, 6564.61), (2, 4, 4862.68), (2, 5, 4341.68), (2, 6, 4102.89), (2, 7, 3971.20),
     (3, 11, 8865.22), (3, 14, 8600.75), (4, 11, 16811.11), (4, 12, 16411.67), (4, 14, 15884.88)],
)  # fmt: skip
def test_vacuum_wavelengths(lower, upper, wavelength):
    assert hydrogen_lines().wavelength[index(lower, upper)] == pytest.approx(wavelength, abs=0.015)


@pytest.mark.parametrize("v_micro", [0.0, 3.0])
@pytest.mark.parametrize("temperature", [4000.0, 6100.0, 8300.0])
def test_thin_gas_has_a_gaussian_core(temperature, v_micro):
    speed = np.sqrt(2 * si.k * temperature / (1.00784 * si.atomic_mass) + (v_micro * 1e3) ** 2)
    doppler = 6564.61 * speed / si.c
    detuning = np.linspace(0.0, 2.0, 30) * doppler
    expected = np.exp(-((detuning / doppler) ** 2)) / (np.sqrt(np.pi) * doppler)
    found = profile(2, 3, gas(temperature, 1e10, 1e10), detuning, v_micro)[:, 0]
    np.testing.assert_allclose(found, expected, atol=0.015 * expected[0])


def test_stark_wings_follow_holtsmark():
    layers = gas(8000.0, [1e14, 1e15], 1.0)
    for lower, upper, at in ((2, 5, 100.0), (2, 8, 80.0), (3, 9, 400.0)):
        near, far = profile(lower, upper, layers, [at, 2 * at])
        np.testing.assert_allclose(near / far, 2.0**2.5, rtol=0.1)
        # the field goes with density^(2/3), so the wing with density
        assert far[1] / far[0] == pytest.approx(10.0, rel=0.12)


@pytest.mark.parametrize("electrons", [1e15, 1e16])
def test_width_of_h_beta_in_dense_gas(electrons):
    # simulations of Gigosos, Gonzalez & Cardenoso (2003, Spectrochim. Acta B 58, 1489)
    expected = 48.0 * (electrons / 1e17) ** 0.68116
    detuning = np.linspace(0.0, expected, 2000)
    values = profile(2, 4, gas(10_000.0, electrons, 1.0), detuning)[:, 0]
    full = 2.0 * detuning[np.flatnonzero(values > 0.5 * values.max())[-1]]
    assert full == pytest.approx(expected, rel=0.1)


def test_wings_of_h_alpha_are_linear_in_neutral_hydrogen():
    density = np.array([0.0, 1e16, 2e16, 8e16])
    wing = profile(2, 3, gas(5000.0, 1e11, density), [20.0])[0]
    slope = np.diff(wing) / np.diff(density)
    np.testing.assert_allclose(slope, slope[0], rtol=2e-3)
    # Barklem, Piskunov & O'Mara (2000): 1180 atomic units at 10 km/s, alpha 0.677
    speed = np.sqrt(8 * si.k * 5000.0 / (np.pi * 0.504 * si.atomic_mass))
    area = 1180 * 5.29177e-11**2 * (speed / 1e4) ** -0.677
    rate = (4 / np.pi) ** 0.3385 * gamma(2 - 0.3385) * speed * area * 1e6  # rad/s cm3
    width = rate * 6564.61**2 / (2 * np.pi * si.c * 1e10)  # Å cm3
    np.testing.assert_allclose(slope, width / (np.pi * 400.0), rtol=2e-3)


def test_resonance_broadening_of_ali_and_griem():
    # half width of the Balmer lines 1.258e-27 lambda^2 N(H) Å, from the resonance of 2p
    wing = profile(2, 7, gas(5000.0, 1e10, [0.0, 1e18]), [30.0])[0]
    expected = 1.258e-27 * 3971.2**2 * 1e18 / (np.pi * 900.0)
    np.testing.assert_allclose(wing[1] - wing[0], expected, rtol=0.01)


def test_opacity_of_a_line_adds_up_to_its_strength():
    wavelength = np.arange(4862.68 - 60.0, 4862.68 + 60.0, 0.01)
    layers = gas(5500.0, 1e11, 1e16)
    opacity = np.zeros((len(wavelength), 1))
    add_hydrogen_lines(opacity, wavelength, layers, 1.0)
    frequency = si.c * 1e10 / wavelength
    total = -np.trapezoid(opacity[:, 0], frequency)
    exponent = si.h * si.c * 100 / (si.k * 5500.0)
    lower = 8 / 2.0 * 1e16 * np.exp(-exponent * 82259.1)
    expected = 0.026540 * 0.11932 * lower * (1 - np.exp(-exponent * 1e8 / 4862.68))
    np.testing.assert_allclose(total, expected, rtol=5e-3)


def test_opacity_is_symmetric_in_frequency():
    shift = np.array([1e-5, 3e-5, 1e-4, 1e-3, 3e-3])
    wavelength = 6564.6099 / (1.0 + np.concatenate([shift[::-1], -shift]))
    opacity = np.zeros((10, 1))
    add_hydrogen_lines(opacity, wavelength, gas(5500.0, 1e13, 1e17), 1.0)
    np.testing.assert_allclose(opacity[:5, 0][::-1], opacity[5:, 0], rtol=0.01)


def test_opacity_does_not_depend_on_the_other_wavelengths():
    layers = gas([4500.0, 6000, 9000], [1e12, 1e13, 1e15], 1e17, 1e16)
    coarse = np.arange(3660.0, 9200.0, 7.0)
    fine = np.union1d(coarse, np.arange(3900.0, 4400.0, 0.05))
    one, other = np.zeros((len(coarse), 3)), np.zeros((len(fine), 3))
    add_hydrogen_lines(one, coarse, layers, 1.0)
    add_hydrogen_lines(other, fine, layers, 1.0)
    np.testing.assert_allclose(one, other[np.searchsorted(fine, coarse)], rtol=1e-5)
    window = slice(100, 103)
    part = np.zeros((3, 3))
    add_hydrogen_lines(part, coarse[window], layers, 1.0)
    np.testing.assert_allclose(part, one[window], rtol=1e-5)


@pytest.mark.parametrize("electrons", [1e13, 3e14])
def test_lines_merge_into_the_continuum(electrons):
    layers = gas(7000.0, electrons, 1e16)
    for limit in (3647.05, 8205.9):
        wavelength = limit + np.arange(-6.0, 12.0, 0.02)
        opacity = hydrogen_bound_free(wavelength, layers)
        emission = 1.0 - np.exp(-1.438777e8 / (wavelength * 7000.0))
        opacity *= emission[:, None]
        continuum = opacity[wavelength < limit].mean()
        add_hydrogen_lines(opacity, wavelength, layers, 1.0)
        found = opacity[wavelength > limit].mean()
        np.testing.assert_allclose(found, continuum, rtol=0.2)


def test_dissolved_levels_weaken_lines():
    wavelength = np.arange(3680.0, 3700.0, 0.05)
    opacity = np.zeros((len(wavelength), 2))
    add_hydrogen_lines(opacity, wavelength, gas(7000.0, [1e11, 1e15], 1e15), 1.0)
    thin, dense = opacity.mean(axis=0)
    assert dense < 0.05 * thin


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_opacity_is_added(kind):
    wavelength = np.linspace(3000.0, 3600.0, 50)
    opacity = np.ones((50, 1), dtype=kind)
    add_hydrogen_lines(opacity, wavelength, gas(), 1.0)
    assert (opacity == 1.0).all()  # no line blueward of the Balmer limit
    wavelength = np.linspace(4860.0, 4866.0, 50)
    opacity = np.zeros((50, 1), dtype=kind)
    add_hydrogen_lines(opacity, wavelength, gas(), 1.0)
    once = opacity.copy()
    add_hydrogen_lines(opacity, wavelength, gas(), 1.0)
    np.testing.assert_allclose(opacity, 2.0 * once, rtol=1e-5)
    assert (once > 0.0).all()


def test_wrong_shape_is_an_error():
    with pytest.raises(InputError, match=r"shape \(3, 1\)"):
        add_hydrogen_lines(np.zeros((1, 3)), np.array([4000.0, 4001.0, 4002.0]), gas(), 1.0)
