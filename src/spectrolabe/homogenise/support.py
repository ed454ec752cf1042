"""Where anchors support a correction, and how it fades where they do not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from spectrolabe.labels import read_only

__all__ = ["Support"]

NEIGHBOURS = 6
GONE = 4.0  # limits at which nothing is left of a correction
# spreads of the anchors in Teff, log g, [Fe/H] are used within these bounds: below, they would be
# those of errors; above, trends may turn between two anchors
NARROW, WIDE = np.array([100.0, 0.1, 0.05]), np.array([600.0, 0.6, 0.3])
USUAL = 0.95  # of the anchors are within the limit of the others
LIMITS = 0.25, 1.0


@dataclass(frozen=True, eq=False)
class Support:
    """Mean distance to the six nearest anchors along D axes, each over their spread.

    The inverse of a density, and smoother than the distance to any one of them.

    Parameters
    ----------
    points : ndarray, shape (N, D)
        Measured labels of the anchors.
    width : ndarray, shape (D,)
        Unit of distance along each axis.
    limit : float
        Distance up to which a correction holds in full.
    """

    points: NDArray
    width: NDArray
    limit: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "points", read_only(self.points, np.float64))
        object.__setattr__(self, "width", read_only(self.width, np.float64))
        object.__setattr__(self, "_tree", cKDTree(self.points / self.width))

    @classmethod
    def of(cls, points: NDArray, width: NDArray | None = None) -> Support:
        """Return the support by anchors with these measured labels, shape (N, D).

        Without a ``width`` they are Teff, log g and [Fe/H], and it is their spread.
        """
        if width is None:
            width = np.clip(points.std(axis=0), NARROW, WIDE)
        nearest, _ = cKDTree(points / width).query(points / width, k=NEIGHBOURS + 1)
        usual = nearest[:, 1:].mean(axis=1)
        limit = float(np.quantile(usual, USUAL, method="inverted_cdf"))
        return cls(points, width, float(np.clip(limit, *LIMITS)))

    def distance(self, points: NDArray) -> NDArray:
        """Return the mean distance of stars to their six nearest anchors, shape (N,).

        It is infinite where a label is NaN.
        """
        known = np.isfinite(points).all(axis=1)
        found = np.full(len(points), np.inf)
        scaled = points[known] / self.width
        nearest, _ = self._tree.query(scaled, k=NEIGHBOURS, workers=-1)  # type: ignore[attr-defined]
        found[known] = nearest.mean(axis=1)
        return found

    def share(self, distance: NDArray) -> NDArray:
        """Return how much of a correction is applied: 1 to the limit, 0 beyond four times that."""
        beyond = np.clip((distance / self.limit - 1.0) / (GONE - 1.0), 0.0, 1.0)
        return 0.5 * (1.0 + np.cos(np.pi * beyond))
