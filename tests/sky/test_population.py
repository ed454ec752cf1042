"""The stars of the synthetic sky against the Sun, published relations and real surveys."""

from __future__ import annotations

import numpy as np
import pytest

from spectrolabe.config.sky import BinariesConfig, ClustersConfig, PopulationConfig, SkyConfig
from spectrolabe.errors import InputError
from spectrolabe.labels import ELEMENTS, LABELS
from spectrolabe.sky.chemistry import SUN_CARBON, SUN_NITROGEN, TRENDS, dredge_up, lithium
from spectrolabe.sky.evolution import evolve, giant_mass, kroupa_mass, lifetime
from spectrolabe.sky.photometry import EXTINCTION, absolute_magnitudes, extinction_curve
from spectrolabe.sky.population import (
    draw_population,
    macroturbulence,
    microturbulence,
    rotation,
)

MIXED = ("li_fe", "c_fe", "n_fe")  # changed by the star itself


def one(*values: float) -> list[np.ndarray]:
    return [np.array([value]) for value in values]


@pytest.fixture(scope="module")
def config() -> SkyConfig:
    return SkyConfig(
        population=PopulationConfig(stars=3000),
        clusters=ClustersConfig(count=4, members=30),
        binaries=BinariesConfig(count=60),
    )


@pytest.fixture(scope="module")
def stars(config):
    return draw_population(config, np.random.default_rng(5))


def test_the_sun_is_the_sun():
    sun = evolve([1.0], [4.57], [0.0])
    assert sun.teff[0] == pytest.approx(5772.0, abs=20.0)
    assert sun.logg[0] == pytest.approx(4.438, abs=0.01)
    assert sun.luminosity[0] == pytest.approx(1.0, abs=0.02)
    assert sun.radius[0] == pytest.approx(1.0, abs=0.01)
    assert sun.stage[0] == 0


def test_lifetimes():
    # Schaller et al. (1992, A&AS 96, 269), Z = 0.02: 9.96, 2.70 and 1.12 Gyr of burning hydrogen
    assert lifetime([1.0, 1.5, 2.0], [0.0] * 3) == pytest.approx([10.5, 2.8, 1.15], rel=0.12)
    ages = np.array([1.0, 3.0, 10.0])
    masses = giant_mass(ages, np.zeros(3), np.zeros(3))
    assert lifetime(masses, np.zeros(3)) == pytest.approx(ages, rel=1e-6)


def test_magnitudes_of_the_sun():
    # Willmer (2018, ApJS 236, 47); Casagrande & VandenBerg (2018, MNRAS 479, L102)
    known = {"G": 4.67, "J": 3.67, "H": 3.32, "K": 3.27, "g": 5.11, "r": 4.65, "i": 4.53}
    sun = absolute_magnitudes(*one(5772.0, 4.438, 0.0, 1.0))
    assert {band: float(sun[band][0]) for band in known} == pytest.approx(known, abs=0.06)
    assert sun["BP"][0] - sun["RP"][0] == pytest.approx(0.82, abs=0.04)


def test_reddening():
    # Cardelli, Clayton & Mathis (1989), table 3: V, B, J, H, K
    wavelength = [5500.0, 4400.0, 12500.0, 16500.0, 22000.0]
    known = [1.0, 1.337, 0.282, 0.190, 0.114]
    assert extinction_curve(wavelength) == pytest.approx(known, abs=0.015)


def test_the_sun_turns_and_boils_as_it_does():
    sun = one(5772.0, 4.438)
    assert microturbulence(*sun)[0] == pytest.approx(1.0, abs=0.1)
    assert macroturbulence(*sun, np.zeros(1))[0] == pytest.approx(3.2, abs=0.3)
    # 25.4 days at the equator
    assert rotation(*one(5772.0, 4.57, 1.0), np.array([False]))[0] == pytest.approx(2.0, abs=0.2)


def test_lithium_of_the_sun():
    rng = np.random.default_rng(0)
    sun = lithium(rng, *one(5772.0, 4.438, 0.0, 4.57), np.array([False]), scatter=0.0)
    assert sun[0] == pytest.approx(0.0, abs=0.02)


def test_masses_follow_kroupa():
    mass = kroupa_mass(np.random.default_rng(1), 400_000)
    assert mass.min() >= 0.08
    assert mass.max() <= 8.0
    # of a power law of slope -2.3 there are 2^1.3 times as many in an octave as in the next
    heavy = [np.sum((mass > m) & (mass < 2 * m)) for m in (0.5, 1.0, 2.0)]
    assert heavy[0] / heavy[1] == pytest.approx(2**1.3, rel=0.02)
    assert heavy[1] / heavy[2] == pytest.approx(2**1.3, rel=0.03)
    light = np.sum((mass > 0.125) & (mass < 0.25)) / np.sum((mass > 0.25) & (mass < 0.5))
    assert light == pytest.approx(2**0.3, rel=0.02)
    # the two meet at half a solar mass
    edge = np.sum((mass > 0.49) & (mass < 0.5)) / np.sum((mass > 0.5) & (mass < 0.51))
    assert edge == pytest.approx(1.0, abs=0.08)


def test_every_label_and_every_limit(stars, config):
    assert len(stars) == 3000 + 4 * 30 + 2 * 60
    for name in ("teff", "logg", "fe_h"):
        low, high = getattr(config.population, name)
        assert np.all((stars[name] > low) & (stars[name] < high))
    assert {f"{x.lower()}_fe" for x in ELEMENTS} <= set(stars.colnames)
    for name in set(LABELS) - {"rv_residual"}:  # of a spectrum, not of a star
        values = np.asarray(stars[name])
        assert np.all((values >= LABELS[name].low) & (values <= LABELS[name].high)), name
    assert {*TRENDS, "Li"} == set(ELEMENTS)
    assert np.all((stars["G"] > 8.9) & (stars["G"] < 17.1))
    field = stars[(stars["cluster_id"] == "") & (stars["binary_id"] == "")]
    assert np.sum(np.isin(field["stage"], ["red giant branch", "red clump"])) == 1200


def test_distance_parallax_and_magnitudes_agree(stars):
    assert np.asarray(stars["parallax"]) == pytest.approx(1 / np.asarray(stars["distance"]))
    modulus = 5 * np.log10(100 * np.asarray(stars["distance"]))
    apparent = stars["abs_mag_k"] + modulus + EXTINCTION["K"] * stars["a_v"]
    assert np.asarray(apparent) == pytest.approx(np.asarray(stars["K"]))
    pull = (stars["parallax_measured"] - stars["parallax"]) / stars["parallax_error"]
    assert np.std(pull) == pytest.approx(1.0, abs=0.05)
    # gravity, mass and radius; luminosity, radius and temperature
    g = stars["mass"] / stars["radius"] ** 2 * 10**4.438
    assert np.asarray(np.log10(g)) == pytest.approx(np.asarray(stars["logg"]), abs=1e-6)
    light = stars["radius"] ** 2 * (stars["teff"] / 5772.0) ** 4
    assert np.asarray(light) == pytest.approx(np.asarray(stars["luminosity"]))


def test_the_red_clump_is_a_standard_candle(stars):
    clump = stars[(stars["stage"] == "red clump") & (stars["mass"] < 1.8)]
    assert len(clump) > 100
    # Hawkins et al. (2017, MNRAS 471, 722): M_K = -1.61, scatter 0.17
    assert np.median(clump["abs_mag_k"]) == pytest.approx(-1.61, abs=0.15)
    assert np.std(clump["abs_mag_k"]) < 0.25


def test_carbon_over_nitrogen_tells_the_mass_of_giants(stars):
    c_n = np.asarray(stars["c_fe"] - stars["n_fe"])
    mixed = np.asarray(
        (stars["logg"] < 3.2) & (stars["logg"] > 2.2) & (np.abs(stars["fe_h"]) < 0.4)
    )
    old, young = (mixed & np.asarray(m) for m in (stars["mass"] < 1.2, stars["mass"] > 1.8))
    assert min(old.sum(), young.sum()) > 20
    assert np.median(c_n[old]) - np.median(c_n[young]) > 0.25
    dwarfs = np.asarray((stars["stage"] == "main sequence") & (np.abs(stars["fe_h"]) < 0.4))
    massive = np.asarray(stars["mass"] > 1.2)
    assert abs(np.median(c_n[dwarfs & massive]) - np.median(c_n[dwarfs & ~massive])) < 0.1


def test_dredge_up_keeps_the_nuclei_of_carbon_and_nitrogen():
    rng = np.random.default_rng(3)
    c, n = rng.normal(0.0, 0.1, (2, 50))
    mass, logg = rng.uniform(0.8, 3.0, 50), rng.uniform(0.5, 3.5, 50)
    new_c, new_n = dredge_up(c, n, mass, np.full(50, -0.8), logg, np.full(50, True))
    before = SUN_CARBON * 10**c + SUN_NITROGEN * 10**n
    assert SUN_CARBON * 10**new_c + SUN_NITROGEN * 10**new_n == pytest.approx(before)
    assert np.all(new_c < c)
    assert np.all(new_n > n)


def test_two_sequences_of_alpha_elements_and_of_age(stars):
    near = np.asarray((stars["fe_h"] > -0.6) & (stars["fe_h"] < -0.3))
    magnesium, age = np.asarray(stars["mg_fe"]), np.asarray(stars["age"])
    high, low = near & (magnesium > 0.2), near & (magnesium < 0.12)
    valley = near & (magnesium > 0.15) & (magnesium < 0.19)
    assert valley.sum() < 0.3 * min(high.sum(), low.sum())
    assert np.median(age[high]) > np.median(age[low]) + 3.0
    # [Y/Mg] is a clock of -0.04 dex/Gyr (Nissen 2015; Spina et al. 2018)
    thin = np.asarray((stars["population"] == "thin") & (np.abs(stars["fe_h"]) < 0.2))
    slope = np.polyfit(age[thin], np.asarray(stars["y_fe"] - stars["mg_fe"])[thin], 1)[0]
    assert slope == pytest.approx(-0.04, abs=0.01)


def test_the_same_seed_gives_the_same_sky(config, stars):
    again = draw_population(config, np.random.default_rng(5))
    assert all(np.array_equal(stars[name], again[name]) for name in stars.colnames)
    other = draw_population(config, np.random.default_rng(6))
    assert not np.array_equal(stars["teff"], other["teff"])


def test_names_and_order_tell_nothing(stars):
    number = np.array([int(name[4:]) for name in stars["star_id"]])
    assert len(set(number)) == len(stars) == len(set(stars["gaia_dr3_source_id"]))
    for what in (np.arange(len(stars)), number, np.asarray(stars["gaia_dr3_source_id"], float)):
        for label in ("teff", "logg", "fe_h", "age", "G"):
            assert abs(np.corrcoef(what, stars[label])[0, 1]) < 5 / np.sqrt(len(stars))


def test_clusters_have_one_composition_age_and_distance(stars):
    names = sorted({*stars["cluster_id"]} - {""})
    assert len(names) == 4
    same = [f"{x.lower()}_fe" for x in ELEMENTS if f"{x.lower()}_fe" not in MIXED]
    for name in names:
        members = stars[stars["cluster_id"] == name]
        assert len(members) == 30
        for label in ("fe_h", "age", "distance", *same):
            assert np.ptp(members[label]) == pytest.approx(0.0, abs=1e-12)
        assert np.ptp(members["teff"]) > 500.0
        assert np.std(members["rv"]) < 2.0
        # no star outlives its time
        assert np.all(lifetime(members["mass"], members["m_h"]) > 0.6 * members["age"])


def test_clusters_scatter_as_much_as_is_asked_for():
    config = SkyConfig(
        population=PopulationConfig(stars=50),
        clusters=ClustersConfig(count=3, members=60, scatter=0.05),
    )
    stars = draw_population(config, np.random.default_rng(2))
    spread = [
        np.std(stars[label][stars["cluster_id"] == name])
        for name in {*stars["cluster_id"]} - {""}
        for label in ("fe_h", "mg_fe", "ni_fe")
    ]
    assert np.mean(spread) == pytest.approx(0.05, rel=0.15)


def test_wide_binaries_are_twins_but_for_temperature(stars):
    pairs = stars[stars["binary_id"] != ""]
    pairs.sort("binary_id")
    first, second = pairs[::2], pairs[1::2]
    assert np.all(first["binary_id"] == second["binary_id"])
    for label in ("fe_h", "mg_fe", "ba_fe", "age", "distance"):
        assert np.asarray(first[label]) == pytest.approx(np.asarray(second[label]), abs=1e-12)
    assert np.all(np.abs(first["teff"] - second["teff"]) > 100.0)
    assert np.all(np.abs(first["dec"] - second["dec"]) < 0.1)


def test_labels_from_a_table(tmp_path):
    rng = np.random.default_rng(4)
    path = tmp_path / "labels.csv"
    rows = np.column_stack(
        [rng.uniform(4400, 6500, 40), rng.uniform(1.5, 4.5, 40), rng.uniform(-1, 0.3, 40)]
    ).round(3)
    magnesium = rng.uniform(-0.1, 0.4, 40).round(3)
    text = [f"{t},{g},{z},{m}" for (t, g, z), m in zip(rows, magnesium, strict=True)]
    path.write_text("teff,logg,fe_h,mg_fe\n" + "\n".join(text) + "\n")
    config = SkyConfig(population=PopulationConfig(stars=200, label_table=str(path)))
    stars = draw_population(config, np.random.default_rng(0))
    assert {*np.round(stars["teff"], 3)} <= {*rows[:, 0]}
    given = dict(zip(rows[:, 0], magnesium, strict=True))
    assert [given[round(t, 3)] for t in stars["teff"]] == pytest.approx(list(stars["mg_fe"]))
    assert np.all(np.isfinite(stars["distance"]))
    missing = PopulationConfig(stars=10, label_table=str(tmp_path / "none.csv"))
    with pytest.raises(InputError, match="a table of labels, found none"):
        draw_population(SkyConfig(population=missing), rng)
    path.write_text("teff,logg\n5000,4.5\n")
    with pytest.raises(InputError, match="columns teff, logg and fe_h"):
        draw_population(config, rng)


def test_limits_that_hold_no_stars():
    limits = PopulationConfig(stars=50, giants=1.0, logg=(4.9, 5.0))
    with pytest.raises(InputError, match="limits within which there are 50 giants"):
        draw_population(SkyConfig(population=limits), np.random.default_rng(0))


@pytest.mark.data
def test_giants_lie_where_apogee_has_them(shared_data, stars):
    import pyarrow.parquet as pq

    table = pq.read_table(shared_data / "populations" / "apogee_dr17_labels.parquet")
    apogee = {name: table[name].to_numpy() for name in ("teff", "logg", "fe_h", "mg_fe")}

    def median(sky, what, logg, fe_h):
        sky = {name: np.asarray(sky[name]) for name in apogee}
        near = (np.abs(sky["logg"] - logg) < 0.25) & (np.abs(sky["fe_h"] - fe_h) < 0.15)
        assert near.sum() > 15
        return np.nanmedian(sky[what][near])

    for logg, fe_h in ((3.0, 0.0), (2.4, 0.0), (2.4, -0.5), (3.2, -0.4), (2.0, -0.2)):
        real = median(apogee, "teff", logg, fe_h)
        assert median(stars, "teff", logg, fe_h) == pytest.approx(real, abs=130.0)
