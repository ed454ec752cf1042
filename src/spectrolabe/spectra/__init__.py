"""Spectra: the type, what an instrument does to them, continuum, and the store."""

from spectrolabe.spectra.spectrum import Frame, Spectrum

__all__ = ["Frame", "Spectrum"]
