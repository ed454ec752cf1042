"""Prediction: files, folders, globs or stores in, one catalogue out, a batch at a time."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from astropy.table import Table, vstack

from spectrolabe.errors import InputError
from spectrolabe.inference.distributed import check_scheduler
from spectrolabe.inference.inputs import Selection
from spectrolabe.inference.inputs import groups_of as _groups  # noqa: F401  the name of the tests
from spectrolabe.inference.job import Rows
from spectrolabe.inference.neighbours import SUFFIX, neighbour_table
from spectrolabe.inference.photometry import PhotometryTable, check_model
from spectrolabe.inference.rows import catalogue_of
from spectrolabe.inference.run import RunReport, run
from spectrolabe.models.checkpoint import load
from spectrolabe.models.estimator import Estimator
from spectrolabe.models.released import find_model
from spectrolabe.spectra import Spectrum

__all__ = ["PredictReport", "find_model", "predict"]

BATCH = 128  # files or spectra of a part of the catalogue

PredictReport = RunReport


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
    neighbours: int = 0,
    photometry: str | Path | None = None,
    scheduler: str | None = None,
) -> RunReport:
    """Predict labels for every star of the inputs and write one catalogue.

    Parameters
    ----------
    model : str or Path
        See `find_model`.
    inputs : iterable of str or Path
        Files, folders, globs and stores.
    output : str or Path
        ``.parquet`` or ``.fits``.
    survey, together, visits, workers
        See `spectrolabe.inference.inputs.Selection`.
    device : str
        Where the model runs.
    command : str
        For the provenance.
    neighbours : int
        Training stars that are listed for each star, in ``<catalogue>.neighbours.parquet``.
    photometry : str or Path, optional
        Table of `spectrolabe.inference.photometry.PhotometryTable`: adds distances.
    scheduler : str, optional
        Where shards of the inputs are made: ``local``, for a Dask cluster of ``workers`` processes
        on this machine, or address or file of a Dask scheduler.

    Raises
    ------
    InputError
        If the model or an input cannot be found, nothing gives a result, the disk is full or a
        scheduler is lost. Bad files among good ones are listed in the report instead.
    """
    begin = time.monotonic()
    check_scheduler(scheduler, workers)
    work = Prediction(
        find_model(model).resolve(),
        device,
        neighbours,
        None if photometry is None else Path(photometry).absolute(),
    )
    return run(
        work,
        Selection.of(inputs, survey, together, visits, workers),
        output,
        title="predict",
        batch=BATCH,
        command=command,
        begin=begin,
        beside=SUFFIX if neighbours else None,
        scheduler=scheduler,
    )


@dataclass(frozen=True)
class Prediction:
    """What is to be predicted; see `predict`."""

    model: Path
    device: str
    neighbours: int
    photometry: Path | None

    def open(self) -> _Predictor:
        """Load the model and the photometry."""
        estimator = load(self.model).to(self.device)
        if self.photometry is None:
            return _Predictor(self, estimator, None)
        check_model(estimator.names, self.photometry)
        return _Predictor(self, estimator, PhotometryTable(self.photometry))


@dataclass(frozen=True)
class _Predictor:
    """Spectra of stars to rows of the catalogue."""

    work: Prediction
    estimator: Estimator
    known: PhotometryTable | None

    @property
    def provenance(self) -> dict[str, Any]:
        """Model and photometry; neighbours, as a run cannot go on with others, or without."""
        return {
            "model": self.work.model.name,
            "model_sha256": self.estimator.card["weights_sha256"],
            **({"neighbours": self.work.neighbours} if self.work.neighbours else {}),
            **(self.known.provenance if self.known is not None else {}),
        }

    def __call__(self, stars: list[list[Spectrum]], first: bool) -> Rows:
        """Return the rows of stars, and of their neighbours.

        Raises
        ------
        Exception
            If nothing but unforeseen errors comes of several stars: the fault is not theirs.
        """
        try:
            return self._rows(stars, first)
        except (InputError, OSError):  # of the photometry, or of the machine
            raise
        except Exception as error:  # one star must never stop the others
            if len(stars) == 1:
                reason = f"cannot be predicted ({type(error).__name__}: {error})"
                return Rows(Table(), [(stars[0][0].where, f"{stars[0][0].star_id}: {reason}")])
            each = [self([star], False) for star in stars]
            good = [rows for rows in each if len(rows.table)]
            if not good:
                raise
            beside = [rows.beside for rows in good if rows.beside is not None]
            return Rows(
                vstack([rows.table for rows in good], metadata_conflicts="silent"),
                [bad for rows in each for bad in rows.bad],
                vstack(beside, metadata_conflicts="silent") if beside else None,
            )

    def _rows(self, stars: list[list[Spectrum]], first: bool) -> Rows:
        estimate = self.estimator.estimate(stars)
        beside = None
        if self.work.neighbours:
            near = self.estimator.neighbours(estimate, self.work.neighbours)
            beside = neighbour_table(stars, near)
        table = catalogue_of(self.estimator, stars, estimate)
        if self.known is not None:
            table = self.known.with_distances(table, stars, estimate.calibrated, first)
        return Rows(table, [], beside)
