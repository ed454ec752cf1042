"""First guesses of velocities and labels, on made-up stars whose velocities are known."""

from __future__ import annotations

import numpy as np
import pytest

from spectrolabe.catalogue import ResultFlag
from spectrolabe.errors import InputError
from spectrolabe.inference.starts import first_guess, stated_shift, template_labels
from spectrolabe.labels import LabelScale
from spectrolabe.models.emulator import Emulator
from spectrolabe.spectra import Frame, Instrument, observe
from spectrolabe.spectra.wavelength import doppler_shift, vacuum_to_air
from tests.inference.lines import EMULATOR, FWHM, RESOLUTION, noiseless, noisy, wavelengths

VELOCITIES = np.random.default_rng(8).uniform(-500, 500, 16)


def moving(snr, velocities=VELOCITIES, resolution=RESOLUTION):
    """One spectrum a star, the velocity not stated."""
    return [
        [noisy(noiseless(star, float(v), resolution), snr, star, resolution)]
        for star, v in enumerate(velocities)
    ]


def first(values):
    return np.array([value[0] for value in values])


@pytest.mark.parametrize(("snr", "lost"), [(10.0, 0.1), (30.0, 0.0), (100.0, 0.0)])
def test_unknown_velocities_are_found_within_their_errors(snr, lost):
    guess = first_guess(moving(snr), [EMULATOR])
    found = (guess.flags & ResultFlag.NO_VELOCITY) == 0
    assert np.mean(~found) <= lost
    error = first(guess.e_shift)[found]
    pull = (first(guess.shift) - VELOCITIES)[found] / error
    assert np.abs(pull).max() < 5
    assert 0.4 < 1.4826 * np.median(np.abs(pull)) < 1.6
    assert np.median(error) < 30.0 / snr * 0.2 * FWHM
    assert np.isnan(first(guess.e_shift)[~found]).all()


def test_what_cannot_be_measured_says_so():
    """Noise alone: no velocity, a flag, and a sentence that names the spectrum."""
    rng = np.random.default_rng(3)
    noise = [
        [s.replace(flux=700 + 70 * rng.standard_normal(len(s)), spectrum_id=f"noise{n}")]
        for n, (s,) in enumerate(moving(10.0))
    ]
    guess = first_guess(noise, [EMULATOR])
    assert (guess.flags == ResultFlag.NO_VELOCITY).all()
    assert (first(guess.shift) == 0).all()
    assert np.isnan(first(guess.e_shift)).all()
    assert "noise0" in guess.messages[0][0]


def test_labels_start_near_the_truth():
    """Stars between the templates: far nearer than the spread of all stars."""
    usual = template_labels(EMULATOR)
    truth = 0.7 * usual[[10, 70, 130, 200]] + 0.3 * EMULATOR.mean
    native = EMULATOR.basis.flux(EMULATOR.latents(truth)).numpy()
    seen = Instrument(wavelengths(), RESOLUTION)
    flux = observe(EMULATOR.wavelength, native, seen, input_resolution=EMULATOR.resolution)
    stars = [[noisy(one, 80.0, n, frame=Frame.REST)] for n, one in enumerate(flux)]
    guess = first_guess(stars, [EMULATOR])
    assert guess.names == EMULATOR.names
    assert (guess.labels >= EMULATOR.low).all()
    assert (guess.labels <= EMULATOR.high).all()
    error = np.abs(guess.labels - truth)[:, :3] / EMULATOR.spread[:3]
    assert np.median(error) < 0.35
    assert error.max() < 1.2


def test_a_right_velocity_is_kept_and_one_wrong_by_300_is_not():
    stars = moving(50.0)
    right = [[s.replace(rv=v)] for (s,), v in zip(stars, VELOCITIES, strict=True)]
    guess = first_guess(right, [EMULATOR])
    assert (guess.flags == 0).all()
    np.testing.assert_array_equal(first(guess.shift), VELOCITIES)
    off = [[s.replace(rv=v + 300.0)] for (s,), v in zip(stars, VELOCITIES, strict=True)]
    guess = first_guess(off, [EMULATOR])
    assert (guess.flags == ResultFlag.WRONG_VELOCITY).all()
    assert np.abs(first(guess.shift) - VELOCITIES).max() < 0.3 * FWHM
    assert "km/s" in guess.messages[0][0]
    assert "air" not in guess.messages[0][0]


def test_air_wavelengths_given_as_vacuum():
    stars = moving(50.0, np.full(8, 40.0))
    air = [[s.replace(wavelength=vacuum_to_air(s.wavelength), rv=40.0)] for (s,) in stars]
    guess = first_guess(air, [EMULATOR])
    assert (guess.flags == ResultFlag.WRONG_VELOCITY).all()
    assert all("air wavelengths" in text for (text,) in guess.messages)


def test_wrong_frames():
    """Said to be at rest, but moving; and the other way round."""
    stars = moving(50.0, np.full(4, 60.0))
    claimed = [[s.replace(frame=Frame.REST, rv=60.0)] for (s,) in stars]
    guess = first_guess(claimed, [EMULATOR])
    assert (guess.flags == ResultFlag.WRONG_VELOCITY).all()
    assert all("not at rest" in text for (text,) in guess.messages)
    still = [
        [s.replace(wavelength=s.wavelength / doppler_shift(1.0, 60.0), rv=60.0)] for (s,) in stars
    ]
    guess = first_guess(still, [EMULATOR])
    assert (guess.flags == ResultFlag.WRONG_VELOCITY).all()
    assert all("at rest already" in text for (text,) in guess.messages)
    right = [[s.replace(frame=Frame.REST)] for (s,) in still]
    assert (first_guess(right, [EMULATOR]).flags == 0).all()
    assert stated_shift(right[0][0]) == 0.0


def test_a_faint_spectrum_takes_the_velocity_of_a_bright_one_of_its_star():
    bright, faint = moving(80.0)[0][0], moving(0.2)[0][0]
    guess = first_guess([[faint, bright]], [EMULATOR])
    assert guess.flags[0] == ResultFlag.NO_VELOCITY
    assert np.abs(guess.shift[0] - VELOCITIES[0]).max() < 0.3 * FWHM


def test_company_order_and_bad_pixels_change_nothing():
    stars = moving(40.0)[:5]
    guess = first_guess(stars, [EMULATOR])
    again = first_guess(stars[::-1], [EMULATOR])
    np.testing.assert_allclose(again.labels[::-1], guess.labels, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(first(again.shift)[::-1], first(guess.shift), atol=1e-2)
    bad = []
    for (s,) in stars:
        ivar, flux = s.ivar.copy(), s.flux.copy()
        ivar[100:150], flux[100:150] = 0.0, np.nan
        other = flux.copy()
        other[100:150] = 1e6
        bad.append([s.replace(flux=flux, ivar=ivar), s.replace(flux=other, ivar=ivar)])
    guess = first_guess([[a] for a, _ in bad], [EMULATOR])
    again = first_guess([[b] for _, b in bad], [EMULATOR])
    np.testing.assert_array_equal(first(guess.shift), first(again.shift))
    np.testing.assert_array_equal(guess.labels, again.labels)


def test_a_spectrum_elsewhere_is_not_measured():
    far = moving(50.0)[0][0]
    far = far.replace(wavelength=far.wavelength + 1000.0, rv=12.0)
    guess = first_guess([[far]], [EMULATOR])
    assert guess.shift[0][0] == 12.0
    assert np.isnan(guess.chi2[0])
    np.testing.assert_allclose(guess.labels[0], EMULATOR.mean)


def test_spikes_and_emission_do_not_move_it():
    star = moving(50.0)[0][0]
    rng = np.random.default_rng(0)
    flux = star.flux.copy()
    flux[rng.choice(len(flux), 20, replace=False)] *= 5.0
    guess = first_guess([[star.replace(flux=flux)]], [EMULATOR])
    assert guess.flags[0] == 0
    assert abs(guess.shift[0][0] - VELOCITIES[0]) < 0.3 * FWHM


def test_templates_are_usual_stars_in_range():
    labels = template_labels(EMULATOR)
    assert (labels >= EMULATOR.low).all()
    assert (labels <= EMULATOR.high).all()
    spread = np.ptp(labels, axis=0)[:3] / (EMULATOR.high - EMULATOR.low)[:3]
    assert (spread > 0.8).all()


def test_emulators_of_other_labels_are_refused():
    other = Emulator(
        EMULATOR.network,
        EMULATOR.basis,
        LabelScale(("feh", *EMULATOR.names[1:]), EMULATOR.mean, EMULATOR.spread),
        low=EMULATOR.low,
        high=EMULATOR.high,
        mean=EMULATOR.mean,
        spread=EMULATOR.spread,
        card={},
    )
    with pytest.raises(InputError, match="same labels"):
        first_guess(moving(50.0)[:1], [EMULATOR, other])
    with pytest.raises(InputError, match="one or more"):
        first_guess(moving(50.0)[:1], [])


def test_any_resolution_will_do():
    """Twice three pixels to a FWHM, or fewer than two: the templates follow."""
    for resolution in (5000.0, 28000.0):
        stars = moving(100.0, VELOCITIES[:4], resolution)
        guess = first_guess(stars, [EMULATOR])
        pull = (first(guess.shift) - VELOCITIES[:4]) / first(guess.e_shift)
        assert (guess.flags == 0).all()
        assert np.abs(pull).max() < 5
