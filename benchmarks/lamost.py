"""How well does a model do on real spectra that it was not trained on?

    python benchmarks/lamost.py weights/lamost-dr10 DATA [--output docs/results] [--baselines]

DATA holds ``lamost_dr10``, ``lamost_dr1``, ``miles`` and ``lamost_mrs``. Writes the page
``lamost.md`` and its figures; remarks between the markers of an older page are kept.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

import figures
from pages import remarks, table, write_page
from samples import Sample, lamost, lamost_mrs, miles, repeat_pairs
from spectrolabe.catalogue import ResultFlag
from spectrolabe.errors import InputError
from spectrolabe.inference.rows import catalogue_of
from spectrolabe.labels import LABELS, Labels
from spectrolabe.models.checkpoint import load
from spectrolabe.models.estimator import Estimator
from spectrolabe.models.posterior import LabelPosterior
from spectrolabe.spectra import Spectrum
from spectrolabe.validation.metrics import LabelMetrics, evaluate, evaluate_bins, to_markdown

NAMES = ("teff", "logg", "fe_h")
LIMITS = {"teff": 300.0, "logg": 0.4, "fe_h": 0.4}  # beyond which a residual is an outlier
SNR_CUT, TEFF_CUT = 30.0, 8000.0
BOOTSTRAP = 500
SEED = 20


@dataclass(frozen=True, eq=False)
class Tried:
    """A sample with what the model says of it: posteriors and ``result_flags``, shape (N,)."""

    sample: Sample
    posterior: LabelPosterior
    flags: NDArray

    def __len__(self) -> int:
        return len(self.sample)

    def take(self, rows: NDArray) -> Tried:
        """Return these stars."""
        return Tried(self.sample.take(rows), self.posterior.take(rows), self.flags[rows])


def tried(model: Estimator, sample: Sample) -> Tried:
    """Estimate the labels of a sample."""
    posterior = model.estimate(sample.spectra).calibrated.select(NAMES)
    return Tried(sample, posterior, flags_of(model, sample.spectra))


def flags_of(model: Estimator, stars: Sequence[Sequence[Spectrum]]) -> NDArray:
    """Return ``result_flags`` as `spectrolabe predict` writes them."""
    return np.asarray(catalogue_of(model, stars)["result_flags"])


def measured(what: Tried, **options: object) -> list[LabelMetrics]:
    """Metrics with bootstrap errors."""
    rng = np.random.default_rng(SEED)
    settings = {"outlier_limits": LIMITS, "bootstrap": BOOTSTRAP, "rng": rng, **options}
    return evaluate(what.sample.labels, what.posterior, **settings)


def binned(
    what: Tried, quantity: NDArray, edges: Sequence[float], name: str, **options: object
) -> str:
    """Markdown of the metrics in bins of a quantity."""
    rng = np.random.default_rng(SEED)
    settings = {"outlier_limits": LIMITS, "bootstrap": BOOTSTRAP, "rng": rng, **options}
    found = evaluate_bins(
        what.sample.labels, what.posterior, quantity, edges, name=name, **settings
    )
    order = sorted((r for r in found if r.stars), key=lambda r: NAMES.index(r.label))
    return to_markdown(order)


def together(rows: Mapping[str, list[LabelMetrics]], title: str) -> str:
    """One table of several sets of metrics, label by label, with what each is of."""
    lines = {name: to_markdown(found).splitlines() for name, found in rows.items()}
    first = next(iter(lines.values()))
    cells = lambda line: [c.strip() for c in line.strip("|").split("|")]  # noqa: E731
    head = cells(first[0])
    body = [
        [cells(found[2 + i])[0], name, *cells(found[2 + i])[1:]]
        for i in range(len(first) - 2)
        for name, found in lines.items()
    ]
    return table([head[0], title, *head[1:]], body)


def introduction(model: Estimator) -> str:
    """What was measured, and how to measure it again."""
    card, trained = model.card, model.card["training_data"]
    _held_out(model)
    limits = ", ".join(f"{value:g} {LABELS[k].unit} in {k}" for k, value in LIMITS.items())
    return f"""# LAMOST: the released model on real spectra

Model `{card["name"]}` (weights sha256 `{card["weights_sha256"][:12]}`, spectrolabe
{card["spectrolabe_version"]}), trained on {trained["spectra"]} spectra of {trained["stars"]} stars
of LAMOST DR10 with labels of LASP. Everything below is written by

```
python benchmarks/lamost.py weights/{card["name"]} DATA --baselines
```

except the remarks. DATA holds native LAMOST DR10, DR1 and MRS files (Cui et al. 2012; Zhao et al.
2012; Luo et al. 2015) and the MILES library (Sánchez-Blázquez et al. 2006; Falcón-Barroso et al.
2011), each with a table of labels; they are not part of this repository.

In all tables: *bias* is the median of estimate − reference, *1.4826 MAD* the robust standard
deviation about it, *outliers* the fraction beyond
{limits}.
*Pull* is the residual over the predicted standard deviation: median and 1.4826 MAD, 0 and 1 when
the uncertainties are right; *in 68 %* and *in 95 %* are the fractions inside the central intervals.
Errors are standard
deviations of {BOOTSTRAP} bootstrap resamplings of the rows. The reference labels have errors of
their own; the numbers are the agreement with them, not the distance to the truth.

{remarks("summary")}"""


def _held_out(model: Estimator) -> None:
    """Make sure that the validation stars are no training stars."""
    split = model.card["configuration"]["data"]["split"]
    if split != "train":
        raise InputError(
            model.card["name"],
            expected="a model trained on the split 'train'",
            found=f"one trained on {split!r}",
            fix="Train with data.split=train: this page is about stars not trained on.",
        )


def validation(
    model: Estimator, val: Tried, others: Mapping[str, LabelPosterior], folder: Path
) -> str:
    """Stars of the survey that were not trained on."""
    truth, snr = val.sample.labels, val.sample.snr
    cut = (snr > SNR_CUT) & (truth["teff"] < TEFF_CUT)
    rows = {"Spectrolabe": measured(val.take(cut))}
    for name, posterior in others.items():
        rows[name] = measured(Tried(val.sample, posterior, val.flags).take(cut))
    everything = {"all": measured(val), "not flagged": measured(unflagged(val))}
    estimate = val.posterior.to_labels()
    figures.one_to_one(
        folder / "lamost_one_to_one.png",
        truth,
        estimate,
        cut,
        truth_name="LASP",
        names=(
            f"S/N$_g$ > {SNR_CUT:g}, $T_\\mathrm{{eff}}$ < {TEFF_CUT:g} K",
            "other validation spectra",
        ),
    )
    inside, found = truth.take(cut), estimate.take(cut)
    figures.residuals(
        folder / "lamost_residuals.png",
        inside,
        found,
        {
            "S/N$_g$": snr[cut],
            r"LASP $T_\mathrm{eff}$ [K]": inside["teff"],
            "LASP [Fe/H] [dex]": inside["fe_h"],
        },
        truth_name="LASP",
        logarithmic=("S/N$_g$",),
    )
    pull = (found.values - inside.values) / found.sigma
    figures.pulls(folder / "lamost_pulls.png", pull, NAMES)
    known = np.unique(truth.star_id).size
    return f"""## Validation stars of LAMOST DR10

The split is by star, from the table of the sample (`split = val`): {len(val)} spectra of {known}
stars, none of them used to fit weights, to stop, or to calibrate. The sample of the
first table is S/N_g > {SNR_CUT:g} and LASP Teff < {TEFF_CUT:g} K: {cut.sum()} spectra. The
baselines are trained on the same training stars and see the same spectra; their uncertainty is one
number a label.

{together(rows, "model")}

All validation spectra, and those without a flag that marks a result as bad:

{together(everything, "spectra")}

![Estimates against LASP](figures/lamost_one_to_one.png)

![Residuals against S/N, Teff and [Fe/H]](figures/lamost_residuals.png)

![Pulls](figures/lamost_pulls.png)

In bins of S/N_g (Teff < {TEFF_CUT:g} K):

{binned(val.take(truth["teff"] < TEFF_CUT), snr[truth["teff"] < TEFF_CUT], SNR_EDGES, "S/N_g")}

{remarks("validation")}"""


SNR_EDGES = (0.0, 30.0, 60.0, 100.0, np.inf)


def unflagged(what: Tried) -> Tried:
    """Leave out what is outside the coverage, of too few pixels, or without a velocity."""
    bad = ResultFlag.OUT_OF_COVERAGE | ResultFlag.FEW_PIXELS | ResultFlag.NO_VELOCITY
    return what.take((what.flags & int(bad)) == 0)


def spread_of_pairs(difference: NDArray, sigma: NDArray, rng: np.random.Generator) -> list[str]:
    """Scatter of one spectrum and its error, and the width of the pulls, as text."""
    scatter = lambda d: 1.4826 * np.median(np.abs(d)) / np.sqrt(2)  # noqa: E731
    rows = rng.integers(len(difference), size=(BOOTSTRAP, len(difference)))
    error = np.std([scatter(difference[r]) for r in rows])
    width = 1.4826 * np.median(np.abs(difference / sigma))
    digits = 1 if np.median(np.abs(difference)) > 5 else 3
    return [f"{scatter(difference):.{digits}f} ± {error:.{digits}f}", f"{width:.2f}"]


def repeats(model: Estimator, folder: Path, val: Tried) -> str:
    """Spectra of one star on different nights."""
    pairs = repeat_pairs(folder)
    both = tried(model, lamost(folder, obsids={obsid for pair in pairs for obsid in pair}))
    place = {obsid: i for i, obsid in enumerate(both.sample.obsid)}
    a, b = (np.array([place[pair[k]] for pair in pairs]) for k in (0, 1))
    unseen = np.array(
        [pair[0] in val.sample.obsid and pair[1] in val.sample.obsid for pair in pairs]
    )
    lines = []
    for title, use in (("all pairs", np.ones(len(pairs), bool)), ("validation stars", unseen)):
        if not use.any():
            continue
        for j, name in enumerate(NAMES):
            rng = np.random.default_rng(SEED)
            i, k = a[use], b[use]
            sigma = np.hypot(both.posterior.sigma[i, j], both.posterior.sigma[k, j])
            truth = both.sample.labels[name]
            ours = spread_of_pairs(both.posterior[name][i] - both.posterior[name][k], sigma, rng)
            lasp = spread_of_pairs(truth[i] - truth[k], sigma, np.random.default_rng(SEED))
            unit = LABELS[name].unit
            lines.append([f"{name} [{unit}]", title, str(use.sum()), lasp[0], *ours])
    head = ["label", "pairs of", "pairs", "LASP", "Spectrolabe", "pull width"]
    return f"""## Repeats of one star

Scatter of a single spectrum, 1.4826 × median |difference| / √2, of the pairs of `repeat_pairs.csv`,
beside LASP's own scatter for the same pairs. **{(~unseen).sum()} of the {len(pairs)} pairs are of
training stars**, which the model has seen with their labels; only {unseen.sum()} are of validation
stars. Every pair counts once, also where pairs share a spectrum.
Pulls are differences over the two predicted uncertainties in quadrature. These include
the scatter of the labels learnt from, so a width below 1 is expected here.

{table(head, lines)}

{remarks("repeats")}"""


def old_release(what: Tried, folder: Path) -> str:
    """LAMOST DR1, another layout and another version of the labels."""
    truth, snr = what.sample.labels, what.sample.snr
    figures.one_to_one(
        folder / "lamost_dr1.png",
        truth,
        what.posterior.to_labels(),
        snr > SNR_CUT,
        truth_name="LASP DR1",
        names=(f"S/N$_g$ > {SNR_CUT:g}", "lower or unknown S/N"),
    )
    edges = (0.0, 15.0, SNR_CUT, np.inf)
    rows = {
        "all": measured(what, truth_sigma=True),
        "not flagged": measured(unflagged(what), truth_sigma=True),
    }
    return f"""## LAMOST DR1

{len(what)} spectra in the old layout of the first release, reduced and labelled by earlier
pipelines; none is in the DR10 sample. The reference is LASP DR1, and the pulls here have
its errors added in quadrature. Median errors of LASP DR1:
{_medians(truth.sigma)}; of Spectrolabe: {_medians(what.posterior.sigma)}.

{together(rows, "spectra")}

{binned(what, snr, edges, "S/N_g", truth_sigma=True)}

![Estimates against LASP DR1](figures/lamost_dr1.png)

{remarks("dr1")}"""


def _medians(sigma: NDArray) -> str:
    teff, logg, fe_h = np.nanmedian(sigma, axis=0)
    return f"{teff:.0f} K, {logg:.2f} dex, {fe_h:.2f} dex"


def in_training_range(model: Estimator, labels: Labels) -> NDArray:
    """Tell which stars have all labels within the range of the training labels, shape (N,)."""
    ranges = model.card["training_data"]["label_range"]
    low, high = np.transpose([ranges[name] for name in NAMES])
    return ((labels.values >= low) & (labels.values <= high)).all(axis=1)


def library(model: Estimator, what: Tried, folder: Path) -> str:
    """MILES: another instrument, another scale."""
    inside = in_training_range(model, what.sample.labels)
    covered = (what.flags & int(ResultFlag.OUT_OF_COVERAGE)) == 0
    figures.one_to_one(
        folder / "miles.png",
        what.sample.labels,
        what.posterior.to_labels(),
        covered,
        truth_name="MILES",
        names=("covered", "flagged OUT_OF_COVERAGE"),
    )
    ranged = what.take(inside)
    rows = {"in the training range": measured(ranged, truth_sigma=True)}
    for title, use in (("same, not flagged", covered), ("same, flagged", ~covered)):
        if (use & inside).sum() > 5:
            rows[title] = measured(what.take(use & inside), truth_sigma=True)
    figures.residuals(
        folder / "miles_residuals.png",
        ranged.sample.labels,
        ranged.posterior.to_labels(),
        {
            r"MILES $T_\mathrm{eff}$ [K]": ranged.sample.labels["teff"],
            r"MILES $\log g$ [dex]": ranged.sample.labels["logg"],
            "MILES [Fe/H] [dex]": ranged.sample.labels["fe_h"],
        },
        truth_name="MILES, stars in the training range",
    )
    teff = (4000.0, 4500.0, 5000.0, 5500.0, 6000.0, 6500.0, 7500.0, 9000.0)
    fe_h = (-2.5, -1.5, -1.0, -0.5, -0.25, 0.0, 0.5)
    flagged = np.mean(~covered[inside]), np.mean(~covered[~inside])
    return f"""## MILES: does the model carry over?

{len(what)} stars of the MILES library, R ≈ 2000 (FWHM 2.5 Å), 3540–7410 Å, at rest, without
errors (S/N = 100 is assumed). The reference is the library's compilation from the literature, on
scales of its own, with a scatter of about 100 K, 0.2 and 0.1 dex (Cenarro et al. 2007), added in
quadrature in the pulls. Nothing of MILES was trained on: this is a test of what does *not* carry
over. {inside.sum()} stars have labels within the range of the training labels; of them
{100 * flagged[0]:.0f} % are flagged OUT_OF_COVERAGE, of the {(~inside).sum()} others
{100 * flagged[1]:.0f} %.

{together(rows, "subset")}

Stars in the training range, by Teff:

{binned(ranged, ranged.sample.labels["teff"], teff, "Teff", truth_sigma=True)}

and by [Fe/H]:

{binned(ranged, ranged.sample.labels["fe_h"], fe_h, "[Fe/H]", truth_sigma=True)}

![Estimates against MILES](figures/miles.png)

![Residuals in the training range](figures/miles_residuals.png)

{remarks("miles")}"""


def medium_resolution(model: Estimator, folder: Path) -> tuple[str, NDArray]:
    """Nights of medium-resolution spectra beside the low-resolution one; text and flags."""
    nights, low = lamost_mrs(folder)
    stars = nights + low
    posterior, flags = model.predict(stars), flags_of(model, stars)
    lines = []
    for star, values, sigma, flag in zip(
        stars, posterior.mean, posterior.sigma, flags, strict=True
    ):
        words = ", ".join(f.name for f in ResultFlag if flag & int(f)) or "none"
        kind = "MRS" if star[0].survey == "lamost_mrs" else "LRS"
        numbers = [
            f"{values[posterior.index([n])[0]]:.{d}f} ± {sigma[posterior.index([n])[0]]:.{d}f}"
            for n, d in (("teff", 0), ("logg", 2), ("fe_h", 2))
        ]
        date = star[0].spectrum_id.split("-")[1]
        lines.append([f"{kind} {date}", f"{star[0].meta.get('ra', np.nan):.4f}", *numbers, words])
    head = ["spectrum", "RA [deg]", "teff [K]", "logg [dex]", "fe_h [dex]", "flags"]
    text = f"""## Medium resolution

The model was trained at R = 1800 only. LAMOST MRS spectra (R = 7500, two arms a night, given as two
spectra of one star) are outside its coverage and must be flagged. Rows of one RA are one star;
its low-resolution spectrum is the last row.

{table(head, lines)}

{remarks("mrs")}"""
    return text, flags[: len(nights)]


def coverage(flags: Mapping[str, NDArray]) -> str:
    """Fractions of each sample that carry each flag."""
    columns = ["OUT_OF_COVERAGE", "LOW_SNR", "NO_VELOCITY", "FEW_PIXELS", "UNKNOWN_SURVEY"]
    lines = [
        [
            name,
            str(len(found)),
            *(f"{100 * np.mean((found & int(ResultFlag[c])) != 0):.1f} %" for c in columns),
        ]
        for name, found in flags.items()
    ]
    return f"""## Flags

Fraction of each sample that carries a flag. The limit of OUT_OF_COVERAGE is set so that 1 % of the
stars like the training stars are beyond it.

{table(["sample", "stars", *columns], lines)}

{remarks("flags")}"""


def baseline_posteriors(folder: Path, val: Sample) -> dict[str, LabelPosterior]:
    """Every baseline, trained on the training stars, on the validation spectra."""
    from spectrolabe.models.baselines import BASELINES

    training = lamost(folder, "train")
    found = {}
    for name, kind in BASELINES.items():
        print(f"baseline {name}", flush=True)
        found[name] = (
            kind().fit(training.spectra, training.labels).predict(val.spectra).select(NAMES)
        )
    return found


def main() -> None:
    """Write the page and its figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--output", type=Path, default=Path("docs/results"))
    parser.add_argument("--baselines", action="store_true", help="train and show them, too")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model, pictures = load(options.model), options.output / "figures"
    val = tried(model, lamost(options.data / "lamost_dr10", "val"))
    others = {}
    if options.baselines:
        others = baseline_posteriors(options.data / "lamost_dr10", val.sample)
    dr1 = tried(model, lamost(options.data / "lamost_dr1"))
    library_stars = tried(model, miles(options.data / "miles"))
    mrs, mrs_flags = medium_resolution(model, options.data / "lamost_mrs")
    near = in_training_range(model, library_stars.sample.labels)
    flags = {
        "LAMOST DR10, validation": val.flags,
        "LAMOST DR1": dr1.flags,
        "MILES, in the training range": library_stars.flags[near],
        "MILES, others": library_stars.flags[~near],
        "LAMOST MRS": mrs_flags,
    }
    sections = [
        introduction(model),
        validation(model, val, others, pictures),
        repeats(model, options.data / "lamost_dr10", val),
        old_release(dr1, pictures),
        library(model, library_stars, pictures),
        mrs,
        coverage(flags),
    ]
    write_page(options.output / "lamost.md", sections)
    print(options.output / "lamost.md")


if __name__ == "__main__":
    main()
