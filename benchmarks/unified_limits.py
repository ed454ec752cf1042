"""The least uncertainty of each label of each simulated star, by exact slopes of the emulators."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import solve_banded
from torch import Tensor

from spectrolabe.inference.continuum import continuum_basis
from spectrolabe.spectra.broadening import FWHM
from spectrolabe.spectra.wavelength import SPEED_OF_LIGHT
from spectrolabe.training.instruments import StreamArm
from spectrolabe.training.observing import Conditions, drawn
from spectrolabe.training.stars import EXPOSURE, Stars
from spectrolabe.validation.limits import information
from unified_sky import QUIET, SEED, Sky, chunks

__all__ = ["Slopes", "fishers", "priors", "slopes_of", "told"]

SNR = 100.0  # at which Fisher matrices are computed; they grow with its square
VELOCITY_STEP = 0.05  # of the step of the splines
BROADENING_STEP = 0.05  # of the broadening
LEAST_BROADENING = 2.0  # km/s, below which the slope is that there
DEEPEST = 0.02  # of the continuum: what is left of a line in a division
PRIOR_STARS = 20_000


@dataclass(frozen=True, eq=False)
class Slopes:
    """What N spectra change with labels and with what else is unknown; M pixels.

    Parameters
    ----------
    log_wavelength : ndarray, shape (M,)
        ln(vacuum wavelength / Å) of the pixels.
    rows : ndarray, shape (N, P, M)
        Slopes of the flux with labels in units of their scales.
    clean : ndarray, shape (N, M)
        Flux without noise: that with the level of the continuum is a B-spline times it.
    air : ndarray, shape (M,)
        Optical depth of the atmosphere; its amount is unknown.
    root : ndarray, shape (N, M)
        1 / sigma of the noise.
    correlation : float
        Standard deviation of the kernel of the noise in pixels.
    arms : ndarray, shape (M,)
        Which arm a pixel is of.
    resolution : float
    """

    log_wavelength: NDArray
    rows: NDArray
    clean: NDArray
    air: NDArray
    root: NDArray
    correlation: float
    arms: NDArray
    resolution: float

    def nuisance(self, star: int) -> NDArray:
        """Slopes with continuum and air of one star, shape (C, M)."""
        basis = continuum_basis(self.log_wavelength, self.resolution, None).dense()
        return np.concatenate([basis, self.air[None]]).astype(float) * self.clean[star]

    def whitened(self, star: int, rows: NDArray) -> NDArray:
        """Rows of one star in units of the noise, and as if that of pixels were independent."""
        scaled = np.asarray(rows, dtype=float) * self.root[star]
        if not self.correlation:
            return scaled
        out = np.empty_like(scaled)
        for arm in np.unique(self.arms):
            here = self.arms == arm
            out[:, here] = _uncorrelated(scaled[:, here], self.correlation)
        return out


def _uncorrelated(rows: NDArray, width: float) -> NDArray:
    """Undo the kernel that correlates noise; see `spectrolabe.training.observing`."""
    offset = np.arange(-3, 4)
    kernel = np.exp(-0.5 * (offset / width) ** 2)
    kernel /= np.sqrt(np.sum(kernel**2))
    bands = np.repeat(kernel[::-1, None], rows.shape[1], axis=1)
    return np.asarray(solve_banded((3, 3), bands, rows.T)).T


def told(sky: Sky) -> list[str]:
    """Labels of a model that spectra tell, in its order: those that have a limit."""
    emulated = sky.stream.emulators[0].names
    return [n for n in sky.names if n in emulated or n in ("v_broad", EXPOSURE)]


def slopes_of(
    sky: Sky, survey: str, stars: Stars, snr: float, seed: Sequence[int]
) -> tuple[Slopes, NDArray]:
    """Return the slopes of stars, and their true labels; as `Sky.seen` with the same seed.

    Parameters
    ----------
    sky : Sky
    survey : str
    stars : Stars
    snr : float
    seed : sequence of int
    """
    noisy, truth, conditions = sky.seen(survey, stars, snr, seed)
    clean = sky.seen(survey, stars, QUIET, seed)[0].flux.numpy()
    instrument = sky.stream.instruments[survey]
    kept, end = [], -np.inf
    for k, arm in enumerate(instrument.arms):
        use = (arm.log_wavelength > end).numpy()  # as observing joins arms
        end = max(end, float(arm.log_wavelength[-1]))
        rows = _arm(sky, arm, stars, conditions)
        kept.append(
            (
                rows[:, :, use],
                arm.telluric.numpy()[use],
                np.full(use.sum(), k),
                arm.log_wavelength.numpy()[use],
            )
        )
    rows, air, arms, x = (np.concatenate(part, axis=-1) for part in zip(*kept, strict=True))
    level = clean / np.maximum(rows[:, 0], DEEPEST)
    return (
        Slopes(
            x,
            rows[:, 1:] * level[:, None],
            clean,
            air,
            np.sqrt(noisy.ivar.numpy()),
            instrument.correlation,
            arms,
            float(noisy.resolution[0]),
        ),
        truth,
    )


def _arm(sky: Sky, arm: StreamArm, stars: Stars, conditions: Conditions) -> NDArray:
    """Normalised flux and its slopes at the pixels of an arm, (N, 1 + P, M)."""
    projection = arm.projection
    emulator, names, scale = projection.emulator, told(sky), sky.model.scale
    width = dict(zip(scale.names, scale.width, strict=True))
    own = [name for name in names if name in emulator.names]
    with torch.no_grad():
        columns = [emulator.names.index(name) for name in own]
        latents = emulator.latents_and_slopes(stars.atmosphere, columns, projection.readout)
        splines = projection.splines(latents)  # (N, 1 + J, size)
        splines[:, 1:] *= torch.tensor([width[name] for name in own])[:, None].float()
        splines[:, 1:] += 1.0  # `drawn` takes away a continuum of 1
        shift = np.log1p(conditions.velocity / SPEED_OF_LIGHT)
        shift = shift + np.log1p(conditions.residual / SPEED_OF_LIGHT)

        def at(splines: Tensor, more: float, broad: NDArray) -> NDArray:
            variance = (broad / SPEED_OF_LIGHT / FWHM) ** 2 + arm.broadening
            count = splines.shape[1]
            flux = drawn(
                splines.flatten(0, 1),
                arm.position,
                torch.from_numpy(np.repeat(shift / projection.step + more, count)),
                torch.from_numpy(np.repeat(variance / projection.step**2, count)).float(),
            )
            return np.asarray(flux.unflatten(0, (-1, count)).numpy(), dtype=np.float64)

        rows = at(splines, 0.0, stars.v_broad)
        rows[:, 1:] -= 1.0
        extra = {}
        one = splines[:, :1]
        change = at(one, VELOCITY_STEP, stars.v_broad) - at(one, -VELOCITY_STEP, stars.v_broad)
        extra[EXPOSURE] = change / (2 * VELOCITY_STEP * projection.step * SPEED_OF_LIGHT)
        broad = np.maximum(stars.v_broad, LEAST_BROADENING)
        low, high = (1 - BROADENING_STEP) * broad, (1 + BROADENING_STEP) * broad
        extra["v_broad"] = (at(one, 0.0, high) - at(one, 0.0, low)) / (high - low)[:, None, None]
    each = dict(zip(own, np.moveaxis(rows[:, 1:], 1, 0), strict=True))
    each |= {name: extra[name][:, 0] * width[name] for name in extra if name in names}
    return np.stack([rows[:, 0], *(each[name] for name in names)], axis=1)


def fishers(sky: Sky, survey: str, stars: Stars, seed: Sequence[int]) -> NDArray:
    """Return Fisher matrices at S/N = 1 a pixel, shape (N, P, P), of scaled labels."""
    found = []
    for k, rows in enumerate(chunks(len(stars))):
        slopes, _ = slopes_of(sky, survey, stars.take(rows), SNR, [*seed, k])
        for star in range(len(rows)):
            parts = (slopes.rows[star], slopes.nuisance(star))
            white = (slopes.whitened(star, part) for part in parts)
            found.append(information(*white) / SNR**2)
    return np.array(found)


def priors(sky: Sky, survey: str | None = None) -> dict[str, NDArray]:
    """Return the covariance of scaled labels of the stars of the training, by kind, (P, P).

    Parameters
    ----------
    sky : Sky
    survey : str, optional
        Whose velocity errors the stars have; without, they are left out of the labels.
    """
    scaled, galaxy = _drawn_stars(sky)
    names = told(sky)
    keep = np.array([name != EXPOSURE for name in names])
    own = []
    for rows in (slice(None), galaxy, ~galaxy):
        full = np.zeros((len(names), len(names)))
        full[np.ix_(keep, keep)] = np.cov(scaled[rows][:, keep].T)
        if survey is None:
            full = full[np.ix_(keep, keep)]
        elif not keep.all():
            full[~keep, ~keep] = velocity_variance(sky, survey)
        own.append(full)
    return dict(zip(("mixed", "galaxy", "independent"), own, strict=True))


@lru_cache(maxsize=1)
def _drawn_stars(sky: Sky) -> tuple[NDArray, NDArray]:
    """Scaled labels of many stars, (N, P), and which of them are of the Galaxy."""
    stars = sky.stream.stars(PRIOR_STARS, np.random.default_rng([SEED, 99]))
    columns = [sky.names.index(name) for name in told(sky)]
    galaxy = np.isfinite(stars.values[:, sky.names.index("abs_mag_k")])
    return sky.model.scale.scale(stars.values)[:, columns], galaxy


def velocity_variance(sky: Sky, survey: str) -> float:
    """Variance of the velocities that are left of a survey, scaled."""
    instrument, config = sky.stream.instruments[survey], sky.stream.config
    width = SPEED_OF_LIGHT / np.median([arm.resolution for arm in instrument.arms])
    slow, fast = config.velocity
    # the mean square of what is even in its logarithm
    square = (fast**2 - slow**2) / (2.0 * np.log(fast / slow)) if fast > slow else slow**2
    unit = sky.model.scale.width[sky.names.index(EXPOSURE)]
    return float(width**2 * square / unit**2)
