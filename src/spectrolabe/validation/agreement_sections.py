"""Sections of a validation on rows and stars that should agree."""

from __future__ import annotations

from collections.abc import Sequence

from spectrolabe.validation import label_figures as drawn
from spectrolabe.validation.agreement import Agreement, error_of_median
from spectrolabe.validation.cluster_spread import ClusterSpread, cluster_members
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

__all__ = ["binaries_section", "clusters_section", "repeats_section", "surveys_section"]


def surveys_section(done: Validated) -> list[str]:
    found = done.found.surveys
    if not found:
        return [
            paragraph(
                "No star is in two surveys: give the catalogues of both, or --truth with a star_id "
                "if their files state no positions."
            )
        ]
    offsets = {
        f"{a} − {b}": {
            one.label: (one.offset, error_of_median(one.spread, one.pairs) / one.error)
            for one in rows
            if one.pairs >= FEW
        }
        for (a, b), rows in found.items()
    }
    blocks = []
    if any(offsets.values()):
        figure = drawn.lines(offsets, "survey_offset", "median difference / its error", 3.0)
        blocks.append(
            figure_block(
                figure,
                f"Differences of one star in two surveys, of {FEW} stars or more: the catalogue is "
                f"homogeneous if they are about zero. {GREEN}",
            )
        )
    for (a, b), rows in found.items():
        stars = max(one.pairs for one in rows)
        table = table_block(ORDERED, _cells(rows, ordered=True))
        blocks.append(folded(f"{a} − {b}, {stars} stars: numbers", [table]))
    return blocks


GREEN = "Dark green passes, light green warns; a cross is beyond the edge."
ORDERED = (
    "label", "stars", "median", "1.4826 MAD", "error", "median / error", "width", "beyond 5σ",
)  # fmt: skip
UNORDERED = ("label", "pairs", "1.4826 MAD", "error", "width", "beyond 5σ")


def _cells(rows: Sequence[Agreement], *, ordered: bool) -> list[list[str]]:
    cells = []
    for one in rows:
        if not one.pairs:
            continue
        digits = decimals(one.unit)
        cells.append(
            [
                axis_name(one.label),
                str(one.pairs),
                *([number(one.median, digits)] if ordered else []),
                number(one.spread, digits),
                number(one.error, digits),
                *([number(one.offset, 2)] if ordered else []),
                with_error(one.width, one.e_width, 2),
                percent(one.beyond_5),
            ]
        )
    return cells


def repeats_section(done: Validated) -> list[str]:
    found = done.found.repeats
    if not found:
        return [
            paragraph(
                "No star has several rows of one survey: `spectrolabe predict --visits` gives a "
                "row for each visit."
            )
        ]
    widths = {
        key: {one.label: (one.width, one.e_width) for one in rows if one.pairs >= FEW}
        for key, rows in found.items()
    }
    blocks = [
        paragraph(
            "Pairs of rows of one star from one survey, no row in two pairs. Width is 1.4826 times "
            "the median of |difference| / error: 1 if errors are right. What all spectra of a star "
            "have in common, such as what the model lacks, does not show here."
        )
    ]
    if any(widths.values()):
        figure = drawn.lines(widths, "repeats", "width of differences over errors", 3.0)
        blocks.append(figure_block(figure, f"Repeats, of {FEW} pairs or more. {GREEN}"))
    for key, rows in found.items():
        pairs = max(one.pairs for one in rows)
        table = table_block(UNORDERED, _cells(rows, ordered=False))
        blocks.append(folded(f"{key}, {pairs} pairs: numbers", [table]))
    return blocks


def clusters_section(done: Validated) -> list[str]:
    if done.clusters is None:
        return [paragraph("No clusters were given: --clusters TABLE with star_id and cluster.")]
    numbers = [one for one in done.found.clusters if one.members]
    if not numbers:
        return [paragraph("No cluster has three good members with an abundance.")]
    members = {one.label: cluster_members(done.rows, done.clusters, one.label) for one in numbers}
    dispersion = {EVERY: {one.label: (one.dispersion, one.e_dispersion) for one in numbers}}
    head = ("label", "members", "clusters", *CLUSTER)
    each: dict[str, list[ClusterSpread]] = {}
    for one in done.found.each_cluster:
        each.setdefault(one.cluster, []).append(one)
    blocks = [
        paragraph(
            "Members less the mean of their cluster, a row a star. Dispersion is what errors do "
            "not explain, 0 where they are larger than the scatter; the slope is with the "
            "catalogue's Teff, each cluster with a mean of its own. Labels that stars "
            "change as they age (Li, C, N) may differ for good reasons."
        ),
        figure_block(
            drawn.lines(dispersion, "dispersion", "dispersion beyond errors [dex]", 0.5),
            f"Dispersion within clusters. {GREEN}",
        ),
        figure_block(
            drawn.cluster_trends(members, {one.label: one.trend for one in numbers}),
            "Members less the mean of their cluster against Teff; colours are clusters, lines the "
            "slopes.",
        ),
        table_block(head, [_of_cluster(one) for one in numbers], "All clusters together"),
    ]
    for name, rows in each.items():
        stars = max(one.members for one in rows)
        table = table_block(("label", "members", "mean", *CLUSTER), [_of_cluster(r) for r in rows])
        blocks.append(folded(f"{name}, {stars} members: numbers", [table]))
    return blocks


CLUSTER = ("scatter", "error", "width", "dispersion", "per 1000 K")


def _of_cluster(one: ClusterSpread) -> list[str]:
    digits = decimals(one.unit)
    return [
        short_name(one.label),
        str(one.members),
        number(one.mean, digits) if one.cluster else str(one.clusters),
        number(one.observed, digits),
        number(one.error, digits),
        with_error(one.width, one.e_width, 2),
        with_error(one.dispersion, one.e_dispersion, digits),
        with_error(one.trend, one.e_trend, digits),
    ]


def binaries_section(done: Validated) -> list[str]:
    if done.binaries is None:
        return [paragraph("No binaries were given: --binaries TABLE with star_id_1 and star_id_2.")]
    numbers = [one for one in done.found.binaries if one.pairs]
    if not numbers:
        return [paragraph("No binary has good rows with abundances of both stars.")]
    widths = {EVERY: {one.label: (one.width, one.e_width) for one in numbers}}
    return [
        paragraph(
            "Differences of the abundances of both stars, a row each, over their errors: width 1 "
            "if the stars are alike and errors are right."
        ),
        figure_block(
            drawn.lines(widths, "binaries", "width of differences over errors", 3.0),
            f"Wide binaries. {GREEN}",
        ),
        table_block(UNORDERED, _cells(numbers, ordered=False)),
    ]
