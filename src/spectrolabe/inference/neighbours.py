"""A table beside the catalogue: the training stars that are most like each star of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from astropy.table import Column, Table

from spectrolabe.inference.rows import identity_of
from spectrolabe.labels import LABELS
from spectrolabe.models.estimator import Neighbours
from spectrolabe.spectra import Spectrum

__all__ = ["SUFFIX", "neighbour_table"]

SUFFIX = ".neighbours.parquet"  # after the name of the catalogue without its own suffix


def neighbour_table(stars: Sequence[Sequence[Spectrum]], neighbours: Neighbours) -> Table:
    """Return a row for each of N stars and each of its neighbours, the nearest first.

    Parameters
    ----------
    stars : sequence of sequence of Spectrum
    neighbours : Neighbours
        Of the same stars.
    """
    identity = identity_of(stars)
    count = neighbours.star_id.shape[1]
    file, star, spectra = (
        np.repeat(np.array(values, dtype=str), count)
        for values in (identity["file"], [s[0].star_id for s in stars], identity["spectrum_id"])
    )
    labels = neighbours.labels
    columns = [
        _column("star_id", star, "Identifier of the star"),
        _column("spectrum_id", spectra, "Identifiers of its spectra, joined by ';'"),
        _column("file", file, "Files of its spectra, joined by ';'"),
        _column("rank", np.tile(np.arange(1, count + 1, dtype=np.int32), len(stars)), "1: nearest"),
        _column("neighbour_id", labels.star_id, "Identifier of the training star"),
        _column(
            "distance",
            neighbours.distance.ravel().astype(np.float32),
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
