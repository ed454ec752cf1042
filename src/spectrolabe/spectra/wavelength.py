"""Wavelength scales: air and vacuum, and the shift of a moving star. Flux is not touched here."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spectrolabe.errors import InputError
from spectrolabe.spectra.spectrum import SPEED_OF_LIGHT, Frame, Spectrum

__all__ = ["SPEED_OF_LIGHT", "air_to_vacuum", "doppler_shift", "to_rest_frame", "vacuum_to_air"]

# both scales hold 2000 Å to 2.5 µm with room for the difference between them
AIR_VACUUM_RANGE = (1999.0, 25010.0)


def air_to_vacuum(wavelength_air: ArrayLike) -> NDArray:
    """Return vacuum wavelengths of wavelengths in standard air.

    The numerical inverse of `vacuum_to_air`, so that there is one formula.

    Parameters
    ----------
    wavelength_air : array_like, any shape
        Angstrom, 2000 Å to 2.5 µm.

    Returns
    -------
    ndarray, float64, of the same shape
        Angstrom; ``vacuum_to_air`` of it returns the input to better than 1e-9 Å.

    Raises
    ------
    InputError
        If a wavelength lies outside the range of the formula.
    """
    air = _in_air_vacuum_range("wavelength_air", wavelength_air)
    vacuum = air
    for _ in range(4):  # each round gains five digits: the index changes little with wavelength
        vacuum = air * _index_of_air(vacuum)
    return vacuum


def vacuum_to_air(wavelength_vacuum: ArrayLike) -> NDArray:
    """Return wavelengths in standard air (15 C, 101325 Pa, dry) of vacuum wavelengths.

    Parameters
    ----------
    wavelength_vacuum : array_like, any shape
        Angstrom, 2000 Å to 2.5 µm.

    Returns
    -------
    ndarray, float64, of the same shape
        Angstrom.

    Raises
    ------
    InputError
        If a wavelength lies outside the range of the formula.

    Notes
    -----
    Birch & Downs (1994, Metrologia 31, 315) as given by Morton (2000, ApJS 130, 403, eq. 8), the
    formula of VALD. The one of Ciddor (1996) differs by less than 1e-3 Å over the whole range.
    """
    vacuum = _in_air_vacuum_range("wavelength_vacuum", wavelength_vacuum)
    return vacuum / _index_of_air(vacuum)


def _index_of_air(wavelength_vacuum: NDArray) -> NDArray:
    wavenumber2 = (1e4 / wavelength_vacuum) ** 2
    return 1.0 + 8.34254e-5 + 2.406147e-2 / (130.0 - wavenumber2) + 1.5998e-4 / (38.9 - wavenumber2)


def _in_air_vacuum_range(name: str, wavelength: ArrayLike) -> NDArray:
    array = np.asarray(wavelength, dtype=np.float64)
    low, high = AIR_VACUUM_RANGE
    inside = (array >= low) & (array <= high)
    if not inside.all():
        raise InputError(
            name,
            expected=f"wavelengths from 2000 to 25000 Å (accepted: {low:.0f} to {high:.0f})",
            found=f"{array[~inside].flat[0]} among {int(np.sum(~inside))} outside",
            fix="Are the wavelengths in Angstrom? Below 2000 Å they are vacuum by convention.",
        )
    return array


def doppler_shift(wavelength: ArrayLike, rv: ArrayLike) -> NDArray:
    """Return the wavelengths at which a star of radial velocity ``rv`` shows rest wavelengths.

    ``wavelength * (1 + rv / c)``: the convention rv = c z, in which surveys publish velocities.

    Parameters
    ----------
    wavelength : array_like
        Rest wavelengths in Angstrom.
    rv : array_like, broadcastable to wavelength
        Radial velocity c z in km/s; a receding star (+) is redder.

    Returns
    -------
    ndarray, float64

    Raises
    ------
    InputError
        If a velocity is not finite or not below that of light.

    Notes
    -----
    Read as a true velocity, ``rv`` would need the relativistic factor sqrt((1 + b) / (1 - b)),
    b = rv / c: a difference of b^2 / 2, that is 0.02 km/s at 100 km/s and 0.42 km/s at 500 km/s.
    To undo a shift divide by ``doppler_shift(1.0, rv)``; shifting by ``-rv`` leaves an error of
    b^2 (0.83 km/s at 500 km/s).
    """
    velocity = np.asarray(rv, dtype=np.float64)
    known = np.abs(velocity) < SPEED_OF_LIGHT
    if not known.all():
        raise InputError(
            "rv",
            expected="finite radial velocities in km/s, slower than light",
            found=f"{velocity[~known].flat[0]}",
            fix="A spectrum without a velocity cannot be shifted: measure it first.",
        )
    return np.asarray(wavelength, dtype=np.float64) * (1.0 + velocity / SPEED_OF_LIGHT)


def to_rest_frame(spectrum: Spectrum) -> Spectrum:
    """Return the spectrum with its radial velocity taken out of the wavelengths.

    The pixels stay what they are: nothing is resampled, flux and ivar keep their values.

    Parameters
    ----------
    spectrum : Spectrum
        ``spectrum.rv`` is the velocity in the frame of its wavelengths. One at rest is returned
        as it is.

    Returns
    -------
    Spectrum
        With ``Frame.REST`` and the same ``rv``.

    Raises
    ------
    InputError
        If the velocity is not known.
    """
    if spectrum.frame == Frame.REST:
        return spectrum
    if not np.isfinite(spectrum.rv):
        raise InputError(
            spectrum.where,
            expected="a spectrum with a radial velocity",
            found="rv = NaN",
            fix="Give it with spectrum.replace(rv=...), in km/s, + = receding.",
        )
    return spectrum.replace(
        wavelength=spectrum.wavelength / doppler_shift(1.0, spectrum.rv), frame=Frame.REST
    )
