"""What was put into made-up catalogues is what the report says of them."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from astropy.table import Table, vstack

from spectrolabe.catalogue.schema import ResultFlag
from spectrolabe.validation.validate import validate
from tests.validation.made_up import NAMES, SIGMA, catalogue, true_labels, truth_table, write

COUNT = 600
# of apogee, in stated errors: bias, and how wide errors are
BIAS = np.array([0.0, 0.0, 1.0, 0.0])
WIDTH = np.array([1.0, 1.6, 1.0, 1.0])
OFFSET = np.array([-2.0, 0.0, 0.0, 0.0])  # what lamost_lrs has on top
OUTLIERS = 36  # of mg_fe, in the first row of as many stars
BAD = 7


def stars(count=COUNT):
    return [f"star{i}" for i in range(count)]


def measured(rng, truth, offset=0.0):
    return truth + SIGMA * (BIAS + offset + WIDTH * rng.normal(size=truth.shape))


def made_up():
    """Two rows of each star by apogee and one by lamost_lrs, and the truth of each row."""
    rng = np.random.default_rng(5)
    truth = true_labels(COUNT)
    first, second = measured(rng, truth), measured(rng, truth)
    first[:OUTLIERS, 3] += 20.0 * SIGMA[3]
    first[-1, 3] -= 30.0 * SIGMA[3]
    lamost = measured(rng, truth, OFFSET)
    flags = np.zeros(COUNT, dtype=int)
    flags[100 : 100 + BAD] = ResultFlag.OUT_OF_COVERAGE
    lamost[100 : 100 + BAD] = 0.5  # nonsense that must not count
    # a star of one survey has one name there and another elsewhere: the position joins them
    place = {"ra": np.linspace(0, 300, COUNT), "dec": np.linspace(-80, 80, COUNT)}
    twice = {key: np.r_[value, value] for key, value in place.items()}
    beside = {"ra": place["ra"], "dec": place["dec"] + 0.4 / 3600}
    apogee = catalogue(np.r_[first, second], "apogee", stars() * 2, **twice)
    other = catalogue(lamost, "lamost_lrs", [f"L{i}" for i in range(COUNT)], flags=flags, **beside)
    table = vstack([apogee, other], metadata_conflicts="silent")
    return table, np.concatenate([truth, truth, truth])


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The numbers, the page, and what they were made of."""
    folder = tmp_path_factory.mktemp("report")
    table, truth = made_up()
    path = write(table, folder / "catalogue.parquet")
    rows = truth_table(truth, list(table["star_id"]))
    rows["spectrum_id"] = table["spectrum_id"]
    rows["star_id"] = stars() * 3
    rows.write(folder / "truth.fits")
    done = validate([path], folder / "report.html", truth=folder / "truth.fits", command="me")
    return json.loads(done.numbers.read_text()), done.page.read_text("utf-8"), table, truth


def by_label(rows):
    return {row["label"]: row for row in rows}


def verdict(numbers, label, criterion, where=""):
    (one,) = [
        row
        for row in numbers["summary"]
        if (row["label"], row["criterion"]) == (label, criterion)
        and (row["where"] == where or criterion.startswith("survey"))
    ]
    return one


def test_what_went_in_is_counted(report):
    numbers, *_ = report
    assert numbers["catalogues"][0]["rows"] == 3 * COUNT
    assert numbers["catalogues"][0]["provenance"]["model"] == "made-up"
    assert numbers["counts"]["all"]["stars"] == COUNT
    assert numbers["counts"]["apogee"]["rows"] == 2 * COUNT
    assert numbers["counts"]["lamost_lrs"]["bad"] == BAD
    assert numbers["counts"]["lamost_lrs"]["flags"]["OUT_OF_COVERAGE"] == BAD
    assert numbers["truth"] == {"path": "truth.fits", "by": "spectrum_id", "rows": 3 * COUNT}


def test_biases_and_widths_are_those_put_in(report):
    numbers, _, table, truth = report
    found = by_label(numbers["recovered"]["apogee"])
    for j, name in enumerate(NAMES):
        use = np.asarray(table["survey"] == "apogee")
        residual = np.asarray(table[name][use], dtype=float) - truth[use, j]
        assert found[name]["bias"] == pytest.approx(np.median(residual), rel=1e-6)
        assert found[name]["rmse"] == pytest.approx(np.sqrt(np.mean(residual**2)), rel=1e-6)
        spread = 1.4826 * np.median(np.abs(residual - np.median(residual)))
        assert found[name]["mad"] == pytest.approx(spread, rel=1e-6)
        assert found[name]["error"] == pytest.approx(SIGMA[j], rel=1e-5)
        assert found[name]["pull_width"] == pytest.approx(WIDTH[j], rel=0.1)
        assert found[name]["rows"] == 2 * COUNT
        assert found[name]["stars"] == COUNT
    assert found["fe_h"]["pull_median"] == pytest.approx(1.0, abs=0.1)
    assert found["mg_fe"]["beyond_5"] == pytest.approx((OUTLIERS + 1) / (2 * COUNT))
    assert by_label(numbers["recovered"]["all"])["teff"]["rows"] == 3 * COUNT - BAD


def test_intervals_hold_what_a_normal_of_that_width_does(report):
    numbers, *_ = report
    found = by_label(numbers["recovered"]["apogee"])
    right = [found["teff"][f"coverage_{part}"] for part in (50, 68, 95)]
    np.testing.assert_allclose(right, [0.50, 0.68, 0.95], atol=0.04)
    # 2 Phi(z / 1.6) - 1
    wide = [found["logg"][f"coverage_{part}"] for part in (50, 68, 95)]
    np.testing.assert_allclose(wide, [0.327, 0.466, 0.779], atol=0.04)


def test_the_pit_is_flat_a_bowl_or_a_slope(report):
    numbers, *_ = report
    pit = {
        name: np.array(one["pit"]) for name, one in by_label(numbers["recovered"]["apogee"]).items()
    }
    assert all(one.sum() == 2 * COUNT for one in pit.values())
    assert np.ptp(pit["teff"]) < 70  # of 120 each
    assert pit["logg"][[0, -1]].min() > 1.6 * pit["logg"][3:7].max()
    # truths are below what the catalogue says: little probability is below them
    assert pit["fe_h"][0] > 4 * pit["fe_h"][-1]


def test_repeats_see_widths_and_no_bias(report):
    numbers, *_ = report
    found = by_label(numbers["repeats"]["all"])
    assert list(numbers["repeats"]) == ["all"]  # lamost_lrs has no star twice
    for name, width in zip(NAMES, WIDTH, strict=True):
        assert found[name]["pairs"] == COUNT
        assert found[name]["width"] == pytest.approx(width, rel=0.12)
        assert found[name]["error"] == pytest.approx(np.sqrt(2) * SIGMA[NAMES.index(name)], 1e-4)


def test_surveys_differ_by_what_was_put_in(report):
    numbers, *_ = report
    assert list(numbers["surveys"]) == ["apogee - lamost_lrs"]
    found = by_label(numbers["surveys"]["apogee - lamost_lrs"])
    assert found["teff"]["pairs"] == COUNT - BAD
    assert found["teff"]["median"] == pytest.approx(100.0, abs=8.0)
    assert found["teff"]["offset"] == pytest.approx(np.sqrt(2), abs=0.12)
    assert found["fe_h"]["offset"] == pytest.approx(0.0, abs=0.12)  # both have the same bias
    assert found["teff"]["width"] == pytest.approx(1.0, abs=0.2)  # about the offset
    assert found["logg"]["width"] == pytest.approx(1.6, abs=0.15)


def test_verdicts_are_those_of_what_was_put_in(report):
    numbers, *_ = report
    expected = {
        ("teff", "pull_width", "apogee"): "pass",
        ("teff", "bias", "apogee"): "pass",
        ("logg", "pull_width", "apogee"): "fail",
        ("logg", "coverage_68", "apogee"): "fail",
        ("logg", "repeats", ""): "fail",
        ("teff", "repeats", ""): "pass",
        ("fe_h", "bias", "apogee"): "warn",
        ("mg_fe", "beyond_5", "apogee"): "warn",
        ("teff", "survey_offset", ""): "fail",
        ("fe_h", "survey_offset", ""): "pass",
    }
    assert {key: verdict(numbers, *key)["verdict"] for key in expected} == expected
    assert set(numbers["criteria"]) >= {key[1] for key in expected}


def test_the_worst_row_is_first(report):
    numbers, page, *_ = report
    first = numbers["worst"][0]
    assert (first["star_id"], first["label"]) == (f"star{COUNT - 1}", "mg_fe")
    assert first["spectrum_id"] == f"apogee-{COUNT - 1}"
    assert first["pull"] == pytest.approx(-30.0, abs=5.0)
    assert [one["label"] for one in numbers["worst"]].count("mg_fe") == 3
    assert first["spectrum_id"] in page
    assert "No spectrum is drawn" in page


def test_the_page_stands_alone_and_has_every_section(report):
    _, page, *_ = report
    for link in re.findall(r'(?:src|href)="([^"]*)"', page):
        assert link.startswith(("#", "data:image/png;base64,"))
    assert "http" not in re.sub(r"base64,[^\"]*", "", page)
    assert "url(" not in page
    assert "width=device-width" in page
    headings = dict(re.findall(r'<h2 id="(\w+)">([^<]*)</h2>', page))
    assert len(headings) == 13
    assert re.findall(r'<a href="#(\w+)">', page) == list(headings)
    assert page.count("<img") == 10
    assert page.count("<details>") == page.count("</details>") >= 6
    for option in ("--clusters", "--binaries", "--spectra"):
        assert option in page
    assert "--truth" not in page


def test_numbers_of_the_page_are_those_of_the_file(report):
    numbers, page, *_ = report
    one = by_label(numbers["recovered"]["apogee"])["teff"]
    assert f"<td>{one['bias']:.1f} ± {one['e_bias']:.1f}</td>".replace("-", "−") in page
    one = verdict(numbers, "logg", "pull_width")
    assert f'<td class="{one["verdict"]}">{one["value"]:.2f} ✗</td>' in page


def test_a_catalogue_alone_says_what_is_lacking(tmp_path):
    values = true_labels(5)
    values[:, 1] = np.nan
    path = write(catalogue(values, "apogee", stars(5)), tmp_path / "one.fits")
    done = validate([path], tmp_path / "page.html")
    page, numbers = done.page.read_text("utf-8"), json.loads(done.numbers.read_text())
    for option in ("--truth", "--clusters", "--binaries", "--visits"):
        assert option in page
    assert "The catalogue has no Teff or no log g." in page
    assert numbers["summary"] == []
    assert numbers["truth"] is None
    assert by_label(numbers["labels"])["logg"]["known"] == 0
    assert by_label(numbers["labels"])["logg"]["flags"]["NO_INFORMATION"] == 5
    assert by_label(numbers["labels"])["teff"]["quantiles"][2] == pytest.approx(
        np.median(values[:, 0]), rel=1e-6
    )


@pytest.mark.parametrize("known", [True, False])
def test_five_stars_with_every_table_are_not_judged(tmp_path, known):
    """Also where no row has a value."""
    values = true_labels(5) if known else np.full((5, 4), np.nan)
    path = write(catalogue(values, "galah", stars(5)), tmp_path / "five.parquet")
    table = truth_table(true_labels(5), stars(5))
    table["cluster"] = ["M67"] * 5
    table["binary_id"] = ["a", "a", "b", "b", ""]
    table.write(tmp_path / "all.csv")
    everything = dict.fromkeys(("truth", "clusters", "binaries"), tmp_path / "all.csv")
    done = validate([path], tmp_path / "page.html", **everything)
    numbers = json.loads(done.numbers.read_text())
    assert {one["verdict"] for one in numbers["summary"]} == {"few"}
    assert by_label(numbers["recovered"]["all"])["teff"]["rows"] == 5 * known
    assert by_label(numbers["recovered"]["all"])["teff"]["missing"] == 5 * (not known)
    assert by_label(numbers["binaries"])["fe_h"]["pairs"] == 2 * known


def test_two_catalogues_are_one(report, tmp_path):
    numbers, _, table, truth = report
    apogee = np.asarray(table["survey"] == "apogee")
    paths = [
        write(table[apogee], tmp_path / "apogee.fits"),
        write(table[~apogee], tmp_path / "lamost.parquet"),
    ]
    rows = truth_table(truth, stars() * 3)
    rows["spectrum_id"] = table["spectrum_id"]
    rows.write(tmp_path / "truth.csv")
    done = validate(paths, tmp_path / "page.html", truth=tmp_path / "truth.csv")
    both = json.loads(done.numbers.read_text())
    for key in ("counts", "recovered", "repeats", "surveys", "summary"):
        assert both[key] == numbers[key]


def test_a_truth_by_star_with_errors(tmp_path):
    """The error of the truth counts: differences are as wide as both."""
    rng = np.random.default_rng(3)
    truth = true_labels(COUNT)
    values = truth + SIGMA * np.sqrt(2.0) * rng.normal(size=truth.shape)
    path = write(catalogue(values, "galah", stars()), tmp_path / "galah.parquet")
    table = truth_table(truth, stars())[::-1]
    for name, sigma in zip(NAMES, SIGMA, strict=True):
        table[f"e_{name}"] = sigma
    table["LOGG"] = table["logg"]  # another name must not be in the way
    table["fe_h"][:10] = -9999.0
    Table(table).write(tmp_path / "truth.parquet")
    done = validate([path], tmp_path / "page.html", truth=tmp_path / "truth.parquet")
    numbers = json.loads(done.numbers.read_text())
    found = by_label(numbers["recovered"]["all"])
    assert numbers["truth"]["by"] == "star_id"
    assert found["fe_h"]["rows"] == COUNT - 10
    for name in ("teff", "logg", "mg_fe"):
        assert found[name]["pull_width"] == pytest.approx(1.0, abs=0.12)
        assert found[name]["error"] == pytest.approx(np.sqrt(2) * SIGMA[NAMES.index(name)], 1e-4)
