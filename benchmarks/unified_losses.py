"""Which loss for which labels: a normal head, histograms, asymmetric focus, an ordered embedding.

    python benchmarks/kept_sky.py WORK && python benchmarks/learners.py WORK
    python benchmarks/unified_losses.py WORK docs/results

Small models of `learners.py` that differ in their heads alone. The stars that count most are rare
in a survey: [Fe/H] < -1, log g < 2, Teff > 6500 K.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kept_sky import BASE, SNR, STARS, TEST, kept, read
from learners import BASELINE, LOSSES, Tried, finished, folder_of, try_out
from pages import remarks, table, write_page
from spectrolabe.models.checkpoint import load
from spectrolabe.models.posterior import LabelPosterior
from spectrolabe.models.uncertainty import Coverage
from spectrolabe.training.pretrain import encode_views
from spectrolabe.validation.distributions import coverage, crps, pit
from spectrolabe.validation.metrics import mad
from unified_sky import MAIN

SHOWN_OF = ("lamost_lrs", "apogee", "galah")
EDGES = {
    "all": ("teff", -np.inf, np.inf),
    "[Fe/H] < -1": ("fe_h", -np.inf, -1.0),
    "log g < 2": ("logg", -np.inf, 2.0),
    "Teff > 6500 K": ("teff", 6500.0, np.inf),
}
SHOWN = (*MAIN, "mg_fe")
NEIGHBOURS = 10
REFERENCES = 150  # batches whose stars are neighbours


def model_of(head: str) -> str:
    """Name of the model with a head."""
    return head.replace(", ", "-") if LOSSES[head] else BASELINE


def purity(work: Path, head: str, tried: dict[str, Tried]) -> dict[str, float]:
    """How far the labels of the nearest training stars are, relative to those of any, in Teff,
    log g and [Fe/H]: 1 if an embedding tells nothing."""
    model = load(folder_of(work, model_of(head)))
    columns = [model.scale.names.index(name) for name in MAIN]
    parts = [read(path) for path in kept(work, "train")[:REFERENCES]]
    embedding = np.concatenate([encode_views(model.encoder, batch)[2] for batch in parts])
    reference = np.concatenate([batch.target.numpy()[:, columns] for batch in parts])
    near = Coverage.fit(embedding)
    found = {}
    for survey in SHOWN_OF:
        own = model.scale.scale(tried[survey].truth)[:, columns]
        index, _ = near.nearest(tried[survey].embedding, NEIGHBOURS)
        distance = np.linalg.norm(reference[index] - own[:, None], axis=2)
        any_ = np.linalg.norm(reference[None, ::7] - own[:, None], axis=2)
        found[survey] = float(np.median(distance) / np.median(any_))
    return found


def rows_of(posterior: LabelPosterior, truth: NDArray) -> dict[str, dict[str, list[float]]]:
    """By edge and label: bias, scatter, RMSE, CRPS, share within 68.3 per cent, width of PIT."""
    score, place = crps(posterior, truth), pit(posterior, truth)
    rows: dict[str, dict[str, list[float]]] = {}
    for edge, (name, low, high) in EDGES.items():
        value = truth[:, posterior.index([name])[0]]
        use = (value > low) & (value < high)
        inside = coverage(posterior.take(np.flatnonzero(use)), truth[use])
        rows[edge] = {}
        for label in SHOWN:
            j = posterior.index([label])[0]
            error = posterior.mean[use, j] - truth[use, j]
            rows[edge][label] = [
                float(np.median(error)),
                float(mad(error)),
                float(np.sqrt(np.mean(error**2))),
                float(np.mean(score[use, j])),
                float(inside[j]),
                float(np.std(place[use, j]) * np.sqrt(12.0)),
            ]
    return rows


def survey_table(by_head: dict[str, Tried]) -> str:
    """The table of a survey."""
    numbers = {head: rows_of(one.posterior, one.truth) for head, one in by_head.items()}
    body = []
    for edge in EDGES:
        for label in SHOWN:
            for head, rows in numbers.items():
                row, d = rows[edge][label], 1 if label == "teff" else 4
                cells = [f"{row[0]:+.{d}f}", *(f"{x:.{d}f}" for x in row[1:4])]
                body.append([edge, label, head, *cells, *(f"{x:.2f}" for x in row[4:])])
    return table(
        ["stars", "label", "head", "bias", "1.4826 MAD", "RMSE", "CRPS", "in 68.3 %", "PIT"], body
    )


def summary_table(found: dict[str, dict[str, Tried]]) -> str:
    """CRPS of every head relative to the first, the mean over labels and surveys, by edge."""
    first = next(iter(found))
    body = []
    for head, by_survey in found.items():
        cells = []
        for edge in EDGES:
            ratios = [
                np.divide(
                    *(
                        rows_of(found[h][s].posterior, found[h][s].truth)[edge][label][3]
                        for h in (head, first)
                    )
                )
                for s in by_survey
                for label in SHOWN
            ]
            cells.append(f"{np.exp(np.mean(np.log(ratios))):.3f}")
        body.append([head, *cells])
    return table(["head", *EDGES], body)


def page(work: Path) -> list[str]:
    """Sections of the page."""
    heads = [head for head in LOSSES if finished(work, model_of(head))]
    found = {head: try_out(work, model_of(head), SHOWN_OF) for head in heads}
    near = {head: purity(work, head, found[head]) for head in heads}
    sections = [
        f"""# Losses: what histograms, asymmetric focus and an ordered embedding change

```
python benchmarks/kept_sky.py WORK && python benchmarks/learners.py WORK
python benchmarks/unified_losses.py WORK docs/results
```

{len(found)} models of width {BASE.encoder.width} and one seed that differ in their heads. Each has
learnt from the same {BASE.sky.steps * STARS:,} stars of the synthetic sky, seen
{BASE.training.epochs} times, and is tried on {TEST} others, at S/N {SNR:g} a pixel. Histograms
have 128 bins. All start from the same first fits, so that what differs is what a head makes of
them. *CRPS* is the continuous ranked probability score, in the units of the label, smaller is
better; *in 68.3 %* the share of truths inside that central interval, *PIT* the standard deviation
of the probability integral transform in units of a flat one: above 1 where uncertainties are too
small. All are recalibrated on other stars, of skies with errors of lines, which the test stars do
not have. *Neighbours* is how far the ten nearest training stars in the embedding are in Teff, log g
and [Fe/H], relative to any training stars.""",
        remarks("summary"),
        "## CRPS relative to the normal head\n\nGeometric mean over "
        f"{', '.join(SHOWN)} and {', '.join(SHOWN_OF)}.\n\n{summary_table(found)}",
    ]
    for survey in SHOWN_OF:
        sections += [
            f"## {survey}",
            survey_table({head: one[survey] for head, one in found.items()}),
        ]
    rows = [[head, *(f"{one[s]:.2f}" for s in SHOWN_OF)] for head, one in near.items()]
    return [*sections, "## Neighbours", table(["head", *SHOWN_OF], rows)]


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("work", type=Path)
    parser.add_argument("output", type=Path)
    given = parser.parse_args()
    write_page(given.output / "unified_losses.md", page(given.work))


if __name__ == "__main__":
    main()
