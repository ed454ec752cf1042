"""One model of all surveys, against one without a survey, and against a model of each alone.

    python benchmarks/unified_left_out.py WORK                       # trains; again to continue
    python benchmarks/unified_left_out.py WORK --page docs/results   # tries what is trained

Small models of one budget: ``all`` surveys; ``without-SURVEY``, which tells what wavelengths and
resolutions alone say of an instrument never seen; and ``only-SURVEY``, the usual way, whose labels
are brought onto the scale of one of them by a polynomial of degree two in Teff, log g and [Fe/H]
fitted to stars in common. A run that was interrupted goes on where it was. What counts are the
differences between runs: all are far from what a long training reaches.
"""

from __future__ import annotations

import argparse
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pages import remarks, table, write_page
from spectrolabe.config import EncoderConfig, SkyTrainConfig, StreamConfig
from spectrolabe.config.train import TrainingConfig
from spectrolabe.training.unified import train_on_sky
from spectrolabe.validation.metrics import mad
from unified_accuracy import digits
from unified_sky import MAIN, SURVEYS, Sky, abundances, read_sky

__all__ = ["config_of", "runs"]

RANDOM_SHARE = 1.5  # of instruments that are made up, beside surveys of share 1
ANCHORS = "apogee"  # whose scale the others are brought to
SNR = 50.0
STARS = 400
SHOWN = (*MAIN, "mg_fe", "c_fe")
Arrays = dict[str, NDArray]


@dataclass(frozen=True)
class Budget:
    """What every run may spend."""

    epochs: int = 15
    steps: int = 100
    stars: int = 16
    width: int = 64


def runs(left_out: tuple[str, ...], alone: tuple[str, ...]) -> dict[str, dict[str, float]]:
    """Return the shares of instruments of every run by its name."""
    every = dict.fromkeys(SURVEYS, 1.0)
    found = {"all": {**every, "random": RANDOM_SHARE}}
    for survey in left_out:
        rest = {name: share for name, share in every.items() if name != survey}
        found[f"without-{survey}"] = {**rest, "random": RANDOM_SHARE}
    return found | {f"only-{survey}": {survey: 1.0} for survey in alone}


def config_of(name: str, surveys: dict[str, float], budget: Budget) -> SkyTrainConfig:
    """Return the training of a run."""
    return SkyTrainConfig(
        name=name,
        sky=StreamConfig(surveys=surveys, steps=budget.steps),
        encoder=EncoderConfig(
            width=budget.width,
            latents=8,
            blocks=2,
            dropout=0.0,
            filters=2,
            shortest_period=0.0015,
        ),
        training=TrainingConfig(
            epochs=budget.epochs, batch_size=budget.stars, weight_decay=0.01, seed=1
        ),
        calibration=200,
        compact="unified-v1",  # spectra of all wavelengths, whatever surveys a run sees
    )


def _finished(folder: Path) -> bool:
    return (folder / "card.json").exists()


def train_all(work: Path, wanted: dict[str, dict[str, float]], budget: Budget) -> None:
    """Train what is not trained yet."""
    for name, surveys in wanted.items():
        if _finished(work / name):
            continue
        print(f"training {name}", flush=True)
        train_on_sky(config_of(name, surveys, budget), work / name)


def _try(folder: Path, surveys: tuple[str, ...], stars: int) -> tuple[Sky, Arrays]:
    """Return what a model says of the same stars as seen by surveys."""
    sky = read_sky(folder)
    drawn = sky.stars("mixed", stars, [7])
    found: Arrays = {"truth": drawn.values}
    for survey in surveys:
        seen = sky.estimated(survey, drawn, SNR, [7])
        found |= {survey: seen.mean, f"sigma/{survey}": seen.sigma}
    return sky, found


def _errors(found: Arrays, survey: str, names: tuple[str, ...]) -> dict[str, tuple[float, ...]]:
    """Bias, scatter and width of the pulls of every label."""
    error = found[survey] - found["truth"]
    rows = {}
    for j, name in enumerate(names):
        use = np.isfinite(error[:, j])
        if use.any():
            e = error[use, j]
            pull = e / found[f"sigma/{survey}"][use, j]
            rows[name] = (float(np.median(e)), mad(e), mad(pull))
    return rows


def _left_out(work: Path, surveys: tuple[str, ...], stars: int) -> str:
    """Each survey by the model of all, without it, and alone."""
    rows = []
    whole: Sky | None = None
    for survey in surveys:
        for run in ("all", f"without-{survey}", f"only-{survey}"):
            if not _finished(work / run):
                continue
            sky, found = _try(work / run, (survey,), stars)
            whole = whole or sky
            numbers = _errors(found, survey, sky.names)
            cells = [
                f"{numbers[n][0]:+.{digits(n)}f} / {numbers[n][1]:.{digits(n)}f}" for n in SHOWN
            ]
            own = [numbers[n] for n in abundances(sky.names)]
            cells.append(f"{np.median([x[1] for x in own]):.3f}")
            cells.append(f"{numbers['teff'][2]:.2f}, {np.median([x[2] for x in own]):.2f}")
            rows.append([f"{survey}, {run.split('-')[0]}", *cells])
    head = ["survey, model", *(f"{n}: bias / MAD" for n in SHOWN)]
    return table([*head, "[X/Fe], median MAD", "pull width: Teff, [X/Fe]"], rows)


def _polynomial(estimate: NDArray, columns: list[int]) -> NDArray:
    """Terms of degree two in the main labels, and the label itself is added by who fits."""
    x = estimate[:, columns]
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    pairs = [x[:, i] * x[:, j] for i in range(x.shape[1]) for j in range(i, x.shape[1])]
    return np.column_stack([np.ones(len(x)), x, *pairs])


def _recalibrated(sky: Sky, own: NDArray, anchor: NDArray) -> NDArray:
    """Bring the second half of stars to the anchor's scale by the first half, (N / 2, L)."""
    columns = [sky.names.index(n) for n in MAIN]
    design = _polynomial(own, columns)
    half = len(own) // 2
    found = np.full(own.shape, np.nan)
    for j in range(own.shape[1]):
        terms = np.column_stack([design, own[:, j]])
        use = np.isfinite(terms[:half]).all(axis=1) & np.isfinite(anchor[:half, j])
        if use.sum() > 2 * terms.shape[1]:
            weights = np.linalg.lstsq(terms[:half][use], anchor[:half][use, j], rcond=None)[0]
            found[:, j] = terms @ weights
    return found[half:]


def _homogeneity(work: Path, surveys: tuple[str, ...], stars: int) -> str:
    """Differences between surveys: one model, or one each and a polynomial."""
    sky, one = _try(work / "all", surveys, stars)
    each = {
        survey: _try(work / f"only-{survey}", (survey,), stars)[1][survey] for survey in surveys
    }
    half = stars // 2
    polynomial = {
        survey: each[survey][half:]
        if survey == ANCHORS
        else _recalibrated(sky, each[survey], each[ANCHORS])
        for survey in surveys
    }
    ways: dict[str, dict[str, NDArray]] = {
        "one model": {survey: one[survey][half:] for survey in surveys},
        "one each": {survey: each[survey][half:] for survey in surveys},
        "one each, polynomial": polynomial,
    }
    truth, rows = one["truth"][half:], []
    for a, b in itertools.combinations(surveys, 2):
        for way, values in ways.items():
            cells: list[Any] = []
            for name in SHOWN:
                j, d = sky.names.index(name), digits(name)
                difference = values[a][:, j] - values[b][:, j]
                cells.append(f"{np.median(difference):+.{d}f} / {mad(difference):.{d}f}")
            columns = [sky.names.index(n) for n in abundances(sky.names)]
            spread = [mad(values[a][:, j] - values[b][:, j]) for j in columns]
            error = [mad(values[b][:, j] - truth[:, j]) for j in columns]
            cells += [f"{np.median(spread):.3f}", f"{np.median(error):.3f}"]
            rows.append([f"{a} − {b}: {way}", *cells])
    head = ["pair", *(f"{n}: median / MAD" for n in SHOWN)]
    head += ["[X/Fe], median MAD", "[X/Fe] of the second against the truth"]
    return table(head, rows)


def page(work: Path, surveys: tuple[str, ...], budget: Budget, stars: int) -> list[str]:
    """Return the sections of the page."""
    complete = tuple(s for s in surveys if _finished(work / f"only-{s}"))
    spectra = budget.epochs * budget.steps * budget.stars
    sections = [
        f"""# A survey left out, and one model per survey

```
python benchmarks/unified_left_out.py WORK --page docs/results
```

Models of width {budget.width}, each trained on {spectra:,} simulated stars: `all` on six surveys
and made-up instruments, `without` one of the surveys, `only` one survey. {stars} stars not seen in
training, the same for all, at S/N {SNR:g}; no lost arms or pixels. Such a training is short: the
differences between runs are what the page is about. A model `without` a survey has no
recalibration of its own for it.

Median and 1.4826 MAD of estimate - truth.

{_left_out(work, surveys, stars)}

{remarks("left_out")}"""
    ]
    if len(complete) > 1 and ANCHORS in complete and _finished(work / "all"):
        sections.append(
            f"""## Against one model per survey

Differences between surveys of the second half of the stars. *Polynomial*: of degree two in Teff,
log g and [Fe/H], and the label itself, fitted on the first half, whose stars both surveys see, to
what `only-{ANCHORS}` says. That is help that the one model does not get; where a survey sees less,
a fit to a noisy scale draws labels to their mean, which makes differences small and errors large
(last column).

{_homogeneity(work, complete, stars)}

{remarks("per_survey")}"""
        )
    return sections


def main() -> None:
    """Train, or try what is trained."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--left-out", nargs="*", default=list(SURVEYS), choices=SURVEYS)
    parser.add_argument("--alone", nargs="*", default=list(SURVEYS), choices=SURVEYS)
    parser.add_argument("--epochs", type=int, default=Budget.epochs)
    parser.add_argument("--steps", type=int, default=Budget.steps, help="of an epoch")
    parser.add_argument("--width", type=int, default=Budget.width)
    parser.add_argument("--stars", type=int, default=STARS, help="to try models on")
    parser.add_argument("--page", type=Path, help="folder to write unified_left_out.md to")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    budget = Budget(epochs=arguments.epochs, steps=arguments.steps, width=arguments.width)
    surveys = tuple(s for s in SURVEYS if s in {*arguments.left_out, *arguments.alone})
    if arguments.page:
        sections = page(arguments.work, surveys, budget, arguments.stars)
        write_page(arguments.page / "unified_left_out.md", sections)
        return
    train_all(arguments.work, runs(tuple(arguments.left_out), tuple(arguments.alone)), budget)


if __name__ == "__main__":
    main()
