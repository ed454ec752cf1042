"""What a user may get wrong, and what the message says. The file is named in every one."""

from __future__ import annotations

import gzip
import pickle

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from spectrolabe import surveys
from spectrolabe.errors import InputError
from tests.surveys.writers import lamost

HEAD = "# MEDIUM = vacuum\n# FRAME = rest\n# RV = 0\n# WAVEUNIT = Angstrom\n"


@pytest.fixture
def lrs(tmp_path):
    return lamost.dr10(tmp_path, np.random.default_rng(9)).path


@pytest.fixture
def own(tmp_path):
    """Write a generic CSV from rows of wavelength, flux, ivar."""

    def write(*rows, resolution="2000"):
        lines = [",".join(str(value) for value in row) for row in rows]
        path = tmp_path / "own.csv"
        body = "wavelength,flux,ivar\n" + "\n".join(lines) + "\n"
        path.write_text(f"{HEAD}# R = {resolution}\n{body}")
        return path

    return write


def set_rows(path, **columns):
    with fits.open(path, mode="update") as hdus:
        for name, value in columns.items():
            hdus["COADD"].data[name][:] = value
    return path


def test_no_file(tmp_path):
    with pytest.raises(InputError, match=r"absent\.fits: expected a file, found none\."):
        surveys.read(tmp_path / "absent.fits")
    with pytest.raises(InputError, match=r"expected a file, found none"):
        surveys.read(tmp_path)


@pytest.mark.parametrize("name", ["empty.fits", "empty.csv", "empty.fits.gz"])
def test_an_empty_file(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"")
    with pytest.raises(InputError, match=rf"{name}: .*an empty file \(0 bytes\)"):
        surveys.read(path)


def test_a_truncated_file_packed_or_not(lrs, tmp_path):
    content = lrs.read_bytes()
    for size in (3000, len(content) // 2, len(content) - 2880):
        path = tmp_path / "cut.fits"
        path.write_bytes(content[:size])
        with pytest.raises(InputError, match=r"cut\.fits: .*truncated.*Download it again"):
            surveys.read(path)
    packed = gzip.compress(content)
    path.write_bytes(packed[: len(packed) // 2])
    with pytest.raises(InputError, match=r"cut\.fits: expected a whole gzip file"):
        surveys.read(path)


@pytest.mark.parametrize(
    "content",
    [b"\x89PNG\r\n\x1a\n" + bytes(range(256)), b"PAR1 and no more", b"<?xml version='1.0'?>"],
)
def test_a_file_of_another_kind(tmp_path, content):
    path = tmp_path / "spectrum.fits"
    path.write_bytes(content)
    with pytest.raises(
        InputError, match=r"spectrum\.fits: expected FITS, VOTable, ECSV, CSV or Par"
    ):
        surveys.read(path)


def test_a_file_of_no_survey(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)  # specutils is optional
    path = tmp_path / "labels.csv"
    path.write_text("name,teff\nmu Leo,4470\n")
    with pytest.raises(
        InputError, match=r"spectra of LAMOST.*found a table with columns 'name', 'teff'\."
    ):
        surveys.read(path)
    path = tmp_path / "image.fits"
    fits.PrimaryHDU(np.ones((30, 30))).writeto(path)
    with pytest.raises(
        InputError, match=r"image\.fits: expected spectra of .*generic table layout"
    ):
        surveys.read(path)


def test_the_wrong_survey_and_an_unknown_one(lrs, own):
    with pytest.raises(
        InputError,
        match=r"expected a file of LAMOST MRS, found FITS with HDUs 'PRIMARY', 'C.*of LAMOST LRS",
    ):
        surveys.read(lrs, survey="lamost_mrs")
    with pytest.raises(InputError, match=r"expected a file of LAMOST LRS, found a table with col"):
        surveys.read(own((4000, 1, 1), (4001, 1, 1)), survey="lamost_lrs")
    with pytest.raises(InputError, match=r"survey: .*'lamost_lr'\. Did you mean 'lamost_lrs'\?"):
        surveys.read(lrs, survey="lamost_lr")


def test_a_survey_file_without_a_column_it_needs(lrs):
    with fits.open(lrs) as hdus:
        columns = [c for c in hdus["COADD"].columns if c.name != "IVAR"]
        table = fits.BinTableHDU.from_columns(columns, name="COADD")
        fits.HDUList([hdus[0], table]).writeto(lrs.with_name("lacking.fits"))
    with pytest.raises(
        InputError, match=r"lacking\.fits: .*layout of LAMOST LRS, found KeyError: 'IVAR"
    ):
        surveys.read(lrs.with_name("lacking.fits"))


def test_a_spectrum_with_only_bad_pixels_is_read(lrs, own):
    (spectrum,) = surveys.read(set_rows(lrs, IVAR=0.0))
    assert spectrum.survey == "lamost_lrs"
    assert not spectrum.good.any()
    assert spectrum.snr == 0
    (spectrum,) = surveys.read(own((4000, "nan", 0), (4001, "nan", 0)))
    assert not spectrum.good.any()


def test_nan_is_masked_in_a_survey_and_an_error_in_a_file_of_the_user(lrs, own):
    """A survey's reader knows what NaN means there; nobody knows it of a generic file."""
    (spectrum,) = surveys.read(set_rows(lrs, FLUX=np.nan, IVAR=1.0))
    assert not spectrum.good.any()
    rows = [(4000, 1, 9), (4001, "nan", 9), (4002, 1, 9)]
    with pytest.raises(
        InputError, match=r"own\.csv: .*1 pixels with NaN flux.*the first is 1\. Set iv"
    ):
        surveys.read(own(*rows))
    rows[1] = (4001, "nan", 0)
    assert list(surveys.read(own(*rows))[0].good) == [True, False, True]


@pytest.mark.parametrize(
    ("rows", "match"),
    [
        (
            [(4002, 1, 1), (4001, 1, 1)],
            r"ascending wavelengths, found 4002\.0000 then 4001\.0000 Å",
        ),
        ([(4000, 1, 1), (4000, 1, 1)], r"ascending wavelengths.*Sort the pixels"),
        ([(4000, 1, 1), ("nan", 1, 1)], r"finite, positive wavelengths"),
        ([(-1, 1, 1), (4000, 1, 1)], r"finite, positive wavelengths, found -1"),
        ([(4000, 1, -1), (4001, 1, 1)], r"non-negative inverse variances, found 1 others"),
        ([(4000, 1, "inf"), (4001, 1, 1)], r"finite, non-negative inverse variances"),
        ([(4000, 1, 1)], r"a 1-D spectrum of two pixels or more, found shape \(1,\)"),
    ],
)
def test_the_rules_of_a_spectrum_reach_the_user(own, rows, match):
    with pytest.raises(InputError, match=rf"own\.csv: expected .*{match}"):
        surveys.read(own(*rows))


@pytest.mark.parametrize("resolution", ["0", "-2000", "nan"])
def test_a_resolution_that_is_none(own, resolution):
    path = own((4000, 1, 1), (4001, 1, 1), resolution=resolution)
    with pytest.raises(InputError, match=r"own\.csv: expected a positive resolution R"):
        surveys.read(path)


def test_a_width_of_zero(tmp_path):
    path = tmp_path / "own.csv"
    path.write_text(f"{HEAD}# FWHM = 0\nwavelength,flux,ivar\n4000,1,1\n4001,1,1\n")
    with pytest.raises(InputError, match=r"expected a positive resolution R.*R from inf"):
        surveys.read(path)


def test_errors_that_are_not_positive(tmp_path):
    path = tmp_path / "own.csv"
    path.write_text(f"{HEAD}# R = 2000\nwavelength,flux,error\n4000,1,0\n4001,1,nan\n4002,1,-1\n")
    with pytest.raises(
        InputError, match=r"expected positive errors, found 2 that are not.*NaN or inf"
    ):
        surveys.read(path)


@pytest.mark.parametrize("survey", ["lamost_lrs", "lamost_mrs", "weave", "generic"])
def test_a_label_table_without_its_columns(tmp_path, survey):
    path = tmp_path / "labels.csv"
    path.write_text("name,colour\nmu Leo,1.2\n")
    with pytest.raises(InputError, match=r"labels\.csv: expected columns .* found name, colour"):
        surveys.read_labels(path, survey)
    if survey == "lamost_lrs":
        path.write_text("obsid,teff,feh\n1,5000,0.0\n")
        with pytest.raises(InputError, match=r"found obsid, teff, feh\. Missing: logg\."):
            surveys.read_labels(path, survey)
    if survey == "generic":
        for header in ("file,colour", "name,teff"):
            path.write_text(f"{header}\na,1\n")
            with pytest.raises(
                InputError, match=r"star_id or file or spectrum_id, and labels by name"
            ):
                surveys.read_labels(path, survey)


def test_sentinels_and_impossible_values_of_labels_are_nan(tmp_path):
    path = tmp_path / "labels.fits"
    Table(
        {
            "obsid": [1, 2, 3, 4],
            "teff": [5000.0, -9999.0, -9999.99, 1e6],
            "logg": [4.5, -9998.0, np.nan, 99.0],
            "feh": [-0.5, -9999.0, 0.1, -20.0],
            "feh_err": [0.05, -9999.0, 0.0, 0.1],
            "rv": [-30.0, -9999.0, 5.0, 0.0],
        }
    ).write(path)
    table = surveys.read_labels(path, "lamost_lrs")
    nan = np.nan
    np.testing.assert_array_equal(table.labels["teff"], [5000, nan, nan, nan])
    np.testing.assert_array_equal(table.labels["logg"], [4.5, nan, nan, nan])
    np.testing.assert_array_equal(table.labels["fe_h"], [-0.5, nan, 0.1, nan])
    sigma = table.labels.sigma[:, table.labels.index(["fe_h"])[0]]
    np.testing.assert_array_equal(sigma, [0.05, nan, nan, 0.1])
    np.testing.assert_array_equal(table.rv, [-30, nan, 5, 0])


def test_an_error_survives_the_way_back_from_a_worker(own):
    """Batch jobs read in other processes, and list what these could not."""
    with pytest.raises(InputError) as error:
        surveys.read(own((4002, 1, 1), (4001, 1, 1)))
    copy = pickle.loads(pickle.dumps(error.value))
    assert str(copy) == str(error.value)
    assert copy.where.endswith("own.csv")
