"""How well does a fit find the labels of simulated stars, and how well could it?

    python benchmarks/recovery.py GRID --emulators weights/emulator-optical weights/emulator-h \
        --model-error 0.001 0

GRID is a file of `spectrolabe synthesise` with stars that no emulator was trained on. Its spectra
are seen through instruments like LAMOST, Gaia RVS and APOGEE and fitted from the fit's own first
guess; then the same stars as the emulator has them, which leaves out the emulator's errors. Parts
that are finished are kept in ``--work``. Writes ``recovery.md``.
"""

from __future__ import annotations

import argparse
import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fits import Arrays, emulators_of, error_option, fit_stars, identity, kept, with_error
from pages import remarks, table, write_page
from simulated import SETTINGS, Setting, Truth, draw, noisy, rendered, seen
from spectrolabe.catalogue import ResultFlag
from spectrolabe.inference.continuum import continuum_basis
from spectrolabe.inference.masks import usable_ivar
from spectrolabe.inference.priors import Priors
from spectrolabe.labels import LABELS
from spectrolabe.models.emulator import Emulator
from spectrolabe.spectra import Spectrum
from spectrolabe.synthesis.grid import Grid, read_grid
from spectrolabe.validation.metrics import mad

SNRS = (100.0, 50.0, 30.0)
SEED = 4
USABLE = 0.5  # of the training spread: a limit below it makes a label usable
FAR = 5.0  # limits beyond which a result is an outlier
SOURCES = ("synthesis", "emulator")
V_BROAD_STEP = 0.5  # km/s: the least broadening of a fit


@dataclass(frozen=True, eq=False)
class Case:
    """Stars seen by one instrument: truths, spectra without noise, and the Cramér-Rao limits.

    Parameters
    ----------
    setting : Setting
    truths : list of Truth
    clean : dict of str to list of ndarray
        Spectra by source.
    """

    setting: Setting
    truths: list[Truth]
    clean: dict[str, list[NDArray]]


def chosen(grid: Grid, emulator: Emulator, count: int) -> NDArray:
    """Return the first stars of a grid whose labels are within the emulator's range."""
    values = grid.labels.select(emulator.names).values
    inside = ((values >= emulator.low) & (values <= emulator.high)).all(axis=1)
    return np.flatnonzero(inside)[:count]


def case_of(setting: Setting, grid: Grid, stars: NDArray, emulator: Emulator) -> Case:
    """Draw what is unknown of the stars, and observe them without noise."""
    rng = np.random.default_rng([SEED, len(setting.name)])
    truths = [draw(setting, grid, int(star), emulator.names, rng) for star in stars]
    clean = {
        name: [seen(setting, s, int(k), t) for k, t in zip(stars, truths, strict=True)]
        for name, s in (("synthesis", grid), ("emulator", emulator))
    }
    return Case(setting, truths, clean)


def spectra_of(case: Case, source: str, snr: float) -> list[list[Spectrum]]:
    """Return the noisy spectra; the noise of a star is the same for both sources."""
    return [
        [noisy(case.setting, clean, snr, np.random.default_rng([SEED, int(snr), k]), f"{k}")]
        for k, clean in enumerate(case.clean[source])
    ]


def limit(spectrum: Spectrum, truth: Truth, emulator: Emulator, case: Case) -> NDArray:
    """Return the Cramér-Rao limits of all labels of one star, shape (L,).

    From the exact slopes at the true labels and the true noise, with continuum, velocity and
    broadening unknown, and the priors of the fit.
    """
    columns = list(range(len(emulator.names)))
    flux, rv_slope, broad_slope = rendered(
        case.setting,
        emulator,
        Truth(truth.labels, truth.rv, max(truth.v_broad, V_BROAD_STEP), truth.level),
        columns,
    )
    good = usable_ivar(spectrum, emulator, truth.rv) > 0
    root = np.sqrt(np.asarray(spectrum.ivar, float)[good]) * truth.level[good]
    x = np.log(spectrum.wavelength)
    basis = continuum_basis(x, case.setting.resolution, None).dense()
    rows = [*flux[0, 1:, good].T, rv_slope[0, good]]
    if case.setting.broad:
        rows.append(broad_slope[0, good])
    wanted = np.array(rows, dtype=float) * root
    nuisance = np.asarray(basis[:, good], float) * flux[0, 0, good] * root
    nuisance = nuisance[np.abs(nuisance).max(axis=1) > 0]
    unit, _ = np.linalg.qr(nuisance.T)
    left = wanted - (wanted @ unit) @ unit.T
    information = left @ left.T
    _, slope = Priors.weak(emulator).residuals(emulator.names, truth.labels[None], columns)
    count = len(columns)
    information[:count, :count] += slope[0].T @ slope[0]
    # scaled, as labels are in kelvin and dex
    scale = 1.0 / np.sqrt(np.diag(information))
    covariance = np.linalg.pinv(information * scale * scale[:, None], hermitian=True)
    return np.asarray((np.sqrt(np.diag(covariance)) * scale)[:count])


def limits(folder: Path, case: Case, snr: float, emulator: Emulator) -> NDArray:
    """Return the limits of all stars, shape (N, L)."""
    spectra = spectra_of(case, "synthesis", snr)

    def make() -> Arrays:
        pairs = zip(spectra, case.truths, strict=True)
        return {"limit": np.array([limit(s[0], t, emulator, case) for s, t in pairs])}

    content = hashlib.sha256()
    for star, truth in zip(spectra, case.truths, strict=True):
        for array in (star[0].flux, star[0].ivar, truth.labels, truth.level):
            content.update(array.tobytes())
    key = [identity([emulator]), content.hexdigest(), SEED, "weak"]
    return kept(folder, f"limit-{case.setting.name}-{snr:g}", key, make)["limit"]


@dataclass(frozen=True, eq=False)
class Recovered:
    """What came of a set of stars: errors, reported and least uncertainties, shapes (N, L)."""

    names: tuple[str, ...]
    error: NDArray
    sigma: NDArray
    limit: NDArray
    usable: NDArray
    found: Arrays
    rv_error: NDArray

    @classmethod
    def of(cls, found: Arrays, case: Case, least: NDArray, emulator: Emulator) -> Recovered:
        truth = np.array([t.labels for t in case.truths])
        order = [emulator.names.index(name) for name in found["names"]]
        rv = np.array([t.rv for t in case.truths])
        return cls(
            tuple(found["names"]),
            found["values"] - truth[:, order],
            found["sigma"],
            least[:, order],
            least[:, order] < USABLE * emulator.spread[order],
            found,
            found["rv"] - rv,
        )

    def ratio(self, column: int) -> float:
        """Scatter over limit, 1 at best: 1.4826 times the median of abs(error) / limit."""
        use = np.isfinite(self.error[:, column]) & self.usable[:, column]
        pulls = np.abs(self.error[use, column]) / self.limit[use, column]
        return float(1.4826 * np.median(pulls)) if use.any() else np.nan


def _digits(name: str) -> int:
    return 1 if LABELS[name].unit == "K" else 3


def full_rows(what: Recovered) -> list[list[str]]:
    """Cells of the full table, a row a label."""
    rows = []
    for j, name in enumerate(what.names):
        use = np.isfinite(what.error[:, j]) & what.usable[:, j]
        lost = int((what.usable[:, j] & ~np.isfinite(what.error[:, j])).sum())
        error, d = what.error[use, j], _digits(name)
        head = [f"{name} [{LABELS[name].unit}]", f"{100 * what.usable[:, j].mean():.0f} %"]
        if not use.any():
            rows.append([*head, "0", str(lost), *["–"] * 9])
            continue
        least, pull = what.limit[use, j], error / what.sigma[use, j]
        rows.append(
            [
                *head,
                str(use.sum()),
                str(lost),
                f"{np.median(error):+.{d}f}",
                f"{mad(error):.{d}f}",
                f"{np.sqrt(np.mean(error**2)):.{d}f}",
                f"{100 * np.mean(np.abs(error) > FAR * least):.0f} %",
                f"{np.median(pull):+.2f}",
                f"{mad(pull):.2f}",
                f"{np.median(least):.{d}f}",
                f"{np.median(what.sigma[use, j] / least):.2f}",
                f"**{what.ratio(j):.2f}**",
            ]
        )
    return rows


HEAD = ["label", "usable", "stars", "missing", "bias", "1.4826 MAD", "RMSE", "outliers"]
HEAD += ["pull median", "pull width", "limit", "stated / limit", "ratio"]


def ratio_table(all_: dict[tuple[str, float], Recovered]) -> str:
    """Scatter over limit of every label, source and S/N."""
    keys = [(source, snr) for source in SOURCES for snr in SNRS if (source, snr) in all_]
    first = all_[keys[0]]
    rows = []
    for j, name in enumerate(first.names):
        cells = [f"{all_[k].ratio(j):.2f}" for k in keys]
        limits_ = [
            f"{np.median(all_[k].limit[:, j]):.{_digits(name)}f}"
            for k in keys
            if k[0] == SOURCES[0]
        ]
        rows.append([name, *limits_, *(c.replace("nan", "–") for c in cells)])
    medians = [
        f"{np.nanmedian([all_[k].ratio(j) for j in range(len(first.names))]):.2f}" for k in keys
    ]
    snrs = [snr for source, snr in keys if source == SOURCES[0]]
    rows.append(["**median**", *[""] * len(snrs), *medians])
    head = ["label", *(f"limit, S/N {snr:g}" for snr in snrs)]
    return table([*head, *(f"{source} {snr:g}" for source, snr in keys)], rows)


def health_rows(all_: dict[tuple[str, float], Recovered]) -> list[list[str]]:
    """What else there is to know of each set of fits."""
    rows = []
    for (source, snr), what in all_.items():
        found = what.found
        reduced = found["chi2"] / np.maximum(found["n_pixels"] - found["n_parameters"], 1)
        flags = found["result_flags"]
        share = lambda bit, flags=flags: f"{100 * np.mean((flags & int(bit)) > 0):.0f} %"  # noqa: E731
        rows.append(
            [
                f"{source}, S/N {snr:g}",
                f"{np.nanmedian(reduced):.2f}",
                f"{np.median(found['n_clipped']):.0f}",
                f"{np.nanmedian(what.rv_error):+.2f}",
                f"{mad(what.rv_error[np.isfinite(what.rv_error)]):.2f}",
                f"{mad(what.rv_error / found['e_rv']):.2f}",
                f"{100 * np.mean(flags > 0):.0f} %",
                share(ResultFlag.NO_RESULT),
                share(ResultFlag.POOR_FIT),
                share(ResultFlag.NOT_CONVERGED),
                f"{np.mean(found['evaluations']):.1f}",
                f"{np.mean(found['seconds']):.3f}",
            ]
        )
    return rows


HEALTH = ["stars", "reduced chi2", "clipped pixels", "rv bias", "rv scatter", "rv pull width"]
HEALTH += ["any flag", "no result", "poor fit", "not converged", "evaluations", "CPU s a star"]


def usable_text(what: Recovered) -> str:
    """Say which labels are usable, which for some stars, which not."""
    share = what.usable.mean(axis=0)
    group = lambda rows: ", ".join(np.array(what.names)[rows]) or "none"  # noqa: E731
    yes, some = share >= 0.5, (share < 0.5) & (share >= 0.1)
    return (
        f"Usable for at least half of the stars: **{yes.sum()} labels**: {group(yes)}. For 10 to "
        f"50 per cent of the stars: {group(some)}. Not usable: {group(~yes & ~some)}."
    )


def section(case: Case, all_: dict[tuple[str, float], Recovered]) -> str:
    """One instrument."""
    setting, best = case.setting, all_["synthesis", SNRS[0]]
    low, high = setting.wavelength[[0, -1]]
    full = "\n\n".join(
        f"Spectra of the {source}, S/N {snr:g}:\n\n{table(HEAD, full_rows(what))}"
        for (source, snr), what in all_.items()
        if source == "synthesis" or snr == SNRS[0]
    )
    return f"""## {setting.title}: {low:.0f}–{high:.0f} Å, R = {setting.resolution:,.0f}, \
{len(setting.wavelength):,} pixels

{usable_text(best)}

{full}

Ratio of scatter to limit, by source of the spectra and S/N:

{ratio_table(all_)}

{table(HEALTH, health_rows(all_))}

{remarks(setting.name)}"""


INTRODUCTION = """# Recovery of labels from simulated spectra

```
python benchmarks/recovery.py GRID --emulators {emulators}{option}
```

{count} stars of a grid computed for this (`configs/emulator-grid.toml`, another seed; no emulator
was trained on them), within the emulators' range of labels: half dwarfs, half giants, Teff {teff}
K, [Fe/H] {fe_h}. Each is seen with a velocity between ±100 km/s and, at R > 5000, a broadening of
4–12 km/s, both unknown to the fit; flux is the star's continuum times a smooth random response
(12 per cent in each of four Chebyshev terms of its logarithm, two for the RVS) with photon
noise. Fits have all {labels} labels free, the weak priors, and start from their own first guess.
*Synthesis*: spectra of the synthesis, so that errors of the emulator count. *Emulator*: the same
stars as the emulator has them: what the fit alone does. The model error of the fits is
{error}; its default, of 0.5 per cent and 5 per cent of the depth of lines, is for real stars, whose
physics no model has.


*Limit* is the Cramér-Rao limit of each star: from the emulator's exact slopes at the true labels
and the true noise, continuum, velocity and broadening unknown, with the fit's priors and
**without** its model error. A label is *usable* for a star if its limit is below half of the
spread (standard deviation) of the training stars; everything but *usable* is of the stars for
which it is, less those *missing* (usable, but the fit says NaN). *Outliers*: errors beyond
{far:g} limits. *Ratio*: 1.4826 × median of |error| / limit; 1 at best, the goal is 1.2. *Stated /
limit*: what the fit says its uncertainty is. Stars of all metallicities count alike: in
metal-poor ones there is less to see.

{remarks}"""


def main() -> None:
    """Simulate, fit, write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("grid", type=Path)
    parser.add_argument("--emulators", type=Path, nargs="+", required=True)
    parser.add_argument("--output", type=Path, default=Path("docs/results"))
    parser.add_argument("--work", type=Path, default=Path("build/recovery"))
    parser.add_argument("--count", type=int, default=150, help="stars")
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS), choices=list(SETTINGS))
    error_option(parser)
    arguments = parser.parse_args()
    emulators = emulators_of(arguments.emulators)
    print(f"{arguments.grid.name}: {identity(emulators)}", flush=True)
    page = made(arguments, emulators)
    write_page(arguments.output / "recovery.md", page)


def made(arguments: argparse.Namespace, emulators: Sequence[Emulator]) -> list[str]:
    """Return the sections of the page."""
    grid = read_grid(arguments.grid)
    stars = chosen(grid, emulators[0], arguments.count)
    values = grid.labels.select(emulators[0].names).values[stars]
    span = lambda j, form: f"{values[:, j].min():{form}} to {values[:, j].max():{form}}"  # noqa: E731
    sections = [
        INTRODUCTION.format(
            emulators=" ".join(str(folder) for folder in arguments.emulators),
            option=f" --count {arguments.count}" + _typed(arguments.model_error),
            count=len(stars),
            teff=span(0, ".0f"),
            fe_h=span(2, ".1f"),
            labels=len(emulators[0].names),
            far=FAR,
            error=_error_text(arguments.model_error),
            remarks=remarks("summary"),
        )
    ]
    for name in arguments.settings:
        setting, start = SETTINGS[name], time.process_time()
        emulator = _covering(emulators, setting)
        case = case_of(setting, grid, stars, emulator)
        print(f"{name}: {len(stars)} stars seen, {time.process_time() - start:.0f} s", flush=True)
        all_ = {}
        for source in SOURCES:
            for snr in SNRS:
                least = limits(arguments.work, case, snr, emulator)
                found = fit_stars(
                    arguments.work,
                    f"{name}-{source}-{snr:g}",
                    spectra_of(case, source, snr),
                    emulators,
                    **with_error(arguments),
                )
                all_[source, snr] = Recovered.of(found, case, least, emulator)
        sections.append(section(case, all_))
    return sections


def _typed(model_error: list[float] | None) -> str:
    if model_error is None:
        return ""
    return " --model-error " + " ".join(f"{one:g}" for one in model_error)


def _error_text(model_error: list[float] | None) -> str:
    if model_error is None:
        return "the default"
    parts = [f"{100 * one:g} per cent" for one in model_error]
    return " and ".join([parts[0], *(f"{one} of the depth of lines" for one in parts[1:])])


def _covering(emulators: Sequence[Emulator], setting: Setting) -> Emulator:
    """The emulator that has the middle of an instrument's range."""
    middle = np.median(setting.wavelength)
    for emulator in emulators:
        if emulator.wavelength[0] < middle < emulator.wavelength[-1]:
            return emulator
    raise SystemExit(f"no emulator has {middle:.0f} Å, for the setting {setting.name}")


if __name__ == "__main__":
    main()
