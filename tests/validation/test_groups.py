"""Clusters and binaries: the scatter and the trends that were put into them are found."""

from __future__ import annotations

import json

import numpy as np
import pytest
from astropy.table import Table

from spectrolabe.validation.cluster_spread import Members, cluster_spread
from spectrolabe.validation.validate import validate
from tests.validation.made_up import SIGMA, catalogue, true_labels, write

MEMBERS, CLUSTERS, PAIRS = 60, 5, 150
DISPERSION, TREND = 0.10, 0.12  # dex of fe_h; dex of mg_fe for 1000 K


def numbers_of(path, folder, **tables):
    done = validate([path], folder / "page.html", **tables)
    return json.loads(done.numbers.read_text()), done.page.read_text("utf-8")


def rows_of(rows):
    return {row["label"]: row for row in rows}


def verdicts(numbers):
    return {(one["label"], one["criterion"]): one["verdict"] for one in numbers["summary"]}


@pytest.fixture(scope="module")
def clusters(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clusters")
    rng = np.random.default_rng(1)
    count = MEMBERS * CLUSTERS
    cluster = np.repeat(np.arange(CLUSTERS), MEMBERS)
    truth = true_labels(count)
    truth[:, 2] = np.linspace(-0.5, 0.3, CLUSTERS)[cluster]
    truth[:, 3] = 0.1
    values = truth + SIGMA * rng.normal(size=truth.shape)
    values[:, 2] += DISPERSION * rng.normal(size=count)
    values[:, 3] += TREND * (truth[:, 0] - 5500.0) / 1000.0
    values[0, 3] += 5.0  # one that is no member
    star_id = [f"s{i}" for i in range(count)]
    path = write(catalogue(values, "galah", star_id), folder / "galah.parquet")
    table = Table({"star_id": star_id, "cluster": [f"NGC {i}" for i in cluster]})
    table.add_row(["not here", "NGC 0"])
    table.write(folder / "clusters.csv")
    return numbers_of(path, folder, clusters=folder / "clusters.csv")


def test_dispersions_and_trends_of_clusters(clusters):
    numbers, page = clusters
    found = rows_of(numbers["clusters"])
    assert set(found) == {"fe_h", "mg_fe"}  # members need not have one temperature
    assert found["fe_h"]["members"] == MEMBERS * CLUSTERS
    assert found["fe_h"]["dispersion"] == pytest.approx(DISPERSION, abs=0.015)
    assert found["fe_h"]["e_dispersion"] == pytest.approx(0.0085, abs=0.003)
    assert found["fe_h"]["width"] == pytest.approx(np.hypot(0.05, 0.10) / 0.05, rel=0.15)
    assert abs(found["fe_h"]["trend"]) < 3 * found["fe_h"]["e_trend"]
    assert found["mg_fe"]["trend"] == pytest.approx(TREND, abs=0.02)
    assert found["mg_fe"]["e_trend"] < 0.01
    judged = verdicts(numbers)
    assert judged["fe_h", "dispersion"] == "fail"
    assert judged["fe_h", "trend"] == "pass"
    assert judged["mg_fe", "trend"] == "fail"
    assert "NGC 3, 60 members" in page


def test_each_cluster_has_its_mean(clusters):
    numbers, _ = clusters
    found = [one for one in numbers["each_cluster"] if one["label"] == "fe_h"]
    assert [one["cluster"] for one in found] == [f"NGC {i}" for i in range(CLUSTERS)]
    means = [one["mean"] for one in found]
    np.testing.assert_allclose(means, np.linspace(-0.5, 0.3, CLUSTERS), atol=0.05)


def test_clusters_as_homogeneous_as_their_errors_pass(tmp_path):
    rng = np.random.default_rng(2)
    values = true_labels(100)
    values[:, 2:] = np.array([0.1, 0.0]) + SIGMA[2:] * rng.normal(size=(100, 2))
    star_id = [f"s{i}" for i in range(100)]
    path = write(catalogue(values, "galah", star_id), tmp_path / "galah.parquet")
    Table({"star_id": star_id, "group": ["M67"] * 100, "kind": ["cluster"] * 100}).write(
        tmp_path / "anchors.csv"
    )
    numbers, _ = numbers_of(path, tmp_path, clusters=tmp_path / "anchors.csv")
    judged = verdicts(numbers)
    assert judged["fe_h", "dispersion"] == judged["mg_fe", "dispersion"] == "pass"
    assert rows_of(numbers["clusters"])["mg_fe"]["width"] == pytest.approx(1.0, abs=0.3)


def test_one_wrong_member_moves_neither_mean_nor_slope():
    teff = np.linspace(4500.0, 6500.0, 11)
    value = 0.1 + 0.05 * (teff - 5500.0) / 1000.0
    wrong = value.copy()
    wrong[0] += 4.0
    found = []
    for values in (value, wrong):
        members = Members(values, np.full(11, 0.05), teff, np.zeros(11, dtype=int), ("M67",))
        found.append(cluster_spread(members, "fe_h"))
    without, with_it = found
    assert without.mean == pytest.approx(0.1)
    np.testing.assert_allclose([without.trend, with_it.trend], 0.05)
    assert with_it.mean == pytest.approx(np.mean(value[1:]))
    assert with_it.dispersion < 0.05


def test_slopes_are_those_of_least_squares():
    """Two clusters of other means and errors: a column for each mean and one for Teff."""
    rng = np.random.default_rng(8)
    group = np.repeat([0, 1], [12, 9])
    teff, sigma = rng.uniform(4500, 6500, 21), rng.uniform(0.02, 0.08, 21)
    value = 0.3 * group + 0.02 * (teff - 5500) / 1000 + 0.3 * sigma * rng.normal(size=21)
    found = cluster_spread(Members(value, sigma, teff, group, ("a", "b")), "fe_h")
    assert found.dispersion == 0.0  # scatter below the errors
    design = np.c_[group == 0, group == 1, teff / 1000.0] / sigma[:, None]
    expected = np.linalg.lstsq(design, value / sigma)[0][2]
    assert found.trend == pytest.approx(expected)
    error = np.sqrt(np.linalg.inv(design.T @ design)[2, 2])
    assert found.e_trend == pytest.approx(error)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Stars of a pair have one composition; errors of mg_fe are twice those stated."""
    folder = tmp_path_factory.mktemp("pairs")
    rng = np.random.default_rng(4)
    truth = true_labels(2 * PAIRS)
    truth[PAIRS:, 2:] = truth[:PAIRS, 2:]
    values = truth + SIGMA * np.array([1.0, 1.0, 1.0, 2.0]) * rng.normal(size=truth.shape)
    star_id = [f"s{i}" for i in range(2 * PAIRS)]
    path = write(catalogue(values, "galah", star_id), folder / "galah.parquet")
    return path, star_id, folder


@pytest.mark.parametrize("style", ["columns", "group"])
def test_binaries_agree_within_errors_or_not(pairs, style):
    path, star_id, folder = pairs
    if style == "columns":
        table = Table({"star_id_1": star_id[:PAIRS], "star_id_2": star_id[PAIRS:]})
        table.add_row(["s0", "nobody"])
    else:
        table = Table({"star_id": star_id, "binary_id": [f"b{i}" for i in range(PAIRS)] * 2})
    table.write(folder / f"{style}.csv")
    numbers, page = numbers_of(path, folder, binaries=folder / f"{style}.csv")
    found = rows_of(numbers["binaries"])
    assert found["fe_h"]["pairs"] == PAIRS
    assert found["fe_h"]["width"] == pytest.approx(1.0, abs=0.2)
    assert found["mg_fe"]["width"] == pytest.approx(2.0, abs=0.4)
    assert verdicts(numbers)["fe_h", "binaries"] == "pass"
    assert verdicts(numbers)["mg_fe", "binaries"] == "fail"
    assert "--binaries" not in page
