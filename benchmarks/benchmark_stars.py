"""Synthetic spectra against the Sun and Procyon as observed at R = 110,000.

    python benchmarks/benchmark_stars.py DATA [--step 0.02] [--lines full]

DATA is the folder with ``benchmark_stars`` and ``turbospectrum``. Both stars were observed with
HARPS (air wavelengths). In windows of 50 Å the observation is shifted and scaled by a straight
line to each synthetic spectrum; printed are the correlation and the median absolute residual.
Turbospectrum's spectrum of the Sun has the same atmosphere and nearly the same lines.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from spectrolabe.spectra import (
    SPEED_OF_LIGHT,
    air_to_vacuum,
    convolve_lsf,
    macroturbulence,
    rotate,
    vacuum_to_air,
)
from spectrolabe.synthesis.spectrum import Star, synthesise, wavelength_grid

RESOLUTION = 110_000.0
WINDOW = 50.0  # Å
WINDOWS = ((4850, 5000), (5150, 5300), (5400, 5550), (5600, 5750), (6050, 6200), (6350, 6500))
STARS = {  # file, star, v sin i and macroturbulence in km/s
    # Jofré et al. (2014, A&A 564, A133; 2015, A&A 582, A81); macroturbulence: Doyle et al. (2014)
    "Sun": ("Sun_HARPS.fits.gz", Star(5777.0, 4.44, 0.0, 1.0), 1.6, 3.2),
    "Procyon": ("HARPS.GBOG_Procyon.fits.gz", Star(6554.0, 4.0, 0.01, 1.8), 2.8, 6.2),
}


def observed(path: Path) -> tuple[NDArray, NDArray]:
    """Return wavelengths (air, Å) and flux of one file."""
    with fits.open(path) as file:
        header, flux = file[0].header, file[0].data.astype(float)
    pixel = np.arange(flux.size) + 1.0 - header["CRPIX1"]
    return header["CRVAL1"] + header["CDELT1"] * pixel, flux


def broadened(wavelength: NDArray, flux: NDArray, vsini: float, v_macro: float) -> NDArray:
    """Return a spectrum as the spectrograph would see the star."""
    turned = rotate(wavelength, flux, vsini)
    return convolve_lsf(wavelength, macroturbulence(wavelength, turned, v_macro), RESOLUTION)


def compare(
    air: NDArray, flux: NDArray, model_air: NDArray, model: NDArray, low: float, high: float
) -> tuple[float, float, float]:
    """Return velocity, correlation and median absolute residual over a range.

    Velocity is that of the best correlation; the observation divided by the model is a straight
    line per window of `WINDOW`, fitted where the model has little absorption.
    """

    def at(velocity: float, start: float, stop: float) -> tuple[NDArray, NDArray]:
        inside = (air > start) & (air < stop)
        rest = air[inside] / (1.0 + velocity / SPEED_OF_LIGHT)
        return np.interp(rest, model_air, model), flux[inside]

    trials = np.arange(-30.0, 30.0, 0.1)
    velocity = trials[np.argmax([np.corrcoef(*at(v, low, high))[0, 1] for v in trials])]
    pairs = []
    for start in np.arange(low, high, WINDOW):
        expected, found = at(velocity, start, start + WINDOW)
        x, ratio = np.linspace(-1.0, 1.0, found.size), found / expected
        clear = expected > np.quantile(expected, 0.7)
        for _ in range(5):
            line = np.polyval(np.polyfit(x[clear], ratio[clear], 1), x)
            clear &= np.abs(ratio / line - 1.0) < 0.02
        pairs.append((expected, found / line))
    expected, found = (np.concatenate(part) for part in zip(*pairs, strict=True))
    residual = float(np.median(np.abs(found - expected)))
    return float(velocity), float(np.corrcoef(expected, found)[0, 1]), residual


def turbospectrum_sun(folder: Path) -> tuple[NDArray, NDArray]:
    """Return wavelengths (air, Å) and normalised flux of Turbospectrum's Sun."""
    with np.load(folder / "turbospectrum" / "turbospectrum.npz") as file:
        row = list(file["kind"]).index("grad:sun:base")
        return file["wave_air"], file["flux_u16"][row] * float(file["flux_scale"])


def main() -> None:
    """Compare, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--step", type=float, default=0.02, help="Å")
    parser.add_argument("--lines", default="full", help="which line list: full, reference")
    arguments = parser.parse_args()
    print("| star | window | velocity km/s | correlation | median residual | Turbospectrum |")
    print("|---|---|---|---|---|---|")
    for name, (file, star, vsini, v_macro) in STARS.items():
        air, flux = observed(arguments.folder / "benchmark_stars" / file)
        for low, high in WINDOWS:
            edges = air_to_vacuum(np.array([low - 4.0, high + 4.0]))
            grid = wavelength_grid(*edges, arguments.step)
            model = broadened(
                grid,
                synthesise(star, grid, lines=arguments.lines).flux.astype(float),
                vsini,
                v_macro,
            )
            model_air = vacuum_to_air(grid)
            found = compare(air, flux, model_air, model, low, high)
            other = "-"
            if name == "Sun":
                wave, theirs = turbospectrum_sun(arguments.folder)
                near = (wave > low - 4.0) & (wave < high + 4.0)
                theirs = broadened(air_to_vacuum(wave[near]), theirs[near], vsini, v_macro)
                result = compare(air, flux, wave[near], theirs, low, high)
                other = f"{result[1]:.3f} / {result[2]:.4f}"
            ours = f"{found[0]:+.1f} | {found[1]:.3f} | {found[2]:.4f}"
            print(f"| {name} | {low}-{high} | {ours} | {other} |", flush=True)


if __name__ == "__main__":
    main()
