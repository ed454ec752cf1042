"""The estimator: a trained encoder with its label scale, recalibration and coverage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from spectrolabe.labels import Labels, LabelScale
from spectrolabe.models.encoder import Encoder
from spectrolabe.models.pixels import PixelBatch, collate, row_of
from spectrolabe.models.posterior import LabelPosterior
from spectrolabe.models.tokens import tokenise
from spectrolabe.models.uncertainty import Coverage, Recalibration
from spectrolabe.spectra import Spectrum

__all__ = ["Estimate", "Estimator", "encode"]


@dataclass(frozen=True, eq=False)
class Estimate:
    """What the estimator says of N stars.

    Parameters
    ----------
    raw, calibrated : LabelPosterior
        Before and after the recalibration of the uncertainties.
    distance : ndarray, shape (N,)
        To the training stars, in units of the coverage limit: above 1 a star is not covered.
    """

    raw: LabelPosterior
    calibrated: LabelPosterior
    distance: NDArray


@torch.inference_mode()
def encode(encoder: Encoder, pixels: PixelBatch) -> tuple[NDArray, NDArray, NDArray]:
    """Return scaled mean (S, L), scaled covariance (S, L, L) and embedding (S, D) of a batch."""
    output = encoder(tokenise(pixels), pixels.star)
    sigma = output.log_sigma.exp()
    covariance = output.correlation * sigma[:, :, None] * sigma[:, None, :]
    return (
        output.mean.double().cpu().numpy(),
        covariance.double().cpu().numpy(),
        output.embedding.float().cpu().numpy(),
    )


class Estimator:
    """Labels of stars from any number of spectra each; what ``spectrolabe predict`` runs.

    Parameters
    ----------
    encoder : Encoder
    scale : LabelScale
        Names and scaling of the labels.
    recalibration : Recalibration
    coverage : Coverage
    card : Mapping
        What the model was trained on and how well it does; see `spectrolabe.models.checkpoint`.
    """

    def __init__(
        self,
        encoder: Encoder,
        scale: LabelScale,
        recalibration: Recalibration,
        coverage: Coverage,
        card: Mapping[str, Any],
    ) -> None:
        self.encoder = encoder.eval()
        self.scale = scale
        self.recalibration = recalibration
        self.coverage = coverage
        self.card = card

    @property
    def names(self) -> tuple[str, ...]:
        """The labels predicted."""
        return self.scale.names

    def to(self, device: torch.device | str) -> Estimator:
        """Move the weights to a device and return the estimator."""
        self.encoder.to(device)
        return self

    def estimate(self, stars: Sequence[Sequence[Spectrum]], *, batch_size: int = 32) -> Estimate:
        """Return raw and calibrated posteriors and the coverage of each star.

        Parameters
        ----------
        stars : sequence of sequence of Spectrum
            Outer: N stars; inner: one or more spectra of that star, of any surveys.
        batch_size : int
            Stars computed at once; never changes the result.
        """
        device = next(self.encoder.parameters()).device
        parts = [
            encode(self.encoder, collate([[row_of(s) for s in star] for star in chunk]).to(device))
            for chunk in (stars[i : i + batch_size] for i in range(0, len(stars), batch_size))
        ]
        mean, covariance, embedding = (np.concatenate(part) for part in zip(*parts, strict=True))
        snr = np.array([np.sqrt(sum(s.snr**2 for s in star)) for star in stars])
        ids = np.array([star[0].star_id for star in stars])
        return self.physical(mean, covariance, embedding, snr, ids)

    def physical(
        self, mean: NDArray, covariance: NDArray, embedding: NDArray, snr: NDArray, ids: NDArray
    ) -> Estimate:
        """Return what `encode` gives in physical units, before and after recalibration.

        Parameters
        ----------
        mean, covariance, embedding : ndarray, shapes (N, L), (N, L, L) and (N, D)
        snr : ndarray, shape (N,)
            S/N a pixel of all spectra of a star together.
        ids : ndarray of str, shape (N,)
        """

        def posterior(scaled: NDArray, spread: NDArray) -> LabelPosterior:
            return LabelPosterior(
                self.names, self.scale.unscale(scaled), self.scale.unscale_covariance(spread), ids
            )

        fixed = self.recalibration
        return Estimate(
            raw=posterior(mean, covariance),
            calibrated=posterior(mean + fixed.shift, fixed.covariance(covariance, snr)),
            distance=self.coverage.distance(embedding) / self.coverage.limit,
        )

    def predict(self, stars: Sequence[Sequence[Spectrum]]) -> LabelPosterior:
        """Return the calibrated posterior of each star."""
        return self.estimate(stars).calibrated

    def predict_labels(self, stars: Sequence[Sequence[Spectrum]]) -> Labels:
        """Return values and standard deviations only."""
        return self.predict(stars).to_labels()
