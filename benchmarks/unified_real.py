"""How does a model trained on a synthetic sky do on real spectra that it has never seen?

    python benchmarks/unified_real.py MODEL DATA [--compare weights/lamost-dr10] [--only NAME ...]

DATA holds ``lamost_dr10``, ``miles``, ``benchmark_stars``, ``galah``, ``gaia_rvs``, ``apogee`` and
``sdss``. Writes ``unified_real.md``; remarks between the markers of an older page are kept.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from lamost import NAMES, Tried, measured, spread_of_pairs, together, tried
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
from samples import Sample, lamost, miles, repeat_pairs
from spectrolabe import surveys
from spectrolabe.labels import LABELS
from spectrolabe.models.checkpoint import load
from spectrolabe.models.estimator import Estimator
from spectrolabe.models.left_out import LEFT_OUT
from spectrolabe.spectra import Spectrum

SNR_CUT, TEFF_RANGE = 30.0, (4200.0, 7500.0)
SKY_RANGE = {"teff": (4100.0, 7600.0), "logg": (0.5, 4.9), "fe_h": (-2.5, 0.5)}
RESOLUTIONS = (1800.0, 11500.0, 28000.0)
REALISATIONS, SNR, SEED = 3, 100.0, 21
SHOWN = ("c_fe", "mg_fe", "si_fe", "ca_fe", "ti_fe", "ni_fe", "v_broad")


def reading(model: Estimator, names: Sequence[str]) -> Estimator:
    """Return the model with other pixels left unread."""
    data = {**model.card["training_data"], "left_out": list(names)}
    card = {**model.card, "training_data": data}
    return Estimator(model.encoder, model.scale, model.recalibration, model.coverage, card)


def usual(sample: Sample) -> NDArray:
    """Tell which stars have a fair S/N and are such as the sky has."""
    teff = sample.labels["teff"]
    return (sample.snr > SNR_CUT) & (teff > TEFF_RANGE[0]) & (teff < TEFF_RANGE[1])


def of_lamost(
    model: Estimator, first: Estimator | None, folder: Path, split: str
) -> tuple[str, Tried]:
    """One split of LAMOST DR10."""
    sample = lamost(folder / "lamost_dr10", split)
    sample = sample.take(usual(sample))
    ours = tried(model, sample)
    rows = {"unified": measured(ours)}
    if model.card["training_data"].get("left_out"):
        rows["unified, reads all"] = measured(tried(reading(model, ()), sample))
    if first is not None and split == "val":
        rows["first light"] = measured(tried(first, sample))
    return together(rows, "model"), ours


def of_repeats(model: Estimator, folder: Path) -> str:
    """Pairs of spectra of one star."""
    pairs = repeat_pairs(folder / "lamost_dr10")
    wanted = {obsid for pair in pairs for obsid in pair}
    both = tried(model, lamost(folder / "lamost_dr10", obsids=wanted))
    place = {obsid: i for i, obsid in enumerate(both.sample.obsid)}
    a, b = (np.array([place[pair[k]] for pair in pairs]) for k in (0, 1))
    rows = []
    for j, name in enumerate(NAMES):
        sigma = np.hypot(both.posterior.sigma[a, j], both.posterior.sigma[b, j])
        truth, values = both.sample.labels[name], both.posterior[name]
        rng = np.random.default_rng(SEED)
        lasp = spread_of_pairs(truth[a] - truth[b], sigma, rng)[0]
        ours = spread_of_pairs(values[a] - values[b], sigma, np.random.default_rng(SEED))
        rows.append([f"{name} [{LABELS[name].unit}]", str(len(pairs)), lasp, *ours])
    return table(["label", "pairs", "LASP", "unified", "pull width"], rows)


def lamost_section(model: Estimator, first: Estimator | None, folder: Path) -> str:
    """Train split, validation split, repeats."""
    train, _ = of_lamost(model, first, folder, "train")
    validation, _ = of_lamost(model, first, folder, "val")
    return f"""## LAMOST DR10

S/N_g > {SNR_CUT:g} and LASP Teff {TEFF_RANGE[0]:g}–{TEFF_RANGE[1]:g} K. No spectrum and no label
of LAMOST was learnt from. What is left unread was chosen on the split `train`:

{train}

The split `val`, on which nothing was chosen:

{validation}

Pairs of spectra of one star: 1.4826 × median |difference| / √2.

{of_repeats(model, folder)}

{remarks("lamost")}"""


def miles_section(model: Estimator, first: Estimator | None, folder: Path) -> str:
    """Library stars within the range of the sky."""
    sample = miles(folder / "miles")
    inside = np.logical_and.reduce(
        [
            (sample.labels[n] > low) & (sample.labels[n] < high)
            for n, (low, high) in SKY_RANGE.items()
        ]
    )
    sample = sample.take(inside)
    ours = tried(model, sample)
    rows = {"unified": measured(ours, truth_sigma=True)}
    if model.card["training_data"].get("left_out"):
        whole = tried(reading(model, ()), sample)
        rows["unified, reads all"] = measured(whole, truth_sigma=True)
    if first is not None:
        rows["first light"] = measured(tried(first, sample), truth_sigma=True)
    return f"""## MILES

{len(sample)} stars with labels in the range of the sky (Teff 4100–7600 K, log g 0.5–4.9, [Fe/H]
above −2.5), R ≈ 2000, 3540–7410 Å, S/N 100 assumed, against the compilation of the literature,
whose scatter of 100 K, 0.2 and 0.1 dex is counted in the pulls.

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


def stars_section(model: Estimator, first: Estimator | None, folder: Path) -> str:
    """Single stars with well-known labels."""
    rows = []
    for star in ("Sun", "Procyon"):
        for window in WINDOWS:
            for resolution in RESOLUTIONS:
                seen = [
                    degraded(folder, star, window, resolution, SNR, k) for k in range(REALISATIONS)
                ]
                if seen[0]:
                    title = [star, f"{window}, R {resolution:,.0f}"]
                    rows.append([*title, *shown(model, seen, BENCHMARKS[star])])
    rows.append(["mu Leo", "GALAH", *shown(model, [galah_star(folder)], BENCHMARKS["mu Leo"])])
    rvs = [rvs_star(folder)]
    rows.append(["Kepler-93", "Gaia RVS", *shown(model, rvs, BENCHMARKS["Kepler-93"])])
    spectra, known = apogee_example(folder)
    rows.append([known.name, "APOGEE DR14", *shown(model, [spectra], known)])
    for file in sorted((folder / "sdss").glob("spec-*.fits")):
        rows.append(["(no labels)", "SDSS", *shown(model, [surveys.read(file)], None)])
    others = [LABELS[n].latex for n in SHOWN if n in model.names]
    head = ["star", "seen by", "ΔTeff [K]", "Δlog g", "Δ[Fe/H]", *others, "distance"]
    sources = "; ".join(f"{one.name}: {one.source}" for one in (*BENCHMARKS.values(), known))
    return f"""## Stars whose labels are well known

Differences to the reference and, in brackets, the uncertainty; for the Sun and Procyon (HARPS
spectra, degraded) the mean of {REALISATIONS} realisations at S/N {SNR:g}. The APOGEE star is
compared in the abundances that ASPCAP has, too. *Distance*: of the
embedding to the training stars, above 1 beyond the coverage. References: {sources}.

{table(head, rows)}

{remarks("stars")}"""


def visits_section(model: Estimator, first: Estimator | None, folder: Path) -> str:
    """Visits of one star by APOGEE agree or not."""
    rows = []
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


SECTIONS: dict[str, Callable[[Estimator, Estimator | None, Path], str]] = {
    "lamost": lamost_section,
    "miles": miles_section,
    "stars": stars_section,
    "visits": visits_section,
}


def introduction(model: Estimator, options: argparse.Namespace) -> str:
    """What was measured, and how to measure it again."""
    card = model.card
    first = f" --compare {options.compare}" if options.compare else ""
    only = f" --only {' '.join(options.only)}" if options.only else ""
    left = ", ".join(card["training_data"].get("left_out", ())) or "nothing"
    return f"""# The unified model on real spectra, zero-shot

```
python benchmarks/unified_real.py MODEL DATA{first}{only}
```

Model `{card["name"]}` (weights sha256 `{card["weights_sha256"][:12]}`), trained on
{card["training_data"]["spectra"]:,} views of simulated stars and no real spectrum. Left unread in
real spectra: {left}. *bias* is the median of estimate − reference, *1.4826 MAD* the robust standard
deviation about it, *outliers* the fraction beyond 300 K, 0.4 dex; *pull* the residual over the
predicted standard deviation.

{remarks("summary")}"""


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--compare", type=Path)
    parser.add_argument("--only", nargs="+", choices=list(SECTIONS))
    parser.add_argument("--output", type=Path, default=Path("docs/results"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = load(options.model)
    if "left_out" not in model.card["training_data"]:
        model = reading(model, tuple(LEFT_OUT))
    first = load(options.compare) if options.compare else None
    sections = [introduction(model, options)]
    for name in options.only or SECTIONS:
        sections.append(SECTIONS[name](model, first, options.data))
        print(name, flush=True)
    write_page(options.output / "unified_real.md", sections)


if __name__ == "__main__":
    main()
