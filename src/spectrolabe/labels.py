"""Labels: the registry of names and units, values with uncertainties, and their one scaling."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spectrolabe.errors import InputError, unknown_name

__all__ = ["ELEMENTS", "LABELS", "Label", "LabelScale", "Labels", "label", "read_only"]

ELEMENTS = (
    "Li", "C", "N", "O", "Na", "Mg", "Al", "Si", "P", "S", "K", "Ca",
    "Sc", "Ti", "V", "Cr", "Mn", "Co", "Ni", "Cu", "Zn", "Sr", "Y", "Zr",
    "Ba", "La", "Ce", "Pr", "Nd", "Sm", "Eu",
)  # fmt: skip


@dataclass(frozen=True)
class Label:
    """One stellar label.

    Parameters
    ----------
    name : str
        Key used everywhere, for example ``teff`` or ``mg_fe``.
    unit : str
        Astropy unit string; empty for dimensionless.
    description : str
        One line, used as the description of the catalogue column.
    latex : str
        For figures.
    low, high : float
        Physical range; a value outside it is an error in a label table, not a star.
    """

    name: str
    unit: str
    description: str
    latex: str
    low: float
    high: float


def _registry() -> dict[str, Label]:
    base = [
        Label("teff", "K", "Effective temperature", r"$T_\mathrm{eff}$", 1500.0, 60000.0),
        Label("logg", "dex", "Surface gravity, log10(g / cm s-2)", r"$\log g$", -1.5, 9.5),
        Label("fe_h", "dex", "Iron abundance [Fe/H]", "[Fe/H]", -8.0, 2.0),
        Label("m_h", "dex", "Metallicity [M/H]", "[M/H]", -8.0, 2.0),
        Label("alpha_m", "dex", "Alpha enhancement [alpha/M]", r"[$\alpha$/M]", -2.0, 3.0),
        Label("alpha_fe", "dex", "Alpha enhancement [alpha/Fe]", r"[$\alpha$/Fe]", -2.0, 3.0),
        Label("v_micro", "km/s", "Microturbulence", r"$v_\mathrm{micro}$", 0.0, 20.0),
        Label("v_broad", "km/s", "Total line broadening", r"$v_\mathrm{broad}$", 0.0, 600.0),
        Label("rv", "km/s", "Radial velocity, positive = receding", r"$v_\mathrm{r}$", -2e3, 2e3),
        Label(
            "rv_residual",
            "km/s",
            "Radial velocity left after that of the file",
            r"$\Delta v_\mathrm{r}$",
            -2e3,
            2e3,
        ),
        Label("age", "Gyr", "Age", r"$\tau$", 0.0, 20.0),
        Label("distance", "kpc", "Distance", "$d$", 0.0, 1000.0),
        Label("abs_mag_k", "mag", "Absolute magnitude in Ks", "$M_K$", -15.0, 20.0),
    ]
    elements = [
        Label(f"{x.lower()}_fe", "dex", f"Abundance [{x}/Fe]", f"[{x}/Fe]", -5.0, 7.0)
        for x in ELEMENTS
    ]
    return {entry.name: entry for entry in base + elements}


LABELS: dict[str, Label] = _registry()
"""Every label that Spectrolabe knows; a new label is one line here."""


def label(name: str) -> Label:
    """Return the registry entry of a label.

    Raises
    ------
    InputError
        If there is no such label; the message lists the known ones and the nearest.
    """
    if name not in LABELS:
        raise unknown_name("label", name, LABELS, kind="label")
    return LABELS[name]


def read_only(values: ArrayLike, dtype: type | None = None) -> NDArray:
    """Return an array that cannot be written, without touching the caller's."""
    source = np.asarray(values)
    array = np.asarray(source, dtype=dtype)
    if array.flags.writeable or getattr(array.base, "flags", array.flags).writeable:
        array = array.copy() if np.shares_memory(array, source) else array
        array.flags.writeable = False
    return array


@dataclass(frozen=True, eq=False)
class Labels:
    """Values of labels with their uncertainties for N stars.

    Parameters
    ----------
    names : tuple of str
        L label names of the registry.
    values, sigma : ndarray, shape (N, L)
        Values and standard deviations in the units of the registry; NaN where not known.
    star_id : ndarray of str, shape (N,)
        What the rows belong to.

    Raises
    ------
    InputError
        If a name is unknown or repeated, or the shapes do not agree.
    """

    names: tuple[str, ...]
    values: NDArray
    sigma: NDArray
    star_id: NDArray

    def __post_init__(self) -> None:
        names = tuple(self.names)
        for name in names:
            label(name)
        if len(set(names)) != len(names):
            raise InputError("labels", expected="each name once", found=f"{names}")
        values, sigma = read_only(self.values, np.float64), read_only(self.sigma, np.float64)
        star_id = read_only(np.asarray(self.star_id, dtype=str))
        shape = (len(star_id), len(names))
        for what, array in (("values", values), ("sigma", sigma)):
            if array.shape != shape:
                raise InputError(
                    f"labels.{what}",
                    expected=f"shape (stars, labels) = {shape}",
                    found=f"shape {array.shape}",
                )
        for key, value in zip(
            ("names", "values", "sigma", "star_id"), (names, values, sigma, star_id), strict=True
        ):
            object.__setattr__(self, key, value)

    def __len__(self) -> int:
        return len(self.star_id)

    def index(self, names: Iterable[str]) -> list[int]:
        """Return the columns of the given labels, in the order asked for."""
        where = {name: i for i, name in enumerate(self.names)}
        for name in names:
            if name not in where:
                raise unknown_name("labels", name, where, kind="label of this table")
        return [where[name] for name in names]

    def __getitem__(self, name: str) -> NDArray:
        return self.values[:, self.index([name])[0]]

    def select(self, names: Sequence[str]) -> Labels:
        """Return the same stars with only these labels, in this order."""
        columns = self.index(names)
        return Labels(tuple(names), self.values[:, columns], self.sigma[:, columns], self.star_id)

    def take(self, rows: ArrayLike) -> Labels:
        """Return these rows (indices or a boolean array)."""
        rows = np.asarray(rows)
        return Labels(self.names, self.values[rows], self.sigma[rows], self.star_id[rows])


@dataclass(frozen=True, eq=False)
class LabelScale:
    """The linear map between physical labels and the O(1) numbers that models see.

    This is the only place where labels are scaled: values, standard deviations and covariances.

    Parameters
    ----------
    names : tuple of str
    centre, width : ndarray, shape (L,)
        ``scaled = (value - centre) / width``.
    """

    names: tuple[str, ...]
    centre: NDArray
    width: NDArray

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.names))
        object.__setattr__(self, "centre", read_only(self.centre, np.float64))
        object.__setattr__(self, "width", read_only(self.width, np.float64))
        shape = (len(self.names),)
        if self.centre.shape != shape or self.width.shape != shape:
            raise InputError(
                "label scale",
                expected=f"one centre and one width for each of {self.names}",
                found=f"shapes {self.centre.shape} and {self.width.shape}",
            )
        if not (np.isfinite(self.centre).all() and (self.width > 0).all()):
            raise InputError(
                "label scale",
                expected="finite centres and positive widths",
                found=f"centre {self.centre.tolist()}, width {self.width.tolist()}",
                fix="Is there a label without values, or with only one value, in the training set?",
            )

    @classmethod
    def fit(cls, labels: Labels) -> LabelScale:
        """Return the scale of a set of labels: its median and 1.4826 MAD, robust to outliers."""
        with np.errstate(invalid="ignore"):
            known = np.isfinite(labels.values)
            empty = [n for n, k in zip(labels.names, known.any(axis=0), strict=True) if not k]
            if empty:
                raise InputError(
                    "training labels",
                    expected="at least one known value for every label",
                    found=f"no value of {', '.join(empty)}",
                    fix="Leave the label out of the configuration or give a table that has it.",
                )
            centre = np.nanmedian(labels.values, axis=0)
            width = 1.4826 * np.nanmedian(np.abs(labels.values - centre), axis=0)
        return cls(labels.names, centre, width)

    def scale(self, values: NDArray) -> NDArray:
        """Map physical values, shape (..., L), to scaled ones."""
        return (np.asarray(values) - self.centre) / self.width

    def unscale(self, scaled: NDArray) -> NDArray:
        """Map scaled values, shape (..., L), to physical ones."""
        return np.asarray(scaled) * self.width + self.centre

    def unscale_covariance(self, covariance: NDArray) -> NDArray:
        """Map a scaled covariance, shape (..., L, L), to physical units."""
        return np.asarray(covariance) * self.width[:, None] * self.width[None, :]
