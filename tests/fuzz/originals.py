"""Whole files for every reader, made by the project's own writers when the tests run."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from astropy.table import Table

from spectrolabe.catalogue import build_catalogue, write_catalogue
from spectrolabe.config import EncoderConfig
from spectrolabe.homogenise.correction import Bent, Correction
from spectrolabe.homogenise.correction_files import save_correction
from spectrolabe.homogenise.fitting import fit_calibration
from spectrolabe.homogenise.formula import Formula
from spectrolabe.homogenise.learning import fit_correction
from spectrolabe.labels import Labels, LabelScale
from spectrolabe.models.age_files import save_ages
from spectrolabe.models.ages import AgeModel, AgeNetwork, AgeShape
from spectrolabe.models.checkpoint import save_estimator
from spectrolabe.models.denoiser import AS_STATED, Denoiser, save_denoiser
from spectrolabe.models.emulator import save_emulator
from spectrolabe.models.encoder import Encoder
from spectrolabe.models.estimator import Estimator
from spectrolabe.models.flux_decoder import FluxDecoder
from spectrolabe.models.posterior import LabelPosterior
from spectrolabe.models.uncertainty import Coverage, Recalibration
from spectrolabe.sky import writers
from spectrolabe.spectra import Frame, Spectrum
from spectrolabe.spectra.store import StoreWriter
from spectrolabe.surveys.keywords import SIDECAR
from spectrolabe.synthesis.grid import write_grid
from tests.homogenise.made_up import made_up as made_up_stars
from tests.models.tiny_emulator import tiny_emulator
from tests.sky.exposures import ARMS, observed
from tests.surveys.writers import label_writers, spectrum_writers
from tests.synthesis.grids import made_up as made_up_grid

Files = dict[str, bytes]
NAMES = ("teff", "logg", "fe_h")


def contents(folder: Path) -> Files:
    """All files below a folder, by their relative names."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def _made(make: Callable[[Path], object]) -> Files:
    with tempfile.TemporaryDirectory() as name:
        make(Path(name))
        return contents(Path(name))


# spectra and label tables


@cache
def of_sky(survey: str) -> dict[str, Files]:
    """Native files of a survey as the synthetic sky has them, one an entry."""
    stars = observed(survey, np.random.default_rng(1), visits=(1, 2))
    files = _made(lambda folder: writers.get(survey).write(folder, stars, 0))
    return {f"sky-{i}": {Path(name).name: data} for i, (name, data) in enumerate(files.items())}


@cache
def of_writers(survey: str, kind: str) -> dict[str, Files]:
    """Small native files of a survey, or its label tables, of `tests.surveys.writers`."""
    found: dict[str, Files] = {}
    for name, write in (spectrum_writers() if kind == "spectra" else label_writers()).items():
        with tempfile.TemporaryDirectory() as folder:
            case = write(Path(folder), np.random.default_rng(3))
            if case.survey == survey:
                beside = (case.path, case.path.with_name(SIDECAR))
                found[name] = {path.name: path.read_bytes() for path in beside if path.is_file()}
    return found


def spectra_of(survey: str) -> dict[str, Files]:
    """All files of a survey."""
    return {**(of_sky(survey) if survey in ARMS else {}), **of_writers(survey, "spectra")}


@cache
def tables_of_text() -> dict[str, Files]:
    """Spectra of anyone as CSV, ECSV, Parquet, VOTable and FITS, and with a sidecar."""
    grid = 4000.0 + np.arange(40.0)
    table = Table({"wavelength": grid, "flux": np.ones(40), "ivar": np.full(40, 100.0)})
    table["wavelength"].unit = "Angstrom"
    keywords = {"MEDIUM": "vacuum", "FRAME": "rest", "RV": "0", "R": "2000"}
    table.meta.update(keywords)
    own = {**keywords, "WAVEUNIT": "Angstrom"}
    sidecar = "\n".join(f'{key} = "{value}"' for key, value in own.items())
    found: dict[str, Files] = {}
    for suffix, kind in (("ecsv", "ascii.ecsv"), ("vot", "votable"), ("parquet", "parquet")):

        def write(folder: Path, suffix: str = suffix, kind: str = kind) -> None:
            table.write(folder / f"own.{suffix}", format=kind)
            (folder / "spectra.toml").write_text(sidecar)

        found[suffix] = _made(write)
    head = "".join(f"# {key} = {value}\n" for key, value in keywords.items())
    rows = "".join(f"{x},1.0,100.0\n" for x in grid)
    text = f"{head}# WAVEUNIT = Angstrom\nwavelength,flux,ivar\n{rows}"
    return {**found, "csv": {"own.csv": text.encode()}}


# what the package writes


def _spectrum(name: str, rng: np.random.Generator) -> Spectrum:
    grid = 5000.0 + np.arange(30.0)
    return Spectrum(
        grid, rng.normal(1, 0.1, 30), np.full(30, 100.0), 2000.0, Frame.REST, 0.0, "lamost_lrs",
        name, f"star {name}", {"file": f"{name}.fits", "ra": 1.0},
    )  # fmt: skip


@cache
def stores() -> dict[str, Files]:
    """A store of two shards."""

    def write(folder: Path) -> None:
        rng = np.random.default_rng(2)
        with StoreWriter(folder / "store", NAMES, shard_size=2) as writer:
            for name in "abcd":
                writer.append(_spectrum(name, rng), values=[5000.0, 4.0, 0.0], sigma=[50, 0.1, 0.1])

    return {"store": _made(write)}


def _estimator() -> Estimator:
    torch.manual_seed(3)
    config = EncoderConfig(width=16, latents=4, blocks=1, heads=2)
    rng = np.random.default_rng(0)
    values = rng.normal([5800, 4, -0.3], [500, 0.4, 0.4], (20, 3))
    stars = Labels(NAMES, values, np.full((20, 3), 0.1), [f"training star {i}" for i in range(20)])
    own = Recalibration(np.zeros(3), np.ones(3), np.zeros(3), np.zeros(3))
    return Estimator(
        Encoder(config, 3),
        LabelScale(NAMES, np.array([5800.0, 4.0, -0.3]), np.array([500.0, 0.4, 0.4])),
        Recalibration(np.zeros(3), np.ones(3), np.zeros(3), np.zeros(3), {"apogee": own}),
        Coverage(rng.normal(size=(20, 32)).astype(np.float32), np.ones(32), 2.0, stars),
        {"name": "tiny", "encoder": config.model_dump()},
    )


@cache
def encoders() -> dict[str, Files]:
    """A small encoder."""
    return {"encoder": _made(lambda folder: save_estimator(_estimator(), folder / "model"))}


@cache
def denoisers() -> dict[str, Files]:
    """A denoiser beside its encoder."""

    def write(folder: Path) -> None:
        estimator = _estimator()
        save_estimator(estimator, folder / "run")
        digest = json.loads((folder / "run" / "card.json").read_text())["weights_sha256"]
        decoder = FluxDecoder(estimator.encoder.latents.shape[1], estimator.encoder.heads, 8)
        card = {"name": "tiny", "encoder": "..", "encoder_sha256": digest, "channels": 8}
        save_denoiser(
            Denoiser(estimator, decoder, {"": AS_STATED}, card), folder / "run" / "denoiser"
        )

    return {"denoiser": _made(write)}


@cache
def emulators() -> dict[str, Files]:
    """A small emulator."""
    return {"emulator": _made(lambda folder: save_emulator(tiny_emulator(), folder / "model"))}


@cache
def age_models() -> dict[str, Files]:
    """A model of ages with the right shapes, which has learnt nothing."""
    torch.manual_seed(1)
    model = AgeModel(
        AgeNetwork(AgeShape(3, 1, members=2, width=8)),
        LabelScale(NAMES, np.array([5000.0, 2.5, 0.0]), np.array([500.0, 0.5, 0.3])),
        np.array([4000.0, 1.0, -1.0]),
        np.array([6000.0, 3.5, 0.5]),
        ("one",),
        0.7,
        0.3,
        np.zeros((1, 4)),
        "one",
        {"name": "tiny"},
    )
    return {"ages": _made(lambda folder: save_ages(model, folder / "model"))}


@cache
def corrections() -> dict[str, Files]:
    """Corrections of every kind."""
    rng = np.random.default_rng(4)
    true = rng.normal([5300.0, 3.0, -0.3], [500.0, 0.8, 0.3], (400, 3))
    error = np.broadcast_to([50.0, 0.1, 0.05], true.shape)
    ids = np.arange(400).astype(str)
    target = Labels(NAMES, true + error * (1 + rng.normal(size=true.shape)), error, ids)
    other = Labels(NAMES, true, error / 3, ids)
    found = {
        m: fit_correction(target, other, method=m) for m in ("polynomial", "spline", "xgboost")
    }
    found["symbolic"] = _with_formula(found["polynomial"])
    return {
        method: _made(lambda folder, c=one: save_correction(c, folder / "a.correction"))
        for method, one in found.items()
    }


def _with_formula(correction: Correction) -> Correction:
    """The same with bends that are formulae: to look for some takes too long."""
    bend = Formula("c0 + c1*x0*tanh(x1)", np.array([0.1, 0.2]), 3)
    labels = {}
    for name, one in correction.labels.items():
        curves = [Bent(curve.plane, bend) for curve in (one.curve, *one.refits)]
        size = len(one.inputs.names)
        assert size == bend.size
        labels[name] = replace(one, curve=curves[0], refits=tuple(curves[1:]))
    return replace(correction, labels=labels)


@cache
def calibrations() -> dict[str, Files]:
    """A calibration by anchors."""
    trends = {"fe_h": lambda t, g, m: 0.1 * (t - 5500) / 1000}
    _, labels, anchors = made_up_stars(trends, names=NAMES)
    found = fit_calibration(labels, anchors, names=("fe_h",))
    return {"calibration": _made(lambda folder: found.save(folder / "a.calibration"))}


@cache
def catalogues() -> dict[str, Files]:
    """A catalogue in both formats."""
    rng = np.random.default_rng(5)
    mean = rng.normal([5500, 3.5, -0.3], [500, 1.0, 0.3], (5, 3))
    one = LabelPosterior.independent(
        NAMES, mean, np.full((5, 3), 0.1), [f"star{i}" for i in range(5)]
    )
    identity = {
        "spectrum_id": [f"sp{i}" for i in range(5)],
        "survey": ["lamost_lrs"] * 5,
        "file": [f"{i}.fits" for i in range(5)],
        "n_spectra": np.ones(5, dtype=int),
        "snr": np.full(5, 50.0),
    }
    table = build_catalogue(one, one, identity, np.zeros(5, int), np.zeros((5, 3), int))
    return {
        suffix: _made(lambda folder, s=suffix: write_catalogue(table, folder / f"c.{s}", {"a": 1}))
        for suffix in ("parquet", "fits")
    }


@cache
def star_tables() -> dict[str, Files]:
    """Tables of stars as anyone may have them."""
    table = Table(
        {
            "star_id": [f"s{i}" for i in range(8)],
            "teff": np.linspace(4500, 6000, 8),
            "e_teff": np.full(8, 50.0),
            "logg": np.linspace(1, 4.5, 8),
            "fe_h": np.linspace(-1, 0.3, 8),
            "v_micro": np.full(8, 1.2),
            "flag_bad": np.zeros(8, int),
        }
    )
    kinds = {"csv": "ascii.csv", "ecsv": "ascii.ecsv", "vot": "votable", "fits": "fits",
             "parquet": "parquet"}  # fmt: skip
    return {
        suffix: _made(lambda folder, s=suffix, k=kind: table.write(folder / f"stars.{s}", format=k))
        for suffix, kind in kinds.items()
    }


def given_tables() -> dict[str, Files]:
    """Those of the formats in which stars to be computed may be given."""
    return {kind: files for kind, files in star_tables().items() if kind != "vot"}


@cache
def grids() -> dict[str, Files]:
    """A grid with and without differential spectra."""
    return {
        name: _made(lambda folder, n=names: write_grid(folder / "a.grid", made_up_grid(3, 1, n)))
        for name, names in (("plain", ()), ("differential", ("teff", "mg_fe")))
    }


@cache
def configurations() -> dict[str, Files]:
    """The configurations of the repository."""
    folder = Path(__file__).parents[2] / "configs"
    return {path.stem: {path.name: path.read_bytes()} for path in sorted(folder.glob("*.toml"))}
