"""The page of a validation; all its numbers are in the JSON beside it, too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from spectrolabe.progress import shown_progress
from spectrolabe.validation.agreement_sections import (
    binaries_section,
    clusters_section,
    repeats_section,
    surveys_section,
)
from spectrolabe.validation.findings import Validated
from spectrolabe.validation.overview_sections import (
    flags_section,
    input_section,
    kiel_section,
    labels_section,
    planes_section,
    summary_section,
)
from spectrolabe.validation.page import contents, heading, write_page
from spectrolabe.validation.truth_sections import errors_section, truth_section, worst_section

__all__ = ["write_validation_page"]

Section = Callable[[Validated], list[str]]
SECTIONS: dict[str, tuple[str, Section]] = {
    "input": ("What went in", input_section),
    "summary": ("Summary", summary_section),
    "flags": ("Coverage and flags", flags_section),
    "labels": ("Distributions of labels", labels_section),
    "kiel": ("Kiel diagrams", kiel_section),
    "planes": ("Abundances against metallicity", planes_section),
    "truth": ("Against the truth", truth_section),
    "errors": ("Are errors right: pulls, PIT, intervals", errors_section),
    "surveys": ("One star, two surveys", surveys_section),
    "repeats": ("Repeats", repeats_section),
    "clusters": ("Open clusters", clusters_section),
    "binaries": ("Wide binaries", binaries_section),
    "worst": ("Worst cases", worst_section),
}


def write_validation_page(done: Validated, path: str | Path) -> Path:
    """Write the page.

    Parameters
    ----------
    done : Validated
    path : str or Path
        ``.html``.
    """
    blocks = [contents({key: title for key, (title, _) in SECTIONS.items()})]
    sections = shown_progress(iter(SECTIONS.items()), len(SECTIONS), "sections", slow=True)
    for key, (title, section) in sections:
        blocks += [heading(title, key), *section(done)]
    names = ", ".join(one.name for one in done.rows.paths)
    return write_page(path, f"Validation of {names}", blocks)
