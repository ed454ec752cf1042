"""Columns and flags of the catalogue, in the names of SDSS-V astra, and the table made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntFlag
from itertools import combinations
from typing import Protocol

import numpy as np
from astropy import table as at
from numpy.typing import ArrayLike, NDArray

from spectrolabe.errors import InputError, unknown_name
from spectrolabe.labels import LABELS, label

__all__ = [
    "BAD",
    "FIT",
    "IDENTITY",
    "LABEL_FLAGS",
    "RESULT_FLAGS",
    "Column",
    "LabelFlag",
    "ResultFlag",
    "build_catalogue",
    "catalogue_columns",
]


class ResultFlag(IntFlag):
    """Bits of ``result_flags``, one value a star; `RESULT_FLAGS` describes them."""

    NO_RESULT = 1
    NO_VELOCITY = 2
    LOW_SNR = 4
    FEW_PIXELS = 8
    OUT_OF_COVERAGE = 16
    POOR_FIT = 32
    NOT_CONVERGED = 64
    INCONSISTENT = 128
    UNKNOWN_SURVEY = 256
    OUT_OF_RANGE = 512
    WRONG_VELOCITY = 1024
    WRONG_WAVELENGTHS = 2048
    EMISSION = 4096
    SECOND_STAR = 8192


RESULT_FLAGS: dict[ResultFlag, str] = {
    ResultFlag.NO_RESULT: "no label could be inferred; all are NaN",
    ResultFlag.NO_VELOCITY: "no radial velocity known; the spectra were taken as at rest",
    ResultFlag.LOW_SNR: "S/N below that of the training spectra",
    ResultFlag.FEW_PIXELS: "too few usable pixels",
    ResultFlag.OUT_OF_COVERAGE: "unlike the stars that the model was trained on",
    ResultFlag.POOR_FIT: "the best model spectrum does not fit the observed one",
    ResultFlag.NOT_CONVERGED: "the fit stopped before it converged",
    ResultFlag.INCONSISTENT: "the spectra of this star disagree with each other",
    ResultFlag.UNKNOWN_SURVEY: "a survey that the model was not trained on",
    ResultFlag.OUT_OF_RANGE: "little or nothing of a spectrum within the wavelengths of the model",
    ResultFlag.WRONG_VELOCITY: "lines are not where the stated velocity and frame put them",
    ResultFlag.WRONG_WAVELENGTHS: "lines of different wavelengths give different velocities",
    ResultFlag.EMISSION: "emission lines",
    ResultFlag.SECOND_STAR: "lines of a second star",
}

BAD = (
    ResultFlag.NO_RESULT
    | ResultFlag.FEW_PIXELS
    | ResultFlag.OUT_OF_COVERAGE
    | ResultFlag.POOR_FIT
    | ResultFlag.NOT_CONVERGED
    | ResultFlag.SECOND_STAR
)
"""The bits that set ``flag_bad``; any bit sets ``flag_warn``."""


class LabelFlag(IntFlag):
    """Bits of ``<label>_flags``; `LABEL_FLAGS` describes them."""

    NO_INFORMATION = 1
    BELOW_TRAINING = 2
    ABOVE_TRAINING = 4
    EXTRAPOLATED = 8
    UNCALIBRATED = 16


LABEL_FLAGS: dict[LabelFlag, str] = {
    LabelFlag.NO_INFORMATION: "the spectrum says nothing of this label; the value is NaN",
    LabelFlag.BELOW_TRAINING: "below the range of the training labels",
    LabelFlag.ABOVE_TRAINING: "above the range of the training labels",
    LabelFlag.EXTRAPOLATED: "scale correction used outside the range of its reference stars",
    LabelFlag.UNCALIBRATED: "value and uncertainty are those of the model, uncorrected",
}


@dataclass(frozen=True)
class Column:
    """One column of the catalogue.

    Parameters
    ----------
    name : str
    dtype : str
        Numpy type: ``str``, ``f4``, ``f8``, ``i4``, ``i8`` or ``bool``.
    unit : str
        Astropy unit string; empty for none.
    description : str
        One line.
    """

    name: str
    dtype: str
    unit: str
    description: str


IDENTITY: dict[str, Column] = {
    column.name: column
    for column in (
        Column("star_id", "str", "", "Identifier of the star"),
        Column("spectrum_id", "str", "", "Identifiers of its spectra, joined by ';'"),
        Column("survey", "str", "", "Surveys of its spectra, joined by ';'"),
        Column("file", "str", "", "Files of its spectra, joined by ';'"),
        Column("gaia_dr3_source_id", "i8", "", "Gaia DR3 source identifier, 0 if not known"),
        Column("ra", "f8", "deg", "Right ascension, ICRS"),
        Column("dec", "f8", "deg", "Declination, ICRS"),
        Column("healpix", "i4", "", "HEALPix pixel, nside 128, ring order, ICRS"),
        Column("n_spectra", "i4", "", "Number of spectra used"),
        Column("snr", "f4", "", "Median S/N a pixel, of all spectra together"),
        Column("rv", "f8", "km/s", "Radial velocity taken out, positive = receding"),
    )
}
"""What says which star a row is of, in the order of the catalogue."""

REQUIRED = ("star_id", "spectrum_id", "survey", "file", "n_spectra", "snr")

FIT: dict[str, Column] = {
    column.name: column
    for column in (
        Column("e_rv", "f4", "km/s", "1-sigma uncertainty of rv"),
        Column("v_broad", "f4", "km/s", "Broadening by the star, FWHM of a Gaussian"),
        Column("e_v_broad", "f4", "km/s", "1-sigma uncertainty of v_broad"),
        Column("chi2", "f4", "", "Sum of the squared residuals over their variance"),
        Column("n_pixels", "i4", "", "Pixels that the fit used"),
        Column("n_clipped", "i4", "", "Pixels left out because no model fits them"),
        Column("messages", "str", "", "What the flags mean for this star, joined by ';'"),
    )
}
"""What a fit of the whole spectrum says beside labels; after the identity, where there is a fit."""


class Posterior(Protocol):
    """What is needed of a posterior of L labels for N stars, whichever model it is from."""

    @property
    def names(self) -> tuple[str, ...]:
        """The labels."""

    @property
    def mean(self) -> NDArray:
        """Shape (N, L)."""

    @property
    def sigma(self) -> NDArray:
        """Shape (N, L)."""

    @property
    def correlation(self) -> NDArray:
        """Shape (N, L, L)."""

    @property
    def star_id(self) -> NDArray:
        """Shape (N,)."""


def catalogue_columns(
    names: Sequence[str], identity: Sequence[str] = REQUIRED, fit: bool = False
) -> list[Column]:
    """Return the columns of a catalogue of these labels, in order.

    Parameters
    ----------
    names : sequence of str
        Labels of the registry.
    identity : sequence of str
        Names of the identity columns it has, among `IDENTITY`.
    fit : bool
        With the columns of `FIT`.
    """
    columns = [column for name, column in IDENTITY.items() if name in identity]
    columns += FIT.values() if fit else ()
    for name in names:
        columns += _label_columns(name)
    for one, other in combinations(names, 2):
        columns.append(
            Column(
                f"rho_{one}_{other}", "f4", "", f"Correlation of the errors of {one} and {other}"
            )
        )
    bad = " | ".join(str(flag.name) for flag in ResultFlag if flag in BAD)
    columns += [
        Column("result_flags", "i4", "", "Bits of the whole result"),
        Column("flag_warn", "bool", "", "result_flags != 0"),
        Column("flag_bad", "bool", "", f"(result_flags & ({bad})) != 0"),
    ]
    twice = {c.name for c in columns if [d.name for d in columns].count(c.name) > 1}
    if twice:
        raise InputError(
            "catalogue",
            expected="each column once",
            found=f"{', '.join(sorted(twice))} twice",
            fix="Leave it out of the identity columns when it is one of the labels.",
        )
    return columns


def _label_columns(name: str) -> list[Column]:
    unit, what = label(name).unit, LABELS[name].description
    return [
        Column(name, "f4", unit, what),
        Column(f"e_{name}", "f4", unit, f"Calibrated 1-sigma uncertainty of {name}"),
        Column(f"raw_{name}", "f4", unit, f"{what}, before calibration"),
        Column(f"raw_e_{name}", "f4", unit, f"Uncertainty of {name} as given by the model"),
        Column(f"{name}_flags", "i4", "", f"Bits of {name}"),
    ]


def build_catalogue(
    raw: Posterior,
    calibrated: Posterior,
    identity: Mapping[str, ArrayLike],
    result_flags: ArrayLike,
    label_flags: ArrayLike,
    fit: Mapping[str, ArrayLike] | None = None,
) -> at.Table:
    """Return the catalogue of N stars and L labels, one row a star.

    Parameters
    ----------
    raw, calibrated : LabelPosterior
        The model's posterior and the one on the final scale: the same stars and labels.
    identity : Mapping of str to array_like, shape (N,)
        Columns of `IDENTITY`; ``star_id`` is that of the posterior.
    result_flags : array_like of int, shape (N,)
        Bits of `ResultFlag`.
    label_flags : array_like of int, shape (N, L)
        Bits of `LabelFlag`. A NaN value gets ``NO_INFORMATION`` in any case.
    fit : Mapping of str to array_like, shape (N,), optional
        All columns of `FIT`.

    Returns
    -------
    Table
        Units and descriptions on every column.

    Raises
    ------
    InputError
        If the posteriors differ in stars or labels, an identity column is unknown, lacking or of
        another length, or flags are of another shape or have bits without a name.
    """
    _check_posteriors(raw, calibrated)
    stars, names = len(calibrated.star_id), calibrated.names
    result = _flags("result_flags", result_flags, (stars,), ResultFlag)
    bits = _flags("label_flags", label_flags, (stars, len(names)), LabelFlag)
    bits = np.where(np.isnan(calibrated.mean), bits | LabelFlag.NO_INFORMATION, bits)
    values: dict[str, ArrayLike] = _identity(identity, calibrated.star_id)
    columns = catalogue_columns(names, tuple(values), fit is not None)
    values |= _fit(fit) if fit is not None else {}
    for i, name in enumerate(names):
        values[name], values[f"e_{name}"] = calibrated.mean[:, i], calibrated.sigma[:, i]
        values[f"raw_{name}"], values[f"raw_e_{name}"] = raw.mean[:, i], raw.sigma[:, i]
        values[f"{name}_flags"] = bits[:, i]
    rho = calibrated.correlation
    for i, j in combinations(range(len(names)), 2):
        values[f"rho_{names[i]}_{names[j]}"] = rho[:, i, j]
    values["result_flags"], values["flag_warn"] = result, result != 0
    values["flag_bad"] = (result & BAD) != 0
    return at.Table([_column(column, values[column.name], stars) for column in columns])


def _check_posteriors(raw: Posterior, calibrated: Posterior) -> None:
    if raw.names != calibrated.names:
        raise InputError(
            "calibrated posterior",
            expected=f"the labels of the raw one, {', '.join(raw.names)}",
            found=", ".join(calibrated.names),
        )
    if not np.array_equal(raw.star_id, calibrated.star_id):
        raise InputError(
            "calibrated posterior",
            expected=f"the {len(raw.star_id)} stars of the raw one in their order",
            found=f"{len(calibrated.star_id)} stars, not the same or in another order",
        )


def _identity(identity: Mapping[str, ArrayLike], star_id: NDArray) -> dict[str, ArrayLike]:
    for name in identity:
        if name not in IDENTITY:
            raise unknown_name("catalogue", name, IDENTITY, kind="identity column")
    values = {"star_id": star_id, **identity}
    if not np.array_equal(np.asarray(values["star_id"], dtype=str), star_id):
        raise InputError(
            "catalogue",
            expected="the star_id of the posterior",
            found="another",
            fix="Leave it out.",
        )
    lacking = [name for name in REQUIRED if name not in values]
    if lacking:
        raise InputError(
            "catalogue",
            expected=f"identity columns {', '.join(REQUIRED)}",
            found=", ".join(identity),
            fix=f"Missing: {', '.join(lacking)}.",
        )
    return values


def _fit(fit: Mapping[str, ArrayLike]) -> Mapping[str, ArrayLike]:
    if set(fit) != set(FIT):
        raise InputError(
            "catalogue", expected=f"of the fit {', '.join(FIT)}", found=", ".join(fit) or "nothing"
        )
    return fit


def _flags(name: str, flags: ArrayLike, shape: tuple[int, ...], bits: type[IntFlag]) -> NDArray:
    array = np.asarray(flags, dtype=np.int64)
    known = sum(int(bit) for bit in bits)
    if array.shape != shape:
        raise InputError(name, expected=f"shape {shape}", found=f"shape {array.shape}")
    strange = array & ~known
    if strange.any():
        raise InputError(
            name,
            expected=f"bits of {bits.__name__}",
            found=f"{int(strange[strange != 0].flat[0])}, which has no name",
        )
    return array


def _column(column: Column, values: ArrayLike, stars: int) -> at.Column:
    array = np.asarray(values)
    if array.shape != (stars,):
        raise InputError(
            f"catalogue column {column.name}",
            expected=f"shape ({stars},)",
            found=f"shape {array.shape}",
        )
    return at.Column(
        array.astype(column.dtype),
        name=column.name,
        unit=column.unit or None,
        description=column.description,
    )
