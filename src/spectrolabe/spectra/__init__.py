"""Spectra: the type, what an instrument does to them, continuum, and the store."""

from spectrolabe.spectra.broadening import broaden, convolve_lsf, macroturbulence, rotate
from spectrolabe.spectra.continuum import normalise, polynomial_continuum, running_continuum
from spectrolabe.spectra.degrade import degrade
from spectrolabe.spectra.observe import (
    Instrument,
    observation_operator,
    observe,
    resample,
    shift_flux,
)
from spectrolabe.spectra.spectrum import Frame, Spectrum
from spectrolabe.spectra.wavelength import (
    SPEED_OF_LIGHT,
    air_to_vacuum,
    doppler_shift,
    to_rest_frame,
    vacuum_to_air,
)

__all__ = [
    "SPEED_OF_LIGHT",
    "Frame",
    "Instrument",
    "Spectrum",
    "air_to_vacuum",
    "broaden",
    "convolve_lsf",
    "degrade",
    "doppler_shift",
    "macroturbulence",
    "normalise",
    "observation_operator",
    "observe",
    "polynomial_continuum",
    "resample",
    "rotate",
    "running_continuum",
    "shift_flux",
    "to_rest_frame",
    "vacuum_to_air",
]
