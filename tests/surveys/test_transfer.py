"""Labels of a reference survey arrive on the right stars of the others."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from spectrolabe.config.sky import SkyConfig
from spectrolabe.errors import InputError
from spectrolabe.models.pixels import PixelRow, collate, row_of
from spectrolabe.models.tokens import tokenise
from spectrolabe.sky.simulate import TRUTH, simulate
from spectrolabe.spectra.store import open_store
from spectrolabe.surveys import read_labels
from spectrolabe.surveys.ingest import ingest
from spectrolabe.surveys.transfer import SurveyData, transfer_labels
from tests.sky.test_simulate import CATALOGUES, _spectra

SURVEYS = ("apogee", "galah", "desi", "lamost_lrs")
NAMES = ("teff", "fe_h", "mg_fe")


@pytest.fixture(scope="module")
def sky(tmp_path_factory):
    folder = tmp_path_factory.mktemp("transfer")
    seen = {name: {"share": 1.0 if name in SURVEYS else 0.0} for name in CATALOGUES}
    seen["apogee"] |= {"exposure": 4.0}
    tree = {"seed": 3, "population": {"stars": 12, "magnitude": [13, 15]}, "surveys": seen}
    simulate(SkyConfig.model_validate(tree), folder / "sky", spectra=_spectra())
    for survey in SURVEYS:
        ingest(
            survey,
            folder / "sky" / survey,
            folder / survey,
            folder / "sky" / survey / CATALOGUES[survey],
        )
    return folder


@pytest.fixture(scope="module")
def data(sky):
    return {
        survey: SurveyData(sky / survey, sky / "sky" / survey / CATALOGUES[survey])
        for survey in SURVEYS
    }


@pytest.fixture(scope="module")
def report(sky, data):
    return transfer_labels(data, "apogee", NAMES, sky / "store")


def test_each_spectrum_has_the_labels_of_its_star(sky, report):
    truth = pd.read_parquet(sky / "sky" / TRUTH)
    of_star = truth[truth.survey == "apogee"].groupby("star_id").entry.first()
    star = dict(zip(truth.survey + ":" + truth.spectrum_id, truth.star_id, strict=True))
    table = read_labels(sky / "sky" / "apogee" / CATALOGUES["apogee"], "apogee")
    row = {name: i for i, name in enumerate(table.labels.star_id)}
    store = open_store(report.store)
    surveys = store.column("survey")
    assert set(surveys) == set(SURVEYS)
    assert len(store) == sum(report.spectra.values())
    for i, spectrum in enumerate(store.column("spectrum_id")):
        # arms that were joined have lost the number of the first
        known = star.get(spectrum) or star[spectrum + "1"]
        reference = of_star[known]
        assert store.column("star_id")[i] == reference
        assert table.good[row[reference]]
        expected = table.labels.select(NAMES).values[row[reference]]
        np.testing.assert_allclose(store.labels.values[i], expected, rtol=1e-6)


def test_arms_alike_are_joined_and_visits_left_out(report):
    store = open_store(report.store)
    survey = store.column("survey")
    assert all(len(store[int(i)]) == 4 * 4096 for i in np.flatnonzero(survey == "galah"))
    assert {len(store[int(i)]) for i in np.flatnonzero(survey == "desi")} == {2751, 2326, 2881}
    apogee = np.flatnonzero(survey == "apogee")
    assert len(apogee) == len(set(store.column("star_id")[apogee])) == report.stars["apogee"]


def test_joined_arms_look_to_a_model_like_the_arms(data, report):
    """Predictions see the arms one by one, each in counts of its own."""
    store, arms = open_store(report.store), open_store(data["galah"].store)
    of_exposure: dict[str, list[PixelRow]] = {}
    for i in range(len(arms)):
        of_exposure.setdefault(f"galah:{arms[i].spectrum_id[:-1]}", []).append(row_of(arms[i]))
    compared = 0
    for i in np.flatnonzero(store.column("survey") == "galah"):
        joined = tokenise(collate([[row_of(store[int(i)])]]))
        apart = tokenise(collate([of_exposure[store.column("spectrum_id")[i]]]))
        assert joined.valid.sum() == apart.valid.sum() > 100
        # the height of the continuum, in its logarithm, and what is relative to it
        change = (joined.level[joined.valid] - apart.level[apart.valid]).abs()
        assert change.max() < 0.1
        change = (joined.content[joined.valid] - apart.content[apart.valid]).abs()
        assert change.max() < 0.05
        compared += 1
    assert compared > 2


def test_spectra_of_unknown_stars_are_counted(sky, data, report):
    for survey, one in data.items():
        rows = open_store(one.store)
        meta = [rows[i].meta for i in range(len(rows))]
        usable = sum(bool(m.get("coadd", True)) and not m.get("alternative") for m in meta)
        arms = 4 if survey == "galah" else 1
        # a CCD without a usable pixel is not in the store, so fewer than four may be one spectrum
        assert report.spectra[survey] + report.unknown[survey] <= usable
        assert arms * report.spectra[survey] + report.unknown[survey] >= usable


def test_mistakes(data, tmp_path):
    with pytest.raises(InputError, match=r"expected one of apogee, .* found wave"):
        transfer_labels(data, "wave", NAMES, tmp_path / "a")
    with pytest.raises(InputError, match="eu_fe"):
        transfer_labels(data, "apogee", ("teff", "eu_fe"), tmp_path / "b")
    table = tmp_path / "nowhere.csv"
    table.write_text("obsid,teff,logg,feh\n1,5000,4,0\n")
    with pytest.raises(InputError, match="columns ra and dec"):
        transfer_labels(
            {"lamost_lrs": SurveyData(data["lamost_lrs"].store, table)},
            "lamost_lrs",
            ("teff",),
            tmp_path / "c",
        )
