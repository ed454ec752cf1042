"""Differential spectra: what each label does to the spectrum.

Opacity is additive. An element that gives no electrons and forms no molecules changes nothing but
its own lines, so that its differential spectrum costs those lines and one more solution of the
transfer where they are. The others, and the labels of the atmosphere, need a new equation of state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from spectrolabe.errors import InputError, unknown_name
from spectrolabe.labels import ELEMENTS
from spectrolabe.synthesis.opacity import add_lines

if TYPE_CHECKING:
    from spectrolabe.synthesis.spectrum import Layers, Piece, Star

__all__ = ["DIFFERENTIAL", "STEPS", "Perturbation", "differential_flux", "perturbations"]

STRUCTURAL = ("C", "N", "O", "Na", "Mg", "Al", "Si", "Ca")  # donors of electrons, molecules
OWN_LINES = 1e-5  # of the continuum opacity: wings to follow of an element's own lines
STEPS: dict[str, float] = {"teff": 50.0, "logg": 0.1, "fe_h": 0.1, "v_micro": 0.2} | {
    f"{symbol.lower()}_fe": 0.1 for symbol in ELEMENTS
}
"""Step of the forward difference of each label, in its unit."""

DIFFERENTIAL: tuple[str, ...] = tuple(name for name in STEPS if name != "p_fe")
"""The 34 labels with lines in the list: four of the atmosphere, thirty elements."""


@dataclass(frozen=True, eq=False)
class Perturbation:
    """A star with one label changed: new layers, or the same layers and more of one element."""

    name: str
    step: float
    layers: Layers | None
    element: str = ""


def perturbations(
    star: Star, layers: Layers, atmospheres: str, names: Sequence[str]
) -> list[Perturbation]:
    """Return the changed stars whose spectra give the differential spectra.

    A step is taken downwards where the atmospheres end above.

    Raises
    ------
    InputError
        If a name is no label of a differential spectrum.
    """
    symbols = {f"{symbol.lower()}_fe": symbol for symbol in ELEMENTS}
    changed = []
    for name in names:
        if name not in STEPS:
            raise unknown_name("differential", name, STEPS, kind="label of a differential spectrum")
        symbol, step = symbols.get(name, ""), STEPS[name]
        if name == "v_micro":
            changed.append(Perturbation(name, step, replace(layers, v_micro=star.v_micro + step)))
        elif symbol and symbol not in STRUCTURAL:
            changed.append(Perturbation(name, step, None, symbol))
        else:
            changed.append(_structural(star, atmospheres, name, symbol, step))
    return changed


def _structural(star: Star, atmospheres: str, name: str, symbol: str, step: float) -> Perturbation:
    from spectrolabe.synthesis.spectrum import Layers

    def moved(by: float) -> Layers:
        if symbol:
            more = {**star.x_fe, symbol: star.x_fe.get(symbol, 0.0) + by}
            return Layers.of(replace(star, x_fe=more), atmospheres)
        return Layers.of(replace(star, **{name: getattr(star, name) + by}), atmospheres)

    try:
        return Perturbation(name, step, moved(step))
    except InputError:
        return Perturbation(name, -step, moved(-step))


def differential_flux(piece: Piece, changed: Sequence[Perturbation]) -> NDArray:
    """Return the differential spectra of one piece of spectrum.

    Returns
    -------
    ndarray, shape (D, M), float32
        Change of the normalised flux per unit of each label.
    """
    slopes = np.zeros((len(changed), piece.wavelength.size), np.float32)
    for row, change in zip(slopes, changed, strict=True):
        if change.layers is None:
            row[:] = _own_lines(piece, change.element, change.step)
        else:
            other = type(piece).of(change.layers, piece.wavelength, piece.lines)
            row[:] = (other.normalised - piece.normalised) / change.step
    return slopes


def _own_lines(piece: Piece, symbol: str, step: float) -> NDArray:
    """The slope of an element that changes nothing but its own lines."""
    chosen = piece.lines.of_element(symbol)
    slope = np.zeros(piece.wavelength.size)
    if chosen.size == 0:
        return slope
    opacity = piece.opacity.copy()
    touched = add_lines(
        opacity,
        piece.wavelength,
        piece.lines,
        piece.layers.gas,
        piece.layers.v_micro,
        continuum=(piece.continuum.grid, piece.continuum.absorption),
        tau5000=piece.layers.tau5000,
        chosen=chosen,
        scale=10.0**step - 1.0,
        threshold=OWN_LINES,
    )
    pixels = np.flatnonzero(touched)
    flux = piece.emergent(opacity, pixels)
    slope[pixels] = (flux[pixels] - piece.flux[pixels]) / piece.continuum_flux[pixels] / step
    return slope
