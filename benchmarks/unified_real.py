"""How do models do on real spectra of every kind, those that have seen none among them?

    python benchmarks/unified_real.py DATA MODEL [MODEL ...] [--only NAME ...]

DATA holds ``lamost_dr10``, ``miles``, ``benchmark_stars``, ``galah``, ``gaia_rvs``, ``apogee`` and
``sdss``. Writes ``unified_real.md``; remarks between the markers of an older page are kept.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from lamost import NAMES, flags_of, measured, spread_of_pairs, together, tried
from pages import remarks, table, write_page
from reference_stars import (
    BENCHMARKS,
    WINDOWS,
    Known,
    apogee_example,
    degraded,
    galah_star,
    rvs_star,
)
from samples import SKY_RANGE, Sample, in_range, lamost, miles, repeat_pairs
from spectrolabe import surveys
from spectrolabe.catalogue.schema import BAD, ResultFlag
from spectrolabe.labels import LABELS
from spectrolabe.models.checkpoint import load
from spectrolabe.models.estimator import Estimator
from spectrolabe.spectra import Spectrum

SNR_CUT, TEFF_RANGE = 30.0, (4200.0, 7500.0)
RESOLUTIONS = (1800.0, 11500.0, 28000.0)
REALISATIONS, SNR, SEED = 3, 100.0, 21
SHOWN = ("c_fe", "mg_fe", "si_fe", "ca_fe", "ti_fe", "ni_fe", "v_broad")


Models = dict[str, Estimator]


def usual(sample: Sample) -> NDArray:
    """Tell which stars have a fair S/N and are such as the sky has."""
    teff = sample.labels["teff"]
    return (sample.snr > SNR_CUT) & (teff > TEFF_RANGE[0]) & (teff < TEFF_RANGE[1])


def of_lamost(models: Models, folder: Path, split: str) -> str:
    """One split of LAMOST DR10, for models that have not learnt from it."""
    sample = lamost(folder / "lamost_dr10", split)
    sample = sample.take(usual(sample))
    rows = {}
    for name, model in models.items():
        if split == "val" or _simulated(model):
            rows[name] = measured(tried(model, sample))
    return together(rows, "model")


def _simulated(model: Estimator) -> bool:
    """It has seen no real spectrum."""
    trained = model.card["training_data"]
    return "left_out" in trained and not trained.get("real_surveys")


def of_repeats(models: Models, folder: Path) -> str:
    """Pairs of spectra of one star."""
    pairs = repeat_pairs(folder / "lamost_dr10")
    wanted = {obsid for pair in pairs for obsid in pair}
    sample, rows = lamost(folder / "lamost_dr10", obsids=wanted), []
    place = {obsid: i for i, obsid in enumerate(sample.obsid)}
    a, b = (np.array([place[pair[k]] for pair in pairs]) for k in (0, 1))
    for name, model in models.items():
        posterior = tried(model, sample).posterior
        for j, label in enumerate(NAMES):
            sigma = np.hypot(posterior.sigma[a, j], posterior.sigma[b, j])
            truth, values = sample.labels[label], posterior[label]
            rng = np.random.default_rng(SEED)
            lasp = spread_of_pairs(truth[a] - truth[b], sigma, rng)[0]
            ours = spread_of_pairs(values[a] - values[b], sigma, np.random.default_rng(SEED))
            rows.append([f"{label} [{LABELS[label].unit}]", name, str(len(pairs)), lasp, *ours])
    return table(["label", "model", "pairs", "LASP", "its own", "pull width"], rows)


def lamost_section(models: Models, folder: Path) -> str:
    """Train split, validation split, repeats."""
    return f"""## LAMOST DR10

S/N_g > {SNR_CUT:g} and LASP Teff {TEFF_RANGE[0]:g} to {TEFF_RANGE[1]:g} K. The split `train`, for
models that learnt no real spectrum; what they leave unread was chosen on 200 of these stars:

{of_lamost(models, folder, "train")}

The split `val`, from which nobody learnt:

{of_lamost(models, folder, "val")}

Pairs of spectra of one star: 1.4826 × median |difference| / √2. Most are of training stars of
models that learnt from LAMOST.

{of_repeats(models, folder)}

{remarks("lamost")}"""


def miles_section(models: Models, folder: Path) -> str:
    """Library stars within the range of the sky."""
    sample = in_range(miles(folder / "miles"))
    rows = {n: measured(tried(m, sample), truth_sigma=True) for n, m in models.items()}
    return f"""## MILES

{len(sample)} stars with labels in the range of the sky (Teff 4100–7600 K, log g 0.5–4.9, [Fe/H]
above −2.5), R ≈ 2000, 3540–7410 Å, S/N 100 assumed, against the compilation of the literature,
whose scatter of 100 K, 0.2 and 0.1 dex is counted in the pulls. No model has seen one.

{together(rows, "model")}

{remarks("miles")}"""


def shown(model: Estimator, star: Sequence[Sequence[Spectrum]], known: Known | None) -> list[str]:
    """Differences of the main labels to what is known, mean over realisations, and others."""
    found = model.estimate(star)
    posterior = found.calibrated
    cells = []
    for name in (*NAMES, *(n for n in SHOWN if n in posterior.names)):
        digits = {"teff": 0, "v_broad": 1}.get(name, 2)
        value, sigma = (
            np.mean(posterior[name]),
            np.mean(posterior.sigma[:, posterior.names.index(name)]),
        )
        if known is not None and name in known.labels:
            cells.append(f"{value - known.labels[name][0]:+.{digits}f} ({sigma:.{digits}f})")
        elif name in NAMES and known is None:
            cells.append(f"{value:.{digits}f} ({sigma:.{digits}f})")
        else:
            cells.append(f"{value:+.{digits}f} ± {sigma:.{digits}f}")
    return [*cells, f"{np.mean(found.distance):.2f}"]


def _known_stars(folder: Path) -> list[tuple[str, str, list[list[Spectrum]], Known | None]]:
    """Name, instrument, realisations and labels of single stars."""
    found: list[tuple[str, str, list[list[Spectrum]], Known | None]] = []
    for star in ("Sun", "Procyon"):
        for window in WINDOWS:
            for resolution in RESOLUTIONS:
                seen = [
                    degraded(folder, star, window, resolution, SNR, k) for k in range(REALISATIONS)
                ]
                if seen[0]:
                    found.append((star, f"{window}, R {resolution:,.0f}", seen, BENCHMARKS[star]))
    found.append(("mu Leo", "GALAH", [galah_star(folder)], BENCHMARKS["mu Leo"]))
    found.append(("Kepler-93", "Gaia RVS", [rvs_star(folder)], BENCHMARKS["Kepler-93"]))
    spectra, known = apogee_example(folder)
    found.append((known.name, "APOGEE DR14", [spectra], known))
    for file in sorted((folder / "sdss").glob("spec-*.fits")):
        found.append(("(no labels)", "SDSS", [surveys.read(file)], None))
    return found


def stars_section(models: Models, folder: Path) -> str:
    """Single stars with well-known labels."""
    rows, stars = [], _known_stars(folder)
    unified = {name: m for name, m in models.items() if "left_out" in m.card["training_data"]}
    model = next(iter(unified.values()))
    for star, instrument, seen, known in stars:
        for name, one in unified.items():
            rows.append([star, instrument, name, *shown(one, seen, known)])
    known = next(k for *_, k in reversed(stars) if k is not None)
    others = [LABELS[n].latex for n in SHOWN if n in model.names]
    head = ["star", "seen by", "model", "ΔTeff [K]", "Δlog g", "Δ[Fe/H]", *others, "distance"]
    sources = "; ".join(f"{one.name}: {one.source}" for one in (*BENCHMARKS.values(), known))
    return f"""## Stars whose labels are well known

Differences to the reference and, in brackets, the uncertainty; for the Sun and Procyon (HARPS
spectra, degraded) the mean of {REALISATIONS} realisations at S/N {SNR:g}. The APOGEE star is
compared in the abundances that ASPCAP has, too. *Distance*: of the
embedding to the training stars, above 1 beyond the coverage. References: {sources}.

{table(head, rows)}

{remarks("stars")}"""


def visits_section(models: Models, folder: Path) -> str:
    """Visits of one star by APOGEE agree or not."""
    rows, model = [], next(iter(models.values()))
    for file in sorted((folder / "apogee" / "dr13_visits").glob("apStar-*.fits.gz")):
        visits = [s for s in surveys.read(file) if s.good.sum() > 100]
        if len(visits) < 2:
            continue
        posterior = model.estimate([[s] for s in visits]).calibrated.select(NAMES)
        cells = [visits[0].star_id or file.name[10:28], str(len(visits))]
        for j, name in enumerate(NAMES):
            digits = 0 if name == "teff" else 2
            spread = np.std(posterior[name], ddof=1)
            cells.append(f"{np.mean(posterior[name]):.{digits}f}")
            sigma = np.sqrt(np.mean(posterior.sigma[:, j] ** 2))
            cells.append(f"{spread:.{digits}f} ({sigma:.{digits}f})")
        rows.append(cells)
    head = ["star", "spectra", "Teff [K]", "spread", "log g", "spread", "[Fe/H]", "spread"]
    return f"""## Visits of APOGEE

Spectra of cool dwarfs and young variable stars of APOGEE DR13, mostly cooler than the sky has
(4000 K): mean over the visits, their standard deviation and, in brackets, the stated uncertainty.
Only the agreement between visits means anything here.

{table(head, rows) if rows else "No star has two visits."}

{remarks("visits")}"""


HOT = "LAMOST, 200 K hotter by LASP than any learnt"


def _turned(spectrum: Spectrum) -> Spectrum:
    """Its flux from red to blue: what no star looks like."""
    return spectrum.replace(flux=spectrum.flux[::-1].copy(), ivar=spectrum.ivar[::-1].copy())


def _samples_of_coverage(folder: Path) -> list[tuple[str, bool, Sample]]:
    """Name, whether a model should cover it, and a sample."""
    mine, library = lamost(folder / "lamost_dr10", "val"), miles(folder / "miles")
    hot = lamost(folder / "lamost_dr10")
    good = mine.take(usual(mine))
    inside = np.logical_and.reduce(
        [
            (library.labels[n] > low) & (library.labels[n] < high)
            for n, (low, high) in SKY_RANGE.items()
        ]
    )
    turned = [[_turned(s) for s in star] for star in good.spectra]
    return [
        ("LAMOST, split val", True, good),
        ("MILES, within the range of the sky", True, library.take(inside)),
        (HOT, False, hot),
        ("LAMOST val, from red to blue", False, replace(good, spectra=turned)),
    ]


def coverage_section(models: Models, folder: Path) -> str:
    """Stars that are like those of the training, and others: which are flagged?"""
    rows = []
    for name, covered, every in _samples_of_coverage(folder):
        for model, one in models.items():
            trained = one.card["training_data"]
            if "left_out" not in trained:
                continue
            sample = every
            if name == HOT:
                highest = trained["label_range"]["teff"][1]
                sample = every.take(every.labels["teff"] > highest + 200.0)
            if not len(sample):
                continue
            flags = flags_of(one, sample.spectra)
            unlike = (flags & int(ResultFlag.OUT_OF_COVERAGE)) > 0
            wrong = unlike if covered else ~unlike
            cells = [f"{np.mean(wrong):.1%}", f"{np.mean((flags & int(BAD)) == 0):.1%}"]
            rows.append([name, "no" if covered else "yes", model, str(len(sample)), *cells])
    head = ["stars", "should be flagged", "model", "number", "wrong flags", "usable by their flags"]
    return f"""## Coverage

`OUT_OF_COVERAGE` says that a star is unlike those that a model was trained on. *Wrong flags*: stars
that have it and should not, or should and have not. *Usable*: without any flag that advises
against a result.

{table(head, rows)}

{remarks("coverage")}"""


SECTIONS: dict[str, Callable[[Models, Path], str]] = {
    "lamost": lamost_section,
    "miles": miles_section,
    "stars": stars_section,
    "visits": visits_section,
    "coverage": coverage_section,
}


def introduction(models: Models) -> str:
    """What was measured, and how to measure it again."""
    lines = []
    for name, model in models.items():
        trained = model.card["training_data"]
        taught = "simulated stars alone" if _simulated(model) else ", ".join(trained["surveys"])
        left = ", ".join(trained.get("left_out", ())) or "nothing"
        sha = model.card["weights_sha256"][:12]
        lines.append([name, f"`{sha}`", taught, left])
    head = ["model", "weights", "learnt from", "left unread in surveys that it has not learnt"]
    return f"""# Models on real spectra

```
python benchmarks/unified_real.py DATA {" ".join(f"weights/{name}" for name in models)}
```

{table(head, lines)}

*bias* is the median of estimate − reference, *1.4826 MAD* the robust standard deviation about it,
*outliers* the fraction beyond 300 K, 0.4 dex; *pull* the residual over the predicted standard
deviation.

{remarks("summary")}"""


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("data", type=Path)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--only", nargs="+", choices=list(SECTIONS))
    parser.add_argument("--output", type=Path, default=Path("docs/results"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    models = {model.card["name"]: model for model in map(load, options.models)}
    sections = [introduction(models)]
    for name in options.only or SECTIONS:
        sections.append(SECTIONS[name](models, options.data))
        print(name, flush=True)
    write_page(options.output / "unified_real.md", sections)


if __name__ == "__main__":
    main()
