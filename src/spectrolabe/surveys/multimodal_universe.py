"""Records of the Multimodal Universe, a collection of survey data on the Hugging Face hub.

Source: The Multimodal Universe Collaboration 2024, arXiv:2412.02527, and the scripts that build its
APOGEE, DESI and SDSS parts. Its LAMOST part has no inverse variance, its Gaia part no wavelength:
read the surveys' own files instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spectrolabe.errors import InputError, unknown_name
from spectrolabe.spectra import SPEED_OF_LIGHT, Frame, Spectrum
from spectrolabe.surveys.apogee import APOGEE_BAD_PIXEL, APOGEE_RESOLUTION
from spectrolabe.surveys.base import good_ivar

__all__ = ["from_multimodal_universe"]

FWHM = 2.0 * np.sqrt(2.0 * np.log(2.0))  # of a Gaussian of sigma 1
FASTEST = 0.01  # a larger redshift is not that of a star
ARRAYS = ("lambda", "flux", "ivar")


@dataclass(frozen=True)
class Part:
    """What one part of the collection leaves unsaid.

    Parameters
    ----------
    frame : Frame
        Of ``lambda``, which is in vacuum Å in all of them.
    resolution : float or None
        R where ``lsf_sigma`` cannot be used; else it is in pixels.
    """

    frame: Frame
    resolution: float | None


PARTS = {
    # lsf_sigma 0.326, 0.283, 0.236 is the dispersion of the three chips in Å per pixel, no width
    "apogee": Part(Frame.REST, APOGEE_RESOLUTION),
    "desi": Part(Frame.BARYCENTRIC, None),
    "sdss_boss": Part(Frame.BARYCENTRIC, None),
}


def from_multimodal_universe(record: Mapping[str, Any], *, survey: str) -> Spectrum:
    """Return the spectrum of one record of a Multimodal Universe dataset.

    Parameters
    ----------
    record : mapping
        ``spectrum`` with ``flux``, ``ivar``, ``lambda`` (Å, vacuum, float32; -1 is padding),
        ``lsf_sigma`` and, where there is one, ``mask`` (true = bad) or ``pix_bitmask``;
        ``object_id``; a velocity as ``radial_velocity`` (km/s) or ``z``.
    survey : str
        ``apogee``, ``desi`` or ``sdss_boss`` (for its parts sdss, segue1, segue2, boss and eboss).

    Returns
    -------
    Spectrum
        ``lsf_sigma`` is in pixels for DESI and SDSS and becomes R = λ / (2.3548 σ Δλ). For APOGEE
        the collection has the dispersion there, so that R = 22,500 is taken. ``spectrum_id`` and
        ``star_id`` are the object_id.

    Raises
    ------
    InputError
        If the survey is none of these, or the record lacks something.
    """
    if survey not in PARTS:
        raise unknown_name("survey", survey, PARTS, kind="part of the Multimodal Universe")
    part, name = PARTS[survey], _object_id(record)
    pixels = _pixels(record, name)
    bad = _rejected(pixels, survey)
    flux, ivar = pixels["flux"], good_ivar(pixels["flux"], pixels["ivar"], bad)
    resolution: float | NDArray | None = part.resolution
    if resolution is None:
        resolution, known = _resolution(pixels, name)
        ivar[~known] = 0.0
    return Spectrum(
        wavelength=pixels["lambda"],
        flux=flux,
        ivar=ivar,
        resolution=resolution,
        frame=part.frame,
        rv=_velocity(record),
        survey=survey,
        spectrum_id=name,
        star_id=name,
        meta={key: value for key, value in record.items() if np.isscalar(value)},
    )


def _object_id(record: Mapping[str, Any]) -> str:
    name = record.get("object_id", "")
    text = name.decode() if isinstance(name, bytes) else str(name).strip()
    if text[:2] in ("b'", 'b"'):  # str() of bytes, as the collection has it for APOGEE
        text = text[2:-1]
    if not text:
        raise InputError("record", expected="an object_id", found=f"{sorted(record)}")
    return text


def _pixels(record: Mapping[str, Any], name: str) -> dict[str, NDArray]:
    """The arrays of the spectrum without the padding."""
    given = {key: np.asarray(value) for key, value in dict(record.get("spectrum") or {}).items()}
    lacking = [key for key in ARRAYS if key not in given]
    if lacking:
        raise InputError(
            name,
            expected=f"a spectrum with {', '.join(ARRAYS)}",
            found=f"one with {', '.join(given) or 'nothing'}",
            fix=f"Missing: {', '.join(lacking)}.",
        )
    wavelength = given["lambda"].astype(np.float64)
    real = np.isfinite(wavelength) & (wavelength > 0)
    pixels = {key: a[real] for key, a in given.items() if a.shape == wavelength.shape}
    if "lsf_sigma" in given and given["lsf_sigma"].ndim == 0:
        pixels["lsf_sigma"] = np.full(int(real.sum()), given["lsf_sigma"])
    return {**pixels, "lambda": wavelength[real]}


def _rejected(pixels: Mapping[str, NDArray], survey: str) -> NDArray:
    if survey == "apogee" and "pix_bitmask" in pixels:
        return (pixels["pix_bitmask"].astype(np.int64) & int(APOGEE_BAD_PIXEL)) != 0
    return pixels["mask"].astype(bool) if "mask" in pixels else np.zeros(len(pixels["flux"]), bool)


def _resolution(pixels: Mapping[str, NDArray], name: str) -> tuple[NDArray, NDArray]:
    """R of every pixel and where it is known; elsewhere it is the median."""
    sigma = np.asarray(pixels.get("lsf_sigma", np.nan), dtype=np.float64)
    known = np.isfinite(sigma) & (sigma > 0)
    if not known.any():
        raise InputError(name, expected="lsf_sigma in pixels", found="no positive value")
    wavelength = pixels["lambda"]
    with np.errstate(divide="ignore", invalid="ignore"):
        resolution = wavelength / (FWHM * sigma * np.gradient(wavelength))
    return np.where(known, resolution, np.median(resolution[known])), known


def _velocity(record: Mapping[str, Any]) -> float:
    """km/s; NaN where the record has none, or the redshift of no star."""
    if record.get("radial_velocity") is not None:
        return float(record["radial_velocity"])
    z = record.get("z", record.get("Z"))
    return SPEED_OF_LIGHT * float(z) if z is not None and abs(float(z)) < FASTEST else np.nan
