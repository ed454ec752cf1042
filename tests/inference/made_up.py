"""Spectra of made-up stars, with noise, for tests of fits."""

from __future__ import annotations

import numpy as np

from spectrolabe.spectra import Frame, Spectrum
from tests.models.emulators import made_up_emulator

EMULATOR = made_up_emulator()


def grid(low=5030.0, high=5370.0, resolution=11500.0):
    """Return wavelengths with three pixels to a FWHM."""
    return np.exp(np.arange(np.log(low), np.log(high), 1 / (3 * resolution)))


def draw_labels(count, seed=0, width=0.5):
    """Return labels about the mean of the emulator, shape (count, 34)."""
    rng = np.random.default_rng(seed)
    labels = EMULATOR.mean + width * EMULATOR.spread * rng.standard_normal((count, 34))
    return np.clip(labels, EMULATOR.low, EMULATOR.high)


def spectra(labels, *, snr=100.0, resolution=11500.0, rv=0.0, v_broad=0.0, seed=0, **given):
    """Return one spectrum of each star, with a continuum that is not flat.

    ``snr`` may be infinite: no noise, and the inverse variance of S/N 100.
    """
    rng = np.random.default_rng(seed)
    wavelength = given.pop("wavelength", grid(resolution=resolution))
    frame = given.pop("frame", Frame.REST if rv == 0 else Frame.BARYCENTRIC)
    given = {"rv": rv if rv else np.nan, **given}
    flux = EMULATOR.flux(labels, wavelength, resolution, rv=rv, v_broad=v_broad)
    curve = 700.0 * (1 + 0.1 * np.sin(np.linspace(0.0, 3.0, len(wavelength))))
    result = []
    for n, one in enumerate(flux):
        sigma = one * curve / (snr if np.isfinite(snr) else 100.0)
        noise = sigma * rng.standard_normal(len(wavelength)) if np.isfinite(snr) else 0.0
        seen = one * curve + noise
        options = {"star_id": f"star{n}", **given}
        result.append(Spectrum(wavelength, seen, sigma**-2.0, resolution, frame, **options))
    return result
