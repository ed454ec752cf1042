"""Spectra of a row of a catalogue are found by name, wherever their files are."""

from __future__ import annotations

import pytest

from spectrolabe.errors import InputError
from spectrolabe.surveys import read
from spectrolabe.surveys.finding import Files, spectra_of_row
from tests.inference.fitted import write_star
from tests.models.tiny_emulator import tiny_emulator


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two files of one name, and one of another."""
    root = tmp_path_factory.mktemp("finding")
    emulator = tiny_emulator(5000.0, 5170.0)
    for name in ("a/one.ecsv", "b/one.ecsv", "b/deep/two.ecsv"):
        write_star(root / name, emulator, emulator.mean, STAR_ID=name)
    return root


def test_the_file_of_the_same_folder_comes_first(folder):
    files = Files([folder])
    assert files.paths("a/one.ecsv") == [folder / "a/one.ecsv", folder / "b/one.ecsv"]
    assert files.paths("b/one.ecsv") == [folder / "b/one.ecsv", folder / "a/one.ecsv"]
    assert files.paths("elsewhere/two.ecsv") == [folder / "b/deep/two.ecsv"]
    assert files.paths("b/one.ecsv;two.ecsv")[-1] == folder / "b/deep/two.ecsv"


@pytest.mark.parametrize("name", ["", ";", "none.ecsv", "/etc/passwd", "../../etc/passwd", "deep"])
def test_nothing_outside_of_the_folders_is_found(folder, name):
    assert Files([folder]).paths(name) == []
    outside = f"{folder}/b/deep/two.ecsv"
    assert Files([folder / "a"]).paths(outside) == []


def test_the_name_of_the_spectrum_decides(folder):
    one, two = folder / "a/one.ecsv", folder / "b/deep/two.ecsv"
    found, reason = spectra_of_row([two, one, folder / "b/one.ecsv"], "one")
    assert reason == ""
    (spectrum,) = found  # of the first file that has it
    assert spectrum.flux.tolist() == read(one)[0].flux.tolist()
    assert [s.spectrum_id for s in spectra_of_row([one, two], "one;two")[0]] == ["one", "two"]
    assert spectra_of_row([two], "one") == ([], "its file holds another")
    assert spectra_of_row([], "one") == ([], "its file is not at hand")


def test_a_file_that_cannot_be_read_says_why(folder, tmp_path):
    broken = tmp_path / "one.ecsv"
    broken.write_text("nothing")
    found, reason = spectra_of_row([broken], "x")
    assert found == []
    with pytest.raises(InputError) as error:
        read(broken)
    assert reason == str(error.value)
