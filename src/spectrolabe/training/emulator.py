"""Training of an emulator from grids of spectra and differential spectra."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from spectrolabe import __version__
from spectrolabe.config import EmulatorTrainConfig
from spectrolabe.errors import InputError
from spectrolabe.labels import Labels, LabelScale
from spectrolabe.models.emulator import Basis, Emulator, EmulatorNetwork, save_emulator
from spectrolabe.models.files import write_file
from spectrolabe.training.loop import Run, begin, learn
from spectrolabe.training.native import (
    apart,
    fit_basis,
    grid_digests,
    latents,
    native_spectra,
)

__all__ = ["EmulatorTask", "Material", "material", "train_emulator"]

FLUX_UNIT = 0.005  # of the flux: this error counts as much as a differential spectrum missed whole
FLUX_FLOOR = 3e-4  # of the flux: errors below it hardly count
SLOPE_FLOOR = 0.03  # the same for a differential spectrum, of its size
LEAST = 3e-5  # of the flux: labels that change less count as if they changed so much
CONTINUUM = 0.1  # weight of the continuum
TOGETHER = 16  # spectra of the selection made at a time
MATERIAL = "material.safetensors"


@dataclass(frozen=True, eq=False)
class Material:
    """What an emulator is trained on: latents instead of spectra.

    Parameters
    ----------
    names : tuple of str
        L labels.
    basis : Basis
    labels : ndarray, shape (N, L)
    targets : Tensor, shape (N, P, K + 1)
        Latents, and the scaled logarithm of the continuum.
    kept : ndarray of bool, shape (N,)
        Stars that are not trained on.
    rows : ndarray of int, shape (S,)
        Stars with differential spectra.
    steps : ndarray, shape (S, L)
        Change of a label; 0 where it is not known what it changes.
    change : Tensor, shape (S, L, P, K)
        What it changes of the latents.
    kept_flux : Tensor, shape (n, P, W)
        Spectra of the stars that are not trained on.
    about : sequence of mapping
        The grids; see `Native`.
    """

    names: tuple[str, ...]
    basis: Basis
    labels: NDArray
    targets: Tensor
    kept: NDArray
    rows: NDArray
    steps: NDArray
    change: Tensor
    kept_flux: Tensor
    about: tuple[Mapping[str, Any], ...]


def train_emulator(
    config: EmulatorTrainConfig, output: str | Path, *, progress: bool = True
) -> Path:
    """Train an emulator and write it; an interrupted call continues where it was.

    Parameters
    ----------
    config : EmulatorTrainConfig
    output : str or Path
        The run: ``model.safetensors`` and ``card.json`` at the end, ``metrics.jsonl`` all along.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Path
        The run, which `spectrolabe.models.emulator.load_emulator` reads.

    Raises
    ------
    InputError
        If a grid is missing or does not have what the configuration asks for, or the run was
        begun with another configuration or other grids.
    """
    output = begin(output, config)
    given = material(config, output)
    task = EmulatorTask(config, given)
    network = learn(task, config.training, output, title=config.name, progress=progress)
    return save_emulator(_emulator(config, given, task, network), output)


def material(config: EmulatorTrainConfig, folder: Path) -> Material:
    """Return what to train on; it is kept in the folder of the run.

    Raises
    ------
    InputError
        As `train_emulator`.
    """
    path = folder / MATERIAL
    if path.exists():
        return _read(path, config)
    # without the prior nothing may be learnt from differential spectra, the basis included
    native = native_spectra(config.grids, slopes=config.prior.weight > 0)
    kept = apart(native.labels, config.grids.selection, config.training.seed)
    basis = fit_basis(
        native,
        ~kept,
        config.emulator.components,
        config.grids.resolution,
        config.training.seed,
    )
    mean, width = basis.continuum
    continuum = torch.from_numpy((native.continuum - mean) / width).float()
    found = Material(
        native.names,
        basis,
        native.labels,
        torch.cat([latents(basis, native.flux), continuum[:, :, None]], dim=-1),
        kept,
        native.rows,
        native.steps,
        latents(basis, native.change, relative=True),
        torch.from_numpy(native.flux[kept]),
        native.about,
    )
    _write(path, found)
    return found


_ARRAYS = ("labels", "kept", "rows", "steps")
_TENSORS = ("targets", "change", "kept_flux")
_BASIS = ("offset", "components")


def _write(path: Path, found: Material) -> None:
    tensors = {name: torch.from_numpy(np.array(getattr(found, name))) for name in _ARRAYS}
    tensors |= {name: getattr(found, name) for name in _TENSORS}
    tensors |= {name: getattr(found.basis, name) for name in _BASIS}
    tensors["continuum"] = torch.from_numpy(found.basis.continuum)
    about = {
        "names": found.names,
        "about": [dict(one) for one in found.about],
        **{key: getattr(found.basis, key) for key in ("start", "step", "resolution")},
    }
    content = {name: value.contiguous() for name, value in tensors.items()}
    write_file(path, save(content, metadata={"material": json.dumps(about)}))


def _read(path: Path, config: EmulatorTrainConfig) -> Material:
    tensors = load_file(path)
    with safe_open(path, "pt") as file:
        about = json.loads(file.metadata()["material"])
    if grid_digests(config.grids) != [one["sha256"] for one in about["about"]]:
        raise InputError(
            path.parent,
            expected="the grids that this run was begun with",
            found="other grids under the same names",
            fix="Give another --output, or remove the folder.",
        )
    basis: dict[str, Any] = {key: about[key] for key in ("start", "step", "resolution")}
    basis |= {name: tensors[name] for name in _BASIS}
    rest: dict[str, Any] = {name: tensors[name].numpy() for name in _ARRAYS}
    rest |= {name: tensors[name] for name in _TENSORS}
    return Material(
        tuple(about["names"]),
        Basis(**basis, continuum=tensors["continuum"].numpy()),
        about=tuple(about["about"]),
        **rest,
    )


class _Slopes(NamedTuple):
    """Differential spectra, of stars that are trained on or of those that are not."""

    labels: Tensor  # (S, L), scaled
    steps: Tensor  # (S, L), scaled; 0 where not known
    change: Tensor  # (S, L, P, K)

    def after(self, stars: Tensor, columns: Tensor) -> Tensor:
        """Labels (n, J, L) of stars (n,) one step further in each of some labels (n, J)."""
        moved = self.labels[stars][:, None].repeat(1, columns.shape[1], 1)
        step = self.steps[stars].gather(1, columns)
        return moved.scatter_add(2, columns[..., None], step[..., None])


class EmulatorTask:
    """Latents of patches from labels, for `spectrolabe.training.loop.learn`.

    The error of a star in a patch is the root mean square over its pixels, which the latents give
    exactly, the components being orthogonal. Differential spectra are learnt as what they are: the
    difference between two spectra one step apart. Their error is taken over the whole spectrum, in
    units of what that label changes in the mean, so that an element of few lines counts as well.

    Parameters
    ----------
    config : EmulatorTrainConfig
    given : Material
    """

    def __init__(self, config: EmulatorTrainConfig, given: Material) -> None:
        self.config, self.given = config, given
        train = np.flatnonzero(~given.kept)
        none = np.full(given.labels.shape, np.nan)
        stars = Labels(given.names, given.labels, none, np.arange(len(none)).astype(str))
        self.scale = LabelScale.fit(stars.take(train))
        torch.manual_seed(config.training.seed)
        self.model: nn.Module = EmulatorNetwork(
            config.emulator, self.scale, len(given.basis.offset)
        )
        scaled = torch.from_numpy(self.scale.scale(given.labels)).float()
        self.labels, self.targets = scaled[train], given.targets[train]
        self.kept = scaled[given.kept]
        self.slopes = self._slopes(scaled, ~given.kept[given.rows])
        self.kept_slopes = self._slopes(scaled, given.kept[given.rows])
        self.square = given.basis.components.square().mean(dim=-1)  # flux^2 of a latent of 1
        self.sizes = _sizes(self.slopes, self.square)
        self.selects = bool(given.kept.any())
        self.spectra = len(train)
        self.steps = math.ceil(self.spectra / config.training.batch_size)

    def _slopes(self, scaled: Tensor, use: NDArray) -> _Slopes:
        given = self.given
        rows = np.flatnonzero(use & (given.steps != 0).any(axis=1))
        steps = torch.from_numpy(given.steps[rows] / self.scale.width).float()
        return _Slopes(scaled[given.rows[rows]], steps, given.change[rows])

    def losses(self, run: Run, rng: np.random.Generator) -> Iterator[Tensor]:
        """Yield the loss of each batch of spectra, with some differential spectra."""
        size = self.config.training.batch_size
        order = rng.permutation(self.spectra)
        for begin_at in range(0, self.spectra, size):
            index = torch.from_numpy(order[begin_at : begin_at + size])
            yield self._loss(run, index, rng)

    def _loss(self, run: Run, index: Tensor, rng: np.random.Generator) -> Tensor:
        device, weight = run.accelerator.device, self._prior_weight(run.progress)
        parts = [self.labels[index]]
        drawn = self._drawn(rng) if weight else None
        if drawn is not None:
            stars, columns = drawn
            parts += [self.slopes.labels[stars], self.slopes.after(stars, columns).flatten(0, 1)]
        with run.accelerator.autocast():
            output = run.model(torch.cat(parts).to(device)).float()
        loss = self.flux_loss(output[: len(index)], self.targets[index].to(device))
        if drawn is not None:
            before, after = output[len(index) :, :, :-1].split([len(stars), columns.numel()])
            found = after.unflatten(0, columns.shape) - before[:, None]
            loss = loss + weight * self._slope_loss(found, stars, columns)
        return loss

    def flux_loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Mean error of the flux of stars and patches, and of the continuum."""
        error = output - target
        square = torch.einsum("npk,pk->np", error[..., :-1].square(), self.square.to(error.device))
        flux = (square + FLUX_FLOOR**2).sqrt().mean() / FLUX_UNIT
        return flux + CONTINUUM * (error[..., -1].square() + 1e-6).sqrt().mean()

    def _slope_loss(self, found: Tensor, stars: Tensor, columns: Tensor) -> Tensor:
        """Mean error of differential spectra, relative to what the label changes."""
        known = (self.slopes.steps[stars].gather(1, columns) != 0).float().to(found.device)
        error = found - self.slopes.change[stars[:, None], columns].to(found.device)
        square = torch.einsum("njpk,pk->nj", error.square(), self.square.to(found.device))
        size = self.sizes[columns].to(found.device)
        relative = (square / len(self.square) / size**2 + SLOPE_FLOOR**2).sqrt()
        return (relative * known).sum() / known.sum().clamp(min=1.0)

    def _prior_weight(self, progress: float) -> float:
        prior = self.config.prior
        if not len(self.slopes.labels):
            return 0.0
        return prior.weight * (
            prior.last + (1.0 - prior.last) * 0.5 * (1.0 + math.cos(math.pi * progress))
        )

    def _drawn(self, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Some stars, shape (n,), and some labels of each with a differential spectrum, (n, J)."""
        prior, known = self.config.prior, self.slopes.steps.numpy() != 0
        stars = rng.permutation(len(known))[: prior.stars]
        place = np.where(known[stars], rng.random((len(stars), known.shape[1])), 2.0)
        columns = np.argsort(place, axis=1)[:, : prior.labels]
        return torch.from_numpy(stars), torch.from_numpy(columns)

    @torch.no_grad()
    def score(self, model: nn.Module) -> tuple[float, dict[str, Any]]:
        """Return the mean absolute error of the flux, and that of the differential spectra."""
        device, total = next(model.parameters()).device, 0.0
        for i in range(0, len(self.kept), TOGETHER):
            found = model(self.kept[i : i + TOGETHER].to(device))[..., :-1].cpu()
            made = self.given.basis.flux(found).reshape(len(found), *self.given.kept_flux.shape[1:])
            total += float((made - self.given.kept_flux[i : i + TOGETHER]).abs().sum())
        mae = total / max(1, self.given.kept_flux.numel())
        notes: dict[str, Any] = {"mae": mae}
        if len(self.kept_slopes.labels):
            notes["slopes"] = self.slope_errors(model)
        return mae, notes

    @torch.no_grad()
    def slope_errors(self, model: nn.Module) -> dict[str, float]:
        """Return the relative error of each label's differential spectra, within the basis."""
        slopes, device = self.kept_slopes, next(model.parameters()).device
        every = torch.arange(len(self.given.names))[None]
        error, size = [], []
        for star in range(len(slopes.labels)):
            at = torch.tensor([star])
            inputs = torch.cat([slopes.labels[at], slopes.after(at, every)[0]])
            output = model(inputs.to(device))[..., :-1].cpu()
            found, true = output[1:] - output[:1], slopes.change[star]
            error.append(torch.einsum("lpk,pk->l", (found - true).square(), self.square))
            size.append(torch.einsum("lpk,pk->l", true.square(), self.square))
        known = slopes.steps != 0
        ratio = torch.where(known, (torch.stack(error) / torch.stack(size)).sqrt(), torch.nan)
        median = ratio.nanmedian(dim=0).values.tolist()
        pairs = zip(self.given.names, median, strict=True)
        return {name: value for name, value in pairs if math.isfinite(value)}


def _sizes(slopes: _Slopes, square: Tensor) -> Tensor:
    """Root mean square of what one step of each label changes of the flux, shape (L,)."""
    if not len(slopes.labels):
        return torch.ones(slopes.labels.shape[1])
    total = torch.einsum("slpk,pk->l", slopes.change.square(), square) / len(square)
    known = (slopes.steps != 0).sum(dim=0).clamp(min=1)
    return (total / known).sqrt().clamp(min=LEAST)


def _emulator(
    config: EmulatorTrainConfig, given: Material, task: EmulatorTask, network: nn.Module
) -> Emulator:
    labels = given.labels[~given.kept]
    kept = int(given.kept.sum())
    card: dict[str, Any] = {
        "name": config.name,
        "spectrolabe_version": __version__,
        "network": config.emulator.model_dump(),
        "configuration": config.model_dump(mode="json", exclude={"grids": {"grids"}}),
        "training_data": {
            "grids": [dict(one) for one in given.about],
            "stars": len(labels),
            "differential_spectra": int((task.slopes.steps != 0).sum()),
            "stars_kept_apart": kept,
            "wavelength_range": [config.grids.low, config.grids.high],
        },
        "input": "labels in physical units; flux over the continuum, vacuum Angstrom, at rest",
    }
    if kept:
        notes = task.score(network)[1]
        perfect = latents(given.basis, given.kept_flux.numpy())
        made = given.basis.flux(perfect).reshape(given.kept_flux.shape)
        card["unseen"] = {**notes, "mae_of_basis": float((made - given.kept_flux).abs().mean())}
    return Emulator(
        network,
        given.basis,
        task.scale,
        low=labels.min(axis=0),
        high=labels.max(axis=0),
        mean=labels.mean(axis=0),
        spread=labels.std(axis=0),
        card=card,
    )
