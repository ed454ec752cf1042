"""What an instrument of the training sky makes of a batch of stars, on any device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import next_fast_len
from torch import Tensor
from torch.nn import functional as F

from spectrolabe.config import StreamConfig
from spectrolabe.models.pixels import PixelBatch
from spectrolabe.models.projection import cubic_weights
from spectrolabe.spectra.broadening import FWHM
from spectrolabe.spectra.wavelength import SPEED_OF_LIGHT
from spectrolabe.synthesis.limits import BLUE_LOW, UNMODELLED
from spectrolabe.training.instruments import StreamArm, StreamInstrument
from spectrolabe.training.stars import Stars

__all__ = ["Conditions", "correlated", "drawn", "observe", "observe_twice"]

DISPERSION = 60.0  # km/s, of the stars: moves lines over pixels
MOST_DUST = 2.5  # mag of A_V
SECOND_RADIATION = 1.43877688e8  # Å K
TILT_CENTRE, TILT_WIDTH = 8.9, 0.5  # of the smooth errors of flux in ln(wavelength / Å)
UNCORRECTED = 0.3  # share of spectra in which the atmosphere is left as it was
TELLURIC_ERROR = 0.1  # of the optical depth, where it was corrected
LINE, NARROWEST = 3e-4, 1.5  # widths of errors of lines: of ln(wavelength), and pixels at least
MASKED = (1.0, 1.0, 1 / 3)  # relative shares: temperatures are read from the cores of Balmer lines
BLUE_END, WORSE = 4000.0, 3.0  # Å, below which lines are so many times as wrong
STATED = 0.05  # scatter of the stated over the true sigma


@dataclass(frozen=True, eq=False)
class Conditions:
    """How N stars are observed; arrays of shape (N,).

    Parameters
    ----------
    snr : ndarray
        Median S/N a pixel of all arms.
    velocity, residual : ndarray
        Of the star, and what is left of it when the stated velocity is taken out; km/s.
    masked : ndarray of bool, shape (N, 3)
        Without the blue end, sodium, and the cores of other lines that models in LTE cannot
        explain.
    apart : bool
        Arms come as spectra of their own.
    kept : tuple of int
        Arms that are not lost.
    """

    snr: NDArray
    velocity: NDArray
    residual: NDArray
    masked: NDArray
    apart: bool
    kept: tuple[int, ...]

    @classmethod
    def draw(
        cls,
        config: StreamConfig,
        instrument: StreamInstrument,
        count: int,
        rng: np.random.Generator,
        snr: float | None = None,
    ) -> Conditions:
        """Draw the conditions of N stars; the arms are those of the whole batch."""
        low, high = np.log(config.snr[0]), np.log(config.snr[1])
        own = np.exp(rng.uniform(low, high, count)) if snr is None else np.full(count, snr)
        width = SPEED_OF_LIGHT / np.median([arm.resolution for arm in instrument.arms])
        slow, fast = np.log(config.velocity[0]), np.log(config.velocity[1])
        size = np.exp(rng.uniform(slow, fast, count))
        moving = np.zeros(count) if instrument.at_rest else DISPERSION * rng.normal(size=count)
        kept = np.flatnonzero(rng.random(len(instrument.arms)) >= config.drop_arms)
        if not len(kept):
            kept = rng.integers(len(instrument.arms), size=1)
        return cls(
            own,
            moving,
            width * size * rng.normal(size=count),
            rng.random((count, 3)) < config.masked * np.array(MASKED),
            bool(rng.random() < config.apart),
            tuple(int(k) for k in kept),
        )


class _Draw:
    """Numbers on the device of an instrument."""

    def __init__(self, device: torch.device, generator: torch.Generator) -> None:
        self.device, self.generator = device, generator

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers."""
        return torch.randn(*shape, generator=self.generator, device=self.device)

    def uniform(self, *shape: int) -> Tensor:
        """Numbers between 0 and 1."""
        return torch.rand(*shape, generator=self.generator, device=self.device)

    def put(self, values: NDArray) -> Tensor:
        """The same numbers there."""
        return torch.from_numpy(np.asarray(values)).to(self.device)


def drawn(coefficients: Tensor, position: Tensor, shift: Tensor, variance: Tensor) -> Tensor:
    """Return splines of N stars, broadened, at the pixels of an arm, shape (N, M).

    Parameters
    ----------
    coefficients : Tensor, shape (N, J)
        Of cubic B-splines at even steps; 1 is the continuum.
    position : Tensor, shape (M,), float64
        Of the pixels, in steps.
    shift : Tensor, shape (N,), float64
        By which the pixels of each star lie lower, in steps.
    variance : Tensor, shape (N,)
        Of the Gaussian that broadens each star, in squared steps. Its ends are joined.
    """
    size = next_fast_len(coefficients.shape[1], real=True)
    depth = torch.fft.rfft(coefficients - 1.0, n=size)
    frequency = torch.fft.rfftfreq(size, device=coefficients.device)
    damping = torch.exp(-2.0 * torch.pi**2 * variance[:, None] * frequency**2)
    smooth = 1.0 + torch.fft.irfft(depth * damping, n=size)
    at = position - shift[:, None]
    left = at.floor().clamp(1, coefficients.shape[1] - 3)
    w0, w1, w2, w3 = cubic_weights((at - left).clamp(0.0, 1.0).float())
    index = left.long()
    flux = w0 * smooth.gather(1, index - 1) + w1 * smooth.gather(1, index)
    flux += w2 * smooth.gather(1, index + 1)
    return flux.addcmul_(w3, smooth.gather(1, index + 2))


def observe(
    instrument: StreamInstrument,
    stars: Stars,
    conditions: Conditions,
    config: StreamConfig,
    rng: np.random.Generator,
    generator: torch.Generator,
) -> list[PixelBatch]:
    """Return the spectra of N stars: one batch of all arms, or one of each.

    Parameters
    ----------
    instrument : StreamInstrument
    stars : Stars
        N of them.
    conditions : Conditions
    config : StreamConfig
    rng : Generator
    generator : torch.Generator
        On the device of the instrument.
    """
    return observe_twice(instrument, stars, conditions, config, rng, generator)[0]


def observe_twice(
    instrument: StreamInstrument,
    stars: Stars,
    conditions: Conditions,
    config: StreamConfig,
    rng: np.random.Generator,
    generator: torch.Generator,
) -> tuple[list[PixelBatch], list[PixelBatch]]:
    """Return what `observe` does, and the same without noise and air; parameters as there."""
    arms = [instrument.arms[k] for k in conditions.kept]
    draw = _Draw(arms[0].light.device, generator)
    teff = draw.put(stars.atmosphere[:, _teff(arms[0])]).float()[:, None]
    shape = _Shape(instrument, config, teff, draw)
    exact = [_normalised(arm, stars, conditions, config, draw) for arm in arms]
    spectra, quality = [], []
    for arm, lines in zip(arms, exact, strict=True):
        photons = shape.photons(arm)
        air = shape.air(arm)
        counts = (lines * air * photons).clamp(min=0.0)
        light = lines * shape.flux(arm, photons)
        spectra.append((light * air, light, photons))
        quality.append((counts + shape.background * arm.sky + shape.reading, counts))
    sigma = _sigma(quality, draw.put(conditions.snr).float())
    batches, clean = [], []
    for arm, (flux, light, photons), (variance, _) in zip(arms, spectra, quality, strict=True):
        # what noise is to counts it is to flux, scaled as flux is
        gain = shape.gain(arm, photons)
        true = sigma * variance.sqrt() * gain
        noise = correlated(draw.normal(*flux.shape), instrument.correlation)
        stated = true * torch.exp(STATED * draw.normal(len(stars), 1))
        ivar = torch.where(_lost(arm, conditions, config, draw), 0.0, stated**-2)
        log_wavelength = (
            arm.log_wavelength - draw.put(np.log1p(conditions.velocity / SPEED_OF_LIGHT))[:, None]
        )
        batches.append((arm, log_wavelength, torch.where(ivar > 0, flux + noise * true, 0.0), ivar))
        clean.append((arm, log_wavelength, torch.where(ivar > 0, light, 0.0), ivar))
    stated = torch.exp(config.resolution_error * draw.normal(len(stars)))
    noisy, without = (_batches(x, conditions.apart, stated) for x in (batches, clean))
    return noisy, without


def _teff(arm: StreamArm) -> int:
    return arm.projection.emulator.names.index("teff")


def _normalised(
    arm: StreamArm, stars: Stars, conditions: Conditions, config: StreamConfig, draw: _Draw
) -> Tensor:
    """Normalised flux at the pixels, with lines as wrong as a line list has them."""
    projection = arm.projection
    emulator = projection.emulator
    with torch.no_grad():
        rows = emulator.latents_and_slopes(stars.atmosphere, [], projection.readout)
        splines = projection.splines(rows)[:, 0]
    # pixels of a star at rest, but for what the stated velocity got wrong
    shift = np.log1p(conditions.velocity / SPEED_OF_LIGHT)
    shift = shift + np.log1p(conditions.residual / SPEED_OF_LIGHT)
    own = config.arm_velocity / arm.resolution * draw.normal(len(stars)).double()
    broad = (stars.v_broad / SPEED_OF_LIGHT / FWHM) ** 2 + arm.broadening
    lines = drawn(
        splines,
        arm.position,
        (draw.put(shift) + own) / projection.step,
        draw.put(broad / projection.step**2).float(),
    )
    if config.line_error:
        size = config.line_error * draw.uniform(len(lines), 1)
        step = float(arm.log_wavelength[1] - arm.log_wavelength[0])
        error = correlated(draw.normal(*lines.shape), max(NARROWEST, LINE / step))
        blue = arm.log_wavelength < np.log(BLUE_END)
        error = 1.0 + size * error * torch.where(blue, WORSE, 1.0)
        lines = 1.0 - (1.0 - lines) * error.clamp(min=0.0)
    scattered = config.scattered * draw.normal(len(lines), 1)
    return lines + scattered * (1.0 - lines)


class _Shape:
    """What is smooth in the spectra of N stars: light, dust, errors of the flux, background."""

    def __init__(
        self, instrument: StreamInstrument, config: StreamConfig, teff: Tensor, draw: _Draw
    ) -> None:
        count = len(teff)
        self.instrument, self.teff = instrument, teff
        self.dust = MOST_DUST * draw.uniform(count, 1) ** 3
        self.bend = config.tilt * draw.normal(count, 3)
        self.phase = 2.0 * torch.pi * draw.uniform(count, 1)
        # from none to as much as the star
        self.background = 10.0 ** (3.5 * draw.uniform(count, 1) - 3.0)
        self.reading = 10.0 ** (3.0 * draw.uniform(count, 1) - 3.0)
        left = TELLURIC_ERROR * draw.normal(count, 1)
        self.telluric = torch.where(
            draw.uniform(count, 1) < UNCORRECTED, 0.3 + 1.2 * draw.uniform(count, 1), left
        )

        # of what is calibrated: arms meet where they overlap
        means = [self._light(arm).mean(dim=1, keepdim=True) for arm in instrument.arms]
        self.level = torch.stack(means).mean(dim=0)

    def _light(self, arm: StreamArm) -> Tensor:
        """Logarithm of Planck's law through dust, shape (N, M)."""
        x = arm.log_wavelength
        exponent = (SECOND_RADIATION / self.teff.double() / x.exp()).clamp(max=80.0)
        planck = -5.0 * (x - TILT_CENTRE) - torch.log(torch.expm1(exponent))
        return planck - 0.921 * self.dust * arm.dust

    def photons(self, arm: StreamArm) -> Tensor:
        """Photons of the continuum, of mean about 1 in each arm."""
        light = self._light(arm)
        return torch.exp(light - light.mean(dim=1, keepdim=True)).float() * arm.light

    def air(self, arm: StreamArm) -> Tensor:
        """Transmission of the atmosphere, or what is left of it after correction."""
        return torch.exp(-self.telluric * arm.telluric)

    def _error(self, arm: StreamArm) -> Tensor:
        x = ((arm.log_wavelength - TILT_CENTRE) / TILT_WIDTH).float()
        wave = torch.sin(3.0 * x + self.phase)
        bend = self.bend[:, :1] * x + 0.5 * self.bend[:, 1:2] * (2 * x**2 - 1)
        return torch.exp(bend + 0.3 * self.bend[:, 2:] * wave)

    def flux(self, arm: StreamArm, photons: Tensor) -> Tensor:
        """What the flux of the continuum is in the units of the instrument."""
        if self.instrument.normalised:
            return 1.0 + 0.1 * (self._error(arm) - 1.0)
        if self.instrument.counts:
            return photons * self._error(arm)
        return torch.exp(self._light(arm) - self.level).float() * self._error(arm)

    def gain(self, arm: StreamArm, photons: Tensor) -> Tensor:
        """Flux per photon."""
        return self.flux(arm, photons) / photons


def _sigma(quality: Sequence[tuple[Tensor, Tensor]], snr: Tensor) -> Tensor:
    """Factor of the noise, shape (N, 1), that gives each star its median S/N over all arms."""
    ratio = torch.cat([counts / variance.sqrt() for variance, counts in quality], dim=1)
    return ratio.median(dim=1, keepdim=True).values / snr[:, None]


def correlated(noise: Tensor, width: float) -> Tensor:
    """Return noise, (N, M), of unit variance after a Gaussian of this width in pixels."""
    if not width:
        return noise
    half = max(3, int(2.5 * width))
    offset = torch.arange(-half, half + 1, device=noise.device)
    kernel = torch.exp(-0.5 * (offset / width) ** 2)
    kernel = kernel / kernel.square().sum().sqrt()
    return F.conv1d(noise[:, None], kernel[None, None], padding=half)[:, 0]


def _lost(arm: StreamArm, conditions: Conditions, config: StreamConfig, draw: _Draw) -> Tensor:
    """Pixels that are lost: some anywhere, a gap, and what models do not explain."""
    count, size = len(conditions.snr), len(arm.light)
    lost = draw.uniform(count, size) < config.drop_pixels * draw.uniform(count, 1) ** 2
    place = torch.arange(size, device=lost.device) / size
    begin, wide = draw.uniform(count, 1), config.drop_pixels * draw.uniform(count, 1)
    lost |= (place >= begin) & (place < begin + wide) & (draw.uniform(count, 1) < 0.5)
    moved = draw.put(1.0 + conditions.velocity / SPEED_OF_LIGHT)[:, None]
    wavelength = (arm.log_wavelength.exp() / moved).float()
    unsure = [torch.zeros_like(lost) for _ in MASKED]
    unsure[0] |= wavelength < BLUE_LOW
    for core in UNMODELLED:
        reach = float(np.hypot(core.half, core.centre / arm.resolution))
        kind = 1 if core.name.startswith("Na") else 2
        unsure[kind] |= (wavelength - core.centre).abs() < reach
    for which, masked in zip(unsure, conditions.masked.T, strict=True):
        lost |= which & draw.put(masked)[:, None]
    return lost


def _batches(
    arms: Sequence[tuple[StreamArm, Tensor, Tensor, Tensor]], apart: bool, stated: Tensor
) -> list[PixelBatch]:
    if apart or len(arms) == 1:
        return [_pixels([arm], stated) for arm in arms]
    return [_pixels(arms, stated)]


def _pixels(arms: Sequence[tuple[StreamArm, Tensor, Tensor, Tensor]], stated: Tensor) -> PixelBatch:
    """Arms one after the other; where two overlap, the pixels of the first.

    ``stated``, shape (N,), is the resolution that is stated over the true one.
    """
    kept, widths, end = [], [], -np.inf
    for arm, log_wavelength, flux, ivar in arms:
        use = arm.log_wavelength > end
        end = max(end, float(arm.log_wavelength[-1]))
        kept.append((log_wavelength[:, use], flux[:, use], ivar[:, use]))
        widths.append(arm.variance[use])
    log_wavelength, flux, ivar = (torch.cat(part, dim=1) for part in zip(*kept, strict=True))
    step = log_wavelength[:1].diff(dim=1)
    step = torch.cat([step[:, :1], torch.minimum(step[:, 1:], step[:, :-1]), step[:, -1:]], dim=1)
    pixels = np.array([len(arm[0].light) for arm in arms])
    power = np.repeat([arm[0].resolution for arm in arms], pixels)
    resolution = float(np.median(power)) * stated
    variance = torch.cat(widths)[None] / stated[:, None] ** 2
    return PixelBatch(
        log_wavelength,
        flux,
        ivar,
        step.float().expand(len(flux), -1),
        resolution,
        variance,
        torch.arange(len(flux), device=flux.device),
    )
