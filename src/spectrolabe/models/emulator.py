"""The emulator: labels to the spectrum of a star, for any instrument, with exact derivatives.

A transformer maps labels to a few numbers for each patch of spectrum, and a fixed basis of that
patch maps those to flux. Everything after the network is linear, so that a line-spread function, a
velocity and the pixels of an instrument act on the basis once, and never on single spectra.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from safetensors.torch import save
from scipy.interpolate import CubicSpline
from torch import Tensor, nn
from torch.nn.functional import silu

from spectrolabe.config import EmulatorConfig
from spectrolabe.errors import InputError
from spectrolabe.labels import LabelScale, read_only
from spectrolabe.models.checkpoint import CARD, WEIGHTS, read_card, read_weights, write_file

__all__ = ["Basis", "Emulator", "EmulatorNetwork", "forward_mode", "load_emulator", "save_emulator"]

FORMAT, FORMAT_VERSION = "spectrolabe-emulator", 1
STRUCTURAL = ("teff", "logg", "fe_h", "v_micro")  # they decide the layers; elements are added


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
        self.read = PerItem(groups, flat, config.patch_width)
        outputs = config.group * (config.components + 1)
        self.of_state = PerItem(groups, config.state_width, outputs)
        self.of_patch = PerItem(groups, config.patch_width, outputs)

    def forward(self, labels: Tensor, patches: slice = slice(None)) -> Tensor:
        """Return the latents of a slice of the patches."""
        first, last, _ = patches.indices(self.patches)
        groups = slice(first // self.group, -(-last // self.group))
        tokens = self._tokens(labels).flatten(1)
        state = silu(self.enter(tokens))
        for layer in self.layers:
            state = state + silu(layer(state))
        own = silu(self.read.of_all(tokens, groups))
        out = self.of_state.of_all(state, groups) + self.of_patch(own, groups)
        begin = first - groups.start * self.group
        return out.unflatten(-1, (self.group, -1)).flatten(1, 2)[:, begin : begin + last - first]

    def with_slopes(
        self, labels: Tensor, columns: Sequence[int], patches: slice = slice(None)
    ) -> tuple[Tensor, Tensor]:
        """Return latents, shape (N, P', K + 1), and their slopes, shape (N, J, P', K + 1).

        The same as `forward_mode`, four times as fast: beyond the tokens a slope passes through a
        layer as one product of matrices, all labels and stars together.

        Parameters
        ----------
        labels : Tensor, shape (N, L)
            Scaled.
        columns : sequence of int
            The J labels.
        patches : slice
        """
        first, last, _ = patches.indices(self.patches)
        groups = slice(first // self.group, -(-last // self.group))
        tokens, along = forward_mode(self._tokens, labels, columns)
        tokens, along = tokens.flatten(1), along.flatten(2)
        state, by_state = _silu_slopes(self.enter(tokens), along @ self.enter.weight.T)
        for layer in self.layers:
            step, by_step = _silu_slopes(layer(state), by_state @ layer.weight.T)
            state, by_state = state + step, by_state + by_step
        read = self.read.weight[groups].transpose(0, 1).flatten(1)
        before = self.read.of_all(tokens, groups)
        own, by_own = _silu_slopes(before.flatten(1), along @ read)
        stars = (len(labels), len(columns))
        out = self.of_state.of_all(state, groups) + self.of_patch(own.view(before.shape), groups)
        flat = by_own.view(-1, *before.shape[1:])
        slopes = torch.matmul(flat.transpose(0, 1), self.of_patch.weight[groups])
        shared = self.of_state.weight[groups].transpose(0, 1).flatten(1)
        total = (by_state.flatten(0, 1) @ shared).view(len(flat), len(slopes), -1)
        total += slopes.transpose(0, 1)
        begin = first - groups.start * self.group
        cut = slice(begin, begin + last - first)
        value = out.unflatten(-1, (self.group, -1)).flatten(1, 2)[:, cut]
        return value, total.view(*stars, len(slopes) * self.group, -1)[:, :, cut]

    def _tokens(self, labels: Tensor) -> Tensor:
        own = labels / self.spread + self.metallicity * labels[:, self.fe_h, None]
        common = labels[:, None, self.structural].expand(-1, labels.shape[1], -1)
        tokens = self.token_out(silu(self.token_in(torch.cat([own[:, :, None], common], dim=-1))))
        for block in self.mix:
            tokens = block(tokens)
        return tokens


def forward_mode(
    function: Callable[[Tensor], Tensor], labels: Tensor, columns: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Return a function of labels, shape (N, ...), and its slopes with J of them, (N, J, ...).

    Parameters
    ----------
    function : callable
        Of labels, shape (N, L), a star at a time.
    labels : Tensor, shape (N, L)
    columns : sequence of int
        The J labels.
    """
    tangents = torch.zeros(len(columns), *labels.shape)
    tangents[torch.arange(len(columns)), :, list(columns)] = 1.0

    def along(tangent: Tensor) -> Any:
        return torch.func.jvp(function, (labels,), (tangent,))[1]

    return function(labels), torch.func.vmap(along, out_dims=1)(tangents)


def _silu_slopes(before: Tensor, slopes: Tensor) -> tuple[Tensor, Tensor]:
    """Silu of values, shape (N, D), and what becomes of slopes before it, shape (N, J, D)."""
    gate = torch.sigmoid(before)
    value = before * gate
    return value, slopes.mul_((gate + value * (1.0 - gate))[:, None])


class PerItem(nn.Module):
    """A linear layer of its own for each of the items of axis 1: (N, I, A) to (N, I, B)."""

    def __init__(self, items: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(items, inputs, outputs) / inputs**0.5)
        self.bias = nn.Parameter(torch.zeros(items, outputs))

    def forward(self, values: Tensor, items: slice = slice(None)) -> Tensor:
        """Apply the layers of a slice of the items, each to its own values."""
        product = torch.matmul(values.transpose(0, 1), self.weight[items]).transpose(0, 1)
        return product + self.bias[items]

    def of_all(self, values: Tensor, items: slice = slice(None)) -> Tensor:
        """Apply the layers of a slice of the items to the same values, shape (N, A)."""
        weight = self.weight[items]
        flat = weight.transpose(0, 1).flatten(1)
        return (values @ flat).unflatten(-1, weight.shape[::2]) + self.bias[items]


class Block(nn.Module):
    """Attention of tokens, shape (N, A, D), to each other, then a layer on each; both add."""

    def __init__(self, width: int, heads: int, expansion: int) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.after = nn.LayerNorm(width), nn.LayerNorm(width)
        self.into, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = (
            nn.Linear(width, expansion * width),
            nn.Linear(expansion * width, width),
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the tokens after they have seen each other."""
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(-2, -3)
            for part in self.into(self.before(tokens)).chunk(3, dim=-1)
        )
        weight = torch.softmax(query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5, dim=-1)
        tokens = tokens + self.out((weight @ value).transpose(-2, -3).flatten(-2))
        return tokens + self.down(silu(self.up(self.after(tokens))))


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
        Or what has its ``forward`` and ``with_slopes``.
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

    def _scaled(self, labels: ArrayLike) -> Tensor:
        values = np.atleast_2d(np.asarray(labels, dtype=np.float64))
        if values.shape[1] != len(self.names):
            raise InputError(
                "labels",
                expected=f"shape (stars, {len(self.names)}): {', '.join(self.names)}",
                found=f"shape {values.shape}",
            )
        return torch.from_numpy(self.scale.scale(values).astype(np.float32))

    @torch.no_grad()
    def latents(self, labels: ArrayLike, patches: slice = slice(None)) -> Tensor:
        """Return the latents of N stars, shape (N, P', K).

        Parameters
        ----------
        labels : array_like, shape (N, L)
            In the order of `names`, physical units.
        patches : slice
            Which patches of the spectrum.
        """
        return self.network(self._scaled(labels), patches)[..., :-1]

    @torch.no_grad()
    def latents_and_slopes(
        self,
        labels: ArrayLike,
        columns: Sequence[int] | None = None,
        patches: slice = slice(None),
    ) -> tuple[Tensor, Tensor]:
        """Return latents, shape (N, P', K), and their exact slopes, shape (N, J, P', K).

        Parameters
        ----------
        labels : array_like, shape (N, L)
        columns : sequence of int, optional
            With respect to which J labels; all if not given. Slopes are per unit of the label.
        patches : slice
        """
        scaled = self._scaled(labels)
        chosen = list(range(len(self.names)) if columns is None else columns)
        value, slopes = self.network.with_slopes(scaled, chosen, patches)
        slopes = slopes[..., :-1] / self._width[chosen][:, None, None]
        return value[..., :-1], slopes

    @torch.no_grad()
    def continuum(self, labels: ArrayLike, wavelength: ArrayLike) -> NDArray:
        """Return the flux of the continuum at the surface, erg/s/cm2/Å, shape (N, M).

        Parameters
        ----------
        labels : array_like, shape (N, L)
        wavelength : array_like, shape (M,)
            Vacuum Angstrom, at rest.
        """
        last = self.network(self._scaled(labels))[..., -1].double().numpy()
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
    card = read_card(folder, FORMAT, FORMAT_VERSION)
    tensors = {name: value.float() for name, value in read_weights(folder, card).items()}
    column = {key: np.array([e[key] for e in card["labels"]]) for key in card["labels"][0]}
    names = tuple(column["name"].tolist())
    scale = LabelScale(names, column["centre"], column["width"])
    network = EmulatorNetwork(EmulatorConfig(**card["network"]), scale, len(tensors["offset"]))
    prefix = "network."
    state = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    network.load_state_dict(state)
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
