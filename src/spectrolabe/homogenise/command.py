"""What `spectrolabe homogenise` does, from names of files to a written catalogue."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from spectrolabe.errors import InputError
from spectrolabe.guard import check_output
from spectrolabe.homogenise.correction import Correction
from spectrolabe.homogenise.correction_files import load_correction, save_correction
from spectrolabe.homogenise.learning import FEWEST
from spectrolabe.homogenise.output import check_columns, check_suffix
from spectrolabe.homogenise.run import (
    TARGET,
    Matching,
    Scale,
    Shared,
    apply_correction,
    errors_by_hat,
    learn_correction,
    scale_of,
    shared_stars,
    united,
)
from spectrolabe.homogenise.tables import StarTable
from spectrolabe.labels import label

__all__ = ["Homogenised", "homogenise", "parse_columns"]

CORRECTION = ".correction.safetensors"
NO_SCALE = ("rv", "rv_residual", "v_broad", "age", "distance", "abs_mag_k")  # unless asked for


@dataclass(frozen=True, eq=False)
class Homogenised:
    """What was done.

    Parameters
    ----------
    table : StarTable
        The target.
    catalogue : Path
    correction : Correction
    file : Path
        Of the correction.
    shared : Shared, optional
        What it was learnt from; None where it was given.
    counts : dict
        As `apply_correction` returns it.
    seconds : float
    """

    table: StarTable
    catalogue: Path
    correction: Correction
    file: Path
    shared: Shared | None
    counts: dict[str, Any]
    seconds: float


def homogenise(
    target: str | Path,
    references: Sequence[str | Path],
    output: str | Path,
    *,
    labels: Sequence[str] | None = None,
    given: str | Path | None = None,
    columns: Mapping[str, str] | None = None,
    reference_columns: Mapping[str, str] | None = None,
    bad: tuple[str, str] = ("", ""),
    inputs: Sequence[str] = ("teff", "logg", "fe_h"),
    matching: Matching | None = None,
    command: str = "",
    **how: Any,
) -> Homogenised:
    """Put the labels of a catalogue on the scale of another, and write it.

    Parameters
    ----------
    target : str or Path
        See `StarTable`.
    references : sequence of str or Path
        Several are first put on the scale of the first one, and merged.
    output : str or Path
        ``.parquet``, ``.fits``, ``.csv`` or ``.hats``. The correction is written beside it.
    labels : sequence of str, optional
        Default: those that all have.
    given : str or Path, optional
        A correction that is applied instead of learning one; then there are no references.
    columns, reference_columns : mapping of str to str
        See `StarTable`.
    bad : tuple of str
        Columns of the target and the references that mark rows not to learn from.
    inputs : sequence of str
        Columns of the target that corrections are functions of.
    matching : Matching, optional
    command : str
        For the provenance.
    **how
        ``method``, ``order``, ``smooth``, ``seed``, ``true_scale``: see `fit_correction`.

    Raises
    ------
    InputError
        If something cannot be read, or catalogues do not fit each other.
    """
    begin = time.monotonic()
    check_output(output, "--output", folder=Path(output).suffix == ".hats")
    output, matching = check_suffix(output), matching or Matching()
    table = StarTable(target, columns, bad[0])
    check_columns(output, table.schema)
    shared = None
    if given is not None:
        if references:
            raise InputError(
                "--apply", expected="a target alone", found=f"references {references[0]}, ..."
            )
        file, correction = Path(given), _selected(load_correction(given), labels, given)
    elif references:
        others = [StarTable(one, reference_columns, bad[1]) for one in references]
        names = _labels(labels, [table, *others])
        scale, errors = _scale(table, others, names, inputs, matching, how)
        shared = shared_stars(table, scale, names, inputs, matching, errors)
        if labels is None:
            names = _learnable(shared, names)
        card = {"target": str(target), "references": [str(one) for one in references]}
        correction = learn_correction(shared, names, card, inputs=inputs, **how)
        file = output.with_name(output.stem + CORRECTION)
    else:
        raise InputError(
            "homogenise",
            expected="a reference catalogue, or a correction",
            found="neither",
            fix="Name the catalogue whose scale it is to be, or --apply FILE.",
        )
    provenance = {"command": command, "correction": dict(correction.card), "file": file.name}
    counts = apply_correction(correction, table, output, provenance)
    if shared is not None:
        save_correction(correction, file)
    return Homogenised(table, output, correction, file, shared, counts, time.monotonic() - begin)


def _labels(asked: Sequence[str] | None, tables: Sequence[StarTable]) -> tuple[str, ...]:
    if asked is None:
        both = [n for n in tables[0].labels if all(n in one.labels for one in tables[1:])]
        names = [name for name in both if name not in NO_SCALE]
    else:
        names = [label(name).name for name in asked]
    for one in tables:
        lacking = [name for name in names if not one.has(name)]
        if lacking or not names:
            raise InputError(
                one.path,
                expected=f"labels {', '.join(names)}" if names else "labels that all tables have",
                found=", ".join(one.names[:20]),
                fix="Say what they are called: --columns or --reference-columns teff=TEFF,...",
            )
    return tuple(names)


def _learnable(shared: Shared, names: tuple[str, ...]) -> tuple[str, ...]:
    """Labels that enough shared stars have in both; all, if none is."""
    enough = tuple(
        name
        for name in names
        if np.isfinite(shared.target[name] + shared.reference[name]).sum() >= FEWEST
    )
    shared.notes["too_few_stars"] = [name for name in names if name not in enough]
    return enough or names


def _selected(correction: Correction, labels: Sequence[str] | None, path: str | Path) -> Correction:
    lacking = [name for name in labels or () if name not in correction.labels]
    if lacking:
        raise InputError(
            path, expected=f"corrections of {', '.join(lacking)}", found=", ".join(correction.names)
        )
    if labels is None:
        return correction
    return Correction({name: correction.labels[name] for name in labels}, correction.card)


def _scale(
    target: StarTable,
    tables: Sequence[StarTable],
    names: Sequence[str],
    inputs: Sequence[str],
    matching: Matching,
    how: Mapping[str, Any],
) -> tuple[Scale, Mapping[str, Sequence[float]]]:
    """The stars of the references, and errors of the target where three catalogues tell them."""
    if len(tables) > 1 and matching.radius:
        raise InputError(
            "--sky",
            expected="one reference",
            found=f"{len(tables)}",
            fix="Several are matched by identifiers.",
        )
    if len(tables) == 1:
        return scale_of(tables[0], names, matching), {}
    others = [name for name in inputs if all(name in one.labels for one in tables)]
    every = tuple(dict.fromkeys([*names, *others]))
    scales = {str(one.path): scale_of(one, every, matching) for one in tables}
    errors = errors_by_hat(target, scales, every, matching)
    whole = united(scales, errors, inputs=others, **how)
    return replace(whole, labels=whole.labels.select(names)), errors.get(TARGET, {})


def parse_columns(text: str | None, option: str) -> dict[str, str]:
    """Return what columns are called, from ``teff=TEFF,logg=LOGG``.

    Raises
    ------
    InputError
        If it is no such list.
    """
    found = {}
    for pair in (text or "").split(","):
        if pair.strip():
            ours, equals, theirs = pair.partition("=")
            if not equals or not ours.strip() or not theirs.strip():
                raise InputError(option, expected="teff=TEFF,logg=LOGG,...", found=repr(pair))
            found[ours.strip()] = theirs.strip()
    return found
