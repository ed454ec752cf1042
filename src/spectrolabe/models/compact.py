"""Spectra of stars as sums of a few functions of wavelength: a whole emulator in 256 numbers.

What stars of a wide range have in common, and what each label changes, spans far fewer functions
than there are pixels. A small network says how much of each function a star has, with exact
slopes; the functions are kept once, at the finest resolution, and blurred to that of a spectrum.
Then the chi2 of any labels is a matter of a few hundred numbers. What they lack of the emulators
that they were made of, a few parts in a thousand, is asked of these where a fit ends.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array, vstack
from torch import Tensor, nn

from spectrolabe.config import CompactConfig
from spectrolabe.errors import InputError
from spectrolabe.models.forward_mode import PerItem, linear, silu
from spectrolabe.models.local import Local, freedom
from spectrolabe.models.node_spectra import FINEST, emulated_nodes
from spectrolabe.models.observed import Observed
from spectrolabe.models.tokens import NODES, Tokens, ladder_level, ladder_resolution, node_width
from spectrolabe.spectra.broadening import FWHM

__all__ = ["REACH", "Amounts", "At", "CompactSpectra", "step_of"]

BLOCK = 512  # nodes that share a scale
REACH = 3  # nodes on either side of a token that derivatives need
MOST_TABLES = 48  # kept, up to 0.1 GB each: those used last
TOGETHER = 64  # spectra of emulators at a time
SHARES = 2  # tables for a factor of two in the variance of what blurs a spectrum


class Amounts(nn.Module):
    """Scaled labels, shape (S, A), to the amounts of M functions, shape (S, M), with slopes.

    A sum of what each element adds, which depends on its [X/H] and on what decides the layers of
    a star, and of a smaller network that sees all labels.

    Parameters
    ----------
    structural : Tensor, shape (5,), int64
        Labels that decide how a star looks whatever its abundances; [Fe/H] is the third.
    elements : Tensor, shape (I,), int64
        Abundances relative to iron.
    per_fe_h : Tensor, shape (I,)
        What one of the scaled [Fe/H] adds to the scaled [X/H].
    functions, width, own : int
        M, and hidden widths: of the network that sees all, and of each element's.
    """

    structural: Tensor
    elements: Tensor
    per_fe_h: Tensor

    def __init__(
        self,
        structural: Tensor,
        elements: Tensor,
        per_fe_h: Tensor,
        functions: int,
        width: int,
        own: int,
    ) -> None:
        super().__init__()
        self.register_buffer("structural", structural)
        self.register_buffer("elements", elements)
        self.register_buffer("per_fe_h", per_fe_h.float())
        common, items = len(structural), len(elements)
        self.enter = nn.Linear(common + items, width)
        self.layers: Any = nn.ModuleList(nn.Linear(width, width) for _ in range(2))
        self.out = nn.Linear(width, functions)
        self.item_in = PerItem(items, 1 + common, own)
        self.item_layer = PerItem(items, own, own)
        self.item_out = nn.Parameter(torch.randn(items, own, functions) / (own * items) ** 0.5)

    def with_slopes(self, labels: Tensor) -> Tensor:
        """Return amounts and their slopes with all labels, shape (S, 1 + A, M); amounts first.

        Parameters
        ----------
        labels : Tensor, shape (S, A)
        """
        every = torch.eye(labels.shape[1], device=labels.device, dtype=labels.dtype)
        out = self._shared(labels, every)
        state = self._items(labels, slopes=True)  # (S, 1 + 5 + 1, I, H)
        weight = self.item_out
        common = state[:, :-1].flatten(2) @ weight.flatten(0, 1)
        out[:, 0] += common[:, 0]
        out = out.index_add(1, 1 + self.structural, common[:, 1:])
        own = torch.matmul(state[:, -1].transpose(0, 1), weight).transpose(0, 1)
        return out.index_add(1, 1 + self.elements, own)

    def forward(self, labels: Tensor) -> Tensor:
        """Return the amounts."""
        shared = self._shared(labels, labels[:0])[:, 0]
        state = self._items(labels, slopes=False)[:, 0]
        return shared + state.flatten(1) @ self.item_out.flatten(0, 1)

    def _shared(self, labels: Tensor, directions: Tensor) -> Tensor:
        rows = torch.cat([labels[:, None], directions.expand(len(labels), -1, -1)], dim=1)
        state = silu(linear(rows, self.enter.weight, self.enter.bias))
        for layer in self.layers:
            state = state + silu(linear(state, layer.weight, layer.bias))
        return linear(state, self.out.weight, self.out.bias)

    def _items(self, labels: Tensor, *, slopes: bool) -> Tensor:
        """States of elements: values, slopes with the structural labels, and with their own."""
        common, items = len(self.structural), len(self.elements)
        own = labels[:, self.elements] + self.per_fe_h * labels[:, self.structural[2], None]
        shared = labels[:, None, self.structural].expand(-1, items, -1)
        rows = torch.cat([own[..., None], shared], dim=2)[:, None]  # (S, 1, I, 6)
        if slopes:
            turn = rows.new_zeros(common + 1, items, 1 + common)
            places = torch.arange(common, device=labels.device)
            turn[places, :, 1 + places] = 1.0
            turn[2, :, 0] = self.per_fe_h
            turn[-1, :, 0] = 1.0
            rows = torch.cat([rows, turn.expand(len(labels), -1, -1, -1)], dim=1)
        state = silu(self.item_in(rows))
        return state + silu(self.item_layer(state))


class At(NamedTuple):
    """Functions at P places.

    Parameters
    ----------
    rows : Tensor, shape (P, NODES + 2 REACH, 1 + M)
        Mean and functions.
    smooth : Tensor, shape (P, 1 + degree, M)
        Of powers of the place in a token: what a continuum takes of the functions.
    variance : Tensor, shape (P,)
        Of what blurs the rows, in squared distances of nodes.
    """

    rows: Tensor
    smooth: Tensor
    variance: Tensor


class _Table(NamedTuple):
    """Rows on the nodes of a level and lines on its tokens, the last of them 0.

    And numbers of the first ones, and how many there are, of each stretch.
    """

    rows: Tensor
    first: Tensor
    size: Tensor
    smooth: Tensor
    first_token: Tensor
    tokens: Tensor
    variance: float


def step_of(spread: Tensor) -> Tensor:
    """Return the number of the table nearest to a variance in squared distances of nodes."""
    return torch.round(SHARES * torch.log2(spread.clamp(min=1e-3))).long()


class CompactSpectra(nn.Module):
    """The content of tokens of any star: mean + amounts @ functions.

    Parameters
    ----------
    rows : Tensor, shape (N, 1 + M)
        Mean content of the nodes of the finest level, and the functions.
    first, size : Tensor, shape (S,), int64
        Number of the first node of S stretches of wavelength, and nodes of each.
    amounts : Amounts
    centre, width : Tensor, shape (A,)
        Scaling of the labels: temperature and so on, and last ln(v_broad).
    low, high : Tensor, shape (A,)
        Range of the scaled labels.
    prior : Tensor, shape (A, A)
        Covariance of the scaled labels of stars about their mean, which is 0.
    starts : Tensor, shape (K, A)
        Scaled labels that fits may start from.
    resolution : float
        R of the rows.
    emulators : tuple of str
        Those that they are of, by name; empty if they are not of any.
    """

    packed: Tensor
    scale: Tensor
    first: Tensor
    size: Tensor
    resolution: Tensor
    centre: Tensor
    width: Tensor
    low: Tensor
    high: Tensor
    prior: Tensor
    starts: Tensor

    def __init__(
        self,
        rows: Tensor,
        first: Tensor,
        size: Tensor,
        amounts: Amounts,
        *,
        centre: Tensor,
        width: Tensor,
        low: Tensor,
        high: Tensor,
        prior: Tensor,
        starts: Tensor,
        resolution: float = 28000.0,
        emulators: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        self.emulators = emulators
        if emulators:  # now, and not in the middle of a fit
            emulated_nodes(emulators)
        scale = [b.abs().amax(dim=0).clamp(min=1e-12) / 127.0 for b in rows.split(BLOCK)]
        packed = [
            torch.round(b / s).to(torch.int8) for b, s in zip(rows.split(BLOCK), scale, strict=True)
        ]
        self.amounts = amounts.requires_grad_(False)
        self.observed = Observed()
        self.register_buffer("packed", torch.cat(packed))
        self.register_buffer("scale", torch.stack(scale))
        self.register_buffer("first", first)
        self.register_buffer("size", size)
        self.register_buffer("resolution", torch.tensor(float(resolution)))
        for name, values in (
            ("centre", centre),
            ("width", width),
            ("low", low),
            ("high", high),
            ("prior", prior),
            ("starts", starts),
        ):
            self.register_buffer(name, values.float())
        self._tables: OrderedDict[tuple[int, int], _Table] = OrderedDict()
        self._whole: NDArray | None = None

    @classmethod
    def empty(cls, config: CompactConfig) -> CompactSpectra:
        """Return compact spectra that wait for the weights of a model."""
        number, labels = torch.zeros(1, dtype=torch.long), torch.zeros(config.labels)
        common = config.labels - config.elements
        return cls(
            torch.zeros(1, 1 + config.functions),
            number,
            number + 1,
            Amounts(
                torch.zeros(common, dtype=torch.long),
                torch.zeros(config.elements, dtype=torch.long),
                torch.zeros(config.elements),
                config.functions,
                config.width,
                config.own,
            ),
            centre=labels,
            width=labels + 1.0,
            low=labels - 1.0,
            high=labels + 1.0,
            prior=torch.eye(config.labels),
            starts=labels[None],
            emulators=config.emulators,
        )

    def size_of(self) -> CompactConfig:
        """Return what `empty` takes."""
        items, own, functions = self.amounts.item_out.shape
        return CompactConfig(
            functions=functions,
            labels=len(self.centre),
            elements=items,
            width=self.amounts.enter.out_features,
            own=own,
            emulators=self.emulators,
        )

    @property
    def functions(self) -> int:
        """M, and what was learnt from observed stars."""
        return self.packed.shape[1] - 1 + self.observed.count

    def shares(self, labels: Tensor) -> Tensor:
        """Return how much of each function stars of scaled labels (S, A) have, (S, functions)."""
        amounts = self.amounts(labels)
        if not self.observed.count:
            return amounts
        return torch.cat([amounts, self.observed.terms(labels[:, self.main])], dim=1)

    def shares_with_slopes(self, labels: Tensor) -> Tensor:
        """Return the same and their slopes with all labels, (S, 1 + A, functions)."""
        rows = self.amounts.with_slopes(labels)
        if not self.observed.count:
            return rows
        main = labels[:, self.main]
        more = rows.new_zeros(*rows.shape[:2], self.observed.count)
        more[:, 0] = self.observed.terms(main)
        more[:, 1 + self.main] = self.observed.slopes(main)
        return torch.cat([rows, more], dim=2)

    @property
    def main(self) -> Tensor:
        """Which labels are Teff, log g and [Fe/H]."""
        return self.amounts.structural[:3]

    def seen(self, tokens: Tokens, labels: Tensor) -> Tokens:
        """Return tokens of computed spectra with what was learnt from observed ones.

        Parameters
        ----------
        tokens : Tokens
        labels : Tensor, shape (B, 3)
            Teff, log g and [Fe/H], in their units.
        """
        main = self.main
        return self.observed.added(tokens, (labels - self.centre[main]) / self.width[main])

    def at(self, places: Tensor, steps: Tensor) -> At:
        """Return mean and functions at P places.

        Parameters
        ----------
        places : Tensor, shape (P, 2)
            Of one level; see `spectrolabe.models.tokens.Tokens`.
        steps : Tensor, shape (P,), int64
            What blurs the spectra there, as `step_of` has it.
        """
        count, size = NODES + 2 * REACH, self.packed.shape[1]
        rows = self.scale.new_zeros(len(places), count, size)
        variance, lines = self.scale.new_empty(len(places)), []
        level = int(ladder_level(places[0, 1].double().exp()))
        token, node = _nodes(places, level)
        order = []
        for step in torch.unique(steps).tolist():
            here = steps == step
            table = self._table(level, step)
            rows[here] = table.rows[_rows(node[here], table.first, table.size)]
            lines.append(table.smooth[_rows(token[here], table.first_token, table.tokens)])
            order.append(here.nonzero()[:, 0])
            variance[here] = table.variance
        smooth = torch.cat(lines)[torch.cat(order).argsort()]
        if self.observed.count:
            rows = torch.cat([rows, self.observed.at(places, REACH)], dim=2)
            smooth = torch.nn.functional.pad(smooth, (0, self.observed.count))
        return At(rows, smooth, variance)

    def _table(self, level: int, step: int) -> _Table:
        table = self._tables.get((level, step)) or self._made(level, step)
        self._tables[level, step] = table
        self._tables.move_to_end((level, step))
        while len(self._tables) > MOST_TABLES:
            self._tables.popitem(last=False)
        return table

    def smoothing(self, places: Tensor, steps: Tensor) -> list[csr_array]:
        """Return what takes each stretch of the finest nodes to those of P places.

        Parameters
        ----------
        places, steps
            See `at`.

        Returns
        -------
        list of csr_array, shape (P (NODES + 2 REACH), nodes of the stretch)
        """
        level = int(ladder_level(places[0, 1].double().exp()))
        node, step = _nodes(places, level)[1].numpy(force=True), steps.numpy(force=True)
        found = []
        for first, size in self._stretches():
            low, high = _covered(first, size, level)
            inside = (node >= low) & (node < high)
            at = (node + 0.5) * node_width(level) / node_width(FINEST) - (first + 0.5)
            parts, order = [csr_array((int((~inside).sum()), size), dtype=np.float32)], [~inside]
            for one in np.unique(step[inside.any(axis=1)]).tolist():
                mine = inside & (step == one)[:, None]
                parts.append(_kernel(at[mine], size, self._sigma(level, one)))
                order.append(mine)
            rows = np.concatenate([np.flatnonzero(part) for part in order])
            found.append(csr_array(vstack(parts, format="csr"))[np.argsort(rows)])
        return found

    def emulated(self, labels: Tensor, smoothing: Sequence[csr_array]) -> Tensor:
        """Return normalised flux less 1 as the emulators have it, (P (NODES + 2 REACH), S).

        Parameters
        ----------
        labels : Tensor, shape (S, A)
        smoothing : sequence of csr_array
            Of `smoothing`.

        Raises
        ------
        InputError
            If the emulators of these names are others than those that the functions are of.
        """
        values = (labels * self.width + self.centre).double().numpy(force=True)
        spectra = emulated_nodes(self.emulators)
        if spectra.stretches != self._stretches():
            raise InputError(
                ", ".join(self.emulators),
                expected="the emulators that this model was made with",
                found="others of the same name",
                fix="Rename a folder of that name here, or train the model again.",
            )
        out = np.zeros((smoothing[0].shape[0], len(values)), np.float32)
        for begin in range(0, len(values), TOGETHER):
            some = slice(begin, begin + TOGETHER)
            for stretch, matrix in enumerate(smoothing):
                if matrix.nnz:
                    out[:, some] += matrix @ spectra.flux(stretch, values[some])
        return torch.as_tensor(out, device=labels.device)

    def _stretches(self) -> list[tuple[int, int]]:
        """Number of the first node, and nodes of each."""
        return list(zip(self.first.tolist(), self.size.tolist(), strict=True))

    def _variance(self, level: int, step: int) -> tuple[float, float]:
        """In ln(wavelength), of the rows, and wanted; not less."""
        own = (float(self.resolution) * FWHM) ** -2
        return own, max(2.0 ** (step / SHARES) * node_width(level) ** 2, own)

    def _sigma(self, level: int, step: int) -> float:
        """Of the kernel that blurs the rows, in the finest nodes."""
        own, wanted = self._variance(level, step)
        return float(np.sqrt(wanted - own)) / node_width(FINEST)

    def _made(self, level: int, step: int) -> _Table:
        width, finest = node_width(level), node_width(FINEST)
        rows = self._unpacked()
        tables, smooth, firsts, begin = [], [], [], 0
        for first, size in self._stretches():
            low, high = _covered(first, size, level)
            at = (np.arange(low, high) + 0.5) * width / finest - (first + 0.5)
            kernel = _kernel(at, size, self._sigma(level, step))
            tables.append(kernel @ rows[begin : begin + size])
            smooth.append(_lines(tables[-1][:, 1:], low, level))
            firsts.append(low)
            begin += size
        nothing, none = np.zeros((1, rows.shape[1])), np.zeros((1, *smooth[0][1].shape[1:]))
        there = lambda a: torch.as_tensor(a).to(self.packed.device)  # noqa: E731
        return _Table(
            there(np.concatenate([*tables, nothing]).astype(np.float32)),
            there([*firsts]),
            there([len(table) for table in tables]),
            there(np.concatenate([*(lines for _, lines in smooth), none]).astype(np.float32)),
            there([number for number, _ in smooth]),
            there([len(lines) for _, lines in smooth]),
            self._variance(level, step)[1] / width**2,
        )

    def _unpacked(self) -> NDArray:
        """All rows as numbers, which tables are made of; kept, since to make them takes longer."""
        if self._whole is None:
            scale = self.scale.repeat_interleave(BLOCK, dim=0)[: len(self.packed)]
            self._whole = (self.packed * scale).cpu().numpy()
        return self._whole

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Take buffers of any size."""
        for name in ("packed", "scale", "first", "size", "starts"):
            if prefix + name in state:
                setattr(self, name, torch.empty_like(state[prefix + name]))
        self._tables, self._whole = OrderedDict(), None
        super()._load_from_state_dict(state, prefix, *rest)


def _covered(first: int, size: int, level: int) -> tuple[int, int]:
    """First node of a level that a stretch of the finest nodes covers, and the one after."""
    share = node_width(FINEST) / node_width(level)
    return int(np.ceil((first + 0.5) * share - 0.5)), int((first + size - 0.5) * share - 0.5)


def _nodes(places: Tensor, level: int) -> tuple[Tensor, Tensor]:
    """Numbers of the tokens of P places, and of their nodes, (P, NODES + 2 REACH)."""
    token = torch.round(places[:, 0].double() / node_width(level) / NODES - 0.5).long()
    near = torch.arange(-REACH, NODES + REACH, device=places.device)
    return token, (token * NODES)[:, None] + near


def _kernel(at: NDArray, size: int, sigma: float) -> csr_array:
    """Weights of ``size`` even samples for a smoothed value at each place, (places, size)."""
    half = max(1, int(np.ceil(4.0 * sigma)))
    index = np.floor(at).astype(int)[:, None] + np.arange(1 - half, 1 + half)
    distance = np.abs(at[:, None] - index)
    if sigma > 0.5:
        weight = np.exp(-0.5 * (distance / sigma) ** 2)
    else:
        weight = np.clip(1.0 - distance, 0.0, None)
    weight /= weight.sum(axis=1, keepdims=True)
    index = np.clip(index, 0, size - 1)
    pointer = np.arange(len(at) + 1) * index.shape[1]
    data = (weight.astype(np.float32).ravel(), index.ravel(), pointer)
    return csr_array(data, shape=(len(at), size))


def _lines(functions: NDArray, low: int, level: int) -> tuple[int, NDArray]:
    """What a continuum would take of functions on the nodes of a stretch.

    Number of the first token, and coefficients of M functions on each, (tokens, 1 + degree, M).
    """
    first, last = low // NODES, -(-(low + len(functions)) // NODES)
    padded = np.zeros(((last - first) * NODES, functions.shape[1]), np.float32)
    begin = low - first * NODES
    padded[begin : begin + len(functions)] = functions
    cover = torch.zeros(len(padded))
    cover[begin : begin + len(functions)] = 1.0
    tokens = torch.arange(first, last) + 0.5
    power = ladder_resolution(torch.tensor(level))
    places = torch.stack(
        [tokens * NODES * node_width(level), power.log().expand(len(tokens))], dim=1
    )
    values = torch.from_numpy(padded).unflatten(0, (-1, NODES)).transpose(1, 2)
    local = Local(places, freedom(float(power)), cover.view(-1, 1, NODES))
    return first, local.fitted(values).transpose(1, 2).numpy()


def _rows(node: Tensor, first: Tensor, size: Tensor) -> Tensor:
    """Rows of nodes by their number; the last row for those that there are not."""
    last = int(size.sum())
    row = torch.full_like(node, last)
    begin = 0
    for start, count in zip(first.tolist(), size.tolist(), strict=True):
        inside = (node >= start) & (node < start + count)
        row = torch.where(inside, node - start + begin, row)
        begin += count
    return row
