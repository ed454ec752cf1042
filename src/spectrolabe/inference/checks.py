"""Spectra that are not what a fit takes them for: what is wrong with them, as flags and sentences.

Before the fit: wavelengths or resolution out of range, too few pixels (`check_star`); the stated
velocity is checked by `first_guess`. After it, against the best model: emission lines, lines of a
second star, velocities that differ along the spectrum (`check_fit`), or from the stated one
(`check_velocity`); labels at the ends of the models (`check_labels`).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spectrolabe.catalogue import ResultFlag
from spectrolabe.inference.beside import Beside
from spectrolabe.inference.emission import emission
from spectrolabe.inference.masks import telluric_mask, usable_ivar
from spectrolabe.inference.starts import DISAGREE, DISAGREE_SIGMA, stated_shift
from spectrolabe.models.emulator import Emulator
from spectrolabe.spectra import Spectrum
from spectrolabe.spectra.spectrum import PRODUCT
from spectrolabe.spectra.wavelength import SPEED_OF_LIGHT

__all__ = [
    "Finding",
    "check_fit",
    "check_labels",
    "check_star",
    "check_velocity",
    "combined",
]

LEAST_INSIDE = 0.5  # of the good pixels that the Earth does not absorb
FEWEST = 20  # pixels from which lines are compared with a model
SECOND_RATIO, SECOND_SIGMA = 0.2, 8.0  # of the first star's lines, and errors
OFF_FWHM = 0.15  # of the instrument: a fit is surer of a velocity than a first guess
# from either end of the models; stars down to 3500 K, whose TiO the models lack, end in these 200 K
EDGES = {"teff": (200.0, 50.0), "logg": (0.02, 0.02), "fe_h": (0.02, 0.02)}
APART_SIGMA, APART_FWHM, APART = 6.0, 0.35, 3.0  # errors, instrument's FWHM, km/s


class Finding(NamedTuple):
    """One thing that is wrong: bits of the catalogue, and what to tell the user."""

    flag: ResultFlag
    message: str


def combined(findings: Sequence[Finding]) -> tuple[ResultFlag, tuple[str, ...]]:
    """Return all bits and all messages."""
    flags = ResultFlag(0)
    for finding in findings:
        flags |= finding.flag
    return flags, tuple(finding.message for finding in findings)


def check_star(
    spectra: Sequence[Spectrum], emulators: Sequence[Emulator], parameters: int
) -> list[Finding]:
    """Return what is wrong with the spectra of a star before they are fitted.

    Parameters
    ----------
    spectra : sequence of Spectrum
    emulators : sequence of Emulator
    parameters : int
        Number of parameters of the fit, those of the continuum included.

    Returns
    -------
    list of Finding
        With ``NO_RESULT`` among the flags nothing can be fitted.
    """
    made = [spectrum for spectrum in spectra if PRODUCT in spectrum.meta]
    if made:
        text = (
            f"{made[0].where}: a product of the model {made[0].meta[PRODUCT]}, not a measurement: "
            "its errors are not those of pixels, and chi2 would say nothing; fit the spectra that "
            "it was made from"
        )
        return [Finding(ResultFlag.NO_RESULT, text)]
    findings, pixels = [], 0
    for spectrum in spectra:
        found, usable = _check_range(spectrum, emulators)
        findings += found
        pixels += usable
    if pixels <= parameters:
        where = spectra[0].where if len(spectra) == 1 else f"{len(spectra)} spectra of a star"
        findings.append(
            Finding(
                ResultFlag.FEW_PIXELS | ResultFlag.NO_RESULT,
                f"{where}: {pixels} usable pixels for {parameters} parameters; nothing was fitted",
            )
        )
    return findings


def _check_range(spectrum: Spectrum, emulators: Sequence[Emulator]) -> tuple[list[Finding], int]:
    """Wavelengths and resolution, and the number of pixels that remain."""
    good = spectrum.good & ~telluric_mask(spectrum)
    usable = [int((usable_ivar(spectrum, emulator) > 0).sum()) for emulator in emulators]
    best = int(np.argmax(usable))
    limit = emulators[best].resolution
    resolution = float(np.median(spectrum.resolution))
    if resolution > 1.01 * limit:
        text = (
            f"{spectrum.where}: R = {resolution:.0f} is above that of the model, {limit:.0f}; "
            "smooth the spectrum to it first"
        )
        return [Finding(ResultFlag.OUT_OF_RANGE, text)], 0
    total = np.count_nonzero(good)
    if total == 0 or usable[best] >= LEAST_INSIDE * total:
        return [], usable[best]
    ranges = ", ".join(f"{e.wavelength[0]:.0f} to {e.wavelength[-1]:.0f} Å" for e in emulators)
    low, high = spectrum.wavelength[np.flatnonzero(good)[[0, -1]]]
    share = "none" if usable[best] == 0 else f"{100 * usable[best] / total:.0f} per cent"
    text = (
        f"{spectrum.where}: {share} of its good pixels ({low:.0f} to {high:.0f} Å) can be compared "
        f"with the model ({ranges})"
    )
    return [Finding(ResultFlag.OUT_OF_RANGE, text)], usable[best]


def check_labels(labels: NDArray, emulator: Emulator) -> list[Finding]:
    """Return which of Teff, log g and [Fe/H] are at an end of the models, or very near.

    Parameters
    ----------
    labels : ndarray, shape (L,)
        Of the best model, fitted or not: beyond an end no other label is to be believed either.
    emulator : Emulator
    """
    findings = []
    for name, (below, above) in EDGES.items():
        column = emulator.names.index(name)
        value, low, high = (float(v[column]) for v in (labels, emulator.low, emulator.high))
        if not low + below < value < high - above:
            end = low if value - low < high - value else high
            text = f"{name} at the edge of the models, {value:.6g}; they end at {end:.6g}"
            findings.append(Finding(ResultFlag.OUT_OF_COVERAGE, text))
    return findings


def check_velocity(spectrum: Spectrum, shift: float, error: float) -> list[Finding]:
    """Return whether a fit has found another velocity than the stated one.

    Parameters
    ----------
    spectrum : Spectrum
    shift, error : float
        Velocity of the wavelength scale that was fitted, km/s.
    """
    stated = stated_shift(spectrum)
    fwhm = SPEED_OF_LIGHT / float(np.median(spectrum.resolution))
    if not abs(shift - stated) > max(DISAGREE_SIGMA * error, OFF_FWHM * fwhm, DISAGREE):
        return []
    text = (
        f"{spectrum.where}: lines are at {shift:.1f} ± {error:.1f} km/s, the file says "
        f"{stated:.1f} km/s; the fitted velocity was used"
    )
    return [Finding(ResultFlag.WRONG_VELOCITY, text)]


def check_fit(spectrum: Spectrum, model: NDArray, shift: float) -> list[Finding]:
    """Return what is wrong with a spectrum, seen beside its best model.

    Parameters
    ----------
    spectrum : Spectrum
    model : ndarray, shape (M,)
        Best model on its pixels, continuum included; NaN where there is none.
    shift : float
        Velocity of the wavelength scale, km/s.

    Returns
    -------
    list of Finding
        Emission lines, a second star, or wavelengths that disagree; usually nothing.
    """
    known = np.isfinite(model) & (model > 0) & ~telluric_mask(spectrum)
    ivar = np.where(known, spectrum.ivar, np.float32(0.0))
    if np.count_nonzero(ivar) < FEWEST:
        return []
    model = np.where(known, model, 1.0)
    beside = Beside.of(spectrum, ivar, model)
    second = _second(beside)
    texts = {
        ResultFlag.EMISSION: emission(spectrum, ivar, model, shift),
        ResultFlag.SECOND_STAR: second,
        # two stars move lines of some wavelengths more than others
        ResultFlag.WRONG_WAVELENGTHS: "" if second else _apart(beside),
    }
    return [Finding(flag, f"{spectrum.where}: {text}") for flag, text in texts.items() if text]


def _second(beside: Beside) -> str:
    """A second copy of the model at another velocity."""
    ratio, sigma, velocity = beside.second_star()
    if not (ratio > SECOND_RATIO and sigma > SECOND_SIGMA and beside.has_both(velocity)):
        return ""
    return f"lines of a second star at {velocity:+.0f} km/s of the first, {ratio:.2f} as strong"


def _apart(beside: Beside) -> str:
    """Velocities of parts of the spectrum, compared."""
    parts = beside.segments()
    least, text = 1.0, ""
    for one, other in itertools.combinations(parts, 2):
        apart = other.velocity - one.velocity
        limit = APART_SIGMA * np.hypot(one.error, other.error)
        excess = abs(apart) / max(limit, APART_FWHM * beside.fwhm, APART)
        if excess > least:
            least = excess
            text = (
                f"lines at {other.low:.0f} to {other.high:.0f} Å are {apart:+.0f} km/s from those "
                f"at {one.low:.0f} to {one.high:.0f} Å; are the wavelengths right, and all in "
                "vacuum?"
            )
    return text
