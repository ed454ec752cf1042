"""Spectrum: one star seen once through one instrument."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spectrolabe.errors import InputError
from spectrolabe.labels import read_only

__all__ = ["PRODUCT", "SPEED_OF_LIGHT", "Frame", "Spectrum"]

SPEED_OF_LIGHT = 299792.458  # km/s
PRODUCT = "model_product"  # key of meta: the model that made a spectrum which nobody measured


class Frame(StrEnum):
    """The frame of a wavelength scale."""

    REST = "rest"
    BARYCENTRIC = "barycentric"
    OBSERVED = "observed"


@dataclass(frozen=True, eq=False)
class Spectrum:
    """One star seen once through one instrument; its arrays cannot be written.

    Parameters
    ----------
    wavelength : ndarray, shape (M,), float64
        Vacuum wavelength in Angstrom, strictly ascending.
    flux : ndarray, shape (M,), float32
        Flux in the units of the survey; relative is fine. May be NaN where ``ivar == 0``.
    ivar : ndarray, shape (M,), float32
        Inverse variance of the flux; 0 marks a pixel that must not be used. The only mask.
    resolution : float or ndarray, shape (M,)
        Resolving power R = wavelength / FWHM.
    frame : Frame
        Frame of ``wavelength``.
    rv : float
        Radial velocity in km/s, positive = receding; NaN when not known. For ``Frame.REST`` it is
        the velocity that was taken out.
    survey, spectrum_id, star_id : str
        Where it is from, which spectrum it is, and which star; spectra of one star share
        ``star_id``.
    meta : Mapping
        What else the file says. Never an input of a model.

    Raises
    ------
    InputError
        If shapes disagree, wavelengths do not ascend, resolution is not positive, ivar is
        negative or not finite, flux is not finite where ivar is positive, or the velocity is
        that of light or more.
    """

    wavelength: NDArray
    flux: NDArray
    ivar: NDArray
    resolution: NDArray | float
    frame: Frame
    rv: float = np.nan
    survey: str = ""
    spectrum_id: str = ""
    star_id: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        put = lambda key, value: object.__setattr__(self, key, value)  # noqa: E731
        put("wavelength", read_only(self.wavelength, np.float64))
        put("flux", read_only(self.flux, np.float32))
        put("ivar", read_only(self.ivar, np.float32))
        if np.ndim(self.resolution) == 0:
            put("resolution", float(self.resolution))
        else:
            put("resolution", read_only(self.resolution, np.float32))
        put("frame", Frame(self.frame))
        put("rv", float(self.rv))
        put("meta", MappingProxyType(dict(self.meta)))
        self._check()

    @property
    def where(self) -> str:
        """What to call this spectrum in a message: its file if it has one, else its id."""
        return str(self.meta.get("file") or self.spectrum_id or "spectrum")

    def _check(self) -> None:
        shape = self.wavelength.shape
        if len(shape) != 1 or shape[0] < 2:
            raise InputError(
                self.where, expected="a 1-D spectrum of two pixels or more", found=f"shape {shape}"
            )
        arrays = [("flux", self.flux), ("ivar", self.ivar)]
        if not isinstance(self.resolution, float):
            arrays.append(("resolution", self.resolution))
        for name, array in arrays:
            if array.shape != shape:
                raise InputError(
                    self.where,
                    expected=f"{name} of the shape of wavelength, {shape}",
                    found=f"shape {array.shape}",
                )
        self._check_wavelength()
        if not (np.isnan(self.rv) or abs(self.rv) < SPEED_OF_LIGHT):
            raise InputError(
                self.where,
                expected="a velocity in km/s slower than light, or NaN",
                found=f"{self.rv} km/s",
            )
        if not (np.isfinite(self.resolution).all() and np.all(np.asarray(self.resolution) > 0)):
            raise InputError(
                self.where,
                expected="a positive resolution R = wavelength / FWHM",
                found=f"R from {np.min(self.resolution)} to {np.max(self.resolution)}",
                fix="Give R with the file, or set it when reading.",
            )
        if not (np.isfinite(self.ivar).all() and (self.ivar >= 0).all()):
            raise InputError(
                self.where,
                expected="finite, non-negative inverse variances",
                found=f"{int(np.sum(~(self.ivar >= 0) | ~np.isfinite(self.ivar)))} others",
                fix="Set ivar to 0 where a pixel must not be used.",
            )
        lost = np.flatnonzero((self.ivar > 0) & ~np.isfinite(self.flux))
        if lost.size:
            raise InputError(
                self.where,
                expected="finite flux wherever ivar > 0",
                found=f"{lost.size} pixels with NaN flux and good ivar, the first is {lost[0]}",
                fix="Set ivar to 0 there.",
            )

    def _check_wavelength(self) -> None:
        if not (np.isfinite(self.wavelength).all() and self.wavelength[0] > 0):
            raise InputError(
                self.where,
                expected="finite, positive wavelengths",
                found=f"{self.wavelength[0]} at the first pixel",
            )
        step = np.diff(self.wavelength)
        if not (step > 0).all():
            down = int(np.flatnonzero(step <= 0)[0])
            raise InputError(
                self.where,
                expected="strictly ascending wavelengths",
                found=f"{self.wavelength[down]:.4f} then {self.wavelength[down + 1]:.4f} Å "
                f"at pixel {down}",
                fix="Sort the pixels by wavelength.",
            )

    def __len__(self) -> int:
        return len(self.wavelength)

    @property
    def good(self) -> NDArray:
        """Pixels that may be used, shape (M,), bool."""
        return self.ivar > 0

    @property
    def snr(self) -> float:
        """Median of flux * sqrt(ivar) over the good pixels; 0 when there is none."""
        good = self.good
        return float(np.median(self.flux[good] * np.sqrt(self.ivar[good]))) if good.any() else 0.0

    def replace(self, **changes: Any) -> Spectrum:
        """Return a copy with these fields changed."""
        return dataclasses.replace(self, **changes)
