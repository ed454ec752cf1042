"""From a catalogue to a calibration, as the page of the documents has it."""

import re
from pathlib import Path

import numpy as np
import pytest

from spectrolabe.catalogue import ResultFlag, build_catalogue, write_catalogue
from spectrolabe.errors import InputError
from spectrolabe.homogenise.calibration import Calibration
from spectrolabe.homogenise.catalogues import raw_labels
from spectrolabe.models.posterior import LabelPosterior
from tests.homogenise.made_up import made_up

PAGE = (Path(__file__).parents[2] / "docs/calibration.md").read_text(encoding="utf-8")
NAMES = ("teff", "logg", "fe_h")
TRENDS = {"fe_h": lambda t, g, m: 0.1 * (t - 5500) / 1000}


@pytest.fixture
def catalogue():
    _, labels, anchors = made_up(TRENDS, names=NAMES)
    raw = LabelPosterior.independent(NAMES, labels.values, labels.sigma, labels.star_id)
    other = LabelPosterior.independent(NAMES, labels.values + 0.5, labels.sigma, labels.star_id)
    count = len(labels)
    identity = {
        "spectrum_id": labels.star_id,
        "survey": ["lamost_lrs"] * count,
        "file": labels.star_id,
        "n_spectra": np.ones(count, dtype=int),
        "snr": np.full(count, 50.0),
    }
    bits = np.where(np.arange(count) == count - 1, int(ResultFlag.POOR_FIT), 0)
    return labels, anchors, build_catalogue(raw, other, identity, bits, np.zeros((count, 3), int))


def test_raw_values_of_good_rows(catalogue):
    labels, _, table = catalogue
    found = raw_labels(table)
    assert found.names == NAMES
    assert len(found) == len(labels) - 1
    assert found.values == pytest.approx(labels.values[:-1], rel=1e-6)
    assert found.sigma == pytest.approx(labels.sigma[:-1], rel=1e-6)
    assert np.array_equal(raw_labels(table, good=False).star_id, labels.star_id)


def test_a_table_that_is_no_catalogue(catalogue):
    _, _, table = catalogue
    with pytest.raises(InputError, match=r"Missing: raw_mg_fe, raw_e_mg_fe\."):
        raw_labels(table, ["fe_h", "mg_fe"])
    with pytest.raises(InputError, match=r"any raw_<label>"):
        raw_labels(table["star_id", "flag_bad"])


def test_the_code_of_the_page_runs(catalogue, tmp_path, monkeypatch, capsys):
    _, anchors, table = catalogue
    monkeypatch.chdir(tmp_path)
    write_catalogue(table, "catalogue.parquet", {})
    lines = ["star_id,group,kind," + ",".join(f"{n},e_{n}" for n in NAMES)]
    for i, star in enumerate(anchors.star_id):
        known = np.column_stack([anchors.reference.values[i], anchors.reference.sigma[i]]).ravel()
        cells = ["" if np.isnan(known[0]) else f"{x:.6f}" for x in known]
        lines.append(",".join([star, anchors.group[i], anchors.kind[i], *cells]))
    Path("anchors.csv").write_text("\n".join(lines) + "\n")
    (code,) = re.findall(r"^```python\n(.*?)^```$", PAGE, flags=re.M | re.S)
    exec(compile(code, "docs/calibration.md", "exec"), {})
    printed = capsys.readouterr().out
    assert [line.split()[0] for line in printed.splitlines()] == list(NAMES)
    cool, hot = Calibration.load("scale.safetensors").trend(
        "fe_h", np.array([[4800.0, 4.5, 0.0], [6200.0, 4.2, 0.0]])
    )[0]
    assert hot - cool == pytest.approx(0.14, abs=0.03)


def test_the_table_of_the_page_is_one(tmp_path):
    from spectrolabe.homogenise.anchors import read_anchors

    (text,) = re.findall(r"^```csv\n(.*?)^```$", PAGE, flags=re.M | re.S)
    (tmp_path / "anchors.csv").write_text(text)
    anchors = read_anchors(tmp_path / "anchors.csv")
    assert anchors.counts == {"binary": 1, "cluster": 1, "reference": 1}
    assert anchors.reference["fe_h"][2] == pytest.approx(0.03)
