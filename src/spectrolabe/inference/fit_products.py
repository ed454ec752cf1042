"""Model spectra that ``spectrolabe fit --spectra`` has left beside a catalogue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from astropy.io import fits

from spectrolabe.errors import InputError
from spectrolabe.guard import blaming
from spectrolabe.inference.fit_files import plain_name
from spectrolabe.inference.row_models import Drawn, Modelled, Models, noise, with_lines
from spectrolabe.spectra import Spectrum
from spectrolabe.spectra.wavelength import SPEED_OF_LIGHT
from spectrolabe.surveys.files import opened
from spectrolabe.surveys.finding import Files

__all__ = ["Products", "models_of_row", "read_product"]

COLUMNS = {"wavelength", "flux", "ivar", "model", "mask"}


class Products:
    """Files of fits among others.

    Parameters
    ----------
    files : Files
    """

    def __init__(self, files: Files) -> None:
        self.files = files

    def of_row(self, star_id: str, spectrum_id: str, survey: str, file: str) -> Modelled | None:
        """Return the models of a row as the fit left them; None where there is no such file.

        Parameters
        ----------
        star_id, spectrum_id, survey, file : str
            Columns of the row.
        """
        start, wanted = plain_name(star_id), set(_ascii(spectrum_id).split(";"))
        if not start:
            return None
        named = (n for n in self.files.by_name if n.startswith(start) and n.endswith(".fits"))
        for path in (Path(path) for name in sorted(named) for path in self.files.by_name[name]):
            try:
                spectra = read_product(path)
            except InputError:
                continue  # some other file of the star
            if wanted == set(spectra):
                return Modelled(list(spectra.values()), f"Model: what the fit left in {path.name}.")
        return None


def models_of_row(
    products: Products,
    models: Models,
    row: Sequence[str],
    spectra: Sequence[Spectrum],
    values: Mapping[str, float],
) -> Modelled:
    """Return the models of a row: those that a fit has left if there are any, else computed ones.

    Parameters
    ----------
    products : Products
    models : Models
    row : sequence of str
        ``star_id``, ``spectrum_id``, ``survey`` and ``file``.
    spectra : sequence of Spectrum
        Of the row; empty if they are not at hand.
    values : Mapping of str to float
        Labels of computed models.
    """
    left = products.of_row(*row)
    if left is None:
        return models.of_star(spectra, values)
    if not spectra:
        return left
    return with_lines(left, models.of_star(spectra, values))  # a fit's file says nothing of lines


def read_product(path: str | Path) -> dict[str, Drawn]:
    """Return the spectra of a file of ``fit --spectra``, by their names.

    Raises
    ------
    InputError
        If it is another file.
    """
    with opened(path) as file, blaming(path, "spectra with models of a fit"):
        found = [
            hdu
            for hdu in file.hdus or ()
            if isinstance(hdu, fits.BinTableHDU)
            and set(hdu.columns.names) >= COLUMNS
            and "SPECID" in hdu.header
        ]
        if not found:
            raise InputError(path, expected="spectra with models of a fit", found="none")
        return {str(hdu.header["SPECID"]): _drawn(hdu) for hdu in found}


def _drawn(hdu: fits.BinTableHDU) -> Drawn:
    columns = {name: np.asarray(hdu.data[name]) for name in COLUMNS}
    shift = hdu.header.get("SHIFT")
    velocity = float(shift) if isinstance(shift, int | float) else 0.0
    sigma = noise(columns["ivar"])
    return Drawn(
        f"{hdu.header.get('SURVEY', '')} {hdu.header['SPECID']}".strip(),
        columns["wavelength"] / (1.0 + velocity / SPEED_OF_LIGHT),
        columns["flux"],
        sigma,
        columns["model"],
        sigma,
        ~columns["mask"].astype(bool),
    )


def _ascii(text: str) -> str:
    return text.encode("ascii", "backslashreplace").decode()
