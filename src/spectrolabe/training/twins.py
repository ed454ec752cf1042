"""Twins: one star seen twice, with more and with less noise, neither having part in the other.

A visit is paired with the mean of all *other* visits of its star. A survey's own combination, which
holds the visit, is never the target: a model would learn to let its noise pass.

Where a star has one spectrum alone, its noise is split (Pang et al. 2021, CVPR, recorrupted to
recorrupted): to the flux y are added a n, and -n / a, where n is drawn from the noise that is
stated. The errors of the two are uncorrelated, so that one may be the target of the other.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spectrolabe.models.pixels import PixelRow
from spectrolabe.spectra import Frame, Spectrum
from spectrolabe.spectra.combine import combine
from spectrolabe.spectra.spectrum import PRODUCT
from spectrolabe.spectra.store import Store

__all__ = ["Pair", "deeper", "noisier", "pairs_of", "split_noise", "visits_of"]

ALIKE = 0.1  # relative difference of resolutions that are combined
SHARED = 0.5  # of the range of a visit, that another must cover


class Pair(NamedTuple):
    """A visit and what it is a twin of: rows of a store.

    Parameters
    ----------
    visit : int
    others : tuple of int
        Other visits of the star; none where it has no other.
    """

    visit: int
    others: tuple[int, ...]


class _Row(NamedTuple):
    """What decides whether two spectra of a star are twins."""

    exposure: str
    key: tuple[str, str, str]
    low: float
    high: float
    resolution: float


def visits_of(store: Store) -> NDArray:
    """Return the rows of single visits, ascending: nothing combined, nothing a model made."""
    metas = [json.loads(text) for text in store.column("meta")]
    single = [
        not (meta.get("coadd") or meta.get("alternative") or PRODUCT in meta) for meta in metas
    ]
    return np.flatnonzero(single)


def pairs_of(store: Store, rows: Sequence[int] | NDArray) -> list[Pair]:
    """Pair every visit with the other visits of its star.

    Others are of the same survey, split and resolution, cover at least half of the range, and are
    not the same exposure in another file.

    Parameters
    ----------
    store : Store
    rows : sequence of int
        That may take part, on either side.

    Returns
    -------
    list of Pair
        One for each visit among the rows, in their order; visits that have no twin, too. Visits
        whose velocity is not known are left out.
    """
    wanted = np.intersect1d(visits_of(store), np.asarray(rows))
    still = (store.column("frame") == Frame.REST.value) | np.isfinite(store.column("rv"))
    wanted = wanted[still[wanted]]  # others cannot be brought to the pixels of a twin
    columns = [store.column(name) for name in ("star_id", "survey", "split", "meta")]
    known: dict[int, _Row] = {}
    stars: dict[tuple[str, str, str], list[int]] = {}
    for i in wanted.tolist():
        star, survey, split, meta = (str(column[i]) for column in columns)
        wavelength, _, ivar, resolution = store.arrays(i)
        good = np.flatnonzero(ivar > 0)
        if not len(good):
            continue
        low, high = wavelength[good[0]], wavelength[good[-1]]
        key = (star, survey, split)
        known[i] = _Row(
            _exposure(json.loads(meta), i), key, low, high, float(np.median(resolution))
        )
        stars.setdefault(key, []).append(i)
    return [
        Pair(i, tuple(k for k in stars[row.key] if k != i and _twins(row, known[k])))
        for i, row in known.items()
    ]


def _exposure(meta: dict[str, Any], row: int) -> str:
    """What the same exposure is called in all files that have it."""
    if "sfile" in meta:  # a row of an apStar file names the apVisit file
        return str(meta["sfile"]).removesuffix(".gz")
    if meta.get("row") == "visit":
        return str(meta.get("file", row)).removesuffix(".gz")
    return str(row)


def _twins(visit: _Row, other: _Row) -> bool:
    shared = min(visit.high, other.high) - max(visit.low, other.low)
    return (
        visit.exposure != other.exposure
        and shared >= SHARED * (visit.high - visit.low)
        and abs(other.resolution / visit.resolution - 1.0) < ALIKE
    )


def deeper(store: Store, pair: Pair) -> tuple[Spectrum, Spectrum]:
    """Return a visit, and the mean of its twins in its pixels.

    Raises
    ------
    InputError
        If the visit has no twin.
    """
    visit = store[pair.visit]
    return visit, combine([store[i] for i in pair.others], visit)


def noisier(row: PixelRow, factor: float, rng: np.random.Generator) -> PixelRow:
    """Return a spectrum with ``factor`` times its own noise added to it.

    Parameters
    ----------
    row : PixelRow
    factor : float
        Standard deviation of what is added over that which is stated.
    rng : Generator
    """
    noise = _noise(row.ivar, rng)
    flux, ivar = np.nan_to_num(row.flux) + factor * noise, row.ivar / (1.0 + factor**2)
    return row._replace(flux=flux.astype(np.float32), ivar=ivar.astype(np.float32))


def split_noise(
    row: PixelRow, factor: float, rng: np.random.Generator
) -> tuple[PixelRow, PixelRow]:
    """Return two spectra of one, whose errors are uncorrelated: a noisier and another one.

    Parameters
    ----------
    row : PixelRow
    factor : float
        Of the noise that is added to the first; to the second, the same over -factor is.
    rng : Generator
    """
    noise, flux = _noise(row.ivar, rng), np.nan_to_num(row.flux)
    one, other = flux + factor * noise, flux - noise / factor
    weights = (row.ivar / (1.0 + factor**2), row.ivar / (1.0 + factor**-2))
    first, second = (
        row._replace(flux=f.astype(np.float32), ivar=w.astype(np.float32))
        for f, w in zip((one, other), weights, strict=True)
    )
    return first, second


def _noise(ivar: NDArray, rng: np.random.Generator) -> NDArray:
    sigma = np.divide(1.0, np.sqrt(ivar), out=np.zeros(len(ivar)), where=ivar > 0)
    return np.asarray(sigma * rng.normal(size=len(ivar)))
