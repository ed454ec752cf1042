"""Which pixels a model reads each abundance from, against those that hold it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr

from figures import DOT, LINE, STYLE
from pages import remarks, table
from spectrolabe.models.pixels import PixelBatch
from spectrolabe.models.tokens import tokenise
from spectrolabe.training.stars import Stars
from spectrolabe.validation.limits import information, posterior_covariance, projected
from unified_limits import Slopes, priors, slopes_of, told
from unified_sky import QUIET, Sky, abundances

__all__ = ["KINDS", "READ", "attribute", "figure", "section"]

SNR = 100.0
READ = ("apogee", "galah", "lamost_lrs")
# teff, logg, fe_h, v_micro, v_broad; solar ratios
KINDS = {"giant": (4700.0, 2.3, -0.2, 1.5, 6.0), "dwarf": (5700.0, 4.4, -0.1, 1.1, 5.0)}
WINDOW = (5640.0, 5880.0)  # Å, of the figure
SHOWN = ("mg_fe", "ni_fe")
Arrays = dict[str, NDArray]


def _stars(sky: Sky) -> Stars:
    emulator = sky.stream.emulators[0]
    solar = np.where([n.endswith("_fe") for n in emulator.names], 0.0, emulator.mean)
    atmosphere = np.tile(solar, (len(KINDS), 1))
    for row, numbers in zip(atmosphere, KINDS.values(), strict=True):
        for name, value in zip(("teff", "logg", "fe_h", "v_micro"), numbers, strict=False):
            row[emulator.names.index(name)] = value
    broad = np.array([numbers[-1] for numbers in KINDS.values()])
    return Stars(atmosphere, broad, np.full((len(KINDS), len(sky.names)), np.nan))


def attribute(sky: Sky, survey: str) -> Arrays:
    """Return gradients, differential spectra and the best filters in resolution elements.

    Returns
    -------
    dict of ndarray
        For each of `KINDS`: ``gradient/KIND``, ``spectrum/KIND`` and ``filter/KIND``, shape (X, B):
        what a change of the flux in each of B resolution elements does to the estimate of [X/Fe],
        [X/Fe] does to the flux there, and what the best straight line would do to the
        estimate; ``wavelength``, (B,).
    """
    stars = _stars(sky)
    slopes, _ = slopes_of(sky, survey, stars, SNR, [5])
    noisy = sky.seen(survey, stars, SNR, [5])[0]
    clean = sky.seen(survey, stars, QUIET, [5])[0]
    pixels = replace(noisy, flux=clean.flux)
    names = abundances(sky.names)
    columns = [told(sky).index(name) for name in names]
    bins = np.floor((slopes.log_wavelength - slopes.log_wavelength[0]) * slopes.resolution)
    bins = np.unique(bins.astype(int), return_inverse=True)[1]
    found: Arrays = {"wavelength": np.exp(_mean(slopes.log_wavelength, bins))}
    prior = priors(sky, survey)["mixed"]
    for star, kind in enumerate(KINDS):
        level = slopes.clean[star]
        gradient = _gradients(sky, pixels, star, [sky.names.index(n) for n in names])
        found[f"gradient/{kind}"] = np.array([_sum(g * level, bins) for g in gradient])
        rows = slopes.rows[star][columns] / np.maximum(level, 1e-6)
        found[f"spectrum/{kind}"] = np.array([_sum(r, bins) for r in rows])
        best = _filter(slopes, star, prior)[columns]
        found[f"filter/{kind}"] = np.array([_sum(f * level, bins) for f in best])
    return found


def _gradients(sky: Sky, pixels: PixelBatch, star: int, columns: list[int]) -> NDArray:
    """Slopes of scaled estimates with the flux of the pixels of a star, (X, M)."""
    one = PixelBatch(
        *(getattr(pixels, key)[star : star + 1] for key in pixels.__dataclass_fields__)
    )
    flux = one.flux.clone().requires_grad_(True)
    one = replace(one, flux=flux, star=torch.zeros(1, dtype=torch.long))
    mean = sky.model.encoder(tokenise(one), one.star).mean[0]
    rows = [torch.autograd.grad(mean[j], flux, retain_graph=True)[0][0] for j in columns]
    return torch.stack(rows).double().numpy()


def _filter(slopes: Slopes, star: int, prior: NDArray) -> NDArray:
    """Slopes of the posterior mean with the flux of the pixels, (P, M)."""
    # noise is taken as independent, so that filters of single pixels can be looked at
    root = slopes.root[star]
    parts = slopes.rows[star] * root, slopes.nuisance(star) * root
    covariance = posterior_covariance(information(*parts), prior)
    return np.asarray(covariance @ projected(*parts) * root)


def _sum(values: NDArray, bins: NDArray) -> NDArray:
    return np.bincount(bins, weights=values)


def _mean(values: NDArray, bins: NDArray) -> NDArray:
    return _sum(values, bins) / np.bincount(bins)


def _rank(a: NDArray, b: NDArray) -> float:
    """Spearman's correlation of sizes."""
    return float(spearmanr(np.abs(a), np.abs(b)).statistic)


def section(sky: Sky, all_: dict[str, Arrays]) -> str:
    """The section of the page."""
    names, head, rows = abundances(sky.names), ["label"], []
    keys = [(survey, kind) for survey in all_ for kind in KINDS]
    for survey, kind in keys:
        head.append(f"{survey}, {kind}")
    for i, name in enumerate(names):
        cells = []
        for survey, kind in keys:
            what = all_[survey]
            g, s, f = (what[f"{part}/{kind}"][i] for part in ("gradient", "spectrum", "filter"))
            cells.append(f"{_rank(g, s):.2f} / {_rank(f, s):.2f} / {_signed(g, f):.2f}")
        rows.append([name, *cells])
    numbers = np.array([[[float(x) for x in c.split(" / ")] for c in r[1:]] for r in rows])
    middle = np.median(numbers, axis=0)
    rows.append(["**median**", *(" / ".join(f"{x:.2f}" for x in cell) for cell in middle)])
    kinds = "; ".join(
        f"{kind} of Teff {t:g} K, log g {g:g}, [Fe/H] {m:g}"
        for kind, (t, g, m, *_) in KINDS.items()
    )
    return f"""## Which pixels an abundance is read from

Spectra without noise that are said to have S/N {SNR:g}, of two stars of solar ratios ({kinds}).
The *gradient* of the estimate of [X/Fe] with the flux of every pixel, by automatic differentiation
through the model, is summed in elements of resolution, as is the *differential spectrum* (what
[X/Fe] does to the flux). First: Spearman's rank correlation of their sizes. Second: the same of the
*best filter*, the row of `(F + S^-1)^-1 J^T C^-1` of the label, which shares the weight between
lines and takes out what other labels do: even the best is far from 1. Third: Pearson's correlation
of gradient and best filter, with sign.

{table(head, rows)}

![Gradients](figures/unified_pixels.png)

{remarks("pixels")}"""


def _signed(a: NDArray, b: NDArray) -> float:
    return float(np.corrcoef(a, b)[0, 1]) if a.std() > 0 and b.std() > 0 else 0.0


def figure(sky: Sky, what: Arrays, survey: str, path: str, kind: str = "giant") -> None:
    """Draw gradient, best filter and differential spectrum of two elements."""
    import matplotlib.pyplot as plt

    names = abundances(sky.names)
    with plt.rc_context(STYLE):
        drawn, panels = plt.subplots(
            2 * len(SHOWN), 1, figsize=(9.0, 2.0 * len(SHOWN) * 1.5), sharex=True
        )
        inside = (what["wavelength"] > WINDOW[0]) & (what["wavelength"] < WINDOW[1])
        x = what["wavelength"][inside]
        for k, name in enumerate(SHOWN):
            i = names.index(name)
            unit = lambda v: v[inside] / np.max(np.abs(v[inside]))  # noqa: E731
            upper, lower = panels[2 * k], panels[2 * k + 1]
            upper.plot(x, unit(what[f"spectrum/{kind}"][i]), color="0.4", lw=0.8)
            upper.set_ylabel("spectrum")
            lower.plot(x, unit(what[f"filter/{kind}"][i]), color=LINE, lw=1.8, label="best filter")
            lower.plot(x, unit(what[f"gradient/{kind}"][i]), color=DOT, lw=0.8, label="model")
            lower.set_ylabel("gradient")
            upper.set_title(f"{name}, {survey}, {kind}; each over its largest", fontsize=9)
        panels[1].legend(loc="lower right", ncols=2)
        panels[-1].set_xlabel("wavelength [Å]")
        drawn.savefig(path, dpi=90)
        plt.close(drawn)
