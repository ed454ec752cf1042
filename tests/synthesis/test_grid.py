"""The file of a grid: what goes in comes out, and what is damaged says so."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors import safe_open

from spectrolabe.errors import InputError
from spectrolabe.labels import Labels
from spectrolabe.synthesis.grid import Grid, read_grid, write_grid
from spectrolabe.synthesis.packing import Interpolated, Scaled, continuum_nodes, pack_slopes
from tests.synthesis.grids import NAMES, made_up

DIFFERENTIAL = ("mg_fe", "teff", "la_fe")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = tmp_path_factory.mktemp("grids") / "GRID"
    grid = made_up(6, pieces=2, differential=DIFFERENTIAL)
    write_grid(path, grid)
    return path, grid


def test_what_was_written_is_read_to_the_precision_stated(written):
    path, grid = written
    found = read_grid(path, verify=True)
    assert np.array_equal(found.wavelength, grid.wavelength)
    assert np.abs(found.flux - grid.flux).max() <= 1.01e-5
    assert np.abs(found.continuum / grid.continuum - 1).max() <= 1.01e-4
    slopes, wanted = np.asarray(found.differential), np.asarray(grid.differential)
    largest = np.abs(wanted).max(axis=-1, keepdims=True)
    assert (np.abs(slopes - wanted) <= 5e-4 * np.abs(wanted) + 1e-7 * largest).all()
    assert largest.min() == 0  # an element without lines
    assert found.labels.names == NAMES
    assert np.array_equal(found.labels.values, grid.labels.values)
    assert found.labels.star_id.tolist() == grid.labels.star_id.tolist()
    assert found.differential_names == DIFFERENTIAL
    assert np.array_equal(found.differential_steps, grid.differential_steps)
    assert found.flags == grid.flags
    assert ("HOT",) in found.flags
    assert dict(found.provenance) == {"engine": "made up"}


def test_a_grid_without_slopes_is_a_third_as_large(written, tmp_path):
    grid = made_up(6)
    write_grid(tmp_path / "GRID", grid)
    found = read_grid(tmp_path / "GRID")
    assert found.differential is None
    assert found.differential_names == ()
    pixels = grid.flux.size
    assert (tmp_path / "GRID").stat().st_size < 2.2 * pixels + 16 * len(grid.wavelength)


def test_any_reader_of_safetensors_can_open_it(written):
    path, grid = written
    with safe_open(path, "np") as file:
        assert file.metadata()["format"] == "spectrolabe-grid"
        card = json.loads(file.metadata()["card"])
        flux = file.get_tensor("flux") * card["flux_scale"]
    assert card["labels"] == list(NAMES)
    assert np.abs(flux - grid.flux).max() < 1.01e-5


@pytest.mark.parametrize(
    "key",
    [
        3,
        slice(1, 4),
        [0, 2, 5],
        (2, slice(5, 900, 7)),
        (slice(None), 17),
        (slice(1, None, 2), [3, 900, 1200]),
        ([0, 1], [5, 6]),
        ([0, 4], slice(10, 20)),
        (Ellipsis, 4),
        Ellipsis,
        np.array([True, False, True, False, False, True]),
        (np.array([[0], [3]]), np.array([[1, 2, 1300]])),
    ],
)
def test_arrays_on_disk_are_indexed_as_numpy_does(written, key):
    found = read_grid(written[0])
    for array in (found.flux, found.continuum):
        whole = np.asarray(array)
        assert array[key].dtype == np.float32
        assert np.array_equal(array[key], whole[key])


@pytest.mark.parametrize("key", [3, (2, 1), (slice(None), 0), ([1, 4], [0, 2]), (..., slice(9))])
def test_slopes_on_disk_are_indexed_as_numpy_does(written, key):
    slopes = read_grid(written[0]).differential
    assert np.array_equal(slopes[key], np.asarray(slopes)[key])


def test_arithmetic_with_arrays_on_disk(written):
    found = read_grid(written[0])
    whole = np.asarray(found.flux)
    assert np.array_equal(1 - found.flux, 1 - whole)
    assert np.array_equal(found.flux * found.continuum, whole * np.asarray(found.continuum))
    assert found.flux.shape == whole.shape
    assert len(found.flux) == 6
    assert found.differential.ndim == 3


def test_nothing_is_decoded_on_opening(written, monkeypatch):
    def decoded(*_):
        raise AssertionError

    monkeypatch.setattr(Scaled, "__getitem__", decoded)
    monkeypatch.setattr(Interpolated, "__getitem__", decoded)
    grid = read_grid(written[0])
    with pytest.raises(AssertionError):
        grid.flux[0]


def test_arrays_cannot_be_written(written):
    grid = made_up(2)
    with pytest.raises(ValueError, match="read-only"):
        grid.flux[0, 0] = 2.0
    with pytest.raises(ValueError, match="read-only"):
        read_grid(written[0]).wavelength[0] = 2.0
    with pytest.raises(TypeError):
        read_grid(written[0]).flux[0, 0] = 2.0


def test_flux_above_the_packed_range_is_kept_whole(tmp_path):
    grid = made_up(2)
    flux = grid.flux.copy()
    flux[1, 7] = 3.25
    write_grid(tmp_path / "GRID", with_flux(grid, flux))
    assert np.array_equal(np.asarray(read_grid(tmp_path / "GRID").flux), flux)


def with_flux(grid: Grid, flux: np.ndarray) -> Grid:
    return Grid(grid.wavelength, flux, grid.continuum, grid.labels)


@pytest.mark.parametrize("value", [np.nan, -0.1, np.inf])
def test_what_is_no_flux_is_not_written(tmp_path, value):
    grid = made_up(2)
    flux = grid.flux.copy()
    flux[1, 7] = value
    with pytest.raises(InputError, match="flux of star 1: expected numbers of 0 or more"):
        write_grid(tmp_path / "GRID", with_flux(grid, flux))
    assert list(tmp_path.iterdir()) == []


def test_a_rough_continuum_is_kept_at_every_pixel(tmp_path):
    grid = made_up(2)
    rough = grid.continuum * (1 + 0.01 * (np.arange(len(grid.wavelength)) % 2))
    write_grid(tmp_path / "GRID", Grid(grid.wavelength, grid.flux, rough, grid.labels))
    assert np.allclose(np.asarray(read_grid(tmp_path / "GRID").continuum), rough, rtol=1e-6)


def test_a_file_that_was_cut_off(written, tmp_path):
    content = written[0].read_bytes()
    cut = tmp_path / "GRID"
    for size in (len(content) - 1, len(content) // 2):
        cut.write_bytes(content[:size])
        with pytest.raises(InputError, match=f"GRID: .*damaged one: {size} bytes instead of"):
            read_grid(cut)
    for size in (0, 5, 100):
        cut.write_bytes(content[:size])
        with pytest.raises(InputError, match="expected a grid written by Spectrolabe"):
            read_grid(cut)


def test_a_file_with_other_bytes(written, tmp_path):
    path, grid = written
    content = path.read_bytes()
    other = tmp_path / "GRID"
    where = content.index(np.float64(grid.labels.values[2, 0]).tobytes())
    other.write_bytes(content[:where] + b"\x01" + content[where + 1 :])
    with pytest.raises(InputError, match=r"other bytes of 'labels' than were written.*again"):
        read_grid(other)
    packed = np.rint(grid.flux[3, :50] / 2e-5).astype("<u2").tobytes()
    where = content.index(packed)
    other.write_bytes(content[:where] + b"\xff\xff" + content[where + 2 :])
    read_grid(other)
    with pytest.raises(InputError, match="other bytes of 'flux'"):
        read_grid(other, verify=True)


def test_what_is_no_grid(tmp_path):
    with pytest.raises(InputError, match=r"no: expected a grid, found no such file\. Make one"):
        read_grid(tmp_path / "no")
    (tmp_path / "no.parts").mkdir()
    with pytest.raises(InputError, match=r"found an unfinished one.*again to continue"):
        read_grid(tmp_path / "no")
    (tmp_path / "text").write_text("wavelength,flux\n5000,1\n")
    with pytest.raises(InputError, match="text: expected a grid written by Spectrolabe"):
        read_grid(tmp_path / "text")


def test_a_grid_of_a_later_version(written, tmp_path):
    content = written[0].read_bytes().replace(b'"version": "1"', b'"version": "2"', 1)
    (tmp_path / "GRID").write_bytes(content)
    with pytest.raises(InputError, match="version 1, found spectrolabe-grid version 2"):
        read_grid(tmp_path / "GRID")


def test_shapes_and_names_are_checked():
    grid = made_up(3)
    with pytest.raises(InputError, match=r"grid\.flux: expected shape \(3, 1001\)"):
        Grid(grid.wavelength, grid.flux[:2], grid.continuum, grid.labels)
    with pytest.raises(InputError, match="known label"):
        Grid(grid.wavelength, grid.flux, grid.continuum, grid.labels, None, ("magnesium",))
    with pytest.raises(InputError, match=r"grid\.differential: .* found none"):
        Grid(
            grid.wavelength,
            grid.flux,
            grid.continuum,
            grid.labels,
            None,
            ("mg_fe",),
            np.ones((3, 1)),
        )
    with pytest.raises(InputError, match="ascending"):
        Grid(grid.wavelength[::-1], grid.flux, grid.continuum, grid.labels)


def test_nodes_are_close_and_bridge_no_gap():
    wavelength = np.concatenate([np.arange(4000.0, 4100.0, 0.1), np.arange(15000.0, 15050.0, 0.2)])
    at = wavelength[continuum_nodes(wavelength, 5.0)]
    assert {wavelength[0], wavelength[999], wavelength[1000], wavelength[-1]} <= set(at)
    assert np.diff(at)[np.diff(at) < 100].max() < 5.3
    assert len(continuum_nodes(wavelength, 0.0)) == len(wavelength)


def test_slopes_in_half_floats_keep_small_units():
    """A slope per Kelvin is far below what half floats can hold without a scale."""
    slopes = np.array([[1e-9, -3e-8, 2e-5], [0.0, 0.0, 0.0]])
    packed, scale = pack_slopes(slopes)
    assert packed.dtype == np.float16
    assert np.allclose(packed * scale[:, None], slopes, rtol=5e-3)


def test_labels_of_a_grid_travel_with_their_names(written):
    grid = read_grid(written[0])
    assert isinstance(grid.labels, Labels)
    assert np.array_equal(grid.labels["mg_fe"], grid.labels.values[:, 4])
