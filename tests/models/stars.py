"""Small made-up spectra whose labels can be read from them: for tests of models and training."""

from __future__ import annotations

import numpy as np

from spectrolabe.labels import Labels
from spectrolabe.spectra import Frame, Spectrum

LINES = {  # Å; the depth of all lines of a label tells its value
    "teff": (5010.0, 5430.0, 6010.0, 6564.6),
    "logg": (4955.0, 5185.0, 5650.0, 6250.0),
    "fe_h": (5110.0, 5300.0, 5895.0, 6400.0),
}
CENTRE = {"teff": 5800.0, "logg": 4.0, "fe_h": -0.3}
WIDTH = {"teff": 500.0, "logg": 0.4, "fe_h": 0.4}


def made_up(
    rng: np.random.Generator,
    count: int,
    *,
    step: float = 3e-4,
    span: tuple[float, float] = (4900.0, 6700.0),
    snr: float = 100.0,
    survey: str = "generic",
) -> tuple[list[list[Spectrum]], Labels]:
    """Return stars of one spectrum each, and their labels."""
    names = tuple(LINES)
    unit = rng.normal(size=(count, len(names))).clip(-2.5, 2.5)
    wavelength = np.exp(np.arange(np.log(span[0]), np.log(span[1]), step))
    stars = []
    for i in range(count):
        flux = 1.0 + 0.1 * rng.normal() * (wavelength / 5800.0 - 1.0)
        for value, lines in zip(unit[i], LINES.values(), strict=True):
            for centre in lines:
                sigma = centre / 1500.0
                depth = 0.4 + 0.1 * value
                flux = flux * (1.0 - depth * np.exp(-0.5 * ((wavelength - centre) / sigma) ** 2))
        error = 1.0 / snr
        stars.append(
            [
                Spectrum(
                    wavelength,
                    flux + rng.normal(0.0, error, wavelength.size),
                    np.full(wavelength.size, error**-2),
                    1800.0,
                    Frame.REST,
                    survey=survey,
                    spectrum_id=f"s{i}",
                    star_id=f"star{i}",
                    meta={"file": f"s{i}.fits"},
                )
            ]
        )
    centre, width = (np.array([d[n] for n in names]) for d in (CENTRE, WIDTH))
    values = centre + width * unit
    ids = np.array([star[0].star_id for star in stars])
    return stars, Labels(names, values, np.full_like(values, np.nan), ids)
