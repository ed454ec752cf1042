"""Stars that share their birth: open clusters and wide binaries."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spectrolabe.config.sky import BinariesConfig, ClustersConfig, PopulationConfig
from spectrolabe.errors import InputError
from spectrolabe.sky.chemistry import birth, magnesium, metals
from spectrolabe.sky.evolution import evolve, giant_mass, kroupa_mass
from spectrolabe.sky.field import Draft, draw_ages, observable
from spectrolabe.sky.photometry import EXTINCTION, absolute_magnitudes

__all__ = ["draw_binaries", "draw_clusters"]

TRIES = 200
POOL = 4000
GIANTS = 0.25  # of the stars of a cluster that are tried
CLUSTER_RADIUS = 0.2  # degrees
CLUSTER_RV, BINARY_RV = 0.8, 0.4  # km/s from star to star


def draw_clusters(
    rng: np.random.Generator, config: ClustersConfig, limits: PopulationConfig
) -> list[Draft]:
    """Draw open clusters, one draft each.

    Notes
    -----
    [Fe/H] 0.0 +- 0.12 (Netopil et al. 2016, A&A 585, A150), 0.3 to 3 kpc away in the disc. Only
    stars within the limits of temperature, gravity and magnitude are members.

    Raises
    ------
    InputError
        If no cluster has as many observable members.
    """
    return [_cluster(rng, config, limits, f"cluster{i + 1:03d}") for i in range(config.count)]


def _cluster(
    rng: np.random.Generator, config: ClustersConfig, limits: PopulationConfig, name: str
) -> Draft:
    for _ in range(TRIES):
        age = np.full(POOL, np.exp(rng.uniform(*np.log(config.age))))
        fe_h = np.full(POOL, np.clip(rng.normal(0.0, 0.12), -0.4, 0.4))
        mg_fe = magnesium(rng, np.array(["thin"]), fe_h[:1], age[:1], limits.scatter)
        m_h = metals(fe_h, mg_fe)
        few = int(GIANTS * POOL)
        mass = np.r_[
            giant_mass(age[:few], m_h[:few], rng.random(few)), kroupa_mass(rng, POOL - few, 0.5, 5)
        ]
        distance = np.exp(rng.uniform(np.log(0.3), np.log(3.0)))
        a_v = min(0.4 * distance * rng.lognormal(0.0, 0.4), 2.5)
        seen = _seen(mass, age, m_h, fe_h, np.full(POOL, distance), np.full(POOL, a_v), limits)
        if seen.size >= config.members:
            break
    else:
        raise InputError(
            "clusters",
            expected=f"{config.members} stars of a cluster within the limits of the population",
            found=f"fewer in {TRIES} clusters",
            fix="Ask for fewer members, or widen the magnitudes.",
        )
    chosen = rng.choice(seen, config.members, replace=False)
    one = birth(rng, mg_fe, fe_h[:1], age[:1], limits.scatter)
    ra, dec = rng.uniform(0.0, 360.0), np.degrees(np.arcsin(rng.uniform(-0.95, 0.95)))
    return _draft(
        rng,
        {label: np.full(config.members, value[0]) for label, value in one.items()},
        config.scatter,
        component=np.full(config.members, "thin"),
        mass=mass[chosen],
        age=age[chosen],
        fe_h=fe_h[chosen],
        distance=np.full(config.members, distance),
        place=_around(rng, np.full(config.members, ra), np.full(config.members, dec)),
        rv=rng.normal(0.0, 35.0) + CLUSTER_RV * rng.normal(size=config.members),
        a_v=np.full(config.members, a_v),
        cluster_id=np.full(config.members, name),
        binary_id=np.full(config.members, ""),
    )


def draw_binaries(
    rng: np.random.Generator, config: BinariesConfig, limits: PopulationConfig
) -> list[Draft]:
    """Draw wide binaries: one draft in which pairs follow each other; none if ``count`` is 0.

    Notes
    -----
    Two masses of the initial mass function, in one pair of five a giant and a dwarf; both stars
    within the limits and at least 100 K apart. Components of wide binaries agree to 0.02 dex
    (Hawkins et al. 2020, MNRAS 492, 1164).

    Raises
    ------
    InputError
        If hardly any pair is within the limits.
    """
    if not config.count:
        return []
    found: list[tuple[NDArray, ...]] = []
    for _ in range(TRIES):
        size = 4000
        component, age, fe_h = draw_ages(rng, size, limits)
        mg_fe = magnesium(rng, component, fe_h, age, limits.scatter)
        m_h = metals(fe_h, mg_fe)
        first, second = kroupa_mass(rng, size, 0.5, 4.0), kroupa_mass(rng, size, 0.5, 4.0)
        first = np.where(rng.random(size) < 0.2, giant_mass(age, m_h, rng.random(size)), first)
        distance = np.exp(rng.uniform(np.log(0.05), np.log(1.5), size))
        a_v = 0.3 * distance * rng.lognormal(0.0, 0.4, size)
        apart = np.abs(evolve(first, age, m_h).teff - evolve(second, age, m_h).teff) > 100.0
        both = np.intersect1d(
            _seen(first, age, m_h, fe_h, distance, a_v, limits),
            _seen(second, age, m_h, fe_h, distance, a_v, limits),
        )
        both = both[apart[both]]
        columns = (component, age, fe_h, mg_fe, first, second, distance, a_v)
        found.append(tuple(x[both] for x in columns))
        if sum(part[0].size for part in found) >= config.count:
            break
    else:
        raise InputError(
            "binaries",
            expected=f"{config.count} pairs within the limits of the population",
            found=f"{sum(part[0].size for part in found)}",
            fix="Widen the magnitudes or temperatures.",
        )
    joined = (np.concatenate(x)[: config.count] for x in zip(*found, strict=True))
    component, age, fe_h, mg_fe, first, second, distance, a_v = joined
    composition = birth(rng, mg_fe, fe_h, age, limits.scatter)
    number = np.arange(config.count)
    ra = rng.uniform(0.0, 360.0, config.count)
    dec = np.degrees(np.arcsin(rng.uniform(-1.0, 1.0, config.count)))

    def twice(values: NDArray) -> NDArray:
        return np.repeat(values, 2)

    near = _around(rng, twice(ra), twice(dec), 20.0 / 3600.0)
    return [
        _draft(
            rng,
            {label: twice(values) for label, values in composition.items()},
            config.scatter / np.sqrt(2.0),
            component=twice(component),
            mass=np.column_stack([first, second]).ravel(),
            age=twice(age),
            fe_h=twice(fe_h),
            distance=twice(distance),
            place=near,
            rv=twice(rng.normal(0.0, 40.0, config.count))
            + BINARY_RV * rng.normal(size=2 * config.count),
            a_v=twice(a_v),
            cluster_id=np.full(2 * config.count, ""),
            binary_id=twice(np.array([f"binary{i + 1:05d}" for i in number])),
        )
    ]


def _seen(
    mass: NDArray,
    age: NDArray,
    m_h: NDArray,
    fe_h: NDArray,
    distance: NDArray,
    a_v: NDArray,
    limits: PopulationConfig,
) -> NDArray:
    """Return the rows of stars within the limits of the population, magnitudes included."""
    stars = evolve(mass, age, m_h)
    inside = np.flatnonzero(observable(stars, fe_h, limits))
    magnitude = absolute_magnitudes(
        *(x[inside] for x in (stars.teff, stars.logg, fe_h, stars.luminosity))
    )["G"]
    g = magnitude + 5 * np.log10(distance[inside]) + 10 + EXTINCTION["G"] * a_v[inside]
    return inside[(g > limits.magnitude[0]) & (g < limits.magnitude[1])]


def _around(
    rng: np.random.Generator, ra: NDArray, dec: NDArray, radius: float = CLUSTER_RADIUS
) -> tuple[NDArray, NDArray]:
    near = np.clip(dec + radius * rng.normal(size=dec.size), -89.9, 89.9)
    return (ra + radius * rng.normal(size=ra.size) / np.cos(np.radians(near))) % 360.0, near


def _draft(
    rng: np.random.Generator,
    composition: dict[str, NDArray],
    scatter: float,
    *,
    place: tuple[NDArray, NDArray],
    fe_h: NDArray,
    **columns: NDArray,
) -> Draft:
    """A group, with an own error of each star's abundances: iron's moves all [X/H] alike."""
    for label in composition:
        composition[label] = composition[label] + scatter * rng.normal(size=fe_h.size)
    return Draft(
        composition=composition,
        fe_h=fe_h + scatter * rng.normal(size=fe_h.size),
        magnitude=np.full(fe_h.size, np.nan),
        ra=place[0],
        dec=place[1],
        **columns,
    )
