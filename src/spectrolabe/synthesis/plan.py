"""What a grid shall hold: its stars and pixels, and what makes it the same grid as another."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from spectrolabe.config import GridConfig, SpectraConfig
from spectrolabe.errors import InputError, unknown_name
from spectrolabe.labels import ELEMENTS, Labels
from spectrolabe.synthesis.given import read_stars

if TYPE_CHECKING:
    from spectrolabe.synthesis.spectrum import Star

__all__ = ["SYMBOLS", "Engine", "GridPlan", "check_same", "identity_of", "plan_grid"]

SYMBOLS = {f"{symbol.lower()}_fe": symbol for symbol in ELEMENTS}
"""Element of each [X/Fe]."""

Engine = Callable[..., Any]


@dataclass(frozen=True, eq=False)
class GridPlan:
    """What is to be computed.

    Parameters
    ----------
    labels : Labels
        N stars.
    wavelength : ndarray, shape (M,)
        Vacuum Angstrom.
    atmospheres, lines : str
    differential : tuple of str
    config : mapping
        What decided the stars, for the provenance.
    notes : tuple of str
        What the user should know about the stars.
    """

    labels: Labels
    wavelength: NDArray
    atmospheres: str
    lines: str
    differential: tuple[str, ...]
    config: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def star(self, row: int) -> Star:
        """Return the star of a row, ready for the engine."""
        from spectrolabe.synthesis.spectrum import Star

        values = dict(zip(self.labels.names, self.labels.values[row].tolist(), strict=True))
        missing = [name for name, value in values.items() if not np.isfinite(value)]
        if missing:
            raise InputError(f"label {missing[0]}", expected="a number", found="none (NaN)")
        x_fe = {SYMBOLS[name]: values.pop(name) for name in list(values) if name in SYMBOLS}
        return Star(**values, x_fe=x_fe)


def plan_grid(
    source: GridConfig | str | Path | Labels, spectra: SpectraConfig | None = None
) -> GridPlan:
    """Return what a configuration or a table of stars asks for.

    Parameters
    ----------
    source : GridConfig, path or Labels
        Stars to draw, a table of stars (see `read_stars`), or stars.
    spectra : SpectraConfig, optional
        Which spectra; that of the configuration if not given.

    Raises
    ------
    InputError
        If the table cannot be used, or the name of a label or of the atmospheres is unknown.
    """
    notes: tuple[str, ...] = ()
    config: dict[str, Any] = {}
    if isinstance(source, GridConfig):
        from spectrolabe.synthesis.sampling import sample_labels

        labels, spectra = sample_labels(source.stars), spectra or source.spectra
        config["stars"] = source.stars.model_dump(mode="json")
    elif isinstance(source, Labels):
        labels = source
    else:
        labels, notes = read_stars(source)
        config["stars"] = {"table": Path(source).name}
    spectra = spectra or SpectraConfig()
    config["spectra"] = spectra.model_dump(mode="json")
    return GridPlan(
        labels,
        _wavelength(spectra),
        spectra.atmospheres,
        spectra.lines,
        _differential(spectra.differential),
        config,
        notes,
    )


def _wavelength(spectra: SpectraConfig) -> NDArray:
    from spectrolabe.synthesis.spectrum import wavelength_grid

    return np.concatenate(
        [wavelength_grid(*ends, spectra.step, spectra.spacing) for ends in spectra.ranges]
    )


def _differential(names: Sequence[str]) -> tuple[str, ...]:
    from spectrolabe.synthesis.differential import DIFFERENTIAL, STEPS

    if "all" in names:
        return DIFFERENTIAL
    for name in names:
        if name not in STEPS:
            raise unknown_name("spectra.differential", name, [*STEPS, "all"], kind="label")
    return tuple(dict.fromkeys(names))


def identity_of(plan: GridPlan, engine: Engine | None) -> dict[str, Any]:
    """Return what decides every byte of a grid."""
    from spectrolabe.synthesis.tables import CHECKSUMS, FOLDER

    name = f"{engine.__module__}.{engine.__qualname__}" if engine else "spectrolabe.synthesis"
    labels = json.dumps([plan.labels.names, plan.labels.star_id.tolist()]).encode()
    identity: dict[str, Any] = {
        "engine": name,
        "version": version("spectrolabe"),
        "atmospheres": plan.atmospheres,
        "lines": plan.lines,
        "tables": json.loads((FOLDER / CHECKSUMS).read_text(encoding="utf-8")),
        "differential": list(plan.differential),
        "wavelength": _digest(plan.wavelength.tobytes()),
        "labels": _digest(labels + plan.labels.values.tobytes()),
        "config": dict(plan.config),
    }
    plain: dict[str, Any] = json.loads(json.dumps(identity))
    return plain


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def check_same(where: Path, found: Mapping[str, Any], identity: Mapping[str, Any]) -> None:
    """Raise an error if a grid that was found is not the one that is asked for."""
    other = [key for key, value in identity.items() if found.get(key) != value]
    if other:
        raise InputError(
            where,
            expected="a grid begun with the same configuration, stars and version",
            found=f"one with another {', '.join(other)}",
            fix="Give another --output, or delete it to start again.",
        )
