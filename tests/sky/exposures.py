"""Made-up exposures on the pixels of each survey, written down here from the surveys' documents."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from spectrolabe.sky.observing import ArmExposure, Exposure, Reason
from spectrolabe.sky.writers import Observed, Target
from spectrolabe.spectra.wavelength import air_to_vacuum

APOGEE = 10 ** (4.179 + 6e-6 * np.arange(8575))
GALAH = ((4713.6, 0.046), (5649.1, 0.0547), (6477.4, 0.0631), (7585.2, 0.0737))
LAMOST = 10 ** (3.5682 + 1e-4 * np.arange(3909))
DESI = (("b", 3600.0, 2751, 2600.0), ("r", 5760.0, 2326, 3700.0), ("z", 7520.0, 2881, 4600.0))


def _galah() -> list[tuple[str, NDArray, NDArray | float]]:
    grids = [air_to_vacuum(first + step * np.arange(4096)) for first, step in GALAH]
    return [(f"ccd{i}", grid, 25000 + 0.5 * np.arange(4096)) for i, grid in enumerate(grids, 1)]


ARMS: dict[str, Callable[[], list[tuple[str, NDArray, NDArray | float]]]] = {
    "apogee": lambda: [
        (name, APOGEE[low:high], 22500.0)
        for name, low, high in (("b", 246, 3274), ("g", 3585, 6080), ("r", 6344, 8335))
    ],
    "galah": _galah,
    "desi": lambda: [(n, first + 0.8 * np.arange(m), r) for n, first, m, r in DESI],
    "gaia_rvs": lambda: [("rvs", 8460.0 + 0.1 * np.arange(2401), 11500.0)],
    "lamost_lrs": lambda: [("br", LAMOST, LAMOST / np.where(LAMOST < 5800.0, 2.9, 4.1))],
    "sdss_boss": lambda: [
        ("br", 10 ** (3.5523 + 1e-4 * np.arange(4640)), np.linspace(1500.0, 2600.0, 4640))
    ],
}


def exposure(survey: str, rng: np.random.Generator, *, snr: float = 60.0) -> Exposure:
    """Return one exposure with a few pixels of every kind of fault."""
    arms = []
    for name, wavelength, resolution in ARMS[survey]():
        size = wavelength.size
        line = 1 - 0.5 * np.exp(-(((np.arange(size) - size / 3) / 6.0) ** 2))
        level = 400.0 * (1 + 0.2 * np.linspace(-1, 1, size))
        flux = level * (line + rng.normal(0, 1 / snr, size))
        ivar = (snr / level) ** 2 * np.linspace(0.8, 1.2, size)
        mask = np.zeros(size, dtype=np.uint8)
        reasons = (Reason.COSMIC, Reason.BAD_COLUMN, Reason.SATURATED, Reason.NO_DATA)
        for reason in reasons:
            bad = rng.choice(np.arange(40, size - 40), 5, replace=False)
            mask[bad] |= int(reason)
            ivar[bad] = 0.0
            flux[bad] *= 3.0
        mask[(mask & int(Reason.NO_DATA)) > 0] = int(Reason.NO_DATA)
        flux[(mask & int(Reason.NO_DATA)) > 0] = 0.0
        good = np.flatnonzero(mask == 0)
        for reason in (Reason.TELLURIC, Reason.SKY_LINE):  # they inform only
            mask[rng.choice(good, 20, replace=False)] |= int(reason)
        sky = np.full(size, 20.0)
        arms.append(
            ArmExposure(
                name, wavelength, flux, ivar, mask, sky, np.broadcast_to(resolution, size), snr
            )
        )
    rv = -12.5 + rng.normal(0, 0.2)
    return Exposure(survey, tuple(arms), snr, rv, 0.2, 58000.3 + rng.uniform(0, 900), 1800.0)


def target(rng: np.random.Generator) -> Target:
    """Return a star at a random place."""
    names = ("G", "BP", "RP", "J", "H", "K", "g", "r", "i")
    magnitudes = dict(zip(names, rng.uniform(10, 15, len(names)), strict=True))
    return Target(
        ra=float(rng.uniform(0, 360)),
        dec=float(np.degrees(np.arcsin(rng.uniform(-1, 1)))),
        gaia_dr3_source_id=int(rng.integers(10**17, 6 * 10**18)),
        magnitudes=magnitudes,
        parallax=float(rng.uniform(0.1, 5)),
        parallax_error=0.02,
        ebv=0.05,
    )


def observed(
    survey: str, rng: np.random.Generator, visits: tuple[int, ...] = (1, 3, 2)
) -> list[Observed]:
    """Return stars with so many exposures each; Gaia RVS has one whatever is asked for."""
    stars, first = [], 0
    for number, count in enumerate(visits):
        count = 1 if survey == "gaia_rvs" else count
        exposures = [exposure(survey, rng) for _ in range(count)]
        stars.append(Observed(target(rng), exposures, number, range(first, first + count)))
        first += count
    return stars
