"""What is known of a star before its spectrum is seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spectrolabe.errors import InputError, unknown_name
from spectrolabe.labels import label
from spectrolabe.models.emulator import STRUCTURAL, Emulator
from spectrolabe.synthesis.sampling import v_micro_relation

__all__ = ["V_MICRO_SCATTER", "WIDTH", "Priors"]

WIDTH = 3.0  # of the weak priors, in standard deviations of the stars trained on
V_MICRO_SCATTER = 0.3  # km/s about the relation; Blanco-Cuaresma et al. 2014 find 0.2 to 0.3
STEP = {"teff": 1.0, "logg": 1e-3, "fe_h": 1e-3}  # for the slopes of the relation


@dataclass(frozen=True)
class Priors:
    """Normal priors of labels, and of microturbulence about the relation of usual stars.

    Parameters
    ----------
    normal : Mapping of str to (float, float)
        Mean and standard deviation of labels, in the units of the registry.
    v_micro_scatter : float, optional
        Standard deviation about `v_micro_relation`, km/s; no such prior if not given.
    """

    normal: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    v_micro_scatter: float | None = None

    def __post_init__(self) -> None:
        checked = {name: _checked(name, pair) for name, pair in self.normal.items()}
        object.__setattr__(self, "normal", MappingProxyType(checked))

    def __reduce__(self) -> tuple[object, ...]:
        return (Priors, (dict(self.normal), self.v_micro_scatter))  # to another process

    @classmethod
    def none(cls) -> Priors:
        """Return no prior at all: only the range of the emulator limits a label."""
        return cls()

    @classmethod
    def weak(cls, emulator: Emulator) -> Priors:
        """Return priors that matter where a spectrum says next to nothing.

        Each [X/Fe] is as in the stars trained on, but three times wider. The effective temperature,
        gravity and [Fe/H] have none. Microturbulence is within 0.3 km/s of the usual.
        """
        rows = zip(emulator.names, emulator.mean, emulator.spread, strict=True)
        normal = {n: (float(m), WIDTH * float(s)) for n, m, s in rows if n not in STRUCTURAL}
        return cls(normal, V_MICRO_SCATTER)

    @classmethod
    def of(
        cls, given: str | Mapping[str, tuple[float, float]] | Priors, emulator: Emulator
    ) -> Priors:
        """Return priors as a user may give them.

        Parameters
        ----------
        given : {"weak", "none"}, Mapping or Priors
            A mapping of labels to mean and standard deviation replaces the weak priors of these.
        emulator : Emulator

        Raises
        ------
        InputError
            If a label is not one of the emulator, or a prior has no positive width.
        """
        if isinstance(given, str):
            if given not in ("weak", "none"):
                raise InputError(
                    "priors", expected="'weak', 'none' or a mapping", found=repr(given)
                )
            return cls.weak(emulator) if given == "weak" else cls.none()
        priors = given if isinstance(given, Priors) else cls.weak(emulator).replace(given)
        for name in priors.normal:
            if name not in emulator.names:
                raise unknown_name("priors", name, emulator.names, kind="label of the emulator")
        return priors

    def replace(self, normal: Mapping[str, tuple[float, float]]) -> Priors:
        """Return these priors with those of some labels replaced; also that of ``v_micro``."""
        scatter = None if "v_micro" in normal else self.v_micro_scatter
        return Priors({**self.normal, **normal}, scatter)

    def describe(self) -> dict[str, Any]:
        """Return every prior as plain values: label to [mean, standard deviation]."""
        plain: dict[str, Any] = {name: list(pair) for name, pair in self.normal.items()}
        if self.v_micro_scatter is not None:
            plain["v_micro"] = ["relation of the Gaia-ESO survey", self.v_micro_scatter]
        return plain

    def sigma(self, names: Sequence[str]) -> NDArray:
        """Return the standard deviation of each label's prior, shape (J,); infinite if none."""
        width = {name: pair[1] for name, pair in self.normal.items()}
        if self.v_micro_scatter is not None:
            width["v_micro"] = self.v_micro_scatter
        return np.array([width.get(name, np.inf) for name in names])

    def residuals(
        self, names: Sequence[str], labels: ArrayLike, columns: Sequence[int]
    ) -> tuple[NDArray, NDArray]:
        """Return (value - mean) / sigma of Q priors of labels that are fitted, and their slopes.

        Parameters
        ----------
        names : sequence of str
            All L labels.
        labels : array_like, shape (N, L)
        columns : sequence of int
            The J that are fitted.

        Returns
        -------
        residual : ndarray, shape (N, Q)
        slope : ndarray, shape (N, Q, J)
        """
        values = np.asarray(labels, dtype=np.float64)
        fitted = {names[c]: j for j, c in enumerate(columns)}
        residual, slope = [], []
        for name, (mean, sigma) in self.normal.items():
            if name in fitted:
                residual.append((values[:, columns[fitted[name]]] - mean) / sigma)
                row = np.zeros((len(values), len(columns)))
                row[:, fitted[name]] = 1.0 / sigma
                slope.append(row)
        if self.v_micro_scatter is not None and "v_micro" in fitted:
            one, row = _v_micro(names, values, fitted, self.v_micro_scatter)
            residual.append(one)
            slope.append(row)
        if not residual:
            return np.zeros((len(values), 0)), np.zeros((len(values), 0, len(columns)))
        return np.stack(residual, axis=1), np.stack(slope, axis=1)


def _v_micro(
    names: Sequence[str], values: NDArray, fitted: Mapping[str, int], scatter: float
) -> tuple[NDArray, NDArray]:
    """The prior of microturbulence: residual (N,) and slopes (N, J)."""
    own = {name: values[:, list(names).index(name)] for name in STRUCTURAL}
    v_micro = own.pop("v_micro")
    slope = np.zeros((len(values), len(fitted)))
    slope[:, fitted["v_micro"]] = 1.0 / scatter
    for name, step in STEP.items():
        if name in fitted:
            up = v_micro_relation(**{**own, name: own[name] + step})
            down = v_micro_relation(**{**own, name: own[name] - step})
            slope[:, fitted[name]] = -(up - down) / (2 * step) / scatter
    return (v_micro - v_micro_relation(**own)) / scatter, slope


def _checked(name: str, pair: Any) -> tuple[float, float]:
    label(name)
    try:
        mean, sigma = (float(value) for value in pair)
    except (TypeError, ValueError):
        mean = sigma = np.nan
    if not (np.isfinite(mean) and sigma > 0 and np.isfinite(sigma)):
        raise InputError(
            f"prior of {name}",
            expected="a finite mean and a positive, finite standard deviation",
            found=repr(pair),
        )
    return mean, sigma
