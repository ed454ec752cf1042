"""The same star in two catalogues."""

from __future__ import annotations

import warnings

import astropy.units as u
import numpy as np
import pyarrow as pa
import pytest
from astropy.coordinates import SkyCoord
from astropy.time import Time

from spectrolabe.errors import InputError
from spectrolabe.homogenise.crossmatch import Positions, match_ids, match_positions


def test_identifiers_are_compared_as_text():
    assert match_ids(pa.array([1, 2, 30]), pa.array([" 30", "1 "])).tolist() == [1, -1, 0]
    found = match_ids(pa.array(["a", "", None, "b", "a"]), pa.array(["", "a", None, "c"]))
    assert found.tolist() == [1, -1, -1, -1, 1]
    assert match_ids(pa.array(["a"]).dictionary_encode(), pa.array(["a"])).tolist() == [0]


def test_a_star_that_is_twice_in_the_reference_is_named():
    with pytest.raises(InputError, match="b 2 times"):
        match_ids(pa.array(["a"]), pa.array(["a", "b", "b"]))


@pytest.fixture
def sky():
    rng = np.random.default_rng(0)
    ra, dec = rng.uniform(0, 360, 3000), np.rad2deg(np.arcsin(rng.uniform(-1, 1, 3000)))
    return ra, dec, *rng.normal(0, 400, (2, 3000))


def test_moving_stars_are_where_astropy_puts_them(sky):
    ra, dec, pm_ra, pm_dec = sky
    now = SkyCoord(
        ra * u.deg, dec * u.deg, pm_ra_cosdec=pm_ra * u.mas / u.yr, pm_dec=pm_dec * u.mas / u.yr,
        distance=50 * u.pc, obstime=Time("J2016"),
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        then = now.apply_space_motion(new_obstime=Time("J2000"))
    early = Positions(then.ra.deg, then.dec.deg, epoch=2000.0)
    order = np.random.default_rng(1).permutation(len(ra))
    late = Positions(ra[order], dec[order], pm_ra[order], pm_dec[order], 2016.0)
    found = match_positions(early, late, 0.1)
    assert np.array_equal(order[found], np.arange(len(ra)))
    back = match_positions(late, early, 0.1)  # now the target moves
    assert np.array_equal(back, order)
    still = Positions(ra[order], dec[order], epoch=2016.0)
    assert (match_positions(early, still, 0.1) < 0).mean() > 0.9


def test_none_within_the_radius_and_none_without_a_position(sky):
    ra, dec = sky[:2]
    shifted = np.clip(dec + 2.0 / 3600.0, -90, 90)
    assert (match_positions(Positions(ra, shifted), Positions(ra, dec), 1.9) < 0).all()
    assert (match_positions(Positions(ra, shifted), Positions(ra, dec), 2.1) >= 0).all()
    ra = ra.copy()
    ra[7] = np.nan
    found = match_positions(Positions(ra, dec), Positions(ra, dec), 1.0)
    assert found[7] == -1
    assert np.array_equal(np.delete(found, 7), np.delete(np.arange(3000), 7))


def test_the_pole_and_the_meridian_are_no_edges():
    one = Positions(np.array([359.99999, 10.0]), np.array([0.0, 89.99999]))
    other = Positions(np.array([190.0, 0.00001]), np.array([89.99999, 0.0]))
    assert match_positions(one, other, 0.2).tolist() == [1, 0]


def test_of_two_stars_near_one_of_the_reference_the_nearer_is_it():
    """Rows of one star are one: by what they are called, or as they are at one place."""
    second = 1.0 / 3600.0
    target = Positions(np.full(5, 50.0), np.array([0.1, 0.9, 0.15, -0.7, 20.0]) * second)
    other = Positions(np.array([50.0]), np.array([0.0]))
    assert match_positions(target, other, 1.5).tolist() == [0, -1, 0, -1, -1]
    star = np.array([4, 4, 1, 2, 3])
    assert match_positions(target, other, 1.5, star).tolist() == [0, 0, 0, -1, -1]
    assert match_positions(target, other, 0.05).tolist() == [-1] * 5
