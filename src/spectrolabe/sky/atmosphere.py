"""The Earth's atmosphere as spectrographs see it: light of the night sky and telluric absorption.

Line positions are physics where a few constants give them (O2, CO2) and measured for the airglow.
The lines of water vapour are drawn once with the density and strength of its bands: they are where
water absorbs, but no line is that of a table.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spectrolabe.spectra.broadening import FWHM

__all__ = ["airglow", "night_sky", "telluric_depth"]

# Å in vacuum, hundreds of rayleigh: [O I], Na and Hg of cities, and OH
# (Osterbrock et al. 1996, PASP 108, 277; Rousselot et al. 2000, A&A 354, 1134)
OPTICAL = {
    **{4047.7: 0.05, 4359.6: 0.12, 5462.3: 0.15, 5578.9: 2.0, 5891.6: 0.25, 5897.6: 0.15},
    **{6302.0: 1.0, 6365.5: 0.33, 6500.6: 0.05, 6555.5: 0.04, 6864.9: 0.12, 6925.2: 0.1},
    **{7278.4: 0.2, 7286.4: 0.12, 7318.3: 0.35, 7331.1: 0.12, 7342.9: 0.35, 7371.3: 0.15},
    **{7403.7: 0.1, 7526.2: 0.1, 7573.8: 0.1, 7718.8: 0.2, 7752.8: 0.45, 7796.3: 0.5},
    **{7823.6: 0.4, 7843.5: 0.15, 7855.4: 0.15, 7915.9: 0.5, 7923.2: 0.25, 7966.8: 0.6},
    **{7995.5: 0.6, 8028.1: 0.3, 8064.4: 0.1, 8346.9: 0.5, 8384.7: 0.15, 8401.5: 0.9},
    **{8417.5: 0.5, 8432.5: 1.0, 8454.6: 0.3, 8467.7: 0.9, 8496.0: 0.5, 8507.0: 0.4},
    **{8550.9: 0.15, 8763.3: 0.3, 8770.3: 0.8, 8780.7: 0.5, 8793.6: 0.8, 8829.5: 1.0},
    **{8838.4: 0.5, 8852.9: 0.9, 8870.0: 0.8, 8888.2: 1.6, 8905.5: 0.5, 8922.0: 1.3},
    **{8945.8: 0.6, 8960.4: 1.2, 8990.9: 0.8, 9003.9: 0.6, 9040.6: 0.3, 9051.6: 0.4},
    **{9316.5: 0.8, 9340.0: 0.9, 9378.4: 0.9, 9399.7: 0.6, 9422.4: 0.9, 9442.2: 1.3},
    **{9461.1: 0.7, 9479.3: 1.5, 9505.6: 1.0, 9522.0: 0.9, 9555.1: 0.9, 9570.2: 1.0},
    **{9610.2: 0.9, 9623.4: 0.5, 9656.7: 0.5, 9702.6: 0.6, 9722.4: 0.8, 9793.8: 1.0},
}
INFRARED = {
    **{15187.1: 1.0, 15240.9: 2.5, 15287.8: 3.0, 15332.4: 3.0, 15395.3: 1.8, 15432.2: 3.0},
    **{15509.8: 0.8, 15517.9: 0.8, 15539.7: 2.4, 15546.1: 1.5, 15570.2: 1.6, 15597.6: 1.6},
    **{15631.4: 1.5, 15655.7: 2.0, 15702.5: 2.3, 15833.4: 1.2, 15848.1: 0.8, 15869.3: 1.2},
    **{15972.6: 2.5, 16030.8: 3.2, 16079.8: 3.0, 16128.6: 3.3, 16194.6: 1.7, 16235.4: 3.2},
    **{16302.4: 1.0, 16317.2: 2.0, 16351.0: 1.2, 16360.4: 1.0, 16388.5: 1.8, 16415.1: 1.0},
    **{16442.2: 2.2, 16477.8: 1.2, 16502.4: 2.4, 16553.8: 1.0, 16692.4: 2.4, 16708.9: 1.0},
    **{16732.5: 1.0, 16753.9: 1.2, 16795.0: 0.8, 16840.5: 2.4, 16903.7: 2.4, 16955.1: 2.4},
}
PHOTONS = 1.87e-4  # /s/cm2/arcsec2 of a line of strength 1: 100 rayleigh
# band limits, lines in it, typical optical depth at the centre of a line (Å; of water vapour)
WATER = (
    *((5880.0, 5980.0, 60, 1.0), (6470.0, 6600.0, 70, 0.8), (6940.0, 7060.0, 50, 0.8)),
    *((7160.0, 7400.0, 180, 8.0), (8120.0, 8370.0, 190, 10.0), (8930.0, 9260.0, 230, 12.0)),
    *((9280.0, 9860.0, 500, 60.0), (15080.0, 15240.0, 25, 1.0), (16700.0, 17000.0, 15, 0.4)),
)
H2_CM_K = 1.438777  # second radiation constant, cm K
AIR = 250.0  # K
LINE_R = 150_000.0  # of telluric lines: 2 km/s


def _lines(
    origin: float, upper: float, lower: float, depth: float, odd: bool
) -> tuple[NDArray, NDArray]:
    """Wavelengths in Å and central depths of P and R branches of a band of a linear molecule."""
    n = np.arange(1, 45, 2) if odd else np.arange(2, 60, 2)
    population = (2 * n + 1) * np.exp(-lower * n * (n + 1) * H2_CM_K / AIR)
    population = depth * population / population.max()
    ends = np.concatenate([n + 1, n - 1]).astype(float)
    start = np.concatenate([n, n]).astype(float)
    wavenumber = origin + upper * ends * (ends + 1) - lower * start * (start + 1)
    if odd:  # the spin of O2 makes every line a pair, 2 cm-1 apart in P and R
        wavenumber = np.concatenate([wavenumber - 1.0, wavenumber + 1.0])
    return 1e8 / wavenumber, np.resize(population, wavenumber.size)


@cache
def _telluric_lines() -> tuple[NDArray, NDArray]:
    bands = [
        # b1 Sigma - X3 Sigma of O2: 0-0, 1-0, 2-0 (Babcock & Herzberg 1948, ApJ 108, 167)
        _lines(13120.91, 1.39138, 1.43768, 300.0, odd=True),
        _lines(14525.66, 1.37296, 1.43768, 20.0, odd=True),
        _lines(15902.42, 1.35420, 1.43768, 1.0, odd=True),
        # 2 nu1 + 2 nu2 + nu3 tetrad of CO2 (Rothman et al. 1992, JQSRT 48, 537)
        _lines(6347.85, 0.38706, 0.39022, 1.0, odd=False),
        _lines(6227.92, 0.38684, 0.39022, 1.0, odd=False),
    ]
    rng = np.random.default_rng(18)
    for low, high, count, depth in WATER:
        # strengths of the lines of a band fall off exponentially
        bands.append((rng.uniform(low, high, count), depth * rng.exponential(1.0, count)))
    centre, depths = (np.concatenate(parts) for parts in zip(*bands, strict=True))
    order = np.argsort(centre)
    return centre[order], depths[order]


def _blurred(wavelength: NDArray, centre: NDArray, area: NDArray, resolution: ArrayLike) -> NDArray:
    """Gaussian lines of these areas (per Å) as an instrument of this R shows them."""
    power = np.broadcast_to(np.asarray(resolution, dtype=float), wavelength.shape)
    result = np.zeros(wavelength.shape)
    inside = (centre > wavelength[0] * 0.99) & (centre < wavelength[-1] * 1.01)
    for line, strength in zip(centre[inside], area[inside], strict=True):
        near = int(np.clip(np.searchsorted(wavelength, line), 0, len(power) - 1))
        sigma = line / power[near] / FWHM
        low, high = np.searchsorted(wavelength, (line - 5.5 * sigma, line + 5.5 * sigma))
        distance = (wavelength[low:high] - line) / sigma
        result[low:high] += strength * np.exp(-0.5 * distance**2) / (sigma * np.sqrt(2 * np.pi))
    return result


def airglow(wavelength: NDArray, resolution: ArrayLike) -> NDArray:
    """Return emission lines of the night sky in photons/s/cm2/arcsec2/Angstrom.

    Parameters
    ----------
    wavelength : ndarray, shape (P,)
        Vacuum Angstrom, ascending, as the observatory sees them.
    resolution : float or array_like, shape (P,)
        R = wavelength / FWHM.
    """
    lines = OPTICAL | {line: 40.0 * strength for line, strength in INFRARED.items()}
    centre = np.array(list(lines))
    return _blurred(wavelength, centre, PHOTONS * np.array(list(lines.values())), resolution)


def night_sky(wavelength: NDArray, magnitude: float, infrared: float = 18.0) -> NDArray:
    """Return the continuum of the night sky in photons/s/cm2/arcsec2/Angstrom.

    Parameters
    ----------
    wavelength : ndarray, shape (P,)
    magnitude, infrared : float
        AB surface brightness of the continuum below and above 1.1 micron, mag/arcsec2. A dark
        site has 21.8 in V; between the OH lines H is at 18 to 19 (Maihara et al. 1993, PASP 105,
        940).
    """
    level = np.where(wavelength < 11000.0, magnitude, infrared)
    # F_nu / (h nu) per Å is F_nu / (h lambda)
    return 10 ** (-0.4 * (level + 48.6)) / (6.62607e-27 * wavelength)


def telluric_depth(wavelength: NDArray, resolution: ArrayLike) -> NDArray:
    """Return the optical depth of the atmosphere in molecular lines, airmass about 1.2.

    Parameters
    ----------
    wavelength : ndarray, shape (P,)
        Vacuum Angstrom, ascending, as the observatory sees them.
    resolution : float or array_like, shape (P,)
        R = wavelength / FWHM. Transmission is blurred, not optical depth.
    """
    centre, depth = _telluric_lines()
    # a saturated line keeps the area of 1 - exp(-depth), and grows as the root of its damping wings
    absorbed = (1 - np.exp(-depth)) * np.sqrt(1 + 0.3 * depth)
    area = absorbed * centre / LINE_R * np.sqrt(np.pi / np.log(16.0))
    return -np.log(np.clip(1 - _blurred(wavelength, centre, area, resolution), 0.03, 1.0))
