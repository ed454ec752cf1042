"""From fitted weights to a model that can be released: recalibration and coverage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray

from spectrolabe.config import TrainConfig
from spectrolabe.errors import InputError
from spectrolabe.labels import Labels, LabelScale
from spectrolabe.models.encoder import Encoder
from spectrolabe.models.estimator import Estimator, encode
from spectrolabe.models.uncertainty import FEWEST, Coverage, Recalibration
from spectrolabe.training.augmentation import batches
from spectrolabe.training.card import make_card
from spectrolabe.training.data import Sample
from spectrolabe.training.loop import Run
from spectrolabe.training.offsets import MeasuredOffsets, measure, number_of_reference
from spectrolabe.training.pretrain import Seen
from spectrolabe.training.transfer import Start

__all__ = ["Sky", "Unseen", "encode_sample", "finished", "on_unseen"]

REFERENCES = 5000  # training stars kept for the coverage
SIMULATED = 400  # stars of each survey of a sky that recalibrate
FEWEST_TO_WIDEN = 5  # stars, below which they cannot tell that it is too narrow


class Sky(Protocol):
    """A simulated sky to learn from beside real stars."""

    def losses(self, run: Run, rng: np.random.Generator) -> Iterator[torch.Tensor]:
        """Yield losses of the model of a run, each on a new batch; begun again where it ends."""

    def references(
        self, encoder: Encoder, count: int, rng: np.random.Generator
    ) -> tuple[NDArray, Labels]:
        """Return embeddings (K, D) of about ``count`` stars, and their labels."""

    def seen(self, encoder: Encoder, count: int, rng: np.random.Generator) -> Seen:
        """Return what a model says of new stars, ``count`` for each survey."""


def encode_sample(encoder: Encoder, sample: Sample) -> tuple[NDArray, NDArray, NDArray]:
    """Return scaled mean (N, L), scaled covariance (N, L, L) and embedding (N, D) of a sample."""
    encoder.eval()
    device = next(encoder.parameters()).device
    parts = [encode(encoder, pixels.to(device)) for pixels, _ in batches(sample, 32)]
    mean, covariance, embedding = (np.concatenate(part) for part in zip(*parts, strict=True))
    return mean, covariance, embedding


class Unseen(NamedTuple):
    """What a model says of stars it has not seen, and how much farther out they lie.

    Parameters
    ----------
    residual, sigma : ndarray, shape (N, L)
        Scaled label on the scale of the reference less estimate, and its standard deviation.
    sample : Sample
        N entries.
    farther : float
        Distance to the training stars in units of the distance of these to each other.
    offset : ndarray, shape (C, L), optional
        Of each catalogue, scaled, as taken off its labels.
    """

    residual: NDArray
    sigma: NDArray
    sample: Sample
    farther: float
    offset: NDArray | None


def on_unseen(
    encoder: Encoder, train: Sample, unseen: Sample, scale: LabelScale, offset: NDArray | None
) -> Unseen:
    """Try an encoder on stars that it has not seen.

    Parameters
    ----------
    encoder : Encoder
    train, unseen : Sample
    scale : LabelScale
    offset : ndarray, shape (C, L), optional
        Of each catalogue, scaled.
    """
    mean, covariance, embedding = encode_sample(encoder, unseen)
    inside = Coverage.fit(encode_sample(encoder, train)[2])
    residual = scale.scale(unseen.labels.values) - mean
    if offset is not None:
        residual = residual - offset[unseen.catalogue]
    return Unseen(
        residual,
        np.sqrt(np.diagonal(covariance, axis1=1, axis2=2)),
        unseen,
        inside.farther(embedding),
        offset,
    )


def finished(
    config: TrainConfig,
    encoder: Encoder,
    scale: LabelScale,
    train: Sample,
    unseen: Sequence[Unseen],
    start: Start | None = None,
    sky: Sky | None = None,
) -> Estimator:
    """Return the estimator of fitted weights.

    Parameters
    ----------
    config : TrainConfig
    encoder : Encoder
    scale : LabelScale
    train : Sample
        What the weights were fitted to.
    unseen : sequence of Unseen
        By the same recipe, stars that were not fitted to; may be empty where there is a start.
    start : Start, optional
        What the weights were before.
    sky : Sky, optional
        What they were fitted to as well.
    """
    if not unseen and start is None:
        raise InputError(
            config.name,
            expected="stars kept apart, on which uncertainties are recalibrated",
            found=f"data.calibration = {config.data.calibration:g} and no data.folds",
            fix="Only a model that starts from another one can do without.",
        )
    residual, measured = _residuals(config, unseen, len(scale.names))
    before = None if start is None else start.estimator.recalibration
    if sky is not None:  # weights that have learnt since then are judged anew
        rng = np.random.default_rng([config.training.seed, 2**31, 1])
        seen = sky.seen(encoder, SIMULATED, rng)
        before = Recalibration.fit(seen.residual, seen.sigma, seen.snr, seen.survey.tolist())
    recalibration, old = _recalibration(residual, unseen, before)
    if sky is not None and before is not None:
        recalibration = _beside(before, recalibration, unseen)
    kept = tuple(scale.names[j] for j in old)
    return Estimator(
        encoder.cpu(),
        scale,
        recalibration,
        _coverage(config, encoder, train, unseen, sky),
        make_card(config, scale, train, residual, start, kept, measured, sky is not None),
    )


def _residuals(
    config: TrainConfig, unseen: Sequence[Unseen], labels: int
) -> tuple[NDArray, MeasuredOffsets | None]:
    """Residuals of all unseen stars on the scale of the reference, and the offsets they tell."""
    if not unseen:
        return np.empty((0, labels)), None
    residual = np.concatenate([part.residual for part in unseen])
    if not config.data.reference:
        return residual, None
    catalogue, spectrum, star = (
        np.concatenate(parts)
        for parts in zip(
            *((u.sample.catalogue, u.sample.spectrum, u.sample.labels.star_id) for u in unseen),
            strict=True,
        )
    )
    reference = number_of_reference(config.data)
    rng = np.random.default_rng(config.training.seed)
    count = len(config.data.stores)
    found = measure(residual, catalogue, spectrum, star, reference, count, rng)
    learnt = np.array([cast(NDArray, part.offset) for part in unseen])
    # what the models of different folds do not agree about is an error, too
    between = learnt.std(axis=0, ddof=min(1, len(learnt) - 1)) / np.sqrt(len(learnt))
    measured = MeasuredOffsets(learnt.mean(axis=0) + found.value, np.hypot(found.sigma, between))
    return residual - found.value[catalogue], measured


def _recalibration(
    residual: NDArray, unseen: Sequence[Unseen], before: Recalibration | None
) -> tuple[Recalibration, list[int]]:
    """Recalibrate on unseen stars; with too few of them, keep what was before, not narrower.

    Also returns the columns of the labels whose recalibration is that of before.
    """
    sigma = np.concatenate([part.sigma for part in unseen] or [residual])
    snr, survey = (
        np.concatenate([part.sample.column(name) for part in unseen] or [np.empty(0)])
        for name in ("snr", "survey")
    )
    if before is None:
        return Recalibration.fit(residual, sigma, snr, survey), []
    old = before
    if len(set(survey.tolist())) == 1:
        old = old.surveys.get(str(survey[0]), old)
    factor = _widening(residual, old.sigma(sigma, snr))
    otherwise = Recalibration(old.shift, factor * old.scale, factor * old.floor, factor * old.noise)
    few = np.flatnonzero(np.isfinite(residual).sum(axis=0) < FEWEST)
    return Recalibration.fit(residual, sigma, snr, survey, otherwise), few.tolist()


def _beside(before: Recalibration, own: Recalibration, unseen: Sequence[Unseen]) -> Recalibration:
    """Return the terms of all surveys: of simulated stars, but of the real ones where there are."""
    surveys = {name for part in unseen for name in part.sample.column("survey").tolist()}
    real = {name: own.surveys.get(name, own) for name in sorted(surveys)}
    return Recalibration(
        before.shift, before.scale, before.floor, before.noise, {**before.surveys, **real}
    )


def _widening(residual: NDArray, sigma: NDArray) -> NDArray:
    """Factors by which the uncertainties of a start must grow, at least 1, shape (L,)."""
    factor = np.ones(residual.shape[1])
    for j in range(len(factor)):
        known = np.isfinite(residual[:, j])
        if known.sum() >= FEWEST_TO_WIDEN:
            pull = np.abs(residual[known, j]) / sigma[known, j]
            factor[j] = max(1.0, np.quantile(pull, 0.683))
    return factor


def _coverage(
    config: TrainConfig,
    encoder: Encoder,
    train: Sample,
    unseen: Sequence[Unseen],
    sky: Sky | None,
) -> Coverage:
    rng = np.random.default_rng(config.training.seed)
    chosen = _one_of_each(train)
    chosen = chosen.take(np.sort(rng.permutation(len(chosen))[:REFERENCES]))
    reference, stars = encode_sample(encoder, chosen)[2], chosen.labels
    if sky is not None:
        simulated, labels = sky.references(encoder, REFERENCES, rng)
        reference, stars = np.concatenate([reference, simulated]), _joined(stars, labels)
    inside = Coverage.fit(reference)
    farther = float(np.median([part.farther for part in unseen])) if unseen else 1.0
    return Coverage(inside.reference, inside.width, inside.limit * farther, stars)


def _one_of_each(sample: Sample) -> Sample:
    """Each spectrum once, whatever the number of catalogues that have its star."""
    return sample.take(np.sort(np.unique(sample.spectrum, return_index=True)[1]))


def _joined(one: Labels, other: Labels) -> Labels:
    other = other.select(one.names)
    return Labels(
        one.names,
        *(
            np.concatenate([getattr(part, name) for part in (one, other)])
            for name in ("values", "sigma", "star_id")
        ),
    )
