"""Training of the encoder: `train`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spectrolabe.config import DataConfig, TrainConfig
from spectrolabe.errors import InputError
from spectrolabe.labels import LabelScale
from spectrolabe.models.checkpoint import save_estimator
from spectrolabe.models.encoder import Encoder
from spectrolabe.models.first_fit import FirstFit
from spectrolabe.models.tokens import Tokens, tokenise
from spectrolabe.training import offsets, transfer
from spectrolabe.training.augmentation import batches
from spectrolabe.training.data import FEWEST, Sample, Splits, load_sample, open_stores, split_stars
from spectrolabe.training.loop import Run, begin, learn
from spectrolabe.training.observed import MAIN, learn_observed
from spectrolabe.training.pretrain import SkyBeside
from spectrolabe.training.release import Sky, encode_sample, finished, on_unseen
from spectrolabe.training.sky import SkyStream
from spectrolabe.training.transfer import Start, continued, read_start

__all__ = ["EncoderTask", "fit", "train"]

OFFSET = "offset"  # the parameter of an encoder in training that holds those of the catalogues
OFFSET_GAIN = 0.3  # part of the way that an offset goes in an epoch
FEWEST_FROM_START = 5  # stars
MOST_KEPT = 40_000  # varied spectra: 0.1 to 0.3 MB each


def train(
    config: TrainConfig,
    output: str | Path,
    *,
    only: int | None = None,
    progress: bool = True,
    sky: Sky | None = None,
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
    sky : Sky, optional
        A simulated sky to learn from beside the stores.

    Returns
    -------
    Path
        The run, which `spectrolabe.models.checkpoint.load` reads.

    Raises
    ------
    InputError
        If the store does not have what the configuration asks for, the model to start from does
        not fit it, or the run was begun with another configuration.
    """
    start = read_start(config.transfer)
    if start is not None:
        config = continued(config, start)
    output = begin(output, config)
    fewest = FEWEST if start is None else FEWEST_FROM_START
    sample = load_sample(open_stores(config.data), config.data, fewest=fewest)
    scale = LabelScale.fit(sample.labels) if start is None else start.estimator.scale
    if sky is None and config.sky is not None and start is not None:
        stream = SkyStream(config.sky, scale=scale)
        sky = SkyBeside(stream, config.training.batch_size)
    sample = sample.with_labels(scale.names)
    folds = config.data.folds
    unseen = []
    for part in range(folds + 1) if only is None else [only]:
        splits = _splits(sample, config, part)
        task = EncoderTask(config, splits, scale, start=start, sky=sky, progress=progress)
        folder = output / (f"fold-{part}" if part < folds else "all")
        encoder, offset = _learnt(task, folder, progress=progress)
        if only is None and len(splits.calibration):
            unseen.append(on_unseen(encoder, splits.train, splits.calibration, scale, offset))
    if only is not None:
        return output
    return save_estimator(
        finished(config, encoder, scale, splits.train, unseen, start, sky), output
    )


def _splits(sample: Sample, config: TrainConfig, part: int) -> Splits:
    """The stars of one fold, or, for the fit after the last fold of a cross-fit, all of them."""
    folds = config.data.folds
    if folds and part == folds:
        none = sample.take(np.zeros(len(sample), dtype=bool))
        return Splits(sample, none, none)
    if not 0 <= part <= folds:
        raise InputError("fold", expected=f"0 to {folds}", found=str(part))
    return split_stars(sample, config.data, config.training.seed, part)


class EncoderTask:
    """Labels of stars from their spectra, for `spectrolabe.training.loop.learn`.

    Parameters
    ----------
    config : TrainConfig
    splits : Splits
    scale : LabelScale
    start : Start, optional
        What the weights are before the first step; random when not given.
    sky : Sky, optional
        One of its losses goes with each batch of the stores, with the weight
        ``config.transfer.sky_weight``.
    progress : bool
        Show one while the first fit learns from the stars.
    """

    def __init__(
        self,
        config: TrainConfig,
        splits: Splits,
        scale: LabelScale,
        *,
        start: Start | None = None,
        sky: Sky | None = None,
        progress: bool = True,
    ) -> None:
        torch.manual_seed(config.training.seed)
        self.config, self.scale, self.sky = config, scale, sky
        self.train, self.selection = splits.train, splits.selection
        if start is None:
            if config.encoder.compact is not None:
                raise InputError(
                    f"encoder.compact of {config.name}",
                    expected="none: compact spectra come with a model to start from",
                    found=repr(config.encoder.compact),
                    fix="Name that model in transfer.start.",
                )
            encoder = Encoder(config.encoder, len(scale.names))
            encoder.head.set_range(
                torch.from_numpy(scale.scale(splits.train.labels.values)).float()
            )
        else:
            encoder = transfer.encoder_from(start, config.encoder)
            guesser = encoder.guesser
            if guesser is not None and config.transfer.observed and set(MAIN) <= set(scale.names):
                learn_observed(
                    guesser.compact,
                    _on_reference(splits.train, config.data),
                    config.training.seed,
                    progress=progress,
                )
            transfer.prepare(encoder, config.transfer)
        self.free = self._catalogues(encoder)
        self.encoder = encoder
        self.model: torch.nn.Module = encoder
        self.kept: dict[int, list[_Varied]] = {}
        _check_versions(len(splits.train), config.augmentation.versions)
        self.spectra, self.selects = len(splits.train), len(splits.selection) > 0
        self.steps = math.ceil(self.spectra / config.training.batch_size)

    def _catalogues(self, encoder: Encoder) -> NDArray | None:
        """Give the encoder a parameter of offsets, if there are any; which of them may move."""
        data = self.config.data
        if not data.reference:
            return None
        self.reference = offsets.number_of_reference(data)
        free = offsets.identified(self.train, self.reference)
        free[self.reference] = False
        zero = torch.nn.Parameter(torch.zeros(free.shape, dtype=torch.float64), requires_grad=False)
        encoder.register_parameter(OFFSET, zero)
        return free

    def shifted(self, model: torch.nn.Module, sample: Sample) -> NDArray:
        """Return the scaled labels of a sample on the scale of the reference, shape (N, L)."""
        scaled = self.scale.scale(sample.labels.values)
        return scaled if self.free is None else scaled - _offset(model)[sample.catalogue]

    def losses(self, run: Run, rng: np.random.Generator) -> Iterator[Tensor]:
        """Yield the loss of each batch of varied spectra."""
        return _epoch(run, self, rng)

    def score(self, model: torch.nn.Module) -> tuple[float, dict[str, Any]]:
        """Return the mean scaled error of the labels that are known, and the error of each."""
        mean = encode_sample(cast(Encoder, model), self.selection)[0]
        residual = np.abs(self.shifted(model, self.selection) - mean)
        known = np.isfinite(residual).any(axis=0)
        spread = 1.4826 * np.nanmedian(residual[:, known], axis=0)
        names = [name for name, use in zip(self.scale.names, known, strict=True) if use]
        errors = dict(zip(names, (spread * self.scale.width[known]).tolist(), strict=True))
        return float(np.mean(spread)), {"mad": errors}


def _on_reference(sample: Sample, data: DataConfig) -> Sample:
    """What the reference catalogue says of the stars, if one of several is that."""
    if not data.reference:
        return sample
    return sample.take(sample.catalogue == offsets.number_of_reference(data))


def _check_versions(spectra: int, versions: int) -> None:
    if spectra * versions > MOST_KEPT:
        raise InputError(
            "augmentation.versions",
            expected=f"at most {MOST_KEPT // spectra} for {spectra:,} spectra: all are kept",
            found=str(versions),
            fix="Take fewer, or 0 for new ones in every epoch.",
        )


def _offset(model: torch.nn.Module) -> NDArray:
    return model.get_parameter(OFFSET).detach().cpu().numpy()


class _Varied(NamedTuple):
    """Spectra of a batch as they were varied, entries of the sample, and their first fit."""

    tokens: Tokens
    star: Tensor
    entry: NDArray
    fit: FirstFit | None


def _varied(
    run: Run, task: EncoderTask, rng: np.random.Generator, *, fitted: bool
) -> Iterator[_Varied]:
    """All training spectra, in batches; ``fitted`` makes the first fits, too."""
    config, device = task.config, run.accelerator.device
    for pixels, entry in batches(
        task.train, config.training.batch_size, rng=rng, augmentation=config.augmentation
    ):
        tokens, star, fit = tokenise(pixels.to(device)), pixels.star.to(device), None
        if fitted:
            with torch.no_grad():
                fit = task.encoder.first_fit([tokens], star, torch.arange(len(star), device=device))
        yield _Varied(tokens, star, entry, fit)


def _kept(run: Run, task: EncoderTask, rng: np.random.Generator) -> Iterator[_Varied]:
    """The same, of which only so many versions are ever made; batches come in another order."""
    config = task.config
    version = run.epoch % config.augmentation.versions
    if version not in task.kept:
        own = np.random.default_rng([config.training.seed, version, 2**31])
        task.kept[version] = list(_varied(run, task, own, fitted=True))
    for i in rng.permutation(len(task.kept[version])):
        yield task.kept[version][i]


def _epoch(run: Run, task: EncoderTask, rng: np.random.Generator) -> Iterator[Tensor]:
    """One pass over the training stars."""
    accelerator, config = run.accelerator, task.config
    settings, transfer = config.augmentation, config.transfer
    sky = None if task.sky is None else _endless(task.sky, run, rng)
    targets = torch.from_numpy(task.shifted(task.model, task.train)).float()
    residual = np.full(targets.shape, np.nan)
    seen = _kept(run, task, rng) if settings.versions else _varied(run, task, rng, fitted=False)
    for step, (tokens, star, entry, fit) in enumerate(seen):
        keep = torch.rand(tokens.valid.shape, device=accelerator.device) >= settings.drop_tokens
        target = targets[torch.from_numpy(entry)].to(accelerator.device)
        with accelerator.autocast():
            output = run.model(tokens, star, keep, fit=fit)
        loss = task.encoder.head.loss(output, target)
        if task.free is not None:
            residual[entry] = (target - output.mean).detach().cpu().numpy()
        if sky is not None and step % transfer.sky_every == 0:
            loss = loss + transfer.sky_weight * next(sky)
        yield loss
    if task.free is not None:
        _move_offsets(task, residual)


def _endless(sky: Sky, run: Run, rng: np.random.Generator) -> Iterator[Tensor]:
    own = np.random.default_rng(int(rng.integers(2**62)))
    while True:
        yield from sky.losses(run, own)


def _move_offsets(task: EncoderTask, residual: NDArray) -> None:
    """Bring the offsets nearer to what the residuals of an epoch say."""
    free = cast(NDArray, task.free)
    where = task.train.catalogue, task.train.spectrum, task.reference
    step = offsets.difference(residual, *where, len(free))
    offset = task.model.get_parameter(OFFSET)
    step = OFFSET_GAIN * np.where(free, np.nan_to_num(step), 0.0)
    offset.data += torch.from_numpy(step).to(offset.device)


def _learnt(task: EncoderTask, folder: Path, *, progress: bool) -> tuple[Encoder, NDArray | None]:
    """Fit; the encoder without a trace of how it was fitted, and the offsets of catalogues."""
    config = task.config
    title = f"{config.name} {folder.name}"
    learnt = learn(task, config.training, folder, title=title, progress=progress)
    encoder, offset = transfer.merge(cast(Encoder, learnt)), None
    if task.free is not None:
        offset = np.where(task.free, _offset(encoder), np.nan)
        offset[task.reference] = 0.0
        del encoder._parameters[OFFSET]
    return encoder, offset


def fit(
    config: TrainConfig,
    splits: Splits,
    scale: LabelScale,
    folder: Path,
    *,
    start: Start | None = None,
    progress: bool = True,
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
    start : Start, optional
        As in `EncoderTask`.
    progress : bool

    Returns
    -------
    Encoder
        The exponential moving average of the weights, at the best epoch if there is a selection.
    """
    task = EncoderTask(config, splits, scale, start=start, progress=progress)
    return _learnt(task, folder, progress=progress)[0]
