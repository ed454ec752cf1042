"""Line opacity against closed forms."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import wofz

from spectrolabe.synthesis.gas import Gas
from spectrolabe.synthesis.opacity import add_lines, populations, voigt
from spectrolabe.synthesis.transfer import emergent_flux, planck

CENTRE = 5000.0
WAVELENGTH = np.linspace(4990.0, 5010.0, 16001)
GRID = np.linspace(4990.0, 5010.0, 5)
TAU = np.logspace(-4, 2, 61)


def slab(temperature=5000.0, iron=1e8, electrons=1e13, hydrogen=1e16, partition=25.0, layers=61):
    """A uniform gas with some neutral iron."""
    ones = np.ones(layers)
    return Gas(
        temperature=temperature * ones,
        pressure=ones,
        electrons=electrons * ones,
        hydrogen=hydrogen * ones,
        density=ones,
        atoms={
            "H": np.outer([hydrogen, 0, 0], ones),
            "He": np.zeros((3, layers)),
            "Fe": np.outer([iron, 0, 0], ones),
        },
        molecules={"H2": np.zeros(layers)},
        partition={"Fe": np.full((3, layers), partition)},
    )


def iron_line(log_gf=-1.0, energy=2.0, radiative=1e8, stark=0.0, waals=0.0, power=0.3, n=1):
    """Lines of neutral iron, all alike."""
    return SimpleNamespace(
        wavelength=np.full(n, CENTRE),
        log_gf=np.full(n, log_gf),
        energy=np.full(n, energy),
        species=np.zeros(n, int),
        species_names=("Fe 1",),
        mass=np.array([55.845]),
        radiative=np.full(n, radiative),
        stark=np.full(n, stark),
        waals=np.full(n, waals),
        waals_power=np.full(n, power),
    )


def opacity_of(lines, gas, v_micro=1.0, continuum=1e-9, **more):
    """Opacity of the lines alone, shape (M, L)."""
    opacity = np.zeros((WAVELENGTH.size, gas.temperature.size), np.float32)
    reference = np.full((GRID.size, gas.temperature.size), continuum)
    add_lines(
        opacity, WAVELENGTH, lines, gas, v_micro, continuum=(GRID, reference), tau5000=TAU, **more
    )
    return opacity.astype(float)


@settings(max_examples=200, deadline=None)
@given(st.floats(-60, 60), st.floats(1e-5, 5))
def test_voigt_function_is_that_of_scipy(v, a):
    assert voigt(v, a) == pytest.approx(wofz(v + 1j * a).real, rel=2e-4)


@pytest.mark.parametrize(("radiative", "waals"), [(1e8, 0.0), (3e9, 0.0), (1e8, 3e-7), (5e10, 0.0)])
def test_profile_is_a_voigt_profile_from_core_to_wing(radiative, waals):
    """1e-8 to 1e-3 of the peak, with the damping of each regime of the code."""
    gas = slab()
    got = opacity_of(iron_line(radiative=radiative, waals=waals), gas)[:, 30]
    gamma = radiative + waals * 1e16 * 0.5**0.3
    width = (
        CENTRE * np.sqrt(2 * 1.380649e-16 * 5000 / (55.845 * 1.66054e-24) + 1e10) / 2.99792458e10
    )
    a = gamma * (CENTRE * 1e-8) ** 2 / (4 * np.pi * 2.99792458e10) / (width * 1e-8)
    want = wofz(np.abs(WAVELENGTH - CENTRE) / width + 1j * a).real
    want *= got.max() / want.max()
    seen = got > 0
    assert seen.sum() > 500
    np.testing.assert_allclose(got[seen], want[seen], rtol=6e-3)


def test_area_is_that_of_the_oscillator_strength():
    """Integral of opacity over frequency: pi e^2/(m c) f n_lower (1 - exp(-h nu/kT))."""
    gas = slab()
    got = np.trapezoid(opacity_of(iron_line(), gas, threshold=1e-9)[:, 30], WAVELENGTH)
    kt = 8.617333e-5 * 5000
    lower = 1e8 / 25.0 * np.exp(-2.0 / kt)  # per statistical weight
    factor = 0.0265400 * 10**-1.0 * lower * (1 - np.exp(-12398.42 / CENTRE / kt))
    want = factor * CENTRE**2 * 1e-8 / 2.99792458e10  # in Å: d lambda = lambda^2/c d nu
    assert got == pytest.approx(want, rel=2e-3)


@pytest.mark.parametrize("waals", [1e-8, 3e-8])
def test_damping_by_hydrogen_and_electrons_scales_as_stated(waals):
    """In the far wing opacity is proportional to gamma."""

    def wing(**changes):
        gas = slab(
            **{k: v for k, v in changes.items() if k in ("temperature", "electrons", "hydrogen")}
        )
        line = {
            k: v for k, v in changes.items() if k not in ("temperature", "electrons", "hydrogen")
        }
        return opacity_of(iron_line(radiative=0.0, energy=0.0, **line), gas, continuum=1e-12)[
            6000, 30
        ]

    base = wing(waals=waals)
    assert wing(waals=waals, hydrogen=2e16) == pytest.approx(2 * base, rel=1e-3)
    assert wing(stark=1e-5, electrons=2e13) == pytest.approx(2 * wing(stark=1e-5), rel=1e-3)
    hot, cool = wing(waals=waals, temperature=6000.0), wing(waals=waals, temperature=5000.0)
    emission = lambda t: 1 - np.exp(-12398.42 / CENTRE / 8.617333e-5 / t)  # noqa: E731
    assert hot / cool == pytest.approx(1.2**0.3 * emission(6000) / emission(5000), rel=2e-3)


def test_helium_and_molecular_hydrogen_damp_as_their_polarisabilities_and_speeds_say():
    """Per perturber 0.42 and 0.85 of neutral hydrogen."""
    gas, nothing = slab(), np.zeros(61)
    line = iron_line(radiative=0.0, energy=0.0, waals=1e-8)

    def wing(hydrogen, helium, molecules):
        atoms = {**gas.atoms, "H": np.outer([hydrogen, 0, 0], nothing + 1)}
        atoms["He"] = np.outer([helium, 0, 0], nothing + 1)
        changed = replace(gas, atoms=atoms, molecules={"H2": nothing + molecules})
        return opacity_of(line, changed, continuum=1e-12)[6000, 30]

    base = wing(1e16, 0, 0)
    assert wing(0, 1e16, 0) == pytest.approx(0.42 * base, rel=2e-3)
    assert wing(0, 0, 1e16) == pytest.approx(0.85 * base, rel=2e-3)


def test_boltzmann_ratio_of_two_levels():
    gas = slab(temperature=4500.0)
    low, high = (opacity_of(iron_line(energy=e), gas).max() for e in (1.0, 3.0))
    assert high / low == pytest.approx(np.exp(-2.0 / (8.617333e-5 * 4500)), rel=1e-4)


def test_opacity_is_additive():
    gas = slab()
    one, three = opacity_of(iron_line(), gas), opacity_of(iron_line(n=3), gas)
    np.testing.assert_allclose(three, 3 * one, rtol=1e-5)
    np.testing.assert_allclose(
        opacity_of(iron_line(n=3), gas, chosen=np.array([1])), one, rtol=1e-6
    )
    np.testing.assert_allclose(
        opacity_of(iron_line(), gas, scale=0.25, threshold=0.25e-4), 0.25 * one, rtol=1e-5
    )


def test_what_is_left_out_is_below_the_threshold():
    gas = slab()
    everything = opacity_of(iron_line(), gas, threshold=1e-12)
    usual = opacity_of(iron_line(), gas, continuum=1e-9, threshold=1e-4)
    assert np.abs(everything - usual).max() < 1.1e-4 * 1e-9
    assert opacity_of(iron_line(log_gf=-9.0), gas).max() == 0.0


def test_opacity_is_positive_where_lines_are_damped_more_than_they_are_broad():
    """Deep layers of dwarfs: damping parameters of ten and more."""
    gas = slab()
    deep = np.where(TAU > 10, 1e19, 1e16)
    atoms = {**gas.atoms, "H": np.outer([1, 0, 0], deep)}
    lines = iron_line(waals=3e-8, log_gf=2.0)
    got = opacity_of(lines, replace(gas, atoms=atoms))
    assert got.min() >= 0.0
    assert got[:, -1].max() > 0.0


def test_a_species_the_gas_does_not_hold_absorbs_nothing():
    lines = iron_line()
    lines.species_names = ("Eu 2",)
    assert populations(lines, slab()).max() == 0.0


def test_each_stage_and_molecule_has_its_own_density_and_partition_function():
    ones = np.ones(61)
    gas = replace(
        slab(),
        atoms={"Fe": np.outer([10.0, 60.0, 3.0], ones)},
        molecules={"CH": 8.0 * ones},
        partition={"Fe": np.outer([5.0, 20.0, 6.0], ones), "CH": 16.0 * ones},
    )
    lines = SimpleNamespace(species_names=("Fe 2", "CH", "Fe 1"))
    np.testing.assert_allclose(populations(lines, gas), np.outer([3.0, 0.5, 2.0], ones))


def equivalent_width(iron, v_micro=1.0, radiative=3e9):
    """Of the line in an atmosphere with uniform opacities, its temperature that of a grey one."""
    gas = slab(iron=iron)
    absorption = opacity_of(iron_line(radiative=radiative), gas, v_micro, continuum=1e-8) + 1e-8
    temperature = 5000.0 * (0.75 * (TAU + 2 / 3)) ** 0.25
    common = dict(
        scattering=(GRID, np.zeros((GRID.size, TAU.size))),
        tau=TAU,
        reference=np.full(TAU.size, 1e-8),
        temperature=temperature,
    )
    flux = emergent_flux(absorption.astype(np.float32), WAVELENGTH, **common)
    clear = emergent_flux(np.full_like(absorption, 1e-8, np.float32), WAVELENGTH, **common)
    return np.trapezoid(1 - flux / clear, WAVELENGTH)


def test_curve_of_growth_has_its_three_regimes():
    """W grows as n, then hardly, then as the square root of n."""

    def slope(iron, **more):
        low, high = (np.log(equivalent_width(iron * f, **more)) for f in (0.9, 1.1))
        return (high - low) / np.log(1.1 / 0.9)

    peak = opacity_of(iron_line(), slab()).max() / 1e8 / 1e-8  # line over continuum per iron atom
    assert slope(0.003 / peak) == pytest.approx(1.0, abs=0.02)
    assert 0.05 < slope(100 / peak, radiative=1e8) < 0.35
    assert slope(6e3 / peak) == pytest.approx(0.5, abs=0.04)


def test_microturbulence_strengthens_saturated_lines_only():
    peak = opacity_of(iron_line(), slab()).max() / 1e8 / 1e-8
    weak = [equivalent_width(0.003 / peak, v) for v in (1.0, 2.0)]
    saturated = [equivalent_width(30 / peak, v, 1e8) for v in (1.0, 2.0)]
    assert weak[1] == pytest.approx(weak[0], rel=0.02)
    assert saturated[1] > 1.3 * saturated[0]


def test_line_of_an_isothermal_slab():
    """I = B (1 - exp(-tau)), tau = sqrt(pi) e^2/(m c) f N lambda/b H(a, 0) (1 - exp(-h nu/kT))."""
    length, kt = 3e7, 8.617333e-5 * 5000
    column = 1e8 * length / 25.0 * np.exp(-2.0 / kt)
    b = np.sqrt(2 * 1.380649e-16 * 5000 / (55.845 * 1.66054e-24) + 1e10)
    a = 1e8 * CENTRE * 1e-8 / (4 * np.pi * b)
    tau = 0.0149736 * 10**-1.0 * column * CENTRE * 1e-8 / b * wofz(1j * a).real
    tau *= 1 - np.exp(-12398.42 / CENTRE / kt)
    alpha = opacity_of(iron_line(), slab())[:, 30]
    intensity = planck(WAVELENGTH, 5000.0) * -np.expm1(-alpha * length)
    assert 0.5 < tau < 5
    assert intensity.max() == pytest.approx(planck(CENTRE, 5000.0) * -np.expm1(-tau), rel=1e-3)
