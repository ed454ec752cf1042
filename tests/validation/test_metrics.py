"""The metrics against the closed forms of normal residuals."""

from __future__ import annotations

import io

import numpy as np
import pytest
from rich.console import Console
from scipy.stats import norm

from spectrolabe.errors import InputError
from spectrolabe.labels import Labels
from spectrolabe.models.posterior import LabelPosterior
from spectrolabe.validation.metrics import evaluate, evaluate_bins, mad, to_markdown, to_rich

NAMES = ("teff", "logg")
STARS = 20_000


def labels(values, sigma=np.nan, names=NAMES):
    values = np.asarray(values, dtype=float)
    sigma = np.broadcast_to(sigma, values.shape)
    return Labels(names, values, sigma, np.arange(len(values)))


def posterior(values, sigma):
    return LabelPosterior.independent(NAMES, values, sigma, np.arange(len(values)))


@pytest.fixture
def normal():
    """Truth, and estimates that are off by normal errors of 50 K and 0.1 dex, biased by 10 K."""
    rng = np.random.default_rng(2)
    truth = rng.uniform([4000, 0], [7000, 5], (STARS, 2))
    return labels(truth), truth + rng.normal([10, 0], [50, 0.1], (STARS, 2))


def test_normal_residuals(normal):
    truth, values = normal
    teff, logg = evaluate(truth, posterior(values, [50, 0.1]))
    assert (teff.label, teff.unit, teff.stars, teff.missing) == ("teff", "K", STARS, 0)
    # standard error of a median: 1.2533 sigma / sqrt(N); of a MAD: 1.1664 sigma / sqrt(N)
    assert teff.bias == pytest.approx(10, abs=4 * 1.2533 * 50 / np.sqrt(STARS))
    assert teff.mad == pytest.approx(50, abs=4 * 1.1664 * 50 / np.sqrt(STARS))
    assert teff.rmse == pytest.approx(np.hypot(50, 10), rel=0.02)
    assert logg.pull_median == pytest.approx(0.0, abs=0.04)
    assert logg.pull_std == pytest.approx(1.0, abs=0.04)
    assert teff.pull_median == pytest.approx(0.2, abs=0.04)
    assert logg.coverage_68 == pytest.approx(0.68, abs=0.014)
    assert logg.coverage_95 == pytest.approx(0.95, abs=0.007)


def test_coverage_of_an_uncertainty_that_is_twice_too_small(normal):
    truth, values = normal
    _, logg = evaluate(truth, posterior(values, [25, 0.05]))
    assert logg.pull_std == pytest.approx(2.0, abs=0.08)
    half = norm.ppf(0.84)
    assert logg.coverage_68 == pytest.approx(norm.cdf(half / 2) - norm.cdf(-half / 2), abs=0.014)


def test_outliers_are_counted_and_do_not_move_the_spread():
    residual = np.concatenate([norm.ppf(np.linspace(0.001, 0.999, 999)), np.full(10, 50.0)])
    values = np.stack([residual, residual], axis=1)
    (row, stated) = evaluate(labels(0 * values), labels(values), outlier_limits={"logg": 2.0})
    assert row.mad == pytest.approx(1.0, abs=0.02)
    assert row.outlier_limit == pytest.approx(4 * row.mad)
    assert row.outlier_fraction == 10 / 1009
    assert stated.outlier_limit == 2.0
    assert stated.outlier_fraction == np.mean(np.abs(residual) > 2.0)
    assert row.rmse > 4


def test_by_hand():
    (row,) = evaluate(
        labels([[10.0], [20.0], [30.0], [40.0]], names=("teff",)),
        labels([[11.0], [18.0], [33.0], [40.0]], 2.0, names=("teff",)),
    )
    assert row.bias == 0.5  # residuals 1, -2, 3, 0
    assert row.mad == pytest.approx(1.4826 * 1.5)  # distances 0.5, 2.5, 2.5, 0.5
    assert row.rmse == pytest.approx(np.sqrt(14 / 4))
    assert row.pull_median == 0.25
    assert row.coverage_68 == 0.5
    assert row.coverage_95 == 1.0


def test_unknown_truth_is_left_out_and_a_missing_estimate_is_counted():
    truth = labels([[5000, 4.0], [np.nan, 3.0], [6000, np.nan], [5500, 2.0]])
    estimate = labels([[5100, 4.0], [9999, 3.0], [6100, 9.0], [np.nan, 2.0]])
    teff, logg = evaluate(truth, estimate)
    assert (teff.stars, teff.missing, teff.bias) == (2, 1, 100.0)
    assert (logg.stars, logg.missing, logg.rmse) == (3, 0, 0.0)
    assert np.isnan(teff.pull_std)


def test_the_uncertainty_of_the_truth_in_quadrature():
    truth = labels(np.zeros((3, 2)), [[30, 0], [np.nan, np.nan], [30, 0]])
    estimate = labels([[50, 1], [40, 1], [-50, 1]], [40, 1])
    without, _ = evaluate(truth, estimate)
    with_it, _ = evaluate(truth, estimate, truth_sigma=True)
    assert without.pull_median == 1.0
    np.testing.assert_allclose(with_it.pull_median, 1.0)  # 50/50, 40/40, -50/50
    assert with_it.coverage_68 == 0.0
    assert with_it.coverage_95 == 1.0
    np.testing.assert_allclose(without.pull_std, 1.4826 * 0.25)
    assert with_it.pull_std == pytest.approx(0.0, abs=1e-12)


def test_bootstrap_errors_are_the_standard_errors():
    rng = np.random.default_rng(8)
    residual = rng.normal(0, 50, (2000, 1))
    (row,) = evaluate(
        labels(0 * residual, names=("teff",)),
        labels(residual, 50, names=("teff",)),
        bootstrap=150,
        rng=np.random.default_rng(1),
    )
    assert row.errors["bias"] == pytest.approx(1.2533 * 50 / np.sqrt(2000), rel=0.3)
    assert row.errors["rmse"] == pytest.approx(50 / np.sqrt(2 * 2000), rel=0.3)
    assert row.errors["coverage_68"] == pytest.approx(np.sqrt(0.68 * 0.32 / 2000), rel=0.3)
    assert row.as_dict()["e_bias"] == row.errors["bias"]


def test_bootstrap_repeats_with_the_seed_and_needs_one(normal):
    truth, values = normal
    truth, estimate = truth.take(range(50)), labels(values[:50])
    first, second, other = (
        evaluate(truth, estimate, bootstrap=5, rng=np.random.default_rng(seed))
        for seed in (1, 1, 2)
    )
    assert first[0].errors["mad"] == second[0].errors["mad"] != other[0].errors["mad"]
    with pytest.raises(InputError, match="random generator"):
        evaluate(truth, estimate, bootstrap=5)


def test_bins_hold_the_stars_between_their_edges():
    rng = np.random.default_rng(4)
    snr = rng.uniform(0, 100, STARS)
    snr[:100] = np.nan
    values = rng.normal(0, 1, (STARS, 2)) * np.where(snr < 50, 2.0, 1.0)[:, None]
    values[:100] = 1e6
    rows = evaluate_bins(labels(0 * values), labels(values), snr, [0, 50, 100, 200], name="S/N")
    assert [row.label for row in rows] == ["teff", "logg"] * 3
    assert rows[0].mad == pytest.approx(2.0, rel=0.05)
    assert rows[2].mad == pytest.approx(1.0, rel=0.05)
    assert (rows[0].low, rows[0].high, rows[0].quantity) == (0, 50, "S/N")
    assert rows[0].stars + rows[2].stars == STARS - 100
    assert rows[4].stars == 0
    assert np.isnan(rows[4].mad)


def test_an_edge_belongs_to_the_bin_above():
    zero = labels(np.zeros((3, 2)))
    rows = evaluate_bins(zero, zero, [1.0, 2.0, 3.0], [1.0, 2.0, 3.0], name="S/N")
    assert [row.stars for row in rows] == [1, 1, 1, 1]


@pytest.mark.parametrize("edges", [[1.0], [2.0, 1.0], [1.0, np.nan]])
def test_edges_must_ascend(edges):
    zero = labels(np.zeros((1, 2)))
    with pytest.raises(InputError, match="S/N: expected two or more ascending edges"):
        evaluate_bins(zero, zero, [1.0], edges, name="S/N")


def test_tables_of_different_stars_are_an_error():
    zero = labels(np.zeros((3, 2)))
    with pytest.raises(InputError, match="Join the two tables by star"):
        evaluate(zero, zero.take([1, 0, 2]))
    with pytest.raises(InputError, match="expected at least one of teff, logg, found fe_h"):
        evaluate(zero, labels(np.zeros((3, 1)), names=("fe_h",)))
    with pytest.raises(InputError, match=r"shape \(3,\)"):
        evaluate_bins(zero, zero, [1.0], [0, 1], name="S/N")
    with pytest.raises(InputError, match="Did you mean 'logg'"):
        evaluate(zero, zero, outlier_limits={"log_g": 1.0})


def test_labels_by_name_and_not_by_place():
    truth = labels([[5000.0, 4.0]])
    (fe, teff) = evaluate(truth, labels([[4.5, 5050.0]], names=("logg", "teff")))
    assert (fe.label, fe.bias) == ("logg", 0.5)
    assert (teff.label, teff.bias) == ("teff", 50.0)


def test_rendering(normal):
    truth, values = normal
    rng = np.random.default_rng(0)
    rows = evaluate(truth, posterior(values, [50, 0.1]), bootstrap=3, rng=rng)
    lines = to_markdown(rows).splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("| label | stars | missing | bias | 1.4826 MAD |")
    assert lines[2].startswith("| teff [K] | 20000 | 0 | ")
    assert len({line.count("|") for line in lines}) == 1
    assert f"{rows[0].mad:.1f} ± {rows[0].errors['mad']:.1f}" in lines[2]
    binned = evaluate_bins(truth, labels(values), values[:, 0], [0, 5500, np.inf], name="Teff")
    text = to_markdown(binned)
    assert "| label | Teff |" in text
    assert "| 5500 to inf |" in text
    assert "| – |" in text  # no uncertainty, hence no pulls
    with pytest.raises(InputError, match="one binning"):
        to_markdown([*rows, *binned])
    out = Console(file=io.StringIO(), width=200)
    out.print(to_rich(rows, title="Validation"))
    assert "teff [K]" in out.file.getvalue()
    assert "Validation" in out.file.getvalue()


def test_mad_of_nothing_is_nan():
    assert np.isnan(mad([]))
    assert mad([1.0, 2.0, 4.0]) == pytest.approx(1.4826)
