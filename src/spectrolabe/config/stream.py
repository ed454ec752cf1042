"""The sky that is made while a model learns from it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from spectrolabe.config.fields import Count, Fraction, Positive, Strict

__all__ = ["StreamConfig"]

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
        Largest relative error of the depth of lines, as a line list has them; three times that
        below 4000 Å.
    scattered : float
        Standard deviation of light that is added to each arm, or was subtracted too much, in units
        of the continuum.
    resolution_error : float
        Standard deviation of the relative error of the stated R.
    arm_velocity : float
        Standard deviation of the velocity of each arm about that of the spectrum, in units of FWHM.
    coarser : float
        Share of spectra of lower resolution than their instrument's, down to two thirds.
    apart : float
        Share of batches in which the arms of an instrument come as spectra of their own.
    drop_arms, drop_pixels : float
        Fraction of arms lost, and largest fraction of pixels lost.
    masked : float
        Share of spectra without the blue end, and without sodium; and a third of that without the
        cores of other lines that models in LTE cannot explain.
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
    line_error: Share = 0.03
    scattered: Share = 0.02
    resolution_error: Share = 0.05
    arm_velocity: Share = 0.02
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
