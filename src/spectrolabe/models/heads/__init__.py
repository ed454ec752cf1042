"""Heads: the last layer, from what a model knows of a star to a distribution over scaled labels.

`HEADS` has them all by the name that a configuration gives. Each maps (S, width) to a `HeadOutput`
and has a loss of its own; labels that are not known, NaN, do not count in it.
"""

from __future__ import annotations

from spectrolabe.config import HeadConfig
from spectrolabe.models.heads.binned import BinnedHead
from spectrolabe.models.heads.gaussian import CorrelatedHead, correlated_t_loss
from spectrolabe.models.heads.output import HeadOutput, Prior

__all__ = [
    "HEADS",
    "BinnedHead",
    "CorrelatedHead",
    "Head",
    "HeadOutput",
    "Prior",
    "correlated_t_loss",
    "make_head",
]

Head = CorrelatedHead | BinnedHead

HEADS: dict[str, type[Head]] = {"gaussian": CorrelatedHead, "binned": BinnedHead}


def make_head(config: HeadConfig, width: int, hidden: int, labels: int, dropout: float) -> Head:
    """Return the head that a configuration asks for.

    Parameters
    ----------
    config : HeadConfig
    width, hidden : int
        Of the input and of the layer that is read from.
    labels : int
    dropout : float
    """
    return HEADS[config.kind](width, hidden, labels, dropout, config)
