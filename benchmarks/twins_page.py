"""The page of `twins.py`: labels and flux of visits against S/N, with and without pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from figures import STYLE
from pages import remarks, table, write_page
from spectrolabe.labels import LABELS
from spectrolabe.models.checkpoint import load
from spectrolabe.models.denoiser import Denoiser, load_denoiser
from spectrolabe.models.estimator import Estimator
from spectrolabe.models.released import DENOISER, find_model
from spectrolabe.spectra import Spectrum
from spectrolabe.spectra.combine import combine
from spectrolabe.spectra.continuum import running_continuum
from spectrolabe.spectra.store import Store
from spectrolabe.surveys.apogee import APOGEE_RESOLUTION
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
from spectrolabe.training.twins import Pair, pairs_of
from spectrolabe.validation.metrics import mad
from twins import NAMES, config_of, labels_of, truth_of, without_noise
from unified_accuracy import limits_of
from unified_limits import fishers, priors
from unified_sky import read_sky

__all__ = ["write"]

BINS = ((8.0, 15.0), (15.0, 20.0), (20.0, 30.0), (30.0, 40.0), (40.0, 60.0))
MAIN = ("teff", "logg", "fe_h", "mg_fe")
OTHERS = tuple(name for name in NAMES if name not in MAIN)
LIMITED = 160  # stars whose limits are computed
FLUXED = 60  # visits a bin whose flux is looked at


@dataclass(eq=False)
class Test:
    """Visits of stars that nobody has learnt from, whose star has others."""

    work: Path
    store: Store

    @cached_property
    def pairs(self) -> list[Pair]:
        """Visits with twins."""
        return [one for one in pairs_of(self.store, range(len(self.store))) if one.others]

    @cached_property
    def snr(self) -> NDArray:
        """Of the visits, shape (P,)."""
        return self.store.column("snr")[[one.visit for one in self.pairs]]

    @cached_property
    def truth(self) -> NDArray:
        """Shape (P, L)."""
        rows = np.array([one.visit for one in self.pairs])
        return labels_of(self.work, "test", self.store, rows).values

    @cached_property
    def visits(self) -> list[Spectrum]:
        """The spectra."""
        return [self.store[one.visit] for one in self.pairs]

    @cached_property
    def coadds(self) -> list[Spectrum]:
        """What the survey has combined of all visits of the star, the visit among them."""
        return _of_stars(self.store, [one.star_id for one in self.visits])

    def inside(self, b: int) -> NDArray:
        """Which visits are in a bin of S/N."""
        low, high = BINS[b]
        return (self.snr >= low) & (self.snr < high)


def _of_stars(store: Store, stars: Sequence[str]) -> list[Spectrum]:
    ids, names = store.column("spectrum_id"), store.column("star_id")
    combined = {n: i for i, (n, x) in enumerate(zip(names, ids, strict=True)) if _combined(x)}
    return [store[combined[star]] for star in stars]


def _combined(name: str) -> bool:
    return name.endswith(":combined")


@dataclass
class Said:
    """What a model says of the visits: values and sigma, shape (P, L)."""

    mean: NDArray
    sigma: NDArray

    @classmethod
    def of(cls, model: Estimator, stars: Sequence[Sequence[Spectrum]]) -> Said:
        """Ask a model."""
        posterior = model.predict(stars).select(NAMES)
        return cls(posterior.mean, posterior.sigma)


def without_pairs(work: Path, store: Store) -> Estimator:
    """What has learnt the labelled stars alone, recalibrated as the others are."""
    config = config_of("with_pairs", store.path)
    start = read_start(config.transfer)
    assert start is not None
    config = first_alone(continued(config, start))
    train, calibration = read_visits(config, start)
    labelled = train.take(train.labelled)
    folder = work / "with_pairs" / TEACHER
    encoder = learnt_from(config, labelled, start, folder, progress=False).encoder
    return calibrated(config, encoder, start, labelled, calibration)


def limits(test: Test) -> NDArray:
    """The least uncertainty of the labels of each visit, (P, L); NaN of most."""
    sky = read_sky(find_model("unified-v1"))
    emulator = sky.stream.emulators[0]
    rows = np.random.default_rng(1).permutation(len(test.pairs))[:LIMITED]
    columns = truth_of(test.work, "test", [test.visits[i].spectrum_id for i in rows])
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


def _calibration(test: Test, said: dict[str, Said]) -> str:
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
    return table(["model", "S/N", *(f"{n}: bias, slopes, pulls" for n in MAIN)], rows)


def _slope(x: NDArray, y: NDArray) -> float:
    """Of y with x, by medians of pairs of points far apart in x (Theil & Sen)."""
    order = np.argsort(x)
    half = len(x) // 2
    a, b = order[: len(x) - half], order[half:]
    return float(np.median((y[b] - y[a]) / np.maximum(x[b] - x[a], 1e-9)))


def _flux(test: Test, denoisers: dict[str, Denoiser]) -> str:
    """Errors of flux by S/N."""
    rng, rows = np.random.default_rng(2), []
    for b, (low, high) in enumerate(BINS):
        chosen = rng.permutation(np.flatnonzero(test.inside(b)))[:FLUXED]
        visits = [test.visits[i] for i in chosen]
        others = [
            combine([test.store[k] for k in test.pairs[i].others], test.visits[i]) for i in chosen
        ]
        every = [
            combine([test.store[k] for k in (test.pairs[i].visit, *test.pairs[i].others)], v)
            for i, v in zip(chosen, visits, strict=True)
        ]
        clean = without_noise(test.work, "test", visits)
        exact = [combine([one], v) for one, v in zip(clean, visits, strict=True)]
        rows.append([f"{low:.0f}–{high:.0f}", "the visit", *_errors(visits, exact, every, others)])
        rows.append(["", "its twins together", *_errors(others, exact, every, others)])
        for name, denoiser in denoisers.items():
            made = [found[0] for found in denoiser.denoise([[one] for one in visits])]
            rows.append(["", name, *_errors(made, exact, every, others)])
    head = ["S/N", "spectrum", "error [%]", "pulls", "from all visits [%]", "from the twins [%]"]
    return table([*head, "pulls from the twins"], rows)


def _errors(
    made: Sequence[Spectrum],
    exact: Sequence[Spectrum],
    every: Sequence[Spectrum],
    others: Sequence[Spectrum],
) -> list[str]:
    found = []
    for one, truth, whole, twins in zip(made, exact, every, others, strict=True):
        use = one.good & truth.good & whole.good & twins.good
        level = np.median(truth.flux[use])
        sigma = 1.0 / np.sqrt(one.ivar[use])
        differ = [(one.flux - x.flux)[use] for x in (truth, whole, twins)]
        both = np.sqrt(sigma**2 + 1.0 / twins.ivar[use])
        found.append(
            [
                mad(differ[0]) / level,
                mad(differ[0] / sigma),
                mad(differ[1]) / level,
                mad(differ[2]) / level,
                mad(differ[2] / both),
            ]
        )
    error, pull, whole_, twins_, pull_ = np.median(found, axis=0)
    return [
        f"{100 * error:.2f}",
        f"{pull:.2f}",
        f"{100 * whole_:.2f}",
        f"{100 * twins_:.2f}",
        f"{pull_:.2f}",
    ]


def _rare(test: Test, denoisers: dict[str, Denoiser]) -> str:
    """How deep the lines of unusual stars are after their noise is taken off."""
    columns = truth_of(test.work, "test", [one.spectrum_id for one in test.visits])
    fe_h, alpha, broad = (np.asarray(columns[n], float) for n in ("fe_h", "mg_fe", "v_broad"))
    kinds = {
        "all": np.ones(len(fe_h), dtype=bool),
        "[Fe/H] < -1": fe_h < -1.0,
        "[Mg/Fe] > 0.25, [Fe/H] > -0.6": (alpha > 0.25) & (fe_h > -0.6),
        "v_broad > 15 km/s": broad > 15.0,
    }
    rows = []
    for kind, here in kinds.items():
        usual = here & (test.snr > BINS[0][0]) & (test.snr < BINS[-1][1])
        chosen = np.random.default_rng(4).permutation(np.flatnonzero(usual))[:FLUXED]
        visits = [test.visits[i] for i in chosen]
        clean = without_noise(test.work, "test", visits)
        exact = [combine([one], v) for one, v in zip(clean, visits, strict=True)]
        for name, denoiser in denoisers.items():
            made = [found[0] for found in denoiser.denoise([[one] for one in visits])]
            each = [_depth(*pair) for pair in zip(made, exact, visits, strict=True)]
            slope, error, raw = np.median(each, axis=0)
            rows.append(
                [
                    kind,
                    str(len(chosen)),
                    name,
                    f"{slope:.3f}",
                    f"{100 * error:.2f}",
                    f"{100 * raw:.2f}",
                ]
            )
    head = ["stars", "visits", "denoiser", "slope", "error of lines [%]", "of the visit [%]"]
    return table(head, rows)


def _depth(made: Spectrum, exact: Spectrum, visit: Spectrum) -> tuple[float, float, float]:
    """Slope of the lines with the true ones, and errors of both."""
    use = made.good & exact.good & visit.good
    true, own, raw = (_lines(one, use) for one in (exact, made, visit))
    slope = float(np.sum(true * own) / np.sum(true**2))
    return slope, mad(own - true), mad(raw - true)


def _lines(one: Spectrum, use: NDArray) -> NDArray:
    """Flux over its running mean, less 1, where it is used."""
    flux = np.where(use, one.flux, 0.0)
    return (flux / running_continuum(one.wavelength, flux, use.astype(float), 0.003) - 1.0)[use]


def _emission(test: Test, denoisers: dict[str, Denoiser]) -> str:
    """How much is left of emission lines that were added to visits."""
    rng = np.random.default_rng(6)
    chosen = rng.permutation(np.flatnonzero((test.snr > 15) & (test.snr < 60)))[:FLUXED]
    visits = [test.visits[i] for i in chosen]
    rows = []
    for strength in (3.0, 10.0, 30.0):
        bright, lines = [], []
        for one in visits:
            at = rng.choice(np.flatnonzero(one.good)[200:-200])
            width = one.wavelength[at] / APOGEE_RESOLUTION / 2.355 * 1.5
            sigma = 1.0 / np.sqrt(np.median(one.ivar[one.good]))
            line = np.exp(-0.5 * ((one.wavelength - one.wavelength[at]) / width) ** 2)
            lines.append(strength * sigma * line)
            bright.append(one.replace(flux=one.flux + lines[-1]))
        cells = []
        for denoiser in denoisers.values():
            found, plain = (denoiser.denoise([[one] for one in x]) for x in (bright, visits))
            kept = [
                np.sum((a.flux - b.flux)[a.good & b.good]) / np.sum(line[a.good & b.good])
                for (a,), (b,), line in zip(found, plain, lines, strict=True)
            ]
            low, middle, high = np.quantile(kept, (0.16, 0.5, 0.84))
            cells.append(f"{middle:.2f} ({low:.2f}–{high:.2f})")
        rows.append([f"{strength:.0f} σ", *cells])
    return table(["height", *denoisers], rows)


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


def write(work: Path, found: dict[str, Store], output: Path) -> None:
    """Measure, and write the page."""
    test = Test(work, found["test"])
    alone = [[one] for one in test.visits]
    models = {
        "unified-v1, a visit": load(find_model("unified-v1")),
        "without pairs": without_pairs(work, found["train"]),
    }
    titles = {
        "with_pairs": "with pairs",
        "labels_alone": "with pairs, no flux",
        "left_in": "with pairs, visit left in",
    }
    trained = [name for name in titles if (work / name / "card.json").exists()]
    for name in trained:
        models[titles[name]] = load(work / name)
    said = {title: Said.of(model, alone) for title, model in models.items()}
    coadds = [[one] for one in test.coadds]
    jointly = [[test.store[i] for i in (one.visit, *one.others)] for one in test.pairs]
    for title in ("without pairs", "with pairs"):
        said[f"{title}, the coadd"] = Said.of(models[title], coadds)
    said["with pairs, all visits jointly"] = Said.of(models["with pairs"], jointly)
    denoisers = {"denoiser-v1 (of simulated stars)": load_denoiser(find_model("default", DENOISER))}
    for name, title in (("with_pairs", "with pairs"), ("left_in", "with pairs, visit left in")):
        if (work / name / DENOISER_FOLDER / "card.json").exists():
            denoisers[title] = load_denoiser(work / name / DENOISER_FOLDER)
    limit = limits(test)
    _figure(test, said, limit, output / "figures" / "twins.png")
    write_page(
        output / "twins.md",
        [
            f"""# Twins: visits of low S/N, with and without pairs

```
python benchmarks/twins.py WORK --train {" ".join(trained)}
python benchmarks/twins.py WORK
```

{len(test.pairs):,} visits of {len({one.star_id for one in test.visits}):,} simulated stars that
nobody has learnt from, as APOGEE would see them; by S/N a pixel of the visit. *unified-v1* knows
no such spectra. *Without pairs* it has learnt the labels of a fifth of the stars of a training sky,
from single visits; *with pairs* also from visits of all others, whose labels are what the model
without pairs says of the mean of their other visits, and the flux of that mean; *no flux*: these
labels alone; *left in*: that mean has the visit in it. All are recalibrated on other stars.

{remarks("summary")}

![Scatter against S/N](figures/twins.png)""",
            f"""## Labels

1.4826 MAD of estimate - truth. *The coadd* is that of all visits of the star, the one of the row
among them. *Limit*: as on [unified.md](unified.md), of one visit, for {LIMITED} of them.

{_scatter(test, said, limit)}

Median bias; slope of the estimate with the truth and of the truth with the estimate (medians over
pairs of stars of either half); width of the pulls. The first slope is below 1 wherever noise is
not small against the spread of the stars, for any estimate that is as good as it can be; the
second is 1 if estimates are not drawn to the mean more than that.

{_calibration(test, said)}

{remarks("labels")}""",
            f"""## Flux

{FLUXED} visits a bin. *Error*: 1.4826 MAD from what the instrument would record if nothing went
wrong, over the median flux, and in units of the stated errors. *From all visits*: from the mean in
which the visit is; *from the twins*: from the mean of the others. Medians over visits.

{_flux(test, denoisers)}

{remarks("flux")}""",
            f"""## Stars that are rare

Does a denoiser paint them as common ones? Slope of lines (flux over its running mean, less 1) with
the true ones, 1 if none is too shallow, and 1.4826 MAD of their errors; visits of any S/N from
{BINS[0][0]:.0f} to {BINS[-1][1]:.0f}.

{_rare(test, denoisers)}

Emission lines of one and a half times the width of the line-spread function, added to {FLUXED}
visits at random wavelengths: what share of their light is left, median and central 68 per cent.
Height in units of the noise of a pixel.

{_emission(test, denoisers)}

{remarks("rare")}""",
        ],
    )
