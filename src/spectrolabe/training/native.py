"""Grids of spectra as an emulator learns them: on one even grid of ln(wavelength), in patches."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor

from spectrolabe.config import GridsConfig
from spectrolabe.errors import InputError
from spectrolabe.models.emulator import Basis
from spectrolabe.spectra.observe import Instrument, observation_operator
from spectrolabe.synthesis.grid import Grid, read_grid

__all__ = ["Native", "apart", "fit_basis", "grid_digests", "latents", "native_spectra"]

PER_FWHM = 3.0  # pixels
CHUNK = 64  # spectra decoded at a time
SHARE = 0.2  # of the squares that a basis is fitted to: what the labels change, to the spectra
LEAST = 2e-4  # of the flux: labels that change less count as if they changed so much
SPARE = 16  # directions beyond those kept, for a randomised decomposition to be accurate


@dataclass(frozen=True, eq=False)
class Native:
    """Spectra of N stars in P patches of W pixels, and what L labels change of S of them.

    Parameters
    ----------
    start, step : float
        ln(wavelength / Å) of the first pixel, and from pixel to pixel.
    names : tuple of str
        L labels.
    labels : ndarray, shape (N, L)
    flux : ndarray, shape (N, P, W), float32
        Over the continuum.
    continuum : ndarray, shape (N, P)
        log10 of the continuum (erg/s/cm2/Å) at the centres of the patches.
    rows : ndarray of int, shape (S,)
        Stars with differential spectra.
    steps : ndarray, shape (S, L)
        Change of a label; 0 where its differential spectrum is not known.
    change : ndarray, shape (S, L, P, W), float32
        What that step changes of the flux.
    about : tuple of mapping
        Name, digest and number of stars of every grid; flags and how many stars have them.
    """

    start: float
    step: float
    names: tuple[str, ...]
    labels: NDArray
    flux: NDArray
    continuum: NDArray
    rows: NDArray
    steps: NDArray
    change: NDArray
    about: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, eq=False)
class _Source:
    """One of the grids, and the way from its pixels to the native ones."""

    path: Path
    grid: Grid
    operator: sp.csr_array

    def flux(self, rows: NDArray) -> NDArray:
        """Native flux of some stars, shape (n, P W)."""
        parts = [
            (self.operator @ np.asarray(self.grid.flux[rows[i : i + CHUNK]], np.float32).T).T
            for i in range(0, len(rows), CHUNK)
        ]
        found = np.concatenate(parts)
        if not np.isfinite(found).all():
            raise InputError(self.path, expected="finite spectra", found="some that are not")
        return found

    def continuum(self, rows: NDArray, log_wavelength: NDArray) -> NDArray:
        """log10 of the continuum of some stars, between its two pixels, shape (n, P)."""
        x = np.log(self.grid.wavelength)
        right = np.clip(np.searchsorted(x, log_wavelength), 1, len(x) - 1)
        part = (log_wavelength - x[right - 1]) / (x[right] - x[right - 1])
        found = []
        for i in range(0, len(rows), CHUNK):
            values = np.asarray(self.grid.continuum[rows[i : i + CHUNK]], np.float64)
            found.append(values[:, right - 1] * (1 - part) + values[:, right] * part)
        return np.asarray(np.log10(np.concatenate(found)))

    def change(self, row: int, names: Sequence[str]) -> tuple[NDArray, NDArray]:
        """Steps of a star, shape (L,), and what they change, (L, P W); 0 where not known."""
        grid = self.grid
        assert grid.differential is not None
        slopes = np.asarray(grid.differential[row], np.float32)
        steps = np.zeros(len(names))
        change = np.zeros((len(names), self.operator.shape[0]), np.float32)
        known = np.isfinite(slopes).all(axis=1) & np.isfinite(grid.differential_steps[row])
        use = [i for i, name in enumerate(grid.differential_names) if known[i] and name in names]
        where = [names.index(grid.differential_names[i]) for i in use]
        steps[where] = grid.differential_steps[row, use]
        change[where] = (self.operator @ slopes[use].T).T * steps[where, None]
        return steps, change


def native_spectra(config: GridsConfig, *, slopes: bool = True) -> Native:
    """Read grids, each of any sampling, and bring their spectra to the native pixels.

    Parameters
    ----------
    config : GridsConfig
    slopes : bool
        With the differential spectra; rows of them that are not finite are left out.

    Raises
    ------
    InputError
        If there is no grid, or one has other labels, does not cover the wavelengths or is too
        coarse for the resolution.
    """
    if not config.grids:
        raise InputError("grids.grids", expected="one grid or more", found="none")
    span = np.log([config.low, config.high])
    if not span[1] > span[0]:
        raise InputError(
            "grids.low, grids.high", expected="low < high", found=f"{config.low}, {config.high}"
        )
    width = config.patch_pixels
    patches = int(np.ceil((span[1] - span[0]) * PER_FWHM * config.resolution / width - 1e-9))
    step = float(span[1] - span[0]) / (patches * width)
    start = float(span[0]) + 0.5 * step
    pixel = start + step * np.arange(patches * width)
    sources = [_source(Path(path), pixel, config.resolution) for path in config.grids]
    names = sources[0].grid.labels.names
    for one in sources[1:]:
        if set(one.grid.labels.names) != set(names):
            raise InputError(
                one.path,
                expected=f"the labels of {sources[0].path.name}: {', '.join(names)}",
                found=", ".join(one.grid.labels.names),
            )
    chosen = _chosen([one.grid for one in sources], config.stars)
    centre = pixel.reshape(patches, width).mean(axis=1)
    labels: list[NDArray] = []
    flux, continuum, rows, steps, change = [], [], [], [], []
    for one, stars in zip(sources, chosen, strict=True):
        if not len(stars):
            continue
        before = sum(len(part) for part in labels)
        labels.append(one.grid.labels.take(stars).select(names).values)
        flux.append(one.flux(stars))
        continuum.append(one.continuum(stars, centre))
        if slopes and one.grid.differential is not None:
            pairs = [one.change(int(star), names) for star in stars]
            rows.append(before + np.arange(len(stars)))
            steps.append(np.stack([pair[0] for pair in pairs]))
            change.append(np.stack([pair[1] for pair in pairs]))
    shape = (-1, patches, width)
    none = np.empty((0, len(names)))
    return Native(
        start,
        step,
        names,
        np.concatenate(labels),
        np.concatenate(flux).reshape(shape),
        np.concatenate(continuum),
        np.concatenate([*rows, none[:, 0]]).astype(int),
        np.concatenate([*steps, none]),
        np.concatenate(change).reshape(-1, len(names), patches, width)
        if change
        else np.empty((0, len(names), patches, width), np.float32),
        tuple(_about(one, stars) for one, stars in zip(sources, chosen, strict=True)),
    )


def _source(path: Path, pixel: NDArray, resolution: float) -> _Source:
    grid = read_grid(path)
    operator = observation_operator(grid.wavelength, Instrument(np.exp(pixel), resolution))
    lost = np.flatnonzero(np.diff(operator.indptr) == 0)
    if len(lost):
        low, high = np.exp(pixel[[0, -1]])
        raise InputError(
            path,
            expected=f"spectra from {low:.1f} to {high:.1f} Å",
            found=f"none at {np.exp(pixel[lost[0]]):.1f} Å",
            fix="Give grids.low and grids.high that all grids cover.",
        )
    return _Source(path, grid, operator.astype(np.float32))


def _chosen(grids: Sequence[Grid], most: int) -> list[NDArray]:
    """Stars of each grid; those of grids with differential spectra before others."""
    left = most or sum(map(len, grids))
    count = [0] * len(grids)
    for i in sorted(range(len(grids)), key=lambda i: grids[i].differential is None):
        count[i] = min(left, len(grids[i]))
        left -= count[i]
    return [np.arange(n) for n in count]


def _about(source: _Source, stars: NDArray) -> dict[str, Any]:
    grid = source.grid
    flags = [flag for i in stars for flag in grid.flags[i]]
    return {
        "name": source.path.name,
        "sha256": _digest(grid),
        "engine": f"{grid.provenance.get('engine', '')} {grid.provenance.get('version', '')}",
        "stars": len(stars),
        "flags": {flag: flags.count(flag) for flag in sorted(set(flags))},
    }


def _digest(grid: Grid) -> str:
    made = json.dumps(dict(grid.provenance), sort_keys=True, default=str).encode()
    return hashlib.sha256(made + grid.labels.values.tobytes()).hexdigest()


def apart(labels: NDArray, fraction: float, seed: int) -> NDArray:
    """Return which stars to keep apart, shape (N,); a star is known by its labels alone.

    Parameters
    ----------
    labels : ndarray, shape (N, L)
    fraction : float
        Of the stars; if it is not 0, at least one is kept apart.
    seed : int
    """
    place = np.array(
        [zlib.crc32(f"{seed}:{np.round(row, 6).tolist()}".encode()) for row in labels], np.float64
    )
    count = max(1, round(fraction * len(labels))) if fraction else 0
    limit = np.sort(place)[count - 1] if count else -1.0
    return place <= limit


def fit_basis(
    native: Native, train: NDArray, components: int, resolution: float, seed: int = 0
) -> Basis:
    """Principal components of every patch: of the spectra, and of what labels change of them.

    Every label counts alike, however weak its lines, so that the lines of rare elements are not
    lost among the noise of the others.

    Parameters
    ----------
    native : Native
    train : ndarray of bool, shape (N,)
        Stars to fit the basis to.
    components : int
        K.
    resolution : float
        R of the spectra.
    seed : int
        Of the randomised decomposition.

    Raises
    ------
    InputError
        If there are fewer spectra, or pixels, than components.
    """
    _, patches, width = native.flux.shape
    use = train[native.rows]
    rows = int(train.sum()) + int((native.steps[use] != 0).sum())
    if components > min(rows, width):
        raise InputError(
            "emulator.components",
            expected=f"at most {min(rows, width)}: {rows} spectra with {width} pixels a patch",
            found=str(components),
        )
    offset = native.flux.mean(axis=0, where=train[:, None, None])
    factor = _factors(native, train, offset)
    torch.manual_seed(seed)
    found = torch.empty(patches, components, width)
    for patch in range(patches):
        plain = torch.from_numpy(native.flux[train, patch] - offset[patch])
        change = native.change[use, :, patch] * factor[:, None]
        both = torch.cat([plain, torch.from_numpy(change.reshape(-1, width))])
        more = min(components + SPARE, *both.shape)
        found[patch] = torch.svd_lowrank(both, q=more, niter=3)[2][:, :components].T
        spread = (plain @ found[patch].T).std(dim=0)
        found[patch] *= spread.clamp(min=1e-3 * float(spread.max()) + 1e-9)[:, None]
    log_continuum = native.continuum[train]
    return Basis(
        native.start,
        native.step,
        torch.from_numpy(offset),
        found,
        np.stack([log_continuum.mean(axis=0), np.maximum(log_continuum.std(axis=0), 1e-6)]),
        resolution,
    )


def _factors(native: Native, train: NDArray, offset: NDArray) -> NDArray:
    """Factors of the differential spectra of each label before they enter a basis, shape (L,)."""
    use = train[native.rows]
    known = (native.steps[use] != 0).sum(axis=0)
    spectra, change = 0.0, np.zeros(len(native.names))
    for patch, mean in enumerate(offset):
        spectra += float(np.square(native.flux[train, patch] - mean).sum(dtype=np.float64))
        change += np.square(native.change[use, :, patch]).sum(axis=(0, 2), dtype=np.float64)
    change = np.maximum(change, LEAST**2 * known * offset.size)
    share = SHARE * spectra / max(1, int((known > 0).sum()))
    factor = np.sqrt(share / np.where(known > 0, change, np.inf))
    return factor.astype(np.float32)


def latents(basis: Basis, flux: NDArray, *, relative: bool = False) -> Tensor:
    """Return the latents of spectra, shape (..., P, K), of flux, shape (..., P, W).

    Parameters
    ----------
    basis : Basis
    flux : ndarray
        Of spectra, or with ``relative`` of differences between spectra.
    """
    inverse = basis.components / basis.components.square().sum(dim=-1, keepdim=True)
    values = flux.reshape(-1, *flux.shape[-2:])
    found = torch.empty(len(values), *inverse.shape[:2])
    for i in range(0, len(values), CHUNK):
        part = torch.from_numpy(np.ascontiguousarray(values[i : i + CHUNK]))
        part = part if relative else part - basis.offset
        found[i : i + CHUNK] = torch.einsum("npw,pkw->npk", part, inverse)
    return found.reshape(*flux.shape[:-1], inverse.shape[1])


def grid_digests(config: GridsConfig) -> list[str]:
    """Return a digest of each grid: how it was made, and of which stars."""
    return [_digest(read_grid(path)) for path in config.grids]
