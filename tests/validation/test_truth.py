"""Known errors of a catalogue are found again, whatever the order of its rows."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.table import Table

from spectrolabe.errors import InputError
from spectrolabe.validation.truth import (
    compare_with_truth,
    constant,
    pipeline_labels,
    read_truth,
    survey_metrics,
)

NAMES = ("teff", "logg")
BIAS = {"galah": (30.0, 0.1), "lamost_lrs": (-80.0, 0.0)}
SIGMA = (60.0, 0.12)
COUNT = 4000


@pytest.fixture(scope="module")
def truth():
    """Every star in both surveys; GALAH has two spectra of each."""
    rng = np.random.default_rng(1)
    star = np.arange(COUNT)
    teff, logg = rng.uniform(4500, 7000, COUNT), rng.uniform(1, 5, COUNT)
    parts = []
    for survey, arm in (("galah", 1), ("galah", 2), ("lamost_lrs", 0)):
        entry = [f"{survey[0]}{7 * i}" for i in star]
        parts.append(
            {
                "star_id": [f"star-{i}" for i in star],
                "survey": [survey] * COUNT,
                "spectrum_id": [f"{name}-{arm}" for name in entry],
                "entry": entry,
                "teff": teff,
                "logg": logg,
            }
        )
    return Table({key: np.concatenate([part[key] for part in parts]) for key in parts[0]})


@pytest.fixture(scope="module")
def catalogue(truth):
    """One row a star and survey in random order, with errors as stated and the last row bad."""
    rng = np.random.default_rng(2)
    rows = []
    for survey, bias in BIAS.items():
        here = truth[truth["survey"] == survey][:COUNT]
        arms = ("1", "2") if survey == "galah" else ("0",)
        for row in here:
            values = [
                row[name] + b + s * rng.normal()
                for name, b, s in zip(NAMES, bias, SIGMA, strict=True)
            ]
            spectra = ";".join(f"{row['entry']}-{arm}" for arm in arms)
            rows.append((survey, spectra, *values, *SIGMA, 50.0, False))
    order = rng.permutation(len(rows))
    names = ("survey", "spectrum_id", *NAMES, *(f"e_{n}" for n in NAMES), "snr", "flag_bad")
    table = Table(rows=[rows[i] for i in order], names=names)
    table["teff"][-1] += 1e5
    table["flag_bad"][-1] = True
    return table


def test_known_errors_are_recovered(catalogue, truth):
    found = compare_with_truth(catalogue, truth, NAMES)
    assert set(found) == set(BIAS)
    assert sum(len(one) for one in found.values()) == 2 * COUNT
    for survey, bias in BIAS.items():
        rows = survey_metrics(found[survey], {})["catalogue"]
        for row, b, sigma in zip(rows, bias, SIGMA, strict=True):
            error = sigma / np.sqrt(COUNT)
            assert abs(row.bias - b) < 5 * error
            assert abs(row.mad / sigma - 1) < 0.06
            assert abs(row.rmse / np.hypot(sigma, b) - 1) < 0.06
            assert abs(row.pull_std - 1) < 0.06
    # the row that is flagged as bad counts only on demand
    every = [survey_metrics(one, {}, good_only=False)["catalogue"][0] for one in found.values()]
    assert max(row.rmse for row in every) > 1000
    assert sum(row.stars for row in every) == 2 * COUNT
    good = [survey_metrics(one, {})["catalogue"][0].stars for one in found.values()]
    assert sum(good) == 2 * COUNT - 1


def test_stars_are_those_of_the_truth(catalogue, truth):
    one = compare_with_truth(catalogue, truth, NAMES)["lamost_lrs"]
    teff = dict(zip(truth["star_id"], truth["teff"], strict=True))
    assert all(one.truth["teff"] == [teff[star] for star in one.truth.star_id])


def test_outliers_have_the_same_limit_for_every_answer(catalogue, truth):
    one = compare_with_truth(catalogue, truth, NAMES)["galah"]
    rows = survey_metrics(one, {"middle": constant(one, {"teff": 5750.0, "logg": 3.0})})
    own, naive = rows["catalogue"][0], rows["middle"][0]
    assert own.outlier_limit == naive.outlier_limit
    # uniform over 2500 K: beyond 400 K of the middle are 1 - 800 / 2500
    assert abs(naive.outlier_fraction - 0.68) < 0.03
    assert own.outlier_fraction < 1e-3
    assert np.isnan(naive.pull_std)


def test_a_pipeline_is_found_by_its_keys(catalogue, truth, tmp_path):
    one = compare_with_truth(catalogue, truth, NAMES)["lamost_lrs"]
    entry = np.unique(one.entry)
    known = entry[: len(entry) // 2]
    teff = dict(zip(one.entry, one.truth["teff"], strict=True))
    table = Table(
        {
            "obsid": known,
            "teff": [teff[name] + 20.0 for name in known],
            "logg": np.full(len(known), 4.0),
            "feh": np.zeros(len(known)),
        }
    )
    table.write(tmp_path / "labels.csv")
    found = pipeline_labels(one, tmp_path / "labels.csv")
    inside = np.isin(one.entry, known)
    np.testing.assert_allclose((found["teff"] - one.truth["teff"])[inside], 20.0)
    assert np.isnan(found["teff"][~inside]).all()
    table["obsid"] = [f"x{i}" for i in range(len(table))]
    table.write(tmp_path / "others.csv")
    with pytest.raises(InputError, match="none of them"):
        pipeline_labels(one, tmp_path / "others.csv")


def test_a_catalogue_of_another_sky_is_an_error(catalogue, truth):
    with pytest.raises(InputError, match=r"catalogue row 1: expected spectra of one star"):
        compare_with_truth(catalogue, truth[:10], NAMES)
    mixed = catalogue[:2].copy()
    mixed["survey"] = "galah"
    mixed["spectrum_id"] = ["g0-1;g7-2", "g0-1"]
    with pytest.raises(InputError, match="of one star"):
        compare_with_truth(mixed, truth, NAMES)
    with pytest.raises(InputError, match="no mg_fe"):
        compare_with_truth(catalogue, truth, (*NAMES, "mg_fe"))


def test_reading(truth, tmp_path):
    path = tmp_path / "truth.parquet"
    pq.write_table(pa.table({name: np.asarray(truth[name]) for name in truth.colnames}), path)
    read = read_truth(path)
    assert read["spectrum_id"].tolist() == truth["spectrum_id"].tolist()
    assert read["teff"].tolist() == truth["teff"].tolist()
    pq.write_table(pa.table({"a": [1]}), path)
    with pytest.raises(InputError, match=r"columns star_id, survey, spectrum_id, entry, found a"):
        read_truth(path)
