"""Stars that no model was trained on, as the surveys of a clean synthetic sky see them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from spectrolabe.config import StreamConfig
from spectrolabe.models.checkpoint import load
from spectrolabe.models.estimator import Estimate, Estimator, numbers
from spectrolabe.models.pixels import PixelBatch
from spectrolabe.models.tokens import Tokens, tokenise
from spectrolabe.training.observing import Conditions, observe
from spectrolabe.training.pretrain import encode_views
from spectrolabe.training.sky import SkyBatch, SkyStream
from spectrolabe.training.stars import EXPOSURE, Stars

__all__ = ["MAIN", "SEED", "SURVEYS", "Sky", "Views", "abundances", "chunks", "read_sky", "told_by"]

SURVEYS = ("apogee", "galah", "desi", "gaia_rvs", "lamost_lrs", "sdss_boss")
MAIN = ("teff", "logg", "fe_h")
SEED = 2025  # training has seeds of its own: its configuration's, the epoch and the process
CLEAN = {
    "line_error": 0.0,
    "scattered": 0.0,
    "resolution_error": 0.0,
    "arm_velocity": 0.0,
    "drop_arms": 0.0,
    "drop_pixels": 0.0,
    "masked": 0.0,
    "coarser": 0.0,
    "apart": 0.0,
}
CHUNK = 16  # stars at a time
QUIET = 1e9  # S/N of a spectrum without noise
KINDS = {
    "mixed": {},
    "galaxy": {"field": 1.0, "abundance_scatter": 0.0},
    "independent": {"field": 0.0},
}


@dataclass(frozen=True, eq=False)
class Views:
    """What a model says of N stars.

    Parameters
    ----------
    names : tuple of str
    truth, mean, sigma : ndarray, shape (N, L)
        Physical units, calibrated.
    covariance : ndarray, shape (N, L, L)
    raw_sigma : ndarray, shape (N, L)
        Before the recalibration.
    snr : ndarray, shape (N,)
    """

    names: tuple[str, ...]
    truth: NDArray
    mean: NDArray
    sigma: NDArray
    covariance: NDArray
    raw_sigma: NDArray
    snr: NDArray

    def of(self, name: str) -> tuple[NDArray, NDArray, NDArray]:
        """Truth, mean and sigma of one label, each of shape (N,)."""
        j = self.names.index(name)
        return self.truth[:, j], self.mean[:, j], self.sigma[:, j]

    def error(self, name: str) -> NDArray:
        """Estimate less truth of one label, shape (N,)."""
        truth, mean, _ = self.of(name)
        return mean - truth

    @classmethod
    def joined(cls, parts: Sequence[Views]) -> Views:
        """All stars of several."""
        fields = ("truth", "mean", "sigma", "covariance", "raw_sigma", "snr")
        stacked = (np.concatenate([getattr(part, key) for part in parts]) for key in fields)
        return cls(parts[0].names, *stacked)


@dataclass(frozen=True, eq=False)
class Sky:
    """A model, and the clean sky that it was trained on.

    Parameters
    ----------
    model : Estimator
    stream : SkyStream
        Of the labels of the model, in the conditions of the benchmark.
    """

    model: Estimator
    stream: SkyStream

    @property
    def names(self) -> tuple[str, ...]:
        """Labels of the model."""
        return self.model.names

    def stars(self, kind: str, count: int, seed: Sequence[int] = ()) -> Stars:
        """Draw stars: ``mixed`` as in training, of the ``galaxy``, or ``independent``."""
        rng = np.random.default_rng([SEED, list(KINDS).index(kind), *seed])
        config = self.stream.config
        try:
            self.stream.config = config.model_copy(update=KINDS[kind])
            return self.stream.stars(count, rng)
        finally:
            self.stream.config = config

    def seen(
        self, survey: str, stars: Stars, snr: NDArray | float, seed: Sequence[int]
    ) -> tuple[PixelBatch, NDArray, Conditions]:
        """Return spectra of all arms, true labels (N, L), and how the stars were observed.

        With the same seed all but the size of the noise is the same.
        """
        rng = np.random.default_rng([SEED, SURVEYS.index(survey), *seed])
        instrument, config = self.stream.instruments[survey], self.stream.config
        conditions = Conditions.draw(config, instrument, len(stars), rng, 1.0)
        conditions = replace(conditions, snr=np.broadcast_to(snr, len(stars)).astype(float))
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        (pixels,) = observe(instrument, stars, conditions, config, rng, generator)
        truth = stars.values.copy()
        if EXPOSURE in self.names:
            truth[:, self.names.index(EXPOSURE)] = conditions.residual
        return pixels, truth, conditions

    @torch.inference_mode()
    def views(
        self, parts: Sequence[tuple[str, PixelBatch, NDArray, NDArray]], covariance: bool = True
    ) -> Views:
        """Return what the model says of N stars from one or more spectra of each.

        Parameters
        ----------
        parts : sequence of (survey, PixelBatch, truth, snr)
            The same N stars in each.
        covariance : bool
            Keep it.
        """
        encoder = self.model.encoder
        count, surveys = len(parts[0][2]), {part[0] for part in parts}
        tokens = [self._tokens(part[1], part[2]) for part in parts]
        row, which = np.divmod(np.arange(count * len(parts)), len(parts))
        spectrum = torch.from_numpy(which * count + row)
        output = encoder(tokens, torch.from_numpy(row), spectrum=spectrum)
        mean, scaled, embedding, levels = numbers(encoder, output)
        snr = np.sqrt(np.sum([part[3] ** 2 for part in parts], axis=0))
        estimate = self.model.physical(
            mean,
            scaled,
            embedding,
            snr,
            np.arange(count).astype(str),
            surveys=[surveys.copy().pop() if len(surveys) == 1 else ""] * count,
            levels=levels,
        )
        truth = parts[0][2].copy()
        if len(parts) > 1 and EXPOSURE in self.names:
            truth[:, self.names.index(EXPOSURE)] = np.nan
        found, raw = estimate.calibrated, estimate.raw
        kept = found.covariance if covariance else np.empty((count, 0, 0))
        return Views(self.names, truth, found.mean, found.sigma, kept, raw.sigma, snr)

    def _tokens(self, pixels: PixelBatch, truth: NDArray) -> Tokens:
        """With what a model has learnt that real spectra have, as the sky that it learns from."""
        tokens, guesser = tokenise(pixels), self.model.encoder.guesser
        if guesser is None:
            return tokens
        scaled = torch.from_numpy(self.model.scale.scale(truth)).float()
        return guesser.as_observed(tokens, scaled)

    def estimated(
        self, survey: str, stars: Stars, snr: NDArray | float, seed: Sequence[int]
    ) -> Views:
        """Return what the model says of stars that one survey has seen."""
        snr = np.broadcast_to(snr, len(stars)).astype(float)
        parts = []
        for k, rows in enumerate(chunks(len(stars))):
            pixels, truth, _ = self.seen(survey, stars.take(rows), snr[rows], [*seed, k])
            parts.append(self.views([(survey, pixels, truth, snr[rows])], covariance=False))
        return Views.joined(parts)


def told_by(model: Estimator, batches: Sequence[SkyBatch], survey: str) -> tuple[Estimate, NDArray]:
    """Return what a model says of stars that one survey sees, and the truth, (N, L)."""
    parts = [encode_views(model.encoder, batch) for batch in batches]
    mean, covariance, embedding, levels = map(np.concatenate, zip(*parts, strict=True))
    estimate = model.physical(
        mean,
        covariance,
        embedding,
        np.concatenate([batch.snr for batch in batches]),
        np.arange(len(mean)).astype(str),
        surveys=[survey] * len(mean),
        levels=levels,
    )
    target = np.concatenate([batch.target.double().numpy() for batch in batches])
    return estimate, model.scale.unscale(target)


def chunks(count: int) -> list[NDArray]:
    """Rows of some stars at a time."""
    return [np.arange(i, min(i + CHUNK, count)) for i in range(0, count, CHUNK)]


def abundances(names: Sequence[str]) -> list[str]:
    """[X/Fe] among labels."""
    return [name for name in names if name.endswith("_fe")]


def read_sky(folder: Path) -> Sky:
    """Load a model and make its sky, for one core."""
    torch.set_num_threads(1)
    model = load(folder)
    known: dict[str, Any] = dict(model.card["configuration"].get("sky") or {})
    known |= {**CLEAN, "surveys": dict.fromkeys(SURVEYS, 1.0)}
    return Sky(model, SkyStream(StreamConfig(**known), scale=model.scale))
