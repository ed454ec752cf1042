"""Where the spectra of the stars of a synthetic sky come from."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

import spectrolabe
from spectrolabe.errors import InputError
from spectrolabe.labels import ELEMENTS
from spectrolabe.sky.instruments import instrument

if TYPE_CHECKING:
    from spectrolabe.sky.library import IntrinsicSpectra

__all__ = ["LIBRARY", "Synthesised", "find_library", "intrinsic_spectra"]

LIBRARY = "library"

LINES = ((3700.0, 9800.0), (15100.0, 17000.0))  # vacuum Å for which there are lists of lines
STEP = 0.05  # Å: R of half a million per pixel in the H band, 80 000 in the ultraviolet
FASTEST = 1000.0  # km/s by which a spectrum may be shifted
C = 299792.458  # km/s
PARAMETERS = ("teff", "logg", "fe_h", "v_micro")


class Synthesised:
    """Spectra computed star by star, a second or two each.

    Parameters
    ----------
    surveys : iterable of str
        For which the spectra shall do: they decide the wavelengths.
    step : float, optional
        Angstrom between wavelengths.
    """

    resolution = np.inf

    def __init__(self, surveys: Iterable[str], step: float = STEP) -> None:
        from spectrolabe.synthesis.spectrum import wavelength_grid

        spans = [instrument(survey).span for survey in surveys]
        margin = FASTEST / C
        parts = []
        for low, high in LINES:
            inside = [(a, b) for a, b in spans if a < high and b > low]
            if inside:
                first = max(low, min(a for a, _ in inside) * (1 - margin))
                last = min(high, max(b for _, b in inside) * (1 + margin))
                parts.append(wavelength_grid(first, last, step))
        self.wavelength: NDArray = np.concatenate(parts)

    def __call__(self, stars: Table) -> tuple[NDArray, NDArray]:
        """Return normalised flux and continuum in erg/s/cm2/Å of N stars, each (N, M) float32."""
        from spectrolabe.synthesis.spectrum import Star, synthesise

        shape = (len(stars), self.wavelength.size)
        flux, continuum = np.empty(shape, np.float32), np.empty(shape, np.float32)
        for i, row in enumerate(stars):
            known = [x for x in ELEMENTS if f"{x.lower()}_fe" in stars.colnames]
            ratios = {x: float(row[f"{x.lower()}_fe"]) for x in known}
            teff, logg, fe_h, v_micro = (float(row[name]) for name in PARAMETERS)
            star = Star(teff, logg, fe_h, v_micro, ratios)
            found = synthesise(star, self.wavelength)
            flux[i], continuum[i] = found.flux, found.continuum
        return flux, continuum


def find_library(name: str | Path) -> Path:
    """Return the folder of a library: ``library`` is the one that travels with the package.

    Raises
    ------
    InputError
        If there is none.
    """
    if str(name) != LIBRARY:
        return Path(name)
    package = Path(spectrolabe.__file__).parent
    # inside an installed package, or beside src/ of a clone
    for weights in (package.parents[1] / "weights", package / "weights"):
        if (weights / "sky").is_dir():
            return weights / "sky"
    raise InputError(
        "spectra",
        expected=f"a library in {package.parents[1] / 'weights' / 'sky'}",
        found="none",
        fix="Name the folder of one, or synthesise each star: spectra='' (a second or two each).",
    )


def intrinsic_spectra(library: str, surveys: Iterable[str]) -> IntrinsicSpectra:
    """Return the spectra of a library, or those of the synthesis itself.

    Parameters
    ----------
    library : str
        See `find_library`; empty to synthesise every star.
    surveys : iterable of str
        That will observe the stars.

    Raises
    ------
    InputError
        If there is no such library.
    """
    if library:
        from spectrolabe.sky.library import load_library

        return load_library(find_library(library))
    return Synthesised(surveys)
