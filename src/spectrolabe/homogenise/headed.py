"""Files of what was learnt: safetensors whose header, JSON, says from what."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from spectrolabe.errors import InputError
from spectrolabe.guard import blaming
from spectrolabe.labels import LABELS

__all__ = ["read_headed"]


def read_headed(
    path: str | Path, what: str, version: int
) -> tuple[dict[str, Any], dict[str, NDArray]]:
    """Return the header and the tensors of a calibration or correction.

    Parameters
    ----------
    path : str or Path
    what : str
        ``calibration`` or ``correction``; the header is under ``spectrolabe_`` and that.
    version : int
        Of the format.

    Raises
    ------
    InputError
        If there is no such file, it is something else, of another version, or of unknown labels.
    """
    if not Path(path).is_file():
        raise InputError(path, expected=f"the file of a {what}", found="no such file")
    expected = f"a {what} written by Spectrolabe"
    try:
        with safe_open(path, framework="numpy") as file:
            header = (file.metadata() or {}).get(f"spectrolabe_{what}")
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(path, expected=expected, found=str(error)) from error
    if header is None:
        raise InputError(path, expected=expected, found="another safetensors file")
    with blaming(path, expected):
        found = dict(json.loads(header))
    if found.get("format") != version:
        raise InputError(
            path,
            expected=f"format {version} of {what}s",
            found=f"{found.get('format')}",
            fix="It was written by another version of Spectrolabe; fit it again.",
        )
    with blaming(path, expected):
        names = dict(found["labels"])
    for name in names:
        if name not in LABELS:
            raise InputError(path, expected="labels of the registry", found=name)
    return found, tensors
