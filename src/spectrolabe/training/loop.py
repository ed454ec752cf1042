"""The one training loop: it fits the weights of any model to a `Task`, and continues exactly.

Several processes (`accelerate launch`) share the steps of an epoch: each draws spectra of its own,
and gradients are their mean, so that a step sees as many times the spectra of one.
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from pydantic import BaseModel
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors import safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from spectrolabe.config import TrainingConfig
from spectrolabe.errors import InputError
from spectrolabe.models.files import write_file

__all__ = ["Run", "Task", "begin", "epoch", "learn"]

WARM_UP = 200  # steps
LAST_RATE = 0.02  # of the learning rate, at the end of the cosine
BETAS = (0.9, 0.98)
LEAST_GAIN = 1e-3  # of the error on the selection stars, to count as better


def begin(output: str | Path, config: BaseModel) -> Path:
    """Make the folder of a run and note its configuration, or see that it is still the same.

    Parameters
    ----------
    output : str or Path
    config : BaseModel

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    InputError
        If the run was begun with another configuration.
    """
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    path, content = output / "config.json", config.model_dump_json(indent=1)
    if path.exists() and path.read_text() != content:
        raise InputError(
            output,
            expected="a new run, or the configuration that this run was begun with",
            found="a run with another configuration",
            fix="Give another --output, or remove the folder.",
        )
    write_file(path, content.encode())
    return output


class Task(Protocol):
    """A model, what it learns from, and how well it does.

    Parameters
    ----------
    model : Module
    steps : int
        Of the optimiser, in an epoch; `losses` yields at least so many.
    spectra : int
        Seen in an epoch.
    selects : bool
        There are stars kept aside to choose the best epoch.
    """

    model: nn.Module
    steps: int
    spectra: int
    selects: bool

    def losses(self, run: Run, rng: np.random.Generator) -> Iterator[Tensor]:
        """Yield the loss of each step of an epoch; the weights change between two of them."""

    def score(self, model: nn.Module) -> tuple[float, dict[str, Any]]:
        """Return the error on the selection stars, and what to note of it, if there are any."""


class Run:
    """The state of one fit: everything that a continued run needs.

    The random numbers of an epoch depend on the seed and the epoch alone, so that a run that was
    interrupted and continued gives the same weights as one that was not.

    Parameters
    ----------
    task : Task
    settings : TrainingConfig
    folder : Path
        Of ``state.safetensors``, which is loaded if it is there.
    """

    def __init__(self, task: Task, settings: TrainingConfig, folder: Path) -> None:
        self.task, self.settings, self.folder = task, settings, folder
        self.average = copy.deepcopy(task.model).eval()
        self.epoch, self.step = 0, 0
        # a step need not use all weights: those of labels that no star of it has rest
        shared = DistributedDataParallelKwargs(find_unused_parameters=True)
        self.accelerator = Accelerator(
            mixed_precision=settings.mixed_precision, kwargs_handlers=[shared]
        )
        self.share = math.ceil(task.steps / self.accelerator.num_processes)
        self.steps = settings.epochs * self.share
        self.best, self.best_epoch = math.inf, 0
        self.best_state = {k: v.clone() for k, v in self.average.state_dict().items()}
        moments = self._resume()
        optimiser = _optimiser(task.model, settings)
        self.model, self.optimiser = self.accelerator.prepare(task.model, optimiser)
        self.average.to(self.accelerator.device)
        _restore_moments(self.optimiser, moments)

    @property
    def progress(self) -> float:
        """What part of all steps is done."""
        return min(1.0, self.step / self.steps)

    @property
    def main(self) -> bool:
        """Whether it is this process that writes."""
        return bool(self.accelerator.is_main_process)

    def save(self) -> None:
        """Write the state; one file, whole or not at all."""
        if not self.main:
            return
        tensors: dict[str, Tensor] = {}
        for prefix, state in (
            ("model", self.task.model.state_dict()),
            ("average", self.average.state_dict()),
            ("best", self.best_state),
        ):
            tensors |= {f"{prefix}.{k}": v.contiguous().cpu() for k, v in state.items()}
        for i, entry in self.optimiser.state_dict()["state"].items():
            tensors |= {f"moments.{i}.{k}": v.clone().cpu() for k, v in entry.items()}
        numbers = {k: getattr(self, k) for k in ("epoch", "step", "best", "best_epoch")}
        content = save(tensors, metadata={"state": json.dumps(numbers)})
        write_file(self.folder / "state.safetensors", content)

    def _resume(self) -> dict[str, Tensor]:
        """Load the state if there is one; return the moments of the optimiser."""
        path = self.folder / "state.safetensors"
        if not path.exists():
            return {}
        tensors = load_file(path)
        with safe_open(path, "pt") as file:
            numbers = json.loads(file.metadata()["state"])
        for key, value in numbers.items():
            setattr(self, key, value)
        part = lambda prefix: {  # noqa: E731
            k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)
        }
        # runs of the time when only encoders were trained have another name
        self.task.model.load_state_dict(part("model.") or part("encoder."))
        self.average.load_state_dict(part("average."))
        self.best_state = part("best.")
        return part("moments.")


def learn(
    task: Task, settings: TrainingConfig, folder: Path, *, title: str = "", progress: bool = True
) -> nn.Module:
    """Fit the weights of a model, or return those of a finished fit.

    Parameters
    ----------
    task : Task
    settings : TrainingConfig
    folder : Path
        Of ``state.safetensors`` and ``metrics.jsonl``.
    title : str
        Of the progress bar.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Module
        The exponential moving average of the weights, at the best epoch if there is a selection.
    """
    folder.mkdir(parents=True, exist_ok=True)
    run = Run(task, settings, folder)
    saved = time.monotonic()
    with _bar(title, settings.epochs, run.epoch, progress and run.main) as advance:
        while run.epoch < settings.epochs and not _out_of_patience(run):
            started = time.monotonic()
            loss = epoch(run)
            run.epoch += 1
            rate = task.spectra / (time.monotonic() - started)
            metrics = {"epoch": run.epoch, "loss": loss, "spectra_per_second": rate}
            metrics |= _select(run)
            if run.main:
                with (folder / "metrics.jsonl").open("a") as stream:
                    stream.write(json.dumps(metrics) + "\n")
            advance(f"loss {loss:6.3f} {rate:5.0f} spectra/s")
            due = time.monotonic() - saved > 60 * settings.checkpoint_minutes
            if due or run.epoch == settings.epochs:
                run.save()
                saved = time.monotonic()
    run.accelerator.wait_for_everyone()
    if task.selects:
        run.average.load_state_dict(run.best_state)
    return run.average.cpu()


def epoch(run: Run) -> float:
    """Take the steps of one epoch; return the mean loss."""
    settings, accelerator = run.settings, run.accelerator
    rng = np.random.default_rng([settings.seed, run.epoch, accelerator.process_index])
    torch.manual_seed(int(rng.integers(2**62)))
    run.model.train()
    total, count = 0.0, 0
    alone = accelerator.num_processes == 1
    for loss in islice(run.task.losses(run, rng), None if alone else run.share):
        _set_rate(run)
        run.optimiser.zero_grad()
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(run.model.parameters(), 1.0)
        run.optimiser.step()
        run.step += 1
        _average(run)
        total, count = total + float(loss.detach()), count + 1
    return total / count


def _optimiser(model: nn.Module, settings: TrainingConfig) -> torch.optim.AdamW:
    """AdamW with decay of matrices only: biases, norms and gains keep their size."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": settings.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=BETAS, fused=True)


def _restore_moments(optimiser: torch.optim.Optimizer, moments: Mapping[str, Tensor]) -> None:
    if not moments:
        return
    state = optimiser.state_dict()
    for key, value in moments.items():
        index, _, name = key.partition(".")
        state["state"].setdefault(int(index), {})[name] = value
    optimiser.load_state_dict(state)


def _set_rate(run: Run) -> None:
    """Linear warm-up, then a cosine."""
    warm = min(1.0, (run.step + 1) / min(WARM_UP, max(1, run.steps // 10)))
    cosine = 0.5 * (1.0 + math.cos(math.pi * run.progress))
    for group in run.optimiser.param_groups:
        rate = run.settings.learning_rate * warm
        group["lr"] = rate * (LAST_RATE + (1.0 - LAST_RATE) * cosine)


@torch.no_grad()
def _average(run: Run) -> None:
    keep = min(run.settings.ema, (1.0 + run.step) / (10.0 + run.step))
    torch._foreach_lerp_(
        list(run.average.parameters()), list(run.task.model.parameters()), 1.0 - keep
    )


def _select(run: Run) -> dict[str, Any]:
    """Errors on the selection stars; remembers the best weights."""
    if not run.task.selects:
        return {}
    score, notes = run.task.score(run.average)
    if score < (1.0 - LEAST_GAIN) * run.best:
        run.best, run.best_epoch = score, run.epoch
        run.best_state = {k: v.clone() for k, v in run.average.state_dict().items()}
    return notes


def _out_of_patience(run: Run) -> bool:
    waited = run.epoch - run.best_epoch
    return bool(run.settings.patience and run.task.selects and waited >= run.settings.patience)


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
