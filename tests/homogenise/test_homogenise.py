"""`spectrolabe homogenise` as a user meets it."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.table import MaskedColumn, Table
from typer.testing import CliRunner

from spectrolabe import cli
from spectrolabe.errors import InputError
from spectrolabe.homogenise import formula
from spectrolabe.homogenise.command import homogenise, parse_columns
from spectrolabe.homogenise.correction_files import load_correction
from spectrolabe.homogenise.run import Matching
from spectrolabe.validation.homogenised_page import write_homogenised_page
from tests.homogenise.test_correction import NAMES, pair

COUNT = 1500


def tables():
    """A target and a reference, of which each lacks some stars of the other."""
    target, reference = pair(COUNT, 1)
    rng = np.random.default_rng(5)
    ra, dec = rng.uniform(0, 360, COUNT), rng.uniform(-60, 60, COUNT)

    def table(labels, rows):
        columns = {"star_id": labels.star_id[rows], "ra": ra[rows], "dec": dec[rows]}
        for j, name in enumerate(NAMES):
            columns[name] = labels.values[rows, j]
            columns[f"e_{name}"] = labels.sigma[rows, j]
        return Table(columns)

    return table(target, slice(0, 1400)), table(reference, slice(300, COUNT))


@pytest.fixture
def files(tmp_path):
    one, other = tables()
    one.write(tmp_path / "target.fits")
    other.write(tmp_path / "reference.csv")
    return tmp_path


def written(folder, table, name="x.parquet"):
    pq.write_table(pa.table({key: np.asarray(table[key]) for key in table.colnames}), folder / name)
    return folder / name


def test_every_row_and_column_stays_and_four_come_for_each_label(files):
    done = homogenise(files / "target.fits", [files / "reference.csv"], files / "out.parquet")
    found, before = pq.read_table(files / "out.parquet"), tables()[0]
    assert found.num_rows == len(before)
    assert np.array_equal(found["teff"].to_numpy(), before["teff"])
    for name in NAMES:
        for key in (name, f"e_{name}", f"{name}_coverage", f"{name}_flags"):
            assert f"homogenised_{key}" in found.column_names
    assert found.schema.field("homogenised_teff").metadata[b"unit"] == b"K"
    provenance = json.loads(found.schema.metadata[b"spectrolabe.provenance"])
    assert provenance["correction"]["shared_stars"] == 1100
    assert done.file.exists()
    again = homogenise(files / "target.fits", [], files / "again.fits", given=done.file)
    fits = Table.read(files / "again.fits")
    assert np.allclose(fits["homogenised_teff"], found["homogenised_teff"].to_numpy())
    assert str(fits["homogenised_logg"].unit) == "dex"
    assert again.shared is None


def test_positions_find_the_same_stars(files):
    by_id, by_sky = (
        homogenise(
            files / "target.fits", [files / "reference.csv"], files / "out.csv", matching=matching
        )
        for matching in (Matching(), Matching(radius=1.0))
    )
    assert by_sky.correction.card["shared_stars"] == by_id.correction.card["shared_stars"]
    for name in NAMES:
        assert by_sky.correction.labels[name].zero == by_id.correction.labels[name].zero


def test_columns_may_have_any_name(files):
    one, _ = tables()
    one.rename_columns(["star_id", "teff", "e_teff"], ["obsid", "TEFF_LASP", "ERR"])
    done = homogenise(
        written(files, one), [files / "reference.csv"], files / "out.parquet",
        columns=parse_columns("teff=TEFF_LASP, e_teff=ERR", "--columns"),
        matching=Matching(target_id="obsid"),
    )  # fmt: skip
    assert done.correction.names == NAMES
    with pytest.raises(InputError, match=r"--columns: expected teff=TEFF.*found 'teff'"):
        parse_columns("teff", "--columns")


def test_several_references_are_united(files):
    _, other = tables()
    hotter = other[600:].copy()
    hotter["teff"] += 120.0
    parts = [written(files, other[:700], "a.parquet"), written(files, hotter, "b.parquet")]
    done = homogenise(files / "target.fits", parts, files / "out.parquet")
    alone = homogenise(files / "target.fits", [files / "reference.csv"], files / "two.parquet")
    # rows on the scale of the first reference, as if there had been one
    for name, size in (("teff", 12.0), ("logg", 0.02), ("fe_h", 0.015)):
        one, other = (x.correction.labels[name] for x in (done, alone))
        assert abs(one.zero - other.zero) < size
    assert done.correction.labels["teff"].card["stars"] == 1100


def test_three_catalogues_tell_their_errors(files):
    """Where there are no repeats: the target states a third of its errors, a reference none."""
    one, other = tables()
    rng, third = np.random.default_rng(4), other[:].copy()
    for name, size in zip(NAMES, (150.0, 0.25, 0.15), strict=True):
        third[name] += size * rng.normal(size=len(third))
        third.remove_column(f"e_{name}")
        one[f"e_{name}"] /= 3.0
    parts = [files / "reference.csv", written(files, third, "third.parquet")]
    done = homogenise(written(files, one), parts, files / "out.parquet")
    card = done.correction.card
    assert card["target_errors"]["logg"][0] == pytest.approx(3.0, rel=0.15)
    assert card[str(parts[1])]["hat"]["teff"] == pytest.approx([1.0, 150.0], rel=0.15)
    alone = homogenise(written(files, one), parts[:1], files / "alone.parquet")
    assert alone.correction.card["target_errors"] == {}
    page = write_homogenised_page(done, files / "page.html").read_text()
    assert "three catalogues" in page


def test_the_true_scale_is_asked_for_by_an_option(files):
    command = ["homogenise", str(files / "target.fits"), str(files / "reference.csv")]
    command += ["--order", "2", "--true-scale", "-o", str(files / "out.parquet")]
    assert CliRunner().invoke(cli.app, command).exit_code == 0
    fit = load_correction(files / "out.correction.safetensors")
    assert fit.card["true_scale"]
    assert (fit.labels["teff"].inputs.theirs > 0.5).all()  # the reference is better


def test_options_without_effect_are_refused(files):
    command = ["homogenise", str(files / "target.fits"), "--apply", "x", "--order", "2", "--sky"]
    found = CliRunner().invoke(cli.app, [*command, "1"])
    assert isinstance(found.exception, InputError)
    assert "--order, --sky" in str(found.exception)


@pytest.mark.parametrize(
    ("suffix", "column"), [("csv", "lists"), ("fits", "lists"), ("fits", "at")]
)
def test_columns_that_a_format_cannot_hold_are_named_at_once(files, suffix, column):
    one, _ = tables()
    columns = {key: np.asarray(one[key]) for key in one.colnames}
    odd = {"lists": pa.array([[1.0, 2.0]] * len(one)), "at": pa.array([0] * len(one), pa.date32())}
    pq.write_table(pa.table(columns | {column: odd[column]}), files / "odd.parquet")
    with pytest.raises(InputError, match=rf"that \.{suffix} can hold, found {column} \("):
        homogenise(files / "odd.parquet", [files / "reference.csv"], files / f"out.{suffix}")
    done = homogenise(files / "odd.parquet", [files / "reference.csv"], files / "out.parquet")
    assert column in pq.read_table(done.catalogue).column_names


def test_repeats_put_errors_right_and_flagged_rows_teach_nothing(files):
    one, _ = tables()
    rng = np.random.default_rng(3)
    twice = one[:].copy()
    for name in NAMES:  # errors are three times what is stated
        for table in (one, twice):
            table[name] += 2.8 * table[f"e_{name}"] * rng.normal(size=len(table))
    both = Table(np.concatenate([one.as_array(), twice.as_array()]))
    both["flag_bad"] = rng.random(len(both)) < 0.1
    both["teff"] += 2000.0 * both["flag_bad"]
    done = homogenise(written(files, both), [files / "reference.csv"], files / "out.parquet")
    card = done.correction.card
    assert card["target_repeats"]["logg"][0] == pytest.approx(2.8, rel=0.2)
    assert card["shared_rows"] == pytest.approx(0.9 * 2200, rel=0.03)
    assert abs(done.correction.labels["teff"].zero) < 200.0


def changed(name, values):
    one, _ = tables()
    new = values(one[name]) if callable(values) else values
    if name in one.colnames:
        one.remove_column(name)
    one[name] = new
    return one


BAD_INPUT = {
    "no star in common": (lambda: changed("star_id", [f"x{i}" for i in range(1400)]), "stars that"),
    "a constant column": (lambda: changed("logg", 4.0), "logg: expected a column that is not"),
    "5040 K / Teff": (lambda: changed("teff", lambda x: 5040.0 / x), r"Give Teff in K"),
    "linear [Fe/H]": (lambda: changed("fe_h", lambda x: 10.0**x), r"expected a logarithm \(dex\)"),
    "no value at all": (lambda: changed("teff", np.nan), "at least 30 stars"),
    "text": (lambda: changed("teff", "warm"), "expected numbers"),
    "an empty table": (lambda: tables()[0][:0], "at least one row"),
    "no identifier": (lambda: tables()[0]["teff", "logg", "fe_h"], "which star a row is"),
    "no label": (lambda: tables()[0]["star_id", "ra", "dec"], "labels that all tables have"),
    "homogenised": (lambda: changed("homogenised_teff", 1.0), "not homogenised yet"),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_named_and_nothing_is_written(files, case):
    make, message = BAD_INPUT[case]
    path = written(files, make())
    with pytest.raises(InputError, match=message):
        homogenise(path, [files / "reference.csv"], files / "out.parquet")
    assert not (files / "out.parquet").exists()
    assert not [one for one in files.iterdir() if one.name.startswith(".")]


def test_some_missing_and_impossible_values_are_no_bad_input(files):
    one, _ = tables()
    one["teff"][:20] = np.nan
    one["logg"][20:40] = -9999.0
    done = homogenise(written(files, one), [files / "reference.csv"], files / "out.parquet")
    found = pq.read_table(files / "out.parquet")
    assert np.isnan(found["homogenised_teff"].to_numpy()[:20]).all()
    assert np.isnan(found["homogenised_logg"].to_numpy()[20:40]).all()
    assert done.counts["labels"]["fe_h"]["outside"] >= 40


def test_the_report_has_every_part(files, monkeypatch):
    monkeypatch.setattr(formula, "SEARCH", formula.SEARCH | {"generations": 5})
    done = homogenise(
        files / "target.fits", [files / "reference.csv"], files / "out.parquet", labels=["logg"]
    )
    text = write_homogenised_page(done, files / "page.html").read_text()
    assert text.count("<img") == 2
    for part in ("Trends before and after", "log g [dex]", "xgboost", "polynomial of order 4"):
        assert part in text
    applied = homogenise(files / "target.fits", [], files / "two.parquet", given=done.file)
    with pytest.raises(InputError, match="--report"):
        write_homogenised_page(applied, files / "page.html")


def test_written_errors_hold_where_repeats_have_put_stated_ones_right(files):
    one, _ = tables()
    rng, exact = np.random.default_rng(6), pair(COUNT, 1, added=False)[1]
    rows = [one.copy(), one.copy()]
    for table in rows:
        for name in NAMES:  # errors are three times what is stated
            table[name] += 2.8 * table[f"e_{name}"] * rng.normal(size=len(table))
    both = Table(np.concatenate([table.as_array() for table in rows]))
    homogenise(written(files, both), [files / "reference.csv"], files / "out.parquet")
    found = pq.read_table(files / "out.parquet")
    for j, name in enumerate(NAMES):
        true = np.tile(exact.values[:1400, j], 2)
        sigma = found[f"homogenised_e_{name}"].to_numpy()
        pulls = (found[f"homogenised_{name}"].to_numpy() - true) / sigma
        assert 0.85 < 1.4826 * np.median(np.abs(pulls)) < 1.15


def test_long_identifiers_keep_their_digits_beside_missing_ones(files):
    one, other = tables()
    for table in (one, other):
        number = np.array([int(star.split("-")[1]) for star in table["star_id"]])
        table["star_id"] = MaskedColumn(4_500_000_000_000_000_000 + 7 * number)
        table["star_id"].mask = np.arange(len(table)) == 5
        table.write(files / f"{len(table)}.csv", overwrite=True)
    target, reference = files / "1400.csv", files / "1200.csv"
    done = homogenise(target, [reference], files / "out.parquet")
    assert done.correction.card["shared_stars"] == 1099
    ids = pq.read_table(files / "out.parquet")["star_id"]
    assert pa.types.is_integer(ids.type)
    assert ids.null_count == 1
    homogenise(target, [reference], files / "out.fits")
    fits = Table.read(files / "out.fits")["star_id"]
    assert fits.mask.sum() == 1
    assert fits[7] == 4_500_000_000_000_000_049
    rounded = one.copy()
    rounded["star_id"] = np.asarray(one["star_id"].filled(0), dtype=float)
    with pytest.raises(InputError, match="cannot hold all digits"):
        homogenise(written(files, rounded), [reference], files / "out.parquet")


def test_rows_without_an_identifier_are_no_star(files):
    one, other = tables()
    for table in (one, other):
        table["star_id"][::2] = ""
    padded = other.copy()
    padded["star_id"] = [f"{star} " for star in other["star_id"]]
    done = homogenise(
        written(files, one), [written(files, padded, "r.parquet")], files / "out.parquet"
    )
    assert done.correction.card["shared_stars"] == 550
    by_sky = homogenise(
        files / "x.parquet", [files / "r.parquet"], files / "two.parquet",
        matching=Matching(radius=1.0),
    )  # fmt: skip
    assert by_sky.correction.card["shared_stars"] == 1100


def test_a_label_that_few_have_is_left_out_unless_it_is_asked_for(files):
    one, other = tables()
    for table in (one, other):
        table["mg_fe"] = np.where(np.arange(len(table)) < 310, 0.1, -9999.0)
        table["rv"] = 10.0
    reference = written(files, other, "r.parquet")
    done = homogenise(written(files, one), [reference], files / "out.parquet")
    assert done.correction.names == NAMES
    assert done.correction.card["too_few_stars"] == ["mg_fe"]
    with pytest.raises(InputError, match=r"mg_fe: expected at least 30 stars.*found 10"):
        homogenise(files / "x.parquet", [reference], files / "out.parquet", labels=["mg_fe"])
    applied = homogenise(
        files / "x.parquet", [], files / "two.parquet", given=done.file, labels=["logg"]
    )
    assert applied.correction.names == ("logg",)


def test_parquet_of_any_input_can_be_read_by_astropy(files):
    homogenise(files / "target.fits", [files / "reference.csv"], files / "out.parquet")
    found = Table.read(files / "out.parquet")
    assert "homogenised_logg_coverage" in found.colnames


def test_errors_that_are_infinite_are_none(files):
    one, _ = tables()
    for name in NAMES:
        one[f"e_{name}"][::2] = np.inf
    done = homogenise(written(files, one), [files / "reference.csv"], files / "out.parquet")
    assert np.isfinite(pq.read_table(done.catalogue)["homogenised_e_teff"].to_numpy()).all()


def test_few_stars_are_counted_as_stars_and_have_a_small_polynomial(files):
    one, _ = tables()
    again = Table(np.concatenate([one[300:305].as_array()] * 10))
    with pytest.raises(InputError, match=r"at least 30 stars.*found 5"):
        homogenise(
            written(files, again), [files / "reference.csv"], files / "out.parquet", labels=["teff"]
        )
    done = homogenise(
        written(files, one[300:336]), [files / "reference.csv"], files / "out.parquet"
    )
    assert done.correction.labels["teff"].curve.bend.order == 1


def test_the_command_names_options_that_make_no_sense(files):
    runner, table = CliRunner(), str(files / "target.fits")
    for options, message in (
        (["--epochs", "J2000"], "a year, or two"),
        (["--apply", "x", "--report", "y.html"], "learnt in the same run"),
        (["-o", str(files / "target.fits" / "out.parquet")], "a name in a folder"),
    ):
        found = runner.invoke(
            cli.app, ["homogenise", table, str(files / "reference.csv"), *options]
        )
        assert isinstance(found.exception, InputError)
        assert message in str(found.exception)


def test_folders_of_the_output_are_made(files):
    output = files / "no" / "such" / "out.parquet"
    done = homogenise(files / "target.fits", [files / "reference.csv"], output, labels=["teff"])
    assert output.is_file()
    assert done.file.parent == output.parent


def test_a_damaged_file_and_a_wrong_suffix_are_named(files):
    path = written(files, tables()[0])
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InputError, match="a whole Parquet table"):
        homogenise(path, [files / "reference.csv"], files / "out.parquet")
    with pytest.raises(InputError, match=r"a name that ends in \.parquet"):
        homogenise(files / "target.fits", [files / "reference.csv"], files / "out.txt")
    (files / "empty").mkdir()
    with pytest.raises(InputError, match="Parquet files with a row, found none"):
        homogenise(files / "target.fits", [files / "empty"], files / "out.parquet")
    with pytest.raises(InputError, match="a reference catalogue, or a correction"):
        homogenise(files / "target.fits", [], files / "out.parquet")


def test_hats_is_written_and_read_again(files):
    done = homogenise(files / "target.fits", [files / "reference.csv"], files / "out.hats")
    assert not [one for one in files.iterdir() if one.name.startswith(".")]
    lsdb = pytest.importorskip("lsdb")
    frame = lsdb.open_catalog(files / "out.hats").compute()
    exact = homogenise(files / "target.fits", [], files / "x.parquet", given=done.file)
    table = pq.read_table(exact.catalogue).to_pandas().set_index("star_id")
    found = frame.set_index("star_id").loc[table.index]
    assert np.allclose(found["homogenised_teff"].astype(float), table["homogenised_teff"])
    with pytest.raises(InputError, match="homogenised yet"):
        homogenise(files / "out.hats", [], files / "two.csv", given=done.file)
    with pytest.raises(InputError, match="no folder of that name"):
        homogenise(files / "target.fits", [], files / "out.hats", given=done.file)


def test_a_folder_of_parquet_files_as_hats_has_them(files):
    one, _ = tables()
    inner = files / "hats" / "dataset" / "Norder=0" / "Dir=0"
    inner.mkdir(parents=True)
    (files / "hats" / "hats.properties").write_text("obs_collection=x\n")
    written(inner, one[:700], "Npix=0.parquet")
    written(inner, one[700:], "Npix=1.parquet")
    done = homogenise(files / "hats", [files / "reference.csv"], files / "out.parquet")
    assert done.counts["rows"] == 1400
    assert done.correction.card["shared_stars"] == 1100
