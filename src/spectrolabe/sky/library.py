"""Intrinsic spectra in milliseconds: a grid of ab initio spectra, interpolated.

Principal components of the flux, each a Gaussian process of the labels (gradient-enhanced kriging):
the process is told fluxes and, through the differential spectra, their changes with every label.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import scipy.linalg as la
import scipy.sparse as sp
from astropy.table import Table
from numpy.typing import ArrayLike, NDArray
from safetensors.numpy import load_file, save_file

from spectrolabe.errors import InputError
from spectrolabe.guard import blaming, read_json
from spectrolabe.labels import read_only
from spectrolabe.spectra import Instrument, observation_operator

if TYPE_CHECKING:
    from spectrolabe.synthesis.grid import Grid

__all__ = ["IntrinsicSpectra", "Library", "fit_library", "load_library"]

FORMAT = "spectrolabe-library-1"
SPECTRA, CARD = "library.safetensors", "card.json"
CONTINUUM_STEP = 1000  # pixels between the wavelengths at which the continuum is kept
NOISE = 1e-3  # variance of a node, of a prior variance of 1
STEP_OF_PCA = 0.2  # lengths: how far a differential spectrum counts among the components
PLANE = 1.0  # variance of the linear part
SLACK = 0.15  # of the range of a label in the grid, beyond which a star is refused
DIFFERENCE_NOISE = 0.1  # the same of a difference, per squared unit step


class IntrinsicSpectra(Protocol):
    """What makes the spectra of stars, before any broadening by rotation or instrument."""

    @property
    def wavelength(self) -> NDArray:
        """Vacuum Angstrom, shape (M,)."""
        ...

    @property
    def resolution(self) -> float:
        """R of the spectra."""
        ...

    def __call__(self, stars: Table) -> tuple[NDArray, NDArray]:
        """Return normalised flux and continuum in erg/s/cm2/Angstrom, each (N, M) float32."""
        ...


@dataclass(frozen=True, eq=False)
class Library:
    """A fitted library; its arrays cannot be written.

    Parameters
    ----------
    names : tuple of str
        L labels.
    centre, scale : ndarray, shape (L,)
        Labels enter as (value - centre) / scale, scale being the length of the Gaussian process.
    points : ndarray, shape (P, L), float32
        Where flux was known, in these units.
    weights : ndarray, shape (P, K + C), float32
        Of the process at each point, for each component of flux and continuum.
    wavelength : ndarray, shape (M,)
        Vacuum Angstrom.
    mean, basis : ndarray, shapes (M,) and (K, M)
        Flux is mean + coefficients @ basis.
    coarse : ndarray, shape (B,)
        Wavelengths at which the continuum is kept.
    continuum_mean, continuum_basis : ndarray, shapes (B,) and (C, B)
        The same for the logarithm of the continuum.
    resolution : float
        R of the spectra.
    low, high : ndarray, shape (L,)
        Range of each label in the grid.
    provenance : mapping
        Of the grid.
    """

    names: tuple[str, ...]
    centre: NDArray
    scale: NDArray
    points: NDArray
    weights: NDArray
    wavelength: NDArray
    mean: NDArray
    basis: NDArray
    coarse: NDArray
    continuum_mean: NDArray
    continuum_basis: NDArray
    resolution: float
    low: NDArray
    high: NDArray
    provenance: Mapping[str, object]

    ARRAYS = (
        "centre", "scale", "points", "weights", "wavelength", "mean", "basis", "coarse",
        "continuum_mean", "continuum_basis", "low", "high",
    )  # fmt: skip

    def __post_init__(self) -> None:
        for name in self.ARRAYS:
            object.__setattr__(self, name, read_only(getattr(self, name)))

    def __call__(self, stars: Table) -> tuple[NDArray, NDArray]:
        """Return the spectra of stars, a row of labels each.

        Raises
        ------
        InputError
            If a label is missing, not a number, or the star outside the grid.
        """
        values = np.stack([self._column(stars, name) for name in self.names], axis=1)
        for name, column, low, high in zip(self.names, values.T, self.low, self.high, strict=True):
            slack = SLACK * (high - low)
            bad = ~((column >= low - slack) & (column <= high + slack))
            if name in ("teff", "logg", "fe_h", "v_micro") and bad.any():
                raise InputError(
                    f"label {name} of star {int(np.argmax(bad))}",
                    expected=f"{low:g} to {high:g}, the range of the library",
                    found=f"{column[np.argmax(bad)]:g}",
                )
        kernel = _kernel((values - self.centre) / self.scale, self.points)
        coefficients = (kernel @ self.weights).astype(np.float32)
        split = len(self.basis)
        flux = self.mean + coefficients[:, :split] @ self.basis
        logarithm = self.continuum_mean + coefficients[:, split:] @ self.continuum_basis
        smooth = np.stack([np.interp(self.wavelength, self.coarse, row) for row in logarithm])
        return np.clip(flux, 0.0, None), np.exp(smooth).astype(np.float32)

    @staticmethod
    def _column(stars: Table, name: str) -> NDArray:
        if name not in stars.colnames:
            raise InputError("stars", expected=f"a column {name}", found=f"{stars.colnames}")
        return np.asarray(stars[name], dtype=float)

    def save(self, folder: str | Path) -> None:
        """Write ``library.safetensors`` and ``card.json``."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        half = ("basis", "continuum_basis")
        arrays = {name: np.ascontiguousarray(getattr(self, name)) for name in self.ARRAYS}
        arrays = {k: v.astype(np.float16) if k in half else v for k, v in arrays.items()}
        save_file(arrays, folder / SPECTRA)
        card = {
            "format": FORMAT,
            "names": list(self.names),
            "resolution": self.resolution,
            "provenance": dict(self.provenance),
        }
        (folder / CARD).write_text(json.dumps(card, indent=2) + "\n")


def load_library(folder: str | Path) -> Library:
    """Return a library that `Library.save` wrote.

    Raises
    ------
    InputError
        If there is none, or it is of another format.
    """
    folder = Path(folder)
    for name in (SPECTRA, CARD):
        if not (folder / name).exists():
            raise InputError(folder, expected=f"a library with a file {name}", found="none")
    card = read_json(folder / CARD, "the card of a library")
    if card.get("format") != FORMAT:
        raise InputError(folder / CARD, expected=f"format {FORMAT}", found=f"{card.get('format')}")
    with blaming(folder / SPECTRA, "a safetensors file"):
        arrays = load_file(folder / SPECTRA)
    with blaming(folder, "a library"):
        arrays["basis"] = arrays["basis"].astype(np.float32)
        arrays["continuum_basis"] = arrays["continuum_basis"].astype(np.float32)
        names, about = tuple(card["names"]), card["provenance"]
        return Library(names, resolution=card["resolution"], provenance=about, **arrays)


def fit_library(
    grids: Sequence[Grid],
    wavelength: ArrayLike,
    resolution: float,
    lengths: Mapping[str, float],
    *,
    components: int = 60,
    left_out: Sequence[int] = (),
) -> Library:
    """Fit a library to grids, with or without differential spectra.

    Parameters
    ----------
    grids : sequence of Grid
        Of the same labels and wavelengths.
    wavelength : array_like, shape (M,)
        Vacuum Angstrom of the library, within the grids.
    resolution : float
        R of the library; at least two pixels a resolution element.
    lengths : mapping of str to float
        For each label, the distance over which spectra change their shape.
    components : int
        K, of the flux.
    left_out : sequence of int
        Stars of the last grid that are not used, for a test.
    """
    fine = np.asarray(wavelength, dtype=float)
    parts = [_Known.of(grid, fine, resolution) for grid in grids]
    keep = np.setdiff1d(np.arange(len(parts[-1].flux)), left_out)
    known = _Known.joined([*parts[:-1], parts[-1].only(keep)])
    names = grids[0].labels.names
    scale = np.array([lengths[name] for name in names])
    centre = known.values.mean(axis=0)
    mean = known.flux.mean(axis=0)
    reach = STEP_OF_PCA * scale[np.array([column for _, column, _ in known.index], dtype=int)]
    moved = known.changes * reach.astype(np.float32)[:, None]
    basis = _components(np.concatenate([known.flux - mean, moved]), components)
    continuum_mean = known.continuum.mean(axis=0)
    continuum_basis = _components(known.continuum - continuum_mean, min(12, len(known.flux) - 1))
    targets = np.concatenate([(known.flux - mean) @ basis.T, known.changes @ basis.T])
    nodes = (known.values - centre) / scale
    points, weights = _krige(nodes, known.index, scale, targets)
    smooth = (known.continuum - continuum_mean) @ continuum_basis.T
    padded = np.zeros((len(points), smooth.shape[1]))
    padded[: len(nodes)] = _krige(nodes, [], scale, smooth)[1]
    return Library(
        names,
        centre,
        scale,
        points.astype(np.float32),
        np.concatenate([weights, padded], axis=1).astype(np.float32),
        fine,
        mean.astype(np.float32),
        basis.astype(np.float32),
        fine[::CONTINUUM_STEP],
        continuum_mean,
        continuum_basis.astype(np.float32),
        resolution,
        known.values.min(axis=0),
        known.values.max(axis=0),
        dict(grids[0].provenance),
    )


@dataclass(frozen=True, eq=False)
class _Known:
    """What grids say of N stars on the wavelengths of a library."""

    values: NDArray  # (N, L)
    flux: NDArray  # (N, M)
    changes: NDArray  # (R, M) differential spectra
    index: list[tuple[int, int, float]]  # star, label and step of each
    continuum: NDArray  # (N, B), its logarithm

    @classmethod
    def of(cls, grid: Grid, fine: NDArray, resolution: float) -> _Known:
        """Read a grid and observe its spectra at the resolution of the library."""
        operator = observation_operator(grid.wavelength, Instrument(fine, resolution, "library"))
        stars = range(len(grid.labels.values))

        def observed(spectra: NDArray) -> NDArray:
            return (operator @ np.asarray(spectra, dtype=float).T).T.astype(np.float32)

        flux = np.stack([observed(grid.flux[i]) for i in stars])
        logarithm = [
            np.log(np.interp(fine[::CONTINUUM_STEP], grid.wavelength, grid.continuum[i]))
            for i in stars
        ]
        changes, index = np.zeros((0, fine.size), np.float32), []
        if grid.differential is not None:
            changes = np.concatenate([observed(grid.differential[i]) for i in stars])
            columns = [grid.labels.names.index(name) for name in grid.differential_names]
            index = [
                (i, column, float(step))
                for i in stars
                for column, step in zip(columns, grid.differential_steps[i], strict=True)
            ]
            known = np.flatnonzero(np.isfinite(changes).all(axis=1))
            changes, index = changes[known], [index[k] for k in known]
        return cls(np.asarray(grid.labels.values), flux, changes, index, np.array(logarithm))

    def only(self, stars: NDArray) -> _Known:
        """Return some of the stars."""
        number = {int(star): k for k, star in enumerate(stars)}
        rows = [k for k, (star, _, _) in enumerate(self.index) if star in number]
        index = [(number[self.index[k][0]], *self.index[k][1:]) for k in rows]
        return _Known(
            self.values[stars], self.flux[stars], self.changes[rows], index, self.continuum[stars]
        )

    @classmethod
    def joined(cls, parts: Sequence[_Known]) -> _Known:
        """Return the stars of all parts."""
        starts = np.cumsum([0, *(len(part.flux) for part in parts)])
        index = [
            (star + int(start), column, step)
            for part, start in zip(parts, starts, strict=False)
            for star, column, step in part.index
        ]
        arrays = ("values", "flux", "changes", "continuum")
        joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in arrays}
        return cls(index=index, **joined)


def _components(rows: NDArray, count: int) -> NDArray:
    """The first principal axes of some rows, shape (count, M)."""
    count = min(count, len(rows) - 1)
    ends = [len(rows) - count, len(rows) - 1]
    values, vectors = la.eigh((rows @ rows.T).astype(float), subset_by_index=ends)
    axes = (vectors / np.sqrt(np.maximum(values, 1e-30))).T @ rows
    return axes[::-1]


def _kernel(a: NDArray, b: NDArray) -> NDArray:
    """Squared exponential and linear: what is far from all points follows a plane."""
    squared = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T
    return np.exp(-0.5 * np.maximum(squared, 0.0)) + PLANE * (1.0 + a @ b.T)


def _krige(
    nodes: NDArray,
    index: Sequence[tuple[int, int, float]],
    scale: NDArray,
    targets: NDArray,
) -> tuple[NDArray, NDArray]:
    """Weights of a Gaussian process told values at nodes and differences from them.

    A difference (f(x + s e) - f(x)) / s is a linear combination of values at two points; so the
    covariance of all that is known is that of the points between two sparse factors.
    """
    count = len(nodes)
    moved = nodes[[node for node, _, _ in index]] if index else nodes[:0]
    for row, (_, column, step) in zip(moved, index, strict=True):
        row[column] += step / scale[column]
    points = np.concatenate([nodes, moved])
    steps = np.array([step for _, _, step in index])
    unit = np.array([step / scale[column] for _, column, step in index])
    own, base = np.arange(len(index)) + count, np.array([node for node, _, _ in index], dtype=int)
    known = sp.csr_array(
        (
            np.concatenate([np.ones(count), 1 / steps, -1 / steps]),
            (
                np.concatenate([np.arange(count), own, own]),
                np.concatenate([np.arange(count), own, base]),
            ),
        ),
        shape=(len(points), len(points)),
    )
    # in units of the kernel: a slope per scaled label, and so a row of order one
    balance = np.concatenate([np.ones(count), steps / unit])
    covariance = known @ (known @ _kernel(points, points)).T
    covariance *= balance[:, None] * balance
    noise = np.concatenate([np.full(count, NOISE), np.full(len(index), DIFFERENCE_NOISE)])
    covariance[np.diag_indices_from(covariance)] += noise
    solved = la.cho_solve(la.cho_factor(covariance, lower=True), targets * balance[:, None])
    return points, known.T @ (solved * balance[:, None])
