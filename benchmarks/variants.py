"""Choosing between designs on training stars only: one fold is kept out, the rest is fitted.

    python benchmarks/variants.py configs/lamost-dr10.toml STORE --epochs 40 \
        --variant "one latent per label: encoder.latents=3" --variant "deeper: encoder.blocks=4"

Every variant is the configuration with some keys changed; the first row is the configuration as it
is. The validation stars of the configuration's store are never read. Prints a markdown table of
1.4826 MAD on the fold (S/N > 25 and, for Teff, labels below 8000 K), and the training rate.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from pages import table
from spectrolabe.config import TrainConfig, load_config
from spectrolabe.labels import LABELS, LabelScale
from spectrolabe.spectra.store import open_store
from spectrolabe.training.data import load_sample, split_stars
from spectrolabe.training.trainer import encode_sample, fit

FOLDS, SNR_CUT, TEFF_CUT = 5, 25.0, 8000.0


def row(name: str, config: TrainConfig) -> list[str]:
    """Fit one variant and return its row of the table."""
    sample = load_sample(open_store(config.data.store), config.data)
    splits = split_stars(sample, config.data, config.training.seed, fold=0)
    scale = LabelScale.fit(splits.train.labels)
    with tempfile.TemporaryDirectory() as folder:
        encoder = fit(config, splits, scale, Path(folder))
        lines = (Path(folder) / "metrics.jsonl").read_text().splitlines()
    rate = np.median([json.loads(line)["spectra_per_second"] for line in lines])
    truth = splits.calibration.labels
    residual = scale.unscale(encode_sample(encoder, splits.calibration)[0]) - truth.values
    use = splits.calibration.column("snr") > SNR_CUT
    if "teff" in truth.names:
        use &= truth["teff"] < TEFF_CUT
    residual = residual[use]
    spread = 1.4826 * np.nanmedian(np.abs(residual - np.nanmedian(residual, axis=0)), axis=0)
    size = sum(p.numel() for p in encoder.parameters())
    return [
        name,
        *(f"{s:.3g}" for s in spread),
        f"{size / 1e3:.0f} k",
        f"{rate:.0f}",
        str(use.sum()),
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Fit the configuration and its variants, and print the table as it grows."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("store")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--variant", action="append", default=[], metavar="NAME: KEY=VALUE ...")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    common = [
        f"data.store={options.store}",
        f"data.folds={FOLDS}",
        f"training.epochs={options.epochs}",
    ]
    rows = []
    head: list[str] = []
    for variant in ["as configured:", *options.variant]:
        name, _, changes = variant.partition(":")
        config = load_config(options.config, [*common, *changes.split()])
        units = [f"{label} [{LABELS[label].unit}]" for label in config.data.labels]
        head = ["variant", *units, "weights", "spectra/s", "n"]
        rows.append(row(name, config))
        print(" | ".join(rows[-1]), flush=True)
    print(table(head, rows))


if __name__ == "__main__":
    main()
