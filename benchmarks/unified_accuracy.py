"""Scatter of every label, survey and S/N on stars not seen, next to the limit of each star."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from figures import DOT, LINE, STYLE
from pages import remarks, table
from spectrolabe.labels import LABELS
from spectrolabe.training.stars import GALACTIC, Stars
from spectrolabe.validation.limits import posterior_covariance
from spectrolabe.validation.metrics import mad
from unified_limits import priors, told
from unified_sky import MAIN, SEED, SURVEYS, Sky, abundances

__all__ = [
    "BINS",
    "accuracy",
    "also_section",
    "digits",
    "figure",
    "limits_of",
    "ratio",
    "section",
    "usable",
]

BINS = ((20.0, 40.0), (40.0, 80.0), (80.0, 160.0), (160.0, 300.0))
BEST = 2  # the bin of which everything is shown
USABLE = 0.5  # of the spread of the stars: a limit below it makes a label usable
USUAL = -1.0  # [Fe/H] above which stars are as those of published samples
FAR = 4.0  # scatters beyond which an estimate is an outlier
Arrays = dict[str, NDArray]
PUBLISHED = {  # Shen+ 2026: Teff, log g, [Fe/H], [X/Fe]
    "apogee": ("18", "0.04", "0.015", "< 0.03"),
    "desi": ("51", "0.09", "0.04", "about 0.06"),
}
SHOWN = ("teff", "logg", "fe_h", "mg_fe")


def digits(name: str) -> int:
    """Decimals that a label is printed with."""
    return {"K": 1, "km/s": 2, "Gyr": 2, "mag": 2}.get(LABELS[name].unit, 3)


def accuracy(sky: Sky, survey: str, stars: Stars, fisher: NDArray) -> Arrays:
    """Return estimates and limits of all stars in all bins, one bin after the other.

    Returns
    -------
    dict of ndarray
        ``truth``, ``mean``, ``sigma``, ``limit`` (NaN where there is none) and ``known`` (the limit
        for who knows whether a star is one of the Galaxy), (4 N, L); ``bin`` and ``snr``, (4 N,).
    """
    prior = priors(sky, survey)
    galaxy = np.isfinite(stars.values[:, sky.names.index("abs_mag_k")])
    rng = np.random.default_rng([SEED, 9, SURVEYS.index(survey)])
    parts: list[Arrays] = []
    for b, (low, high) in enumerate(BINS):
        snr = np.exp(rng.uniform(np.log(low), np.log(high), len(stars)))
        seen = sky.estimated(survey, stars, snr, [0])
        own = [
            limits_of(sky, fisher[rows], snr[rows], prior[kind])
            for kind, rows in (("galaxy", galaxy), ("independent", ~galaxy))
        ]
        known = np.empty((len(stars), len(sky.names)))
        known[galaxy], known[~galaxy] = own
        parts.append(
            {
                "truth": seen.truth,
                "mean": seen.mean,
                "sigma": seen.sigma,
                "limit": limits_of(sky, fisher, snr, prior["mixed"]),
                "known": known,
                "bin": np.full(len(stars), b),
                "snr": snr,
            }
        )
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def limits_of(sky: Sky, fisher: NDArray, snr: NDArray, prior: NDArray) -> NDArray:
    """Return the limits of all labels of a model, physical units, shape (N, L)."""
    covariance = posterior_covariance(fisher * snr[:, None, None] ** 2, prior)
    columns = [sky.names.index(name) for name in told(sky)]
    found = np.full((len(fisher), len(sky.names)), np.nan)
    width = sky.model.scale.width[columns]
    found[:, columns] = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2)) * width
    return found


def ratio(error: NDArray, limit: NDArray) -> float:
    """1.4826 times the median of abs(error) / limit: 1 at best."""
    use = np.isfinite(error) & np.isfinite(limit)
    return float(1.4826 * np.median(np.abs(error[use]) / limit[use])) if use.any() else np.nan


def usable(limit: NDArray, truth: NDArray) -> bool:
    """Tell whether the median limit is below half of the spread of the stars."""
    if not np.isfinite(limit).any():
        return False
    return bool(np.nanmedian(limit) < USABLE * np.nanstd(truth))


def _cells(name: str, what: Arrays, j: int) -> list[str]:
    """A row of the full table of a survey."""
    d, error = digits(name), what["mean"][:, j] - what["truth"][:, j]
    known = np.isfinite(error)
    inside = [known & (what["bin"] == b) for b in range(len(BINS))]
    number = lambda x, form=f".{d}f": f"{x:{form}}" if np.isfinite(x) else "–"  # noqa: E731
    best = error[inside[BEST]]
    pull = best / what["sigma"][inside[BEST], j]
    spread = mad(best)
    limit = what["limit"][:, j]
    return [
        f"{name} [{LABELS[name].unit}]"
        + ("" if usable(limit[inside[BEST]], what["truth"][:, j]) or name in GALACTIC else " *"),
        *(number(mad(error[rows])) for rows in inside),
        *(number(np.median(limit[rows])) for rows in inside),
        *(number(ratio(error[rows], limit[rows]), ".2f") for rows in inside),
        number(np.median(best), f"+.{d}f"),
        number(float(np.sqrt(np.mean(best**2)))),
        f"{100 * np.mean(np.abs(best) > FAR * spread):.0f} %",
        f"{np.median(pull):+.2f}",
        f"{mad(pull):.2f}",
        f"{np.std(pull):.2f}",
    ]


def _full(sky: Sky, all_: dict[str, Arrays]) -> str:
    names = [f"{low:.0f}–{high:.0f}" for low, high in BINS]
    head = ["label", *(f"MAD {n}" for n in names), *(f"limit {n}" for n in names)]
    head += [*(f"ratio {n}" for n in names), "bias", "RMSE", "outliers", "pull median"]
    head += ["pull width", "pull std"]
    parts = []
    for survey, what in all_.items():
        rows = [_cells(name, what, j) for j, name in enumerate(sky.names)]
        parts.append(f"### {survey}\n\n{table(head, rows)}")
    return "\n\n".join(parts)


def _ratios(what: Arrays, columns: list[int], b: int, key: str = "limit") -> list[float]:
    rows = what["bin"] == b
    error = what["mean"] - what["truth"]
    return [
        ratio(error[rows, j], what[key][rows, j])
        for j in columns
        if usable(what["limit"][rows, j], what["truth"][rows, j])
    ]


def _squares(what: Arrays, columns: list[int], b: int) -> list[float]:
    """Root of mean squared error over mean squared limit."""
    rows = what["bin"] == b
    error = (what["mean"] - what["truth"])[rows]
    return [
        float(np.sqrt(np.nanmean(error[:, j] ** 2) / np.nanmean(what["limit"][rows, j] ** 2)))
        for j in columns
        if usable(what["limit"][rows, j], what["truth"][rows, j])
    ]


def _summary(sky: Sky, all_: dict[str, Arrays]) -> str:
    elements = [sky.names.index(name) for name in abundances(sky.names)]
    head = ["survey", "S/N", *(f"{name}: MAD / limit = ratio" for name in MAIN)]
    head += ["usable [X/Fe]", "their median MAD", "limit", "ratio", "ratio, kind known"]
    head += ["ratio of RMS"]
    rows = []
    for survey, what in all_.items():
        error = what["mean"] - what["truth"]
        for b, (low, high) in enumerate(BINS):
            inside = what["bin"] == b
            cells = []
            for name in MAIN:
                j, d = sky.names.index(name), digits(name)
                e, limit = error[inside, j], what["limit"][inside, j]
                cells.append(f"{mad(e):.{d}f} / {np.median(limit):.{d}f} = {ratio(e, limit):.2f}")
            good = [
                j for j in elements if usable(what["limit"][inside, j], what["truth"][inside, j])
            ]
            middle = lambda x: f"{np.median(x):.2f}" if len(x) else "–"  # noqa: E731
            scatter = [mad(error[inside, j]) for j in good]
            least = [np.median(what["limit"][inside, j]) for j in good]
            rows.append(
                [
                    survey,
                    f"{low:.0f}–{high:.0f}",
                    *cells,
                    str(len(good)),
                    f"{np.median(scatter):.3f}" if good else "–",
                    f"{np.median(least):.3f}" if good else "–",
                    middle(_ratios(what, elements, b)),
                    middle(_ratios(what, elements, b, "known")),
                    middle(_squares(what, elements, b)),
                ]
            )
    return table(head, rows)


def _reached(sky: Sky, all_: dict[str, Arrays], goal: float = 1.3) -> str:
    """How many labels of how many are within the goal."""
    columns = [sky.names.index(name) for name in told(sky)]
    rows = []
    for survey, what in all_.items():
        cells = []
        for b in range(len(BINS)):
            found = np.array(_ratios(what, columns, b))
            cells.append(f"{(found <= goal).sum()} of {len(found)}")
        rows.append([survey, *cells])
    head = ["survey", *(f"S/N {low:.0f}–{high:.0f}" for low, high in BINS)]
    return table(head, rows)


def _beside(sky: Sky, all_: dict[str, Arrays]) -> str:
    """Published figures beside those of the bin of high S/N."""
    rows = []
    elements = [sky.names.index(name) for name in abundances(sky.names)]
    for survey, figures in PUBLISHED.items():
        if survey not in all_:
            continue
        what = all_[survey]
        inside = what["bin"] == BEST
        error = (what["mean"] - what["truth"])[inside]
        j = [sky.names.index(name) for name in MAIN]
        good = [e for e in elements if usable(what["limit"][inside, e], what["truth"][inside, e])]
        truth = what["truth"][inside]
        usual = np.isfinite(truth[:, sky.names.index("abs_mag_k")])
        usual &= truth[:, sky.names.index("fe_h")] > USUAL
        rows.append([survey, "Shen+ 2026", *figures])
        columns = [*j, *good]
        limit = what["limit"][inside]
        for kind, here in (("all stars", slice(None)), ("of the Galaxy, [Fe/H] > -1", usual)):
            scatter = [mad(error[here, k]) for k in columns]
            least = [float(np.median(limit[here, k])) for k in columns]
            for words, values in (("this model", scatter), ("limit", least)):
                own = [f"{v:.{digits(n)}f}" for v, n in zip(values, MAIN, strict=False)]
                own.append(f"{np.median(values[len(MAIN) :]):.3f} ({len(good)} elements)")
                rows.append([survey, f"{words}, {kind}", *own])
    return table(["survey", "", "Teff [K]", "log g", "[Fe/H]", "[X/Fe]"], rows)


def figure(sky: Sky, all_: dict[str, Arrays], path: str) -> None:
    """Draw scatter and limit against S/N."""
    import matplotlib.pyplot as plt

    with plt.rc_context(STYLE):
        shape = (len(SHOWN), len(all_))
        size = (2.0 * shape[1], 1.75 * shape[0])
        drawn, panels = plt.subplots(*shape, figsize=size, sharex=True, sharey="row", squeeze=False)
        middle = [np.sqrt(low * high) for low, high in BINS]
        for i, name in enumerate(SHOWN):
            j = sky.names.index(name)
            for axes, (survey, what) in zip(panels[i], all_.items(), strict=True):
                error = what["mean"][:, j] - what["truth"][:, j]
                inside = [what["bin"] == b for b in range(len(BINS))]
                axes.loglog(middle, [mad(error[r]) for r in inside], "o-", color=DOT, ms=4)
                limit = [np.median(what["limit"][r, j]) for r in inside]
                axes.loglog(middle, limit, "s--", color=LINE, ms=3)
                if i == 0:
                    axes.set_title(survey, fontsize=9)
            unit = LABELS[name].unit
            panels[i][0].set_ylabel(f"{LABELS[name].latex} [{unit}]")
        for axes in panels[-1]:
            axes.set_xlabel("S/N a pixel")
            axes.set_xticks([30, 60, 120, 250], ["30", "60", "120", "250"], minor=False)
            axes.minorticks_off()
        drawn.suptitle("1.4826 MAD (blue) and median Bayesian limit (red, dashed)", fontsize=9)
        drawn.savefig(path, dpi=90)
        plt.close(drawn)


def section(sky: Sky, all_: dict[str, Arrays], stars: int, picture: str) -> list[str]:
    """Sections of the page."""
    low, high = BINS[BEST]
    return [
        f"""## Scatter and its limit

{stars} stars not seen in training, drawn as those of the training are: half stars of the Galaxy,
half with abundances drawn independently of each other; the same stars in every survey and bin of
S/N a pixel. The spectra have the dust, the smooth errors of flux, the air, the velocity errors and
the noise of the training sky, but all arms, no lost pixels and no errors of lines.

*Limit*: for each star the standard deviations of `(F + S^-1)^-1`. F is the Fisher matrix of its
own pixels and noise (correlated as the instrument's is), from exact slopes of the emulators at its
true labels, with velocity, broadening, the amount of telluric absorption and the continuum (a
B-spline a 3 per cent of the wavelength, 1.2 per cent above R = 5000) unknown; S is the covariance
of the labels of the training stars. An estimator that has learnt from stars uses what it knows of
them, so that a Cramér-Rao bound would not bind it; this one binds it as far as stars were normally
distributed and spectra straight lines in the labels. Neither is quite so: ratios somewhat below 1
are possible, since labels of stars of the Galaxy go together more than those of all stars do. *Kind
known*: against the lower limit for one who knows which of the two kinds a star is. *Ratio*: 1.4826
x the median over stars of |estimate - truth| / limit of that star; 1 at best, the goal is 1.3.
*Ratio of RMS*: root of the mean squared error over the mean squared limit, outliers included.
*Usable*: labels whose median limit is below half of the standard deviation of the stars; ratios of
others, marked * in the full tables, say nothing, since guessing the mean reaches them.

{_summary(sky, all_)}

Labels of those usable that are within 1.3 of the limit:

{_reached(sky, all_)}

![Scatter and limit]({picture})

{remarks("scatter")}""",
        f"""### Beside published figures

At S/N {low:.0f}–{high:.0f}. Shen+ 2026 state scatters against the labels of the surveys' own
catalogues of real stars, of samples with few metal-poor ones, where the labels' own errors count
too; these are errors against the truth of simulated stars of all metallicities down to the
emulators' range, half of them with abundances that no Galaxy has. They share a unit, not a metric.

{_beside(sky, all_)}""",
    ]


def also_section(models: dict[str, tuple[Sky, dict[str, Arrays]]]) -> str:
    """Scatter and bias of several models on the same stars, at high S/N."""
    rows = []
    for survey in next(iter(models.values()))[1]:
        for name, (sky, all_) in models.items():
            what = all_[survey]
            inside = what["bin"] == BEST
            error = (what["mean"] - what["truth"])[inside]
            cells = []
            for label in MAIN:
                own = error[:, sky.names.index(label)]
                cells.append(f"{np.median(own):+.{digits(label)}f} / {mad(own):.{digits(label)}f}")
            elements = [sky.names.index(n) for n in abundances(sky.names)]
            cells.append(f"{np.median(_ratios(what, elements, BEST)):.2f}")
            rows.append([f"{survey}, {name}", *cells])
    low, high = BINS[BEST]
    head = ["survey, model", *(f"{label}: bias / MAD" for label in MAIN), "[X/Fe], ratio to limit"]
    return f"""## Fine-tuned on real spectra

The same stars at S/N {low:.0f}–{high:.0f}; the model that was fine-tuned sees them with what it has
learnt that real spectra have and computed ones have not.

{table(head, rows)}

{remarks("also")}"""


def full_section(sky: Sky, all_: dict[str, Arrays]) -> str:
    """All numbers."""
    low, high = BINS[BEST]
    return f"""## All labels

1.4826 MAD of estimate - truth, median limit and ratio by S/N; the rest at S/N {low:.0f}–{high:.0f}:
median error, root mean square, errors beyond {FAR:g} scatters; median and 1.4826 MAD of error over
stated uncertainty, and the standard deviation of the same. * not usable (see above).

{_full(sky, all_)}"""
