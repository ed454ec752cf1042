"""The stars of a synthetic sky: the table that holds the truth.

Columns, one row a star:

- ``star_id``, ``gaia_dr3_source_id``, ``ra``, ``dec`` (degrees, ICRS);
- labels by their names in `spectrolabe.labels.LABELS`: ``teff``, ``logg``, ``fe_h``, ``m_h``,
  ``alpha_fe``, ``alpha_m``, ``v_micro``, ``v_broad``, ``rv``, ``age``, ``distance``,
  ``abs_mag_k`` and ``<x>_fe`` of every element of the registry;
- ``mass``, ``radius``, ``luminosity`` (solar units), ``vsini``, ``vmac`` (km/s), ``stage`` (a name
  of `spectrolabe.sky.evolution.STAGES`), ``population`` (thin, thick, halo);
- ``a_v``, ``ebv`` (mag), observed magnitudes ``G BP RP J H K g r i``, ``parallax`` (of the
  distance), ``parallax_measured``, ``parallax_error`` (mas);
- ``cluster_id``, ``binary_id``: empty for stars of none.

Rows are in random order, and neither identifiers nor positions tell a label.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from spectrolabe.config.sky import PopulationConfig, SkyConfig
from spectrolabe.errors import InputError
from spectrolabe.labels import LABELS
from spectrolabe.sky.chemistry import dredge_up, lithium, metals
from spectrolabe.sky.evolution import SOLAR_LOGG, SOLAR_TEFF, STAGES, evolve
from spectrolabe.sky.field import Draft, draw_field, joined
from spectrolabe.sky.groups import draw_binaries, draw_clusters
from spectrolabe.sky.photometry import BANDS, EXTINCTION, absolute_magnitudes
from spectrolabe.surveys.files import read_table

__all__ = ["draw_population", "macroturbulence", "microturbulence", "rotation"]

ALPHA = ("o_fe", "mg_fe", "si_fe", "s_fe", "ca_fe", "ti_fe")
HEIGHT = {"thin": 0.30, "thick": 0.90, "halo": 5.0}  # kpc (Bland-Hawthorn & Gerhard 2016, ARA&A 54)
DISPERSION = {"thin": 35.0, "thick": 60.0, "halo": 150.0}  # km/s, of the line of sight (same)
DUST_HEIGHT, DUST = 0.125, 0.8  # kpc, mag/kpc of A_V in the plane
R_V = 3.1
KRAFT = 6250.0  # K: hotter stars have no wind to slow them (Kraft 1967, ApJ 150, 551)


def draw_population(config: SkyConfig, rng: np.random.Generator) -> Table:
    """Draw the stars of a synthetic sky.

    Parameters
    ----------
    config : SkyConfig
    rng : Generator
        The same state gives the same stars.

    Returns
    -------
    Table
        One row a star, with the columns that this module describes.

    Raises
    ------
    InputError
        If hardly any star is within the limits, or the table of labels cannot be used.
    """
    limits = config.population
    draft = joined(
        [
            draw_field(rng, limits),
            *draw_clusters(rng, config.clusters, limits),
            *draw_binaries(rng, config.binaries, limits),
        ]
    )
    columns = _labels(rng, draft, limits.scatter)
    if limits.label_table:
        _take_labels(rng, columns, limits)
    _derived(columns)
    _motion(rng, columns)
    _place(rng, draft, columns)
    _identify(rng, draft, columns)
    table = Table({name: columns[name] for name in _order(columns)})
    return table[rng.permutation(len(table))]


def _labels(rng: np.random.Generator, draft: Draft, scatter: float) -> dict[str, NDArray]:
    composition = dict(draft.composition)
    m_h = metals(draft.fe_h, composition["mg_fe"])
    stars = evolve(draft.mass, draft.age, m_h)
    giant = stars.stage >= 2
    composition["c_fe"], composition["n_fe"] = dredge_up(
        composition["c_fe"], composition["n_fe"], draft.mass, draft.fe_h, stars.logg, giant
    )
    composition["li_fe"] = lithium(
        rng, stars.teff, stars.logg, draft.fe_h, draft.age, giant, scatter
    )
    return {
        "teff": stars.teff,
        "logg": stars.logg,
        "fe_h": draft.fe_h,
        **composition,
        "age": draft.age,
        "mass": draft.mass,
        "stage": np.array(STAGES)[stars.stage],
        "population": draft.component,
    }


def _take_labels(
    rng: np.random.Generator, columns: dict[str, NDArray], limits: PopulationConfig
) -> None:
    """Give field stars the labels of a table; the rest stays that of the star nearest to them."""
    table = _read(Path(limits.label_table))
    inside = np.ones(len(table), dtype=bool)
    for name in ("teff", "logg", "fe_h"):
        if name not in table.colnames:
            raise InputError(
                limits.label_table,
                expected="columns teff, logg and fe_h",
                found=", ".join(table.colnames[:20]),
            )
        low, high = getattr(limits, name)
        values = np.asarray(table[name], dtype=float)
        inside &= (values > low) & (values < high)
    if not inside.any():
        raise InputError(
            limits.label_table, expected="stars within the limits of the population", found="none"
        )
    from scipy.spatial import cKDTree  # slow to import, and few configurations need it

    width = np.array([150.0, 0.15, 0.15])
    drawn = np.column_stack([columns[name] for name in ("teff", "logg", "fe_h")]) / width
    rows = rng.choice(np.flatnonzero(inside), limits.stars)
    given = np.column_stack([np.asarray(table[n], float)[rows] for n in ("teff", "logg", "fe_h")])
    _, near = cKDTree(drawn[: limits.stars]).query(given / width)
    field = slice(0, limits.stars)
    for name, values in columns.items():
        columns[name] = values.copy()
        columns[name][field] = values[near]
    for name in table.colnames:
        if name in columns and name in LABELS:
            values = np.asarray(table[name], dtype=float)[rows]
            columns[name][field] = np.where(np.isfinite(values), values, columns[name][field])


def _read(path: Path) -> Table:
    if not path.is_file():
        raise InputError(path, expected="a table of labels", found="none")
    return read_table(path)


def _derived(columns: dict[str, NDArray]) -> None:
    """Luminosity, radius, magnitudes and the mixtures that follow from the labels."""
    teff, logg, fe_h = columns["teff"], columns["logg"], columns["fe_h"]
    columns["radius"] = np.sqrt(columns["mass"] * 10 ** (SOLAR_LOGG - logg))
    columns["luminosity"] = columns["radius"] ** 2 * (teff / SOLAR_TEFF) ** 4
    columns["alpha_fe"] = np.mean([columns[name] for name in ALPHA], axis=0)
    columns["m_h"] = metals(fe_h, columns["alpha_fe"])
    columns["alpha_m"] = columns["alpha_fe"] + fe_h - columns["m_h"]


def microturbulence(teff: NDArray, logg: NDArray) -> NDArray:
    """Return v_micro in km/s, shape (N,).

    Dwarfs: Bruntt et al. (2010, MNRAS 405, 1907); giants: the relation of APOGEE DR13 (Holtzman et
    al. 2018, AJ 156, 125); mixed between log g 3 and 4.
    """
    x = np.clip(teff, 4800.0, 7000.0) - 5700.0
    dwarf = 1.01 + 4.5610e-4 * x + 2.75e-7 * x**2
    giant = 10 ** (0.226 - 0.0228 * logg + 0.0297 * logg**2 - 0.0113 * logg**3)
    share = np.clip(logg - 3.0, 0.0, 1.0)
    return share * dwarf + (1 - share) * giant


def macroturbulence(teff: NDArray, logg: NDArray, m_h: NDArray) -> NDArray:
    """Return the radial-tangential v_macro in km/s, shape (N,).

    Dwarfs: Doyle et al. (2014, MNRAS 444, 3592); giants: APOGEE DR13 (Holtzman et al. 2018); mixed
    between log g 3 and 4.
    """
    x = np.clip(teff, 5200.0, 6500.0) - 5777.0
    dwarf = 3.21 + 2.33e-3 * x + 2.0e-6 * x**2 - 2.0 * (np.clip(logg, 3.9, 4.7) - 4.44)
    giant = 10 ** (0.741 - 0.0998 * logg - 0.225 * np.clip(m_h, -1.5, 0.5))
    share = np.clip(logg - 3.0, 0.0, 1.0)
    return share * dwarf + (1 - share) * np.clip(giant, 0.0, 8.0)


def rotation(teff: NDArray, age: NDArray, radius: NDArray, giant: NDArray) -> NDArray:
    """Return typical equatorial velocities in km/s, shape (N,), without scatter.

    Cool dwarfs spin down with age (Mamajek & Hillenbrand 2008, ApJ 687, 1264); above the Kraft
    break they do not; giants turn at 2 km/s (Gray 1989, ApJ 347, 1021).
    """
    # B-V of a temperature: the inverse of Ballesteros (2012, EPL 97, 34008)
    colours = np.linspace(0.2, 1.5, 131)
    hot = 4600.0 * (1 / (0.92 * colours + 1.7) + 1 / (0.92 * colours + 0.62))
    b_v = np.interp(-teff, -hot, colours)
    period = (1000.0 * age) ** 0.566 * 0.407 * np.maximum(b_v - 0.495, 0.01) ** 0.325
    cool = 50.6 * radius / period
    fast = 12.0 + 60.0 * np.clip((teff - KRAFT) / 1000.0, 0.0, None)
    blend = np.clip((teff - KRAFT + 100.0) / 200.0, 0.0, 1.0)
    return np.where(giant, 2.0, (1 - blend) * np.minimum(cool, 40.0) + blend * fast)


def _motion(rng: np.random.Generator, columns: dict[str, NDArray]) -> None:
    teff, logg = columns["teff"], columns["logg"]
    count = teff.size
    giant = np.isin(columns["stage"], STAGES[2:4])
    equatorial = rotation(teff, columns["age"], columns["radius"], giant)
    equatorial = equatorial * rng.lognormal(0.0, 0.25, count)
    sine = np.sqrt(1.0 - rng.random(count) ** 2)  # axes point anywhere
    columns["vsini"] = np.minimum(equatorial * sine, 120.0)
    columns["vmac"] = macroturbulence(teff, logg, columns["m_h"]) * rng.lognormal(0.0, 0.08, count)
    columns["v_micro"] = microturbulence(teff, logg) * rng.lognormal(0.0, 0.07, count)
    columns["v_broad"] = np.hypot(columns["vsini"], columns["vmac"])


def _place(rng: np.random.Generator, draft: Draft, columns: dict[str, NDArray]) -> None:
    """Distance, position, extinction, magnitudes, parallax and velocity."""
    count = len(draft)
    absolute = absolute_magnitudes(*(columns[n] for n in ("teff", "logg", "fe_h", "luminosity")))
    height = np.array([HEIGHT[name] for name in columns["population"]])
    modulus = draft.magnitude - absolute["G"]
    distance = np.where(np.isnan(draft.distance), 10 ** (modulus / 5 - 2), draft.distance)
    # heights above the plane fall off exponentially, and no star is higher than it is far
    share = rng.random(count)
    sine = -height / distance * np.log1p(-share * -np.expm1(-distance / height))
    sine = np.clip(sine, 1e-3, 1.0) * rng.choice([-1.0, 1.0], count)
    patchy = rng.lognormal(0.0, 0.3, count)
    a_v = draft.a_v
    for _ in range(8):  # extinction makes a star of given G nearer, and less of it
        path = DUST_HEIGHT / np.abs(sine)
        column = DUST * path * -np.expm1(-distance / path)
        a_v = np.where(np.isnan(draft.a_v), np.minimum(column * patchy, 3.0), draft.a_v)
        near = 10 ** ((modulus - EXTINCTION["G"] * a_v) / 5 - 2)
        distance = np.where(np.isnan(draft.distance), near, draft.distance)
    columns["distance"], columns["a_v"], columns["ebv"] = distance, a_v, a_v / R_V
    longitude = rng.uniform(0.0, 360.0, count)
    ra, dec = _equatorial(longitude, np.degrees(np.arcsin(sine)))
    columns["ra"] = np.where(np.isnan(draft.ra), ra, draft.ra)
    columns["dec"] = np.where(np.isnan(draft.dec), dec, draft.dec)
    for band in BANDS:
        columns[band] = absolute[band] + 5 * np.log10(distance) + 10 + EXTINCTION[band] * a_v
    columns["abs_mag_k"] = absolute["K"]
    columns["parallax"] = 1.0 / distance
    # median errors of Gaia DR3 (Lindegren et al. 2021, A&A 649, A2, table 4)
    error = np.interp(columns["G"], [15.0, 17.0, 18.0, 20.0], [0.025, 0.07, 0.12, 0.45])
    columns["parallax_error"] = error * rng.lognormal(0.0, 0.15, count)
    columns["parallax_measured"] = columns["parallax"] + columns["parallax_error"] * rng.normal(
        size=count
    )
    spread = np.array([DISPERSION[name] for name in columns["population"]])
    rv = spread * rng.normal(size=count)
    columns["rv"] = np.where(np.isnan(draft.rv), rv, draft.rv)


def _equatorial(longitude: NDArray, latitude: NDArray) -> tuple[NDArray, NDArray]:
    """Right ascension and declination of Galactic coordinates, all in degrees (J2000)."""
    l, b = np.radians(longitude), np.radians(latitude)  # noqa: E741
    # pole and ascending node of the Galactic plane (Hipparcos catalogue, ESA SP-1200, 1.5.3)
    ra0, dec0, node = np.radians([192.85948, 27.12825, 32.93192])
    dec = np.arcsin(np.sin(b) * np.sin(dec0) + np.cos(b) * np.cos(dec0) * np.sin(l - node))
    y = np.cos(b) * np.cos(l - node)
    x = np.sin(b) * np.cos(dec0) - np.cos(b) * np.sin(dec0) * np.sin(l - node)
    return np.degrees(ra0 + np.arctan2(y, x)) % 360.0, np.degrees(dec)


def _identify(rng: np.random.Generator, draft: Draft, columns: dict[str, NDArray]) -> None:
    count = len(draft)
    ids = np.unique(rng.integers(10**18, 6_900_000_000_000_000_000, count + 64))
    columns["gaia_dr3_source_id"] = rng.permutation(ids)[:count]
    columns["star_id"] = np.array([f"star{i:07d}" for i in rng.permutation(count)])
    columns["cluster_id"], columns["binary_id"] = draft.cluster_id, draft.binary_id


def _order(columns: dict[str, NDArray]) -> list[str]:
    first = ["star_id", "gaia_dr3_source_id", "ra", "dec"]
    labels = [name for name in LABELS if name in columns]
    rest = [name for name in columns if name not in first and name not in labels]
    return first + labels + rest
