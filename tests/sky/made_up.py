"""Made-up spectra of stars; a module of its own, so that processes load nothing else."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray


@dataclass(frozen=True)
class MadeUp:
    """Lines whose depth tells metallicity and temperature, on a blackbody."""

    wavelength: NDArray
    resolution: float = 50000.0

    def __call__(self, stars: Table) -> tuple[NDArray, NDArray]:
        teff = np.asarray(stars["teff"], dtype=float)[:, None]
        depth = 0.4 + 0.1 * np.asarray(stars["fe_h"], dtype=float)[:, None]
        phase = 2 * np.pi * self.wavelength / 7.3
        flux = 1.0 - np.clip(depth, 0.05, 0.9) * np.cos(phase) ** 40
        continuum = 3.74e19 / self.wavelength**5 * 1e9 / np.expm1(1.4388e8 / self.wavelength / teff)
        return flux.astype("f4"), continuum.astype("f4")
