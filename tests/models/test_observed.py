"""What observed stars show and computed spectra do not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spectrolabe.models.compact import CompactSpectra
from spectrolabe.models.first_fit import first_fit
from spectrolabe.models.observed import TERMS, Observed
from spectrolabe.models.tokens import NODES

from .compact import LABELS, compact_lines, spectrum_tokens

ONE = torch.zeros(1, dtype=torch.long)
TRUE = np.array([0.8, -0.6, 0.4, 1.0, -0.9, 0.5, -0.3])


def learnt(error: float = 0.0) -> Observed:
    """Waves of some resolution elements, 2 % deep."""
    observed = Observed()
    phase = torch.arange(observed.size)[:, None] / torch.tensor([5.0, 7.0, 9.0, 11.0])
    observed.rows = 0.02 * torch.sin(phase)
    observed.error = torch.full((observed.size,), error)
    observed.low, observed.high = -torch.ones(TERMS - 1), torch.ones(TERMS - 1)
    return observed


def test_terms_are_held_within_the_stars_learnt_from_and_slopes_are_theirs():
    observed = learnt()
    labels = torch.tensor([[0.3, -0.5, 2.0], [-3.0, 0.9, 0.0]], dtype=torch.float64)
    observed = observed.double()
    terms = observed.terms(labels)
    torch.testing.assert_close(terms[0], torch.tensor([1.0, 0.3, -0.5, 1.0]).double())
    exact = torch.stack(
        [torch.autograd.functional.jacobian(observed.terms, x[None])[0, :, 0] for x in labels]
    )
    torch.testing.assert_close(observed.slopes(labels), exact.transpose(1, 2))


def test_slopes_of_shares_are_those_of_autograd():
    compact = compact_lines(0.1)
    compact.observed = learnt()
    labels = torch.tensor(TRUE).float()[None]
    rows = compact.shares_with_slopes(labels)
    assert rows.shape == (1, 1 + LABELS, compact.functions)
    torch.testing.assert_close(rows[:, 0], compact.shares(labels))
    exact = torch.autograd.functional.jacobian(compact.shares, labels)[0, :, 0]
    torch.testing.assert_close(rows[0, 1:], exact.T)


@pytest.mark.parametrize("resolution", [1800.0, 7000.0])
def test_a_fit_expects_what_was_added(resolution):
    plain, compact = compact_lines(prior=3.0), compact_lines(prior=3.0)
    compact.observed = learnt()
    tokens = spectrum_tokens(TRUE, resolution, snr=60.0, seed=2)
    main = torch.from_numpy(TRUE[:3]).float()[None]
    seen = compact.seen(tokens, main)
    assert (seen.content - tokens.content).abs().max() > 0.01
    before = first_fit(plain, [tokens], ONE, ONE)
    after = first_fit(compact, [seen], ONE, ONE)
    astray = first_fit(plain, [seen], ONE, ONE)
    sigma = after.covariance[0].diagonal().sqrt()
    assert after.misfit[0] < 1.1 * before.misfit[0] + 0.05
    assert astray.misfit[0] > 1.5 * after.misfit[0]
    assert ((after.labels[0] - torch.from_numpy(TRUE)) / sigma).abs().max() < 4.0


def test_nothing_is_added_before_it_is_learnt():
    compact = compact_lines()
    tokens = spectrum_tokens(TRUE, 1800.0)
    assert compact.seen(tokens, torch.zeros(1, 3)) is tokens
    variance, relative = compact.observed.errors(tokens.places)
    assert (variance == 0).all()
    assert (relative == 1).all()


def test_rows_are_straight_between_nodes_and_end_where_they_end():
    observed, tokens = learnt(), spectrum_tokens(TRUE, 7000.0)
    x = np.exp((np.arange(observed.size) + observed.first + 0.5) * observed.step)
    at = observed.at(tokens.places)
    node = observed.node(tokens.places)
    wavelength = np.exp((node.numpy() + observed.first + 0.5) * observed.step)
    for k in range(TERMS):
        expected = np.interp(np.log(wavelength), np.log(x), observed.rows[:, k].numpy())
        np.testing.assert_allclose(at[..., k].numpy(), expected, atol=1e-6)
    far = tokens.places.clone()
    far[:, 0] += 3.0  # microns and more
    assert (observed.at(far) == 0).all()


def test_nodes_count_by_their_errors():
    observed, tokens = learnt(0.01), spectrum_tokens(TRUE, 1800.0)
    place = observed.node(tokens.places)[1]
    bad = int(place[NODES // 2].round())
    observed.error[bad - 2 : bad + 3] = 0.1
    variance, relative = observed.errors(tokens.places)
    assert variance[0] == pytest.approx(0.01**2, rel=1e-3)
    assert relative[1, NODES // 2] < 0.03
    torch.testing.assert_close(relative.mean(dim=1), torch.ones(len(relative)))


def test_wrong_nodes_hardly_move_a_fit():
    moved = []
    for error in (0.0, 0.2):
        compact = compact_lines(prior=3.0)
        compact.observed = learnt()
        compact.observed.rows *= 0.0
        tokens = spectrum_tokens(TRUE, 1800.0, snr=60.0, seed=1)
        middle = tokens.content.shape[1] // 2
        node = compact.observed.node(tokens.places)[tokens.place[0, middle], 10:30]
        compact.observed.error[node.round().long()] = error
        clean = first_fit(compact, [tokens], ONE, ONE)
        tokens.content[0, middle, 10:30] += 0.02
        fit = first_fit(compact, [tokens], ONE, ONE)
        moved.append(float((fit.labels - clean.labels).abs().max()))
    assert moved[1] < 0.2 * moved[0]


def test_what_was_learnt_travels_and_models_without_it_can_be_read():
    compact = compact_lines()
    compact.observed = learnt(0.01)
    state = compact.state_dict()
    other = compact_lines()
    other.load_state_dict(state)
    torch.testing.assert_close(other.observed.rows, compact.observed.rows)
    torch.testing.assert_close(other.observed.error, compact.observed.error)
    old = {name: value for name, value in state.items() if not name.startswith("observed.")}
    fresh = compact_lines()
    fresh.load_state_dict(old)
    assert isinstance(fresh, CompactSpectra)
    assert fresh.observed.count == 0
