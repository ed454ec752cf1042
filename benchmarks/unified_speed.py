"""How many spectra a second one core estimates."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from pages import remarks, table
from spectrolabe.models.tokens import tokenise
from spectrolabe.spectra import Frame, Spectrum
from spectrolabe.training.stars import Stars
from unified_sky import Sky

__all__ = ["section", "speed"]

SNR = 60.0
TIMES = 3


def speed(sky: Sky, survey: str, stars: Stars) -> dict[str, NDArray]:
    """Return spectra a second: from `Spectrum` objects, from tensors, and tokens a spectrum."""
    pixels, _, _ = sky.seen(survey, stars, SNR, [4])
    spectra = [
        [
            Spectrum(
                np.exp(x.numpy()),
                flux.numpy(),
                ivar.numpy(),
                float(resolution),
                Frame.REST,
                0.0,
                survey,
                str(i),
                str(i),
            )
        ]
        for i, (x, flux, ivar, resolution) in enumerate(
            zip(pixels.log_wavelength, pixels.flux, pixels.ivar, pixels.resolution, strict=True)
        )
    ]
    encoder = sky.model.encoder

    def tensors() -> None:
        with torch.inference_mode():
            encoder(tokenise(pixels), pixels.star)

    return {
        "objects": np.array(_rate(lambda: sky.model.estimate(spectra), len(stars))),
        "tensors": np.array(_rate(tensors, len(stars))),
        "tokens": np.array(tokenise(pixels).valid.sum(dim=1).float().mean().item()),
        "pixels": np.array(pixels.flux.shape[1]),
    }


def _rate(work: Callable[[], object], count: int) -> float:
    """Spectra a second of the processor, the best of a few."""
    work()
    took = []
    for _ in range(TIMES):
        begin = time.process_time()
        work()
        took.append(time.process_time() - begin)
    return count / min(took)


def section(all_: dict[str, dict[str, NDArray]], parameters: int, stars: int) -> str:
    """The section of the page."""
    rows = [
        [
            survey,
            f"{int(what['pixels']):,}",
            f"{float(what['tokens']):.0f}",
            f"{float(what['objects']):.0f}",
            f"{float(what['tensors']):.0f}",
        ]
        for survey, what in all_.items()
    ]
    head = ["survey", "pixels", "tokens", "from spectra in memory", "from tensors"]
    return f"""## Throughput

{parameters / 1e6:.2f} million parameters. Spectra a second of one core's time, {stars} at a time:
*from spectra in memory*, `Estimator.estimate` of `Spectrum` objects to calibrated posteriors with
covariances and coverage; *from tensors*, tokens and the model alone. The best of {TIMES} on a core
that other work shared, whose caches it had to share too.

{table(head, rows)}

{remarks("speed")}"""
