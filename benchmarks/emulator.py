"""How well do emulators make spectra, and differential spectra, of stars they have not seen?

    python benchmarks/emulator.py RUN [RUN ...] --spectra HELD.grid --slopes HELD_SLOPES.grid
        [--engine STARS] [--page docs/results/emulator.md]

The grids must have no star that an emulator was trained on. One row for each emulator; windows,
groups of stars and labels of the first one of each wavelength range. Prints Markdown, or writes the
page.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array

from pages import remarks, table, write_page
from spectrolabe.config import GridsConfig
from spectrolabe.errors import InputError
from spectrolabe.models.emulator import Emulator, load_emulator
from spectrolabe.spectra.observe import Instrument, observation_operator
from spectrolabe.synthesis import Star, synthesise, wavelength_grid
from spectrolabe.synthesis.grid import read_grid
from spectrolabe.training.native import Native, native_spectra

LOW_RESOLUTION, PER_FWHM = 1800.0, 3.0
STRONG = 1e-3  # root mean square of what a step changes of the flux
WINDOWS = (
    (3700, 4000), (4000, 4500), (4500, 5500), (5500, 6800), (6800, 8400), (8400, 8900),
    (8900, 9800), (15100, 15800), (15800, 16450), (16450, 17000),
)  # fmt: skip
TEFF, LOGG = (4000.0, 4800.0, 5600.0, 6400.0, 7700.0), 3.5
METAL_POOR = -1.5
TOGETHER = 16  # stars at a time


@dataclass(frozen=True)
class Held:
    """Spectra and differential spectra of stars that were not trained on."""

    labels: NDArray
    wavelength: NDArray
    flux: NDArray
    low_wavelength: NDArray
    low_flux: NDArray
    slopes: Native


@dataclass(frozen=True)
class Errors:
    """Mean absolute errors, (stars, pixels) summed one way or the other, and of the labels."""

    star: NDArray
    pixel: NDArray
    low_star: NDArray
    low_pixel: NDArray
    slopes: NDArray  # (L,), relative
    low_slopes: NDArray


def held_out(emulator: Emulator, spectra: str, slopes: str) -> Held:
    """Read the grids as an instrument with the pixels of an emulator would see them."""
    settings = emulator.card["configuration"]["grids"] | {"stars": 0}
    native = native_spectra(GridsConfig(**settings, grids=(spectra,)), slopes=False)
    steps = native_spectra(GridsConfig(**settings, grids=(slopes,)))
    trained = {one["sha256"] for one in emulator.card["training_data"]["grids"]}
    for one in (*native.about, *steps.about):
        if one["sha256"] in trained:
            raise InputError(one["name"], expected="stars not trained on", found="a training grid")
    low = low_wavelength(emulator)
    grid = read_grid(spectra)
    operator = observation_operator(grid.wavelength, Instrument(low, LOW_RESOLUTION))
    operator = operator.astype(np.float32)
    parts = [
        (operator @ np.asarray(grid.flux[i : i + TOGETHER]).T).T
        for i in range(0, len(grid), TOGETHER)
    ]
    order = [native.names.index(name) for name in emulator.names]
    steps = replace(
        steps,
        labels=steps.labels[:, order],
        steps=steps.steps[:, order],
        change=steps.change[:, order],
    )
    return Held(
        native.labels[:, order],
        emulator.wavelength,
        native.flux.reshape(len(grid), -1),
        low,
        np.concatenate(parts),
        steps,
    )


def low_wavelength(emulator: Emulator) -> NDArray:
    """Pixels of the lower resolution, three FWHM away from the ends."""
    step = 1.0 / (PER_FWHM * LOW_RESOLUTION)
    low, high = np.log(emulator.wavelength[[0, -1]])
    return np.exp(np.arange(low + 3 * PER_FWHM * step, high - 3 * PER_FWHM * step, step))


def errors(emulator: Emulator, held: Held) -> Errors:
    """Compare an emulator with all held-out spectra."""
    star, pixel = [], np.zeros(len(held.wavelength))
    low_star, low_pixel = [], np.zeros(len(held.low_wavelength))
    for i in range(0, len(held.labels), TOGETHER):
        labels = held.labels[i : i + TOGETHER]
        made = emulator.basis.flux(emulator.latents(labels)).numpy()
        error = np.abs(made - held.flux[i : i + TOGETHER])
        low = np.abs(
            emulator.flux(labels, held.low_wavelength, LOW_RESOLUTION)
            - held.low_flux[i : i + TOGETHER]
        )
        star.append(error.mean(axis=1))
        low_star.append(low.mean(axis=1))
        pixel += error.sum(axis=0) / len(held.labels)
        low_pixel += low.sum(axis=0) / len(held.labels)
    high_slopes, low_slopes = slope_errors(emulator, held)
    return Errors(
        np.concatenate(star), pixel, np.concatenate(low_star), low_pixel, high_slopes, low_slopes
    )


def slope_errors(emulator: Emulator, held: Held) -> tuple[NDArray, NDArray]:
    """Relative error of the differential spectra of each label, median of stars, at both R."""
    native = held.slopes
    down = observation_operator(
        held.wavelength,
        Instrument(held.low_wavelength, LOW_RESOLUTION),
        input_resolution=emulator.resolution,
    ).astype(np.float32)
    found = []
    for row, steps, true in zip(native.rows, native.steps, native.change, strict=True):
        before = native.labels[row]
        moved = before + np.diag(steps)
        latents = emulator.latents(np.concatenate([before[None], moved]))
        change = torch.einsum("lpk,pkw->lpw", latents[1:] - latents[:1], emulator.basis.components)
        made, true = change.flatten(1).numpy(), true.reshape(len(steps), -1)
        known = steps != 0
        high = _relative(made, true, known)
        found.append((high, _relative(_seen(down, made), _seen(down, true), known)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # no star has a line of this element
        both = np.nanmedian(np.array(found), axis=0)
    return both[0], both[1]


def _seen(operator: csr_array, rows: NDArray) -> NDArray:
    return np.asarray((operator @ rows.T).T)


def _relative(made: NDArray, true: NDArray, known: NDArray) -> NDArray:
    size = np.sqrt(np.square(true).sum(axis=1))
    error = np.sqrt(np.square(made - true).sum(axis=1))
    return np.where(known & (size > 0), error / np.where(size > 0, size, 1.0), np.nan)


def strong(held: Held) -> NDArray:
    """Which labels change the spectrum of a typical star much, shape (L,)."""
    native = held.slopes
    size = np.sqrt(np.square(native.change).mean(axis=(2, 3)))
    return np.asarray(np.nanmedian(np.where(native.steps != 0, size, np.nan), axis=0) >= STRONG)


def percent(value: float, digits: int = 3) -> str:
    """Format a fraction."""
    if not np.isfinite(value):
        return "–"
    return f"{100 * value:.{digits}f}"


def summary_row(name: str, emulator: Emulator, found: Errors, is_strong: NDArray) -> list[str]:
    """Row of an emulator in the first table."""
    data = emulator.card["training_data"]
    prior = emulator.card["configuration"]["prior"]["weight"]
    return [
        name,
        str(data["stars"]),
        str(data["differential_spectra"]) if prior else "–",
        percent(float(found.pixel.mean())),
        percent(float(found.low_pixel.mean())),
        percent(float(np.median(found.slopes[is_strong])), 1),
        percent(float(np.nanmedian(found.slopes)), 1),
        percent(float(np.median(found.low_slopes[is_strong])), 1),
    ]


SUMMARY = [
    "emulator",
    "spectra",
    "differential spectra",
    "flux, R = 28,000",
    "flux, R = 1,800",
    "strong labels, R = 28,000",
    "all labels, R = 28,000",
    "strong labels, R = 1,800",
]


def window_table(held: Held, found: Errors) -> str:
    """Errors of flux in windows of wavelength."""
    rows = []
    for low, high in WINDOWS:
        use = (held.wavelength >= low) & (held.wavelength < high)
        use_low = (held.low_wavelength >= low) & (held.low_wavelength < high)
        if use.any() and use_low.any():
            rows.append(
                [
                    f"{low}-{high}",
                    percent(found.pixel[use].mean()),
                    percent(found.low_pixel[use_low].mean()),
                ]
            )
    return table(["Å", "R = 28,000", "R = 1,800"], rows)


def group_table(held: Held, names: Sequence[str], found: Errors) -> str:
    """Errors of flux in groups of stars."""
    teff, logg, fe_h = (held.labels[:, list(names).index(n)] for n in ("teff", "logg", "fe_h"))
    groups = [
        (
            f"{low:.0f}-{high:.0f} K, log g {'<' if giant else '>='} {LOGG}",
            (teff >= low) & (teff < high) & ((logg < LOGG) == giant),
        )
        for low, high in pairwise(TEFF)
        for giant in (True, False)
    ]
    groups += [
        (f"[Fe/H] < {METAL_POOR}", fe_h < METAL_POOR),
        (f"[Fe/H] >= {METAL_POOR}", fe_h >= METAL_POOR),
    ]
    rows = [
        [
            title,
            str(use.sum()),
            percent(found.star[use].mean()),
            percent(found.low_star[use].mean()),
        ]
        for title, use in groups
        if use.any()
    ]
    return table(["stars", "number", "R = 28,000", "R = 1,800"], rows)


def label_table(names: Sequence[str], found: Sequence[tuple[str, Errors]], held: Held) -> str:
    """Errors of differential spectra of each label, for every emulator of a range."""
    is_strong = strong(held)
    rows = [
        [
            f"{'**' if is_strong[i] else ''}{name}{'**' if is_strong[i] else ''}",
            *(percent(one.slopes[i], 1) for _, one in found),
            percent(found[0][1].low_slopes[i], 1),
        ]
        for i, name in enumerate(names)
    ]
    head = ["label", *(name for name, _ in found), f"{found[0][0]}, R = 1,800"]
    return table(head, rows)


def milliseconds(emulator: Emulator, labels: NDArray, repeats: int = 3) -> list[list[str]]:
    """Processor time of one spectrum, in several ways."""
    low = low_wavelength(emulator)
    works = {
        "flux of 64 stars on the native pixels": (
            64,
            lambda: emulator.basis.flux(emulator.latents(labels[:64])),
        ),
        "flux of one star on the native pixels": (
            1,
            lambda: emulator.basis.flux(emulator.latents(labels[:1])),
        ),
        "flux of 64 stars at R = 1,800": (
            64,
            lambda: emulator.flux(labels[:64], low, LOW_RESOLUTION),
        ),
        "flux and slopes with all labels of 8 stars at R = 1,800": (
            8,
            lambda: emulator.jacobian(labels[:8], low, LOW_RESOLUTION),
        ),
    }
    rows = []
    for title, (count, work) in works.items():
        work()
        best = np.inf
        for _ in range(repeats):
            start = time.process_time()
            work()
            best = min(best, time.process_time() - start)
        rows.append([title, f"{1e3 * best / count:.2f}"])
    return rows


def engine_milliseconds(emulator: Emulator, labels: NDArray) -> float:
    """Mean processor time that the engine takes for the spectrum of a star, at 2.4 km/s."""
    low, high = emulator.wavelength[[0, -1]]
    grid = wavelength_grid(low + 0.1, high - 0.1, 2.4, "logarithmic")
    seconds = []
    for row in labels:
        values = dict(zip(emulator.names, row.tolist(), strict=True))
        head = [values.pop(name) for name in ("teff", "logg", "fe_h", "v_micro")]
        star = Star(*head, {k.removesuffix("_fe").capitalize(): v for k, v in values.items()})
        start = time.process_time()
        synthesise(star, grid, lines="full")
        seconds.append(time.process_time() - start)
    return 1e3 * float(np.mean(seconds[1:] if len(seconds) > 1 else seconds))


def sections(options: argparse.Namespace) -> list[str]:
    """Sections of the page: a summary, and details of the first emulator of each range."""
    opened = [(Path(folder).name, load_emulator(folder)) for folder in options.runs]
    ranges: dict[tuple[float, ...], list[tuple[str, Emulator]]] = {}
    for name, emulator in opened:
        key = tuple(np.round(emulator.wavelength[[0, -1]], 0))
        ranges.setdefault(key, []).append((name, emulator))
    found = [
        "# The emulators",
        "Spectra and differential spectra of stars that no emulator was trained on, made by the "
        "engine itself, against the emulators. Of the flux over the continuum: mean absolute "
        "error, per cent, mean of all pixels and stars. Of differential spectra (the change of "
        "flux over one step of a label): root mean square of the error over that of the change, "
        f"per cent, median of stars; labels are strong (bold) if a step changes {100 * STRONG:.1f} "
        "per cent of the flux, root mean square, in a typical star.",
        "```\npython benchmarks/emulator.py RUN ... --spectra HELD.grid --slopes HELD_SLOPES.grid "
        "--page docs/results/emulator.md\n```",
        remarks("summary"),
    ]
    for (low, high), members in ranges.items():
        first = members[0][1]
        held, held_of = None, ()
        rows, compared = [], []
        for name, emulator in members:
            grids = emulator.card["configuration"]["grids"]
            pixels = (emulator.basis.start, emulator.basis.step, grids["patch_pixels"])
            if held is None or held_of != pixels:
                held, held_of = held_out(emulator, options.spectra, options.slopes), pixels
            one = errors(emulator, held)
            compared.append((name, one))
            rows.append(summary_row(name, emulator, one, strong(held)))
        held = held_out(first, options.spectra, options.slopes) if len(members) > 1 else held
        assert held is not None
        stars = f"{len(held.labels)} stars, {len(held.slopes.rows)} with differential spectra"
        band = "h" if low > 10000 else "optical"
        found += [
            f"## {low:.0f}-{high:.0f} Å",
            f"{stars}.",
            table(SUMMARY, rows),
            remarks(band),
            f"By wavelength, `{members[0][0]}`:",
            window_table(held, compared[0][1]),
            f"By star, `{members[0][0]}`:",
            group_table(held, first.names, compared[0][1]),
            "Differential spectra at R = 28,000:",
            label_table(first.names, compared, held),
        ]
        times = milliseconds(first, held.labels)
        if options.engine:
            engine = engine_milliseconds(first, held.labels[: options.engine + 1])
            times.append(["the engine, one star", f"{engine:.0f}"])
        found += ["Processor time of one spectrum on one core:", table(["", "ms"], times)]
    return found


def main() -> None:
    """Run as the documentation of this file says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", metavar="RUN")
    parser.add_argument("--spectra", required=True, metavar="GRID")
    parser.add_argument("--slopes", required=True, metavar="GRID")
    parser.add_argument("--engine", type=int, default=0, metavar="STARS")
    parser.add_argument("--page", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    page = sections(options)
    if options.page:
        write_page(options.page, page)
    else:
        print("\n\n".join(page))


if __name__ == "__main__":
    main()
