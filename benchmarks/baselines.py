"""How far do standard regressions get on the same spectra?

    python benchmarks/baselines.py SPECTRA LABELS [--survey lamost_lrs] [--only ridge,cnn]

SPECTRA is a folder of native files, LABELS the survey's label table with a column ``split``. Trains
on the rows ``train`` and prints a Markdown table of the metrics of the rows ``val`` within cuts.
Takes about ten minutes of one core on 800 spectra of LAMOST, nearly all for the CNN.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from pages import table
from samples import Sample
from spectrolabe import surveys
from spectrolabe.labels import LABELS, Labels
from spectrolabe.models.baselines import BASELINES, baseline
from spectrolabe.surveys.join import LabelJoin
from spectrolabe.validation.metrics import evaluate, mad


def read_sample(folder: Path, label_table: Path, survey: str, split: str) -> Sample:
    """Return the spectra of a folder whose row of the label table is of this split."""
    found = surveys.read_labels(label_table, survey)
    join = LabelJoin(found, label_table)
    stars, rows = [], []
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        spectra = surveys.read(path, survey)
        row = join.row(spectra[0])
        if row is not None and found.split[row] == split:
            stars.append([join.apply(spectrum, row)[0] for spectrum in spectra])
            rows.append(row)
    labels = join.labels.take(rows)
    known = [name for name in labels.names if np.isfinite(labels[name]).any()]
    star_id = np.array([star[0].star_id for star in stars], dtype=str)
    labels = labels.select(known)
    labels = Labels(labels.names, labels.values, labels.sigma, star_id)
    return Sample(stars, labels, found.snr[rows], star_id)


def within(sample: Sample, snr: float, teff: float) -> Sample:
    """Return the stars above an S/N and below a temperature."""
    good = sample.snr > snr
    return sample.take(good & (sample.labels["teff"] < teff))


def row(name: str, training: Sample, held_out: Sample, seed: int) -> list[str]:
    """Train one baseline and return its line of the table."""
    start = time.process_time()
    model = baseline(name)(seed=seed).fit(training.spectra, training.labels)
    seconds = time.process_time() - start
    cells = [name]
    for found in evaluate(held_out.labels, model.predict(held_out.spectra)):
        digits = 1 if found.unit == "K" else 3
        numbers = (found.bias, found.mad, found.rmse)
        cells += [f"{number:.{digits}f}" for number in numbers] + [f"{found.pull_std:.2f}"]
    return [*cells, f"{seconds:.0f}"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Train every baseline and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("spectra", type=Path)
    parser.add_argument("labels", type=Path)
    parser.add_argument("--survey", default="lamost_lrs")
    parser.add_argument("--only", default=",".join(BASELINES))
    parser.add_argument("--snr", type=float, default=30.0, help="lower limit of the evaluation")
    parser.add_argument("--teff", type=float, default=8000.0, help="upper limit of the evaluation")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    source = (options.spectra, options.labels, options.survey)
    training = read_sample(*source, "train")
    held_out = within(read_sample(*source, "val"), options.snr, options.teff)
    head = ["baseline"]
    for name in training.labels.names:
        unit = LABELS[name].unit
        head += [f"{name}: bias [{unit}]", f"1.4826 MAD [{unit}]", f"RMSE [{unit}]", "pull width"]
    spread = ", ".join(f"{name} {mad(training.labels[name]):.3g}" for name in training.labels.names)
    print(f"{len(training)} training spectra (1.4826 MAD of the labels: {spread}),", end=" ")
    print(f"{len(held_out)} held out\n")
    rows = []
    for name in options.only.split(","):
        rows.append(row(name, training, held_out, options.seed))
        print(" | ".join(rows[-1]), flush=True)
    print("\n" + table([*head, "train [core s]"], rows))


if __name__ == "__main__":
    main()
