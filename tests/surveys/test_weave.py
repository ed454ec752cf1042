"""WEAVE: which fibres are stars, calibration, and what a fibre without a resolution does."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits

from spectrolabe import surveys
from spectrolabe.errors import InputError
from tests.surveys.writers import weave


@pytest.fixture
def single(tmp_path):
    return weave.single(tmp_path, np.random.default_rng(3)).path


def test_only_allocated_stars_are_read(single):
    spectra = surveys.read(single)
    assert [spectrum.meta["fibreid"] for spectrum in spectra] == ["1", "4", "6"]
    assert [spectrum.spectrum_id for spectrum in spectra] == [
        f"single_1003453:RED:{i}" for i in (1, 4, 6)
    ]
    assert all(spectrum.meta["extension"] == "RED" for spectrum in spectra)
    assert spectra[0].meta["helio_cor"] == "11.0"


def test_signal_to_noise_is_that_of_the_counts(single):
    """The sensitivity function scales flux and error alike, so it cannot change S/N."""
    with fits.open(single) as hdus:
        counts, ivar = hdus["RED_DATA"].data[0], hdus["RED_IVAR"].data[0]
    spectrum = surveys.read(single)[0]
    good = spectrum.good
    np.testing.assert_allclose(
        (spectrum.flux * np.sqrt(spectrum.ivar))[good], (counts * np.sqrt(ivar))[good], rtol=1e-4
    )
    assert not good[50:60].any()
    assert not good[70]
    assert not good[-3:].any()
    assert good.sum() == len(spectrum) - 14


def test_resolution_is_per_pixel_from_the_width_in_angstrom(single):
    spectrum = surveys.read(single)[1]
    np.testing.assert_allclose(spectrum.resolution, spectrum.wavelength / 1.2, rtol=1e-6)


def test_a_star_without_a_resolution_is_an_error_that_names_its_fibre(single):
    with fits.open(single, mode="update") as hdus:
        hdus["FIBTABLE"].data["Resol"][3] = 0.0
    with pytest.raises(InputError, match=r"single_1003453\.fit, fibre 4: expected Resol"):
        surveys.read(single)


def test_rows_and_fibres_must_agree(single):
    with fits.open(single) as hdus:
        hdus["FIBTABLE"].data = hdus["FIBTABLE"].data[:4]
        hdus.writeto(single.with_name("short.fit"))
    with pytest.raises(InputError, match=r"each of the 6 spectra in RED_DATA, found 4 rows"):
        surveys.read(single.with_name("short.fit"))


def test_the_unit_of_the_grid_is_that_of_the_header(single):
    metres = single.with_name("metres.fit")
    with fits.open(single) as hdus:
        header = hdus["RED_DATA"].header
        header["CUNIT1"] = "m"
        header["CRVAL1"] *= 1e-10
        header["CD1_1"] *= 1e-10
        hdus.writeto(metres)
    np.testing.assert_allclose(
        surveys.read(metres)[0].wavelength, surveys.read(single)[0].wavelength, rtol=1e-12
    )
