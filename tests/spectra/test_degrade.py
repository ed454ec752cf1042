"""Spectra brought down to a lower resolution."""

from __future__ import annotations

import numpy as np
import pytest

from spectrolabe.spectra import Frame, Spectrum, degrade

FWHM = 2 * np.sqrt(2 * np.log(2))
CENTRE = 5000.0


def line(resolution, at=80000.0, ivar=None):
    """A line as wide as the instrument, on an even or uneven grid, of R = ``at``."""
    grid = np.exp(np.log(CENTRE) + np.arange(-2500, 2500) / (3.0 * 80000.0))
    grid = grid + 0.002 * np.sin(np.arange(len(grid)) / 50.0)
    sigma = CENTRE / resolution / FWHM
    depth = 0.2 * resolution / 28000.0
    flux = 1.0 - depth * np.exp(-0.5 * ((grid - CENTRE) / sigma) ** 2)
    return Spectrum(
        wavelength=grid,
        flux=flux.astype(np.float32),
        ivar=np.full(len(grid), 1e4, np.float32) if ivar is None else ivar,
        resolution=at,
        frame=Frame.BARYCENTRIC,
        survey="generic",
        star_id="star",
        spectrum_id="1",
    )


@pytest.mark.parametrize("at", [80000.0, "rising"])
def test_a_line_gets_the_width_of_the_lower_resolution(at):
    spectrum = line(80000.0)
    if at == "rising":
        spectrum = spectrum.replace(resolution=np.linspace(79990.0, 80010.0, len(spectrum)))
    found, want = degrade(spectrum, 28000.0), line(28000.0)
    inside = slice(300, -300)
    np.testing.assert_allclose(found.flux[inside], want.flux[inside], atol=4e-4)
    assert np.max(found.resolution) == 28000.0
    np.testing.assert_array_equal(found.ivar, spectrum.ivar)


def test_masked_pixels_lend_nothing():
    spectrum = line(80000.0)
    flux, ivar = spectrum.flux.copy(), spectrum.ivar.copy()
    flux[1000:1003], ivar[1000:1003] = 1e6, 0.0
    found = degrade(spectrum.replace(flux=flux, ivar=ivar), 28000.0)
    clean = degrade(spectrum, 28000.0)
    used = found.ivar > 0
    np.testing.assert_allclose(found.flux[used], clean.flux[used], atol=1e-3)
    assert not used[1000:1003].any()
    assert 3 <= (~used).sum() < 20


def test_only_what_is_sharper_changes():
    spectrum = line(80000.0)
    assert degrade(spectrum, 90000.0) is spectrum
    table = np.where(np.arange(len(spectrum)) < 1000, 20000.0, 80000.0)
    found = degrade(spectrum.replace(resolution=table), 28000.0)
    np.testing.assert_array_equal(found.flux[:990], spectrum.flux[:990])
    np.testing.assert_array_equal(found.resolution, np.where(table > 28000.0, 28000.0, table))
