"""What model atmospheres in LTE are known not to describe."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["BLUE", "BLUE_LOW", "LOW_RESOLUTION", "UNMODELLED", "Core"]

BLUE, BLUE_LOW, LOW_RESOLUTION = 4000.0, 4100.0, 5000.0
"""Vacuum Angstrom, at rest: pixels below `BLUE`, and at lower R than ``LOW_RESOLUTION`` below
``BLUE_LOW``, are left out. There lines crowd, the continuum is nowhere seen, and models of the Sun
in LTE absorb more than the Sun. At high R lines that are wrong show one by one, and are clipped."""


class Core(NamedTuple):
    """The core of a strong line, which forms above what a model atmosphere in LTE describes.

    Parameters
    ----------
    centre : float
        Vacuum Angstrom, at rest.
    half : float
        Half of the width that is left out, Angstrom; the FWHM of the instrument adds to it in
        quadrature. The wings stay.
    name : str
    reason : str
    """

    centre: float
    half: float
    name: str
    reason: str


_BALMER = "NLTE and chromosphere: deeper than in LTE (Amarsi et al. 2018, A&A 615, A139)"
_SODIUM = "NLTE (Lind et al. 2011, A&A 528, A103), interstellar, and sky"
UNMODELLED: tuple[Core, ...] = (
    Core(4102.9, 1.0, "Hδ", _BALMER),
    Core(4341.7, 1.0, "Hγ", _BALMER),
    Core(4862.7, 1.2, "Hβ", _BALMER),
    Core(5891.6, 1.5, "Na I D2", _SODIUM),
    Core(5897.6, 1.5, "Na I D1", _SODIUM),
    Core(6564.6, 1.5, "Hα", _BALMER),
    Core(
        7775.8,
        3.0,
        "O I triplet",
        "NLTE: LTE finds up to 0.6 dex too much (Amarsi et al. 2019, A&A 630, A104)",
    ),
)
"""What is left out of all stars, beside the `BLUE` end. docs/fit.md has what each changes."""
