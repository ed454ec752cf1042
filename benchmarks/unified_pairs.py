"""The same stars seen by all surveys: how they differ, and what they say together."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from pages import remarks, table
from spectrolabe.training.stars import EXPOSURE, GALACTIC, Stars
from spectrolabe.validation.limits import difference_covariance, marginal, posterior_covariance
from spectrolabe.validation.metrics import mad
from unified_accuracy import digits
from unified_limits import priors, told, velocity_variance
from unified_sky import MAIN, SURVEYS, Sky, Views, abundances, chunks

__all__ = ["PAIRS", "compare", "section"]

SNR = 50.0
PAIRS = tuple(itertools.combinations(SURVEYS, 2))
GROUPS = (
    *PAIRS,
    ("apogee", "galah", "gaia_rvs"),
    ("desi", "lamost_lrs", "sdss_boss"),
    ("apogee", "desi", "gaia_rvs"),
    SURVEYS,
)
CLIP = 5.0  # scatters beyond which a difference does not count for slopes
UNITS = (1000.0, 1.0, 1.0)  # of slopes: 1000 K, dex, dex
DETAIL = ("teff", "logg", "fe_h", "mg_fe")
Arrays = dict[str, NDArray]


def compare(sky: Sky, stars: Stars) -> Arrays:
    """Return what each survey, and groups of them, say of the same stars.

    Returns
    -------
    dict of ndarray
        ``truth``, (N, L); ``mean/NAME``, ``sigma/NAME`` (N, L) for surveys and groups joined by +;
        ``covariance/NAME``, (N, L, L), for surveys.
    """
    snr = np.full(len(stars), SNR)
    single: dict[str, list[Views]] = {name: [] for name in SURVEYS}
    joint: dict[str, list[Views]] = {"+".join(group): [] for group in GROUPS}
    for k, rows in enumerate(chunks(len(stars))):
        some = stars.take(rows)
        parts = {}
        for name in SURVEYS:
            pixels, truth, _ = sky.seen(name, some, SNR, [0, k])
            parts[name] = (name, pixels, truth, snr[rows])
            single[name].append(sky.views([parts[name]]))
        for group in GROUPS:
            found = sky.views([parts[name] for name in group], covariance=False)
            joint["+".join(group)].append(found)
    arrays: Arrays = {"truth": stars.values}
    for name, views in (single | joint).items():
        whole = Views.joined(views)
        arrays |= {f"mean/{name}": whole.mean, f"sigma/{name}": whole.sigma}
        if name in single:
            arrays[f"covariance/{name}"] = whole.covariance
    return arrays


def _columns(sky: Sky) -> list[int]:
    """Labels of a star that spectra tell."""
    return [sky.names.index(name) for name in told(sky) if name != EXPOSURE]


def _expected(sky: Sky, found: Arrays, a: str, b: str, prior: NDArray) -> NDArray:
    """Standard deviation of differences by the stated posteriors and their prior, (N, L)."""
    columns = _columns(sky)
    pick = np.ix_(np.arange(len(found["truth"])), columns, columns)
    first, second = (found[f"covariance/{name}"][pick] for name in (a, b))
    variance = np.diagonal(difference_covariance(first, second, prior), axis1=1, axis2=2)
    naive = np.diagonal(first + second, axis1=1, axis2=2)
    out = np.full(found["truth"].shape, np.nan)
    # covariances as stated may contradict the prior
    out[:, columns] = np.sqrt(np.maximum(variance, 0.1 * naive))
    return out


def _slopes(difference: NDArray, stars: NDArray) -> tuple[NDArray, NDArray]:
    """Slopes with Teff, log g and [Fe/H] together, and their standard errors."""
    use = np.abs(difference - np.median(difference)) < CLIP * mad(difference)
    design = np.column_stack([np.ones(use.sum()), stars[use] / UNITS])
    design[:, 1:] -= design[:, 1:].mean(axis=0)
    inverse = np.linalg.inv(design.T @ design)
    found = inverse @ design.T @ difference[use]
    residual = difference[use] - design @ found
    error = np.sqrt(np.diag(inverse) * np.mean(residual**2))
    return found[1:], error[1:]


def _row(
    name: str, a: str, b: str, found: Arrays, j: int, stars: NDArray, expected: NDArray
) -> list[str]:
    d = digits(name)
    difference = found[f"mean/{a}"][:, j] - found[f"mean/{b}"][:, j]
    sigma = np.hypot(found[f"sigma/{a}"][:, j], found[f"sigma/{b}"][:, j])
    slope, error = _slopes(difference, stars)
    return [
        f"{a} − {b}",
        f"{np.median(difference):+.{d}f}",
        f"{mad(difference):.{d}f}",
        f"{np.median(difference / sigma):+.2f}",
        f"{mad(difference / sigma):.2f}",
        f"{mad(difference / expected[:, j]):.2f}",
        *(f"{s:+.{d}f} ± {e:.{d}f}" for s, e in zip(slope, error, strict=True)),
    ]


HEAD = ["pair", "median", "scatter", "pull median", "pull width", "pull width, prior shared"]
HEAD += ["slope /1000 K", "slope /dex log g", "slope /dex [Fe/H]"]


def _pull_rows(sky: Sky, found: Arrays) -> list[list[str]]:
    """Against the truth, each survey."""
    rows = []
    for name in SURVEYS:
        pull = (found[f"mean/{name}"] - found["truth"]) / found[f"sigma/{name}"]
        spread = {n: mad(_known(pull[:, sky.names.index(n)])) for n in sky.names if n != EXPOSURE}
        own = [spread[n] for n in abundances(sky.names)]
        middle = [
            np.nanmedian(pull[:, sky.names.index(n)]) for n in (*MAIN, *abundances(sky.names))
        ]
        rows.append(
            [
                name,
                *(f"{spread[n]:.2f}" for n in (*MAIN, *GALACTIC, "v_broad")),
                f"{np.median(own):.2f} ({min(own):.2f} to {max(own):.2f})",
                f"{np.mean([0.9 <= s <= 1.1 for s in spread.values()]) * 100:.0f} %",
                f"{np.max(np.abs(middle)):.2f}",
            ]
        )
    return rows


def _known(values: NDArray) -> NDArray:
    return values[np.isfinite(values)]


def _abundance_rows(sky: Sky, found: Arrays, expected: dict[tuple[str, str], NDArray]) -> list:
    rows = []
    stars = found["truth"][:, [sky.names.index(n) for n in MAIN]]
    for a, b in PAIRS:
        each = []
        for name in abundances(sky.names):
            j = sky.names.index(name)
            difference = found[f"mean/{a}"][:, j] - found[f"mean/{b}"][:, j]
            sigma = np.hypot(found[f"sigma/{a}"][:, j], found[f"sigma/{b}"][:, j])
            slope, _ = _slopes(difference, stars)
            each.append(
                [
                    np.abs(np.median(difference)),
                    mad(difference),
                    mad(difference / sigma),
                    mad(difference / expected[a, b][:, j]),
                    *np.abs(slope),
                ]
            )
        middle, worst = np.median(each, axis=0), np.max(each, axis=0)
        rows.append(
            [
                f"{a} − {b}",
                f"{middle[0]:.3f} ({worst[0]:.3f})",
                f"{middle[1]:.3f} ({worst[1]:.3f})",
                f"{middle[2]:.2f}",
                f"{middle[3]:.2f}",
                *(f"{m:.3f} ({w:.3f})" for m, w in zip(middle[4:], worst[4:], strict=True)),
            ]
        )
    return rows


def _together(sky: Sky, found: Arrays, fisher: dict[str, NDArray]) -> str:
    """Groups of surveys against the best of each."""
    names = (*MAIN, "mg_fe", "c_fe")
    limits = {
        "+".join(group): _joint_limit(sky, fisher, group)
        for group in (*((name,) for name in SURVEYS), *GROUPS)
        if set(group) <= set(fisher)
    }
    head = ["surveys"]
    for name in names:
        head += [f"{name}: best alone → together", "gain", "multiplied", "possible"]
    head += ["[X/Fe]: median gain", "multiplied", "possible", "pull width"]
    rows = []
    for group in GROUPS:
        key = "+".join(group)
        cells = []
        for name in names:
            *gains, alone, whole = _gain(sky, found, limits, group, name)
            d = digits(name)
            cells += [f"{alone:.{d}f} → {whole:.{d}f}", *(f"{gain:.2f}" for gain in gains)]
        all_ = np.array([_gain(sky, found, limits, group, n)[:3] for n in abundances(sky.names)])
        j = [sky.names.index(n) for n in abundances(sky.names)]
        pull = (found[f"mean/{key}"] - found["truth"])[:, j] / found[f"sigma/{key}"][:, j]
        cells += [f"{gain:.2f}" for gain in np.median(all_, axis=0)]
        cells.append(f"{np.median([mad(p) for p in pull.T]):.2f}")
        rows.append([" + ".join(group) if group != SURVEYS else "all six", *cells])
    return table(head, rows)


def _gain(
    sky: Sky, found: Arrays, limits: dict[str, NDArray], group: tuple[str, ...], name: str
) -> tuple[float, ...]:
    """Gain together, gain of multiplied posteriors, possible gain; scatter of best and together."""
    j = sky.names.index(name)
    key = "+".join(group)
    scatter = {n: mad(found[f"mean/{n}"][:, j] - found["truth"][:, j]) for n in (*group, key)}
    best = min(scatter[n] for n in group)
    possible = np.nan
    if key in limits:
        column = [n for n in told(sky) if n != EXPOSURE].index(name)
        least = {n: np.median(limits[n][:, column]) for n in (*group, key)}
        possible = least[key] / min(least[n] for n in group)
    product = mad(_multiplied(sky, found, group, name) - found["truth"][:, j])
    return scatter[key] / best, product / best, float(possible), best, scatter[key]


def _multiplied(sky: Sky, found: Arrays, group: tuple[str, ...], name: str) -> NDArray:
    """Mean of the product of the marginals of a label, with its prior in it once, (N,)."""
    j, column = sky.names.index(name), _columns(sky).index(sky.names.index(name))
    prior = sky.model.scale.width[j] ** 2 * priors(sky)["mixed"][column, column]
    middle = sky.model.scale.centre[j]  # the mean of the stars of the training
    weight, total = 1.0 / prior, middle / prior
    for survey in group:
        variance = np.minimum(found[f"sigma/{survey}"][:, j] ** 2, 0.999 * prior)
        own = found[f"mean/{survey}"][:, j] / variance - middle / prior
        weight, total = weight + 1.0 / variance - 1.0 / prior, total + own
    return np.asarray(total / weight)


def _joint_limit(sky: Sky, fisher: dict[str, NDArray], group: tuple[str, ...]) -> NDArray:
    """Limits of all labels of a star from several spectra, each with a velocity of its own."""
    names = told(sky)
    keep = np.array([name != EXPOSURE for name in names])
    total = np.zeros((1, keep.sum(), keep.sum()))
    for survey in group:
        own = fisher[survey] * SNR**2
        if not keep.all():
            own = marginal(own, keep, np.array([1.0 / velocity_variance(sky, survey)]))
        total = total + own
    covariance = posterior_covariance(total, priors(sky)["mixed"])
    return np.asarray(np.sqrt(np.diagonal(covariance, axis1=1, axis2=2)))


def section(sky: Sky, found: Arrays, fisher: dict[str, NDArray]) -> str:
    """The section of the page."""
    width = sky.model.scale.width[_columns(sky)]
    prior = priors(sky)["mixed"] * width * width[:, None]
    expected = {(a, b): _expected(sky, found, a, b, prior) for a, b in PAIRS}
    stars = found["truth"][:, [sky.names.index(n) for n in MAIN]]
    tables = []
    for name in DETAIL:
        j = sky.names.index(name)
        rows = [_row(name, a, b, found, j, stars, expected[a, b]) for a, b in PAIRS]
        tables.append(f"**{name}**\n\n{table(HEAD, rows)}")
    head = ["survey", *(f"{n}" for n in (*MAIN, *GALACTIC, "v_broad")), "[X/Fe]"]
    head += ["labels in 0.9–1.1", "largest median of Teff, log g, [X/H], [X/Fe]"]
    summary = ["pair", "|median|", "scatter", "pull width", "pull width, prior shared"]
    summary += ["|slope| /1000 K", "/dex log g", "/dex [Fe/H]"]
    return f"""## The same stars in six surveys

{len(stars)} stars, seen by all six at S/N {SNR:g} a pixel, each with noise, dust, flux errors and
velocity errors of its own.

Width (1.4826 MAD) of the pulls against the truth, for each survey alone:

{table(head, _pull_rows(sky, found))}

Differences of two surveys, over the stated uncertainties added in quadrature (*pull*). Two
posteriors of a star lean on the same prior, and so does what the model itself gets wrong about a
star: differences are smaller than independent errors would be, and a width below 1 is no sign of
uncertainties that are too large. *Prior shared*: over the standard deviation that posteriors A and
B with one prior S have of each other, A + B - A S^-1 B - B S^-1 A. Slopes are fitted with Teff,
log g and [Fe/H] together.

{(chr(10) * 2).join(tables)}

**[X/Fe]**, medians over {len(abundances(sky.names))} elements of the same numbers (the largest in
brackets):

{table(summary, _abundance_rows(sky, found, expected))}

{remarks("homogeneity")}

### Together

All spectra of a star at once against the best of its surveys alone: 1.4826 MAD of estimate -
truth, its ratio (*gain*), and the ratio of the limits (*possible*). *Multiplied*: the same ratio if
instead the posteriors of each survey alone are multiplied, label by label, with their common prior
taken out but once.

{_together(sky, found, fisher)}

{remarks("together")}"""
