"""Files that ask for more than they are, lead out of their folder, or talk to a terminal."""

from __future__ import annotations

import gzip
import io
import json
import os
import time
import zipfile
import zlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.table import Table

from spectrolabe import surveys
from spectrolabe.config import load_config
from spectrolabe.errors import InputError
from spectrolabe.guard import blaming, inside, read_json, unpacked, unpacked_limit
from spectrolabe.guard.limits import ALWAYS, LIMIT_VARIABLE, MOST, RATIO
from spectrolabe.homogenise.tables import StarTable
from spectrolabe.spectra import Frame, Spectrum
from spectrolabe.spectra.store import open_store
from spectrolabe.surveys.files import read_table
from spectrolabe.surveys.reading import expand
from spectrolabe.synthesis.imports import _npz
from tests.fuzz.originals import stores

BLOCK = 2880


def header(*cards: tuple[str, object]) -> bytes:
    text = "".join(f"{key:<8}= {value!s:>20}".ljust(80) for key, value in cards) + "END".ljust(80)
    return text.ljust(-(-len(text) // BLOCK) * BLOCK).encode()


def quickly(call, *arguments, match):
    """The error comes at once: nothing was made of the size that is claimed."""
    begin = time.monotonic()
    with pytest.raises(InputError, match=match):
        call(*arguments)
    assert time.monotonic() - begin < 2.0


# what is packed


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setenv(LIMIT_VARIABLE, "1M")


def test_the_limit_grows_with_the_file_and_has_an_end():
    assert unpacked_limit(10) == ALWAYS == 256 * 2**20
    assert unpacked_limit(2**25) == RATIO * 2**25
    assert unpacked_limit(2**40) == MOST


@pytest.mark.parametrize(("text", "size"), [("20G", 20 << 30), ("512m", 512 << 20), ("7", 7)])
def test_the_limit_can_be_set(monkeypatch, text, size):
    monkeypatch.setenv(LIMIT_VARIABLE, text)
    assert unpacked_limit(10) == unpacked_limit(2**40) == size


def test_a_limit_that_is_no_size(monkeypatch):
    monkeypatch.setenv(LIMIT_VARIABLE, "much")
    with pytest.raises(InputError, match=r"UNPACKED_LIMIT: expected a size such as 20G"):
        unpacked_limit(10)


def test_a_gzip_bomb(tmp_path, small):
    path = tmp_path / "bomb.fits.gz"
    path.write_bytes(gzip.compress(bytes(50 << 20)))
    quickly(surveys.read, path, match=r"bomb\.fits\.gz: .*no more than 1048576 bytes.*20G")


@pytest.mark.parametrize("content", [b"", b"x", bytes(range(256)) * 9000, bytes(3 << 20)])
def test_gzip_is_unpacked_as_python_does(tmp_path, content):
    for packed in (
        gzip.compress(content),
        gzip.compress(content) + gzip.compress(b"more"),
        gzip.compress(content) + bytes(900),
    ):
        path = tmp_path / "a.gz"
        path.write_bytes(packed)
        assert unpacked(path) == gzip.decompress(packed)


def test_gzip_that_is_damaged(tmp_path):
    path, packed = tmp_path / "a.gz", gzip.compress(bytes(range(256)) * 99)
    wrong = packed[:-5] + bytes([packed[-5] ^ 1]) + packed[-4:]  # of the checksum or the length
    for content in (packed[:-1], packed[: len(packed) // 2], packed[:3], wrong, packed + b"junk"):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"a\.gz: expected a whole gzip file.*Download"):
            unpacked(path)
        with pytest.raises((EOFError, OSError, zlib.error)):
            gzip.decompress(content)


@pytest.mark.parametrize(("content", "packing"), [(b"BZh91AY&SY", "bzip2"), (b"PK\3\4", "zip")])
def test_other_packings_are_named(tmp_path, content, packing):
    path = tmp_path / "a.csv"
    path.write_bytes(content + b"x" * 99)
    with pytest.raises(InputError, match=f"a file packed by {packing}. Unpack it"):
        read_table(path)


def test_a_zip_of_arrays_that_grows(tmp_path, small):
    path = tmp_path / "star.npz"
    names = ("wavelength", "flux", "continuum", "labels", "label_names")
    np.savez_compressed(path, **dict.fromkeys(names, np.zeros(300_000)))
    with zipfile.ZipFile(path) as file:
        assert file.infolist()[0].file_size > 2 << 20
    quickly(_npz, path, names, match=r"star\.npz: .*no more than 1048576 bytes")


def test_a_parquet_table_that_grows(tmp_path, small):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"teff": np.zeros(1_000_000)}), path)
    assert path.stat().st_size < 200_000
    quickly(read_table, path, match=r"a\.parquet: .*asks for 8000000")
    word = pa.array(["x" * 100_000] * 500)
    pq.write_table(pa.table({"star": word}), path)
    assert path.stat().st_size < 200_000
    quickly(read_table, path, match=r"a\.parquet: .*no more than 1048576")


def test_a_compressed_image_that_grows(tmp_path):
    path = tmp_path / "a.fits"
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(np.zeros((50, 50), "i2"))]).writeto(path)
    content = path.read_bytes()
    for key in (b"ZNAXIS1 ", b"ZNAXIS2 "):
        card = content.index(key)
        content = content[: card + 10] + b"100000".rjust(20) + content[card + 30 :]
    path.write_bytes(content)
    quickly(surveys.read, path, match=r"a\.fits, HDU 1: .*asks for 160000000000")


# FITS


@pytest.mark.parametrize(
    ("cards", "match"),
    [
        ([("NAXIS", 2), ("NAXIS1", 10**12), ("NAXIS2", 1)], "1000000000000 bytes of data in HDU 0"),
        ([("NAXIS", 2), ("NAXIS1", 10**30), ("NAXIS2", 10**30)], "bytes of data in HDU 0"),
        ([("NAXIS", 10**9)], "at most 999 axes"),
        ([("NAXIS", "1.0E9")], "at most 999 axes"),
        ([("NAXIS", 0), ("NAXIS", 10**9)], "one size in NAXIS, found 0 and 1000000000"),
        ([("NAXIS", 1), ("NAXIS1", -5)], "sizes of 0 or more"),
        ([("NAXIS", 0), ("TFIELDS", 10**9)], "999 columns"),
        ([("NAXIS", 2), ("NAXIS1", 0), ("NAXIS2", 10**12), ("TFIELDS", 1)], "rows of 1 byte"),
        ([("NAXIS", 1), ("NAXIS1", 0), ("PCOUNT", 10**12)], "bytes of data"),
    ],
)
def test_a_header_that_claims_what_is_not_there(tmp_path, cards, match):
    path = tmp_path / "claims.fits"
    content = header(("SIMPLE", "T"), ("BITPIX", 8), *cards)
    path.write_bytes(content)
    quickly(surveys.read, path, match=rf"claims\.fits.*{match}")
    path.write_bytes(gzip.compress(content))
    quickly(surveys.read, path, match=rf"claims\.fits.*{match}")


def test_a_header_without_an_end_and_too_many_hdus(tmp_path):
    path = tmp_path / "long.fits"
    path.write_bytes(header(("SIMPLE", "T"))[:80] + b"COMMENT x".ljust(80) * 60_000)
    quickly(surveys.read, path, match=r"long\.fits: expected headers of at most")
    one = header(("XTENSION", "'IMAGE   '"), ("BITPIX", 8), ("NAXIS", 0))
    path.write_bytes(header(("SIMPLE", "T"), ("BITPIX", 8), ("NAXIS", 0)) + one * 2100)
    quickly(surveys.read, path, match=r"long\.fits: expected at most 2000 HDUs")


def test_what_every_survey_writes_is_within_the_limits(tmp_path):
    """The sizes that are counted here are those that astropy counts."""
    from spectrolabe.guard.fits import check_fits
    from tests.surveys.writers import spectrum_writers

    for name, write in spectrum_writers().items():
        folder = tmp_path / name
        folder.mkdir()
        path = write(folder, np.random.default_rng(0)).path
        content = path.read_bytes()
        if content.startswith(b"\x1f\x8b"):
            content = gzip.decompress(content)
        if content.startswith(b"SIMPLE"):
            check_fits(path, io.BytesIO(content), len(content))
            with fits.open(io.BytesIO(content), lazy_load_hdus=False) as hdus:
                ends = [one.fileinfo()["datLoc"] + one.size for one in hdus if one.size]
            if ends:
                check_fits(path, io.BytesIO(content[: ends[-1]]), ends[-1])
                with pytest.raises(InputError, match="truncated"):
                    check_fits(path, io.BytesIO(content[: ends[-1] - 1]), ends[-1] - 1)


# other tables


def votable(stream: str = "", *, attributes: str = "", arraysize: str = "1", head: str = "") -> str:
    return (
        f'<?xml version="1.0"?>{head}<VOTABLE version="1.4"><RESOURCE><TABLE {attributes}>'
        f'<FIELD name="flux" datatype="double" arraysize="{arraysize}"/>'
        f"<DATA>{stream or '<TABLEDATA><TR><TD>1</TD></TR></TABLEDATA>'}</DATA>"
        "</TABLE></RESOURCE></VOTABLE>"
    )


@pytest.mark.parametrize(
    "link",
    [
        "href='file:///etc/hostname'",
        "encoding='base64' href='http://127.0.0.1:9/x'",
        "encoding='>' href='ftp://127.0.0.1:9/x'",
    ],
)
@pytest.mark.parametrize("kind", ["BINARY", "BINARY2", "FITS"])
def test_a_votable_never_leads_elsewhere(tmp_path, monkeypatch, link, kind):
    def opened(*_: object) -> None:
        raise AssertionError("the address was opened")

    monkeypatch.setattr("urllib.request.urlopen", opened)
    path = tmp_path / "a.vot"
    path.write_text(votable(f"<{kind}><STREAM {link}/></{kind}>"))
    with pytest.raises(InputError, match=r"a\.vot: expected a VOTable that holds its own data"):
        read_table(path)


def test_a_votable_that_claims_or_multiplies(tmp_path):
    path = tmp_path / "a.vot"
    path.write_text(votable(attributes='nrows="9999999999"'))
    quickly(read_table, path, match=r"a\.vot: .*SPECTROLABE_UNPACKED_LIMIT")
    path.write_text(votable(arraysize="99999999x*"))
    quickly(read_table, path, match=r"a\.vot: .*SPECTROLABE_UNPACKED_LIMIT")
    path.write_text(votable(head='<!DOCTYPE x [<!ENTITY a "b"><!ENTITY c "&a;&a;">]>'))
    quickly(read_table, path, match=r"a\.vot: expected a VOTable without entities")
    path.write_text(votable(attributes='nrows="1"'))
    assert read_table(path)["flux"][0] == 1


def test_one_long_word_among_many_short_rows(tmp_path):
    path = tmp_path / "a.csv"
    rows = "\n".join(["s,1"] * 20_000)
    path.write_text(f"star_id,teff\n{rows}\n{'x' * 200_000},2\n")
    quickly(read_table, path, match=r"a\.csv: .*asks for 16")
    path.write_text(f'star_id,teff\n{rows}\n"{"x" * 9 + chr(10) + "y" * 9 * 20_000}",2\n')
    quickly(read_table, path, match=r"a\.csv: .*asks for 14")


def test_tables_with_too_many_columns(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(",".join(f"c{i}" for i in range(20_000)) + "\n")
    quickly(read_table, path, match=r"a\.csv: expected at most 10000 columns, found 20000")
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({f"c{i}": [1] for i in range(10_001)}), path)
    with pytest.raises(InputError, match=r"a\.parquet: expected at most 10000 columns"):
        read_table(path)


def test_metadata_that_is_endless_when_written_out(tmp_path):
    """Ten names for ten names for ... : small in YAML, and 10^9 words as text."""
    table = Table({"wavelength": [4000.0, 4001.0], "flux": [1.0, 1.0], "ivar": [1.0, 1.0]})
    table.meta.update({"MEDIUM": "vacuum", "FRAME": "rest", "RV": 0, "R": 9, "WAVEUNIT": "nm"})
    path = tmp_path / "a.ecsv"
    table.write(path, format="ascii.ecsv")
    levels = ["# - &a0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"# - &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    text = path.read_text().replace(
        "# meta: !!omap", "\n".join(["# extra:", *levels, "# meta: !!omap"])
    )
    path.write_text(text.replace("{WAVEUNIT: nm}", "{WAVEUNIT: *a9}"))
    assert "*a9" in path.read_text()
    quickly(surveys.read, path, match=r"a\.ecsv, WAVEUNIT: expected text or a number, found a list")


def test_names_have_a_length(tmp_path):
    path = tmp_path / "a.csv"
    head = "# MEDIUM = vacuum\n# FRAME = rest\n# RV = 0\n# R = 9\n# WAVEUNIT = nm\n"
    path.write_text(f"{head}# STAR_ID = {'s' * 1001}\nwavelength,flux,ivar\n400,1,1\n401,1,1\n")
    with pytest.raises(InputError, match=r"a\.csv: expected a name of a star of at most 1000"):
        surveys.read(path)
    path.write_text(path.read_text().replace("s" * 1001, "s" * 1000))
    assert surveys.read(path)[0].star_id == "s" * 1000


# text and JSON


def test_text_that_is_too_deep_or_too_large(tmp_path, monkeypatch):
    path = tmp_path / "card.json"
    path.write_text("[" * 100_000)
    quickly(read_json, path, "a card", match=r"card\.json: expected a card, found maximum rec")
    path.write_text("[1]")
    quickly(
        read_json, path, "a card", match=r"card\.json: expected a card, found JSON of type list"
    )
    monkeypatch.setattr("spectrolabe.guard.text.LARGEST", 2)
    quickly(read_json, path, "a card", match=r"card\.json: expected a card of at most 2 bytes")


@pytest.mark.parametrize("text", ["a = " + "[" * 5000, "a = " + "9" * 5000])
def test_a_configuration_that_is_too_deep(tmp_path, text):
    path = tmp_path / "a.toml"
    path.write_text(text)
    quickly(load_config, path, match=r"a\.toml: expected a TOML file")


# stores


def store_of(tmp_path):
    for name, content in stores()["store"].items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    return tmp_path / "store"


def rewritten(shard, change, **options) -> None:
    table = pa.ipc.open_stream(shard.read_bytes()).read_all()
    with pa.ipc.new_stream(shard, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as out:
        out.write_table(change(table))


def test_shards_are_never_packed(tmp_path):
    path = store_of(tmp_path)
    rewritten(path / "shard-00000.arrow", lambda table: table)
    assert len(open_store(path)) == 4
    for packing in ("zstd", "lz4"):
        rewritten(path / "shard-00000.arrow", lambda table: table, compression=packing)
        quickly(open_store, path, match=r"shard-00000\.arrow: expected a plain shard, found a comp")


@pytest.mark.parametrize("name", ["wavelength", "star_id"])
def test_offsets_of_a_shard_stay_inside(tmp_path, name):
    """They would be followed to memory that belongs to something else."""
    path = store_of(tmp_path)

    def change(table: pa.Table) -> pa.Table:
        at = table.schema.get_field_index(name)
        column = table.column(at).chunk(0)
        buffers = column.buffers()
        offsets = np.frombuffer(buffers[1], np.int32).copy()
        offsets[1] = 2**30
        valid, _, *rest = buffers
        forged = pa.py_buffer(offsets.tobytes())
        if name == "star_id":
            array = pa.Array.from_buffers(column.type, len(column), [valid, forged, *rest])
        else:
            array = pa.Array.from_buffers(
                column.type, len(column), [valid, forged], children=[column.values]
            )
        return table.set_column(at, table.schema.field(at), array)

    rewritten(path / "shard-00000.arrow", change)
    with pytest.raises(InputError, match=r"shard-00000\.arrow: expected a whole shard"):
        open_store(path)


def test_names_of_a_store_have_a_length(tmp_path):
    path = store_of(tmp_path)

    def change(table: pa.Table) -> pa.Table:
        at = table.schema.get_field_index("star_id")
        return table.set_column(at, "star_id", pa.array(["x" * 1001] * len(table)))

    rewritten(path / "shard-00000.arrow", change)
    with pytest.raises(InputError, match=r"a star_id of at most 1000 characters, found 1001"):
        open_store(path)


# paths, messages and others


@pytest.mark.parametrize("name", ["../x", "/etc", "a/../../x", "\0"])
def test_names_from_files_stay_inside(tmp_path, name):
    (tmp_path / "in").mkdir()
    with pytest.raises(InputError, match=r"card: expected a name inside .*in, found"):
        inside(tmp_path / "in", name, "card")


def test_names_inside_are_taken_but_not_links_out(tmp_path):
    (tmp_path / "in").mkdir()
    assert inside(tmp_path / "in", "a/b", "card") == tmp_path / "in" / "a" / "b"
    (tmp_path / "in" / "link").symlink_to(tmp_path)
    with pytest.raises(InputError, match="inside"):
        inside(tmp_path / "in", "link", "card")


def test_a_collection_of_hats_stays_inside(tmp_path):
    table = pa.table({"star_id": ["a"], "teff": [5000.0]})
    for name in ("collection", "elsewhere"):
        (tmp_path / name).mkdir()
        pq.write_table(table, tmp_path / name / "a.parquet")
    properties = tmp_path / "collection" / "collection.properties"
    properties.write_text("hats_primary_table_url=../elsewhere\n")
    with pytest.raises(InputError, match=r"collection\.properties: expected a name inside"):
        StarTable(tmp_path / "collection")


def test_links_that_go_round_are_followed_once(tmp_path):
    for name in "abc":
        (tmp_path / name).mkdir()
        (tmp_path / name / "spectrum.fits").write_bytes(b"x")
        for other in "abc":
            (tmp_path / name / f"to-{other}").symlink_to(tmp_path / other)
    begin = time.monotonic()
    found = expand(tmp_path)
    assert time.monotonic() - begin < 2.0
    assert sorted(one.name for one in found) == [f"{name}/spectrum.fits" for name in "abc"]


def test_a_message_cannot_move_the_cursor():
    error = InputError("a.csv", expected="text", found="\x1b[2J\x07 and \u202e")
    assert "\x1b" not in str(error)
    assert "\\x1b[2J\\x07 and \\u202e" in str(error)
    assert "Å é 星" in str(InputError("a", expected="Å é 星", found="b"))


def test_any_failure_names_the_file_and_keeps_its_cause():
    says = r"a\.fits: expected a star, found ZeroDivisionError"
    with pytest.raises(InputError, match=says) as caught, blaming("/data/a.fits", "a star"):
        raise ZeroDivisionError
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    says = r"^/data/a\.fits, labels: expected one, found two\. Fix"
    with pytest.raises(InputError, match=says), blaming("/data/a.fits", "a star"):
        raise InputError("labels", expected="one", found="two", fix="Fix it.")
    own = InputError("/data/a.fits", expected="one", found="two")
    with pytest.raises(InputError) as caught, blaming("/data/a.fits", "a star"):
        raise own
    assert caught.value is own
    with pytest.raises(KeyboardInterrupt), blaming("/data/a.fits", "a star"):
        raise KeyboardInterrupt


@pytest.mark.parametrize("rv", [np.inf, -np.inf, 3e5, -1e30])
def test_nothing_is_faster_than_light(rv):
    with pytest.raises(InputError, match="a velocity in km/s slower than light"):
        Spectrum([4000.0, 4001.0], [1, 1], [1, 1], 2000.0, Frame.REST, rv)


def test_a_header_of_ten_gigabytes(tmp_path):
    from spectrolabe.homogenise.correction_files import load_correction

    path = tmp_path / "a.correction"
    path.write_bytes((10 << 30).to_bytes(8, "little") + json.dumps({}).encode() + bytes(99))
    quickly(load_correction, path, match=r"a\.correction: expected a correction written by")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path):
    path = tmp_path / "a.fits"
    path.write_bytes(b"SIMPLE")
    path.chmod(0)
    with pytest.raises(InputError, match=r"a\.fits: .*PermissionError"):
        surveys.read(path)
