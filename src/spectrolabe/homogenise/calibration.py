"""A calibration: trends of labels found from anchors, and their removal.

A pipeline is taken to return ``true + trend(true) + error``, with a smooth trend of each label in
Teff, log g and [Fe/H]. `spectrolabe.homogenise.fitting.fit_calibration` finds the trends.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from spectrolabe.catalogue.schema import LabelFlag
from spectrolabe.errors import InputError
from spectrolabe.guard import blaming
from spectrolabe.homogenise.basis import COVARIATES, TrendBasis
from spectrolabe.homogenise.corrector import Corrected, T
from spectrolabe.homogenise.headed import read_headed
from spectrolabe.homogenise.support import Support
from spectrolabe.homogenise.trend import LabelTrend
from spectrolabe.labels import Labels
from spectrolabe.models.posterior import LabelPosterior

__all__ = ["FORMAT_VERSION", "Calibration"]

FORMAT_VERSION = 1
ITERATIONS = 8  # of true = measured - trend(true)
STEP = np.array([20.0, 0.02, 0.02])  # K, dex, dex: of the slopes of trends
CHUNK = 20000  # stars at a time
BASIS = ("low", "high", "centre", "width")


@dataclass(frozen=True, eq=False)
class Calibration:
    """Trends of labels, a `spectrolabe.homogenise.corrector.Corrector`.

    Parameters
    ----------
    basis : TrendBasis
    trends : mapping of str to LabelTrend
    card : mapping
        Format, number of anchors of each kind, version of the code; of each label what its trend
        was fitted on and how far it goes.
    """

    basis: TrendBasis
    trends: Mapping[str, LabelTrend]
    card: Mapping[str, Any]

    @property
    def names(self) -> tuple[str, ...]:
        """The labels that it corrects."""
        return tuple(self.trends)

    def apply(self, labels: T, *, scatter: bool = True) -> Corrected[T]:
        """Remove the trends.

        Parameters
        ----------
        labels : Labels or LabelPosterior
            With Teff, log g and [Fe/H] among them. Not changed.
        scatter : bool
            Add the intrinsic scatter of the anchors, beyond their stated errors, to the
            uncertainties.

        Returns
        -------
        Corrected
            The same type on the anchors' scale. Labels without a trend stay as they are, flagged
            ``UNCALIBRATED``; ``EXTRAPOLATED`` marks corrections away from all anchors, which fade
            to the label's zero point while their uncertainty grows.

        Raises
        ------
        InputError
            If Teff, log g or [Fe/H] is not among the labels.
        """
        parts = [
            self._shifts(values_of(labels)[i : i + CHUNK], labels.names)
            for i in range(0, max(len(labels), 1), CHUNK)
        ]
        shift, variance, support, turn = (np.concatenate(part) for part in zip(*parts, strict=True))
        known = np.array([name in self.trends for name in labels.names])
        extra = variance
        if scatter:
            own = [self.trends[n].scatter if n in self.trends else 0.0 for n in labels.names]
            extra = variance + np.square(own)
        values = values_of(labels) - shift
        flags = np.where(known & (support < 1), LabelFlag.EXTRAPOLATED, 0)
        flags = np.where(known, flags, LabelFlag.UNCALIBRATED)
        flags = np.where(np.isnan(values), LabelFlag.NO_INFORMATION, flags)
        return Corrected(
            labels=replaced(labels, values, turn, extra),
            raw=labels,
            correction=-shift,
            sigma=np.sqrt(variance),
            support=support,
            flags=flags.astype(np.int64),
        )

    def trend(self, name: str, points: NDArray) -> tuple[NDArray, NDArray]:
        """Return measured less true value of a label and its standard deviation, shapes (N,).

        Parameters
        ----------
        name : str
        points : ndarray, shape (N, 3)
            True Teff, log g and [Fe/H].
        """
        trend = self.trends[name]
        distance = trend.support.distance(points)
        share = trend.support.share(distance)
        design = self.basis.design(points)
        return trend.value(design, share), np.sqrt(trend.variance(design, distance))

    def _shifts(
        self, values: NDArray, names: tuple[str, ...]
    ) -> tuple[NDArray, NDArray, NDArray, NDArray]:
        """Trends of N stars: values, variances, support, and the slopes of corrected by raw labels.

        Shapes (N, L), (N, L), (N, L) and (N, L, L).
        """
        core = core_columns(names)
        raw = values[:, core]
        known = np.isfinite(raw).all(axis=1)
        distance = self._distances(raw)
        share = {name: self.trends[name].support.share(d) for name, d in distance.items()}

        def at(design: NDArray, wanted: tuple[str, ...]) -> NDArray:
            found = np.zeros((len(design), len(wanted)))
            for i, name in enumerate(wanted):
                if name in self.trends:
                    found[:, i] = self.trends[name].value(design, share[name])
            return found

        # where a label is missing, nothing but the zero point is used, so that any number will do
        raw = np.where(known[:, None], raw, [5500.0, 4.0, 0.0])
        points = raw
        for _ in range(ITERATIONS):
            points = raw - at(self.basis.design(points), COVARIATES)
        design = self.basis.design(points)
        slopes = np.empty((len(values), len(names), 3))
        for i, step in enumerate(np.diag(STEP)):
            up, down = self.basis.design(points + step), self.basis.design(points - step)
            slopes[:, :, i] = (at(up, names) - at(down, names)) / (2 * STEP[i])
        turn = np.repeat(np.eye(len(names))[None], len(values), axis=0)
        inverse = np.linalg.inv(np.eye(3) + slopes[:, core])
        turn[:, :, core] -= slopes @ inverse
        shift, variance = at(design, names), np.zeros(values.shape)
        support = np.ones(values.shape)
        for i, name in enumerate(names):
            if name in self.trends:
                variance[:, i] = self.trends[name].variance(design, distance[name])
                support[:, i] = share[name]
        return shift, variance, support, turn

    def _distances(self, points: NDArray) -> dict[str, NDArray]:
        """Distances to the anchors of each label; labels often have the same ones."""
        found: dict[bytes, NDArray] = {}
        for trend in self.trends.values():
            key = trend.support.points.tobytes()
            if key not in found:
                found[key] = trend.support.distance(points)
        return {name: found[t.support.points.tobytes()] for name, t in self.trends.items()}

    def save(self, path: str | Path) -> None:
        """Write the calibration: a safetensors file whose header holds the card.

        Raises
        ------
        InputError
            If the disk does not take it.
        """
        tensors = {f"basis.{key}": np.array(getattr(self.basis, key)) for key in BASIS}
        for name, trend in self.trends.items():
            for key, array in _arrays(trend).items():
                tensors[f"{name}.{key}"] = np.array(array)  # writable and contiguous
        card = {**self.card, "labels": {n: dict(t.card) for n, t in self.trends.items()}}
        content = save(tensors, metadata={"spectrolabe_calibration": json.dumps(card)})
        partial = Path(path).with_name(Path(path).name + ".partial")
        try:
            partial.write_bytes(content)
            partial.replace(path)
        except OSError as error:
            raise InputError(
                path, expected="a file that can be written", found=str(error)
            ) from error

    @classmethod
    def load(cls, path: str | Path) -> Calibration:
        """Read a calibration.

        Raises
        ------
        InputError
            If there is no such file, it is no calibration, or of another version of the format.
        """
        card, tensors = read_headed(path, "calibration", FORMAT_VERSION)
        with blaming(path, "a calibration written by Spectrolabe"):
            labels = card.pop("labels")
            basis = TrendBasis(*(tensors[f"basis.{key}"] for key in BASIS))
            trends = {name: _trend(name, one, tensors) for name, one in labels.items()}
            return cls(basis, trends, card)


def values_of(labels: Labels | LabelPosterior) -> NDArray:
    """Return the values of either type, shape (N, L)."""
    return labels.values if isinstance(labels, Labels) else labels.mean


def core_columns(names: tuple[str, ...]) -> list[int]:
    """Return the columns of Teff, log g and [Fe/H].

    Raises
    ------
    InputError
        If one is not there.
    """
    lacking = [name for name in COVARIATES if name not in names]
    if lacking:
        raise InputError(
            "labels",
            expected=f"{', '.join(COVARIATES)} among them: trends are functions of these",
            found=", ".join(names),
            fix=f"Missing: {', '.join(lacking)}.",
        )
    return [names.index(name) for name in COVARIATES]


def replaced(labels: T, values: NDArray, turn: NDArray, extra: NDArray) -> T:
    """The same stars with other values, covariances turned and variances added."""
    if isinstance(labels, Labels):
        variance = np.einsum("nij,nij,nj->ni", turn, turn, np.nan_to_num(labels.sigma) ** 2)
        sigma = np.where(np.isnan(labels.sigma), np.nan, np.sqrt(variance + extra))
        return Labels(labels.names, values, sigma, labels.star_id)
    unknown = np.isnan(labels.covariance)
    covariance = turn @ np.nan_to_num(labels.covariance) @ np.swapaxes(turn, 1, 2)
    covariance = 0.5 * (covariance + np.swapaxes(covariance, 1, 2))
    covariance[:, *np.diag_indices(len(labels.names))] += extra
    covariance[unknown] = np.nan
    return LabelPosterior(labels.names, values, covariance, labels.star_id)


def _arrays(trend: LabelTrend) -> dict[str, NDArray]:
    support = trend.support
    return {
        "coefficients": trend.coefficients,
        "covariance": trend.covariance,
        "mean": trend.mean,
        "anchors": support.points,
        "unit": support.width,
        "numbers": np.array([support.limit, trend.amplitude, trend.scatter]),
    }


def _trend(name: str, card: Mapping[str, Any], tensors: Mapping[str, NDArray]) -> LabelTrend:
    a = {key.partition(".")[2]: t for key, t in tensors.items() if key.partition(".")[0] == name}
    limit, amplitude, scatter = (float(x) for x in a["numbers"])
    return LabelTrend(
        a["mean"],
        a["coefficients"],
        a["covariance"],
        Support(a["anchors"], a["unit"], limit),
        amplitude,
        scatter,
        card,
    )
