"""The one training loop, and what makes a released model of it: `train`."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors.torch import load_file, save

from spectrolabe import __version__
from spectrolabe.config import TrainConfig
from spectrolabe.errors import InputError
from spectrolabe.labels import LabelScale
from spectrolabe.models.checkpoint import save_estimator, write_file
from spectrolabe.models.encoder import Encoder
from spectrolabe.models.estimator import Estimator, encode
from spectrolabe.models.heads import correlated_t_loss
from spectrolabe.models.tokens import tokenise
from spectrolabe.models.uncertainty import Coverage, Recalibration
from spectrolabe.spectra.store import open_store
from spectrolabe.training.data import Sample, Splits, batches, load_sample, split_stars

__all__ = ["Fit", "encode_sample", "fit", "train"]

WARM_UP = 200  # steps
LAST_RATE = 0.02  # of the learning rate, at the end of the cosine
REFERENCES = 5000  # training stars kept for the coverage
BETAS = (0.9, 0.98)
LEAST_GAIN = 1e-3  # of the error on the selection stars, to count as better


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
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    _same_configuration(output, config)
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


def _same_configuration(output: Path, config: TrainConfig) -> None:
    path, content = output / "config.json", config.model_dump_json(indent=1)
    if path.exists() and path.read_text() != content:
        raise InputError(
            output,
            expected="a new run, or the configuration that this run was begun with",
            found="a run with another configuration",
            fix="Give another --output, or remove the folder.",
        )
    write_file(path, content.encode())


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


class Fit:
    """The state of one fit: everything that a continued run needs.

    The random numbers of an epoch depend on the seed and the epoch alone, so that a run that was
    interrupted and continued gives the same weights as one that was not.
    """

    def __init__(self, config: TrainConfig, folder: Path, labels: int) -> None:
        self.config, self.folder = config, folder
        torch.manual_seed(config.training.seed)
        self.encoder = Encoder(config.encoder, labels)
        self.average = copy.deepcopy(self.encoder).eval()
        self.epoch, self.step = 0, 0
        self.best, self.best_epoch = math.inf, 0
        self.moments: dict[str, torch.Tensor] = {}
        self.best_state = {k: v.clone() for k, v in self.average.state_dict().items()}

    def save(self, optimiser: torch.optim.Optimizer) -> None:
        """Write the state; one file, whole or not at all."""
        tensors: dict[str, torch.Tensor] = {}
        for prefix, state in (
            ("encoder", self.encoder.state_dict()),
            ("average", self.average.state_dict()),
            ("best", self.best_state),
        ):
            tensors |= {f"{prefix}.{k}": v.contiguous().cpu() for k, v in state.items()}
        for i, entry in optimiser.state_dict()["state"].items():
            tensors |= {f"moments.{i}.{k}": v.clone().cpu() for k, v in entry.items()}
        numbers = {k: getattr(self, k) for k in ("epoch", "step", "best", "best_epoch")}
        content = save(tensors, metadata={"state": json.dumps(numbers)})
        write_file(self.folder / "state.safetensors", content)

    def resume(self) -> None:
        """Load the state if there is one."""
        path = self.folder / "state.safetensors"
        if not path.exists():
            return
        from safetensors import safe_open

        tensors = load_file(path)
        with safe_open(path, "pt") as file:
            numbers = json.loads(file.metadata()["state"])
        for key, value in numbers.items():
            setattr(self, key, value)
        part = lambda prefix: {  # noqa: E731
            k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)
        }
        self.encoder.load_state_dict(part("encoder."))
        self.average.load_state_dict(part("average."))
        self.best_state, self.moments = part("best."), part("moments.")


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
    settings = config.training
    folder.mkdir(parents=True, exist_ok=True)
    state = Fit(config, folder, len(scale.names))
    state.resume()
    accelerator = Accelerator(mixed_precision=settings.mixed_precision)
    optimiser = _optimiser(state.encoder, config)
    encoder, optimiser = accelerator.prepare(state.encoder, optimiser)
    state.average.to(accelerator.device)
    _restore_moments(optimiser, state.moments)
    targets = scale.scale(splits.train.labels.values)
    steps = settings.epochs * math.ceil(len(splits.train) / settings.batch_size)
    saved = time.monotonic()
    with _bar(f"{config.name} {folder.name}", settings.epochs, state.epoch, progress) as advance:
        while state.epoch < settings.epochs and not _out_of_patience(state, splits):
            started = time.monotonic()
            loss = _epoch(state, encoder, optimiser, accelerator, splits.train, targets, steps)
            state.epoch += 1
            rate = len(splits.train) / (time.monotonic() - started)
            metrics = {"epoch": state.epoch, "loss": loss, "spectra_per_second": rate}
            metrics |= _select(state, splits.selection, scale)
            with (folder / "metrics.jsonl").open("a") as stream:
                stream.write(json.dumps(metrics) + "\n")
            advance(f"loss {loss:6.3f} {rate:5.0f} spectra/s")
            due = time.monotonic() - saved > 60 * settings.checkpoint_minutes
            if due or state.epoch == settings.epochs:
                state.save(optimiser)
                saved = time.monotonic()
    if len(splits.selection):
        state.average.load_state_dict(state.best_state)
    return state.average.cpu()


def _optimiser(encoder: Encoder, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW with decay of matrices only: biases, norms and gains keep their size."""
    matrices = [p for p in encoder.parameters() if p.ndim > 1]
    vectors = [p for p in encoder.parameters() if p.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": config.training.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.training.learning_rate, betas=BETAS, fused=True)


def _restore_moments(optimiser: torch.optim.Optimizer, moments: Mapping[str, torch.Tensor]) -> None:
    if not moments:
        return
    state = optimiser.state_dict()
    for key, value in moments.items():
        index, _, name = key.partition(".")
        state["state"].setdefault(int(index), {})[name] = value
    optimiser.load_state_dict(state)


def _epoch(
    state: Fit,
    encoder: torch.nn.Module,
    optimiser: torch.optim.Optimizer,
    accelerator: Accelerator,
    sample: Sample,
    targets: NDArray,
    steps: int,
) -> float:
    """One pass over the training stars; the mean loss."""
    settings, augmentation = state.config.training, state.config.augmentation
    rng = np.random.default_rng([settings.seed, state.epoch, accelerator.process_index])
    torch.manual_seed(int(rng.integers(2**62)))
    encoder.train()
    total, count = 0.0, 0
    for pixels, target in batches(
        sample, settings.batch_size, rng=rng, augmentation=augmentation, targets=targets
    ):
        _set_rate(optimiser, settings.learning_rate, state.step, steps)
        tokens = tokenise(pixels.to(accelerator.device))
        keep = torch.rand(tokens.valid.shape, device=accelerator.device) >= augmentation.drop_tokens
        with accelerator.autocast():
            output = encoder(tokens, pixels.star.to(accelerator.device), keep)
        loss = correlated_t_loss(output, target.to(accelerator.device))
        optimiser.zero_grad()
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(encoder.parameters(), 1.0)
        optimiser.step()
        state.step += 1
        _average(state, settings.ema)
        total, count = total + float(loss.detach()), count + 1
    return total / count


def _set_rate(optimiser: torch.optim.Optimizer, rate: float, step: int, steps: int) -> None:
    """Linear warm-up, then a cosine."""
    warm = min(1.0, (step + 1) / min(WARM_UP, max(1, steps // 10)))
    cosine = 0.5 * (1.0 + math.cos(math.pi * min(1.0, step / steps)))
    for group in optimiser.param_groups:
        group["lr"] = rate * warm * (LAST_RATE + (1.0 - LAST_RATE) * cosine)


@torch.no_grad()
def _average(state: Fit, ema: float) -> None:
    keep = min(ema, (1.0 + state.step) / (10.0 + state.step))
    torch._foreach_lerp_(
        list(state.average.parameters()), list(state.encoder.parameters()), 1.0 - keep
    )


def _select(state: Fit, selection: Sample, scale: LabelScale) -> dict[str, Any]:
    """Errors on the selection stars; remembers the best weights."""
    if not len(selection):
        return {}
    mean = encode_sample(state.average, selection)[0]
    residual = scale.scale(selection.labels.values) - mean
    spread = 1.4826 * np.nanmedian(np.abs(residual), axis=0)
    score = float(np.mean(spread))
    if score < (1.0 - LEAST_GAIN) * state.best:
        state.best, state.best_epoch = score, state.epoch
        state.best_state = {k: v.clone() for k, v in state.average.state_dict().items()}
    return {"mad": dict(zip(scale.names, (spread * scale.width).tolist(), strict=True))}


def _out_of_patience(state: Fit, splits: Splits) -> bool:
    patience = state.config.training.patience
    waited = state.epoch - state.best_epoch
    return bool(patience and len(splits.selection) and waited >= patience)


class _bar:  # noqa: N801 - reads as a function at its one call
    """A progress bar of epochs with the loss and the rate."""

    def __init__(self, title: str, total: int, done: int, show: bool) -> None:
        self.progress = Progress(
            TextColumn(title),
            BarColumn(),
            TextColumn("epoch {task.completed:.0f}/{task.total:.0f} {task.fields[note]}"),
            TimeRemainingColumn(),
            disable=not show,
        )
        self.task = self.progress.add_task(title, total=total, completed=done, note="")

    def __enter__(self) -> Any:
        self.progress.start()
        return lambda note: self.progress.update(self.task, advance=1, note=note)

    def __exit__(self, *error: object) -> None:
        self.progress.stop()
