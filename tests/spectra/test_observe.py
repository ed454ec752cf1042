"""Resampling and observation against closed forms, Monte Carlo and specutils."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr

from spectrolabe.errors import InputError
from spectrolabe.spectra import Frame, Spectrum
from spectrolabe.spectra.broadening import broaden, convolve_lsf
from spectrolabe.spectra.grid import pixel_edges
from spectrolabe.spectra.observe import (
    Instrument,
    observation_operator,
    observe,
    resample,
    shift_flux,
)
from spectrolabe.spectra.wavelength import SPEED_OF_LIGHT, doppler_shift

FWHM = 2 * np.sqrt(2 * np.log(2))
grids = st.lists(st.floats(0.25, 1.0), min_size=3, max_size=60).map(lambda s: 5000 + np.cumsum(s))


def integral(wavelength, flux):
    low, high = pixel_edges(wavelength)
    return np.sum(flux * (high - low))


# --- resample -------------------------------------------------------------------------------------


def test_onto_the_same_grid_is_the_identity():
    rng = np.random.default_rng(1)
    wavelength = np.cumsum(rng.uniform(0.5, 1.5, 300)) + 5000
    flux, ivar = rng.normal(size=300), rng.uniform(1, 2, 300)
    ivar[[0, 40, 41, 299]] = 0
    new_flux, new_ivar = resample(wavelength, flux, ivar, wavelength)
    np.testing.assert_allclose(new_flux, np.where(ivar > 0, flux, 0), rtol=1e-9)
    np.testing.assert_allclose(new_ivar, ivar, rtol=1e-9)


def test_whole_numbers_of_pixels_are_plain_means():
    wavelength, flux, ivar = np.arange(5000.0, 5012), np.arange(12.0), np.arange(1.0, 13)
    new_flux, new_ivar = resample(wavelength, flux, ivar, np.arange(5001.0, 5012, 3))
    np.testing.assert_allclose(new_flux, flux.reshape(4, 3).mean(axis=1), rtol=1e-12)
    np.testing.assert_allclose(new_ivar, 9 / (1 / ivar).reshape(4, 3).sum(axis=1), rtol=1e-12)


@settings(max_examples=60, deadline=None)
@given(
    old=grids,
    # a step of five times its neighbours would be a gap, and a grid with a gap covers nothing there
    steps=st.lists(st.floats(0.25, 1.0), min_size=1, max_size=9),
    scale=st.floats(0.2, 8.0),
    seed=st.integers(0, 99),
)
def test_the_integral_is_kept_on_any_grid_that_covers_the_old_one(old, steps, scale, seed):
    flux = np.random.default_rng(seed).normal(size=old.size)
    count = int(np.ptp(old) / scale / min(steps)) + 60
    new = old[0] - 1 - 3 * scale + scale * np.cumsum(np.resize(steps, count))
    new_flux, _ = resample(old, flux, np.ones(old.size), new, min_coverage=0.0)
    # an end pixel averages over its covered part: count only that part
    low, high = pixel_edges(new)
    old_low, old_high = pixel_edges(old)
    width = np.minimum(high, old_high[-1]) - np.maximum(low, old_low[0])
    got = np.sum(new_flux * np.clip(width, 0, None))
    assert got == pytest.approx(integral(old, flux), abs=1e-8)


@settings(max_examples=40, deadline=None)
@given(old=grids, new=grids, value=st.floats(-10, 10))
def test_a_flat_spectrum_stays_flat(old, new, value):
    flux, ivar = resample(old, np.full(old.size, value), np.ones(old.size), new)
    np.testing.assert_allclose(flux[ivar > 0], value, rtol=1e-9, atol=1e-300)
    assert (flux[ivar == 0] == 0).all()


def test_an_isolated_line_keeps_its_flux():
    old = np.geomspace(5000, 5100, 4000)
    line = np.exp(-0.5 * ((old - 5050) / 0.4) ** 2)
    for new in (np.arange(5001, 5099, 0.37), np.geomspace(5001, 5099, 150)):
        flux, _ = resample(old, line, np.ones(4000), new)
        assert integral(new, flux) == pytest.approx(0.4 * np.sqrt(2 * np.pi), rel=1e-6)


def test_propagated_variance_is_that_of_white_noise():
    rng = np.random.default_rng(7)
    old, new = np.geomspace(5000, 5060, 181), np.arange(5001, 5059, 0.83)
    sigma = 1 + 0.5 * np.sin(old)
    noise = rng.normal(size=(20000, old.size)) * sigma
    flux, ivar = resample(old, noise, 1 / sigma**2, new)
    scatter = flux.var(axis=0) * ivar[0]
    np.testing.assert_allclose(scatter, 1, atol=5 * np.sqrt(2 / 20000))


def test_pixels_without_ivar_never_contribute():
    rng = np.random.default_rng(2)
    old, new = np.linspace(5000, 5100, 400), np.linspace(5002, 5098, 120)
    flux, ivar = rng.normal(size=(2, 400)), rng.uniform(1, 3, (2, 400))
    ivar[0, 100:140], ivar[1, rng.random(400) < 0.1] = 0, 0
    clean = resample(old, flux, ivar, new)
    for dirt in (np.nan, np.inf, 1e30):
        dirty = np.where(ivar > 0, flux, dirt)
        for got, want in zip(resample(old, dirty, ivar, new), clean, strict=True):
            np.testing.assert_array_equal(got, want)
    gap = (new > old[101]) & (new < old[138])
    assert gap.sum() > 5
    assert (clean[1][0, gap] == 0).all()
    assert (clean[1][0, ~gap] > 0).sum() >= (~gap).sum() - 2


def test_least_coverage_of_a_usable_pixel():
    old, ivar = np.arange(5000.0, 5008), np.ones(8)
    ivar[4] = 0
    half = old + 0.5
    assert (resample(old, ivar, ivar, half)[1] > 0).tolist() == [True] * 8
    assert (resample(old, ivar, ivar, half, min_coverage=0.6)[1] > 0).tolist() == [
        *[True] * 3, False, False, True, True, False,
    ]  # fmt: skip
    # an overlap of nothing but rounding is none
    assert resample(old, ivar, ivar, old + 1e-12, min_coverage=0.0)[1][4] == 0


def test_a_gap_between_two_pieces_stays_a_gap():
    old = np.r_[np.arange(4713, 4903, 0.05), np.arange(5648, 5873, 0.06)]
    _, ivar = resample(old, np.ones(old.size), np.ones(old.size), np.arange(4700.0, 5900, 1))
    covered = np.arange(4700.0, 5900, 1)[ivar > 0]
    assert covered.min() >= 4712
    assert covered.max() <= 5874
    assert not ((covered > 4904) & (covered < 5647)).any()


def test_edges_are_midpoints_except_beside_a_gap():
    low, high = pixel_edges(np.array([1.0, 2, 4, 5, 50, 51, 52]))
    np.testing.assert_allclose(low, [0.5, 1.5, 3, 4.5, 49.5, 50.5, 51.5])
    np.testing.assert_allclose(high, [1.5, 3, 4.5, 5.5, 50.5, 51.5, 52.5])
    # a lone pixel at an end takes the width of its neighbour
    low, high = pixel_edges(np.array([1.0, 40, 42, 44, 90]))
    np.testing.assert_allclose(low, [0, 39, 41, 43, 89])
    np.testing.assert_allclose(high, [2, 41, 43, 45, 91])


def test_finer_pixels_repeat_the_old_ones():
    flux, ivar = np.array([1.0, 5.0, 2.0]), np.array([1.0, 2.0, 3.0])
    fine = np.arange(4999.55, 5002.5, 0.1)
    new_flux, new_ivar = resample([5000.0, 5001.0, 5002.0], flux, ivar, fine)
    np.testing.assert_allclose(new_flux, np.repeat(flux, 10), rtol=1e-9)
    np.testing.assert_allclose(new_ivar, np.repeat(ivar, 10), rtol=1e-9)


def test_many_spectra_at_once_are_each_resampled():
    rng = np.random.default_rng(5)
    old, new = np.linspace(5000, 5100, 300), np.linspace(5010, 5090, 77)
    flux, ivar = rng.normal(size=(2, 3, 300)), rng.uniform(0, 2, (2, 3, 300)).round()
    for weight in (ivar, ivar[0, 0]):
        many = resample(old, flux, weight, new)
        assert many[0].shape == many[1].shape == (2, 3, 77)
        one = resample(old, flux[1, 2], weight if weight.ndim == 1 else weight[1, 2], new)
        np.testing.assert_allclose(many[0][1, 2], one[0], rtol=1e-12)
        np.testing.assert_allclose(many[1][1, 2], one[1], rtol=1e-12)


def test_agrees_with_specutils():
    units = pytest.importorskip("astropy.units")
    nddata = pytest.importorskip("astropy.nddata")
    specutils = pytest.importorskip("specutils")
    from specutils.manipulation import FluxConservingResampler

    rng = np.random.default_rng(9)
    old, new = np.geomspace(5000, 5100, 500), np.linspace(5005, 5095, 140)
    flux, ivar = rng.normal(10, 1, 500), rng.uniform(0.5, 2, 500)
    spectrum = specutils.Spectrum(
        flux=flux * units.Jy,
        spectral_axis=old * units.AA,
        uncertainty=nddata.InverseVariance(ivar / units.Jy**2),
    )
    want = FluxConservingResampler()(spectrum, new * units.AA)
    got_flux, got_ivar = resample(old, flux, ivar, new)
    np.testing.assert_allclose(got_flux, want.flux.value, rtol=1e-9)
    np.testing.assert_allclose(
        got_ivar, want.uncertainty.represent_as(nddata.InverseVariance).array, rtol=1e-9
    )


def test_resample_errors():
    old, one = np.arange(5000.0, 5005), np.ones(5)
    with pytest.raises(
        InputError, match=r"new_wavelength: expected .*5001.0 then 5000.0 at pixel 0"
    ):
        resample(old, one, one, [5001.0, 5000.0])
    with pytest.raises(InputError, match=r"flux: expected shape \(..., 5\)"):
        resample(old, np.ones(4), one, old)
    with pytest.raises(InputError, match=r"ivar: expected shape \(5,\) or that of flux"):
        resample(old, np.ones((2, 5)), np.ones((3, 5)), old)
    with pytest.raises(InputError, match=r"ivar: expected finite, non-negative .* found 1 others"):
        resample(old, one, [1, 1, -1, 1, 1], old)
    with pytest.raises(InputError, match="wherever ivar > 0, found 1 that"):
        resample(old, [1, 1, np.nan, 1, 1], one, old)


# --- observe --------------------------------------------------------------------------------------

MODEL = np.exp(np.arange(np.log(5400), np.log(5600), 1 / 2e5))
LINE = 5500.0


def instrument(resolution=5000.0, pixels_per_fwhm=3.0):
    x = np.arange(np.log(5450), np.log(5550), 1 / np.max(resolution) / pixels_per_fwhm)
    return Instrument(np.exp(x), resolution, "test")


def gaussian_line(wavelength, width, centre=LINE):
    return np.exp(-0.5 * (np.log(wavelength / centre) / (width / centre / FWHM)) ** 2)


def moments(wavelength, depth):
    area = integral(wavelength, depth)
    centre = integral(wavelength, depth * wavelength) / area
    return area, centre, integral(wavelength, depth * (wavelength - centre) ** 2) / area


@pytest.mark.parametrize("pixels_per_fwhm", [2.2, 3.0, 10.0])
def test_an_unresolved_line_has_the_width_of_the_instrument(pixels_per_fwhm):
    like = instrument(5000.0, pixels_per_fwhm)
    flux = np.ones(MODEL.size)
    flux[np.searchsorted(MODEL, LINE)] = 0.0
    depth = 1 - observe(MODEL, flux, like)
    area, centre, variance = moments(like.wavelength, depth)
    # what is summed is the variance of samples: the pixel counts once more
    pixel = (LINE / 5000 / pixels_per_fwhm) ** 2 / 12
    assert np.sqrt(variance) * FWHM == pytest.approx(LINE / 5000, rel=2e-3)
    assert np.sqrt(variance - pixel) * FWHM < LINE / 5000 * 0.999
    assert area == pytest.approx(integral(MODEL, 1 - flux), rel=1e-6)
    assert centre == pytest.approx(LINE, abs=0.02)


@pytest.mark.parametrize("pixels_per_fwhm", [0.4, 1.0, 2.5])
def test_exact_profile_at_any_sampling(pixels_per_fwhm):
    like = instrument(5000.0, pixels_per_fwhm)
    width = 1 / 5000 / pixels_per_fwhm
    got = observe(MODEL, 1 - 0.5 * gaussian_line(MODEL, LINE / 5000), like)
    own = 1 / 5000 / FWHM
    sigma = np.sqrt(own**2 + max(own**2 - width**2 / 12, 0.0))
    edge = np.log(like.wavelength / LINE)
    share = ndtr((edge + width / 2) / sigma) - ndtr((edge - width / 2) / sigma)
    want = 1 - 0.5 * own * np.sqrt(2 * np.pi) * share / width
    np.testing.assert_allclose(got, want, atol=2e-5)
    assert integral(like.wavelength, 1 - got) == pytest.approx(
        integral(MODEL, 0.5 * gaussian_line(MODEL, LINE / 5000)), rel=1e-6
    )


def test_well_sampled_pixels_see_the_gaussian_itself():
    like = instrument(5000.0, 2.5)
    got = observe(MODEL, 1 - 0.5 * gaussian_line(MODEL, LINE / 5000), like)
    width = LINE / 5000 * np.sqrt(2)
    want = 1 - 0.5 / np.sqrt(2) * gaussian_line(like.wavelength, width)
    np.testing.assert_allclose(got, want, atol=1e-4)


@pytest.mark.parametrize("rv", [-300.0, 0.0, 40.0, 500.0])
def test_the_centroid_moves_with_the_star(rv):
    like = instrument()
    depth = 1 - observe(MODEL, 1 - 0.5 * gaussian_line(MODEL, 0.5), like, rv=rv)
    _, centre, _ = moments(like.wavelength, depth)
    velocity = (centre / LINE - 1) * SPEED_OF_LIGHT
    assert velocity == pytest.approx(rv, abs=0.01)


def test_broadening_and_the_resolution_of_the_model_add_in_quadrature():
    like = instrument(5000.0, 6.0)
    at = lambda **k: moments(  # noqa: E731
        like.wavelength, 1 - observe(MODEL, 1 - 0.5 * gaussian_line(MODEL, 0.3), like, **k)
    )[2]
    lsf, line = (LINE / 5000 / FWHM) ** 2, (0.3 / FWHM) ** 2
    assert at() == pytest.approx(lsf + line, rel=2e-3)
    velocity = (LINE * 50 / SPEED_OF_LIGHT / FWHM) ** 2
    assert at(vbroad=50.0) == pytest.approx(lsf + line + velocity, rel=2e-3)
    seen = (LINE / 8000 / FWHM) ** 2
    assert at(input_resolution=8000.0) == pytest.approx(lsf + line - seen, rel=2e-3)
    varied = np.full(MODEL.size, 8000.0)
    assert at(input_resolution=varied) == pytest.approx(lsf + line - seen, rel=2e-3)


def test_each_pixel_has_its_own_resolution():
    x = np.arange(np.log(5450), np.log(5550), 1 / 40000)
    like = Instrument(np.exp(x), np.where(np.exp(x) < LINE, 2000.0, 8000.0))
    flux = 1 - gaussian_line(MODEL, 0.2, 5475) - gaussian_line(MODEL, 0.2, 5525)
    depth = 1 - observe(MODEL, flux, like)
    for centre, resolution in ((5475, 2000), (5525, 8000)):
        near = np.abs(like.wavelength - centre) < 20
        _, _, variance = moments(like.wavelength[near], depth[near])
        want = np.hypot(0.2, centre / resolution) / FWHM
        assert np.sqrt(variance) == pytest.approx(want, rel=2e-3)


def test_agrees_with_the_convolution_on_the_grid_of_the_model():
    rng = np.random.default_rng(4)
    flux = broaden(MODEL, rng.normal(1, 0.3, MODEL.size), 8.0)
    inner = slice(800, -800, 2)
    like = Instrument(MODEL[inner], 12000.0)
    want = convolve_lsf(MODEL, flux, 12000.0)[inner]
    assert np.ptp(want) > 0.05
    np.testing.assert_allclose(observe(MODEL, flux, like), want, atol=1e-5)


def test_the_operator_is_the_function_and_serves_any_velocity():
    rng = np.random.default_rng(6)
    flux = broaden(MODEL, rng.normal(1, 0.3, (2, 3, MODEL.size)), 8.0)
    like = instrument()
    operator = observation_operator(MODEL, like, rv=-20.0, vbroad=12.0)
    direct = observe(MODEL, flux, like, rv=-20.0, vbroad=12.0)
    assert direct.shape == (2, 3, len(like))
    np.testing.assert_array_equal(direct[1, 2], operator @ flux[1, 2])
    np.testing.assert_allclose(np.asarray(operator.sum(axis=1)), 1.0, rtol=1e-12)

    at_rest = observation_operator(MODEL, like)
    moved = shift_flux(MODEL, broaden(MODEL, flux[0, 0], 12.0), -20.0)
    assert np.abs(at_rest @ flux[0, 0] - direct[0, 0]).max() > 1e-3
    np.testing.assert_allclose(at_rest @ moved, direct[0, 0], atol=2e-5)


def test_shift_flux_moves_a_line_and_knows_its_ends():
    flux = 1 - 0.5 * gaussian_line(MODEL, 0.4)
    got = shift_flux(MODEL, flux, 75.0)
    want = 1 - 0.5 * gaussian_line(MODEL, 0.4 * doppler_shift(1.0, 75.0), doppler_shift(LINE, 75.0))
    known = np.isfinite(got)
    np.testing.assert_allclose(got[known], want[known], atol=1e-6)
    assert not known[: int(75 / SPEED_OF_LIGHT * 2e5)].any()
    assert known[60:].all()
    np.testing.assert_allclose(shift_flux(MODEL, flux, 0.0), flux, rtol=1e-12)
    pieces = np.r_[np.arange(5000, 5100, 0.1), np.arange(5300, 5400, 0.1)]
    moved = shift_flux(pieces, np.ones(pieces.size), 60.0)
    assert np.isnan(moved[1000:1005]).all()
    assert np.isfinite(moved[1020:]).all()


def test_beyond_the_model_there_is_nothing():
    like = Instrument(np.arange(5390.1, 5611, 0.5), 3000.0)
    got = observe(MODEL, np.ones(MODEL.size), like)
    inside = (like.wavelength >= MODEL[0]) & (like.wavelength <= MODEL[-1])
    np.testing.assert_array_equal(np.isfinite(got), inside)
    np.testing.assert_allclose(got[inside], 1.0, rtol=1e-12)


def test_a_gap_in_the_model_is_no_data():
    model = np.r_[np.arange(5000, 5100, 0.05), np.arange(5200, 5300, 0.05)]
    like = Instrument(np.arange(5010.0, 5290, 0.5), 3000.0)
    got = observe(model, np.ones(model.size), like)
    gap = (like.wavelength > 5101) & (like.wavelength < 5199)
    assert np.isnan(got[gap]).all()
    np.testing.assert_allclose(got[(like.wavelength < 5099) | (like.wavelength > 5201)], 1.0)


def test_like_may_be_a_spectrum_and_its_bad_pixels_do_not_matter():
    like = instrument()
    dirty = np.full(len(like), np.nan)
    spectrum = Spectrum(
        like.wavelength, dirty, np.zeros(len(like)), 5000.0, Frame.OBSERVED, rv=99.0
    )
    flux = 1 - 0.5 * gaussian_line(MODEL, 0.5)
    np.testing.assert_array_equal(observe(MODEL, flux, spectrum), observe(MODEL, flux, like))


def test_inputs_are_never_edited():
    wavelength, flux, ivar = np.arange(5400.0, 5600, 0.1), np.ones(2000), np.ones(2000)
    flux[7], ivar[7] = np.nan, 0
    copies = wavelength.copy(), flux.copy(), ivar.copy()
    for array in (wavelength, flux, ivar):
        array.flags.writeable = False
    resample(wavelength, flux, ivar, wavelength[3::5])
    observe(wavelength, np.nan_to_num(flux), instrument())
    for array, copy in zip((wavelength, flux, ivar), copies, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_observe_errors():
    flux = np.ones(MODEL.size)
    with pytest.raises(InputError, match=r"R of at most that of the input, 3000"):
        observe(MODEL, flux, instrument(), input_resolution=3000.0)
    with pytest.raises(
        InputError, match=r"2.0 pixels or more per FWHM of the instrument \(1.09 Å at"
    ):
        observe(np.arange(5400.0, 5600), np.ones(200), instrument())
    with pytest.raises(InputError, match="finite values"):
        observe(MODEL, np.full(MODEL.size, np.nan), instrument())
    with pytest.raises(InputError, match="rv"):
        observe(MODEL, flux, instrument(), rv=np.nan)
    with pytest.raises(InputError, match="UVES: expected a positive, finite R"):
        Instrument(MODEL, np.inf, "UVES")
    with pytest.raises(InputError, match=r"UVES: expected one R, or shape"):
        Instrument(MODEL, np.ones(3), "UVES")


def test_the_arrays_of_an_instrument_cannot_be_written():
    like = instrument(np.full(1, 5000.0)[0])
    with pytest.raises(ValueError, match="read-only"):
        like.wavelength[0] = 1.0
