"""Several spectra of one star to one."""

from __future__ import annotations

import numpy as np
import pytest

from spectrolabe.errors import InputError
from spectrolabe.spectra import Frame, Spectrum
from spectrolabe.spectra.combine import combine, pieces
from spectrolabe.spectra.wavelength import SPEED_OF_LIGHT

GRID = np.arange(5000.0, 5300.0, 0.1)


def star(wavelength):
    """Lines of a closed form, of FWHM 0.6 Å."""
    depth = np.zeros(len(wavelength))
    for centre in np.linspace(5010.0, 5290.0, 40):
        depth += 0.5 * np.exp(-0.5 * ((wavelength - centre) / 0.25) ** 2)
    return 1.0 - depth


def visit(rv=0.0, snr=50.0, seed=None, level=1.0, tilt=0.0, start=0.0, name="v"):
    """What an exposure of a moving star records."""
    wavelength = GRID + start
    rest = wavelength / (1.0 + rv / SPEED_OF_LIGHT)
    shape = level * (1.0 + tilt * (wavelength - 5150.0) / 150.0)
    noise = 0.0 if seed is None else np.random.default_rng(seed).normal(size=len(rest)) / snr
    flux = shape * (star(rest) + noise)
    ivar = (snr / shape) ** 2
    return Spectrum(wavelength, flux, ivar, 9000.0, Frame.BARYCENTRIC, rv, "test", name, "star")


def test_noise_falls_as_weights_say_and_is_as_stated():
    """Visits of S/N 20, 30 and 60 are one of S/N 70: their squares add up."""
    onto = visit(snr=10.0, seed=0)
    found = combine([visit(snr=s, seed=i + 1) for i, s in enumerate((20.0, 30.0, 60.0))], onto)
    assert np.median(np.sqrt(found.ivar)) == pytest.approx(70.0, rel=0.02)
    level = found.flux.mean() / star(GRID).mean()
    pull = (found.flux / level - star(GRID)) * np.sqrt(found.ivar)
    assert np.std(pull) == pytest.approx(1.0, abs=0.06)


def test_light_that_is_lost_and_another_response_leave_no_trace():
    onto = visit(level=3.0, tilt=0.1)
    found = combine([visit(level=0.1, tilt=-0.1), visit(level=40.0, tilt=0.15)], onto)
    inside = slice(100, -100)
    assert np.abs(found.flux / onto.flux - 1.0)[inside].max() < 2e-3


def test_detectors_have_levels_of_their_own():
    """A jump between two detectors stays in the gap: nothing of it is smeared beside."""
    gap = (GRID > 5140.0) & (GRID < 5170.0)

    def jumping(second):
        one = visit()
        factor = np.where(GRID > 5150.0, second, 1.0)
        return one.replace(flux=one.flux * factor, ivar=np.where(gap, 0.0, one.ivar))

    found, onto = combine([jumping(0.9), jumping(1.05)], jumping(1.2)), jumping(1.2)
    inside = found.good & (GRID > 5002.0) & (GRID < 5298.0)
    assert np.abs(found.flux / onto.flux - 1.0)[inside].max() < 2e-3
    assert pieces(GRID, ~gap, 0.003) == [slice(0, 1550), slice(1550, 3000)]
    assert pieces(GRID, ~gap, 0.01) == [slice(0, 3000)]


def test_what_is_narrow_is_no_piece_of_its_own():
    """Wherever it lies, and whatever is bad before it; gaps are wider than 0.003, 150 pixels."""

    def of(*used):
        use = np.zeros(len(GRID), bool)
        for low, high in used:
            use[low:high] = True
        return [(one.start, one.stop) for one in pieces(GRID, use, 0.003)]

    assert of((600, 3000)) == of((250, 253), (600, 3000)) == [(0, 3000)]
    assert of((0, 1000), (1400, 1401), (2999, 3000)) == [(0, 3000)]
    assert of((0, 1000), (1400, 1402), (2000, 3000)) == [(0, 1700), (1700, 3000)]
    assert of() == of((7, 8)) == [(0, 3000)]


def test_far_from_any_pixel_of_the_visit_no_level_is_known():
    gap = (GRID > 5120.0) & (GRID < 5180.0)
    onto = visit(snr=15.0, seed=1)
    onto = onto.replace(ivar=np.where(gap, 0.0, onto.ivar))
    found = combine([visit(snr=60.0, seed=2)], onto)
    assert not found.good[(GRID > 5129.0) & (GRID < 5171.0)].any()
    assert found.good[~gap].all()
    narrow = (GRID > 5150.0) & (GRID < 5160.0)
    onto = onto.replace(ivar=np.where(narrow, 0.0, visit(snr=15.0).ivar))
    assert combine([visit(snr=60.0, seed=2)], onto).good.all()


def test_a_moving_star_comes_to_the_pixels_of_the_visit():
    onto = visit(rv=-40.0)
    found = combine([visit(rv=55.0, start=0.03), visit(rv=12.0)], onto)
    inside = slice(60, -60)
    assert np.array_equal(found.wavelength, onto.wavelength)
    assert found.rv == onto.rv
    # a pixel's width blurs lines of 2.5 sigma by a hundredth of their depth
    assert np.abs(found.flux - onto.flux)[inside].max() < 0.02


def test_the_visit_itself_is_not_in_the_mean():
    onto = visit(snr=10.0, seed=0)
    others = [visit(snr=10.0, seed=i) for i in range(1, 4)]
    found, shuffled = (combine(x, onto) for x in (others, others[::-1]))
    np.testing.assert_allclose(found.flux, shuffled.flux, rtol=1e-5)
    noise = onto.flux - star(GRID)
    assert abs(np.corrcoef(noise, found.flux - star(GRID))[0, 1]) < 0.05
    with_it = combine([onto, *others], onto)
    assert np.corrcoef(noise, with_it.flux - star(GRID))[0, 1] > 0.4


def test_bad_pixels_and_what_nobody_covers_weigh_nothing():
    bad = np.zeros(len(GRID), bool)
    bad[700:720] = True
    one = visit()
    one = one.replace(
        ivar=np.where(bad, 0.0, one.ivar), flux=np.where(bad, np.nan, one.flux), rv=one.rv
    )
    found = combine([one], visit(start=100.0))
    assert (found.ivar[:-1000] > 0).sum() == found.ivar.astype(bool).sum()
    assert (combine([one], visit()).ivar[bad] == 0).all()
    assert (combine([one, visit(snr=20.0)], visit()).ivar[bad] > 0).all()


def test_a_spectrum_without_a_velocity_is_named():
    with pytest.raises(InputError, match="velocity"):
        combine([visit().replace(rv=np.nan)], visit())
    with pytest.raises(InputError, match="none"):
        combine([], visit())
