"""Writers of small native survey files, one module per survey, with what a reader must find.

They are written from the surveys' own documentation and share no constant with the readers.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Expected:
    """One spectrum as a reader must return it: vacuum Å, bad pixels with ivar 0."""

    wavelength: NDArray
    flux: NDArray
    ivar: NDArray
    resolution: float  # typical R; the reader's median must agree within 10 per cent
    frame: str
    rv: float = np.nan
    star_id: str = ""  # compared where given


@dataclass(frozen=True)
class Case:
    """One file, the survey that must recognise it, and its spectra in order."""

    path: Path
    survey: str
    expected: list[Expected]
    wavelength_tolerance: float = 2e-3  # Å


@dataclass(frozen=True)
class LabelCase:
    """One label catalogue: registry values per row (NaN = unknown) and which rows pass the cut."""

    path: Path
    survey: str
    labels: dict[str, list[float]]
    sigma: dict[str, list[float]]
    good: list[bool]
    keys: dict[str, list[str]] = field(default_factory=dict)


SpectrumWriter = Callable[[Path, np.random.Generator], Case]
LabelWriter = Callable[[Path, np.random.Generator], LabelCase]


def _collect(attribute: str) -> dict[str, Callable]:
    found: dict[str, Callable] = {}
    for module in pkgutil.iter_modules(__path__):
        loaded = importlib.import_module(f"{__name__}.{module.name}")
        for name, writer in getattr(loaded, attribute, {}).items():
            found[f"{module.name}-{name}"] = writer
    return found


def spectrum_writers() -> dict[str, SpectrumWriter]:
    """All ``SPECTRA`` of the modules here, by ``module-name``."""
    return _collect("SPECTRA")


def label_writers() -> dict[str, LabelWriter]:
    """All ``LABELS`` of the modules here, by ``module-name``."""
    return _collect("LABELS")
