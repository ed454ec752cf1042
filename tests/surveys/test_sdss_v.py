"""SDSS-V products: against another reader, and what only the documentation tells."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.table import Table

from spectrolabe import surveys
from tests.surveys.writers.sdss_v import astra_aspcap, mwmstar, mwmvisit


@pytest.fixture
def stack(tmp_path):
    return mwmstar(tmp_path, np.random.default_rng(3)).path


@pytest.fixture
def visits(tmp_path):
    return mwmvisit(tmp_path, np.random.default_rng(4)).path


def test_each_instrument_has_its_own_resolution_and_bits(stack):
    boss, apogee = surveys.read(stack)
    assert boss.meta["extension"] == "BOSS/APO"
    assert apogee.meta["extension"] == "APOGEE/LCO"
    assert apogee.resolution == 22500
    # Smee et al. 2013: both channels at both of their ends
    at = [int(np.argmin(np.abs(boss.wavelength - w))) for w in (3700, 5995, 6005, 9000)]
    np.testing.assert_allclose(boss.resolution[at], [1560, 2270, 1850, 2650], rtol=3e-3)
    # bit 23 is a bright sky for BOSS, and nothing for APOGEE; bit 12 is a sky line for APOGEE
    assert not boss.good[100]
    assert not apogee.good[108]
    assert boss.good[200:209].all()


def test_stacks_and_visits_have_ids_of_their_own(stack, visits):
    ids = [s.spectrum_id for s in surveys.read(stack) + surveys.read(visits)]
    assert len(set(ids)) == len(ids) == 8
    assert [s.meta["coadd"] for s in surveys.read(stack)] == [True, True]
    assert not any(s.meta["coadd"] for s in surveys.read(visits))


def test_wavelengths_have_more_digits_than_the_column(stack):
    _, apogee = surveys.read(stack)
    steps = np.diff(np.log10(apogee.wavelength))
    assert np.ptp(steps) < 1e-13  # those of the float32 column vary by 4e-8


def test_specutils_agrees_but_rejects_every_flagged_pixel(stack, visits):
    specutils = pytest.importorskip("specutils")
    theirs = specutils.SpectrumList.read(str(stack), format="SDSS-V mwm")
    ours = surveys.read(stack)
    assert len(theirs) == len(ours) == 2
    for their, own in zip(theirs, ours, strict=True):
        np.testing.assert_allclose(their.spectral_axis.value, own.wavelength, rtol=1e-7)
        np.testing.assert_array_equal(their.flux.value[own.good], own.flux[own.good])
        np.testing.assert_array_equal(their.uncertainty.array[own.good], own.ivar[own.good])
        both = their.mask & own.good
        harmless = 9 if own.meta["extension"] == "BOSS/APO" else 5
        assert both.sum() == harmless + 1  # and one whose flags are NaN
    visit_list = specutils.SpectrumList.read(str(visits), format="SDSS-V mwm")
    own = surveys.read(visits)
    for i, block in enumerate(visit_list):  # one array of three visits for each instrument
        for j in range(3):
            np.testing.assert_array_equal(block.flux.value[j], own[3 * i + j].flux)


def test_abundances_are_differences_and_their_errors_add_in_quadrature(tmp_path):
    case = astra_aspcap(tmp_path, np.random.default_rng(5))
    native = Table.read(case.path, hdu=2)
    table = surveys.read_labels(case.path, "sdss_v")
    known = np.isfinite(table.labels["n_fe"])
    assert known.sum() == 4
    np.testing.assert_allclose(
        table.labels["n_fe"][known], np.asarray(native["n_h"] - native["fe_h"])[known], atol=1e-6
    )
    sigma = table.labels.sigma[:, table.labels.index(["n_fe"])[0]]
    total = np.hypot(native["e_n_h"], native["e_fe_h"])
    use = known & (np.asarray(native["e_n_h"]) > 0)
    np.testing.assert_allclose(sigma[use], np.asarray(total)[use], rtol=1e-6)
    # an error alone does not make a value
    assert np.isnan(sigma[~use]).all()


def test_the_columns_of_the_catalogue_are_left_as_they_were(tmp_path):
    case = astra_aspcap(tmp_path, np.random.default_rng(5))
    native = Table.read(case.path, hdu=2)
    before = {name: np.array(native[name]) for name in native.colnames}
    surveys.get("sdss_v").labels(native)
    assert native.colnames == list(before)
    for name, values in before.items():
        np.testing.assert_array_equal(np.array(native[name]), values)
