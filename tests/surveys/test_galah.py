"""GALAH on its own files: lines and night-sky lines where they belong, errors that are noise."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from astropy.io import fits

from spectrolabe import surveys
from spectrolabe.errors import InputError
from spectrolabe.surveys.galah import GalahFlagDR3, GalahFlagDR4
from tests.surveys.writers import galah as writers
from tests.surveys.writers.galah import vacuum

C = 299792.458  # km/s
# iron, calcium and nickel lines of CCD 3, and hydroxyl lines of the night sky in CCD 4, air Å
STELLAR = (
    *(6493.781, 6494.980, 6499.650, 6518.366, 6546.238, 6569.214, 6592.913, 6593.870),
    *(6609.110, 6643.629, 6663.441, 6677.986, 6703.566, 6717.681),
)
HYDROXYL = (7750.640, 7794.112, 7821.503)  # Osterbrock et al. (1996, PASP 108, 277)


def centre(wavelength, depth, line, reach):
    """Wavelength of the deepest pixel near a line, refined by a parabola."""
    near = np.flatnonzero(np.abs(wavelength - line) < reach)
    k = near[np.argmax(depth[near])]
    around = slice(k - 2, k + 3)
    a, b, _ = np.polyfit(wavelength[around] - wavelength[k], depth[around], 2)
    return wavelength[k] - b / (2 * a)


def velocity(spectrum, guess):
    """Median radial velocity of the lines of CCD 3 on the spectrum's own scale, km/s."""
    rest = vacuum(np.array(STELLAR))
    found = [
        centre(spectrum.wavelength, -spectrum.flux, line * (1 + guess / C), 0.35) for line in rest
    ]
    return C * np.median(np.array(found) / rest - 1)


def barycentric_correction(header):
    """Velocity to be added to that seen from the telescope, km/s."""
    from astropy import units as u
    from astropy.coordinates import EarthLocation, SkyCoord
    from astropy.time import Time
    from astropy.utils import iers

    place = EarthLocation.from_geodetic(header["LONG_OBS"], header["LAT_OBS"], header["ALT_OBS"])
    star = SkyCoord(header["MEANRA"], header["MEANDEC"], unit="deg")
    with iers.conf.set_temp("auto_download", False):
        time = Time(header["UTMJD"], format="mjd")
        return star.radial_velocity_correction(obstime=time, location=place).to_value(u.km / u.s)


@pytest.mark.data
@pytest.mark.parametrize("name", ["1402070012010054", "1510080016010444"])
def test_sky_lines_are_shifted_by_the_barycentric_correction_and_by_nothing_else(shared_data, name):
    # Which convention holds: FITS, first pixel 1. Two pixels (an arange from CRPIX1 + 1) are
    # 5.7 km/s here. And: the scale is that of air, and barycentric.
    path = shared_data / "galah" / "dr51" / f"{name}.fits"
    (spectrum,) = surveys.read(path)
    with fits.open(path) as hdus:
        sky = hdus["no_sky_subspectrum"].data.astype(float) - hdus[0].data
        expected = barycentric_correction(hdus[0].header)
    rest = vacuum(np.array(HYDROXYL))
    found = [centre(spectrum.wavelength, sky, line, 1.2) for line in rest]
    assert C * np.median(np.array(found) / rest - 1) == pytest.approx(expected, abs=0.5)


@pytest.mark.data
def test_mu_leo_has_its_velocity(shared_data):
    path = shared_data / "galah" / "1312160026010033.fits"
    (spectrum,) = surveys.read(path)
    header = fits.getheader(path)
    # A velocity standard of 13.6 km/s. The header says by how much its scale was corrected: 7.4
    # km/s for what astropy has as 24.5, so the lines lie 17.1 km/s blueward of where they should.
    on_this_scale = 13.6 - barycentric_correction(header) + header["BARYEFF"]
    assert velocity(spectrum, on_this_scale) == pytest.approx(on_this_scale, abs=1.0)
    assert spectrum.rv == pytest.approx(on_this_scale, abs=1.0)


@pytest.mark.data
@pytest.mark.parametrize(
    "file",
    [
        "dr51/1402070012010053.fits",
        "dr51/1510080016010443.fits",
        "dr6_layout/1707110015010063.fits",
    ],
)
def test_lines_have_the_velocity_of_the_spectrum(shared_data, file):
    (spectrum,) = surveys.read(shared_data / "galah" / file)
    assert velocity(spectrum, spectrum.rv) == pytest.approx(spectrum.rv, abs=2.0)


@pytest.mark.data
def test_four_ccds_are_one_star(shared_data):
    folder = shared_data / "galah"
    spectra = [s for path in sorted(folder.glob("*.fits")) for s in surveys.read(path)]
    assert [s.meta["ccd"] for s in spectra] == [1, 2, 3, 4]
    assert {s.star_id for s in spectra} == {"131216002601003"}
    assert len({s.spectrum_id for s in spectra}) == 4
    assert len({round(s.rv, 3) for s in spectra}) == 1
    ends = [(s.wavelength[0], s.wavelength[-1]) for s in spectra]
    assert all(blue[1] + 100 < red[0] for blue, red in pairwise(ends))
    # the A band of the atmosphere is not usable, the rest is
    usable = [s.good.mean() for s in spectra]
    assert min(usable[:3]) > 0.99
    infrared = spectra[3]
    assert not infrared.good[infrared.wavelength < 7680].any()
    assert infrared.good[infrared.wavelength > 7685].all()


@pytest.mark.data
@pytest.mark.parametrize("ccd", [2, 3])
def test_signal_to_noise_and_resolution_are_those_of_the_header(shared_data, ccd):
    path = shared_data / "galah" / "dr6_layout" / f"170711001501006{ccd}.fits"
    (spectrum,) = surveys.read(path)
    header = fits.getheader(path)
    assert spectrum.snr == pytest.approx(header["SNR"], rel=0.01)
    fwhm = spectrum.wavelength / spectrum.resolution
    assert fwhm.mean() == pytest.approx(header["RES"], rel=0.01)
    assert fwhm.std() > 0.005
    assert spectrum.rv == header["RVCOM"]


@pytest.mark.data
def test_the_error_is_the_noise(shared_data):
    (spectrum,) = surveys.read(shared_data / "galah" / "dr6_layout" / "1707110015010063.fits")
    sigma = 1 / np.sqrt(spectrum.ivar)
    second = np.abs(spectrum.flux[2:] - 2 * spectrum.flux[1:-1] + spectrum.flux[:-2])
    # differences of neighbours hold the lines too, and the resampled pixels are correlated
    noise = 1.4826 * np.median(second) / np.sqrt(6)
    assert 0.5 < noise / np.median(sigma) < 2


@pytest.mark.data
def test_a_reduction_without_usable_errors_is_an_error(shared_data):
    path = shared_data / "galah" / "dr50" / "1510080016010441.fits"
    with pytest.raises(InputError, match=r"expected positive relative errors.*Reduction 5\.0"):
        surveys.read(path)


@pytest.mark.data
def test_the_fitted_spectrum_is_at_rest_and_its_mask_means_used(shared_data):
    (path,) = (shared_data / "galah" / "dr4_fit").glob("*.fits")
    spectra = surveys.read(path)
    assert [s.meta["ccd"] for s in spectra] == [1, 2, 3, 4]
    assert {s.star_id for s in spectra} == {"170710001601232"}
    assert velocity(spectra[2], 0.0) == pytest.approx(0.0, abs=2.0)
    model = fits.getdata(path)["smod"]
    flux = np.concatenate([s.flux for s in spectra])
    good = np.concatenate([s.good for s in spectra])
    assert np.median(np.abs(flux - model)[good]) < 0.3 * np.median(np.abs(flux - model)[~good])


def test_specutils_agrees_on_the_counts_and_takes_the_relative_error_as_absolute(tmp_path):
    from specutils import SpectrumList

    case = writers.dr3(tmp_path, np.random.default_rng(1))
    (ours,) = surveys.read(case.path)
    theirs = SpectrumList.read(str(case.path), format="GALAH")
    by_purpose = {s.meta["purpose"]: s for s in theirs}
    science = by_purpose["reduced"]
    good = ours.good
    np.testing.assert_array_equal(ours.flux[good], science.flux.value[good])
    np.testing.assert_allclose(
        ours.wavelength, vacuum(science.spectral_axis.to_value("Angstrom")), atol=2e-3
    )
    sigma = science.uncertainty.array[good]
    np.testing.assert_allclose(1 / np.sqrt(ours.ivar[good]), sigma * ours.flux[good], rtol=1e-4)
    assert by_purpose["normalised"].uncertainty is None


def test_the_infrared_normalisation_does_not_spoil_the_velocity(tmp_path):
    # its first pixel is another one: the start of its scale is 1800 km/s away
    case = writers.dr3_infrared(tmp_path, np.random.default_rng(2))
    (spectrum,) = surveys.read(case.path)
    assert spectrum.rv == pytest.approx(37.5, abs=0.01)


def test_a_reference_pixel_is_counted_from_one(tmp_path):
    case = writers.dr3_not_normalised(tmp_path, np.random.default_rng(3))
    header = fits.getheader(case.path)
    (spectrum,) = surveys.read(case.path)
    pixel = int(header["CRPIX1"]) - 1
    assert pixel > 0
    assert spectrum.wavelength[pixel] == pytest.approx(vacuum(header["CRVAL1"]), abs=2e-3)


def test_a_missing_reference_pixel_is_an_error(tmp_path):
    case = writers.dr3(tmp_path, np.random.default_rng(4))
    with fits.open(case.path, mode="update") as hdus:
        del hdus[0].header["CRPIX1"]
    with pytest.raises(InputError, match=r"the layout of GALAH.*CRPIX1"):
        surveys.read(case.path)


def test_stars_of_the_catalogue_are_gaia_sources(tmp_path):
    case = writers.dr3_catalogue(tmp_path, np.random.default_rng(5))
    table = surveys.read_labels(case.path, "galah")
    assert list(table.labels.star_id[:2]) == ["Gaia 11", "Gaia 12"]
    assert table.labels.star_id[4] == "170418003701209", "no source: the observation itself"
    np.testing.assert_array_equal(table.rv, [10, 20, 30, 40, np.nan])
    np.testing.assert_array_equal(table.snr, [50] * 5)
    four = writers.dr4_catalogue(tmp_path, np.random.default_rng(5))
    table = surveys.read_labels(four.path, "galah")
    np.testing.assert_array_equal(table.rv, [1, 2, 3, 4, 5])
    np.testing.assert_array_equal(table.snr, [80, 30, 80, 80, 80])


def test_abundances_need_signal(tmp_path):
    from astropy.table import Table

    case = writers.dr3_catalogue(tmp_path, np.random.default_rng(6))
    table = Table.read(case.path)
    table["snr_c3_iraf"][0] = 30.0
    table.write(case.path, overwrite=True)
    labels = surveys.read_labels(case.path, "galah")
    assert np.isnan(labels.labels["mg_fe"][0])
    assert labels.labels["mg_fe"][1] == pytest.approx(0.2)
    assert labels.good[0], "the parameters need no such signal in DR3"


def test_the_same_bit_means_different_things():
    assert GalahFlagDR3(1) == GalahFlagDR3.GAIA_RUWE
    assert GalahFlagDR4(1) == GalahFlagDR4.EMISSION
    assert GalahFlagDR3.NOT_CONVERGED == GalahFlagDR4.LOGG == 512
    for flags, last in ((GalahFlagDR3, 1024), (GalahFlagDR4, 16384)):
        assert [int(bit) for bit in flags] == [2**i for i in range(last.bit_length())]
