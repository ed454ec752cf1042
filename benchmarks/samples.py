"""The real samples that a model is tried on: LAMOST DR10 and DR1, MILES, and LAMOST MRS.

They are the public spectra and labels described in ``docs/results/lamost.md``; the folder of each
holds the native files and ``labels.csv``.
"""

from __future__ import annotations

import csv
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from spectrolabe import surveys
from spectrolabe.labels import Labels
from spectrolabe.spectra import Spectrum

__all__ = ["Sample", "in_range", "lamost", "lamost_mrs", "miles", "repeat_pairs"]

MILES_KEYWORDS = """MEDIUM = "air"
FRAME = "rest"
RV = "unknown"
WAVEUNIT = "Angstrom"
FWHM = 2.5
SNR = 100
"""
MILES_SIGMA = (100.0, 0.2, 0.1)  # K, dex, dex: scatter of the compilation (Cenarro+ 2007)


SKY_RANGE = {"teff": (4100.0, 7600.0), "logg": (0.5, 4.9), "fe_h": (-2.5, 0.5)}


@dataclass(frozen=True, eq=False)
class Sample:
    """N stars with labels.

    Parameters
    ----------
    spectra : list of list of Spectrum
        One inner list a star.
    labels : Labels
        Of the same stars, in the same order.
    snr : ndarray, shape (N,)
        S/N in the g band of the catalogue; NaN where there is none.
    obsid : ndarray of str, shape (N,)
    """

    spectra: list[list[Spectrum]]
    labels: Labels
    snr: NDArray
    obsid: NDArray

    def __len__(self) -> int:
        return len(self.spectra)

    def take(self, rows: NDArray) -> Sample:
        """Return these stars (indices or a boolean array)."""
        index = np.arange(len(self))[rows]
        spectra = [self.spectra[i] for i in index]
        return Sample(spectra, self.labels.take(index), self.snr[index], self.obsid[index])


def lamost(folder: Path, split: str = "", obsids: set[str] | None = None) -> Sample:
    """Return LAMOST low-resolution spectra with LASP labels, one row a spectrum.

    Parameters
    ----------
    folder : Path
        With ``labels.csv`` and the files that it names.
    split : str, optional
        Only this split; all when empty.
    obsids : set of str, optional
        Only these.
    """
    found = surveys.read_labels(folder / "labels.csv", "lamost_lrs")
    use = np.ones(len(found), bool) if not split else found.split == split
    if obsids is not None:
        use &= np.isin(found.keys["obsid"], sorted(obsids))
    rows = np.flatnonzero(use)
    labels = found.labels.select(("teff", "logg", "fe_h")).take(rows)
    spectra = [
        [s.replace(star_id=str(star)) for s in surveys.read(folder / file)]
        for file, star in zip(found.keys["file"][rows], labels.star_id, strict=True)
    ]
    return Sample(spectra, labels, found.snr[rows], found.keys["obsid"][rows])


def repeat_pairs(folder: Path) -> list[tuple[str, str]]:
    """Return the obsids of pairs of spectra of one star."""
    with (folder / "repeat_pairs.csv").open(newline="") as stream:
        return [(row["obsid_a"], row["obsid_b"]) for row in csv.DictReader(stream)]


def miles(folder: Path) -> Sample:
    """Return MILES stars; what their files do not say comes from a ``spectra.toml``."""
    table = Table.read(folder / "labels.csv")
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "spectra.toml").write_text(MILES_KEYWORDS)
        spectra = []
        for row in table:
            link = Path(name) / str(row["file"])
            os.symlink((folder / "spectra" / link.name).resolve(), link)
            spectra.append([s.replace(star_id=str(row["name"])) for s in surveys.read(link)])
    names = ("teff", "logg", "fe_h")
    values = np.transpose([np.asarray(table[key], dtype=float) for key in names])
    sigma = np.broadcast_to(MILES_SIGMA, values.shape)
    labels = Labels(names, values, sigma, np.asarray(table["name"], dtype=str))
    return Sample(spectra, labels, np.full(len(table), np.nan), labels.star_id)


def in_range(sample: Sample) -> Sample:
    """Return the stars whose labels are such as the synthetic sky has."""
    inside = [
        (sample.labels[name] > low) & (sample.labels[name] < high)
        for name, (low, high) in SKY_RANGE.items()
    ]
    return sample.take(np.logical_and.reduce(inside))


def lamost_mrs(folder: Path) -> tuple[list[list[Spectrum]], list[list[Spectrum]]]:
    """Return the two co-added arms of every night, and the low-resolution spectra."""
    nights = [
        [s for s in surveys.read(file) if s.meta["coadd"] and s.good.any()]
        for file in sorted(folder.glob("med-*.fits.gz"))
    ]
    low = [surveys.read(file) for file in sorted(folder.glob("spec-*.fits.gz"))]
    return [night for night in nights if night], low
