"""Opening files: what is read straight from the bytes equals what astropy makes of them."""

from __future__ import annotations

import gzip

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.table import Table

from spectrolabe.errors import InputError
from spectrolabe.surveys.files import column_numbers, column_text, opened, read_table


def plain_columns(rng):
    return [
        fits.Column("Flux", "7E", array=rng.normal(size=(3, 7)).astype("f4")),
        fits.Column("wave", "7D", array=rng.normal(size=(3, 7))),
        fits.Column("ID", "K", array=rng.integers(-(2**60), 2**60, 3)),
        fits.Column("mask", "J", array=rng.integers(-99, 99, 3).astype("i4")),
        fits.Column("short", "2I", array=rng.integers(-99, 99, (3, 2)).astype("i2")),
        fits.Column("byte", "B", array=rng.integers(0, 255, 3).astype("u1")),
    ]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    "extra",
    [
        [],
        [fits.Column("name", "8A", array=["mu Leo", "Procyon", "Arcturus"])],
        [fits.Column("ormask", "J", bzero=2**31, array=np.array([1, 2**31, 7], dtype="u4"))],
        [fits.Column("grid", "6E", dim="(3,2)", array=np.arange(18.0).reshape(3, 2, 3))],
        [fits.Column("good", "L", array=[True, False, True])],
    ],
    ids=["plain", "text", "unsigned", "matrix", "logical"],
)
def test_columns_equal_those_of_astropy(tmp_path, extra, packed):
    columns = plain_columns(np.random.default_rng(1)) + extra
    path = tmp_path / "table.fits"
    table = fits.BinTableHDU.from_columns(columns, name="Star")
    fits.HDUList([fits.PrimaryHDU(np.arange(5.0)), table]).writeto(path)
    if packed:
        path.write_bytes(gzip.compress(path.read_bytes()))
    with opened(path) as file, fits.open(path) as hdus:
        arrays = file.arrays("STAR")
        assert list(arrays) == [column.name.upper() for column in columns]
        assert file.columns("star") == file.columns(1) == [column.name for column in columns]
        for column in columns:
            np.testing.assert_array_equal(arrays[column.name.upper()], hdus[1].data[column.name])
        assert file.columns("nothing") == file.columns(0) == file.columns(7) == []
        with pytest.raises(KeyError, match="nothing"):
            file.arrays("nothing")


def test_a_file_that_ends_anywhere_is_an_error(tmp_path):
    """Also where the cut leaves a valid, shorter FITS file but for a torn header."""
    path = tmp_path / "whole.fits"
    tables = [
        fits.BinTableHDU.from_columns(plain_columns(np.random.default_rng(i))) for i in (1, 2)
    ]
    fits.HDUList([fits.PrimaryHDU(), *tables]).writeto(path)
    content = path.read_bytes()
    whole_hdus = (2880, 3 * 2880)  # nothing tells that another HDU should have followed
    for size in sorted({*range(80, len(content), 700), len(content) - 1} - {*whole_hdus}):
        for packed in (False, True):
            broken = tmp_path / "broken.fits"
            broken.write_bytes(gzip.compress(content[:size]) if packed else content[:size])
            with pytest.raises(InputError, match=r"broken\.fits: .*truncated"), opened(broken):
                pass


def test_comment_lines_of_a_csv_are_its_keywords(tmp_path):
    path = tmp_path / "star.csv"
    path.write_text(
        "# written by hand\n# MEDIUM = air \n#FRAME=rest\n# RV = -12.5\n\n"
        "wavelength,flux\n1,2\n3,4\n"
    )
    table = read_table(path)
    assert table.meta == {"MEDIUM": "air", "FRAME": "rest", "RV": "-12.5"}
    assert table.colnames == ["wavelength", "flux"]
    assert list(table["flux"]) == [2, 4]


@pytest.mark.parametrize("suffix", ["ecsv", "parquet", "xml", "fits", "csv"])
def test_tables_of_every_format(tmp_path, suffix):
    table = Table({"teff": [5777.0, 4500.0], "file": ["a.fits", "b.fits"]})
    path = tmp_path / f"labels.{suffix}"
    if suffix == "parquet":
        arrow = pa.table({name: table[name].tolist() for name in table.colnames})
        pq.write_table(arrow.replace_schema_metadata({"MEDIUM": "air"}), path)
    else:
        names = {"ecsv": "ascii.ecsv", "xml": "votable", "csv": "ascii.csv", "fits": "fits"}
        table.write(path, format=names[suffix])
    for name in (path, tmp_path / "without_suffix"):
        name.write_bytes(path.read_bytes())
        got = read_table(name)
        assert list(got["teff"]) == [5777.0, 4500.0]
        assert [str(value) for value in got["file"]] == ["a.fits", "b.fits"]
    if suffix == "parquet":
        assert got.meta["MEDIUM"] == "air"


def test_a_column_has_one_value_a_row():
    table = Table({"a": [1.0, 2.0], "one": [[1.0], [2.0]], "two": [[1.0, 2.0], [3.0, 4.0]]})
    np.testing.assert_array_equal(column_numbers(table, "one"), column_numbers(table, "a"))
    for read_column in (column_numbers, column_text):
        with pytest.raises(InputError, match=r"column two: expected one value a row.*\(2, 2\)"):
            read_column(table, "two")
