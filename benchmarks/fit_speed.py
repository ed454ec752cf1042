"""What a fit of 26 labels costs, part by part, and against scipy; what an emulated spectrum costs.

    OMP_NUM_THREADS=1 python benchmarks/fit_speed.py GRID --emulators EMULATOR...

GRID is a file of `spectrolabe synthesise`, whose stars are seen through instruments like LAMOST
(3,909 pixels) and APOGEE (7,514) at S/N 100. Seconds are of the processor. Writes
``fit_speed.md``.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import OptimizeResult, least_squares

from fits import emulators_of, identity
from pages import remarks, table, write_page
from simulated import APOGEE, LAMOST, Setting, Truth, draw, noisy, projection_of, rendered, seen
from spectrolabe.inference.continuum import continuum_basis
from spectrolabe.inference.fit import fit
from spectrolabe.inference.priors import Priors
from spectrolabe.inference.result import FitResult
from spectrolabe.inference.starts import first_guess
from spectrolabe.models.emulator import Emulator
from spectrolabe.spectra import Spectrum
from spectrolabe.synthesis import Star, synthesise, wavelength_grid
from spectrolabe.synthesis.grid import Grid, read_grid
from spectrolabe.synthesis.sampling import ABUNDANCES

RARE = {f"{e}_fe" for e in ("li", "zr", "la", "ce", "pr", "nd", "sm", "eu")}  # not fitted
FITTED = ("teff", "logg", "fe_h", "v_micro", *(e for e in ABUNDANCES if e not in RARE))
SNR, SEED = 100.0, 12
SCIPY, DIFFERENCES = 4, 1  # stars that scipy fits, exactly and with finite differences
PARTS = {  # names of functions, whose time includes what they call
    "first guess": ("first_guess",),
    "network: mixed latents and slopes": ("latents_and_slopes",),
    "latents to splines": ("splines",),
    "splines to pixels": ("sample",),
    "continuum": ("solve_continuum",),
    "normal equations": ("normal_equations",),
    "spectra cut and scaled": ("cut",),
    "checks of the result": ("check_fit",),
}
TURBOSPECTRUM = (39.3, 50.8)  # s for 3900-9000 Å at 0.05 Å, docs/results/synthesis.md


@dataclass(frozen=True, eq=False)
class Stars:
    """Simulated stars of one instrument."""

    setting: Setting
    truths: list[Truth]
    spectra: list[list[Spectrum]]


def simulated(setting: Setting, grid: Grid, emulator: Emulator, count: int) -> Stars:
    """Stars of a grid, as far as they are in the emulator's range."""
    rng = np.random.default_rng(SEED)
    values = grid.labels.select(emulator.names).values
    rows = np.flatnonzero(((values >= emulator.low) & (values <= emulator.high)).all(axis=1))
    truths = [draw(setting, grid, int(row), emulator.names, rng) for row in rows[:count]]
    clean = [seen(setting, grid, int(r), t) for r, t in zip(rows, truths, strict=False)]
    spectra = [[noisy(setting, flux, SNR, rng, f"{k}")] for k, flux in enumerate(clean)]
    return Stars(setting, truths, spectra)


def seconds(work: Callable[[], object], repeats: int = 3) -> float:
    """Return the CPU time of the best call."""
    best = np.inf
    for _ in range(repeats):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return float(best)


def held(stars: Stars, emulator: Emulator) -> dict[str, NDArray]:
    """Labels that are not fitted, at their true values."""
    truth = np.array([t.labels for t in stars.truths])
    return {n: truth[:, j] for j, n in enumerate(emulator.names) if n not in FITTED}


def profiled(stars: Stars, emulators: Sequence[Emulator], emulator: Emulator) -> list[list[str]]:
    """CPU time of each part of a fit, as rows of a table."""
    fixed = held(stars, emulator)

    def work() -> object:
        return fit(stars.spectra, emulators, labels=FITTED, fixed=fixed)

    count = len(stars.spectra)
    few = {name: value[:2] for name, value in fixed.items()}
    fit(stars.spectra[:2], emulators, labels=FITTED, fixed=few)  # compiles, and makes projections
    whole = seconds(work, 2)
    profiler = cProfile.Profile(time.process_time)
    profiler.runcall(work)
    found = pstats.Stats(profiler).stats  # type: ignore[attr-defined]
    total = max(one[3] for one in found.values())
    guess = _share(found, PARTS["first guess"]) / total
    rows = [["**all**", f"**{1e3 * whole / count:.1f}**", "100 %"]]
    for name, functions in PARTS.items():
        share = _share(found, functions) / total
        rows.append([name, f"{1e3 * share * whole / count:.1f}", f"{100 * share:.0f} %"])
    rows.append(
        [
            "all but the first guess",
            f"{1e3 * (1 - guess) * whole / count:.1f}",
            f"{100 * (1 - guess):.0f} %",
        ]
    )
    return rows


def _share(found: dict, functions: Sequence[str]) -> float:
    """Time of functions and what they call."""
    return float(
        sum(
            one[3]
            for (file, _, name), one in found.items()
            if name in functions and "spectrolabe" in file
        )
    )


class Reference:
    """The same least-squares problem, all unknowns explicit, for `scipy.optimize.least_squares`.

    It has the pixels and the weights with which our fit ended. Unknowns: labels over their training
    spread, velocity, broadening if there is any, and the coefficients of the continuum.
    """

    def __init__(self, stars: Stars, row: int, emulator: Emulator, ours: FitResult) -> None:
        self.setting, self.truth, self.emulator = stars.setting, stars.truths[row], emulator
        spectrum = stars.spectra[row][0]
        guess = first_guess([[spectrum]], [emulator])
        model = ours.models[row][0]
        self.good = model.used
        self.scale = float(np.median(spectrum.flux[self.good]))
        self.flux = np.asarray(spectrum.flux, float)[self.good] / self.scale
        variance = 1.0 / np.asarray(spectrum.ivar, float)[self.good]
        self.root = self.scale / np.sqrt(variance + model.variance_floor[self.good])
        basis = continuum_basis(np.log(spectrum.wavelength), stars.setting.resolution, None)
        self.basis = basis.dense()[:, self.good].astype(float)
        self.columns = [emulator.names.index(name) for name in FITTED]
        self.spread = emulator.spread[self.columns]
        self.labels = self.truth.labels.copy()
        self.labels[self.columns] = guess.labels[0, self.columns]
        self.prior = Priors.weak(emulator)
        self.count = len(FITTED)
        self.broad = stars.setting.broad
        self.start = self._start(float(guess.shift[0][0]))
        self.evaluations = 0

    def _start(self, shift: float) -> NDArray:
        nonlinear = [*(self.labels[self.columns] / self.spread), shift, *([5.0] * self.broad)]
        flux = self._rendered(np.array(nonlinear), slopes=False)[0]
        columns = (self.basis * flux * self.root).T
        inner = np.linalg.lstsq(columns, self.flux * self.root, rcond=None)[0]
        return np.concatenate([nonlinear, inner])

    def _rendered(self, x: NDArray, slopes: bool) -> tuple[NDArray, NDArray]:
        labels = self.labels.copy()
        labels[self.columns] = x[: self.count] * self.spread
        v_broad = float(x[self.count + 1]) if self.broad else 0.0
        truth = Truth(labels, float(x[self.count]), v_broad, self.truth.level)
        columns = self.columns if slopes else None
        flux, rv, broad = rendered(self.setting, self.emulator, truth, columns)
        rows = [*(flux[0, 1:] * self.spread[:, None] if slopes else []), rv[0]]
        if self.broad:
            rows.append(broad[0])
        return np.asarray(flux[0, 0][self.good], float), np.asarray(rows, float)[:, self.good]

    def residuals(self, x: NDArray) -> NDArray:
        """(model - observed) / sigma of pixels and priors."""
        self.evaluations += 1
        flux, _ = self._rendered(x, slopes=False)
        continuum = x[self._inner :] @ self.basis
        prior, _ = self._prior(x)
        return np.concatenate([(flux * continuum - self.flux) * self.root, prior])

    def jacobian(self, x: NDArray) -> NDArray:
        """Slopes of the residuals, dense."""
        flux, rows = self._rendered(x, slopes=True)
        continuum = x[self._inner :] @ self.basis
        pixels = np.concatenate([rows * continuum, self.basis * flux]) * self.root
        _, slope = self._prior(x)
        own = np.zeros((len(slope), len(x)))
        own[:, : self.count] = slope * self.spread
        return np.concatenate([pixels.T, own])

    @property
    def _inner(self) -> int:
        return self.count + 1 + self.broad

    def _prior(self, x: NDArray) -> tuple[NDArray, NDArray]:
        labels = self.labels.copy()
        labels[self.columns] = x[: self.count] * self.spread
        found = self.prior.residuals(self.emulator.names, labels[None], self.columns)
        return found[0][0], found[1][0]

    def solve(self, exact: bool) -> OptimizeResult:
        """Run scipy's trust-region method, with the exact or with a finite-difference Jacobian."""
        low = np.full(len(self.start), -np.inf)
        high = -low
        low[: self.count] = self.emulator.low[self.columns] / self.spread
        high[: self.count] = self.emulator.high[self.columns] / self.spread
        if self.broad:
            low[self.count + 1], high[self.count + 1] = 0.5, 200.0
        start = np.clip(self.start, low + 1e-6, high - 1e-6)
        options = {} if exact else {"diff_step": 1e-3}  # fluxes are of single precision
        return least_squares(
            self.residuals,
            start,
            self.jacobian if exact else "2-point",
            (low, high),
            method="trf",
            x_scale="jac",
            **options,
        )


def against_scipy(stars: Stars, emulators: Sequence[Emulator], emulator: Emulator) -> list[str]:
    """Cells: cost of the fit of few stars and of scipy's, and how far apart the results are."""
    few = range(min(SCIPY, len(stars.spectra)))
    fixed = {name: value[: len(few)] for name, value in held(stars, emulator).items()}
    spectra = stars.spectra[: len(few)]
    ours = fit(spectra, emulators, labels=FITTED, fixed=fixed)
    exact, differences, evaluations, apart, lower = [], [], [], [], []
    for row in few:
        problem = Reference(stars, row, emulator, ours)
        start = time.process_time()
        found = problem.solve(exact=True)
        exact.append(time.process_time() - start)
        evaluations.append(problem.evaluations)
        sigma = np.sqrt(np.diag(ours.covariance[row]))
        values = found.x[: len(FITTED)] * problem.spread
        apart.append(np.nanmax(np.abs(ours.values[row] - values) / sigma))
        best = problem.start.copy()
        best[: len(FITTED)] = ours.fitted[row] / problem.spread
        best[len(FITTED)] = ours.shift[row, 0]
        if problem.broad:
            best[len(FITTED) + 1] = ours.v_broad[row]
        lower.append(_cost(problem, best) - found.cost)
        if row < DIFFERENCES:
            start = time.process_time()
            problem.solve(exact=False)
            differences.append(time.process_time() - start)
        print(f"{stars.setting.name}: scipy, star {row}: {exact[-1]:.2f} s", flush=True)
    return [
        f"{len(stars.setting.wavelength):,}",
        f"{np.median(exact):.2f}",
        f"{np.median(evaluations):.0f}",
        f"{np.median(differences):.1f}",
        f"{np.median(apart):.2f} / {np.max(apart):.2f}",
        f"{np.median(lower):+.2f} / {np.max(lower):+.2f}",
    ]


def _cost(problem: Reference, x: NDArray) -> float:
    """Half of chi2 with priors at given nonlinear unknowns, the continuum at its best."""
    flux = problem._rendered(x, slopes=False)[0]
    columns = (problem.basis * flux * problem.root).T
    x = x.copy()
    x[problem._inner :] = np.linalg.lstsq(columns, problem.flux * problem.root, rcond=None)[0]
    return 0.5 * float((problem.residuals(x) ** 2).sum())


def emulation(emulators: Sequence[Emulator]) -> list[list[str]]:
    """CPU time of spectra of the Sun by the synthesis and by the emulator."""
    sun = Star(5777.0, 4.44, 0.0, 1.0)
    rows = []
    for emulator in emulators:
        optical = emulator.wavelength[0] < 10000
        low, high = (3900.0, 9000.0) if optical else emulator.wavelength[[40, -40]]
        grid = wavelength_grid(low, high)
        labels = np.clip(np.zeros(len(emulator.names)), emulator.low, emulator.high)
        labels[:4] = 5777.0, 4.44, 0.0, 1.0
        if optical:
            synthetic = seconds(lambda grid=grid: synthesise(sun, grid), 2)
        else:
            synthetic = seconds(lambda grid=grid: synthesise(sun, grid, lines="full"), 2)
        many = np.repeat(labels[None], 16, axis=0)
        cases = {
            "R = 28,000, every 0.05 Å": (grid, emulator.resolution),
            "R = 1,800, 1.5 Å": (np.arange(low, high, 1.5), 1800.0),
        }
        for name, (pixels, resolution) in cases.items():
            setting = Setting(f"{name}{optical}", "", "", pixels, resolution)
            projection_of(setting, emulator)
            truths = Truth(labels, 0.0, 0.0, np.ones(len(pixels)))
            one = seconds(lambda s=setting, t=truths, e=emulator: rendered(s, e, t))
            network = seconds(lambda e=emulator, m=many: e.latents(m)) / len(many)
            factor = synthetic / one
            turbo = [f"{t / one:,.0f}" for t in TURBOSPECTRUM] if optical else []
            rows.append(
                [
                    f"{low:.0f}–{high:.0f} Å, {name}",
                    f"{len(pixels):,}",
                    f"{synthetic:.2f}",
                    f"{1e3 * one:.1f}",
                    f"{1e3 * network:.1f}",
                    f"{factor:,.0f}",
                    "–".join(turbo) or "–",
                ]
            )
    return rows


INTRODUCTION = """# Speed of fits

```
OMP_NUM_THREADS=1 python benchmarks/fit_speed.py GRID --emulators {emulators} --count {count}
```

Emulators {which}.

CPU seconds on one core of a shared virtual machine (2.5 GHz, AVX-512), the
better of two runs: 20 per cent mean nothing. {count} stars of a grid that no emulator was trained
on, S/N 100, velocity and continuum unknown; {labels} labels fitted (Teff, log g, [Fe/H], v_micro
and 22 elements), the other {others} held at the truth.

{remarks}"""


def main() -> None:
    """Measure, write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("grid", type=Path)
    parser.add_argument("--emulators", type=Path, nargs="+", required=True)
    parser.add_argument("--output", type=Path, default=Path("docs/results"))
    parser.add_argument("--count", type=int, default=64, help="stars")
    arguments = parser.parse_args()
    emulators = emulators_of(arguments.emulators)
    grid = read_grid(arguments.grid)
    sections = [
        INTRODUCTION.format(
            emulators=" ".join(str(folder) for folder in arguments.emulators),
            count=arguments.count,
            which=", ".join(f"`{one}`" for one in identity(emulators)),
            labels=len(FITTED),
            others=len(emulators[0].names) - len(FITTED),
            remarks=remarks("summary"),
        )
    ]
    compared = []
    for setting in (LAMOST, APOGEE):
        middle = np.median(setting.wavelength)
        own = [e for e in emulators if e.wavelength[0] < middle < e.wavelength[-1]]
        if not own:
            print(f"no emulator for {setting.name}")
            continue
        stars = simulated(setting, grid, own[0], arguments.count)
        rows = profiled(stars, emulators, own[0])
        print(setting.name, rows, flush=True)
        low, high = setting.wavelength[[0, -1]]
        sections.append(
            f"## {len(setting.wavelength):,} pixels\n\n{setting.title}: {low:.0f}–{high:.0f} Å, "
            f"R = {setting.resolution:,.0f}. Goal: 50 ms a star.\n\n"
            + table(["part", "CPU ms a star", "share"], rows)
        )
        compared.append([setting.title, *against_scipy(stars, emulators, own[0])])
    head = ["stars", "pixels", "exact Jacobian, s", "evaluations", "finite differences, s"]
    head += ["largest difference, σ: median / worst", "Δ(χ²/2): median / worst"]
    sections.append(f"""## Against scipy

`scipy.optimize.least_squares` (trust region, `x_scale="jac"`) on the same problem star by star,
{SCIPY} stars of each kind (finite differences: {DIFFERENCES}): the same emulator, first guess and
priors, the pixels and weights with which the fit ended, the coefficients of the continuum as
unknowns beside the others. Differences are of the labels, in units of the fit's uncertainty, the
largest of each star; Δ is chi2/2 at the fit's result less that at scipy's, priors included: above 0
scipy's minimum is lower.

{table(head, compared)}""")
    what = [
        "spectrum",
        "pixels",
        "synthesis, s",
        "emulator, ms",
        "of which network, in batches, ms",
    ]
    what += ["factor", "factor to Turbospectrum"]
    sections.append(f"""## An emulated spectrum

Against the synthesis of the same range with a step of 0.05 Å, and against what Turbospectrum
takes for 3900–9000 Å with that step ({TURBOSPECTRUM[0]}–{TURBOSPECTRUM[1]} s, see
[synthesis](synthesis.md)).

{table(what, emulation(emulators))}

{remarks("emulation")}""")
    write_page(arguments.output / "fit_speed.md", sections)


if __name__ == "__main__":
    main()
