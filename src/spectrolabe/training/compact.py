"""Compact spectra from emulators: which functions, and a network of how much of each.

The functions are the leading singular vectors of spectra and differential spectra of many stars,
after the division by a local continuum that tokens have, each slope counting by its own size:
what a rare element changes is as much part of them as what temperature does. They are kept as
parts of normalised flux, so that any continuum may be taken off again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from safetensors.torch import load_file, save
from scipy.fft import next_fast_len
from torch import Tensor, nn

from spectrolabe.config import CompactConfig, CompactMaking, SkyTrainConfig
from spectrolabe.errors import InputError
from spectrolabe.models.checkpoint import load, write_file
from spectrolabe.models.compact import FINEST, Amounts, CompactSpectra
from spectrolabe.models.emulator import STRUCTURAL, Emulator
from spectrolabe.models.released import find_model
from spectrolabe.models.tokens import CONTINUUM_WIDTH, node_width
from spectrolabe.spectra.broadening import FWHM
from spectrolabe.spectra.wavelength import SPEED_OF_LIGHT
from spectrolabe.training.loop import Run, learn
from spectrolabe.training.sky import SkyStream
from spectrolabe.training.stars import Stars

__all__ = ["compact_spectra", "make_compact"]

FILE, NONE = "compact.safetensors", "none"
BROADENING = (1.5, 150.0)  # km/s
FLUX_UNIT, SLOPE_UNIT = 0.003, 0.1  # of the continuum, and of a slope: errors that count alike
AMOUNT_UNIT = 0.002  # of the continuum, for the network
EXTRA, PASSES = 36, 3  # of the search for singular vectors: functions more, and passes
TOGETHER = 8  # stars at a time
FIRST_FIT_STARTS = 64
RIDGE = 1e-3  # of the covariance of scaled labels
COMMON = (*STRUCTURAL, "v_broad")  # labels that decide how a star looks whatever its abundances


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
        return guesser.compact
    if folder is None:
        return make_compact(stream, config.making, None, progress=progress)
    path = folder / FILE
    if not path.exists():
        compact = make_compact(stream, config.making, folder, progress=progress)
        tensors = {name: value.contiguous() for name, value in compact.state_dict().items()}
        write_file(path, save(tensors))
    return _read(path)


def _read(path: Path) -> CompactSpectra:
    state = load_file(path)
    items, own, functions = state["amounts.item_out"].shape
    size = CompactConfig(
        functions=functions,
        labels=len(state["centre"]),
        elements=items,
        width=len(state["amounts.enter.bias"]),
        own=own,
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
    scale = _Scale.of(stream, stars)
    maker = _Maker(stream.emulators, scale)
    few, sloped = (stream.stars(count, rng) for count in (making.few, making.sloped))
    where = folder / "compact" if folder is not None else None
    found = _kept(
        where, _Functions, "functions", lambda: _functions(maker, few, making.functions, progress)
    )
    plain = _kept(where, _Shown, "spectra", lambda: _shown(maker, found, stars, False, progress))
    steep = _kept(where, _Shown, "slopes", lambda: _shown(maker, found, sloped, True, progress))
    amounts = _learnt(AmountsTask(making, scale, plain, steep, maker.nodes), where, progress)
    low, high = scale.range(stream.emulators[0])
    labels = len(scale.names)
    return CompactSpectra(
        found.flux,
        torch.tensor([part.low for part in maker.parts]),
        torch.tensor([len(part.left) for part in maker.parts]),
        amounts,
        centre=torch.from_numpy(scale.centre),
        width=torch.from_numpy(scale.width),
        low=low,
        high=high,
        prior=torch.from_numpy(np.cov(plain.labels.double().numpy().T) + RIDGE * np.eye(labels)),
        starts=_starts(plain.labels.numpy(), scale),
        resolution=min(emulator.resolution for emulator in stream.emulators),
    )


class _Functions(NamedTuple):
    """Mean content, (nodes,), orthonormal functions, (nodes, M), and both as parts of the flux."""

    mean: Tensor
    directions: Tensor
    flux: Tensor


class _Shown(NamedTuple):
    """Scaled labels of N stars, (N, A), and what they have of the functions, (N, 1 + A, M)."""

    labels: Tensor
    amounts: Tensor


_Made = TypeVar("_Made", _Functions, _Shown)


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


class _Scale(NamedTuple):
    """Centre and width, shape (A,), of the labels of emulators and of ln(v_broad)."""

    names: tuple[str, ...]
    centre: NDArray
    width: NDArray

    @classmethod
    def of(cls, stream: SkyStream, stars: Stars) -> _Scale:
        """Mean and standard deviation of stars."""
        values = _labels(stars)
        names = (*stream.emulators[0].names, "v_broad")
        return cls(names, values.mean(axis=0), values.std(axis=0))

    def scaled(self, stars: Stars) -> Tensor:
        """Scaled labels of stars, (N, A)."""
        return torch.from_numpy((_labels(stars) - self.centre) / self.width).float()

    def range(self, emulator: Emulator) -> tuple[Tensor, Tensor]:
        """Lowest and highest scaled labels."""
        ends = zip((emulator.low, emulator.high), np.log(BROADENING), strict=True)
        low, high = ((np.append(a, b) - self.centre) / self.width for a, b in ends)
        return torch.from_numpy(low), torch.from_numpy(high)


def _labels(stars: Stars) -> NDArray:
    return np.concatenate([stars.atmosphere, np.log(_broadening(stars))[:, None]], axis=1)


def _broadening(stars: Stars) -> NDArray:
    return np.clip(stars.v_broad, *BROADENING)


class _Band(NamedTuple):
    """The nodes that an emulator covers."""

    emulator: Emulator
    low: int
    left: Tensor
    share: Tensor


class _Maker:
    """Spectra of stars at the nodes of the finest level.

    Parameters
    ----------
    emulators : sequence of Emulator
        Of ranges of wavelength that do not overlap.
    scale : _Scale
    """

    def __init__(self, emulators: Sequence[Emulator], scale: _Scale) -> None:
        self.scale, self.parts = scale, []
        step = node_width(FINEST)
        for emulator in emulators:
            x = emulator.basis.log_wavelength
            low, high = int(np.ceil(x[0] / step)), int(x[-1] / step)
            at = ((np.arange(low, high) + 0.5) * step - x[0]) / emulator.basis.step
            left = np.clip(at.astype(int), 1, len(x) - 3)
            share = torch.from_numpy(at - left).float()
            self.parts.append(_Band(emulator, low, torch.from_numpy(left), share))
        self.nodes = sum(len(part.left) for part in self.parts)

    @torch.no_grad()
    def spectra(self, stars: Stars, *, slopes: bool) -> tuple[Tensor, Tensor]:
        """Content of N stars, and normalised flux less 1, each (N, 1 + A, nodes) with slopes.

        Without slopes, (N, 1, nodes).
        """
        found = [self._band(part, stars, slopes=slopes) for part in self.parts]
        content, flux = (torch.cat(part, dim=2) for part in zip(*found, strict=True))
        return content, flux

    def _band(self, band: _Band, stars: Stars, *, slopes: bool) -> tuple[Tensor, Tensor]:
        basis, names = band.emulator.basis, band.emulator.names
        columns = list(range(len(names))) if slopes else []
        latents = band.emulator.latents_and_slopes(stars.atmosphere, columns).cpu()
        rows = torch.einsum("njpk,pkw->njpw", latents, basis.components)
        rows[:, 0] += basis.offset
        rows = rows.flatten(2)
        rows[:, 0] -= 1.0
        if slopes:
            rows[:, 1:] *= torch.from_numpy(self.scale.width[:-1]).float()[:, None]
        width = _broadening(stars) / SPEED_OF_LIGHT / FWHM / basis.step
        flux, smooth = self._blurred(rows, width, CONTINUUM_WIDTH / basis.step, slopes=slopes)
        ratio = (1.0 + flux[:, :1]) / (1.0 + smooth[:, :1])
        content = torch.cat(
            [ratio - 1.0, (flux[:, 1:] - ratio * smooth[:, 1:]) / (1.0 + smooth[:, :1])], dim=1
        )
        return _at(content, band), _at(flux, band)

    def _blurred(
        self, rows: Tensor, width: NDArray, wide: float, *, slopes: bool
    ) -> tuple[Tensor, Tensor]:
        """Rows broadened by Gaussians of some pixels, and what a wide one leaves of them."""
        pixels, room = rows.shape[2], int(4 * wide)
        size = next_fast_len(pixels + 2 * room, real=True)
        padded = torch.nn.functional.pad(rows, (room, room), mode="reflect")
        square = (2.0 * torch.pi * torch.fft.rfftfreq(size)) ** 2
        variance = torch.from_numpy(width**2).float()[:, None, None]
        waves = torch.fft.rfft(padded, n=size) * torch.exp(-0.5 * variance * square)
        if slopes:
            turn = -variance * square * waves[:, :1] * float(self.scale.width[-1])
            waves = torch.cat([waves, turn], dim=1)
        both = torch.cat([waves, waves * torch.exp(-0.5 * square * wide**2)], dim=1)
        flux, smooth = torch.fft.irfft(both, n=size)[..., room : room + pixels].chunk(2, dim=1)
        return flux, smooth


def _at(rows: Tensor, band: _Band) -> Tensor:
    """Values at the nodes, by the cubic through the four pixels around each."""
    f = band.share
    weights = (
        f * (1.0 - f) * (f - 2.0) / 6.0,
        (1.0 + f) * (1.0 - f) * (2.0 - f) / 2.0,
        f * (1.0 + f) * (2.0 - f) / 2.0,
        f * (f * f - 1.0) / 6.0,
    )
    found = [rows[..., band.left + k - 1] * weight for k, weight in enumerate(weights)]
    return torch.stack(found).sum(dim=0)


def _each(maker: _Maker, stars: Stars, slopes: bool, title: str, progress: bool) -> Iterator[Any]:
    """Spectra of stars, a few at a time."""
    size = 1 if slopes else TOGETHER
    groups = np.array_split(np.arange(len(stars)), -(-len(stars) // size))
    with ThreadPoolExecutor(2) as pool:
        make = lambda rows: maker.spectra(stars.take(rows), slopes=slopes)  # noqa: E731
        ahead = [pool.submit(make, rows) for rows in groups[:4]]
        for i in track(range(len(groups)), title, disable=not progress):
            if i + 4 < len(groups):
                ahead.append(pool.submit(make, groups[i + 4]))
            yield ahead.pop(0).result()


def _functions(maker: _Maker, stars: Stars, count: int, progress: bool) -> _Functions:
    """Find the functions, by passes over the spectra of some stars (Halko+ 2011)."""
    each = _each(maker, stars, True, "differential spectra", progress)
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
    maker: _Maker, functions: _Functions, stars: Stars, slopes: bool, progress: bool
) -> _Shown:
    found, title = [], "slopes" if slopes else "spectra"
    for content, _ in _each(maker, stars, slopes, title, progress):
        content[:, 0] -= functions.mean
        found.append(content @ functions.directions)
    return _Shown(maker.scale.scaled(stars), torch.cat(found))


class AmountsTask:
    """Amounts of functions from labels, for `spectrolabe.training.loop.learn`.

    Parameters
    ----------
    making : CompactMaking
    scale : _Scale
    plain, steep : _Shown
        Without slopes, and with.
    nodes : int
        Of a spectrum: a sum of squares of amounts is one over so many.
    """

    def __init__(
        self, making: CompactMaking, scale: _Scale, plain: _Shown, steep: _Shown, nodes: int
    ) -> None:
        torch.manual_seed(making.training.seed)
        self.plain, self.steep, self.nodes = plain, steep, nodes
        self.settings, self.size = making.training, making.training.batch_size
        self.power = steep.amounts[:, 1:].square().sum(dim=2).median(dim=0).values.clamp(min=1e-12)
        self.model: nn.Module = _network(making, scale, plain.amounts[:, 0])
        self.spectra, self.selects = len(plain.labels), False
        self.steps = -(-len(plain.labels) // (3 * self.size))

    def losses(self, run: Run, rng: np.random.Generator) -> Iterator[Tensor]:
        """Yield the loss of each batch of stars."""
        order = torch.from_numpy(rng.permutation(len(self.plain.labels)))
        for rows in order.split(3 * self.size):
            few = torch.from_numpy(rng.integers(len(self.steep.labels), size=self.size))
            yield self.loss(cast(Amounts, run.task.model), rows, few)

    def loss(self, model: Amounts, rows: Tensor, few: Tensor) -> Tensor:
        """Errors of spectra and slopes; logarithms keep a few odd stars from ruling."""
        amounts = model(self.plain.labels[rows]) - self.plain.amounts[rows, 0]
        steep = model.with_slopes(self.steep.labels[few]) - self.steep.amounts[few]
        flux = torch.cat([amounts, steep[:, 0]]).square().sum(dim=1) / self.nodes
        slopes = steep[:, 1:].square().sum(dim=2) / self.power
        flux, slopes = flux / AMOUNT_UNIT**2, slopes / SLOPE_UNIT**2
        return 3.0 * torch.log1p(flux).mean() + torch.log1p(slopes).mean()

    def score(self, model: nn.Module) -> tuple[float, dict[str, Any]]:
        """There are no stars to select by."""
        return float("inf"), {}


def _network(making: CompactMaking, scale: _Scale, amounts: Tensor) -> Amounts:
    """A network of random weights of the size of the amounts."""
    names = scale.names
    elements = [i for i, name in enumerate(names) if name not in COMMON]
    fe_h = scale.width[names.index("fe_h")]
    per_fe_h = [fe_h / scale.width[i] if names[i].endswith("_fe") else 0.0 for i in elements]
    network = Amounts(
        torch.tensor([names.index(name) for name in COMMON]),
        torch.tensor(elements),
        torch.tensor(per_fe_h),
        making.functions,
        making.width,
        making.own,
    )
    size = amounts.std(dim=0)
    with torch.no_grad():
        network.out.bias.copy_(amounts.mean(dim=0))
        network.out.weight.mul_(0.5 * size[:, None])
        network.item_out.mul_(0.5 * size)
    return network


def _learnt(task: AmountsTask, folder: Path | None, progress: bool) -> Amounts:
    settings = task.settings
    if folder is None:
        with TemporaryDirectory() as name:
            return cast(Amounts, learn(task, settings, Path(name), progress=progress))
    return cast(Amounts, learn(task, settings, folder, title="amounts", progress=progress))


def _starts(labels: NDArray, scale: _Scale) -> Tensor:
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
