"""Spectra and differential spectra against Turbospectrum's.

    python benchmarks/turbospectrum.py DATA/turbospectrum/turbospectrum.npz [--stars 40] [--output docs/results]

The file holds normalised fluxes of stars of random composition, and forward differences of some stars. Both codes use MARCS
temperatures, the same line lists and re-integrated pressures, and are compared on the same wavelengths.
"""

from __future__ import annotations

import argparse
import re
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spectrolabe.spectra import air_to_vacuum, convolve_lsf
from spectrolabe.synthesis.spectrum import Star, synthesise

RESOLUTIONS = (1800, 11500, 28000)
EDGES = (3900, *range(4200, 9001, 300))  # Å in air


def star_of(names: list[str], labels: NDArray) -> Star:
    """Return the star of one row of the reference file."""
    value = dict(zip(names, (float(v) for v in labels), strict=True))
    elements = {name.removesuffix("_Fe"): v for name, v in value.items() if name.endswith("_Fe")}
    return Star(value["Teff"], value["logg"], value["FeH"], value["vmic"], elements)


def our_name(name: str) -> str:
    """Return our label for theirs."""
    known = {"Teff": "teff", "logg": "logg", "FeH": "fe_h", "vmic": "v_micro"}
    return known.get(name, name.lower())


def spectra(data: dict[str, NDArray], stars: int) -> dict[int, NDArray]:
    """Return differences (stars, windows, [mean, std]) at each resolution, printing as it goes."""
    names, air = list(data["label_names"]), data["wave_air"]
    vacuum = air_to_vacuum(air)
    rows = np.flatnonzero(data["kind"] == "random")[:stars]
    found = {r: [] for r in RESOLUTIONS}
    for row in rows:
        start = time.process_time()
        ours = synthesise(star_of(names, data["labels"][row]), vacuum).flux
        spent = time.process_time() - start
        theirs = data["flux_u16"][row] * float(data["flux_scale"])
        line = []
        for r in RESOLUTIONS:
            difference = convolve_lsf(vacuum, ours - theirs, r)
            parts = [difference[(air >= a) & (air < b)] for a, b in zip(EDGES[:-1], EDGES[1:], strict=True)]
            found[r].append([(part.mean(), part.std()) for part in parts])
            line.append(f"R {r}: " + " ".join(f"{m*100:+.2f}/{s*100:.2f}" for m, s in found[r][-1]))
        labels = " ".join(f"{v:.2f}" for v in data["labels"][row][:4])
        print(f"{labels}  {spent:.1f} s  {line[0]}", flush=True)
    return {r: np.array(values) for r, values in found.items()}


def slopes(data: dict[str, NDArray]) -> list[tuple[str, str, float, float]]:
    """Return (star, label, slope, relative L2 difference) at R = 11,500."""
    names, air = list(data["label_names"]), data["wave_air"]
    vacuum = air_to_vacuum(air)
    kinds = [str(kind) for kind in data["kind"]]
    table = []
    for base in (kind for kind in kinds if kind.endswith(":base")):
        star = base.split(":")[1]
        labels = [k.split(":")[2] for k in kinds if k.startswith(f"grad:{star}:")]
        labels = [name for name in labels if name != "base"]
        zero = kinds.index(base)
        start = time.process_time()
        ours = synthesise(
            star_of(names, data["labels"][zero]),
            vacuum,
            differential=[our_name(name) for name in labels],
        )
        print(f"{star}: {len(labels)} differential spectra {time.process_time() - start:.1f} s")
        for k, name in enumerate(labels):
            other = kinds.index(f"grad:{star}:{name}")
            step = float(data["fd_step"][names.index(name)])
            theirs = (data["flux_u16"][other].astype(float) - data["flux_u16"][zero]) * float(data["flux_scale"]) / step
            a, b = convolve_lsf(vacuum, np.stack([ours.differential[k], theirs]), 11500)
            slope = (a @ b) / (b @ b)
            table.append((star, our_name(name), slope, np.sqrt(((a - b) ** 2).sum() / (b**2).sum())))
            print(f"  {name:6s} slope {slope:.3f}  L2 {table[-1][3]:.3f}", flush=True)
    return table


def main() -> None:
    """Compare, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--stars", type=int, default=40)
    parser.add_argument("--no-slopes", action="store_true")
    arguments = parser.parse_args()
    with np.load(arguments.file) as file:
        data = {key: file[key] for key in file.files}
    found = spectra(data, arguments.stars)
    for r, values in found.items():
        if not len(values):
            continue
        print(f"R = {r}: window, median mean, median std, worst std (per cent)")
        for k, (a, b) in enumerate(zip(EDGES[:-1], EDGES[1:], strict=True)):
            m, s = values[:, k, 0], values[:, k, 1]
            print(f"  {a}-{b}: {np.median(m)*100:+.2f} {np.median(s)*100:.2f} {s.max()*100:.2f}")
    if not arguments.no_slopes:
        slopes(data)


if __name__ == "__main__":
    main()
