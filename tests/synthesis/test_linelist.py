"""The line list against published lines, molecular constants and damping computed by hand."""

from __future__ import annotations

import re

import numpy as np
import pytest

from spectrolabe.errors import InputError
from spectrolabe.labels import ELEMENTS
from spectrolabe.spectra import air_to_vacuum, vacuum_to_air
from spectrolabe.synthesis import linelist
from spectrolabe.synthesis.elements import MASS, SYMBOLS
from spectrolabe.synthesis.equilibrium import IONISATION
from spectrolabe.synthesis.linelist import (
    COVERED,
    LISTS,
    NONE,
    STEPS,
    LineList,
    constituents,
    elements_with_lines,
    load_lines,
)
from spectrolabe.synthesis.tables import load_table

# NIST Atomic Spectra Database and Heiter et al. 2021 (A&A 645, A106): species, Å in air, lower
# level in eV, log gf of all components, how far they spread in Å, agreement in dex
KNOWN = (
    ("Na 1", 5889.951, 0.000, 0.108, 0.02, 0.01),
    ("Na 1", 5895.924, 0.000, -0.194, 0.02, 0.06),
    ("Mg 1", 5172.684, 2.712, -0.393, 0.02, 0.05),
    ("Mg 1", 5183.604, 2.717, -0.167, 0.02, 0.05),
    ("Fe 1", 5250.209, 0.121, -4.938, 0.02, 0.01),
    ("Fe 1", 4005.242, 1.557, -0.610, 0.02, 0.02),
    ("Li 1", 6707.81, 0.000, 0.174, 0.30, 0.01),
    ("Ba 2", 4554.029, 0.000, 0.170, 0.05, 0.02),
    ("Ba 2", 4934.076, 0.000, -0.150, 0.06, 0.02),
    ("Ca 2", 3933.663, 0.000, 0.135, 0.02, 0.02),
    ("K 1", 7698.965, 0.000, -0.170, 0.02, 0.03),
    ("O 1", 7771.944, 9.146, 0.369, 0.02, 0.03),
    ("Eu 2", 6645.10, 1.380, 0.120, 0.15, 0.01),
    ("Sr 2", 4077.709, 0.000, 0.167, 0.02, 0.03),
    ("Mg 1", 15740.716, 5.931, -0.212, 0.02, 0.05),
    ("Al 1", 16718.957, 4.085, 0.152, 0.03, 0.05),
)


def found(species: str, air: float, spread: float = 0.02, energy: float | None = None) -> LineList:
    """Lines of a species about a wavelength in air."""
    centre = float(air_to_vacuum(air))
    lines = load_lines(centre - 1.0, centre + 1.0, "full")
    own = lines.species == lines.species_names.index(species)
    near = own & (np.abs(lines.wavelength - centre) < spread)
    if energy is not None:
        near &= np.abs(lines.energy - energy) < 0.005
    return lines.select(np.flatnonzero(near))


@pytest.fixture(scope="module")
def lines() -> LineList:
    return load_lines(*COVERED[0], "full")


@pytest.mark.parametrize(("species", "air", "energy", "log_gf", "spread", "within"), KNOWN)
def test_known_lines(species, air, energy, log_gf, spread, within):
    own = found(species, air, spread, energy)
    assert own.wavelength.size > 0
    total = np.log10(np.sum(10.0**own.log_gf))
    assert total == pytest.approx(log_gf, abs=within)


def test_wavelengths_are_rounded_to_a_ten_thousandth():
    for air in (5889.951, 5250.209, 8542.091, 15740.716):
        lines = load_lines(*COVERED[air > 1e4], "full")
        nearest = np.abs(vacuum_to_air(lines.wavelength) - air).min()
        assert nearest <= 0.5 * STEPS["wavelength"] + 1e-9


def test_shares_of_isotopes_are_in_the_strengths():
    # two components at most of 7Li in the Gaia-ESO list, those of 6Li 0.157 Å to the red
    lithium = found("Li 1", 6707.84, 0.3)
    order = np.argsort(lithium.wavelength)
    strong, blend, weak = np.split(10.0 ** lithium.log_gf[order], [1, 3])
    first = strong[0] + blend.max()
    second = blend.min() + weak.sum()
    assert first / second == pytest.approx(0.925 / 0.075, rel=0.01)
    assert first + second == pytest.approx(2 * 0.7466, rel=0.005)  # 2 f, Yan & Drake 1995


def test_carbon_monoxide_stands_where_its_constants_put_it():
    # Huber & Herzberg 1979: 12C16O in 1/cm
    we, wx, wy, b, alpha, d = 2169.81358, 13.28831, 0.010511, 1.93128087, 0.01750441, 6.12147e-6

    def term(v, j):
        x, k = v + 0.5, j * (j + 1)
        return we * x - wx * x**2 + wy * x**3 + (b - alpha * x) * k - d * k**2

    lines = load_lines(*COVERED[1], "full")
    carbon_monoxide = lines.select(np.flatnonzero(lines.species == lines.species_names.index("CO")))
    for j in (5, 15, 30):
        energy = (term(0, j) - term(0, 0)) / 8065.544
        centre = 1e8 / (term(3, j + 1) - term(0, j))
        near = np.abs(carbon_monoxide.wavelength - centre) < 0.4  # 4.3 Å between air and vacuum
        near &= np.abs(carbon_monoxide.energy - energy) < 0.003
        assert near.sum() == 1


# Barklem, Piskunov & O'Mara 2000 (A&AS 142, 467) and Barklem & O'Mara 1998 (MNRAS 300, 863):
# cross section, velocity exponent, log10 of the full width per hydrogen atom at 10,000 K
ABO = (
    ("Mg 1", 5183.604, 729.0, 0.238, -7.267),
    ("Na 1", 5895.924, 407.0, 0.273, -7.527),
    ("Ca 2", 8542.091, 291.0, 0.275, -7.675),
    ("Ca 2", 3933.663, 234.0, 0.223, -7.760),
    ("Fe 1", 5250.209, 207.0, 0.253, -7.820),
)


@pytest.mark.parametrize(("species", "air", "sigma", "alpha", "log_width"), ABO)
def test_collisions_with_hydrogen_as_published(species, air, sigma, alpha, log_width):
    line = found(species, air)
    k = int(np.argmax(line.log_gf - line.energy))
    assert np.log10(line.waals[k]) == pytest.approx(log_width, abs=0.004)
    assert line.waals_power[k] == pytest.approx((1 - alpha) / 2, abs=6e-4)


def test_cross_section_to_width_by_hand():
    # Mg b: 729 a0^2 at 10 km/s, alpha 0.238. In SI: v = sqrt(8kT/pi mu) = 14,778 m/s at 10,000 K
    # with mu = 0.9679 u; (4/pi)^0.119 = 1.0292; Gamma(1.881) = 0.9554; a0^2 = 2.8003e-21 m2;
    # 2 x 1.0292 x 0.9554 x 1e4 x 729 x 2.8003e-21 x 1.4778^0.762 m3/s = 5.406e-14 = 5.406e-8 cm3/s
    k = found("Mg 1", 5183.604)
    assert k.waals[0] == pytest.approx(5.406e-8, rel=0.01)


def test_strong_lines_of_the_h_band_have_cross_sections():
    # Fe I 15294.56, 5s-5p, has n* = 2.29 and 2.76: table 1 of Anstee & O'Mara 1995 has 833, 902 at
    # 2.2 and 887, 938 at 2.3 (p of 2.7, 2.8)
    for species, air, sigma in (("Fe 1", 15294.56, 911.0), ("Mg 1", 15765.842, 1630.0)):
        line = found(species, air)
        k = int(np.argmax(line.log_gf - line.energy))
        alpha = 1 - 2 * line.waals_power[k]
        assert 0.2 < alpha < 0.32
        mu = 1 / (1 / 1.008 + 1 / float(line.mass[line.species[k]]))
        speed = np.sqrt(8 * 8.3145e7 * 1e4 / (np.pi * mu)) / 1e6
        width = 2e6 * sigma * 2.8003e-17 * speed ** (1 - alpha) * 0.985  # shape of alpha 0.2-0.3
        assert line.waals[k] == pytest.approx(width, rel=0.03)


def test_unsold_by_hand():
    # Eu II 6645, 2.5 times Unsöld: gamma = 17 C6^0.4 v^0.6 (Gray 2005, eqs. 11.27 to 11.30)
    line = found("Eu 2", 6645.10, 0.15)
    limit, lower = IONISATION["Eu"][1], 1.3797
    upper = lower + 12398.42 / 6646.9
    c6 = 0.3e-30 * 4 * ((limit - upper) ** -2 - (limit - lower) ** -2)
    speed = np.sqrt(8 * 8.3145e7 * 1e4 / np.pi * (1 / 1.008 + 1 / 151.96))  # cm/s
    expected = 2.5 * 17.0 * c6**0.4 * speed**0.6
    np.testing.assert_allclose(line.waals, expected, rtol=0.15)  # Uppsala's constant, any mass
    np.testing.assert_allclose(line.waals_power, 0.3, atol=1e-9)


def test_stark_by_hand():
    # Na D: Cowley 1971, 2.26e-7 x 13.598 / (I - E)^2 with I = 5.139 eV, upper level 2.104 eV
    assert found("Na 1", 5889.951).stark[0] == pytest.approx(
        2.26e-7 * 13.598 / (5.139 - 2.104) ** 2, rel=0.015
    )
    # Ca II K: 5.42e-7 x 13.598 x (2 / (11.872 - 3.151))^2 / 9
    assert found("Ca 2", 3933.663).stark[0] == pytest.approx(
        5.42e-7 * 13.598 * (2 / (11.872 - 3.151)) ** 2 / 9, rel=0.015
    )


def test_lifetimes():
    # 3p of sodium lives 16.25 ns (Volz et al. 1996), and its lower level for ever
    assert found("Na 1", 5889.951).radiative[0] == pytest.approx(1 / 16.25e-9, rel=0.03)
    # where nothing is known, the classical damping of an oscillator
    aluminium = found("Al 1", 16718.957, 0.03)
    classical = 8 * np.pi**2 * 4.80320e-10**2 / (3 * 9.10938e-28 * 2.99792e10)
    expected = classical / (16718.957e-8) ** 2
    assert aluminium.radiative[0] == pytest.approx(expected, rel=0.015)


def test_molecules_are_damped_by_radiation_alone(lines):
    molecule = np.array([" " not in name for name in lines.species_names])[lines.species]
    assert molecule.any()
    assert not lines.stark[molecule].any()
    assert not lines.waals[molecule].any()
    assert (lines.radiative > 0).all()
    assert (lines.stark[~molecule] > 0).all()


@pytest.mark.parametrize("window", COVERED)
def test_order_and_ranges(window):
    lines = load_lines(*window, "full")
    assert (np.diff(lines.wavelength) >= 0).all()
    assert lines.wavelength[0] < window[0] - 40
    assert lines.wavelength[-1] > window[1] + 40
    assert np.diff(lines.wavelength).max() < 2.0
    assert (lines.energy >= 0).all()
    assert (lines.energy < 26).all()
    assert (np.abs(lines.waals_power - 0.3) < 0.2).all()
    for name in LineList.PER_LINE:
        assert getattr(lines, name).size == lines.wavelength.size
        assert np.isfinite(getattr(lines, name)).all()
        with pytest.raises(ValueError, match="read-only"):
            getattr(lines, name)[0] = 1


def test_every_species_has_a_mass_and_a_density(lines):
    known = set(load_table("molecules")["name"].tolist())
    for name, mass, elements in zip(lines.species_names, lines.mass, lines.elements, strict=True):
        atom = re.fullmatch(r"([A-Z][a-z]?) ([12])", name)
        assert name in known or (atom is not None and atom[1] in SYMBOLS)
        total = 2 * 12.011 if name == "C2" else sum(MASS[SYMBOLS.index(x)] for x in elements)
        assert mass == pytest.approx(total)


def test_lines_of_every_label():
    window = load_lines(3900.0, 9000.0, "full")
    for symbol in ELEMENTS:
        if symbol != "P":
            assert window.of_element(symbol).size >= (20 if symbol != "Li" else 6), symbol


def test_of_element_counts_molecules_for_each_of_their_elements():
    window = load_lines(5150.0, 5200.0, "full")
    names = np.array(window.species_names)
    for symbol in ("Mg", "C", "H", "Ti"):
        own = set(names[np.unique(window.species[window.of_element(symbol)])])
        expected = {
            name for name in names[np.unique(window.species)] if symbol in constituents(name)
        }
        assert own == expected
    assert "MgH" in set(names[window.species[window.of_element("Mg")]])
    with pytest.raises(InputError, match="element"):
        window.of_element("Xx")


def test_elements_with_lines():
    assert "Li" in elements_with_lines(6700.0, 6720.0)
    assert "Li" not in elements_with_lines(5000.0, 5020.0)
    assert "Li" not in elements_with_lines(6720.0, 6740.0)  # 10 Å beside it
    assert {"C", "N", "O", "Mg", "Al", "Si", "K", "Fe"} <= elements_with_lines(15100.0, 17000.0)
    assert "Eu" not in elements_with_lines(15100.0, 17000.0)


def test_the_full_list_has_no_line_twice():
    # linemake's files overlap about multiples of 1000 Å; the reference spectra have lines twice
    assert found("Fe 1", 4005.242, 0.001, 1.556).wavelength.size == 1
    for low, high in ((3981.0, 4019.0), (4995.0, 5005.0), (6995.0, 7005.0)):
        counts = {}
        for name in LISTS:
            lines = load_lines(low, high, name)
            inside = np.flatnonzero((lines.wavelength > low) & (lines.wavelength < high))
            rows = [lines.wavelength, lines.species, lines.energy, lines.log_gf]
            keys = np.stack(rows)[:, inside]
            counts[name] = keys.shape[1] - np.unique(keys, axis=1).shape[1]
        assert counts["reference"] >= 20
        assert counts["full"] == 0


@pytest.mark.parametrize("window", [(3600.0, 5000.0), (9000.0, 15200.0), (16900.0, 17100.0)])
def test_windows_outside_are_errors_that_name_the_ranges(window):
    with pytest.raises(InputError, match="3700 to 9800 or 15100 to 17000"):
        load_lines(*window)
    with pytest.raises(InputError, match="3700 to 9800 or 15100 to 17000"):
        elements_with_lines(*window)


def test_unknown_lists_are_errors():
    with pytest.raises(InputError, match="full"):
        load_lines(5000.0, 5100.0, "ful")


def test_packed_integers_hold_what_they_say(lines):
    table = load_table("lines")
    assert table["wavelength"].dtype == np.uint32
    assert table["wavelength"].astype(np.int64).sum() * STEPS["wavelength"] < 17060
    for name in ("radiative", "stark", "waals", "log_gf", "waals_power"):
        packed = table[name][table[name] != NONE]
        assert np.abs(packed.astype(int)).max() < 32767  # no overflow
    assert set(np.unique(table["lists"])) <= {1, 2, 3, 5, 6, 7, 9, 10, 11}
    # Ba II 4554 has no radiative width in the Gaia-ESO list; 6p 2P3/2 lives 6.32 ns
    for name, width in (("full", 1 / 6.32e-9), ("reference", 1e5)):
        barium = load_lines(4555.0, 4556.0, name)
        k = np.argmin(np.abs(barium.wavelength - 4555.3056))
        assert barium.radiative[k] == pytest.approx(width, rel=0.03)
    assert linelist._all_lines().wavelength.size == table["log_gf"].size
