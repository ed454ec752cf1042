"""DESI: resolution by closed forms, real co-adds and exposures, both label tables of a file."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
from astropy.io import fits

from spectrolabe import surveys
from spectrolabe.errors import InputError
from spectrolabe.surveys.desi import DesiFibre, DesiPixel, resolution_of_band
from tests.surveys.writers import desi as writers

# FWHM of a Gaussian in units of its sigma
FWHM = 2.354820045


def real_file(name):
    """One of the small DESI files that come with specutils (5 fibres each)."""
    package = importlib.util.find_spec("specutils")
    folder = Path(package.origin).parent / "io" / "default_loaders" / "tests" / "desi_test_data"
    if not (folder / name).is_file():
        pytest.skip("this specutils has no DESI files")
    return folder / name


REAL = (
    "coadd-sv3-dark-26065.fits",
    "coadd-5-169-thru20210419.fits",
    "spectra-sv3-dark-26065.fits",
    "spectra-5-169-thru20210419.fits",
)


@pytest.mark.parametrize("sigma", [0.7, 0.9, 1.3])
def test_a_gaussian_band_has_its_own_fwhm(sigma):
    wavelength = 3600 + 0.8 * np.arange(300)
    resolution = resolution_of_band(writers.band(sigma, 300), wavelength)
    np.testing.assert_allclose(wavelength / resolution, FWHM * sigma * 0.8, rtol=2e-3)


def test_the_band_is_read_by_rows_as_the_matrix_applies_it():
    # a kernel whose width changes within its own reach, off centre by a third of a pixel
    size, half = 400, 5
    wavelength = 6000 + 0.8 * np.arange(size)
    sigma = 0.9 + 0.2 * np.sin(2 * np.pi * np.arange(size) / 12)
    offsets = half - np.arange(2 * half + 1)
    i, j = np.arange(size)[:, None], np.arange(size)[None, :]
    matrix = np.exp(-0.5 * ((j - i - 0.3) / sigma[:, None]) ** 2)
    matrix /= matrix.sum(axis=1, keepdims=True)
    band = np.zeros((2 * half + 1, size))
    for k, offset in enumerate(offsets):
        columns = np.arange(max(0, offset), min(size, size + offset))
        band[k, columns] = matrix[columns - offset, columns]
    # SciPy's banded matrix of the same numbers is that matrix
    dia = scipy.sparse.dia_matrix((band, offsets), shape=(size, size)).toarray()
    np.testing.assert_allclose(dia[20:-20], np.where(abs(i - j) <= half, matrix, 0)[20:-20])
    fwhm = wavelength / resolution_of_band(band, wavelength)
    inside = slice(20, -20)
    np.testing.assert_allclose(fwhm[inside], FWHM * sigma[inside] * 0.8, rtol=2e-3)


def test_what_the_matrix_does_to_a_line_is_what_the_resolution_says():
    wavelength = 3600 + 0.8 * np.arange(300)
    band = writers.band(0.9, 300)
    matrix = scipy.sparse.dia_matrix((band, 5 - np.arange(11)), shape=(300, 300))
    line = matrix @ np.eye(300)[150]
    mean = line @ wavelength / line.sum()
    sigma = np.sqrt(line @ (wavelength - mean) ** 2 / line.sum())
    assert mean / (FWHM * sigma) == pytest.approx(
        resolution_of_band(band, wavelength)[150], rel=1e-3
    )


def test_rows_beside_bad_pixels_take_the_width_of_their_neighbours():
    wavelength = 3600 + 0.8 * np.arange(300)
    band = writers.band(0.9, 300)
    expected = resolution_of_band(band, wavelength)
    damaged = band.copy()
    damaged[:, 98:103] = 0.0
    np.testing.assert_allclose(resolution_of_band(damaged, wavelength), expected, rtol=1e-2)
    assert np.isnan(resolution_of_band(np.zeros_like(band), wavelength)).all()
    usable = np.ones(300, bool)
    usable[200:210] = False
    strange = band.copy()
    strange[:, 195:215] = writers.band(0.3, 20)
    assert resolution_of_band(strange, wavelength)[205] > 1.5 * expected[205]
    got = resolution_of_band(strange, wavelength, usable)
    assert not np.allclose(got[200:210], resolution_of_band(strange, wavelength)[200:210])


@pytest.mark.parametrize("name", REAL)
def test_real_files(name):
    path = real_file(name)
    spectra = surveys.read(path)
    with fits.open(path) as hdus:
        fibres = hdus["FIBERMAP"].data
        types = dict(zip(fibres["TARGETID"].astype(str), fibres["OBJTYPE"], strict=True))
    assert spectra
    assert {types[s.star_id] for s in spectra} == {"TGT"}
    assert len({s.spectrum_id for s in spectra}) == len(spectra)
    # what the instrument papers say of R at either end of each camera, with room for the fibres
    for camera, low, high in (("B", 2000, 3900), ("R", 3200, 5400), ("Z", 4000, 5900)):
        ones = [s for s in spectra if s.meta["camera"] == camera]
        assert ones
        for s in ones:
            blue, red = s.resolution[:100], s.resolution[-100:]
            assert low < np.median(blue) < np.median(red) < high
            assert s.meta["exptime" if "spectra" in name else "coadd_exptime"] > 100


@pytest.mark.parametrize(("name", "label"), [(REAL[0], "coadd"), (REAL[2], "spectra")])
def test_specutils_agrees_and_keeps_what_is_not_a_star(name, label):
    from specutils import SpectrumList

    path = real_file(name)
    theirs = {s.meta["band"]: s for s in SpectrumList.read(str(path), format=f"DESI {label}")}
    ours = surveys.read(path)
    fibres = list(theirs["b"].meta["fibermap"]["TARGETID"].astype(str))
    assert len(fibres) == 5 > len({s.star_id for s in ours}), "it returns sky and dead fibres too"
    for spectrum in ours:
        camera, row = theirs[spectrum.meta["camera"].lower()], fibres.index(spectrum.star_id)
        np.testing.assert_array_equal(spectrum.wavelength, camera.spectral_axis.value)
        np.testing.assert_array_equal(spectrum.flux, camera.flux.value[row])
        # masked and zero are two things there and one here
        ivar = np.where(camera.mask[row], 0, camera.uncertainty.array[row])
        np.testing.assert_array_equal(spectrum.ivar, ivar)


def test_fibres_and_cameras_are_those_that_can_be_used(tmp_path):
    case = writers.coadd(tmp_path, np.random.default_rng(1))
    found = [(int(s.star_id), s.meta["camera"]) for s in surveys.read(case.path)]
    wanted = [(target, camera) for target, _, _, read in writers.TARGETS for camera in read]
    assert found == wanted


def test_ids_and_meta(tmp_path):
    rng = np.random.default_rng(2)
    first = surveys.read(writers.coadd(tmp_path, rng).path)[0]
    assert first.spectrum_id == "main-bright-39627866878511337-B"
    assert first.meta["coadd_exptime"] == pytest.approx(1009.25)
    assert (first.meta["ref_id"], first.meta["ref_cat"]) == (3661511337984, "G2")
    assert type(first.meta["targetid"]) is int
    first = surveys.read(writers.spectra(tmp_path, rng).path)[0]
    assert first.spectrum_id == "39627866878511337-169-85502-B"
    assert first.meta["exptime"] == pytest.approx(602.5)


def test_a_file_without_stars_is_an_error(tmp_path):
    case = writers.coadd(tmp_path, np.random.default_rng(3))
    with fits.open(case.path, mode="update") as hdus:
        hdus["FIBERMAP"].data["OBJTYPE"] = "SKY"
    with pytest.raises(InputError, match=r"a target with a usable pixel, found 0 targets on 8"):
        surveys.read(case.path)


def test_a_file_without_resolution_is_not_read_with_a_guess(tmp_path):
    case = writers.coadd(tmp_path, np.random.default_rng(4))
    with fits.open(case.path) as hdus:
        kept = [hdu for hdu in hdus if hdu.name != "Z_RESOLUTION"]
        fits.HDUList(kept).writeto(tmp_path / "less.fits")
    with pytest.raises(InputError, match=r"less\.fits: expected the layout of DESI.*Z_RESOLUTION"):
        surveys.read(tmp_path / "less.fits")


def test_the_second_table_of_the_catalogue(tmp_path):
    case = writers.mwsall(tmp_path, np.random.default_rng(5))
    rows = surveys.read_labels(case.path, "desi", extension="SPTAB")
    labels = rows.labels
    # differences of [X/H], and their errors added in quadrature
    for name, value, error in (("ca_fe", 0.2, 0.05), ("mg_fe", 0.4, np.hypot(0.05, 0.03))):
        np.testing.assert_allclose(labels[name], value)
        np.testing.assert_allclose(labels.sigma[:, labels.index([name])[0]], error)
    np.testing.assert_allclose(labels["c_fe"], -0.1)
    assert "si_fe" not in labels.names, "this file has four elements"
    # sigma from the covariance, whose order is not that of the columns
    for name, sigma in (("teff", 25), ("logg", 0.07), ("fe_h", 0.04), ("alpha_fe", 0.03)):
        np.testing.assert_allclose(labels.sigma[:, labels.index([name])[0]], sigma)
    np.testing.assert_allclose(labels["v_micro"], 2.0, rtol=1e-5)
    microturbulence = labels.sigma[:, labels.index(["v_micro"])[0]]
    # the same interval on the logarithmic scale, to first order
    np.testing.assert_allclose(microturbulence, 2 * (10**0.02 - 10**-0.02) / 2, rtol=1e-3)
    # rows 1, 2 and 4 fail in RVTAB, 6 for want of success, 7 for its grid
    np.testing.assert_array_equal(rows.good, [True, 0, 0, 1, 0, 1, 0, 0])
    np.testing.assert_array_equal(rows.rv, np.full(8, 11.0))
    first = surveys.read_labels(case.path, "desi")
    assert first.labels["teff"][0] != labels["teff"][0], "two pipelines, two scales"


def test_bits():
    assert DesiPixel.BADCOLUMN == 1 << 10
    assert (DesiFibre.RESTRICTED, DesiFibre.BADAMPR, DesiFibre.VARIABLETHRU) == (
        8,
        1 << 23,
        1 << 14,
    )
