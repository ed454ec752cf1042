"""The packed numbers that the synthesis rests on; README.md here gives their sources."""

from __future__ import annotations

import functools
import hashlib
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from spectrolabe.errors import InputError

__all__ = ["load_table", "save_table"]

FOLDER = Path(__file__).parent
CHECKSUMS = "checksums.json"
FIX = "Install spectrolabe again, or run `python scripts/tables` in a clone."


@functools.cache
def load_table(name: str, folder: Path = FOLDER) -> Mapping[str, NDArray]:
    """Return the arrays of one packed table, read-only.

    Parameters
    ----------
    name : str
        For example ``lines``; the file is ``lines.npz``.
    folder : Path
        Where the tables are.

    Raises
    ------
    InputError
        If the file or the list of checksums is missing, or it is not the one that was packed.
    """
    path = folder / f"{name}.npz"
    if not path.exists():
        raise InputError(path, expected="a packed table", found="no such file", fix=FIX)
    wanted = _checksums(folder).get(name)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != wanted:
        raise InputError(
            path, expected=f"SHA-256 {wanted}", found=f"{found}: the file is damaged", fix=FIX
        )
    with np.load(path, allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files}
    for array in arrays.values():
        array.flags.writeable = False
    return MappingProxyType(arrays)


def _checksums(folder: Path) -> dict[str, str]:
    path = folder / CHECKSUMS
    expected = "the SHA-256 of every packed table, in JSON"
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(path, expected=expected, found="no such file", fix=FIX) from None
    except ValueError as error:
        raise InputError(path, expected=expected, found=f"{error}", fix=FIX) from error
    if not isinstance(known, dict):
        raise InputError(path, expected=expected, found=f"{type(known).__name__}", fix=FIX)
    return known


def save_table(name: str, arrays: Mapping[str, NDArray], folder: Path = FOLDER) -> Path:
    """Write one packed table and its checksum; the same numbers give the same bytes."""
    path = folder / f"{name}.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for key in sorted(arrays):
            entry = zipfile.ZipInfo(f"{key}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(entry, "w") as file:
                np.lib.format.write_array(file, np.asarray(arrays[key]), allow_pickle=False)
    sums = folder / CHECKSUMS
    known = _checksums(folder) if sums.exists() else {}
    known[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    sums.write_text(json.dumps(dict(sorted(known.items())), indent=2) + "\n")
    return path
