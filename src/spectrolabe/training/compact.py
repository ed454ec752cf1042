"""Compact spectra from emulators: which functions, and a network of how much of each.

The functions are the leading singular vectors of spectra and differential spectra of many stars,
after the division by a local continuum that tokens have, each slope counting by its own size:
what a rare element changes is as much part of them as what temperature does. They are kept as
parts of normalised flux, so that any continuum may be taken off again.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save
from torch import Tensor

from spectrolabe.config import CompactConfig, CompactMaking, SkyTrainConfig
from spectrolabe.errors import InputError
from spectrolabe.models.checkpoint import load
from spectrolabe.models.compact import CompactSpectra
from spectrolabe.models.files import write_file
from spectrolabe.models.node_spectra import NodeSpectra
from spectrolabe.models.observed import Observed
from spectrolabe.models.released import find_model
from spectrolabe.training.amounts import COMMON, AmountsTask, Shown, learnt_amounts
from spectrolabe.training.node_scale import NodeScale, each_spectrum
from spectrolabe.training.sky import SkyStream
from spectrolabe.training.stars import Stars

__all__ = ["compact_spectra", "make_compact"]

FILE, NONE = "compact.safetensors", "none"
FLUX_UNIT, SLOPE_UNIT = 0.003, 0.1  # of the continuum, and of a slope: errors that count alike
EXTRA, PASSES = 36, 3  # of the search for singular vectors: functions more, and passes
FIRST_FIT_STARTS = 64
RIDGE = 1e-3  # of the covariance of scaled labels


def compact_spectra(
    config: SkyTrainConfig, stream: SkyStream, folder: Path | None, *, progress: bool = True
) -> CompactSpectra | None:
    """Return the compact spectra of a configuration; none if it asks for none.

    Parameters
    ----------
    config : SkyTrainConfig
    stream : SkyStream
        Whose stars they are of.
    folder : Path, optional
        That keeps what is made; what is there is not made again.
    progress : bool

    Raises
    ------
    InputError
        If the model that they are to be taken from has none.
    """
    if config.compact == NONE:
        return None
    if config.compact:
        path = find_model(config.compact)
        guesser = load(path).encoder.guesser
        if guesser is None:
            raise InputError(path, expected="a model with compact spectra", found="none")
        guesser.compact.observed = Observed()  # a new sky has not been taught by real stars
        return guesser.compact
    if folder is None:
        return make_compact(stream, config.making, None, progress=progress)
    path = folder / FILE
    if not path.exists():
        compact = make_compact(stream, config.making, folder, progress=progress)
        tensors = {name: value.contiguous() for name, value in compact.state_dict().items()}
        write_file(path, save(tensors))
    return _read(path, stream.config.emulators)


def _read(path: Path, emulators: tuple[str, ...]) -> CompactSpectra:
    state = load_file(path)
    items, own, functions = state["amounts.item_out"].shape
    size = CompactConfig(
        functions=functions,
        labels=len(state["centre"]),
        elements=items,
        width=len(state["amounts.enter.bias"]),
        own=own,
        emulators=emulators,
    )
    compact = CompactSpectra.empty(size)
    compact.load_state_dict(state)
    return compact


def make_compact(
    stream: SkyStream, making: CompactMaking, folder: Path | None, *, progress: bool = True
) -> CompactSpectra:
    """Make compact spectra of the stars of a sky.

    Parameters
    ----------
    stream : SkyStream
    making : CompactMaking
    folder : Path, optional
        Of the run: keeps what was made, so that an interrupted run goes on.
    progress : bool
    """
    rng = np.random.default_rng([making.training.seed, 2**31, 2])
    stars = stream.stars(making.plain, rng)
    scale = NodeScale.of(stream, stars)
    maker = NodeSpectra(stream.emulators)
    few, sloped = (stream.stars(count, rng) for count in (making.few, making.sloped))
    where = folder / "compact" if folder is not None else None
    show = partial(_shown, maker, scale, progress=progress)
    found = _kept(
        where,
        _Functions,
        "functions",
        lambda: _functions(maker, few, scale.width, making.functions, progress),
    )
    plain = _kept(where, Shown, "spectra", lambda: show(found, stars, None))
    steep = _kept(where, Shown, "slopes", lambda: show(found, sloped, scale.width))
    amounts = learnt_amounts(AmountsTask(making, scale, plain, steep, maker.nodes), where, progress)
    low, high = scale.range(stream.emulators[0])
    labels = len(scale.names)
    return CompactSpectra(
        found.flux,
        torch.tensor([part.low for part in maker.parts]),
        torch.tensor([part.size for part in maker.parts]),
        amounts,
        centre=torch.from_numpy(scale.centre),
        width=torch.from_numpy(scale.width),
        low=low,
        high=high,
        prior=torch.from_numpy(np.cov(plain.labels.double().numpy().T) + RIDGE * np.eye(labels)),
        starts=_starts(plain.labels.numpy(), scale),
        resolution=min(emulator.resolution for emulator in stream.emulators),
        emulators=stream.config.emulators,
    )


class _Functions(NamedTuple):
    """Mean content, (nodes,), orthonormal functions, (nodes, M), and both as parts of the flux."""

    mean: Tensor
    directions: Tensor
    flux: Tensor


_Made = TypeVar("_Made", _Functions, Shown)


def _kept(folder: Path | None, kind: type[_Made], name: str, make: Callable[[], _Made]) -> _Made:
    """Tensors of a kind: those in a file of the folder, or made and written there."""
    if folder is None:
        return make()
    path = folder / f"{name}.safetensors"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {key: value.contiguous() for key, value in make()._asdict().items()}
        write_file(path, save(tensors))
    return kind(**load_file(path))


def _functions(
    maker: NodeSpectra, stars: Stars, width: NDArray, count: int, progress: bool
) -> _Functions:
    """Find the functions, by passes over the spectra of some stars (Halko+ 2011)."""
    each = each_spectrum(maker, stars, width, "differential spectra", progress)
    halves = [(content.half(), flux.half()) for content, flux in each]  # gigabytes
    content, flux = (torch.cat(part) for part in zip(*halves, strict=True))
    del halves
    mean, flux_mean = (x[:, 0].float().mean(dim=0) for x in (content, flux))
    size = content[:, 1:].float().square().mean(dim=2).sqrt().median(dim=0).values  # (A,)
    unit = torch.cat([torch.tensor([FLUX_UNIT]), SLOPE_UNIT * size.clamp(min=1e-9)])[:, None]

    def weighed(star: int, rows: Tensor, middle: Tensor) -> Tensor:
        own = rows[star].float()
        own[0] -= middle
        return own / unit

    def product(of: Tensor) -> Tensor:
        out = torch.zeros_like(of)
        for star in range(len(content)):
            rows = weighed(star, content, mean)
            out += rows.T @ (rows @ of)
        return out

    generator = torch.Generator().manual_seed(0)
    few = min(count + EXTRA, len(content) * content.shape[1])
    basis = torch.randn(maker.nodes, few, generator=generator)
    for _ in range(PASSES):
        basis = torch.linalg.qr(product(basis))[0]
    values, turn = torch.linalg.eigh(basis.T @ product(basis))
    directions = basis @ turn[:, values.argsort(descending=True)[:count]]
    # what the flux has of each, by least squares
    square = torch.zeros(directions.shape[1], directions.shape[1], dtype=torch.float64)
    right = torch.zeros(directions.shape[1], maker.nodes)
    for star in range(len(content)):
        amounts = weighed(star, content, mean) @ directions
        square += (amounts.T @ amounts).double()
        right += amounts.T @ weighed(star, flux, flux_mean)
    ridge = 1e-7 * square.diagonal().mean() * torch.eye(len(square))
    parts = torch.linalg.solve(square + ridge, right.double()).float()
    return _Functions(mean, directions, torch.cat([flux_mean[:, None], parts.T], dim=1))


def _shown(
    maker: NodeSpectra,
    scale: NodeScale,
    functions: _Functions,
    stars: Stars,
    width: NDArray | None,
    progress: bool,
) -> Shown:
    """What stars have of the functions, and of their slopes if these have a width."""
    found, title = [], "spectra" if width is None else "slopes"
    for content, _ in each_spectrum(maker, stars, width, title, progress):
        content[:, 0] -= functions.mean
        found.append(content @ functions.directions)
    return Shown(scale.scaled(stars), torch.cat(found))


def _starts(labels: NDArray, scale: NodeScale) -> Tensor:
    """Labels of stars far from each other in what decides how they look."""
    columns = [scale.names.index(name) for name in ("teff", "logg", "fe_h", "v_broad")]
    near, chosen = labels[:, columns], [int((labels**2).sum(axis=1).argmin())]
    distance = np.full(len(near), np.inf)
    for _ in range(FIRST_FIT_STARTS - 1):
        distance = np.minimum(distance, ((near - near[chosen[-1]]) ** 2).sum(axis=1))
        chosen.append(int(distance.argmax()))
    starts = labels[chosen].copy()
    rest = [i for i, name in enumerate(scale.names) if name not in COMMON]
    starts[:, rest] *= 0.3  # of abundances nothing is known
    return torch.from_numpy(starts)
