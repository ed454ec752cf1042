"""Made-up stars with strong lines at known velocities, and spectra of them, for tests."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import torch

from spectrolabe.models.emulator import Emulator
from spectrolabe.spectra import Frame, Instrument, Spectrum, observe
from tests.inference.made_up import draw_labels
from tests.models.emulators import made_up_emulator


def lined(emulator, seed=1):
    """Return the emulator with lines that all its stars share, four in a patch."""
    rng = np.random.default_rng(seed)
    offset = emulator.basis.offset.numpy()
    pixel = np.arange(offset.shape[1])
    centre = rng.uniform(0, offset.shape[1], (len(offset), 4, 1))
    depth = rng.uniform(0.1, 0.6, (len(offset), 4, 1))
    lines = 1 - depth * np.exp(-0.5 * ((pixel - centre) / 3.0) ** 2)
    basis = replace(emulator.basis, offset=torch.from_numpy(offset * lines.prod(axis=1)).float())
    keys = ("low", "high", "mean", "spread", "card")
    given = {key: getattr(emulator, key) for key in keys}
    return Emulator(emulator.network, basis, emulator.scale, **given)


EMULATOR = lined(made_up_emulator(5000.0, 5400.0))
LABELS = draw_labels(16, seed=4)
NATIVE = EMULATOR.basis.flux(EMULATOR.latents(LABELS)).numpy()
RESOLUTION = 12000.0
FWHM = 299792.458 / RESOLUTION


def wavelengths(resolution=RESOLUTION, low=5030.0, high=5370.0):
    """Return pixels, 2.5 to a FWHM."""
    return np.exp(np.arange(np.log(low), np.log(high), 1 / (2.5 * resolution)))


@cache
def noiseless(star, velocity, resolution=RESOLUTION):
    """Return the flux of a star as `observe` makes it: not the code that is tested."""
    instrument = Instrument(wavelengths(resolution), resolution)
    curve = 700.0 * (1 + 0.1 * np.sin(np.linspace(0.0, 3.0, len(instrument))))
    native = EMULATOR.wavelength, NATIVE[star], instrument
    return curve * observe(*native, rv=velocity, input_resolution=EMULATOR.resolution)


def noisy(flux, snr, seed=0, resolution=RESOLUTION, **given):
    """Return a spectrum of a flux with noise."""
    seen = flux * (1 + np.random.default_rng(seed).standard_normal(len(flux)) / snr)
    given = {"frame": Frame.BARYCENTRIC, **given}
    return Spectrum(wavelengths(resolution), seen, (snr / flux) ** 2, resolution, **given)
