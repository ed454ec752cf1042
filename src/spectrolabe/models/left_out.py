"""Pixels that a model which only knows simulated spectra should not read in real ones.

Simulated spectra are wrong below 4100 Å, where lines crowd; they have no interstellar sodium; and
what is left of the bands of the Earth's atmosphere differs from site to site. A model that has
learnt from real spectra of a survey knows how they look there, and reads everything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from spectrolabe.errors import unknown_name
from spectrolabe.models.pixels import rest_wavelength
from spectrolabe.spectra import Spectrum
from spectrolabe.surveys.telluric import resolution_at, telluric_mask
from spectrolabe.synthesis.limits import BLUE, BLUE_LOW, LOW_RESOLUTION

__all__ = ["LEFT_OUT", "left_out"]

SODIUM = (5885.0, 5903.0)  # vacuum Angstrom: both lines with room for clouds on the way


def _blue(spectrum: Spectrum) -> NDArray:
    sharp = resolution_at(spectrum, BLUE_LOW) >= LOW_RESOLUTION
    return np.asarray(rest_wavelength(spectrum) < (BLUE if sharp else BLUE_LOW))


def _sodium(spectrum: Spectrum) -> NDArray:
    rest = rest_wavelength(spectrum)
    return np.asarray((rest > SODIUM[0]) & (rest < SODIUM[1]))


LEFT_OUT: Mapping[str, Callable[[Spectrum], NDArray]] = {
    "blue": _blue,
    "sodium": _sodium,
    "telluric": telluric_mask,
}
"""Pixels by name, each a function of a spectrum to an array of shape (M,), bool. Cores of Balmer
lines are not among them: although they form above a model atmosphere in LTE, the temperature is
read from them, and without them it is twice as uncertain (docs/results/unified_real.md)."""


def left_out(spectrum: Spectrum, names: Sequence[str]) -> NDArray:
    """Return the pixels that have any of these names, shape (M,), bool.

    Raises
    ------
    InputError
        If there is no such name in `LEFT_OUT`.
    """
    found = np.zeros(len(spectrum), dtype=bool)
    for name in names:
        if name not in LEFT_OUT:
            raise unknown_name("left_out", name, LEFT_OUT, kind="set of pixels")
        found |= LEFT_OUT[name](spectrum)
    return found
