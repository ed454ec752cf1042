"""A correction as a file: safetensors whose header says what it was learnt from."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from spectrolabe.errors import InputError
from spectrolabe.guard import blaming
from spectrolabe.homogenise.booster import check_booster
from spectrolabe.homogenise.correction import Bent, Correction, LabelCorrection
from spectrolabe.homogenise.formula import Formula
from spectrolabe.homogenise.functions import Function
from spectrolabe.homogenise.headed import read_headed
from spectrolabe.homogenise.inputs import Inputs
from spectrolabe.homogenise.linear import Linear
from spectrolabe.homogenise.noise import Noise
from spectrolabe.homogenise.support import Support
from spectrolabe.homogenise.trees import Trees
from spectrolabe.models.files import write_file

__all__ = ["load_correction", "save_correction"]

FORMAT = 2
MOST_ORDER = 20  # of a polynomial
KINDS: dict[str, type[Any]] = {"linear": Linear, "formula": Formula, "trees": Trees}
RANGES = ("centre", "width", "low", "high", "theirs")
NUMBERS = ("zero", "spread", "bent", "all_")


def save_correction(correction: Correction, path: str | Path) -> Path:
    """Write a correction; the file appears whole or not at all.

    Parameters
    ----------
    correction : Correction
    path : str or Path

    Raises
    ------
    OSError
        If it cannot be written.
    """
    tensors: dict[str, NDArray] = {}
    labels = {}
    for name, one in correction.labels.items():
        for key in RANGES:
            tensors[f"{name}/{key}"] = getattr(one.inputs, key)
        tensors[f"{name}/support"] = one.support.points
        tensors[f"{name}/support_width"] = one.support.width
        curves = [_curve(x, f"{name}/{i}", tensors) for i, x in enumerate((one.curve, *one.refits))]
        labels[name] = {
            "inputs": one.inputs.names,
            "limit": one.support.limit,
            "noise": [one.noise.factor, one.noise.floor],
            **{key: getattr(one, key) for key in NUMBERS},
            "curves": curves,
            "card": dict(one.card),
        }
    header = json.dumps({"format": FORMAT, "card": dict(correction.card), "labels": labels})
    tensors = {key: np.array(value) for key, value in tensors.items()}
    path = Path(path)
    write_file(path, save(tensors, metadata={"spectrolabe_correction": header}))
    return path


def _curve(curve: Bent, prefix: str, tensors: dict[str, NDArray]) -> list[dict[str, Any]]:
    """What is plain of both parts of a curve; arrays go to the tensors."""
    found = []
    for part, function in (("plane", curve.plane), ("bend", curve.bend)):
        plain, arrays = function.state()
        kind = next(name for name, one in KINDS.items() if isinstance(function, one))
        tensors.update({f"{prefix}/{part}/{key}": value for key, value in arrays.items()})
        found.append({"function": kind, **plain})
    return found


def load_correction(path: str | Path) -> Correction:
    """Read a correction.

    Raises
    ------
    InputError
        If there is no such file, it is no correction, or of another version of the format.
    """
    found, tensors = read_headed(path, "correction", FORMAT)
    with blaming(path, "a correction written by Spectrolabe"):
        labels = {name: _label(name, one, tensors) for name, one in found["labels"].items()}
        return Correction(labels, dict(found["card"]))


def _label(name: str, plain: Mapping[str, Any], tensors: Mapping[str, NDArray]) -> LabelCorrection:
    inputs = Inputs(tuple(plain["inputs"]), *(tensors[f"{name}/{key}"] for key in RANGES))
    support = Support(tensors[f"{name}/support"], tensors[f"{name}/support_width"], plain["limit"])
    curves = [_bent(f"{name}/{i}", one, tensors) for i, one in enumerate(plain["curves"])]
    _check_shapes(name, inputs, support, curves)
    numbers = {key: float(plain[key]) for key in NUMBERS}
    noise = Noise(*map(float, plain["noise"]))
    one = LabelCorrection(
        inputs=inputs, curve=curves[0], refits=tuple(curves[1:]), support=support, **numbers,
        noise=noise, card=dict(plain["card"]),
    )  # fmt: skip
    with np.errstate(all="ignore"):
        one.at(inputs.centre[None])  # what does not fit together fails here and not among stars
    return one


def _check_shapes(name: str, inputs: Inputs, support: Support, curves: list[Bent]) -> None:
    """Polynomials have as many terms as coefficients: an order from a file may be any number."""
    size = len(inputs.names)
    if any(getattr(inputs, key).shape != (size,) for key in RANGES):
        raise InputError(name, expected=f"ranges of {size} inputs", found="others")
    if support.points.shape[1:] != (size,) or support.width.shape != (size,):
        raise InputError(name, expected=f"anchors with {size} inputs", found="others")
    for part in (part for curve in curves for part in (curve.plane, curve.bend)):
        if isinstance(part, Trees):
            check_booster(name, part.booster, size)
        if isinstance(part, Linear) and part.kind == "polynomial":
            terms = math.comb(size + part.order, size) if 0 < part.order <= MOST_ORDER else 0
            if part.coefficients.shape != (terms,):
                raise InputError(
                    name,
                    expected=f"the coefficients of a polynomial of order {part.order}",
                    found=f"{len(part.coefficients)}",
                )


def _bent(prefix: str, plain: list[dict[str, Any]], tensors: Mapping[str, NDArray]) -> Bent:
    parts: list[Function] = []
    for part, one in zip(("plane", "bend"), plain, strict=True):
        under = f"{prefix}/{part}/"
        arrays = {k.removeprefix(under): v for k, v in tensors.items() if k.startswith(under)}
        parts.append(KINDS[one["function"]].from_state(one, arrays))
    plane, bend = parts
    assert isinstance(plane, Linear)
    return Bent(plane, bend)
