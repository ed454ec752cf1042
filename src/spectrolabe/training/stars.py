"""Stars to train on: those of the Galaxy, and others whose abundances know nothing of each other.

A model that only saw the Galaxy would infer europium from magnesium and call it a measurement. So
part of the stars have each abundance drawn independently, part of the Galaxy's stars scatter more
than they do, and only stars of the Galaxy have an age and an absolute magnitude.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spectrolabe.config import StarsConfig, StreamConfig
from spectrolabe.config.sky import PopulationConfig, SkyConfig
from spectrolabe.labels import LabelScale
from spectrolabe.models.emulator import Emulator
from spectrolabe.sky.population import draw_population
from spectrolabe.synthesis.sampling import MOST_CARBON, sample_labels

__all__ = [
    "EXPOSURE",
    "GALACTIC",
    "Stars",
    "draw_stars",
    "sky_labels",
    "sky_scale",
    "typical_values",
]

GALACTIC = ("abs_mag_k", "age")  # known of stars of the Galaxy alone
EXPOSURE = "rv_residual"  # of a spectrum, not of a star
BROADENING = (1.5, 100.0)  # km/s, of the other stars, evenly in the logarithm
SCALED_ON = 20_000  # stars
VELOCITY_WIDTH = 10.0  # km/s: the unit of velocities that are left


@dataclass(frozen=True, eq=False)
class Stars:
    """N stars.

    Parameters
    ----------
    atmosphere : ndarray, shape (N, A)
        Labels of the emulator.
    v_broad : ndarray, shape (N,)
        km/s.
    values : ndarray, shape (N, L)
        The labels to learn; NaN where a star has none.
    """

    atmosphere: NDArray
    v_broad: NDArray
    values: NDArray

    def __len__(self) -> int:
        return len(self.atmosphere)

    def take(self, index: NDArray) -> Stars:
        """Return these stars."""
        return Stars(self.atmosphere[index], self.v_broad[index], self.values[index])


def sky_labels(emulator: Emulator) -> tuple[str, ...]:
    """Return the labels that a sky of this emulator knows."""
    own = [name for name in emulator.names if name != "v_micro"]
    return (*own, "v_micro", "v_broad", EXPOSURE, *GALACTIC)


def draw_stars(
    config: StreamConfig,
    emulator: Emulator,
    names: tuple[str, ...],
    count: int,
    rng: np.random.Generator,
) -> Stars:
    """Draw stars in random order.

    Parameters
    ----------
    config : StreamConfig
    emulator : Emulator
        Whose labels and ranges the stars have.
    names : tuple of str
        The L labels to learn.
    count : int
        N.
    rng : Generator
    """
    galaxy = round(config.field * count)
    parts = [
        _galaxy(config, emulator, galaxy, rng) if galaxy else {},
        _independent(emulator, count - galaxy, rng) if galaxy < count else {},
    ]
    known = dict.fromkeys((*emulator.names, "v_broad", *GALACTIC))
    columns = {
        name: np.concatenate([_column(part, name) for part in parts if part]) for name in known
    }
    low, high = (dict(zip(emulator.names, a, strict=True)) for a in (emulator.low, emulator.high))
    for name in emulator.names:
        columns[name] = np.clip(columns[name], low[name], high[name])
    columns["c_fe"] = np.minimum(columns["c_fe"], columns["o_fe"] + MOST_CARBON)
    columns[EXPOSURE] = np.full(count, np.nan)
    order = rng.permutation(count)
    return Stars(
        np.stack([columns[name][order] for name in emulator.names], axis=1),
        columns["v_broad"][order],
        np.stack([columns[name][order] for name in names], axis=1),
    )


def _column(part: dict[str, NDArray], name: str) -> NDArray:
    return part[name] if name in part else np.full(len(part["teff"]), np.nan)


def _galaxy(
    config: StreamConfig, emulator: Emulator, count: int, rng: np.random.Generator
) -> dict[str, NDArray]:
    population = PopulationConfig(stars=count, giants=0.5, thick=0.25, halo=0.1)
    table = draw_population(SkyConfig(population=population), rng)
    columns = {
        name: np.asarray(table[name], dtype=float)
        for name in table.colnames[4:]
        if table[name].dtype.kind == "f"
    }
    scattered = rng.random(count) < 0.5
    for name in emulator.names:
        if name.endswith("_fe") and name != "li_fe":
            more = config.abundance_scatter * rng.normal(size=count)
            columns[name] = columns[name] + np.where(scattered, more, 0.0)
    # C and N of a giant tell its age only where they are those that the Galaxy gave it
    columns["age"] = np.where(scattered, np.nan, columns["age"])
    return columns


def _independent(emulator: Emulator, count: int, rng: np.random.Generator) -> dict[str, NDArray]:
    seed = int(rng.integers(2**31))
    low, high = (dict(zip(emulator.names, a, strict=True)) for a in (emulator.low, emulator.high))
    drawn = sample_labels(
        StarsConfig(
            count=count,
            seed=seed,
            method="latin_hypercube",
            v_micro_scatter=0.3,
            teff=(low["teff"], high["teff"]),
            logg=(low["logg"], high["logg"]),
            fe_h=(low["fe_h"], high["fe_h"]),
        )
    )
    columns = {name: drawn[name] for name in drawn.names}
    first, last = np.log(BROADENING)
    columns["v_broad"] = np.exp(rng.uniform(first, last, count))
    return columns


def typical_values(config: StreamConfig, emulator: Emulator, names: tuple[str, ...]) -> NDArray:
    """Return the labels of many stars, (N, L), always the same; velocities left are +- 10 km/s."""
    rng = np.random.default_rng(0)
    values = draw_stars(config, emulator, names, SCALED_ON, rng).values.copy()
    if EXPOSURE in names:
        values[::2, names.index(EXPOSURE)] = VELOCITY_WIDTH
        values[1::2, names.index(EXPOSURE)] = -VELOCITY_WIDTH
    return values


def sky_scale(config: StreamConfig, emulator: Emulator, names: tuple[str, ...]) -> LabelScale:
    """Return the scale of the labels: mean and standard deviation of many stars."""
    values = typical_values(config, emulator, names)
    return LabelScale(names, np.nanmean(values, axis=0), np.nanstd(values, axis=0))
