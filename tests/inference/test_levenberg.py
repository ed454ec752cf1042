"""Levenberg-Marquardt against closed forms and scipy."""

import numpy as np
import pytest
from scipy.optimize import least_squares, lsq_linear

from spectrolabe.inference.levenberg import Local, box_step, minimise


def sums_of_squares(residual, slope):
    """Half of a sum of squares, for residuals (n, Q) and slopes (n, Q, P) of rows and points."""

    def evaluate(rows, x):
        r, j = residual(rows, x), slope(rows, x)
        return Local(
            0.5 * (r**2).sum(axis=1),
            np.einsum("nqp,nq->np", j, r),
            np.einsum("nqp,nqs->nps", j, j),
        )

    return evaluate


def linear(seed, problems=7, points=20, parameters=5):
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((problems, points, parameters))
    b = rng.standard_normal((problems, points))
    evaluate = sums_of_squares(
        lambda rows, x: np.einsum("nqp,np->nq", a[rows], x) - b[rows], lambda rows, x: a[rows]
    )
    return a, b, evaluate


def rosenbrock():
    def residual(rows, x):
        return np.stack([10 * (x[:, 1] - x[:, 0] ** 2), 1 - x[:, 0]], axis=1)

    def slope(rows, x):
        j = np.zeros((len(x), 2, 2))
        j[:, 0, 0], j[:, 0, 1], j[:, 1, 0] = -20 * x[:, 0], 10.0, -1.0
        return j

    return sums_of_squares(residual, slope)


def test_linear_least_squares_takes_one_step():
    a, b, evaluate = linear(0)
    end = minimise(evaluate, np.zeros((7, 5)), -1e6, 1e6, tolerance=1e-3)
    truth = np.stack([np.linalg.lstsq(x, y, rcond=None)[0] for x, y in zip(a, b, strict=True)])
    assert end.parameters == pytest.approx(truth, abs=1e-5)
    assert end.converged.all()
    assert (end.evaluations == 2).all()
    assert not end.at_low.any()
    assert not end.at_high.any()


def test_rosenbrock_from_many_starts():
    start = np.random.default_rng(1).uniform(-2, 2, (20, 2))
    end = minimise(rosenbrock(), start, -5, 5, tolerance=1e-8, most=100)
    assert end.converged.all()
    assert end.parameters == pytest.approx(np.ones((20, 2)), abs=1e-3)


@pytest.mark.parametrize("seed", range(4))
def test_box_of_a_linear_problem_as_scipy(seed):
    a, b, evaluate = linear(seed)
    low, high = np.full(5, -0.1), np.full(5, 0.1)
    end = minimise(evaluate, np.full((7, 5), 3.0), low, high, tolerance=1e-9)
    for k in range(7):
        truth = lsq_linear(a[k], b[k], bounds=(low, high), method="bvls")
        assert end.local.value[k] == pytest.approx(truth.cost, rel=1e-6)
        assert end.parameters[k] == pytest.approx(truth.x, abs=1e-4)
        assert end.at_low[k].tolist() == (truth.active_mask == -1).tolist()
        assert end.at_high[k].tolist() == (truth.active_mask == 1).tolist()


def test_box_of_a_curved_problem_as_scipy():
    low, high = np.array([-2.0, -2.0]), np.array([0.5, 2.0])
    end = minimise(rosenbrock(), [[-1.2, 1.0]], low, high, tolerance=1e-10, most=100)
    truth = least_squares(
        lambda x: [10 * (x[1] - x[0] ** 2), 1 - x[0]], [-1.2, 1.0], bounds=(low, high), xtol=1e-12
    )
    assert end.parameters[0] == pytest.approx(truth.x, abs=1e-5)
    assert end.at_high[0].tolist() == [True, False]


def test_a_row_does_not_depend_on_the_others():
    _, _, evaluate = linear(3)
    together = minimise(evaluate, np.zeros((7, 5)), -0.2, 0.2)
    for k in range(7):
        alone = minimise(lambda rows, x, k=k: evaluate(rows + k, x), np.zeros((1, 5)), -0.2, 0.2)
        assert alone.parameters[0] == pytest.approx(together.parameters[k], abs=1e-12)


def test_finished_rows_are_no_longer_asked_for():
    asked = []
    inner = rosenbrock()

    def evaluate(rows, x):
        asked.append(rows.copy())
        return inner(rows, x)

    minimise(evaluate, [[1.0, 1.0], [-1.2, 1.0]], -5, 5, most=50)
    assert asked[0].tolist() == [0, 1]
    assert all(rows.tolist() == [1] for rows in asked[1:])


def test_what_nothing_depends_on_stays():
    def evaluate(rows, x):
        h = np.zeros((len(x), 2, 2))
        h[:, 0, 0] = 1.0
        return Local(0.5 * x[:, 0] ** 2, np.stack([x[:, 0], 0 * x[:, 0]], axis=1), h)

    end = minimise(evaluate, [[3.0, 0.7]], -5, 5)
    assert end.parameters[0] == pytest.approx([0.0, 0.7], abs=1e-6)
    assert end.converged[0]


def test_without_end_it_says_so():
    end = minimise(rosenbrock(), [[-1.2, 1.0]], -5, 5, tolerance=1e-8, most=3)
    assert not end.converged[0]
    assert end.evaluations[0] == 3


def test_a_value_that_is_not_finite_is_not_taken():
    inner = rosenbrock()

    def evaluate(rows, x):
        local = inner(rows, x)
        return Local(np.where(x[:, 0] > 0.5, np.nan, local.value), *local[1:])

    end = minimise(evaluate, [[-1.2, 1.0]], -5, 5, most=60)
    assert np.isfinite(end.local.value[0])
    assert end.parameters[0, 0] <= 0.5 + 1e-3


def test_gain_is_that_of_the_parabola():
    _, _, evaluate = linear(5)
    rows, x = np.arange(7), np.zeros((7, 5))
    here = evaluate(rows, x)
    step, gain = box_step(here, x, np.full((7, 5), -0.05), np.full((7, 5), 0.05), 0.3)
    assert gain == pytest.approx(here.value - evaluate(rows, x + step).value, rel=1e-9)


def test_steps_are_no_longer_than_allowed():
    seen = []
    inner = rosenbrock()

    def evaluate(rows, x):
        seen.append(x[0].copy())
        return inner(rows, x)

    end = minimise(evaluate, [[-1.2, 1.0]], -5, 5, largest=[0.2, 0.3], tolerance=1e-8, most=100)
    moves = np.abs(np.diff(seen, axis=0))
    assert (moves[0] <= np.array([0.2, 0.3]) * (1 + 1e-9)).all()
    assert end.parameters[0] == pytest.approx([1.0, 1.0], abs=1e-3)
