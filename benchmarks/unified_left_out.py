"""One model of all surveys, against one without a survey, and against a model of each alone.

    python benchmarks/kept_sky.py WORK && python benchmarks/learners.py WORK
    python benchmarks/unified_left_out.py WORK docs/results

Small models of `learners.py`: ``base`` learns from all surveys; ``without-SURVEY`` says what
wavelengths and resolutions alone tell of an instrument never seen; ``only-SURVEY`` is the usual
way: its labels are brought onto the scale of one of them by a polynomial of degree two in Teff,
log g and [Fe/H] fitted to stars in common.
"""

from __future__ import annotations

import argparse
import itertools
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kept_sky import BASE, SNR, STARS, TEST
from learners import BASELINE, Tried, finished, try_out
from pages import remarks, table, write_page
from spectrolabe.validation.metrics import mad
from unified_accuracy import digits
from unified_sky import MAIN, SURVEYS, abundances

ANCHORS = "apogee"  # whose scale the others are brought to
SHOWN = (*MAIN, "mg_fe", "c_fe")


@cache
def _tried(work: Path, run: str, survey: str) -> Tried:
    return try_out(work, run, (survey,))[survey]


def _errors(one: Tried) -> dict[str, tuple[float, ...]]:
    """Bias, scatter and width of the pulls of every label."""
    error = one.posterior.mean - one.truth
    rows = {}
    for j, name in enumerate(one.posterior.names):
        use = np.isfinite(error[:, j])
        if use.any():
            e = error[use, j]
            pull = e / one.posterior.sigma[use, j]
            rows[name] = (float(np.median(e)), mad(e), mad(pull))
    return rows


def _left_out(work: Path) -> str:
    """Each survey by the model of all, without it, and alone."""
    rows = []
    for survey in SURVEYS:
        for run in (BASELINE, f"without-{survey}", f"only-{survey}"):
            if not finished(work, run):
                continue
            one = _tried(work, run, survey)
            numbers = _errors(one)
            cells = [
                f"{numbers[n][0]:+.{digits(n)}f} / {numbers[n][1]:.{digits(n)}f}" for n in SHOWN
            ]
            own = [numbers[n] for n in abundances(one.posterior.names)]
            cells.append(f"{np.median([x[1] for x in own]):.3f}")
            cells.append(f"{numbers['teff'][2]:.2f}, {np.median([x[2] for x in own]):.2f}")
            kind = "all" if run == BASELINE else run.split("-")[0]
            rows.append([f"{survey}, {kind}", *cells])
    head = ["survey, model", *(f"{n}: bias / MAD" for n in SHOWN)]
    return table([*head, "[X/Fe], median MAD", "pull width: Teff, [X/Fe]"], rows)


def _polynomial(estimate: NDArray, columns: list[int]) -> NDArray:
    """Terms of degree two in the main labels, and the label itself is added by who fits."""
    x = estimate[:, columns]
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    pairs = [x[:, i] * x[:, j] for i in range(x.shape[1]) for j in range(i, x.shape[1])]
    return np.column_stack([np.ones(len(x)), x, *pairs])


def _recalibrated(names: tuple[str, ...], own: NDArray, anchor: NDArray) -> NDArray:
    """Bring the second half of stars to the anchor's scale by the first half, (N / 2, L)."""
    design = _polynomial(own, [names.index(n) for n in MAIN])
    half = len(own) // 2
    found = np.full(own.shape, np.nan)
    for j in range(own.shape[1]):
        terms = np.column_stack([design, own[:, j]])
        use = np.isfinite(terms[:half]).all(axis=1) & np.isfinite(anchor[:half, j])
        if use.sum() > 2 * terms.shape[1]:
            weights = np.linalg.lstsq(terms[:half][use], anchor[:half][use, j], rcond=None)[0]
            found[:, j] = terms @ weights
    return found[half:]


def _homogeneity(work: Path) -> str:
    """Differences between surveys: one model, or one each and a polynomial."""
    half = TEST // 2
    one = {s: _tried(work, BASELINE, s).posterior.mean for s in SURVEYS}
    each = {s: _tried(work, f"only-{s}", s).posterior.mean for s in SURVEYS}
    names = _tried(work, BASELINE, ANCHORS).posterior.names
    brought = {
        s: each[s][half:] if s == ANCHORS else _recalibrated(names, each[s], each[ANCHORS])
        for s in SURVEYS
    }
    ways: dict[str, dict[str, NDArray]] = {
        "one model": {survey: one[survey][half:] for survey in SURVEYS},
        "one each": {survey: each[survey][half:] for survey in SURVEYS},
        "one each, polynomial": brought,
    }
    truth, rows = _tried(work, BASELINE, ANCHORS).truth[half:], []
    columns = [names.index(n) for n in abundances(names)]
    for a, b in itertools.combinations(SURVEYS, 2):
        for way, values in ways.items():
            cells: list[Any] = []
            for name in SHOWN:
                j, d = names.index(name), digits(name)
                difference = values[a][:, j] - values[b][:, j]
                cells.append(f"{np.median(difference):+.{d}f} / {mad(difference):.{d}f}")
            spread = [mad(values[a][:, j] - values[b][:, j]) for j in columns]
            error = [mad(values[b][:, j] - truth[:, j]) for j in columns]
            cells += [f"{np.median(spread):.3f}", f"{np.median(error):.3f}"]
            rows.append([f"{a} − {b}: {way}", *cells])
    head = ["pair", *(f"{n}: median / MAD" for n in SHOWN)]
    head += ["[X/Fe], median MAD", "[X/Fe] of the second against the truth"]
    return table(head, rows)


def page(work: Path) -> list[str]:
    """Return the sections of the page."""
    return [
        f"""# A survey left out, and one model per survey

```
python benchmarks/kept_sky.py WORK && python benchmarks/learners.py WORK
python benchmarks/unified_left_out.py WORK docs/results
```

Models of width {BASE.encoder.width} that learn from one sky of {BASE.sky.steps * STARS:,} simulated
stars, seen {BASE.training.epochs} times: `all` from six surveys and made-up instruments, `without`
from all but the views of one survey, `only` from the views of one survey: six of them have seen
together what `all` has. {TEST} other stars, the same for all, at S/N {SNR:g}; no lost arms or
pixels. A model `without` a survey has no recalibration of its own for it, but its first fit is
the same: that needs no training on a survey.

Median and 1.4826 MAD of estimate - truth.

{_left_out(work)}

{remarks("left_out")}""",
        f"""## Against one model per survey

Differences between surveys of the second half of the stars. *Polynomial*: of degree two in Teff,
log g and [Fe/H], and the label itself, fitted on the first half, whose stars both surveys see, to
what `only-{ANCHORS}` says. That is help that the one model does not get; where a survey sees less,
a fit to a noisy scale draws labels to their mean, which makes differences small and errors large
(last column).

{_homogeneity(work)}

{remarks("per_survey")}""",
    ]


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("work", type=Path)
    parser.add_argument("output", type=Path)
    given = parser.parse_args()
    write_page(given.output / "unified_left_out.md", page(given.work))


if __name__ == "__main__":
    main()
