"""What `spectrolabe homogenise` does, from names of files to a written catalogue."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spectrolabe.errors import InputError
from spectrolabe.homogenise.correction import Correction
from spectrolabe.homogenise.correction_files import load_correction, save_correction
from spectrolabe.homogenise.output import check_output
from spectrolabe.homogenise.run import (
    Matching,
    Scale,
    Shared,
    apply_correction,
    learn_correction,
    scale_of,
    shared_stars,
    united,
)
from spectrolabe.homogenise.tables import StarTable
from spectrolabe.labels import label

__all__ = ["Homogenised", "homogenise", "parse_columns"]

CORRECTION = ".correction.safetensors"


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
        ``method``, ``order``, ``smooth``, ``seed``: see `fit_correction`.

    Raises
    ------
    InputError
        If something cannot be read, or catalogues do not fit each other.
    """
    begin = time.monotonic()
    output, matching = check_output(output), matching or Matching()
    table = StarTable(target, columns, bad[0])
    shared = None
    if given is not None:
        if references:
            raise InputError(
                "--apply", expected="a target alone", found=f"references {references[0]}, ..."
            )
        file, correction = Path(given), load_correction(given)
    elif references:
        others = [StarTable(one, reference_columns, bad[1]) for one in references]
        names = _labels(labels, [table, *others])
        scale = _scale(others, names, matching, how)
        shared = shared_stars(table, scale, names, inputs, matching)
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
    if shared is not None:
        save_correction(correction, file)
    counts = apply_correction(correction, table, output, provenance)
    return Homogenised(table, output, correction, file, shared, counts, time.monotonic() - begin)


def _labels(asked: Sequence[str] | None, tables: Sequence[StarTable]) -> tuple[str, ...]:
    if asked is None:
        names = [n for n in tables[0].labels if all(n in one.labels for one in tables[1:])]
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


def _scale(
    tables: Sequence[StarTable], names: Sequence[str], matching: Matching, how: Mapping[str, Any]
) -> Scale:
    if len(tables) > 1 and matching.radius:
        raise InputError(
            "--sky",
            expected="one reference",
            found=f"{len(tables)}",
            fix="Several are matched by identifiers.",
        )
    scales = {str(one.path): scale_of(one, names, matching) for one in tables}
    return united(scales, **how) if len(scales) > 1 else next(iter(scales.values()))


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
