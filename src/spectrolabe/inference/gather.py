"""The fits of single stars put together: arrays over stars, flags, and the model spectra."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spectrolabe.catalogue import LabelFlag, ResultFlag
from spectrolabe.errors import InputError, unknown_name
from spectrolabe.inference.checks import Finding, check_fit, check_labels, check_velocity, combined
from spectrolabe.inference.pieces import Piece
from spectrolabe.inference.priors import Priors
from spectrolabe.inference.result import FitResult, ModelSpectrum
from spectrolabe.inference.solve import METHODS, Solution
from spectrolabe.labels import label
from spectrolabe.models.emulator import Emulator
from spectrolabe.spectra import Frame, Spectrum
from spectrolabe.spectra.wavelength import SPEED_OF_LIGHT

__all__ = ["Setup", "gathered"]

POOR = 3.0  # reduced chi2, with the errors of the model in it; 2.2 is the most of 90 LAMOST stars
MANY = 0.1  # fraction of the pixels
# of the width of its prior, and of the training labels: a label known worse than that is told by
# the prior, or by what stars usually are, not by the spectrum
INFORMED = 0.5


@dataclass(frozen=True, eq=False)
class Setup:
    """What is fitted with what, checked.

    Parameters
    ----------
    emulators : tuple of Emulator
    columns : tuple of int
        The J labels that are fitted, among the L of the emulators.
    fixed : Mapping of str to ndarray
    priors : Priors
    """

    emulators: tuple[Emulator, ...]
    columns: tuple[int, ...]
    fixed: Mapping[str, NDArray]
    priors: Priors

    @classmethod
    def of(
        cls,
        emulators: Sequence[Emulator],
        labels: Sequence[str] | None,
        fixed: Mapping[str, ArrayLike] | None,
        priors: str | Mapping[str, tuple[float, float]] | Priors,
        stars: int,
        method: str,
    ) -> Setup:
        """Check what a user gave; see `fit`."""
        known = _common_names(emulators)
        if method not in METHODS:
            raise unknown_name("method", method, METHODS, kind="method")
        held = {
            name: np.broadcast_to(np.asarray(value, dtype=np.float64), (stars,))
            for name, value in (fixed or {}).items()
        }
        names = [name for name in known if name not in held] if labels is None else list(labels)
        for name in (*names, *held):
            label(name)
            if name not in known:
                raise unknown_name("fit", name, known, kind="label of the emulator")
        for name, value in held.items():
            _check_held(name, value, emulators)
        twice = [name for name in names if names.count(name) > 1 or name in held]
        if twice or (not names and labels is None):
            raise InputError(
                "labels",
                expected="labels to be fitted, each once, and none of them fixed",
                found=", ".join(dict.fromkeys(twice)) + " more than once" if twice else "none",
            )
        columns = tuple(known.index(name) for name in names)
        return cls(tuple(emulators), columns, held, Priors.of(priors, emulators[0]))

    @property
    def all_names(self) -> tuple[str, ...]:
        """All labels of the emulators."""
        return self.emulators[0].names

    @property
    def names(self) -> tuple[str, ...]:
        """The labels that are fitted."""
        return tuple(self.all_names[c] for c in self.columns)

    @property
    def uninformed(self) -> NDArray:
        """Standard deviations from which on a label is not known, shape (J,)."""
        spread = self.emulators[0].spread[list(self.columns)]
        prior = self.priors.sigma(self.names)
        return INFORMED * np.minimum(prior, spread)


def _common_names(emulators: Sequence[Emulator]) -> tuple[str, ...]:
    if not emulators:
        raise InputError("emulators", expected="one or more", found="none")
    for one in emulators:
        if one.names != emulators[0].names:
            raise InputError(
                "emulators",
                expected=f"the same labels, {', '.join(emulators[0].names)}",
                found=", ".join(one.names),
            )
    return emulators[0].names


def _check_held(name: str, value: NDArray, emulators: Sequence[Emulator]) -> None:
    for emulator in emulators:
        column = emulator.names.index(name)
        low, high = emulator.low[column], emulator.high[column]
        outside = ~((value >= low) & (value <= high))  # NaN as well
        if outside.any():
            raise InputError(
                "fixed",
                expected=f"{name} from {low:g} to {high:g}",
                found=f"{value[outside][0]:g}",
            )


def gathered(
    stars: Sequence[Sequence[Spectrum]],
    setup: Setup,
    labels: NDArray,
    pieces: Sequence[Sequence[Piece]],
    solutions: Sequence[Solution | None],
    findings: Sequence[list[Finding]],
) -> FitResult:
    """Return the result of N stars.

    Parameters
    ----------
    stars : sequence of sequence of Spectrum
    setup : Setup
    labels : ndarray, shape (N, L)
        Where the fits started; values of the labels not fitted.
    pieces, solutions, findings
        Of each star. Without a solution all values are NaN.
    """
    most = max((len(star) for star in stars), default=0)
    rows = [
        _row(star, setup, labels[n], pieces[n], solutions[n], findings[n], most)
        for n, star in enumerate(stars)
    ]
    stacked = {
        key: np.array([row[key] for row in rows])
        for key in rows[0]
        if key not in ("messages", "models")
    }
    return FitResult(
        names=setup.names,
        all_names=setup.all_names,
        star_id=np.array([star[0].star_id if len(star) else "" for star in stars], dtype=str),
        messages=tuple(row["messages"] for row in rows),
        models=tuple(row["models"] for row in rows),
        priors=setup.priors.describe(),
        **stacked,
    )


def _row(
    star: Sequence[Spectrum],
    setup: Setup,
    labels: NDArray,
    pieces: Sequence[Piece],
    solution: Solution | None,
    findings: list[Finding],
    most: int,
) -> dict[str, Any]:
    """All that `FitResult` has of one star."""
    count = len(setup.columns)
    if solution is None:
        return _nothing(setup, labels, findings, most)
    sigma = np.sqrt(np.diagonal(solution.covariance))
    known = sigma[:count] <= setup.uninformed
    value = solution.parameters
    full = labels.copy()
    full[list(setup.columns)] = value[:count]
    broad = len(value) - len(star) - count
    shift = value[count + broad :]
    models = _models(star, pieces, solution)
    e_shift = sigma[count + broad :]
    findings = findings + check_labels(full, setup.emulators[0])
    if not any(one.flag & ResultFlag.WRONG_VELOCITY for one in findings):
        for spectrum, *velocity in zip(star, shift, e_shift, strict=True):
            findings += check_velocity(spectrum, *map(float, velocity))
    findings += _fitted(star, solution, models, shift)
    flags, messages = combined(findings)
    q, e_q = (value[count], sigma[count]) if broad else (np.nan, np.nan)
    both = known[:, None] & known
    return {
        "values": np.where(known, value[:count], np.nan),
        "covariance": np.where(both, solution.covariance[:count, :count], np.nan),
        "formal_covariance": np.where(both, solution.formal[:count, :count], np.nan),
        "fitted": value[:count],
        "all_labels": full,
        "chi2": solution.chi2,
        "n_pixels": solution.pixels,
        "n_parameters": len(value) + solution.coefficients,
        "n_clipped": solution.clipped,
        "shift": _padded(shift, most),
        "e_shift": _padded(e_shift, most),
        "rv": _padded(_velocities(star, shift), most),
        "v_broad": np.sqrt(q),
        "e_v_broad": np.sqrt(q + e_q) - np.sqrt(q),
        "result_flags": int(flags),
        "label_flags": _label_flags(known, solution, count),
        "messages": (*messages, *solution.notes),
        "evaluations": solution.evaluations,
        "models": models,
    }


def _nothing(setup: Setup, labels: NDArray, findings: list[Finding], most: int) -> dict[str, Any]:
    """The row of a star that could not be fitted."""
    count = len(setup.columns)
    flags, messages = combined(findings)
    numbers = dict.fromkeys(("chi2", "v_broad", "e_v_broad"), np.nan)
    counts = dict.fromkeys(("n_pixels", "n_parameters", "n_clipped", "evaluations"), 0)
    return {
        **numbers,
        **counts,
        **dict.fromkeys(("values", "fitted"), np.full(count, np.nan)),
        **dict.fromkeys(("covariance", "formal_covariance"), np.full((count, count), np.nan)),
        **dict.fromkeys(("shift", "e_shift", "rv"), np.full(most, np.nan)),
        "all_labels": np.full(len(labels), np.nan),
        "result_flags": int(flags | ResultFlag.NO_RESULT),
        "label_flags": np.full(count, int(LabelFlag.NO_INFORMATION)),
        "messages": tuple(messages),
        "models": (),
    }


def _padded(values: NDArray, most: int) -> NDArray:
    return np.append(values, np.full(most - len(values), np.nan))


def _velocities(star: Sequence[Spectrum], shift: NDArray) -> NDArray:
    """Radial velocities: what the wavelengths show, and what was taken out of them before.

    NaN where that is not known.
    """
    before = [s.rv if s.frame == Frame.REST else 0.0 for s in star]
    total = (1 + np.array(before) / SPEED_OF_LIGHT) * (1 + shift / SPEED_OF_LIGHT) - 1
    return np.asarray(total * SPEED_OF_LIGHT)


def _label_flags(known: NDArray, solution: Solution, count: int) -> NDArray:
    flags = np.where(known, 0, int(LabelFlag.NO_INFORMATION))
    flags |= np.where(known & solution.at_low[:count], int(LabelFlag.BELOW_TRAINING), 0)
    return flags | np.where(known & solution.at_high[:count], int(LabelFlag.ABOVE_TRAINING), 0)


def _fitted(
    star: Sequence[Spectrum],
    solution: Solution,
    models: Sequence[ModelSpectrum],
    shift: NDArray,
) -> list[Finding]:
    """What is to be said of a fit."""
    found = []
    if not solution.converged:
        text = f"no convergence after {solution.evaluations} model spectra"
        found.append(Finding(ResultFlag.NOT_CONVERGED, text))
    freedom = solution.pixels - len(solution.parameters) - solution.coefficients
    reduced = solution.chi2 / max(freedom, 1)
    if reduced > POOR:
        text = f"chi2 is {reduced:.1f} per degree of freedom"
        found.append(Finding(ResultFlag.POOR_FIT, text))
    if solution.clipped > MANY * (solution.pixels + solution.clipped):
        text = f"{solution.clipped} pixels far off any model, {solution.pixels} left"
        found.append(Finding(ResultFlag.POOR_FIT, text))
    for spectrum, model, velocity in zip(star, models, shift, strict=True):
        found += check_fit(spectrum, model.flux, float(velocity))
    return found


def _models(
    star: Sequence[Spectrum], pieces: Sequence[Piece], solution: Solution
) -> tuple[ModelSpectrum, ...]:
    """The model of every spectrum, in its units."""
    result = [
        ModelSpectrum(
            np.full(len(s), np.nan),
            np.full(len(s), np.nan),
            np.zeros(len(s), dtype=bool),
            np.full(len(s), np.nan),
        )
        for s in star
    ]
    for piece, (flux, solved, data) in zip(pieces, solution.best, strict=True):
        own, spectrum = result[piece.spectrum], star[piece.spectrum]
        counted = piece.data.root > 0
        part = np.zeros(len(spectrum), dtype=bool)
        part[piece.pixels] = _stretch(counted)
        inside = part[piece.pixels]
        own.continuum[part] = (piece.scale * solved.continuum)[inside]
        own.flux[part] = (piece.scale * solved.continuum * flux)[inside]
        floor, depth = data.errors
        error = piece.scale * (floor + depth * np.clip(1.0 - flux, 0.0, 1.0)) * data.level
        own.variance_floor[np.flatnonzero(counted) + piece.pixels.start] = error[counted] ** 2
        kept = data.root > 0
        used = np.flatnonzero(kept) + piece.pixels.start
        own.used[used] = True
        variance = 1.0 / (data.root[kept].astype(np.float64) * data.temper) ** 2
        own.variance_floor[used] = piece.scale**2 * np.maximum(variance - data.noise[kept], 0.0)
    return tuple(result)


def _stretch(counted: NDArray) -> NDArray:
    """All pixels from the first to the last that counted: between them a continuum is known."""
    where = np.flatnonzero(counted)
    inside = np.zeros(len(counted), dtype=bool)
    inside[where[0] : where[-1] + 1] = True
    return inside
