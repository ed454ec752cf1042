"""Are distances right, with a spectrum, with a parallax, and with both?

    python benchmarks/distances.py [--output docs/results] [--stars 12000] [--seed 3]

Draws the stars of a synthetic sky with photometry, extinction and parallaxes that have errors, some
of them negative; gives them absolute magnitudes with errors, as a model would; and compares the
distances with the truth. Writes the page ``distances.md`` and its figure; remarks between the
markers of an older page are kept.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from figures import STYLE
from pages import remarks, table, write_page
from spectrolabe.config.sky import PopulationConfig, SkyConfig
from spectrolabe.inference.distance import LENGTH, DistanceFlag, Distances, Photometry, distances
from spectrolabe.models.posterior import LabelPosterior
from spectrolabe.sky.photometry import EXTINCTION
from spectrolabe.sky.population import draw_population
from spectrolabe.validation.distributions import coverage, crps
from spectrolabe.validation.metrics import mad

SIGMAS = (0.1, 0.3, 0.6)  # mag, median error of M_K
USUAL = 0.3
E_K, E_A_K = 0.03, 0.02  # mag
WAYS = {
    "spectrum": "spectrum and photometry",
    "parallax": "parallax alone",
    "both": "both",
}


class Sky:
    """Stars, and what is measured of them."""

    def __init__(self, stars: int, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        config = SkyConfig(population=PopulationConfig(stars=stars))
        self.truth: Table = draw_population(config, self.rng)
        self.distance = np.asarray(self.truth["distance"])
        noise = self.rng.normal(size=(2, stars))
        self.k_mag = np.asarray(self.truth["K"]) + E_K * noise[0]
        self.a_k = EXTINCTION["K"] * np.asarray(self.truth["a_v"]) + E_A_K * noise[1]
        self.parallax = np.asarray(self.truth["parallax_measured"])
        self.e_parallax = np.asarray(self.truth["parallax_error"])

    def __len__(self) -> int:
        return len(self.distance)

    def absolute(self, sigma: float) -> LabelPosterior:
        """M_K as a model that is right would give it."""
        errors = sigma * self.rng.lognormal(0.0, 0.3, len(self))
        mean = np.asarray(self.truth["abs_mag_k"]) + errors * self.rng.normal(size=len(self))
        return LabelPosterior.independent(
            ["abs_mag_k"], mean[:, None], errors[:, None], np.asarray(self.truth["star_id"])
        )

    def photometry(self, way: str, parallax: NDArray | None = None) -> Photometry:
        known: dict[str, NDArray | float] = {}
        if way != "parallax":
            known |= {"k_mag": self.k_mag, "e_k_mag": E_K, "a_k": self.a_k, "e_a_k": E_A_K}
        if way != "spectrum":
            known["parallax"] = self.parallax if parallax is None else parallax
            known["e_parallax"] = self.e_parallax
        return Photometry.of(len(self), **known)


def numbers(found: Distances, truth: NDArray, rows: NDArray | slice = slice(None)) -> list[str]:
    """Relative errors and calibration of some stars, as text."""
    posterior, truth = found.posterior.take(np.arange(len(truth))[rows]), truth[rows, None]
    median = posterior.quantiles([0.5])[0]
    relative = (median / truth - 1.0)[:, 0]
    scores = posterior.scores(truth)
    score = crps(posterior, truth)[:, 0] / truth[:, 0]
    return [
        f"{100 * mad(relative):.1f} %",
        f"{100 * np.median(relative):+.1f} %",
        f"{scores.mean():+.2f}",
        f"{scores.std():.3f}",
        f"{100 * coverage(posterior, truth, 0.683)[0]:.1f} %",
        f"{100 * coverage(posterior, truth, 0.95)[0]:.1f} %",
        f"{100 * np.median(score):.1f} %",
    ]


HEAD = ["1.4826 MAD", "bias", "mean score", "scores", "in 68.3 %", "in 95 %", "CRPS"]


def by_way(sky: Sky) -> str:
    """All stars: what is known, how well M_K is known, and the prior."""
    rows = []
    for sigma in SIGMAS:
        absolute = sky.absolute(sigma)
        for way in ("spectrum", "both"):
            for length in (None, LENGTH):
                found = distances(absolute, sky.photometry(way), length=length)
                prior = "none" if length is None else f"volume, {length} kpc"
                rows.append([f"{WAYS[way]}, {sigma} mag", prior, *numbers(found, sky.distance)])
    alone = distances(sky.absolute(1.0), sky.photometry("parallax"))
    rows.append([WAYS["parallax"], f"volume, {LENGTH} kpc", *numbers(alone, sky.distance)])
    return table(["known", "prior", *HEAD], rows)


def by_parallax(sky: Sky) -> tuple[str, Mapping[str, Distances]]:
    """Bins of the signal-to-noise of the parallax."""
    absolute = sky.absolute(USUAL)
    found = {way: distances(absolute, sky.photometry(way)) for way in WAYS}
    snr = sky.parallax / sky.e_parallax
    rows = []
    for low, high in pairwise((-np.inf, 0.0, 3.0, 5.0, 10.0, 30.0, np.inf)):
        inside = (snr >= low) & (snr < high)
        name = (
            "negative"
            if high == 0
            else f"{low:g} to {high:g}"
            if np.isfinite(high)
            else f"over {low:g}"
        )
        for way in WAYS:
            first = [name, f"{inside.sum()}"] if way == "spectrum" else ["", ""]
            rows.append([*first, WAYS[way], *numbers(found[way], sky.distance, inside)])
    return table(["parallax over error", "stars", "known", *HEAD], rows), found


def tension(sky: Sky) -> str:
    """How often parallax and spectrum are said to disagree: where they do and where they do not."""
    rows = []
    for sigma in SIGMAS:
        absolute = sky.absolute(sigma)
        right = distances(absolute, sky.photometry("both"))
        # unresolved binaries and the like: the star is as bright as one at another distance
        wrong = {
            f"distance wrong by {100 * (factor - 1):.0f} %": distances(
                absolute,
                sky.photometry("both", sky.parallax + (1.0 / factor - 1.0) / sky.distance),
            )
            for factor in (1.5, 3.0)
        }
        for name, found in {"all right": right, **wrong}.items():
            value = found.tension
            rows.append([
                f"{sigma} mag, {name}",
                f"{value.mean():+.2f}",
                f"{value.std():.2f}",
                f"{100 * np.mean((found.flags & DistanceFlag.TENSION) > 0):.1f} %",
            ])  # fmt: skip
    return table(["error of M_K, parallax", "mean tension", "its std", "flagged"], rows)


def draw(sky: Sky, found: Mapping[str, Distances], path: Path) -> None:
    """Relative errors and normal scores against the parallax's signal-to-noise."""
    snr = sky.parallax / sky.e_parallax
    order = np.argsort(snr)
    groups = np.array_split(order, 24)
    colours = {"spectrum": "#1f6fa8", "parallax": "#999999", "both": "#c8402f"}
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(7.4, 3.2))
        for way, one in found.items():
            relative = one.posterior.quantiles([0.5])[0, :, 0] / sky.distance - 1.0
            scores = one.posterior.scores(sky.distance[:, None])[:, 0]
            x = [np.median(snr[g]) for g in groups]
            for axis, values in ((axes[0], [100 * mad(relative[g]) for g in groups]),
                                 (axes[1], [np.std(scores[g]) for g in groups])):  # fmt: skip
                axis.plot(x, values, "o-", ms=3, lw=1, color=colours[way], label=WAYS[way])
        axes[0].set(ylabel="error of the distance [%]", yscale="log")
        axes[0].set_yticks([1, 2, 5, 10, 20, 50], ["1", "2", "5", "10", "20", "50"])
        axes[0].set_yticks([], minor=True)
        axes[1].axhline(1.0, color="#b0b0b0", lw=0.8)
        axes[1].set(ylabel="standard deviation of scores", ylim=(0.5, 1.5))
        for axis in axes:
            axis.set_xscale("log")
            axis.set_xlabel("parallax over its error")
        axes[0].legend()
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150)
        plt.close(figure)


def page(sky: Sky, rate: float, tables: Sequence[str]) -> list[str]:
    overall, bins, flags = tables
    negative = int((sky.parallax < 0).sum())
    near, far = np.percentile(sky.distance, [5, 95])
    return [
        "# Distances",
        f"""
Made by `python benchmarks/distances.py`. {len(sky)} stars of the [synthetic sky](../sky.md), G
from 9 to 17, at {near:.1f} to {far:.1f} kpc (central 90 %), with parallaxes of Gaia's precision,
{negative} of them negative. Ks has errors of {E_K} mag and A_K of {E_A_K} mag. The absolute
magnitude is what a model would say that is right: the truth plus a normal error of the stated size,
which differs from star to star. What a model makes of real spectra is not measured here.
{rate:.0f} stars a second on one core.
""",
        "## What is known, and the prior",
        """
Relative to the true distance: scatter and median of the posterior medians. *Scores* is the standard
deviation of the normal scores of true distances in their posteriors, 1 if uncertainties are right;
their mean is 0. CRPS is the median score of the posterior, over the distance. Errors of M_K are
medians.
""",
        overall,
        """
A stated M_K whose error tells how far the truth is from it, among the stars observed, has the
volume in it already: with the prior `d**2 exp(-d / L)` on top, distances are too large, by more
the larger the error. So `distances` has no other prior where there is an M_K, and this one for
stars with a parallax alone. There it is off a little, because stars of 9 < G < 17 are not
spread like that.
""",
        remarks("prior"),
        "## With the parallax's error",
        f"M_K to {USUAL} mag.",
        bins,
        "![Errors and calibration of distances](figures/distances.png)",
        "Groups of equal numbers of stars; the first has the negative parallaxes.",
        remarks("parallax"),
        "## Tension",
        """
The normal score of the measured parallax in what the spectroscopic distance predicts; stars beyond
3 sigma are flagged. The wrong parallaxes are those of a star farther away by the stated amount, as
if M_K were that much too faint.
""",
        flags,
        remarks("tension"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, default=Path("docs/results"))
    parser.add_argument("--stars", type=int, default=12000)
    parser.add_argument("--seed", type=int, default=3)
    options = parser.parse_args()
    sky = Sky(options.stars, options.seed)
    absolute, known = sky.absolute(USUAL), sky.photometry("both")
    begin = time.process_time()
    distances(absolute, known)
    rate = len(sky) / (time.process_time() - begin)
    overall = by_way(sky)
    bins, found = by_parallax(sky)
    draw(sky, found, options.output / "figures" / "distances.png")
    write_page(options.output / "distances.md", page(sky, rate, [overall, bins, tension(sky)]))


if __name__ == "__main__":
    main()
