"""The linear model against closed forms."""

import numpy as np
import pytest

from spectrolabe.homogenise.joint import LeftOut, Rows, cross_validate, solve

FREE = 1e-12


def pairs(rng, count, slope=0.3, sigma=0.1, extra=0.0):
    """Rows of pairs with a linear trend."""
    x = rng.normal(size=(2 * count, 1))
    mean = np.repeat(rng.normal(size=count), 2)
    error = np.hypot(sigma, extra) * rng.normal(size=2 * count)
    group = np.repeat(np.arange(count), 2)
    value = mean + slope * x[:, 0] + error
    everywhere = np.ones(2 * count, dtype=bool)
    return Rows(value, np.full(2 * count, sigma**2), everywhere, group, x)


def test_slope_of_pairs_is_that_of_their_differences():
    rows = pairs(np.random.default_rng(1), 40, sigma=0.1)
    fit = solve(rows, np.array([FREE]))
    d, dx = np.diff(rows.value.reshape(-1, 2)), np.diff(rows.design.reshape(-1, 2))
    weight = fit.weight.reshape(-1, 2)[:, :1]
    variance = 2 * (0.1**2 + fit.scatter**2)
    expected = np.sum(weight * d * dx) / np.sum(weight * dx**2)
    assert fit.coefficients[0] == pytest.approx(expected, rel=1e-4)
    assert fit.covariance[0, 0] == pytest.approx(variance / np.sum(weight * dx**2), rel=1e-3)


def test_a_reference_star_counts_with_both_its_errors():
    """Three references with zero trend columns but a constant: an inverse-variance mean."""
    offset = np.array([0.30, 0.10, 0.22])
    own, other = np.array([0.1, 0.2, 0.1]), np.array([0.2, 0.1, 0.05])
    rows = Rows(
        np.r_[offset, np.zeros(3)],
        np.r_[own, other] ** 2,
        np.repeat([True, False], 3),
        np.r_[np.arange(3), np.arange(3)],
        np.repeat([[1.0], [0.0]], 3, axis=0),
    )
    fit = solve(rows, np.array([FREE]))
    assert fit.scatter == 0.0
    weight = fit.weight[:3] / (own**2 + other**2)
    assert fit.coefficients[0] == pytest.approx(np.average(offset, weights=weight), rel=2e-2)
    assert fit.covariance[0, 0] == pytest.approx(1 / weight.sum(), rel=5e-2)


def test_scatter_beyond_the_errors_is_found():
    rows = pairs(np.random.default_rng(2), 1500, sigma=0.1, extra=0.15)
    assert solve(rows, np.array([FREE])).scatter == pytest.approx(0.15, rel=0.06)


def test_no_scatter_where_errors_explain_all():
    rows = pairs(np.random.default_rng(3), 1500, sigma=0.1)
    assert solve(rows, np.array([FREE])).scatter < 0.03


def test_gross_mistakes_hardly_matter():
    rows = pairs(np.random.default_rng(4), 200)
    value = rows.value.copy()
    value[::40] += 5.0 * np.sign(rows.design[::40, 0])  # one pair in twenty
    wrong = Rows(value, rows.variance, rows.measured, rows.group, rows.design)
    clean, robust = solve(rows, np.array([FREE])), solve(wrong, np.array([FREE]))
    assert robust.coefficients[0] == pytest.approx(clean.coefficients[0], abs=0.01)
    assert (robust.weight[::40] < 1e-3).all()
    d, dx = np.diff(value.reshape(-1, 2)), np.diff(rows.design.reshape(-1, 2))
    assert abs(np.sum(d * dx) / np.sum(dx**2) - 0.3) > 0.05  # least squares is off


def test_deviations_left_out_are_those_of_a_fit_without_the_group():
    rows = pairs(np.random.default_rng(5), 30)
    precision = np.array([4.0])
    fold = np.arange(30) % 5
    held = LeftOut.of(rows, solve(rows, precision), fold)
    fit = solve(rows, precision)
    inside = np.isin(rows.group, np.flatnonzero(fold == 2))
    d = np.diff(rows.value.reshape(-1, 2))[fold != 2, 0]
    dx = np.diff(rows.design.reshape(-1, 2))[fold != 2, 0]
    weight = fit.weight[::2][fold != 2] / (2 * (rows.variance[0] + fit.scatter**2))
    slope = np.sum(weight * d * dx) / (np.sum(weight * dx**2) + 4.0)
    half = 0.5 * np.array([[1, -1], [-1, 1]])
    deviation = (rows.value - slope * rows.design[:, 0]).reshape(-1, 2) @ half
    assert held.after(precision)[inside] == pytest.approx(deviation.ravel()[inside], abs=1e-5)


def test_a_trend_that_is_not_there_gets_the_stiff_prior():
    precisions = [np.array([p]) for p in (1e6, 1.0)]
    nothing = pairs(np.random.default_rng(6), 100, slope=0.0)
    steep = pairs(np.random.default_rng(6), 100, slope=0.5)
    fold = np.arange(100) % 10
    _, share = cross_validate(steep, precisions, fold)
    assert share[1] > 0.999
    fit, share = cross_validate(nothing, precisions, fold)
    assert share[0] > 0.2
    assert abs(fit.coefficients[0]) < 0.02


def test_an_infinite_precision_leaves_a_column_out():
    rows = pairs(np.random.default_rng(7), 20)
    fit = solve(rows, np.array([np.inf]))
    assert fit.coefficients[0] == 0.0
    assert fit.covariance[0, 0] == 0.0
