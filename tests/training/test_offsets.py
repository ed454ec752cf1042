"""Several label catalogues: who is in which, and offsets that were put in are found again."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from spectrolabe.config import DataConfig, TrainConfig
from spectrolabe.errors import InputError
from spectrolabe.labels import Labels, LabelScale
from spectrolabe.models.checkpoint import load
from spectrolabe.spectra.store import StoreWriter, open_store
from spectrolabe.training import trainer
from spectrolabe.training.data import Splits, load_sample, open_stores, split_stars
from spectrolabe.training.offsets import difference, identified, in_common, measure
from spectrolabe.training.trainer import train
from tests.models.stars import made_up

INJECTED = {"teff": 200.0, "logg": -0.1}  # K, dex: 0.4 and 0.25 of the spread of the labels


def written(path, spectra, labels, *, names=None, survey="generic", ids=None, places=None):
    names = names or labels.names
    with StoreWriter(path, names) as writer:
        for i, (star, values) in enumerate(zip(spectra, labels.values, strict=True)):
            known = {n: v for n, v in zip(labels.names, values, strict=True) if n in names}
            meta = {} if places is None else {"ra": places[i], "dec": 10.0}
            spectrum = star[0].replace(
                survey=survey, star_id=ids[i] if ids else f"star{i}", meta=meta
            )
            writer.append(spectrum, values=known, file=f"{i}.fits")
    return path


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """Two catalogues of one survey: 20 of the 100 stars of each are in the other."""
    folder = tmp_path_factory.mktemp("stores")
    spectra, labels = made_up(np.random.default_rng(1), 180, step=6e-4, span=(4950.0, 5450.0))
    ids = [f"star{i}" for i in range(180)]
    reference = written(folder / "ours", spectra[:100], labels.take(range(100)), ids=ids[:100])
    shifted = labels.values + np.array([INJECTED["teff"], INJECTED["logg"], 0.0])
    other = Labels(labels.names, shifted, labels.sigma, labels.star_id)
    written(
        folder / "theirs",
        spectra[80:],
        other.take(range(80, 180)),
        names=("teff", "logg"),
        ids=ids[80:],
    )
    return reference, folder / "theirs"


def config_of(stores, **changes):
    return DataConfig(store=tuple(map(str, stores)), reference="ours", **changes)


def test_every_spectrum_is_told_what_every_catalogue_says_of_its_star(stores):
    config = config_of(stores)
    sample = load_sample(open_stores(config), config)
    assert len(sample) == 100 + 100 + 2 * 20
    assert_array_equal(np.bincount(2 * sample.source + sample.catalogue), [100, 20, 20, 100])
    star = sample.labels.star_id == "star90"
    assert star.sum() == 4
    teff = sample.labels["teff"][star]
    own = sample.catalogue[star] == 0
    assert_allclose(teff[~own] - teff[own], INJECTED["teff"])
    assert np.isnan(sample.labels["fe_h"][sample.catalogue == 1]).all()
    wavelength, flux, *_ = sample.arrays(int(np.flatnonzero(sample.source == 1)[0]))
    assert_array_equal(flux, open_store(stores[1]).arrays(0)[1])
    assert len(wavelength) == len(flux)
    assert_array_equal(sample.column("survey"), "generic")


def test_splits_are_by_star_over_all_stores(stores):
    config = config_of(stores, calibration=0.3)
    sample = load_sample(open_stores(config), config)
    splits = split_stars(sample, config, 0)
    assert not set(splits.train.labels.star_id) & set(splits.calibration.labels.star_id)


def test_stars_at_one_place_are_one_star(tmp_path):
    spectra, labels = made_up(np.random.default_rng(2), 30, step=2e-3)
    at = 20.0 + 0.01 * np.arange(30)
    near = at + 0.5 / 3600.0
    a = written(tmp_path / "a", spectra, labels, ids=[f"a{i}" for i in range(30)], places=at)
    b = written(tmp_path / "b", spectra, labels, ids=[f"b{i}" for i in range(30)], places=near)
    config = DataConfig(store=(str(a), str(b)))
    assert set(load_sample(open_stores(config), config).labels.star_id) == {
        f"a{i}" for i in range(30)
    }
    far = written(
        tmp_path / "c", spectra, labels, ids=[f"c{i}" for i in range(30)], places=at + 2 / 3600.0
    )
    config = DataConfig(store=(str(a), str(far)))
    assert len(set(load_sample(open_stores(config), config).labels.star_id)) == 60


def test_a_label_that_no_store_has_is_an_error(stores):
    config = config_of(stores, labels=("teff", "mg_fe"))
    with pytest.raises(InputError, match=r"a known label of this store .*found 'mg_fe'"):
        load_sample(open_stores(config), config)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reference": "nobody"}, "reference must be one of the stores"),
        ({"store": ("a/x", "b/x")}, "folders of different names"),
    ],
)
def test_stores_are_known_by_the_names_of_their_folders(changes, message):
    with pytest.raises(ValueError, match=message):
        DataConfig(**{"store": ("a/x", "a/y"), **changes})


def test_what_can_be_told(stores, tmp_path):
    config = config_of(stores)
    sample = load_sample(open_stores(config), config)
    assert_array_equal(in_common(sample, 0), [[100, 100, 100], [20, 20, 0]])
    assert_array_equal(identified(sample, 0), [[True] * 3, [True, True, False]])
    spectra, labels = made_up(np.random.default_rng(4), 30, step=2e-3)
    alone = written(
        tmp_path / "alone", spectra, labels, survey="other", ids=[f"x{i}" for i in range(30)]
    )
    config = config_of((*stores, alone))
    sample = load_sample(open_stores(config), config)
    assert_array_equal(identified(sample, 0)[2], False)  # other stars, other spectra


def test_without_spectra_in_common_the_difference_is_that_of_the_medians():
    residual = np.array([[1.0, 1.0], [2.0, np.nan], [30.0, 3.0], [5.0, np.nan], [6.0, np.nan]])
    found = difference(residual, np.array([0, 0, 0, 1, 1]), np.arange(5), 0, 2)
    assert_allclose(found, [[0.0, 0.0], [3.5, np.nan]])


def test_on_spectra_in_common_the_estimate_cancels():
    rng = np.random.default_rng(9)
    error = 50.0 * rng.normal(size=(40, 1))  # of the model, the same for both catalogues
    noise = 0.1 * rng.normal(size=(40, 1))
    residual = np.concatenate([error, error + noise + 2.0, 50.0 * rng.normal(size=(30, 1)) + 2.0])
    catalogue = np.repeat([0, 1, 1], [40, 40, 30])
    spectrum = np.concatenate([np.arange(40), np.arange(40), 40 + np.arange(30)])
    found = difference(residual, catalogue, spectrum, 0, 2)[1, 0]
    assert found == pytest.approx(2.0, abs=4 * 0.1 * np.sqrt(np.pi / 2 / 40))


def test_the_uncertainty_is_the_scatter_over_repetitions():
    rng = np.random.default_rng(5)
    catalogue, row = np.repeat([0, 1], 200), np.arange(400)
    star = row.astype(str)
    found = [
        measure(rng.normal(size=(400, 1)) + catalogue[:, None], catalogue, row, star, 0, 2, rng)
        for _ in range(30)
    ]
    values = np.array([f.value[1, 0] for f in found])
    assert values.mean() == pytest.approx(1.0, abs=4 * values.std() / np.sqrt(30))
    expected = np.sqrt(2 * np.pi / 2 / 200)  # of a difference of two medians of normal numbers
    assert values.std() == pytest.approx(expected, rel=0.5)
    assert np.mean([f.sigma[1, 0] for f in found]) == pytest.approx(expected, rel=0.15)


def test_rows_of_one_star_are_not_independent():
    rng = np.random.default_rng(6)
    residual = np.repeat(rng.normal(size=(100, 1)), 4, axis=0)
    catalogue, star = np.repeat([0, 1], 200), np.repeat(np.arange(100), 4).astype(str)
    found = measure(residual, catalogue, np.arange(400), star, 0, 2, rng).sigma[1, 0]
    assert found == pytest.approx(np.sqrt(np.pi / 50), rel=0.35)


def test_offsets_move_to_where_residuals_are_those_of_the_reference(stores):
    config = TrainConfig.model_validate(
        {"name": "two", "data": config_of(stores).model_dump(), "encoder": {"width": 8, "heads": 2}}
    )
    sample = load_sample(open_stores(config.data), config.data)
    scale = LabelScale.fit(sample.labels)
    none = sample.take(np.zeros(len(sample), dtype=bool))
    task = trainer.EncoderTask(config, Splits(sample, none, none), scale)
    truth = sample.labels.values - np.outer(sample.catalogue, [*INJECTED.values(), 0.0])
    estimate = scale.scale(truth) + 0.3  # a model that is off by the same for all
    for _ in range(30):
        trainer._move_offsets(task, task.shifted(task.model, sample) - estimate)
    found = task.model.get_parameter("offset").numpy() * scale.width
    assert_allclose(found, [[0.0] * 3, [*INJECTED.values(), 0.0]], rtol=1e-3)
    own = task.shifted(task.model, sample)
    assert_allclose(scale.unscale(own)[:, :2], truth[:, :2], rtol=1e-3)


@pytest.mark.parametrize("common", [40, 0])
def test_offsets_that_were_put_in_are_found(common, tmp_path):
    """100 and 80 stars, some of them in both catalogues, whose labels have errors of their own."""
    rng = np.random.default_rng(1)
    spectra, labels = made_up(rng, 180, step=1e-3, span=(4950.0, 5450.0))
    scatter = np.array([40.0, 0.04, 0.04])
    values = [labels.values + scatter * rng.normal(size=(180, 3)) for _ in range(2)]
    values[1] += [INJECTED["teff"], INJECTED["logg"], 0.0]
    ours, theirs = (Labels(labels.names, v, labels.sigma, labels.star_id) for v in values)
    parts = np.arange(100), np.arange(100 - common, 180)
    ids = [f"star{i}" for i in range(180)]
    paths = [
        written(
            tmp_path / name,
            [spectra[i] for i in rows],
            one.take(rows),
            names=names,
            ids=[ids[i] for i in rows],
        )
        for name, rows, one, names in (
            ("ours", parts[0], ours, labels.names),
            ("theirs", parts[1], theirs, ("teff", "logg")),
        )
    ]
    settings = TrainConfig.model_validate(
        {
            "name": "two",
            "data": {**config_of(paths).model_dump(), "calibration": 0.4, "selection": 0.0},
            "encoder": {"width": 16, "latents": 4, "blocks": 1, "heads": 2, "dropout": 0.0},
            "augmentation": {"noise": 0.2, "tilt": 0.05, "drop_tokens": 0.0},
            "training": {"epochs": 10, "batch_size": 12, "learning_rate": 5e-3, "ema": 0.9},
        }
    )
    model = load(train(settings, tmp_path / "run", progress=False))
    assert not [name for name in model.encoder.state_dict() if "offset" in name]
    found = model.card["offsets"]
    assert found["reference"] == "ours"
    theirs = found["catalogue_minus_reference"]["theirs"]
    for name, injected in INJECTED.items():
        entry, width = theirs[name], model.scale.width[model.names.index(name)]
        assert abs(entry["offset"] - injected) < 4 * entry["sigma"]
        assert 0.0 < entry["sigma"] < (0.1 if common else 0.5) * width
        assert (entry["stars_in_common"] > 5) == bool(common)
    assert theirs["fe_h"] == {"offset": None, "sigma": None, "stars_in_common": 0}
