"""Do three ways to fit agree, and how often does the fast one end in the wrong minimum?

    python benchmarks/methods.py [weights/emulator-optical] [--output docs/results]
        [--stars 50 10] [--sampled 10 5]

Simulated stars, their spectra made by the emulator itself, so that only the methods are compared:
LAMOST-like (R = 1800, 3909 pixels) and RVS-like (R = 11,500, 2400 pixels), S/N 50, their
velocities not stated. Each is fitted by Levenberg-Marquardt from the first guess, from the labels
of another star, from the mean of all stars and from the truth; by CMA-ES; and the first of them by
MCMC. Writes ``methods.md``; remarks between the markers of an older page are kept.
"""

from __future__ import annotations

import argparse
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
SAMPLES = {"steps": 300}
DEEPER = 1.0  # of -ln(posterior), by which another minimum counts as lower
CLIPPED = 12.5  # what a pixel that was left out costs: at least 5 sigma
RV_SIGMA = 60.0  # km/s, of the stars
EDGE = 0.03  # of the range of the emulator that stars stay away from its edge


@dataclass(frozen=True, eq=False)
class Case:
    """Spectra of one kind: pixels, shape (M,), vacuum Angstrom."""

    name: str
    wavelength: NDArray
    resolution: float
    snr: float


CASES = (
    Case("LAMOST-like", 10.0 ** (np.log10(3700.0) + 1e-4 * np.arange(3909)), 1800.0, 50.0),
    Case("RVS-like", np.arange(8460.0, 8700.0, 0.1), 11_500.0, 50.0),
)


@dataclass(frozen=True, eq=False)
class Run:
    """One method on all stars of a case."""

    result: FitResult
    objective: NDArray
    seconds: float

    def reaches(self, best: NDArray) -> NDArray:
        """Return which stars are in the lowest minimum that is known, shape (N,)."""
        return self.objective < best + DEEPER


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
    stars: Sequence[Sequence[Spectrum]], emulator: Emulator, start: NDArray | None, **how: Any
) -> Run:
    """Fit all stars; CPU seconds a star."""
    labels = None
    if start is not None:
        names = np.array([star[0].star_id for star in stars])
        labels = Labels(emulator.names, start, np.full(start.shape, np.nan), names)
    before = time.process_time()
    result = fit(stars, [emulator], start=labels, model_error=0.0, seed=SEED, **how)
    seconds = (time.process_time() - before) / len(stars)
    priors = Priors.weak(emulator)
    every = range(len(emulator.names))
    residual, _ = priors.residuals(emulator.names, result.all_labels, every)
    objective = 0.5 * (result.chi2 + (residual**2).sum(axis=1)) + CLIPPED * result.n_clipped
    return Run(result, np.where(np.isfinite(objective), objective, np.inf), seconds)


def runs_of(emulator: Emulator, case: Case, count: int, sampled: int) -> dict[str, Run]:
    """Return every method on the stars of a case; MCMC on the first of them."""
    rng = np.random.default_rng(SEED)
    truth, stars = simulated(emulator, case, count, rng)
    mean = np.broadcast_to(emulator.mean, truth.shape)
    starts = dict(zip(LM, (None, np.roll(truth, 1, axis=0), mean, truth), strict=True))
    run(stars[:2], emulator, None)  # compiles, and fills caches
    done = {}

    def add(name: str, some: int, start: NDArray | None, **how: Any) -> None:
        done[name] = run(stars[:some], emulator, None if start is None else start[:some], **how)
        print(f"{case.name}: {name}: {done[name].seconds:.2f} CPU s a star", flush=True)

    for name, start in starts.items():
        add(f"LM, {name}", count, start)
    for name in LM[:2]:
        add(f"CMA-ES, {name}", count, starts[name], method="cma", options=SEARCH)
    add(f"MCMC, {LM[0]}", sampled, None, method="mcmc", options=SAMPLES)
    return done


def away(one: Run, other: Run) -> NDArray:
    """Return differences of the labels known to both, in sigma of the other, shape (N, L)."""
    count = len(one.result)
    both = np.isfinite(one.result.values) & np.isfinite(other.result.values[:count])
    difference = one.result.fitted - other.result.fitted[:count]
    return np.where(both, difference / other.result.sigma[:count], np.nan)


def summary(done: dict[str, Run]) -> str:
    """Return the table of minima, agreement and cost."""
    reference, lowest = (
        done["LM, truth"],
        np.min(
            [
                one.objective
                for one in done.values()
                if len(one.result) == len(done["LM, truth"].result)
            ],
            axis=0,
        ),
    )
    rows = []
    for name, one in done.items():
        count = len(one.result)
        sampled = name.startswith("MCMC")
        there = np.ones(count, dtype=bool) if sampled else one.reaches(lowest)
        distance = np.abs(away(one, reference))
        ratio = one.result.sigma / reference.result.sigma[:count]
        unfinished = (one.result.result_flags & ResultFlag.NOT_CONVERGED) > 0
        rows.append(
            [
                name,
                str(count),
                "-" if sampled else f"{np.sum(~there)}",
                f"{np.nanmedian(distance):.3f}",
                f"{np.nanquantile(distance[there], 0.99):.2f}",
                f"{np.nanmedian(ratio[there]):.3f}",
                str(int(unfinished.sum())),
                f"{np.mean(one.result.evaluations):.0f}",
                f"{one.seconds:.2f}",
            ]
        )
    head = ["method and start", "stars", "higher minimum", "median distance", "99 % of distances"]
    head += ["ratio of sigmas", "not converged", "spectra a star", "CPU s a star"]
    return table(head, rows)


def label_table(done: dict[str, Run]) -> str:
    """Return LM against MCMC, label by label."""
    lm, mcmc = done["LM, first guess"], done["MCMC, first guess"]
    count, names = len(mcmc.result), mcmc.result.names
    distance, sigma = away(mcmc, lm), lm.result.sigma[:count]
    ratio = mcmc.result.sigma / sigma
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
good the emulator is. All labels are fitted, with the weak priors; velocities are found.

- *Higher minimum*: stars whose -ln(posterior) is more than {DEEPER:g} above the lowest that any of
  the methods found.
- *Distances* from the fit that starts at the truth, over all labels that both know, in its sigma;
  99 % of them without the stars in a higher minimum.
- CMA-ES: {SEARCH["runs"]} runs and a descent from the lowest point. MCMC: at most
  {SAMPLES["steps"]} steps after burn-in; its values are means, those of the others modes.
- CPU seconds of one core, everything in `fit` included.""",
        remarks("summary"),
    ]
    for name, runs in done.items():
        sections += [f"## {name}", summary(runs), label_table(runs)]
    return [*sections, remarks("end")]


def main() -> None:
    """Run both cases and write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("emulator", nargs="?", default="weights/emulator-optical")
    parser.add_argument("--output", type=Path, default=Path("docs/results"))
    parser.add_argument("--stars", type=int, nargs=len(CASES), default=[50, 10])
    parser.add_argument("--sampled", type=int, nargs=len(CASES), default=[10, 5])
    given = parser.parse_args()
    torch.set_num_threads(1)
    emulator = load_emulator(given.emulator)
    done = {
        case.name: runs_of(emulator, case, count, min(sampled, count))
        for case, count, sampled in zip(CASES, given.stars, given.sampled, strict=True)
    }
    write_page(given.output / "methods.md", page(emulator, done))


if __name__ == "__main__":
    main()
