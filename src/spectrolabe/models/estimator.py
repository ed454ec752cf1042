"""The estimator: a trained encoder with its label scale, recalibration and coverage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from spectrolabe.errors import InputError
from spectrolabe.labels import Labels, LabelScale
from spectrolabe.models.encoder import Encoder
from spectrolabe.models.heads import HeadOutput
from spectrolabe.models.left_out import left_out
from spectrolabe.models.pixels import PixelBatch, collate, rest_wavelength, row_of
from spectrolabe.models.posterior import LabelPosterior
from spectrolabe.models.tokens import tokenise
from spectrolabe.models.uncertainty import Coverage, Recalibration
from spectrolabe.spectra import Spectrum
from spectrolabe.spectra.degrade import degrade

__all__ = ["Estimate", "Estimator", "Neighbours", "encode", "encode_with_levels", "numbers"]


@dataclass(frozen=True, eq=False)
class Estimate:
    """What the estimator says of N stars.

    Parameters
    ----------
    raw, calibrated : LabelPosterior
        Before and after the recalibration of the uncertainties.
    distance : ndarray, shape (N,)
        To the training stars, in units of the coverage limit: above 1 a star is not covered.
    embedding : ndarray, shape (N, D)
        Where the stars are among the training stars.
    """

    raw: LabelPosterior
    calibrated: LabelPosterior
    distance: NDArray
    embedding: NDArray


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The training stars that are most like each of N stars, the nearest first.

    Parameters
    ----------
    star_id : ndarray of str, shape (N, n)
        Of the training stars.
    distance : ndarray, shape (N, n)
        In units of the coverage limit.
    labels : Labels
        What the training stars were taught with: N n rows, those of the first star first.
    """

    star_id: NDArray
    distance: NDArray
    labels: Labels


def encode(encoder: Encoder, pixels: PixelBatch) -> tuple[NDArray, NDArray, NDArray]:
    """Return scaled mean (S, L), scaled covariance (S, L, L) and embedding (S, D) of a batch."""
    return encode_with_levels(encoder, pixels)[:3]


@torch.inference_mode()
def encode_with_levels(
    encoder: Encoder, pixels: PixelBatch
) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """Return what `encode` does, and scaled levels, shape (S, L, Q); Q = 0 of a normal head."""
    return numbers(encoder, encoder(tokenise(pixels), pixels.star))


def numbers(encoder: Encoder, output: HeadOutput) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """Return the same of what an encoder has said."""
    sigma = output.log_sigma.exp()
    place = output.embedding
    if output.doubt is not None:
        place = torch.cat([place, output.doubt], dim=1)
    covariance = output.correlation * sigma[:, :, None] * sigma[:, None, :]
    return (
        output.mean.double().cpu().numpy(),
        covariance.double().cpu().numpy(),
        place.float().cpu().numpy(),
        encoder.head.levels(output).double().cpu().numpy(),
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
        """Move the weights to a device and return the estimator.

        Raises
        ------
        InputError
            If there is no such device on this machine.
        """
        try:
            self.encoder.to(device)
        except (RuntimeError, AssertionError) as error:
            raise InputError(
                "device",
                expected="cpu, or what PyTorch finds on this machine: "
                f"{'cuda' if torch.cuda.is_available() else 'nothing else'}",
                found=repr(str(device)),
                fix="Leave --device out, or install the build of PyTorch for your GPU.",
            ) from error
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
            encode_with_levels(
                self.encoder,
                collate([[row_of(self.readable(s)) for s in star] for star in chunk]).to(device),
            )
            for chunk in (stars[i : i + batch_size] for i in range(0, len(stars), batch_size))
        ]
        mean, covariance, embedding, levels = (
            np.concatenate(part) for part in zip(*parts, strict=True)
        )
        return self.physical(
            mean,
            covariance,
            embedding,
            np.array([np.sqrt(sum(s.snr**2 for s in star)) for star in stars]),
            np.array([star[0].star_id for star in stars]),
            surveys=[_survey_of(star) for star in stars],
            levels=levels,
        )

    def readable(self, spectrum: Spectrum) -> Spectrum:
        """Return it without what the model has not seen or should not read, and no sharper."""
        trained = self.card.get("training_data", {})
        if "wavelength_ranges" not in trained:
            return spectrum
        rest = rest_wavelength(spectrum)
        inside = [(rest >= low) & (rest <= high) for low, high in trained["wavelength_ranges"]]
        seen = np.logical_or.reduce(inside)
        if spectrum.survey not in trained.get("real_surveys", ()):
            seen &= ~left_out(spectrum, trained.get("left_out", ()))
        if not seen.all():
            spectrum = spectrum.replace(ivar=np.where(seen, spectrum.ivar, np.float32(0.0)))
        return degrade(spectrum, trained["resolution_range"][1])

    def physical(
        self,
        mean: NDArray,
        covariance: NDArray,
        embedding: NDArray,
        snr: NDArray,
        ids: NDArray,
        *,
        surveys: Sequence[str] | None = None,
        levels: NDArray | None = None,
    ) -> Estimate:
        """Return what `encode` gives in physical units, before and after recalibration.

        Parameters
        ----------
        mean, covariance, embedding : ndarray, shapes (N, L), (N, L, L) and (N, D)
        snr : ndarray, shape (N,)
            S/N a pixel of all spectra of a star together.
        ids : ndarray of str, shape (N,)
        surveys : sequence of str, length N, optional
            Which survey has seen each star; empty for several. Not given, the recalibration is
            that of all surveys together.
        levels : ndarray, shape (N, L, Q), optional
            As `encode_with_levels` gives them.
        """
        fixed = self.recalibration.of([""] * len(mean) if surveys is None else surveys)
        calibrated = fixed.covariance(covariance, snr)
        quantiles = None if levels is None or levels.shape[-1] == 0 else levels
        return Estimate(
            raw=self._posterior(mean, covariance, ids, quantiles),
            calibrated=self._posterior(
                mean + fixed.shift,
                calibrated,
                ids,
                None
                if quantiles is None
                else _moved(quantiles, mean, covariance, fixed, calibrated),
            ),
            distance=self.coverage.distance(embedding) / self.coverage.limit,
            embedding=embedding,
        )

    def _posterior(
        self, mean: NDArray, covariance: NDArray, ids: NDArray, levels: NDArray | None
    ) -> LabelPosterior:
        """In physical units."""
        unscale = self.scale.unscale
        if levels is not None:
            levels = np.moveaxis(unscale(np.moveaxis(levels, 2, 1)), 1, 2)
        covariance = self.scale.unscale_covariance(covariance)
        return LabelPosterior(self.names, unscale(mean), covariance, ids, levels)

    def neighbours(
        self, stars: Sequence[Sequence[Spectrum]] | Estimate, count: int = 5
    ) -> Neighbours:
        """Return the training stars that are nearest in the embedding.

        Parameters
        ----------
        stars : sequence of sequence of Spectrum, or Estimate
            As for `estimate`, or what it returned.
        count : int
            Of each star; all training stars that the model keeps where it has fewer.

        Raises
        ------
        InputError
            If the model does not say which stars its reference is.
        """
        estimate = stars if isinstance(stars, Estimate) else self.estimate(stars)
        known = self.coverage.stars
        if known is None:
            raise InputError(
                str(self.card.get("name", "model")),
                expected="a model that says which training stars it keeps",
                found="one that keeps their embeddings only",
                fix="Train it again with this version.",
            )
        which, distance = self.coverage.nearest(estimate.embedding, min(count, len(known)))
        return Neighbours(
            known.star_id[which], distance / self.coverage.limit, known.take(which.ravel())
        )

    def predict(self, stars: Sequence[Sequence[Spectrum]]) -> LabelPosterior:
        """Return the calibrated posterior of each star."""
        return self.estimate(stars).calibrated

    def predict_labels(self, stars: Sequence[Sequence[Spectrum]]) -> Labels:
        """Return values and standard deviations only."""
        return self.predict(stars).to_labels()


def _survey_of(star: Sequence[Spectrum]) -> str:
    """The survey of all spectra of a star; empty where there are several."""
    surveys = {spectrum.survey for spectrum in star}
    return surveys.pop() if len(surveys) == 1 else ""


def _moved(
    levels: NDArray, mean: NDArray, covariance: NDArray, fixed: Recalibration, calibrated: NDArray
) -> NDArray:
    """Levels shifted, and as much wider about the mean as the standard deviation is."""
    before, after = (np.diagonal(c, axis1=1, axis2=2) for c in (covariance, calibrated))
    ratio = np.sqrt(after / before)
    new = (mean + fixed.shift)[..., None]
    return new + (levels - mean[..., None]) * ratio[..., None]
