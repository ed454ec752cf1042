"""Sections of a validation that need the catalogue alone, and the summary of all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from spectrolabe.catalogue import LabelFlag, ResultFlag
from spectrolabe.catalogue.schema import BAD, LABEL_FLAGS, RESULT_FLAGS
from spectrolabe.validation import label_figures as drawn
from spectrolabe.validation.agreement import COMPOSITION
from spectrolabe.validation.catalogue_rows import SAME_PLACE
from spectrolabe.validation.criteria import CRITERIA, FEW, Judged
from spectrolabe.validation.figures import axis_name, short_name
from spectrolabe.validation.findings import EVERY, Validated
from spectrolabe.validation.page import (
    decimals,
    figure_block,
    folded,
    number,
    paragraph,
    percent,
    table_block,
)

__all__ = [
    "flags_section",
    "input_section",
    "kiel_section",
    "labels_section",
    "planes_section",
    "summary_section",
]

SHORT = 120  # characters of a command
SIGNS = {"pass": " ✓", "warn": " !", "fail": " ✗", "few": ""}


def input_section(done: Validated) -> list[str]:
    rows = done.rows
    files = [
        [path.name, str(int((rows.source == i).sum())), _of(one, "model"),
         _of(one, "model_sha256")[:12], _of(one, "spectrolabe"), _of(one, "created")[:10]]
        for i, (path, one) in enumerate(zip(rows.paths, rows.provenance, strict=True))
    ]  # fmt: skip
    surveys = [
        [survey, str(one.rows), str(one.stars), str(one.bad), number(one.snr, 1)]
        for survey, one in done.found.counts.items()
    ]
    commands = [_made_by(str(c)) for one in rows.provenance if (c := one.get("command"))]
    return [
        table_block(("catalogue", "rows", "model", "weights", "version", "made"), files),
        *commands,
        table_block(
            ("survey", "rows", "stars", "flagged as bad", "median S/N"),
            surveys,
            f"{len(rows.names)} labels. Rows are of one star if they have one star_id or Gaia "
            f"source, are within {SAME_PLACE:g} arcsec"
            + (", or the truth says so." if done.truth is not None else "."),
            classes=["own", *[""] * len(rows.surveys)],
        ),
        paragraph("Rows flagged as bad are left out of everything below but counts of flags."),
    ]


def _made_by(command: str) -> str:
    """The command; folded if it names many files."""
    if len(command) <= SHORT:
        return paragraph(f"Made by: {command}")
    return folded(f"Made by: {command[:SHORT]} …", [paragraph(command)])


def _of(provenance: Mapping[str, object], key: str) -> str:
    return str(provenance.get(key, "–"))


def summary_section(done: Validated) -> list[str]:
    judged = done.found.judged()
    shown = [key for key in CRITERIA if any(one.criterion == key for one in judged)]
    if not shown:
        return [
            paragraph(
                "Nothing can be judged: no truth (--truth), no clusters (--clusters), no binaries "
                "(--binaries), no star seen twice."
            )
        ]
    counts = [sum(one.verdict == verdict for one in judged) for verdict in SIGNS]
    blocks = [
        paragraph(
            f"Of {len(judged)} numbers {counts[0]} pass (✓), {counts[1]} warn (!), {counts[2]} "
            f"fail (✗), and {counts[3]} are of fewer than {FEW} stars or pairs: not judged, "
            "in no colour."
        ),
        _judged_table(done.rows.names, shown, judged),
    ]
    for survey in done.rows.surveys:
        of_survey = done.found.judged(survey)
        own = [key for key in shown if any(one.criterion == key for one in of_survey)]
        if own:
            table = _judged_table(done.rows.names, own, of_survey)
            blocks.append(folded(f"{survey} alone", [table]))
    rules = [
        [rule.title, _range(rule.passes), _range(rule.warns), rule.reason]
        for rule in (CRITERIA[key] for key in shown)
    ]
    blocks.append(
        table_block(
            ("number", "passes", "warns", "why"),
            rules,
            "A number passes within one of its standard errors of what passes, and fails beyond "
            "two of them from what warns.",
            marks=[["", "", "", "text"]] * len(rules),
        )
    )
    lacking = {"bias": "--truth", "dispersion": "--clusters", "binaries": "--binaries"}
    for key, option in lacking.items():
        if key not in shown:
            blocks.append(paragraph(f"{CRITERIA[key].title}: not judged without {option}."))
    return blocks


def _range(inside: tuple[float, float]) -> str:
    return f"{inside[0]:.3g} to {inside[1]:.3g}".replace("-", "−")


def _judged_table(names: Sequence[str], shown: Sequence[str], judged: Sequence[Judged]) -> str:
    by_key = {(one.label, one.criterion): one for one in judged}
    rows, marks = [], []
    for name in names:
        cells = [by_key.get((name, key)) for key in shown]
        if any(cells):
            rows.append([short_name(name), *(_judged_cell(one) for one in cells)])
            marks.append(["", *(one.verdict if one else "" for one in cells)])
    return table_block(["label", *(CRITERIA[key].title for key in shown)], rows, marks=marks)


def _judged_cell(one: Judged | None) -> str:
    if one is None or not np.isfinite(one.value):
        return "–"
    if one.criterion in ("coverage_68", "coverage_95", "beyond_5"):
        return percent(one.value) + SIGNS[one.verdict]
    digits = 3 if one.criterion in ("dispersion", "trend") else 2
    return number(one.value, digits) + SIGNS[one.verdict]


def flags_section(done: Validated) -> list[str]:
    counts = done.found.counts
    table = [
        ["rows", *(str(one.rows) for one in counts.values()), "", ""],
        ["no flag", *(str(one.clean) for one in counts.values()), "", ""],
    ]
    for bit in ResultFlag:
        if counts[EVERY].flags[str(bit.name)]:
            each = [str(one.flags[str(bit.name)]) for one in counts.values()]
            bad = "bad" if bit in BAD else ""
            table.append([str(bit.name), *each, bad, RESULT_FLAGS[bit]])
    head = ("flag of the star", *counts, "", "meaning")
    marks = [[""] * (len(head) - 1) + ["text"]] * len(table)
    blocks = [table_block(head, table, "Rows with each flag", marks=marks)]
    used = [bit for bit in LabelFlag if any(one.flags[str(bit.name)] for one in done.found.labels)]
    good = max(1, counts[EVERY].rows - counts[EVERY].bad)
    cells = [
        [short_name(one.label), str(one.known), percent(one.known / good)]
        + [str(one.flags[str(bit.name)]) for bit in used]
        for one in done.found.labels
    ]
    what = "; ".join(f"{bit.name}: {LABEL_FLAGS[bit]}" for bit in used)
    labels = table_block(
        ("label", "good rows with a value", "of good rows", *(str(bit.name) for bit in used)),
        cells,
        f"Values, and flags of labels in all rows. {what}",
    )
    return [*blocks, folded("Labels: values and flags", [labels])]


def labels_section(done: Validated) -> list[str]:
    rows = []
    for one in done.found.labels:
        digits = decimals(one.unit)
        rows.append(
            [axis_name(one.label), str(one.known), *(number(q, digits) for q in one.quantiles),
             number(one.error, digits)]
        )  # fmt: skip
    head = ("label", "rows", "least", "16 %", "median", "84 %", "largest", "median error")
    return [
        figure_block(drawn.distributions(done.rows), "Number of good rows by value and survey."),
        folded("Quantiles of good rows", [table_block(head, rows)]),
    ]


def kiel_section(done: Validated) -> list[str]:
    known = {one.label for one in done.found.labels if one.known}
    if not {"teff", "logg"} <= known:
        return [paragraph("The catalogue has no Teff or no log g.")]
    return [
        figure_block(
            drawn.kiel(done.rows, done.truth),
            "Gravity against temperature of good rows; colour is the metallicity of the catalogue."
            f" {drawn.AT_MOST}",
        )
    ]


def planes_section(done: Validated) -> list[str]:
    known = [one.label for one in done.found.labels if one.known]
    metal = next((n for n in ("fe_h", "m_h") if n in known), None)
    names = [n for n in known if n in COMPOSITION and n not in ("fe_h", "m_h")]
    if metal is None or not names:
        return [paragraph("The catalogue has no abundance ratio, or no metallicity.")]
    return [
        figure_block(
            drawn.planes(done.rows, names, metal),
            f"Abundance ratios against {short_name(metal)}, good rows; colours are surveys. "
            f"{drawn.AT_MOST}",
        )
    ]
