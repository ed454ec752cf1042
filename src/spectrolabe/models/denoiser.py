"""The denoiser: spectra in, the same without the noise of their exposure out.

What comes out is a product of a model. It says so in its ``meta``, and nothing that compares
spectra with models by chi2 may take it for a measurement.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save

from spectrolabe.errors import InputError
from spectrolabe.guard import blaming, inside
from spectrolabe.models.checkpoint import load
from spectrolabe.models.estimator import Estimator
from spectrolabe.models.files import CARD, WEIGHTS, built, read_card, read_weights, write_file
from spectrolabe.models.flux_decoder import FluxDecoder
from spectrolabe.models.pixels import collate, rest_wavelength, row_of
from spectrolabe.models.released import DENOISER, find_model
from spectrolabe.models.token_pixels import NodeLine
from spectrolabe.models.tokens import tokenise
from spectrolabe.spectra import Frame, Spectrum
from spectrolabe.spectra.combine import level_error, level_of, level_width
from spectrolabe.spectra.spectrum import PRODUCT

__all__ = ["AS_STATED", "Denoiser", "Made", "error_parts", "load_denoiser", "save_denoiser"]

VERSION = 2
BATCH = 16  # stars computed at once; never changes the result
COVERED = 0.3  # of the kernels at a pixel, below which nothing is said of it
DEEPEST = 0.05  # of the continuum: what is left of a line where its level is looked for
LONGEST_NAME = 60
AS_STATED = (1.0, 0.0, 0.0, 0.0, 0.0)  # weights of `error_parts`: errors are those of the decoder


class Made(NamedTuple):
    """A spectrum without noise, and what its errors are made of.

    Parameters
    ----------
    spectrum : Spectrum
    sigma : ndarray, shape (M,)
        Of its lines, in units of the flux; infinite where nothing is said.
    level_sigma : ndarray, shape (M,)
        Of the level that the noise of the exposure leaves to it.
    level : ndarray, shape (M,)
        Flux that there would be without lines.
    """

    spectrum: Spectrum
    sigma: NDArray
    level_sigma: NDArray
    level: NDArray


def error_parts(stated: NDArray, level: NDArray, noise: NDArray) -> NDArray:
    """Return what the variance of the lines of denoised flux is a sum of.

    What the decoder states has the right order, not always the right size: where the noise of the
    twins that it has learnt from is many times its own error, it cannot tell this. Errors that it
    knows nothing of are a share of the level, or grow with the noise of the visit.

    Parameters
    ----------
    stated : ndarray, shape (M,)
        Standard deviation that the decoder states.
    level : ndarray, shape (M,)
        Of the flux.
    noise : ndarray, shape (M,)
        Standard deviation of the visit that it was made from.

    Returns
    -------
    ndarray, shape (5, M)
        Squares and products: stated, stated and level, level, level and noise, noise; all but the
        first in units of a per cent of the level, and a tenth of the noise.
    """
    level, noise = 0.01 * np.abs(level), 0.1 * noise
    return np.stack([stated**2, stated * level, level**2, level * noise, noise**2])


class Denoiser:
    """Spectra of any survey to what they would be without noise.

    Parameters
    ----------
    estimator : Estimator
        Whose encoder reads the spectra.
    decoder : FluxDecoder
    errors : Mapping of str to sequence of float
        Weights of the `error_parts` of lines, by survey; under ``""`` for others.
    card : Mapping
        What it was trained on, and how well it does.
    """

    def __init__(
        self,
        estimator: Estimator,
        decoder: FluxDecoder,
        errors: Mapping[str, Sequence[float]],
        card: Mapping[str, Any],
    ) -> None:
        self.estimator, self.decoder = estimator, decoder.eval()
        self.errors, self.card = {name: list(x) for name, x in errors.items()}, card

    @property
    def name(self) -> str:
        """As its card has it."""
        return str(self.card["name"])

    def to(self, device: torch.device | str) -> Denoiser:
        """Move the weights to a device and return the denoiser."""
        self.estimator.to(device)
        self.decoder.to(device)
        return self

    def check(self, spectrum: Spectrum) -> None:
        """See that a spectrum can be denoised.

        Raises
        ------
        InputError
            If it is a product of a model itself, its velocity is not known, it is sharper than the
            model knows, or none of its pixels is where the model has learnt.
        """
        if PRODUCT in spectrum.meta:
            raise InputError(
                spectrum.where,
                expected="a measured spectrum",
                found=f"a product of {spectrum.meta[PRODUCT]}",
                fix="Give the spectra that it was made from.",
            )
        if spectrum.frame is not Frame.REST and not np.isfinite(spectrum.rv):
            raise InputError(
                spectrum.where,
                expected="a velocity, or wavelengths at rest",
                found=f"frame {spectrum.frame} and no velocity",
                fix="`spectrolabe denoise` finds one; in Python set `rv`.",
            )
        sharpest = self.estimator.card["training_data"]["resolution_range"][1]
        if np.median(spectrum.resolution) > 1.05 * sharpest:
            raise InputError(
                spectrum.where,
                expected=f"R of at most {sharpest:.0f}, which the model knows",
                found=f"R = {np.median(spectrum.resolution):.0f}",
                fix="Bring it to that resolution first.",
            )
        if not self.estimator.readable(spectrum).good.any():
            raise InputError(
                spectrum.where,
                expected="pixels at wavelengths that the model has learnt",
                found="none that may be used",
            )

    def denoise(self, stars: Sequence[Sequence[Spectrum]]) -> list[list[Spectrum]]:
        """Return the spectra of each star without noise, in their own pixels and units.

        Several spectra of a star tell each other what the star is; each keeps its own level, and
        its pixels where it has any. ``ivar`` is that of the result, 0 where nothing is said.

        Parameters
        ----------
        stars : sequence of sequence of Spectrum
            Outer: stars; inner: one or more spectra of that star, of any surveys.

        Raises
        ------
        InputError
            As `check`.
        """
        return [[one.spectrum for one in star] for star in self.made(stars)]

    def made(self, stars: Sequence[Sequence[Spectrum]]) -> list[list[Made]]:
        """As `denoise`, with the two parts of the errors."""
        for star in stars:
            for spectrum in star:
                self.check(spectrum)
        found: list[list[Made]] = []
        for begin in range(0, len(stars), BATCH):
            chunk = stars[begin : begin + BATCH]
            made = self._of_batch(chunk)
            found += [[next(made) for _ in star] for star in chunk]
        return found

    @torch.inference_mode()
    def _of_batch(self, stars: Sequence[Sequence[Spectrum]]) -> Iterator[Made]:
        device = next(self.decoder.parameters()).device
        seen = [[self.estimator.readable(s) for s in star] for star in stars]
        pixels = collate([[row_of(s) for s in star] for star in seen]).to(device)
        tokens = tokenise(pixels)
        reading = self.estimator.encoder.read(tokens, pixels.star)
        parts = self.decoder(reading, [tokens])
        assert reading.guess is not None  # the decoder has checked that
        content, sigma = torch.zeros_like(tokens.content), torch.ones_like(tokens.content)
        for view, part in zip(reading.guess.tokens, parts, strict=True):
            content[view.spectrum], sigma[view.spectrum] = part.content, part.sigma
        line = NodeLine(tokens, pixels)
        lines = line.content_at_pixels(content).double().cpu().numpy()
        errors = line.at_pixels(sigma.clamp(min=1e-6).log()).exp().double().cpu().numpy()
        covered = (line.spline.of(line.cover) > COVERED).cpu().numpy()
        flat = zip(
            (s for star in stars for s in star), (s for star in seen for s in star), strict=True
        )
        for i, (spectrum, own) in enumerate(flat):
            size = len(spectrum)
            yield self._result(spectrum, own, lines[i, :size], errors[i, :size], covered[i, :size])

    def _result(
        self, spectrum: Spectrum, seen: Spectrum, line: NDArray, error: NDArray, covered: NDArray
    ) -> Made:
        use = seen.good & covered
        shape = np.maximum(1.0 + line, DEEPEST)
        flux = np.divide(seen.flux, shape, out=np.zeros(len(shape)), where=use)
        grid, width = rest_wavelength(seen), level_width(spectrum)
        weight = np.where(use, shape**2, 0.0)  # not ivar, which is larger where noise is negative
        level = level_of(grid, flux, weight, width)
        variance = np.divide(1.0, seen.ivar * shape**2, out=np.zeros(len(shape)), where=use)
        of_level = (1.0 + line) * level_error(grid, flux - level, variance, weight, width)
        weights = self.errors.get(spectrum.survey, self.errors[""])
        noise = np.divide(1.0, np.sqrt(seen.ivar), out=np.zeros(len(shape)), where=use)
        sigma = np.sqrt(weights @ error_parts(np.abs(level) * error, level, noise))
        known = use & np.isfinite(sigma) & (sigma > 0) & np.isfinite(of_level)
        made = spectrum.replace(
            flux=np.where(known, level * (1.0 + line), 0.0),
            ivar=np.where(known, np.hypot(sigma, of_level), np.inf) ** -2.0,
            meta={**spectrum.meta, PRODUCT: self.name},
        )
        sigma, of_level = (np.where(known, one, np.inf) for one in (sigma, of_level))
        return Made(made, sigma, of_level, np.where(known, level, 0.0))


def save_denoiser(denoiser: Denoiser, folder: str | Path) -> Path:
    """Write ``model.safetensors`` and ``card.json``.

    Parameters
    ----------
    denoiser : Denoiser
        Its card must have ``name``, ``encoder`` (a released model, or a folder beside this one),
        ``encoder_sha256`` and ``channels``.
    folder : str or Path

    Returns
    -------
    Path
        The folder.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    state = denoiser.decoder.state_dict()
    content = save({name: value.contiguous().cpu() for name, value in state.items()})
    card = {
        **denoiser.card,
        "format": DENOISER,
        "format_version": VERSION,
        "errors": denoiser.errors,
        "weights_sha256": hashlib.sha256(content).hexdigest(),
    }
    write_file(folder / WEIGHTS, content)
    write_file(folder / CARD, (json.dumps(card, indent=1) + "\n").encode())
    return folder


def load_denoiser(folder: str | Path) -> Denoiser:
    """Load a denoiser and the encoder that it reads with.

    Raises
    ------
    InputError
        If there is none, it is damaged, or the encoder is not the one that it was trained with.
    """
    with blaming(folder, "a denoiser"):
        return _loaded(Path(folder), read_card(folder, DENOISER, VERSION))


def _loaded(folder: Path, card: Mapping[str, Any]) -> Denoiser:
    tensors = read_weights(folder, card)
    estimator = load(_encoder_of(folder, str(card["encoder"])))
    if estimator.card["weights_sha256"] != card["encoder_sha256"]:
        raise InputError(
            folder,
            expected=f"the encoder {card['encoder']} that it was trained with",
            found="another one of that name",
            fix="Train the denoiser again, or take the encoder of that time.",
        )
    encoder, channels = estimator.encoder, int(card["channels"])
    decoder = built(
        lambda: FluxDecoder(encoder.latents.shape[1], encoder.heads, channels),
        {"channels": channels},
        tensors,
        folder / WEIGHTS,
        "denoiser",
    )
    _check_card(folder, card)
    return Denoiser(estimator, decoder, card["errors"], card)


def _encoder_of(folder: Path, name: str) -> Path:
    """The folder above, one beside, or a released model: no other path that a card names."""
    above = folder.resolve().parent
    beside = inside(above, str(Path(above, folder.resolve().name, name).resolve()), folder / CARD)
    if beside.is_dir():
        return beside
    if Path(name).name != name:
        raise InputError(
            folder / CARD, expected="a released model or a folder beside", found=repr(name)
        )
    return find_model(name)


def _check_card(folder: Path, card: Mapping[str, Any]) -> None:
    """The name goes into headers of FITS, the weights of errors into every spectrum."""
    name, errors = str(card["name"]), card["errors"]
    if not (name.isascii() and name.isprintable() and len(name) <= LONGEST_NAME):
        raise InputError(
            folder / CARD,
            expected=f"a name of at most {LONGEST_NAME} printable ASCII characters",
            found=repr(name[:100]),
        )
    weights = np.array([errors[""], *errors.values()], dtype=float)
    if weights.shape[1:] != (len(AS_STATED),) or not np.isfinite(weights).all():
        raise InputError(
            folder / CARD, expected=f"{len(AS_STATED)} weights of errors", found=str(errors)[:100]
        )
