"""What keeps a model from the limit at high S/N? The same stars with a cause taken away.

    python benchmarks/unified_causes.py MODEL [--stars N] [--output FOLDER]

Air that is not there, noise that is independent from pixel to pixel, tokens that a fit trusts
whatever they hold: limits are computed anew for each, and the ratio of errors to them is shown.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track

from pages import remarks, table, write_page
from spectrolabe.models import explained, first_fit
from spectrolabe.models.tokens import tokenise
from spectrolabe.training.stars import Stars
from spectrolabe.validation.metrics import mad
from unified_accuracy import limits_of, ratio, usable
from unified_limits import fishers, priors
from unified_sky import MAIN, Sky, abundances, chunks, read_sky

SNRS = (120.0, 230.0)
SEEN_BY = ("apogee", "galah", "lamost_lrs")
LOOKS = 15  # at spectra of the emulators


@contextmanager
def _independent_noise(sky: Sky, survey: str) -> Iterator[None]:
    kept = sky.stream.instruments[survey]
    sky.stream.instruments[survey] = replace(kept, correlation=0.0)
    yield
    sky.stream.instruments[survey] = kept


@contextmanager
def _no_air(sky: Sky, survey: str) -> Iterator[None]:
    kept = sky.stream.instruments[survey]
    arms = [replace(arm, telluric=torch.zeros_like(arm.telluric)) for arm in kept.arms]
    sky.stream.instruments[survey] = replace(kept, arms=tuple(arms))
    yield
    sky.stream.instruments[survey] = kept


@contextmanager
def _all_trusted(sky: Sky, survey: str) -> Iterator[None]:
    kept, explained.EXPLAINED = explained.EXPLAINED, np.inf
    yield
    explained.EXPLAINED = kept


@contextmanager
def _trusted_without_air(sky: Sky, survey: str) -> Iterator[None]:
    with _no_air(sky, survey), _all_trusted(sky, survey):
        yield


@contextmanager
def _converged(sky: Sky, survey: str) -> Iterator[None]:
    kept, first_fit.CORRECTIONS = first_fit.CORRECTIONS, LOOKS
    with _trusted_without_air(sky, survey):
        yield
    first_fit.CORRECTIONS = kept


@contextmanager
def _as_it_is(sky: Sky, survey: str) -> Iterator[None]:
    yield


Cause = Callable[[Sky, str], object]
CAUSES: dict[str, Cause] = {
    "as it is": _as_it_is,
    "noise of pixels independent": _independent_noise,
    "no air": _no_air,
    "all tokens trusted": _all_trusted,
    "no air, all tokens trusted": _trusted_without_air,
    "no air, all tokens trusted, 15 looks": _converged,
}


@torch.inference_mode()
def _first_fits(sky: Sky, survey: str, stars: Stars, snr: float) -> tuple[NDArray, NDArray]:
    """Scaled labels of the first fits of the stars of `Sky.estimated`, and their sigma, (N, L)."""
    guesser, parts = sky.model.encoder.guesser, []
    assert guesser is not None
    for k, rows in enumerate(chunks(len(stars))):
        pixels, _, _ = sky.seen(survey, stars.take(rows), snr, [0, k])
        each = torch.arange(len(rows))
        prior = guesser(guesser.fit([tokenise(pixels)], each, each)).prior
        parts.append((prior.mean.numpy(), prior.log_sigma.exp().numpy()))
    mean, sigma = (np.concatenate(part) for part in zip(*parts, strict=True))
    return mean, sigma


def _cells(sky: Sky, survey: str, count: int) -> Iterator[list[str]]:
    stars = sky.stars("mixed", count)
    fisher, prior = fishers(sky, survey, stars, [0]), priors(sky, survey)["mixed"]
    for snr in SNRS:
        seen = sky.estimated(survey, stars, snr, [0])
        limit = limits_of(sky, fisher, np.full(count, snr), prior)
        error = seen.mean - seen.truth
        cells = [f"{snr:g}"]
        for name in MAIN:
            j = sky.names.index(name)
            digits = 1 if name == "teff" else 3
            size, least = mad(error[:, j]), np.median(limit[:, j])
            own = ratio(error[:, j], limit[:, j])
            cells.append(f"{size:.{digits}f} / {least:.{digits}f} = {own:.2f}")
        mean, sigma = _first_fits(sky, survey, stars, snr)
        j, width = sky.names.index("teff"), sky.model.scale.width[sky.names.index("teff")]
        wrong = sky.model.scale.unscale(mean)[:, j] - seen.truth[:, j]
        told = np.median(sigma[:, j] * width / limit[:, j])
        cells.append(f"{ratio(wrong, limit[:, j]):.2f}, {told:.2f}")
        own = [sky.names.index(name) for name in abundances(sky.names)]
        good = [j for j in own if usable(limit[:, j], seen.truth[:, j])]
        ratios = [ratio(error[:, j], limit[:, j]) for j in good]
        yield [*cells, f"{np.median(ratios):.2f}"]


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("model", type=Path)
    parser.add_argument("--stars", type=int, default=64)
    parser.add_argument("--output", type=Path, default=Path("docs/results"))
    arguments = parser.parse_args()
    sky, rows = read_sky(arguments.model), []
    for survey, name in track([(s, c) for s in SEEN_BY for c in CAUSES], "causes"):
        with CAUSES[name](sky, survey):
            rows += [[survey, name, *cells] for cells in _cells(sky, survey, arguments.stars)]
    head = ["survey", "cause taken away", "S/N", *(f"{n}: MAD / limit = ratio" for n in MAIN)]
    write_page(
        arguments.output / "unified_causes.md",
        [
            f"""# What keeps the unified model from the limit

```
python benchmarks/unified_causes.py {arguments.model.name} --stars {arguments.stars}
```

{arguments.stars} simulated stars that nobody has learnt from, as on [unified.md](unified.md), where
the limit is explained; it is computed anew where air or the correlation of the noise is taken away.
*All tokens trusted*: the fit weighs tokens by their noise alone, whatever its residuals are. *Fit
alone*: the first fit, before the network, and the sigma that it states (with what it gives away to
the continuum). Last column: the median over the [X/Fe] whose limit is below half of the scatter of
the stars.

{remarks("summary")}""",
            table([*head, "fit alone, teff: ratio, its sigma / limit", "[X/Fe] ratio"], rows),
        ],
    )


if __name__ == "__main__":
    main()
