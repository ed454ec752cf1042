"""The tokens of spectra, and what amounts of the functions of compact spectra make of them."""

from __future__ import annotations

from functools import cache, cached_property

import torch
from scipy.sparse import csr_array
from torch import Tensor

from spectrolabe.models.compact import REACH, At, CompactSpectra, step_of
from spectrolabe.models.local import AS_TOKENS, Local, freedom, token_places
from spectrolabe.models.tokens import (
    COVERAGE_FLOOR,
    NODE_STEP,
    NODES,
    Tokens,
    ladder_level,
    ladder_resolution,
)
from spectrolabe.spectra.wavelength import SPEED_OF_LIGHT

__all__ = ["Explained"]

FLOOR = 0.002  # of the continuum: error of a spectrum of a few functions
EMULATED_FLOOR = 0.0005  # and of one that was asked of the emulators
EXPLAINED = 1.0  # mean square of residuals over noise that a token may have; noise alone has 0.7
STEPS = 64  # more than there are tables of a level
PASSES = 3  # each takes what the last left
DEEPEST = 0.05  # of the continuum
# sixth-order differences of evenly spaced values
SLOPE = (-1 / 60, 3 / 20, -3 / 4, 0.0, 3 / 4, -3 / 20, 1 / 60)
CURVE = (1 / 90, -3 / 20, 3 / 2, -49 / 18, 3 / 2, -3 / 20, 1 / 90)


class Explained:
    """The tokens of a part as E entries see them; arrays are (P, E, NODES), or (P, E) of tokens.

    Parameters
    ----------
    tokens : Tokens
    spectrum : Tensor, shape (E,)
        Rows of the tokens.
    compact : CompactSpectra
    """

    def __init__(self, tokens: Tokens, spectrum: Tensor, compact: CompactSpectra) -> None:
        cover = (tokens.coverage * tokens.valid[..., None])[spectrum]
        total = cover.sum(dim=2)
        spread = (cover * tokens.spread[spectrum]).sum(dim=2) / total.clamp(min=1e-6)
        # a place counts as several where spectra are blurred differently
        step = torch.where(total > 0, step_of(spread), 0) + STEPS // 2
        key = tokens.place[spectrum] * STEPS + step.clamp(0, STEPS - 1)
        used, place = torch.unique(key, return_inverse=True)
        self.places = tokens.places[used // STEPS]
        entries = torch.arange(len(spectrum), device=place.device)[:, None]
        self.where = (place, entries.expand_as(place))

        def put(values: Tensor) -> Tensor:
            values = values[spectrum]
            out = values.new_zeros(len(used), len(spectrum), *values.shape[2:])
            return out.index_put(self.where, values)

        self.cover = put(tokens.coverage * tokens.valid[..., None])
        self.shrink = self.cover / (self.cover + COVERAGE_FLOOR)
        self.content, self.offset = put(tokens.content), put(tokens.offset)
        self.mean_cover = self.cover.mean(dim=2)
        snr = torch.expm1(put(tokens.log_snr))
        noise = self.mean_cover.clamp(min=1e-3) / (NODE_STEP * snr**2).clamp(min=1e-6)
        error, relative = compact.observed.errors(self.places)
        self.noise = noise + error[:, None]
        self.relative = relative[:, None]
        self._set_floor(FLOOR)
        self.trust = torch.ones_like(self.weight)
        self.compact, self.steps = compact, used % STEPS - STEPS // 2
        self._set_functions(compact.at(self.places, self.steps), put(tokens.spread))

    def _set_floor(self, floor: float) -> None:
        self.variance = self.noise + floor**2
        self.weight = torch.where(self.mean_cover > 0, 1.0 / self.variance, 0.0)

    def _set_functions(self, found: At, spread: Tensor) -> None:
        places = self.places
        self.resolution = float(places[:, 1].exp().mean())
        self.mean, self.functions = found.rows[..., :1], found.rows[..., 1:].contiguous()
        self.blur = torch.where(self.cover > 0, spread - found.variance[:, None, None], 0.0)
        step = NODE_STEP / ladder_resolution(ladder_level(places[:, 1].double().exp()))
        self.differences = _differences(wide=NODES + 2 * REACH).to(self.mean.device)
        self.per_velocity = (1.0 / SPEED_OF_LIGHT / step).float()[:, None, None]
        self.continuum = Local(places, AS_TOKENS, self.cover)
        free = freedom(self.resolution)
        self.narrow = None if free == AS_TOKENS else Local(places, free, self.cover)
        # what a label changes smoothly cannot be told from a continuum
        powers = torch.arange(found.smooth.shape[1], device=places.device)
        along = token_places(places.device)[:, None] ** powers
        self.inner = self.functions[:, REACH:-REACH] - along @ found.smooth

    def gram(self) -> Tensor:
        """Return the products of the functions, summed over tokens by their weights, (E, M, M)."""
        weight = (self.weight * self.trust * self.mean_cover).T
        return (weight @ self.products.flatten(1)).unflatten(1, self.products.shape[1:])

    @cached_property
    def products(self) -> Tensor:
        """Of the functions on each token, (P, M, M)."""
        weighed = self.inner * self.relative[:, 0, :, None]
        return torch.matmul(weighed.transpose(1, 2), self.inner)

    @cached_property
    def smoothing(self) -> list[csr_array]:
        """What takes spectra of emulators to the nodes."""
        return self.compact.smoothing(self.places, self.steps)

    def correct(self, labels: Tensor, amounts: Tensor) -> None:
        """Let predictions be those of the emulators at some labels; nothing without emulators.

        Parameters
        ----------
        labels : Tensor, shape (E, A)
            Scaled, where they are to agree.
        amounts : Tensor, shape (E, M)
            That go with them.
        """
        if not self.compact.emulators:
            return
        own = amounts.shape[1] - self.compact.observed.count
        own_labels, back = torch.unique(labels, dim=0, return_inverse=True)  # of each view
        exact = self.compact.emulated(own_labels, self.smoothing)[:, back]
        computed = self.functions[..., :own].flatten(0, 1) @ amounts[:, :own].T
        self.mean = (exact - computed).unflatten(0, self.functions.shape[:2])
        self._set_floor(EMULATED_FLOOR)

    def look(
        self, amounts: Tensor, velocity: Tensor, *, reweigh: bool = False
    ) -> tuple[Tensor, ...]:
        """Return the sums of `spectrolabe.models.first_fit` at amounts (E, M), km/s (E,)."""
        content, slope = self.predict(amounts, velocity)
        residual = self.content - content
        if reweigh:
            self._doubt(residual)
        weight = self.cover * self.relative * (self.weight * self.trust)[..., None]
        flat = self.inner.flatten(0, 1)
        wr, ws = weight * residual, weight * slope
        both = torch.cat([wr, ws], dim=1).transpose(1, 2).flatten(0, 1).T @ flat
        score, cross = both.split(len(amounts))
        chi2, pull, power = (
            (a * b).sum(dim=(0, 2)) for a, b in ((wr, residual), (wr, slope), (ws, slope))
        )
        return chi2, score, pull, cross, power

    def predict(self, amounts: Tensor, velocity: Tensor) -> tuple[Tensor, Tensor]:
        """Return the content of tokens and its slope with velocity.

        Parameters
        ----------
        amounts : Tensor, shape (E, M)
        velocity : Tensor, shape (E,)
            km/s.
        """
        wide = (self.functions.flatten(0, 1) @ amounts.T).unflatten(0, (len(self.mean), -1))
        wide = (wide + self.mean).transpose(1, 2)  # (P, E, NODES + 2 REACH)
        slope, curve = (wide @ self.differences).split(NODES, dim=2)
        move = self.offset - velocity[None, :, None] * self.per_velocity
        flux = 1.0 + wide[..., REACH:-REACH] + move * slope + 0.5 * (self.blur + move**2) * curve
        turned = -(slope + move * curve) * self.per_velocity
        return self._normalised(flux), turned * self.shrink

    def _normalised(self, flux: Tensor) -> Tensor:
        """Content of flux: less a local continuum as that of the data."""
        content = flux / self.continuum.line(flux).clamp(min=DEEPEST)
        if self.narrow is not None:
            # what is smooth in the ratio is light of the instrument
            seen = self.cover + self.content * (self.cover + COVERAGE_FLOOR)
            for _ in range(PASSES):
                content = content * self.narrow.ratio(content * seen, content**2 * self.cover)
        return (content - 1.0) * self.shrink

    def _doubt(self, residual: Tensor) -> None:
        """Let tokens weigh less whose residuals noise does not explain."""
        square = residual**2 * self.cover * self.relative
        mean = square.sum(dim=2) / self.cover.sum(dim=2).clamp(min=1e-3)
        self.trust = 1.0 / (mean / self.variance / EXPLAINED).clamp(min=1.0)

    def told(self, amounts: Tensor, velocity: Tensor, turn: Tensor) -> tuple[Tensor, ...]:
        """Return what a fit says of each token, see `spectrolabe.models.first_fit.TokenView`.

        And the sum of squares of residuals over noise, and of how many.

        Parameters
        ----------
        amounts, velocity
            See `predict`.
        turn : Tensor, shape (E, A, M)
            What each label has of a residual along each function.
        """
        model = self.predict(amounts, velocity)[0]
        residual = self.content - model
        weight = self.cover * self.relative * (self.weight * self.trust)[..., None]
        score = torch.bmm(weight * residual, self.inner)  # (P, E, M)
        influence = torch.einsum("pem,eam->pea", score, turn)
        sigma = (self.variance[..., None] / self.relative).sqrt()
        z = residual / sigma * (self.cover > 0)
        square = (z**2 * self.cover).sum(dim=(0, 2))
        count = self.cover.sum(dim=(0, 2))
        of_tokens = (x[self.where] for x in (model, z, influence, self.trust))
        return *of_tokens, square, count


@cache
def _differences(wide: int) -> Tensor:
    """What makes slopes and curvatures of ``wide`` values, at all but the outermost."""
    size = wide - 2 * REACH
    rows = torch.arange(size)[None, :] + torch.arange(2 * REACH + 1)[:, None]
    out = torch.zeros(wide, 2 * size)
    for k, weights in enumerate((SLOPE, CURVE)):
        out[rows, k * size + torch.arange(size)] = torch.tensor(weights)[:, None]
    return out
