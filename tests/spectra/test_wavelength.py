"""Air and vacuum against published wavelengths and specutils; Doppler against its definition."""

from __future__ import annotations

import numpy as np
import pytest

from spectrolabe.errors import InputError
from spectrolabe.spectra import Frame, Spectrum
from spectrolabe.spectra.wavelength import (
    SPEED_OF_LIGHT,
    air_to_vacuum,
    doppler_shift,
    to_rest_frame,
    vacuum_to_air,
)


# NIST Atomic Spectra Database; the pairs with two decimals as in the SDSS line list
@pytest.mark.parametrize(
    ("air", "vacuum", "tolerance"),
    [
        (5889.951, 5891.583, 1e-3),
        (5895.924, 5897.558, 1e-3),
        (5006.843, 5008.240, 1e-3),
        (4861.325, 4862.683, 2e-3),
        (6562.80, 6564.61, 1e-2),
    ],
)
def test_published_wavelengths(air, vacuum, tolerance):
    assert air_to_vacuum(air) == pytest.approx(vacuum, abs=tolerance)
    assert vacuum_to_air(vacuum) == pytest.approx(air, abs=tolerance)


@pytest.mark.parametrize(("method", "difference"), [("Morton2000", 1e-6), ("Ciddor1996", 1e-3)])
def test_air_to_vacuum_agrees_with_specutils(method, difference):
    units = pytest.importorskip("astropy.units")
    wcs_utils = pytest.importorskip("specutils.utils.wcs_utils")
    air = np.geomspace(2010.0, 25000.0, 3001)
    want = wcs_utils.air_to_vac(air * units.AA, scheme="iteration", method=method)
    np.testing.assert_allclose(air_to_vacuum(air), want.to_value(units.AA), rtol=0, atol=difference)


def test_air_and_vacuum_are_inverse():
    wavelength = np.geomspace(2000.0, 25000.0, 5001)
    for there, back in ((air_to_vacuum, vacuum_to_air), (vacuum_to_air, air_to_vacuum)):
        np.testing.assert_allclose(back(there(wavelength)), wavelength, rtol=0, atol=1e-9)
    assert (air_to_vacuum(wavelength) > wavelength).all()


@pytest.mark.parametrize("convert", [air_to_vacuum, vacuum_to_air])
@pytest.mark.parametrize("wavelength", [1500.0, 0.65, 1e5, np.nan, [5000.0, 1200.0]])
def test_outside_the_range_of_the_formula(convert, wavelength):
    with pytest.raises(InputError, match="2000 to 25000 Å"):
        convert(wavelength)


def test_a_receding_star_is_redder():
    assert doppler_shift(5000.0, 299.792458) == pytest.approx(5005.0, abs=1e-9)
    assert doppler_shift(5000.0, -299.792458) == pytest.approx(4995.0, abs=1e-9)


def test_stated_difference_from_the_relativistic_formula():
    for rv, error in ((100.0, 0.02), (500.0, 0.42)):
        beta = rv / SPEED_OF_LIGHT
        relativistic = np.sqrt((1 + beta) / (1 - beta))
        difference = (relativistic - doppler_shift(1.0, rv)) * SPEED_OF_LIGHT
        assert difference == pytest.approx(error, abs=0.005)


@pytest.mark.parametrize("rv", [np.nan, np.inf, 4e5, -3e5])
def test_an_impossible_velocity_is_an_error(rv):
    with pytest.raises(InputError, match=r"rv: expected finite radial velocities"):
        doppler_shift(5000.0, rv)


def make(**changes):
    fields = {
        "wavelength": np.linspace(5000, 5100, 11),
        "flux": np.arange(11.0),
        "ivar": np.ones(11),
        "resolution": 2000.0,
        "frame": Frame.BARYCENTRIC,
        "rv": 120.0,
        "spectrum_id": "spec-1",
    }
    return Spectrum(**(fields | changes))


def test_to_rest_frame_undoes_the_shift_exactly():
    rest = np.linspace(5000, 5100, 11)
    spectrum = to_rest_frame(make(wavelength=doppler_shift(rest, 120.0)))
    np.testing.assert_allclose(spectrum.wavelength, rest, rtol=0, atol=1e-9)
    assert spectrum.frame == Frame.REST
    assert spectrum.rv == 120.0
    np.testing.assert_array_equal(spectrum.flux, np.arange(11.0))
    np.testing.assert_array_equal(spectrum.ivar, np.ones(11))


def test_a_spectrum_at_rest_stays():
    spectrum = make(frame=Frame.REST, rv=np.nan)
    assert to_rest_frame(spectrum) is spectrum


def test_an_unknown_velocity_is_an_error_that_names_the_spectrum():
    with pytest.raises(InputError, match=r"spec-1: expected .* radial velocity, found rv = NaN"):
        to_rest_frame(make(rv=np.nan))
