"""What every corrector of catalogues must do, whatever its functions are."""

from __future__ import annotations

import numpy as np
import pytest

from spectrolabe.catalogue.schema import LabelFlag
from spectrolabe.errors import InputError
from spectrolabe.homogenise import formula
from spectrolabe.homogenise.correction_files import load_correction, save_correction
from spectrolabe.homogenise.learning import METHODS, fit_correction
from spectrolabe.labels import Labels

NAMES = ("teff", "logg", "fe_h")
ERRORS = np.array([50.0, 0.08, 0.05])


@pytest.fixture(scope="module", autouse=True)
def shorter_search():
    """A tenth of the formulae."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(formula, "SEARCH", formula.SEARCH | {"generations": 12})
        yield


def truth(count, seed):
    """Giants and dwarfs."""
    rng = np.random.default_rng(seed)
    teff = rng.uniform(4200.0, 6500.0, count)
    logg = np.where(teff < 5300.0, (teff - 4200.0) / 550.0 + 1.0, 4.3) + rng.normal(0, 0.15, count)
    return np.column_stack([teff, logg, np.clip(rng.normal(-0.3, 0.4, count), -2.0, 0.5)])


def pair(count, seed, added=True, wrong=0.0):
    """A catalogue with a bias that is smooth and no plane, and one without, of the same stars."""
    rng = np.random.default_rng(seed + 1000)
    true = truth(count, seed)
    stated = ERRORS * rng.uniform(0.7, 1.6, (count, 3))
    x, y, z = ((true - [5300.0, 3.0, -0.3]) / [700.0, 1.2, 0.4]).T
    shift = np.column_stack([80.0 + 60.0 * x * y, 0.1 - 0.08 * y**2, 0.05 * x + 0.03 * z**2])
    seen = true + added * shift + stated * rng.normal(size=true.shape)
    lost = rng.random(count) < wrong
    seen[lost] += [1500.0, -1.5, -1.2]
    star = np.array([f"s{seed}-{i}" for i in range(count)])
    other = true + 0.3 * ERRORS * rng.normal(size=true.shape)
    return Labels(NAMES, seen, stated, star), Labels(
        NAMES, other, np.broadcast_to(0.3 * ERRORS, true.shape), star
    )


@pytest.fixture(scope="module", params=sorted(METHODS))
def fitted(request, shorter_search):
    return fit_correction(*pair(3000, 1, wrong=0.03), method=request.param)


def spread(x):
    return 1.4826 * np.median(np.abs(x - np.median(x)))


def test_trends_go_and_errors_are_right_for_other_stars(fitted):
    target, reference = pair(3000, 2)
    found = fitted.apply(target)
    for j, name in enumerate(NAMES):
        before, after = (reference[name] - one[name] for one in (target, found.labels))
        order = np.argsort(target["teff"])
        bins = np.array([np.median(after[part]) for part in np.array_split(order, 12)])
        was = np.array([np.median(before[part]) for part in np.array_split(order, 12)])
        assert np.abs(bins).max() < 0.35 * np.abs(was).max() + 0.25 * ERRORS[j]
        assert spread(after) < 1.02 * spread(before)
        pulls = after / np.hypot(found.labels.sigma[:, j], 0.3 * ERRORS[j])
        assert 0.85 < spread(pulls) < 1.1


def test_a_catalogue_against_itself_plus_noise_stays(fitted):
    rng, values = np.random.default_rng(8), truth(3000, 3)
    sigma, star = np.broadcast_to(ERRORS, values.shape), np.arange(3000).astype(str)
    target = Labels(NAMES, values, np.full(values.shape, np.nan), star)
    noisy = Labels(NAMES, values + ERRORS * rng.normal(size=values.shape), sigma, star)
    fit = fit_correction(target, noisy, method=fitted.card["method"])
    others = truth(2000, 4)
    found = fit.apply(Labels(NAMES, others, np.full(others.shape, np.nan), star[:2000]))
    pulls = found.correction / found.sigma
    assert np.sqrt(np.mean(pulls**2)) < 1.5
    assert np.quantile(np.abs(found.correction) / ERRORS, 0.95) < 0.3


def test_noise_of_its_own_does_not_move_it_away_from_the_truth(fitted):
    target, reference = pair(3000, 3, added=False)
    found = fit_correction(target, reference, method=fitted.card["method"]).apply(target)
    assert (np.quantile(np.abs(found.correction), 0.9, axis=0) < ERRORS).all()
    for name in NAMES:
        raw, new = (spread(one[name] - reference[name]) for one in (target, found.labels))
        assert new < 1.01 * raw


def test_far_from_all_shared_stars_it_is_flagged_and_finite(fitted):
    far = np.array([[5000.0, 2.0, -0.5], [7400.0, 0.2, -4.0], [2500.0, 5.5, 1.0]])
    labels = Labels(NAMES, far, np.broadcast_to(ERRORS, far.shape), np.array(list("abc")))
    found = fitted.apply(labels)
    assert (found.flags[0] == 0).all()
    assert (found.flags[1:] == LabelFlag.UNCALIBRATED).all()
    assert (found.support[1:] == 0).all()
    assert np.isfinite(found.labels.values).all()
    assert (found.labels.sigma[1:] > 1.5 * found.labels.sigma[0]).all()
    assert np.abs(found.correction[1:] / ERRORS).max() < 20.0


def test_what_is_not_known_stays_unknown_or_gets_the_median(fitted):
    values = np.array([[5000.0, 2.5, np.nan], [5000.0, np.nan, np.nan]])
    labels = Labels(NAMES, values, np.full(values.shape, np.nan), np.array(["a", "b"]))
    found = fitted.apply(labels)
    assert np.array_equal(np.isnan(found.labels.values), np.isnan(values))
    assert (found.flags[:, 2] == LabelFlag.NO_INFORMATION).all()
    assert found.flags[0, 0] == LabelFlag.UNCALIBRATED
    assert found.correction[0, 0] == pytest.approx(fitted.labels["teff"].zero)
    assert np.isfinite(found.labels.sigma[0, 0])


def test_labels_that_it_does_not_know_stay(fitted):
    values = np.column_stack([truth(5, 7), np.full(5, 0.1)])
    labels = Labels((*NAMES, "mg_fe"), values, np.full((5, 4), 0.03), np.arange(5).astype(str))
    found = fitted.apply(labels)
    assert np.array_equal(found.labels["mg_fe"], labels["mg_fe"])
    assert np.allclose(found.labels.sigma[:, 3], 0.03)
    assert (found.flags[:, 3] == LabelFlag.UNCALIBRATED).all()


def test_a_file_gives_back_the_same(fitted, tmp_path):
    target = pair(200, 5)[0]
    path = save_correction(fitted, tmp_path / "c.safetensors")
    again = load_correction(path)
    one, other = fitted.apply(target), again.apply(target)
    assert np.allclose(one.labels.values, other.labels.values, rtol=1e-6, equal_nan=True)
    assert np.allclose(one.labels.sigma, other.labels.sigma, rtol=1e-6)
    assert again.card["method"] == fitted.card["method"]
    assert again.labels["teff"].card["stars"] == 3000


def test_the_true_scale_is_recovered_and_not_only_the_reference_predicted(fitted, tmp_path):
    """What predicts best is drawn to the middle by noise; trends alone are taken off."""
    rng, method = np.random.default_rng(6), fitted.card["method"]

    def noisy(seed):
        target, reference = pair(6000, seed)
        values = target.values + ERRORS * 1.5 * rng.normal(size=target.values.shape)
        sigma = np.hypot(target.sigma, 1.5 * ERRORS)
        return Labels(NAMES, values, sigma, target.star_id), reference

    fit = fit_correction(*noisy(1), method=method, true_scale=True)
    predicting = fit_correction(*noisy(1), method=method)
    target, exact = noisy(2)[0], truth(6000, 2)
    save_correction(fit, tmp_path / "c.safetensors")
    new, drawn = (
        one.apply(target).labels
        for one in (load_correction(tmp_path / "c.safetensors"), predicting)
    )
    assert np.array_equal(new.values, fit.apply(target).labels.values)
    for j, name in enumerate(NAMES):
        parts = np.array_split(np.argsort(exact[:, j]), 10)
        left, was, predicted = (
            np.sqrt(np.mean([np.median((one[name] - exact[:, j])[p]) ** 2 for p in parts]))
            for one in (new, target, drawn)
        )
        assert left < 0.2 * ERRORS[j]
        assert left < 0.35 * was
        assert left < 0.7 * predicted
        assert 0.85 < spread((new[name] - exact[:, j]) / new.sigma[:, j]) < 1.15


def test_a_file_of_something_else_is_refused(tmp_path):
    path = tmp_path / "x"
    with pytest.raises(InputError, match="no such file"):
        load_correction(path)
    path.write_bytes(b"nonsense")
    with pytest.raises(InputError, match="a correction written by Spectrolabe"):
        load_correction(path)


def test_what_cannot_be_learnt_from_is_named():
    target, reference = pair(200, 1)
    with pytest.raises(InputError, match=r"at least 30 stars.*found 12"):
        fit_correction(target.take(range(12)), reference.take(range(12)))
    flat = np.array(target.values)
    flat[:, 1] = 4.0
    same = Labels(NAMES, flat, target.sigma, target.star_id)
    with pytest.raises(InputError, match=r"logg: expected a column that is not the same"):
        fit_correction(same, reference)
    with pytest.raises(InputError, match="polynomial"):
        fit_correction(target, reference, method="polynom")
    with pytest.raises(InputError, match="Missing: mg_fe"):
        fit_correction(target, reference, ["mg_fe"])
    with pytest.raises(InputError, match="Missing: snr"):
        fit_correction(target, reference, inputs=("teff", "snr"))


def test_the_true_scale_needs_errors():
    target, reference = pair(500, 9)
    sigma = np.array(target.sigma)
    sigma[:300, 1] = np.nan
    lacking = Labels(NAMES, target.values, sigma, target.star_id)
    with pytest.raises(InputError, match=r"true scale, logg: .*errors of 200 of 500"):
        fit_correction(lacking, reference, true_scale=True)
    exact = Labels(NAMES, target.values, np.zeros(sigma.shape), target.star_id)
    found = fit_correction(exact, reference, true_scale=True)
    plain = fit_correction(exact, reference)
    assert np.array_equal(found.apply(target).correction, plain.apply(target).correction)


def test_other_columns_may_be_inputs():
    target, reference = pair(2000, 1)
    snr = np.random.default_rng(3).uniform(10.0, 100.0, 2000)
    values = np.array(target.values)
    values[:, 0] += 1500.0 / snr
    noisy = Labels(NAMES, values, target.sigma, target.star_id)
    inputs = (*NAMES, "snr")
    fit = fit_correction(noisy, reference, ["teff"], inputs=inputs, extra={"snr": snr})
    left = reference["teff"] - fit.apply(noisy, {"snr": snr}).labels["teff"]
    faint = snr < 20.0
    assert abs(np.median(left[faint])) < 10.0
    assert abs(np.median((reference["teff"] - noisy["teff"])[faint])) > 100.0
