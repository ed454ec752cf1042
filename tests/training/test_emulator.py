"""Training of an emulator on made-up spectra whose lines are known functions of the labels."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from spectrolabe.config import EmulatorTrainConfig, GridsConfig
from spectrolabe.errors import InputError
from spectrolabe.labels import Labels
from spectrolabe.models.emulator import load_emulator
from spectrolabe.spectra.observe import Instrument, observe
from spectrolabe.synthesis.grid import Grid, write_grid
from spectrolabe.training import emulator as training
from spectrolabe.training import loop
from spectrolabe.training.native import apart, fit_basis, latents, native_spectra

NAMES = ("teff", "logg", "fe_h", "v_micro", "mg_fe", "ba_fe")
LOW = np.array([4500.0, 1.0, -2.0, 0.8, -0.3, -0.5])
HIGH = np.array([7000.0, 4.8, 0.4, 2.0, 0.5, 0.8])
STEPS = np.array([50.0, 0.1, 0.1, 0.2, 0.1, 0.1])
LINES = {"fe_h": (5006.0, 5020.0), "mg_fe": (5012.0, 5013.0), "ba_fe": (5026.0,)}
SPAN = (5000.0, 5030.0)


def spectra(values, wavelength):
    """Flux with lines that saturate and grow with the abundance, and weaken with temperature."""
    row = dict(zip(NAMES, np.asarray(values).T[..., None], strict=True))
    flux = np.ones((len(values), len(wavelength)))
    for name, centres in LINES.items():
        abundance = row["fe_h"] + (row[name] if name != "fe_h" else 0.0)
        strength = np.exp(0.6 * abundance + 0.2 * row["logg"] - (row["teff"] - 5500.0) / 2000.0)
        for centre in centres:
            profile = np.exp(-0.5 * ((wavelength - centre) / (0.12 + 0.02 * row["v_micro"])) ** 2)
            flux -= (0.04 if name == "ba_fe" else 0.5) * strength / (1 + strength) * profile
    continuum = 1e6 * (row["teff"] / 5500.0) ** 4 * (wavelength / 5000.0) ** -1.0
    return flux, np.broadcast_to(continuum, flux.shape)


def made_up(stars, seed, *, slopes=False, step=0.04, low=SPAN[0] - 1, high=SPAN[1] + 1):
    wavelength = np.arange(low, high, step)
    values = np.random.default_rng(seed).uniform(LOW, HIGH, (stars, len(NAMES)))
    flux, continuum = spectra(values, wavelength)
    rest = {}
    if slopes:
        steps = np.tile(STEPS, (stars, 1))
        steps[:, 1] *= -1.0  # downwards, as at an upper edge
        moved = values[:, None] + np.eye(len(NAMES)) * steps[:, None]
        after = spectra(moved.reshape(-1, len(NAMES)), wavelength)[0].reshape(*moved.shape[:2], -1)
        rest = {
            "differential": (after - flux[:, None]) / steps[:, :, None],
            "differential_names": NAMES,
            "differential_steps": steps,
        }
    none = np.full(values.shape, np.nan)
    star_id = np.array([f"s{i}" for i in range(stars)])
    labels = Labels(NAMES, values, none, star_id)
    return Grid(wavelength, flux, continuum, labels, provenance={"seed": seed}, **rest)


@pytest.fixture(scope="module")
def grids(tmp_path_factory):
    """Two hundred spectra, a few of another sampling with differential spectra, and others."""
    folder = tmp_path_factory.mktemp("grids")
    write_grid(folder / "plain.grid", made_up(60, 1))
    write_grid(folder / "slopes.grid", made_up(24, 2, slopes=True, step=0.05))
    write_grid(folder / "held.grid", made_up(24, 3, slopes=True))
    return folder


def configuration(folder, **changes) -> EmulatorTrainConfig:
    """Return a small, quick one."""
    tree = {
        "name": "small",
        "grids": {
            "grids": [str(folder / "plain.grid"), str(folder / "slopes.grid")],
            "low": SPAN[0],
            "high": SPAN[1],
            "patch_pixels": 128,
            "selection": 0.1,
        },
        "emulator": {"token_width": 16, "state_width": 32, "patch_width": 16, "components": 10},
        "prior": {"stars": 6, "labels": 3},
        "training": {
            "epochs": 30,
            "batch_size": 16,
            "learning_rate": 4e-3,
            "weight_decay": 0.0,
            "ema": 0.98,
        },
    }
    for key, value in changes.items():
        tree[key] = {**tree[key], **value}
    return EmulatorTrainConfig.model_validate(tree)


@pytest.fixture(scope="module")
def seen(grids):
    """The held-out spectra as the emulator would have them, and what the labels change."""
    return native_spectra(
        GridsConfig(grids=(str(grids / "held.grid"),), low=SPAN[0], high=SPAN[1], patch_pixels=128)
    )


def slope_error(emulator, seen):
    """Relative error of the differential spectra, median of stars and labels."""
    ratios = []
    for row, steps, true in zip(seen.rows, seen.steps, seen.change, strict=True):
        before = seen.labels[row]
        made = emulator.basis.flux(emulator.latents(np.vstack([before, before + np.diag(steps)])))
        change, true = (made[1:] - made[:1]).numpy(), true.reshape(len(steps), -1)
        ratios.append(np.linalg.norm(change - true, axis=1) / np.linalg.norm(true, axis=1))
    return float(np.median(ratios))


@pytest.fixture(scope="module")
def run(grids, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "with"
    return training.train_emulator(configuration(grids), folder, progress=False)


def test_the_native_spectra_are_those_that_an_instrument_sees(grids, seen):
    values, wavelength = (
        seen.labels[:3],
        np.exp(seen.start + seen.step * np.arange(seen.flux[0].size)),
    )
    assert wavelength[0] > SPAN[0] > wavelength[0] * (1 - seen.step)
    assert wavelength[-1] < SPAN[1] < wavelength[-1] * (1 + seen.step)
    assert 1.0 / (28000.0 * seen.step) >= 3.0
    fine = np.arange(SPAN[0] - 2, SPAN[1] + 2, 0.01)
    expected = observe(fine, spectra(values, fine)[0], Instrument(wavelength, 28000.0))
    found = seen.flux[:3].reshape(3, -1)
    assert_allclose(found[:, 20:-20], expected[:, 20:-20], atol=3e-4)
    moved = values + np.eye(len(NAMES))[4] * STEPS[4]
    change = observe(
        fine, spectra(moved, fine)[0] - spectra(values, fine)[0], Instrument(wavelength, 28000.0)
    )
    assert_allclose(seen.change[:3, 4].reshape(3, -1)[:, 20:-20], change[:, 20:-20], atol=3e-5)
    centre = np.exp(np.log(wavelength).reshape(len(seen.continuum[0]), -1).mean(axis=1))
    assert_allclose(10.0 ** seen.continuum[:3], spectra(values, centre)[1], rtol=1e-4)


def test_the_basis_is_orthogonal_and_makes_spectra_it_was_not_fitted_to(grids, seen):
    native = native_spectra(configuration(grids).grids)
    basis = fit_basis(native, np.ones(len(native.labels), dtype=bool), 12, 28000.0)
    size = basis.components.square().sum(dim=-1)
    product = torch.einsum("pkw,plw->pkl", basis.components, basis.components)
    product = product / (size[:, :, None] * size[:, None, :]).sqrt()
    assert_allclose(product, np.tile(np.eye(12), (len(product), 1, 1)), atol=2e-3)
    made = basis.flux(latents(basis, seen.flux)).reshape(seen.flux.shape).numpy()
    assert np.abs(made - seen.flux).mean() < 5e-5
    assert np.abs(seen.flux - basis.offset.numpy()).mean() > 2e-3


def test_it_learns_spectra_of_stars_it_has_not_seen(run, seen):
    emulator = load_emulator(run)
    made = emulator.basis.flux(emulator.latents(seen.labels)).numpy()
    flux = seen.flux.reshape(len(made), -1)
    error = np.abs(made - flux).mean()
    nothing = np.abs(flux - emulator.basis.offset.flatten().numpy()).mean()
    assert error < 0.2 * nothing, error / nothing
    assert 0.3 < emulator.card["unseen"]["mae"] / error < 3.0
    wavelength = emulator.wavelength.reshape(len(emulator.basis.offset), -1).mean(axis=1)
    expected = spectra(seen.labels, wavelength)[1]
    assert_allclose(emulator.continuum(seen.labels, wavelength), expected, rtol=0.3)


def test_the_prior_lowers_the_error_of_differential_spectra(run, grids, seen, tmp_path):
    settings = configuration(grids, prior={"weight": 0.0})
    without = load_emulator(training.train_emulator(settings, tmp_path / "run", progress=False))
    assert without.card["training_data"]["differential_spectra"] == 0
    assert slope_error(load_emulator(run), seen) < 0.7 * slope_error(without, seen)


def test_the_card_says_what_it_was_trained_on(run, grids):
    card = json.loads((run / "card.json").read_text())
    data = card["training_data"]
    assert [one["name"] for one in data["grids"]] == ["plain.grid", "slopes.grid"]
    assert data["stars"] + data["stars_kept_apart"] == 84
    assert data["stars_kept_apart"] == 8
    assert data["differential_spectra"] % len(NAMES) == 0
    assert str(grids) not in json.dumps(card)  # no path of the machine it was made on
    assert [entry["name"] for entry in card["labels"]] == list(NAMES)
    values = np.vstack([made_up(60, 1).labels.values, made_up(24, 2).labels.values])
    assert_allclose([entry["low"] for entry in card["labels"]], values.min(axis=0), rtol=0.2)


def test_an_interrupted_run_continues_to_the_same_weights(grids, tmp_path, monkeypatch):
    settings = configuration(grids, training={"epochs": 4, "checkpoint_minutes": 1e-9})
    whole = load_emulator(training.train_emulator(settings, tmp_path / "whole", progress=False))
    original = loop.epoch

    def interrupted(state):
        if state.epoch == 2:
            raise KeyboardInterrupt
        return original(state)

    monkeypatch.setattr(loop, "epoch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        training.train_emulator(settings, tmp_path / "cut", progress=False)
    monkeypatch.setattr(loop, "epoch", original)
    monkeypatch.setattr(training, "native_spectra", None)  # what was prepared is kept
    cut = load_emulator(training.train_emulator(settings, tmp_path / "cut", progress=False))
    for one, other in zip(whole.network.parameters(), cut.network.parameters(), strict=True):
        assert_array_equal(one, other)
    assert whole.card == cut.card


def test_differential_spectra_that_are_not_finite_are_left_out(tmp_path):
    grid = made_up(20, 4, slopes=True)
    broken = np.array(grid.differential)
    broken[3, 1, 200], broken[5] = np.nan, np.inf
    path = tmp_path / "g.grid"
    with np.errstate(invalid="ignore"):
        write_grid(path, replace(grid, differential=broken))
    native = native_spectra(GridsConfig(grids=(str(path),), low=5000, high=5030, patch_pixels=128))
    expected = np.ones((20, len(NAMES)), dtype=bool)
    expected[3, 1], expected[5] = False, False
    assert_array_equal(native.steps != 0, expected)
    assert np.isfinite(native.change).all()
    assert (native.change[5] == 0).all()


def test_only_known_differential_spectra_are_drawn_and_counted(grids, tmp_path):
    settings = configuration(grids, prior={"labels": 6, "stars": 24})
    given = training.material(settings, tmp_path)
    steps = np.array(given.steps)
    steps[:, 3] = 0.0
    wrong = given.change.clone()
    wrong[:, 3] = 1e3
    task = training.EmulatorTask(settings, replace(given, steps=steps, change=wrong))
    stars, columns = task._drawn(np.random.default_rng(0))
    found = task.slopes.change[stars[:, None], columns]
    assert float(task._slope_loss(found, stars, columns)) == pytest.approx(
        training.SLOPE_FLOOR, rel=1e-5
    )
    zero = task._slope_loss(torch.zeros_like(found), stars, columns)
    assert 0.3 < float(zero) < 1.5  # relative to what the labels change


def test_stars_with_differential_spectra_come_first(grids):
    native = native_spectra(configuration(grids, grids={"stars": 30}).grids)
    assert len(native.labels) == 30
    assert len(native.rows) == 24


def test_a_star_is_kept_apart_by_its_labels_alone():
    values = made_up(50, 6).labels.values
    kept = apart(values, 0.2, 0)
    assert kept.sum() == 10
    order = np.random.default_rng(0).permutation(50)
    assert_array_equal(apart(values[order], 0.2, 0), kept[order])
    assert not apart(values, 0.0, 0).any()
    assert not np.array_equal(apart(values, 0.2, 1), kept)


def other_labels(grid):
    names = (*NAMES[:-1], "eu_fe")
    return replace(grid, labels=replace(grid.labels, names=names))


@pytest.mark.parametrize(
    ("make", "changes", "message"),
    [
        (
            lambda: made_up(8, 7, low=5010.0),
            {},
            r"spectra from 5000\.0 to 5030\.0 Å, found none at",
        ),
        (lambda: other_labels(made_up(8, 7)), {}, r"the labels of plain\.grid.*eu_fe"),
        (lambda: made_up(8, 7, step=0.2), {}, r"pixels or more per FWHM"),
        (
            lambda: made_up(8, 7),
            {"emulator": {"components": 100}},
            r"emulator\.components: expected at most 61: 61 spectra",
        ),
        (lambda: made_up(8, 7), {"grids": {"low": 5030.0, "high": 5000.0}}, r"expected low < high"),
        (lambda: made_up(8, 7), {"grids": {"grids": []}}, r"expected one grid or more, found none"),
        (lambda: made_up(8, 7), {"grids": {"grids": ["no.grid"]}}, r"no\.grid: expected a grid"),
    ],
)
def test_grids_that_do_not_fit_are_errors(grids, tmp_path, make, changes, message):
    write_grid(tmp_path / "other.grid", make())
    tree = {"grids": {"grids": [str(grids / "plain.grid"), str(tmp_path / "other.grid")]}}
    tree["grids"] |= changes.get("grids", {})
    settings = configuration(grids, **{**changes, **tree})
    with pytest.raises(InputError, match=message):
        training.train_emulator(settings, tmp_path / "run", progress=False)


def test_other_grids_under_the_same_names_do_not_continue_a_run(grids, tmp_path):
    path = tmp_path / "g.grid"
    write_grid(path, made_up(30, 8))
    settings = configuration(grids, grids={"grids": [str(path)]}, training={"epochs": 1})
    training.train_emulator(settings, tmp_path / "run", progress=False)
    write_grid(path, made_up(30, 9))
    with pytest.raises(InputError, match=r"the grids that this run was begun with"):
        training.train_emulator(settings, tmp_path / "run", progress=False)
