"""The registry of labels, tables of labels, and their one scaling."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from spectrolabe.errors import InputError
from spectrolabe.labels import ELEMENTS, LABELS, Labels, LabelScale, label, read_only

NAMES = ("teff", "logg", "fe_h")


def make(values=((5777.0, 4.44, 0.0), (4500.0, 2.1, -0.5)), names=NAMES, sigma=None):
    values = np.asarray(values)
    sigma = np.full(values.shape, 0.1) if sigma is None else sigma
    return Labels(names, values, sigma, [f"star{i}" for i in range(len(values))])


# --- the registry ---------------------------------------------------------------------------------


def test_every_entry_is_sound():
    for key, entry in LABELS.items():
        assert key == entry.name == entry.name.lower()
        units.Unit(entry.unit)
        assert entry.low < entry.high
        assert entry.description
        assert entry.latex


def test_the_sun_is_within_every_range():
    sun = {"teff": 5777, "logg": 4.44, "age": 4.57, "abs_mag_k": 3.27, "v_micro": 1.1, "v_broad": 4}
    for name, entry in LABELS.items():
        assert entry.low <= sun.get(name, 0.0) <= entry.high


def test_every_element_has_its_abundance():
    assert len(set(ELEMENTS)) == len(ELEMENTS) >= 20
    assert {f"{e.lower()}_fe" for e in ELEMENTS} <= set(LABELS)
    assert label("mg_fe").description == "Abundance [Mg/Fe]"


def test_an_unknown_label_lists_the_known_ones_and_the_nearest():
    with pytest.raises(InputError, match=r"known label .*fe_h.*teff.*found 'tefff'.*mean 'teff'"):
        label("tefff")
    with pytest.raises(InputError, match="known label"):
        make(names=("teff", "logg", "feh"))


# --- a table --------------------------------------------------------------------------------------


def test_names_travel_with_values():
    labels = make()
    assert len(labels) == 2
    np.testing.assert_array_equal(labels["logg"], [4.44, 2.1])
    chosen = labels.select(["fe_h", "teff"])
    assert chosen.names == ("fe_h", "teff")
    np.testing.assert_array_equal(chosen.values, [[0.0, 5777.0], [-0.5, 4500.0]])
    assert labels.index(["fe_h", "logg"]) == [2, 1]
    assert list(labels.take([1]).star_id) == list(labels.take([False, True]).star_id) == ["star1"]
    np.testing.assert_array_equal(labels.take([1]).values, [[4500.0, 2.1, -0.5]])


@settings(max_examples=50, deadline=None)
@given(names=st.lists(st.sampled_from(sorted(LABELS)), unique=True, min_size=1), data=st.data())
def test_selection_is_by_name_whatever_the_order(names, data):
    values = np.random.default_rng(0).normal(size=(3, len(names)))
    labels = Labels(tuple(names), values, np.abs(values), ["a", "b", "c"])
    order = data.draw(st.permutations(names))
    chosen = labels.select(order)
    for name in names:
        np.testing.assert_array_equal(chosen[name], labels[name])
        column = chosen.index([name])[0]
        np.testing.assert_array_equal(chosen.sigma[:, column], np.abs(chosen[name]))


def test_a_label_that_the_table_lacks():
    with pytest.raises(
        InputError, match=r"label of this table \(fe_h, logg, teff\), found 'mg_fe'"
    ):
        make()["mg_fe"]
    with pytest.raises(InputError, match="label of this table"):
        make().select(["teff", "mg_fe"])


def test_wrong_shapes_and_repeated_names():
    with pytest.raises(
        InputError, match=r"labels.values: expected .*\(1, 3\), found shape \(2, 3\)"
    ):
        Labels(NAMES, np.ones((2, 3)), np.ones((2, 3)), ["a"])
    with pytest.raises(
        InputError, match=r"labels.sigma: expected .*\(2, 3\), found shape \(2, 2\)"
    ):
        make(sigma=np.ones((2, 2)))
    with pytest.raises(InputError, match="each name once"):
        make(names=("teff", "teff", "logg"))


def test_arrays_cannot_be_written_and_those_of_the_caller_still_can():
    values = np.ones((2, 3))
    labels = make(values)
    values[0, 0] = 7.0
    assert labels["teff"][0] == 1.0
    for array in (labels.values, labels.sigma, labels.star_id, labels.select(["teff"]).values):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = array[0]


def test_read_only_copies_once_and_only_where_it_must():
    mine = np.arange(3.0)
    frozen = read_only(mine)
    assert mine.flags.writeable
    assert not np.shares_memory(frozen, mine)
    assert read_only(frozen) is frozen
    assert read_only([1, 2], np.float32).dtype == np.float32


# --- the scale ------------------------------------------------------------------------------------


def test_the_scale_is_median_and_mad_without_the_unknown():
    values = np.array([[5000, 1.0], [5100, np.nan], [5200, 2.0], [5300, 3.0], [90000, 9.0]])
    scale = LabelScale.fit(Labels(("teff", "logg"), values, np.ones((5, 2)), list("abcde")))
    np.testing.assert_allclose(scale.centre, [5200, 2.5])
    np.testing.assert_allclose(scale.width, 1.4826 * np.array([100, 1.0]))
    normal = np.random.default_rng(1).normal(3, 2, (200_000, 1))
    scale = LabelScale.fit(
        Labels(("logg",), normal, np.abs(normal), np.arange(200_000).astype(str))
    )
    assert scale.width[0] == pytest.approx(2.0, rel=0.01)


@settings(max_examples=100, deadline=None)
@given(
    values=hnp.arrays(np.float64, (4, 3), elements=st.floats(-1e5, 1e5)),
    centre=hnp.arrays(np.float64, 3, elements=st.floats(-1e4, 1e4)),
    width=hnp.arrays(np.float64, 3, elements=st.floats(1e-3, 1e4)),
)
def test_scaling_has_an_inverse(values, centre, width):
    scale = LabelScale(NAMES, centre, width)
    np.testing.assert_allclose(scale.unscale(scale.scale(values)), values, rtol=1e-9, atol=1e-6)
    np.testing.assert_allclose(scale.scale(centre), 0.0, atol=1e-12)
    np.testing.assert_allclose(scale.scale(centre + width), 1.0, atol=1e-6)


def test_a_covariance_is_scaled_as_its_samples_are():
    rng = np.random.default_rng(5)
    scale = LabelScale(NAMES, np.array([5000.0, 3.0, -0.5]), np.array([800.0, 0.9, 0.3]))
    root = rng.normal(size=(3, 3))
    covariance = root @ root.T
    samples = rng.multivariate_normal(np.zeros(3), covariance, size=400_000)
    want = np.cov(scale.unscale(samples), rowvar=False)
    size = np.sqrt(np.outer(np.diag(want), np.diag(want)))
    got = scale.unscale_covariance(covariance)
    np.testing.assert_allclose(got / size, want / size, atol=0.01)
    many = scale.unscale_covariance(np.stack([covariance, 4 * covariance]))
    np.testing.assert_allclose(many, [got, 4 * got])


@pytest.mark.parametrize(
    ("centre", "width", "match"),
    [
        ([0, 0], [1, 1], "one centre and one width for each"),
        ([0, 0, 0], [1, 1], "one centre and one width for each"),
        ([0, np.nan, 0], [1, 1, 1], "finite centres"),
        ([0, 0, 0], [1, 0, 1], "positive widths"),
        ([0, 0, 0], [1, np.nan, 1], "positive widths"),
    ],
)
def test_a_scale_that_cannot_be(centre, width, match):
    with pytest.raises(InputError, match=match):
        LabelScale(NAMES, np.array(centre, float), np.array(width, float))


def test_a_training_set_that_cannot_give_a_scale():
    values = np.array([[5000, np.nan, 0.1], [5100, np.nan, 0.2]])
    with pytest.raises(InputError, match=r"training labels: .* found no value of logg"):
        LabelScale.fit(make(values))
    with pytest.raises(InputError, match=r"positive widths.*only one value"):
        LabelScale.fit(make([[5000, 4, 0.1], [5100, 4, 0.2]]))
