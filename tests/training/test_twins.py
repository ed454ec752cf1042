"""Pairs of visits: what is a twin of what, and whose noise is where."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spectrolabe.models.pixels import PixelRow
from spectrolabe.spectra import Frame, Spectrum
from spectrolabe.spectra.store import StoreWriter, open_store
from spectrolabe.training.twins import deeper, noisier, pairs_of, split_noise, visits_of

GRID = np.arange(5000.0, 5100.0, 0.1)


def spectrum(name, star="a", *, seed=0, low=0, high=None, resolution=5000.0, survey="s", **meta):
    grid = GRID[low:high]
    flux = 1.0 + 0.1 * np.random.default_rng(seed).normal(size=len(grid))
    return Spectrum(
        grid,
        flux,
        np.full(len(grid), 100.0),
        resolution,
        Frame.REST,
        0.0,
        survey,
        name,
        star,
        {"file": f"{star}.fits", **meta},
    )


def store_of(tmp_path, *given):
    """A store of (spectrum, split)."""
    with StoreWriter(tmp_path / "store") as writer:
        for one, split in given:
            writer.append(one, split=split)
    return open_store(tmp_path / "store")


def names(store, pairs):
    """Of visits: the names of their twins."""
    return {store[p.visit].spectrum_id: {store[i].spectrum_id for i in p.others} for p in pairs}


def test_a_visit_is_never_in_its_own_target(tmp_path):
    store = store_of(
        tmp_path,
        (spectrum("sum", coadd=True), ""),
        (spectrum("other sum", coadd=True, alternative=True), ""),
        *((spectrum(f"v{i}", seed=i, coadd=False), "") for i in range(3)),
        (spectrum("alone", "b"), ""),
    )
    assert visits_of(store).tolist() == [2, 3, 4, 5]
    pairs = pairs_of(store, range(len(store)))
    assert names(store, pairs) == {
        "v0": {"v1", "v2"},
        "v1": {"v0", "v2"},
        "v2": {"v0", "v1"},
        "alone": set(),
    }
    visit, deep = deeper(store, pairs[0])
    noise, left = (one.flux - one.flux.mean() for one in (visit, deep))
    assert abs(np.corrcoef(noise, left)[0, 1]) < 0.1
    assert deep.snr == pytest.approx(np.sqrt(2.0) * visit.snr, rel=0.05)


def test_the_same_exposure_in_two_files_is_no_twin(tmp_path):
    store = store_of(
        tmp_path,
        (spectrum("row 1", coadd=False, sfile="apVisit-1.fits"), ""),
        (spectrum("row 2", coadd=False, sfile="apVisit-2.fits", seed=1), ""),
        (spectrum("native").replace(meta={"file": "apVisit-1.fits.gz", "row": "visit"}), ""),
    )
    assert names(store, pairs_of(store, range(3))) == {
        "row 1": {"row 2"},
        "row 2": {"row 1", "native"},
        "native": {"row 2"},
    }


def test_twins_are_of_one_split_survey_and_resolution_and_overlap(tmp_path):
    store = store_of(
        tmp_path,
        (spectrum("v"), "train"),
        (spectrum("other split", seed=1), "val"),
        (spectrum("other survey", seed=2, survey="t"), "train"),
        (spectrum("sharper", seed=3, resolution=9000.0), "train"),
        (spectrum("other arm", seed=4, low=600), "train"),
        (spectrum("most of it", seed=5, low=300), "train"),
    )
    found = names(store, pairs_of(store, range(6)))
    assert found["v"] == {"most of it"}
    assert found["other arm"] == {"v", "most of it"}  # which cover all of it
    assert not found["other split"]
    assert not found["other survey"]
    assert not found["sharper"]


def test_a_visit_of_unknown_velocity_has_no_part(tmp_path):
    moving = spectrum("v1", seed=1).replace(frame=Frame.BARYCENTRIC, rv=np.nan)
    store = store_of(tmp_path, (spectrum("v0"), ""), (moving, ""), (spectrum("v2", seed=2), ""))
    assert names(store, pairs_of(store, range(3))) == {"v0": {"v2"}, "v2": {"v0"}}


def test_rows_that_may_not_take_part_do_not(tmp_path):
    store = store_of(tmp_path, *((spectrum(f"v{i}", seed=i), "") for i in range(4)))
    assert names(store, pairs_of(store, [0, 3])) == {"v0": {"v3"}, "v3": {"v0"}}


@given(st.floats(0.2, 5.0), st.integers(0, 2**31))
def test_split_noise_is_uncorrelated_and_as_stated(factor, seed):
    rng = np.random.default_rng(seed)
    sigma = rng.uniform(0.5, 2.0, 20_000)
    noise = sigma * rng.normal(size=len(sigma))
    row = PixelRow(np.arange(len(sigma)) + 1.0, noise, sigma**-2, 1000.0, 0.0)
    one, other = split_noise(row, factor, rng)
    a, b = (x.flux * np.sqrt(x.ivar) for x in (one, other))
    assert abs(np.mean(a * b)) < 0.04
    assert np.std(a) == pytest.approx(1.0, abs=0.04)
    assert np.std(b) == pytest.approx(1.0, abs=0.04)


def test_added_noise_is_as_stated_and_bad_pixels_stay_bad():
    rng = np.random.default_rng(0)
    ivar = np.where(np.arange(20_000) % 10 == 0, 0.0, 4.0)
    row = PixelRow(np.arange(20_000) + 1.0, 0.5 * rng.normal(size=20_000), ivar, 1000.0, 0.0)
    more = noisier(row, 2.0, rng)
    good = ivar > 0
    assert ((more.ivar > 0) == good).all()
    assert np.std(more.flux[good]) == pytest.approx(0.5 * np.sqrt(5.0), rel=0.03)
    assert np.std((more.flux * np.sqrt(more.ivar))[good]) == pytest.approx(1.0, rel=0.03)
