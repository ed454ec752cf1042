"""SDSS/BOSS on a native file: lines where they belong, its resolution, and another reader."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from astropy.io import fits

from spectrolabe import surveys
from spectrolabe.surveys.sdss_boss import BOSS_BAD_PIXEL, BossPixel, boss_resolution
from tests.surveys.writers.sdss_boss import sdss4, sdss5

C = 299792.458  # km/s
# vacuum wavelengths of strong lines of an F star: Balmer beta to delta, the calcium triplet, Å
LINES = (4862.69, 4341.69, 4102.90, 8544.44, 8664.52)


@pytest.fixture
def real_file(shared_data):
    return shared_data / "sdss" / "spec-3586-55181-0220.fits"


def centre(spectrum, line, half_width=20.0):
    """Centroid of the deeper half of an absorption line, in the spectrum's own frame."""
    near = (np.abs(spectrum.wavelength - line) < half_width) & spectrum.good
    beside = (np.abs(spectrum.wavelength - line) < 80) & ~near & spectrum.good
    depth = 1 - spectrum.flux[near] / np.median(spectrum.flux[beside])
    depth = np.where(depth > depth.max() / 2, depth, 0)
    return np.sum(depth * spectrum.wavelength[near]) / np.sum(depth)


def test_the_bits_have_their_documented_numbers():
    numbers = {bit.name: int(bit).bit_length() - 1 for bit in BossPixel}
    assert numbers["SMEARMEDSN"] == 12
    assert numbers["NEARBADPIXEL"] == 16
    assert numbers["REDMONSTER"] == 28
    assert int(BOSS_BAD_PIXEL) == 2**18 + 2**22 + 2**23 + 2**24


def test_missing_dispersions_get_the_typical_resolution(tmp_path):
    case = sdss4(tmp_path, np.random.default_rng(0))
    (spectrum,) = surveys.read(case.path)
    gap = slice(50, 60)  # WDISP = 0 there
    np.testing.assert_allclose(spectrum.resolution[60:], 1900, rtol=1e-5)
    typical = boss_resolution(spectrum.wavelength[gap])
    np.testing.assert_allclose(spectrum.resolution[gap], typical, rtol=1e-5)
    assert boss_resolution([3700.0, 5999.9, 6000.1, 9000.0]) == pytest.approx(
        [1560, 2270, 1850, 2650], rel=1e-3
    )


@pytest.mark.data
def test_lines_of_the_star_are_at_the_pipelines_redshift(real_file):
    """In air they would be 83 km/s off, and in the observed frame 29 km/s."""
    (spectrum,) = surveys.read(real_file)
    shifts = [C * (centre(spectrum, line) / line - 1) for line in LINES]
    assert spectrum.rv == pytest.approx(38.9, abs=0.1)
    assert np.median(shifts) == pytest.approx(spectrum.rv, abs=15)
    assert spectrum.frame == "barycentric"


@pytest.mark.data
def test_the_real_file_is_read_as_astropy_reads_it(real_file, tmp_path):
    (spectrum,) = surveys.read(real_file)
    packed = tmp_path / "packed.gz"
    packed.write_bytes(gzip.compress(real_file.read_bytes()))
    (unpacked,) = surveys.read(packed)
    with fits.open(real_file) as hdus:
        pixels, source = hdus[1].data, hdus[2].data[0]
        np.testing.assert_array_equal(spectrum.flux, pixels["flux"])
        np.testing.assert_array_equal(
            spectrum.good, (pixels["ivar"] > 0) & ((pixels["and_mask"] & 2**23) == 0)
        )
        for each in (spectrum, unpacked):
            assert each.rv == pytest.approx(source["Z"] * C)
            assert each.spectrum_id == "3586-55181-0220"
            assert each.star_id == f"THING_ID {hdus[0].header['THING_ID']}"


@pytest.mark.data
def test_the_typical_resolution_is_that_of_a_real_star(real_file):
    (spectrum,) = surveys.read(real_file)
    inside = (spectrum.wavelength > 3800) & (spectrum.wavelength < 9200)
    ratio = (spectrum.resolution / boss_resolution(spectrum.wavelength))[inside]
    assert np.median(ratio) == pytest.approx(1, abs=0.05)
    assert np.quantile(np.abs(ratio - 1), 0.9) < 0.15


@pytest.mark.data
@pytest.mark.filterwarnings("ignore:.*multiple slashes")
def test_specutils_agrees_on_the_real_file(real_file):
    specutils = pytest.importorskip("specutils")
    (ours,) = surveys.read(real_file)
    theirs = specutils.Spectrum.read(str(real_file), format="SDSS-III/IV spec")
    np.testing.assert_allclose(theirs.spectral_axis.value, ours.wavelength, rtol=1e-6)
    np.testing.assert_array_equal(theirs.flux.value, ours.flux)
    np.testing.assert_array_equal(theirs.uncertainty.array[ours.good], ours.ivar[ours.good])
    np.testing.assert_array_equal(~theirs.mask & (theirs.uncertainty.array > 0), ours.good)


@pytest.mark.filterwarnings("ignore:.*multiple slashes")
def test_specutils_rejects_what_is_only_informative(tmp_path):
    specutils = pytest.importorskip("specutils")
    rng = np.random.default_rng(0)
    older, newer = sdss4(tmp_path, rng), sdss5(tmp_path, rng)
    theirs = specutils.Spectrum.read(str(older.path), format="SDSS-III/IV spec")
    (ours,) = surveys.read(older.path)
    only_theirs = theirs.mask & ours.good
    assert list(np.flatnonzero(only_theirs)) == list(range(200, 211))
    # for SDSS-V it takes the OR of the exposures' masks, which here leaves nothing
    theirs = specutils.Spectrum.read(str(newer.path), format="SDSS-V spec", hdu=1)
    (ours,) = surveys.read(newer.path)
    np.testing.assert_allclose(theirs.spectral_axis.value, ours.wavelength, rtol=1e-6)
    np.testing.assert_array_equal(theirs.flux.value[ours.good], ours.flux[ours.good])
    assert theirs.mask.all()
    assert ours.good.mean() > 0.99
