"""The page of `twins.py`: labels and flux of visits against S/N, with and without pairs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from figures import STYLE
from pages import remarks, table, write_page
from spectrolabe.labels import LABELS
from spectrolabe.models.checkpoint import load
from spectrolabe.models.denoiser import load_denoiser
from spectrolabe.models.estimator import Estimator
from spectrolabe.models.released import DENOISER, find_model
from spectrolabe.spectra.store import Store
from spectrolabe.training.stars import Stars
from spectrolabe.training.transfer import continued, read_start
from spectrolabe.training.twin_run import (
    DENOISER_FOLDER,
    TEACHER,
    calibrated,
    first_alone,
    learnt_from,
    read_visits,
)
from spectrolabe.validation.metrics import mad
from twins import NAMES, OTHER, config_of, stores
from twins_after import MEMBERS, ages, clusters
from twins_flux import FLUXED, MOST, drawn, emission, errors_of, flux, rare
from twins_pulls import pulls
from twins_visits import BINS, MAIN, OTHERS, Said, Test
from unified_accuracy import limits_of
from unified_limits import fishers, priors
from unified_sky import read_sky

__all__ = ["write"]

OTHER_BINS = ((5.0, 12.0), (12.0, 25.0), (25.0, 60.0))
DRAWS = 100  # of the bootstrap
LIMITED = 160  # visits whose limits are computed


def without_pairs(folder: Path, store: Store) -> Estimator:
    """What has learnt the labelled stars of a run alone, recalibrated as the others are."""
    config = config_of(folder.name, store.path)
    start = read_start(config.transfer)
    assert start is not None
    config = first_alone(continued(config, start))
    train, calibration = read_visits(config, start)
    labelled = train.take(train.labelled)
    first = learnt_from(config, labelled, start, folder / TEACHER, progress=False)
    encoder = first.encoder
    return calibrated(config, encoder, start, labelled, calibration)


def limits(test: Test) -> NDArray:
    """The least uncertainty of the labels of each visit, (P, L); NaN of most."""
    sky = read_sky(find_model("unified-v1"))
    emulator = sky.stream.emulators[0]
    rows = np.random.default_rng(1).permutation(len(test.pairs))[:LIMITED]
    columns = {name: values[rows] for name, values in test.columns.items()}
    atmosphere = np.stack([np.asarray(columns[name], float) for name in emulator.names], axis=1)
    atmosphere = np.clip(np.nan_to_num(atmosphere), emulator.low, emulator.high)
    values = np.full((len(rows), len(sky.names)), np.nan)
    stars = Stars(atmosphere, np.asarray(columns["v_broad"], float), values)
    fisher, prior = fishers(sky, "apogee", stars, [7]), priors(sky, "apogee")["galaxy"]
    own = limits_of(sky, fisher, test.snr[rows], prior)
    found = np.full((len(test.pairs), len(NAMES)), np.nan)
    found[rows] = own[:, [sky.names.index(name) for name in NAMES]]
    return found


def _digits(name: str) -> int:
    return 0 if LABELS[name].unit == "K" else 3


def _scatter(test: Test, said: dict[str, Said], limit: NDArray) -> str:
    """1.4826 MAD by S/N."""
    parts = []
    for name in (*MAIN, "others"):
        columns = [NAMES.index(n) for n in (OTHERS if name == "others" else (name,))]
        rows = []
        for model, what in said.items():
            error = what.mean - test.truth
            cells = []
            for b in range(len(BINS)):
                inside = test.inside(b)
                value = np.median([mad(error[inside, j]) for j in columns])
                cells.append(f"{value:.{_digits(name) if name in LABELS else 3}f}")
            rows.append([model, *cells])
        least = [
            np.median([np.nanmedian(limit[test.inside(b), j]) for j in columns])
            for b in range(len(BINS))
        ]
        rows.append(["limit", *(f"{x:.{_digits(name) if name in LABELS else 3}f}" for x in least)])
        title = "other [X/Fe], median" if name == "others" else f"{name} [{LABELS[name].unit}]"
        head = [title, *(f"{low:.0f}–{high:.0f}" for low, high in BINS)]
        parts.append(table(head, rows))
    return "\n\n".join(parts)


def _gain(test: Test, said: dict[str, Said]) -> str:
    """Scatter with pairs over that without, and its error by stars drawn again."""
    rng, rows, stars = np.random.default_rng(5), [], test.groups
    for begin, title in (("few labels, ", "few labels"), ("", "a fifth")):
        errors = [said[f"{begin}{x} pairs"].mean - test.truth for x in ("with", "without")]
        for name in (*MAIN, "others"):
            columns = [NAMES.index(n) for n in (OTHERS if name == "others" else (name,))]
            cells = []
            for b in range(len(BINS)):
                inside = np.flatnonzero(test.inside(b))
                drawn_ = [_ratio(errors, inside, columns)]
                for _ in range(DRAWS):
                    count = stars.max() + 1
                    times = np.bincount(rng.integers(0, count, count), minlength=count)
                    drawn_.append(_ratio(errors, np.repeat(inside, times[stars[inside]]), columns))
                cells.append(f"{drawn_[0]:.2f} ± {np.std(drawn_[1:]):.2f}")
            rows.append([f"{title}, {name}", *cells])
    return table(["labels", *(f"{low:.0f}–{high:.0f}" for low, high in BINS)], rows)


def _ratio(errors: Sequence[NDArray], rows: NDArray, columns: Sequence[int]) -> float:
    one, other = ([mad(error[rows, j]) for j in columns] for error in errors)
    return float(np.exp(np.mean(np.log(one) - np.log(other))))


def _calibration(test: Test, said: dict[str, Said], limit: NDArray) -> str:
    """Slopes, biases and pulls."""
    rows = []
    for model, what in said.items():
        for b, (low, high) in enumerate(BINS):
            inside, cells = test.inside(b), []
            for name in MAIN:
                j = NAMES.index(name)
                x, y = test.truth[inside, j], what.mean[inside, j]
                pull = (y - x) / what.sigma[inside, j]
                on_truth, on_found = (_slope(*pair) for pair in ((x, y), (y, x)))
                cells.append(
                    f"{np.median(y - x):+.{_digits(name)}f}, {on_truth:.2f}, {on_found:.2f}, "
                    f"{mad(pull):.2f}"
                )
            rows.append([model, f"{low:.0f}–{high:.0f}", *cells])
    for b, (low, high) in enumerate(BINS):
        inside, cells = test.inside(b), []
        for j in (NAMES.index(name) for name in MAIN):
            noise = np.nanmedian(limit[inside, j]) / mad(test.truth[inside, j])
            cells.append(f"{1.0 - noise**2:.2f}")
        rows.append(["limit of the first slope", f"{low:.0f}–{high:.0f}", *cells])
    return table(["model", "S/N", *(f"{n}: bias, slopes, pulls" for n in MAIN)], rows)


def _slope(x: NDArray, y: NDArray) -> float:
    """Of y with x, by medians of pairs of points far apart in x (Theil & Sen)."""
    order = np.argsort(x)
    half = len(x) // 2
    a, b = order[: len(x) - half], order[half:]
    return float(np.median((y[b] - y[a]) / np.maximum(x[b] - x[a], 1e-9)))


def _figure(test: Test, said: dict[str, Said], limit: NDArray, path: Path) -> None:
    import matplotlib.pyplot as plt
    from matplotlib.ticker import NullFormatter

    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 3, figsize=(11.0, 3.0), layout="constrained")
        at = [np.sqrt(low * high) for low, high in BINS]
        for axis, name in zip(axes, MAIN, strict=False):
            j = NAMES.index(name)
            for model, what in said.items():
                error = what.mean - test.truth
                size = [mad(error[test.inside(b), j]) for b in range(len(BINS))]
                axis.plot(at, size, "o-", lw=1.2, ms=3, label=model)
            least = [np.nanmedian(limit[test.inside(b), j]) for b in range(len(BINS))]
            axis.plot(at, least, "k--", lw=1, label="limit")
            axis.set(xscale="log", yscale="log", xlabel="S/N a pixel of the visit", title=name)
            axis.set_xticks([10, 20, 30, 50], ["10", "20", "30", "50"])
            axis.xaxis.set_minor_formatter(NullFormatter())
        axes[0].set_ylabel("1.4826 MAD")
        axes[-1].legend(fontsize=7, loc="upper left", bbox_to_anchor=(1.02, 1.0))
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150)
        plt.close(figure)


def _other_surveys(work: Path) -> str:
    """Labels and flux of other surveys' visits."""
    rows = []
    for survey in (name for name in OTHER if (work / name / "with_pairs" / "card.json").exists()):
        folder, found = work / survey, stores(work, survey)
        test = Test(folder, found["test"])
        alone = [[one] for one in test.visits]
        models = {
            "unified-v1": load(find_model("unified-v1")),
            "without pairs": without_pairs(folder / "with_pairs", found["train"]),
            "with pairs": load(folder / "with_pairs"),
        }
        made = load_denoiser(folder / "with_pairs" / DENOISER_FOLDER)
        said = {title: Said.of(model, alone) for title, model in models.items()}
        for low, high in OTHER_BINS:
            inside = (test.snr >= low) & (test.snr < high)
            errors = errors_of(test, np.flatnonzero(inside), made)
            for title, what in said.items():
                error = (what.mean - test.truth)[inside]
                cells = [f"{mad(error[:, NAMES.index(n)]):.{_digits(n)}f}" for n in MAIN]
                pulls = np.median([mad(x) for x in (error / what.sigma[inside]).T[: len(MAIN)]])
                last = errors if title == "with pairs" else ["", "", ""]
                rows.append(
                    [f"{survey}, {low:.0f}–{high:.0f}", str(inside.sum()), title, *cells,
                     f"{pulls:.2f}", *last]
                )  # fmt: skip
    head = ["survey, S/N", "visits", "model", *MAIN, "median pull"]
    return table([*head, "noise of the flux [%]", "left of it [%]", "pulls"], rows)


def write(work: Path, output: Path) -> None:
    """Measure, and write the page."""
    folder, found = work / "apogee", stores(work)
    test = Test(folder, found["test"])
    alone = [[one] for one in test.visits]
    models = {
        "unified-v1, a visit": load(find_model("unified-v1")),
        "few labels, without pairs": without_pairs(folder / "few_labels", found["few"]),
        "few labels, with pairs": load(folder / "few_labels"),
        "without pairs": without_pairs(folder / "with_pairs", found["train"]),
    }
    titles = {
        "with_pairs": "with pairs",
        "labels_alone": "with pairs, no flux",
        "left_in": "with pairs, visit left in",
    }
    models |= {title: load(folder / name) for name, title in titles.items()}
    said = {title: Said.of(model, alone) for title, model in models.items()}
    coadds = [[one] for one in test.coadds]
    jointly = [[test.store[i] for i in (one.visit, *one.others)] for one in test.pairs]
    for title in ("without pairs", "with pairs"):
        said[f"{title}, the coadd"] = Said.of(models[title], coadds)
    said["with pairs, all visits jointly"] = Said.of(models["with pairs"], jointly)
    sizes = {
        name: load(folder / name).card["training_data"]["stars_with_labels"]
        for name in ("with_pairs", "few_labels")
    }
    denoisers = {"denoiser-v1 (of simulated stars)": load_denoiser(find_model("default", DENOISER))}
    for name in ("with_pairs", "left_in"):
        denoisers[titles[name]] = load_denoiser(folder / name / DENOISER_FOLDER)
    commands = [f"python benchmarks/twins.py WORK --train with_pairs --survey {x}" for x in OTHER]
    drawn(test, denoisers["with pairs"], output / "figures" / "twins_spectra.png")
    limit = limits(test)
    config = config_of("with_pairs", found["train"].path)
    start = read_start(config.transfer)
    assert start is not None
    calibration = read_visits(continued(config, start), start)[1]
    _figure(test, said, limit, output / "figures" / "twins.png")
    write_page(
        output / "twins.md",
        [
            f"""# Twins: visits of low S/N, with and without pairs

```
python benchmarks/twins.py WORK --train few_labels {" ".join(titles)}
python benchmarks/twins.py WORK
```

{len(test.pairs):,} visits of {len({one.star_id for one in test.visits}):,} simulated stars that
nobody has learnt from, as APOGEE would see them; by S/N a pixel of the visit. *unified-v1* knows
no such spectra. *Without pairs* it has learnt the labels of a fifth of the stars of a training sky,
{sizes["with_pairs"]} (*few labels*: a twentieth, {sizes["few_labels"]}), from single visits;
*with pairs* also from visits of all others, whose labels are what the model without pairs says of
the mean of their other visits, and the flux of that mean; *no flux*: these labels alone; *left in*:
that mean has the visit in it. All are recalibrated on other stars, a fifth of which have labels.
These stars were looked at once, for this page.

{remarks("summary")}

![Scatter against S/N](figures/twins.png)

![Visits without noise](figures/twins_spectra.png)""",
            f"""## Labels

1.4826 MAD of estimate - truth. *The coadd* is that of all visits of the star, the one of the row
among them. *Limit*: as on [unified.md](unified.md), of one visit, for {LIMITED} of them.

{_scatter(test, said, limit)}

Do pairs win? Scatter with them over that without; errors by drawing the test stars again, clusters
as one ({DRAWS} times): another training would differ, too.

{_gain(test, said)}

Median bias; slope of the estimate with the truth and of the truth with the estimate (medians over
pairs of stars of either half); width of the pulls. The first slope is below 1 wherever noise is
not small against the spread of the stars, for any estimate that is as good as it can be; the
second is 1 if estimates are not drawn to the mean more than that. *Limit of the first slope*: 1
less the square of the limit above over the spread of the stars.

{_calibration(test, said, limit)}

Pulls with pairs once more, with two errors: by drawing the test stars again, and by drawing again
the calibration stars that set them (those with visits of that S/N are counted).

{pulls(test, models["with pairs"], calibration, test.groups)}

{remarks("labels")}""",
            f"""## Flux

{FLUXED} visits a bin. *Error*: 1.4826 MAD, over the median flux, of exposures whose truth is known
to the last digit (what the instrument would record if nothing went wrong at the level of the visit,
with noise as it states it), and in units of the stated errors: *pulls*, 1.4826 MAD of a visit and
root mean square of all (cut at {MOST:.0f}). Of the visits themselves: *from all
visits*, the mean in which the visit is; *from the twins*, the mean of the others. Medians over
visits.

{flux(test, denoisers)}

{remarks("flux")}""",
            f"""## Stars that are rare

Does a denoiser paint them as common ones? Slope of lines (flux over its running mean, less 1) with
the true ones, 1 if none is too shallow, and 1.4826 MAD of their errors; visits of any S/N from
{BINS[0][0]:.0f} to {BINS[-1][1]:.0f}.

{rare(test, denoisers)}

Emission lines of one and a half times the width of the line-spread function, added to {FLUXED}
visits at random wavelengths: what share of them is left where they are (the projection on the line,
above a hundredth of its height), median and central 68 per cent.
Height in units of the noise of a pixel.

{emission(test, denoisers)}

{remarks("rare")}""",
            f"""## What for: clusters, and ages of giants

Simulated clusters are of one composition, so that all scatter is error. One visit of each member;
1.4826 MAD about the median of the cluster, of clusters with {MEMBERS} visits or more; errors by
drawing clusters again:
{clusters(test, said)}

Ages of giants by `ages-giants`, from labels and their uncertainties: median and 1.4826 MAD of the
difference in log age from what the model says of the true labels, and rank correlation with the
true age. The model has learnt real stars: of simulated ones its ages are what the first row says.

{ages(test, said)}

{remarks("after")}""",
            f"""## Other surveys

Three visits of each star; of {", ".join(f"{n} {x['stars'][0]:,}" for n, x in OTHER.items())} stars
to learn from, a fifth of them with labels, and a third as many others. Spectra of DESI are those
of single arms: those of a visit together say more. Labels: 1.4826 MAD. Flux of the visits, and
what is left of its noise, as above.

```
{chr(10).join(commands)}
```

{_other_surveys(work)}

{remarks("surveys")}""",
        ],
    )
