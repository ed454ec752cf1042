"""What a fit made of each spectrum: model, continuum and the pixels used, and the file of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.io import fits
from astropy.table import Table
from numpy.typing import NDArray

from spectrolabe.catalogue.files import atomic
from spectrolabe.guard import unwritten
from spectrolabe.spectra import Spectrum
from spectrolabe.spectra.wavelength import SPEED_OF_LIGHT

if TYPE_CHECKING:
    from spectrolabe.inference.result import ModelSpectrum

__all__ = ["FittedSpectrum", "write_fitted"]


@dataclass(frozen=True, eq=False)
class FittedSpectrum:
    """One spectrum of a star, M pixels, with the best model of it.

    Parameters
    ----------
    spectrum : Spectrum
        What was observed.
    model : ModelSpectrum
        What the fit made of it.
    shift : float
        Velocity of its wavelengths, c z in km/s, by the fit.
    """

    spectrum: Spectrum
    model: ModelSpectrum
    shift: float

    @property
    def rest_wavelength(self) -> NDArray:
        """Vacuum Angstrom in the frame of the star, shape (M,)."""
        shift = self.shift if np.isfinite(self.shift) else 0.0
        return self.spectrum.wavelength / (1.0 + shift / SPEED_OF_LIGHT)

    @property
    def used(self) -> NDArray:
        """Pixels that the fit used in the end, shape (M,), bool."""
        return np.asarray(self.model.used, dtype=bool)

    @property
    def clipped(self) -> NDArray:
        """Pixels that the fit left out as outliers, shape (M,), bool."""
        return ~self.used & np.isfinite(self.model.variance_floor)

    @property
    def sigma(self) -> NDArray:
        """Standard deviations of the pixels, errors of the model included, shape (M,)."""
        with np.errstate(divide="ignore"):
            noise = 1.0 / self.spectrum.ivar.astype(np.float64)
        return np.sqrt(noise + np.nan_to_num(self.model.variance_floor))

    @property
    def residual(self) -> NDArray:
        """Data less model in standard deviations, NaN where there is none, shape (M,)."""
        difference = np.where(self.spectrum.good, self.spectrum.flux - self.model.flux, np.nan)
        return np.asarray(difference / self.sigma)


def write_fitted(
    path: str | Path, fitted: Sequence[FittedSpectrum], values: Mapping[str, Any]
) -> None:
    """Write the spectra of one star with their models: a FITS file, a table for each spectrum.

    Columns are ``wavelength`` (vacuum Angstrom, as observed), ``flux``, ``ivar``, ``model`` (with
    the continuum), ``continuum`` and ``mask`` (true where the fit did not use the pixel).

    Parameters
    ----------
    path : str or Path
    fitted : sequence of FittedSpectrum
    values : Mapping
        Cards of the primary header, for example labels.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    primary = fits.PrimaryHDU()
    primary.header["STAR_ID"] = _ascii(fitted[0].spectrum.star_id)
    for name, value in values.items():
        key = name.upper() if len(name) <= 8 else f"HIERARCH {name.upper()}"
        primary.header[key] = value if not isinstance(value, float) or np.isfinite(value) else "NaN"
    hdus = [primary, *(_table(one) for one in fitted)]
    try:
        with atomic(Path(path)) as temporary:
            fits.HDUList(hdus).writeto(temporary, checksum=True)
    except OSError as error:
        raise unwritten(path, error) from error


def _table(one: FittedSpectrum) -> fits.BinTableHDU:
    spectrum = one.spectrum
    table = Table(
        {
            "wavelength": spectrum.wavelength,
            "flux": spectrum.flux,
            "ivar": spectrum.ivar,
            "model": np.asarray(one.model.flux, dtype=np.float32),
            "continuum": np.asarray(one.model.continuum, dtype=np.float32),
            "mask": ~one.used,
        }
    )
    table["wavelength"].unit = "Angstrom"
    hdu = fits.BinTableHDU(table, name="SPECTRUM")
    cards = {
        "SPECID": _ascii(spectrum.spectrum_id),
        "SURVEY": _ascii(spectrum.survey),
        "FILE": _ascii(spectrum.where),
        "MEDIUM": "vacuum",
        "FRAME": str(spectrum.frame),
    }
    hdu.header.update(cards)
    shift = one.shift if np.isfinite(one.shift) else "unknown"
    hdu.header["SHIFT"] = (shift, "c z of the wavelengths by the fit, km/s")
    return hdu


def _ascii(text: str) -> str:
    return text.encode("ascii", "backslashreplace").decode()
