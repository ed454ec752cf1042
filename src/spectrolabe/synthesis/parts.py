"""The finished stars of a grid that is not complete, one file a star."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from spectrolabe.errors import InputError
from spectrolabe.spectra.shards import write_atomically
from spectrolabe.synthesis.packing import pack_slopes
from spectrolabe.synthesis.plan import check_same

__all__ = ["Part", "begin_parts"]


def begin_parts(folder: Path, identity: Mapping[str, Any]) -> None:
    """Make the folder of finished stars, or find that it is the one of the same grid.

    Raises
    ------
    InputError
        If the folder belongs to another grid, or holds something else.
    """
    plan = folder / "plan.json"
    if plan.exists():
        check_same(folder, json.loads(plan.read_text(encoding="utf-8")), identity)
        return
    if folder.exists() and any(folder.iterdir()):
        raise InputError(
            folder,
            expected="the finished stars of a grid",
            found="other files",
            fix="Give another --output.",
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(plan, json.dumps(identity, indent=1).encode())


@dataclass(frozen=True)
class Part:
    """The file of a finished star; its arrays are read when asked for."""

    folder: Path
    row: int

    @property
    def path(self) -> Path:
        """Where it is."""
        return self.folder / f"{self.row:07d}.safetensors"

    def get(self, *names: str) -> list[NDArray]:
        """Return some of its arrays."""
        with safe_open(self.path, "np") as file:
            return [file.get_tensor(name) for name in names]

    def write(self, found: Any) -> None:
        """Keep the result of the engine."""
        packed, scale = pack_slopes(np.asarray(found.differential))
        arrays = {
            "flux": np.asarray(found.flux, np.float32),
            "continuum": np.asarray(found.continuum, np.float32),
            "differential": packed,
            "differential_scale": scale,
            "differential_steps": np.asarray(found.differential_steps, np.float64),
        }
        arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        content = save(arrays, {"flags": json.dumps(list(found.flags))})
        write_atomically(self.path, content)

    def whole(self, pixels: int) -> bool:
        """Tell whether the star is finished; what is damaged is computed again."""
        if not self.path.exists():
            return False
        try:
            with safe_open(self.path, "np") as file:
                return file.get_slice("flux").get_shape() == [pixels]
        except (SafetensorError, OSError):
            return False

    @property
    def flux(self) -> NDArray:
        """Normalised, shape (M,)."""
        return self.get("flux")[0]

    @property
    def continuum(self) -> NDArray:
        """erg/s/cm2/Angstrom, shape (M,)."""
        return self.get("continuum")[0]

    @property
    def slopes(self) -> tuple[NDArray, NDArray]:
        """Packed differential spectra and their scales."""
        packed, scale = self.get("differential", "differential_scale")
        return packed, scale

    @property
    def flags(self) -> list[str]:
        """What to know about the star."""
        with safe_open(self.path, "np") as file:
            return list(json.loads(file.metadata()["flags"]))
