"""The loop with a task of its own: it learns, chooses the best epoch and continues exactly."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from subprocess import run

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

from spectrolabe.config import TrainingConfig
from spectrolabe.training.loop import learn


class Line:
    """A line through noisy points; the score is told, epoch by epoch."""

    def __init__(self, scores=(), interrupt_at=None):
        torch.manual_seed(0)
        self.model = torch.nn.Linear(1, 1)
        self.steps, self.spectra, self.selects = 8, 256, bool(scores)
        self.scores, self.interrupt_at = list(scores), interrupt_at
        self.seen = []

    def losses(self, run, rng):
        if run.epoch == self.interrupt_at:
            raise KeyboardInterrupt
        for _ in range(self.steps):
            x = torch.from_numpy(rng.normal(size=(32, 1))).float()
            yield (run.model(x) - 3.0 * x - 1.0 + 0.1 * torch.randn(32, 1)).square().mean()

    def score(self, model):
        self.seen.append(model.weight.item())
        return self.scores[len(self.seen) - 1], {"weight": self.seen[-1]}


def settings(**changes):
    return TrainingConfig(
        **{"epochs": 12, "learning_rate": 0.1, "ema": 0.9, "weight_decay": 0.0, **changes}
    )


def test_it_learns(tmp_path):
    model = learn(Line(), settings(epochs=30), tmp_path, progress=False)
    assert abs(model.weight.item() - 3.0) < 0.05
    assert abs(model.bias.item() - 1.0) < 0.05


def test_an_interrupted_fit_is_the_same_as_one_that_was_not(tmp_path):
    often = settings(checkpoint_minutes=1e-9)
    whole = learn(Line(), often, tmp_path / "whole", progress=False)
    with pytest.raises(KeyboardInterrupt):
        learn(Line(interrupt_at=7), often, tmp_path / "cut", progress=False)
    cut = learn(Line(), often, tmp_path / "cut", progress=False)
    for one, other in zip(whole.parameters(), cut.parameters(), strict=True):
        assert_array_equal(one.detach(), other.detach())
    losses = [
        [json.loads(line)["loss"] for line in (tmp_path / name / "metrics.jsonl").open()]
        for name in ("whole", "cut")
    ]
    assert losses[0] == losses[1]


def test_a_finished_fit_is_not_repeated(tmp_path):
    first = learn(Line(), settings(), tmp_path, progress=False)
    again = learn(Line(interrupt_at=0), settings(), tmp_path, progress=False)
    assert_array_equal(first.weight.detach(), again.weight.detach())


def test_the_weights_are_those_of_the_best_epoch(tmp_path):
    task = Line(scores=[5.0, 4.0, 1.0, 2.0, 3.0, 0.9999, 2.0, 2.0])
    model = learn(task, settings(epochs=8), tmp_path, progress=False)
    assert model.weight.item() == task.seen[2]  # the sixth is not better by enough
    notes = [json.loads(line)["weight"] for line in (tmp_path / "metrics.jsonl").open()]
    assert notes == task.seen


def test_patience(tmp_path):
    task = Line(scores=[2.0, 1.0, *[3.0] * 10])
    learn(task, settings(patience=3), tmp_path, progress=False)
    assert len(task.seen) == 5


def test_the_rate_warms_up_and_falls(tmp_path):
    rates = []

    class Watched(Line):
        def losses(self, run, rng):
            for loss in super().losses(run, rng):
                yield loss
                rates.append(run.optimiser.param_groups[0]["lr"])

    learn(Watched(), settings(epochs=20), tmp_path, progress=False)
    assert len(rates) == 160
    assert np.argmax(rates) == 15  # a tenth of the steps
    assert rates[0] == pytest.approx(0.1 / 16, rel=1e-3)
    assert rates[-1] == pytest.approx(0.002, rel=0.01)


TWO = """
import json
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import torch
from tests.training.test_loop import Line, settings
from spectrolabe.training.loop import Run, learn

folder = Path(sys.argv[1])
model = learn(Line(), settings(epochs=int(sys.argv[3])), folder, progress=False)
state = Run(Line(), settings(epochs=int(sys.argv[3])), folder)
seen = [model.weight.item(), model.bias.item(), state.step, state.accelerator.num_processes]
(folder / f"process-{state.accelerator.process_index}.txt").write_text(json.dumps(seen))
"""


def test_two_processes_share_an_epoch_and_have_the_same_weights(tmp_path):
    script, root = tmp_path / "two.py", Path(__file__).parents[2]
    script.write_text(TWO)
    command = [Path(sys.executable).with_name("accelerate"), "launch", "--num_processes"]
    command += ["2", "--multi_gpu", "--num_machines", "1", "--mixed_precision", "no"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    for epochs in ("5", "40"):  # it stops after five, and goes on
        done = run(
            [*command, script, tmp_path, root, epochs],
            env=environment,
            capture_output=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr.decode()[-2000:]
    one, other = ((tmp_path / f"process-{i}.txt").read_text() for i in (0, 1))
    assert one == other
    weight, bias, step, processes = json.loads(one)
    assert (step, processes) == (40 * 4, 2)  # eight steps an epoch, four for each
    assert abs(weight - 3.0) < 0.05
    assert abs(bias - 1.0) < 0.05
    epochs = [json.loads(line)["epoch"] for line in (tmp_path / "metrics.jsonl").open()]
    assert epochs == list(range(1, 41))  # one of them writes
