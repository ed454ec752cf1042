"""Made-up spectra that behave like real ones, for tests of what handles them."""

from __future__ import annotations

import numpy as np

from spectrolabe.errors import InputError
from spectrolabe.labels import Labels
from spectrolabe.synthesis.grid import Grid

NAMES = ("teff", "logg", "fe_h", "v_micro", "mg_fe")
LINES = {"mg_fe": 5012.0, "fe_h": 5030.0, "teff": 5044.0}


def wavelength_of(pieces: int = 1) -> np.ndarray:
    parts = [5000.0 + 0.05 * np.arange(1001), 15200.0 + 0.1 * np.arange(500)]
    return np.concatenate(parts[:pieces])


def spectrum(labels: dict[str, float], wavelength: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Flux with a Gaussian line for some labels, and a Planck-like continuum."""
    flux = np.ones_like(wavelength)
    for name, centre in LINES.items():
        value = labels.get(name, 0.0)
        depth = 0.4 * (value / 6000.0 if name == "teff" else np.exp(0.5 * value) / 2)
        flux -= depth * np.exp(-0.5 * ((wavelength - centre) / 0.3) ** 2)
    continuum = 1.2e23 / wavelength**5 / np.expm1(1.4388e8 / wavelength / labels["teff"])
    return flux.astype(np.float32), (1e4 * continuum).astype(np.float32)


def slopes(labels: dict[str, float], wavelength: np.ndarray, names: list[str]) -> np.ndarray:
    flux, _ = spectrum(labels, wavelength)
    rows = []
    for name in names:
        more = {**labels, name: labels.get(name, 0.0) + 0.1}
        rows.append((spectrum(more, wavelength)[0] - flux) / 0.1)
    return np.array(rows, np.float32).reshape(len(names), len(wavelength))


def label_values(stars: int, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    low, high = [4300.0, 1.0, -2.0, 0.8, -0.3], [7200.0, 4.8, 0.4, 2.0, 0.5]
    return rng.uniform(low, high, (stars, len(NAMES)))


def made_up(stars: int = 5, pieces: int = 1, differential: tuple[str, ...] = ()) -> Grid:
    wavelength, values = wavelength_of(pieces), label_values(stars)
    rows = [dict(zip(NAMES, row, strict=True)) for row in values.tolist()]
    both = [spectrum(row, wavelength) for row in rows]
    return Grid(
        wavelength,
        np.array([flux for flux, _ in both]),
        np.array([continuum for _, continuum in both]),
        Labels(
            NAMES,
            values,
            np.full(values.shape, np.nan),
            np.array([f"star {i}" for i in range(stars)]),
        ),
        np.array([slopes(row, wavelength, list(differential)) for row in rows])
        if differential
        else None,
        differential,
        np.full((stars, len(differential)), 0.1),
        tuple(("HOT",) if row["teff"] > 5500 else () for row in rows),
        {"engine": "made up"},
    )


def fake_engine(star, wavelength, *, atmospheres="marcs", lines="reference", differential=()):
    """Stands in for `spectrolabe.synthesis.spectrum.synthesise`; importable by worker processes."""
    from spectrolabe.synthesis.spectrum import Synthesis

    if star.teff > 7400.0:
        raise InputError("teff", expected="a number from 2800 to 7400", found=f"{star.teff:g}")
    labels = {"teff": star.teff, "logg": star.logg, "fe_h": star.fe_h, "v_micro": star.v_micro}
    labels |= {f"{symbol.lower()}_fe": value for symbol, value in star.x_fe.items()}
    flux, continuum = spectrum(labels, np.asarray(wavelength))
    return Synthesis(
        wavelength,
        flux,
        continuum,
        tuple(differential),
        np.full(len(differential), 0.1),
        slopes(labels, np.asarray(wavelength), list(differential)),
        ("COOL_NO_TIO",) if star.teff < 4250.0 else (),
    )
