"""Several catalogues at once."""

from __future__ import annotations

import numpy as np
import pytest

from spectrolabe.errors import InputError
from spectrolabe.homogenise.network import fit_network, mean_of
from spectrolabe.labels import Labels
from tests.homogenise.test_correction import ERRORS, NAMES, spread, truth

SHIFTS = {"a": (0.0, 0.0), "b": (100.0, 40.0), "c": (-60.0, 80.0)}


def catalogues():
    """Stars of a chain: a and b share some, b and c others; a and c none."""
    true, rng = truth(4000, 11), np.random.default_rng(12)
    parts = {"a": (0, 2200), "b": (1000, 3400), "c": (2400, 4000)}
    found = {}
    for name, (begin, end) in parts.items():
        offset, slope = SHIFTS[name]
        values = true[begin:end] + 0.3 * ERRORS * rng.normal(size=(end - begin, 3))
        values[:, 0] += offset + slope * true[begin:end, 2]
        star = np.arange(begin, end).astype(str)
        found[name] = Labels(NAMES, values, np.broadcast_to(0.3 * ERRORS, values.shape), star)
    return true, found


def test_a_catalogue_without_stars_of_the_reference_comes_to_its_scale():
    true, found = catalogues()
    fits = fit_network(found, "a", order=2)
    assert sorted(fits) == ["b", "c"]
    for name in ("b", "c"):
        new = fits[name].apply(found[name]).labels
        left = new["teff"] - true[np.array(new.star_id, dtype=int), 0]
        was = found[name]["teff"] - true[np.array(new.star_id, dtype=int), 0]
        assert abs(np.median(left)) < 5.0
        assert abs(np.median(was)) > 30.0
        assert spread(left) < 1.15 * 0.3 * ERRORS[0] < 0.9 * spread(was)
    one = mean_of([found["a"], *(fits[n].apply(found[n]).labels for n in fits)])
    assert len(one) == 4000


def test_without_a_reference_all_meet_in_the_middle():
    true, found = catalogues()
    fits = fit_network(found, None, order=1)
    assert sorted(fits) == ["a", "b", "c"]
    off = {}
    for name, labels in found.items():
        new = fits[name].apply(labels).labels
        off[name] = np.median(new["teff"] - true[np.array(new.star_id, dtype=int), 0])
    assert max(off.values()) - min(off.values()) < 15.0
    # the mean of what was added, at the mean [Fe/H]
    middle = np.mean([offset - 0.3 * slope for offset, slope in SHIFTS.values()])
    assert np.mean(list(off.values())) == pytest.approx(middle, abs=8.0)


def test_a_catalogue_of_other_stars_is_named():
    _, found = catalogues()
    del found["b"]
    with pytest.raises(InputError, match="c: expected 30 stars shared with a, found 0"):
        fit_network(found, "a")
