"""A synthetic sky: a population, what the surveys saw of it in their own files, and the truth.

The folder that is written looks like an archive::

    sky/apogee/stars/apo25m/120-44/apStar-dr17-2M....fits   native spectra
    sky/apogee/allStar-dr17-synspec_rev1.fits               the survey's own label catalogue
    sky/lamost_lrs/...
    sky/truth.parquet                                       what no pipeline would know

Only ``truth.parquet`` holds the truth, a row for each spectrum. Everything else is what observers
have: their files hold a `Target` and what an instrument recorded, and stars are numbered at random.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from astropy.table import Table
from numpy.typing import NDArray
from pydantic import ValidationError

import spectrolabe
from spectrolabe.config.sky import SkyConfig
from spectrolabe.errors import InputError
from spectrolabe.labels import LABELS
from spectrolabe.parallel import in_order
from spectrolabe.progress import shown_progress
from spectrolabe.sky import writers
from spectrolabe.sky.instruments import SURVEYS
from spectrolabe.sky.intrinsic import intrinsic_spectra
from spectrolabe.sky.observing import observe_star
from spectrolabe.sky.pipelines import survey_labels
from spectrolabe.sky.population import draw_population
from spectrolabe.sky.writers import Observed, Target

if TYPE_CHECKING:
    from spectrolabe.sky.library import IntrinsicSpectra

__all__ = ["TRUTH", "SimulationReport", "simulate"]

TRUTH = "truth.parquet"
CARD = "simulation.json"
PARTS = ".parts"
# what random numbers are for: each purpose has a stream of its own
POPULATION, SELECTION, ORDER, TARGETS, EXPOSURES, LABELS_OF = range(6)
GAIA_FLOOR, GROUND_FLOOR = 0.003, 0.02  # errors of magnitudes, mag
MAP_ERROR = 0.1  # of a reddening from a map, relative


@dataclass(frozen=True)
class SimulationReport:
    """What a simulation did.

    Parameters
    ----------
    folder : Path
    stars : int
        Stars that at least one survey saw.
    spectra : dict of str to int
        Spectra of each survey.
    written : int
        Stars whose files this run wrote.
    seconds : float
        Wall time.
    """

    folder: Path
    stars: int
    spectra: dict[str, int]
    written: int
    seconds: float


@dataclass(frozen=True)
class _Seen:
    """The stars that one survey saw.

    Parameters
    ----------
    rows : ndarray, shape (K,)
        Rows of the population.
    number : ndarray, shape (K,)
        Of each star in the survey.
    running : ndarray, shape (K, V)
        Running numbers for as many exposures as a star can have.
    """

    rows: NDArray
    number: NDArray
    running: NDArray


@dataclass(frozen=True)
class _Batch:
    """Stars that are written together: their truth, and who saw which of them."""

    index: int
    rows: NDArray
    stars: Table
    seen: dict[str, _Seen]


def simulate(
    config: SkyConfig,
    output: str | Path,
    *,
    spectra: IntrinsicSpectra | None = None,
    workers: int = 1,
) -> SimulationReport:
    """Draw stars, let the surveys see them, and write their files, catalogues and the truth.

    Run again on the same folder, it continues where it stopped. The same configuration gives the
    same files, whatever the number of workers.

    Parameters
    ----------
    config : SkyConfig
    output : str or Path
        Folder, made if need be.
    spectra : IntrinsicSpectra, optional
        Instead of those that ``config.spectra`` names. It is sent to the processes that write, so
        it must be possible to pickle it.
    workers : int, optional
        Processes that write; with more than one the caller's script needs a
        ``if __name__ == "__main__":``.

    Raises
    ------
    InputError
        If the folder holds another simulation, or no survey sees any star.
    """
    begin = time.monotonic()
    folder = Path(output)
    if not _opened(folder, config):
        return _report(folder, 0, begin)
    if spectra is None:
        looking = [name for name in SURVEYS if getattr(config.surveys, name).share > 0]
        spectra = intrinsic_spectra(config.spectra, looking)
    _check_coverage(config, spectra)
    stars = draw_population(config, _rng(config, POPULATION))
    seen = _observing_plan(stars, config)
    batches = list(_batches(stars, seen, config))
    todo = [batch for batch in batches if not _part(folder, batch.index).is_file()]
    written = 0
    total = sum(len(batch.stars) for batch in todo)
    done = _write_all(folder, todo, config, spectra, workers)
    for count in shown_progress(done, total, "simulate", size=int):
        written += count
    index = _index(folder, batches)
    for survey, rows in index.items():
        _write_catalogue(folder, survey, rows, stars, config)
    _write_truth(folder, index, stars)
    shutil.rmtree(folder / PARTS)
    return _report(folder, written, begin)


def _rng(config: SkyConfig, purpose: int, *key: int) -> np.random.Generator:
    return np.random.default_rng([config.seed, purpose, *key])


def _code(survey: str) -> int:
    """A number of a survey for its streams, which other surveys do not change."""
    return list(SURVEYS).index(survey)


def _as_now(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration of any time with the options that have come since, at their defaults."""
    try:
        return SkyConfig.model_validate(config).model_dump(mode="json")
    except ValidationError:
        return config


def _opened(folder: Path, config: SkyConfig) -> bool:
    """Make the folder, or check that it holds this simulation; False where it is complete."""
    card = {"spectrolabe": spectrolabe.__version__, "config": config.model_dump(mode="json")}
    path = folder / CARD
    if path.is_file():
        other = _as_now(json.loads(path.read_text(encoding="utf-8"))["config"])
        if other != card["config"]:
            differ = [key for key, value in card["config"].items() if other.get(key) != value]
            raise InputError(
                folder,
                expected="the simulation of this configuration, or a new folder",
                found=f"one with other values of {', '.join(differ)}",
                fix="Give another folder, or remove this one.",
            )
        (folder / PARTS).mkdir(exist_ok=True)
        return not (folder / TRUTH).is_file()
    if folder.is_dir() and any(folder.iterdir()):
        raise InputError(
            folder,
            expected="a new or an empty folder",
            found=f"a folder with files and no {CARD}",
            fix="Give another folder.",
        )
    (folder / PARTS).mkdir(parents=True)
    path.write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    return True


def _check_coverage(config: SkyConfig, spectra: IntrinsicSpectra) -> None:
    """Complain of surveys of which the spectra have nothing."""
    first, last = float(spectra.wavelength[0]), float(spectra.wavelength[-1])
    for survey, instrument in SURVEYS.items():
        if getattr(config.surveys, survey).share == 0:
            continue
        covered = [
            np.any(
                (spectra.wavelength > arm.wavelength[0]) & (spectra.wavelength < arm.wavelength[-1])
            )
            for arm in instrument.arms
        ]
        if not any(covered):
            low, high = instrument.span
            raise InputError(
                f"survey {survey}",
                expected=f"spectra within {low:.0f} to {high:.0f} Å",
                found=f"{first:.0f} to {last:.0f} Å",
                fix=f"Take other spectra, or leave the survey out: surveys.{survey}.share=0.",
            )


def _observing_plan(stars: Table, config: SkyConfig) -> dict[str, _Seen]:
    """Who sees which star, and under which numbers."""
    plan = {}
    for survey, instrument in SURVEYS.items():
        wanted = getattr(config.surveys, survey)
        rng = _rng(config, SELECTION, _code(survey))
        magnitude = np.asarray(stars[instrument.band], dtype=float)
        low = max(instrument.bright, wanted.magnitude[0])
        high = min(instrument.faint, wanted.magnitude[1])
        chosen = rng.random(len(stars)) < wanted.share
        rows = np.flatnonzero(chosen & (magnitude > low) & (magnitude < high))
        most = wanted.visits or max(instrument.visits)
        number = rng.permutation(rows.size)
        running = rng.permutation(rows.size * most).reshape(rows.size, most)
        plan[survey] = _Seen(rows, number, running)
    if not any(seen.rows.size for seen in plan.values()):
        raise InputError(
            "simulation",
            expected="stars that some survey sees",
            found=f"{len(stars)} stars, none within the magnitudes of {', '.join(plan)}",
            fix="Draw more stars, or nearer ones.",
        )
    return plan


def _batches(stars: Table, plan: dict[str, _Seen], config: SkyConfig) -> Iterator[_Batch]:
    """All stars that anyone saw, in random order."""
    everyone = np.unique(np.concatenate([seen.rows for seen in plan.values()]))
    _rng(config, ORDER).shuffle(everyone)
    for index, start in enumerate(range(0, everyone.size, config.batch)):
        rows = everyone[start : start + config.batch]
        seen = {}
        for survey, one in plan.items():
            inside = np.isin(one.rows, rows)
            seen[survey] = _Seen(one.rows[inside], one.number[inside], one.running[inside])
        yield _Batch(index, rows, stars[rows], seen)


def _write_all(
    folder: Path,
    batches: Sequence[_Batch],
    config: SkyConfig,
    spectra: IntrinsicSpectra,
    workers: int,
) -> Iterator[int]:
    """Write the batches, here or in processes; yield how many stars each was."""
    if workers <= 1 or len(batches) < 2:
        for batch in batches:
            yield _write_batch(folder, batch, config, spectra)
        return
    calls = ((folder, batch, config) for batch in batches)
    yield from in_order(_write_in_process, calls, workers, _start, (spectra,))


_of_process: dict[str, IntrinsicSpectra] = {}


def _start(spectra: IntrinsicSpectra) -> None:
    _of_process["spectra"] = spectra


def _write_in_process(folder: Path, batch: _Batch, config: SkyConfig) -> int:
    return _write_batch(folder, batch, config, _of_process["spectra"])


def _write_batch(folder: Path, batch: _Batch, config: SkyConfig, spectra: IntrinsicSpectra) -> int:
    """Observe the stars of a batch with every survey; its part says that it is done."""
    flux, continuum = spectra(batch.stars)
    place = {int(row): i for i, row in enumerate(batch.rows)}
    tables = {}
    for survey, seen in batch.seen.items():
        observed = []
        wanted = getattr(config.surveys, survey)
        for row, number, running in zip(seen.rows, seen.number, seen.running, strict=True):
            i = place[int(row)]
            exposures = observe_star(
                SURVEYS[survey],
                spectra.wavelength,
                flux[i],
                continuum[i],
                batch.stars[i],
                _rng(config, EXPOSURES, _code(survey), int(row)),
                resolution=spectra.resolution,
                visits=wanted.visits or None,
                exposure=wanted.exposure,
            )
            target = _target(batch.stars[i], _rng(config, TARGETS, int(row)))
            observed.append(Observed(target, exposures, int(number), running))
        if observed:
            index = writers.get(survey).write(folder / survey, observed, batch.index)
            index["survey"] = survey
            index["row"] = _rows_of(index, seen)
            tables[survey] = index
    _write_part(_part(folder, batch.index), tables)
    return len(batch.stars)


def _rows_of(index: Table, seen: _Seen) -> NDArray:
    """Rows of the population of the stars of an index."""
    of_number = dict(zip(seen.number.tolist(), seen.rows.tolist(), strict=True))
    return np.array([of_number[int(number)] for number in index["number"]])


def _target(star: Table.Row, rng: np.random.Generator) -> Target:
    """What an observer knows of a star: positions exactly, all else as measured."""
    magnitudes = {}
    for band in ("G", "BP", "RP", "J", "H", "K", "g", "r", "i"):
        floor = GAIA_FLOOR if band in ("G", "BP", "RP") else GROUND_FLOOR
        magnitudes[band] = float(star[band]) + rng.normal(0.0, floor)
    return Target(
        ra=float(star["ra"]),
        dec=float(star["dec"]),
        gaia_dr3_source_id=int(star["gaia_dr3_source_id"]),
        magnitudes=magnitudes,
        parallax=float(star["parallax_measured"]),
        parallax_error=float(star["parallax_error"]),
        ebv=max(float(star["ebv"]) * (1.0 + rng.normal(0.0, MAP_ERROR)), 0.0),
    )


def _part(folder: Path, index: int) -> Path:
    return folder / PARTS / f"{index:06d}.done"


def _write_part(path: Path, tables: dict[str, Table]) -> None:
    """The indices of a batch, one file each; the file ``path`` is made when all are there."""
    for survey, index in tables.items():
        columns = {name: np.asarray(index[name]) for name in index.colnames}
        pq.write_table(pa.table(columns), path.with_suffix(f".{survey}.parquet"))
    path.touch()


def _index(folder: Path, batches: Sequence[_Batch]) -> dict[str, Table]:
    """The indices of all batches, by survey."""
    found: dict[str, Table] = {}
    for survey in batches[0].seen if batches else ():
        parts = sorted((folder / PARTS).glob(f"*.{survey}.parquet"))
        if parts:
            whole = pa.concat_tables([pq.read_table(part) for part in parts])
            found[survey] = Table({name: _plain(whole[name]) for name in whole.column_names})
    return found


def _plain(column: pa.ChunkedArray) -> NDArray:
    values = column.to_numpy()
    return values.astype(str) if values.dtype.kind == "O" else values


def _write_catalogue(
    folder: Path, survey: str, index: Table, stars: Table, config: SkyConfig
) -> None:
    """Let the survey's pipeline label what it observed, a row for each entry of its catalogue."""
    entries = index[np.unique(np.asarray(index["entry"]), return_index=True)[1]]
    snr = np.asarray(entries["entry_snr" if "entry_snr" in entries.colnames else "snr"])
    rng = _rng(config, LABELS_OF, _code(survey))
    labels = survey_labels(survey, stars[np.asarray(entries["row"])], snr, rng)
    writers.get(survey).write_labels(folder / survey, entries, labels)


def _write_truth(folder: Path, index: dict[str, Table], stars: Table) -> None:
    """A row for each spectrum: what was written where, and all that is true of the star."""
    rows = np.concatenate([np.asarray(one["row"]) for one in index.values()])
    columns: dict[str, object] = {
        "star_id": np.asarray(stars["star_id"]).astype(str)[rows],
        "survey": np.concatenate([np.full(len(one), survey) for survey, one in index.items()]),
        "path": [f"{survey}/{path}" for survey, one in index.items() for path in one["path"]],
    }
    for name, kind in (("spectrum_id", str), ("entry", str), ("visit", int), ("snr", float)):
        columns[name] = np.concatenate([np.asarray(o[name]).astype(kind) for o in index.values()])
    for name in stars.colnames:
        if name not in columns:
            columns[name] = np.asarray(stars[name])[rows]
    units = {name: LABELS[name].unit for name in columns if name in LABELS}
    table = pa.table(columns).replace_schema_metadata({"units": json.dumps(units)})
    part = folder / PARTS / TRUTH
    pq.write_table(table, part)
    part.replace(folder / TRUTH)


def _report(folder: Path, written: int, begin: float) -> SimulationReport:
    truth = pq.read_table(folder / TRUTH, columns=["star_id", "survey"]).to_pydict()
    names, counts = np.unique(truth["survey"], return_counts=True)
    return SimulationReport(
        folder=folder,
        stars=len(set(truth["star_id"])),
        spectra=dict(zip(names.tolist(), counts.tolist(), strict=True)),
        written=written,
        seconds=time.monotonic() - begin,
    )
