"""Differential spectra against the differences of spectra that were computed one by one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from spectrolabe.errors import InputError
from spectrolabe.labels import ELEMENTS
from spectrolabe.synthesis.differential import DIFFERENTIAL, STEPS, STRUCTURAL
from spectrolabe.synthesis.spectrum import Star, synthesise, wavelength_grid

SUN = Star(5777.0, 4.44, 0.0, 1.0, {"Mg": 0.05})
GIANT = Star(4500.0, 1.8, -0.6, 1.6, {"Ti": 0.2})
YTTRIUM = wavelength_grid(5195.0, 5210.0)  # Y II 5200.4, 5205.7; Ti, Cr, Fe, Mg, C2
EUROPIUM = wavelength_grid(4125.0, 4135.0)  # Eu II 4129.7; Ba II 4130.6


def moved(star: Star, name: str, step: float) -> Star:
    symbols = {f"{symbol.lower()}_fe": symbol for symbol in ELEMENTS}
    if name in symbols:
        symbol = symbols[name]
        return replace(star, x_fe={**star.x_fe, symbol: star.x_fe.get(symbol, 0.0) + step})
    return replace(star, **{name: getattr(star, name) + step})


def difference(star: Star, name: str, step: float, grid: np.ndarray, **options: str) -> np.ndarray:
    """The slope, from two spectra."""
    one, two = (
        synthesise(s, grid, **options).flux.astype(float) for s in (star, moved(star, name, step))
    )
    return (two - one) / step


@pytest.mark.parametrize(
    ("star", "names", "steps"),
    [
        (SUN, ("teff", "logg", "mg_fe"), [50.0, 0.1, 0.1]),
        (GIANT, ("v_micro", "fe_h", "c_fe", "mg_fe", "si_fe"), [0.2, 0.1, 0.1, 0.1, 0.1]),
    ],
)
def test_structural_labels_are_differences_of_spectra(star, names, steps):
    found = synthesise(star, YTTRIUM, differential=names)
    assert found.differential_names == names
    assert found.differential_steps.tolist() == steps
    for name, step, row in zip(names, steps, found.differential, strict=True):
        want = difference(star, name, step, YTTRIUM)
        assert np.abs(want).max() > 1e-3 / STEPS[name] / 10, name
        np.testing.assert_allclose(row, want, atol=3e-7 / step, err_msg=name)


@pytest.mark.parametrize(
    ("star", "name", "grid"),
    [
        (SUN, "ti_fe", YTTRIUM),
        (GIANT, "ti_fe", YTTRIUM),
        (SUN, "y_fe", YTTRIUM),
        (GIANT, "y_fe", YTTRIUM),
        (SUN, "cr_fe", YTTRIUM),
        (SUN, "eu_fe", EUROPIUM),
        (GIANT, "eu_fe", EUROPIUM),
        (GIANT, "ba_fe", EUROPIUM),
    ],
)
def test_elements_that_only_absorb_are_differences_of_spectra_to_two_per_cent(star, name, grid):
    (row,) = synthesise(star, grid, differential=(name,)).differential
    want = difference(star, name, 0.1, grid)
    assert want.min() < -0.02
    np.testing.assert_allclose(row, want, atol=0.02 * np.abs(want).max())
    assert row.sum() == pytest.approx(want.sum(), rel=0.02)


def test_more_of_an_element_makes_its_own_lines_deeper_and_no_others():
    (row,) = synthesise(SUN, EUROPIUM, differential=("eu_fe",)).differential
    assert row.max() == 0.0
    line = 4129.725 * 1.0002805  # in vacuum
    assert EUROPIUM[np.argmin(row)] == pytest.approx(line, abs=0.1)
    assert np.all(row[np.abs(EUROPIUM - line) > 4.0] == 0.0)


def test_an_element_without_lines_changes_nothing():
    names = ("li_fe", "eu_fe", "la_fe")
    window = wavelength_grid(15240.0, 15246.0)
    assert np.all(synthesise(SUN, window, differential=names).differential == 0.0)


@pytest.mark.parametrize(
    ("edge", "name", "step"),
    [
        (Star(8000.0, 4.2, 0.0, 1.5), "teff", -50.0),
        (Star(6000.0, 5.5, 0.0, 1.0), "logg", -0.1),
        (Star(6000.0, 4.4, 1.0, 1.0), "fe_h", -0.1),
    ],
)
def test_at_the_upper_edge_of_the_atmospheres_the_step_is_downwards(edge, name, step):
    window = wavelength_grid(5198.0, 5202.0)
    found = synthesise(edge, window, differential=("v_micro", name))
    assert found.differential_steps.tolist() == [0.2, step]
    np.testing.assert_allclose(
        found.differential[1], difference(edge, name, step, window), atol=3e-7 / abs(step)
    )
    # a slope, whatever the sign of the step
    assert found.differential[1].mean() * (1 if name == "teff" else -1) > 0 or name == "logg"


def test_order_and_company_of_the_names_do_not_matter():
    window = wavelength_grid(5198.0, 5203.0)
    names = ("y_fe", "teff", "ti_fe", "mg_fe")
    one = synthesise(GIANT, window, differential=names)
    two = synthesise(GIANT, window, differential=names[::-1])
    np.testing.assert_array_equal(one.differential, two.differential[::-1])
    np.testing.assert_array_equal(one.differential_steps, two.differential_steps[::-1])
    alone = synthesise(GIANT, window, differential=("ti_fe",))
    np.testing.assert_array_equal(alone.differential[0], one.differential[2])
    np.testing.assert_array_equal(synthesise(GIANT, window).flux, one.flux)


def test_atmospheres_and_lines_are_those_of_the_spectrum():
    window = wavelength_grid(4195.0, 4200.0)
    options = {"atmospheres": "atlas9", "lines": "full"}
    (row,) = synthesise(GIANT, window, differential=("n_fe",), **options).differential
    np.testing.assert_allclose(row, difference(GIANT, "n_fe", 0.1, window, **options), atol=3e-6)
    for changed in ({"atmospheres": "marcs"}, {"lines": "reference"}):
        (other,) = synthesise(
            GIANT, window, differential=("n_fe",), **{**options, **changed}
        ).differential
        assert np.abs(row - other).max() > 1e-3


def test_there_are_thirty_four_labels():
    assert len(DIFFERENTIAL) == len(set(DIFFERENTIAL)) == 34
    assert DIFFERENTIAL[:4] == ("teff", "logg", "fe_h", "v_micro")
    assert set(DIFFERENTIAL[4:]) == {f"{x.lower()}_fe" for x in ELEMENTS if x != "P"}
    assert set(STRUCTURAL) <= set(ELEMENTS)


@pytest.mark.parametrize("name", ["mg", "Mg", "fe_fe", "rv", "u_fe"])
def test_what_is_no_label_of_a_differential_spectrum_is_named(name):
    with pytest.raises(InputError, match=rf"known label of a differential .*found '{name}'"):
        synthesise(SUN, wavelength_grid(5198.0, 5199.0), differential=("teff", name))
