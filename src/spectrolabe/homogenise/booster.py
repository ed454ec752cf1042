"""A look at a forest of XGBoost before XGBoost believes it.

The library follows the numbers of a model file without asking whether there are such nodes, inputs
or outputs; a forged one would read and write memory that is not its own, or go round for ever.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

from spectrolabe.errors import InputError

__all__ = ["check_booster", "read_ubjson"]

NUMBERS = {"i": ">i1", "U": ">u1", "I": ">i2", "l": ">i4", "L": ">i8", "d": ">f4", "D": ">f8"}
PLAIN = {"T": True, "F": False, "Z": None}
OF_NODES = (
    *("left_children", "right_children", "parents", "split_indices", "split_conditions"),
    *("split_type", "default_left", "base_weights", "loss_changes", "sum_hessian"),
)
NO_PARENT = 2**31 - 1
CATEGORIES = ("categories", "categories_nodes", "categories_segments", "categories_sizes")


def check_booster(where: object, raw: bytes, size: int) -> None:
    """See that a forest is one, of so many inputs and one output.

    Parameters
    ----------
    where : object
        For messages.
    raw : bytes
        As XGBoost saves it in UBJSON.
    size : int
        Number of inputs.

    Raises
    ------
    InputError
        If it is no such forest.
    """
    try:
        learner = read_ubjson(raw)["learner"]
        about, booster = learner["learner_model_param"], learner["gradient_booster"]
        model = booster["model"]
        trees = model["trees"]
        sizes = [int(about[key]) for key in ("num_feature", "num_class", "num_target")]
        whole = (
            booster["name"] == "gbtree"
            and sizes == [size, 0, 1]
            and int(model["gbtree_model_param"]["num_trees"]) == len(trees)
            and int(model["gbtree_model_param"]["num_parallel_tree"]) == 1
            and list(model["tree_info"]) == [0] * len(trees)
            and list(model["iteration_indptr"]) == list(range(len(trees) + 1))
            and not len(model.get("cats", {}).get("enc", []))
            and all(_is_tree(tree, size) for tree in trees)
        )
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        raise _no_forest(where, size, f"{type(error).__name__}: {error}") from error
    except (struct.error, RecursionError) as error:
        raise _no_forest(where, size, str(error)) from error
    if not whole:
        raise _no_forest(where, size, "another or a damaged one")


def _no_forest(where: object, size: int, found: str) -> InputError:
    return InputError(where, expected=f"trees of {size} inputs by XGBoost", found=found)


def _is_tree(tree: Mapping[str, Any], size: int) -> bool:
    """Whether every node is reached once from the first and asks for an input that there is."""
    param = tree["tree_param"]
    count = int(param["num_nodes"])
    nodes = {key: np.asarray(tree[key]) for key in OF_NODES}
    if int(param["num_feature"]) != size or int(param.get("size_leaf_vector", 1)) > 1:
        return False
    if count < 1 or any(values.shape != (count,) for values in nodes.values()):
        return False
    if any(len(tree[key]) for key in CATEGORIES) or nodes["split_type"].any():
        return False
    left, right, parents = (nodes[key] for key in OF_NODES[:3])
    inner = left != -1
    if (right[~inner] != -1).any() or parents[0] not in (-1, NO_PARENT):
        return False
    asked = nodes["split_indices"][inner]
    if ((asked < 0) | (asked >= size)).any():
        return False
    children = np.concatenate([left[inner], right[inner]])
    of = np.tile(np.flatnonzero(inner), 2)
    # each later than its parent and there once: no circles, and nothing outside
    if ((children <= of) | (children >= count)).any():
        return False
    return len(np.unique(children)) == len(children) == count - 1 and bool(
        (parents[children] == of).all()
    )


def read_ubjson(raw: bytes) -> Any:
    """Return what UBJSON (Draft 12) says, arrays of one type as numpy arrays.

    Raises
    ------
    ValueError
        If it is damaged.
    """
    value, end = _value(raw, 1, raw[:1].decode("latin-1"))
    if end != len(raw):
        raise ValueError(f"{len(raw) - end} bytes too many")
    return value


def _value(raw: bytes, at: int, kind: str) -> tuple[Any, int]:
    """Return the value of a type that begins here, and where it ends."""
    if kind in NUMBERS:
        dtype = np.dtype(NUMBERS[kind])
        return np.frombuffer(raw, dtype, 1, at)[0].item(), at + dtype.itemsize
    if kind in PLAIN:
        return PLAIN[kind], at
    if kind == "S":
        length, at = _length(raw, at)
        return raw[at : at + length].decode(), at + length
    if kind == "[":
        return _array(raw, at)
    if kind == "{":
        return _object(raw, at)
    raise ValueError(f"a type {kind!r} at byte {at}")


def _length(raw: bytes, at: int) -> tuple[int, int]:
    kind = raw[at : at + 1].decode("latin-1")
    if kind not in "iUIlL" or not kind:
        raise ValueError(f"no length at byte {at}")
    length, at = _value(raw, at + 1, kind)
    if not 0 <= length <= len(raw) - at:
        raise ValueError(f"{length} entries in {len(raw) - at} bytes")
    return length, at


def _array(raw: bytes, at: int) -> tuple[Any, int]:
    if raw[at : at + 1] == b"$":
        dtype = np.dtype(NUMBERS[raw[at + 1 : at + 2].decode("latin-1")])
        if raw[at + 2 : at + 3] != b"#":
            raise ValueError(f"an array without length at byte {at}")
        length, at = _length(raw, at + 3)
        return np.frombuffer(raw, dtype, length, at), at + length * dtype.itemsize
    found: list[Any] = []
    if raw[at : at + 1] == b"#":
        length, at = _length(raw, at + 1)
        for _ in range(length):
            one, at = _value(raw, at + 1, raw[at : at + 1].decode("latin-1"))
            found.append(one)
        return found, at
    while raw[at : at + 1] != b"]":
        one, at = _value(raw, at + 1, raw[at : at + 1].decode("latin-1"))
        found.append(one)
    return found, at + 1


def _object(raw: bytes, at: int) -> tuple[dict[str, Any], int]:
    found: dict[str, Any] = {}
    while raw[at : at + 1] != b"}":
        length, at = _length(raw, at)
        key = raw[at : at + length].decode()
        at += length
        found[key], at = _value(raw, at + 1, raw[at : at + 1].decode("latin-1"))
    return found, at + 1
