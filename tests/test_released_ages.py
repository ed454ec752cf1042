"""The released model of ages, on stars that it was not trained on: loose bounds.

The measured accuracy is in docs/results/ages.md; these bounds only tell a broken release from a
good one.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table

import spectrolabe as sl
from spectrolabe.inference.ages import add_ages
from spectrolabe.labels import Labels

FOLDER = Path(__file__).parents[1] / "weights" / "ages-giants"
NAMES = ("teff", "logg", "fe_h", "mg_fe", "c_fe", "n_fe")
BOUNDS = {
    "bingo": (2.05, 1.35),
    "apokasc2": (1.45, 0.95),
}  # RMSE of the mean, MAE of the median, Gyr


def test_it_is_small_and_says_what_it_eats() -> None:
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) < 1e6
    model = sl.load_ages()
    assert (model.names, model.scales, model.scale) == (NAMES, ("bingo", "apokasc2"), "bingo")
    assert "DR17" in model.card["label_scale"]
    assert set(model.card["unseen"]) == set(model.scales)


def test_carbon_and_nitrogen_tell_young_from_old() -> None:
    """More nitrogen and less carbon: more massive, hence younger."""
    values = np.array([[4800.0, 2.6, 0.0, 0.03, -0.15, 0.40], [4700.0, 2.6, 0.0, 0.05, 0.05, 0.15]])
    sigma = np.full(values.shape, 0.01)
    sigma[:, 0] = 10.0
    found = sl.load_ages().predict(Labels(NAMES, values, sigma, np.array(["young", "old"])))
    assert found["age"][0] < 3.0 < 6.0 < found["age"][1]


@pytest.mark.data
@pytest.mark.parametrize("scale", list(BOUNDS))
def test_accuracy_is_within_generous_bounds(shared_data, scale) -> None:
    table = Table.read(shared_data / "ages" / "bingo_dr17_train.csv")
    digest = [hashlib.sha256(name.encode()).hexdigest() for name in table["APOGEE_ID"]]
    table = table[[int(one, 16) % 5 == 0 for one in digest]]
    age = np.asarray(table["age"])
    if scale == "apokasc2":
        from pyarrow.parquet import read_table

        other = read_table(shared_data / "ages" / "apokasc2.parquet", columns=["tmass", "age"])
        known = dict(zip(*other.to_pydict().values(), strict=True))
        age = np.array([known.get(name, np.nan) for name in table["APOGEE_ID"]])
    columns = {name: table[name.upper()] for name in NAMES}
    columns |= {f"e_{name}": table[f"{name.upper()}_ERR"] for name in NAMES}
    found = add_ages(Table(columns), scale=scale)
    good = np.isfinite(age) & np.isfinite(found["age_giant"])
    assert good.sum() > 480
    mean, middle = (np.asarray(found[name])[good] for name in ("age_giant", "age_giant_50"))
    worst = BOUNDS[scale]
    assert np.sqrt(np.mean((mean - age[good]) ** 2)) < worst[0]
    assert np.mean(np.abs(middle - age[good])) < worst[1]
    pull = (mean - age[good]) / np.asarray(found["e_age_giant"])[good]
    assert 0.75 < pull.std() < 1.2
