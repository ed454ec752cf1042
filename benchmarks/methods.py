"""Do three ways to fit agree, and how often does the fast one end in the wrong minimum?

    python benchmarks/methods.py [weights/emulator-optical] [--output docs/results]

Simulated stars, their spectra made by the emulator itself, so that only the methods are compared:
LAMOST-like (R = 1800, 3894 pixels) and RVS-like (R = 11,500, 2400 pixels), S/N 50, their
velocities not stated. Each is fitted by Levenberg-Marquardt from the first guess, from the labels
of another star, from the mean of all stars and from the truth; the first of them by CMA-ES and by
MCMC; and by CMA-ES those that the labels of another star led astray. Ten labels are fitted, and
all labels of the LAMOST-like stars again, those by LM and CMA-ES alone: chains of so many
parameters take a minute a star. Some ten minutes of the processor. Writes ``methods.md``; remarks
between the markers of an older page are kept.
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pages import remarks, table, write_page
from spectrolabe.catalogue import ResultFlag
from spectrolabe.config.grid import StarsConfig
from spectrolabe.inference.fit import fit
from spectrolabe.inference.priors import Priors
from spectrolabe.inference.result import FitResult
from spectrolabe.labels import Labels
from spectrolabe.models.emulator import Emulator, load_emulator
from spectrolabe.spectra import Frame, Spectrum
from spectrolabe.synthesis.sampling import sample_labels

SEED = 44
SHOWN = ("teff", "logg", "fe_h", "v_micro", "c_fe", "mg_fe", "si_fe", "ca_fe", "ti_fe", "ni_fe")
LM = ("first guess", "another star", "mean of all stars", "truth")  # where it starts
SEARCH = {"runs": 3, "rounds": 1}
SAMPLES = {"burn_in": 100, "steps": 100}
DEEPER = 1.0  # of -ln(posterior), by which another minimum counts as lower
CLIPPED = 12.5  # what a pixel that was left out costs: at least 5 sigma
RV_SIGMA = 60.0  # km/s, of the stars
EDGE = 0.03  # of the range of the emulator that stars stay away from its edge


@dataclass(frozen=True, eq=False)
class Case:
    """Spectra of one kind: pixels, shape (M,), vacuum Angstrom; labels that are fitted."""

    name: str
    wavelength: NDArray
    resolution: float
    snr: float
    fitted: tuple[str, ...] | None = None


LAMOST = 10.0 ** (np.log10(3700.0) + 1e-4 * np.arange(15, 3909))
CASES = (
    Case("LAMOST-like, ten labels", LAMOST, 1800.0, 50.0, SHOWN),
    Case("LAMOST-like, all labels", LAMOST, 1800.0, 50.0),
    Case("RVS-like, ten labels", np.arange(8460.0, 8700.0, 0.1), 11_500.0, 50.0, SHOWN),
)


@dataclass(frozen=True, eq=False)
class Run:
    """One method on some stars of a case, rows of which are given, shape (n,)."""

    rows: NDArray
    result: FitResult
    objective: NDArray
    seconds: float

    def reaches(self, lowest: NDArray) -> NDArray:
        """Return which stars are in the lowest minimum that is known, shape (n,)."""
        return self.objective < lowest[self.rows] + DEEPER


def simulated(
    emulator: Emulator, case: Case, count: int, rng: np.random.Generator
) -> tuple[NDArray, list[list[Spectrum]]]:
    """Return labels, shape (N, L), and noisy spectra of stars whose velocities are not stated."""
    drawn = sample_labels(StarsConfig(count=count, seed=int(rng.integers(1_000_000))))
    room = EDGE * (emulator.high - emulator.low)
    values = np.stack([drawn[name] for name in emulator.names], axis=1)
    values = np.clip(values, emulator.low + room, emulator.high - room)
    stars = []
    x = np.linspace(-1.0, 1.0, len(case.wavelength))
    for n, labels in enumerate(values):
        rv = RV_SIGMA * rng.standard_normal()
        flux = emulator.flux(labels[None], case.wavelength, case.resolution, rv=rv)[0]
        flux = flux * (1.0 + rng.uniform(-0.3, 0.3) * x + rng.uniform(-0.2, 0.2) * x**2)
        sigma = np.full_like(flux, np.median(flux) / case.snr)
        flux = flux + sigma * rng.standard_normal(len(flux))
        star = f"star {n}"
        stars.append(
            [
                Spectrum(
                    case.wavelength,
                    flux,
                    1.0 / sigma**2,
                    case.resolution,
                    Frame.BARYCENTRIC,
                    spectrum_id=star,
                    star_id=star,
                )
            ]
        )
    return values, stars


def run(
    stars: Sequence[Sequence[Spectrum]],
    emulator: Emulator,
    start: NDArray | None,
    rows: NDArray,
    fixed: dict[str, NDArray],
    **how: Any,
) -> Run:
    """Fit some of the stars, one row of ``start`` and ``fixed`` for each of all."""
    labels = None
    if start is not None:
        ids = np.array([stars[n][0].star_id for n in rows])
        labels = Labels(emulator.names, start[rows], np.full(start[rows].shape, np.nan), ids)
    before = time.process_time()
    own = [stars[n] for n in rows]
    held = {name: value[rows] for name, value in fixed.items()}
    result = fit(own, [emulator], start=labels, fixed=held, model_error=0.0, seed=SEED, **how)
    seconds = (time.process_time() - before) / len(rows)
    every = range(len(emulator.names))
    residual, _ = Priors.weak(emulator).residuals(emulator.names, result.all_labels, every)
    objective = 0.5 * (result.chi2 + (residual**2).sum(axis=1)) + CLIPPED * result.n_clipped
    return Run(rows, result, np.where(np.isfinite(objective), objective, np.inf), seconds)


def runs_of(
    emulator: Emulator, case: Case, count: int, searched: int, sampled: int
) -> dict[str, Run]:
    """Return every method on the stars of a case."""
    rng = np.random.default_rng(SEED)
    truth, stars = simulated(emulator, case, count, rng)
    mean = np.broadcast_to(emulator.mean, truth.shape)
    starts = dict(zip(LM, (None, np.roll(truth, 1, axis=0), mean, truth), strict=True))
    names = case.fitted or emulator.names
    fixed = {n: truth[:, j] for j, n in enumerate(emulator.names) if n not in names}
    run(stars, emulator, None, np.arange(2), fixed)  # compiles, and fills caches
    done: dict[str, Run] = {}

    def add(kind: str, start: str, rows: NDArray, **how: Any) -> None:
        if len(rows):
            name = f"{kind}, {start}"
            done[name] = run(stars, emulator, starts[start], rows, fixed, **how)
            print(f"{case.name}: {name}: {done[name].seconds:.2f} CPU s a star", flush=True)

    every = np.arange(count)
    for start in LM:
        add("LM", start, every)
    add("CMA-ES", LM[0], every[:searched], method="cma", options=SEARCH)
    astray = every[~done[f"LM, {LM[1]}"].reaches(lowest_of(done, count))]
    add("CMA-ES", LM[1], astray[:searched], method="cma", options=SEARCH)
    add("MCMC", LM[0], every[:sampled], method="mcmc", options=SAMPLES)
    return done


def lowest_of(done: dict[str, Run], count: int) -> NDArray:
    """Return the lowest objective found for each star, but by MCMC, whose values are means."""
    lowest = np.full(count, np.inf)
    for name, one in done.items():
        if not name.startswith("MCMC"):
            lowest[one.rows] = np.minimum(lowest[one.rows], one.objective)
    return lowest


def away(one: Run, other: Run) -> NDArray:
    """Return differences of the labels known to both, in sigma of the other, shape (n, L)."""
    reference = other.result.fitted[one.rows]
    both = np.isfinite(one.result.values) & np.isfinite(other.result.values[one.rows])
    difference = (one.result.fitted - reference) / other.result.sigma[one.rows]
    return np.where(both, difference, np.nan)


def summary(done: dict[str, Run]) -> str:
    """Return the table of minima, agreement and cost."""
    reference = done["LM, truth"]
    lowest = lowest_of(done, len(reference.rows))
    rows = []
    for name, one in done.items():
        sampled = name.startswith("MCMC")
        there = np.ones(len(one.rows), dtype=bool) if sampled else one.reaches(lowest)
        distance = np.abs(away(one, reference))
        ratio = one.result.sigma / reference.result.sigma[one.rows]
        unfinished = (one.result.result_flags & ResultFlag.NOT_CONVERGED) > 0
        rows.append(
            [
                name,
                str(len(one.rows)),
                "-" if sampled else f"{np.sum(~there)}",
                *([f"{np.nanmedian(distance[there]):.3f}"] if there.any() else ["-"]),
                *([f"{np.nanquantile(distance[there], 0.99):.2f}"] if there.any() else ["-"]),
                *([f"{np.nanmedian(ratio[there]):.3f}"] if there.any() else ["-"]),
                str(int(unfinished.sum())),
                f"{np.mean(one.result.evaluations):.0f}",
                f"{one.seconds:.2f}",
            ]
        )
    head = ["method and start", "stars", "higher minimum", "median distance", "99 % of distances"]
    head += ["ratio of sigmas", "not converged", "spectra a star", "CPU s a star"]
    return table(head, rows)


def chains_text(one: Run) -> str:
    """Say what the samples of a set of stars are worth."""
    said = [re.search(r"worth (\d+) independent", " ".join(m)) for m in one.result.messages]
    worth = [int(found.group(1)) for found in said if found]
    text = f"Chains: {len(said) - len(worth)} of {len(said)} last 25 autocorrelation times and are "
    text += "worth 400 independent samples or more in every parameter"
    if worth:
        text += f"; the others are worth {min(worth)} or more in the worst, {np.median(worth):.0f} "
        text += "in the median"
    return text + ". So many samples know a mean to 1/sqrt(their number) sigma."


def label_table(done: dict[str, Run]) -> str:
    """Return LM against MCMC, label by label."""
    lm, mcmc = done["LM, first guess"], done["MCMC, first guess"]
    names, distance = mcmc.result.names, away(mcmc, lm)
    ratio = mcmc.result.sigma / lm.result.sigma[mcmc.rows]
    rows = []
    for name in SHOWN:
        j = names.index(name)
        known = np.isfinite(distance[:, j])
        if known.sum() < 2:
            rows.append([name, str(int(known.sum())), "-", "-", "-"])
            continue
        own = distance[known, j]
        cells = [f"{own.mean():+.2f}", f"{own.std():.2f}", f"{np.median(ratio[known, j]):.2f}"]
        rows.append([name, str(int(known.sum())), *cells])
    return table(["label", "stars", "mean of MCMC - LM, sigma", "scatter", "ratio of sigmas"], rows)


def page(emulator: Emulator, done: dict[str, dict[str, Run]]) -> list[str]:
    """Return the sections of the page."""
    weights = str(emulator.card.get("weights_sha256", "not released"))[:12]
    sections = [
        "# Three ways to fit",
        f"""`python benchmarks/methods.py`, emulator `{emulator.card.get("name", "")}` (weights
{weights}). Spectra are the emulator's own with noise: the question is what the methods do, not how
good the emulator is. The labels of the tables, or all {len(emulator.names)}, are fitted, with the
weak priors, the others held at the truth; velocities are found.

- *Higher minimum*: stars whose -ln(posterior) is more than {DEEPER:g} above the lowest that any of
  the methods found.
- *Distances* from the fit that starts at the truth, over all labels that both know, in its sigma,
  without the stars in a higher minimum.
- *CMA-ES, another star*: only those that LM from there did not bring to the lowest minimum.
- CMA-ES: {SEARCH["runs"]} runs and a descent from the lowest point. MCMC: at most
  {SAMPLES["burn_in"]} steps of burn-in and {SAMPLES["steps"]} more; its values are means, those of
  the others modes.
- CPU seconds of one core, everything in `fit` included.""",
        remarks("summary"),
    ]
    for name, runs in done.items():
        sections += [f"## {name}", summary(runs)]
        if "MCMC, first guess" in runs:
            sections += [chains_text(runs["MCMC, first guess"]), label_table(runs)]
    return [*sections, remarks("end")]


def main() -> None:
    """Run both cases and write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("emulator", nargs="?", default="weights/emulator-optical")
    parser.add_argument("--output", type=Path, default=Path("docs/results"))
    parser.add_argument("--stars", type=int, nargs=len(CASES), default=[50, 50, 10])
    parser.add_argument("--searched", type=int, nargs=len(CASES), default=[50, 8, 10])
    parser.add_argument("--sampled", type=int, nargs=len(CASES), default=[50, 0, 5])
    given = parser.parse_args()
    torch.set_num_threads(1)
    emulator = load_emulator(given.emulator)
    done = {}
    for case, *counts in zip(CASES, given.stars, given.searched, given.sampled, strict=True):
        done[case.name] = runs_of(emulator, case, *counts)
        write_page(given.output / "methods.md", page(emulator, done))


if __name__ == "__main__":
    main()
