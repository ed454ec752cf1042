"""Measure where models of the Sun miss the Sun: the table of `spectrolabe.inference.line_errors`.

    python scripts/line_errors.py DATA EMULATOR

DATA holds ``benchmark_stars`` with the Sun as HARPS saw it. The labels of the model are those of
the Sun; only its microturbulence, its broadening and the continuum are fitted.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spectrolabe.inference.fit import fit
from spectrolabe.models.emulator import Emulator, load_emulator
from spectrolabe.spectra import Spectrum
from spectrolabe.synthesis.limits import BLUE

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "src/spectrolabe/inference/tables/line_errors.npz"
RESOLUTIONS = (1800.0, 7000.0, 28000.0)
PER_FWHM = 2.0
SUN = {"teff": 5772.0, "logg": 4.438, "fe_h": 0.0}
LARGEST = 0.3  # of the continuum


def residuals(sun: Spectrum, emulator: Emulator) -> tuple[NDArray, NDArray]:
    """Return ln(wavelength) and model - Sun, relative to the continuum, NaN where not known."""
    fixed = {name: SUN.get(name, 0.0) for name in emulator.names if name != "v_micro"}
    found = fit([[sun]], [emulator], fixed=fixed, priors="none", model_error=(0.02, 0.0))
    model = found.models[0][0]
    with np.errstate(invalid="ignore"):
        # outliers count: they are what is looked for; pixels without data do not
        known = np.isfinite(model.flux) & (sun.ivar > 0)
        relative = (model.flux - sun.flux) / model.continuum
    shift = np.log1p(found.shift[0][0] / 299792.458)
    return np.log(sun.wavelength) - shift, np.where(known, relative, np.nan)


def smoothed(x: NDArray, residual: NDArray, resolution: float) -> tuple[float, float, NDArray]:
    """Root mean square of residuals over one FWHM, on an even grid: start, step and values."""
    step = 1.0 / (PER_FWHM * resolution)
    grid = np.arange(max(x[0], np.log(BLUE)), x[-1], step)
    edges = np.searchsorted(x, np.stack([grid - step, grid + step]))
    known = np.isfinite(residual)
    total = np.concatenate([[0.0], np.cumsum(np.where(known, residual, 0.0) ** 2)])
    count = np.concatenate([[0], np.cumsum(known)])
    mean = np.diff(total[edges], axis=0)[0] / np.maximum(np.diff(count[edges], axis=0)[0], 1)
    return float(grid[0]), step, np.minimum(np.sqrt(np.maximum(mean, 0.0)), LARGEST)


def main() -> None:
    """Run as the documentation of this file says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("emulator")
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT / "benchmarks"))
    from reference_stars import degraded

    emulator = load_emulator(options.emulator)
    found = []
    for resolution in RESOLUTIONS:
        (sun,) = degraded(options.data, "Sun", "LAMOST", resolution, np.inf, 0)
        found.append(smoothed(*residuals(sun, emulator), resolution))
        print(f"R = {resolution:.0f}: median {np.median(found[-1][2]):.4f}")
    TABLE.parent.mkdir(exist_ok=True)
    np.savez_compressed(
        TABLE,
        resolution=np.array(RESOLUTIONS),
        start=np.array([one[0] for one in found]),
        step=np.array([one[1] for one in found]),
        **{f"error_{q}": one[2].astype(np.float16) for q, one in enumerate(found)},
    )


if __name__ == "__main__":
    main()
