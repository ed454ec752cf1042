"""Training data: spectra of stores with what catalogues say of their stars, split by star."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from spectrolabe.config import DataConfig
from spectrolabe.errors import InputError, unknown_name
from spectrolabe.labels import Labels
from spectrolabe.models.pixels import PixelRow, velocities
from spectrolabe.spectra.store import Store, open_store

__all__ = [
    "FEWEST",
    "Sample",
    "Splits",
    "load_sample",
    "open_stores",
    "place_of",
    "split_stars",
    "used_rows",
    "widened",
]

FEWEST = 20  # stars to train on from random weights
SAME_PLACE = 1.0  # arcsec within which stars of two stores are one star


@dataclass(frozen=True)
class Sample:
    """What to learn from: N pairs of a spectrum and what a catalogue says of its star.

    A star of several catalogues is there once for each of them with each of its spectra, so that
    every spectrum is told what every catalogue says.

    Parameters
    ----------
    stores : tuple of Store
        Each with spectra and a label catalogue.
    source, rows : ndarray of int, shape (N,)
        Number of the store of the spectrum, and its row there.
    rv : ndarray, shape (N,)
        Velocity to be taken out, km/s.
    labels : Labels
        With the star of each pair.
    catalogue : ndarray of int, shape (N,)
        Number of the store that the labels are of.
    """

    stores: tuple[Store, ...]
    source: NDArray
    rows: NDArray
    rv: NDArray
    labels: Labels
    catalogue: NDArray

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def spectrum(self) -> NDArray:
        """A number for each spectrum, shape (N,): the same where catalogues share one."""
        return self.source + len(self.stores) * self.rows

    def take(self, index: NDArray) -> Sample:
        """Return part of the sample (indices or a boolean array)."""
        return replace(
            self,
            labels=self.labels.take(index),
            **{name: getattr(self, name)[index] for name in ("source", "rows", "rv", "catalogue")},
        )

    def with_labels(self, names: Sequence[str]) -> Sample:
        """Return the sample with these labels, NaN where it had none."""
        return replace(self, labels=widened(self.labels, names))

    def arrays(self, i: int) -> tuple[NDArray, NDArray, NDArray, NDArray]:
        """Return wavelength, flux, ivar and resolution of one spectrum as views of its store."""
        return self.stores[self.source[i]].arrays(int(self.rows[i]))

    def column(self, name: str) -> NDArray:
        """Return one value per spectrum, shape (N,), as `Store.column` gives it."""
        columns = [store.column(name) for store in self.stores]
        if len(columns) == 1:
            return columns[0][self.rows]
        found = [columns[k][row] for k, row in zip(self.source, self.rows, strict=True)]
        return np.array(found, dtype=np.result_type(*columns))

    def pixels(self, index: NDArray) -> list[PixelRow]:
        """Return the spectra of some entries of the sample as views of the stores."""
        return [PixelRow(*self.arrays(int(i)), rv=float(self.rv[i])) for i in index]


@dataclass(frozen=True)
class Splits:
    """Disjoint sets of stars: to fit weights, to stop early, to recalibrate uncertainties."""

    train: Sample
    selection: Sample
    calibration: Sample


def open_stores(config: DataConfig) -> tuple[Store, ...]:
    """Open the stores of a configuration."""
    return tuple(open_store(path) for path in config.stores)


def load_sample(
    stores: Store | Sequence[Store], config: DataConfig, *, fewest: int = FEWEST
) -> Sample:
    """Return what a configuration asks for of one or more stores.

    A star is known by its id. Stars of several stores that are at one place of the sky are one
    star, whatever their ids.

    Parameters
    ----------
    stores : Store or sequence of Store
        Each may lack some of the labels, not all of them.
    config : DataConfig
    fewest : int
        Stars without which nothing can be learnt.

    Raises
    ------
    InputError
        If no store has a label, the split is not in a store, or too few stars are left.
    """
    stores = (stores,) if isinstance(stores, Store) else tuple(stores)
    for name in config.labels:
        if not any(name in store.names for store in stores):
            known = sorted({known for store in stores for known in store.names})
            raise unknown_name(_paths(stores), name, known, kind="label of this store")
    rows = [used_rows(store, config) for store in stores]
    stars = _stars(stores)
    labels = [
        replace(widened(store.labels, config.labels), star_id=star).take(use)
        for store, star, use in zip(stores, stars, rows, strict=True)
    ]
    found = _paired(stores, rows, labels)
    count = len(np.unique(found.labels.star_id))
    if count < fewest:
        raise InputError(
            _paths(stores),
            expected=f"at least {fewest} stars with labels",
            found=f"{count} with split {config.split!r}, S/N >= {config.min_snr}, a known label"
            + (" and the quality cut of the survey" if config.quality_cut else ""),
            fix="Loosen data.split, data.min_snr or data.quality_cut, or ingest more stars."
            + (
                ""
                if fewest < FEWEST
                else " Fewer are enough for a model that starts from another one, see [transfer]."
            ),
        )
    return found


def _paths(stores: Sequence[Store]) -> str:
    return ", ".join(str(store.path) for store in stores)


def used_rows(store: Store, config: DataConfig) -> NDArray:
    """Return the rows of a store that pass the cuts, with or without labels."""
    split = store.column("split")
    if config.split and config.split not in split:
        raise unknown_name(
            store.path, config.split, set(split.tolist()), kind="split of this store"
        )
    use = store.column("snr") >= config.min_snr
    if config.quality_cut:
        use &= store.column("good")
    if config.split:
        use &= split == config.split
    return np.flatnonzero(use)


def widened(labels: Labels, names: Sequence[str]) -> Labels:
    """Return labels in the order asked for; NaN for those that there are not."""
    shape = (len(labels), len(names))
    values, sigma = np.full(shape, np.nan), np.full(shape, np.nan)
    known = [name for name in names if name in labels.names]
    at, of = [list(names).index(name) for name in known], labels.index(known)
    values[:, at], sigma[:, at] = labels.values[:, of], labels.sigma[:, of]
    return Labels(tuple(names), values, sigma, labels.star_id)


def _stars(stores: Sequence[Store]) -> list[NDArray]:
    """Star ids of each store; a star at the place of one of an earlier store has the id of that."""
    found = [store.column("star_id").astype(object) for store in stores]
    if len(stores) > 1:
        places = [_directions(store) for store in stores]
        for k in range(1, len(stores)):
            for earlier in range(k):
                _rename(found[k], places[k], found[earlier], places[earlier])
    return [np.asarray(ids, dtype=str) for ids in found]


def _rename(ids: NDArray, place: NDArray, earlier: NDArray, earlier_place: NDArray) -> None:
    here, there = (np.flatnonzero(np.isfinite(p[:, 0])) for p in (place, earlier_place))
    if not len(here) or not len(there):
        return
    radius = np.deg2rad(SAME_PLACE / 3600.0)
    tree = cKDTree(earlier_place[there])
    distance, nearest = tree.query(place[here], distance_upper_bound=radius)
    same = {
        ids[i]: earlier[there[j]]
        for i, j, d in zip(here, nearest, distance, strict=True)
        if np.isfinite(d)
    }
    ids[:] = [same.get(star, star) for star in ids]


def _directions(store: Store) -> NDArray:
    """Unit vectors to the stars, shape (N, 3); NaN where the place is not known."""
    ra, dec = np.deg2rad(store.column("ra")), np.deg2rad(store.column("dec"))
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=1)


def _paired(stores: Sequence[Store], rows: Sequence[NDArray], labels: Sequence[Labels]) -> Sample:
    """Pair every spectrum with its own labels, and with those of its star in other catalogues."""
    entry: list[dict[str, int]] = []  # of each catalogue: a row with labels for every star
    for one in labels:
        known = np.flatnonzero(np.isfinite(one.values).any(axis=1))
        entry.append({one.star_id[i]: int(i) for i in known[::-1]})
    pairs = []
    for k, one in enumerate(labels):
        known = np.isfinite(one.values).any(axis=1)
        for i, star in enumerate(one.star_id):
            for c in range(len(stores)):
                if c == k and known[i]:
                    pairs.append((k, rows[k][i], c, i))
                elif c != k and star in entry[c]:
                    pairs.append((k, rows[k][i], c, entry[c][star]))
    source, row, catalogue, index = np.array(pairs, dtype=int).reshape(-1, 4).T
    start = np.cumsum([0, *(len(one) for one in labels)])[catalogue] + index
    every = lambda name: np.concatenate([getattr(one, name) for one in labels])[start]  # noqa: E731
    rv = np.empty(len(row))
    for k, store in enumerate(stores):
        rv[source == k] = velocities(store)[row[source == k]]
    joined = Labels(labels[0].names, every("values"), every("sigma"), every("star_id"))
    return Sample(tuple(stores), source, row, rv, joined, catalogue)


def split_stars(sample: Sample, config: DataConfig, seed: int, fold: int = 0) -> Splits:
    """Split by star, never by spectrum, in a way that does not depend on the order of rows.

    Parameters
    ----------
    sample : Sample
    config : DataConfig
    seed : int
    fold : int
        With ``config.folds`` = K, the fold 0 ... K - 1 that is kept out; it is then the calibration
        set, and nothing is kept for selection.
    """
    place = np.array([place_of(star, seed) for star in sample.labels.star_id])
    if config.folds:
        out = np.floor(place * config.folds).astype(int) == fold
        none = np.zeros(len(place), dtype=bool)
        return Splits(sample.take(~out), sample.take(none), sample.take(out))
    calibration = place < config.calibration
    selection = ~calibration & (place < config.calibration + config.selection)
    train = ~(calibration | selection)
    return Splits(sample.take(train), sample.take(selection), sample.take(calibration))


def place_of(star: str, seed: int) -> float:
    """Return a number from 0 to 1 that decides which split a star is in."""
    return zlib.crc32(f"{seed}:{star}".encode()) / 2**32
