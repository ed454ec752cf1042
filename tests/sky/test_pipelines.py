"""What pipelines say against what comparisons of surveys have found."""

from __future__ import annotations

import numpy as np
import pytest

from spectrolabe.config.sky import PopulationConfig, SkyConfig
from spectrolabe.errors import InputError
from spectrolabe.labels import LABELS
from spectrolabe.sky.instruments import SURVEYS
from spectrolabe.sky.pipelines import PIPELINES, survey_labels
from spectrolabe.sky.population import draw_population


@pytest.fixture(scope="module")
def truth():
    config = SkyConfig(population=PopulationConfig(stars=3000))
    return draw_population(config, np.random.default_rng(11))


def labels(survey, truth, snr, seed=0):
    return survey_labels(survey, truth, np.full(len(truth), snr), np.random.default_rng(seed))


def scatter(values) -> float:
    values = np.asarray(values)
    return 1.4826 * np.nanmedian(np.abs(values - np.nanmedian(values)))


def test_every_survey_has_a_pipeline():
    assert set(PIPELINES) == set(SURVEYS)


@pytest.mark.parametrize("survey", PIPELINES)
def test_columns_are_labels_with_errors_or_neither(survey, truth):
    table = labels(survey, truth, 60.0)
    assert len(table) == len(truth)
    names = [name for name in table.colnames if name != "flags" and not name.endswith("_err")]
    assert {"teff", "logg", "fe_h"} <= set(names) <= set(LABELS)
    for name in names:
        value, error = np.asarray(table[name]), np.asarray(table[f"{name}_err"])
        assert np.array_equal(np.isnan(value), np.isnan(error))
        assert np.all(error[np.isfinite(error)] > 0)


@pytest.mark.parametrize("survey", PIPELINES)
def test_errors_grow_as_the_snr_falls(survey, truth):
    widths = {
        snr: scatter(labels(survey, truth, snr)["teff"] - truth["teff"]) for snr in (300, 40, 15)
    }
    assert widths[300] < widths[40] < widths[15]
    noise = PIPELINES[survey].scales["teff"]
    # at S/N without end what is left is the floor and the trends
    assert widths[300] < 3 * noise.floor + 40.0


def test_sizes_that_comparisons_have_found(truth):
    near = (truth["teff"] > 4500) & (truth["teff"] < 6500) & (truth["fe_h"] > -0.6)

    def difference(survey, name, rows):
        return np.asarray(labels(survey, truth, 80.0)[name] - truth[name])[rows]

    # LASP: 50 to 110 K, 0.1 to 0.25 and 0.05 to 0.1 dex (Luo et al. 2015; Anguiano et al. 2018)
    assert 40 < scatter(difference("lamost_lrs", "teff", near)) < 110
    assert 0.06 < scatter(difference("lamost_lrs", "logg", near)) < 0.25
    assert 0.04 < scatter(difference("lamost_lrs", "fe_h", near)) < 0.12
    # SSPP: 130 to 180 K, 0.2 to 0.3 dex (Allende Prieto et al. 2008), the sharpest is APOGEE
    assert 80 < scatter(difference("sdss_boss", "teff", near)) < 200
    assert scatter(difference("apogee", "teff", near)) < 40
    # log g of giants in GSP-Spec is 0.3 dex too low (Recio-Blanco et al. 2023)
    giants = near & (truth["logg"] < 2.8)
    assert np.nanmedian(difference("gaia_rvs", "logg", giants)) == pytest.approx(-0.3, abs=0.12)
    assert abs(np.nanmedian(difference("apogee", "logg", giants))) < 0.05


def test_scales_differ_between_surveys_as_functions_of_temperature(truth):
    apogee, lamost = (labels(survey, truth, 1000.0) for survey in ("apogee", "lamost_lrs"))
    gap = np.asarray(lamost["fe_h"] - apogee["fe_h"])
    known = np.isfinite(gap)
    hot = known & np.asarray(truth["teff"] > 6200)
    cool = known & np.asarray(truth["teff"] < 4800)
    assert np.median(gap[hot]) - np.median(gap[cool]) > 0.03


@pytest.mark.parametrize("survey", PIPELINES)
def test_stated_errors_are_wrong_by_what_is_said(survey, truth):
    pipeline = PIPELINES[survey]
    # two runs differ by their errors alone: trends cancel
    first, second = (labels(survey, truth, 50.0, seed) for seed in (1, 2))
    for name in ("teff", "fe_h"):
        pull = (first[name] - second[name]) / np.hypot(first[f"{name}_err"], second[f"{name}_err"])
        assert scatter(pull) == pytest.approx(1 / pipeline.stated, rel=0.15)


def test_weak_lines_are_lost_first(truth):
    table = labels("galah", truth, 60.0)
    missing = {name: np.isnan(np.asarray(table[f"{name}_fe"])) for name in ("mg", "eu", "ca")}
    poor = np.asarray(truth["fe_h"] < -0.8)
    assert missing["eu"].mean() > missing["mg"].mean() + 0.1
    assert missing["eu"][poor].mean() > missing["eu"][~poor].mean() + 0.2
    assert missing["ca"][~poor].mean() < 0.02
    faint = labels("galah", truth, 5.0)
    assert np.isnan(np.asarray(faint["teff"])).mean() > 0.5


def test_gross_mistakes_are_few_and_some_are_flagged(truth):
    table = labels("lamost_lrs", truth, 200.0)
    error = np.asarray(table["teff"] - truth["teff"])
    far = np.abs(error - np.nanmedian(error)) > 6 * scatter(error)
    assert 0.005 < far.mean() < 0.04
    flagged = np.asarray(labels("galah", truth, 200.0)["flags"]).astype(str)
    mistaken = np.array(["HIGH_CHI2" in names.split() for names in flagged])
    assert 0.001 < mistaken.mean() < 0.02


def test_flags_say_what_is_the_case(truth):
    names = [set(str(text).split()) for text in labels("galah", truth, 10.0)["flags"]]
    assert all("LOW_SNR" in found for found in names)
    names = [set(str(text).split()) for text in labels("galah", truth, 100.0)["flags"]]
    assert ["VSINI" in found for found in names] == list(truth["vsini"] > 20.0)
    assert not any("LOW_SNR" in found for found in names)


@pytest.mark.parametrize("survey", PIPELINES)
def test_flags_are_those_that_the_writer_knows(survey, truth, tmp_path):
    from spectrolabe.sky.writers import apogee, boss, desi, gaia_rvs, galah

    known = {
        "apogee": set(apogee.ASPCAP_BITS),
        "galah": set(galah.SP_BITS),
        "desi": set(desi.WARNINGS),
        "gaia_rvs": set(gaia_rvs.PARAMETER_FLAGS),
        "sdss_boss": set(boss.LETTERS),
        "lamost_lrs": set(),
    }
    pipeline = PIPELINES[survey]
    used = {pipeline.noisy, pipeline.hot, pipeline.cool, pipeline.rotating}
    used |= {pipeline.metal_poor, pipeline.mistaken}
    assert used - {""} <= known[survey]


def test_the_same_seed_gives_the_same_labels(truth):
    first, again, other = (labels("desi", truth, 30.0, seed) for seed in (3, 3, 4))
    assert np.array_equal(first["teff"], again["teff"], equal_nan=True)
    assert not np.array_equal(first["teff"], other["teff"], equal_nan=True)


def test_mistakes_are_named(truth):
    rng = np.random.default_rng(0)
    with pytest.raises(InputError, match="Did you mean 'apogee'"):
        survey_labels("apoge", truth, np.ones(len(truth)), rng)
    with pytest.raises(InputError, match=r"expected shape \(3000,\)"):
        survey_labels("apogee", truth, np.ones(4), rng)
    less = truth.copy()
    less.remove_column("mg_fe")
    with pytest.raises(InputError, match="a column mg_fe"):
        survey_labels("apogee", less, np.ones(len(truth)), rng)
