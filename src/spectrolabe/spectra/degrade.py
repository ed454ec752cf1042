"""Spectra of a higher resolution than something can use, brought down to it."""

from __future__ import annotations

import numpy as np

from spectrolabe.spectra.broadening import convolve_lsf
from spectrolabe.spectra.spectrum import Spectrum

__all__ = ["degrade"]

WHOLE = 0.9  # of the light that a smoothed pixel receives must come from good pixels


def degrade(spectrum: Spectrum, resolution: float) -> Spectrum:
    """Return a spectrum whose R is nowhere above a limit, on its own pixels.

    Parameters
    ----------
    spectrum : Spectrum
        Returned as it is where its R is not higher.
    resolution : float
        R = wavelength / FWHM.

    Returns
    -------
    Spectrum
        Masked pixels lend nothing to others; pixels that would be mostly theirs are masked. The
        inverse variance stays: noise is smoothed with the flux, so that residuals become smaller,
        but what all pixels together say about features as wide as the new FWHM remains.
    """
    was = np.broadcast_to(np.asarray(spectrum.resolution, np.float64), spectrum.flux.shape)
    if (was <= resolution).all():
        return spectrum
    now, good = np.minimum(was, resolution), spectrum.ivar > 0
    rows = np.stack([np.where(good, spectrum.flux, 0.0), good.astype(np.float64)])
    light, share = convolve_lsf(spectrum.wavelength, rows, now, was)
    keep = good & (share >= WHOLE)
    flux = np.where(keep, light / np.where(keep, share, 1.0), spectrum.flux)
    return spectrum.replace(
        flux=flux.astype(np.float32),
        ivar=np.where(keep, spectrum.ivar, np.float32(0.0)),
        resolution=float(resolution) if np.ptp(now) == 0 else now,
    )
