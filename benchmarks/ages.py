"""How well do labels tell the age of a red giant, and are the uncertainties right?

    python benchmarks/ages.py DATA [--output docs/results] [--release FOLDER] [--seed 0]

Trains the model of ages on four fifths of the stars of DATA (``bingo_dr17_train.csv`` and
``apokasc2.parquet``), compares it on the last fifth with a quadratic polynomial and with boosted
trees trained on the same stars, and writes the page ``ages.md`` with its figure; remarks between
the markers of an older page are kept. ``--release`` also writes the
model, as into ``weights/ages-giants``.
"""

from __future__ import annotations

import argparse
import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement, pairwise
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pyarrow.csv
import pyarrow.parquet
import torch
from numpy.typing import NDArray
from xgboost import XGBRegressor

from figures import STYLE
from pages import remarks, table, write_page
from spectrolabe.labels import Labels
from spectrolabe.models.age_files import save_ages
from spectrolabe.models.ages import AgeModel
from spectrolabe.models.posterior import SCORES, LabelPosterior
from spectrolabe.training.ages import AgeTraining, train_ages
from spectrolabe.validation.distributions import coverage, crps, pit
from spectrolabe.validation.metrics import mad

NAMES = ("teff", "logg", "fe_h", "mg_fe", "c_fe", "n_fe")
SCALES = {
    "bingo": "ages of the BINGO training set for APOGEE DR17 (Ciuca et al. 2024, MNRAS 528, L122)",
    "apokasc2": "ages of APOKASC-2 (Pinsonneault et al. 2018, ApJS 239, 32)",
}
TITLES = {"bingo": "BINGO", "apokasc2": "APOKASC-2"}
TEST, PARTS = 0, 5  # this part of the stars is for the test
DRAWS = 1000  # of the bootstrap
LOW_RESOLUTION = (50.0, 0.10, 0.05, 0.05, 0.07, 0.10)  # R = 1800: DD-Payne of LAMOST, S/N 50
SETS: Mapping[str, tuple[tuple[str, ...], Sequence[float] | None]] = {
    "all six": (NAMES, None),
    "without [Mg/Fe]": (("teff", "logg", "fe_h", "c_fe", "n_fe"), None),
    "without [C/Fe], [N/Fe]": (("teff", "logg", "fe_h", "mg_fe"), None),
    "Teff, log g, [Fe/H]": (("teff", "logg", "fe_h"), None),
    "all six, errors of R = 1800": (NAMES, LOW_RESOLUTION),
    "Teff, log g, [Fe/H], [Mg/Fe], errors of R = 1800": (
        ("teff", "logg", "fe_h", "mg_fe"),
        LOW_RESOLUTION,
    ),
}


@dataclass(frozen=True, eq=False)
class Giants:
    """Labels of giants, and their ages in Gyr by scale, NaN where not known."""

    labels: Labels
    ages: Mapping[str, NDArray]

    def take(self, rows: NDArray) -> Giants:
        return Giants(self.labels.take(rows), {k: v[rows] for k, v in self.ages.items()})


def read(folder: Path) -> tuple[Giants, Giants]:
    """Stars for training, and those for the test."""
    columns = pyarrow.csv.read_csv(folder / "bingo_dr17_train.csv").to_pydict()
    star = np.array(columns["APOGEE_ID"])
    values = np.stack([columns[name.upper()] for name in NAMES], axis=1)
    sigma = np.stack([columns[f"{name.upper()}_ERR"] for name in NAMES], axis=1)
    seismic = pyarrow.parquet.read_table(folder / "apokasc2.parquet", columns=["tmass", "age"])
    other = dict(zip(*seismic.to_pydict().values(), strict=True))
    ages = {
        "bingo": np.array(columns["age"], dtype=float),
        "apokasc2": np.array([other.get(name, np.nan) for name in star], dtype=float),
    }
    part = np.array([int(hashlib.sha256(s.encode()).hexdigest(), 16) % PARTS for s in star])
    giants = Giants(Labels(NAMES, values, sigma, star), ages)
    return giants.take(part != TEST), giants.take(part == TEST)


def worse(
    labels: Labels, names: Sequence[str], errors: Sequence[float] | None, seed: int
) -> Labels:
    """The same stars with fewer labels, and with errors added to them."""
    if errors is not None:
        noise = np.random.default_rng(seed).normal(size=labels.values.shape) * errors
        sigma = np.hypot(labels.sigma, errors)
        labels = Labels(labels.names, labels.values + noise, sigma, labels.star_id)
    return labels.select(list(names))


def terms(labels: Labels) -> NDArray:
    """One, the labels, their squares and cross terms, (N, T); in units that keep them near one."""
    unit = {"teff": 150.0, "logg": 0.3}
    centre = {"teff": 4700.0, "logg": 2.6}
    x = np.stack([(labels[n] - centre.get(n, 0.0)) / unit.get(n, 0.2) for n in labels.names])
    pairs = [x[i] * x[j] for i, j in combinations_with_replacement(range(len(x)), 2)]
    return np.stack([np.ones(len(labels)), *x, *pairs], axis=1)


def quadratic(train: Labels, ages: NDArray, test: Labels) -> LabelPosterior:
    """The usual polynomial, by least squares in log age; its scatter is that of stars left out."""
    known = np.isfinite(ages)
    x, y = terms(train)[known], np.log10(ages[known])
    hat = x @ np.linalg.pinv(x)
    left_out = (y - hat @ y) / (1.0 - np.diag(hat))
    sigma = float(np.std(left_out))
    middle = terms(test) @ np.linalg.lstsq(x, y, rcond=None)[0]
    mean, levels = lognormal(middle, sigma)
    variance = (mean * np.sqrt(np.expm1((np.log(10) * sigma) ** 2))) ** 2
    return LabelPosterior(
        ("age",), mean[:, None], variance[:, None, None], test.star_id, levels[:, None]
    )


def lognormal(middle: NDArray, sigma: float) -> tuple[NDArray, NDArray]:
    """Mean and levels of a normal distribution of log10."""
    mean = 10**middle * np.exp(0.5 * (np.log(10) * sigma) ** 2)
    return mean, 10 ** (middle[:, None] + sigma * SCORES)


def trees(train: Labels, ages: NDArray, test: Labels, seed: int) -> NDArray:
    """Ages by boosted trees, least squares in log age."""
    known = np.isfinite(ages)
    model = XGBRegressor(
        n_estimators=300,
        max_depth=4,
        learning_rate=0.03,
        subsample=0.6,
        random_state=seed,
        n_jobs=1,
    )
    model.fit(train.values[known], np.log10(ages[known]))
    return 10 ** model.predict(test.values)


def numbers(posterior: LabelPosterior, ages: NDArray) -> dict[str, float]:
    """Errors of the mean and the median, and of the distribution, over stars with both."""
    known = np.isfinite(ages) & np.isfinite(posterior.mean[:, 0])
    posterior, truth = posterior.take(known), ages[known, None]
    residual = (posterior.mean - truth)[:, 0]
    median = (posterior.quantiles([0.5])[0] - truth)[:, 0]
    return {
        "stars": int(known.sum()),
        "rmse": float(np.sqrt(np.mean(residual**2))),
        "mae": float(np.mean(np.abs(median))),
        "bias": float(np.median(median)),
        "mad": mad(median),
        "pull": float(np.std(residual / posterior.sigma[:, 0])),
        "score": float(np.std(posterior.scores(truth))),
        "in68": float(coverage(posterior, truth, 0.68)[0]),
        "in95": float(coverage(posterior, truth, 0.95)[0]),
        "crps": float(np.mean(crps(posterior, truth))),
    }


HEAD = {
    "stars": "stars", "rmse": "RMSE", "mae": "MAE", "bias": "bias", "mad": "1.4826 MAD",
    "pull": "pulls", "score": "scores", "in68": "in 68 %", "in95": "in 95 %", "crps": "CRPS",
}  # fmt: skip


def cells(found: Mapping[str, float], error: Mapping[str, float] | None = None) -> list[str]:
    """Text of the numbers in the order of `HEAD`."""
    text = []
    for key in HEAD:
        value = found[key]
        if key == "stars":
            text.append(f"{value:.0f}")
        elif key in ("in68", "in95"):
            text.append(f"{100 * value:.0f} %")
        else:
            sign = "+" if key == "bias" else ""
            more = f" ± {error[key]:.2f}" if error else ""
            text.append(f"{value:{sign}.2f}{more}")
    return text


def bootstrap(posterior: LabelPosterior, ages: NDArray, seed: int) -> dict[str, float]:
    """Standard errors of the numbers over resamplings of the stars."""
    rng = np.random.default_rng(seed)
    known = np.flatnonzero(np.isfinite(ages) & np.isfinite(posterior.mean[:, 0]))
    draws = [rng.choice(known, len(known)) for _ in range(DRAWS // 5)]
    found = [numbers(posterior.take(rows), ages[rows]) for rows in draws]
    return {key: float(np.std([one[key] for one in found])) for key in HEAD}


def draw(posteriors: Mapping[str, LabelPosterior], test: Giants, path: Path) -> None:
    """Ages against those of the source, and the distribution of truth in the posteriors."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(2, 2, figsize=(7.4, 6.8))
        for row, (scale, posterior) in zip(axes, posteriors.items(), strict=True):
            ages = test.ages[scale]
            known = np.isfinite(ages) & np.isfinite(posterior.mean[:, 0])
            low, middle, high = posterior.quantiles([0.16, 0.5, 0.84])[:, known, 0]
            left, right = row
            left.errorbar(
                ages[known], middle, yerr=[middle - low, high - middle], fmt="o", ms=2.2,
                lw=0.4, color="#1f6fa8", ecolor="#b9cfe0",
            )  # fmt: skip
            left.plot([0.4, 20], [0.4, 20], color="#c8402f", lw=1)
            left.set(
                xscale="log", yscale="log", xlim=(0.4, 21), ylim=(0.4, 21),
                xlabel=f"age of {TITLES[scale]} [Gyr]", ylabel="age by labels [Gyr]",
            )  # fmt: skip
            for axis in (left.xaxis, left.yaxis):
                axis.set_ticks([0.5, 1, 2, 5, 10, 20], ["0.5", "1", "2", "5", "10", "20"])
                axis.set_ticks([], minor=True)
            share = pit(posterior.take(known), ages[known, None])[:, 0]
            count = known.sum() / 10
            error = np.sqrt(count)
            right.hist(share, bins=np.linspace(0, 1, 11), color="#1f6fa8", rwidth=0.92)
            right.axhspan(count - error, count + error, color="#c8402f", alpha=0.2)
            right.axhline(count, color="#c8402f", lw=1)
            right.set(xlabel="posterior probability of a lower age", ylabel="stars", xlim=(0, 1))
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150)
        plt.close(figure)


def by(quantity: NDArray, edges: Sequence[float], pair: Sequence[LabelPosterior], ages: NDArray,
       what: str) -> str:  # fmt: skip
    """Quadratic and model in bins, as a table."""
    rows = []
    for low, high in pairwise(edges):
        inside = (quantity >= low) & (quantity < high)
        one, two = (numbers(p.take(inside), ages[inside]) for p in pair)
        both = [f"{one[k]:.2f} / {two[k]:.2f}" for k in ("rmse", "mae", "bias", "mad", "crps")]
        pulls = [f"{one['score']:.2f} / {two['score']:.2f}"]
        inside68 = [f"{100 * one['in68']:.0f} / {100 * two['in68']:.0f} %"]
        rows.append([f"{low:g} to {high:g}", f"{two['stars']:.0f}", *both, *pulls, *inside68])
    head = [what, "stars", "RMSE", "MAE", "bias", "1.4826 MAD", "CRPS", "scores", "in 68 %"]
    return table(head, rows)


def sections(
    train: Giants, test: Giants, model: AgeModel, seconds: float, seed: int, figure: Path
) -> list[str]:
    """Everything that is measured, as the sections of the page."""
    found = {scale: model.on(scale).predict(test.labels) for scale in SCALES}
    base = {s: quadratic(train.labels, train.ages[s], test.labels) for s in SCALES}
    draw(found, test, figure)
    overall, bins, sets = [], [], []
    for scale in SCALES:
        ages = test.ages[scale]
        name = TITLES[scale]
        overall.append(
            [f"{name}: quadratic",
             *cells(numbers(base[scale], ages), bootstrap(base[scale], ages, seed))]
        )  # fmt: skip
        point = trees(train.labels, train.ages[scale], test.labels, seed)
        known = np.isfinite(ages)
        residual = (point - ages)[known]
        overall.append(
            [f"{name}: boosted trees", f"{known.sum()}", f"{np.sqrt(np.mean(residual**2)):.2f}",
             f"{np.mean(np.abs(residual)):.2f}", f"{np.median(residual):+.2f}",
             f"{mad(residual):.2f}", *["–"] * 5]
        )  # fmt: skip
        overall.append(
            [f"{name}: model",
             *cells(numbers(found[scale], ages), bootstrap(found[scale], ages, seed))]
        )  # fmt: skip
        pair = (base[scale], found[scale])
        bins += [
            f"### Ages of {name}",
            by(ages, (0, 1.5, 3, 5, 8, 11, 20.1), pair, ages, "age [Gyr]"),
        ]
        bins += [by(test.labels["logg"], (1.4, 2.3, 2.5, 2.7, 3.0, 3.5), pair, ages, "log g")]
        for what, (names, errors) in SETS.items():
            seen, learnt = (
                worse(one.labels, names, errors, seed + i) for i, one in enumerate((test, train))
            )
            one = numbers(quadratic(learnt, train.ages[scale], seen), ages)
            two = numbers(model.on(scale).predict(seen), ages)
            both = [f"{one[k]:.2f} / {two[k]:.2f}" for k in ("rmse", "mae", "mad", "crps", "score")]
            share = f"{100 * one['in68']:.0f} / {100 * two['in68']:.0f} %"
            sets.append([f"{name}: {what}", *both, share])
    lost = int((~model.inside(test.labels)).sum())
    return page(train, test, seconds, lost, overall, bins, sets)


def page(
    train: Giants,
    test: Giants,
    seconds: float,
    lost: int,
    overall: list[list[str]],
    bins: list[str],
    sets: list[list[str]],
) -> list[str]:
    known = {s: int(np.isfinite(train.ages[s]).sum()) for s in SCALES}
    return [
        "# Ages of red giants from labels",
        f"""
Made by `python benchmarks/ages.py DATA`. Red giants with ages from asteroseismology, on two scales:
{SCALES["bingo"]}, {known["bingo"]} stars for training and {len(test.labels)} for the test, and
{SCALES["apokasc2"]}, {known["apokasc2"]} of them. The two agree to 0.08 dex, the second younger by
15 %. Inputs are Teff, log g, [Fe/H], [Mg/Fe], [C/Fe] and [N/Fe] of APOGEE DR17 with their
uncertainties and nothing else: no mass, radius, frequency, evolutionary state, distance, nor the
uncertainty of the age. A star is in the test if the hash of its identifier says so
(`read` in the benchmark); choices were made, models trained and recalibrated on the other stars.
The test part was looked at twice: after the first time abundances alone, and not log g and the
like, were left out in training, which the training stars had asked for, too.
The model is recalibrated on training stars by those of its members that have not seen them.
Training took {seconds:.0f} s.
""",
        "## All stars",
        """
In Gyr. RMSE is of the posterior mean; MAE, bias (median residual) and MAD are of the posterior
median. *Pulls* is the standard deviation of residual over sigma; *scores* that of the normal scores
of the true ages in their posteriors, which need not be normal: both are 1 if uncertainties are
right. CRPS is the mean score of the whole posterior. *Quadratic* is the polynomial of the labels,
their squares and products by least squares in log age, the usual way to ages from C and N (Martig
et al. 2016), log-normal with the scatter of training stars left out; *boosted trees* are XGBoost.
Errors are by bootstrap over the stars.
""",
        table(["", *HEAD.values()], overall),
        f"""
{lost} of {len(test.labels)} test stars get no age from the model, being outside the range of the
labels trained on; they are in the rows of the others only.

Published on other samples and with other definitions, so not to be ranked with these: 1.70 Gyr
for ages from C and N of APOGEE and 1.59 Gyr with denoised spectra, APOKASC giants (TwinSpecNet, Sun
et al. 2026, arXiv 2604.26491); 1.33 Gyr, giants with Gaia XP spectra (arXiv 2603.03732).
""",
        remarks("all"),
        "![Ages by labels against those of asteroseismology](figures/ages.png)",
        """
Left: median and central 68 % of test stars. Right: where their true ages are in their posteriors;
the line is what is expected, the band its Poisson error.
""",
        "## In bins of age and log g",
        """
**Quadratic / model.** Bins of the true age show regression to the mean, as those of any
estimate must: the old look younger and the young older. Coverage within them is not expected to
be 68 %. In bins of log g it should be.
""",
        *bins,
        remarks("bins"),
        "## With fewer or worse labels",
        """
**Quadratic / model.** The quadratic is fitted anew for each row, to stars with the same labels and
errors. The model is one and the same: labels that are not given are missing to it, and errors
are told to it. Errors of R = 1800 are 50 K, 0.10, 0.05 dex in log g and [Fe/H], 0.05, 0.07 and 0.10
in [Mg/Fe], [C/Fe] and [N/Fe] (as of DD-Payne, Xiang et al. 2019), drawn and added.
""",
        table(["", "RMSE", "MAE", "1.4826 MAD", "CRPS", "scores", "in 68 %"], sets),
        remarks("labels"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path, help="folder of the two tables")
    parser.add_argument("--output", type=Path, default=Path("docs/results"))
    parser.add_argument("--release", type=Path, help="folder of the model to write")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    train, test = read(options.data)
    begin = time.perf_counter()
    model = train_ages(
        train.labels,
        train.ages,
        settings=AgeTraining(seed=options.seed),
        card={
            "name": "ages-giants",
            "label_scale": "APOGEE DR17 (ASPCAP), as in its allStar file",
            "age_scales": SCALES,
            "outputs": "age in Gyr as the source of the scale gives it, its errors included",
            "left_out": "a fifth of the stars, by the hash of their names: benchmarks/ages.py",
        },
    )
    seconds = time.perf_counter() - begin
    text = sections(
        train, test, model, seconds, options.seed, options.output / "figures" / "ages.png"
    )
    if options.release is not None:
        unseen = {
            scale: {
                key: round(value, 4)
                for key, value in numbers(
                    model.on(scale).predict(test.labels), test.ages[scale]
                ).items()
            }
            for scale in SCALES
        }
        model.card["unseen"] = unseen  # type: ignore[index]
        save_ages(model, options.release)
    write_page(options.output / "ages.md", text)


if __name__ == "__main__":
    main()
