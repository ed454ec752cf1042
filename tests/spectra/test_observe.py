"""Wavelength scales, line-spread functions and resampling, against closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from spectrolabe.errors import InputError
from spectrolabe.spectra.observe import air_to_vacuum, resample, vacuum_to_air


# NIST Atomic Spectra Database, and the vacuum list of the SDSS (from NIST)
@pytest.mark.parametrize(
    ("air", "vacuum"),
    [(5889.951, 5891.583), (5895.924, 5897.558), (6562.80, 6564.61), (4861.35, 4862.71)],
)
def test_published_wavelengths(air, vacuum):
    assert air_to_vacuum(air) == pytest.approx(vacuum, abs=0.006)
    assert vacuum_to_air(vacuum) == pytest.approx(air, abs=0.006)


@pytest.mark.parametrize("method", ["Morton2000", "Ciddor1996"])
def test_air_to_vacuum_agrees_with_specutils(method):
    units = pytest.importorskip("astropy.units")
    wcs_utils = pytest.importorskip("specutils.utils.wcs_utils")
    air = np.geomspace(2010.0, 25000.0, 3001)
    want = wcs_utils.air_to_vac(air * units.AA, scheme="iteration", method=method)
    np.testing.assert_allclose(air_to_vacuum(air), want.to_value(units.AA), rtol=0, atol=2e-3)


def test_air_and_vacuum_are_inverse():
    wavelength = np.geomspace(2000.0, 25000.0, 5001)
    np.testing.assert_allclose(vacuum_to_air(air_to_vacuum(wavelength)), wavelength, atol=1e-9)
    np.testing.assert_allclose(air_to_vacuum(vacuum_to_air(wavelength)), wavelength, atol=1e-9)
    assert (air_to_vacuum(wavelength) > wavelength).all()


@pytest.mark.parametrize("convert", [air_to_vacuum, vacuum_to_air])
@pytest.mark.parametrize("wavelength", [1500.0, 0.65, 1e5, np.nan, [5000.0, 1200.0]])
def test_outside_the_range_of_the_formula(convert, wavelength):
    with pytest.raises(InputError, match="2000 to 25000 Å"):
        convert(wavelength)


def test_resample_onto_the_same_grid_is_the_identity():
    rng = np.random.default_rng(1)
    wavelength = np.cumsum(rng.uniform(0.5, 1.5, 300)) + 5000
    flux, ivar = rng.normal(size=300), rng.uniform(1, 2, 300)
    new_flux, new_ivar = resample(wavelength, flux, ivar, wavelength)
    np.testing.assert_allclose(new_flux, flux, rtol=1e-12)
    np.testing.assert_allclose(new_ivar, ivar, rtol=1e-12)
