"""What compact spectra learn from: labels and spectra of stars at the finest nodes."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor

from spectrolabe.models.emulator import Emulator
from spectrolabe.models.node_spectra import BROADENING, NodeSpectra
from spectrolabe.training.sky import SkyStream
from spectrolabe.training.stars import Stars

__all__ = ["NodeScale", "each_spectrum", "node_labels"]

TOGETHER = 8  # stars at a time


class NodeScale(NamedTuple):
    """Centre and width, shape (A,), of the labels of emulators and of ln(v_broad).

    Parameters
    ----------
    names : tuple of str, length A
    centre, width : ndarray, shape (A,)
    """

    names: tuple[str, ...]
    centre: NDArray
    width: NDArray

    @classmethod
    def of(cls, stream: SkyStream, stars: Stars) -> NodeScale:
        """Mean and standard deviation of stars."""
        values = node_labels(stars)
        names = (*stream.emulators[0].names, "v_broad")
        return cls(names, values.mean(axis=0), values.std(axis=0))

    def scaled(self, stars: Stars) -> Tensor:
        """Scaled labels of stars, (N, A)."""
        return torch.from_numpy((node_labels(stars) - self.centre) / self.width).float()

    def range(self, emulator: Emulator) -> tuple[Tensor, Tensor]:
        """Lowest and highest scaled labels."""
        ends = zip((emulator.low, emulator.high), np.log(BROADENING), strict=True)
        low, high = ((np.append(a, b) - self.centre) / self.width for a, b in ends)
        return torch.from_numpy(low), torch.from_numpy(high)


def node_labels(stars: Stars) -> NDArray:
    """Return the labels of emulators and ln(v_broad / km/s), shape (N, A)."""
    broad = np.log(np.clip(stars.v_broad, *BROADENING))
    return np.concatenate([stars.atmosphere, broad[:, None]], axis=1)


def each_spectrum(
    maker: NodeSpectra, stars: Stars, width: NDArray | None, title: str, progress: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield what `NodeSpectra.spectra` returns of a few stars at a time, the next ones ahead.

    Parameters
    ----------
    maker : NodeSpectra
    stars : Stars
    width : ndarray, shape (A,), optional
    title : str
        Of a progress bar.
    progress : bool
    """
    labels = node_labels(stars)
    size = TOGETHER if width is None else 1
    groups = np.array_split(np.arange(len(stars)), -(-len(stars) // size))
    with ThreadPoolExecutor(2) as pool:
        make = lambda rows: maker.spectra(labels[rows], width)  # noqa: E731
        ahead = [pool.submit(make, rows) for rows in groups[:4]]
        for i in track(range(len(groups)), title, disable=not progress):
            if i + 4 < len(groups):
                ahead.append(pool.submit(make, groups[i + 4]))
            yield ahead.pop(0).result()
