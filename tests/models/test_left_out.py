"""Pixels that a model of simulated spectra does not read."""

from __future__ import annotations

import numpy as np
import pytest

from spectrolabe.errors import InputError
from spectrolabe.models.left_out import LEFT_OUT, left_out
from spectrolabe.spectra import Frame, Spectrum

WAVELENGTH = np.arange(3800.0, 9000.0, 1.0)


def flat(resolution=1800.0, **given):
    ones = np.ones(len(WAVELENGTH))
    options = {"frame": Frame.BARYCENTRIC, "rv": 0.0, **given}
    return Spectrum(WAVELENGTH, ones, ones, resolution, **options)


def test_blue_sodium_and_air_go_and_balmer_lines_stay():
    gone = left_out(flat(), tuple(LEFT_OUT))
    at = lambda wavelength: gone[np.searchsorted(WAVELENGTH, wavelength)]  # noqa: E731
    assert all(at(w) for w in (3900.0, 4099.0, 5891.6, 5897.6, 7605.0))
    assert not any(at(w) for w in (4102.9, 4341.7, 4862.7, 6564.6, 5880.0, 8544.0))


def test_the_star_moves_them_and_sharp_spectra_keep_more():
    sodium = WAVELENGTH[left_out(flat(rv=299.792458), ("sodium",))]
    np.testing.assert_allclose(sodium[[0, -1]], np.array([5885.0, 5903.0]) * 1.001, atol=1.0)
    assert left_out(flat(28000.0), ("blue",)).sum() == 200
    assert left_out(flat(), ("blue",)).sum() == 300


def test_unknown_names_are_errors():
    with pytest.raises(InputError, match="telluric"):
        left_out(flat(), ("nonsense",))
