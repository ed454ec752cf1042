"""Several label catalogues: who is in which, and offsets that were put in are found again."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from spectrolabe.config import DataConfig, TrainConfig
from spectrolabe.errors import InputError
from spectrolabe.models.checkpoint import load
from spectrolabe.spectra.store import StoreWriter, open_store
from spectrolabe.training.data import load_sample, open_stores, split_stars
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
    other = type(labels)(labels.names, shifted, labels.sigma, labels.star_id)
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


def test_the_difference_is_that_of_the_medians():
    residual = np.array([[1.0, 1.0], [2.0, np.nan], [30.0, 3.0], [5.0, np.nan], [6.0, np.nan]])
    found = difference(residual, np.array([0, 0, 0, 1, 1]), 0, 2)
    assert_allclose(found, [[0.0, 0.0], [3.5, np.nan]])


def test_the_uncertainty_is_the_scatter_over_repetitions():
    rng = np.random.default_rng(5)
    catalogue, star = np.repeat([0, 1], 200), np.arange(400).astype(str)
    found = [
        measure(rng.normal(size=(400, 1)) + catalogue[:, None], catalogue, star, 0, 2, rng)
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
    found = measure(residual, catalogue, star, 0, 2, rng).sigma[1, 0]
    assert found == pytest.approx(np.sqrt(np.pi / 50), rel=0.35)


def test_offsets_that_were_put_in_are_found(stores, tmp_path):
    settings = TrainConfig.model_validate(
        {
            "name": "two",
            "data": {**config_of(stores).model_dump(), "calibration": 0.4, "selection": 0.0},
            "encoder": {"width": 16, "latents": 4, "blocks": 1, "heads": 2, "dropout": 0.0},
            "augmentation": {"noise": 0.2, "tilt": 0.05, "drop_tokens": 0.0},
            "training": {"epochs": 12, "batch_size": 12, "learning_rate": 5e-3, "ema": 0.9},
        }
    )
    model = load(train(settings, tmp_path / "run", progress=False))
    assert set(model.encoder.state_dict()) == {
        name for name in model.encoder.state_dict() if "offset" not in name
    }
    found = model.card["offsets"]
    assert found["reference"] == "ours"
    theirs = found["catalogue_minus_reference"]["theirs"]
    for name, injected in INJECTED.items():
        entry = theirs[name]
        width = model.scale.width[model.names.index(name)]
        assert abs(entry["offset"] - injected) < 4 * entry["sigma"]
        assert abs(entry["offset"] - injected) < 0.2 * width
        assert 0.0 < entry["sigma"] < 0.1 * width
        assert entry["stars_in_common"] == 20
    assert theirs["fe_h"] == {"offset": None, "sigma": None, "stars_in_common": 0}
    # and the model is on the scale of the reference
    spectra, truth = made_up(np.random.default_rng(8), 60, step=6e-4, span=(4950.0, 5450.0))
    residual = model.predict(spectra)["teff"] - truth["teff"]
    assert abs(np.median(residual)) < 0.4 * INJECTED["teff"]
