"""chi2 of model spectra, its gradient and its curvature, against dense algebra and differences."""

import numpy as np
import pytest
from scipy.optimize import least_squares

from spectrolabe.errors import InputError
from spectrolabe.inference.continuum import arms, continuum_basis, curvature_penalty
from spectrolabe.inference.data import Data, clipped, tempered, with_model_error
from spectrolabe.inference.forward import Forward, Problem, Robust
from spectrolabe.inference.levenberg import minimise
from spectrolabe.inference.normal import HUBER, normal_equations, solve_continuum
from spectrolabe.inference.pieces import Cutting, cut
from spectrolabe.inference.priors import Priors
from spectrolabe.inference.solve import inverse
from tests.inference.made_up import EMULATOR, draw_labels, spectra

CLEAN = Cutting(model_error=0.0)


def made_up_data(seed=0, pixels=600, coefficients=5, parameters=4):
    rng = np.random.default_rng(seed)
    basis = continuum_basis(np.linspace(8.5, 8.6, pixels), 1000.0, coefficients - 1)
    flux = rng.uniform(0.4, 1.0, pixels).astype(np.float32)
    observed = flux * (1 + 0.2 * np.linspace(-1, 1, pixels)) + 0.01 * rng.standard_normal(pixels)
    root = np.where(rng.uniform(size=pixels) < 0.1, 0, 100).astype(np.float32)
    slopes = (0.1 * rng.standard_normal((parameters, pixels))).astype(np.float32)
    ridge = 1e-9 * curvature_penalty(basis.arm)
    noise = np.full(pixels, 1e-4, dtype=np.float32)
    data = Data(observed.astype(np.float32), root, basis, ridge, noise, np.ones_like(noise))
    return data, flux, slopes


def dense(data, flux, slopes, continuum):
    """Weighted columns of the whole problem, continuum first, and the data."""
    columns = np.vstack([data.basis.dense() * flux, continuum * slopes]).astype(float)
    return (columns * data.root).T, data.flux.astype(float) * data.root


def test_continuum_is_that_of_dense_least_squares():
    data, flux, slopes = made_up_data()
    solved = solve_continuum(data, flux, None, robust=False)
    matrix, observed = dense(data, flux, slopes[:0], 1.0)
    truth = np.linalg.lstsq(matrix, observed, rcond=None)[0]
    assert solved.coefficients == pytest.approx(truth, rel=1e-4)
    assert solved.value == pytest.approx(0.5 * ((observed - matrix @ truth) ** 2).sum(), rel=1e-4)


def test_schur_complement_is_that_of_dense_normal_equations():
    data, flux, slopes = made_up_data()
    solved = solve_continuum(data, flux, None, robust=False)
    gradient, curvature = normal_equations(data, solved, (slopes[:1], slopes[1:2], slopes[2:]))
    matrix, observed = dense(data, flux, slopes, solved.continuum)
    count = data.basis.size
    covariance = np.linalg.inv(matrix.T @ matrix)[count:, count:]
    assert np.linalg.inv(curvature) == pytest.approx(
        covariance, rel=1e-3, abs=1e-4 * covariance.max()
    )
    step = np.linalg.lstsq(matrix, observed, rcond=None)[0][count:]
    sigma = np.sqrt(np.diagonal(covariance))
    assert -np.linalg.solve(curvature, gradient) / sigma == pytest.approx(step / sigma, abs=2e-3)


def test_robust_continuum_as_scipy():
    data, flux, _ = made_up_data()
    spoilt = data.flux.copy()
    spoilt[::20] += 3.0
    data = data._replace(flux=spoilt)
    solved = solve_continuum(data, flux, None, robust=True, rounds=40)
    truth = least_squares(
        lambda a: (data.flux - flux * (a @ data.basis.dense())) * data.root,
        np.ones(data.basis.size),
        loss="huber",
        f_scale=HUBER,
        xtol=1e-12,
        ftol=1e-12,
    )
    assert solved.coefficients == pytest.approx(truth.x, rel=1e-4)
    assert solved.value == pytest.approx(truth.cost, rel=1e-4)


def test_continuum_basis_sums_to_one_in_every_arm():
    x = np.r_[np.linspace(8.50, 8.55, 200), np.linspace(8.60, 8.62, 100)]
    assert [part.indices(300)[:2] for part in arms(x)] == [(0, 200), (200, 300)]
    for order in (0, 1, 3, 6, None):
        own = continuum_basis(x, 20_000.0, order)
        basis, arm = own.dense(), own.arm
        assert basis.sum(axis=0) == pytest.approx(np.ones(300), abs=1e-6)
        assert not basis[arm == 0, 200:].any()
        if order is not None:
            assert np.bincount(arm).tolist() == [order + 1, order + 1]
            weights = np.polynomial.polynomial.polyval(x[:200] - 8.5, [1.0] * (min(order, 3) + 1))
            left = np.linalg.lstsq(basis[arm == 0, :200].T, weights, rcond=None)[1]
            assert left.sum() < 1e-8


def forward_of(labels, columns, *, priors=None, broad=True, shift=11.0, start=None, **options):
    own = spectra(labels, rv=12.0, v_broad=9.0, **options)
    pieces = [cut([one], [EMULATOR], np.array([shift]), CLEAN) for one in own]
    return Forward(
        [EMULATOR],
        pieces,
        labels if start is None else start,
        columns,
        np.full((len(labels), 1), shift),
        fit_broadening=broad,
        priors=Priors.none() if priors is None else priors,
    )


@pytest.mark.parametrize("robust", [Robust.HUBER, Robust.PLAIN])
def test_gradient_is_that_of_differences(robust):
    labels = draw_labels(3, seed=1)
    forward = forward_of(labels, [0, 1, 2, 3, 9, 20], priors=Priors.weak(EMULATOR), snr=50.0)
    rows = np.arange(3)
    x = forward.start + 0.3 * np.r_[50, 0.1, 0.1, 0.1, 0.1, 0.1, 50, 1.0]
    forward.evaluate(rows, x)  # sets the robust weights
    forward.robust[:] = robust
    here = forward.evaluate(rows, x)
    sigma = 1 / np.sqrt(np.diagonal(here.curvature, axis1=1, axis2=2))
    for p in range(x.shape[1]):
        step = np.zeros_like(x)
        step[:, p] = 0.2 * sigma[:, p]
        up, down = (forward.evaluate(rows, x + s * step).value for s in (1, -1))
        slope = (up - down) / 0.4  # in units of sigma
        assert here.gradient[:, p] * sigma[:, p] == pytest.approx(slope, abs=0.05, rel=0.01)


def test_curvature_is_that_of_differences_at_the_minimum():
    labels = draw_labels(1, seed=2)
    forward = forward_of(labels, [0, 1, 5, 12], snr=np.inf)
    end = minimise(forward.evaluate, forward.start, forward.low, forward.high, tolerance=1e-4)
    forward.robust[:] = Robust.PLAIN
    end = minimise(forward.evaluate, end.parameters, forward.low, forward.high, tolerance=1e-4)
    problem = Problem(forward, 0, end.parameters[0])
    assert problem.names == ("teff", "logg", EMULATOR.names[5], EMULATOR.names[12], "v_broad")
    assert problem.start[:4] == pytest.approx(labels[0, [0, 1, 5, 12]], abs=0.02, rel=1e-3)
    assert problem.start[4] == pytest.approx(9.0, abs=0.3)
    covariance = problem.outwards_covariance(inverse(end.local.curvature[0]))
    sigma = np.sqrt(np.diagonal(covariance))
    count = len(sigma)
    function = lambda z: problem.minus_log_posterior(problem.start + z * sigma)  # noqa: E731
    hessian, one = np.zeros((count, count)), np.eye(count)
    for i in range(count):
        for j in range(count):
            points = [a * one[i] + b * one[j] for a, b in ((1, 1), (1, -1), (-1, 1), (-1, -1))]
            hessian[i, j] = function(np.array(points)) @ [1, -1, -1, 1] / 4
    numerical = np.linalg.inv(hessian)
    expected = covariance / (sigma[:, None] * sigma)
    assert np.diagonal(numerical) == pytest.approx(np.ones(count), rel=0.05)
    assert numerical == pytest.approx(expected, abs=0.05)


def test_velocity_is_at_its_best_in_the_posterior():
    labels = draw_labels(1, seed=3)
    forward = forward_of(labels, [0, 2], broad=False, shift=12.0)
    forward.evaluate(np.array([0]), forward.start)
    forward.robust[:] = Robust.PLAIN
    moved = forward.start[0].copy()
    moved[-1] = 12.5
    problem = Problem(forward, 0, moved)
    velocities = np.linspace(11.0, 13.0, 41)
    points = np.repeat(moved[None], 41, axis=0)
    points[:, -1] = velocities
    lowest = forward.evaluate(np.zeros(41, dtype=int), points).value.min()
    assert problem.minus_log_posterior(problem.start[None])[0] == pytest.approx(lowest, abs=0.05)


def test_a_star_does_not_depend_on_its_neighbours():
    labels = draw_labels(5, seed=4)
    columns = list(range(34))
    together = forward_of(labels, columns)
    local = together.evaluate(np.arange(5), together.start)
    again = forward_of(labels, columns)
    turned = again.evaluate(np.array([3, 0]), again.start[[3, 0]])
    assert turned.value == pytest.approx(local.value[[3, 0]], rel=1e-6)
    scale = np.sqrt(np.diagonal(local.curvature, axis1=1, axis2=2))[[3, 0]]
    assert turned.gradient / scale == pytest.approx(local.gradient[[3, 0]] / scale, abs=1e-3)


def test_slopes_are_kept_near_by_and_renewed_farther_away():
    labels = draw_labels(2, seed=6)
    columns = [0, 1, 2, 9]
    rows = np.arange(2)
    forward, other = (forward_of(labels, columns, snr=50.0) for _ in range(2))
    forward.robust[:] = other.robust[:] = Robust.PLAIN
    first = forward.evaluate(rows, forward.start)
    made = list(forward.slopes)
    sigma = 1 / np.sqrt(np.diagonal(first.curvature, axis1=1, axis2=2))
    near = forward.start.copy()
    near[:, 1] += 0.5 * sigma[:, 1]
    here, exact = forward.evaluate(rows, near), other.evaluate(rows, near)
    assert all(a is b for a, b in zip(forward.slopes, made, strict=True))
    assert here.value == pytest.approx(exact.value, rel=1e-6)
    assert here.gradient * sigma == pytest.approx(exact.gradient * sigma, abs=0.05, rel=0.02)
    near[1, 1] += 3.0 * sigma[1, 1]
    here, exact = forward.evaluate(rows, near), other.evaluate(rows, near)
    assert forward.slopes[0] is made[0]
    assert forward.slopes[1] is not made[1]
    assert here.gradient[1] * sigma[1] == pytest.approx(exact.gradient[1] * sigma[1], abs=1e-3)
    forward.restart()
    assert forward.slopes == [None, None]


def test_spectra_of_a_star_add_up():
    labels = draw_labels(1, seed=5)
    one = spectra(labels, rv=12.0, seed=1)[0]
    other = spectra(labels, rv=-20.0, seed=2, resolution=4000.0)[0]
    setup = {"fit_broadening": False, "priors": Priors.none()}
    both = Forward(
        [EMULATOR],
        [cut([one, other], [EMULATOR], np.array([12.0, -20.0]), CLEAN)],
        labels,
        [0, 1, 2],
        [[12.0, -20.0]],
        **setup,
    )
    single = [
        Forward(
            [EMULATOR],
            [cut([s], [EMULATOR], np.array([v]), CLEAN)],
            labels,
            [0, 1, 2],
            [[v]],
            **setup,
        )
        for s, v in ((one, 12.0), (other, -20.0))
    ]
    row = np.array([0])
    total = both.evaluate(row, both.start)
    parts = [f.evaluate(row, f.start) for f in single]
    assert total.value[0] == pytest.approx(parts[0].value[0] + parts[1].value[0], rel=1e-6)
    assert total.gradient[0, :3] == pytest.approx(
        parts[0].gradient[0, :3] + parts[1].gradient[0, :3], rel=1e-4
    )
    assert total.curvature[0, 3, 4] == 0
    assert total.curvature[0, 3, 3] == pytest.approx(parts[0].curvature[0, 3, 3], rel=1e-5)
    assert total.curvature[0, 4, 4] == pytest.approx(parts[1].curvature[0, 3, 3], rel=1e-5)


def test_theta_of_another_shape():
    forward = forward_of(draw_labels(1), [0, 1])
    with pytest.raises(InputError, match=r"teff, logg, v_broad"):
        Problem(forward, 0).minus_log_posterior(np.zeros((2, 2)))


def test_resolution_beyond_the_emulator():
    star = spectra(draw_labels(1))[0].replace(resolution=40_000.0)
    with pytest.raises(InputError, match="28000"):
        cut([star], [EMULATOR], np.array([0.0]), CLEAN)


def test_priors_have_the_slopes_of_differences():
    priors = Priors.weak(EMULATOR).replace({"teff": (5700.0, 60.0)})
    columns = [0, 1, 2, 3, 7]
    labels = draw_labels(4, seed=6)
    residual, slope = priors.residuals(EMULATOR.names, labels, columns)
    assert residual.shape == (4, 3)  # teff, one [X/Fe], v_micro
    for j, column in enumerate(columns):
        moved = labels.copy()
        step = 1e-4 * EMULATOR.spread[column]
        moved[:, column] += step
        numerical = (priors.residuals(EMULATOR.names, moved, columns)[0] - residual) / step
        assert slope[:, :, j] == pytest.approx(numerical, rel=1e-3, abs=1e-3)
    assert priors.describe()["teff"] == [5700.0, 60.0]
    assert Priors.none().residuals(EMULATOR.names, labels, columns)[0].shape == (4, 0)


@pytest.mark.parametrize(
    ("given", "message"),
    [("strong", "weak"), ({"teff": (5000.0, 0.0)}, "positive"), ({"m_h": (0.0, 1.0)}, "m_h")],
)
def test_priors_that_cannot_be(given, message):
    with pytest.raises(InputError, match=message):
        Priors.of(given, EMULATOR)


def test_errors_of_the_model_grow_with_the_depth_of_lines():
    data, flux, _ = made_up_data()
    level = np.linspace(0.5, 2.0, len(flux)).astype(np.float32)
    data = data._replace(level=level, errors=(0.004, 0.03))
    weighed = with_model_error(data, flux)
    variance = 1e-4 + ((0.004 + 0.03 * (1 - flux)) * level) ** 2
    used = data.root > 0
    assert weighed.root[used] ** -2.0 == pytest.approx(variance[used], rel=1e-4)
    assert not weighed.root[~used].any()


def test_outliers_are_left_out_and_the_rest_tempered():
    data, flux, _ = made_up_data()
    data = data._replace(root=np.full_like(data.root, 100))
    residual = 2 * np.random.default_rng(3).standard_normal(len(flux))
    residual[50] = 9.0  # 4.5 sigma of what is usual
    residual[60] = 15.0
    kept = clipped(data, residual)
    assert np.flatnonzero(kept.root != data.root).tolist() == [60]
    count = np.count_nonzero(kept.root)
    assert tempered(kept, 4.0 * (count - 10), 10).temper == pytest.approx(2.0)
    assert tempered(kept, 4.0 * (count - 10), 10).root == pytest.approx(0.5 * kept.root)
    assert np.array_equal(tempered(kept, 0.5 * count, 10).root, kept.root)
