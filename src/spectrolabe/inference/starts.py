"""A first guess of labels and velocities, for any spectra: where a fit starts.

Each spectrum is cross-correlated with a dozen stars of an emulator, its velocity is that of the
highest peak, and its labels are those of the few among some hundred stars that fit best there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from spectrolabe.catalogue import ResultFlag
from spectrolabe.config import StarsConfig
from spectrolabe.errors import InputError
from spectrolabe.inference.correlation import (
    Correlation,
    Features,
    VelocityGrid,
    features,
    gain_of,
    heights,
    near,
    peak,
)
from spectrolabe.inference.masks import usable_ivar
from spectrolabe.models.emulator import Emulator
from spectrolabe.spectra import Frame, Instrument, Spectrum, observation_operator, running_continuum
from spectrolabe.spectra.grid import apply
from spectrolabe.spectra.wavelength import SPEED_OF_LIGHT
from spectrolabe.synthesis.sampling import ABUNDANCES, WIDTHS, sample_labels

__all__ = ["FirstGuess", "first_guess", "stated_shift", "template_labels"]

TEMPLATES, PILOTS = 256, 12
BATCH = 32  # spectra whose correlations are in memory at once
SMOOTH = 4  # the templates that share most of the weight
FEWEST = 20  # pixels from which a velocity is measured
CLEAR = 30.0  # chi2 that lines at the velocity must explain,
UNRIVALLED = 12.0  # and by how much more than at any other velocity
DISAGREE_SIGMA, DISAGREE_FWHM, DISAGREE = 5.0, 0.3, 15.0  # errors, instrument's FWHM, km/s
DISAGREE_GAIN = 25.0  # chi2 by which the measured velocity must be better than the stated one
AIR = -83.0  # km/s: where air wavelengths, taken as vacuum, put the lines (82 to 85 in the optical)


@dataclass(frozen=True, eq=False)
class FirstGuess:
    """Where the fits of N stars start.

    Parameters
    ----------
    names : tuple of str
        L labels, those of the emulator.
    labels : ndarray, shape (N, L)
    shift, e_shift : tuple of N ndarrays, one value a spectrum
        Velocity of the wavelength scale and its error, km/s: wavelength / (1 + shift / c) is at
        rest. The error is NaN where nothing was measured.
    chi2 : ndarray, shape (N,)
        Reduced chi-square of the best template, with 2 per cent of model error.
    flags : ndarray, shape (N,)
        Bits of `ResultFlag`.
    messages : tuple of N tuples of str
        What the flags mean for these spectra.
    """

    names: tuple[str, ...]
    labels: NDArray
    shift: tuple[NDArray, ...]
    e_shift: tuple[NDArray, ...]
    chi2: NDArray
    flags: NDArray
    messages: tuple[tuple[str, ...], ...]


def stated_shift(spectrum: Spectrum) -> float:
    """Return the velocity of the wavelength scale that a spectrum claims, km/s; NaN if unknown."""
    return 0.0 if spectrum.frame == Frame.REST else spectrum.rv


@lru_cache(maxsize=4)
def template_labels(emulator: Emulator) -> NDArray:
    """Return the labels of the template stars, shape (T, L): usual stars in the emulator's range.

    They are spread evenly over dwarfs and giants (`synthesis.sampling`), with the microturbulence
    and the abundances that are usual at their temperature, gravity and metallicity.
    """
    low, high = (dict(zip(emulator.names, e, strict=True)) for e in (emulator.low, emulator.high))
    config = StarsConfig(
        count=TEMPLATES,
        teff=(low["teff"], high["teff"]),
        logg=(low["logg"], high["logg"]),
        fe_h=(low["fe_h"], high["fe_h"]),
        widths=dict.fromkeys(WIDTHS, 0.0),
        v_micro_scatter=0.0,
    )
    stars = sample_labels(config)
    unknown = set(emulator.names) - set(stars.names)
    if unknown:
        raise InputError(
            "emulator",
            expected=f"labels among teff, logg, fe_h, v_micro, {', '.join(ABUNDANCES)}",
            found=", ".join(sorted(unknown)),
        )
    columns = [stars.names.index(name) for name in emulator.names]
    return np.clip(stars.values[:, columns], emulator.low, emulator.high)


@dataclass(frozen=True)
class _Channel:
    """What spectra must share to be correlated together; hashable."""

    emulator: Emulator
    low: float  # ln(wavelength)
    high: float
    resolution: float
    most: float  # km/s

    @classmethod
    def of(cls, spectrum: Spectrum, ivar: NDArray, emulator: Emulator, most: float) -> _Channel:
        good = np.flatnonzero(ivar > 0)
        ends = np.log(spectrum.wavelength[good[[0, -1]]])
        usual = np.broadcast_to(spectrum.resolution, spectrum.wavelength.shape)[good]
        rounded = 2.0 ** (np.round(8 * np.log2(np.median(usual))) / 8)
        stated = abs(stated_shift(spectrum))
        return cls(
            emulator,
            float(np.floor(ends[0] * 100) / 100),
            float(np.ceil(ends[1] * 100) / 100),
            float(min(rounded, emulator.resolution)),
            most * 2.0 ** np.ceil(np.log2(max(1.0, np.nan_to_num(stated + 50.0) / most))),
        )


@lru_cache(maxsize=8)
def _correlation(channel: _Channel, scale: Emulator) -> Correlation:
    """Templates of a channel; ``scale`` says whose stars they are."""
    grid = VelocityGrid.over(channel.low, channel.high, channel.resolution, channel.most)
    wide = grid.wavelength(wide=True)
    emulator = channel.emulator
    size = emulator.basis.offset.shape[1]
    ends = np.searchsorted(emulator.wavelength, wide[[0, -1]])
    first = max(int(ends[0]) // size - 1, 0)
    last = min(int(ends[1]) // size + 2, len(emulator.basis.offset))
    patches = slice(first, last)
    operator = observation_operator(
        emulator.wavelength[first * size : last * size],
        Instrument(wide, channel.resolution, "template"),
        input_resolution=emulator.resolution,
    )
    inside = np.diff(operator.indptr) > 0
    labels = template_labels(scale)
    flux = np.empty((len(labels), len(wide)))
    components, offset = emulator.basis.components[patches], emulator.basis.offset[patches]
    for part in range(0, len(labels), BATCH):
        latents = emulator.latents(labels[part : part + BATCH])[:, patches]
        native = (latents.transpose(0, 1) @ components).transpose(0, 1) + offset
        flux[part : part + BATCH] = apply(operator, native.flatten(1).double().numpy())
    continuum = running_continuum(wide, flux, inside.astype(float))
    return Correlation(grid, np.where(inside, flux / continuum - 1.0, 0.0))


@lru_cache(maxsize=4)
def _pilots(emulator: Emulator) -> NDArray:
    """Which templates measure velocities: the first, then always the one farthest from all."""
    columns = [emulator.names.index(name) for name in ("teff", "logg", "fe_h")]
    place = (template_labels(emulator) / emulator.spread)[:, columns]
    distance = cdist(place, place)
    chosen = [int(np.argmin(distance.sum(axis=1)))]
    while len(chosen) < PILOTS:
        chosen.append(int(np.argmax(distance[chosen].min(axis=0))))
    return np.array(chosen)


@dataclass(frozen=True)
class _Measured:
    """What correlation says of one spectrum."""

    shift: float
    error: float
    clear: bool  # whether the velocity is beyond doubt
    advantage: float  # chi2 by which it is better than the stated one; NaN if none is
    fwhm: float  # of the instrument, km/s
    chi2: NDArray  # (T,), reduced by its scale
    reduced: float


def first_guess(
    stars: Sequence[Sequence[Spectrum]], emulators: Sequence[Emulator], *, most: float = 600.0
) -> FirstGuess:
    """Return where the fits of some stars start.

    Parameters
    ----------
    stars : sequence of sequence of Spectrum
        The spectra of each of N stars.
    emulators : sequence of Emulator
        With the same labels; each spectrum is compared with the one that covers most of it.
    most : float
        Velocities are sought from -most to most, km/s, and farther if one is stated.

    Returns
    -------
    FirstGuess
        A stated velocity is kept where the spectrum agrees or cannot tell, else replaced and
        flagged ``WRONG_VELOCITY``. Without any, ``NO_VELOCITY``: that of the star's other spectra
        is taken, or 0.

    Raises
    ------
    InputError
        If there is no emulator, or their labels differ.
    """
    _check(emulators)
    measured: dict[tuple[int, int], _Measured] = {}
    for channel, where in _grouped(stars, emulators, most).items():
        correlation = _correlation(channel, emulators[0])
        for part in range(0, len(where), BATCH):
            some = where[part : part + BATCH]
            spectra = [stars[i][j] for i, j in some]
            ivar = [usable_ivar(s, channel.emulator) for s in spectra]
            data = features(correlation.grid, spectra, ivar)
            stated = np.array([stated_shift(s) for s in spectra])
            found = _measure(correlation, _pilots(emulators[0]), data, stated, channel.resolution)
            measured.update(zip(some, found, strict=True))
    guesses = [
        _star(spectra, [measured.get((i, j)) for j in range(len(spectra))], emulators[0])
        for i, spectra in enumerate(stars)
    ]
    labels, shift, error, chi2, flags, messages = zip(*guesses, strict=True)
    return FirstGuess(
        emulators[0].names,
        np.array(labels),
        shift,
        error,
        np.array(chi2),
        np.array(flags, dtype=np.int64),
        messages,
    )


def _check(emulators: Sequence[Emulator]) -> None:
    if not emulators:
        raise InputError("emulators", expected="one or more", found="none")
    for other in emulators[1:]:
        if other.names != emulators[0].names:
            raise InputError(
                "emulators",
                expected=f"the labels {', '.join(emulators[0].names)}",
                found=", ".join(other.names),
                fix="Fit with emulators of the same labels.",
            )


def _grouped(
    stars: Sequence[Sequence[Spectrum]], emulators: Sequence[Emulator], most: float
) -> dict[_Channel, list[tuple[int, int]]]:
    """Star and spectrum numbers by channel; spectra with too few pixels are in none."""
    groups: dict[_Channel, list[tuple[int, int]]] = {}
    for i, spectra in enumerate(stars):
        for j, spectrum in enumerate(spectra):
            ivar = [usable_ivar(spectrum, emulator) for emulator in emulators]
            count = [np.count_nonzero(v) for v in ivar]
            k = int(np.argmax(count))
            if count[k] >= FEWEST:
                channel = _Channel.of(spectrum, ivar[k], emulators[k], most)
                groups.setdefault(channel, []).append((i, j))
    return groups


def _measure(
    correlation: Correlation,
    pilots: NDArray,
    data: Features,
    stated: NDArray,
    resolution: float,
) -> list[_Measured]:
    grid = correlation.grid
    moments = correlation.moments(data)
    gain = gain_of(*correlation.all_lags(moments, pilots)).max(axis=1)
    lag, _ = peak(gain, grid.lags)
    covariance, variance = correlation.at(moments, lag)
    best = (variance - 2.0 * covariance).argmin(axis=1)
    gain = gain_of(*correlation.all_lags(moments, best[:, None]))[:, 0]
    lag, curvature = peak(gain, grid.lags)
    covariance, variance = correlation.at(moments, lag)
    chi2 = moments.power[:, None] - 2.0 * covariance + variance
    reduced = np.maximum(chi2.min(axis=1), 0.0) / np.maximum(data.pixels, 1.0)
    scale = np.maximum(reduced, 1.0)
    fwhm = SPEED_OF_LIGHT * max(1.0 / resolution, grid.step)
    shift = grid.velocity(lag)
    error = SPEED_OF_LIGHT * grid.step * np.sqrt(2.0 * scale / np.maximum(curvature, 1e-30))
    height, rival = heights(gain, lag, grid.lags)
    at_stated = near(gain, np.nan_to_num(grid.lag(stated)), grid.lags)
    clear = (height > CLEAR * scale) & (height - rival > UNRIVALLED * scale)
    advantage = np.where(np.isfinite(stated), (height - at_stated) / scale, np.nan)
    return [
        _Measured(*row, fwhm, chi2[i] / scale[i], reduced[i])
        for i, row in enumerate(zip(shift, error, clear, advantage, strict=True))
    ]


def _star(
    spectra: Sequence[Spectrum], measured: Sequence[_Measured | None], emulator: Emulator
) -> tuple[NDArray, NDArray, NDArray, float, int, tuple[str, ...]]:
    """Put the spectra of one star together."""
    shift, error = np.full((2, len(spectra)), np.nan)
    flags, messages = ResultFlag(0), []
    for j, (spectrum, one) in enumerate(zip(spectra, measured, strict=True)):
        stated = stated_shift(spectrum)
        shift[j] = stated
        if one is None:
            continue
        error[j] = one.error
        if np.isfinite(stated):
            if one.clear and _disagrees(one, stated):
                shift[j] = one.shift
                flags |= ResultFlag.WRONG_VELOCITY
                messages.append(_wrong_velocity(spectrum, one, stated))
        elif one.clear:
            shift[j] = one.shift
        else:
            error[j] = np.nan
    unknown = ~np.isfinite(shift)
    if unknown.any():
        shift[unknown] = _of_others(spectra, measured, shift)
        flags |= ResultFlag.NO_VELOCITY
        messages += [
            f"{spectra[j].where}: no radial velocity is stated, and none can be measured: "
            f"its wavelengths were taken as shifted by {shift[j]:.0f} km/s"
            for j in np.flatnonzero(unknown).tolist()
        ]
    known = [m for m in measured if m is not None]
    labels = _labels(known, emulator)
    chi2 = float(np.mean([m.reduced for m in known])) if known else np.nan
    return labels, shift, error, chi2, int(flags), tuple(messages)


def _disagrees(one: _Measured, stated: float) -> bool:
    least = max(DISAGREE_SIGMA * one.error, DISAGREE_FWHM * one.fwhm, DISAGREE)
    return abs(one.shift - stated) > least and one.advantage > DISAGREE_GAIN


def _wrong_velocity(spectrum: Spectrum, one: _Measured, stated: float) -> str:
    difference = one.shift - stated
    claim = "at rest" if spectrum.frame == Frame.REST else f"{stated:.1f} km/s"
    text = (
        f"{spectrum.where}: lines are at {one.shift:.1f} ± {one.error:.1f} km/s, the file says "
        f"{claim}; the measured velocity was used"
    )
    if abs(difference - AIR) < max(5.0 * one.error, 0.1 * one.fwhm, 5.0):
        text += f". {difference:.0f} km/s is what air wavelengths given as vacuum would show"
    elif spectrum.frame == Frame.REST and abs(one.shift - spectrum.rv) < 0.3 * one.fwhm:
        text += ". It is the star's velocity: the wavelengths are not at rest"
    elif spectrum.frame != Frame.REST and abs(one.shift) < 0.1 * one.fwhm:
        text += ". The wavelengths seem to be at rest already"
    return text


def _of_others(
    spectra: Sequence[Spectrum], measured: Sequence[_Measured | None], shift: NDArray
) -> float:
    """Velocity of the best-measured other spectrum that is not at rest, else 0."""
    others = [
        (one.error, shift[j])
        for j, one in enumerate(measured)
        if one is not None and np.isfinite(shift[j]) and spectra[j].frame != Frame.REST
    ]
    return float(min(others)[1]) if others else 0.0


def _labels(known: Sequence[_Measured], emulator: Emulator) -> NDArray:
    """Average of the best templates; the middle of all where nothing was measured."""
    stars = template_labels(emulator)
    if not known:
        return np.asarray(np.clip(emulator.mean, emulator.low, emulator.high))
    chi2 = np.sum([m.chi2 for m in known], axis=0)
    chi2 = chi2 - chi2.min()
    scale = max(1.0, float(np.partition(chi2, SMOOTH - 1)[SMOOTH - 1]))
    weight = np.exp(-0.5 * np.minimum(chi2 / scale * 2.0, 700.0))
    return np.asarray(weight @ stars / weight.sum())
