"""Fits of many stars: files, folders, globs or stores in, one catalogue out."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from astropy.table import Table, vstack

from spectrolabe.catalogue import ResultFlag
from spectrolabe.errors import InputError
from spectrolabe.homogenise.calibration import Calibration, core_columns
from spectrolabe.inference.distributed import check_scheduler
from spectrolabe.inference.fit import fit
from spectrolabe.inference.fit_files import StarFiles
from spectrolabe.inference.fit_rows import catalogue_of_fit
from spectrolabe.inference.fit_start import Start, start_from
from spectrolabe.inference.gather import Setup
from spectrolabe.inference.inputs import Selection
from spectrolabe.inference.job import Bad, Rows
from spectrolabe.inference.pieces import MODEL_ERROR, Cutting
from spectrolabe.inference.priors import Priors
from spectrolabe.inference.result import FitResult
from spectrolabe.inference.run import RunReport, run
from spectrolabe.labels import Labels
from spectrolabe.models.emulator import Emulator, load_emulator
from spectrolabe.models.released import find_emulators
from spectrolabe.spectra import Spectrum, degrade

__all__ = ["fit_files"]

BATCH = {"lm": 64, "cma": 4, "mcmc": 4}  # files or spectra of a part of the catalogue


def fit_files(
    emulator: str | Path,
    inputs: Iterable[str | Path],
    output: str | Path,
    *,
    labels: Sequence[str] | None = None,
    method: str = "lm",
    start: str | Path | None = None,
    priors: str | Mapping[str, tuple[float, float]] | Priors = "weak",
    fixed: Mapping[str, float] | None = None,
    continuum: int | None = None,
    v_broad: bool | None = None,
    model_error: float | tuple[float, float] = MODEL_ERROR,
    seed: int = 0,
    calibration: str | Path | None = None,
    spectra: str | Path | None = None,
    plot: str | Path | None = None,
    survey: str | None = None,
    together: str = "file",
    visits: bool = False,
    workers: int = 1,
    command: str = "",
    scheduler: str | None = None,
) -> RunReport:
    """Fit every star of the inputs and write one catalogue.

    Parameters
    ----------
    emulator : str or Path
        See `spectrolabe.models.released.find_emulators`.
    inputs : iterable of str or Path
        Files, folders, globs and stores.
    output : str or Path
        ``.parquet`` or ``.fits``.
    labels, method, priors, fixed, continuum, v_broad, model_error, seed
        See `spectrolabe.inference.fit.fit`.
    start : str or Path, optional
        An encoder, or a table of labels, see `spectrolabe.inference.fit_start`.
    calibration : str or Path, optional
        File of a `Calibration`; ``raw_<label>`` stays what the fit found.
    spectra, plot : str or Path, optional
        Folders for the model spectra beside the data, and for figures: a file a star.
    survey, together, visits, workers
        See `spectrolabe.inference.inputs.Selection`.
    command : str
        For the provenance.
    scheduler : str, optional
        See `spectrolabe.inference.predict.predict`; without ``spectra`` and ``plot``.

    Raises
    ------
    InputError
        If an option, a model or an input is wrong, nothing gives a result, the disk is full or a
        scheduler is lost. Bad files and stars among good ones are listed in the report instead.
    """
    begin = time.monotonic()
    selection = Selection.of(inputs, survey, together, visits, workers)
    check_scheduler(scheduler, workers)
    if scheduler is not None and (spectra is not None or plot is not None):
        raise InputError(
            "--scheduler",
            expected="no --spectra or --plot: the name of a star's file depends on those before it",
            found="one of them",
            fix="Fit the stars that you want to look at without it.",
        )
    options = {
        "labels": labels,
        "method": method,
        "fixed": dict(fixed or {}),
        "continuum": continuum,
        "v_broad": v_broad,
        "model_error": model_error,
        "seed": seed,
    }
    work = Fitting(
        tuple(folder.resolve() for folder in find_emulators(emulator)),
        options,
        priors if isinstance(priors, str | Priors) else dict(priors),
        start if start is None or not Path(start).exists() else Path(start).absolute(),
        None if calibration is None else Path(calibration).absolute(),
        (spectra, plot, together == "star", visits),
    )
    return run(
        work,
        selection,
        output,
        title="fit",
        batch=BATCH.get(method, 1),
        command=command,
        slow=method != "lm",
        begin=begin,
        scheduler=scheduler,
    )


@dataclass(frozen=True)
class Fitting:
    """What is to be fitted, and how; see `fit_files`."""

    emulators: tuple[Path, ...]
    options: Mapping[str, Any]
    priors: str | Mapping[str, tuple[float, float]] | Priors
    start: str | Path | None
    calibration: Path | None
    files: tuple[str | Path | None, str | Path | None, bool, bool]

    def open(self) -> _Fitter:
        """Load the emulators and see what is wrong with the options."""
        emulators = [load_emulator(folder) for folder in self.emulators]
        given = self.options
        setup = Setup.of(
            emulators, given["labels"], given["fixed"], self.priors, 1, given["method"]
        )
        cutting = Cutting(given["continuum"], given["model_error"])
        scale = _calibration(self.calibration, setup)
        start = None if self.start is None else start_from(self.start)
        options = {**given, "priors": setup.priors, "model_error": cutting.errors}
        provenance = {
            "emulators": {
                folder.name: one.card["weights_sha256"]
                for folder, one in zip(self.emulators, emulators, strict=True)
            },
            **options,
            "labels": list(setup.names),
            "priors": {k: v for k, v in setup.priors.describe().items() if k in setup.names},
            "start": "templates" if start is None else start.provenance,
            "calibration": None if self.calibration is None else _named(self.calibration),
        }
        return _Fitter(emulators, options, start, scale, StarFiles(*self.files), provenance)


@dataclass
class _Fitter:
    """Spectra of stars to rows of the catalogue, with the files of each star beside."""

    emulators: Sequence[Emulator]
    options: Mapping[str, Any]
    start: Start | None
    calibration: Calibration | None
    files: StarFiles
    provenance: Mapping[str, Any]

    def __call__(self, stars: list[list[Spectrum]], first: bool) -> Rows:
        """Return the rows of stars, and which gave no result and why.

        Raises
        ------
        Exception
            If nothing but unforeseen errors comes of several stars: the fault is not theirs.
        """
        highest = min(emulator.resolution for emulator in self.emulators)
        stars = [[degrade(spectrum, highest) for spectrum in star] for star in stars]
        start = None if self.start is None else self.start(stars, first)
        tables, bad, errors = [], Bad(), list[Exception]()
        for rows, result in self._results(stars, start):
            own = [stars[n] for n in rows]
            if isinstance(result, Exception):
                bad.append((own[0][0].where, f"{own[0][0].star_id}: {_reason(result)}"))
                errors.append(result)
                continue
            table = catalogue_of_fit(result, own, self.calibration)
            bad += _without_result(table)
            self.files.write(result, own, table, self.emulators)
            tables.append(table)
        if 1 < len(stars) == sum(not isinstance(error, InputError) for error in errors):
            raise errors[0]
        return Rows(vstack(tables, metadata_conflicts="silent") if tables else Table(), bad)

    def _results(
        self, stars: list[list[Spectrum]], start: Labels | None
    ) -> Iterator[tuple[list[int], FitResult | Exception]]:
        """Stars with their fits, all at once; one by one, or what went wrong, if that fails."""
        every = list(range(len(stars)))
        result = self._result(stars, start)
        if not isinstance(result, Exception) or len(stars) == 1:
            yield every, result
            return
        for n in every:
            yield [n], self._result([stars[n]], None if start is None else start.take([n]))

    def _result(self, stars: list[list[Spectrum]], start: Labels | None) -> FitResult | Exception:
        try:
            return fit(stars, self.emulators, start=start, **self.options)
        except Exception as error:  # one star must never stop the others
            return error


def _reason(error: Exception) -> str:
    if isinstance(error, InputError):
        return str(error)
    return f"cannot be fitted ({type(error).__name__}: {' '.join(str(error).split())})"


def _without_result(table: Table) -> Bad:
    """Stars of which a spectrum was there, but no label could be found."""
    return [
        (str(row["file"]), f"{row['star_id']}: {row['messages'] or 'no label could be inferred'}")
        for row in table
        if row["result_flags"] & ResultFlag.NO_RESULT
    ]


def _calibration(path: str | Path | None, setup: Setup) -> Calibration | None:
    if path is None:
        return None
    core_columns(setup.names)
    return Calibration.load(path)


def _named(path: Path) -> dict[str, str]:
    return {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
