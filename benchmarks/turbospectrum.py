"""Spectra and differential spectra against Turbospectrum's.

    python benchmarks/turbospectrum.py DATA/turbospectrum/turbospectrum.npz [--stars 40]

The file holds normalised fluxes of stars of random composition, and forward differences of some
stars. Both codes use MARCS temperatures, the same line lists and re-integrated pressures, and are
compared on the same wavelengths.
"""

from __future__ import annotations

import argparse
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spectrolabe.spectra import air_to_vacuum, convolve_lsf
from spectrolabe.synthesis import Star, synthesise

RESOLUTIONS = (1800, 11500, 28000)
EDGES = (3900, *range(4200, 9001, 300))  # Å in air
PALEST = 1e-3  # change of flux over the step below which a label is not measured


def star_of(data: dict[str, NDArray], row: int) -> Star:
    """Return the star of one row of the reference file."""
    names = [str(name) for name in data["label_names"]]
    value = dict(zip(names, (float(v) for v in data["labels"][row]), strict=True))
    elements = {name.removesuffix("_Fe"): v for name, v in value.items() if name.endswith("_Fe")}
    return Star(value["Teff"], value["logg"], value["FeH"], value["vmic"], elements)


def our_name(name: str) -> str:
    """Return our label for theirs."""
    known = {"Teff": "teff", "logg": "logg", "FeH": "fe_h", "vmic": "v_micro"}
    return known.get(name, name.lower())


def flux_of(data: dict[str, NDArray], row: int) -> NDArray:
    """Return Turbospectrum's normalised flux."""
    return data["flux_u16"][row] * float(data["flux_scale"])


def compare_spectra(data: dict[str, NDArray], stars: int, lines: str) -> dict[int, NDArray]:
    """Return mean and std of ours - theirs (stars, windows, 2) at each resolution."""
    air = data["wave_air"]
    vacuum = air_to_vacuum(air)
    found: dict[int, list] = {r: [] for r in RESOLUTIONS}
    for row in np.flatnonzero(data["kind"] == "random")[:stars]:
        start = time.process_time()
        ours = synthesise(star_of(data, row), vacuum, lines=lines).flux
        spent = time.process_time() - start
        for r in RESOLUTIONS:
            difference = convolve_lsf(vacuum, ours - flux_of(data, row), r)
            parts = [difference[(air >= a) & (air < b)] for a, b in pairwise(EDGES)]
            found[r].append([(part.mean(), part.std()) for part in parts])
        std = 100 * np.array(found[1800][-1])[:, 1]
        labels = " ".join(f"{v:8.2f}" for v in data["labels"][row][:4])
        print(f"{labels}  {spent:.1f} s  std at R = 1800: " + " ".join(f"{v:.2f}" for v in std))
    return {r: np.array(values) for r, values in found.items()}


def compare_slopes(data: dict[str, NDArray], lines: str) -> list[tuple[str, str, float, float]]:
    """Return (star, label, slope, relative L2 difference) at R = 11,500."""
    vacuum = air_to_vacuum(data["wave_air"])
    kinds = [str(kind) for kind in data["kind"]]
    table = []
    for base in (kind for kind in kinds if kind.endswith(":base")):
        star, zero = base.split(":")[1], kinds.index(base)
        theirs_of = {k.split(":")[2]: kinds.index(k) for k in kinds if f":{star}:" in k}
        del theirs_of["base"]
        start = time.process_time()
        wanted = [our_name(name) for name in theirs_of]
        ours = synthesise(star_of(data, zero), vacuum, lines=lines, differential=wanted)
        print(
            f"{star}: {len(wanted)} differential spectra, {time.process_time() - start:.1f} CPU s"
        )
        for slope, (name, other) in zip(ours.differential, theirs_of.items(), strict=True):
            step = float(data["fd_step"][list(data["label_names"]).index(name)])
            theirs = (flux_of(data, other) - flux_of(data, zero)) / step
            if np.abs(theirs).max() * step < PALEST:
                continue
            a, b = convolve_lsf(vacuum, np.stack([slope, theirs]), 11500)
            off = np.sqrt(((a - b) ** 2).sum() / (b**2).sum())
            table.append((star, our_name(name), (a @ b) / (b @ b), off))
    return table


def main() -> None:
    """Compare, and print tables in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--stars", type=int, default=40)
    parser.add_argument("--lines", default="reference", choices=("reference", "full"))
    arguments = parser.parse_args()
    with np.load(arguments.file) as file:
        data = {key: file[key] for key in file.files}
    found = compare_spectra(data, arguments.stars, arguments.lines)
    print("\n| window, Å | " + " | ".join(f"R = {r:,}" for r in RESOLUTIONS) + " |")
    print("|---|" + "---|" * len(RESOLUTIONS))
    for k, (a, b) in enumerate(pairwise(EDGES)):
        cells = []
        for r in RESOLUTIONS:
            mean, std = 100 * found[r][:, k].T
            cells.append(f"{np.median(mean):+.2f} / {np.median(std):.2f} / {std.max():.2f}")
        print(f"| {a}-{b} | " + " | ".join(cells) + " |")
    print("\n| star | label | slope | relative L2 |\n|---|---|---|---|")
    for star, label, slope, off in compare_slopes(data, arguments.lines):
        print(f"| {star} | {label} | {slope:.3f} | {off:.3f} |")


if __name__ == "__main__":
    main()
