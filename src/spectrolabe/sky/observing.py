"""What a spectrograph records of a star: one exposure with all that goes wrong in it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag

import numpy as np
from numpy.typing import NDArray

from spectrolabe.labels import read_only

__all__ = ["ArmExposure", "Exposure", "Reason"]


class Reason(IntFlag):
    """What is wrong with a pixel, or may be.

    A pixel with ``ivar`` 0 has COSMIC, BAD_COLUMN, SATURATED or NO_DATA; TELLURIC and SKY_LINE
    only inform: the pixel has an ``ivar``, enlarged by the noise but not by all of the residual.
    """

    TELLURIC = 1
    COSMIC = 2
    BAD_COLUMN = 4
    SATURATED = 8
    SKY_LINE = 16
    NO_DATA = 32


@dataclass(frozen=True, eq=False)
class ArmExposure:
    """What one arm recorded; arrays cannot be written.

    Parameters
    ----------
    name : str
        Of the arm: ``"b"``, ``"ccd1"`` ...
    wavelength : ndarray, shape (P,), float64
        Vacuum Angstrom, the pixels of the survey's own files in the frame of the instrument:
        barycentric, or at rest where the survey shifts its spectra (by ``rv_measured``).
    flux, ivar : ndarray, shape (P,), float32
        Sky-subtracted flux in the units of the instrument, and its inverse variance; both 0 where
        there is nothing.
    mask : ndarray, shape (P,), uint8
        `Reason` bits.
    sky : ndarray, shape (P,), float32
        The sky that was subtracted, in the units of flux.
    resolution : ndarray, shape (P,), float32
        R = wavelength / FWHM.
    snr : float
        Median S/N a pixel over the pixels with ``ivar`` above 0; 0 if there are none.
    """

    name: str
    wavelength: NDArray
    flux: NDArray
    ivar: NDArray
    mask: NDArray
    sky: NDArray
    resolution: NDArray
    snr: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "wavelength", read_only(self.wavelength, np.float64))
        object.__setattr__(self, "mask", read_only(self.mask, np.uint8))
        for name in ("flux", "ivar", "sky", "resolution"):
            object.__setattr__(self, name, read_only(getattr(self, name), np.float32))


@dataclass(frozen=True, eq=False)
class Exposure:
    """One exposure, or one mean spectrum of a survey that gives no other.

    Parameters
    ----------
    survey : str
        Name as in `spectrolabe.surveys`.
    arms : tuple of ArmExposure
        In ascending wavelength.
    snr : float
        Median S/N a pixel over all arms.
    rv_measured, rv_error : float
        Barycentric velocity that the survey's pipeline found and the error that it states, km/s;
        NaN where it failed.
    mjd : float
        Middle of the exposure.
    exposure_time : float
        Seconds.
    """

    survey: str
    arms: tuple[ArmExposure, ...]
    snr: float
    rv_measured: float
    rv_error: float
    mjd: float
    exposure_time: float
