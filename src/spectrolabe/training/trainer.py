"""Training of the encoder, and what makes a released model of it: `train`."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray

from spectrolabe import __version__
from spectrolabe.config import TrainConfig
from spectrolabe.errors import InputError
from spectrolabe.labels import LabelScale
from spectrolabe.models.checkpoint import save_estimator
from spectrolabe.models.encoder import Encoder
from spectrolabe.models.estimator import Estimator, encode
from spectrolabe.models.heads import correlated_t_loss
from spectrolabe.models.tokens import tokenise
from spectrolabe.models.uncertainty import Coverage, Recalibration
from spectrolabe.spectra.store import open_store
from spectrolabe.training.data import Sample, Splits, batches, load_sample, split_stars
from spectrolabe.training.loop import Run, begin, learn

__all__ = ["EncoderTask", "encode_sample", "fit", "train"]

REFERENCES = 5000  # training stars kept for the coverage


def train(
    config: TrainConfig,
    output: str | Path,
    *,
    only: int | None = None,
    progress: bool = True,
) -> Path:
    """Train, recalibrate and write a model; an interrupted call continues where it was.

    Parameters
    ----------
    config : TrainConfig
    output : str or Path
        The run: ``model.safetensors`` and ``card.json`` at the end, ``metrics.jsonl`` all along.
    only : int, optional
        Fit this fold alone, ``config.data.folds`` standing for the fit to all stars, so that
        several processes or machines share the work; a last call without it finishes the run.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Path
        The run, which `spectrolabe.models.checkpoint.load` reads.

    Raises
    ------
    InputError
        If the store does not have what the configuration asks for, or the run was begun with
        another configuration.
    """
    output = begin(output, config)
    sample = load_sample(open_store(config.data.store), config.data)
    scale = LabelScale.fit(sample.labels)
    folds = config.data.folds
    unseen = []
    for part in range(folds + 1) if only is None else [only]:
        splits = _splits(sample, config, part)
        name = f"fold-{part}" if part < folds else "all"
        encoder = fit(config, splits, scale, output / name, progress=progress)
        if only is None and len(splits.calibration):
            unseen.append(_unseen(encoder, splits.train, splits.calibration, scale))
    if only is not None:
        return output
    estimator = _finish(config, encoder, scale, splits.train, unseen)
    return save_estimator(estimator, output)


def _splits(sample: Sample, config: TrainConfig, part: int) -> Splits:
    """The stars of one fold, or, for the fit after the last fold of a cross-fit, all of them."""
    folds = config.data.folds
    if folds and part == folds:
        none = sample.take(np.zeros(len(sample), dtype=bool))
        return Splits(sample, none, none)
    if not 0 <= part <= folds:
        raise InputError("fold", expected=f"0 to {folds}", found=str(part))
    return split_stars(sample, config.data, config.training.seed, part)


class _Unseen(NamedTuple):
    """What a model says of stars it has not seen, and how much farther out they lie."""

    residual: NDArray
    sigma: NDArray
    snr: NDArray
    farther: float


def _unseen(encoder: Encoder, train: Sample, unseen: Sample, scale: LabelScale) -> _Unseen:
    mean, covariance, embedding = encode_sample(encoder, unseen)
    reference = encode_sample(encoder, train)[2]
    return _Unseen(
        scale.scale(unseen.labels.values) - mean,
        np.sqrt(np.diagonal(covariance, axis1=1, axis2=2)),
        unseen.store.column("snr")[unseen.rows],
        Coverage.fit(reference, embedding).limit / Coverage.fit(reference).limit,
    )


def encode_sample(encoder: Encoder, sample: Sample) -> tuple[NDArray, NDArray, NDArray]:
    """Return scaled mean (N, L), scaled covariance (N, L, L) and embedding (N, D) of a sample."""
    encoder.eval()
    device = next(encoder.parameters()).device
    parts = [encode(encoder, pixels.to(device)) for pixels, _ in batches(sample, 32)]
    mean, covariance, embedding = (np.concatenate(part) for part in zip(*parts, strict=True))
    return mean, covariance, embedding


def _finish(
    config: TrainConfig,
    encoder: Encoder,
    scale: LabelScale,
    train: Sample,
    unseen: Sequence[_Unseen],
) -> Estimator:
    residual, sigma, snr = (
        np.concatenate([getattr(part, name) for part in unseen])
        for name in ("residual", "sigma", "snr")
    )
    rng = np.random.default_rng(config.training.seed)
    chosen = rng.permutation(len(train))[:REFERENCES]
    reference = encode_sample(encoder, train.take(np.sort(chosen)))[2]
    inside = Coverage.fit(reference)
    limit = inside.limit * float(np.median([part.farther for part in unseen]))
    return Estimator(
        encoder.cpu(),
        scale,
        Recalibration.fit(residual, sigma, snr),
        Coverage(inside.reference, inside.width, limit),
        _card(config, train, residual, scale),
    )


def _card(
    config: TrainConfig, train: Sample, residual: NDArray, scale: LabelScale
) -> dict[str, Any]:
    """What the model eats, what it was trained on, and its errors on stars not trained on."""
    store = train.store
    column = lambda name: store.column(name)[train.rows]  # noqa: E731
    edges = [store.arrays(int(i))[0][[0, -1]] for i in train.rows]
    resolution = [np.median(store.arrays(int(i))[3]) for i in train.rows]
    spread = 1.4826 * np.nanmedian(np.abs(residual - np.nanmedian(residual, axis=0)), axis=0)
    digest = hashlib.sha256("\n".join(sorted(column("spectrum_id"))).encode()).hexdigest()
    with np.errstate(invalid="ignore"):
        low, high = np.nanquantile(train.labels.values, [0.001, 0.999], axis=0)
    return {
        "name": config.name,
        "spectrolabe_version": __version__,
        "encoder": config.encoder.model_dump(),
        "configuration": config.model_dump(mode="json", exclude={"data": {"store"}}),
        "training_data": {
            "store": Path(config.data.store).name,
            "spectra": len(train),
            "stars": len(np.unique(train.labels.star_id)),
            "surveys": sorted(set(column("survey"))),
            "spectrum_ids_sha256": digest,
            "wavelength_range": [float(min(e[0] for e in edges)), float(max(e[1] for e in edges))],
            "resolution_range": [float(min(resolution)), float(max(resolution))],
            "snr_range": [float(v) for v in np.quantile(column("snr"), [0.01, 0.99])],
            "label_range": {
                name: [float(low[i]), float(high[i])] for i, name in enumerate(scale.names)
            },
            "label_spread": dict(
                zip(scale.names, np.nanstd(train.labels.values, axis=0).tolist(), strict=True)
            ),
        },
        "input": "native pixels (vacuum Angstrom, at rest by the survey's own velocity), ivar, R",
        "recalibrated_on": f"{len(residual)} spectra of stars that the predicting weights had not "
        + ("seen (cross-fitting)" if config.data.folds else "seen (a split of its own)"),
        "unseen_mad": dict(zip(scale.names, (spread * scale.width).tolist(), strict=True)),
    }


class EncoderTask:
    """Labels of stars from their spectra, for `spectrolabe.training.loop.learn`.

    Parameters
    ----------
    config : TrainConfig
    splits : Splits
    scale : LabelScale
    """

    def __init__(self, config: TrainConfig, splits: Splits, scale: LabelScale) -> None:
        torch.manual_seed(config.training.seed)
        self.model: torch.nn.Module = Encoder(config.encoder, len(scale.names))
        self.config, self.scale = config, scale
        self.train, self.selection = splits.train, splits.selection
        self.targets = scale.scale(splits.train.labels.values)
        self.spectra, self.selects = len(splits.train), len(splits.selection) > 0
        self.steps = math.ceil(self.spectra / config.training.batch_size)

    def losses(self, run: Run, rng: np.random.Generator) -> Iterator[torch.Tensor]:
        """Yield the loss of each batch of varied spectra."""
        return _epoch(run, self, rng)

    def score(self, model: torch.nn.Module) -> tuple[float, dict[str, Any]]:
        """Return the mean scaled error of the labels, and the error of each."""
        mean = encode_sample(cast(Encoder, model), self.selection)[0]
        residual = self.scale.scale(self.selection.labels.values) - mean
        spread = 1.4826 * np.nanmedian(np.abs(residual), axis=0)
        errors = dict(zip(self.scale.names, (spread * self.scale.width).tolist(), strict=True))
        return float(np.mean(spread)), {"mad": errors}


def _epoch(run: Run, task: EncoderTask, rng: np.random.Generator) -> Iterator[torch.Tensor]:
    """One pass over the training stars."""
    accelerator, augmentation = run.accelerator, task.config.augmentation
    for pixels, target in batches(
        task.train,
        task.config.training.batch_size,
        rng=rng,
        augmentation=augmentation,
        targets=task.targets,
    ):
        tokens = tokenise(pixels.to(accelerator.device))
        keep = torch.rand(tokens.valid.shape, device=accelerator.device) >= augmentation.drop_tokens
        with accelerator.autocast():
            output = run.model(tokens, pixels.star.to(accelerator.device), keep)
        yield correlated_t_loss(output, target.to(accelerator.device))


def fit(
    config: TrainConfig, splits: Splits, scale: LabelScale, folder: Path, *, progress: bool = True
) -> Encoder:
    """Fit the weights of one encoder, or return those of a finished fit.

    Parameters
    ----------
    config : TrainConfig
    splits : Splits
        ``train`` is fitted; ``selection``, where it has stars, chooses the epoch.
    scale : LabelScale
    folder : Path
        Of ``state.safetensors`` and ``metrics.jsonl``.
    progress : bool

    Returns
    -------
    Encoder
        The exponential moving average of the weights, at the best epoch if there is a selection.
    """
    task, title = EncoderTask(config, splits, scale), f"{config.name} {folder.name}"
    return cast(Encoder, learn(task, config.training, folder, title=title, progress=progress))
