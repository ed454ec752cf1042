"""Visits of stars that nobody has learnt from, what is true of them, and what models say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from spectrolabe.models.estimator import Estimator
from spectrolabe.sky.instruments import SURVEYS, Faults, SkyInstrument
from spectrolabe.sky.intrinsic import intrinsic_spectra
from spectrolabe.sky.observing import normal_noise, observe_star
from spectrolabe.spectra import Frame, Spectrum
from spectrolabe.spectra.combine import combine
from spectrolabe.spectra.store import Store
from spectrolabe.training.twins import Pair, pairs_of
from twins import NAMES, labels_of, truth_of

__all__ = ["BINS", "MAIN", "OTHERS", "Said", "Test"]

BINS = ((8.0, 15.0), (15.0, 20.0), (20.0, 30.0), (30.0, 40.0), (40.0, 60.0))
MAIN = ("teff", "logg", "fe_h", "mg_fe")
OTHERS = tuple(name for name in NAMES if name not in MAIN)
LEAST, MOST = 5.0, 60.0  # S/N of visits
LONG = 1000.0  # times the exposure, of spectra without noise


@dataclass(eq=False)
class Test:
    """Visits of stars that nobody has learnt from, whose star has others."""

    work: Path
    store: Store

    @cached_property
    def pairs(self) -> list[Pair]:
        """Visits with twins, of the S/N that is looked at."""
        snr = self.store.column("snr")
        found = pairs_of(self.store, range(len(self.store)))
        return [one for one in found if one.others and LEAST <= snr[one.visit] < MOST]

    @cached_property
    def snr(self) -> NDArray:
        """Of the visits, shape (P,)."""
        return self.store.column("snr")[[one.visit for one in self.pairs]]

    @cached_property
    def truth(self) -> NDArray:
        """Shape (P, L)."""
        rows = np.array([one.visit for one in self.pairs])
        return labels_of(self.work, "test", self.store, rows).values

    @cached_property
    def visits(self) -> list[Spectrum]:
        """The spectra."""
        return [self.store[one.visit] for one in self.pairs]

    @cached_property
    def coadds(self) -> list[Spectrum]:
        """What the survey has combined of all visits of the star, the visit among them."""
        return _of_stars(self.store, [one.star_id for one in self.visits])

    @cached_property
    def columns(self) -> dict[str, NDArray]:
        """What else the truth says of each visit."""
        return truth_of(self.work, "test", [one.spectrum_id for one in self.visits])

    @cached_property
    def groups(self) -> NDArray:
        """Numbers of the stars of the visits, those of a cluster the same: shape (P,)."""
        clusters = np.asarray(self.columns["cluster_id"]).astype(str)
        names = [c or one.star_id for c, one in zip(clusters, self.visits, strict=True)]
        return np.unique(names, return_inverse=True)[1]

    def exact(self, chosen: Sequence[int] | NDArray) -> list[Spectrum]:
        """What the instrument would record of visits if nothing went wrong, at their level."""
        visits = [self.visits[i] for i in chosen]
        clean = _without_noise(self.work, visits)
        return [combine([one], visit) for one, visit in zip(clean, visits, strict=True)]

    def again(self, chosen: Sequence[int] | NDArray, exact: Sequence[Spectrum]) -> list[Spectrum]:
        """Other exposures of which these are the truth, level and all."""
        rng, correlation = np.random.default_rng(7), SURVEYS[self.work.name].correlation
        found = []
        for i, one in zip(chosen, exact, strict=True):
            visit = self.visits[i]
            sigma = np.where(visit.good, visit.ivar, np.inf) ** -0.5
            noise = sigma * normal_noise(len(visit), correlation, rng)
            use = visit.good & one.good
            found.append(
                visit.replace(
                    flux=np.where(use, one.flux + noise, 0.0), ivar=np.where(use, visit.ivar, 0.0)
                )
            )
        return found

    def inside(self, b: int) -> NDArray:
        """Which visits are in a bin of S/N."""
        low, high = BINS[b]
        return (self.snr >= low) & (self.snr < high)


def _of_stars(store: Store, stars: Sequence[str]) -> list[Spectrum]:
    ids, names = store.column("spectrum_id"), store.column("star_id")
    combined = {n: i for i, (n, x) in enumerate(zip(names, ids, strict=True)) if _combined(x)}
    return [store[combined[star]] for star in stars]


def _combined(name: str) -> bool:
    return name.endswith(":combined")


@dataclass
class Said:
    """What a model says of the visits: values and sigma, shape (P, L)."""

    mean: NDArray
    sigma: NDArray

    @classmethod
    def of(cls, model: Estimator, stars: Sequence[Sequence[Spectrum]]) -> Said:
        """Ask a model."""
        posterior = model.predict(stars).select(NAMES)
        return cls(posterior.mean, posterior.sigma)


def _without_noise(work: Path, visits: Sequence[Spectrum]) -> list[Spectrum]:
    survey = work.name
    instrument = _perfect(SURVEYS[survey])
    stars = Table(truth_of(work, "test", [one.spectrum_id for one in visits]))
    library = intrinsic_spectra("library", [survey])
    flux, continuum = library(stars)
    found = []
    for i, visit in enumerate(visits):
        rng = np.random.default_rng(0)
        (seen,) = observe_star(
            instrument, library.wavelength, flux[i], continuum[i], stars[i], rng, visits=1,
            exposure=LONG, resolution=library.resolution,
        )  # fmt: skip
        low, high = visit.wavelength[[0, -1]]
        arms = [arm for arm in seen.arms if low < np.median(arm.wavelength) < high]
        wavelength, exact, ivar = (
            np.concatenate([getattr(arm, key) for arm in arms])
            for key in ("wavelength", "flux", "ivar")
        )
        rv = float(stars["rv"][i]) + instrument.rv_offset  # on the scale of the survey
        if instrument.frame is Frame.REST:
            rv = 0.0
        found.append(
            visit.replace(
                wavelength=wavelength, flux=exact, ivar=ivar, frame=instrument.frame, rv=rv,
                resolution=float(np.median(visit.resolution)),
            )
        )  # fmt: skip
    return found


def _perfect(instrument: SkyInstrument) -> SkyInstrument:
    faults = Faults(**{field.name: 0.0 for field in fields(Faults)})
    arms = [replace(arm, sky=0.0 * arm.sky, telluric=0.0 * arm.telluric) for arm in instrument.arms]
    return replace(
        instrument, arms=tuple(arms), faults=faults, correlation=0.0, full_well=np.inf,
        rv_floor=0.0, rv_slope=0.0,
    )  # fmt: skip
