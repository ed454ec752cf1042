"""A training that somebody stops."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from numpy.testing import assert_allclose

from spectrolabe.models.checkpoint import load
from spectrolabe.training import trainer


def stopped_in(epoch: int, make: Callable[[], Path]) -> None:
    """Call what trains, and interrupt it when it comes to an epoch."""
    original = trainer._epoch

    def interrupted(state, *arguments):
        if state.epoch == epoch:
            raise KeyboardInterrupt
        return original(state, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "_epoch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            make()


def assert_same_weights(one: Path, other: Path, atol: float = 1e-6) -> None:
    """Compare the weights of two models."""
    a, b = (load(folder).encoder.state_dict() for folder in (one, other))
    for name, value in a.items():
        assert_allclose(value, b[name], atol=atol, err_msg=name)
