"""Native files of the surveys for stars of the synthetic sky: one module a survey.

Each module has two functions. ``write(folder, observed, batch)`` writes the spectra of some stars
in the layout of the survey and returns the index of what it wrote; ``write_labels(folder, index,
labels)`` writes the survey's own label catalogue. A writer is given what an observer would know of
a star, a `Target`, and what the spectrograph recorded, and no more: neither labels nor velocities
of the simulation can reach a file, for they never reach a writer. Identifiers are made of positions
and of running numbers that `spectrolabe.sky.simulate` draws at random.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from astropy.table import Table

if TYPE_CHECKING:
    from spectrolabe.sky.observing import Exposure

__all__ = ["INDEX", "Observed", "Target", "Writer", "get"]

INDEX = ("number", "path", "spectrum_id", "entry", "visit", "snr", "rv_pipeline")
"""Columns of every index, one row for each spectrum that a reader returns.

``number`` is that of the star, ``path`` is relative to the survey's folder, ``spectrum_id`` is the
reader's, ``entry`` identifies the row of the label catalogue, ``visit`` counts the star's exposures
from 1 and is 0 for a combination of all, ``snr`` is per pixel, and ``rv_pipeline`` is the velocity
that the survey measured, km/s. Further columns, the same for all rows of one entry, are what the
label catalogue repeats of the target and of the observation.
"""


@dataclass(frozen=True)
class Target:
    """What is known of a star before any spectrum is taken.

    Parameters
    ----------
    ra, dec : float
        ICRS, degrees.
    gaia_dr3_source_id : int
    magnitudes : Mapping of str to float
        Observed magnitudes: G, BP, RP (Gaia), J, H, K (2MASS), g, r, i (Pan-STARRS).
    parallax, parallax_error : float
        As measured, mas.
    ebv : float
        Reddening from a map, mag.
    """

    ra: float
    dec: float
    gaia_dr3_source_id: int
    magnitudes: Mapping[str, float]
    parallax: float
    parallax_error: float
    ebv: float


@dataclass(frozen=True)
class Observed:
    """One star as a survey saw it.

    Parameters
    ----------
    target : Target
    exposures : sequence of Exposure
        In the order in which they were taken.
    number : int
        Of the star in the survey, in an order that says nothing of the star.
    running : sequence of int
        Running number in the survey of each exposure, in an order that says nothing either.
    """

    target: Target
    exposures: Sequence[Exposure]
    number: int
    running: Sequence[int]


class Writer(Protocol):
    """What every module here has."""

    def write(self, folder: Path, observed: Sequence[Observed], batch: int) -> Table:
        """Write the spectra of some stars below ``folder``; return the index, see `INDEX`.

        ``batch`` counts the calls for one folder and is part of the name of files of many stars.
        """

    def write_labels(self, folder: Path, index: Table, labels: Table) -> Path:
        """Write the label catalogue: rows of ``labels`` belong to the rows of ``index``.

        ``index`` has one row for each entry. Returns the path of the catalogue.
        """


def get(survey: str) -> Writer:
    """Return the writer of a survey, by the name that `spectrolabe.surveys` gives it."""
    module = {"lamost_lrs": "lamost", "sdss_boss": "boss"}.get(survey, survey)
    return importlib.import_module(f"{__name__}.{module}")
