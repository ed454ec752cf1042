"""Prediction: files, folders, globs or stores in, one catalogue out, a batch at a time."""

from __future__ import annotations

import csv
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

import spectrolabe
from spectrolabe.catalogue import CatalogueWriter, LabelFlag, ResultFlag, build_catalogue
from spectrolabe.errors import InputError
from spectrolabe.models.checkpoint import load
from spectrolabe.models.estimator import Estimate, Estimator
from spectrolabe.models.posterior import LabelPosterior
from spectrolabe.spectra import Frame, Spectrum
from spectrolabe.spectra.store import Store, is_store, open_store
from spectrolabe.surveys.reading import Unread, expand, read_all, shown_progress

__all__ = ["PredictReport", "catalogue_of", "find_model", "predict"]

BATCH = 128  # files or spectra between two parts of the catalogue
FEWEST_PIXELS = 100
PRIOR_FRACTION = 0.9  # of the spread of the training labels: a wider posterior says nothing new
DEFAULT_MODEL = "lamost-dr10"


@dataclass(frozen=True)
class PredictReport:
    """What a prediction did.

    Parameters
    ----------
    catalogue : Path
    stars : int
        Rows that this run added.
    skipped : int
        Inputs that an earlier, interrupted run had finished.
    bad : tuple of (str, str)
        Input and reason of whatever gave no result; also in ``<catalogue>.bad.csv``.
    seconds : float
    """

    catalogue: Path
    stars: int
    skipped: int
    bad: tuple[tuple[str, str], ...]
    seconds: float


def find_model(name: str | Path) -> Path:
    """Return the folder of a model: a path, a name under ``weights/``, or ``default``.

    Raises
    ------
    InputError
        If there is none; the message lists the released ones.
    """
    path = Path(name)
    if path.is_dir():
        return path
    weights = Path(spectrolabe.__file__).parents[2] / "weights"
    wanted = weights / (DEFAULT_MODEL if str(name) == "default" else path.name)
    if (wanted / "card.json").is_file():
        return wanted
    known = sorted(card.parent.name for card in weights.glob("*/card.json"))
    raise InputError(
        name,
        expected="a run, a folder of a model, or 'default'",
        found="none of them",
        fix=f"Released models: {', '.join(known) or 'none'}.",
    )


def predict(
    model: str | Path,
    inputs: Iterable[str | Path],
    output: str | Path,
    *,
    survey: str | None = None,
    together: str = "file",
    visits: bool = False,
    workers: int = 1,
    device: str = "cpu",
    command: str = "",
) -> PredictReport:
    """Predict labels for every star of the inputs and write one catalogue.

    Parameters
    ----------
    model : str or Path
        See `find_model`.
    inputs : iterable of str or Path
        Files, folders, globs and stores.
    output : str or Path
        ``.parquet`` or ``.fits``.
    survey : str, optional
        Read files as this survey instead of recognising them.
    together : {"file", "star"}
        Which spectra make one row: those of a star in one file, or in all inputs. ``star`` holds
        all spectra of the files in memory.
    visits : bool
        One row per visit or exposure instead of the combined spectra.
    workers : int
        Processes that read files.
    device : str
        Where the model runs.
    command : str
        For the provenance.

    Raises
    ------
    InputError
        If the model or an input cannot be found, nothing gives a result, or the disk is full. Bad
        files among good ones are listed in the report instead.
    """
    begin = time.monotonic()
    folder = find_model(model)
    estimator = load(folder).to(device)
    provenance = {
        "model": folder.name,
        "model_sha256": estimator.card["weights_sha256"],
        "spectrolabe": spectrolabe.__version__,
        "together": together,
        "visits": visits,
    }
    if together not in ("file", "star"):
        raise InputError("together", expected="'file' or 'star'", found=repr(together))
    writer = CatalogueWriter(output, provenance)
    sources = _Sources([str(i) for i in inputs], survey, workers, together == "star", writer.done)
    bad: list[tuple[str, str]] = []
    stars = 0
    for part in shown_progress(sources.parts(), sources.total, "predict", lambda part: part.size):
        groups, unusable = _groups(part.spectra, together, visits)
        bad += part.unread + unusable
        table = catalogue_of(estimator, groups) if groups else Table()
        writer.append(table, part.inputs)
        stars += len(table)
    _list_bad(Path(output), bad)
    done = writer.finish(
        {"created": datetime.now(UTC).isoformat("T", "seconds"), "command": command}
    )
    seconds = time.monotonic() - begin
    return PredictReport(done, stars, sources.skipped, tuple(bad), seconds)


def _list_bad(output: Path, bad: Sequence[tuple[str, str]]) -> None:
    path = output.with_name(output.name + ".bad.csv")
    path.unlink(missing_ok=True)
    if bad:
        with path.open("w", newline="") as stream:
            csv.writer(stream).writerows([("input", "reason"), *bad])


class _Part(NamedTuple):
    """Some of the inputs, read: what is done with them, and how many files or spectra they are."""

    inputs: list[str]
    size: int
    spectra: list[Spectrum]
    unread: list[tuple[str, str]]


class _Sources:
    """The inputs, part after part; what an interrupted run has finished is left out."""

    def __init__(
        self,
        inputs: Sequence[str],
        survey: str | None,
        workers: int,
        whole: bool,
        done: frozenset[str],
    ) -> None:
        self.survey, self.workers, self.whole, self.done = survey, workers, whole, done
        self.stores = [open_store(name) for name in inputs if is_store(name)]
        named = [name for name in inputs if not is_store(name)]
        files = expand(named) if named else []
        self.files = [file for file in files if file.path.as_posix() not in done]
        self.skipped = len(files) - len(self.files)
        self.total = len(self.files) + sum(len(store) for store in self.stores)

    def parts(self) -> Iterator[_Part]:
        """Files first, then stores."""
        step = max(len(self.files), 1) if self.whole else BATCH
        for start in range(0, len(self.files), step):
            chosen = self.files[start : start + step]
            spectra: list[Spectrum] = []
            unread: list[tuple[str, str]] = []
            for file, found in read_all(chosen, self.survey, self.workers):
                if isinstance(found, Unread):
                    unread.append((file.name, found.reason))
                else:
                    # files of one name in two folders stay apart
                    spectra += [s.replace(meta={**s.meta, "file": file.name}) for s in found]
            yield _Part([f.path.as_posix() for f in chosen], len(chosen), spectra, unread)
        for store in self.stores:
            yield from self._of_store(store)

    def _of_store(self, store: Store) -> Iterator[_Part]:
        """Rows in the order of their stars, so that a star is never in two parts."""
        star = store.column("star_id")
        order = np.argsort(star, kind="stable")
        begins = np.flatnonzero(np.r_[True, star[order][1:] != star[order][:-1]])
        starts = begins[np.unique(begins // BATCH, return_index=True)[1]]
        for first, last in pairwise([*starts, len(order)]):
            name = f"{store.path.resolve()}:{first}-{last}"
            if name in self.done:
                self.skipped += 1
                continue
            yield _Part([name], int(last - first), [store[int(i)] for i in order[first:last]], [])


def _groups(
    spectra: Sequence[Spectrum], together: str, visits: bool
) -> tuple[list[list[Spectrum]], list[tuple[str, str]]]:
    """Spectra that make one row each, and those that cannot be used."""
    groups: dict[tuple[str, ...], list[Spectrum]] = {}
    bad = []
    for spectrum in spectra:
        if not spectrum.good.any():
            bad.append((spectrum.where, f"{spectrum.spectrum_id}: no usable pixel (all ivar = 0)"))
            continue
        key = (spectrum.star_id,) if together == "star" else (spectrum.where, spectrum.star_id)
        combined = bool(spectrum.meta.get("coadd", True))
        if visits and combined and "coadd" in spectrum.meta:
            continue
        if visits:
            key = (*key, spectrum.spectrum_id)
        groups.setdefault(key, []).append(spectrum)
    return [group if visits else _best(group) for group in groups.values()], bad


def _best(group: list[Spectrum]) -> list[Spectrum]:
    """The combined spectra where there are any: a visit is part of its combination."""
    combined = [s for s in group if s.meta.get("coadd", True) and not s.meta.get("alternative")]
    return combined or group


def catalogue_of(estimator: Estimator, stars: Sequence[Sequence[Spectrum]]) -> Table:
    """Return the catalogue rows of N stars: labels, uncertainties, flags, identity.

    Parameters
    ----------
    estimator : Estimator
    stars : sequence of sequence of Spectrum
        Outer: stars; inner: the spectra of each, with at least one usable pixel.
    """
    estimate = estimator.estimate(stars)
    no_information = _no_information(estimator, estimate)
    return build_catalogue(
        raw=_without(estimate.raw, no_information),
        calibrated=_without(estimate.calibrated, no_information),
        identity=_identity(stars),
        result_flags=_result_flags(estimator, estimate, stars),
        label_flags=_label_flags(estimator, estimate),
    )


def _no_information(estimator: Estimator, estimate: Estimate) -> NDArray:
    spread = estimator.card["training_data"]["label_spread"]
    prior = np.array([spread[name] for name in estimator.names])
    return estimate.calibrated.sigma > PRIOR_FRACTION * prior


def _without(posterior: LabelPosterior, unknown: NDArray) -> LabelPosterior:
    covariance = posterior.covariance.copy()
    covariance[unknown[:, :, None] | unknown[:, None, :]] = np.nan
    mean = np.where(unknown, np.nan, posterior.mean)
    return LabelPosterior(posterior.names, mean, covariance, posterior.star_id)


def _identity(stars: Sequence[Sequence[Spectrum]]) -> dict[str, Any]:
    def joined(values: Iterable[str]) -> str:
        return ";".join(dict.fromkeys(values))

    def number(star: Sequence[Spectrum], key: str) -> float:
        return float(next((s.meta[key] for s in star if s.meta.get(key) is not None), np.nan))

    return {
        "spectrum_id": [joined(s.spectrum_id for s in star) for star in stars],
        "survey": [joined(s.survey for s in star) for star in stars],
        "file": [joined(s.where for s in star) for star in stars],
        "ra": [number(star, "ra") for star in stars],
        "dec": [number(star, "dec") for star in stars],
        "n_spectra": [len(star) for star in stars],
        "snr": [float(np.sqrt(sum(s.snr**2 for s in star))) for star in stars],
        "rv": [float(star[0].rv) for star in stars],
    }


def _result_flags(
    estimator: Estimator, estimate: Estimate, stars: Sequence[Sequence[Spectrum]]
) -> NDArray:
    trained = estimator.card["training_data"]
    flags = np.zeros(len(stars), dtype=np.int64)
    flags[estimate.distance > 1.0] |= ResultFlag.OUT_OF_COVERAGE
    for i, star in enumerate(stars):
        if any(s.frame is not Frame.REST and not np.isfinite(s.rv) for s in star):
            flags[i] |= ResultFlag.NO_VELOCITY
        if max(s.snr for s in star) < trained["snr_range"][0]:
            flags[i] |= ResultFlag.LOW_SNR
        if sum(int(s.good.sum()) for s in star) < FEWEST_PIXELS:
            flags[i] |= ResultFlag.FEW_PIXELS
        if not {s.survey for s in star} <= set(trained["surveys"]):
            flags[i] |= ResultFlag.UNKNOWN_SURVEY
    return flags


def _label_flags(estimator: Estimator, estimate: Estimate) -> NDArray:
    ranges = estimator.card["training_data"]["label_range"]
    low, high = np.transpose([ranges[name] for name in estimator.names])
    mean = estimate.calibrated.mean
    below = np.where(mean < low, LabelFlag.BELOW_TRAINING, 0)
    return below | np.where(mean > high, LabelFlag.ABOVE_TRAINING, 0)
