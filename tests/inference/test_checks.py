"""Each kind of bad input has its flag and its sentence; good input has none."""

from __future__ import annotations

import re

import numpy as np
import pytest

from spectrolabe.catalogue import ResultFlag
from spectrolabe.inference.checks import (
    Finding,
    check_fit,
    check_labels,
    check_star,
    check_velocity,
    combined,
)
from spectrolabe.spectra import Frame, Spectrum
from spectrolabe.spectra.wavelength import doppler_shift, vacuum_to_air
from tests.inference.lines import EMULATOR, FWHM, RESOLUTION, noiseless, noisy

FEW_PIXELS = ResultFlag.FEW_PIXELS | ResultFlag.NO_RESULT


def found(findings):
    return combined(findings)[0]


def test_good_spectra_are_not_complained_of():
    star = noisy(noiseless(0, 0.0), 50.0)
    assert check_star([star], [EMULATOR], 60) == []
    stars = [noisy(noiseless(n, 0.0), 50.0, n) for n in range(8)]
    found_ = [check_fit(star, noiseless(n, 0.0), 0.0) for n, star in enumerate(stars)]
    assert found_ == [[]] * 8


def test_a_spectrum_out_of_range():
    star = noisy(noiseless(0, 0.0), 50.0, spectrum_id="far")
    far = star.replace(wavelength=star.wavelength + 2000.0)
    (range_, few) = check_star([far], [EMULATOR], 60)
    assert range_.flag == ResultFlag.OUT_OF_RANGE
    assert few.flag == FEW_PIXELS
    assert "none of its good pixels" in range_.message
    assert "far" in range_.message
    assert f"{EMULATOR.wavelength[0]:.0f}" in range_.message
    partly = star.replace(wavelength=star.wavelength + 250.0)
    assert found(check_star([partly], [EMULATOR], 60)) == ResultFlag.OUT_OF_RANGE
    assert check_star([star.replace(wavelength=star.wavelength + 50)], [EMULATOR], 60) == []
    # beside a good spectrum of the same star it is no obstacle
    assert found(check_star([star, far], [EMULATOR], 60)) == ResultFlag.OUT_OF_RANGE


def test_a_resolution_that_the_emulator_does_not_have():
    star = noisy(noiseless(0, 0.0), 50.0).replace(resolution=115000.0)
    findings = check_star([star], [EMULATOR], 60)
    assert found(findings) == ResultFlag.OUT_OF_RANGE | FEW_PIXELS
    assert "R = 115000" in findings[0].message


def test_fewer_pixels_than_parameters():
    star = noisy(noiseless(0, 0.0), 50.0)
    ivar = star.ivar.copy()
    ivar[100:] = 0.0
    short = star.replace(ivar=ivar)
    used = int((short.wavelength[:100] > 5000.0).sum())
    assert check_star([short], [EMULATOR], used - 1) == []
    (finding,) = check_star([short], [EMULATOR], used)
    assert finding.flag == FEW_PIXELS
    assert f"{used} usable pixels for {used} parameters" in finding.message
    assert check_star([short, short], [EMULATOR], used) == []
    nothing = star.replace(ivar=np.zeros(len(star)))
    assert found(check_star([nothing], [EMULATOR], 60)) == FEW_PIXELS


def flat_star(height=0.0, centres=(), fwhm=200.0, resolution=1800.0, snr=60.0):
    """A continuum with shallow lines everywhere, and emission lines; with its model."""
    rng = np.random.default_rng(5)
    wavelength = np.exp(np.arange(np.log(3800.0), np.log(8900.0), 1 / (2.4 * resolution)))
    model = np.ones(len(wavelength))
    for line in [*rng.uniform(3800.0, 8900.0, 150), 6564.61, 3934.77, 3969.59, 8500.35, 8544.44]:
        model -= 0.2 * gaussian(wavelength, line, fwhm)
    flux = 1 - (1 - model) + height * sum(gaussian(wavelength, c, fwhm) for c in centres)
    seen = flux + rng.standard_normal(len(flux)) / snr
    ivar = np.full(len(flux), snr**2)
    return Spectrum(wavelength, seen, ivar, resolution, Frame.REST, spectrum_id="flat"), model


def gaussian(wavelength, centre, fwhm):
    return np.exp(-4 * np.log(2) * ((wavelength / centre - 1) * 299792.458 / fwhm) ** 2)


@pytest.mark.parametrize(
    ("centres", "name"),
    [
        ((6564.61,), "Hα"),
        ((3934.77, 3969.59), "Ca II K"),
        ((8500.35, 8544.44), "Ca II 8544"),
        ((4960.3, 5008.24), "[O III] 5008"),
    ],
)
def test_emission_lines(centres, name):
    (finding,) = check_fit(*flat_star(0.6, centres), 0.0)
    assert finding.flag == ResultFlag.EMISSION
    assert name in finding.message
    assert "flat" in finding.message


def test_what_is_no_emission():
    assert check_fit(*flat_star(), 0.0) == []
    assert check_fit(*flat_star(0.6, (6000.0, 7000.0)), 0.0) == []  # no line is there
    assert check_fit(*flat_star(0.6, (8544.44,)), 0.0) == []  # alone: the sky
    assert check_fit(*flat_star(-0.3, (6564.61,)), 0.0) == []  # deeper than the model
    star, model = flat_star()
    flux, ivar = star.flux.copy(), star.ivar.copy()
    near = np.argmin(np.abs(star.wavelength - 6564.61))
    flux[near] += 1.0
    assert check_fit(star.replace(flux=flux), model, 0.0) == []  # one pixel: a cosmic ray
    flux[near - 3 : near + 4] += 1.0
    ivar[near - 3 : near + 4] = 0.0
    assert check_fit(star.replace(flux=flux, ivar=ivar), model, 0.0) == []


def test_emission_is_sought_where_the_star_has_it():
    star, model = flat_star(0.6, (6564.61,))
    moved = star.replace(wavelength=doppler_shift(star.wavelength, 400.0), frame=Frame.BARYCENTRIC)
    assert found(check_fit(moved, model, 400.0)) == ResultFlag.EMISSION
    assert check_fit(moved, model, 0.0) == []


@pytest.mark.parametrize("velocity", [60.0, -120.0])
def test_a_double_lined_binary(velocity):
    model = noiseless(0, 0.0)
    both = (model + 0.6 * noiseless(0, velocity)) / 1.6
    findings = check_fit(noisy(both, 60.0), model, 0.0)
    assert ResultFlag.SECOND_STAR in found(findings)
    (text,) = (f.message for f in findings if f.flag == ResultFlag.SECOND_STAR)
    stated = float(re.search(r"at ([+-]\d+) km/s", text)[1])
    assert abs(stated - velocity) < 0.3 * FWHM
    assert found(check_fit(noisy(model, 60.0), model, 0.0)) == 0


def test_a_faint_second_star_is_not_claimed():
    model = noiseless(0, 0.0)
    both = (model + 0.05 * noiseless(0, 100.0)) / 1.05
    assert check_fit(noisy(both, 60.0), model, 0.0) == []


def test_wavelengths_in_air_in_part():
    model = noiseless(0, 0.0)
    star = noisy(model, 60.0)
    middle = len(star) // 2
    air = np.concatenate([star.wavelength[:middle], vacuum_to_air(star.wavelength[middle:])])
    keep = np.concatenate([[True], np.diff(np.maximum.accumulate(air)) > 0])
    part = Spectrum(air[keep], star.flux[keep], star.ivar[keep], RESOLUTION, Frame.BARYCENTRIC)
    findings = check_fit(part, model[keep], 0.0)
    assert found(check_fit(star, model, 0.0)) == 0
    # the model here lies on the wrong pixels as well: put it where the lines should be
    right = np.interp(part.wavelength, star.wavelength, model)
    findings = check_fit(part, right, 0.0)
    assert ResultFlag.WRONG_WAVELENGTHS in found(findings)
    assert any("vacuum" in f.message for f in findings)


@pytest.mark.parametrize(("name", "margin"), [("teff", 200.0), ("logg", 0.02), ("fe_h", 0.02)])
def test_stars_at_the_edge_of_the_models(name, margin):
    middle = (EMULATOR.low + EMULATOR.high) / 2
    assert check_labels(middle, EMULATOR) == []
    column = EMULATOR.names.index(name)
    for end, inwards in ((EMULATOR.low, 1.0), (EMULATOR.high, -1.0)):
        labels = middle.copy()
        labels[column] = end[column]
        (finding,) = check_labels(labels, EMULATOR)
        assert finding.flag == ResultFlag.OUT_OF_COVERAGE
        assert f"{name} at the edge of the models, {end[column]:.6g}" in finding.message
        labels[column] += inwards * margin * 1.05
        assert check_labels(labels, EMULATOR) == []
    labels[column] = EMULATOR.low[column] + 0.95 * margin
    assert found(check_labels(labels, EMULATOR)) == ResultFlag.OUT_OF_COVERAGE


def test_a_fitted_velocity_that_is_not_the_stated_one():
    star = noisy(noiseless(0, 0.0), 50.0, rv=10.0, frame=Frame.BARYCENTRIC, spectrum_id="off")
    limit = max(0.15 * FWHM, 15.0)
    assert check_velocity(star, 10.0 + 0.95 * limit, 0.1) == []
    (finding,) = check_velocity(star, 10.0 - 1.05 * limit, 0.1)
    assert finding.flag == ResultFlag.WRONG_VELOCITY
    assert "off: lines are at" in finding.message
    assert "the file says 10.0 km/s" in finding.message
    assert check_velocity(star, 10.0 - 1.05 * limit, 0.3 * limit) == []  # five errors
    assert check_velocity(star.replace(rv=np.nan), 300.0, 0.1) == []  # none is stated
    assert len(check_velocity(star.replace(frame=Frame.REST), 1.05 * limit, 0.1)) == 1


def test_a_model_without_pixels_is_no_crash():
    star = noisy(noiseless(0, 0.0), 50.0)
    assert check_fit(star, np.full(len(star), np.nan), 0.0) == []
    assert check_fit(star.replace(ivar=np.zeros(len(star))), noiseless(0, 0.0), 0.0) == []


def test_findings_are_combined():
    flags, messages = combined(
        [Finding(ResultFlag.EMISSION, "a"), Finding(ResultFlag.LOW_SNR | ResultFlag.EMISSION, "b")]
    )
    assert flags == ResultFlag.EMISSION | ResultFlag.LOW_SNR
    assert messages == ("a", "b")
    assert combined([]) == (ResultFlag(0), ())
