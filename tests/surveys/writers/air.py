"""Air to vacuum by another route than the package: the closed formula of VALD."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def to_vacuum(wavelength_air: NDArray) -> NDArray:
    """Return vacuum Å (N. Piskunov, VALD wiki); within 2e-4 Å of Morton (2000) in the optical."""
    s2 = (1e4 / np.asarray(wavelength_air)) ** 2
    index = 1 + 8.336624212083e-5
    index += 0.02408926869968 / (130.1065924522 - s2)
    index += 0.0001599740894897 / (38.92568793293 - s2)
    return wavelength_air * index
