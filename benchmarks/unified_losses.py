"""Which loss for which labels: a normal head, histograms, asymmetric focus, an ordered embedding.

    python benchmarks/unified_losses.py WORK                       # trains; again to continue
    python benchmarks/unified_losses.py WORK --page docs/results   # tries what is trained

Small models of one budget and seed, that differ in the head alone, see the same stars of a
synthetic sky. Those that count most are rare in it: [Fe/H] < -1, log g < 2, Teff > 6500 K.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pages import remarks, table, write_page
from spectrolabe.config import HeadConfig
from spectrolabe.models.posterior import LabelPosterior
from spectrolabe.training.pretrain import encode_views
from spectrolabe.training.unified import train_on_sky
from spectrolabe.validation.distributions import coverage, crps, pit
from spectrolabe.validation.metrics import mad
from unified_left_out import Budget, config_of
from unified_sky import MAIN, SEED, Sky, read_sky

HEADS: dict[str, dict[str, Any]] = {
    "gaussian": {},
    "gaussian, embedding": {"embedding": 0.1},
    "binned": {"kind": "binned", "bins": 128},
    "binned, asymmetric": {"kind": "binned", "bins": 128, "asymmetric": True},
    "binned, embedding": {"kind": "binned", "bins": 128, "embedding": 0.1},
    "binned, asymmetric, embedding": {
        **{"kind": "binned", "bins": 128, "asymmetric": True, "embedding": 0.1}
    },
}
TAUGHT = ("lamost_lrs", "apogee")
EDGES = {
    "all": ("teff", -np.inf, np.inf),
    "[Fe/H] < -1": ("fe_h", -np.inf, -1.0),
    "log g < 2": ("logg", -np.inf, 2.0),
    "Teff > 6500 K": ("teff", 6500.0, np.inf),
}
SHOWN = (*MAIN, "mg_fe")
SNR = 60.0
BATCH = 32
NEIGHBOURS = 10


def folder_of(work: Path, name: str) -> Path:
    """Folder of a run."""
    return work / name.replace(", ", "-")


def train_all(work: Path, budget: Budget) -> None:
    """Train what is not trained yet."""
    for name, head in HEADS.items():
        if (folder_of(work, name) / "card.json").exists():
            continue
        print(f"training {name}", flush=True)
        config = config_of(name, dict.fromkeys(TAUGHT, 1.0), budget)
        encoder = config.encoder.model_copy(update={"head": HeadConfig(**head)})
        train_on_sky(config.model_copy(update={"encoder": encoder}), folder_of(work, name))


def posteriors(sky: Sky, survey: str, count: int) -> tuple[LabelPosterior, NDArray, float]:
    """Calibrated posteriors of stars not trained on, the truth, and purity of their neighbours."""
    stars = sky.stars("mixed", count, [11])
    found, truth, embedding = [], [], []
    for k in range(0, count, BATCH):
        rows = np.arange(k, min(k + BATCH, count))
        rng = np.random.default_rng([SEED, 12, k])
        one = stars.take(rows)
        views = [(sky.stream.instruments[survey], np.arange(len(rows)))]
        batch = sky.stream.observed(one, views, rng, snr=SNR)
        numbers = encode_views(sky.model.encoder, batch)
        estimate = sky.model.physical(
            *numbers[:3],
            batch.snr,
            rows.astype(str),
            surveys=batch.instrument,
            levels=numbers[3],
        )
        found.append(estimate.calibrated)
        truth.append(sky.model.scale.unscale(batch.target.numpy()))
        embedding.append(numbers[2])
    return joined(found), np.concatenate(truth), purity(sky, embedding, truth)


def joined(parts: Sequence[LabelPosterior]) -> LabelPosterior:
    """All stars of several posteriors."""
    levels = [part.levels for part in parts]
    return LabelPosterior(
        parts[0].names,
        np.concatenate([part.mean for part in parts]),
        np.concatenate([part.covariance for part in parts]),
        np.concatenate([part.star_id for part in parts]),
        None if levels[0] is None else np.concatenate(levels),  # type: ignore[arg-type]
    )


def purity(sky: Sky, embedding: list[NDArray], truth: list[NDArray]) -> float:
    """How far the labels of the nearest training stars are, relative to those of any, in Teff,
    log g and [Fe/H]: 1 if an embedding tells nothing."""
    coverage_ = sky.model.coverage
    assert coverage_.stars is not None
    columns = [sky.names.index(name) for name in MAIN]
    width = sky.model.scale.width[columns]
    reference = coverage_.stars.select(MAIN).values / width
    index, _ = coverage_.nearest(np.concatenate(embedding), NEIGHBOURS)
    own = np.concatenate(truth)[:, columns] / width
    near = np.linalg.norm(reference[index] - own[:, None], axis=2)
    any_ = np.linalg.norm(reference[None, ::7] - own[:, None], axis=2)
    return float(np.median(near) / np.median(any_))


def rows_of(posterior: LabelPosterior, truth: NDArray) -> dict[str, dict[str, list[float]]]:
    """By edge and label: bias, scatter, CRPS, share within 68.3 per cent, width of PIT."""
    score, inside, place = (f(posterior, truth) for f in (crps, coverage, pit))
    rows: dict[str, dict[str, list[float]]] = {}
    for edge, (name, low, high) in EDGES.items():
        value = truth[:, posterior.index([name])[0]]
        use = (value > low) & (value < high)
        rows[edge] = {}
        for label in SHOWN:
            j = posterior.index([label])[0]
            error = posterior.mean[use, j] - truth[use, j]
            rows[edge][label] = [
                float(np.median(error)),
                float(mad(error)),
                float(np.nanmean(score[use, j])),
                float(np.mean(inside[use, j])),
                float(np.std(place[use, j]) * np.sqrt(12.0)),
            ]
    return rows


def page(work: Path, budget: Budget, stars: int) -> list[str]:
    """Sections of the page."""
    found = {}
    for name in HEADS:
        if (folder_of(work, name) / "card.json").exists():
            sky = read_sky(folder_of(work, name))
            found[name] = {s: posteriors(sky, s, stars) for s in TAUGHT}
    steps = budget.epochs * budget.steps
    parts = [
        f"""# Losses: what histograms, asymmetric focus and an ordered embedding change

```
python benchmarks/unified_losses.py WORK --stars {stars} --page docs/results
```

{len(found)} models of one budget ({steps} steps of {budget.stars} stars, width {budget.width})
and seed that differ in their heads, tried on {stars} new stars of the synthetic sky for each
survey, S/N {SNR:g} a pixel. Histograms have 128 bins. *CRPS* is the continuous ranked probability
score, in the units of the label, smaller is better; *in 68 %* the share of truths inside that
central interval, *PIT* the standard deviation of the probability integral transform in units of a
flat one: above 1 where uncertainties are too small. All are calibrated on other stars. *Neighbours*
is how far the ten nearest training stars in the embedding are in Teff, log g and [Fe/H], relative
to any training stars.""",
        remarks("summary"),
    ]
    for survey in TAUGHT:
        body = []
        for edge in EDGES:
            for label in SHOWN:
                for name, by_survey in found.items():
                    posterior, truth, _ = by_survey[survey]
                    row = rows_of(posterior, truth)[edge][label]
                    digits = 0 if label == "teff" else 3
                    body.append(
                        [edge, label, name, *(f"{x:.{digits}f}" for x in row[:2])]
                        + [f"{row[2]:.{digits + (label == 'teff')}f}"]
                        + [f"{x:.2f}" for x in row[3:]]
                    )
        head = ["stars", "label", "head", "bias", "1.4826 MAD", "CRPS", "in 68 %", "PIT"]
        parts += [f"## {survey}", table(head, body)]
    near = [[name, *(f"{of[s][2]:.2f}" for s in TAUGHT)] for name, of in found.items()]
    parts += ["## Neighbours", table(["head", *TAUGHT], near)]
    return parts


def main() -> None:
    """Train, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("work", type=Path)
    parser.add_argument("--stars", type=int, default=1500)
    parser.add_argument("--epochs", type=int, default=Budget.epochs)
    parser.add_argument("--page", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    budget = Budget(epochs=given.epochs)
    if given.page is None:
        train_all(given.work, budget)
    else:
        write_page(given.page / "unified_losses.md", page(given.work, budget, given.stars))


if __name__ == "__main__":
    main()
