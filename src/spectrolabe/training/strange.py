"""What no model knows of a star, put into spectra of stars that it knows.

Stars of a synthetic sky are such as the emulators know, and most visits of a survey are of common
ones. Some real stars have lines that no list has, spots, companions or emission; a denoiser that
had never seen any of this would paint over it. So the flux of some is multiplied by random
structure as sharp as the instrument allows, in the noisy spectrum and in what it is to become.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from spectrolabe.models.pixels import PixelBatch
from spectrolabe.training.observing import correlated

__all__ = ["strange_factor"]

ODD = (0.003, 0.3)  # standard deviation of what is strange, of the continuum
SHARPNESS = (1.0, 6.0)  # its width in units of the line-spread function
EVERYWHERE = 0.4  # share of strange stars that are so at all wavelengths; others in a few stretches
BRIGHTEST, LINES = 3.0, 5  # of the continuum; at most so many
LEAST = 0.05  # what is left of the flux where much is taken away


def strange_factor(
    pixels: PixelBatch,
    odd: float,
    emission: float,
    rng: np.random.Generator,
    generator: torch.Generator,
) -> Tensor:
    """Return what the flux of each spectrum is to be multiplied by.

    Parameters
    ----------
    pixels : PixelBatch
        B spectra of M pixels.
    odd, emission : float
        Shares of spectra that have random structure, and emission lines; independent.
    rng : Generator
    generator : torch.Generator
        On the device of the pixels.

    Returns
    -------
    Tensor, shape (B, M)
        1 throughout for spectra that stay as they are.
    """
    count, size = pixels.flux.shape
    device = pixels.flux.device
    low, high = np.log(ODD)
    amplitude = np.exp(rng.uniform(low, high, count)) * (rng.random(count) < odd)
    step = float(pixels.spacing[pixels.spacing > 0].median())
    sharp = float(pixels.variance.sqrt().median()) / step  # line-spread function, in pixels
    field = torch.randn(count, size, generator=generator, device=device)
    field = correlated(field, max(1.0, sharp * np.exp(rng.uniform(*np.log(SHARPNESS)))))
    place = np.arange(size) / size
    for i in range(count):
        if rng.random() > EVERYWHERE:
            centres, widths = rng.random(3), rng.uniform(0.01, 0.1, 3)
            window = np.exp(-0.5 * ((place[:, None] - centres) / widths) ** 2).max(axis=1)
            field[i] *= torch.from_numpy(window).float().to(device)
    factor = 1.0 + torch.from_numpy(amplitude).float().to(device)[:, None] * field
    factor = factor.clamp(min=LEAST)
    at = np.arange(size)
    for i in np.flatnonzero(rng.random(count) < emission).tolist():
        for _ in range(int(rng.integers(1, LINES + 1))):
            bright, width = BRIGHTEST * rng.random() ** 3, sharp * rng.uniform(*SHARPNESS)
            line = bright * np.exp(-0.5 * ((at - size * rng.random()) / width) ** 2)
            factor[i] += torch.from_numpy(line).float().to(device)
    return factor
