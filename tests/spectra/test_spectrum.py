"""The Spectrum type: what it holds, what it refuses, and that nobody can write into it."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spectrolabe.errors import InputError
from spectrolabe.spectra import Frame, Spectrum


def make(**changes):
    fields = {
        "wavelength": np.linspace(5000, 5100, 6),
        "flux": np.array([1.0, 2.0, 3.0, np.nan, 5.0, 6.0]),
        "ivar": np.array([1.0, 4.0, 1.0, 0.0, 1.0, 1.0]),
        "resolution": 2000.0,
        "frame": Frame.BARYCENTRIC,
    }
    return Spectrum(**(fields | changes))


def test_types_and_defaults():
    spectrum = make(resolution=2000, frame="rest")
    assert (spectrum.wavelength.dtype, spectrum.flux.dtype, spectrum.ivar.dtype) == (
        np.float64,
        np.float32,
        np.float32,
    )
    assert isinstance(spectrum.resolution, float)
    assert spectrum.frame is Frame.REST
    assert np.isnan(spectrum.rv)
    assert len(spectrum) == 6
    assert spectrum.good.tolist() == [True, True, True, False, True, True]
    assert spectrum.snr == pytest.approx(4.0)  # median of 1, 4, 3, 5, 6
    assert make(ivar=np.zeros(6)).snr == 0.0


def test_arrays_cannot_be_written_and_those_of_the_caller_still_can():
    wavelength = np.linspace(5000, 5100, 6)
    flux, ivar = np.ones(6, np.float32), np.ones(6, np.float32)
    resolution, meta = np.full(6, 2000, np.float32), {"file": "a.fits"}
    spectrum = make(wavelength=wavelength, flux=flux, ivar=ivar, resolution=resolution, meta=meta)
    for name in ("wavelength", "flux", "ivar", "resolution"):
        with pytest.raises(ValueError, match="read-only"):
            getattr(spectrum, name)[0] = 7.0
    with pytest.raises(TypeError):
        spectrum.meta["file"] = "b.fits"
    with pytest.raises(AttributeError):
        spectrum.rv = 3.0
    wavelength[0], flux[0], ivar[0], resolution[0] = 1, 7, 7, 7
    meta["file"] = "b.fits"
    assert spectrum.wavelength[0] == 5000
    assert (spectrum.flux[0], spectrum.ivar[0], spectrum.resolution[0]) == (1, 1, 2000)
    assert spectrum.meta["file"] == "a.fits"


def test_a_view_of_a_frozen_array_is_safe():
    base = np.linspace(5000, 5100, 12)
    view = base[::2]
    view.flags.writeable = False
    spectrum = make(wavelength=view)
    base[0] = 1.0
    assert spectrum.wavelength[0] == 5000


def test_replace_changes_a_copy_and_checks_it():
    spectrum = make(rv=12.0, star_id="Sun")
    changed = spectrum.replace(rv=-3.0)
    assert (changed.rv, spectrum.rv, changed.star_id) == (-3.0, 12.0, "Sun")
    with pytest.raises(InputError, match="flux of the shape of wavelength"):
        spectrum.replace(flux=np.ones(5))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        (
            {"flux": np.ones(5)},
            r"expected flux of the shape of wavelength, \(6,\), found shape \(5,\)",
        ),
        ({"ivar": np.ones((2, 3))}, r"ivar of the shape of wavelength"),
        ({"resolution": np.ones(3)}, r"resolution of the shape of wavelength"),
        ({"wavelength": np.ones((2, 3))}, r"a 1-D spectrum of two pixels or more"),
        ({"wavelength": [5000.0], "flux": [1.0], "ivar": [1.0]}, r"two pixels or more"),
        ({"wavelength": np.linspace(5100, 5000, 6)}, r"strictly ascending .* at pixel 0"),
        ({"wavelength": [5, 6, 7, 7, 8, 9]}, r"7\.0000 then 7\.0000 Å at pixel 2"),
        ({"wavelength": [5, 6, np.nan, 7, 8, 9]}, r"finite, positive wavelengths"),
        ({"wavelength": np.arange(6.0)}, r"finite, positive wavelengths, found 0\.0"),
        ({"resolution": 0.0}, r"a positive resolution"),
        ({"resolution": np.nan}, r"a positive resolution"),
        ({"resolution": np.r_[np.ones(5), -1]}, r"found R from -1\.0 to 1\.0"),
        ({"ivar": [1, 1, 1, 0, 1, -1]}, r"non-negative inverse variances, found 1 others"),
        ({"ivar": [1, 1, 1, 0, np.nan, np.inf]}, r"found 2 others.*Set ivar to 0"),
        ({"ivar": np.ones(6)}, r"finite flux wherever ivar > 0, found 1 .* the first is 3"),
        ({"frame": "galactic"}, r"galactic"),
    ],
)
def test_what_is_refused(changes, match):
    with pytest.raises(ValueError, match=match):
        make(**changes)


def test_messages_name_the_file_or_the_spectrum():
    for changes, name in (
        ({"meta": {"file": "a.fits"}, "spectrum_id": "s1"}, "a.fits: "),
        ({"spectrum_id": "s1"}, "s1: "),
        ({}, "spectrum: "),
    ):
        with pytest.raises(InputError, match=f"^{name}expected a positive resolution"):
            make(resolution=-1.0, **changes)


@settings(max_examples=50, deadline=None)
@given(
    steps=st.lists(st.floats(1e-3, 10), min_size=1, max_size=40),
    bad=st.lists(st.integers(0, 39), max_size=10),
)
def test_any_ascending_grid_with_any_mask_is_a_spectrum(steps, bad):
    wavelength = 3000 + np.r_[0, np.cumsum(steps)]
    flux, ivar = np.ones(wavelength.size), np.ones(wavelength.size)
    where = [i for i in bad if i < wavelength.size]
    flux[where], ivar[where] = np.nan, 0
    spectrum = make(wavelength=wavelength, flux=flux, ivar=ivar)
    assert spectrum.good.sum() == wavelength.size - len(set(where))
    assert spectrum.snr == (1.0 if spectrum.good.any() else 0.0)


def test_an_input_error_survives_pickling():
    error = InputError("a.fits", expected="x", found="y", fix="Do z.")
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error) == "a.fits: expected x, found y. Do z."
    assert (again.where, again.fix) == ("a.fits", "Do z.")
