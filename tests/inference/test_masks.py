"""Pixels that a fit must leave out."""

from __future__ import annotations

import numpy as np

from spectrolabe.inference.masks import TELLURIC, telluric_mask, usable_ivar
from spectrolabe.spectra import Frame, Spectrum
from tests.inference.made_up import EMULATOR

WAVELENGTH = np.arange(6700.0, 9000.0, 0.5)


def flat(wavelength=WAVELENGTH, **given):
    ones = np.ones(len(wavelength))
    options = {"frame": Frame.BARYCENTRIC, "survey": "lamost_lrs", **given}
    return Spectrum(wavelength, ones, ones, options.pop("resolution", 1800.0), **options)


def test_the_bands_are_masked_and_little_else():
    mask = telluric_mask(flat())
    for inside in (6884.0, 7605.0, 7200.0, 8230.0, 8950.0):  # B, A and water
        assert mask[np.searchsorted(WAVELENGTH, inside)]
    for line in (6709.0, 7800.0, 8500.35, 8544.44, 8664.52):  # Li and Ca II are wanted
        assert not mask[np.searchsorted(WAVELENGTH, line)]
    edges = [edge for band in TELLURIC for edge in band]
    assert edges == sorted(edges)


def test_spectra_from_space_have_none():
    assert not telluric_mask(flat(survey="gaia_rvs")).any()
    assert telluric_mask(flat(survey="")).any()


def test_the_bands_of_a_spectrum_at_rest_lie_at_minus_its_velocity():
    """A star of +300 km/s: its wavelengths were divided by 1.001."""
    seen, moved = telluric_mask(flat()), telluric_mask(flat(frame=Frame.REST, rv=300.0))
    same = telluric_mask(flat(WAVELENGTH / (1 + 300.0 / 299792.458), frame=Frame.REST, rv=300.0))
    assert np.array_equal(same, seen)
    assert not np.array_equal(moved, seen)


def test_only_what_the_emulator_covers_is_usable():
    wavelength = np.arange(4900.0, 5500.0, 0.1)
    usable = usable_ivar(flat(wavelength, resolution=11500.0), EMULATOR) > 0
    inside = wavelength[usable]
    assert EMULATOR.wavelength[0] < inside[0] < EMULATOR.wavelength[0] + 3.0
    assert EMULATOR.wavelength[-1] - 3.0 < inside[-1] < EMULATOR.wavelength[-1]
    moved = wavelength[usable_ivar(flat(wavelength, resolution=11500.0), EMULATOR, 300.0) > 0]
    np.testing.assert_allclose(moved[[0, -1]] / inside[[0, -1]], 1.001, atol=1e-4)
    assert not usable_ivar(flat(), EMULATOR).any()
