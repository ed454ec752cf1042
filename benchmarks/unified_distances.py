"""Distances of simulated stars of the Galaxy by the absolute magnitudes that a model gives them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from distances import E_A_K, E_K
from pages import remarks, table
from spectrolabe.config.sky import PopulationConfig, SkyConfig
from spectrolabe.inference.distance import Photometry, distances
from spectrolabe.models.posterior import LabelPosterior
from spectrolabe.sky.population import draw_population
from spectrolabe.validation.distributions import coverage
from spectrolabe.validation.metrics import mad
from unified_ages import GIANT
from unified_sky import SEED, Sky

__all__ = ["section"]

Arrays = dict[str, NDArray]


def observed(absolute: NDArray) -> dict[str, NDArray]:
    """Return distance, photometry and parallax of stars of true absolute magnitudes, each (N,).

    They are where stars of the simulated Galaxy of their rank in M_K are.
    """
    rng = np.random.default_rng([SEED, 13])
    count = len(absolute)
    sky = draw_population(SkyConfig(population=PopulationConfig(stars=count, giants=0.5)), rng)
    rank = np.empty(count, dtype=int)
    rank[np.argsort(absolute)] = np.argsort(np.asarray(sky["abs_mag_k"]))
    distance, error = (np.asarray(sky[name])[rank] for name in ("distance", "parallax_error"))
    a_k = rng.uniform(0.0, 0.3, count)
    noise = rng.normal(size=(3, count))
    return {
        "distance": distance,
        "k_mag": absolute + 5.0 * np.log10(distance) + 10.0 + a_k + E_K * noise[0],
        "a_k": a_k + E_A_K * noise[1],
        "parallax": 1.0 / distance + error * noise[2],
        "e_parallax": error,
    }


def _ways(mean: NDArray, sigma: NDArray, truth: NDArray) -> tuple[dict[str, LabelPosterior], dict]:
    known = observed(truth)
    ids = np.arange(len(mean)).astype(str)
    given = LabelPosterior.independent(["abs_mag_k"], mean[:, None], sigma[:, None], ids)
    light = {"k_mag": known["k_mag"], "a_k": known["a_k"], "e_k_mag": E_K, "e_a_k": E_A_K}
    geometry = {name: known[name] for name in ("parallax", "e_parallax")}
    ways = {"spectrum": light, "parallax": geometry, "both": light | geometry}
    return {
        way: distances(given, Photometry.of(len(mean), **one)).posterior
        for way, one in ways.items()
    }, known


def _numbers(posterior: LabelPosterior, truth: NDArray) -> list[str]:
    relative = posterior.quantiles([0.5])[0, :, 0] / truth - 1.0
    scores = posterior.scores(truth[:, None])[:, 0]
    return [
        f"{100 * np.median(relative):+.1f} / {100 * mad(relative):.1f} %",
        f"{scores.mean():+.2f}, {scores.std():.2f}",
        f"{100 * coverage(posterior, truth[:, None])[0]:.0f} %",
    ]


def section(sky: Sky, all_: dict[str, Arrays]) -> str:
    """The section of the page, of what `unified_ages.galactic` returned."""
    j, logg = sky.names.index("abs_mag_k"), sky.names.index("logg")
    rows, negative, count = [], 0, 0
    for survey, what in all_.items():
        columns = (what[name][:, j] for name in ("mean", "sigma", "truth"))
        found, known = _ways(*columns)
        negative, count = int(np.sum(known["parallax"] < 0)), len(what["mean"])
        giant = what["truth"][:, logg] < GIANT
        far = known["parallax"] < 3.0 * known["e_parallax"]
        for kind, here in (("giants", giant), ("dwarfs", ~giant), ("parallax < 3 errors", far)):
            use = np.flatnonzero(here)
            cells = [
                cell
                for posterior in found.values()
                for cell in _numbers(posterior.take(use), known["distance"][use])
            ]
            rows.append([f"{survey}, {kind}", str(len(use)), *cells])
    head = ["stars", "number"]
    for way in ("spectrum and photometry", "parallax alone", "both"):
        head += [f"{way}: bias / 1.4826 MAD", "scores", "in 68.3 %"]
    return f"""## Distances

The same {count} stars and S/N: `inference/distance.py` with the M_K and the uncertainty that this
model gives, Ks to {E_K:g} mag, A_K to {E_A_K:g} mag, and parallaxes of Gaia's precision ({negative}
of them negative) at the distances that stars of such M_K have in the simulated Galaxy. Relative to
the true distance; *scores*: mean and standard deviation of the normal scores of true distances in
their posteriors, 0 and 1 if uncertainties are right.

{table(head, rows)}

{remarks("distances")}"""
