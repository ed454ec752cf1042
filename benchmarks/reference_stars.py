"""Stars with labels known from elsewhere, degraded to what surveys record.

The Sun and Procyon as observed with HARPS, mu Leo with GALAH, Kepler-93 with Gaia RVS, and a giant
of APOGEE.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmark_stars import RESOLUTION, STARS, observed
from spectrolabe import surveys
from spectrolabe.spectra import Frame, Instrument, Spectrum, air_to_vacuum, observe

__all__ = ["BENCHMARKS", "WINDOWS", "Known", "apogee_example", "degraded", "galah_star", "rvs_star"]

WINDOWS: Mapping[str, tuple[tuple[float, float], ...]] = {
    # vacuum Å; GALAH: De Silva et al. (2015, MNRAS 449, 2604), table 1
    "LAMOST": ((3700.0, 9100.0),),
    "GALAH": ((4716.0, 4904.0), (5650.0, 5875.0), (6480.0, 6739.0), (7587.0, 7889.0)),
    "RVS": ((8460.0, 8700.0),),
}
SAMPLING = 3.0  # pixels per FWHM
EDGE = 3.0  # Å without flux at the ends of the files and of the gap
CLEAN = 1e-4  # share of a pixel that may be without data


@dataclass(frozen=True)
class Known:
    """A star and what is known of it: value and error by label."""

    name: str
    source: str
    labels: Mapping[str, tuple[float, float]]


BENCHMARKS = {
    "Sun": Known(
        "Sun",
        "Heiter et al. (2015, A&A 582, A49); mixture of the synthesis",
        {"teff": (5771.0, 1.0), "logg": (4.438, 0.001), "fe_h": (0.0, 0.01)},
    ),
    "Procyon": Known(
        "Procyon",
        "Gaia benchmark stars v3 (Soubiran et al. 2024, A&A 682, A145)",
        {"teff": (6582.0, 5.0), "logg": (3.98, 0.02), "fe_h": (-0.02, 0.05)},
    ),
    "mu Leo": Known(
        "mu Leo",
        "Gaia benchmark stars v3 (Soubiran et al. 2024, A&A 682, A145)",
        {"teff": (4519.0, 23.0), "logg": (2.43, 0.06), "fe_h": (0.27, 0.05)},
    ),
    "Kepler-93": Known(
        "Kepler-93",
        "Ballard et al. (2014, ApJ 790, 12), log g from asteroseismology",
        {"teff": (5669.0, 75.0), "logg": (4.470, 0.004), "fe_h": (-0.18, 0.10)},
    ),
}


def degraded(
    folder: Path, star: str, window: str, resolution: float, snr: float, seed: int
) -> list[Spectrum]:
    """Return a HARPS spectrum as a lower resolution would have it, one a stretch of the window.

    Parameters
    ----------
    folder : Path
        With ``benchmark_stars``.
    star : str
        ``Sun`` or ``Procyon``.
    window : str
        Of `WINDOWS`; what HARPS does not reach is left out, and the list may be empty.
    resolution, snr : float
        R and S/N a pixel of the result; infinite for no noise.
    seed : int
        Of the noise.
    """
    air, flux = observed(folder / "benchmark_stars" / STARS[star][0])
    vacuum = air_to_vacuum(air)
    good = np.convolve(flux > 0, np.ones(5), "same") > 4.5
    ends = vacuum[np.flatnonzero(good)[[0, -1]]] + [EDGE, -EDGE]
    rng = np.random.default_rng([seed, int(resolution)])
    spectra = []
    for low, high in WINDOWS[window]:
        low, high = max(low, ends[0]), min(high, ends[1])
        if high - low < 30.0:
            continue
        step = 1.0 / (SAMPLING * resolution)
        pixels = np.exp(np.arange(np.log(low), np.log(high), step))
        instrument = Instrument(pixels, resolution)
        seen = observe(vacuum, flux, instrument, input_resolution=RESOLUTION)
        bad = observe(vacuum, (~good).astype(float), instrument, input_resolution=RESOLUTION)
        use = np.isfinite(seen) & (bad < CLEAN)
        spectra.append(_noisy(pixels, seen, use, resolution, snr, rng, star, window))
    return spectra


def _noisy(
    pixels: NDArray,
    flux: NDArray,
    use: NDArray,
    resolution: float,
    snr: float,
    rng: np.random.Generator,
    star: str,
    window: str,
) -> Spectrum:
    level = float(np.median(flux[use]))
    filled = np.where(use, flux, level)
    # HARPS itself has a S/N of some hundreds
    sigma = np.sqrt(np.maximum(filled, 0.02 * level) * level) / min(snr, 500.0)
    noise = rng.normal(size=len(pixels)) * sigma if np.isfinite(snr) else 0.0
    return Spectrum(
        pixels,
        filled + noise,
        np.where(use, sigma**-2.0, 0.0),
        resolution,
        Frame.BARYCENTRIC,
        spectrum_id=f"{star} {window} {pixels[0]:.0f} Å",
        star_id=star,
    )


def galah_star(folder: Path) -> list[Spectrum]:
    """Return the four arms of mu Leo."""
    files = sorted((folder / "galah").glob("131216002601003?.fits"))
    return [s.replace(star_id="mu Leo") for file in files for s in surveys.read(file)]


def rvs_star(folder: Path) -> list[Spectrum]:
    """Return the RVS spectrum of Kepler-93."""
    return [
        s.replace(star_id="Kepler-93") for s in surveys.read(folder / "gaia_rvs" / "Kepler-93.csv")
    ]


def apogee_example(folder: Path) -> tuple[list[Spectrum], Known]:
    """Return an APOGEE DR14 spectrum and what ASPCAP says of the star."""
    said = json.loads((folder / "apogee" / "apogee_dr14_example.json").read_text())
    with np.load(folder / "apogee" / "apogee_dr14_example.npz") as file:
        spectrum = Spectrum(
            10.0 * file["wavelength_nm"],
            file["normalized_flux"],
            np.where(file["good_pixel_mask"], file["inverse_variance"], 0.0),
            22500.0,
            Frame.REST,
            survey="apogee",
            spectrum_id=said["object_id"],
            star_id=said["object_id"],
        )
    m_h, alpha = said["metallicity"], said["alpha_enhancement"]
    labels = {  # errors: typical of DR14 (Holtzman et al. 2018, AJ 156, 125)
        "teff": (said["effective_temperature"], 80.0),
        "logg": (said["log_surface_gravity"], 0.1),
        "fe_h": (m_h, 0.03),
        "v_micro": (said["microturbulence_km_s"], 0.2),
        "c_fe": (said["carbon_over_m"], 0.05),
        "n_fe": (said["nitrogen_over_m"], 0.05),
        **{f"{x}_fe": (alpha, 0.05) for x in ("o", "mg", "si", "ca")},
    }
    return [spectrum], Known(said["object_id"], "ASPCAP DR14, [X/M] taken as [X/Fe]", labels)
