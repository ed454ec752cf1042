"""Exposures against closed forms, the survey's design, and each other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import curve_fit

from spectrolabe.errors import InputError
from spectrolabe.sky.instruments import SURVEYS, Faults
from spectrolabe.sky.observing import Reason, observe_star
from spectrolabe.sky.photometry import extinction_curve
from spectrolabe.spectra import Frame, Instrument, observe

PERFECT = Faults(*[0.0] * 9)
LOST = Reason.COSMIC | Reason.BAD_COLUMN | Reason.SATURATED | Reason.NO_DATA
SUN = {"teff": 5772.0, "fe_h": 0.0, "radius": 1.0, "vsini": 0.0, "vmac": 0.0, "rv": 0.0}
SUN |= {"a_v": 0.0, "ra": 120.0, "dec": 20.0, "distance": 0.1}


def black_body(wavelength, teff=5772.0):
    """Flux through the surface in erg/s/cm2/Å."""
    cm = wavelength * 1e-8
    return 1e-8 * 2 * np.pi * 6.62607e-27 * 2.99792e10**2 / cm**5 / np.expm1(1.438777 / cm / teff)


def intrinsic(survey, lines=True, seed=0):
    """Wavelengths, normalised flux and continuum of a made-up star that a survey can see."""
    low, high = SURVEYS[survey].span
    step = 0.05 if high < 12000 else 0.08
    wavelength = np.arange(low * 0.995, high * 1.005, step)
    flux = np.ones(wavelength.size)
    if lines:
        rng = np.random.default_rng(seed)
        for centre in rng.uniform(low, high, 300):
            near = slice(*np.searchsorted(wavelength, (centre - 2, centre + 2)))
            sigma = centre * 8e-6
            profile = np.exp(-0.5 * ((wavelength[near] - centre) / sigma) ** 2)
            flux[near] *= 1 - 0.6 * profile
    return wavelength, flux, black_body(wavelength)


def clean(survey, **changes):
    """An instrument without faults and read-out noise."""
    changes = {"faults": PERFECT, "read_noise": 0.0, "full_well": np.inf, **changes}
    one = replace(SURVEYS[survey], **{"rv_floor": 0.0, "rv_slope": 0.0, "rv_offset": 0.0})
    return replace(one, **changes)


def exposures(instrument, spectrum, star=SUN, seed=1, **options):
    options.setdefault("visits", 1)
    return observe_star(instrument, *spectrum, star, np.random.default_rng(seed), **options)


def at_magnitude(magnitude, of_the_sun):
    """The Sun, as far as it takes to look this faint."""
    return SUN | {"distance": 10 ** ((magnitude - of_the_sun + 5) / 5 - 3)}


@pytest.mark.parametrize("survey", SURVEYS)
def test_an_unresolved_line_has_the_width_of_the_instrument(survey):
    instrument = clean(survey)
    for arm in instrument.arms:
        wavelength = np.arange(arm.wavelength[0] - 30, arm.wavelength[-1] + 30, 0.02)
        pixel = arm.wavelength.size // 3
        centre = arm.wavelength[pixel]
        flux = 1 - 0.9 * np.exp(-0.5 * ((wavelength - centre) / 0.03) ** 2)
        flat = (wavelength, flux, np.full(wavelength.size, 1e6))
        one = replace(instrument, arms=(arm,), unit="counts")
        seen = exposures(one, flat, exposure=1e9)[0].arms[0]
        power = arm.resolution[pixel]
        near = np.abs(arm.wavelength - centre) < 4 * centre / power
        level = np.asarray(seen.flux, float) / (arm.wavelength * arm.throughput)
        level /= np.gradient(arm.wavelength)

        def line(x, height, depth, at, fwhm):
            return height - depth * np.exp(-4 * np.log(2) * ((x - at) / fwhm) ** 2)

        start = (level[near].max(), np.ptp(level[near]), centre, centre / power)
        best, _ = curve_fit(line, arm.wavelength[near], level[near], p0=start)
        assert best[2] == pytest.approx(centre, abs=0.02 * centre / power)
        expected = np.hypot(centre / power, 0.03 * 2.3548)
        assert best[3] == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("survey", ["desi", "galah"])
def test_it_is_what_the_other_way_to_observe_gives(survey):
    instrument = clean(survey, unit="1e-17 erg/s/cm2/A")
    spectrum = intrinsic(survey)
    star = SUN | {"rv": 83.0, "a_v": 1.2, "distance": 0.5}
    seen = exposures(instrument, spectrum, star, exposure=1e8)[0]
    size = (6.957e10 / (0.5 * 3.0857e21)) ** 2 * 1e17
    for arm, one in zip(seen.arms, instrument.arms, strict=True):
        like = Instrument(one.wavelength, one.resolution)
        flux = observe(spectrum[0], spectrum[1] * spectrum[2], like, rv=83.0)
        flux = flux * size * 10 ** (-0.4 * 1.2 * extinction_curve(one.wavelength))
        good = np.asarray(arm.ivar) > 0
        assert good.mean() > 0.99
        ratio = np.asarray(arm.flux / flux)[good]
        level = np.median(ratio)  # of the photometry, the same for all pixels
        assert level == pytest.approx(1.0, abs=0.1)
        assert np.abs(ratio / level - 1).max() < 4e-3
        assert np.std(ratio / level) < 4e-4


@pytest.mark.parametrize("survey", SURVEYS)
def test_what_a_library_has_broadened_already_is_not_broadened_again(survey):
    instrument = clean(survey)
    wavelength, flux, continuum = intrinsic(survey)
    inner = np.exp(np.arange(np.log(wavelength[0]) + 1e-3, np.log(wavelength[-1]) - 1e-3, 1.6e-5))
    broader = observe(wavelength, flux, Instrument(inner, 30_000.0))
    library = (inner, broader, np.interp(inner, wavelength, continuum))
    direct, twice, once = (
        exposures(instrument, spectrum, exposure=1e9, **options)[0].arms
        for spectrum, options in (
            ((wavelength, flux, continuum), {}),
            (library, {}),
            (library, {"resolution": 30_000.0}),
        )
    )
    for one, two, true in zip(once, twice, direct, strict=True):
        good = (np.asarray(one.ivar) > 0) & (np.asarray(true.ivar) > 0)
        wrong, right = (np.std((np.asarray(x.flux) / true.flux)[good]) for x in (two, one))
        # at R = 28,900 little is left to do, and the library's pixels show as steps
        assert right < (6e-3 if survey == "galah" else 1.5e-4)
        if true.resolution.max() > 10_000:
            assert wrong > 2 * right


def test_a_receding_star_is_redder_and_files_at_rest_are_not():
    for survey, moved in (("galah", True), ("apogee", False)):
        instrument = clean(survey)
        low, high = (instrument.arms[0].wavelength[i] for i in (0, -1))
        centre = (low + high) / 2
        wavelength = np.arange(low - 40, high + 40, 0.03)
        flux = 1 - 0.8 * np.exp(-0.5 * ((wavelength - centre) / 0.15) ** 2)
        spectrum = (wavelength, flux, np.full(wavelength.size, 1e6))
        for rv in (150.0, -90.0):
            one = replace(instrument, arms=instrument.arms[:1])
            seen = exposures(one, spectrum, SUN | {"rv": rv}, exposure=1e9)[0]
            arm = seen.arms[0]
            expected = centre * (1 + rv / 299792.458) if moved else centre
            near = np.abs(arm.wavelength - expected) < 2.0
            depth = 1 - arm.flux[near] / np.percentile(arm.flux[near], 95)
            at = np.average(arm.wavelength[near], weights=np.clip(depth - 0.05, 0, None))
            assert at == pytest.approx(expected, abs=0.01)
            assert seen.rv_measured == pytest.approx(rv)


def test_a_wrong_velocity_shifts_a_file_at_rest():
    instrument = clean("apogee", rv_offset=30.0)
    low, high = (instrument.arms[0].wavelength[i] for i in (0, -1))
    centre = (low + high) / 2
    wavelength = np.arange(low - 40, high + 40, 0.05)
    flux = 1 - 0.8 * np.exp(-0.5 * ((wavelength - centre) / 0.2) ** 2)
    one = replace(instrument, arms=instrument.arms[:1])
    spectrum = (wavelength, flux, np.full(wavelength.size, 1e6))
    arm = exposures(one, spectrum, exposure=1e9)[0].arms[0]
    near = np.abs(arm.wavelength - centre) < 4.0
    depth = 1 - arm.flux[near] / np.percentile(arm.flux[near], 95)
    at = np.average(arm.wavelength[near], weights=np.clip(depth - 0.05, 0, None))
    assert at == pytest.approx(centre * (1 - 30.0 / 299792.458), abs=0.02)


@pytest.mark.parametrize("survey", SURVEYS)
def test_noise_is_that_of_the_stated_ivar(survey):
    faults = replace(PERFECT, cosmic=1e-4, bad_columns=2e-3)
    instrument = replace(SURVEYS[survey], faults=faults, rv_floor=0.0, rv_slope=0.0, rv_offset=0.0)
    spectrum = intrinsic(survey)
    star = at_magnitude(12.5, 4.67)
    seen = exposures(instrument, spectrum, star, visits=12)
    for i in range(len(instrument.arms)):
        flux = np.array([one.arms[i].flux for one in seen], dtype=float)
        ivar = np.array([one.arms[i].ivar for one in seen], dtype=float)
        # the photometry of each exposure is its own: bring all to one level
        flux /= np.median(flux, axis=1, keepdims=True)
        level = np.array([np.median(one.arms[i].flux) for one in seen], dtype=float)
        ivar *= level[:, None] ** 2
        mean = np.sum(flux * ivar, axis=0) / np.maximum(np.sum(ivar, axis=0), 1e-30)
        number = np.sum(ivar > 0, axis=0)
        chi2 = np.sum((flux - mean) ** 2 * ivar, axis=0) / np.maximum(number - 1, 1)
        whole = number == len(seen)
        assert whole.mean() > 0.9
        assert np.mean(chi2[whole]) == pytest.approx(1.0, abs=0.06)


@pytest.mark.parametrize("survey", ["galah", "gaia_rvs", "lamost_lrs"])
def test_snr_goes_as_the_root_of_the_light(survey):
    instrument = replace(clean(survey), fibre=0.0)
    spectrum = intrinsic(survey, lines=False)
    near, far = SUN | {"distance": 0.1}, SUN | {"distance": 0.2}
    bright, faint, long = (
        exposures(instrument, spectrum, star, exposure=time)[0].snr
        for star, time in ((near, 1.0), (far, 1.0), (far, 4.0))
    )
    assert bright / faint == pytest.approx(2.0, rel=0.03)
    assert long == pytest.approx(bright, rel=0.03)


def test_snr_falls_faster_where_the_sky_is_brighter_than_the_star():
    spectrum = intrinsic("desi", lines=False)
    instrument = replace(SURVEYS["desi"], faults=PERFECT)
    snr = [
        exposures(instrument, spectrum, at_magnitude(mag, 4.65))[0].snr for mag in (14, 16.5, 19)
    ]
    assert snr[0] / snr[1] < snr[1] / snr[2] < 10.5
    assert snr[1] / snr[2] > 3.4  # more than the root of 10


def test_surveys_reach_the_snr_that_they_were_designed_for():
    def snr(survey, star, visits=1, arm=None):
        seen = exposures(
            replace(SURVEYS[survey], faults=PERFECT), intrinsic(survey, False), star, visits=visits
        )
        each = [one.snr if arm is None else one.arms[arm].snr for one in seen]
        return np.sqrt(np.sum(np.square(each)))

    # APOGEE: H = 12.2 and three visits give 100 (Majewski et al. 2017)
    assert snr("apogee", at_magnitude(12.2, 3.32), visits=3) == pytest.approx(100, rel=0.2)
    # GALAH: V = 14 gives 100 a resolution element of 4 pixels in the green (De Silva et al. 2015)
    assert 2 * snr("galah", at_magnitude(14.0, 4.82), arm=1) == pytest.approx(100, rel=0.3)
    # RVS: S/N 20 a pixel at G_RVS = 12.5 or so, and not 100 (Katz et al. 2023)
    assert 12 < snr("gaia_rvs", at_magnitude(12.5, 4.0)) < 35
    # DESI: r = 17.5 gives 20 to 30 in the red arm in bright time (Cooper et al. 2023)
    assert 12 < snr("desi", at_magnitude(17.5, 4.65), arm=1) < 35


def test_units():
    spectrum = intrinsic("gaia_rvs", lines=False)
    rvs = exposures(replace(SURVEYS["gaia_rvs"], faults=PERFECT), spectrum)[0].arms[0]
    assert np.median(rvs.flux) == pytest.approx(1.0, abs=0.01)
    lamost = exposures(SURVEYS["lamost_lrs"], intrinsic("lamost_lrs", lines=False))[0].arms[0]
    assert np.median(lamost.flux) == pytest.approx(1000.0, rel=0.4)
    # a Sun of V = 10 (4.82 at 10 pc) has 3.6e-9 10^(-0.4 V) erg/s/cm2/Å at 5500 Å
    boss = exposures(clean("sdss_boss"), intrinsic("sdss_boss", False), at_magnitude(10.0, 4.82))
    arm = boss[0].arms[0]
    at = np.median(arm.flux[np.abs(arm.wavelength - 5500) < 50])
    assert at == pytest.approx(3.6e-9 * 10**-4.0 * 1e17, rel=0.15)
    galah = exposures(SURVEYS["galah"], intrinsic("galah", lines=False))[0].arms[2]
    photons = np.asarray(galah.flux, float) ** 2 * galah.ivar
    assert np.median(photons / galah.flux) == pytest.approx(1.0, abs=0.1)


def test_rotation_and_macroturbulence_broaden_and_keep_the_line():
    instrument = clean("galah")
    low, high = (instrument.arms[2].wavelength[i] for i in (0, -1))
    centre = (low + high) / 2
    wavelength = np.arange(low - 40, high + 40, 0.03)
    flux = 1 - 0.5 * np.exp(-0.5 * ((wavelength - centre) / 0.1) ** 2)
    spectrum = (wavelength, flux, np.full(wavelength.size, 1e6))
    one = replace(instrument, arms=instrument.arms[2:3], unit="normalised")
    found = {}
    for name, star in (("still", {}), ("turning", {"vsini": 40.0}), ("boiling", {"vmac": 20.0})):
        arm = exposures(one, spectrum, SUN | star, exposure=1e9)[0].arms[0]
        near = np.abs(arm.wavelength - centre) < 5.0
        depth = 1 - np.asarray(arm.flux, float)[near]
        x = arm.wavelength[near] - centre
        found[name] = depth.sum(), np.sum(depth * x**2) / depth.sum()
    for name in ("turning", "boiling"):
        assert found[name][0] == pytest.approx(found["still"][0], rel=0.01)
    # variances of the profiles: of rotation with linear limb darkening 0.6 (Gray 2008), and of
    # radial-tangential macroturbulence, half of it in each direction and foreshortened
    scale = (centre / 299792.458) ** 2
    turning = (found["turning"][1] - found["still"][1]) / scale
    assert np.sqrt(turning) == pytest.approx(40.0 * np.sqrt(0.22), rel=0.03)
    assert found["boiling"][1] > found["still"][1] + 0.05 * scale * 400


def test_bad_pixels_have_reasons_and_no_weight():
    instrument = replace(
        SURVEYS["desi"], faults=replace(Faults(), cosmic=5e-3, bad_columns=0.02, missed=0.0)
    )
    spectrum = intrinsic("desi")
    seen = exposures(instrument, spectrum, at_magnitude(15.0, 4.65), visits=2)
    masks = [np.concatenate([arm.mask for arm in one.arms]) for one in seen]
    for one, mask in zip(seen, masks, strict=True):
        ivar = np.concatenate([arm.ivar for arm in one.arms])
        assert np.array_equal(ivar == 0, (mask & LOST) != 0)
        assert all(np.all(np.isfinite(arm.flux)) for arm in one.arms)
        assert 0.003 < np.mean((mask & Reason.COSMIC) != 0) < 0.01
    # columns stay bad; cosmic rays come at random
    columns = [(mask & Reason.BAD_COLUMN) != 0 for mask in masks]
    assert np.array_equal(*columns)
    assert columns[0].mean() == pytest.approx(0.02, rel=0.3)
    assert not np.array_equal(*[(mask & Reason.COSMIC) != 0 for mask in masks])


def test_a_star_that_is_too_bright_saturates():
    spectrum = intrinsic("desi", lines=False)
    arm = exposures(SURVEYS["desi"], spectrum, at_magnitude(6.0, 4.65))[0].arms[1]
    assert np.mean((arm.mask & Reason.SATURATED) != 0) > 0.9
    arm = exposures(SURVEYS["desi"], spectrum, at_magnitude(16.0, 4.65))[0].arms[1]
    assert not ((arm.mask & Reason.SATURATED) != 0).any()


def test_the_earths_lines_stay_where_the_observatory_is():
    def oxygen(survey, rv):
        arms = exposures(SURVEYS[survey], intrinsic(survey), SUN | {"rv": rv})[0].arms
        arm = arms[-1]
        flagged = arm.wavelength[(arm.mask & Reason.TELLURIC) != 0]
        return flagged[(flagged > 7500) | (survey == "apogee")]

    # in the barycentric frame they do not follow the star, in files at rest they run against it
    fast, slow = (oxygen("desi", rv) for rv in (200.0, -200.0))
    assert fast.min() == pytest.approx(slow.min(), abs=2.0)
    assert fast.min() == pytest.approx(7593.0, abs=6.0)
    star = {rv: sky_lines(rv) for rv in (200.0, -200.0)}
    moved = np.median(star[200.0]) / np.median(star[-200.0]) - 1
    assert moved == pytest.approx(-400.0 / 299792.458, abs=1e-4)


def sky_lines(rv):
    """Wavelengths at which the sky of APOGEE's green chip is brightest."""
    arm = exposures(SURVEYS["apogee"], intrinsic("apogee"), SUN | {"rv": rv})[0].arms[1]
    inner = (arm.wavelength > 16000) & (arm.wavelength < 16060)
    return arm.wavelength[inner][np.argsort(np.asarray(arm.sky)[inner])[-3:]]


def test_what_the_model_does_not_cover_is_no_data():
    wavelength, flux, continuum = intrinsic("desi")
    part = (wavelength > 6000) & (wavelength < 9000)
    spectrum = (wavelength[part], flux[part], continuum[part])
    seen = exposures(SURVEYS["desi"], spectrum, at_magnitude(15.0, 4.65))[0]
    blue, red, far = seen.arms
    assert not blue.ivar.any()
    assert np.all((blue.mask & Reason.NO_DATA) != 0)
    assert not blue.flux.any()
    assert blue.snr == 0
    assert not red.ivar[red.wavelength < 5990].any()
    assert np.mean(red.ivar[red.wavelength > 6020] > 0) > 0.9
    assert np.mean(far.ivar[far.wavelength < 8980] > 0) > 0.9
    assert seen.snr > 0


def test_velocities_are_as_good_as_they_are_said_to_be():
    spectrum = intrinsic("gaia_rvs")
    star = at_magnitude(11.0, 4.67) | {"rv": 25.0}
    seen = exposures(SURVEYS["gaia_rvs"], spectrum, star, visits=300)
    error = np.array([one.rv_measured - 25.0 for one in seen])
    stated = np.array([one.rv_error for one in seen])
    assert np.std(error / stated) == pytest.approx(1.1, abs=0.15)
    assert abs(np.mean(error)) < 4 * np.std(error) / np.sqrt(len(error))
    hot = exposures(SURVEYS["gaia_rvs"], spectrum, star | {"teff": 7400.0, "vsini": 80.0})[0]
    assert hot.rv_error > 2 * np.median(stated)


def test_the_same_seed_gives_the_same_exposures():
    spectrum = intrinsic("lamost_lrs")
    first, again, other = (
        exposures(SURVEYS["lamost_lrs"], spectrum, seed=seed, visits=None)[0].arms[0]
        for seed in (4, 4, 5)
    )
    assert np.array_equal(first.flux, again.flux)
    assert np.array_equal(first.ivar, again.ivar)
    assert not np.array_equal(first.flux, other.flux)


def test_numbers_and_order_of_visits():
    spectrum = intrinsic("gaia_rvs", lines=False)
    assert len(exposures(SURVEYS["gaia_rvs"], spectrum, visits=None)) == 1
    nights = [one.mjd for one in exposures(SURVEYS["gaia_rvs"], spectrum, visits=5)]
    assert nights == sorted(nights)
    assert SURVEYS["gaia_rvs"].frame is Frame.REST


def test_inputs_are_not_edited_and_mistakes_are_named():
    spectrum = intrinsic("galah")
    before = [values.copy() for values in spectrum]
    arm = exposures(SURVEYS["galah"], spectrum)[0].arms[0]
    for values, old in zip(spectrum, before, strict=True):
        assert np.array_equal(values, old)
    for name in ("wavelength", "flux", "ivar", "mask", "sky"):
        assert not getattr(arm, name).flags.writeable
    with pytest.raises(InputError, match="flux and continuum of shape"):
        exposures(SURVEYS["galah"], (spectrum[0], spectrum[1][:-1], spectrum[2]))
    coarse = tuple(values[::8] for values in spectrum)
    with pytest.raises(InputError, match=r"2\.0 pixels or more per FWHM"):
        exposures(SURVEYS["galah"], coarse)
