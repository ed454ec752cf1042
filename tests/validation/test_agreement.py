"""Which rows make a pair, and which do not."""

from __future__ import annotations

import numpy as np
from astropy.table import vstack

from spectrolabe.catalogue.schema import ResultFlag
from spectrolabe.validation.agreement import binaries, repeats, survey_pairs
from spectrolabe.validation.catalogue_rows import read_rows
from tests.validation.made_up import catalogue, true_labels, write


def _rows(tmp_path, star_id, survey="galah", bad=(), **columns):
    flags = np.zeros(len(star_id), dtype=int)
    flags[list(bad)] = ResultFlag.POOR_FIT
    table = catalogue(true_labels(len(star_id)), survey, star_id, flags=flags, **columns)
    return table, lambda t=table: read_rows([write(t, tmp_path / "x.parquet")])


def test_repeats_are_disjoint_pairs_of_good_rows(tmp_path):
    star_id = ["a", "b", "a", "a", "b", "c", "a", "a"]
    _, read = _rows(tmp_path, star_id, bad=[2])
    # of a: 0 and 3, 6 and 7; the bad row 2 is none of them
    assert sorted(map(tuple, repeats(read()).tolist())) == [(0, 3), (1, 4), (6, 7)]


def test_rows_with_a_spectrum_in_common_are_no_repeats(tmp_path):
    _, read = _rows(tmp_path, ["a"] * 3, spectrum_id=["one;two", "two;three", "four"])
    assert repeats(read()).tolist() == [[1, 2]]


def test_rows_of_two_surveys_or_two_catalogues_are_no_repeats(tmp_path):
    one, _ = _rows(tmp_path, ["a", "b"])
    other, read = _rows(tmp_path, ["a", "b"], "apogee")
    assert len(repeats(read(vstack([one, other])))) == 0
    again = catalogue(true_labels(1), "galah", ["a"], spectrum_id=["later"])
    paths = [write(one, tmp_path / "1.fits"), write(again, tmp_path / "2.fits")]
    rows = read_rows(paths)
    assert rows.stars == 2
    assert len(repeats(rows)) == 0


def test_the_row_of_highest_signal_stands_for_a_star(tmp_path):
    snr = np.array([10.0, 50.0, 90.0, 20.0])
    one, _ = _rows(tmp_path, ["a", "a", "a", "b"], bad=[2], snr=snr)
    other, read = _rows(tmp_path, ["b", "a"], "apogee")
    rows = read(vstack([one, other]))
    (pairs,) = survey_pairs(rows).values()
    assert pairs.tolist() == [[1, 5], [3, 4]]
    # of both surveys together: 80 is above 50 and 20
    assert binaries(rows, rows.star[[0, 3]].reshape(1, 2)).tolist() == [[5, 4]]
