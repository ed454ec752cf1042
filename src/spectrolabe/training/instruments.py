"""Spectrographs as a training sky sees them: an emulator at their resolution, light and pixels.

There are those of `spectrolabe.sky.instruments`, and any number of made-up ones: windows of
wavelength, resolutions and pixels drawn at random, so that a model does not learn six surveys but
what a wavelength and a resolution mean.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spectrolabe.errors import unknown_name
from spectrolabe.models.emulator import Emulator
from spectrolabe.models.projection import Projection
from spectrolabe.sky.atmosphere import airglow, night_sky, telluric_depth
from spectrolabe.sky.instruments import COUNTS, NORMALISED, SURVEYS, SkyArm
from spectrolabe.sky.photometry import extinction_curve
from spectrolabe.spectra import Frame
from spectrolabe.spectra.broadening import FWHM
from spectrolabe.spectra.wavelength import SPEED_OF_LIGHT

__all__ = [
    "RANDOM",
    "StreamArm",
    "StreamInstrument",
    "Workshop",
    "coarser",
    "survey_instrument",
]

RANDOM = "random"
ROOM = 500.0  # km/s between pixels and the ends of an emulator: stars and their velocities move
FEWEST = 50  # pixels of an arm
# what made-up instruments are cut from: R, and the number of windows of equal width in ln(lambda)
OPTICAL = ((3000.0, 1), (8000.0, 5), (28000.0, 16))
INFRARED = ((28000.0, 3),)
SAMPLING = (1.8, 4.5)  # pixels per FWHM


@dataclass(frozen=True, eq=False)
class StreamArm:
    """One arm; M pixels.

    Parameters
    ----------
    projection : Projection
        The emulator at the resolution of the arm.
    log_wavelength : Tensor, shape (M,), float64
        ln(vacuum wavelength / Å) of the pixels.
    light, sky : Tensor, shape (M,)
        Photons detected of a flux that is 1 everywhere, and of the night sky, both of mean 1.
    telluric : Tensor, shape (M,)
        Optical depth of the atmosphere.
    dust : Tensor, shape (M,)
        A(wavelength) / A_V.
    resolution : float
        Median R.
    variance : Tensor, shape (M,)
        Of the line-spread function in ln(wavelength).
    broadening : float
        What of it the projection does not have.
    """

    projection: Projection
    log_wavelength: Tensor
    light: Tensor
    sky: Tensor
    telluric: Tensor
    dust: Tensor
    resolution: float
    variance: Tensor
    broadening: float = 0.0

    @cached_property
    def position(self) -> Tensor:
        """Pixels in steps of the projection, shape (M,), float64."""
        return (self.log_wavelength - self.projection.start) / self.projection.step


@dataclass(frozen=True, eq=False)
class StreamInstrument:
    """Arms that record a star in one exposure.

    Parameters
    ----------
    name : str
    arms : tuple of StreamArm
    at_rest : bool
        Its spectra are shifted to rest before they are drawn on pixels.
    counts, normalised : bool
        Whether flux keeps the light of the instrument, or has lost its continuum.
    correlation : float
        Standard deviation in pixels of the kernel that correlates its noise.
    """

    name: str
    arms: tuple[StreamArm, ...]
    at_rest: bool = False
    counts: bool = False
    normalised: bool = False
    correlation: float = 0.0


def _arm(
    projection: Projection,
    wavelength: NDArray,
    resolution: NDArray,
    light: NDArray,
    sky: NDArray,
    telluric: NDArray,
    broadening: float = 0.0,
) -> StreamArm:
    device = projection.offset.device
    there = lambda a: torch.from_numpy(np.asarray(a, np.float32)).to(device)  # noqa: E731
    return StreamArm(
        projection,
        torch.from_numpy(np.log(wavelength)).to(device),
        there(light / light.mean()),
        there(sky / max(float(sky.mean()), 1e-30)),
        there(telluric),
        there(extinction_curve(wavelength)),
        float(np.median(resolution)),
        there((resolution * FWHM) ** -2.0),
        broadening,
    )


def survey_instrument(emulators: Sequence[Emulator], survey: str) -> StreamInstrument:
    """Return the instrument of a survey, where the emulators reach.

    Raises
    ------
    InputError
        If the synthetic sky has no such survey.
    """
    if survey not in SURVEYS:
        raise unknown_name("sky.surveys", survey, [*SURVEYS, RANDOM], kind="instrument")
    known = SURVEYS[survey]
    arms = []
    for arm in known.arms:
        for emulator in emulators:
            inside = _reached(emulator, arm.wavelength)
            if inside.sum() >= FEWEST:
                arms.append(_of_survey(emulator, arm, inside))
    return StreamInstrument(
        survey,
        tuple(arms),
        known.frame is Frame.REST,
        known.unit == COUNTS,
        known.unit == NORMALISED,
        known.correlation,
    )


def _reached(emulator: Emulator, wavelength: NDArray) -> NDArray:
    room = ROOM / SPEED_OF_LIGHT
    first, last = emulator.wavelength[0], emulator.wavelength[-1]
    return np.asarray((wavelength > first * (1 + room)) & (wavelength < last * (1 - room)))


def _of_survey(emulator: Emulator, arm: SkyArm, inside: NDArray) -> StreamArm:
    wavelength = arm.wavelength[inside]
    resolution = np.minimum(arm.resolution[inside], emulator.resolution)
    projection = Projection.of(
        emulator, wavelength[0], wavelength[-1], (wavelength, resolution), room=2 * ROOM
    )
    light = arm.throughput[inside] * wavelength * np.gradient(wavelength)
    sky = arm.sky[inside] * arm.throughput[inside] * np.gradient(wavelength)
    return _arm(projection, wavelength, resolution, light, sky, arm.telluric[inside])


class Workshop:
    """Makes instruments up.

    Parameters
    ----------
    emulators : sequence of Emulator
    """

    def __init__(self, emulators: Sequence[Emulator]) -> None:
        self.sets: list[list[Projection]] = []
        self.powers: list[tuple[float, float]] = []
        self.spans: list[list[tuple[float, float]]] = []
        self.air: list[list[tuple[NDArray, NDArray, NDArray]]] = []
        for emulator in emulators:
            optical = emulator.wavelength[0] < 12000.0
            lowest = 800.0
            for power, count in OPTICAL if optical else INFRARED:
                first, last = np.log(emulator.wavelength[[0, -1]])
                ends = np.exp(np.linspace(first, last, count + 1))
                room = 1 + ROOM / SPEED_OF_LIGHT
                ends[0], ends[-1] = ends[0] * room, ends[-1] / room
                spans = list(itertools.pairwise(ends))
                top = min(power, emulator.resolution)
                self.sets.append(
                    [Projection.of(emulator, a, b, top, room=2 * ROOM) for a, b in spans]
                )
                self.spans.append(spans)
                self.air.append([_air(*span, top) for span in spans])
                self.powers.append((lowest if optical else 5000.0, top))
                lowest = power

    def make(self, rng: np.random.Generator) -> StreamInstrument:
        """Return an instrument of one to three windows, of one resolution and sampling."""
        which = int(rng.integers(len(self.sets)))
        low, top = self.powers[which]
        resolution = float(np.exp(rng.uniform(np.log(low), np.log(top))))
        count = len(self.sets[which])
        windows = min(count, int(rng.integers(1, 4)))
        chosen = np.sort(rng.choice(count, windows, replace=False))
        sampling = rng.uniform(*SAMPLING)
        ground = rng.random() < 0.8
        arms = tuple(self._window(which, int(i), resolution, sampling, ground, rng) for i in chosen)
        kind = rng.integers(3)
        return StreamInstrument(RANDOM, arms, rng.random() < 0.5, kind == 0, kind == 1)

    def _window(
        self,
        which: int,
        number: int,
        resolution: float,
        sampling: float,
        ground: bool,
        rng: np.random.Generator,
    ) -> StreamArm:
        projection, (low, high) = self.sets[which][number], self.spans[which][number]
        span = np.log(high / low)
        share = rng.uniform(0.35, 1.0)  # of the window
        first = np.log(low) + rng.uniform(0.0, 1.0 - share) * span
        step = 1.0 / resolution / sampling
        x = np.arange(first, first + share * span, step)
        wavelength = np.exp(x)
        place = np.linspace(-1.0, 1.0, len(wavelength))
        light = 1.0 - rng.uniform(0.0, 0.7) * np.abs(place) ** 2.5
        power = np.full(len(wavelength), resolution)
        grid, sky, telluric = self.air[which][number]
        sky = np.interp(x, grid, sky) if ground else np.ones(len(x))
        telluric = np.interp(x, grid, telluric) if ground else np.zeros(len(x))
        base = self.powers[which][1]
        more = max(0.0, resolution**-2 - base**-2) / FWHM**2
        return _arm(projection, wavelength, power, light * wavelength, sky, telluric, more)


def _air(low: float, high: float, resolution: float) -> tuple[NDArray, NDArray, NDArray]:
    """ln(wavelength), light of the sky and telluric depth of a window."""
    x = np.arange(np.log(low), np.log(high), 0.3 / resolution)
    wavelength, power = np.exp(x), np.full(len(x), resolution)
    sky = night_sky(wavelength, 21.0) + airglow(wavelength, power)
    return x, sky, telluric_depth(wavelength, power)


def coarser(instrument: StreamInstrument, share: float) -> StreamInstrument:
    """Return the instrument at a share of its resolution."""
    arms = []
    for arm in instrument.arms:
        power = share * arm.resolution
        more = (power**-2 - arm.resolution**-2) / FWHM**2
        arms.append(
            replace(
                arm,
                resolution=power,
                variance=arm.variance + more,
                broadening=arm.broadening + more,
            )
        )
    return replace(instrument, arms=tuple(arms))
