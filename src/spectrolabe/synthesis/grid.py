"""Grids of synthetic spectra: what they hold, and the one file they are kept in.

The file is a safetensors file: a JSON header and then plain arrays, mapped into memory when read.
`docs/grids.md` describes it.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from spectrolabe.errors import InputError
from spectrolabe.guard import blaming
from spectrolabe.labels import Labels, label, read_only
from spectrolabe.spectra.grid import checked_grid
from spectrolabe.synthesis.packing import (
    CONTINUUM_PRECISION,
    CONTINUUM_SPACINGS,
    Decoded,
    Interpolated,
    Scaled,
    continuum_nodes,
    pack_slopes,
)

__all__ = ["Grid", "GridHead", "Row", "read_grid", "write_grid", "write_rows"]

FORMAT, FORMAT_VERSION = "spectrolabe-grid", 1
FLUX_SCALE = 2e-5  # of the normalised flux: rounded to half of it
CHECKED = 1 << 24  # bytes: smaller arrays are compared with their checksum whenever a grid is read
DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "U32": "<u4", "U16": "<u2", "U8": "|u1"}
CODES = {np.dtype(kind).str: code for code, kind in DTYPES.items()}


@dataclass(frozen=True, eq=False)
class Grid:
    """Spectra of N stars on M pixels, with the labels they were computed for.

    The arrays cannot be written. Those of a grid that was read stay packed in its file:
    ``flux``, ``continuum`` and ``differential`` decode what is indexed (``grid.flux[3]``,
    ``grid.flux[:10, ::5]``), and ``np.asarray(grid.flux)`` decodes all of it.

    Parameters
    ----------
    wavelength : ndarray, shape (M,)
        Vacuum Angstrom, ascending.
    flux : array, shape (N, M), float32
        Over the continuum; to 1e-5 in a grid that was read.
    continuum : array, shape (N, M), float32
        erg/s/cm2/Angstrom at the surface of the star; to 1e-4 in a grid that was read.
    labels : Labels
        N rows, without uncertainties.
    differential : array, shape (N, D, M), float32, or None
        Change of ``flux`` per unit of a label; to 5e-4 of each value in a grid that was read.
    differential_names : tuple of str
        D labels.
    differential_steps : ndarray, shape (N, D)
        Step of each forward difference in the unit of the label; negative at an upper edge.
    flags : tuple of tuple of str
        What to know about each star.
    provenance : mapping
        How it was made: engine, version, atmospheres, tables, solar mixture, wavelength medium.

    Raises
    ------
    InputError
        If shapes disagree, a name is unknown or the wavelengths do not ascend.
    """

    wavelength: NDArray
    flux: NDArray | Decoded
    continuum: NDArray | Decoded
    labels: Labels
    differential: NDArray | Decoded | None = None
    differential_names: tuple[str, ...] = ()
    differential_steps: NDArray = field(default_factory=lambda: np.empty((0, 0)))
    flags: tuple[tuple[str, ...], ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        def put(name: str, value: Any) -> None:
            object.__setattr__(self, name, value)

        put("wavelength", read_only(checked_grid("wavelength", self.wavelength), np.float64))
        stars, names = len(self.labels), tuple(self.differential_names)
        for name in names:
            label(name)
        put("differential_names", names)
        put("flags", tuple(tuple(one) for one in self.flags) or ((),) * stars)
        put("provenance", MappingProxyType(dict(self.provenance)))
        steps = np.asarray(self.differential_steps, np.float64)
        put("differential_steps", read_only(steps if names else np.empty((stars, 0)), np.float64))
        for name in ("flux", "continuum", "differential"):
            array = getattr(self, name)
            if array is not None and not isinstance(array, Decoded):
                put(name, read_only(array, np.float32))
        self._check(stars, len(names), len(self.wavelength))

    def _check(self, stars: int, slopes: int, pixels: int) -> None:
        wanted: dict[str, tuple[int, ...]] = {
            "flux": (stars, pixels),
            "continuum": (stars, pixels),
            "differential_steps": (stars, slopes),
        }
        if slopes:
            wanted["differential"] = (stars, slopes, pixels)
        for name, shape in wanted.items():
            found = getattr(self, name)
            if found is None or found.shape != shape:
                raise InputError(
                    f"grid.{name}",
                    expected=f"shape {shape}",
                    found="none" if found is None else f"shape {found.shape}",
                )
        if not slopes and self.differential is not None:
            raise InputError("grid.differential_names", expected="one a slope", found="none")
        if len(self.flags) != stars:
            raise InputError("grid.flags", expected=f"{stars} rows", found=f"{len(self.flags)}")

    def __len__(self) -> int:
        return len(self.labels)


class Row(Protocol):
    """The spectrum of one star on its way into a file."""

    @property
    def flux(self) -> NDArray:
        """Normalised, shape (M,)."""

    @property
    def continuum(self) -> NDArray:
        """erg/s/cm2/Angstrom, shape (M,)."""

    @property
    def slopes(self) -> tuple[NDArray, NDArray]:
        """Packed differential spectra (D, M) and their scales (D,), of `pack_slopes`."""


@dataclass(frozen=True, eq=False)
class GridHead:
    """All of a grid but its spectra; see `Grid`."""

    wavelength: NDArray
    labels: Labels
    differential_names: tuple[str, ...]
    differential_steps: NDArray
    flags: Sequence[Sequence[str]]
    provenance: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class _GridRow:
    grid: Grid
    star: int

    @property
    def flux(self) -> NDArray:
        return self.grid.flux[self.star]

    @property
    def continuum(self) -> NDArray:
        return self.grid.continuum[self.star]

    @property
    def slopes(self) -> tuple[NDArray, NDArray]:
        assert self.grid.differential is not None
        return pack_slopes(np.asarray(self.grid.differential[self.star]))


def write_grid(path: str | Path, grid: Grid) -> None:
    """Write a grid into one file: at any time the file is whole, or as it was before.

    Raises
    ------
    InputError
        If a flux or a continuum is not finite or negative.
    """
    head = GridHead(
        grid.wavelength,
        grid.labels,
        grid.differential_names,
        grid.differential_steps,
        grid.flags,
        grid.provenance,
    )
    write_rows(path, head, [_GridRow(grid, star) for star in range(len(grid))])


def write_rows(path: str | Path, head: GridHead, rows: Sequence[Row]) -> None:
    """Write a grid star by star, so that it need not fit into memory; see `write_grid`.

    Parameters
    ----------
    path : str or Path
    head : GridHead
    rows : sequence of Row
        In the order of the labels; each is read several times.
    """
    path = Path(path)
    flag_names = sorted({flag for flags in head.flags for flag in flags})
    brightest, nodes = _extent(head.wavelength, rows)
    small = _small_arrays(head, nodes, flag_names)
    stars, pixels, slopes = len(rows), len(head.wavelength), len(head.differential_names)
    packed = brightest <= FLUX_SCALE * np.iinfo(np.uint16).max
    shapes: dict[str, tuple[str, tuple[int, ...]]] = {
        name: (CODES[array.dtype.str], array.shape) for name, array in small.items()
    }
    shapes["continuum"] = ("F32", (stars, len(nodes)))
    shapes["flux"] = ("U16" if packed else "F32", (stars, pixels))
    if slopes:
        shapes["differential_scale"] = ("F32", (stars, slopes))
        shapes["differential"] = ("F16", (stars, slopes, pixels))
    card = {
        "labels": list(head.labels.names),
        "differential_names": list(head.differential_names),
        "flag_names": flag_names,
        "flux_scale": FLUX_SCALE if packed else 1.0,
        "provenance": dict(head.provenance),
        "checksums": dict.fromkeys(shapes, "0" * 32),
    }
    part = path.with_name(f".{path.name}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        arrays = _create(part, card, shapes)
        for name, array in small.items():
            arrays[name][...] = array
        for star, row in enumerate(rows):
            flux = row.flux
            arrays["flux"][star] = np.rint(flux / FLUX_SCALE) if packed else flux
            arrays["continuum"][star] = row.continuum[nodes]
            if slopes:
                arrays["differential"][star], arrays["differential_scale"][star] = row.slopes
        card["checksums"] = {name: _checksum(array) for name, array in arrays.items()}
        for array in arrays.values():
            getattr(array, "flush", lambda: None)()
        del arrays
        with part.open("r+b") as stream:
            stream.write(_header(card, shapes)[0])
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _extent(wavelength: NDArray, rows: Sequence[Row]) -> tuple[float, NDArray]:
    """Return the largest flux, and the pixels that give every continuum well enough."""
    brightest, spacings = 0.0, [*CONTINUUM_SPACINGS, 0.0]
    nodes = continuum_nodes(wavelength, spacings.pop(0))
    for star, row in enumerate(rows):
        flux, continuum = row.flux, row.continuum
        for name, array in (("flux", flux), ("continuum", continuum)):
            if not (np.isfinite(array).all() and (array >= 0).all()):
                raise InputError(
                    f"{name} of star {star}",
                    expected="numbers of 0 or more",
                    found=f"{array[~(array >= 0)][:1].tolist() or 'infinity'}",
                )
        brightest = max(brightest, float(flux.max()))
        while spacings and not _good_enough(wavelength, continuum, nodes):
            nodes = continuum_nodes(wavelength, spacings.pop(0))
    return brightest, nodes


def _good_enough(wavelength: NDArray, continuum: NDArray, nodes: NDArray) -> bool:
    error = np.interp(wavelength, wavelength[nodes], continuum[nodes]) - continuum
    return bool((np.abs(error) <= CONTINUUM_PRECISION * continuum).all())


def _small_arrays(head: GridHead, nodes: NDArray, flag_names: Sequence[str]) -> dict[str, NDArray]:
    bits = {name: 1 << i for i, name in enumerate(flag_names)}
    names = [one.encode() for one in head.labels.star_id.tolist()]
    width = max([1, *map(len, names)])
    arrays = {
        "wavelength": np.asarray(head.wavelength, "<f8"),
        "labels": np.asarray(head.labels.values, "<f8"),
        "differential_steps": np.asarray(head.differential_steps, "<f8"),
        "continuum_nodes": np.asarray(nodes, "<u4"),
        "flags": np.array([sum(bits[f] for f in flags) for flags in head.flags], "<u4"),
        "star_id": np.frombuffer(b"".join(n.ljust(width, b"\0") for n in names), np.uint8).reshape(
            -1, width
        ),
    }
    return {name: array for name, array in arrays.items() if array.size}


def _header(
    card: Mapping[str, Any], shapes: Mapping[str, tuple[str, tuple[int, ...]]]
) -> tuple[bytes, dict[str, int]]:
    """Return the bytes before the arrays, and where each array begins."""
    order = sorted(shapes, key=lambda name: -np.dtype(DTYPES[shapes[name][0]]).itemsize)
    tree: dict[str, Any] = {
        "__metadata__": {
            "format": FORMAT,
            "version": str(FORMAT_VERSION),
            "card": json.dumps(card, sort_keys=True),
        }
    }
    starts, begin = {}, 0
    for name in order:
        code, shape = shapes[name]
        end = begin + math.prod(shape) * np.dtype(DTYPES[code]).itemsize
        tree[name] = {"dtype": code, "shape": list(shape), "data_offsets": [begin, end]}
        starts[name], begin = begin, end
    text = json.dumps(tree).encode()
    text += b" " * (-len(text) % 8)
    head = len(text).to_bytes(8, "little") + text
    return head, {name: len(head) + start for name, start in starts.items()} | {"": begin}


def _create(
    part: Path, card: Mapping[str, Any], shapes: Mapping[str, tuple[str, tuple[int, ...]]]
) -> dict[str, NDArray]:
    head, starts = _header(card, shapes)
    with part.open("wb") as stream:
        stream.write(head)
        stream.truncate(len(head) + starts[""])
    return {
        name: np.memmap(part, DTYPES[code], "r+", starts[name], shape)
        for name, (code, shape) in shapes.items()
    }


def _checksum(array: NDArray) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for block in _blocks(array):
        digest.update(block)
    return digest.hexdigest()


def _blocks(array: NDArray) -> Iterator[bytes]:
    flat = array.reshape(-1)
    for begin in range(0, flat.size, 1 << 22):
        yield flat[begin : begin + (1 << 22)].tobytes()


def read_grid(path: str | Path, *, verify: bool = False) -> Grid:
    """Open a grid; its spectra stay on disk until they are indexed.

    Parameters
    ----------
    path : str or Path
        A file written by ``spectrolabe synthesise`` or `write_grid`.
    verify : bool
        Read all of it and compare with the checksums; without it only the labels, the wavelengths
        and the length of the file are checked.

    Returns
    -------
    Grid

    Raises
    ------
    InputError
        If there is no such grid, it is unfinished, damaged, cut off or of another version.
    """
    path = Path(path)
    with blaming(path, "a whole grid"):
        return _read(path, verify=verify)


def _read(path: Path, *, verify: bool) -> Grid:
    card, arrays = _mapped(path)
    for name, array in arrays.items():
        small = array.nbytes <= CHECKED and name not in ("flux", "differential")
        if (verify or small) and card["checksums"].get(name) != _checksum(array):
            raise _damaged(path, f"other bytes of {name!r} than were written")
    try:
        return _grid_of(card, arrays)
    except KeyError as error:
        raise _damaged(path, f"no {error}") from error


def _grid_of(card: Mapping[str, Any], arrays: Mapping[str, NDArray]) -> Grid:
    wavelength = np.array(arrays["wavelength"])
    values = np.array(arrays["labels"])
    stars, names = len(values), tuple(card["differential_names"])
    ids = [bytes(one).rstrip(b"\0").decode() for one in arrays["star_id"]]
    bits = np.asarray(arrays["flags"])
    flags = tuple(
        tuple(name for i, name in enumerate(card["flag_names"]) if bit >> i & 1)
        for bit in bits.tolist()
    )
    slopes = None
    if names:
        scale = np.array(arrays["differential_scale"])
        slopes = Scaled(arrays["differential"], scale[:, :, None])
    return Grid(
        wavelength,
        Scaled(arrays["flux"], card["flux_scale"]),
        Interpolated(arrays["continuum"], np.array(arrays["continuum_nodes"], int), wavelength),
        Labels(tuple(card["labels"]), values, np.full(values.shape, np.nan), np.array(ids)),
        slopes,
        names,
        np.array(arrays["differential_steps"]) if names else np.empty((stars, 0)),
        flags,
        card["provenance"],
    )


def _mapped(path: Path) -> tuple[dict[str, Any], dict[str, NDArray]]:
    """Return the card of a file and its arrays, mapped into memory."""
    if not path.is_file():
        unfinished = path.with_name(path.name + ".parts").is_dir()
        raise InputError(
            path,
            expected="a grid",
            found="an unfinished one" if unfinished else "no such file",
            fix="Run the same `spectrolabe synthesise` again to continue."
            if unfinished
            else "Make one with `spectrolabe synthesise`.",
        )
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if not 2 <= length <= size - 8:
                raise ValueError("a header longer than the file")
            tree = json.loads(stream.read(length))
        about = tree.pop("__metadata__")
        kind, version = about["format"], about["version"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            path, expected="a grid written by Spectrolabe", found=f"another file ({error})"
        ) from error
    if (kind, version) != (FORMAT, str(FORMAT_VERSION)):
        raise InputError(
            path, expected=f"{FORMAT} version {FORMAT_VERSION}", found=f"{kind} version {version}"
        )
    ends = [one["data_offsets"][1] for one in tree.values()]
    if size != 8 + length + max(ends, default=0):
        raise _damaged(path, f"{size} bytes instead of {8 + length + max(ends, default=0)}")
    arrays: dict[str, NDArray] = {
        name: np.memmap(
            path,
            DTYPES[one["dtype"]],
            "r",
            8 + length + one["data_offsets"][0],
            tuple(one["shape"]),
        )
        for name, one in tree.items()
    }
    card: dict[str, Any] = json.loads(about["card"])
    return card, arrays


def _damaged(path: Path, found: str) -> InputError:
    return InputError(
        path,
        expected="a whole grid",
        found=f"a damaged one: {found}",
        fix="Copy it again, or delete it and run the same `spectrolabe synthesise` again.",
    )
