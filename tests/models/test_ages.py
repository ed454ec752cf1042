"""Ages of giants: a relation that is known is recovered, with errors that are right."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from astropy.table import Table

from spectrolabe.catalogue import LabelFlag
from spectrolabe.errors import InputError
from spectrolabe.inference.ages import AGE_COLUMNS, add_ages
from spectrolabe.labels import Labels
from spectrolabe.models.age_files import load_ages, save_ages
from spectrolabe.models.ages import AgeModel, features
from spectrolabe.training.ages import AgeTraining, train_ages
from spectrolabe.validation.distributions import coverage, pit

NAMES = ("teff", "logg", "fe_h", "c_fe", "n_fe")
CENTRE = np.array([4700.0, 2.6, -0.1, -0.02, 0.23])
WIDTH = np.array([150.0, 0.3, 0.2, 0.08, 0.09])
ERROR = np.array([10.0, 0.02, 0.01, 0.01, 0.01])
SCATTER = 0.08  # dex, of the age at given labels


def made_up(seed: int, stars: int, error: np.ndarray = ERROR) -> tuple[Labels, np.ndarray]:
    """Giants whose log age is a curved function of labels, with scatter; and their ages."""
    rng = np.random.default_rng(seed)
    unit = rng.normal(size=(stars, 5)).clip(-2.5, 2.5)
    # as in real stars: age tells carbon and nitrogen
    unit[:, 4] = 0.7 * unit[:, 3] + 0.7 * unit[:, 4]
    log_age = 0.6 + 0.2 * unit[:, 3] - 0.1 * unit[:, 4] + 0.06 * unit[:, 0] * unit[:, 2]
    log_age = np.minimum(log_age + SCATTER * rng.normal(size=stars), 1.3)
    values = CENTRE + WIDTH * unit + error * rng.normal(size=(stars, 5))
    ids = [f"s{i}" for i in range(stars)]
    return Labels(NAMES, values, np.broadcast_to(error, values.shape), np.array(ids)), 10**log_age


@pytest.fixture(scope="module")
def model() -> AgeModel:
    labels, ages = made_up(1, 1500)
    other = np.where(np.arange(1500) % 3 == 0, np.nan, 0.8 * ages)  # a scale of fewer stars
    settings = AgeTraining(folds=4, members=1, width=32, steps=500, batch=128)
    return train_ages(labels, {"one": ages, "other": other}, settings=settings)


def test_a_known_relation_is_recovered(model: AgeModel) -> None:
    labels, ages = made_up(2, 800)
    found = model.predict(labels)
    inside = model.inside(labels)
    assert inside.mean() > 0.97
    residual = np.log10(found.quantiles([0.5])[0, inside, 0] / ages[inside])
    # what cannot be known is the scatter, and a little for errors of the labels
    assert residual.std() < 1.25 * SCATTER
    assert abs(np.median(residual)) < 0.01
    assert np.corrcoef(np.log(found["age"][inside]), np.log(ages[inside]))[0, 1] > 0.85


@pytest.mark.parametrize(
    "error", [ERROR, 6 * ERROR, np.array([150.0, 0.3, 0.1, 0.01, 0.12])], ids=["as", "6x", "odd"]
)
def test_uncertainties_are_right_whatever_the_errors_of_labels(
    model: AgeModel, error: np.ndarray
) -> None:
    labels, ages = made_up(3, 1000, error)
    inside = model.inside(labels)
    found, truth = model.predict(labels).take(inside), ages[inside, None]
    scores = found.scores(truth)
    assert abs(scores.mean()) < 0.15
    assert 0.85 < scores.std() < 1.15
    assert abs(coverage(found, truth, 0.683)[0] - 0.683) < 0.06
    assert abs(coverage(found, truth, 0.95)[0] - 0.95) < 0.04


@pytest.mark.parametrize("missing", [("c_fe",), ("c_fe", "n_fe")])
def test_labels_may_be_missing(model: AgeModel, missing: tuple[str, ...]) -> None:
    labels, ages = made_up(4, 1000)
    values, kept = labels.values.copy(), [n for n in NAMES if n not in missing]
    values[:, labels.index(missing)] = np.nan
    gone = model.predict(Labels(NAMES, values, labels.sigma, labels.star_id))
    left_out = model.predict(labels.select(kept))
    np.testing.assert_array_equal(gone.mean, left_out.mean)
    whole = model.predict(labels)
    known = np.isfinite(gone.mean[:, 0])
    assert np.median(gone.sigma[known]) > 1.3 * np.median(
        whole.sigma[known & np.isfinite(whole.mean[:, 0])]
    )
    score = gone.take(known).scores(ages[known, None])
    assert 0.85 < score.std() < 1.15
    assert abs(np.mean(pit(gone.take(known), ages[known, None])) - 0.5) < 0.05


def test_worse_labels_give_wider_ages(model: AgeModel) -> None:
    labels, _ = made_up(5, 300)
    worse = Labels(NAMES, labels.values, 8 * labels.sigma, labels.star_id)
    both = model.inside(labels)
    assert (model.predict(worse).sigma[both] > model.predict(labels).sigma[both]).mean() > 0.9


def test_scales_differ_as_their_ages_do(model: AgeModel) -> None:
    labels, _ = made_up(6, 300)
    ratio = model.on("other").predict(labels)["age"] / model.predict(labels)["age"]
    assert np.nanmedian(ratio) == pytest.approx(0.8, abs=0.03)
    with pytest.raises(InputError, match="age scale"):
        model.on("another")


def test_a_star_does_not_depend_on_those_beside_it(model: AgeModel) -> None:
    labels, _ = made_up(7, 60)
    order = np.random.default_rng(0).permutation(60)
    whole, some = model.predict(labels), model.predict(labels.take(order[:7]))
    np.testing.assert_allclose(some.levels, whole.levels[order[:7]], rtol=1e-9)


def test_other_stars_have_no_age(model: AgeModel) -> None:
    values = np.tile(CENTRE, (5, 1))
    values[1] = [5777.0, 4.44, 0.0, 0.0, 0.0]  # the Sun
    values[2, 0] = np.nan
    values[3, 4] = np.nan
    values[4, 1] = 3.9
    sigma = np.tile(ERROR, (5, 1))
    sigma[4, 1] = 0.5  # may well be a giant
    labels = Labels(NAMES, values, sigma, np.arange(5).astype(str))
    expected = [True, False, False, True, True]
    assert list(model.inside(labels)) == expected
    assert list(np.isfinite(model.predict(labels).mean[:, 0])) == expected


def test_what_is_refused(model: AgeModel) -> None:
    labels, ages = made_up(8, 150)
    with pytest.raises(InputError, match="logg"):
        model.predict(labels.select(["teff", "fe_h", "c_fe"]))
    sigma = labels.sigma.copy()
    sigma[3, 4] = np.nan
    with pytest.raises(InputError, match=r"labels of s3: expected an uncertainty of n_fe"):
        model.predict(Labels(NAMES, labels.values, sigma, labels.star_id))
    with pytest.raises(InputError, match="100 or more positive ages"):
        train_ages(labels, {"one": np.where(ages < 5, 0.0, ages)})
    with pytest.raises(InputError, match="150 stars, found 149"):
        train_ages(labels, {"one": ages[1:]})


def test_written_and_read_it_says_the_same(model: AgeModel, tmp_path) -> None:
    labels, _ = made_up(9, 40)
    folder = save_ages(model.on("other"), tmp_path / "ages")
    again = load_ages(folder)
    assert (again.names, again.scales, again.scale) == (NAMES, ("one", "other"), "other")
    for scale in again.scales:
        one, other = (m.on(scale).predict(labels) for m in (model, again))
        np.testing.assert_allclose(other.levels, one.levels, rtol=1e-9)
    assert load_ages(folder, "one").scale == "one"
    card = json.loads((folder / "card.json").read_text())
    assert card["training_stars"] == {"one": 1500, "other": 1000}
    (folder / "model.safetensors").write_bytes(b"other weights")
    with pytest.raises(InputError, match="weights"):
        load_ages(folder)


def test_a_model_of_another_kind_is_named() -> None:
    with pytest.raises(InputError, match=r"expected a model of ages.*found an encoder"):
        load_ages("lamost-dr10")


def test_the_same_seed_gives_the_same_model() -> None:
    labels, ages = made_up(10, 200)
    settings = AgeTraining(folds=2, members=1, width=8, steps=20, batch=32)
    one, two = (train_ages(labels, {"one": ages}, settings=settings) for _ in range(2))
    np.testing.assert_array_equal(one.predict(labels).levels, two.predict(labels).levels)


def test_a_missing_label_is_one_without_weight() -> None:
    values = torch.tensor([[2.0, 2.0, torch.nan, -9.0]])
    sigma = torch.tensor([[0.0, 1.0, torch.nan, 0.0]])
    expected = [2.0, 1.0, 0.0, -6.0, 1.0, 0.5, 0.0, 1.0]
    np.testing.assert_allclose(features(values, sigma)[0], expected)


def test_ages_are_added_to_a_table(model: AgeModel) -> None:
    labels, _ = made_up(11, 20)
    columns = {n: labels[n] for n in NAMES} | {f"e_{n}": labels.sigma[:, 0] for n in NAMES}
    for i, name in enumerate(NAMES):
        columns[f"e_{name}"] = labels.sigma[:, i]
    columns["logg"] = np.where(np.arange(20) == 4, 4.5, columns["logg"])
    table = Table({"star_id": labels.star_id, **columns, "other": np.arange(20)})
    found = add_ages(table, model)
    assert found.colnames == [*table.colnames, *AGE_COLUMNS]
    expected = model.predict(labels)
    others = np.arange(20) != 4
    np.testing.assert_allclose(found["age_giant"][others], expected["age"][others], rtol=1e-6)
    np.testing.assert_allclose(
        found["age_giant_84"][others], expected.quantiles([0.84])[0, others, 0], rtol=1e-6
    )
    flags = np.asarray(found["age_giant_flags"])
    assert list(np.flatnonzero(flags == LabelFlag.NO_INFORMATION)) == [4]
    assert str(found["e_age_giant"].unit) == "Gyr"
    scaled = add_ages(table["star_id", *columns], model, scale="other")
    assert np.nanmedian(scaled["age_giant"] / found["age_giant"]) == pytest.approx(0.8, abs=0.04)
    with pytest.raises(InputError, match="no ages of giants yet"):
        add_ages(found, model)
    with pytest.raises(InputError, match="no e_c_fe"):
        add_ages(Table({n: v for n, v in columns.items() if n != "e_c_fe"}), model)


def test_the_guide_has_the_columns() -> None:
    text = (Path(__file__).parents[2] / "docs" / "ages.md").read_text(encoding="utf-8")
    for name, (_, unit, description) in AGE_COLUMNS.items():
        assert f"| `{name}` | {unit + ' ' if unit else ''}| {description} |" in text
