"""Templates of an encoder: differential spectra of reference stars, from emulators."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import next_fast_len
from scipy.ndimage import gaussian_filter1d

from spectrolabe.labels import LabelScale
from spectrolabe.models.emulator import Emulator
from spectrolabe.models.templates import FINEST, Templates
from spectrolabe.models.tokens import CONTINUUM_WIDTH, NODE_STEP, ladder_resolution
from spectrolabe.spectra.broadening import FWHM
from spectrolabe.spectra.wavelength import SPEED_OF_LIGHT

__all__ = ["REFERENCES", "make_templates"]

# teff, logg, fe_h, v_micro; solar ratios. Dwarfs, giants and metal-poor stars, so that no star is
# far from all of them
REFERENCES = (
    (4700.0, 4.6, -0.2, 0.8),
    (5750.0, 4.35, -0.2, 1.1),
    (6700.0, 4.1, -0.3, 1.6),
    (4400.0, 1.7, -0.5, 1.7),
    (4900.0, 2.7, -0.2, 1.4),
    (5000.0, 2.3, -1.6, 1.6),
    (6000.0, 4.1, -1.5, 1.2),
)
MOTION = ("rv_residual", "v_broad")
TYPICAL_BROADENING = 6.0  # km/s, of the reference stars


def make_templates(emulators: Sequence[Emulator], scale: LabelScale) -> Templates:
    """Return the templates of all labels that are in the spectra of emulators.

    Parameters
    ----------
    emulators : sequence of Emulator
        Of ranges of wavelength that do not overlap.
    scale : LabelScale
        Of the labels to learn.
    """
    step = NODE_STEP / float(ladder_resolution(torch.tensor(FINEST)))
    stretches, firsts = [], []
    for emulator in emulators:
        x = emulator.basis.log_wavelength
        rows = _rows_of(emulator, scale)  # (K, 1 + L, pixels)
        low, high = int(np.ceil(x[0] / step)), int(x[-1] / step)
        node = (np.arange(low, high) + 0.5) * step
        stretches.append(np.stack([[np.interp(node, x, r) for r in star] for star in rows]))
        firsts.append(low)
    rows = np.moveaxis(np.concatenate(stretches, axis=2), 2, 0)
    return Templates(
        torch.from_numpy(rows.astype(np.float32)),
        torch.from_numpy(_origin(emulators[0], scale).astype(np.float32)),
        torch.tensor([scale.names.index(name) for name in _known(emulators[0], scale)]),
        torch.tensor(firsts),
        torch.tensor([s.shape[2] for s in stretches]),
        min(emulator.resolution for emulator in emulators),
    )


def _stars(emulator: Emulator) -> NDArray:
    """Labels of the reference stars, (K, A)."""
    solar = np.where([n.endswith("_fe") for n in emulator.names], 0.0, emulator.mean)
    stars = np.tile(solar, (len(REFERENCES), 1))
    for j, name in enumerate(("teff", "logg", "fe_h", "v_micro")):
        stars[:, emulator.names.index(name)] = [star[j] for star in REFERENCES]
    return stars


def _known(emulator: Emulator, scale: LabelScale) -> list[str]:
    """Labels that spectra tell, in the order of templates."""
    return [n for n in scale.names if n in emulator.names] + [n for n in MOTION if n in scale.names]


def _origin(emulator: Emulator, scale: LabelScale) -> NDArray:
    """Scaled labels of the reference stars, (K, L)."""
    values = dict(zip(emulator.names, _stars(emulator).T, strict=True))
    nothing = np.zeros(len(REFERENCES))
    place = {name: i for i, name in enumerate(scale.names)}
    return np.stack(
        [
            (values.get(name, nothing) - scale.centre[place[name]]) / scale.width[place[name]]
            for name in _known(emulator, scale)
        ],
        axis=1,
    )


def _rows_of(emulator: Emulator, scale: LabelScale) -> NDArray:
    """Content and its slopes with scaled labels on the emulator's own pixels, (K, 1 + L, M)."""
    names = [name for name in scale.names if name in emulator.names]
    width = dict(zip(scale.names, scale.width, strict=True))
    stars = _stars(emulator)
    columns = [emulator.names.index(name) for name in names]
    with torch.no_grad():
        latents = emulator.latents_and_slopes(stars, columns).cpu()
    basis = emulator.basis
    spectra = torch.einsum("njpk,pkw->njpw", latents, basis.components)
    spectra[:, 0] += basis.offset
    broad = TYPICAL_BROADENING / SPEED_OF_LIGHT / FWHM / basis.step
    rows = gaussian_filter1d(spectra.flatten(2).double().numpy(), broad, axis=2)
    rows[:, 1:] *= np.array([width[name] for name in names])[:, None]
    moved = [
        _motion(rows[:, 0], basis.step, name) * width[name] for name in MOTION if name in width
    ]
    rows = np.concatenate([rows, *(m[:, None] for m in moved)], axis=1)
    sigma = CONTINUUM_WIDTH / basis.step
    smooth = _smooth(rows, sigma)
    level = smooth[:, :1]
    content = rows[:, :1] / level
    slopes = (rows[:, 1:] - content * smooth[:, 1:]) / level
    return np.concatenate([content - 1.0, slopes], axis=1)


def _smooth(rows: NDArray, sigma: float) -> NDArray:
    """Rows after a Gaussian of many pixels along the last axis; the ends are mirrored."""
    room = int(4 * sigma)
    padded = np.pad(rows, [(0, 0)] * (rows.ndim - 1) + [(room, room)], mode="reflect")
    size = next_fast_len(padded.shape[-1], real=True)
    damping = np.exp(-2.0 * (np.pi * sigma * np.fft.rfftfreq(size)) ** 2)
    found = np.fft.irfft(np.fft.rfft(padded, n=size) * damping, n=size)
    return np.asarray(found[..., room : room + rows.shape[-1]])


def _motion(flux: NDArray, step: float, name: str) -> NDArray:
    """Change of flux for each km/s of velocity, or of broadening about a typical one."""
    slope = np.gradient(flux, step, axis=1)
    if name == "rv_residual":
        return -slope / SPEED_OF_LIGHT
    # d/dv of a Gaussian of FWHM v is v / (c FWHM)^2 times the second derivative
    return np.gradient(slope, step, axis=1) * TYPICAL_BROADENING / (SPEED_OF_LIGHT * FWHM) ** 2
