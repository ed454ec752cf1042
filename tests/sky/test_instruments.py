"""The instruments of the synthetic sky against the surveys' documents."""

from __future__ import annotations

import numpy as np
import pytest

from spectrolabe.errors import InputError
from spectrolabe.sky import writers
from spectrolabe.sky.atmosphere import airglow, night_sky, telluric_depth
from spectrolabe.sky.instruments import SURVEYS, instrument
from spectrolabe.spectra import Frame
from spectrolabe.spectra.wavelength import vacuum_to_air
from spectrolabe.surveys import SURVEYS as READERS


def arm(survey: str, name: str):
    return next(one for one in SURVEYS[survey].arms if one.name == name)


def test_every_instrument_has_a_reader_and_a_writer():
    assert len(SURVEYS) == 6
    for name, one in SURVEYS.items():
        assert one.survey == name
        assert name in READERS
        assert writers.get(name).write


@pytest.mark.parametrize("survey", SURVEYS)
def test_arrays_agree_and_cannot_be_written(survey):
    for one in SURVEYS[survey].arms:
        for name in ("resolution", "throughput", "sky", "sky_continuum", "telluric"):
            values = getattr(one, name)
            assert values.shape == one.wavelength.shape
            assert not values.flags.writeable
            assert np.all(np.isfinite(values))
            assert np.all(values >= 0)
        assert np.all(np.diff(one.wavelength) > 0)
        assert np.all((one.throughput > 0) & (one.throughput < 0.5))
    assert sum(SURVEYS[survey].visits.values()) == pytest.approx(1.0)


def test_pixels_are_those_of_the_files():
    apogee = np.concatenate([one.wavelength for one in SURVEYS["apogee"].arms])
    assert apogee.size == 7514  # pixels that ASPCAP uses
    place = (np.log10(apogee) - 4.179) / 6e-6
    assert place == pytest.approx(np.rint(place), abs=1e-6)
    desi = {"b": (3600.0, 5800.0), "r": (5760.0, 7620.0), "z": (7520.0, 9824.0)}
    for name, ends in desi.items():
        wavelength = arm("desi", name).wavelength
        assert wavelength[[0, -1]] == pytest.approx(ends)
        assert np.diff(wavelength) == pytest.approx(0.8)
    rvs = arm("gaia_rvs", "rvs").wavelength
    assert (rvs[0], rvs[-1], rvs.size) == pytest.approx((8460.0, 8700.0, 2401))
    for survey, first, count in (("sdss_boss", 3.5523, 4648), ("lamost_lrs", 3.5682, 3909)):
        wavelength = arm(survey, "joined").wavelength
        assert np.log10(wavelength) == pytest.approx(first + 1e-4 * np.arange(count))
    for number, ends in enumerate(((4713, 4900), (5648, 5873), (6478, 6737), (7585, 7887)), 1):
        air = vacuum_to_air(arm("galah", f"ccd{number}").wavelength)
        assert air[[0, -1]] == pytest.approx(ends, abs=4.0)
        assert np.diff(air) == pytest.approx(np.diff(air)[0], rel=1e-6)


def test_resolution_is_that_of_the_surveys():
    known = {"apogee": 22500, "galah": 28000, "gaia_rvs": 11500, "lamost_lrs": 1700}
    for survey, power in known.items():
        values = np.concatenate([one.resolution for one in SURVEYS[survey].arms])
        assert np.median(values) == pytest.approx(power, rel=0.05)
    assert arm("desi", "b").resolution[[0, -1]] == pytest.approx((2000, 3200))
    lamost = arm("lamost_lrs", "joined")
    at = np.interp([4200.0, 7400.0], lamost.wavelength, lamost.resolution)
    assert at == pytest.approx([1450.0, 1800.0], rel=0.02)
    boss = arm("sdss_boss", "joined")
    at = np.interp([3800.0, 8900.0], boss.wavelength, boss.resolution)
    assert at == pytest.approx([1590.0, 2620.0], rel=0.02)


def test_frames():
    rest = {name for name, one in SURVEYS.items() if one.frame is Frame.REST}
    assert rest == {"apogee", "gaia_rvs"}


def test_molecules_of_the_air_are_where_they_are():
    wavelength = np.arange(5000.0, 9900.0, 0.1)
    depth = telluric_depth(wavelength, 5000.0)
    # heads of the A, B and gamma bands of O2, in air 7593.7, 6867.2 and 6276.6 (Fraunhofer's A, B)
    for head, deep in ((7595.8, 0.3), (6869.1, 0.1), (6278.3, 0.01)):
        near = np.abs(wavelength - head - 8.0) < 8.0
        assert depth[near].max() > deep
        assert depth[np.abs(wavelength - head + 12.0) < 6.0].max() < 0.02
    # and none where H alpha, Mg b and the calcium triplet are measured
    for line in (5170.0, 5600.0, 6564.6, 8544.4):
        assert depth[np.abs(wavelength - line) < 3.0].max() < 0.06
    assert not arm("gaia_rvs", "rvs").telluric.any()
    # in the H band CO2 at 1.575 and 1.607 micron
    infrared = np.arange(15500.0, 16300.0, 0.2)
    depth = telluric_depth(infrared, 22500.0)
    quiet = depth[np.abs(infrared - 15950.0) < 30.0].max()
    for centre in (15730.0, 16030.0):
        assert depth[np.abs(infrared - centre) < 60.0].max() > 10 * quiet + 0.02


def test_light_of_the_night_sky():
    wavelength = np.arange(5000.0, 6800.0, 0.2)
    glow = airglow(wavelength, 3000.0)
    # [O I] 5577.34 and 6300.30 in air are the strongest below 6800 Å
    assert wavelength[np.argmax(glow)] == pytest.approx(5578.9, abs=0.3)
    red = glow[wavelength > 6000.0]
    assert wavelength[wavelength > 6000.0][np.argmax(red)] == pytest.approx(6302.0, abs=0.3)
    # a line keeps its photons at any resolution
    sharp, broad = (airglow(wavelength, power) for power in (10000.0, 2000.0))
    near = np.abs(wavelength - 5578.9) < 40.0
    assert broad[near].sum() == pytest.approx(sharp[near].sum(), rel=1e-3)
    # AB 22.5 is 3.63e-20 10^(-9) erg/s/cm2/Hz, in photons of 5500 Å per Å
    photons = 3.631e-20 * 10**-9.0 / (6.62607e-27 * 5500.0)
    assert night_sky(np.array([5500.0]), 22.5)[0] == pytest.approx(photons, rel=1e-3)


def test_an_unknown_survey():
    assert instrument("galah") is SURVEYS["galah"]
    with pytest.raises(InputError, match="Did you mean 'galah'"):
        instrument("gallah")
