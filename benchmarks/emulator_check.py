"""An emulator against an independent code: Turbospectrum, with the synthesis between them.

    python benchmarks/emulator_check.py EMULATOR DATA/turbospectrum/turbospectrum.npz [--stars 40]

Turbospectrum's spectra were made with the line list `reference`, the emulators learn `full`. So
three differences are shown: the emulator from the synthesis with its own list, which is the error
of emulation; the synthesis with that list from Turbospectrum, which is what the lists and the codes
differ by; and the emulator from Turbospectrum, which has both.
"""

from __future__ import annotations

import argparse
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spectrolabe.models.emulator import Emulator, load_emulator
from spectrolabe.spectra import air_to_vacuum, convolve_lsf
from spectrolabe.synthesis import synthesise
from turbospectrum import EDGES, flux_of, our_name, star_of

RESOLUTIONS = (1800, 28000)
SHOWN = ("emulator - synthesis", "synthesis - Turbospectrum", "emulator - Turbospectrum")


def labels_of(emulator: Emulator, data: dict[str, NDArray], row: int) -> NDArray:
    """Return the labels of one row of the reference file in the order of the emulator."""
    names = [our_name(str(name)) for name in data["label_names"]]
    value = dict(zip(names, data["labels"][row].astype(float), strict=True))
    return np.array([value.get(name, 0.0) for name in emulator.names])


def differences(emulator: Emulator, data: dict[str, NDArray], rows: NDArray, r: int) -> NDArray:
    """Return the three differences of each star, shape (stars, 3, pixels)."""
    vacuum = air_to_vacuum(data["wave_air"])
    found = []
    for row in rows:
        made = emulator.flux(labels_of(emulator, data, row)[None], vacuum, r)[0]
        ours = convolve_lsf(vacuum, synthesise(star_of(data, row), vacuum, lines="full").flux, r)
        theirs = convolve_lsf(vacuum, flux_of(data, row), r)
        found.append([made - ours, ours - theirs, made - theirs])
    return np.array(found)


def main() -> None:
    """Compare, and print tables in Markdown: per cent of the continuum."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("emulator", type=Path)
    parser.add_argument("file", type=Path)
    parser.add_argument("--stars", type=int, default=40)
    arguments = parser.parse_args()
    emulator = load_emulator(arguments.emulator)
    with np.load(arguments.file) as file:
        data = {key: file[key] for key in file.files}
    rows = np.flatnonzero(data["kind"] == "random")
    labels = np.array([labels_of(emulator, data, row) for row in rows])
    inside = ((labels >= emulator.low) & (labels <= emulator.high)).all(axis=1)
    print(f"{inside.sum()} of {len(rows)} stars are within the labels of the emulator")
    rows = rows[inside][: arguments.stars]
    for r in RESOLUTIONS:
        found = 100 * differences(emulator, data, rows, r)
        print(f"\nR = {r:,}, {len(rows)} stars, mean absolute / median over stars of the std\n")
        print("| window, Å | " + " | ".join(SHOWN) + " |\n|---|" + "---|" * len(SHOWN))
        for a, b in [*pairwise(EDGES), (EDGES[0], EDGES[-1])]:
            part = found[..., (data["wave_air"] >= a) & (data["wave_air"] < b)]
            mean, std = np.abs(part).mean(axis=(0, 2)), np.median(part.std(axis=2), axis=0)
            cells = [f"{m:.2f} / {s:.2f}" for m, s in zip(mean, std, strict=True)]
            print(f"| {a}-{b} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
