"""What changes a model's result that should not, and by how much?

    python benchmarks/invariances.py weights/lamost-dr10 DATA [--output docs/results]

DATA holds ``lamost_dr10``. Writes the page ``invariances.md``: changes of the estimates of 64
validation spectra in units of their predicted standard deviation; remarks between the markers of
an older page are kept.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pages import remarks, table, write_page
from samples import lamost
from spectrolabe.models.checkpoint import load
from spectrolabe.models.estimator import Estimator
from spectrolabe.models.pixels import row_of
from spectrolabe.models.posterior import LabelPosterior
from spectrolabe.spectra import Spectrum, resample
from spectrolabe.training.augmentation import halved

SPECTRA = 64
SEED = 4
CUT = 5700.0  # Å, between the two arms of LAMOST

Star = list[Spectrum]
Vary = Callable[[Spectrum, np.random.Generator], Star]


def without(fraction: float) -> Vary:
    """Lose random pixels."""

    def vary(spectrum: Spectrum, rng: np.random.Generator) -> Star:
        lost = rng.random(len(spectrum)) < fraction
        return [spectrum.replace(ivar=np.where(lost, 0.0, spectrum.ivar))]

    return vary


def nan_where_bad(spectrum: Spectrum, rng: np.random.Generator) -> Star:
    """Write NaN where ivar is 0."""
    return [spectrum.replace(flux=np.where(spectrum.good, spectrum.flux, np.nan))]


def part(spectrum: Spectrum, pixels: slice) -> Spectrum:
    """Return some pixels of a spectrum of one resolution."""
    return spectrum.replace(
        wavelength=spectrum.wavelength[pixels],
        flux=spectrum.flux[pixels],
        ivar=spectrum.ivar[pixels],
    )


def two_arms(spectrum: Spectrum, rng: np.random.Generator) -> Star:
    """Cut between the arms of LAMOST."""
    at = int(np.searchsorted(spectrum.wavelength, CUT))
    return [part(spectrum, slice(None, at)), part(spectrum, slice(at, None))]


def two_parts(spectrum: Spectrum, rng: np.random.Generator) -> Star:
    """Cut anywhere in the middle three fifths."""
    at = int(rng.uniform(0.2, 0.8) * len(spectrum))
    return [part(spectrum, slice(None, at)), part(spectrum, slice(at, None))]


def on_grid(spectrum: Spectrum, grid: NDArray, flux: NDArray, ivar: NDArray) -> Spectrum:
    """Return a spectrum on other pixels, with the R that it has there."""
    resolution = np.broadcast_to(spectrum.resolution, spectrum.wavelength.shape)
    resolution = np.interp(grid, spectrum.wavelength, resolution)
    return spectrum.replace(wavelength=grid, flux=flux, ivar=ivar, resolution=resolution)


def pairs_merged(spectrum: Spectrum, rng: np.random.Generator) -> Star:
    """Average neighbouring pixels, weighted by ivar."""
    row = halved(row_of(spectrum))
    return [on_grid(spectrum, row.wavelength, row.flux, row.ivar)]


def resampled(spectrum: Spectrum, rng: np.random.Generator) -> Star:
    """Average onto a grid of twice the step that begins at a random place in a pixel."""
    x = np.log(spectrum.wavelength)
    step = 2.0 * np.median(np.diff(x))
    grid = np.exp(np.arange(x[0] + rng.random() * step, x[-1], step))
    flux, ivar = resample(spectrum.wavelength, spectrum.flux, spectrum.ivar, grid)
    return [on_grid(spectrum, grid, flux, ivar)]


def moved(velocity: float) -> Vary:
    """Give a wrong radial velocity, with a random sign."""

    def vary(spectrum: Spectrum, rng: np.random.Generator) -> Star:
        known = spectrum.rv if np.isfinite(spectrum.rv) else 0.0
        return [spectrum.replace(rv=known + velocity * rng.choice([-1.0, 1.0]))]

    return vary


def scaled(spectrum: Spectrum, rng: np.random.Generator) -> Star:
    """Multiply the flux by a thousand."""
    return [spectrum.replace(flux=1e3 * spectrum.flux, ivar=1e-6 * spectrum.ivar)]


VARIED: dict[str, Vary] = {
    "NaN in bad pixels": nan_where_bad,
    "flux × 1000": scaled,
    "5 % of the pixels lost": without(0.05),
    "20 % of the pixels lost": without(0.20),
    f"two arms, cut at {CUT:.0f} Å": two_arms,
    "two parts, cut at random": two_parts,
    "pairs of pixels merged": pairs_merged,
    "resampled to half the pixels": resampled,
    "velocity wrong by 5 km/s": moved(5.0),
    "velocity wrong by 10 km/s": moved(10.0),
}


def longer(spectrum: Spectrum, pixels: int = 20000) -> Spectrum:
    """Return a spectrum with many more pixels, which sets the padding of its batch."""
    grid = np.geomspace(spectrum.wavelength[0], spectrum.wavelength[-1], pixels)
    flux = np.interp(grid, spectrum.wavelength, spectrum.flux)
    return on_grid(spectrum, grid, flux, np.ones(pixels)).replace(star_id="longer")


def batched(model: Estimator, stars: list[Star]) -> dict[str, LabelPosterior]:
    """The same spectra in other company: padding, order, and size of the batch."""
    count = len(stars)
    order = np.random.default_rng(SEED).permutation(count)
    shuffled = model.estimate([stars[i] for i in order], batch_size=count).calibrated
    padded = model.estimate([[longer(stars[0][0])], *stars], batch_size=count + 1).calibrated
    return {
        "batches of 1": model.estimate(stars, batch_size=1).calibrated,
        "another order": shuffled.take(np.argsort(order)),
        "padded to 20,000 pixels": padded.take(np.arange(1, count + 1)),
    }


def row(name: str, reference: LabelPosterior, found: LabelPosterior) -> list[str]:
    """Median and 95th percentile of the change of each label, and of the change of sigma."""
    change = np.abs(found.mean - reference.mean) / reference.sigma
    wider = np.median(found.sigma / reference.sigma, axis=0)
    cells = [f"{_short(a)} / {_short(b)}" for a, b in zip(*_quantiles(change), strict=True)]
    return [name, *cells, *(f"{value:.3f}" for value in wider)]


def _quantiles(change: NDArray) -> NDArray:
    return np.quantile(change, [0.5, 0.95], axis=0)


def _short(value: float) -> str:
    return f"{value:.3f}" if value >= 1e-3 else f"{value:.0e}" if value > 0 else "0"


def page(model: Estimator, stars: list[Star]) -> list[str]:
    """Sections of the page."""
    reference = model.estimate(stars, batch_size=len(stars)).calibrated
    rows = [row(name, reference, found) for name, found in batched(model, stars).items()]
    for name, vary in VARIED.items():
        rng = np.random.default_rng(SEED)
        found = model.estimate([vary(star[0], rng) for star in stars], batch_size=len(stars))
        rows.append(row(name, reference, found.calibrated))
    names = [*model.names, *(f"σ of {name}" for name in model.names)]
    card = model.card
    text = f"""# What should not change a result

Model `{card["name"]}` (weights sha256 `{card["weights_sha256"][:12]}`) on {len(stars)} validation
spectra of LAMOST DR10 drawn at random, by

```
python benchmarks/invariances.py weights/{card["name"]} DATA
```

The first columns are |change of the estimate| / predicted standard deviation, median / 95th
percentile over the spectra; the last ones the median ratio of the new to the old standard
deviation. The first five rows should be rounding errors. The others are different data, or
different noise, so that some change is right: pixels that are lost take their noise with them,
and a wrong velocity is a real difference to which the model has been made tolerant."""
    return [text, table(["what is changed", *names], rows), remarks("summary")]


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--output", type=Path, default=Path("docs/results"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    sample = lamost(options.data / "lamost_dr10", "val")
    chosen = np.random.default_rng(SEED).permutation(len(sample))[:SPECTRA]
    sections = page(load(options.model), sample.take(np.sort(chosen)).spectra)
    write_page(options.output / "invariances.md", sections)
    print("\n\n".join(sections))


if __name__ == "__main__":
    main()
