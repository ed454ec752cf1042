"""Which labels are values and which are NaN; tables of neighbours."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spectrolabe.catalogue import LabelFlag, ResultFlag, read_catalogue
from spectrolabe.config import EncoderConfig, HeadConfig
from spectrolabe.errors import InputError
from spectrolabe.inference import predict as module
from spectrolabe.inference.neighbours import SUFFIX
from spectrolabe.inference.predict import predict
from spectrolabe.inference.rows import catalogue_of
from spectrolabe.labels import Labels, LabelScale
from spectrolabe.models.checkpoint import load, save_estimator
from spectrolabe.models.encoder import Encoder
from spectrolabe.models.estimator import Estimator
from spectrolabe.models.heads.binned import bin_targets
from spectrolabe.models.uncertainty import Coverage, Recalibration
from spectrolabe.spectra.store import StoreWriter
from tests.models.stars import made_up

NAMES = ("teff", "fe_h", "rv_residual")
SCALE = LabelScale(NAMES, np.array([5800.0, -0.3, 0.0]), np.array([500.0, 0.4, 5.0]))


def estimator_of(kind="binned") -> Estimator:
    """Its histograms say the same of every star: nothing of the first label, 0.1 of the others."""
    torch.manual_seed(3)
    head = HeadConfig(kind=kind, bins=64)
    config = EncoderConfig(width=16, latents=4, blocks=1, heads=2, head=head)
    encoder = Encoder(config, 3)
    rng = np.random.default_rng(0)
    training = torch.tensor(rng.normal(size=(4000, 3))).float()
    training[:20, 0] = 1e3  # grossly wrong labels
    encoder.head.set_range(training)
    if kind == "binned":
        means = bin_targets(training, encoder.head.edges).mean(dim=0)
        narrow = bin_targets(torch.full((1, 3), 0.1), encoder.head.edges)[0]
        chosen = torch.stack([means[0], narrow[1], narrow[2]])
        with torch.no_grad():
            encoder.head.out.weight.zero_()
            encoder.head.out.bias.zero_()
            encoder.head.out.bias[: 3 * 64] = chosen.clamp(min=1e-12).log().flatten()
    values = rng.normal(SCALE.centre, SCALE.width, (30, 3))
    card = {
        "name": "tiny",
        "encoder": config.model_dump(),
        "training_data": {
            "label_spread": dict(zip(NAMES, SCALE.width.tolist(), strict=True)),
            "label_range": {name: [-1e9, 1e9] for name in NAMES},
            "wavelength_range": [4000.0, 7000.0],
            "resolution_range": [1000.0, 3000.0],
            "snr_range": [10.0, 300.0],
            "surveys": ["generic", "desi"],
        },
    }
    return Estimator(
        encoder,
        SCALE,
        Recalibration(np.zeros(3), np.ones(3), np.zeros(3), np.zeros(3)),
        Coverage(
            rng.normal(size=(30, 32)).astype(np.float32),
            np.ones(32),
            5.0,
            Labels(NAMES, values, np.full((30, 3), np.nan), [f"known {i}" for i in range(30)]),
        ),
        card,
    )


@pytest.fixture(scope="module")
def spectra():
    return [star[0] for star in made_up(np.random.default_rng(2), 5, step=6e-4)[0]]


def test_a_histogram_as_wide_as_that_of_all_stars_is_no_measurement(spectra):
    row = catalogue_of(estimator_of(), [[spectra[0]]])[0]
    assert np.isnan(row["teff"])
    assert np.isnan(row["e_teff"])
    assert np.isnan(row["raw_teff"])
    assert row["teff_flags"] & LabelFlag.NO_INFORMATION
    assert row["fe_h"] == pytest.approx(-0.3 + 0.1 * 0.4, abs=0.01)
    assert not row["fe_h_flags"] & LabelFlag.NO_INFORMATION
    assert np.isnan(row["rho_teff_fe_h"])


def test_a_star_seen_by_several_surveys_or_at_several_velocities_has_no_velocity_error(spectra):
    one = spectra[0].replace(rv=12.0)
    arms = [one, one.replace(spectrum_id="red")]
    surveys = [one, one.replace(survey="desi")]
    visits = [one, one.replace(rv=15.0)]
    unknown = [one.replace(rv=np.nan), one.replace(rv=np.nan)]
    table = catalogue_of(estimator_of(), [[one], arms, surveys, visits, unknown])
    np.testing.assert_array_equal(np.isnan(table["rv_residual"]), [False, False, True, True, False])
    flagged = (table["rv_residual_flags"] & LabelFlag.NO_INFORMATION) > 0
    np.testing.assert_array_equal(flagged, [False, False, True, True, False])
    assert np.isfinite(table["fe_h"]).all()
    assert not (table["result_flags"] & ResultFlag.NO_RESULT).any()


# neighbours


@pytest.fixture
def store(spectra, tmp_path):
    with StoreWriter(tmp_path / "store", ()) as writer:
        for spectrum in spectra:
            writer.append(spectrum, values={}, file=f"{spectrum.star_id}.fits")
    return tmp_path / "store"


@pytest.fixture
def model(tmp_path):
    return save_estimator(estimator_of("gaussian"), tmp_path / "tiny")


def test_neighbours_are_listed_beside_the_catalogue(model, store, spectra, tmp_path):
    predict(model, [store], tmp_path / "cat.fits", neighbours=2)
    table = read_catalogue(tmp_path / f"cat{SUFFIX}")
    assert len(table) == 2 * len(spectra)
    expected = load(model).neighbours([[s] for s in spectra], 2)
    for i, spectrum in enumerate(spectra):
        rows = table[table["star_id"] == spectrum.star_id]
        assert list(rows["rank"]) == [1, 2]
        assert list(rows["neighbour_id"]) == list(expected.star_id[i])
        np.testing.assert_allclose(rows["distance"], expected.distance[i], rtol=1e-4)
        np.testing.assert_allclose(rows["teff"], expected.labels["teff"][2 * i : 2 * i + 2])
    assert str(table["teff"].unit) == "K"
    assert table.meta["provenance"]["neighbours"] == 2


def test_an_interrupted_run_lists_each_star_once(model, store, tmp_path, monkeypatch):
    """Also those that are in the table and not yet in the catalogue."""
    monkeypatch.setattr(module, "BATCH", 2)
    calls = []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return catalogue_of(*arguments)

    monkeypatch.setattr(module, "catalogue_of", interrupted)
    with pytest.raises(KeyboardInterrupt):
        predict(model, [store], tmp_path / "cat.parquet", neighbours=3)
    with pytest.raises(InputError, match="neighbours"):
        predict(model, [store], tmp_path / "cat.parquet")
    monkeypatch.setattr(module, "catalogue_of", catalogue_of)
    report = predict(model, [store], tmp_path / "cat.parquet", neighbours=3)
    table = read_catalogue(tmp_path / f"cat{SUFFIX}")
    stars = read_catalogue(report.catalogue)["star_id"]
    assert sorted(table["star_id"]) == sorted(np.repeat(stars, 3))
    assert len(stars) == 5
    assert not list(tmp_path.glob("*.parts"))
