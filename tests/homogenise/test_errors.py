"""Errors of catalogues from repeats and from three of them."""

from __future__ import annotations

import numpy as np
import pytest

from spectrolabe.errors import InputError
from spectrolabe.homogenise.errors import hats, merged, noise_of_repeats, three_cornered_hat
from spectrolabe.homogenise.noise import Noise
from spectrolabe.labels import Labels


def of(values, sigma, stars):
    return Labels(("logg",), np.c_[values], np.c_[sigma], np.asarray(stars, dtype=str))


@pytest.mark.parametrize("injected", [(0.05, 0.1, 0.2), (0.1, 0.1, 0.1), (0.02, 0.15, 0.3, 0.08)])
def test_three_corners_find_the_errors_that_were_put_in(injected):
    rng = np.random.default_rng(1)
    true = rng.normal(size=8000)
    values = {str(i): true + rng.normal(0.0, s, 8000) for i, s in enumerate(injected)}
    values["0"][:50] += 3.0  # outliers
    values["1"][-60:] = np.nan
    found = three_cornered_hat(values)
    assert found.stars == 7940
    for name, sigma in zip(values, injected, strict=True):
        assert abs(found.sigma[name] - sigma) < 4.0 * found.error[name] + 0.01
        assert found.error[name] < 0.03


def test_trends_between_catalogues_are_no_errors():
    rng = np.random.default_rng(4)
    injected = {"a": 0.05, "b": 0.1, "c": 0.2}
    true = rng.normal(size=(8000, 2))
    bends = {"a": 0.0, "b": 0.2 * true[:, 0] ** 2, "c": 0.3 - 0.2 * true[:, 0] * true[:, 1]}
    values = {n: true[:, 0] + bends[n] + s * rng.normal(size=8000) for n, s in injected.items()}
    points = np.column_stack([np.mean(list(values.values()), axis=0), true[:, 1]])
    found = three_cornered_hat(values, points)
    for name, sigma in injected.items():
        assert abs(found.sigma[name] - sigma) < 4.0 * found.error[name] + 0.1 * sigma
    assert three_cornered_hat(values).sigma["c"] > 0.25


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_errors_of_catalogues_on_other_scales_are_found_label_by_label(seed):
    """Trends are told by all catalogues together, so that no noise is taken for a trend."""
    rng, sizes = (
        np.random.default_rng(seed),
        {"a": (30.0, 0.2), "b": (90.0, 0.1), "c": (60.0, 0.05)},
    )
    true = np.column_stack([rng.uniform(4000.0, 6500.0, 9000), rng.normal(0.0, 0.4, 9000)])
    x = (true[:, 0] - 5250.0) / 750.0
    bends = {"a": 0.0, "b": np.column_stack([80.0 * x, 0.1 * x**2]), "c": 0.2 * true}
    found = {
        n: Labels(("teff", "fe_h"), true + bends[n] + size * rng.normal(size=true.shape),
                  np.full(true.shape, np.nan), np.arange(9000).astype(str))
        for n, size in sizes.items()
    }  # fmt: skip
    for j, (name, hat) in enumerate(hats(found, ("teff", "fe_h")).items()):
        for n, size in sizes.items():
            assert abs(hat.sigma[n] - size[j]) < 4.0 * hat.error[n] + 0.05 * size[j], name
    with pytest.raises(InputError, match="three catalogues"):
        hats({n: found[n] for n in "ab"}, ("teff",))
    few = {n: one.take(np.arange(20)) for n, one in found.items()}
    with pytest.raises(InputError, match="found 3 with 20"):
        hats(few, ("teff",))


def test_two_corners_are_not_enough():
    with pytest.raises(InputError, match=r"three catalogues.*found 2 with 100"):
        three_cornered_hat({"a": np.zeros(100), "b": np.zeros(100)})


def test_repeats_tell_factor_and_floor():
    rng = np.random.default_rng(2)
    star = np.repeat(np.arange(6000), 2)
    sigma = np.exp(rng.uniform(np.log(0.02), np.log(0.4), len(star)))
    error = np.hypot(1.5 * sigma, 0.06) * rng.normal(size=len(star))
    (found,) = noise_of_repeats(of(star / 1000.0 + error, sigma, star)).values()
    assert found.factor == pytest.approx(1.5, rel=0.06)
    assert found.floor == pytest.approx(0.06, rel=0.12)


def test_a_row_that_is_there_twice_is_no_repeat():
    rng = np.random.default_rng(5)
    star = np.repeat(np.arange(400), 2)
    sigma = np.full(800, 0.1)
    value = 0.1 * rng.normal(size=800)
    value[1:600:2] = value[0:600:2]
    (found,) = noise_of_repeats(of(value, sigma, star)).values()
    assert np.hypot(found.factor * 0.1, found.floor) == pytest.approx(0.1, rel=0.2)
    assert noise_of_repeats(of(value[:600], sigma[:600], star[:600])) == {}


def test_rows_without_any_error_are_believed():
    found, _ = merged(of([4000.0, 4030.0], [np.nan, np.nan], ["a", "a"]))
    assert found["logg"][0] == 4015.0


def test_few_repeats_tell_nothing():
    assert noise_of_repeats(of(np.arange(40.0), np.ones(40), np.arange(40))) == {}


def test_noise_beside_known_errors():
    rng = np.random.default_rng(3)
    residual = np.hypot(0.2, 0.1) * rng.normal(size=20_000)
    found = Noise.of(residual, np.zeros(20_000), np.full(20_000, 0.1**2))
    assert found.floor == pytest.approx(0.2, rel=0.02)
    assert found.factor == 1.0


def test_rows_of_a_star_become_one_weighted_mean():
    values, sigma = [1.0, 1.2, 5.0, 9.0], [0.1, 0.2, 0.3, 0.4]
    found, first = merged(of(values, sigma, ["a", "a", "b", "c"]))
    weight = np.array([100.0, 25.0])
    assert found["logg"][0] == pytest.approx(np.average([1.0, 1.2], weights=weight))
    assert found.sigma[0, 0] == pytest.approx(weight.sum() ** -0.5)
    assert found.star_id.tolist() == ["a", "b", "c"]
    assert first.tolist() == [0, 2, 3]


def test_rows_that_disagree_are_not_averaged():
    values = [1.0, 1.1, 1.05, 5.0, 2.0, 4.0, 3.0, np.nan]
    found, _ = merged(of(values, np.full(8, 0.1), list("aaaabbcc")))
    assert found["logg"][0] == pytest.approx(1.05)
    assert np.isnan(found["logg"][1])
    assert found["logg"][2] == 3.0


def test_rows_without_errors_count_alike_and_get_none():
    found, _ = merged(of([1.0, 2.0], [np.nan, np.nan], ["a", "a"]))
    assert found["logg"][0] == 1.5
    assert np.isnan(found.sigma[0, 0])
