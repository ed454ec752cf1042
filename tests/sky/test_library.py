"""The library of intrinsic spectra against a made-up sky whose spectra are known everywhere."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from astropy.table import Table

from spectrolabe.errors import InputError
from spectrolabe.labels import Labels
from spectrolabe.sky.library import fit_library, load_library

NAMES = ("teff", "logg", "fe_h", "v_micro", "mg_fe", "si_fe")
LOW = np.array([4300.0, 1.0, -2.0, 0.8, -0.3, -0.3])
HIGH = np.array([7000.0, 5.0, 0.4, 2.0, 0.5, 0.5])
LENGTHS = dict(zip(NAMES, [2000.0, 3.0, 2.0, 2.0, 1.0, 1.0], strict=True))
STEPS = np.array([50.0, 0.1, 0.1, 0.2, 0.1, 0.1])
FINE = np.arange(5000.0, 5060.0, 0.05)
COARSE = np.geomspace(5002.0, 5058.0, 700)


def spectrum(labels):
    """Flux (N, M) of made-up stars: three lines that saturate, with wings that grow."""
    teff, logg, fe_h, v_micro, mg_fe, si_fe = np.atleast_2d(labels).T[:, :, None]
    cold = np.exp((5500 - teff) / 1500)
    depth = 0.0
    for centre, x in ((5010.0, fe_h), (5025.0, fe_h + mg_fe), (5045.0, fe_h + si_fe)):
        strength = 0.8 * 10 ** (0.4 * x) * cold
        width = 0.3 * v_micro**0.3 * (1 + 0.05 * logg)
        depth = depth + strength * np.exp(-0.5 * ((FINE - centre) / width) ** 2)
    return np.exp(-depth)


def grid_of(count, seed=0, slopes=True, inner=0.0, steps=STEPS):
    share = np.random.default_rng(seed).uniform(inner, 1 - inner, size=(count, 6))
    values = LOW + (HIGH - LOW) * share
    flux = spectrum(values)
    moved = [(spectrum(values + s * e) - flux) / s for s, e in zip(steps, np.eye(6), strict=True)]
    continuum = (values[:, :1] / 5000) ** 4 * (FINE / 5000) ** -2 * 1e6
    return SimpleNamespace(
        wavelength=FINE,
        flux=flux,
        continuum=continuum,
        labels=Labels(NAMES, values, np.full(values.shape, np.nan), np.arange(count).astype(str)),
        differential=np.stack(moved, axis=1) if slopes else None,
        differential_names=NAMES,
        differential_steps=np.tile(steps, (count, 1)),
        provenance={"engine": "made up"},
    )


def error(library, count=100):
    held_out = grid_of(count, seed=1, slopes=False, inner=0.05)
    from spectrolabe.spectra import Instrument, observe

    flux, _ = library(Table(held_out.labels.values, names=NAMES))
    like = Instrument(library.wavelength, library.resolution, "library")
    return np.abs(flux - observe(FINE, held_out.flux, like)).mean()


@pytest.fixture(scope="module")
def library():
    return fit_library([grid_of(60)], COARSE, 20000.0, LENGTHS, components=20)


def test_spectra_between_the_nodes_are_right(library):
    assert error(library) < 2e-3


def test_differential_spectra_are_worth_many_spectra(library):
    plain = fit_library([grid_of(60, slopes=False)], COARSE, 20000.0, LENGTHS, components=20)
    assert error(library) < 0.4 * error(plain)


def test_stars_without_differential_spectra_add_to_those_with(library):
    both = [grid_of(60), grid_of(150, seed=3, slopes=False)]
    more = fit_library(both, COARSE, 20000.0, LENGTHS, components=20)
    assert error(more) < 0.8 * error(library)
    assert error(
        fit_library(both, COARSE, 20000.0, LENGTHS, components=20, left_out=range(150))
    ) == (pytest.approx(error(library), rel=1e-3))


def test_the_order_of_grids_does_not_matter(library):
    both = [grid_of(40, seed=3, slopes=False), grid_of(60)]
    assert error(fit_library(both, COARSE, 20000.0, LENGTHS, components=20)) < error(library)


def test_steps_may_be_large_and_downwards(library):
    """The process is told where the second spectrum of a difference lies."""
    down = fit_library([grid_of(60, steps=-3 * STEPS)], COARSE, 20000.0, LENGTHS, components=20)
    assert error(down) < 2 * error(library)


def test_differential_spectra_count_among_the_components():
    """Six stars have five components; what their differential spectra show is in others."""
    few = fit_library([grid_of(6)], COARSE, 20000.0, LENGTHS, components=25)
    np.testing.assert_allclose(few.basis[:8] @ few.basis[:8].T, np.eye(8), atol=1e-3)
    own = grid_of(6, slopes=False).labels.values
    moved = own + 0.3 * np.eye(6)[5]
    from spectrolabe.spectra import Instrument, observe

    like = Instrument(COARSE, 20000.0, "library")
    change = observe(FINE, spectrum(moved) - spectrum(own), like)
    assert np.abs(change - change @ few.basis.T @ few.basis).max() < 0.02 * np.abs(change).max()


def test_flux_is_never_negative(library):
    dark = replace(library, mean=library.mean - 2.0)
    flux, _ = dark(Table(grid_of(3, seed=2, inner=0.1).labels.values, names=NAMES))
    assert flux.min() == flux.max() == 0.0


def test_a_library_of_another_format(library, tmp_path):
    library.save(tmp_path)
    card = json.loads((tmp_path / "card.json").read_text())
    (tmp_path / "card.json").write_text(json.dumps({**card, "format": "spectrolabe-library-9"}))
    with pytest.raises(InputError, match=r"spectrolabe-library-1, found spectrolabe-library-9"):
        load_library(tmp_path)


def test_continuum_is_smooth_and_right(library):
    star = np.array([[5600.0, 3.0, -0.5, 1.2, 0.1, 0.1]])
    _, continuum = library(Table(star, names=NAMES))
    want = (5600 / 5000) ** 4 * (COARSE / 5000) ** -2 * 1e6
    np.testing.assert_allclose(continuum[0], want, rtol=0.02)


def test_it_is_the_same_after_saving(library, tmp_path):
    stars = Table(grid_of(5, seed=2, inner=0.05).labels.values, names=NAMES)
    library.save(tmp_path / "library")
    again = load_library(tmp_path / "library")
    for one, two in zip(library(stars), again(stars), strict=True):
        np.testing.assert_allclose(one, two, rtol=2e-3, atol=2e-3)
    assert again.names == library.names
    assert again.resolution == library.resolution


def test_stars_outside_and_missing_labels_are_named(library):
    stars = Table([[5600.0], [3.0], [1.5], [1.2], [0.1], [0.1]], names=NAMES)
    with pytest.raises(InputError, match=r"fe_h of star 0.*-2 to 0.4|fe_h of star 0"):
        library(stars)
    stars.remove_column("mg_fe")
    with pytest.raises(InputError, match="mg_fe"):
        library(stars)


def test_a_folder_without_a_library_and_a_damaged_one(library, tmp_path):
    with pytest.raises(InputError, match=r"library\.safetensors"):
        load_library(tmp_path)
    library.save(tmp_path)
    with (tmp_path / "library.safetensors").open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(InputError, match="safetensors"):
        load_library(tmp_path)
