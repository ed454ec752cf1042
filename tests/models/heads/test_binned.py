"""Histograms against closed forms: targets, moments, quantiles, scores, and both losses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal, norm

from spectrolabe.config import HeadConfig
from spectrolabe.models.heads import BinnedHead, HeadOutput
from spectrolabe.models.heads.binned import (
    SMOOTHING,
    WRONG,
    asymmetric_loss,
    bin_targets,
    cross_entropy,
)
from spectrolabe.models.posterior import SCORES

EDGES = torch.linspace(-2.0, 3.0, 51, dtype=torch.float64).repeat(2, 1)  # 0.1 wide
WIDTH = 0.1


def head_of(edges=EDGES, **options) -> BinnedHead:
    config = HeadConfig(kind="binned", bins=edges.shape[1] - 1, **options)
    head = BinnedHead(4, 8, len(edges), 0.0, config).double()
    head.edges.copy_(edges)
    return head


def histogram(mean, sigma):
    """Logits that a perfect network gives for labels of normal distributions, (S, 2, K)."""
    mean, sigma = (torch.tensor(x, dtype=torch.float64)[..., None] for x in (mean, sigma))
    smooth = torch.hypot(sigma, torch.tensor(SMOOTHING * WIDTH))
    below = torch.special.ndtr((EDGES - mean) / smooth)
    return below.diff(dim=2).clamp(min=1e-300).log()


def output_of(head, logits) -> HeadOutput:
    mean, variance, _ = head._moments(logits)
    unit = torch.eye(2).double().repeat(len(logits), 1, 1)
    return HeadOutput(mean, 0.5 * variance.log(), unit, torch.zeros(len(logits), 8), logits)


MEAN = np.array([[0.0, 0.513], [1.237, -0.4]])
SIGMA = np.array([[0.3, 0.1], [0.05, 0.4]])


def test_targets_are_a_normal_about_the_label_counted_in_bins():
    value = torch.tensor([[0.03, 1.0]]).double()
    found = bin_targets(value, EDGES)[0, 0].numpy()
    expected = np.diff(norm.cdf(EDGES[0].numpy(), 0.03, 0.75 * WIDTH))
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_labels_beyond_the_bins_are_in_the_outermost():
    found = bin_targets(torch.tensor([[-50.0, 50.0], [-2.05, 0.0]]).double(), EDGES)
    torch.testing.assert_close(found.sum(dim=2), torch.ones(2, 2).double())
    assert found[0, 0, 0] == found[0, 1, -1] == 1.0
    assert found[1, 0, 0] > 0.95


def test_mean_and_sigma_are_without_the_smoothing_of_the_targets():
    head = head_of()
    output = output_of(head, histogram(MEAN, SIGMA))
    np.testing.assert_allclose(output.mean, MEAN, atol=2e-4)
    np.testing.assert_allclose(output.log_sigma.exp(), SIGMA, rtol=0.01)


def test_a_label_that_is_exactly_known_has_a_tenth_of_a_bin():
    """Its place within the bin is kept."""
    head = head_of()
    value = torch.tensor([[0.03, 0.9]]).double()
    output = output_of(head, bin_targets(value, EDGES).clamp(min=1e-300).log())
    torch.testing.assert_close(output.mean, value, atol=1e-4, rtol=0)
    np.testing.assert_allclose(output.log_sigma.exp(), 0.1 * WIDTH, rtol=0.1)


def test_levels_of_a_normal_histogram_are_exact():
    head = head_of()
    levels = head.levels(output_of(head, histogram(MEAN, SIGMA))).numpy()
    expected = MEAN[..., None] + SIGMA[..., None] * SCORES
    inside = np.abs(SCORES) < 2.8  # farther, the bins of the last label end
    np.testing.assert_allclose(levels[..., inside], expected[..., inside], atol=0.02 * WIDTH)


def test_levels_of_two_values_have_both():
    logits = torch.logaddexp(
        histogram(np.full((1, 2), -1.0), np.full((1, 2), 0.1)),
        histogram(np.full((1, 2), 2.0), np.full((1, 2), 0.1)) - np.log(3.0),
    )
    head = head_of()
    levels = head.levels(output_of(head, logits))[0, 0].numpy()
    probability = norm.cdf(SCORES)
    np.testing.assert_allclose(levels[probability < 0.7], -1.0, atol=0.5)
    np.testing.assert_allclose(levels[probability > 0.8], 2.0, atol=0.5)
    assert (np.diff(levels) >= 0).all()


def test_scores_are_those_of_the_normal():
    head = head_of()
    value = torch.tensor(MEAN + SIGMA * [[0.7, -1.2], [2.0, 0.1]])
    found = head.scores(histogram(MEAN, SIGMA), value)
    np.testing.assert_allclose(found, [[0.7, -1.2], [2.0, 0.1]], atol=0.02)
    far = head.scores(histogram(MEAN, SIGMA), torch.tensor([[50.0, -50.0]] * 2).double())
    np.testing.assert_allclose(far, [[4.0, -4.0]] * 2)


def test_cross_entropy_is_that_of_a_histogram_in_which_some_labels_are_wrong():
    rng = np.random.default_rng(0)
    logits, truth = torch.tensor(rng.normal(size=(2, 3, 2, 9)))
    truth = truth.softmax(dim=2)
    p = logits.exp() / logits.exp().sum(dim=2, keepdim=True)
    expected = -(truth * ((1 - WRONG) * p + WRONG / 9).log()).sum(dim=2)
    torch.testing.assert_close(cross_entropy(logits, truth), expected)
    wrong = cross_entropy(torch.tensor([[[60.0, 0.0, 0.0]]]), torch.tensor([[[0.0, 0.0, 1.0]]]))
    assert wrong.item() == pytest.approx(-np.log(WRONG / 3), rel=1e-5)


def test_the_asymmetric_loss_without_focus_is_binary_cross_entropy():
    rng = np.random.default_rng(0)
    logits, truth = torch.tensor(rng.normal(size=(2, 3, 2, 9)))
    truth = truth.softmax(dim=2)
    p = (1 - WRONG) * logits.softmax(dim=2) + WRONG / 9
    expected = torch.nn.functional.binary_cross_entropy(p, truth, reduction="none").sum(dim=2)
    torch.testing.assert_close(asymmetric_loss(logits, truth, 0.0, 0.0), expected)


def test_the_asymmetric_loss_looks_away_from_what_is_easy():
    truth = torch.eye(2).double()[None, :1]
    p = torch.tensor([0.9, 0.1]).double()
    unmixed = (p - WRONG / 2) / (1 - WRONG)
    got = asymmetric_loss(unmixed.log()[None, None], truth, 1.0, 4.0)
    assert got.item() == pytest.approx(-(0.1 * np.log(0.9) + 0.1**4 * np.log(0.9)))
    plain = asymmetric_loss(unmixed.log()[None, None], truth, 0.0, 0.0)
    assert got.item() < 0.1 * plain.item()


def test_the_loss_is_cross_entropy_and_the_density_of_a_gaussian_copula():
    head = head_of()
    logits = histogram(MEAN, SIGMA)
    z = np.array([[0.7, -1.2], [2.0, 0.1]])
    target = torch.tensor(MEAN + SIGMA * z)
    rho = np.array([[1.0, 0.6], [0.6, 1.0]])
    output = output_of(head, logits)
    output.correlation = torch.tensor(np.stack([rho, rho]))
    z = head.scores(logits, target).numpy()
    copula = multivariate_normal.logpdf(z, cov=rho) - norm.logpdf(z).sum(axis=1)
    marginal = cross_entropy(logits, bin_targets(target, EDGES)).sum().item()
    expected = (marginal - copula.sum()) / 4
    assert head.loss(output, target).item() == pytest.approx(expected, rel=1e-4)


def test_the_range_is_that_of_the_labels_and_travels_with_the_weights():
    rng = np.random.default_rng(0)
    targets = torch.tensor(rng.uniform([-1.0, 0.0], [3.0, 10.0], (5000, 2))).float()
    targets[:2, 0] = torch.tensor([1e4, torch.nan])  # a wrong one, an unknown one
    head = BinnedHead(4, 8, 2, 0.0, HeadConfig(kind="binned", bins=20))
    head.set_range(targets)
    np.testing.assert_allclose(head.edges[:, 0], [-1.2, -0.5], atol=0.05)
    np.testing.assert_allclose(head.edges[:, -1], [3.2, 10.5], atol=0.05)
    again = BinnedHead(4, 8, 2, 0.0, HeadConfig(kind="binned", bins=20))
    again.load_state_dict(head.state_dict())
    torch.testing.assert_close(again.edges, head.edges)
    before = head.edges.clone()
    head.set_range(torch.full((5, 2), torch.nan))
    torch.testing.assert_close(head.edges, before)


def test_wrong_labels_do_not_widen_what_is_learnt():
    """One in a hundred labels is anywhere: as in the marginals of the other head."""
    rng = np.random.default_rng(0)
    value = np.r_[0.2 * rng.standard_normal(9900), rng.uniform(-2.0, 3.0, 100)]
    assert value.std() > 0.23
    truth = bin_targets(torch.tensor(value)[:, None], EDGES[:1]).mean(dim=0, keepdim=True)
    logits = torch.zeros(1, 1, 50, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.Adam([logits], lr=0.5)
    for _ in range(600):
        optimiser.zero_grad()
        cross_entropy(logits, truth).mean().backward()
        optimiser.step()
    mean, variance, _ = head_of(EDGES[:1])._moments(logits.detach())
    assert mean.item() == pytest.approx(0.0, abs=0.01)
    assert variance.sqrt().item() == pytest.approx(0.2, abs=0.012)
