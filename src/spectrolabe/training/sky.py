"""A synthetic sky that is made while a model learns from it: nothing is stored, nothing repeats.

An emulator gives the splines of the stars of a batch at the resolution of an instrument; they are
moved, broadened and drawn on its pixels, and light, dust, air, noise and losses do the rest. All
of it is arithmetic on tensors, on the device where the model is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spectrolabe.config import StreamConfig
from spectrolabe.errors import unknown_name
from spectrolabe.labels import LabelScale
from spectrolabe.models.emulator import Emulator, load_emulator
from spectrolabe.models.first_fit import FirstFit
from spectrolabe.models.pixels import PixelBatch
from spectrolabe.models.released import find_emulators
from spectrolabe.models.tokens import Tokens, tokenise
from spectrolabe.training.instruments import (
    RANDOM,
    StreamInstrument,
    Workshop,
    coarser,
    survey_instrument,
)
from spectrolabe.training.observing import Conditions, observe
from spectrolabe.training.stars import EXPOSURE, Stars, draw_stars, sky_labels, sky_scale

__all__ = ["SkyBatch", "SkyStream"]


@dataclass(frozen=True, eq=False)
class SkyBatch:
    """Stars as surveys see them, and what they are.

    A view is a star as one instrument, or two together, saw it.

    Parameters
    ----------
    tokens : list of Tokens
        Of B spectra altogether, in parts of similar length.
    spectrum, view : Tensor, shape (E,), int64
        Which spectra each of V views is made of: spectrum[e] belongs to view[e], which ascends.
    target : Tensor, shape (V, L)
        Scaled labels; NaN where there are none.
    star : NDArray, shape (V,)
        Which star a view is of.
    instrument : list of str
        Names of the instruments of each view, joined by +.
    snr : NDArray, shape (V,)
        Median S/N a pixel.
    fit : FirstFit, optional
        Of the views, where one was made.
    """

    tokens: list[Tokens]
    spectrum: Tensor
    view: Tensor
    target: Tensor
    star: NDArray
    instrument: list[str]
    snr: NDArray
    fit: FirstFit | None = None


class SkyStream:
    """An endless sky.

    Parameters
    ----------
    config : StreamConfig
    names : tuple of str, optional
        Labels to learn; all that the sky knows if empty.
    scale : LabelScale, optional
        That of a model that is to learn more; then ``names`` are its labels.
    device : str
        Where spectra are made.
    """

    def __init__(
        self,
        config: StreamConfig,
        names: Sequence[str] = (),
        *,
        scale: LabelScale | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.config = config
        folders = [folder for name in config.emulators for folder in find_emulators(name)]
        self.emulators: list[Emulator] = [load_emulator(f).to(device) for f in folders]
        known = sky_labels(self.emulators[0])
        self.names = scale.names if scale is not None else tuple(names) or known
        for name in self.names:
            if name not in known:
                raise unknown_name("labels", name, known, kind="label of the synthetic sky")
        self.scale = scale or sky_scale(config, self.emulators[0], self.names)
        shares = {name: share for name, share in config.surveys.items() if share > 0}
        self.shares = np.array(list(shares.values())) / sum(shares.values())
        self.surveys = list(shares)
        self.instruments = {
            name: survey_instrument(self.emulators, name) for name in shares if name != RANDOM
        }
        self.workshop = Workshop(self.emulators) if RANDOM in shares else None
        self.device = torch.device(device)

    def stars(self, count: int, rng: np.random.Generator) -> Stars:
        """Draw stars."""
        return draw_stars(self.config, self.emulators[0], self.names, count, rng)

    def batch(self, stars: Stars, rng: np.random.Generator) -> SkyBatch:
        """Return stars as two instruments drawn at random see them.

        Parameters
        ----------
        stars : Stars
            S of them.
        rng : Generator
        """
        pair = rng.choice(len(self.surveys), 2, p=self.shares)
        place = rng.random(len(stars))
        both = place < self.config.both
        first = both | (place < 0.5 * (1.0 + self.config.both))
        seen = [np.flatnonzero(first), np.flatnonzero(both | ~first)]
        return self.observed(
            stars,
            [
                (self.draw_instrument(self.surveys[k], rng), rows)
                for k, rows in zip(pair, seen, strict=True)
                if len(rows)
            ],
            rng,
        )

    def draw_instrument(self, name: str, rng: np.random.Generator) -> StreamInstrument:
        """Return an instrument by name, perhaps of lower resolution, or one that is made up."""
        if name == RANDOM:
            assert self.workshop is not None
            return self.workshop.make(rng)
        found = self.instruments[name]
        if rng.random() < self.config.coarser:
            return coarser(found, rng.uniform(2 / 3, 1.0))
        return found

    def observed(
        self,
        stars: Stars,
        views: Sequence[tuple[StreamInstrument, NDArray]],
        rng: np.random.Generator,
        *,
        snr: float | None = None,
    ) -> SkyBatch:
        """Return stars as given instruments see them, and as all that see one do together.

        Parameters
        ----------
        stars : Stars
        views : sequence of (StreamInstrument, ndarray of int)
            Instruments, and the rows of the stars that each sees.
        rng : Generator
        snr : float, optional
            Median S/N a pixel; drawn if not given.
        """
        config, generator = self.config, torch.Generator(self.device)
        generator.manual_seed(int(rng.integers(2**62)))
        scaled = self.scale.scale(stars.values)
        found = _Views()
        for instrument, rows in views:
            conditions = Conditions.draw(config, instrument, len(rows), rng, snr)
            parts = observe(instrument, stars.take(rows), conditions, config, rng, generator)
            target = scaled[rows].copy()
            if EXPOSURE in self.names:
                column = self.names.index(EXPOSURE)
                width, centre = self.scale.width[column], self.scale.centre[column]
                target[:, column] = (conditions.residual - centre) / width
            found.add(instrument.name, rows, target, conditions.snr, parts)
        found.join(self.names)
        return found.batch(self.device)


class _Views:
    """Views as they come together."""

    def __init__(self) -> None:
        self.tokens: list[Tokens] = []
        self.spectra: list[list[int]] = []
        self.star: list[int] = []
        self.target: list[NDArray] = []
        self.instrument: list[str] = []
        self.snr: list[float] = []
        self.count = 0

    def add(
        self, name: str, rows: NDArray, target: NDArray, snr: NDArray, parts: list[PixelBatch]
    ) -> None:
        """Add a view of each star by an instrument whose arms are apart or one."""
        first = self.count
        for pixels in parts:
            self.tokens.append(tokenise(pixels))
            self.count += len(rows)
        for i, row in enumerate(rows):
            self.spectra.append([first + k * len(rows) + i for k in range(len(parts))])
            self.star.append(int(row))
        self.target.extend(target)
        self.snr.extend(snr)
        self.instrument.extend([name] * len(rows))

    def join(self, names: Sequence[str]) -> None:
        """Add a view of each star that was seen more than once: all of its spectra together."""
        where: dict[int, list[int]] = {}
        for view, star in enumerate(self.star):
            where.setdefault(star, []).append(view)
        for star, views in where.items():
            if len(views) < 2:
                continue
            self.spectra.append([s for view in views for s in self.spectra[view]])
            self.star.append(star)
            target = self.target[views[0]].copy()
            if EXPOSURE in names:  # each exposure has its own
                target[names.index(EXPOSURE)] = np.nan
            self.target.append(target)
            self.snr.append(math.sqrt(sum(self.snr[view] ** 2 for view in views)))
            self.instrument.append("+".join(self.instrument[view] for view in views))

    def batch(self, device: torch.device) -> SkyBatch:
        """Return what was put together."""
        spectrum = torch.tensor([s for view in self.spectra for s in view], device=device)
        counts = torch.tensor([len(view) for view in self.spectra])
        view = torch.repeat_interleave(torch.arange(len(counts)), counts).to(device)
        target = torch.from_numpy(np.array(self.target)).float().to(device)
        return SkyBatch(
            self.tokens,
            spectrum,
            view,
            target,
            np.array(self.star),
            self.instrument,
            np.array(self.snr),
        )
