"""What cannot be validated is named, with what was expected and found."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.table import Table

from spectrolabe.catalogue import read_catalogue
from spectrolabe.errors import InputError
from spectrolabe.validation.catalogue_rows import read_rows
from spectrolabe.validation.validate import validate
from tests.validation.made_up import catalogue, true_labels, truth_table, write

STARS = [f"s{i}" for i in range(30)]


@pytest.fixture
def path(tmp_path):
    return write(catalogue(true_labels(30), "galah", STARS), tmp_path / "galah.parquet")


def refused(match, *arguments, **options):
    with pytest.raises(InputError, match=match) as error:
        validate(*arguments, **options)
    return error.value


def test_no_catalogue(tmp_path):
    Table({"teff": [5000.0], "star_id": ["a"]}).write(tmp_path / "x.csv")
    error = refused("a Spectrolabe catalogue", [tmp_path / "x.csv"], tmp_path / "p.html")
    assert error.where == str(tmp_path / "x.csv")
    assert "star_id" in error.found
    refused("nothing.parquet: expected a file", ["nothing.parquet"], tmp_path / "p.html")
    assert not (tmp_path / "p.html").exists()


def test_a_catalogue_without_labels(path, tmp_path):
    table = read_catalogue(path)
    keep = [n for n in table.colnames if n in ("star_id", "spectrum_id", "survey", "file", "snr")]
    bare = write(table[[*keep, "result_flags", "flag_bad"]], tmp_path / "bare.parquet")
    error = refused("at least one label", [bare], tmp_path / "p.html")
    assert error.where == str(bare)
    other = write(table[["teff", "e_teff", "star_id"]], tmp_path / "other.fits")
    assert (
        "no spectrum_id, survey" in refused("columns star_id", [other], tmp_path / "p.html").found
    )
    refused("at least one row", [write(table[:0], tmp_path / "no.parquet")], tmp_path / "p.html")


def test_a_spectrum_in_two_catalogues(path, tmp_path):
    again = write(read_catalogue(path)[5:7], tmp_path / "again.fits")
    error = refused("other spectra than those of", [path, again], tmp_path / "p.html")
    assert error.where == str(again)
    assert error.found == "galah-5 of galah in both"


def test_a_truth_that_does_not_fit(path, tmp_path):
    truth, page = tmp_path / "truth.csv", tmp_path / "p.html"

    def written(table):
        table.write(truth, overwrite=True)
        return truth

    good = truth_table(true_labels(30), STARS)
    no_key = written(good["teff", "logg"])
    assert "teff, logg" in refused("star_id or spectrum_id", [path], page, truth=no_key).found
    no_label = written(Table({"star_id": STARS, "mass": np.ones(30)}))
    error = refused("at least one label of the catalogue", [path], page, truth=no_label)
    assert "teff" in error.expected
    assert "mass" in error.found
    others = written(truth_table(true_labels(30), [f"x{i}" for i in range(30)]))
    error = refused("no shared id", [path], page, truth=others)
    assert error.where == str(truth)
    assert "such as s0" in error.expected
    assert "such as x0" in error.found
    words = Table({"star_id": STARS, "teff": ["hot"] * 30})
    refused("column teff: expected numbers", [path], page, truth=written(words))
    twice = truth_table(true_labels(30), ["s0", *STARS[:-1]])
    refused("expected one teff for each id, found .* of s0", [path], page, truth=written(twice))
    merged = read_catalogue(path)
    merged["spectrum_id"] = merged["spectrum_id"].astype("U40")
    merged["spectrum_id"][3] = "galah-3;galah-4"
    several = write(merged, tmp_path / "merged.parquet")
    good["spectrum_id"] = [f"galah-{i}" for i in range(30)]
    error = refused("spectra of one star", [several], page, truth=written(good))
    assert "s3 and s4" in error.found


def test_groups_that_do_not_fit(path, tmp_path):
    table, page = tmp_path / "groups.csv", tmp_path / "p.html"
    Table({"star_id": ["a", "b"], "cluster": ["M67", "M67"]}).write(table)
    error = refused("a cluster with two stars in the catalogue", [path], page, clusters=table)
    assert error.found == "none of 2 ids, such as a"
    error = refused("star_id_1 and star_id_2", [path], page, binaries=table)
    assert error.where == str(table)
    Table({"one": ["s0"], "two": ["b"]}).write(table, overwrite=True)
    refused("star_id and cluster or cluster_id or group", [path], page, clusters=table)
    refused("pairs of which both stars are in the catalogue", [path], page, binaries=table)


def test_names_of_what_is_written_and_where_spectra_are(path, tmp_path):
    refused("ends in .html, found '.pdf'", [path], tmp_path / "p.pdf")
    refused("a folder of spectra", [path], tmp_path / "p.html", spectra=[tmp_path / "none"])


def test_rows_of_one_star_are_found_by_name_and_place(tmp_path):
    """A chain of rows each near the next; a name that two rows share; and nothing known."""
    second = 1.0 / 3600.0
    dec = np.array(
        [10.0, 10.0 + 0.8 * second, 10.0 + 1.6 * second, 10.0 + 3.0 * second, 80.0, 80.0]
    )
    ra = np.array([359.9999, 359.9999, 359.9999, 359.9999, 20.0, 20.0 + 4.0 * second])
    names = ["a", "b", "c", "d", "e", "f"]
    table = catalogue(true_labels(6), "galah", names, ra=ra, dec=dec)
    rows = read_rows([write(table, tmp_path / "x.parquet")])
    # 4 arcsec in right ascension are 0.7 arcsec at this declination
    assert rows.star.tolist() == [0, 0, 0, 1, 2, 2]
    unplaced = catalogue(true_labels(4), "galah", ["a", "b", "a", "c"])
    rows = read_rows([write(unplaced, tmp_path / "y.parquet")])
    assert rows.star[0] == rows.star[2]
    assert rows.stars == 3
    joined = rows.united(np.array(["", "one", "", "one"]))
    assert joined.stars == 2


def test_the_command(path, invoke, tmp_path):
    truth_table(true_labels(30), STARS).write(tmp_path / "truth.csv")
    page = tmp_path / "out" / "report.html"
    code, out, _ = invoke("validate", path, "--truth", tmp_path / "truth.csv", "--output", page)
    assert code == 0
    # values are exact: bias, outliers and the 95 per cent of so few pass; widths and 68 do not
    assert "30 rows of 30 stars: 12 numbers pass, 0 warn, 8 fail, 0 are of too few stars" in out
    assert str(page) in out
    assert page.exists()
    assert page.with_suffix(".json").exists()
    code, _, err = invoke("validate", path, "--truth", path.parent / "no.csv", "--output", page)
    assert code == 1
    assert "no.csv" in err
