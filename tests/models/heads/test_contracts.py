"""What every head must do, whatever its distribution."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from spectrolabe.config import HeadConfig
from spectrolabe.models.heads import HEADS, make_head
from spectrolabe.models.posterior import SCORES, LabelPosterior
from spectrolabe.validation.distributions import crps, pit

CASES = {
    "gaussian": HeadConfig(),
    "gaussian ordered": HeadConfig(embedding=0.5, embedding_width=3),
    "binned": HeadConfig(kind="binned", bins=20),
    "binned asymmetric": HeadConfig(kind="binned", bins=20, asymmetric=True),
    "binned ordered": HeadConfig(kind="binned", bins=20, embedding=0.5, embedding_width=3),
}
NAMES = ("fe_h", "mg_fe")


@pytest.fixture(params=CASES)
def case(request):
    torch.manual_seed(0)
    return CASES[request.param], make_head(CASES[request.param], 4, 8, 3, 0.1)


def test_every_head_is_tested():
    assert {config.kind for config in CASES.values()} == set(HEADS)


def test_shapes(case):
    config, head = case
    output = head(torch.randn(5, 4))
    assert output.mean.shape == output.log_sigma.shape == (5, 3)
    assert output.correlation.shape == (5, 3, 3)
    assert output.embedding.shape == (5, 3 if config.embedding else 8)
    assert (output.logits is None) == (config.kind == "gaussian")
    assert head.levels(output).shape in [(5, 3, 0), (5, 3, len(SCORES))]
    assert head.loss(output, torch.randn(5, 3)).shape == ()


def test_no_star_knows_of_the_others(case):
    _, head = case
    head.eval()
    x = torch.randn(6, 4)
    whole, part = head(x), head(x[2:4])
    for name, value in vars(part).items():
        if value is not None:
            torch.testing.assert_close(getattr(whole, name)[2:4], value)
    torch.testing.assert_close(head.levels(whole)[2:4], head.levels(part))


def test_an_unknown_label_does_not_count(case):
    """Nor any value that it might have, nor that it is one of a star or of all."""
    _, head = case
    head.eval()
    x, target = torch.randn(6, 4), torch.randn(6, 3)
    target[1, 0], target[:, 2] = torch.nan, torch.nan
    head.loss(head(x), target).backward()
    grads = {name: p.grad.clone() for name, p in head.named_parameters() if p.grad is not None}
    assert all(torch.isfinite(grad).all() for grad in grads.values())
    assert grads["out.weight"].abs().sum() > 0
    rows = head.out.weight.shape[0] - 3  # the last three make the correlation
    of_label = {"gaussian": lambda j: [j, 3 + j], "binned": lambda j: range(20 * j, 20 * j + 20)}
    kind = next(kind for kind, made in HEADS.items() if isinstance(head, made))
    assert rows == 3 * len(of_label[kind](0))
    assert (grads["out.weight"][list(of_label[kind](2))] == 0).all()
    assert (grads["out.weight"][list(of_label[kind](0))] != 0).any()
    assert (grads["out.weight"][-2:] == 0).all()  # correlations with the last label


def test_a_batch_of_which_nothing_is_known(case):
    _, head = case
    loss = head.loss(head(torch.randn(6, 4)), torch.full((6, 3), torch.nan))
    loss.backward()
    assert loss.item() == pytest.approx(0.0, abs=1e-3)  # the ridge of the correlation
    assert all(p.grad is None or (p.grad == 0).all() for p in head.parameters())


def test_labels_far_from_all_training_stars_do_no_harm(case):
    _, head = case
    head.loss(head(torch.randn(6, 4)), torch.full((6, 3), 1e4)).backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in head.parameters())


def test_the_correlation_is_a_correlation(case):
    _, head = case
    with torch.no_grad():
        head.out.weight.mul_(20.0)
        correlation = head(torch.randn(50, 4)).correlation
    diagonal = torch.diagonal(correlation, dim1=1, dim2=2)
    torch.testing.assert_close(diagonal, torch.ones_like(diagonal), atol=1e-5, rtol=0)
    assert (torch.linalg.eigvalsh(correlation.double()) > -1e-6).all()


def test_means_and_correlations_are_never_rounded_to_half_precision(case):
    _, head = case
    head.eval()
    x = torch.randn(6, 4)
    with torch.autocast("cpu", torch.bfloat16):
        output = head(x)
        loss = head.loss(output, torch.ones(6, 3))
    assert loss.dtype == torch.float32
    torch.testing.assert_close(output.mean, head(x).mean)
    torch.testing.assert_close(output.correlation, head(x).correlation)


# what they learn


def fitted(config: HeadConfig, x: Tensor, y: Tensor, steps: int = 400):
    torch.manual_seed(1)
    head = make_head(config, x.shape[1], 32, y.shape[1], 0.0)
    head.set_range(y)
    optimiser = torch.optim.Adam(head.parameters())
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = 0.02 * (1.0 - step / steps)
        some = torch.randint(len(x), (100,))
        optimiser.zero_grad()
        head.loss(head(x[some]), y[some]).backward()
        optimiser.step()
    return head.eval()


@torch.no_grad()
def posterior(head, x: Tensor) -> LabelPosterior:
    output = head(x)
    sigma = output.log_sigma.exp().double().numpy()
    covariance = output.correlation.double().numpy() * sigma[:, :, None] * sigma[:, None, :]
    levels = head.levels(output).double().numpy()
    ids = [str(i) for i in range(len(x))]
    mean = output.mean.double().numpy()
    return LabelPosterior(NAMES, mean, covariance, ids, levels if levels.size else None)


def noisy(rng, count):
    """Two labels whose errors grow with x from 0.1 to 0.5 and have a correlation of 0.8."""
    x = rng.uniform(-1.0, 1.0, (count, 2))
    errors = rng.multivariate_normal([0, 0], [[1, 0.8], [0.8, 1]], count)
    sigma = 0.3 + 0.2 * x[:, :1]
    return torch.tensor(x).float(), torch.tensor(np.sin(2 * x) + sigma * errors).float(), sigma


@pytest.mark.parametrize("kind", HEADS)
def test_errors_that_differ_from_star_to_star_are_learnt(kind):
    rng = np.random.default_rng(0)
    head = fitted(HeadConfig(kind=kind, bins=40), *noisy(rng, 2000)[:2])
    x, y, sigma = noisy(rng, 2000)
    found = posterior(head, x)
    error = found.mean - np.sin(2 * x.numpy())
    assert np.abs(error).mean() < 0.12  # the errors of the labels are 0.3
    ratio = found.sigma / sigma
    core = 1.0 if kind == "binned" else 0.9  # a Student t's sigma of a normal is smaller
    assert np.median(ratio) == pytest.approx(core, abs=0.12)
    assert np.corrcoef(found.sigma[:, 0], sigma[:, 0])[0, 1] > 0.9
    assert np.median(found.correlation[:, 0, 1]) == pytest.approx(0.8, abs=0.12)
    found_pit = pit(found, y.double().numpy())
    assert np.abs(np.quantile(found_pit, [0.25, 0.5, 0.75]) - [0.25, 0.5, 0.75]).max() < 0.05


def two_values(rng, count):
    """Nothing tells whether the first label is near -1 or near 1; the second is like the first."""
    x = rng.uniform(-1.0, 1.0, (count, 2))
    sign = rng.choice([-1.0, 1.0], (count, 1))
    y = sign + 0.15 * rng.standard_normal((count, 2))
    return torch.tensor(x).float(), torch.tensor(y).float()


def test_only_histograms_tell_of_two_solutions():
    rng = np.random.default_rng(0)
    train, (x, y) = two_values(rng, 2000), two_values(rng, 500)
    found = {
        kind: posterior(fitted(HeadConfig(kind=kind, bins=40), *train, steps=200), x)
        for kind in HEADS
    }
    scores = {kind: crps(one, y.double().numpy()).mean() for kind, one in found.items()}
    # half of the mean distance of two draws from the truth; of a normal of its mean and sigma 0.60
    assert 0.5 < 0.5 * (0.5 * 2.0 + 0.5 * 2.0 * 0.15 / np.sqrt(np.pi)) < scores["binned"] < 0.57
    assert scores["gaussian"] > 0.59
    low, high = found["binned"].quantiles([0.25, 0.75])
    assert np.median(low) == pytest.approx(-1.0, abs=0.08)
    assert np.median(high) == pytest.approx(1.0, abs=0.08)
    draws = found["binned"].samples(np.random.default_rng(0), 20).reshape(-1, 2)
    assert (np.abs(draws[:, 0]) < 0.4).mean() < 0.1
    # normal scores of one sign have a correlation of 2 / pi: all that a Gaussian copula can know
    same = (np.sign(draws[:, 0]) == np.sign(draws[:, 1])).mean()
    assert same == pytest.approx(0.5 + np.arcsin(2.0 / np.pi) / np.pi, abs=0.04)


@pytest.mark.parametrize("kind", HEADS)
def test_an_ordered_embedding_puts_like_stars_side_by_side(kind):
    """Most of what the input says of a star has nothing to do with its labels."""
    x = torch.tensor(np.random.default_rng(0).uniform(-1.0, 1.0, (1000, 12))).float()
    y = torch.sin(2.0 * x[:, :2])

    def agreement(weight):
        config = HeadConfig(kind=kind, bins=20, embedding=weight, embedding_width=4)
        head = fitted(config, x[:700], y[:700], steps=100)
        with torch.no_grad():
            embedding = head(x[700:]).embedding
        distances = torch.pdist(embedding), torch.pdist(y[700:])
        return np.corrcoef(*(d.numpy() for d in distances))[0, 1]

    assert 1.0 - agreement(1.0) < 0.7 * (1.0 - agreement(0.0))
