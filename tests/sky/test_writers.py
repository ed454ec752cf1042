"""What the surveys' readers find in the files of the synthetic sky is what was recorded."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from spectrolabe.sky import writers
from spectrolabe.sky.observing import Reason
from spectrolabe.sky.writers import INDEX, Observed, blocks
from spectrolabe.spectra import Frame, Spectrum
from spectrolabe.spectra.wavelength import vacuum_to_air
from spectrolabe.surveys import get, read, read_labels
from spectrolabe.surveys.ingest import ingest
from tests.sky.exposures import ARMS, observed

SURVEYS = tuple(ARMS)
BARYCENTRIC = ("galah", "desi", "lamost_lrs", "sdss_boss")
# loglam of SDSS and WAVELENGTH of LAMOST are of single precision in the surveys' own files
WAVELENGTH_TOLERANCE = {"sdss_boss": 6e-3, "lamost_lrs": 6e-4}
# pixels with a sky line have an inverse variance, but these surveys' masks reject them
REJECTS_SKY_LINES = ("apogee", "sdss_boss")
A_BAND = (7580.0, 7680.0)  # Å in air, which the analysis of GALAH leaves out


Written = Callable[[str], tuple[Path, list[Observed], Table]]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """Folder, stars and index of a survey, written once."""

    @cache
    def write(survey: str) -> tuple[Path, list[Observed], Table]:
        folder = tmp_path_factory.mktemp(survey)
        stars = observed(survey, np.random.default_rng(1))
        return folder, stars, writers.get(survey).write(folder, stars, 0)

    return write


def _read(survey: str, folder: Path, index: Table) -> dict[str, Spectrum]:
    paths = dict.fromkeys(str(path) for path in index["path"])
    spectra = [one for path in paths for one in read(folder / path)]
    assert {one.survey for one in spectra} == {survey}
    return {one.spectrum_id: one for one in spectra}


def _recorded(survey: str, stars: list[Observed], row: Table.Row) -> tuple[object, object]:
    """The exposure and the arm (None for all) of a row that is no co-add."""
    star = next(one for one in stars if one.number == row["number"])
    exposure = star.exposures[max(int(row["visit"]), 1) - 1]
    if survey == "galah":
        return exposure, exposure.arms[int(row["spectrum_id"][-1]) - 1]
    if survey == "desi":
        return exposure, next(
            a for a in exposure.arms if row["spectrum_id"].endswith(a.name.upper())
        )
    return exposure, exposure.arms[0] if len(exposure.arms) == 1 else None


def _arrays(survey: str, exposure: object, arm: object) -> tuple[np.ndarray, ...]:
    arms = [arm] if arm is not None else exposure.arms
    names = ("wavelength", "flux", "ivar", "mask", "resolution")
    return tuple(np.concatenate([getattr(one, name) for one in arms]) for name in names)


@pytest.mark.parametrize("survey", SURVEYS)
def test_readers_find_what_was_recorded(survey: str, written: Written) -> None:
    folder, stars, index = written(survey)
    found = _read(survey, folder, index)
    assert set(INDEX) <= set(index.colnames)
    assert set(found) == set(np.asarray(index["spectrum_id"]))
    assert len(found) == len(index)
    checked = 0
    for row in index:
        if survey == "apogee" and row["visit"] == 0 and row["nvisits"] > 1:
            continue  # a combination of several: see below
        spectrum = found[row["spectrum_id"]]
        exposure, arm = _recorded(survey, stars, row)
        wavelength, flux, ivar, mask, resolution = _arrays(survey, exposure, arm)
        tolerance = WAVELENGTH_TOLERANCE.get(survey, 1e-7)
        at = np.searchsorted(spectrum.wavelength, wavelength - 2 * tolerance)
        np.testing.assert_allclose(spectrum.wavelength[at], wavelength, atol=tolerance, rtol=0)
        bad = ivar == 0
        if survey in REJECTS_SKY_LINES:
            bad |= (mask & int(Reason.SKY_LINE)) > 0
        if survey == "galah":
            air = vacuum_to_air(wavelength)
            bad |= (air > A_BAND[0]) & (air < A_BAND[1])
        if survey == "gaia_rvs":
            bad[:10] = bad[-10:] = True
        np.testing.assert_array_equal(spectrum.ivar[at] == 0, bad)
        assert np.all(np.delete(spectrum.ivar, at) == 0)  # the gaps between chips
        np.testing.assert_allclose(spectrum.flux[at][~bad], flux[~bad], rtol=1e-6)
        np.testing.assert_allclose(spectrum.ivar[at][~bad], ivar[~bad], rtol=1e-5)
        read_resolution = np.broadcast_to(spectrum.resolution, len(spectrum))[at]
        np.testing.assert_allclose(read_resolution, resolution, rtol=5e-3)
        assert spectrum.frame == (Frame.BARYCENTRIC if survey in BARYCENTRIC else Frame.REST)
        if survey in ("desi", "gaia_rvs"):  # their spectra do not tell
            assert np.isnan(spectrum.rv)
        else:
            assert spectrum.rv == pytest.approx(exposure.rv_measured, abs=5e-3)
        checked += 1
    assert checked >= 3


def test_repeats_share_the_star(written: Written) -> None:
    for survey in ("apogee", "desi", "sdss_boss", "lamost_lrs"):
        folder, _, index = written(survey)
        found = _read(survey, folder, index)
        names = {
            number: {found[row["spectrum_id"]].star_id for row in index if row["number"] == number}
            for number in (0, 1, 2)
        }
        assert all(len(one) == 1 for one in names.values())
        assert len(set.union(*names.values())) == 3


def test_coadds_of_apogee_are_weighted_means(written: Written) -> None:
    folder, _, index = written("apogee")
    found = _read("apogee", folder, index)
    path = next(row["path"] for row in index if row["nvisits"] == 3)
    stem = path.rsplit("/", 1)[-1].removesuffix(".fits")
    combined, whole = found[f"{stem}:combined"], found[f"{stem}:combined_global"]
    visits = [found[f"{stem}:visit{i}"] for i in (1, 2, 3)]
    flux, ivar = np.stack([v.flux for v in visits]), np.stack([v.ivar for v in visits])
    levels = np.array([np.median(f[v.good]) for f, v in zip(flux, visits, strict=True)])[:, None]
    weight = ivar * levels**2
    good = ivar.min(axis=0) > 0
    with np.errstate(invalid="ignore"):
        expected = levels.mean() * (weight * flux / levels).sum(axis=0) / weight.sum(axis=0)
    np.testing.assert_allclose(combined.flux[good], expected[good], rtol=2e-3)
    ratio = combined.ivar[good] / (weight.sum(axis=0)[good] / levels.mean() ** 2)
    np.testing.assert_allclose(ratio, 1.0, rtol=5e-3)
    # a pixel that one visit lost is made of the others, and lost in the combination of whole visits
    lost_once = (ivar > 0).sum(axis=0) == 2
    assert lost_once.sum() > 20
    assert combined.good[lost_once].mean() > 0.99
    assert not whole.good[lost_once].any()
    assert combined.rv == pytest.approx(np.mean([v.rv for v in visits]), abs=1e-4)


def _labels(count: int, rng: np.random.Generator) -> Table:
    return Table(
        {
            "teff": rng.uniform(4500, 6500, count),
            "teff_err": np.full(count, 50.0),
            "logg": rng.uniform(1, 4.5, count),
            "logg_err": np.full(count, 0.1),
            "fe_h": rng.uniform(-1, 0.3, count),
            "fe_h_err": np.full(count, 0.05),
            "m_h": rng.uniform(-1, 0.3, count),
            "m_h_err": np.full(count, 0.05),
            "mg_fe": np.where(np.arange(count) == 1, np.nan, 0.2),
            "mg_fe_err": np.full(count, 0.04),
        }
    )


@pytest.mark.parametrize("survey", SURVEYS)
def test_catalogues_join(survey: str, written: Written, tmp_path: Path) -> None:
    folder, _, index = written(survey)
    first = [list(index["entry"]).index(entry) for entry in dict.fromkeys(index["entry"])]
    entries = index[first].copy()
    for column in ("snr", *[f"snr{i}" for i in (1, 2, 3, 4, "g")], "entry_snr"):
        if column in entries.colnames:
            entries[column] = 150.0
    labels = _labels(len(entries), np.random.default_rng(3))
    path = writers.get(survey).write_labels(folder, entries, labels)
    table = read_labels(path, survey)
    assert len(table) == len(entries)
    assert table.good.all()
    for name in ("teff", "logg", "fe_h"):
        np.testing.assert_allclose(table.labels[name], labels[name], rtol=1e-5, atol=1e-5)
        column = table.labels.index([name])[0]
        sigma = table.labels.sigma[:, column]
        if not (survey == "gaia_rvs" and name == "fe_h"):
            np.testing.assert_allclose(sigma, labels[f"{name}_err"], rtol=1e-2)
    if "mg_fe" in table.labels.names:
        assert np.isnan(table.labels["mg_fe"][1])
        np.testing.assert_allclose(np.delete(table.labels["mg_fe"], 1), 0.2, atol=1e-5)
    report = ingest(survey, folder, tmp_path / "store", path)
    assert report.bad == ()
    assert report.rows == len(index)
    with fits.open(path) as hdus:
        hdus.verify("exception")


@pytest.mark.parametrize("survey", SURVEYS)
def test_files_are_fits_to_another_reader(survey: str, written: Written) -> None:
    folder, _, index = written(survey)
    for path in dict.fromkeys(index["path"]):
        with fits.open(folder / path) as hdus:
            hdus.verify("exception")
            for hdu in hdus:
                hdu.data  # noqa: B018  whatever is wrong shows when it is read
            assert "Simulated" in str(hdus[0].header)


def test_pipeline_failures_leave_no_velocity(tmp_path: Path) -> None:
    for survey in ("apogee", "galah", "lamost_lrs", "sdss_boss"):
        stars = observed(survey, np.random.default_rng(5), visits=(1,))
        failed = [
            dataclasses.replace(e, rv_measured=np.nan, rv_error=np.nan) for e in stars[0].exposures
        ]
        index = writers.get(survey).write(
            tmp_path / survey, [dataclasses.replace(stars[0], exposures=failed)], 0
        )
        for spectrum in _read(survey, tmp_path / survey, index).values():
            assert np.isnan(spectrum.rv)


@pytest.mark.parametrize("survey", SURVEYS)
def test_a_writer_is_quick(survey: str, tmp_path: Path) -> None:
    stars = observed(survey, np.random.default_rng(7), visits=(2, 2, 2))
    writer = writers.get(survey)
    writer.write(tmp_path / "once", stars, 0)
    best = np.inf
    for i in range(3):
        start = time.process_time()
        writer.write(tmp_path / str(i), stars, 0)
        best = min(best, time.process_time() - start)
    exposures = sum(len(star.exposures) for star in stars)
    assert best / exposures < 0.05


def test_writers_have_the_names_of_the_readers() -> None:
    for survey in SURVEYS:
        assert get(survey).name == survey


def test_blocks_agree_with_astropy(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    cube = rng.normal(size=(2, 3, 5)).astype("f4")
    mask = np.array([[0, 1, 2**31, 2**32 - 1]], dtype="u4")
    columns = {
        "ID": np.array([2**60, -3]),
        "NAME": np.array(["a", "longer"]),
        "OK": np.array([True, False]),
        "VECTOR": rng.normal(size=(2, 4)),
        "NAMES": np.array([["x", "yy"], ["z", ""]]),
    }
    content = blocks.primary(
        [("NUMBER", 1.5e-17, "a comment"), ("TEXT", "it's"), ("FLAG", True), ("HISTORY", "once")]
    )
    content += blocks.image(cube, name="CUBE") + blocks.image(mask, name="MASK")
    content += blocks.table(columns, "T", units={"VECTOR": "km/s"})
    for name in ("plain.fits", "small.fits.gz"):
        blocks.write_bytes(tmp_path / name, content)
        with fits.open(tmp_path / name) as hdus:
            hdus.verify("exception")
            header = hdus[0].header
            assert (header["NUMBER"], header["TEXT"], header["FLAG"]) == (1.5e-17, "it's", True)
            np.testing.assert_array_equal(hdus["CUBE"].data, cube)
            np.testing.assert_array_equal(hdus["MASK"].data, mask)
            data = hdus["T"].data
            for key, values in columns.items():
                np.testing.assert_array_equal(data[key], values)
            assert hdus["T"].columns["VECTOR"].unit == "km/s"
    assert not list(tmp_path.glob(".*"))
    with pytest.raises(ValueError, match="more than 8"):
        blocks.cards([("TOOLONGKEY", 1)])
    with pytest.raises(ValueError, match="no card"):
        blocks.cards([("NUMBER", np.nan)])
