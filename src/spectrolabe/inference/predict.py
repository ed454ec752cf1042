"""Prediction: files, folders, globs or stores in, one catalogue out, a batch at a time."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from astropy.table import Table

from spectrolabe.inference.inputs import Selection
from spectrolabe.inference.inputs import groups_of as _groups  # noqa: F401  the name of the tests
from spectrolabe.inference.neighbours import NeighbourTable
from spectrolabe.inference.photometry import PhotometryTable, check_model
from spectrolabe.inference.rows import catalogue_of
from spectrolabe.inference.run import Bad, RunReport, run
from spectrolabe.models.checkpoint import load
from spectrolabe.models.released import find_model
from spectrolabe.spectra import Spectrum

__all__ = ["PredictReport", "find_model", "predict"]

BATCH = 128  # files or spectra between two parts of the catalogue

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

    Raises
    ------
    InputError
        If the model or an input cannot be found, nothing gives a result, or the disk is full. Bad
        files among good ones are listed in the report instead.
    """
    begin = time.monotonic()
    folder = find_model(model)
    estimator = load(folder).to(device)
    selection = Selection.of(inputs, survey, together, visits, workers)
    provenance: dict[str, Any] = {
        "model": folder.name,
        "model_sha256": estimator.card["weights_sha256"],
    }
    if neighbours:  # so that a run cannot go on with others, or without
        provenance["neighbours"] = neighbours
    known = None
    if photometry is not None:
        check_model(estimator.names, photometry)
        known = PhotometryTable(photometry)
        provenance |= known.provenance
    beside = NeighbourTable(output, provenance) if neighbours else None

    def rows(stars: list[list[Spectrum]]) -> tuple[Table, Bad]:
        estimate = estimator.estimate(stars)
        if beside is not None:
            beside.append(stars, estimator.neighbours(estimate, neighbours))
        table = catalogue_of(estimator, stars, estimate)
        return (known.with_distances(table, stars, estimate.calibrated) if known else table), []

    report = run(
        selection,
        output,
        provenance,
        rows,
        title="predict",
        batch=BATCH,
        command=command,
        begin=begin,
    )
    if beside is not None:
        beside.finish({"catalogue": report.catalogue.name, "command": command})
    return report
