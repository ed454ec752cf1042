"""Tokens: native pixels of any grid to a short sequence that a Transformer reads.

A token covers a fixed number of resolution elements and is anchored in ln(wavelength), so that a
line of a star at rest is always at the same place of the same token. Within a token every native
pixel is weighed by kernels evaluated at its own wavelength (a continuous-kernel patch embedding):
nothing is resampled to a grid common to surveys, and dropped pixels only lower a coverage.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from spectrolabe.models.pixels import PixelBatch

__all__ = [
    "NODES",
    "Tokens",
    "kernel_places",
    "kernel_sums",
    "ladder_level",
    "node_width",
    "token_width",
    "tokenise",
]

NODES = (
    64  # kernels per token: 29 resolution elements, chosen by measurement (docs/results/lamost.md)
)
NODE_STEP = 0.45  # distance of kernels in units of the resolution element (FWHM)
CONTINUUM_WIDTH = 0.012  # Gaussian sigma of the local continuum in ln(wavelength): 60 Å at 5000 Å
COVERAGE_FLOOR = 0.02  # a kernel with less coverage than this tends to 0 instead of to noise
RIDGE = 1e-3  # of the local fit: a lone token has no slope
LADDER = 2.0  # levels per factor of two in resolution
SOFT_IVAR = 0.1  # a pixel of a tenth of the typical ivar has half its weight


@dataclass
class Tokens:
    """A sequence of T tokens for each of B spectra.

    Parameters
    ----------
    content : Tensor, shape (B, T, NODES), float32
        Flux relative to the local continuum, minus 1, at each kernel; 0 without coverage.
    coverage : Tensor, shape (B, T, NODES), float32
        Pixel coverage of each kernel, 0 to 1.
    offset, spread : Tensor, shape (B, T, NODES), float32
        Where the pixels of a kernel lie on average from its centre, in distances of kernels; and
        the variance of all that blurs it, line-spread function and kernel, in their squares.
    level, log_snr : Tensor, shape (B, T), float32
        ln(local continuum / mean continuum), and ln(1 + S/N per resolution element).
    log_resolution : Tensor, shape (B, T), float32
        ln(R / R of the ladder level).
    place : Tensor, shape (B, T), int64
        Row of ``places``: tokens with the same place have the same wavelength and width.
    places : Tensor, shape (P, 2), float32
        ln(central wavelength / Å) and ln(R of the ladder level) of every place of the batch.
    valid : Tensor, shape (B, T), bool
    """

    content: Tensor
    coverage: Tensor
    offset: Tensor
    spread: Tensor
    level: Tensor
    log_snr: Tensor
    log_resolution: Tensor
    place: Tensor
    places: Tensor
    valid: Tensor


def ladder_level(resolution: Tensor) -> Tensor:
    """Return the level of the ladder of token widths that is nearest to R, int64."""
    return torch.round(LADDER * torch.log2(resolution / 1000.0)).long()


def token_width(level: Tensor) -> Tensor:
    """Return the width of the tokens of a level in ln(wavelength), float64."""
    return NODES * NODE_STEP / ladder_resolution(level)


def ladder_resolution(level: Tensor) -> Tensor:
    """Return R of a level, float64."""
    return 1000.0 * 2.0 ** (level.double() / LADDER)


def node_width(level: int) -> float:
    """Return the distance of the nodes of a level in ln(wavelength)."""
    return NODE_STEP / float(ladder_resolution(torch.tensor(level, device="cpu")))


def tokenise(pixels: PixelBatch) -> Tokens:
    """Return the tokens of a batch of spectra; every operation is per spectrum."""
    level = ladder_level(pixels.resolution)
    width = token_width(level)  # (B,)
    first, local = kernel_places(pixels, width)
    count = int(local.max().item()) + 1
    mean, coverage, information, offset, spread = kernel_sums(local, pixels, width, count)
    valid = coverage.mean(dim=2) > COVERAGE_FLOOR
    continuum, slope = _local_continuum(mean, coverage, width)
    place = (torch.arange(NODES, device=mean.device) + 0.5) / NODES - 0.5
    model = continuum[..., None] + slope[..., None] * place
    content = (mean / model - 1.0) * (coverage / (coverage + COVERAGE_FLOOR))
    content = torch.where(valid[..., None], content, 0.0).clamp(-2.0, 5.0)
    typical = (continuum * valid).sum(dim=1) / valid.sum(dim=1).clamp(min=1)
    shape = (continuum / typical.clamp(min=1e-30)[:, None]).clamp(1e-3, 1e3).log()
    place, places = _places(level, first.long(), count)
    relative = torch.log(pixels.resolution / ladder_resolution(level)).float()
    snr = continuum * (information.mean(dim=2) / NODE_STEP).sqrt()
    tokens = Tokens(
        content=content,
        coverage=coverage,
        offset=offset,
        spread=spread,
        level=torch.where(valid, shape, 0.0),
        log_snr=torch.where(valid, torch.log1p(snr.clamp(min=0.0)), 0.0),
        log_resolution=relative[:, None].expand(-1, count),
        place=place,
        places=places,
        valid=valid,
    )
    return _without_gaps(tokens)


def _without_gaps(tokens: Tokens) -> Tokens:
    """The same without columns in which no spectrum has a token: what lies between two arms."""
    column = tokens.valid.any(dim=0)
    column[0] |= ~column.any()
    used, place = torch.unique(tokens.place[:, column], return_inverse=True)
    return Tokens(
        content=tokens.content[:, column],
        coverage=tokens.coverage[:, column],
        offset=tokens.offset[:, column],
        spread=tokens.spread[:, column],
        level=tokens.level[:, column],
        log_snr=tokens.log_snr[:, column],
        log_resolution=tokens.log_resolution[:, column],
        place=place,
        places=tokens.places[used],
        valid=tokens.valid[:, column],
    )


def _places(level: Tensor, first: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Row of every token in the table of distinct places, (B, T), and that table, (P, 2)."""
    place = first[:, None] + torch.arange(count, device=first.device)
    tables, rows = [], 0
    for one in torch.unique(level):
        here = level == one
        lowest, highest = int(first[here].min()), int(first[here].max()) + count
        bins = torch.arange(lowest, highest, device=first.device) + 0.5
        resolution = ladder_resolution(one).log().expand(len(bins))
        tables.append(torch.stack([bins * token_width(one), resolution], dim=1))
        place[here] += rows - lowest
        rows += len(bins)
    return place, torch.cat(tables).float()


def kernel_places(pixels: PixelBatch, width: Tensor) -> tuple[Tensor, Tensor]:
    """Anchored number of the first token, (B,), and where pixels are from there on, (B, M).

    Bad pixels beyond the good ones are put onto the last good one; they weigh nothing.
    """
    good = (pixels.ivar > 0).byte()
    size = good.shape[1]
    begin = good.argmax(dim=1, keepdim=True)
    end = size - 1 - good.flip(1).argmax(dim=1, keepdim=True)
    place = pixels.log_wavelength / width[:, None]  # in tokens
    first = torch.floor(place.gather(1, begin))
    local = (place - first).float()
    return first[:, 0], torch.minimum(local.clamp(min=0.0), local.gather(1, end))


def kernel_sums(
    local: Tensor, pixels: PixelBatch, width: Tensor, count: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Weighted mean flux, coverage and summed ivar at every kernel, each (B, count, NODES).

    And the mean place of its pixels about its centre, and the variance of what blurs it.
    """
    ivar = pixels.ivar
    good = ivar > 0
    # the geometric mean, which one absurd value does not move
    logs = torch.where(good, ivar, 1.0).log().sum(dim=1, keepdim=True)
    typical = torch.exp(logs / good.sum(dim=1, keepdim=True).clamp(min=1))
    nodes = (NODES / width).float()[:, None]
    weight = (pixels.spacing * nodes).clamp(max=4.0) * (ivar / (ivar + SOFT_IVAR * typical))
    blur = pixels.variance * nodes**2
    node = local * NODES - 0.5
    left = torch.floor(node)
    share = node - left
    size = count * NODES
    start = (left.long() + 1).clamp(0, size)  # a guard kernel on either side
    after = start + 1

    def total(left: Tensor, right: Tensor) -> Tensor:
        sums = left.new_zeros(len(left), size + 2)
        sums.scatter_add_(1, start, left).scatter_add_(1, after, right)
        return sums[:, 1:-1].reshape(len(left), count, NODES)

    def weighed(values: Tensor) -> Tensor:
        right = values * share
        return total(values - right, right)

    flux, cover, information = weighed(weight * pixels.flux), weighed(weight), weighed(ivar)
    moment = weight * share * (1.0 - share)  # about the left kernel, and minus it about the right
    per_cover = 1.0 / cover.clamp(min=1e-6)
    offset = total(moment, -moment) * per_cover
    square = total(moment * share, moment * (1.0 - share)) + weighed(weight * blur)
    spread = square * per_cover - offset**2
    return flux * per_cover, cover.clamp(max=1.0), information, offset, spread


def _local_continuum(mean: Tensor, coverage: Tensor, width: Tensor) -> tuple[Tensor, Tensor]:
    """Gaussian-weighted local linear fit of the flux around each token: value and slope, (B, T).

    Tokens enter with the moments of their covered kernels, so that one that is only partly covered
    (at the end of an arm, say) pulls from where its pixels are.
    """
    count, nodes = coverage.shape[1:]
    offset = (torch.arange(nodes, device=mean.device) + 0.5) / nodes - 0.5
    powers = torch.stack([offset**0, offset, offset**2], dim=1)  # (NODES, 3)
    w0, w1, w2 = (coverage @ powers).unbind(dim=2)
    v0, v1 = ((mean * coverage) @ powers[:, :2]).unbind(dim=2)
    place = torch.arange(count, device=mean.device, dtype=mean.dtype)
    distance = place[:, None] - place[None, :]  # (from, to)
    continuum, slope = torch.empty_like(w0), torch.empty_like(w0)
    sigmas, which = torch.unique((CONTINUUM_WIDTH / width).to(mean.dtype), return_inverse=True)
    for i, sigma in enumerate(sigmas):
        rows = which == i
        k0 = torch.exp(-0.5 * (distance / sigma) ** 2)
        k1, k2 = k0 * distance, k0 * distance**2
        s0 = w0[rows] @ k0
        s1 = w0[rows] @ k1 + w1[rows] @ k0
        s2 = w0[rows] @ k2 + 2.0 * w1[rows] @ k1 + w2[rows] @ k0
        t0 = v0[rows] @ k0
        t1 = v0[rows] @ k1 + v1[rows] @ k0
        s2 = s2 + RIDGE * s0 * sigma**2
        determinant = (s0 * s2 - s1**2).clamp(min=1e-12)
        continuum[rows] = (t0 * s2 - t1 * s1) / determinant
        slope[rows] = (t1 * s0 - t0 * s1) / determinant
    mean_level = (v0.sum(1) / w0.sum(1).clamp(min=1e-6)).abs()[:, None]
    floor = 1e-3 * mean_level + 1e-30
    flat = continuum < floor
    return torch.where(flat, floor.expand_as(continuum), continuum), torch.where(flat, 0.0, slope)
