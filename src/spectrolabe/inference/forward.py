"""Model spectra of stars compared with the observed ones: chi2, its gradient and its curvature."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spectrolabe.errors import InputError
from spectrolabe.inference.data import Data, clipped, tempered, with_model_error
from spectrolabe.inference.levenberg import Local
from spectrolabe.inference.normal import (
    FIRST_ROUNDS,
    ROUNDS,
    Solved,
    normal_equations,
    solve_continuum,
)
from spectrolabe.inference.pieces import Piece
from spectrolabe.inference.priors import Priors
from spectrolabe.models.emulator import Emulator
from spectrolabe.spectra.sampling import sample
from spectrolabe.spectra.wavelength import SPEED_OF_LIGHT

__all__ = ["Best", "Forward", "Problem", "Robust"]

NARROWEST, WIDEST, USUAL = 0.5, 200.0, 5.0  # km/s: range and start of v_broad
V_BROAD_SPREAD = 5.0  # km/s
LEAST_ROOM = 30.0  # km/s about its start in which a velocity is looked for, or
ROOM = 0.7  # FWHM of the instrument, if that is more
CHUNK, FLUXES = 16, 64  # points computed at once, with slopes and without
# how far from where slopes were computed a point may be: in half of chi2, and in largest steps
NEAR, LITTLE = 0.25, 0.2


class Robust(IntEnum):
    """What becomes of pixels that do not fit."""

    HUBER = 0  # they count less
    CLIP = 1  # found at the next evaluation, and left out from then on; weights become final
    PLAIN = 2  # all that are left count as they are


class Rendered(NamedTuple):
    """A piece of n stars: flux and slopes with labels (n, 1 + J, M), and two more slopes (n, M)."""

    flux: NDArray
    rv_slope: NDArray
    broad_slope: NDArray


class Slopes(NamedTuple):
    """Slopes of a star with its labels, and where they were computed.

    Parameters
    ----------
    parameters : ndarray, shape (P,)
    curvature : ndarray, shape (P, P)
    pieces : list of ndarray, shape (J, M)
    """

    parameters: NDArray
    curvature: NDArray
    pieces: list[NDArray]

    def hold(self, parameters: NDArray, largest: NDArray) -> bool:
        """Return whether a point is so near that slopes have hardly changed."""
        away = parameters - self.parameters
        small = (np.abs(away) < LITTLE * largest).all()
        return bool(small and 0.5 * (away @ self.curvature @ away) < NEAR)


class Best(NamedTuple):
    """The best model of a piece: flux (M,) without continuum, the continuum, and the data."""

    flux: NDArray
    solved: Solved
    data: Data


class Forward:
    """Stars whose spectra are of the same kinds, and can be computed together.

    The parameters of a star are its J labels, the square of ``v_broad`` if that is fitted (the
    spectrum depends smoothly on it, also at 0), and a velocity for each spectrum.

    Parameters
    ----------
    emulators : sequence of Emulator
        With the same labels.
    pieces : sequence of sequence of Piece
        Of N stars, each with pieces of the same kinds.
    labels : array_like, shape (N, L)
        All labels of the emulators; those not fitted stay at these values.
    columns : sequence of int
        The J labels that are fitted.
    shift : array_like, shape (N, S)
        Velocities to begin with, km/s.
    fit_broadening : bool
        Otherwise ``v_broad`` is 0.
    priors : Priors
    """

    def __init__(
        self,
        emulators: Sequence[Emulator],
        pieces: Sequence[Sequence[Piece]],
        labels: ArrayLike,
        columns: Sequence[int],
        shift: ArrayLike,
        *,
        fit_broadening: bool,
        priors: Priors,
    ) -> None:
        self.emulators, self.pieces, self.priors = emulators, pieces, priors
        self.labels = np.array(labels, dtype=np.float64)
        self.columns, self.broad = list(columns), int(fit_broadening)
        self.restart()
        if any([p.kind for p in star] != [p.kind for p in pieces[0]] for star in pieces):
            raise InputError("stars", expected="spectra of the same kinds", found="others")
        shift = np.asarray(shift, dtype=np.float64)
        low, high = (getattr(emulators[0], key)[self.columns] for key in ("low", "high"))
        room = self._room(shift.shape[1])
        wide, ones = [USUAL**2] * self.broad, np.ones((len(shift), 1))
        start = np.clip(self.labels[:, self.columns], low, high)
        self.start = np.hstack([start, ones * wide, shift])
        self.low = np.hstack([ones * low, ones * ([NARROWEST**2] * self.broad), shift - room])
        self.high = np.hstack([ones * high, ones * ([WIDEST**2] * self.broad), shift + room])

    @property
    def largest(self) -> NDArray:
        """By how much parameters may change in one step, shape (P,): labels, by their spread."""
        others = np.full(self.start.shape[1] - len(self.columns), np.inf)
        return np.append(self.emulators[0].spread[self.columns], others)

    def restart(self) -> None:
        """Forget which pixels do not fit, and slopes."""
        self.data: list[list[Data]] = [[piece.data for piece in star] for star in self.pieces]
        self.weight: list[list[NDArray | None]] = [[None] * len(star) for star in self.pieces]
        self.robust = np.full(len(self.pieces), Robust.HUBER)
        self.slopes: list[Slopes | None] = [None] * len(self.pieces)

    def _room(self, spectra: int) -> NDArray:
        room = np.full(spectra, LEAST_ROOM)
        for piece in self.pieces[0]:
            width = ROOM * SPEED_OF_LIGHT / piece.resolution
            room[piece.spectrum] = max(room[piece.spectrum], width)
        return room

    @property
    def names(self) -> tuple[str, ...]:
        """The J labels, and ``v_broad`` if it is fitted."""
        labels = tuple(self.emulators[0].names[c] for c in self.columns)
        return (*labels, "v_broad") if self.broad else labels

    def v_broad(self, parameters: NDArray) -> NDArray:
        """Return the broadening of parameters, shape (n, P), in km/s."""
        if not self.broad:
            return np.zeros(len(parameters))
        return np.sqrt(parameters[:, len(self.columns)])

    def full_labels(self, rows: NDArray, parameters: NDArray) -> NDArray:
        """Return all labels, shape (n, L)."""
        full = self.labels[rows]
        full[:, self.columns] = parameters[:, : len(self.columns)]
        return full

    def render(self, rows: NDArray, parameters: NDArray, *, slopes: bool) -> Iterator[Rendered]:
        """Yield each piece of the stars, without continuum.

        Parameters
        ----------
        rows : ndarray, shape (n,), int
            Which stars; one may be there many times.
        parameters : ndarray, shape (n, P)
        slopes : bool
            Whether those with labels are wanted.
        """
        labels, v_broad = self.full_labels(rows, parameters), self.v_broad(parameters)
        first_rv = len(self.columns) + self.broad
        columns = self.columns if slopes else []
        splines: dict[int, NDArray] = {}
        for p, piece in enumerate(self.pieces[0]):
            projection = piece.projection
            if id(projection) not in splines:
                splines[id(projection)] = projection.coefficients(labels, columns)
            yield Rendered(
                *sample(
                    splines[id(projection)],
                    projection.start,
                    projection.step,
                    self._pixels(rows, p),
                    rv=parameters[:, first_rv + piece.spectrum],
                    v_broad=v_broad,
                )
            )

    def _pixels(self, rows: NDArray, p: int) -> NDArray:
        grids = [self.pieces[n][p].log_wavelength for n in rows]
        if all(grid is grids[0] for grid in grids):
            return grids[0]
        return np.stack(grids)

    def evaluate(self, rows: NDArray, parameters: NDArray) -> Local:
        """Return half of chi2 with the priors, its gradient and curvature; continua eliminated.

        Parameters
        ----------
        rows : ndarray, shape (n,), int
        parameters : ndarray, shape (n, P)
        """
        rows, parameters = np.asarray(rows), np.asarray(parameters, dtype=np.float64)
        local = self._prior(rows, parameters)
        known = [self.slopes[n] for n in rows]
        largest = self.largest
        held = np.array(
            [k is not None and k.hold(x, largest) for k, x in zip(known, parameters, strict=True)]
        )
        for fresh, some in ((True, np.flatnonzero(~held)), (False, np.flatnonzero(held))):
            size = CHUNK if fresh else FLUXES
            for k in range(0, len(some), size):
                part = some[k : k + size]
                self._add(rows[part], parameters[part], fresh, local, part)
        return local

    def _add(
        self, rows: NDArray, parameters: NDArray, fresh: bool, local: Local, where: NDArray
    ) -> None:
        """Add what the spectra say to rows of ``local``, with slopes computed anew or kept."""
        labels = len(self.columns)
        width = 2.0 * self.v_broad(parameters).astype(np.float32)
        slopes: list[list[NDArray]] = [[] for _ in rows]
        for p, rendered in enumerate(self.render(rows, parameters, slopes=fresh)):
            rv = labels + self.broad + self.pieces[0][p].spectrum
            own = [*range(labels + self.broad), rv]
            none = rendered.broad_slope[:0]
            for i, n in enumerate(rows):
                kept = self.slopes[n]
                slope = rendered.flux[i, 1:].copy() if fresh or kept is None else kept.pieces[p]
                slopes[i].append(slope)
                solved = self._solve(n, p, rendered.flux[i, 0])
                broad = rendered.broad_slope[i : i + 1] / width[i] if self.broad else none
                blocks = slope, broad, rendered.rv_slope[i : i + 1]
                gradient, curvature = normal_equations(self.data[n][p], solved, blocks)
                local.value[where[i]] += solved.value
                local.gradient[where[i], own] += gradient
                local.curvature[where[i]][np.ix_(own, own)] += curvature
        if fresh:
            for i, n in enumerate(rows):
                at = parameters[i].copy(), local.curvature[where[i]].copy()
                self.slopes[n] = Slopes(*at, slopes[i])
        self.robust[rows[self.robust[rows] == Robust.CLIP]] = Robust.PLAIN

    def _prior(self, rows: NDArray, parameters: NDArray) -> Local:
        full = self.full_labels(rows, parameters)
        residual, slope = self.priors.residuals(self.emulators[0].names, full, self.columns)
        count, fitted = parameters.shape
        labels = len(self.columns)
        gradient, curvature = np.zeros((count, fitted)), np.zeros((count, fitted, fitted))
        gradient[:, :labels] = np.einsum("nq,nqj->nj", residual, slope)
        curvature[:, :labels, :labels] = np.einsum("nqj,nqk->njk", slope, slope)
        return Local(0.5 * (residual**2).sum(axis=1), gradient, curvature)

    def _solve(self, n: int, p: int, flux: NDArray) -> Solved:
        """The continuum of a piece, and what the state of the star asks for."""
        if self.robust[n] == Robust.PLAIN:
            return solve_continuum(self.data[n][p], flux, None, robust=False)
        weight, rounds = self.weight[n][p], ROUNDS
        if weight is None or self.robust[n] == Robust.CLIP:
            self.data[n][p] = with_model_error(self.data[n][p], flux)
            rounds = FIRST_ROUNDS
        solved = solve_continuum(self.data[n][p], flux, weight, robust=True, rounds=rounds)
        if weight is None:
            self.weight[n][p] = solved.weight
        if self.robust[n] == Robust.CLIP:
            data = clipped(self.data[n][p], solved.residual)
            rough = solve_continuum(data, flux, None, robust=False)
            taken = data.basis.size + self.start.shape[1] / len(self.data[n])
            self.data[n][p] = tempered(data, 2.0 * rough.value, taken)
            return solve_continuum(self.data[n][p], flux, None, robust=False)
        return solved

    def best(self, rows: NDArray, parameters: NDArray) -> list[list[Best]]:
        """Return the best model of every piece of the stars at these parameters."""
        result: list[list[Best]] = [[] for _ in rows]
        for k in range(0, len(rows), FLUXES):
            some = rows[k : k + FLUXES]
            rendered = self.render(some, parameters[k : k + FLUXES], slopes=False)
            for p, one in enumerate(rendered):
                for i, n in enumerate(some):
                    solved = self._solve(n, p, one.flux[i, 0])
                    result[k + i].append(Best(one.flux[i, 0].copy(), solved, self.data[n][p]))
        return result

    def prior_precision(self, parameters: NDArray) -> NDArray:
        """Return what the priors add to the curvature, shape (N, P, P)."""
        return self._prior(np.arange(len(self.pieces)), parameters).curvature

    def used(self, n: int) -> int:
        """Return how many pixels of a star count."""
        return sum(int(np.count_nonzero(data.root)) for data in self.data[n])

    def clipped(self, n: int) -> int:
        """Return how many pixels of a star were found not to fit."""
        return sum(int(np.count_nonzero(p.data.root)) for p in self.pieces[n]) - self.used(n)


class Problem:
    """The posterior of one star, for methods that only ask for its value.

    Continua and velocities are at their best for each set of labels; velocities are solved for by
    one step from where they are, which is exact near the minimum.

    Parameters
    ----------
    forward : Forward
    row : int
        Which of its stars.
    parameters : ndarray, shape (P,), optional
        Of a fit that was done; otherwise the start.

    Attributes
    ----------
    names : tuple of str
        The J labels that are fitted, then ``v_broad`` (km/s) if it is.
    low, high, start, spread : ndarray
        Range, best known values, and usual scatter of the parameters.
    """

    def __init__(self, forward: Forward, row: int, parameters: NDArray | None = None) -> None:
        self.forward, self.row = forward, row
        self.names = forward.names
        self._labels, self._count = len(forward.columns), len(self.names)
        at = forward.start[row] if parameters is None else np.asarray(parameters, dtype=np.float64)
        self._velocities = at[self._count :]
        limits = forward.low[row], forward.high[row]
        self.start, self.low, self.high = map(self.outwards, (at, *limits))
        spread = forward.emulators[0].spread[forward.columns]
        self.spread = np.append(spread, [V_BROAD_SPREAD] * forward.broad)

    def outwards(self, parameters: NDArray) -> NDArray:
        """Return theta, shape (J,), of the parameters of `Forward`."""
        theta = parameters[: self._count].copy()
        theta[self._labels :] = np.sqrt(theta[self._labels :])
        return theta

    def inwards(self, theta: NDArray) -> NDArray:
        """Return the parameters of `Forward`, shape (P,), velocities included."""
        parameters = np.append(theta, self._velocities)
        parameters[self._labels : self._count] **= 2
        return parameters

    def outwards_covariance(self, covariance: NDArray) -> NDArray:
        """Return the covariance of theta, shape (J, J), of that of the parameters at the start."""
        factor = self._factor()
        return covariance[: self._count, : self._count] / (factor[:, None] * factor)

    def inwards_covariance(self, covariance: NDArray) -> NDArray:
        """Return the opposite of `outwards_covariance`, without velocities."""
        factor = self._factor()
        return covariance * (factor[:, None] * factor)

    def _factor(self) -> NDArray:
        """d parameters / d theta."""
        return np.append(np.ones(self._labels), 2.0 * self.start[self._labels :])

    def minus_log_posterior(self, theta: ArrayLike) -> NDArray:
        """Return -ln(posterior) but for a constant, shape (K,).

        Parameters
        ----------
        theta : array_like, shape (K, J)
            In the order of ``names``; inside ``low`` and ``high``.
        """
        points = np.atleast_2d(np.array(theta, dtype=np.float64))
        if points.shape[1] != self._count:
            raise InputError(
                "theta",
                expected=f"shape (points, {self._count}): {', '.join(self.names)}",
                found=f"shape {points.shape}",
            )
        points[:, self._labels :] **= 2
        velocities = np.broadcast_to(self._velocities, (len(points), len(self._velocities)))
        parameters = np.hstack([points, velocities])
        parts = [self._values(parameters[k : k + FLUXES]) for k in range(0, len(points), FLUXES)]
        return np.concatenate(parts) if parts else np.empty(0)

    def _values(self, parameters: NDArray) -> NDArray:
        forward, row = self.forward, self.row
        rows = np.full(len(parameters), row)
        value = forward._prior(rows, parameters).value
        spectra = len(self._velocities)
        gradient, curvature = np.zeros((len(rows), spectra)), np.zeros((len(rows), spectra))
        for p, rendered in enumerate(forward.render(rows, parameters, slopes=False)):
            s = forward.pieces[row][p].spectrum
            for i in range(len(rows)):
                solved = forward._solve(row, p, rendered.flux[i, 0])
                slope, bend = normal_equations(
                    forward.data[row][p], solved, (rendered.rv_slope[i : i + 1],)
                )
                value[i] += solved.value
                gradient[i, s] += slope[0]
                curvature[i, s] += bend[0, 0]
        low, high = forward.low[row, self._count :], forward.high[row, self._count :]
        known = curvature * (high - low) ** 2 > 1.0
        step = np.where(known, -gradient / np.where(known, curvature, 1.0), 0.0)
        step = np.clip(step, low - self._velocities, high - self._velocities)
        return value + (gradient * step + 0.5 * curvature * step**2).sum(axis=1)
