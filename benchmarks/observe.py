"""Rates of what changes a spectrum's pixels, in spectra a second of processor time on one core.

Run: ``OMP_NUM_THREADS=1 python benchmarks/observe.py``
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from spectrolabe.spectra import (
    Instrument,
    broaden,
    convolve_lsf,
    observation_operator,
    observe,
    resample,
    running_continuum,
    shift_flux,
)

PIXELS = 7514
BATCH = 64


def rate(work: Callable[[], object], spectra: int, seconds: float = 1.0) -> float:
    """Spectra a second of processor time: the best of the calls that fit into the time."""
    work()
    best, end = np.inf, time.process_time() + seconds
    while time.process_time() < end:
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return spectra / best


def main() -> None:
    """Print one line for each operation."""
    rng = np.random.default_rng(0)
    log_grid = np.geomspace(15150, 16950, PIXELS)
    other = np.linspace(15200, 16900, PIXELS)
    one, many = rng.normal(1, 0.1, PIXELS), rng.normal(1, 0.1, (BATCH, PIXELS))
    ivar = np.full(PIXELS, 100.0)
    model = np.exp(np.arange(np.log(15100), np.log(17000), 1 / 3e5))
    flux = rng.normal(1, 0.1, model.size)
    apogee = Instrument(log_grid, 22500.0, "apogee")
    operator = observation_operator(model, apogee)
    varied = np.linspace(10000, 12000, PIXELS)

    for name, spectra, work in (
        ("resample, one spectrum", 1, lambda: resample(log_grid, one, ivar, other)),
        ("resample, 64 at once", BATCH, lambda: resample(log_grid, many, ivar, other)),
        ("LSF, constant R, log grid, one", 1, lambda: convolve_lsf(log_grid, one, 10000.0)),
        ("LSF, constant R, log grid, 64", BATCH, lambda: convolve_lsf(log_grid, many, 10000.0)),
        ("LSF, R of each pixel, one", 1, lambda: convolve_lsf(other, one, varied)),
        ("LSF, R of each pixel, 64", BATCH, lambda: convolve_lsf(other, many, varied)),
        ("observation operator, made", 1, lambda: observation_operator(model, apogee, rv=20.0)),
        ("observation operator, applied", 1, lambda: operator @ flux),
        ("observe, all steps, one", 1, lambda: observe(model, flux, apogee, rv=20.0, vbroad=6.0)),
        (
            "broaden + shift + operator at rest",
            1,
            lambda: operator @ np.nan_to_num(shift_flux(model, broaden(model, flux, 6.0), 20.0)),
        ),
        ("running continuum, one", 1, lambda: running_continuum(log_grid, one, ivar)),
        ("running continuum, 64", BATCH, lambda: running_continuum(log_grid, many, ivar)),
    ):
        print(f"{name:36s} {rate(work, spectra):10.0f} spectra/s")
    print(f"({PIXELS} pixels; the model has {model.size})")


if __name__ == "__main__":
    main()
