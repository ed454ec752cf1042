"""The table of anchors: read, and refused with a reason."""

import numpy as np
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from astropy.table import Table

from spectrolabe.errors import InputError
from spectrolabe.homogenise.anchors import Anchors, read_anchors
from spectrolabe.labels import Labels

TABLE = """star_id,group,kind,teff,e_teff,fe_h,e_fe_h,remark
a,pair 1,binary,,,,,
b,pair 1,binary,,,,,
c,M67,cluster,,,0.03,0.02,
d,M67,cluster,,,,,
e,,reference,5777,20,0.0,0.01,the Sun
"""


def written(tmp_path, text=TABLE):
    path = tmp_path / "anchors.csv"
    path.write_text(text)
    return path


def test_a_table_is_read(tmp_path):
    anchors = read_anchors(written(tmp_path))
    assert anchors.counts == {"binary": 1, "cluster": 1, "reference": 1}
    assert anchors.star_id.tolist() == list("abcde")
    assert anchors.reference.names == ("teff", "fe_h")
    assert anchors.reference["fe_h"] == pytest.approx(
        [np.nan, np.nan, 0.03, np.nan, 0], nan_ok=True
    )
    assert anchors.reference.sigma[4] == pytest.approx([20.0, 0.01])
    assert anchors.group[2] == anchors.group[3] == "M67"


@pytest.mark.parametrize("ending", ["fits", "ecsv", "parquet"])
def test_formats_agree(tmp_path, ending):
    expected = read_anchors(written(tmp_path))
    path = tmp_path / f"anchors.{ending}"
    if ending == "parquet":  # astropy would write masks as columns of their own
        pq.write_table(pyarrow.csv.read_csv(tmp_path / "anchors.csv"), path)
    else:
        Table.read(tmp_path / "anchors.csv", format="ascii.csv").write(path)
    found = read_anchors(path)
    assert np.array_equal(found.star_id, expected.star_id)
    assert np.array_equal(found.group, expected.group)
    assert found.reference.values == pytest.approx(expected.reference.values, nan_ok=True)


def test_labels_are_not_needed_for_binaries_and_clusters(tmp_path):
    lines = [",".join(line.split(",")[:3]) for line in TABLE.splitlines()[:5]]
    anchors = read_anchors(written(tmp_path, "\n".join(lines) + "\n"))
    assert anchors.reference.names == ()
    assert len(anchors) == 4


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("star_id,group", "name,group", r"Missing: star_id"),
        ("b,pair 1", "b,pair 2", r"binary pair 1: expected two stars, found 1"),
        ("d,M67", "d,M76", r"cluster M67: expected two stars or more, found 1"),
        ("d,M67,cluster", "d,M67,cluste", r"'cluste'. Did you mean 'cluster'\?"),
        ("d,M67,cluster", "a,M67,cluster", r"expected each star once, found a 2 times"),
        ("5777,20,0.0,0.01", ",,,", r"reference star e: expected at least one label"),
        ("5777,20", "5777,", r"anchor e: expected an error e_teff > 0 of its teff, found nan"),
        ("5777,20", "5777,-1", r"anchor e: expected an error e_teff > 0"),
        ("5777,20", "-9999,20", r"anchor e: expected teff from 1500 to 60000 K, found -9999"),
        ("5777,20", "hot,20", r"column teff: expected numbers"),
        (",e_teff", ",error", r"a column e_teff with the errors of teff"),
        ("a,pair 1", "a,", r"anchor a: expected the name of its binary or cluster"),
        ("a,pair 1,binary,,,,,\nb,pair 1", "a,M67,binary,,,,,\nb,M67", r"group M67: expected one"),
    ],
)
def test_mistakes_are_named(tmp_path, old, new, message):
    assert TABLE.count(old) == 1
    with pytest.raises(InputError, match=message) as caught:
        read_anchors(written(tmp_path, TABLE.replace(old, new)))
    assert "anchors.csv" in str(caught.value)


def test_no_anchors():
    none = Labels((), np.empty((0, 0)), np.empty((0, 0)), np.array([], dtype=str))
    with pytest.raises(InputError, match="at least one star, found none"):
        Anchors(np.array([], dtype=str), np.array([], dtype=str), none)


def test_lengths_must_agree():
    one = Labels(("fe_h",), [[0.0]], [[0.1]], ["a"])
    with pytest.raises(InputError, match=r"anchors.group: expected shape \(1,\)"):
        Anchors(np.array(["", ""]), np.array(["reference"]), one)


def test_references_with_one_group_name_are_still_stars_of_their_own():
    labels = Labels(("fe_h",), [[0.0], [0.3]], [[0.1], [0.1]], ["a", "b"])
    anchors = Anchors(np.array(["Gaia", "Gaia"]), np.array(["reference"] * 2), labels)
    assert anchors.counts["reference"] == 2
    with pytest.raises(ValueError, match="read-only"):
        anchors.group[0] = "x"
