"""Stars drawn for a grid, and stars of a table."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.table import Table
from scipy.spatial import cKDTree
from scipy.stats import qmc

from spectrolabe.config import StarsConfig
from spectrolabe.errors import InputError
from spectrolabe.synthesis.given import read_stars
from spectrolabe.synthesis.sampling import ABUNDANCES, WIDTHS, sample_labels, v_micro_relation


@pytest.fixture(scope="module")
def drawn():
    return sample_labels(StarsConfig(count=4096, seed=3))


def test_thirty_elements():
    symbols = "Li C N O Na Mg Al Si S K Ca Sc Ti V Cr Mn Co Ni Cu Zn Sr Y Zr Ba La Ce Pr Nd Sm Eu"
    assert tuple(f"{x.lower()}_fe" for x in symbols.split()) == ABUNDANCES
    assert set(WIDTHS) == set(ABUNDANCES)


def test_every_label_is_inside_its_range(drawn):
    assert drawn.names == ("teff", "logg", "fe_h", "v_micro", *ABUNDANCES)
    assert np.isfinite(drawn.values).all()
    for name, low, high in (("teff", 4250, 7500), ("logg", 0.5, 5.0), ("fe_h", -2.5, 0.5)):
        assert drawn[name].min() >= low
        assert drawn[name].max() <= high
        assert drawn[name].min() < low + 0.02 * (high - low)  # and reaches its ends
    assert drawn["v_micro"].min() >= 0.2


def test_the_same_seed_gives_the_same_stars_and_another_does_not():
    one = sample_labels(StarsConfig(count=32, seed=5)).values
    assert np.array_equal(one, sample_labels(StarsConfig(count=32, seed=5)).values)
    assert not np.array_equal(one, sample_labels(StarsConfig(count=32, seed=6)).values)


@pytest.mark.parametrize("method", ["sobol", "latin_hypercube"])
def test_it_fills_space_better_than_chance(method):
    """Ranks of Teff, [Fe/H] and an abundance of dwarfs have a lower discrepancy than random."""
    labels = sample_labels(StarsConfig(count=256, seed=1, method=method, giants=0.0))
    low, high = StarsConfig().teff
    points = [
        (labels["teff"] - low) / (high - low),
        (np.argsort(np.argsort(labels["fe_h"])) + 0.5) / 256,
        (np.argsort(np.argsort(labels["ba_fe"])) + 0.5) / 256,
    ]
    random = [qmc.discrepancy(np.random.default_rng(seed).random((256, 3))) for seed in range(20)]
    assert qmc.discrepancy(np.stack(points, axis=1)) < min(random)


def test_any_number_of_stars_and_no_warning(recwarn):
    assert len(sample_labels(StarsConfig(count=37))) == 37
    assert len(recwarn) == 0


def test_dwarfs_and_giants_are_where_they_are_known_to_be(drawn):
    giant = drawn["logg"] < 3.3
    assert 0.35 < giant.mean() < 0.5
    cool_dwarf = (drawn["logg"] > 4) & (drawn["teff"] < 4600)
    assert drawn["logg"][cool_dwarf].min() > 4.25  # none has had time to evolve
    gap = (np.abs(drawn["logg"] - 3.0) < 0.3) & (drawn["teff"] > 6600)
    assert gap.sum() == 0
    # Arcturus, Pollux-like clump, Sun, Procyon, HD 140283: something is near each
    stars = [
        (4286, 1.6, -0.5), (4850, 2.6, 0.0), (5777, 4.44, 0.0), (6550, 4.0, 0.0), (5780, 3.7, -2.4)
    ]  # fmt: skip
    size = np.array([150.0, 0.25, 0.3])
    tree = cKDTree(np.stack([drawn[n] for n in ("teff", "logg", "fe_h")], axis=1) / size)
    assert tree.query(np.array(stars) / size)[0].max() < 1.5


def test_giants_have_dredged_up_nitrogen_at_the_cost_of_carbon(drawn):
    giant = drawn["logg"] < 3.3
    for name, change in (("n_fe", 0.25), ("c_fe", -0.15), ("ni_fe", 0.0)):
        found = drawn[name][giant].mean() - drawn[name][~giant].mean()
        assert found == pytest.approx(change, abs=0.05), name


def test_microturbulence_is_never_below_what_stars_have():
    config = StarsConfig(count=64, v_micro_scatter=2.0)
    assert sample_labels(config)["v_micro"].min() == 0.2


@pytest.mark.parametrize("method", ["sobol", "latin_hypercube"])
def test_another_seed_gives_other_stars(method):
    one, two, again = (
        sample_labels(StarsConfig(count=16, seed=seed, method=method)).values for seed in (1, 2, 1)
    )
    assert np.array_equal(one, again)
    assert np.abs(one - two).max(axis=0).min() > 0.01


def test_metal_poor_giants_are_hotter(drawn):
    giant = np.abs(drawn["logg"] - 2.5) < 0.4
    poor, rich = giant & (drawn["fe_h"] < -1.3), giant & (drawn["fe_h"] > -0.2)
    assert 200 < drawn["teff"][poor].mean() - drawn["teff"][rich].mean() < 600


@pytest.mark.data
def test_the_stars_of_apogee_are_covered(drawn, shared_data):
    found = pq.read_table(shared_data / "populations" / "apogee_dr17_labels.parquet")
    names = ("teff", "logg", "fe_h")
    real = np.stack([found[name].to_numpy() for name in names], axis=1)
    low, high = np.array([4250, 0.5, -2.5]), np.array([7500, 5.0, 0.5])
    real = real[((real > low) & (real < high)).all(axis=1)]
    assert len(real) > 10_000
    size = np.array([150.0, 0.25, 0.3])
    tree = cKDTree(np.stack([drawn[name] for name in names], axis=1) / size)
    assert (tree.query(real / size)[0] < 1.0).mean() > 0.99


def test_abundances_have_the_widths_and_the_alpha_trend(drawn):
    for name in ("ba_fe", "ni_fe", "eu_fe"):
        assert drawn[name].std() == pytest.approx(WIDTHS[name], rel=0.07)  # the wings are cut
        assert abs(drawn[name].mean()) < 0.02
    poor, rich = drawn["fe_h"] < -1.2, drawn["fe_h"] > 0.1
    assert drawn["mg_fe"][poor].mean() == pytest.approx(0.37, abs=0.04)
    assert drawn["mg_fe"][rich].mean() == pytest.approx(0.03, abs=0.04)
    flat = sample_labels(StarsConfig(count=512, alpha=False))
    assert abs(flat["mg_fe"].mean()) < 0.02


def test_abundances_are_independent_of_each_other(drawn):
    columns = [drawn[name] for name in ("na_fe", "ni_fe", "y_fe", "eu_fe", "cr_fe")]
    correlation = np.corrcoef(columns) - np.eye(5)
    assert np.abs(correlation).max() < 0.06


def test_lithium_spans_what_stars_show(drawn):
    lithium = drawn["li_fe"] + drawn["fe_h"] + 1.05
    assert lithium.max() > 3.2
    assert lithium.max() < 3.8
    assert lithium.min() < 0.0


def test_a_width_of_the_configuration():
    labels = sample_labels(StarsConfig(count=512, widths={"ba_fe": 0.05}))
    assert labels["ba_fe"].std() == pytest.approx(0.05, rel=0.1)
    with pytest.raises(
        InputError, match=r"stars\.widths: .* found 'ba_fee'\. Did you mean 'ba_fe'"
    ):
        sample_labels(StarsConfig(count=4, widths={"ba_fee": 0.1}))


def test_ranges_without_stars():
    with pytest.raises(InputError, match=r"expected a range of logg with giants.*giants = 0"):
        sample_labels(StarsConfig(count=4, logg=(4.0, 5.0)))
    with pytest.raises(InputError, match=r"stars of the main sequence.*giants = 1"):
        sample_labels(StarsConfig(count=4, logg=(0.5, 3.0)))
    assert sample_labels(StarsConfig(count=64, logg=(4.0, 5.0), giants=0.0))["logg"].min() >= 4.0


@pytest.mark.parametrize(
    ("teff", "logg", "fe_h", "published"),
    [
        (5777, 4.44, 0.0, 1.06),
        (4286, 1.60, -0.5, 1.52),
        (6554, 4.0, 0.0, 1.48),
        (4500, 4.6, 0, 0.88),
    ],
)
def test_microturbulence_of_known_stars(teff, logg, fe_h, published):
    """The relation of the Gaia-ESO survey, evaluated by hand."""
    assert v_micro_relation(teff, logg, fe_h) == pytest.approx(published, abs=0.03)


def test_microturbulence_has_no_jump():
    logg = np.linspace(0.5, 5.0, 2000)
    assert np.abs(np.diff(v_micro_relation(5000.0, logg, 0.0))).max() < 0.01
    # at log g 3.5 midway between 1.451 of dwarfs and 1.961 of giants, and 0.069 for the gravity
    assert v_micro_relation(6500.0, 3.5, 0.0) == pytest.approx(1.775, abs=0.001)


# ---------------------------------------------------------------- stars of a table

COLUMNS = {
    "star_id": ["sun", "arcturus"],
    "teff": [5777.0, 4286.0],
    "logg": [4.44, 1.66],
    "fe_h": [0.0, -0.52],
    "v_micro": [1.0, 1.7],
    "mg_fe": [0.0, 0.37],
}


def written(tmp_path, kind: str, columns=COLUMNS):
    path = tmp_path / f"stars.{kind}"
    if kind == "parquet":
        pq.write_table(pa.table(columns), path)
    else:
        Table(columns).write(path, format="ascii.csv" if kind == "csv" else kind)
    return path


@pytest.mark.parametrize("kind", ["parquet", "csv", "fits"])
def test_tables_of_every_kind(tmp_path, kind):
    labels, notes = read_stars(written(tmp_path, kind))
    assert labels.star_id.tolist() == ["sun", "arcturus"]
    assert labels["mg_fe"].tolist() == [0.0, 0.37]
    assert labels["teff"].tolist() == [5777.0, 4286.0]
    assert labels["eu_fe"].tolist() == [0.0, 0.0]
    assert len(labels.names) == 34
    assert len(notes) == 1
    assert notes[0].startswith("taken as 0, for there is no such column: li_fe, c_fe")


def test_columns_that_are_not_known_are_named(tmp_path):
    _, notes = read_stars(written(tmp_path, "csv", {**COLUMNS, "magnesium": [0.1, 0.2]}))
    assert notes[1] == "columns ignored: magnesium"


def test_an_empty_cell_is_not_zero(tmp_path):
    path = tmp_path / "stars.csv"
    path.write_text("teff,logg,fe_h,v_micro,mg_fe\n5777,4.44,0,1,\n4286,1.66,-0.5,1.7,0.3\n")
    labels, _ = read_stars(path)
    assert np.isnan(labels["mg_fe"][0])
    assert labels.star_id.tolist() == ["0", "1"]


def test_phosphorus_only_where_it_is_given(tmp_path):
    labels, _ = read_stars(written(tmp_path, "csv", {**COLUMNS, "p_fe": [0.1, 0.2]}))
    assert labels["p_fe"].tolist() == [0.1, 0.2]


def test_without_microturbulence_the_error_says_how_to_get_it(tmp_path):
    columns = {name: column for name, column in COLUMNS.items() if name != "v_micro"}
    with pytest.raises(InputError, match=r"found no v_micro among .*v_micro_relation\(teff"):
        read_stars(written(tmp_path, "csv", columns))
    columns.pop("logg")
    with pytest.raises(InputError, match="found no logg"):
        read_stars(written(tmp_path, "fits", columns))


def test_what_is_no_table_of_stars(tmp_path):
    with pytest.raises(InputError, match="expected a table of labels, found no such file"):
        read_stars(tmp_path / "no.csv")
    bad = tmp_path / "bad.parquet"
    bad.write_bytes(b"PAR1 cut off")
    with pytest.raises(InputError, match=r"bad\.parquet: expected a Parquet, FITS or CSV table"):
        read_stars(bad)
    with pytest.raises(InputError, match="column teff: expected numbers"):
        read_stars(written(tmp_path, "csv", {**COLUMNS, "teff": ["hot", "cold"]}))
    (tmp_path / "empty.csv").write_text("teff,logg,fe_h,v_micro\n")
    with pytest.raises(InputError, match="a table without rows"):
        read_stars(tmp_path / "empty.csv")


def test_no_star_is_a_carbon_star() -> None:
    labels = sample_labels(StarsConfig(count=512, seed=4, widths={"c_fe": 0.5, "o_fe": 0.4}))
    ratio = labels["c_fe"] - labels["o_fe"]
    assert ratio.max() <= 0.15 + 1e-9
    assert np.mean(ratio > 0.1) > 0.02, "mirrored there, not left out"
