"""A table of photometry beside the spectra: whose rows they are, and the columns it adds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table
from scipy.special import ndtri

from spectrolabe.errors import InputError
from spectrolabe.inference.distance import DISTANCE_FLAGS, DistanceFlag
from spectrolabe.inference.photometry import DISTANCE_COLUMNS, PhotometryTable, check_model
from spectrolabe.models.posterior import LabelPosterior
from spectrolabe.spectra import Frame, Spectrum


def star(name: str, spectrum: str = "", **meta: object) -> list[Spectrum]:
    wavelength = np.linspace(5000.0, 5100.0, 50)
    one = Spectrum(
        wavelength=wavelength,
        flux=np.ones(50),
        ivar=np.ones(50),
        resolution=2000.0,
        frame=Frame.REST,
        rv=0.0,
        survey="generic",
        star_id=name,
        spectrum_id=spectrum or f"{name}-1",
        meta=meta,
    )
    return [one]


STARS = [star("a"), star("b", "b-7"), star("c", source_id="12345"), star("d")]
COLUMNS = {
    "k_mag": [10.0, 11.0, 12.0],
    "e_k_mag": [0.02, 0.02, 0.02],
    "ebv": [0.0, 0.5, 0.1],
    "parallax": [0.5, np.nan, -0.2],
    "e_parallax": [0.05, np.nan, 0.1],
}


def written(path, **columns):
    Table(columns).write(path, overwrite=True)
    return PhotometryTable(path)


@pytest.mark.parametrize(
    ("name", "ids"),
    [
        ("star_id", ["c", "a", "b"]),
        ("spectrum_id", ["c-1", "a-1", "b-7"]),
        ("gaia_dr3_source_id", [12345, 1, 2]),
    ],
)
def test_stars_are_found_by_any_identifier(tmp_path, name, ids):
    table = written(tmp_path / "table.ecsv", **{name: ids}, **COLUMNS)
    expected = [11.0, 12.0, 10.0, np.nan] if name != "gaia_dr3_source_id" else [np.nan] * 4
    if name == "gaia_dr3_source_id":
        expected[2] = 10.0
    np.testing.assert_array_equal(table.of(STARS).k_mag, expected)


def test_extinction_and_zero_point(tmp_path):
    ids = {"star_id": ["a", "b", "c"]}
    known = written(tmp_path / "1.csv", **ids, **COLUMNS, e_ebv=[0.1, 0.1, 0.1]).of(STARS[:3])
    # 0.114 A_V (Cardelli, Clayton & Mathis 1989) of A_V = 3.1 E(B-V)
    np.testing.assert_allclose(known.a_k, [0.0, 0.1767, 0.03534], rtol=1e-6)
    np.testing.assert_allclose(known.e_a_k, 0.03534, rtol=1e-6)
    moved = written(tmp_path / "2.csv", **ids, **COLUMNS, parallax_zero_point=[-0.03, 0, 0.0])
    np.testing.assert_allclose(moved.of(STARS[:3]).parallax, [0.53, np.nan, -0.2])


def catalogue(names, mean):
    return Table({"star_id": names, "abs_mag_k": np.array(mean, dtype="f4")})


def test_the_columns_that_a_catalogue_gets(tmp_path):
    table = written(tmp_path / "table.ecsv", star_id=["a", "b", "c"], **COLUMNS)
    names = [s[0].star_id for s in STARS]
    mean = np.array([-1.5, -1.5, -1.5, -1.5])
    posterior = LabelPosterior.independent(
        ["teff", "abs_mag_k"], np.stack([mean + 5000, mean], axis=1), [50.0, 0.2], names
    )
    before = catalogue(names, [-1.5, -1.5, np.nan, -1.5])
    found = table.with_distances(before, STARS, posterior)
    assert before.colnames == ["star_id", "abs_mag_k"]
    assert found.colnames == [*before.colnames, *DISTANCE_COLUMNS]
    for name, (dtype, unit, description) in DISTANCE_COLUMNS.items():
        assert found[name].dtype == np.dtype(dtype)
        assert str(found[name].unit or "") == unit
        assert found[name].description == description
    flag = DistanceFlag
    assert list(found["distance_flags"]) == [
        0,
        flag.NO_PARALLAX,
        flag.NO_SPECTROSCOPIC,  # the catalogue has no M_K of it
        flag.NO_DISTANCE | flag.NO_PARALLAX | flag.NO_SPECTROSCOPIC,
    ]
    alone = 10 ** ((11.0 - 0.1767 + 1.5 + np.hypot(0.2, 0.02) * ndtri([0.16, 0.5, 0.84])) / 5 - 2)
    quantiles = [found[name][1] for name in ("distance_16", "distance_50", "distance_84")]
    np.testing.assert_allclose(quantiles, alone, rtol=1e-3)
    assert found["distance"][1] > found["distance_50"][1]  # the mean of a log-normal
    assert np.isnan(found["distance"][3])


@pytest.mark.parametrize(
    "columns",
    [
        {"star_id": ["a"], "k_mag": [10.0], "e_k_mag": [0.1]},
        {"k_mag": [10.0], "e_k_mag": [0.1], "a_k": [0.0]},
        {"star_id": ["a"], "parallax": [1.0]},
    ],
)
def test_what_is_expected_is_listed(tmp_path, columns):
    with pytest.raises(InputError, match=r"spectrum_id.*k_mag and e_k_mag with a_k or ebv"):
        written(tmp_path / "table.csv", **columns)


def test_mistakes_in_the_table(tmp_path):
    parallax = {"parallax": [1.0, 2.0], "e_parallax": [0.1, 0.1]}
    with pytest.raises(InputError, match="each star_id once, found a in rows 0 and 1"):
        written(tmp_path / "1.csv", star_id=["a", "a"], **parallax)
    with pytest.raises(InputError, match="a standard deviation with parallax 2"):
        written(tmp_path / "2.csv", star_id=["a", "b"], parallax=[1, 2], e_parallax=[0.1, np.nan])
    strangers = written(tmp_path / "3.csv", star_id=["x", "y"], **parallax)
    with pytest.raises(InputError, match=r"star_id 'a' or spectrum_id 'a-1', found star_id 'x'"):
        strangers.of(STARS)
    some = written(tmp_path / "4.csv", star_id=["a", "y"], **parallax)
    assert np.isfinite(some.of(STARS).parallax).sum() == 1
    assert np.isnan(some.of(STARS[1:], first=False).parallax).all()  # a later batch without a row


def test_a_model_without_absolute_magnitudes_cannot(tmp_path):
    with pytest.raises(InputError, match=r"t.csv: expected a model that predicts abs_mag_k"):
        check_model(("teff", "logg"), "t.csv")
    check_model(("teff", "abs_mag_k"), "t.csv")


def test_predict_adds_distances(tmp_path, invoke):
    """From spectra and a table to a catalogue, through the command; the label is made up."""
    from spectrolabe.catalogue import read_catalogue
    from spectrolabe.config import TrainConfig
    from spectrolabe.spectra.store import StoreWriter
    from spectrolabe.training.trainer import train
    from tests.models.stars import made_up

    spectra, labels = made_up(np.random.default_rng(7), 80, step=2e-3, survey="generic")
    with StoreWriter(tmp_path / "store", ("teff", "abs_mag_k")) as writer:
        for one, values in zip(spectra, labels.values, strict=True):
            writer.append(one[0], values=values[[0, 2]], file=f"{one[0].star_id}.fits")
    config = TrainConfig.model_validate(
        {
            "name": "small",
            "data": {
                "store": str(tmp_path / "store"),
                "labels": ["teff", "abs_mag_k"],
                "calibration": 0.4,
            },
            "encoder": {"width": 16, "latents": 8, "blocks": 1, "heads": 2},
            "training": {"epochs": 1, "batch_size": 8, "ema": 0.9},
        }
    )
    model = train(config, tmp_path / "model", progress=False)
    ids = [one[0].star_id for one in spectra[:-1]]
    table = Table({"star_id": ids, "parallax": np.full(79, 0.8), "e_parallax": np.full(79, 0.01)})
    table.write(tmp_path / "gaia.csv")
    code, _, error = invoke(
        "predict", model, tmp_path / "store", "-o", tmp_path / "out.parquet",
        "--photometry", tmp_path / "gaia.csv",
    )  # fmt: skip
    assert code == 0, error
    found = read_catalogue(tmp_path / "out.parquet")
    order = {name: i for i, name in enumerate(found["star_id"])}
    rows = [order[name] for name in ids]
    np.testing.assert_allclose(found["distance_50"][rows], 1.25, rtol=0.01)
    assert (found["distance_flags"][rows] == DistanceFlag.NO_SPECTROSCOPIC).all()
    assert np.isnan(found["distance"][order[spectra[-1][0].star_id]])
    assert "photometry_sha256" in str(found.meta)


def test_the_guide_has_the_columns_and_flags():
    text = (Path(__file__).parents[2] / "docs" / "distances.md").read_text(encoding="utf-8")
    for name, (_, unit, description) in DISTANCE_COLUMNS.items():
        assert f"| `{name}` | {unit + ' ' if unit else ''}| {description} |" in text
    for flag, description in DISTANCE_FLAGS.items():
        assert f"| {flag.value} | {description} |" in text
