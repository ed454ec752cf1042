"""How large the errors of denoised flux are, from visits and two of their twins.

A twin is many times noisier than what is looked for, and its stated noise a few per cent wrong. Of
two twins, however, the errors have nothing to do with each other: the mean of (flux - one) times
(flux - other) is the variance of the denoised flux alone, whatever the noise of the twins.

These are the errors of lines. Twins are brought to the level of the denoised visit, which is not
theirs: running means are taken off all differences. The errors of the level are known otherwise
(`spectrolabe.spectra.continuum`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter1d
from scipy.optimize import least_squares

from spectrolabe.models.denoiser import AS_STATED, Denoiser, error_parts
from spectrolabe.spectra import Spectrum
from spectrolabe.spectra.combine import combine, level_of, level_width
from spectrolabe.spectra.store import Store
from spectrolabe.training.twins import Pair

__all__ = ["error_weights", "flux_errors"]

NEIGHBOURS = 25  # pixels whose differences tell how noisy a twin is there
BLOCK = 64  # pixels whose products are averaged
BEYOND = 3.0  # standard deviations from which a block counts less: sky and telluric lines
PASSES = 3  # over the variance of the products, which depends on what is looked for


class _Blocks(NamedTuple):
    """Means over blocks: `error_parts` (5, B), products of differences and their variance (B,)."""

    parts: NDArray
    products: NDArray
    variance: NDArray


@torch.inference_mode()
def flux_errors(
    denoiser: Denoiser, store: Store, pairs: Sequence[Pair]
) -> tuple[dict[str, list[float]], dict[str, dict[str, int]]]:
    """Return the weights of the errors of flux by survey, and from how many visits these are.

    Parameters
    ----------
    denoiser : Denoiser
        Whose errors are `AS_STATED`.
    store : Store
    pairs : sequence of Pair
        Of stars that it has not learnt from; visits with less than two twins say nothing.

    Returns
    -------
    errors : dict of str to list of float
        As `Denoiser` takes them.
    unseen : dict of str to dict
        For its card.
    """
    found: dict[str, list[_Blocks]] = {}
    for pair in pairs:
        if len(pair.others) < 2:
            continue
        visit = store[pair.visit]
        (((made, sigma, _, level),),) = denoiser.made([[visit]])
        halves = [combine([store[i] for i in pair.others[k::2]], made) for k in (0, 1)]
        halves = [combine([half], made) for half in halves]  # what is left of a fast blaze
        use = made.good & halves[0].good & halves[1].good
        if use.sum() >= BLOCK:
            parts = error_parts(sigma[use], level[use], visit.ivar[use] ** -0.5)
            found.setdefault(visit.survey, []).append(_blocks(made, halves, use, parts))
    if not found:
        return {"": list(AS_STATED)}, {}
    errors = {survey: error_weights(*_joined(blocks)) for survey, blocks in found.items()}
    unseen = {survey: {"visits": len(blocks)} for survey, blocks in found.items()}
    errors[""] = error_weights(*_joined([one for blocks in found.values() for one in blocks]))
    return errors, unseen


def _joined(blocks: Sequence[_Blocks]) -> _Blocks:
    return _Blocks(*(np.concatenate(part, axis=-1) for part in zip(*blocks, strict=True)))


def _blocks(made: Spectrum, twins: Sequence[Spectrum], use: NDArray, parts: NDArray) -> _Blocks:
    """Weighted means over neighbouring pixels, in units of the median flux."""
    typical = np.median(made.flux[use])
    differences = [_lines(made.flux - twin.flux, use, made) / typical for twin in twins]
    stated = [1.0 / twin.ivar[use] / typical**2 for twin in twins]
    # of squares: a weight that knew whether both differ the same way would favour that
    noise = [
        np.maximum(uniform_filter1d(difference**2, NEIGHBOURS), variance)
        for difference, variance in zip(differences, stated, strict=True)
    ]
    count = use.sum() // BLOCK
    weight, product = 1.0 / (noise[0] * noise[1]), differences[0] * differences[1]
    total, *sums = (
        one[..., : count * BLOCK].reshape(*one.shape[:-1], count, BLOCK).sum(axis=-1)
        for one in (weight, weight * parts / typical**2, weight * product)
    )
    return _Blocks(sums[0] / total, sums[1] / total, 1.0 / total)


def _lines(difference: NDArray, use: NDArray, visit: Spectrum) -> NDArray:
    """A difference of spectra in some pixels of a visit, less its running mean."""
    flux = np.where(use, difference, 0.0)
    level = level_of(visit.wavelength, flux, use.astype(float), level_width(visit))
    return (flux - level)[use].astype(float)


def error_weights(parts: NDArray, products: NDArray, variance: NDArray) -> list[float]:
    """Return the weights, not negative, by which the sum of parts is the mean of products.

    Parameters
    ----------
    parts : ndarray, shape (K, B)
        As of `error_parts`; means over blocks of pixels.
    products : ndarray, shape (B,)
        Of the differences from two twins.
    variance : ndarray, shape (B,)
        Of the products, if denoised flux had no errors.

    Returns
    -------
    list of float
        K of them.
    """
    total, size = variance, np.sqrt(np.mean(parts**2 / variance, axis=1))
    size = np.where(size > 0, size, 1.0)
    weights = np.zeros(len(parts))
    for _ in range(PASSES):
        design, seen = (parts / size[:, None] / np.sqrt(total)).T, products / np.sqrt(total)
        found = least_squares(
            lambda x, design=design, seen=seen: design @ x - seen,
            weights + 1.0 / len(weights),
            jac=lambda x, design=design, seen=seen: design,
            bounds=(0.0, np.inf),
            loss="soft_l1",
            f_scale=BEYOND,
        )
        weights = found.x
        own = weights / size @ parts
        total = variance + 2.0 * own * np.sqrt(variance) + 2.0 * own**2
    return [float(x) for x in weights / size]
