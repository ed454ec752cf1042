"""What a spectrograph records of a star: exposures with all that goes wrong in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntFlag
from functools import cache

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.ndimage import convolve1d

from spectrolabe.errors import InputError
from spectrolabe.labels import read_only
from spectrolabe.sky.instruments import COUNTS, NORMALISED, RELATIVE, Faults, SkyArm, SkyInstrument
from spectrolabe.sky.photometry import extinction_curve
from spectrolabe.sky.places import barycentric_correction
from spectrolabe.spectra.broadening import macroturbulence, rotate
from spectrolabe.spectra.observe import Instrument, observation_operator
from spectrolabe.spectra.spectrum import Frame
from spectrolabe.spectra.wavelength import SPEED_OF_LIGHT, doppler_shift

__all__ = ["ArmExposure", "Exposure", "Reason", "normal_noise", "observe_star"]

PLANCK, LIGHT = 6.62607015e-27, 2.99792458e10  # erg s, cm/s
RSUN, KPC = 6.957e10, 3.0856775814913673e21  # cm (IAU 2015 resolution B3)
SAMPLES = 6  # per FWHM: cubic interpolation is then good to 2e-4 of the depth of a line
MARGIN = 0.004  # of ln(wavelength) beside an arm: 1200 km/s
STAR = ("rv", "vsini", "vmac", "teff", "fe_h", "radius", "distance", "a_v", "ra", "dec")
CACHED = 12  # sets of operators kept; one takes up to 30 MB
TELLURIC_DEPTH = 0.02  # of optical depth from which a pixel is called telluric
SKY_CONTRAST = 3.0  # lines over continuum of the sky from which a pixel has a sky line
SMOOTH = np.sqrt(5.0)  # so that the smooth error has the size that is stated
RELATIVE_LEVEL = 1000.0  # median of a relative flux


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


LOST = Reason.COSMIC | Reason.BAD_COLUMN | Reason.SATURATED | Reason.NO_DATA


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


def observe_star(
    instrument: SkyInstrument,
    wavelength: NDArray,
    flux: NDArray,
    continuum: NDArray,
    star: Mapping[str, float],
    rng: np.random.Generator,
    *,
    resolution: float = np.inf,
    visits: int | None = None,
    exposure: float = 1.0,
) -> list[Exposure]:
    """Return what a survey records of a star.

    Parameters
    ----------
    instrument : SkyInstrument
    wavelength : ndarray, shape (M,)
        Rest wavelengths of the intrinsic spectrum, vacuum Angstrom, ascending.
    flux : ndarray, shape (M,)
        Normalised flux without rotation and macroturbulence.
    continuum : ndarray, shape (M,)
        At the stellar surface, erg/s/cm2/Angstrom.
    star : Mapping or row of a Table
        Of the population: ``rv``, ``vsini``, ``vmac``, ``teff``, ``fe_h``, ``radius``,
        ``distance``, ``a_v``, ``ra`` and ``dec``.
    rng : Generator
    resolution : float
        R that the intrinsic spectrum has been brought to; the instrument adds what is left to its
        own.
    visits : int, optional
        Number of exposures; drawn as the survey has them if not given.
    exposure : float, optional
        Exposure time relative to the survey's own.

    Returns
    -------
    list of Exposure
        In the order of time. Pixels that the intrinsic spectrum does not cover have ``ivar`` 0.

    Raises
    ------
    InputError
        If shapes disagree, or the intrinsic spectrum is too coarse or of too low a resolution for
        the instrument.

    Notes
    -----
    Electrons are counted: those of the star, of the sky and of the read-out give the noise, which
    the stated ``ivar`` describes but for `Faults`. Rotation and macroturbulence act after the
    line-spread function, on a grid of six samples per FWHM; the three commute.
    """
    grid = np.asarray(wavelength, dtype=float)
    if np.shape(flux) != grid.shape or np.shape(continuum) != grid.shape:
        raise InputError(
            "intrinsic spectrum",
            expected=f"flux and continuum of shape {grid.shape}",
            found=f"{np.shape(flux)} and {np.shape(continuum)}",
        )
    if visits is None:
        numbers = list(instrument.visits)
        visits = int(rng.choice(numbers, p=list(instrument.visits.values())))
    surface = np.asarray(flux, dtype=np.float32) * np.asarray(continuum, dtype=np.float32)
    known = {name: float(star[name]) for name in STAR}
    views = [
        _View.of(arm, blur, grid, surface, np.asarray(continuum), known)
        for arm, blur in zip(instrument.arms, _blurs(instrument, grid, resolution), strict=True)
    ]
    nights = np.sort(rng.uniform(*instrument.mjd, visits))
    dead = [rng.random(view.arm.wavelength.size) for view in views]  # bad columns stay bad
    return [_expose(instrument, views, dead, known, mjd, exposure, rng) for mjd in nights]


@dataclass(frozen=True, eq=False)
class _Blur:
    """From an intrinsic spectrum to an evenly sampled one at the resolution of an arm.

    ``operators`` act one after the other; there are none where the spectrum does not reach the arm.
    """

    wavelength: NDArray
    extinction: NDArray
    columns: slice
    operators: tuple[sp.csr_array, ...]
    covered: NDArray


@dataclass(frozen=True, eq=False)
class _View:
    """A star at the resolution of an arm, in erg/s/cm2/Å at Earth.

    ``flux`` and ``covered`` on a grid even in ln(wavelength), at rest; ``continuum`` at the pixels.
    """

    arm: SkyArm
    wavelength: NDArray
    flux: NDArray
    covered: NDArray
    continuum: NDArray

    @classmethod
    def of(
        cls,
        arm: SkyArm,
        blur: _Blur,
        grid: NDArray,
        surface: NDArray,
        continuum: NDArray,
        star: Mapping[str, float],
    ) -> _View:
        fine = blur.wavelength
        if not blur.operators:
            return cls(arm, fine, np.zeros(fine.size), blur.covered, np.zeros(arm.wavelength.size))
        seen = surface[blur.columns]
        for operator in blur.operators:
            seen = operator @ seen
        if not blur.covered.all():  # what lies beside the covered part is held
            inside = np.flatnonzero(blur.covered)
            seen = np.interp(np.arange(fine.size), inside, seen[inside])
        seen = macroturbulence(fine, rotate(fine, seen, star["vsini"]), star["vmac"])
        scale = (star["radius"] * RSUN / (star["distance"] * KPC)) ** 2
        dimmed = scale * 10 ** (-0.4 * star["a_v"] * blur.extinction)
        smooth = np.interp(arm.wavelength, grid[blur.columns], continuum[blur.columns])
        smooth = smooth * np.interp(arm.wavelength, fine, dimmed)
        return cls(arm, fine, seen * dimmed, blur.covered, smooth)

    def at(self, rv: float) -> tuple[NDArray, NDArray]:
        """Flux and coverage at the pixels of the arm, of a star of this velocity."""
        # the grid is even in the logarithm: cubic interpolation between four neighbours
        step = np.log(self.wavelength[1] / self.wavelength[0])
        place = (
            _place(self.arm, float(self.wavelength[0]), step) - np.log1p(rv / SPEED_OF_LIGHT) / step
        )
        first = np.clip(place.astype(int), 1, self.wavelength.size - 3)
        t = place - first
        before, after = t * (t - 1), (t + 1) * (t - 2)
        flux = (t * after * self.flux[first + 1] - (t - 1) * after * self.flux[first]) / -2
        flux += (
            (t + 1) * before * self.flux[first + 2] - (t - 2) * before * self.flux[first - 1]
        ) / 6
        covered = self.covered[first] & self.covered[first + 1]
        return flux, covered & (place >= 0) & (place <= self.wavelength.size - 1)


@cache
def _place(arm: SkyArm, first: float, step: float) -> NDArray:
    """Pixels of an arm in steps of an even grid in ln(wavelength)."""
    return np.log(arm.wavelength / first) / step


_CACHE: list[tuple[SkyInstrument, float, NDArray, tuple[_Blur, ...]]] = []


def _blurs(instrument: SkyInstrument, grid: NDArray, resolution: float) -> tuple[_Blur, ...]:
    """The operators of an instrument on a grid, kept: making one costs as much as 100 stars."""
    for known, power, wavelength, blurs in _CACHE:
        if known is instrument and power == resolution and np.array_equal(wavelength, grid):
            return blurs
    if len(_CACHE) >= CACHED:
        del _CACHE[0]
    blurs = tuple(_blur(arm, grid, resolution) for arm in instrument.arms)
    _CACHE.append((instrument, resolution, grid.copy(), blurs))
    return blurs


def _blur(arm: SkyArm, grid: NDArray, resolution: float) -> _Blur:
    low, high = np.log(arm.wavelength[0]) - MARGIN, np.log(arm.wavelength[-1]) + MARGIN
    step = 1.0 / (SAMPLES * float(np.max(arm.resolution)))
    fine = np.exp(np.arange(low, high + step, step))
    power = np.interp(fine, arm.wavelength, arm.resolution)
    reach = 4.0 / float(np.min(power))
    first, last = np.searchsorted(grid, (fine[0] * (1 - reach), fine[-1] * (1 + reach)))
    columns = slice(int(first), int(last))
    dust = extinction_curve(fine)
    nothing = _Blur(fine, dust, columns, (), np.zeros(fine.size, dtype=bool))
    if last - first < 2 or grid[last - 1] < fine[0] or grid[first] > fine[-1]:
        return nothing
    operators = _operators(grid[columns], Instrument(fine, power), step, resolution)
    covered = np.diff(operators[-1].indptr) > 0
    if not covered.any():
        return nothing
    for operator in operators:
        operator.data = operator.data.astype(np.float32)
    return _Blur(fine, dust, columns, operators, covered)


def _operators(
    grid: NDArray, fine: Instrument, step: float, resolution: float
) -> tuple[sp.csr_array, ...]:
    """One operator, or two with a coarser grid in between where the intrinsic one is much finer.

    Pixels of half a sample are boxes that the second operator knows of: nothing is lost.
    """
    middle = np.exp(np.arange(np.log(grid[0]), np.log(grid[-1]), step / 2))
    steps = np.diff(grid)
    even = float(steps.max()) < 1.5 * float(steps.min())
    if not even or 2.2 * float(np.max(steps / grid[:-1])) > step / 2:
        return (observation_operator(grid, fine, input_resolution=resolution),)
    # pixels much wider than 1 / R take the mean of what they cover
    rebin = observation_operator(grid, Instrument(middle, 1e3 / step))
    inside = np.diff(rebin.indptr) > 0
    last = observation_operator(middle[inside], fine, input_resolution=resolution)
    return rebin[inside], last


def _expose(
    instrument: SkyInstrument,
    views: Sequence[_View],
    dead: Sequence[NDArray],
    star: Mapping[str, float],
    mjd: float,
    exposure: float,
    rng: np.random.Generator,
) -> Exposure:
    rv, time = star["rv"], instrument.exposure * exposure
    light = 10 ** (-0.4 * instrument.faults.throughput * rng.normal())
    measured, error = _velocity(
        instrument, star, _expected_snr(instrument, views, time * light), rng
    )
    earth = barycentric_correction(star["ra"], star["dec"], float(mjd))
    shift, observatory = rv, earth
    if instrument.frame is Frame.REST:
        shift = (rv - measured) / (1 + measured / SPEED_OF_LIGHT)
        observatory = earth - measured
    offsets = instrument.faults.joint * rng.normal(size=len(views))
    arms = tuple(
        _record(instrument, view, broken, shift, observatory, time, light, offset, rng)
        for view, broken, offset in zip(views, dead, offsets, strict=True)
    )
    ratios = [arm.flux[arm.ivar > 0] * np.sqrt(arm.ivar[arm.ivar > 0]) for arm in arms]
    together = np.concatenate(ratios)
    snr = float(np.median(together)) if together.size else 0.0
    return Exposure(instrument.survey, arms, snr, measured, error, float(mjd), time)


def _expected_snr(instrument: SkyInstrument, views: Sequence[_View], time: float) -> float:
    """Median S/N a pixel of the continuum, known before the velocity is measured."""
    ratios = []
    for view in views:
        counts = view.continuum * _response(instrument, view.arm) * time
        sky = _sky_response(instrument, view.arm) * view.arm.sky * time
        ratios.append(counts / np.sqrt(counts + sky + _read_variance(instrument)))
    return float(np.median(np.concatenate(ratios)))


@cache
def _response(instrument: SkyInstrument, arm: SkyArm) -> NDArray:
    """Electrons per second in a pixel for each erg/s/cm2/Å of a star."""
    photons = arm.wavelength * 1e-8 / (PLANCK * LIGHT)
    return photons * np.gradient(arm.wavelength) * instrument.area * arm.throughput


@cache
def _sky_response(instrument: SkyInstrument, arm: SkyArm) -> NDArray:
    """Electrons per second in a pixel for each photon/s/cm2/arcsec2/Å of the sky."""
    return np.gradient(arm.wavelength) * instrument.area * instrument.fibre * arm.throughput


def _read_variance(instrument: SkyInstrument) -> float:
    return instrument.reads * instrument.read_noise**2


def _velocity(
    instrument: SkyInstrument, star: Mapping[str, float], snr: float, rng: np.random.Generator
) -> tuple[float, float]:
    """The velocity that a pipeline measures and its stated error, km/s.

    Fewer and broader lines tell less: hot, metal-poor and rotating stars have larger errors.
    """
    fewer = np.clip(1.0 - 0.35 * star["fe_h"], 0.9, 2.0)
    hotter = 10 ** (0.5 * np.clip((star["teff"] - 5500.0) / 1500.0, -0.3, 1.5))
    power = float(np.mean([np.mean(arm.resolution) for arm in instrument.arms]))
    broader = np.sqrt(1 + (star["vsini"] * power / SPEED_OF_LIGHT) ** 2) ** 1.5
    random = instrument.rv_slope * fewer * hotter * broader / max(snr, 1.0)
    true_error = float(np.hypot(instrument.rv_floor, random))
    measured = star["rv"] + instrument.rv_offset + true_error * rng.normal()
    return measured, true_error * float(rng.lognormal(-0.1, 0.1))


def _record(
    instrument: SkyInstrument,
    view: _View,
    broken: NDArray,
    shift: float,
    observatory: float,
    time: float,
    light: float,
    offset: float,
    rng: np.random.Generator,
) -> ArmExposure:
    """One arm: electrons, their noise, the faults, and the calibration to the survey's units."""
    arm, faults = view.arm, instrument.faults
    count = arm.wavelength.size
    flux, covered = view.at(shift)
    response = _response(instrument, arm) * (time * light)
    # what the Earth adds is fixed to the observatory, not to the pixels of a shifted file
    local = arm.wavelength / doppler_shift(1.0, observatory)
    depth, sky_rate, smooth = (
        np.interp(local, arm.wavelength, values)
        for values in (arm.telluric, arm.sky, arm.sky_continuum)
    )
    sky = sky_rate * _sky_response(instrument, arm) * time
    transmission = np.exp(-depth)
    star_light = np.maximum(flux, 0.0) * response
    variance = star_light * transmission + sky + _read_variance(instrument)
    noise = normal_noise(count, instrument.correlation, rng) * np.sqrt(variance)
    noise += _sky_error(sky, faults.sky_residual, rng)
    # tellurics are divided out, and a little wrongly
    wrong = np.exp(faults.telluric_residual * rng.normal() * depth)
    counts = star_light * wrong + noise / transmission
    variance = variance / transmission**2

    mask = np.zeros(count, dtype=np.uint8)
    mask[depth > TELLURIC_DEPTH] |= np.uint8(Reason.TELLURIC)
    mask[sky_rate > SKY_CONTRAST * smooth] |= np.uint8(Reason.SKY_LINE)
    hit, unseen = _cosmic_rays(counts, faults, time, rng)
    mask[hit & ~unseen] |= np.uint8(Reason.COSMIC)
    columns = broken < faults.bad_columns
    counts[columns] *= rng.uniform(0.0, 1.5, int(columns.sum()))
    mask[columns] |= np.uint8(Reason.BAD_COLUMN)
    full = (star_light * transmission + sky) / instrument.reads > instrument.full_well
    mask[full] |= np.uint8(Reason.SATURATED)
    counts[full] = instrument.full_well * instrument.reads
    mask[~covered] |= np.uint8(Reason.NO_DATA)

    calibration = _calibration(instrument, view.continuum, response, counts, covered, rng)
    calibration = calibration * np.exp(offset) * _steps(arm, faults.joint, rng)
    stated = variance * float(rng.lognormal(0.0, faults.ivar))
    lost = (mask & np.uint8(LOST)) != 0
    with np.errstate(divide="ignore", invalid="ignore"):
        ivar = np.where(lost, 0.0, 1.0 / (stated * calibration**2))
        values = np.where(covered, counts * calibration, 0.0)
    ivar = np.where(np.isfinite(ivar), ivar, 0.0)
    good = ivar > 0
    snr = float(np.median((values * np.sqrt(ivar))[good])) if good.any() else 0.0
    return ArmExposure(
        arm.name, arm.wavelength, values, ivar, mask, sky * calibration, arm.resolution, snr
    )


def normal_noise(count: int, correlation: float, rng: np.random.Generator) -> NDArray:
    """Return normal numbers of variance 1, correlated as a resampling leaves them.

    Parameters
    ----------
    count : int
    correlation : float
        Sigma of the Gaussian that smooths them, pixels.
    rng : Generator

    Returns
    -------
    ndarray, shape (count,)
    """
    white = rng.normal(size=count)
    if not correlation:
        return white
    reach = int(np.ceil(4 * correlation))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / correlation) ** 2)
    return convolve1d(white, kernel / np.sqrt(np.sum(kernel**2)), mode="wrap")


def _sky_error(sky: NDArray, size: float, rng: np.random.Generator) -> NDArray:
    """What is left of the sky: too much or too little of it, and that changes along an arm."""
    if not size or not sky.any():
        return np.zeros(sky.size)
    knots = rng.normal(size=max(sky.size // 60, 4))
    ripple = np.interp(np.linspace(0, knots.size - 1, sky.size), np.arange(knots.size), knots)
    return size * sky * (0.5 * rng.normal() + ripple)


def _cosmic_rays(
    counts: NDArray, faults: Faults, time: float, rng: np.random.Generator
) -> tuple[NDArray, NDArray]:
    """Add cosmic rays to the counts; return which pixels have one, and which of them go unseen."""
    hit = np.zeros(counts.size, dtype=bool)
    number = rng.poisson(faults.cosmic * time / 1000.0 * counts.size)
    first = rng.integers(0, counts.size, number)
    length = rng.integers(1, 4, number)
    missed = rng.random(number) < faults.missed
    unseen = np.zeros(counts.size, dtype=bool)
    for start, size, miss in zip(first, length, missed, strict=True):
        pixels = slice(start, start + size)
        hit[pixels] = True
        unseen[pixels] = miss
        counts[pixels] += rng.exponential(3000.0) + 100.0
    return hit, unseen


def _calibration(
    instrument: SkyInstrument,
    continuum: NDArray,
    response: NDArray,
    counts: NDArray,
    covered: NDArray,
    rng: np.random.Generator,
) -> NDArray:
    """From electrons to the units of the survey, with a smooth error, shape (P,)."""
    x = np.linspace(-1.0, 1.0, counts.size)
    size = instrument.faults.calibration
    smooth = np.exp(size * np.polynomial.legendre.legval(x, rng.normal(size=5) / SMOOTH))
    if instrument.unit == COUNTS:
        return smooth
    known = np.where(response > 0, response, np.inf)
    if instrument.unit == NORMALISED:
        level = np.where(continuum > 0, continuum, np.inf)
        return smooth / (known * level)
    # lost light is made up for by the photometry, to a few per cent
    physical = smooth / known * np.exp(0.03 * rng.normal())
    if instrument.unit == RELATIVE:
        return physical / np.median(continuum[covered]) * RELATIVE_LEVEL if covered.any() else x * 0
    return physical * 1e17


def _steps(arm: SkyArm, size: float, rng: np.random.Generator) -> NDArray:
    """Flux of the cameras within an arm relative to each other, shape (P,)."""
    steps = np.zeros(arm.wavelength.size)
    for join in arm.joins:
        steps += np.where(arm.wavelength > join, size * rng.normal(), 0.0)
    return np.exp(steps)
