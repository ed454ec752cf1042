"""Pixels that a fit must leave out."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from spectrolabe.inference.masks import TELLURIC, telluric_mask, unmodelled, usable_ivar
from spectrolabe.spectra import Frame, Spectrum
from spectrolabe.synthesis.limits import BLUE, UNMODELLED
from tests.inference.made_up import EMULATOR

WAVELENGTH = np.arange(6200.0, 9000.0, 0.5)
OPTICAL = np.arange(3800.0, 8900.0, 0.05)


def flat(wavelength=WAVELENGTH, **given):
    ones = np.ones(len(wavelength))
    options = {"frame": Frame.BARYCENTRIC, "survey": "lamost_lrs", **given}
    return Spectrum(wavelength, ones, ones, options.pop("resolution", 1800.0), **options)


def test_the_bands_are_masked_and_little_else():
    mask = telluric_mask(flat())
    for inside in (6280.0, 6884.0, 7605.0, 7200.0, 8230.0, 8950.0):  # B, A and water
        assert mask[np.searchsorted(WAVELENGTH, inside)]
    for line in (6564.6, 6709.0, 7800.0, 8500.35, 8544.44, 8664.52):  # Li and Ca II are wanted
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


def air(wavelength):
    """Vacuum wavelength of a line that tables have in air (Morton 2000), by iteration."""
    vacuum = wavelength
    for _ in range(3):
        s2 = (1e4 / vacuum) ** 2
        index = 1 + 8.34254e-5 + 2.406147e-2 / (130 - s2) + 1.5998e-4 / (38.9 - s2)
        vacuum = wavelength * index
    return vacuum


def left_out(resolution, shift=0.0, **given):
    """Wavelengths at rest of the pixels that are left out."""
    spectrum = flat(OPTICAL * (1 + shift / 299792.458), resolution=resolution, **given)
    return OPTICAL[unmodelled(spectrum, shift)]


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("Hδ", 4101.74),
        ("Hγ", 4340.47),
        ("Hβ", 4861.33),
        ("Hα", 6562.80),
        ("Na I D2", 5889.95),
        ("Na I D1", 5895.92),
        ("O I triplet", 7771.94),
        ("O I triplet", 7774.17),
        ("O I triplet", 7775.39),
    ],
)
def test_cores_are_where_tables_of_lines_have_them(name, line):
    """Wavelengths in air (NIST); each line must lie well inside the window of its name."""
    (core,) = (core for core in UNMODELLED if core.name == name)
    assert abs(air(line) - core.centre) < core.half - 0.5
    assert np.abs(left_out(28000.0) - air(line)).min() < 0.05


def test_wings_and_other_lines_are_kept():
    masked = left_out(28000.0)
    for kept in (6560.5, 6565.5, 4226.7, 5183.6, 5887.5, 6707.8, 8542.1):  # Hα, Ca, Mg, Na, Li
        assert np.abs(masked - air(kept)).min() > 0.3
    share = np.mean(np.isin(OPTICAL, masked[masked > BLUE]))
    assert share < 0.006, "cores are narrow"


def test_cores_are_wider_at_low_resolution():
    """Half a width of 1.5 Å and an FWHM of 6564.6 / 1800 = 3.65 Å make 3.94 Å."""
    masked = left_out(1800.0)
    near = masked[np.abs(masked - 6564.6) < 20]
    assert np.ptp(near) / 2 == pytest.approx(np.hypot(1.5, 6564.6 / 1800), abs=0.06)


def test_the_blue_end_depends_on_resolution():
    low, high = left_out(1800.0), left_out(11500.0)
    assert np.isin(OPTICAL[OPTICAL < 4095], low).all()
    assert np.isin(OPTICAL[OPTICAL < 3995], high).all()
    assert not np.isin(OPTICAL[(OPTICAL > 4005) & (OPTICAL < 4095)], high).any()
    assert not np.isin(OPTICAL[(OPTICAL > 4110) & (OPTICAL < 4330)], low).any()


def test_windows_move_with_the_star():
    still, moving = left_out(11500.0), left_out(11500.0, shift=250.0)
    assert np.array_equal(still, moving)
    fixed = OPTICAL[unmodelled(flat(OPTICAL, resolution=11500.0), 250.0)]
    assert not np.array_equal(still, fixed)


def test_first_guesses_keep_the_cores_and_fits_do_not():
    """Velocities of hot and metal-poor stars are measured from the cores of their few lines."""
    wavelength = np.arange(4750.0, 4950.0, 0.1)
    spectrum = flat(wavelength, resolution=11500.0)
    emulator = SimpleNamespace(wavelength=np.array([4700.0, 5000.0]))
    before, after = usable_ivar(spectrum, emulator), usable_ivar(spectrum, emulator, 0.0)
    core = np.abs(wavelength - 4862.7) < 1.0
    assert (before[core] > 0).all()
    assert not after[core].any()
    assert np.array_equal(
        before[np.abs(wavelength - 4862.7) > 2], after[np.abs(wavelength - 4862.7) > 2]
    )
