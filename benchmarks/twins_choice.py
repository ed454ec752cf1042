"""How `twins.py` was set: rates, passes and the weight of flux, tried on stars kept for choosing.

    python benchmarks/twins_choice.py WORK [--output docs/results]

Scatter of labels of visits of the stars that `twins.py` calibrates by, a model each; none of the
test stars. All models see the same spectra with the same first fits. Again to continue.
"""

from __future__ import annotations

import argparse
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from pages import remarks, table, write_page
from spectrolabe.config import TrainConfig
from spectrolabe.models.encoder import Encoder
from spectrolabe.models.estimator import encode
from spectrolabe.models.pixels import collate, row_of
from spectrolabe.training.loop import learn
from spectrolabe.training.transfer import Start, continued, read_start
from spectrolabe.training.twin_run import Visits, read_visits
from spectrolabe.training.twin_task import Twinned, Twins, TwinTask
from spectrolabe.validation.metrics import mad
from twins import NAMES, config_of, labels_of, stores

__all__ = ["main"]

FIRST: dict[str, dict[str, Any]] = {
    "20 passes, rate 5e-4, dropout 0.2": {"epochs": 20, "rate": 5e-4, "dropout": 0.2},
    "40 passes, rate 1e-3, dropout 0.2": {"epochs": 40, "rate": 1e-3, "dropout": 0.2},
    "40 passes, rate 2e-3, dropout 0.3": {"epochs": 40, "rate": 2e-3, "dropout": 0.3},
}
CHOSEN = "40 passes, rate 2e-3, dropout 0.3"
USUAL = {"epochs": 14, "rate": 2e-3, "dropout": 0.3}
PAIRS: dict[str, dict[str, Any]] = {
    "no flux": {**USUAL, "flux": 0.0},
    "flux 0.3": {**USUAL, "flux": 0.3},
    "flux 1": {**USUAL, "flux": 1.0},
}
KNOWN = "no flux, the true labels of all stars"
BINS = ((8.0, 15.0), (15.0, 20.0), (20.0, 30.0), (30.0, 40.0), (40.0, 60.0))
Kept = dict[int, list[tuple[Twinned, torch.Tensor]]]


class Choice:
    """Models of one training sky, and the stars to choose by."""

    def __init__(self, work: Path) -> None:
        self.folder = work / "apogee" / "choice"
        self.work, self.store = work / "apogee", stores(work)["train"]
        config = config_of("with_pairs", self.store.path)
        start = read_start(config.transfer)
        assert start is not None
        self.start: Start = start
        self.config = continued(config, start)
        self.train, kept_aside = read_visits(self.config, start)
        self.aside = kept_aside.take(np.array([bool(one.others) for one in kept_aside.pairs]))

    @cached_property
    def labelled(self) -> Visits:
        """Visits of the stars that have labels."""
        return self.train.take(self.train.labelled)

    def learnt(self, name: str, how: dict[str, Any], visits: Visits, kept: Kept) -> Encoder:
        """Return what has learnt from visits, of which everything is known."""
        settings = {"epochs": how["epochs"], "learning_rate": how["rate"]}
        config = self.config.model_copy(
            update={
                "training": self.config.training.model_copy(update=settings),
                "twins": self._twins(how.get("flux", 0.0)),
                "encoder": self.config.encoder.model_copy(update={"dropout": how["dropout"]}),
            }
        )
        task = self._task(config, visits)
        task.kept = kept
        folder = self.folder / name.replace(" ", "_").replace(",", "")
        return cast(Twins, learn(task, config.training, folder, title=name)).encoder.eval()

    def kept(self, visits: Visits, teacher: Encoder | None) -> Kept:
        """Return the batches that visits make, and what is to be learnt from them."""
        task = self._task(self.config, visits, teacher)
        for version in range(self.config.augmentation.versions):
            for _ in task.version(version, np.random.default_rng(0)):
                pass
        return task.kept

    def _twins(self, flux: float) -> Any:
        assert self.config.twins is not None
        return self.config.twins.model_copy(update={"flux": flux})

    def _task(
        self, config: TrainConfig, visits: Visits, teacher: Encoder | None = None
    ) -> TwinTask:
        scaled = self.start.estimator.scale.scale(visits.labels.values)
        return TwinTask(config, self.store, visits.pairs, scaled, self.start, teacher)

    def with_truth(self, kept: Kept) -> Kept:
        """The same batches with the true labels of all stars."""
        names = self.start.estimator.scale.names
        truth = labels_of(self.work, "train", self.store, self.train.rows).values
        values = np.full((len(truth), len(names)), np.nan)
        values[:, [names.index(name) for name in NAMES]] = truth
        scaled = torch.from_numpy(self.start.estimator.scale.scale(values)).float()
        return {
            version: [(batch, scaled[torch.from_numpy(batch.entry)]) for batch, _ in batches]
            for version, batches in kept.items()
        }

    def scatter(self, encoder: Encoder) -> NDArray:
        """1.4826 MAD of labels of the visits kept aside, shape (L, bins)."""
        rows = self.aside.rows
        said = [
            encode(encoder, collate([[row_of(self.store[int(i)])] for i in part]))[0]
            for part in np.array_split(rows, max(1, len(rows) // 32))
        ]
        scale = self.start.estimator.scale
        columns = [scale.names.index(name) for name in NAMES]
        found = scale.unscale(np.concatenate(said))[:, columns]
        error = found - labels_of(self.work, "train", self.store, rows).values
        snr = self.store.column("snr")[rows]
        bins = [error[(snr >= low) & (snr < high)] for low, high in BINS]
        return np.array([[mad(values) for values in inside.T] for inside in bins]).T


def main() -> None:
    """Train all, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("work", type=Path)
    parser.add_argument("--output", type=Path, default=Path("docs/results"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    choice = Choice(arguments.work)
    found = {"unified-v1": choice.scatter(choice.start.estimator.encoder.eval())}
    kept, teacher = choice.kept(choice.labelled, None), None
    for name, how in FIRST.items():
        encoder = choice.learnt(f"without pairs {name}", how, choice.labelled, kept)
        found[f"without pairs: {name}"] = choice.scatter(encoder)
        teacher = encoder if name == CHOSEN else teacher
    kept = choice.kept(choice.train, teacher)
    for name, how in PAIRS.items():
        found[name] = choice.scatter(choice.learnt(name, how, choice.train, kept))
    how, kept = PAIRS["no flux"], choice.with_truth(kept)
    found[KNOWN] = choice.scatter(choice.learnt(KNOWN, how, choice.train, kept))
    write(choice, found, arguments.output)


def write(choice: Choice, found: dict[str, NDArray], output: Path) -> None:
    """Write the page."""
    reference = found[f"without pairs: {CHOSEN}"]
    rows = []
    for name, scatter in found.items():
        ratio = np.log(scatter / reference)
        cells = [f"{np.exp(x.mean()):.3f}" for x in (ratio[:3], ratio[3:])]
        teff, logg, fe_h = (np.median(scatter[NAMES.index(n)]) for n in ("teff", "logg", "fe_h"))
        rows.append([name, *cells, f"{teff:.0f}", f"{logg:.3f}", f"{fe_h:.3f}"])
    head = ["model", "Teff, log g, [Fe/H]", "[X/Fe]", "Teff [K]", "log g", "[Fe/H]"]
    stars = len(np.unique(choice.aside.labels.star_id))
    write_page(
        output / "twins_choice.md",
        [
            f"""# How the models of twins.md were chosen

```
python benchmarks/twins_choice.py WORK
```

{len(choice.aside.pairs):,} visits of {stars} stars of the training sky that no model has learnt
from: the geometric mean, over labels and the bins of S/N of [twins.md](twins.md), of the scatter
over that of the model without pairs that was chosen, and the medians of the bins. Pairs learn from
{len(choice.train.pairs):,} visits, without pairs from {len(choice.labelled.pairs):,}.

{table(head, rows)}

{remarks("summary")}"""
        ],
    )


if __name__ == "__main__":
    main()
