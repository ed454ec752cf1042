"""Arrays that stay packed on disk and are decoded where they are read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.typing import DTypeLike, NDArray

__all__ = ["Decoded", "Interpolated", "Scaled", "continuum_nodes", "pack_slopes"]

CONTINUUM_SPACINGS = (10.0, 5.0, 2.0)  # Å between the pixels at which a continuum is kept
CONTINUUM_PRECISION = 1e-4  # relative; a continuum that needs more pixels is kept whole


class Decoded(NDArrayOperatorsMixin, ABC):
    """What is indexed like a float32 array and decodes what is asked for.

    ``array[3]``, ``array[:10, ::5]``, arithmetic and ``np.asarray(array)`` work; the last decodes
    all of it. It cannot be written.
    """

    shape: tuple[int, ...]
    dtype = np.dtype(np.float32)

    @abstractmethod
    def __getitem__(self, key: Any) -> NDArray:
        """Decode what is asked for."""

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray:
        return self[...].astype(dtype or self.dtype, copy=False)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        arrays = [np.asarray(one) if isinstance(one, Decoded) else one for one in inputs]
        return getattr(ufunc, method)(*arrays, **options)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(shape={self.shape})"


class Scaled(Decoded):
    """Integers or half floats times a scale.

    Parameters
    ----------
    packed : ndarray
    scale : float or ndarray
        What broadcasts to the shape of ``packed``.
    """

    def __init__(self, packed: NDArray, scale: float | NDArray) -> None:
        self.packed, self.shape = packed, packed.shape
        self.scale = np.broadcast_to(np.asarray(scale, np.float32), packed.shape)

    def __getitem__(self, key: Any) -> NDArray:
        return np.asarray(self.packed[key], np.float32) * self.scale[key]


class Interpolated(Decoded):
    """Rows known at some pixels, linear in wavelength in between.

    Parameters
    ----------
    values : ndarray, shape (N, K)
    nodes : ndarray of int, shape (K,)
        Pixels, ascending, the first and the last among them.
    wavelength : ndarray, shape (M,)
    """

    def __init__(self, values: NDArray, nodes: NDArray, wavelength: NDArray) -> None:
        self.values, self.shape = values, (len(values), len(wavelength))
        at = wavelength[nodes]
        left = np.clip(np.searchsorted(at, wavelength, "right") - 1, 0, max(len(at) - 2, 0))
        self.left, self.right = left, np.minimum(left + 1, len(at) - 1)
        width = np.where(self.right > left, at[self.right] - at[left], 1.0)
        self.part = ((wavelength - at[left]) / width).astype(np.float32)

    def __getitem__(self, key: Any) -> NDArray:
        pair = isinstance(key, tuple) and len(key) == 2 and not any(k is Ellipsis for k in key)
        if not pair and (isinstance(key, tuple) or key is Ellipsis or np.ndim(key) > 1):
            return self[:, :][key]
        rows, columns = key if pair else (key, slice(None))
        left, right, part = self.left[columns], self.right[columns], self.part[columns]
        if isinstance(columns, slice):
            values = self.values[rows]
            low, high = values[..., left], values[..., right]
        else:
            low, high = self.values[rows, left], self.values[rows, right]
        return np.asarray(low * (1 - part) + high * part, np.float32)


def continuum_nodes(wavelength: NDArray, spacing: float) -> NDArray:
    """Return pixels at most about ``spacing`` Angstrom apart, both ends of every gap included.

    Parameters
    ----------
    wavelength : ndarray, shape (M,)
    spacing : float
        0 for every pixel.
    """
    if spacing == 0 or len(wavelength) < 3:
        return np.arange(len(wavelength))
    cell = np.floor((wavelength - wavelength[0]) / spacing)
    first = np.flatnonzero(np.diff(cell, prepend=-1))
    before = np.flatnonzero(np.diff(wavelength) > spacing)  # the last pixel before a gap
    return np.unique(np.concatenate([first, before, before + 1, [len(wavelength) - 1]]))


def pack_slopes(slopes: NDArray) -> tuple[NDArray, NDArray]:
    """Return half floats and the scale of each spectrum: its largest absolute value.

    Parameters
    ----------
    slopes : ndarray, shape (..., M)

    Returns
    -------
    packed : ndarray, float16, shape (..., M)
    scale : ndarray, float32, shape (...)
        ``packed * scale`` is ``slopes`` to 5e-4 of each value (or 6e-8 of the largest).
    """
    scale = np.abs(slopes).max(axis=-1, initial=0.0).astype(np.float32)
    unit = np.where(scale > 0, scale, 1.0)
    return (slopes / unit[..., None]).astype(np.float16), scale
