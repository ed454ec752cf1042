"""A correction: labels of one catalogue on the scale of another, learnt from shared stars.

The corrected value of a label is its value and a function of the inputs (Teff, log g and [Fe/H] as
the catalogue has them, the label itself, other columns if asked for): a plane, and how differences
bend away from it. Where shared stars become rare the bend fades, the plane stays at its value at
the edge of the overlap, and the uncertainty grows.
`spectrolabe.homogenise.learning.fit_correction` finds it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spectrolabe.catalogue.schema import LabelFlag
from spectrolabe.errors import InputError
from spectrolabe.homogenise.calibration import replaced, values_of
from spectrolabe.homogenise.corrector import Corrected, T
from spectrolabe.homogenise.functions import Function
from spectrolabe.homogenise.inputs import Inputs
from spectrolabe.homogenise.linear import Linear
from spectrolabe.homogenise.noise import Noise
from spectrolabe.homogenise.support import Support
from spectrolabe.labels import Labels

__all__ = ["Bent", "Correction", "LabelCorrection"]

STEPS = 4  # to corrected inputs, each bringing them nearer by the slope of a correction


@dataclass(frozen=True, eq=False)
class Bent:
    """A plane through differences, and a function of what it leaves.

    Parameters
    ----------
    plane : Linear
    bend : Function
    """

    plane: Linear
    bend: Function

    @staticmethod
    def together(curves: Sequence[Bent], x: NDArray, share: NDArray | float = 1.0) -> NDArray:
        """Return values of several with a share of their bends, shape (K, N)."""
        plane = Linear.together([one.plane for one in curves], x)
        bends = [one.bend for one in curves]
        return np.asarray(plane + share * type(bends[0]).together(bends, x))

    def at(self, x: NDArray) -> NDArray:
        """Return values, shape (N,)."""
        return np.asarray(self.together([self], x)[0])

    def again(self, x: NDArray, y: NDArray, weight: NDArray) -> Bent:
        """Return the same for other stars."""
        plane = self.plane.again(x, y, weight)
        return Bent(plane, self.bend.again(x, y - plane(x), weight))


@dataclass(frozen=True, eq=False)
class LabelCorrection:
    """What is to be added to one label.

    Parameters
    ----------
    inputs : Inputs
    curve : Bent
        Of scaled inputs, in units of ``spread``, about ``zero``.
    refits : tuple of Bent
        The same with one part in K of the shared stars left out: how well it is known.
    support : Support
        Of scaled inputs.
    zero, spread : float
        Median difference of the catalogues, and the scatter about it.
    bent, all_ : float
        Root mean squares over the shared stars of the bend and of the whole curve, in the unit of
        the label: what may be wrong where they are not applied.
    noise : Noise
        Of corrected values.
    card : mapping
        What it was learnt from and what it achieves.
    """

    inputs: Inputs
    curve: Bent
    refits: tuple[Bent, ...]
    support: Support
    zero: float
    spread: float
    bent: float
    all_: float
    noise: Noise
    card: Mapping[str, Any]

    def at(self, values: NDArray, *, variances: bool = True) -> tuple[NDArray, NDArray, NDArray]:
        """Return the correction, its variance, and how much of it is supported, shapes (N,).

        Parameters
        ----------
        values : ndarray, shape (N, D)
            Inputs. Where one is NaN nothing but the median difference is known.
        variances : bool
            Without them the refits are not computed, and variances have no meaning.
        """
        known = np.isfinite(values).all(axis=1)
        value, share_ = np.full(len(values), self.zero), np.zeros(len(values))
        variance = np.full(len(values), self.all_**2)
        if not known.any():
            return value, variance, share_
        scaled = self.inputs.scaled(values[known])
        distance = self.support.distance(scaled)
        x, share = self.inputs.inside(scaled), self.support.share(distance)
        curves = (self.curve, *self.refits) if variances else (self.curve,)
        found = self.spread * Bent.together(curves, x, share)
        value[known] += found[0]
        share_[known] = share
        if not variances:
            return value, variance, share_
        again = found[1:]
        beyond = np.maximum(distance - self.support.limit, 0.0)
        lost = (1.0 - share) * self.bent * (1.0 + beyond)
        # delete-a-group jackknife (Efron & Stein 1981), as wide as Student's t of so few groups
        count = len(again)
        known_to = (count - 1) * again.var(axis=0) * (count - 1) / (count - 3)
        variance[known] = known_to + lost**2
        return value, variance, share_


@dataclass(frozen=True, eq=False)
class Correction:
    """Corrections of labels, a `spectrolabe.homogenise.corrector.Corrector`.

    Parameters
    ----------
    labels : mapping of str to LabelCorrection
    card : mapping
        Catalogues, method, number of shared stars, version of the code.
    """

    labels: Mapping[str, LabelCorrection]
    card: Mapping[str, Any]

    @property
    def names(self) -> tuple[str, ...]:
        """The labels that it corrects."""
        return tuple(self.labels)

    @property
    def inputs(self) -> tuple[str, ...]:
        """All columns that it is a function of."""
        return tuple(dict.fromkeys(n for one in self.labels.values() for n in one.inputs.names))

    def apply(self, labels: T, extra: Mapping[str, NDArray] | None = None) -> Corrected[T]:
        """Put labels on the scale of the reference.

        Parameters
        ----------
        labels : Labels or LabelPosterior
            N stars.
        extra : mapping of str to ndarray, shape (N,)
            Inputs that are no labels.

        Returns
        -------
        Corrected
            Labels that it does not know stay as they are, flagged ``UNCALIBRATED``. So are those
            of stars too far from all shared ones, which get the plane, or the median difference
            where an input is missing; where the bend fades they are ``EXTRAPOLATED``.

        Raises
        ------
        InputError
            If an input is missing.
        """
        values, sigma = values_of(labels), np.zeros((len(labels), len(labels.names)))
        shift, share = np.zeros(values.shape), np.ones(values.shape)
        variance, factor = np.zeros(values.shape), np.ones(len(labels.names))
        flags = np.full(values.shape, int(LabelFlag.UNCALIBRATED))
        for name, (added, found, held) in self._at(labels, extra).items():
            j, noise = labels.names.index(name), self.labels[name].noise
            shift[:, j], share[:, j], sigma[:, j] = added, held, np.sqrt(found)
            variance[:, j], factor[j] = found + noise.floor**2, noise.factor
            flags[:, j] = np.where(
                held <= 0.0,
                LabelFlag.UNCALIBRATED,
                np.where(held < 1.0, LabelFlag.EXTRAPOLATED, 0),
            )
        new = values + shift
        flags = np.where(np.isnan(new), LabelFlag.NO_INFORMATION, flags)
        turn = np.broadcast_to(np.diag(factor), (len(labels), len(factor), len(factor)))
        return Corrected(
            labels=replaced(_with_errors(labels, self.names), new, turn, variance),
            raw=labels,
            correction=shift,
            sigma=sigma,
            support=share,
            flags=flags.astype(np.int64),
        )

    def _at(
        self, labels: T, extra: Mapping[str, NDArray] | None
    ) -> dict[str, tuple[NDArray, NDArray, NDArray]]:
        """As `LabelCorrection.at` of each label, at inputs that are themselves corrected."""
        known = {name: one for name, one in self.labels.items() if name in labels.names}
        points = {n: input_values(one.inputs.names, labels, extra) for n, one in known.items()}
        moved = points
        for _ in range(STEPS if any(one.inputs.theirs.any() for one in known.values()) else 0):
            found = {n: one.at(moved[n], variances=False)[0] for n, one in known.items()}
            moved = {
                name: points[name] + _moves(one.inputs, found, len(labels))
                for name, one in known.items()
            }
        return {name: one.at(moved[name]) for name, one in known.items()}


def _moves(inputs: Inputs, found: Mapping[str, NDArray], count: int) -> NDArray:
    """Return by what inputs are moved where labels are corrected, shape (N, D)."""
    zero = np.zeros(count)
    each = [found.get(name, zero) for name in inputs.names]
    return np.asarray(np.column_stack(each) * inputs.theirs)


def input_values(names: tuple[str, ...], labels: T, extra: Mapping[str, NDArray] | None) -> NDArray:
    """Return columns of labels and others, shape (N, D).

    Raises
    ------
    InputError
        If one is missing.
    """
    values, extra, found = values_of(labels), extra or {}, []
    for name in names:
        if name in labels.names:
            found.append(values[:, labels.names.index(name)])
        elif name in extra:
            found.append(np.asarray(extra[name], dtype=float))
        else:
            raise InputError(
                "inputs",
                expected=f"columns {', '.join(names)}",
                found=", ".join(list(labels.names) + list(extra)),
                fix=f"Missing: {name}; --columns says what it is called in the table.",
            )
    return np.column_stack(found)


def _with_errors(labels: T, names: tuple[str, ...]) -> T:
    """Labels whose missing errors are 0 where a correction says what they are."""
    if not isinstance(labels, Labels):
        return labels
    use = np.isin(labels.names, names) & np.isfinite(labels.values)
    sigma = np.where(use, np.nan_to_num(labels.sigma), labels.sigma)
    return Labels(labels.names, labels.values, sigma, labels.star_id)
