"""One contract for every survey: what a reader must do with any file it recognises."""

from __future__ import annotations

import gzip

import numpy as np
import pytest

from spectrolabe import surveys
from spectrolabe.errors import InputError
from spectrolabe.spectra.spectrum import PRODUCT
from spectrolabe.surveys.files import opened
from spectrolabe.surveys.products import product_of, table_of
from tests.surveys.writers import label_writers, spectrum_writers

SPECTRA, LABEL_TABLES = spectrum_writers(), label_writers()


@pytest.fixture(params=SPECTRA, ids=str)
def case(request, tmp_path):
    return SPECTRA[request.param](tmp_path, np.random.default_rng(11))


@pytest.fixture(params=LABEL_TABLES, ids=str)
def label_case(request, tmp_path):
    return LABEL_TABLES[request.param](tmp_path, np.random.default_rng(12))


def test_every_survey_has_a_writer(tmp_path):
    written = set()
    for name, write in SPECTRA.items():
        folder = tmp_path / name  # layouts of one survey share file names
        folder.mkdir()
        written.add(write(folder, np.random.default_rng(0)).survey)
    assert written == set(surveys.SURVEYS)


def test_recognised_by_content_and_by_no_other_survey(case, tmp_path):
    anonymous = tmp_path / "anything.dat"
    anonymous.write_bytes(case.path.read_bytes())
    with opened(anonymous) as file:
        claims = [s.name for s in surveys.SURVEYS.values() if s.recognises(file)]
        assert claims[0] == case.survey
        assert set(claims) <= {case.survey, "generic"}


def test_values_are_those_written(case):
    spectra = surveys.read(case.path)
    assert len(spectra) == len(case.expected)
    for got, want in zip(spectra, case.expected, strict=True):
        np.testing.assert_allclose(
            got.wavelength, want.wavelength, rtol=0, atol=case.wavelength_tolerance
        )
        np.testing.assert_array_equal(got.good, want.ivar > 0)
        good = got.good
        np.testing.assert_allclose(got.flux[good], want.flux[good], rtol=1e-4)
        np.testing.assert_allclose(got.ivar[good], want.ivar[good], rtol=1e-3)
        assert np.median(got.resolution) == pytest.approx(want.resolution, rel=0.1)
        assert got.frame == want.frame
        assert got.rv == pytest.approx(want.rv, abs=0.05, nan_ok=True)
        if want.star_id:
            assert got.star_id == want.star_id


def test_contract_of_the_type(case):
    spectra = surveys.read(case.path)
    assert len({s.spectrum_id for s in spectra}) == len(spectra), "spectrum ids must be unique"
    for spectrum in spectra:
        assert spectrum.survey == case.survey
        assert spectrum.star_id
        assert spectrum.meta["file"] == case.path.name
        assert not spectrum.wavelength.flags.writeable
        assert not spectrum.flux.flags.writeable
        assert not spectrum.ivar.flags.writeable
        assert 0 < spectrum.good.sum() <= len(spectrum)


def test_gzip_changes_nothing(case, tmp_path):
    packed = tmp_path / (case.path.name + ".gz")
    packed.write_bytes(gzip.compress(case.path.read_bytes()))
    for plain, unpacked in zip(surveys.read(case.path), surveys.read(packed), strict=True):
        np.testing.assert_array_equal(plain.flux, unpacked.flux)
        np.testing.assert_array_equal(plain.ivar, unpacked.ivar)
        np.testing.assert_array_equal(plain.wavelength, unpacked.wavelength)


@pytest.mark.parametrize("fraction", [0.2, 0.7, 0.97])
def test_a_truncated_file_is_an_error_that_names_it(case, tmp_path, fraction):
    content = case.path.read_bytes()
    broken = tmp_path / f"broken-{case.path.name}"
    broken.write_bytes(content[: int(fraction * len(content))])
    if not content.startswith(b"SIMPLE"):
        pytest.skip("a shorter text table is a valid table")
    with pytest.raises(InputError, match=r"broken-.*(truncated|damaged|expected)"):
        surveys.read(broken)


def test_the_wrong_survey_is_an_error(case):
    other = "lamost_lrs" if case.survey != "lamost_lrs" else "lamost_mrs"
    with pytest.raises(InputError, match=r"expected a file of LAMOST"):
        surveys.read(case.path, survey=other)


def test_label_table(label_case):
    table = surveys.read_labels(label_case.path, label_case.survey)
    for name, values in label_case.labels.items():
        np.testing.assert_allclose(table.labels[name], values, rtol=1e-5, err_msg=name)
    for name, values in label_case.sigma.items():
        column = table.labels.index([name])[0]
        np.testing.assert_allclose(table.labels.sigma[:, column], values, rtol=1e-5, err_msg=name)
    np.testing.assert_array_equal(table.good, label_case.good)
    for key, values in label_case.keys.items():
        assert list(table.keys[key]) == values


def test_a_label_table_without_its_columns_is_an_error(label_case, tmp_path):
    wrong = tmp_path / "wrong.csv"
    wrong.write_text("alpha,beta\n1,2\n")
    with pytest.raises(InputError, match=r"(?i)wrong\.csv: expected columns .* found alpha, beta"):
        surveys.read_labels(wrong, label_case.survey)


def test_products_of_a_model_come_back_as_written_and_say_so(case, tmp_path):
    """A survey that can write its files puts flux and errors where its reader finds them."""
    measured = surveys.read(case.path)
    rng = np.random.default_rng(5)
    made = [
        one.replace(
            flux=np.where(one.good, 2.0 + rng.random(len(one)), 0.0),
            ivar=np.where(one.good & (rng.random(len(one)) > 0.2), 50.0 + rng.random(len(one)), 0),
        )
        for one in measured
    ]
    with opened(case.path) as file:
        assert not product_of(file)
        survey = surveys.get(case.survey)
        hdus = survey.rewritten(file, made, "some-model") if file.hdus is not None else None
    files = [table_of(one, "some-model") for one in made] if hdus is None else [hdus]
    found = []
    (tmp_path / "products").mkdir()
    for number, one in enumerate(files):
        path = tmp_path / "products" / f"{number}.fits"
        one.writeto(path)
        found += surveys.read(path)
    assert len(found) == len(made)
    for got, want in zip(found, made, strict=True):
        assert got.meta[PRODUCT] == "some-model"
        assert got.star_id == want.star_id
        np.testing.assert_allclose(got.wavelength, want.wavelength, rtol=1e-8)
        assert got.rv == pytest.approx(want.rv, abs=0.05, nan_ok=True)
        # what is not known any more must not come back as data
        assert not (got.good & ~want.good).any()
        both = got.good & want.good
        assert both.sum() > 0.9 * want.good.sum()
        np.testing.assert_allclose(got.flux[both], want.flux[both], rtol=1e-4)
        np.testing.assert_allclose(got.ivar[both], want.ivar[both], rtol=1e-3)


def test_surveys_of_many_visits_can_be_written(case):
    with opened(case.path) as file:
        hdus = surveys.get(case.survey).rewritten(file, surveys.read(case.path), "some-model")
    assert (hdus is not None) == (case.survey in ("apogee", "desi", "lamost_lrs", "lamost_mrs"))
