"""Model atmospheres at any labels inside a grid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from spectrolabe.errors import InputError, unknown_name
from spectrolabe.synthesis.model_grids import (
    LN_ELECTRON_PRESSURE,
    LN_PRESSURE,
    LN_TEMPERATURE,
    LOG_TAU,
    ModelGrid,
    atlas9_grid,
    marcs_grid,
)

__all__ = ["SOURCES", "Atmosphere", "coverage", "interpolate_atmosphere"]

_GRIDS = {"marcs": marcs_grid, "atlas9": atlas9_grid}
SOURCES = tuple(_GRIDS)
_NEGLIGIBLE = 1e-9  # of a node's weight


@dataclass(frozen=True, eq=False)
class Atmosphere:
    """A plane-parallel atmosphere of L layers from top to bottom; arrays are read-only.

    Parameters
    ----------
    teff, logg, fe_h : float
        K, dex of cm/s2, dex.
    source : str
        The grid it was interpolated in.
    tau5000 : ndarray, shape (L,)
        Optical depth at 5000 Å.
    temperature : ndarray, shape (L,)
        K.
    pressure : ndarray, shape (L,)
        Gas pressure including electrons, dyn/cm2.
    electron_pressure : ndarray, shape (L,)
        dyn/cm2.
    mixture : ndarray, shape (92,)
        n_X / n_H with which the grid was computed.
    extrapolated : bool
        Whether the grid lacks a model here, so that others of its Teff and [Fe/H] stand in.
    """

    teff: float
    logg: float
    fe_h: float
    source: str
    tau5000: NDArray
    temperature: NDArray
    pressure: NDArray
    electron_pressure: NDArray
    mixture: NDArray
    extrapolated: bool = False

    def __post_init__(self) -> None:
        for name in ("tau5000", "temperature", "pressure", "electron_pressure", "mixture"):
            array = np.array(getattr(self, name), np.float64)
            array.flags.writeable = False
            object.__setattr__(self, name, array)


def interpolate_atmosphere(
    teff: float, logg: float, fe_h: float, source: str = "marcs"
) -> Atmosphere:
    """Return the atmosphere of a star, trilinear in its labels, layer by layer.

    log tau5000, ln T, ln Pe and ln Pg are interpolated at fixed layer number (the layers of a
    grid are at the same Rosseland depths). A model that the grid lacks is replaced by the line
    through the two nearest ones of its Teff and [Fe/H] in log g, at most 2 dex away.

    Parameters
    ----------
    teff : float
        K.
    logg : float
        Log10 of cm/s2.
    fe_h : float
        dex.
    source : str
        One of `SOURCES`.

    Raises
    ------
    InputError
        If a label is outside of the grid or not finite, if there is no model near, if the source
        is not known, or if the package with its models is not installed.
    """
    grid = _grid(source)
    labels = {"teff": float(teff), "logg": float(logg), "fe_h": float(fe_h)}
    cells = [
        _cell(name, value, axis, source)
        for (name, value), axis in zip(
            labels.items(), (grid.teff, grid.logg, grid.metallicity), strict=True
        )
    ]
    layers = np.zeros(grid.nodes.shape[3:])
    extrapolated = False
    for corner in np.ndindex(2, 2, 2):
        weight = float(np.prod([cell[1][side] for cell, side in zip(cells, corner, strict=True)]))
        if weight < _NEGLIGIBLE:
            continue
        place = tuple(cell[0] + side for cell, side in zip(cells, corner, strict=True))
        node, far = _node(grid, place, labels, source)
        layers += weight * node
        extrapolated |= far
    return Atmosphere(
        **labels,
        source=source,
        tau5000=10.0 ** layers[LOG_TAU],
        temperature=np.exp(layers[LN_TEMPERATURE]),
        pressure=np.exp(layers[LN_PRESSURE]),
        electron_pressure=np.exp(layers[LN_ELECTRON_PRESSURE]),
        mixture=_scaled(grid.solar, labels["fe_h"]),
        extrapolated=extrapolated,
    )


def coverage(source: str = "marcs") -> Mapping[str, tuple[float, float]]:
    """Return the ranges of ``teff``, ``logg`` and ``fe_h`` over which a grid is defined."""
    grid = _grid(source)
    axes = {"teff": grid.teff, "logg": grid.logg, "fe_h": grid.metallicity}
    return MappingProxyType({name: (float(a[0]), float(a[-1])) for name, a in axes.items()})


def _scaled(solar: NDArray, fe_h: float) -> NDArray:
    metals = np.arange(len(solar)) > 1
    return np.where(metals, solar * 10.0**fe_h, solar)


def _grid(source: str) -> ModelGrid:
    if source not in _GRIDS:
        raise unknown_name("atmospheres", source, SOURCES, kind="grid of model atmospheres")
    return _GRIDS[source]()


def _cell(name: str, value: float, axis: NDArray, source: str) -> tuple[int, tuple[float, float]]:
    """Return the lower node of the cell around a value, and the weights of its two nodes."""
    low, high = float(axis[0]), float(axis[-1])
    if not low <= value <= high:
        raise InputError(
            name,
            expected=f"a number from {low:g} to {high:g}, the range of {source}",
            found=f"{value:g}",
            fix="Give a star inside the range, or another grid of atmospheres: "
            f"{', '.join(SOURCES)}.",
        )
    i = int(np.clip(np.searchsorted(axis, value) - 1, 0, len(axis) - 2))
    part = (value - axis[i]) / (axis[i + 1] - axis[i])
    return i, (1.0 - part, part)


def _node(
    grid: ModelGrid, place: tuple[int, ...], labels: Mapping[str, float], source: str
) -> tuple[NDArray, bool]:
    """Return the model at a node, and whether it had to be extrapolated in log g."""
    i, j, k = place
    node = grid.nodes[i, j, k]
    if np.isfinite(node[0, 0]):
        return node, False
    there = np.flatnonzero(np.isfinite(grid.nodes[i, :, k, 0, 0]))
    distance = np.abs(grid.logg[there] - grid.logg[j])
    above, below = there[there > j], there[there < j]
    if len(above) and len(below):
        a, b = below[-1], above[0]
    elif len(there) > 1 and distance.min() <= 2.0:
        a, b = (above[0], above[1]) if len(above) else (below[-2], below[-1])
    else:
        raise InputError(
            f"{source} at " + ", ".join(f"{name} = {value:g}" for name, value in labels.items()),
            expected="a model atmosphere at most 2 dex away in log g",
            found="none",
            fix="No such star is known to the grid; give labels of a star that exists.",
        )
    part = (grid.logg[j] - grid.logg[a]) / (grid.logg[b] - grid.logg[a])
    return (1.0 - part) * grid.nodes[i, a, k] + part * grid.nodes[i, b, k], True
