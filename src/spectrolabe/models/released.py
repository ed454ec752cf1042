"""Models by name: those of this machine and the released ones, each for its own verb."""

from __future__ import annotations

import json
from pathlib import Path

import spectrolabe
from spectrolabe.errors import InputError
from spectrolabe.models.files import CARD, FORMAT, WEIGHTS

__all__ = ["AGES", "DENOISER", "EMULATOR", "ENCODER", "find_emulators", "find_model"]

ENCODER, EMULATOR, AGES = FORMAT, "spectrolabe-emulator", "spectrolabe-ages"
DENOISER = "spectrolabe-denoiser"
USE = {
    ENCODER: "spectrolabe predict",
    EMULATOR: "spectrolabe fit",
    AGES: "spectrolabe.load_ages",
    DENOISER: "spectrolabe denoise",
}
WHAT = {
    ENCODER: "an encoder",
    EMULATOR: "an emulator",
    AGES: "a model of ages",
    DENOISER: "a denoiser",
}
DEFAULT = {
    ENCODER: ("unified-v1",),
    EMULATOR: ("emulator-optical", "emulator-h"),
    AGES: ("ages-giants",),
    DENOISER: ("denoiser-v1",),
}


def find_model(name: str | Path, kind: str = ENCODER) -> Path:
    """Return the folder of a model: a path, a name under ``weights/``, or ``default``.

    Parameters
    ----------
    name : str or Path
    kind : str
        Format of the card that it must have, `ENCODER`, `EMULATOR`, `AGES` or `DENOISER`.

    Raises
    ------
    InputError
        If there is none, the message lists the released ones; or if it is of another kind, the
        message names what it is for.
    """
    path = Path(name)
    if not path.is_dir():
        path = _released_one(name, DEFAULT[kind][0] if str(name) == "default" else path.name, kind)
    found = _format(path)
    if found != kind and found in WHAT:
        raise InputError(
            name,
            expected=f"{WHAT[kind]}, which `{USE[kind]}` needs",
            found=WHAT[found],
            fix=f"Use it with `{USE[found]}`, or give `default` here.",
        )
    return path


def find_emulators(names: str | Path) -> list[Path]:
    """Return the folders of emulators: names joined by commas, or all that ``default`` stands for.

    Raises
    ------
    InputError
        As `find_model`.
    """
    if str(names) == "default":
        found = [_all_released().get(name) for name in DEFAULT[EMULATOR]]
        folders = [folder for folder in found if folder is not None]
        return folders or [find_model(names, EMULATOR)]
    if isinstance(names, Path) or Path(names).is_dir():
        return [find_model(names, EMULATOR)]
    return [find_model(name.strip(), EMULATOR) for name in names.split(",")]


def _released_one(name: object, wanted: str, kind: str) -> Path:
    released = _all_released()
    if wanted in released:
        return released[wanted]
    own = sorted(n for n, folder in released.items() if _format(folder) == kind)
    raise InputError(
        name,
        expected="a run, a folder of a model, or 'default'",
        found="none of them",
        fix=f"Released models of `{USE[kind]}`: {', '.join(own) or 'none'}.",
    )


def _all_released() -> dict[str, Path]:
    """Released models by name: inside an installed package, or beside ``src/`` of a clone."""
    package = Path(spectrolabe.__file__).parent
    return {
        file.parent.name: file.parent
        for weights in (package.parents[1] / "weights", package / "weights")
        for file in sorted(weights.glob(f"*/{WEIGHTS}"))
    }


def _format(folder: Path) -> str:
    """What the card says it is; empty where there is none, of which the loader complains."""
    try:
        return str(json.loads((folder / CARD).read_text(encoding="utf-8")).get("format", ""))
    except (OSError, ValueError, AttributeError):
        return ""
