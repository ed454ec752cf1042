"""Model spectra of a star at the labels that a catalogue states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spectrolabe.errors import InputError
from spectrolabe.inference.fit import fit
from spectrolabe.inference.fit_files import model_slopes
from spectrolabe.inference.fit_plot import driving_lines
from spectrolabe.inference.fit_spectra import FittedSpectrum
from spectrolabe.inference.result import FitResult
from spectrolabe.labels import Labels
from spectrolabe.models.emulator import Emulator, load_emulator
from spectrolabe.models.released import find_emulators
from spectrolabe.spectra import Frame, Spectrum
from spectrolabe.spectra.degrade import degrade
from spectrolabe.spectra.wavelength import SPEED_OF_LIGHT

__all__ = ["Drawn", "Modelled", "Models", "noise", "with_lines"]

MOST = 12  # lines of one label
NOTE = (
    "Model: emulated spectrum at the labels of the catalogue; only velocity, broadening and "
    "continuum are fitted. Errors of models are part of the σ of residuals."
)


@dataclass(frozen=True, eq=False)
class Drawn:
    """One spectrum with its model, all of shape (M,).

    Parameters
    ----------
    title : str
    wavelength : ndarray
        Vacuum Angstrom at rest.
    flux, sigma, model : ndarray
        In the units of the spectrum; NaN where there is none.
    error : ndarray
        As ``sigma``, with the errors of models if they are known.
    used : ndarray of bool
        Pixels that counted.
    """

    title: str
    wavelength: NDArray
    flux: NDArray
    sigma: NDArray
    model: NDArray
    error: NDArray
    used: NDArray

    @classmethod
    def of(cls, one: FittedSpectrum) -> Drawn:
        """Return what is drawn of a fit."""
        error = np.where(one.spectrum.good, one.sigma, np.nan)
        title = f"{one.spectrum.survey} {one.spectrum.spectrum_id}"
        flux, sigma = one.spectrum.flux, noise(one.spectrum.ivar)
        return cls(title, one.rest_wavelength, flux, sigma, one.model.flux, error, one.used)

    @classmethod
    def observed(cls, one: Spectrum) -> Drawn:
        """Return what is drawn of a spectrum without a model."""
        sigma, nothing = noise(one.ivar), np.full(len(one), np.nan)
        rest = one.frame is Frame.REST or not np.isfinite(one.rv)
        wavelength = one.wavelength / (1.0 + (0.0 if rest else one.rv / SPEED_OF_LIGHT))
        title = f"{one.survey} {one.spectrum_id}"
        return cls(title, wavelength, one.flux, sigma, nothing, sigma, one.good)


@dataclass(frozen=True)
class Modelled:
    """The models of a star's spectra.

    Parameters
    ----------
    spectra : list of Drawn
        Empty if there is no model.
    note : str
        What kind of model it is, or why there is none.
    lines : dict
        By label: which spectrum, vacuum Angstrom at rest, and share of all that the spectra say of
        the label, of the lines that say most.
    chi2 : float, optional
        Per degree of freedom.
    """

    spectra: list[Drawn]
    note: str
    lines: dict[str, list[tuple[int, float, float]]] = field(default_factory=dict)
    chi2: float | None = None


def with_lines(left: Modelled, computed: Modelled) -> Modelled:
    """Return what a fit has left, with the lines of a model computed for the same spectra."""
    order = [one.title for one in left.spectra]
    own = [one.title for one in computed.spectra]
    if sorted(order) != sorted(own):
        return left
    lines = {
        label: [(order.index(own[k]), wavelength, share) for k, wavelength, share in found]
        for label, found in computed.lines.items()
    }
    return replace(left, lines=lines)


def noise(ivar: NDArray) -> NDArray:
    """Return standard deviations of inverse variances; NaN where a pixel must not be used."""
    with np.errstate(divide="ignore"):
        return np.where(ivar > 0, np.asarray(ivar, dtype=np.float64) ** -0.5, np.nan)


class Models:
    """The emulators, loaded when they are first needed.

    Parameters
    ----------
    names : str
        As `spectrolabe fit` takes them.
    """

    def __init__(self, names: str = "default") -> None:
        self.names = names

    @cached_property
    def emulators(self) -> list[Emulator]:
        """In the order in which they are asked for a wavelength."""
        return [load_emulator(folder) for folder in find_emulators(self.names)]

    def of_star(self, spectra: Sequence[Spectrum], values: Mapping[str, float]) -> Modelled:
        """Return models of the spectra of a star.

        Parameters
        ----------
        spectra : sequence of Spectrum
        values : Mapping of str to float
            Labels; those that the emulators lack do not count, and those that are NaN or missing
            are taken from the template star that is most alike.
        """
        if not spectra:
            return Modelled([], "No model without a spectrum.")
        try:
            return self._of_star(spectra, values)
        except InputError as error:
            return Modelled([], f"No model: {error}")
        except Exception as error:  # one star must never stop the others
            return Modelled([], f"No model ({type(error).__name__}: {error}).")

    def _of_star(self, spectra: Sequence[Spectrum], values: Mapping[str, float]) -> Modelled:
        names = self.emulators[0].names
        highest = min(emulator.resolution for emulator in self.emulators)
        star = [degrade(spectrum, highest) for spectrum in spectra]
        known = np.array([[values.get(name, np.nan) for name in names]])
        if not np.isfinite(known[0, names.index("teff")]):
            return Modelled([], "No model: the catalogue has no temperature of this star.")
        start = Labels(names, known, np.full_like(known, np.nan), np.array([star[0].star_id]))
        result = fit([star], self.emulators, labels=(), start=start)
        if not result.models[0]:
            return Modelled([], f"No model: {'; '.join(result.messages[0])}.")
        fitted = [
            FittedSpectrum(spectrum, model, float(shift))
            for spectrum, model, shift in zip(star, result.models[0], result.shift[0], strict=True)
        ]
        return Modelled(
            [Drawn.of(one) for one in fitted],
            NOTE + _clipped(names, known[0], result.all_labels[0]),
            self._lines(result, fitted),
            float(result.chi2_reduced[0]),
        )

    def _lines(self, result: FitResult, fitted: Sequence[FittedSpectrum]) -> dict[str, Any]:
        every = replace(result, names=result.all_names)
        slopes = model_slopes(every, 0, fitted, self.emulators)
        lines: dict[str, Any] = {}
        for one in driving_lines(fitted, slopes, every.names, MOST):
            lines.setdefault(one.label, []).append((one.spectrum, one.wavelength, one.share))
        return lines


def _clipped(names: Sequence[str], asked: NDArray, taken: NDArray) -> str:
    """What is to be said where labels are out of the range of the emulators."""
    out = [
        f"{name} at {taken[k]:g} instead of {asked[k]:.4g}"
        for k, name in enumerate(names)
        if np.isfinite(asked[k]) and abs(asked[k] - taken[k]) > 1e-4 * max(1.0, abs(asked[k]))
    ]
    return f" Out of range of the emulators: {', '.join(out)}." if out else ""
