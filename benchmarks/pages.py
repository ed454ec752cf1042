"""Pages of measured results: tables, and remarks written by hand that survive a new run."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

__all__ = ["remarks", "table", "write_page"]

BLOCK = re.compile(r"<!-- remarks:(\w+) -->\n(.*?)<!-- end of remarks -->", re.DOTALL)


def remarks(name: str) -> str:
    """Return an empty place for remarks; what the page on disk has in it is kept."""
    return f"<!-- remarks:{name} -->\n<!-- end of remarks -->"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table, the first column to the left and the others to the right."""
    rule = ["---"] + ["---:"] * (len(head) - 1)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, rule, *rows])


def write_page(path: Path, sections: Sequence[str]) -> None:
    """Write a page, with the remarks that the old one has under the same names.

    Parameters
    ----------
    path : Path
    sections : sequence of str
        Markdown; an empty line goes between them.

    Raises
    ------
    ValueError
        If the old page has remarks for which the new one has no place.
    """
    text = "\n\n".join(section.strip() for section in sections) + "\n"
    old = dict(BLOCK.findall(path.read_text(encoding="utf-8"))) if path.exists() else {}
    new = {name for name, _ in BLOCK.findall(text)}
    lost = [name for name, words in old.items() if words.strip() and name not in new]
    if lost:
        raise ValueError(f"{path}: remarks {', '.join(lost)} have no place in the new page")
    for name in new & set(old):
        text = text.replace(remarks(name), remarks(name).replace("\n", "\n" + old[name], 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
