"""Sections of a validation against the truth: differences, errors, and the worst rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spectrolabe.labels import LABELS
from spectrolabe.validation import label_figures as drawn
from spectrolabe.validation.criteria import FEW
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
    with_error,
)
from spectrolabe.validation.recovered import Recovered
from spectrolabe.validation.worst_spectra import CAPTION, worst_spectra

__all__ = ["errors_section", "truth_section", "worst_section"]


def truth_section(done: Validated) -> list[str]:
    truth, found, rows = done.truth, done.found, done.rows
    if truth is None:
        return [paragraph("No truth was given: --truth TABLE compares with one.")]
    lacking = [short_name(name) for name in rows.names if name not in truth.labels.names]
    absent = f" Not in it: {', '.join(lacking)}." if lacking else ""
    blocks = [
        paragraph(
            f"{truth.path.name}: joined by {truth.by}, {int(truth.matched.sum())} of {len(rows)} "
            "rows are in it. Differences are catalogue less truth; bias is their median, 1.4826 "
            "MAD their spread about it, error the median stated one. Standard errors of numbers "
            f"count stars, not rows.{absent}"
        ),
        figure_block(
            drawn.true_against_found(rows, truth, found.recovered[EVERY]),
            "Catalogue against truth with bias ± 1.4826 MAD; grey crosses are flagged as bad. "
            f"{drawn.AT_MOST}",
        ),
        _recovered_table(found.recovered[EVERY], "All surveys together"),
    ]
    for survey, numbers in found.recovered.items():
        if survey != EVERY:
            blocks.append(folded(f"{survey}: numbers", [_recovered_table(numbers)]))
    return blocks


RECOVERED = (
    "label", "rows", "stars", "missing", "bias", "1.4826 MAD", "RMSE", "error", "pull median",
    "pull width", "beyond 5σ",
)  # fmt: skip


def _recovered_table(numbers: Sequence[Recovered], title: str = "") -> str:
    cells = []
    for one in numbers:
        if not one.rows and not one.missing:
            continue
        digits = decimals(one.unit)
        cells.append(
            [axis_name(one.label), str(one.rows), str(one.stars), str(one.missing),
             with_error(one.bias, one.e_bias, digits), number(one.mad, digits),
             number(one.rmse, digits), number(one.error, digits), number(one.pull_median, 2),
             with_error(one.pull_width, one.e_pull_width, 2), percent(one.beyond_5)]
        )  # fmt: skip
    return table_block(RECOVERED, cells, title)


def errors_section(done: Validated) -> list[str]:
    truth, found = done.truth, done.found
    if truth is None:
        return [paragraph("Pulls, PIT and intervals need a truth: --truth TABLE.")]
    numbers = [one for one in found.recovered[EVERY] if np.isfinite(one.pull_width)]
    if not numbers:
        return [paragraph("No label has both errors and true values.")]
    widths = {
        key: {one.label: (one.pull_width, one.e_pull_width) for one in rows if one.stars >= FEW}
        for key, rows in found.recovered.items()
    }
    share = [
        [
            short_name(one.label),
            *(percent(part) for part in (one.coverage_50, one.coverage_68, one.coverage_95)),
            *map(str, one.pit),
        ]
        for one in numbers
    ]
    tenths = [f"{i / 10:.1f}–{(i + 1) / 10:.1f}" for i in range(10)]
    blocks = []
    if any(widths.values()):
        figure = drawn.lines(widths, "pull_width", "pull width", 3.0)
        blocks.append(
            figure_block(
                figure,
                f"Widths of pulls, of {FEW} stars or more; dark green passes, light green warns, "
                "a cross is beyond the edge.",
            )
        )
    return [
        *blocks,
        figure_block(
            drawn.pull_histograms(done.rows, truth, numbers),
            "Pulls of good rows and the normal that they should follow; what is beyond five errors "
            "is drawn there.",
        ),
        figure_block(
            drawn.pit_histograms(numbers),
            "Probability integral transform, the catalogue's errors taken as normal: flat if they "
            "are right, a hill if they are too large, a bowl if too small, a slope if there is "
            "a bias. Grey is what chance does to a flat one (two standard errors).",
        ),
        figure_block(
            drawn.intervals(numbers),
            "Share of true values within the central 50, 68 and 95 per cent; lines are where they "
            "should be.",
        ),
        folded(
            "Intervals and PIT: numbers",
            [
                table_block(
                    ("label", "in 50 %", "in 68 %", "in 95 %", *tenths),
                    share,
                    "Shares within intervals, and rows in each tenth of the PIT",
                )
            ],
        ),
    ]


def worst_section(done: Validated) -> list[str]:
    if done.truth is None:
        return [paragraph("Worst cases are the largest pulls against a truth: --truth TABLE.")]
    worst = done.found.worst
    cells = []
    for one in worst:
        digits = decimals(LABELS[one.label].unit)
        cells.append(
            [one.star_id, one.survey, number(one.snr, 0), axis_name(one.label),
             number(one.value, digits), number(one.truth, digits), number(one.error, digits),
             number(one.pull, 1), one.flags or "–", one.spectrum_id]
        )  # fmt: skip
    head = (
        "star",
        "survey",
        "S/N",
        "label",
        "catalogue",
        "truth",
        "error",
        "pull",
        "flags",
        "spectra",
    )
    blocks = [
        table_block(
            head,
            cells,
            "The rows with the largest pulls, each with its worst label, three of a label at most",
            marks=[[""] * (len(head) - 1) + ["text"]] * len(cells),
        )
    ]
    figure, notes = worst_spectra(worst, done.rows, done.truth, done.spectra)
    if figure is not None:
        blocks.append(figure_block(figure, CAPTION))
    return [*blocks, *(paragraph(note) for note in notes)]
