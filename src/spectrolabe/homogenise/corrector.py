"""What a corrector of labels is, and what it returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from numpy.typing import NDArray

from spectrolabe.labels import Labels
from spectrolabe.models.posterior import LabelPosterior

__all__ = ["Corrected", "Corrector"]

T = TypeVar("T", Labels, LabelPosterior)


@dataclass(frozen=True, eq=False)
class Corrected(Generic[T]):
    """Labels on the corrected scale, beside what they were.

    Parameters
    ----------
    labels, raw : Labels or LabelPosterior
        N stars, L labels; of one type.
    correction, sigma : ndarray, shape (N, L)
        What was added to the raw values and its standard deviation; 0 for labels that the corrector
        does not know.
    support : ndarray, shape (N, L)
        1 where the correction holds in full, 0 where it has faded to the zero point.
    flags : ndarray of int, shape (N, L)
        Bits of `spectrolabe.catalogue.schema.LabelFlag`: ``EXTRAPOLATED``, ``UNCALIBRATED``,
        ``NO_INFORMATION``.
    """

    labels: T
    raw: T
    correction: NDArray
    sigma: NDArray
    support: NDArray
    flags: NDArray


class Corrector(Protocol):
    """Anything that maps labels to labels on another scale, with uncertainties."""

    @property
    def names(self) -> tuple[str, ...]:
        """The labels that it corrects."""

    def apply(self, labels: T) -> Corrected[T]:
        """Return the corrected labels; those that it does not correct stay as they are."""
