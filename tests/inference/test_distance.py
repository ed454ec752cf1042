"""Distances: closed forms, information, shape of the magnitude, coverage on a synthetic sky."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.special import ndtr, ndtri

from spectrolabe.config.sky import PopulationConfig, SkyConfig
from spectrolabe.errors import InputError
from spectrolabe.inference.distance import (
    LENGTH,
    DistanceFlag,
    Distances,
    Photometry,
    distances,
)
from spectrolabe.models.posterior import SCORES, LabelPosterior
from spectrolabe.sky.photometry import EXTINCTION
from spectrolabe.sky.population import draw_population

QUANTILES = np.array([0.02, 0.16, 0.5, 0.84, 0.98])
PHOTOMETRY = {"k_mag": 10.0, "e_k_mag": 0.03, "a_k": 0.1, "e_a_k": 0.04}
KPC = 10 ** ((10.0 - 0.1 + 1.6) / 5 - 2)
SIGMA = np.sqrt(0.25**2 + 0.03**2 + 0.04**2)  # of the modulus


def magnitude(stars: int = 1, mean: float = -1.6, sigma: float = 0.25) -> LabelPosterior:
    names = [f"s{i}" for i in range(stars)]
    return LabelPosterior.independent(
        ["abs_mag_k"], np.full((stars, 1), mean), np.full((stars, 1), sigma), names
    )


def quantiles(found: Distances) -> np.ndarray:
    return found.posterior.quantiles(QUANTILES)[:, :, 0]


def test_without_a_parallax_the_distance_is_log_normal() -> None:
    found = distances(magnitude(), Photometry.of(1, **PHOTOMETRY))
    expected = KPC * 10 ** (0.2 * SIGMA * ndtri(QUANTILES))
    np.testing.assert_allclose(quantiles(found)[:, 0], expected, rtol=2e-4)
    width = 0.2 * np.log(10) * SIGMA
    mean = KPC * np.exp(width**2 / 2)
    assert found.posterior.mean[0, 0] == pytest.approx(mean, rel=1e-5)
    sigma = mean * np.sqrt(np.expm1(width**2))
    assert found.posterior.sigma[0, 0] == pytest.approx(sigma, rel=1e-4)
    assert found.flags[0] == DistanceFlag.NO_PARALLAX
    assert np.isnan(found.tension[0])


@pytest.mark.parametrize("error", [1e-5, 1e-3])
def test_a_parallax_without_error_is_the_distance(error: float) -> None:
    known = Photometry.of(1, **PHOTOMETRY, parallax=0.45, e_parallax=error)
    found = distances(magnitude(), known)
    expected = 1 / (0.45 - error * ndtri(QUANTILES))
    np.testing.assert_allclose(quantiles(found)[:, 0], expected, rtol=0.02 * error / 0.45 + 1e-7)


@pytest.mark.parametrize("parallax", [-0.3, -20.0])
def test_a_negative_parallax_that_says_little_leaves_the_spectroscopic_distance(
    parallax: float,
) -> None:
    known = Photometry.of(1, **PHOTOMETRY, parallax=parallax, e_parallax=500.0)
    both, alone = distances(magnitude(), known), distances(magnitude(), known.of(1, **PHOTOMETRY))
    np.testing.assert_allclose(quantiles(both), quantiles(alone), rtol=1e-4)
    assert both.flags[0] == 0


def test_a_negative_parallax_moves_the_star_away_and_is_noticed() -> None:
    errors = np.array([0.3, 0.1, 0.05])
    known = Photometry.of(3, **PHOTOMETRY, parallax=-0.1, e_parallax=errors)
    found = distances(magnitude(3), known)
    middle = quantiles(found)[2]
    assert KPC < middle[0] < middle[1] < middle[2]
    assert (found.tension < 0).all()
    assert list(found.flags & DistanceFlag.TENSION > 0) == [False, True, True]


def integral(parallax: float, error: float, length: float, below: float) -> float:
    """Posterior probability of a distance below something, of a parallax and a volume prior."""

    def density(d: float) -> float:
        return d**2 * np.exp(-d / length - 0.5 * ((parallax - 1 / d) / error) ** 2)

    edges = (1e-3, below, 60.0 * length)
    part, rest = (quad(density, *pair, limit=400)[0] for pair in (edges[:2], edges[1:]))
    return part / (part + rest)


@pytest.mark.parametrize(("parallax", "error", "length"), [(0.8, 0.1, None), (-0.2, 0.3, 0.5)])
def test_a_parallax_alone_is_that_of_the_volume_prior(
    parallax: float, error: float, length: float | None
) -> None:
    found = distances(
        magnitude(), Photometry.of(1, parallax=parallax, e_parallax=error), length=length
    )
    assert found.flags[0] == DistanceFlag.NO_SPECTROSCOPIC
    for probability, value in zip(QUANTILES, quantiles(found)[:, 0], strict=True):
        expected = integral(parallax, error, length or LENGTH, value)
        assert expected == pytest.approx(probability, abs=1e-3)


def test_nothing_known_gives_no_distance() -> None:
    found = distances(magnitude(2), Photometry.of(2, **{**PHOTOMETRY, "a_k": [np.nan, 0.1]}))
    lost = DistanceFlag.NO_PARALLAX | DistanceFlag.NO_SPECTROSCOPIC | DistanceFlag.NO_DISTANCE
    assert found.flags[0] == lost
    assert np.isnan(found.posterior.mean[0, 0])
    assert found.posterior.mean[1, 0] > 0


def test_a_magnitude_of_any_shape() -> None:
    """Two peaks of M_K are two of distance, and a parallax chooses one of them."""
    grid = np.linspace(-4.0, 6.0, 4001)
    share = 0.4 * ndtr((grid + 2.0) / 0.1) + 0.6 * ndtr((grid - 3.0) / 0.2)
    levels = np.interp(ndtr(SCORES), share, grid)
    mean, variance = 0.4 * -2.0 + 0.6 * 3.0, 6.0
    two = LabelPosterior(
        ("abs_mag_k",),
        np.array([[mean]]),
        np.array([[[variance]]]),
        np.array(["s"]),
        levels[None, None],
    )
    exact = {**PHOTOMETRY, "e_k_mag": 0.0, "e_a_k": 0.0}
    alone = distances(two, Photometry.of(1, **exact))
    expected = 10 ** ((9.9 - two.quantiles(1 - QUANTILES)[:, 0, 0]) / 5 - 2)
    np.testing.assert_allclose(quantiles(alone)[:, 0], expected, rtol=0.01)
    far = 10 ** ((9.9 + 2.0) / 5 - 2)
    chosen = distances(two, Photometry.of(1, **exact, parallax=1 / far, e_parallax=0.2))
    assert chosen.posterior.sigma[0, 0] < 0.08 * far
    assert quantiles(chosen)[2, 0] == pytest.approx(far, rel=0.01)


@settings(max_examples=30, deadline=None)
@given(
    mean=st.floats(-8, 10),
    sigma=st.floats(0.02, 2.0),
    parallax=st.floats(-2, 20),
    error=st.floats(0.01, 3.0),
    shift=st.floats(-5, 5),
)
@example(mean=0.0, sigma=2.0, parallax=-2.0, error=0.01, shift=1.0)  # far beyond all stars
def test_laws(mean: float, sigma: float, parallax: float, error: float, shift: float) -> None:
    known = Photometry.of(1, **PHOTOMETRY, parallax=parallax, e_parallax=error)
    found = distances(magnitude(1, mean, sigma), known)
    levels = found.posterior.levels[0, 0]
    assert np.isfinite(levels).all()
    assert (np.diff(levels) >= 0).all()
    assert levels[0] > 0
    # what is nearer by a factor has a parallax larger by it
    factor = 10 ** (shift / 5)
    scaled = Photometry.of(
        1,
        **{**PHOTOMETRY, "k_mag": 10.0 - shift},
        parallax=parallax * factor,
        e_parallax=error * factor,
    )
    near = distances(magnitude(1, mean, sigma), scaled)
    np.testing.assert_allclose(near.posterior.levels[0, 0] * factor, levels, rtol=0.01)
    np.testing.assert_allclose(near.tension, found.tension, rtol=1e-6, atol=1e-6)
    # extinction is magnitudes
    dusty = Photometry.of(
        1, **{**PHOTOMETRY, "a_k": 0.1 + shift, "k_mag": 10.0 + shift}, parallax=parallax,
        e_parallax=error,
    )  # fmt: skip
    same = distances(magnitude(1, mean, sigma), dusty)
    np.testing.assert_allclose(same.posterior.levels, found.posterior.levels, rtol=1e-6)


def test_stars_do_not_depend_on_each_other() -> None:
    rng = np.random.default_rng(2)
    stars = 40
    values = {**PHOTOMETRY, "k_mag": rng.uniform(6, 14, stars)}
    known = Photometry.of(
        stars,
        **values,
        parallax=rng.normal(0.5, 1.0, stars),
        e_parallax=rng.uniform(0.01, 1, stars),
    )
    order = rng.permutation(stars)
    whole, part = (
        distances(magnitude(stars), known),
        distances(magnitude(stars).take(order[:7]), known.take(order[:7])),
    )
    np.testing.assert_allclose(part.posterior.levels, whole.posterior.levels[order[:7]], rtol=2e-3)
    np.testing.assert_array_equal(part.flags, whole.flags[order[:7]])


@pytest.fixture(scope="module")
def sky() -> dict[str, np.ndarray]:
    config = SkyConfig(population=PopulationConfig(stars=2000))
    table = draw_population(config, np.random.default_rng(8))
    return {name: np.asarray(table[name]) for name in table.colnames}


@pytest.mark.parametrize(
    ("what", "sigma"),
    [("spectrum", 0.1), ("spectrum", 0.4), ("both", 0.1), ("both", 0.4), ("parallax", np.nan)],
)
def test_coverage_on_a_synthetic_sky(sky: dict[str, np.ndarray], what: str, sigma: float) -> None:
    rng = np.random.default_rng(10)
    stars = len(sky["distance"])
    errors = np.nan_to_num(sigma, nan=1.0) * rng.lognormal(0, 0.3, stars)
    absolute = LabelPosterior.independent(
        ["abs_mag_k"],
        (sky["abs_mag_k"] + errors * rng.normal(size=stars))[:, None],
        errors[:, None],
        sky["star_id"],
    )
    noise = rng.normal(size=(2, stars))
    known: dict[str, np.ndarray] = {}
    if what != "parallax":
        known["k_mag"], known["e_k_mag"] = sky["K"] + 0.03 * noise[0], np.full(stars, 0.03)
        known["a_k"] = EXTINCTION["K"] * sky["a_v"] + 0.02 * noise[1]
        known["e_a_k"] = np.full(stars, 0.02)
    if what != "spectrum":
        known["parallax"] = sky["parallax_measured"]
        known["e_parallax"] = sky["parallax_error"]
        assert (known["parallax"] < 0).any()
    found = distances(absolute, Photometry.of(stars, **known))
    score = found.posterior.scores(sky["distance"][:, None])[:, 0]
    # what is bright enough to be seen is not spread as the volume prior of a parallax alone is
    assert abs(score.mean()) < (0.2 if what == "parallax" else 0.1)
    assert 0.93 < score.std() < 1.07
    assert abs(np.mean(np.abs(score) < 1) - 0.683) < 0.03
    if what == "both":
        assert 0.94 < found.tension.std() < 1.06
        assert np.mean(found.flags & DistanceFlag.TENSION > 0) < 0.008


def test_a_volume_prior_on_top_of_a_posterior_counts_the_volume_twice(
    sky: dict[str, np.ndarray],
) -> None:
    rng = np.random.default_rng(4)
    stars = len(sky["distance"])
    noise = 0.5 * rng.normal(size=stars)
    absolute = LabelPosterior.independent(
        ["abs_mag_k"], (sky["abs_mag_k"] + noise)[:, None], [0.5], sky["star_id"]
    )
    known = Photometry.of(
        stars, k_mag=sky["K"], e_k_mag=0.0, a_k=EXTINCTION["K"] * sky["a_v"], e_a_k=0.0
    )
    without, twice = (
        distances(absolute, known, length=length).posterior.scores(sky["distance"][:, None])
        for length in (None, LENGTH)
    )
    assert abs(without.mean()) < 0.05 < 0.15 < abs(twice.mean())


@pytest.mark.parametrize(
    ("known", "message"),
    [
        ({"k_mag": 10.0, "a_k": 0.1, "e_a_k": 0.0}, "e_k_mag nan"),
        ({"parallax": 1.0, "e_parallax": 0.0}, "e_parallax 0"),
        ({"parallax": 1.0, "e_parallax": -1.0}, "e_parallax -1"),
        ({"k_mag": 10.0, "e_k_mag": -0.1}, "e_k_mag -0.1"),
    ],
)
def test_errors_are_needed(known: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Photometry.of(1, **known)


def test_wrong_arguments() -> None:
    with pytest.raises(InputError, match="the 2 stars"):
        distances(magnitude(2), Photometry.of(1, **PHOTOMETRY))
    with pytest.raises(InputError, match="a length in kpc"):
        distances(magnitude(1), Photometry.of(1, **PHOTOMETRY), length=-1.0)
    with pytest.raises(InputError, match="abs_mag_k"):
        distances(
            LabelPosterior.independent(["teff"], [[5000.0]], [10.0], ["s"]),
            Photometry.of(1, **PHOTOMETRY),
        )
