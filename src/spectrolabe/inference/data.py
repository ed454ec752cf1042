"""Observed pixels as a fit sees them, and what they weigh: noise, errors of the model, outliers."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spectrolabe.inference.continuum import Basis

__all__ = ["Data", "clipped", "tempered", "with_model_error"]

CLIP = 5.0  # standard deviations, or of the typical residual where that is larger


class Data(NamedTuple):
    """One spectrum of one star.

    Parameters
    ----------
    flux : ndarray, shape (M,), float32
        Of order 1.
    root : ndarray, shape (M,), float32
        1 / sigma, with all errors; 0 where a pixel must not be used.
    basis : Basis
        Functions whose sums are continua.
    ridge : ndarray, shape (C, C)
        Prior precision of their coefficients.
    noise : ndarray, shape (M,), float32
        Variance of the flux; 0 where a pixel must not be used.
    level : ndarray, shape (M,), float32
        Smooth curve through the flux: what errors of the model are relative to.
    errors : tuple of float
        Of the model, relative: at the continuum, and what is added at full depth of a line.
    lines : ndarray, shape (M,), or 0
        Of the line list, relative to the continuum; see `spectrolabe.inference.line_errors`.
    temper : float
        By how much ``root`` was divided because the spectrum fits worse than its errors say.
    """

    flux: NDArray
    root: NDArray
    basis: Basis
    ridge: NDArray
    noise: NDArray
    level: NDArray
    errors: tuple[float, float] = (0.0, 0.0)
    lines: NDArray | float = 0.0
    temper: float = 1.0


def with_model_error(data: Data, flux: NDArray) -> Data:
    """Return the data with weights that have the errors of a model spectrum, shape (M,), in them.

    They are larger in lines: strong lines are formed high up, where a model atmosphere in local
    equilibrium is least like a star, and their strengths are uncertain by a few per cent; and
    larger where models of the Sun are wrong.
    """
    floor, depth = data.errors
    error = floor + depth * np.clip(1.0 - flux, 0.0, 1.0)
    variance = data.noise + (error**2 + data.lines**2) * data.level**2
    used = data.root > 0
    root = np.where(used, 1.0 / np.sqrt(np.where(used, variance, 1.0)), 0.0).astype(np.float32)
    return data._replace(root=root, temper=1.0)


def clipped(data: Data, residual: NDArray) -> Data:
    """Leave out pixels that no noise explains; residuals in standard deviations."""
    size = np.abs(residual[data.root > 0])
    typical = max(1.4826 * float(np.median(size)), 1.0) if len(size) else 1.0
    keep = np.abs(residual) <= CLIP * typical
    return data._replace(root=np.where(keep, data.root, np.float32(0.0)))


def tempered(data: Data, chi2: float, parameters: float) -> Data:
    """Lower the weights to those that make chi2 that of the degrees of freedom, if it is larger.

    So priors, and other spectra, count as they should against a spectrum that no model fits.

    Parameters
    ----------
    data : Data
    chi2 : float
        Of the used pixels.
    parameters : float
        Degrees of freedom taken by the fit.
    """
    freedom = max(int(np.count_nonzero(data.root)) - parameters, 1)
    temper = float(np.sqrt(max(chi2 / freedom, 1.0)))
    return data._replace(root=data.root / np.float32(temper), temper=data.temper * temper)
