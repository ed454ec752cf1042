"""How large the errors of denoised flux are, from visits and the mean of their twins.

These are the errors of lines. A twin is brought to the level of the visit, and its own noise goes
into that level: running means are taken off all differences, or the twins' noise would be counted
as the denoiser's. The errors of the level are known otherwise (`spectrolabe.spectra.continuum`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from spectrolabe.models.denoiser import Denoiser
from spectrolabe.spectra import Spectrum
from spectrolabe.spectra.combine import level_of, level_width
from spectrolabe.spectra.store import Store
from spectrolabe.training.denoiser import scale_of
from spectrolabe.training.twins import Pair, deeper

__all__ = ["error_factor", "flux_errors"]

TOLD = 0.1  # of the twins' noise, in variance, from which an error of the flux can be told
CLEAREST = 0.1  # share of the pixels that count even so
FACTORS = (0.3, 5.0)  # within which a factor is


class _Errors(NamedTuple):
    """Pixels of visits of one survey: differences from the mean of their twins, and variances."""

    raw: NDArray
    made: NDArray
    visit: NDArray
    own: NDArray
    twins: NDArray


@torch.inference_mode()
def flux_errors(
    denoiser: Denoiser, store: Store, pairs: Sequence[Pair]
) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """Return factors of the errors of flux by survey, and from how many visits these are.

    Parameters
    ----------
    denoiser : Denoiser
        Whose factors are 1.
    store : Store
    pairs : sequence of Pair
        Of stars that it has not learnt from; visits without twins say nothing.

    Returns
    -------
    scales : dict of str to float
        As `Denoiser` takes them.
    unseen : dict of str to dict
        For its card.
    """
    found: dict[str, list[_Errors]] = {}
    for pair in pairs:
        if not pair.others:
            continue
        visit, deep = deeper(store, pair)
        (((made, sigma, _),),) = denoiser.made([[visit]])
        use = made.good & deep.good
        if use.any():
            raw, after = (_lines(one.flux - deep.flux, use, visit) for one in (visit, made))
            variances = 1.0 / visit.ivar[use], sigma[use] ** 2, 1.0 / deep.ivar[use]
            found.setdefault(visit.survey, []).append(_Errors(raw, after, *variances))
    scales, unseen = {"": 1.0}, {}
    for survey, parts in found.items():
        together = _Errors(*(np.concatenate(part) for part in zip(*parts, strict=True)))
        scales[survey] = error_factor(*together)
        unseen[survey] = {"visits": len(parts), "sigma_scale": scales[survey]}
    if len(scales) > 1:
        scales[""] = float(np.median([x for name, x in scales.items() if name]))
    return scales, unseen


def _lines(difference: NDArray, use: NDArray, visit: Spectrum) -> NDArray:
    """A difference of spectra in some pixels of a visit, less its running mean."""
    flux = np.where(use, difference, 0.0)
    level = level_of(visit.wavelength, flux, use.astype(float), level_width(visit))
    return (flux - level)[use].astype(float)


def error_factor(
    raw: NDArray, made: NDArray, visit: NDArray, own: NDArray, twins: NDArray
) -> float:
    """Return by which errors of denoised flux must grow to be right beside the twins' noise.

    That noise is first measured, on the visits as they were recorded: a few per cent of error in it
    would be many times what is looked for. Pixels where it is least count.

    Parameters
    ----------
    raw, made : ndarray, shape (N,)
        Recorded and denoised flux less that of the twins.
    visit, own, twins : ndarray, shape (N,)
        Stated variances of the recorded and of the denoised flux, and of the twins.

    Returns
    -------
    float
        Within `FACTORS`.
    """
    noise = twins * scale_of(raw / np.sqrt(visit + twins)) ** 2
    use = own >= min(TOLD, float(np.quantile(own / noise, 1.0 - CLEAREST))) * noise
    low, high = FACTORS
    for _ in range(30):
        middle = float(np.sqrt(low * high))
        inside = scale_of(made[use] / np.sqrt(middle**2 * own[use] + noise[use]))
        low, high = (middle, high) if inside > 1.0 else (low, middle)
    return middle
