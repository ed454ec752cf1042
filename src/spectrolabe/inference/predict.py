"""Prediction: files, folders, globs or stores in, one catalogue out, a batch at a time."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

from spectrolabe.inference.inputs import Selection
from spectrolabe.inference.inputs import groups_of as _groups  # noqa: F401  the name of the tests
from spectrolabe.models.released import find_model
from spectrolabe.inference.rows import catalogue_of
from spectrolabe.inference.run import RunReport, run
from spectrolabe.models.checkpoint import load

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

    Raises
    ------
    InputError
        If the model or an input cannot be found, nothing gives a result, or the disk is full. Bad
        files among good ones are listed in the report instead.
    """
    begin = time.monotonic()
    folder = find_model(model)
    estimator = load(folder).to(device)
    return run(
        Selection.of(inputs, survey, together, visits, workers),
        output,
        {"model": folder.name, "model_sha256": estimator.card["weights_sha256"]},
        lambda stars: (catalogue_of(estimator, stars), []),
        title="predict",
        batch=BATCH,
        command=command,
        begin=begin,
    )
