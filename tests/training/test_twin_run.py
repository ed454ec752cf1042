"""Learning from visits: what is taught by what, and what comes out."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from spectrolabe.config import TrainConfig
from spectrolabe.errors import InputError
from spectrolabe.models.checkpoint import load
from spectrolabe.models.denoiser import AS_STATED, Made, error_parts, load_denoiser
from spectrolabe.models.flux_decoder import NodeFlux, flux_loss
from spectrolabe.models.pixels import collate
from spectrolabe.spectra import Frame, Spectrum
from spectrolabe.spectra.combine import level_width
from spectrolabe.spectra.store import StoreWriter, open_store
from spectrolabe.training.flux_errors import flux_errors
from spectrolabe.training.strange import strange_factor
from spectrolabe.training.transfer import continued, read_start
from spectrolabe.training.twin_run import read_visits, train_twins
from spectrolabe.training.twin_task import TwinTask
from spectrolabe.training.twins import pairs_of
from tests.models.compact import LABELS, flux_of
from tests.models.test_token_pixels import row_of

STARS, LABELLED = 24, 12


def visits(star, count, rng):
    """Exposures of a star whose lines are at random places."""
    grid = np.exp(np.arange(np.log(5000.0), np.log(5600.0), 1.0 / 2000.0 / 3.0))
    flux = flux_of(rng.normal(size=LABELS), np.log(grid), 2000.0)
    for i in range(count):
        snr = rng.uniform(15.0, 40.0)
        seen = flux + rng.normal(size=len(grid)) / snr
        ivar = np.full(len(grid), snr**2)
        name, meta = f"s{star}", {"file": f"s{star}.fits", "coadd": False}
        yield Spectrum(
            grid, seen, ivar, 2000.0, Frame.REST, 0.0, "made-up", f"{name}:{i}", name, meta
        )


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("twins") / "store"
    rng = np.random.default_rng(1)
    names = ("teff", "logg", "fe_h")
    with StoreWriter(folder, names) as writer:
        for star in range(STARS):
            values = (5000.0 + 20.0 * star, 4.0, -0.1) if star < LABELLED else None
            for one in visits(star, 2 + star % 2, rng):
                writer.append(one, values=values, good=star < LABELLED)
    return folder


def config(store, **twins):
    return TrainConfig.model_validate(
        {
            "name": "small-twins",
            "data": {"store": str(store), "calibration": 0.3},
            "augmentation": {"versions": 1},
            "transfer": {"start": "unified-v1"},
            "twins": {"teacher_epochs": 1, "channels": 4, **twins},
            "training": {"epochs": 2, "batch_size": 8},
        }
    )


def test_stars_without_labels_take_part_and_no_star_is_on_both_sides(store):
    settings = config(store)
    start = read_start(settings.transfer)
    train, calibration = read_visits(settings, start)
    stars = [set(part.labels.star_id) for part in (train, calibration)]
    assert not stars[0] & stars[1]
    assert len(stars[0] | stars[1]) == STARS
    known = set(
        np.concatenate([part.labels.star_id[part.labelled] for part in (train, calibration)])
    )
    assert known == {f"s{i}" for i in range(LABELLED)}
    for part in (train, calibration):
        for pair in part.pairs:
            names = {str(part.store.column("star_id")[i]) for i in (pair.visit, *pair.others)}
            assert len(names) == 1
            assert pair.visit not in pair.others


def test_a_run_gives_a_model_and_a_denoiser_and_goes_on_where_it_was(store, tmp_path):
    whole = train_twins(config(store), tmp_path / "whole", progress=False)
    model, denoiser = load(whole), load_denoiser(whole / "denoiser")
    assert denoiser.estimator.card["weights_sha256"] == model.card["weights_sha256"]
    assert model.card["training_data"]["stars_with_labels"] < model.card["training_data"]["stars"]
    one = next(visits(99, 1, np.random.default_rng(5)))
    ((made,),) = denoiser.denoise([[one]])
    assert made.good.any()
    part = tmp_path / "part"
    part.mkdir()
    (part / "config.json").write_text((whole / "config.json").read_text())
    (part / "teacher").mkdir()
    for name in ("state.safetensors", "metrics.jsonl"):
        (part / "teacher" / name).write_bytes((whole / "teacher" / name).read_bytes())
    again = load(train_twins(config(store), part, progress=False))
    for key, value in model.encoder.state_dict().items():
        assert torch.equal(value, again.encoder.state_dict()[key]), key


def test_flux_alone_needs_no_label(store, tmp_path):
    run = train_twins(config(store, teacher_epochs=0, labels=0.0), tmp_path / "run", progress=False)
    assert not (run / "teacher").exists()
    assert json.loads((run / "denoiser" / "card.json").read_text())["unseen"]["made-up"]["visits"]


def test_what_is_missing_is_named(store, tmp_path):
    settings = config(store)
    without = settings.model_copy(update={"twins": None})
    with pytest.raises(InputError, match=r"no \[twins\]"):
        train_twins(without, tmp_path / "a")
    alone = settings.transfer.model_copy(update={"start": ""})
    with pytest.raises(InputError, match=r"no transfer\.start"):
        train_twins(settings.model_copy(update={"transfer": alone}), tmp_path / "b")
    light = settings.transfer.model_copy(update={"start": "lamost-dr10"})
    with pytest.raises(InputError, match="starts from a fit"):
        train_twins(settings.model_copy(update={"transfer": light}), tmp_path / "c")


def test_the_loss_of_flux_is_least_at_the_truth_with_the_true_width():
    torch.manual_seed(0)
    truth, noise = torch.randn(1, 50, 64), 0.5
    target = truth + noise * torch.randn(1, 50, 64)
    error = 0.3
    found = truth + error * torch.randn(1, 50, 64)
    one, variance = torch.ones_like(truth), torch.full_like(truth, noise**2)

    def loss(content, sigma):
        return float(flux_loss(NodeFlux(content, sigma * one), target, variance, one))

    best = min((loss(found, s), s) for s in (0.05, 0.15, 0.2, 0.25, 0.3, 0.45, 0.9))[1]
    assert best in (0.25, 0.3)
    assert loss(truth, 0.1) < loss(found, 0.25) < loss(found + 0.5, 0.6)
    masked = torch.where(torch.rand(1, 50, 64) < 0.5, one, 0.0)
    wrong = torch.where(masked > 0, target, 100.0)
    assert flux_loss(NodeFlux(found, one), wrong, variance, masked) == pytest.approx(
        float(flux_loss(NodeFlux(found, one), target, variance, masked))
    )


def test_some_are_strange_and_others_stay_as_they_were():
    pixels = collate([[row_of(7500.0)] for _ in range(60)])
    rng, generator = np.random.default_rng(2), torch.Generator().manual_seed(3)
    factor = strange_factor(pixels, 0.6, 0.0, rng, generator)
    size = (factor - 1.0).std(dim=1)
    assert 15 <= (size == 0.0).sum() <= 33
    assert size.max() > 0.1
    assert (factor > 0).all()
    bright = strange_factor(pixels, 0.0, 0.5, rng, generator)
    assert 20 <= (bright.std(dim=1) > 0).sum() <= 40
    assert (bright >= 1.0).all()


def task_of(store, **twins):
    settings = config(store, injected=0.0, noise=0.0, **twins)
    start = read_start(settings.transfer)
    settings = continued(settings, start)
    train, _ = read_visits(settings, start)
    scaled = np.zeros((len(train.pairs), len(start.estimator.scale.names)))
    return TwinTask(settings, train.store, train.pairs, scaled, start)


def test_pairs_are_strange_on_both_sides_and_say_nothing_of_labels_then(store):
    task, entry = task_of(store), np.arange(16)
    (usual, labels), (odd, none) = (
        task.made(entry, np.random.default_rng(4), strange=strange) for strange in (False, True)
    )
    assert torch.isfinite(labels).all()
    assert torch.isnan(none).all()
    moved = [
        (new - old).flatten(1)
        for new, old in ((odd.tokens.content, usual.tokens.content), (odd.content, usual.content))
    ]
    clear = [pair for pair in zip(*moved, strict=True) if pair[0].std() > 0.05]  # above the noise
    assert len(clear) >= 5
    for pair in clear:
        assert torch.corrcoef(torch.stack(pair))[0, 1] > 0.9


def test_strange_copies_come_on_top_of_all_visits_where_flux_is_learnt(store):
    for twins, copies in (({"strange": 0.5}, 0.5), ({"strange": 0.5, "flux": 0.0}, 0.0)):
        task = task_of(store, **twins)
        count = len(task.pairs)
        learnt, strange = [], 0
        for batch, target in task.version(0, np.random.default_rng(1)):
            known = torch.isfinite(target).all(dim=1).numpy()
            learnt += batch.entry[known].tolist()
            strange += int((~known).sum())
        assert sorted(learnt) == list(range(count))
        assert strange == round(copies * count) == task.spectra - count


def visits_with(folder, noise, error, right, rng):
    """Visits, three of a star, and who says what they are without noise, a little wrong.

    The level of each is another one. What is said to be the noise is wrong; ``noise`` and
    ``error`` (of the denoised flux) are given for the S/N of a visit.
    """
    lines, exact, sizes = {}, {}, {}
    with StoreWriter(folder, ("teff",)) as writer:
        for star in range(150):
            for one in visits(star, 3, rng):
                size = 1.0 / np.exp(rng.uniform(np.log(10.0), np.log(40.0)))
                flux = lines.setdefault(one.star_id, 1.0 - 0.3 * (rng.random(len(one)) < 0.1))
                phase = np.log(one.wavelength) / level_width(one) + rng.uniform()
                flux = flux * (1.0 + 0.05 * np.sin(2.0 * np.pi * phase / 8.0))
                exact[one.spectrum_id], sizes[one.spectrum_id] = flux, size
                seen = flux + noise(size) * rng.normal(size=len(one))
                writer.append(one.replace(flux=seen, ivar=np.full(len(one), size**-2.0)))

    class Known:
        def made(self, stars):
            ((seen,),) = stars
            size = np.full(len(seen), error(sizes[seen.spectrum_id]))
            flux = exact[seen.spectrum_id] + size * rng.normal(size=len(seen))
            made = seen.replace(flux=flux)
            return [[Made(made, size / right(size), np.zeros(len(seen)), np.ones(len(seen)))]]

    return Known(), open_store(folder), sizes


@pytest.mark.parametrize("misstated", [0.8, 1.0, 1.25])
@pytest.mark.parametrize("right", [0.6, 1.0, 1.6])
def test_errors_of_flux_are_set_right_beside_noise_that_is_stated_wrong(tmp_path, right, misstated):
    """Of lines: levels that the twins do not share are not an error of these."""
    rng = np.random.default_rng(2)
    known, store, _ = visits_with(
        tmp_path / "store", lambda size: size / misstated, lambda _: 0.01, lambda _: right, rng
    )
    errors, unseen = flux_errors(known, store, pairs_of(store, range(len(store))))
    assert unseen["made-up"]["visits"] == 450
    for snr in (15.0, 30.0):
        parts = error_parts(np.array([0.01 / right]), np.ones(1), np.array([1.0 / snr]))
        assert np.sqrt(errors["made-up"] @ parts) == pytest.approx(0.01, rel=0.15)
    assert errors[""] == pytest.approx(errors["made-up"])


def test_errors_of_flux_that_the_decoder_knows_nothing_of_are_found(tmp_path):
    """It says a thousandth for all, where errors are 0.3 per cent and a fifth of the noise."""
    rng = np.random.default_rng(3)
    known, store, sizes = visits_with(
        tmp_path / "store",
        lambda size: size,
        lambda size: np.hypot(0.003, 0.2 * size),
        lambda size: size / 0.001,
        rng,
    )
    errors, _ = flux_errors(known, store, pairs_of(store, range(len(store))))
    for size in np.quantile(list(sizes.values()), [0.1, 0.5, 0.9]):
        parts = error_parts(np.array([0.001]), np.ones(1), np.array([size]))
        stated = np.sqrt(errors["made-up"] @ parts)
        assert stated == pytest.approx(np.hypot(0.003, 0.2 * size), rel=0.15)


def test_visits_of_less_than_two_twins_leave_errors_as_they_are_stated(store):
    """Half of the stars have two visits, the others three."""
    found = open_store(store)
    pairs = [pair for pair in pairs_of(found, range(len(found))) if len(pair.others) < 2]
    assert pairs
    assert flux_errors(None, found, pairs) == ({"": list(AS_STATED)}, {})
