"""Visits of real stars, before and after the noise is taken off: do they agree?

    python benchmarks/twins_real.py DATA [--model default]

DATA holds ``lamost_dr10``, ``lamost_mrs`` and ``apogee/dr13_visits``. Every visit is compared with
the mean of all *other* visits of its star in its own pixels: raw, and without noise.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pages import remarks, table, write_page
from samples import lamost, repeat_pairs
from spectrolabe import surveys
from spectrolabe.inference.starts import first_guess
from spectrolabe.models.denoiser import Denoiser, load_denoiser
from spectrolabe.models.emulator import load_emulator
from spectrolabe.models.released import DENOISER, find_emulators, find_model
from spectrolabe.spectra import Spectrum
from spectrolabe.spectra.combine import combine

NAMES = ("teff", "logg", "fe_h")
NORMAL = 0.6745**2  # median of a squared standard normal number
Star = list[Spectrum]


def lamost_repeats(data: Path) -> dict[str, Star]:
    """Two spectra of each of some stars."""
    pairs = repeat_pairs(data / "lamost_dr10")
    sample = lamost(data / "lamost_dr10", obsids={x for pair in pairs for x in pair})
    place = {obsid: i for i, obsid in enumerate(sample.obsid)}
    return {" ".join(pair): [sample.spectra[place[x]][0] for x in pair] for pair in pairs}


def lamost_nights(data: Path) -> dict[str, Star]:
    """Single exposures of both arms of one star in several nights, moved to rest by a template."""
    emulators = [load_emulator(folder) for folder in find_emulators("default")]
    found: dict[str, Star] = {}
    for path in sorted((data / "lamost_mrs").glob("med-*.fits.gz")):
        for one in surveys.read(path):
            if not one.meta["coadd"] and one.snr > 5:
                shift = float(np.ravel(first_guess([[one]], emulators).shift[0])[0])
                name = f"{str(one.star_id)[:18]} {one.meta['extension'][0]}"
                found.setdefault(name, []).append(one.replace(rv=shift))
    return found


def apogee_visits(data: Path) -> dict[str, Star]:
    """Visits of cool and odd stars of DR13."""
    found: dict[str, Star] = {}
    for path in sorted((data / "apogee" / "dr13_visits").glob("apStar-*")):
        visits = [one for one in surveys.read(path) if not one.meta["coadd"] and one.good.any()]
        if len(visits) > 1:
            found[visits[0].star_id] = visits
    return found


SETS: dict[str, Callable[[Path], dict[str, Star]]] = {
    "LAMOST DR10, repeats": lamost_repeats,
    "LAMOST MRS, single exposures": lamost_nights,
    "APOGEE DR13, visits": apogee_visits,
}


@dataclass
class Agreement:
    """Of one visit with the mean of the others: raw and without noise."""

    snr: float
    deep_snr: float
    raw: float
    made: float
    floor: float
    chi2_raw: float
    chi2_made: float
    robust_made: float


def agreement(visit: Spectrum, made: Spectrum, others: Sequence[Spectrum]) -> Agreement | None:
    """Compare at pixels where all say something; errors are relative to the median flux."""
    deep = combine(others, visit)
    use = made.good & visit.good & deep.good
    if use.sum() < 100:
        return None
    level = float(np.median(visit.flux[use]))
    noise = 1.0 / deep.ivar[use]

    def of(one: Spectrum) -> tuple[float, float, float]:
        error = (one.flux - deep.flux)[use].astype(float)
        z2 = error**2 / (1.0 / one.ivar[use] + noise)
        size = 1.4826 * float(np.median(np.abs(error))) / level
        return size, float(np.mean(z2)), float(np.median(z2)) / NORMAL

    raw, chi2_raw, _ = of(visit)
    after, chi2_made, robust = of(made)
    floor = float(np.median(np.sqrt(noise))) / level
    return Agreement(visit.snr, deep.snr, raw, after, floor, chi2_raw, chi2_made, robust)


def labels_of(denoiser: Denoiser, spectra: Sequence[Spectrum]) -> NDArray:
    """Labels of single spectra, shape (N, 3)."""
    return np.asarray(denoiser.estimator.predict([[one] for one in spectra]).select(NAMES).mean)


def section(
    name: str, stars: dict[str, Star], denoiser: Denoiser
) -> tuple[list[str], list[list[str]]]:
    """A row of the summary, and a row for each star."""
    rows, every = [], []
    differences: list[tuple[NDArray, NDArray]] = []
    for star, visits in stars.items():
        made = [found[0] for found in denoiser.denoise([[one] for one in visits])]
        own = []
        for i, (visit, one) in enumerate(zip(visits, made, strict=True)):
            result = agreement(visit, one, [v for k, v in enumerate(visits) if k != i])
            if result is not None:
                own.append(result)
        if not own:
            continue
        raw, after = labels_of(denoiser, visits), labels_of(denoiser, made)
        spread = [np.ptp(x, axis=0) / np.sqrt(2.0) if len(x) == 2 else np.std(x, axis=0, ddof=1)
                  for x in (raw, after)]  # fmt: skip
        differences.append((spread[0], spread[1]))
        every += own
        rows.append([star, *_cells(own, len(visits)), *_labels(*differences[-1])])
    typical = [np.median([d[k] for d in differences], axis=0) for k in (0, 1)]
    return [name, str(len(rows)), *_cells(every, len(every)), *_labels(*typical)], rows


def _cells(own: Sequence[Agreement], count: int) -> list[str]:
    middle = lambda key: float(np.median([getattr(one, key) for one in own]))  # noqa: E731
    return [
        str(count),
        f"{middle('snr'):.0f}, {middle('deep_snr'):.0f}",
        f"{100 * middle('raw'):.2f}",
        f"{100 * middle('made'):.2f}",
        f"{100 * middle('floor'):.2f}",
        f"{middle('chi2_raw'):.2f}",
        f"{middle('chi2_made'):.2f}",
        f"{middle('robust_made'):.2f}",
    ]


def _labels(raw: NDArray, after: NDArray) -> list[str]:
    return [
        f"{raw[0]:.0f} → {after[0]:.0f}",
        *(f"{a:.3f} → {b:.3f}" for a, b in zip(raw[1:], after[1:], strict=True)),
    ]


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="default")
    parser.add_argument("--output", type=Path, default=Path("docs/results"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    denoiser = load_denoiser(find_model(arguments.model, DENOISER))
    head = ["visits", "S/N, of the others", "raw [%]", "denoised [%]", "noise of the others [%]"]
    head += ["chi2 raw", "chi2 denoised", "its median", "Teff [K]", "log g", "[Fe/H]"]
    summary, parts = [], []
    for name, read in SETS.items():
        row, rows = section(name, read(arguments.data), denoiser)
        summary.append(row)
        parts.append(f"## {name}\n\n{table(['star', *head], rows)}")
        print(" | ".join(row), flush=True)
    write_page(
        arguments.output / "twins_real.md",
        [
            f"""# Visits of real stars without their noise

```
python benchmarks/twins_real.py DATA --model {arguments.model}
```

Model `{denoiser.name}`, which has learnt from a synthetic sky alone. Each visit is compared with
the weighted mean of all other visits of its star, in its own pixels and at its level; the visit has
no part in that mean. *raw* and *denoised*: 1.4826 x the median of |flux - mean of the others| over
the median flux; a perfect denoiser is left with the *noise of the others*. *chi2*: mean of the
squared difference over the sum of the stated variances, its median over visits; *its median*: the
same of the median over pixels, 1 if errors are right for most. Labels: standard deviation between
visits of a star as `{denoiser.estimator.card["name"]}` reads them, raw → denoised. Medians over
visits, and over stars.

{remarks("summary")}""",
            table(["set", "stars", *head], summary),
            *parts,
        ],
    )


if __name__ == "__main__":
    main()
