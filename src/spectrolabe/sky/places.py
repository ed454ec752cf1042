"""Places and times as headers have them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["barycentric_correction", "calendar", "galactic", "sexagesimal"]

# rows of the rotation from ICRS to Galactic axes (Hipparcos catalogue, ESA SP-1200, 1.5.11)
GALACTIC = np.array(
    [
        [-0.0548755604, -0.8734370902, -0.4838350155],
        [0.4941094279, -0.4448296300, 0.7469822445],
        [-0.8676661490, -0.1980763734, 0.4559837762],
    ]
)
OBLIQUITY = np.radians(23.4393)


def barycentric_correction(ra: float, dec: float, mjd: float) -> float:
    """Return the Earth's velocity towards a star, km/s, for a circular orbit.

    Good to 0.6 km/s: for a card of a header, no measured velocity is made of it.
    """
    days = mjd - 51544.5
    sun = np.radians(280.46 + 0.9856474 * days)
    earth = np.array([np.sin(sun), -np.cos(sun), 0.0]) * 29.785
    y, z = (
        earth[1] * np.cos(OBLIQUITY) - earth[2] * np.sin(OBLIQUITY),
        earth[1] * np.sin(OBLIQUITY) + earth[2] * np.cos(OBLIQUITY),
    )
    return float(_unit(ra, dec) @ (earth[0], y, z))


def galactic(ra: float, dec: float) -> tuple[float, float]:
    """Return Galactic longitude and latitude in degrees."""
    x, y, z = GALACTIC @ _unit(ra, dec)
    return float(np.degrees(np.arctan2(y, x)) % 360.0), float(np.degrees(np.arcsin(z)))


def _unit(ra: float, dec: float) -> NDArray:
    a, d = np.radians(ra), np.radians(dec)
    return np.array([np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)])


def sexagesimal(ra: float, dec: float) -> str:
    """Return a position as surveys name stars by it: hhmmss.ss+ddmmss.s, truncated."""
    seconds, arc = int(ra / 15.0 * 360000.0), int(abs(dec) * 36000.0)
    hours, minutes = divmod(seconds // 6000, 60)
    degrees, arcminutes = divmod(arc // 600, 60)
    return (
        f"{hours:02d}{minutes:02d}{seconds % 6000 / 100:05.2f}{'-' if dec < 0 else '+'}"
        f"{degrees:02d}{arcminutes:02d}{arc % 600 / 10:04.1f}"
    )


def calendar(mjd: float) -> str:
    """Return a modified Julian date as an ISO date and time, UTC."""
    moment = np.datetime64("1858-11-17T00:00:00.000") + np.timedelta64(int(mjd * 86400000), "ms")
    return str(moment)
