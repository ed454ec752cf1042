"""Simulated spectra of known stars, as LAMOST, Gaia RVS and APOGEE would record them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spectrolabe.models.emulator import Emulator
from spectrolabe.models.projection import Projection
from spectrolabe.spectra import Frame, Instrument, Spectrum, doppler_shift, observe
from spectrolabe.spectra.sampling import sample
from spectrolabe.synthesis.grid import Grid

__all__ = [
    "APOGEE",
    "LAMOST",
    "RVS",
    "SETTINGS",
    "Setting",
    "Truth",
    "draw",
    "noisy",
    "rendered",
    "seen",
]

RV = 100.0  # km/s: velocities are between minus and plus this
BROAD = (4.0, 12.0)  # km/s FWHM, where the instrument can tell
SIZE = 0.12  # of each term of the logarithm of the response: Chebyshev polynomials
CHIPS = (slice(246, 3274), slice(3585, 6080), slice(6344, 8335))  # as ASPCAP's 7,514 pixels


@dataclass(frozen=True, eq=False)
class Setting:
    """An instrument to simulate.

    Parameters
    ----------
    name, title : str
    survey : str
        Whose files they would be; decides whether the Earth's bands are masked.
    wavelength : ndarray, shape (M,)
        Vacuum Angstrom.
    resolution : float
    terms : int
        Of the response that is not known.
    """

    name: str
    title: str
    survey: str
    wavelength: NDArray
    resolution: float
    terms: int = 4

    @property
    def broad(self) -> bool:
        """Whether the broadening of a star shows."""
        return self.resolution >= 5000.0


def _apogee() -> NDArray:
    grid = 10 ** (4.179 + 6e-6 * np.arange(8575))
    return np.concatenate([grid[chip] for chip in CHIPS])


LAMOST = Setting(
    "lamost", "LAMOST-like", "lamost_lrs", 10 ** (3.5682 + 1e-4 * np.arange(3909)), 1800.0
)
RVS = Setting("rvs", "RVS-like", "gaia_rvs", 8460.0 + 0.1 * np.arange(2401), 11500.0, 2)
APOGEE = Setting("apogee", "APOGEE-like", "apogee", _apogee(), 22500.0)
SETTINGS = {s.name: s for s in (LAMOST, RVS, APOGEE)}


@dataclass(frozen=True)
class Truth:
    """A star on one instrument: what is to be found, and what is in the way.

    Parameters
    ----------
    labels : ndarray, shape (L,)
    rv, v_broad : float
        km/s.
    level : ndarray, shape (M,)
        Continuum of the star times the response of the instrument.
    """

    labels: NDArray
    rv: float
    v_broad: float
    level: NDArray


def draw(
    setting: Setting, grid: Grid, star: int, names: tuple[str, ...], rng: np.random.Generator
) -> Truth:
    """Draw what is unknown of a star of a grid: velocity, broadening, response."""
    rv = float(rng.uniform(-RV, RV))
    v_broad = float(rng.uniform(*BROAD)) if setting.broad else 0.0
    at_rest = setting.wavelength / doppler_shift(1.0, rv)
    x = np.linspace(-1.0, 1.0, len(setting.wavelength))
    terms = rng.normal(0.0, SIZE, setting.terms)
    response = np.exp(np.polynomial.chebyshev.chebval(x, [0.0, *terms]))
    continuum = np.interp(at_rest, grid.wavelength, np.asarray(grid.continuum[star], float))
    level = continuum / np.median(continuum) * response
    return Truth(grid.labels.select(names).values[star], rv, v_broad, level)


def seen(setting: Setting, source: Grid | Emulator, star: int, truth: Truth) -> NDArray:
    """Return the flux without noise, shape (M,), as the synthesis or an emulator has it."""
    if isinstance(source, Emulator):
        flux, _, _ = rendered(setting, source, truth)
        at_rest = setting.wavelength / doppler_shift(1.0, truth.rv)
        edge = 1 + 2.0 / setting.resolution  # beyond its ends an emulator repeats a pixel
        first, last = source.wavelength[[0, -1]] * [edge, 1 / edge]
        inside = (at_rest > first) & (at_rest < last)
        return np.where(inside, flux[0, 0] * truth.level, np.nan)
    low, high = setting.wavelength[[0, -1]]
    first, last = np.searchsorted(source.wavelength, [low - 30.0, high + 30.0])
    flux = observe(
        source.wavelength[first:last],
        np.asarray(source.flux[star, first:last], float),
        Instrument(setting.wavelength, setting.resolution),
        rv=truth.rv,
        vbroad=truth.v_broad,
    )
    return np.asarray(flux * truth.level)


def rendered(
    setting: Setting, emulator: Emulator, truth: Truth, columns: list[int] | None = None
) -> tuple[NDArray, NDArray, NDArray]:
    """Return normalised flux with slopes, (1, 1 + J, M), slope with rv and with v_broad, (1, M)."""
    projection = projection_of(setting, emulator)
    splines = projection.coefficients(truth.labels, columns or [])
    return sample(
        splines,
        projection.start,
        projection.step,
        np.log(setting.wavelength),
        rv=truth.rv,
        v_broad=truth.v_broad,
    )


PROJECTIONS: dict[tuple[str, int], Projection] = {}


def projection_of(setting: Setting, emulator: Emulator) -> Projection:
    """Return the emulator as the instrument sees it; made once."""
    key = (setting.name, id(emulator))
    if key not in PROJECTIONS:
        first, last = emulator.wavelength[[0, -1]]
        low = max(setting.wavelength[0] / doppler_shift(1.0, 2 * RV), first)
        high = min(setting.wavelength[-1] * doppler_shift(1.0, 2 * RV), last)
        PROJECTIONS[key] = Projection.of(emulator, low, high, setting.resolution)
    return PROJECTIONS[key]


def noisy(
    setting: Setting, clean: NDArray, snr: float, rng: np.random.Generator, star_id: str
) -> Spectrum:
    """Return a spectrum with photon noise; the median S/N of its pixels is ``snr``.

    Pixels that the model does not reach are masked. Nothing is said of the velocity.
    """
    known = np.isfinite(clean)
    filled = np.where(known, clean, np.nanmedian(clean))
    sigma = np.sqrt(np.maximum(filled, 0.02 * np.median(filled)) * np.median(filled)) / snr
    flux = filled + sigma * rng.normal(size=len(filled))
    return Spectrum(
        setting.wavelength,
        flux,
        np.where(known, sigma**-2, 0.0),
        setting.resolution,
        Frame.BARYCENTRIC,
        survey=setting.survey,
        spectrum_id=f"{setting.name} {star_id}",
        star_id=star_id,
    )
