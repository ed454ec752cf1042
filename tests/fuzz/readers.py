"""Every reader: its whole files, how it is called, and what must hold of what it returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spectrolabe import surveys
from spectrolabe.catalogue import read_catalogue
from spectrolabe.config import load_config
from spectrolabe.config.fields import Strict
from spectrolabe.config.grid import GridConfig
from spectrolabe.config.loading import load_training
from spectrolabe.config.sky import SkyConfig
from spectrolabe.homogenise.calibration import Calibration
from spectrolabe.homogenise.correction_files import load_correction
from spectrolabe.homogenise.tables import StarTable
from spectrolabe.labels import LABELS
from spectrolabe.models.age_files import load_ages
from spectrolabe.models.checkpoint import load
from spectrolabe.models.denoiser import load_denoiser
from spectrolabe.models.emulator import load_emulator
from spectrolabe.spectra import Frame, Spectrum
from spectrolabe.spectra.store import open_store
from spectrolabe.synthesis.given import read_stars
from spectrolabe.synthesis.grid import read_grid
from tests.fuzz import originals
from tests.fuzz.originals import Files

__all__ = ["READERS", "Reader"]


@dataclass(frozen=True)
class Reader:
    """One reader.

    Parameters
    ----------
    originals : callable
        Whole files, by the name of the case.
    read : callable
        Of the folder in which the files lie; also sees that what it returns keeps its promises.
    """

    originals: Callable[[], dict[str, Files]]
    read: Callable[[Path], None]


def check_spectrum(one: Spectrum) -> None:
    """What everything that takes a spectrum relies on; said again here, not taken from the type."""
    size = len(one.wavelength)
    assert size >= 2
    assert one.flux.shape == one.ivar.shape == (size,)
    assert one.wavelength.dtype == np.float64
    assert np.isfinite(one.wavelength).all()
    assert one.wavelength[0] > 0
    assert (np.diff(one.wavelength) > 0).all()
    assert np.isfinite(one.ivar).all()
    assert (one.ivar >= 0).all()
    assert np.isfinite(one.flux[one.ivar > 0]).all()
    assert np.ndim(one.resolution) == 0 or np.shape(one.resolution) == (size,)
    assert np.isfinite(one.resolution).all()
    assert (np.asarray(one.resolution) > 0).all()
    assert isinstance(one.frame, Frame)
    assert np.isnan(one.rv) or abs(one.rv) < 299792.458
    assert isinstance(one.spectrum_id, str)
    assert isinstance(one.star_id, str)
    assert len(one.spectrum_id) <= 1000
    assert len(one.star_id) <= 1000
    float(one.snr)


def _file(folder: Path, *, but: str = "spectra.toml") -> Path:
    (path,) = (path for path in folder.iterdir() if path.is_file() and path.name != but)
    return path


def _spectra(folder: Path) -> None:
    for one in surveys.read(_file(folder)):
        check_spectrum(one)


def _labels(survey: str) -> Callable[[Path], None]:
    def read(folder: Path) -> None:
        table = surveys.read_labels(_file(folder), survey)
        size = len(table)
        assert table.good.shape == table.rv.shape == table.snr.shape == table.split.shape == (size,)
        assert all(len(values) == size for values in table.keys.values())
        for name in table.labels.names:
            values = table.labels[name]
            known = values[np.isfinite(values)]
            assert ((known >= LABELS[name].low) & (known <= LABELS[name].high)).all()
        sigma = table.labels.sigma
        assert (np.isnan(sigma) | (sigma > 0)).all()

    return read


def _store(folder: Path) -> None:
    store = open_store(folder / "store")
    for i in range(len(store)):
        check_spectrum(store[i])
    assert store.labels.values.shape == (len(store), len(store.names))
    assert len(store.column("star_id")) == len(store)


def _encoder(folder: Path) -> None:
    model = load(folder / "model")
    assert len(model.names) == len(model.scale.names)


def _denoiser(folder: Path) -> None:
    assert load_denoiser(folder / "run" / "denoiser").name.isprintable()


def _emulator(folder: Path) -> None:
    model = load_emulator(folder / "model")
    assert model.latents(model.mean).shape[0] == 1


def _ages(folder: Path) -> None:
    assert load_ages(folder / "model").names


def _correction(folder: Path) -> None:
    for one in load_correction(_file(folder)).labels.values():
        with np.errstate(all="ignore"):
            value, variance, share = one.at(np.ones((3, len(one.inputs.names))))
        assert value.shape == variance.shape == share.shape == (3,)


def _calibration(folder: Path) -> None:
    found = Calibration.load(_file(folder))
    assert all(name in LABELS for name in found.trends)


def _catalogue(folder: Path) -> None:
    table = read_catalogue(_file(folder))
    assert "provenance" in table.meta


def _stars(folder: Path) -> None:
    table = StarTable(_file(folder))
    ids = table.ids("star_id")
    rows = np.flatnonzero(table.used())
    found = table.read(table.labels, (), rows, np.asarray(ids.to_pylist(), str)[rows])
    assert len(found.labels) == len(rows)
    assert sum(len(piece) for piece in table.pieces()) == len(table)


def _given(folder: Path) -> None:
    labels, _ = read_stars(_file(folder))
    assert labels.values.shape[1] == len(labels.names)


def _grid(folder: Path) -> None:
    grid = read_grid(_file(folder), verify=True)
    assert grid.flux[0].shape == grid.continuum[0].shape == grid.wavelength.shape


def _configuration(folder: Path) -> None:
    path = _file(folder)
    kind = KINDS.get(path.stem)
    if kind is None:
        load_training(path)
    else:
        load_config(path, (), kind)


KINDS: dict[str, type[Strict]] = {
    **dict.fromkeys(("sky", "demo-sky", "twins-sky"), SkyConfig),
    **dict.fromkeys(("grid", "emulator-grid", "library"), GridConfig),
}


def _of_survey(survey: str) -> Callable[[], dict[str, Files]]:
    if survey == "generic":
        return lambda: {**originals.spectra_of(survey), **originals.tables_of_text()}
    return lambda: originals.spectra_of(survey)


def _labels_of(survey: str) -> Callable[[], dict[str, Files]]:
    return lambda: originals.of_writers(survey, "labels")


WITH_LABELS = ("apogee", "desi", "galah", "gaia_rvs", "lamost_lrs", "sdss_boss", "generic")
READERS: dict[str, Reader] = {
    **{name: Reader(_of_survey(name), _spectra) for name in surveys.SURVEYS},
    **{f"labels_{name}": Reader(_labels_of(name), _labels(name)) for name in WITH_LABELS},
    "store": Reader(originals.stores, _store),
    "encoder": Reader(originals.encoders, _encoder),
    "denoiser": Reader(originals.denoisers, _denoiser),
    "emulator": Reader(originals.emulators, _emulator),
    "ages": Reader(originals.age_models, _ages),
    "correction": Reader(originals.corrections, _correction),
    "calibration": Reader(originals.calibrations, _calibration),
    "catalogue": Reader(originals.catalogues, _catalogue),
    "stars": Reader(originals.star_tables, _stars),
    "given": Reader(originals.given_tables, _given),
    "grid": Reader(originals.grids, _grid),
    "configuration": Reader(originals.configurations, _configuration),
}
