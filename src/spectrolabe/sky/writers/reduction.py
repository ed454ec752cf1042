"""What reduction pipelines add to a spectrum from the spectrum alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

if TYPE_CHECKING:
    from spectrolabe.sky.observing import Exposure, Reason
    from spectrolabe.sky.writers import Observed

__all__ = [
    "SIMULATED",
    "band_snr",
    "combined",
    "error_of",
    "exposures_of",
    "finite",
    "flag_bits",
    "index_of",
    "mask_bits",
    "mean_velocity",
    "pseudo_continuum",
    "value",
]

SIMULATED = "Simulated spectrum: a star of the synthetic sky of Spectrolabe"
INTERVALS = 24
BANDS = {"u": (3700, 4000), "g": (4000, 5500), "r": (5600, 6900), "i": (6900, 8200)}
BANDS["z"] = (8200, 9200)  # Å, those of the SDSS where spectrographs see them


def pseudo_continuum(flux: NDArray, good: NDArray, degree: int = 4) -> NDArray:
    """Return a smooth upper envelope of a spectrum, shape (M,): what a pipeline divides by.

    A polynomial through the 90th percentiles of 24 intervals. The continuum of the simulation has
    no part in it.
    """
    width = flux.size // INTERVALS
    parts = np.where(good, flux, -np.inf)[: width * INTERVALS].reshape(INTERVALS, width)
    count = np.isfinite(parts).sum(axis=1)
    known = count > 5
    if known.sum() <= degree:
        return np.full(flux.size, np.median(flux[good]) if good.any() else 1.0)
    place = width - 1 - count // 10  # of the 90th percentile, for what is bad comes first
    levels = np.take_along_axis(np.sort(parts, axis=1), place[:, None], axis=1)[known, 0]
    x = np.linspace(-1.0, 1.0, flux.size)
    middles = x[width // 2 : width * INTERVALS : width][known]
    fitted = np.polynomial.polynomial.polyfit(middles, levels, degree)
    smooth = np.polynomial.polynomial.polyval(x, fitted)
    top = float(levels.max())
    return np.maximum(smooth, 0.05 * top) if top > 0 else np.ones(flux.size)


def band_snr(wavelength: NDArray, flux: NDArray, ivar: NDArray) -> dict[str, float]:
    """Return the median S/N a pixel in u, g, r, i and z; 0 where there is no pixel."""
    found = {}
    for band, (low, high) in BANDS.items():
        inside = (wavelength > low) & (wavelength < high) & (ivar > 0)
        snr = np.median(flux[inside] * np.sqrt(ivar[inside])) if inside.any() else 0.0
        found[band] = float(max(snr, 0.0))
    return found


def combined(snr: Sequence[float]) -> float:
    """Return the S/N of exposures taken together."""
    return float(np.sqrt(np.sum(np.square(snr))))


def mean_velocity(exposures: Sequence[Exposure]) -> float:
    """Return the mean of the measured velocities by their S/N, km/s; NaN where all failed."""
    known = [one for one in exposures if np.isfinite(one.rv_measured)]
    if not known:
        return np.nan
    weights = [max(one.snr, 1e-3) ** 2 for one in known]
    return float(np.average([one.rv_measured for one in known], weights=weights))


def mask_bits(
    reasons: NDArray,
    ivar: NDArray,
    hard: Mapping[Reason, int],
    soft: Mapping[Reason, int],
    other: int,
) -> NDArray:
    """Return a survey's pixel mask, shape (M,), int64.

    Parameters
    ----------
    reasons, ivar : ndarray, shape (M,)
        Of an exposure.
    hard : Mapping of Reason to int
        Reason -> bits of pixels that the survey rejects, set where ``ivar`` is 0 only.
    soft : Mapping of Reason to int
        Reason -> bits set wherever it is given.
    other : int
        Bits of a pixel with ``ivar`` 0 for another reason.
    """
    mask = np.zeros(reasons.shape, dtype=np.int64)
    bad = ~(ivar > 0)
    for reason, bits in hard.items():
        mask[bad & ((reasons & int(reason)) != 0)] |= bits
    mask[bad & (mask == 0)] |= other
    for reason, bits in soft.items():
        mask[(reasons & int(reason)) != 0] |= bits
    return mask


def finite(number: float, otherwise: float = -9999.0) -> float:
    """Return a number, or what a survey writes where it has none: cards hold no NaN."""
    return float(number) if np.isfinite(number) else otherwise


def value(labels: Table, name: str, missing: float = np.nan) -> NDArray:
    """Return a column of labels, with what a survey writes for no value."""
    if name not in labels.colnames:
        return np.full(len(labels), missing)
    numbers = np.ma.filled(np.ma.asarray(labels[name]).astype(float), np.nan)
    return np.where(np.isfinite(numbers), numbers, missing)


def error_of(labels: Table, name: str, missing: float = np.nan) -> NDArray:
    """Return the stated errors of a label."""
    return value(labels, f"{name}_err", missing)


def flag_bits(labels: Table, bits: Mapping[str, int]) -> NDArray:
    """Return a survey's flag word, shape (N,), int64, of the names in the column ``flags``.

    Raises
    ------
    KeyError
        If a name is none of the survey's bits.
    """
    words = np.zeros(len(labels), dtype=np.int64)
    if "flags" in labels.colnames:
        for i, names in enumerate(np.asarray(labels["flags"]).astype(str)):
            for name in names.replace(",", " ").split():
                words[i] |= bits[name]
    return words


def exposures_of(observed: Sequence[Observed]) -> Iterator[tuple[Observed, Exposure, int]]:
    """Yield every exposure with its star before it and its number, from 1, after it."""
    for star in observed:
        for visit, exposure in enumerate(star.exposures, start=1):
            yield star, exposure, visit


def index_of(rows: Sequence[Mapping[str, object]]) -> Table:
    """Return the index of what was written."""
    return Table({name: [row[name] for row in rows] for name in rows[0]} if rows else {})
