"""From the labels of a star to its spectrum, and to the derivatives of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spectrolabe.errors import InputError, unknown_name
from spectrolabe.labels import read_only
from spectrolabe.spectra.grid import checked_grid
from spectrolabe.spectra.wavelength import SPEED_OF_LIGHT
from spectrolabe.synthesis.atmosphere import interpolate_atmosphere
from spectrolabe.synthesis.continuum import continuum_opacity
from spectrolabe.synthesis.differential import differential_flux, perturbations
from spectrolabe.synthesis.elements import mixture
from spectrolabe.synthesis.gas import Gas
from spectrolabe.synthesis.hydrogen import add_hydrogen_lines
from spectrolabe.synthesis.hydrostatic import hydrostatic_gas
from spectrolabe.synthesis.linelist import LineList, load_lines
from spectrolabe.synthesis.opacity import add_lines
from spectrolabe.synthesis.transfer import emergent_flux

__all__ = ["Layers", "Star", "Synthesis", "synthesise", "wavelength_grid"]

REFERENCE = 5000.0  # Å: the wavelength of the depth scale
PIECE_GAP = 100.0  # Å: a wider step separates two pieces of spectrum
CONTINUUM_STEP = 15.0  # Å between wavelengths at which the continuum is computed


@dataclass(frozen=True)
class Star:
    """What decides a spectrum.

    Parameters
    ----------
    teff : float
        K.
    logg : float
        log10 of the surface gravity in cm/s2.
    fe_h : float
        [Fe/H]; scales all elements beyond helium.
    v_micro : float
        Microturbulence, km/s.
    x_fe : mapping of str to float
        [X/Fe] by element symbol; elements not named follow iron.
    """

    teff: float
    logg: float
    fe_h: float
    v_micro: float
    x_fe: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        values = {"teff": self.teff, "logg": self.logg, "fe_h": self.fe_h, "v_micro": self.v_micro}
        values |= {f"{symbol.lower()}_fe": value for symbol, value in self.x_fe.items()}
        for name, value in values.items():
            if not np.isfinite(value):
                raise InputError(f"label {name}", expected="a number", found=f"{value}")
        if self.v_micro < 0:
            raise InputError("label v_micro", expected=">= 0 km/s", found=f"{self.v_micro}")


@dataclass(frozen=True, eq=False)
class Synthesis:
    """An ab initio spectrum; its arrays cannot be written.

    Parameters
    ----------
    wavelength : ndarray, shape (M,)
        Vacuum Angstrom.
    flux : ndarray, shape (M,), float32
        Over the continuum.
    continuum : ndarray, shape (M,), float32
        erg/s/cm2/Angstrom at the surface of the star.
    differential_names : tuple of str
        D labels.
    differential_steps : ndarray, shape (D,)
        Step of each forward difference, in the units of the label.
    differential : ndarray, shape (D, M), float32
        (flux(label + step) - flux(label)) / step.
    flags : tuple of str
        What to know about it.
    """

    wavelength: NDArray
    flux: NDArray
    continuum: NDArray
    differential_names: tuple[str, ...]
    differential_steps: NDArray
    differential: NDArray
    flags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("wavelength", "differential_steps"):
            object.__setattr__(self, name, read_only(getattr(self, name), np.float64))
        for name in ("flux", "continuum", "differential"):
            object.__setattr__(self, name, read_only(getattr(self, name), np.float32))


@dataclass(frozen=True, eq=False)
class Layers:
    """The atmosphere of a star: its gas, depth scale and microturbulence."""

    tau5000: NDArray
    gas: Gas
    opacity5000: NDArray
    v_micro: float
    extrapolated: bool

    @classmethod
    def of(cls, star: Star, atmospheres: str) -> Layers:
        """Return the layers of a star: T(tau) of its model, pressure of its own mixture."""
        model = interpolate_atmosphere(star.teff, star.logg, star.fe_h, atmospheres)
        gas = hydrostatic_gas(model, mixture(star.fe_h, star.x_fe))
        absorption, scattering = continuum_opacity(np.array([REFERENCE]), gas)
        return cls(
            model.tau5000,
            gas,
            absorption[0] + scattering[0],
            star.v_micro,
            getattr(model, "extrapolated", False),
        )


def wavelength_grid(
    low: float, high: float, step: float = 0.05, spacing: str = "linear"
) -> NDArray:
    """Return vacuum wavelengths from ``low`` to ``high`` Angstrom.

    Parameters
    ----------
    low, high : float
        Angstrom.
    step : float
        Angstrom from pixel to pixel, or km/s if the spacing is logarithmic.
    spacing : {"linear", "logarithmic"}

    Raises
    ------
    InputError
        If the range is empty, the step not positive or the spacing unknown.
    """
    if spacing not in ("linear", "logarithmic"):
        raise unknown_name("spacing", spacing, ["linear", "logarithmic"], kind="spacing")
    if not (low < high and step > 0):
        raise InputError(
            "wavelength range",
            expected="low < high and a step above 0",
            found=f"{low} to {high} Å, step {step}",
        )
    if spacing == "linear":
        return low + step * np.arange(int(np.floor((high - low) / step + 1e-6)) + 1)
    ratio = np.log1p(step / SPEED_OF_LIGHT)
    return low * np.exp(ratio * np.arange(int(np.floor(np.log(high / low) / ratio + 1e-6)) + 1))


def synthesise(
    star: Star,
    wavelength: ArrayLike,
    *,
    atmospheres: str = "marcs",
    lines: str = "reference",
    differential: Sequence[str] = (),
) -> Synthesis:
    """Return the spectrum of a star: plane-parallel, in hydrostatic equilibrium and LTE.

    Parameters
    ----------
    star : Star
    wavelength : array_like, shape (M,)
        Vacuum Angstrom, ascending; within 3700-9800 or 15100-17000.
    atmospheres : {"marcs", "atlas9"}
        Where the temperatures of the layers come from.
    lines : {"reference", "full"}
        Which line list, see `spectrolabe.synthesis.linelist.LISTS`.
    differential : sequence of str
        Labels with respect to which the differential spectra are wanted.

    Returns
    -------
    Synthesis

    Raises
    ------
    InputError
        If a label is outside the atmospheres, a wavelength outside the lines, or a name unknown.
    """
    # a contiguous array of its own: for any other kind the kernels would be compiled again
    grid = np.array(checked_grid("wavelength", wavelength), order="C")
    layers = Layers.of(star, atmospheres)
    changed = perturbations(star, layers, atmospheres, differential)
    pieces, slopes = [], []
    for part in np.split(grid, np.flatnonzero(np.diff(grid) > PIECE_GAP) + 1):
        piece = Piece.of(layers, part, load_lines(part[0], part[-1], lines))
        slopes.append(differential_flux(piece, changed))
        pieces.append(piece)
    return Synthesis(
        grid,
        np.concatenate([piece.normalised for piece in pieces]),
        np.concatenate([piece.continuum_flux for piece in pieces]),
        tuple(differential),
        np.array([change.step for change in changed]),
        np.concatenate(slopes, axis=1),
        _flags(star, layers),
    )


def _flags(star: Star, layers: Layers) -> tuple[str, ...]:
    flags = {
        "COOL_NO_TIO": star.teff < 4250.0,
        "HOT": star.teff > 7500.0,
        "ATMOSPHERE_EXTRAPOLATED": layers.extrapolated,
    }
    return tuple(name for name, raised in flags.items() if raised)


@dataclass(frozen=True, eq=False)
class Continuum:
    """Opacities of the continuum on an even grid, and the flux that leaves through them."""

    grid: NDArray
    absorption: NDArray
    scattering: NDArray
    flux: NDArray

    @classmethod
    def of(cls, layers: Layers, wavelength: NDArray) -> Continuum:
        """Compute it for a range of wavelengths."""
        low, high = wavelength[0], wavelength[-1]
        grid = np.linspace(low, high, max(int((high - low) / CONTINUUM_STEP), 2) + 1)
        absorption, scattering = continuum_opacity(grid, layers.gas)
        flux = _surface_flux(layers, absorption, grid, (grid, scattering))
        return cls(grid, absorption, scattering, flux)

    def at(self, wavelength: NDArray) -> NDArray:
        """Return the absorption at any wavelengths, shape (M, L), float32."""
        x = (wavelength - self.grid[0]) / (self.grid[1] - self.grid[0])
        k = np.clip(x.astype(int), 0, self.grid.size - 2)
        f = (x - k).astype(np.float32)[:, None]
        low = self.absorption.astype(np.float32)
        return low[k] * (1 - f) + low[k + 1] * f


def _surface_flux(
    layers: Layers,
    opacity: NDArray,
    wavelength: NDArray,
    scattering: tuple[NDArray, NDArray],
    pixels: NDArray | None = None,
) -> NDArray:
    return emergent_flux(
        opacity,
        wavelength,
        scattering=scattering,
        tau=layers.tau5000,
        reference=layers.opacity5000,
        temperature=layers.gas.temperature,
        chosen=pixels,
    )


@dataclass(frozen=True, eq=False)
class Piece:
    """A range of wavelengths without gaps: opacity (M, L) and what leaves through it."""

    layers: Layers
    wavelength: NDArray
    lines: LineList
    continuum: Continuum
    opacity: NDArray
    flux: NDArray
    continuum_flux: NDArray

    @classmethod
    def of(cls, layers: Layers, wavelength: NDArray, lines: LineList) -> Piece:
        """Compute the spectrum of an atmosphere."""
        continuum = Continuum.of(layers, wavelength)
        opacity = continuum.at(wavelength)
        add_hydrogen_lines(opacity, wavelength, layers.gas, layers.v_micro)
        add_lines(
            opacity,
            wavelength,
            lines,
            layers.gas,
            layers.v_micro,
            continuum=(continuum.grid, continuum.absorption),
            tau5000=layers.tau5000,
        )
        flux = _surface_flux(layers, opacity, wavelength, (continuum.grid, continuum.scattering))
        smooth = np.interp(wavelength, continuum.grid, continuum.flux)
        return cls(layers, wavelength, lines, continuum, opacity, flux, smooth)

    @property
    def normalised(self) -> NDArray:
        """Flux over continuum flux."""
        return self.flux / self.continuum_flux

    def emergent(self, opacity: NDArray, pixels: NDArray) -> NDArray:
        """Return the flux of some pixels with another opacity; the rest is not set."""
        scattering = (self.continuum.grid, self.continuum.scattering)
        return _surface_flux(self.layers, opacity, self.wavelength, scattering, pixels)
