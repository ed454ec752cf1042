"""Observed spectra cut into pieces, each within one emulator, ready to be compared with a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spectrolabe.errors import InputError
from spectrolabe.inference.continuum import Basis, continuum_basis, curvature_penalty
from spectrolabe.inference.data import Data, with_model_error
from spectrolabe.inference.line_errors import line_error
from spectrolabe.inference.masks import usable_ivar
from spectrolabe.inference.normal import smooth_level
from spectrolabe.models.emulator import Emulator
from spectrolabe.models.projection import Projection
from spectrolabe.spectra import Spectrum
from spectrolabe.spectra.wavelength import SPEED_OF_LIGHT

__all__ = ["MODEL_ERROR", "Cutting", "Piece", "cut"]

REACH = 700.0  # km/s: projections have room for velocities in multiples of it
RANGE_STEP = 0.002  # in ln(wavelength): ranges of projections are rounded outwards to it
NODES = 48  # at which a resolution that varies with wavelength is taken over
R_STEP = 0.005  # to which it is rounded there, relative
LEAST_LEVEL = 0.05  # of the median: the model error does not fall below that of such a flux
MODEL_ERROR, DEEP = 0.005, 10.0
LINES = MODEL_ERROR * DEEP  # error at full depth with which the errors of the line list count once
RIDGE = 1e-6  # of the information on the continuum: only counts where there is none


@dataclass(frozen=True, eq=False)
class Piece:
    """A spectrum of a star, or the part of it that one emulator describes.

    Parameters
    ----------
    spectrum : int
        Which of the star's.
    emulator : int
    pixels : slice
        Of the spectrum.
    log_wavelength : ndarray, shape (M,)
    projection : Projection
    data : Data
        In units of ``scale``.
    scale : float
        Flux of the spectrum per unit of ``data``.
    resolution : float
        A typical R.
    """

    spectrum: int
    emulator: int
    pixels: slice
    log_wavelength: NDArray
    projection: Projection
    data: Data
    scale: float
    resolution: float

    @property
    def kind(self) -> tuple[int, int, int, int, int]:
        """Pieces of the same kind can be computed together."""
        shape = len(self.log_wavelength), self.data.basis.size
        return (self.spectrum, self.emulator, id(self.projection), *shape)


@dataclass(frozen=True)
class Cutting:
    """How spectra are prepared.

    Parameters
    ----------
    order : int, optional
        Of the continuum; see `continuum_basis`.
    model_error : float or (float, float)
        Error of the emulator and of its physics, added to that of each pixel: relative to the flux
        at the continuum, and what is added to it at full depth of a line; one number stands for
        itself and ten times as much. The errors of the line list, known from the Sun
        (`spectrolabe.inference.line_errors`), are multiplied by the second over its default.

    Raises
    ------
    InputError
        If a number is out of its range.
    """

    order: int | None = None
    model_error: float | tuple[float, float] = MODEL_ERROR

    def __post_init__(self) -> None:
        if self.order is not None and self.order < 0:
            raise InputError("continuum", expected="an order of 0 or more", found=f"{self.order}")
        if len(self.errors) != 2 or not all(0 <= error < 1 for error in self.errors):
            raise InputError(
                "model_error",
                expected="one or two numbers from 0 to 1, relative",
                found=f"{self.model_error}",
            )

    @property
    def errors(self) -> tuple[float, ...]:
        """Error at the continuum, and what is added at full depth."""
        if isinstance(self.model_error, int | float):
            return self.model_error, min(DEEP * self.model_error, 0.99)
        return tuple(self.model_error)


def cut(
    star: Sequence[Spectrum],
    emulators: Sequence[Emulator],
    shift: NDArray,
    cutting: Cutting,
) -> list[Piece]:
    """Return the pieces of the spectra of one star that have usable pixels.

    Parameters
    ----------
    star : sequence of Spectrum
    emulators : sequence of Emulator
    shift : ndarray, shape (S,)
        Velocity of each wavelength scale, km/s.
    cutting : Cutting

    Raises
    ------
    InputError
        If a spectrum's R is higher than that of the emulator.
    """
    pieces = []
    for s, spectrum in enumerate(star):
        left = spectrum.ivar > 0
        for e, emulator in enumerate(emulators):
            pixels = _within(spectrum, emulator)
            if pixels.start == pixels.stop:
                continue
            ivar = np.where(left, usable_ivar(spectrum, emulator, float(shift[s])), 0.0)
            if not (ivar > 0).any():
                continue
            left &= ~(ivar > 0)
            wavelength = spectrum.wavelength[pixels]
            table = _resolution(spectrum, emulator, pixels)
            typical = float(np.median(table[1])) if isinstance(table, tuple) else table
            curve = _continuum(wavelength.tobytes(), typical, cutting.order)
            at_rest = curve.log - np.log1p(float(shift[s]) / SPEED_OF_LIGHT)
            lines = line_error(at_rest, typical) * np.float32(cutting.errors[1] / LINES)
            data, scale = _data(spectrum.flux[pixels], ivar[pixels], curve, cutting.errors, lines)
            ends = _range(wavelength, emulator, float(shift[s]))
            projection = _projection(emulator, *ends, table)
            pieces.append(Piece(s, e, pixels, curve.log, projection, data, scale, typical))
    return pieces


def _within(spectrum: Spectrum, emulator: Emulator) -> slice:
    """Pixels that the emulator describes at one velocity or another; not a matter of the star."""
    room = 1 + REACH / SPEED_OF_LIGHT
    low, high = emulator.wavelength[0] / room, emulator.wavelength[-1] * room
    first, last = np.searchsorted(spectrum.wavelength, [low, high])
    return slice(int(first), int(last))


def _range(wavelength: NDArray, emulator: Emulator, shift: float) -> tuple[float, float]:
    """Wavelengths at rest that stars of about this velocity need; rounded, to be shared."""
    reach = REACH * max(int(np.ceil((abs(shift) + 150.0) / REACH)), 1)
    room = np.log1p(reach / SPEED_OF_LIGHT)
    low = np.floor((np.log(wavelength[0]) - room) / RANGE_STEP) * RANGE_STEP
    high = np.ceil((np.log(wavelength[-1]) + room) / RANGE_STEP) * RANGE_STEP
    first, last = emulator.wavelength[[0, -1]]
    return float(max(np.exp(low), first)), float(min(np.exp(high), last))


def _resolution(
    spectrum: Spectrum, emulator: Emulator, pixels: slice
) -> float | tuple[tuple[float, ...], tuple[float, ...]]:
    """R, or a table of it, rounded so that like spectra share a projection."""
    highest = float(np.max(spectrum.resolution))
    if highest > emulator.resolution * (1 + 2 * R_STEP):
        raise InputError(
            spectrum.where,
            expected=f"R up to {emulator.resolution:g}, that of the emulator",
            found=f"{highest:.0f}",
            fix="Smooth it to that with spectra.degrade.",
        )
    if isinstance(spectrum.resolution, float):
        return min(spectrum.resolution, emulator.resolution)
    wavelength = spectrum.wavelength[pixels]
    node = np.exp(np.linspace(np.log(wavelength[0]), np.log(wavelength[-1]), NODES))
    value = np.interp(node, wavelength, spectrum.resolution[pixels])
    value = np.exp(np.round(np.log(value) / R_STEP) * R_STEP)
    value = np.minimum(value, emulator.resolution)
    if np.ptp(value) == 0:
        return float(value[0])
    return tuple(node.tolist()), tuple(value.tolist())


@lru_cache(maxsize=64)
def _projection(
    emulator: Emulator,
    low: float,
    high: float,
    table: float | tuple[tuple[float, ...], tuple[float, ...]],
) -> Projection:
    return Projection.of(emulator, low, high, table)


class _Continuum(NamedTuple):
    log: NDArray
    basis: Basis
    penalty: NDArray


class _Scaled(NamedTuple):
    data: Data
    scale: float


@lru_cache(maxsize=64)
def _continuum(wavelength: bytes, resolution: float, order: int | None) -> _Continuum:
    log = np.log(np.frombuffer(wavelength, dtype=np.float64))
    basis = continuum_basis(log, resolution, order)
    return _Continuum(log, basis, curvature_penalty(basis.arm))


def _data(
    flux: NDArray,
    ivar: NDArray,
    continuum: _Continuum,
    errors: tuple[float, ...],
    lines: NDArray,
) -> _Scaled:
    """Flux of order 1, and errors that include those of a model without lines."""
    good = ivar > 0
    scale = float(np.median(np.abs(flux[good]))) or 1.0
    values = np.where(good, flux, 0.0).astype(np.float32) / np.float32(scale)
    level = np.maximum(smooth_level(values, good, continuum.basis), LEAST_LEVEL)
    noise = np.where(good, 1.0 / (np.where(good, ivar, 1.0).astype(np.float64) * scale**2), 0.0)
    # models are never better than their floor, however small the noise
    known = noise[good] + (errors[0] * level[good]) ** 2
    information = float((1.0 / known).sum()) / continuum.basis.size
    data = Data(
        values,
        good.astype(np.float32),
        continuum.basis,
        RIDGE * information * continuum.penalty,
        noise.astype(np.float32),
        level.astype(np.float32),
        (errors[0], errors[1]),
        lines,
    )
    return _Scaled(with_model_error(data, np.ones_like(values)), scale)
