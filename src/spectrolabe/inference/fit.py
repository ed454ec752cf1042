"""Full-spectrum fits: every spectrum of a star, of any surveys, to all labels at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spectrolabe.catalogue import ResultFlag
from spectrolabe.errors import InputError
from spectrolabe.inference.checks import Finding, check_star
from spectrolabe.inference.forward import Forward
from spectrolabe.inference.gather import Setup, gathered
from spectrolabe.inference.pieces import MODEL_ERROR, Cutting, Piece, cut
from spectrolabe.inference.priors import Priors
from spectrolabe.inference.result import FitResult
from spectrolabe.inference.solve import Solution, solve
from spectrolabe.inference.starts import FirstGuess, first_guess, stated_shift
from spectrolabe.labels import Labels
from spectrolabe.models.emulator import Emulator
from spectrolabe.models.posterior import LabelPosterior
from spectrolabe.spectra import Spectrum

__all__ = ["fit"]

BROADENED = 5000.0  # R from which on the broadening of a star is fitted


def fit(
    stars: Sequence[Sequence[Spectrum]],
    emulators: Sequence[Emulator],
    *,
    labels: Sequence[str] | None = None,
    start: Labels | LabelPosterior | None = None,
    method: str = "lm",
    priors: str | Mapping[str, tuple[float, float]] | Priors = "weak",
    fixed: Mapping[str, ArrayLike] | None = None,
    continuum: int | None = None,
    v_broad: bool | None = None,
    model_error: float | tuple[float, float] = MODEL_ERROR,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
) -> FitResult:
    """Fit stars.

    Parameters
    ----------
    stars : sequence of sequence of Spectrum
        Those of N stars; all spectra of a star are fitted together.
    emulators : sequence of Emulator
        With the same labels; each spectrum is given to the first that covers it, part by part.
    labels : sequence of str, optional
        Which to fit; all if not given, and if empty velocity, broadening and continuum alone. The
        others stay at ``fixed``, or else where the fit starts.
    start : Labels or LabelPosterior, optional
        One row a star, for example of an encoder. Where a label is missing or NaN, and without it,
        the fit starts from the template star that is most alike.
    method : {"lm", "cma", "mcmc"}
        See `spectrolabe.inference.solve.solve`.
    priors : {"weak", "none"}, Mapping or Priors
        See `Priors.of`.
    fixed : Mapping of str to float or array_like, shape (N,), optional
        Labels that are known.
    continuum : int, optional
        Order of the continuum of each arm; see `continuum_basis`. By default by width and R.
    v_broad : bool, optional
        Whether to fit the broadening of the star; by default if a spectrum has R of 5000 or more.
    model_error : float or (float, float)
        Relative error of the model at the continuum, and what is added at full depth of a line;
        see `Cutting`.
    seed : int
        Of a search, or of samples.
    options : Mapping, optional
        Further options of the search or the sampler.

    Returns
    -------
    FitResult
        A star that cannot be fitted has NaN, flags, and a message that says why.

    Raises
    ------
    InputError
        If names are unknown, the emulators' labels differ, or an option is out of its range.
    """
    if not stars:
        raise InputError("stars", expected="one or more", found="none")
    cutting = Cutting(continuum, model_error)
    setup = Setup.of(emulators, labels, fixed, priors, len(stars), method)
    guess = first_guess(stars, setup.emulators)
    values = _starts(setup, guess.labels, start)
    findings = [list(_guessed(star, guess, n)) for n, star in enumerate(stars)]
    pieces: list[list[Piece]] = []
    for n, star in enumerate(stars):
        pieces.append([])
        findings[n] += check_star(star, setup.emulators, len(setup.columns))
        if not any(found.flag & ResultFlag.NO_RESULT for found in findings[n]):
            pieces[n] = _pieces(star, setup, guess.shift[n], cutting, findings[n])
    solutions: list[Solution | None] = [None] * len(stars)
    for rows in _alike(stars, pieces):
        forward = Forward(
            setup.emulators,
            [pieces[n] for n in rows],
            values[rows],
            setup.columns,
            np.stack([guess.shift[n] for n in rows]),
            fit_broadening=_broadened(stars[rows[0]]) if v_broad is None else v_broad,
            priors=setup.priors,
        )
        found = solve(forward, method=method, seed=seed, options=options)
        for n, one in zip(rows, found, strict=True):
            solutions[n] = one
    return gathered(stars, setup, values, pieces, solutions, findings)


def _guessed(star: Sequence[Spectrum], guess: FirstGuess, n: int) -> Iterator[Finding]:
    """What was found when the start was looked for; one finding that has all of its flags."""
    if guess.flags[n]:
        yield Finding(ResultFlag(int(guess.flags[n])), "; ".join(guess.messages[n]))
    known = np.isfinite([stated_shift(spectrum) for spectrum in star]) | np.isfinite(
        guess.e_shift[n]
    )
    if not known.any():
        text = "no lines of a star were recognised, so that nothing was fitted"
        yield Finding(ResultFlag.NO_RESULT, text)


def _starts(setup: Setup, guessed: NDArray, start: Labels | LabelPosterior | None) -> NDArray:
    """All labels that the fits start from, shape (N, L)."""
    values = guessed.copy()
    if start is not None:
        given = start.to_labels() if isinstance(start, LabelPosterior) else start
        if len(given) != len(values):
            raise InputError(
                "start", expected=f"a row for each of {len(values)} stars", found=f"{len(given)}"
            )
        for name in set(given.names) & set(setup.all_names):
            own = values[:, setup.all_names.index(name)]
            own[:] = np.where(np.isfinite(given[name]), given[name], own)
    for name, fixed in setup.fixed.items():
        values[:, setup.all_names.index(name)] = fixed
    low, high = setup.emulators[0].low, setup.emulators[0].high
    return np.clip(values, low, high)


def _pieces(
    star: Sequence[Spectrum],
    setup: Setup,
    shift: NDArray,
    cutting: Cutting,
    findings: list[Finding],
) -> list[Piece]:
    """The pieces of a star, none if it cannot be fitted; then why is among the findings."""
    try:
        pieces = cut(star, setup.emulators, shift, cutting)
    except InputError as error:
        findings.append(Finding(ResultFlag.NO_RESULT, str(error)))
        return []
    pixels = sum(int(np.count_nonzero(piece.data.root)) for piece in pieces)
    needed = len(setup.columns) + len(star) + sum(piece.data.basis.size for piece in pieces)
    if pixels > needed:
        return pieces
    text = f"{pixels} usable pixels, for {needed} parameters with those of the continuum"
    findings.append(Finding(ResultFlag.NO_RESULT | ResultFlag.FEW_PIXELS, text))
    return []


def _alike(stars: Sequence[Sequence[Spectrum]], pieces: list[list[Piece]]) -> list[list[int]]:
    """Rows of the stars that can be computed together."""
    groups: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    for n, (star, own) in enumerate(zip(stars, pieces, strict=True)):
        if own:
            kinds = tuple(piece.kind for piece in own)
            groups[len(star), _broadened(star), kinds].append(n)
    return list(groups.values())


def _broadened(star: Sequence[Spectrum]) -> bool:
    return any(float(np.median(spectrum.resolution)) >= BROADENED for spectrum in star)
