"""Strict TOML files with ``key=value`` overrides; an unknown key is an error."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args, overload

from pydantic import ValidationError

from spectrolabe.config.emulator import EmulatorTrainConfig
from spectrolabe.config.fields import Strict
from spectrolabe.config.train import DenoiserTrainConfig, SkyTrainConfig, TrainConfig
from spectrolabe.errors import InputError, unknown_name
from spectrolabe.guard import read_text

__all__ = ["load_config", "load_training", "validated"]

Config = TypeVar("Config", bound=Strict)


@overload
def load_config(path: str | Path, overrides: Sequence[str] = ...) -> TrainConfig: ...


@overload
def load_config(path: str | Path, overrides: Sequence[str], kind: type[Config]) -> Config: ...


def load_config(
    path: str | Path, overrides: Sequence[str] = (), kind: type[Any] = TrainConfig
) -> Any:
    """Read a TOML file and apply overrides such as ``training.epochs=10``.

    Parameters
    ----------
    path : str or Path
    overrides : sequence of str
        ``section.key=value``; the value is TOML (a bare word is taken as text).
    kind : subclass of Strict
        What the file configures.

    Returns
    -------
    kind

    Raises
    ------
    InputError
        If the file is missing or no TOML, a key is unknown (the message lists the known ones and
        the nearest) or a value is out of range.
    """
    return validated(_tree(path, overrides), path, kind)


def load_training(
    path: str | Path, overrides: Sequence[str] = ()
) -> TrainConfig | SkyTrainConfig | EmulatorTrainConfig | DenoiserTrainConfig:
    """Read the configuration of a training.

    It is that of an emulator if it has a section ``[grids]``, of a denoiser if it has a section
    ``[denoiser]``, and of a model that learns from the synthetic sky if it has a section ``[sky]``
    and no ``[data]``.

    Parameters
    ----------
    path, overrides
        As in `load_config`.

    Raises
    ------
    InputError
        As `load_config`.
    """
    tree = _tree(path, overrides)
    if "grids" in tree:
        return validated(tree, path, EmulatorTrainConfig)
    if "denoiser" in tree:
        return validated(tree, path, DenoiserTrainConfig)
    if "sky" in tree and "data" not in tree:
        return validated(tree, path, SkyTrainConfig)
    return validated(tree, path, TrainConfig)


def _tree(path: str | Path, overrides: Sequence[str]) -> dict[str, Any]:
    path = Path(path)
    if not path.is_file():
        raise InputError(
            path,
            expected="a configuration file",
            found="a folder" if path.is_dir() else "no such file",
            fix="Examples are in the folder configs/ of the repository.",
        )
    try:
        tree = tomllib.loads(read_text(path, "a TOML file"))
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits among them
        if isinstance(error, InputError):
            raise
        raise InputError(path, expected="a TOML file", found=str(error)) from error
    for override in overrides:
        _apply(tree, override)
    return tree


def _apply(tree: dict[str, Any], override: str) -> None:
    key, sign, text = override.partition("=")
    if not sign or not key:
        raise InputError(
            "the command line",
            expected="section.key=value, or key=value",
            found=repr(override),
            fix="For example training.epochs=50.",
        )
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *sections, last = key.split(".")
    for section in sections:
        tree = tree.setdefault(section, {})
        if not isinstance(tree, dict):
            raise InputError(override, expected=f"{section} to be a section", found="a value")
    tree[last] = value


def validated(tree: Mapping[str, Any], where: object, kind: type[Config]) -> Config:
    """Return the configuration that a tree of keys and values stands for.

    Parameters
    ----------
    tree : mapping
    where : object
        What messages name: the file.
    kind : subclass of Strict

    Raises
    ------
    InputError
        If a key is unknown or missing, or a value is out of range.
    """
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        place = [str(part) for part in first["loc"]]
        if first["type"] == "extra_forbidden":
            raise unknown_name(
                f"{where}, [{'.'.join(place[:-1])}]" if place[1:] else where,
                place[-1],
                _known(kind, place[:-1]),
                kind="key",
            ) from error
        missing = first["type"] == "missing"
        found = "nothing" if missing else repr(first.get("input"))
        raise InputError(
            f"{where}, {'.'.join(place)}",
            expected="a value: this key has no default" if missing else _words(first["msg"]),
            found=found[:200],
        ) from error


def _words(message: str) -> str:
    """What pydantic says, as the end of a sentence that begins with "expected"."""
    for begin in ("Input should be ", "Value error, "):
        message = message.removeprefix(begin)
    return message


def _known(kind: type[Strict], place: Sequence[str]) -> list[str]:
    model: type[Strict] = kind
    for part in place:
        if part in model.model_fields:  # else the number of an entry of a list
            model = next(_sections(model.model_fields[part].annotation), model)
    return list(model.model_fields)


def _sections(annotation: Any) -> Iterator[type[Strict]]:
    """The sections among the types of an entry: ``Section | None`` has one."""
    if isinstance(annotation, type) and issubclass(annotation, Strict):
        yield annotation
    for part in get_args(annotation):
        yield from _sections(part)
