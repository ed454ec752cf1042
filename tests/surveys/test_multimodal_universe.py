"""Records as the scripts of the Multimodal Universe write them."""

from __future__ import annotations

import numpy as np
import pytest

from spectrolabe.errors import InputError
from spectrolabe.surveys.multimodal_universe import from_multimodal_universe


def apogee_record() -> dict:
    size = 40
    return {
        "spectrum": {
            "flux": np.linspace(200, 300, size).tolist(),
            "ivar": [0.5] * size,
            "lsf_sigma": [0.326] * size,
            "lambda": (15145.0 * 10 ** (6e-6 * np.arange(size))).astype("f4").tolist(),
            # a bad pixel, a cosmic ray that was flagged in a mere informational bit, a good pixel
            "pix_bitmask": [1, 1 << 9, *[0] * (size - 2)],
        },
        "teff": 4800.0,
        "radial_velocity": -34.26,
        "restframe": True,
        "object_id": "b'2M00000523-1937381'",
    }


def desi_record(sigma: object) -> dict:
    size = 50
    mask = np.zeros(size, bool)
    mask[7] = True
    return {
        "spectrum": {
            "flux": np.arange(size, dtype="f4"),
            "ivar": np.full(size, 2.0, "f4"),
            "lsf_sigma": sigma,
            "lambda": (5000.0 + 0.8 * np.arange(size)).astype("f4"),
            "mask": mask,
        },
        "Z": 1e-4,
        "ZWARN": False,
        "object_id": 39627788403084375,
        "ra": 10.5,
    }


def test_apogee_is_at_rest_with_its_nominal_resolution():
    record = apogee_record()
    spectrum = from_multimodal_universe(record, survey="apogee")
    assert (spectrum.spectrum_id, spectrum.star_id) == ("2M00000523-1937381",) * 2
    assert (spectrum.survey, spectrum.frame, spectrum.rv) == ("apogee", "rest", -34.26)
    assert spectrum.resolution == 22500.0
    np.testing.assert_allclose(spectrum.wavelength, record["spectrum"]["lambda"])
    np.testing.assert_array_equal(spectrum.good, [False] + [True] * 39)
    assert spectrum.meta["teff"] == 4800.0
    assert "spectrum" not in spectrum.meta


@pytest.mark.parametrize("sigma", [np.full(50, 0.9, "f4"), np.float32(0.9), 0.9])
def test_the_line_spread_of_desi_is_in_pixels(sigma):
    spectrum = from_multimodal_universe(desi_record(sigma), survey="desi")
    # a Gaussian of 0.9 pixels of 0.8 Å: FWHM 1.6955 Å, thus R = 2948.9 at 5000 Å
    np.testing.assert_allclose(spectrum.resolution, spectrum.wavelength / 1.69546, rtol=5e-4)
    assert spectrum.resolution[-1] == pytest.approx(2972.2, rel=5e-4)
    assert (spectrum.frame, spectrum.spectrum_id) == ("barycentric", "39627788403084375")
    assert spectrum.rv == pytest.approx(29.979, abs=1e-3)
    assert np.flatnonzero(~spectrum.good).tolist() == [7]
    assert spectrum.meta["ra"] == 10.5


def test_the_padding_of_sdss_is_cut_off():
    record = desi_record(np.full(50, 0.9, "f4"))
    record["spectrum"]["lambda"][40:] = -1.0
    spectrum = from_multimodal_universe(record, survey="sdss_boss")
    assert len(spectrum) == len(spectrum.resolution) == 40
    np.testing.assert_array_equal(spectrum.flux, np.arange(40))


def test_pixels_without_a_width_or_a_flux_are_unusable():
    record = desi_record(np.full(50, 0.9, "f4"))
    record["spectrum"]["lsf_sigma"][3] = 0.0
    record["spectrum"]["flux"][5] = np.nan
    record["spectrum"]["ivar"][6] = np.inf
    spectrum = from_multimodal_universe(record, survey="desi")
    assert np.flatnonzero(~spectrum.good).tolist() == [3, 5, 6, 7]
    assert spectrum.resolution[3] == pytest.approx(np.median(spectrum.resolution), rel=0.05)


def test_the_redshift_of_a_galaxy_is_no_velocity():
    record = {**desi_record(0.9), "Z": 0.7}
    assert np.isnan(from_multimodal_universe(record, survey="desi").rv)


def test_what_is_missing_is_said():
    with pytest.raises(InputError, match=r"apogee, desi, sdss_boss\), found 'lamost'"):
        from_multimodal_universe(apogee_record(), survey="lamost")
    record = desi_record(0.9)
    del record["spectrum"]["ivar"]
    with pytest.raises(InputError, match=r"39627788403084375: .* Missing: ivar"):
        from_multimodal_universe(record, survey="desi")
    with pytest.raises(InputError, match="no positive value"):
        from_multimodal_universe(desi_record(np.zeros(50)), survey="desi")
    with pytest.raises(InputError, match="an object_id"):
        from_multimodal_universe({"spectrum": {}}, survey="desi")
