"""Local polynomials about tokens."""

from __future__ import annotations

import pytest
import torch

from spectrolabe.models.local import AS_TOKENS, Freedom, Local
from spectrolabe.models.tokens import NODES, ladder_resolution, token_width

COUNT = 120
LEVEL = torch.tensor(9)


def places(number):
    power = ladder_resolution(LEVEL).log().expand(len(number))
    return torch.stack([number * token_width(LEVEL), power], dim=1).double()


@pytest.fixture
def x():
    """Places of nodes, in tokens."""
    return torch.arange(COUNT)[:, None] + (torch.arange(NODES) + 0.5) / NODES


@pytest.fixture
def local(x):
    def make(free, entries=1, cover=None):
        whole = torch.ones(COUNT, entries, NODES) if cover is None else cover
        return Local(places(torch.arange(COUNT) + 0.5), free, whole)

    return make


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_a_polynomial_of_their_degree_is_itself(local, x, degree):
    place = (x - 50.0) / 60.0
    values = (0.7 + sum((-0.8 * place) ** k for k in range(1, degree + 1)))[:, None]
    found = local(Freedom(0.006, degree)).line(values)
    assert (found - values).abs().max() < 0.005  # at the ends: they are drawn to constants
    assert (found - values)[20:-20].abs().max() < 0.002


def test_coefficients_are_of_the_place_in_a_token(local, x):
    values = (0.5 + 0.02 * x)[:, None]
    found = local(Freedom(0.006, 2)).fitted(values)
    middle = 0.5 + 0.02 * (torch.arange(COUNT) + 0.5)
    torch.testing.assert_close(found[20:-20, 0, 0], middle[20:-20], atol=1e-4, rtol=0.0)
    torch.testing.assert_close(found[20:-20, 0, 1], torch.full((80,), 0.02), atol=1e-4, rtol=0.0)
    assert found[20:-20, 0, 2].abs().max() < 1e-4


def test_each_entry_jumps_at_its_own_gaps(local, x):
    step = torch.where(x < 60, 1.0, 1.5)
    values = torch.stack([step, step], dim=1)
    cover = torch.ones(COUNT, 2, NODES)
    cover[58:62, 0] = 0.0  # four tokens of the first entry
    found = local(Freedom(0.006, 2, jumps=True), 2, cover).line(values)
    torch.testing.assert_close(found[:58, 0], values[:58, 0], atol=2e-3, rtol=0.0)
    torch.testing.assert_close(found[62:, 0], values[62:, 0], atol=2e-3, rtol=0.0)
    assert (found - values)[:, 1].abs().max() > 0.05
    alone = local(Freedom(0.006, 2, jumps=True), 1, cover[:, :1]).line(values[:, :1])
    torch.testing.assert_close(found[:, :1], alone)


def test_a_narrow_gap_is_none(local, x):
    values = torch.where(x < 60, 1.0, 1.5)[:, None]
    cover = torch.ones(COUNT, 1, NODES)
    cover[60] = 0.0
    found = local(Freedom(0.006, 2, jumps=True), 1, cover).line(values)
    assert (found - values)[55:65].abs().max() > 0.05


def test_ratios_are_weighed_by_what_is_below(local, x):
    below = 1.0 + 0.5 * torch.rand(COUNT, 1, NODES, generator=torch.Generator().manual_seed(0))
    true = (1.0 + 0.1 * ((x - 60.0) / 60.0) ** 2)[:, None]
    found = local(Freedom(0.006, 2)).ratio(true * below, below)
    torch.testing.assert_close(found, true, atol=2e-3, rtol=0.0)


def test_nothing_seen_is_no_number(local):
    cover = torch.zeros(COUNT, 1, NODES)
    assert torch.isfinite(local(AS_TOKENS, 1, cover).line(torch.rand(COUNT, 1, NODES))).all()
