"""Do pairs of visits help? Simulated APOGEE-like visits of which the truth is known.

    python benchmarks/twins.py WORK --train with_pairs labels_alone ...   # again to continue
    python benchmarks/twins.py WORK --train with_pairs --survey desi      # another survey
    python benchmarks/twins.py WORK                                       # the page

Stars to learn from and stars to be tested on are of two skies (``configs/twins-sky.toml`` with
other seeds); a fifth of the former have labels, the truth. Spectra are those of the library of
`spectrolabe simulate`, which no model has learnt from: that gap is there as it is with real stars.
"""

from __future__ import annotations

import argparse
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from spectrolabe.config import TrainConfig
from spectrolabe.config.loading import load_config
from spectrolabe.config.sky import SkyConfig
from spectrolabe.labels import Labels
from spectrolabe.sky.simulate import TRUTH, simulate
from spectrolabe.spectra.store import Store, StoreWriter, is_store, open_store
from spectrolabe.surveys import read_labels
from spectrolabe.surveys.join import LabelJoin
from spectrolabe.surveys.reading import expand, read_all
from spectrolabe.training.data import place_of
from spectrolabe.training.twin_run import train_twins

__all__ = [
    "MODELS",
    "NAMES",
    "OTHER",
    "config_of",
    "labels_of",
    "stores",
    "truth_of",
]

CONFIG = Path("configs/twins-sky.toml")
TEST = {"seed": 64, "population": {"stars": 2000}, "clusters": {"count": 40, "members": 20}}
OTHER: dict[str, dict[str, Any]] = {  # three exposures of stars that the instrument can see
    "desi": {"magnitude": (14.5, 17.5), "exposure": 0.25, "stars": (600, 200)},
    "lamost_lrs": {"magnitude": (10.0, 15.6), "exposure": 0.05, "stars": (1200, 400)},
}
DESI = "mwsall-pix-iron.fits"  # says the velocities, which files do not
LABELLED = 0.2  # of the stars
FEW = 0.05  # of those that are trained on, in the store of that name
CALIBRATION, SEED = 0.25, 3
NAMES = ("teff", "logg", "fe_h", "c_fe", "n_fe", "o_fe", "mg_fe", "al_fe", "si_fe", "ca_fe")
NAMES += ("mn_fe", "ni_fe")
MODELS: dict[str, dict[str, Any]] = {
    "with_pairs": {},
    "few_labels": {"teacher_epochs": 140},  # as many steps
    "labels_alone": {"flux": 0.0},  # of deeper spectra, not their flux
    "left_in": {"left_in": True},
}


def config_of(model: str, store: Path) -> TrainConfig:
    """Return the configuration of a model."""
    return TrainConfig.model_validate(
        {
            "name": model,
            "data": {"store": str(store), "labels": NAMES, "calibration": CALIBRATION},
            "encoder": {"dropout": 0.3},
            "augmentation": {"versions": 2},
            "transfer": {"start": "unified-v1"},
            "twins": {"flux": 0.3, "teacher_epochs": 40, **MODELS[model]},
            "training": {"epochs": 14, "learning_rate": 2e-3, "seed": SEED},
        }
    )


def stores(work: Path, survey: str = "apogee") -> dict[str, Store]:
    """Return the visits to learn from, the same with few labels, and those to be tested on."""
    skies = _skies(survey)
    names = ("train", "few", "test") if survey == "apogee" else ("train", "test")
    return {
        name: _store(work / survey, name, skies["train" if name == "few" else name])
        for name in names
    }


def _skies(survey: str) -> dict[str, SkyConfig]:
    train = load_config(CONFIG, (), SkyConfig).model_dump()
    tests: dict[str, Any] = TEST
    if survey != "apogee":
        own = OTHER[survey]
        seen = {"share": 1.0, "visits": 3, "exposure": own["exposure"]}
        train["surveys"] = {name: {"share": 0.0} for name in train["surveys"]} | {survey: seen}
        train["population"] |= {"stars": own["stars"][0], "magnitude": own["magnitude"]}
        tests = {"seed": TEST["seed"], "population": {"stars": own["stars"][1]}}
    test = {key: value | tests.get(key, {}) if isinstance(value, dict) else tests.get(key, value)
            for key, value in train.items()}  # fmt: skip
    return {"train": SkyConfig.model_validate(train), "test": SkyConfig.model_validate(test)}


def _store(work: Path, kind: str, sky: SkyConfig) -> Store:
    """Simulate a sky and put what was observed of it into a store; labels are of some stars."""
    folder = work / f"store-{kind}"
    if is_store(folder) and (folder / "done").exists():
        return open_store(folder)
    name = "train" if kind == "few" else kind
    simulate(sky, work / f"sky-{name}")
    truth = _truth(work, name)
    seen = work / f"sky-{name}" / work.name
    join = LabelJoin(read_labels(seen / DESI, "desi"), seen / DESI) if work.name == "desi" else None
    with StoreWriter(folder, NAMES) as writer:
        for source, found in read_all(expand(seen), work.name):
            if source.path.as_posix() in writer.done or not isinstance(found, list):
                continue
            for one in found:
                row = None if join is None else join.row(one)
                if join is not None and row is not None:
                    one = join.apply(one, row)[0]  # its velocity
                known = kind != "test" and has_labels(one.star_id, few=kind == "few")
                values = truth[one.spectrum_id] if known else None
                writer.append(one, values=values, file=source.path.as_posix(), good=known)
    (folder / "done").touch()
    return open_store(folder)


def has_labels(star: str, *, few: bool) -> bool:
    """Tell whether a star of the training sky has labels, by its name."""
    share = FEW if few and place_of(star, SEED) >= CALIBRATION else LABELLED
    return zlib.crc32(f"labels {star} {star[::-1]}".encode()) % 1000 < 1000 * share


@cache
def _truth(work: Path, name: str) -> dict[str, NDArray]:
    table = pq.read_table(work / f"sky-{name}" / TRUTH)
    values = np.stack([table[label].to_numpy() for label in NAMES], axis=1)
    return dict(zip(table["spectrum_id"].to_pylist(), values, strict=True))


def truth_of(work: Path, name: str, ids: list[str]) -> dict[str, NDArray]:
    """Return what the truth says of spectra, by column."""
    table = pq.read_table(work / f"sky-{name}" / TRUTH)
    place = {one: i for i, one in enumerate(table["spectrum_id"].to_pylist())}
    rows = [place[one] for one in ids]
    return {key: table[key].to_numpy(zero_copy_only=False)[rows] for key in table.column_names}


def labels_of(work: Path, name: str, store: Store, rows: NDArray) -> Labels:
    """Return the true labels of rows of a store."""
    truth = _truth(work, name)
    ids, stars = (store.column(key)[rows] for key in ("spectrum_id", "star_id"))
    values = np.array([truth[one] for one in ids])
    return Labels(NAMES, values, np.zeros(values.shape), stars)


def main() -> None:
    """Train models, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("work", type=Path)
    parser.add_argument("--train", nargs="+", choices=list(MODELS))
    parser.add_argument("--survey", default="apogee", choices=["apogee", *OTHER])
    parser.add_argument("--output", type=Path, default=Path("docs/results"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.train:
        found = stores(arguments.work, arguments.survey)
        for model in arguments.train:
            config = config_of(model, found["few" if model == "few_labels" else "train"].path)
            train_twins(config, arguments.work / arguments.survey / model, progress=False)
        return
    from twins_page import write

    write(arguments.work, arguments.output)


if __name__ == "__main__":
    main()
