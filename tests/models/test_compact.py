"""Spectra as sums of a few functions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spectrolabe.config import CompactConfig
from spectrolabe.errors import InputError
from spectrolabe.models.compact import Amounts, CompactSpectra
from spectrolabe.models.explained import Explained
from spectrolabe.models.first_fit import CORRECTIONS, first_fit
from spectrolabe.models.node_spectra import FINEST
from spectrolabe.models.tokens import node_width

from .compact import LABELS, OWN, compact_lines, flux_of, spectrum_tokens

ONE = torch.zeros(1, dtype=torch.long)
TRUE = np.array([0.8, -0.6, 0.4, 1.0, -0.9, 0.5, -0.3])


def random_amounts():
    torch.manual_seed(1)
    return Amounts(
        torch.tensor([0, 2, 1, 5, 6]), torch.tensor([3, 4]), torch.tensor([0.7, 1.3]), 9, 8, 4
    ).double()


def test_slopes_of_the_amounts_are_those_of_autograd():
    amounts = random_amounts()
    labels = torch.randn(3, LABELS, dtype=torch.float64)
    rows = amounts.with_slopes(labels)
    torch.testing.assert_close(rows[:, 0], amounts(labels))
    exact = torch.stack(
        [torch.autograd.functional.jacobian(amounts, x[None])[0, :, 0] for x in labels]
    )
    torch.testing.assert_close(rows[:, 1:], exact.transpose(1, 2))


@pytest.mark.parametrize("resolution", [1800.0, 2300.0, 7000.0, 20_000.0, 28_000.0])
def test_predictions_are_what_an_instrument_sees(resolution):
    tokens = spectrum_tokens(TRUE, resolution, rv=3.0)
    seen = Explained(tokens, ONE, compact_lines())
    content, _ = seen.predict(torch.from_numpy(TRUE).float()[None], torch.tensor([3.0]))
    whole = seen.cover[1:-1] > 0.3  # where an arm ends pixels have no neighbours
    error = (content - seen.content)[1:-1][whole]
    signal = seen.content[1:-1][whole]
    assert error.square().mean().sqrt() < 0.03 * signal.square().mean().sqrt()


@pytest.mark.parametrize("shift", [0.0, 1.0, 2.0, 3.0, 4.0, 5.0])
def test_light_of_the_instrument_is_no_signal(shift):
    """Light that falls by two thirds to the ends of an arm, and jumps where detectors meet."""

    def light(x):
        place = (x - x.mean()) / np.ptp(x) * 2.0
        return (1.0 - 0.65 * place**2) * np.where(x > 5330.0 + shift, 0.8, 1.0)

    lost = 5323.0 + shift, 5337.0 + shift  # wherever tokens begin
    tokens = spectrum_tokens(TRUE, 20_000.0, light=light, lost=lost)
    seen = Explained(tokens, ONE, compact_lines())
    assert seen.content.abs().max() > 0.15  # what is taken off tokens leaves much of it
    content, _ = seen.predict(torch.from_numpy(TRUE).float()[None], torch.zeros(1))
    error = (content - seen.content)[seen.cover > 0.9]
    assert error.square().mean().sqrt() < 7e-4
    assert error.abs().median() < 2e-4
    assert error.abs().max() < 0.01


class Emulated:
    """Stands in for the emulators of compact spectra that lack something."""

    def __init__(self, compact, missing):
        nodes = int(compact.first) + 0.5 + np.arange(int(compact.size))
        self.x, self.missing = nodes * node_width(FINEST), missing
        self.stretches = [(int(compact.first), int(compact.size))]
        self.asked = 0

    def flux(self, stretch, labels):
        assert stretch == 0
        self.asked += 1
        whole = [
            flux_of(row + self.missing * row**2, self.x, OWN) + self.missing * np.sin(1e4 * self.x)
            for row in labels
        ]
        return (np.float32(whole) - 1.0).T


def test_other_emulators_of_the_same_name_are_refused(monkeypatch):
    compact = compact_lines()
    emulated = Emulated(compact, 0.0)
    emulated.stretches = [(0, 10)]
    monkeypatch.setattr("spectrolabe.models.compact.emulated_nodes", lambda _: emulated)
    compact.emulators = ("theirs",)
    with pytest.raises(InputError, match=r"theirs.*others of the same name"):
        first_fit(compact, [spectrum_tokens(TRUE, 1800.0)], ONE, ONE)


@pytest.mark.parametrize("resolution", [1800.0, 20_000.0])
def test_a_fit_ends_with_spectra_of_the_emulators(resolution, monkeypatch):
    missing, compact = 0.05, compact_lines(prior=3.0)
    emulated = Emulated(compact, missing)
    monkeypatch.setattr("spectrolabe.models.compact.emulated_nodes", lambda _: emulated)
    sigma = 1.0 / (2.0 * np.sqrt(2.0 * np.log(2.0)))  # what blurs to R, of ln(wavelength)
    blur = np.exp(-0.5 * (1e4 * sigma) ** 2 * (resolution**-2 - OWN**-2))
    light = lambda x: 1.0 + blur * missing * np.sin(1e4 * np.log(x))  # noqa: E731
    tokens = spectrum_tokens(
        TRUE + missing * TRUE**2, resolution, snr=3000.0, light=light, added=True
    )
    errors = []
    for emulators in ((), ("theirs",)):
        compact.emulators = emulators
        fit = first_fit(compact, [tokens], ONE, ONE)
        errors.append((fit.labels[0] - torch.from_numpy(TRUE)).abs().max())
    assert emulated.asked == CORRECTIONS
    assert errors[0] > 0.03
    assert errors[1] < 0.2 * errors[0]


def test_what_is_kept_is_bounded_and_does_not_change_a_fit(monkeypatch):
    tokens = [spectrum_tokens(TRUE, r, snr=60.0) for r in (1800.0, 7000.0)]
    kept = compact_lines()
    expected = [first_fit(kept, [one], ONE, ONE).labels for one in tokens]
    assert len(kept._tables) > 1
    monkeypatch.setattr("spectrolabe.models.compact.MOST_TABLES", 1)
    found = compact_lines()
    for _ in range(2):
        for one, labels in zip(tokens, expected, strict=True):
            torch.testing.assert_close(first_fit(found, [one], ONE, ONE).labels, labels)
            assert len(found._tables) == 1


def test_the_slope_with_velocity_is_that_of_predictions():
    tokens = spectrum_tokens(TRUE, 7000.0)
    seen = Explained(tokens, ONE, compact_lines())
    amounts = torch.from_numpy(TRUE).float()[None]
    _, slope = seen.predict(amounts, torch.tensor([2.0]))
    low, high = (seen.predict(amounts, torch.tensor([2.0 + d]))[0] for d in (-0.5, 0.5))
    inner = seen.cover > 0.3
    difference = (high - low - slope)[inner]  # but for the continuum, which hardly moves
    assert difference.square().mean().sqrt() < 0.1 * slope[inner].square().mean().sqrt()


@pytest.mark.parametrize("resolution", [1800.0, 7000.0])
@pytest.mark.parametrize("bend", [0.0, 0.1])
def test_labels_are_found_within_their_uncertainty(resolution, bend):
    compact = compact_lines(bend, prior=3.0)
    amounts = TRUE + bend * TRUE**2
    pulls = []
    for seed in range(6):
        tokens = spectrum_tokens(amounts, resolution, snr=60.0, rv=4.0, seed=seed)
        fit = first_fit(compact, [tokens], ONE, ONE)
        sigma = fit.covariance[0].diagonal().sqrt()
        pulls.append(((fit.labels[0] - torch.from_numpy(TRUE)) / sigma).numpy())
        assert abs(fit.velocity[0] - 4.0) < 5.0 * fit.velocity_sigma[0]
        assert 0.4 < fit.misfit[0] < 1.3
    assert 0.6 < np.sqrt(np.mean(np.square(pulls))) < 1.5
    assert fit.covariance[0].diagonal().max() < 3.0  # the spectra say more than the prior


def test_two_spectra_say_more_than_one():
    compact = compact_lines(prior=3.0)
    parts = [spectrum_tokens(TRUE, r, snr=60.0, seed=i) for i, r in enumerate((1800.0, 7000.0))]
    view, spectrum = torch.tensor([0, 1, 2, 2]), torch.tensor([0, 1, 0, 1])
    fit = first_fit(compact, parts, view, spectrum)
    each = [torch.linalg.inv(c.double()) for c in fit.covariance]
    prior = torch.eye(LABELS) / 9.0
    # information adds up, and the prior counts once
    torch.testing.assert_close(each[2] + prior, each[0] + each[1], rtol=0.1, atol=3.0)


def test_a_wrong_stretch_weighs_less():
    compact = compact_lines(prior=3.0)
    tokens = spectrum_tokens(TRUE, 7000.0, snr=100.0, seed=1)
    clean = first_fit(compact, [tokens], ONE, ONE)
    bad = tokens.content.shape[1] // 2
    tokens.content[0, bad] += 0.3 * torch.sin(torch.arange(64) / 2.0)
    fit = first_fit(compact, [tokens], ONE, ONE)
    assert fit.tokens[0].trust[0, bad] < 0.05
    assert (fit.labels - clean.labels).abs().max() < 0.1


def test_parts_do_not_depend_on_what_else_is_there():
    compact = compact_lines()
    parts = [spectrum_tokens(TRUE, r, snr=60.0, seed=1) for r in (1800.0, 7000.0)]
    two = torch.arange(2)
    both = first_fit(compact, parts, two, two)
    for i, part in enumerate(parts):
        alone = first_fit(compact, [part], ONE, ONE)
        torch.testing.assert_close(both.labels[i], alone.labels[0], rtol=1e-4, atol=1e-4)


def test_the_last_step_can_be_differentiated():
    compact = compact_lines(prior=3.0)
    tokens = spectrum_tokens(TRUE, 7000.0, snr=60.0, seed=1)
    content = tokens.content.clone()
    tokens.content = content.requires_grad_(True)
    first_fit(compact, [tokens], ONE, ONE).labels[0, 1].backward()
    nudge = 1e-4 * content.grad.sign()
    expected = float((nudge * content.grad).sum())
    with torch.no_grad():
        at = []
        for sign in (-1.0, 1.0):
            tokens.content = content.detach() + sign * nudge
            at.append(float(first_fit(compact, [tokens], ONE, ONE).labels[0, 1]))
    assert (at[1] - at[0]) / 2.0 == pytest.approx(expected, rel=0.1)


def test_weights_travel():
    compact = compact_lines()
    compact.amounts = random_amounts().float().requires_grad_(False)
    size = compact.size_of()
    assert size == CompactConfig(functions=9, labels=LABELS, elements=2, width=8, own=4)
    other = CompactSpectra.empty(size)
    state = compact.state_dict()
    other.load_state_dict(state)
    for name, value in other.state_dict().items():
        torch.testing.assert_close(value, state[name])
