"""Baselines: what standard regressions reach on the same spectra, behind the same interface.

A new one is a file with a subclass of `Baseline` that trains one member, and a line in `BASELINES`.
"""

from spectrolabe.errors import unknown_name
from spectrolabe.models.baselines.base import Baseline
from spectrolabe.models.baselines.convolutional import ConvolutionalBaseline
from spectrolabe.models.baselines.features import PixelFeatures
from spectrolabe.models.baselines.neighbours import NeighboursBaseline
from spectrolabe.models.baselines.ridge import RidgeBaseline
from spectrolabe.models.baselines.trees import TreesBaseline

__all__ = ["BASELINES", "Baseline", "PixelFeatures", "baseline"]

BASELINES: dict[str, type[Baseline]] = {
    "ridge": RidgeBaseline,
    "trees": TreesBaseline,
    "cnn": ConvolutionalBaseline,
    "neighbours": NeighboursBaseline,
}
"""Every baseline by name."""


def baseline(name: str) -> type[Baseline]:
    """Return a baseline by name; an unknown one is an error that lists them all."""
    if name not in BASELINES:
        raise unknown_name("baseline", name, BASELINES, kind="baseline")
    return BASELINES[name]
