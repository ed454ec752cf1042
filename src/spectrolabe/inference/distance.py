"""Distances: an absolute magnitude from the spectrum, an apparent one, and a parallax."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import IntFlag

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_ndtr, logsumexp, ndtri, ndtri_exp

from spectrolabe.errors import InputError
from spectrolabe.labels import read_only
from spectrolabe.models.posterior import SCORES, LabelPosterior

__all__ = [
    "DISTANCE_FLAGS",
    "LENGTH",
    "TENSION",
    "DistanceFlag",
    "Distances",
    "Photometry",
    "distances",
]

LENGTH = 1.35  # kpc, of the prior of Astraatmadja & Bailer-Jones (2016, ApJ 832, 137)
TENSION = 3.0  # sigma, beyond which parallax and spectrum are said to disagree
MODULUS = (-10.0, 40.0)  # 0.1 pc to 1 Gpc: no distance of a star ends at an edge
POINTS = 240  # of the grid in distance modulus
LOWEST = 40.0  # below the highest log density, what the grid still covers: 9 sigma
FILLED = 0.7  # share of the grid within that, at which it need not zoom in
MOST_ZOOMS = 8  # each by up to a hundred
CHUNK = 2048  # stars at a time
FARTHEST = 8.0  # normal score that a probability can still tell from 1
MIDDLE, STEP = len(SCORES) // 2, float(SCORES[1] - SCORES[0])


class DistanceFlag(IntFlag):
    """Bits of ``distance_flags``; `DISTANCE_FLAGS` describes them."""

    NO_DISTANCE = 1
    NO_PARALLAX = 2
    NO_SPECTROSCOPIC = 4
    TENSION = 8


DISTANCE_FLAGS: dict[DistanceFlag, str] = {
    DistanceFlag.NO_DISTANCE: "neither a spectroscopic distance nor a parallax; the value is NaN",
    DistanceFlag.NO_PARALLAX: "no parallax; from the spectrum and the photometry alone",
    DistanceFlag.NO_SPECTROSCOPIC: "no absolute magnitude, Ks or extinction; from the parallax",
    DistanceFlag.TENSION: f"parallax and spectroscopic distance differ by over {TENSION:g} sigma",
}


@dataclass(frozen=True, eq=False)
class Photometry:
    """What is known of N stars besides their spectra. NaN where not known.

    Parameters
    ----------
    k_mag, e_k_mag : array_like, shape (N,)
        Apparent 2MASS Ks and its standard deviation, mag.
    a_k, e_a_k : array_like, shape (N,)
        Extinction in Ks, mag.
    parallax, e_parallax : array_like, shape (N,)
        mas, zero point taken out; may be negative.

    Raises
    ------
    InputError
        If lengths differ, or an error is negative or lacking.
    """

    k_mag: NDArray
    e_k_mag: NDArray
    a_k: NDArray
    e_a_k: NDArray
    parallax: NDArray
    e_parallax: NDArray

    def __post_init__(self) -> None:
        for one in fields(self):
            object.__setattr__(self, one.name, read_only(getattr(self, one.name), np.float64))
            found = getattr(self, one.name).shape
            if found != (len(self.k_mag),):
                raise InputError(
                    f"photometry.{one.name}",
                    expected=f"one value for each of {len(self.k_mag)} stars",
                    found=f"shape {found}",
                )
        for name, lowest in (("k_mag", 0.0), ("a_k", 0.0), ("parallax", np.finfo(float).tiny)):
            value, error = getattr(self, name), getattr(self, f"e_{name}")
            wrong = np.isfinite(value) & ~(np.isfinite(error) & (error >= lowest))
            if wrong.any():
                row = int(np.argmax(wrong))
                raise InputError(
                    f"photometry, star {row}",
                    expected=f"a standard deviation with {name} {value[row]:g}",
                    found=f"e_{name} {error[row]:g}",
                )

    def __len__(self) -> int:
        return len(self.k_mag)

    def take(self, rows: ArrayLike) -> Photometry:
        """Return these stars (indices or a boolean array)."""
        return Photometry(*(getattr(self, one.name)[np.asarray(rows)] for one in fields(self)))

    @classmethod
    def of(cls, stars: int, **known: ArrayLike) -> Photometry:
        """Return the photometry of N stars of which not everything is known."""
        unknown = np.full(stars, np.nan)
        values = {one.name: known.get(one.name, unknown) for one in fields(cls)}
        return cls(**{name: np.broadcast_to(value, stars) for name, value in values.items()})


@dataclass(frozen=True, eq=False)
class Distances:
    """Distances of N stars.

    Parameters
    ----------
    posterior : LabelPosterior
        Of ``distance`` in kpc, with its quantiles.
    tension : ndarray, shape (N,)
        How far the parallax is from what the spectroscopic distance predicts, in standard
        deviations, positive if it is too large; NaN where one of them is lacking. Standard
        normal where both are right.
    flags : ndarray of int, shape (N,)
        Bits of `DistanceFlag`.
    """

    posterior: LabelPosterior
    tension: NDArray
    flags: NDArray


def distances(
    absolute: LabelPosterior,
    photometry: Photometry,
    *,
    length: float | None = None,
) -> Distances:
    """Return the distances of N stars.

    The posterior is on a grid in distance modulus: the spectroscopic one, that of Ks - M_K - A_K,
    times the likelihood of the parallax, normal in 1 / distance, times a prior.

    Parameters
    ----------
    absolute : LabelPosterior
        With the label ``abs_mag_k``.
    photometry : Photometry
        Of the same stars.
    length : float, optional
        Scale length in kpc of a prior ``d**2 exp(-d / length)`` (Bailer-Jones 2015, PASP 127,
        994). If not given there is no prior besides the spectroscopic posterior, except for stars
        without one, for which the length is `LENGTH`. See the notes.

    Returns
    -------
    Distances

    Raises
    ------
    InputError
        If there is no ``abs_mag_k``, the numbers of stars differ, or the length is not positive.

    Notes
    -----
    What a model says of M_K is a posterior: its prior is the distribution of M_K in the stars that
    it was trained on. Of a sample limited by apparent magnitude that is the luminosity function
    times the volume in which such a star is bright enough. At a given apparent magnitude this
    volume is proportional to the cube of the distance, as the volume prior is in distance modulus:
    it has been counted, and must not be counted again. With ``length`` it is, which is right for
    an M_K whose prior is the luminosity function, or flat.
    """
    absolute = absolute.select(["abs_mag_k"])
    if len(absolute) != len(photometry):
        raise InputError(
            "photometry",
            expected=f"the {len(absolute)} stars of the posterior",
            found=f"{len(photometry)}",
        )
    if length is not None and not length > 0:
        raise InputError("length", expected="a length in kpc", found=f"{length}")
    parts = [
        _chunk(absolute.take(rows), photometry.take(rows), length)
        for rows in np.split(np.arange(len(absolute)), range(CHUNK, len(absolute), CHUNK))
    ]
    mean, variance, levels, tension, flags = map(np.concatenate, zip(*parts, strict=True))
    posterior = LabelPosterior(
        ("distance",),
        mean[:, None],
        variance[:, None, None],
        absolute.star_id,
        levels[:, None],
    )
    return Distances(posterior, read_only(tension), read_only(flags))


def _chunk(
    absolute: LabelPosterior, known: Photometry, length: float | None
) -> tuple[NDArray, ...]:
    """Mean, variance, levels, tension and flags of some stars."""
    spectrum = _Modulus.of(absolute, known)
    spectroscopic = np.isfinite(spectrum.levels[:, 0])
    geometric = np.isfinite(known.parallax)
    flags = np.where(geometric, 0, DistanceFlag.NO_PARALLAX)
    flags |= np.where(spectroscopic, 0, DistanceFlag.NO_SPECTROSCOPIC)
    nothing = ~(spectroscopic | geometric)
    flags |= np.where(nothing, DistanceFlag.NO_DISTANCE, 0)
    scale = np.where(spectroscopic, np.inf if length is None else length, length or LENGTH)
    volume = np.where(np.isfinite(scale), 3.0, 0.0)

    def log_density(modulus: NDArray) -> NDArray:
        """Of the distance modulus, shape (N, G)."""
        kpc = 10 ** (modulus / 5.0 - 2.0)
        pull = (known.parallax[:, None] - 1.0 / kpc) / known.e_parallax[:, None]
        prior = volume[:, None] * np.log(kpc) - kpc / scale[:, None]
        with np.errstate(invalid="ignore"):
            found = np.nan_to_num(-0.5 * pull**2) + spectrum.log_density(modulus) + prior
        return found

    modulus, weight = _grid(log_density, len(known))
    mean, variance, levels = _moments(modulus, weight)
    tension = _tension(spectrum, known)
    flags |= np.where(np.abs(tension) > TENSION, DistanceFlag.TENSION, 0)
    for values in (mean, variance, levels):
        values[nothing] = np.nan
    return mean, variance, levels, tension, flags


@dataclass(frozen=True, eq=False)
class _Modulus:
    """The spectroscopic distance modulus of N stars.

    Parameters
    ----------
    levels : ndarray, shape (N, Q)
        Quantiles at `SCORES`.
    normal : bool
        Those of a normal distribution.
    """

    levels: NDArray
    normal: bool

    @classmethod
    def of(cls, absolute: LabelPosterior, known: Photometry) -> _Modulus:
        mean, sigma = absolute.mean[:, 0], absolute.sigma[:, 0]
        levels = mean[:, None] + SCORES * sigma[:, None]
        if absolute.levels is not None:
            levels = absolute.levels[:, 0]
        # errors of the photometry widen the shape that M_K has; exact where it is normal
        middle = levels[:, MIDDLE, None]
        wider = np.hypot(1.0, np.hypot(known.e_k_mag, known.e_a_k) / sigma)[:, None]
        levels = middle + (levels - middle) * wider
        levels = (known.k_mag - known.a_k)[:, None] - levels[:, ::-1]
        # no step: a distribution of finite density, whose logarithm is defined
        least = 1e-6 * (np.arange(len(SCORES)) - MIDDLE)
        return cls(np.maximum.accumulate(levels, axis=1) + least, absolute.levels is None)

    def log_density(self, modulus: NDArray) -> NDArray:
        """Log density, up to a constant of the star; 0 of stars without. Shape (N, G).

        Between two levels the normal score is linear; beyond the outermost it goes on as there.
        """
        if self.normal:
            middle = self.levels[:, MIDDLE, None]
            sigma = self.levels[:, MIDDLE + 1, None] - middle
            score = STEP * (modulus - middle) / sigma
            return np.nan_to_num(-0.5 * score**2)
        found = np.zeros(modulus.shape)
        for row in np.flatnonzero(np.isfinite(self.levels[:, 0])):
            levels = self.levels[row]
            i = np.clip(np.searchsorted(levels, modulus[row]) - 1, 0, len(SCORES) - 2)
            width = levels[i + 1] - levels[i]
            score = SCORES[i] + STEP * (modulus[row] - levels[i]) / width
            found[row] = -0.5 * score**2 - np.log(width)
        return found


def _grid(log_density: Callable[[NDArray], NDArray], stars: int) -> tuple[NDArray, NDArray]:
    """Distance moduli and their probabilities, shape (N, G): zooms in on where density is."""
    low, high = (np.full(stars, edge) for edge in MODULUS)
    part, rows = np.linspace(0.0, 1.0, POINTS), np.arange(stars)
    for _ in range(MOST_ZOOMS):
        modulus = low[:, None] + (high - low)[:, None] * part
        log = log_density(modulus)
        log -= log.max(axis=1, keepdims=True)
        inside = log > -LOWEST
        if (inside.mean(axis=1) > FILLED).all():
            break
        first = np.maximum(inside.argmax(axis=1) - 1, 0)
        last = np.minimum(POINTS - inside[:, ::-1].argmax(axis=1), POINTS - 1)
        low, high = modulus[rows, first], modulus[rows, last]
    weight = np.exp(log)
    return modulus, weight / weight.sum(axis=1, keepdims=True)


def _moments(modulus: NDArray, weight: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """Mean and variance in kpc, shape (N,), and levels, shape (N, Q)."""
    kpc = 10 ** (modulus / 5.0 - 2.0)
    mean = np.einsum("ng,ng->n", weight, kpc)
    variance = np.einsum("ng,ng->n", weight, (kpc - mean[:, None]) ** 2)
    # half of a point's weight is below it; in normal scores, so that a normal one is exact
    below = np.cumsum(weight, axis=1) - 0.5 * weight
    scores = np.clip(ndtri(below), -FARTHEST, FARTHEST)
    found = np.stack([np.interp(SCORES, z, m) for z, m in zip(scores, modulus, strict=True)])
    return mean, variance, 10 ** (found / 5.0 - 2.0)


def _tension(spectrum: _Modulus, known: Photometry) -> NDArray:
    """Normal score of the parallax in what the spectroscopic distance predicts, shape (N,)."""
    kpc = 10 ** (spectrum.levels / 5.0 - 2.0)
    pull = (known.parallax[:, None] - 1.0 / kpc) / known.e_parallax[:, None]
    weight = -0.5 * SCORES**2 - logsumexp(-0.5 * SCORES**2)
    below = logsumexp(log_ndtr(pull) + weight, axis=1)
    above = logsumexp(log_ndtr(-pull) + weight, axis=1)
    return np.where(below < above, ndtri_exp(below), -ndtri_exp(above))
