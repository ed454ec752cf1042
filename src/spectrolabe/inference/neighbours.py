"""A table beside the catalogue: the training stars that are most like each star of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Column, Table

from spectrolabe.catalogue import CatalogueWriter
from spectrolabe.inference.rows import identity_of
from spectrolabe.labels import LABELS
from spectrolabe.models.estimator import Neighbours
from spectrolabe.spectra import Spectrum

__all__ = ["SUFFIX", "NeighbourTable"]

SUFFIX = ".neighbours.parquet"  # after the name of the catalogue without its own suffix


class NeighbourTable:
    """``<catalogue>.neighbours.parquet``: a row for each star and neighbour, the nearest first.

    It grows in parts as the catalogue does. A star that an interrupted run has written here, but
    not there, is not written again.

    Parameters
    ----------
    catalogue : str or Path
    provenance : Mapping
        As of `CatalogueWriter`.
    """

    def __init__(self, catalogue: str | Path, provenance: Mapping[str, Any]) -> None:
        self._writer = CatalogueWriter(Path(catalogue).with_suffix(SUFFIX), provenance)

    def append(self, stars: Sequence[Sequence[Spectrum]], neighbours: Neighbours) -> None:
        """Write the neighbours of N stars.

        Parameters
        ----------
        stars : sequence of sequence of Spectrum
        neighbours : Neighbours
            Of the same stars.
        """
        identity = identity_of(stars)
        ids = [star[0].star_id for star in stars]
        keys = list(zip(identity["file"], ids, identity["spectrum_id"], strict=True))
        new = {" | ".join(key): i for i, key in enumerate(keys)}
        rows = [i for key, i in new.items() if key not in self._writer.done]
        if rows:
            table = _table(neighbours, rows, [keys[i] for i in rows])
            self._writer.append(table, [key for key in new if key not in self._writer.done])

    def finish(self, extra: Mapping[str, Any]) -> Path:
        """Merge the parts; see `CatalogueWriter.finish`."""
        return self._writer.finish(extra)


def _table(
    neighbours: Neighbours, rows: Sequence[int], keys: Sequence[tuple[str, str, str]]
) -> Table:
    """One row for each of these stars and each of its neighbours."""
    count = neighbours.star_id.shape[1]
    of_labels = (count * np.asarray(rows)[:, None] + np.arange(count)).ravel()
    labels = neighbours.labels.take(of_labels)
    file, star, spectra = (
        np.repeat(np.array(part, dtype=str), count) for part in zip(*keys, strict=True)
    )
    columns = [
        _column("star_id", star, "Identifier of the star"),
        _column("spectrum_id", spectra, "Identifiers of its spectra, joined by ';'"),
        _column("file", file, "Files of its spectra, joined by ';'"),
        _column("rank", np.tile(np.arange(1, count + 1, dtype=np.int32), len(rows)), "1: nearest"),
        _column("neighbour_id", labels.star_id, "Identifier of the training star"),
        _column(
            "distance",
            neighbours.distance[rows].ravel().astype(np.float32),
            "Distance in the embedding, in units of the coverage limit",
        ),
    ]
    for i, name in enumerate(labels.names):
        values = labels.values[:, i].astype(np.float32)
        columns.append(_column(name, values, f"{LABELS[name].description}, as it was taught"))
        columns[-1].unit = LABELS[name].unit or None
    return Table(columns)


def _column(name: str, values: np.ndarray, description: str) -> Column:
    return Column(values, name=name, description=description)
