"""The catalogue: its schema and flags, its files as other readers see them, and its parts."""

from __future__ import annotations

import errno
import warnings

import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.table import Table

from spectrolabe.catalogue import (
    CatalogueWriter,
    LabelFlag,
    ResultFlag,
    build_catalogue,
    catalogue_columns,
    files,
    read_catalogue,
    write_catalogue,
)
from spectrolabe.catalogue.schema import BAD, IDENTITY, LABEL_FLAGS, RESULT_FLAGS
from spectrolabe.errors import InputError
from spectrolabe.models.posterior import LabelPosterior

NAMES = ("teff", "logg", "fe_h")
PROVENANCE = {
    "model": "encoder-1",
    "command": "predict 'a b' / 'c d' -- " + "input / ' " * 20,
    "note": "it's Fe & Ni, 100 % 'quoted' ''twice'' é " + "long " * 60,
    "labels": list(NAMES),
    "training": {"stars": 818, "snr": 30.5, "path": "a\\b"},
}
SUFFIXES = (".parquet", ".fits")


def posterior(stars, offset=0.0, first=0):
    rng = np.random.default_rng(stars)
    sigma = np.array([50.0, 0.1, 0.05])
    correlation = np.array([[1.0, 0.3, 0.5], [0.3, 1.0, 0.0], [0.5, 0.0, 1.0]])
    mean = rng.normal([5500, 3.5, -0.3], [500, 1.0, 0.3], (stars, 3)) + offset * sigma
    covariance = np.broadcast_to(correlation * np.outer(sigma, sigma), (stars, 3, 3))
    return LabelPosterior(NAMES, mean, covariance, [f"star{first + i}" for i in range(stars)])


def identity(stars, first=0):
    return {
        "spectrum_id": [f"sp{first + i}" for i in range(stars)],
        "survey": ["lamost_lrs"] * stars,
        "file": [f"night/spec-{first + i}.fits.gz" for i in range(stars)],
        "n_spectra": np.ones(stars, dtype=int),
        "snr": np.linspace(20, 90, stars),
        "rv": np.linspace(-50, 50, stars),
    }


def build(stars=4, first=0, result=0, label=0, **more):
    one = posterior(stars, first=first)
    return build_catalogue(
        one,
        posterior(stars, offset=0.5, first=first),
        {**identity(stars, first), **more},
        np.full(stars, result),
        np.full((stars, 3), label),
    )


# schema


def test_columns_have_the_names_of_astra_and_the_values_of_the_posteriors():
    table = build()
    raw, calibrated = posterior(4), posterior(4, offset=0.5)
    assert table.colnames[:7] == [
        "star_id", "spectrum_id", "survey", "file", "n_spectra", "snr", "rv"
    ]  # fmt: skip
    assert table.colnames[7:12] == ["teff", "e_teff", "raw_teff", "raw_e_teff", "teff_flags"]
    assert table.colnames[-6:] == [
        "rho_teff_logg", "rho_teff_fe_h", "rho_logg_fe_h", "result_flags", "flag_warn", "flag_bad"
    ]  # fmt: skip
    np.testing.assert_allclose(table["teff"], calibrated["teff"], rtol=1e-6)
    np.testing.assert_allclose(table["raw_fe_h"], raw["fe_h"], rtol=1e-6)
    np.testing.assert_allclose(table["e_logg"], 0.1, rtol=1e-6)
    np.testing.assert_allclose(table["rho_teff_fe_h"], 0.5, rtol=1e-6)
    np.testing.assert_allclose(table["rho_teff_logg"], 0.3, rtol=1e-6)
    assert list(table["star_id"]) == ["star0", "star1", "star2", "star3"]


def test_every_column_is_described_and_has_the_unit_of_its_label():
    table = build(ra=np.zeros(4), dec=np.ones(4), gaia_dr3_source_id=np.arange(4))
    assert all(column.description for column in table.columns.values())
    units = {name: str(table[name].unit or "") for name in table.colnames}
    assert units["teff"] == units["raw_e_teff"] == "K"
    assert units["e_fe_h"] == "dex"
    assert units["ra"] == "deg"
    assert units["rv"] == "km / s"
    assert units["rho_teff_logg"] == units["teff_flags"] == ""
    assert table["gaia_dr3_source_id"].dtype == np.int64
    described = {column.name for column in catalogue_columns(NAMES, list(IDENTITY))}
    assert set(table.colnames) < described


def test_every_bit_is_described_and_alone():
    for flag, descriptions in ((ResultFlag, RESULT_FLAGS), (LabelFlag, LABEL_FLAGS)):
        assert set(descriptions) == set(flag)
        assert all(bit.bit_count() == 1 for bit in flag)


@pytest.mark.parametrize("flag", ResultFlag)
def test_flag_bad_is_what_its_description_says(flag):
    table = build(result=flag)
    assert table["flag_warn"].all()
    names = {name: bit for name, bit in ResultFlag.__members__.items()}
    expression = table["flag_bad"].description
    assert set(table["flag_bad"]) == {eval(expression, {"result_flags": int(flag), **names})}
    assert (flag in BAD) == bool(table["flag_bad"][0])


def test_no_flag_is_no_warning():
    table = build()
    assert not table["flag_warn"].any()
    assert not table["flag_bad"].any()


def test_a_nan_label_always_says_that_there_is_no_information():
    mean, covariance = posterior(2).mean.copy(), posterior(2).covariance.copy()
    mean[0, 2] = covariance[0, 2] = covariance[0, :, 2] = np.nan
    partial = LabelPosterior(NAMES, mean, covariance, ["a", "b"])
    table = build_catalogue(partial, partial, identity(2), [0, 0], [[0, 0, 8], [0, 0, 8]])
    assert list(table["fe_h_flags"]) == [
        LabelFlag.NO_INFORMATION | LabelFlag.EXTRAPOLATED,
        LabelFlag.EXTRAPOLATED,
    ]
    assert list(table["teff_flags"]) == [0, 0]
    assert np.isnan(table["rho_teff_fe_h"][0])
    assert table["rho_teff_logg"][0] == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"identity": {"spectrum_ids": []}}, "Did you mean 'spectrum_id'"),
        ({"identity": {"survey": ["a"]}}, "Missing: spectrum_id, file"),
        ({"identity": {**identity(4), "snr": [1.0]}}, r"column snr: expected shape \(4,\)"),
        ({"identity": {**identity(4), "star_id": ["x"] * 4}}, "expected the star_id"),
        ({"result_flags": np.zeros(3)}, r"result_flags: expected shape \(4,\)"),
        ({"result_flags": np.full(4, 1 << 20)}, "bits of ResultFlag, found 1048576"),
        ({"label_flags": np.zeros((4, 2))}, r"label_flags: expected shape \(4, 3\)"),
        ({"calibrated": posterior(4, first=1)}, "4 stars of the raw one in their order"),
        ({"calibrated": posterior(4).select(["logg", "teff", "fe_h"])}, "labels of the raw one"),
    ],
)
def test_what_does_not_fit_together_is_an_error(change, message):
    parts = {
        "raw": posterior(4),
        "calibrated": posterior(4),
        "identity": identity(4),
        "result_flags": np.zeros(4),
        "label_flags": np.zeros((4, 3)),
    }
    with pytest.raises(InputError, match=message):
        build_catalogue(**{**parts, **change})


def test_a_velocity_cannot_be_identity_and_label():
    with pytest.raises(InputError, match="rv twice"):
        catalogue_columns(["teff", "rv"], ["star_id", "rv"])


# files


def same(table, other):
    assert table.colnames == other.colnames
    for name in table.colnames:
        one, two = table[name], other[name]
        np.testing.assert_array_equal(np.asarray(one), np.asarray(two), err_msg=name)
        assert one.dtype.kind == two.dtype.kind, name
        assert one.dtype.kind == "U" or one.dtype == two.dtype, name
        assert (one.unit or "") == (two.unit or ""), name
        assert one.description == two.description, name


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_round_trip(tmp_path, suffix):
    table = build(result=3, label=5)
    table["logg"][1] = np.nan
    path = tmp_path / f"catalogue{suffix}"
    write_catalogue(table, path, PROVENANCE)
    back = read_catalogue(path)
    same(table, back)
    assert back.meta["provenance"] == PROVENANCE
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_catalogue_without_stars(tmp_path, suffix):
    path = tmp_path / f"empty{suffix}"
    write_catalogue(build(0), path, {})
    back = read_catalogue(path)
    assert len(back) == 0
    assert back.colnames == build(0).colnames
    assert back["teff"].unit == "K"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_content_tells_the_format(tmp_path, suffix):
    write_catalogue(build(), tmp_path / f"a{suffix}", PROVENANCE)
    back = read_catalogue((tmp_path / f"a{suffix}").rename(tmp_path / "renamed"))
    same(build(), back)
    assert back.meta["provenance"] == PROVENANCE


def test_text_beyond_ascii(tmp_path):
    table = build()
    table["file"] = ["Å/spec.fits"] * 4
    write_catalogue(table, tmp_path / "a.parquet", {})
    write_catalogue(table, tmp_path / "a.fits", {})
    assert read_catalogue(tmp_path / "a.parquet")["file"][0] == "Å/spec.fits"
    assert read_catalogue(tmp_path / "a.fits")["file"][0] == "\\xc5/spec.fits"


def test_astropy_sees_units_in_fits(tmp_path):
    write_catalogue(build(), tmp_path / "a.fits", PROVENANCE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # dex is not in the FITS standard, and kept
        table = Table.read(tmp_path / "a.fits")
    assert str(table["teff"].unit) == "K"
    assert str(table["fe_h"].unit) == "dex"
    assert str(table["rv"].unit) == "km / s"
    with fits.open(tmp_path / "a.fits", checksum=True) as hdus:
        hdus.verify("exception")
        header = hdus["CATALOGUE"].header
        column = hdus["CATALOGUE"].columns.names.index("teff") + 1
        assert header[f"TUNIT{column}"] == "K"
        assert header[f"TCOMM{column}"] == "Effective temperature"
        assert "result_flags 4 LOW_SNR" in str(header["COMMENT"])
        assert "CHECKSUM" in header


@pytest.mark.parametrize("form", ["parquet", "parquet.votable"])
def test_astropy_sees_units_in_parquet(tmp_path, form):
    write_catalogue(build(), tmp_path / "a.parquet", PROVENANCE)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*dex.*")
        table = Table.read(tmp_path / "a.parquet", format=form)
    assert len(table) == 4
    assert table.colnames == build().colnames
    assert str(table["teff"].unit) == "K"
    assert str(table["fe_h"].unit) == "dex"
    assert table["e_teff"].description == "Calibrated 1-sigma uncertainty of teff"
    assert list(table["file"]) == list(build()["file"])
    assert list(table["flag_bad"]) == [False] * 4


def test_arrow_sees_units_and_pandas_the_values(tmp_path):
    write_catalogue(build(), tmp_path / "a.parquet", PROVENANCE)
    assert pq.read_schema(tmp_path / "a.parquet").field("teff").metadata[b"unit"] == b"K"
    frame = pq.read_table(tmp_path / "a.parquet").to_pandas()
    np.testing.assert_array_equal(frame["logg"], build()["logg"])


@pytest.mark.parametrize("name", ["a.csv", "a", "a.fits.gz", "a.parquet.tmp"])
def test_an_unknown_suffix_lists_the_known(tmp_path, name):
    with pytest.raises(InputError, match=r"ends in \.parquet or \.fits"):
        write_catalogue(build(), tmp_path / name, {})
    with pytest.raises(InputError, match=r"ends in \.parquet or \.fits"):
        CatalogueWriter(tmp_path / name, {})


def test_provenance_that_is_not_json_is_an_error(tmp_path):
    for strange in ({"a": object()}, {"a": np.nan}):
        with pytest.raises(InputError, match="provenance: expected"):
            write_catalogue(build(), tmp_path / "a.fits", strange)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_full_disk_leaves_the_old_catalogue_and_nothing_else(tmp_path, suffix, monkeypatch):
    path = tmp_path / f"a{suffix}"
    write_catalogue(build(), path, {"run": 1})
    before = path.read_bytes()

    def half(self_or_table, target, *args, **kwargs):
        target.write_bytes(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pq, "write_table", half)
    monkeypatch.setattr(fits.HDUList, "writeto", half)
    with pytest.raises(OSError, match=r"not written.*No space left") as caught:
        write_catalogue(build(2), path, {"run": 2})
    assert caught.value.errno == errno.ENOSPC
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_an_interrupted_write_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(table, target, *args, **kwargs):
        target.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(pq, "write_table", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_catalogue(build(), tmp_path / "a.parquet", {})
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_catalogue_is_an_error(tmp_path):
    with pytest.raises(InputError, match="expected a file"):
        read_catalogue(tmp_path / "none.fits")
    Table({"teff": [1.0]}).write(tmp_path / "a.fits")
    Table({"teff": [1.0]}).write(tmp_path / "a.parquet")
    (tmp_path / "a.csv").write_text("teff\n1\n")
    for name in ("a.fits", "a.parquet", "a.csv"):
        with pytest.raises(InputError, match="expected a Spectrolabe catalogue"):
            read_catalogue(tmp_path / name)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_truncated_catalogue_is_an_error(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    write_catalogue(build(), path, {})
    content = path.read_bytes()
    for fraction in (0.3, 0.9):
        path.write_bytes(content[: int(fraction * len(content))])
        with pytest.raises(InputError, match=rf"a\{suffix}: expected"):
            read_catalogue(path)


# parts


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_parts_become_the_catalogue(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    writer = CatalogueWriter(path, {"model": "m"})
    writer.begin()
    writer.write(1, build(8, first=3))  # in any order
    writer.write(0, build(3))
    assert not path.exists()
    assert writer.finish({"finished": "today"}) == path
    table = read_catalogue(path)
    assert list(table["star_id"]) == [f"star{i}" for i in range(11)]
    np.testing.assert_array_equal(table["teff"][3:], build(8, first=3)["teff"])
    assert table["teff"].unit == "K"
    assert table.meta["provenance"] == {"model": "m", "finished": "today"}
    assert list(tmp_path.iterdir()) == [path]


def test_long_texts_in_a_later_part_are_whole_for_every_reader(tmp_path):
    writer = CatalogueWriter(tmp_path / "a.parquet", {})
    writer.begin()
    writer.write(0, build(1))
    writer.write(1, build(1, first=10**9))
    writer.finish()
    names = Table.read(tmp_path / "a.parquet")["file"]
    assert list(names) == ["night/spec-0.fits.gz", "night/spec-1000000000.fits.gz"]


def begun(path, *arguments):
    writer = CatalogueWriter(path, *arguments)
    writer.begin()
    return writer


def test_an_interrupted_job_goes_on(tmp_path):
    path = tmp_path / "a.parquet"
    begun(path, {"model": "m"}).write(0, build(3), [("a", "unreadable")])
    again = begun(path, {"model": "m"})
    assert (again.done(), again.has(0), again.has(1)) == ({0}, True, False)
    again.write(1, build(2, first=3), [("b", "too"), ("a", "unreadable")])
    again.write(1, build(2, first=3), [("b", "too"), ("a", "unreadable")])  # by another worker
    assert again.bad() == [("a", "unreadable"), ("b", "too")]
    begun(path, {"model": "m"}).finish()
    assert list(read_catalogue(path)["star_id"]) == [f"star{i}" for i in range(5)]


def test_a_part_that_fails_is_not_done(tmp_path, monkeypatch):
    path = tmp_path / "a.parquet"
    writer = begun(path, {})
    writer.write(0, build(1))

    def full(table, target, *args, **kwargs):
        target.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(pq, "write_table", full)
        with pytest.raises(InputError, match=r"no space left on the disk.*run the same command"):
            writer.write(1, build(1, first=1))
    assert writer.done() == {0}
    assert len(list((tmp_path / "a.parquet.parts").glob("*"))) == 2  # with the manifest
    writer.write(1, build(1, first=1))
    writer.finish()
    assert len(read_catalogue(path)) == 2


def test_a_merge_that_fails_keeps_the_parts(tmp_path, monkeypatch):
    path = tmp_path / "a.parquet"
    writer = begun(path, {})
    writer.write(0, build(2))
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "replace", lambda *a: (_ for _ in ()).throw(OSError(5, "broken")))
        with pytest.raises(InputError, match="broken"):
            writer.finish()
    assert not path.exists()
    begun(path, {}).finish()
    assert len(read_catalogue(path)) == 2


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_damaged_part_is_found_and_made_again(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    writer = begun(path, {})
    for number in range(3):
        writer.write(number, build(200, first=200 * number))
    part = path.with_name(path.name + ".parts") / "part-0000001.parquet"
    content = bytearray(part.read_bytes())
    true = np.float32(build(200, first=200)["teff"][50])
    content[content.index(true.tobytes())] ^= 1  # of the mantissa
    part.write_bytes(content)
    read = pq.read_table(part)["teff"].to_numpy()  # looks well
    assert read[50] != true
    assert read[50] == pytest.approx(true, rel=1e-6)
    with pytest.raises(InputError, match=r"part-0000001.parquet: expected a whole part, found a"):
        writer.finish()
    assert writer.done() == {0, 2}
    assert not path.exists()


def test_parts_of_another_run_are_an_error(tmp_path):
    path = tmp_path / "a.parquet"
    begun(path, {"model": "one"}, {"files": 3}).write(0, build(1))
    with pytest.raises(
        InputError, match=r"model = 'two', found 'one'\. .*remove .*a\.parquet\.parts"
    ):
        begun(path, {"model": "two"}, {"files": 3})
    with pytest.raises(InputError, match=r"inputs = \{'files': 4\}, found \{'files': 3\}"):
        begun(path, {"model": "one"}, {"files": 4})
    (tmp_path / "a.parquet.parts" / "manifest.json").unlink()
    with pytest.raises(InputError, match=r"with manifest.json.*older version"):
        begun(path, {"model": "one"}, {"files": 3})


def test_a_part_with_other_columns_is_an_error(tmp_path):
    writer = begun(tmp_path / "a.parquet", {})
    writer.write(0, build(1))
    writer.write(1, build(1, ra=[0.0]))
    with pytest.raises(InputError, match=r"the columns of the parts before.*in ra"):
        writer.finish()


def test_a_batch_in_which_nothing_was_found(tmp_path):
    path = tmp_path / "a.parquet"
    begun(path, {}).write(0, Table(), [("bad", "unreadable")])
    writer = begun(path, {})
    assert writer.done() == {0}
    with pytest.raises(InputError, match="at least one result"):
        writer.finish()
    writer.write(1, build(2))
    writer.write(2, build(0))
    writer.finish()
    assert len(read_catalogue(path)) == 2


def test_parts_are_merged_to_few_groups_of_rows(tmp_path, monkeypatch):
    """A footer that describes thousands of groups takes longer to read than the rows."""
    from spectrolabe.catalogue import parts

    monkeypatch.setattr(parts, "GROUP", 5)
    writer = begun(tmp_path / "a.parquet", {})
    for number in range(6):
        writer.write(number, build(2, first=2 * number))
    file = pq.ParquetFile(writer.finish())
    assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == [6, 6]
    assert file.read()["star_id"].to_pylist() == [f"star{i}" for i in range(12)]


def test_a_place_that_cannot_be_written_is_refused_at_once(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(InputError, match="files can be written"):
        begun(tmp_path / "file" / "catalogue.parquet", {})
