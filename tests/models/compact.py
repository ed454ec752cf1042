"""Compact spectra made of lines at random places, whose depths are labels."""

from __future__ import annotations

import numpy as np
import torch

from spectrolabe.models.compact import Amounts, CompactSpectra
from spectrolabe.models.node_spectra import FINEST
from spectrolabe.models.pixels import PixelRow, collate
from spectrolabe.models.tokens import node_width, tokenise
from spectrolabe.spectra.broadening import FWHM

LOW, HIGH = 4990.0, 5610.0
OWN = 28_000.0
LABELS, ELEMENTS = 7, 2  # five that decide how a star looks, the last of them ln(v_broad)
LINES = 40


class Straight(Amounts):
    """Amounts that are the labels, and curves of them if asked: exact, and nothing to train."""

    def __init__(self, bend: float = 0.0) -> None:
        super().__init__(
            torch.tensor([0, 1, 2, 3, 6]),
            torch.tensor([4, 5]),
            torch.zeros(2),
            functions=LABELS,
            width=2,
            own=2,
        )
        self.bend = bend

    def forward(self, labels):
        return labels + self.bend * labels**2

    def with_slopes(self, labels):
        turn = torch.diag_embed(1.0 + 2.0 * self.bend * labels)
        return torch.cat([self(labels)[:, None], turn], dim=1)


def lines() -> list[tuple[np.ndarray, np.ndarray]]:
    """Places, ln(wavelength), and depths of the lines of the mean and of each function."""
    rng = np.random.default_rng(3)
    ends = np.log(LOW * 1.003), np.log(HIGH / 1.003)
    return [
        (rng.uniform(*ends, LINES), depth * rng.uniform(0.3, 1.0, LINES))
        for depth in (0.3, *[0.05] * LABELS)
    ]


def flux_of(amounts, log_wavelength, resolution, rv=0.0) -> np.ndarray:
    """Flux of exactly Gaussian lines, in closed form.

    Lines have the width of ``OWN`` and their area whatever the resolution is.
    """
    sigma = 1.0 / resolution / FWHM
    narrow = 1.0 / OWN / FWHM
    out = np.ones(len(log_wavelength))
    for weight, (place, depth) in zip((1.0, *amounts), lines(), strict=True):
        x = (log_wavelength[:, None] - place - rv / 299792.458) / sigma
        out -= weight * (depth * narrow / sigma * np.exp(-0.5 * x**2)).sum(axis=1)
    return out


def compact_lines(bend: float = 0.0, prior: float = 1.0) -> CompactSpectra:
    """Return compact spectra of those lines."""
    step = node_width(FINEST)
    first, last = int(np.ceil(np.log(LOW) / step)), int(np.log(HIGH) / step)
    x = (np.arange(first, last) + 0.5) * step
    mean = flux_of(np.zeros(LABELS), x, OWN) - 1.0
    rows = [mean] + [flux_of(np.eye(LABELS)[i], x, OWN) - 1.0 - mean for i in range(LABELS)]
    one = torch.ones(LABELS)
    return CompactSpectra(
        torch.from_numpy(np.stack(rows, axis=1)).float(),
        torch.tensor([first]),
        torch.tensor([last - first]),
        Straight(bend),
        centre=0.0 * one,
        width=one,
        low=-5.0 * one,
        high=5.0 * one,
        prior=prior**2 * torch.eye(LABELS),
        starts=torch.zeros(1, LABELS),
        resolution=OWN,
    )


def spectrum_tokens(
    amounts,
    resolution,
    *,
    snr=200.0,
    rv=0.0,
    seed=None,
    low=LOW,
    high=HIGH,
    light=None,
    added=False,
    lost=(0.0, 0.0),
):
    """Tokens of one spectrum with 3.3 pixels a FWHM; noise if there is a seed.

    ``light`` of the wavelength is a factor, or added to the flux, less 1.
    """
    x = np.arange(np.log(low * 1.001), np.log(high / 1.001), 1.0 / resolution / 3.3)
    flux = flux_of(amounts, x, resolution, rv)
    if light is not None:
        flux = flux + light(np.exp(x)) - 1.0 if added else flux * light(np.exp(x))
    if seed is not None:
        flux = flux + np.random.default_rng(seed).normal(size=len(x)) / snr
    ivar = np.where((np.exp(x) > lost[0]) & (np.exp(x) < lost[1]), 0.0, snr**2).astype(np.float32)
    return tokenise(collate([[PixelRow(np.exp(x), flux, ivar, resolution, 0.0)]]))
