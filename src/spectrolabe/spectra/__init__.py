"""Spectra: the type, what an instrument does to them, continuum, and the store."""

from spectrolabe.spectra.observe import air_to_vacuum, resample, vacuum_to_air
from spectrolabe.spectra.spectrum import Frame, Spectrum

__all__ = ["Frame", "Spectrum", "air_to_vacuum", "resample", "vacuum_to_air"]
