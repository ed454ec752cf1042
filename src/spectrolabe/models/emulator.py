"""The emulator: labels to the spectrum of a star, for any instrument, with exact derivatives.

A transformer maps labels to a few numbers for each patch of spectrum, and a fixed basis of that
patch maps those to flux. Everything after the network is linear, so that a line-spread function, a
velocity and the pixels of an instrument act on the basis once, and never on single spectra.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from safetensors.torch import save
from scipy.interpolate import CubicSpline
from torch import Tensor, nn

from spectrolabe.config import EmulatorConfig
from spectrolabe.errors import InputError
from spectrolabe.guard import blaming
from spectrolabe.labels import LabelScale, read_only
from spectrolabe.models.files import CARD, WEIGHTS, built, read_card, read_weights, write_file
from spectrolabe.models.forward_mode import PerItem, linear, per_item, silu, with_bias

__all__ = ["STRUCTURAL", "Basis", "Emulator", "EmulatorNetwork", "load_emulator", "save_emulator"]

FORMAT, FORMAT_VERSION = "spectrolabe-emulator", 1
STRUCTURAL = ("teff", "logg", "fe_h", "v_micro")  # they decide the layers; elements are added


class Readout(NamedTuple):
    """The last layers of a network, for G groups of I patches, and which patches are wanted."""

    read: Tensor  # (G, A, tokens)
    read_bias: Tensor  # (G, A)
    of_state: Tensor  # (G, I, outputs, state)
    of_patch: Tensor  # (G, A, I, outputs)
    bias: Tensor  # (G, I, outputs)
    first: int
    number: int


class EmulatorNetwork(nn.Module):
    """Scaled labels, shape (N, L), to the latents of every patch, shape (N, P, K + 1).

    Each label is a token, made of the label and of those that decide the layers of the star, as the
    strength of a line is; an element enters as [X/H]. Tokens attend to each other. Each patch of
    wavelength reads the tokens with weights of its own (attention whose scores depend on wavelength
    alone: which lines are there does not depend on the star), and a state that all patches share.
    The last number of each patch is the logarithm of the continuum there.

    Parameters
    ----------
    config : EmulatorConfig
    scale : LabelScale
        L labels; ``teff``, ``logg``, ``fe_h`` and ``v_micro`` among them.
    patches : int
        P patches of wavelength.
    """

    structural: Tensor
    metallicity: Tensor
    spread: Tensor

    def __init__(self, config: EmulatorConfig, scale: LabelScale, patches: int) -> None:
        super().__init__()
        names, width, hidden = list(scale.names), config.width, config.token_width
        where = [names.index(name) for name in STRUCTURAL]
        self.fe_h, self.patches, self.group = names.index("fe_h"), patches, config.group
        elements = torch.tensor([name.endswith("_fe") for name in names]).float()
        per_fe_h = torch.tensor(scale.width[self.fe_h] / scale.width, dtype=torch.float32)
        # scaled [X/H] of a spread of 1: scaled [X/Fe] and [Fe/H] in the same units, over their sum
        spread = torch.where(elements > 0, (1.0 + per_fe_h**2).sqrt(), torch.ones(len(names)))
        self.register_buffer("structural", torch.tensor(where), persistent=False)
        self.register_buffer("metallicity", elements * per_fe_h / spread, persistent=False)
        self.register_buffer("spread", spread, persistent=False)
        self.token_in = PerItem(len(names), 1 + len(where), hidden)
        self.token_out = PerItem(len(names), hidden, width)
        self.mix = nn.ModuleList(
            Block(width, config.heads, config.expansion) for _ in range(config.token_blocks)
        )
        flat, groups = len(names) * width, -(-patches // config.group)
        self.enter = nn.Linear(flat, config.state_width)
        self.layers: Any = nn.ModuleList(
            nn.Linear(config.state_width, config.state_width) for _ in range(config.state_layers)
        )
        self.read = nn.Linear(flat, groups * config.patch_width)
        outputs = config.group * (config.components + 1)
        self.of_state = nn.Linear(config.state_width, groups * outputs, bias=False)
        self.of_patch = PerItem(groups, config.patch_width, outputs)

    def forward(self, labels: Tensor) -> Tensor:
        """Return the latents of every patch, and the continuum there."""
        return self.with_slopes(labels, labels[:0])[:, 0]

    def with_slopes(
        self, labels: Tensor, directions: Tensor, readout: Readout | None = None
    ) -> Tensor:
        """Return latents and their slopes, shape (N, 1 + J, P, K + 1); the latents come first.

        Forward mode, written out: a slope passes through a layer as one product of matrices, all
        directions and stars together.

        Parameters
        ----------
        labels : Tensor, shape (N, L)
            Scaled.
        directions : Tensor, shape (J, L)
            Changes of the labels, the same for all stars.
        readout : Readout, optional
            What else to read than all latents.
        """
        last = readout or self._everything()
        tokens = self._tokens(labels, directions).flatten(2)
        state = silu(linear(tokens, self.enter.weight, self.enter.bias))
        for layer in self.layers:
            state = state + silu(linear(state, layer.weight, layer.bias))
        own = silu(linear(tokens, last.read.flatten(0, 1), last.read_bias.flatten()))
        shared = state @ last.of_state.flatten(0, 2).T
        out = per_item(own.unflatten(-1, last.read_bias.shape), last.of_patch.flatten(2))
        every = shared.view(*out.shape[:2], -1, last.bias.shape[-1])
        every += out.unflatten(-1, last.bias.shape[1:]).flatten(2, 3)
        every[:, 0] += last.bias.flatten(0, 1)
        return every[:, :, last.first : last.first + last.number]

    def _everything(self) -> Readout:
        groups, outputs = len(self.of_patch.weight), self.of_patch.bias.shape[1] // self.group
        return Readout(
            self.read.weight.unflatten(0, (groups, -1)),
            self.read.bias.unflatten(0, (groups, -1)),
            self.of_state.weight.unflatten(0, (groups, self.group, outputs)),
            self.of_patch.weight.unflatten(2, (self.group, outputs)),
            self.of_patch.bias.unflatten(1, (self.group, outputs)),
            0,
            self.patches,
        )

    def readout(self, patches: slice, mixing: Tensor) -> Readout:
        """Return what reads r mixtures of the latents of some patches, without the continuum.

        Parameters
        ----------
        patches : slice
            P' of the patches.
        mixing : Tensor, shape (P', K, r)
        """
        first, last, _ = patches.indices(self.patches)
        groups = slice(first // self.group, -(-last // self.group))
        read, read_bias, of_state, of_patch, bias = (p[groups] for p in self._everything()[:5])
        begin = first - groups.start * self.group
        mix = mixing.new_zeros(len(bias) * self.group, *mixing.shape[1:])
        mix[begin : begin + len(mixing)] = mixing
        mix = mix.unflatten(0, (-1, self.group))
        return Readout(
            read,
            read_bias,
            torch.einsum("giks,gikr->girs", of_state[:, :, :-1], mix).contiguous(),
            torch.einsum("gpik,gikr->gpir", of_patch[..., :-1], mix).contiguous(),
            torch.einsum("gik,gikr->gir", bias[..., :-1], mix),
            begin,
            len(mixing),
        )

    def _tokens(self, labels: Tensor, directions: Tensor) -> Tensor:
        """Tokens and their slopes, shape (N, 1 + J, L, D)."""
        values = torch.cat(
            [labels[:, None], directions.expand(len(labels), -1, -1)], dim=1
        )  # the inputs are linear in the labels
        own = values / self.spread + self.metallicity * values[..., self.fe_h, None]
        common = values[:, :, None, self.structural].expand(*own.shape, -1)
        inputs = torch.cat([own[..., None], common], dim=-1)
        tokens = self.token_out(silu(self.token_in(inputs)))
        for block in self.mix:
            tokens = block(tokens)
        return tokens


def _layer_norm(rows: Tensor, layer: nn.LayerNorm) -> Tensor:
    rows = rows - rows.mean(dim=-1, keepdim=True)
    value, slopes = rows[:, :1], rows[:, 1:]
    scale = (value.square().mean(dim=-1, keepdim=True) + layer.eps).rsqrt()
    value, slopes = value * scale, slopes * scale
    slopes = slopes - value * (value * slopes).mean(dim=-1, keepdim=True)
    return with_bias(torch.cat([value, slopes], dim=1) * layer.weight, layer.bias)


class Block(nn.Module):
    """Attention of tokens to each other, then a layer on each; both add. Rows (N, T, A, D)."""

    def __init__(self, width: int, heads: int, expansion: int) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.after = nn.LayerNorm(width), nn.LayerNorm(width)
        self.into, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = (
            nn.Linear(width, expansion * width),
            nn.Linear(expansion * width, width),
        )

    def forward(self, rows: Tensor) -> Tensor:
        """Return the tokens, and their slopes, after they have seen each other."""
        rows = rows + linear(
            self._seen(_layer_norm(rows, self.before)), self.out.weight, self.out.bias
        )
        wide = silu(linear(_layer_norm(rows, self.after), self.up.weight, self.up.bias))
        return rows + linear(wide, self.down.weight, self.down.bias)

    def _seen(self, rows: Tensor) -> Tensor:
        query, key, value = (
            part.unflatten(-1, (self.heads, -1))
            for part in linear(rows, self.into.weight, self.into.bias).chunk(3, dim=-1)
        )
        key = key / query.shape[-1] ** 0.5
        q, k, v = query[:, 0], key[:, 0], value[:, 0]
        weight = torch.softmax(torch.einsum("nihd,njhd->nhij", q, k), dim=-1)
        turn = torch.einsum("ntihd,njhd->nthij", query[:, 1:], k)
        turn = turn + torch.einsum("nihd,ntjhd->nthij", q, key[:, 1:])
        turn = turn - torch.einsum("nhij,nthij->nthi", weight, turn)[..., None]
        seen = torch.einsum("nhij,ntjhd->ntihd", weight, value)
        moved = torch.einsum("nthij,njhd->ntihd", turn * weight[:, None], v)
        return torch.cat([seen[:, :1], seen[:, 1:] + moved], dim=1).flatten(-2)


@dataclass(frozen=True, eq=False)
class Basis:
    """Spectra as sums of components, patch by patch: flux = offset + latents @ components.

    Parameters
    ----------
    start, step : float
        ln(wavelength / Å) of the first pixel, and from pixel to pixel.
    offset : Tensor, shape (P, W)
        Mean flux of P patches of W pixels.
    components : Tensor, shape (P, K, W)
        Orthogonal; of the size that latents of order 1 give.
    continuum : ndarray, shape (2, P)
        Mean and width of log10 of the continuum (erg/s/cm2/Å) at the centre of each patch.
    resolution : float
        R of the spectra.
    """

    start: float
    step: float
    offset: Tensor
    components: Tensor
    continuum: NDArray
    resolution: float

    @property
    def log_wavelength(self) -> NDArray:
        """ln(wavelength / Å) of every pixel, shape (P W,)."""
        return self.start + self.step * np.arange(self.offset.numel())

    def flux(self, latents: Tensor) -> Tensor:
        """Return flux on all pixels, shape (N, P W), of latents, shape (N, P, K)."""
        return (torch.einsum("npk,pkw->npw", latents, self.components) + self.offset).flatten(1)


class Emulator:
    """Spectra of stars in milliseconds, with exact derivatives.

    Parameters
    ----------
    network : EmulatorNetwork
        Or what has its ``forward``, ``with_slopes`` and ``readout``.
    basis : Basis
    scale : LabelScale
        Names and scaling of the labels.
    low, high, mean, spread : array_like, shape (L,)
        Range, mean and standard deviation of the labels trained on.
    card : Mapping
        What it was trained on and how well it does.
    """

    def __init__(
        self,
        network: nn.Module,
        basis: Basis,
        scale: LabelScale,
        *,
        low: ArrayLike,
        high: ArrayLike,
        mean: ArrayLike,
        spread: ArrayLike,
        card: Mapping[str, Any],
    ) -> None:
        self.network: Any = network.eval().requires_grad_(False)
        self.basis, self.scale, self.card = basis, scale, card
        self.low, self.high = read_only(low, np.float64), read_only(high, np.float64)
        self.mean, self.spread = read_only(mean, np.float64), read_only(spread, np.float64)
        self.wavelength = read_only(np.exp(basis.log_wavelength))
        self._width = torch.tensor(np.array(scale.width), dtype=torch.float32)

    @property
    def names(self) -> tuple[str, ...]:
        """The labels, in their order."""
        return self.scale.names

    @property
    def resolution(self) -> float:
        """The highest R."""
        return self.basis.resolution

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self._width.device

    def to(self, device: torch.device | str) -> Emulator:
        """Move the network to a device and return the emulator; its basis stays."""
        self.network.to(device)
        self._width = self._width.to(device)
        return self

    def _scaled(self, labels: ArrayLike) -> Tensor:
        values = np.atleast_2d(np.asarray(labels, dtype=np.float64))
        if values.shape[1] != len(self.names):
            raise InputError(
                "labels",
                expected=f"shape (stars, {len(self.names)}): {', '.join(self.names)}",
                found=f"shape {values.shape}",
            )
        scaled = self.scale.scale(values).astype(np.float32, order="C")
        return torch.from_numpy(scaled).to(self.device)

    def latents(self, labels: ArrayLike) -> Tensor:
        """Return the latents of N stars, shape (N, P, K).

        Parameters
        ----------
        labels : array_like, shape (N, L)
            In the order of `names`, physical units.
        """
        return self.latents_and_slopes(labels, [])[:, 0]

    @torch.no_grad()
    def latents_and_slopes(
        self,
        labels: ArrayLike,
        columns: Sequence[int] | None = None,
        readout: Any = None,
    ) -> Tensor:
        """Return latents and their exact slopes, shape (N, 1 + J, P, K); the latents come first.

        Parameters
        ----------
        labels : array_like, shape (N, L)
        columns : sequence of int, optional
            With respect to which J labels; all if not given. Slopes are per unit of the label.
        readout : optional
            As ``network.readout`` makes it: mixtures of the latents of some patches instead.
        """
        directions = torch.diag(1.0 / self._width)
        if columns is not None:
            directions = directions[list(columns)]
        scaled = self._scaled(labels)
        if readout is not None:
            return self.network.with_slopes(scaled, directions, readout)
        return self.network.with_slopes(scaled, directions)[..., :-1]

    @torch.no_grad()
    def continuum(self, labels: ArrayLike, wavelength: ArrayLike) -> NDArray:
        """Return the flux of the continuum at the surface, erg/s/cm2/Å, shape (N, M).

        Parameters
        ----------
        labels : array_like, shape (N, L)
        wavelength : array_like, shape (M,)
            Vacuum Angstrom, at rest.
        """
        last = self.network(self._scaled(labels))[..., -1].double().cpu().numpy()
        mean, width = self.basis.continuum
        size = self.basis.offset.shape[1]
        centre = self.basis.log_wavelength.reshape(-1, size).mean(axis=1)
        node = CubicSpline(centre, mean + width * last, axis=1)
        return np.asarray(10.0 ** node(np.log(np.asarray(wavelength, dtype=np.float64))))

    def flux(
        self,
        labels: ArrayLike,
        wavelength: ArrayLike,
        resolution: ArrayLike,
        *,
        rv: float = 0.0,
        v_broad: float = 0.0,
    ) -> NDArray:
        """Return normalised flux as an instrument would see it, shape (N, M), float32.

        Parameters
        ----------
        labels : array_like, shape (N, L)
        wavelength : array_like, shape (M,)
            Vacuum Angstrom, ascending.
        resolution : float or array_like, shape (M,)
            R = wavelength / FWHM, up to that of the emulator.
        rv : float
            km/s, + = receding.
        v_broad : float
            Gaussian broadening of the star, FWHM in km/s.

        Raises
        ------
        InputError
            If R is higher, or a wavelength outside the emulator.
        """
        from spectrolabe.models.projection import emulated_flux

        return emulated_flux(self, labels, wavelength, resolution, rv=rv, v_broad=v_broad)

    def jacobian(
        self,
        labels: ArrayLike,
        wavelength: ArrayLike,
        resolution: ArrayLike,
        *,
        names: Sequence[str] | None = None,
        rv: float = 0.0,
        v_broad: float = 0.0,
    ) -> tuple[NDArray, NDArray]:
        """Return flux, shape (N, M), and its slopes with J labels, shape (N, J, M).

        Parameters
        ----------
        labels, wavelength, resolution, rv, v_broad
            As in `flux`.
        names : sequence of str, optional
            The J labels; all if not given.
        """
        from spectrolabe.models.projection import emulated_jacobian

        return emulated_jacobian(
            self, labels, wavelength, resolution, names=names, rv=rv, v_broad=v_broad
        )


def save_emulator(emulator: Emulator, folder: str | Path) -> Path:
    """Write ``model.safetensors`` and ``card.json``; weights and components in half precision.

    Raises
    ------
    InputError
        If the disk does not take it.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    basis = emulator.basis
    tensors = {
        f"network.{k}": v.half().contiguous() for k, v in emulator.network.state_dict().items()
    }
    tensors |= {"offset": basis.offset, "components": basis.components.half()}
    content = save({name: value.contiguous() for name, value in tensors.items()})
    columns = {
        "name": emulator.names,
        "centre": emulator.scale.centre.tolist(),
        "width": emulator.scale.width.tolist(),
        **{key: getattr(emulator, key).tolist() for key in ("low", "high", "mean", "spread")},
    }
    card = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "labels": [
            dict(zip(columns, entry, strict=True)) for entry in zip(*columns.values(), strict=True)
        ],
        "start": basis.start,
        "step": basis.step,
        "resolution": basis.resolution,
        "continuum": basis.continuum.tolist(),
        "weights_sha256": hashlib.sha256(content).hexdigest(),
    }
    card |= {key: value for key, value in emulator.card.items() if key not in card}
    write_file(folder / WEIGHTS, content)
    write_file(folder / CARD, (json.dumps(card, indent=1) + "\n").encode())
    return folder


def load_emulator(folder: str | Path) -> Emulator:
    """Load an emulator.

    Raises
    ------
    InputError
        If there is none, it is of another format, or its weights are damaged or of another card.
    """
    with blaming(folder, "an emulator"):
        return _loaded(Path(folder), read_card(folder, FORMAT, FORMAT_VERSION))


def _loaded(folder: Path, card: Mapping[str, Any]) -> Emulator:
    tensors = {name: value.float() for name, value in read_weights(folder, card).items()}
    column = {key: np.array([e[key] for e in card["labels"]]) for key in card["labels"][0]}
    names = tuple(column["name"].tolist())
    scale = LabelScale(names, column["centre"], column["width"])
    prefix, config = "network.", EmulatorConfig(**card["network"])
    state = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    make = lambda: EmulatorNetwork(config, scale, len(tensors["offset"]))  # noqa: E731
    with torch.random.fork_rng(devices=[]):  # to load is not to draw
        network = built(make, config.model_dump(), state, folder / WEIGHTS)
    return Emulator(
        network,
        Basis(
            card["start"],
            card["step"],
            tensors["offset"],
            tensors["components"],
            np.array(card["continuum"]),
            card["resolution"],
        ),
        scale,
        **{key: column[key] for key in ("low", "high", "mean", "spread")},
        card=card,
    )
