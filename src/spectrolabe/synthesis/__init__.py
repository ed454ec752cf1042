"""Ab initio spectra: model atmospheres, opacity and transfer in LTE, and grids of the spectra.

The public names below are loaded when they are first used: the compiled parts take a second.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

# name: module, in reading order
_PUBLIC = {
    # teff, logg, fe_h, v_micro and [X/Fe]
    "Star": "spectrum",
    # evenly spaced vacuum wavelengths
    "wavelength_grid": "spectrum",
    # a star and wavelengths -> its spectrum and differential spectra
    "synthesise": "spectrum",
    # teff, logg, fe_h -> the layers of a model atmosphere
    "interpolate_atmosphere": "atmosphere",
    # the usual microturbulence of a star
    "v_micro_relation": "sampling",
    # spectra of many stars with their labels
    "Grid": "grid",
    # a file -> a grid, its spectra left on disk until they are used
    "read_grid": "grid",
    # a grid -> a file
    "write_grid": "grid",
    # a configuration or a table of stars -> a grid, in parallel, restartable
    "synthesise_grid": "run",
    # grids made with other codes
    "import_turbospectrum": "imports",
    "import_korg": "imports",
    "import_payne_zero": "imports",
    "import_phoenix": "imports",
}

__all__ = list(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
