"""Spectra that are not what a fit takes them for: what is wrong with them, as flags and sentences.

Before the fit: wavelengths or resolution out of range, too few pixels (`check_star`); the stated
velocity is checked by `first_guess`. After it, against the best model: emission lines, lines of a
second star, velocities that differ along the spectrum (`check_fits`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spectrolabe.catalogue import ResultFlag
from spectrolabe.inference.correlation import (
    MODEL_ERROR,
    Correlation,
    Features,
    VelocityGrid,
    features,
    gain_of,
    heights,
    peak,
    second_peak,
)
from spectrolabe.inference.masks import telluric_mask, usable_ivar
from spectrolabe.models.emulator import Emulator
from spectrolabe.spectra import Spectrum
from spectrolabe.spectra.wavelength import SPEED_OF_LIGHT

__all__ = ["Finding", "check_fit", "check_fits", "check_star", "combined"]

LEAST_INSIDE = 0.5  # of the good pixels that the Earth does not absorb

EMISSION_LINES: dict[str, dict[str, float]] = {
    "Hα": {"Hα": 6564.61},
    "Ca II H and K": {"Ca II K": 3934.77, "Ca II H": 3969.59},
    "Ca II triplet": {"Ca II 8500": 8500.35, "Ca II 8544": 8544.44, "Ca II 8665": 8664.52},
    "nebular lines": {
        "Hβ": 4862.68,
        "[O III] 4960": 4960.30,
        "[O III] 5008": 5008.24,
        "[N II] 6550": 6549.85,
        "[N II] 6585": 6585.27,
        "[S II] 6718": 6718.29,
        "[S II] 6733": 6732.67,
    },
}
"""Vacuum Angstrom (NIST Atomic Spectra Database) of lines of chromospheres, discs and nebulae, in
groups that are seen together."""
LEAST_HEIGHT = {"Ca II H and K": 0.35}  # their cores are not in LTE: models are too deep
LEAST_LINES = {"Hα": 1}  # of a group, two if not given: one alone may be a residual of the sky
EMISSION_WIDTHS = (40.0, 250.0)  # km/s FWHM: a chromosphere or nebula, a disc
EMISSION_SIGMA, EMISSION_LEAST = 6.0, 0.12  # errors, and of the continuum
OFFSETS = (-0.4, 0.0, 0.4)  # of the line's width: emission need not have the star's velocity

MOST = 400.0  # km/s from the star at which a second one is sought
SECOND_SIGMA, SECOND_RATIO, SECOND_OVERLAP = 7.0, 0.15, 0.6
SEGMENTS = 4
CLEAR, UNRIVALLED = 30.0, 12.0  # chi2, as in `starts`
APART_SIGMA, APART_FWHM, APART = 6.0, 0.25, 3.0  # errors, instrument's FWHM, km/s


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


def check_fit(spectrum: Spectrum, model: NDArray, shift: float) -> list[Finding]:
    """Return what is wrong with one spectrum, seen beside its best model; see `check_fits`."""
    return check_fits([spectrum], [model], [shift])[0]


def check_fits(
    spectra: Sequence[Spectrum], models: Sequence[NDArray], shifts: Sequence[float]
) -> list[list[Finding]]:
    """Return what is wrong with spectra, seen beside their best models.

    Parameters
    ----------
    spectra : sequence of Spectrum
        Any, of any stars.
    models : sequence of ndarray, shape (M,)
        Best model of each on its pixels, continuum included; NaN where there is none.
    shifts : sequence of float
        Velocity of each wavelength scale, km/s.

    Returns
    -------
    list of list of Finding
        Emission lines, a second star, or wavelengths that disagree; usually nothing.
    """
    ivar = [_compared(s, m) for s, m in zip(spectra, models, strict=True)]
    findings: list[list[Finding]] = [[] for _ in spectra]
    for grid, where in _grids(spectra, ivar).items():
        some = [spectra[i] for i in where]
        weight = [ivar[i] for i in where]
        model = [np.nan_to_num(models[i]) for i in where]
        data = features(grid, some, weight)
        templates = features(grid, some, weight, model)
        margin = (grid.lags, grid.lags)
        correlation = Correlation(grid, np.pad(templates.values, ((0, 0), margin)))
        second = _second(correlation, data)
        fwhm = [SPEED_OF_LIGHT / float(np.median(s.resolution)) for s in some]
        segments = _segments(correlation, data, fwhm)
        for k, i in enumerate(where):
            emission = _emission(spectra[i], ivar[i], models[i], shifts[i])
            findings[i] = [
                Finding(flag, f"{spectra[i].where}: {text}")
                for flag, text in (
                    (ResultFlag.EMISSION, emission),
                    (ResultFlag.SECOND_STAR, second[k]),
                    (ResultFlag.WRONG_WAVELENGTHS, segments[k]),
                )
                if text
            ]
    return findings


def _compared(spectrum: Spectrum, model: NDArray) -> NDArray:
    known = np.isfinite(model) & ~telluric_mask(spectrum)
    return np.where(known, spectrum.ivar, np.float32(0.0))


def _grids(spectra: Sequence[Spectrum], ivar: Sequence[NDArray]) -> dict[VelocityGrid, list[int]]:
    """Which spectra share which grid; those without pixels have none."""
    grids: dict[VelocityGrid, list[int]] = {}
    for i, (spectrum, weight) in enumerate(zip(spectra, ivar, strict=True)):
        good = np.flatnonzero(weight > 0)
        if good.size < 2:
            continue
        low, high = np.log(spectrum.wavelength[good[[0, -1]]])
        resolution = 2.0 ** (np.round(8 * np.log2(np.median(spectrum.resolution))) / 8)
        ends = float(np.floor(low * 100) / 100), float(np.ceil(high * 100) / 100)
        grids.setdefault(VelocityGrid.over(*ends, float(resolution), MOST), []).append(i)
    return grids


def emission_strengths(
    spectrum: Spectrum, ivar: NDArray, model: NDArray, shift: float
) -> dict[str, tuple[float, float]]:
    """Return the strongest emission at each line: height over the continuum, and its significance.

    A Gaussian of the instrument's width and that of `EMISSION_WIDTHS`, fitted to the residuals.
    """
    log = np.log(spectrum.wavelength) - np.log1p(shift / SPEED_OF_LIGHT)
    resolution = np.broadcast_to(spectrum.resolution, log.shape)
    found = {}
    for name, line in (item for group in EMISSION_LINES.values() for item in group.items()):
        velocity = SPEED_OF_LIGHT * (log - np.log(line))
        near_line = np.flatnonzero((np.abs(velocity) < 1500.0) & (ivar > 0))
        if near_line.size < 5:
            continue
        instrument = SPEED_OF_LIGHT / resolution[near_line[0]]
        if np.abs(velocity[near_line]).min() > 0.5 * instrument:
            continue
        level = np.quantile(model[near_line], 0.9)
        if not level > 0:
            continue
        residual = (spectrum.flux[near_line] - model[near_line]) / level
        variance = 1.0 / (ivar[near_line] * level**2) + MODEL_ERROR**2
        fwhm = np.hypot(instrument, EMISSION_WIDTHS)
        best = max(
            _height(velocity[near_line] - part * width, residual, variance, width)
            for width in fwhm
            for part in OFFSETS
        )
        found[name] = best[1], best[0]
    return found


def _height(
    velocity: NDArray, residual: NDArray, variance: NDArray, width: float
) -> tuple[float, float]:
    """Significance and height of a Gaussian in residuals; 0 unless two pixels agree on it."""
    profile = np.exp(-4.0 * np.log(2.0) * (velocity / width) ** 2)
    information = (profile**2 / variance).sum()
    height = (profile * residual / variance).sum() / max(information, 1e-30)
    inside = profile > 0.3
    high = inside & (residual > 0.5 * height * profile) & (residual > np.sqrt(variance))
    agreed = high.sum() >= max(2, 0.6 * inside.sum())
    return (float(height * np.sqrt(information)), float(height)) if agreed else (0.0, 0.0)


def _emission(spectrum: Spectrum, ivar: NDArray, model: NDArray, shift: float) -> str:
    strengths = emission_strengths(spectrum, ivar, model, shift)
    seen: list[str] = []
    for group, lines in EMISSION_LINES.items():
        least = LEAST_HEIGHT.get(group, EMISSION_LEAST)
        high = [
            f"{name} ({100 * strengths[name][0]:.0f} per cent)"
            for name in lines
            if name in strengths
            and strengths[name][0] > least
            and strengths[name][1] > EMISSION_SIGMA
        ]
        seen += high if len(high) >= LEAST_LINES.get(group, 2) else []
    return f"emission above the model, of the continuum: {', '.join(seen)}" if seen else ""


def _second(correlation: Correlation, data: Features) -> list[str]:
    """A second copy of the model at another velocity, for each spectrum."""
    ratio, sigma, lag = second_star(correlation, data)
    velocity = correlation.grid.velocity(lag)
    return [
        f"lines of a second star at {v:+.0f} km/s of the first, {r:.2f} as strong ({s:.0f} sigma)"
        if s > SECOND_SIGMA and r > SECOND_RATIO
        else ""
        for r, s, v in zip(ratio, sigma, velocity, strict=True)
    ]


def second_star(correlation: Correlation, data: Features) -> tuple[NDArray, NDArray, NDArray]:
    """Return strength, significance and lag of the most significant second copy, (N,) each.

    The significance is relative to the scatter over all velocities, where the formal error does
    not cover how badly the model fits.
    """
    rows = np.arange(len(correlation))
    ratio, sigma, overlap = second_peak(correlation, data, rows, np.zeros(len(rows)))
    apart = overlap < SECOND_OVERLAP
    with np.errstate(invalid="ignore"):
        sigma = np.where(apart & np.isfinite(ratio), sigma, np.nan)
    sigma[~np.isfinite(sigma).any(axis=1)] = 0.0
    scatter = 1.4826 * np.nanmedian(np.abs(sigma), axis=1)
    best = np.nanargmax(sigma, axis=1)
    significance = sigma[rows, best] / np.maximum(scatter, 1.0)
    return np.nan_to_num(ratio[rows, best]), significance, best - correlation.grid.lags


def _segments(correlation: Correlation, data: Features, fwhm: Sequence[float]) -> list[str]:
    """Velocities of parts of each spectrum, compared."""
    grid, count = correlation.grid, len(data.values)
    velocity, error, clear, ends = segment_velocities(correlation, data)
    texts = []
    for i in range(count):
        known = np.flatnonzero(clear[i]).tolist()
        least, text = 1.0, ""
        for a in known:
            for b in (k for k in known if k > a):
                apart = velocity[i, b] - velocity[i, a]
                limit = APART_SIGMA * np.hypot(error[i, a], error[i, b])
                excess = abs(apart) / max(limit, APART_FWHM * fwhm[i], APART)
                if excess > least:
                    least, text = excess, _apart(grid, ends[i], a, b, apart)
        texts.append(text)
    return texts


def _apart(grid: VelocityGrid, ends: NDArray, a: int, b: int, apart: float) -> str:
    edge = np.exp(grid.start + grid.step * ends)
    return (
        f"lines at {edge[b]:.0f} to {edge[b + 1]:.0f} Å are {apart:+.0f} km/s from those at "
        f"{edge[a]:.0f} to {edge[a + 1]:.0f} Å; are the wavelengths right, and all in vacuum?"
    )


def segment_velocities(
    correlation: Correlation, data: Features
) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """Return velocity, error and whether it is clear, (N, S) each, and the ends, (N, S + 1).

    The S parts hold equal information about the velocity.
    """
    grid, count = correlation.grid, len(data.values)
    inner = correlation.templates[:, grid.lags : grid.lags + grid.size]
    information = np.cumsum(data.weight * np.gradient(inner, axis=1) ** 2, axis=1)
    share = information / np.maximum(information[:, -1:], 1e-30)
    part = np.minimum((share * SEGMENTS).astype(int), SEGMENTS - 1)
    ends = np.stack([np.searchsorted(row, np.arange(SEGMENTS + 1)) for row in part])
    number = np.arange(SEGMENTS)[:, None]
    weight = np.concatenate(
        [np.where(p == number, w, 0.0) for p, w in zip(part, data.weight, strict=True)]
    )
    rows = np.repeat(np.arange(count), SEGMENTS)
    pieces = Features(data.values[rows], weight.astype(np.float32), data.pixels[rows] / SEGMENTS)
    moments = correlation.moments(pieces)
    covariance, variance = (a[:, 0] for a in correlation.all_lags(moments, rows[:, None]))
    gain = gain_of(covariance, variance)
    lag, curvature = peak(gain, grid.lags)
    height, rival = heights(gain, lag, grid.lags)
    scale = np.maximum((moments.power - height) / np.maximum(pieces.pixels, 1.0), 1.0)
    error = SPEED_OF_LIGHT * grid.step * np.sqrt(2.0 * scale / np.maximum(curvature, 1e-30))
    clear = (height > CLEAR * scale) & (height - rival > UNRIVALLED * scale)
    shape = (count, SEGMENTS)
    return grid.velocity(lag).reshape(shape), error.reshape(shape), clear.reshape(shape), ends
