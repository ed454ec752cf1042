"""What scatter is left, as a factor of stated errors and a part that they do not tell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from spectrolabe.homogenise.functions import spread_of

__all__ = ["Noise"]

BEYOND = 4.0  # spreads at which residuals are cut: outliers are no errors
FACTORS = (0.1, 10.0)
TIMES, INSIDE = (0.2, 5.0), 0.683


@dataclass(frozen=True)
class Noise:
    """Errors of measured values: ``hypot(factor * stated, floor)``.

    Parameters
    ----------
    factor : float
    floor : float
        In the unit of the label.
    """

    factor: float
    floor: float

    @classmethod
    def of(cls, residual: NDArray, sigma: NDArray, other: NDArray | float = 0.0) -> Noise:
        """Return the noise that residuals tell of.

        Parameters
        ----------
        residual : ndarray, shape (N,)
        sigma : ndarray, shape (N,)
            Stated errors, 0 where there is none.
        other : ndarray, shape (N,), or float
            Variance of what else is in the residuals, known.
        """
        spread = spread_of(residual)
        cut = np.clip(residual, -BEYOND * spread, BEYOND * spread)
        stated = bool((sigma > 0).any()) and bool(np.ptp(sigma) > 0)

        def misfit(logs: NDArray) -> float:
            factor = np.exp(logs[1]) if stated else 1.0
            variance = (factor * sigma) ** 2 + np.exp(2.0 * logs[0]) + other
            return float(np.mean(cut**2 / variance + np.log(variance)))

        smallest = np.log(1e-3 * spread)
        bounds = [(smallest, np.log(3.0 * spread)), tuple(np.log(FACTORS))]
        starts = [(np.log(share * spread), 0.0) for share in (0.01, 0.5, 1.0)]
        found = [
            minimize(misfit, start[: 1 + stated], bounds=bounds[: 1 + stated], method="L-BFGS-B")
            for start in starts
        ]
        best = min(found, key=lambda one: float(one.fun)).x
        shape = cls(float(np.exp(best[1])) if stated else 1.0, float(np.exp(best[0])))
        return shape._inside(residual, sigma, other)

    def _inside(self, residual: NDArray, sigma: NDArray, other: NDArray | float) -> Noise:
        """The same times what puts 68.3 per cent of the residuals within one error."""
        low, high = TIMES
        for _ in range(40):
            middle = float(np.sqrt(low * high))
            pulls = np.abs(residual) / np.sqrt(middle**2 * self.variance(sigma) + other)
            low, high = (middle, high) if np.quantile(pulls, INSIDE) > 1.0 else (low, middle)
        factor = middle * self.factor if (sigma > 0).any() else 1.0
        return Noise(factor, middle * self.floor)

    def after(self, first: Noise) -> Noise:
        """Return the noise of errors that another one has put right before."""
        floor = np.hypot(self.factor * first.floor, self.floor)
        return Noise(self.factor * first.factor, float(floor))

    def variance(self, sigma: NDArray) -> NDArray:
        """Return the variance of values with these stated errors; NaN counts as 0."""
        return np.asarray((self.factor * np.nan_to_num(sigma)) ** 2 + self.floor**2)
