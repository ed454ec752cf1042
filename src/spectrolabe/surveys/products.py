"""Spectra that a model made, in files of the survey: written so that nobody takes them for data."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from spectrolabe.spectra import Spectrum
from spectrolabe.surveys.files import SurveyFile

__all__ = ["CARD", "NO_ERROR", "copied", "errors_of", "product_of", "table_of"]

CARD = "SPLMODEL"  # of the primary header: the model whose product all spectra of a file are
NO_ERROR = 1e10  # in place of the error of pixels of which nothing is known


def product_of(file: SurveyFile) -> str:
    """Return the model whose product the spectra of a file are; empty for measured ones."""
    return str(file.header.get(CARD, "")).strip()


def copied(file: SurveyFile, model: str) -> fits.HDUList:
    """Return a copy of a file that may be changed, whose header says that a model made it."""
    assert file.hdus is not None  # of FITS files alone
    hdus = fits.HDUList([hdu.copy() for hdu in file.hdus])
    marked(hdus[0].header, model)
    return hdus


def marked(header: fits.Header, model: str) -> None:
    """Say in a header that a model made the spectra."""
    header[CARD] = (model, "MODEL PRODUCT, not a measurement")
    header.add_history(f"Flux and errors are a product of the Spectrolabe model {model}.")
    header.add_history(
        "They are correlated from pixel to pixel. Do not fit models to them by chi2."
    )


def errors_of(spectrum: Spectrum) -> NDArray:
    """Return the standard deviation of each pixel; enormous where nothing is known."""
    ivar = np.asarray(spectrum.ivar, dtype=float)
    return np.where(ivar > 0, 1.0 / np.sqrt(np.where(ivar > 0, ivar, 1.0)), NO_ERROR)


def table_of(spectrum: Spectrum, model: str) -> fits.HDUList:
    """Return a spectrum as a table that `spectrolabe.surveys.generic` reads.

    For surveys whose own files cannot be written.
    """
    size = len(spectrum)
    columns = [
        fits.Column("wavelength", "D", "Angstrom", array=spectrum.wavelength),
        fits.Column("flux", "E", array=spectrum.flux),
        fits.Column("ivar", "E", array=spectrum.ivar),
        fits.Column("resolution", "E", array=np.broadcast_to(spectrum.resolution, size)),
    ]
    table = fits.BinTableHDU.from_columns(columns)
    cards: Sequence[tuple[str, object]] = (
        ("MEDIUM", "vacuum"),
        ("FRAME", str(spectrum.frame)),
        ("RV", spectrum.rv if np.isfinite(spectrum.rv) else "unknown"),
        ("R", float(np.median(spectrum.resolution))),
        ("STAR_ID", spectrum.star_id),
    )
    table.header.extend(cards)
    primary = fits.PrimaryHDU()
    marked(primary.header, model)
    return fits.HDUList([primary, table])
