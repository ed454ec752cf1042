"""Hydrostatic equilibrium of an atmosphere whose mixture is not that of its grid."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spectrolabe.errors import InputError
from spectrolabe.synthesis.atmosphere import Atmosphere
from spectrolabe.synthesis.equilibrium import Chemistry, chemistry, solve
from spectrolabe.synthesis.gas import Gas

__all__ = ["hydrostatic_gas"]

Opacity = Callable[[NDArray, Gas], tuple[NDArray, NDArray]]

REFERENCE = 5000.0  # Å, where the optical depth of atmospheres is given
TOLERANCE = 1e-4  # of ln pressure
ITERATIONS = 40


def hydrostatic_gas(
    atmosphere: Atmosphere, abundances: ArrayLike, opacity: Opacity | None = None
) -> Gas:
    """Return the gas of an atmosphere with another mixture, at the same T(tau5000).

    Electron donors change the opacity, and with it the pressure at each optical depth. The
    pressure is integrated from dP / dtau = g / kappa for the mixture wanted and for the mixture
    of the atmosphere, with the same opacity, and the pressure of the atmosphere is multiplied by
    the ratio: for its own mixture it is its own exactly, whatever the opacity lacks.

    Parameters
    ----------
    atmosphere : Atmosphere
        L layers.
    abundances : array_like, shape (92,)
        n_X / n_H, H to U.
    opacity : callable, optional
        Absorption and scattering (1/cm), shape (K, L), at wavelengths (K,) in Å; the continuum
        by default.

    Returns
    -------
    Gas

    Raises
    ------
    InputError
        If the iteration does not settle, or a number is not positive and finite.
    """
    if opacity is None:
        from spectrolabe.synthesis.continuum import continuum_opacity

        opacity = continuum_opacity
    ratio = np.asarray(abundances, dtype=float)
    state, start, own = _own(atmosphere, opacity)
    ln_own = np.log(atmosphere.pressure)
    if np.array_equal(ratio, atmosphere.mixture):
        return solve(state, atmosphere.pressure, ratio, start=start)[0]
    ln_pressure, previous = ln_own.copy(), None
    for _ in range(ITERATIONS):
        gas, start = solve(state, np.exp(ln_pressure), ratio, start=start)
        change = ln_own + np.log(_integrated(atmosphere, gas, opacity) / own) - ln_pressure
        if np.abs(change).max() < TOLERANCE:
            return gas
        step, previous = _step(ln_pressure, change, previous)
        ln_pressure = ln_pressure + step
    raise InputError(
        "hydrostatic equilibrium",
        expected=f"a pressure within {TOLERANCE:.0e} after {ITERATIONS} iterations",
        found=f"a change of ln P by {np.abs(change).max():.1e}",
        fix="Check the abundances and the atmosphere.",
    )


@functools.lru_cache(maxsize=4)
def _own(atmosphere: Atmosphere, opacity: Opacity) -> tuple[Chemistry, NDArray, NDArray]:
    """What all mixtures share: chemistry, unknowns and integral for the atmosphere's own one."""
    state = chemistry(atmosphere.temperature)
    gas, start = solve(state, atmosphere.pressure, atmosphere.mixture)
    return state, start, _integrated(atmosphere, gas, opacity)


def _integrated(atmosphere: Atmosphere, gas: Gas, opacity: Opacity) -> NDArray:
    """Return the integral of g dtau / kappa, by trapezoids in ln tau of the gas as it is.

    Above the first layer the pressure goes with the power of tau that it has there.
    """
    absorption, scattering = opacity(np.array([REFERENCE]), gas)
    kappa = (absorption[0] + scattering[0]) / gas.density
    ln_tau = np.log(atmosphere.tau5000)
    slope = 10.0**atmosphere.logg * atmosphere.tau5000 / kappa
    power = np.log(atmosphere.pressure[1] / atmosphere.pressure[0]) / (ln_tau[1] - ln_tau[0])
    steps = 0.5 * (slope[1:] + slope[:-1]) * np.diff(ln_tau)
    return slope[0] / power + np.concatenate([[0.0], np.cumsum(steps)])


def _step(
    x: NDArray, change: NDArray, previous: tuple[NDArray, NDArray] | None
) -> tuple[NDArray, tuple[NDArray, NDArray]]:
    """Half of the change at first; then the secant through the last two points, by layer."""
    share = np.full_like(x, 0.55)
    if previous is not None:
        run, rise = x - previous[0], change - previous[1]
        safe = np.abs(rise) > 0.1 * TOLERANCE
        share[safe] = np.clip(-run[safe] / rise[safe], 0.3, 1.0)
    return share * change, (x, change)
