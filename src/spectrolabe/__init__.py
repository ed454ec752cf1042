"""Spectrolabe: one homogeneous catalogue of stellar labels from the spectra of any survey.

The public names below are the map of the package, in the order in which data flow. Each is loaded
when it is first used, so that ``import spectrolabe as sl`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

# name: module, in reading order
_PUBLIC = {
    # what a user can do wrong, with what was expected, found, and how to mend it
    "InputError": "errors",
    # the registry of label names, units and ranges
    "LABELS": "labels",
    # values of labels with uncertainties, N stars by L names
    "Labels": "labels",
    # one star seen once through one instrument: wavelength, flux, ivar, resolution
    "Spectrum": "spectra",
    # rest, barycentric or observed
    "Frame": "spectra",
    # a figure of spectra with their bad pixels
    "plot_spectra": "spectra.plot",
    # every survey by name
    "SURVEYS": "surveys",
    # a survey's file -> spectra, recognised by content
    "read": "surveys",
    # a survey's label catalogue -> labels in registry names and units
    "read_labels": "surveys",
    # files and label catalogue -> a store on disk
    "ingest": "surveys.ingest",
    # read a store: spectra and labels through a memory map
    "open_store": "spectra.store",
    # write a store, one spectrum after the other
    "StoreWriter": "spectra.store",
    # a strict TOML file with overrides -> what `train` needs
    "load_config": "config",
    # a configuration -> a trained, recalibrated model in a folder
    "train": "training.trainer",
    # a model's folder -> the model, ready to estimate labels of spectra
    "load": "models.checkpoint",
    # a model and files, folders or stores -> one catalogue
    "predict": "inference.predict",
    # a catalogue's file -> a table with units, descriptions and provenance
    "read_catalogue": "catalogue",
    # a model of the ages of red giants, which it tells from labels
    "load_ages": "models.age_files",
    # a table of labels -> the same with ages of its giants
    "add_ages": "inference.ages",
}

__all__ = list(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        value = getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    elif name == "__version__":
        from importlib.metadata import version

        value = version("spectrolabe")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
