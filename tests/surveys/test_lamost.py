"""LAMOST on its own files: all layouts, lines where they belong, repeats that agree."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from astropy.io import fits

from spectrolabe import surveys
from spectrolabe.surveys.files import opened
from spectrolabe.surveys.lamost import low_resolution

C = 299792.458  # km/s
H_ALPHA = 6564.6  # Å, vacuum


def rows(path):
    with path.open() as stream:
        return list(csv.DictReader(stream))


def at_rest(spectrum):
    return spectrum.wavelength / (1 + spectrum.rv / C)


def line_centre(spectrum, line, half_width=15.0):
    """Centroid of the deeper half of an absorption line, in the star's frame."""
    wavelength = at_rest(spectrum)
    near = (np.abs(wavelength - line) < half_width) & spectrum.good
    beside = (np.abs(wavelength - line) < 60) & ~near & spectrum.good
    depth = 1 - spectrum.flux[near] / np.median(spectrum.flux[beside])
    depth = np.where(depth > depth.max() / 2, depth, 0)
    return np.sum(depth * wavelength[near]) / np.sum(depth)


@pytest.mark.data
@pytest.mark.parametrize(("folder", "count"), [("lamost_dr10", 60), ("lamost_dr1", 60)])
def test_h_alpha_is_at_its_vacuum_wavelength(shared_data, folder, count):
    files = sorted((shared_data / folder / "spectra").glob("*.fits.gz"))[:count]
    spectra = [spectrum for path in files for spectrum in surveys.read(path)]
    assert {s.survey for s in spectra} == {"lamost_lrs"}
    centres = [line_centre(s, H_ALPHA) for s in spectra if np.isfinite(s.rv) and s.snr > 20]
    assert len(centres) > count / 2
    # the air wavelength is 1.8 Å bluer; the redshift comes from the whole spectrum
    assert np.median(centres) == pytest.approx(H_ALPHA, abs=0.5)


@pytest.mark.data
def test_the_reader_agrees_with_astropy_and_with_the_header(shared_data):
    path = min((shared_data / "lamost_dr10" / "spectra").glob("*.fits.gz"))
    (spectrum,) = surveys.read(path)
    with fits.open(path) as hdus:
        row, header = hdus["COADD"].data[0], hdus[0].header
        np.testing.assert_array_equal(spectrum.flux, row["FLUX"])
        np.testing.assert_array_equal(spectrum.good, (row["IVAR"] > 0) & (row["ANDMASK"] == 0))
        grid = 10 ** (header["COEFF0"] + header["COEFF1"] * np.arange(len(spectrum)))
        np.testing.assert_allclose(spectrum.wavelength, grid, rtol=1e-6)
        assert spectrum.rv == pytest.approx(header["Z"] * C)
        assert spectrum.meta["obsid"] == header["OBSID"]
        assert 0.5 < spectrum.snr / header["SNRR"] < 2


def test_lines_are_as_wide_all_along_an_arm():
    """At the middle of either arm R is the 1800 that the survey states (Cui et al. 2012)."""
    wavelength = np.array([3850.0, 5220.0, 5799.0, 5801.0, 7380.0, 9000.0])
    fwhm = wavelength / low_resolution(wavelength)
    assert fwhm[:3] == pytest.approx(fwhm[0])
    assert fwhm[3:] == pytest.approx(fwhm[-1])
    assert low_resolution([5220.0, 7380.0]) == pytest.approx(1800.0, rel=0.01)


@pytest.mark.data
def test_repeats_of_one_star_agree(shared_data):
    folder = shared_data / "lamost_dr10"
    file = {row["obsid"]: folder / row["file"] for row in rows(folder / "labels.csv")}
    grid = np.arange(4500.0, 6500.0, 5.0)
    differences = []
    for pair in rows(folder / "repeat_pairs.csv"):
        (first,), (second,) = (surveys.read(file[pair[key]]) for key in ("obsid_a", "obsid_b"))
        assert first.star_id == second.star_id
        shape = []
        for spectrum in (first, second):
            good = spectrum.good
            flux = np.interp(grid, at_rest(spectrum)[good], spectrum.flux[good])
            x = (grid - 5500) / 1000
            shape.append(flux / np.polyval(np.polyfit(x, flux, 7), x))
        differences.append(np.std(shape[0] - shape[1]))
    assert len(differences) == 14
    assert np.median(differences) < 0.02  # at S/N of 80 to 500 a pixel, after four pixels


@pytest.mark.data
def test_the_and_mask_costs_nothing_in_low_resolution(shared_data):
    paths = sorted((shared_data / "lamost_dr10" / "spectra").glob("*.fits.gz"))[:80]
    masked = lost = 0
    for path in paths:
        with opened(path) as file:
            columns = file.arrays("COADD")
            bad = columns["ANDMASK"][0] != 0
            masked += bad.sum()
            lost += (bad & (columns["IVAR"][0] > 0)).sum()
    assert masked > 0
    assert lost == 0


@pytest.mark.data
def test_the_labels_belong_to_the_spectra(shared_data):
    for folder, survey in (("lamost_dr10", "lamost_lrs"), ("lamost_dr1", "lamost_lrs")):
        path = shared_data / folder / "labels.csv"
        table = surveys.read_labels(path, survey)
        assert len(table) == len(rows(path))
        assert set(table.split) == {"train", "val"}
        assert 0.2 < table.good.mean() < 1
        (spectrum,) = surveys.read(shared_data / folder / rows(path)[5]["file"])
        assert table.keys["file"][5].endswith(spectrum.meta["file"])


@pytest.mark.data
def test_medium_resolution_nights_of_one_star(shared_data):
    nights = [surveys.read(path) for path in sorted((shared_data / "lamost_mrs").glob("med-*"))]
    assert {spectrum.survey for night in nights for spectrum in night} == {"lamost_mrs"}
    one_star = [night for night in nights if night[0].star_id == nights[0][0].star_id]
    assert len(one_star) == 4
    for night in nights:
        blue, red, *exposures = night
        assert blue.meta["coadd"]
        assert red.meta["coadd"]
        assert blue.wavelength[-1] < 5400 < 6250 < red.wavelength[0]
        assert len(exposures) >= 6
        assert not any(spectrum.meta["coadd"] for spectrum in exposures)
    deep = [night for night in nights if night[1].snr > 20]
    assert len(deep) == 3
    for night in deep:
        reds = [s.replace(rv=0.0) for s in night if s.wavelength[0] > 6000 and s.snr > 20]
        centres = [line_centre(spectrum, H_ALPHA, 6.0) for spectrum in reds]
        assert abs(centres[0] - H_ALPHA) < 2.5
        np.testing.assert_allclose(centres[1:], centres[0], rtol=0, atol=0.15)
