"""One scale for several surveys: labels of a reference survey, on all spectra of its stars.

Pipelines disagree, so a model taught by each survey's own labels learns as many scales as there are
surveys. Stars that a reference survey has observed as well carry its labels into the others'
spectra (Ho et al. 2017, ApJ 836, 5, for LAMOST and APOGEE).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from spectrolabe.errors import InputError
from spectrolabe.labels import Labels
from spectrolabe.spectra import Spectrum
from spectrolabe.spectra.store import Store, StoreWriter, open_store
from spectrolabe.surveys import get, read_labels
from spectrolabe.surveys.join import LabelJoin, UnusableError

__all__ = ["SurveyData", "TransferReport", "transfer_labels"]

RADIUS = 1.0  # arcsec within which two positions are one star
COMPARABLE = 1.15  # ratio of resolutions up to which arms are one spectrum


@dataclass(frozen=True)
class SurveyData:
    """What is there of one survey.

    Parameters
    ----------
    store : path
        Of its spectra, made with its catalogue.
    catalogue : path
        Its own label catalogue, with positions.
    """

    store: str | Path
    catalogue: str | Path


@dataclass(frozen=True)
class TransferReport:
    """What a transfer did.

    Parameters
    ----------
    store : Path
    spectra, stars : dict of str to int
        Written, by survey.
    unknown : dict of str to int
        Spectra of stars that the reference does not know well, by survey; they are left out.
    """

    store: Path
    spectra: dict[str, int]
    stars: dict[str, int]
    unknown: dict[str, int]


def transfer_labels(
    surveys: Mapping[str, SurveyData],
    reference: str,
    names: Sequence[str],
    output: str | Path,
) -> TransferReport:
    """Write one store of several surveys' spectra with the labels of the reference.

    Stars are matched by position. Of a survey that gives combinations and visits, the combination
    is taken. Arms of one exposure in which R is nearly the same become one spectrum, each arm over
    its mean. All spectra of a star get the star id that the reference has for it, so that splits by
    star hold.

    Parameters
    ----------
    surveys : mapping of str to SurveyData
        By name; the reference among them.
    reference : str
    names : sequence of str
        Labels to take, of those in the reference's catalogue.
    output : str or Path
        Folder of the store, a new one.

    Raises
    ------
    InputError
        If the reference is not among the surveys, a label is not in its catalogue, or a catalogue
        has no positions.
    """
    if reference not in surveys:
        raise InputError("reference", expected=f"one of {', '.join(surveys)}", found=reference)
    known = _Reference.read(reference, surveys[reference].catalogue, names)
    counts: dict[str, list[int]] = {}
    with StoreWriter(output, names) as writer:
        for survey, data in surveys.items():
            counts[survey] = _append(writer, survey, data, known)
    column = {name: numbers for name, numbers in counts.items()}
    return TransferReport(
        Path(output),
        *({name: numbers[k] for name, numbers in column.items()} for k in range(3)),
    )


@dataclass(frozen=True)
class _Reference:
    """The good rows of the reference's catalogue."""

    tree: cKDTree
    labels: Labels

    @classmethod
    def read(cls, survey: str, path: str | Path, names: Sequence[str]) -> _Reference:
        table = read_labels(path, survey)
        labels = table.labels.select(names)
        good = np.flatnonzero(table.good & np.isfinite(labels.values).any(axis=1))
        if not len(good):
            raise InputError(path, expected="rows that pass the survey's cut", found="none")
        return cls(cKDTree(_positions(survey, path)[good]), labels.take(good))

    def rows(self, positions: NDArray) -> NDArray:
        """Return the row of each position, -1 where there is none."""
        radius = np.deg2rad(RADIUS / 3600.0)
        distance, row = self.tree.query(np.nan_to_num(positions), distance_upper_bound=radius)
        return np.where(np.isfinite(distance), row, -1)


def _positions(survey: str, path: str | Path) -> NDArray:
    """Unit vectors of the rows of a catalogue, shape (N, 3)."""
    table: Table = get(survey).table(path)
    lower = {name.lower(): name for name in table.colnames}
    pairs = (("ra", "dec"), ("target_ra", "target_dec"))
    found = next((pair for pair in pairs if set(pair) <= set(lower)), None)
    if found is None:
        raise InputError(
            path, expected="columns ra and dec", found=", ".join(table.colnames[:12]) + " ..."
        )
    ra, dec = (np.deg2rad(np.asarray(table[lower[name]], dtype=float)) for name in found)
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=1)


def _append(writer: StoreWriter, survey: str, data: SurveyData, known: _Reference) -> list[int]:
    """Append the spectra of one survey; the numbers of spectra, of stars, and left out."""
    store = open_store(data.store)
    join = LabelJoin(read_labels(data.catalogue, survey), data.catalogue)
    row_of = known.rows(_positions(survey, data.catalogue))
    groups: dict[tuple[str, str], list[Spectrum]] = {}
    unknown = 0
    for spectrum in _combined(store):
        try:
            own = join.row(spectrum)
        except UnusableError:
            own = None
        row = -1 if own is None else int(row_of[own])
        if row < 0:
            unknown += 1
            continue
        star = str(known.labels.star_id[row])
        groups.setdefault((star, _exposure(spectrum)), []).append(spectrum)
    written, stars = 0, set()
    number = {str(star): i for i, star in enumerate(known.labels.star_id)}
    for (star, _), arms in groups.items():
        i = number[star]
        for spectrum, snr in _joined(arms):
            identifier = f"{survey}:{spectrum.spectrum_id}"
            spectrum = spectrum.replace(star_id=star, spectrum_id=identifier)
            writer.append(
                spectrum,
                values=known.labels.values[i],
                sigma=known.labels.sigma[i],
                file=identifier,
                snr=snr,
                good=True,
            )
            written += 1
            stars.add(star)
    return [written, len(stars), unknown]


def _combined(store: Store) -> list[Spectrum]:
    """Return what a prediction would use: no visits where there is a combination of them."""
    spectra = [store[i] for i in range(len(store))]
    return [s for s in spectra if s.meta.get("coadd", True) and not s.meta.get("alternative")]


def _exposure(spectrum: Spectrum) -> str:
    """What the arms of one exposure have in common."""
    meta: Mapping[str, Any] = spectrum.meta
    for arm in ("ccd", "camera"):
        if arm in meta:
            return spectrum.spectrum_id.removesuffix(str(meta[arm]))
    return spectrum.spectrum_id


def _joined(arms: Sequence[Spectrum]) -> list[tuple[Spectrum, float]]:
    """Return arms as one spectrum if they do not overlap and R is nearly the same, with the S/N."""
    arms = sorted(arms, key=lambda arm: float(arm.wavelength[0]))
    resolution = [float(np.median(arm.resolution)) for arm in arms]
    apart = all(one.wavelength[-1] < other.wavelength[0] for one, other in pairwise(arms))
    if len(arms) == 1 or not apart or max(resolution) > COMPARABLE * min(resolution):
        return [(arm, arm.snr) for arm in arms]

    # each arm over its own mean, as a model sees it alone: arms in counts are not on one scale
    scale = [float(np.mean(arm.flux[arm.good], dtype=float)) for arm in arms]
    if min(scale) <= 0:
        return [(arm, arm.snr) for arm in arms]
    fields = {
        "wavelength": np.concatenate([arm.wavelength for arm in arms]),
        "flux": np.concatenate([a.flux / s for a, s in zip(arms, scale, strict=True)]),
        "ivar": np.concatenate([a.ivar * s**2 for a, s in zip(arms, scale, strict=True)]),
        "resolution": np.concatenate([np.broadcast_to(arm.resolution, len(arm)) for arm in arms]),
    }
    snr = float(np.sqrt(sum(arm.snr**2 for arm in arms)))  # of all together, as in a catalogue
    return [(arms[0].replace(**fields, spectrum_id=_exposure(arms[0])), snr)]
