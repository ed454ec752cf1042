"""Lines of hydrogen: oscillator strengths, damping by radiation, Stark profiles.

The profiles of Balmer and Paschen lines up to n = 30 are those of Stehlé & Hutcheon (1999, A&AS
140, 93), with the Doppler effect of the temperature. A Brackett line takes the Stark shape of the
Paschen line with the same upper level, which carries most of the splitting, scaled in frequency
with the m^2 - n^2 of Griem (1960, ApJ 132, 883), and its own Doppler effect.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

SOURCE = "pysme/pysme/share/libsme/stehle_long.dat.INTEL"
HIGHEST = 30
BRACKETT = range(10, HIGHEST + 1)
TEMPERATURES = 4  # of the source: 2,500 to 20,000 K
# Detuning in half widths is SCALE * sinh(u) at u = 0, STEP, 2 STEP ...
SCALE, STEP, NODES = 0.25, 0.22, 46
QUANTUM = 1e-3  # dex
LIGHT = 2.99792458e18  # Å/s
THERMAL = 2.0 * 1.380649e-16 / (1.00782503 * 1.66053907e-24)  # b^2 = THERMAL T, cm2/s2
RADIATION = 6.670255e15  # A = RADIATION / lambda^2 g_l / g_u f, 1/s and Å


def pack(packages: Path) -> dict[str, NDArray]:
    """Return the N lines, sorted by series, and their profiles.

    ``lower``, ``upper`` (N,) levels; ``strength`` (N,) f of absorption; ``damping`` (N,) half width
    by radiation, rad/s; ``resonance`` (5,) f of 1-n; ``log_temperature`` (T,), ``log_electrons``
    (E,) nodes; ``log_width`` (N, T, E) log10 of the half width at half maximum, Å; ``profile`` (N,
    T, E, U) log10 of profile times half width, in units of ``quantum``, at detunings of ``scale *
    sinh(step * k)`` half widths.
    """
    source = read(packages / SOURCE)
    shapes = {line: tabulated(source, line) for line in source["lines"] if line[0] in (2, 3)}
    for upper in BRACKETT:
        shapes[4, upper] = brackett(source, upper, shapes[3, upper])
    lines = sorted(shapes)
    profile = np.stack([shapes[line][1] for line in lines])
    return {
        "lower": np.array([line[0] for line in lines], dtype=np.int16),
        "upper": np.array([line[1] for line in lines], dtype=np.int16),
        "strength": np.array([oscillator_strength(*line) for line in lines]),
        "damping": np.array([0.5 * (decay(line[0]) + decay(line[1])) for line in lines]),
        "resonance": np.array([0.0, 0.0] + [oscillator_strength(1, n) for n in (2, 3, 4)]),
        "log_temperature": np.log10(source["temperature"][:TEMPERATURES]).astype(float),
        "log_electrons": source["log_electrons"].astype(float),
        "log_width": np.stack([shapes[line][0] for line in lines]).astype(np.float32),
        "profile": np.round(profile / QUANTUM).astype(np.int16),
        "quantum": np.array(QUANTUM),
        "scale": np.array(SCALE),
        "step": np.array(STEP),
    }


def oscillator_strength(lower: int, upper: int) -> float:
    """Return f of absorption, exact and without relativity (Menzel & Pekeris 1935)."""
    z = Fraction(-4 * lower * upper, (upper - lower) ** 2)
    first, second = series(1 - lower, -upper, z), series(1 - upper, -lower, z)
    ratio = Fraction(upper - lower, upper + lower) ** (2 * (lower + upper))
    gaunt = (
        np.pi
        * np.sqrt(3.0)
        * lower
        * upper
        * float(ratio * abs(first**2 - second**2) / (upper - lower))
    )
    kramers = 32.0 / (3.0 * np.sqrt(3.0) * np.pi * lower**5 * upper**3)
    return kramers * (1.0 / lower**2 - 1.0 / upper**2) ** -3 * gaunt


def series(a: int, b: int, z: Fraction) -> Fraction:
    """The hypergeometric function F(a, b; 1; z) where it is a polynomial."""
    term = total = Fraction(1)
    for k in range(min(-a, -b)):
        term *= Fraction((a + k) * (b + k), (k + 1) ** 2) * z
        total += term
    return total


def decay(level: int) -> float:
    """Return the sum of A from a level, mean over its substates, 1/s."""
    return sum(
        RADIATION / wavelength(lower, level) ** 2 * (lower / level) ** 2 * strength
        for lower in range(1, level)
        for strength in [oscillator_strength(lower, level)]
    )


def wavelength(lower: int, upper: int) -> float:
    """Return the vacuum wavelength without fine structure, Å: widths need no better."""
    return 1e8 / (109677.58341 * (1.0 / lower**2 - 1.0 / upper**2))


def read(path: Path) -> dict:
    """Read the Fortran records: sizes, lines, nodes, conversion factors, detunings, profiles."""
    content = path.read_bytes()
    records, start = [], 0
    while start < len(content):
        size = int(np.frombuffer(content, "<i4", 1, start)[0])
        records.append(content[start + 4 : start + 4 + size])
        start += size + 8
    points, temperatures, electrons, lines = np.frombuffer(records[0], "<i4")
    shape = (electrons, temperatures, points)
    reals = [np.frombuffer(record, "<f4") for record in records]
    pairs = np.frombuffer(records[1], "<i4").reshape(lines, 2)
    return {
        "lines": [(int(lower), int(upper)) for lower, upper in pairs],
        "temperature": reals[2],
        "log_electrons": reals[3],
        "field": reals[4].reshape(lines, electrons),
        "detuning": np.stack([reals[8 + 2 * i].reshape(shape) for i in range(lines)]),
        "profile": np.stack([reals[9 + 2 * i].reshape(shape) for i in range(lines)]),
    }


def tabulated(source: dict, line: tuple[int, int]) -> tuple[NDArray, NDArray]:
    """Return log widths (T, E) and log profiles (T, E, U) of one line of the source."""
    i = source["lines"].index(line)
    electrons = len(source["log_electrons"])
    width = np.empty((TEMPERATURES, electrons))
    profile = np.empty((TEMPERATURES, electrons, NODES))
    for t in range(TEMPERATURES):
        for e in range(electrons):
            alpha, value = source["detuning"][i, e, t], source["profile"][i, e, t]
            use = np.flatnonzero((value > 0.0) & ((alpha > 0.0) | (np.arange(len(alpha)) == 0)))
            # Some profiles end on a floor.
            while np.log(value[use[-2]] / value[use[-1]]) < 2.4 * np.log(
                alpha[use[-1]] / alpha[use[-2]]
            ):
                use = use[:-1]
            field = source["field"][i, e].astype(float)
            width[t, e], profile[t, e] = resampled(alpha[use] * field, value[use] / field)
    # Beyond the last density with a profile the source repeats it: continued with the field.
    normal = source["log_electrons"] * (2.0 / 3.0) + np.log10(1.25e-9)
    return width + np.maximum(normal - np.log10(source["field"][i]) - 0.02, 0.0), profile


def resampled(detuning: NDArray, value: NDArray) -> tuple[float, NDArray]:
    """Log half width and log(profile * half width) at the nodes, of a profile given in points.

    Only the ratio to a Gaussian core with Holtsmark wings of the same width is interpolated: the
    source has five points a decade, too few for a Gaussian. Normalised to unit area.
    """
    width = wing = 1.0
    ratio = PchipInterpolator(np.log(detuning[1:]), np.log(value[1:]))
    near = np.geomspace(detuning[1], detuning[-1], 20_000)
    for turn in range(4):
        guess = ratio(np.log(near))
        if turn:
            guess = guess + np.log(model(near / width, wing))
        width = near[np.flatnonzero(guess > np.log(0.5 * value.max()))[-1]]
        wing = value[-1] * width * (detuning[-1] / width) ** 2.5
        rest = np.log(value[1:] * width / model(detuning[1:] / width, wing))
        ratio = PchipInterpolator(np.log(detuning[1:]), rest - np.log(width))
    nodes = SCALE * np.sinh(STEP * np.arange(NODES))
    inside = np.clip(nodes * width, detuning[1], detuning[-1])
    result = ratio(np.log(inside)) + np.log(width) + np.log(model(nodes, wing))
    result = np.where(
        nodes * width > detuning[-1], np.log(wing) - 2.5 * np.log(nodes + 1e-9), result
    )
    fine = np.sinh(np.linspace(0.0, np.arcsinh(nodes[-1]), 20_000))
    smooth = np.exp(PchipInterpolator(nodes, result)(fine))
    area = 2.0 * np.trapezoid(smooth, fine) + 4.0 / 3.0 * smooth[-1] * fine[-1]
    return np.log10(width), (result - np.log(area)) / np.log(10.0)


def model(x: NDArray, wing: float) -> NDArray:
    """A Gaussian of half width 1 with wings of the power -5/2."""
    return 0.4697 * np.exp(-np.log(2.0) * x * x) + wing * (x * x + 2.0) ** -1.25


def brackett(source: dict, upper: int, paschen: tuple) -> tuple[NDArray, NDArray]:
    """Return log widths and log profiles of 4-`upper` from those of 3-`upper`."""
    return rescaled(source, (3, upper), (4, upper), paschen)


def rescaled(
    source: dict, known: tuple[int, int], line: tuple[int, int], shape: tuple
) -> tuple[NDArray, NDArray]:
    """Profiles of a line from those of another with the same upper level.

    The Stark shape is read at a density where the Doppler effect in it is small, or the smallest,
    and scaled to lower densities with the normal field.
    """
    log_width, log_profile = shape
    from_, to = wavelength(*known), wavelength(*line)
    scale = (line[1] ** 2 - line[0] ** 2) / (known[1] ** 2 - known[0] ** 2) * (to / from_) ** 2
    density = source["log_electrons"].astype(float)
    width, profile = np.empty_like(log_width), np.empty_like(log_profile)
    nodes = SCALE * np.sinh(STEP * np.arange(NODES))
    for t in range(TEMPERATURES):
        speed = np.sqrt(THERMAL * source["temperature"][t]) / 2.99792458e10
        for e in range(len(density)):
            known_width = 10.0 ** log_width[t]
            wide = np.flatnonzero(known_width > 4.0 * speed * from_)
            use = max(e, wide[0])
            pure = np.sqrt(known_width[use] ** 2 - np.log(2.0) * (speed * from_) ** 2)
            pure = pure * scale * 10.0 ** (2.0 / 3.0 * (density[e] - density[use]))
            detuning, value = with_doppler(
                pure, nodes, 10.0 ** log_profile[t, use] / pure, speed * to
            )
            width[t, e], profile[t, e] = resampled(detuning, value)
    return width, profile


def with_doppler(
    width: float, nodes: NDArray, value: NDArray, doppler: float
) -> tuple[NDArray, NDArray]:
    """Convolve a symmetric profile, given at `nodes` half widths, with a Gaussian."""
    shape = PchipInterpolator(np.log(nodes[1:]), np.log(value[1:]))
    last = nodes[-1]

    def stark(y: NDArray) -> NDArray:
        x = np.abs(y) / width
        inside = np.exp(shape(np.log(np.clip(x, nodes[1], last))))
        return inside * np.where(x > last, (np.maximum(x, last) / last) ** -2.5, 1.0)

    detuning = np.concatenate([[0.0], np.geomspace(1e-2 * min(width, doppler), last * width, 90)])
    result = stark(detuning)
    core = detuning < 25.0 * doppler
    y = np.union1d(
        np.geomspace(1e-3 * width, 35 * doppler, 1500), np.arange(1, 1400) * doppler / 40
    )
    y = np.concatenate([-y[::-1], [0.0], y])
    kernel = np.exp(-(((detuning[core, None] - y) / doppler) ** 2)) / (np.sqrt(np.pi) * doppler)
    result[core] = np.trapezoid(kernel * stark(y), y, axis=1)
    return detuning, result
