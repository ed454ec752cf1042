"""Learning what follows from labels of a fit for stars of the Galaxy; see `models.deduced`."""

from __future__ import annotations

import numpy as np

from spectrolabe.models.guess import Guesser
from spectrolabe.training.node_scale import node_labels
from spectrolabe.training.sky import SkyStream
from spectrolabe.training.stars import GALACTIC

__all__ = ["learn_deduced"]

STARS = 40_000
FROM = ("teff", "logg", "fe_h", "c_fe", "n_fe", "mg_fe")


def learn_deduced(guesser: Guesser, stream: SkyStream, rng: np.random.Generator) -> None:
    """Let first fits say what follows from their labels.

    Parameters
    ----------
    guesser : Guesser
        Is changed.
    stream : SkyStream
        Of whose stars it is.
    rng : Generator
    """
    wanted = [name for name in GALACTIC if name in stream.names]
    names = stream.emulators[0].names
    if not wanted or not set(FROM) <= set(names):
        return
    stars, compact = stream.stars(STARS, rng), guesser.compact
    centre, width = (x.double().numpy(force=True) for x in (compact.centre, compact.width))
    known = (node_labels(stars) - centre) / width
    where = [stream.names.index(name) for name in wanted]
    scaled = stream.scale.scale(stars.values)[:, where]
    guesser.deduced.learn([names.index(name) for name in FROM], known, where, scaled)
