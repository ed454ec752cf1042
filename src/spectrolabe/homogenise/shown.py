"""A table of what was homogenised, for the screen."""

from __future__ import annotations

from rich.table import Table

from spectrolabe.homogenise.command import Homogenised
from spectrolabe.labels import LABELS

__all__ = ["summary"]


def summary(found: Homogenised) -> Table:
    """Return a row a label: shared stars, differences before and after, coverage."""
    table = Table(title=f"{found.correction.card['method']} correction")
    head = ("label", "shared stars", "median difference", "scatter", "after", "covered", "outside")
    for name in head:
        table.add_column(name, justify="left" if name == "label" else "right")
    for name, one in found.correction.labels.items():
        digits, unit = (0 if LABELS[name].unit == "K" else 3), LABELS[name].unit
        counts = found.counts["labels"][name]
        rows = max(1, found.counts["rows"])
        table.add_row(
            f"{name} [{unit}]" if unit else name,
            f"{one.card['stars']:,}",
            f"{one.zero:+.{digits}f}",
            f"{one.card['scatter_before']:.{digits}f}",
            f"{one.card['scatter_after']:.{digits}f}",
            f"{100.0 * counts['covered'] / rows:.1f} %",
            f"{100.0 * counts['outside'] / rows:.1f} %",
        )
    return table
