"""The functions that trends are made of, and where they hold."""

import numpy as np
import pytest

from spectrolabe.homogenise.basis import TrendBasis, columns
from spectrolabe.homogenise.support import Support

POINTS = np.random.default_rng(0).normal([5500, 4, 0], [500, 0.5, 0.2], (300, 3))


def along(axis, count=4001):
    """Points on a line through the middle, over the range of the anchors."""
    basis = TrendBasis.of(POINTS)
    points = np.repeat(basis.centre[None], count, axis=0)
    points[:, axis] = np.linspace(basis.low[axis], basis.high[axis], count)
    return basis, points


def of_kind(kind, axes):
    return [i for i, column in enumerate(columns()) if column == (kind, axes)]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_independent_priors_are_a_penalty_on_the_second_derivative(axis):
    basis, points = along(axis)
    bends = basis.design(points)[:, of_kind("bend", (axis,))]
    second = np.diff(bends, 2, axis=0)
    gram = second.T @ second
    assert gram / gram[0, 0] == pytest.approx(np.eye(bends.shape[1]), abs=0.02)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_bends_have_no_straight_part(axis):
    basis, points = along(axis)
    bends = basis.design(points)[:, of_kind("bend", (axis,))]
    line = np.column_stack([np.ones(len(points)), np.linspace(-1, 1, len(points))])
    assert np.abs(line.T @ bends / len(points)).max() < 2e-3


def test_slopes_are_straight():
    basis, points = along(0)
    slope = basis.design(points)[:, of_kind("slope", (0,))[0]]
    assert np.abs(np.diff(slope, 2)).max() < 1e-12
    assert slope[-1] - slope[0] == pytest.approx(np.ptp(POINTS[:, 0]) / POINTS[:, 0].std())


def test_functions_stay_at_the_edge_beyond_it():
    basis = TrendBasis.of(POINTS)
    far = np.array([[9000.0, 9.0, 3.0], [1000.0, -5.0, -9.0]])
    edge = np.array([basis.high, basis.low])
    assert basis.design(far) == pytest.approx(basis.design(edge), abs=1e-12)


def test_a_left_out_axis_keeps_its_products():
    basis = TrendBasis.of(POINTS)
    amplitude = {"constant": 1.0, "slope": 2.0, "bend": 0.5, "cross": 0.1}
    precision = basis.precision(amplitude, without=(2,))
    assert np.isinf(precision[of_kind("slope", (2,)) + of_kind("bend", (2,))]).all()
    assert np.isfinite(precision[of_kind("cross", (0, 2))]).all()
    assert precision[of_kind("slope", (0,))[0]] == pytest.approx(0.25)


def test_anchors_alike_do_not_divide_by_zero():
    design = TrendBasis.of(np.repeat([[5000.0, 4.0, 0.0]], 10, axis=0)).design(POINTS)
    assert np.isfinite(design).all()


def test_support_is_full_among_anchors_and_none_far_away():
    support = Support.of(POINTS)
    assert (support.share(support.distance(POINTS)) == 1).mean() > 0.9
    line = np.column_stack([np.linspace(5500, 12000, 300), np.full(300, 4.0), np.zeros(300)])
    share = support.share(support.distance(line))
    assert share[0] == 1
    assert share[-1] == 0
    assert (np.diff(share) <= 1e-12).all()
    assert np.abs(np.diff(share)).max() < 0.05  # no step


def test_distance_is_the_mean_to_the_six_nearest():
    anchors = np.array([[5000.0 + 100 * i, 4.0, 0.0] for i in range(9)])
    support = Support(anchors, np.array([100.0, 0.1, 0.05]), 1.0)
    stars = np.array([[5000.0, 4.0, 0.0], [5000.0, 4.3, 0.0]])
    expected = [2.5, np.hypot(np.arange(6), 3.0).mean()]
    assert support.distance(stars) == pytest.approx(expected)


def test_a_star_without_gravity_has_no_support():
    support = Support.of(POINTS)
    distance = support.distance(np.array([[5500.0, np.nan, 0.0], [5500.0, 4.0, 0.0]]))
    assert np.isinf(distance[0])
    assert support.share(distance) == pytest.approx([0.0, 1.0])
