"""Fits of many stars for benchmarks: kept on disk, so that an interrupted one goes on."""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from spectrolabe.catalogue import LabelFlag, ResultFlag
from spectrolabe.inference.fit import fit
from spectrolabe.models.emulator import Emulator, load_emulator
from spectrolabe.spectra import Spectrum

__all__ = [
    "emulators_of",
    "error_option",
    "fit_stars",
    "flag_names",
    "identity",
    "kept",
    "with_error",
]

CHUNK = 64  # stars fitted at a time, as `spectrolabe fit` does
SOURCE = Path(__file__).parents[1] / "src" / "spectrolabe"
CODE = ("inference", "models", "spectra")  # what decides the result of a fit
Arrays = dict[str, NDArray]


def kept(folder: Path, name: str, key: Any, make: Callable[[], Arrays]) -> Arrays:
    """Return arrays made before for the same key, or make and keep them.

    Parameters
    ----------
    folder : Path
    name : str
        Of the file; a digest of the key is added.
    key : JSON-able
        Everything that the arrays depend on but the code, which is part of it anyway.
    make : callable
    """
    whole = [key, _code()]
    digest = hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:12]
    path = folder / f"{name}-{digest}.npz"
    if path.exists():
        with np.load(path) as file:
            return dict(file)
    arrays = make()
    folder.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part.npz")
    np.savez(part, **arrays)
    part.replace(path)
    return arrays


@lru_cache(maxsize=1)
def _code() -> str:
    """Digest of the code that fits."""
    digest = hashlib.sha256()
    for path in sorted(file for part in CODE for file in (SOURCE / part).rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def emulators_of(folders: Sequence[Path]) -> list[Emulator]:
    """Load emulators, for one core."""
    torch.set_num_threads(1)
    return [load_emulator(folder) for folder in folders]


def error_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--model-error`` to the options of a benchmark."""
    words = "of a fit, one number or two; a fit's default if not given"
    parser.add_argument("--model-error", type=float, nargs="+", metavar="SIZE", help=words)


def with_error(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return ``--model-error`` as an option of `fit`."""
    given = arguments.model_error
    if given is None:
        return {}
    return {"model_error": given[0] if len(given) == 1 else tuple(given)}


def identity(emulators: Sequence[Emulator]) -> list[str]:
    """Return what tells these emulators from others."""
    return [str(e.card["weights_sha256"])[:12] for e in emulators]


def fit_stars(
    folder: Path,
    name: str,
    stars: Sequence[Sequence[Spectrum]],
    emulators: Sequence[Emulator],
    key: Any = None,
    **options: Any,
) -> Arrays:
    """Fit stars in parts, each kept; print how it goes.

    Parameters
    ----------
    folder : Path
        Where parts are kept.
    name : str
        Of this set of stars.
    stars : sequence of sequence of Spectrum
    emulators : sequence of Emulator
    key : JSON-able
        What else the spectra depend on, such as a seed; their flux is looked at as well.
    **options
        Of `spectrolabe.inference.fit.fit`.

    Returns
    -------
    dict of ndarray
        A row a star: ``values``, ``fitted`` and ``sigma`` (N, J), ``names`` (J,), ``chi2``,
        ``n_pixels``, ``n_parameters``, ``n_clipped``, ``rv``, ``e_rv``, ``shift`` (of the first
        spectrum), ``v_broad``, ``e_v_broad``, ``result_flags``, ``label_flags`` (N, J),
        ``evaluations``, ``messages``, ``seconds`` (of the processor).
    """
    parts = []
    for first in range(0, len(stars), CHUNK):
        some = stars[first : first + CHUNK]
        content = hashlib.sha256()
        for star in some:
            for spectrum in star:
                for array in (spectrum.wavelength, spectrum.flux, spectrum.ivar):
                    content.update(array.tobytes())
                content.update(f"{spectrum.rv} {spectrum.frame} {spectrum.survey}".encode())
                content.update(np.asarray(spectrum.resolution).tobytes())
        whole = [identity(emulators), key, content.hexdigest(), _plain(options)]
        part = kept(folder, name, whole, lambda some=some: _fitted(some, emulators, options))
        parts.append(part)
        done = first + len(some)
        bad = np.mean((part["result_flags"] & int(ResultFlag.NO_RESULT)) > 0)
        chi2 = np.nanmedian(part["chi2"] / np.maximum(part["n_pixels"], 1))
        print(
            f"{name}: {done} of {len(stars)}, {part['seconds'].mean():.3f} s a star, "
            f"chi2 a pixel {chi2:.2f}, without result {100 * bad:.0f} %",
            flush=True,
        )
    joined = {
        key: np.concatenate([part[key] for part in parts]) for key in parts[0] if key != "names"
    }
    return joined | {"names": parts[0]["names"]}


def _plain(options: Mapping[str, Any]) -> dict[str, str]:
    return {key: str(value) for key, value in sorted(options.items())}


def _fitted(
    stars: Sequence[Sequence[Spectrum]], emulators: Sequence[Emulator], options: Mapping[str, Any]
) -> Arrays:
    start = time.process_time()
    found = fit(stars, emulators, **options)
    seconds = (time.process_time() - start) / len(stars)
    first = lambda values: np.array([v[0] for v in values], dtype=float)  # noqa: E731
    return {
        "names": np.array(found.names),
        "values": np.asarray(found.values),
        "fitted": np.asarray(found.fitted),
        "sigma": np.asarray(found.sigma),
        "chi2": np.asarray(found.chi2),
        "n_pixels": np.asarray(found.n_pixels),
        "n_parameters": np.asarray(found.n_parameters),
        "n_clipped": np.asarray(found.n_clipped),
        "rv": first(found.rv),
        "e_rv": first(found.e_rv),
        "shift": first(found.shift),
        "v_broad": np.asarray(found.v_broad),
        "e_v_broad": np.asarray(found.e_v_broad),
        "result_flags": np.asarray(found.result_flags),
        "label_flags": np.asarray(found.label_flags),
        "evaluations": np.asarray(found.evaluations),
        "messages": np.array([" | ".join(one) for one in found.messages], dtype=str),
        "seconds": np.full(len(stars), seconds),
    }


def flag_names(bits: int, kind: type[ResultFlag] | type[LabelFlag] = ResultFlag) -> str:
    """Return the names of the flags that are set, or a dash."""
    return ", ".join(f.name or "" for f in kind if int(bits) & int(f)) or "–"
