"""A synthetic sky from population to files: joined, restartable, and silent about the truth."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.table import Table
from numpy.typing import NDArray
from scipy.stats import spearmanr

from spectrolabe.config.sky import SkyConfig
from spectrolabe.errors import InputError
from spectrolabe.sky.simulate import TRUTH, simulate
from spectrolabe.surveys import read, read_labels
from spectrolabe.surveys.ingest import ingest
from tests.sky.made_up import MadeUp

CATALOGUES = {
    "apogee": "allStar-dr17-synspec_rev1.fits",
    "galah": "galah_dr4_allstar_240705.fits",
    "desi": "mwsall-pix-iron.fits",
    "gaia_rvs": "astrophysical_parameters.fits",
    "lamost_lrs": "dr10_v2.0_LRS_stellar.fits",
    "sdss_boss": "ssppOut-dr12.fits",
}


ONLY_RVS = {**{name: {"share": 0.0} for name in CATALOGUES}, "gaia_rvs": {"share": 1.0}}
NEAR_INFRARED = np.exp(np.arange(np.log(8400.0), np.log(8760.0), 1.2e-5))


def _spectra() -> MadeUp:
    optical = np.exp(np.arange(np.log(3540.0), np.log(10500.0), 1.2e-5))
    infrared = np.exp(np.arange(np.log(15050.0), np.log(17050.0), 1.2e-5))
    return MadeUp(np.concatenate([optical, infrared]))


def _config(**changes: object) -> SkyConfig:
    tree: dict[str, object] = {
        "seed": 5,
        "batch": 6,
        "population": {"stars": 15, "magnitude": [11.0, 15.0]},
        "clusters": {"count": 1, "members": 3},
        "binaries": {"count": 1},
        **changes,
    }
    return SkyConfig.model_validate(tree)


@pytest.fixture(scope="module")
def sky(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("simulated") / "sky"
    simulate(_config(), folder, spectra=_spectra())
    return folder


@pytest.fixture(scope="module")
def truth(sky: Path) -> pd.DataFrame:
    return pd.read_parquet(sky / TRUTH)


@pytest.mark.parametrize("survey", ["apogee", "desi", "lamost_lrs"])
def test_every_star_is_visited_as_often_as_is_asked(survey: str, tmp_path: Path) -> None:
    shares: dict[str, object] = {name: {"share": 0.0} for name in CATALOGUES}
    config = _config(surveys=shares | {survey: {"share": 1.0, "visits": 4}})
    simulate(config, tmp_path, spectra=_spectra())
    truth = pd.read_parquet(tmp_path / TRUTH)
    arms = {"desi": 3}.get(survey, 1)
    for star, rows in truth.groupby("star_id"):
        seen = [one for path in rows["path"].unique() for one in read(tmp_path / path)]
        own = {one.spectrum_id for one in seen if not one.meta.get("coadd")} & set(
            rows["spectrum_id"]
        )
        assert len(own) == 4 * arms, star
    assert truth["star_id"].nunique() > 5


def test_visits_that_no_file_could_hold_are_refused() -> None:
    with pytest.raises(ValueError, match="means of all transits"):
        _config(surveys={"gaia_rvs": {"visits": 2}})
    with pytest.raises(ValueError, match="visits"):
        _config(surveys={"desi": {"visits": 17}})


def test_a_sky_of_before_an_option_came_is_the_same(tmp_path: Path) -> None:
    config, spectra = _config(surveys=ONLY_RVS), MadeUp(NEAR_INFRARED)
    simulate(config, tmp_path, spectra=spectra)
    card = tmp_path / "simulation.json"
    old = json.loads(card.read_text())
    for survey in old["config"]["surveys"].values():
        del survey["visits"]
    card.write_text(json.dumps(old))
    assert simulate(config, tmp_path, spectra=spectra).written == 0


def test_truth_names_every_spectrum(sky: Path, truth: pd.DataFrame) -> None:
    found = {}
    for path in truth["path"].unique():
        for spectrum in read(sky / path):
            found[path, spectrum.spectrum_id] = spectrum
    assert set(found) == set(zip(truth["path"], truth["spectrum_id"], strict=True))
    assert len(found) == len(truth)
    for row in truth.itertuples():
        spectrum = found[row.path, row.spectrum_id]
        assert spectrum.survey == row.survey
        if np.isfinite(spectrum.rv):
            assert abs(spectrum.rv - row.rv) < 60.0
    assert set(truth["survey"]) == set(CATALOGUES)
    on_disk = {
        path.relative_to(sky).as_posix()
        for path in sky.rglob("*")
        if path.is_file() and path.name not in (TRUTH, "simulation.json", *CATALOGUES.values())
    }
    assert on_disk == set(truth["path"])


def test_measured_velocities_follow_the_true_ones(sky: Path, truth: pd.DataFrame) -> None:
    high = truth[(truth["survey"] == "galah") & (truth["snr"] > 10)].drop_duplicates("entry")
    measured = [read(sky / path)[0].rv for path in high["path"]]
    difference = np.asarray(measured) - high["rv"].to_numpy()
    assert np.nanmedian(np.abs(difference)) < 2.0


@pytest.mark.parametrize("survey", CATALOGUES)
def test_catalogues_ingest(survey: str, sky: Path, truth: pd.DataFrame, tmp_path: Path) -> None:
    catalogue = sky / survey / CATALOGUES[survey]
    table = read_labels(catalogue, survey)
    here = truth[truth["survey"] == survey]
    assert len(table) == here["entry"].nunique()
    report = ingest(survey, sky / survey, tmp_path / "store", catalogue)
    assert report.rows >= 0.95 * len(here)
    true = here.drop_duplicates("entry").set_index("entry")
    key = next(iter(table.keys.values()))
    if survey == "sdss_boss":
        key = table.keys["spectrum_id"]
    if survey == "lamost_lrs":
        key = table.keys["obsid"]
    difference = table.labels["teff"] - true.loc[list(key), "teff"].to_numpy()
    assert np.nanmedian(np.abs(difference)) < 400.0  # of the right star, by a pipeline
    assert np.nanmedian(np.abs(difference)) > 1.0  # and not the truth itself


def _contents(path: Path) -> bytes:
    content = path.read_bytes()
    return gzip.decompress(content) if path.suffix == ".gz" else content


def _headers(path: Path) -> list[fits.Header]:
    with fits.open(path) as hdus:
        return [hdu.header for hdu in hdus]


def test_no_header_or_column_speaks_of_the_truth(sky: Path, truth: pd.DataFrame) -> None:
    forbidden = ("truth", "true", "cluster", "binary_id", "population", "halo", "thick", "vmac")
    for path in sorted(sky.rglob("*.fits*")):
        for header in _headers(path):
            words = [
                str(header.get(f"TTYPE{i}", "")) for i in range(1, header.get("TFIELDS", 0) + 1)
            ]
            words += [card.keyword for card in header.cards]
            words += [card.value for card in header.cards if isinstance(card.value, str)]
            text = " ".join(words).lower()
            assert not [word for word in forbidden if word in text], path
    for name in (path.name.lower() for path in sky.rglob("*") if path.name != TRUTH):
        assert not [word for word in forbidden if word in name]


def test_no_file_holds_a_true_value(sky: Path, truth: pd.DataFrame) -> None:
    """No true number, in single or double precision or as text, is in the bytes of its file."""
    names = (
        "teff",
        "logg",
        "fe_h",
        "v_micro",
        "mg_fe",
        "age",
        "distance",
        "mass",
        "rv",
        "parallax",
    )
    for path, rows in truth.groupby("path"):
        content = _contents(sky / str(path))
        for name in names:
            for value in rows[name].unique():
                for form in (">f4", ">f8"):
                    packed = np.array(value, dtype=form).tobytes()
                    if form == ">f8" or abs(value) > 1e-3:
                        assert form == ">f4" or packed not in content, (path, name)
                assert f"{value:.5f}".encode() not in content, (path, name)
    for survey, name in CATALOGUES.items():
        content = (sky / survey / name).read_bytes()
        for column in names:
            for value in truth.loc[truth["survey"] == survey, column].unique():
                assert np.array(value, dtype=">f8").tobytes() not in content, (survey, column)


def test_numbers_and_order_say_nothing(tmp_path: Path) -> None:
    config = _config(
        population={"stars": 300, "magnitude": [11.0, 15.0]},
        clusters={"count": 2, "members": 20},
        batch=100,
        surveys=ONLY_RVS,
    )
    simulate(config, tmp_path / "sky", spectra=MadeUp(NEAR_INFRARED))
    truth = pd.read_parquet(tmp_path / "sky" / TRUTH)
    order = [
        spectrum.star_id
        for path in sorted((tmp_path / "sky/gaia_rvs").glob("RVS*"))
        for spectrum in read(path)
    ]
    rank = {star: i for i, star in enumerate(order)}
    place = truth["spectrum_id"].map(rank)
    assert place.notna().all()
    members = (truth["cluster_id"].astype(str) == truth["cluster_id"].astype(str).mode()[0]).astype(
        float
    )
    for values in (truth["teff"], truth["logg"], truth["fe_h"], truth["age"], truth["rv"], members):
        correlation = spearmanr(place, values).statistic
        assert abs(correlation) < 4.0 / np.sqrt(len(truth))
        ids = spearmanr(truth["entry"].astype(np.int64), values).statistic
        assert abs(ids) < 4.0 / np.sqrt(len(truth))


def test_an_interrupted_run_continues_to_the_same_sky(sky: Path, tmp_path: Path) -> None:
    class StopError(Exception):
        pass

    class Failing(MadeUp):
        calls = 0

        def __call__(self, stars: Table) -> tuple[NDArray, NDArray]:
            type(self).calls += 1
            if type(self).calls == 3:
                raise StopError
            return super().__call__(stars)

    folder = tmp_path / "sky"
    with pytest.raises(StopError):
        simulate(_config(), folder, spectra=Failing(_spectra().wavelength))
    assert not (folder / TRUTH).exists()
    report = simulate(_config(), folder, spectra=_spectra())
    assert report.written == report.stars - 2 * _config().batch
    files = {path.relative_to(sky) for path in sky.rglob("*") if path.is_file()}
    assert files == {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    for name in files - {Path(TRUTH)}:
        assert (folder / name).read_bytes() == (sky / name).read_bytes(), name
    pd.testing.assert_frame_equal(pd.read_parquet(folder / TRUTH), pd.read_parquet(sky / TRUTH))
    assert simulate(_config(), folder, spectra=_spectra()).written == 0


def test_processes_write_the_same_sky(tmp_path: Path) -> None:
    config, spectra = _config(surveys=ONLY_RVS), MadeUp(NEAR_INFRARED)
    for workers in (1, 2):
        simulate(config, tmp_path / str(workers), spectra=spectra, workers=workers)
    paths = list((tmp_path / "1").rglob("*.fits"))
    assert len(paths) == 3
    for path in paths:
        other = tmp_path / "2" / path.relative_to(tmp_path / "1")
        assert other.read_bytes() == path.read_bytes()


def test_a_folder_of_something_else_is_left_alone(sky: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="seed"):
        simulate(_config(seed=6), sky, spectra=_spectra())
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="empty folder"):
        simulate(_config(), tmp_path, spectra=_spectra())


def test_a_sky_that_nobody_sees_is_an_error(tmp_path: Path) -> None:
    surveys = {name: {"magnitude": [-9.0, -8.0]} for name in CATALOGUES}
    with pytest.raises(InputError, match="none within"):
        simulate(_config(surveys=surveys), tmp_path / "sky", spectra=_spectra())


def test_spectra_that_a_survey_does_not_see_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"surveys\.apogee\.share=0"):
        simulate(_config(), tmp_path / "sky", spectra=MadeUp(NEAR_INFRARED))
