"""Labels that follow from those of a fit."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spectrolabe.models.deduced import Deduced

COLUMNS, WHERE = [2, 0], [5, 7]


def law(x):
    """Two labels of a star, from the third and the first of a fit."""
    return np.stack(
        [0.3 - x[:, 2] + 0.2 * x[:, 0] * x[:, 2] ** 2, 1.0 + 0.5 * x[:, 0] ** 3], axis=1
    )


@pytest.fixture
def stars():
    return np.random.default_rng(0).normal(size=(5000, 4))


@pytest.fixture
def deduced(stars):
    made, wanted = Deduced(), law(stars)
    wanted[::3, 1] = np.nan
    made.learn(COLUMNS, stars, WHERE, wanted)
    return made


def test_polynomials_are_found(deduced):
    fresh = np.random.default_rng(1).normal(size=(50, 4)).clip(-1.0, 1.0)
    mean, sigma = deduced(torch.from_numpy(fresh).float(), torch.zeros(50, 4, 4))
    np.testing.assert_allclose(mean, law(fresh), atol=5e-3)
    assert sigma.max() < 0.01


def test_uncertainties_are_propagated(deduced):
    x = torch.tensor([[0.4, 0.0, -0.7, 0.0]]).expand(40_000, -1)
    root = torch.tensor([[3.0, 0, 0, 0], [0, 1, 0, 0], [1, 0, 2.0, 0], [0, 0, 0, 1]]) * 0.01
    covariance = (root @ root.T).expand(len(x), -1, -1)
    _, sigma = deduced(x[:1], covariance[:1])
    moved = x + torch.randn(x.shape, generator=torch.Generator().manual_seed(0)) @ root.T
    drawn = deduced(moved, torch.zeros_like(covariance))[0]
    torch.testing.assert_close(sigma[0], drawn.std(dim=0), rtol=0.05, atol=0.0)


def test_scatter_of_stars_counts(stars):
    made, rng = Deduced(), np.random.default_rng(2)
    noisy = law(stars) + rng.normal(size=(len(stars), 2)) * [0.1, 0.3]
    made.learn(COLUMNS, stars, WHERE, noisy)
    _, sigma = made(torch.zeros(1, 4), torch.zeros(1, 4, 4))
    torch.testing.assert_close(sigma[0], torch.tensor([0.1, 0.3]), rtol=0.1, atol=0.0)


def test_nothing_is_beyond_the_stars(deduced, stars):
    far = torch.full((1, 4), 30.0)
    mean, sigma = deduced(far, 100.0 * torch.eye(4)[None])
    low, high = np.quantile(law(stars), [0.001, 0.999], axis=0)
    assert (mean[0].numpy() >= low - 0.2).all()
    assert (mean[0].numpy() <= high + 0.2).all()
    assert (sigma[0].numpy() < 0.5 * (high - low)).all()


def test_weights_travel_and_none_need_not(deduced):
    other = Deduced()
    other.load_state_dict(deduced.state_dict())
    x, covariance = torch.randn(3, 4), torch.eye(4).expand(3, -1, -1)
    for a, b in zip(other(x, covariance), deduced(x, covariance), strict=True):
        torch.testing.assert_close(a, b)
    empty = Deduced()
    empty.load_state_dict({})
    assert empty(x, covariance)[0].shape == (3, 0)
