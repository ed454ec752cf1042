"""A catalogue of fits of made-up stars with their spectra, and a server of it."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import numpy as np
import pytest
from astropy.table import Table

from spectrolabe.catalogue import ResultFlag, read_catalogue, write_catalogue
from spectrolabe.explorer import Explored, Explorer
from spectrolabe.inference.fit_run import fit_files
from spectrolabe.models.emulator import load_emulator
from tests.inference.fitted import LABELS, saved_emulator, write_stars

NAME = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="session")
def fits(tmp_path_factory):
    """Files of three stars, their catalogue, and the models that the fit has left."""
    folder = tmp_path_factory.mktemp("explorer")
    model = saved_emulator(folder / "tiny")
    values = write_stars(folder / "spectra" / "deep", model)
    truth = Table(values, names=load_emulator(model).names)
    truth["star_id"] = [f"star s{i}" for i in range(len(truth))]
    truth.write(folder / "truth.csv")
    path = folder / "cat.parquet"
    fit_files(
        model, [folder / "spectra"], path, labels=LABELS, start=folder / "truth.csv",
        spectra=folder / "models", command="spectrolabe fit tiny spectra",
    )  # fmt: skip
    return SimpleNamespace(folder=folder, path=path, model=str(model), spectra=folder / "spectra")


@pytest.fixture(scope="session")
def explored(fits):
    """The catalogue with its spectra at hand."""
    return Explored(fits.path, [fits.spectra], emulators=fits.model)


@pytest.fixture(scope="session")
def strange(fits):
    """The same with a star whose name is markup, a flag, and a file that is not there."""
    table = read_catalogue(fits.path)
    provenance = table.meta.pop("provenance")
    table["star_id"] = np.array([NAME, "b\"'`;\\ ✳", str(table["star_id"][2])])
    table["file"] = np.array([str(table["file"][0]), "../../gone.fits", str(table["file"][2])])
    table["result_flags"][1] |= int(ResultFlag.LOW_SNR)
    path = fits.folder / "<b>strange.parquet"
    write_catalogue(table, path, provenance)
    return path


@pytest.fixture(scope="session")
def server(fits, strange):
    """A server of that."""
    with Explorer(Explored(strange, [fits.spectra], emulators=fits.model)) as one:
        thread = threading.Thread(target=one.serve_forever, daemon=True)
        thread.start()
        yield one
        one.shutdown()
        thread.join()
