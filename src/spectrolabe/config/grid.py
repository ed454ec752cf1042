"""What ``spectrolabe synthesise`` needs: which stars, and which part of their spectra."""

from __future__ import annotations

import itertools
from typing import Annotated, Literal

from pydantic import Field, model_validator

from spectrolabe.config.fields import Count, Positive, Strict

__all__ = ["GridConfig", "SpectraConfig", "StarsConfig"]

Range = tuple[float, float]
Width = Annotated[float, Field(ge=0.0)]


class StarsConfig(Strict):
    """Which stars; see `spectrolabe.synthesis.sampling` for the priors and their sources.

    Parameters
    ----------
    count : int
        Number of stars drawn.
    seed : int
        The same seed gives the same stars.
    method : {"sobol", "latin_hypercube"}
        How space is filled.
    teff, logg, fe_h : (low, high)
        Ranges in K and dex.
    giants : float
        Fraction of the stars that are giants.
    alpha : bool
        Whether the [X/Fe] of the alpha elements follow the trend of the Galaxy with [Fe/H].
    widths : mapping of str to float
        Standard deviations of [X/Fe] about their means in dex, for example ``{ba_fe = 0.5}``,
        where they shall differ from those of `spectrolabe.synthesis.sampling`.
    v_micro_scatter : float
        Standard deviation of the microturbulence about its relation, km/s.
    """

    count: Count = 1000
    seed: int = 0
    method: Literal["sobol", "latin_hypercube"] = "sobol"
    teff: Range = (4250.0, 7500.0)
    logg: Range = (0.5, 5.0)
    fe_h: Range = (-2.5, 0.5)
    giants: Annotated[float, Field(ge=0.0, le=1.0)] = 0.5
    alpha: bool = True
    widths: dict[str, Width] = {}
    v_micro_scatter: Width = 0.2

    @model_validator(mode="after")
    def _ranges_ascend(self) -> StarsConfig:
        for name in ("teff", "logg", "fe_h"):
            low, high = getattr(self, name)
            if not low < high:
                raise ValueError(f"{name} must be [low, high] with low < high")
        return self


class SpectraConfig(Strict):
    """Which spectra.

    Parameters
    ----------
    ranges : tuple of (low, high)
        Vacuum Angstrom, ascending.
    step : float
        Angstrom between pixels, or km/s if the spacing is logarithmic.
    spacing : {"linear", "logarithmic"}
        With equal velocities between pixels no part of a wide range is sampled worse than another.
    atmospheres : {"marcs", "atlas9"}
        Where the temperatures of the layers come from.
    lines : {"reference", "full"}
        Which line list, see `spectrolabe.synthesis.linelist.LISTS`.
    differential : tuple of str
        Labels with respect to which spectra are differentiated; ``["all"]`` for every one.
    """

    ranges: tuple[Range, ...] = ((3900.0, 9000.0),)
    step: Positive = 0.05
    spacing: Literal["linear", "logarithmic"] = "linear"
    atmospheres: str = "marcs"
    lines: Literal["reference", "full"] = "reference"
    differential: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _ranges_ascend(self) -> SpectraConfig:
        edges = [edge for one in self.ranges for edge in one]
        if not edges or any(a >= b for a, b in itertools.pairwise(edges)):
            raise ValueError("ranges must be [[low, high], ...], ascending and apart")
        return self


class GridConfig(Strict):
    """Everything that ``spectrolabe synthesise`` needs."""

    name: str
    stars: StarsConfig = StarsConfig()
    spectra: SpectraConfig = SpectraConfig()
