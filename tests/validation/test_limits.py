"""Limits against simulated stars of a linear model, whose best estimates are known."""

from __future__ import annotations

import numpy as np
import pytest

from spectrolabe.validation.limits import (
    difference_covariance,
    information,
    marginal,
    posterior_covariance,
    projected,
)

STARS, LABELS, PIXELS, NUISANCE = 40_000, 3, 40, 4


def linear(seed=0):
    """Slopes of labels and nuisance in units of the noise, and a prior with correlations."""
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(LABELS, LABELS))
    return (
        0.3 * rng.normal(size=(LABELS, PIXELS)),
        rng.normal(size=(NUISANCE, PIXELS)),
        root @ root.T + 0.2 * np.eye(LABELS),
        rng,
    )


def seen(labels, rows, nuisance, rng):
    """Noisy pixels of stars with a nuisance of any size."""
    size = 50.0 * rng.normal(size=(len(labels), NUISANCE))
    return labels @ rows + size @ nuisance + rng.normal(size=(len(labels), PIXELS))


def means(pixels, rows, nuisance, prior):
    """Posterior means by the normal equations of labels and nuisance together."""
    design = np.concatenate([rows, nuisance])
    precision = design @ design.T
    precision[:LABELS, :LABELS] += np.linalg.inv(prior)
    return np.linalg.solve(precision, design @ pixels.T).T[:, :LABELS]


def test_the_limit_is_the_covariance_of_the_errors_of_the_best_estimate():
    rows, nuisance, prior, rng = linear()
    labels = rng.multivariate_normal(np.zeros(LABELS), prior, STARS)
    error = means(seen(labels, rows, nuisance, rng), rows, nuisance, prior) - labels
    limit = posterior_covariance(information(rows, nuisance), prior)
    np.testing.assert_allclose(np.cov(error.T), limit, rtol=0.05, atol=0.01 * np.trace(limit))
    # and neither without prior nor without nuisance would it be
    assert np.trace(np.linalg.inv(information(rows, nuisance))) > 1.1 * np.trace(limit)
    known = posterior_covariance(rows @ rows.T, prior)
    assert np.trace(known) < 0.95 * np.trace(limit)


def test_differences_of_two_estimates_of_a_star_are_smaller_than_their_errors():
    rows, nuisance, prior, rng = linear(1)
    other = 0.5 * rng.normal(size=rows.shape)
    labels = rng.multivariate_normal(np.zeros(LABELS), prior, STARS)
    a, b = (means(seen(labels, r, nuisance, rng), r, nuisance, prior) for r in (rows, other))
    one, two = (posterior_covariance(information(r, nuisance), prior) for r in (rows, other))
    expected = difference_covariance(one, two, prior)
    np.testing.assert_allclose(np.cov((a - b).T), expected, atol=0.02 * np.trace(expected))
    assert np.trace(expected) < 0.95 * np.trace(one + two)


def test_projected_rows_know_nothing_of_the_nuisance():
    rows, nuisance, _, _ = linear(2)
    with_nothing = np.concatenate([nuisance, np.zeros((1, PIXELS))])
    left = projected(rows, with_nothing)
    np.testing.assert_allclose(left @ nuisance.T, 0.0, atol=1e-6)
    unit, _ = np.linalg.qr(nuisance.T)
    np.testing.assert_allclose(left, rows - (rows @ unit) @ unit.T, atol=1e-7)
    np.testing.assert_array_equal(projected(rows, np.zeros((2, PIXELS))), rows)


def test_what_is_left_out_of_the_labels_is_what_a_posterior_of_all_has():
    rows, nuisance, _, _ = linear(3)
    fisher, keep = information(rows, nuisance), np.array([True, False, True])
    prior = np.diag([1.0, 0.25, 2.0])
    whole = posterior_covariance(fisher, prior)[np.ix_(keep, keep)]
    part = posterior_covariance(marginal(fisher, keep, np.array([4.0])), prior[np.ix_(keep, keep)])
    np.testing.assert_allclose(part, whole)
    assert part[0, 0] != pytest.approx(
        posterior_covariance(fisher[np.ix_(keep, keep)], np.diag([1.0, 2.0]))[0, 0]
    )
