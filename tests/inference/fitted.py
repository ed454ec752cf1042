"""Files of made-up stars that a small emulator has made, and the emulator: for tests of `fit`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from spectrolabe.models.emulator import Emulator, load_emulator, save_emulator
from tests.models.tiny_emulator import tiny_emulator

LABELS = ("teff", "logg", "fe_h")
WAVELENGTH = np.arange(5020.0, 5150.0, 0.1)
RESOLUTION, VELOCITY = 11500.0, 20.0


def saved_emulator(folder: Path) -> Path:
    """Write the emulator of these tests."""
    return save_emulator(tiny_emulator(5000.0, 5170.0), folder)


def true_labels(emulator: Emulator, count: int, seed: int = 0) -> NDArray:
    """Return labels of stars, shape (N, L): three of them vary."""
    rng = np.random.default_rng(seed)
    values = np.tile(emulator.mean, (count, 1))
    values[:, :3] += 0.3 * emulator.spread[:3] * rng.uniform(-1, 1, (count, 3))
    return values


def write_star(
    path: Path, emulator: Emulator, labels: NDArray, *, snr: float = 300.0, **changes: object
) -> Path:
    """Write a spectrum of a star as a table of anyone; ``changes`` are of its columns and cards."""
    rng = np.random.default_rng(sum(path.stem.encode()))
    flux = emulator.flux(labels, WAVELENGTH, RESOLUTION, rv=VELOCITY)[0].astype(float)
    flux *= 1e3 * (1.0 + 0.2 * np.sin(WAVELENGTH / 40.0))
    sigma = flux / snr
    columns = {"wavelength": WAVELENGTH, "flux": flux + sigma * rng.normal(size=flux.size)}
    columns["ivar"] = sigma**-2.0
    cards = {"MEDIUM": "vacuum", "FRAME": "barycentric", "RV": VELOCITY, "R": RESOLUTION}
    cards["STAR_ID"] = f"star {path.stem}"
    for name, value in changes.items():
        (columns if name in columns else cards)[name] = value
    table = Table(columns)
    table["wavelength"].unit = "Angstrom"
    table.meta = cards
    path.parent.mkdir(parents=True, exist_ok=True)
    table.write(path, overwrite=True)
    return path


def write_stars(folder: Path, model: Path, count: int = 3) -> NDArray:
    """Write spectra s0.ecsv, s1.ecsv, ...; return the true labels."""
    emulator = load_emulator(model)
    truth = true_labels(emulator, count)
    for i, labels in enumerate(truth):
        write_star(folder / f"s{i}.ecsv", emulator, labels)
    return truth
