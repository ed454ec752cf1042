"""Files that a fit leaves for each star: model spectra beside the data, and a figure."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from astropy.table import Row, Table
from numpy.typing import NDArray

from spectrolabe.catalogue import ResultFlag
from spectrolabe.errors import InputError
from spectrolabe.inference.fit_plot import Head, plot_fit
from spectrolabe.inference.fit_spectra import FittedSpectrum, write_fitted
from spectrolabe.inference.result import FitResult
from spectrolabe.models.emulator import Emulator
from spectrolabe.spectra import Spectrum

__all__ = ["StarFiles", "model_slopes", "plain_name"]

LONGEST = 120  # characters of the name of a file
MARGIN = 2e-4  # of the wavelengths of an emulator, at whose very ends there is no spline


class StarFiles:
    """Where the files of each star go.

    Parameters
    ----------
    spectra, plot : str or Path, optional
        Folders; they are made.
    whole : bool
        All spectra of a star make one row, so that its name is that of one row.
    visits : bool
        Each spectrum makes a row.

    Raises
    ------
    InputError
        If a folder cannot be made.
    """

    def __init__(
        self, spectra: str | Path | None, plot: str | Path | None, whole: bool, visits: bool
    ) -> None:
        self.spectra = None if spectra is None else _folder(spectra)
        self.plot = None if plot is None else _folder(plot)
        self.whole, self.visits = whole, visits
        self._of: dict[str, tuple[str, ...]] = {}

    def name(self, star: Sequence[Spectrum]) -> str:
        """Return the name of the files of a star, without suffix; the same in every run.

        A second star of the same name in this run gets a digest of what it was read from.
        """
        first = star[0]
        parts = [first.star_id]
        if not self.whole:
            parts.append(_stem(first.where))
        if self.visits:
            parts.append(first.spectrum_id)
        name = "_".join(plain_name(part) for part in dict.fromkeys(parts)) or "star"
        source = tuple(text for one in star for text in (one.where, one.spectrum_id))
        if len(name) <= LONGEST and self._of.setdefault(name, source) == source:
            return name
        digest = hashlib.sha256("\n".join((*parts, *source)).encode()).hexdigest()[:8]
        return f"{name[:LONGEST]}-{digest}"

    def write(
        self,
        result: FitResult,
        stars: Sequence[Sequence[Spectrum]],
        table: Table,
        emulators: Sequence[Emulator],
    ) -> None:
        """Write the files of N stars; those without a model have none.

        Parameters
        ----------
        result : FitResult
        stars : sequence of sequence of Spectrum
        table : Table
            Their rows of the catalogue.
        emulators : sequence of Emulator
            Those of the fit.
        """
        if self.spectra is None and self.plot is None:
            return
        for n, star in enumerate(stars):
            if not result.models[n]:
                continue
            fitted = [
                FittedSpectrum(spectrum, model, float(shift))
                for spectrum, model, shift in zip(
                    star, result.models[n], result.shift[n], strict=False
                )
            ]
            if self.spectra is not None:
                path = self.spectra / f"{self.name(star)}.fits"
                labels = dict(zip(result.all_names, result.all_labels[n].tolist(), strict=True))
                write_fitted(path, fitted, {**labels, "v_broad": float(result.v_broad[n])})
            if self.plot is not None:
                path = self.plot / f"{self.name(star)}.png"
                _draw(path, result, n, fitted, table[n], emulators)


def model_slopes(
    result: FitResult, n: int, fitted: Sequence[FittedSpectrum], emulators: Sequence[Emulator]
) -> list[NDArray]:
    """Return how the models of a star's spectra change with the labels fitted, each (J, M).

    Parameters
    ----------
    result : FitResult
    n : int
        Which star.
    fitted : sequence of FittedSpectrum
    emulators : sequence of Emulator
    """
    broad = float(np.nan_to_num(result.v_broad[n]))
    slopes = []
    for one in fitted:
        rest, own = one.rest_wavelength, np.zeros((len(result.names), len(one.spectrum)))
        left = np.isfinite(one.model.flux)
        resolution = np.broadcast_to(one.spectrum.resolution, rest.shape)
        for emulator in emulators:
            low, high = emulator.wavelength[[0, -1]] * [1 + MARGIN, 1 - MARGIN]
            here = left & (rest > low) & (rest < high)
            if here.sum() < 2:
                continue
            _, slope = emulator.jacobian(
                result.all_labels[n][None],
                one.spectrum.wavelength[here],
                np.minimum(resolution[here], emulator.resolution),
                names=result.names,
                rv=one.shift,
                v_broad=broad,
            )
            own[:, here] = slope[0] * one.model.continuum[here]
            left &= ~here
        slopes.append(own)
    return slopes


def _draw(
    path: Path,
    result: FitResult,
    n: int,
    fitted: Sequence[FittedSpectrum],
    row: Row,
    emulators: Sequence[Emulator],
) -> None:
    slopes = model_slopes(result, n, fitted, emulators)
    flags = [str(f.name) for f in ResultFlag if f & int(row["result_flags"])]
    velocity = f"rv {row['rv']:+.1f} ± {row['e_rv']:.1f} km/s" if np.isfinite(row["rv"]) else ""
    broad = f"v_broad {row['v_broad']:.1f} km/s" if row["v_broad"] > 0 else ""
    free = max(int(result.n_pixels[n] - result.n_parameters[n]), 1)
    parts = [
        str(row["survey"]).replace(";", ", "),
        f"S/N {row['snr']:.0f}",
        velocity,
        broad,
        f"chi2 {result.chi2[n]:,.0f} of {free:,} degrees of freedom",
    ]
    values = np.where(np.isfinite(result.values[n]), result.values[n], np.nan)
    plot_fit(
        path,
        fitted,
        slopes,
        result.names,
        values,
        result.sigma[n],
        Head(str(row["star_id"]), "   ".join(part for part in parts if part), flags),
    )


def _folder(path: str | Path) -> Path:
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(folder, expected="a folder to write to", found=str(error)) from error
    return folder


def _stem(name: str) -> str:
    for suffix in (".gz", ".fits", ".fit", ".fts", ".csv", ".ecsv", ".vot", ".xml", ".parquet"):
        if name.lower().endswith(suffix):
            name = name[: -len(suffix)]
    return name


def plain_name(text: str) -> str:
    """Return letters, digits and what may stand in the name of a file on any system."""
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "+-._") else "_" for c in text)
    return kept.strip("._")
