"""The normal head: its loss against scipy's distributions, and what missing labels may do."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from spectrolabe.models.heads import CorrelatedHead, HeadOutput, correlated_t_loss
from spectrolabe.models.heads.gaussian import BALANCE, DEGREES


def output(mean, log_sigma, correlation) -> HeadOutput:
    as_tensor = lambda x: torch.tensor(np.asarray(x), dtype=torch.float64)  # noqa: E731
    stars = len(mean)
    return HeadOutput(
        as_tensor(mean), as_tensor(log_sigma), as_tensor(correlation), torch.zeros(stars, 2)
    )


def test_the_loss_is_student_t_marginals_and_the_joint_of_the_pulls():
    rng = np.random.default_rng(1)
    mean, log_sigma, truth = rng.normal(size=(3, 4, 2))
    rho = np.array([[1.0, 0.6], [0.6, 1.0]])
    got = correlated_t_loss(output(mean, log_sigma, [rho] * 4), torch.tensor(truth))
    weight = np.exp(BALANCE * log_sigma)
    marginal = -(weight * stats.t.logpdf(truth, DEGREES, loc=mean, scale=np.exp(log_sigma))).sum()
    pulls = (truth - mean) / np.exp(log_sigma)
    joint = -stats.multivariate_t.logpdf(pulls, shape=rho, df=DEGREES).sum()
    # the loss leaves out constants: compare differences with another truth
    other = truth + 0.3
    got_other = correlated_t_loss(output(mean, log_sigma, [rho] * 4), torch.tensor(other))
    logpdf = stats.t.logpdf(other, DEGREES, loc=mean, scale=np.exp(log_sigma))
    marginal_other = -(weight * logpdf).sum()
    pulls_other = (other - mean) / np.exp(log_sigma)
    joint_other = -stats.multivariate_t.logpdf(pulls_other, shape=rho, df=DEGREES).sum()
    expected = (marginal_other + joint_other - marginal - joint) / truth.size
    assert float(got_other - got) == pytest.approx(expected, rel=1e-4)


def test_a_missing_label_is_marginalised():
    rng = np.random.default_rng(2)
    mean, log_sigma, truth = rng.normal(size=(3, 5, 3))
    rho = np.array([[1.0, 0.5, 0.2], [0.5, 1.0, -0.3], [0.2, -0.3, 1.0]])
    truth[:, 1] = np.nan
    with_gap = correlated_t_loss(output(mean, log_sigma, [rho] * 5), torch.tensor(truth))
    keep = [0, 2]
    without = correlated_t_loss(
        output(mean[:, keep], log_sigma[:, keep], [rho[np.ix_(keep, keep)]] * 5),
        torch.tensor(truth[:, keep]),
    )
    assert float(with_gap) == pytest.approx(float(without), rel=1e-5)


def test_no_gradient_flows_from_a_missing_label():
    torch.manual_seed(0)
    head = CorrelatedHead(4, 8, 3, 0.0)
    x = torch.randn(6, 4)
    target = torch.randn(6, 3)
    target[:, 2] = torch.nan
    correlated_t_loss(head(x), target).backward()
    grad = head.out.weight.grad
    assert torch.isfinite(grad).all()
    assert (grad[2] == 0).all()  # mean of the missing label
    assert (grad[5] == 0).all()  # its sigma
    assert (grad[0] != 0).any()


def test_the_correlation_is_a_correlation():
    torch.manual_seed(0)
    head = CorrelatedHead(4, 8, 5, 0.0)
    with torch.no_grad():
        head.out.weight.mul_(20.0)
        correlation = head(torch.randn(50, 4)).correlation
    diagonal = torch.diagonal(correlation, dim1=1, dim2=2)
    assert torch.allclose(diagonal, torch.ones_like(diagonal), atol=1e-5)
    assert (torch.linalg.eigvalsh(correlation.double()) > -1e-6).all()
