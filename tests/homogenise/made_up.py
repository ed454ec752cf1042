"""Made-up stars with known trends, and anchors among them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from spectrolabe.homogenise.anchors import Anchors
from spectrolabe.labels import Labels

Trend = Callable[[NDArray, NDArray, NDArray], NDArray]
SIGMA = {"teff": 60.0, "logg": 0.1, "fe_h": 0.05}
NAMES = ("teff", "logg", "fe_h", "mg_fe", "c_fe", "li_fe")


def made_up(
    trends: Mapping[str, Trend],
    seed: int = 0,
    *,
    binaries: int = 60,
    clusters: int = 3,
    members: int = 12,
    references: int = 60,
    field: int = 200,
    noise: float = 1.0,
    names: tuple[str, ...] = NAMES,
) -> tuple[NDArray, Labels, Anchors]:
    """Return the true values, shape (N, L), the measured labels, and the anchors among them.

    Stars are binaries, clusters, references and the field, in this order. Dwarfs and giants lie
    on a line each in Teff and log g.
    """
    rng = np.random.default_rng(seed)
    kind = np.repeat(
        ["binary", "cluster", "reference", "field"],
        [2 * binaries, clusters * members, references, field],
    )
    number = np.r_[
        np.repeat(np.arange(binaries), 2),
        np.repeat(np.arange(clusters), members),
        np.arange(references + field),
    ].astype(int)
    group = np.char.add(np.char.add(kind, " "), number.astype(str))
    count = kind.size
    share = rng.random(count)
    giant = rng.random(count) < 0.3
    true = np.empty((count, len(names)))
    true[:, 0] = np.where(giant, 4400 + 900 * share, 4600 + 2000 * share)
    line = np.where(giant, 1.2 + 2.2 * share, 4.65 - 0.5 * share)
    true[:, 1] = line + 0.1 * rng.normal(size=count)
    _, index = np.unique(group, return_inverse=True)
    for column in range(2, len(names)):
        own = rng.normal(0.0, 0.3 if column == 2 else 0.1, index.max() + 1)
        true[:, column] = own[index]
    sigma = np.array([SIGMA.get(n, 0.06) for n in names]) * rng.uniform(0.7, 1.3, true.shape)
    measured = true + noise * sigma * rng.normal(size=true.shape)
    for name, trend in trends.items():
        measured[:, names.index(name)] += trend(*true[:, :3].T)
    star_id = np.array([f"star{i:04d}" for i in range(count)])
    anchored = kind != "field"
    error = np.broadcast_to([SIGMA.get(n, 0.06) / 2 for n in names], true.shape)
    known = true + noise * error * rng.normal(size=true.shape)
    known[kind != "reference"] = np.nan
    reference = Labels(names, known, error, star_id).take(anchored)
    return (
        true,
        Labels(names, measured, sigma, star_id),
        Anchors(group[anchored], kind[anchored], reference),
    )
