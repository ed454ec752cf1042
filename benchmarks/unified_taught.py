"""Pulls of stars as a model was taught: wrong lines, scattered light, lost pixels, any S/N."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pages import table
from spectrolabe.config import StreamConfig
from spectrolabe.training.sky import SkyStream
from spectrolabe.training.stars import EXPOSURE, GALACTIC
from spectrolabe.validation.metrics import mad
from unified_sky import MAIN, SEED, SURVEYS, Sky, abundances, told_by

__all__ = ["pulls", "section"]

BATCH = 16  # stars
USABLE = 0.5  # of the standard deviation of stars: a smaller median uncertainty says something


def pulls(sky: Sky, survey: str, count: int) -> dict[str, NDArray]:
    """Return pulls and uncertainties of ``count`` new stars that one survey sees."""
    config = dict(sky.model.card["configuration"]["sky"])
    stream = SkyStream(StreamConfig(**config), scale=sky.model.scale)
    rng = np.random.default_rng([SEED, SURVEYS.index(survey), 3])
    batches = []
    for _ in range(-(-count // BATCH)):
        instrument = stream.draw_instrument(survey, rng)
        views = [(instrument, np.arange(BATCH))]
        batches.append(stream.observed(stream.stars(BATCH, rng), views, rng))
    estimate, truth = told_by(sky.model, batches, survey)
    found = estimate.calibrated
    return {
        "pull": (found.mean - truth) / found.sigma,
        "sigma": found.sigma / sky.model.scale.width,
    }


def _cells(name: str, found: dict[str, NDArray], names: tuple[str, ...]) -> list[str]:
    width, inside = {}, {}
    for j, label in enumerate(names):
        pull = found["pull"][:, j][np.isfinite(found["pull"][:, j])]
        width[label], inside[label] = mad(pull), np.mean(np.abs(pull) < 1.0)
    own = abundances(names)
    seen = [n for n in own if np.median(found["sigma"][:, names.index(n)]) < USABLE]
    good = [0.9 <= width[n] <= 1.1 for n in names if n != EXPOSURE]
    return [
        name,
        *(f"{width[n]:.2f}" for n in (*MAIN, *GALACTIC, "v_broad")),
        f"{np.median([width[n] for n in own]):.2f}"
        f" ({min(width[n] for n in own):.2f} to {max(width[n] for n in own):.2f})",
        f"{np.median([inside[n] for n in own]) * 100:.0f} %",
        f"{np.mean(good) * 100:.0f} %",
        str(len(seen)),
    ]


def section(sky: Sky, found: dict[str, dict[str, NDArray]]) -> str:
    """Width of the pulls, by survey."""
    count = len(next(iter(found.values()))["pull"])
    rows = [_cells(name, arrays, sky.names) for name, arrays in found.items()]
    head = ["survey", *MAIN, *GALACTIC, "v_broad", "[X/Fe]", "[X/Fe] in 68 %"]
    head += ["labels in 0.9–1.1", "usable [X/Fe]"]
    return f"""## Uncertainties of stars as they were taught

{count} other stars for each survey, as the training sky has them: S/N 6 to 300, lines up to 3 per
cent too strong or too weak, scattered light, wrong R, lost arms and pixels, coarser spectra. Width
(1.4826 MAD) of the pulls against the truth; uncertainties were recalibrated on stars like these,
which are not these.

{table(head, rows)}"""
