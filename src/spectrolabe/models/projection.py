"""An emulator seen through an instrument: its basis at the instrument's resolution, as splines.

What an instrument does to flux is linear, and so is flux in the latents. The line-spread function
therefore acts once on the components of each patch, on a grid that is only as fine as the
instrument needs; a star then costs one small product for each patch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from spectrolabe.errors import InputError, unknown_name
from spectrolabe.models.emulator import Emulator
from spectrolabe.spectra.broadening import FWHM, lsf_variance, velocity_variance
from spectrolabe.spectra.grid import checked_grid
from spectrolabe.spectra.sampling import (
    MARGIN,
    REACH,
    sample,
    smoothed,
    spline_coefficients,
)
from spectrolabe.spectra.wavelength import SPEED_OF_LIGHT, doppler_shift

__all__ = ["Projection", "cubic_weights", "emulated_flux", "emulated_jacobian"]

SAMPLING = 4.0  # points of the grid per FWHM of the instrument
ROWS = 128  # spectra at a time, so that a patch of them stays in the cache
NEGLIGIBLE = 1e-6  # of the flux, root mean square: what mixtures may leave out
ROUND = 0.002  # in ln(wavelength): steps in which the range of a projection grows
NEAR = 1e-9  # wavelengths nearer than this, in ln(wavelength), are the same


@dataclass(frozen=True, eq=False)
class Projection:
    """Latents of an emulator to spectra at the resolution of an instrument.

    Parameters
    ----------
    emulator : Emulator
    patches : slice
        The P' patches of the emulator that it needs.
    start, step : float
        ln(wavelength / Å) at rest of the first coefficient, and from one to the next.
    size : int
        J coefficients.
    points : int
        Coefficients per patch.
    margin : int
        By how many each patch reaches into its neighbours.
    offset : Tensor, shape (J,)
    components : Tensor, shape (P', r, points + 2 margin)
        Of mixtures of latents: an instrument of low R needs fewer than there are latents.
    readout : object
        What makes those mixtures of the network of the emulator.
    """

    emulator: Emulator
    patches: slice
    start: float
    step: float
    size: int
    points: int
    margin: int
    offset: Tensor
    components: Tensor
    readout: Any

    @classmethod
    def of(
        cls,
        emulator: Emulator,
        low: float,
        high: float,
        resolution: float | tuple[ArrayLike, ArrayLike],
        *,
        room: float = 1000.0,
    ) -> Projection:
        """Return the projection for a range of wavelength.

        Parameters
        ----------
        emulator : Emulator
        low, high : float
            Vacuum Angstrom at rest: the range of the pixels.
        resolution : float or (wavelength, R)
            R = wavelength / FWHM, one or as a table that ascends in wavelength; beyond the table R
            is that of its end. A star's velocity moves lines within the table by little: that is
            neglected.
        room : float
            km/s on both sides for velocity and broadening, as far as the emulator reaches.

        Raises
        ------
        InputError
            If the emulator does not hold the range, or R is higher than its own.

        Notes
        -----
        Beyond the ends of the emulator its last pixel is repeated, so that flux within a FWHM of
        them is approximate.
        """
        basis = emulator.basis
        count, width = basis.offset.shape
        low_x, high_x = _checked_range(emulator, low, high, room / SPEED_OF_LIGHT)
        table = _table(resolution)
        x_table, r_table = table
        inside = (x_table >= low_x) & (x_table <= high_x)
        ends = np.interp([low_x, high_x], x_table, r_table)
        highest = float(max(ends.max(), r_table[inside].max(initial=0.0)))
        lowest = float(min(ends.min(), r_table[inside].min(initial=np.inf)))
        if highest > basis.resolution * (1 + 1e-9):
            raise InputError(
                "resolution",
                expected=f"R up to {basis.resolution:g}, that of the emulator",
                found=f"{highest:g}",
                fix="Degrade the spectrum with convolve_lsf, or use another emulator.",
            )

        points = int(min(np.ceil(width * basis.step * SAMPLING * highest), width))
        ratio = width / points  # native steps in one of the grid
        reach = REACH / FWHM / lowest / basis.step  # in native steps
        first = max(int((low_x - basis.start) / basis.step - reach - 3 * ratio) // width, 0)
        last = min(int((high_x - basis.start) / basis.step + reach + 3 * ratio) // width, count - 1)
        margin = int(np.ceil(reach / ratio)) + MARGIN
        extra = int(np.ceil(margin * ratio + reach)) + MARGIN

        patches = slice(first, last + 1)
        start = basis.start + (first * width - margin * ratio) * basis.step
        step = ratio * basis.step
        size = (last + 1 - first) * points + 2 * margin
        node = start + step * np.arange(size)
        at = np.minimum(np.interp(node, x_table, r_table), highest)
        sigma = np.sqrt(lsf_variance(at, basis.resolution)) / basis.step
        position = np.arange(-margin, points + margin) * ratio + extra

        offset = basis.offset[patches].double().numpy().reshape(1, -1)
        filled = spline_coefficients(np.pad(offset, ((0, 0), (extra, extra)), mode="edge"))
        everywhere = np.arange(-margin, size - margin) * ratio + extra
        mean = spline_coefficients(smoothed(filled, everywhere, sigma))[0]

        components = np.empty((last + 1 - first, basis.components.shape[1], len(position)))
        for p, native in enumerate(basis.components[patches].double().numpy()):
            padded = np.pad(native, ((0, 0), (extra, extra)))
            if p == 0:
                padded[:, :extra] = native[:, :1]
            if p == last - first:
                padded[:, -extra:] = native[:, -1:]
            rows = slice(p * points, p * points + len(position))
            components[p] = smoothed(spline_coefficients(padded), position, sigma[rows])
        mixing, components = _mixtures(components)
        device = emulator.device
        there = lambda a: torch.from_numpy(a.astype(np.float32)).to(device)  # noqa: E731
        return cls(
            emulator,
            patches,
            start,
            step,
            size,
            points,
            margin,
            there(mean),
            there(spline_coefficients(components)),
            emulator.network.readout(patches, there(mixing)),
        )

    def coefficients(self, labels: ArrayLike, columns: Sequence[int] | None = None) -> NDArray:
        """Return splines for `sample`, shape (N, 1 + J, size), float32: flux, then its slopes.

        Parameters
        ----------
        labels : array_like, shape (N, L)
        columns : sequence of int, optional
            The J labels; all if not given.
        """
        rows = self.emulator.latents_and_slopes(labels, columns, self.readout)
        return self.splines(rows).cpu().numpy()

    def splines(self, rows: Tensor) -> Tensor:
        """Return the same of what the readout gives, shape (N, 1 + J, P', r)."""
        splines = rows.new_zeros(*rows.shape[:2], self.size)
        splines[:, 0] = self.offset
        wide = self.components.shape[2]
        for some, into in zip(
            rows.flatten(0, 1).split(ROWS), splines.view(-1, self.size).split(ROWS), strict=True
        ):
            for p, components in enumerate(self.components):
                begin = p * self.points
                into[:, begin : begin + wide].addmm_(some[:, p], components)
        return splines


def _mixtures(components: NDArray) -> tuple[NDArray, NDArray]:
    """Factors (P', K, r) and (P', r, W) of components (P', K, W), r as small as their rank is."""
    left, size, right = np.linalg.svd(components, full_matrices=False)
    lost = np.sqrt(np.cumsum(size[:, ::-1] ** 2, axis=1)[:, ::-1] / components.shape[2])
    rank = max(1, int((lost > NEGLIGIBLE).sum(axis=1).max()))
    return left[:, :, :rank] * size[:, None, :rank], right[:, :rank]


def emulated_flux(
    emulator: Emulator,
    labels: ArrayLike,
    wavelength: ArrayLike,
    resolution: ArrayLike,
    *,
    rv: float = 0.0,
    v_broad: float = 0.0,
) -> NDArray:
    """Return normalised flux as an instrument would see it; see `Emulator.flux`."""
    grid, projection = _projection(emulator, wavelength, resolution, rv, v_broad)
    flux, _, _ = sample(
        projection.coefficients(labels, []),
        projection.start,
        projection.step,
        np.log(grid),
        rv=rv,
        v_broad=v_broad,
    )
    return flux[:, 0]


def emulated_jacobian(
    emulator: Emulator,
    labels: ArrayLike,
    wavelength: ArrayLike,
    resolution: ArrayLike,
    *,
    names: Sequence[str] | None = None,
    rv: float = 0.0,
    v_broad: float = 0.0,
) -> tuple[NDArray, NDArray]:
    """Return flux and its slopes with labels; see `Emulator.jacobian`."""
    columns = None if names is None else [_column(emulator, name) for name in names]
    grid, projection = _projection(emulator, wavelength, resolution, rv, v_broad)
    flux, _, _ = sample(
        projection.coefficients(labels, columns),
        projection.start,
        projection.step,
        np.log(grid),
        rv=rv,
        v_broad=v_broad,
    )
    return flux[:, 0], flux[:, 1:]


def _column(emulator: Emulator, name: str) -> int:
    if name not in emulator.names:
        raise unknown_name("names", name, emulator.names, kind="label of the emulator")
    return emulator.names.index(name)


def _projection(
    emulator: Emulator, wavelength: ArrayLike, resolution: ArrayLike, rv: float, v_broad: float
) -> tuple[NDArray, Projection]:
    grid = checked_grid("wavelength", wavelength)
    value = np.asarray(resolution, dtype=np.float64)
    if value.shape not in ((), grid.shape):
        raise InputError(
            "resolution", expected=f"one R, or shape {grid.shape}", found=f"shape {value.shape}"
        )
    one = float(doppler_shift(1.0, rv))
    room = REACH * np.sqrt(velocity_variance(v_broad))
    low, high = _checked_range(emulator, grid[0] / one, grid[-1] / one, room)
    # rounded outwards, so that a small change of velocity finds the projection again
    low = max(np.floor(low / ROUND) * ROUND, np.log(emulator.wavelength[0]))
    high = min(np.ceil(high / ROUND) * ROUND, np.log(emulator.wavelength[-1]))
    table = (tuple(grid.tolist()), tuple(value.tolist())) if value.ndim else float(value)
    return grid, _kept(emulator, float(np.exp(low)), float(np.exp(high)), table)


@lru_cache(maxsize=8)
def _kept(
    emulator: Emulator,
    low: float,
    high: float,
    table: float | tuple[tuple[float, ...], tuple[float, ...]],
) -> Projection:
    return Projection.of(emulator, low, high, table, room=0.0)


def _checked_range(emulator: Emulator, low: float, high: float, room: float) -> tuple[float, float]:
    """ln of the range, which lies inside the emulator, with as much room as there is."""
    first, last = emulator.wavelength[0], emulator.wavelength[-1]
    if not (first * (1 - NEAR) <= low <= high <= last * (1 + NEAR)):
        raise InputError(
            "wavelength",
            expected=f"{first:.1f} to {last:.1f} Å at rest, the range of the emulator",
            found=f"{low:.1f} to {high:.1f} Å",
            fix="Leave out the pixels beyond it, or use an emulator of that range.",
        )
    return float(np.log(max(low * (1 - room), first))), float(np.log(min(high * (1 + room), last)))


def _table(resolution: float | tuple[ArrayLike, ArrayLike]) -> tuple[NDArray, NDArray]:
    """ln(wavelength) and R, both of shape (A,)."""
    if isinstance(resolution, tuple):
        grid = checked_grid("wavelength of the resolution", resolution[0])
        value = np.asarray(resolution[1], dtype=np.float64)
    else:
        grid, value = np.array([1.0]), np.array([resolution], dtype=np.float64)
    if value.shape != grid.shape or not (np.isfinite(value) & (value > 0)).all():
        raise InputError(
            "resolution",
            expected=f"a positive, finite R for each of {len(grid)} wavelengths",
            found=f"shape {value.shape}, {np.min(value)} to {np.max(value)}",
        )
    return np.log(grid), value


def cubic_weights(share: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the weights of four cubic B-splines between the second and the third of them.

    Parameters
    ----------
    share : Tensor
        Of the way from the second to the third, 0 to 1.
    """
    rest = 1.0 - share
    w0, w3 = rest**3 / 6.0, share**3 / 6.0
    w1 = 2.0 / 3.0 - share * share * (1.0 - 0.5 * share)
    return w0, w1, 1.0 - w0 - w1 - w3, w3
