"""How `twins.py` was set: rates, passes and the weight of flux, tried on stars kept for choosing.

    python benchmarks/twins_choice.py WORK [--output docs/results]

Scatter of labels of visits of the stars that `twins.py` calibrates by, a model each; none of the
test stars. All models see the same spectra with the same first fits. Again to continue.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
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
from twins_visits import BINS

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
DRAWS = 50
KNOWN = "no flux, the true labels of all stars"
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

    def kept(self, visits: Visits, teacher: Encoder | None, flux: float) -> Kept:
        """Return the batches that visits make, strange ones too where flux is learnt from them."""
        config = self.config.model_copy(update={"twins": self._twins(flux)})
        task = self._task(config, visits, teacher)
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

    def errors(self, encoder: Encoder) -> NDArray:
        """Errors of the labels of the visits kept aside, shape (P, L)."""
        rows = self.aside.rows
        said = [
            encode(encoder, collate([[row_of(self.store[int(i)])] for i in part]))[0]
            for part in np.array_split(rows, max(1, len(rows) // 32))
        ]
        scale = self.start.estimator.scale
        columns = [scale.names.index(name) for name in NAMES]
        found = scale.unscale(np.concatenate(said))[:, columns]
        return found - labels_of(self.work, "train", self.store, rows).values

    def scatter(self, errors: NDArray, times: NDArray | None = None) -> NDArray:
        """1.4826 MAD, shape (L, bins), of stars that are drawn so often."""
        snr = self.store.column("snr")[self.aside.rows]
        rows = np.arange(len(snr)) if times is None else np.repeat(np.arange(len(snr)), times)
        bins = [errors[rows[(snr[rows] >= low) & (snr[rows] < high)]] for low, high in BINS]
        return np.array([[mad(values) for values in inside.T] for inside in bins]).T

    def drawn(self) -> Iterator[NDArray]:
        """Yield how often each visit counts where the stars are drawn again."""
        stars = np.unique(self.aside.labels.star_id, return_inverse=True)[1]
        count, rng = int(stars.max()) + 1, np.random.default_rng(5)
        for _ in range(DRAWS):
            yield np.bincount(rng.integers(0, count, count), minlength=count)[stars]


def main() -> None:
    """Train all, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("work", type=Path)
    parser.add_argument("--output", type=Path, default=Path("docs/results"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    choice = Choice(arguments.work)
    found = {"unified-v1": choice.errors(choice.start.estimator.encoder.eval())}
    kept, teacher = choice.kept(choice.labelled, None, 0.0), None
    for name, how in FIRST.items():
        encoder = choice.learnt(f"without pairs {name}", how, choice.labelled, kept)
        found[f"without pairs: {name}"] = choice.errors(encoder)
        teacher = encoder if name == CHOSEN else teacher
    for with_flux in (False, True):
        kept = choice.kept(choice.train, teacher, float(with_flux))
        for name, how in PAIRS.items():
            if (how["flux"] > 0) == with_flux:
                found[name] = choice.errors(choice.learnt(name, how, choice.train, kept))
        if not with_flux:
            known = choice.learnt(KNOWN, PAIRS["no flux"], choice.train, choice.with_truth(kept))
            found[KNOWN] = choice.errors(known)
    write(choice, found, arguments.output)


def write(choice: Choice, found: dict[str, NDArray], output: Path) -> None:
    """Write the page."""
    times = [None, *choice.drawn()]
    reference = [choice.scatter(found[f"without pairs: {CHOSEN}"], one) for one in times]
    rows = []
    for name, errors in found.items():
        scatter = [choice.scatter(errors, one) for one in times]
        ratio = [np.log(a / b) for a, b in zip(scatter, reference, strict=True)]
        means = [np.exp([x[:3].mean(), x[3:].mean()]) for x in ratio]
        error = np.std(means[1:], axis=0)
        cells = [f"{x:.3f} ± {e:.3f}" for x, e in zip(means[0], error, strict=True)]
        teff, logg, fe_h = (np.median(scatter[0][NAMES.index(n)]) for n in ("teff", "logg", "fe_h"))
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
from, by the truth of all of them (a survey would know a fifth); errors by drawing them again. The
geometric mean, over labels and the bins of S/N of [twins.md](twins.md), of the scatter
over that of the model without pairs that was chosen, and the medians of the bins. Pairs learn from
{len(choice.train.pairs):,} visits, without pairs from {len(choice.labelled.pairs):,}.

{table(head, rows)}

{remarks("summary")}"""
        ],
    )


if __name__ == "__main__":
    main()
