"""Radiative transfer against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expn

from spectrolabe.synthesis.transfer import emergent_flux, planck

TAU = np.logspace(-6, 2.3, 200)
WAVELENGTH = np.linspace(5000.0, 5100.0, 41)
GRID = np.array([4990.0, 5050.0, 5110.0])


def flux_of(temperature, opacity=1.0, scattering=0.0, tau=TAU, wavelength=WAVELENGTH):
    """Flux of an atmosphere with the same opacities in all layers; tau is that of opacity 1."""
    layers = np.full((wavelength.size, tau.size), opacity, np.float32)
    return emergent_flux(
        layers,
        wavelength,
        scattering=(GRID, np.full((GRID.size, tau.size), scattering)),
        tau=tau,
        reference=np.ones(tau.size),
        temperature=temperature,
    )


def brightness(wavelength, intensity):
    """Temperature of a black body of this intensity: the inverse of the Planck function."""
    h, c, k = 6.62607015e-27, 2.99792458e10, 1.380649e-16
    cm = wavelength * 1e-8
    return h * c / (cm * k) / np.log1p(2 * h * c**2 / cm**5 * 1e-8 / intensity)


def test_planck_integrates_to_stefan_boltzmann():
    wavelength = np.geomspace(200.0, 3e6, 40001)
    total = np.pi * np.trapezoid(planck(wavelength, 5777.0), wavelength)
    assert total == pytest.approx(5.670374e-5 * 5777.0**4, rel=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.floats(3000, 9000), st.floats(0.01, 1e4))
def test_isothermal_atmosphere_is_a_black_body_whatever_its_opacity(temperature, opacity):
    flux = flux_of(np.full(TAU.size, temperature), opacity)
    np.testing.assert_allclose(flux, np.pi * planck(WAVELENGTH, temperature), rtol=2e-4)


@pytest.mark.parametrize(("a", "b"), [(1.0, 0.0), (0.4, 1.2), (0.05, 3.0)])
def test_source_linear_in_depth_gives_eddington_barbier(a, b):
    unit = planck(5050.0, 5777.0)
    temperature = brightness(5050.0, unit * (a + b * TAU))
    near = np.linspace(5049.9, 5050.1, 5)
    flux = flux_of(temperature, wavelength=near)
    assert flux[2] == pytest.approx(np.pi * unit * (a + 2 / 3 * b), rel=1e-3)


def test_what_lies_above_the_first_layer_counts():
    """The source is that of the first layer there: pi S(t) + 2 pi b E4(t) for S = a + b tau."""
    tau = 0.3 + np.r_[0.0, np.logspace(-4, 2.3, 200)]
    unit = planck(5050.0, 5777.0)
    temperature = brightness(5050.0, unit * (0.4 + 1.2 * tau))
    flux = flux_of(temperature, tau=tau, wavelength=np.linspace(5049.9, 5050.1, 5))
    want = unit * (np.pi * (0.4 + 1.2 * 0.3) + 2 * np.pi * 1.2 * expn(4, 0.3))
    assert flux[2] == pytest.approx(want, rel=3e-3)


def test_grey_atmosphere_has_the_flux_of_its_effective_temperature():
    temperature = 5777.0 * (0.75 * (TAU + 2 / 3)) ** 0.25
    wavelength = np.geomspace(800.0, 4e5, 3001)
    flux = emergent_flux(
        np.ones((wavelength.size, TAU.size), np.float32),
        wavelength,
        scattering=(np.linspace(800.0, 4e5, 40001), np.zeros((40001, TAU.size))),
        tau=TAU,
        reference=np.ones(TAU.size),
        temperature=temperature,
    )
    total = np.trapezoid(flux, wavelength)
    assert total == pytest.approx(5.670374e-5 * 5777.0**4, rel=2e-3)


@pytest.mark.parametrize("thermal", [0.9, 0.3, 0.05])
def test_scattering_isothermal_atmosphere(thermal):
    """J = B (1 - exp(-sqrt(3 e) tau) / (1 + sqrt(e))), and the flux of S = e B + (1 - e) J."""
    tau = np.logspace(-5, 3, 600)
    flux = flux_of(np.full(tau.size, 5000.0), thermal, 1 - thermal, tau)
    mu, weight = np.polynomial.legendre.leggauss(40)
    mu, weight = (mu + 1) / 2, weight / 2
    lost = (1 - thermal) / (1 + np.sqrt(thermal)) / (1 + np.sqrt(3 * thermal) * mu)
    want = 2 * np.pi * planck(WAVELENGTH, 5000.0) * (weight * mu * (1 - lost)).sum()
    np.testing.assert_allclose(flux, want, rtol=4e-3)


def test_scattering_darkens_and_no_scattering_changes_nothing():
    temperature = np.full(TAU.size, 5000.0)
    black = flux_of(temperature)
    assert np.all(flux_of(temperature, 1.0, 0.3) < 0.99 * black)
    np.testing.assert_allclose(flux_of(temperature, 1.0, 1e-6), black, rtol=1e-4)


def test_only_the_chosen_pixels_are_computed_and_equal_those_of_all():
    temperature = 5777.0 * (0.75 * (TAU + 2 / 3)) ** 0.25
    opacity = np.random.default_rng(0).lognormal(size=(41, TAU.size)).astype(np.float32)
    common = dict(
        scattering=(GRID, np.full((3, TAU.size), 0.1)),
        tau=TAU,
        reference=np.ones(TAU.size),
        temperature=temperature,
    )
    whole = emergent_flux(opacity, WAVELENGTH, **common)
    chosen = np.array([3, 17, 40])
    out = np.full(41, -1.0)
    emergent_flux(opacity, WAVELENGTH, chosen=chosen, out=out, **common)
    np.testing.assert_allclose(out[chosen], whole[chosen], rtol=1e-6)
    assert np.all(np.delete(out, chosen) == -1.0)
