"""What ``spectrolabe train`` needs to train on a sky that is made while it learns."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from spectrolabe.config.loading import Count, Fraction, Positive, Strict
from spectrolabe.config.train import EncoderConfig, TrainingConfig

__all__ = ["SkyTrainConfig", "StreamConfig"]

Share = Annotated[float, Field(ge=0.0)]


class StreamConfig(Strict):
    """An endless synthetic sky; see `spectrolabe.training.sky`.

    Parameters
    ----------
    emulators : tuple of str
        Names of released emulators, or folders; each covers a part of the wavelengths.
    surveys : mapping of str to float
        How often each instrument observes, relative to the others: surveys of
        `spectrolabe.sky.instruments`, and ``random``, instruments made up anew each time.
    field : float
        Share of stars from the Galaxy, whose labels go together as those of stars do and which have
        ages; the others have abundances drawn independently of each other.
    abundance_scatter : float
        Independent scatter that is added to [X/Fe] of half of the stars of the Galaxy, dex.
    both : float
        Share of stars that are seen by both instruments of a batch, and by both together.
    steps : int
        Batches in an epoch.
    snr : (low, high)
        Median S/N a pixel, evenly in its logarithm.
    velocity : (low, high)
        Error of the velocity in units of the FWHM of the instrument, evenly in its logarithm.
    tilt : float
        Size of smooth errors of the flux.
    line_error : float
        Largest relative error of the depth of lines, as a line list has them.
    coarser : float
        Share of spectra of lower resolution than their instrument's, down to two thirds.
    apart : float
        Share of batches in which the arms of an instrument come as spectra of their own.
    drop_arms, drop_pixels : float
        Fraction of arms lost, and largest fraction of pixels lost.
    masked : float
        Share of spectra without the lines that models in LTE cannot explain.
    consistency : float
        Weight of the disagreement between two surveys about one star.
    """

    emulators: tuple[str, ...] = ("emulator-optical", "emulator-h")
    surveys: dict[str, Share] = {
        "apogee": 1.0,
        "galah": 1.0,
        "desi": 1.0,
        "gaia_rvs": 1.0,
        "lamost_lrs": 1.5,
        "sdss_boss": 1.0,
        "random": 1.5,
    }
    field: Fraction = 0.5
    abundance_scatter: Share = 0.1
    both: Fraction = 0.35
    steps: Count = 200
    snr: tuple[Positive, Positive] = (6.0, 300.0)
    velocity: tuple[Positive, Positive] = (0.004, 0.15)
    tilt: Share = 0.15
    line_error: Share = 0.0
    coarser: Fraction = 0.3
    apart: Fraction = 0.3
    drop_arms: Fraction = 0.15
    drop_pixels: Fraction = 0.1
    masked: Fraction = 0.3
    consistency: Share = 0.1

    @model_validator(mode="after")
    def _someone_looks(self) -> StreamConfig:
        if not any(share > 0 for share in self.surveys.values()):
            raise ValueError("at least one of surveys must have a share above 0")
        for name in ("snr", "velocity"):
            low, high = getattr(self, name)
            if not low <= high:
                raise ValueError(f"{name} must be (low, high) with low <= high")
        return self


class SkyTrainConfig(Strict):
    """Everything that ``spectrolabe train`` needs to train on the sky of `StreamConfig`.

    Parameters
    ----------
    name : str
    sky : StreamConfig
    labels : tuple of str
        Registry names to predict; all that the sky knows if empty.
    encoder : EncoderConfig
    training : TrainingConfig
        ``batch_size`` is the number of stars of a batch.
    templates : bool
        Give the encoder the differential spectra of reference stars to compare with.
    calibration : int
        Stars of each survey, drawn after the training, that recalibrate the uncertainties.
    """

    name: str
    sky: StreamConfig = StreamConfig()
    labels: tuple[str, ...] = ()
    encoder: EncoderConfig = EncoderConfig(
        width=128, latents=12, blocks=3, dropout=0.0, filters=2, shortest_period=0.0015
    )
    training: TrainingConfig = TrainingConfig(epochs=100, batch_size=32)
    templates: bool = True
    calibration: Count = 1000
