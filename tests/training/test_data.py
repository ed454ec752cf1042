"""Splits by star, and what the augmentations do."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from spectrolabe.config import AugmentationConfig
from spectrolabe.errors import InputError
from spectrolabe.models.pixels import PixelRow, collate
from spectrolabe.spectra.store import open_store
from spectrolabe.training.augmentation import augment, batches, halved
from spectrolabe.training.data import load_sample, split_stars


def stars_of(sample):
    return set(sample.labels.star_id)


def test_no_star_is_in_two_splits(store, config):
    sample = load_sample(open_store(store), config().data)
    splits = split_stars(sample, config().data, seed=3)
    parts = [stars_of(s) for s in (splits.train, splits.selection, splits.calibration)]
    assert all(parts)
    assert sum(len(p) for p in parts) == len(stars_of(sample)) == len(set.union(*parts))


def test_folds_keep_every_star_out_once(store, config):
    sample = load_sample(open_store(store), config().data)
    folded = config(data={"folds": 4}).data
    out = []
    for fold in range(4):
        splits = split_stars(sample, folded, 0, fold)
        assert not stars_of(splits.train) & stars_of(splits.calibration)
        out += sorted(stars_of(splits.calibration))
    assert sorted(out) == sorted(stars_of(sample))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.permutations(range(30)))
def test_the_split_does_not_depend_on_the_order_of_rows(store, config, order):
    sample = load_sample(open_store(store), config().data).take(np.arange(30))
    whole = split_stars(sample, config().data, seed=1)
    shuffled = split_stars(sample.take(np.array(order)), config().data, seed=1)
    assert stars_of(whole.train) == stars_of(shuffled.train)


def test_only_the_split_asked_for(store, config):
    sample = load_sample(open_store(store), config().data)
    assert set(sample.column("split")) == {"train"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"split": "trian"}, r"a known split of this store.*Did you mean 'train'"),
        ({"labels": ["teff", "mg_fe"]}, r"a known label of this store .*found 'mg_fe'"),
        ({"min_snr": 1e9}, r"at least 20 stars with labels, found 0"),
    ],
)
def test_what_the_store_lacks_is_named(store, config, changes, message):
    with pytest.raises(InputError, match=message):
        load_sample(open_store(store), config(data=changes).data)


def test_a_seed_gives_the_same_batches(store, config):
    sample = load_sample(open_store(store), config().data)
    settings = AugmentationConfig(cut=0.5, halve=0.5)
    one, other = (
        list(batches(sample, 32, rng=np.random.default_rng(5), augmentation=settings))
        for _ in range(2)
    )
    for (pixels, index), (again, same) in zip(one, other, strict=True):
        assert_array_equal(index, same)
        assert_array_equal(pixels.flux, again.flux)
        assert_array_equal(pixels.log_wavelength, again.log_wavelength)


def flat(count=4000, ivar=400.0) -> PixelRow:
    wavelength = np.linspace(5000.0, 6000.0, count)
    return PixelRow(
        wavelength,
        np.ones(count, np.float32),
        np.full(count, ivar, np.float32),
        2000.0,
        0.0,
    )


def test_added_noise_is_as_large_as_the_ivar_says():
    settings = AugmentationConfig(noise=2.0, tilt=0.0, drop_pixels=0.0, velocity=0.0)
    pixels = collate([[flat()]] * 200)
    noisy = augment(pixels, settings, torch.Generator().manual_seed(1))
    # the pixels had noise 1/20 of their own already: only the added part is in this flux
    added = (1.0 / noisy.ivar - 1.0 / pixels.ivar).clamp(min=0.0).mean(dim=1).sqrt()
    assert_allclose(noisy.flux.std(dim=1), added, atol=0.004)
    assert (added > 0.02).float().mean() == pytest.approx(0.7 * 0.8, abs=0.12)


def test_the_tilt_leaves_the_signal_to_noise_alone():
    settings = AugmentationConfig(noise=0.0, tilt=0.3, drop_pixels=0.0, velocity=0.0)
    tilted = augment(collate([[flat()]] * 8), settings, torch.Generator().manual_seed(1))
    assert_allclose(tilted.flux * tilted.ivar.sqrt(), 20.0, rtol=1e-4)
    assert tilted.flux.std(dim=1).max() > 0.01


def test_velocity_errors_have_the_size_asked_for():
    settings = AugmentationConfig(noise=0.0, tilt=0.0, drop_pixels=0.0, velocity=10.0)
    pixels = collate([[flat(60)]] * 3000)
    moved = augment(pixels, settings, torch.Generator().manual_seed(1))
    shift = (moved.log_wavelength - pixels.log_wavelength)[:, 0] * 299792.458
    assert shift.std().item() == pytest.approx(10.0, rel=0.05)


def test_merged_pairs_keep_the_mean_and_gain_the_ivar():
    row = flat(5)._replace(flux=np.array([1, 3, 5, np.nan, 9], np.float32))
    row = row._replace(ivar=np.array([1, 3, 2, 0, 1], np.float32))
    merged = halved(row)
    assert_allclose(merged.flux, [2.5, 5.0])
    assert_allclose(merged.ivar, [4.0, 2.0])
    assert_allclose(merged.wavelength, row.wavelength[:4].reshape(2, 2).mean(axis=1))
