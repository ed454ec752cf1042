"""Catalogues to a page and a JSON file that say how far they can be believed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from spectrolabe.errors import InputError
from spectrolabe.models.files import write_file
from spectrolabe.validation.beside import Truth, read_binaries, read_clusters, read_truth_of
from spectrolabe.validation.catalogue_rows import Rows, read_rows
from spectrolabe.validation.criteria import CRITERIA
from spectrolabe.validation.findings import Findings, Validated, find, plain
from spectrolabe.validation.validate_page import write_validation_page

__all__ = ["FORMAT", "ValidationReport", "validate"]

FORMAT = "spectrolabe-validation 1"
VERDICTS = ("pass", "warn", "fail", "few")


@dataclass(frozen=True)
class ValidationReport:
    """What a validation wrote, and how it ended.

    Parameters
    ----------
    page, numbers : Path
        HTML and JSON.
    found : Findings
    rows, stars : int
    """

    page: Path
    numbers: Path
    found: Findings
    rows: int
    stars: int

    @property
    def counts(self) -> dict[str, int]:
        """How many numbers of all surveys together pass, warn, fail, or are of too few stars."""
        judged = self.found.judged()
        return {v: sum(one.verdict == v for one in judged) for v in VERDICTS}


def validate(
    catalogues: Sequence[str | Path],
    output: str | Path,
    *,
    truth: str | Path | None = None,
    clusters: str | Path | None = None,
    binaries: str | Path | None = None,
    spectra: Sequence[str | Path] = (),
    command: str = "",
) -> ValidationReport:
    """Write a report of catalogues: a page, and a JSON file with all its numbers beside it.

    Parameters
    ----------
    catalogues : sequence of str or Path
        Of `predict` or `fit`, Parquet or FITS; several are taken together.
    output : str or Path
        ``.html``; the numbers are in the file of the same name that ends in ``.json``.
    truth : str or Path, optional
        Table of true labels, see `spectrolabe.validation.beside.read_truth_of`.
    clusters, binaries : str or Path, optional
        See `read_clusters` and `read_binaries` there.
    spectra : sequence of str or Path
        Folders in which the spectra of the worst cases are looked for.
    command : str
        For the JSON file.

    Raises
    ------
    InputError
        If a table cannot be used, or the output is no ``.html``.
    """
    output = Path(output)
    if output.suffix != ".html":
        raise InputError(
            output, expected="a page name that ends in .html", found=repr(output.suffix)
        )
    folders = tuple(Path(folder) for folder in spectra)
    for folder in folders:
        if not folder.is_dir():
            raise InputError(folder, expected="a folder of spectra", found="none")
    rows = read_rows(catalogues)
    true = read_truth_of(rows, truth) if truth is not None else None
    if true is not None:
        rows = rows.united(true.star)
    members = read_clusters(rows, clusters, true) if clusters is not None else None
    pairs = read_binaries(rows, binaries, true) if binaries is not None else None
    found = find(rows, true, members, pairs)
    done = Validated(
        rows, found, true, members, Path(binaries) if binaries is not None else None, folders
    )
    page = write_validation_page(done, output)
    content = {"format": FORMAT, "command": command, **_input(rows, true), **found.as_json()}
    content["criteria"] = plain({key: asdict(rule) for key, rule in CRITERIA.items()})
    numbers = output.with_suffix(".json")
    write_file(numbers, json.dumps(content, indent=1, allow_nan=False).encode())
    return ValidationReport(page, numbers, found, len(rows), rows.stars)


def _input(rows: Rows, truth: Truth | None) -> dict[str, Any]:
    """What went in, as JSON has it."""
    catalogues = [
        {"path": path.name, "rows": int((rows.source == i).sum()), "provenance": one}
        for i, (path, one) in enumerate(zip(rows.paths, rows.provenance, strict=True))
    ]
    joined = None
    if truth is not None:
        joined = {"path": truth.path.name, "by": truth.by, "rows": int(truth.matched.sum())}
    return {"catalogues": plain(catalogues), "truth": joined}
