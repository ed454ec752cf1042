"""What visits are for: how alike stars of a cluster come out, and ages of giants by C and N."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from pages import table
from spectrolabe.labels import Labels
from spectrolabe.models.age_files import load_ages
from spectrolabe.validation.metrics import mad
from twins import NAMES
from twins_visits import Said, Test

__all__ = ["MEMBERS", "ages", "clusters"]

WIDE = ((8.0, 20.0), (20.0, 60.0))
MEMBERS = 4  # visits of different members, that a cluster must have in a bin
DRAWS = 50  # of the clusters, for errors
ALIKE = ("fe_h", "mg_fe", "si_fe", "al_fe", "ca_fe", "mn_fe", "ni_fe")
GIANT = 3.3  # log g below which a star is a giant
EXACT = 1e-3  # uncertainty of the truth, times that of a good survey
USUAL = {"teff": 50.0}  # of labels, else 0.05
HEAD = tuple(f"S/N {low:.0f}–{high:.0f}" for low, high in WIDE)


def _each_star_once(test: Test, here: NDArray, rng: np.random.Generator) -> NDArray:
    """One visit of each star, by chance."""
    rows = rng.permutation(np.flatnonzero(here))
    _, first = np.unique([test.visits[i].star_id for i in rows], return_index=True)
    return rows[first]


def clusters(test: Test, said: Mapping[str, Said]) -> str:
    """Scatter of members about the median of their cluster, all clusters together."""
    names = np.asarray(test.columns["cluster_id"]).astype(str)
    rng, groups = np.random.default_rng(8), []
    for low, high in WIDE:
        here = (test.snr >= low) & (test.snr < high) & (names != "")
        of = [_each_star_once(test, here & (names == n), rng) for n in np.unique(names[here])]
        groups.append([rows for rows in of if len(rows) >= MEMBERS])
    rows = []
    for title, what in said.items():
        cells = [title]
        for found in groups:
            spread = [_about_medians(what, found, [name]) for name in ALIKE[:2]]
            spread.append(_about_medians(what, found, ALIKE[2:]))
            drawn = [
                [_about_medians(what, [found[i] for i in again], n)
                 for n in ([ALIKE[0]], [ALIKE[1]], ALIKE[2:])]
                for again in rng.integers(0, len(found), (DRAWS, len(found)))
            ]  # fmt: skip
            cells += [
                f"{value:.3f} ± {error:.3f}"
                for value, error in zip(spread, np.std(drawn, axis=0), strict=True)
            ]
        rows.append(cells)
    head = ["", *(f"{label}, {bin_}" for bin_ in HEAD for label in ("[Fe/H]", "[Mg/Fe]", "other"))]
    sizes = " and ".join(f"{sum(map(len, g))} visits of {len(g)} clusters" for g in groups)
    return f"{sizes}.\n\n{table(head, rows)}"


def _about_medians(what: Said, groups: Sequence[NDArray], names: Sequence[str]) -> float:
    """1.4826 MAD about medians of groups, for medians having taken part; median over labels."""
    columns = [NAMES.index(name) for name in names]
    left = [
        (what.mean[rows][:, columns] - np.median(what.mean[rows][:, columns], axis=0))
        * np.sqrt(len(rows) / (len(rows) - 1.0))
        for rows in groups
    ]
    return float(np.median([1.4826 * np.median(np.abs(x)) for x in np.concatenate(left).T]))


def ages(test: Test, said: Mapping[str, Said]) -> str:
    """Ages from the labels of visits, against those from the true labels and the true ones."""
    model = load_ages()
    giant = test.truth[:, NAMES.index("logg")] < GIANT
    unit = np.array([USUAL.get(name, 0.05) for name in NAMES])
    best, inside = _ages(model, test.truth, np.broadcast_to(EXACT * unit, test.truth.shape))
    true = np.log10(np.asarray(test.columns["age"], float))
    rows = [_row("the true labels", test, giant & inside, best, best, true)]
    for title, what in said.items():
        found, known = _ages(model, what.mean, what.sigma)
        rows.append(_row(title, test, giant & inside & known, found, best, true))
    head = [
        "labels",
        *(
            f"{x}, {bin_}"
            for bin_ in HEAD
            for x in ("visits", "bias [dex]", "scatter [dex]", "rank correlation")
        ),
    ]
    return table(head, rows)


def _ages(model: object, values: NDArray, sigma: NDArray) -> tuple[NDArray, NDArray]:
    """Medians of log10(age / Gyr), and where there are any."""
    labels = Labels(NAMES, values, sigma, np.arange(len(values)).astype(str))
    posterior = model.predict(labels.select(list(model.names)))
    middle = posterior.levels[:, 0, posterior.levels.shape[2] // 2]
    return np.log10(middle), np.isfinite(middle)


def _row(
    title: str, test: Test, use: NDArray, found: NDArray, best: NDArray, true: NDArray
) -> list[str]:
    cells = [title]
    for low, high in WIDE:
        here = use & (test.snr >= low) & (test.snr < high)
        error = (found - best)[here]
        rank = spearmanr(found[here], true[here]).statistic
        cells += [str(here.sum()), f"{np.median(error):+.3f}", f"{mad(error):.3f}", f"{rank:.2f}"]
    return cells
