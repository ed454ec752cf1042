"""Trends of made-up stars: found, removed, faded, and known as well as stated."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from spectrolabe.catalogue.schema import LabelFlag
from spectrolabe.errors import InputError
from spectrolabe.homogenise.anchors import Anchors
from spectrolabe.homogenise.calibration import Calibration
from spectrolabe.homogenise.fitting import fit_calibration
from spectrolabe.labels import Labels
from spectrolabe.models.posterior import LabelPosterior
from tests.homogenise.made_up import NAMES, made_up

TRENDS = {
    "teff": lambda t, g, m: 40 + 0.03 * (t - 5500),
    "logg": lambda t, g, m: -0.1 + 0.04 * (g - 4),
    "fe_h": lambda t, g, m: 0.05 + 0.12 * (t - 5500) / 1000,
    "mg_fe": lambda t, g, m: -0.03 - 0.08 * (g - 4),
}


@pytest.fixture(scope="module")
def linear():
    """A sky with linear trends and little noise: truth, labels, anchors and the calibration."""
    true, labels, anchors = made_up(TRENDS, seed=1, noise=0.02)
    return true, labels, anchors, fit_calibration(labels, anchors, names=tuple(TRENDS))


@pytest.fixture(scope="module")
def noisy():
    """The same trends with the stated noise."""
    true, labels, anchors = made_up(TRENDS, seed=2)
    return true, labels, anchors, fit_calibration(labels, anchors, names=tuple(TRENDS))


def test_injected_linear_trends_are_found(linear):
    true, labels, _, calibration = linear
    result = calibration.apply(labels)
    for name in TRENDS:
        i = NAMES.index(name)
        inside = result.support[:, i] == 1
        assert inside.mean() > 0.7
        left = (result.labels[name] - true[:, i])[inside]
        injected = TRENDS[name](*true[inside, :3].T)
        assert np.sqrt(np.mean(left**2)) < 0.1 * np.sqrt(np.mean(injected**2)), name


def test_what_was_injected_is_what_trend_returns(linear):
    true, _, _, calibration = linear
    points = true[200:260, :3]
    value, sigma = calibration.trend("fe_h", points)
    assert value == pytest.approx(TRENDS["fe_h"](*points.T), abs=0.01)
    assert (sigma > 0).all()


def test_raw_values_are_kept_and_not_written(linear):
    _, labels, _, calibration = linear
    before = labels.values.copy()
    result = calibration.apply(labels)
    assert result.raw is labels
    assert np.array_equal(labels.values, before)
    assert result.labels.values == pytest.approx(labels.values + result.correction)


@settings(max_examples=10, deadline=None)
@given(order=st.permutations(range(40)))
def test_order_and_company_of_the_stars_change_nothing(linear, order):
    _, labels, _, calibration = linear
    whole = calibration.apply(labels)
    part = calibration.apply(labels.take(order))
    assert part.labels.values == pytest.approx(whole.labels.values[order], rel=1e-12)
    assert part.labels.sigma == pytest.approx(whole.labels.sigma[order], rel=1e-12)
    assert np.array_equal(part.flags, whole.flags[order])


def test_order_of_anchors_and_of_labels_changes_no_fit(noisy):
    _, labels, anchors, _ = noisy
    rng = np.random.default_rng(0)
    usual = fit_calibration(labels, anchors, names=("mg_fe",)).apply(labels)
    turned = fit_calibration(
        labels.take(rng.permutation(len(labels))),
        anchors.take(rng.permutation(len(anchors))),
        names=("mg_fe",),
    ).apply(labels)
    size = np.abs(usual.correction).max()
    assert size > 0.05
    assert turned.correction == pytest.approx(usual.correction, abs=1e-6 * size)


def test_far_from_anchors_the_zero_point_is_left_and_flagged(noisy):
    _, _, _, calibration = noisy
    far = [[9500.0, 4.0, 0.0, 0.1, 0.0, 1.0], [5500.0, 4.3, -3.5, 0.1, 0.0, 1.0]]
    labels = Labels(NAMES, far, np.full((2, 6), 0.05), ["hot", "poor"])
    result = calibration.apply(labels)
    for name in TRENDS:
        i, trend = NAMES.index(name), calibration.trends[name]
        assert result.correction[:, i] == pytest.approx(-trend.coefficients[0])
        assert (result.flags[:, i] == LabelFlag.EXTRAPOLATED).all()
        assert (result.support[:, i] == 0).all()
        assert (result.sigma[:, i] > trend.amplitude).all()


def test_uncertainty_grows_away_from_the_anchors(noisy):
    _, _, _, calibration = noisy
    teff = np.linspace(5500, 11000, 120)
    points = np.column_stack([teff, np.full(120, 4.4), np.zeros(120)])
    value, sigma = calibration.trend("mg_fe", points)
    faded = calibration.trends["mg_fe"].support.distance(points) > 1.0
    assert faded.sum() > 50
    assert (np.diff(sigma[faded]) > 0).all()
    assert sigma[0] < 0.2 * sigma[-1]
    # no jumps: a fifth of the whole change at most from one star to the next, 46 K hotter
    assert np.abs(np.diff(value)).max() < 0.2 * np.ptp(value) + 1e-3


def test_no_correction_is_larger_than_among_the_anchors(noisy):
    """Nowhere, however far and in whatever direction."""
    _, _, _, calibration = noisy
    rng = np.random.default_rng(3)
    points = rng.uniform([2500, -1, -5], [20000, 7, 2], (5000, 3))
    for trend_name, trend in calibration.trends.items():
        among = calibration.trend(trend_name, trend.support.points)[0]
        anywhere = calibration.trend(trend_name, points)[0]
        zero = trend.coefficients[0]
        assert np.abs(anywhere - zero).max() < 1.3 * np.abs(among - zero).max()


def test_pulls():
    """Corrected less true, of stars that are no anchors, over its stated error: over many skies."""
    pulls, trends = [], []
    column = NAMES.index("mg_fe")
    for seed in range(6):
        true, labels, anchors = made_up(
            TRENDS, seed=10 + seed, binaries=30, references=40, field=500
        )
        calibration = fit_calibration(labels, anchors, names=("mg_fe",))
        result = calibration.apply(labels)
        field = np.arange(len(labels)) >= len(anchors)
        some = field & (result.support[:, column] == 1)
        error = (result.labels.values - true)[some, column]
        pulls.append(error / result.labels.sigma[some, column])
        found, sigma = calibration.trend("mg_fe", true[some, :3])
        trends.append((found - TRENDS["mg_fe"](*true[some, :3].T)) / sigma)
    assert 0.9 < np.std(np.concatenate(pulls)) < 1.1
    assert 0.7 < np.sqrt(np.mean(np.concatenate(trends) ** 2)) < 1.3


def test_labels_without_trends_get_small_corrections():
    """A null test: nothing injected, nothing found."""
    _, labels, anchors = made_up({}, seed=5)
    result = fit_calibration(labels, anchors, names=("fe_h", "mg_fe")).apply(labels)
    for name in ("fe_h", "mg_fe"):
        i = NAMES.index(name)
        assert np.sqrt(np.mean(result.correction[:, i] ** 2)) < 0.02
        assert np.mean(np.abs(result.correction[:, i]) < 2 * result.sigma[:, i]) > 0.9


def test_a_posterior_stays_one_and_its_covariance_is_that_of_its_samples(noisy):
    _, labels, _, calibration = noisy
    steep = calibration.trends["fe_h"]
    assert np.abs(steep.coefficients[1:]).max() > 0.01
    sigma = np.array([60, 0.1, 0.05, 0.06, 0.06, 0.06])
    correlation = np.full((6, 6), 0.4) + 0.6 * np.eye(6)
    star = labels.take([170])
    mean = star.values
    posterior = LabelPosterior(NAMES, mean, (correlation * np.outer(sigma, sigma))[None], ["a"])
    result = calibration.apply(posterior, scatter=False)
    assert isinstance(result.labels, LabelPosterior)
    assert np.array_equal(result.labels.mean, calibration.apply(star).labels.values)
    samples = posterior.samples(np.random.default_rng(0), 8000)[:, 0]
    moved = calibration.apply(Labels(NAMES, samples, np.ones_like(samples), np.arange(8000)))
    scatter = np.cov(moved.labels.values.T)
    stated = result.labels.covariance[0] - np.diag(result.sigma[0] ** 2)
    unit = np.outer(sigma, sigma)
    assert stated / unit == pytest.approx(scatter / unit, abs=0.05)
    # and that is not the covariance before
    assert abs(stated[0, 2] - posterior.covariance[0, 0, 2]) / unit[0, 2] > 0.03


def test_scatter_of_the_anchors_is_added_unless_not_wanted():
    _, labels, anchors = made_up(TRENDS, seed=6)
    small = Labels(labels.names, labels.values, labels.sigma / 3, labels.star_id)
    calibration = fit_calibration(small, anchors, names=("mg_fe",))
    scatter = calibration.trends["mg_fe"].scatter
    assert scatter == pytest.approx(0.06, rel=0.25)
    i = NAMES.index("mg_fe")
    with_it = calibration.apply(small).labels.sigma[:, i] ** 2
    without = calibration.apply(small, scatter=False).labels.sigma[:, i] ** 2
    assert with_it - without == pytest.approx(np.full(len(small), scatter**2))


def test_labels_that_were_not_calibrated_stay_and_say_so(noisy):
    _, labels, anchors, _ = noisy
    result = fit_calibration(labels, anchors, names=("mg_fe",)).apply(labels)
    for name in ("teff", "logg", "fe_h", "li_fe"):
        i = NAMES.index(name)
        assert np.array_equal(result.labels.values[:, i], labels.values[:, i])
        assert np.array_equal(result.labels.sigma[:, i], labels.sigma[:, i])
        assert (result.flags[:, i] == LabelFlag.UNCALIBRATED).all()


def test_missing_values_stay_missing_and_spoil_no_other(noisy):
    _, labels, _, calibration = noisy
    values, sigma = labels.values[-3:].copy(), labels.sigma[-3:].copy()
    values[0, 3] = sigma[0, 3] = np.nan
    values[1, 1] = sigma[1, 1] = np.nan
    result = calibration.apply(Labels(NAMES, values, sigma, labels.star_id[-3:]))
    assert np.argwhere(np.isnan(result.labels.values)).tolist() == [[0, 3], [1, 1]]
    assert result.flags[0, 3] == LabelFlag.NO_INFORMATION
    # without log g only the zero point can be taken off
    assert result.flags[1, 2] == LabelFlag.EXTRAPOLATED
    assert result.correction[1, 2] == pytest.approx(-calibration.trends["fe_h"].coefficients[0])
    posterior = LabelPosterior.independent(NAMES, values, sigma, labels.star_id[-3:])
    assert np.array_equal(
        np.isnan(calibration.apply(posterior).labels.mean), np.isnan(result.labels.values)
    )


def test_temperature_needs_reference_stars():
    _, labels, anchors = made_up(TRENDS, references=0)
    calibration = fit_calibration(labels, anchors)
    assert set(calibration.names) == {"fe_h", "mg_fe", "c_fe"}
    card = calibration.trends["fe_h"].card
    assert card["zero_point"] == "none: mean over the anchors"
    assert not card["trend_with_fe_h"]
    assert calibration.trends["fe_h"].coefficients[0] == 0.0
    with pytest.raises(InputError, match=r"anchors of teff.*Only references that have teff"):
        fit_calibration(labels, anchors, names=("teff",))


def test_an_error_of_fe_h_is_not_mistaken_for_a_trend_with_fe_h():
    """Each member's own [Fe/H] would explain its own error entirely."""
    _, labels, anchors = made_up({}, seed=7, references=12)
    calibration = fit_calibration(labels, anchors, names=("fe_h",))
    points = np.repeat([[5500.0, 4.4, -0.3], [5500.0, 4.4, 0.3]], 1, axis=0)
    low, high = calibration.trend("fe_h", points)[0]
    assert abs(high - low) / 0.6 < 0.1


def test_carbon_of_giants_is_no_evidence():
    """The first dredge-up lowers [C/Fe] of giants: true in the same cluster, and no trend."""
    dredge = {"c_fe": lambda t, g, m: np.where(g < 3.5, -0.2, 0.0)}
    _, labels, anchors = made_up(dredge, seed=8, references=0, clusters=8)
    result = fit_calibration(labels, anchors, names=("c_fe",)).apply(labels)
    dwarfs = labels["logg"] > 3.9
    assert np.abs(result.correction[dwarfs, 4]).max() < 0.06
    # with magnesium the same is a trend, and is found
    same = {"mg_fe": dredge["c_fe"]}
    _, labels, anchors = made_up(same, seed=8, references=0, clusters=8)
    result = fit_calibration(labels, anchors, names=("mg_fe",)).apply(labels)
    giants = labels["logg"] < 3.0
    step = result.correction[giants, 3].mean() - result.correction[dwarfs, 3].mean()
    assert step == pytest.approx(0.2, abs=0.06)


def test_a_file_gives_the_same_calibration_back(noisy, tmp_path):
    _, labels, anchors, calibration = noisy
    path = tmp_path / "calibration.safetensors"
    calibration.save(path)
    loaded = Calibration.load(path)
    assert loaded.names == calibration.names
    one, other = calibration.apply(labels), loaded.apply(labels)
    assert np.array_equal(one.labels.values, other.labels.values)
    assert np.array_equal(one.labels.sigma, other.labels.sigma)
    assert loaded.card["anchors"] == {"binary": 60, "cluster": 3, "reference": 60}
    card = loaded.trends["fe_h"].card
    assert card["stars"] == len(anchors)
    assert card["cross_validated"]["binary"]["after"] < card["cross_validated"]["binary"]["before"]
    assert json.loads(json.dumps(loaded.card)) == dict(loaded.card)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_files_that_are_no_calibrations(tmp_path, noisy):
    with pytest.raises(InputError, match="no such file"):
        Calibration.load(tmp_path / "none")
    (tmp_path / "text").write_text("teff,logg\n")
    with pytest.raises(InputError, match="a calibration written by Spectrolabe"):
        Calibration.load(tmp_path / "text")
    save_file({"a": np.ones(2)}, tmp_path / "weights")
    with pytest.raises(InputError, match="another safetensors file"):
        Calibration.load(tmp_path / "weights")
    save_file({"a": np.ones(2)}, tmp_path / "old", {"spectrolabe_calibration": '{"format": 0}'})
    with pytest.raises(InputError, match=r"format 1 of calibrations, found 0.*fit it again"):
        Calibration.load(tmp_path / "old")


def test_input_that_cannot_be_used(noisy):
    _, labels, anchors, calibration = noisy
    with pytest.raises(InputError, match="Missing: logg"):
        calibration.apply(labels.select(["teff", "fe_h"]))
    with pytest.raises(InputError, match="Missing: fe_h"):
        fit_calibration(labels.select(["teff", "logg", "mg_fe"]), anchors)
    others = Labels(NAMES, labels.values, labels.sigma, np.char.add("x", labels.star_id))
    with pytest.raises(InputError, match="none of 216: star0000 and others; labels are of xstar00"):
        fit_calibration(others, anchors)
    with pytest.raises(InputError, match="2 of star0003"):
        fit_calibration(labels.take(np.r_[np.arange(len(labels)), 3]), anchors)
    with pytest.raises(InputError, match=r"a known label of this table.*found .ti_fe."):
        fit_calibration(labels, anchors, names=("ti_fe",))
    with pytest.raises(InputError, match="5 binaries, clusters or reference stars"):
        fit_calibration(labels, anchors.take(np.arange(8)))
    with pytest.raises(InputError, match=r"anchors of mg_fe.*found 4 with 8"):
        fit_calibration(labels, anchors.take(np.arange(8)), names=("mg_fe",))


def test_a_pair_of_which_one_star_is_missing_is_left_out(noisy):
    _, labels, anchors, _ = noisy
    calibration = fit_calibration(labels.take(np.arange(1, len(labels))), anchors, names=("fe_h",))
    assert calibration.card["anchors"]["binary"] == 59
    assert calibration.card["not_in_labels"] == 2


def test_a_cluster_of_known_metallicity_has_a_zero_point():
    """One member's reference label is evidence for all members."""
    true, labels, anchors = made_up({"fe_h": lambda t, g, m: 0.2 + 0 * t}, references=0, seed=9)
    known = np.full_like(anchors.reference.values, np.nan)
    rows = np.flatnonzero(anchors.kind == "cluster")
    known[rows, 2] = true[rows, 2]
    sigma = np.full_like(known, 0.02)
    with_one = Anchors(anchors.group, anchors.kind, Labels(NAMES, known, sigma, anchors.star_id))
    calibration = fit_calibration(labels, with_one, names=("fe_h",))
    assert calibration.trends["fe_h"].coefficients[0] == pytest.approx(0.2, abs=0.04)
    # the members' own errors hardly matter: one value is known of each cluster
    assert calibration.trends["fe_h"].card["zero_point"] == "reference stars"
