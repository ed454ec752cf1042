"""Open clusters: how far labels of one composition scatter, and whether they follow Teff."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from spectrolabe.labels import LABELS
from spectrolabe.validation.agreement import OF_WIDTH, error_of_width
from spectrolabe.validation.catalogue_rows import Rows
from spectrolabe.validation.metrics import MAD_TO_SIGMA

__all__ = ["ClusterSpread", "Members", "cluster_members", "cluster_spread"]

FEWEST = 3  # members of a cluster with the label
PER = 1000.0  # K
CLIP = 4.0  # standard deviations beyond which a member is left out of means and slopes


@dataclass(frozen=True)
class ClusterSpread:
    """Scatter of one label within clusters, all of them or one.

    Parameters
    ----------
    cluster : str
        Empty for all together, each about its own mean.
    label, unit : str
    members, clusters : int
    mean : float
        Weighted by the stated errors; NaN for several clusters.
    observed : float
        1.4826 times the median distance from the mean.
    error : float
        Median stated error.
    width, e_width : float
        The same scatter in units of the stated errors, with its standard error.
    dispersion, e_dispersion : float
        What has to be added to the errors in quadrature to explain it, in ``unit``.
    trend, e_trend : float
        Slope with Teff per 1000 K; NaN where Teff is not known or the same.
    """

    cluster: str
    label: str
    unit: str
    members: int
    clusters: int
    mean: float
    observed: float
    error: float
    width: float
    e_width: float
    dispersion: float
    e_dispersion: float
    trend: float
    e_trend: float


@dataclass(frozen=True)
class Members:
    """Members of clusters with one label.

    Parameters
    ----------
    value, sigma, teff : ndarray, shape (M,)
    group : ndarray of int, shape (M,)
        Which cluster, from 0.
    names : tuple of str
        Of the clusters.
    """

    value: NDArray
    sigma: NDArray
    teff: NDArray
    group: NDArray
    names: tuple[str, ...]

    def core(self, extra: float = 0.0) -> NDArray:
        """Return which members are near the median of their cluster, shape (M,)."""
        near = np.zeros(len(self.value), dtype=bool)
        deviation = np.hypot(self.sigma, extra)
        for k in range(len(self.names)):
            here = self.group == k
            near[here] = _core(self.value[here], deviation[here])
        return near

    def centred(self, extra: float = 0.0) -> tuple[NDArray, NDArray]:
        """Return distances from the mean of the cluster, and their standard deviations, (M,).

        Parameters
        ----------
        extra : float
            Scatter beyond the errors.
        """
        away, deviation = np.full((2, len(self.value)), np.nan)
        near = self.core(extra)
        for k in range(len(self.names)):
            here = np.flatnonzero(self.group == k)
            value, variance = self.value[here], self.sigma[here] ** 2 + extra**2
            core = near[here]
            mean = np.average(value[core], weights=1.0 / variance[core])
            of_mean = 1.0 / np.sum(1.0 / variance[core])
            away[here] = value - mean
            # a member has part in its own mean, one that was left out has not
            deviation[here] = np.sqrt(np.where(core, variance - of_mean, variance + of_mean))
        return away, deviation


def _core(value: NDArray, sigma: NDArray) -> NDArray:
    """Members near the median."""
    away = np.abs(value - np.median(value))
    return away <= CLIP * np.hypot(sigma, MAD_TO_SIGMA * np.median(away))


def cluster_members(rows: Rows, clusters: Mapping[str, NDArray], name: str) -> Members:
    """Return the members with a label, one row each: that of the highest S/N.

    Parameters
    ----------
    rows : Rows
    clusters : mapping of str to ndarray of int
        Stars, see `spectrolabe.validation.beside.read_clusters`.
    name : str
    """
    sigma = rows.sigma(name)
    known = ~rows.bad & np.isfinite(rows.labels[name]) & np.isfinite(sigma)
    best = rows.best_of_star(known)
    members = [best[np.isin(rows.star[best], stars)] for stars in clusters.values()]
    kept = [(n, m) for n, m in zip(clusters, members, strict=True) if len(m) >= FEWEST]
    row = np.concatenate([m for _, m in kept]) if kept else np.empty(0, dtype=int)
    teff = rows.labels["teff"][row] if "teff" in rows.names else np.full(len(row), np.nan)
    group = np.repeat(np.arange(len(kept)), [len(m) for _, m in kept])
    return Members(rows.labels[name][row], sigma[row], teff, group, tuple(n for n, _ in kept))


def cluster_spread(members: Members, name: str, cluster: str = "") -> ClusterSpread:
    """Return the scatter of a label within clusters.

    Parameters
    ----------
    members : Members
    name : str
        The label.
    cluster : str
        Of this cluster alone.
    """
    if cluster:
        here = members.group == members.names.index(cluster)
        members = Members(
            members.value[here],
            members.sigma[here],
            members.teff[here],
            np.zeros(int(here.sum()), dtype=int),
            (cluster,),
        )
    unit, count = LABELS[name].unit, len(members.value)
    if not count:
        return ClusterSpread(cluster, name, unit, 0, 0, *[np.nan] * 9)
    away, deviation = members.centred()
    width = _width(away / deviation)
    # of M members and C means as many are independent as M - C
    free = count - len(members.names)
    dispersion, e_dispersion = _dispersion(members, free)
    trend, e_trend = _trend(members, dispersion)
    return ClusterSpread(
        cluster,
        name,
        unit,
        count,
        len(members.names),
        float(np.mean(members.value - away)) if len(members.names) == 1 else np.nan,
        float(MAD_TO_SIGMA * np.median(np.abs(away))),
        float(np.median(members.sigma)),
        width,
        error_of_width(width, free),
        dispersion,
        e_dispersion,
        trend,
        e_trend,
    )


def _width(pulls: NDArray) -> float:
    return float(MAD_TO_SIGMA * np.median(np.abs(pulls)))


def _dispersion(members: Members, free: int) -> tuple[float, float]:
    """The scatter that makes the width 1, and its error by that of the width."""

    def with_width(target: float) -> float:
        def excess(extra: float) -> float:
            away, deviation = members.centred(extra)
            return _width(away / deviation) - target

        if excess(0.0) <= 0:
            return 0.0
        top = float(np.ptp(members.value)) + float(members.sigma.max())
        while excess(top) > 0:
            top *= 2.0
        return float(brentq(excess, 0.0, top, xtol=1e-3 * float(np.median(members.sigma))))

    slack = min(OF_WIDTH / np.sqrt(free), 0.9)
    found = with_width(1.0)
    low, high = with_width(1.0 + slack), with_width(1.0 - slack)
    return found, 0.5 * (high - low) if found > 0 else high


def _trend(members: Members, dispersion: float) -> tuple[float, float]:
    """Slope with Teff that all clusters share, each with a zero point of its own."""
    use = np.isfinite(members.teff) & members.core(dispersion)
    weight = 1.0 / (members.sigma**2 + dispersion**2)
    slope, error = np.nan, np.nan
    for _ in range(3):  # those far from one slope are left out of the next
        x, y = (
            _less_mean(v, weight, members.group, use) for v in (members.teff / PER, members.value)
        )
        total = float(np.sum((weight * x**2)[use]))
        if use.sum() < FEWEST or not total > 0:
            return np.nan, np.nan
        slope = float(np.sum((weight * x * y)[use]) / total)
        pull = np.where(np.isfinite(x), (y - slope * x) * np.sqrt(weight), np.inf)
        error = float(max(1.0, _width(pull[use])) / np.sqrt(total))
        use = np.abs(pull) <= CLIP * max(1.0, _width(pull[use]))
    return slope, error


def _less_mean(values: NDArray, weight: NDArray, group: NDArray, use: NDArray) -> NDArray:
    """Values less the weighted mean of those in use of their cluster; 0 without any."""
    safe = np.where(np.isfinite(values), values, 0.0)
    size = int(group.max()) + 1
    total = np.bincount(group[use], weight[use], minlength=size)
    sums = np.bincount(group[use], (weight * safe)[use], minlength=size)
    mean = np.divide(sums, total, out=np.full(size, np.nan), where=total > 0)
    return values - mean[group]
