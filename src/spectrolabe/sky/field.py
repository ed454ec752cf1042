"""Stars of the Galactic field: ages, compositions and masses of those that surveys see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spectrolabe.config.sky import PopulationConfig
from spectrolabe.errors import InputError
from spectrolabe.sky.chemistry import COMPONENTS, birth, magnesium, metals
from spectrolabe.sky.evolution import Stars, evolve, giant_mass, giant_time, kroupa_mass, lifetime

__all__ = ["Draft", "draw_ages", "draw_field", "joined", "observable"]

CHUNK = 100_000
PATIENCE = 40  # rounds without enough stars before a configuration is called impossible
HOPELESS = 3  # rounds without any star


@dataclass(frozen=True, eq=False)
class Draft:
    """What decides N stars; arrays of shape (N,), NaN where still to be drawn.

    Parameters
    ----------
    component : ndarray of str
    mass, age, fe_h : ndarray
        Solar masses, Gyr, dex.
    composition : dict of ndarray
        [X/Fe] at birth by label name.
    magnitude : ndarray
        Observed G that gives the distance.
    distance : ndarray
        kpc.
    ra, dec : ndarray
        Degrees.
    rv : ndarray
        km/s.
    a_v : ndarray
        Extinction in V, mag.
    cluster_id, binary_id : ndarray of str
        Empty for stars of none.
    """

    component: NDArray
    mass: NDArray
    age: NDArray
    fe_h: NDArray
    composition: dict[str, NDArray]
    magnitude: NDArray
    distance: NDArray
    ra: NDArray
    dec: NDArray
    rv: NDArray
    a_v: NDArray
    cluster_id: NDArray
    binary_id: NDArray

    def __len__(self) -> int:
        return len(self.mass)


def joined(drafts: Sequence[Draft]) -> Draft:
    """Return the stars of several drafts as one."""
    found: dict[str, Any] = {}
    for entry in fields(Draft):
        parts = [getattr(draft, entry.name) for draft in drafts]
        if entry.name == "composition":
            found[entry.name] = {x: np.concatenate([p[x] for p in parts]) for x in parts[0]}
        else:
            found[entry.name] = np.concatenate(parts)
    return Draft(**found)


def observable(stars: Stars, fe_h: NDArray, config: PopulationConfig) -> NDArray:
    """Return which stars are within the limits of temperature, gravity and metallicity."""
    inside = stars.stage < 4
    for values, (low, high) in (
        (stars.teff, config.teff),
        (stars.logg, config.logg),
        (fe_h, config.fe_h),
    ):
        inside &= (values > low) & (values < high)
    return inside


def draw_ages(
    rng: np.random.Generator, count: int, config: PopulationConfig
) -> tuple[NDArray, NDArray, NDArray]:
    """Draw component, age in Gyr and [Fe/H] of stars at birth, each of shape (count,).

    Notes
    -----
    Thin disc: nearly constant star formation for 9.5 Gyr, [Fe/H] about solar with a scatter that
    grows with age as stars migrate (Casagrande et al. 2011, A&A 530, A138). Thick disc: 8 to 12.5
    Gyr old (Haywood et al. 2013, A&A 560, A109), [Fe/H] -0.5 +- 0.25. Halo: older than 10 Gyr,
    -1.4 +- 0.4.
    """
    share = np.array([1 - config.thick - config.halo, config.thick, config.halo])
    component = np.array(COMPONENTS)[rng.choice(3, count, p=share)]
    u, normal = rng.random(count), rng.normal(size=count)
    thin_age, thick_age = 0.3 + 9.5 * u**0.9, 8.0 + 4.5 * np.sqrt(u)
    age = np.select([component == "thin", component == "thick"], [thin_age, thick_age], 10 + 3 * u)
    thin = 0.04 - 0.008 * thin_age + (0.12 + 0.012 * thin_age) * normal
    thick = -0.30 - 0.07 * (age - 8.0) + 0.22 * normal
    fe_h = np.select(
        [component == "thin", component == "thick"], [thin, thick], -1.4 + 0.4 * normal
    )
    return component, age, fe_h


def draw_field(rng: np.random.Generator, config: PopulationConfig) -> Draft:
    """Draw the stars of the field.

    Notes
    -----
    Dwarfs and subgiants have masses of the initial mass function and are taken in proportion to
    their luminosity, as a magnitude limit does in a layer; giants are spread evenly over the time
    they are giants. G goes as 10^(0.25 G) between the limits.

    Raises
    ------
    InputError
        If hardly any star is within the limits.
    """
    giants = round(config.stars * config.giants)
    parts = [_draw(rng, config, giants, giant=True)] if giants else []
    if config.stars > giants:
        parts.append(_draw(rng, config, config.stars - giants, giant=False))
    component, mass, age, fe_h, mg_fe = (np.concatenate(p) for p in zip(*parts, strict=True))
    low, high = (10 ** (0.25 * m) for m in config.magnitude)
    empty, nowhere = np.full(mass.size, ""), np.full(mass.size, np.nan)
    return Draft(
        component=component,
        mass=mass,
        age=age,
        fe_h=fe_h,
        composition=birth(rng, mg_fe, fe_h, age, config.scatter),
        magnitude=4 * np.log10(low + (high - low) * rng.random(mass.size)),
        distance=nowhere,
        ra=nowhere,
        dec=nowhere,
        rv=nowhere,
        a_v=nowhere,
        cluster_id=empty,
        binary_id=empty,
    )


def _draw(
    rng: np.random.Generator, config: PopulationConfig, count: int, giant: bool
) -> tuple[NDArray, ...]:
    found: list[tuple[NDArray, ...]] = []
    number = 0
    size = min(CHUNK, 8 * count + 1000)
    for tried in range(PATIENCE):
        component, age, fe_h = draw_ages(rng, size, config)
        mg_fe = magnesium(rng, component, fe_h, age, config.scatter)
        m_h = metals(fe_h, mg_fe)
        if giant:
            mass = giant_mass(age, m_h, rng.random(size))
            # stars in a given share of that life: the mass function times the span of masses
            span = np.abs(lifetime(mass * 1.01, m_h) - lifetime(mass * 0.99, m_h)) / mass
            wanted = mass**-2.3 / span * giant_time(mass, m_h)
        else:
            mass = kroupa_mass(rng, size, 0.5, 5.0)
            wanted = np.ones(size)
        stars = evolve(mass, age, m_h)
        inside = observable(stars, fe_h, config) & ((stars.stage >= 2) == giant)
        if not giant:
            wanted = np.clip(np.nan_to_num(stars.luminosity), 0.0, 12.0) / 12.0
        else:
            wanted = np.minimum(wanted / np.percentile(wanted, 95), 1.0)
        kept = np.flatnonzero(inside & (rng.random(size) < wanted))
        found.append(tuple(x[kept] for x in (component, mass, age, fe_h, mg_fe)))
        number += kept.size
        size = CHUNK if number * 4 < count else size
        if number >= count:
            return tuple(np.concatenate(x)[:count] for x in zip(*found, strict=True))
        if not number and tried + 1 >= HOPELESS:
            break
    raise InputError(
        "population",
        expected=f"limits within which there are {count} {'giants' if giant else 'dwarfs'}",
        found=f"{number}",
        fix="Widen teff, logg or fe_h, or change the share of giants.",
    )
